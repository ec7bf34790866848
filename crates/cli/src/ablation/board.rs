//! A study while it goes on: a table of arms and seeds on a terminal, a line a trial elsewhere.

use std::time::Instant;

use heldout_record::study::{Standing, Study, TrialEvent};
use heldout_report::format;
use heldout_report::study::{Trials, analyze, arms_wanted, seeds_done};
use heldout_train::study::Conducted;

use super::processes::{Board, Progress, lock};
use crate::console::{Console, Verbosity};
use crate::live::paint::{Line, Paint};
use crate::live::terminal;

/// Shows a study.
pub struct StudyBoard<'a> {
    console: &'a Console,
    progress: Board,
    began: Instant,
    budget: Option<f64>,
    /// Effects so far, by contrast; drawn up anew when a trial ends.
    effects: Vec<String>,
    /// Trials that had ended before we began.
    ended_before: Option<usize>,
    is_drawn: bool,
}

/// Seeds that fit beside names and effects.
const SEEDS_MOST: usize = 12;

impl<'a> StudyBoard<'a> {
    /// A board that shows nothing yet.
    pub fn new(console: &'a Console, progress: Board, budget: Option<f64>) -> StudyBoard<'a> {
        let began = Instant::now();
        let (effects, ended_before) = (Vec::new(), None);
        StudyBoard { console, progress, began, budget, effects, ended_before, is_drawn: false }
    }

    /// Shows the state of things.
    pub fn show(&mut self, now: &Conducted<'_>) {
        self.ended_before.get_or_insert_with(|| ended(now.events) - ended(now.news));
        if !now.news.is_empty() || self.effects.is_empty() {
            self.effects = effects(now.study, now.events);
        }
        let size = terminal::size().filter(|_| self.console.is_live_possible);
        for event in now.news {
            if let Some(line) = self.line(now, event, size) {
                self.console.note(&line);
            }
        }
        if let Some(size) = size {
            let rows = size.1.saturating_sub(1).max(1);
            let mut lines = self.frame(now, size.0);
            lines.truncate(rows);
            let lines: Vec<Line> =
                lines.into_iter().map(|line| line.cut(size.0.saturating_sub(1))).collect();
            let plain = |line: Line| {
                Line(line.0.into_iter().map(|(t, p)| (self.console.plain(&t), p)).collect())
            };
            let lines: Vec<Line> = lines.into_iter().map(plain).collect();
            terminal::draw(&lines, size, self.console.colors_err);
            self.is_drawn = true;
        }
    }

    /// Takes the table away.
    pub fn finish(self) {
        if self.is_drawn {
            terminal::clear();
        }
    }

    /// What one line of the ledger says to a person; beside a table only what it cannot show.
    fn line(
        &self,
        now: &Conducted<'_>,
        event: &TrialEvent,
        table: Option<(usize, usize)>,
    ) -> Option<String> {
        let is_verbose = self.console.verbosity == Verbosity::Verbose;
        let line = match event {
            TrialEvent::Started(begun) if is_verbose => format!("{}: begins", begun.trial),
            TrialEvent::Resumed(begun) => format!("{}: goes on", begun.trial),
            TrialEvent::Finished(_) if table.is_some() && !is_verbose => return None,
            TrialEvent::Finished(t) if t.is_tuning => format!(
                "{}: validation {} with the rate × {}",
                t.trial,
                format::nats(t.loss_valid),
                t.rate_factor
            ),
            TrialEvent::Finished(t) => format!(
                "{} {}: test {}, validation {}, gap {} ({}){}",
                self.count(now),
                t.trial,
                format::nats(t.loss_test),
                format::nats(t.loss_valid),
                format::nats(t.gap),
                format::duration(t.seconds),
                self.time_left(now).map_or(String::new(), |left| format!(", {left}"))
            ),
            TrialEvent::Failed(t) => {
                let why = t.detail.lines().next().unwrap_or_default();
                format!("{} {}: failed: {why}", self.count(now), t.trial)
            }
            TrialEvent::Looked(look) => {
                let settled: Vec<&str> = look
                    .findings
                    .iter()
                    .filter(|f| f.is_settled)
                    .map(|f| f.contrast.as_str())
                    .collect();
                let what = match settled.as_slice() {
                    [] => "no effect is settled yet".to_owned(),
                    names => format!("settled: {}", names.join(", ")),
                };
                format!("look at {} seeds: {what}", look.seeds)
            }
            TrialEvent::Started(_) => return None,
        };
        Some(line)
    }

    fn count(&self, now: &Conducted<'_>) -> String {
        format!("[{}/{}]", ended(now.events), planned(now.study, now.events))
    }

    /// How long the rest may take, by the pace so far.
    fn time_left(&self, now: &Conducted<'_>) -> Option<String> {
        let ended = ended(now.events);
        let here = ended.saturating_sub(self.ended_before.unwrap_or(ended));
        let left = planned(now.study, now.events).saturating_sub(ended);
        if here == 0 || left == 0 {
            return None;
        }
        let seconds = self.began.elapsed().as_secs_f64() * left as f64 / here as f64;
        Some(format!("about {} left", format::duration(seconds)))
    }

    fn frame(&self, now: &Conducted<'_>, width: usize) -> Vec<Line> {
        let trials = Trials::new(now.events);
        let mut head = format!(
            "{} of {} trials, {}",
            ended(now.events),
            planned(now.study, now.events),
            format::duration(self.began.elapsed().as_secs_f64())
        );
        if let Some(budget) = self.budget {
            head.push_str(&format!(" of {}", format::duration(budget)));
        }
        if let Some(left) = self.time_left(now) {
            head.push_str(&format!(", {left}"));
        }
        let mut lines = vec![Line::of(head, Paint::Faint)];
        let rates = now.events.iter().filter(|e| is_rate_trial(e)).count();
        if let Some(tuning) = &now.study.tuning {
            let all = tuning.factors.len() * now.study.arms.len();
            lines.push(Line::of(format!("learning rates: {rates} of {all} trials"), Paint::Faint));
        }
        let current = seeds_done(now.study, now.events);
        let name = now.study.arms.iter().map(|a| a.name.chars().count()).max().unwrap_or(0);
        let places = visible(now.study.seeds.len(), current, width, name);
        for arm in &now.study.arms {
            let mut line = Line::of(format!("{:name$}  ", arm.name), Paint::Plain);
            for place in places.clone() {
                let (text, paint) = self.cell(now, &trials, &arm.name, place);
                line.push(format!("{text:>4} "), paint);
            }
            lines.push(line);
        }
        lines.push(Line::default());
        lines.extend(self.effects.iter().map(|text| Line::of(text.as_str(), Paint::Plain)));
        lines
    }

    fn cell(
        &self,
        now: &Conducted<'_>,
        trials: &Trials<'_>,
        arm: &str,
        place: usize,
    ) -> (String, Paint) {
        let seed = now.study.seeds[place];
        let here = |s: &&heldout_train::study::TrialSpec| s.arm == arm && s.seed == seed;
        let worker = now.running.iter().find(|(_, spec)| here(spec)).map(|(worker, _)| *worker);
        if let Some(worker) = worker {
            let Progress { step, of } = lock(&self.progress)[worker];
            let percent = (100 * step.min(of)).checked_div(of).unwrap_or(0);
            return (format!("{percent}%"), Paint::Series(1));
        }
        if trials.failure(arm, seed).is_some() {
            return ("fail".into(), Paint::Bad);
        }
        if trials.get(arm, seed).is_some() {
            return ("✓".into(), Paint::Good);
        }
        match arms_wanted(now.study, now.events, place).iter().any(|a| a.name == arm) {
            true => ("·".into(), Paint::Faint),
            false => ("–".into(), Paint::Faint),
        }
    }
}

/// Trials that count and have ended.
fn ended(events: &[TrialEvent]) -> usize {
    let trials = Trials::new(events);
    trials.finished_count() + trials.failed_count()
}

fn is_rate_trial(event: &TrialEvent) -> bool {
    match event {
        TrialEvent::Finished(t) => t.is_tuning,
        TrialEvent::Failed(t) => t.is_tuning,
        _ => false,
    }
}

/// The places of the seeds that fit, around the one that is being run.
fn visible(seeds: usize, current: usize, width: usize, name: usize) -> std::ops::Range<usize> {
    let fit = (width.saturating_sub(name + 3) / 5).clamp(1, SEEDS_MOST).min(seeds);
    let start = (current + 1).saturating_sub(fit / 2 + 1).min(seeds - fit);
    start..start + fit
}

/// Trials that are still to come, with those that were; settled effects need no more.
fn planned(study: &Study, events: &[TrialEvent]) -> usize {
    (0..study.seeds.len()).map(|place| arms_wanted(study, events, place).len()).sum()
}

/// One line a contrast: the effect so far with its interval.
fn effects(study: &Study, events: &[TrialEvent]) -> Vec<String> {
    let result = analyze(study, events, Standing::Running);
    let name = result.effects.iter().map(|e| e.name.chars().count()).max().unwrap_or(0);
    let line = |e: &heldout_record::study::EffectRecord| {
        let figures = match e.pairs {
            0 => "no pair yet".to_owned(),
            1 => format!("{} so far, one pair", signed(e.test.mean)),
            n => format!(
                "{} ({} to {}), {n} pairs, {}",
                signed(e.test.mean),
                signed(e.test.low),
                signed(e.test.high),
                e.verdict.words()
            ),
        };
        format!("{:name$}  gains {figures}", e.name)
    };
    result.effects.iter().map(line).collect()
}

/// A difference with its sign: `+0.041`.
pub fn signed(value: f64) -> String {
    let text = format::nats(value);
    if value.is_nan() || text.starts_with('-') { text } else { format!("+{text}") }
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn the_seed_that_runs_is_in_view() {
        assert_eq!(visible(5, 0, 100, 10), 0..5);
        assert_eq!(visible(30, 0, 100, 10), 0..12);
        for current in 0..30 {
            for width in [20, 40, 100] {
                let shown = visible(30, current, width, 10);
                assert!(shown.contains(&current) && shown.end <= 30, "{current} of {shown:?}");
            }
        }
        assert_eq!(visible(30, 29, 100, 10), 18..30);
    }
}
