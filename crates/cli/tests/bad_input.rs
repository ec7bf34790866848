//! Whatever is wrong with what was given ends with a clear message and the right exit code.

mod common;

use common::{Scratch, TINY, tiny};

fn check(scratch: &Scratch, code: i32, arguments: &[&str], words: &[&str]) {
    let err = scratch.fails(code, arguments);
    for word in words {
        assert!(err.contains(word), "no {word:?} in:\n{err}");
    }
}

#[test]
fn data_that_is_no_text() {
    let scratch = Scratch::new();
    scratch.write("empty.txt", "");
    check(&scratch, 2, &["train", "empty.txt"], &["empty.txt", "empty"]);
    scratch.write("spaces.txt", " \n\n \n");
    check(&scratch, 2, &["train", "spaces.txt"], &["spaces.txt"]);
    scratch.write("binary.txt", b"\x7fELF\x00\x01\x02 text");
    check(&scratch, 2, &["train", "binary.txt"], &["binary.txt", "not a text file"]);
    scratch.write("latin.txt", b"one\ntwo caf\xe9\n");
    check(&scratch, 2, &["train", "latin.txt"], &["latin.txt:2", "UTF-8", "0xe9"]);
    scratch.write("short.txt", "a b c");
    check(&scratch, 2, &["train", "short.txt"], &["tokens"]);
    check(&scratch, 2, &["train", "missing.txt"], &["missing.txt"]);
    check(&scratch, 2, &["train"], &["nothing to train on", "heldout train my-text.txt"]);
    scratch.write("cut.txt.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03cut");
    check(&scratch, 2, &["train", "cut.txt.gz"], &["cut.txt.gz"]);
    assert!(!scratch.join("runs").exists(), "a run that never began left a folder");
}

#[test]
fn records_without_their_field() {
    let scratch = Scratch::new();
    let mut lines: Vec<String> = (0..50).map(|i| format!("{{\"body\": \"text {i}\"}}\n")).collect();
    lines[6] = "{\"id\": 7}\n".to_owned();
    scratch.write("r.jsonl", lines.concat());
    let arguments = ["train", "r.jsonl", "--set", "data.field=body"];
    check(&scratch, 2, &arguments, &["r.jsonl:7", "body", "id"]);
    lines[6] = "{\"body\": \n".to_owned();
    scratch.write("r.jsonl", lines.concat());
    check(&scratch, 2, &arguments, &["r.jsonl:7"]);
}

#[test]
fn recipes_that_ask_for_nonsense() {
    let scratch = tiny();
    let set = |setting: &'static str| ["train", "tiny.toml", "--set", setting];
    check(&scratch, 2, &set("optimizer.learning-rate=nan"), &["learning-rate", "^"]);
    check(&scratch, 2, &set("optimizer.learning-rat=0.1"), &["learning-rate", "^"]);
    check(&scratch, 2, &set("regularize.drop-out=0.1"), &["dropout"]);
    check(&scratch, 2, &set("regularize.dropout=1.5"), &["dropout", "0.99"]);
    check(&scratch, 2, &set("model.heads=3"), &["heads"]);
    check(&scratch, 2, &set("nonsense"), &["nonsense"]);
    check(&scratch, 2, &["train", "none.toml"], &["none.toml"]);
    check(&scratch, 2, &["train", "tiny.toml", "--recipe", "tiny.toml"], &["two recipes"]);
    scratch.write("bad.toml", TINY.replace("layers = 2", "layers = two"));
    check(&scratch, 2, &["train", "bad.toml"], &["bad.toml:7", "^"]);
    scratch.write("late.toml", TINY.replace("[batch]", "[bach]"));
    check(&scratch, 2, &["validate", "late.toml"], &["late.toml:16", "batch"]);
    insta::assert_snapshot!(
        "unknown_key",
        scratch.fails(2, &["train", "tiny.toml", "--set", "regularize.drop-out=0.1"])
    );
}

#[test]
fn more_than_the_memory() {
    let scratch = tiny();
    let arguments = [
        "train",
        "tiny.toml",
        "--set",
        "model.width=8192",
        "--set",
        "model.layers=100",
        "--set",
        "run.precision=f32",
        "--set",
        "run.memory=keep",
    ];
    check(&scratch, 2, &arguments, &["GiB", "run.memory"]);
    let validate = [&["validate"], &arguments[1..]].concat();
    check(&scratch, 2, &validate, &["GiB", "run.memory"]);
}

#[test]
fn validation_inside_the_training_data() {
    let scratch = tiny();
    check(&scratch, 2, &["train", "tiny.toml", "--validation", "text.txt"], &["text.txt"]);
}

#[test]
fn folders_that_cannot_be_used() {
    let scratch = tiny();
    let err = scratch.run(&["train", "tiny.toml", "--out", "/proc/heldout/run"]);
    assert!(matches!(err.code, Some(1 | 2)) && err.err.contains("/proc/heldout"), "{}", err.err);
    scratch.write("full/other.txt", "not a run");
    check(&scratch, 2, &["train", "tiny.toml", "--out", "full"], &["full", "not empty"]);
    check(&scratch, 2, &["resume", "full"], &["full"]);
    check(&scratch, 2, &["resume", "nowhere"], &["nowhere"]);
    check(&scratch, 2, &["evaluate", "nowhere"], &["nowhere"]);
    check(&scratch, 2, &["evaluate", "full"], &["full"]);
    check(&scratch, 2, &["generate", "full"], &["full"]);
}

#[test]
fn a_run_is_never_overwritten() {
    let scratch = tiny();
    let train = ["train", "tiny.toml", "--out", "r", "--steps", "5", "--quiet"];
    scratch.ok(&train);
    check(&scratch, 2, &train, &["holds a run", "heldout resume r"]);
}

#[test]
fn a_loss_that_explodes_stops_the_run_with_3() {
    let scratch = tiny();
    let arguments = [
        "train",
        "tiny.toml",
        "--out",
        "r",
        "--set",
        "optimizer.name=sgd",
        "--set",
        "optimizer.learning-rate=100.0",
        "--set",
        "schedule.warmup=\"1 steps\"",
        "--set",
        "regularize.gradient-clipping=false",
        "--set",
        "regularize.weight-decay=false",
        "--set",
        "regularize.explosion-guard={ policy = \"stop\" }",
    ];
    let ran = scratch.run(&arguments);
    assert_eq!(ran.code, Some(3), "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("diverged"), "{}", ran.out);
    assert!(ran.err.contains("guard"), "{}", ran.err);
}

#[test]
fn generation_with_impossible_settings() {
    let scratch = tiny();
    scratch.ok(&["train", "tiny.toml", "--out", "r", "--steps", "5", "--quiet"]);
    check(&scratch, 2, &["generate", "r", "--temperature", "-1"], &["temperature"]);
    check(&scratch, 2, &["generate", "r", "--top-p", "1.5"], &["top"]);
    check(&scratch, 2, &["generate", "r", "--prompt-file", "none.txt"], &["none.txt"]);
    assert_eq!(scratch.run(&["generate", "r", "--greedy", "--top-k", "5"]).code, Some(2));
}
