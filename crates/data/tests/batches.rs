//! Batches and evaluation windows: every token once an epoch, the same at any step, however cut.

use heldout_data::tokenizer::TokenizerKind;
use heldout_data::{
    Batch, BatchPlan, BatchSize, Batches, Boundary, DuplicatePolicy, EvaluationWindows, IGNORE,
    Prefetch, PrepareSpec, Prepared, Shuffle, TokenizerSpec, ValidationSpec, prepare,
};
use std::collections::HashMap;
use std::sync::Arc;

/// Documents of the given lengths whose bytes tell their place, or one text.
fn data(lengths: &[usize], boundary: Boundary) -> Prepared {
    let folder = tempfile::tempdir().unwrap();
    let mut next = 0u32;
    let texts: Vec<String> = lengths
        .iter()
        .map(|n| {
            // Two letters a position would not be unique; characters of their own are.
            let text = (0..*n).map(|i| char::from_u32(0x4e00 + next + i as u32).unwrap()).collect();
            next += *n as u32;
            text
        })
        .collect();
    let (path, held_out) = (folder.path().join("a.txt"), folder.path().join("v.txt"));
    std::fs::write(&path, texts.join("\n")).unwrap();
    std::fs::write(&held_out, "\u{4e00}\u{4e01}x").unwrap();
    let tokenizer = TokenizerSpec::Train { kind: TokenizerKind::Char, vocabulary: 0 };
    let mut spec = PrepareSpec::new(&path.display().to_string(), tokenizer);
    spec.validation = ValidationSpec::Paths(vec![held_out.display().to_string()]);
    (spec.boundary, spec.duplicates) = (boundary, DuplicatePolicy::Report);
    prepare(&spec, &folder.path().join("cache"), &mut |_| {}).unwrap()
}

fn plan(seq_len: usize, batch: BatchSize, shuffle: Shuffle) -> BatchPlan {
    BatchPlan { seq_len, batch, seed: 5, shuffle }
}

fn rows(batch: &Batch) -> Vec<(Vec<u32>, Vec<u32>)> {
    let (ids, targets) = (batch.ids.chunks(batch.seq_len), batch.targets.chunks(batch.seq_len));
    ids.zip(targets).map(|(a, b)| (a.to_vec(), b.to_vec())).collect()
}

#[test]
fn every_token_is_a_target_once_an_epoch() {
    for lengths in [vec![1000], vec![7, 1, 300, 42, 13, 250], vec![64; 5]] {
        let boundary = if lengths.len() == 1 { Boundary::Contiguous } else { Boundary::Record };
        let data = data(&lengths, boundary);
        let eos = data.tokenizer.eos();
        for (seq_len, shuffle) in [(16, Shuffle::Yes), (17, Shuffle::Yes), (16, Shuffle::No)] {
            let plan = plan(seq_len, BatchSize::Sequences(1), shuffle);
            let batches = Batches::new(&data.train, plan, eos).unwrap();
            let mut orders = Vec::new();
            for epoch in 0..3 {
                let mut counts: HashMap<u32, u32> = HashMap::new();
                let mut order = Vec::new();
                for step in 0..batches.windows_per_epoch() {
                    let batch = batches.batch_at(epoch * batches.windows_per_epoch() + step);
                    for (id, target) in batch.ids.iter().zip(&batch.targets) {
                        if *target != IGNORE {
                            *counts.entry(*target).or_default() += 1;
                            // Within a document the next token is the next character.
                            if Some(*target) != eos && Some(*id) != eos {
                                assert_eq!(*target, id + 1);
                            }
                        }
                    }
                    order.extend(batch.ids);
                }
                assert_eq!(
                    counts.values().map(|n| u64::from(*n)).sum::<u64>(),
                    batches.targets_per_epoch()
                );
                let total: usize = lengths.iter().sum();
                match eos {
                    Some(eos) => {
                        assert_eq!(counts.remove(&eos), Some(lengths.len() as u32));
                        assert_eq!(counts.len(), total);
                    }
                    None => assert_eq!(counts.len(), total - 1),
                }
                assert!(counts.values().all(|n| *n == 1));
                orders.push(order);
            }
            assert_eq!(orders[0] == orders[1], shuffle == Shuffle::No);
        }
    }
}

#[test]
fn a_batch_is_a_function_of_its_step_however_it_is_cut_or_reached() {
    let data = data(&[7, 1, 300, 42, 13, 250], Boundary::Record);
    let eos = data.tokenizer.eos();
    let new = || {
        let plan = plan(16, BatchSize::Sequences(6), Shuffle::Yes);
        Batches::new(&data.train, plan, eos).unwrap()
    };
    let batches = new();
    let expected: Vec<Batch> = (0..30).map(|step| batches.batch_at(step)).collect();
    for step in [29, 3, 17, 0, 18] {
        assert_eq!(new().batch_at(step), expected[step as usize]);
    }
    for (step, whole) in expected.iter().enumerate() {
        let parts = [0..1, 1..4, 4..6].map(|r| batches.batch_rows(step as u64, r));
        assert_eq!(parts.iter().flat_map(rows).collect::<Vec<_>>(), rows(whole));
        assert_eq!(
            parts.each_ref().map(|p| p.first_sequence),
            [0, 1, 4].map(|i| step as u64 * 6 + i)
        );
        assert_eq!(whole.epoch, step as f64 * 6.0 / batches.windows_per_epoch() as f64);
    }
    let behind = new();
    let mut prefetch = Prefetch::new(Arc::new(move |step| behind.batch_at(step)), 3);
    for step in (0..10).chain(4..8).chain([20, 3]) {
        assert_eq!(prefetch.batch_at(step), expected[step as usize]);
    }
}

#[test]
fn full_and_stochastic_batches() {
    let data = data(&[500], Boundary::Contiguous);
    let new = |batch| Batches::new(&data.train, plan(16, batch, Shuffle::Yes), None).unwrap();
    let full = new(BatchSize::Full);
    assert_eq!((full.rows(), full.steps_per_epoch()), (32, 1.0));
    assert_eq!(full.batch_at(2).target_count(), 499);
    let one = new(BatchSize::Sequences(1));
    assert_eq!((one.steps_per_epoch(), one.steps_for_epochs(2.5)), (32.0, 80));
    // The same epoch, one row at a time.
    let single: Vec<_> = (64..96).flat_map(|step| rows(&one.batch_at(step))).collect();
    assert_eq!(single, rows(&full.batch_at(2)));
}

#[test]
fn evaluation_scores_each_target_once() {
    let data = data(&[7, 1, 300, 42, 13, 250], Boundary::Record);
    let all = EvaluationWindows::whole(&data.train, 16).unwrap();
    let stored = data.train.tokens(0..data.train.len());
    for size in [1, 5, 1000] {
        let targets: Vec<u32> =
            all.batches(size).flat_map(|b| b.targets).filter(|t| *t != IGNORE).collect();
        assert_eq!(targets, stored[1..]);
    }
    assert_eq!(all.targets(), stored.len() as u64 - 1);
    let sample = EvaluationWindows::sample(&data.train, 16, 10, 3).unwrap();
    assert_eq!(sample.len(), 10);
    let whole: Vec<_> = all.batches(1).collect();
    for row in sample.batches(1) {
        assert!(whole.iter().any(|w| w.ids == row.ids && w.targets == row.targets));
    }
    let targets: u64 = sample.batches(4).map(|b| b.target_count()).sum();
    assert_eq!(targets, sample.targets());
    let again = EvaluationWindows::sample(&data.train, 16, 10, 3).unwrap();
    assert_eq!(sample.batch(0..10), again.batch(0..10));
    let other = EvaluationWindows::sample(&data.train, 16, 10, 4).unwrap();
    assert_ne!(sample.batch(0..10), other.batch(0..10));
    assert_eq!(EvaluationWindows::sample(&data.train, 16, 1000, 3).unwrap().len(), all.len());
    // A split shorter than a window is padded.
    let short = EvaluationWindows::whole(&data.validation, 64).unwrap();
    assert_eq!((short.len(), short.targets()), (1, data.validation.len() - 1));
}

#[test]
fn a_text_shorter_than_the_context_is_an_error() {
    let data = data(&[20], Boundary::Contiguous);
    let plan = plan(64, BatchSize::Sequences(1), Shuffle::Yes);
    let error = Batches::new(&data.train, plan, None).err().unwrap().to_string();
    assert_eq!(
        error,
        "the training split has 20 tokens, fewer than one sequence of 64 and its next token (65). \
         Give more text, or set a shorter sequence length (context)"
    );
    let plan = BatchPlan { seq_len: 0, ..plan };
    assert!(Batches::new(&data.train, plan, None).is_err());
}
