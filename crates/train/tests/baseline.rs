//! The n-gram model to beat: recorded once, on the network's own windows.

mod support;

use std::path::Path;
use std::sync::Arc;

use heldout_kernels::{Device, Precision};
use heldout_record::{BaselineRecord, Event, RunDir, read_metrics};
use heldout_train::session::Session;
use heldout_train::{Reference, Split, evaluate_files_beside, evaluate_run};
use support::*;

const NGRAM: &str = "evaluate.baseline=n-gram";

fn baselines(events: &[Event]) -> Vec<BaselineRecord> {
    let pick = |event: &Event| match event {
        Event::Baseline(record) => Some(record.clone()),
        _ => None,
    };
    events.iter().filter_map(pick).collect()
}

fn recorded(run: &Path) -> Vec<BaselineRecord> {
    baselines(&read_metrics(&run.join("metrics.jsonl")).expect("metrics"))
}

fn device() -> Arc<Device> {
    Arc::new(Device::cpu(2, Precision::F32).expect("a processor"))
}

#[test]
fn a_run_begins_with_a_baseline_and_a_resume_does_not_make_it_again() {
    let done = run("baseline", &[NGRAM]);
    let [record] = <[BaselineRecord; 1]>::try_from(baselines(&done.events)).expect("one");
    assert_eq!(record.choice.len(), 7, "orders 2 to 8 of characters");
    let best = record.choice.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)).expect("some");
    assert_eq!(record.order, best.order);
    assert!(record.order > 2 && record.ngrams > 1000 && record.limit.is_none(), "{record:?}");
    assert!((record.perplexity - record.loss_valid.exp()).abs() < 1e-9);
    assert!(record.loss_whole.is_some() && record.loss_valid_se > 0.0);
    let first = |kind: fn(&Event) -> bool| done.events.iter().position(kind).expect("it is there");
    assert!(first(|e| matches!(e, Event::Baseline(_))) < first(|e| matches!(e, Event::Receipt(_))));
    let path = run_until("baseline stopped", &[NGRAM], 5);
    let (_, events) = go_on(&path).expect("it goes on");
    assert!(baselines(&events).is_empty(), "not again");
    let again = recorded(&path);
    assert_eq!(again.len(), 1);
    let timeless = |record: &BaselineRecord| BaselineRecord { seconds: 0.0, ..record.clone() };
    assert_eq!(timeless(&again[0]), timeless(&record), "the same in every run");
    assert_same_run(&done.path, &path, "with a baseline");
}

#[test]
fn the_baseline_changes_nothing_else() {
    let with = run("with", &[NGRAM]);
    let without = run("without", &["evaluate.baseline=none"]);
    assert!(recorded(&without.path).is_empty());
    assert_same_run(&with.path, &without.path, "with and without");
}

#[test]
fn a_run_stopped_before_its_baseline_gets_it_when_it_goes_on() {
    let path = run_until("killed early", &[NGRAM], 2);
    let log = path.join("metrics.jsonl");
    let text = std::fs::read_to_string(&log).expect("metrics");
    let kept: Vec<&str> = text.lines().filter(|line| !line.contains("\"baseline\"")).collect();
    std::fs::write(&log, kept.join("\n") + "\n").expect("metrics");
    std::fs::remove_dir_all(path.join("checkpoints")).expect("checkpoints");
    std::fs::create_dir(path.join("checkpoints")).expect("a folder");
    let (_, events) = go_on(&path).expect("it goes on");
    assert_eq!((baselines(&events).len(), recorded(&path).len()), (1, 1));
}

#[test]
fn an_evaluation_compares_the_two_window_by_window() {
    let done = run("compared", &[NGRAM]);
    let record = recorded(&done.path).remove(0);
    let run = RunDir::open(&done.path).expect("a run");
    let of = |split| evaluate_run(&run, split, &cache(), device(), &mut |_| {}).expect("a score");
    let valid = of(Split::Validation);
    let baseline = valid.baseline.expect("a baseline");
    assert_eq!(Some(baseline.loss), record.loss_whole);
    assert_eq!(Some(baseline.loss_se), record.loss_whole_se);
    assert!((baseline.better - (baseline.loss - valid.loss)).abs() < 1e-6, "{baseline:?}");
    // The windows' difficulty is common to both and drops out of the difference.
    assert!(baseline.better_se < valid.loss_se.hypot(baseline.loss_se), "{baseline:?}");
    assert!(of(Split::Train).baseline.is_none(), "it has counted these");
    // Other text, here the held-out tail as a file of its own.
    let whole = std::fs::read_to_string(corpus()).expect("the corpus");
    let characters = whole.chars().count();
    let tail: String = whole.chars().skip(characters - valid.tokens as usize - 1).collect();
    let file = scratch().join("baseline-tail.txt");
    std::fs::write(&file, tail).expect("a file");
    let reference = Reference::of_run(&done.path, &cache(), &mut |_| {});
    assert!(matches!(reference, Ok(Some(_))));
    let mut session = Session::open(&done.path, device()).expect("a session");
    let names = [file.display().to_string()];
    let score = |session: &mut Session, reference| {
        evaluate_files_beside(session, &names, None, "contiguous", reference).expect("a score")
    };
    let other = score(&mut session, &reference).baseline.expect("a baseline");
    assert!((other.loss - baseline.loss).abs() < 1e-9, "{other:?} {baseline:?}");
    let missing = score(&mut session, &Err("gone".into()));
    assert_eq!(missing.baseline_missing.as_deref(), Some("gone"));
    let model = done.path.join("model");
    assert!(matches!(Reference::of_run(&model, &cache(), &mut |_| {}), Ok(None)));
}

#[test]
fn changed_data_give_no_baseline_but_an_evaluation() {
    let text = write_corpus("baseline-changing.txt", 700);
    let done = run("baseline changed", &[NGRAM, &format!("data.train={}", text.display())]);
    write_corpus("baseline-changing.txt", 720);
    let why = Reference::of_run(&done.path, &cache(), &mut |_| {}).err().expect("none");
    assert!(why.contains("is not what it was"), "{why}");
    std::fs::remove_file(&text).expect("it was there");
    let why = Reference::of_run(&done.path, &cache(), &mut |_| {}).err().expect("none");
    assert!(why.contains("cannot be read"), "{why}");
}
