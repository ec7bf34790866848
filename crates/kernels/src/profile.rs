//! Where the time of a pass goes: one span per op call, on request, with the work that was done.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What a call did, by the resource that bounds it: products count their operations, all other ops
/// the bytes that they cannot avoid moving.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Floating-point operations of matrix products; 0 where there are none.
    pub flops: f64,
    /// Bytes read and written, each operand once; 0 where products bound the op. Operands that are
    /// still in a cache make it go faster than memory would.
    pub bytes: f64,
}

impl Work {
    /// Matrix products of so many floating-point operations.
    pub fn products(flops: f64) -> Work {
        Work { flops, bytes: 0.0 }
    }

    /// So many numbers of 4 bytes read or written.
    pub fn moved(numbers: usize) -> Work {
        Work::bytes(4 * numbers)
    }

    /// So many bytes read or written.
    pub fn bytes(bytes: usize) -> Work {
        Work { flops: 0.0, bytes: bytes as f64 }
    }
}

/// One op call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The op and its part, for instance `linear backward weight`.
    pub name: &'static str,
    /// Rows and columns of the weight, where the op has one that sets its cost.
    pub size: Option<[usize; 2]>,
    /// Since profiling began.
    pub start: Duration,
    /// Wall time of the call.
    pub duration: Duration,
    /// What was done in it.
    pub work: Work,
}

impl Span {
    /// The name with the size: `linear backward weight 1536×384`.
    pub fn label(&self) -> String {
        match self.size {
            Some([rows, cols]) => format!("{} {rows}×{cols}", self.name),
            None => self.name.to_owned(),
        }
    }
}

/// The spans of the passes since [`crate::Tape::start_profile`], in order of time.
#[derive(Clone, Debug)]
pub struct Profile {
    /// When profiling began.
    pub began: Instant,
    /// All op calls.
    pub spans: Vec<Span>,
}

/// The spans of one label together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    /// Calls.
    pub calls: u64,
    /// Wall time.
    pub duration: Duration,
    /// What was done in all of them.
    pub work: Work,
}

impl Profile {
    /// Sums by [`Span::label`].
    pub fn totals(&self) -> BTreeMap<String, Total> {
        let mut totals: BTreeMap<String, Total> = BTreeMap::new();
        for span in &self.spans {
            let total = totals.entry(span.label()).or_default();
            total.calls += 1;
            total.duration += span.duration;
            total.work.flops += span.work.flops;
            total.work.bytes += span.work.bytes;
        }
        totals
    }
}

/// The profile of a tape, if one is being taken.
#[derive(Debug, Default)]
pub(crate) struct Profiler(Option<Profile>);

impl Profiler {
    pub fn begin(&mut self) {
        self.0 = Some(Profile { began: Instant::now(), spans: Vec::new() });
    }

    pub fn end(&mut self) -> Option<Profile> {
        self.0.take()
    }

    /// The time now, if anyone wants to know.
    pub fn now(&self) -> Option<Instant> {
        self.0.as_ref().map(|_| Instant::now())
    }

    /// Records what ran since `since`, a value of [`Profiler::now`].
    pub fn span(
        &mut self,
        name: &'static str,
        size: Option<[usize; 2]>,
        since: Option<Instant>,
        work: Work,
    ) {
        if let (Some(profile), Some(since)) = (&mut self.0, since) {
            let (start, duration) = (since - profile.began, since.elapsed());
            profile.spans.push(Span { name, size, start, duration, work });
        }
    }
}
