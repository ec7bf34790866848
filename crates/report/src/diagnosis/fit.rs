//! Rules about the two curves: overfitting, underfitting, a plateau, a stop that came too early, a
//! baseline that was not beaten.

use heldout_record::{EvaluationRecord, StopReason};

use super::advice::{cite, plain, regularize, set};
use super::chart::Chart;
use super::{Finding, Kind, Severity};
use crate::format::{count, nats, rate, share};
use crate::statistics::normal_cdf;
use crate::summary::Verdict;

/// A rise below this is nothing, however certain.
const RISE_LEAST: f64 = 0.002;
/// A rise that is only seen as a trend must be at least this.
const TREND_LEAST: f64 = 0.005;
/// One-sided level of the trend test.
const TREND_LEVEL: f64 = 0.01;
/// A rise from here on is a loss that matters, in nats.
const RISE_BAD: f64 = 0.1;
/// Share of the loss that the last quarter of a run must still have gained to call it too short.
const STILL_FALLING: f64 = 0.03;
/// And this many nats.
const FALLING_LEAST: f64 = 0.02;
/// Share of the loss that the last half may change by on a plateau.
const LEVEL: f64 = 0.005;
/// A gap that is worth a word: this many standard errors and nats.
const GAP: (f64, f64) = (3.0, 0.02);

/// `before` is what is already known about the optimization and the measurement.
pub(super) fn findings(chart: &Chart, before: &[Finding]) -> Vec<Finding> {
    let has = |kind: Kind| before.iter().any(|finding| finding.kind == kind);
    if chart.last().is_none() {
        return if has(Kind::Diverged) { Vec::new() } else { vec![unknown(chart)] };
    }
    let below = below_baseline(chart);
    let overfitting = overfitting(chart);
    if overfitting.is_some() {
        return overfitting.into_iter().chain(below).collect();
    }
    let mut list = Vec::new();
    let is_astray = has(Kind::Diverged) || has(Kind::RateTooHigh) || has(Kind::RateTooLow);
    if !is_astray {
        let early = stopped_early(chart);
        let falling = if early.is_some() { None } else { underfitting(chart) };
        let level = if falling.is_some() || early.is_some() { None } else { plateau(chart) };
        list.extend([early, falling, level].into_iter().flatten());
    }
    // What went astray explains that, too.
    list.extend(below.filter(|_| !has(Kind::Diverged)));
    if !has(Kind::Leaking) {
        list.extend(gap(chart));
    }
    list
}

fn unknown(chart: &Chart) -> Finding {
    let steps = chart.vitals.steps;
    Finding {
        kind: Kind::Unknown,
        severity: Severity::Warning,
        sentence: "nothing was evaluated yet, so nothing can be said".to_owned(),
        since_step: None,
        nats: None,
        evidence: vec![format!("{} steps are recorded and no evaluation", count(steps))],
        suggestions: vec![set("evaluate.every=0.05", "evaluate every twentieth of the run")],
    }
}

/// Held-out loss turned at its best step and ended significantly above it, while the training loss
/// went on falling and the gap is beyond chance.
///
/// The rise is significant where it exceeds the standard error of the best held-out loss (both are
/// over the same tokens, so the error of their difference is smaller: a quiet rule); or, where the
/// split is small, where the evaluations after the best show a rising trend (Mann and Kendall, one
/// sided, 1%). The onset is the step of the best held-out loss.
fn overfitting(chart: &Chart) -> Option<Finding> {
    let (best, last) = (chart.summary.best()?, chart.last()?);
    let rise = last.loss_valid - best.loss_valid;
    let is_learning = last.loss_train <= best.loss_train + best.loss_train_se;
    let is_gap = last.gap > 2.0 * last.gap_se;
    let is_certain = rise > best.loss_valid_se.max(RISE_LEAST);
    if best.step >= last.step || !is_learning || !is_gap {
        return None;
    }
    let rises = rise > TREND_LEAST && is_rising(chart, best.step);
    if !is_certain && !rises {
        return None;
    }
    let wasted = 1.0 - best.step as f64 / last.step as f64;
    let mut evidence = vec![
        format!(
            "the held-out loss was best at step {} (epoch {:.1}) with {} ± {} and ended at {}",
            count(best.step),
            best.epoch,
            nats(best.loss_valid),
            nats(best.loss_valid_se),
            nats(last.loss_valid)
        ),
        format!(
            "meanwhile the training loss went from {} to {}: the gap grew from {} to {} ± {}",
            nats(best.loss_train),
            nats(last.loss_train),
            nats(best.gap),
            nats(last.gap),
            nats(last.gap_se)
        ),
    ];
    if let Some(opened) = gap_opened(chart.evaluations()) {
        evidence.push(format!(
            "the gap is beyond chance (two standard errors) from step {} on",
            count(opened)
        ));
    }
    evidence.push(format!(
        "{} of the run came after the best step; the result holds the weights of that step, so \
         the rise costs time, not quality",
        share(wasted)
    ));
    let severity = if rise >= RISE_BAD { Severity::Bad } else { Severity::Warning };
    Some(Finding {
        kind: Kind::Overfitting,
        severity,
        sentence: format!(
            "overfitting since step {}: held-out loss rose {} nats above its best, the gap went \
             from {} to {}",
            count(best.step),
            nats(rise),
            nats(best.gap),
            nats(last.gap)
        ),
        since_step: Some(best.step),
        nats: Some(rise),
        evidence,
        suggestions: regularize(chart),
    })
}

/// Mann and Kendall's test on the held-out losses after the best one (which is left out: it was
/// picked for being low).
fn is_rising(chart: &Chart, best_step: u64) -> bool {
    let after = chart.evaluations().iter().filter(|e| e.step > best_step);
    let losses: Vec<f64> = after.map(|e| e.loss_valid).collect();
    let n = losses.len() as f64;
    if n < 5.0 {
        return false;
    }
    let mut sum = 0.0;
    for (i, earlier) in losses.iter().enumerate() {
        sum += losses[i + 1..].iter().map(|later| (later - earlier).signum()).sum::<f64>();
    }
    let deviation = (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    1.0 - normal_cdf((sum - 1.0) / deviation) < TREND_LEVEL
}

/// The first evaluation from which on every gap exceeds two standard errors.
fn gap_opened(evaluations: &[EvaluationRecord]) -> Option<u64> {
    let is_open = |e: &&EvaluationRecord| e.gap > 2.0 * e.gap_se;
    evaluations.iter().rev().take_while(is_open).last().map(|e| e.step)
}

/// The run ended at its horizon while the last quarter still gained 3% of the held-out loss.
fn underfitting(chart: &Chart) -> Option<Finding> {
    let (last, before) = (chart.last()?, chart.at_share(0.75)?);
    let gained = before.loss_valid - last.loss_valid;
    let is_enough = chart.evaluations().len() >= 3 && before.step < last.step;
    let least = last.loss_valid_se.max(FALLING_LEAST);
    let is_significant = gained > least.max(STILL_FALLING * last.loss_valid);
    let is_learning = last.loss_train < before.loss_train;
    if !is_enough || !is_significant || !is_learning {
        return None;
    }
    let is_over = matches!(chart.reason(), Some(StopReason::Horizon | StopReason::Time));
    let mut evidence = vec![format!(
        "from step {} to the end at step {} the held-out loss still fell by {} nats, the \
         training loss by {}",
        count(before.step),
        count(last.step),
        nats(gained),
        nats(before.loss_train - last.loss_train)
    )];
    if last.gap < GAP.0 * last.gap_se {
        evidence.push(format!(
            "there is no gap to speak of ({} ± {}): nothing was learned by heart yet",
            nats(last.gap),
            nats(last.gap_se)
        ));
    }
    let mut suggestions = vec![set(
        &format!("schedule.horizon=\"{} steps\"", 2 * last.step),
        "train longer: the curve says that it pays",
    )];
    if let Some(rate) = rate_words(chart) {
        suggestions.push(rate);
    }
    suggestions.extend(loosen(chart));
    Some(Finding {
        kind: Kind::Underfitting,
        severity: if is_over { Severity::Warning } else { Severity::Note },
        sentence: format!(
            "underfitting: it was still learning when it ended, {} nats in the last quarter",
            nats(gained)
        ),
        since_step: None,
        nats: Some(gained),
        evidence,
        suggestions,
    })
}

/// The best weights against the n-gram model on the same windows: by two standard errors.
fn below_baseline(chart: &Chart) -> Option<Finding> {
    let (standing, baseline) = (chart.summary.standing()?, chart.summary.baseline.as_ref()?);
    let (best, last) = (chart.summary.best()?, chart.last()?);
    let behind = -standing.better;
    if behind.is_nan() || behind <= 2.0 * standing.better_se {
        return None;
    }
    let mut suggestions = Vec::new();
    if best.step == last.step {
        let longer = format!("schedule.horizon=\"{} steps\"", 2 * last.step);
        suggestions.push(set(&longer, "train longer: the last evaluation was the best"));
    }
    suggestions.push(plain("find the learning rate: heldout lr-find"));
    suggestions.push(plain("a larger model, where the training loss is no lower than this either"));
    Some(Finding {
        kind: Kind::BelowBaseline,
        severity: Severity::Warning,
        sentence: format!(
            "an n-gram model does better: by {} ± {} nats",
            nats(behind),
            nats(standing.better_se)
        ),
        since_step: None,
        nats: Some(behind),
        evidence: vec![format!(
            "{}, made of the same tokens in a moment, has a held-out loss of {}; the best weights \
             (step {}) have {}",
            crate::baseline::model(baseline),
            nats(baseline.loss_valid),
            count(best.step),
            nats(best.loss_valid)
        )],
        suggestions,
    })
}

/// A higher rate, where the updates were small.
fn rate_words(chart: &Chart) -> Option<super::Suggestion> {
    let ratio = chart.vitals.update_ratio.filter(|ratio| *ratio < 1e-3)?;
    let peak = chart.steps.iter().map(|step| step.learning_rate).fold(0.0, f64::max);
    (peak > 0.0).then(|| {
        let text = format!(
            "or raise the learning rate: an update changes the weights by {} of their size, \
             about 0.1% is usual",
            share(ratio)
        );
        set(&format!("optimizer.learning-rate={}", rate(3.0 * peak)), text)
    })
}

/// Less of what holds the model back.
fn loosen(chart: &Chart) -> Option<super::Suggestion> {
    chart.is_live("dropout").then(|| {
        cite(
            "dropout",
            "regularize.dropout=off",
            "leave dropout out while there is no gap: in few passes it only slows learning \
             (Xue et al. 2023)",
        )
    })
}

/// After two passes or more neither loss moved in the last half, and there is no gap: either the
/// text has nothing more to give, or the model cannot take it.
fn plateau(chart: &Chart) -> Option<Finding> {
    let (last, before) = (chart.last()?, chart.at_share(0.5)?);
    let is_level = |now: f64, then: f64| (then - now).abs() < LEVEL * now.abs();
    let is_flat = is_level(last.loss_valid, before.loss_valid)
        && is_level(last.loss_train, before.loss_train);
    let no_gap = last.gap < GAP.0 * last.gap_se || last.gap < 0.02 * last.loss_train;
    if !is_flat || !no_gap || last.epoch < 2.0 || chart.evaluations().len() < 5 {
        return None;
    }
    let mut suggestions = vec![plain(
        "a larger model, or a higher learning rate, if the loss is above what such text should \
         cost; if it is not, the model knows all that this text can teach",
    )];
    suggestions.extend(loosen(chart));
    Some(Finding {
        kind: Kind::Plateau,
        severity: Severity::Note,
        sentence: format!("a plateau: neither loss has moved since step {}", count(before.step)),
        since_step: Some(before.step),
        nats: None,
        evidence: vec![format!(
            "training and held-out loss are alike ({} and {}) after {:.1} passes, and neither \
             changed by more than {} in the last half",
            nats(last.loss_train),
            nats(last.loss_valid),
            last.epoch,
            share(LEVEL)
        )],
        suggestions,
    })
}

/// Early stopping ended the run although the held-out loss had not risen, with the learning rate
/// still near its peak: what a falling rate gains was left.
fn stopped_early(chart: &Chart) -> Option<Finding> {
    if chart.reason() != Some(StopReason::EarlyStopping) {
        return None;
    }
    let (best, last) = (chart.summary.best()?, chart.last()?);
    let rise = last.loss_valid - best.loss_valid;
    let peak = chart.steps.iter().map(|step| step.learning_rate).fold(0.0, f64::max);
    let now = chart.steps.last()?.learning_rate;
    let horizon = chart.started().map_or(0, |started| started.horizon);
    let is_unchanged = rise <= best.loss_valid_se.max(RISE_LEAST);
    let is_near_peak = now > 0.5 * peak;
    if !is_unchanged || !is_near_peak {
        return None;
    }
    let mut evidence = vec![format!(
        "the held-out loss had not risen: {} at the end, {} ± {} at its best (step {})",
        nats(last.loss_valid),
        nats(best.loss_valid),
        nats(best.loss_valid_se),
        count(best.step)
    )];
    let planned = match horizon {
        0 => String::new(),
        steps => format!(" at step {} of {}", count(last.step), count(steps)),
    };
    evidence.push(format!(
        "the learning rate{planned} was still {} of its peak: what a falling rate gains was left",
        share(now / peak)
    ));
    Some(Finding {
        kind: Kind::StoppedEarly,
        severity: Severity::Warning,
        sentence: "stopped too early: nothing had been lost yet".to_owned(),
        since_step: Some(last.step),
        nats: None,
        evidence,
        suggestions: vec![
            cite(
                "early-stopping",
                "regularize.early-stopping=\"20 evaluations\"",
                "be more patient: with a rate that falls towards the horizon the best often comes \
                 at the very end",
            ),
            plain("or plan a shorter run, so that the rate falls in time (schedule.horizon)"),
        ],
    })
}

/// Training text is known better than held-out text, without harm so far.
fn gap(chart: &Chart) -> Option<Finding> {
    let last = chart.last()?;
    let is_gap = last.gap > GAP.0 * last.gap_se && last.gap > GAP.1;
    is_gap.then(|| Finding {
        kind: Kind::Gap,
        severity: Severity::Note,
        sentence: format!(
            "training text is known {} nats better than held-out text, without harm so far",
            nats(last.gap)
        ),
        since_step: gap_opened(chart.evaluations()),
        nats: Some(last.gap),
        evidence: vec![format!(
            "at step {} the training loss is {} and the held-out loss {}, which has not risen",
            count(last.step),
            nats(last.loss_train),
            nats(last.loss_valid)
        )],
        suggestions: Vec::new(),
    })
}

/// What is said where nothing is wrong.
pub(super) fn all_well(chart: &Chart) -> Finding {
    let mut evidence = Vec::new();
    if let Some(last) = chart.last() {
        evidence.push(format!(
            "gap {} ± {} nats after {:.1} passes",
            nats(last.gap),
            nats(last.gap_se),
            last.epoch
        ));
    }
    let is_best_last = match (chart.summary.best(), chart.last()) {
        (Some(best), Some(last)) => best.step == last.step,
        _ => false,
    };
    let suggestions = if is_best_last {
        vec![plain("a longer run may do a little better: the last evaluation was the best")]
    } else {
        Vec::new()
    };
    Finding {
        kind: Kind::Healthy,
        severity: Severity::Good,
        sentence: match chart.summary.verdict() {
            // The rise is the optimization's unrest: the training loss rose with it.
            Verdict::Overfitting { since_step, nats: rise, .. } => format!(
                "no overfitting: held-out loss ended {} nats above its best (step {}), but there \
                 is no gap beyond chance",
                nats(rise),
                count(since_step)
            ),
            verdict => verdict.sentence(),
        },
        since_step: None,
        nats: None,
        evidence,
        suggestions,
    }
}
