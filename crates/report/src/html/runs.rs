//! The sections of a page about one run, and about several.

use maud::{Markup, html};

use super::table::{Column, cell, folded, prose, table};
use super::{Section, charts, parts};
use crate::document::{Comparison, ComparisonRow, Document, RunPart};
use crate::format::{self, known};
use crate::statistics::normal_interval;
use crate::summary::{Verdict, perplexity, plus_minus};

/// The figures below the lead: a number, its unit, what it is.
pub fn figures(run: &RunPart) -> Markup {
    let Some(best) = &run.best else { return html! {} };
    let interval = normal_interval(best.gap, best.gap_se, 0.95);
    let between = format!("95%: {} to {}", format::nats(interval.low), format::nats(interval.high));
    let (rise, since) = match &run.verdict {
        Verdict::Overfitting { nats, since_step, .. } => (
            format!("+{}", format::nats(*nats)),
            format!("since step {}", format::count(*since_step)),
        ),
        Verdict::Level { nats, .. } => {
            (format!("+{}", format::nats(*nats)), "within its error".to_owned())
        }
        _ => ("none".to_owned(), "the end is the best".to_owned()),
    };
    let figures = [
        (
            "held-out loss",
            format::nats(best.loss_valid),
            format!("± {} {}", format::nats(best.loss_valid_se), run.unit()),
        ),
        ("gap", format::nats(best.gap), between),
        ("rise after the best", rise, since),
    ];
    let own = match run.is_classifier() || run.is_masked() || run.answers_questions() {
        true => best.metrics.iter().map(metric).collect(),
        false => vec![
            ("perplexity".to_owned(), perplexity(best.perplexity), "per token".to_owned()),
            (
                "bits per byte".to_owned(),
                format::fixed(best.bits_per_byte, 3),
                "of held-out text".to_owned(),
            ),
        ],
    };
    let [loss, rest @ ..] = figures.map(|(name, value, more)| (name.to_owned(), value, more));
    let figures: Vec<_> = std::iter::once(loss).chain(own).chain(rest).collect();
    html! {
        dl.figures { @for (name, value, more) in &figures {
            div { dt { (name) } dd { strong { (value) } span { (more) } } }
        } }
    }
}

/// A figure of the task, the training sample's beside it.
fn metric(metric: &heldout_record::MetricRecord) -> (String, String, String) {
    let of = |value| match metric.name.as_str() {
        "bleu" | "chrf" => format::fixed(value, 2),
        _ => format::fixed(value, 3),
    };
    (metric.name.clone(), of(metric.valid), format!("training sample {}", of(metric.train)))
}

/// A page about one run.
pub fn one(run: &RunPart) -> Vec<Section> {
    let mut sections = vec![
        Section::new("curves", "Curves", charts::losses(run)),
        Section::new("diagnosis", "Diagnosis", parts::diagnosis(run)),
        Section::new("training", "Training", charts::training(run)),
        Section::new("plan", "Plan and recipe", parts::plan(run)),
        Section::new("receipts", "Receipts", parts::receipts(run)),
        Section::new("data", "Data", parts::data(run)),
    ];
    if let Some(found) = &run.confusion {
        let section = Section::new("labels", "Labels", super::labels::confusion(found));
        sections.insert(1, section);
    }
    if let Some(found) = &run.answers {
        sections.insert(1, Section::new("answers", "Answers", super::answers::answers(found)));
    }
    if let Some(writing) = &run.writing {
        let section = Section::new("writing", "What it writes", super::writing::written(writing));
        sections.insert(1, section);
    }
    if !run.guards.is_empty() {
        sections.push(Section::new("guard", "Guard", parts::guards(run)));
    }
    if !run.samples.is_empty() {
        sections.push(Section::new("samples", "Samples", parts::samples(run)));
    }
    sections.push(Section::new("time", "Time", parts::time(run)));
    sections.push(Section::new("environment", "Environment", parts::environment(run)));
    sections
}

/// A page about several runs.
pub fn several(document: &Document) -> Vec<Section> {
    let Some(comparison) = &document.comparison else { return Vec::new() };
    let mut sections = vec![Section::new("comparison", "Comparison", compared(comparison))];
    if let Some(sweep) = &comparison.sweep {
        sections.push(Section::new("sweep", "Gap against strength", charts::sweep(sweep)));
    }
    sections.push(Section::new("curves", "Curves", charts::overlaid(&document.runs)));
    sections.push(Section::new("settings", "What differs", varied(comparison)));
    sections.push(Section::new("runs", "The runs", details(&document.runs)));
    sections
}

fn compared(comparison: &Comparison) -> Markup {
    let (text, number) = (Column::Text, Column::Number);
    let head = [
        ("run", text),
        ("held-out", number),
        ("difference", number),
        ("beyond noise", text),
        ("gap", number),
        ("perplexity", number),
        ("bits/byte", number),
        ("rise after best", number),
        ("time", number),
    ];
    html! {
        (table("The best evaluation of each run", &head, comparison.rows.iter().map(row)))
        @if comparison.measure.is_some() {
            p.small {
                "Differences are to " strong { (comparison.reference) } ", in "
                (comparison.unit()) ", with 95% intervals; negative is better."
            }
        }
        ul.caveats { @for caveat in &comparison.caveats { li { (prose(caveat)) } } }
    }
}

fn row(row: &ComparisonRow) -> Vec<Markup> {
    let (difference, beyond) = match row.difference {
        None => (html! { "–" }, html! { "–" }),
        Some(d) => {
            let interval = format!("{} to {}", format::nats(d.low), format::nats(d.high));
            let word = match (d.exceeds_noise, d.value < 0.0) {
                (true, true) => html! { span.good { "yes, better" } },
                (true, false) => html! { span.bad { "yes, worse" } },
                (false, _) => html! { "no" },
            };
            (html! { (format::signed(d.value)) " " span.faint { "(" (interval) ")" } }, word)
        }
    };
    vec![
        html! { a href=(format!("#run-{}", slug(&row.run))) { (row.run) } },
        cell(known(row.loss, plus_minus(row.loss, row.loss_se))),
        difference,
        beyond,
        cell(known(row.gap, plus_minus(row.gap, row.gap_se))),
        cell(known(row.perplexity, perplexity(row.perplexity))),
        cell(known(row.bits_per_byte, format::fixed(row.bits_per_byte, 3))),
        cell(known(row.rise, format::nats(row.rise))),
        cell(format::duration(row.seconds)),
    ]
}

fn varied(comparison: &Comparison) -> Markup {
    if comparison.varied.is_empty() {
        return html! { p.none { "No setting that matters." } };
    }
    let mut head = vec![("setting", Column::Text)];
    head.extend(comparison.rows.iter().map(|row| (row.run.as_str(), Column::Text)));
    let rows = comparison.varied.iter().map(|varied| {
        let mut cells = vec![html! { code { (varied.key) } }];
        cells.extend(varied.values.iter().map(|value| html! { code { (value) } }));
        cells
    });
    table("Settings in which the runs differ", &head, rows)
}

fn details(runs: &[RunPart]) -> Markup {
    html! { @for run in runs {
        article id=(format!("run-{}", slug(&run.name))) {
            h3 { (run.name) }
            p { (run.lead.join(" ")) }
            (folded("Diagnosis", parts::diagnosis(run)))
            (folded("Plan and recipe", parts::plan(run)))
            (folded("Receipts", parts::receipts(run)))
            (folded("Data", parts::data(run)))
            @if !run.guards.is_empty() { (folded("Guard", parts::guards(run))) }
            @if !run.samples.is_empty() { (folded("Samples", parts::samples(run))) }
            (folded("Time", parts::time(run)))
            (folded("Environment", parts::environment(run)))
        }
    } }
}

/// A name as part of an address: letters and digits, anything else as its number.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars() {
        match c.is_ascii_alphanumeric() || c == '-' || c == '_' {
            true => slug.push(c),
            false => slug.push_str(&format!(".{:x}", c as u32)),
        }
    }
    slug
}
