//! Techniques on an encoder that labels texts: noise proves that it is live there, too.

#[allow(dead_code)]
mod support;

use heldout_kernels::Precision;
use heldout_model::{Head, Model, ModelConfig, Variant};
use heldout_regularize::{Settings, Value, assemble};
use support::live;

#[test]
fn noise_and_two_passes_are_measured_by_labels() {
    let head = Head::Classification { labels: 17 };
    let config = ModelConfig { head, ..ModelConfig::bert(Variant::Bert, 17, 16, 2, 2, 16) };
    let model = Model::new(config).expect("a valid model");
    let number = |value| Settings::bare(Value::Number(value));
    let (dropout, twins) = (number(0.3), number(1.0));
    let assembled = assemble([("dropout", &dropout), ("r-drop", &twins)]).expect("allowed");
    let live = live(&model, &assembled.plan, Precision::F32);
    for technique in &assembled.techniques {
        let receipt = technique.receipt(&live).expect("live");
        assert!(!receipt.statement.is_empty());
        for (figure, rate) in receipt.measured.iter().filter(|(name, _)| name.ends_with(".dropped"))
        {
            assert!((rate - 0.3).abs() < 0.05, "{figure}: {rate}");
        }
    }
}
