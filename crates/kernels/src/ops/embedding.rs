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

/// What the rows of an embedding are.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// `[N]`
    pub ids: &'a [u32],
    /// `[N]`: where it is 0, noise over whole token vectors leaves the row alone; `None`: nowhere.
    pub marks: Option<&'a [u32]>,
    /// An id whose vector takes no gradient.
    pub fixed: Option<u32>,
}

impl Rows<'_> {
    /// What the token vector of a row is multiplied with; `None` where nothing is.
    #[inline(always)]
    fn factor(&self, tokens: Option<Site>, row: usize) -> Option<f32> {
        let is_open = self.marks.is_none_or(|marks| marks[row] != 0);
        tokens.filter(|_| is_open).map(|site| site.row(row).at(0))
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

/// y `[N, C]` from `tokens` `[V, C]` and the ids of `rows`.
///
/// # Panics
/// If an id or a position is outside its table.
pub(crate) fn forward(
    device: &Device,
    y: &mut [f32],
    tokens: &[f32],
    rows: Rows,
    positions: Option<Positions>,
    cols: usize,
    sites: Sites,
) {
    let ids = rows.ids;
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
    parallel::ranges(device, ids.len(), parallel::grain_of(cols), |span| {
        #[allow(unsafe_code)]
        // SAFETY: the ranges of `ranges` are disjoint.
        let y = unsafe { y.range(span.start * cols..span.end * cols) };
        dispatch(
            isa,
            #[inline(always)]
            || {
                for (row, y) in span.zip(y.chunks_exact_mut(cols)) {
                    let id = ids[row] as usize;
                    y.copy_from_slice(&tokens[id * cols..(id + 1) * cols]);
                    if let Some(factor) = rows.factor(sites.tokens, row) {
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
    rows: Rows,
    cols: usize,
    tokens: Option<Site>,
) {
    let isa = device.isa();
    let table = Disjoint::new(dtokens);
    parallel::ranges(device, cols, 64, |span: Range<usize>| {
        dispatch(
            isa,
            #[inline(always)]
            || {
                let trained = |(_, id): &(usize, &u32)| rows.fixed != Some(**id);
                for (row, &id) in rows.ids.iter().enumerate().filter(trained) {
                    let id = id as usize;
                    #[allow(unsafe_code)]
                    // SAFETY: every task writes its own columns only.
                    let sums = unsafe { table.range(id * cols + span.start..id * cols + span.end) };
                    let dy = &dy[row * cols + span.start..row * cols + span.end];
                    match rows.factor(tokens, row) {
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
        rows: Rows,
        cols: usize,
        sites: Sites,
    ) -> Vec<f64> {
        let mut y = Vec::new();
        for (row, &id) in rows.ids.iter().enumerate() {
            let position = FIRST + row % SEQ_LEN;
            let is_open = rows.marks.is_none_or(|marks| marks[row] != 0);
            let site = if is_open { sites.tokens } else { None };
            let kept = site.map_or(1.0, |site| site.row(row).at(0));
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
        let marks: Vec<u32> = (0..40).map(|i| u32::from(i % 3 > 0)).collect();
        for device in devices() {
            for cols in [1, 5, 200] {
                for output in sites(Sharing::Element, SEQ_LEN) {
                    for tokens in sites(Sharing::Row, SEQ_LEN) {
                        for uniform in [None, Some(0.5)] {
                            let noise = uniform.map(|amplitude| Uniform { amplitude, stream: 9 });
                            let uniform = UniformSite::new(noise, Some(NOISE), SEQ_LEN);
                            for marks in [None, tokens.map(|_| &marks[..])] {
                                let rows = Rows { ids: &ids, marks, fixed: None };
                                check(&device, rows, cols, Sites { output, uniform, tokens });
                            }
                        }
                    }
                }
            }
        }
    }

    fn check(device: &Device, rows: Rows, cols: usize, sites: Sites) {
        let (tokens, table) = (values(7 * cols, 1), values(12 * cols, 2));
        let mut y = vec![0.0; rows.ids.len() * cols];
        let positions = Positions { table: &table, first: FIRST, seq_len: SEQ_LEN };
        forward(device, &mut y, &tokens, rows, Some(positions), cols, sites);
        let (tokens64, table64) = (wide(&tokens), wide(&table));
        let what = format!("embedding {cols} {}", device.describe());
        assert_close(&what, &y, &reference(&tokens64, &table64, rows, cols, sites), 1e-6);
        let upstream = values(y.len(), 3);
        let mut dy = upstream.clone();
        if let Some(site) = sites.output {
            backward_dropout(device, &mut dy, cols, site);
        }
        let (mut dtokens, mut dtable) = (vec![0.0; tokens.len()], vec![0.0; table.len()]);
        backward_tokens(device, &mut dtokens, &dy, rows, cols, sites.tokens);
        backward_positions(device, &mut dtable, FIRST, &dy, cols, SEQ_LEN);
        assert_slopes(&what, &dtokens, &tokens, &upstream, 20, |t| {
            reference(t, &table64, rows, cols, sites)
        });
        assert_slopes(&what, &dtable, &table, &upstream, 20, |t| {
            reference(&tokens64, t, rows, cols, sites)
        });
    }

    #[test]
    #[should_panic(expected = "token id 7 is not below 7")]
    fn an_unknown_token_is_refused() {
        let sites = Sites::default();
        let device = &devices()[0];
        let rows = Rows { ids: &[7], marks: None, fixed: None };
        forward(device, &mut [0.0; 2], &[0.0; 14], rows, None, 2, sites);
    }

    #[test]
    fn a_fixed_vector_takes_no_gradient() {
        let (ids, dy) = ([1, 0, 1, 2], [1.0; 8]);
        let mut gradient = [0.0; 6];
        let rows = Rows { ids: &ids, marks: None, fixed: Some(1) };
        backward_tokens(&devices()[0], &mut gradient, &dy, rows, 2, None);
        assert_eq!(gradient, [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
    }
}
