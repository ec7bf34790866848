//! Stopping and going on at any moment leaves no trace in the result.

mod support;

use std::fs;
use std::path::Path;

use heldout_base::rng::{Random, streams};
use heldout_kernels::{Device, Isa};
use heldout_record::{Event, StopReason};
use support::*;

/// Everything with a state of its own at once.
const STATEFUL: &[&str] = &[
    "regularize.dropout=0.1",
    "regularize.layer-drop=0.1",
    "regularize.ema=0.8",
    "regularize.early-stopping=3 evaluations",
    "regularize.explosion-guard=skip",
    "regularize.weight-decay=0.1",
    "schedule.shape=plateau",
    "schedule.patience=1",
];

#[test]
fn a_stopped_run_ends_as_if_it_had_never_stopped() {
    let whole = run("whole", STATEFUL);
    assert_eq!(whole.outcome.reason, StopReason::Horizon);
    assert_eq!(whole.outcome.step, 24);
    let random = Random::new(3, streams::TEST, 0);
    let mut moments: Vec<u64> = (0..5).map(|i| 1 + random.below(i, 23)).collect();
    moments.push(1);
    moments.push(23);
    for step in moments {
        let path = run_until("stopped", STATEFUL, step);
        let (outcome, events) = go_on(&path).expect("it goes on");
        assert_eq!(outcome.step, 24);
        let resumed = events.iter().find_map(|e| match e {
            Event::Started(s) => s.resumed_at,
            _ => None,
        });
        assert_eq!(resumed, Some(step));
        assert_same_run(&whole.path, &path, &format!("stopped after step {step}"));
    }
}

#[test]
fn stopping_leaves_no_trace_with_any_instruction_set() {
    for isa in Isa::ALL.into_iter().filter(|isa| *isa <= Device::detect_isa()) {
        let name = format!("run.isa={}", isa.name());
        let settings = [STATEFUL, &[&name]].concat();
        let whole = run("whole", &settings);
        let started = whole.events.iter().find_map(|e| match e {
            Event::Started(s) => Some(s.device.clone()),
            _ => None,
        });
        assert!(started.is_some_and(|device| device.contains(isa.name())), "{name}");
        let path = run_until("stopped", &settings, 11);
        go_on(&path).expect("it goes on");
        assert_same_run(&whole.path, &path, &name);
    }
}

/// The marks of predictable tokens are found again after a stop, and cut with the batch.
#[test]
fn guided_token_dropout_leaves_no_trace() {
    for (method, more) in [("zero", "run.memory=recompute"), ("replace", "regularize.r-drop=1")] {
        let guided = format!(
            "regularize.token-dropout={{ rate = {{ peak = 0.3, shape = \"linear\", end = 0.1 }}, \
             method = \"{method}\", guide = \"predictable\" }}"
        );
        let settings = [&guided, more, "batch.micro=3"];
        let whole = run("guided", &settings);
        let receipt = whole.events.iter().find_map(|e| match e {
            Event::Receipt(r) if r.technique == "token-dropout" => Some(r.clone()),
            _ => None,
        });
        let receipt = receipt.expect("a receipt");
        assert_eq!(receipt.measured["tokens.dropped_others"], 0.0);
        assert!((receipt.measured["tokens.predictable"] - 0.5).abs() < 1e-3, "{receipt:?}");
        let (easy, hard) = ("tokens.loss_predictable", "tokens.loss_others");
        assert!(receipt.measured[easy] + 0.5 < receipt.measured[hard], "{receipt:?}");
        let path = run_until("guided", &[&guided, more, "batch.micro=3"], 11);
        go_on(&path).expect("it goes on");
        assert_same_run(&whole.path, &path, &format!("guided, {method}"));
        let uniform = guided.replace(", guide = \"predictable\"", "");
        let uniform = run("uniform", &[&uniform, more, "batch.micro=3"]);
        assert_ne!(losses(&whole.path), losses(&uniform.path), "{method}: guiding does something");
    }
}

#[test]
fn recomputed_activations_leave_no_trace() {
    let whole = run("whole", &[STATEFUL, &["run.memory=keep", "batch.micro=3"]].concat());
    let settings = [STATEFUL, &["run.memory=recompute", "batch.micro=3"]].concat();
    let path = run_until("stopped", &settings, 13);
    go_on(&path).expect("it goes on");
    assert_same_run(&whole.path, &path, "recomputed");
}

/// What `kill -9` leaves: a run whose newest checkpoint may be half-written or missing, with
/// metrics that go beyond it.
#[test]
fn a_killed_run_goes_on_from_its_last_whole_checkpoint() {
    let whole = run("whole", STATEFUL);
    let killed = |name: &str, damage: &dyn Fn(&Path)| {
        let path = run_until(name, STATEFUL, 17);
        damage(&path);
        let (_, events) = go_on(&path).expect("it goes on");
        assert_same_run(&whole.path, &path, name);
        events
    };
    killed("killed while staging", &|path| {
        let staging = path.join("checkpoints/.staging-step-000018");
        fs::create_dir(&staging).expect("a folder");
        fs::write(staging.join("model.safetensors"), [1, 2, 3]).expect("a file");
        let log = path.join("metrics.jsonl");
        let mut text = fs::read(&log).expect("metrics");
        text.extend_from_slice(b"{\"event\":\"step\",\"step\":18,\"tok");
        fs::write(&log, text).expect("a torn line");
    });
    killed("killed before pointing to the checkpoint", &|path| {
        fs::remove_dir_all(path.join("checkpoints/step-000017")).expect("it was there");
        fs::remove_file(path.join("last")).expect("it was there");
        std::os::unix::fs::symlink("checkpoints/step-000016", path.join("last")).expect("a link");
    });
    let events = killed("a damaged checkpoint", &|path| {
        let file = path.join("checkpoints/step-000017/training_state.safetensors");
        let mut bytes = fs::read(&file).expect("a state");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(&file, bytes).expect("damage");
    });
    let warned = |e: &Event| matches!(e, Event::Notice(n) if n.text.contains("step-000017"));
    assert!(events.iter().any(warned), "the damage is told: {events:?}");
    let events = killed("a cut checkpoint", &|path| {
        let file = path.join("checkpoints/step-000017/model.safetensors");
        let bytes = fs::read(&file).expect("weights");
        fs::write(&file, &bytes[..bytes.len() / 3]).expect("damage");
    });
    assert!(events.iter().any(warned), "the damage is told: {events:?}");
    killed("all checkpoints lost", &|path| {
        fs::remove_dir_all(path.join("checkpoints")).expect("they were there");
        fs::create_dir(path.join("checkpoints")).expect("a folder");
    });
}

#[test]
fn a_run_that_is_over_stays_as_it_is() {
    // No evaluation improves by a whole nat, so the second is one too many.
    let stop = ["regularize.early-stopping={ patience = \"1 evaluations\", min-delta = 1.0 }"];
    let done = run("over", &stop);
    assert_eq!(done.outcome.reason, StopReason::EarlyStopping);
    assert!(done.outcome.step < 24, "{:?}", done.outcome);
    let (before, lines) = (bits(&done.path.join("model")), losses(&done.path));
    let (outcome, _) = go_on(&done.path).expect("nothing to do");
    assert_eq!((outcome.reason, outcome.step), (StopReason::EarlyStopping, done.outcome.step));
    assert_eq!(bits(&done.path.join("model")), before);
    assert_eq!(losses(&done.path), lines);
}

#[test]
fn the_result_is_the_best_checkpoint_whatever_came_later() {
    // A rate that rises until it ruins the weights.
    let done = run("ruined", &["schedule.warmup=100%", "optimizer.learning-rate=2"]);
    let best = done.outcome.best.expect("a best");
    let evaluations: Vec<(u64, f64)> = done
        .events
        .iter()
        .filter_map(|e| match e {
            Event::Evaluation(e) => Some((e.step, e.loss_valid)),
            _ => None,
        })
        .collect();
    let lowest = evaluations.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).expect("some");
    assert_eq!((best.step, best.loss_valid), lowest);
    assert!(best.step < 24, "{evaluations:?}");
    let of_best = bits(&done.path.join(format!("checkpoints/step-{:06}", best.step)));
    for (name, values) in bits(&done.path.join("model")) {
        assert_eq!(of_best[&name], values, "{name}");
    }
}

#[test]
fn a_best_checkpoint_that_cannot_be_read_is_replaced_with_a_warning() {
    let path = run_until("best lost", &[], 23);
    let best = path.join("best/model.safetensors");
    let mut bytes = fs::read(&best).expect("weights");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&best, bytes).expect("damage");
    let (outcome, events) = go_on(&path).expect("it goes on");
    assert_eq!(outcome.step, 24);
    let warned = |e: &Event| matches!(e, Event::Notice(n) if n.text.contains("best checkpoint"));
    assert!(events.iter().any(warned), "{events:?}");
    assert!(path.join("model/model.safetensors").is_file());
}

#[test]
fn changed_data_is_refused() {
    let text = write_corpus("changing.txt", 700);
    let data = format!("data.train={}", text.display());
    let path = run_until("changed data", &[&data], 5);
    write_corpus("changing.txt", 701);
    let error = go_on(&path).expect_err("other data").to_string();
    assert!(error.contains("changed since the run began"), "{error}");
}

#[test]
fn a_time_limit_ends_a_run_and_a_resume_has_what_is_left() {
    let limit = ["schedule.horizon=2 s", "evaluate.every=20%", "run.checkpoint=10 steps"];
    let done = run("timed", &limit);
    assert_eq!(done.outcome.reason, StopReason::Time);
    assert!(done.outcome.seconds >= 2.0 && done.outcome.seconds < 20.0, "{:?}", done.outcome);
    let path = run_until("timed and stopped", &limit, 10);
    let begin = std::time::Instant::now();
    let (outcome, _) = go_on(&path).expect("it goes on");
    assert_eq!(outcome.reason, StopReason::Time);
    assert!(begin.elapsed().as_secs_f64() < 20.0 && outcome.seconds >= 2.0);
}
