//! Techniques that look back at a trained model: what cannot stand beside them, what they need, and
//! that adapters leave everything else as it is.

use heldout_kernels::{Device, Precision, Role};
use heldout_model::{Model, ModelConfig, Tied};
use heldout_regularize::{
    At, Beginning, Bound, CATALOGUE, Facts, Length, SettingError, Settings, Value, assemble, find,
};

fn number(value: f64) -> Settings {
    Settings::bare(Value::Number(value))
}

fn models() -> Vec<Model> {
    let gpt2 = ModelConfig::gpt2(17, 16, 2, 2, 16);
    let llama = ModelConfig { tied: Tied::No, ..ModelConfig::llama(17, 16, 2, 4, 2, 32) };
    [gpt2, llama].map(|config| Model::new(config).expect("a valid model")).into()
}

fn facts(model: &Model, beginning: Beginning) -> Facts<'_> {
    let (length, tied_by_model) = (Length::default(), Tied::No);
    Facts { config: &model.config, layout: model.layout(), tied_by_model, length, beginning }
}

#[test]
fn adapters_and_what_cannot_stand_beside_them_name_each_other() {
    let lora = find("lora").expect("registered").example_settings();
    for entry in CATALOGUE.iter().filter(|entry| entry.name() != "lora") {
        let other = entry.example_settings();
        let both = assemble([("lora", &lora), (entry.name(), &other)]);
        let excluded = ["freeze", "mixout", "reinit", "multi-token-prediction", "max-norm"];
        match both {
            Ok(_) => assert!(!excluded.contains(&entry.name()), "{}", entry.name()),
            Err(error) => {
                let shown = error.to_string();
                assert!(excluded.contains(&entry.name()), "{shown}");
                let named = shown.contains("`lora`") && shown.contains(entry.name());
                assert!(named && matches!(error, SettingError::Conflict(_)), "{shown}");
            }
        }
    }
}

#[test]
fn what_looks_back_at_a_start_needs_one() {
    let model = &models()[0];
    let cases = [
        ("lora", "nothing to adapt"),
        ("mixout", "nothing to keep"),
        ("reinit", "all blocks are drawn anyway"),
    ];
    for (name, part) in cases {
        let settings = find(name).expect("registered").example_settings();
        let assembled = assemble([(name, &settings)]).expect("fine by itself");
        let random = facts(model, Beginning::Random);
        let shown = assembled.check(&random).expect_err("a fresh model").to_string();
        assert!(shown.contains(part) && shown.contains("model.from"), "{shown}");
    }
    for (rank, fits) in [(16.0, true), (17.0, false)] {
        let assembled = assemble([("lora", &number(rank))]).expect("fine by itself");
        let extra = assembled.plan.extra();
        let adapted = Model::for_training(model.config.clone(), &extra).expect("valid");
        let checked = assembled.check(&facts(&adapted, Beginning::Trained));
        assert_eq!(checked.is_ok(), fits, "{rank}: {checked:?}");
    }
}

#[test]
fn adapters_alone_are_trained_and_the_rest_follows_them() {
    let device = Device::cpu(2, Precision::F32).expect("a processor");
    let (decay, noise) = (number(0.1), number(1e-2));
    let lora = Settings::table([
        ("rank", Value::Number(2.0)),
        ("on", Value::Text("attention".to_owned())),
    ]);
    let chosen = [("lora", &lora), ("weight-decay", &decay), ("gradient-noise", &noise)];
    let plan = assemble(chosen).expect("they compose").plan;
    for model in models() {
        let model = Model::for_training(model.config, &plan.extra()).expect("valid");
        let bound = Bound::new(&plan, model.layout());
        let exported = model.exported_len();
        assert!(bound.segments.iter().all(|s| s.name.starts_with("lora.") && s.decay == 1.0));
        assert_eq!(bound.trained_len(), model.layout().len - exported);
        let mut w = model.initialize(3);
        let start = w[..exported].to_vec();
        let at = At { step: 0, horizon: 10 };
        let mut g = vec![1.0; w.len()];
        bound.pull_back(&device, &w, &mut g, at);
        bound.transform(&device, &w, &mut g, at);
        assert!(g[..exported].iter().all(|g| *g == 0.0));
        w[exported..].iter_mut().for_each(|w| *w = 0.5);
        bound.merge(&device, &start, &mut w);
        for parameter in model.layout().parameters.iter().filter(|p| p.offset < exported) {
            // α/r · r · 0.5 · 0.5 on every weight of attention.
            let moved = if parameter.name.contains("attn.") && parameter.role == Role::Matrix {
                4.0
            } else {
                0.0
            };
            for place in parameter.range() {
                assert!((w[place] - start[place] - moved).abs() < 1e-5, "{}", parameter.name);
            }
        }
    }
}
