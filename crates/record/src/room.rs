//! Room in the system's cache for the next checkpoint's large files, made before it is needed.
//!
//! Most of the time that a fresh file takes to write goes to finding memory for its pages (0.3 to
//! 0.6 GB/s on a virtual machine whose memory the host gives on demand, against 10 where the pages
//! are there). So empty files of the right length are read once in the background: that fills the
//! cache with their pages and takes no space on the disk. The next checkpoint writes over them.

use crate::error::RecordError;
use crate::run_dir::RunDir;
use crate::staging::{STAGING, remove_tree};
use heldout_base::durable::Naming;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Where they wait. What a crash leaves there goes with the other staging.
fn folder(checkpoints: &Path) -> PathBuf {
    checkpoints.join(format!("{STAGING}next"))
}

/// Makes room for files of these names and lengths, or sees that it is still there. Blocks for as
/// long as the system needs: for a thread of its own.
///
/// # Errors
/// Those of the file system; nothing but speed depends on it.
pub fn make_room(run: &RunDir, files: &[(&str, u64)]) -> Result<(), RecordError> {
    let folder = folder(&run.checkpoints());
    fs::create_dir_all(&folder).naming("create", &folder)?;
    let mut piece = vec![0; PIECE_BYTES];
    for (name, bytes) in files {
        let path = folder.join(name);
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .naming("create", &path)?;
        file.set_len(*bytes).naming("write", &path)?;
        while file.read(&mut piece).naming("read", &path)? > 0 {}
    }
    Ok(())
}

/// Gives the room back.
pub fn give_room_back(run: &RunDir) -> Result<(), RecordError> {
    remove_tree(&folder(&run.checkpoints()))
}

/// A file at `path` in a staging folder: one that was made ready, if there is one. Its length is
/// what it was made with until it is set.
pub(crate) fn create(checkpoints: &Path, name: &str, path: &Path) -> Result<File, RecordError> {
    if fs::rename(folder(checkpoints).join(name), path).is_ok() {
        return Ok(OpenOptions::new().write(true).open(path).naming("write", path)?);
    }
    Ok(File::create_new(path).naming("create", path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{self, LargeFile};

    #[test]
    fn what_is_written_over_is_as_long_as_what_was_written() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let run = RunDir::create(&scratch.path().join("run")).expect("a run");
        // Too long, too short, and never used.
        make_room(&run, &[("a", 3 << 20), ("b", 5), ("c", 7)]).expect("room");
        make_room(&run, &[("a", 2 << 20), ("b", 5), ("c", 7)]).expect("it is still there");
        let bytes = |n: usize| (0..n).map(|i| (i % 251) as u8).collect::<Vec<u8>>();
        let (a, b) = (bytes(1 << 20), bytes(4000));
        let staged = checkpoint::stage(&run, 3, &mut |staging| {
            staging.write_large(vec![
                LargeFile { name: "a", body: Box::new(|out| out.write_all(&a)) },
                LargeFile { name: "b", body: Box::new(|out| out.write_all(&b)) },
            ])
        });
        let saved = staged.expect("staged").commit().expect("saved");
        assert_eq!(fs::read(saved.folder.join("a")).expect("it is there"), a);
        assert_eq!(fs::read(saved.folder.join("b")).expect("it is there"), b);
        checkpoint::verify(&saved).expect("whole");
        assert!(folder(&run.checkpoints()).join("c").exists());
        give_room_back(&run).expect("removed");
        let left: Vec<_> = fs::read_dir(run.checkpoints()).expect("listed").collect();
        assert_eq!(left.len(), 1);
    }
}
