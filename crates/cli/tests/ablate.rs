//! Studies with the real binary: killed, split between workers, out of time, asked otherwise.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Scratch, TINY, text};
use heldout_base::rng::{Random, streams};
use serde_json::Value;

/// A recipe whose runs take a fraction of a second and write a checkpoint every few steps.
fn scratch() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("text.txt", text(300));
    let recipe = TINY
        .replace("60 steps", "30 steps")
        .replace("10 steps", "4 steps")
        .replace("20 steps", "10 steps")
        .replace("width = 32", "width = 16")
        .replace("context = 32", "context = 16");
    scratch.write("tiny.toml", recipe);
    scratch
}

const ASK: [&str; 6] = ["ablate", "tiny.toml", "--drop", "dropout,weight-decay", "--seeds", "2"];

fn ask<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    ASK.iter().chain(&["--out", out]).chain(more).copied().collect()
}

/// The ledger's lines.
fn ledger(study: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(study.join("trials.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Each trial's test loss, to the last bit, after a check that it began and ended once.
fn losses(study: &Path) -> BTreeMap<String, u64> {
    let lines = ledger(study);
    let of = |event: &str| {
        let is_it = |line: &&Value| line["event"] == event;
        lines.iter().filter(is_it).map(|l| l["trial"].as_str().expect("named")).collect::<Vec<_>>()
    };
    let (mut started, mut finished) = (of("started"), of("finished"));
    started.sort_unstable();
    finished.sort_unstable();
    let failed: Vec<&Value> = lines.iter().filter(|line| line["event"] == "failed").collect();
    assert_eq!(started, finished, "each began once and ended once: {failed:?}");
    let count = finished.len();
    finished.dedup();
    assert_eq!(finished.len(), count, "none ended twice");
    let finished = lines.iter().filter(|line| line["event"] == "finished");
    let loss = |l: &Value| {
        let loss = l["loss_test"].as_f64().expect("a number").to_bits();
        (l["trial"].as_str().expect("named").to_owned(), loss)
    };
    finished.map(loss).collect()
}

fn spawn(scratch: &Scratch, arguments: &[&str]) -> Child {
    let mut command = scratch.command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs")
}

#[test]
fn a_study_that_is_killed_again_and_again_comes_to_the_same_end() {
    let scratch = scratch();
    let began = Instant::now();
    let whole = scratch.ok(&ask("whole", &["--quiet", "--json"]));
    let whole_seconds = began.elapsed().as_secs_f64();
    let whole: Value = serde_json::from_str(&whole.out).expect("JSON");
    let expected = losses(&scratch.join("whole"));
    assert_eq!(expected.len(), 6);
    let moments = Random::new(5, streams::TEST, 0);
    let mut kills = 0;
    for kill in 0..4 {
        let mut child = spawn(&scratch, &ask("killed", &["--quiet"]));
        let most = 0.5 * whole_seconds;
        std::thread::sleep(Duration::from_secs_f64(most * (0.2 + 0.8 * moments.uniform(kill))));
        kills += usize::from(child.try_wait().expect("it can be asked").is_none());
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }
    assert!(kills > 0, "it was never killed in time");
    let killed = scratch.ok(&ask("killed", &["--quiet", "--json"]));
    assert_eq!(losses(&scratch.join("killed")), expected);
    // The same effects, to the last bit; times differ.
    let killed: Value = serde_json::from_str(&killed.out).expect("JSON");
    let effects = |result: &Value| {
        let effects = result["effects"].as_array().expect("a list").clone();
        let of = |e: &Value| (e["name"].clone(), e["test"].clone(), e["verdict"].clone());
        effects.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(effects(&killed), effects(&whole));
    assert_eq!(killed["standing"], "complete");
    // Asked once more, there is nothing left to do.
    let lines = ledger(&scratch.join("killed")).len();
    scratch.ok(&ask("killed", &["--quiet"]));
    assert_eq!(ledger(&scratch.join("killed")).len(), lines);
}

#[test]
fn two_workers_find_the_same_and_only_the_best_model_is_kept() {
    let scratch = scratch();
    scratch.ok(&ask("one", &["--quiet"]));
    let two = scratch.ok(&ask("two", &["--workers", "2"]));
    assert_eq!(losses(&scratch.join("one")), losses(&scratch.join("two")));
    for word in
        ["loss when dropped", "dropout", "verdict", "noise", "test split", "best model", "next"]
    {
        assert!(two.out.contains(word), "{word}: {}", two.out);
    }
    assert!(two.err.contains("[6/6]") && two.err.contains("no test split"), "{}", two.err);
    let runs = std::fs::read_dir(scratch.join("two/runs")).expect("runs");
    let (mut models, mut trials) = (0, 0);
    for run in runs {
        let run = run.expect("a run").path();
        trials += usize::from(run.join("trial.json").exists());
        models += usize::from(run.join("model").exists());
        assert!(!run.join("checkpoints").exists(), "{}", run.display());
    }
    assert_eq!((trials, models), (6, 1));
}

#[test]
fn a_budget_and_ctrl_c_leave_whole_pairs_and_the_study_goes_on() {
    let scratch = scratch();
    // Trials so long that no machine comes to the third seed, where an effect may be settled, within
    // the budget.
    let question = ["ablate", "tiny.toml", "--drop", "dropout", "--out", "b", "--steps", "1000"];
    let long = ["--seeds", "30", "--budget", "1 s", "--json", "--quiet"];
    let arguments: Vec<&str> = question.into_iter().chain(long).collect();
    let began = Instant::now();
    let ran = scratch.ok(&arguments);
    let result: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(result["standing"], "budget", "{result}");
    assert!(began.elapsed() < Duration::from_secs(30));
    let seeds = result["seeds_done"].as_u64().expect("a number");
    assert!(result["effects"][0]["pairs"].as_u64() == Some(seeds), "{result}");
    assert!(result["notes"].to_string().contains("budget ended it"), "{result}");
    // Without a budget it goes on, until somebody stops it.
    let before = ledger(&scratch.join("b")).len();
    let more: Vec<&str> = question.into_iter().chain(["--seeds", "30"]).collect();
    let mut child = spawn(&scratch, &more);
    while ledger(&scratch.join("b")).len() < before + 2 {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing happens");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = child.id().to_string();
    let status = std::process::Command::new("kill").args(["-INT", &pid]).status();
    assert!(status.expect("there is a kill command").success());
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    let study: Value =
        serde_json::from_slice(&std::fs::read(scratch.join("b/study.json")).expect("a study"))
            .expect("JSON");
    assert_eq!(study["status"], "stopped");
}

#[test]
fn another_question_does_not_go_into_the_same_folder() {
    let scratch = scratch();
    let arguments = |more: &[&'static str]| {
        let base = ["ablate", "tiny.toml", "--drop", "dropout", "--budget", "1 s", "--quiet"];
        base.into_iter().chain(["--out", "s"]).chain(more.iter().copied()).collect::<Vec<_>>()
    };
    scratch.ok(&arguments(&["--seeds", "2"]));
    let err = scratch.fails(2, &arguments(&["--seeds", "2", "--steps", "31"]));
    assert!(err.contains("recipe (by its hash)"), "{err}");
    scratch.ok(&arguments(&["--seeds", "2"]));
    let err = scratch.fails(2, &["ablate", "tiny.toml", "--budget", "5 steps"]);
    assert!(err.contains("is no time"), "{err}");
    scratch.write("other/file", "x");
    let err = scratch.fails(2, &["ablate", "tiny.toml", "--out", "other"]);
    assert!(err.contains("not empty"), "{err}");
    let err = scratch.fails(2, &["ablate", "tiny.toml", "--drop", "ema"]);
    assert!(err.contains("off in this recipe"), "{err}");
}

/// What follows a command's own folder name in the ledger: names of trials that began.
fn begun(study: &Path) -> Vec<String> {
    let lines = ledger(study);
    let began = lines.iter().filter(|line| line["event"] == "started");
    began.map(|line| line["trial"].as_str().expect("named").to_owned()).collect()
}

#[test]
fn more_seeds_extend_a_study_and_fewer_are_refused() {
    let scratch = scratch();
    let more = |seeds: &'static str| {
        ask("s", &["--quiet", "--json"])
            .into_iter()
            .map(|word| if word == "2" { seeds } else { word })
            .collect::<Vec<_>>()
    };
    scratch.ok(&more("2"));
    let before = begun(&scratch.join("s"));
    let metrics = scratch.join("s/runs/reference-seed1/metrics.jsonl");
    let kept = std::fs::read(&metrics).expect("a run");
    // The n-gram model was counted once, and every trial has it.
    assert!(scratch.join("s/baseline.json").exists());
    assert!(String::from_utf8_lossy(&kept).contains("\"event\":\"baseline\""));
    let err = scratch.fails(2, &more("4"));
    assert!(err.contains("can be extended to 3, 5, 8") && err.contains("--seeds 5"), "{err}");
    // Killed in the middle, the extension goes on, with and without the number.
    let mut child = spawn(&scratch, &more("5"));
    let began = Instant::now();
    while begun(&scratch.join("s")).len() < before.len() + 2 {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing happens");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    let ran = scratch.ok(&["ablate", "tiny.toml", "--drop", ASK[3], "--out", "s", "--json"]);
    let result: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(result["seeds_planned"], 5);
    let is_over = ["complete", "settled"].iter().any(|standing| result["standing"] == *standing);
    assert!(is_over && result["seeds_done"].as_u64() >= Some(3), "{result}");
    assert!(result["notes"].to_string().contains("planned with 2 seeds and extended to 5"));
    assert!(result["baseline"]["loss_test"].as_f64() > Some(0.0), "{result}");
    let trials = losses(&scratch.join("s"));
    assert!(trials.len() <= 15 && trials.len() > 6, "{trials:?}");
    assert_eq!(begun(&scratch.join("s"))[..before.len()], before);
    assert_eq!(std::fs::read(&metrics).expect("a run"), kept, "what was done stays");
    let err = scratch.fails(2, &more("3"));
    assert!(err.contains("has 5 seeds") && err.contains("leave --seeds out"), "{err}");
    // A report tells both.
    let page = scratch.ok(&["report", "s", "--format", "markdown"]);
    for words in ["extended to 5", "An n-gram (order ", "on the test split, a perplexity of"] {
        assert!(page.out.contains(words), "{words}: {}", page.out);
    }
}

/// What a study of a null and a harm comes to, from this seed on.
fn planted(scratch: &Scratch, out: &str, seed: &str) -> Value {
    let study = ["ablate", "tiny.toml", "--planted", "null,harm", "--seeds", "5"];
    let how = ["--workers", "2", "--seed", seed, "--quiet", "--json", "--out", out];
    let ran = scratch.ok(&[&study[..], &how].concat());
    serde_json::from_str(&ran.out).expect("JSON")
}

#[test]
fn what_is_planted_is_found_and_a_null_is_not() {
    let scratch = scratch();
    let result = planted(&scratch, "p", "1");
    let verdict = |i: usize| result["effects"][i]["verdict"].as_str().expect("a word").to_owned();
    assert_eq!(result["effects"][0]["name"], "planted-null");
    assert!(!["helps", "hurts"].contains(&verdict(0).as_str()), "{result}");
    assert_eq!(verdict(1), "hurts", "{result}");
}

/// Twenty studies, or HELDOUT_STUDIES: `cargo test --release -p heldout --test ablate -- --ignored
/// --nocapture`, half a minute on two cores.
#[test]
#[ignore = "minutes; run it by name"]
fn of_twenty_nulls_at_most_one_is_taken_for_an_effect() {
    let scratch = scratch();
    let asked = std::env::var("HELDOUT_STUDIES").ok().and_then(|n| n.parse().ok());
    let studies: usize = asked.unwrap_or(20);
    let (mut wrong, mut found) = (0, 0);
    for number in 0..studies {
        let (seed, out) = ((100 * number + 1).to_string(), format!("study-{number}"));
        let result = planted(&scratch, &out, &seed);
        let effects = result["effects"].as_array().expect("a list");
        let is = |i: usize, word: &str| effects[i]["verdict"] == word;
        wrong += usize::from(is(0, "helps") || is(0, "hurts"));
        found += usize::from(is(1, "hurts"));
        println!("{number}: null {}, harm {}", effects[0]["verdict"], effects[1]["verdict"]);
    }
    println!("{wrong} of {studies} nulls claimed, {found} of {studies} harms found");
    assert!(20 * wrong <= studies && 20 * found >= 19 * studies, "{wrong} claimed, {found} found");
}
