//! A little model with every op of training, for tests of whole passes.

use heldout_kernels::*;

/// A two-layer model with every op of training, GPT-like then Llama-like.
pub struct Little {
    pub layout: Layout,
    pub tokens: Weight,
    positions: Weight,
    gains: Vec<Weight>,
    biases: Vec<Weight>,
    qkv: [Weight; 2],
    qkv_bias: Weight,
    project: [Weight; 2],
    head_gains: [Weight; 2],
    up: Weight,
    up_bias: Weight,
    gate_up: Weight,
    down: [Weight; 2],
}

pub const VOCABULARY: usize = 37;
pub const WIDTH: usize = 24;
pub const HIDDEN: usize = 40;
pub const SEQ_LEN: usize = 19;

pub fn shape(batch: usize, kv_heads: usize) -> HeadShape {
    HeadShape { batch, seq_len: SEQ_LEN, heads: 4, kv_heads, head_width: 6 }
}

impl Little {
    pub fn new() -> Little {
        let mut layout = Layout::default();
        let mut matrix = |name: &str, rows, cols| layout.push(name, &[rows, cols], Role::Matrix);
        let (tokens, positions) =
            (matrix("tokens", VOCABULARY, WIDTH), matrix("positions", SEQ_LEN, WIDTH));
        let qkv = [matrix("qkv.0", 72, WIDTH), matrix("qkv.1", 48, WIDTH)];
        let project = [matrix("project.0", WIDTH, 24), matrix("project.1", WIDTH, 24)];
        let (up, gate_up) = (matrix("up", HIDDEN, WIDTH), matrix("gate_up", 2 * HIDDEN, WIDTH));
        let down = [matrix("down.0", WIDTH, HIDDEN), matrix("down.1", WIDTH, HIDDEN)];
        let mut vector = |name: String, len: usize, role| layout.push(name, &[len], role);
        let gains = (0..5).map(|i| vector(format!("gain.{i}"), WIDTH, Role::Gain)).collect();
        let biases = (0..3).map(|i| vector(format!("bias.{i}"), WIDTH, Role::Bias)).collect();
        let head_gains =
            [vector("q_gain".into(), 6, Role::Gain), vector("k_gain".into(), 6, Role::Gain)];
        let qkv_bias = vector("qkv_bias".into(), 72, Role::Bias);
        let up_bias = vector("up_bias".into(), HIDDEN, Role::Bias);
        Little {
            layout,
            tokens,
            positions,
            gains,
            biases,
            qkv,
            qkv_bias,
            project,
            head_gains,
            up,
            up_bias,
            gate_up,
            down,
        }
    }

    pub fn parameters(&self) -> Vec<f32> {
        let random = heldout_base::rng::Random::new(7, heldout_base::rng::streams::INIT, 0);
        let mut all = vec![0.0; self.layout.len];
        random.fill_normal(&mut all, 0.2);
        for parameter in &self.layout.parameters {
            if parameter.role == Role::Gain {
                all[parameter.range()].iter_mut().for_each(|gain| *gain += 1.0);
            }
        }
        all
    }

    pub fn loss(
        &self,
        pass: &mut Pass,
        ids: &[u32],
        targets: &[u32],
        p: f32,
        spec: &LossSpec,
    ) -> LossReport {
        let batch = ids.len() / SEQ_LEN;
        let at = |stream, sharing| Some(Dropout { p, stream, sharing });
        let positions = Some((self.positions, 0));
        let (element, time, row) = (Sharing::Element, Sharing::Time, Sharing::Row);
        let noise = EmbeddingNoise {
            replace: at(9, row),
            tokens: at(2, row),
            uniform: Some(Uniform { amplitude: p, stream: 10 }),
            output: at(1, element),
            marks: None,
        };
        let x = pass.embedding(self.tokens, ids, positions, SEQ_LEN, noise);
        let h = pass.norm(x, Norm::Layer, self.gains[0], Some(self.biases[0]), 1e-5);
        let h = pass.linear(h, self.qkv[0], Some(self.qkv_bias), Activation::None, None);
        let noise = AttentionNoise { probabilities: at(3, element), heads: at(4, element) };
        let h = pass.attention(h, shape(batch, 4), noise);
        let h = pass.linear(h, self.project[0], Some(self.biases[1]), Activation::None, None);
        let x = pass.residual(x, h, at(5, element), 1.0);
        let h = pass.norm(x, Norm::Rms, self.gains[1], None, 1e-6);
        let gelu = Activation::GeluTanh;
        let h = pass.linear(h, self.up, Some(self.up_bias), gelu, at(6, time));
        let h = pass.linear(h, self.down[0], Some(self.biases[2]), Activation::None, None);
        let x = pass.residual(x, h, None, 0.5);
        let h = pass.norm(x, Norm::Rms, self.gains[2], None, 1e-6);
        let h = pass.linear(h, self.qkv[1], None, Activation::None, None);
        let heads = shape(batch, 2);
        let h = pass.head_norm(h, heads, self.head_gains[0], self.head_gains[1], 1e-6);
        let h = pass.rotary(h, heads, 10_000.0, 0);
        let h = pass.attention(h, heads, AttentionNoise::default());
        let h = pass.linear(h, self.project[1], None, Activation::None, None);
        let x = pass.residual(x, h, at(7, row), 1.0);
        let h = pass.norm(x, Norm::Rms, self.gains[3], None, 1e-6);
        let h = pass.linear(h, self.gate_up, None, Activation::None, None);
        let h = pass.swiglu(h, at(8, element));
        let h = pass.linear(h, self.down[1], None, Activation::None, None);
        let x = pass.residual(x, h, None, 1.0);
        let x = pass.norm(x, Norm::Rms, self.gains[4], None, 1e-6);
        pass.cross_entropy(x, self.tokens, targets, spec)
    }
}

pub fn ids(batch: usize) -> Vec<u32> {
    (0..batch * SEQ_LEN).map(|i| (i * i * 7 + i / 5) as u32 % VOCABULARY as u32).collect()
}

/// The next token of each sequence; the last has none, and some do not count.
pub fn targets(ids: &[u32]) -> Vec<u32> {
    let next = |i: usize| if (i + 1).is_multiple_of(SEQ_LEN) { IGNORE } else { ids[i + 1] };
    (0..ids.len()).map(|i| if ids[i] == 5 { IGNORE } else { next(i) }).collect()
}
