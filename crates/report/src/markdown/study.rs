//! A study as Markdown.

use heldout_record::study::{EffectEstimate, EffectRecord};

use super::{Align, Page};
use crate::document::{StudyPart, level, test_loss};
use crate::format::{self, known};
use crate::summary::{perplexity, plus_minus};

pub(super) fn write(page: &mut Page, study: &StudyPart) {
    let effects = study.effects();
    if !effects.is_empty() {
        page.heading(2, "Effects");
        page.paragraph("Nats per token that a technique saves; positive is help.");
        effect_table(page, &effects);
        page.list(effects.iter().map(|effect| format!("{}: {}", effect.name, effect.sentence)));
    }
    page.heading(2, "How to read this");
    page.list(study.caveats.iter().cloned());
    arms(page, study);
    page.heading(2, "Trials");
    trials(page, study);
    page.heading(2, "Design");
    design(page, study);
}

fn between(estimate: EffectEstimate) -> String {
    format::interval(estimate.low, estimate.high)
}

fn effect_table(page: &mut Page, effects: &[&EffectRecord]) {
    let (left, right) = (Align::Left, Align::Right);
    let head = [
        ("technique", left),
        ("verdict", left),
        ("test", right),
        ("95%, paired t", right),
        ("95%, bootstrap", right),
        ("p, corrected", right),
        ("validation", right),
        ("95%", right),
        ("gap", right),
        ("time", right),
        ("seeds", right),
    ];
    let rows: Vec<Vec<String>> = effects
        .iter()
        .map(|effect| {
            let time = match effect.seconds_ratio {
                ratio if ratio.is_finite() => format!("× {}", format::fixed(ratio, 2)),
                _ => "–".to_owned(),
            };
            vec![
                effect.name.clone(),
                effect.verdict.words().to_owned(),
                format::signed(effect.test.mean),
                between(effect.test),
                format::interval(effect.bootstrap_low, effect.bootstrap_high),
                format::probability(effect.p_corrected),
                format::signed(effect.valid.mean),
                between(effect.valid),
                format::signed(effect.gap.mean),
                time,
                effect.pairs.to_string(),
            ]
        })
        .collect();
    page.table(&head, &rows);
}

fn arms(page: &mut Page, study: &StudyPart) {
    let Some(result) = &study.result else { return };
    page.heading(2, "Arms");
    page.paragraph("Means over seeds, ± the standard deviation over seeds.");
    let (left, right) = (Align::Left, Align::Right);
    let head = [
        ("arm", left),
        ("differs by", left),
        ("seeds", right),
        ("failed", right),
        ("test", right),
        ("perplexity", right),
        ("validation", right),
        ("training sample", right),
        ("gap", right),
        ("time of a trial", right),
        ("beats n-gram by", right),
    ];
    let head = &head[..head.len() - usize::from(study.baseline.is_none())];
    let settings = |name: &str| {
        let arm = study.study.arms.iter().find(|arm| arm.name == name);
        arm.map(|arm| arm.settings.join(" ")).unwrap_or_default()
    };
    let ahead = |arm: &str| {
        let found = study.baseline.as_ref().and_then(|beside| beside.of(arm));
        found.map_or("–".to_owned(), |arm| match arm.standing.is_better() {
            true => format::signed(arm.standing.better),
            false if arm.standing.better < 0.0 => format::signed(arm.standing.better),
            false => format!("{} (not clearly)", format::signed(arm.standing.better)),
        })
    };
    let mut rows: Vec<Vec<String>> = result
        .arms
        .iter()
        .map(|arm| {
            let mut cells = vec![
                arm.name.clone(),
                settings(&arm.name),
                arm.finished.to_string(),
                arm.failed.to_string(),
                known(arm.loss_test, test_loss(arm)),
                known(arm.loss_test, perplexity(arm.loss_test.exp())),
                known(arm.loss_valid, format::nats(arm.loss_valid)),
                known(arm.loss_train, format::nats(arm.loss_train)),
                known(arm.gap, format::nats(arm.gap)),
                known(arm.seconds, format::duration(arm.seconds)),
                ahead(&arm.name),
            ];
            cells.truncate(head.len());
            cells
        })
        .collect();
    if let Some(beside) = &study.baseline {
        let ngram = &beside.ngram;
        let test = plus_minus(ngram.loss_test, ngram.loss_test_se);
        let mut row = vec!["n-gram".to_owned(), format!("order {}, counted", ngram.order)];
        row.resize(4, "–".to_owned());
        row.push(known(ngram.loss_test, test));
        row.push(known(ngram.loss_test, perplexity(ngram.loss_test.exp())));
        row.push(plus_minus(ngram.loss_valid, ngram.loss_valid_se));
        row.resize(head.len(), "–".to_owned());
        rows.push(row);
    }
    page.table(head, &rows);
}

fn trials(page: &mut Page, study: &StudyPart) {
    let (left, right) = (Align::Left, Align::Right);
    let head = [
        ("trial", left),
        ("test", right),
        ("validation", right),
        ("gap", right),
        ("best step", right),
        ("time", right),
    ];
    let rows: Vec<Vec<String>> = study
        .trials
        .iter()
        .map(|trial| {
            vec![
                trial.trial.clone(),
                plus_minus(trial.loss_test, trial.loss_test_se),
                plus_minus(trial.loss_valid, trial.loss_valid_se),
                format::nats(trial.gap),
                format::count(trial.best_step),
                format::duration(trial.seconds),
            ]
        })
        .collect();
    page.table(&head, &rows);
    let failed = |f: &heldout_record::study::TrialFailed| {
        format!("{} gave no result: {}", f.trial, f.detail)
    };
    page.list(study.failures.iter().map(failed));
}

fn design(page: &mut Page, study: &StudyPart) {
    let design = &study.study;
    let seeds: Vec<String> = design.seeds.iter().map(u64::to_string).collect();
    let mut facts = vec![
        ("design", design.design.word().to_owned()),
        ("seeds", seeds.join(", ")),
        ("level", level(design)),
        ("split", design.split.clone()),
    ];
    facts.extend(study.provenance());
    page.facts(&facts);
}
