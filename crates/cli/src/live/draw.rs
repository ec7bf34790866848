//! The live view as lines: a pure function of the state, the size and the time.

use heldout_record::EvaluationRecord;
use heldout_report::format;
use heldout_report::plot::{Charset, Frame, Series, Stroke};
use heldout_report::summary::plus_minus;
use heldout_report::wrap::truncate;

use super::paint::{Line, Paint};
use super::state::{Lane, View};
use crate::picture;

/// Rows of the picture at most: more would push what was said out of sight.
const PLOT_ROWS: usize = 16;

/// Draws the view into at most `height` lines of less than `width` columns.
pub fn draw(view: &View, size: (usize, usize), charset: Charset, now: f64) -> Vec<Line> {
    // One column less: writing into the last one makes some terminals wrap.
    let width = size.0.saturating_sub(1);
    let height = size.1.saturating_sub(1).max(1);
    let mut lines = Vec::new();
    if view.lanes.iter().all(|lane| lane.started.is_none()) {
        lines.push(Line::of(view.phase.clone(), Paint::Faint));
    }
    for (i, lane) in view.lanes.iter().enumerate().filter(|(_, lane)| lane.started.is_some()) {
        lines.push(bar(lane, i, view.lanes.len(), width, charset, now));
        lines.extend(figures(lane, width));
    }
    let has_sample = view.lanes.len() == 1 && view.lanes[0].sample.is_some();
    let room = height.saturating_sub(lines.len() + usize::from(has_sample));
    let has_curves = view.lanes.iter().any(|lane| !lane.evaluations.is_empty());
    if has_curves && room >= 6 && width >= 24 {
        lines.extend(curves(view, width, room.min(PLOT_ROWS), charset));
    }
    if let [Lane { sample: Some(sample), .. }] = view.lanes.as_slice()
        && lines.len() < height
    {
        let mut line = Line::of(" writes ", Paint::Faint);
        line.push(truncate(sample, width.saturating_sub(line.width())), Paint::Plain);
        lines.push(line);
    }
    lines.truncate(height);
    lines.into_iter().map(|line| line.cut(width)).collect()
}

/// `━━━━━━╸────  63%  step 1,260/2,000  epoch 2.1  4 min 02 s left`.
fn bar(lane: &Lane, index: usize, lanes: usize, width: usize, charset: Charset, now: f64) -> Line {
    let mut parts = vec![format!("{:3.0}%", (lane.progress() * 100.0).floor())];
    let step = format::count(lane.step_count());
    parts.push(match lane.seconds_limit {
        Some(_) => format!("step {step}"),
        None => format!("step {step}/{}", format::count(lane.horizon())),
    });
    if let Some(step) = &lane.step {
        parts.push(format!("epoch {:.1}", step.epoch));
    }
    parts.push(match (&lane.stopped, lane.seconds_left(now)) {
        (Some(_), _) => "done".to_owned(),
        (None, Some(seconds)) => format!("{} left", format::duration(seconds)),
        (None, None) => "starting".to_owned(),
    });
    let mut line = Line::default();
    if lanes > 1 {
        line.push(format!("{:12} ", lane.name), curve_paint(index, lanes));
    }
    let text = loop {
        let text = parts.join("  ");
        let taken = line.width() + text.chars().count() + 2;
        if parts.len() == 1 || taken + 10 <= width {
            break text;
        }
        // Narrow terminals lose the epoch first, then the steps, then the time left.
        parts.remove(if parts.len() == 4 { 2 } else { 1 });
    };
    let room = width.saturating_sub(line.width() + text.chars().count() + 2).min(40);
    let filled = (lane.progress() * room as f64).round() as usize;
    let [full, empty] = match charset {
        Charset::Unicode => ['━', '─'],
        Charset::Ascii => ['#', '.'],
    };
    line.push(full.to_string().repeat(filled), Paint::Good);
    line.push(empty.to_string().repeat(room.saturating_sub(filled)), Paint::Faint);
    line.push(format!(" {text}"), Paint::Plain);
    line
}

/// The losses of the latest evaluation, the best so far, and the speed; as many lines as needed.
fn figures(lane: &Lane, width: usize) -> Vec<Line> {
    let mut parts: Vec<(String, Paint)> = Vec::new();
    if let Some(latest) = lane.latest() {
        parts.extend(losses(lane, &latest));
    } else if let Some(step) = &lane.step {
        parts.push((format!("loss {}", format::nats(step.loss_train)), Paint::Plain));
    }
    if let Some(step) = &lane.step {
        let speed = format::count(step.tokens_per_second.round() as u64);
        parts.push((format!("{speed} tokens/s"), Paint::Faint));
        parts.push((format!("rate {}", format::rate(step.learning_rate)), Paint::Faint));
    }
    let mut lines = vec![Line::default()];
    for (text, paint) in parts {
        let last = lines.len() - 1;
        let is_full = lines[last].width() + text.chars().count() + 3 > width;
        if is_full && lines[last].width() > 0 {
            lines.push(Line::default());
        }
        let last = lines.len() - 1;
        let space = if lines[last].width() == 0 { " " } else { "   " };
        lines[last].push(space, Paint::Plain);
        lines[last].push(text, paint);
    }
    lines
}

fn losses(lane: &Lane, latest: &EvaluationRecord) -> Vec<(String, Paint)> {
    let valid = plus_minus(latest.loss_valid, latest.loss_valid_se);
    let mut parts = vec![
        (format!("held-out {valid}"), Paint::Strong),
        (format!("train {}", format::nats(latest.loss_train)), Paint::Plain),
        (format!("gap {}", format::nats(latest.gap)), Paint::Plain),
    ];
    if let Some(best) = lane.summary().best() {
        let place =
            format!("best {} at {}", format::nats(best.loss_valid), format::count(best.step));
        parts.push((place, Paint::Good));
    }
    if let Some(baseline) = &lane.baseline {
        parts.push((format!("n-gram {}", format::nats(baseline.loss_valid)), Paint::Faint));
    }
    parts
}

/// All curves; with two lanes each lane has a colour, and its training curve is dashed.
fn curves(view: &View, width: usize, rows: usize, charset: Charset) -> Vec<Line> {
    let lanes = view.lanes.len();
    let mut series: Vec<Series> = view.lanes.iter().flat_map(Lane::curves).collect();
    if let Some(last) = series.last_mut().filter(|_| lanes > 1) {
        last.name = "train".to_owned();
    }
    let horizon = view.horizon() as f64;
    if let Some((name, nats)) = &view.floor {
        let points = vec![(0.0, *nats), (horizon, *nats)];
        series.push(Series { name: name.clone(), stroke: Stroke::Faint, points });
    }
    if let [Lane { baseline: Some(baseline), .. }] = view.lanes.as_slice() {
        let name = format!("{}-gram", baseline.order);
        let points = vec![(0.0, baseline.loss_valid), (horizon, baseline.loss_valid)];
        series.push(Series { name, stroke: Stroke::Faint, points });
    }
    let mark = match view.lanes.as_slice() {
        [only] => only.summary().best().map(|best| (best.step as f64, best.loss_valid)),
        _ => None,
    };
    let x_max = (horizon > 0.0).then_some(horizon);
    let mut frame = Frame { x_max, mark, ..picture::frame(width, rows, charset) };
    if let Some(started) = view.lanes.first().and_then(|lane| lane.started.as_ref()) {
        frame.y_label = format!("nats/{}", started.unit());
    }
    picture::draw(&series, &frame, &|i| match i {
        i if i / 2 >= lanes => Paint::Faint,
        i if lanes > 1 => curve_paint(i / 2, lanes),
        i => Paint::Series(i),
    })
}

fn curve_paint(lane: usize, lanes: usize) -> Paint {
    if lanes > 1 { Paint::Series(lane + 1) } else { Paint::Series(lane) }
}

#[cfg(test)]
mod tests;
