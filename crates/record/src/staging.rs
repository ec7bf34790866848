//! A checkpoint in the making: its files are staged while the run pauses; what makes them safe
//! (hashing, fsync, the rename) needs the run no more and may happen on another thread.

use crate::checkpoint::Checkpoint;
use crate::checksums::{self, Sums};
use crate::error::RecordError;
use crate::room;
use heldout_base::durable::{self, Naming, Sha256Writer};
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

pub(crate) const STAGING: &str = ".staging-";
pub(crate) const REPLACED: &str = ".replaced-";
const BUFFER_BYTES: usize = 1 << 20;

/// Threads that copy large files to the operating system: there are two large files, and writes to
/// one and the same wait for each other.
const WRITERS: usize = 2;

/// A folder that is being filled.
pub struct Staging {
    folder: PathBuf,
    sums: Sums,
}

/// A large file: its name, and what writes its bytes.
pub struct LargeFile<'a> {
    /// A plain file name.
    pub name: &'a str,
    /// Gets a writer that passes pieces of 1 MiB and more straight to the system.
    pub body: Body<'a>,
}

/// What writes a file's bytes, on any thread.
pub type Body<'a> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'a>;

impl Staging {
    /// The folder; files put there by other means are hashed at the end, by reading them again.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes one file, hashed on the way; `body` gets a buffered writer. Extra memory: a buffer
    /// of 1 MiB.
    pub fn write(
        &mut self,
        name: &str,
        body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), RecordError> {
        let (path, file) = self.create(name)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, Sha256Writer::new(file));
        body(&mut out).naming("write", &path)?;
        let hashed = out.into_inner().map_err(io::IntoInnerError::into_error);
        let (_file, sum) = hashed.naming("write", &path)?.finish();
        self.sums.insert(name.to_owned(), sum);
        Ok(())
    }

    /// Writes large files as fast as the system takes them, two at a time. They are hashed by
    /// [`Staged::commit`], which reads them again, mostly from the system's cache. Extra memory: a
    /// buffer of 1 MiB a thread.
    pub fn write_large(&self, files: Vec<LargeFile<'_>>) -> Result<(), RecordError> {
        let writers = WRITERS.min(files.len());
        // Taken from the end.
        let queue = Mutex::new(files.into_iter().rev().collect::<Vec<_>>());
        let next = || queue.lock().expect("no panic while it is held").pop();
        let drain = || -> Result<(), RecordError> {
            while let Some(file) = next() {
                self.write_one(file)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            // Where no thread is to be had, this one writes everything.
            let helpers: Vec<_> = (1..writers)
                .filter_map(|_| std::thread::Builder::new().spawn_scoped(scope, drain).ok())
                .collect();
            let mut written = drain();
            for helper in helpers {
                let theirs = helper.join().unwrap_or_else(|e| std::panic::resume_unwind(e));
                written = written.and(theirs);
            }
            written
        })
    }

    fn write_one(&self, file: LargeFile<'_>) -> Result<(), RecordError> {
        let path = self.path_of(file.name);
        let checkpoints = self.folder.parent().expect("it lies among the checkpoints");
        let out = room::create(checkpoints, file.name, &path)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
        (file.body)(&mut out).and_then(|()| out.flush()).naming("write", &path)?;
        let end = out.get_mut().stream_position();
        end.and_then(|end| out.get_ref().set_len(end)).naming("write", &path)?;
        Ok(())
    }

    fn path_of(&self, name: &str) -> PathBuf {
        assert!(checksums::is_plain_name(name), "{name:?} is not a plain file name");
        self.folder.join(name)
    }

    fn create(&self, name: &str) -> Result<(PathBuf, File), RecordError> {
        let path = self.path_of(name);
        let file = File::create_new(&path).naming("create", &path)?;
        Ok((path, file))
    }

    /// Hashes what was not hashed on the way and adds `SHA256SUMS`.
    fn seal(&mut self) -> Result<(), RecordError> {
        for entry in fs::read_dir(&self.folder).naming("list", &self.folder)? {
            let entry = entry.naming("list", &self.folder)?;
            let path = entry.path();
            let name = entry.file_name().into_string().ok();
            let Some(name) = name.filter(|name| checksums::is_plain_name(name) && path.is_file())
            else {
                let problem = format!("{} is not a file with a plain name", path.display());
                return Err(RecordError::Content(problem));
            };
            if let Entry::Vacant(unknown) = self.sums.entry(name) {
                unknown.insert(durable::sha256_file(&path)?);
            }
        }
        let path = self.folder.join(checksums::NAME);
        Ok(fs::write(&path, checksums::format(&self.sums)).naming("write", &path)?)
    }
}

/// A checkpoint whose files are written, but neither hashed nor safe nor in their place. Dropping
/// it gives the space back; the other checkpoints are untouched.
#[must_use = "it is no checkpoint before it is committed"]
pub struct Staged {
    staging: Staging,
    checkpoints: PathBuf,
    step: u64,
}

impl Staged {
    /// Fills `.staging-NAME` in the folder of checkpoints.
    pub(crate) fn write(
        checkpoints: &Path,
        step: u64,
        files: &mut dyn FnMut(&mut Staging) -> Result<(), RecordError>,
    ) -> Result<Staged, RecordError> {
        let folder = checkpoints.join(format!("{STAGING}{}", name_of(step)));
        remove_tree(&folder)?;
        fs::create_dir_all(&folder).naming("create", &folder)?;
        let staging = Staging { folder, sums: Sums::new() };
        let mut staged = Staged { staging, checkpoints: checkpoints.to_owned(), step };
        files(&mut staged.staging)?;
        Ok(staged)
    }

    /// Hashes the files, writes them to the disk and puts the folder in its place, all or nothing.
    /// Reading and hashing keep one core busy; the rest takes as long as the disk needs.
    pub fn commit(mut self) -> Result<Checkpoint, RecordError> {
        self.staging.seal()?;
        let name = name_of(self.step);
        let end = self.checkpoints.join(&name);
        put_in_place(&self.staging.folder, &end, &name)?;
        Ok(Checkpoint { folder: end, step: self.step })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a commit nothing is there any more; after an error that is the one to tell.
        let _ = fs::remove_dir_all(&self.staging.folder);
    }
}

/// The name of a step's folder.
pub(crate) fn name_of(step: u64) -> String {
    format!("step-{step:06}")
}

/// Renames the staged folder into place, over a former checkpoint of the same step if need be.
fn put_in_place(staged: &Path, end: &Path, name: &str) -> Result<(), RecordError> {
    if end.symlink_metadata().is_err() {
        return Ok(durable::commit_folder(staged, end)?);
    }
    durable::sync_tree(staged)?;
    let aside = end.with_file_name(format!("{REPLACED}{name}"));
    remove_tree(&aside)?;
    fs::rename(end, &aside).naming("move away", end)?;
    if let Err(error) = durable::commit_folder(staged, end) {
        fs::rename(&aside, end).naming("move back", end)?;
        return Err(error.into());
    }
    remove_tree(&aside)
}

pub(crate) fn remove_tree(path: &Path) -> Result<(), RecordError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => Ok(other.naming("remove", path)?),
    }
}
