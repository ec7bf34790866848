//! What can go wrong with a run on disk: the path, the cause in words, and the next step.

use heldout_base::durable::DurableError;
use std::path::PathBuf;

/// A failed operation on a run directory or on a file of weights.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The system refused an operation on a file or folder.
    #[error(transparent)]
    Disk(#[from] DurableError),
    /// A new run would land in a folder that holds something else.
    #[error(
        "{} is not empty and holds no run; choose another folder, or empty this one",
        .0.display()
    )]
    ForeignFolder(PathBuf),
    /// A new run would land on an old one.
    #[error(
        "{} holds a run already; continue it with `heldout resume {}`, or choose another folder",
        .0.display(), .0.display()
    )]
    RunExists(PathBuf),
    /// The folder to open is no run.
    #[error("{} is no run: it has no {missing}; give the folder that `heldout train` made",
        .path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What a run would have.
        missing: &'static str,
    },
    /// The folder to open is no study.
    #[error("{} is no study: it has no {missing}; give the folder that `heldout ablate` made",
        .path.display())]
    NotAStudy {
        /// The folder.
        path: PathBuf,
        /// What a study would have.
        missing: &'static str,
    },
    /// Another process writes to the run.
    #[error("{} is in use by another process; wait for it, or stop it first", .0.display())]
    InUse(PathBuf),
    /// A text file of ours does not read as what it should be.
    #[error("{}{}: {problem}; {next}", .path.display(), line_words(.line))]
    Format {
        /// The file.
        path: PathBuf,
        /// The line, from 1, where there is one.
        line: Option<u64>,
        /// Expected and found.
        problem: String,
        /// What the user can do about it.
        next: &'static str,
    },
    /// A file of weights is damaged, or is no safetensors file.
    #[error("{}: {problem}; {next}", .path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// Expected and found.
        problem: String,
        /// What the user can do about it.
        next: &'static str,
    },
    /// A tensor that is needed is not there, or not as needed.
    #[error("{}: tensor {name:?} {problem}", .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Expected and found.
        problem: String,
    },
    /// A checkpoint does not match its checksums.
    #[error(
        "checkpoint {} is damaged: {problem}; resume from another one, or delete it",
        .path.display()
    )]
    DamagedCheckpoint {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Which file, and what is wrong with it.
        problem: String,
    },
    /// There is no checkpoint that could be loaded.
    #[error("{} has no whole checkpoint{}; start the run anew", .path.display(), list(.skipped))]
    NoCheckpoint {
        /// The run.
        path: PathBuf,
        /// One sentence for each damaged one.
        skipped: Vec<String>,
    },
    /// What the caller put into a checkpoint failed, in the caller's words.
    #[error("{0}")]
    Content(String),
}

fn line_words(line: &Option<u64>) -> String {
    line.map(|n| format!(", line {n}")).unwrap_or_default()
}

fn list(skipped: &[String]) -> String {
    if skipped.is_empty() { String::new() } else { format!(" ({})", skipped.join("; ")) }
}

impl RecordError {
    /// The cause in words when the system refused something, such as "disk full".
    pub fn cause(&self) -> Option<&heldout_base::durable::Cause> {
        match self {
            RecordError::Disk(error) => Some(&error.cause),
            _ => None,
        }
    }
}
