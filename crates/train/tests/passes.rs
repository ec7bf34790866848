//! Techniques that take more than one pass or a second model: the same step however a batch is cut
//! and on any number of threads, teachers that are runs of their own, heads that no result has.

mod support;

use heldout_record::{Event, Manifest, RunDir, StepRecord};
use heldout_train::TrainError;
use support::*;

/// Each with what it needs beside it.
const CHOICES: [&[&str]; 5] = [
    &["regularize.sam=0.05", "regularize.dropout=0.2"],
    &["regularize.r-drop=2", "regularize.dropout=0.2"],
    &["regularize.distillation={ share = 0.5, decay = 0.9, temperature = 2 }"],
    &["regularize.multi-token-prediction=2", "regularize.dropout=0.2"],
    &[
        "regularize.sam=0.05",
        "regularize.r-drop=2",
        "regularize.dropout=0.2",
        "regularize.distillation={ share = 0.5, decay = 0.9 }",
        "regularize.multi-token-prediction=1",
        "regularize.ema=0.9",
    ],
];

fn steps(done: &Done) -> Vec<StepRecord> {
    let step = |event: &Event| match event {
        Event::Step(step) => Some(step.clone()),
        _ => None,
    };
    done.events.iter().filter_map(step).collect()
}

fn with<'a>(settings: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [settings, more].concat()
}

#[test]
fn neither_cuts_nor_threads_change_a_step() {
    for settings in CHOICES {
        let short = ["schedule.horizon=3 steps", "schedule.warmup=0 steps"];
        let settings = with(settings, &short);
        let whole = run("whole", &with(&settings, &["batch.micro=8"]));
        for micro in ["batch.micro=1", "batch.micro=3"] {
            let cut = run("cut", &with(&settings, &[micro]));
            let (one, other) = (&steps(&whole)[0], &steps(&cut)[0]);
            let what = format!("{settings:?} {micro}");
            assert!((one.objective - other.objective).abs() < 1e-6, "{what}");
            assert!((one.loss_train - other.loss_train).abs() < 1e-6, "{what}");
            let difference = (one.gradient_norm - other.gradient_norm).abs();
            assert!(difference < 2e-5 * one.gradient_norm, "{what}: {difference}");
        }
        let threads = run("threads", &with(&settings, &["batch.micro=8", "run.threads=3"]));
        assert_same_run(&whole.path, &threads.path, "threads");
    }
}

#[test]
fn all_of_them_survive_a_stop() {
    let settings = with(CHOICES[4], &["run.precision=bf16"]);
    let done = run("all passes", &settings);
    let stopped = run_until("all passes", &settings, 14);
    go_on(&stopped).expect("it goes on");
    assert_same_run(&done.path, &stopped, "stopped and resumed");
}

#[test]
fn heads_ahead_are_in_no_result() {
    let plain = run("plain", &[]);
    let ahead = run("ahead", &["regularize.multi-token-prediction=2"]);
    let names = |done: &Done| bits(&done.path.join("model")).into_keys().collect::<Vec<_>>();
    assert_eq!(names(&plain), names(&ahead));
    let (first, other) = (&steps(&plain)[0], &steps(&ahead)[0]);
    assert_eq!(first.loss_train.to_bits(), other.loss_train.to_bits(), "the next token's loss");
    assert!(other.objective > first.objective + 1.0);
}

#[test]
fn a_climb_is_taken_back_to_the_bit() {
    // An update that is lost in rounding leaves weights as they are (biases begin at zero).
    let still = ["optimizer.name=sgd", "optimizer.learning-rate=1e-30", "run.checkpoint=1 steps"];
    let plain = run("still", &with(&still, &["schedule.horizon=2 steps"]));
    let sam = run("still", &with(&still, &["schedule.horizon=2 steps", "regularize.sam=0.5"]));
    let weights = |done: &Done| {
        let mut all = bits(&done.path.join("last"));
        all.retain(|name, _| name.starts_with("model") && name.ends_with(".weight"));
        all
    };
    assert!(weights(&plain).len() > 8 && weights(&plain) == weights(&sam));
    assert_eq!(steps(&plain)[0].loss_train.to_bits(), steps(&sam)[0].loss_train.to_bits());
    assert_ne!(steps(&plain)[0].gradient_norm, steps(&sam)[0].gradient_norm);
}

fn teacher() -> Done {
    run("teacher", &["model.width=32", "model.layers=1", "run.seed=5", "data.validation=last 10%"])
}

#[test]
fn runs_teach_models_of_another_size() {
    let teacher = teacher();
    let name = teacher.path.display().to_string();
    let setting =
        format!("regularize.distillation={{ teacher = [{name:?}, {name:?}], share = 0.9 }}");
    let one = format!("regularize.distillation={{ teacher = {name:?}, share = 0.9 }}");
    let (two, one) = (run("two teachers", &[&setting]), run("one teacher", &[&one]));
    // The mean of two that agree is either.
    for (two, one) in steps(&two).iter().zip(&steps(&one)) {
        assert!((two.objective - one.objective).abs() < 1e-3, "{two:?} {one:?}");
    }
    let manifest = Manifest::read(&RunDir::open(&one.path).expect("a run").manifest());
    let data = manifest.expect("a manifest").data;
    let named = data.iter().find(|file| file.role == "teacher").expect("the teacher is named");
    assert!(named.hash.starts_with("sha256:") && named.path.starts_with(&name), "{named:?}");
    let receipt = one.events.iter().find_map(|event| match event {
        Event::Receipt(receipt) if receipt.technique == "distillation" => Some(receipt.clone()),
        _ => None,
    });
    let receipt = receipt.expect("a receipt");
    assert!(receipt.statement.contains(&name), "{}", receipt.statement);
    assert!(receipt.measured["teacher.loss"] < 3.1, "it has learned: {receipt:?}");
    let plain = run("plain", &[]);
    assert_ne!(losses(&plain.path), losses(&one.path));
}

#[test]
fn a_teacher_that_changes_stops_a_resume() {
    let teacher = teacher();
    let name = teacher.path.display().to_string();
    let setting = format!("regularize.distillation={name:?}");
    let settings = [setting.as_str()];
    let done = run("taught", &settings);
    let stopped = run_until("taught", &settings, 14);
    let other = run("another", &["model.width=32", "model.layers=1", "run.seed=6"]);
    let weights = |done: &Done| done.path.join("model/model.safetensors");
    let kept = std::fs::read(weights(&teacher)).expect("weights");
    std::fs::copy(weights(&other), weights(&teacher)).expect("copied");
    let error = go_on(&stopped).expect_err("another teacher");
    assert!(matches!(error, TrainError::TeacherChanged { .. }), "{error:?}");
    std::fs::write(weights(&teacher), kept).expect("restored");
    go_on(&stopped).expect("the teacher is back");
    assert_same_run(&done.path, &stopped, "with a teacher, stopped and resumed");
}

#[test]
fn teachers_that_cannot_teach_are_refused() {
    let teacher = teacher();
    let name = teacher.path.display().to_string();
    let setting = format!("regularize.distillation={name:?}");
    let refuse = |settings: &[&str], part: &str| {
        let error = job(settings).err().expect("it cannot teach").to_string();
        assert!(error.contains("distillation.teacher") && error.contains(part), "{error}");
        assert!(error.contains("command line:1:"), "{error}");
    };
    refuse(&[&setting, "data.tokenizer=byte"], "another tokenizer");
    refuse(&[&setting, "model.context=32"], "reads 16 tokens at once");
    refuse(&["regularize.distillation=runs/nowhere"], "no folder \"runs/nowhere\"");
}
