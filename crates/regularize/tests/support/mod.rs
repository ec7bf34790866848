//! Little models, and what is measured of a plan on one of them.

use heldout_kernels::{Device, Precision};
use heldout_model::{Model, ModelConfig, Tied, Tokens};
use heldout_optim::OptimizerSpec;
use heldout_regularize::{
    Assembled, Beginning, Facts, Length, Live, Plan, Probe, SettingError, Settings, assemble,
    measure,
};
use std::sync::Arc;

pub fn only(name: &str, settings: &Settings) -> Result<Assembled, SettingError> {
    assemble([(name, settings)])
}

pub fn models() -> Vec<Model> {
    let tied = ModelConfig::gpt2(17, 16, 2, 2, 16);
    let untied = ModelConfig { tied: Tied::No, ..tied.clone() };
    let llama = ModelConfig { tied: Tied::No, ..ModelConfig::llama(17, 16, 2, 4, 2, 32) };
    [tied, untied, llama].map(|config| Model::new(config).expect("a valid model")).into()
}

pub fn facts(model: &Model) -> Facts<'_> {
    let length = Length { steps: Some(1000), epochs: Some(10.0), evaluations: Some(20) };
    let beginning = Beginning::Trained;
    Facts {
        config: &model.config,
        layout: model.layout(),
        tied_by_model: Tied::No,
        length,
        beginning,
    }
}

pub fn live(model: &Model, plan: &Plan, precision: Precision) -> Live {
    let device = Arc::new(Device::cpu(2, precision).expect("a processor"));
    let model = &Model::for_training(model.config.clone(), &plan.extra()).expect("valid");
    let parameters = model.initialize(1);
    let mut gradients = vec![0.0; parameters.len()];
    let ids: Vec<u32> = (0..64).map(|i| i * 5 % 17).collect();
    let targets: Vec<u32> = (0..64).map(|i| (i * 5 + 5) % 17).collect();
    let marks: Vec<u32> = (0..64).map(|i| i % 2).collect();
    let live = measure(&mut Probe {
        plan,
        model,
        device: &device,
        parameters: &parameters,
        gradients: &mut gradients,
        batch: Tokens { ids: &ids, targets: &targets, batch: 4, seq_len: 16 },
        marks: plan.predictable_share().map(|_| &marks[..]),
        seed: 7,
        horizon: 100,
        rate: 1e-3,
        optimizer: &OptimizerSpec::named("adamw").expect("registered"),
    });
    assert!(gradients.iter().all(|g| *g == 0.0), "gradients are left at zero");
    live
}
