//! Whatever a recipe says, the answer is a plan that survives serialisation or an error that names
//! the technique; never a panic.

use heldout_base::schedule::{Schedule, Shape, Span};
use heldout_regularize::{At, CATALOGUE, Plan, Settings, Value, assemble};
use proptest::prelude::*;

fn numbers() -> impl Strategy<Value = f64> {
    let usual = prop::sample::select(vec![0.0, 1e-9, 0.01, 0.1, 0.5, 0.99, 1.0, 2.0, 8.0, 300.0]);
    prop_oneof![6 => usual, 2 => -1.0..2.0_f64, 1 => any::<f64>()]
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let shapes = prop_oneof![
        Just(Shape::Constant),
        (0.0..1.5_f64).prop_map(|end| Shape::Cosine { end }),
        (0.0..1.5_f64).prop_map(|end| Shape::Linear { end }),
        numbers().prop_map(|rate| Shape::Exponential { rate }),
        (0..50_u64, numbers())
            .prop_map(|(steps, factor)| Shape::Step { every: Span::Steps(steps), factor }),
    ];
    (numbers(), 0..20_u64, shapes).prop_map(|(peak, warmup, shape)| Schedule {
        peak,
        warmup: Span::Steps(warmup),
        shape,
    })
}

/// Numbers, schedules, every word of every card, and noise.
fn values() -> impl Strategy<Value = Value> {
    let choices = CATALOGUE.iter().flat_map(|entry| entry.card.knobs).flat_map(|k| k.choices);
    let mut words: Vec<String> = choices.map(|word| (*word).to_owned()).collect();
    words.extend(["off", "bias", "matrix", "3 steps", "0 epochs"].map(str::to_owned));
    let words = prop::sample::select(words);
    prop_oneof![
        numbers().prop_map(Value::Number),
        schedules().prop_map(Value::Schedule),
        words.clone().prop_map(Value::Text),
        "[0-9a-z. -]{0,12}".prop_map(Value::Text),
        prop::collection::vec(words, 0..3).prop_map(Value::List),
    ]
}

/// A technique with some of its knobs, or bare.
fn settings() -> impl Strategy<Value = (&'static str, Settings)> {
    (0..CATALOGUE.len()).prop_flat_map(|index| {
        let entry = &CATALOGUE[index];
        let knobs: Vec<&str> = entry.card.knobs.iter().map(|knob| knob.name).collect();
        let table = prop::collection::vec((prop::sample::select(knobs), values()), 0..4);
        let settings = prop_oneof![
            values().prop_map(Settings::bare),
            table.prop_map(Settings::table),
            Just(entry.example_settings()),
        ];
        settings.prop_map(|settings| (entry.name(), settings))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn settings_become_a_plan_or_an_error(
        chosen in prop::collection::vec(settings(), 0..5),
        step in 0..1000_u64,
    ) {
        match assemble(chosen.iter().map(|(name, settings)| (*name, settings))) {
            Err(error) => {
                prop_assert!(error.to_string().contains(error.technique()));
                prop_assert!(chosen.iter().any(|(name, _)| *name == error.technique()));
            }
            Ok(assembled) => {
                let plan = assembled.plan;
                let json = serde_json::to_string(&plan).expect("plain data");
                let back: Plan = serde_json::from_str(&json).expect("its own");
                prop_assert_eq!(&back, &plan);
                prop_assert!(!plan.describe().is_empty());
                let at = At { step, horizon: 1000 };
                prop_assert!(plan.noise_at(at).validate().is_ok());
                let (decoupled, coupled) = plan.decay_at(at);
                prop_assert!(decoupled >= 0.0 && coupled >= 0.0);
            }
        }
    }
}
