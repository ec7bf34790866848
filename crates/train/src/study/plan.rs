//! Which trial comes next: rates first, then seed by seed, so that every stop leaves whole pairs.

use std::collections::BTreeSet;

use heldout_record::study::{Study, TrialEvent};

use super::conduct::Analyst;

/// One trial of a study.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialSpec {
    pub arm: String,
    pub seed: u64,
    /// Of the recipe's learning rate.
    pub rate_factor: f64,
    /// Whether it only chooses the arm's rate.
    pub is_tuning: bool,
}

impl TrialSpec {
    /// The trial's name, and that of its folder.
    pub fn name(&self) -> String {
        match self.is_tuning {
            true => format!("{}-rate{}", self.arm, self.rate_factor),
            false => format!("{}-seed{}", self.arm, self.seed),
        }
    }
}

/// What to do now.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Run this one; the number is the place of its seed, none for a trial of a rate.
    Run(TrialSpec, Option<usize>),
    /// Others must end first.
    Wait,
    /// There is nothing left to do.
    Done,
}

/// The next trial, given what has ended and what is running.
pub fn next(
    study: &Study,
    events: &[TrialEvent],
    running: &BTreeSet<String>,
    analyst: &dyn Analyst,
) -> Next {
    let ended: BTreeSet<&str> = events
        .iter()
        .filter(|e| matches!(e, TrialEvent::Finished(_) | TrialEvent::Failed(_)))
        .filter_map(TrialEvent::trial)
        .collect();
    let is_open = |spec: &TrialSpec| !ended.contains(spec.name().as_str());
    let is_free = |spec: &TrialSpec| is_open(spec) && !running.contains(&spec.name());
    let rates: Vec<TrialSpec> = rate_trials(study).into_iter().filter(is_open).collect();
    if !rates.is_empty() {
        let free = rates.into_iter().find(is_free);
        return free.map_or(Next::Wait, |spec| Next::Run(spec, None));
    }
    let looked = events.iter().filter_map(|event| match event {
        TrialEvent::Looked(look) => Some(look.seeds),
        _ => None,
    });
    let looked = looked.max().unwrap_or(0);
    let mut is_waiting = false;
    for (place, seed) in study.seeds.iter().enumerate() {
        let wanted = analyst.arms_wanted(study, events, place);
        if wanted.is_empty() {
            break;
        }
        // Which arms go on is known only after the look.
        if study.rule.looks.iter().any(|n| *n <= place as u64 && *n > looked) {
            return Next::Wait;
        }
        for arm in wanted {
            let rate_factor = analyst.rate_factor(&arm, events);
            let spec = TrialSpec { arm, seed: *seed, rate_factor, is_tuning: false };
            if is_free(&spec) {
                return Next::Run(spec, Some(place));
            }
            is_waiting |= is_open(&spec);
        }
    }
    if is_waiting { Next::Wait } else { Next::Done }
}

fn rate_trials(study: &Study) -> Vec<TrialSpec> {
    let Some(tuning) = &study.tuning else { return Vec::new() };
    let of_arm = |arm: &String| {
        let spec = |factor: &f64| TrialSpec {
            arm: arm.clone(),
            seed: tuning.seed,
            rate_factor: *factor,
            is_tuning: true,
        };
        tuning.factors.iter().map(spec).collect::<Vec<_>>()
    };
    study.arms.iter().flat_map(|arm| of_arm(&arm.name)).collect()
}
