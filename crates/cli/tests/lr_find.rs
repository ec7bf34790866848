//! `heldout lr-find`: a rate, or an honest "don't know", and no trace of the search.

mod common;

use std::path::Path;

use common::tiny;
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// Every file below a folder but the cache of prepared data, with its bytes.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "cache") {
                found.push((path.display().to_string(), Vec::new()));
                found.extend(files(&path));
            }
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).expect("a file")));
        }
    }
    found.sort();
    found
}

#[test]
fn a_rate_is_suggested_and_nothing_is_left_behind() {
    let scratch = tiny();
    // A run beside it stays as it is.
    scratch.ok(&["train", "tiny.toml", "--steps", "3", "--quiet"]);
    let before = files(scratch.path());
    let options = ["lr-find", "tiny.toml", "--seeds", "2", "--ramp", "60"];
    let with = |more: &[&str]| scratch.ok(&[&options[..], more].concat());
    let found = json(&with(&["--json"]).out);
    assert_eq!(found, json(&with(&["--json", "--threads", "2"]).out), "the same seeds");
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {found}"));
    let (rate, edge) = (number(&found["suggested"]), number(&found["edge"]));
    assert!(rate > 1e-4 && rate <= 0.26 * edge && edge < 10.0, "{rate} {edge}");
    let interval = &found["suggested_95"];
    assert!(number(&interval[0]) <= rate && rate <= number(&interval[1]), "{interval}");
    let other = json(&with(&["--json", "--seed", "77"]).out);
    assert_ne!(found["curves"][0]["points"], other["curves"][0]["points"]);
    let text = with(&[]);
    for word in ["suggested", "95% over seeds", "log10 rate", "breaks down", "seed 2"] {
        assert!(text.out.contains(word), "no {word} in {}", text.out);
    }
    let next = "heldout train tiny.toml --set optimizer.learning-rate=";
    assert!(text.out.contains(next), "{}", text.out);
    let one = scratch.ok(&["lr-find", "tiny.toml", "--seeds", "1", "--ramp", "60"]);
    assert!(one.out.contains("one seed gives no interval"), "{}", one.out);
    assert_eq!(files(scratch.path()), before);
}

#[test]
fn dont_know_is_an_answer() {
    let scratch = tiny();
    let with = |more: &[&str]| {
        let options = ["lr-find", "tiny.toml", "--seeds", "2", "--ramp", "40"];
        scratch.ok(&[&options[..], more].concat()).out
    };
    let text = with(&["--low", "1e-9", "--high", "1e-7"]);
    assert!(text.contains("don't know: the loss never falls clearly"), "{text}");
    assert!(text.contains("(2 of 2 seeds)") && !text.contains("try next"), "{text}");
    let text = with(&["--low", "1e-5", "--high", "5e-3"]);
    assert!(text.contains("don't know: the loss does not break down"), "{text}");
    assert!(text.contains("raise it"), "{text}");
    let found = json(&with(&["--low", "1e-9", "--high", "1e-7", "--json"]));
    assert!(found["suggested"].is_null() && found["suggested_95"].is_null(), "{found}");
    assert!(found["unknown"].is_string());
    scratch.fails(2, &["lr-find", "tiny.toml", "--low", "1", "--high", "0.1"]);
    scratch.fails(2, &["lr-find", "tiny.toml", "--seeds", "0"]);
    scratch.fails(2, &["lr-find", "no-such.txt"]);
}
