//! The walls between crates: `cargo metadata` held against the table of ARCHITECTURE.md.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::Finding;

/// Which crates each crate may use: the table of ARCHITECTURE.md, most restrictive reading.
const MAY_USE: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("record", &["base"]),
    ("kernels", &["base"]),
    ("data", &["base"]),
    ("measure", &["base"]),
    ("model", &["base", "kernels"]),
    ("optim", &["base", "kernels"]),
    ("report", &["base", "record", "measure"]),
    ("regularize", &["base", "kernels", "data", "model", "optim"]),
    ("train", &["base", "record", "kernels", "data", "measure", "model", "optim", "regularize"]),
    (
        "cli",
        &[
            "base",
            "record",
            "kernels",
            "data",
            "measure",
            "model",
            "optim",
            "report",
            "regularize",
            "train",
        ],
    ),
];

/// Every dependency between crates that the table does not allow, and every unknown crate.
pub fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for package in packages(root)? {
        let name = package["name"].as_str().unwrap_or_default();
        if name == "xtask" {
            continue;
        }
        let role = role_of(name);
        let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == role) else {
            findings.push(wall(name, "a crate that the table of ARCHITECTURE.md does not have"));
            continue;
        };
        let none = Vec::new();
        for dependency in package["dependencies"].as_array().unwrap_or(&none) {
            let target = dependency["name"].as_str().unwrap_or_default();
            let development = dependency["kind"].as_str() == Some("dev");
            if target.starts_with("heldout") && !development && !allowed.contains(&role_of(target))
            {
                findings.push(wall(name, &format!("may not use {target}")));
            }
        }
    }
    Ok(findings)
}

fn wall(package: &str, detail: &str) -> Finding {
    Finding { place: package.to_string(), rule: "wall", detail: detail.to_string() }
}

/// `heldout-data` → `data`; the binary's package is called `heldout`.
fn role_of(package: &str) -> &str {
    package.strip_prefix("heldout-").unwrap_or("cli")
}

fn packages(root: &Path) -> anyhow::Result<Vec<Value>> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_string()))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    Ok(metadata["packages"].as_array().cloned().unwrap_or_default())
}
