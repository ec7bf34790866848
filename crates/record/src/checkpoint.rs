//! Checkpoints: folders that are staged, hashed, fsynced and renamed, and only then pointed to.
//!
//! `checkpoints/.staging-…` is being written, `.removing-…` being deleted and `.replaced-…` the
//! former checkpoint of a step that is written again; [`clean_staging`] tidies up after a crash.

use crate::checksums;
use crate::error::RecordError;
use crate::run_dir::{self, RunDir};
use crate::staging::{REPLACED, STAGING, name_of, remove_tree};
use heldout_base::durable::{self, Naming};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub use crate::room::{give_room_back, make_room};
pub use crate::staging::{LargeFile, Staged, Staging};

const REMOVING: &str = ".removing-";

/// A checkpoint on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its folder.
    pub folder: PathBuf,
    /// The number of updates that it holds.
    pub step: u64,
}

/// The two links of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointer {
    /// From which a resume goes on.
    Last,
    /// With the best held-out loss.
    Best,
}

impl Pointer {
    fn path(self, run: &RunDir) -> PathBuf {
        match self {
            Pointer::Last => run.last(),
            Pointer::Best => run.best(),
        }
    }
}

/// The step of a folder's name.
fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (name == name_of(step)).then_some(step)
}

/// Writes the checkpoint of `step`: `files` fills a staging folder, which then appears at once.
/// On an error nothing remains of it, and the other checkpoints are untouched. Point to it next.
pub fn write(
    run: &RunDir,
    step: u64,
    files: &mut dyn FnMut(&Path) -> Result<(), RecordError>,
) -> Result<Checkpoint, RecordError> {
    write_staged(run, step, &mut |staging| files(staging.folder()))
}

/// As [`write()`], with a choice of ways to write a file.
pub fn write_staged(
    run: &RunDir,
    step: u64,
    files: &mut dyn FnMut(&mut Staging) -> Result<(), RecordError>,
) -> Result<Checkpoint, RecordError> {
    stage(run, step, files)?.commit()
}

/// The first half of [`write_staged`]: the files are with the operating system when this returns,
/// and what they were written from may change. [`Staged::commit`] does the rest, on any thread.
pub fn stage(
    run: &RunDir,
    step: u64,
    files: &mut dyn FnMut(&mut Staging) -> Result<(), RecordError>,
) -> Result<Staged, RecordError> {
    Staged::write(&run.checkpoints(), step, files)
}

/// Lets `last` or `best` lead to a checkpoint; the link changes at once.
pub fn point(run: &RunDir, checkpoint: &Checkpoint, which: Pointer) -> Result<(), RecordError> {
    run_dir::replace_link(&which.path(run), &format!("checkpoints/{}", name_of(checkpoint.step)))
}

/// The checkpoint that a link leads to, unverified; nothing when the link leads nowhere.
pub fn pointed(run: &RunDir, which: Pointer) -> Option<Checkpoint> {
    let step = pointed_step(run, which)?;
    let folder = run.checkpoints().join(name_of(step));
    folder.is_dir().then_some(Checkpoint { folder, step })
}

/// The step in a link's target, whether or not the folder is there.
fn pointed_step(run: &RunDir, which: Pointer) -> Option<u64> {
    step_of(run_dir::read_link(&which.path(run))?.file_name()?.to_str()?)
}

/// All checkpoints, oldest first, unverified.
pub fn list(run: &RunDir) -> Result<Vec<Checkpoint>, RecordError> {
    let folder = run.checkpoints();
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).naming("list", &folder)? {
        let entry = entry.naming("list", &folder)?;
        if let Some(step) = entry.file_name().to_str().and_then(step_of) {
            found.push(Checkpoint { folder: entry.path(), step });
        }
    }
    found.sort_by_key(|checkpoint| checkpoint.step);
    Ok(found)
}

/// Reads every byte of a checkpoint and compares it with its checksums.
pub fn verify(checkpoint: &Checkpoint) -> Result<(), RecordError> {
    checksums::verify(&checkpoint.folder).map_err(|problem| RecordError::DamagedCheckpoint {
        path: checkpoint.folder.clone(),
        problem,
    })
}

/// The checkpoint to go on from: the one `last` leads to, or else the newest whole one before it,
/// or else the newest whole one at all. One warning for each that had to be passed over.
pub fn load_last(run: &RunDir) -> Result<(Checkpoint, Vec<String>), RecordError> {
    let mut warnings = Vec::new();
    let mut candidates = list(run)?;
    candidates.reverse();
    match pointed_step(run, Pointer::Last) {
        // After a rollback, folders of the abandoned future may still be there: they come last.
        Some(step) => {
            candidates.sort_by_key(|candidate| candidate.step > step);
            if !candidates.iter().any(|candidate| candidate.step == step) {
                warnings.push(format!("checkpoint {} is gone", name_of(step)));
            }
        }
        None if candidates.is_empty() => {}
        None => warnings.push(format!(
            "{} leads to no checkpoint; the newest whole one is used",
            run.last().display()
        )),
    }
    for candidate in candidates {
        match verify(&candidate) {
            Ok(()) => return Ok((candidate, warnings)),
            Err(RecordError::DamagedCheckpoint { path, problem }) => {
                warnings.push(format!("checkpoint {} is passed over: {problem}", path.display()));
            }
            Err(error) => return Err(error),
        }
    }
    Err(RecordError::NoCheckpoint { path: run.root.clone(), skipped: warnings })
}

/// The checkpoint with the best held-out loss, verified. There is no stand-in for a damaged best.
pub fn load_best(run: &RunDir) -> Result<Checkpoint, RecordError> {
    let Some(best) = pointed(run, Pointer::Best) else {
        let skipped = vec![format!("{} leads to none", run.best().display())];
        return Err(RecordError::NoCheckpoint { path: run.root.clone(), skipped });
    };
    verify(&best)?;
    Ok(best)
}

/// Deletes all but the newest `keep` checkpoints; never the one `best` or `last` leads to.
/// Returns those that were deleted.
pub fn prune(run: &RunDir, keep: usize) -> Result<Vec<Checkpoint>, RecordError> {
    let mut all = list(run)?;
    all.truncate(all.len().saturating_sub(keep));
    let held: BTreeSet<u64> = [Pointer::Last, Pointer::Best]
        .into_iter()
        .filter_map(|which| pointed(run, which))
        .map(|checkpoint| checkpoint.step)
        .collect();
    all.retain(|checkpoint| !held.contains(&checkpoint.step));
    for checkpoint in &all {
        remove(checkpoint)?;
    }
    Ok(all)
}

/// Deletes a checkpoint: it vanishes from the list at once, then its files go.
fn remove(checkpoint: &Checkpoint) -> Result<(), RecordError> {
    let name = format!("{REMOVING}{}", name_of(checkpoint.step));
    let aside = checkpoint.folder.with_file_name(name);
    remove_tree(&aside)?;
    fs::rename(&checkpoint.folder, &aside).naming("remove", &checkpoint.folder)?;
    remove_tree(&aside)
}

/// Tidies up after a crash: half-written and half-deleted checkpoints and temporary files go, a
/// checkpoint that was being replaced comes back. Call it under the run's lock.
pub fn clean_staging(run: &RunDir) -> Result<(), RecordError> {
    let folder = run.checkpoints();
    for entry in fs::read_dir(&folder).naming("list", &folder)? {
        let entry = entry.naming("list", &folder)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let replaced = name.strip_prefix(REPLACED).map(|step| folder.join(step));
        if let Some(end) = replaced.filter(|end| !end.exists()) {
            fs::rename(entry.path(), &end).naming("bring back", &end)?;
        } else if [STAGING, REMOVING, REPLACED].iter().any(|prefix| name.starts_with(prefix)) {
            remove_tree(&entry.path())?;
        }
    }
    for entry in fs::read_dir(&run.root).naming("list", &run.root)? {
        let entry = entry.naming("list", &run.root)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if name.starts_with('.') && name.ends_with(".tmp") && !is_folder {
            fs::remove_file(entry.path()).naming("remove", &entry.path())?;
        }
    }
    durable::sync_folder(&folder)?;
    Ok(())
}
