//! Pairs of texts from files to batches: aligned files, records, splits, leaks, batches, errors.

use heldout_data::labelled::{Bucketing, LabelledPlan};
use heldout_data::pairs::*;
use heldout_data::tokenizer::{Tokenizer, TokenizerKind};
use heldout_data::{DuplicatePolicy, IGNORE, TokenizerSpec, ValidationSpec};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn spec(train: &[&Path]) -> PairSpec {
    PairSpec {
        train: train.iter().map(|path| path.display().to_string()).collect(),
        validation: ValidationSpec::Share(0.1),
        test: None,
        fields: SideNames::default(),
        tokenizer: TokenizerSpec::Train { kind: TokenizerKind::Byte, vocabulary: 0 },
        max_length: 64,
        limit: None,
        duplicates: DuplicatePolicy::RemoveLeaks,
        seed: 1,
    }
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn records(&self, name: &str, records: impl IntoIterator<Item = Value>) -> PathBuf {
        let lines: String = records.into_iter().map(|record| format!("{record}\n")).collect();
        self.write(name, lines)
    }
}

/// Different sources of 1 to 20 words; the target is the source turned round.
fn sides(count: usize) -> Vec<(String, String)> {
    let of = |i: usize| {
        let words: Vec<String> = (0..1 + i * 7 % 20).map(|w| format!("w{}", i * 31 + w)).collect();
        let turned: Vec<String> = words.iter().rev().cloned().collect();
        (words.join(" "), turned.join(" "))
    };
    (0..count).map(of).collect()
}

fn error(spec: &PairSpec) -> String {
    read_pairs(spec).unwrap_err().to_string()
}

#[test]
fn aligned_files_and_records_give_the_same_pairs() {
    let (files, sides) = (Files::new(), sides(40));
    let column = |of: fn(&(String, String)) -> &String| {
        sides.iter().map(|pair| format!("{}\n", of(pair))).collect::<String>()
    };
    let (de, en) = (column(|pair| &pair.0), column(|pair| &pair.1));
    let (a, b) = (files.write("a.de", &de), files.write("b.en", format!("{en}\n \n")));
    let flat = files.records("a.jsonl", sides.iter().map(|(s, t)| json!({"src": s, "tgt": t})));
    let nested = sides.iter().map(|(s, t)| json!({"id": 1, "translation": {"de": s, "en": t}}));
    let nested = files.records("b.jsonl", nested);
    let rows: String = sides.iter().map(|(s, t)| format!("{s}\t{t}\n")).collect();
    let table = files.write("c.tsv", format!("source\ttarget\n{rows}"));
    for train in [vec![&*a, &*b], vec![&*flat], vec![&*nested], vec![&*table]] {
        let mut spec = spec(&train);
        spec.validation = ValidationSpec::Tail(0.25);
        let data = read_pairs(&spec).unwrap();
        let all: Vec<(String, String)> = data
            .train
            .iter()
            .chain(&data.validation)
            .map(|pair| (pair.source.clone(), pair.targets[0].clone()))
            .collect();
        assert_eq!(all, sides, "{train:?}");
        assert_eq!(data.validation.len(), 10);
    }
    let facts = read_pairs(&spec(&[&nested])).unwrap().facts;
    assert_eq!(
        (facts.source.as_str(), facts.target.as_str()),
        ("translation.de", "translation.en")
    );
    assert!(facts.inferred[0].contains("translation.en"), "{:?}", facts.inferred);
    assert!(!facts.is_summary());
}

#[test]
fn pairs_that_do_not_belong_together_are_told_with_their_places() {
    let files = Files::new();
    let three = files.write("a.de", "eins\nzwei\ndrei\n");
    let two = files.write("b.en", "one\ntwo\n");
    let words = error(&spec(&[&three, &two]));
    assert!(words.contains("a.de has 3 lines") && words.contains("b.en has 2"), "{words}");
    let gap = files.write("c.en", "one\n\nthree\n");
    let words = error(&spec(&[&three, &gap]));
    assert!(words.contains("c.en:2 is empty") && words.contains("both files"), "{words}");
    let words = error(&spec(&[&three]));
    assert!(words.contains("one side only") && words.contains("--source"), "{words}");
    let words = error(&spec(&[&three, &two, &gap]));
    assert!(words.contains("3 files of plain text"), "{words}");
    let empty = files.records(
        "d.jsonl",
        [json!({"source": "a", "target": "b"}), json!({"source": " ", "target": "b"})],
    );
    let words = error(&spec(&[&empty]));
    assert!(words.contains("d.jsonl:2: the field \"source\" is empty"), "{words}");
    let one =
        files.records("e.jsonl", [json!({"source": "a", "target": "b"}), json!({"source": "a"})]);
    let words = error(&spec(&[&one]));
    assert!(words.contains("e.jsonl:2: the record has no field \"target\""), "{words}");
    let other = files.records("f.jsonl", [json!({"x": "a", "y": "b"})]);
    let words = error(&spec(&[&other]));
    assert!(words.contains("data.source") && words.contains("\"x\", \"y\""), "{words}");
}

#[test]
fn sources_that_are_held_out_leave_training() {
    let files = Files::new();
    let pair = |i: usize, tail: &str| json!({"source": format!("text number {i} of the many ones here"), "target": format!("t{i}{tail}")});
    let train = files.records("a.jsonl", (0..50).chain([3, 3]).map(|i| pair(i, "")));
    // The same source in another case, with another target.
    let mut held_out: Vec<Value> = (50..60).map(|i| pair(i, "")).collect();
    held_out.push(json!({"source": "TEXT number 7 of the many ones here!", "target": "else"}));
    let dev = files.records("b.jsonl", held_out);
    let mut spec = spec(&[&train]);
    spec.validation = ValidationSpec::Paths(vec![dev.display().to_string()]);
    let data = read_pairs(&spec).unwrap();
    assert_eq!((data.facts.leaks, data.facts.leaks_removed), (1, 1));
    assert!(data.train.iter().all(|pair| pair.targets[0] != "t7"));
    assert_eq!((data.facts.duplicates, data.facts.duplicates_removed), (2, 0));
    assert_eq!(data.facts.examples[0].one.line, 8);
    assert!(data.facts.notices[0].contains("taken out"), "{:?}", data.facts.notices);
    spec.duplicates = DuplicatePolicy::RemoveAll;
    assert_eq!(read_pairs(&spec).unwrap().train.len(), 49);
    spec.limit = Some(20);
    let small = read_pairs(&spec).unwrap().train;
    spec.limit = Some(30);
    let large = read_pairs(&spec).unwrap().train;
    assert_eq!(small.len(), 20);
    assert!(small.iter().all(|pair| large.contains(pair)));
    spec.validation = ValidationSpec::Paths(spec.train.clone());
    assert!(error(&spec).contains("measured on what it was trained on"));
}

#[test]
fn a_test_file_may_have_several_right_answers() {
    let files = Files::new();
    let long = |letter: &str, i: usize| {
        (0..20).map(|w| format!("{letter}{}", i * 31 + w)).collect::<Vec<_>>().join(" ")
    };
    let one = |i: usize| json!({"dialogue": long("a", i), "summary": format!("short {i}")});
    let train = files.records("a.jsonl", (0..30).map(one));
    let three = |i: usize| {
        let dialogue = long("b", i);
        json!({"dialogue": dialogue, "summary1": "a", "summary2": "b", "summary3": "c"})
    };
    let test = files.records("b.jsonl", (0..5).map(three));
    let mut spec = spec(&[&train]);
    spec.test = Some(ValidationSpec::Paths(vec![test.display().to_string()]));
    let data = read_pairs(&spec).unwrap();
    assert_eq!(data.test[0].targets, ["a", "b", "c"]);
    assert_eq!(data.facts.test.as_ref().unwrap().references, 3);
    assert!(data.facts.is_summary());
}

#[test]
fn batches_hold_both_sides_and_repeat() {
    let (files, sides) = (Files::new(), sides(200));
    let path =
        files.records("a.jsonl", sides.iter().map(|(s, t)| json!({"source": s, "target": t})));
    let data = prepare_pairs(&spec(&[&path])).unwrap();
    let (encoder, pairs) = (&data.encoder, &data.train);
    let (eos, pad) = (encoder.tokenizer().eos().unwrap(), encoder.pad());
    assert_ne!(eos, pad);
    let plan = LabelledPlan::new(16, 3, pad);
    let batches = PairBatches::new(pairs, plan).unwrap();
    let mut seen = Vec::new();
    for step in 0..batches.steps_per_epoch() {
        let batch = batches.batch_at(step).unwrap();
        assert_eq!(batch, PairBatches::new(pairs, plan).unwrap().batch_at(step).unwrap());
        let decoder = batch.decoder_ids(eos, pad);
        for (place, row) in batch.source.rows.iter().enumerate() {
            let example = &data.data.train[*row as usize];
            let width = batch.target_len;
            let told: Vec<u32> = batch.targets[place * width..(place + 1) * width].to_vec();
            let length = told.iter().filter(|id| **id != IGNORE).count();
            assert_eq!(told[length - 1], eos, "cut at {} or closed", data.facts.max_length);
            assert!(told[length..].iter().all(|id| *id == IGNORE));
            let text = encoder.tokenizer().decode(&told[..length - 1]);
            assert!(example.targets[0].starts_with(&text), "{text}");
            let read = &decoder[place * width..(place + 1) * width];
            assert_eq!((read[0], &read[1..length]), (eos, &told[..length - 1]));
            seen.push(*row);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..pairs.len() as u32).collect::<Vec<_>>());
    let loose = LabelledPlan { bucketing: Bucketing::Off, ..plan };
    let loose = PairBatches::new(pairs, loose).unwrap();
    assert!(batches.padding() < 0.7 * loose.padding(), "{} {}", batches.padding(), loose.padding());
    let evaluation = PairEvaluation::sample(pairs, 50, 1, 8, pad);
    let rows: Vec<u32> = evaluation.batches(16).flat_map(|batch| batch.source.rows).collect();
    assert_eq!(rows.len(), 50);
    let again = PairEvaluation::sample(pairs, 50, 1, 8, pad);
    assert_eq!(rows, again.batches(16).flat_map(|batch| batch.source.rows).collect::<Vec<_>>());
}

#[test]
fn the_tokenizer_is_learned_on_both_sides_of_training_alone() {
    let files = Files::new();
    let pair = |i: usize| json!({"source": format!("quelle {i}"), "target": format!("aim {i}")});
    let train = files.records("a.jsonl", (0..60).map(pair));
    let dev = files.records("b.jsonl", [json!({"source": "quelle xx", "target": "zzzz zzzz"})]);
    let mut spec = spec(&[&train]);
    spec.validation = ValidationSpec::Paths(vec![dev.display().to_string()]);
    spec.tokenizer = TokenizerSpec::Train { kind: TokenizerKind::Bpe, vocabulary: 300 };
    let data = prepare_pairs(&spec).unwrap();
    let length = |text: &str| data.encoder.encode(text, None).unwrap().ids.len();
    // The word, or a few parts, and the end.
    assert!(length("quelle") <= 4 && length("aim") <= 3, "{} {}", length("quelle"), length("aim"));
    assert!(length("zzzz") >= 4, "held-out words are not learned");
    // Another program that loads the file closes texts, too.
    let json: Value = serde_json::from_str(data.encoder.tokenizer().to_json()).unwrap();
    assert!(json["post_processor"]["single"].to_string().contains("</s>"), "{json}");
    let again = Tokenizer::from_json(data.encoder.tokenizer().to_json()).unwrap();
    assert_eq!(again.eos(), data.encoder.tokenizer().eos());
}

#[test]
fn sources_come_from_files_and_lines() {
    let files = Files::new();
    let record = json!({"id": 7, "dialogue": "a b", "summary": "c"});
    let records = files.records("a.jsonl", [record.clone()]);
    let plain = files.write("b.txt", "eins\n\nzwei\n");
    let mut found = Vec::new();
    let names = [records, plain].map(|path| path.display().to_string());
    for_each_source(&names, None, &mut |record| {
        found.push((record.source, record.line));
        Ok(())
    })
    .unwrap();
    let expected = [("a b", 1), ("eins", 1), ("zwei", 3)].map(|(text, n)| (text.to_string(), n));
    assert_eq!(found, expected);
    let mut found = Vec::new();
    let mut lines = std::io::Cursor::new(format!("{record}\n\nplain text\n"));
    for_each_line(&mut lines, None, &mut |record| {
        found.push(record.source);
        Ok(())
    })
    .unwrap();
    assert_eq!(found, ["a b", "plain text"]);
}
