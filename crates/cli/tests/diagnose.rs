//! Runs that are really trained, each with one thing wrong: `heldout diagnose` must name it.

mod common;

use common::Scratch;
use heldout_base::rng::{Random, streams};
use serde_json::Value;

/// Words drawn one after the other from a short list: a small model learns them in seconds, and
/// which one comes next nobody can know.
fn words(seed: u64, count: u64) -> Vec<&'static str> {
    const WORDS: [&str; 20] = [
        "stone", "river", "bird", "cloud", "apple", "train", "music", "green", "house", "winter",
        "light", "paper", "sugar", "ocean", "tiger", "clock", "bread", "dream", "storm", "glass",
    ];
    let random = Random::new(seed, streams::TEST, 0);
    (0..count).map(|i| WORDS[random.below(i, WORDS.len() as u64) as usize]).collect()
}

fn text(seed: u64, count: u64) -> String {
    words(seed, count).join(" ") + "\n"
}

/// The text with this share of its characters replaced by letters drawn at random.
fn noisy(text: &str, share: f64) -> String {
    let random = Random::new(9, streams::TEST, 1);
    let change = |(i, c): (usize, char)| {
        let i = i as u64;
        let is_hit = random.uniform(2 * i) < share;
        if is_hit { char::from(b'a' + random.below(2 * i + 1, 26) as u8) } else { c }
    };
    text.chars().enumerate().map(change).collect()
}

/// A run of a second or two that converges and does nothing wrong.
const SOUND: &str = r#"
[data]
train = "train.txt"
validation = "valid.txt"
tokenizer = "char"
boundary = "contiguous"

[model]
layers = 1
heads = 2
width = 32
context = 32

[optimizer]
learning-rate = 0.02

[schedule]
horizon = "600 steps"
warmup = "10 steps"

[batch]
size = 16

[regularize]
dropout = false
weight-decay = 0.3
gradient-clipping = 1.0
early-stopping = false

[evaluate]
every = "30 steps"
windows = "all"
train-windows = 200
samples = 0

[run]
checkpoint = "end"
threads = 2
precision = "f32"
"#;

/// A scratch folder with sound text and recipe.
fn sound() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("train.txt", text(1, 8000));
    scratch.write("valid.txt", text(2, 1500));
    scratch.write("sound.toml", SOUND);
    scratch
}

/// Trains with these settings laid over the sound recipe, and diagnoses.
fn diagnose(scratch: &Scratch, settings: &[&str], more: &[&str]) -> Value {
    let mut arguments = vec!["train", "sound.toml", "--out", "r", "--quiet"];
    settings.iter().for_each(|setting| arguments.extend(["--set", *setting]));
    let ran = scratch.run(&arguments);
    assert!([Some(0), Some(3)].contains(&ran.code), "{}", ran.err);
    let ran = scratch.ok(&[&["diagnose", "r", "--json", "--quiet"][..], more].concat());
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error} in {}", ran.out))
}

/// The main finding is `main`; whatever else is called wrong must be in `allowed`, or be what most
/// runs with something wrong are: worse than an n-gram model.
fn check(found: &Value, main: &str, allowed: &[&str]) {
    assert_eq!(found["kind"], main, "{found:#}");
    for finding in found["findings"].as_array().expect("a list") {
        let (kind, severity) = (finding["kind"].as_str(), finding["severity"].as_str());
        let is_wrong = matches!(severity, Some("bad" | "warning"));
        let kind = kind.expect("a kind");
        let is_expected = kind == main || kind == "below-baseline" || allowed.contains(&kind);
        assert!(!is_wrong || is_expected, "{kind}: {found:#}");
    }
}

#[test]
fn a_sound_run_is_healthy() {
    let scratch = sound();
    check(&diagnose(&scratch, &[], &[]), "healthy", &[]);
    // What a person reads.
    let text = scratch.ok(&["diagnose", "r", "-v"]).out;
    for word in ["gradients", "updates", "calibrated", "memory", "noise", "leaks", "reliable"] {
        assert!(text.contains(word), "no {word} in {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(scratch.join("r/examination.json").exists());
    let ran = scratch.ok(&["diagnose", "r", "--record-only"]);
    assert!(!ran.out.contains("calibrated") && ran.err.is_empty(), "{ran:?}");
    // The data are gone: the record is still judged.
    std::fs::remove_file(scratch.join("train.txt")).expect("it is there");
    let text = scratch.ok(&["diagnose", "r"]).out;
    assert!(text.contains("cannot be read any more"), "{text}");
}

#[test]
fn overfitting() {
    let scratch = sound();
    scratch.write("train.txt", text(1, 400));
    let settings = [
        "model.width=96",
        "model.layers=2",
        "optimizer.learning-rate=0.005",
        "schedule.shape=\"constant\"",
        "regularize.weight-decay=false",
    ];
    let found = diagnose(&scratch, &settings, &["--weights", "last"]);
    check(&found, "overfitting", &["memorizing", "overconfident"]);
    assert!(found["findings"][0]["nats"].as_f64() > Some(0.04), "{found:#}");
    let since = found["findings"][0]["since_step"].as_u64().expect("a step");
    assert!((30..450).contains(&since), "{since}");
    assert!(found["sources"]["dropout"].as_str().expect("a paper").contains("Srivastava"));
    let memory = &found["examination"]["memorization"];
    assert!(memory["train"]["matched"].as_f64() > memory["valid"]["matched"].as_f64());
    assert!(found["examination"]["calibration"]["temperature"].as_f64() > Some(1.05));
}

#[test]
fn underfitting() {
    let settings = [
        "schedule.horizon=\"60 steps\"",
        "schedule.shape=\"constant\"",
        "evaluate.every=\"10 steps\"",
    ];
    check(&diagnose(&sound(), &settings, &[]), "underfitting", &[]);
}

#[test]
fn divergence() {
    let settings = [
        "optimizer.name=\"gradient-descent\"",
        "optimizer.learning-rate=100",
        "schedule.shape=\"constant\"",
        "schedule.warmup=\"0 steps\"",
        "regularize.l2=1",
        "regularize.weight-decay=false",
        "regularize.gradient-clipping=off",
        "evaluate.every=\"1 steps\"",
    ];
    let found = diagnose(&sound(), &settings, &[]);
    check(&found, "diverged", &[]);
    assert!(found["findings"][0]["since_step"].as_u64() < Some(60), "{found:#}");
}

#[test]
fn a_leak() {
    let scratch = sound();
    let paragraphs = |seed: u64, count: u64| -> Vec<String> {
        let words = words(seed, 12 * count);
        words.chunks(12).map(|words| words.join(" ") + ".\n\n").collect()
    };
    let (train, fresh) = (paragraphs(1, 600), paragraphs(2, 60));
    scratch.write("train.txt", train.concat());
    scratch.write("valid.txt", train[..60].concat() + &fresh.concat());
    let settings = ["data.boundary=\"blank-line\"", "data.duplicates=\"report\""];
    let found = diagnose(&scratch, &settings, &[]);
    check(&found, "leaking", &["underfitting"]);
    let overlap = &found["examination"]["overlap"];
    let share = overlap["found"].as_f64().expect("a number")
        / overlap["windows"].as_f64().expect("a number");
    assert!(share > 0.1 && share < 0.5, "{overlap}");
}

#[test]
fn label_noise() {
    let scratch = sound();
    scratch.write("train.txt", noisy(&text(1, 8000), 0.08));
    scratch.write("valid.txt", noisy(&text(2, 1500), 0.08));
    let found = diagnose(&scratch, &[], &[]);
    check(&found, "noisy-text", &[]);
    let sentence = found["verdict"].as_str().expect("a sentence");
    let percent: f64 = sentence
        .split(['%', ' '])
        .find_map(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no figure in {sentence}"));
    assert!((4.0..12.0).contains(&percent), "{sentence}");
}

#[test]
fn a_validation_split_that_is_too_small() {
    let scratch = sound();
    scratch.write("valid.txt", text(2, 60));
    check(&diagnose(&scratch, &[], &[]), "small-validation", &[]);
}

#[test]
fn a_regularizer_that_does_nothing() {
    let settings = ["regularize.weight-decay=1e-4", "regularize.gradient-clipping=1000"];
    let found = diagnose(&sound(), &settings, &["--record-only"]);
    check(&found, "dead-technique", &[]);
    let verdict = found["verdict"].as_str().expect("a sentence");
    assert!(verdict.contains("weight-decay") && verdict.contains("gradient-clipping"), "{verdict}");
}

#[test]
fn a_learning_rate_that_is_too_high() {
    let settings = ["optimizer.learning-rate=0.2", "schedule.shape=\"constant\""];
    check(&diagnose(&sound(), &settings, &["--record-only"]), "rate-too-high", &[]);
}

#[test]
fn a_learning_rate_that_is_too_low() {
    let settings = ["optimizer.learning-rate=1e-6", "schedule.horizon=\"90 steps\""];
    check(&diagnose(&sound(), &settings, &["--record-only"]), "rate-too-low", &[]);
}

#[test]
fn a_stop_that_came_too_early() {
    let settings = [
        "optimizer.learning-rate=0.005",
        "schedule.shape=\"constant\"",
        "regularize.early-stopping={ patience = \"2 evaluations\", min-delta = 0.5 }",
    ];
    check(&diagnose(&sound(), &settings, &["--record-only"]), "stopped-early", &[]);
}

#[test]
fn planted_strings_are_ranked_among_random_ones() {
    let scratch = sound();
    // Planted eight times; the other one never.
    let planted = "the code is 4821773\n".repeat(8);
    scratch.write("train.txt", planted.clone() + &text(1, 300) + &planted + &text(3, 100));
    scratch.write("canaries.txt", "the code is {4821773}\n\nthe code is {9150362}\n");
    // Candidates may hold digits that the text does not.
    let settings = ["data.tokenizer=\"byte\""];
    let more = ["--canaries", "canaries.txt", "--candidates", "200", "--weights", "last"];
    let found = diagnose(&scratch, &settings, &more);
    let canaries = found["examination"]["canaries"].as_array().expect("a list");
    assert_eq!(canaries[0]["rank"], 1, "{found:#}");
    assert!(canaries[0]["exposure"].as_f64() > Some(7.6));
    assert!(canaries[1]["exposure"].as_f64() < Some(6.6), "{found:#}");
    let kinds: Vec<&Value> =
        found["findings"].as_array().expect("a list").iter().map(|f| &f["kind"]).collect();
    assert!(kinds.iter().any(|kind| **kind == "exposed"), "{kinds:?}");
    scratch.write("canaries.txt", "no secret here\n");
    let err = scratch.fails(2, &["diagnose", "r", "--canaries", "canaries.txt"]);
    assert!(err.contains("in braces"), "{err}");
    let err = scratch.fails(2, &["diagnose", "r", "--canaries", "nowhere.txt"]);
    assert!(err.contains("nowhere.txt"), "{err}");
}

#[test]
fn a_folder_that_is_no_run() {
    let scratch = Scratch::new();
    let err = scratch.fails(2, &["diagnose", "nowhere"]);
    assert!(err.contains("nowhere"), "{err}");
    scratch.write("empty/notes.txt", "x");
    let err = scratch.fails(2, &["diagnose", "empty"]);
    assert!(err.contains("is no run"), "{err}");
    scratch.write("torn/metrics.jsonl", "{\"event\":\"nonsense\"}\n");
    let err = scratch.fails(1, &["diagnose", "torn"]);
    assert!(err.contains("line 1"), "{err}");
    scratch.write("young/metrics.jsonl", "");
    let text = scratch.ok(&["diagnose", "young"]).out;
    assert!(text.contains("nothing was evaluated yet"), "{text}");
}
