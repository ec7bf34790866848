//! What a run amounts to: its best evaluation, its gap, its speed, and a verdict in one sentence.

use heldout_record::{
    AnswerBaselineRecord, AnswersRecord, BaselineRecord, EvaluationRecord, Event, GuardRecord,
    LabelBaselineRecord, MetricRecord, ProfileRecord, Receipt, Started, StopReason, Stopped,
    TextBaselineRecord, TimingRecord, WritingRecord,
};
use serde::Serialize;

use crate::baseline::{
    Standing, answers, answers_standing, labels, labels_standing, model, texts, texts_apart,
    texts_standing,
};
use crate::format;
use crate::plot::{Frame, Series, Stroke, plot};
use crate::profile::shares;

/// The facts of one run, gathered from its events in order.
#[derive(Clone, Debug, Default)]
pub struct RunSummary {
    pub started: Option<Started>,
    pub receipts: Vec<Receipt>,
    /// The n-gram model to beat, where one was made.
    pub baseline: Option<BaselineRecord>,
    /// What a classifier has to beat.
    pub label_baseline: Option<LabelBaselineRecord>,
    /// What a model that answers questions has to beat.
    pub answer_baseline: Option<AnswerBaselineRecord>,
    /// What its answers are worth, on the whole held-out split.
    pub answers: Option<AnswersRecord>,
    /// What a model that writes texts has to beat.
    pub text_baseline: Option<TextBaselineRecord>,
    /// What it wrote at the end.
    pub writing: Option<WritingRecord>,
    /// Evaluations of the weights that the run is judged by, in order of steps.
    pub evaluations: Vec<EvaluationRecord>,
    pub guards: Vec<GuardRecord>,
    pub stopped: Option<Stopped>,
    /// One step taken apart, the last where there were several.
    pub profile: Option<ProfileRecord>,
    /// Where the time of the run went.
    pub timing: Option<TimingRecord>,
    /// Median over the recorded steps; 0 when none was recorded.
    pub tokens_per_second: f64,
    /// The last step recorded.
    pub steps: u64,
    /// Training time in seconds, stops not counted.
    pub seconds: f64,
}

/// The run in one sentence, as data.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing was evaluated.
    Unknown,
    /// The loss or a gradient left the finite numbers, or the guard ended the run.
    Diverged { detail: String },
    /// Held-out loss turned at `since_step` and ended `nats` above its best.
    Overfitting { since_step: u64, nats: f64, gap_then: f64, gap_now: f64 },
    /// The last evaluation was the best one.
    Improving { step: u64 },
    /// The best lies behind, but the end is within the measurement's error of it.
    Level { since_step: u64, nats: f64 },
}

impl RunSummary {
    /// Whether masked tokens were told.
    pub fn is_masked(&self) -> bool {
        self.started.as_ref().is_some_and(Started::is_masked)
    }

    /// Whether texts are written from texts.
    pub fn is_seq2seq(&self) -> bool {
        self.started.as_ref().is_some_and(Started::is_seq2seq)
    }

    /// What losses are given in, short: a classifier predicts once a text.
    pub fn unit(&self) -> String {
        format!("nats/{}", self.started.as_ref().map_or("token", Started::unit))
    }

    /// Reads a run's events. Evaluations of other weights than those the best was found with (an
    /// average beside the raw ones) are left out, so that one curve is one kind of weights.
    pub fn from_events(events: &[Event]) -> RunSummary {
        let mut summary = RunSummary::default();
        let mut evaluations = Vec::new();
        let mut speeds = Vec::new();
        for event in events {
            match event {
                Event::Started(started) => summary.started = Some(started.clone()),
                Event::Receipt(receipt) => summary.receipts.push(receipt.clone()),
                Event::Baseline(baseline) => summary.baseline = Some(baseline.clone()),
                Event::LabelBaseline(b) => summary.label_baseline = Some(b.clone()),
                Event::AnswerBaseline(b) => summary.answer_baseline = Some(b.clone()),
                Event::Answers(record) => summary.answers = Some(record.clone()),
                Event::TextBaseline(b) => summary.text_baseline = Some(b.clone()),
                Event::Writing(writing) => summary.writing = Some(writing.clone()),
                Event::Step(step) => {
                    summary.steps = step.step;
                    summary.seconds = step.seconds;
                    speeds.push(step.tokens_per_second);
                }
                Event::Evaluation(evaluation) => evaluations.push(evaluation.clone()),
                Event::Guard(guard) => summary.guards.push(guard.clone()),
                Event::Profile(profile) => summary.profile = Some(profile.clone()),
                Event::Timing(timing) => summary.timing = Some(timing.clone()),
                Event::Stopped(stopped) => {
                    summary.seconds = summary.seconds.max(stopped.seconds);
                    summary.stopped = Some(stopped.clone());
                }
                _ => {}
            }
        }
        summary.tokens_per_second = median(&mut speeds);
        let judged = evaluations
            .iter()
            .filter(|e| e.loss_valid.is_finite())
            .min_by(|a, b| a.loss_valid.total_cmp(&b.loss_valid))
            .map(|best| best.weights.clone());
        summary.evaluations =
            evaluations.into_iter().filter(|e| Some(&e.weights) == judged.as_ref()).collect();
        summary.evaluations.sort_by_key(|e| e.step);
        summary.evaluations.dedup_by_key(|e| e.step);
        summary
    }

    /// The evaluation with the lowest held-out loss; the earliest of equals. Of a classifier the
    /// one that the run itself called best, by whatever it watched.
    pub fn best(&self) -> Option<&EvaluationRecord> {
        let called = self.evaluations.iter().rev().find(|e| e.best && !e.metrics.is_empty());
        if called.is_some() {
            return called;
        }
        self.evaluations
            .iter()
            .filter(|e| e.loss_valid.is_finite())
            .min_by(|a, b| a.loss_valid.total_cmp(&b.loss_valid))
    }

    /// The last evaluation.
    pub fn last(&self) -> Option<&EvaluationRecord> {
        self.evaluations.last()
    }

    /// The result's loss over the whole held-out split, where the evaluations saw a sample of it.
    pub fn whole_split(&self) -> Option<f64> {
        let whole = self.stopped.as_ref()?.best_loss_valid?;
        (whole != self.best()?.loss_valid).then_some(whole)
    }

    /// What simple methods of the task reach, and whether the network beats them.
    fn simple_methods(&self) -> Option<String> {
        let (words, standing) = match (&self.label_baseline, &self.answer_baseline) {
            (Some(beaten), _) => {
                (labels(beaten), self.best().and_then(|best| labels_standing(best, beaten)))
            }
            (None, Some(beaten)) => {
                (answers(beaten), self.best().and_then(|best| answers_standing(best, beaten)))
            }
            (None, None) => return None,
        };
        Some(words + &standing.map(|s| format!("; {s}")).unwrap_or_default())
    }

    /// How the best evaluation stands against the n-gram model, over the same windows.
    pub fn standing(&self) -> Option<Standing> {
        let (best, baseline) = (self.best()?, self.baseline.as_ref()?);
        Some(Standing::apart(
            (best.loss_valid, best.loss_valid_se),
            (baseline.loss_valid, baseline.loss_valid_se),
        ))
    }

    /// Judges the run by its evaluations.
    ///
    /// A rise counts as overfitting when it exceeds the standard error of the best held-out loss
    /// (and 0.002 nats). Both losses are over the same tokens, so the error of their difference
    /// is smaller than that: the rule errs on the quiet side.
    pub fn verdict(&self) -> Verdict {
        if let Some(stopped) = &self.stopped
            && stopped.reason == StopReason::Diverged
        {
            return Verdict::Diverged { detail: stopped.detail.clone() };
        }
        let (Some(best), Some(last)) = (self.best(), self.last()) else {
            return Verdict::Unknown;
        };
        let nats = last.loss_valid - best.loss_valid;
        if best.step == last.step {
            Verdict::Improving { step: best.step }
        } else if nats > best.loss_valid_se.max(0.002) || nats.is_nan() {
            let since_step = best.step;
            Verdict::Overfitting { since_step, nats, gap_then: best.gap, gap_now: last.gap }
        } else {
            Verdict::Level { since_step: best.step, nats }
        }
    }

    /// The two like-for-like curves, held-out first.
    pub fn curves(&self) -> Vec<Series> {
        let curve = |name: &str, stroke, loss: fn(&EvaluationRecord) -> f64| Series {
            name: name.to_owned(),
            stroke,
            points: self.evaluations.iter().map(|e| (e.step as f64, loss(e))).collect(),
        };
        vec![
            curve("held-out", Stroke::Solid, |e| e.loss_valid),
            curve("train", Stroke::Dashed, |e| e.loss_train),
        ]
    }

    /// The picture of both curves with the best evaluation marked.
    pub fn picture(&self, frame: &Frame) -> Vec<String> {
        let mark = self.best().map(|best| (best.step as f64, best.loss_valid));
        plot(&self.curves(), &Frame { mark, ..frame.clone() })
    }

    /// What the result writes, and what needs no model to do so.
    fn written(&self) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        let mut row = |label: &str, text: String| rows.push((label.to_owned(), text));
        let Some(writing) = &self.writing else {
            if let Some(baseline) = &self.text_baseline {
                let standing = self.best().and_then(|best| texts_apart(best, baseline));
                let standing = standing.map(|s| format!("; {s}")).unwrap_or_default();
                row("baseline", texts(baseline) + &standing);
            }
            return rows;
        };
        let figures: Vec<String> = writing.figures.iter().map(interval).collect();
        row(
            "written",
            format!(
                "{} on {} held-out texts, {} beam(s)",
                figures.join(", "),
                format::count(writing.pairs),
                writing.beams
            ),
        );
        let first = writing.figures.first().map_or("", |figure| figure.name.as_str());
        for beside in &writing.beside {
            row("baseline", texts_standing(first, beside));
        }
        rows
    }

    /// What simple methods reach, where no text is written.
    fn beside(&self) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        let mut row = |label: &str, text: String| rows.push((label.to_owned(), text));
        if let Some(baseline) = &self.baseline {
            let loss = plus_minus(baseline.loss_valid, baseline.loss_valid_se);
            let standing = self.standing().map(|s| format!("; {}", s.sentence()));
            row("baseline", format!("{}: {loss}{}", model(baseline), standing.unwrap_or_default()));
        }
        if let Some(beaten) = self.simple_methods() {
            row("baseline", beaten);
        }
        rows
    }

    /// Label and text of each line of the summary table.
    pub fn table(&self) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        let mut row = |label: &str, text: String| rows.push((label.to_owned(), text));
        if let Some(started) = &self.started {
            row("model", started.model.clone());
            row(
                "data",
                format!(
                    "{} training tokens, {} held out",
                    format::count(started.tokens_train),
                    format::count(started.tokens_valid)
                ),
            );
        }
        if let Some(best) = self.best() {
            let epoch = format!("epoch {:.1}", best.epoch);
            let average = if best.weights == "raw" { "" } else { ", averaged weights" };
            row("best", format!("step {} ({epoch}{average})", format::count(best.step)));
            let unit = self.unit();
            let loss = |loss, error| format!("{} {unit}", plus_minus(loss, error));
            for metric in &best.metrics {
                // The column of names has room for ten letters.
                let name = if metric.name == "exact-match" { "exact" } else { &metric.name };
                row(name, figure(metric));
            }
            if let Some(found) = &self.answers {
                row("result", worth(found));
            }
            row("held-out", loss(best.loss_valid, best.loss_valid_se));
            row("train", loss(best.loss_train, best.loss_train_se));
            row("gap", loss(best.gap, best.gap_se) + ", like for like");
            if self.is_masked() {
                let all = perplexity(best.perplexity);
                row("", format!("perplexity {all} of masked tokens"));
            } else if best.metrics.is_empty() {
                let bits = format::fixed(best.bits_per_byte, 3);
                row("", format!("perplexity {}, {bits} bits/byte", perplexity(best.perplexity)));
            }
        }
        rows.extend(self.beside());
        rows.extend(self.written());
        let mut row = |label: &str, text: String| rows.push((label.to_owned(), text));
        if let Some(whole) = self.whole_split() {
            let text = format!("{} {}", format::nats(whole), self.unit());
            row("whole", text + " over all of the held-out split (the above is a sample of it)");
        }
        if self.tokens_per_second > 0.0 {
            let speed = format::count(self.tokens_per_second.round() as u64);
            let text = format!("{speed} tokens/s over {} steps", format::count(self.steps));
            row("speed", format!("{text}, {}", format::duration(self.seconds)));
        }
        if let Some(shares) = self.timing.as_ref().and_then(shares) {
            row("time", shares);
        }
        if !self.guards.is_empty() {
            let last = &self.guards[self.guards.len() - 1];
            let times = if self.guards.len() == 1 { "once" } else { "several times" };
            let text = format!("acted {times}, last at step {}", format::count(last.step));
            row("guard", format!("{text}: {}, {}", last.cause, last.action));
        }
        if let Some(stopped) = &self.stopped {
            row("ended", ending(stopped));
        }
        row("verdict", self.verdict().sentence());
        rows
    }
}

impl Verdict {
    /// The sentence a person reads.
    pub fn sentence(&self) -> String {
        match self {
            Verdict::Unknown => "nothing was evaluated yet".to_owned(),
            Verdict::Diverged { detail } => format!("diverged: {detail}"),
            Verdict::Overfitting { since_step, nats, gap_then, gap_now } => format!(
                "overfitting since step {}: held-out loss rose {} nats above its best, \
                 the gap went from {} to {}",
                format::count(*since_step),
                format::nats(*nats),
                format::nats(*gap_then),
                format::nats(*gap_now)
            ),
            Verdict::Improving { step } => format!(
                "no overfitting: the last evaluation (step {}) was the best; \
                 a longer run may do better",
                format::count(*step)
            ),
            Verdict::Level { since_step, nats } => format!(
                "no overfitting to speak of: level since step {} (the end is {} nats above \
                 the best, within its error)",
                format::count(*since_step),
                format::nats(*nats)
            ),
        }
    }
}

/// `exact match 0.5214 (95%: 0.4901 to 0.5523), F1 ... on all 290 held-out questions`.
pub fn worth(found: &AnswersRecord) -> String {
    let figure = |name: &str, of: &heldout_record::IntervalRecord| {
        let [value, low, high] = [of.value, of.low, of.high].map(|v| format::fixed(v, 4));
        format!("{name} {value} (95%: {low} to {high})")
    };
    format!(
        "{}, {}, on all {} held-out questions",
        figure("exact match", &found.exact_match),
        figure("F1", &found.f1),
        format::count(found.questions)
    )
}

/// `0.812 (train 0.970)`.
fn figure(metric: &MetricRecord) -> String {
    let of = |value| format::figure(&metric.name, value);
    format!("{} (train {})", of(metric.valid), of(metric.train))
}

/// `bleu 31.20 (95%: 29.90 to 32.40)`.
pub(crate) fn interval(figure: &heldout_record::FigureIntervalRecord) -> String {
    let [value, low, high] =
        [figure.value, figure.low, figure.high].map(|value| format::figure(&figure.name, value));
    format!("{} {value} (95%: {low} to {high})", figure.name)
}

/// `1.532 ± 0.006`.
pub fn plus_minus(value: f64, error: f64) -> String {
    format!("{} ± {}", format::nats(value), format::nats(error))
}

/// Perplexity with a sensible number of decimals.
pub fn perplexity(value: f64) -> String {
    match value {
        v if !v.is_finite() => "infinite".to_owned(),
        v if v < 100.0 => format::fixed(v, 2),
        v if v < 1e9 => format::count(v.round() as u64),
        v => format!("{v:.1e}"),
    }
}

fn ending(stopped: &Stopped) -> String {
    let reason = match stopped.reason {
        StopReason::Horizon => "reached its horizon",
        StopReason::EarlyStopping => "stopped early",
        StopReason::Time => "its time was up",
        StopReason::Interrupted => "interrupted",
        StopReason::Diverged => "stopped by the guard",
        StopReason::Failed => "failed",
    };
    // The detail is the reason with its figures.
    let words = if stopped.detail.is_empty() { reason } else { &stopped.detail };
    format!("at step {}: {words}", format::count(stopped.step))
}

fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests;
