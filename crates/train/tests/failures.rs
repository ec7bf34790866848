//! What a run does when the numbers explode or the disk gives up.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use heldout_record::{Event, GuardRecord, RunDir, StopReason};
use heldout_train::{Control, ExitKind, TrainError, prepare_job, train};
use support::*;

fn guards(done: &Done) -> Vec<GuardRecord> {
    let guard = |e: &Event| match e {
        Event::Guard(guard) => Some(guard.clone()),
        _ => None,
    };
    done.events.iter().filter_map(guard).collect()
}

fn assert_finite(folder: &Path) {
    for (name, values) in bits(folder) {
        assert!(values.iter().all(|b| f32::from_bits(*b).is_finite()), "{name} is broken");
    }
}

/// A penalty and a rate that multiply every weight by −199 a step: soon nothing is a number.
const EXPLODING: [&str; 6] = [
    "optimizer.name=gradient-descent",
    "optimizer.learning-rate=100",
    "schedule.shape=constant",
    "schedule.warmup=0 steps",
    "regularize.l2=1",
    "regularize.gradient-clipping=off",
];

fn exploding(policy: &str) -> Done {
    let guard = format!("regularize.explosion-guard={policy}");
    let mut settings = EXPLODING.to_vec();
    settings.push(&guard);
    settings.extend(["evaluate.every=end", "run.checkpoint=end", "schedule.horizon=60 steps"]);
    // The optimizer of the tiny recipe has knobs that this one lacks.
    run("exploding", &settings)
}

#[test]
fn without_a_guard_a_broken_loss_stops_the_run() {
    let done = exploding("off");
    assert_eq!(done.outcome.reason, StopReason::Diverged);
    let guards = guards(&done);
    assert_eq!(guards.len(), 1);
    assert!(guards[0].action.contains("stopped") && guards[0].cause.contains("not finite"));
    assert!(!guards[0].loss.is_finite() || !guards[0].gradient_norm.is_finite());
    assert!(done.outcome.step > 2, "it takes some steps to break: {:?}", done.outcome);
}

#[test]
fn every_policy_ends_a_run_that_nothing_can_mend() {
    for policy in ["stop", "skip", "clip-harder", "roll-back"] {
        let done = exploding(policy);
        assert_eq!(done.outcome.reason, StopReason::Diverged, "{policy}: {:?}", done.outcome);
        assert!(!guards(&done).is_empty(), "{policy}");
    }
}

/// A run that was stopped while all was well, and goes on with a rate that breaks it.
fn poisoned(policy: &str) -> Done {
    let guard = format!("regularize.explosion-guard={policy}");
    let path = run_until("poisoned", &[&guard, "schedule.shape=constant"], 14);
    let recipe = path.join("recipe.toml");
    let text = fs::read_to_string(&recipe).expect("the recipe");
    let poisoned: String = text
        .lines()
        .map(|l| if l.starts_with("learning-rate") { "learning-rate = 100.0" } else { l })
        .map(|l| if l.starts_with("gradient-clipping") { "gradient-clipping = false" } else { l })
        .map(|l| format!("{l}\n"))
        .collect();
    fs::write(&recipe, poisoned).expect("the recipe is changed");
    let (outcome, events) = go_on(&path).expect("the run ends by itself");
    Done { path, outcome, events }
}

#[test]
fn rolling_back_restores_the_weights_and_cuts_the_rate() {
    let done = poisoned("{ policy = \"roll-back\", rate-factor = 0.001, least = 5, window = 10 }");
    let guards = guards(&done);
    assert!(guards[0].action.contains("rolled back to the weights of step 8"), "{guards:?}");
    assert!(guards[0].action.contains(" 0.1% "), "{guards:?}");
    let best = done.outcome.best.expect("a best");
    assert!(best.loss_valid < 3.3, "{best:?}");
    assert_eq!(done.outcome.reason, StopReason::Horizon);
    assert_eq!(done.outcome.step, 24);
    assert_finite(&done.path.join("last"));
    assert_finite(&done.path.join("model"));
}

#[test]
fn clipping_harder_and_skipping_keep_the_weights_finite() {
    for (policy, action) in [("clip-harder", "clipped the gradient"), ("skip", "skipped")] {
        let settings = format!("{{ policy = \"{policy}\", least = 5, window = 20, limit = 20 }}");
        let done = poisoned(&settings);
        let guards = guards(&done);
        assert!(guards.iter().any(|g| g.action.contains(action)), "{policy}: {guards:?}");
        assert_finite(&done.path.join("last"));
        assert_finite(&done.path.join("model"));
    }
}

#[test]
fn skipping_that_does_not_help_becomes_a_roll_back() {
    let done = poisoned("{ policy = \"skip\", least = 5, window = 20, limit = 2 }");
    let guards = guards(&done);
    assert!(guards[0].action.contains("skipped the update"), "{guards:?}");
    assert!(guards[1].action.contains("rolled back to the weights of step 8"), "{guards:?}");
    assert!(guards[1].action.contains(" 50% "), "{guards:?}");
    assert_finite(&done.path.join("last"));
    assert_finite(&done.path.join("model"));
}

#[test]
fn a_poisoned_checkpoint_stops_the_run_and_the_best_stays() {
    let path = run_until("poison", &["regularize.explosion-guard=stop"], 14);
    let best = bits(&path.join("best"));
    // Weights that overflow at the first product, with checksums that fit.
    let folder = path.join("checkpoints/step-000014");
    let file = folder.join("model.safetensors");
    let mut bytes = fs::read(&file).expect("weights");
    let at = bytes.len() - 4000;
    for weight in bytes[at..].as_chunks_mut::<4>().0 {
        *weight = 3e38f32.to_le_bytes();
    }
    fs::write(&file, &bytes).expect("poison");
    reseal(&folder);
    let (outcome, events) = go_on(&path).expect("the run ends by itself");
    assert_eq!(outcome.reason, StopReason::Diverged);
    assert!(events.iter().any(|e| matches!(e, Event::Guard(_))));
    assert_eq!(bits(&path.join("best")), best);
    for (name, values) in bits(&path.join("model")) {
        assert_eq!(best[&name], values, "{name}");
    }
}

/// Writes the checksums of what is there now.
fn reseal(folder: &Path) {
    let sums = folder.join("SHA256SUMS");
    let text = fs::read_to_string(&sums).expect("checksums");
    let fresh: String = text
        .lines()
        .map(|line| {
            if line.starts_with('#') {
                return format!("{line}\n");
            }
            let name = line.split_whitespace().nth(1).expect("a name");
            let sum = heldout_base::durable::sha256_file(&folder.join(name)).expect("a file");
            format!("{sum}  {name}\n")
        })
        .collect();
    fs::write(&sums, fresh).expect("checksums");
}

/// A small file system of its own in memory, where the system allows to mount one.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(name: &str, size: &str) -> Option<Tmpfs> {
        let path = run_path(name);
        fs::create_dir(&path).expect("a folder");
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&path)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Tmpfs(path)),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).trim().to_string();
                println!("skipped: no tmpfs can be mounted here ({why})");
                None
            }
            Err(error) => {
                println!("skipped: no tmpfs can be mounted here ({error})");
                None
            }
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn train_at(path: &Path, settings: &[&str]) -> Result<(), TrainError> {
    let run = RunDir::create(path)?;
    train(job(settings)?, run, Vec::new(), &mut (), &Control::new()).map(|_| ())
}

#[test]
fn a_full_disk_ends_the_run_with_a_clear_error_and_a_whole_checkpoint() {
    let Some(disk) = Tmpfs::mount("small disk", "260k") else { return };
    let run = disk.0.join("run");
    let settings = ["run.keep=1000", "evaluate.every=end"];
    let error = train_at(&run, &settings).expect_err("260 kB are soon full");
    assert_eq!(error.exit_kind(), ExitKind::Failed);
    let text = error.to_string();
    assert!(text.contains("disk full") && text.contains("is whole"), "{text}");
    let TrainError::Lost { checkpoint: Some(step), .. } = error else { panic!("{text}") };
    assert!(step >= 10, "{text}");
    // Once there is room the run goes on from there to the same end.
    let room = Command::new("mount").args(["-o", "remount,size=50m"]).arg(&disk.0).status();
    assert!(room.expect("mount ran").success());
    go_on(&run).expect("it goes on");
    let whole = support::run("whole", &settings);
    assert_same_run(&whole.path, &run, "after a full disk");
}

#[test]
fn a_disk_that_is_full_from_the_start_says_so() {
    let Some(disk) = Tmpfs::mount("tiny disk", "40k") else { return };
    let error = train_at(&disk.0.join("run"), &[]).expect_err("nothing fits");
    assert!(error.to_string().contains("disk full"), "{error}");
}

#[test]
fn a_disk_that_becomes_read_only_ends_the_run() {
    // A read-only file system appears where checkpoints go: what a failing disk is remounted as.
    let path = run_path("read-only disk");
    let place = path.join("checkpoints");
    let mounted = std::rc::Rc::new(std::cell::RefCell::new(None));
    let (slot, over) = (mounted.clone(), place.clone());
    let mut mount = move |event: &Event| {
        // When a checkpoint is told of none is on its way, whose files would be hidden.
        if matches!(event, Event::Checkpoint(c) if c.step == 10) {
            let options = ["-t", "tmpfs", "-o", "ro", "tmpfs"];
            let status = Command::new("mount").args(options).arg(&over).status();
            if status.is_ok_and(|s| s.success()) {
                *slot.borrow_mut() = Some(Tmpfs(over.clone()));
            }
        }
    };
    let run = RunDir::create(&path).expect("a run folder");
    let control = Control::new();
    let ended = train(job(&[]).expect("a job"), run, Vec::new(), &mut mount, &control);
    if mounted.take().is_none() {
        println!("skipped: no tmpfs can be mounted here");
        return;
    }
    let error = ended.expect_err("checkpoints cannot be written").to_string();
    assert!(error.contains("read-only file system"), "{error}");
    go_on(&path).expect("the disk can be written to again");
    assert_same_run(&support::run("whole", &[]).path, &path, "after a read-only disk");
}

#[test]
fn a_folder_that_vanishes_ends_the_run() {
    let path = run_path("vanishing");
    let gone = path.clone();
    let mut remove = move |event: &Event| {
        if matches!(event, Event::Step(s) if s.step == 8) {
            fs::remove_dir_all(&gone).expect("it was there");
        }
    };
    let run = RunDir::create(&path).expect("a run folder");
    let control = Control::new();
    let ended = train(job(&[]).expect("a job"), run, Vec::new(), &mut remove, &control);
    let error = ended.expect_err("there is nowhere to write").to_string();
    assert!(error.contains("no such file or folder"), "{error}");
    assert!(error.contains("No checkpoint"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    let parent = run_path("locked");
    fs::create_dir(&parent).expect("a folder");
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o555)).expect("a mode");
    let probe = fs::write(parent.join("probe"), "x");
    if probe.is_ok() {
        println!("skipped: this user may write anywhere");
        return;
    }
    let error = RunDir::create(&parent.join("run")).expect_err("not writable").to_string();
    assert!(error.contains("permission denied"), "{error}");
}

#[test]
fn a_model_larger_than_the_memory_is_refused_before_anything_is_allocated() {
    let settings = ["model.width=16384", "model.heads=64", "model.layers=90", "batch.micro=1"];
    let run = RunDir::create(&run_path("huge")).expect("a run folder");
    let job = prepare_job(&recipe(&settings), &cache(), &mut |_| {}).expect("a plan is possible");
    let error = train(job, run, Vec::new(), &mut (), &Control::new()).expect_err("too large");
    assert_eq!(error.exit_kind(), ExitKind::BadInput);
    assert!(error.to_string().contains("GiB are free"), "{error}");
}

#[test]
fn the_exit_kinds_tell_input_from_failure() {
    let check = |settings: &[&str], kind: ExitKind| {
        let error = job(settings).err().unwrap_or_else(|| panic!("accepted: {settings:?}"));
        assert_eq!(error.exit_kind(), kind, "{error}");
    };
    check(&["data.train=/no/such/file.txt"], ExitKind::BadInput);
    check(&["data.tokenizer=chars"], ExitKind::BadInput);
    check(&["model.width=17"], ExitKind::BadInput);
    check(&["model.from=/no/such/folder"], ExitKind::BadInput);
    check(&["regularize.l2={ strength = 0.1, on = \"nothing\" }"], ExitKind::BadInput);
}
