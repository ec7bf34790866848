//! What the live view knows: one lane per run, fed by its events. Time comes in as seconds, so
//! that the state is a pure function of events.

use heldout_record::{
    BaselineRecord, EvaluationRecord, Event, SampleRecord, Started, StepRecord, Stopped,
};
use heldout_report::plot::Series;
use heldout_report::summary::RunSummary;

/// Everything the view shows.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub lanes: Vec<Lane>,
    /// What is going on before the first step.
    pub phase: String,
    /// When the phase was last told where there is no live view.
    pub phase_said_at: f64,
    /// Seconds of training after which the runs end, where time is their horizon.
    pub seconds_limit: Option<f64>,
    /// A known floor of the loss, such as the true entropy: its name and nats per token.
    pub floor: Option<(String, f64)>,
}

/// One run.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// Shown before its figures where there are several lanes.
    pub name: String,
    pub started: Option<Started>,
    pub step: Option<StepRecord>,
    pub evaluations: Vec<Event>,
    /// The n-gram model to beat.
    pub baseline: Option<BaselineRecord>,
    pub stopped: Option<Stopped>,
    /// What the model wrote last, on one line.
    pub sample: Option<String>,
    /// As in [`View`].
    pub seconds_limit: Option<f64>,
    /// When the first event after `Started` came, and the step it stood at.
    clock: Option<(f64, u64)>,
    /// Seconds on the same clock at the latest event.
    now: f64,
}

impl View {
    /// A view of these runs.
    pub fn new(names: &[&str], floor: Option<(String, f64)>) -> View {
        let lane = |name: &&str| Lane { name: (*name).to_owned(), ..Lane::default() };
        View { lanes: names.iter().map(lane).collect(), floor, ..View::default() }
    }

    /// Time is the horizon.
    pub fn limit_seconds(&mut self, seconds: f64) {
        self.seconds_limit = Some(seconds);
        self.lanes.iter_mut().for_each(|lane| lane.seconds_limit = Some(seconds));
    }

    /// Takes in an event of one lane at `now` seconds of any steady clock.
    pub fn observe(&mut self, lane: usize, event: &Event, now: f64) {
        self.lanes[lane].observe(event, now);
    }

    /// The furthest x of the plot: the longest horizon.
    pub fn horizon(&self) -> u64 {
        self.lanes.iter().map(Lane::horizon).max().unwrap_or(0)
    }
}

/// A sample on one line.
pub fn sample_line(sample: &SampleRecord) -> String {
    let text = format!("{}{}", sample.prompt, sample.text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Lane {
    fn observe(&mut self, event: &Event, now: f64) {
        self.now = now;
        match event {
            Event::Started(started) => {
                let at = started.resumed_at.unwrap_or(0);
                self.clock = Some((now, at));
                self.started = Some(started.clone());
                self.stopped = None;
            }
            Event::Baseline(baseline) => self.baseline = Some(baseline.clone()),
            Event::Step(step) => self.step = Some(step.clone()),
            Event::Evaluation(_) => self.evaluations.push(event.clone()),
            Event::Sample(sample) => self.sample = Some(sample_line(sample)),
            Event::Stopped(stopped) => self.stopped = Some(stopped.clone()),
            _ => {}
        }
    }

    /// Planned steps; 0 while unknown. Where time is the horizon, what the pace so far leads to,
    /// in round figures so that the picture keeps still.
    pub fn horizon(&self) -> u64 {
        if self.seconds_limit.is_none() {
            return self.started.as_ref().map_or(0, |started| started.horizon);
        }
        let expected = match self.progress() {
            share if share > 0.02 => self.step_count() as f64 / share,
            _ => 0.0,
        };
        let unit = 10f64.powf((expected.max(1.0).log10() - 1.0).floor()).max(1.0);
        ((expected / unit).ceil() * unit) as u64
    }

    /// Steps made.
    pub fn step_count(&self) -> u64 {
        let resumed = self.started.as_ref().and_then(|s| s.resumed_at).unwrap_or(0);
        self.step.as_ref().map_or(resumed, |step| step.step)
    }

    /// Share of the horizon, 0 to 1.
    pub fn progress(&self) -> f64 {
        if self.stopped.is_some() {
            return 1.0;
        }
        if let Some(limit) = self.seconds_limit {
            return (self.trained_seconds() / limit).min(1.0);
        }
        match self.horizon() {
            0 => 0.0,
            horizon => (self.step_count() as f64 / horizon as f64).min(1.0),
        }
    }

    fn trained_seconds(&self) -> f64 {
        self.step.as_ref().map_or(0.0, |step| step.seconds)
    }

    /// Wall-clock seconds left at the pace so far, evaluations and checkpoints included; `None`
    /// until there is a pace.
    pub fn seconds_left(&self, now: f64) -> Option<f64> {
        let (began, from) = self.clock?;
        let made = self.step_count().checked_sub(from).filter(|made| *made > 0)?;
        let left = match self.seconds_limit {
            Some(limit) => limit - self.trained_seconds(),
            None => {
                let pace = (self.now - began) / made as f64;
                self.horizon().saturating_sub(self.step_count()) as f64 * pace
            }
        };
        // Count down between two events, too.
        Some((left - (now - self.now)).max(0.0))
    }

    /// The run's facts so far.
    pub fn summary(&self) -> RunSummary {
        RunSummary::from_events(&self.evaluations)
    }

    /// Held-out and training curves. One of several lanes names its held-out curve only; its
    /// training curve is the dashed one of the same colour.
    pub fn curves(&self) -> Vec<Series> {
        let mut curves = self.summary().curves();
        if !self.name.is_empty() {
            curves[0].name = self.name.clone();
            curves[1].name.clear();
        }
        curves
    }

    /// The latest evaluation of the weights that the run is judged by.
    pub fn latest(&self) -> Option<EvaluationRecord> {
        self.summary().last().cloned()
    }
}
