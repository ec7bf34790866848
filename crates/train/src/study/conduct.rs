//! The loop of a study: keeps workers busy, writes the ledger, looks at the evidence, and stops.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use heldout_record::manifest::now;
use heldout_record::study::{Ledger, Look, Study, StudyDir, TrialBegun, TrialEvent, TrialFailed};
use heldout_record::{RunDir, StopReason};

use super::plan::{Next, TrialSpec, next};
use super::trial::{Keep, remove_model};
use crate::control::Control;
use crate::error::TrainError;

/// Runs trials, one a worker at a time.
pub trait Workers {
    /// Lets a worker that is free begin a trial.
    fn start(&mut self, worker: usize, spec: &TrialSpec) -> Result<(), TrainError>;
    /// Waits up to that long for one to end.
    fn wait(&mut self, most: Duration) -> Option<(usize, WorkerEnd)>;
    /// Asks all to write a checkpoint and end.
    fn stop(&mut self);
}

/// How a worker left its trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerEnd {
    /// The trial's end is in its folder.
    Ended,
    /// It stopped with a checkpoint, as asked.
    Interrupted,
    /// It died; the trial can go on from its last checkpoint.
    Died(String),
    /// Something is wrong that would be so for any trial.
    Broken(String),
}

/// What the evidence says; pure functions of the ledger.
pub trait Analyst {
    /// The names of the arms that the seed at this place must run.
    fn arms_wanted(&self, study: &Study, events: &[TrialEvent], place: usize) -> Vec<String>;
    /// The planned look that is due.
    fn look_due(&self, study: &Study, events: &[TrialEvent]) -> Option<u64>;
    /// Looks at the first so many seeds.
    fn look(&self, study: &Study, events: &[TrialEvent], seeds: u64) -> Look;
    /// With how many seeds every arm wanted has run.
    fn seeds_done(&self, study: &Study, events: &[TrialEvent]) -> u64;
    /// The multiple of the learning rate that tuning chose for an arm.
    fn rate_factor(&self, arm: &str, events: &[TrialEvent]) -> f64;
}

/// What bounds a study.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Trials at a time.
    pub workers: usize,
    /// Of this call.
    pub budget: Option<Duration>,
    pub keep: Keep,
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    /// Nothing is left to do.
    Done,
    Budget,
    Interrupted,
}

/// What a watcher is shown.
pub struct Conducted<'a> {
    pub study: &'a Study,
    pub events: &'a [TrialEvent],
    /// Trials that run now, by worker.
    pub running: &'a BTreeMap<usize, TrialSpec>,
    /// The lines just added.
    pub news: &'a [TrialEvent],
}

/// How a study ended, with all lines of its ledger.
pub struct Ending {
    pub why: Stopping,
    pub events: Vec<TrialEvent>,
}

/// A worker that dies is given the same trial this often.
const DEATHS_MOST: u32 = 3;

/// Between two looks at the clock, at signals and at workers.
const TICK: Duration = Duration::from_millis(200);

struct Running {
    spec: TrialSpec,
    since: Instant,
}

struct Loop<'a> {
    folder: &'a StudyDir,
    study: &'a Study,
    ledger: Ledger,
    events: Vec<TrialEvent>,
    running: BTreeMap<usize, Running>,
    deaths: BTreeMap<String, u32>,
    /// Wall time of trials that one worker ran from start to end, by arm.
    walls: BTreeMap<String, Vec<f64>>,
    limits: &'a Limits,
    began: Instant,
    analyst: &'a dyn Analyst,
    /// Lines that the watcher has seen.
    told: usize,
}

/// Carries a study out, or as much of it as the limits allow. `watch` is called after every change
/// and at least every tick.
pub fn conduct(
    folder: &StudyDir,
    study: &Study,
    limits: &Limits,
    workers: &mut dyn Workers,
    analyst: &dyn Analyst,
    control: &Control,
    watch: &mut dyn FnMut(&Conducted<'_>),
) -> Result<Ending, TrainError> {
    let (ledger, events) = Ledger::open(&folder.trials())?;
    let told = events.len();
    let (running, deaths) = Default::default();
    let mut walls: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for event in &events {
        // Of an earlier call: what is known before the first trial of this one has ended.
        if let TrialEvent::Finished(t) = event {
            walls.entry(t.arm.clone()).or_default().push(t.seconds);
        }
    }
    let began = Instant::now();
    let mut study = Loop {
        folder,
        study,
        ledger,
        events,
        running,
        deaths,
        walls,
        limits,
        began,
        analyst,
        told,
    };
    let carried_out = study.go(workers, control, watch);
    if carried_out.is_err() {
        // The others write a checkpoint: what they did is not lost with this one.
        workers.stop();
        while !study.running.is_empty() {
            match workers.wait(TICK) {
                Some((worker, _)) => drop(study.running.remove(&worker)),
                None => continue,
            }
        }
    }
    carried_out.map(|why| Ending { why, events: study.events })
}

impl Loop<'_> {
    fn go(
        &mut self,
        workers: &mut dyn Workers,
        control: &Control,
        watch: &mut dyn FnMut(&Conducted<'_>),
    ) -> Result<Stopping, TrainError> {
        let mut stopping = None;
        loop {
            if stopping.is_none() {
                stopping = self.fill(workers, control)?;
                let is_asked = matches!(stopping, Some(Stopping::Interrupted | Stopping::Budget));
                if is_asked && !self.is_block_to_finish(stopping, control) {
                    workers.stop();
                }
            } else if self.is_time_over() || control.is_stopping() {
                workers.stop();
            }
            self.tell(watch);
            if self.running.is_empty()
                && let Some(why) = stopping
            {
                return self.close(why);
            }
            if let Some((worker, end)) = workers.wait(TICK) {
                self.take(worker, end)?;
            }
        }
    }

    /// At the end of a budget what was begun may still fit.
    fn is_block_to_finish(&self, stopping: Option<Stopping>, control: &Control) -> bool {
        stopping == Some(Stopping::Budget) && !self.is_time_over() && !control.is_stopping()
    }

    /// Starts what can be started; gives the reason when nothing more is to be.
    fn fill(
        &mut self,
        workers: &mut dyn Workers,
        control: &Control,
    ) -> Result<Option<Stopping>, TrainError> {
        loop {
            // Also where the process was killed between a trial's end and the look.
            if let Some(seeds) = self.analyst.look_due(self.study, &self.events) {
                self.look(seeds)?;
            }
            if control.is_stopping() {
                return Ok(Some(Stopping::Interrupted));
            }
            if self.is_time_over() {
                return Ok(Some(Stopping::Budget));
            }
            let busy: BTreeSet<String> = self.running.values().map(|r| r.spec.name()).collect();
            let (spec, place) = match next(self.study, &self.events, &busy, self.analyst) {
                Next::Done => return Ok(Some(Stopping::Done)),
                Next::Wait => return Ok(None),
                Next::Run(spec, place) => (spec, place),
            };
            let run = self.folder.run(&spec.name());
            if let Some(ended) = run.read_trial()? {
                // Its worker, or we ourselves, died before the ledger learned of it.
                self.note_end(&run, ended)?;
                continue;
            }
            let free = (0..self.limits.workers).find(|w| !self.running.contains_key(w));
            let Some(worker) = free else { return Ok(None) };
            if place.is_some_and(|place| !self.fits(place)) {
                return Ok(Some(Stopping::Budget));
            }
            self.begin(workers, worker, spec)?;
        }
    }

    fn begin(
        &mut self,
        workers: &mut dyn Workers,
        worker: usize,
        spec: TrialSpec,
    ) -> Result<(), TrainError> {
        let begun =
            TrialBegun { trial: spec.name(), arm: spec.arm.clone(), seed: spec.seed, time: now() };
        let is_known = |e: &TrialEvent| {
            matches!(e, TrialEvent::Started(_)) && e.trial() == Some(begun.trial.as_str())
        };
        let event = match self.events.iter().any(is_known) {
            true => TrialEvent::Resumed(begun),
            false => TrialEvent::Started(begun),
        };
        self.append(event)?;
        workers.start(worker, &spec)?;
        self.running.insert(worker, Running { spec, since: Instant::now() });
        Ok(())
    }

    fn append(&mut self, event: TrialEvent) -> Result<(), TrainError> {
        self.ledger.append(&event)?;
        self.events.push(event);
        Ok(())
    }

    /// A worker is free again.
    fn take(&mut self, worker: usize, end: WorkerEnd) -> Result<(), TrainError> {
        let Some(Running { spec, since }) = self.running.remove(&worker) else { return Ok(()) };
        let name = spec.name();
        let run = self.folder.run(&name);
        // Whatever a dying worker says: what it wrote down counts.
        if let Some(ended) = run.read_trial()? {
            let is_resumed = self
                .events
                .iter()
                .any(|e| matches!(e, TrialEvent::Resumed(_)) && e.trial() == Some(name.as_str()));
            if !is_resumed {
                self.walls.entry(spec.arm).or_default().push(since.elapsed().as_secs_f64());
            }
            return self.note_end(&run, ended);
        }
        let detail = match end {
            WorkerEnd::Ended | WorkerEnd::Interrupted => return Ok(()),
            WorkerEnd::Broken(words) => {
                let trial = spec.name();
                return Err(TrainError::Worker { trial, words });
            }
            WorkerEnd::Died(words) => words,
        };
        let deaths = self.deaths.entry(spec.name()).or_default();
        *deaths += 1;
        if *deaths < DEATHS_MOST {
            return Ok(());
        }
        let failed = TrialEvent::Failed(TrialFailed {
            trial: spec.name(),
            arm: spec.arm.clone(),
            seed: spec.seed,
            rate_factor: spec.rate_factor,
            is_tuning: spec.is_tuning,
            reason: StopReason::Failed,
            detail: format!("its process died {deaths} times: {detail}"),
            run: format!("runs/{}", spec.name()),
            ..TrialFailed::default()
        });
        self.note_end(&run, failed)
    }

    /// A trial has ended: the ledger learns of it.
    fn note_end(&mut self, run: &RunDir, ended: TrialEvent) -> Result<(), TrainError> {
        self.append(ended)?;
        self.choose_models(run)
    }

    fn look(&mut self, seeds: u64) -> Result<(), TrainError> {
        let look = self.analyst.look(self.study, &self.events, seeds);
        self.append(TrialEvent::Looked(look))
    }

    /// Keeps the model of the best trial so far, by validation, and removes the others'.
    fn choose_models(&self, ended: &RunDir) -> Result<(), TrainError> {
        if self.limits.keep != Keep::Best {
            return Ok(());
        }
        let finished = self.events.iter().filter_map(|event| match event {
            TrialEvent::Finished(t) if !t.is_tuning => Some(t),
            _ => None,
        });
        let best = finished.min_by(|a, b| a.loss_valid.total_cmp(&b.loss_valid));
        let Some(best) = best else { return remove_model(ended) };
        let ended_name = ended.name();
        if best.trial != ended_name {
            return remove_model(ended);
        }
        for event in &self.events {
            if let TrialEvent::Finished(t) = event
                && t.trial != best.trial
            {
                remove_model(&self.folder.run(&t.trial))?;
            }
        }
        Ok(())
    }

    fn is_time_over(&self) -> bool {
        self.limits.budget.is_some_and(|budget| self.began.elapsed() >= budget)
    }

    /// Whether the seed at `place` can be done by all arms within the budget. One that was begun is
    /// finished, and before anything is known about times everything fits.
    fn fits(&self, place: usize) -> bool {
        let Some(budget) = self.limits.budget else { return true };
        let seed = self.study.seeds[place];
        let is_begun =
            |e: &TrialEvent| matches!(e, TrialEvent::Started(begun) if begun.seed == seed);
        if self.events.iter().any(is_begun) {
            return true;
        }
        let all: Vec<f64> = self.walls.values().flatten().copied().collect();
        if all.is_empty() {
            return true;
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let of_arm = |arm: &str| self.walls.get(arm).map_or_else(|| mean(&all), |w| mean(w));
        let wanted = self.analyst.arms_wanted(self.study, &self.events, place);
        let block: f64 = wanted.iter().map(|arm| of_arm(arm)).sum();
        let rest = |r: &Running| (of_arm(&r.spec.arm) - r.since.elapsed().as_secs_f64()).max(0.0);
        let running: f64 = self.running.values().map(rest).sum();
        let needed = (block + running) / self.limits.workers as f64;
        self.began.elapsed().as_secs_f64() + needed <= budget.as_secs_f64()
    }

    /// The last look, where the clock chose it: on what there is.
    fn close(&mut self, why: Stopping) -> Result<Stopping, TrainError> {
        if let Some(seeds) = self.analyst.look_due(self.study, &self.events) {
            self.look(seeds)?;
        }
        if next(self.study, &self.events, &BTreeSet::new(), self.analyst) == Next::Done {
            return Ok(Stopping::Done);
        }
        let seeds = self.analyst.seeds_done(self.study, &self.events);
        let looked = self.events.iter().filter_map(|event| match event {
            TrialEvent::Looked(look) => Some(look.seeds),
            _ => None,
        });
        if why == Stopping::Budget && seeds >= 2 && seeds > looked.max().unwrap_or(0) {
            self.look(seeds)?;
        }
        Ok(why)
    }

    fn tell(&mut self, watch: &mut dyn FnMut(&Conducted<'_>)) {
        let running = self.running.iter().map(|(w, r)| (*w, r.spec.clone())).collect();
        let news = &self.events[self.told..];
        watch(&Conducted { study: self.study, events: &self.events, running: &running, news });
        self.told = self.events.len();
    }
}
