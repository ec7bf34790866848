//! Attention, causal or over whole sequences, with grouped key/value heads, fused: T×T is never
//! stored.
//!
//! For each head: S = q·kᵀ/√D over the keys that a query sees ([`Reach`]), P = softmax(S),
//! y = dropout(P)·v.
//! A strip of queries meets the keys block by block with a running maximum and sum (online
//! softmax, Milakov & Gimelshein 2018; Dao et al. 2022). Only the log-sum-exp of each query is
//! kept; backward recomputes P from it. Scores lie transposed, a row of queries per key, so that
//! the softmax is vertical: queries are lanes and nothing is summed across them. Tasks are
//! (sequence, key/value head) pairs, whole.

use crate::device::Device;
use crate::math::fused::{Exponential, Fused, Separate};
use crate::math::{exp, ln};
use crate::ops::HeadShape;
use crate::ops::attention_forms::{Heads, as_columns, as_rows, store_rows, transposed};
use crate::ops::dropout::{FactorLanes, Site};
use crate::ops::tile::{self, Engine, Into, Left, Right, Size, Units};
use crate::parallel;
use crate::pool::Disjoint;
use crate::simd::dispatch;
use crate::values::Element;

/// Queries per strip: the lanes of a row of scores.
pub(crate) const QUERIES: usize = 64;
/// Keys per block: a multiple of [`LANES`].
pub(crate) const KEYS: usize = 128;
/// Queries that are treated alike near the diagonal, and lanes of a loop.
pub(crate) const LANES: usize = 16;

/// Which keys a query attends to.
#[derive(Clone, Copy, Debug, Default)]
pub enum Reach<'a> {
    /// Those not after it.
    #[default]
    Causal,
    /// All of its sequence, before or after it.
    Whole {
        /// Positions in use of each sequence, `[B]`, from its first one on; the rest is padding,
        /// which nothing attends to and whose own result is 0.
        lengths: &'a [u32],
    },
}

impl Reach<'_> {
    /// Positions in use of one sequence of `seq_len`.
    pub(crate) fn length(&self, sequence: usize, seq_len: usize) -> usize {
        match self {
            Reach::Causal => seq_len,
            Reach::Whole { lengths } => lengths[sequence] as usize,
        }
    }

    /// Keys that every query of one sequence sees; `None` where that depends on the query.
    pub(crate) fn keys(&self, sequence: usize) -> Option<usize> {
        match self {
            Reach::Causal => None,
            Reach::Whole { lengths } => Some(lengths[sequence] as usize),
        }
    }

    /// # Panics
    /// If there is not one length between 1 and T for each sequence.
    pub(crate) fn assert_fits(&self, shape: HeadShape) {
        let Reach::Whole { lengths } = self else { return };
        assert_eq!(lengths.len(), shape.batch, "attention: one length a sequence");
        let fits = |length: &u32| (1..=shape.seq_len).contains(&(*length as usize));
        assert!(lengths.iter().all(fits), "attention: lengths {lengths:?} in {shape:?}");
    }
}

/// The noise of attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sites {
    pub probabilities: Option<Site>,
    pub heads: Option<Site>,
}

/// Elements of scratch that [`attend`] needs.
pub(crate) fn strip_scratch(width: usize) -> usize {
    QUERIES * (3 * width + KEYS)
}

/// Scratch for [`forward`], all workers together.
pub(crate) fn forward_scratch(device: &Device, shape: HeadShape) -> usize {
    let (keys, width) = (shape.seq_len, shape.head_width);
    let workers = parallel::workers(device, shape.batch * shape.kv_heads);
    workers * (2 * (keys + 1) * width + strip_scratch(width))
}

/// y `[N, H·D]` and `logsumexp` `[B, H, T]` from qkv `[N, (H+2K)·D]`.
pub(crate) fn forward<T: Element>(
    device: &Device,
    y: &mut [T],
    logsumexp: &mut [f32],
    qkv: &[T],
    (shape, reach): (HeadShape, Reach),
    sites: Sites,
    scratch: &mut [f32],
) {
    shape.assert_whole();
    reach.assert_fits(shape);
    let (rows, width, seq_len) = (shape.rows(), shape.head_width, shape.seq_len);
    assert_eq!(qkv.len(), rows * shape.cols(), "attention: size of qkv");
    assert_eq!(y.len(), rows * shape.heads * width, "attention: size of y");
    assert_eq!(logsumexp.len(), rows * shape.heads, "attention: size of logsumexp");
    let engine = Engine::of(device);
    let (y, logsumexp) = (Disjoint::new(y), Disjoint::new(logsumexp));
    let items = shape.batch * shape.kv_heads;
    parallel::with_scratch(device, items, scratch, |item, scratch| {
        let (sequence, kv_head) = (item / shape.kv_heads, item % shape.kv_heads);
        let first = sequence * seq_len;
        let length = reach.length(sequence, seq_len);
        let heads = Heads { qkv: &qkv[first * shape.cols()..], shape };
        let (keys, rest) = scratch.split_at_mut((seq_len + 1) * width);
        let (values, rest) = rest.split_at_mut((seq_len + 1) * width);
        as_rows(engine, heads.rows(heads.key(kv_head), 0, length), keys);
        as_columns(engine, heads.rows(heads.value(kv_head), 0, length), values);
        let attended = Attended { engine, keys, values, width, past: 0 };
        for head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
            let row = sequence * shape.heads + head;
            let kept = sites.heads.map_or(1.0, |site| site.sequence(sequence, head));
            #[allow(unsafe_code)]
            // SAFETY: (sequence, head) is this item's alone.
            let lse = unsafe { logsumexp.range(row * seq_len..(row + 1) * seq_len) };
            for start in (0..length).step_by(QUERIES) {
                let count = QUERIES.min(length - start);
                let keys = reach.keys(sequence);
                let strip = Strip { start, count, keys, heads: &heads, head, row };
                let outputs = attend(&attended, &strip, sites.probabilities, rest, lse);
                if kept != 1.0 {
                    outputs.iter_mut().for_each(|output| *output *= kept);
                }
                store_rows(
                    engine,
                    outputs,
                    width,
                    #[inline(always)]
                    |query| {
                        let at = ((first + start + query) * shape.heads + head) * width;
                        #[allow(unsafe_code)]
                        // SAFETY: this head's columns of this row are this item's alone.
                        unsafe {
                            y.range(at..at + width)
                        }
                    },
                );
            }
            lse[length..].fill(0.0);
            for padded in length..seq_len {
                let at = ((first + padded) * shape.heads + head) * width;
                #[allow(unsafe_code)]
                // SAFETY: as above.
                unsafe { y.range(at..at + width) }.fill(T::of(0.0));
            }
        }
    });
}

/// The keys (as rows) and values (as columns) of one head.
pub(crate) struct Attended<'a> {
    pub engine: Engine,
    pub keys: &'a [f32],
    pub values: &'a [f32],
    pub width: usize,
    /// Keys before the first query's own: query i sees keys 0..=past + i.
    pub past: usize,
}

/// Queries `start..start + count` of one head of one sequence.
pub(crate) struct Strip<'a, T = f32> {
    pub start: usize,
    pub count: usize,
    /// Keys that every query sees; `None` where each sees those up to its own.
    pub keys: Option<usize>,
    pub heads: &'a Heads<'a, T>,
    pub head: usize,
    /// sequence · H + head, for masks.
    pub row: usize,
}

impl<T: Element> Strip<'_, T> {
    /// Lanes in use, whole vectors.
    pub fn lanes(&self) -> usize {
        self.count.next_multiple_of(LANES)
    }

    /// The dropout factors of the strip's queries.
    pub fn factors(&self, site: Option<Site>) -> Option<FactorLanes<QUERIES>> {
        let shape = self.heads.shape;
        let row = self.row * shape.seq_len + self.start;
        site.map(|site| FactorLanes::new(|lane| site.query(row + lane, shape.heads)))
    }

    /// What lies where in the block of keys from `first_key` on, `past` keys preceding the first
    /// query.
    pub fn block(&self, past: usize, first_key: usize) -> Block {
        let keys = KEYS.min(self.reach(past) - first_key);
        // Where all keys are seen, all precede the queries.
        let before = self.keys.unwrap_or(past + self.start);
        Block { keys, first_key, before, lanes: self.lanes() }
    }

    /// Keys that some query of the strip sees, `past` keys preceding the first query.
    pub fn reach(&self, past: usize) -> usize {
        self.keys.unwrap_or(past + self.start + self.count)
    }
}

/// A block of keys against a strip.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    /// Keys in the block.
    pub keys: usize,
    pub first_key: usize,
    /// Keys that precede the strip's first query: lane q sees keys 0..=before + q.
    before: usize,
    pub lanes: usize,
}

impl Block {
    /// Keys of the block that some of the lanes before `end` see.
    #[inline(always)]
    pub fn seen(&self, end: usize) -> usize {
        (self.before + end).saturating_sub(self.first_key).min(self.keys)
    }

    /// The first lane that sees a key of the block.
    #[inline(always)]
    pub fn first_lane(&self, key: usize) -> usize {
        (self.first_key + key).saturating_sub(self.before)
    }

    /// Calls `body(keys, lane)` for runs of keys that begin at the same vector of lanes: first
    /// all that concern every vector, then groups along the diagonal.
    #[inline(always)]
    pub fn runs(&self, mut body: impl FnMut(std::ops::Range<usize>, usize)) {
        let every = (self.before + LANES).saturating_sub(self.first_key);
        let every = every.next_multiple_of(LANES).min(self.keys);
        if every > 0 {
            body(0..every, 0);
        }
        for key in (every..self.keys).step_by(LANES) {
            let lane = self.first_lane(key) / LANES * LANES;
            body(key..(key + LANES).min(self.keys), lane);
        }
    }

    /// scores `[keys, QUERIES]` ← rows · transposed where lanes may see keys, −∞ where they do
    /// not but share a vector with one that does.
    pub fn scores(
        &self,
        engine: Engine,
        scores: &mut [f32],
        rows: &[f32],
        transposed: &[f32],
        width: usize,
    ) {
        self.product(engine, scores, rows, transposed, width);
        dispatch(
            engine.isa,
            #[inline(always)]
            || {
                for key in self.seen(1)..self.keys {
                    let from = self.run_lane(key);
                    let hidden = self.first_lane(key) - from;
                    let (vectors, _) = scores[key * QUERIES + from..].as_chunks_mut::<LANES>();
                    let vectors = vectors[..hidden.div_ceil(LANES)].iter_mut();
                    // Whole vectors: fills of so few values cost more than all of the row.
                    for (first, vector) in vectors.enumerate() {
                        for (lane, score) in vector.iter_mut().enumerate() {
                            let seen = first * LANES + lane >= hidden;
                            *score = if seen { *score } else { f32::NEG_INFINITY };
                        }
                    }
                }
            },
        );
    }

    /// Where the run of a key begins.
    fn run_lane(&self, key: usize) -> usize {
        self.first_lane(key / LANES * LANES) / LANES * LANES
    }

    /// c `[keys, QUERIES]` ← rows · transposed, for the lanes of each run.
    pub fn product(
        &self,
        engine: Engine,
        c: &mut [f32],
        rows: &[f32],
        transposed: &[f32],
        width: usize,
    ) {
        let units = engine.units.along(width);
        self.runs(|keys, lane| {
            let left = Left { data: &rows[keys.start * units..], row: units, col: 1 };
            let right = Right { data: &transposed[lane..], row: QUERIES };
            let size = Size { m: keys.len(), n: self.lanes - lane, k: units };
            let c = &mut c[keys.start * QUERIES + lane..];
            tile::product(engine, c, QUERIES, left, right, size, Into::Overwrite);
        });
    }

    /// out `[QUERIES, D]` (+)= weightsᵀ·columns over the keys each query sees; `weights` holds
    /// units `[along(keys), QUERIES]`.
    pub fn weighted(
        &self,
        engine: Engine,
        out: &mut [f32],
        weights: &[f32],
        columns: &[f32],
        width: usize,
    ) {
        let into = if self.first_key == 0 { Into::Overwrite } else { Into::Add };
        let right = Right { data: columns, row: width };
        let mut product = |first: usize, m: usize, keys: usize| {
            let left = Left { data: &weights[first..], row: 1, col: QUERIES };
            let size = Size { m, n: width, k: engine.units.along(keys) };
            tile::product(engine, &mut out[first * width..], width, left, right, size, into);
        };
        if self.seen(LANES) == self.keys {
            product(0, self.lanes, self.keys);
            return;
        }
        for first in (0..self.lanes).step_by(LANES) {
            let seen = self.seen(first + LANES);
            if seen > 0 {
                product(first, LANES, seen);
            }
        }
    }
}

/// The running state of a strip's softmax.
struct Running {
    maxima: [f32; QUERIES],
    sums: [f32; QUERIES],
    /// What earlier outputs are multiplied with.
    shrink: [f32; QUERIES],
}

/// Attends one strip; returns its outputs `[count, D]` inside `scratch` and writes their
/// log-sum-exps to `lse[start..]`.
pub(crate) fn attend<'s, T: Element>(
    attended: &Attended,
    strip: &Strip<T>,
    site: Option<Site>,
    scratch: &'s mut [f32],
    lse: &mut [f32],
) -> &'s mut [f32] {
    let Attended { engine, width, past, .. } = *attended;
    let (scores, rest) = scratch.split_at_mut(QUERIES * KEYS);
    let (queries, rest) = rest.split_at_mut(QUERIES * width);
    let (staging, rest) = rest.split_at_mut(QUERIES * width);
    let outputs = &mut rest[..QUERIES * width];
    let rows = strip.heads.rows(strip.heads.query(strip.head), strip.start, strip.count);
    transposed(engine, rows, queries, staging);
    let mut running = Running {
        maxima: [f32::NEG_INFINITY; QUERIES],
        sums: [0.0; QUERIES],
        shrink: [1.0; QUERIES],
    };
    let reach = strip.reach(past);
    let factors = strip.factors(site);
    for first_key in (0..reach).step_by(KEYS) {
        let block = strip.block(past, first_key);
        let keys = &attended.keys[first_key * engine.units.along(width)..];
        block.scores(engine, scores, keys, queries, width);
        if engine.isa.has_fused() {
            normalise::<Fused>(attended, block, factors.as_ref(), scores, &mut running);
        } else {
            normalise::<Separate>(attended, block, factors.as_ref(), scores, &mut running);
        }
        if first_key > 0 {
            for (output, shrink) in outputs.chunks_exact_mut(width).zip(running.shrink) {
                output.iter_mut().for_each(|output| *output *= shrink);
            }
        }
        let values = &attended.values[engine.units.along(first_key) * width..];
        block.weighted(engine, outputs, scores, values, width);
    }
    let outputs = &mut outputs[..strip.count * width];
    let lse = &mut lse[strip.start..strip.start + strip.count];
    dispatch(
        engine.isa,
        #[inline(always)]
        || {
            let sums = &running.sums[..lse.len()];
            for (output, sum) in outputs.chunks_exact_mut(width).zip(sums) {
                let inverse = 1.0 / sum;
                for output in output {
                    *output *= inverse;
                }
            }
            for ((lse, maximum), sum) in lse.iter_mut().zip(&running.maxima).zip(sums) {
                *lse = maximum + ln(*sum);
            }
        },
    );
    outputs
}

/// Scores become unnormalised, dropped-out probabilities, in units for [`Block::weighted`].
fn normalise<E: Exponential>(
    attended: &Attended,
    block: Block,
    factors: Option<&FactorLanes<QUERIES>>,
    scores: &mut [f32],
    running: &mut Running,
) {
    let engine = attended.engine;
    let scale = 1.0 / (attended.width as f32).sqrt();
    dispatch(
        engine.isa,
        #[inline(always)]
        || {
            let mut largest = [f32::NEG_INFINITY; QUERIES];
            let (lines, _) = scores.as_chunks::<LANES>();
            let vectors = largest.as_chunks_mut::<LANES>().0.iter_mut().take(block.lanes / LANES);
            for (vector, largest) in vectors.enumerate() {
                let seen = block.seen((vector + 1) * LANES);
                *largest = largest_of(lines, vector, seen);
            }
            running.raise(&largest[..block.lanes], scale);
            block.runs(
                #[inline(always)]
                |keys, lane| {
                    let maxima = &running.maxima[lane..block.lanes];
                    let sums = &mut running.sums[lane..block.lanes];
                    for key in keys {
                        let at = key * QUERIES;
                        let scores = &mut scores[at + lane..at + block.lanes];
                        weigh::<E>(scores, maxima, sums, scale);
                        if let Some(factors) = factors {
                            let mut row = [0.0; QUERIES];
                            let row = &mut row[..scores.len()];
                            factors.column(block.first_key + key, lane, row);
                            scores.iter_mut().zip(row).for_each(|(score, f)| *score *= *f);
                        }
                    }
                },
            );
        },
    );
    if engine.units != Units::F32 {
        pair_keys(engine, block, scores);
    }
}

/// The largest score of a vector of lanes over the first `seen` keys, four keys at a time.
#[inline(always)]
fn largest_of(lines: &[[f32; LANES]], vector: usize, seen: usize) -> [f32; LANES] {
    const STRIDE: usize = QUERIES / LANES;
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut most = [[f32::NEG_INFINITY; LANES]; 4];
    let (fours, rest) = lines[..seen * STRIDE].as_chunks::<{ 4 * STRIDE }>();
    for four in fours {
        for (key, most) in most.iter_mut().enumerate() {
            for (most, score) in most.iter_mut().zip(&four[key * STRIDE + vector]) {
                *most = larger(*most, *score);
            }
        }
    }
    let [mut all, b, c, d] = most;
    for key in rest.chunks_exact(STRIDE) {
        for (all, score) in all.iter_mut().zip(&key[vector]) {
            *all = larger(*all, *score);
        }
    }
    for others in [b, c, d] {
        for (all, other) in all.iter_mut().zip(others) {
            *all = larger(*all, other);
        }
    }
    all
}

impl Running {
    /// Takes the largest scores of a block into account.
    #[inline(always)]
    fn raise(&mut self, largest: &[f32], scale: f32) {
        let state = self.maxima.iter_mut().zip(&mut self.sums).zip(&mut self.shrink);
        for (((maximum, sum), shrink), largest) in state.zip(largest) {
            let new = (largest * scale).max(*maximum);
            *shrink = exp(*maximum - new);
            *sum *= *shrink;
            *maximum = new;
        }
    }
}

/// One key's scores become weights, which are added to the sums.
#[inline(always)]
fn weigh<E: Exponential>(scores: &mut [f32], maxima: &[f32], sums: &mut [f32], scale: f32) {
    for ((score, maximum), sum) in scores.iter_mut().zip(maxima).zip(sums) {
        *score = masked_exp::<E>(*score, scale, *maximum);
        *sum += *score;
    }
}

/// Rows of weights become rows of units in place: each key's paired with the next one's.
fn pair_keys(engine: Engine, block: Block, scores: &mut [f32]) {
    for unit in 0..block.keys.div_ceil(2) {
        let mut units = [0.0f32; QUERIES];
        pair_rows(engine, block, scores, unit, &mut units);
        scores[unit * QUERIES..(unit + 1) * QUERIES].copy_from_slice(&units);
    }
}

/// units ← the rows of keys 2·unit and 2·unit + 1, the latter 0 where the block ends.
pub(crate) fn pair_rows(
    engine: Engine,
    block: Block,
    rows: &[f32],
    unit: usize,
    units: &mut [f32],
) {
    let low = &rows[2 * unit * QUERIES..][..block.lanes];
    let units = &mut units[..block.lanes];
    if 2 * unit + 1 < block.keys {
        let high = &rows[(2 * unit + 1) * QUERIES..][..block.lanes];
        tile::pack_across(engine, low, high, units);
    } else {
        tile::pack_across(engine, low, &[0.0; QUERIES][..block.lanes], units);
    }
}

/// e^(score·scale − offset), exactly 0 where the score is −∞.
#[inline(always)]
pub(crate) fn masked_exp<E: Exponential>(score: f32, scale: f32, offset: f32) -> f32 {
    let weight = E::of_negative(score * scale - offset);
    if score == f32::NEG_INFINITY { 0.0 } else { weight }
}
