//! Files that are either whole or not there: write beside, fsync, rename, fsync the folder.
//!
//! Errors say what was being done to which path, the cause in words, and what to do next.

use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

const BUFFER_BYTES: usize = 1 << 20;

/// A failed operation on a file or folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {cause}; {next}", path.display())]
pub struct DurableError {
    /// What was being done: "write", "rename", "sync", "read", ...
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// Why it failed.
    pub cause: Cause,
    /// What the user can do about it.
    pub next: &'static str,
    /// The system's own error.
    #[source]
    pub source: io::Error,
}

impl DurableError {
    /// Puts a system error into words.
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        let cause = Cause::of(&source);
        Self { action, path: path.to_owned(), next: cause.next_step(), cause, source }
    }
}

/// Why an operation on a file failed, as far as a user can act on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No space left on the device.
    DiskFull,
    /// The user's quota is used up.
    QuotaUsedUp,
    /// The file system is mounted read-only.
    ReadOnly,
    /// The user may not do this.
    PermissionDenied,
    /// The file or a folder above it is not there (or no longer).
    Missing,
    /// Something is there already.
    Exists,
    /// A file stands where a folder is needed, or the other way round.
    WrongKind,
    /// The file is larger than the file system or the limits allow.
    TooLarge,
    /// Too many files are open.
    TooManyOpen,
    /// The file ended before it should have.
    Truncated,
    /// The device failed.
    DeviceFailed,
    /// Anything else, in the system's words.
    Other(String),
}

impl Cause {
    /// Classifies a system error.
    pub fn of(error: &io::Error) -> Cause {
        use io::ErrorKind as K;
        match error.kind() {
            K::StorageFull => Cause::DiskFull,
            K::QuotaExceeded => Cause::QuotaUsedUp,
            K::ReadOnlyFilesystem => Cause::ReadOnly,
            K::PermissionDenied => Cause::PermissionDenied,
            K::NotFound => Cause::Missing,
            K::AlreadyExists | K::DirectoryNotEmpty => Cause::Exists,
            K::NotADirectory | K::IsADirectory => Cause::WrongKind,
            K::FileTooLarge => Cause::TooLarge,
            K::UnexpectedEof => Cause::Truncated,
            _ => match error.raw_os_error() {
                Some(5) => Cause::DeviceFailed,
                Some(23 | 24) => Cause::TooManyOpen,
                Some(116) => Cause::Missing,
                _ => Cause::Other(error.to_string()),
            },
        }
    }

    /// What the user can do about it.
    pub fn next_step(&self) -> &'static str {
        match self {
            Cause::DiskFull => "free some space or choose a folder on another disk, then try again",
            Cause::QuotaUsedUp => "delete files of yours or choose another disk, then try again",
            Cause::ReadOnly => "choose a folder on a disk that can be written to",
            Cause::PermissionDenied => "check the owner and mode of the file and of its folder",
            Cause::Missing => "check the path, and that the disk is still mounted",
            Cause::Exists => "choose another name or move away what is there",
            Cause::WrongKind => "check the path: one of its parts is not what it should be",
            Cause::TooLarge => "choose a file system that holds larger files, or raise the limit",
            Cause::TooManyOpen => "raise the limit on open files (ulimit -n)",
            Cause::Truncated => "fetch or write the file again",
            Cause::DeviceFailed => "check the disk and its log, and use another one meanwhile",
            Cause::Other(_) => "check the path and the disk, then try again",
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Cause::DiskFull => "disk full",
            Cause::QuotaUsedUp => "disk quota used up",
            Cause::ReadOnly => "read-only file system",
            Cause::PermissionDenied => "permission denied",
            Cause::Missing => "no such file or folder",
            Cause::Exists => "something is there already",
            Cause::WrongKind => "a file stands where a folder is needed, or the other way round",
            Cause::TooLarge => "the file is too large for this file system",
            Cause::TooManyOpen => "too many files are open",
            Cause::Truncated => "the file ends too early",
            Cause::DeviceFailed => "the device failed to read or write",
            Cause::Other(words) => words,
        })
    }
}

/// Turns an `io::Result` into ours by naming the action and the path.
pub trait Naming<T> {
    /// `file.sync_all().naming("sync", path)?`
    fn naming(self, action: &'static str, path: &Path) -> Result<T, DurableError>;
}

impl<T> Naming<T> for io::Result<T> {
    fn naming(self, action: &'static str, path: &Path) -> Result<T, DurableError> {
        self.map_err(|source| DurableError::new(action, path, source))
    }
}

/// Writes a file so that `path` holds either the old content or all of the new, even if the power
/// fails: a temporary file beside it is filled by `write` (buffered), fsynced and renamed, and the
/// folder is fsynced. On an error the temporary file is removed and `path` is untouched.
pub fn write_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), DurableError> {
    let folder = parent(path);
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any other new file: the process's umask still applies.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut temporary = builder.tempfile_in(folder).naming("write in", folder)?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, temporary.as_file_mut());
    write(&mut out).and_then(|()| out.flush()).naming("write", path)?;
    drop(out);
    temporary.as_file().sync_all().naming("sync", path)?;
    temporary.persist(path).map_err(|e| e.error).naming("rename to", path)?;
    sync_folder(folder)
}

/// Makes a folder's own entries durable (creations, renames and removals in it).
pub fn sync_folder(path: &Path) -> Result<(), DurableError> {
    let folder = File::open(path).naming("open", path)?;
    match folder.sync_all() {
        // Some network file systems refuse to sync a folder; there is nothing better to do there.
        Err(e) if matches!(e.raw_os_error(), Some(22 | 38 | 95)) => Ok(()),
        other => other.naming("sync", path),
    }
}

/// Fsyncs every file and folder below `path`, and `path` itself.
pub fn sync_tree(path: &Path) -> Result<(), DurableError> {
    for entry in fs::read_dir(path).naming("list", path)? {
        let entry = entry.naming("list", path)?;
        let kind = entry.file_type().naming("look at", &entry.path())?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            let file = File::open(entry.path()).naming("open", &entry.path())?;
            file.sync_all().naming("sync", &entry.path())?;
        }
    }
    sync_folder(path)
}

/// Makes a finished folder appear under its final name at once: fsyncs everything in `staged`,
/// renames it to `final_` (which must not exist, or be an empty folder), fsyncs the parent.
pub fn commit_folder(staged: &Path, final_: &Path) -> Result<(), DurableError> {
    sync_tree(staged)?;
    fs::rename(staged, final_).naming("rename to", final_)?;
    sync_folder(parent(final_))
}

/// The folder that holds `path`; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Passes bytes on and hashes them on the way.
pub struct Sha256Writer<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Sha256Writer<W> {
    /// A writer in front of `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    /// Bytes passed on so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The inner writer (not flushed) and the hash as 64 lower-case hexadecimal digits.
    pub fn finish(self) -> (W, String) {
        (self.inner, hex(&self.hash.finalize()))
    }
}

impl<W: Write> Write for Sha256Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The SHA-256 of bytes as 64 lower-case hexadecimal digits.
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The SHA-256 of a file as 64 lower-case hexadecimal digits, in bounded memory.
pub fn sha256_file(path: &Path) -> Result<String, DurableError> {
    let mut file = File::open(path).naming("open", path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(count) => hash.update(&buffer[..count]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(DurableError::new("read", path, e)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}
