//! The workloads of the benchmark, and the floors that a measurement must not fall below.

use anyhow::Context;
use heldout_model::ModelConfig;

/// GPT-2 shapes: W1 to W3, and nanoGPT's shape for processors.
pub struct Workload {
    pub name: &'static str,
    pub layers: usize,
    pub heads: usize,
    pub width: usize,
    pub context: usize,
    pub batch: usize,
    pub vocabulary: usize,
}

const fn workload(name: &'static str, shape: [usize; 6]) -> Workload {
    let [layers, heads, width, context, batch, vocabulary] = shape;
    Workload { name, layers, heads, width, context, batch, vocabulary }
}

/// All workloads, smallest first.
pub const WORKLOADS: &[Workload] = &[
    workload("nano", [4, 4, 128, 64, 12, 65]),
    workload("W1", [6, 6, 384, 256, 8, 65]),
    workload("W2", [4, 8, 512, 256, 4, 16384]),
    workload("W3", [12, 12, 768, 256, 2, 50257]),
];

impl Workload {
    /// The workload of this name.
    pub fn named(name: &str) -> anyhow::Result<&'static Workload> {
        let known = || WORKLOADS.iter().map(|w| w.name).collect::<Vec<_>>().join(", ");
        let found = WORKLOADS.iter().find(|workload| workload.name == name);
        found.with_context(|| format!("no workload \"{name}\"; there are {}", known()))
    }

    /// The model of this shape.
    pub fn config(&self) -> ModelConfig {
        ModelConfig::gpt2(self.vocabulary, self.context, self.layers, self.heads, self.width)
    }

    /// Floating-point operations of a training step for each token, the causal count:
    ///
    /// 6·(L·(4C² + 8C²) + V·C) + 3·L·2·T·C
    ///
    /// that is two operations (multiply, add) for each weight of a matrix product, the tied output
    /// projection included, once forward and twice backward; and attention's two products (q·kᵀ
    /// and p·v) of 2·C operations for each of the T/2 tokens that a token sees on average, again
    /// three times. Norms, softmax, dropout and the update are not counted, nor is anything that
    /// an implementation computes twice.
    pub fn flop_per_token(&self) -> f64 {
        let [layers, width, context, vocabulary] =
            [self.layers, self.width, self.context, self.vocabulary].map(|size| size as f64);
        let matrices = layers * 12.0 * width * width + vocabulary * width;
        6.0 * matrices + 3.0 * layers * 2.0 * context * width
    }
}

/// What a cell of the training table must reach; 0 where nothing is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Floors {
    /// Tokens a second, over those of PyTorch's faster mode.
    pub speed: f64,
    /// Share of the machine's measured peak of multiply-adds.
    pub peak: f64,
    /// One thread's step time over that of two threads.
    pub threads: f64,
}

/// Peak memory over that of PyTorch's leaner mode, at most: for every cell.
pub const MEMORY_CEILING: f64 = 0.75;

/// (workload, dropout): floors of f32, floors of bf16.
type Row = ((&'static str, &'static str), [Floors; 2]);

const fn floors(speed: f64, peak: f64, threads: f64) -> Floors {
    Floors { speed, peak, threads }
}

const FLOORS: &[Row] = &[
    (("nano", "0"), [floors(3.0, 0.0, 0.0), floors(0.0, 0.0, 0.0)]),
    (("W1", "0"), [floors(1.5, 0.76, 1.85), floors(1.5, 0.66, 1.8)]),
    (("W1", "0.1"), [floors(1.8, 0.0, 0.0), floors(1.9, 0.0, 0.0)]),
    (("W2", "0"), [floors(1.35, 0.0, 1.85), floors(1.75, 0.0, 1.8)]),
    (("W2", "0.1"), [floors(1.6, 0.0, 0.0), floors(1.9, 0.0, 0.0)]),
    (("W3", "0"), [floors(1.5, 0.0, 1.85), floors(1.85, 0.0, 1.8)]),
];

/// The floors of one cell.
pub fn floors_of(workload: &str, precision: &str, dropout: &str) -> Floors {
    let row = FLOORS.iter().find(|(key, _)| *key == (workload, dropout));
    row.map(|(_, [f32, bf16])| if precision == "bf16" { *bf16 } else { *f32 }).unwrap_or_default()
}

/// Tokens a second of generation over those of `transformers`, at least: (precision, floor).
pub const GENERATION_FLOORS: [(&str, f64); 2] = [("f32", 1.5), ("bf16", 2.0)];

/// Texts a second of fine-tuning over the Trainer's, at least, and peak memory over it, at most.
pub const FINETUNE_FLOOR: f64 = 1.5;
pub const FINETUNE_MEMORY_CEILING: f64 = 0.7;

/// Peak memory of the large model's training step, at most, in MiB.
pub const LARGE_CEILING_MEBIBYTES: f64 = 16.0 * 1024.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_operations_is_the_models_own() {
        for workload in WORKLOADS {
            let own = workload.config().flops_per_token();
            let here = workload.flop_per_token();
            assert!((here / own - 1.0).abs() < 1e-9, "{}: {here:e}, {own:e}", workload.name);
        }
    }

    #[test]
    fn every_row_of_floors_names_a_workload() {
        for ((name, _), _) in FLOORS {
            Workload::named(name).expect("a workload");
        }
        assert_eq!(floors_of("W3", "bf16", "0").speed, 1.85);
        assert_eq!(floors_of("W1", "f32", "0").peak, 0.76);
        assert_eq!(floors_of("nano", "f32", "0.1"), Floors::default());
    }
}
