//! Every key a recipe may have: its table, what it takes, and what it means. One list feeds the
//! checks, the nearest-name advice, and whatever wants to print or complete keys.

use super::amount::Unit;

/// A key of one of the fixed tables. Keys of `[regularize]`, and the knobs of an optimizer or of a
/// schedule's shape, come from their cards instead.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub table: &'static str,
    pub name: &'static str,
    pub takes: Takes,
    pub meaning: &'static str,
}

/// What a key's value may be.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// A whole number within these bounds, both included.
    Count {
        min: u64,
        max: u64,
    },
    /// A whole number within these bounds, or this word.
    CountOr {
        min: u64,
        max: u64,
        word: &'static str,
    },
    /// A finite number: more than `above` and at most `most`.
    Number {
        above: f64,
        most: f64,
    },
    /// A finite number from `least` to `most`, both included.
    Closed {
        least: f64,
        most: f64,
    },
    Flag,
    /// Text; the string says what it names.
    Text(&'static str),
    /// One text or a list of texts.
    Texts(&'static str),
    Choice(&'static [&'static str]),
    /// An amount in one of these units.
    Amount(&'static [Unit]),
    /// A share such as `0.1` or `"10%"`, `"last 10%"`, or one or more paths.
    Part,
}

impl Takes {
    /// The allowed values in words, for the note below an error.
    pub fn allowed(&self) -> String {
        match *self {
            Takes::Count { min, max } => format!("a whole number from {min} to {max}"),
            Takes::CountOr { min, max, word } => {
                format!("a whole number from {min} to {max}, or \"{word}\"")
            }
            Takes::Number { above, most } => format!("a number above {above}, at most {most}"),
            Takes::Closed { least, most } => format!("a number from {least} to {most}"),
            Takes::Flag => "true or false".into(),
            Takes::Text(what) => format!("a text: {what}"),
            Takes::Texts(what) => format!("a text or a list of texts: {what}"),
            Takes::Choice(among) => {
                among.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ")
            }
            Takes::Amount(units) => {
                units.iter().map(|u| u.example()).collect::<Vec<_>>().join(", ")
            }
            Takes::Part => "0.1, \"10%\", \"last 10%\", or a path or list of paths".into(),
        }
    }
}

/// The tables of a recipe, in the order they are written.
pub const TABLES: &[&str] =
    &["data", "model", "optimizer", "schedule", "batch", "regularize", "evaluate", "run"];

const HORIZON: &[Unit] = &[Unit::Steps, Unit::Epochs, Unit::Tokens, Unit::Time];
const EVERY: &[Unit] = &[Unit::Steps, Unit::Epochs, Unit::Time, Unit::Share, Unit::End];
const SIZE: u64 = 1 << 20;

macro_rules! keys {
    ($($table:literal $name:literal $takes:expr, $meaning:literal;)*) => {
        &[$(Key { table: $table, name: $name, takes: $takes, meaning: $meaning },)*]
    };
}

/// All keys with a fixed name.
pub static KEYS: &[Key] = keys! {
    "data" "train" Takes::Texts("files, folders or globs"), "what to train on";
    "data" "task" Takes::Choice(&["lm", "mlm", "classify", "qa", "seq2seq"]),
        "what is learned: the next token, masked tokens, labels, answers, or a text from a text";
    "data" "validation" Takes::Part,
        "held out to judge by: a share of the documents, the last part, or files";
    "data" "test" Takes::Part, "held out a second time, touched by nothing; left out by default";
    "data" "field" Takes::Text("a field's name"), "the text's field in JSON and CSV records";
    "data" "text" Takes::Text("a field's name"), "classify: the text's field in records";
    "data" "pair" Takes::Text("a field's name"), "classify: the field of a second text";
    "data" "label" Takes::Text("a field's name"), "classify: the label's field";
    "data" "question" Takes::Text("a field's name"), "qa: the question's field in records";
    "data" "context" Takes::Text("a field's name"), "qa: the field of the text with the answer";
    "data" "answers" Takes::Text("a field's name"), "qa: the answers' field";
    "data" "stride" Takes::Count { min: 1, max: SIZE },
        "qa: tokens by which a window of a long context starts after the one before";
    "data" "limit" Takes::Count { min: 2, max: 1 << 40 },
        "classify, qa, seq2seq: train on so many examples only; of labels every one at its share";
    "data" "mask-rate" Takes::Number { above: 0.0, most: 0.9 },
        "mlm: share of tokens that are masked and to be told";
    "data" "whole-word" Takes::Flag, "mlm: the tokens of a word are masked together";
    "data" "source" Takes::Text("a field's name"),
        "seq2seq: the field to read in records (a dot leads into an object: translation.de)";
    "data" "target" Takes::Text("a field's name"), "seq2seq: the field to write in records";
    "data" "boundary"
        Takes::Choice(&["auto", "blank-line", "record", "end-of-text", "file", "contiguous"]),
        "what ends a document";
    "data" "tokenizer"
        Takes::Text("\"char\", \"byte\", \"bpe\", \"unigram\", \"wordpiece\", or the path of a \
            tokenizer.json"),
        "trained on the training split, or read from a file";
    "data" "vocabulary" Takes::Count { min: 2, max: 1_000_000 },
        "tokens the trained tokenizer may have";
    "data" "duplicates" Takes::Choice(&["remove-leaks", "remove-all", "report"]),
        "what happens to training documents that also stand in a held-out split";
    "data" "seed" Takes::Count { min: 0, max: i64::MAX as u64 },
        "chooses the documents that are held out; run.seed does where it is left out";
    "model" "family" Takes::Choice(&["gpt2", "llama", "bert", "bart", "marian"]),
        "the architecture; bert reads both ways, bart and marian read a source and write a target";
    "model" "from" Takes::Text("a Hugging Face folder or a run"),
        "weights to start from instead of random ones; the sizes come with them";
    "model" "layers" Takes::Count { min: 1, max: 1000 }, "blocks";
    "model" "heads" Takes::Count { min: 1, max: 1024 }, "attention heads; they divide the width";
    "model" "kv-heads" Takes::Count { min: 1, max: 1024 },
        "key and value heads of llama; they divide the heads";
    "model" "width" Takes::Count { min: 2, max: SIZE }, "channels between blocks";
    "model" "hidden" Takes::Count { min: 1, max: 4 * SIZE },
        "channels within the feed-forward part";
    "model" "context" Takes::Count { min: 2, max: SIZE },
        "positions the model sees, and the length of a training window";
    "model" "activation" Takes::Choice(&["gelu-tanh", "gelu-erf"]), "nonlinearity of gpt2 and bert";
    "model" "qk-norm" Takes::Flag, "llama with normalized queries and keys";
    "model" "norm-epsilon" Takes::Number { above: 0.0, most: 0.1 },
        "added to the variance in a norm";
    "model" "rope-theta" Takes::Number { above: 1.0, most: 1e9 },
        "base of llama's rotary positions";
    "model" "init-std" Takes::Number { above: 0.0, most: 1.0 },
        "standard deviation of the initial weights";
    "optimizer" "name" Takes::Text("an optimizer; `heldout list optimizers` shows them"),
        "the update rule";
    "optimizer" "learning-rate" Takes::Number { above: 0.0, most: 100.0 }, "the schedule's peak";
    "schedule" "horizon" Takes::Amount(HORIZON), "how long to train at most";
    "schedule" "shape" Takes::Text("a schedule; `heldout list schedules` shows them"),
        "how the learning rate moves";
    "schedule" "warmup" Takes::Amount(&[Unit::Steps, Unit::Share]),
        "linear rise from zero before the shape";
    "batch" "size" Takes::CountOr { min: 1, max: SIZE, word: "full" },
        "sequences per update, or the whole training split";
    "batch" "micro" Takes::CountOr { min: 1, max: SIZE, word: "auto" },
        "sequences at a time; the update does not depend on it, memory does";
    "evaluate" "every" Takes::Amount(EVERY), "between two evaluations";
    "evaluate" "windows" Takes::CountOr { min: 1, max: 1 << 32, word: "all" },
        "validation windows scored at each evaluation";
    "evaluate" "train-windows" Takes::Count { min: 1, max: 1 << 32 },
        "training windows scored beside them, always the same ones";
    "evaluate" "samples" Takes::Count { min: 0, max: 100 }, "texts generated at each evaluation";
    "evaluate" "sample-tokens" Takes::Count { min: 1, max: 100_000 }, "tokens of each such text";
    "evaluate" "written" Takes::Count { min: 0, max: 1 << 32 },
        "seq2seq: held-out texts written at each evaluation, one token at a time, and scored";
    "evaluate" "metrics" Takes::Choice(&["auto", "translation", "summary"]),
        "seq2seq: BLEU and chrF, or ROUGE; auto: ROUGE where targets are less than half as long";
    "evaluate" "monitor" Takes::Choice(&[
        "loss", "accuracy", "f1", "mcc", "exact-match", "bleu", "chrf", "rouge1", "rouge2",
        "rougeL",
    ]),
        "what the best weights are best in, on held-out data; early stopping watches it too";
    "evaluate" "baseline" Takes::Choice(&["auto", "n-gram", "none"]),
        "an n-gram model to beat, scored at the start; auto: unless it would take too long";
    "run" "seed" Takes::Count { min: 0, max: i64::MAX as u64 }, "everything random follows from it";
    "run" "precision" Takes::Choice(&["auto", "f32", "bf16"]), "of the matrix products";
    "run" "threads" Takes::CountOr { min: 1, max: 1024, word: "auto" },
        "the result does not depend on it";
    "run" "memory" Takes::Choice(&["auto", "keep", "recompute"]),
        "activations wait for the backward pass, or are computed anew; auto: as memory allows";
    "run" "isa" Takes::Choice(&["auto", "portable", "avx2", "avx512"]),
        "instructions to compute with; the last bits of results depend on it";
    "run" "checkpoint" Takes::Amount(EVERY), "between two checkpoints";
    "run" "keep" Takes::Count { min: 1, max: 1_000_000 }, "checkpoints kept besides the best";
    "run" "histograms" Takes::Amount(&[Unit::Evaluations, Unit::Never]),
        "between two histograms of the weights for TensorBoard";
};

/// The fixed keys of one table.
pub fn keys_of(table: &str) -> impl Iterator<Item = &'static Key> + Clone + use<'_> {
    KEYS.iter().filter(move |k| k.table == table)
}
