//! What is shown when a run has ended: the curves, the table, the verdict, and what to try next.

use heldout_record::{RunDir, StopReason, read_metrics};
use heldout_report::diagnosis::{Diagnosis, Evidence, Severity, diagnose_with};
use heldout_report::format;
use heldout_report::plot::Frame;
use heldout_report::summary::{RunSummary, Verdict};
use heldout_report::wrap::wrap;
use serde_json::{Value, json};

use crate::console::{Console, Output};
use crate::failure::{DIVERGED, DONE, Failure};
use crate::live::paint::{Line, Paint};
use crate::picture;

/// Rows of the picture below a finished run.
pub const PICTURE_ROWS: usize = 14;

/// Prints the result of the run in `run` and gives the exit code it deserves by itself.
pub fn print(run: &RunDir, console: &Console) -> Result<i32, Failure> {
    let events = read_metrics(&run.metrics())?;
    let summary = RunSummary::from_events(&events);
    let evidence = Evidence { planned: run.planned(), examination: None };
    let diagnosis = diagnose_with(&events, &evidence);
    if console.output == Output::Json {
        let mut value = as_json(run, &summary);
        value["diagnosis"] = json!({
            "kind": diagnosis.main().kind,
            "verdict": diagnosis.verdict,
            "findings": diagnosis.findings,
        });
        console.out_json(&value)?;
    } else {
        print_text(run, &summary, &diagnosis, console)?;
    }
    let is_diverged = matches!(summary.verdict(), Verdict::Diverged { .. });
    Ok(if is_diverged { DIVERGED } else { DONE })
}

fn print_text(
    run: &RunDir,
    summary: &RunSummary,
    diagnosis: &Diagnosis,
    console: &Console,
) -> Result<(), Failure> {
    console.out("")?;
    if summary.evaluations.len() > 1 {
        let mark = summary.best().map(|best| (best.step as f64, best.loss_valid));
        let frame = picture::frame(console.width, PICTURE_ROWS, console.charset);
        let lines = picture::draw(
            &summary.curves(),
            &Frame { mark, y_label: summary.unit(), ..frame },
            &Paint::Series,
        );
        lines.into_iter().try_for_each(|line| console.out_line(&line.trimmed()))?;
        console.out("")?;
    }
    print_table(&judged(summary, diagnosis), console)?;
    let path = run.root.display();
    print_table(&[("run".to_owned(), path.to_string())], console)?;
    if summary.best().is_some() {
        let model = format!("{} (Hugging Face layout)", run.model().display());
        print_table(&[("result".to_owned(), model)], console)?;
    }
    if let Some(profile) = &summary.profile {
        let path = run.root.join(&profile.path);
        let text = format!(
            "{} (of step {}; opens in chrome://tracing or ui.perfetto.dev)",
            path.display(),
            format::count(profile.step)
        );
        print_table(&[("profile".to_owned(), text)], console)?;
    }
    let next = next_commands(run, summary);
    for (i, command) in next.iter().enumerate() {
        let mut line = Line::of(if i == 0 { "\ntry next   " } else { "           " }, Paint::Faint);
        line.push(command.as_str(), Paint::Plain);
        console.out_line(&line)?;
    }
    Ok(())
}

/// The summary with the diagnosis as its verdict, and what else is wrong below it.
fn judged(summary: &RunSummary, diagnosis: &Diagnosis) -> Vec<(String, String)> {
    let mut rows = summary.table();
    rows.retain(|(label, _)| label != "verdict");
    rows.push(("verdict".to_owned(), diagnosis.verdict.clone()));
    let others = diagnosis.findings.iter().skip(1);
    let wrong = others.filter(|finding| finding.severity <= Severity::Warning);
    rows.extend(wrong.map(|finding| ("also".to_owned(), finding.sentence.clone())));
    rows
}

/// Prints labels and texts in two columns, wrapped.
pub fn print_table(rows: &[(String, String)], console: &Console) -> Result<(), Failure> {
    let indent = " ".repeat(11);
    for (label, text) in rows {
        for (i, line) in wrap(text, console.width, &indent, &indent).iter().enumerate() {
            let mut out = Line::default();
            out.push(format!("{:11}", if i == 0 { label.as_str() } else { "" }), Paint::Faint);
            let paint = if label == "verdict" { Paint::Strong } else { Paint::Plain };
            out.push(line.trim_start(), paint);
            console.out_line(&out)?;
        }
    }
    Ok(())
}

fn next_commands(run: &RunDir, summary: &RunSummary) -> Vec<String> {
    let path = shell_word(&run.root.display().to_string());
    let reason = summary.stopped.as_ref().map(|stopped| stopped.reason);
    let mut commands = Vec::new();
    if !matches!(reason, Some(StopReason::Horizon | StopReason::EarlyStopping | StopReason::Time)) {
        commands.push(format!("heldout resume {path}"));
    }
    if summary.best().is_some() {
        commands.push(format!("heldout diagnose {path}"));
        let labels = summary.started.as_ref().is_some_and(|started| !started.labels.is_empty());
        let questions = summary.started.as_ref().is_some_and(|s| s.answers_questions());
        commands.push(match labels {
            _ if questions => format!("heldout predict {path} questions.jsonl"),
            true => format!("heldout predict {path} texts.jsonl"),
            false if summary.is_masked() => {
                format!("heldout finetune {path} labelled.jsonl --task classify")
            }
            false if summary.is_seq2seq() => format!("heldout predict {path} sources.txt"),
            false => format!("heldout generate {path} --prompt \"...\""),
        });
        commands.push(format!("heldout evaluate {path}"));
        commands.push(format!("heldout report {path}"));
        commands.push(format!("tensorboard --logdir {path}/tensorboard"));
    }
    commands
}

/// A path as one word of a shell command.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:@%,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The result for programs; losses in nats per token.
pub fn as_json(run: &RunDir, summary: &RunSummary) -> Value {
    json!({
        "run": run.root.display().to_string(),
        "model": run.model().display().to_string(),
        "best": summary.best(),
        "baseline": summary.baseline,
        "standing": summary.standing(),
        "last": summary.last(),
        "stopped": summary.stopped,
        "guard_events": summary.guards.len(),
        "tokens_per_second": summary.tokens_per_second,
        "timing": summary.timing,
        "profile": summary.profile,
        "verdict": summary.verdict(),
        "sentence": summary.verdict().sentence(),
    })
}

#[cfg(test)]
mod tests {
    use super::shell_word;

    #[test]
    fn paths_survive_the_shell() {
        assert_eq!(shell_word("runs/a-1"), "runs/a-1");
        assert_eq!(shell_word("my runs/it's"), "'my runs/it'\\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
