//! From a user's paths to encoded examples: the whole way, in order.

use super::batches::{LabelledBatches, LabelledPlan};
use super::encode::{EncodedExamples, Encoder, SpecialTokens};
use super::evaluation::LabelledEvaluation;
use super::facts::{LabelledFacts, LabelledSplitFacts, Lengths};
use super::fields::Fields;
use super::labels::{Labels, class_counts, stratified};
use super::leaks;
use super::read::{FieldNames, Place, Raw, read_examples};
use super::split::{Splits, hold_out};
use crate::error::DataError;
use crate::facts::{InputFact, Origin};
use crate::fast_hash::FastMap;
use crate::inputs::{expand, fingerprint};
use crate::prepare::{DuplicatePolicy, TokenizerSpec, ValidationSpec};
use crate::tokenizer::{Scratch, Tokenizer};
use heldout_base::durable;
use heldout_base::nearest::nearest;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What to prepare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelledSpec {
    /// Files, folders or patterns.
    pub train: Vec<String>,
    pub validation: ValidationSpec,
    pub test: Option<ValidationSpec>,
    pub fields: FieldNames,
    pub tokenizer: TokenizerSpec,
    /// Special tokens of a tokenizer that is trained here; a loaded one brings its own.
    pub special_tokens: SpecialTokens,
    /// Longest example in tokens, special tokens included; the end of a longer one is cut off.
    pub max_length: usize,
    /// Train on so many examples only, every class at its share; for learning curves.
    pub limit: Option<usize>,
    pub duplicates: DuplicatePolicy,
    /// Of the split by share and of the subset.
    pub seed: u64,
}

impl LabelledSpec {
    /// One file with a tenth held out and everything else by default.
    pub fn new(train: &str, tokenizer: TokenizerSpec) -> Self {
        LabelledSpec {
            train: vec![train.to_string()],
            validation: ValidationSpec::Share(0.1),
            test: None,
            fields: FieldNames::default(),
            tokenizer,
            special_tokens: SpecialTokens::Encoder,
            max_length: 128,
            limit: None,
            duplicates: DuplicatePolicy::RemoveLeaks,
            seed: 1337,
        }
    }
}

/// A text with its class.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledExample {
    pub text: String,
    pub pair: Option<String>,
    /// Index into [`Labels::names`].
    pub label: u32,
    pub place: Place,
}

/// Examples as text, split, after removal and after the subset was taken.
#[derive(Clone, Debug, Default)]
pub struct LabelledData {
    pub labels: Labels,
    pub train: Vec<LabelledExample>,
    pub validation: Vec<LabelledExample>,
    /// Empty when there is no test split.
    pub test: Vec<LabelledExample>,
    /// Without what only encoding tells (lengths, truncation, vocabulary).
    pub facts: LabelledFacts,
}

/// Examples as text and as token ids; `data.train[i]` is example i of `train`.
#[derive(Clone, Debug)]
pub struct PreparedLabelled {
    pub data: LabelledData,
    pub encoder: Encoder,
    pub train: Arc<EncodedExamples>,
    pub validation: Arc<EncodedExamples>,
    pub test: Option<Arc<EncodedExamples>>,
    pub facts: LabelledFacts,
}

/// Reads, splits, looks for duplicates and leaks, and takes the subset; encodes nothing.
///
/// # Errors
/// Whatever is wrong with an input; no field that can be the text or the label; an empty text; a
/// single class; more classes than half the examples; a held-out label that training lacks;
/// nothing left to train on.
pub fn read_labelled(spec: &LabelledSpec) -> Result<LabelledData, DataError> {
    let mut inputs = Inputs::default();
    let mut settled = None;
    let raw = inputs.read(&spec.train, &spec.fields, &mut settled)?;
    let fields = settled.clone().expect("reading gives an error where there is no record");
    let labels = Labels::from_found(raw.iter().map(|example| example.label.as_str()));
    check_classes(&labels, &raw, &fields, &inputs)?;
    let number = |raw: Vec<Raw>| numbered(raw, &labels, &fields, &inputs.facts);
    let all = number(raw)?;
    let mut own = [Vec::new(), Vec::new()];
    for (split, from) in own.iter_mut().zip([Some(&spec.validation), spec.test.as_ref()]) {
        if let Some(ValidationSpec::Paths(paths)) = from {
            let raw = inputs.read(paths, &spec.fields, &mut settled)?;
            *split = numbered(raw, &labels, &fields, &inputs.facts)?;
        }
    }
    let (mut splits, sentence) = hold_out(all, own, labels.len(), spec)?;
    let mut facts = LabelledFacts {
        field_text: fields.text,
        field_pair: fields.pair,
        field_label: fields.label.unwrap_or_default(),
        inferred: fields.sentences,
        labels: labels.names.clone(),
        split: sentence,
        max_length: spec.max_length as u64,
        ..LabelledFacts::default()
    };
    facts.content_hash = inputs.content_hash();
    facts.inputs = inputs.facts;
    remove_repeats(&mut splits, spec, &mut facts)?;
    facts.train_available = splits[0].len() as u64;
    take_subset(&mut splits[0], labels.len(), spec)?;
    let [train, validation, test] = splits;
    refuse_lost_classes(&train, &labels)?;
    let count = |split: &[LabelledExample]| split_facts(split, labels.len());
    facts.train = count(&train);
    facts.validation = count(&validation);
    facts.test = spec.test.is_some().then(|| count(&test));
    facts.say();
    Ok(LabelledData { labels, train, validation, test, facts })
}

/// [`read_labelled`], then the tokenizer (trained on the training texts only, or loaded) and the
/// token ids of every example.
///
/// # Errors
/// As [`read_labelled`]; a tokenizer that cannot be trained or read.
pub fn prepare_labelled(spec: &LabelledSpec) -> Result<PreparedLabelled, DataError> {
    let data = read_labelled(spec)?;
    let (specials, most) = (spec.special_tokens, spec.max_length);
    match &spec.tokenizer {
        TokenizerSpec::File(path) => {
            let encoder = Encoder::new(Tokenizer::load(path)?, specials, most)?;
            data.encode(encoder)
        }
        TokenizerSpec::Train { kind, vocabulary } => {
            let both = |e: &LabelledExample| [Some(e.text.clone()), e.pair.clone()];
            let mut texts = data.train.iter().flat_map(both).flatten();
            let encoder = Encoder::train(*kind, *vocabulary, specials, most, &mut texts)?;
            drop(texts);
            let mut prepared = data.encode(encoder)?;
            prepared.facts.tokenizer = kind.name().into();
            Ok(prepared)
        }
    }
}

impl LabelledData {
    /// Encodes every split with `encoder` (a pre-trained model's, for instance).
    ///
    /// # Errors
    /// A text that the tokenizer cannot encode.
    pub fn encode(self, encoder: Encoder) -> Result<PreparedLabelled, DataError> {
        let mut facts = self.facts.clone();
        let encode = |split: &[LabelledExample]| {
            encode_all(split, &encoder).map_err(|(place, error)| match error {
                DataError::Tokenizer(words) => {
                    DataError::Tokenizer(format!("{}: {words}", origin(&self.facts.inputs, place)))
                }
                other => other,
            })
        };
        let splits = [encode(&self.train)?, encode(&self.validation)?, encode(&self.test)?];
        let splits = splits.map(Arc::new);
        let plan = LabelledPlan::new(BATCH_PADDING, 0, encoder.pad());
        let evaluation =
            |split| LabelledEvaluation::whole(split, plan.multiple, plan.pad).padding(plan.batch);
        let padding = LabelledBatches::new(&splits[0], plan)?.padding(0);
        describe(&splits[0], padding, &encoder, &mut facts.train);
        describe(&splits[1], evaluation(&splits[1]), &encoder, &mut facts.validation);
        if let Some(test) = &mut facts.test {
            describe(&splits[2], evaluation(&splits[2]), &encoder, test);
        }
        facts.tokenizer = "file".into();
        facts.vocabulary = encoder.tokenizer().vocabulary_size() as u64;
        facts.max_length = encoder.max_length() as u64;
        if facts.train.truncated > 0.05 {
            facts.notices.push(format!(
                "{:.0}% of the training examples are cut at {} tokens (the longest has {}): a \
                 longer max_length keeps their ends",
                facts.train.truncated * 100.0,
                facts.max_length,
                facts.train.lengths.maximum
            ));
        }
        let [train, validation, test] = splits;
        let test = facts.test.is_some().then_some(test);
        Ok(PreparedLabelled { data: self, encoder, train, validation, test, facts })
    }
}

/// The files read so far.
#[derive(Default)]
struct Inputs {
    facts: Vec<InputFact>,
}

impl Inputs {
    fn read(
        &mut self,
        names: &[String],
        asked: &FieldNames,
        settled: &mut Option<Fields>,
    ) -> Result<Vec<Raw>, DataError> {
        let files = expand(names)?;
        let first = self.facts.len() as u32;
        for file in &files {
            self.facts.push(fingerprint(&file.path)?.fact(&file.path));
        }
        read_examples(&files, first, asked, settled)
    }

    fn content_hash(&self) -> String {
        let all: String = self.facts.iter().map(|fact| fact.sha256.as_str()).collect();
        durable::sha256_bytes(all.as_bytes())
    }
}

fn origin(inputs: &[InputFact], place: Place) -> Origin {
    let path = inputs[place.input as usize].path.clone();
    Origin { input: place.input, path, line: place.line }
}

/// Refuses labels that are none.
fn check_classes(
    labels: &Labels,
    raw: &[Raw],
    fields: &Fields,
    inputs: &Inputs,
) -> Result<(), DataError> {
    let field = fields.label.as_deref().unwrap_or_default();
    let of = &inputs.facts[0].path;
    if labels.len() == 1 {
        return Err(DataError::Labelled(format!(
            "{of}: all {} examples have the label \"{}\" (field \"{field}\"): with one class there \
             is nothing to learn. Is this the label field (label = \"...\")? Is the file sorted by \
             class and cut?",
            raw.len(),
            labels.names[0]
        )));
    }
    if labels.len() > 2 && labels.len() * 2 > raw.len() {
        let some: Vec<String> = labels.names.iter().take(3).map(|n| format!("\"{n}\"")).collect();
        return Err(DataError::Labelled(format!(
            "{of}: the field \"{field}\" has {} different values in {} examples ({}, ...): too \
             many for classes. Is this really the label field? Name the right one \
             (label = \"...\")",
            labels.len(),
            raw.len(),
            some.join(", ")
        )));
    }
    Ok(())
}

/// Class numbers for names.
fn numbered(
    raw: Vec<Raw>,
    labels: &Labels,
    fields: &Fields,
    inputs: &[InputFact],
) -> Result<Vec<LabelledExample>, DataError> {
    let numbers: FastMap<&str, u32> =
        labels.names.iter().zip(0..).map(|(name, number)| (name.as_str(), number)).collect();
    let one = |raw: Raw| match numbers.get(raw.label.as_str()) {
        Some(label) => {
            let Raw { text, pair, place, .. } = raw;
            Ok(LabelledExample { text, pair, label: *label, place })
        }
        None => {
            let near = nearest(&raw.label, labels.names.iter().map(String::as_str));
            let hint = match (near, raw.label.as_str()) {
                (Some(near), _) => format!(" Did you mean \"{near}\"?"),
                (None, "-1") => " A test set whose labels are hidden cannot be measured on".into(),
                _ => " Take these examples out, or add some of the class to training".into(),
            };
            let shown: Vec<&str> = labels.names.iter().take(12).map(String::as_str).collect();
            let more = if labels.len() > 12 { ", ..." } else { "" };
            Err(DataError::Labelled(format!(
                "{}: the label \"{}\" (field \"{}\") does not occur in the training data, which \
                 has {}{more}.{hint}",
                origin(inputs, raw.place),
                raw.label,
                fields.label.as_deref().unwrap_or_default(),
                shown.join(", "),
            )))
        }
    };
    raw.into_iter().map(one).collect()
}

/// Held-out files of which this share lies in training measure nothing.
const CONTAINED: f64 = 0.9;

/// Finds duplicates, leaks and conflicts, and removes by policy.
fn remove_repeats(
    splits: &mut Splits,
    spec: &LabelledSpec,
    facts: &mut LabelledFacts,
) -> Result<(), DataError> {
    let inputs = facts.inputs.clone();
    let [train, validation, test] = &*splits;
    let found = leaks::find(train, validation, test, &|e| origin(&inputs, e.place));
    facts.leaks = found.leaks.len() as u64;
    facts.leaks_near = found.leaks.iter().filter(|(_, s)| *s < 1.0).count() as u64;
    facts.leaks_validation_test = found.shared;
    facts.duplicates = found.duplicates;
    facts.conflicts = found.conflicts;
    facts.examples = found.examples;
    let own_files = matches!(spec.validation, ValidationSpec::Paths(_));
    let contained = found.validation_in_train as f64 / validation.len().max(1) as f64;
    if own_files && contained >= CONTAINED && spec.duplicates != DuplicatePolicy::Report {
        return Err(DataError::Leak(format!(
            "{:.0}% of the validation texts stand in the training files too: a model would be \
             measured on what it was trained on. Name other files, or hold out a share \
             (validation = 0.1)",
            contained * 100.0
        )));
    }
    let count = train.len();
    let mut drop = vec![false; count];
    if spec.duplicates == DuplicatePolicy::RemoveAll {
        found.copies.iter().for_each(|index| drop[*index as usize] = true);
        facts.duplicates_removed = found.copies.len() as u64;
    }
    if spec.duplicates != DuplicatePolicy::Report {
        for (index, _) in &found.leaks {
            facts.duplicates_removed -= u64::from(drop[*index as usize]);
            drop[*index as usize] = true;
        }
        facts.leaks_removed = facts.leaks;
    }
    let mut dropped = drop.into_iter();
    splits[0].retain(|_| dropped.next() == Some(false));
    if splits[0].is_empty() {
        return Err(DataError::Leak(format!(
            "all {count} training examples occur in the held-out data: nothing is left to train \
             on. Name other held-out files"
        )));
    }
    Ok(())
}

fn take_subset(
    train: &mut Vec<LabelledExample>,
    classes: usize,
    spec: &LabelledSpec,
) -> Result<(), DataError> {
    let Some(limit) = spec.limit else { return Ok(()) };
    if limit < classes {
        return Err(DataError::Labelled(format!(
            "a limit of {limit} training example(s) leaves some of the {classes} classes without \
             any. Set limit = {classes} or more"
        )));
    }
    let labels: Vec<u32> = train.iter().map(|example| example.label).collect();
    let taken = stratified(&labels, limit, spec.seed);
    let mut next = taken.into_iter().peekable();
    let mut index = 0..;
    train.retain(|_| next.next_if_eq(&index.next().expect("endless")).is_some());
    Ok(())
}

/// A class can lose all its training examples to leaks.
fn refuse_lost_classes(train: &[LabelledExample], labels: &Labels) -> Result<(), DataError> {
    let counts = class_counts(train.iter().map(|example| example.label), labels.len());
    match counts.iter().position(|count| *count == 0) {
        None => Ok(()),
        Some(class) => Err(DataError::Labelled(format!(
            "the class \"{}\" has no training example left: all of them occur in the held-out data \
             or at its end. Name other held-out files, or add examples of the class",
            labels.names[class]
        ))),
    }
}

fn split_facts(split: &[LabelledExample], classes: usize) -> LabelledSplitFacts {
    let counts = class_counts(split.iter().map(|example| example.label), classes);
    let most = counts.iter().copied().max().unwrap_or(0);
    let examples = split.len() as u64;
    let majority = most as f64 / examples.max(1) as f64;
    LabelledSplitFacts { examples, counts, majority, ..LabelledSplitFacts::default() }
}

/// Rows of the batches whose padding the facts tell.
const BATCH_PADDING: usize = 32;
/// Examples that a thread encodes at a time.
const CHUNK: usize = 256;

/// Encodes a split on all threads, in order; an error says which example.
fn encode_all(
    split: &[LabelledExample],
    encoder: &Encoder,
) -> Result<EncodedExamples, (Place, DataError)> {
    let chunk = |examples: &[LabelledExample]| {
        let mut scratch = Scratch::default();
        let one = |e: &LabelledExample| {
            let encoded = encoder.encode_with(&e.text, e.pair.as_deref(), &mut scratch);
            encoded.map(|encoded| (encoded, e.label)).map_err(|error| (e.place, error))
        };
        examples.iter().map(one).collect::<Result<Vec<_>, _>>()
    };
    let chunks = split.par_chunks(CHUNK).map(chunk).collect::<Result<Vec<_>, _>>()?;
    Ok(EncodedExamples::collect(chunks.into_iter().flatten()))
}

/// What encoding tells about a split, and `padding`.
fn describe(
    split: &EncodedExamples,
    padding: f64,
    encoder: &Encoder,
    facts: &mut LabelledSplitFacts,
) {
    let lengths = &split.whole;
    facts.lengths = Lengths::of(lengths);
    let cut = lengths.iter().filter(|length| **length > encoder.max_length()).count();
    facts.truncated = cut as f64 / lengths.len().max(1) as f64;
    facts.padding = padding;
    if let Some(unknown) = encoder.tokenizer().unknown() {
        facts.unknown = split.ids.iter().filter(|id| **id == unknown).count() as u64;
    }
}
