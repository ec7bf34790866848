//! `metrics.jsonl`: one event a line, appended whole, cut back to the checkpoint on a resume.

use crate::error::RecordError;
use crate::events::Event;
use heldout_base::durable::{self, Naming};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// No event of ours comes near this; a longer line is damage, and must not fill the memory.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// The growing log of a run.
#[derive(Debug)]
pub struct MetricsLog {
    file: File,
    path: PathBuf,
    /// The length of the whole lines.
    bytes: u64,
}

impl MetricsLog {
    /// A new, empty log; refuses to write over an old one.
    pub fn create(path: &Path) -> Result<Self, RecordError> {
        let file = OpenOptions::new().append(true).create_new(true).open(path);
        let file = file.naming("create", path)?;
        durable::sync_folder(durable::parent(path))?;
        Ok(Self { file, path: path.to_owned(), bytes: 0 })
    }

    /// Goes on with an old log from the checkpoint at `step`: keeps the events up to it and drops
    /// what came after (it will be written again), along with a torn last line. Replaces the file
    /// at once, so that a crash here loses nothing. An event without a step stays if no dropped
    /// event precedes it; that of a checkpoint up to `step` always stays, as it is told of when it
    /// is safe. Lines that cannot be read are left out; then the old file is kept beside as
    /// `metrics.jsonl.damaged`, and the second value says so in one sentence a line.
    /// A missing log is started anew.
    pub fn resume(path: &Path, step: u64) -> Result<(Self, Vec<String>), RecordError> {
        let mut warnings = Vec::new();
        let mut kept = Vec::new();
        if !path.exists() {
            warnings.push(format!("{} was missing and is started anew", path.display()));
            return Ok((Self::create(path)?, warnings));
        }
        let mut dropping = false;
        for line in Lines::open(path)? {
            let line = line?;
            match line.event() {
                Ok(event) => {
                    dropping |= event.step().is_some_and(|at| at > step);
                    // Later steps may precede what tells of a checkpoint.
                    let keeps = !dropping || matches!(event, Event::Checkpoint(_));
                    if keeps && event.step().is_none_or(|at| at <= step) {
                        kept.push(line.bytes);
                    }
                }
                Err(_) if line.torn => {}
                Err(problem) => warnings.push(format!(
                    "{}, line {}: {problem}; the line is left out, the old file kept as {}",
                    path.display(),
                    line.number,
                    damaged(path).display()
                )),
            }
        }
        if !warnings.is_empty() {
            fs::copy(path, damaged(path)).naming("copy", path)?;
        }
        durable::write_file(path, |out| {
            for line in &kept {
                out.write_all(line)?;
                out.write_all(b"\n")?;
            }
            Ok(())
        })?;
        let file = OpenOptions::new().append(true).open(path).naming("open", path)?;
        let bytes = file.metadata().naming("look at", path)?.len();
        Ok((Self { file, path: path.to_owned(), bytes }, warnings))
    }

    /// Adds one event as one line. It is with the operating system when this returns, so it
    /// survives the end of this process; [`sync`](Self::sync) makes it survive a power failure.
    /// When the disk is full, nothing of the line remains, so that logging can go on later.
    pub fn append(&mut self, event: &Event) -> Result<(), RecordError> {
        let line = line_of(event);
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            // Should even this fail, the next reader finds one damaged line and says so.
            let _ = self.file.set_len(self.bytes);
            return Err(durable::DurableError::new("append to", &self.path, error).into());
        }
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Waits until everything appended is on the disk.
    pub fn sync(&self) -> Result<(), RecordError> {
        Ok(self.file.sync_data().naming("sync", &self.path)?)
    }
}

fn damaged(path: &Path) -> PathBuf {
    path.with_extension("jsonl.damaged")
}

/// The event as JSON with its line feed. (No map in an event has a key that is not a string.)
fn line_of(event: &Event) -> String {
    let mut line = serde_json::to_string(event).expect("events are plain data with string keys");
    line.push('\n');
    line
}

/// Reads a log back. A last line that was torn by a crash is left out; anything else that does
/// not read as an event is an error with the line number.
pub fn read_metrics(path: &Path) -> Result<Vec<Event>, RecordError> {
    let mut events = Vec::new();
    for line in Lines::open(path)? {
        let line = line?;
        match line.event() {
            Ok(event) => events.push(event),
            Err(_) if line.torn => {}
            Err(problem) => {
                return Err(RecordError::Format {
                    path: path.to_owned(),
                    line: Some(line.number),
                    problem,
                    next: "delete that line, or resume the run, which leaves it out",
                });
            }
        }
    }
    Ok(events)
}

/// One line of the log.
struct Line {
    number: u64,
    bytes: Vec<u8>,
    /// The last one, without its line feed.
    torn: bool,
}

impl Line {
    fn event(&self) -> Result<Event, String> {
        if self.bytes.len() as u64 > LINE_BYTES_MAX {
            return Err(format!("a line of more than {} MiB is no event", LINE_BYTES_MAX >> 20));
        }
        serde_json::from_slice(&self.bytes).map_err(|error| format!("expected an event: {error}"))
    }
}

/// The lines of a log, empty ones left out; a line that is too long is cut to just above the limit.
struct Lines {
    source: BufReader<File>,
    path: PathBuf,
    number: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, RecordError> {
        let file = File::open(path).naming("open", path)?;
        let source = BufReader::with_capacity(1 << 16, file);
        Ok(Self { source, path: path.to_owned(), number: 0 })
    }

    fn read(&mut self) -> std::io::Result<Option<Line>> {
        loop {
            let mut bytes = Vec::new();
            self.source.by_ref().take(LINE_BYTES_MAX + 2).read_until(b'\n', &mut bytes)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            self.number += 1;
            let whole = bytes.last() == Some(&b'\n');
            let too_long = bytes.len() as u64 > LINE_BYTES_MAX + 1;
            if too_long && !whole {
                self.source.skip_until(b'\n')?;
            }
            if whole {
                bytes.pop();
            }
            if !bytes.iter().all(u8::is_ascii_whitespace) {
                let torn = !whole && !too_long;
                return Ok(Some(Line { number: self.number, bytes, torn }));
            }
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Line, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read().naming("read", &self.path) {
            Ok(line) => line.map(Ok),
            Err(error) => Some(Err(error.into())),
        }
    }
}
