//! Where the time of a pass goes: one span per op call, on request.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// One op call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The op and its part, for instance `linear backward weight`.
    pub name: &'static str,
    /// Since profiling began.
    pub start: Duration,
    /// Wall time of the call.
    pub duration: Duration,
    /// Floating-point operations of its matrix products; 0 where there are none.
    pub flops: f64,
}

/// The spans of the passes since [`super::Tape::start_profile`], in order of time.
#[derive(Clone, Debug)]
pub struct Profile {
    began: Instant,
    /// All op calls.
    pub spans: Vec<Span>,
}

/// The spans of one name together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    /// Calls.
    pub calls: u64,
    /// Wall time.
    pub duration: Duration,
    /// Floating-point operations of matrix products.
    pub flops: f64,
}

impl Profile {
    /// Sums by name.
    pub fn totals(&self) -> BTreeMap<&'static str, Total> {
        let mut totals: BTreeMap<&'static str, Total> = BTreeMap::new();
        for span in &self.spans {
            let total = totals.entry(span.name).or_default();
            total.calls += 1;
            total.duration += span.duration;
            total.flops += span.flops;
        }
        totals
    }
}

/// The profile of a tape, if one is being taken.
#[derive(Debug, Default)]
pub(super) struct Profiler(Option<Profile>);

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
    pub fn span(&mut self, name: &'static str, since: Option<Instant>, flops: f64) {
        if let (Some(profile), Some(since)) = (&mut self.0, since) {
            let (start, duration) = (since - profile.began, since.elapsed());
            profile.spans.push(Span { name, start, duration, flops });
        }
    }
}
