//! From a user's paths to token files: the whole way, in order, in bounded memory.

use crate::boundary::{Boundary, Decision, Manner, decide};
use crate::cache::{self, Entry, FORMAT, Staging};
use crate::duplicates::{self, HeldOut};
use crate::error::DataError;
use crate::facts::DataFacts;
use crate::inputs::{Fingerprint, Input, expand, fingerprint};
use crate::labelled::SpecialTokens;
use crate::read::{Field, read_file};
use crate::split::{PART_NAMES, Part, Splitted, States, split};
use crate::spool::{Spool, SpoolWriter};
use crate::store::TokenStore;
use crate::tokenize::{self, Encoded};
use crate::tokenizer::{Tokenizer, TokenizerKind};
use heldout_base::durable;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Where a held-out split comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ValidationSpec {
    /// Files, folders or patterns of its own.
    Paths(Vec<String>),
    /// That share of the training documents, chosen by content hash and seed (so equal documents
    /// stay together); the end of the text when it is contiguous.
    Share(f64),
    /// That share at the end: the last documents, or the last characters of a contiguous text.
    Tail(f64),
}

/// What happens to duplicates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DuplicatePolicy {
    /// Training loses the documents that occur, or nearly occur, in validation or test.
    #[default]
    RemoveLeaks,
    /// These, and every repetition within training.
    RemoveAll,
    /// Nothing is removed; all is reported.
    Report,
}

/// The tokenizer to use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TokenizerSpec {
    /// Trained on the training split; `vocabulary` counts all tokens and is ignored by char and
    /// byte.
    Train { kind: TokenizerKind, vocabulary: usize },
    /// A tokenizer.json.
    File(PathBuf),
}

/// What to prepare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrepareSpec {
    /// Files, folders or patterns.
    pub train: Vec<String>,
    pub validation: ValidationSpec,
    pub test: Option<ValidationSpec>,
    /// The field that holds the text of a record; "text" when `None`.
    pub field: Option<String>,
    pub boundary: Boundary,
    pub tokenizer: TokenizerSpec,
    /// Those of a tokenizer that is trained.
    pub special_tokens: SpecialTokens,
    pub duplicates: DuplicatePolicy,
    /// Of the split by share.
    pub seed: u64,
}

impl PrepareSpec {
    /// One corpus with a tenth held out and everything else by default.
    pub fn new(train: &str, tokenizer: TokenizerSpec) -> Self {
        PrepareSpec {
            train: vec![train.to_string()],
            validation: ValidationSpec::Share(0.1),
            test: None,
            field: None,
            boundary: Boundary::Auto,
            tokenizer,
            special_tokens: SpecialTokens::Causal,
            duplicates: DuplicatePolicy::RemoveLeaks,
            seed: 1337,
        }
    }
}

/// How far preparing has come. Bytes count text, not files.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    Hashing {
        done: u64,
        total: u64,
    },
    Reading {
        done: u64,
        total: u64,
    },
    Comparing {
        done: u64,
        total: u64,
    },
    TrainingTokenizer,
    Tokenizing {
        done: u64,
        total: u64,
    },
    /// Done; whether the result was in the cache.
    Ready {
        cached: bool,
    },
}

/// A prepared corpus.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub train: TokenStore,
    pub validation: TokenStore,
    pub test: Option<TokenStore>,
    pub tokenizer: Tokenizer,
    pub facts: DataFacts,
}

/// All inputs with the split each was named for.
struct Inputs {
    files: Vec<Input>,
    parts: Vec<Part>,
    prints: Vec<Fingerprint>,
}

/// Reads, splits, deduplicates, tokenizes; or finds all that in `cache_dir`. Memory stays bounded
/// whatever the size of the corpus; scratch files of about its size lie in `cache_dir` meanwhile.
///
/// # Errors
/// Whatever is wrong with an input, the split, the tokenizer or the cache folder; see
/// [`DataError`].
pub fn prepare(
    spec: &PrepareSpec,
    cache_dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Prepared, DataError> {
    let inputs = inputs(spec, progress)?;
    let key = key(spec, &inputs)?;
    let folder = cache_dir.join(&key);
    let mut notices = Vec::new();
    if folder.exists() {
        match cache::load(&folder) {
            Ok(entry) => {
                progress(Progress::Ready { cached: true });
                return Ok(prepared(entry, &inputs, Vec::new()));
            }
            Err(e) => {
                notices.push(format!("a cached preparation was damaged and is built again: {e}"));
                fs::remove_dir_all(&folder).map_err(|e| DataError::io(&folder, "remove", e))?;
            }
        }
    }
    let staging = Staging::new(cache_dir)?;
    build(spec, &inputs, &key, staging.path(), progress)?;
    match durable::commit_folder(staging.path(), &folder) {
        Ok(()) => {}
        // Another process prepared the same meanwhile.
        Err(_) if folder.join("SHA256SUMS").exists() => {}
        Err(e) => return Err(e.into()),
    }
    let entry = cache::load(&folder)?;
    progress(Progress::Ready { cached: false });
    Ok(prepared(entry, &inputs, notices))
}

/// Puts an entry together with the paths of today.
fn prepared(entry: Entry, inputs: &Inputs, notices: Vec<String>) -> Prepared {
    let Entry { stores: [train, validation, test], tokenizer, mut facts } = entry;
    let paths: Vec<String> = inputs.files.iter().map(|f| f.path.display().to_string()).collect();
    for (fact, path) in facts.inputs.iter_mut().zip(&paths) {
        fact.path = path.clone();
    }
    for origin in facts.examples.iter_mut().flat_map(|e| [&mut e.one, &mut e.other]) {
        if let Some(path) = paths.get(origin.input as usize) {
            origin.path = path.clone();
        }
    }
    facts.notices.extend(notices);
    let present = "training and validation are part of every entry";
    Prepared {
        train: train.expect(present),
        validation: validation.expect(present),
        test,
        tokenizer,
        facts,
    }
}

/// Finds and hashes every file.
fn inputs(spec: &PrepareSpec, progress: &mut dyn FnMut(Progress)) -> Result<Inputs, DataError> {
    let mut files = expand(&spec.train)?;
    let mut parts = vec![Part::Train; files.len()];
    if files.is_empty() {
        return Err(DataError::Split("no training file was named".into()));
    }
    for (held_out, part) in
        [(Some(&spec.validation), Part::Validation), (spec.test.as_ref(), Part::Test)]
    {
        if let Some(ValidationSpec::Paths(names)) = held_out {
            let more = expand(names)?;
            if more.is_empty() {
                let words = format!("no {} file was named", PART_NAMES[part as usize]);
                return Err(DataError::Split(words));
            }
            parts.extend(vec![part; more.len()]);
            files.extend(more);
        }
    }
    let sizes = files.iter().map(|f| fs::metadata(&f.path).map(|m| m.len()).unwrap_or(0));
    let (mut done, total) = (0, sizes.sum());
    let mut prints = Vec::with_capacity(files.len());
    for file in &files {
        progress(Progress::Hashing { done, total });
        let print = fingerprint(&file.path)?;
        done += print.bytes;
        prints.push(print);
    }
    let inputs = Inputs { files, parts, prints };
    refuse_same_files(&inputs, spec.duplicates)?;
    Ok(inputs)
}

/// A held-out file that is also a training file measures nothing.
fn refuse_same_files(inputs: &Inputs, policy: DuplicatePolicy) -> Result<(), DataError> {
    if policy == DuplicatePolicy::Report {
        return Ok(());
    }
    for (held_out, part) in inputs.parts.iter().enumerate().filter(|(_, p)| **p != Part::Train) {
        let same = (0..held_out).find(|i| {
            inputs.parts[*i] != *part
                && inputs.prints[*i].bytes > 0
                && inputs.prints[*i].sha256 == inputs.prints[held_out].sha256
        });
        if let Some(same) = same {
            return Err(DataError::Leak(format!(
                "the {} file {} has the same content as the {} file {}: a model would be measured \
                 on what it was trained on. Name another file, or hold out a share (validation = \
                 0.1)",
                PART_NAMES[*part as usize],
                inputs.files[held_out].path.display(),
                PART_NAMES[inputs.parts[same] as usize],
                inputs.files[same].path.display(),
            )));
        }
    }
    Ok(())
}

/// The name of the cache entry: everything that decides its content.
fn key(spec: &PrepareSpec, inputs: &Inputs) -> Result<String, DataError> {
    let mut text = format!("heldout-data {FORMAT} {}\n", env!("CARGO_PKG_VERSION"));
    for ((file, part), print) in inputs.files.iter().zip(&inputs.parts).zip(&inputs.prints) {
        text += &format!("{:?} {:?} {}\n", file.format, part, print.sha256);
    }
    let anonymous = |held_out: &ValidationSpec| match held_out {
        ValidationSpec::Paths(_) => "paths".to_string(),
        other => format!("{other:?}"),
    };
    let tokenizer = match &spec.tokenizer {
        TokenizerSpec::File(path) => {
            let config = path.with_file_name("tokenizer_config.json");
            let config = if config.exists() { durable::sha256_file(&config)? } else { "-".into() };
            format!("file {} {config}", fingerprint(path)?.sha256)
        }
        TokenizerSpec::Train {
            kind: kind @ (TokenizerKind::Char | TokenizerKind::Byte), ..
        } => kind.name().to_string(),
        TokenizerSpec::Train { kind, vocabulary } => format!("{} {vocabulary}", kind.name()),
    };
    let test = spec.test.as_ref().map(anonymous);
    // Nothing where it says nothing new, so that older entries are found.
    let framed = match (&spec.tokenizer, spec.special_tokens) {
        (TokenizerSpec::Train { .. }, SpecialTokens::Encoder) => " framed",
        _ => "",
    };
    text += &format!(
        "{} {test:?} {:?} {:?} {:?} {} {tokenizer}{framed}\n",
        anonymous(&spec.validation),
        spec.field,
        spec.boundary,
        spec.duplicates,
        spec.seed
    );
    Ok(durable::sha256_bytes(text.as_bytes())[..32].to_string())
}

fn build(
    spec: &PrepareSpec,
    inputs: &Inputs,
    key: &str,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DataError> {
    let scratch = folder.join("scratch");
    fs::create_dir(&scratch).map_err(|e| DataError::io(&scratch, "create the folder", e))?;
    let train: Vec<Input> = inputs
        .files
        .iter()
        .zip(&inputs.parts)
        .filter(|(_, part)| **part == Part::Train)
        .map(|(file, _)| file.clone())
        .collect();
    let decision = decide(spec.boundary, &train)?;
    let mut facts = DataFacts { boundary: decision.reason.clone(), ..DataFacts::default() };
    let mut spool = read_all(spec, inputs, &decision, &scratch, &mut facts, progress)?;
    facts.documents = spool.documents;
    let Splitted { mut states, sentence } = split(
        &mut spool,
        &decision,
        &inputs.parts,
        &spec.validation,
        spec.test.as_ref(),
        spec.seed,
    )?;
    facts.split = sentence;
    record_inputs(&mut facts, inputs, key);
    let compare = duplicates::Compare {
        policy: spec.duplicates,
        held_out: held_out(spec),
        manner: decision.manner,
    };
    duplicates::find(&spool, &mut states, &compare, &scratch, &mut facts, progress)?;
    refuse_empty(&states)?;
    progress(Progress::TrainingTokenizer);
    let tokenizer = tokenize::tokenizer(spec, &spool, &states, decision.manner, &mut facts)?;
    let encoded =
        tokenize::encode_all(&spool, &states, &tokenizer, decision.manner, folder, progress)?;
    record_encoded(&mut facts, &encoded, &tokenizer);
    drop(spool);
    fs::remove_dir_all(&scratch).map_err(|e| DataError::io(&scratch, "remove", e))?;
    cache::write_small(folder, &tokenizer, &facts)
}

fn held_out(spec: &PrepareSpec) -> HeldOut {
    match (&spec.validation, &spec.test) {
        (ValidationSpec::Paths(_), _) | (_, Some(ValidationSpec::Paths(_))) => HeldOut::OwnFiles,
        _ => HeldOut::FromTraining,
    }
}

fn record_inputs(facts: &mut DataFacts, inputs: &Inputs, key: &str) {
    facts.cache_key = key.to_string();
    let all: String = inputs.prints.iter().map(|p| p.sha256.as_str()).collect();
    facts.content_hash = durable::sha256_bytes(all.as_bytes());
    facts.inputs = inputs.files.iter().zip(&inputs.prints).map(|(f, p)| p.fact(&f.path)).collect();
}

fn record_encoded(facts: &mut DataFacts, encoded: &[Encoded; 3], tokenizer: &Tokenizer) {
    let [train, validation, test] = encoded;
    facts.vocabulary = tokenizer.vocabulary_size() as u64;
    let documents = encoded.each_ref().map(|e| e.documents);
    [facts.documents_train, facts.documents_validation, facts.documents_test] = documents;
    let tokens = encoded.each_ref().map(|e| e.tokens);
    [facts.tokens_train, facts.tokens_validation, facts.tokens_test] = tokens;
    let bytes = encoded.each_ref().map(|e| e.bytes);
    [facts.bytes_train, facts.bytes_validation, facts.bytes_test] = bytes;
    let characters = encoded.each_ref().map(|e| e.characters);
    [facts.characters_train, facts.characters_validation, facts.characters_test] = characters;
    (facts.unknown_validation, facts.unknown_test) = (validation.unknown, test.unknown);
    facts.bytes_per_token_train = train.bytes_per_token();
    facts.bytes_per_token_validation = validation.bytes_per_token();
    facts.bytes_per_token_test = test.bytes_per_token();
    if validation.unknown + test.unknown > 0 {
        facts.notices.push(format!(
            "{} held-out characters do not occur in training and count as one unknown token",
            validation.unknown + test.unknown
        ));
    }
}

/// Reads every file into the spool, checking that it is still what was hashed.
fn read_all(
    spec: &PrepareSpec,
    inputs: &Inputs,
    decision: &Decision,
    scratch: &Path,
    facts: &mut DataFacts,
    progress: &mut dyn FnMut(Progress),
) -> Result<Spool, DataError> {
    let field = Field { asked: spec.field.clone() };
    let mut writer = SpoolWriter::new(scratch)?;
    let total = inputs.prints.iter().map(|p| p.bytes).sum();
    let (mut done, mut empty, mut counts) = (0, Vec::new(), [0u64; 3]);
    for (number, (file, print)) in inputs.files.iter().zip(&inputs.prints).enumerate() {
        progress(Progress::Reading { done, total });
        writer.input = number as u32;
        let before = writer.documents;
        let hash = read_file(file, decision.cut, &field, &mut writer)?;
        if hash != print.xxh3 {
            return Err(DataError::Changed { path: file.path.clone() });
        }
        if writer.documents == before {
            empty.push(file.path.clone());
        }
        counts[inputs.parts[number] as usize] += writer.documents - before;
        done += print.bytes;
    }
    for (part, count) in counts.iter().enumerate() {
        let of_part = inputs.files.iter().zip(&inputs.parts).find(|(_, p)| **p as usize == part);
        if let (Some((file, _)), 0) = (of_part, count) {
            return Err(DataError::Empty { path: file.path.clone() });
        }
    }
    if !empty.is_empty() {
        let first = empty[0].display();
        facts.notices.push(format!("{} input file(s) without text, such as {first}", empty.len()));
    }
    facts.documents_empty = writer.documents_empty;
    writer.finish()
}

/// After duplicates were removed there must be something to train on and to measure on.
fn refuse_empty(states: &States) -> Result<(), DataError> {
    let train = states.of.iter().enumerate().filter(|(i, _)| {
        states.part(*i as u64) == Part::Train && !states.has(*i as u64, crate::split::REMOVED)
    });
    if train.count() == 0 {
        return Err(DataError::Leak(
            "nothing is left to train on: every training document occurs, or nearly occurs, in the \
             held-out data. Name other held-out data; duplicates = \"report\" would train on it \
             all the same, but the held-out loss would then mean nothing"
                .into(),
        ));
    }
    Ok(())
}

/// Whether an end-of-text token stands after every document, between documents, or nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Separator {
    AfterEach,
    Between,
    None,
}

/// A contiguous text has no end to learn; files of a contiguous corpus are kept apart.
pub(crate) fn separator(states: &States, manner: Manner) -> Separator {
    if manner == Manner::Documents {
        return Separator::AfterEach;
    }
    let mut counts = [0; 3];
    for number in 0..states.of.len() {
        counts[states.part(number as u64) as usize] += 1;
    }
    if counts.iter().any(|n| *n > 1) { Separator::Between } else { Separator::None }
}
