//! Measures noise: the share dropped on probe tensors through the ops of the sites, and that the
//! model's loss feels each site.

use crate::at::At;
use crate::live::{GuideMeasure, NeftuneMeasure, SiteMeasure};
use crate::plan::{Sharing, Site, TokenNoise};
use crate::probe::{Probe, loudest};
use heldout_kernels::{
    AttentionNoise, Device, Dropout, EmbeddingNoise, HeadShape, IGNORE, Joint, LossReport,
    LossSpec, NoiseKey, Pass, PassKind, Tape, Uniform, Weight,
};
use heldout_model::{
    ClassObjective, Head, Model, NoiseRates, Objective, Sequences, Tokens, neftune_amplitude,
};
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
    let batch = OwnedTokens::first_of(probe.batch, probe.marks);
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
        Site::Tokens => (rates.tokens, rates.replace) = (all.tokens, all.replace),
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
    pub marks: Option<Vec<u32>>,
    pub batch: usize,
    pub seq_len: usize,
}

impl OwnedTokens {
    pub fn first_of(tokens: Tokens, marks: Option<&[u32]>) -> Self {
        let (batch, seq_len) = (tokens.batch.min(SEQUENCES), tokens.seq_len.min(TOKENS));
        let first = |all: &[u32]| {
            let sequences = all.chunks(tokens.seq_len).take(batch);
            sequences.flat_map(|sequence| sequence[..seq_len].to_vec()).collect()
        };
        let (ids, targets) = (first(tokens.ids), first(tokens.targets));
        Self { ids, targets, marks: marks.map(first), batch, seq_len }
    }

    /// As the model takes them.
    pub fn tokens(&self) -> Tokens<'_> {
        let Self { ids, targets, batch, seq_len, .. } = self;
        Tokens { ids, targets, batch: *batch, seq_len: *seq_len }
    }

    /// The model's loss over them, with whole tokens dropped where they are marked.
    pub fn loss(
        &self,
        model: &Model,
        pass: &mut Pass,
        rates: &NoiseRates,
        spec: &LossSpec,
    ) -> LossReport {
        let (joint, marks) = (Joint::default(), self.marks.as_deref());
        let objective = Objective { spec: *spec, joint, ahead: 0.0, marks };
        self.objective(model, pass, rates, &objective)
    }

    /// The same with all that an objective may hold besides. An encoder predicts no next token: its
    /// labels are what the targets of a sequence say.
    pub fn objective(
        &self,
        model: &Model,
        pass: &mut Pass,
        rates: &NoiseRates,
        objective: &Objective,
    ) -> LossReport {
        if model.config.head == Head::Span {
            return self.located(model, pass, rates, objective.spec.scale);
        }
        if !(model.is_encoder() && matches!(model.config.head, Head::Classification { .. })) {
            return model.objective(pass, self.tokens(), rates, objective);
        }
        let Self { ids, targets, batch, seq_len, .. } = self;
        let is_text = |target: &&u32| **target != IGNORE;
        let rows = || targets.chunks(*seq_len);
        let lengths: Vec<u32> =
            rows().map(|row| row.iter().take_while(is_text).count().max(1) as u32).collect();
        let labels: Vec<u32> = rows().map(|row| row[0]).collect();
        let (batch, seq_len) = (*batch, *seq_len);
        let sequences = Sequences { ids, lengths: &lengths, segments: None, batch, seq_len };
        let twins = objective.joint.twins.as_ref().map(|twins| twins.strength);
        let class = ClassObjective { spec: objective.spec, twins, ..ClassObjective::plain(1.0) };
        model.classify(pass, sequences, &labels, rates, &class)
    }
}

impl OwnedTokens {
    /// The loss of answers' ends: the targets of an answer's tokens are 1, those of others 0.
    fn located(
        &self,
        model: &Model,
        pass: &mut Pass,
        rates: &NoiseRates,
        scale: f32,
    ) -> LossReport {
        let Self { ids, targets, batch, seq_len, .. } = self;
        let is_text = |target: &&u32| **target != IGNORE;
        let (mut lengths, mut spans) = (Vec::new(), Vec::new());
        for row in targets.chunks(*seq_len) {
            lengths.push(row.iter().take_while(is_text).count().max(1) as u32);
            let first = row.iter().position(|target| *target == 1).unwrap_or(0) as u32;
            let last = row.iter().rposition(|target| *target == 1).unwrap_or(0) as u32;
            spans.push((first, last));
        }
        let (batch, seq_len) = (*batch, *seq_len);
        let sequences = Sequences { ids, lengths: &lengths, segments: None, batch, seq_len };
        model.locate(pass, sequences, &spans, rates, scale)
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
    let report = tokens.loss(probe.model, &mut pass, &rates, &LossSpec::plain(1.0));
    report.nll_sum / report.targets.max(1) as f64
}

/// Share dropped, draws behind it, and the share expected.
fn dropped(probe: &Probe, site: Site, rates: NoiseRates, at: At) -> (f64, u64, f64) {
    let key = NoiseKey { seed: probe.seed, step: at.step, first_sequence: 0 };
    let per_time = probe.plan.noise.sharing == Sharing::Time;
    let (stream, p) = match site {
        Site::Layers => return dropped_layers(probe, rates),
        Site::Embedding => (heldout_model::Site::Embedding, rates.embedding),
        Site::Tokens if rates.replace > 0.0 => (heldout_model::Site::Tokens, rates.replace),
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
    if site == Site::Tokens {
        return dropped_tokens(probe, dropout, key);
    }
    let values = probe_values(probe.device, site, dropout, key);
    let zeros = values.iter().filter(|value| **value == 0.0).count();
    let draws = match site {
        Site::Attention | Site::Heads => ROWS * HEADS,
        _ => values.len(),
    };
    (zeros as f64 / values.len() as f64, draws as u64, f64::from(p))
}

/// The same for whole tokens, of which as many are marked as in the text.
fn dropped_tokens(probe: &Probe, dropout: Dropout, key: NoiseKey) -> (f64, u64, f64) {
    let marks = probe_marks(probe);
    let fates = token_fates(probe, dropout, key, &marks);
    // A token may be replaced by itself.
    let replaces = probe.plan.noise.tokens == TokenNoise::Replace;
    let seen = if replaces { 1.0 - 1.0 / TABLE as f64 } else { 1.0 };
    let open = marks.iter().filter(|mark| **mark != 0).count() as f64 / ROWS as f64;
    let dropped = fates.iter().filter(|fate| **fate == Fate::Dropped).count();
    (dropped as f64 / ROWS as f64, ROWS as u64, seen * open * f64::from(dropout.p))
}

/// How often whole tokens are dropped where they are marked and elsewhere, on a probe tensor.
pub(crate) fn guide(probe: &Probe) -> Option<GuideMeasure> {
    probe.plan.predictable_share()?;
    let schedule = &probe.plan.noise.sites.get(&Site::Tokens)?.value;
    let at = loudest(schedule, probe.horizon);
    let rates = probe.plan.noise_at(at);
    let (p, stream) = (rates.tokens.max(rates.replace), heldout_model::Site::Tokens.stream(0));
    let dropout = Dropout { p, stream, sharing: heldout_kernels::Sharing::Row };
    let key = NoiseKey { seed: probe.seed, step: at.step, first_sequence: 0 };
    let marks = probe_marks(probe);
    let fates = token_fates(probe, dropout, key, &marks);
    let share = |mark: u32| {
        let of = marks.iter().zip(&fates).filter(|(m, _)| **m == mark);
        let dropped = of.clone().filter(|(_, fate)| **fate == Fate::Dropped).count();
        dropped as f64 / of.count().max(1) as f64
    };
    Some(GuideMeasure { marked: share(1), others: share(0) })
}

/// Marks on the rows of a probe tensor.
fn probe_marks(probe: &Probe) -> Vec<u32> {
    let marked = (probe.plan.noise.guide.share() * ROWS as f64).round() as usize;
    (0..ROWS).map(|row| u32::from(row < marked)).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Kept,
    /// Or another token is read in its place.
    Dropped,
}

/// What becomes of the rows of a probe tensor.
fn token_fates(probe: &Probe, dropout: Dropout, key: NoiseKey, marks: &[u32]) -> Vec<Fate> {
    // The first token of a table, which alone is not zero.
    let table = Weight { offset: 0, rows: TABLE, cols: 1 };
    let mut parameters = vec![0.0; TABLE];
    parameters[0] = 1.0;
    let (some, marks) = (Some(dropout), Some(marks));
    let noise = match probe.plan.noise.tokens {
        TokenNoise::Zero => EmbeddingNoise { tokens: some, marks, ..EmbeddingNoise::default() },
        TokenNoise::Replace => EmbeddingNoise { replace: some, marks, ..EmbeddingNoise::default() },
    };
    let values = embedded(probe.device, &parameters, table, noise, key);
    let fate = |value: &f32| if *value == 0.0 { Fate::Dropped } else { Fate::Kept };
    values.iter().map(fate).collect()
}

const HEADS: usize = 8;
/// Tokens of the table that replaced tokens are drawn from.
const TABLE: usize = 64;

/// Many rows of the first token of a table.
fn embedded(
    device: &Arc<Device>,
    parameters: &[f32],
    table: Weight,
    noise: EmbeddingNoise,
    key: NoiseKey,
) -> Vec<f32> {
    let mut gradients = vec![0.0; parameters.len()];
    let mut tape = Tape::new(device.clone());
    let kind = PassKind::Train { gradients: &mut gradients, noise: key };
    let mut pass = tape.pass(parameters, kind);
    let out = pass.embedding(table, &vec![0; ROWS], None, 1, noise);
    pass.value(out).to_vec()
}

/// NEFTune's noise on a table of zeros, and what the model's loss makes of it.
pub(crate) fn neftune(probe: &mut Probe) -> Option<NeftuneMeasure> {
    let schedule = &probe.plan.noise.neftune.as_ref()?.value;
    let at = loudest(schedule, probe.horizon);
    let alpha = at.value(schedule);
    let batch = OwnedTokens::first_of(probe.batch, None);
    let mut tape = Tape::new(probe.device.clone());
    let loss_clean = loss(probe, &mut tape, &batch, NoiseRates::default(), at.step);
    let rates = NoiseRates { neftune: alpha as f32, ..NoiseRates::default() };
    let loss_noisy = loss(probe, &mut tape, &batch, rates, at.step);

    let (context, width) = (probe.model.config.context, probe.model.config.width);
    let amplitude = neftune_amplitude(alpha as f32, context, width);
    let stream = heldout_model::Site::Neftune.stream(0);
    let uniform = Some(Uniform { amplitude, stream });
    let table = Weight { offset: 0, rows: 1, cols: COLUMNS };
    let noise = EmbeddingNoise { uniform, ..EmbeddingNoise::default() };
    let key = NoiseKey { seed: probe.seed, step: at.step, first_sequence: 0 };
    let values = embedded(probe.device, &[0.0; COLUMNS], table, noise, key);
    let squares: f64 = values.iter().map(|x| f64::from(*x).powi(2)).sum();
    Some(NeftuneMeasure {
        alpha,
        amplitude: f64::from(amplitude),
        largest: values.iter().fold(0.0, |most, x| f64::from(x.abs()).max(most)),
        deviation: (squares / values.len() as f64).sqrt(),
        draws: values.len() as u64,
        loss_clean,
        loss_noisy,
    })
}

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
    let (some, none) = (Some(dropout), EmbeddingNoise::default());
    let out = match site {
        Site::Embedding => {
            let noise = EmbeddingNoise { output: some, ..none };
            pass.embedding(table, &ones, None, 1, noise)
        }
        Site::Attention | Site::Heads => {
            let qkv = pass.embedding(table, &ones, None, 1, none);
            let noise = match site {
                Site::Heads => AttentionNoise { probabilities: None, heads: some },
                _ => AttentionNoise { probabilities: some, heads: None },
            };
            pass.attention(qkv, shape, noise)
        }
        _ => {
            let zeros = pass.embedding(table, &vec![1; ROWS], None, 1, none);
            let branch = pass.embedding(table, &ones, None, 1, none);
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
