//! Beam search for models that read a source: batched, with a cache of keys and values.
//!
//! The search is that of `generate(num_beams = …)` in transformers 5, token for token; one beam is
//! greedy search. What is finished leaves the batch.

mod search;

use heldout_kernels::{KvLayer, Tape};

use crate::bart::{Memory, Place};
use crate::generate::Generator;
use crate::noise::Noise;
use crate::{Model, ModelError, Sequences};
use search::{Rules, Search};

/// When a search of several beams ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// When no open beam, at its present length, is better than the worst of the finished ones.
    #[default]
    No,
    /// As soon as there are as many finished texts as beams.
    Yes,
    /// When no open beam could become better at any length up to the longest one.
    Never,
}

/// How a target is searched for.
#[derive(Debug, Clone, PartialEq)]
pub struct Beam {
    /// Texts that are followed at a time; 1 is greedy search.
    pub beams: usize,
    /// A finished text's score is its log-probability over its length to this power: larger ones
    /// favour longer texts. Of no effect with one beam.
    pub length_penalty: f32,
    /// No run of so many tokens comes twice in a text; 0 allows all.
    pub no_repeat_ngram: usize,
    /// Tokens of the longest target, with the one it starts with and the one that ends it; at most
    /// the model's context.
    pub max_length: usize,
    pub early_stopping: EarlyStopping,
    /// Tokens that are never chosen, such as padding.
    pub suppressed: Vec<u32>,
}

/// A target as found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// Without the token that starts targets, and the one that ends them.
    pub tokens: Vec<u32>,
    /// Log-probability over length to the penalty, as `sequences_scores` in transformers; of greedy
    /// search the log-probability.
    pub score: f32,
}

impl Beam {
    /// Whether the settings make sense for `model`; an error says what to change.
    pub fn validate(&self, model: &Model) -> Result<(), ModelError> {
        let config = &model.config;
        config.require_seq2seq()?;
        let fail =
            |key, found: String, expected| Err(ModelError::Sampling { key, found, expected });
        if self.beams == 0 || 2 * self.beams > config.vocabulary {
            let expected = "from 1 (greedy search) to half the size of the vocabulary";
            return fail("beams", self.beams.to_string(), expected);
        }
        if !self.length_penalty.is_finite() {
            let expected = "a number (0 for plain log-probabilities, 1 for their mean)";
            return fail("length-penalty", self.length_penalty.to_string(), expected);
        }
        if !(2..=config.context).contains(&self.max_length) {
            let expected = "at least 2 (a start and one token) and at most the model's context";
            return fail("max-length", self.max_length.to_string(), expected);
        }
        match self.suppressed.iter().find(|id| **id as usize >= config.vocabulary) {
            Some(id) => fail("suppressed", id.to_string(), "ids of the vocabulary"),
            None => Ok(()),
        }
    }
}

impl Generator<'_> {
    /// The best target of each source, in their order. What is found for one source does not depend
    /// on the others in its batch.
    ///
    /// # Errors
    /// If the model has no decoder that reads a source, a setting makes no sense, an id is outside
    /// the vocabulary, a source is longer than the context, or the logits are not finite.
    ///
    /// # Panics
    /// If there are not as many ids and lengths as `source` says.
    pub fn beam_search(
        &self,
        tape: &mut Tape,
        source: Sequences,
        beam: &Beam,
    ) -> Result<Vec<Hypothesis>, ModelError> {
        let model = self.model;
        beam.validate(model)?;
        check_source(model, &source)?;
        let rules = Rules::new(beam, &model.config);
        let mut open = Open::new(self, tape, source, beam.beams);
        let mut found: Vec<Option<Hypothesis>> = vec![None; source.batch];
        let start = model.config.decoder.start;
        let mut searches: Vec<Search> =
            (0..source.batch).map(|_| Search::new(beam.beams, start)).collect();
        let vocabulary = model.config.vocabulary;
        while !open.numbers.is_empty() {
            let ids: Vec<u32> = searches.iter().flat_map(Search::last_tokens).collect();
            let mut logits = open.step(self, tape, &ids);
            if !logits.iter().all(|logit| logit.is_finite()) {
                return Err(ModelError::NonFiniteLogits { tokens: open.cache[0].len });
            }
            let (mut rows, mut stay) = (Vec::new(), Vec::new());
            let each = logits.chunks_exact_mut(beam.beams * vocabulary);
            for (at, (search, logits)) in searches.iter_mut().zip(each).enumerate() {
                let parents = search.advance(logits, &rules);
                if search.is_done() {
                    found[open.numbers[at]] = Some(search.best(&rules));
                } else {
                    stay.push(at);
                    rows.extend(parents.iter().map(|parent| (at * beam.beams + parent) as u32));
                }
            }
            let mut at = 0..;
            searches.retain(|_| at.next().is_some_and(|at| stay.binary_search(&at).is_ok()));
            open.keep(&stay, &rows);
        }
        Ok(found.into_iter().map(|found| found.expect("every search ends")).collect())
    }
}

impl Model {
    /// As [`Generator::beam_search`], of plain weights.
    pub fn beam_search(
        &self,
        tape: &mut Tape,
        parameters: &[f32],
        source: Sequences,
        beam: &Beam,
    ) -> Result<Vec<Hypothesis>, ModelError> {
        Generator::plain(self, parameters).beam_search(tape, source, beam)
    }
}

fn check_source(model: &Model, source: &Sequences) -> Result<(), ModelError> {
    source.assert_whole();
    let (vocabulary, context) = (model.config.vocabulary, model.config.context);
    if let Some(position) = source.ids.iter().position(|&id| id as usize >= vocabulary) {
        let id = source.ids[position];
        return Err(ModelError::TokenOutOfRange { position, id, vocabulary });
    }
    if source.seq_len > context {
        return Err(ModelError::SourceTooLong { length: source.seq_len, context });
    }
    Ok(())
}

/// What is still searched, and what the decoder keeps for it.
struct Open {
    /// Of the sources.
    numbers: Vec<usize>,
    lengths: Vec<u32>,
    source_len: usize,
    /// Texts of each source.
    beams: usize,
    /// Keys and values of the sources, for every layer: [B·S, 2C].
    kept: Vec<Vec<f32>>,
    cache: Vec<KvLayer>,
    spare: Vec<KvLayer>,
}

impl Open {
    /// Reads the sources.
    fn new(generator: &Generator, tape: &mut Tape, source: Sequences, beams: usize) -> Open {
        let config = &generator.model.config;
        let bart = generator.model.bart();
        let mut pass = generator.pass(tape);
        let quiet = Noise::none(config.layers + config.decoder.layers);
        let memory = bart.encode(config, &mut pass, &source, quiet); // [B·S, C]
        let kept = bart.keys_and_values(&mut pass, memory);
        let heads = config.decoder.heads;
        let layer = || KvLayer::new(source.batch * beams, 0, heads, config.width / heads);
        let layers = || (0..config.decoder.layers).map(|_| layer()).collect();
        Open {
            numbers: (0..source.batch).collect(),
            lengths: source.lengths.to_vec(),
            source_len: source.seq_len,
            beams,
            kept,
            cache: layers(),
            spare: layers(),
        }
    }

    /// Logits of what follows `ids`, the last token of every text: [B·beams, V].
    fn step(&mut self, generator: &Generator, tape: &mut Tape, ids: &[u32]) -> Vec<f32> {
        if self.cache[0].len == self.cache[0].capacity {
            // By half as much again: what is not used is neither written nor read.
            let capacity = self.cache[0].capacity * 3 / 2 + 16;
            self.cache.iter_mut().for_each(|layer| layer.grow(capacity));
        }
        let config = &generator.model.config;
        let mut pass = generator.pass(tape);
        let place = Place {
            memory: Memory::Kept(&self.kept),
            lengths: &self.lengths,
            source_len: self.source_len,
            cache: Some(&mut self.cache),
            targets: self.beams,
        };
        let quiet = Noise::none(config.layers + config.decoder.layers);
        let x = generator.model.bart().decode(config, &mut pass, (ids, 1), place, quiet); // [N, C]
        let logits = generator.model.offset_logits(&mut pass, x);
        pass.value(logits).to_vec()
    }

    /// Goes on with the sources `stay` alone, and with the texts that continue `rows` of the cache.
    fn keep(&mut self, stay: &[usize], rows: &[u32]) {
        for (layer, spare) in self.cache.iter_mut().zip(&mut self.spare) {
            layer.select(rows, spare);
        }
        if stay.len() == self.numbers.len() {
            return;
        }
        for kept in &mut self.kept {
            let each = kept.len() / self.numbers.len();
            for (to, &from) in stay.iter().enumerate() {
                kept.copy_within(from * each..(from + 1) * each, to * each);
            }
            kept.truncate(stay.len() * each);
        }
        self.lengths = stay.iter().map(|&at| self.lengths[at]).collect();
        self.numbers = stay.iter().map(|&at| self.numbers[at]).collect();
    }
}
