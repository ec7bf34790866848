//! `bench/results.json`: what was measured, each entry with when and on what; merged, never
//! overwritten as a whole, so that a part can be measured again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use heldout_kernels::{Device, Isa, Precision, default_threads};
use serde::{Deserialize, Serialize};

use super::statistics::{Spread, median};

/// Everything that has been measured.
#[derive(Default, Serialize, Deserialize)]
pub struct Results {
    /// By `WORKLOAD PRECISION DROPOUT`.
    #[serde(default)]
    pub training: BTreeMap<String, Cell>,
    /// By precision.
    #[serde(default)]
    pub generation: BTreeMap<String, GenerationCell>,
    /// By precision.
    #[serde(default)]
    pub finetune: BTreeMap<String, FinetuneCell>,
    /// By precision.
    #[serde(default)]
    pub large: BTreeMap<String, LargeCell>,
    #[serde(default)]
    pub scaling: Option<Scaling>,
    #[serde(default)]
    pub peak: Option<Peaks>,
}

impl Results {
    /// What lies in `bench/results.json`; empty where there is no such file.
    pub fn read(root: &Path) -> anyhow::Result<Results> {
        let path = root.join("bench/results.json");
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .with_context(|| format!("{}: remove it to start anew", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Results::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Reads, changes, writes, and draws `bench/RESULTS.md` anew.
    pub fn change(root: &Path, change: impl FnOnce(&mut Results)) -> anyhow::Result<()> {
        let mut results = Results::read(root)?;
        change(&mut results);
        let text = serde_json::to_string_pretty(&results)? + "\n";
        fs::write(root.join("bench/results.json"), text)?;
        fs::write(root.join("bench/RESULTS.md"), super::render::markdown(&results))?;
        Ok(())
    }
}

/// When, from which source, and on what something was measured.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Provenance {
    /// UTC.
    pub date: String,
    /// Short hash; `+` where the source had changes that were not committed.
    pub commit: String,
    pub processor: String,
    pub cores: usize,
    pub isa: String,
    pub rustc: String,
    /// The peer's; empty where there was none.
    pub peer: String,
    pub rounds: usize,
    /// Of each turn.
    pub seconds: f64,
}

impl Provenance {
    /// Here and now.
    pub fn now(root: &Path, rounds: usize, seconds: f64) -> Provenance {
        Provenance {
            date: said_by(root, "date", &["-u", "+%Y-%m-%d %H:%M"]),
            commit: commit(root),
            processor: processor(),
            cores: default_threads(),
            isa: isa(),
            rustc: said_by(root, "rustc", &["--version"]),
            peer: String::new(),
            rounds,
            seconds,
        }
    }
}

fn commit(root: &Path) -> String {
    let hash = said_by(root, "git", &["rev-parse", "--short", "HEAD"]);
    let sources = ["status", "--porcelain", "--", "crates", "xtask", "bench/pytorch", "Cargo.lock"];
    let changed = !said_by(root, "git", &sources).is_empty();
    if changed { format!("{hash}+") } else { hash }
}

/// What a program prints, trimmed; empty where it cannot be run.
fn said_by(root: &Path, program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).current_dir(root).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_string()
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        let line =
            info.lines().find(|line| line.split(':').next().is_some_and(|k| k.trim() == key));
        line.and_then(|line| line.split(':').nth(1)).map_or("?", str::trim).to_string()
    };
    let (family, model) = (value("cpu family"), value("model"));
    format!("{} (family {family}, model {model})", value("model name"))
}

fn isa() -> String {
    match Device::detect_isa() {
        Isa::Portable => "portable".to_string(),
        Isa::Avx2 => "AVX2, FMA".to_string(),
        Isa::Avx512 if Device::native_bf16() => "AVX-512 with BF16".to_string(),
        Isa::Avx512 => "AVX-512".to_string(),
    }
}

/// Multiply-adds from registers, GFLOP/s: [one thread, two threads]; 0 where unknown.
#[derive(Clone, Serialize, Deserialize)]
pub struct Peaks {
    pub at: Provenance,
    pub f32_256: [f64; 2],
    pub f32_512: [f64; 2],
    pub bf16: [f64; 2],
}

impl Peaks {
    /// Measures them; a fraction of a second.
    pub fn measure(at: Provenance) -> Peaks {
        let of = |precision, isa| {
            let known = isa <= Device::detect_isa();
            let peak = |threads| heldout_kernels::peak::peak(threads, precision, isa);
            [1, super::THREADS].map(|n| if known { peak(n).unwrap_or(0.0) } else { 0.0 })
        };
        Peaks {
            at,
            f32_256: of(Precision::F32, Isa::Avx2),
            f32_512: of(Precision::F32, Isa::Avx512),
            bf16: of(Precision::Bf16, Isa::Avx512),
        }
    }
}

/// What a process answers to one turn.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Turn {
    /// Median of the steps (of the runs, in generation); in fine-tuning, texts a second.
    #[serde(alias = "texts_per_second")]
    pub tokens_per_second: f64,
    /// Largest resident set of the process so far.
    pub peak_mebibytes: f64,
}

/// A side that took turns; without turns, `note` says why.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Side {
    pub turns: Vec<Turn>,
    /// What went wrong or was left out; empty where all rounds were run.
    #[serde(default)]
    pub note: String,
}

impl Side {
    /// One that never ran.
    pub fn absent(note: impl Into<String>) -> Side {
        Side { turns: Vec::new(), note: note.into() }
    }

    /// Median tokens a second; NaN without turns.
    pub fn speed(&self) -> f64 {
        median(&self.turns.iter().map(|turn| turn.tokens_per_second).collect::<Vec<_>>())
    }

    /// Median peak memory in MiB; NaN without turns.
    pub fn memory(&self) -> f64 {
        median(&self.turns.iter().map(|turn| turn.peak_mebibytes).collect::<Vec<_>>())
    }

    /// Our speed over this side's, round by round; None without a common round.
    pub fn ratio_of(&self, ours: &Side) -> Option<Spread> {
        let pairs = ours.turns.iter().zip(&self.turns);
        let ratios: Vec<f64> =
            pairs.map(|(own, other)| own.tokens_per_second / other.tokens_per_second).collect();
        (!ratios.is_empty()).then(|| Spread::of(&ratios))
    }
}

/// One row of the training table.
#[derive(Clone, Serialize, Deserialize)]
pub struct Cell {
    pub at: Provenance,
    pub workload: String,
    pub precision: String,
    pub dropout: String,
    pub flop_per_token: f64,
    /// The best that multiply-adds from registers reached beside our turns, two threads; 0 where
    /// unknown.
    pub peak_gflops: f64,
    pub ours: Side,
    pub ours_one_thread: Side,
    pub eager: Side,
    pub compiled: Side,
}

impl Cell {
    /// PyTorch's faster mode by median, and its name.
    pub fn best_peer(&self) -> Option<(&'static str, &Side)> {
        let sides = [("eager", &self.eager), ("compile", &self.compiled)];
        let ran = sides.into_iter().filter(|(_, side)| !side.turns.is_empty());
        ran.max_by(|(_, a), (_, b)| a.speed().total_cmp(&b.speed()))
    }

    /// The peak memory of PyTorch's leaner mode, MiB.
    pub fn leanest_peer(&self) -> Option<f64> {
        let sides = [&self.eager, &self.compiled];
        let ran = sides.into_iter().filter(|side| !side.turns.is_empty()).map(Side::memory);
        ran.min_by(f64::total_cmp)
    }

    /// Share of the measured peak.
    pub fn peak_share(&self) -> Option<f64> {
        let gflops = self.ours.speed() * self.flop_per_token / 1e9;
        (self.peak_gflops > 0.0 && gflops.is_finite()).then(|| gflops / self.peak_gflops)
    }

    /// Speed of two threads over that of one, round by round.
    pub fn thread_gain(&self) -> Option<Spread> {
        self.ours_one_thread.ratio_of(&self.ours)
    }
}

/// Generation at one precision.
#[derive(Clone, Serialize, Deserialize)]
pub struct GenerationCell {
    pub at: Provenance,
    pub ours: Side,
    pub theirs: Side,
}

/// Fine-tuning a classifier at one precision; speeds in texts a second.
#[derive(Clone, Serialize, Deserialize)]
pub struct FinetuneCell {
    pub at: Provenance,
    pub ours: Side,
    /// The Trainer as it comes: a batch is padded to its longest text.
    pub padded: Side,
    /// The Trainer with texts of like length in a batch.
    pub grouped: Side,
}

impl FinetuneCell {
    /// The Trainer's faster way by median.
    pub fn best_peer(&self) -> &Side {
        if self.grouped.speed() > self.padded.speed() { &self.grouped } else { &self.padded }
    }

    /// Our peak memory over that of the Trainer's leaner way.
    pub fn memory_ratio(&self) -> f64 {
        self.ours.memory() / self.padded.memory().min(self.grouped.memory())
    }
}

/// Two training steps of the large model.
#[derive(Clone, Serialize, Deserialize)]
pub struct LargeCell {
    pub at: Provenance,
    pub model: String,
    pub parameters: u64,
    pub losses: Vec<f64>,
    pub step_seconds: f64,
    pub peak_mebibytes: f64,
}

/// Step times against batch, depth and context, in seconds.
#[derive(Clone, Serialize, Deserialize)]
pub struct Scaling {
    pub at: Provenance,
    /// What the sizes are relative to.
    pub shape: String,
    pub batch: Vec<(f64, f64)>,
    pub depth: Vec<(f64, f64)>,
    /// T, whole step, attention alone.
    pub context: Vec<(f64, f64, f64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(speeds: &[f64], memory: f64) -> Side {
        let turn = |&s: &f64| Turn { tokens_per_second: s, peak_mebibytes: memory };
        Side { turns: speeds.iter().map(turn).collect(), note: String::new() }
    }

    #[test]
    fn the_faster_mode_and_the_leaner_one_are_the_peers() {
        let cell = Cell {
            at: Provenance::default(),
            workload: "W1".into(),
            precision: "f32".into(),
            dropout: "0".into(),
            flop_per_token: 1e9,
            peak_gflops: 8.0,
            ours: side(&[4.0, 6.0, 4.0], 300.0),
            ours_one_thread: side(&[2.0, 2.0, 4.0], 300.0),
            eager: side(&[1.0, 2.0], 500.0),
            compiled: side(&[2.0, 2.0, 8.0], 900.0),
        };
        let (name, peer) = cell.best_peer().expect("two ran");
        assert_eq!((name, peer.speed()), ("compile", 2.0));
        let ratio = peer.ratio_of(&cell.ours).expect("three rounds");
        assert_eq!(ratio, Spread { median: 2.0, low: 0.5, high: 3.0 });
        assert_eq!(cell.leanest_peer(), Some(500.0));
        assert_eq!(cell.peak_share(), Some(0.5));
        assert_eq!(cell.thread_gain().expect("rounds").median, 2.0);
        assert_eq!(Side::absent("timed out").ratio_of(&cell.ours), None);
    }
}
