//! Batches cut ahead of time on a thread of their own.

use crate::batches::{Batch, Batches};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Hands out the batches of consecutive steps, cut ahead on another thread. Asking for another step
/// than the next starts again from there, so a roll-back needs no care.
pub struct Prefetch {
    batches: Arc<Batches>,
    depth: usize,
    worker: Option<Worker>,
}

struct Worker {
    next: u64,
    ready: Receiver<Batch>,
    thread: JoinHandle<()>,
}

impl Prefetch {
    /// Keeps up to `depth` batches ready (at least one).
    pub fn new(batches: Arc<Batches>, depth: usize) -> Self {
        Prefetch { batches, depth: depth.max(1), worker: None }
    }

    /// The batches behind it.
    pub fn batches(&self) -> &Arc<Batches> {
        &self.batches
    }

    /// The batch of `step`: the same as [`Batches::batch_at`], mostly without waiting.
    pub fn batch_at(&mut self, step: u64) -> Batch {
        if self.worker.as_ref().is_none_or(|w| w.next != step) {
            self.stop();
            self.worker = start(self.batches.clone(), self.depth, step);
        }
        let Some(worker) = &mut self.worker else {
            // No thread to be had: cut it here.
            return self.batches.batch_at(step);
        };
        worker.next = step + 1;
        match worker.ready.recv() {
            Ok(batch) => batch,
            Err(_) => {
                // The worker ends early only by a panic; let it be seen here.
                self.stop();
                self.batches.batch_at(step)
            }
        }
    }

    fn stop(&mut self) {
        if let Some(Worker { ready, thread, .. }) = self.worker.take() {
            drop(ready);
            // A panic was reported by the thread itself; the caller cuts the batch again and sees
            // it.
            let _ = thread.join();
        }
    }
}

fn start(batches: Arc<Batches>, depth: usize, first: u64) -> Option<Worker> {
    let (sender, ready) = sync_channel(depth);
    let body = move || {
        let mut step = first;
        while sender.send(batches.batch_at(step)).is_ok() {
            step += 1;
        }
    };
    let thread = std::thread::Builder::new().name("heldout-prefetch".into()).spawn(body).ok()?;
    Some(Worker { next: first, ready, thread })
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.stop();
    }
}
