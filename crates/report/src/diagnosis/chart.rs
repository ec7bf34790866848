//! The figures that the rules look at, gathered once from a run's events.

use heldout_record::{
    DataRecord, EvaluationRecord, Event, Examination, Receipt, Started, StepRecord, StopReason,
};
use serde::Serialize;

use super::Evidence;
use crate::summary::RunSummary;

/// Steps that a value is compared with to call it a spike.
const SPIKE_WINDOW: usize = 50;
/// Times the median of the steps before: above it a gradient norm is a spike.
const GRADIENT_SPIKE: f64 = 10.0;
/// Median absolute deviations above the median of the steps before, and least nats above it, that
/// make a batch loss a spike.
const LOSS_SPIKE: (f64, f64) = (8.0, 0.3);

/// Statistics of gradients and updates over the recorded steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Vitals {
    /// Steps that were recorded (of long runs a regular sample).
    pub steps: u64,
    /// Median gradient norm of the first quarter, before clipping.
    pub gradient_norm_early: f64,
    /// Of the last quarter.
    pub gradient_norm_late: f64,
    /// The largest, and where it was.
    pub gradient_norm_most: f64,
    pub gradient_norm_most_step: u64,
    /// Steps whose gradient norm was more than ten times the median of the 50 before.
    pub gradient_spikes: u64,
    /// Steps whose loss jumped out of the 50 before.
    pub loss_spikes: u64,
    /// Share of steps whose gradient was clipped; absent where nothing clips.
    pub clipped_share: Option<f64>,
    /// The same of the second half.
    pub clipped_share_late: Option<f64>,
    /// ‖Δw‖/‖w‖ of single updates: the median over the evaluations, and the last.
    pub update_ratio: Option<f64>,
    pub update_ratio_last: Option<f64>,
    /// How often the explosion guard acted.
    pub guard_interventions: u64,
}

/// A run as the rules see it.
pub(super) struct Chart<'a> {
    pub summary: RunSummary,
    pub steps: Vec<&'a StepRecord>,
    pub planned: &'a [String],
    pub examination: Option<&'a Examination>,
    pub vitals: Vitals,
}

impl<'a> Chart<'a> {
    pub fn new(events: &'a [Event], evidence: &'a Evidence) -> Chart<'a> {
        let step = |event: &'a Event| match event {
            Event::Step(step) => Some(step),
            _ => None,
        };
        let steps: Vec<&StepRecord> = events.iter().filter_map(step).collect();
        let summary = RunSummary::from_events(events);
        let ratio = |event: &Event| match event {
            Event::Evaluation(evaluation) => evaluation.update_ratio,
            _ => None,
        };
        let ratios: Vec<f64> = events.iter().filter_map(ratio).filter(|r| r.is_finite()).collect();
        let vitals = Vitals {
            update_ratio: (!ratios.is_empty()).then(|| median(ratios.iter().copied())),
            update_ratio_last: ratios.last().copied(),
            guard_interventions: summary.guards.len() as u64,
            ..vitals(&steps, &summary.receipts)
        };
        Chart {
            summary,
            steps,
            planned: &evidence.planned,
            examination: evidence.examination.as_ref(),
            vitals,
        }
    }

    pub fn evaluations(&self) -> &[EvaluationRecord] {
        &self.summary.evaluations
    }

    pub fn started(&self) -> Option<&Started> {
        self.summary.started.as_ref()
    }

    pub fn data(&self) -> Option<&DataRecord> {
        self.started()?.data.as_ref()
    }

    /// The last evaluation whose figures are numbers.
    pub fn last(&self) -> Option<&EvaluationRecord> {
        let mut finite = self.evaluations().iter().rev();
        finite.find(|e| e.loss_valid.is_finite() && e.loss_train.is_finite())
    }

    /// The last evaluation at or before this share of the way to the last one.
    pub fn at_share(&self, share: f64) -> Option<&EvaluationRecord> {
        let end = self.last()?.step as f64;
        self.evaluations().iter().rev().find(|e| e.step as f64 <= share * end)
    }

    /// The last receipt of a technique: what it showed at the end, where it did.
    pub fn receipt(&self, technique: &str) -> Option<&Receipt> {
        self.summary.receipts.iter().rev().find(|receipt| receipt.technique == technique)
    }

    /// A figure of a technique's last receipt.
    pub fn measured(&self, technique: &str, figure: &str) -> Option<f64> {
        self.receipt(technique)?.measured.get(figure).copied()
    }

    pub fn is_live(&self, technique: &str) -> bool {
        self.receipt(technique).is_some()
    }

    pub fn reason(&self) -> Option<StopReason> {
        self.summary.stopped.as_ref().map(|stopped| stopped.reason)
    }
}

/// Everything but the update ratios and the guard.
fn vitals(steps: &[&StepRecord], receipts: &[Receipt]) -> Vitals {
    let norms: Vec<f64> = steps.iter().map(|step| step.gradient_norm).collect();
    let quarter = steps.len().div_ceil(4);
    let most = steps
        .iter()
        .filter(|step| step.gradient_norm.is_finite())
        .max_by(|a, b| a.gradient_norm.total_cmp(&b.gradient_norm));
    let is_clipping = receipts.iter().any(|receipt| receipt.technique == "gradient-clipping");
    let clipped = |part: &[&StepRecord]| {
        // The two norms are sums of their own: equal ones may differ in the last digits.
        let is_clipped = |s: &&&StepRecord| s.gradient_norm_clipped < s.gradient_norm * 0.999;
        let share = part.iter().filter(is_clipped).count() as f64 / part.len().max(1) as f64;
        (is_clipping && !part.is_empty()).then_some(share)
    };
    Vitals {
        steps: steps.len() as u64,
        gradient_norm_early: median(norms.iter().take(quarter).copied()),
        gradient_norm_late: median(norms.iter().rev().take(quarter).copied()),
        gradient_norm_most: most.map_or(0.0, |step| step.gradient_norm),
        gradient_norm_most_step: most.map_or(0, |step| step.step),
        gradient_spikes: gradient_spikes(&norms),
        loss_spikes: loss_spikes(steps),
        clipped_share: clipped(steps),
        clipped_share_late: clipped(&steps[steps.len() / 2..]),
        ..Vitals::default()
    }
}

fn gradient_spikes(norms: &[f64]) -> u64 {
    let spikes = norms.windows(SPIKE_WINDOW + 1).filter(|window| {
        let (now, before) = window.split_last().expect("a window is not empty");
        *now > GRADIENT_SPIKE * median(before.iter().copied())
    });
    spikes.count() as u64
}

fn loss_spikes(steps: &[&StepRecord]) -> u64 {
    let losses: Vec<f64> = steps.iter().map(|step| step.loss_train).collect();
    let (deviations, least) = LOSS_SPIKE;
    let spikes = losses.windows(SPIKE_WINDOW + 1).filter(|window| {
        let (now, before) = window.split_last().expect("a window is not empty");
        let middle = median(before.iter().copied());
        let spread = median(before.iter().map(|loss| (loss - middle).abs()));
        *now > middle + (deviations * spread).max(least)
    });
    spikes.count() as u64
}

/// The middle of the finite values; 0 of none.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
