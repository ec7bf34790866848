//! Predictable tokens against the definition, written down directly.

use heldout_base::rng::{Random, streams};
use heldout_data::ngram::{NgramCounts, Predictable};
use heldout_data::tokenizer::TokenizerKind;
use heldout_data::{
    BatchPlan, BatchSize, Batches, Boundary, IGNORE, PrepareSpec, Prepared, Shuffle, TokenizerSpec,
    ValidationSpec, prepare,
};

/// Words whose ends follow from their beginnings, and beginnings that follow from nothing.
fn words(count: u64) -> String {
    const WORDS: [&str; 9] =
        ["apple", "banjo", "candle", "dragon", "ember", "fiddle", "garden", "hollow", "igloo"];
    let random = Random::new(1, streams::TEST, 0);
    let word = |i| format!("{} ", WORDS[random.below(i, 9) as usize]);
    (0..count).map(word).collect()
}

fn prepared(text: &str, boundary: Boundary) -> Prepared {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("a.txt"), text).unwrap();
    std::fs::write(path("v.txt"), "apple banjo candle").unwrap();
    let tokenizer = TokenizerSpec::Train { kind: TokenizerKind::Char, vocabulary: 0 };
    let mut spec = PrepareSpec::new(&path("a.txt"), tokenizer);
    spec.validation = ValidationSpec::Paths(vec![path("v.txt")]);
    spec.boundary = boundary;
    prepare(&spec, &folder.path().join("cache"), &mut |_| {}).unwrap()
}

/// −ln p of every token but the first by a model of the other half, in one piece.
fn losses(data: &Prepared) -> Vec<f32> {
    let (store, eos) = (&data.train, data.tokenizer.eos());
    let (all, middle) = (store.tokens(0..store.len()), store.len() as usize / 2);
    let mut found = vec![0.0; all.len()];
    for (counted, scored) in [(&all[middle..], 1..middle), (&all[..middle], middle..all.len())] {
        let mut counts = NgramCounts::new(store.vocabulary() as u32, eos, 6, 1 << 24);
        counts.append(counted);
        counts.estimate().losses(&[6], &all[..all.len() - 1], &all[1..], |_, losses| {
            found[scored.clone()].copy_from_slice(&losses[scored.start - 1..scored.end - 1]);
        });
    }
    found
}

#[test]
fn the_share_with_the_lowest_loss_under_the_other_half_is_marked() {
    // Several of the stretches that are read at a time.
    let data = prepared(&words(30_000), Boundary::Contiguous);
    let (losses, total) = (losses(&data), data.train.len());
    assert!(total > 150_000);
    for share in [0.2, 0.5] {
        let found = Predictable::find(&data.train, None, share);
        assert_eq!(found, Predictable::find(&data.train, None, share));
        assert!((found.share - share).abs() <= 0.5 / total as f64 + 1e-12, "{}", found.share);
        assert!(!found.is_marked(0), "nothing stands before it");
        let marks = &found;
        let of = |mark: bool| (1..total).filter(move |at| marks.is_marked(*at) == mark);
        let loss = |at: u64| losses[at as usize];
        let highest = of(true).map(loss).fold(0.0, f32::max);
        let lowest = of(false).map(loss).fold(f32::MAX, f32::min);
        // Measures are kept in steps of 1/4096 nat.
        assert!(highest <= lowest + 1.5 / 4096.0, "{share}: {highest} {lowest}");
        let mean = |mark: bool| of(mark).map(|at| f64::from(loss(at))).sum::<f64>();
        let marked = mean(true) / of(true).count() as f64;
        assert!((found.loss_marked - marked).abs() < 1e-3, "{} {marked}", found.loss_marked);
        assert!(found.loss_marked < 0.1 && found.loss_others > 0.4, "{found:?}");
    }
}

#[test]
fn marks_go_with_their_tokens_into_every_batch() {
    let text = words(300).replace("garden ", "garden\n\n");
    let data = prepared(&text, Boundary::BlankLine);
    let eos = data.tokenizer.eos();
    assert!(eos.is_some() && data.train.documents() > 10);
    let found = Predictable::find(&data.train, eos, 0.4);
    for (seq_len, shuffle) in [(16, Shuffle::Yes), (17, Shuffle::No)] {
        let plan = BatchPlan { seq_len, batch: BatchSize::Sequences(3), seed: 5, shuffle };
        let plain = Batches::new(&data.train, plan, eos).unwrap();
        assert_eq!(plain.marks(0, 3), None);
        let batches = Batches::new(&data.train, plan, eos).unwrap().marking(found.clone());
        let places = data.train.len();
        let (mut marked, mut steps) = (0, 0);
        while (steps + 1) * 3 <= batches.windows_per_epoch() {
            let batch = batches.batch_at(steps);
            assert_eq!(batch, plain.batch_at(steps));
            let marks = batches.marks(batch.first_sequence, 3).unwrap();
            // All rows at once or one by one.
            let one = batches.marks(batch.first_sequence + 2, 1).unwrap();
            assert_eq!(marks[2 * seq_len..], one);
            marked += marks.iter().sum::<u32>();
            // A stretch of tokens that stands once in the text has the marks of that place.
            let rows = batch.ids.chunks(seq_len).zip(marks.chunks(seq_len));
            for (ids, marks) in rows.take(if batch.targets.contains(&IGNORE) { 0 } else { 3 }) {
                let is_there = |at: &u64| data.train.tokens(*at..at + seq_len as u64) == ids;
                let at: Vec<u64> = (0..places - seq_len as u64).filter(is_there).collect();
                // Where two documents meet, the same tokens may stand elsewhere, too.
                let is_whole = !ids[..seq_len - 1].contains(&eos.unwrap());
                if let ([at], true) = (&at[..], is_whole) {
                    let expected = |i| u32::from(found.is_marked(at + i));
                    let expected: Vec<u32> = (0..seq_len as u64).map(expected).collect();
                    assert_eq!(marks, expected);
                }
            }
            steps += 1;
        }
        // Nearly an epoch: nearly every mark once.
        let share = f64::from(marked) / (steps as f64 * 3.0 * seq_len as f64);
        assert!((share - 0.4).abs() < 0.02, "{share}");
    }
}
