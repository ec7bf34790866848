//! Has memory for the next checkpoint's files found before the run pauses to write them.

use std::thread::JoinHandle;

use heldout_record::RunDir;
use heldout_record::checkpoint::{give_room_back, make_room};
use heldout_record::weights::MODEL_FILE;

use crate::checkpointing::STATE_FILE;
use crate::run::Run;

/// Checkpoints smaller than this are written in no time.
const WORTH_IT: u64 = 64 << 20;
/// More than the headers of both files need.
const HEADERS: u64 = 1 << 20;

/// The thread that makes room, while it does.
#[derive(Default)]
pub struct Room {
    thread: Option<JoinHandle<()>>,
}

impl Room {
    /// Makes room in the background, unless that is already happening. Only speed depends on it:
    /// where it fails, the checkpoint is written slowly, or says why it cannot be.
    fn begin(&mut self, folder: RunDir, files: [(&'static str, u64); 2]) {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let work = move || drop(make_room(&folder, &files));
        self.thread = std::thread::Builder::new().name("heldout-room".into()).spawn(work).ok();
    }

    /// Waits, and leaves nothing behind.
    fn end(&mut self, folder: &RunDir) {
        if let Some(thread) = self.thread.take() {
            // Whether it panicked matters as little as whether it failed.
            let _ = thread.join();
            let _ = give_room_back(folder);
        }
    }
}

impl Run<'_> {
    /// Makes room for a checkpoint that may come soon.
    pub fn make_room(&mut self) {
        let bytes = |values: usize| size_of::<f32>() as u64 * values as u64;
        let model = bytes(self.state.parameters.len());
        let optimizer = self.state.optimizer.state();
        let optimizer: usize = optimizer.iter().map(|(_, vector)| vector.len()).sum();
        let others = model * self.state.averages.len() as u64 + bytes(optimizer);
        if model + others < WORTH_IT {
            return;
        }
        let files = [(STATE_FILE, others + HEADERS), (MODEL_FILE, model + HEADERS)];
        self.room.begin(self.folder.clone(), files);
    }

    /// No checkpoint comes any more.
    pub fn end_room(&mut self) {
        self.room.end(&self.folder);
    }
}
