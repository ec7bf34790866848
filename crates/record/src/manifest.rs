//! The manifest: what ran, where, on which data, so that a run can be repeated or doubted.

use crate::error::RecordError;
use heldout_base::durable::{self, Naming};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// `manifest.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Programs and libraries by name; at least `heldout`.
    pub versions: BTreeMap<String, String>,
    /// The command line as it was given, the program first.
    pub command_line: Vec<String>,
    /// When the run was started, in UTC: "2026-11-22T15:04:05Z".
    pub started: String,
    /// Where it ran.
    pub machine: Machine,
    /// The kernels' device in one line.
    pub device: String,
    /// "f32" or "bf16", as resolved.
    pub precision: String,
    /// Threads that computed.
    pub threads: u64,
    /// The seed of everything random.
    pub seed: u64,
    /// The files that were read, or what was made of them.
    pub data: Vec<DataFile>,
    /// The starts after the first, in UTC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<String>,
    /// The plan in words, one line a slot in use, in the order of the training loop.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<String>,
}

/// One piece of input.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataFile {
    /// "train", "validation", "test", "tokenizer", "weights", ...
    pub role: String,
    /// The path as given, or a description.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its content hash, with the name of the function: "sha256:…".
    pub hash: String,
}

/// The computer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Its name.
    pub host: String,
    /// The operating system: "Debian GNU/Linux 13 (trixie)".
    pub system: String,
    /// The kernel's release.
    pub kernel: String,
    /// The instruction set: "x86_64".
    pub architecture: String,
    /// The processor's model name.
    pub processor: String,
    /// Logical processors that this process may use.
    pub cores: u64,
    /// Memory in bytes; 0 when unknown.
    pub memory_bytes: u64,
}

impl Machine {
    /// This computer, as far as it tells; unknown texts are empty.
    pub fn this() -> Machine {
        let cpu = read("/proc/cpuinfo");
        let memory = read("/proc/meminfo");
        let kibibytes = field(&memory, "MemTotal", ':').split(' ').next().unwrap_or("").parse();
        let system = field(&read("/etc/os-release"), "PRETTY_NAME", '=');
        let system = system.trim_matches('"').to_owned();
        Machine {
            host: host_name(),
            system: if system.is_empty() { std::env::consts::OS.to_owned() } else { system },
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            processor: field(&cpu, "model name", ':'),
            cores: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            memory_bytes: kibibytes.map_or(0, |k: u64| k * 1024),
        }
    }
}

impl Manifest {
    /// A manifest of now and here; the caller adds what it knows (device, precision, data, ...).
    pub fn new(command_line: Vec<String>, seed: u64) -> Manifest {
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        let version = format!("{} ({build})", env!("CARGO_PKG_VERSION"));
        Manifest {
            versions: BTreeMap::from([("heldout".to_owned(), version)]),
            command_line,
            started: now(),
            machine: Machine::this(),
            seed,
            ..Manifest::default()
        }
    }

    /// Writes it as indented JSON, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        let text = serde_json::to_string_pretty(self).expect("plain data with string keys");
        Ok(durable::write_file(path, |out| writeln!(out, "{text}"))?)
    }

    /// Reads it back.
    pub fn read(path: &Path) -> Result<Manifest, RecordError> {
        let text = fs::read(path).naming("read", path)?;
        serde_json::from_slice(&text).map_err(|error| RecordError::Format {
            path: path.to_owned(),
            line: Some(error.line() as u64),
            problem: format!("expected a manifest: {error}"),
            next: "restore the file; nothing else in the run depends on it",
        })
    }
}

/// The computer's name; "unknown" when it does not tell.
pub fn host_name() -> String {
    let name = read("/proc/sys/kernel/hostname").trim().to_owned();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

/// The time now in UTC: "2026-11-22T15:04:05Z".
pub fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    utc(seconds)
}

/// Seconds since 1970 as a date and time in the proleptic Gregorian calendar.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let mut left = days;
    let mut year = 1970u64;
    let is_leap = |y: u64| (y.is_multiple_of(4) && !y.is_multiple_of(100)) || y.is_multiple_of(400);
    let days_in_year = |y: u64| if is_leap(y) { 366 } else { 365 };
    while left >= days_in_year(year) {
        left -= days_in_year(year);
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", left + 1)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of the first line that begins with `key`, then `separator`.
fn field(text: &str, key: &str, separator: char) -> String {
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or("");
    line.split_once(separator).map_or("", |(_, value)| value.trim()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let check = |seconds, expected: &str| assert_eq!(utc(seconds), expected);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_399, "2000-02-28T23:59:59Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(951_868_800, "2000-03-01T00:00:00Z");
        check(1_700_000_000, "2023-11-14T22:13:20Z");
        check(1_798_761_599, "2026-12-31T23:59:59Z");
        check(4_102_444_800, "2100-01-01T00:00:00Z");
    }

    #[test]
    fn written_and_read_back() {
        let folder = tempfile::tempdir().expect("scratch");
        let path = folder.path().join("manifest.json");
        let mut manifest = Manifest::new(vec!["heldout".into(), "train".into()], u64::MAX);
        manifest.data.push(DataFile {
            role: "train".into(),
            path: "a.txt".into(),
            bytes: 3,
            hash: "sha256:00".into(),
        });
        assert!(manifest.machine.cores > 0 && !manifest.machine.host.is_empty());
        manifest.write(&path).expect("written");
        assert_eq!(Manifest::read(&path).expect("read"), manifest);
        fs::write(&path, "{\n\"seed\": true}").expect("written");
        let error = Manifest::read(&path).expect_err("damaged").to_string();
        assert!(error.contains("manifest.json, line 2: expected a manifest"), "{error}");
    }
}
