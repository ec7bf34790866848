//! Made runs as event files: each has one thing wrong, which must be the main finding, and nothing
//! else may be said. (Runs that are really trained are in the command line's tests.)

use std::collections::BTreeMap;

use heldout_record::examination::{
    Calibration, Canary, Examination, Improbable, Memorization, Overlap, Reproduced,
};
use heldout_record::{
    DataRecord, EvaluationRecord, Event, GuardRecord, Receipt, Started, StepRecord, StopReason,
    Stopped,
};

use super::*;

/// A run of 2000 steps as a few curves over its progress x in 0..=1.
#[derive(Clone)]
struct Made {
    train: fn(f64) -> f64,
    valid: fn(f64) -> f64,
    rate: fn(f64) -> f64,
    /// Gradient norms by step, before clipping at 1.
    norm: fn(u64) -> f64,
    /// Loss of the batch at a step, above the curve.
    jump: fn(u64) -> f64,
    error: f64,
    epochs: f64,
    update_ratio: Option<f64>,
    data: Option<DataRecord>,
    receipts: Vec<(&'static str, &'static str, f64)>,
    /// Share of the horizon at which it stopped, and why.
    end: (f64, StopReason),
    bytes_per_token: f64,
}

const STEPS: u64 = 2000;

fn cosine(x: f64) -> f64 {
    0.001 * (0.55 + 0.45 * (std::f64::consts::PI * x).cos())
}

/// Converges in the first third, keeps a gap of 0.01.
fn converged(x: f64) -> f64 {
    1.5 + 2.0 * (-x * 14.0).exp() - 0.03 * x
}

fn healthy() -> Made {
    Made {
        train: converged,
        valid: |x| converged(x) + 0.01 * (1.0 - x) + 0.01 * x,
        rate: cosine,
        norm: |step| 0.5 + 0.1 * (step % 7) as f64 + if step < 100 { 1.0 } else { 0.0 },
        jump: |_| 0.0,
        error: 0.008,
        epochs: 1.0,
        update_ratio: Some(2e-3),
        data: Some(DataRecord { bytes_valid: 100_000, ..DataRecord::default() }),
        receipts: vec![
            ("gradient-clipping", "probe_after", 1.0),
            ("weight-decay", "multiplier", 1.0 - 0.001 * 0.1),
        ],
        end: (1.0, StopReason::Horizon),
        bytes_per_token: 1.0,
    }
}

impl Made {
    fn events(&self) -> Vec<Event> {
        let mut events = vec![Event::Started(Started {
            horizon: STEPS,
            tokens_train: 1_000_000,
            tokens_valid: 100_000,
            bytes_per_token: self.bytes_per_token,
            data: self.data.clone(),
            ..Started::default()
        })];
        for (technique, figure, value) in &self.receipts {
            events.push(Event::Receipt(Receipt {
                technique: (*technique).into(),
                statement: "live".into(),
                measured: BTreeMap::from([((*figure).to_owned(), *value)]),
            }));
        }
        let end = (self.end.0 * STEPS as f64) as u64;
        for step in 1..=end {
            let x = step as f64 / STEPS as f64;
            let noise = 0.03 * ((step * 7919 % 13) as f64 / 6.0 - 1.0);
            events.push(Event::Step(StepRecord {
                step,
                loss_train: (self.train)(x) + noise + (self.jump)(step),
                objective: (self.train)(x) + noise + (self.jump)(step),
                learning_rate: (self.rate)(x),
                gradient_norm: (self.norm)(step),
                gradient_norm_clipped: (self.norm)(step).min(1.0),
                ..StepRecord::default()
            }));
            if step % 100 == 0 {
                events.push(self.evaluation(step));
            }
        }
        let (_, reason) = self.end;
        let detail = format!("ended: {reason:?}");
        events.push(Event::Stopped(Stopped { step: end, reason, detail, ..Stopped::default() }));
        events
    }

    fn evaluation(&self, step: u64) -> Event {
        let x = step as f64 / STEPS as f64;
        // The same windows each time: the noise of their difference is small.
        let wiggle = 0.0005 * ((step / 100 * 31 % 5) as f64 - 2.0);
        let (train, valid) = ((self.train)(x), (self.valid)(x) + wiggle);
        Event::Evaluation(EvaluationRecord {
            step,
            epoch: self.epochs * x,
            loss_train: train,
            loss_train_se: self.error,
            loss_valid: valid,
            loss_valid_se: self.error,
            gap: valid - train,
            gap_se: self.error * 1.4,
            perplexity: valid.exp(),
            bits_per_byte: valid / std::f64::consts::LN_2 / self.bytes_per_token,
            weights: "raw".into(),
            update_ratio: self.update_ratio,
            targets_valid: 99_999,
            ..EvaluationRecord::default()
        })
    }
}

/// The main finding, and every other one.
fn check(name: &str, diagnosis: &Diagnosis, main: Kind, others: &[Kind]) {
    let kinds: Vec<Kind> = diagnosis.findings.iter().map(|finding| finding.kind).collect();
    let expected: Vec<Kind> = std::iter::once(main).chain(others.iter().copied()).collect();
    assert_eq!(kinds, expected, "{name}: {:#?}", diagnosis.findings);
    for finding in &diagnosis.findings {
        assert!(!finding.sentence.ends_with('.') && !finding.sentence.is_empty(), "{name}");
        assert!(!finding.evidence.is_empty(), "{name}: a finding without a figure");
        let is_wrong = finding.severity <= Severity::Warning;
        assert!(!is_wrong || !finding.suggestions.is_empty(), "{name}: nothing to try");
        for suggestion in &finding.suggestions {
            let technique = suggestion.technique.as_deref().unwrap_or("dropout");
            assert!(CITED.contains(&technique), "{technique}");
        }
    }
    serde_json::to_string(diagnosis).expect("a diagnosis is plain data");
}

fn check_events(name: &str, made: &Made, main: Kind, others: &[Kind]) -> Diagnosis {
    let diagnosis = diagnose(&made.events());
    check(name, &diagnosis, main, others);
    diagnosis
}

#[test]
fn a_run_without_a_fault_is_healthy() {
    let found = check_events("healthy", &healthy(), Kind::Healthy, &[]);
    assert!(found.vitals.clipped_share.is_some_and(|share| share > 0.0 && share < 0.2));
    assert_eq!(found.vitals.update_ratio, Some(2e-3));
    check("empty", &diagnose(&[]), Kind::Unknown, &[]);
}

#[test]
fn overfitting_has_a_step_and_a_price() {
    let made = Made {
        train: |x| 0.9 + 2.6 * (-x * 5.0).exp(),
        valid: |x| 1.5 + 2.0 * (-x * 12.0).exp() + 0.5 * (x - 0.3).max(0.0),
        epochs: 40.0,
        ..healthy()
    };
    let found = check_events("overfit", &made, Kind::Overfitting, &[]);
    let main = found.main();
    assert!((500..=900).contains(&main.since_step.expect("a step")), "{main:?}");
    assert!((0.25..0.36).contains(&main.nats.expect("a price")), "{main:?}");
    assert_eq!(main.severity, Severity::Bad);
    assert_eq!(main.suggestions[0].setting.as_deref(), Some("regularize.dropout=0.2"));
    let with = |rate: f64| {
        let receipts = vec![("dropout", "attention.rate", rate)];
        diagnose(&Made { receipts, ..made.clone() }.events())
    };
    let found = with(0.2);
    assert!(found.main().suggestions[0].text.starts_with("raise dropout"), "{found:?}");
    let plenty = with(0.4);
    let is_of_dropout = |text: &str| text.contains("dropout");
    assert!(!plenty.main().suggestions.iter().any(|s| is_of_dropout(&s.text)), "{plenty:?}");
}

#[test]
fn a_slow_rise_is_seen_by_its_trend_and_noise_is_not() {
    let slow = Made {
        train: |x| 1.2 + 2.2 * (-x * 8.0).exp() - 0.1 * x,
        valid: |x| 1.5 + 2.0 * (-x * 16.0).exp() + 0.015 * (x - 0.4).max(0.0) / 0.6,
        error: 0.02,
        epochs: 20.0,
        ..healthy()
    };
    // The rise of 0.015 is below one standard error (0.02).
    let found = check_events("slow", &slow, Kind::Overfitting, &[]);
    assert_eq!(found.main().severity, Severity::Warning);
    let level = Made { valid: |x| 1.5 + 2.0 * (-x * 16.0).exp(), ..slow };
    check_events("level", &level, Kind::Healthy, &[Kind::Gap]);
}

#[test]
fn a_run_that_ended_while_learning_is_underfitted() {
    let made =
        Made { train: |x| 3.5 - 1.4 * x, valid: |x| 3.51 - 1.4 * x, rate: |_| 0.001, ..healthy() };
    let found = check_events("underfit", &made, Kind::Underfitting, &[]);
    assert!((found.main().nats.expect("a price") - 0.35).abs() < 0.01);
}

#[test]
fn divergence_is_found_by_the_guard_by_the_losses_and_by_the_ending() {
    let made = Made {
        train: |x| if x > 0.5 { 4.0 } else { converged(x) },
        valid: |x| if x > 0.5 { 4.01 } else { converged(x) },
        ..healthy()
    };
    let found = check_events("rose", &made, Kind::Diverged, &[]);
    assert_eq!(found.main().since_step, Some(1000));
    assert!(found.main().nats.is_some_and(|nats| nats > 2.0));
    let mut events = Made { end: (0.3, StopReason::Diverged), ..healthy() }.events();
    let guard = GuardRecord { step: 590, cause: "not finite".into(), ..GuardRecord::default() };
    events.insert(events.len() - 1, Event::Guard(guard));
    let found = diagnose(&events);
    check("stopped", &found, Kind::Diverged, &[]);
    assert_eq!(found.main().since_step, Some(590));
    let broken = Made { train: |x| if x > 0.8 { f64::NAN } else { converged(x) }, ..healthy() };
    let found = check_events("not a number", &broken, Kind::Diverged, &[]);
    assert_eq!(found.main().since_step, Some(1601));
}

#[test]
fn leaks_are_found_in_the_data_and_suspected_without_its_facts() {
    let data = DataRecord {
        documents_valid: 100,
        leaked_documents: 40,
        bytes_valid: 100_000,
        shared_passages: 40,
        shared_passage_bytes: 41_000,
        example: "a.txt:1 and b.txt:7: \"the same\"".into(),
        ..DataRecord::default()
    };
    let removed = DataRecord { leaked_removed: 40, shared_passage_bytes: 100, ..data.clone() };
    let made = Made { data: Some(data), ..healthy() };
    let found = check_events("leak", &made, Kind::Leaking, &[]);
    assert_eq!(found.main().severity, Severity::Bad);
    assert!(found.verdict.contains("41%"), "{}", found.verdict);
    check_events("removed", &Made { data: Some(removed), ..healthy() }, Kind::Healthy, &[]);
    let too_good = Made { epochs: 30.0, bytes_per_token: 8.0, ..healthy() };
    check_events("facts say no", &too_good, Kind::Healthy, &[]);
    let old = Made { data: None, ..too_good };
    check_events("old run", &old, Kind::Leaking, &[]);
}

#[test]
fn a_validation_split_may_be_too_small() {
    let made = Made { error: 0.06, ..healthy() };
    let found = check_events("small", &made, Kind::SmallValidation, &[]);
    // 99,999 tokens give 0.06; 0.01 takes 36 times as many.
    let words = &found.main().suggestions[0].text;
    assert!(words.contains("3,599,964"), "{words}");
}

#[test]
fn techniques_that_do_nothing_are_named() {
    let receipts = vec![
        ("gradient-clipping", "probe_after", 1.0),
        ("weight-decay", "multiplier", 1.0 - 1e-7),
        ("l2", "penalty", 1e-6),
        ("ema", "distance", 1e-7),
    ];
    let made = Made { receipts, norm: |_| 0.4, ..healthy() };
    let found = check_events("dead", &made, Kind::DeadTechnique, &[]);
    let sentence = &found.main().sentence;
    for name in ["gradient-clipping", "weight-decay", "l2", "ema"] {
        assert!(sentence.contains(name), "{sentence}");
    }
    let events = healthy().events();
    let planned = ["gradient-clipping", "weight-decay", "dropout"].map(str::to_owned).to_vec();
    let found = diagnose_with(&events, &Evidence { planned, examination: None });
    check("no receipt", &found, Kind::DeadTechnique, &[]);
    assert_eq!(found.main().evidence.len(), 1, "{found:?}");
}

#[test]
fn learning_rates_show_in_the_size_of_updates_and_in_jumps() {
    let high = Made { update_ratio: Some(0.2), ..healthy() };
    let found = check_events("huge updates", &high, Kind::RateTooHigh, &[]);
    let setting = found.main().suggestions[0].setting.as_deref();
    assert_eq!(setting, Some("optimizer.learning-rate=3.33e-4"));
    let jumps = Made { jump: |step| if step % 60 == 59 { 2.0 } else { 0.0 }, ..healthy() };
    let found = check_events("jumps", &jumps, Kind::RateTooHigh, &[]);
    assert!(found.vitals.loss_spikes > 25);
    let low = Made {
        train: |x| 4.0 - 0.2 * x,
        valid: |x| 4.01 - 0.2 * x,
        update_ratio: Some(1e-6),
        ..healthy()
    };
    check_events("tiny updates", &low, Kind::RateTooLow, &[]);
}

#[test]
fn gradients_that_jump_or_are_always_clipped() {
    let jumps = Made { norm: |step| if step % 60 == 59 { 30.0 } else { 0.5 }, ..healthy() };
    check_events("gradient jumps", &jumps, Kind::UnstableGradients, &[]);
    let clipped = Made { norm: |_| 4.2, ..healthy() };
    let found = check_events("clipped", &clipped, Kind::Healthy, &[Kind::UnstableGradients]);
    let setting = found.findings[1].suggestions[0].setting.as_deref();
    assert_eq!(setting, Some("regularize.gradient-clipping=8.4"));
}

#[test]
fn early_stopping_may_come_too_early() {
    let made = Made { end: (0.4, StopReason::EarlyStopping), rate: |_| 0.001, ..healthy() };
    let found = check_events("impatient", &made, Kind::StoppedEarly, &[]);
    assert_eq!(found.main().since_step, Some(800));
    let late = Made { end: (1.0, StopReason::EarlyStopping), ..healthy() };
    check_events("in time", &late, Kind::Healthy, &[]);
}

#[test]
fn a_plateau_is_noted_after_several_passes() {
    let flat = |x: f64| 2.0 + 1.5 * (-x * 40.0).exp();
    let made =
        Made { train: flat, valid: |x| 2.002 + 1.5 * (-x * 40.0).exp(), epochs: 5.0, ..healthy() };
    check_events("plateau", &made, Kind::Healthy, &[Kind::Plateau]);
}

#[test]
fn held_out_text_may_be_easier() {
    let made = Made { valid: |x| converged(x) - 0.2, ..healthy() };
    check_events("easier", &made, Kind::Healthy, &[Kind::EasierHeldOut]);
}

/// A healthy run with something found in its model.
fn examined(change: impl FnOnce(&mut Examination)) -> Diagnosis {
    let mut examination = Examination {
        weights: "result".into(),
        calibration: Some(Calibration {
            targets: 10_000,
            error: 0.008,
            temperature: 1.02,
            temperature_gain: 0.0002,
            ..Calibration::default()
        }),
        memorization: Some(Memorization {
            prompt: 32,
            continuation: 32,
            train: Reproduced { windows: 200, verbatim: 1, matched: 3.0 },
            valid: Reproduced { windows: 200, verbatim: 0, matched: 2.9 },
            ..Memorization::default()
        }),
        improbable: Some(Improbable {
            vocabulary: 65,
            targets_train: 10_000,
            below_train: 20,
            targets_valid: 10_000,
            below_valid: 25,
        }),
        overlap: Some(Overlap { length: 100, windows: 200, found: 0 }),
        ..Examination::default()
    };
    change(&mut examination);
    let evidence = Evidence { planned: Vec::new(), examination: Some(examination) };
    diagnose_with(&healthy().events(), &evidence)
}

#[test]
fn what_a_look_at_the_model_shows() {
    check("nothing", &examined(|_| ()), Kind::Healthy, &[]);
    let found = examined(|e| e.improbable.as_mut().expect("it is there").below_valid = 450);
    check("noise", &found, Kind::NoisyText, &[]);
    assert!(found.verdict.contains("9%"), "{}", found.verdict);
    assert!(found.main().evidence.iter().any(|text| text.contains("by heart")));
    let found = examined(|e| e.overlap.as_mut().expect("it is there").found = 90);
    check("overlap", &found, Kind::Leaking, &[]);
    let found = examined(|e| e.memorization.as_mut().expect("it is there").train.verbatim = 60);
    check("memory", &found, Kind::Memorizing, &[]);
    let sure = |error, temperature| Calibration {
        targets: 1000,
        error,
        temperature,
        temperature_gain: 0.05,
        ..Calibration::default()
    };
    let found = examined(|e| e.calibration = Some(sure(0.15, 1.6)));
    check("sure", &found, Kind::Overconfident, &[]);
    let found = examined(|e| e.calibration = Some(sure(0.15, 0.7)));
    check("unsure", &found, Kind::Underconfident, &[]);
    let canary = |rank: u64| Canary {
        text: "code 1234".into(),
        nats: 3.0,
        rank,
        candidates: 999,
        exposure: 1000f64.log2() - (rank as f64).log2(),
    };
    let found = examined(|e| e.canaries = vec![canary(1), canary(400)]);
    check("exposed", &found, Kind::Exposed, &[]);
    assert!(found.main().evidence[0].contains("at least 10.0 bits"), "{found:?}");
    check("unknown", &examined(|e| e.canaries = vec![canary(400)]), Kind::Healthy, &[]);
}

#[test]
fn a_network_below_the_n_gram_model_is_told_so() {
    let with_baseline = |loss_valid: f64| {
        let mut events = healthy().events();
        let baseline = heldout_record::BaselineRecord {
            order: 5,
            smoothing: "modified Kneser-Ney".into(),
            loss_valid,
            loss_valid_se: 0.008,
            ..Default::default()
        };
        events.insert(1, Event::Baseline(baseline));
        diagnose(&events)
    };
    let found = with_baseline(1.2);
    assert_eq!(found.main().kind, Kind::BelowBaseline, "{:?}", found.findings);
    assert!(found.verdict.starts_with("an n-gram model does better: by 0.2"), "{}", found.verdict);
    assert_eq!(with_baseline(1.9).main().kind, Kind::Healthy);
    // Within the error nothing is claimed.
    let best = with_baseline(1.9);
    assert!(best.find(Kind::BelowBaseline).is_none());
}
