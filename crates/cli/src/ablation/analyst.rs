//! The statistics of `report` for the loop of `train`, which knows none.

use heldout_record::study::{Look, Study, TrialEvent};
use heldout_report::study;
use heldout_train::study::Analyst;

/// What the evidence says.
pub struct Statistics;

impl Analyst for Statistics {
    fn arms_wanted(&self, study: &Study, events: &[TrialEvent], place: usize) -> Vec<String> {
        let arms = study::arms_wanted(study, events, place);
        arms.into_iter().map(|arm| arm.name.clone()).collect()
    }

    fn look_due(&self, study: &Study, events: &[TrialEvent]) -> Option<u64> {
        study::look_due(study, events)
    }

    fn look(&self, study: &Study, events: &[TrialEvent], seeds: u64) -> Look {
        study::look(study, events, seeds)
    }

    fn seeds_done(&self, study: &Study, events: &[TrialEvent]) -> u64 {
        study::seeds_done(study, events) as u64
    }

    fn rate_factor(&self, arm: &str, events: &[TrialEvent]) -> f64 {
        study::tuned_factor(arm, events)
    }
}
