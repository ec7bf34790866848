//! A learning-rate range test over several seeds (Smith 2017, §3.3): the rate rises exponentially
//! from batch to batch, and the loss says where learning begins, is fastest, and breaks down.
//!
//! The model, optimizer, batches and techniques are the recipe's own; only the schedule of the rate
//! is replaced, and neither the explosion guard nor early stopping may hide what happens. Nothing
//! is written anywhere but prepared data into the cache.
//!
//! The rule, for each seed: half the rate at which the smoothed loss is lowest, and at most a
//! quarter of the *edge*, the rate at which it has risen from there by a fifth of what it had
//! fallen. Over seeds: the geometric mean. The place of steepest descent is told, but suggests
//! nothing: on a character model of 108,000 parameters over 300 steps (200 KB of tiny-Shakespeare)
//! it lay a factor of 4 below the best rate of a grid for AdamW and of 20 or more for SGD, where
//! this rule came within 0.01 nats of the best. For Muon, whose loss was lowest at the grid's
//! highest rate, the rule stayed below it.

use std::path::{Path, PathBuf};

use heldout_data::Progress;
use heldout_record::RunDir;
use heldout_regularize::at::At;
use serde::Serialize;

use crate::control::Control;
use crate::error::TrainError;
use crate::job::{Job, Setup, prepare_job};
use crate::launch::first_weights;
use crate::recipe::Recipe;
use crate::recorder::Recorder;
use crate::run::Run;
use crate::state::State;

/// Of the rate at which the loss is lowest.
const SHARE_OF_LOWEST: f64 = 0.5;

/// Of the stability edge.
const SHARE_OF_EDGE: f64 = 0.25;

/// Of what the loss fell, so much of a rise from its minimum counts as its breakdown.
const RISE: f64 = 0.2;

/// A fall below this share of the first loss is no fall.
const FALL_LEAST: f64 = 0.005;

/// Suggestions of seeds further apart than this factor are no suggestion.
const SPREAD_MOST: f64 = 4.0;

/// Where the range lies around the recipe's own rate unless it is given.
const BELOW: f64 = 1000.0;
const ABOVE: f64 = 1000.0;

/// What to do; open ends follow from the recipe's own rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// Updates of each seed.
    pub steps: u64,
    /// How many seeds, counted up from the recipe's.
    pub seeds: u64,
}

/// One update and what became of the loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    pub rate: f64,
    /// Of the next batch, nats per token.
    pub loss: f64,
    /// The mean over the points around, which have about the same rate.
    pub smoothed: f64,
}

/// The range test of one seed.
#[derive(Clone, Debug, Serialize)]
pub struct SeedCurve {
    pub seed: u64,
    /// Before any update.
    pub first_loss: f64,
    /// Ends early where the loss breaks down.
    pub points: Vec<Point>,
    /// Where the smoothed loss falls fastest over the logarithm of the rate.
    pub steepest: Option<f64>,
    /// Where the smoothed loss is lowest.
    pub lowest: Option<f64>,
    /// Where it has broken down: the stability edge.
    pub edge: Option<f64>,
    pub suggested: Option<f64>,
    /// Why there is no suggestion.
    pub unknown: Option<String>,
}

/// The result over all seeds.
#[derive(Clone, Debug, Serialize)]
pub struct LrFind {
    pub low: f64,
    pub high: f64,
    pub steps: u64,
    /// The recipe's own rate.
    pub recipe: f64,
    pub optimizer: String,
    pub curves: Vec<SeedCurve>,
    /// Geometric mean over the seeds; `None` is "don't know".
    pub suggested: Option<f64>,
    /// Geometric mean over the seeds that have one.
    pub edge: Option<f64>,
    /// Why there is no suggestion.
    pub unknown: Option<String>,
}

/// Runs the test. `cache` is where prepared data lies; `stepped` hears of every update: the number
/// of the seed from 0, and updates made with it.
pub fn lr_find(
    recipe: &Recipe,
    ramp: Ramp,
    cache: &Path,
    preparing: &mut dyn FnMut(Progress),
    stepped: &mut dyn FnMut(u64, u64),
) -> Result<LrFind, TrainError> {
    let job = prepare_job(recipe, cache, preparing)?;
    let (own, seed) = (job.recipe.schedule.rate.peak, job.recipe.run.seed);
    let optimizer = job.recipe.optimizer.name.clone();
    let range = Range {
        low: ramp.low.unwrap_or(own / BELOW),
        high: ramp.high.unwrap_or(own * ABOVE),
        steps: ramp.steps.max(8),
    };
    range.check()?;
    let mut first = Some(job);
    let mut curves = Vec::new();
    for number in 0..ramp.seeds.max(1) {
        // The split stays that of the recipe's seed: weights, order and noise are what differs.
        let mut job = match first.take() {
            Some(job) => job,
            None => prepare_job(recipe, cache, &mut |_| {})?,
        };
        job.recipe.run.seed = seed + number;
        curves.push(range_test(job, range, &mut |step| stepped(number, step))?);
    }
    let (suggested, unknown) = agree(&curves);
    let edges: Vec<f64> = curves.iter().filter_map(|curve| curve.edge).collect();
    Ok(LrFind {
        low: range.low,
        high: range.high,
        steps: range.steps,
        recipe: own,
        optimizer,
        suggested,
        edge: geometric_mean(&edges),
        unknown,
        curves,
    })
}

/// The rates of a ramp.
#[derive(Clone, Copy)]
struct Range {
    low: f64,
    high: f64,
    steps: u64,
}

impl Range {
    fn check(&self) -> Result<(), TrainError> {
        let is_sound = self.low > 0.0 && self.high.is_finite() && self.high > 2.0 * self.low;
        if is_sound {
            return Ok(());
        }
        let message = format!("no range of learning rates from {} to {}", self.low, self.high);
        let note = "the highest must be more than twice the lowest, and that above zero";
        Err(crate::recipe::RecipeError::general(message).note(note).into())
    }

    fn rate(&self, step: u64) -> f64 {
        let share = step as f64 / (self.steps - 1) as f64;
        self.low * (self.high / self.low).powf(share)
    }

    /// Points on each side that a point is smoothed with: some tenth of a decade.
    fn reach(&self) -> usize {
        (self.steps as usize / 40).max(1)
    }
}

fn range_test(
    job: Job,
    range: Range,
    stepped: &mut dyn FnMut(u64),
) -> Result<SeedCurve, TrainError> {
    let setup = Setup::new(job)?;
    let seed = setup.recipe.run.seed;
    let state = State::fresh(&setup, first_weights(&setup)?.parameters);
    let (control, mut nobody) = (Control::new(), ());
    // Nothing here has a folder: neither recorder nor saver is ever asked to write.
    let nowhere = RunDir { root: PathBuf::new() };
    let mut run = Run::new(setup, state, nowhere, Recorder::nowhere(&mut nobody), &control)?;
    let mut losses: Vec<f64> = Vec::new();
    for step in 0..=range.steps {
        let at = At { step, horizon: range.steps };
        let batch = run.next_batch(step)?;
        let loss = run.forward_backward(&batch, at);
        losses.push(loss.nll);
        if step == range.steps || is_lost(&losses, range.reach()) {
            break;
        }
        run.penalize(at);
        let clipped = run.transform_gradients(at);
        let rate = range.rate(step);
        run.update(at, rate, &clipped);
        run.project(at, rate);
        stepped(step + 1);
    }
    Ok(judge(seed, &losses, range))
}

/// Whether nothing is to be learned from going on: the loss is no number, or far above its start.
fn is_lost(losses: &[f64], reach: usize) -> bool {
    let last = losses.len() - 1;
    if !losses[last].is_finite() {
        return true;
    }
    let recent = &losses[last.saturating_sub(reach)..];
    last > reach && recent.iter().all(|loss| *loss > 1.5 * losses[0] + 1.0)
}

/// `losses[0]` is that before any update, `losses[t]` that after the t-th.
fn judge(seed: u64, losses: &[f64], range: Range) -> SeedCurve {
    let finite = losses.iter().take_while(|loss| loss.is_finite()).count();
    let after = losses.get(1..finite).unwrap_or(&[]);
    let reach = range.reach();
    let smoothed = |at: usize| {
        let around = &after[at.saturating_sub(reach)..(at + reach + 1).min(after.len())];
        around.iter().sum::<f64>() / around.len() as f64
    };
    let point = |(at, loss): (usize, &f64)| Point {
        rate: range.rate(at as u64),
        loss: *loss,
        smoothed: smoothed(at),
    };
    let points: Vec<Point> = after.iter().enumerate().map(point).collect();
    let mut curve = SeedCurve {
        seed,
        first_loss: losses[0],
        points,
        steepest: None,
        lowest: None,
        edge: None,
        suggested: None,
        unknown: None,
    };
    // Where the loss became no number, the edge is there at the latest.
    let broke = (finite < losses.len()).then(|| range.rate(finite.saturating_sub(2) as u64));
    match find(&mut curve, broke, reach) {
        Ok(rate) => curve.suggested = Some(rate),
        Err(why) => curve.unknown = Some(why),
    }
    curve
}

/// Fills in what the curve shows; the suggestion, or why there is none.
fn find(curve: &mut SeedCurve, broke: Option<f64>, reach: usize) -> Result<f64, String> {
    let points = &curve.points;
    if points.len() < 2 * reach + 2 {
        return Err("the loss is not a number from the first updates on".into());
    }
    let by_loss = |a: &usize, b: &usize| points[*a].smoothed.total_cmp(&points[*b].smoothed);
    let lowest = (0..points.len()).min_by(by_loss).expect("there are points");
    // The mean over the first points is better known than the single first loss.
    let start = points[0].smoothed.min(curve.first_loss);
    let fall = start - points[lowest].smoothed;
    let noise = noise(points) / ((2 * reach + 1) as f64).sqrt();
    if fall < (FALL_LEAST * start).max(4.0 * noise) {
        return Err(format!(
            "the loss never falls clearly: by {fall:.3} nats at most, from {start:.3}"
        ));
    }
    curve.lowest = Some(points[lowest].rate);
    let slope = |at: &usize| {
        let (from, to) = (at.saturating_sub(reach), at + reach);
        points[to].smoothed - points[from].smoothed
    };
    let steepest = (0..points.len() - reach).min_by(|a, b| slope(a).total_cmp(&slope(b)));
    curve.steepest = steepest.map(|at| points[at].rate);
    let is_up = |p: &&Point| p.smoothed > points[lowest].smoothed + RISE * fall;
    let risen = points[lowest..].iter().find(is_up).map(|point| point.rate);
    curve.edge = risen.or(broke);
    match curve.edge {
        Some(edge) => Ok((SHARE_OF_EDGE * edge).min(SHARE_OF_LOWEST * points[lowest].rate)),
        None => Err(format!(
            "the loss does not break down up to the highest rate tried, {:.2e}: raise it",
            points[points.len() - 1].rate
        )),
    }
}

/// How far single losses lie from their smoothed ones: 1.4826 times the median distance, which is
/// the standard deviation of normal noise and is not moved by a breakdown.
fn noise(points: &[Point]) -> f64 {
    let mut distances: Vec<f64> = points.iter().map(|p| (p.loss - p.smoothed).abs()).collect();
    distances.sort_by(f64::total_cmp);
    1.4826 * distances[distances.len() / 2]
}

/// The suggestion of all seeds together, or why there is none.
fn agree(curves: &[SeedCurve]) -> (Option<f64>, Option<String>) {
    let rates: Vec<f64> = curves.iter().filter_map(|curve| curve.suggested).collect();
    let lost: Vec<&String> = curves.iter().filter_map(|curve| curve.unknown.as_ref()).collect();
    // One seed of three may fail; more, and the others are no better than luck.
    if let Some(why) = lost.first().filter(|_| 3 * lost.len() > curves.len()) {
        let of = if curves.len() == 1 {
            String::new()
        } else {
            format!(" ({} of {} seeds)", lost.len(), curves.len())
        };
        return (None, Some(format!("{why}{of}")));
    }
    let low = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let high = rates.iter().copied().fold(0.0, f64::max);
    if high > SPREAD_MOST * low {
        let why = format!("the seeds disagree: {low:.2e} to {high:.2e}; try more of them");
        return (None, Some(why));
    }
    (geometric_mean(&rates), None)
}

fn geometric_mean(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().map(|value| value.ln()).sum();
    (!values.is_empty()).then(|| (sum / values.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: Range = Range { low: 1e-5, high: 10.0, steps: 120 };

    /// Falls from 4 to 2 around a rate of 1e-3 and breaks down at `edge`.
    fn made(edge: f64, jitter: f64) -> SeedCurve {
        let mut losses = vec![4.0];
        for step in 0..RANGE.steps {
            let rate = RANGE.rate(step);
            let fall = 2.0 / (1.0 + (1e-3 / rate).powi(2));
            let rise = (rate / edge).powi(4);
            let sign = if step % 2 == 0 { 1.0 } else { -1.0 };
            losses.push(4.0 - fall + rise + sign * jitter);
        }
        judge(1, &losses, RANGE)
    }

    #[test]
    fn the_edge_is_found_whatever_the_noise() {
        for jitter in [0.0, 0.05, 0.2] {
            let curve = made(0.1, jitter);
            // The rise of 0.4 is there at 0.1 · 0.4^(1/4) = 0.08.
            let edge = curve.edge.expect("an edge");
            assert!((0.06..0.11).contains(&edge), "{edge}");
            let suggested = curve.suggested.expect("a rate");
            // The lowest is near 0.0215.
            assert!((0.005..0.02).contains(&suggested) && suggested < 0.26 * edge, "{suggested}");
            let steepest = curve.steepest.expect("a place");
            assert!((3e-4..3e-3).contains(&steepest), "{steepest}");
        }
    }

    #[test]
    fn what_is_not_known_is_said() {
        let of = |losses: &[f64]| judge(1, losses, RANGE).unknown.expect("don't know");
        let flat: Vec<f64> = (0..121).map(|i| 4.0 + f64::from(i % 3) * 0.01).collect();
        assert!(of(&flat).contains("never falls"));
        let rising: Vec<f64> = (0..121).map(|i| 4.0 + f64::from(i) * 0.1).collect();
        assert!(of(&rising).contains("never falls"));
        let falling: Vec<f64> = (0..121).map(|i| 4.0 - f64::from(i) * 0.02).collect();
        assert!(of(&falling).contains("raise it"));
        assert!(of(&[4.0, f64::NAN]).contains("not a number"));
        assert!(of(&[f64::NAN]).contains("not a number"));
        let mut broken = falling.clone();
        broken[90] = f64::INFINITY;
        let curve = judge(1, &broken, RANGE);
        assert_eq!(curve.edge, Some(RANGE.rate(88)));
        let curves = |edges: &[f64]| edges.iter().map(|e| made(*e, 0.0)).collect::<Vec<_>>();
        let (rate, why) = agree(&curves(&[0.1, 0.1, 2.0]));
        assert!(rate.is_none() && why.expect("a reason").contains("disagree"));
        let (rate, why) = agree(&curves(&[0.08, 0.1, 0.12]));
        assert!(rate.is_some_and(|rate| (0.005..0.02).contains(&rate)) && why.is_none());
        let one = judge(1, &flat, RANGE);
        assert!(agree(&[one.clone(), made(0.1, 0.0), made(0.1, 0.0)]).0.is_some());
        let (rate, why) = agree(&[one.clone(), one, made(0.1, 0.0)]);
        assert!(rate.is_none() && why.expect("a reason").contains("2 of 3 seeds"));
    }
}
