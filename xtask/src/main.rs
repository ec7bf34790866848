//! `cargo xtask tidy | docs | bench | golden`: the developers' chores.

mod bench;
mod docs;
mod golden;
mod tidy;

use std::path::PathBuf;

use anyhow::bail;

const USAGE: &str = "usage: cargo xtask COMMAND
  tidy            hold the source against the house rules (also a test)
  docs            write docs/cards/*.md from the cards in the code
  docs --check    say whether they are up to date (also a test)
  bench [W1 ...]  time our training step, and PyTorch's in turn where Python has torch;
                  generation, scaling and a large model too (bench/RESULTS.md)
  golden          run every script that makes golden files (needs Python with torch)";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tidy"] => tidy::run(&root()),
        ["docs"] => docs::write(&root()),
        ["docs", "--check"] => docs::check(&root()),
        ["bench", workloads @ ..] => bench::run(&root(), workloads),
        ["golden"] => golden::run(&root()),
        _ => bail!("{USAGE}"),
    }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask lies in the workspace").to_path_buf()
}

/// The Python that has the peers: `HELDOUT_PYTHON`, else `python3`.
fn python() -> String {
    std::env::var("HELDOUT_PYTHON").unwrap_or_else(|_| "python3".to_string())
}
