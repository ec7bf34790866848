//! From a user's paths to encoded pairs: the whole way, in order.

use super::batches::{PairBatches, PairEvaluation};
use super::facts::{PairFacts, PairSplitFacts, SideFacts};
use super::fields::{SideNames, Sides};
use super::read::read_examples;
use super::split::{Splits, hold_out};
use crate::error::DataError;
use crate::facts::{InputFact, Origin};
use crate::fast_hash::FastMap;
use crate::inputs::{expand, fingerprint};
use crate::labelled::{
    EncodedExamples, EncodedText, Encoder, LabelledExample, LabelledPlan, Lengths, Place,
    SpecialTokens, find_leaks, key,
};
use crate::prepare::{DuplicatePolicy, TokenizerSpec, ValidationSpec};
use crate::tokenizer::{Scratch, Tokenizer};
use heldout_base::durable;
use heldout_base::rng::{Random, streams};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What to prepare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairSpec {
    /// Two line-aligned files of plain text, the source first; or files, folders or patterns with
    /// records.
    pub train: Vec<String>,
    pub validation: ValidationSpec,
    pub test: Option<ValidationSpec>,
    pub fields: SideNames,
    /// One for both sides.
    pub tokenizer: TokenizerSpec,
    /// Longest source and longest target in tokens, special tokens included; the end of a longer
    /// one is cut off.
    pub max_length: usize,
    /// Train on so many pairs only; for learning curves.
    pub limit: Option<usize>,
    pub duplicates: DuplicatePolicy,
    /// Of the split by share and of the subset.
    pub seed: u64,
}

/// A source and what may be written from it.
#[derive(Clone, Debug, PartialEq)]
pub struct PairExample {
    pub source: String,
    /// At least one; the first is learned, all are compared with.
    pub targets: Vec<String>,
    pub place: Place,
}

/// Pairs as text, split, after removal and after the subset was taken.
#[derive(Clone, Debug, Default)]
pub struct PairData {
    pub train: Vec<PairExample>,
    pub validation: Vec<PairExample>,
    /// Empty when there is no test split.
    pub test: Vec<PairExample>,
    /// Without what only encoding tells (lengths, truncation, vocabulary).
    pub facts: PairFacts,
}

/// Token ids of both sides of a split; source i belongs to target i. Labels mean nothing.
#[derive(Clone, Debug)]
pub struct EncodedPairs {
    pub source: Arc<EncodedExamples>,
    pub target: Arc<EncodedExamples>,
}

impl EncodedPairs {
    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    /// From both sides of each pair, one by one.
    pub fn collect(pairs: impl IntoIterator<Item = [EncodedText; 2]>) -> Self {
        let (mut sources, mut targets) = (Vec::new(), Vec::new());
        for [source, target] in pairs {
            sources.push((source, 0));
            targets.push((target, 0));
        }
        let [source, target] = [sources, targets].map(|side| EncodedExamples::collect(side).into());
        EncodedPairs { source, target }
    }
}

/// Pairs as text and as token ids; `data.train[i]` is pair i of `train`.
#[derive(Clone, Debug)]
pub struct PreparedPairs {
    pub data: PairData,
    pub encoder: Encoder,
    pub train: EncodedPairs,
    pub validation: EncodedPairs,
    pub test: Option<EncodedPairs>,
    pub facts: PairFacts,
}

/// Reads, splits, looks for repeats and leaks, and takes the subset; encodes nothing.
///
/// # Errors
/// Whatever is wrong with an input; files that are not aligned; no fields for both sides; an empty
/// text; nothing left to train on.
pub fn read_pairs(spec: &PairSpec) -> Result<PairData, DataError> {
    let mut inputs: Vec<InputFact> = Vec::new();
    let mut settled: Option<Sides> = None;
    let mut read = |names: &[String]| {
        let files = expand(names)?;
        let first = inputs.len() as u32;
        for file in &files {
            inputs.push(fingerprint(&file.path)?.fact(&file.path));
        }
        read_examples(&files, first, &spec.fields, &mut settled)
    };
    let all = read(&spec.train)?;
    let mut own = [Vec::new(), Vec::new()];
    for (split, from) in own.iter_mut().zip([Some(&spec.validation), spec.test.as_ref()]) {
        if let Some(ValidationSpec::Paths(paths)) = from {
            *split = read(paths)?;
        }
    }
    let (mut splits, split) = hold_out(all, own, spec)?;
    let hashes: String = inputs.iter().map(|fact| fact.sha256.as_str()).collect();
    let of_files = || Sides {
        source: inputs[0].path.clone(),
        target: inputs[1].path.clone(),
        sentences: Vec::new(),
    };
    let sides = settled.unwrap_or_else(of_files);
    let mut facts = PairFacts {
        source: sides.source,
        target: sides.target,
        inferred: sides.sentences,
        split,
        content_hash: durable::sha256_bytes(hashes.as_bytes()),
        inputs,
        max_length: spec.max_length as u64,
        ..PairFacts::default()
    };
    remove_repeats(&mut splits, spec, &mut facts)?;
    facts.train_available = splits[0].len() as u64;
    take_subset(&mut splits[0], spec);
    let [train, validation, test] = splits;
    facts.train = split_facts(&train);
    facts.validation = split_facts(&validation);
    facts.test = spec.test.is_some().then(|| split_facts(&test));
    facts.say();
    Ok(PairData { train, validation, test, facts })
}

/// [`read_pairs`], then the tokenizer (trained on both sides of the training pairs only, or loaded)
/// and the token ids of every pair.
///
/// # Errors
/// As [`read_pairs`]; a tokenizer that cannot be trained or read.
pub fn prepare_pairs(spec: &PairSpec) -> Result<PreparedPairs, DataError> {
    let data = read_pairs(spec)?;
    let (specials, most) = (SpecialTokens::Pairs, spec.max_length);
    match &spec.tokenizer {
        TokenizerSpec::File(path) => {
            let encoder = Encoder::new(Tokenizer::load(path)?, specials, most)?;
            data.encode(encoder)
        }
        TokenizerSpec::Train { kind, vocabulary } => {
            let both = |pair: &PairExample| [pair.source.clone(), pair.targets[0].clone()];
            let mut texts = data.train.iter().flat_map(both);
            let encoder = Encoder::train(*kind, *vocabulary, specials, most, &mut texts)?;
            drop(texts);
            let mut prepared = data.encode(encoder)?;
            prepared.facts.tokenizer = kind.name().into();
            Ok(prepared)
        }
    }
}

/// Rows of the batches whose padding the facts tell.
const BATCH_PADDING: usize = 32;

impl PairData {
    /// Encodes every split with `encoder` (a pre-trained model's, for instance).
    ///
    /// # Errors
    /// A text that the tokenizer cannot encode.
    pub fn encode(self, encoder: Encoder) -> Result<PreparedPairs, DataError> {
        let mut facts = self.facts.clone();
        let encode = |split: &[PairExample]| {
            encode_all(split, &encoder).map_err(|(place, error)| match error {
                DataError::Tokenizer(words) => {
                    DataError::Tokenizer(format!("{}: {words}", origin(&self.facts.inputs, place)))
                }
                other => other,
            })
        };
        let splits = [encode(&self.train)?, encode(&self.validation)?, encode(&self.test)?];
        let plan = LabelledPlan::new(BATCH_PADDING, 0, encoder.pad());
        facts.train.padding = PairBatches::new(&splits[0], plan)?.padding();
        let evaluation = |split| PairEvaluation::whole(split, plan.multiple, plan.pad);
        facts.validation.padding = evaluation(&splits[1]).padding(BATCH_PADDING);
        let of = [Some(&mut facts.train), Some(&mut facts.validation), facts.test.as_mut()];
        for (facts, split) in of.into_iter().zip(&splits) {
            let Some(facts) = facts else { continue };
            describe(&split.source, &encoder, &mut facts.source);
            describe(&split.target, &encoder, &mut facts.target);
        }
        facts.tokenizer = "file".into();
        facts.vocabulary = encoder.tokenizer().vocabulary_size() as u64;
        facts.max_length = encoder.max_length() as u64;
        for (name, side) in [("sources", facts.train.source), ("targets", facts.train.target)] {
            if side.truncated > 0.05 {
                facts.notices.push(format!(
                    "{:.0}% of the training {name} are cut at {} tokens (the longest has {}): a \
                     larger model.context keeps their ends",
                    side.truncated * 100.0,
                    facts.max_length,
                    side.lengths.maximum
                ));
            }
        }
        let [train, validation, test] = splits;
        let test = facts.test.is_some().then_some(test);
        Ok(PreparedPairs { data: self, encoder, train, validation, test, facts })
    }
}

fn origin(inputs: &[InputFact], place: Place) -> Origin {
    let path = inputs[place.input as usize].path.clone();
    Origin { input: place.input, path, line: place.line }
}

/// Held-out files of which this share lies in training measure nothing.
const CONTAINED: f64 = 0.9;

/// Finds repeated pairs and sources that are held out too, and removes by policy.
fn remove_repeats(
    splits: &mut Splits,
    spec: &PairSpec,
    facts: &mut PairFacts,
) -> Result<(), DataError> {
    let sources = |split: &[PairExample]| -> Vec<LabelledExample> {
        let of = |pair: &PairExample| LabelledExample {
            text: pair.source.clone(),
            pair: None,
            label: 0,
            place: pair.place,
        };
        split.iter().map(of).collect()
    };
    let [train, validation, test] = [0, 1, 2].map(|number| sources(&splits[number]));
    let found = find_leaks(&train, &validation, &test, &|pair| origin(&facts.inputs, pair.place));
    facts.leaks = found.leaks.len() as u64;
    facts.leaks_near = found.leaks.iter().filter(|(_, s)| *s < 1.0).count() as u64;
    facts.leaks_validation_test = found.shared;
    facts.examples = found.examples;
    let own_files = matches!(spec.validation, ValidationSpec::Paths(_));
    let contained = found.validation_in_train as f64 / validation.len().max(1) as f64;
    if own_files && contained >= CONTAINED && spec.duplicates != DuplicatePolicy::Report {
        return Err(DataError::Leak(format!(
            "{:.0}% of the validation sources stand in the training files too: a model would be \
             measured on what it was trained on. Name other files, or hold out a share \
             (validation = 0.1)",
            contained * 100.0
        )));
    }
    let mut seen = FastMap::default();
    let is_copy =
        |pair: &PairExample| seen.insert(key(&pair.source, Some(&pair.targets[0])), ()).is_some();
    let mut drop: Vec<bool> = splits[0].iter().map(is_copy).collect();
    facts.duplicates = drop.iter().filter(|copy| **copy).count() as u64;
    match spec.duplicates {
        DuplicatePolicy::RemoveAll => facts.duplicates_removed = facts.duplicates,
        _ => drop.fill(false),
    }
    if spec.duplicates != DuplicatePolicy::Report {
        for (index, _) in &found.leaks {
            facts.duplicates_removed -= u64::from(drop[*index as usize]);
            drop[*index as usize] = true;
        }
        facts.leaks_removed = facts.leaks;
    }
    let count = splits[0].len();
    let mut dropped = drop.into_iter();
    splits[0].retain(|_| dropped.next() == Some(false));
    if splits[0].is_empty() {
        return Err(DataError::Leak(format!(
            "the sources of all {count} training pairs occur in the held-out data: nothing is left \
             to train on. Name other held-out files"
        )));
    }
    Ok(())
}

/// A smaller subset with the same seed is a part of a larger one.
fn take_subset(train: &mut Vec<PairExample>, spec: &PairSpec) {
    let Some(limit) = spec.limit else { return };
    let order = Random::new(spec.seed, streams::SUBSET, 0).permutation(train.len());
    let mut kept = vec![false; train.len()];
    order.iter().take(limit).for_each(|index| kept[*index as usize] = true);
    let mut kept = kept.into_iter();
    train.retain(|_| kept.next() == Some(true));
}

fn split_facts(split: &[PairExample]) -> PairSplitFacts {
    let mean = |of: &dyn Fn(&PairExample) -> usize| {
        split.iter().map(of).sum::<usize>() as f64 / split.len().max(1) as f64
    };
    let side = |characters: f64| SideFacts { characters, ..SideFacts::default() };
    PairSplitFacts {
        pairs: split.len() as u64,
        source: side(mean(&|pair| pair.source.chars().count())),
        target: side(mean(&|pair| pair.targets[0].chars().count())),
        references: split.iter().map(|pair| pair.targets.len()).max().unwrap_or(0) as u64,
        copies: split.iter().filter(|pair| pair.source == pair.targets[0]).count() as u64,
        padding: 0.0,
    }
}

/// Pairs that a thread encodes at a time.
const CHUNK: usize = 256;

/// Encodes a split on all threads, in order; an error says which pair.
fn encode_all(
    split: &[PairExample],
    encoder: &Encoder,
) -> Result<EncodedPairs, (Place, DataError)> {
    let chunk = |pairs: &[PairExample]| {
        let mut scratch = Scratch::default();
        let one = |pair: &PairExample| {
            let mut side = |text: &str| {
                let encoded = encoder.encode_with(text, None, &mut scratch);
                encoded.map_err(|error| (pair.place, error))
            };
            Ok([side(&pair.source)?, side(&pair.targets[0])?])
        };
        pairs.iter().map(one).collect::<Result<Vec<_>, _>>()
    };
    let chunks = split.par_chunks(CHUNK).map(chunk).collect::<Result<Vec<_>, _>>()?;
    Ok(EncodedPairs::collect(chunks.into_iter().flatten()))
}

/// What encoding tells about one side.
fn describe(side: &EncodedExamples, encoder: &Encoder, facts: &mut SideFacts) {
    facts.lengths = Lengths::of(&side.whole);
    let cut = side.whole.iter().filter(|length| **length > encoder.max_length()).count();
    facts.truncated = cut as f64 / side.len().max(1) as f64;
    if let Some(unknown) = encoder.tokenizer().unknown() {
        facts.unknown = side.ids.iter().filter(|id| **id == unknown).count() as u64;
    }
}
