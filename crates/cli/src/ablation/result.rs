//! The end of a study: the table of effects, the noise floor, what to know, and the next step.

use heldout_record::study::{
    ContrastKind, EffectRecord, StudyDir, StudyResult, TrialEvent, TrialResult, Verdict,
};
use heldout_report::format;
use heldout_report::study::beside;
use std::collections::BTreeSet;
use unicode_width::UnicodeWidthStr;

use super::board::signed;
use crate::console::Console;
use crate::failure::Failure;
use crate::live::paint::{Line, Paint};
use crate::outcome::print_table;

/// Prints the result.
pub fn print(
    folder: &StudyDir,
    result: &StudyResult,
    events: &[TrialEvent],
    console: &Console,
) -> Result<(), Failure> {
    console.out("")?;
    table(&result.effects, console)?;
    console.out("")?;
    let mut rows = Vec::new();
    let mut row = |label: &str, text: String| rows.push((label.to_owned(), text));
    for effect in result.effects.iter().filter(|e| needs_words(e)) {
        let text = format!("{}: {}", effect.name, effect.sentence);
        row("", text);
    }
    if let Some(reference) = result.arms.first().filter(|arm| arm.finished > 0) {
        row(
            "reference",
            format!(
                "test loss {} nats/token, validation {}, gap {} (means of {} seeds)",
                format::nats(reference.loss_test),
                format::nats(reference.loss_valid),
                format::nats(reference.gap),
                reference.finished
            ),
        );
    }
    let trials: Vec<&TrialResult> = events
        .iter()
        .filter_map(|event| match event {
            TrialEvent::Finished(trial) => Some(trial),
            _ => None,
        })
        .collect();
    if let Some(ngram) = &result.baseline {
        let sentences = beside(&result.arms, &trials, ngram).sentences();
        for (i, sentence) in sentences.into_iter().enumerate() {
            row(if i == 0 { "baseline" } else { "" }, sentence.trim_end_matches('.').to_owned());
        }
    }
    if let Some(noise) = &result.noise {
        row(
            "noise",
            format!(
                "seeds alone move the loss by ±{} nats, a paired difference by ±{}; {} seeds find \
                 effects of about {} nats four times in five",
                format::nats(noise.seed_sd),
                format::nats(noise.paired_sd),
                result.seeds_planned,
                format::nats(noise.detectable)
            ),
        );
    }
    for (i, note) in result.notes.iter().enumerate() {
        row(if i == 0 { "note" } else { "" }, note.clone());
    }
    row("study", folder.root.display().to_string());
    if let Some(model) = best_model(folder, events) {
        row("best model", model);
    }
    row("next", result.next.clone());
    print_table(&rows, console)
}

/// The model with the lowest validation loss, where it was kept.
fn best_model(folder: &StudyDir, events: &[TrialEvent]) -> Option<String> {
    let finished = events.iter().filter_map(|event| match event {
        TrialEvent::Finished(t) if !t.is_tuning => Some(t),
        _ => None,
    });
    let best = finished.min_by(|a, b| a.loss_valid.total_cmp(&b.loss_valid))?;
    let model = folder.run(&best.trial).model();
    let text = format!("{} (lowest validation loss)", model.display());
    model.exists().then_some(text)
}

/// Whether the table does not say it all.
fn needs_words(effect: &EffectRecord) -> bool {
    let is_plain = matches!(effect.verdict, Verdict::Helps | Verdict::Hurts) && effect.pairs > 0;
    !is_plain || effect.failed_with + effect.failed_without > 0
}

fn table(effects: &[EffectRecord], console: &Console) -> Result<(), Failure> {
    let kinds: BTreeSet<&str> = effects.iter().map(|e| doing(e.kind)).collect();
    let what = match (kinds.len(), kinds.first()) {
        (1, Some(doing)) => format!("loss {doing}, nats (95%)"),
        _ => "loss, nats (95%)".to_owned(),
    };
    let header = ["technique", &what, "verdict", "seeds", "time with it"];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(effects.iter().map(cells));
    if kinds.len() > 1 {
        for (row, effect) in rows[1..].iter_mut().zip(effects) {
            row[1] = format!("{} {}", row[1], doing(effect.kind));
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    for (i, row) in rows.iter().enumerate() {
        let mut line = Line::default();
        for (column, cell) in row.iter().enumerate() {
            let paint = match (i, column) {
                (0, _) => Paint::Faint,
                (_, 2) => verdict_paint(effects[i - 1].verdict),
                _ => Paint::Plain,
            };
            let fill = " ".repeat(widths[column] - cell.width() + 2);
            line.push(format!("{cell}{fill}"), paint);
        }
        console.out_line(&line.trimmed())?;
    }
    Ok(())
}

fn verdict_paint(verdict: Verdict) -> Paint {
    match verdict {
        Verdict::Helps => Paint::Good,
        Verdict::Hurts => Paint::Bad,
        Verdict::NoEffect => Paint::Plain,
        Verdict::NotSettled => Paint::Warning,
    }
}

/// What is done to the technique when the loss changes as the table says.
fn doing(kind: ContrastKind) -> &'static str {
    match kind {
        ContrastKind::Dropped => "when dropped",
        ContrastKind::Added => "when added",
        ContrastKind::Main => "with it",
        ContrastKind::Interaction => "beyond the sum",
    }
}

/// The technique, and by how much the loss changes when it is dropped (or added).
fn cells(effect: &EffectRecord) -> [String; 5] {
    let sign = if effect.kind == ContrastKind::Dropped { 1.0 } else { -1.0 };
    let ends = [sign * effect.test.low, sign * effect.test.high];
    let (low, high) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
    let loss = match effect.pairs {
        0 => "no pair".to_owned(),
        1 => format!("{} (one pair)", signed(sign * effect.test.mean)),
        _ => format!("{} ({} to {})", signed(sign * effect.test.mean), signed(low), signed(high)),
    };
    let time = match effect.seconds_ratio {
        ratio if ratio.is_finite() => format!("×{ratio:.2}"),
        _ => String::new(),
    };
    let seeds = match effect.settled_at {
        Some(n) => format!("{} (settled at {n})", effect.pairs),
        None => effect.pairs.to_string(),
    };
    [effect.name.clone(), loss, effect.verdict.words().to_owned(), seeds, time]
}
