//! Measures noise: the share dropped on probe tensors through the ops of the sites, and that the
//! model's loss feels each site.

use crate::at::At;
use crate::live::SiteMeasure;
use crate::plan::{Sharing, Site};
use crate::probe::{Probe, loudest};
use heldout_kernels::{
    AttentionNoise, Device, Dropout, HeadShape, LossSpec, NoiseKey, PassKind, Smoothing, Tape,
    Weight,
};
use heldout_model::{NoiseRates, Tokens};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of a probe tensor: each a sequence of one token.
const ROWS: usize = 1024;
const COLUMNS: usize = 64;
/// The model's probe batch: at most so many sequences and tokens of each.
const SEQUENCES: usize = 2;
const TOKENS: usize = 64;

pub(crate) fn measure(probe: &mut Probe) -> BTreeMap<Site, SiteMeasure> {
    let sites = &probe.plan.noise.sites;
    if sites.is_empty() {
        return BTreeMap::new();
    }
    let batch = OwnedTokens::first_of(probe.batch);
    let mut tape = Tape::new(probe.device.clone());
    let clean = loss(probe, &mut tape, &batch, NoiseRates::default(), 0);
    let schedules: Vec<_> = sites.iter().map(|(site, owned)| (*site, &owned.value)).collect();
    let measure_site = |(site, schedule)| {
        let at = loudest(schedule, probe.horizon);
        let rates = alone(site, probe.plan.noise_at(at));
        let loss_noisy = loss(probe, &mut tape, &batch, rates, at.step);
        let (dropped, draws, expected) = dropped(probe, site, rates, at);
        let rate = at.value(schedule);
        let measure = SiteMeasure { rate, expected, dropped, draws, loss_clean: clean, loss_noisy };
        (site, measure)
    };
    schedules.into_iter().map(measure_site).collect()
}

/// The rate of one site; zero everywhere else.
fn alone(site: Site, all: NoiseRates) -> NoiseRates {
    let mut rates = NoiseRates { sharing: all.sharing, ..NoiseRates::default() };
    match site {
        Site::Embedding => rates.embedding = all.embedding,
        Site::Tokens => rates.tokens = all.tokens,
        Site::Layers => rates.layer_drop = all.layer_drop,
        Site::Attention => rates.attention = all.attention,
        Site::Heads => rates.heads = all.heads,
        Site::AttentionOutput => rates.attention_output = all.attention_output,
        Site::FeedForwardHidden => rates.feed_forward_hidden = all.feed_forward_hidden,
        Site::FeedForwardOutput => rates.feed_forward_output = all.feed_forward_output,
    }
    rates
}

/// The first tokens of the first sequences of a batch.
pub(crate) struct OwnedTokens {
    pub ids: Vec<u32>,
    pub targets: Vec<u32>,
    pub batch: usize,
    pub seq_len: usize,
}

impl OwnedTokens {
    pub fn first_of(tokens: Tokens) -> Self {
        let (batch, seq_len) = (tokens.batch.min(SEQUENCES), tokens.seq_len.min(TOKENS));
        let first = |all: &[u32]| {
            let sequences = all.chunks(tokens.seq_len).take(batch);
            sequences.flat_map(|sequence| sequence[..seq_len].to_vec()).collect()
        };
        Self { ids: first(tokens.ids), targets: first(tokens.targets), batch, seq_len }
    }
}

/// Mean loss of the model in a training pass with these rates, nats per token.
fn loss(
    probe: &mut Probe,
    tape: &mut Tape,
    tokens: &OwnedTokens,
    rates: NoiseRates,
    step: u64,
) -> f64 {
    let noise = NoiseKey { seed: probe.seed, step, first_sequence: 0 };
    let kind = PassKind::Train { gradients: probe.gradients, noise };
    let mut pass = tape.pass(probe.parameters, kind);
    let OwnedTokens { ids, targets, batch, seq_len } = tokens;
    let batch = Tokens { ids, targets, batch: *batch, seq_len: *seq_len };
    let spec = LossSpec { smoothing: Smoothing::None, z_loss: 0.0, scale: 1.0 };
    let report = probe.model.loss(&mut pass, batch, &rates, &spec);
    report.nll_sum / report.targets.max(1) as f64
}

/// Share dropped, draws behind it, and the share expected.
fn dropped(probe: &Probe, site: Site, rates: NoiseRates, at: At) -> (f64, u64, f64) {
    let key = NoiseKey { seed: probe.seed, step: at.step, first_sequence: 0 };
    let per_time = probe.plan.noise.sharing == Sharing::Time;
    let (stream, p) = match site {
        Site::Layers => return dropped_layers(probe, rates),
        Site::Embedding => (heldout_model::Site::Embedding, rates.embedding),
        Site::Tokens => (heldout_model::Site::Tokens, rates.tokens),
        Site::Attention => (heldout_model::Site::Attention, rates.attention),
        Site::Heads => (heldout_model::Site::Heads, rates.heads),
        Site::AttentionOutput => (heldout_model::Site::AttentionOutput, rates.attention_output),
        Site::FeedForwardHidden => {
            (heldout_model::Site::FeedForwardHidden, rates.feed_forward_hidden)
        }
        Site::FeedForwardOutput => {
            (heldout_model::Site::FeedForwardOutput, rates.feed_forward_output)
        }
    };
    let sharing = match site {
        Site::Tokens => heldout_kernels::Sharing::Row,
        _ if per_time && site.is_elementwise() => heldout_kernels::Sharing::Time,
        _ => heldout_kernels::Sharing::Element,
    };
    let dropout = Dropout { p, stream: stream.stream(0), sharing };
    let values = probe_values(probe.device, site, dropout, key);
    let zeros = values.iter().filter(|value| **value == 0.0).count();
    let draws = match site {
        Site::Tokens => ROWS,
        Site::Attention | Site::Heads => ROWS * HEADS,
        _ => values.len(),
    };
    (zeros as f64 / values.len() as f64, draws as u64, f64::from(p))
}

const HEADS: usize = 8;

/// Ones that went through the op of the site.
fn probe_values(device: &Arc<Device>, site: Site, dropout: Dropout, key: NoiseKey) -> Vec<f32> {
    let shape = HeadShape { batch: ROWS, seq_len: 1, heads: HEADS, kv_heads: HEADS, head_width: 8 };
    let columns = match site {
        Site::Attention | Site::Heads => 3 * COLUMNS,
        _ => COLUMNS,
    };
    // One row of ones and one of zeros, to look up.
    let table = Weight { offset: 0, rows: 2, cols: columns };
    let mut parameters = vec![1.0; 2 * columns];
    parameters[columns..].fill(0.0);
    let mut gradients = vec![0.0; 2 * columns];
    let mut tape = Tape::new(device.clone());
    let mut pass =
        tape.pass(&parameters, PassKind::Train { gradients: &mut gradients, noise: key });
    let ones = vec![0; ROWS];
    let some = Some(dropout);
    let out = match site {
        Site::Embedding => pass.embedding(table, &ones, None, 1, some, None),
        Site::Tokens => pass.embedding(table, &ones, None, 1, None, some),
        Site::Attention | Site::Heads => {
            let qkv = pass.embedding(table, &ones, None, 1, None, None);
            let noise = match site {
                Site::Heads => AttentionNoise { probabilities: None, heads: some },
                _ => AttentionNoise { probabilities: some, heads: None },
            };
            pass.attention(qkv, shape, noise)
        }
        _ => {
            let zeros = pass.embedding(table, &vec![1; ROWS], None, 1, None, None);
            let branch = pass.embedding(table, &ones, None, 1, None, None);
            pass.residual(zeros, branch, some, 1.0)
        }
    };
    pass.value(out).to_vec()
}

/// Blocks skipped over many steps.
fn dropped_layers(probe: &Probe, rates: NoiseRates) -> (f64, u64, f64) {
    const STEPS: u64 = 4096;
    let layers = probe.model.config.layers;
    let skipped: usize = (0..STEPS)
        .map(|step| {
            let key = NoiseKey { seed: probe.seed, step, first_sequence: 0 };
            (0..layers).filter(|layer| rates.drops_layer(key, *layer, layers)).count()
        })
        .sum();
    let expected = (0..layers).map(|layer| rates.layer_drop_rate(layer, layers)).sum::<f64>();
    let draws = STEPS * layers as u64;
    (skipped as f64 / draws as f64, draws, expected / layers as f64)
}
