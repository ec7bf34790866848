//! A study's part of a report: its design, its result, and curves as means over seeds.

use std::collections::BTreeMap;
use std::path::Path;

use heldout_record::study::{
    ArmSummary, ContrastKind, EffectRecord, Look, NgramFigures, Standing, Study, StudyDir,
    StudyResult, TrialEvent, TrialFailed, TrialResult, Verdict, read_trials,
};
use heldout_record::{BaselineRecord, EvaluationRecord, RecipeLine, RecordError, read_metrics};
use serde::Serialize;

use super::capitalized;
use crate::format;
use crate::statistics::paired_t;
use crate::study::{Beside, beside, level_of};
use crate::summary::RunSummary;

/// A study as read from disk.
#[derive(Clone, Debug)]
pub struct StudySource {
    /// As the user gave it.
    pub path: String,
    pub study: Study,
    /// Absent before the first look at the evidence.
    pub result: Option<StudyResult>,
    pub recipe: Vec<RecipeLine>,
    pub trials: Vec<TrialEvent>,
    /// The evaluations of each trial whose run could be read, by the trial's name.
    pub evaluations: BTreeMap<String, Vec<EvaluationRecord>>,
    /// The n-gram model to beat: counted for the study, or by its first trial for itself.
    pub ngram: Option<NgramFigures>,
    /// Runs that could not be read, in sentences.
    pub problems: Vec<String>,
}

/// Everything that is told about a study.
#[derive(Clone, Debug, Serialize)]
pub struct StudyPart {
    /// As the user gave it.
    pub path: String,
    pub study: Study,
    /// Absent before the first look at the evidence.
    pub result: Option<StudyResult>,
    /// The arms beside the n-gram model of the same tokens, where there is one.
    pub baseline: Option<Beside>,
    pub recipe: Vec<RecipeLine>,
    /// Trials with a result, those that tuned a learning rate included.
    pub trials: Vec<TrialResult>,
    pub failures: Vec<TrialFailed>,
    pub looks: Vec<Look>,
    /// In the order of the study's arms.
    pub curves: Vec<ArmCurve>,
    /// What a reader must know, in sentences.
    pub caveats: Vec<String>,
    /// Runs that could not be read.
    pub problems: Vec<String>,
}

/// An arm's evaluations as means over its seeds, at the steps that every seed reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmCurve {
    pub arm: String,
    pub seeds: usize,
    pub points: Vec<ArmPoint>,
}

/// Means over seeds with 95% intervals by Student's t; NaN for a single seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ArmPoint {
    pub step: u64,
    pub loss_valid: f64,
    pub loss_valid_low: f64,
    pub loss_valid_high: f64,
    pub gap: f64,
    pub gap_low: f64,
    pub gap_high: f64,
}

impl StudySource {
    /// Reads the study in `path`. A run that is missing or damaged is named and left out; the
    /// study's own papers must read.
    pub fn read(path: &Path) -> Result<StudySource, RecordError> {
        let (folder, study) = StudyDir::open(path)?;
        let trials = read_trials(&folder.trials())?;
        let result = folder.result().exists().then(|| folder.read_result()).transpose()?;
        let (mut evaluations, mut problems) = (BTreeMap::new(), Vec::new());
        let mut ngram = folder.read_baseline()?.map(|baseline| baseline.figures);
        for trial in trials.iter().filter_map(finished) {
            match read_metrics(&folder.run(&trial.trial).metrics()) {
                Ok(events) => {
                    let summary = RunSummary::from_events(&events);
                    ngram = ngram.or_else(|| summary.baseline.as_ref().map(figures));
                    evaluations.insert(trial.trial.clone(), summary.evaluations);
                }
                Err(error) => problems.push(error.to_string()),
            }
        }
        let recipe = folder.recipe_lines();
        let path = path.display().to_string();
        Ok(StudySource { path, study, result, recipe, trials, evaluations, ngram, problems })
    }
}

/// A trial's own n-gram model, which knows nothing of the test split.
fn figures(record: &BaselineRecord) -> NgramFigures {
    NgramFigures {
        smoothing: record.smoothing.clone(),
        order: record.order,
        loss_valid: record.loss_whole.unwrap_or(record.loss_valid),
        loss_valid_se: record.loss_whole_se.unwrap_or(record.loss_valid_se),
        loss_test: f64::NAN,
        loss_test_se: f64::NAN,
    }
}

fn finished(event: &TrialEvent) -> Option<&TrialResult> {
    match event {
        TrialEvent::Finished(result) => Some(result),
        _ => None,
    }
}

impl StudyPart {
    /// Where the study lies, and what it was made from.
    pub fn provenance(&self) -> [(&'static str, String); 6] {
        let study = &self.study;
        [
            ("folder", self.path.clone()),
            ("made", study.created.clone()),
            ("version", format!("heldout {}", study.version)),
            ("command", study.command_line.join(" ")),
            ("recipe", format!("sha256:{}", study.recipe_hash)),
            ("text", format!("sha256:{}", study.content_hash)),
        ]
    }

    /// Gathers what the study says.
    pub fn new(source: &StudySource) -> StudyPart {
        let (mut failures, mut looks) = (Vec::new(), Vec::new());
        for event in &source.trials {
            match event {
                TrialEvent::Failed(failed) => failures.push(failed.clone()),
                TrialEvent::Looked(look) => looks.push(look.clone()),
                _ => {}
            }
        }
        let trials: Vec<TrialResult> = source.trials.iter().filter_map(finished).cloned().collect();
        let curves = source.study.arms.iter().map(|arm| {
            let of_arm = trials.iter().filter(|trial| trial.arm == arm.name && !trial.is_tuning);
            let runs = of_arm.filter_map(|trial| source.evaluations.get(&trial.trial));
            curve(&arm.name, &runs.map(Vec::as_slice).collect::<Vec<_>>())
        });
        let arms = source.result.as_ref().map_or(&[][..], |result| &result.arms);
        let of_arms: Vec<&TrialResult> = trials.iter().collect();
        let baseline = source.ngram.as_ref().map(|ngram| beside(arms, &of_arms, ngram));
        StudyPart {
            baseline,
            path: source.path.clone(),
            curves: curves.filter(|curve| !curve.points.is_empty()).collect(),
            caveats: caveats(source),
            study: source.study.clone(),
            result: source.result.clone(),
            recipe: source.recipe.clone(),
            trials,
            failures,
            looks,
            problems: source.problems.clone(),
        }
    }

    /// The effects, techniques by what they are worth, then interactions.
    pub fn effects(&self) -> Vec<&EffectRecord> {
        let mut effects: Vec<&EffectRecord> =
            self.result.iter().flat_map(|result| &result.effects).collect();
        let worth = |effect: &EffectRecord| {
            if effect.test.mean.is_finite() { effect.test.mean } else { f64::NEG_INFINITY }
        };
        effects.sort_by(|a, b| {
            let is_interaction = |e: &EffectRecord| e.kind == ContrastKind::Interaction;
            is_interaction(a).cmp(&is_interaction(b)).then(worth(b).total_cmp(&worth(a)))
        });
        effects
    }

    /// The result in sentences.
    pub(super) fn lead(&self) -> Vec<String> {
        let Some(result) = &self.result else {
            let trials = self.trials.len();
            return vec![format!("The study has no result yet: {trials} trials have ended.")];
        };
        let mut parts = Vec::new();
        for (verdict, words) in [
            (Verdict::Helps, "helps"),
            (Verdict::Hurts, "hurts"),
            (Verdict::NoEffect, "no effect can be seen of"),
            (Verdict::NotSettled, "not settled"),
        ] {
            let of = self.effects().into_iter().filter(|e| e.verdict == verdict);
            let of = of.filter(|e| e.kind != ContrastKind::Interaction);
            let names: Vec<&str> = of.map(|effect| effect.name.as_str()).collect();
            let list = names.join(", ");
            match verdict {
                _ if names.is_empty() => {}
                Verdict::Helps | Verdict::Hurts if names.len() > 1 => {
                    parts.push(format!("{list} {}", words.trim_end_matches('s')));
                }
                Verdict::Helps | Verdict::Hurts => parts.push(format!("{list} {words}")),
                Verdict::NoEffect => parts.push(format!("{words} {list}")),
                Verdict::NotSettled => parts.push(format!("{words}: {list}")),
            }
        }
        let mut lead = Vec::new();
        if !parts.is_empty() {
            let first = capitalized(&parts.join("; "));
            lead.push(format!("{first}: judged on the test split, which chose nothing."));
        }
        let seeds = match (result.seeds_done, result.seeds_planned) {
            (done, planned) if done == planned => format!("{done} seeds"),
            (done, planned) => format!("{done} of {planned} seeds"),
        };
        let standing = match result.standing {
            Standing::Running => "trials are still to come",
            Standing::Budget => "the budget ended it before its plan was done",
            Standing::Interrupted => "it was interrupted before its plan was done",
            Standing::Settled => "every effect was settled before all seeds had run",
            Standing::Complete => "all of it was done",
        };
        lead.push(format!(
            "A {} study of {} arms over {seeds}, paired: {} trials, {} without a result; \
             {standing}.",
            self.study.design.word(),
            result.arms.len(),
            format::count(result.trials_finished),
            result.trials_failed,
        ));
        lead.extend(self.baseline.iter().flat_map(Beside::sentences));
        lead
    }
}

/// An arm's loss on the test split, with its deviation over seeds where there are several.
pub(crate) fn test_loss(arm: &ArmSummary) -> String {
    match arm.loss_test_sd.is_finite() {
        true => crate::summary::plus_minus(arm.loss_test, arm.loss_test_sd),
        false => format::nats(arm.loss_test),
    }
}

/// The chance of a false claim that is accepted.
pub(crate) fn level(study: &Study) -> String {
    let (plan, all) = (study.rule.level, level_of(study));
    match study.extensions.is_empty() {
        true => format::share(plan),
        false => format!(
            "{}; {} with the extension from {} to {} seeds",
            format::share(plan),
            format::share(all),
            study.seeds_first(),
            study.seeds.len()
        ),
    }
}

/// What the result says about itself; before there is one, what the study says.
fn caveats(source: &StudySource) -> Vec<String> {
    let sentence = |text: &String| format!("{}.", capitalized(text.trim_end_matches('.')));
    let notes = source.result.as_ref().map_or(&source.study.notes, |result| &result.notes);
    let mut caveats: Vec<String> = notes.iter().map(sentence).collect();
    caveats.push(
        "Effects on validation flatter what was chosen there: they are shown for comparison only."
            .to_owned(),
    );
    let next = source.result.as_ref().map(|result| &result.next).filter(|next| !next.is_empty());
    caveats.extend(next.map(|next| format!("Next: {next}.")));
    caveats
}

/// Means over runs, at the steps at which all of them were evaluated: a mean over fewer seeds
/// from some step on would show a jump that no run made.
fn curve(arm: &str, runs: &[&[EvaluationRecord]]) -> ArmCurve {
    let mut by_step = BTreeMap::<u64, Vec<&EvaluationRecord>>::new();
    for evaluation in runs.iter().copied().flatten() {
        by_step.entry(evaluation.step).or_default().push(evaluation);
    }
    let complete = by_step.iter().filter(|(_, found)| found.len() == runs.len());
    let points = complete.map(|(&step, found)| {
        let mean = |of: fn(&EvaluationRecord) -> f64| {
            let values: Vec<f64> = found.iter().map(|e| of(e)).collect();
            // Against zeros, the paired test's interval is that of the mean.
            match paired_t(&values, &vec![0.0; values.len()]) {
                Some(test) => (test.difference, test.interval.low, test.interval.high),
                None => (values[0], f64::NAN, f64::NAN),
            }
        };
        let (loss_valid, loss_valid_low, loss_valid_high) = mean(|e| e.loss_valid);
        let (gap, gap_low, gap_high) = mean(|e| e.gap);
        ArmPoint { step, loss_valid, loss_valid_low, loss_valid_high, gap, gap_low, gap_high }
    });
    ArmCurve { arm: arm.to_owned(), seeds: runs.len(), points: points.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_ends_where_the_first_seed_does() {
        let run = |losses: &[f64]| -> Vec<EvaluationRecord> {
            let evaluation = |(i, &loss_valid)| EvaluationRecord {
                step: 10 * (i as u64 + 1),
                loss_valid,
                ..EvaluationRecord::default()
            };
            losses.iter().enumerate().map(evaluation).collect()
        };
        let (a, b) = (run(&[2.0, 1.0, 0.5]), run(&[3.0, 2.0]));
        let both = curve("x", &[&a, &b]);
        let means: Vec<_> = both.points.iter().map(|p| (p.step, p.loss_valid)).collect();
        assert_eq!(means, [(10, 2.5), (20, 1.5)]);
        // Two values a and b: t(0.975, 1) = 12.706 times |a − b|/2 to either side.
        assert!((both.points[0].loss_valid_high - 2.5 - 6.353).abs() < 1e-3);
        let alone = curve("x", &[&a]);
        assert_eq!(alone.points.len(), 3);
        assert!(alone.points[0].loss_valid_low.is_nan());
        assert!(curve("x", &[]).points.is_empty());
    }
}
