//! Every op against PyTorch: values and gradients from golden/ops.safetensors (made by
//! golden/make_ops.py), on every instruction set.

use std::sync::Arc;

use heldout_kernels::*;
use safetensors::SafeTensors;

static FILE: &[u8] = include_bytes!("golden/ops.safetensors");

/// The tensors of one case; weights are laid out in one flat vector.
struct Case<'a> {
    name: &'a str,
    file: SafeTensors<'a>,
}

impl<'a> Case<'a> {
    fn new(name: &'a str) -> Case<'a> {
        Case { name, file: SafeTensors::deserialize(FILE).unwrap() }
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let data = self.file.tensor(&format!("{}/{name}", self.name)).unwrap().data().to_vec();
        data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.floats(name).into_iter().map(f32::to_bits).collect()
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        self.file.tensor(&format!("{}/{name}", self.name)).unwrap().shape().to_vec()
    }

    /// Runs `build` on every instruction set. The inputs in `names` become weights; each matrix
    /// that is an activation is looked up row by row, so that its gradient can be read back.
    fn check(&self, names: &[&str], build: impl Fn(&mut Pass, &[Weight]) -> Var) {
        let mut layout = Layout::default();
        let weights: Vec<Weight> =
            names.iter().map(|n| layout.push(*n, &self.shape(n), Role::Matrix)).collect();
        let parameters: Vec<f32> = names.iter().flat_map(|n| self.floats(n)).collect();
        for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
            let Ok(device) = Device::cpu_with_isa(2, Precision::F32, isa) else { continue };
            let mut tape = Tape::new(Arc::new(device));
            let mut gradients = vec![0.0; parameters.len()];
            let noise = NoiseKey { seed: 0, step: 0, first_sequence: 0 };
            let kind = PassKind::Train { gradients: &mut gradients, noise };
            let mut pass = tape.pass(&parameters, kind);
            let y = build(&mut pass, &weights);
            self.close("y", pass.value(y), isa);
            pass.add_gradient(y, &self.floats("dy"));
            pass.backward();
            drop(pass);
            for (name, weight) in names.iter().zip(&weights) {
                self.close(&format!("d.{name}"), weight.of(&gradients), isa);
            }
        }
    }

    fn close(&self, name: &str, got: &[f32], isa: Isa) {
        let expected = self.floats(name);
        assert_eq!(got.len(), expected.len(), "{} {name}", self.name);
        let largest = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let error = (got - expected).abs() / largest.max(1.0);
            let what = format!("{} {name}[{index}] {isa:?}", self.name);
            assert!(error < 3e-6, "{what}: got {got}, expected {expected}");
        }
    }
}

/// The rows of a weight as a variable.
fn lookup(pass: &mut Pass, x: Weight) -> Var {
    let ids: Vec<u32> = (0..x.rows as u32).collect();
    pass.embedding(x, &ids, None, 1, EmbeddingNoise::default())
}

#[test]
fn norms() {
    Case::new("layer_norm").check(&["x", "gain", "bias"], |pass, w| {
        let x = lookup(pass, w[0]);
        pass.norm(x, Norm::Layer, w[1], Some(w[2]), 1e-5)
    });
    Case::new("rms_norm").check(&["x", "gain"], |pass, w| {
        let x = lookup(pass, w[0]);
        pass.norm(x, Norm::Rms, w[1], None, 1e-6)
    });
}

#[test]
fn linear_maps() {
    for (name, activation) in [
        ("linear_none", Activation::None),
        ("linear_gelu_tanh", Activation::GeluTanh),
        ("linear_gelu_erf", Activation::GeluErf),
        ("linear_silu", Activation::Silu),
        ("linear_relu", Activation::Relu),
        ("linear_tanh", Activation::Tanh),
    ] {
        Case::new(name).check(&["x", "weight", "bias"], |pass, w| {
            let x = lookup(pass, w[0]);
            pass.linear(x, w[1], Some(w[2]), activation, None)
        });
    }
}

#[test]
fn swiglu() {
    Case::new("swiglu").check(&["x"], |pass, w| {
        let x = lookup(pass, w[0]);
        pass.swiglu(x, None)
    });
}

#[test]
fn attention() {
    let shapes = [("attention_gqa", [2, 53, 4, 2, 8]), ("attention_long", [1, 101, 2, 2, 20])];
    for (name, [batch, seq_len, heads, kv_heads, head_width]) in shapes {
        let shape = HeadShape { batch, seq_len, heads, kv_heads, head_width };
        Case::new(name).check(&["x"], |pass, w| {
            let x = lookup(pass, w[0]);
            pass.attention(x, shape, AttentionNoise::default())
        });
    }
}

#[test]
fn attention_over_whole_sequences() {
    let shapes = [("attention_padded", [3, 71, 2, 6]), ("attention_whole", [1, 140, 1, 16])];
    for (name, [batch, seq_len, heads, head_width]) in shapes {
        let shape = HeadShape { batch, seq_len, heads, kv_heads: heads, head_width };
        let case = Case::new(name);
        let lengths = case.ids("lengths");
        case.check(&["x"], |pass, w| {
            let x = lookup(pass, w[0]);
            let reach = Reach::Whole { lengths: &lengths };
            pass.attention_within(x, shape, reach, AttentionNoise::default())
        });
    }
}

#[test]
fn rotary_and_head_norm() {
    let shape = HeadShape { batch: 2, seq_len: 17, heads: 3, kv_heads: 1, head_width: 10 };
    Case::new("rotary").check(&["x"], |pass, w| {
        let x = lookup(pass, w[0]);
        pass.rotary(x, shape, 10_000.0, 0)
    });
    Case::new("head_norm").check(&["x", "q_gain", "k_gain"], |pass, w| {
        let x = lookup(pass, w[0]);
        pass.head_norm(x, shape, w[1], w[2], 1e-6)
    });
}

#[test]
fn embedding() {
    let case = Case::new("embedding");
    let ids = case.ids("ids");
    case.check(&["tokens", "positions"], |pass, w| {
        pass.embedding(w[0], &ids, Some((w[1], 0)), 5, EmbeddingNoise::default())
    });
}

#[test]
fn residual() {
    Case::new("residual").check(&["x", "branch"], |pass, w| {
        let x = lookup(pass, w[0]);
        let branch = lookup(pass, w[1]);
        pass.residual(x, branch, None, 0.75)
    });
}

#[test]
fn cross_entropy() {
    for (name, smoothing, z_loss, confidence) in [
        ("cross_entropy", Smoothing::None, 0.0, 0.0),
        ("cross_entropy_uniform", Smoothing::Uniform { epsilon: 0.1 }, 0.0, 0.0),
        ("cross_entropy_wrong", Smoothing::Wrong { epsilon: 0.15 }, 0.0, 0.0),
        ("cross_entropy_likeliest", Smoothing::Likeliest { epsilon: 0.2, k: 5 }, 0.0, 0.0),
        ("cross_entropy_z", Smoothing::None, 0.05, 0.0),
        ("cross_entropy_confidence", Smoothing::Uniform { epsilon: 0.1 }, 0.0, 0.4),
        ("cross_entropy_bias", Smoothing::None, 0.0, 0.0),
    ] {
        loss_case(name, &LossSpec { smoothing, z_loss, confidence, scale: 1.0 });
    }
}

fn loss_case(name: &str, spec: &LossSpec) {
    let case = Case::new(name);
    let ignored = (-100i32) as u32;
    let targets: Vec<u32> =
        case.ids("targets").iter().map(|&t| if t == ignored { IGNORE } else { t }).collect();
    let mut layout = Layout::default();
    let x = layout.push("x", &case.shape("x"), Role::Embedding);
    let head = layout.push("head", &case.shape("head"), Role::Head);
    let mut parameters = [case.floats("x"), case.floats("head")].concat();
    let bias = (name == "cross_entropy_bias").then(|| {
        parameters.extend(case.floats("bias"));
        layout.push("bias", &case.shape("bias"), Role::Bias)
    });
    for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
        let Ok(device) = Device::cpu_with_isa(2, Precision::F32, isa) else { continue };
        let mut tape = Tape::new(Arc::new(device));
        let mut gradients = vec![0.0; parameters.len()];
        let noise = NoiseKey { seed: 0, step: 0, first_sequence: 0 };
        let kind = PassKind::Train { gradients: &mut gradients, noise };
        let mut pass = tape.pass(&parameters, kind);
        let rows = lookup(&mut pass, x);
        let report = match bias {
            None => pass.cross_entropy(rows, head, &targets, spec),
            bias => {
                let joint = Joint::default();
                pass.biased_cross_entropy(rows, (head, bias), &targets, spec, &joint)
            }
        };
        assert_eq!(report.targets, 10);
        case.close("y", &[report.objective_sum as f32], isa);
        let plain: f64 = pass.token_nll().iter().map(|&nll| nll as f64).sum();
        assert!((plain - report.nll_sum).abs() < 1e-9);
        if spec.smoothing == Smoothing::None && spec.z_loss == 0.0 {
            case.close("y", &[report.nll_sum as f32], isa);
        }
        pass.backward();
        drop(pass);
        case.close("d.x", x.of(&gradients), isa);
        case.close("d.head", head.of(&gradients), isa);
        if let Some(bias) = bias {
            case.close("d.bias", bias.of(&gradients), isa);
        }
    }
}
