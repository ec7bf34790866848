//! Training: count words (or characters) over a stream of texts, then learn a vocabulary.

use super::json;
use super::merges::{Piece, Place, learn};
use super::unigram::fit;
use super::words::words;
use super::{TokenizerKind, UNKNOWN, VOCABULARY_MAX};
use crate::error::DataError;
use crate::fast_hash::FastMap;
use rayon::prelude::*;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

/// Longest word that is learned from, in bytes; longer ones are cut.
const WORD_MAX: usize = 256;
/// Most bytes of distinct words that are learned from; this bounds memory.
const SYMBOLS_MAX: usize = 12 << 20;
/// Text counted at a time, in bytes.
const BATCH: usize = 8 << 20;

type Texts<'a> = dyn Iterator<Item = Result<String, DataError>> + 'a;

/// Trains and gives the tokenizer.json.
pub(crate) fn train(
    kind: TokenizerKind,
    vocabulary: usize,
    specials: &[&str],
    texts: &mut Texts<'_>,
) -> Result<Value, DataError> {
    match kind {
        TokenizerKind::Byte => return Ok(json::bytes(specials)),
        TokenizerKind::Char => return characters(specials, texts),
        _ => {}
    }
    let mut specials = specials.to_vec();
    if kind == TokenizerKind::WordPiece && !specials.contains(&UNKNOWN) {
        specials.push(UNKNOWN);
    }
    check_size(kind, vocabulary, specials.len())?;
    let pieces_max = vocabulary - specials.len();
    let counts = count_words(kind, texts)?;
    if counts.is_empty() {
        return Err(DataError::Tokenizer("there is no text to train on".into()));
    }
    Ok(match kind {
        TokenizerKind::Bpe => {
            let start = (0..=255).map(|b| Piece { place: Place::Anywhere, bytes: vec![b] });
            let words = counts
                .into_iter()
                .map(|(word, n)| (word.iter().map(|b| u32::from(*b)).collect(), n));
            json::bpe(&learn(words.collect(), start.collect(), pieces_max), &specials)
        }
        TokenizerKind::WordPiece => {
            let of = |place| (0..=255).map(move |b| Piece { place, bytes: vec![b] });
            let start = of(Place::Anywhere).chain(of(Place::Inside));
            let words = counts.into_iter().map(|(word, n)| {
                let later = word.iter().skip(1).map(|b| 256 + u32::from(*b));
                (std::iter::once(u32::from(word[0])).chain(later).collect(), n)
            });
            let learned = learn(words.collect(), start.collect(), pieces_max);
            json::word_piece(&learned, &specials, UNKNOWN)
        }
        _ => json::unigram(&fit(&counts, pieces_max), &specials),
    })
}

/// Refuses a size before anything is allocated for it.
fn check_size(kind: TokenizerKind, vocabulary: usize, specials: usize) -> Result<(), DataError> {
    let alphabet = if kind == TokenizerKind::WordPiece { 512 } else { 256 };
    let least = alphabet + specials;
    if vocabulary < least {
        return Err(DataError::Tokenizer(format!(
            "a vocabulary of {vocabulary} is too small for {}: its {alphabet} byte tokens and \
             {specials} special token(s) need at least {least}",
            kind.name()
        )));
    }
    if vocabulary > VOCABULARY_MAX {
        return Err(DataError::Tokenizer(format!(
            "a vocabulary of {vocabulary} is above the limit of {VOCABULARY_MAX}: it and the \
             model's embedding would not fit in memory. Common sizes are 1,000 to 100,000"
        )));
    }
    Ok(())
}

fn characters(specials: &[&str], texts: &mut Texts<'_>) -> Result<Value, DataError> {
    let mut seen = vec![false; 0x11_0000];
    for text in texts {
        let text = text?;
        for c in text.chars() {
            seen[c as usize] = true;
        }
    }
    let alphabet: Vec<char> =
        (0..0x11_0000u32).filter(|c| seen[*c as usize]).filter_map(char::from_u32).collect();
    if alphabet.is_empty() {
        return Err(DataError::Tokenizer("there is no text to train on".into()));
    }
    let unknown = specials.contains(&UNKNOWN).then_some(UNKNOWN);
    Ok(json::characters(&alphabet, specials, unknown))
}

type Counts = FastMap<Box<[u8]>, u64>;
type Sorted = Vec<(Box<[u8]>, u64)>;

/// Every word with its count, sorted by word.
fn count_words(kind: TokenizerKind, texts: &mut Texts<'_>) -> Result<Sorted, DataError> {
    let mut total = Counts::default();
    loop {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH {
            let Some(text) = texts.next() else { break };
            let text = text?;
            bytes += text.len();
            batch.push(text);
        }
        if batch.is_empty() {
            break;
        }
        let counts = batch
            .par_iter()
            .fold(Counts::default, |mut counts, text| {
                count(kind, text, &mut counts);
                counts
            })
            .reduce(Counts::default, |into, from| {
                let (mut into, from) =
                    if into.len() < from.len() { (from, into) } else { (into, from) };
                for (word, n) in from {
                    *into.entry(word).or_default() += n;
                }
                into
            });
        for (word, n) in counts {
            *total.entry(word).or_default() += n;
        }
    }
    Ok(most_frequent(total))
}

/// The most frequent words, as many as [`SYMBOLS_MAX`] allows, sorted. Scripts without spaces have
/// almost as many words as text; of equally frequent ones a fixed random choice is kept.
fn most_frequent(counts: Counts) -> Sorted {
    let mut sorted: Sorted = counts.into_iter().collect();
    sorted.sort_by_cached_key(|(word, n)| (u64::MAX - n, xxh3_64(word)));
    let mut symbols = 0;
    let kept = sorted.iter().take_while(|(word, _)| {
        symbols += word.len();
        symbols <= SYMBOLS_MAX
    });
    let kept = kept.count();
    sorted.truncate(kept);
    sorted.sort_unstable();
    sorted
}

fn count(kind: TokenizerKind, text: &str, counts: &mut Counts) {
    if kind != TokenizerKind::WordPiece {
        return count_plain(text, counts);
    }
    // WordPiece takes each # as a word of its own; see its tokenizer.json.
    for (number, part) in text.split('#').enumerate() {
        if number > 0 {
            add(counts, b"#");
        }
        count_plain(part, counts);
    }
}

fn count_plain(text: &str, counts: &mut Counts) {
    for word in words(text) {
        for part in word.as_bytes().chunks(WORD_MAX) {
            add(counts, part);
        }
    }
}

fn add(counts: &mut Counts, word: &[u8]) {
    match counts.get_mut(word) {
        Some(n) => *n += 1,
        None => {
            counts.insert(word.into(), 1);
        }
    }
}
