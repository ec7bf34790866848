//! From a user's paths to windows of token ids: the whole way, in order.

use std::sync::Arc;

use heldout_base::durable;
use serde::{Deserialize, Serialize};

use super::encode::{EncodedQuestions, QuestionEncoder};
use super::facts::{AnswerFacts, AnswerSplitFacts};
use super::read::{AnswerFields, Need, Question, read_questions};
use super::split::{Splits, by_paragraph, hold_out, subset};
use crate::error::DataError;
use crate::facts::{InputFact, Origin};
use crate::fast_hash::FastMap;
use crate::inputs::{expand, fingerprint};
use crate::labelled::leaks::{self, Key, key};
use crate::labelled::{Encoder, LabelledExample, Lengths, SpecialTokens};
use crate::prepare::{DuplicatePolicy, TokenizerSpec, ValidationSpec};
use crate::tokenizer::Tokenizer;

/// What to prepare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerSpec {
    /// Files, folders or patterns.
    pub train: Vec<String>,
    pub validation: ValidationSpec,
    pub test: Option<ValidationSpec>,
    pub fields: AnswerFields,
    pub tokenizer: TokenizerSpec,
    /// Longest window in tokens, question and special tokens included.
    pub max_length: usize,
    /// Tokens by which a window starts after the one before.
    pub stride: usize,
    /// Train on so many questions only, by whole paragraphs.
    pub limit: Option<usize>,
    pub duplicates: DuplicatePolicy,
    /// Of the split by share and of the subset.
    pub seed: u64,
}

impl AnswerSpec {
    /// One file with a tenth held out and everything else by default.
    pub fn new(train: &str, tokenizer: TokenizerSpec) -> Self {
        AnswerSpec {
            train: vec![train.to_string()],
            validation: ValidationSpec::Share(0.1),
            test: None,
            fields: AnswerFields::default(),
            tokenizer,
            max_length: 384,
            stride: 128,
            limit: None,
            duplicates: DuplicatePolicy::RemoveLeaks,
            seed: 1337,
        }
    }
}

/// Questions as text, split, after removal and after the subset was taken.
#[derive(Clone, Debug, Default)]
pub struct AnswerData {
    pub train: Arc<Vec<Question>>,
    pub validation: Arc<Vec<Question>>,
    /// Empty when there is no test split.
    pub test: Arc<Vec<Question>>,
    /// Without what only encoding tells (lengths, windows, vocabulary).
    pub facts: AnswerFacts,
}

/// Questions as text and as windows; `data.train[i]` is question i of `train`.
pub struct PreparedAnswers {
    pub data: AnswerData,
    pub encoder: QuestionEncoder,
    pub train: Arc<EncodedQuestions>,
    pub validation: Arc<EncodedQuestions>,
    pub test: Option<Arc<EncodedQuestions>>,
    pub facts: AnswerFacts,
}

/// Reads, splits by paragraph, looks for leaks, and takes the subset; encodes nothing.
///
/// # Errors
/// Whatever is wrong with an input; an answer that does not stand in its context; nothing left to
/// train on.
pub fn read_answers(spec: &AnswerSpec) -> Result<AnswerData, DataError> {
    let mut facts = AnswerFacts {
        max_length: spec.max_length as u64,
        stride: spec.stride as u64,
        ..AnswerFacts::default()
    };
    let all = read(&spec.train, spec, &mut facts)?;
    let mut own = [Vec::new(), Vec::new()];
    for (split, from) in own.iter_mut().zip([Some(&spec.validation), spec.test.as_ref()]) {
        if let Some(ValidationSpec::Paths(paths)) = from {
            *split = read(paths, spec, &mut facts)?;
        }
    }
    let parts = [Some(&spec.validation), spec.test.as_ref()];
    let (mut splits, sentence) = hold_out(all, own, parts, spec.seed)?;
    facts.split = sentence;
    let hashes: String = facts.inputs.iter().map(|fact| fact.sha256.as_str()).collect();
    facts.content_hash = durable::sha256_bytes(hashes.as_bytes());
    remove_repeats(&mut splits, spec, &mut facts)?;
    facts.train_available = splits[0].len() as u64;
    if let Some(limit) = spec.limit {
        subset(&mut splits[0], limit, spec.seed);
    }
    let [train, validation, test] = splits;
    facts.train = split_facts(&train);
    facts.validation = split_facts(&validation);
    facts.test = spec.test.is_some().then(|| split_facts(&test));
    if facts.train.unanswerable == facts.train.questions {
        return Err(DataError::Split(format!(
            "none of the {} training questions has an answer: there is nothing to learn. Is this \
             a test set whose answers are hidden?",
            facts.train.questions
        )));
    }
    facts.say();
    let [train, validation, test] = [train, validation, test].map(Arc::new);
    Ok(AnswerData { train, validation, test, facts })
}

/// [`read_answers`], then the tokenizer (trained on the training texts only, or loaded) and the
/// windows of every question.
///
/// # Errors
/// As [`read_answers`]; a tokenizer that cannot be trained, read, or used for pairs of texts.
pub fn prepare_answers(spec: &AnswerSpec) -> Result<PreparedAnswers, DataError> {
    let data = read_answers(spec)?;
    let (specials, most) = (SpecialTokens::Encoder, spec.max_length);
    let (encoder, kind) = match &spec.tokenizer {
        TokenizerSpec::File(path) => {
            (Encoder::new(Tokenizer::load(path)?, specials, most)?, "file")
        }
        TokenizerSpec::Train { kind, vocabulary } => {
            let groups = by_paragraph(&data.train);
            let contexts = groups
                .iter()
                .map(|(_, members)| data.train[members[0] as usize].context.to_string());
            let mut texts = data.train.iter().map(|q| q.question.clone()).chain(contexts);
            (Encoder::train(*kind, *vocabulary, specials, most, &mut texts)?, kind.name())
        }
    };
    let mut prepared = data.encode(QuestionEncoder::new(encoder, spec.stride)?)?;
    prepared.facts.tokenizer = kind.into();
    Ok(prepared)
}

impl AnswerData {
    /// Encodes every split with `encoder`.
    ///
    /// # Errors
    /// A text that the tokenizer cannot encode.
    pub fn encode(self, encoder: QuestionEncoder) -> Result<PreparedAnswers, DataError> {
        let mut facts = self.facts.clone();
        let all = |split: &[Question]| encoder.encode_all(split);
        let [train, validation, test] =
            [all(&self.train)?, all(&self.validation)?, all(&self.test)?];
        describe(&train, &mut facts.train);
        describe(&validation, &mut facts.validation);
        if let Some(facts) = &mut facts.test {
            describe(&test, facts);
        }
        facts.lost = train.lost;
        if train.lost > 0 {
            facts.notices.push(format!(
                "{} training answer(s) fit no window, or the tokenizer leaves nothing of them: \
                 their questions teach that there is no answer",
                train.lost
            ));
        }
        facts.vocabulary = encoder.encoder().tokenizer().vocabulary_size() as u64;
        facts.tokenizer = "file".into();
        let [train, validation, test] = [train, validation, test].map(Arc::new);
        let test = facts.test.is_some().then_some(test);
        Ok(PreparedAnswers { data: self, encoder, train, validation, test, facts })
    }
}

/// Reads the questions of some files to score answers to them.
///
/// # Errors
/// Whatever is wrong with an input; a question that does not say its answers.
pub fn read_scored(names: &[String], fields: &AnswerFields) -> Result<Vec<Question>, DataError> {
    let mut questions = Vec::new();
    read_questions(&expand(names)?, 0, fields, Need::Answers, &mut |question, _| {
        questions.push(question);
        Ok(())
    })?;
    Ok(questions)
}

fn read(
    names: &[String],
    spec: &AnswerSpec,
    facts: &mut AnswerFacts,
) -> Result<Vec<Question>, DataError> {
    let files = expand(names)?;
    let first = facts.inputs.len() as u32;
    for file in &files {
        facts.inputs.push(fingerprint(&file.path)?.fact(&file.path));
    }
    let mut questions = Vec::new();
    read_questions(&files, first, &spec.fields, Need::Answers, &mut |question, _| {
        questions.push(question);
        Ok(())
    })?;
    Ok(questions)
}

/// Held-out files of which this share lies in training measure nothing.
const CONTAINED: f64 = 0.9;

/// The paragraphs of a split, once each, as the leak check takes them.
fn paragraphs(split: &[Question]) -> Vec<LabelledExample> {
    let first = |(_, members): &(Key, Vec<u32>)| {
        let question = &split[members[0] as usize];
        LabelledExample {
            text: question.context.to_string(),
            pair: None,
            label: 0,
            place: question.place,
        }
    };
    by_paragraph(split).iter().map(first).collect()
}

/// Finds repeated questions and paragraphs that stand in held-out data too, and removes by policy.
fn remove_repeats(
    splits: &mut Splits,
    spec: &AnswerSpec,
    facts: &mut AnswerFacts,
) -> Result<(), DataError> {
    let each = [0, 1, 2].map(|at| paragraphs(&splits[at]));
    let origin = |inputs: &[InputFact], example: &LabelledExample| {
        let place = example.place;
        let path = inputs[place.input as usize].path.clone();
        Origin { input: place.input, path, line: place.line }
    };
    let found =
        leaks::find(&each[0], &each[1], &each[2], &|example| origin(&facts.inputs, example));
    facts.leaks = found.leaks.len() as u64;
    facts.leaks_near =
        found.leaks.iter().filter(|(_, similarity)| *similarity < 1.0).count() as u64;
    facts.leaks_validation_test = found.shared;
    let own_files = matches!(spec.validation, ValidationSpec::Paths(_));
    let contained = found.validation_in_train as f64 / each[1].len().max(1) as f64;
    if own_files && contained >= CONTAINED && spec.duplicates != DuplicatePolicy::Report {
        return Err(DataError::Leak(format!(
            "{:.0}% of the validation paragraphs stand in the training files too: a model would \
             be measured on what it was trained on. Name other files, or hold out a share \
             (validation = 0.1)",
            contained * 100.0
        )));
    }
    let repeated = splits.each_ref().map(|split| repeats(split));
    facts.duplicates = repeated.iter().flatten().filter(|repeat| **repeat).count() as u64;
    let mut drop = vec![false; splits[0].len()];
    if spec.duplicates == DuplicatePolicy::RemoveAll {
        drop.clone_from(&repeated[0]);
        facts.duplicates_removed = drop.iter().filter(|drop| **drop).count() as u64;
    }
    if spec.duplicates != DuplicatePolicy::Report {
        let groups = by_paragraph(&splits[0]);
        for index in found.leaks.iter().flat_map(|(group, _)| &groups[*group as usize].1) {
            facts.duplicates_removed -= u64::from(drop[*index as usize]);
            drop[*index as usize] = true;
            facts.leaks_removed += 1;
        }
    }
    facts.examples = found.examples;
    facts.examples.retain(|example| example.kind != "conflict");
    let count = splits[0].len();
    let mut dropped = drop.into_iter();
    splits[0].retain(|_| dropped.next() == Some(false));
    if splits[0].is_empty() {
        return Err(DataError::Leak(format!(
            "the paragraphs of all {count} training questions occur in the held-out data: nothing \
             is left to train on. Name other held-out files"
        )));
    }
    Ok(())
}

/// Which questions occurred before with the same context.
fn repeats(split: &[Question]) -> Vec<bool> {
    let mut seen: FastMap<Key, ()> = FastMap::default();
    let is_repeat = |question: &Question| {
        seen.insert(key(&question.question, Some(&question.context)), ()).is_some()
    };
    split.iter().map(is_repeat).collect()
}

fn split_facts(split: &[Question]) -> AnswerSplitFacts {
    AnswerSplitFacts {
        questions: split.len() as u64,
        paragraphs: by_paragraph(split).len() as u64,
        unanswerable: split.iter().filter(|question| question.answers.is_empty()).count() as u64,
        ..AnswerSplitFacts::default()
    }
}

/// What encoding tells about a split.
fn describe(split: &EncodedQuestions, facts: &mut AnswerSplitFacts) {
    let first = |question: usize| split.windows.length_whole(split.windows_of(question).start);
    let mut lengths: Vec<usize> = (0..split.len()).map(first).collect();
    lengths.sort_unstable();
    facts.lengths = Lengths::of(&lengths);
    facts.windows = split.windows.len() as u64;
}
