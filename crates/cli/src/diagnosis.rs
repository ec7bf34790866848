//! A diagnosis as a person reads it: findings with their reasons and what to try, then the figures.

use heldout_record::{Event, Examination, RunDir};
use heldout_report::diagnosis::{Diagnosis, Finding, Severity, Suggestion, Vitals};
use heldout_report::format::{self, share};
use heldout_report::plot::Frame;
use heldout_report::summary::RunSummary;
use heldout_report::wrap::wrap;

use crate::console::{Console, Verbosity};
use crate::failure::Failure;
use crate::live::paint::{Line, Paint};
use crate::outcome::{print_table, shell_word};
use crate::{picture, registry};

/// Rows of the picture above the findings.
const PICTURE_ROWS: usize = 12;

/// Prints everything found.
pub fn print_diagnosis(
    run: &RunDir,
    model: &str,
    diagnosis: &Diagnosis,
    events: &[Event],
    console: &Console,
) -> Result<(), Failure> {
    let mut title = Line::of(run.root.display().to_string(), Paint::Strong);
    title.push(format!("  {model}"), Paint::Faint);
    console.out_line(&title.trimmed())?;
    console.out("")?;
    print_curves(events, console)?;
    for finding in &diagnosis.findings {
        print_finding(finding, console)?;
        console.out("")?;
    }
    print_table(&figures(&diagnosis.vitals), console)?;
    if let Some(found) = &diagnosis.examination {
        print_table(&looked_at(found), console)?;
        if console.verbosity == Verbosity::Verbose {
            print_table(&reliability(found), console)?;
        }
        let notices = found.notices.iter().map(|text| ("note".to_owned(), text.clone()));
        print_table(&notices.collect::<Vec<_>>(), console)?;
    }
    print_next(run, diagnosis, console)
}

fn print_curves(events: &[Event], console: &Console) -> Result<(), Failure> {
    let summary = RunSummary::from_events(events);
    if summary.evaluations.len() < 2 {
        return Ok(());
    }
    let mark = summary.best().map(|best| (best.step as f64, best.loss_valid));
    let frame = picture::frame(console.width, PICTURE_ROWS, console.charset);
    let lines = picture::draw(
        &summary.curves(),
        &Frame { mark, y_label: summary.unit(), ..frame },
        &Paint::Series,
    );
    lines.into_iter().try_for_each(|line| console.out_line(&line.trimmed()))?;
    console.out("")
}

fn print_finding(finding: &Finding, console: &Console) -> Result<(), Failure> {
    let (mark, paint) = match finding.severity {
        Severity::Bad => ("×", Paint::Bad),
        Severity::Warning => ("!", Paint::Warning),
        Severity::Note => ("·", Paint::Faint),
        Severity::Good => ("✓", Paint::Good),
    };
    let is_loud = finding.severity != Severity::Note;
    for (i, text) in wrap(&finding.sentence, console.width, "  ", "  ").iter().enumerate() {
        let mut line = Line::of(if i == 0 { mark } else { " " }, paint);
        line.push(&text[1..], if is_loud { Paint::Strong } else { Paint::Plain });
        console.out_line(&line)?;
    }
    for text in &finding.evidence {
        for line in wrap(&capital(text), console.width, "  ", "  ") {
            console.out_line(&Line::of(line, Paint::Plain))?;
        }
    }
    for (i, suggestion) in finding.suggestions.iter().enumerate() {
        let label = if i == 0 { "  try  " } else { "       " };
        print_suggestion(label, suggestion, console)?;
    }
    Ok(())
}

fn print_suggestion(
    label: &str,
    suggestion: &Suggestion,
    console: &Console,
) -> Result<(), Failure> {
    let mut label = label;
    if let Some(setting) = &suggestion.setting {
        let mut line = Line::of(label, Paint::Faint);
        line.push(format!("--set {}", shell_word(setting)), Paint::Good);
        console.out_line(&line)?;
        label = "       ";
    }
    let card = suggestion.technique.as_deref().and_then(registry::technique);
    let source = card.map(|card| format!(" [heldout explain {}: {}]", card.name, card.paper));
    let text = suggestion.text.clone() + &source.unwrap_or_default();
    for (i, line) in wrap(&text, console.width, "       ", "       ").iter().enumerate() {
        let mut out = Line::of(if i == 0 { label } else { "       " }, Paint::Faint);
        out.push(line.trim_start(), Paint::Plain);
        console.out_line(&out)?;
    }
    Ok(())
}

/// A sentence with its first letter large and a full stop.
fn capital(text: &str) -> String {
    let mut characters = text.chars();
    let first: String = characters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", characters.as_str())
}

/// Gradients and updates in a line each.
fn figures(vitals: &Vitals) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    if vitals.steps > 0 {
        let mut text = format!(
            "norm {} at first, {} at the end (medians), at most {} at step {}",
            format::rate(rounded(vitals.gradient_norm_early)),
            format::rate(rounded(vitals.gradient_norm_late)),
            format::rate(rounded(vitals.gradient_norm_most)),
            format::count(vitals.gradient_norm_most_step)
        );
        if let Some(clipped) = vitals.clipped_share {
            text.push_str(&format!("; clipped in {} of the steps", share(clipped)));
        }
        rows.push(("gradients".to_owned(), text));
    }
    if let (Some(ratio), Some(last)) = (vitals.update_ratio, vitals.update_ratio_last) {
        let text = format!(
            "one changes the weights by {} of their size (median), the last by {}",
            share(ratio),
            share(last)
        );
        rows.push(("updates".to_owned(), text));
    }
    if vitals.loss_spikes + vitals.gradient_spikes + vitals.guard_interventions > 0 {
        let text = format!(
            "{} of the loss, {} of the gradient; the guard acted {} times",
            format::count(vitals.loss_spikes),
            format::count(vitals.gradient_spikes),
            format::count(vitals.guard_interventions)
        );
        rows.push(("spikes".to_owned(), text));
    }
    rows
}

/// Three significant digits.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10f64.powi(2 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

/// What the look at the model showed, in a line each.
fn looked_at(found: &Examination) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |label: &str, text: String| rows.push((label.to_owned(), text));
    if let Some(c) = &found.calibration {
        let gain = format::nats(c.temperature_gain);
        row(
            "calibrated",
            format!(
                "sure {} on average, right {}: expected error {:.3}; temperature {:.2} would gain \
                 {gain} nats ({} held-out tokens)",
                share(c.confidence),
                share(c.accuracy),
                c.error,
                c.temperature,
                format::count(c.targets)
            ),
        );
    }
    if let Some(m) = &found.memorization {
        row(
            "memory",
            format!(
                "{} of {} training windows word for word ({} tokens after {}), {} of {} held-out \
                 ones",
                format::count(m.train.verbatim),
                format::count(m.train.windows),
                m.continuation,
                m.prompt,
                format::count(m.valid.verbatim),
                format::count(m.valid.windows)
            ),
        );
    }
    if let Some(improbable) = &found.improbable {
        let [train, valid] = improbable.noise();
        let text = format!(
            "about {} of the held-out tokens look like chance, {} of the training tokens",
            share(valid),
            share(train)
        );
        row("noise", text);
    }
    if let Some(overlap) = &found.overlap {
        row(
            "leaks",
            format!(
                "{} of {} held-out windows ({} tokens) stand word for word in training",
                format::count(overlap.found),
                format::count(overlap.windows),
                overlap.length
            ),
        );
    }
    for canary in &found.canaries {
        let text = format!(
            "{:?}: rank {} of {}, exposure {:.1} bits",
            canary.text,
            format::count(canary.rank),
            format::count(canary.candidates + 1),
            canary.exposure
        );
        row("planted", text);
    }
    rows
}

/// The reliability table, a line for each bin that holds anything.
fn reliability(found: &Examination) -> Vec<(String, String)> {
    let Some(calibration) = &found.calibration else { return Vec::new() };
    let filled = calibration.bins.iter().filter(|bin| bin.count > 0);
    filled
        .enumerate()
        .map(|(i, bin)| {
            let label = if i == 0 { "reliable" } else { "" };
            let text = format!(
                "{:.2} to {:.2}: sure {:.3}, right {:.3}, {} tokens",
                bin.low,
                bin.high,
                bin.confidence,
                bin.accuracy,
                format::count(bin.count)
            );
            (label.to_owned(), text)
        })
        .collect()
}

/// The most promising setting as a command.
fn print_next(run: &RunDir, diagnosis: &Diagnosis, console: &Console) -> Result<(), Failure> {
    let suggestions = diagnosis.findings.iter().flat_map(|finding| &finding.suggestions);
    let Some(setting) = suggestions.filter_map(|s| s.setting.as_ref()).next() else {
        return Ok(());
    };
    let recipe = shell_word(&run.recipe().display().to_string());
    let command = format!("heldout train --recipe {recipe} --set {}", shell_word(setting));
    let mut line = Line::of("\ntry next   ", Paint::Faint);
    line.push(command, Paint::Plain);
    console.out_line(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cited_technique_has_a_card() {
        for name in heldout_report::diagnosis::CITED {
            assert!(registry::technique(name).is_some(), "{name} is not in the catalogue");
        }
    }

    #[test]
    fn figures_are_rounded_to_what_they_are_worth() {
        assert_eq!(
            [1.23456, 0.000_123_456, 12345.0, 0.0].map(rounded),
            [1.23, 1.23e-4, 12300.0, 0.0]
        );
        assert_eq!(capital("it fell"), "It fell.");
    }
}
