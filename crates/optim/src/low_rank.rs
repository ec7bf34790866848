//! Low-rank adapters (Hu et al. 2021, arXiv:2106.09685): a matrix of the flat vector is kept at
//! W = W₀ + s·B·A·diag(m), where only A `[r, in]` and B `[out, r]` are trained.
//!
//! m is 1 for every input, or the factors 0 and 1/(1−p) of dropout on the adapters' inputs, one
//! draw for each input and step, shared by all rows that a step multiplies. The gradient G of W
//! gives those of the factors: dB = s·(G·diag(m))·Aᵀ and dA = s·Bᵀ·(G·diag(m)). Sums have a fixed
//! order, whatever the threads.

use std::ops::Range;

use heldout_kernels::random::Mask;
use heldout_kernels::{Device, simd};

use crate::walk::CHUNK;

/// A matrix of the flat vector and its factors, which lie behind all that was trained before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// W `[out, in]`, inside the weights that training started from.
    pub weight: Range<usize>,
    /// in.
    pub inputs: usize,
    /// A `[r, in]`, behind them.
    pub down: Range<usize>,
    /// B `[out, r]`, behind them.
    pub up: Range<usize>,
}

impl Adapter {
    /// r.
    pub fn rank(&self) -> usize {
        self.down.len() / self.inputs
    }

    /// Of a vector's part behind the first `exported` elements, those of A and of B.
    fn factors<'a>(&self, behind: &'a [f32], exported: usize) -> (&'a [f32], &'a [f32]) {
        let of = |range: &Range<usize>| &behind[range.start - exported..range.end - exported];
        (of(&self.down), of(&self.up))
    }

    /// s·m for every input.
    fn kept(&self, scale: f32, inputs: Option<Mask>) -> Vec<f32> {
        let row = inputs.map(|mask| mask.row(self.weight.start as u64));
        let kept = |input| scale * row.map_or(1.0, |row| row.factor(input as u32));
        (0..self.inputs).map(kept).collect()
    }
}

/// `weights`: every adapted W ← W₀ + s·B·A·diag(m), from the factors behind it; `start` is W₀ and
/// all that lies in front of the factors.
///
/// # Panics
/// If an adapter lies elsewhere.
pub fn merge(
    device: &Device,
    start: &[f32],
    weights: &mut [f32],
    adapters: &[Adapter],
    scale: f32,
    inputs: Option<Mask>,
) {
    let (exported, behind) = weights.split_at_mut(start.len());
    for adapter in adapters {
        let (down, up) = adapter.factors(behind, start.len());
        let (cols, rank) = (adapter.inputs, adapter.rank());
        let kept = adapter.kept(scale, inputs);
        let from = &start[adapter.weight.clone()];
        let at_once = CHUNK.div_ceil(cols);
        let merged = &mut exported[adapter.weight.clone()];
        device.pool().for_each_chunk(merged, at_once * cols, &|number, part| {
            simd::dispatch(
                device.isa(),
                #[inline(always)]
                || {
                    let rows = up[number * at_once * rank..].chunks_exact(rank);
                    let from = from[number * at_once * cols..].chunks_exact(cols);
                    for ((w, up), from) in part.chunks_exact_mut(cols).zip(rows).zip(from) {
                        combine(w, up, down);
                        for ((w, from), kept) in w.iter_mut().zip(from).zip(&kept) {
                            *w = from + kept * *w;
                        }
                    }
                },
            );
        });
    }
}

/// y ← Σₖ bₖ·A[k, ..y].
#[inline(always)]
fn combine(y: &mut [f32], b: &[f32], a: &[f32]) {
    y.fill(0.0);
    for (b, a) in b.iter().zip(a.chunks_exact(y.len())) {
        for (y, a) in y.iter_mut().zip(a) {
            *y += b * a;
        }
    }
}

/// Columns of dA that one task sums up.
const BLOCK: usize = 128;

/// `gradients`: dA and dB from the gradient of every adapted W; what lies in front of the factors,
/// which are `exported` elements, gets none.
pub fn pull_back(
    device: &Device,
    weights: &[f32],
    gradients: &mut [f32],
    exported: usize,
    adapters: &[Adapter],
    scale: f32,
    inputs: Option<Mask>,
) {
    let behind = &weights[exported..];
    let (of_weights, of_factors) = gradients.split_at_mut(exported);
    for adapter in adapters {
        let (down, up) = adapter.factors(behind, exported);
        let (cols, rank) = (adapter.inputs, adapter.rank());
        let kept = adapter.kept(scale, inputs);
        let g = &mut of_weights[adapter.weight.clone()];
        let at_once = CHUNK.div_ceil(cols);
        device.pool().for_each_chunk(g, at_once * cols, &|_, part| {
            simd::dispatch(
                device.isa(),
                #[inline(always)]
                || {
                    for g in part.chunks_exact_mut(cols) {
                        for (g, kept) in g.iter_mut().zip(&kept) {
                            *g *= kept;
                        }
                    }
                },
            );
        });
        let g = &*g;
        let of_up = &mut of_factors[adapter.up.start - exported..adapter.up.end - exported];
        device.pool().for_each_chunk(of_up, at_once * rank, &|number, part| {
            simd::dispatch(
                device.isa(),
                #[inline(always)]
                || {
                    let rows = g[number * at_once * cols..].chunks_exact(cols);
                    for (db, g) in part.chunks_exact_mut(rank).zip(rows) {
                        for (db, a) in db.iter_mut().zip(down.chunks_exact(cols)) {
                            *db = dot(g, a);
                        }
                    }
                },
            );
        });
        let of_down = &mut of_factors[adapter.down.start - exported..adapter.down.end - exported];
        gradient_of_down(device, of_down, g, up, cols);
    }
    of_weights.fill(0.0);
}

/// dA `[r, in]` ← Bᵀ·G, a block of columns a task: rows are summed in their order.
fn gradient_of_down(device: &Device, da: &mut [f32], g: &[f32], up: &[f32], cols: usize) {
    let rank = da.len() / cols;
    // Block by block, so that every task has memory of its own.
    let mut blocks = vec![0.0; da.len()];
    device.pool().for_each_chunk(&mut blocks, rank * BLOCK, &|number, block| {
        let (first, width) = (number * BLOCK, block.len() / rank);
        simd::dispatch(
            device.isa(),
            #[inline(always)]
            || {
                for (g, up) in g.chunks_exact(cols).zip(up.chunks_exact(rank)) {
                    let g = &g[first..first + width];
                    for (da, b) in block.chunks_exact_mut(width).zip(up) {
                        for (da, g) in da.iter_mut().zip(g) {
                            *da += b * g;
                        }
                    }
                }
            },
        );
    });
    for (number, block) in blocks.chunks(rank * BLOCK).enumerate() {
        let width = block.len() / rank;
        for (row, block) in block.chunks_exact(width).enumerate() {
            da[row * cols + number * BLOCK..][..width].copy_from_slice(block);
        }
    }
}

/// Lanes of a dot product: fixed, so that the sum's order is.
const LANES: usize = 16;

#[inline(always)]
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest: f32 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in xs.zip(ys) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use heldout_base::rng::{Random, streams};
    use heldout_kernels::Precision;

    /// Two adapters of rank 3 on matrices of [out, in], one of them larger than a chunk.
    fn made() -> (usize, Vec<Adapter>, Vec<f32>) {
        let shapes: [(usize, usize); 2] = [(5, 7), (90, 300)];
        let (rank, before) = (3, 4);
        let exported = before + shapes.iter().map(|(o, i)| o * i).sum::<usize>();
        let (mut place, mut behind) = (before, exported);
        let mut adapters = Vec::new();
        for (outputs, inputs) in shapes {
            let weight = place..place + outputs * inputs;
            let down = behind..behind + rank * inputs;
            let up = down.end..down.end + outputs * rank;
            (place, behind) = (weight.end, up.end);
            adapters.push(Adapter { weight, inputs, down, up });
        }
        let mut values = vec![0.0; behind];
        Random::new(5, streams::TEST, 0).fill_normal(&mut values, 0.5);
        (exported, adapters, values)
    }

    fn mask() -> Mask {
        Mask::new(3, streams::ADAPTER_INPUTS.0, 7, 0.25)
    }

    const SCALE: f32 = 2.0;

    /// The specification, in f64.
    fn reference(start: &[f32], factors: &[f64], of: &Adapter, inputs: Option<Mask>) -> Vec<f64> {
        let (rank, exported) = (of.rank(), start.len());
        let (down, up) = (of.down.start - exported, of.up.start - exported);
        let weight = &start[of.weight.clone()];
        let each = weight.iter().enumerate().map(|(place, w)| {
            let (row, input) = (place / of.inputs, place % of.inputs);
            let product = |k| factors[up + row * rank + k] * factors[down + k * of.inputs + input];
            let mask = inputs.map_or(1.0, |m| m.row(of.weight.start as u64).factor(input as u32));
            let product: f64 = (0..rank).map(product).sum();
            f64::from(*w) + f64::from(SCALE) * f64::from(mask) * product
        });
        each.collect()
    }

    #[test]
    fn the_product_is_added_to_the_start_whatever_the_threads() {
        let (exported, adapters, values) = made();
        let start = values[..exported].to_vec();
        let factors: Vec<f64> = values[exported..].iter().map(|v| f64::from(*v)).collect();
        for inputs in [None, Some(mask())] {
            let merged = |threads| {
                let device = Device::cpu(threads, Precision::Bf16).expect("a processor");
                // Where W has been before does not count.
                let mut weights = values.clone();
                weights[4..exported].fill(9.0);
                merge(&device, &start, &mut weights, &adapters, SCALE, inputs);
                weights
            };
            let found = merged(1);
            assert_eq!(found, merged(3));
            assert_eq!((&found[..4], &found[exported..]), (&start[..4], &values[exported..]));
            for adapter in &adapters {
                let expected = reference(&start, &factors, adapter, inputs);
                for (found, expected) in found[adapter.weight.clone()].iter().zip(expected) {
                    assert!((f64::from(*found) - expected).abs() < 2e-6, "{found} {expected}");
                }
            }
        }
    }

    #[test]
    fn gradients_of_the_factors_are_the_slopes() {
        let (exported, adapters, values) = made();
        let start = values[..exported].to_vec();
        let mut upstream = vec![0.0; values.len()];
        Random::new(6, streams::TEST, 0).fill_normal(&mut upstream, 1.0);
        for inputs in [None, Some(mask())] {
            let pulled = |threads| {
                let device = Device::cpu(threads, Precision::F32).expect("a processor");
                let mut g = upstream.clone();
                pull_back(&device, &values, &mut g, exported, &adapters, SCALE, inputs);
                g
            };
            let found = pulled(1);
            assert_eq!(found, pulled(3));
            assert!(found[..exported].iter().all(|g| *g == 0.0), "the base gets none");
            let objective = |factors: &[f64]| -> f64 {
                let of = |adapter: &Adapter| -> f64 {
                    let w = reference(&start, factors, adapter, inputs);
                    let g = &upstream[adapter.weight.clone()];
                    w.iter().zip(g).map(|(w, g)| w * f64::from(*g)).sum()
                };
                adapters.iter().map(of).sum()
            };
            let mut factors: Vec<f64> = values[exported..].iter().map(|v| f64::from(*v)).collect();
            for place in (0..factors.len()).step_by(29) {
                let (here, step) = (factors[place], 1e-3);
                factors[place] = here + step;
                let above = objective(&factors);
                factors[place] = here - step;
                let below = objective(&factors);
                factors[place] = here;
                // The objective is bilinear: central differences are exact but for rounding.
                let (slope, found) = ((above - below) / (2.0 * step), found[exported + place]);
                let error = (slope - f64::from(found)).abs();
                assert!(error < 2e-5 * (1.0 + slope.abs()), "{place}: {found} {slope}");
            }
        }
    }
}
