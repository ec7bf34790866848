//! Verbatim passages that training and held-out text share, found by winnowed fingerprints.
//!
//! Schleimer, Wilkerson, Aiken 2003 ("Winnowing: local algorithms for document fingerprinting"): of
//! the hashes of every K-byte window, the least in each run of W is kept, so any two texts that
//! share K + W − 1 bytes share a fingerprint. The held-out fingerprints are held in memory (W grows
//! with the held-out text so that they stay few), the training text streams past them, and each
//! meeting is verified byte by byte.

use crate::error::DataError;
use crate::facts::Origin;
use crate::fast_hash::FastMap;
use crate::prepare::Progress;
use crate::split::{Part, REMOVED, States};
use crate::spool::{Record, Spool};

/// K, in bytes.
const WINDOW: usize = 64;
/// Least W.
const RUN_MIN: usize = 64;
/// Most held-out fingerprints kept.
const FINGERPRINTS_MAX: u64 = 2 << 20;
/// Passages verified; more are counted as found without measuring them.
const VERIFIED_MAX: usize = 50_000;
/// A passage of fewer distinct bytes is a ruler or a blank, not text.
const DISTINCT_MIN: usize = 12;
/// Bytes between two reports of progress.
const REPORT_EACH: u64 = 64 << 20;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// What the two sides share.
pub(crate) struct Shared {
    pub passages: u64,
    /// Bytes of held-out text inside shared passages.
    pub bytes: u64,
    pub held_out_bytes: u64,
    /// Every shared passage of at least so many bytes is found.
    pub minimum: u64,
    pub examples: Vec<SharedExample>,
}

/// One shared passage, for the report.
pub(crate) struct SharedExample {
    pub train: Origin,
    pub held_out: Origin,
    pub excerpt: String,
}

/// The rolling hash of the last K bytes and the winnow over it, for one document at a time.
struct Winnow {
    hash: u64,
    /// FACTOR^K, to take the oldest byte out again.
    out: u64,
    recent: [u8; WINDOW],
    /// The last W hashes, by position modulo W.
    ring: Vec<u64>,
    position: u64,
    least: (u64, u64),
}

impl Winnow {
    fn new(run: usize) -> Self {
        let out = (0..WINDOW).fold(1u64, |power, _| power.wrapping_mul(FACTOR));
        let ring = vec![u64::MAX; run];
        let least = (u64::MAX, u64::MAX);
        Winnow { hash: 0, out, recent: [0; WINDOW], ring, position: 0, least }
    }

    fn restart(&mut self) {
        (self.hash, self.position, self.least) = (0, 0, (u64::MAX, u64::MAX));
        self.recent = [0; WINDOW];
        self.ring.fill(u64::MAX);
    }

    /// Takes the bytes that follow; calls `keep(hash, start of the window in the document)`.
    fn feed(&mut self, bytes: &[u8], keep: &mut dyn FnMut(u64, u64)) {
        let run = self.ring.len() as u64;
        for byte in bytes {
            let slot = (self.position % WINDOW as u64) as usize;
            let old = std::mem::replace(&mut self.recent[slot], *byte);
            self.hash =
                self.hash.wrapping_mul(FACTOR).wrapping_add(u64::from(*byte) + 1).wrapping_sub(
                    if self.position >= WINDOW as u64 {
                        (u64::from(old) + 1).wrapping_mul(self.out)
                    } else {
                        0
                    },
                );
            self.position += 1;
            if self.position < WINDOW as u64 {
                continue;
            }
            let start = self.position - WINDOW as u64;
            // The high bits of the product are the well mixed ones.
            let value = (self.hash ^ (self.hash >> 32)).wrapping_mul(FACTOR);
            self.ring[(start % run) as usize] = value;
            if value <= self.least.0 {
                self.least = (value, start);
                keep(value, start);
            } else if self.least.1 + run <= start {
                self.least = self.least_of(start);
                keep(self.least.0, self.least.1);
            }
        }
    }

    /// The least of the last W hashes; of equal ones the last.
    fn least_of(&self, start: u64) -> (u64, u64) {
        let run = self.ring.len() as u64;
        let first = start.saturating_sub(run - 1);
        let mut least = (u64::MAX, start);
        for at in first..=start {
            let value = self.ring[(at % run) as usize];
            if value <= least.0 {
                least = (value, at);
            }
        }
        least
    }
}

/// A held-out fingerprint: where it is, and where training has it too.
#[derive(Clone, Copy)]
struct Mark {
    hash: u64,
    /// In the spool.
    at: u64,
    train: Option<u64>,
}

/// Looks for passages shared by training (what is not removed) and held-out text.
pub(crate) fn find_passages(
    spool: &Spool,
    states: &States,
    progress: &mut dyn FnMut(Progress),
) -> Result<Shared, DataError> {
    let held_out = |number: u64| states.part(number) != Part::Train;
    let trains = |number: u64| !held_out(number) && !states.has(number, REMOVED);
    let mut held_out_bytes = 0;
    spool.each_record(&mut |number, record| {
        held_out_bytes += if held_out(number) { record.bytes } else { 0 };
        Ok(())
    })?;
    let run = RUN_MIN.max((2 * held_out_bytes).div_ceil(FINGERPRINTS_MAX) as usize);
    let minimum = (WINDOW + run - 1) as u64;
    let mut marks: Vec<Mark> = Vec::new();
    let total = spool.bytes()?;
    each_fingerprint(spool, &held_out, run, &mut |hash, at| {
        marks.push(Mark { hash, at, train: None });
    })?;
    // Equal fingerprints form a chain through `marks`, so that every place is marked when one
    // meets.
    let mut first: FastMap<u64, u32> = FastMap::default();
    let mut next = vec![u32::MAX; marks.len()];
    for (number, mark) in marks.iter().enumerate() {
        if let Some(older) = first.insert(mark.hash, number as u32) {
            next[number] = older;
        }
    }
    let mut meetings: FastMap<u64, u64> = FastMap::default();
    let mut reported = 0;
    each_fingerprint(spool, &trains, run, &mut |hash, at| {
        if first.contains_key(&hash) {
            meetings.entry(hash).or_insert(at);
        }
        if at >= reported + REPORT_EACH {
            reported = at;
            progress(Progress::Comparing { done: at, total });
        }
    })?;
    for (hash, at) in &meetings {
        let mut number = first[hash];
        while number != u32::MAX {
            marks[number as usize].train = Some(*at);
            number = next[number as usize];
        }
    }
    let mut shared =
        Shared { passages: 0, bytes: 0, held_out_bytes, minimum, examples: Vec::new() };
    measure(spool, &marks, &mut shared)?;
    Ok(shared)
}

/// Winnows every document that `wanted` names; gives places in the spool.
fn each_fingerprint(
    spool: &Spool,
    wanted: &dyn Fn(u64) -> bool,
    run: usize,
    keep: &mut dyn FnMut(u64, u64),
) -> Result<(), DataError> {
    let mut winnow = Winnow::new(run);
    spool.each_record(&mut |number, record| {
        if !wanted(number) || record.bytes < WINDOW as u64 {
            return Ok(());
        }
        winnow.restart();
        let start = record.offset;
        each_block(spool, record, &mut |_, bytes| {
            winnow.feed(bytes, &mut |hash, at| keep(hash, start + at));
        })
    })
}

/// The bytes of a record in blocks of 1 MiB, with their place in the spool.
fn each_block(
    spool: &Spool,
    record: &Record,
    visit: &mut dyn FnMut(u64, &[u8]),
) -> Result<(), DataError> {
    let (mut at, end) = (record.offset, record.offset + record.bytes);
    while at < end {
        let bytes = spool.bytes_at(at, (end - at).min(1 << 20) as usize)?;
        visit(at, &bytes);
        at += bytes.len() as u64;
    }
    Ok(())
}

/// Start and end in the spool of the document that holds `at`.
fn span(spool: &Spool, at: u64) -> Result<(u64, u64), DataError> {
    let (mut low, mut high) = (0, spool.documents);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if spool.record(middle)?.offset <= at {
            low = middle;
        } else {
            high = middle;
        }
    }
    let record = spool.record(low)?;
    Ok((record.offset, record.offset + record.bytes))
}

/// Verifies the meetings in held-out order and sums up the passages.
fn measure(spool: &Spool, marks: &[Mark], shared: &mut Shared) -> Result<(), DataError> {
    let mut covered = 0;
    let mut places = Vec::new();
    for mark in marks {
        let Some(train) = mark.train.filter(|_| mark.at >= covered) else { continue };
        if shared.passages as usize >= VERIFIED_MAX {
            shared.passages += 1;
            shared.bytes += WINDOW as u64;
            covered = mark.at + WINDOW as u64;
            continue;
        }
        let Some((before, after)) = extend(spool, mark.at, train)? else { continue };
        let start = (mark.at - before).max(covered);
        covered = mark.at + after;
        let length = covered - start;
        if length < 100 {
            continue;
        }
        shared.passages += 1;
        shared.bytes += length;
        // Named by its first text, not by the line break before it.
        let head = spool.bytes_at(start, 32)?;
        let blank = head.iter().take_while(|b| b.is_ascii_whitespace()).count() as u64;
        places.push((length - blank, start + blank, train + start + blank - mark.at));
    }
    places.sort_unstable_by_key(|(length, at, _)| (u64::MAX - length, *at));
    places.truncate(5);
    describe(spool, &places, shared)
}

/// How far two places agree: bytes before the first, and bytes from it on; `None` for a chance
/// meeting of hashes or a passage without text.
fn extend(spool: &Spool, one: u64, other: u64) -> Result<Option<(u64, u64)>, DataError> {
    const STEP: u64 = 4096;
    let (a, b) = (span(spool, one)?, span(spool, other)?);
    let (room_before, room_after) = ((one - a.0).min(other - b.0), (a.1 - one).min(b.1 - other));
    let mut after = 0;
    loop {
        let step = STEP.min(room_after - after);
        let left = spool.bytes_at(one + after, step as usize)?;
        let right = spool.bytes_at(other + after, step as usize)?;
        let same = left.iter().zip(&right).take_while(|(x, y)| x == y).count() as u64;
        if after == 0 {
            let mut seen = [false; 256];
            left[..same as usize].iter().for_each(|byte| seen[usize::from(*byte)] = true);
            if same < WINDOW as u64 || seen.iter().filter(|s| **s).count() < DISTINCT_MIN {
                return Ok(None);
            }
        }
        after += same;
        if same < step || after == room_after {
            break;
        }
    }
    let mut before = 0;
    while before < room_before {
        let step = STEP.min(room_before - before);
        let left = spool.bytes_at(one - before - step, step as usize)?;
        let right = spool.bytes_at(other - before - step, step as usize)?;
        let pairs = left.iter().rev().zip(right.iter().rev());
        let same = pairs.take_while(|(x, y)| x == y).count() as u64;
        before += same;
        if same < step {
            break;
        }
    }
    Ok(Some((before, after)))
}

/// Finds the lines of the longest passages in one pass over the text.
fn describe(
    spool: &Spool,
    places: &[(u64, u64, u64)],
    shared: &mut Shared,
) -> Result<(), DataError> {
    let mut wanted: Vec<u64> = places.iter().flat_map(|(_, one, other)| [*one, *other]).collect();
    wanted.sort_unstable();
    let mut lines: FastMap<u64, Origin> = FastMap::default();
    spool.each_record(&mut |_, record| {
        let end = record.offset + record.bytes;
        let inside: Vec<u64> =
            wanted.iter().copied().filter(|at| (record.offset..end).contains(at)).collect();
        let Some(last) = inside.last() else { return Ok(()) };
        let (mut line, mut next) = (record.line, 0);
        let part = Record { bytes: last + 1 - record.offset, ..*record };
        each_block(spool, &part, &mut |start, bytes| {
            for (i, byte) in bytes.iter().enumerate() {
                while next < inside.len() && inside[next] == start + i as u64 {
                    let path = String::new();
                    lines.insert(inside[next], Origin { input: record.input, path, line });
                    next += 1;
                }
                line += u64::from(*byte == b'\n');
            }
        })
    })?;
    for (length, held_out, train) in places {
        let bytes = spool.bytes_at(*held_out, (*length).min(400) as usize)?;
        let text = String::from_utf8_lossy(&bytes).replace('\u{fffd}', "");
        let words: Vec<&str> = text.split_whitespace().collect();
        shared.examples.push(SharedExample {
            train: lines[train].clone(),
            held_out: lines[held_out].clone(),
            excerpt: words.join(" ").chars().take(80).collect(),
        });
    }
    Ok(())
}
