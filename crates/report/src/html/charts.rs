//! Which curves of a run are drawn, and how.

use maud::{Markup, html};

use super::chart::{Chart, Curve, CurveKind, Point, Size};
use super::table::{Column, cell, figures_of, table};
use crate::document::{KnobPoint, KnobSweep, RunPart, StepSummary};
use crate::format;
use crate::summary::plus_minus;

/// More evaluations than this are thinned in the table, not in the chart's data.
const ROWS_MOST: usize = 60;

/// Held-out and training loss with their bands, the best step marked.
pub fn losses(run: &RunPart) -> Markup {
    let of =
        |name: &str, slot, dash, value: fn(&heldout_record::EvaluationRecord) -> (f64, f64)| {
            let point = |e| {
                let (loss, error) = value(e);
                Point::with_error(e.step as f64, loss, error)
            };
            let points = run.evaluations.iter().map(point).collect();
            Curve { name: name.to_owned(), slot, dash, points, kind: CurveKind::Line }
        };
    let mark = run.best.as_ref().map(|best| {
        let words = format!("best: {}", format::nats(best.loss_valid));
        (best.step as f64, best.loss_valid, words)
    });
    let chart = Chart {
        id: "losses".to_owned(),
        title: "Loss on held-out text and on the training sample".to_owned(),
        description: run.verdict.sentence(),
        x_label: "step".to_owned(),
        y_label: run.unit(),
        curves: vec![
            of("held-out", 0, 0, |e| (e.loss_valid, e.loss_valid_se)),
            of("training sample", 1, 1, |e| (e.loss_train, e.loss_train_se)),
        ],
        mark,
        level: run.baseline.as_ref().map(|baseline| {
            let words = format!("{}-gram: {}", baseline.order, format::nats(baseline.loss_valid));
            (baseline.loss_valid, words)
        }),
        ..Chart::default()
    };
    html! {
        figure {
            (chart.draw())
            figcaption {
                "Both are measured the same way: no dropout, no smoothing, the same weights. The "
                "distance between them is the gap. Bands are ±1.96 standard errors."
            }
        }
        (metrics(run))
        (evaluations(run))
    }
}

/// The task's own figures over the steps, a chart each.
fn metrics(run: &RunPart) -> Markup {
    let Some(best) = &run.best else { return html! {} };
    let charts = best.metrics.iter().enumerate().map(|(place, metric)| {
        let of = |name: &str, slot, dash, value: fn(&heldout_record::MetricRecord) -> f64| Curve {
            name: name.to_owned(),
            slot,
            dash,
            points: run
                .evaluations
                .iter()
                .filter_map(|e| Some(Point::bare(e.step as f64, value(e.metrics.get(place)?))))
                .collect(),
            kind: CurveKind::Line,
        };
        let beaten = match (&run.label_baseline, &run.answer_baseline, metric.name.as_str()) {
            (Some(baseline), _, "accuracy") => Some(("bag of words", baseline.bag.accuracy)),
            (_, Some(baseline), "exact-match") => {
                Some((baseline.name.as_str(), baseline.rule.exact_match))
            }
            (_, Some(baseline), "f1") => Some((baseline.name.as_str(), baseline.rule.f1)),
            _ => None,
        };
        Chart {
            id: format!("metric-{}", metric.name),
            title: format!("Held-out {}", metric.name),
            description: format!("{} over the steps of training", metric.name),
            x_label: "step".to_owned(),
            y_label: metric.name.clone(),
            size: Size::Half,
            curves: vec![
                of("held-out", 0, 0, |m| m.valid),
                of("training sample", 1, 1, |m| m.train),
            ],
            level: beaten
                .map(|(name, value)| (value, format!("{name}: {}", format::fixed(value, 3)))),
            ..Chart::default()
        }
    });
    let charts: Vec<Chart> = charts.take(2).collect();
    html! {
        @if !charts.is_empty() {
            div.pair { @for chart in &charts {
                figure { (chart.draw()) figcaption { (chart.title) } }
            } }
        }
    }
}

fn evaluations(run: &RunPart) -> Markup {
    let best = run.best.as_ref().map(|best| best.step);
    let (every, shown) = run.evaluations_shown(ROWS_MOST);
    let rows = shown.into_iter().map(|e| {
        let star = if Some(e.step) == best { " ★ best" } else { "" };
        vec![
            cell(format!("{}{star}", format::count(e.step))),
            cell(format::fixed(e.epoch, 1)),
            cell(plus_minus(e.loss_valid, e.loss_valid_se)),
            cell(plus_minus(e.loss_train, e.loss_train_se)),
            cell(plus_minus(e.gap, e.gap_se)),
            match e.metrics.first() {
                Some(metric) => cell(format::fixed(metric.valid, 4)),
                None => cell(crate::summary::perplexity(e.perplexity)),
            },
        ]
    });
    let number = Column::Number;
    let own = run.best.as_ref().and_then(|best| best.metrics.first());
    let head = [
        ("step", number),
        ("epoch", number),
        ("held-out", number),
        ("training sample", number),
        ("gap", number),
        (own.map_or("perplexity", |metric| metric.name.as_str()), number),
    ];
    let caption = match every {
        1 => "Every evaluation".to_owned(),
        every => format!("One evaluation in {every}, the best and the last"),
    };
    figures_of("The figures as a table", table(&caption, &head, rows))
}

/// Small charts of how training went: objective, learning rate, gradient norm.
pub fn training(run: &RunPart) -> Markup {
    if run.steps.is_empty() {
        return html! { p.none { "No step was recorded." } };
    }
    let bare = |value: fn(&StepSummary) -> f64| {
        run.steps.iter().map(|s| Point::bare(s.step as f64, value(s))).collect::<Vec<_>>()
    };
    let norm = run.steps.iter().map(|s| Point {
        x: s.step as f64,
        y: s.gradient_norm,
        low: s.gradient_norm_low,
        high: s.gradient_norm_high,
    });
    let chart = |id: &str, title: &str, unit: &str, slot, points| {
        let curve = Curve { name: title.to_owned(), slot, points, ..Curve::default() };
        Chart {
            id: id.to_owned(),
            title: title.to_owned(),
            description: format!("{title} over the steps of training"),
            x_label: "step".to_owned(),
            y_label: unit.to_owned(),
            size: Size::Small,
            curves: vec![curve],
            ..Chart::default()
        }
    };
    let charts = [
        chart("objective", "Training objective", "nats, as trained", 5, bare(|s| s.objective)),
        chart("rate", "Learning rate", "rate", 3, bare(|s| s.learning_rate)),
        chart("norm", "Gradient norm before clipping", "norm", 2, norm.collect()),
    ];
    let size = run.steps.iter().map(|s| s.count).max().unwrap_or(1);
    html! {
        div.multiples {
            @for chart in &charts {
                figure { (chart.draw()) figcaption { (chart.title) } }
            }
        }
        p.small {
            "The objective is the loss under training: with dropout, smoothing and penalties, so "
            "it is not comparable with the losses above. "
            @if size > 1 {
                "Each point is the mean of " (size) " steps; the band of the gradient norm is "
                "their range."
            }
        }
        (training_table(run))
    }
}

fn training_table(run: &RunPart) -> Markup {
    let every = run.steps.len().div_ceil(ROWS_MOST / 2).max(1);
    let rows = run.steps.iter().skip(every - 1).step_by(every).map(|s| {
        vec![
            cell(format::count(s.step)),
            cell(format::nats(s.objective)),
            cell(format::nats(s.loss_train)),
            cell(format::rate(s.learning_rate)),
            cell(format::nats(s.gradient_norm)),
        ]
    });
    let number = Column::Number;
    let head = [
        ("step", number),
        ("objective", number),
        ("of this the likelihood", number),
        ("learning rate", number),
        ("gradient norm", number),
    ];
    figures_of("The figures as a table", table("Training, a part of the steps", &head, rows))
}

/// Held-out loss of several runs over each other.
pub fn overlaid(runs: &[RunPart]) -> Markup {
    let curve = |(i, run): (usize, &RunPart)| Curve {
        name: run.name.clone(),
        slot: i % 8,
        dash: i % 4,
        points: run
            .evaluations
            .iter()
            .map(|e| Point::with_error(e.step as f64, e.loss_valid, e.loss_valid_se))
            .collect(),
        kind: CurveKind::Line,
    };
    let gap = |(i, run): (usize, &RunPart)| Curve {
        points: run
            .evaluations
            .iter()
            .map(|e| Point::with_error(e.step as f64, e.gap, e.gap_se))
            .collect(),
        ..curve((i, run))
    };
    let chart = |id: &str, title: &str, curves| Chart {
        id: id.to_owned(),
        title: title.to_owned(),
        description: format!("{title} over the steps of {} runs", runs.len()),
        x_label: "step".to_owned(),
        y_label: "nats per token".to_owned(),
        curves,
        ..Chart::default()
    };
    let losses = chart("losses", "Held-out loss", runs.iter().enumerate().map(curve).collect());
    let gaps = chart("gaps", "Gap", runs.iter().enumerate().map(gap).collect());
    html! {
        figure { (losses.draw()) figcaption {
            "Loss on held-out text, with bands of ±1.96 standard errors."
        } }
        figure { (gaps.draw()) figcaption {
            "Gap: held-out loss minus the loss on the training sample, measured alike."
        } }
    }
}

/// Loss and gap along the number in which the runs differ.
pub fn sweep(sweep: &KnobSweep) -> Markup {
    let spans_decades = {
        let positive = sweep.points.iter().all(|p| p.value > 0.0);
        let (first, last) = (sweep.points.first(), sweep.points.last());
        let ratio = first.zip(last).map_or(1.0, |(first, last)| last.value / first.value);
        positive && ratio > 20.0
    };
    let place = |value: f64| if spans_decades { value.log10() } else { value };
    let chart = |id: &str, title: &str, slot, of: fn(&KnobPoint) -> (f64, f64)| {
        let point = |p: &KnobPoint| {
            let (value, error) = of(p);
            Point::with_error(place(p.value), value, error)
        };
        let points = sweep.points.iter().map(point).collect();
        let kind = CurveKind::Dots;
        Chart {
            id: id.to_owned(),
            title: format!("{title} against {}", sweep.key),
            description: format!("{title} with 95% intervals for each value of {}", sweep.key),
            x_label: sweep.key.clone(),
            y_label: "nats per token".to_owned(),
            size: Size::Half,
            curves: vec![Curve { name: title.to_owned(), slot, points, kind, dash: 0 }],
            x_ticks: sweep.points.iter().map(|p| (place(p.value), format::rate(p.value))).collect(),
            ..Chart::default()
        }
    };
    let charts = [
        chart("sweep-gap", "Gap", 1, |p| (p.gap, p.gap_se)),
        chart("sweep-loss", "Held-out loss", 0, |p| (p.loss, p.loss_se)),
    ];
    let rows = sweep.points.iter().map(|p| {
        vec![
            cell(format::rate(p.value)),
            cell(p.runs.to_string()),
            cell(plus_minus(p.gap, p.gap_se)),
            cell(plus_minus(p.loss, p.loss_se)),
        ]
    });
    let number = Column::Number;
    let head =
        [(sweep.key.as_str(), number), ("runs", number), ("gap", number), ("held-out", number)];
    html! {
        div.pair { @for chart in &charts {
            figure { (chart.draw()) figcaption { (chart.title) } }
        } }
        (table("Gap and held-out loss at the best step", &head, rows))
    }
}
