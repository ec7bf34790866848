//! The house rules as checks over the source: walls between crates, sizes, printing, `unsafe`.
//!
//! `tidy-exceptions.txt` lists what does not hold yet; an entry that is no longer needed is itself
//! a finding, so the list can only shrink.

mod source;
mod walls;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// One broken rule: where, and which.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Relative path, and the function where there is one: the key of the exception list.
    pub place: String,
    /// The rule's name, also a part of the key.
    pub rule: &'static str,
    /// What was found, in words.
    pub detail: String,
}

impl Finding {
    fn key(&self) -> String {
        format!("{} {}", self.rule, self.place)
    }
}

/// Prints what is broken; fails where something is.
pub fn run(root: &Path) -> anyhow::Result<()> {
    let broken = findings(root)?;
    if broken.is_empty() {
        println!("tidy");
        return Ok(());
    }
    for finding in &broken {
        println!("{}: {} ({})", finding.place, finding.detail, finding.rule);
    }
    bail!("{} finding(s): mend them; STYLE.md has the reasons", broken.len());
}

/// Every finding that the exception list does not excuse, and every stale exception.
fn findings(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let mut all = walls::check(root)?;
    for path in rust_files(root)? {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let name = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
        all.extend(source::check(&name, &text)?);
    }
    let list = fs::read_to_string(root.join("xtask/tidy-exceptions.txt"))?;
    let excused: BTreeSet<&str> =
        list.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    let keys: BTreeSet<String> = all.iter().map(Finding::key).collect();
    let stale = excused.iter().filter(|key| !keys.contains(**key)).map(|key| Finding {
        place: "xtask/tidy-exceptions.txt".to_string(),
        rule: "stale-exception",
        detail: format!("\"{key}\" is no longer needed: remove the line"),
    });
    let mut broken: Vec<Finding> =
        all.iter().filter(|f| !excused.contains(f.key().as_str())).cloned().collect();
    broken.extend(stale);
    broken.sort();
    Ok(broken)
}

/// Every `.rs` file of the workspace's own source, tests and benches.
fn rust_files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.join("crates"), root.join("xtask"), root.join("bench")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        let broken = findings(&crate::root()).expect("the source can be read");
        let lines: Vec<String> =
            broken.iter().map(|f| format!("{}: {} ({})", f.place, f.detail, f.rule)).collect();
        assert!(broken.is_empty(), "\n{}", lines.join("\n"));
    }

    #[test]
    fn each_rule_finds_its_offence() {
        let long = format!("fn f() {{\n{}}}\n", "    let _ = 1;\n".repeat(80));
        let cases = [
            ("crates/base/src/a.rs", "fn f() {}\n", "file-sentence"),
            ("crates/base/src/a.rs", "//! A.\nfn f() { println!(); }\n", "printing"),
            ("crates/base/src/a.rs", "//! A.\nfn f() { std::process::exit(1) }\n", "environment"),
            ("crates/base/src/a.rs", "//! A.\nfn f() { std::env::var(\"A\"); }\n", "environment"),
            ("crates/base/src/a.rs", "//! A.\nfn f() { unsafe { g() } }\n", "unsafe"),
            ("crates/kernels/src/a.rs", "//! A.\nfn f() { unsafe { g() } }\n", "safety-comment"),
            ("crates/base/src/a.rs", "//! A.\npub fn f(fast: bool) {}\n", "bool-parameter"),
            ("crates/base/src/a.rs", &format!("//! A.\n{long}"), "function-length"),
            ("crates/base/src/a.rs", &format!("//! A.\n// {}\n", "x".repeat(120)), "line-length"),
            ("crates/base/src/a.rs", &format!("//! A.\n{}", "\n".repeat(700)), "file-length"),
        ];
        for (name, text, rule) in cases {
            let found = source::check(name, text).expect("it parses");
            assert!(found.iter().any(|f| f.rule == rule), "{rule} not found in {text:?}");
        }
    }
}
