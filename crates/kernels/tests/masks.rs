//! Dropout masks at every site: share dropped, scale, independence, sharing, absence.

use std::sync::Arc;

use heldout_kernels::*;

const P: f32 = 0.3;
const SEQ_LEN: usize = 64;
const BATCH: usize = 8;
const COLS: usize = 96;
const HEADS: usize = 4;

/// Parameters that make the output of every site its mask: zeros, ones, and tables of them.
struct Bench {
    tape: Tape,
    parameters: Vec<f32>,
    ones: Weight,
    zeros: Weight,
    map: Weight,
    bias: Weight,
}

impl Bench {
    fn new() -> Bench {
        let mut layout = Layout::default();
        let ones = layout.push("ones", &[1, COLS], Role::Embedding);
        let zeros = layout.push("zeros", &[1, COLS], Role::Embedding);
        let map = layout.push("map", &[COLS, COLS], Role::Matrix);
        let bias = layout.push("bias", &[COLS], Role::Bias);
        let mut parameters = vec![0.0; layout.len];
        ones.of_mut(&mut parameters).fill(1.0);
        bias.of_mut(&mut parameters).fill(1.0);
        let device = Device::cpu(2, Precision::F32).unwrap();
        Bench { tape: Tape::new(Arc::new(device)), parameters, ones, zeros, map, bias }
    }

    /// What `site` yields for `batch` sequences from `first` on.
    fn run(
        &mut self,
        site: &Site,
        dropout: Dropout,
        step: u64,
        first: u64,
        batch: usize,
    ) -> Vec<f32> {
        let mut gradients = vec![0.0; self.parameters.len()];
        let noise = NoiseKey { seed: 42, step, first_sequence: first };
        let kind = PassKind::Train { gradients: &mut gradients, noise };
        let (ones, zeros, map, bias) = (self.ones, self.zeros, self.map, self.bias);
        let mut pass = self.tape.pass(&self.parameters, kind);
        let ids = vec![0; batch * SEQ_LEN];
        let some = Some(dropout);
        let none = EmbeddingNoise::default();
        let rows = |pass: &mut Pass, table| pass.embedding(table, &ids, None, SEQ_LEN, none);
        let y = match site {
            Site::Embedding => {
                let noise = EmbeddingNoise { output: some, ..none };
                pass.embedding(ones, &ids, None, SEQ_LEN, noise)
            }
            Site::Tokens => {
                let noise = EmbeddingNoise { tokens: some, ..none };
                pass.embedding(ones, &ids, None, SEQ_LEN, noise)
            }
            Site::Residual => {
                let (x, branch) = (rows(&mut pass, zeros), rows(&mut pass, ones));
                pass.residual(x, branch, some, 1.0)
            }
            Site::Linear => {
                let x = rows(&mut pass, zeros);
                pass.linear(x, map, Some(bias), Activation::Relu, some)
            }
            Site::Swiglu => {
                let x = rows(&mut pass, ones);
                pass.swiglu(x, some)
            }
            Site::Probabilities | Site::Heads => {
                // Queries and keys are zero or alike, so probabilities are uniform; values are 1.
                let x = rows(&mut pass, ones);
                let noise = match site {
                    Site::Heads => AttentionNoise { heads: some, ..AttentionNoise::default() },
                    _ => AttentionNoise { probabilities: some, ..AttentionNoise::default() },
                };
                pass.attention(x, head_shape(batch), noise)
            }
        };
        pass.value(y).to_vec()
    }
}

fn head_shape(batch: usize) -> HeadShape {
    let head_width = COLS / HEADS / 3;
    HeadShape { batch, seq_len: SEQ_LEN, heads: HEADS, kv_heads: HEADS, head_width }
}

#[derive(Debug)]
enum Site {
    Embedding,
    Tokens,
    Residual,
    Linear,
    Swiglu,
    Probabilities,
    Heads,
}

const ELEMENTWISE: [Site; 4] = [Site::Embedding, Site::Residual, Site::Linear, Site::Swiglu];

fn at(stream: u32, sharing: Sharing) -> Dropout {
    Dropout { p: P, stream, sharing }
}

/// Asserts that a share of `count` draws is P within five standard deviations.
fn assert_share(what: &str, dropped: usize, count: usize) {
    let (p, count) = (f64::from(P), count as f64);
    let deviations = (dropped as f64 - p * count) / (count * p * (1.0 - p)).sqrt();
    assert!(deviations.abs() < 5.0, "{what}: {dropped} of {count} dropped ({deviations:.1} σ)");
}

fn dropped(mask: &[f32]) -> usize {
    mask.iter().filter(|&&value| value == 0.0).count()
}

#[test]
fn elements_are_dropped_at_the_rate_and_the_rest_scaled() {
    let mut bench = Bench::new();
    for site in ELEMENTWISE {
        let mask = bench.run(&site, at(1, Sharing::Element), 1, 0, BATCH);
        assert_share(&format!("{site:?}"), dropped(&mask), mask.len());
        let plain = bench.run(&site, Dropout { p: 0.0, ..at(1, Sharing::Element) }, 1, 0, BATCH);
        let scale = 1.0 / (1.0 - P);
        assert!(mask.iter().zip(&plain).all(|(m, p)| *m == 0.0 || (m - p * scale).abs() < 1e-6));
    }
}

#[test]
fn neighbours_are_independent() {
    let mut bench = Bench::new();
    for site in ELEMENTWISE {
        let mask = bench.run(&site, at(1, Sharing::Element), 1, 0, BATCH);
        let cols = mask.len() / (BATCH * SEQ_LEN);
        // Both of a pair dropped: p². Along columns, rows, sequences, and diagonally.
        for distance in [1, 2, 16, cols, cols + 1, 2 * cols, cols * SEQ_LEN] {
            let pairs = mask.len() - distance;
            let both = (0..pairs).filter(|&i| mask[i] == 0.0 && mask[i + distance] == 0.0).count();
            let p = f64::from(P * P);
            let deviations = (both as f64 - p * pairs as f64) / (pairs as f64 * p).sqrt();
            assert!(deviations.abs() < 5.0, "{site:?} at {distance}: {deviations:.1} σ");
        }
    }
}

#[test]
fn streams_and_steps_differ_and_micro_batches_do_not() {
    let mut bench = Bench::new();
    let sites = [Site::Embedding, Site::Tokens, Site::Residual, Site::Linear, Site::Swiglu];
    for site in sites.iter().chain([&Site::Probabilities, &Site::Heads]) {
        for sharing in [Sharing::Element, Sharing::Time, Sharing::Row] {
            let whole = bench.run(site, at(1, sharing), 1, 0, BATCH);
            let tail = bench.run(site, at(1, sharing), 1, 3, BATCH - 3);
            assert_eq!(&whole[whole.len() - tail.len()..], tail, "{site:?} {sharing:?}");
            assert_ne!(whole, bench.run(site, at(2, sharing), 1, 0, BATCH), "{site:?}: stream");
            assert_ne!(whole, bench.run(site, at(1, sharing), 2, 0, BATCH), "{site:?}: step");
        }
    }
}

#[test]
fn sharing_is_over_time_or_over_the_row() {
    let mut bench = Bench::new();
    for site in ELEMENTWISE {
        let time = bench.run(&site, at(1, Sharing::Time), 1, 0, BATCH);
        let cols = time.len() / (BATCH * SEQ_LEN);
        let mut decisions = Vec::new();
        for sequence in time.chunks_exact(SEQ_LEN * cols) {
            assert!(sequence.chunks_exact(cols).all(|row| row == &sequence[..cols]), "{site:?}");
            decisions.extend_from_slice(&sequence[..cols]);
        }
        assert_share(&format!("{site:?} over time"), dropped(&decisions), decisions.len());
        let row = bench.run(&site, at(1, Sharing::Row), 1, 0, BATCH);
        let first: Vec<f32> = row.chunks_exact(cols).map(|row| row[0]).collect();
        assert!(row.chunks_exact(cols).all(|row| row.iter().all(|v| *v == row[0])), "{site:?}");
        assert_share(&format!("{site:?} over the row"), dropped(&first), first.len());
    }
    let tokens = bench.run(&Site::Tokens, at(1, Sharing::Element), 1, 0, BATCH);
    let first: Vec<f32> = tokens.chunks_exact(COLS).map(|row| row[0]).collect();
    assert!(tokens.chunks_exact(COLS).all(|row| row.iter().all(|v| *v == row[0])));
    assert_share("tokens", dropped(&first), first.len());
}

#[test]
fn attention_drops_probabilities_and_whole_heads() {
    let mut bench = Bench::new();
    let width = COLS / HEADS / 3;
    let mask = bench.run(&Site::Probabilities, at(1, Sharing::Element), 1, 0, BATCH);
    // Uniform probabilities: query t keeps y·(1 − p)·(t + 1) of its t + 1 keys.
    let (mut kept, mut count) = (0.0, 0);
    for (index, head) in mask.chunks_exact(width).enumerate() {
        let seen = (index / HEADS) % SEQ_LEN + 1;
        let keys = head[0] * (1.0 - P) * seen as f32;
        assert!((keys - keys.round()).abs() < 1e-3, "a whole number of keys is kept: {keys}");
        kept += f64::from(keys.round());
        count += seen;
    }
    assert_share("probabilities", count - kept as usize, count);
    let heads = bench.run(&Site::Heads, at(1, Sharing::Element), 1, 0, 64);
    let mut decisions = Vec::new();
    for sequence in heads.chunks_exact(SEQ_LEN * HEADS * width) {
        let first: Vec<f32> = sequence[..HEADS * width].chunks(width).map(|h| h[0]).collect();
        assert!(sequence.chunks(HEADS * width).all(|row| {
            row.chunks(width).zip(&first).all(|(h, f)| h.iter().all(|v| (v - f).abs() < 1e-6))
        }));
        decisions.extend(first);
    }
    assert_share("heads", dropped(&decisions), decisions.len());
}
