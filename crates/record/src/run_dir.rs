//! The run directory: what lies where, how a new one is made, and who may write to it.

use crate::error::RecordError;
use heldout_base::durable::{self, DurableError, Naming};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

const LOCK: &str = ".lock";

/// A run on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    /// The run's folder.
    pub root: PathBuf,
}

/// Holds a run for this process; dropping it lets go.
#[derive(Debug)]
pub struct RunLock {
    _file: Option<File>,
}

impl RunDir {
    /// Makes a new run: `root` must be absent or empty. Parents are made as needed.
    pub fn create(root: &Path) -> Result<RunDir, RecordError> {
        let run = RunDir { root: root.to_owned() };
        fs::create_dir_all(root).naming("create", root)?;
        if !run.is_empty()? {
            let exists = run.looks_like_a_run();
            let path = root.to_owned();
            return Err(if exists {
                RecordError::RunExists(path)
            } else {
                RecordError::ForeignFolder(path)
            });
        }
        match fs::create_dir(run.checkpoints()) {
            // Another process took the empty folder a moment ago.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(RecordError::RunExists(root.to_owned()));
            }
            other => other.naming("create", &run.checkpoints())?,
        }
        durable::sync_folder(root)?;
        durable::sync_folder(durable::parent(root))?;
        Ok(run)
    }

    /// Opens a run that `create` made.
    pub fn open(root: &Path) -> Result<RunDir, RecordError> {
        let run = RunDir { root: root.to_owned() };
        if !fs::metadata(root).naming("open", root)?.is_dir() || !run.looks_like_a_run() {
            let missing = "metrics.jsonl and no checkpoints";
            return Err(RecordError::NotARun { path: root.to_owned(), missing });
        }
        Ok(run)
    }

    fn is_empty(&self) -> Result<bool, DurableError> {
        for entry in fs::read_dir(&self.root).naming("list", &self.root)? {
            if entry.naming("list", &self.root)?.file_name() != LOCK {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn looks_like_a_run(&self) -> bool {
        self.metrics().is_file() || self.checkpoints().is_dir()
    }

    /// The recipe as resolved.
    pub fn recipe(&self) -> PathBuf {
        self.root.join("recipe.toml")
    }

    /// The plan that the recipe led to.
    pub fn plan(&self) -> PathBuf {
        self.root.join("plan.json")
    }

    /// Machine, versions, data, seed.
    pub fn manifest(&self) -> PathBuf {
        self.root.join("manifest.json")
    }

    /// One event a line.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// One step taken apart, as a trace, where that was asked for.
    pub fn profile(&self) -> PathBuf {
        self.root.join("profile.json")
    }

    /// What `heldout diagnose` found in the model, once it looked.
    pub fn examination(&self) -> PathBuf {
        self.root.join("examination.json")
    }

    /// Event files for TensorBoard.
    pub fn tensorboard(&self) -> PathBuf {
        self.root.join("tensorboard")
    }

    /// One folder for each checkpoint.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Leads to the checkpoint with the best held-out loss.
    pub fn best(&self) -> PathBuf {
        self.root.join("best")
    }

    /// Leads to the checkpoint from which a resume goes on.
    pub fn last(&self) -> PathBuf {
        self.root.join("last")
    }

    /// The result in Hugging Face layout.
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    /// The run's name: that of its folder.
    pub fn name(&self) -> String {
        let full = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        full.file_name().unwrap_or(full.as_os_str()).to_string_lossy().into_owned()
    }

    /// A free name in `parent`: `stem`, or `stem-2`, `stem-3`, ...
    pub fn next_name(parent: &Path, stem: &str) -> PathBuf {
        let free = |path: &PathBuf| path.symlink_metadata().is_err();
        let numbered = (2u64..).map(|n| parent.join(format!("{stem}-{n}")));
        std::iter::once(parent.join(stem))
            .chain(numbered)
            .find(free)
            .expect("a folder cannot hold 2^64 entries")
    }

    /// Takes the run for this process, so that no two train into one folder. The lock goes with
    /// the process, however it ends. File systems without locks are trusted.
    pub fn lock(&self) -> Result<RunLock, RecordError> {
        let path = self.root.join(LOCK);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.naming("write", &path)?;
        match file.try_lock() {
            Ok(()) => Ok(RunLock { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(RecordError::InUse(self.root.clone())),
            Err(TryLockError::Error(_)) => Ok(RunLock { _file: None }),
        }
    }
}

/// Lets `link` lead to `target` (relative to the link's folder), replacing the old one at once.
/// Where there are no symbolic links, the link is a text file that holds the target.
pub(crate) fn replace_link(link: &Path, target: &str) -> Result<(), RecordError> {
    let folder = durable::parent(link);
    let name = link.file_name().unwrap_or_default().to_string_lossy();
    if link.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        // A copy of the run that followed links: keep what was copied, out of the way.
        let aside = RunDir::next_name(folder, &format!("{name}-copy"));
        fs::rename(link, &aside).naming("move away", link)?;
    }
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let _ = fs::remove_file(&temporary);
    match make_link(target, &temporary) {
        Ok(()) => {
            fs::rename(&temporary, link).naming("replace", link)?;
            durable::sync_folder(folder)?;
        }
        Err(e) if no_links(&e) => {
            durable::write_file(link, |out| writeln!(out, "{target}"))?;
        }
        Err(e) => return Err(DurableError::new("link", link, e).into()),
    }
    Ok(())
}

/// Where `link` leads, as it was given to [`replace_link`]; nothing when there is no such link.
pub(crate) fn read_link(link: &Path) -> Option<PathBuf> {
    if let Ok(target) = fs::read_link(link) {
        return Some(target);
    }
    let is_small = link.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() < 4096);
    let text = if is_small { fs::read_to_string(link).ok()? } else { return None };
    Some(PathBuf::from(text.trim()))
}

#[cfg(unix)]
fn make_link(target: &str, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn make_link(_target: &str, _link: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// EPERM is what Linux says on a file system that has no symbolic links.
fn no_links(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(1)
}
