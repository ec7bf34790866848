//! The sections of a page about a study.

use heldout_record::study::{ArmSummary, EffectEstimate, EffectRecord, Verdict};
use maud::{Markup, html};

use super::Section;
use super::chart::{Chart, Curve, Point};
use super::forest::{Bar, BarStyle, Forest, ForestRow};
use super::table::{Column, cell, facts, figures_of, folded, prose, table};
use crate::document::{ArmPoint, StudyPart, level, test_loss};
use crate::format::{self, interval, known, probability, signed};
use crate::study::{ArmBeside, Beside};
use crate::summary::{perplexity, plus_minus};

/// A page about a study.
pub fn sections(study: &StudyPart) -> Vec<Section> {
    let mut sections = Vec::new();
    if study.result.is_some() {
        sections.push(Section::new("effects", "Effects", effects(study)));
        sections.push(Section::new("arms", "Arms", arms(study)));
    }
    sections.push(Section::new("curves", "Curves", curves(study)));
    sections.push(Section::new("design", "Design", design(study)));
    sections.push(Section::new("trials", "Trials", trials(study)));
    sections.push(Section::new("environment", "Environment", environment(study)));
    sections
}

fn effects(study: &StudyPart) -> Markup {
    let effects = study.effects();
    let rows = effects.iter().map(|effect| forest_row(effect)).collect();
    let forest = Forest {
        id: "forest".to_owned(),
        title: "What each technique is worth".to_owned(),
        description: "Effects on held-out loss with 95% intervals; the table below has the same \
                      figures"
            .to_owned(),
        x_label: "held-out loss saved, nats per token".to_owned(),
        sides: ["hurts ←".to_owned(), "→ helps".to_owned()],
        rows,
    };
    html! {
        figure {
            (forest.draw())
            figcaption {
                "Full dot, thick: test split, paired t. Between ticks: test split, bootstrap (BCa)."
                " Open dot: validation, for comparison. Grey: not told from noise. The figures are "
                "those of the test split."
            }
        }
        (effect_table(&effects))
        ul { @for effect in &effects { li { strong { (effect.name) } ": " (effect.sentence) } } }
        ul.caveats { @for caveat in &study.caveats { li { (prose(caveat)) } } }
        (looks(study))
    }
}

fn forest_row(effect: &EffectRecord) -> ForestRow {
    let bar = |name: &str, style, estimate: EffectEstimate| Bar {
        name: format!("{} on {name}", effect.name),
        style,
        mean: estimate.mean,
        low: estimate.low,
        high: estimate.high,
    };
    let bootstrap = EffectEstimate {
        mean: effect.test.mean,
        low: effect.bootstrap_low,
        high: effect.bootstrap_high,
    };
    ForestRow {
        name: effect.name.clone(),
        slot: match effect.verdict {
            Verdict::Helps => Some(0),
            Verdict::Hurts => Some(1),
            Verdict::NoEffect | Verdict::NotSettled => None,
        },
        figures: format!("{} {}", signed(effect.test.mean), between(effect.test)),
        words: format!("{}, p {}", effect.verdict.words(), probability(effect.p_corrected)),
        bars: vec![
            bar("test (paired t)", BarStyle::Main, effect.test),
            bar("test (bootstrap)", BarStyle::Ticks, bootstrap),
            bar("validation (paired t)", BarStyle::Open, effect.valid),
        ],
    }
}

fn between(estimate: EffectEstimate) -> String {
    interval(estimate.low, estimate.high)
}

fn effect_table(effects: &[&EffectRecord]) -> Markup {
    let (text, number) = (Column::Text, Column::Number);
    let head = [
        ("technique", text),
        ("verdict", text),
        ("test", number),
        ("95%, paired t", number),
        ("95%, bootstrap", number),
        ("p, corrected", number),
        ("validation", number),
        ("gap", number),
        ("time", number),
        ("seeds", number),
    ];
    let rows = effects.iter().map(|effect| {
        let verdict = match effect.verdict {
            Verdict::Helps => html! { span.good { "helps" } },
            Verdict::Hurts => html! { span.bad { "hurts" } },
            other => html! { span.whole { (other.words()) } },
        };
        let seeds = match effect.settled_at {
            Some(at) => format!("{} (settled at {at})", effect.pairs),
            None => effect.pairs.to_string(),
        };
        let time = match effect.seconds_ratio {
            ratio if ratio.is_finite() => format!("× {}", format::fixed(ratio, 2)),
            _ => "–".to_owned(),
        };
        vec![
            cell(&effect.name),
            verdict,
            cell(signed(effect.test.mean)),
            cell(between(effect.test)),
            cell(interval(effect.bootstrap_low, effect.bootstrap_high)),
            cell(probability(effect.p_corrected)),
            html! { (signed(effect.valid.mean)) " " span.faint { (between(effect.valid)) } },
            cell(signed(effect.gap.mean)),
            cell(time),
            cell(seeds),
        ]
    });
    let caption = "Nats per token that it saves on held-out text, and takes off the gap; \
                   positive is help";
    table(caption, &head, rows)
}

fn looks(study: &StudyPart) -> Markup {
    if study.looks.is_empty() {
        return html! {};
    }
    let rows = study.looks.iter().flat_map(|look| {
        look.findings.iter().map(|finding| {
            vec![
                cell(look.seeds.to_string()),
                cell(&finding.contrast),
                cell(probability(finding.p.unwrap_or(f64::NAN))),
                cell(probability(finding.p_corrected)),
                cell(if finding.is_settled { "settled" } else { "open" }),
            ]
        })
    });
    let (text, number) = (Column::Text, Column::Number);
    let head = [
        ("seeds", number),
        ("effect", text),
        ("p", number),
        ("p, corrected", number),
        ("after it", text),
    ];
    folded("When the evidence was looked at", table("Looks", &head, rows))
}

fn arms(study: &StudyPart) -> Markup {
    let Some(result) = &study.result else { return html! {} };
    let is_tuned = study.study.tuning.is_some();
    let (text, number) = (Column::Text, Column::Number);
    let mut head = vec![
        ("arm", text),
        ("differs by", text),
        ("seeds", number),
        ("test", number),
        ("perplexity", number),
        ("validation", number),
        ("training", number),
        ("gap", number),
        ("time", number),
    ];
    if study.baseline.is_some() {
        head.push(("beats n-gram by", number));
    }
    if is_tuned {
        head.push(("rate", number));
    }
    let rows = result.arms.iter().map(|arm| {
        let mut cells = arm_row(study, arm);
        if let Some(beside) = &study.baseline {
            cells.push(ahead(beside.of(&arm.name)));
        }
        if is_tuned {
            cells.push(cell(format!("× {}", format::rate(arm.rate_factor))));
        }
        cells
    });
    let rows = rows.chain(study.baseline.as_ref().map(|beside| ngram_row(beside, head.len())));
    html! {
        (table("Means over seeds, in nats per token; ± is the standard deviation over seeds",
            &head, rows))
        @if let Some(noise) = &result.noise {
            p.small {
                "Noise: the reference's test loss varies by " (format::nats(noise.seed_sd))
                " (standard deviation) from seed to seed, a paired difference by "
                (format::nats(noise.paired_sd)) ". Effects from " (format::nats(noise.detectable))
                " on are found with a chance of 80%."
            }
        }
    }
}

fn arm_row(study: &StudyPart, arm: &ArmSummary) -> Vec<Markup> {
    let settings = study.study.arms.iter().find(|found| found.name == arm.name);
    let settings = settings.map(|found| found.settings.join(" ")).unwrap_or_default();
    let seeds = match arm.failed {
        0 => arm.finished.to_string(),
        failed => format!("{} ({failed} failed)", arm.finished),
    };
    vec![
        cell(&arm.name),
        html! { code { (settings) } },
        cell(seeds),
        cell(known(arm.loss_test, test_loss(arm))),
        cell(known(arm.loss_test, perplexity(arm.loss_test.exp()))),
        cell(known(arm.loss_valid, format::nats(arm.loss_valid))),
        cell(known(arm.loss_train, format::nats(arm.loss_train))),
        cell(known(arm.gap, format::nats(arm.gap))),
        cell(known(arm.seconds, format::duration(arm.seconds))),
    ]
}

/// How far an arm is ahead of the n-gram model, marked where it is not clearly so.
fn ahead(arm: Option<&ArmBeside>) -> Markup {
    let Some(ArmBeside { standing, .. }) = arm else { return cell("–") };
    let text = known(standing.better, signed(standing.better));
    match standing.is_better() {
        true => cell(text),
        false => html! { span.bad { (text) } },
    }
}

/// The n-gram model below the arms, in a table of so many columns.
fn ngram_row(beside: &Beside, columns: usize) -> Vec<Markup> {
    let ngram = &beside.ngram;
    let test = plus_minus(ngram.loss_test, ngram.loss_test_se);
    let mut cells = vec![
        cell("n-gram"),
        cell(format!("order {}, counted", ngram.order)),
        cell("–"),
        cell(known(ngram.loss_test, test)),
        cell(known(ngram.loss_test, perplexity(ngram.loss_test.exp()))),
        cell(plus_minus(ngram.loss_valid, ngram.loss_valid_se)),
    ];
    cells.resize(columns, cell("–"));
    cells
}

fn curves(study: &StudyPart) -> Markup {
    if study.curves.is_empty() {
        return html! { p.none { "No trial's run could be read." } };
    }
    let chart = |id: &str, title: &str, of: fn(&ArmPoint) -> Point| {
        let curve = |(i, arm): (usize, &crate::document::ArmCurve)| Curve {
            name: arm.arm.clone(),
            slot: i % 8,
            dash: i % 4,
            points: arm.points.iter().map(of).collect(),
            ..Curve::default()
        };
        Chart {
            id: id.to_owned(),
            title: title.to_owned(),
            description: format!("{title}: the mean over seeds of {} arms", study.curves.len()),
            x_label: "step".to_owned(),
            y_label: "nats per token".to_owned(),
            curves: study.curves.iter().enumerate().map(curve).collect(),
            ..Chart::default()
        }
    };
    let losses = chart("losses", "Loss on validation", |p| Point {
        x: p.step as f64,
        y: p.loss_valid,
        low: p.loss_valid_low,
        high: p.loss_valid_high,
    });
    let gaps = chart("gaps", "Gap", |p| Point {
        x: p.step as f64,
        y: p.gap,
        low: p.gap_low,
        high: p.gap_high,
    });
    html! {
        figure { (losses.draw()) figcaption {
            "Loss on validation: the mean over an arm's seeds, its 95% interval (Student's t), "
            "up to the last step that every seed reached."
        } }
        figure { (gaps.draw()) figcaption {
            "Gap: validation minus training sample, measured alike."
        } }
        (curve_table(study))
    }
}

fn curve_table(study: &StudyPart) -> Markup {
    let mut head = vec![("arm", Column::Text)];
    let longest = study.curves.iter().max_by_key(|arm| arm.points.len());
    let points = longest.map_or(&[][..], |arm| &arm.points);
    let every = points.len().div_ceil(8).max(1);
    let steps: Vec<u64> = points.iter().skip(every - 1).step_by(every).map(|p| p.step).collect();
    let names: Vec<String> =
        steps.iter().map(|step| format!("step {}", format::count(*step))).collect();
    head.extend(names.iter().map(|name| (name.as_str(), Column::Number)));
    let rows = study.curves.iter().map(|arm| {
        let at = |step: &u64| arm.points.iter().find(|p| p.step == *step);
        let loss = |step| at(step).map_or("–".to_owned(), |p| format::nats(p.loss_valid));
        let mut cells = vec![cell(&arm.arm)];
        cells.extend(steps.iter().map(|step| cell(loss(step))));
        cells
    });
    figures_of("The figures as a table", table("Mean loss on validation", &head, rows))
}

fn design(study: &StudyPart) -> Markup {
    let design = &study.study;
    let rule = &design.rule;
    let seeds: Vec<String> = design.seeds.iter().map(u64::to_string).collect();
    let looks: Vec<String> = rule.looks.iter().map(u64::to_string).collect();
    let mut rows = vec![
        ("design", design.design.word().to_owned()),
        ("seeds", seeds.join(", ")),
        ("looks after", format!("{} seeds", looks.join(", "))),
        ("level", level(design)),
        ("effects that count", format!("from {} nats on", format::nats(rule.rope))),
        ("split", design.split.clone()),
    ];
    if let Some(tuning) = &design.tuning {
        let factors: Vec<String> = tuning.factors.iter().map(|f| format::rate(*f)).collect();
        let text = format!("× {} of the recipe's, on seed {}", factors.join(", "), tuning.seed);
        rows.push(("rates tried", text));
    }
    let head =
        [("setting", Column::Text), ("value", Column::Text), ("where it is from", Column::Text)];
    let recipe = study.recipe.iter().map(|line| {
        vec![html! { code { (line.key) } }, html! { code { (line.value) } }, cell(&line.origin)]
    });
    html! {
        (facts(&rows))
        @if !study.recipe.is_empty() {
            (folded("The reference's recipe", table("Recipe", &head, recipe)))
        }
    }
}

fn trials(study: &StudyPart) -> Markup {
    let (text, number) = (Column::Text, Column::Number);
    let head = [
        ("trial", text),
        ("seed", number),
        ("test", number),
        ("validation", number),
        ("gap", number),
        ("best step", number),
        ("steps", number),
        ("time", number),
    ];
    let rows = study.trials.iter().map(|trial| {
        let tuning = if trial.is_tuning { " (rate)" } else { "" };
        vec![
            cell(format!("{}{tuning}", trial.trial)),
            cell(trial.seed.to_string()),
            cell(plus_minus(trial.loss_test, trial.loss_test_se)),
            cell(plus_minus(trial.loss_valid, trial.loss_valid_se)),
            cell(format::nats(trial.gap)),
            cell(format::count(trial.best_step)),
            cell(format::count(trial.steps)),
            cell(format::duration(trial.seconds)),
        ]
    });
    html! {
        @if !study.failures.is_empty() {
            ul.caveats { @for failed in &study.failures {
                li { (failed.trial) " gave no result: " (failed.detail) }
            } }
        }
        (folded(&format!("{} trials with a result", study.trials.len()),
            table("Losses of the weights that were best on validation", &head, rows)))
    }
}

fn environment(study: &StudyPart) -> Markup {
    let rows = study.provenance();
    html! {
        (facts(&rows))
        @if !study.problems.is_empty() {
            ul.caveats { @for problem in &study.problems { li { (problem) } } }
        }
    }
}
