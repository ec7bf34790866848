//! Steps that take more than one pass or a second model against PyTorch's
//! (`tests/golden/make_passes.py`), on every instruction set.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use heldout_data::Batch;
use heldout_kernels::{Device, Isa, Precision};
use heldout_model::Model;
use heldout_model::extra::adapters;
use heldout_optim::{KnobValue, OptimizerSpec};
use heldout_record::RunDir;
use heldout_regularize::{Bound, Plan, Settings, Value, assemble};
use serde::Deserialize;

use crate::checkpointing::read_model;
use crate::control::Control;
use crate::golden_tests::{Golden, golden_folder, isas, read_golden, small_job};
use crate::horizon::Horizon;
use crate::job::Setup;
use crate::recorder::Recorder;
use crate::run::Run;
use crate::session::read_config;
use crate::state::State;
use crate::teachers::Teacher;

/// `passes.json` of a golden folder.
#[derive(Deserialize)]
struct Passes {
    rate: f64,
    rho: Rho,
    share: f64,
    temperature: f64,
    weight: f64,
    sam: Trace,
    asam: Trace,
    distillation: Trace,
    multi_token: Trace,
    seed: u64,
    strength: f64,
    rates: BTreeMap<String, f64>,
    r_drop: Trace,
}

#[derive(Deserialize)]
struct Rho {
    sam: f64,
    asam: f64,
}

#[derive(Deserialize)]
struct Trace {
    losses: Vec<f64>,
    norms: Vec<f64>,
}

fn plan(name: &str, knobs: &[(&'static str, Value)]) -> Plan {
    let settings = Settings::table(knobs.iter().cloned());
    assemble([(name, &settings)]).expect("golden settings").plan
}

/// A setup of the golden model of `family` under `plan`, and its first weights.
fn setup(scratch: &Path, family: &str, isa: Isa, plan: &Plan) -> (Setup, Vec<f32>) {
    let mut setup = Setup::new(small_job(scratch, &[])).expect("a setup");
    let folder = golden_folder(family);
    let config = read_config(&folder).expect("a config");
    setup.model = Model::for_training(config, &plan.extra()).expect("a model");
    setup.device = Arc::new(Device::cpu_with_isa(2, Precision::F32, isa).expect("a processor"));
    setup.plan = Bound::new(plan, setup.model.layout());
    setup.optimizer = OptimizerSpec::named("sgd").expect("an optimizer");
    setup.optimizer.set("momentum", &KnobValue::Number(0.9)).expect("a knob");
    setup.horizon = Horizon::Steps(100);
    let weights = read_model(&folder, &setup.model).expect("golden weights");
    (setup, weights)
}

/// Takes golden steps and compares; the weights that they lead to.
fn check(
    what: &str,
    golden: &Golden,
    wanted: &Trace,
    rate: f64,
    start: (Setup, Vec<f32>),
) -> Vec<f32> {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let (mut setup, weights) = start;
    // In pieces of three and one, as good as whole.
    setup.recipe.batch.micro = 3;
    let state = State::fresh(&setup, weights);
    let folder = RunDir::create(&scratch.path().join("run")).expect("a run folder");
    let mut observer = ();
    let recorder = Recorder::create(&folder, &mut observer).expect("a recorder");
    let control = Control::new();
    let mut run = Run::new(setup, state, folder, recorder, &control).expect("a run");
    let batches = golden.ids.iter().zip(&golden.targets);
    for (step, (ids, targets)) in batches.take(wanted.losses.len()).enumerate() {
        let batch = Batch {
            ids: ids.clone(),
            targets: targets.clone(),
            batch: golden.batch,
            seq_len: golden.seq_len,
            first_sequence: (step * golden.batch) as u64,
            epoch: 0.0,
        };
        let at = run.at();
        let loss = run.forward_backward(&batch.into(), at);
        let clipped = run.transform_gradients(at);
        run.update(at, rate, &clipped);
        run.project(at, rate);
        run.count(&loss);
        let (nll, norm) =
            (loss.nll - wanted.losses[step], clipped.norm_before - wanted.norms[step]);
        println!("{what}, step {step}: loss off by {nll:.1e}, norm by {norm:.1e}");
        assert!(nll.abs() < 2e-5 && norm.abs() < 1e-4 * wanted.norms[step].max(1.0), "{what}");
    }
    std::mem::take(&mut run.state.parameters)
}

fn each(test: impl Fn(&str, Isa, &Golden, &Passes, &Path)) {
    for family in ["gpt2", "llama"] {
        let text = std::fs::read(golden_folder(family).join("passes.json")).expect("golden");
        let passes: Passes = serde_json::from_slice(&text).expect("golden files are JSON");
        let golden = read_golden(family);
        for isa in isas() {
            let scratch = tempfile::tempdir().expect("a temporary folder");
            test(family, isa, &golden, &passes, scratch.path());
        }
    }
}

#[test]
fn climbs_follow_pytorch() {
    each(|family, isa, golden, passes, scratch| {
        let cases = [("no", passes.rho.sam, &passes.sam), ("yes", passes.rho.asam, &passes.asam)];
        for (adaptive, rho, wanted) in cases {
            let adaptive = Value::Text(adaptive.to_owned());
            let plan = plan("sam", &[("radius", Value::Number(rho)), ("adaptive", adaptive)]);
            let what = format!("{family} {rho} {}", isa.name());
            check(&what, golden, wanted, passes.rate, setup(scratch, family, isa, &plan));
        }
    });
}

#[test]
fn lessons_follow_pytorch() {
    each(|family, isa, golden, passes, scratch| {
        let teacher = Value::Text(scratch.display().to_string());
        let plan = plan(
            "distillation",
            &[
                ("teacher", teacher),
                ("share", Value::Number(passes.share)),
                ("temperature", Value::Number(passes.temperature)),
            ],
        );
        let (mut setup, mut weights) = setup(scratch, family, isa, &plan);
        setup.teachers.push(Teacher {
            name: family.to_owned(),
            model: Model::new(setup.model.config.clone()).expect("a model"),
            weights: weights.clone(),
            files: Vec::new(),
        });
        weights.iter_mut().for_each(|w| *w *= 0.9);
        let what = format!("{family} {}", isa.name());
        check(&what, golden, &passes.distillation, passes.rate, (setup, weights));
    });
}

#[test]
fn heads_ahead_follow_pytorch() {
    each(|family, isa, golden, passes, scratch| {
        let knobs = [("heads", Value::Number(2.0)), ("weight", Value::Number(passes.weight))];
        let plan = plan("multi-token-prediction", &knobs);
        let (setup, mut weights) = setup(scratch, family, isa, &plan);
        let blocks = if family == "gpt2" { "transformer.h" } else { "model.layers" };
        let layout = setup.model.layout();
        for (head, block) in [(0, 1), (1, 0)] {
            let prefix = format!("mtp.{head}.");
            let copied = layout.parameters.iter().filter(|p| p.name.starts_with(&prefix));
            for parameter in copied {
                let twin = format!("{blocks}.{block}.{}", &parameter.name[prefix.len()..]);
                let twin = layout.get(&twin).expect("a block's parameter").range();
                weights.copy_within(twin, parameter.offset);
            }
        }
        let what = format!("{family} {}", isa.name());
        check(&what, golden, &passes.multi_token, passes.rate, (setup, weights));
    });
}

/// `fine_tuning.json` of a golden folder.
#[derive(Deserialize)]
struct FineTuning {
    rate: f64,
    rank: f64,
    alpha: f64,
    p: f64,
    /// A `[rank, in]` of every adapter, by the weight's name.
    down: HashMap<String, Vec<f32>>,
    lora: Tuned,
    mixout: Tuned,
}

#[derive(Deserialize)]
struct Tuned {
    #[serde(flatten)]
    trace: Trace,
    tensor: Tensor,
}

/// The first values of a weight after the steps.
#[derive(Deserialize)]
struct Tensor {
    name: String,
    values: Vec<f32>,
}

fn fine_tuning(family: &str) -> FineTuning {
    let text = std::fs::read(golden_folder(family).join("fine_tuning.json")).expect("golden");
    serde_json::from_slice(&text).expect("golden files are JSON")
}

fn assert_tensor(what: &str, setup: &Model, weights: &[f32], wanted: &Tensor) {
    let parameter = setup.layout().get(&wanted.name).expect("a weight of the model");
    for (found, wanted) in weights[parameter.range()].iter().zip(&wanted.values) {
        assert!((found - wanted).abs() < 1e-5, "{what}: {found} {wanted}");
    }
}

#[test]
fn adapters_follow_pytorch() {
    each(|family, isa, golden, _, scratch| {
        let wanted = fine_tuning(family);
        let knobs = [("rank", Value::Number(wanted.rank)), ("alpha", Value::Number(wanted.alpha))];
        let plan = plan("lora", &knobs);
        let (setup, mut weights) = setup(scratch, family, isa, &plan);
        let found = adapters(setup.model.layout());
        assert_eq!(found.len(), wanted.down.len());
        for adapter in found {
            let down = &wanted.down[&adapter.weight.name];
            weights[adapter.down.range()].copy_from_slice(down);
        }
        let model = Model::for_training(setup.model.config.clone(), &plan.extra());
        let (what, model) = (format!("{family} lora {}", isa.name()), model.expect("a model"));
        let trace = &wanted.lora.trace;
        let last = check(&what, golden, trace, wanted.rate, (setup, weights));
        assert_tensor(&what, &model, &last, &wanted.lora.tensor);
    });
}

#[test]
fn mixout_follows_pytorch() {
    each(|family, isa, golden, _, scratch| {
        let wanted = fine_tuning(family);
        let plan = plan("mixout", &[("rate", Value::Number(wanted.p))]);
        let (setup, weights) = setup(scratch, family, isa, &plan);
        let model = Model::new(setup.model.config.clone()).expect("a model");
        let what = format!("{family} mixout {}", isa.name());
        let trace = &wanted.mixout.trace;
        let last = check(&what, golden, trace, wanted.rate, (setup, weights));
        assert_tensor(&what, &model, &last, &wanted.mixout.tensor);
    });
}

#[test]
fn two_passes_under_the_same_masks_follow_pytorch() {
    each(|family, isa, golden, passes, scratch| {
        let rate = |site: &str| Value::Number(passes.rates.get(site).copied().unwrap_or(0.0));
        let sites = ["embedding", "attention", "attention-output", "feed-forward-output"];
        let dropout = Settings::table(sites.map(|site| (site, rate(site))));
        let twins = Settings::table([("strength", Value::Number(passes.strength))]);
        let plan = assemble([("dropout", &dropout), ("r-drop", &twins)]).expect("settings").plan;
        let (mut setup, weights) = setup(scratch, family, isa, &plan);
        setup.recipe.run.seed = passes.seed;
        let what = format!("{family} r-drop {}", isa.name());
        check(&what, golden, &passes.r_drop, passes.rate, (setup, weights));
    });
}
