//! Token-dropout that is guided by predictability: as much as asked, and nowhere else.

#[allow(dead_code)]
mod support;

use heldout_base::schedule::{Schedule, Shape, Span};
use heldout_kernels::Precision;
use heldout_regularize::live::PredictableMeasure;
use heldout_regularize::{At, Settings, Value};
use support::{live, models, only};

fn guided(knobs: &[(&'static str, Value)]) -> Settings {
    let guide = ("guide", Value::Text("predictable".to_owned()));
    Settings::table(knobs.iter().cloned().chain([guide]))
}

#[test]
fn predictable_tokens_alone_are_drawn_as_often_as_asked_in_all() {
    let falling = Value::Schedule(Schedule {
        peak: 0.2,
        warmup: Span::Steps(0),
        shape: Shape::Linear { end: 0.0 },
    });
    for (share, rate) in [(0.25, Value::Number(0.2)), (0.5, Value::Number(0.2)), (0.5, falling)] {
        for method in ["zero", "replace"] {
            let knobs = [
                ("rate", rate.clone()),
                ("share", Value::Number(share)),
                ("method", Value::Text(method.to_owned())),
            ];
            let assembled = only("token-dropout", &guided(&knobs)).expect("allowed");
            let rates = assembled.plan.noise_at(At { step: 0, horizon: 100 });
            // Of a share s of the tokens the part rate/s: the rate, of all of them.
            let asked = (0.2 / share) as f32;
            assert!((rates.tokens + rates.replace - asked).abs() < 1e-6, "{rates:?}");
            assert_eq!(rates.tokens == 0.0, method == "replace");
            for model in models() {
                let mut live = live(&model, &assembled.plan, Precision::F32);
                let technique = &assembled.techniques[0];
                let unproven = technique.receipt(&live).expect_err("the text was not looked at");
                assert!(unproven.to_string().contains("nothing was measured"), "{unproven}");
                let found =
                    PredictableMeasure { share, order: 4, loss_marked: 0.5, loss_others: 3.0 };
                live.predictable = Some(found);
                let receipt = technique.receipt(&live).expect("live");
                println!("{}", receipt.statement);
                let near = |name: &str, expected: f64, tolerance: f64| {
                    let found = receipt.measured[name];
                    assert!((found - expected).abs() < tolerance, "{name}: {found} {expected}");
                };
                near("tokens.rate", 0.2, 1e-9);
                // Five standard deviations of 1,024 draws.
                near("tokens.dropped", 0.2, 0.0625);
                near("tokens.dropped_predictable", 0.2 / share, 0.16);
                near("tokens.dropped_others", 0.0, 1e-12);
                live.predictable = Some(PredictableMeasure { loss_others: 0.5, ..found });
                let error = technique.receipt(&live).expect_err("all alike").to_string();
                assert!(error.contains("more predictable than another"), "{error}");
            }
        }
    }
    let refuse = |settings: Settings, part: &str| {
        let error = only("token-dropout", &settings).expect_err("refused").to_string();
        assert!(error.contains(part), "{error}");
    };
    refuse(Settings::table([("share", Value::Number(0.3))]), "the guide is uniform");
    let high = [("rate", Value::Number(0.4)), ("share", Value::Number(0.25))];
    refuse(guided(&high), "with probability 1.60; give a larger share, or a lower rate");
    let plan = only("token-dropout", &guided(&[("rate", Value::Number(0.1))])).unwrap().plan;
    let words = plan.describe().join("\n");
    assert!(words.contains("p = 0.1, all within the most predictable 0.5 of the text"), "{words}");
}
