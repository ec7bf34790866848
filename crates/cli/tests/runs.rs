//! A run from text to result, and what one does with it.

mod common;

use std::path::Path;

use common::{Scratch, TINY, steady, tiny};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn close(a: &Value, b: &Value, tolerance: f64) {
    let (x, y) = (a.as_f64().expect("a number"), b.as_f64().expect("a number"));
    assert!((x - y).abs() <= tolerance, "{x} is not {y}");
}

#[test]
fn train_evaluate_generate() {
    let scratch = tiny();
    let whole = ["--set", "evaluate.windows=\"all\""];
    let trained =
        scratch.ok(&[&["train", "tiny.toml", "--out", "r", "--json"][..], &whole].concat());
    let result = json(&trained.out);
    for receipt in ["dropout", "weight-decay", "gradient-clipping", "weight-tying"] {
        assert!(trained.err.contains(&format!("✓ {receipt}")), "{}", trained.err);
    }
    assert!(trained.err.contains("baseline   n-gram (order "), "{}", trained.err);
    assert!(result["baseline"]["order"].as_u64() > Some(1), "{result}");
    for file in [
        "recipe.toml",
        "plan.json",
        "manifest.json",
        "metrics.jsonl",
        "model/config.json",
        "model/model.safetensors",
        "model/tokenizer.json",
        "best/model.safetensors",
        "last/SHA256SUMS",
    ] {
        assert!(scratch.join("r").join(file).exists(), "{file}");
    }
    let again = json(&scratch.ok(&["evaluate", "r", "--json"]).out);
    close(&again["loss"], &result["best"]["loss_valid"], 1e-6);
    close(&again["loss_se"], &result["best"]["loss_valid_se"], 1e-6);
    let text = scratch.ok(&["evaluate", "r"]).out;
    assert!(text.contains("nats/token, 95%:"), "{text}");
    assert!(text.contains("baseline   n-gram (order "), "{text}");
    close(&again["baseline"]["loss"], &result["baseline"]["loss_valid"], 1e-9);
    close(&again["baseline"]["better"], &result["standing"]["better"], 1e-6);
    scratch.ok(&["evaluate", "r", "--split", "train"]);
    let own = json(&scratch.ok(&["evaluate", "r/model", "text.txt", "--json"]).out);
    assert!(own["tokens"].as_u64() > again["tokens"].as_u64());
}

#[test]
fn generation_is_reproducible_and_stops() {
    let scratch = tiny();
    scratch.ok(&["train", "tiny.toml", "--out", "r", "--quiet"]);
    let generate = |more: &[&str]| {
        scratch.ok(&[&["generate", "r", "--prompt", "the ", "-n", "40"], more].concat()).out
    };
    let text = generate(&[]);
    assert!(text.starts_with("the ") && text.len() > 20, "{text}");
    assert_eq!(text, generate(&[]));
    assert_eq!(text, generate(&["--threads", "2"]));
    assert_ne!(text, generate(&["--seed", "2"]));
    assert_eq!(generate(&["--greedy"]), generate(&["--temperature", "0"]));
    generate(&["--top-k", "3", "--top-p", "0.9", "--repetition-penalty", "1.1"]);
    let value = json(&generate(&["--json", "--stop", "e"]));
    assert!(!value["text"].as_str().expect("text").contains('e'), "{value}");
    scratch.ok(&["generate", "r", "-n", "5"]);
    scratch.write("prompt.txt", "the king");
    let text = scratch.ok(&["generate", "r/best", "--prompt-file", "prompt.txt", "-n", "3"]).out;
    assert!(text.starts_with("the king"), "{text}");
}

#[test]
fn a_plan_is_a_recipe_again() {
    let scratch = tiny();
    let plan = scratch.ok(&["plan", "tiny.toml"]).out;
    assert!(plan.contains("layers = 2                            # tiny.toml:7"), "{plan}");
    assert!(plan.contains("# gradient: 1. global norm"), "{plan}");
    scratch.write("again.toml", &plan);
    let again = scratch.ok(&["plan", "again.toml"]).out;
    let values = |text: &str| {
        let value = |line: &str| line.split("  # ").next().unwrap_or("").trim().to_owned();
        text.lines().map(value).collect::<Vec<_>>()
    };
    assert_eq!(values(&plan), values(&again));
    let value = json(&scratch.ok(&["plan", "tiny.toml", "--json"]).out);
    assert!(value["origins"]["model.layers"].as_str().expect("text").contains("tiny.toml:7"));
}

#[test]
fn validate_and_advise() {
    let scratch = tiny();
    let text = scratch.ok(&["validate", "tiny.toml"]).out;
    let data = ["2,110 held out", "none found"];
    let run = ["27.6k parameters", "activations kept", "60 steps", "can be trained"];
    for word in data.iter().chain(&run) {
        assert!(text.contains(word), "no {word} in {text}");
    }
    assert_eq!(json(&scratch.ok(&["validate", "tiny.toml", "--json"]).out)["valid"], true);
    let text = scratch.ok(&["advise", "text.txt"]).out;
    for word in ["regime", "repetition", "proposed", "model.layers", "text.txt --write"] {
        assert!(text.contains(word), "no {word} in {text}");
    }
    let value = json(&scratch.ok(&["advise", "text.txt", "--json"]).out);
    assert!(value["reasons"].as_array().expect("a list").len() > 5);
    assert!(value["figures"]["parameters_per_token"].as_f64().expect("a number") > 0.0);
    let text = scratch.ok(&["advise", "text.txt", "--write", "advised.toml"]).out;
    assert!(text.contains("heldout train advised.toml"), "{text}");
    scratch.ok(&["validate", "advised.toml"]);
    let again = scratch.fails(2, &["advise", "text.txt", "--write", "advised.toml"]);
    assert!(again.contains("exists already"), "{again}");
    assert!(!scratch.join("runs").exists());
}

#[test]
fn the_summary_of_a_run() {
    let scratch = tiny();
    let ran = scratch.ok(&["train", "tiny.toml"]);
    assert!(scratch.join("runs/tiny/metrics.jsonl").exists());
    let table: Vec<&str> = ran.out.lines().skip_while(|l| !l.starts_with("model")).collect();
    insta::assert_snapshot!("summary_tiny", steady(&table.join("\n")));
    scratch.ok(&["train", "tiny.toml", "--quiet"]);
    assert!(scratch.join("runs/tiny-2/metrics.jsonl").exists());
}

#[test]
fn a_step_is_profiled() {
    let scratch = tiny();
    let ran = scratch.ok(&["train", "tiny.toml", "--out", "r", "--profile", "--steps", "10"]);
    let lines: Vec<&str> = ran.err.lines().collect();
    let start = lines.iter().position(|line| line.starts_with("step 5: 256 tokens in"));
    let start = start.unwrap_or_else(|| panic!("no table in {}", ran.err));
    let end = start + lines[start..].iter().position(|l| l.starts_with("the whole")).expect("end");
    let table = &lines[start..=end];
    assert!(table.iter().all(|line| line.chars().count() < 80), "{table:#?}");
    // The time stands before the share.
    let milliseconds = |row: &str| -> f64 {
        let line = table.iter().find(|line| line.starts_with(row));
        let line = line.unwrap_or_else(|| panic!("no {row} in {table:#?}"));
        let words: Vec<&str> = line.split_whitespace().collect();
        let share = words.iter().position(|word| word.ends_with('%')).expect("a share");
        words[share - 1].replace(',', "").parse().expect("a time")
    };
    for op in ["linear 96×32", "softmax and loss", "adamw update", "wait for data", "record"] {
        assert!(milliseconds(op) >= 0.0, "{op}");
    }
    let (all, between) = (milliseconds("all of these"), milliseconds("between them"));
    let step = milliseconds("the whole step");
    // Each of the three is rounded for itself.
    assert!((all + between - step).abs() < 0.002 + 1e-3 * step, "{table:#?}");
    assert!(all > 0.0 && between >= 0.0, "{table:#?}");
    assert!(ran.out.contains("profile    r/profile.json (of step 5;"), "{}", ran.out);
    let text = std::fs::read_to_string(scratch.join("r/profile.json")).expect("the trace");
    let events = json(&text)["traceEvents"].as_array().expect("a list").len();
    assert!(events > 60, "{events} events");
    let again = scratch.ok(&["resume", "r", "--profile", "--json"]);
    assert!(again.err.contains("no step was profiled"), "{}", again.err);
    let result = json(&again.out);
    assert_eq!(result["profile"]["step"], 5);
    let timing = &result["timing"];
    assert_eq!(timing["step_tokens"].as_u64(), Some(2560));
    let seconds = |part: &str| timing[part].as_f64().expect("seconds");
    let parts = ["step_seconds", "data_seconds", "evaluation_seconds", "checkpoint_seconds"];
    let sum: f64 = parts.into_iter().map(seconds).sum();
    assert!(sum > 0.0 && sum <= seconds("seconds"), "{timing}");
    assert!(timing["evaluation_tokens"].as_u64() > Some(0), "{timing}");
}

#[test]
fn a_bare_text_is_enough() {
    let scratch = Scratch::new();
    scratch.write("my text.txt", common::text(200));
    let ran = scratch.ok(&["train", "my text.txt", "--steps", "4", "--threads", "1"]);
    assert!(scratch.join("runs/mytext/model/model.safetensors").exists());
    assert!(ran.out.contains("heldout generate runs/mytext"), "{}", ran.out);
}

#[test]
fn every_event_is_recorded_as_json() {
    let scratch = tiny();
    scratch.ok(&["train", "tiny.toml", "--out", "r", "--quiet"]);
    let text = std::fs::read_to_string(scratch.join("r/metrics.jsonl")).expect("it is there");
    let kinds: Vec<String> =
        text.lines().map(|line| json(line)["event"].as_str().expect("a kind").to_owned()).collect();
    for kind in ["started", "receipt", "step", "evaluation", "checkpoint", "stopped"] {
        assert!(kinds.iter().any(|found| found == kind), "no {kind}");
    }
}

#[test]
fn quiet_says_nothing_but_the_result() {
    let scratch = tiny();
    let ran = scratch.ok(&["train", "tiny.toml", "--quiet", "--json", "--steps", "5"]);
    assert_eq!(ran.err, "");
    assert_eq!(ran.out.lines().count(), 1);
    let ran = scratch.ok(&["train", "tiny.toml", "-v", "--steps", "5"]);
    assert!(ran.err.contains("checkpoint checkpoints/step-"), "{}", ran.err);
    assert!(!ran.err.contains('\x1b') && !ran.out.contains('\x1b'));
}

#[test]
fn the_quickstart_can_be_run_twice() {
    let scratch = Scratch::new();
    let quick = ["quickstart", "--steps", "8", "--threads", "2"];
    let ran = scratch.ok(&quick);
    for word in ["true entropy", "regularized", "plain", "try next", "overfitted by"] {
        assert!(ran.out.contains(word), "no {word} in {}", ran.out);
    }
    let value = json(&scratch.ok(&[&quick[..], &["--json", "-q"]].concat()).out);
    assert!(value["true_entropy"].as_f64().expect("a number") > 0.0);
    for name in ["quickstart", "quickstart-2"] {
        for run in ["plain", "regularized"] {
            let folder = scratch.join("runs").join(name).join(run);
            assert!(folder.join("model/model.safetensors").exists(), "{}", folder.display());
        }
    }
    // The recipes beside the runs are complete: they can be trained on again.
    let recipe = Path::new("runs/quickstart/plain.toml");
    let text =
        std::fs::read_to_string(scratch.join(&recipe.display().to_string())).expect("recipe");
    let command = text.lines().next().and_then(|line| line.strip_prefix("# heldout ")).expect("it");
    let mut words: Vec<&str> = command.split_whitespace().collect();
    words[0] = "validate";
    scratch.ok(&words);
}

#[test]
fn the_recipe_of_these_tests_names_its_data() {
    assert!(TINY.contains("train = \"text.txt\""));
}

#[test]
fn several_models_are_scored_as_one() {
    let scratch = tiny();
    let train = |name: &str, more: &[&str]| {
        let own = ["train", "tiny.toml", "--out", name, "--quiet", "--set", "data.seed=7"];
        scratch.ok(&[&own[..], &["--set", "schedule.horizon=\"30 steps\""], more].concat());
    };
    train("r1", &[]);
    train("r2", &["--set", "run.seed=2"]);
    let both = json(&scratch.ok(&["evaluate", "r1", "--with", "r2", "--json"]).out);
    let number = |value: &Value| value.as_f64().expect("a number");
    let mut losses = Vec::new();
    for (index, run) in ["r1", "r2"].into_iter().enumerate() {
        let mut alone = json(&scratch.ok(&["evaluate", run, "--json"]).out);
        let member = &both["members"][index];
        assert_eq!(member["path"], run);
        for key in ["loss", "loss_se", "accuracy", "tokens", "windows", "bits_per_byte"] {
            assert_eq!(member[key], alone[key].take(), "{run} {key}");
        }
        losses.push(number(&member["loss"]));
    }
    // −ln is convex: the mean probability costs less than the mean of the losses.
    let mean = (losses[0] + losses[1]) / 2.0;
    assert!((number(&both["loss_members"]) - mean).abs() < 1e-12 && number(&both["loss"]) < mean);
    let best = if losses[0] < losses[1] { 0 } else { 1 };
    assert_eq!(both["best"], ["r1", "r2"][best]);
    let better = number(&both["better"]);
    assert!((better - (losses[best] - number(&both["loss"]))).abs() < 1e-6, "{both}");
    let interval = [&both["better_interval"][0], &both["better_interval"][1]].map(number);
    assert!(interval[0] < better && better < interval[1], "{both}");
    // The windows are shared, so the difference is surer than either loss.
    assert!(number(&both["better_se"]) < number(&both["loss_se"]), "{both}");
    let turned = json(&scratch.ok(&["evaluate", "r2", "--with", "r1", "--json"]).out);
    close(&turned["loss"], &both["loss"], 1e-6);

    // A copy adds nothing; other text is read as a stream.
    scratch.write("copy/config.json", std::fs::read(scratch.join("r1/model/config.json")).unwrap());
    for file in ["model.safetensors", "tokenizer.json"] {
        let bytes = std::fs::read(scratch.join("r1/model").join(file)).expect("it is there");
        scratch.write(&format!("copy/{file}"), bytes);
    }
    let copied = ["evaluate", "r1/model", "text.txt", "--with", "copy", "--json"];
    let copied = json(&scratch.ok(&copied).out);
    close(&copied["loss"], &copied["members"][0]["loss"], 1e-6);
    close(&copied["better"], &Value::from(0.0), 1e-7);

    let text = scratch.ok(&["evaluate", "r1", "--with", "r2"]).out;
    for part in ["of 2 models", "nats/token, 95%:", "each alone", "their mean", "verdict"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    train("other", &["--set", "data.tokenizer=\"byte\""]);
    train("short", &["--set", "model.context=16"]);
    for (with, part) in [
        ("r1/model", "is given twice"),
        ("other", "has another tokenizer: it has"),
        ("short", "reads 16 tokens at once, r1 32"),
        ("nowhere", "no such folder"),
    ] {
        let told = scratch.fails(2, &["evaluate", "r1", "--with", with]);
        assert!(told.contains(part), "{told}");
    }
}
