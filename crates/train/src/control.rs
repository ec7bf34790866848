//! How the outside asks a run to stop or to be profiled, and how a run reports what happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use heldout_record::Event;

/// Takes the events of a run as they happen. `()` ignores them.
pub trait Observer {
    /// One event; called on the training thread, so it should return soon.
    fn event(&mut self, event: &Event);
}

impl Observer for () {
    fn event(&mut self, _event: &Event) {}
}

impl<F: FnMut(&Event)> Observer for F {
    fn event(&mut self, event: &Event) {
        self(event);
    }
}

/// A switch that a signal handler, or anyone with a clone, may flip. The trainer looks at it once
/// a step: it then finishes the step, writes a checkpoint and returns.
#[derive(Clone, Debug, Default)]
pub struct Control {
    state: Arc<AtomicU8>,
    is_profile_asked: Arc<AtomicBool>,
}

const CONTINUE: u8 = 0;
const STOP: u8 = 1;

impl Control {
    /// A control that lets the run go on.
    pub fn new() -> Control {
        let state = Arc::new(AtomicU8::new(CONTINUE));
        Control { state, is_profile_asked: Arc::default() }
    }

    /// Asks the run to end after the present step. Safe to call from a signal handler.
    pub fn stop_gracefully(&self) {
        self.state.store(STOP, Ordering::Relaxed);
    }

    /// Asks the run to take one of its next steps apart: it records [`Event::Profile`] and writes
    /// `profile.json`. What is trained stays the same to the last bit.
    pub fn profile_a_step(&self) {
        self.is_profile_asked.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked for a profile that was not yet made.
    pub(crate) fn is_profile_asked(&self) -> bool {
        self.is_profile_asked.load(Ordering::Relaxed)
    }

    /// The profile is being made.
    pub(crate) fn profile_begun(&self) {
        self.is_profile_asked.store(false, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn is_stopping(&self) -> bool {
        self.state.load(Ordering::Relaxed) == STOP
    }
}
