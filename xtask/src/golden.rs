//! Runs the scripts that make the golden files: `crates/*/tests/golden/make_*.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// Runs every script in turn with the Python of [`crate::python`].
pub fn run(root: &Path) -> anyhow::Result<()> {
    for script in scripts(root)? {
        println!("{}", script.display());
        let status = Command::new(crate::python())
            .arg(&script)
            .status()
            .context("no Python: set HELDOUT_PYTHON to one that has torch and transformers")?;
        ensure!(status.success(), "{} failed", script.display());
    }
    Ok(())
}

fn scripts(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for role in fs::read_dir(root.join("crates"))? {
        let folder = role?.path().join("tests/golden");
        let Ok(files) = fs::read_dir(&folder) else { continue };
        for file in files {
            let path = file?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("make_") && name.ends_with(".py") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
