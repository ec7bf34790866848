//! Near-duplicates: candidates by signature, verified by the Jaccard index of their word 5-grams.

use super::shingles::{SIMILAR, band_keys, jaccard, shingles};
use super::spill::Spill;
use super::{Found, origin_of};
use crate::error::DataError;
use crate::fast_hash::FastMap;
use crate::prepare::Progress;
use crate::split::{COPY, LEAKED, NEAR, Part, SHARED, States};
use crate::spool::{Record, Spool};
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// Longer documents are compared by their first so many bytes.
const COMPARED_MAX: u64 = 8 << 20;
/// Text whose signatures are computed at once, in bytes.
const BATCH: u64 = 16 << 20;
/// Documents of one candidate group that another is compared with.
const LEADERS: usize = 32;
/// Shingles kept for documents compared again, in all.
const KEPT: usize = 4 << 20;
/// Pairs remembered as unlike.
const UNLIKE: usize = 1 << 20;

/// Flags near-duplicates within splits and leaks across them.
pub(crate) fn find_near(
    spool: &Spool,
    states: &mut States,
    scratch: &Path,
    found: &mut Found,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DataError> {
    let mut spill = Spill::new(scratch);
    sign(spool, states, &mut spill, progress)?;
    let mut judge =
        Judge { spool, kept: FastMap::default(), kept_shingles: 0, unlike: FastMap::default() };
    spill.each_group(&mut |group| judge_group(group, states, &mut judge, found))
}

/// Signs every document that does not equal an earlier one of its split.
fn sign(
    spool: &Spool,
    states: &States,
    spill: &mut Spill,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DataError> {
    let (mut batch, mut bytes, mut done, total) = (Vec::new(), 0, 0, spool.bytes()?);
    spool.each_record(&mut |number, record| {
        if states.has(number, COPY) {
            return Ok(());
        }
        batch.push((number as u32, compared_text(spool, record)?));
        bytes += record.bytes;
        if bytes >= BATCH {
            sign_batch(&batch, spill)?;
            done += bytes;
            progress(Progress::Comparing { done, total });
            batch.clear();
            bytes = 0;
        }
        Ok(())
    })?;
    sign_batch(&batch, spill)
}

fn compared_text(spool: &Spool, record: &Record) -> Result<String, DataError> {
    spool.text(record.offset, record.bytes.min(COMPARED_MAX) as usize)
}

fn sign_batch(batch: &[(u32, String)], spill: &mut Spill) -> Result<(), DataError> {
    let keys: Vec<_> =
        batch.par_iter().with_min_len(16).map(|(_, text)| band_keys(&shingles(text))).collect();
    for ((document, _), keys) in batch.iter().zip(keys) {
        for key in keys {
            spill.push(key, *document)?;
        }
    }
    Ok(())
}

/// Compares documents, remembering a little.
struct Judge<'a> {
    spool: &'a Spool,
    kept: FastMap<u32, Arc<Vec<u64>>>,
    kept_shingles: usize,
    unlike: FastMap<(u32, u32), ()>,
}

impl Judge<'_> {
    fn shingles(&mut self, document: u32) -> Result<Arc<Vec<u64>>, DataError> {
        if let Some(known) = self.kept.get(&document) {
            return Ok(known.clone());
        }
        let record = self.spool.record(u64::from(document))?;
        let set = Arc::new(shingles(&compared_text(self.spool, &record)?));
        if self.kept_shingles > KEPT {
            self.kept.clear();
            self.kept_shingles = 0;
        }
        self.kept_shingles += set.len();
        self.kept.insert(document, set.clone());
        Ok(set)
    }

    /// The similarity, if it reaches the threshold.
    fn similar(&mut self, one: u32, other: u32) -> Result<Option<f64>, DataError> {
        if self.unlike.contains_key(&(one, other)) {
            return Ok(None);
        }
        let similarity = jaccard(&self.shingles(one)?, &self.shingles(other)?);
        if similarity >= SIMILAR {
            return Ok(Some(similarity));
        }
        if self.unlike.len() >= UNLIKE {
            self.unlike.clear();
        }
        self.unlike.insert((one, other), ());
        Ok(None)
    }
}

/// Judges the documents that share one band key.
fn judge_group(
    group: &[u32],
    states: &mut States,
    judge: &mut Judge,
    found: &mut Found,
) -> Result<(), DataError> {
    let of = |part: Part, states: &States| -> Vec<u32> {
        group.iter().copied().filter(|d| states.part(u64::from(*d)) == part).collect()
    };
    let parts = [Part::Train, Part::Validation, Part::Test].map(|part| of(part, states));
    let [train, validation, test] = &parts;
    let held_out: Vec<u32> = validation.iter().chain(test).copied().take(LEADERS).collect();
    for (documents, against, flag) in [
        (train, &held_out, LEAKED),
        (validation, &test[..test.len().min(LEADERS)].to_vec(), SHARED),
    ] {
        for document in documents {
            if states.has(u64::from(*document), flag) {
                continue;
            }
            for other in against {
                if let Some(similarity) = judge.similar(*document, *other)? {
                    states.set(u64::from(*document), flag);
                    found.example(judge.spool, "near", [*document, *other], similarity)?;
                    break;
                }
            }
        }
    }
    for documents in &parts {
        within(documents, states, judge, found)?;
    }
    Ok(())
}

/// Flags the documents of one split that resemble an earlier one in the group.
fn within(
    documents: &[u32],
    states: &mut States,
    judge: &mut Judge,
    found: &mut Found,
) -> Result<(), DataError> {
    let mut leaders: Vec<u32> = Vec::new();
    'documents: for document in documents {
        for leader in &leaders {
            if states.has(u64::from(*document), NEAR) {
                continue 'documents;
            }
            if let Some(similarity) = judge.similar(*leader, *document)? {
                states.set(u64::from(*document), NEAR);
                found.example(judge.spool, "near", [*leader, *document], similarity)?;
                continue 'documents;
            }
        }
        if leaders.len() < LEADERS {
            leaders.push(*document);
        }
    }
    Ok(())
}

/// Kept for the examples of exact copies too.
pub(crate) fn excerpt(spool: &Spool, record: &Record) -> Result<String, DataError> {
    let text = spool.text(record.offset, record.bytes.min(400) as usize)?;
    let words: Vec<&str> = text.split_whitespace().collect();
    Ok(words.join(" ").chars().take(80).collect())
}

/// Both places of an example.
pub(crate) fn places(
    spool: &Spool,
    documents: [u32; 2],
) -> Result<([crate::facts::Origin; 2], String), DataError> {
    let one = spool.record(u64::from(documents[0]))?;
    let other = spool.record(u64::from(documents[1]))?;
    Ok(([origin_of(&one), origin_of(&other)], excerpt(spool, &one)?))
}
