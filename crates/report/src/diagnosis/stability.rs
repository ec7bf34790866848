//! Rules about the way of the optimization: divergence, learning rates, gradients.

use heldout_record::{EvaluationRecord, StopReason};

use super::advice::{cite, plain, set};
use super::chart::Chart;
use super::{Finding, Kind, Severity};
use crate::format::{count, nats, rate, share};

/// A loss that may be beyond all measure.
fn loss(value: f64) -> String {
    if value.abs() < 1000.0 { nats(value) } else { format!("{value:.1e}") }
}

/// A share that may be tiny: `0.77%`, `5.6e-4%`.
fn tiny(value: f64) -> String {
    if value >= 1e-4 { share(value) } else { format!("{:.1e}%", 100.0 * value) }
}

/// A training loss this much above its lowest is a divergence rather than unrest, in nats.
const DIVERGED_NATS: f64 = 0.5;
/// Beyond this a rise is no price any more.
const NATS_MOST: f64 = 50.0;
/// A training loss this much above its lowest, and three of its standard errors, is no chance.
const ROSE_NATS: f64 = 0.05;
/// Update ratios above: a thirtieth of the weights changes in one update. The usual is a
/// thousandth (practice; Karpathy's lectures), a small model's may be ten times that.
const RATIO_HIGH: f64 = 0.03;
/// Above: no other sign is needed.
const RATIO_HUGE: f64 = 0.1;
/// Below: after ten thousand updates in one direction the weights would have changed by half.
const RATIO_LOW: f64 = 5e-5;
/// Share of steps that spike or are held back by the guard.
const SPIKES: f64 = 0.01;
/// Share of the steps of the second half that may be clipped before clipping is what sets the pace.
const CLIPPED: f64 = 0.9;

pub(super) fn findings(chart: &Chart) -> Vec<Finding> {
    let unstable = diverged(chart).or_else(|| rate_too_high(chart));
    if let Some(finding) = unstable {
        return vec![finding];
    }
    rate_too_low(chart).into_iter().chain(unstable_gradients(chart)).collect()
}

/// The run left the finite numbers, the guard ended it, or the training loss itself (without noise,
/// on the same windows) rose by half a nat and stayed there.
fn diverged(chart: &Chart) -> Option<Finding> {
    let is_stopped = chart.reason() == Some(StopReason::Diverged);
    let broken = chart.evaluations().iter().find(|e| !e.loss_train.is_finite());
    let rise = training_rise(chart).filter(|rise| rise.nats > DIVERGED_NATS);
    if !is_stopped && broken.is_none() && rise.is_none() {
        return None;
    }
    let guard = chart.summary.guards.first();
    let step = chart.steps.iter().find(|s| !s.objective.is_finite()).map(|s| s.step);
    let stopped = chart.summary.stopped.as_ref().filter(|_| is_stopped);
    // The first trace of it: what the guard saw, a loss that is no number, or the turn.
    let traces = [
        guard.map(|g| g.step),
        step,
        broken.map(|e| e.step),
        rise.as_ref().map(|r| r.since),
        stopped.map(|s| s.step),
    ];
    let since_step = traces.into_iter().flatten().min();
    let mut evidence = Vec::new();
    if let Some(stopped) = stopped {
        evidence.push(format!("the run was stopped at step {}: {}", stopped.step, stopped.detail));
    }
    if let Some(guard) = guard {
        let times = chart.summary.guards.len();
        evidence.push(format!(
            "the guard acted {} times, first at step {}: {}",
            count(times as u64),
            count(guard.step),
            guard.cause
        ));
    }
    if let Some(rise) = &rise {
        evidence.push(rise.words());
    }
    if let Some(best) = chart.summary.best() {
        evidence.push(format!(
            "the best weights, of step {} with a held-out loss of {}, were kept",
            count(best.step),
            loss(best.loss_valid)
        ));
    }
    let said = stopped.map(|stopped| stopped.detail.as_str());
    let since = since_step.map_or(String::new(), |step| format!(" at step {}", count(step)));
    Some(Finding {
        kind: Kind::Diverged,
        severity: Severity::Bad,
        sentence: format!("diverged{since}: {}", what_broke(chart, said)),
        since_step,
        nats: rise.map(|rise| rise.nats).filter(|nats| *nats < NATS_MOST),
        evidence,
        suggestions: calmer(chart),
    })
}

/// `said` is what the run itself gave as the reason, if that is why it ended.
fn what_broke(chart: &Chart, said: Option<&str>) -> String {
    match said.filter(|detail| !detail.is_empty()) {
        Some(detail) => detail.to_owned(),
        None if chart.evaluations().iter().any(|e| !e.loss_train.is_finite()) => {
            "the loss is no number any more".to_owned()
        }
        None => "the training loss itself rose and did not come back".to_owned(),
    }
}

/// How far the training loss ended above its lowest.
struct Rise<'a> {
    nats: f64,
    since: u64,
    lowest: &'a EvaluationRecord,
    last: &'a EvaluationRecord,
}

impl Rise<'_> {
    fn words(&self) -> String {
        format!(
            "the training loss, measured without noise on the same windows, was {} at step {} and \
             {} at step {}",
            loss(self.lowest.loss_train),
            count(self.lowest.step),
            loss(self.last.loss_train),
            count(self.last.step)
        )
    }
}

/// The rise where it is beyond chance.
fn training_rise<'a>(chart: &'a Chart) -> Option<Rise<'a>> {
    let last = chart.last()?;
    let finite = chart.evaluations().iter().filter(|e| e.loss_train.is_finite());
    let lowest = finite.min_by(|a, b| a.loss_train.total_cmp(&b.loss_train))?;
    let nats = last.loss_train - lowest.loss_train;
    let chance = ROSE_NATS.max(3.0 * lowest.loss_train_se);
    (nats > chance).then_some(Rise { nats, since: lowest.step, lowest, last })
}

/// Updates are huge, losses spike, the guard keeps acting, or the training loss rose.
fn rate_too_high(chart: &Chart) -> Option<Finding> {
    let vitals = &chart.vitals;
    let rise = training_rise(chart);
    let of_steps = |n: u64| n as f64 / vitals.steps.max(1) as f64;
    let many = |n: u64| n >= 3 && of_steps(n) >= SPIKES;
    let ratio = vitals.update_ratio.filter(|ratio| *ratio > RATIO_HIGH);
    let signs = [
        rise.is_some(),
        many(vitals.loss_spikes),
        many(vitals.guard_interventions),
        // The small weights of a young run move far, too: alone only far more than that counts.
        ratio.is_some_and(|ratio| ratio > RATIO_HUGE),
    ];
    if !signs.contains(&true) {
        return None;
    }
    let mut evidence = Vec::new();
    if let Some(rise) = &rise {
        evidence.push(rise.words());
    }
    if let Some(ratio) = ratio {
        evidence.push(format!(
            "one update changes the weights by {} of their size (median over the evaluations); \
             about 0.1% is usual",
            tiny(ratio)
        ));
    }
    if many(vitals.loss_spikes) {
        let (n, steps) = (count(vitals.loss_spikes), count(vitals.steps));
        evidence.push(format!("the loss jumped in {n} of {steps} recorded steps"));
    }
    if many(vitals.guard_interventions) {
        let n = count(vitals.guard_interventions);
        evidence.push(format!("the explosion guard held back {n} updates"));
    }
    let since_step = rise.as_ref().map(|rise| rise.since);
    let is_bad = signs.iter().filter(|sign| **sign).count() > 1 || signs[3];
    Some(Finding {
        kind: Kind::RateTooHigh,
        severity: if is_bad { Severity::Bad } else { Severity::Warning },
        sentence: "the learning rate is too high: updates throw away what was learned".to_owned(),
        since_step,
        nats: rise.map(|rise| rise.nats),
        evidence,
        suggestions: calmer(chart),
    })
}

/// A lower rate and what keeps single steps from doing harm.
fn calmer(chart: &Chart) -> Vec<super::Suggestion> {
    let peak = chart.steps.iter().map(|step| step.learning_rate).fold(0.0, f64::max);
    let mut list = Vec::new();
    if peak > 0.0 {
        list.push(set(
            &format!("optimizer.learning-rate={}", rate(peak / 3.0)),
            format!("train with a third of the learning rate ({} at its peak)", rate(peak)),
        ));
    }
    list.push(plain("warm the rate up for longer (schedule.warmup)"));
    if !chart.is_live("gradient-clipping") {
        list.push(cite(
            "gradient-clipping",
            "regularize.gradient-clipping=1.0",
            "clip gradients: one odd batch then cannot move the weights far",
        ));
    }
    if !chart.is_live("explosion-guard") {
        list.push(cite(
            "explosion-guard",
            "regularize.explosion-guard=roll-back",
            "let the guard return to the best weights with a lower rate when the loss explodes",
        ));
    }
    list
}

/// Updates are so small that the weights hardly move, and the loss was still falling.
fn rate_too_low(chart: &Chart) -> Option<Finding> {
    let ratio = chart.vitals.update_ratio.filter(|ratio| *ratio < RATIO_LOW)?;
    let last = chart.last()?;
    let is_best = chart.summary.best().is_some_and(|best| best.step == last.step);
    if !is_best || chart.evaluations().len() < 3 {
        return None;
    }
    let peak = chart.steps.iter().map(|step| step.learning_rate).fold(0.0, f64::max);
    Some(Finding {
        kind: Kind::RateTooLow,
        severity: Severity::Warning,
        sentence: "the learning rate is too low: the weights hardly moved".to_owned(),
        since_step: None,
        nats: None,
        evidence: vec![
            format!(
                "one update changes the weights by {} of their size (median over the \
                 evaluations); about 0.1% is usual",
                tiny(ratio)
            ),
            format!("the last evaluation, at step {}, was the best one", count(last.step)),
        ],
        suggestions: vec![set(
            &format!("optimizer.learning-rate={}", rate(peak * 10.0)),
            format!("train with ten times the learning rate ({} at its peak)", rate(peak)),
        )],
    })
}

/// Gradients jump, or clipping sets the pace of nearly every step.
fn unstable_gradients(chart: &Chart) -> Option<Finding> {
    let vitals = &chart.vitals;
    let spikes = vitals.gradient_spikes as f64 / vitals.steps.max(1) as f64;
    let is_spiking = vitals.gradient_spikes >= 3 && spikes >= SPIKES;
    let clipped = vitals.clipped_share_late.filter(|late| *late > CLIPPED && vitals.steps >= 40);
    if !is_spiking && clipped.is_none() {
        return None;
    }
    let mut evidence = Vec::new();
    if is_spiking {
        evidence.push(format!(
            "in {} of {} recorded steps the gradient norm was more than ten times the median of \
             the 50 before; the largest, {}, at step {}",
            count(vitals.gradient_spikes),
            count(vitals.steps),
            rate(significant(vitals.gradient_norm_most)),
            count(vitals.gradient_norm_most_step)
        ));
    }
    if let Some(clipped) = clipped {
        evidence.push(format!(
            "in the second half {} of the steps were clipped (the median norm of the last \
             quarter is {}): the limit, not the gradient, decides how far a step goes",
            share(clipped),
            rate(significant(vitals.gradient_norm_late))
        ));
    }
    let mut suggestions = Vec::new();
    if !chart.is_live("gradient-clipping") {
        suggestions.push(cite(
            "gradient-clipping",
            "regularize.gradient-clipping=1.0",
            "clip gradients, so that a jump cannot move the weights far",
        ));
    } else if clipped.is_some() {
        let limit = rate(significant(2.0 * vitals.gradient_norm_late));
        suggestions.push(cite(
            "gradient-clipping",
            &format!("regularize.gradient-clipping={limit}"),
            "raise the limit to about twice the usual norm, so that only the odd step is clipped",
        ));
    }
    suggestions.push(plain("larger batches make gradients steadier (batch.size)"));
    Some(Finding {
        kind: Kind::UnstableGradients,
        severity: if is_spiking { Severity::Warning } else { Severity::Note },
        sentence: if is_spiking {
            "gradients jump: single batches pull the weights far".to_owned()
        } else {
            "nearly every step is clipped: the clipping limit acts as the learning rate".to_owned()
        },
        since_step: None,
        nats: None,
        evidence,
        suggestions,
    })
}

/// Two significant digits.
fn significant(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10f64.powi(value.log10().floor() as i32 - 1);
    (value / scale).round() * scale
}
