//! One step taken apart: `profile.json` in Chrome's trace event format, and its sums op by op.
//!
//! The file opens in `chrome://tracing` and in Perfetto (ui.perfetto.dev): complete events
//! (`"ph": "X"`) on one thread, times in microseconds. Format: "Trace Event Format", Google 2016.

use std::path::Path;
use std::time::Duration;

use heldout_base::durable;
use serde_json::{Value, json};

use crate::error::RecordError;
use crate::events::{OpRecord, ProfileRecord};

/// What a span stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// It holds others; its own time is nobody's.
    Frame,
    /// Work that is done at that time.
    Op,
}

/// A stretch of time on the training thread.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSpan {
    /// What was done.
    pub name: String,
    /// Whether it is work or holds work.
    pub kind: SpanKind,
    /// Since the step began.
    pub start: Duration,
    /// Wall time.
    pub duration: Duration,
    /// Floating-point operations of matrix products; 0 where there are none.
    pub flops: f64,
    /// Bytes that had to be moved; 0 where products bound the work.
    pub bytes: f64,
}

/// One step: its spans nest or follow each other, but never overlap in part.
#[derive(Clone, Debug, PartialEq)]
pub struct StepProfile {
    /// The step, counted from 1.
    pub step: u64,
    /// Target tokens trained on in it.
    pub tokens: u64,
    /// Wall time of the whole step, from waiting for its batch to its last record.
    pub duration: Duration,
    /// The device in one line.
    pub device: String,
    /// In any order.
    pub spans: Vec<TraceSpan>,
}

impl StepProfile {
    /// Sums by name over the ops, the longest first; `path` is the trace's, relative to the run.
    pub fn record(&self, path: &str) -> ProfileRecord {
        let mut ops: Vec<OpRecord> = Vec::new();
        for span in self.spans.iter().filter(|span| span.kind == SpanKind::Op) {
            let found = match ops.iter_mut().find(|op| op.name == span.name) {
                Some(found) => found,
                None => {
                    ops.push(OpRecord { name: span.name.clone(), ..OpRecord::default() });
                    let last = ops.len() - 1;
                    &mut ops[last]
                }
            };
            found.calls += 1;
            found.seconds += span.duration.as_secs_f64();
            found.flops += span.flops;
            found.bytes += span.bytes;
        }
        ops.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        ProfileRecord {
            step: self.step,
            tokens: self.tokens,
            seconds: self.duration.as_secs_f64(),
            path: path.to_owned(),
            ops,
        }
    }

    /// Writes the trace, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        let trace = self.trace();
        Ok(durable::write_file(path, |out| writeln!(out, "{trace}"))?)
    }

    fn trace(&self) -> Value {
        let name = |what: &str, name: &str| {
            let named = json!({"name": name});
            json!({"ph": "M", "pid": PROCESS, "tid": THREAD, "name": what, "args": named})
        };
        let whole = TraceSpan {
            name: format!("step {}", self.step),
            kind: SpanKind::Frame,
            start: Duration::ZERO,
            duration: self.duration,
            flops: 0.0,
            bytes: 0.0,
        };
        let mut spans: Vec<&TraceSpan> = self.spans.iter().chain([&whole]).collect();
        // Viewers take the first of two spans that begin together as the outer one.
        spans.sort_by_key(|s| (s.start, std::cmp::Reverse(s.duration), s.kind == SpanKind::Op));
        let mut events = vec![name("process_name", "heldout"), name("thread_name", "training")];
        events.extend(spans.into_iter().map(event));
        json!({
            "displayTimeUnit": "ms",
            "otherData": {"step": self.step, "tokens": self.tokens, "device": self.device},
            "traceEvents": events,
        })
    }
}

const PROCESS: u32 = 1;
const THREAD: u32 = 1;

fn event(span: &TraceSpan) -> Value {
    let seconds = span.duration.as_secs_f64().max(1e-9);
    let mut arguments = serde_json::Map::new();
    for (amount, unit, rate) in [(span.flops, "flops", "gflops"), (span.bytes, "bytes", "gbs")] {
        if amount > 0.0 {
            arguments.insert(unit.to_owned(), json!(amount));
            arguments.insert(rate.to_owned(), json!(amount / seconds / 1e9));
        }
    }
    json!({
        "ph": "X",
        "pid": PROCESS,
        "tid": THREAD,
        "name": span.name,
        "cat": match span.kind { SpanKind::Frame => "frame", SpanKind::Op => "op" },
        "ts": microseconds(span.start),
        "dur": microseconds(span.duration),
        "args": arguments,
    })
}

/// To the nanosecond.
fn microseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}
