//! Twenty training steps against PyTorch's, from the same weights on the same batches, and the
//! invariances of a step: accumulation and threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use heldout_base::rng::{Random, streams};
use heldout_data::{Batch, IGNORE};
use heldout_kernels::{Device, Isa, Precision, Tape};
use heldout_model::Model;
use heldout_optim::{KnobValue, OptimizerSpec};
use heldout_record::RunDir;
use heldout_regularize::{Bound, Settings, Value, assemble};
use serde::Deserialize;

use crate::checkpointing::read_model;
use crate::control::Control;
use crate::horizon::Horizon;
use crate::job::{Job, Setup, prepare_job};
use crate::recipe::Recipe;
use crate::recorder::Recorder;
use crate::run::{Decision, Run};
use crate::session::read_config;
use crate::state::State;

/// `steps.json` of the golden folder.
#[derive(Deserialize)]
pub(crate) struct Golden {
    pub(crate) batch: usize,
    pub(crate) seq_len: usize,
    pub(crate) ids: Vec<Vec<u32>>,
    pub(crate) targets: Vec<Vec<u32>>,
    pub(crate) runs: Vec<GoldenRun>,
}

#[derive(Deserialize)]
pub(crate) struct GoldenRun {
    optimizer: String,
    decay: String,
    weight_decay: f64,
    decayed: Vec<String>,
    precision: String,
    learning_rate: f64,
    clip: f64,
    losses: Vec<f64>,
    norms: Vec<f64>,
}

pub(crate) fn golden_folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(family)
}

pub(crate) fn read_golden(family: &str) -> Golden {
    let text = std::fs::read(golden_folder(family).join("steps.json")).expect("a golden file");
    serde_json::from_slice(&text).expect("golden files are JSON")
}

/// A job on a few words of text: its data stays unused, its machinery is what is tested.
pub(crate) fn small_job(folder: &Path, settings: &[&str]) -> Job {
    let text = folder.join("text.txt");
    // Letters at random: text that repeats itself would count as leaking into the held-out part.
    let random = Random::new(1, streams::TEST, 0);
    let letters = (0..4000).map(|i| b"etaoin shrdlu."[random.below(i, 14) as usize] as char);
    std::fs::write(&text, letters.collect::<String>()).expect("text");
    let mut recipe = Recipe::empty();
    recipe.set_data(&[text.display().to_string()]).expect("a path");
    for setting in ["model.context=16", "model.layers=1", "model.width=16", "model.heads=2"] {
        recipe.set(setting).expect("a setting");
    }
    for setting in settings {
        recipe.set(setting).expect("a setting");
    }
    prepare_job(&recipe, &folder.join("cache"), &mut |_| {}).expect("a job")
}

/// Loss and gradient norm of every step.
type Trace = Vec<(f64, f64)>;

struct Shape<'a> {
    family: &'a str,
    isa: Isa,
    threads: usize,
    micro: usize,
    steps: usize,
}

/// The instruction sets of this machine, slowest first.
pub(crate) fn isas() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| *isa <= Device::detect_isa())
}

/// Takes golden steps and gives the trace and the last weights.
fn steps(golden: &Golden, wanted: &GoldenRun, shape: &Shape<'_>) -> (Trace, Vec<f32>) {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let job = small_job(scratch.path(), &[]);
    let mut setup = Setup::new(job).expect("a setup");
    let folder = golden_folder(shape.family);
    setup.model = Model::new(read_config(&folder).expect("a config")).expect("a model");
    let precision = if wanted.precision == "bf16" { Precision::Bf16 } else { Precision::F32 };
    setup.device =
        Arc::new(Device::cpu_with_isa(shape.threads, precision, shape.isa).expect("a processor"));
    let decays_all =
        wanted.decayed.iter().any(|name| name.contains("norm") || name.contains("ln_"));
    let on: &[&str] = if decays_all { &heldout_regularize::Part::WORDS } else { &["matrix"] };
    let text = |t: &str| Value::Text(t.into());
    let decay = Settings::table([
        ("rate", Value::Number(wanted.weight_decay)),
        ("method", text(&wanted.decay)),
        ("on", Value::List(on.iter().map(|s| s.to_string()).collect())),
    ]);
    let clip = Settings::bare(Value::Number(wanted.clip));
    let assembled = assemble([("weight-decay", &decay), ("gradient-clipping", &clip)]);
    setup.plan = Bound::new(&assembled.expect("two techniques").plan, setup.model.layout());
    let decayed = setup.plan.segments.iter().filter(|s| s.decay > 0.0).count();
    assert_eq!(decayed, wanted.decayed.len(), "as many tensors decay as in PyTorch");
    setup.optimizer = OptimizerSpec::named(&wanted.optimizer).expect("an optimizer");
    if wanted.optimizer == "sgd" {
        setup.optimizer.set("momentum", &KnobValue::Number(0.9)).expect("a knob");
    }
    setup.horizon = Horizon::Steps(shape.steps as u64);
    setup.recipe.batch.micro = shape.micro;
    let weights = read_model(&folder, &setup.model).expect("golden weights");
    take(golden, wanted, setup, weights, shape, scratch.path())
}

fn take(
    golden: &Golden,
    wanted: &GoldenRun,
    setup: Setup,
    weights: Vec<f32>,
    shape: &Shape<'_>,
    scratch: &Path,
) -> (Trace, Vec<f32>) {
    let state = State::fresh(&setup, weights);
    let run_dir = RunDir::create(&scratch.join("run")).expect("a run folder");
    let mut observer = ();
    let recorder = Recorder::create(&run_dir, &mut observer).expect("a recorder");
    let control = Control::new();
    let tape = Tape::new(setup.device.clone());
    let mut run = Run::new(setup, state, run_dir, recorder, &control).expect("a run");
    run.tape = tape;
    let mut trace = Vec::new();
    for (ids, targets) in golden.ids.iter().zip(&golden.targets).take(shape.steps) {
        let batch = Batch {
            ids: ids.clone(),
            targets: targets.clone(),
            batch: golden.batch,
            seq_len: golden.seq_len,
            first_sequence: run.state.progress.step * golden.batch as u64,
            epoch: 0.0,
        };
        let at = run.at();
        let loss = run.forward_backward(&batch.into(), at);
        run.penalize(at);
        let clipped = run.transform_gradients(at);
        let decision = run.guard(at, &loss, &clipped).expect("a sound step");
        let Decision::Update(clipped) = decision else { panic!("the guard stepped in") };
        run.update(at, wanted.learning_rate, &clipped);
        run.count(&loss);
        trace.push((loss.nll, clipped.norm_before));
    }
    (trace, run.state.parameters)
}

#[test]
fn twenty_steps_follow_pytorch() {
    for family in ["gpt2", "llama"] {
        let golden = read_golden(family);
        for (wanted, isa) in golden.runs.iter().flat_map(|run| isas().map(move |isa| (run, isa))) {
            let (micro, steps_most) = (golden.batch, wanted.losses.len());
            let shape = Shape { family, isa, threads: 2, micro, steps: steps_most };
            let (trace, _) = steps(&golden, wanted, &shape);
            let (loss_most, norm_most) =
                if wanted.precision == "bf16" { (2e-2, f64::INFINITY) } else { (1e-4, 1e-3) };
            let (mut loss_worst, mut norm_worst) = (0.0f64, 0.0f64);
            for ((loss, norm), (loss_there, norm_there)) in
                trace.iter().zip(wanted.losses.iter().zip(&wanted.norms))
            {
                loss_worst = loss_worst.max((loss - loss_there).abs());
                norm_worst = norm_worst.max((norm - norm_there).abs());
            }
            let what = format!(
                "{family} {} {} {} {}: loss within {loss_worst:.1e}, norm within {norm_worst:.1e}",
                wanted.optimizer,
                wanted.decay,
                wanted.precision,
                isa.name()
            );
            println!("{what}");
            assert!(loss_worst <= loss_most && norm_worst <= norm_most, "{what}");
        }
    }
}

/// The first two batches of four as one of eight.
fn batch_of_eight(golden: Golden) -> Golden {
    let joined = |batches: Vec<Vec<u32>>| vec![batches[..2].concat()];
    let Golden { ids, targets, batch, .. } = golden;
    Golden { batch: 2 * batch, ids: joined(ids), targets: joined(targets), ..golden }
}

#[test]
fn accumulated_micro_batches_give_the_same_update() {
    let golden = batch_of_eight(read_golden("gpt2"));
    assert_eq!(golden.batch, 8);
    let cases = ["sgd", "adamw"].into_iter().flat_map(|o| isas().map(move |isa| (o, isa)));
    for (optimizer, isa) in cases {
        let wanted = golden.runs.iter().find(|r| r.optimizer == optimizer);
        let wanted = wanted.expect("a golden run of this optimizer");
        let shape = |micro| Shape { family: "gpt2", isa, threads: 2, micro, steps: 1 };
        let (whole, weights) = steps(&golden, wanted, &shape(8));
        for micro in [1, 2, 3, 4] {
            let (cut, weights_cut) = steps(&golden, wanted, &shape(micro));
            let what = format!("{optimizer}, 8 in pieces of {micro}, {}", isa.name());
            assert!((whole[0].0 - cut[0].0).abs() <= 1e-6, "loss: {what}");
            assert!((whole[0].1 - cut[0].1).abs() <= 1e-6 * whole[0].1.max(1.0), "norm: {what}");
            // A first Adam update is rate·g/(|g| + ε): where g is near zero it may turn, so there
            // the root mean square is compared.
            let differences = || weights.iter().zip(&weights_cut).map(|(a, b)| f64::from(a - b));
            let difference = if optimizer == "sgd" {
                differences().fold(0.0, |worst: f64, d| worst.max(d.abs()))
            } else {
                (differences().map(|d| d * d).sum::<f64>() / weights.len() as f64).sqrt()
            };
            println!("{what}: weights differ by {difference:.1e}");
            assert!(difference <= 1e-6, "{what}: weights differ by {difference:e}");
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let golden = read_golden("llama");
    let wanted = golden.runs.iter().find(|r| r.precision == "bf16").expect("a bf16 run");
    for isa in isas() {
        let shape = |threads| Shape { family: "llama", isa, threads, micro: 4, steps: 5 };
        let (trace, weights) = steps(&golden, wanted, &shape(1));
        for threads in [2, 3] {
            let (other, other_weights) = steps(&golden, wanted, &shape(threads));
            assert_eq!(trace, other, "{threads} threads, {}", isa.name());
            assert!(weights.iter().zip(&other_weights).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}

#[test]
fn masked_targets_do_not_count() {
    let golden = read_golden("gpt2");
    let wanted = &golden.runs[0];
    let mut half =
        Golden { ids: golden.ids.clone(), targets: golden.targets.clone(), runs: vec![], ..golden };
    // The second pair of sequences without targets is as if it were not there.
    let middle = half.targets[0].len() / 2;
    half.targets[0][middle..].fill(IGNORE);
    let isa = Device::detect_isa();
    let shape = Shape { family: "gpt2", isa, threads: 1, micro: 2, steps: 1 };
    let (masked, _) = steps(&half, wanted, &shape);
    half.ids[0].truncate(middle);
    half.targets[0].truncate(middle);
    half.batch = 2;
    let (short, _) = steps(&half, wanted, &shape);
    assert!((masked[0].0 - short[0].0).abs() < 1e-12 && (masked[0].1 - short[0].1).abs() < 1e-9);
}
