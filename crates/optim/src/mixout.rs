//! Mixout (Lee et al. 2020, arXiv:1909.11299, eq. 5): with probability p a pass reads a weight w as
//! the w₀ that training started from, scaled so that the expectation is w:
//! (M·w₀ + (1−M)·w − p·w₀)/(1−p) with M ~ Bernoulli(p).
//!
//! That is w₀ + m·(w − w₀) with m = 0 or 1/(1−p), dropout's factors, and m is what the gradient is
//! multiplied with. m is a function of seed, step and the weight's place alone.

use heldout_kernels::random::Mask;
use heldout_kernels::{Device, simd};

use crate::Segment;
use crate::walk::CHUNK;

/// Calls `body` with each row of `segments`: its values, its place in the flat vector.
fn each_row(
    device: &Device,
    vector: &mut [f32],
    segments: &[Segment],
    body: &(dyn Fn(&mut [f32], usize) + Sync),
) {
    for segment in segments.iter().filter(|segment| !segment.is_empty()) {
        let (_, cols) = segment.rows_and_columns();
        let at_once = CHUNK.div_ceil(cols) * cols;
        let values = &mut vector[segment.range.clone()];
        device.pool().for_each_chunk(values, at_once, &|number, part| {
            let first = segment.range.start + number * at_once;
            for (row, values) in part.chunks_exact_mut(cols).enumerate() {
                body(values, first + row * cols);
            }
        });
    }
}

/// `weights` on `segments` ← what the pass reads; `start` holds w₀ at the same places.
///
/// # Panics
/// If a segment lies behind the end of `start`.
pub fn mix(device: &Device, start: &[f32], weights: &mut [f32], segments: &[Segment], mask: Mask) {
    each_row(device, weights, segments, &|weights, place| {
        let (start, row) = (&start[place..place + weights.len()], mask.row(place as u64));
        simd::dispatch(
            device.isa(),
            #[inline(always)]
            || {
                for (column, (w, w0)) in (0..).zip(weights.iter_mut().zip(start)) {
                    *w = w0 + row.factor(column) * (*w - w0);
                }
            },
        );
    });
}

/// `gradients` on `segments`: from those of what the pass read to those of the weights.
pub fn pull_back(device: &Device, gradients: &mut [f32], segments: &[Segment], mask: Mask) {
    each_row(device, gradients, segments, &|gradients, place| {
        let row = mask.row(place as u64);
        simd::dispatch(
            device.isa(),
            #[inline(always)]
            || {
                for (column, g) in (0..).zip(gradients.iter_mut()) {
                    *g *= row.factor(column);
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::segment;
    use heldout_base::rng::{Random, streams};
    use heldout_kernels::{Precision, Role};

    const P: f32 = 0.7;
    const SHAPE: [usize; 2] = [300, 200];
    const LEN: usize = SHAPE[0] * SHAPE[1] + 9;

    fn segments() -> Vec<Segment> {
        vec![
            segment("w", 4..4 + SHAPE[0] * SHAPE[1], &SHAPE, Role::Matrix),
            segment("b", LEN - 3..LEN, &[3], Role::Bias),
        ]
    }

    fn vectors() -> (Vec<f32>, Vec<f32>) {
        let of = |step| {
            let mut values = vec![0.0; LEN];
            Random::new(5, streams::TEST, step).fill_normal(&mut values, 1.0);
            values
        };
        (of(0), of(1))
    }

    fn mask(step: u64) -> Mask {
        Mask::new(3, streams::MIXOUT.0, step, P)
    }

    fn mixed(threads: usize, step: u64) -> Vec<f32> {
        let device = Device::cpu(threads, Precision::F32).expect("a processor");
        let (start, mut weights) = vectors();
        mix(&device, &start, &mut weights, &segments(), mask(step));
        weights
    }

    #[test]
    fn weights_are_those_of_the_papers_formula() {
        let ((start, weights), found) = (vectors(), mixed(1, 9));
        assert_eq!(found, mixed(3, 9));
        assert_ne!(found, mixed(1, 10), "every step has its own draw");
        assert_eq!(found[..4], weights[..4], "what is in no segment stays");
        let (mut replaced, p) = (0, f64::from(P));
        for place in 4..LEN - 5 {
            let (w0, w) = (f64::from(start[place]), f64::from(weights[place]));
            let drawn = f64::from(u8::from(found[place] == start[place]));
            replaced += u64::from(drawn == 1.0);
            let expected = (drawn * w0 + (1.0 - drawn) * w - p * w0) / (1.0 - p);
            assert!((f64::from(found[place]) - expected).abs() < 1e-5, "{place}");
        }
        // Six standard deviations of a share of n draws.
        let n = (LEN - 9) as f64;
        let share = replaced as f64 / n;
        assert!((share - p).abs() < 6.0 * (p * (1.0 - p) / n).sqrt(), "{share}");
    }

    #[test]
    fn gradients_pass_where_the_weight_itself_was_read() {
        let device = Device::cpu(2, Precision::F32).expect("a processor");
        let (start, _) = vectors();
        let mut g = vec![1.0; LEN];
        pull_back(&device, &mut g, &segments(), mask(9));
        for (place, (g, read)) in g.iter().zip(mixed(2, 9)).enumerate() {
            let is_mixed = (4..LEN - 5).contains(&place) || place >= LEN - 3;
            let expected = match (is_mixed, read == start[place]) {
                (false, _) => 1.0,
                (true, true) => 0.0,
                (true, false) => 1.0 / (1.0 - P),
            };
            assert_eq!(*g, expected, "{place}");
        }
    }
}
