//! Checkpoints: whole or not there, every changed bit noticed, the newest whole one found.

use heldout_base::durable::{Cause, DurableError};
use heldout_record::checkpoint::{
    self, Checkpoint, LargeFile, Pointer, clean_staging, list, load_best, load_last, point,
    pointed, prune, verify,
};
use heldout_record::{RecordError, RunDir};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn new_run() -> (tempfile::TempDir, RunDir) {
    let folder = tempfile::tempdir().expect("scratch");
    let run = RunDir::create(&folder.path().join("run")).expect("created");
    (folder, run)
}

fn write(run: &RunDir, step: u64, content: &str) -> Checkpoint {
    checkpoint::write_staged(run, step, &mut |staging| {
        staging.write("model.safetensors", |out| out.write_all(content.as_bytes()))?;
        fs::write(staging.folder().join("config.json"), "{}").expect("written by other means");
        Ok(())
    })
    .expect("written")
}

fn steps(run: &RunDir) -> Vec<u64> {
    list(run).expect("listed").iter().map(|checkpoint| checkpoint.step).collect()
}

fn entries(folder: &Path) -> Vec<String> {
    let all = fs::read_dir(folder).expect("there");
    let mut names: Vec<String> =
        all.map(|e| e.expect("listed").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn written_pointed_to_verified_and_found() {
    let (_folder, run) = new_run();
    let one = write(&run, 500, "weights");
    assert_eq!(one.folder, run.root.join("checkpoints/step-000500"));
    assert_eq!(entries(&one.folder), ["SHA256SUMS", "config.json", "model.safetensors"]);
    verify(&one).expect("whole");
    assert_eq!(pointed(&run, Pointer::Last), None);
    point(&run, &one, Pointer::Last).expect("pointed");
    point(&run, &one, Pointer::Best).expect("pointed");
    let two = write(&run, 1_234_567, "more");
    point(&run, &two, Pointer::Last).expect("pointed");
    assert_eq!(fs::read_link(run.last()).expect("a link"), Path::new("checkpoints/step-1234567"));
    assert_eq!(fs::read_link(run.best()).expect("a link"), Path::new("checkpoints/step-000500"));
    assert_eq!(fs::read(run.best().join("model.safetensors")).expect("through it"), b"weights");
    assert_eq!(load_last(&run).expect("whole"), (two, Vec::new()));
    assert_eq!(load_best(&run).expect("whole"), one);
    assert_eq!(steps(&run), [500, 1_234_567]);
}

#[test]
fn sha256sum_agrees() {
    let (_folder, run) = new_run();
    let one = write(&run, 1, "weights");
    let mut command = std::process::Command::new("sha256sum");
    let Ok(output) =
        command.args(["--strict", "-c", "SHA256SUMS"]).current_dir(&one.folder).output()
    else {
        println!("skipped: there is no sha256sum here");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let (_folder, run) = new_run();
    let one = write(&run, 1, "some weights");
    for name in entries(&one.folder) {
        let path = one.folder.join(&name);
        let whole = fs::read(&path).expect("read");
        let check = |bytes: &[u8], what: &str| {
            fs::write(&path, bytes).expect("written");
            let error = verify(&one).expect_err(what);
            assert!(matches!(error, RecordError::DamagedCheckpoint { .. }), "{error}");
        };
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                check(&bytes, &format!("{name}: bit {bit} of byte {at}"));
            }
            check(&whole[..at], &format!("{name} cut to {at} bytes"));
        }
        let mut longer = whole.clone();
        longer.push(b'\n');
        check(&longer, &format!("{name} with a byte more"));
        fs::remove_file(&path).expect("removed");
        assert!(verify(&one).expect_err("gone").to_string().contains("no such file"), "{name}");
        fs::write(&path, &whole).expect("restored");
        verify(&one).expect("whole again");
    }
}

#[test]
fn a_damaged_one_is_named_and_passed_over() {
    let (_folder, run) = new_run();
    for step in [1, 2, 3, 4] {
        let one = write(&run, step, "weights");
        point(&run, &one, Pointer::Last).expect("pointed");
    }
    let file = |step: u64| run.checkpoints().join(format!("step-{step:06}/model.safetensors"));
    fs::write(file(4), "weightz").expect("changed");
    fs::write(file(3), "weight").expect("cut");
    let (found, warnings) = load_last(&run).expect("two are left");
    assert_eq!(found.step, 2);
    assert_eq!(warnings.len(), 2);
    assert!(
        warnings[0].contains("step-000004 is passed over: model.safetensors has changed"),
        "{warnings:?}"
    );
    fs::remove_dir_all(run.checkpoints().join("step-000004")).expect("removed");
    let (found, warnings) = load_last(&run).expect("two are left");
    assert_eq!(found.step, 2);
    assert!(warnings[0].contains("step-000004 is gone"), "{warnings:?}");
    for step in [1, 2] {
        fs::remove_file(file(step)).expect("removed");
    }
    let error = load_last(&run).expect_err("none is left");
    let text = error.to_string();
    assert!(matches!(error, RecordError::NoCheckpoint { .. }));
    assert!(text.contains("no whole checkpoint (") && text.contains("step-000001"), "{text}");
    assert!(text.ends_with("start the run anew"), "{text}");
}

#[test]
fn a_damaged_best_is_an_error() {
    let (_folder, run) = new_run();
    assert!(matches!(load_best(&run), Err(RecordError::NoCheckpoint { .. })));
    let one = write(&run, 1, "weights");
    point(&run, &one, Pointer::Best).expect("pointed");
    fs::write(one.folder.join("config.json"), "[]").expect("changed");
    let error = load_best(&run).expect_err("damaged").to_string();
    assert!(error.contains("config.json has changed since it was written"), "{error}");
}

#[test]
fn after_a_rollback_the_abandoned_future_comes_last() {
    let (_folder, run) = new_run();
    let one = write(&run, 100, "early");
    let two = write(&run, 200, "back here");
    write(&run, 300, "abandoned");
    point(&run, &two, Pointer::Last).expect("pointed");
    assert_eq!(load_last(&run).expect("whole").0, two);
    fs::remove_file(two.folder.join("config.json")).expect("removed");
    assert_eq!(load_last(&run).expect("whole").0, one);
    fs::remove_file(one.folder.join("config.json")).expect("removed");
    assert_eq!(load_last(&run).expect("whole").0.step, 300);
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    let (_folder, run) = new_run();
    write(&run, 1, "weights");
    let error = checkpoint::write_staged(&run, 2, &mut |staging| {
        staging.write("big", |out| {
            out.write_all(&vec![1; 5 << 20])?;
            Err(io::Error::from_raw_os_error(28))
        })
    })
    .expect_err("the disk is full");
    assert_eq!(error.cause(), Some(&Cause::DiskFull));
    let text = error.to_string();
    assert!(text.contains("big: disk full; free some space"), "{text}");
    let error = checkpoint::write(&run, 2, &mut |_| {
        Err(RecordError::Content("the model has no tensors".to_owned()))
    });
    assert_eq!(error.expect_err("refused").to_string(), "the model has no tensors");
    let error = checkpoint::write(&run, 2, &mut |folder| {
        let path = folder.join("deeper");
        Ok(fs::create_dir(&path).map_err(|e| DurableError::new("create", &path, e))?)
    });
    assert!(error.expect_err("files only").to_string().contains("deeper is not a file"));
    assert_eq!(entries(&run.checkpoints()), ["step-000001"]);
    load_last(&run).expect("the old one is untouched");
}

#[test]
fn the_same_step_again_replaces_the_former() {
    let (_folder, run) = new_run();
    let one = write(&run, 7, "first");
    point(&run, &one, Pointer::Last).expect("pointed");
    write(&run, 7, "second");
    assert_eq!(entries(&run.checkpoints()), ["step-000007"]);
    assert_eq!(fs::read(run.last().join("model.safetensors")).expect("read"), b"second");
    verify(&one).expect("whole");
}

#[test]
fn pruning_never_takes_best_or_last() {
    let (_folder, run) = new_run();
    let all: Vec<Checkpoint> = (1..=6).map(|step| write(&run, step, "weights")).collect();
    point(&run, &all[1], Pointer::Best).expect("pointed");
    point(&run, &all[3], Pointer::Last).expect("pointed");
    let gone = prune(&run, 1).expect("pruned");
    assert_eq!(gone.iter().map(|c| c.step).collect::<Vec<_>>(), [1, 3, 5]);
    assert_eq!(steps(&run), [2, 4, 6]);
    assert_eq!(prune(&run, 9).expect("nothing to do"), []);
    prune(&run, 0).expect("pruned");
    assert_eq!(entries(&run.checkpoints()), ["step-000002", "step-000004"]);
}

#[test]
fn litter_of_a_crash_is_tidied_up_and_a_replaced_one_comes_back() {
    let (_folder, run) = new_run();
    let inside = |name: &str| -> PathBuf { run.checkpoints().join(name) };
    write(&run, 1, "weights");
    write(&run, 2, "weights");
    for name in [".staging-step-000003", ".removing-step-000004", ".replaced-step-000001"] {
        fs::create_dir(inside(name)).expect("made");
        fs::write(inside(name).join("a"), "x").expect("written");
    }
    // The crash came between the two renames: only the former step 2 is there.
    fs::rename(inside("step-000002"), inside(".replaced-step-000002")).expect("renamed");
    fs::write(inside("notes.txt"), "mine").expect("written");
    fs::write(run.root.join(".plan.json.abc.tmp"), "x").expect("written");
    clean_staging(&run).expect("tidied");
    assert_eq!(entries(&run.checkpoints()), ["notes.txt", "step-000001", "step-000002"]);
    assert_eq!(entries(&run.root), ["checkpoints"]);
    let mut found = list(&run).expect("listed");
    found.iter().for_each(|one| verify(one).expect("whole"));
    assert_eq!(found.pop().map(|one| one.step), Some(2));
}

#[test]
fn a_stale_staging_folder_is_no_obstacle() {
    let (_folder, run) = new_run();
    let stale = run.checkpoints().join(".staging-step-000001");
    fs::create_dir(&stale).expect("made");
    fs::write(stale.join("model.safetensors"), "half").expect("written");
    let one = write(&run, 1, "whole");
    assert_eq!(fs::read(one.folder.join("model.safetensors")).expect("read"), b"whole");
}

#[test]
fn other_names_are_no_checkpoints() {
    let (_folder, run) = new_run();
    for name in ["step-1", "step-", "step-0000001", "step-+00001", "other"] {
        fs::create_dir(run.checkpoints().join(name)).expect("made");
    }
    assert_eq!(steps(&run), [] as [u64; 0]);
}

fn stage(run: &RunDir, step: u64, content: &str) -> checkpoint::Staged {
    checkpoint::stage(run, step, &mut |staging| {
        let file = |name| LargeFile {
            name,
            body: Box::new(|out: &mut dyn io::Write| out.write_all(content.as_bytes())),
        };
        staging.write("config.json", |out| out.write_all(b"{}"))?;
        staging.write_large(vec![file("a"), file("b"), file("c")])
    })
    .expect("staged")
}

#[test]
fn what_is_staged_is_no_checkpoint_until_another_thread_commits_it() {
    let (_folder, run) = new_run();
    let one = write(&run, 1, "weights");
    point(&run, &one, Pointer::Last).expect("pointed");
    let large = "weights ".repeat(300_000);
    let staged = stage(&run, 2, &large);
    assert_eq!(steps(&run), [1]);
    assert_eq!(load_last(&run).expect("whole"), (one, Vec::new()));
    let two = std::thread::spawn(move || staged.commit()).join().expect("no panic");
    let two = two.expect("committed");
    assert_eq!(entries(&two.folder), ["SHA256SUMS", "a", "b", "c", "config.json"]);
    for name in ["a", "b", "c"] {
        assert!(fs::read(two.folder.join(name)).expect("read") == large.as_bytes(), "{name}");
    }
    verify(&two).expect("whole");
    assert_eq!(entries(&run.checkpoints()), ["step-000001", "step-000002"]);
}

#[test]
fn what_is_staged_and_given_up_leaves_nothing_behind() {
    let (_folder, run) = new_run();
    drop(stage(&run, 2, "x"));
    assert_eq!(entries(&run.checkpoints()), [] as [&str; 0]);
    // The folder vanishes before the commit: an error, and nothing made anew.
    let staged = stage(&run, 3, "x");
    fs::remove_dir_all(&run.root).expect("removed");
    let error = staged.commit().expect_err("it is gone");
    assert_eq!(error.cause(), Some(&Cause::Missing), "{error}");
    assert!(!run.root.exists());
}

#[test]
fn one_large_file_that_fails_fails_all() {
    let (_folder, run) = new_run();
    for failing in 0..3 {
        let staged = checkpoint::stage(&run, 1, &mut |staging| {
            let file = |number: usize| LargeFile {
                name: ["a", "b", "c"][number],
                body: Box::new(move |out: &mut dyn io::Write| {
                    out.write_all(b"some")?;
                    if number == failing { Err(io::Error::from_raw_os_error(28)) } else { Ok(()) }
                }),
            };
            staging.write_large((0..3).map(file).collect())
        });
        let error = staged.err().expect("the disk is full");
        assert_eq!(error.cause(), Some(&Cause::DiskFull), "{error}");
        assert_eq!(entries(&run.checkpoints()), [] as [&str; 0]);
    }
}

/// What a kill leaves between any two of the actions that make a checkpoint count.
#[test]
fn killed_after_staging_the_old_one_goes_on() {
    let (_folder, run) = new_run();
    let one = write(&run, 1, "weights");
    point(&run, &one, Pointer::Last).expect("pointed");
    std::mem::forget(stage(&run, 1, "again"));
    std::mem::forget(stage(&run, 2, "new"));
    // Hashed, not yet renamed.
    fs::write(run.checkpoints().join(".staging-step-000002/SHA256SUMS"), "").expect("written");
    assert_eq!(load_last(&run).expect("whole"), (one.clone(), Vec::new()));
    clean_staging(&run).expect("tidied");
    assert_eq!(entries(&run.checkpoints()), ["step-000001"]);
    assert_eq!(load_last(&run).expect("whole"), (one, Vec::new()));
}
