//! Passages: every token of every document in one of them, framed, masked anew in every epoch.

use heldout_data::labelled::SpecialTokens;
use heldout_data::masking::{Masking, Unit};
use heldout_data::tokenizer::{Tokenizer, TokenizerKind};
use heldout_data::{
    Boundary, DuplicatePolicy, IGNORE, MaskedBatch, MaskedBatches, MaskedEvaluation, Passages,
    PrepareSpec, Prepared, Shuffle, TokenizerSpec, ValidationSpec, prepare,
};

/// Documents of the given lengths in characters that occur once each.
fn data(lengths: &[u32]) -> Prepared {
    let folder = tempfile::tempdir().unwrap();
    let mut next = 0x4e00;
    let mut text = |n: &u32| {
        next += n;
        (next - n..next).map(|c| char::from_u32(c).unwrap()).collect::<String>()
    };
    let texts: Vec<String> = lengths.iter().map(&mut text).collect();
    let (path, held_out) = (folder.path().join("a.txt"), folder.path().join("v.txt"));
    std::fs::write(&path, texts.join("\n")).unwrap();
    std::fs::write(&held_out, "\u{4e00}\u{4e01}\u{4e02}\n\u{4e03}\u{4e04}").unwrap();
    let tokenizer = TokenizerSpec::Train { kind: TokenizerKind::Char, vocabulary: 0 };
    let mut spec = PrepareSpec::new(&path.display().to_string(), tokenizer);
    spec.validation = ValidationSpec::Paths(vec![held_out.display().to_string()]);
    (spec.boundary, spec.duplicates) = (Boundary::Record, DuplicatePolicy::Report);
    spec.special_tokens = SpecialTokens::Encoder;
    prepare(&spec, &folder.path().join("cache"), &mut |_| {}).unwrap()
}

fn special(tokenizer: &Tokenizer, name: &str) -> u32 {
    let found = tokenizer.specials().iter().find(|(special, _)| special == name);
    found.unwrap_or_else(|| panic!("{name} in {:?}", tokenizer.specials())).1
}

fn masking(data: &Prepared) -> Masking {
    Masking::new(&data.tokenizer, 0.2, Unit::Token, 9).unwrap()
}

/// The text of each row as it was before it was masked, what is around it taken off.
fn unmasked(batch: &MaskedBatch, tokenizer: &Tokenizer) -> Vec<Vec<u32>> {
    let (cls, sep) = (special(tokenizer, "[CLS]"), special(tokenizer, "[SEP]"));
    let pad = special(tokenizer, "[PAD]");
    let rows = batch.ids.chunks(batch.seq_len).zip(batch.targets.chunks(batch.seq_len));
    rows.zip(&batch.lengths)
        .map(|((ids, targets), length)| {
            let end = *length as usize - 1;
            assert_eq!((ids[0], ids[end]), (cls, sep), "framed");
            assert!(ids[end + 1..].iter().all(|id| *id == pad), "padding behind");
            assert!(targets.iter().any(|target| *target != IGNORE), "something is to be told");
            let of = |at: usize| if targets[at] == IGNORE { ids[at] } else { targets[at] };
            (1..end).map(of).collect()
        })
        .collect()
}

#[test]
fn every_token_is_read_once_an_epoch_and_no_passage_crosses_documents() {
    let lengths = [7, 1, 300, 42, 13, 250, 20, 19, 18];
    let data = data(&lengths);
    let passages = Passages::new(&data.train, &data.tokenizer, 32).unwrap();
    // Of 30 tokens at most: 1 + 1 + 10 + 2 + 1 + 9 + 1 + 1 + 1.
    assert_eq!(passages.len(), 27);
    let batches = MaskedBatches::new(&passages, masking(&data), 4, 5, Shuffle::Yes).unwrap();
    assert_eq!(batches.steps_per_epoch(), 7);
    let mut orders = Vec::new();
    for epoch in 0..2 {
        let mut rows = Vec::new();
        for step in 7 * epoch..7 * (epoch + 1) {
            let batch = batches.batch_at(step);
            assert!(batch.seq_len <= 32 && batch.batch <= 4);
            rows.extend(unmasked(&batch, &data.tokenizer));
        }
        assert_eq!(rows.len(), 27);
        for row in &rows {
            assert!(row.windows(2).all(|pair| pair[1] == pair[0] + 1), "one document: {row:?}");
        }
        let mut all = rows.concat();
        orders.push(all.clone());
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len() as u32, lengths.iter().sum::<u32>());
    }
    assert_ne!(orders[0], orders[1], "a new order in every epoch");
}

#[test]
fn masks_are_drawn_anew_in_every_epoch_and_stay_for_evaluations() {
    let data = data(&[40; 6]);
    let passages = Passages::new(&data.train, &data.tokenizer, 64).unwrap();
    let batches = MaskedBatches::new(&passages, masking(&data), 6, 5, Shuffle::No).unwrap();
    let (one, other) = (batches.batch_at(0), batches.batch_at(1));
    assert_eq!(unmasked(&one, &data.tokenizer), unmasked(&other, &data.tokenizer));
    assert_ne!(one.targets, other.targets);
    assert_eq!(batches.batch_at(1), other, "a function of the step");
    assert_eq!((one.first_sequence, other.first_sequence, other.epoch), (0, 6, 1.0));

    let evaluation = MaskedEvaluation::new(&passages, masking(&data), None, 1);
    let all: Vec<MaskedBatch> = evaluation.batches(4).collect();
    assert_eq!(all.iter().map(|batch| batch.batch).collect::<Vec<_>>(), [4, 2]);
    assert_eq!(evaluation.batches(4).collect::<Vec<_>>(), all);
    let told = |size: usize| -> Vec<u32> {
        let targets = evaluation.batches(size).flat_map(|batch| batch.targets);
        targets.filter(|target| *target != IGNORE).collect()
    };
    assert_eq!(told(1), told(6), "masks do not depend on the batch");
    let sample = MaskedEvaluation::new(&passages, masking(&data), Some(3), 1);
    assert_eq!((sample.len(), evaluation.len()), (3, 6));
}

#[test]
fn a_trained_tokenizer_has_what_an_encoder_needs() {
    let data = data(&[40; 3]);
    let json: serde_json::Value = serde_json::from_str(data.tokenizer.to_json()).unwrap();
    assert_eq!(json["post_processor"]["type"], "TemplateProcessing");
    let config: serde_json::Value = serde_json::from_str(&data.tokenizer.config_json(64)).unwrap();
    assert_eq!((&config["mask_token"], &config["pad_token"]), (&"[MASK]".into(), &"[PAD]".into()));
    let tight = Passages::new(&data.train, &data.tokenizer, 2).unwrap_err().to_string();
    assert!(tight.contains("allow at least 3"), "{tight}");
}
