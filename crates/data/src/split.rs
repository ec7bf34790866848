//! Which document is for training and which is held out, decided before anything looks at the text.

use crate::boundary::{Decision, Manner};
use crate::error::DataError;
use crate::prepare::ValidationSpec;
use crate::spool::{Record, Spool, characters};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The splits; the numbers are those of the state bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Train = 0,
    Validation = 1,
    Test = 2,
}

/// The names used in messages and files.
pub(crate) const PART_NAMES: [&str; 3] = ["train", "validation", "test"];

/// One byte per document: its split, and what was found out about it.
pub(crate) struct States {
    pub of: Vec<u8>,
}

const PART: u8 = 0b11;
/// Taken out of training.
pub(crate) const REMOVED: u8 = 1 << 2;
/// Equals an earlier document of its split.
pub(crate) const COPY: u8 = 1 << 3;
/// Resembles an earlier document of its split.
pub(crate) const NEAR: u8 = 1 << 4;
/// In training, and (nearly) in validation or test too.
pub(crate) const LEAKED: u8 = 1 << 5;
/// In validation, and (nearly) in test too.
pub(crate) const SHARED: u8 = 1 << 6;

impl States {
    pub(crate) fn part(&self, document: u64) -> Part {
        match self.of[document as usize] & PART {
            0 => Part::Train,
            1 => Part::Validation,
            _ => Part::Test,
        }
    }

    pub(crate) fn has(&self, document: u64, flag: u8) -> bool {
        self.of[document as usize] & flag != 0
    }

    pub(crate) fn set(&mut self, document: u64, flag: u8) {
        self.of[document as usize] |= flag;
    }

    pub(crate) fn count(&self, part: Part, flag: u8) -> u64 {
        let part = part as u8;
        self.of.iter().filter(|s| (**s & PART) == part && **s & flag != 0).count() as u64
    }
}

/// Shares of the training inputs that are held out.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shares {
    validation: f64,
    test: f64,
    manner: ShareManner,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum ShareManner {
    Hash,
    Tail,
}

/// What the split was, in a sentence, with the states.
pub(crate) struct Splitted {
    pub states: States,
    pub sentence: String,
}

/// Splits the spool. `part_of_input[i]` is the split that input i was named for.
///
/// # Errors
/// Shares outside (0, 1), shares of different kinds, or a split that would be empty.
pub(crate) fn split(
    spool: &mut Spool,
    decision: &Decision,
    part_of_input: &[Part],
    validation: &ValidationSpec,
    test: Option<&ValidationSpec>,
    seed: u64,
) -> Result<Splitted, DataError> {
    let shares = shares(decision, validation, test)?;
    if decision.manner == Manner::Contiguous && shares.validation + shares.test > 0.0 {
        return contiguous(spool, part_of_input, shares);
    }
    let mut states = States { of: Vec::with_capacity(spool.documents as usize) };
    let mut count = 0;
    spool.each_record(&mut |_, record| {
        let part = part_of_input[record.input as usize];
        states.of.push(part as u8);
        count += u64::from(part == Part::Train);
        Ok(())
    })?;
    let taken = |share: f64| match share {
        0.0 => 0,
        share => ((share * count as f64).round() as u64).max(1),
    };
    let (for_test, for_both) = (taken(shares.test), taken(shares.test) + taken(shares.validation));
    if for_both >= count && for_both > 0 {
        return Err(DataError::Split(format!(
            "{count} document(s) ({}) are too few to hold {for_both} out. Give more documents, \
             name a validation file, or set boundary = \"contiguous\" to hold out the end of the \
             text",
            decision.reason,
        )));
    }
    if for_both > 0 {
        match shares.manner {
            ShareManner::Hash => by_hash(spool, &mut states, count, [for_test, for_both], seed)?,
            ShareManner::Tail => by_place(&mut states, [for_test, for_both]),
        }
    }
    let sentence = match (shares.manner, shares.validation > 0.0) {
        (_, false) => "held-out data from files of their own".into(),
        (ShareManner::Hash, true) => {
            format!("by document, by content hash with seed {seed}: {}", percent(shares))
        }
        (ShareManner::Tail, true) => format!("the last documents: {}", percent(shares)),
    };
    Ok(Splitted { states, sentence })
}

/// Up to so many documents the share is met exactly, by rank of their hash keys; above, memory
/// would grow with them and the keys' own spread is even enough (within 0.1% of the share).
const RANKED_MAX: u64 = 4 << 20;

/// Sends the documents with the lowest keys to test and the next ones to validation; `held_out`
/// counts test, and test with validation.
fn by_hash(
    spool: &Spool,
    states: &mut States,
    count: u64,
    held_out: [u64; 2],
    seed: u64,
) -> Result<(), DataError> {
    let key = |record: &Record| xxh3_64_with_seed(&record.hash.to_le_bytes(), seed);
    let mut keys = Vec::new();
    if count <= RANKED_MAX {
        spool.each_record(&mut |number, record| {
            if states.part(number) == Part::Train {
                keys.push(key(record));
            }
            Ok(())
        })?;
        keys.sort_unstable();
    }
    let [test, both] = held_out.map(|n| match n {
        0 => None,
        n if count <= RANKED_MAX => Some(keys[n as usize - 1]),
        n => Some((n as f64 / count as f64 * u64::MAX as f64) as u64),
    });
    spool.each_record(&mut |number, record| {
        if states.part(number) == Part::Train {
            let key = key(record);
            if test.is_some_and(|limit| key <= limit) {
                states.of[number as usize] = Part::Test as u8;
            } else if both.is_some_and(|limit| key <= limit) {
                states.of[number as usize] = Part::Validation as u8;
            }
        }
        Ok(())
    })
}

/// Sends the last documents to test and those before them to validation.
fn by_place(states: &mut States, [test, both]: [u64; 2]) {
    let train = states.of.iter_mut().rev().filter(|state| **state == Part::Train as u8);
    for (place, state) in train.enumerate().take(both as usize) {
        *state = if (place as u64) < test { Part::Test } else { Part::Validation } as u8;
    }
}

fn percent(shares: Shares) -> String {
    let mut words = format!("{:.4}% for validation", shares.validation * 100.0);
    if shares.test > 0.0 {
        words += &format!(", {:.4}% for test", shares.test * 100.0);
    }
    words.replace(".0000%", "%")
}

fn shares(
    decision: &Decision,
    validation: &ValidationSpec,
    test: Option<&ValidationSpec>,
) -> Result<Shares, DataError> {
    let one = |spec: &ValidationSpec| match spec {
        ValidationSpec::Paths(_) => (0.0, None),
        ValidationSpec::Share(share) => (*share, Some(ShareManner::Hash)),
        ValidationSpec::Tail(share) => (*share, Some(ShareManner::Tail)),
    };
    let ((v, v_manner), (t, t_manner)) = (one(validation), test.map_or((0.0, None), one));
    for (share, manner) in [(v, v_manner), (t, t_manner)] {
        if manner.is_some() && !(share > 0.0 && share < 1.0) {
            return Err(DataError::Split(format!(
                "a share of {share} cannot be held out. Expected a number above 0 and below 1, \
                 such as 0.1"
            )));
        }
    }
    if v + t >= 1.0 {
        return Err(DataError::Split(format!(
            "validation ({v}) and test ({t}) leave nothing to train on"
        )));
    }
    let mut manner = match (v_manner, t_manner) {
        (Some(a), Some(b)) if a != b => {
            let words = "validation and test must both be a share or both be a tail";
            return Err(DataError::Split(words.into()));
        }
        (a, b) => a.or(b).unwrap_or(ShareManner::Hash),
    };
    if decision.manner == Manner::Contiguous {
        manner = ShareManner::Tail;
    }
    Ok(Shares { validation: v, test: t, manner })
}

/// Cuts the training text by characters: first training, then validation, then test. The first
/// ⌊n·(1 − share)⌋ of n characters are for training, as in nanoGPT.
fn contiguous(
    spool: &mut Spool,
    part_of_input: &[Part],
    shares: Shares,
) -> Result<Splitted, DataError> {
    let mut records = Vec::new();
    let mut total = 0;
    spool.each_record(&mut |_, record| {
        records.push(*record);
        if part_of_input[record.input as usize] == Part::Train {
            total += record.characters;
        }
        Ok(())
    })?;
    let at = |share: f64| (total as f64 * share).floor() as u64;
    let cuts = [
        (at(1.0 - shares.validation - shares.test), Part::Train),
        (at(1.0 - shares.test), Part::Validation),
        (total, Part::Test),
    ];
    let (mut cut_records, mut of, mut position) = (Vec::new(), Vec::new(), 0);
    for record in &records {
        let part = part_of_input[record.input as usize];
        if part != Part::Train {
            cut_records.push(*record);
            of.push(part as u8);
            continue;
        }
        let mut rest = *record;
        for (end, part) in cuts {
            let wanted = end.saturating_sub(position).min(rest.characters);
            if wanted == 0 {
                continue;
            }
            let head = take(spool, &mut rest, wanted)?;
            cut_records.push(head);
            of.push(part as u8);
            position += wanted;
        }
    }
    for (share, part) in [(1.0, Part::Train), (shares.validation, Part::Validation)] {
        if share > 0.0 && !of.contains(&(part as u8)) {
            return Err(DataError::Split(format!(
                "{total} characters are too few: the {} part would be empty",
                PART_NAMES[part as usize]
            )));
        }
    }
    spool.replace_records(&cut_records)?;
    let sentence = format!("the end of the text, by characters: {}", percent(shares));
    Ok(Splitted { states: States { of }, sentence })
}

/// Splits the first `wanted` characters off `rest`.
fn take(spool: &Spool, rest: &mut Record, wanted: u64) -> Result<Record, DataError> {
    let mut head = *rest;
    if wanted < rest.characters {
        let (mut left, mut bytes, mut lines) = (wanted, 0u64, 0);
        while left > 0 {
            let length = (1u64 << 20).min(rest.bytes - bytes);
            let text = spool.text(rest.offset + bytes, length as usize)?;
            let count = characters(text.as_bytes());
            let end = if count <= left {
                text.len()
            } else {
                text.char_indices().nth(left as usize).map_or(text.len(), |(at, _)| at)
            };
            left -= count.min(left);
            bytes += end as u64;
            lines += text[..end].matches('\n').count() as u64;
        }
        head.bytes = bytes;
        head.characters = wanted;
        // The parts are documents of their own: no longer equal to the whole, nor to each other.
        head.hash = xxh3_64_with_seed(&rest.hash.to_le_bytes(), bytes);
        rest.hash = xxh3_64_with_seed(&rest.hash.to_le_bytes(), !bytes);
        rest.offset += bytes;
        rest.bytes -= bytes;
        rest.line += lines;
        rest.characters -= wanted;
    } else {
        rest.characters = 0;
    }
    Ok(head)
}
