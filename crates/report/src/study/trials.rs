//! The ledger as a table of arms and seeds, and the contrasts that can be computed from it.

use heldout_record::study::{Arm, Contrast, Study, TrialEvent, TrialFailed, TrialResult};
use std::collections::BTreeMap;

use super::sequential::settled_at;

/// Trials that count, by arm and seed.
#[derive(Debug, Default)]
pub struct Trials<'a> {
    finished: BTreeMap<(&'a str, u64), &'a TrialResult>,
    failed: BTreeMap<(&'a str, u64), &'a TrialFailed>,
}

/// Trials of one side of a contrast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// With a result.
    pub finished: u64,
    /// Without one.
    pub failed: u64,
}

impl Side {
    /// Whether nothing ever came of it: two failures and no result.
    pub fn is_hopeless(self) -> bool {
        self.finished == 0 && self.failed >= 2
    }
}

impl<'a> Trials<'a> {
    /// Sorts the lines of a ledger; trials that tuned a rate are left out.
    pub fn new(events: &'a [TrialEvent]) -> Trials<'a> {
        let mut trials = Trials::default();
        for event in events {
            match event {
                TrialEvent::Finished(t) if !t.is_tuning => {
                    trials.finished.insert((&t.arm, t.seed), t);
                }
                TrialEvent::Failed(t) if !t.is_tuning => {
                    trials.failed.insert((&t.arm, t.seed), t);
                }
                _ => {}
            }
        }
        trials
    }

    /// The result of an arm with a seed.
    pub fn get(&self, arm: &str, seed: u64) -> Option<&'a TrialResult> {
        self.finished.get(&(arm, seed)).copied()
    }

    /// Why an arm came to nothing with a seed.
    pub fn failure(&self, arm: &str, seed: u64) -> Option<&'a TrialFailed> {
        self.failed.get(&(arm, seed)).copied()
    }

    /// Whether an arm has run with a seed, whatever came of it.
    pub fn has_ended(&self, arm: &str, seed: u64) -> bool {
        self.finished.contains_key(&(arm, seed)) || self.failed.contains_key(&(arm, seed))
    }

    /// Trials with a result.
    pub fn finished_count(&self) -> usize {
        self.finished.len()
    }

    /// Trials without one.
    pub fn failed_count(&self) -> usize {
        self.failed.len()
    }

    /// An arm's results by seed.
    pub fn of_arm(&self, arm: &str) -> Vec<&'a TrialResult> {
        self.finished.iter().filter(|((name, _), _)| *name == arm).map(|(_, t)| *t).collect()
    }

    /// How often an arm came to nothing.
    pub fn failures_of_arm(&self, arm: &str) -> u64 {
        self.failed.keys().filter(|(name, _)| *name == arm).count() as u64
    }

    /// The contrast for each seed whose arms all have a result: the paired differences.
    pub fn differences(
        &self,
        contrast: &Contrast,
        seeds: &[u64],
        figure: impl Fn(&TrialResult) -> f64,
    ) -> Vec<f64> {
        self.sums(contrast, seeds, figure, |weight| weight)
    }

    /// The contrast's positive terms alone, for the same seeds: the level without the technique.
    pub fn weighted(
        &self,
        contrast: &Contrast,
        seeds: &[u64],
        figure: impl Fn(&TrialResult) -> f64,
    ) -> Vec<f64> {
        self.sums(contrast, seeds, figure, |weight| weight.max(0.0))
    }

    fn sums(
        &self,
        contrast: &Contrast,
        seeds: &[u64],
        figure: impl Fn(&TrialResult) -> f64,
        part: impl Fn(f64) -> f64,
    ) -> Vec<f64> {
        let sum = |seed: &u64| -> Option<f64> {
            let mut sum = 0.0;
            for term in &contrast.terms {
                let trial = self.get(&term.arm, *seed).filter(|t| t.loss_test.is_finite())?;
                sum += part(term.weight) * figure(trial);
            }
            Some(sum)
        };
        seeds.iter().filter_map(sum).collect()
    }

    /// What became of the arms that have the technique, and of those that do not.
    pub fn failures(&self, contrast: &Contrast, seeds: &[u64]) -> (Side, Side) {
        let (mut with, mut without) = (Side::default(), Side::default());
        for term in &contrast.terms {
            let side = if term.weight < 0.0 { &mut with } else { &mut without };
            for seed in seeds {
                side.finished += u64::from(self.finished.contains_key(&(&term.arm, *seed)));
                side.failed += u64::from(self.failed.contains_key(&(&term.arm, *seed)));
            }
        }
        (with, without)
    }
}

/// The arms that the seed at `place` (from 0) must still run: those of contrasts that no look at
/// so many seeds, or fewer, has settled. In the study's order.
pub fn arms_wanted<'a>(study: &'a Study, events: &[TrialEvent], place: usize) -> Vec<&'a Arm> {
    let is_open =
        |c: &&Contrast| settled_at(events, &c.name).is_none_or(|seeds| seeds > place as u64);
    let open: Vec<&Contrast> = study.contrasts.iter().filter(is_open).collect();
    let is_used = |arm: &&Arm| open.iter().any(|c| c.terms.iter().any(|t| t.arm == arm.name));
    study.arms.iter().filter(is_used).collect()
}

/// With how many seeds, from the first on, every arm wanted has run.
pub fn seeds_done(study: &Study, events: &[TrialEvent]) -> usize {
    let trials = Trials::new(events);
    let is_done = |(place, seed): &(usize, &u64)| {
        let wanted = arms_wanted(study, events, *place);
        !wanted.is_empty() && wanted.iter().all(|arm| trials.has_ended(&arm.name, **seed))
    };
    study.seeds.iter().enumerate().take_while(is_done).count()
}
