//! Runs as Markdown: one with all its parts, several as a comparison.

use heldout_record::manifest::Manifest;

use super::{Align, Page, escaped};
use crate::document::facts::{data_facts, examined};
use crate::document::{Comparison, Document, RunPart, capitalized};
use crate::format::{self, known};
use crate::profile;
use crate::summary::{perplexity, plus_minus};

/// Rows of a run's curve.
const ROWS_MOST: usize = 20;
/// Samples that are shown.
const SAMPLES_SHOWN: usize = 2;

pub(super) fn one(page: &mut Page, run: &RunPart) {
    page.heading(2, "Curve");
    evaluations(page, run);
    page.heading(2, "Diagnosis");
    diagnosis(page, run);
    page.heading(2, "Plan");
    plan(page, run);
    if !run.receipts.is_empty() {
        page.heading(2, "Receipts");
        let rows: Vec<Vec<String>> = run
            .receipts
            .iter()
            .map(|receipt| vec![receipt.technique.clone(), receipt.statement.clone()])
            .collect();
        page.table(&[("technique", Align::Left), ("measured", Align::Left)], &rows);
    }
    page.heading(2, "Data");
    page.facts(&data_facts(run));
    let notices = run.notices.iter().filter(|notice| notice.step.is_none());
    page.list(notices.map(|notice| notice.text.clone()));
    guards(page, run);
    written(page, run);
    samples(page, run);
    page.heading(2, "Time and environment");
    environment(page, run);
}

fn evaluations(page: &mut Page, run: &RunPart) {
    let best = run.best.as_ref().map(|best| best.step);
    let (_, shown) = run.evaluations_shown(ROWS_MOST);
    let rows: Vec<Vec<String>> = shown
        .into_iter()
        .map(|e| {
            let star = if Some(e.step) == best { "best" } else { "" };
            vec![
                format::count(e.step),
                format::fixed(e.epoch, 1),
                plus_minus(e.loss_valid, e.loss_valid_se),
                plus_minus(e.loss_train, e.loss_train_se),
                plus_minus(e.gap, e.gap_se),
                star.to_owned(),
            ]
        })
        .collect();
    let right = Align::Right;
    let head = [
        ("step", right),
        ("epoch", right),
        ("held-out", right),
        ("training sample", right),
        ("gap", right),
        ("", Align::Left),
    ];
    page.table(&head, &rows);
}

fn diagnosis(page: &mut Page, run: &RunPart) {
    let mut lines = Vec::new();
    for finding in &run.diagnosis.findings {
        lines.push(format!("**{}.**", escaped(&capitalized(&finding.sentence))));
        lines.extend(finding.evidence.iter().map(|line| format!("- {}", escaped(line))));
        lines.extend(finding.suggestions.iter().map(|suggestion| {
            let setting = suggestion.setting.as_ref();
            let setting = setting.map(|s| format!(" (`--set {s}`)")).unwrap_or_default();
            format!("- try: {}{setting}", escaped(&suggestion.text))
        }));
        page.block(&lines.join("\n"));
        lines.clear();
    }
    page.facts(&examined(run));
}

fn plan(page: &mut Page, run: &RunPart) {
    if let Some(manifest) = &run.manifest {
        page.list(manifest.plan.iter().cloned());
    }
    let rows: Vec<Vec<String>> = run
        .recipe
        .iter()
        .map(|line| vec![line.key.clone(), line.value.clone(), line.origin.clone()])
        .collect();
    let left = Align::Left;
    page.table(&[("setting", left), ("value", left), ("where it is from", left)], &rows);
}

fn guards(page: &mut Page, run: &RunPart) {
    if run.guards.is_empty() {
        return;
    }
    page.heading(2, "Guard");
    let rows: Vec<Vec<String>> = run
        .guards
        .iter()
        .map(|guard| vec![format::count(guard.step), guard.cause.clone(), guard.action.clone()])
        .collect();
    page.table(&[("step", Align::Right), ("noticed", Align::Left), ("done", Align::Left)], &rows);
}

/// What a model that writes texts wrote at its end, from the worst on.
fn written(page: &mut Page, run: &RunPart) {
    let Some(writing) = &run.writing else { return };
    page.heading(2, "What it writes");
    page.list(writing.signatures.iter().cloned());
    let row = |kind: &str, one: &heldout_record::WrittenRecord| {
        let (score, line) = (format::fixed(one.score, 2), format::count(one.line));
        let texts = [&one.source, &one.reference, &one.written].map(Clone::clone);
        [kind.to_owned(), line, score].into_iter().chain(texts).collect()
    };
    let worst = writing.worst.iter().map(|one| row("worst", one));
    let rows: Vec<Vec<String>> =
        worst.chain(writing.best.iter().map(|one| row("best", one))).collect();
    let (left, right) = (Align::Left, Align::Right);
    let head = [
        ("", left),
        ("line", right),
        ("score", right),
        ("source", left),
        ("reference", left),
        ("written", left),
    ];
    page.table(&head, &rows);
}

fn samples(page: &mut Page, run: &RunPart) {
    if run.samples.is_empty() {
        return;
    }
    page.heading(2, "Samples");
    for sample in run.samples.iter().rev().take(SAMPLES_SHOWN) {
        page.paragraph(&format!("Step {}:", format::count(sample.step)));
        page.verbatim(&format!("{}{}", sample.prompt, sample.text));
    }
}

fn environment(page: &mut Page, run: &RunPart) {
    let mut rows = vec![
        ("folder", run.path.clone()),
        ("training time", format::duration(run.seconds)),
        ("spent on", run.timing.as_ref().and_then(profile::shares).unwrap_or_default()),
    ];
    if let Some(started) = &run.started {
        let parameters = format::count(started.parameters);
        rows.push(("model", format!("{}, {parameters} parameters", started.model)));
        rows.push(("device", format!("{}, {}", started.device, started.precision)));
    }
    if let Some(manifest) = &run.manifest {
        rows.extend(manifest_rows(manifest));
    }
    page.facts(&rows);
    page.list(run.problems.iter().cloned());
}

fn manifest_rows(manifest: &Manifest) -> Vec<(&'static str, String)> {
    let machine = &manifest.machine;
    let mut rows = vec![
        ("seed", manifest.seed.to_string()),
        ("started", manifest.started.clone()),
        ("machine", format!("{}, {} cores, {}", machine.processor, machine.cores, machine.system)),
        ("command", manifest.command_line.join(" ")),
    ];
    rows.extend(manifest.data.iter().map(|file| ("data", format!("{}: {}", file.path, file.hash))));
    rows
}

pub(super) fn several(page: &mut Page, document: &Document) {
    let Some(comparison) = &document.comparison else { return };
    page.heading(2, "Comparison");
    compared(page, comparison);
    page.list(comparison.caveats.iter().cloned());
    if let Some(sweep) = &comparison.sweep {
        page.heading(2, "Gap against strength");
        let right = Align::Right;
        let head =
            [(sweep.key.as_str(), right), ("runs", right), ("gap", right), ("held-out", right)];
        let rows: Vec<Vec<String>> = sweep
            .points
            .iter()
            .map(|p| {
                vec![
                    format::rate(p.value),
                    p.runs.to_string(),
                    plus_minus(p.gap, p.gap_se),
                    plus_minus(p.loss, p.loss_se),
                ]
            })
            .collect();
        page.table(&head, &rows);
    }
    if !comparison.varied.is_empty() {
        page.heading(2, "What differs");
        let mut head = vec![("setting", Align::Left)];
        head.extend(comparison.rows.iter().map(|row| (row.run.as_str(), Align::Left)));
        let rows: Vec<Vec<String>> = comparison
            .varied
            .iter()
            .map(|varied| [vec![varied.key.clone()], varied.values.clone()].concat())
            .collect();
        page.table(&head, &rows);
    }
    page.heading(2, "The runs");
    for run in &document.runs {
        page.paragraph(&format!("**{}** {}", escaped(&run.name), escaped(&run.lead.join(" "))));
    }
}

fn compared(page: &mut Page, comparison: &Comparison) {
    let (left, right) = (Align::Left, Align::Right);
    let head = [
        ("run", left),
        ("held-out", right),
        ("difference", right),
        ("95%", right),
        ("beyond noise", left),
        ("gap", right),
        ("perplexity", right),
        ("bits/byte", right),
        ("time", right),
    ];
    let rows: Vec<Vec<String>> = comparison
        .rows
        .iter()
        .map(|row| {
            let (difference, interval, beyond) = match row.difference {
                None => ("–".to_owned(), "–".to_owned(), "–"),
                Some(d) => {
                    let word = match (d.exceeds_noise, d.value < 0.0) {
                        (true, true) => "yes, better",
                        (true, false) => "yes, worse",
                        (false, _) => "no",
                    };
                    (format::signed(d.value), format::interval(d.low, d.high), word)
                }
            };
            vec![
                row.run.clone(),
                known(row.loss, plus_minus(row.loss, row.loss_se)),
                difference,
                interval,
                beyond.to_owned(),
                known(row.gap, plus_minus(row.gap, row.gap_se)),
                known(row.perplexity, perplexity(row.perplexity)),
                known(row.bits_per_byte, format::fixed(row.bits_per_byte, 3)),
                format::duration(row.seconds),
            ]
        })
        .collect();
    page.table(&head, &rows);
    if comparison.measure.is_some() {
        page.paragraph(&format!(
            "Differences are to {}, in {}; negative is better.",
            escaped(&comparison.reference),
            comparison.unit()
        ));
    }
}
