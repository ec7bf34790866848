//! `heldout finetune MODEL DATA`: training that starts from a model's weights.

use std::path::PathBuf;

use clap::Args;

use super::train;
use crate::console::Console;
use crate::failure::Failure;
use crate::hub::{Hub, Name};

/// Options of `heldout finetune`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  heldout finetune path/to/gpt2 my-text.txt
  heldout finetune path/to/gpt2 reviews.jsonl --task classify --validation dev.jsonl
  heldout finetune path/to/bart dialogues.jsonl --task seq2seq
  heldout finetune runs/mine reviews.jsonl --task classify --set data.limit=500
  heldout finetune path/to/bert squad.json --task qa --validation dev.json
  heldout finetune org/name reviews.jsonl --task classify

MODEL is a folder in Hugging Face layout or an earlier run; the tokenizer comes with it. What is no
folder, org/name or org/name@revision, comes from the Hugging Face hub into its usual cache
(HF_HOME, HF_HUB_CACHE); HF_ENDPOINT names a mirror, HF_TOKEN opens private models, and
HF_HUB_OFFLINE=1 takes what the cache has. A head
that the model lacks for the task starts at random, and the run says so.")]
pub struct Options {
    /// The model to start from: a run, a checkpoint, a folder in Hugging Face layout, or org/name
    /// on the hub
    #[arg(value_name = "MODEL", value_hint = clap::ValueHint::DirPath)]
    pub model: PathBuf,
    #[command(flatten)]
    pub train: train::Options,
}

/// Trains, and prints what came of it.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let Options { mut model, mut train } = options;
    if let Some(name) = Name::of(&model) {
        // What is wrong with the data should not wait for a download.
        train.recipe.recipe()?;
        model = Hub::from_environment().fetch(&name, console)?;
    }
    let from = serde_json::Value::from(model.display().to_string());
    // In front, so that an explicit setting has the last word.
    train.recipe.settings.insert(0, format!("model.from={from}"));
    train::run(train, console)
}
