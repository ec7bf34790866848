//! Labels on the command line: texts changed in training and previewed, weights that are receipts,
//! predictions of what comes on standard input, and ablations.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use common::{Scratch, ran};

const SMALL: [&str; 14] = [
    "--task",
    "classify",
    "--set",
    "data.tokenizer=char",
    "--set",
    "model.layers=1",
    "--set",
    "model.heads=1",
    "--set",
    "model.width=8",
    "--set",
    "model.context=48",
    "--threads",
    "1",
];

/// Four in five are good: rare ones count more.
fn reviews(scratch: &Scratch) {
    let line = |n: usize| {
        let (what, label) = if n % 5 == 0 { ("bad", "no") } else { ("good", "yes") };
        let text = format!("It was number {n}. A {what} film, we say! The end is {}.", n * 7 % 31);
        serde_json::json!({"text": text, "label": label}).to_string() + "\n"
    };
    scratch.write("reviews.jsonl", (0..120).map(line).collect::<String>());
    scratch.write("words.txt", "film\tmovie picture\ngood\tfine great\nbad\tpoor\n");
}

fn train(scratch: &Scratch, out: &str, settings: &[&str]) -> String {
    let fixed = ["train", "reviews.jsonl", "--steps", "3", "--out", out];
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    let all: Vec<&str> = fixed.into_iter().chain(SMALL).chain(settings).collect();
    scratch.ok(&all);
    std::fs::read_to_string(scratch.join(out).join("metrics.jsonl")).expect("metrics")
}

#[test]
fn a_preview_shows_what_a_run_reads_and_changes_with_the_epoch() {
    let scratch = Scratch::new();
    reviews(&scratch);
    let eda = "regularize.eda={ rate = 0.3, share = 1.0, synonyms = \"words.txt\" }";
    let look = |extra: &[&str]| {
        let fixed = ["data", "preview", "reviews.jsonl", "--set", eda, "--count", "6"];
        scratch.ok(&fixed.into_iter().chain(SMALL).chain(extra.iter().copied()).collect::<Vec<_>>())
    };
    let (first, again) = (look(&[]), look(&[]));
    assert_eq!(first.out, again.out);
    assert!(first.out.contains("# data: 1 of the texts changed by one of synonym 0.3"));
    assert!(first.out.contains("   +  ") && first.out.contains("texts changed\n"), "{}", first.out);
    assert_ne!(first.out, look(&["--epoch", "1"]).out);
    assert_ne!(first.out, look(&["--seed", "9"]).out);
    for line in look(&["--json"]).out.lines() {
        let text: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(text["before"] != text["after"], text["edits"] != serde_json::json!([]));
    }
    let plain = ["data", "preview", "reviews.jsonl"];
    let shown = scratch.ok(&plain.into_iter().chain(SMALL).collect::<Vec<_>>());
    assert!(shown.err.contains("the recipe changes no texts"), "{}", shown.err);
}

#[test]
fn receipts_of_labels_stand_in_the_record() {
    let scratch = Scratch::new();
    reviews(&scratch);
    let metrics = train(
        &scratch,
        "one",
        &[
            "regularize.eda=0.2",
            "regularize.text-masking={ rate = 0.3, unit = \"span\" }",
            "regularize.sentence-order=true",
            "regularize.class-weights=true",
            "regularize.focal-loss=2",
        ],
    );
    for technique in ["eda", "text-masking", "sentence-order", "class-weights", "focal-loss"] {
        let receipt = format!("\"technique\":\"{technique}\"");
        assert!(metrics.contains(&receipt), "{technique} shows no receipt");
    }
    // A rare class counts four times as much as one that is four times as common.
    let receipt = metrics.lines().find(|line| line.contains("\"technique\":\"class-weights\""));
    let receipt: serde_json::Value = serde_json::from_str(receipt.expect("one")).expect("JSON");
    let of = |name: &str| receipt["measured"][name].as_f64().expect("a figure");
    assert!((of("highest") / of("lowest") - 4.0).abs() < 0.5, "{receipt}");
}

#[test]
fn standard_input_is_answered_line_by_line() {
    let scratch = Scratch::new();
    reviews(&scratch);
    train(&scratch, "one", &[]);
    let mut child = scratch
        .command(&["predict", "one", "-", "--threads", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut input = child.stdin.take().expect("piped");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    // Each answer comes before the next question.
    for (id, text) in ["A good film.", "A bad film."].iter().enumerate() {
        let record = serde_json::json!({"id": id, "text": text});
        writeln!(input, "{record}").and_then(|()| input.flush()).expect("it reads");
        let mut line = String::new();
        output.read_line(&mut line).expect("it answers");
        let answer: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&answer["id"], &answer["text"]), (&id.into(), &(*text).into()));
        assert!(["yes", "no"].contains(&answer["prediction"].as_str().expect("a label")));
    }
    writeln!(input, "no record").expect("it reads");
    drop(input);
    let ended = ran(child.wait_with_output().expect("it ends"));
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("standard input:3"), "{}", ended.err);
    let mixed = scratch.fails(2, &["predict", "one", "-", "reviews.jsonl"]);
    assert!(mixed.contains("cannot be mixed"), "{mixed}");
}

#[test]
fn an_ablation_of_a_classifier_gives_a_verdict() {
    let scratch = Scratch::new();
    reviews(&scratch);
    let fixed = ["ablate", "reviews.jsonl", "--steps", "3", "--add", "eda=0.3", "--seeds", "2"];
    let arguments = fixed.into_iter().chain(SMALL).chain(["--out", "study", "--json"]);
    let said = scratch.ok(&arguments.collect::<Vec<_>>());
    let result: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(result["trials_finished"], 4, "{result}");
    assert_eq!(result["trials_failed"], 0, "{result}");
}
