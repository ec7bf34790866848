//! One run's part of a report.

use heldout_record::manifest::Manifest;
use heldout_record::{
    AnswerBaselineRecord, AnswersRecord, BaselineRecord, ConfusionRecord, EvaluationRecord, Event,
    GuardRecord, LabelBaselineRecord, Notice, Receipt, RecipeLine, SampleRecord, Started,
    StepRecord, Stopped, TextBaselineRecord, TimingRecord, WritingRecord,
};
use serde::Serialize;

use super::Source;
use crate::baseline::{
    Standing, answers, answers_standing, labels, labels_standing, model, texts_apart,
    texts_standing,
};
use crate::diagnosis::{Diagnosis, Evidence, diagnose_with};
use crate::format;
use crate::statistics::normal_interval;
use crate::summary::{RunSummary, Verdict, interval, perplexity, plus_minus, worth};

/// Training steps are gathered into at most this many groups.
const STEP_GROUPS: usize = 240;

/// Everything that is told about a run.
#[derive(Clone, Debug, Serialize)]
pub struct RunPart {
    /// The folder's name; with more of its path where several have the same.
    pub name: String,
    /// As the user gave it.
    pub path: String,
    /// The result in sentences.
    pub lead: Vec<String>,
    pub verdict: Verdict,
    /// What is wrong, since when, what to try.
    pub diagnosis: Diagnosis,
    pub started: Option<Started>,
    pub stopped: Option<Stopped>,
    /// The evaluation with the lowest held-out loss.
    pub best: Option<EvaluationRecord>,
    pub last: Option<EvaluationRecord>,
    /// The result's loss over the whole held-out split, where evaluations saw a sample of it.
    pub whole_split_loss: Option<f64>,
    /// What an n-gram model of the same tokens reaches, where one was made.
    pub baseline: Option<BaselineRecord>,
    /// How far the network is ahead of it.
    pub standing: Option<Standing>,
    /// What a classifier has to beat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_baseline: Option<LabelBaselineRecord>,
    /// What a model that answers questions has to beat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_baseline: Option<AnswerBaselineRecord>,
    /// What its answers are worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswersRecord>,
    /// What a classifier's result takes for what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<ConfusionRecord>,
    /// What a model that writes texts has to beat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_baseline: Option<TextBaselineRecord>,
    /// What its result writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writing: Option<WritingRecord>,
    /// Of the weights that the run is judged by.
    pub evaluations: Vec<EvaluationRecord>,
    /// Neighbouring steps taken together.
    pub steps: Vec<StepSummary>,
    pub recipe: Vec<RecipeLine>,
    pub receipts: Vec<Receipt>,
    pub guards: Vec<GuardRecord>,
    pub notices: Vec<Notice>,
    pub samples: Vec<SampleRecord>,
    pub timing: Option<TimingRecord>,
    /// Median over the recorded steps; 0 when none was recorded.
    pub tokens_per_second: f64,
    /// Training time, stops not counted.
    pub seconds: f64,
    /// With the plan in words and what was found in the data.
    pub manifest: Option<Manifest>,
    /// Papers of the run that could not be read.
    pub problems: Vec<String>,
}

/// Neighbouring training steps: means, and the range of the gradient norm.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StepSummary {
    /// The last step of the group.
    pub step: u64,
    /// Recorded steps in the group.
    pub count: u64,
    /// The loss as trained: with noise, smoothing and penalties.
    pub objective: f64,
    /// Negative log-likelihood under the noise of training.
    pub loss_train: f64,
    pub learning_rate: f64,
    /// Before clipping.
    pub gradient_norm: f64,
    pub gradient_norm_low: f64,
    pub gradient_norm_high: f64,
}

impl RunPart {
    /// Gathers what the run says.
    pub fn new(source: &Source) -> RunPart {
        let summary = RunSummary::from_events(&source.events);
        let mut steps = Vec::new();
        let (mut notices, mut samples, mut confusion) = (Vec::new(), Vec::new(), None);
        for event in &source.events {
            match event {
                Event::Step(step) => steps.push(step),
                Event::Notice(notice) => notices.push(notice.clone()),
                Event::Sample(sample) => samples.push(sample.clone()),
                Event::Confusion(record) => confusion = Some(record.clone()),
                _ => {}
            }
        }
        let mut part = RunPart {
            name: source.name.clone(),
            path: source.path.clone(),
            lead: Vec::new(),
            verdict: summary.verdict(),
            diagnosis: diagnosis(source),
            best: summary.best().cloned(),
            last: summary.last().cloned(),
            whole_split_loss: summary.whole_split(),
            standing: summary.standing(),
            baseline: summary.baseline,
            label_baseline: summary.label_baseline,
            answer_baseline: summary.answer_baseline,
            answers: summary.answers,
            confusion,
            text_baseline: summary.text_baseline,
            writing: summary.writing,
            steps: grouped(&steps, STEP_GROUPS),
            recipe: source.papers.recipe.clone(),
            receipts: last_words(summary.receipts),
            guards: summary.guards,
            notices: distinct(notices),
            samples,
            timing: summary.timing,
            tokens_per_second: summary.tokens_per_second,
            seconds: summary.seconds,
            manifest: source.papers.manifest.clone(),
            problems: source.papers.problems.clone(),
            started: summary.started,
            stopped: summary.stopped,
            evaluations: summary.evaluations,
        };
        part.lead = lead(&part);
        part
    }

    /// Whether it learned labels.
    pub fn is_classifier(&self) -> bool {
        self.started.as_ref().is_some_and(|started| !started.labels.is_empty())
    }

    /// Whether it learned to answer questions.
    pub fn answers_questions(&self) -> bool {
        self.started.as_ref().is_some_and(Started::answers_questions)
    }

    /// What losses are given in.
    pub fn unit(&self) -> String {
        format!("nats per {}", self.started.as_ref().map_or("token", Started::unit))
    }

    /// Whether masked tokens were told.
    pub fn is_masked(&self) -> bool {
        self.started.as_ref().is_some_and(Started::is_masked)
    }

    /// Whether texts are written from texts.
    pub fn is_seq2seq(&self) -> bool {
        self.started.as_ref().is_some_and(Started::is_seq2seq)
    }

    /// A value of the recipe as it is written there.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.recipe.iter().find(|line| line.key == key).map(|line| line.value.as_str())
    }

    /// Evaluations for a table of about `most` rows: one in so many, counted from the first, and
    /// the best and the last in any case. The first value is one in how many.
    pub fn evaluations_shown(&self, most: usize) -> (usize, Vec<&EvaluationRecord>) {
        let every = self.evaluations.len().div_ceil(most).max(1);
        let ends = [&self.best, &self.last].map(|end| end.as_ref().map(|e| e.step));
        let is_shown =
            |(i, e): &(usize, &EvaluationRecord)| i % every == 0 || ends.contains(&Some(e.step));
        let shown = self.evaluations.iter().enumerate().filter(is_shown);
        (every, shown.map(|(_, evaluation)| evaluation).collect())
    }

    /// The hash that stands for all of the run's data.
    pub fn content_hash(&self) -> Option<&str> {
        let files = &self.manifest.as_ref()?.data;
        files.iter().find(|file| file.role == "content").map(|file| file.hash.as_str())
    }
}

/// A technique that is in the recipe is planned.
fn diagnosis(source: &Source) -> Diagnosis {
    let technique = |line: &RecipeLine| {
        let name = line.key.strip_prefix("regularize.")?;
        (line.value != "false").then(|| name.to_owned())
    };
    let planned = source.papers.recipe.iter().filter_map(technique).collect();
    let examination = source.papers.examination.clone();
    diagnose_with(&source.events, &Evidence { planned, examination })
}

/// The result in sentences.
fn lead(run: &RunPart) -> Vec<String> {
    let mut lead = Vec::new();
    if let (Some(best), true) = (&run.best, run.is_classifier() || run.answers_questions()) {
        lead.extend(lead_of_labels(run, best));
    } else if let (Some(best), true) = (&run.best, run.is_masked()) {
        let accuracy = best.metrics.iter().find(|metric| metric.name == "accuracy");
        let found = accuracy.map_or(f64::NAN, |metric| 100.0 * metric.valid);
        lead.push(format!(
            "Held-out loss {} nats per masked token at its best (step {}, epoch {:.1}): perplexity \
             {}; {}% of the masked tokens found.",
            plus_minus(best.loss_valid, best.loss_valid_se),
            format::count(best.step),
            best.epoch,
            perplexity(best.perplexity),
            format::fixed(found, 1),
        ));
    } else if let (Some(best), true) = (&run.best, run.is_seq2seq()) {
        lead.extend(lead_of_texts(run, best));
    } else if let Some(best) = &run.best {
        let bits = format::fixed(best.bits_per_byte, 3);
        lead.push(format!(
            "Held-out loss {} nats per token at its best (step {}, epoch {:.1}): perplexity {}, \
             {bits} bits per byte.",
            plus_minus(best.loss_valid, best.loss_valid_se),
            format::count(best.step),
            best.epoch,
            perplexity(best.perplexity),
        ));
    }
    if let Some(whole) = run.whole_split_loss {
        let whole = format::nats(whole);
        lead.push(format!("Over all of the held-out split, not a sample of it, it is {whole}."));
    }
    let sentence = run.verdict.sentence();
    lead.push(format!("{}.", capitalized(&sentence)));
    if let Some(best) = &run.best {
        let interval = normal_interval(best.gap, best.gap_se, 0.95);
        lead.push(format!(
            "The gap to text it was trained on, measured the same way, was {} at the best step \
             (95% interval {} to {}).",
            format::nats(best.gap),
            format::nats(interval.low),
            format::nats(interval.high),
        ));
    }
    if let (Some(baseline), Some(standing)) = (&run.baseline, run.standing) {
        lead.push(format!(
            "{} reaches {} on the same text: {}.",
            match run.is_masked() {
                true => capitalized(&model(baseline)),
                false => capitalized(&format!("an {}", model(baseline))),
            },
            plus_minus(baseline.loss_valid, baseline.loss_valid_se),
            standing.sentence(),
        ));
    }
    lead
}

/// The figures of a classifier, or of a model that answers questions, in sentences.
fn lead_of_labels(run: &RunPart, best: &EvaluationRecord) -> Vec<String> {
    let figure = |metric: &heldout_record::MetricRecord| {
        let [valid, train] = [metric.valid, metric.train].map(|v| format::fixed(v, 4));
        format!("{} {valid} (on the training sample {train})", metric.name)
    };
    let figures: Vec<String> = best.metrics.iter().map(figure).collect();
    let mut lead = vec![format!(
        "On held-out text at its best (step {}, epoch {:.1}): {}; loss {} {}.",
        format::count(best.step),
        best.epoch,
        figures.join(", "),
        plus_minus(best.loss_valid, best.loss_valid_se),
        run.unit(),
    )];
    if let Some(found) = &run.answers {
        lead.push(format!("The result: {}.", worth(found)));
    }
    if let Some(baseline) = &run.label_baseline {
        let standing = labels_standing(best, baseline).unwrap_or_default();
        lead.push(format!("{}: {standing}.", capitalized(&labels(baseline))));
    }
    if let Some(baseline) = &run.answer_baseline {
        let standing = answers_standing(best, baseline).unwrap_or_default();
        lead.push(format!("{}: {standing}.", capitalized(&answers(baseline))));
    }
    lead
}

/// What a model that writes texts reaches, in sentences.
fn lead_of_texts(run: &RunPart, best: &EvaluationRecord) -> Vec<String> {
    let mut lead = vec![format!(
        "Held-out loss {} nats per token of the targets at its best (step {}, epoch {:.1}): \
         perplexity {}.",
        plus_minus(best.loss_valid, best.loss_valid_se),
        format::count(best.step),
        best.epoch,
        perplexity(best.perplexity),
    )];
    let Some(writing) = &run.writing else {
        let sentence = run.text_baseline.as_ref().and_then(|b| texts_apart(best, b));
        lead.extend(sentence.map(|sentence| format!("{}.", capitalized(&sentence))));
        return lead;
    };
    let figures: Vec<String> = writing.figures.iter().map(interval).collect();
    lead.push(format!(
        "With {} beam(s) it writes {} held-out texts at {}.",
        writing.beams,
        format::count(writing.pairs),
        figures.join(", "),
    ));
    let first = writing.figures.first().map_or("", |figure| figure.name.as_str());
    let beside = writing.beside.iter();
    lead.extend(beside.map(|b| format!("{}.", capitalized(&texts_standing(first, b)))));
    lead
}

pub(crate) fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Without what was said before: a resumed run repeats itself.
fn distinct<T: PartialEq>(items: Vec<T>) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

/// Each technique's receipt: one that repeats an earlier one and adds to it takes its place.
fn last_words(receipts: Vec<Receipt>) -> Vec<Receipt> {
    let mut kept: Vec<Receipt> = Vec::new();
    for receipt in receipts {
        let goes_on = |old: &&mut Receipt| {
            old.technique == receipt.technique && receipt.statement.starts_with(&old.statement)
        };
        match kept.iter_mut().find(goes_on) {
            Some(old) => *old = receipt,
            None => kept.push(receipt),
        }
    }
    kept
}

/// At most `most` groups of neighbouring steps.
fn grouped(steps: &[&StepRecord], most: usize) -> Vec<StepSummary> {
    let size = steps.len().div_ceil(most).max(1);
    steps.chunks(size).map(group).collect()
}

fn group(steps: &[&StepRecord]) -> StepSummary {
    let n = steps.len() as f64;
    let mean = |of: fn(&StepRecord) -> f64| steps.iter().map(|s| of(s)).sum::<f64>() / n;
    let norms = || steps.iter().map(|s| s.gradient_norm);
    StepSummary {
        step: steps.last().map_or(0, |s| s.step),
        count: steps.len() as u64,
        objective: mean(|s| s.objective),
        loss_train: mean(|s| s.loss_train),
        learning_rate: mean(|s| s.learning_rate),
        gradient_norm: mean(|s| s.gradient_norm),
        gradient_norm_low: norms().fold(f64::INFINITY, f64::min),
        gradient_norm_high: norms().fold(f64::NEG_INFINITY, f64::max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_grouped_with_their_range() {
        let record = |step: u64| StepRecord {
            step,
            objective: step as f64,
            gradient_norm: (step % 3) as f64,
            ..StepRecord::default()
        };
        let records: Vec<StepRecord> = (1..=7).map(record).collect();
        let groups = grouped(&records.iter().collect::<Vec<_>>(), 3);
        let brief = |g: &StepSummary| {
            (g.step, g.count, g.objective, g.gradient_norm_low, g.gradient_norm_high)
        };
        assert_eq!(
            groups.iter().map(brief).collect::<Vec<_>>(),
            [(3, 3, 2.0, 0.0, 2.0), (6, 3, 5.0, 0.0, 2.0), (7, 1, 7.0, 1.0, 1.0)]
        );
        assert!(grouped(&[], 3).is_empty());
    }
}
