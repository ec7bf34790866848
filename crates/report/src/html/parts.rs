//! What a run is made of: plan, receipts, guard, data, samples, time, environment.

use heldout_record::StopReason;
use heldout_record::manifest::Manifest;
use maud::{Markup, html};

use super::table::{Column, cell, facts, folded, prose, table};
use crate::diagnosis::Severity;
use crate::document::facts::{data_facts, examined};
use crate::document::{RunPart, capitalized};
use crate::{format, profile};

/// Samples shown at once; the earlier ones are folded away.
const SAMPLES_SHOWN: usize = 2;

/// The plan in words, and the recipe with the origin of each value.
pub fn plan(run: &RunPart) -> Markup {
    let plan = run.manifest.as_ref().map_or(&[][..], |manifest| &manifest.plan);
    let rows = run.recipe.iter().map(|line| {
        vec![html! { code { (line.key) } }, html! { code { (line.value) } }, cell(&line.origin)]
    });
    let head =
        [("setting", Column::Text), ("value", Column::Text), ("where it is from", Column::Text)];
    html! {
        @if !plan.is_empty() {
            ul.plan { @for line in plan { li { (plan_line(line)) } } }
        }
        @if run.recipe.is_empty() {
            p.none { "The recipe is not there any more." }
        } @else {
            (folded(
                &format!("The recipe as resolved: {} values, their origins", run.recipe.len()),
                table("Recipe", &head, rows)
            ))
        }
    }
}

/// `slot: what (owner)` with the slot set apart.
fn plan_line(line: &str) -> Markup {
    match line.split_once(": ") {
        Some((slot, what)) => html! { strong { (slot) } " " (what) },
        None => html! { (line) },
    }
}

/// What is wrong, the figures behind it, what to try.
pub fn diagnosis(run: &RunPart) -> Markup {
    html! {
        @for finding in &run.diagnosis.findings {
            div.finding {
                p { (severity(finding.severity)) (capitalized(&finding.sentence)) "." }
                @if !finding.evidence.is_empty() {
                    ul.small { @for line in &finding.evidence { li { (prose(line)) } } }
                }
                @if !finding.suggestions.is_empty() {
                    p.small { "To try:" }
                    ul.small { @for suggestion in &finding.suggestions {
                        li {
                            (prose(&suggestion.text))
                            @if let Some(setting) = &suggestion.setting {
                                " " code { "--set " (setting) }
                            }
                        }
                    } }
                }
            }
        }
        @let rows = examined(run);
        @if !rows.is_empty() { h3 { "A look at the model" } (facts(&rows)) }
    }
}

fn severity(severity: Severity) -> Markup {
    match severity {
        Severity::Bad => html! { strong.bad { "Bad " } },
        Severity::Warning => html! { strong.warn { "Warning " } },
        Severity::Note => html! { strong.faint { "Note " } },
        Severity::Good => html! { strong.good { "Good " } },
    }
}

/// What each technique measured about itself.
pub fn receipts(run: &RunPart) -> Markup {
    if run.receipts.is_empty() {
        return html! { p.none { "No technique is in use." } };
    }
    let rows = run.receipts.iter().map(|receipt| {
        vec![
            html! { span.good aria-hidden="true" { "✓ " } (receipt.technique) },
            cell(&receipt.statement),
        ]
    });
    let head = [("technique", Column::Text), ("what it measured about itself", Column::Text)];
    table("Each technique proved that it is live", &head, rows)
}

/// What the explosion guard did.
pub fn guards(run: &RunPart) -> Markup {
    let rows = run.guards.iter().map(|guard| {
        vec![
            cell(format::count(guard.step)),
            cell(&guard.cause),
            cell(&guard.action),
            cell(format::nats(guard.loss)),
            cell(format::rate(guard.gradient_norm)),
        ]
    });
    let (text, number) = (Column::Text, Column::Number);
    let head = [
        ("step", number),
        ("noticed", text),
        ("done", text),
        ("loss", number),
        ("gradient norm", number),
    ];
    table("The explosion guard acted", &head, rows)
}

/// Sizes, split, and what was noticed.
pub fn data(run: &RunPart) -> Markup {
    let notices: Vec<_> = run.notices.iter().filter(|notice| notice.step.is_none()).collect();
    html! {
        (facts(&data_facts(run)))
        @if !notices.is_empty() {
            ul { @for notice in &notices { li { (notice.text) } } }
        }
        @if let Some(manifest) = &run.manifest { (files(manifest)) }
    }
}

fn files(manifest: &Manifest) -> Markup {
    let rows = manifest.data.iter().map(|file| {
        vec![
            cell(&file.role),
            cell(&file.path),
            cell(format::bytes(file.bytes)),
            html! { code.hash { (file.hash) } },
        ]
    });
    let text = Column::Text;
    let head = [("part", text), ("path", text), ("size", Column::Number), ("hash", text)];
    folded("Files and their hashes", table("What was read", &head, rows))
}

/// The newest samples; the others behind a line.
pub fn samples(run: &RunPart) -> Markup {
    let sample = |sample: &heldout_record::SampleRecord| {
        html! {
            figure.sample {
                figcaption { "step " (format::count(sample.step)) }
                blockquote {
                    @if !sample.prompt.is_empty() { strong { (sample.prompt) } }
                    (sample.text)
                }
            }
        }
    };
    let older = run.samples.len().saturating_sub(SAMPLES_SHOWN);
    html! {
        p.small { "What the model wrote, the newest first; what it was given is in bold." }
        @for s in run.samples[older..].iter().rev() { (sample(s)) }
        @if older > 0 {
            (folded(&format!("{older} earlier"), html! {
                @for s in run.samples[..older].iter().rev() { (sample(s)) }
            }))
        }
    }
}

/// How long it took, and for what.
pub fn time(run: &RunPart) -> Markup {
    let mut rows = vec![("training time", format::duration(run.seconds))];
    if run.tokens_per_second > 0.0 {
        let speed = format::count(run.tokens_per_second.round() as u64);
        rows.push(("speed", format!("{speed} tokens per second (median)")));
    }
    if let Some(shares) = run.timing.as_ref().and_then(profile::shares) {
        rows.push(("spent on", shares));
    }
    if let Some(stopped) = &run.stopped {
        let reason = match stopped.reason {
            StopReason::Horizon => "it reached its horizon",
            StopReason::EarlyStopping => "early stopping",
            StopReason::Time => "its time was up",
            StopReason::Interrupted => "it was interrupted",
            StopReason::Diverged => "it diverged",
            StopReason::Failed => "it failed",
        };
        let why = if stopped.detail.is_empty() { reason } else { &stopped.detail };
        rows.push(("ended", format!("at step {}: {why}", format::count(stopped.step))));
    } else {
        rows.push(("ended", "not yet, as far as the record goes".to_owned()));
    }
    let said: Vec<_> = run.notices.iter().filter(|notice| notice.step.is_some()).collect();
    html! {
        (facts(&rows))
        @if !said.is_empty() {
            ul { @for notice in said {
                li { "step " (format::count(notice.step.unwrap_or_default())) ": " (notice.text) }
            } }
        }
    }
}

/// The program, the machine, the command.
pub fn environment(run: &RunPart) -> Markup {
    let mut rows = vec![("folder", run.path.clone())];
    if let Some(started) = &run.started {
        rows.push((
            "model",
            format!("{}, {} parameters", started.model, format::count(started.parameters)),
        ));
        rows.push(("device", started.device.clone()));
        rows.push(("precision", started.precision.clone()));
    }
    if let Some(manifest) = &run.manifest {
        let machine = &manifest.machine;
        let versions: Vec<String> =
            manifest.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        rows.push(("seed", manifest.seed.to_string()));
        rows.push(("threads", manifest.threads.to_string()));
        rows.push(("started", manifest.started.clone()));
        rows.push(("resumed", manifest.resumed.join(", ")));
        rows.push(("versions", versions.join(", ")));
        rows.push(("processor", format!("{} ({} cores)", machine.processor, machine.cores)));
        rows.push(("memory", format::bytes(machine.memory_bytes)));
        let system = [&machine.system, &machine.kernel, &machine.architecture];
        rows.push(("system", system.map(String::as_str).join(", ")));
        rows.push(("host", machine.host.clone()));
        rows.push(("command", manifest.command_line.join(" ")));
    }
    html! {
        (facts(&rows))
        @if !run.problems.is_empty() {
            ul.caveats { @for problem in &run.problems { li { (problem) } } }
        }
    }
}
