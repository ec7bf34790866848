//! A recipe with every value filled in, and where each value came from.

use std::collections::BTreeMap;

use heldout_base::card::Card;
use heldout_base::schedule::Schedule;
use heldout_kernels::{Activations, Isa, Precision};
use heldout_model::ModelConfig;
use heldout_optim::KnobValue as OptimizerValue;
use heldout_regularize::Settings;

use super::amount::Amount;
pub use super::section::Part;

/// Everything a run does, fixed: the same recipe on the same data gives the same run.
#[derive(Clone, Debug)]
pub struct ResolvedRecipe {
    pub data: DataRecipe,
    pub model: ModelRecipe,
    pub optimizer: OptimizerRecipe,
    /// The learning rate over the run.
    pub schedule: ScheduleRecipe,
    pub batch: BatchRecipe,
    /// The techniques, in the catalogue's order; those switched off are listed too.
    pub regularize: Vec<TechniqueRecipe>,
    pub evaluate: EvaluateRecipe,
    pub run: RunRecipe,
    /// By dotted key (`model.layers`): who chose the value, and why.
    pub origins: BTreeMap<String, Origin>,
}

/// Who chose a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub source: OriginSource,
    /// Why, in a few words; empty for values that somebody wrote.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginSource {
    File {
        name: String,
        line: usize,
    },
    CommandLine,
    Default,
    /// Follows from the data's size and kind.
    Data,
    /// Follows from the machine.
    Machine,
    /// `heldout advise` chose it by what the data is like.
    Advice,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.source {
            OriginSource::File { name, line } => write!(f, "{name}:{line}")?,
            OriginSource::CommandLine => write!(f, "command line")?,
            OriginSource::Default => write!(f, "default")?,
            OriginSource::Data => write!(f, "from the data")?,
            OriginSource::Machine => write!(f, "from the machine")?,
            OriginSource::Advice => write!(f, "advice")?,
        }
        if !self.reason.is_empty() {
            write!(f, ": {}", self.reason)?;
        }
        Ok(())
    }
}

/// What is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// The next token of a text.
    LanguageModel,
    /// Tokens of a text that are masked.
    Masked,
    /// A label of each text.
    Classification,
    /// The answer to a question in a context.
    QuestionAnswering,
    /// A text from a text: a translation, a summary.
    Seq2Seq,
}

impl TaskKind {
    /// The word in a recipe.
    pub fn word(self) -> &'static str {
        match self {
            TaskKind::LanguageModel => "lm",
            TaskKind::Masked => "mlm",
            TaskKind::Classification => "classify",
            TaskKind::QuestionAnswering => "qa",
            TaskKind::Seq2Seq => "seq2seq",
        }
    }

    /// The task of that word.
    pub fn named(word: &str) -> TaskKind {
        match word {
            "mlm" => TaskKind::Masked,
            "classify" => TaskKind::Classification,
            "qa" => TaskKind::QuestionAnswering,
            "seq2seq" => TaskKind::Seq2Seq,
            _ => TaskKind::LanguageModel,
        }
    }
}

/// A figure that says how good a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Negative log-likelihood, nats.
    Loss,
    /// Share of right labels.
    Accuracy,
    /// Mean over labels of each one's F1; of answers that of their words, as SQuAD has it.
    F1,
    /// Matthews correlation.
    Mcc,
    /// Share of answers that are a right one, as SQuAD compares them.
    ExactMatch,
    /// Corpus BLEU of texts that were written, 0 to 100.
    Bleu,
    /// Character n-gram F of texts that were written, 0 to 100.
    Chrf,
    /// Words in common with a reference, 0 to 1.
    Rouge1,
    /// Pairs of words in common.
    Rouge2,
    /// The longest common subsequence of words.
    RougeL,
}

impl Metric {
    /// The word in a recipe and in the record.
    pub fn word(self) -> &'static str {
        match self {
            Metric::Loss => "loss",
            Metric::Accuracy => "accuracy",
            Metric::F1 => "f1",
            Metric::Mcc => "mcc",
            Metric::ExactMatch => "exact-match",
            Metric::Bleu => "bleu",
            Metric::Chrf => "chrf",
            Metric::Rouge1 => "rouge1",
            Metric::Rouge2 => "rouge2",
            Metric::RougeL => "rougeL",
        }
    }

    /// The figure of that word.
    pub fn named(word: &str) -> Metric {
        let all = [
            Metric::Accuracy,
            Metric::F1,
            Metric::Mcc,
            Metric::ExactMatch,
            Metric::Bleu,
            Metric::Chrf,
            Metric::Rouge1,
            Metric::Rouge2,
            Metric::RougeL,
        ];
        all.into_iter().find(|metric| metric.word() == word).unwrap_or(Metric::Loss)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct DataRecipe {
    pub task: TaskKind,
    pub train: Vec<String>,
    pub validation: Part,
    pub test: Option<Part>,
    /// Fields of labelled records; inferred where nobody named them.
    pub text: Option<String>,
    pub pair: Option<String>,
    pub label: Option<String>,
    /// Fields of questions; inferred where nobody named them.
    pub question: Option<String>,
    pub context: Option<String>,
    pub answers: Option<String>,
    /// Tokens by which a window of a long context starts after the one before.
    pub stride: Option<usize>,
    /// Labelled examples to train on, where not all.
    pub limit: Option<usize>,
    pub field: Option<String>,
    /// Share of tokens that are masked, where some are.
    pub mask_rate: f64,
    /// Whether the tokens of a word are masked together.
    pub whole_word: bool,
    /// Fields of both sides of a pair; inferred where nobody named them.
    pub source: Option<String>,
    pub target: Option<String>,
    /// `auto`, `blank-line`, `record` or `contiguous`.
    pub boundary: String,
    /// `char`, `byte`, `bpe`, `unigram`, `wordpiece`, or a path.
    pub tokenizer: String,
    /// Only where a vocabulary is trained to a size.
    pub vocabulary: Option<usize>,
    /// `remove-leaks`, `remove-all` or `report`.
    pub duplicates: String,
    /// Of the split, where it is not the run's: replicates with seeds of their own share a split.
    pub seed: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ModelRecipe {
    /// A folder whose weights the run starts from.
    pub from: Option<String>,
    /// With the tokenizer's vocabulary. Whether the head is tied is the plan's to say.
    pub config: ModelConfig,
    /// Positions of a training window; at most the model's.
    pub context: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerRecipe {
    pub name: String,
    /// Every knob but the learning rate, in the card's order.
    pub knobs: Vec<(&'static str, OptimizerValue)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleRecipe {
    /// In steps, epochs, tokens or seconds.
    pub horizon: Amount,
    /// Its peak is the optimizer's learning rate.
    pub rate: Schedule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRecipe {
    /// Sequences per update; `None` is the whole training split.
    pub size: Option<usize>,
    /// Sequences at a time; always a number, so that a resumed run adds in the same order.
    pub micro: usize,
}

#[derive(Clone, Debug)]
pub struct TechniqueRecipe {
    pub card: &'static Card,
    /// `None`: off.
    pub settings: Option<Settings>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvaluateRecipe {
    /// Steps, seconds, a share of the horizon, or only at the end.
    pub every: Amount,
    /// Validation windows (or labelled examples) an evaluation scores; `None` is all of them.
    pub windows: Option<usize>,
    pub train_windows: usize,
    pub samples: usize,
    pub sample_tokens: usize,
    /// Texts that a seq2seq model writes at each evaluation, to be scored.
    pub written: usize,
    pub scored_as: ScoredAs,
    /// What the best weights are best in.
    pub monitor: Metric,
    pub baseline: BaselineChoice,
}

/// Which figures say how good written texts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoredAs {
    /// By the lengths of the training pairs.
    Auto,
    /// BLEU and chrF.
    Translation,
    /// ROUGE-1, ROUGE-2 and ROUGE-L.
    Summary,
}

impl ScoredAs {
    /// The word in a recipe.
    pub fn word(self) -> &'static str {
        match self {
            ScoredAs::Auto => "auto",
            ScoredAs::Translation => "translation",
            ScoredAs::Summary => "summary",
        }
    }

    /// The choice of that word.
    pub fn named(word: &str) -> ScoredAs {
        let all = [ScoredAs::Translation, ScoredAs::Summary];
        all.into_iter().find(|choice| choice.word() == word).unwrap_or(ScoredAs::Auto)
    }
}

/// Whether a run begins with an n-gram model to beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaselineChoice {
    /// Unless it would take too much of the run's time.
    Auto,
    Ngram,
    None,
}

impl BaselineChoice {
    /// The word in a recipe.
    pub fn word(self) -> &'static str {
        match self {
            BaselineChoice::Auto => "auto",
            BaselineChoice::Ngram => "n-gram",
            BaselineChoice::None => "none",
        }
    }

    /// The choice of that word.
    pub fn named(word: &str) -> BaselineChoice {
        let all = [BaselineChoice::Ngram, BaselineChoice::None];
        all.into_iter().find(|choice| choice.word() == word).unwrap_or(BaselineChoice::Auto)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct RunRecipe {
    pub seed: u64,
    /// `f32` or `bf16`: `auto` is resolved, so that a resumed run computes the same.
    pub precision: String,
    /// `None`: as many as the machine has; results do not depend on it.
    pub threads: Option<usize>,
    /// `auto` is resolved, so that a plan shows what was chosen; results do not depend on it.
    pub memory: Activations,
    /// `None`: the best that the machine has.
    pub isa: Option<Isa>,
    pub checkpoint: Amount,
    pub keep: usize,
    pub histograms: Amount,
}

impl RunRecipe {
    /// The precision of products, and of activations that only products read.
    pub fn products(&self) -> Precision {
        match self.precision.as_str() {
            "bf16" => Precision::Bf16,
            _ => Precision::F32,
        }
    }
}
