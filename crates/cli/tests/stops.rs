//! A run that is stopped or killed goes on to the same result, bit for bit.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Scratch, TINY, ran, tiny};
use heldout_base::rng::{Random, streams};

/// A run of about a second, with many checkpoints to be killed between and in.
fn long(steps: u64) -> Scratch {
    let scratch = tiny();
    let regularize = format!("dropout = 0.1\nema = 0.9\nearly-stopping = \"{steps} steps\"");
    let recipe = TINY
        .replace("60 steps", &format!("{steps} steps"))
        .replace("10 steps", "25 steps")
        .replace("20 steps", "50 steps")
        .replace("dropout = 0.1", &regularize);
    scratch.write("long.toml", recipe);
    scratch
}

fn spawn(scratch: &Scratch, arguments: &[&str]) -> Child {
    scratch
        .command(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs")
}

fn weights(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("model/model.safetensors")).expect("the run has a result")
}

fn wait_for_step(scratch: &Scratch, child: &mut Child) {
    let began = Instant::now();
    let metrics = scratch.join("r/metrics.jsonl");
    loop {
        let text = std::fs::read_to_string(&metrics).unwrap_or_default();
        if text.contains("\"event\":\"step\"") {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "no step within a minute");
        assert!(child.try_wait().expect("it can be asked").is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([format!("-{name}"), child.id().to_string()])
        .status()
        .expect("there is a kill command");
    assert!(status.success());
}

#[test]
fn killed_at_random_moments_and_resumed() {
    let kills: u64 = std::env::var("HELDOUT_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(5);
    let scratch = long(300);
    let began = Instant::now();
    scratch.ok(&["train", "long.toml", "--out", "whole", "--quiet"]);
    let expected = weights(&scratch.join("whole"));
    let whole = began.elapsed().as_secs_f64();
    let moments = Random::new(11, streams::TEST, 0);
    for kill in 0..kills {
        let name = format!("killed-{kill}");
        let mut child = spawn(&scratch, &["train", "long.toml", "--out", &name, "--quiet"]);
        std::thread::sleep(Duration::from_secs_f64(whole * moments.uniform(2 * kill)));
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        if !scratch.join(&name).join("recipe.toml").exists() {
            // Killed before there was anything to go on from.
            let _ = std::fs::remove_dir_all(scratch.join(&name));
            scratch.ok(&["train", "long.toml", "--out", &name, "--quiet"]);
        } else {
            let mut child = spawn(&scratch, &["resume", &name, "--quiet"]);
            std::thread::sleep(Duration::from_secs_f64(whole * moments.uniform(2 * kill + 1)));
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
            scratch.ok(&["resume", &name, "--quiet"]);
        }
        assert!(weights(&scratch.join(&name)) == expected, "kill {kill}: other weights");
        std::fs::remove_dir_all(scratch.join(&name)).expect("it can be removed");
    }
}

/// Whether this process has been told to ignore hangups, which its children inherit.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 != 0)
}

#[test]
fn signals_checkpoint_and_say_so_in_the_exit_code() {
    let scratch = long(100_000);
    let mut signals = vec![("INT", 130), ("TERM", 143), ("USR1", 138)];
    if is_hangup_ignored() {
        eprintln!("skipped for HUP: these tests run under nohup, and so would what they start");
    } else {
        signals.push(("HUP", 129));
    }
    for (name, code) in signals {
        let mut child = spawn(&scratch, &["train", "long.toml", "--out", "r"]);
        wait_for_step(&scratch, &mut child);
        signal(&child, name);
        let ran = ran(child.wait_with_output().expect("it ends"));
        assert_eq!(ran.code, Some(code), "{}\n{}", ran.out, ran.err);
        assert!(ran.err.contains("heldout resume r"), "{}", ran.err);
        assert!(scratch.join("r/last/model.safetensors").exists());
        std::fs::remove_dir_all(scratch.join("r")).expect("it can be removed");
    }
}

#[test]
fn a_second_signal_at_any_moment_of_the_last_checkpoint_corrupts_nothing() {
    // A checkpoint every step: one is always on its way.
    let scratch = long(40);
    let recipe = std::fs::read_to_string(scratch.join("long.toml")).expect("just written");
    scratch.write("long.toml", recipe.replace("25 steps", "1 steps"));
    scratch.ok(&["train", "long.toml", "--out", "whole", "--quiet"]);
    let expected = weights(&scratch.join("whole"));
    for (round, second) in ["TERM", "INT", "KILL"].into_iter().enumerate() {
        let mut child = spawn(&scratch, &["train", "long.toml", "--out", "r"]);
        wait_for_step(&scratch, &mut child);
        signal(&child, "TERM");
        std::thread::sleep(Duration::from_millis(5 * round as u64));
        signal(&child, second);
        let ended = ran(child.wait_with_output().expect("it ends"));
        assert!(matches!(ended.code, Some(0 | 130 | 143) | None), "{}", ended.err);
        let resumed = scratch.ok(&["resume", "r", "--quiet"]);
        assert!(!resumed.err.contains("passed over"), "{}", resumed.err);
        assert!(weights(&scratch.join("r")) == expected, "{second} in round {round}");
        std::fs::remove_dir_all(scratch.join("r")).expect("it can be removed");
    }
}

#[test]
fn a_hangup_that_is_ignored_stays_ignored() {
    let scratch = long(200);
    let mut command = Command::new("nohup");
    let train = scratch.command(&["train", "long.toml", "--out", "r", "--quiet"]);
    command.arg(train.get_program()).args(train.get_args()).current_dir(scratch.path());
    command.env("HELDOUT_CACHE", scratch.join("cache")).stdin(Stdio::null());
    let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut child) = spawned else {
        println!("skipped: there is no nohup");
        return;
    };
    wait_for_step(&scratch, &mut child);
    signal(&child, "HUP");
    let ran = ran(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.out, ran.err);
}

#[test]
fn stopped_by_a_signal_and_resumed() {
    let scratch = long(400);
    scratch.ok(&["train", "long.toml", "--out", "whole", "--quiet"]);
    let mut child = spawn(&scratch, &["train", "long.toml", "--out", "r"]);
    wait_for_step(&scratch, &mut child);
    signal(&child, "INT");
    let ran = ran(child.wait_with_output().expect("it ends"));
    assert!(matches!(ran.code, Some(0 | 130)), "{}", ran.err);
    let resumed = scratch.ok(&["resume", "r"]);
    assert!(resumed.err.contains("going on from step"), "{}", resumed.err);
    assert!(weights(&scratch.join("r")) == weights(&scratch.join("whole")));
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let scratch = long(200);
    scratch.ok(&["train", "long.toml", "--out", "r", "--quiet"]);
    let expected = weights(&scratch.join("r"));
    let last = scratch.join("r/last").canonicalize().expect("it leads to a checkpoint");
    let file = last.join("training_state.safetensors");
    let mut bytes = std::fs::read(&file).expect("it can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).expect("it can be written");
    let resumed = scratch.ok(&["resume", "r"]);
    assert!(resumed.err.contains("is passed over"), "{}", resumed.err);
    assert!(weights(&scratch.join("r")) == expected);
    let last = scratch.join("r/last").canonicalize().expect("it leads to a checkpoint");
    std::fs::write(last.join("model.safetensors"), b"short").expect("it can be written");
    scratch.ok(&["resume", "r"]);
    assert!(weights(&scratch.join("r")) == expected);
}

#[test]
fn one_thread_or_two_make_the_same_weights() {
    let scratch = long(100);
    for threads in ["1", "2"] {
        let arguments = ["train", "long.toml", "--out", threads, "--threads", threads, "--quiet"];
        scratch.ok(&arguments);
    }
    assert!(weights(&scratch.join("1")) == weights(&scratch.join("2")));
}

#[test]
fn changed_data_cannot_be_resumed() {
    let scratch = long(50);
    scratch.ok(&["train", "long.toml", "--out", "r", "--quiet"]);
    scratch.write("text.txt", common::text(401));
    let err = scratch.fails(2, &["resume", "r"]);
    assert!(err.contains("changed"), "{err}");
}
