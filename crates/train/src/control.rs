//! How the outside asks a run to stop, and how a run reports what happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

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
}

const CONTINUE: u8 = 0;
const STOP: u8 = 1;

impl Control {
    /// A control that lets the run go on.
    pub fn new() -> Control {
        Control { state: Arc::new(AtomicU8::new(CONTINUE)) }
    }

    /// Asks the run to end after the present step. Safe to call from a signal handler.
    pub fn stop_gracefully(&self) {
        self.state.store(STOP, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn is_stopping(&self) -> bool {
        self.state.load(Ordering::Relaxed) == STOP
    }
}
