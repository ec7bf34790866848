//! Uniform noise added to a tensor (NEFTune; Jain et al. 2023, arXiv:2310.05914): x + a·u with
//! u ~ U(−1, 1). Its gradient is that of x, so there is nothing to store and no backward.

use crate::ops::dropout::NoiseKey;
use crate::random::Mask;

/// Additive uniform noise as a model asks for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uniform {
    /// The largest absolute value, finite; with 0 the site is absent, bit for bit.
    pub amplitude: f32,
    /// Stream of the random bits: one per site.
    pub stream: u32,
}

/// The noise in this step: a function of the place in the run, however a batch is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UniformSite {
    mask: Mask,
    amplitude: f32,
    first_row: u64,
}

impl UniformSite {
    /// The site in passes over sequences of `seq_len` positions, or `None` where it is absent: not
    /// asked for, no amplitude, or no noise (evaluation).
    ///
    /// # Panics
    /// If the amplitude is negative or not finite.
    pub fn new(
        uniform: Option<Uniform>,
        noise: Option<NoiseKey>,
        seq_len: usize,
    ) -> Option<UniformSite> {
        let (Uniform { amplitude, stream }, noise) = (uniform?, noise?);
        assert!(amplitude.is_finite() && amplitude >= 0.0, "amplitude {amplitude} of noise");
        (amplitude > 0.0).then(|| UniformSite {
            mask: Mask::new(noise.seed, stream, noise.step, 0.0),
            amplitude,
            first_row: noise.first_sequence * seq_len as u64,
        })
    }

    /// values[c] += a·u(row, c) for a row of this micro-batch.
    #[inline(always)]
    pub fn add(&self, row: usize, values: &mut [f32]) {
        // Midpoints of a grid of 2²³ cells: symmetric, inside (−1, 1), and exact in f32.
        const STEP: f32 = 1.0 / 4_194_304.0;
        let row = self.mask.row(self.first_row + row as u64);
        for (column, value) in values.iter_mut().enumerate() {
            let unit = ((row.word(column as u32) >> 9) as f32 + 0.5) * STEP - 1.0;
            *value += self.amplitude * unit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: NoiseKey = NoiseKey { seed: 1, step: 2, first_sequence: 3 };

    fn site(amplitude: f32, noise: Option<NoiseKey>) -> Option<UniformSite> {
        UniformSite::new(Some(Uniform { amplitude, stream: 4 }), noise, 8)
    }

    #[test]
    fn absent_means_absent() {
        assert!(UniformSite::new(None, Some(NOISE), 8).is_none());
        assert!(site(0.0, Some(NOISE)).is_none());
        assert!(site(0.5, None).is_none());
    }

    #[test]
    fn draws_fill_the_interval_evenly_and_follow_the_global_row() {
        let whole = site(0.5, Some(NOISE)).expect("noise");
        let later = site(0.5, Some(NoiseKey { first_sequence: 5, ..NOISE })).expect("noise");
        let (mut one, mut other) = ([0.0; 64], [0.0; 64]);
        whole.add(2 * 8 + 3, &mut one);
        later.add(3, &mut other);
        assert_eq!(one, other, "row 3 of sequence 5, wherever the cut is");

        let mut draws = vec![0.0; 1 << 16];
        draws.chunks_mut(256).enumerate().for_each(|(row, part)| whole.add(row, part));
        let n = draws.len() as f64;
        let moment = |power: i32| draws.iter().map(|x| f64::from(*x).powi(power)).sum::<f64>() / n;
        assert!(draws.iter().all(|x| x.abs() < 0.5));
        // Six standard errors: a²/3 is the variance, a⁴·4/45 that of the squares.
        assert!(moment(1).abs() < 6.0 * (0.25 / 3.0 / n).sqrt());
        assert!((moment(2) - 0.25 / 3.0).abs() < 6.0 * (0.0625 * 4.0 / 45.0 / n).sqrt());
    }
}
