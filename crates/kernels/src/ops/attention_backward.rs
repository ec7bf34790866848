//! Gradients of [`super::attention`], with the probabilities recomputed from the log-sum-exps.
//!
//! With P̃ = P·mask and Δ = Σ dy·y per query: dV += P̃ᵀ·dy, dP = (dy·vᵀ)·mask,
//! dS = P·(dP − Δ)/√D, dQ = dS·K, dK += dSᵀ·Q (Dao et al. 2022). One task holds all queries of a
//! key/value head, so every sum has one order. Scores and their gradients lie transposed, as in
//! the forward pass.

use crate::device::Device;
use crate::math::fused::{Exponential, Fused, Separate};
use crate::ops::attention::{Block, KEYS, QUERIES, Reach, Sites, Strip, masked_exp, pair_rows};
use crate::ops::attention_forms::{Heads, Rows, as_columns, as_rows, store_rows, transposed};
use crate::ops::dropout::{FactorLanes, Site};
use crate::ops::tile::{self, Engine, Into, Left, Right, Size, Units};
use crate::ops::{HeadShape, lanes};
use crate::parallel;
use crate::pool::Disjoint;
use crate::simd::dispatch;
use crate::values::Element;

/// Scratch for [`backward`], all workers together.
pub(crate) fn backward_scratch(device: &Device, shape: HeadShape) -> usize {
    let width = shape.head_width;
    let strip = QUERIES * (7 * width + 2 * KEYS + KEYS / 2);
    let workers = parallel::workers(device, shape.batch * shape.kv_heads);
    workers * (5 * (shape.seq_len + 1) * width + strip)
}

/// What the forward pass left.
#[derive(Clone, Copy)]
pub(crate) struct Saved<'a, T> {
    /// `[N, (H+2K)·D]`
    pub qkv: &'a [T],
    /// `[N, H·D]`, with head dropout applied.
    pub y: &'a [T],
    /// `[B, H, T]`
    pub logsumexp: &'a [f32],
}

/// dqkv `[N, (H+2K)·D]` ← from dy `[N, H·D]`.
pub(crate) fn backward<T: Element>(
    device: &Device,
    dqkv: &mut [T],
    dy: &[T],
    saved: Saved<T>,
    (shape, reach): (HeadShape, Reach),
    sites: Sites,
    scratch: &mut [f32],
) {
    let (width, seq_len) = (shape.head_width, shape.seq_len);
    assert_eq!(dqkv.len(), saved.qkv.len(), "attention: size of dqkv");
    assert!(dy.len() == saved.y.len() && dy.len() == shape.rows() * shape.heads * width);
    let engine = Engine::of(device);
    let dqkv = Disjoint::new(dqkv);
    let items = shape.batch * shape.kv_heads;
    parallel::with_scratch(device, items, scratch, |item, scratch| {
        let (sequence, kv_head) = (item / shape.kv_heads, item % shape.kv_heads);
        let first = sequence * seq_len;
        let heads = Heads { qkv: &saved.qkv[first * shape.cols()..], shape };
        let length = reach.length(sequence, seq_len);
        let mut work = Work::new(engine, &heads, kv_head, length, scratch);
        for head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
            let kept = sites.heads.map_or(1.0, |site| site.sequence(sequence, head));
            let row = sequence * shape.heads + head;
            let column = heads.query(head);
            for start in (0..length).step_by(QUERIES) {
                let count = QUERIES.min(length - start);
                let keys = reach.keys(sequence);
                let strip = Strip { start, count, keys, heads: &heads, head, row };
                if kept == 0.0 {
                    work.dq[..count * width].fill(0.0);
                } else {
                    let at = ((first + start) * shape.heads + head) * width;
                    let outputs = Outputs { dy: &dy[at..], y: &saved.y[at..], kept };
                    let lse = &saved.logsumexp[row * seq_len + start..][..count];
                    work.load(&strip, outputs, lse);
                    work.strip(&strip, sites.probabilities);
                }
                store(engine, &dqkv, &work.dq[..count * width], first + start, column, shape);
            }
            for padded in length..seq_len {
                work.dq[..width].fill(0.0);
                store(engine, &dqkv, &work.dq[..width], first + padded, column, shape);
            }
        }
        store(engine, &dqkv, &work.dk[..seq_len * width], first, heads.key(kv_head), shape);
        store(engine, &dqkv, &work.dv[..seq_len * width], first, heads.value(kv_head), shape);
    });
}

/// Writes `[rows, D]` into the columns of one head, from row `first` on.
fn store<T: Element>(
    engine: Engine,
    dqkv: &Disjoint<T>,
    from: &[f32],
    first: usize,
    column: usize,
    shape: HeadShape,
) {
    let width = shape.head_width;
    store_rows(
        engine,
        from,
        width,
        #[inline(always)]
        |row| {
            let at = (first + row) * shape.cols() + column;
            #[allow(unsafe_code)]
            // SAFETY: this head's columns of this sequence belong to one task.
            unsafe {
                dqkv.range(at..at + width)
            }
        },
    );
}

/// One head's outputs and their gradients, from the strip's first row on, `[.., H·D]`; and the
/// factor of head dropout.
#[derive(Clone, Copy)]
struct Outputs<'a, T> {
    dy: &'a [T],
    y: &'a [T],
    kept: f32,
}

/// The scratch of one key/value head: whole-sequence forms, sums, and the forms of a strip.
struct Work<'a> {
    engine: Engine,
    width: usize,
    /// Rows `[T, D]`
    k_rows: &'a [f32],
    v_rows: &'a [f32],
    /// Columns `[T, D]`
    k_columns: &'a [f32],
    dk: &'a mut [f32],
    dv: &'a mut [f32],
    /// P̃, a row per key
    p: &'a mut [f32],
    /// dP, then dS, a row per key
    ds: &'a mut [f32],
    /// dS in units along the keys, where they differ from `ds`
    ds_columns: &'a mut [f32],
    /// Transposed `[D, QUERIES]`
    q_turned: &'a mut [f32],
    dy_turned: &'a mut [f32],
    /// Columns `[QUERIES, D]`
    q_columns: &'a mut [f32],
    dy_columns: &'a mut [f32],
    /// `[QUERIES, D]`
    dy: &'a mut [f32],
    dq: &'a mut [f32],
    staging: &'a mut [f32],
    lse: [f32; QUERIES],
    /// Δ
    delta: [f32; QUERIES],
}

impl<'a> Work<'a> {
    fn new<T: Element>(
        engine: Engine,
        heads: &Heads<T>,
        kv_head: usize,
        length: usize,
        scratch: &'a mut [f32],
    ) -> Work<'a> {
        let (keys, width) = (heads.shape.seq_len, heads.shape.head_width);
        let mut rest = scratch;
        let mut cut = |len: usize| rest.split_off_mut(..len).expect("scratch as backward_scratch");
        let [k_rows, v_rows, k_columns, dk, dv] = std::array::from_fn(|_| cut((keys + 1) * width));
        let [p, ds] = std::array::from_fn(|_| cut(QUERIES * KEYS));
        let ds_columns = cut(QUERIES * KEYS / 2);
        let [q_turned, dy_turned, q_columns, dy_columns, dy, dq, staging] =
            std::array::from_fn(|_| cut(QUERIES * width));
        let k = heads.rows(heads.key(kv_head), 0, length);
        as_rows(engine, k, k_rows);
        as_rows(engine, heads.rows(heads.value(kv_head), 0, length), v_rows);
        if engine.units != Units::F32 {
            as_columns(engine, k, k_columns);
        }
        dk.fill(0.0);
        dv.fill(0.0);
        let (lse, delta) = ([0.0; QUERIES], [0.0; QUERIES]);
        let k_columns: &[f32] = if engine.units == Units::F32 { k_rows } else { k_columns };
        Work {
            engine,
            width,
            k_rows,
            v_rows,
            k_columns,
            dk,
            dv,
            p,
            ds,
            ds_columns,
            q_turned,
            dy_turned,
            q_columns,
            dy_columns,
            dy,
            dq,
            staging,
            lse,
            delta,
        }
    }

    /// Brings the strip's q and dy into their forms and computes Δ.
    fn load<T: Element>(&mut self, strip: &Strip<T>, outputs: Outputs<T>, lse: &[f32]) {
        let (engine, width, count) = (self.engine, self.width, strip.count);
        let q = strip.heads.rows(strip.heads.query(strip.head), strip.start, count);
        transposed(engine, q, self.q_turned, self.staging);
        as_columns(engine, q, self.q_columns);
        let stride = strip.heads.shape.heads * width;
        let rows = self.dy[..count * width].chunks_exact_mut(width);
        let delta = &mut self.delta[..strip.lanes()];
        delta.fill(0.0);
        dispatch(
            engine.isa,
            #[inline(always)]
            || {
                for (query, (row, delta)) in rows.zip(delta).enumerate() {
                    let dy = &outputs.dy[query * stride..query * stride + width];
                    let y = &outputs.y[query * stride..query * stride + width];
                    *delta = lanes::dot(dy, y);
                    for (row, dy) in row.iter_mut().zip(dy) {
                        *row = outputs.kept * dy.get();
                    }
                }
            },
        );
        let dy = Rows::<f32> { data: self.dy, stride: width, count, width };
        transposed(engine, dy, self.dy_turned, self.staging);
        as_columns(engine, dy, self.dy_columns);
        self.lse.fill(0.0);
        self.lse[..count].copy_from_slice(lse);
    }

    /// Adds the strip's part of dk and dv, and leaves its dq.
    fn strip<T: Element>(&mut self, strip: &Strip<T>, site: Option<Site>) {
        let (engine, width) = (self.engine, self.width);
        let factors = strip.factors(site);
        for first_key in (0..strip.reach(0)).step_by(KEYS) {
            let block = strip.block(0, first_key);
            let at = first_key * engine.units.along(width);
            block.scores(engine, self.p, &self.k_rows[at..], self.q_turned, width);
            block.product(engine, self.ds, &self.v_rows[at..], self.dy_turned, width);
            if engine.isa.has_fused() {
                self.softmax::<Fused>(block, factors.as_ref());
            } else {
                self.softmax::<Separate>(block, factors.as_ref());
            }
            self.keys(strip, block);
            let columns = &self.k_columns[engine.units.along(first_key) * width..];
            let ds: &[f32] = if engine.units == Units::F32 { self.ds } else { self.ds_columns };
            block.weighted(engine, self.dq, ds, columns, width);
        }
    }

    /// Scores become P̃ and gradients of probabilities those of scores, in units.
    fn softmax<E: Exponential>(&mut self, block: Block, factors: Option<&FactorLanes<QUERIES>>) {
        let scale = 1.0 / (self.width as f32).sqrt();
        dispatch(
            self.engine.isa,
            #[inline(always)]
            || {
                block.runs(
                    #[inline(always)]
                    |keys, lane| {
                        let lanes = lane..block.lanes;
                        let gradient = Gradient {
                            scale,
                            lse: &self.lse[lanes.clone()],
                            delta: &self.delta[lanes.clone()],
                        };
                        for key in keys {
                            let span = key * QUERIES + lanes.start..key * QUERIES + lanes.end;
                            let (p, ds) = (&mut self.p[span.clone()], &mut self.ds[span]);
                            match factors {
                                None => gradient.plain::<E>(p, ds),
                                Some(factors) => {
                                    let mut row = [0.0; QUERIES];
                                    let row = &mut row[..p.len()];
                                    factors.column(block.first_key + key, lane, row);
                                    gradient.masked::<E>(p, ds, row);
                                }
                            }
                        }
                    },
                );
            },
        );
        if self.engine.units != Units::F32 {
            self.pair(block);
        }
    }

    /// dS in units along the keys, then P̃ and dS in units along the queries, in place.
    fn pair(&mut self, block: Block) {
        let engine = self.engine;
        for (unit, units) in self.ds_columns.chunks_exact_mut(QUERIES).enumerate() {
            if 2 * unit < block.keys {
                pair_rows(engine, block, self.ds, unit, units);
            }
        }
        for rows in [&mut *self.p, &mut *self.ds] {
            for row in rows.chunks_exact_mut(QUERIES).take(block.keys) {
                let mut units = [0.0f32; QUERIES / 2];
                tile::pack_along(engine, row, &mut units);
                row[..QUERIES / 2].copy_from_slice(&units);
            }
        }
    }

    /// dV += P̃ᵀ·dy and dK += dSᵀ·q over the keys of one block.
    fn keys<T: Element>(&mut self, strip: &Strip<T>, block: Block) {
        let (engine, width) = (self.engine, self.width);
        block.runs(|keys, lane| {
            let offset = engine.units.along(lane);
            let size = Size { m: keys.len(), n: width, k: engine.units.along(strip.count - lane) };
            let at = (block.first_key + keys.start) * width;
            let left = |data| Left { data, row: QUERIES, col: 1 };
            let right = |data| Right { data, row: width };
            let start = keys.start * QUERIES + offset;
            let (p, ds) = (left(&self.p[start..]), left(&self.ds[start..]));
            let dy = right(&self.dy_columns[offset * width..]);
            let q = right(&self.q_columns[offset * width..]);
            tile::product(engine, &mut self.dv[at..], width, p, dy, size, Into::Add);
            tile::product(engine, &mut self.dk[at..], width, ds, q, size, Into::Add);
        });
    }
}

/// The gradient of the softmax, for some lanes.
struct Gradient<'a> {
    scale: f32,
    lse: &'a [f32],
    delta: &'a [f32],
}

impl Gradient<'_> {
    /// One key: p holds scores and becomes P; ds holds dy·v and becomes P·(ds − Δ)·scale.
    #[inline(always)]
    fn plain<E: Exponential>(&self, p: &mut [f32], ds: &mut [f32]) {
        for (((p, ds), lse), delta) in p.iter_mut().zip(ds).zip(self.lse).zip(self.delta) {
            *p = masked_exp::<E>(*p, self.scale, *lse);
            *ds = *p * (*ds - delta) * self.scale;
        }
    }

    /// The same with dropout: p becomes P·factor, ds becomes P·(factor·ds − Δ)·scale.
    #[inline(always)]
    fn masked<E: Exponential>(&self, p: &mut [f32], ds: &mut [f32], factors: &[f32]) {
        let rows = p.iter_mut().zip(ds).zip(factors);
        for (((p, ds), factor), (lse, delta)) in rows.zip(self.lse.iter().zip(self.delta)) {
            let probability = masked_exp::<E>(*p, self.scale, *lse);
            *p = probability * factor;
            *ds = probability * (factor * *ds - delta) * self.scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Precision;
    use crate::ops::attention::{self, forward_scratch};
    use crate::ops::dropout::Sharing;
    use crate::testing::{assert_close, assert_slopes, devices, isas, sites, values, wide};

    /// The specification: softmax over the keys in reach, dropout, weighted values.
    fn reference(qkv: &[f64], shape: HeadShape, reach: Reach, sites: Sites) -> Vec<f64> {
        let HeadShape { batch, seq_len, heads, kv_heads, head_width } = shape;
        let mut y = vec![0.0; batch * seq_len * heads * head_width];
        for (sequence, head) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
            let at = |row: usize, head: usize| {
                let start = (sequence * seq_len + row) * shape.cols() + head * head_width;
                &qkv[start..start + head_width]
            };
            let kv_head = head / shape.group();
            let kept = sites.heads.map_or(1.0, |site| site.sequence(sequence, head));
            for query in 0..reach.length(sequence, seq_len) {
                let q = at(query, head);
                let score = |key: usize| -> f64 {
                    let k = at(key, heads + kv_head);
                    let dot: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
                    (dot / (head_width as f64).sqrt()).exp()
                };
                let scores: Vec<f64> =
                    (0..reach.keys(sequence).unwrap_or(query + 1)).map(score).collect();
                let total: f64 = scores.iter().sum();
                let row = (sequence * heads + head) * seq_len + query;
                let start = (sequence * seq_len + query) * heads * head_width + head * head_width;
                for (key, score) in scores.iter().enumerate() {
                    let factor =
                        sites.probabilities.map_or(1.0, |site| site.query(row, heads).at(key));
                    let weight = f64::from(kept) * f64::from(factor) * score / total;
                    for (column, v) in at(key, heads + kv_heads + kv_head).iter().enumerate() {
                        y[start + column] += weight * v;
                    }
                }
            }
        }
        y
    }

    #[test]
    fn agrees_with_the_reference() {
        for device in devices() {
            for (seq_len, heads, kv_heads, head_width) in
                [(1, 1, 1, 1), (13, 2, 2, 3), (61, 4, 2, 5), (97, 3, 1, 18), (50, 1, 1, 70)]
            {
                let shape = HeadShape { batch: 2, seq_len, heads, kv_heads, head_width };
                for sharing in [Sharing::Element, Sharing::Time, Sharing::Row] {
                    for (probabilities, heads) in
                        sites(sharing, seq_len).into_iter().zip(sites(Sharing::Element, seq_len))
                    {
                        check(&device, shape, Reach::Causal, Sites { probabilities, heads }, 12);
                    }
                }
            }
        }
    }

    #[test]
    fn whole_sequences_agree_with_the_reference() {
        for device in devices() {
            for (lengths, heads, kv_heads, head_width) in [
                ([1, 1], 1, 1, 1),
                ([13, 5], 2, 2, 3),
                ([40, 61], 4, 2, 5),
                ([97, 64], 3, 1, 18),
                ([131, 129], 1, 1, 70),
            ] {
                let seq_len = lengths[0].max(lengths[1]) as usize;
                let shape = HeadShape { batch: 2, seq_len, heads, kv_heads, head_width };
                let both = sites(Sharing::Element, seq_len);
                for (probabilities, heads) in both.into_iter().zip(both) {
                    let reach = Reach::Whole { lengths: &lengths };
                    check(&device, shape, reach, Sites { probabilities, heads }, 12);
                }
            }
        }
    }

    #[test]
    fn several_blocks_of_keys_are_one_softmax() {
        let shape =
            HeadShape { batch: 1, seq_len: 2 * KEYS + 30, heads: 1, kv_heads: 1, head_width: 4 };
        let probabilities = sites(Sharing::Element, shape.seq_len)[1];
        for device in devices() {
            let sites = Sites { probabilities, heads: None };
            check(&device, shape, Reach::Causal, sites, 4);
            let lengths = [2 * KEYS as u32 + 21];
            check(&device, shape, Reach::Whole { lengths: &lengths }, sites, 4);
        }
    }

    #[test]
    fn bf16_differs_by_its_rounding() {
        for isa in isas() {
            let short = Device::cpu_with_isa(2, Precision::Bf16, isa).unwrap();
            let long = Device::cpu_with_isa(2, Precision::F32, isa).unwrap();
            for (seq_len, head_width) in [(1, 1), (61, 5), (150, 64)] {
                let shape = HeadShape { batch: 2, seq_len, heads: 2, kv_heads: 1, head_width };
                let probabilities = sites(Sharing::Element, seq_len)[1];
                let sites = Sites { probabilities, heads: None };
                let lengths = [seq_len as u32, seq_len.div_ceil(2) as u32];
                for reach in [Reach::Causal, Reach::Whole { lengths: &lengths }] {
                    let (_, y, dqkv) = run(&short, shape, reach, sites);
                    let (_, exact_y, exact_dqkv) = run(&long, shape, reach, sites);
                    let what = format!("{shape:?} {reach:?} {}", short.describe());
                    assert_close(&what, &y, &wide(&exact_y), 1.5e-2);
                    assert_close(&what, &dqkv, &wide(&exact_dqkv), 1.5e-2);
                    assert!(seq_len == 1 || y != exact_y, "{what}: nothing was rounded");
                }
            }
        }
    }

    fn check(device: &Device, shape: HeadShape, reach: Reach, sites: Sites, samples: usize) {
        let (qkv, y, dqkv) = run(device, shape, reach, sites);
        let what = format!("attention {shape:?} {reach:?} {}", device.describe());
        assert_close(&what, &y, &reference(&wide(&qkv), shape, reach, sites), 3e-6);
        let dy = values(y.len(), 2);
        assert_slopes(&what, &dqkv, &qkv, &dy, samples, |qkv| reference(qkv, shape, reach, sites));
    }

    /// Input, output, and the input's gradient.
    fn run(
        device: &Device,
        shape: HeadShape,
        reach: Reach,
        sites: Sites,
    ) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let qkv = values(shape.rows() * shape.cols(), 1);
        let mut y = vec![f32::NAN; shape.rows() * shape.heads * shape.head_width];
        let mut logsumexp = vec![0.0; shape.rows() * shape.heads];
        // Whatever earlier work left in the scratch must not matter.
        let mut scratch = vec![f32::NAN; forward_scratch(device, shape)];
        let place = (shape, reach);
        attention::forward(device, &mut y, &mut logsumexp, &qkv, place, sites, &mut scratch);
        let dy = values(y.len(), 2);
        let mut dqkv = vec![f32::NAN; qkv.len()];
        let saved = Saved { qkv: &qkv, y: &y, logsumexp: &logsumexp };
        let mut scratch = vec![f32::NAN; backward_scratch(device, shape)];
        backward(device, &mut dqkv, &dy, saved, place, sites, &mut scratch);
        (qkv, y, dqkv)
    }
}
