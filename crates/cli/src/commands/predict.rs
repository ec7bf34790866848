//! `heldout predict RUN DATA`: labels, translations or summaries for texts, or answers to
//! questions, record by record.

use std::io::BufRead;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};

use clap::Args;
use heldout_data::answers::AnswerFields;
use heldout_data::labelled::FieldNames;
use heldout_data::pairs::{for_each_line, for_each_source};
use heldout_model::Head;
use heldout_train::session::read_config;
use heldout_train::{Answered, Answerer, Classifier, Prediction, Silence, Translation, Translator};
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
  heldout predict runs/squad questions.jsonl > answered.jsonl
  heldout predict runs/multi30k captions.de > translated.jsonl
  cat dialogues.jsonl | heldout predict runs/dialogues - --beams 1
  tail -f mails.txt | heldout predict runs/reviews -

Each record comes back as one line of JSON with two fields more: \"prediction\", the likeliest
label, and \"probabilities\"; a model that translates or summarises writes its text as
\"prediction\". A file of plain text counts as one text a line. `-` reads standard input, lines
of text or JSON records, and answers each as it comes.

A model that answers questions reads records with \"question\" and \"context\", or SQuAD's JSON; it
adds \"answer\" (empty where there is none), \"start\" (its character in the context; null where
there is none) and \"score\" (its share of the probability of the best answers).")]
pub struct Options {
    /// The folder of a run, a checkpoint, or a model in Hugging Face layout
    #[arg(value_name = "RUN", value_hint = clap::ValueHint::DirPath)]
    pub run: PathBuf,
    /// Texts to label, translate or summarise: files, folders or globs (.jsonl .json .csv .tsv
    /// .txt), or - for standard input
    #[arg(value_name = "DATA", required = true)]
    pub data: Vec<String>,
    /// The text's field
    #[arg(long, value_name = "FIELD")]
    pub text: Option<String>,
    /// The field of a second text
    #[arg(long, value_name = "FIELD")]
    pub pair: Option<String>,
    /// Of questions: the question's field
    #[arg(long, value_name = "FIELD")]
    pub question: Option<String>,
    /// Of questions: the field of the text with the answer
    #[arg(long, value_name = "FIELD")]
    pub context: Option<String>,
    /// Of questions: tokens of an answer at most
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub longest: usize,
    /// Of questions: say that there is no answer where that scores higher by so much (0 is usual);
    /// left out, only models that have learned it do so
    #[arg(long, value_name = "NATS", num_args = 0..=1, default_missing_value = "0",
          allow_hyphen_values = true)]
    pub no_answer: Option<f64>,
    #[command(flatten)]
    pub writing: WritingArguments,
    #[command(flatten)]
    pub device: DeviceOptions,
}

const STANDARD_INPUT: &str = "-";
/// Lines that are read ahead of the model.
const LINES_WAITING: usize = 4096;

/// Labels, answers or writes, and prints records.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    if read_config(&options.run)?.is_seq2seq() {
        return write(&options, console);
    }
    if options.writing.is_given() {
        return Err(Failure::bad_input("this model gives labels and writes no text")
            .next("leave out --beams, --length-penalty, --no-repeat-ngram and --max-length"));
    }
    let device = options.device.device(&options.run)?;
    if read_config(&options.run)?.head == Head::Span {
        return answer(&options, Answerer::open(&options.run, device)?, console);
    }
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

/// Answers, and prints records.
fn answer(options: &Options, mut model: Answerer, console: &Console) -> Result<i32, Failure> {
    model.rule.longest = options.longest.max(1);
    if let Some(threshold) = options.no_answer {
        model.rule.silence = Silence::Above(threshold);
    }
    let (question, context) = (options.question.clone(), options.context.clone());
    let fields = AnswerFields { question, context, answers: None };
    let mut failure = None;
    model.predict_files(&options.data, &fields, &mut |answered| match console
        .out(&answer_line(answered))
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

fn answer_line(answered: Answered) -> String {
    let Answered { question, record, reply } = answered;
    // A question of a SQuAD file has no record of its own.
    let mut record = record.unwrap_or_else(|| {
        let id = ("id".to_owned(), question.id.into());
        Map::from_iter([id, ("question".to_owned(), question.question.into())])
    });
    let start = (!reply.text.is_empty()).then(|| question.context[..reply.start].chars().count());
    record.insert("answer".into(), reply.text.into());
    record.insert("start".into(), json!(start));
    record.insert("score".into(), json!((reply.score * 1e6).round() / 1e6));
    Value::Object(record).to_string()
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
