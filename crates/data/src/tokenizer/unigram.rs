//! Fitting a unigram language model of pieces: Kudo 2018, arXiv 1804.10959, over counted words.
//!
//! Start from the substrings of frequent words, fit their probabilities by expectation-maximisation
//! over all cuts of all words, drop the pieces whose loss costs least, and repeat until the size is
//! reached. The steps (and constants) follow sentencepiece's description; sums run over a fixed
//! number of shards in a fixed order, so the result does not depend on the number of threads.

use crate::fast_hash::FastMap;
use rayon::prelude::*;

/// Longest piece in characters.
const PIECE_MAX: usize = 16;
/// Words that give their substrings as first pieces, and words fitted, the most frequent ones.
const SEED_WORDS: usize = 100_000;
const FITTED_WORDS: usize = 400_000;
/// Distinct substrings counted; this bounds memory.
const SUBSTRINGS_MAX: usize = 4 << 20;
/// First pieces for each piece wanted.
const SEEDS_PER_PIECE: usize = 12;
/// E and M steps between two prunings, and the share kept by one.
const STEPS: usize = 2;
const KEPT: f64 = 0.75;
/// The last pruning ends this far above the size wanted.
const MARGIN: f64 = 1.1;
/// A piece expected less often is dropped.
const EXPECTED_MIN: f64 = 0.5;
/// Work is always split into this many parts.
const SHARDS: usize = 16;

type Words<'a> = Vec<(&'a [u8], f64)>;

/// Pieces by id with their log-probabilities; the first 256 are the bytes.
struct Model {
    pieces: Vec<Vec<u8>>,
    scores: Vec<f64>,
    /// (node, byte) → node; node 0 is the root.
    edges: FastMap<(u32, u8), u32>,
    /// Piece that ends at a node.
    ends: Vec<Option<u32>>,
}

impl Model {
    fn new(pieces: Vec<Vec<u8>>, scores: Vec<f64>) -> Self {
        let mut model = Model { pieces, scores, edges: FastMap::default(), ends: vec![None] };
        for (id, piece) in model.pieces.iter().enumerate() {
            let mut node = 0;
            for byte in piece {
                let next = model.ends.len() as u32;
                node = *model.edges.entry((node, *byte)).or_insert(next);
                if node == next {
                    model.ends.push(None);
                }
            }
            model.ends[node as usize] = Some(id as u32);
        }
        model
    }

    /// Calls `visit(end, piece)` for every piece that starts at `start`.
    fn each_piece(&self, word: &[u8], start: usize, mut visit: impl FnMut(usize, u32)) {
        let mut node = 0;
        for (at, byte) in word.iter().enumerate().skip(start) {
            match self.edges.get(&(node, *byte)) {
                Some(next) => node = *next,
                None => return,
            }
            if let Some(piece) = self.ends[node as usize] {
                visit(at + 1, piece);
            }
        }
    }

    /// Adds `count` times the expected number of each piece in a cut of `word`.
    fn expect(&self, word: &[u8], count: f64, lattice: &mut Lattice, expected: &mut [f64]) {
        lattice.reset(word.len());
        lattice.forward[0] = 0.0;
        for start in 0..word.len() {
            self.each_piece(word, start, |end, piece| {
                let score = self.scores[piece as usize];
                lattice.arcs.push((start as u32, end as u32, piece));
                let through = lattice.forward[start] + score;
                lattice.forward[end] = log_add(lattice.forward[end], through);
            });
        }
        lattice.backward[word.len()] = 0.0;
        for (start, end, piece) in lattice.arcs.iter().rev() {
            let through = lattice.backward[*end as usize] + self.scores[*piece as usize];
            let slot = &mut lattice.backward[*start as usize];
            *slot = log_add(*slot, through);
        }
        let total = lattice.forward[word.len()];
        for (start, end, piece) in &lattice.arcs {
            let log = lattice.forward[*start as usize]
                + self.scores[*piece as usize]
                + lattice.backward[*end as usize]
                - total;
            expected[*piece as usize] += count * log.exp();
        }
    }

    /// The likeliest cut of `word`, without the piece `but`, in reverse order.
    fn best(&self, word: &[u8], but: Option<u32>, lattice: &mut Lattice, out: &mut Vec<u32>) {
        lattice.reset(word.len());
        lattice.forward[0] = 0.0;
        for start in 0..word.len() {
            self.each_piece(word, start, |end, piece| {
                let score = lattice.forward[start] + self.scores[piece as usize];
                if Some(piece) != but && score > lattice.forward[end] {
                    lattice.forward[end] = score;
                    lattice.from[end] = (start as u32, piece);
                }
            });
        }
        out.clear();
        let mut at = word.len();
        while at > 0 {
            let (start, piece) = lattice.from[at];
            out.push(piece);
            at = start as usize;
        }
    }
}

/// Scratch for one word.
#[derive(Default)]
struct Lattice {
    forward: Vec<f64>,
    backward: Vec<f64>,
    from: Vec<(u32, u32)>,
    /// Start, end, piece; by start.
    arcs: Vec<(u32, u32, u32)>,
}

impl Lattice {
    fn reset(&mut self, length: usize) {
        for side in [&mut self.forward, &mut self.backward] {
            side.clear();
            side.resize(length + 1, f64::NEG_INFINITY);
        }
        self.from.clear();
        self.from.resize(length + 1, (0, 0));
        self.arcs.clear();
    }
}

/// ln(eᵃ + eᵇ).
fn log_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// The derivative of ln Γ, by recurrence and the asymptotic series (Abramowitz & Stegun 6.3.18).
fn digamma(mut x: f64) -> f64 {
    let mut sum = 0.0;
    while x < 8.0 {
        sum -= 1.0 / x;
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    sum + x.ln()
        - 0.5 / x
        - inverse * (1.0 / 12.0 - inverse * (1.0 / 120.0 - inverse * (1.0 / 252.0)))
}

/// Fits at most `size` pieces (256 of them the bytes) to counted words in a fixed order.
pub(crate) fn fit(counts: &[(Box<[u8]>, u64)], size: usize) -> Vec<(Vec<u8>, f64)> {
    let mut words: Words =
        counts.iter().map(|(word, count)| (word.as_ref(), *count as f64)).collect();
    words.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    words.truncate(FITTED_WORDS);
    let (pieces, scores) = seeds(&words, size);
    let mut model = Model::new(pieces, scores);
    let margin = ((size as f64 * MARGIN) as usize).max(256);
    loop {
        for _ in 0..STEPS {
            let expected = expectations(&model, &words);
            model = maximise(model, &expected);
        }
        if model.pieces.len() <= margin {
            break;
        }
        let target = margin.max((model.pieces.len() as f64 * KEPT) as usize);
        model = prune(model, &words, target);
    }
    finish(model, size)
}

/// The bytes, and the substrings of the most frequent words by count times length.
fn seeds(words: &Words, size: usize) -> (Vec<Vec<u8>>, Vec<f64>) {
    let mut counts: FastMap<&[u8], f64> = FastMap::default();
    let mut bytes = [1.0; 256];
    for (word, count) in words.iter().take(SEED_WORDS) {
        if counts.len() > SUBSTRINGS_MAX {
            break;
        }
        word.iter().for_each(|b| bytes[usize::from(*b)] += count);
        // Pieces start and end between characters.
        let mut edges: Vec<usize> = (0..word.len()).filter(|i| (word[*i] as i8) >= -64).collect();
        edges.push(word.len());
        for (i, start) in edges.iter().enumerate() {
            for end in edges.iter().skip(i + 1).take(PIECE_MAX).filter(|end| **end > start + 1) {
                *counts.entry(&word[*start..*end]).or_default() += count;
            }
        }
    }
    let mut found: Vec<(&[u8], f64)> = counts.into_iter().filter(|(_, n)| *n >= 2.0).collect();
    found.sort_by(|a, b| {
        let worth = |entry: &(&[u8], f64)| entry.1 * entry.0.len() as f64;
        worth(b).total_cmp(&worth(a)).then_with(|| a.0.cmp(b.0))
    });
    found.truncate(SEEDS_PER_PIECE * size);
    let single = (0..=255u8).map(|b| (vec![b], bytes[usize::from(b)]));
    let longer = found.into_iter().map(|(piece, n)| (piece.to_vec(), n * piece.len() as f64));
    let (pieces, weights): (Vec<Vec<u8>>, Vec<f64>) = single.chain(longer).unzip();
    let total = weights.iter().sum::<f64>().ln();
    (pieces, weights.into_iter().map(|w| w.ln() - total).collect())
}

/// Runs `body` over a fixed cut of the words and adds the results up in order.
fn sharded(
    words: &Words,
    width: usize,
    body: impl Fn(&[(&[u8], f64)], &mut [f64]) + Sync,
) -> Vec<f64> {
    let parts: Vec<Vec<f64>> = words
        .par_chunks(words.len().div_ceil(SHARDS).max(1))
        .map(|part| {
            let mut sums = vec![0.0; width];
            body(part, &mut sums);
            sums
        })
        .collect();
    let mut total = vec![0.0; width];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
    }
    total
}

fn expectations(model: &Model, words: &Words) -> Vec<f64> {
    sharded(words, model.pieces.len(), |part, expected| {
        let mut lattice = Lattice::default();
        for (word, count) in part {
            model.expect(word, *count, &mut lattice, expected);
        }
    })
}

/// New probabilities, with the sparse prior of a Dirichlet process; pieces hardly used are dropped.
fn maximise(model: Model, expected: &[f64]) -> Model {
    let kept: Vec<(Vec<u8>, f64)> = model
        .pieces
        .into_iter()
        .zip(expected)
        .enumerate()
        .filter(|(id, (_, expected))| *id < 256 || **expected >= EXPECTED_MIN)
        .map(|(_, (piece, expected))| (piece, expected.max(EXPECTED_MIN)))
        .collect();
    let total = digamma(kept.iter().map(|(_, n)| n).sum());
    let (pieces, scores) = kept.into_iter().map(|(p, n)| (p, digamma(n) - total)).unzip();
    Model::new(pieces, scores)
}

/// Keeps the `target` pieces whose removal would cost the most likelihood.
fn prune(model: Model, words: &Words, target: usize) -> Model {
    let frequency = sharded(words, model.pieces.len(), |part, frequency| {
        let (mut lattice, mut cut) = (Lattice::default(), Vec::new());
        for (word, count) in part {
            model.best(word, None, &mut lattice, &mut cut);
            cut.iter().for_each(|piece| frequency[*piece as usize] += count);
        }
    });
    let total: f64 = frequency.iter().sum();
    let mut losses: Vec<(f64, u32)> = (256..model.pieces.len() as u32)
        .into_par_iter()
        .with_min_len(1024)
        .map_init(
            || (Lattice::default(), Vec::new()),
            |(lattice, cut), id| {
                let own = frequency[id as usize];
                if own == 0.0 {
                    return (0.0, id);
                }
                model.best(&model.pieces[id as usize], Some(id), lattice, cut);
                let after = (total + own * (cut.len() as f64 - 1.0)).ln();
                let without: f64 =
                    cut.iter().map(|p| (frequency[*p as usize] + own).ln() - after).sum();
                (own / total * (own.ln() - total.ln() - without), id)
            },
        )
        .collect();
    losses.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let mut kept: Vec<u32> = losses.iter().take(target - 256).map(|(_, id)| *id).collect();
    kept.sort_unstable();
    let ids = (0..256).chain(kept);
    let (pieces, scores) =
        ids.map(|id| (model.pieces[id as usize].clone(), model.scores[id as usize])).unzip();
    Model::new(pieces, scores)
}

/// The bytes and the likeliest longer pieces, likeliest first.
fn finish(model: Model, size: usize) -> Vec<(Vec<u8>, f64)> {
    let mut all: Vec<(Vec<u8>, f64)> = model.pieces.into_iter().zip(model.scores).collect();
    let by_score =
        |a: &(Vec<u8>, f64), b: &(Vec<u8>, f64)| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0));
    let mut longer = all.split_off(256);
    longer.sort_by(by_score);
    longer.truncate(size - 256);
    all.extend(longer);
    all.sort_by(by_score);
    all
}
