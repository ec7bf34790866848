//! `heldout quickstart`: a plain and a regularized model side by side on text of known entropy.

use std::path::{Path, PathBuf};

use clap::Args;
use heldout_base::durable::write_file;
use heldout_model::generate::{Sampling, generate};
use heldout_record::{RecordError, RunDir, StopReason, read_metrics};
use heldout_report::format;
use heldout_report::plot::{Series, Stroke};
use heldout_report::summary::RunSummary;
use heldout_report::wrap::{columns, wrap};
use heldout_train::session::Session;
use heldout_train::{Control, Job, Outcome, TrainError, prepare_job};

use crate::console::{Console, Output};
use crate::failure::{DONE, Failure, SIGNALLED};
use crate::interrupt::Interrupts;
use crate::live::paint::{Line, Paint};
use crate::live::{LaneObserver, Live};
use crate::outcome::{PICTURE_ROWS, shell_word};
use crate::picture;
use crate::places::{self, NewFolder};
use crate::quickstart::comparison::{Comparison, Figures};
use crate::quickstart::{Corpus, Folder, NAMES, corpus, recipe, recipe_text};

/// Options of `heldout quickstart`.
#[derive(Args)]
#[command(after_help = "\
Text is drawn from a grammar whose true entropy is known, so every loss splits into what nobody
could know and what the model failed to learn or wrongly memorised. Two models of the same size
train on the same small text: one plain, one regularized. All figures are measured.")]
pub struct Options {
    /// Folder for text, recipes and both runs [default: runs/quickstart]
    #[arg(long, short, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Another seed is another text and other models
    #[arg(long, default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(u64).range(0..1 << 62))]
    pub seed: u64,
    /// Threads in all [default: all of the machine]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Steps of each model, for a shorter or longer story
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: Option<u64>,
}

/// Trains both models, and tells the story.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let root = options
        .out
        .clone()
        .unwrap_or_else(|| RunDir::next_name(Path::new(places::RUNS), "quickstart"));
    NewFolder::check(root.clone())?;
    let controls = [Control::new(), Control::new()];
    let interrupts = Interrupts::install(console, controls.to_vec())?;
    let folder = Folder { root };
    let corpus = corpus(options.seed);
    write_texts(&folder, &corpus)?;
    let entropy = introduce(&folder, &corpus, &options, console)?;
    let live = Live::start(console, &NAMES, Some(("true entropy".to_owned(), entropy)));
    interrupts.run_started();
    let ended = train_both(&folder, &options, &live, &controls);
    live.finish();
    let outcomes = ended?;
    if outcomes.iter().any(|outcome| outcome.reason == StopReason::Interrupted) {
        for name in NAMES {
            let path = shell_word(&folder.run(name).display().to_string());
            console.note(&format!("go on with: heldout resume {path}"));
        }
        return Ok(interrupts.exit_code().unwrap_or(SIGNALLED + signal_hook::consts::SIGINT));
    }
    conclude(&folder, entropy, console)?;
    Ok(DONE)
}

fn write_texts(folder: &Folder, corpus: &Corpus) -> Result<(), Failure> {
    std::fs::create_dir_all(&folder.root).map_err(|error| {
        Failure::failed(format!("cannot create {}: {error}", folder.root.display()))
    })?;
    let write = |path: PathBuf, text: &str| {
        write_file(&path, |out| out.write_all(text.as_bytes())).map_err(RecordError::from)
    };
    write(folder.train(), &corpus.train)?;
    write(folder.held_out(), &corpus.held_out)?;
    for (index, name) in NAMES.into_iter().enumerate() {
        let header = format!(
            "# heldout train {} --recipe {} --validation {}\n\n",
            shell_word(&folder.train().display().to_string()),
            shell_word(&folder.recipe(name).display().to_string()),
            shell_word(&folder.held_out().display().to_string()),
        );
        write(folder.recipe(name), &(header + &recipe_text(index)))?;
    }
    Ok(())
}

fn recipe_of(
    index: usize,
    folder: &Folder,
    options: &Options,
) -> Result<heldout_train::recipe::Recipe, Failure> {
    let all = options.threads.map_or_else(heldout_kernels::default_threads, |n| n as usize);
    let threads = (all / NAMES.len()).max(1);
    let made = recipe(index, folder, options.seed, threads, options.steps);
    made.map_err(|error| Failure::from(TrainError::from(error)))
}

/// Says what is trained on what, and what sets the two apart; gives the true entropy in the unit
/// of the losses, nats per token of our tokenizer.
fn introduce(
    folder: &Folder,
    corpus: &Corpus,
    options: &Options,
    console: &Console,
) -> Result<f64, Failure> {
    let prepare = |index| -> Result<Job, Failure> {
        let recipe = recipe_of(index, folder, options)?;
        Ok(prepare_job(&recipe, &places::cache(), &mut |_| {})?)
    };
    let [plain, regularized] = [prepare(0)?, prepare(1)?];
    let facts = &plain.data.text("the quickstart")?.facts;
    // The very first token has nothing before it and is not scored.
    let scored = facts.tokens_validation.saturating_sub(1).max(1);
    let entropy = corpus.nats_held_out / scored as f64;
    console.note(&format!(
        "text       {} tokens drawn from a grammar to train on, {} held out; in {}",
        format::count(facts.tokens_train),
        format::count(facts.tokens_validation),
        folder.root.display()
    ));
    console.note(&format!(
        "truth      {} nats per token: the held-out text's true entropy, which no model can beat",
        format::nats(entropy)
    ));
    let parameters = plain.recipe.model.config.parameter_count() as u64;
    console.note(&format!(
        "models     two of {} parameters, the same but for what holds the second one back:",
        format::short_count(parameters)
    ));
    let common = plain.techniques.plan.describe();
    let own = regularized.techniques.plan.describe();
    own.iter().filter(|line| !common.contains(line)).for_each(|line| {
        console.note(&format!("           {line}"));
    });
    Ok(entropy)
}

/// Trains both at the same time; when one fails the other stops.
fn train_both(
    folder: &Folder,
    options: &Options,
    live: &Live,
    controls: &[Control; 2],
) -> Result<Vec<Outcome>, Failure> {
    let train = |index: usize| {
        let mut observer = live.observer(index);
        let ended = train_one(index, folder, options, &mut observer, &controls[index]);
        if ended.is_err() {
            controls.iter().for_each(Control::stop_gracefully);
        }
        ended
    };
    let train = &train;
    let ended: Vec<Result<Outcome, Failure>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..NAMES.len()).map(|index| scope.spawn(move || train(index))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    ended.into_iter().collect()
}

fn train_one(
    index: usize,
    folder: &Folder,
    options: &Options,
    observer: &mut LaneObserver,
    control: &Control,
) -> Result<Outcome, Failure> {
    let recipe = recipe_of(index, folder, options)?;
    let job = prepare_job(&recipe, &places::cache(), &mut |_| {})?;
    let run = RunDir::create(&folder.run(NAMES[index]))?;
    let words = std::env::args().collect();
    Ok(heldout_train::train(job, run, words, observer, control)?)
}

fn conclude(folder: &Folder, entropy: f64, console: &Console) -> Result<(), Failure> {
    let mut summaries = Vec::new();
    for name in NAMES {
        let run = RunDir::open(&folder.run(name))?;
        summaries.push(RunSummary::from_events(&read_metrics(&run.metrics())?));
    }
    let figures = |summary: &RunSummary| {
        Figures::of(summary).ok_or_else(|| Failure::failed("a run was never evaluated"))
    };
    let (plain, regularized) = (figures(&summaries[0])?, figures(&summaries[1])?);
    let comparison = Comparison { entropy, plain, regularized };
    let sample = sample(&folder.run(NAMES[1]))?;
    if console.output == Output::Json {
        let mut value = comparison.as_json();
        value["folder"] = folder.root.display().to_string().into();
        value["sample"] = sample.into();
        return console.out_json(&value);
    }
    console.out("")?;
    let frame = picture::frame(console.width, PICTURE_ROWS, console.charset);
    let paint = |i| if i < NAMES.len() { Paint::Series(i + 1) } else { Paint::Faint };
    for line in picture::draw(&curves(&summaries, entropy), &frame, &paint) {
        console.out_line(&line.trimmed())?;
    }
    console.out("")?;
    for (i, line) in columns(&comparison.table()).iter().enumerate() {
        let paint = if i == 0 { Paint::Strong } else { Paint::Plain };
        console.out_line(&Line::of(line.as_str(), paint))?;
    }
    console.out("")?;
    for paragraph in comparison.story() {
        wrap(&paragraph, console.width, "", "").iter().try_for_each(|line| console.out(line))?;
    }
    console.out("\nThe regularized model writes:")?;
    for paragraph in sample {
        for line in wrap(&paragraph, console.width, "  ", "  ") {
            console.out_line(&Line::of(line, Paint::Good))?;
        }
    }
    say_next(folder, console)
}

fn curves(summaries: &[RunSummary], entropy: f64) -> Vec<Series> {
    let mut series = Vec::new();
    for (summary, name) in summaries.iter().zip(NAMES) {
        let mut curves = summary.curves();
        curves.truncate(1);
        curves[0].name = format!("{name}, held-out");
        // Two lines without colour: one solid, one dashed.
        curves[0].stroke = if series.is_empty() { Stroke::Dashed } else { Stroke::Solid };
        series.extend(curves);
    }
    let end = series.iter().flat_map(|s| &s.points).map(|p| p.0).fold(0.0, f64::max);
    let points = vec![(0.0, entropy), (end, entropy)];
    series.push(Series { name: "true entropy".to_owned(), stroke: Stroke::Faint, points });
    series
}

/// Paragraphs from the model at `run`, drawn as it predicts.
fn sample(run: &Path) -> Result<Vec<String>, Failure> {
    let device = heldout_kernels::Device::cpu(1, heldout_kernels::Precision::F32);
    let mut session = Session::open(run, device.map_err(TrainError::from)?.into())?;
    let end = session.tokenizer.eos();
    let start: Vec<u32> = end.into_iter().collect();
    let sampling = Sampling { temperature: 1.0, seed: 1, ..Sampling::greedy(150) };
    let Session { model, weights, tape, .. } = &mut session;
    let mut go_on = |_| std::ops::ControlFlow::Continue(());
    let ids =
        generate(model, tape, weights, &start, &sampling, &mut go_on).map_err(TrainError::from)?;
    let mut paragraphs: Vec<&[u32]> = ids.split(|id| Some(*id) == end).collect();
    if paragraphs.len() > 1 {
        // The last one was cut off.
        paragraphs.pop();
    }
    let text = |ids: &[u32]| session.tokenizer.decode(ids).trim().to_owned();
    Ok(paragraphs.into_iter().map(text).filter(|text| !text.is_empty()).take(3).collect())
}

fn say_next(folder: &Folder, console: &Console) -> Result<(), Failure> {
    let path = |name: &str| shell_word(&folder.run(name).display().to_string());
    let root = shell_word(&folder.root.display().to_string());
    let commands = [
        "heldout train my-text.txt             the same care for a text of yours".to_owned(),
        "heldout list techniques               what else holds a model back".to_owned(),
        format!("heldout generate {}", path(NAMES[1])),
        format!("heldout plan {}", shell_word(&folder.recipe(NAMES[1]).display().to_string())),
        format!("tensorboard --logdir {root}"),
    ];
    console.out(&format!("\nruns       {} and {}", path(NAMES[0]), path(NAMES[1])))?;
    for (i, command) in commands.iter().enumerate() {
        let mut line = Line::of(if i == 0 { "try next   " } else { "           " }, Paint::Faint);
        line.push(command.as_str(), Paint::Plain);
        console.out_line(&line)?;
    }
    Ok(())
}
