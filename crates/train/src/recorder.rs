//! Where events go: the metrics file, TensorBoard, and whoever watches.

use heldout_record::{Event, MetricsLog, Notice, RunDir, TensorBoard};

use crate::control::Observer;
use crate::error::TrainError;

/// Writes every event to disk before anyone sees it.
pub struct Recorder<'a> {
    /// None for studies that leave nothing behind.
    files: Option<Files>,
    observer: &'a mut dyn Observer,
}

/// Where a run's events are kept.
struct Files {
    log: MetricsLog,
    board: TensorBoard,
}

impl<'a> Recorder<'a> {
    /// For a study that leaves nothing behind.
    pub fn nowhere(observer: &'a mut dyn Observer) -> Self {
        Recorder { files: None, observer }
    }

    /// For a new run.
    pub fn create(run: &RunDir, observer: &'a mut dyn Observer) -> Result<Self, TrainError> {
        let log = MetricsLog::create(&run.metrics())?;
        let board = TensorBoard::create(&run.tensorboard())?;
        Ok(Recorder { files: Some(Files { log, board }), observer })
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
        let mut recorder = Recorder { files: Some(Files { log, board }), observer };
        for text in warnings {
            recorder.notice(Some(step), text)?;
        }
        Ok(recorder)
    }

    pub fn event(&mut self, event: Event) -> Result<(), TrainError> {
        if let Some(Files { log, board }) = &mut self.files {
            log.append(&event)?;
            board.event(&event)?;
        }
        self.observer.event(&event);
        Ok(())
    }

    pub fn notice(&mut self, step: Option<u64>, text: impl Into<String>) -> Result<(), TrainError> {
        self.event(Event::Notice(Notice { step, text: text.into() }))
    }

    /// Tells whoever watches, whether or not the disk still takes it: for the end of a failed run.
    pub fn last_words(&mut self, event: Event) {
        if let Some(Files { log, board }) = &mut self.files {
            let _ = log.append(&event);
            let _ = board.event(&event);
        }
        self.observer.event(&event);
    }

    /// A text for TensorBoard alone.
    pub fn text(&mut self, tag: &str, step: u64, text: &str) -> Result<(), TrainError> {
        let Some(files) = &mut self.files else { return Ok(()) };
        Ok(files.board.text(tag, step, text)?)
    }

    /// A histogram for TensorBoard alone.
    pub fn histogram(&mut self, tag: &str, step: u64, values: &[f32]) -> Result<(), TrainError> {
        let Some(files) = &mut self.files else { return Ok(()) };
        Ok(files.board.histogram(tag, step, values)?)
    }

    /// Waits until everything is on the disk.
    pub fn sync(&self) -> Result<(), TrainError> {
        let Some(files) = &self.files else { return Ok(()) };
        Ok(files.log.sync()?)
    }
}
