//! Goldens of SciPy, and thousands of synthetic studies: how often is an effect claimed?

use super::*;
use heldout_base::rng::{Random, streams};
use heldout_record::study::{Arm, Rule, Term, TrialFailed};

const GOLDEN: &str = include_str!("../../tests/golden/study.json");

/// One reference and `arms` techniques that it may lose.
fn study(arms: usize, seeds: u64) -> Study {
    let name = |i: usize| format!("no-t{i}");
    let arm = |name: String| Arm { name, ..Arm::default() };
    let term = |arm: &str, weight| Term { arm: arm.to_owned(), weight };
    Study {
        arms: std::iter::once("reference".to_owned()).chain((0..arms).map(name)).map(arm).collect(),
        contrasts: (0..arms)
            .map(|i| Contrast {
                name: format!("t{i}"),
                techniques: vec![format!("t{i}")],
                terms: vec![term(&name(i), 1.0), term("reference", -1.0)],
                ..Contrast::default()
            })
            .collect(),
        seeds: (1..=seeds).collect(),
        rule: Rule { level: 0.05, rope: 0.005, looks: planned_looks(seeds) },
        ..Study::default()
    }
}

fn finished(arm: &str, seed: u64, loss_test: f64) -> TrialEvent {
    let (arm, trial) = (arm.to_owned(), format!("{arm}-seed{seed}"));
    let loss_valid = loss_test;
    let seconds = if arm == "reference" { 2.0 } else { 1.0 };
    let result =
        TrialResult { trial, arm, seed, loss_test, loss_valid, seconds, ..TrialResult::default() };
    TrialEvent::Finished(result)
}

fn failed(arm: &str, seed: u64) -> TrialEvent {
    let arm = arm.to_owned();
    TrialEvent::Failed(TrialFailed { arm, seed, ..TrialFailed::default() })
}

/// Carries a study out: `loss` is what an arm reaches with a seed; `None` fails.
fn carry_out(study: &Study, loss: &dyn Fn(usize, u64) -> Option<f64>) -> Vec<TrialEvent> {
    let mut events = Vec::new();
    for (place, seed) in study.seeds.iter().enumerate() {
        let wanted: Vec<String> =
            arms_wanted(study, &events, place).into_iter().map(|a| a.name.clone()).collect();
        for name in wanted {
            let arm = study.arms.iter().position(|a| a.name == name).expect("its own");
            events.push(match loss(arm, *seed) {
                Some(loss) => finished(&name, *seed, loss),
                None => failed(&name, *seed),
            });
        }
        if let Some(seeds) = look_due(study, &events) {
            let look = look(study, &events, seeds);
            events.push(TrialEvent::Looked(look));
        }
    }
    events
}

/// A seed's luck, shared by all arms, and each trial's own.
fn noise(number: u64, arm: usize, seed: u64, spread: f64) -> f64 {
    let shared = Random::new(number, streams::TEST, seed).normal(0);
    let own = Random::new(number, streams::TEST, seed).normal(arm as u64 + 1);
    2.0 + 0.02 * shared + spread * own
}

/// How many contrasts of a synthetic study claim an effect, and after how many seeds it ended.
fn claims(study: &Study, number: u64, spread: f64, effect: f64) -> (Vec<usize>, usize) {
    let lost = |arm: usize| if arm == 1 { effect } else { 0.0 };
    let events = carry_out(study, &|arm, seed| Some(noise(number, arm, seed, spread) + lost(arm)));
    let corrected = sequential::corrected(study, &events);
    let claimed = (0..corrected.len()).filter(|i| corrected[*i] <= 0.05).collect();
    (claimed, seeds_done(study, &events))
}

#[test]
fn intervals_and_p_values_agree_with_scipy() {
    let golden: serde_json::Value = serde_json::from_str(GOLDEN).expect("JSON");
    let rope = golden["rope"].as_f64().expect("a number");
    for case in golden["cases"].as_array().expect("a list") {
        let of = |key: &str| case[key].as_f64().expect("a number");
        let values: Vec<f64> =
            case["values"].as_array().expect("list").iter().map(|v| v.as_f64().unwrap()).collect();
        let study =
            Study { rule: Rule { rope, ..study(1, 2).rule }, ..study(1, values.len() as u64) };
        let events = carry_out(&study, &|arm, seed| {
            Some(if arm == 0 { 1.0 } else { 1.0 + values[seed as usize - 1] })
        });
        let effect = &analyze(&study, &events, Standing::Complete).effects[0];
        if (effect.pairs as usize) < values.len() {
            continue; // Settled earlier.
        }
        // The loss of 1 that is added and taken away costs some digits.
        let close = |a: f64, b: f64, within: f64| assert!((a - b).abs() < within, "{a} {b} {case}");
        close(effect.p, of("p"), 1e-9);
        close(effect.test.low, of("low"), 1e-9);
        close(effect.test.high, of("high"), 1e-9);
        if let Some(bca) = case["bca"].as_array() {
            // Two bootstraps differ by their own noise, some 2% of the interval's width.
            let width = 0.05 * (of("high") - of("low"));
            close(effect.bootstrap_low, bca[0].as_f64().unwrap(), width);
            close(effect.bootstrap_high, bca[1].as_f64().unwrap(), width);
        }
        let level = 2.0 * of("equivalence");
        for (level, expected) in [(level * 1.001, true), (level * 0.999, false)] {
            assert_eq!(sequential::is_equivalent(&values, rope, level), expected, "{case}");
        }
    }
}

#[test]
fn holm_keeps_order_and_never_passes_one() {
    // R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm").
    let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
    for (found, expected) in corrected.iter().zip([0.03, 0.06, 0.06, 0.02]) {
        assert!((found - expected).abs() < 1e-12, "{corrected:?}");
    }
    assert_eq!(holm(&[0.9, f64::NAN]), [1.0, 1.0]);
    assert_eq!(holm(&[]), Vec::<f64>::new());
}

#[test]
fn looks_spend_the_level_once() {
    assert_eq!(planned_looks(2), [2]);
    assert_eq!(planned_looks(4), [4]);
    assert_eq!(planned_looks(5), [3, 5]);
    assert_eq!(planned_looks(30), [3, 5, 8, 12, 17, 23, 30]);
    for seeds in 2..=30 {
        let study = study(2, seeds);
        let events = carry_out(&study, &|arm, seed| Some(noise(1, arm, seed, 0.01)));
        let shares: f64 = events
            .iter()
            .filter_map(|e| if let TrialEvent::Looked(l) = e { Some(l.share) } else { None })
            .sum();
        assert!((shares - 1.0).abs() < 1e-12, "{seeds} seeds: {shares}");
    }
}

#[test]
fn without_any_effect_at_most_one_study_in_twenty_claims_one() {
    const STUDIES: u64 = 1000;
    // Three standard errors of a share of 5%.
    let most = 0.05 + 3.0 * (0.05 * 0.95 / STUDIES as f64).sqrt();
    for (arms, seeds) in [(1, 5), (6, 5), (3, 12)] {
        let study = study(arms, seeds);
        let wrong =
            (0..STUDIES).filter(|n| !claims(&study, *n, 0.01, 0.0).0.is_empty()).count() as f64;
        let share = wrong / STUDIES as f64;
        assert!(share <= most, "{arms} arms, {seeds} seeds: {share}");
        // A rule that never claims anything would pass, too.
        assert!(share > 0.005, "{arms} arms, {seeds} seeds: {share}");
    }
}

#[test]
fn a_real_effect_is_found_and_only_that_one() {
    let short = study(6, 5);
    let found = (0..300).map(|n| claims(&short, n, 0.01, 0.08).0);
    let right = found.filter(|claimed| *claimed == [0]).count();
    assert!(right >= 270, "{right} of 300");
    // With more seeds a large effect is settled early, and so is the lack of any.
    let long = study(1, 30);
    let (claimed, seeds) = claims(&long, 1, 0.005, 0.1);
    assert_eq!((claimed, seeds), (vec![0], 5));
    let (claimed, seeds) = claims(&long, 1, 0.002, 0.0);
    assert!(claimed.is_empty() && seeds < 30, "{seeds} seeds");
}

/// A study with as many seeds more as there are up to `to`.
fn more(study: &Study, to: u64) -> Study {
    extended(study, to, String::new(), Vec::new())
}

#[test]
fn an_extension_keeps_the_first_plan_and_pays_for_its_looks() {
    assert_eq!(extensions_of(5).collect::<Vec<_>>(), [8, 12, 17, 23, 30]);
    assert_eq!(extensions_of(30).count(), 0);
    let plan = study(2, 5);
    let longer = more(&more(&plan, 8), 17);
    assert_eq!((longer.seeds_first(), longer.seeds.len()), (5, 17));
    assert_eq!(longer.rule.looks, [3, 5, 8, 12, 17]);
    assert_eq!(longer.rule.looks, more(&plan, 17).rule.looks, "in one step or in two");
    assert!((level_of(&plan) - 0.05).abs() < 1e-12);
    assert!((level_of(&longer) - 0.05 * 1.875).abs() < 1e-12);
    // Carried out in one go or with a pause, it spends the same.
    let loss = |arm: usize, seed: u64| Some(noise(3, arm, seed, 0.01));
    let shares = |events: &[TrialEvent]| -> Vec<f64> {
        let share = |e: &TrialEvent| match e {
            TrialEvent::Looked(look) => Some(look.share),
            _ => None,
        };
        events.iter().filter_map(share).collect()
    };
    assert_eq!(shares(&carry_out(&longer, &loss)), [0.36, 0.64, 0.5, 0.25, 0.125]);
    // A budget that ends an extension between its looks finds nothing that was not paid for.
    let between = look(&more(&plan, 8), &carry_out(&plan, &loss), 6);
    assert_eq!(between.share, 0.0);
    let result = analyze(&longer, &carry_out(&longer, &loss), Standing::Complete);
    let note = result.notes.iter().find(|note| note.contains("extended to 17")).expect("a note");
    assert!(note.contains("planned with 5 seeds") && note.contains("at most 9.38%"), "{note}");
}

#[test]
fn what_was_claimed_stays_claimed_and_its_arms_need_no_more_seeds() {
    let plan = study(2, 5);
    let loss = |arm: usize, seed: u64| {
        let lost = if arm == 1 { 0.2 } else { 0.0 };
        Some(noise(4, arm, seed, 0.01) + lost)
    };
    let mut events = carry_out(&plan, &loss);
    let before = analyze(&plan, &events, Standing::Complete);
    assert_eq!(before.effects[0].verdict, Verdict::Helps);
    let longer = more(&plan, 8);
    let wanted = arms_wanted(&longer, &events, 5);
    let names: Vec<&str> = wanted.iter().map(|arm| arm.name.as_str()).collect();
    assert_eq!(names, ["reference", "no-t1"]);
    for seed in 6..=8 {
        events.push(finished("reference", seed, loss(0, seed).expect("a loss")));
        events.push(finished("no-t1", seed, loss(2, seed).expect("a loss")));
    }
    assert_eq!(look_due(&longer, &events), Some(8));
    let look_at = look(&longer, &events, 8);
    events.push(TrialEvent::Looked(look_at));
    let after = analyze(&longer, &events, Standing::Complete);
    assert_eq!(after.effects[0].verdict, Verdict::Helps);
    assert_eq!((after.effects[0].pairs, after.effects[1].pairs), (before.effects[0].pairs, 8));
    assert!(after.effects[0].p_corrected <= before.effects[0].p_corrected);
}

/// Whoever asks for more seeds wherever nothing was found, up to 30, still claims no more than the
/// report says.
#[test]
fn extending_until_something_is_found_claims_no_more_than_is_told() {
    const STUDIES: u64 = 400;
    let mut wrong = 0;
    for number in 0..STUDIES {
        let mut asked = study(2, 5);
        loop {
            let (claimed, _) = claims(&asked, number, 0.01, 0.0);
            wrong += u64::from(!claimed.is_empty());
            let Some(to) = extensions_of(asked.seeds.len() as u64).next() else { break };
            if !claimed.is_empty() {
                break;
            }
            asked = more(&asked, to);
        }
    }
    let level = level_of(&more(&study(2, 5), 30));
    let most = level + 3.0 * (level * (1.0 - level) / STUDIES as f64).sqrt();
    assert!(wrong as f64 <= most * STUDIES as f64, "{wrong} of {STUDIES}");
    // A rule that never claims anything would pass, too.
    assert!(wrong as f64 >= 0.01 * STUDIES as f64, "{wrong} of {STUDIES}");
    println!("{wrong} of {STUDIES} claimed, at most {level:.4} of them are told");
    // More seeds do find what five could not.
    let found =
        |study: &Study| (0..100).filter(|n| claims(study, *n, 0.01, 0.015).0 == [0]).count();
    let (five, twelve) = (found(&study(2, 5)), found(&more(&study(2, 5), 12)));
    assert!(twelve > five + 20, "{five} and {twelve} of 100");
}

#[test]
fn stopping_by_the_clock_and_going_on_spends_no_more() {
    // A budget ends the study after four seeds; it is looked at, and goes on later.
    let study = study(3, 10);
    const STUDIES: u64 = 1000;
    let mut wrong = 0;
    for number in 0..STUDIES {
        let loss = |arm, seed| Some(noise(number, arm, seed, 0.01));
        let mut events = carry_out(&Study { seeds: (1..=4).collect(), ..study.clone() }, &loss);
        let look_at = look(&study, &events, 4);
        events.push(TrialEvent::Looked(look_at));
        for seed in 5..=10 {
            for arm in arms_wanted(&study, &events, seed as usize - 1) {
                let place = study.arms.iter().position(|a| a.name == arm.name).expect("its own");
                events.push(finished(&arm.name, seed, loss(place, seed).expect("a loss")));
            }
            if let Some(seeds) = look_due(&study, &events) {
                let look_at = look(&study, &events, seeds);
                events.push(TrialEvent::Looked(look_at));
            }
        }
        let corrected = sequential::corrected(&study, &events);
        wrong += usize::from(corrected.iter().any(|p| *p <= 0.05));
    }
    let most = 0.05 + 3.0 * (0.05 * 0.95 / STUDIES as f64).sqrt();
    assert!(wrong as f64 <= most * STUDIES as f64, "{wrong} of {STUDIES}");
}

#[test]
fn verdicts_follow_the_evidence() {
    let verdict = |seeds: u64, loss: &dyn Fn(usize, u64) -> Option<f64>| {
        let study = study(1, seeds);
        let events = carry_out(&study, loss);
        let result = analyze(&study, &events, Standing::Complete);
        (result.effects[0].verdict, result.effects[0].sentence.clone(), result)
    };
    let wobble = |seed: u64| 0.001 * (seed % 3) as f64;
    let (helps, words, result) =
        verdict(5, &|arm, seed| Some(2.0 + arm as f64 * (0.1 + wobble(seed))));
    assert_eq!(helps, Verdict::Helps, "{words}");
    assert!(words.starts_with("without it the loss rises by 0.10"), "{words}");
    assert_eq!(result.effects[0].seconds_ratio, 2.0);
    assert_eq!(result.effects[0].seconds, 1.0);
    let (hurts, words, _) = verdict(5, &|arm, seed| Some(2.0 - arm as f64 * (0.1 + wobble(seed))));
    assert_eq!(hurts, Verdict::Hurts, "{words}");
    // A technique that does nothing at all: every pair is equal.
    let (none, words, result) = verdict(5, &|_, seed| Some(2.0 + wobble(seed)));
    assert_eq!(none, Verdict::NoEffect, "{words}");
    assert_eq!((result.effects[0].settled_at, result.effects[0].p), (Some(3), 1.0));
    // Certain, but smaller than counts.
    let (small, words, _) =
        verdict(5, &|arm, seed| Some(2.0 + arm as f64 * (0.002 + 0.01 * wobble(seed))));
    assert_eq!(small, Verdict::NoEffect, "{words}");
    let (open, words, _) = verdict(5, &|arm, seed| Some(noise(3, arm, seed, 0.05)));
    assert_eq!(open, Verdict::NoEffect, "{words}");
    assert!(words.contains("lies within"), "{words}");
    // It never comes to a result without the technique.
    let (helps, words, result) = verdict(5, &|arm, seed| (arm == 0).then(|| 2.0 + wobble(seed)));
    assert_eq!(helps, Verdict::Helps, "{words}");
    assert!(words.contains("no trial without it"), "{words}");
    assert_eq!(result.effects[0].failed_without, 3);
    // One failure costs its pair, and is told.
    let (found, words, result) = verdict(5, &|arm, seed| {
        (arm == 0 || seed != 2).then(|| 2.0 + arm as f64 * (0.1 + 0.1 * wobble(seed)))
    });
    assert_eq!(found, Verdict::Helps, "{words}");
    assert!(words.ends_with("; 1 trial without it failed"), "{words}");
    assert!(result.effects[0].pairs < 5);
}

#[test]
fn few_seeds_and_none_give_figures_or_say_that_there_are_none() {
    for seeds in 2..=30 {
        let study = study(2, seeds);
        for run in 0..=seeds.min(4) {
            let some = Study { seeds: (1..=run).collect(), ..study.clone() };
            let events = carry_out(&some, &|arm, seed| Some(noise(9, arm, seed, 0.01)));
            let result = analyze(&study, &events, Standing::Interrupted);
            assert_eq!(result.seeds_done, run);
            for effect in &result.effects {
                assert_eq!(effect.test.mean.is_nan(), run == 0);
                assert_eq!(effect.test.low.is_nan(), run < 2);
                assert!(!effect.sentence.is_empty());
            }
        }
    }
}

#[test]
fn rates_are_chosen_by_validation_and_ties_stay_near_one() {
    let tuning = |arm: &str, rate_factor: f64, loss_valid: f64| {
        let arm = arm.to_owned();
        let is_tuning = true;
        TrialEvent::Finished(TrialResult {
            arm,
            rate_factor,
            loss_valid,
            is_tuning,
            ..TrialResult::default()
        })
    };
    let events = [
        tuning("a", 0.5, 2.0),
        tuning("a", 1.0, 2.1),
        tuning("a", 2.0, f64::NAN),
        tuning("b", 0.5, 2.0),
        tuning("b", 1.0, 2.0),
    ];
    assert_eq!(tuned_factor("a", &events), 0.5);
    assert_eq!(tuned_factor("b", &events), 1.0);
    assert_eq!(tuned_factor("c", &events), 1.0);
}
