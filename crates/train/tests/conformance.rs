//! What every technique of the catalogue must hold: off leaves no trace, the same seed gives the
//! same bits, a stop leaves no trace, training still works.

mod support;

use heldout_model::Tied;
use heldout_record::Event;
use heldout_regularize::{Assembled, CATALOGUE, Entry, Plan};
use heldout_train::TrainError;
use support::*;

fn off(entry: &Entry) -> String {
    format!("regularize.{}=off", entry.name())
}

/// Techniques that need no trained model to start from.
fn of_fresh_models() -> impl Iterator<Item = &'static Entry> {
    CATALOGUE.iter().filter(|entry| !needs_start(entry) && !needs_labels(entry))
}

/// Techniques that act on something else than the course of the weights.
const WATCHERS: [&str; 5] =
    ["early-stopping", "explosion-guard", "ema", "swa", "checkpoint-averaging"];

#[test]
fn off_is_absent_bit_for_bit() {
    // Absent: the trainer is handed a plan that no technique has touched.
    let all_off: Vec<String> = CATALOGUE.iter().map(off).collect();
    let settings: Vec<&str> = all_off.iter().map(String::as_str).collect();
    let mut absent = job(&settings).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(absent.techniques.plan, Plan::default());
    absent.recipe.model.config.tied = Tied::No;
    absent.techniques = Assembled { plan: Plan::default(), techniques: Vec::new() };
    let absent = run_job("absent", absent);
    let switched_off = run("all off", &settings);
    assert_same_run(&absent.path, &switched_off.path, "all off");
    assert!(!switched_off.events.iter().any(|e| matches!(e, Event::Receipt(_))));
}

#[test]
fn one_technique_off_leaves_the_others_as_they_are() {
    let all: Vec<String> = of_fresh_models().map(example).collect();
    let plan_of = |settings: &[String]| {
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        job(&settings).unwrap_or_else(|e| panic!("{e}")).techniques.plan
    };
    let whole = plan_of(&all);
    for entry in of_fresh_models() {
        let mut settings = all.clone();
        settings.push(off(entry));
        let mut without = serde_json::to_value(&whole).expect("a plan is JSON");
        remove_owner(&mut without, entry.name());
        let off = serde_json::to_value(plan_of(&settings)).expect("a plan is JSON");
        assert_eq!(off, without, "{} off", entry.name());
    }
}

/// Takes out of a plan what `name` has put there.
fn remove_owner(plan: &mut serde_json::Value, name: &str) {
    let is_owned = |slot: &serde_json::Value| slot.get("owner").is_some_and(|o| o == name);
    match plan {
        serde_json::Value::Array(list) => {
            list.retain(|slot| !is_owned(slot));
            list.iter_mut().for_each(|slot| remove_owner(slot, name));
        }
        serde_json::Value::Object(fields) if fields.keys().any(|key| key == "sites") => {
            let sites = fields["sites"].as_object_mut().expect("sites by name");
            sites.retain(|_, slot| !is_owned(slot));
            let neftune = &mut fields["neftune"];
            if is_owned(neftune) {
                *neftune = serde_json::Value::Null;
            }
        }
        serde_json::Value::Object(fields) => {
            for slot in fields.values_mut() {
                if is_owned(slot) {
                    *slot = serde_json::Value::Null;
                }
                remove_owner(slot, name);
            }
        }
        _ => {}
    }
}

#[test]
fn every_technique_is_reproducible_resumable_and_alive() {
    let plain = run("plain", &[]);
    // What is for labels alone has its turn in `classify.rs`.
    for entry in CATALOGUE.iter().filter(|entry| !needs_labels(entry)) {
        let name = entry.name();
        let settings = settings_of(entry);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let settings = &settings[..];
        let done = run(name, settings);
        let receipts: Vec<_> = done
            .events
            .iter()
            .filter_map(|e| match e {
                Event::Receipt(receipt) if receipt.technique == name => Some(receipt),
                _ => None,
            })
            .collect();
        assert!(!receipts.is_empty(), "{name} shows no receipt");
        assert!(receipts.iter().all(|r| !r.statement.is_empty()), "{name}");
        let again = run(name, settings);
        assert_same_run(&done.path, &again.path, &format!("{name} twice"));
        let stopped = run_until(name, settings, 14);
        go_on(&stopped).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_same_run(&done.path, &stopped, &format!("{name} stopped and resumed"));
        assert_learns(&done, name);
        // Where the example is what the tiny recipe does anyway, its absence must differ.
        let mut without = bits(&plain.path.join("last"));
        if let [companion, _] = settings {
            without = bits(&run("companion", &[companion]).path.join("last"));
        } else if losses(&plain.path) == losses(&done.path) {
            without = bits(&run("without", &[&off(entry)]).path.join("last"));
        }
        if !WATCHERS.contains(&name) {
            assert_ne!(bits(&done.path.join("last")), without, "{name} changes nothing");
        }
    }
}

fn assert_learns(done: &Done, name: &str) {
    let losses: Vec<f64> = done
        .events
        .iter()
        .filter_map(|e| match e {
            Event::Evaluation(e) => Some(e.loss_valid),
            _ => None,
        })
        .collect();
    let (first, best) = (losses[0], done.outcome.best.expect("a best").loss_valid);
    // Chance is the logarithm of some thirty characters.
    assert!(best < first && best < 3.1, "{name}: {losses:?}");
}

#[test]
fn all_techniques_work_together() {
    let all: Vec<String> = of_fresh_models().map(example).collect();
    // l2 and coupled decay would be the same, decoupled decay beside l2 is allowed.
    let settings: Vec<&str> = all.iter().map(String::as_str).collect();
    let done = run("together", &settings);
    assert_learns(&done, "together");
}

#[test]
fn a_schedule_moves_a_knob() {
    let constant = run("constant", &["regularize.dropout=0.3"]);
    let falling = run(
        "falling",
        &["regularize.dropout={ rate = { peak = 0.3, shape = \"linear\", end = 0.0 } }"],
    );
    let first = |d: &Done| losses(&d.path)[0].clone();
    assert_eq!(first(&constant), first(&falling), "they start alike");
    assert_ne!(losses(&constant.path), losses(&falling.path));
}

#[test]
fn settings_without_effect_are_errors_at_their_place() {
    let check = |settings: &[&str], part: &str| {
        let error = job(settings).err().unwrap_or_else(|| panic!("accepted: {settings:?}"));
        assert!(matches!(error, TrainError::Recipe(_)), "{error:?}");
        let error = error.to_string();
        assert!(error.contains(part) && error.contains("command line:1:"), "{error}");
    };
    check(&["regularize.dropout=0"], "no effect");
    check(&["regularize.l1=0"], "no effect");
    check(&["model.family=llama", "regularize.l2={ strength = 0.1, on = \"bias\" }"], "no effect");
}

#[test]
fn penalties_and_smoothing_are_in_the_objective_but_never_in_the_evaluation() {
    let of = |settings: &[&str]| {
        let done = run("objective", settings);
        let step = done.events.iter().find_map(|e| match e {
            Event::Step(step) => Some(step.clone()),
            _ => None,
        });
        step.expect("a first step")
    };
    let plain = of(&[]);
    assert!((plain.objective - plain.loss_train).abs() < 1e-9);
    let l1 = "regularize.l1={ strength = 0.01, method = \"subgradient\" }";
    for setting in [l1, "regularize.l2=0.01"] {
        let penalized = of(&[setting]);
        assert_eq!(penalized.loss_train.to_bits(), plain.loss_train.to_bits(), "{setting}");
        assert!(penalized.objective > plain.objective, "{setting}");
    }
    let smoothed = of(&["regularize.label-smoothing=0.1"]);
    assert_eq!(smoothed.loss_train.to_bits(), plain.loss_train.to_bits());
    assert!((smoothed.objective - plain.objective).abs() > 1e-6);
}
