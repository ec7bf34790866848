//! Checkpoints on their way: who waits for them, when they are told of, and what an error does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use heldout_base::durable::{Cause, DurableError};
use heldout_base::rng::{Random, streams};
use heldout_model::{Model, ModelConfig};
use heldout_optim::clip::Clipped;
use heldout_record::checkpoint::{self, Checkpoint, Pointer};
use heldout_record::{Event, RecordError, RunDir};
use heldout_regularize::Bound;

use crate::checkpointing::{self, Standing};
use crate::control::Control;
use crate::job::{Setup, prepare_job};
use crate::recipe::Recipe;
use crate::recorder::Recorder;
use crate::run::Run;
use crate::saving::Saver;
use crate::state::State;

fn disk_full() -> RecordError {
    let source = std::io::Error::from_raw_os_error(28);
    DurableError::new("write", Path::new("model.safetensors"), source).into()
}

fn somewhere(step: u64) -> Checkpoint {
    Checkpoint { folder: PathBuf::from("somewhere"), step }
}

#[test]
fn what_the_thread_comes_to_is_told_to_who_waits() {
    let mut saver = Saver::default();
    assert!(saver.wait().expect("nothing can fail").is_none());
    let (go, gate) = mpsc::channel::<()>();
    saver.begin(7, Standing::Best, move || {
        gate.recv().expect("the test goes on");
        Ok(somewhere(7))
    });
    assert_eq!((saver.step(), saver.is_done()), (Some(7), false));
    go.send(()).expect("it waits");
    let saved = saver.wait().expect("it went well").expect("there was one");
    assert_eq!((saved.checkpoint.step, saved.standing), (7, Standing::Best));
    assert_eq!(saver.step(), None);

    saver.begin(8, Standing::Later, || Err(disk_full()));
    let error = saver.wait().err().expect("it failed");
    assert_eq!(error.cause(), Some(&Cause::DiskFull));
    saver.begin(9, Standing::Later, || panic!("as a defect would"));
    let text = saver.wait().err().expect("no panic here").to_string();
    assert!(text.contains("step 9 was not finished") && text.contains("resume"), "{text}");
    assert!(saver.wait().expect("it is told once").is_none());
}

#[test]
fn dropping_waits() {
    let done = Arc::new(AtomicBool::new(false));
    let theirs = done.clone();
    let mut saver = Saver::default();
    saver.begin(1, Standing::Later, move || {
        std::thread::sleep(Duration::from_millis(50));
        theirs.store(true, Ordering::SeqCst);
        Ok(somewhere(1))
    });
    drop(saver);
    assert!(done.load(Ordering::SeqCst));
}

/// A run of a tiny model, before its first step, that keeps its events.
fn with_run(test: impl FnOnce(&mut Run<'_>)) -> Vec<Event> {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    with_run_of(scratch.path(), |_| (), test)
}

fn with_run_of(
    scratch: &Path,
    change: impl FnOnce(&mut Setup),
    test: impl FnOnce(&mut Run<'_>),
) -> Vec<Event> {
    let text = scratch.join("text.txt");
    let random = Random::new(1, streams::TEST, 0);
    let letters = (0..4000).map(|i| b"etaoin shrdlu."[random.below(i, 14) as usize] as char);
    std::fs::write(&text, letters.collect::<String>()).expect("text");
    let mut recipe = Recipe::empty();
    recipe.set_data(&[text.display().to_string()]).expect("a path");
    let sizes = ["model.context=16", "model.layers=1", "model.width=16", "model.heads=2"];
    for setting in sizes.iter().chain(&["run.checkpoint=1000 steps", "run.threads=2"]) {
        recipe.set(setting).expect("a setting");
    }
    let job = prepare_job(&recipe, &scratch.join("cache"), &mut |_| {}).expect("a job");
    let mut setup = Setup::new(job).expect("a setup");
    change(&mut setup);
    let state = State::fresh(&setup, setup.model.initialize(3));
    let folder = RunDir::create(&scratch.join("run")).expect("a run folder");
    std::fs::write(folder.recipe(), "").expect("stands for the papers");
    let mut events = Vec::new();
    let mut observer = |event: &Event| events.push(event.clone());
    let recorder = Recorder::create(&folder, &mut observer).expect("a recorder");
    let control = Control::new();
    let mut run = Run::new(setup, state, folder, recorder, &control).expect("a run");
    test(&mut run);
    drop(run);
    events
}

/// Begins a checkpoint as `save` does; it becomes safe after `delay`.
fn begin_slowly(run: &mut Run<'_>, standing: Standing, delay: Duration) {
    let staged = checkpointing::stage(&run.folder, &run.setup, &run.state).expect("staged");
    let folder = run.folder.clone();
    run.saver.begin(run.state.progress.step, standing, move || {
        std::thread::sleep(delay);
        checkpointing::make_safe(&folder, staged, standing, 3)
    });
}

fn checkpoints(events: &[Event]) -> Vec<(u64, bool)> {
    let of = |event: &Event| match event {
        Event::Checkpoint(record) => Some((record.step, record.best)),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

#[test]
fn a_rollback_right_after_a_save_takes_what_was_saved() {
    let events = with_run(|run| {
        run.state.progress.step = 4;
        let saved = run.state.parameters.clone();
        begin_slowly(run, Standing::Best, Duration::from_millis(100));
        // The file must not follow what happens to the weights from now on.
        run.state.parameters.fill(9.0);
        run.state.progress.step = 5;
        let (_, action) = run.roll_back(0.5).expect("it waits");
        assert!(action.contains("rolled back to the weights of step 4"), "{action}");
        assert_eq!(run.state.parameters, saved);
        assert_eq!(run.saved, Some(4));
    });
    assert_eq!(checkpoints(&events), [(4, true)]);
}

#[test]
fn the_next_save_waits_and_the_same_step_is_written_once() {
    let events = with_run(|run| {
        run.state.progress.step = 4;
        begin_slowly(run, Standing::Best, Duration::from_millis(100));
        run.save(Standing::Later).expect("it is on its way");
        assert_eq!((run.saved, run.saver.step()), (None, Some(4)));
        run.state.progress.step = 6;
        run.save(Standing::Later).expect("written");
        assert_eq!((run.saved, run.saver.step()), (Some(4), Some(6)));
        run.settle().expect("written");
        let best = checkpoint::pointed(&run.folder, Pointer::Best).map(|c| c.step);
        let last = checkpoint::pointed(&run.folder, Pointer::Last).map(|c| c.step);
        assert_eq!((best, last), (Some(4), Some(6)));
        checkpoint::list(&run.folder).expect("listed").iter().for_each(|one| {
            checkpoint::verify(one).expect("whole");
        });
    });
    assert_eq!(checkpoints(&events), [(4, true), (6, false)]);
}

#[test]
fn a_checkpoint_is_told_of_when_it_is_safe_and_no_step_waits_for_it() {
    let events = with_run(|run| {
        run.state.progress.step = 4;
        let (go, gate) = mpsc::channel::<()>();
        let there = somewhere(4);
        run.saver.begin(4, Standing::Later, move || {
            gate.recv().expect("the test goes on");
            Ok(there)
        });
        run.state.progress.step = 5;
        run.checkpoint_if_due().expect("it does not wait");
        assert_eq!((run.saved, run.saver.step()), (None, Some(4)));
        let told = || std::fs::read_to_string(run.folder.metrics()).expect("metrics");
        assert!(!told().contains("checkpoint"), "{}", told());
        go.send(()).expect("it waits");
        let begin = Instant::now();
        while !run.saver.is_done() {
            assert!(begin.elapsed() < Duration::from_secs(20), "the thread does not end");
            std::thread::yield_now();
        }
        run.checkpoint_if_due().expect("all went well");
        assert_eq!(run.saved, Some(4));
    });
    assert_eq!(checkpoints(&events), [(4, false)]);
}

#[test]
fn an_error_on_the_way_comes_up_at_the_next_step_and_the_older_checkpoint_stays() {
    let events = with_run(|run| {
        run.state.progress.step = 4;
        run.save(Standing::Best).expect("begun");
        run.settle().expect("written");
        run.state.progress.step = 5;
        run.saver.begin(5, Standing::Later, || Err(disk_full()));
        while !run.saver.is_done() {
            std::thread::yield_now();
        }
        let error = run.checkpoint_if_due().expect_err("the disk is full").to_string();
        assert!(error.contains("disk full; free some space"), "{error}");
        let (last, warnings) = checkpoint::load_last(&run.folder).expect("whole");
        assert_eq!((last.step, warnings), (4, Vec::new()));
        assert_eq!(run.saved, Some(4));
    });
    assert_eq!(checkpoints(&events), [(4, true)]);
}

/// Seconds on a processor, of this thread and of all together (in hundredths): on a busy machine
/// they tell what a pause would be without the others.
fn processor_seconds() -> [f64; 2] {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let number = |text: &str, at| {
        text.split_whitespace().nth(at).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0)
    };
    let own = number(&read("/proc/thread-self/schedstat"), 0) * 1e-9;
    // User and system time; the second field is a name in brackets, without spaces in tests.
    let stat = read("/proc/self/stat");
    [own, (number(&stat, 13) + number(&stat, 14)) * 1e-2]
}

/// How long a run of 124M parameters pauses for a checkpoint, and when it is safe. Not part of the
/// suite: it writes 1.5 GB a time. HELDOUT_SCRATCH names a folder on the disk to measure.
#[test]
#[ignore = "writes several GB"]
fn a_large_checkpoint_pauses_the_run_shortly() {
    let place = std::env::var("HELDOUT_SCRATCH").unwrap_or(".".to_owned());
    let scratch = tempfile::tempdir_in(place).expect("scratch");
    let gpt2 = |setup: &mut Setup| {
        let config = ModelConfig::gpt2(50_257, 1024, 12, 12, 768);
        setup.model = Model::new(config).expect("a model");
        let plan = setup.plan.plan().clone();
        setup.plan = Bound::new(&plan, setup.model.layout());
    };
    let peak = || -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
        let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("there");
        line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
    };
    with_run_of(scratch.path(), gpt2, |run| {
        run.gradients.fill(1e-3);
        let at = run.at();
        let clipped = Clipped { norm_before: 1.0, norm_after: 1.0, scale: 1.0, share: 0.0 };
        run.update(at, 1e-4, &clipped);
        println!("{} parameters", run.state.parameters.len());
        let before = peak();
        for step in 1..=8 {
            run.state.progress.step = step;
            let (begin, before) = (Instant::now(), processor_seconds());
            run.save(Standing::Later).expect("begun");
            let (paused, after) = (begin.elapsed(), processor_seconds());
            let [own, all] = [after[0] - before[0], after[1] - before[1]];
            run.settle().expect("safe");
            println!(
                "paused {paused:.2?} ({own:.2} s on a processor, {all:.2} s with the other \
                 threads), safe after {:.2?}",
                begin.elapsed()
            );
        }
        println!("extra memory {} KiB", peak() - before);
        assert!(peak() - before < 16 << 10);
    });
}
