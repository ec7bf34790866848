//! `heldout predict RUN DATA`: labels for texts, record by record.

use std::io::BufRead;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};

use clap::Args;
use heldout_data::labelled::FieldNames;
use heldout_train::{Classifier, Prediction};
use serde_json::{Map, Value, json};

use crate::console::Console;
use crate::device_options::DeviceOptions;
use crate::failure::{DONE, Failure};

/// Options of `heldout predict`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  heldout predict runs/reviews new.jsonl > labelled.jsonl
  heldout predict runs/reviews new.csv --text body
  tail -f mails.txt | heldout predict runs/reviews -

Each record comes back as one line of JSON with two fields more: \"prediction\", the likeliest
label, and \"probabilities\". A file of plain text counts as one text a line. `-` reads standard
input, lines of text or JSON records, and answers each as it comes.")]
pub struct Options {
    /// The folder of a run, a checkpoint, or a classifier in Hugging Face layout
    #[arg(value_name = "RUN", value_hint = clap::ValueHint::DirPath)]
    pub run: PathBuf,
    /// Texts to label: files, folders or globs (.jsonl .json .csv .tsv .txt), or - for standard
    /// input
    #[arg(value_name = "DATA", required = true)]
    pub data: Vec<String>,
    /// The text's field
    #[arg(long, value_name = "FIELD")]
    pub text: Option<String>,
    /// The field of a second text
    #[arg(long, value_name = "FIELD")]
    pub pair: Option<String>,
    #[command(flatten)]
    pub device: DeviceOptions,
}

const STANDARD_INPUT: &str = "-";
/// Lines that are read ahead of the model.
const LINES_WAITING: usize = 4096;

/// Labels, and prints records.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let device = options.device.device(&options.run)?;
    let mut classifier = Classifier::open(&options.run, device)?;
    let labels = classifier.labels.clone();
    let fields = FieldNames { text: options.text, pair: options.pair, label: None };
    let mut failure = None;
    let mut tell = |prediction| match console.out(&line(prediction, &labels)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    };
    if options.data == [STANDARD_INPUT] {
        classifier.predict_lines(standard_input(), &fields, &mut tell)?;
    } else if options.data.iter().any(|name| name == STANDARD_INPUT) {
        return Err(Failure::bad_input("standard input (-) cannot be mixed with files")
            .next("heldout predict RUN -, or the files alone"));
    } else {
        classifier.predict_files(&options.data, &fields, &mut tell)?;
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(DONE),
    }
}

/// The lines of standard input as they come, read by a thread of its own, so that what waits can be
/// told from what is still to be written.
fn standard_input() -> Receiver<std::io::Result<String>> {
    let (sender, receiver) = sync_channel(LINES_WAITING);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            // Nobody listens any more: the reader of our output went away.
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn line(prediction: Prediction, labels: &[String]) -> String {
    let Prediction { mut record, label, probabilities } = prediction;
    // Six decimals are all that f32 logits tell.
    let rounded = |p: f64| (p * 1e6).round() / 1e6;
    let each = labels.iter().zip(probabilities);
    let all: Map<String, Value> = each.map(|(l, p)| (l.clone(), json!(rounded(p)))).collect();
    record.insert("prediction".into(), label.into());
    record.insert("probabilities".into(), Value::Object(all));
    Value::Object(record).to_string()
}
