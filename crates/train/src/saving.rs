//! Saving while the run goes on: it pauses until its state is with the operating system; hashing,
//! waiting for the disk, the rename, the pointers and the deletion of older checkpoints happen on a
//! thread of their own.
//!
//! At most one checkpoint is on its way. Whoever needs it on the disk (the next save, a rollback,
//! the end) waits for it first, and gets its error. No event tells of it before it is safe.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use heldout_base::durable::Naming;
use heldout_record::checkpoint::Checkpoint;
use heldout_record::{CheckpointRecord, Event, RecordError};

use crate::checkpointing::{self, Standing};
use crate::error::TrainError;
use crate::meter::Part;
use crate::run::Run;

/// The checkpoint that is on its way, if one is. Dropping it waits.
#[derive(Default)]
pub struct Saver {
    pending: Option<Pending>,
}

struct Pending {
    step: u64,
    standing: Standing,
    work: Work,
}

enum Work {
    Running(JoinHandle<Result<Checkpoint, RecordError>>),
    /// There was no thread to be had.
    Done(Result<Checkpoint, RecordError>),
}

/// A checkpoint that has become safe.
pub struct Saved {
    pub checkpoint: Checkpoint,
    pub standing: Standing,
}

impl Saver {
    /// Lets `work` make the checkpoint of `step` safe, on another thread.
    ///
    /// # Panics
    /// If one is on its way: [`Saver::wait`] for it first.
    pub fn begin(
        &mut self,
        step: u64,
        standing: Standing,
        work: impl FnOnce() -> Result<Checkpoint, RecordError> + Send + 'static,
    ) {
        assert!(self.pending.is_none(), "one checkpoint at a time");
        // Whoever comes first takes it: the new thread, or this one if there is none.
        let ours = Arc::new(Mutex::new(Some(work)));
        let theirs = ours.clone();
        let take = |slot: &Mutex<Option<_>>| {
            slot.lock().expect("no panic while it is held").take().expect("taken once")
        };
        let thread = std::thread::Builder::new().name("heldout-checkpoint".into());
        let work = match thread.spawn(move || take(&theirs)()) {
            Ok(thread) => Work::Running(thread),
            Err(_) => Work::Done(take(&ours)()),
        };
        self.pending = Some(Pending { step, standing, work });
    }

    /// The step of the checkpoint on its way.
    pub fn step(&self) -> Option<u64> {
        self.pending.as_ref().map(|pending| pending.step)
    }

    /// Whether [`Saver::wait`] would have something to tell, at once.
    pub fn is_done(&self) -> bool {
        match self.pending.as_ref().map(|pending| &pending.work) {
            Some(Work::Running(thread)) => thread.is_finished(),
            Some(Work::Done(_)) => true,
            None => false,
        }
    }

    /// Waits for the checkpoint on its way, if there is one.
    pub fn wait(&mut self) -> Result<Option<Saved>, RecordError> {
        let Some(Pending { step, standing, work }) = self.pending.take() else { return Ok(None) };
        let done = match work {
            Work::Done(done) => done,
            Work::Running(thread) => thread.join().unwrap_or_else(|_| {
                Err(RecordError::Content(format!(
                    "the checkpoint of step {step} was not finished (a defect of ours: its \
                     thread panicked); resume the run from the one before"
                )))
            }),
        };
        Ok(Some(Saved { checkpoint: done?, standing }))
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        // Only on the way out of a panic is there still something to wait for.
        let _ = self.wait();
    }
}

impl Run<'_> {
    /// Notes what became safe meanwhile, and saves when it is time to.
    pub fn checkpoint_if_due(&mut self) -> Result<(), TrainError> {
        if self.saver.is_done() {
            self.timed(Part::Checkpoint, Run::settle)?;
            self.make_room();
        }
        let progress = &self.state.progress;
        let (step, since) = (progress.step, progress.saved_at_seconds);
        if !self.setup.checkpoint_every.is_due(step, self.clock.seconds(), since) {
            return Ok(());
        }
        self.timed(Part::Checkpoint, |run| run.save(Standing::Later))
    }

    /// Begins a checkpoint of the present step, unless it is there or the weights are broken. It is
    /// safe when [`Run::settle`] has returned.
    pub fn save(&mut self, standing: Standing) -> Result<(), TrainError> {
        let step = self.state.progress.step;
        let is_there = [self.saved, self.saver.step()].contains(&Some(step));
        if (is_there && standing == Standing::Later)
            || !checkpointing::is_sound(&self.setup.device, &self.state)
        {
            return Ok(());
        }
        self.settle()?;
        let seconds = self.clock.seconds();
        let progress = &mut self.state.progress;
        (progress.seconds, progress.saved_at_seconds) = (seconds, seconds);
        progress.averages = self.state.averages.iter().map(|a| a.counts().clone()).collect();
        progress.teacher = self.state.teacher.as_ref().map(|teacher| teacher.counts().clone());
        // Staging would make a folder that vanished anew, without the papers that belong in it.
        let recipe = self.folder.recipe();
        std::fs::metadata(&recipe).naming("find", &recipe).map_err(RecordError::from)?;
        // What a resume keeps of the metrics must not be older than the checkpoint.
        self.recorder.sync()?;
        let staged = checkpointing::stage(&self.folder, &self.setup, &self.state)?;
        let (folder, keep) = (self.folder.clone(), self.setup.recipe.run.keep);
        self.saver.begin(step, standing, move || {
            checkpointing::make_safe(&folder, staged, standing, keep)
        });
        self.restart_pace();
        Ok(())
    }

    /// Waits until the last checkpoint that was begun is safe, and says that it is.
    pub fn settle(&mut self) -> Result<(), TrainError> {
        let Some(Saved { checkpoint, standing }) = self.saver.wait()? else { return Ok(()) };
        self.saved = Some(checkpoint.step);
        let path = checkpoint.folder.strip_prefix(&self.folder.root);
        let path = path.unwrap_or(&checkpoint.folder).display().to_string();
        let best = standing == Standing::Best;
        let record = CheckpointRecord { step: checkpoint.step, path, best };
        self.recorder.event(Event::Checkpoint(record))
    }
}
