//! `heldout report`: what it writes, where, and how it fails.

mod common;

use common::tiny;

#[test]
fn runs_are_written_up_as_a_page_as_tables_and_as_data() {
    let scratch = tiny();
    scratch.ok(&["train", "tiny.toml", "--out", "runs/a", "--quiet"]);
    let more = ["--set", "regularize.dropout=0.5", "--out", "runs/b", "--quiet"];
    scratch.ok(&[&["train", "tiny.toml"][..], &more].concat());

    let said = scratch.ok(&["report", "runs/a"]).out;
    assert!(said.contains("report     runs/a/report.html ("), "{said}");
    let page = std::fs::read_to_string(scratch.join("runs/a/report.html")).expect("it is written");
    for words in ["<svg", "Held-out loss", "dropout", "weight-tying", "training text", "noise"] {
        assert!(page.contains(words), "no {words}");
    }
    // What the plan says in words comes from the run, not from the program that reports it.
    assert!(page.contains("dropped with p = 0.1"), "the plan is missing");

    let text = scratch.ok(&["report", "runs/a", "runs/b", "--format", "markdown"]).out;
    assert!(text.contains("# a and b\n") && text.contains("## Gap against strength"), "{text}");
    assert!(!scratch.join("report.html").exists());

    let data = scratch.ok(&["report", "runs/a", "runs/b", "--format", "json"]).out;
    let data: serde_json::Value = serde_json::from_str(&data).expect("it is JSON");
    assert_eq!((&data["schema"], &data["version"]), (&"heldout-report".into(), &1.into()));
    assert_eq!(data["comparison"]["sweep"]["key"], "regularize.dropout");
    assert_eq!(data["runs"][0]["started"]["tokens_valid"].as_u64().map(|n| n > 0), Some(true));

    let said = scratch.ok(&["report", "runs/a", "runs/b", "--out", "both.html", "--json"]).out;
    let said: serde_json::Value = serde_json::from_str(&said).expect("it is JSON");
    let bytes = std::fs::metadata(scratch.join("both.html")).expect("it is written").len();
    assert_eq!((&said["report"], &said["bytes"]), (&"both.html".into(), &bytes.into()));
    let page = scratch.ok(&["report", "runs/a", "--out", "-"]).out;
    assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
}

#[test]
fn what_is_no_run_is_named_with_the_next_step() {
    let scratch = tiny();
    scratch.ok(&["train", "tiny.toml", "--out", "runs/a", "--steps", "2", "--quiet"]);
    scratch.write("studies/s/study.json", "{}");
    let error = scratch.fails(2, &["report", "runs"]);
    assert!(error.contains("heldout report runs/*"), "{error}");
    let error = scratch.fails(2, &["report", "text.txt"]);
    assert!(error.contains("text.txt"), "{error}");
    let error = scratch.fails(2, &["report", "runs/none"]);
    assert!(error.contains("runs/none"), "{error}");
    let error = scratch.fails(2, &["report", "runs/a", "studies/s"]);
    assert!(error.contains("studies/s is a study"), "{error}");
    let error = scratch.fails(1, &["report", "studies/s"]);
    assert!(error.contains("study.json"), "{error}");
}
