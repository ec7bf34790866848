//! A run as plain lines, for logs and pipes, and the lines that stay above a live view.

use heldout_record::{BaselineRecord, EvaluationRecord, Event, MetricRecord, Started, StepRecord};
use heldout_report::format;
use heldout_report::summary::plus_minus;

use heldout_report::wrap::truncate;

use super::state::sample_line;
use crate::console::Verbosity;

/// Seconds between two lines of progress.
pub const EVERY: f64 = 5.0;

/// A sample is a glimpse; all of it is in the run's events.
const SAMPLE_CHARACTERS: usize = 160;

/// Decides which events become lines where there is no live view.
#[derive(Default)]
pub struct PlainLines {
    horizon: u64,
    /// Seconds of training, where time is the horizon.
    limit: Option<f64>,
    /// When the run started on the observer's clock, and at which step.
    clock: Option<(f64, u64)>,
    said_at: Option<f64>,
}

impl PlainLines {
    /// For runs that end after `limit` seconds of training, or at their horizon in steps.
    pub fn new(limit: Option<f64>) -> PlainLines {
        PlainLines { limit, ..PlainLines::default() }
    }

    /// The lines for an event at `now` seconds.
    pub fn lines(&mut self, event: &Event, now: f64, verbosity: Verbosity) -> Vec<String> {
        match event {
            Event::Started(started) => {
                self.horizon = started.horizon;
                self.clock = Some((now, started.resumed_at.unwrap_or(0)));
                self.said_at = Some(now);
            }
            Event::Step(step) => {
                let is_due = self.said_at.is_none_or(|said| now - said >= EVERY);
                if !is_due && verbosity < Verbosity::Verbose {
                    return Vec::new();
                }
                self.said_at = Some(now);
                return vec![self.progress(step, now)];
            }
            Event::Evaluation(evaluation) => {
                self.said_at = Some(now);
                return vec![self.evaluation(evaluation)];
            }
            Event::Sample(sample) => {
                let text = truncate(&sample_line(sample), SAMPLE_CHARACTERS);
                return vec![format!("sample at step {}: {text}", format::count(sample.step))];
            }
            _ => {}
        }
        lasting(event, verbosity, self.limit)
    }

    /// `step 1,260/2,000`.
    fn place(&self, step: u64) -> String {
        let step = format::count(step);
        match self.limit {
            Some(_) => format!("step {step}"),
            None => format!("step {step}/{}", format::count(self.horizon)),
        }
    }

    fn progress(&self, step: &StepRecord, now: f64) -> String {
        let speed = format::count(step.tokens_per_second.round() as u64);
        let mut line = format!(
            "{}  epoch {:.2}  loss {}  rate {}  {speed} tokens/s",
            self.place(step.step),
            step.epoch,
            format::nats(step.objective),
            format::rate(step.learning_rate),
        );
        if let Some(limit) = self.limit {
            let left = (limit - step.seconds).max(0.0);
            line.push_str(&format!("  {} left", format::duration(left)));
        } else if let Some((began, from)) = self.clock
            && step.step > from
        {
            let pace = (now - began) / (step.step - from) as f64;
            let left = self.horizon.saturating_sub(step.step) as f64 * pace;
            line.push_str(&format!("  {} left", format::duration(left)));
        }
        line
    }

    fn evaluation(&self, e: &EvaluationRecord) -> String {
        let weights = if e.weights == "raw" { String::new() } else { format!(" ({})", e.weights) };
        format!(
            "{}  epoch {:.2}  held-out {}  train {}  gap {}{}{weights}{}",
            self.place(e.step),
            e.epoch,
            plus_minus(e.loss_valid, e.loss_valid_se),
            plus_minus(e.loss_train, e.loss_train_se),
            format::nats(e.gap),
            e.metrics.first().map(figure).unwrap_or_default(),
            if e.best { "  best so far" } else { "" },
        )
    }
}

/// `  accuracy 81.2% (train 97.0%)`.
fn figure(metric: &MetricRecord) -> String {
    if matches!(metric.name.as_str(), "bleu" | "chrf") {
        return format!("  {} {:.1} (train {:.1})", metric.name, metric.valid, metric.train);
    }
    let [valid, train] = [metric.valid, metric.train].map(|share| 100.0 * share);
    format!("  {} {valid:.1}% (train {train:.1}%)", metric.name)
}

/// The lines that stay whether or not there is a live view: the start, receipts, guards, notices.
pub fn lasting(event: &Event, verbosity: Verbosity, limit: Option<f64>) -> Vec<String> {
    match event {
        Event::Started(started) => start(started, limit),
        Event::Receipt(receipt) => {
            vec![format!("✓ {}: {}", receipt.technique, receipt.statement)]
        }
        Event::Baseline(baseline) => vec![baseline_line(baseline)],
        Event::LabelBaseline(baseline) => {
            vec![format!("baseline   {}", heldout_report::baseline::labels(baseline))]
        }
        Event::AnswerBaseline(baseline) => {
            vec![format!("baseline   {}", heldout_report::baseline::answers(baseline))]
        }
        Event::TextBaseline(baseline) => {
            vec![format!("baseline   {}", heldout_report::baseline::texts(baseline))]
        }
        Event::Guard(guard) => {
            vec![format!("guard, step {}: {}; {}", guard.step, guard.cause, guard.action)]
        }
        Event::Notice(notice) => vec![notice.text.clone()],
        Event::Profile(profile) => {
            let mut lines = vec![String::new()];
            lines.extend(heldout_report::profile::table(profile));
            lines.push(String::new());
            lines
        }
        Event::Checkpoint(checkpoint) if verbosity == Verbosity::Verbose => {
            let best = if checkpoint.best { " (best)" } else { "" };
            vec![format!("checkpoint {}{best}", checkpoint.path)]
        }
        _ => Vec::new(),
    }
}

/// `baseline   n-gram (order 5, modified Kneser-Ney): 1.980 ± 0.012 held out, the loss to beat`.
fn baseline_line(baseline: &BaselineRecord) -> String {
    let loss = plus_minus(baseline.loss_valid, baseline.loss_valid_se);
    let limit = baseline.limit.as_ref().map(|limit| format!(" ({limit})")).unwrap_or_default();
    let model = heldout_report::baseline::model(baseline);
    format!("baseline   {model}: {loss} held out, the loss to beat{limit}")
}

fn start(started: &Started, limit: Option<f64>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(step) = started.resumed_at {
        lines.push(format!("going on from step {}", format::count(step)));
    }
    let parameters = format::short_count(started.parameters);
    lines.push(format!("model      {}, {parameters} parameters", started.model));
    lines.push(format!(
        "tokens     {} to train on, {} held out, vocabulary {}",
        format::count(started.tokens_train),
        format::count(started.tokens_valid),
        format::count(started.vocabulary),
    ));
    let length = match limit {
        Some(seconds) => format::duration(seconds),
        None => format!("{} steps", format::count(started.horizon)),
    };
    lines.push(format!("length     {length}, on {}", started.device));
    lines
}
