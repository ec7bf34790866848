//! Batches cut ahead of time on a thread of their own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Hands out the batches of consecutive steps, cut ahead on another thread. Asking for another step
/// than the next starts again from there, so a roll-back needs no care.
pub struct Prefetch<B> {
    cut: Cut<B>,
    depth: usize,
    worker: Option<Worker<B>>,
}

/// Makes the batch of a step, the same whenever it is asked.
pub type Cut<B> = Arc<dyn Fn(u64) -> B + Send + Sync>;

struct Worker<B> {
    next: u64,
    ready: Receiver<B>,
    thread: JoinHandle<()>,
}

impl<B: Send + 'static> Prefetch<B> {
    /// Keeps up to `depth` batches ready (at least one).
    pub fn new(cut: Cut<B>, depth: usize) -> Self {
        Prefetch { cut, depth: depth.max(1), worker: None }
    }

    /// The batch of `step`, mostly without waiting.
    pub fn batch_at(&mut self, step: u64) -> B {
        if self.worker.as_ref().is_none_or(|w| w.next != step) {
            self.stop();
            self.worker = start(self.cut.clone(), self.depth, step);
        }
        let Some(worker) = &mut self.worker else {
            // No thread to be had: cut it here.
            return (self.cut)(step);
        };
        worker.next = step + 1;
        match worker.ready.recv() {
            Ok(batch) => batch,
            Err(_) => {
                // The worker ends early only by a panic; let it be seen here.
                self.stop();
                (self.cut)(step)
            }
        }
    }
}

impl<B> Prefetch<B> {
    fn stop(&mut self) {
        if let Some(Worker { ready, thread, .. }) = self.worker.take() {
            drop(ready);
            // A panic was reported by the thread itself; the caller cuts the batch again and sees
            // it.
            let _ = thread.join();
        }
    }
}

fn start<B: Send + 'static>(cut: Cut<B>, depth: usize, first: u64) -> Option<Worker<B>> {
    let (sender, ready) = sync_channel(depth);
    let body = move || {
        let mut step = first;
        while sender.send(cut(step)).is_ok() {
            step += 1;
        }
    };
    let thread = std::thread::Builder::new().name("heldout-prefetch".into()).spawn(body).ok()?;
    Some(Worker { next: first, ready, thread })
}

impl<B> Drop for Prefetch<B> {
    fn drop(&mut self) {
        self.stop();
    }
}
