//! Sound values where a recipe says nothing: plain functions of the data's size and the machine.
//!
//! They aim at the lowest held-out loss within a time budget. The rules are rough on purpose and
//! every one is printed as the reason of the value it chose.

use heldout_kernels::Isa;
use heldout_model::Head;

/// What is known about the data before it is tokenized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CorpusFacts {
    /// Bytes of the training inputs; compressed files count as four times their size.
    pub bytes: u64,
}

/// What is known about the data after it is tokenized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenFacts {
    pub tokens_train: u64,
    pub tokens_validation: u64,
    pub vocabulary: usize,
    /// UTF-8 bytes per validation token.
    pub bytes_per_token: f64,
    /// Where the data are labelled texts.
    pub examples: Option<ExampleFacts>,
    /// Where texts are read passage by passage: tokens of a document on average.
    pub passage: Option<f64>,
    /// Where the data are pairs of texts.
    pub pairs: Option<PairCounts>,
}

impl TokenFacts {
    /// Tokens of a sequence on average, of which the longest have `context`; of a pair both sides.
    pub fn sequence_length(&self, context: usize) -> f64 {
        let context = context as f64;
        match (&self.examples, &self.pairs, self.passage) {
            (Some(examples), ..) => examples.length_mean,
            (_, Some(pairs), _) => pairs.length_mean,
            (_, _, Some(passage)) => passage.clamp(1.0, context),
            (None, None, None) => context,
        }
    }
}

/// What is known about pairs of texts after they are tokenized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairCounts {
    pub train: u64,
    pub validation: u64,
    /// Tokens of a training pair, both sides together.
    pub length_mean: f64,
    /// Tokens that either side may have.
    pub longest: usize,
    /// Ids that end a text and that fill a short one.
    pub end: u32,
    pub padding: u32,
}

/// What is known about labelled texts after they are tokenized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExampleFacts {
    pub train: u64,
    pub validation: u64,
    pub labels: usize,
    /// What they ask of the model's end.
    pub head: Head,
    /// Tokens of a training example.
    pub length_mean: f64,
    /// Tokens that an example may have.
    pub longest: usize,
}

/// What is known about the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    pub threads: usize,
    pub bf16: NativeBf16,
    /// The best instruction set that it has.
    pub isa: Isa,
    /// Bytes that the run may use.
    pub memory: u64,
}

/// Whether the processor multiplies bf16 faster than f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NativeBf16 {
    Yes,
    No,
}

/// Of everything random, the split included.
pub const SEED: u64 = 1;

/// Training time that the defaults aim for when the recipe names no horizon.
pub const BUDGET_SECONDS: f64 = 600.0;

/// Tokens seen per parameter when time is the only limit (Hoffmann et al. 2022 give 20).
const TOKENS_PER_PARAMETER: f64 = 20.0;

/// More passes than this over the same data gain little (Muennighoff et al. 2023 see the value of a
/// repeated token decay with a half-life of about 15 epochs).
const EPOCHS_MOST: f64 = 40.0;

/// Floating-point operations a second that a training step of a small model reaches on one thread.
pub fn flops_per_second(machine: &Machine, precision: &str) -> f64 {
    flops_of_threads(machine.threads, precision)
}

/// The same for so many threads.
pub fn flops_of_threads(threads: usize, precision: &str) -> f64 {
    let per_thread = if precision == "bf16" { 90e9 } else { 60e9 };
    per_thread * threads as f64
}

/// A tokenizer's kind and vocabulary, with the reason.
pub fn tokenizer(facts: &CorpusFacts) -> (&'static str, Option<usize>, String) {
    let megabytes = facts.bytes as f64 / 1e6;
    if megabytes < 3.0 {
        let why = format!("{megabytes:.1} MB is too little to learn words' embeddings from");
        return ("char", None, why);
    }
    // Growing with the square root keeps some hundred occurrences per token at every size.
    let wanted = 1024.0 * (megabytes / 3.0).sqrt();
    let vocabulary = (wanted.log2().round() as u32).clamp(10, 15);
    ("bpe", Some(1 << vocabulary), format!("fits {megabytes:.0} MB of text"))
}

/// The longest labelled text in tokens where nobody says otherwise.
pub const LONGEST_EXAMPLE: usize = 256;

/// The longest question with its context in tokens where nobody says otherwise (Devlin et al.
/// 2019).
pub const LONGEST_CONTEXT: usize = 384;

/// A tokenizer for labelled texts, of which there are seldom many: words and their parts, since
/// labels hang on words.
pub fn tokenizer_of_labelled(facts: &CorpusFacts) -> (&'static str, usize, String) {
    let vocabulary = (facts.bytes as f64 / 50.0).max(1.0).log2().round() as u32;
    let megabytes = facts.bytes as f64 / 1e6;
    ("bpe", 1 << vocabulary.clamp(11, 15), format!("labels hang on words; {megabytes:.1} MB"))
}

/// Passes over unlabelled text at most, for a model that knows the language.
pub const EPOCHS_PRETRAINED: f64 = 10.0;

/// Share of tokens that are masked (Devlin et al. 2019).
pub const MASK_RATE: f64 = 0.15;

/// A tokenizer for masked text: words and their parts, since what surrounds a letter gives it away.
pub fn tokenizer_of_masked(facts: &CorpusFacts) -> (&'static str, usize, String) {
    // Each token must be told often enough to be learned.
    let vocabulary = (facts.bytes as f64 / 250.0).max(1.0).log2().round() as u32;
    let megabytes = facts.bytes as f64 / 1e6;
    let why = format!("parts of words are marked as such; {megabytes:.1} MB");
    ("wordpiece", 1 << vocabulary.clamp(10, 15), why)
}

/// Dropout and decoupled decay for masked text, with the reason.
pub fn regularization_of_masked() -> (f64, f64, String) {
    (0.1, 0.1, "masks are drawn anew in every epoch, so little is learned by heart".into())
}

/// Passages per update, with the reason. `tokens` is how many the run will see.
pub fn batch_of_passages(tokens: f64, length: f64) -> (usize, String) {
    // Of a passage only the masked tokens teach.
    let wanted = (tokens / 2000.0).clamp(2048.0, 65536.0);
    let size = 1usize << ((wanted / length).log2().round().max(0.0) as u32);
    (size, format!("about {:.0} tokens an update, of which some are masked", size as f64 * length))
}

/// The longest source or target in tokens where nobody says otherwise.
pub const LONGEST_SIDE: usize = 256;

/// A tokenizer for both sides of pairs: parts of words, so that a rare one can be written, too.
pub fn tokenizer_of_pairs(facts: &CorpusFacts) -> (&'static str, usize, String) {
    let vocabulary = (facts.bytes as f64 / 500.0).max(1.0).log2().round() as u32;
    let megabytes = facts.bytes as f64 / 1e6;
    ("bpe", 1 << vocabulary.clamp(10, 15), format!("shared by both sides; {megabytes:.1} MB"))
}

/// An encoder-decoder's size, as many layers in both, with the reason.
pub fn seq2seq_size(pairs: &PairCounts) -> (Size, String) {
    let chosen = match pairs.train {
        n if n < 5_000 => size(2, 4, 128),
        n if n < 200_000 => size(3, 4, 256),
        n if n < 2_000_000 => size(4, 6, 384),
        _ => size(6, 8, 512),
    };
    (chosen, format!("suits {} pairs", pairs.train))
}

/// Passes over pairs, with the reason.
pub fn epochs_of_pairs(pairs: &PairCounts, beginning: Beginning) -> (f64, String) {
    match beginning {
        Beginning::Pretrained if pairs.train < 5_000 => {
            (10.0, "few pairs need more passes to move the model".into())
        }
        Beginning::Pretrained => (3.0, "usual for a model that knows the languages".into()),
        Beginning::Scratch if pairs.train < 5_000 => {
            (40.0, "few pairs; the best weights are kept".into())
        }
        Beginning::Scratch if pairs.train < 200_000 => {
            (15.0, "words and grammar are learned from the pairs alone".into())
        }
        Beginning::Scratch => (5.0, "many pairs, each seen a few times".into()),
    }
}

/// Pairs per update, with the reason.
pub fn batch_of_pairs(pairs: &PairCounts, beginning: Beginning) -> (usize, String) {
    match beginning {
        _ if pairs.train < 5_000 => (16, "few pairs: more updates in an epoch".into()),
        Beginning::Pretrained => (32, "usual in fine-tuning".into()),
        Beginning::Scratch => {
            // About two thousand tokens, both sides together.
            let wanted = (2048.0 / pairs.length_mean.max(1.0)).log2().round().clamp(3.0, 7.0);
            (1 << wanted as u32, "about 2,000 tokens an update".into())
        }
    }
}

/// The peak learning rate of an encoder-decoder that starts from nothing, with the reason.
pub fn learning_rate_of_pairs(width: usize) -> (f64, String) {
    let (rate, why) = learning_rate(width);
    (rate / 2.0, format!("{why}; half of a language model's, since gradients pass both stacks"))
}

/// Dropout and decoupled decay for pairs, with the reason.
pub fn regularization_of_pairs(beginning: Beginning) -> (f64, f64, String) {
    match beginning {
        Beginning::Scratch => (0.3, 0.1, "a few thousand pairs are learned by heart soon".into()),
        Beginning::Pretrained => (0.1, 0.01, "as the model was trained".into()),
    }
}

/// A classifier's size, with the reason.
pub fn classifier_size(examples: &ExampleFacts) -> (Size, String) {
    let chosen = match examples.train {
        n if n < 2_000 => size(1, 4, 256),
        n if n < 100_000 => size(1, 6, 384),
        n if n < 1_000_000 => size(4, 4, 256),
        _ => size(6, 6, 384),
    };
    let why = format!("wide and shallow: {} labelled examples teach words", examples.train);
    (chosen, why)
}

/// Whether training starts from weights that know the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    Scratch,
    Pretrained,
}

/// Passes over labelled examples, with the reason.
pub fn epochs_of_examples(examples: &ExampleFacts, beginning: Beginning) -> (f64, String) {
    match beginning {
        Beginning::Pretrained if examples.train < 2_000 => {
            (10.0, "few examples need more passes to move the model".into())
        }
        Beginning::Pretrained => (3.0, "usual for a model that knows the language".into()),
        Beginning::Scratch if examples.train < 100_000 => {
            (6.0, "words are learned from the labels alone, and soon by heart".into())
        }
        Beginning::Scratch => (5.0, "many examples, each seen a few times".into()),
    }
}

/// Labelled examples per update, with the reason.
pub fn batch_of_examples(examples: &ExampleFacts, beginning: Beginning) -> (usize, String) {
    let small = examples.train < 2_000;
    match beginning {
        _ if small => (16, "few examples: more updates in an epoch".into()),
        Beginning::Pretrained => (32, "usual in fine-tuning".into()),
        Beginning::Scratch => (32, "some hundreds of updates in an epoch".into()),
    }
}

/// The peak learning rate for fine-tuning, with the reason.
pub fn learning_rate_pretrained(parameters: usize) -> (f64, String) {
    let rate = match parameters {
        n if n < 2_000_000 => 5e-4,
        n if n < 30_000_000 => 1e-4,
        n if n < 200_000_000 => 5e-5,
        _ => 2e-5,
    };
    (rate, "small steps keep what the model knows; larger models take smaller ones".into())
}

/// Dropout and decoupled decay for labelled texts, with the reason.
pub fn regularization_of_labelled(beginning: Beginning) -> (f64, f64, String) {
    match beginning {
        Beginning::Scratch => (0.3, 0.1, "a few thousand labels are learned by heart soon".into()),
        Beginning::Pretrained => (0.1, 0.01, "as the model was trained".into()),
    }
}

/// Share of tokens dropped, and of the target spread over the other labels, for a classifier that
/// starts from nothing.
pub const TOKENS_DROPPED_OF_LABELLED: f64 = 0.1;
pub const SMOOTHING_OF_LABELLED: f64 = 0.1;

/// The peak learning rate of a classifier that starts from nothing, with the reason.
pub fn learning_rate_of_labelled(width: usize) -> (f64, String) {
    let (rate, _) = learning_rate(width);
    let why = "seldom words should not be learned by heart before common ones are understood";
    (0.4 * rate, why.into())
}

/// Positions, with the reason.
pub fn context(facts: &TokenFacts) -> (usize, String) {
    let wanted = 256;
    let limit = (facts.tokens_validation.min(facts.tokens_train) / 4).max(2) as usize;
    if limit < wanted {
        let context = 1 << limit.ilog2();
        return (context, "a quarter of the smaller split is the most that fits".into());
    }
    (wanted, "long enough for a paragraph, short enough to be quick".into())
}

/// Layers, heads and width of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub layers: usize,
    pub heads: usize,
    pub width: usize,
}

const fn size(layers: usize, heads: usize, width: usize) -> Size {
    Size { layers, heads, width }
}

/// The ladder that the default climbs: heads of 32 to 64 channels, some 30 channels a layer.
pub const LADDER: &[Size] = &[
    size(2, 2, 64),
    size(3, 3, 96),
    size(4, 4, 128),
    size(4, 5, 160),
    size(5, 6, 192),
    size(6, 4, 256),
    size(6, 5, 320),
    size(6, 6, 384),
    size(8, 8, 512),
    size(10, 10, 640),
    size(12, 12, 768),
    size(16, 16, 1024),
];

impl Size {
    /// Parameters of the blocks and of a tied embedding: 12·L·C² + V·C.
    pub fn parameters(&self, vocabulary: usize) -> f64 {
        let width = self.width as f64;
        12.0 * self.layers as f64 * width * width + vocabulary as f64 * width
    }
}

/// The largest model of the ladder that `flops` and the data can train well, with the reason.
pub fn model_size(facts: &TokenFacts, flops: f64) -> (Size, String) {
    // flops = 6·N·D with D = 20·N.
    let by_time = (flops / (6.0 * TOKENS_PER_PARAMETER)).sqrt();
    // Beyond some ten parameters per unique token even strong regularization cannot help.
    let by_data = 10.0 * facts.tokens_train as f64;
    let most = by_time.min(by_data);
    let fits = |s: &&Size| s.parameters(facts.vocabulary) <= most;
    let chosen = LADDER.iter().rev().find(fits).unwrap_or(&LADDER[0]);
    let millions = chosen.parameters(facts.vocabulary) / 1e6;
    let why = if by_time <= by_data {
        format!("{millions:.2} M parameters suit the time at {TOKENS_PER_PARAMETER} tokens each")
    } else {
        let tokens = facts.tokens_train as f64 / 1e6;
        format!("{millions:.2} M parameters suit {tokens:.2} M unique tokens")
    };
    (*chosen, why)
}

/// Sequences per update, with the reason. `tokens` is how many the run will see.
pub fn batch_size(tokens: f64, context: usize) -> (usize, String) {
    let wanted = (tokens / 4000.0).clamp(1024.0, 65536.0);
    let sequences = ((wanted / context as f64).log2().round().max(0.0)) as u32;
    let size = 1usize << sequences;
    (size, format!("{} tokens an update, some thousands of updates in all", size * context))
}

/// Epochs that the budget allows, with the reason.
pub fn epochs(facts: &TokenFacts, parameters: f64, flops: f64) -> (f64, String) {
    let tokens = flops / (6.0 * parameters);
    let affordable = tokens / facts.tokens_train.max(1) as f64;
    if affordable > EPOCHS_MOST {
        return (EPOCHS_MOST, "more passes over the same text gain little".into());
    }
    let rounded = if affordable >= 2.0 { affordable.floor() } else { affordable.max(0.05) };
    let rounded = if rounded < 2.0 { (rounded * 20.0).round() / 20.0 } else { rounded };
    (rounded, format!("about {:.0} min on this machine", BUDGET_SECONDS / 60.0))
}

/// The peak learning rate of the Adam family, with the reason.
pub fn learning_rate(width: usize) -> (f64, String) {
    let rate = 1e-3 * (384.0 / width as f64).sqrt();
    // Two significant digits are as much as the rule knows.
    let scale = 10f64.powi(rate.log10().floor() as i32 - 1);
    let rate = (rate / scale).round() * scale;
    ((rate * 1e9).round() / 1e9, format!("falls with the square root of the width, {width}"))
}

/// Dropout rate and decoupled decay by how often the data is seen, with the reason.
pub fn regularization(epochs: f64) -> (f64, f64, String) {
    let (dropout, decay) = match epochs {
        e if e <= 1.5 => (0.0, 0.1),
        e if e <= 6.0 => (0.1, 0.1),
        _ => (0.2, 0.3),
    };
    let why = match dropout {
        0.0 => "every token is seen about once, so there is little to overfit".into(),
        _ => format!("the data is seen up to {epochs:.0} times"),
    };
    (dropout, decay, why)
}

/// Validation windows per evaluation so that evaluating stays below a tenth of the work.
/// `evaluations` is how many there will be, of windows of `length` tokens.
pub fn evaluation_windows(tokens: f64, evaluations: f64, length: usize) -> usize {
    // An evaluated token costs a third of a trained one.
    let affordable = 0.1 * 3.0 * tokens / evaluations.max(1.0) / length as f64;
    (affordable as usize).max(16)
}

/// Fewer held-out examples than this do not tell weights apart: of a thousand, accuracy has a
/// standard error of about one in a hundred.
const EVALUATED_LEAST: usize = 1000;

/// Held-out examples per evaluation: a quarter of the work, or as many as tell weights apart.
/// `seen` examples are trained on in all.
pub fn evaluation_examples(seen: f64, evaluations: f64) -> usize {
    let affordable = 0.25 * 3.0 * seen / evaluations.max(1.0);
    (affordable as usize).max(EVALUATED_LEAST)
}
