//! The one evaluation: mean loss over fixed windows without noise or smoothing, with its error.
//!
//! The same function scores the training sample and the held-out split, so their difference is the
//! gap and nothing else. The standard error treats each window as one cluster (a ratio estimator
//! over windows): tokens of one window share their text, so their losses are not independent.

use heldout_data::{Batch, EvaluationWindows, IGNORE};
use heldout_kernels::{LossSpec, PassKind, Tape};
use heldout_model::{Model, NoiseRates, Tokens};

/// A mean loss and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Nats per target token.
    pub loss: f64,
    /// Its standard error, clustered by window.
    pub se: f64,
    pub targets: u64,
    pub windows: usize,
}

/// Sum and count of one window's losses.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cluster {
    sum: f64,
    sum_squares: f64,
    count: u64,
}

/// Scores `parameters` on `windows`, `rows` windows at a time (the figures do not depend on it).
pub fn score(
    model: &Model,
    tape: &mut Tape,
    parameters: &[f32],
    windows: &EvaluationWindows,
    rows: usize,
) -> Score {
    let rows = rows.min(windows.len());
    let mut tally = Tally::default();
    for mut batch in windows.batches(rows) {
        pad(&mut batch, rows);
        tally.add(model, tape, parameters, &batch);
    }
    tally.score()
}

/// Fills a short last batch up with rows that are not scored: the tape keeps its buffers by size,
/// and a batch of another size would need a second set of them.
fn pad(batch: &mut Batch, rows: usize) {
    batch.ids.resize(rows * batch.seq_len, 0);
    batch.targets.resize(rows * batch.seq_len, IGNORE);
    batch.batch = rows;
}

/// Mean loss over the targets of one batch, nats per token.
pub fn loss_of(model: &Model, tape: &mut Tape, parameters: &[f32], tokens: Tokens) -> f64 {
    let mut pass = tape.pass(parameters, PassKind::Evaluate);
    let report = model.loss(&mut pass, tokens, &NoiseRates::default(), &LossSpec::plain(1.0));
    report.nll_sum / report.targets.max(1) as f64
}

/// Losses of the windows scored so far.
#[derive(Debug, Default)]
pub struct Tally {
    clusters: Vec<Cluster>,
}

impl Tally {
    /// Scores the windows of one batch.
    pub fn add(&mut self, model: &Model, tape: &mut Tape, parameters: &[f32], batch: &Batch) {
        self.add_seen(model, tape, parameters, batch, |_| {});
    }

    /// As [`Tally::add`]; `see` gets the losses, one for each position.
    pub fn add_seen(
        &mut self,
        model: &Model,
        tape: &mut Tape,
        parameters: &[f32],
        batch: &Batch,
        see: impl FnOnce(&[f32]),
    ) {
        with_losses(model, tape, parameters, batch, |losses| {
            see(losses);
            self.add_losses(losses, batch);
        });
    }

    /// Takes values of single tokens of one window; those whose target is [`IGNORE`] count for
    /// nothing.
    pub fn add_row(&mut self, values: &[f32], targets: &[u32]) {
        self.clusters.extend(Some(cluster((values, targets))).filter(|cluster| cluster.count > 0));
    }

    /// Takes values of single tokens: one for each position of the batch.
    pub fn add_losses(&mut self, values: &[f32], batch: &Batch) {
        let rows = values.chunks(batch.seq_len).zip(batch.targets.chunks(batch.seq_len));
        self.clusters.extend(rows.map(cluster).filter(|cluster| cluster.count > 0));
    }

    /// The mean of everything so far.
    pub fn score(&self) -> Score {
        summarize(&self.clusters)
    }
}

/// Runs one batch without noise or smoothing and gives the loss of every position.
fn with_losses(
    model: &Model,
    tape: &mut Tape,
    parameters: &[f32],
    batch: &Batch,
    see: impl FnOnce(&[f32]),
) {
    let spec = LossSpec::plain(1.0);
    let mut pass = tape.pass(parameters, PassKind::Evaluate);
    let tokens = Tokens {
        ids: &batch.ids,
        targets: &batch.targets,
        batch: batch.batch,
        seq_len: batch.seq_len,
    };
    model.loss(&mut pass, tokens, &NoiseRates::default(), &spec);
    see(pass.token_nll());
}

/// The summed loss of every window of a batch, nats.
pub fn window_sums(model: &Model, tape: &mut Tape, parameters: &[f32], batch: &Batch) -> Vec<f64> {
    let mut sums = Vec::new();
    with_losses(model, tape, parameters, batch, |losses| {
        let rows = losses.chunks(batch.seq_len).zip(batch.targets.chunks(batch.seq_len));
        sums.extend(rows.map(|row| cluster(row).sum));
    });
    sums
}

fn cluster((losses, targets): (&[f32], &[u32])) -> Cluster {
    let mut cluster = Cluster { sum: 0.0, sum_squares: 0.0, count: 0 };
    for (loss, target) in losses.iter().zip(targets) {
        if *target != IGNORE {
            let loss = f64::from(*loss);
            cluster.sum += loss;
            cluster.sum_squares += loss * loss;
            cluster.count += 1;
        }
    }
    cluster
}

fn summarize(clusters: &[Cluster]) -> Score {
    let targets: u64 = clusters.iter().map(|c| c.count).sum();
    let total = targets.max(1) as f64;
    let loss = clusters.iter().map(|c| c.sum).sum::<f64>() / total;
    let windows = clusters.len();
    let se = if windows > 1 {
        let squares: f64 = clusters.iter().map(|c| (c.sum - loss * c.count as f64).powi(2)).sum();
        let n = windows as f64;
        (squares * n / (n - 1.0)).sqrt() / total
    } else {
        // One window has no spread of its own: fall back on its tokens.
        let mean_square = clusters.iter().map(|c| c.sum_squares).sum::<f64>() / total;
        ((mean_square - loss * loss).max(0.0) / (total - 1.0).max(1.0)).sqrt()
    };
    Score { loss, se, targets, windows }
}

/// Bits per byte of text from nats per token.
pub fn bits_per_byte(loss: f64, bytes_per_token: f64) -> f64 {
    loss / std::f64::consts::LN_2 / bytes_per_token
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Cluster {
        Cluster {
            sum: values.iter().sum(),
            sum_squares: values.iter().map(|v| v * v).sum(),
            count: values.len() as u64,
        }
    }

    #[test]
    fn the_mean_is_over_tokens_and_the_error_over_windows() {
        let score = summarize(&[of(&[1.0, 3.0]), of(&[2.0, 4.0]), of(&[5.0])]);
        assert_eq!((score.loss, score.targets, score.windows), (3.0, 5, 3));
        // Deviations of the sums: 4−6, 6−6, 5−3; √((4 + 0 + 4)·3/2)/5.
        assert!((score.se - 12f64.sqrt() / 5.0).abs() < 1e-12, "{}", score.se);
    }

    #[test]
    fn one_window_falls_back_on_its_tokens() {
        let score = summarize(&[of(&[1.0, 3.0])]);
        assert_eq!(score.se, 1.0);
    }

    #[test]
    fn the_error_shrinks_with_the_square_root_of_the_windows() {
        let some: Vec<_> = (0..100).map(|i| of(&[f64::from(i % 7), 1.0])).collect();
        let more: Vec<_> = (0..400).map(|i| of(&[f64::from(i % 7), 1.0])).collect();
        let ratio = summarize(&some).se / summarize(&more).se;
        assert!((ratio - 2.0).abs() < 0.05, "{ratio}");
    }

    #[test]
    fn bits_per_byte_is_independent_of_the_tokenizer() {
        // One nat per byte, whether a token is one byte or four.
        let one = bits_per_byte(1.0, 1.0);
        assert!((bits_per_byte(4.0, 4.0) - one).abs() < 1e-12);
        assert!((one - std::f64::consts::LOG2_E).abs() < 1e-12);
    }
}
