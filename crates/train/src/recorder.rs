//! Where events go: the metrics file, TensorBoard, and whoever watches.

use heldout_record::{Event, MetricsLog, Notice, RunDir, TensorBoard};

use crate::control::Observer;
use crate::error::TrainError;

/// Writes every event to disk before anyone sees it.
pub struct Recorder<'a> {
    log: MetricsLog,
    board: TensorBoard,
    observer: &'a mut dyn Observer,
}

impl<'a> Recorder<'a> {
    /// For a new run.
    pub fn create(run: &RunDir, observer: &'a mut dyn Observer) -> Result<Self, TrainError> {
        let log = MetricsLog::create(&run.metrics())?;
        let board = TensorBoard::create(&run.tensorboard())?;
        Ok(Recorder { log, board, observer })
    }

    /// For a run that goes on from the checkpoint of `step`: what was recorded later is cut off,
    /// because it is going to happen again.
    pub fn resume(
        run: &RunDir,
        step: u64,
        observer: &'a mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let (log, warnings) = MetricsLog::resume(&run.metrics(), step)?;
        let board = TensorBoard::resume(&run.tensorboard(), step)?;
        let mut recorder = Recorder { log, board, observer };
        for text in warnings {
            recorder.notice(Some(step), text)?;
        }
        Ok(recorder)
    }

    pub fn event(&mut self, event: Event) -> Result<(), TrainError> {
        self.log.append(&event)?;
        self.board.event(&event)?;
        self.observer.event(&event);
        Ok(())
    }

    pub fn notice(&mut self, step: Option<u64>, text: impl Into<String>) -> Result<(), TrainError> {
        self.event(Event::Notice(Notice { step, text: text.into() }))
    }

    /// Tells whoever watches, whether or not the disk still takes it: for the end of a failed run.
    pub fn last_words(&mut self, event: Event) {
        let _ = self.log.append(&event);
        let _ = self.board.event(&event);
        self.observer.event(&event);
    }

    /// A text for TensorBoard alone.
    pub fn text(&mut self, tag: &str, step: u64, text: &str) -> Result<(), TrainError> {
        Ok(self.board.text(tag, step, text)?)
    }

    /// A histogram for TensorBoard alone.
    pub fn histogram(&mut self, tag: &str, step: u64, values: &[f32]) -> Result<(), TrainError> {
        Ok(self.board.histogram(tag, step, values)?)
    }

    /// Waits until everything is on the disk.
    pub fn sync(&self) -> Result<(), TrainError> {
        Ok(self.log.sync()?)
    }
}
