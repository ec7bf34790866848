//! Schedules against torch's and transformers' schedulers, and their own promises.

use heldout_base::schedule::{CARDS, PlateauState, Schedule, Shape, Span};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    plateaus: Vec<Plateau>,
}

#[derive(Deserialize)]
struct Case {
    source: String,
    schedule: Schedule,
    horizon: u64,
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct Plateau {
    shape: Shape,
    losses: Vec<f64>,
    factors: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/schedules.json")).expect("the golden file is ours")
}

fn shapes() -> Vec<Shape> {
    vec![
        Shape::Constant,
        Shape::Linear { end: 0.1 },
        Shape::Cosine { end: 0.1 },
        Shape::WarmupStableDecay { decay: 0.2, end: 0.0 },
        Shape::InverseSqrt,
        Shape::Exponential { rate: 3.0 },
        Shape::Step { every: Span::Share(0.3), factor: 0.5 },
        Shape::Polynomial { power: 2.0, end: 0.0 },
        Shape::OneCycle { up: 0.3, start: 0.04, end: 0.0 },
        Shape::Plateau { factor: 0.5, patience: 3, floor: 0.01 },
    ]
}

#[test]
fn values_agree_with_torch_and_transformers() {
    for case in golden().cases {
        let warmup = case.schedule.warmup.steps(case.horizon);
        for (step, &expected) in (0u64..).zip(&case.values) {
            // Theirs begin the warm-up at zero; ours is one step ahead so that no update is wasted.
            if step == 0 && warmup > 0 {
                continue;
            }
            let ours = if step <= warmup && warmup > 0 { step - 1 } else { step };
            let found = case.schedule.value(ours, case.horizon);
            let error = (found - expected).abs();
            assert!(
                error <= 1e-12 + 1e-9 * expected.abs(),
                "{} step {step}: {found} instead of {expected}",
                case.source
            );
        }
    }
}

#[test]
fn plateau_agrees_with_torch() {
    for case in golden().plateaus {
        let mut state = PlateauState::new();
        for (at, (&loss, &expected)) in case.losses.iter().zip(&case.factors).enumerate() {
            state.observe(&case.shape, loss);
            let found = state.factor();
            assert!((found - expected).abs() < 1e-12, "evaluation {at}: {found}, not {expected}");
            // The state must survive a checkpoint.
            let text = serde_json::to_string(&state).expect("plain data");
            state = serde_json::from_str(&text).expect("what was just written");
        }
    }
}

#[test]
fn plateau_takes_a_loss_that_is_not_a_number_as_no_improvement() {
    let shape = Shape::Plateau { factor: 0.5, patience: 0, floor: 0.2 };
    let mut state = PlateauState::default();
    for (loss, expected) in [(f64::NAN, 0.5), (2.0, 0.5), (f64::INFINITY, 0.25), (1.0, 0.25)] {
        state.observe(&shape, loss);
        assert_eq!(state.factor(), expected);
    }
    state.observe(&shape, 1.0);
    assert_eq!(state.factor(), 0.2, "the floor holds");
    let mut other = PlateauState::new();
    other.observe(&Shape::Constant, f64::NAN);
    assert_eq!(other, PlateauState::new());
}

#[test]
fn every_shape_has_a_complete_card_and_every_card_a_shape() {
    let names: Vec<&str> = CARDS.iter().map(|card| card.name).collect();
    let mut expected: Vec<&str> = shapes().iter().map(Shape::name).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sorted, expected);
    for card in CARDS {
        assert_eq!(card.problems(), Vec::<String>::new(), "{}", card.name);
    }
}

#[test]
fn warm_up_is_linear_and_reaches_the_peak() {
    for shape in shapes() {
        let schedule = Schedule { peak: 0.4, warmup: Span::Steps(4), shape };
        let found: Vec<f64> = (0..4).map(|t| schedule.value(t, 100)).collect();
        assert_eq!(found, [0.1, 0.2, 0.30000000000000004, 0.4], "{}", schedule.describe());
    }
}

#[test]
fn every_shape_is_finite_and_bounded_on_odd_horizons() {
    for shape in shapes() {
        for warmup in [Span::NONE, Span::Steps(1), Span::Steps(50), Span::Share(0.05)] {
            let schedule = Schedule { peak: 2.0, warmup, shape: shape.clone() };
            for horizon in [0, 1, 2, 3, 7, 49, 50, 51, 1000] {
                for t in 0..horizon + 20 {
                    let value = schedule.value(t, horizon);
                    let name = schedule.describe();
                    assert!((0.0..=2.0).contains(&value), "{name} T={horizon} t={t}: {value}");
                }
            }
        }
    }
}

#[test]
fn serde_round_trip() {
    for shape in shapes() {
        for warmup in [Span::Steps(3), Span::Share(0.07)] {
            let schedule = Schedule { peak: 3e-4, warmup, shape: shape.clone() };
            let text = serde_json::to_string(&schedule).expect("plain data");
            let back: Schedule = serde_json::from_str(&text).expect("what was just written");
            assert_eq!(back, schedule, "{text}");
        }
    }
}

#[test]
fn described_in_words() {
    let check = |warmup, shape, expected: &str| {
        assert_eq!(Schedule { peak: 3e-4, warmup, shape }.describe(), expected);
    };
    assert_eq!(Schedule::constant(0.1).describe(), "0.1");
    check(
        Span::Steps(100),
        Shape::Cosine { end: 0.1 },
        "3e-4, warm-up over 100 steps, then cosine to 10%",
    );
    check(Span::Share(0.05), Shape::Constant, "3e-4, warm-up over 5%");
    check(Span::NONE, Shape::Linear { end: 0.0 }, "3e-4, linear to 0%");
    check(Span::NONE, Shape::Exponential { rate: 3.0 }, "3e-4, exponential to 4.979%");
}

#[test]
fn nonsense_is_refused_with_the_field_named() {
    let check = |peak: f64, warmup, shape, word: &str| {
        let error = Schedule { peak, warmup, shape }.check().expect_err(word).to_string();
        assert!(error.contains(word), "{error}");
    };
    for shape in shapes() {
        let schedule = Schedule { peak: 1.0, warmup: Span::Steps(10), shape };
        assert_eq!(schedule.check(), Ok(()), "{}", schedule.describe());
    }
    check(f64::NAN, Span::NONE, Shape::Constant, "value");
    check(f64::INFINITY, Span::NONE, Shape::Constant, "value");
    check(1.0, Span::Share(1.5), Shape::Constant, "warmup");
    check(1.0, Span::NONE, Shape::InverseSqrt, "warm-up");
    check(1.0, Span::NONE, Shape::Cosine { end: f64::NAN }, "end");
    check(1.0, Span::NONE, Shape::Exponential { rate: -1.0 }, "rate");
    check(1.0, Span::NONE, Shape::Step { every: Span::NONE, factor: 0.5 }, "every");
    check(1.0, Span::NONE, Shape::OneCycle { up: 2.0, start: 0.0, end: 0.0 }, "up");
    check(1.0, Span::NONE, Shape::Plateau { factor: 2.0, patience: 1, floor: 0.0 }, "factor");
}

#[test]
fn constants_are_recognised() {
    assert!(Schedule::constant(1.0).is_constant());
    assert!(Schedule::constant(0.0).is_zero());
    let warm = Schedule { warmup: Span::Share(0.1), ..Schedule::constant(1.0) };
    assert!(!warm.is_constant());
    assert_eq!(Schedule::constant(0.25).value(12345, 10), 0.25);
}
