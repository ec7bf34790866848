//! Masked tokens, from text to a classifier: a run learns them, goes on to the same bits, is
//! exported as an encoder, and another run starts from it.

mod support;

use std::sync::{Arc, OnceLock};

use heldout_kernels::{Device, Precision};
use heldout_record::{EvaluationRecord, Event, RunDir};
use heldout_train::recipe::Recipe;
use heldout_train::{Control, Job, Split, TrainError, evaluate_masked, prepare_job, train};
use support::*;

/// Short lines, each with a voice that goes with the animal, and a label.
fn texts() -> String {
    const VOICES: [(&str, &str); 4] =
        [("cat", "soft"), ("dog", "loud"), ("owl", "soft"), ("cow", "loud")];
    static TEXTS: OnceLock<String> = OnceLock::new();
    let line = |n: usize| {
        let (animal, voice) = VOICES[n * 7 % 4];
        let text = format!("the {animal} number {n} was {voice} in the barn");
        serde_json::json!({"text": text, "label": voice}).to_string() + "\n"
    };
    let write = || {
        let path = scratch().join("texts.jsonl");
        std::fs::write(&path, (0..240).map(line).collect::<String>()).expect("texts");
        path.display().to_string()
    };
    TEXTS.get_or_init(write).clone()
}

fn masked(settings: &[&str]) -> Result<Job, TrainError> {
    let mut recipe = Recipe::parse(
        r#"
        [data]
        task = "mlm"
        vocabulary = 620
        duplicates = "report"
        [model]
        layers = 1
        heads = 2
        width = 32
        context = 24
        [optimizer]
        learning-rate = 0.004
        [schedule]
        horizon = "24 steps"
        [batch]
        size = 32
        [regularize]
        dropout = 0.1
        early-stopping = false
        [evaluate]
        every = "8 steps"
        [run]
        threads = 2
        precision = "f32"
        checkpoint = "7 steps"
        "#,
        "masked.toml",
    )
    .expect("TOML");
    recipe.set_data(&[texts()]).expect("a path");
    settings.iter().for_each(|setting| recipe.set(setting).expect("a setting"));
    prepare_job(&recipe, &cache(), &mut |_| {})
}

fn run_of(name: &str, settings: &[&str]) -> Done {
    run_job(name, masked(settings).unwrap_or_else(|e| panic!("{e}")))
}

fn evaluations(events: &[Event]) -> Vec<EvaluationRecord> {
    let of = |event: &Event| match event {
        Event::Evaluation(evaluation) => Some(evaluation.clone()),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

fn notices(events: &[Event]) -> String {
    let of = |event: &Event| match event {
        Event::Notice(notice) => Some(notice.text.clone()),
        _ => None,
    };
    events.iter().filter_map(of).collect::<Vec<_>>().join("\n")
}

fn device() -> Arc<Device> {
    Arc::new(Device::cpu(2, Precision::F32).expect("a processor"))
}

#[test]
fn masked_tokens_are_found_and_an_encoder_goes_on_from_there() {
    let longer = ["schedule.horizon=\"80 steps\"", "evaluate.every=\"40 steps\""];
    let done = run_of("masked", &longer);
    let found = evaluations(&done.events);
    let best = found.last().expect("an evaluation");
    let baseline = done.events.iter().find_map(|event| match event {
        Event::Baseline(record) => Some(record.clone()),
        _ => None,
    });
    let baseline = baseline.expect("how common tokens are");
    assert!(best.loss_valid < baseline.loss_valid - 0.5, "{best:?} {baseline:?}");
    assert!(best.metrics[0].name == "accuracy" && best.metrics[0].valid > 0.3, "{best:?}");

    let config = std::fs::read(done.path.join("model/config.json")).expect("a result");
    let config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
    assert_eq!(config["architectures"][0], "BertForMaskedLM");
    let run = RunDir::open(&done.path).expect("a run");
    let split = Split::Validation;
    let own = evaluate_masked(&run, split, &cache(), device(), &mut |_| {}).expect("a score");
    let lowest = found.iter().map(|e| e.loss_valid).fold(f64::INFINITY, f64::min);
    assert!((own.loss - lowest).abs() < 1e-6, "{own:?} {lowest}");

    let from = format!("model.from={:?}", done.path.display().to_string());
    let mut recipe = Recipe::empty();
    recipe.set_data(&[texts()]).expect("a path");
    for setting in [&from[..], "data.task=mlm", "data.duplicates=report", "data.whole-word=true"] {
        recipe.set(setting).expect("a setting");
    }
    recipe.set("schedule.horizon=\"2 steps\"").expect("a setting");
    let go_on = |recipe: &Recipe| prepare_job(recipe, &cache(), &mut |_| {});
    let more = run_job("more", go_on(&recipe).unwrap_or_else(|e| panic!("{e}")));
    assert!(!notices(&more.events).contains("at random"), "the head is there already");

    let mut recipe = Recipe::empty();
    recipe.set_data(&[texts()]).expect("a path");
    for setting in [&from[..], "data.task=classify", "schedule.horizon=\"2 steps\""] {
        recipe.set(setting).expect("a setting");
    }
    recipe.set("data.duplicates=report").expect("a setting");
    let labels = run_job("labels", go_on(&recipe).unwrap_or_else(|e| panic!("{e}")));
    let said = notices(&labels.events);
    assert!(said.contains("classifier.weight") && said.contains("at random"), "{said}");
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bits() {
    let settings = &["regularize.r-drop=0.5"];
    let whole = run_of("whole", settings);
    let path = run_path("stopped");
    let control = Control::new();
    let mut stop = StopAt { step: 13, control: control.clone() };
    let run = RunDir::create(&path).expect("a new folder");
    let job = masked(settings).unwrap_or_else(|e| panic!("{e}"));
    train(job, run, Vec::new(), &mut stop, &control).expect("an outcome");
    go_on(&path).expect("it goes on");
    assert_same_run(&whole.path, &path, "stopped and resumed");
}

#[test]
fn what_means_nothing_to_masked_tokens_is_refused_by_name() {
    let refused = |settings: &[&str], words: &str| {
        let message = masked(settings).err().unwrap_or_else(|| panic!("{words}")).to_string();
        assert!(message.contains(words), "{message}");
    };
    refused(&["model.family=gpt2"], "cannot learn the task \"mlm\"");
    refused(&["regularize.multi-token-prediction=2"], "bert");
    refused(&["data.label=stars"], "`label` has no effect with the task \"mlm\"");
    refused(&["evaluate.samples=1"], "`samples` has no effect");
    refused(&["evaluate.monitor=f1"], "no \"f1\" to be watched");
    refused(&["data.tokenizer=char", "data.whole-word=true"], "vocabulary");
    let other = |settings: &[&str], words: &str| {
        let message = job(settings).err().unwrap_or_else(|| panic!("{words}")).to_string();
        assert!(message.contains(words), "{message}");
    };
    other(&["data.mask-rate=0.2"], "`mask-rate` has no effect with the task \"lm\"");
    other(&["model.family=bert"], "cannot learn the task \"lm\"");
}
