//! The help of every command, list and explain for every registry, unknown names, exit codes.

mod common;

use common::{Scratch, ran};

const COMMANDS: [&str; 18] = [
    "quickstart",
    "train",
    "finetune",
    "resume",
    "evaluate",
    "generate",
    "predict",
    "data",
    "plan",
    "validate",
    "list",
    "explain",
    "advise",
    "report",
    "lr-find",
    "diagnose",
    "completions",
    "ablate",
];

#[test]
fn help_of_every_command() {
    let scratch = Scratch::new();
    let text = scratch.ok(&["--help"]).out;
    insta::assert_snapshot!("help", text);
    for command in COMMANDS {
        assert!(text.contains(command), "{command} is not in the help");
        insta::assert_snapshot!(format!("help_{command}"), scratch.ok(&[command, "--help"]).out);
    }
}

#[test]
fn usage_errors_are_2() {
    let scratch = Scratch::new();
    for arguments in [
        &["frobnicate"][..],
        &["train", "--no-such-option"],
        &["list", "colours"],
        &["explain"],
        &["train", "x.txt", "--steps", "many"],
        &["train", "x.txt", "--steps", "5", "--time", "1 min"],
        &[],
    ] {
        assert_eq!(scratch.run(arguments).code, Some(2), "{arguments:?}");
    }
    assert_eq!(scratch.run(&["--version"]).code, Some(0));
}

#[test]
fn every_registry_is_listed_and_every_entry_explained() {
    let scratch = Scratch::new();
    let all: serde_json::Value =
        serde_json::from_str(&scratch.ok(&["list", "--json"]).out).expect("it is JSON");
    let all = all.as_array().expect("it is a list");
    for kind in ["technique", "optimizer", "schedule", "model", "tokenizer"] {
        let text = scratch.ok(&["list", &format!("{kind}s")]).out;
        let entries: Vec<_> = all.iter().filter(|entry| entry["kind"] == kind).collect();
        assert!(!entries.is_empty(), "no {kind}");
        for entry in entries {
            let name = entry["name"].as_str().expect("a name");
            assert!(text.contains(name), "{name} is not listed");
            let card = scratch.ok(&["explain", name]).out;
            for heading in ["use it", "avoid it", "cost", "source"] {
                assert!(card.contains(heading), "{name} has no line \"{heading}\"");
            }
            assert!(card.lines().all(|line| line.chars().count() <= 100), "{card}");
            let card = scratch.ok(&["explain", name, "--json"]).out;
            let card: serde_json::Value = serde_json::from_str(&card).expect("it is JSON");
            let cards = card.as_array().cloned().unwrap_or_else(|| vec![card]);
            assert!(cards.iter().any(|card| card["kind"] == kind), "{name}");
        }
    }
    insta::assert_snapshot!("explain_dropout", scratch.ok(&["explain", "dropout"]).out);
}

#[test]
fn unknown_names_get_the_nearest() {
    let scratch = Scratch::new();
    let err = scratch.fails(2, &["explain", "drop-out"]);
    assert!(err.contains("heldout explain dropout"), "{err}");
    let err = scratch.fails(2, &["explain", "xyzzy-quux"]);
    assert!(err.contains("heldout list"), "{err}");
}

#[test]
fn completions_for_every_shell() {
    let scratch = Scratch::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(scratch.ok(&["completions", shell]).out.contains("quickstart"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let scratch = Scratch::new();
    let mut child = scratch
        .command(&["completions", "zsh"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let ran = ran(child.wait_with_output().expect("it ends"));
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

#[test]
fn plain_characters_where_the_locale_has_no_others() {
    let scratch = Scratch::new();
    for name in ["dropout", "ema", "muon", "cosine"] {
        let output =
            scratch.command(&["explain", name]).env("LANG", "C").output().expect("the binary runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let odd: String = text.chars().filter(|c| !c.is_ascii()).collect();
        assert!(!odd.contains(['±', '·', '→', '×', '≤']), "{odd}");
    }
}
