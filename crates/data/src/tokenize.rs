//! The tokenizer of a corpus, trained on its training split, and all splits written as token files.

use crate::boundary::Manner;
use crate::cache::token_path;
use crate::error::DataError;
use crate::facts::DataFacts;
use crate::labelled::{ENCODER_TOKENS, SpecialTokens};
use crate::prepare::{PrepareSpec, Progress, Separator, TokenizerSpec, separator};
use crate::split::{Part, REMOVED, States};
use crate::spool::{Record, Spool};
use crate::store::TokenWriter;
use crate::tokenizer::{END_OF_TEXT, Scratch, Tokenizer, TokenizerKind, UNKNOWN};
use rayon::prelude::*;
use std::path::Path;

/// Most training text that a tokenizer is trained on, in bytes.
const SAMPLE_MAX: u64 = 64 << 20;
/// A larger corpus is sampled in runs of this many bytes, spread evenly.
const SAMPLE_RUN: u64 = 64 << 10;
/// Longest text encoded at once, in bytes.
const PIECE: usize = 256 << 10;
/// Longest run of one kind of character that is encoded whole, in bytes.
const RUN_MAX: usize = 4 << 10;
/// Text encoded between two writes, in bytes.
const BATCH: usize = 8 << 20;

/// Trains or loads the tokenizer that `spec` asks for.
pub(crate) fn tokenizer(
    spec: &PrepareSpec,
    spool: &Spool,
    states: &States,
    manner: Manner,
    facts: &mut DataFacts,
) -> Result<Tokenizer, DataError> {
    let separated = separator(states, manner) != Separator::None;
    match &spec.tokenizer {
        TokenizerSpec::File(path) => {
            facts.tokenizer = "file".into();
            let tokenizer = Tokenizer::load(path)?;
            if !separated || tokenizer.eos().is_some() {
                return Ok(tokenizer);
            }
            facts.notices.push(format!(
                "{} has no end-of-text token; {END_OF_TEXT} was added to it",
                path.display()
            ));
            tokenizer.with_end_of_text()
        }
        TokenizerSpec::Train { kind, vocabulary } => {
            facts.tokenizer = kind.name().into();
            let mut specials = Vec::new();
            if *kind == TokenizerKind::Char && has_unseen(spool, states)? {
                specials.push(UNKNOWN);
            }
            match spec.special_tokens {
                // Among them is one that ends a text.
                SpecialTokens::Encoder => specials.extend(ENCODER_TOKENS),
                SpecialTokens::Causal if separated => specials.push(END_OF_TEXT),
                SpecialTokens::Causal | SpecialTokens::Pairs => {}
            }
            let tokenizer = train(*kind, *vocabulary, &specials, spool, states, facts)?;
            let tokenizer = match spec.special_tokens {
                SpecialTokens::Encoder => tokenizer.framed()?,
                SpecialTokens::Causal | SpecialTokens::Pairs => tokenizer,
            };
            let size = tokenizer.vocabulary_size();
            if !matches!(kind, TokenizerKind::Char | TokenizerKind::Byte) && size < *vocabulary {
                facts.notices.push(format!(
                    "the text gave a vocabulary of {size}, not the {vocabulary} asked for: nothing \
                     else occurs twice"
                ));
            }
            Ok(tokenizer)
        }
    }
}

fn train(
    kind: TokenizerKind,
    vocabulary: usize,
    specials: &[&str],
    spool: &Spool,
    states: &States,
    facts: &mut DataFacts,
) -> Result<Tokenizer, DataError> {
    let mut total = 0;
    spool.each_record(&mut |number, record| {
        total += if trains(states, number) { record.bytes } else { 0 };
        Ok(())
    })?;
    let limit = match kind {
        TokenizerKind::Byte => 0,
        // The alphabet must be whole.
        TokenizerKind::Char => total,
        _ => SAMPLE_MAX,
    };
    facts.tokenizer_sample_bytes = limit.min(total);
    let (sender, texts) = std::sync::mpsc::sync_channel(16);
    std::thread::scope(|scope| {
        // The spool is read here, the texts are counted there.
        let trainer = scope.spawn(move || {
            Tokenizer::train(kind, vocabulary, specials, &mut texts.into_iter().map(Ok))
        });
        let mut position = 0;
        let read = spool.each_record(&mut |number, record| {
            if limit == 0 || !trains(states, number) {
                return Ok(());
            }
            sample(spool, record, position, total, limit, &mut |text| {
                // The trainer stops listening when it has failed; its error comes out below.
                let _ = sender.send(text);
            })?;
            position += record.bytes;
            Ok(())
        });
        drop(sender);
        let trained = trainer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        read.and(trained)
    })
}

fn trains(states: &States, document: u64) -> bool {
    states.part(document) == Part::Train && !states.has(document, REMOVED)
}

/// The parts of a record that belong to an even sample of `limit` of `total` bytes; `position` is
/// where the record starts among all training text.
fn sample(
    spool: &Spool,
    record: &Record,
    position: u64,
    total: u64,
    limit: u64,
    take: &mut dyn FnMut(String),
) -> Result<(), DataError> {
    if total <= limit {
        return spool.each_piece(record, PIECE, &mut |text| {
            take(text.to_string());
            Ok(())
        });
    }
    let stride = (u128::from(total) * u128::from(SAMPLE_RUN) / u128::from(limit)) as u64;
    let mut at = position;
    while at < position + record.bytes {
        let into = at % stride;
        if into >= SAMPLE_RUN {
            at += stride - into;
            continue;
        }
        let end = (at - into + SAMPLE_RUN).min(position + record.bytes);
        let bytes = spool.bytes_at(record.offset + (at - position), (end - at) as usize)?;
        take(inner_text(&bytes).to_string());
        at = end;
    }
    Ok(())
}

/// The whole characters of a run of bytes cut anywhere.
fn inner_text(bytes: &[u8]) -> &str {
    let start = bytes.iter().position(|b| (*b as i8) >= -64).unwrap_or(bytes.len());
    match std::str::from_utf8(&bytes[start..]) {
        Ok(text) => text,
        Err(e) => {
            std::str::from_utf8(&bytes[start..start + e.valid_up_to()]).expect("valid up to there")
        }
    }
}

/// Whether held-out text has a character that training text lacks.
fn has_unseen(spool: &Spool, states: &States) -> Result<bool, DataError> {
    let (mut seen, mut wanted) = (vec![false; 0x11_0000], vec![false; 0x11_0000]);
    spool.each_record(&mut |number, record| {
        if states.has(number, REMOVED) {
            return Ok(());
        }
        let marks = if trains(states, number) { &mut seen } else { &mut wanted };
        spool.each_piece(record, PIECE, &mut |text| {
            for c in text.chars() {
                marks[c as usize] = true;
            }
            Ok(())
        })
    })?;
    Ok(seen.iter().zip(&wanted).any(|(seen, wanted)| *wanted && !*seen))
}

/// What went into one token file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Encoded {
    pub documents: u64,
    pub tokens: u64,
    pub bytes: u64,
    pub characters: u64,
    pub unknown: u64,
}

impl Encoded {
    pub(crate) fn bytes_per_token(&self) -> f64 {
        if self.tokens == 0 { 0.0 } else { self.bytes as f64 / self.tokens as f64 }
    }
}

/// A piece of text on its way to ids.
struct Job {
    part: Part,
    starts: Start,
    text: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Start {
    NewDocument,
    Continues,
}

/// Encodes every split into its token file in `folder`.
pub(crate) fn encode_all(
    spool: &Spool,
    states: &States,
    tokenizer: &Tokenizer,
    manner: Manner,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<[Encoded; 3], DataError> {
    let vocabulary = tokenizer.vocabulary_size() as u64;
    let has_test = (0..states.of.len()).any(|i| states.part(i as u64) == Part::Test);
    let parts = if has_test { 3 } else { 2 };
    let writers: Result<Vec<TokenWriter>, DataError> =
        (0..parts).map(|part| TokenWriter::new(&token_path(folder, part), vocabulary)).collect();
    let separator = separator(states, manner);
    let mut output =
        Output { writers: writers?, tokenizer, separator, counts: [Encoded::default(); 3] };
    let (mut jobs, mut held, mut done, total) = (Vec::new(), 0, 0, spool.bytes()?);
    spool.each_record(&mut |number, record| {
        if states.has(number, REMOVED) {
            return Ok(());
        }
        let part = states.part(number);
        output.counts[part as usize].bytes += record.bytes;
        output.counts[part as usize].characters += record.characters;
        let mut starts = Start::NewDocument;
        spool.each_piece(record, PIECE, &mut |text| {
            held += text.len();
            jobs.push(Job { part, starts, text: text.to_string() });
            starts = Start::Continues;
            if held >= BATCH {
                output.write(&jobs)?;
                done += held as u64;
                progress(Progress::Tokenizing { done, total });
                (held, jobs) = (0, Vec::new());
            }
            Ok(())
        })
    })?;
    output.write(&jobs)?;
    output.finish()
}

struct Output<'a> {
    writers: Vec<TokenWriter>,
    tokenizer: &'a Tokenizer,
    separator: Separator,
    counts: [Encoded; 3],
}

impl Output<'_> {
    /// Encodes the pieces side by side and writes them in order.
    fn write(&mut self, jobs: &[Job]) -> Result<(), DataError> {
        let tokenizer = self.tokenizer;
        let groups: Vec<Result<Vec<Vec<u32>>, DataError>> = grouped(jobs)
            .into_par_iter()
            .map_init(Scratch::default, |scratch, group| {
                let encode = |job: &Job| {
                    let mut ids = Vec::new();
                    let mut parts = manageable(&job.text);
                    parts
                        .try_for_each(|t| tokenizer.encode_into(t, scratch, &mut ids))
                        .map(|()| ids)
                };
                group.iter().map(encode).collect()
            })
            .collect();
        let mut jobs = jobs.iter();
        for group in groups {
            for ids in group? {
                let job = jobs.next().expect("one result per piece");
                self.write_piece(job, &ids)?;
            }
        }
        Ok(())
    }

    fn write_piece(&mut self, job: &Job, ids: &[u32]) -> Result<(), DataError> {
        let counts = &mut self.counts[job.part as usize];
        let writer = &mut self.writers[job.part as usize];
        if job.starts == Start::NewDocument {
            if self.separator != Separator::None && counts.documents > 0 {
                writer.push(&[end_of_text(self.tokenizer)?])?;
            }
            counts.documents += 1;
            writer.begin_document()?;
        }
        if let Some(unknown) = self.tokenizer.unknown() {
            counts.unknown += ids.iter().filter(|id| **id == unknown).count() as u64;
        }
        writer.push(ids)
    }

    fn finish(mut self) -> Result<[Encoded; 3], DataError> {
        for (writer, counts) in self.writers.into_iter().zip(&mut self.counts) {
            let mut writer = writer;
            if self.separator == Separator::AfterEach && counts.documents > 0 {
                writer.push(&[end_of_text(self.tokenizer)?])?;
            }
            counts.tokens = writer.finish(counts.bytes)?;
        }
        Ok(self.counts)
    }
}

/// Text with every run of more than [`RUN_MAX`] bytes of letters and digits, or of signs, cut:
/// merging such a run whole takes long and gives no better tokens.
fn manageable(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (mut end, mut start, mut kind) = (rest.len(), 0, None);
        for (at, c) in rest.char_indices() {
            let next = (c.is_alphanumeric(), c.is_whitespace());
            if kind != Some(next) {
                (start, kind) = (at, Some(next));
            } else if at - start > RUN_MAX {
                end = at;
                break;
            }
        }
        let (part, after) = rest.split_at(end);
        rest = after;
        Some(part)
    })
}

fn end_of_text(tokenizer: &Tokenizer) -> Result<u32, DataError> {
    tokenizer.eos().ok_or_else(|| {
        DataError::Tokenizer("it has no end-of-text token to put between documents".into())
    })
}

/// Pieces in runs of about [`PIECE`] bytes, so that small documents share a cache of words.
fn grouped(jobs: &[Job]) -> Vec<&[Job]> {
    let (mut groups, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (number, job) in jobs.iter().enumerate() {
        bytes += job.text.len();
        if bytes >= PIECE {
            groups.push(&jobs[start..=number]);
            (start, bytes) = (number + 1, 0);
        }
    }
    if start < jobs.len() {
        groups.push(&jobs[start..]);
    }
    groups
}
