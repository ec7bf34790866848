//! A profiled step: the same training to the last bit, spans that nest, sums that add up.

mod support;

use std::path::Path;

use heldout_record::{Event, ProfileRecord, RunDir, TimingRecord};
use heldout_train::{Control, resume, train};
use serde_json::Value;
use support::*;

/// Everything that takes time in a step.
const BUSY: &[&str] = &[
    "regularize.dropout=0.1",
    "regularize.ema=0.8",
    "regularize.l1=1e-5",
    "regularize.weight-decay=0.1",
    "batch.micro=4",
];

fn profile_of(events: &[Event]) -> Option<&ProfileRecord> {
    let mut all = events.iter().filter_map(|event| match event {
        Event::Profile(profile) => Some(profile),
        _ => None,
    });
    let first = all.next();
    assert!(all.next().is_none(), "one step is profiled");
    first
}

fn timing_of(events: &[Event]) -> &TimingRecord {
    let timing = events.iter().find_map(|event| match event {
        Event::Timing(timing) => Some(timing),
        _ => None,
    });
    timing.expect("a run ends with its timing")
}

fn profiled(name: &str, settings: &[&str]) -> Done {
    let path = run_path(name);
    let control = Control::new();
    control.profile_a_step();
    let mut events = Events::default();
    let run = RunDir::create(&path).expect("a new folder");
    let job = job(settings).unwrap_or_else(|e| panic!("{e}"));
    let outcome = train(job, run, Vec::new(), &mut events, &control);
    Done { path, outcome: outcome.unwrap_or_else(|e| panic!("{name}: {e}")), events: events.0 }
}

/// Name, category, start and end in nanoseconds, in the order of the file.
fn spans(run: &Path) -> Vec<(String, String, u64, u64)> {
    let text = std::fs::read_to_string(run.join("profile.json")).expect("a trace");
    let trace: Value = serde_json::from_str(&text).expect("it is JSON");
    let events = trace["traceEvents"].as_array().expect("a list");
    let word = |event: &Value, key: &str| event[key].as_str().expect("a text").to_owned();
    let time = |event: &Value, key: &str| {
        (event[key].as_f64().expect("microseconds") * 1e3).round() as u64
    };
    let complete = events.iter().filter(|event| event["ph"] == "X");
    complete
        .map(|event| {
            let start = time(event, "ts");
            (word(event, "name"), word(event, "cat"), start, start + time(event, "dur"))
        })
        .collect()
}

#[test]
fn a_profile_changes_no_bit_and_its_spans_nest() {
    let plain = run("plain", BUSY);
    assert!(profile_of(&plain.events).is_none() && !plain.path.join("profile.json").exists());
    let done = profiled("profiled", BUSY);
    assert_same_run(&plain.path, &done.path, "profiled");
    let profile = profile_of(&done.events).expect("a profile");
    assert_eq!((profile.step, profile.tokens), (5, 8 * 16));

    let mut open: Vec<(u64, &str)> = Vec::new();
    let spans = spans(&done.path);
    assert_eq!(spans[0].0, "step 5");
    for (name, kind, start, end) in &spans {
        while open.last().is_some_and(|(end, _)| end <= start) {
            open.pop();
        }
        let outer = open.last();
        assert!(outer.is_none_or(|(outer, _)| end <= outer), "{name} juts out of {outer:?}");
        assert!(outer.is_none_or(|(_, kind)| *kind == "frame"), "{name} lies in an op");
        open.push((*end, kind));
    }
    let (step, ops) = (spans[0].3, spans.iter().filter(|span| span.1 == "op"));
    let sum: u64 = ops.map(|(_, _, start, end)| end - start).sum();
    let seconds: f64 = profile.ops.iter().map(|op| op.seconds).sum();
    assert!((seconds - sum as f64 * 1e-9).abs() < 1e-9, "{seconds} in the record, {sum} ns");
    assert!(sum <= step, "{sum} ns of {step}");
    assert!((profile.seconds - step as f64 * 1e-9).abs() < 1e-12, "{step} ns");
}

#[test]
fn everything_in_a_step_is_named_with_its_work() {
    // Three pieces of the batch, the step evaluated and saved.
    let all = [BUSY, &["evaluate.every=5 steps", "run.checkpoint=5 steps"]].concat();
    let done = profiled("all parts", &all);
    let profile = profile_of(&done.events).expect("a profile");
    let find = |name: &str| {
        let names: Vec<_> = profile.ops.iter().map(|op| &op.name).collect();
        let op = profile.ops.iter().find(|op| op.name == name);
        op.unwrap_or_else(|| panic!("no {name} in {names:?}"))
    };
    let parameters = match &done.events[0] {
        Event::Started(started) => started.parameters as f64,
        other => panic!("{other:?}"),
    };
    // Two pieces of 64 tokens, two layers: queries, keys and values of 16 each.
    let linear = find("linear 48×16");
    assert_eq!((linear.calls, linear.flops), (4, 2.0 * 2.0 * 128.0 * 48.0 * 16.0));
    // Weights and two moments in and out, gradients in; the count of updates beside them is two.
    let update = find("adamw update").bytes;
    assert!((update - 28.0 * parameters).abs() <= 64.0, "{update} of {parameters}");
    assert_eq!(find("gradient norm and clipping").bytes, 4.0 * parameters);
    assert_eq!(find("weight average").bytes, 12.0 * parameters);
    for name in ["wait for data", "record", "evaluation", "checkpoint", "guard"] {
        assert_eq!(find(name).flops, 0.0);
    }
    assert_eq!(find("evaluation").calls, 2, "raw and averaged weights");
    let sorted = profile.ops.is_sorted_by(|a, b| a.seconds >= b.seconds);
    assert!(sorted && profile.ops.iter().all(|op| op.calls > 0));
}

#[test]
fn a_run_too_short_is_profiled_at_its_end_and_a_resumed_one_anew() {
    let done = profiled("short", &["schedule.horizon=3 steps", "schedule.warmup=0 steps"]);
    assert_eq!(profile_of(&done.events).map(|profile| profile.step), Some(3));
    let path = run_until("stopped", BUSY, 12);
    let control = Control::new();
    control.profile_a_step();
    let mut events = Events::default();
    let run = RunDir::open(&path).expect("a run");
    resume(run, &cache(), &mut |_| {}, &mut events, &control).expect("it goes on");
    assert_eq!(profile_of(&events.0).map(|profile| profile.step), Some(17));
    let whole = self::run("whole", BUSY);
    assert_same_run(&whole.path, &path, "resumed and profiled");
}

#[test]
fn the_time_of_a_run_adds_up_over_stops() {
    let whole = run("timed", BUSY);
    let check = |timing: &TimingRecord, what: &str| {
        let parts = [
            timing.step_seconds,
            timing.data_seconds,
            timing.evaluation_seconds,
            timing.sample_seconds,
            timing.checkpoint_seconds,
        ];
        let sum: f64 = parts.iter().sum();
        assert!(sum <= timing.seconds, "{what}: {timing:?}");
        // Tiny steps leave receipts and the result a large share, but never nearly all.
        assert!(sum > 0.05 * timing.seconds, "{what}: {timing:?}");
        assert_eq!((timing.step, timing.step_tokens), (24, 24 * 8 * 16), "{what}");
        assert!(timing.checkpoint_seconds_most > 0.0, "{what}");
        assert!(timing.checkpoint_seconds_most <= timing.checkpoint_seconds, "{what}");
    };
    let timing = timing_of(&whole.events);
    check(timing, "whole");
    let path = run_until("timed", BUSY, 13);
    let (_, events) = go_on(&path).expect("it goes on");
    let resumed = timing_of(&events);
    check(resumed, "resumed");
    assert_eq!(timing.evaluation_tokens, resumed.evaluation_tokens);
}
