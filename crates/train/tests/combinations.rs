//! Techniques in company: any combination of the catalogue either is refused with the names of
//! those that disagree, or trains, stops and goes on as if it had not stopped.

mod support;

use std::collections::BTreeMap;

use heldout_record::Event;
use heldout_regularize::CATALOGUE;
use heldout_train::TrainError;
use proptest::prelude::*;
use support::*;

/// Short enough that a case takes a moment; long enough for three evaluations and a tail.
const SHORT: [&str; 4] = [
    "schedule.horizon=12 steps",
    "schedule.warmup=2 steps",
    "evaluate.every=4 steps",
    "run.checkpoint=100 steps",
];
const STEPS: u64 = 12;

/// The settings, as they would be given on the command line, and the step to stop at.
#[derive(Clone, Debug)]
struct Case {
    settings: Vec<String>,
    stop: u64,
}

/// Each technique with its example (and that of a technique without which it does nothing), or not
/// at all; decay may be of the kind that l2 excludes.
fn cases() -> impl Strategy<Value = Case> {
    let coupled = r#"regularize.weight-decay={ rate = 0.1, method = "coupled" }"#;
    let mut pool: Vec<Vec<String>> =
        CATALOGUE.iter().filter(|entry| !needs_labels(entry)).map(settings_of).collect();
    pool.push(vec![coupled.to_owned()]);
    let chosen = prop::collection::vec(prop::bool::weighted(0.4), pool.len());
    (chosen, 1..STEPS).prop_map(move |(chosen, stop)| {
        let chosen = pool.iter().zip(chosen).filter(|(_, chosen)| *chosen);
        let mut settings: Vec<String> = Vec::new();
        for setting in chosen.flat_map(|(one, _)| one) {
            if !settings.contains(setting) {
                settings.push(setting.clone());
            }
        }
        // A trained model ties its embeddings or does not.
        if settings.iter().any(|setting| setting.starts_with("model.from=")) {
            settings.retain(|setting| !setting.starts_with("regularize.weight-tying="));
        }
        Case { settings, stop }
    })
}

fn with_short(settings: &[String]) -> Vec<&str> {
    SHORT.into_iter().chain(settings.iter().map(String::as_str)).collect()
}

/// A conflict names two techniques of the catalogue, and both were asked for.
fn assert_names_both(error: &TrainError, settings: &[String]) {
    let shown = error.to_string();
    let named = |name: &str| shown.contains(&format!("`{name}`"));
    let asked = |name: &str| settings.iter().any(|s| s.starts_with(&format!("regularize.{name}=")));
    let owners: Vec<&str> =
        CATALOGUE.iter().map(|entry| entry.name()).filter(|name| named(name)).collect();
    assert!(owners.len() == 2 && owners.iter().all(|name| asked(name)), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 8,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_combination_conflicts_by_name_or_resumes_to_the_same_bits(case in cases()) {
        let settings = with_short(&case.settings);
        match try_run("whole", &settings) {
            Err(error) => assert_names_both(&error, &case.settings),
            Ok(whole) => {
                let stopped = run_until("stopped", &settings, case.stop);
                go_on(&stopped).unwrap_or_else(|e| panic!("{e}"));
                assert_same_run(&whole.path, &stopped, "stopped and resumed");
            }
        }
    }
}

#[test]
fn a_conflict_names_both_owners() {
    let settings: Vec<String> =
        ["regularize.l2=0.1", r#"regularize.weight-decay={ rate = 0.1, method = "coupled" }"#]
            .map(str::to_owned)
            .into();
    let error = try_run("conflict", &with_short(&settings)).err().expect("the same twice");
    assert_names_both(&error, &settings);
}

#[test]
fn averages_are_evaluated_saved_and_told_apart() {
    let averages = [
        "regularize.ema=0.5",
        "regularize.swa={ start = 0.5, every = 2 }",
        "regularize.checkpoint-averaging=2",
    ];
    let often = ["run.checkpoint=4 steps"];
    let settings: Vec<&str> = SHORT.into_iter().chain(averages).chain(often).collect();
    let done = run("averages", &settings);
    let mut words: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for event in &done.events {
        if let Event::Evaluation(e) = event {
            words.entry(e.step).or_default().push(e.weights.clone());
        }
    }
    // Swa has nothing to show before its tail begins.
    assert_eq!(words[&4], ["raw", "ema", "checkpoint-averaging"]);
    assert_eq!(words[&8], ["raw", "ema", "swa", "checkpoint-averaging"]);
    assert_eq!(words[&12], words[&8]);

    // What checkpoint-averaging keeps: the weights of steps 4 and 8, then of 12 and 8.
    let at = |step: u64| bits(&done.path.join(format!("checkpoints/step-{step:06}")));
    let (earlier, last) = (at(8), at(12));
    let kept = |n: u32| format!("training_state.safetensors/weights.average.2.kept.{n}");
    assert_eq!(earlier[&kept(1)], last[&kept(1)]);
    assert_ne!(earlier[&kept(0)], last[&kept(0)]);
    for state in [&earlier, &last] {
        // The set that was best at the evaluation is the model's file instead.
        let average = state.get("training_state.safetensors/weights.average.2");
        let floats = |n| state[&kept(n)].iter().map(|bits| f64::from(f32::from_bits(*bits)));
        for (average, mean) in average.into_iter().flatten().zip(floats(0).zip(floats(1))) {
            let (found, mean) = (f64::from(f32::from_bits(*average)), 0.5 * (mean.0 + mean.1));
            assert!((found - mean).abs() < 1e-6, "{found} {mean}");
        }
    }
}

#[test]
fn frozen_weights_never_move() {
    let settings = [
        "regularize.freeze=1",
        "regularize.weight-decay=0.1",
        "regularize.l1=0.001",
        "regularize.gradient-noise=1e-5",
        "run.checkpoint=4 steps",
    ];
    let settings: Vec<&str> = SHORT.into_iter().take(3).chain(settings).collect();
    let done = run("frozen", &settings);
    let at = |step: u64| bits(&done.path.join(format!("checkpoints/step-{step:06}")));
    let (early, late) = (at(4), at(12));
    let mut moved = 0;
    for (name, values) in early.iter().filter(|(name, _)| name.starts_with("model.")) {
        let is_trained = name.contains("h.1.") || name.contains("ln_f");
        if is_trained {
            moved += u64::from(*values != late[name]);
        } else {
            assert_eq!(*values, late[name], "{name} is frozen");
        }
    }
    assert!(moved > 8, "what is trained moves");
}
