//! The events of a run, one a line in `metrics.jsonl`: losses in nats per token, times in seconds.

use crate::answers::{AnswerBaselineRecord, AnswersRecord};
use crate::number;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Anything that a run tells about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run begins, or goes on after a stop.
    Started(Started),
    /// A technique proves that it is live.
    Receipt(Receipt),
    /// Training progress.
    Step(StepRecord),
    /// What an n-gram model reaches on the same windows; once, before the first step.
    Baseline(BaselineRecord),
    /// What simple methods reach on the same labelled texts; once, before the first step.
    LabelBaseline(LabelBaselineRecord),
    /// What simple methods reach on the same questions; once, before the first step.
    AnswerBaseline(AnswerBaselineRecord),
    /// Losses on the training sample and on held-out data.
    Evaluation(EvaluationRecord),
    /// What a classifier's result takes for what, on the whole held-out split; at the end.
    Confusion(ConfusionRecord),
    /// What a model that answers questions reaches on the whole held-out split; at the end.
    Answers(AnswersRecord),
    /// The explosion guard acted.
    Guard(GuardRecord),
    /// A checkpoint is whole on disk.
    Checkpoint(CheckpointRecord),
    /// Text from the model.
    Sample(SampleRecord),
    /// Anything else a user should know.
    Notice(Notice),
    /// Where the time of one step went.
    Profile(ProfileRecord),
    /// Where the time of the run went; at its end.
    Timing(TimingRecord),
    /// The run ended.
    Stopped(Stopped),
}

impl Event {
    /// The step that the event belongs to, where it has one.
    pub fn step(&self) -> Option<u64> {
        match self {
            Event::Started(started) => started.resumed_at,
            Event::Receipt(_) | Event::Baseline(_) | Event::LabelBaseline(_) => None,
            Event::AnswerBaseline(_) => None,
            Event::Step(record) => Some(record.step),
            Event::Evaluation(record) => Some(record.step),
            Event::Confusion(record) => Some(record.step),
            Event::Answers(record) => Some(record.step),
            Event::Guard(record) => Some(record.step),
            Event::Checkpoint(record) => Some(record.step),
            Event::Sample(record) => Some(record.step),
            Event::Notice(notice) => notice.step,
            Event::Profile(record) => Some(record.step),
            Event::Timing(record) => Some(record.step),
            Event::Stopped(stopped) => Some(stopped.step),
        }
    }
}

/// The facts a reader needs to make sense of what follows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// The run's name.
    pub run: String,
    /// The model in one line.
    pub model: String,
    /// Trainable numbers.
    pub parameters: u64,
    /// Tokens in the training split.
    pub tokens_train: u64,
    /// Tokens in the held-out split.
    pub tokens_valid: u64,
    /// Distinct token ids.
    pub vocabulary: u64,
    /// Planned length in steps.
    pub horizon: u64,
    /// "f32" or "bf16".
    pub precision: String,
    /// The device in one line.
    pub device: String,
    /// The step of the checkpoint from which the run goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_at: Option<u64>,
    /// Bytes of held-out text per token, for bits per byte.
    #[serde(with = "number")]
    pub bytes_per_token: f64,
    /// What was found in the data; absent in runs of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataRecord>,
    /// The names of a classifier's labels; none for a language model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// "qa" where questions are answered; nothing where the labels, or their lack, say it all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub task: String,
}

impl Started {
    /// Whether questions are answered.
    pub fn answers_questions(&self) -> bool {
        self.task == "qa"
    }
}

/// What was found in the data, as far as it bears on what a held-out loss means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataRecord {
    /// Documents in the training split.
    pub documents_train: u64,
    /// Documents in the held-out split.
    pub documents_valid: u64,
    /// UTF-8 bytes of training text.
    pub bytes_train: u64,
    /// UTF-8 bytes of held-out text.
    pub bytes_valid: u64,
    /// Documents that equal an earlier one of any split.
    pub exact_duplicates: u64,
    /// Documents nearly equal to an earlier one of the same split.
    pub near_duplicates: u64,
    /// Copies within training that were taken out.
    pub duplicates_removed: u64,
    /// Training documents that occur, or nearly occur, in held-out text.
    pub leaked_documents: u64,
    /// How many of these were taken out of training.
    pub leaked_removed: u64,
    /// Passages that stand word for word in training (after removal) and in held-out text.
    pub shared_passages: u64,
    /// Bytes of held-out text inside such passages.
    pub shared_passage_bytes: u64,
    /// Every shared passage of at least this many bytes was found.
    pub shared_passage_minimum: u64,
    /// Held-out tokens that stand for a character unseen in training.
    pub unknown_valid: u64,
    /// A passage or document that stands in both, in words; empty where there is none.
    pub example: String,
}

/// What a technique measured about itself before the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The technique's name.
    pub technique: String,
    /// One sentence for a human.
    pub statement: String,
    /// The figures behind it.
    #[serde(default, with = "number::map")]
    pub measured: BTreeMap<String, f64>,
}

/// An n-gram model of the same training tokens, scored on the same held-out windows with the same
/// context: what a network has to beat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BaselineRecord {
    /// How it is smoothed: "modified Kneser-Ney".
    pub smoothing: String,
    /// Its order: it looks at the last `order` − 1 tokens.
    pub order: u64,
    /// The orders it was chosen from, each with its loss on training text set aside for that.
    pub choice: Vec<OrderRecord>,
    /// Loss on the windows of the run's evaluations, nats per token.
    #[serde(with = "number")]
    pub loss_valid: f64,
    /// Its standard error, clustered by window.
    #[serde(with = "number")]
    pub loss_valid_se: f64,
    /// exp(loss_valid).
    #[serde(with = "number")]
    pub perplexity: f64,
    /// Bits per byte of held-out text.
    #[serde(with = "number")]
    pub bits_per_byte: f64,
    /// Loss on the whole held-out split, where evaluations see a sample of it.
    #[serde(default, with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub loss_whole: Option<f64>,
    /// Its standard error.
    #[serde(default, with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub loss_whole_se: Option<f64>,
    /// Training tokens counted.
    pub tokens: u64,
    /// Distinct n-grams of all lengths up to the order.
    pub ngrams: u64,
    /// Time it took, in seconds.
    #[serde(with = "number")]
    pub seconds: f64,
    /// Limits that were met, in a sentence: fewer tokens, or lower orders, than there might be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
}

/// What a classifier has to beat, on the same held-out texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabelBaselineRecord {
    /// The label that is always said by the first one.
    pub label: String,
    /// Always the commonest label.
    pub majority: SimpleRecord,
    /// A network of one hidden layer on which words and pairs of words occur.
    pub bag: SimpleRecord,
    /// Words and pairs of words that it knows.
    pub features: u64,
    /// Width of its hidden layer.
    pub hidden: u64,
    /// Passes over the training texts, chosen on a tenth of them set aside.
    pub epochs: u64,
    /// Held-out texts that both were scored on.
    pub examples: u64,
    /// Time it took, in seconds.
    #[serde(with = "number")]
    pub seconds: f64,
}

/// Scores of one simple method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SimpleRecord {
    /// Share of right labels.
    #[serde(with = "number")]
    pub accuracy: f64,
    /// Mean over labels of each one's F1.
    #[serde(with = "number")]
    pub f1: f64,
    /// Nats per text.
    #[serde(with = "number")]
    pub loss: f64,
}

/// What one order of an n-gram model reaches on training text that it was not counted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// Tokens in the longest n-gram.
    pub order: u64,
    /// Nats per token.
    #[serde(with = "number")]
    pub loss: f64,
    /// Its standard error, clustered by window.
    #[serde(with = "number")]
    pub loss_se: f64,
}

/// Training progress at a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Updates made so far.
    pub step: u64,
    /// Target tokens seen so far.
    pub tokens: u64,
    /// Passes over the training split so far.
    #[serde(with = "number")]
    pub epoch: f64,
    /// The loss as trained: with noise, smoothing and penalties, nats per token.
    #[serde(with = "number")]
    pub objective: f64,
    /// Negative log-likelihood under the noise of training, nats per token.
    #[serde(with = "number")]
    pub loss_train: f64,
    /// The rate of the update.
    #[serde(with = "number")]
    pub learning_rate: f64,
    /// Global gradient norm before clipping.
    #[serde(with = "number")]
    pub gradient_norm: f64,
    /// Global gradient norm after clipping.
    #[serde(with = "number")]
    pub gradient_norm_clipped: f64,
    /// Target tokens a second since the last record.
    #[serde(with = "number")]
    pub tokens_per_second: f64,
    /// Training time so far, in seconds, stops not counted.
    #[serde(with = "number")]
    pub seconds: f64,
}

/// Like-for-like losses: the same evaluation on a training sample and on held-out data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Updates made so far.
    pub step: u64,
    /// Target tokens seen so far.
    pub tokens: u64,
    /// Passes over the training split so far.
    #[serde(with = "number")]
    pub epoch: f64,
    /// Loss on the training sample, nats per token.
    #[serde(with = "number")]
    pub loss_train: f64,
    /// Its standard error.
    #[serde(with = "number")]
    pub loss_train_se: f64,
    /// Loss on held-out data, nats per token.
    #[serde(with = "number")]
    pub loss_valid: f64,
    /// Its standard error.
    #[serde(with = "number")]
    pub loss_valid_se: f64,
    /// `loss_valid − loss_train`.
    #[serde(with = "number")]
    pub gap: f64,
    /// Its standard error.
    #[serde(with = "number")]
    pub gap_se: f64,
    /// exp(loss_valid).
    #[serde(with = "number")]
    pub perplexity: f64,
    /// Bits per byte of held-out text.
    #[serde(with = "number")]
    pub bits_per_byte: f64,
    /// Which weights were evaluated: "raw", or the technique that keeps the average, as "ema".
    pub weights: String,
    /// Whether this is the best so far.
    pub best: bool,
    /// Time the evaluation took, in seconds.
    #[serde(with = "number")]
    pub seconds: f64,
    /// ‖Δw‖₂/‖w‖₂ of the update before it; absent in runs of older versions, after a skipped
    /// update, and of averaged weights.
    #[serde(default, with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub update_ratio: Option<f64>,
    /// Held-out target tokens that were scored; 0 in runs of older versions.
    #[serde(default)]
    pub targets_valid: u64,
    /// The task's own figures on the same examples; none for a language model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricRecord>,
}

/// A figure of a task, on the training sample and on held-out data. Higher is better.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricRecord {
    /// "accuracy", "f1".
    pub name: String,
    /// On the training sample.
    #[serde(with = "number")]
    pub train: f64,
    /// On held-out data.
    #[serde(with = "number")]
    pub valid: f64,
}

/// What a classifier's result takes for what, and what it is most wrong about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfusionRecord {
    /// Updates made when the run ended.
    pub step: u64,
    /// Names, in the order of their numbers.
    pub labels: Vec<String>,
    /// How often: rows by the right label, columns by what was said.
    pub counts: Vec<Vec<u64>>,
    /// The worst first.
    pub most_wrong: Vec<WrongRecord>,
}

/// A text that was given another label than it has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WrongRecord {
    /// Its line in its file.
    pub line: u64,
    /// Its beginning.
    pub text: String,
    /// The right label.
    pub label: String,
    /// What was said.
    pub said: String,
    /// What the right label was given.
    #[serde(with = "number")]
    pub probability: f64,
}

/// The explosion guard acted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GuardRecord {
    /// The step whose update was in question.
    pub step: u64,
    /// What was noticed.
    pub cause: String,
    /// What was done.
    pub action: String,
    /// The loss at that step.
    #[serde(with = "number")]
    pub loss: f64,
    /// The gradient norm at that step.
    #[serde(with = "number")]
    pub gradient_norm: f64,
    /// Standard deviations above the window's mean, where that was the reason.
    #[serde(default, with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub z: Option<f64>,
}

/// A checkpoint is whole on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// The step it holds.
    pub step: u64,
    /// Its folder, relative to the run.
    pub path: String,
    /// Whether it is the best so far.
    pub best: bool,
}

/// Text from the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// Updates made so far.
    pub step: u64,
    /// What the model was given.
    pub prompt: String,
    /// What it wrote.
    pub text: String,
}

/// Anything else a user should know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// The step it belongs to, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// The sentence.
    pub text: String,
}

/// Where the time of one step went, op by op.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProfileRecord {
    /// The step, counted from 1.
    pub step: u64,
    /// Target tokens trained on in it.
    pub tokens: u64,
    /// Wall time of the whole step; what the ops do not add up to is overhead between them.
    #[serde(with = "number")]
    pub seconds: f64,
    /// The trace with every single call, relative to the run.
    pub path: String,
    /// The longest first.
    pub ops: Vec<OpRecord>,
}

/// All calls of one op in a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OpRecord {
    /// The op, its part, and the size of its weight.
    pub name: String,
    /// Calls.
    pub calls: u64,
    /// Wall time of all calls.
    #[serde(with = "number")]
    pub seconds: f64,
    /// Floating-point operations of matrix products; 0 where there are none.
    #[serde(with = "number")]
    pub flops: f64,
    /// Bytes that had to be moved; 0 where products bound the op.
    #[serde(with = "number")]
    pub bytes: f64,
}

/// Where the time of the run went: wall time of the training thread in seconds, over all sessions
/// up to now. What the parts do not add up to is reading and writing of the run's other files,
/// receipts, and the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimingRecord {
    /// Updates made.
    pub step: u64,
    /// Training time in all, stops not counted.
    #[serde(with = "number")]
    pub seconds: f64,
    /// Computing in steps: from the batch at hand to the averages after the update.
    #[serde(with = "number")]
    pub step_seconds: f64,
    /// Target tokens trained on in that time.
    pub step_tokens: u64,
    /// Waiting for batches.
    #[serde(with = "number")]
    pub data_seconds: f64,
    /// Scoring text, of the training sample and of the held-out split.
    #[serde(with = "number")]
    pub evaluation_seconds: f64,
    /// Target tokens scored in that time.
    pub evaluation_tokens: u64,
    /// Writing samples of text.
    #[serde(with = "number")]
    pub sample_seconds: f64,
    /// Standing still for checkpoints.
    #[serde(with = "number")]
    pub checkpoint_seconds: f64,
    /// The longest stand-still for one checkpoint.
    #[serde(with = "number")]
    pub checkpoint_seconds_most: f64,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The planned length was reached.
    #[default]
    Horizon,
    /// Held-out loss stopped improving.
    EarlyStopping,
    /// The planned time was used up.
    Time,
    /// A signal asked for it.
    Interrupted,
    /// The loss exploded and the plan said stop.
    Diverged,
    /// An error.
    Failed,
}

/// The run ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stopped {
    /// Updates made.
    pub step: u64,
    /// Why.
    pub reason: StopReason,
    /// The reason in one sentence.
    pub detail: String,
    /// The step of the best held-out loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_step: Option<u64>,
    /// The best held-out loss, nats per token.
    #[serde(default, with = "number::optional", skip_serializing_if = "Option::is_none")]
    pub best_loss_valid: Option<f64>,
    /// Training time in seconds, stops not counted.
    #[serde(with = "number")]
    pub seconds: f64,
}
