//! `heldout predict RUN DATA`: labels, translations or summaries for texts, record by record.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use heldout_data::labelled::FieldNames;
use heldout_data::pairs::{for_each_line, for_each_source};
use heldout_train::session::read_config;
use heldout_train::{Classifier, Prediction, Translation, Translator};
use serde_json::{Map, Value, json};

use crate::console::Console;
use crate::device_options::DeviceOptions;
use crate::failure::{DONE, Failure};
use crate::writing_arguments::WritingArguments;

/// Options of `heldout predict`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  heldout predict runs/reviews new.jsonl > labelled.jsonl
  heldout predict runs/reviews new.csv --text body
  heldout predict runs/multi30k captions.de > translated.jsonl
  cat dialogues.jsonl | heldout predict runs/dialogues - --beams 1

Each record comes back as one line of JSON with two fields more: \"prediction\", the likeliest
label, and \"probabilities\"; a model that translates or summarises writes its text as
\"prediction\". A file of plain text counts as one text a line; - reads standard input then.")]
pub struct Options {
    /// The folder of a run, a checkpoint, or a model in Hugging Face layout
    #[arg(value_name = "RUN", value_hint = clap::ValueHint::DirPath)]
    pub run: PathBuf,
    /// Texts to label, translate or summarise: files, folders or globs (.jsonl .json .csv .tsv
    /// .txt)
    #[arg(value_name = "DATA", required = true)]
    pub data: Vec<String>,
    /// The text's field
    #[arg(long, value_name = "FIELD")]
    pub text: Option<String>,
    /// The field of a second text
    #[arg(long, value_name = "FIELD")]
    pub pair: Option<String>,
    #[command(flatten)]
    pub writing: WritingArguments,
    #[command(flatten)]
    pub device: DeviceOptions,
}

/// Labels or writes, and prints records.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    if read_config(&options.run)?.is_seq2seq() {
        return write(&options, console);
    }
    if options.writing.is_given() {
        return Err(Failure::bad_input("this model gives labels and writes no text")
            .next("leave out --beams, --length-penalty, --no-repeat-ngram and --max-length"));
    }
    let device = options.device.device(&options.run)?;
    let mut classifier = Classifier::open(&options.run, device)?;
    let labels = classifier.labels.clone();
    let fields = FieldNames { text: options.text, pair: options.pair, label: None };
    let mut failure = None;
    classifier.predict_files(&options.data, &fields, &mut |prediction| match console
        .out(&line(prediction, &labels))
    {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    })?;
    match failure {
        Some(error) => Err(error),
        None => Ok(DONE),
    }
}

/// Where sources come from when DATA is this.
const STANDARD_INPUT: &str = "-";

/// Translates or summarises.
fn write(options: &Options, console: &Console) -> Result<i32, Failure> {
    if options.pair.is_some() {
        return Err(Failure::bad_input("a model that writes texts reads one, not a pair of them")
            .next("leave out --pair; --text names the source's field"));
    }
    let mut translator = Translator::open(&options.run, options.device.device(&options.run)?)?;
    let own = options.text.clone().or(translator.source.clone());
    let (field, mut failure) = (own.as_deref(), None);
    let mut tell = |translation: Translation| {
        let Translation { mut record, text } = translation;
        record.insert("prediction".into(), text.into());
        match console.out(&Value::Object(record).to_string()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    let search = options.writing.options();
    if options.data == [STANDARD_INPUT] {
        let mut lines = std::io::stdin().lock();
        let read = &mut |visit: &mut dyn FnMut(_) -> _| for_each_line(&mut lines, field, visit);
        translator.write_all(&search, read, &mut tell)?;
    } else {
        let read =
            &mut |visit: &mut dyn FnMut(_) -> _| for_each_source(&options.data, field, visit);
        translator.write_all(&search, read, &mut tell)?;
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(DONE),
    }
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
