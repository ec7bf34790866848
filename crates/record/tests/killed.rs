//! A process that is killed at any moment leaves a run that goes on from its newest checkpoint.

use heldout_record::checkpoint::{self, LargeFile, Pointer};
use heldout_record::{Event, MetricsLog, Notice, RunDir, StepRecord, read_metrics};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const PLACE: &str = "HELDOUT_TEST_KILLED_RUN";

/// Trains for ever, if logging and writing checkpoints were all there is to it.
fn write_for_ever(run: &RunDir) {
    let _lock = run.lock().expect("the killed one's lock is gone");
    checkpoint::clean_staging(run).expect("tidied");
    let from = checkpoint::load_last(run).map_or(0, |(checkpoint, _)| checkpoint.step);
    let (mut log, _) = MetricsLog::resume(&run.metrics(), from).expect("resumed");
    for step in from + 1.. {
        log.append(&Event::Step(StepRecord { step, ..Default::default() })).expect("appended");
        let text = format!("{step} ").repeat(20_000);
        let staged = checkpoint::stage(run, step, &mut |staging| {
            let body = |out: &mut dyn Write| out.write_all(text.as_bytes());
            staging.write_large(vec![LargeFile { name: "weights", body: Box::new(body) }])?;
            staging.write("state", |out| out.write_all(b"small"))
        });
        let staged = staged.expect("staged");
        // As the trainer does: it goes on logging while another thread makes the files safe.
        let written = std::thread::scope(|scope| {
            let commit = scope.spawn(move || staged.commit());
            let told = format!("beside {step}");
            log.append(&Event::Notice(Notice { step: None, text: told })).expect("appended");
            commit.join().expect("no panic")
        });
        let written = written.expect("written");
        checkpoint::point(run, &written, Pointer::Last).expect("pointed");
        if step % 3 == 0 {
            checkpoint::point(run, &written, Pointer::Best).expect("pointed");
        }
        checkpoint::prune(run, 2).expect("pruned");
    }
}

#[test]
fn child() {
    if let Some(place) = std::env::var_os(PLACE) {
        write_for_ever(&RunDir { root: PathBuf::from(place) });
    }
}

fn kill_after(root: &Path, delay: Duration) {
    let program = std::env::current_exe().expect("this test");
    let mut command = Command::new(program);
    command.args(["--exact", "child"]).env(PLACE, root);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    std::thread::sleep(delay);
    assert!(child.try_wait().expect("asked").is_none(), "the child ended by itself");
    child.kill().expect("killed");
    child.wait().expect("gone");
}

#[test]
fn killed_twenty_times_and_never_a_step_back() {
    let folder = tempfile::tempdir().expect("scratch");
    let run = RunDir::create(&folder.path().join("run")).expect("created");
    let mut reached = 0;
    for round in 0..20u64 {
        // Later rounds wait longer, for slow disks.
        let delay = 50_000 + 4_000 * round + 7_919 * round % 40_000;
        kill_after(&run.root, Duration::from_micros(delay));
        let Ok((checkpoint, warnings)) = checkpoint::load_last(&run) else {
            assert_eq!(reached, 0, "a checkpoint was lost");
            continue;
        };
        // The very first checkpoint may be whole before `last` first points anywhere.
        assert!(warnings.is_empty() || reached == 0, "{warnings:?}");
        assert!(checkpoint.step >= reached, "{} after {reached}", checkpoint.step);
        reached = checkpoint.step;
        if let Some(best) = checkpoint::pointed(&run, Pointer::Best) {
            checkpoint::verify(&best).expect("the best is whole");
        }
        let events = read_metrics(&run.metrics()).expect("readable");
        let steps: Vec<u64> = events.iter().filter_map(Event::step).collect();
        assert_eq!(steps, (1..=steps.len() as u64).collect::<Vec<_>>());
        assert!(steps.len() as u64 >= reached);
    }
    if reached < 20 {
        println!("only {reached} steps were made: the disk is slow, the test weak");
    }
}
