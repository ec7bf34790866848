//! The live view: a frame redrawn in place on a terminal, plain lines every few seconds elsewhere.

pub mod draw;
pub mod paint;
pub mod plain;
pub mod state;
pub mod terminal;

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use heldout_record::Event;
use heldout_train::Observer;

use crate::console::{Console, Verbosity};
use state::View;

/// Between two frames. A frame costs well under a millisecond.
const FRAME: Duration = Duration::from_millis(200);

/// Shows one or more runs while they go on.
pub struct Live {
    shared: Arc<Shared>,
    painter: Option<(Sender<()>, JoinHandle<()>)>,
}

struct Shared {
    view: Mutex<View>,
    began: Instant,
    console: Console,
}

/// The observer of one run of a [`Live`].
pub struct LaneObserver {
    shared: Arc<Shared>,
    lane: usize,
    plain: Option<plain::PlainLines>,
    /// Seconds of training, where time is the horizon.
    limit: Option<f64>,
}

impl Live {
    /// Starts to show runs called `names` (one empty name for a single run).
    pub fn start(console: &Console, names: &[&str], floor: Option<(String, f64)>) -> Live {
        let shared = Arc::new(Shared {
            view: Mutex::new(View::new(names, floor)),
            began: Instant::now(),
            console: console.clone(),
        });
        let is_live = console.is_live_possible && terminal::size().is_some();
        let painter = is_live.then(|| {
            let (stop, stopped) = channel();
            let shared = Arc::clone(&shared);
            let thread = std::thread::spawn(move || {
                shared.paint();
                while stopped.recv_timeout(FRAME) == Err(RecvTimeoutError::Timeout) {
                    shared.paint();
                }
            });
            (stop, thread)
        });
        Live { shared, painter }
    }

    /// What is going on before the first step; without a live view a line every few seconds.
    pub fn phase(&self, text: &str) {
        let now = self.shared.now();
        let mut view = self.shared.lock();
        view.phase = text.to_owned();
        if self.painter.is_none() && now - view.phase_said_at >= plain::EVERY {
            view.phase_said_at = now;
            self.shared.console.note(text);
        }
    }

    /// Time is the horizon: the runs end after so many seconds of training.
    pub fn limit_seconds(&self, seconds: f64) {
        self.shared.lock().limit_seconds(seconds);
    }

    /// The observer of the run at `lane`.
    pub fn observer(&self, lane: usize) -> LaneObserver {
        let limit = self.shared.lock().seconds_limit;
        let plain = self.painter.is_none().then(|| plain::PlainLines::new(limit));
        LaneObserver { shared: Arc::clone(&self.shared), lane, plain, limit }
    }

    /// Takes the frame away; what happened is told by the summary.
    pub fn finish(mut self) {
        self.stop_painting();
    }

    fn stop_painting(&mut self) {
        if let Some((stop, thread)) = self.painter.take() {
            drop(stop);
            let _ = thread.join();
            terminal::clear();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop_painting();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn paint(&self) {
        let Some(size) = terminal::size() else { return };
        // Drawn from a copy: the trainer must never wait for the terminal.
        let view = self.lock().clone();
        let lines = draw::draw(&view, size, self.console.charset, self.now());
        terminal::draw(&lines, size, self.console.colors_err);
    }
}

impl Observer for LaneObserver {
    fn event(&mut self, event: &Event) {
        let now = self.shared.now();
        let name = {
            let mut view = self.shared.lock();
            view.observe(self.lane, event, now);
            view.lanes[self.lane].name.clone()
        };
        let console = &self.shared.console;
        let verbosity = console.verbosity;
        // Side by side, what the runs say at their start would drown what they have in common.
        let is_told = match event {
            Event::Started(_)
            | Event::Receipt(_)
            | Event::Notice(_)
            | Event::Baseline(_)
            | Event::LabelBaseline(_)
            | Event::AnswerBaseline(_)
            | Event::TextBaseline(_) => name.is_empty() || verbosity == Verbosity::Verbose,
            _ => verbosity > Verbosity::Quiet,
        };
        let lines = match &mut self.plain {
            _ if verbosity == Verbosity::Quiet => Vec::new(),
            None if !is_told => Vec::new(),
            Some(plain) if !is_told => {
                plain.lines(event, now, verbosity);
                Vec::new()
            }
            Some(plain) => plain.lines(event, now, verbosity),
            None => plain::lasting(event, verbosity, self.limit),
        };
        for line in lines {
            let line = if name.is_empty() { line } else { format!("{name}: {line}") };
            console.note(&line);
        }
    }
}
