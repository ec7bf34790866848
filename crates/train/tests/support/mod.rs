//! Tiny runs for the tests of this crate: a small corpus, a small model, and what a run left
//! behind.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use heldout_base::rng::{Random, streams};
use heldout_record::weights::WeightFile;
use heldout_record::{Event, RunDir};
use heldout_regularize::{Entry, Learns, Settings, Value, assemble, find};
use heldout_train::recipe::Recipe;
use heldout_train::{Control, Job, Observer, Outcome, TrainError, prepare_job, resume, train};

/// A folder that lives as long as the test process; prepared data is shared in it.
pub fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = SCRATCH.get_or_init(|| tempfile::tempdir().expect("a temporary folder"));
    folder.path()
}

pub fn cache() -> PathBuf {
    scratch().join("cache")
}

/// A fresh path for a run; it does not exist yet.
pub fn run_path(name: &str) -> PathBuf {
    RunDir::next_name(scratch(), name)
}

/// Sentences from a small grammar with words that depend on each other: learnable, and hardly ever
/// twice the same.
pub fn corpus() -> PathBuf {
    static CORPUS: OnceLock<PathBuf> = OnceLock::new();
    CORPUS.get_or_init(|| write_corpus("corpus.txt", 700)).clone()
}

pub fn write_corpus(name: &str, sentences: u64) -> PathBuf {
    const WHO: [&str; 8] = ["cat", "dog", "fox", "owl", "hen", "rat", "bee", "cow"];
    const DOES: [&str; 6] = ["sees", "bites", "hears", "seeks", "finds", "fears"];
    const WHERE: [&str; 5] = ["by the sea", "at noon", "in may", "on a hill", "all day"];
    let mut text = String::new();
    for n in 0..sentences {
        let random = Random::new(7, streams::TEST, n);
        let one = random.below(0, 8) as usize;
        let other = (one + 1 + random.below(1, 2) as usize) % 8;
        let verb = DOES[(one + random.below(2, 2) as usize) % 6];
        let place = WHERE[random.below(3, 5) as usize];
        text +=
            &format!("the {} {verb} {} {}s {place}. ", WHO[one], random.below(4, 90), WHO[other]);
    }
    let path = scratch().join(name);
    std::fs::write(&path, text).expect("the corpus is written");
    path
}

/// A model of two small layers that takes a few milliseconds a step.
pub const TINY: &str = r#"
[data]
validation = "last 10%"
tokenizer = "char"
duplicates = "report"
[model]
layers = 2
heads = 2
width = 16
context = 16
[optimizer]
name = "adamw"
learning-rate = 0.01
[schedule]
horizon = "24 steps"
warmup = "3 steps"
[batch]
size = 8
[regularize]
dropout = false
weight-decay = false
early-stopping = false
explosion-guard = false
gradient-clipping = 1.0
shuffle = true
weight-tying = true
[evaluate]
every = "8 steps"
windows = 24
train-windows = 16
samples = 0
baseline = "none"
[run]
threads = 2
precision = "f32"
checkpoint = "10 steps"
keep = 3
"#;

/// What comes with a model that a run starts from.
const WITH_MODEL: [&str; 5] = ["tokenizer", "layers", "heads", "width", "weight-tying"];

pub fn recipe(settings: &[&str]) -> Recipe {
    let begins_trained = settings.iter().any(|setting| setting.starts_with("model.from="));
    let comes = |line: &&str| WITH_MODEL.iter().any(|name| line.starts_with(name));
    let lines = TINY.lines().filter(|line| !begins_trained || !comes(line));
    let text = lines.collect::<Vec<_>>().join("\n");
    let mut recipe = Recipe::parse(&text, "tiny.toml").expect("the tiny recipe is TOML");
    recipe.set_data(&[corpus().display().to_string()]).expect("a path");
    for setting in settings {
        recipe.set(setting).unwrap_or_else(|e| panic!("{e}"));
    }
    recipe
}

pub fn job(settings: &[&str]) -> Result<Job, TrainError> {
    prepare_job(&recipe(settings), &cache(), &mut |_| {})
}

/// Keeps every event.
#[derive(Default)]
pub struct Events(pub Vec<Event>);

impl Observer for Events {
    fn event(&mut self, event: &Event) {
        self.0.push(event.clone());
    }
}

/// Asks the run to stop when it records this step.
pub struct StopAt {
    pub step: u64,
    pub control: Control,
}

impl Observer for StopAt {
    fn event(&mut self, event: &Event) {
        if matches!(event, Event::Step(record) if record.step == self.step) {
            self.control.stop_gracefully();
        }
    }
}

/// A run that has ended.
pub struct Done {
    pub path: PathBuf,
    pub outcome: Outcome,
    pub events: Vec<Event>,
}

pub fn try_run(name: &str, settings: &[&str]) -> Result<Done, TrainError> {
    try_run_job(name, job(settings)?)
}

fn try_run_job(name: &str, job: Job) -> Result<Done, TrainError> {
    let path = run_path(name);
    let run = RunDir::create(&path)?;
    let mut events = Events::default();
    let outcome = train(job, run, Vec::new(), &mut events, &Control::new())?;
    Ok(Done { path, outcome, events: events.0 })
}

pub fn run_job(name: &str, job: Job) -> Done {
    try_run_job(name, job).unwrap_or_else(|e| panic!("{name}: {e}"))
}

pub fn run(name: &str, settings: &[&str]) -> Done {
    try_run(name, settings).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Runs until `step` is recorded, then stops as a signal would make it.
pub fn run_until(name: &str, settings: &[&str], step: u64) -> PathBuf {
    let path = run_path(name);
    let control = Control::new();
    let mut stop = StopAt { step, control: control.clone() };
    let run = RunDir::create(&path).expect("a new folder");
    let job = job(settings).unwrap_or_else(|e| panic!("{e}"));
    let outcome = train(job, run, Vec::new(), &mut stop, &control);
    let outcome = outcome.unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(outcome.reason, heldout_record::StopReason::Interrupted);
    assert_eq!(outcome.step, step);
    path
}

pub fn go_on(path: &Path) -> Result<(Outcome, Vec<Event>), TrainError> {
    let mut events = Events::default();
    let run = RunDir::open(path)?;
    let outcome = resume(run, &cache(), &mut |_| {}, &mut events, &Control::new())?;
    Ok((outcome, events.0))
}

/// Every tensor's bits in a folder's files of weights.
pub fn bits(folder: &Path) -> BTreeMap<String, Vec<u32>> {
    let mut all = BTreeMap::new();
    for file in ["model.safetensors", "training_state.safetensors"] {
        let path = folder.join(file);
        if !path.exists() {
            continue;
        }
        let weights = WeightFile::open(&path).expect("a file of weights");
        for name in weights.names() {
            let (_, values) = weights.read_f32(name).expect("a tensor");
            let bits = values.iter().map(|v| v.to_bits()).collect();
            all.insert(format!("{file}/{name}"), bits);
        }
    }
    assert!(!all.is_empty(), "{} holds no weights", folder.display());
    all
}

/// What must not depend on when and where a run ran: its last state, its result, its losses.
pub fn assert_same_run(one: &Path, other: &Path, what: &str) {
    assert_eq!(bits(&one.join("last")), bits(&other.join("last")), "{what}: last state");
    assert_eq!(bits(&one.join("model")), bits(&other.join("model")), "{what}: result");
    assert_eq!(losses(one), losses(other), "{what}: losses in metrics.jsonl");
}

/// Steps and evaluations of `metrics.jsonl`, without times.
pub fn losses(run: &Path) -> Vec<(u64, String, u64, u64)> {
    let events = heldout_record::read_metrics(&run.join("metrics.jsonl")).expect("metrics");
    events
        .iter()
        .filter_map(|event| match event {
            Event::Step(s) => {
                Some((s.step, "step".into(), s.objective.to_bits(), s.gradient_norm.to_bits()))
            }
            Event::Evaluation(e) => Some((
                e.step,
                format!("evaluation of {} {}", e.weights, e.best),
                e.loss_valid.to_bits(),
                e.loss_train.to_bits(),
            )),
            _ => None,
        })
        .collect()
}

/// The technique's example as a command-line setting.
pub fn example(entry: &Entry) -> String {
    let value = |value: &Value| match value {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => format!("\"{text}\""),
        other => panic!("{}: no way to write {other:?} yet", entry.name()),
    };
    let Settings { main, knobs } = entry.example_settings();
    let text = match main {
        Some(main) => value(&main),
        None => {
            let knobs: Vec<_> = knobs.iter().map(|(k, v)| format!("{k} = {}", value(v))).collect();
            format!("{{ {} }}", knobs.join(", "))
        }
    };
    format!("regularize.{}={text}", entry.name())
}

/// Whether the technique looks back at the weights of a trained model.
pub fn needs_start(entry: &Entry) -> bool {
    let settings = entry.example_settings();
    let plan = assemble([(entry.name(), &settings)]).expect("an example is allowed").plan;
    plan.keeps_start() || plan.redrawn.is_some()
}

/// Whether the technique is for labelled texts alone.
pub fn needs_labels(entry: &Entry) -> bool {
    let technique = (entry.build)(&entry.example_settings()).expect("an example builds");
    technique.learns() == Learns::Labels
}

/// A setting that starts from a trained model.
pub fn from_trained() -> String {
    static TRAINED: OnceLock<PathBuf> = OnceLock::new();
    let path = TRAINED.get_or_init(|| run("trained", &[]).path);
    format!("model.from={}", path.display())
}

/// The example, behind that of a technique without which it does nothing.
pub fn settings_of(entry: &Entry) -> Vec<String> {
    let technique = (entry.build)(&entry.example_settings()).expect("an example builds");
    let companion = technique.companion().map(|name| find(name).expect("registered"));
    let own = companion.into_iter().chain([entry]).map(example);
    needs_start(entry).then(from_trained).into_iter().chain(own).collect()
}
