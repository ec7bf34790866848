//! `heldout evaluate RUN [DATA]`: losses with their errors, on a run's own splits or other text, of
//! one model or of several as an ensemble.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use heldout_data::answers::AnswerFields;
use heldout_data::labelled::FieldNames;
use heldout_data::pairs::SideNames;
use heldout_kernels::Device;
use heldout_model::Head;
use heldout_record::RunDir;
use heldout_report::baseline::Standing;
use heldout_report::statistics::normal_interval;
use heldout_report::summary::{perplexity, plus_minus};
use heldout_report::{format, wrap};
use heldout_train::session::{Session, read_config};
use heldout_train::{
    Ensemble, EnsembleText, Evaluation, Member, MemberScore, Reference, Split, TextFiles,
    evaluate_ensemble, evaluate_files_beside, evaluate_masked, evaluate_run,
};
use serde::Serialize;

use super::{evaluate_answers, evaluate_labels, evaluate_texts};
use crate::console::{Console, Output};
use crate::device_options::DeviceOptions;
use crate::facts;
use crate::failure::{DONE, Failure};
use crate::interrupt::Interrupts;
use crate::live::Live;
use crate::outcome::print_table;
use crate::places;
use crate::writing_arguments::WritingArguments;

/// Options of `heldout evaluate`.
#[derive(Args)]
#[command(after_help = "\
Without DATA the run's own held-out split is scored, whole: for a run that evaluated all of it
while training the result equals the recorded best.

With --with the probabilities of all models are averaged, and each is scored on RUN's windows.")]
pub struct Options {
    /// The folder of a run, a checkpoint, or a model in Hugging Face layout
    #[arg(value_name = "RUN", value_hint = clap::ValueHint::DirPath)]
    pub run: PathBuf,
    /// Text to score instead of the run's own: files, folders or globs
    #[arg(value_name = "DATA")]
    pub data: Vec<String>,
    /// Another model whose probabilities are averaged with RUN's; may be given several times
    #[arg(long, value_name = "RUN", value_hint = clap::ValueHint::DirPath)]
    pub with: Vec<PathBuf>,
    /// Which of the run's own splits
    #[arg(long, conflicts_with = "data", default_value = "validation")]
    pub split: SplitArgument,
    /// The text's field in JSON and CSV records
    #[arg(long, requires = "data")]
    pub field: Option<String>,
    /// Of a classifier: the label's field [default: label]
    #[arg(long, requires = "data")]
    pub label: Option<String>,
    /// Of a classifier: the field of a second text
    #[arg(long, requires = "data")]
    pub pair: Option<String>,
    /// Of a model that translates or summarises: the target's field (--field is the source's)
    #[arg(long, requires = "data", value_name = "FIELD")]
    pub target: Option<String>,
    #[command(flatten)]
    pub writing: WritingArguments,
    /// What ends a document of DATA
    #[arg(long, requires = "data", default_value = "auto", value_name = "KIND",
          value_parser = ["auto", "blank-line", "record", "contiguous"])]
    pub boundary: String,
    #[command(flatten)]
    pub device: DeviceOptions,
}

/// A split as written on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SplitArgument {
    Train,
    Validation,
    Test,
}

impl SplitArgument {
    fn split(self) -> Split {
        match self {
            SplitArgument::Train => Split::Train,
            SplitArgument::Validation => Split::Validation,
            SplitArgument::Test => Split::Test,
        }
    }
}

impl Options {
    fn open_run(&self) -> Result<RunDir, Failure> {
        RunDir::open(&self.run).map_err(|error| {
            Failure::from(error).next("give the folder of a run, or text to score after the model")
        })
    }
}

fn run_labels(options: &Options, device: Arc<Device>, console: &Console) -> Result<i32, Failure> {
    let (text, label, pair) = (options.field.clone(), options.label.clone(), options.pair.clone());
    let fields = FieldNames { text, pair, label };
    let which = match options.data.as_slice() {
        [] => Ok(options.split.split()),
        files => Err((files, &fields)),
    };
    evaluate_labels::run(&options.run, which, device, console)
}

fn run_answers(options: &Options, console: &Console) -> Result<i32, Failure> {
    let device = options.device.device(&options.run)?;
    let which = match options.data.as_slice() {
        [] => Ok(options.split.split()),
        files => Err((files, &AnswerFields::default())),
    };
    evaluate_answers::run(&options.run, which, device, console)
}

/// Scores masked tokens of one of the run's own splits, and prints the figures.
fn run_masked(options: &Options, console: &Console) -> Result<i32, Failure> {
    if !options.data.is_empty() {
        return Err(Failure::bad_input("masked tokens are scored on the run's own splits")
            .next("leave the files out, or name them as the run's test split"));
    }
    let (run, split) = (options.open_run()?, options.split.split());
    let device = options.device.device(&options.run)?;
    let live = Live::start(console, &[""], None);
    let mut preparing = |progress| live.phase(&facts::progress(&progress));
    let score = evaluate_masked(&run, split, &places::cache(), device, &mut preparing)?;
    live.finish();
    if console.output == Output::Json {
        console.out_json(&score)?;
        return Ok(DONE);
    }
    let row = |label: &str, text: String| (label.to_owned(), text);
    let loss = plus_minus(score.loss, score.loss_se);
    let (passages, masked) = (score.passages as u64, format::count(score.masked));
    print_table(
        &[
            row("data", format!("{}: {} passages", score.data, format::count(passages))),
            row("loss", format!("{loss} nats/masked token, of {masked}")),
            row("", format!("perplexity {}", format::fixed(score.perplexity, 2))),
            row("accuracy", format!("{} of them found", format::fixed(score.accuracy, 4))),
        ],
        console,
    )?;
    Ok(DONE)
}

fn run_texts(options: &Options, device: Arc<Device>, console: &Console) -> Result<i32, Failure> {
    let fields = SideNames { source: options.field.clone(), target: options.target.clone() };
    let which = match options.data.as_slice() {
        [] => Ok(options.split.split()),
        files => Err((files, &fields)),
    };
    evaluate_texts::run(&options.run, which, &options.writing.options(), device, console)
}

/// Scores, and prints the figures.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let config = read_config(&options.run)?;
    if config.is_seq2seq() {
        let device = options.device.device(&options.run)?;
        return run_texts(&options, device, console);
    }
    if config.head == Head::Span {
        return run_answers(&options, console);
    }
    if config.require_causal().is_err() && config.head.is_language_model() {
        return run_masked(&options, console);
    }
    if !config.head.is_language_model() {
        let device = options.device.device(&options.run)?;
        return run_labels(&options, device, console);
    }
    if !options.with.is_empty() {
        return ensemble(&options, console);
    }
    let device = options.device.device(&options.run)?;
    let evaluation = if options.data.is_empty() {
        let (run, split) = (options.open_run()?, options.split.split());
        Interrupts::install(console, Vec::new())?;
        let live = Live::start(console, &[""], None);
        let mut preparing = |progress| live.phase(&facts::progress(&progress));
        evaluate_run(&run, split, &places::cache(), device, &mut preparing)?
    } else {
        let mut session = Session::open(&options.run, device)?;
        let live = Live::start(console, &[""], None);
        let mut preparing = |progress| live.phase(&facts::progress(&progress));
        let reference = Reference::of_run(&options.run, &places::cache(), &mut preparing);
        live.finish();
        let (field, boundary) = (options.field.as_deref(), options.boundary.as_str());
        evaluate_files_beside(&mut session, &options.data, field, boundary, &reference)?
    };
    match console.output {
        Output::Json => console.out_json(&evaluation)?,
        Output::Text => print(&evaluation, console)?,
    }
    Ok(DONE)
}

/// What `--json` says of an ensemble.
#[derive(Serialize)]
struct EnsembleJson<'a> {
    #[serde(flatten)]
    ensemble: &'a Ensemble,
    /// 95% interval of `better`.
    better_interval: [f64; 2],
}

/// Scores several models as one, and each by itself.
fn ensemble(options: &Options, console: &Console) -> Result<i32, Failure> {
    let member = |path: &PathBuf| -> Result<Member, Failure> {
        Ok(Member { path: path.clone(), device: options.device.device(path)? })
    };
    let paths = || std::iter::once(&options.run).chain(&options.with);
    let members = paths().map(member).collect::<Result<Vec<_>, _>>()?;
    let (run, cache) = (options.data.is_empty().then(|| options.open_run()), places::cache());
    let run = run.transpose()?;
    let text = match &run {
        Some(run) => EnsembleText::Split { run, split: options.split.split(), cache: &cache },
        None => EnsembleText::Files(TextFiles {
            files: &options.data,
            field: options.field.as_deref(),
            boundary: &options.boundary,
        }),
    };
    Interrupts::install(console, Vec::new())?;
    let live = Live::start(console, &[""], None);
    let mut preparing = |progress| live.phase(&facts::progress(&progress));
    let count = members.len();
    let mut beginning = |index: usize| live.phase(&format!("model {} of {count}", index + 1));
    let ensemble = evaluate_ensemble(&members, &text, &mut preparing, &mut beginning)?;
    live.finish();
    let interval = normal_interval(ensemble.better, ensemble.better_se, 0.95);
    let better_interval = [interval.low, interval.high];
    match console.output {
        Output::Json => {
            console.out_json(&EnsembleJson { ensemble: &ensemble, better_interval })?;
        }
        Output::Text => print_ensemble(&ensemble, better_interval, console)?,
    }
    Ok(DONE)
}

fn print_ensemble(e: &Ensemble, interval: [f64; 2], console: &Console) -> Result<(), Failure> {
    let row = |label: &str, text: String| (label.to_owned(), text);
    let of_loss = normal_interval(e.loss, e.loss_se, 0.95);
    let [low, high] = [of_loss.low, of_loss.high].map(format::nats);
    let mut rows = vec![
        row("data", size(&e.data, e.tokens, e.windows)),
        row("ensemble", format!("mean of the probabilities of {} models", e.members.len())),
        row("loss", format!("{} nats/token, 95%: {low} to {high}", plus_minus(e.loss, e.loss_se))),
        row("perplexity", perplexity(e.perplexity)),
        row("bits/byte", format::fixed(e.bits_per_byte, 4)),
    ];
    for (index, MemberScore { path, evaluation }) in e.members.iter().enumerate() {
        let label = if index == 0 { "each alone" } else { "" };
        rows.push(row(
            label,
            format!("{}  {path}", plus_minus(evaluation.loss, evaluation.loss_se)),
        ));
    }
    rows.push(row("their mean", format::nats(e.loss_members)));
    let ([low, high], best) = (interval.map(format::nats), &e.best);
    let size = format::nats(e.better.abs());
    let verdict = match interval {
        [low, _] if low > 0.0 => format!("the ensemble is {size} nats better than {best}"),
        [_, high] if high < 0.0 => format!("the ensemble is {size} nats worse than {best}"),
        _ => format!("no difference from {best} can be told"),
    };
    let verdict = format!("{verdict}, the best of them here (95%: {low} to {high} nats better)");
    rows.push(row("verdict", verdict));
    print_table(&rows, console)
}

/// What was scored, and how much of it.
fn size(data: &str, tokens: u64, windows: usize) -> String {
    let (tokens, windows) = (format::count(tokens), format::count(windows as u64));
    wrap::truncate(&format!("{data}: {tokens} tokens in {windows} windows"), 400)
}

fn print(e: &Evaluation, console: &Console) -> Result<(), Failure> {
    let interval = normal_interval(e.loss, e.loss_se, 0.95);
    let ends = [interval.low, interval.high];
    let row = |label: &str, text: String| (label.to_owned(), text);
    let [low, high] = ends.map(format::nats);
    let [perplexity_low, perplexity_high] = ends.map(|loss| perplexity(loss.exp()));
    let mut rows = vec![
        row("data", size(&e.data, e.tokens, e.windows)),
        row("loss", format!("{} nats/token, 95%: {low} to {high}", plus_minus(e.loss, e.loss_se))),
        row(
            "perplexity",
            format!("{}, 95%: {perplexity_low} to {perplexity_high}", perplexity(e.perplexity)),
        ),
        row("bits/byte", format::fixed(e.bits_per_byte, 4)),
        row(
            "accuracy",
            format!(
                "{:.1}% ± {:.1}% of the next tokens ranked first",
                100.0 * e.accuracy,
                100.0 * e.accuracy_se
            ),
        ),
    ];
    if let Some(baseline) = &e.baseline {
        let (better, better_se) = (baseline.better, baseline.better_se);
        let text = format!(
            "n-gram (order {}, {}): {}; {} (± {})",
            baseline.order,
            baseline.smoothing,
            plus_minus(baseline.loss, baseline.loss_se),
            Standing { better, better_se }.sentence(),
            format::nats(better_se),
        );
        rows.push(row("baseline", text));
    }
    if let Some(why) = &e.baseline_missing {
        rows.push(row("baseline", format!("none: {why}")));
    }
    print_table(&rows, console)
}
