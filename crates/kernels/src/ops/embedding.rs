//! Token and position vectors: y = dropout(token_dropout(tokens[id]) + positions[first + t] + a·u)
//! with u uniform noise.

use std::ops::Range;

use crate::device::Device;
use crate::ops::dropout::Site;
use crate::ops::uniform::UniformSite;
use crate::parallel;
use crate::pool::Disjoint;
use crate::simd::dispatch;
use crate::values::Element;

/// The noise of an embedding.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sites {
    /// Over the sum.
    pub output: Option<Site>,
    /// Added to the sum.
    pub uniform: Option<UniformSite>,
    /// Over whole token vectors; positions are kept.
    pub tokens: Option<Site>,
}

impl Sites {
    /// What the token vector of a row is multiplied with; `None` where nothing is.
    #[inline(always)]
    fn token_factor(&self, row: usize) -> Option<f32> {
        self.tokens.map(|site| site.row(row).at(0))
    }
}

/// Position vectors, the first row in use, and how many follow it.
#[derive(Clone, Copy)]
pub(crate) struct Positions<'a> {
    /// `[context, C]`
    pub table: &'a [f32],
    pub first: usize,
    pub seq_len: usize,
}

/// y `[N, C]` from `tokens` `[V, C]` and ids `[N]`.
///
/// # Panics
/// If an id or a position is outside its table.
pub(crate) fn forward(
    device: &Device,
    y: &mut [f32],
    tokens: &[f32],
    ids: &[u32],
    positions: Option<Positions>,
    cols: usize,
    sites: Sites,
) {
    assert_eq!(y.len(), ids.len() * cols, "embedding: output size");
    let vocabulary = tokens.len() / cols;
    let worst = ids.iter().copied().max().unwrap_or(0);
    assert!((worst as usize) < vocabulary, "token id {worst} is not below {vocabulary}");
    if let Some(positions) = positions {
        let (last, context) = (positions.first + positions.seq_len, positions.table.len() / cols);
        assert!(last <= context, "{last} positions are asked of a context of {context}");
    }
    let isa = device.isa();
    let y = Disjoint::new(y);
    parallel::ranges(device, ids.len(), parallel::grain_of(cols), |rows| {
        #[allow(unsafe_code)]
        // SAFETY: the ranges of `ranges` are disjoint.
        let y = unsafe { y.range(rows.start * cols..rows.end * cols) };
        dispatch(
            isa,
            #[inline(always)]
            || {
                for (row, y) in rows.zip(y.chunks_exact_mut(cols)) {
                    let id = ids[row] as usize;
                    y.copy_from_slice(&tokens[id * cols..(id + 1) * cols]);
                    if let Some(factor) = sites.token_factor(row) {
                        y.iter_mut().for_each(|y| *y *= factor);
                    }
                    if let Some(positions) = positions {
                        let position = positions.first + row % positions.seq_len;
                        let vector = &positions.table[position * cols..(position + 1) * cols];
                        y.iter_mut().zip(vector).for_each(|(y, position)| *y += position);
                    }
                    if let Some(uniform) = sites.uniform {
                        uniform.add(row, y);
                    }
                    if let Some(site) = sites.output {
                        site.row(row).scale(y);
                    }
                }
            },
        );
    });
}

/// dy ← the gradient of the sum before dropout, in place.
pub(crate) fn backward_dropout<T: Element>(device: &Device, dy: &mut [T], cols: usize, site: Site) {
    let isa = device.isa();
    let grain = parallel::grain_of(cols);
    device.pool().for_each_chunk(dy, grain * cols, &|index, part| {
        dispatch(
            isa,
            #[inline(always)]
            || {
                for (row, dy) in part.chunks_exact_mut(cols).enumerate() {
                    site.row(index * grain + row).scale(dy);
                }
            },
        );
    });
}

/// dtokens[id] += dy of every row with that id, in the order of the rows: tasks split columns.
pub(crate) fn backward_tokens(
    device: &Device,
    dtokens: &mut [f32],
    dy: &[f32],
    ids: &[u32],
    cols: usize,
    tokens: Option<Site>,
) {
    let isa = device.isa();
    let sites = Sites { tokens, ..Sites::default() };
    let table = Disjoint::new(dtokens);
    parallel::ranges(device, cols, 64, |span: Range<usize>| {
        dispatch(
            isa,
            #[inline(always)]
            || {
                for (row, &id) in ids.iter().enumerate() {
                    let id = id as usize;
                    #[allow(unsafe_code)]
                    // SAFETY: every task writes its own columns only.
                    let sums = unsafe { table.range(id * cols + span.start..id * cols + span.end) };
                    let dy = &dy[row * cols + span.start..row * cols + span.end];
                    match sites.token_factor(row) {
                        None => sums.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy),
                        Some(factor) => {
                            sums.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += factor * dy);
                        }
                    }
                }
            },
        );
    });
}

/// dpositions[first + t] += Σ over sequences of dy[sequence, t], in the order of the sequences.
pub(crate) fn backward_positions(
    device: &Device,
    dpositions: &mut [f32],
    first: usize,
    dy: &[f32],
    cols: usize,
    seq_len: usize,
) {
    let isa = device.isa();
    let used = &mut dpositions[first * cols..(first + seq_len) * cols];
    let grain = parallel::grain_of(cols);
    device.pool().for_each_chunk(used, grain * cols, &|index, part| {
        dispatch(
            isa,
            #[inline(always)]
            || {
                let start = index * grain * cols;
                for sequence in dy.chunks_exact(seq_len * cols) {
                    let dy = &sequence[start..start + part.len()];
                    part.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::dropout::{NoiseKey, Sharing};
    use crate::ops::uniform::Uniform;
    use crate::testing::{assert_close, assert_slopes, devices, sites, values, wide};

    const NOISE: NoiseKey = NoiseKey { seed: 5, step: 6, first_sequence: 7 };
    const SEQ_LEN: usize = 8;
    const FIRST: usize = 2;

    /// The specification.
    fn reference(
        tokens: &[f64],
        positions: &[f64],
        ids: &[u32],
        cols: usize,
        sites: Sites,
    ) -> Vec<f64> {
        let mut y = Vec::new();
        for (row, &id) in ids.iter().enumerate() {
            let position = FIRST + row % SEQ_LEN;
            let kept = sites.tokens.map_or(1.0, |site| site.row(row).at(0));
            let mut added = vec![0.0; cols];
            if let Some(uniform) = sites.uniform {
                uniform.add(row, &mut added);
            }
            for column in 0..cols {
                let factor = sites.output.map_or(1.0, |s| s.row(row).at(column));
                let token = f64::from(kept) * tokens[id as usize * cols + column];
                let sum = token + positions[position * cols + column] + f64::from(added[column]);
                y.push(sum * f64::from(factor));
            }
        }
        y
    }

    #[test]
    fn agrees_with_the_reference() {
        let ids: Vec<u32> = (0..40).map(|i| i * i % 7).collect();
        for device in devices() {
            for cols in [1, 5, 200] {
                for output in sites(Sharing::Element, SEQ_LEN) {
                    for tokens in sites(Sharing::Row, SEQ_LEN) {
                        for uniform in [None, Some(0.5)] {
                            let noise = uniform.map(|amplitude| Uniform { amplitude, stream: 9 });
                            let uniform = UniformSite::new(noise, Some(NOISE), SEQ_LEN);
                            check(&device, &ids, cols, Sites { output, uniform, tokens });
                        }
                    }
                }
            }
        }
    }

    fn check(device: &Device, ids: &[u32], cols: usize, sites: Sites) {
        let (tokens, table) = (values(7 * cols, 1), values(12 * cols, 2));
        let mut y = vec![0.0; ids.len() * cols];
        let positions = Positions { table: &table, first: FIRST, seq_len: SEQ_LEN };
        forward(device, &mut y, &tokens, ids, Some(positions), cols, sites);
        let (tokens64, table64) = (wide(&tokens), wide(&table));
        let what = format!("embedding {cols} {}", device.describe());
        assert_close(&what, &y, &reference(&tokens64, &table64, ids, cols, sites), 1e-6);
        let upstream = values(y.len(), 3);
        let mut dy = upstream.clone();
        if let Some(site) = sites.output {
            backward_dropout(device, &mut dy, cols, site);
        }
        let (mut dtokens, mut dtable) = (vec![0.0; tokens.len()], vec![0.0; table.len()]);
        backward_tokens(device, &mut dtokens, &dy, ids, cols, sites.tokens);
        backward_positions(device, &mut dtable, FIRST, &dy, cols, SEQ_LEN);
        assert_slopes(&what, &dtokens, &tokens, &upstream, 20, |t| {
            reference(t, &table64, ids, cols, sites)
        });
        assert_slopes(&what, &dtable, &table, &upstream, 20, |t| {
            reference(&tokens64, t, ids, cols, sites)
        });
    }

    #[test]
    #[should_panic(expected = "token id 7 is not below 7")]
    fn an_unknown_token_is_refused() {
        let sites = Sites::default();
        let device = &devices()[0];
        forward(device, &mut [0.0; 2], &[0.0; 14], &[7], None, 2, sites);
    }
}
