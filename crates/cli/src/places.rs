//! Where things lie by default: runs, and the cache of prepared data.

use std::path::{Path, PathBuf};

use heldout_record::RunDir;

use crate::failure::Failure;

/// The folder of runs, below the current one.
pub const RUNS: &str = "runs";

/// The folder of studies, below the current one.
pub const STUDIES: &str = "studies";

/// Prepared data, by content: `HELDOUT_CACHE`, else the user's cache folder, else here.
pub fn cache() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(folder) = variable("HELDOUT_CACHE") {
        return PathBuf::from(folder);
    }
    let user = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache")));
    match user {
        Some(folder) => folder.join("heldout"),
        None => PathBuf::from(".heldout-cache"),
    }
}

/// A folder in which a run can be made, and the folders that would be made for it.
pub struct NewFolder {
    pub root: PathBuf,
    made: Vec<PathBuf>,
}

impl NewFolder {
    /// Checks that a run can be made at `root`, and leaves nothing behind.
    pub fn check(root: PathBuf) -> Result<NewFolder, Failure> {
        let made = root
            .ancestors()
            .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
            .map(Path::to_path_buf)
            .collect();
        RunDir::create(&root)?;
        let folder = NewFolder { root, made };
        folder.remove_unused();
        Ok(folder)
    }

    /// Takes the run's folder away again, if nothing was written into it.
    pub fn remove_unused(&self) {
        let run = RunDir { root: self.root.clone() };
        if run.recipe().exists() || run.metrics().exists() {
            return;
        }
        let _ = std::fs::remove_dir(run.checkpoints());
        let _ = std::fs::remove_file(run.root.join(".lock"));
        // Only what is empty goes, and only what was not there before.
        self.made.iter().for_each(|folder| drop(std::fs::remove_dir(folder)));
    }
}
