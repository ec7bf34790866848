//! Duplicates and leaks: found by hash and by similarity, reported with examples, removed by
//! policy.

mod near;
mod passages;
pub(crate) mod shingles;
mod spill;
#[cfg(test)]
mod tests;

use crate::boundary::Manner;
use crate::error::DataError;
use crate::facts::{DataFacts, Example, Origin};
use crate::prepare::{DuplicatePolicy, Progress};
use crate::split::{COPY, LEAKED, NEAR, PART_NAMES, Part, REMOVED, SHARED, States};
use crate::spool::{Record, Spool};
use spill::Spill;
use std::path::Path;

/// What to look for and what to do.
pub(crate) struct Compare {
    pub policy: DuplicatePolicy,
    pub held_out: HeldOut,
    pub manner: Manner,
}

/// Where held-out text is from: a file given by mistake is an error, a repetitive text is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeldOut {
    OwnFiles,
    FromTraining,
}

/// Examples gathered on the way.
pub(crate) struct Found {
    examples: Vec<Example>,
    exact: usize,
    near: usize,
}

/// Examples kept of each kind.
const EXAMPLES: usize = 8;
/// Held-out text of which this share lies in training text measures nothing.
const CONTAINED: f64 = 0.9;

impl Found {
    fn example(
        &mut self,
        spool: &Spool,
        kind: &str,
        documents: [u32; 2],
        similarity: f64,
    ) -> Result<(), DataError> {
        let count = if kind == "exact" { &mut self.exact } else { &mut self.near };
        if *count < EXAMPLES {
            *count += 1;
            let ([one, other], excerpt) = near::places(spool, documents)?;
            let kind = kind.to_string();
            self.examples.push(Example { kind, one, other, similarity, excerpt });
        }
        Ok(())
    }
}

/// Paths are filled in when the result is handed out.
fn origin_of(record: &Record) -> Origin {
    Origin { input: record.input, path: String::new(), line: record.line }
}

/// Finds, flags, counts and (by policy) removes.
///
/// # Errors
/// Held-out files that lie in the training text.
pub(crate) fn find(
    spool: &Spool,
    states: &mut States,
    compare: &Compare,
    scratch: &Path,
    facts: &mut DataFacts,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), DataError> {
    let mut found = Found { examples: Vec::new(), exact: 0, near: 0 };
    let mut spill = Spill::new(scratch);
    spool.each_record(&mut |number, record| spill.push(record.hash, number as u32))?;
    spill.each_group(&mut |group| {
        facts.exact_duplicates += group.len() as u64 - 1;
        flag_equal(group, states, spool, &mut found)
    })?;
    // The parts of one long text are no documents that could repeat each other; see the passages.
    if compare.manner == Manner::Documents {
        near::find_near(spool, states, scratch, &mut found, progress)?;
    }
    // A copy of a leaked document leaks as well.
    spill.each_group(&mut |group| {
        let train = |d: &&u32| states.part(u64::from(**d)) == Part::Train;
        let members: Vec<u32> = group.iter().filter(train).copied().collect();
        if members.iter().any(|d| states.has(u64::from(*d), LEAKED)) {
            members.iter().for_each(|d| states.set(u64::from(*d), LEAKED));
        }
        Ok(())
    })?;
    drop(spill);
    count_and_remove(states, compare.policy, facts);
    let shared = passages::find_passages(spool, states, progress)?;
    facts.shared_passages = shared.passages;
    facts.shared_passage_bytes = shared.bytes;
    facts.shared_passage_minimum = shared.minimum;
    facts.examples = found.examples;
    facts.examples.sort_by_key(|e| (e.kind != "exact", e.one.input, e.one.line, e.other.line));
    facts.examples.extend(shared.examples.into_iter().map(|e| Example {
        kind: "passage".into(),
        one: e.train,
        other: e.held_out,
        similarity: 1.0,
        excerpt: e.excerpt,
    }));
    let share = shared.bytes as f64 / shared.held_out_bytes.max(1) as f64;
    judge_passages(share, compare, facts)
}

/// Flags the documents of one group of equal ones.
fn flag_equal(
    group: &[u32],
    states: &mut States,
    spool: &Spool,
    found: &mut Found,
) -> Result<(), DataError> {
    let mut first = [None; 3];
    for document in group {
        let part = states.part(u64::from(*document)) as usize;
        match first[part] {
            None => first[part] = Some(*document),
            Some(earlier) => {
                states.set(u64::from(*document), COPY);
                found.example(spool, "exact", [earlier, *document], 1.0)?;
            }
        }
    }
    let [train, validation, test] = first;
    if let (Some(document), Some(held_out)) = (train, validation.or(test)) {
        found.example(spool, "exact", [document, held_out], 1.0)?;
        for document in group {
            if states.part(u64::from(*document)) == Part::Train {
                states.set(u64::from(*document), LEAKED);
            }
        }
    }
    if let (Some(document), Some(_)) = (validation, test) {
        states.set(u64::from(document), SHARED);
    }
    Ok(())
}

fn count_and_remove(states: &mut States, policy: DuplicatePolicy, facts: &mut DataFacts) {
    facts.near_duplicates =
        [Part::Train, Part::Validation, Part::Test].iter().map(|p| states.count(*p, NEAR)).sum();
    facts.leaked_documents = states.count(Part::Train, LEAKED);
    facts.leaked_validation_test = states.count(Part::Validation, SHARED);
    let flags = match policy {
        DuplicatePolicy::Report => 0,
        DuplicatePolicy::RemoveLeaks => LEAKED,
        DuplicatePolicy::RemoveAll => LEAKED | COPY | NEAR,
    };
    for number in 0..states.of.len() as u64 {
        if states.part(number) == Part::Train && states.has(number, flags) {
            states.set(number, REMOVED);
            if states.has(number, LEAKED) {
                facts.leaked_removed += 1;
            } else {
                facts.duplicates_removed += 1;
            }
        }
    }
    if facts.leaked_documents > 0 {
        let fate = match policy {
            DuplicatePolicy::Report => {
                "left in training as asked: the held-out loss comes out too low"
            }
            _ => "taken out of training",
        };
        facts.notices.push(format!(
            "{} training document(s) occur, or nearly occur, in held-out data: {fate}",
            facts.leaked_documents
        ));
    }
    if facts.leaked_validation_test > 0 {
        facts.notices.push(format!(
            "{} validation document(s) occur, or nearly occur, in test (nothing was removed)",
            facts.leaked_validation_test
        ));
    }
}

/// Says what shared passages mean, or refuses.
fn judge_passages(share: f64, compare: &Compare, facts: &mut DataFacts) -> Result<(), DataError> {
    if facts.shared_passages == 0 {
        return Ok(());
    }
    let mistake = compare.held_out == HeldOut::OwnFiles
        && compare.policy != DuplicatePolicy::Report
        && share >= CONTAINED;
    if mistake {
        return Err(DataError::Leak(format!(
            "{:.0}% of the {} text stands word for word in the training text: a model would be \
             measured on what it was trained on. Name other held-out files, or hold out a share \
             (validation = 0.1)",
            share * 100.0,
            PART_NAMES[1]
        )));
    }
    facts.notices.push(format!(
        "held-out and training text share {} passage(s) word for word ({:.2}% of the held-out \
         text; reported, not removed{})",
        facts.shared_passages,
        share * 100.0,
        if share >= CONTAINED { ": the held-out loss measures memory more than skill" } else { "" },
    ));
    Ok(())
}
