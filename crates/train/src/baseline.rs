//! The n-gram model that a network has to beat: the same token ids, split, windows and context.
//!
//! Its order is chosen on the end of the training split, which is then counted as well; nothing
//! about it is chosen on held-out text.

use std::path::Path;
use std::time::Instant;

use heldout_base::durable::sha256_bytes;
use heldout_data::ngram::{Appended, NgramCounts, NgramModel, ORDER_MOST};
use heldout_data::{Batch, EvaluationWindows, Prepared, Progress, TokenStore, prepare};
use heldout_record::{
    AnswerBaselineRecord, BaselineRecord, Event, LabelBaselineRecord, OrderRecord, RunDir,
    TextBaselineRecord, read_metrics,
};
use serde::Serialize;

use crate::control::Control;
use crate::error::TrainError;
use crate::evaluation::{Score, Tally, bits_per_byte};
use crate::horizon::Horizon;
use crate::job::{Setup, prepare_spec, resolved_data};
use crate::memory;
use crate::recipe::{BaselineChoice, Recipe, defaults};
use crate::recorder::Recorder;
use crate::task::held_out_windows;

/// What the models are called.
pub const SMOOTHING: &str = "modified Kneser-Ney";

/// Tokens counted at most; of a larger split the first ones.
const TOKENS_MOST: u64 = 50_000_000;

/// n-grams kept at most, about 50 bytes each, and no more than a quarter of the free memory.
const NODES_MOST: u64 = 20_000_000;
const NODE_BYTES: u64 = 50;

/// The end of the training split that orders are compared on: a tenth, and no more than this.
const CHOICE_TOKENS_MOST: u64 = 200_000;

/// The highest order tried: of characters and the like, and of larger vocabularies.
const ORDER_SMALL_VOCABULARY: usize = 8;
const ORDER_LARGE_VOCABULARY: usize = 6;
const SMALL_VOCABULARY: u32 = 1024;

/// Time for one token and one order, counted and scored; rather too much.
const SECONDS_PER_GRAM: f64 = 3e-7;

/// The share of a run that the baseline may take where nobody asked for it, and what is free.
const SHARE_MOST: f64 = 0.05;
const SECONDS_FREE: f64 = 2.0;

/// Tokens read at a time; between two chunks the run may be asked to stop.
const CHUNK: u64 = 1 << 18;

/// Windows scored at a time.
const ROWS: usize = 16;

/// What came of the baseline at the start of a run.
pub enum Baseline {
    Made(Box<BaselineRecord>),
    /// The commonest label, and a bag of words.
    Labels(Box<LabelBaselineRecord>),
    /// A rule that counts words.
    Answers(Box<AnswerBaselineRecord>),
    /// Copies of the source, and its beginning.
    Texts(Box<TextBaselineRecord>),
    /// With the reason.
    Skipped(String),
    /// Nobody wants it, or the run was asked to stop.
    Absent,
}

impl Baseline {
    /// Takes what was counted before for the same data; else counts, chooses the order and scores,
    /// unless the recipe says no or it would take too long.
    pub fn make(setup: &Setup, control: &Control) -> Result<Baseline, TrainError> {
        match setup.recipe.evaluate.baseline {
            BaselineChoice::None => Ok(Baseline::Absent),
            BaselineChoice::Auto | BaselineChoice::Ngram => setup.task.baseline(setup, control),
        }
    }

    /// The n-gram model of a text.
    pub fn ngram(setup: &Setup, control: &Control) -> Result<Baseline, TrainError> {
        let data = setup.data.text("an n-gram model")?;
        let wanted = key(setup, data, setup.recipe.run.seed);
        if let Some(known) = setup.baselines.iter().find(|known| known.key == wanted) {
            return Ok(Baseline::Made(Box::new(known.record.clone())));
        }
        match worth_it(setup, data, 1) {
            Worth::Yes => {}
            Worth::Unwanted => return Ok(Baseline::Absent),
            Worth::TooLong(reason) => return Ok(Baseline::Skipped(reason)),
        }
        let begin = Instant::now();
        let Some(chosen) = Chosen::of(setup, data, control) else { return Ok(Baseline::Absent) };
        let model = chosen.counts.estimate();
        let record = chosen.record(&model, (setup, data), setup.recipe.run.seed, begin)?;
        Ok(Baseline::Made(Box::new(record)))
    }

    /// Writes it, or why there is none, into the run's record.
    pub fn record(self, recorder: &mut Recorder<'_>) -> Result<(), TrainError> {
        match self {
            Baseline::Made(record) => recorder.event(Event::Baseline(*record)),
            Baseline::Labels(record) => recorder.event(Event::LabelBaseline(*record)),
            Baseline::Answers(record) => recorder.event(Event::AnswerBaseline(*record)),
            Baseline::Texts(record) => recorder.event(Event::TextBaseline(*record)),
            Baseline::Skipped(reason) => recorder.notice(None, reason),
            Baseline::Absent => Ok(()),
        }
    }
}

/// Whether to count n-grams.
pub enum Worth {
    Yes,
    /// The recipe says no.
    Unwanted,
    /// With the reason in a sentence.
    TooLong(String),
}

/// Whether to count n-grams for as many runs together.
pub fn worth_it(setup: &Setup, data: &Prepared, runs: usize) -> Worth {
    match setup.recipe.evaluate.baseline {
        BaselineChoice::None => return Worth::Unwanted,
        BaselineChoice::Ngram => return Worth::Yes,
        BaselineChoice::Auto => {}
    }
    let (own, all) = (expected_seconds(data), run_seconds(setup) * runs as f64);
    if own <= SECONDS_FREE || own <= SHARE_MOST * all {
        return Worth::Yes;
    }
    let beside = if runs == 1 { "a run".to_owned() } else { format!("{runs} runs") };
    Worth::TooLong(format!(
        "no n-gram baseline: it would take about {own:.0} s beside {beside} of about {all:.0} s; \
         evaluate.baseline = \"n-gram\" makes it all the same"
    ))
}

/// Of everything that a baseline depends on: the same key, the same record. `seed` chooses the
/// windows where evaluations see a sample.
pub fn key(setup: &Setup, data: &Prepared, seed: u64) -> String {
    let windows = match setup.recipe.evaluate.windows {
        None => "all".to_owned(),
        Some(count) => format!("{count} by {seed}"),
    };
    let (data, context) = (&data.facts.cache_key, setup.recipe.model.context);
    let version = env!("CARGO_PKG_VERSION");
    let text = format!("{version}; {SMOOTHING}; {data}; context {context}; windows {windows}");
    sha256_bytes(text.as_bytes())
}

/// Orders tried for a vocabulary.
fn order_most(vocabulary: u32) -> usize {
    if vocabulary <= SMALL_VOCABULARY { ORDER_SMALL_VOCABULARY } else { ORDER_LARGE_VOCABULARY }
}

fn expected_seconds(data: &Prepared) -> f64 {
    let facts = &data.facts;
    let tokens = facts.tokens_train.min(TOKENS_MOST) + facts.tokens_validation;
    tokens as f64 * order_most(data.train.vocabulary() as u32) as f64 * SECONDS_PER_GRAM
}

/// About how long the run will train.
fn run_seconds(setup: &Setup) -> f64 {
    match setup.horizon {
        Horizon::Seconds(seconds) => seconds,
        Horizon::Steps(steps) => {
            let tokens = setup.task.step_tokens() * steps as f64;
            let flops = 6.0 * setup.model.config.parameter_count() as f64 * tokens;
            let (threads, run) = (setup.device.threads(), &setup.recipe.run);
            flops / defaults::flops_of_threads(threads, &run.precision)
        }
    }
}

/// Counts of the training split with the order that did best on its end.
pub struct Chosen {
    pub counts: NgramCounts,
    pub order: usize,
    choice: Vec<OrderRecord>,
    /// What was left out, in a sentence.
    limit: Option<String>,
}

impl Chosen {
    /// Of a run's own data; `None` where it was asked to stop.
    pub fn of(setup: &Setup, data: &Prepared, control: &Control) -> Option<Chosen> {
        let (train, eos) = (&data.train, data.tokenizer.eos());
        Chosen::new(train, eos, setup.recipe.model.context, control)
    }

    /// What the run with this seed records; `begin` is when counting began.
    pub fn record(
        &self,
        model: &NgramModel<'_>,
        (setup, data): (&Setup, &Prepared),
        seed: u64,
        begin: Instant,
    ) -> Result<BaselineRecord, TrainError> {
        let valid = score(model, self.order, &held_out_windows(data, &setup.recipe, seed)?);
        let whole = match setup.recipe.evaluate.windows {
            None => None,
            Some(_) => {
                let context = setup.recipe.model.context;
                let windows = EvaluationWindows::whole(&data.validation, context)?;
                Some(score(model, self.order, &windows))
            }
        };
        Ok(BaselineRecord {
            smoothing: SMOOTHING.into(),
            order: self.order as u64,
            loss_valid: valid.loss,
            loss_valid_se: valid.se,
            perplexity: valid.loss.exp(),
            bits_per_byte: bits_per_byte(valid.loss, setup.bytes_per_token()),
            loss_whole: whole.map(|score| score.loss),
            loss_whole_se: whole.map(|score| score.se),
            tokens: self.counts.tokens(),
            ngrams: self.counts.ngrams(self.order),
            seconds: begin.elapsed().as_secs_f64(),
            limit: self.limit.clone(),
            choice: self.choice.clone(),
        })
    }

    /// `None` where the run was asked to stop.
    fn new(
        train: &TokenStore,
        eos: Option<u32>,
        context: usize,
        control: &Control,
    ) -> Option<Chosen> {
        let most = order_most(train.vocabulary() as u32);
        let mut counts = empty(train, eos, most);
        let end = train.len().min(TOKENS_MOST);
        let aside = (end / 10).clamp(1, CHOICE_TOKENS_MOST);
        let is_running = || !control.is_stopping();
        let room = append(&mut counts, train, 0..end - aside, &is_running)?;
        let text = train.tokens(end - aside..end);
        let choice = compare(&counts.estimate(), counts.order(), &text, context);
        if room == Appended::All {
            append(&mut counts, train, end - aside..end, &is_running)?;
        }
        let best = choice.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)).map(|o| o.order as usize);
        // The last tokens may have cost the highest order.
        let order = best.unwrap_or(2).min(counts.order());
        let limit = limit(&counts, most, train.len());
        Some(Chosen { counts, order, choice, limit })
    }
}

fn empty(train: &TokenStore, eos: Option<u32>, order: usize) -> NgramCounts {
    let nodes = (memory::available() / 4 / NODE_BYTES).clamp(1 << 16, NODES_MOST);
    NgramCounts::new(train.vocabulary() as u32, eos, order, nodes as usize)
}

/// Counts a stretch of the split; `None` when it must not go on.
fn append(
    counts: &mut NgramCounts,
    train: &TokenStore,
    range: std::ops::Range<u64>,
    is_running: &dyn Fn() -> bool,
) -> Option<Appended> {
    let mut at = range.start;
    while at < range.end {
        if !is_running() {
            return None;
        }
        let end = (at + CHUNK).min(range.end);
        if counts.append(&train.tokens(at..end)) == Appended::Full {
            return Some(Appended::Full);
        }
        at = end;
    }
    Some(Appended::All)
}

/// Every order from 2 on, over windows of text that was not counted.
fn compare(
    model: &NgramModel<'_>,
    order_most: usize,
    text: &[u32],
    context: usize,
) -> Vec<OrderRecord> {
    let orders: Vec<usize> = (2..=order_most).collect();
    let mut tallies: Vec<Tally> = orders.iter().map(|_| Tally::default()).collect();
    let (ids, targets) = (&text[..text.len() - 1], &text[1..]);
    for (ids, targets) in ids.chunks(context).zip(targets.chunks(context)) {
        let take = |index: usize, losses: &[f32]| tallies[index].add_row(losses, targets);
        model.losses(&orders, ids, targets, take);
    }
    let of = |(order, tally): (&usize, &Tally)| {
        let Score { loss, se, .. } = tally.score();
        OrderRecord { order: *order as u64, loss, loss_se: se }
    };
    orders.iter().zip(&tallies).map(of).collect()
}

fn limit(counts: &NgramCounts, wanted: usize, tokens: u64) -> Option<String> {
    let mut limits = Vec::new();
    if counts.order() < wanted {
        limits.push(format!("orders above {} were given up to save memory", counts.order()));
    }
    if counts.tokens() < tokens {
        limits.push(format!("{} of {tokens} training tokens were counted", counts.tokens()));
    }
    (!limits.is_empty()).then(|| limits.join(", "))
}

/// The mean loss over windows.
pub fn score(model: &NgramModel<'_>, order: usize, windows: &EvaluationWindows) -> Score {
    let mut tally = Tally::default();
    for batch in windows.batches(ROWS) {
        let rows = batch.ids.chunks(batch.seq_len).zip(batch.targets.chunks(batch.seq_len));
        for (ids, targets) in rows {
            model.losses(&[order], ids, targets, |_, losses| tally.add_row(losses, targets));
        }
    }
    tally.score()
}

/// A run's n-gram model, made again to score other text.
pub struct Reference {
    record: BaselineRecord,
    counts: NgramCounts,
}

impl Reference {
    /// That of the run at `path`; `None` where it is no run, or the run has no baseline. `cache` is
    /// where prepared data lies. The error is a sentence: other things can be scored without it.
    pub fn of_run(
        path: &Path,
        cache: &Path,
        preparing: &mut dyn FnMut(Progress),
    ) -> Result<Option<Reference>, String> {
        let Some(record) = RunDir::open(path).ok().and_then(|run| recorded(&run)) else {
            return Ok(None);
        };
        let mut read = || -> Result<Prepared, TrainError> {
            let run = RunDir::open(path)?;
            let (recipe, seed) = resolved_data(&Recipe::read(&run.recipe())?.draft()?)?;
            Ok(prepare(&prepare_spec(&recipe, seed)?, cache, preparing)?)
        };
        match read() {
            Ok(data) => Reference::recount(record, &data).map(Some),
            Err(error) => Err(format!("the run's training data cannot be read: {error}")),
        }
    }

    /// That of a run on its own data.
    pub fn of_data(run: &RunDir, data: &Prepared) -> Result<Option<Reference>, String> {
        recorded(run).map(|record| Reference::recount(record, data)).transpose()
    }

    fn recount(record: BaselineRecord, data: &Prepared) -> Result<Reference, String> {
        let (train, eos) = (&data.train, data.tokenizer.eos());
        // No fewer levels than a full memory leaves, so that as many tokens are counted.
        let order = (record.order as usize).clamp(3, ORDER_MOST);
        let mut counts = empty(train, eos, order);
        let end = train.len().min(TOKENS_MOST);
        append(&mut counts, train, 0..end, &|| true);
        let found = counts.ngrams(record.order as usize);
        if (counts.tokens(), found) == (record.tokens, record.ngrams) {
            return Ok(Reference { record, counts });
        }
        Err("the run's training data, or the memory to count it in, is not what it was".into())
    }
}

/// The baseline of a run's record.
fn recorded(run: &RunDir) -> Option<BaselineRecord> {
    let events = read_metrics(&run.metrics()).ok()?;
    let found = events.into_iter().rev().find_map(|event| match event {
        Event::Baseline(record) => Some(record),
        _ => None,
    })?;
    (found.order as usize <= ORDER_MOST).then_some(found)
}

/// The n-gram model on the text that a network was evaluated on.
#[derive(Clone, Debug, Serialize)]
pub struct BaselineEvaluation {
    /// How it is smoothed.
    pub smoothing: String,
    pub order: u64,
    /// Nats per token.
    pub loss: f64,
    /// Its standard error, clustered by window.
    pub loss_se: f64,
    /// e to the loss.
    pub perplexity: f64,
    pub bits_per_byte: f64,
    /// Nats per token that the network is better by; negative where it is worse.
    pub better: f64,
    /// Its standard error: of the difference itself, window by window.
    pub better_se: f64,
}

/// Scores an n-gram model beside a network, on the same batches.
pub struct Beside<'a> {
    model: NgramModel<'a>,
    record: &'a BaselineRecord,
    losses: Tally,
    differences: Tally,
}

impl<'a> Beside<'a> {
    pub fn new(reference: &'a Reference) -> Beside<'a> {
        let Reference { record, counts } = reference;
        let (losses, differences) = (Tally::default(), Tally::default());
        Beside { model: counts.estimate(), record, losses, differences }
    }

    /// Takes a batch with the network's losses, one for each position.
    pub fn add(&mut self, batch: &Batch, network: &[f32]) {
        let Beside { model, record, losses, differences } = self;
        let order = record.order as usize;
        let rows = batch.ids.chunks(batch.seq_len).zip(batch.targets.chunks(batch.seq_len));
        for ((ids, targets), network) in rows.zip(network.chunks(batch.seq_len)) {
            model.losses(&[order], ids, targets, |_, own| {
                losses.add_row(own, targets);
                let better: Vec<f32> = own.iter().zip(network).map(|(a, b)| a - b).collect();
                differences.add_row(&better, targets);
            });
        }
    }

    pub fn evaluation(&self, bytes_per_token: f64) -> BaselineEvaluation {
        let (own, better) = (self.losses.score(), self.differences.score());
        BaselineEvaluation {
            smoothing: self.record.smoothing.clone(),
            order: self.record.order,
            loss: own.loss,
            loss_se: own.se,
            perplexity: own.loss.exp(),
            bits_per_byte: bits_per_byte(own.loss, bytes_per_token),
            better: better.loss,
            better_se: better.se,
        }
    }
}
