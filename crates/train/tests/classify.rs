//! A classifier from labelled texts to its result: like any run it keeps the best held-out weights,
//! goes on to the same bits, and is told when a bag of words does as well.

mod support;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use heldout_base::rng::{Random, streams};
use heldout_data::labelled::FieldNames;
use heldout_kernels::{Device, Precision};
use heldout_record::{Event, LabelBaselineRecord, RunDir};
use heldout_train::recipe::Recipe;
use heldout_train::session::Session;
use heldout_train::{
    Classifier, Control, Job, Split, TrainError, evaluate_labels, prepare_job, train,
};
use support::*;

/// Animals with a voice each; what is said around them tells nothing.
const VOICES: [(&str, &str); 6] = [
    ("cat", "soft"),
    ("dog", "loud"),
    ("owl", "soft"),
    ("cow", "loud"),
    ("bee", "soft"),
    ("ram", "loud"),
];
const AROUND: [&str; 7] = ["near", "red", "barn", "rain", "still", "old", "seven"];

fn write_texts(name: &str, first: u64, count: u64) -> PathBuf {
    let line = |n: u64| {
        let random = Random::new(11, streams::TEST, n);
        let (animal, label) = VOICES[random.below(0, 6) as usize];
        let word = |i: u64| AROUND[random.below(i, 7) as usize];
        let text = format!("{} {}. {animal} {} {} {n}", word(1), word(2), word(3), word(4));
        serde_json::json!({"text": text, "label": label}).to_string()
    };
    let lines: Vec<String> = (first..first + count).map(line).collect();
    let path = scratch().join(name);
    std::fs::write(&path, lines.join("\n") + "\n").expect("texts");
    path
}

fn labelled(settings: &[&str]) -> Recipe {
    let (train, dev) = (write_texts("train.jsonl", 0, 240), write_texts("dev.jsonl", 1000, 60));
    let mut recipe = Recipe::parse(
        r#"
        [data]
        task = "classify"
        tokenizer = "char"
        [model]
        layers = 1
        heads = 2
        width = 16
        context = 48
        [optimizer]
        learning-rate = 0.01
        [schedule]
        horizon = "30 steps"
        [batch]
        size = 16
        [regularize]
        dropout = 0.1
        token-dropout = false
        label-smoothing = false
        early-stopping = false
        [evaluate]
        every = "10 steps"
        [run]
        threads = 2
        precision = "f32"
        checkpoint = "7 steps"
        "#,
        "labels.toml",
    )
    .expect("TOML");
    recipe.set_data(&[train.display().to_string()]).expect("a path");
    recipe.set(&format!("data.validation={:?}", dev.display().to_string())).expect("a setting");
    settings.iter().for_each(|setting| recipe.set(setting).expect("a setting"));
    recipe
}

fn job_of(settings: &[&str]) -> Result<Job, TrainError> {
    prepare_job(&labelled(settings), &cache(), &mut |_| {})
}

fn run_of(name: &str, settings: &[&str]) -> Done {
    run_job(name, job_of(settings).unwrap_or_else(|e| panic!("{e}")))
}

fn device() -> Arc<Device> {
    Arc::new(Device::cpu(2, Precision::F32).expect("a processor"))
}

fn accuracies(events: &[Event]) -> Vec<f64> {
    let of = |event: &Event| match event {
        Event::Evaluation(e) => Some(e.metrics.iter().find(|m| m.name == "accuracy")?.valid),
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

#[test]
fn labels_are_learned_recorded_and_given() {
    let done = run_of("labels", &["schedule.horizon=\"240 steps\"", "evaluate.every=\"80 steps\""]);
    let accuracies = accuracies(&done.events);
    assert_eq!(accuracies.len(), 3);
    let best = accuracies.iter().copied().fold(0.0, f64::max);
    assert!(best > 0.9, "{accuracies:?}");
    let baseline = done.events.iter().find_map(|event| match event {
        Event::LabelBaseline(record) => Some(record.clone()),
        _ => None,
    });
    let LabelBaselineRecord { bag, majority, .. } = baseline.expect("a baseline");
    assert!(bag.accuracy > 0.9 && majority.accuracy < 0.8, "{bag:?} {majority:?}");
    let counts = done.events.iter().find_map(|event| match event {
        Event::Confusion(record) => Some(record.counts.clone()),
        _ => None,
    });
    assert_eq!(counts.expect("counts").concat().iter().sum::<u64>(), 60);

    let config = std::fs::read(done.path.join("model/config.json")).expect("a result");
    let config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
    assert_eq!(config["architectures"][0], "GPT2ForSequenceClassification");
    assert_eq!(config["id2label"]["0"], "loud");

    let own = evaluate_labels(&done.path, Ok(Split::Validation), device()).expect("scores");
    let accuracy = own.metrics.iter().find(|m| m.name == "accuracy").expect("accuracy");
    assert!((accuracy.value - best).abs() < 1e-9 || accuracy.value > 0.9, "{own:?}");
    assert_eq!((own.baselines.len(), own.examples), (2, 60));
    let files = [scratch().join("dev.jsonl").display().to_string()];
    let fields = FieldNames::default();
    let other = evaluate_labels(&done.path, Err((&files, &fields)), device()).expect("scores");
    assert_eq!((other.loss, other.confusion), (own.loss, own.confusion));

    let mut classifier = Classifier::open(&done.path, device()).expect("a classifier");
    let mut right = 0;
    let told = classifier.predict_files(&files, &fields, &mut |prediction| {
        let sum: f64 = prediction.probabilities.iter().sum();
        assert!((sum - 1.0).abs() < 1e-6);
        right += u64::from(prediction.record["label"] == prediction.label.as_str());
        ControlFlow::Continue(())
    });
    told.expect("predictions");
    assert_eq!(right as f64 / 60.0, accuracy.value);
    let refused = Session::open_language_model(&done.path, device()).err().expect("no text");
    assert!(refused.to_string().contains("heldout predict"), "{refused}");
}

/// Runs until `step` is recorded, then stops as a signal would make it.
fn stopped_at(name: &str, settings: &[&str], step: u64) -> PathBuf {
    let path = run_path(name);
    let control = Control::new();
    let mut stop = StopAt { step, control: control.clone() };
    let run = RunDir::create(&path).expect("a new folder");
    let job = job_of(settings).expect("a job");
    train(job, run, Vec::new(), &mut stop, &control).expect("an outcome");
    path
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bits() {
    let settings = &["regularize.r-drop=0.5", "regularize.label-smoothing=0.1"];
    let whole = run_of("whole", settings);
    let path = stopped_at("stopped", settings, 13);
    go_on(&path).expect("it goes on");
    assert_same_run(&whole.path, &path, "stopped and resumed");
    let pieces = run_of("pieces", &[&settings[..], &["batch.micro=6"]].concat());
    let (one, other) = (losses(&whole.path), losses(&pieces.path));
    let first = |losses: &[(u64, String, u64, u64)]| f64::from_bits(losses[0].2);
    assert!((first(&one) - first(&other)).abs() < 1e-6, "a batch may be cut anywhere");
}

#[test]
fn techniques_for_labels_are_alive_reproducible_and_resumable() {
    let plain = run_of("plain", &[]);
    for entry in heldout_regularize::CATALOGUE.iter().filter(|entry| needs_labels(entry)) {
        let (name, example) = (entry.name(), example(entry));
        let done = run_of(name, &[&example]);
        let receipt = done.events.iter().find_map(|event| match event {
            Event::Receipt(receipt) if receipt.technique == name => Some(receipt.clone()),
            _ => None,
        });
        assert!(!receipt.expect(name).statement.is_empty());
        assert_ne!(bits(&done.path.join("last")), bits(&plain.path.join("last")), "{name}");
        let path = stopped_at(&format!("{name} stopped"), &[&example], 13);
        go_on(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_same_run(&done.path, &path, name);
        let one_thread = run_of(&format!("{name} alone"), &[&example, "run.threads=1"]);
        assert_same_run(&done.path, &one_thread.path, name);
        let off = format!("regularize.{name}=off");
        assert_same_run(&plain.path, &run_of(&format!("{name} off"), &[&off]).path, name);
        let refused = job(&[&example]).err().unwrap_or_else(|| panic!("{name} on text"));
        assert!(refused.to_string().contains("--task classify"), "{refused}");
    }
}

#[test]
fn evaluations_see_neither_weights_nor_changed_texts() {
    let first = |settings: &[&str]| {
        let done = run_of(
            "seen",
            &[
                settings,
                &[
                    "schedule.horizon=\"1 steps\"",
                    "evaluate.every=\"1 steps\"",
                    "optimizer.learning-rate=1e-9",
                    "regularize.weight-decay=off",
                ],
            ]
            .concat(),
        );
        done.events.iter().find_map(|event| match event {
            Event::Evaluation(e) => Some((e.loss_valid, e.loss_train)),
            _ => None,
        })
    };
    let plain = first(&[]).expect("an evaluation");
    for setting in
        ["regularize.focal-loss=5", "regularize.eda=0.9", "regularize.class-weights=\"loud=9\""]
    {
        let other = first(&[setting]).expect("an evaluation");
        let close = (other.0 - plain.0).abs() < 1e-5 && (other.1 - plain.1).abs() < 1e-5;
        assert!(close, "{setting}: {other:?} for {plain:?}");
    }
}

fn refused(settings: &[&str], words: &str) {
    let message = job_of(settings).err().unwrap_or_else(|| panic!("{words}")).to_string();
    assert!(message.contains(words), "{message}");
}

#[test]
fn what_means_nothing_to_a_classifier_is_refused_by_name() {
    refused(&["regularize.weight-tying=true"], "no output projection");
    refused(&["regularize.multi-token-prediction=2"], "predicts no tokens");
    refused(&["data.boundary=record"], "`boundary` has no effect with the task \"classify\"");
    refused(&["evaluate.samples=1"], "`samples` has no effect");
    refused(&["data.label=stars"], "stars");
    refused(&["regularize.class-weights=\"lod=2\""], "did you mean \"loud\"");
    refused(&["regularize.eda={ edits = \"synonym\" }"], "no synonyms");
    refused(&["data.pair=label", "regularize.eda=0.1"], "not safe for classification of pairs");
    let language = job(&["evaluate.monitor=accuracy"]).err().expect("an error").to_string();
    assert!(language.contains("no \"accuracy\" to be watched"), "{language}");
}

#[test]
fn fine_tuning_takes_the_body_and_says_that_the_head_is_new() {
    // Bytes, since the labelled texts have characters of their own.
    let bytes = "data.tokenizer=byte";
    let language = run("language", &[bytes, "model.context=48", "schedule.horizon=\"4 steps\""]);
    let from = format!("model.from={:?}", language.path.display().to_string());
    let mut recipe = Recipe::empty();
    let train_path = write_texts("train.jsonl", 0, 240);
    let dev = write_texts("dev.jsonl", 1000, 60);
    recipe.set_data(&[train_path.display().to_string()]).expect("a path");
    let dev = format!("data.validation={:?}", dev.display().to_string());
    for setting in
        [&from, &dev, "data.task=classify", "schedule.horizon=\"6 steps\"", "evaluate.monitor=f1"]
    {
        recipe.set(setting).expect("a setting");
    }
    let tuned = tune("tuned", &recipe);
    assert!(notices(&tuned.events).contains("score.weight starts at random"));
    let again = format!("model.from={:?}", tuned.path.display().to_string());
    recipe.set(&again).expect("a setting");
    let more = tune("tuned again", &recipe);
    assert!(!notices(&more.events).contains("starts at random"), "the head knows these labels");
}

fn tune(name: &str, recipe: &Recipe) -> Done {
    run_job(name, prepare_job(recipe, &cache(), &mut |_| {}).unwrap_or_else(|e| panic!("{e}")))
}
