//! Class weights and focal loss against PyTorch: losses and gradients over a whole training set,
//! from golden/class_loss.json (made by golden/make_class_loss.py).

use heldout_kernels::{
    ClassLoss, Device, EmbeddingNoise, LossReport, NoiseKey, PassKind, Precision, Tape, Weight,
};
use heldout_regularize::plan::ClassWeights;
use serde_json::Value;
use std::sync::Arc;

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

#[test]
fn weighted_and_focal_losses_are_pytorchs() {
    let golden: Value = serde_json::from_str(include_str!("golden/class_loss.json")).expect("JSON");
    let logits: Vec<f32> = floats(&golden["logits"]).into_iter().map(|z| z as f32).collect();
    let targets: Vec<u32> = floats(&golden["targets"]).into_iter().map(|t| t as u32).collect();
    let (rows, classes) = (targets.len(), logits.len() / targets.len());
    let labels: Vec<String> = (0..classes).map(|class| format!("class {class}")).collect();
    let counts: Vec<u64> = (0..classes as u32)
        .map(|class| targets.iter().filter(|target| **target == class).count() as u64)
        .collect();
    let given = [("class 1".to_owned(), 2.5), ("class 2".to_owned(), 0.5)].into();
    let weighted = |weights: ClassWeights| weights.weights(&labels, &counts).expect("known labels");
    let cases = [
        ("auto", weighted(ClassWeights::Balanced { power: 1.0 }), 0.0),
        ("half", weighted(ClassWeights::Balanced { power: 0.5 }), 0.0),
        ("given", weighted(ClassWeights::Given(given)), 0.0),
        ("focal 0.5", Vec::new(), 0.5),
        ("focal 2.0", Vec::new(), 2.0),
        ("focal 5.0", Vec::new(), 5.0),
    ];
    let device = Arc::new(Device::cpu(1, Precision::F32).expect("a processor"));
    let all = Weight { offset: 0, rows, cols: classes };
    let places: Vec<u32> = (0..rows as u32).collect();
    for (name, weights, focus) in cases {
        let mut tape = Tape::new(device.clone());
        let mut gradients = vec![0.0; logits.len()];
        let noise = NoiseKey { seed: 0, step: 0, first_sequence: 0 };
        let kind = PassKind::TrainFirst { gradients: &mut gradients, noise };
        let mut pass = tape.pass(&logits, kind);
        let x = pass.embedding(all, &places, None, 1, EmbeddingNoise::default());
        let loss = ClassLoss { weights: &weights, focus, ..ClassLoss::plain(1.0 / rows as f32) };
        let LossReport { objective_sum, .. } = pass.class_loss(x, &targets, &loss);
        pass.backward();
        drop(pass);
        let expected = &golden["cases"][name];
        let value = expected["loss"].as_f64().expect("a loss");
        assert!((objective_sum / rows as f64 - value).abs() < 1e-6, "{name}: {objective_sum}");
        for (found, expected) in gradients.iter().zip(floats(&expected["gradient"])) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{name}: {found} {expected}");
        }
    }
}
