//! What a study's trials say: paired effects with intervals, corrected verdicts, the noise floor.
//!
//! Everything here is a pure function of the study's design and the lines of its ledger, so a
//! result can be drawn up again at any time. How an effect becomes settled is in `sequential`.

mod beside;
mod sequential;
mod trials;
mod words;

use heldout_record::study::{
    ArmSummary, Contrast, ContrastKind, EffectEstimate, EffectRecord, NoiseFloor, Standing, Study,
    StudyResult, TrialEvent, TrialResult, Verdict,
};

use crate::statistics::{Bootstrap, bootstrap, estimate, paired_t, student_quantile};

pub use beside::{ArmBeside, Beside, beside};
pub use sequential::{
    extended, extensions_of, holm, is_all_settled, level_of, look, look_due, planned_looks,
    spent_by,
};
pub use trials::{Trials, arms_wanted, seeds_done};

/// Resamples behind each bootstrap interval.
const RESAMPLES: usize = 4000;

/// Draws up the result of everything in the ledger.
pub fn analyze(study: &Study, events: &[TrialEvent], standing: Standing) -> StudyResult {
    let trials = Trials::new(events);
    let done = seeds_done(study, events);
    let seeds = &study.seeds[..done];
    let corrected = sequential::corrected(study, events);
    let mut effects: Vec<EffectRecord> = study
        .contrasts
        .iter()
        .zip(corrected)
        .map(|(contrast, p_corrected)| {
            let measured = measure(contrast, &trials, seeds, p_corrected);
            judge(study, events, contrast, measured)
        })
        .collect();
    for effect in &mut effects {
        effect.sentence = words::verdict(effect, &study.rule);
    }
    let mut result = StudyResult {
        study: study.name.clone(),
        design: study.design,
        standing,
        seeds_planned: study.seeds.len() as u64,
        seeds_done: done as u64,
        trials_finished: trials.finished_count() as u64,
        trials_failed: trials.failed_count() as u64,
        arms: study.arms.iter().map(|arm| summarize(&arm.name, &trials, events)).collect(),
        noise: noise_floor(study, &trials, seeds),
        baseline: None,
        effects,
        notes: words::notes(study, standing, done),
        next: String::new(),
    };
    result.next = words::next(study, &result);
    result
}

/// The figures of a contrast; the verdict is still to come.
fn measure(
    contrast: &Contrast,
    trials: &Trials<'_>,
    seeds: &[u64],
    p_corrected: f64,
) -> EffectRecord {
    let of = |figure: fn(&TrialResult) -> f64| trials.differences(contrast, seeds, figure);
    let test = of(|t| t.loss_test);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let interval = bootstrap(&test, &mean, Bootstrap::Bca, 0.95, RESAMPLES, 1);
    let zeros = vec![0.0; test.len()];
    let (seconds_ratio, seconds) = cost(contrast, trials, seeds);
    let (with, without) = trials.failures(contrast, seeds);
    EffectRecord {
        name: contrast.name.clone(),
        kind: contrast.kind,
        techniques: contrast.techniques.clone(),
        pairs: test.len() as u64,
        valid: interval_of(&of(|t| t.loss_valid)),
        gap: interval_of(&of(|t| t.gap)),
        bootstrap_low: interval.map_or(f64::NAN, |i| i.low),
        bootstrap_high: interval.map_or(f64::NAN, |i| i.high),
        p: paired_t(&test, &zeros).map_or(f64::NAN, |t| t.p),
        test: interval_of(&test),
        p_corrected,
        seconds_ratio,
        seconds,
        failed_with: with.failed,
        failed_without: without.failed,
        ..EffectRecord::default()
    }
}

fn interval_of(values: &[f64]) -> EffectEstimate {
    let mean = match values.len() {
        0 => f64::NAN,
        n => values.iter().sum::<f64>() / n as f64,
    };
    let test = paired_t(values, &vec![0.0; values.len()]);
    let (low, high) = test.map_or((f64::NAN, f64::NAN), |t| (t.interval.low, t.interval.high));
    EffectEstimate { mean, low, high }
}

/// Time with the technique over time without it, and the difference of the two; of a trial.
fn cost(contrast: &Contrast, trials: &Trials<'_>, seeds: &[u64]) -> (f64, f64) {
    if contrast.kind == ContrastKind::Interaction {
        return (f64::NAN, f64::NAN);
    }
    let difference = trials.differences(contrast, seeds, |t| t.seconds);
    let without = trials.weighted(contrast, seeds, |t| t.seconds);
    if difference.is_empty() {
        return (f64::NAN, f64::NAN);
    }
    let count = difference.len() as f64;
    let saved = difference.iter().sum::<f64>() / count;
    let without = without.iter().sum::<f64>() / count;
    ((without - saved) / without, -saved)
}

/// The verdict and when it fell.
fn judge(
    study: &Study,
    events: &[TrialEvent],
    contrast: &Contrast,
    effect: EffectRecord,
) -> EffectRecord {
    let settled_at = sequential::settled_at(events, &contrast.name);
    let is_over = settled_at.is_some() || sequential::is_level_spent(study, events);
    let is_large = effect.test.mean.abs() >= study.rule.rope;
    let has_zero = effect.test.low <= 0.0 && effect.test.high >= 0.0;
    let is_significant = effect.p_corrected <= study.rule.level;
    let trials = Trials::new(events);
    let (with, without) = trials.failures(contrast, &study.seeds);
    let verdict = if with.is_hopeless() != without.is_hopeless() && is_over {
        if without.is_hopeless() { Verdict::Helps } else { Verdict::Hurts }
    } else if effect.pairs < 2 {
        Verdict::NotSettled
    } else if is_significant && is_large {
        if effect.test.mean > 0.0 { Verdict::Helps } else { Verdict::Hurts }
    } else if settled_at.is_some() || is_significant || (is_over && has_zero) {
        Verdict::NoEffect
    } else {
        Verdict::NotSettled
    };
    let all = study.seeds.len() as u64;
    EffectRecord { verdict, settled_at: settled_at.filter(|n| *n < all), ..effect }
}

/// An arm's means over all its seeds.
fn summarize(arm: &str, trials: &Trials<'_>, events: &[TrialEvent]) -> ArmSummary {
    let results = trials.of_arm(arm);
    let count = results.len();
    let mean = |figure: fn(&TrialResult) -> f64| match count {
        0 => f64::NAN,
        n => results.iter().map(|t| figure(t)).sum::<f64>() / n as f64,
    };
    let test: Vec<f64> = results.iter().map(|t| t.loss_test).collect();
    let sd = estimate(&test).map_or(f64::NAN, |e| e.standard_error * (count as f64).sqrt());
    ArmSummary {
        name: arm.to_owned(),
        finished: count as u64,
        failed: trials.failures_of_arm(arm),
        rate_factor: tuned_factor(arm, events),
        loss_valid: mean(|t| t.loss_valid),
        loss_test: mean(|t| t.loss_test),
        loss_test_sd: sd,
        loss_train: mean(|t| t.loss_train),
        gap: mean(|t| t.gap),
        seconds: mean(|t| t.seconds),
    }
}

/// The rate factor with the lowest validation loss among an arm's tuning trials; 1 without any.
/// Of equals the one nearest to 1 is taken.
pub fn tuned_factor(arm: &str, events: &[TrialEvent]) -> f64 {
    let tried = events.iter().filter_map(|event| match event {
        TrialEvent::Finished(t) if t.is_tuning && t.arm == arm && t.loss_valid.is_finite() => {
            Some((t.loss_valid, t.rate_factor.ln().abs(), t.rate_factor))
        }
        _ => None,
    });
    let order = |a: &(f64, f64, f64), b: &(f64, f64, f64)| {
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2))
    };
    tried.min_by(order).map_or(1.0, |(_, _, factor)| factor)
}

/// How much seeds differ, and what the planned number of them can find.
fn noise_floor(study: &Study, trials: &Trials<'_>, seeds: &[u64]) -> Option<NoiseFloor> {
    let reference: Vec<f64> =
        trials.of_arm(&study.arms.first()?.name).iter().map(|t| t.loss_test).collect();
    let of_mean = estimate(&reference)?;
    let variances: Vec<f64> = study
        .contrasts
        .iter()
        .filter_map(|c| estimate(&trials.differences(c, seeds, |t| t.loss_test)))
        .map(|e| e.standard_error.powi(2) * e.n as f64)
        .collect();
    if variances.is_empty() {
        return None;
    }
    let paired_sd = (variances.iter().sum::<f64>() / variances.len() as f64).sqrt();
    let n = study.seeds.len() as f64;
    let share = sequential::share_of_the_last(study);
    let level = study.rule.level * share / study.contrasts.len() as f64;
    let quantiles = student_quantile(1.0 - level / 2.0, n - 1.0) + student_quantile(0.8, n - 1.0);
    Some(NoiseFloor {
        seed_sd: of_mean.standard_error * (of_mean.n as f64).sqrt(),
        paired_sd,
        detectable: quantiles * paired_sd / n.sqrt(),
    })
}

#[cfg(test)]
mod tests;
