//! Runs the real binary in a scratch folder.
#![allow(dead_code)] // Every test file uses its own part of this.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use heldout_base::rng::{Random, streams};

/// A scratch folder that goes away with the value.
pub struct Scratch {
    folder: tempfile::TempDir,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Scratch {
    /// A folder that goes with the test, unless HELDOUT_KEEP_SCRATCH is set.
    pub fn new() -> Scratch {
        let mut folder = tempfile::tempdir().expect("a scratch folder can be made");
        folder.disable_cleanup(std::env::var_os("HELDOUT_KEEP_SCRATCH").is_some());
        Scratch { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.join(name);
        std::fs::create_dir_all(path.parent().expect("it lies in the folder")).expect("folder");
        std::fs::write(path, bytes).expect("the scratch folder can be written");
    }

    /// A command that runs here, with a known environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        for name in ["LC_ALL", "LC_CTYPE", "NO_COLOR", "TERM", "RUST_BACKTRACE", "COLUMNS"] {
            command.env_remove(name);
        }
        command.env("LANG", "C.UTF-8").env("HELDOUT_CACHE", self.join("cache"));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).output().expect("the binary runs"))
    }

    /// Runs a command that must succeed.
    pub fn ok(&self, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}\n{}\n{}", ran.out, ran.err);
        ran
    }

    /// Runs a command that must fail with this code, in words and without a panic.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, Some(code), "{arguments:?}\n{}\n{}", ran.out, ran.err);
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
        assert!(!ran.err.contains("defect of its own"), "{}", ran.err);
        assert!(ran.err.contains("error: "), "{}", ran.err);
        ran.err
    }
}

pub fn binary() -> PathBuf {
    assert_cmd::cargo::cargo_bin!("heldout").to_path_buf()
}

pub fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Text that a small model learns within seconds: seeded sentences over a few words, one a
/// paragraph.
pub fn text(sentences: usize) -> String {
    const NAMES: [&str; 6] = ["the cat", "the old dog", "a bird", "my aunt", "the king", "a frog"];
    const VERBS: [&str; 6] = ["sees", "likes", "follows", "hears", "paints", "forgets"];
    const PLACES: [&str; 6] =
        ["in the garden", "at night", "by the sea", "on a hill", "again", "in the snow"];
    let pick = |sentence: usize, slot: u64, words: &[&'static str]| {
        let random = Random::new(7, streams::TEST, sentence as u64);
        words[random.below(slot, words.len() as u64) as usize]
    };
    (0..sentences)
        .map(|i| {
            format!(
                "{} {} {} {}, says number {i}.\n\n",
                pick(i, 0, &NAMES),
                pick(i, 1, &VERBS),
                pick(i, 2, &NAMES),
                pick(i, 3, &PLACES)
            )
        })
        .collect()
}

/// A recipe of a tiny model: a run of it takes a second or two.
pub const TINY: &str = r#"
[data]
train = "text.txt"
tokenizer = "char"

[model]
layers = 2
heads = 2
width = 32
context = 32

[schedule]
horizon = "60 steps"
warmup = "5 steps"

[batch]
size = 8

[regularize]
dropout = 0.1

[evaluate]
every = "20 steps"
train-windows = 8

[run]
checkpoint = "10 steps"
threads = 1
precision = "f32"
"#;

/// A scratch folder with `text.txt` and `tiny.toml`.
pub fn tiny() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("text.txt", text(400));
    scratch.write("tiny.toml", TINY);
    scratch
}

/// Figures that vary from run to run, replaced: times, speeds, sizes of this machine.
pub fn steady(text: &str) -> String {
    let words: Vec<String> = text.lines().map(steady_line).collect();
    words.join("\n")
}

fn steady_line(line: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for c in line.chars().chain(['\n']) {
        if c.is_ascii_digit() || (!digits.is_empty() && matches!(c, '.' | ',')) {
            digits.push(c);
            continue;
        }
        if !digits.is_empty() {
            let tail = digits.trim_end_matches(['.', ',']).len();
            out.push('#');
            out.push_str(&digits[tail..]);
            digits.clear();
        }
        out.push(c);
    }
    out.trim_end_matches('\n').to_owned()
}

/// A Python that has these modules, or `None` after saying why the test is skipped.
pub fn python(modules: &[&str]) -> Option<PathBuf> {
    let python = std::env::var_os("HELDOUT_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let imports = format!("import {}", modules.join(", "));
    let probe = Command::new(&python).arg("-c").arg(&imports).output();
    match probe {
        Ok(output) if output.status.success() => Some(python),
        _ => {
            println!("skipped: {} cannot `{imports}` (set HELDOUT_PYTHON)", python.display());
            None
        }
    }
}
