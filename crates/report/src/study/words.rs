//! Verdicts, caveats and the next step in sentences.

use heldout_record::study::{
    ContrastKind, Design, EffectRecord, Rule, Standing, Study, StudyResult, Verdict,
};

use super::sequential::{extensions_of, level_of};
use crate::format;

/// What an effect's verdict means.
pub fn verdict(effect: &EffectRecord, rule: &Rule) -> String {
    let rope = rule.rope;
    let size = format::nats(effect.test.mean.abs());
    let interval =
        format!("{} to {}", format::nats(effect.test.low), format::nats(effect.test.high));
    let change = match (effect.kind, effect.test.mean > 0.0) {
        (ContrastKind::Dropped, true) => format!("without it the loss rises by {size}"),
        (ContrastKind::Dropped, false) => format!("without it the loss falls by {size}"),
        (ContrastKind::Added, true) => format!("with it the loss falls by {size}"),
        (ContrastKind::Added, false) => format!("with it the loss rises by {size}"),
        (ContrastKind::Main, true) => {
            format!("on average over the others the loss falls by {size} with it")
        }
        (ContrastKind::Main, false) => {
            format!("on average over the others the loss rises by {size} with it")
        }
        (ContrastKind::Interaction, true) => {
            format!("together they gain {size} more than one by one")
        }
        (ContrastKind::Interaction, false) => {
            format!("together they gain {size} less than one by one")
        }
    };
    let sentence = match effect.verdict {
        Verdict::Helps | Verdict::Hurts if effect.pairs == 0 => {
            let word = if effect.verdict == Verdict::Helps { "without" } else { "with" };
            format!("no trial {word} it came to a result")
        }
        Verdict::Helps | Verdict::Hurts => format!("{change} ({interval})"),
        Verdict::NoEffect if effect.test.low > -rope && effect.test.high < rope => {
            format!("if there is an effect, it is smaller than {rope} nats")
        }
        Verdict::NoEffect if effect.test.mean.abs() < rope && effect.p_corrected <= rule.level => {
            format!("{change}: less than the {rope} nats that count")
        }
        Verdict::NoEffect => format!("if there is an effect, it lies within {interval}"),
        Verdict::NotSettled if effect.pairs < 2 => "too few seeds have run".to_owned(),
        Verdict::NotSettled if effect.test.low > 0.0 || effect.test.high < 0.0 => {
            format!("{change} ({interval}), which may be chance among so many comparisons")
        }
        Verdict::NotSettled => format!("so far within {interval}"),
    };
    sentence + &failures(effect)
}

fn failures(effect: &EffectRecord) -> String {
    let trials = |n: u64| format!("{n} trial{}", if n == 1 { "" } else { "s" });
    match (effect.failed_with, effect.failed_without) {
        (0, 0) => String::new(),
        (n, 0) => format!("; {} with it failed", trials(n)),
        (0, n) => format!("; {} without it failed", trials(n)),
        (n, m) => format!("; {} with it and {} without it failed", trials(n), trials(m)),
    }
}

/// What a reader must know to read the figures right.
pub fn notes(study: &Study, standing: Standing, done: usize) -> Vec<String> {
    let mut notes = vec![
        "weights were chosen on the validation split; every verdict is about the test split, which \
         was scored once a trial and chose nothing"
            .to_owned(),
        format!(
            "intervals are 95% over seeds, each of its own effect; verdicts are corrected for {} \
             and for looking {}",
            plural(study.contrasts.len(), "comparison"),
            match study.rule.looks.len() {
                1 => "once".to_owned(),
                n => format!("up to {n} times"),
            }
        ),
    ];
    let (seeds, planned) = (plural(done, "seed"), study.seeds.len());
    match standing {
        Standing::Budget => notes.push(format!(
            "the budget ended it after {seeds} of {planned}: the analysis is of these"
        )),
        Standing::Interrupted => notes.push(format!(
            "it was interrupted after {seeds} of {planned}: the analysis is of these"
        )),
        Standing::Settled => notes.push(format!(
            "every effect was settled after {seeds} of {planned}: the others were not needed"
        )),
        Standing::Running | Standing::Complete => {}
    }
    if let Some(last) = study.extensions.last() {
        notes.push(format!(
            "it was planned with {} and extended to {}: the level was spent by then, so that the \
             extension's p are doubled (and doubled again at each further look), and the chance \
             of any false claim in the whole study is at most {}, not {}",
            plural(study.seeds_first() as usize, "seed"),
            last.to,
            format::share(level_of(study)),
            format::share(study.rule.level)
        ));
    }
    notes.extend(study.notes.iter().cloned());
    notes
}

fn plural(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// The next sensible step.
pub fn next(study: &Study, result: &StudyResult) -> String {
    if matches!(result.standing, Standing::Budget | Standing::Interrupted | Standing::Running) {
        return "run the same command again: the study goes on where it stopped".to_owned();
    }
    let of = |verdict: Verdict| {
        let kept =
            move |e: &&EffectRecord| e.verdict == verdict && e.kind != ContrastKind::Interaction;
        result.effects.iter().filter(kept)
    };
    if let Some(worst) = of(Verdict::Hurts).min_by(|a, b| a.test.mean.total_cmp(&b.test.mean)) {
        return match worst.kind {
            ContrastKind::Added => format!("leave {} out", worst.name),
            _ => format!("take {} out of the recipe (--set regularize.{0}=false)", worst.name),
        };
    }
    let gain =
        |e: &&EffectRecord| e.kind == ContrastKind::Added || study.design != Design::LeaveOneOut;
    let best = of(Verdict::Helps).filter(gain).max_by(|a, b| a.test.mean.total_cmp(&b.test.mean));
    if let Some(best) = best {
        let rest = result.effects.len() > 1;
        let then = if rest { ", then ablate again: gains need not add up" } else { "" };
        return format!("put {} into the recipe{then}", best.name);
    }
    if let Some(open) = of(Verdict::NotSettled).next() {
        let detectable = result.noise.map_or(String::new(), |noise| {
            format!("; this study finds effects of about {} nats", format::nats(noise.detectable))
        });
        let more = extensions_of(study.seeds.len() as u64).next();
        let how = more.map_or_else(
            || "--seed, in a new folder".to_owned(),
            |seeds| format!("--seeds {seeds} extends this study"),
        );
        return format!("more seeds would settle {} ({how}){detectable}", open.name);
    }
    let costly = of(Verdict::NoEffect).max_by(|a, b| a.seconds.total_cmp(&b.seconds));
    if let Some(idle) = costly.filter(|e| e.kind != ContrastKind::Added) {
        return format!(
            "{} can go: nothing is lost without it that this study could see",
            idle.name
        );
    }
    "keep the recipe, and ablate its strengths next (heldout explain NAME lists the knobs)"
        .to_owned()
}
