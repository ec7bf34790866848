//! The loop: one step reads like a table of contents, and knows no technique by name.

use heldout_record::StopReason;

use crate::error::TrainError;
use crate::meter::Part;
use crate::run::{Decision, Run};
use crate::state::Ending;

impl Run<'_> {
    /// Takes steps until the run is over, and says why it is.
    pub fn train(&mut self) -> Result<Ending, TrainError> {
        loop {
            if let Some(ending) = self.is_over() {
                return Ok(ending);
            }
            let at = self.at();
            self.begin_profile_if_asked();
            let batch = self.timed(Part::Data, |run| run.next_batch(at.step))?;
            let loss = self.timed(Part::Gradient, |run| run.forward_backward(&batch, at));
            self.timed(Part::Penalties, |run| run.penalize(at));
            let clipped = self.timed(Part::Clip, |run| run.transform_gradients(at));
            let rate = self.rate(at);
            match self.timed(Part::Guard, |run| run.guard(at, &loss, &clipped))? {
                Decision::Update(clipped) => {
                    self.timed(Part::Movement, Run::begin_movement);
                    self.timed(Part::Update, |run| run.update(at, rate, &clipped));
                    self.timed(Part::Project, |run| run.project(at, rate));
                    self.timed(Part::Movement, Run::end_movement);
                    self.timed(Part::Average, |run| run.average(at));
                }
                Decision::Skip => {}
                Decision::End(ending) => return Ok(ending),
            }
            self.count(&loss);
            self.timed(Part::Record, |run| run.record(&batch, &loss, &clipped, rate))?;
            let ending = self.evaluate_if_due()?;
            if ending.is_none() {
                self.checkpoint_if_due()?;
            }
            self.end_profile(&loss)?;
            if let Some(ending) = ending {
                return Ok(ending);
            }
        }
    }

    fn is_over(&self) -> Option<Ending> {
        let ending = |reason, detail: String| Some(Ending { reason, detail });
        let progress = &self.state.progress;
        if let Some(ended) = &progress.ended {
            return Some(ended.clone());
        }
        if self.setup.horizon.is_reached(progress.step, self.clock.seconds()) {
            let horizon = self.setup.recipe.schedule.horizon;
            return match self.setup.horizon {
                crate::horizon::Horizon::Steps(_) => {
                    ending(StopReason::Horizon, format!("the horizon of {horizon} is reached"))
                }
                crate::horizon::Horizon::Seconds(_) => {
                    ending(StopReason::Time, format!("the time of {horizon} is used up"))
                }
            };
        }
        if self.control.is_stopping() {
            return ending(StopReason::Interrupted, "asked to stop".into());
        }
        None
    }
}
