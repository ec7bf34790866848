//! `heldout finetune MODEL DATA`: training that starts from a model's weights.

use std::path::PathBuf;

use clap::Args;

use super::train;
use crate::console::Console;
use crate::failure::Failure;

/// Options of `heldout finetune`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  heldout finetune path/to/gpt2 my-text.txt
  heldout finetune path/to/gpt2 reviews.jsonl --task classify --validation dev.jsonl
  heldout finetune path/to/bart dialogues.jsonl --task seq2seq
  heldout finetune runs/mine reviews.jsonl --task classify --set data.limit=500
  heldout finetune path/to/bert squad.json --task qa --validation dev.json

MODEL is a folder in Hugging Face layout or an earlier run; the tokenizer comes with it. A head
that the model lacks for the task starts at random, and the run says so.")]
pub struct Options {
    /// The model to start from: a run, a checkpoint, or a folder in Hugging Face layout
    #[arg(value_name = "MODEL", value_hint = clap::ValueHint::DirPath)]
    pub model: PathBuf,
    #[command(flatten)]
    pub train: train::Options,
}

/// Trains, and prints what came of it.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let Options { model, mut train } = options;
    let from = serde_json::Value::from(model.display().to_string());
    // In front, so that an explicit setting has the last word.
    train.recipe.settings.insert(0, format!("model.from={from}"));
    train::run(train, console)
}
