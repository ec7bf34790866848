//! `heldout generate RUN --prompt ...`: text from the best weights, as it comes.

use std::io::Read;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use heldout_model::generate::{Generator, Sampling};
use heldout_train::TrainError;
use heldout_train::session::Session;
use serde_json::json;

use crate::console::{Console, Output};
use crate::device_options::DeviceOptions;
use crate::failure::{DONE, Failure};
use crate::text_stream::TextStream;

/// Options of `heldout generate`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  heldout generate runs/my-text --prompt \"Once upon a time\"
  heldout generate runs/my-text --prompt-file - --greedy --max-new-tokens 50 < start.txt")]
pub struct Options {
    /// The folder of a run, a checkpoint, or a model in Hugging Face layout
    #[arg(value_name = "RUN", value_hint = clap::ValueHint::DirPath)]
    pub run: PathBuf,
    /// What to go on from [default: the start of a text]
    #[arg(long, short, conflicts_with = "prompt_file")]
    pub prompt: Option<String>,
    /// A file to read the prompt from; - for standard input
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub prompt_file: Option<PathBuf>,
    /// How bold: below 1 keeps to likely words, above 1 takes chances
    #[arg(long, default_value_t = 0.8, value_name = "T", allow_negative_numbers = true)]
    pub temperature: f32,
    /// Only the K likeliest tokens
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: Option<u32>,
    /// Only the likeliest tokens that together reach this probability
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Above 1 makes tokens that occurred already less likely
    #[arg(long, default_value_t = 1.0, value_name = "R", allow_negative_numbers = true)]
    pub repetition_penalty: f32,
    /// Length of the new text
    #[arg(long, short = 'n', default_value_t = 200, value_name = "N")]
    pub max_new_tokens: usize,
    /// End before this text; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// The same seed gives the same text
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Always the likeliest token
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "seed"])]
    pub greedy: bool,
    #[command(flatten)]
    pub device: DeviceOptions,
}

/// Generates, and prints the text while it comes.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let prompt = prompt(&options)?;
    let device = options.device.device(&options.run)?;
    let mut session = Session::open_language_model(&options.run, device)?;
    let tokenizer = session.tokenizer.clone();
    let ids = prompt_ids(&session, &prompt)?;
    let sampling = sampling(&options, session.tokenizer.eos());
    let decode = |ids: &[u32]| tokenizer.decode(ids);
    let mut stream = TextStream::new(&decode, &ids, options.stop.clone());
    let mut text = String::new();
    let mut broken = None;
    let is_text = console.output == Output::Text;
    if is_text {
        console.out_raw(&prompt)?;
    }
    let mut give = |piece: String, broken: &mut Option<Failure>| {
        if is_text {
            *broken = console.out_raw(&piece).err();
        }
        text.push_str(&piece);
    };
    let mut on_token = |id| {
        give(stream.push(id), &mut broken);
        let is_over = stream.is_stopped() || broken.is_some();
        if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let Session { model, weights, tape, .. } = &mut session;
    let generator = Generator::new(model, tape.device(), weights);
    let new = generator.generate(tape, &ids, &sampling, &mut on_token).map_err(TrainError::from)?;
    if broken.is_none() {
        give(stream.finish(), &mut broken);
    }
    if let Some(failure) = broken {
        return Err(failure);
    }
    if is_text {
        console.out("")?;
    } else {
        console.out_json(&json!({
            "prompt": prompt,
            "text": text,
            "tokens": new,
            "stopped": stream.is_stopped(),
            "seed": options.seed,
        }))?;
    }
    Ok(DONE)
}

fn prompt(options: &Options) -> Result<String, Failure> {
    let Some(path) = &options.prompt_file else {
        return Ok(options.prompt.clone().unwrap_or_default());
    };
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| ())
    } else {
        std::fs::read(path).map(|found| bytes = found)
    };
    read.map_err(|error| {
        Failure::bad_input(format!("cannot read the prompt from {}: {error}", path.display()))
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let what = format!("{}: the prompt is not UTF-8 at byte {offset}", path.display());
        Failure::bad_input(what).next("save it as UTF-8")
    })
}

/// The prompt's tokens; an empty prompt is the start of a text.
fn prompt_ids(session: &Session, prompt: &str) -> Result<Vec<u32>, Failure> {
    let ids = session.tokenizer.encode(prompt).map_err(TrainError::from)?;
    if !ids.is_empty() {
        return Ok(ids);
    }
    // A text starts where the one before it ended; without such a token, at a new line.
    let start = match session.tokenizer.eos() {
        Some(eos) => vec![eos],
        None => session.tokenizer.encode("\n").map_err(TrainError::from)?,
    };
    if start.is_empty() {
        return Err(Failure::bad_input("this model needs a prompt").next("add --prompt \"...\""));
    }
    Ok(start)
}

fn sampling(options: &Options, eos: Option<u32>) -> Sampling {
    Sampling {
        temperature: if options.greedy { 0.0 } else { options.temperature },
        top_k: options.top_k.map(|k| k as usize),
        top_p: options.top_p,
        repetition_penalty: options.repetition_penalty,
        seed: options.seed,
        max_new_tokens: options.max_new_tokens,
        stop_tokens: eos.into_iter().collect(),
    }
}
