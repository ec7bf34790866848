//! Labelled data from files to batches: formats, fields, splits, leaks, encoding, batches, errors.

use flate2::{Compression, write::GzEncoder};
use heldout_data::augment::{AugmentSpec, Augmenter, Choice, Edit, Step, TextTask};
use heldout_data::labelled::*;
use heldout_data::tokenizer::{Tokenizer, TokenizerKind};
use heldout_data::{DuplicatePolicy, Shuffle, TokenizerSpec, ValidationSpec};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

fn spec(path: &Path) -> LabelledSpec {
    let tokenizer = TokenizerSpec::Train { kind: TokenizerKind::Byte, vocabulary: 0 };
    LabelledSpec::new(path.to_str().unwrap(), tokenizer)
}

/// A scratch folder with one file in it.
fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn lines(records: impl IntoIterator<Item = Value>) -> String {
    records.into_iter().map(|record| format!("{record}\n")).collect()
}

/// `count` different texts, of which every third is "good".
fn reviews(count: usize) -> Vec<Value> {
    let word = |i: usize| ["plot", "scene", "actor", "music", "ending"][i % 5];
    let of = |i: usize| {
        let tail = "and it went on ".repeat(i % 7);
        let text = format!("review {i} of the {} {tail}number {}", word(i), i * 31 % 1000);
        json!({"text": text, "label": if i.is_multiple_of(3) { "good" } else { "bad" }})
    };
    (0..count).map(of).collect()
}

fn texts(examples: &[LabelledExample]) -> Vec<&str> {
    examples.iter().map(|example| example.text.as_str()).collect()
}

#[test]
fn every_format_gives_the_same_examples() {
    let rows = [("a \"quoted\" film, long", "1"), ("a dull one", "0"), ("fine", "1"), ("bad", "0")];
    let json_lines = lines(rows.iter().map(|(text, label)| json!({"text": text, "label": label})));
    let array: Vec<Value> = rows
        .iter()
        .map(|(text, label)| json!({"text": text, "label": label.parse::<i64>().unwrap()}))
        .collect();
    let csv: String = rows
        .iter()
        .map(|(text, label)| format!("{label},\"{}\"\r\n", text.replace('"', "\"\"")))
        .collect();
    let tsv: String = rows.iter().map(|(text, label)| format!("{text}\t{label}\n")).collect();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(json_lines.as_bytes()).unwrap();
    let files = [
        ("a.jsonl", json_lines.clone().into_bytes()),
        ("a.json", json!(array).to_string().into_bytes()),
        ("a.csv", format!("label,text\r\n{csv}").into_bytes()),
        ("a.tsv", format!("text\tlabel\n{tsv}").into_bytes()),
        ("a.jsonl.gz", gzip.finish().unwrap()),
        ("a.jsonl.zst", zstd::encode_all(json_lines.as_bytes(), 1).unwrap()),
    ];
    for (name, bytes) in files {
        let (_folder, path) = file(name, &bytes);
        let mut spec = spec(&path);
        spec.validation = ValidationSpec::Tail(0.25);
        let data = read_labelled(&spec).unwrap();
        let all: Vec<&LabelledExample> = data.train.iter().chain(&data.validation).collect();
        let found: Vec<_> =
            all.iter().map(|e| (e.text.as_str(), data.labels.name(e.label))).collect();
        assert_eq!(found, rows, "{name}");
        assert_eq!(data.labels.names, ["0", "1"], "{name}");
    }
}

#[test]
fn fields_are_inferred_and_it_is_said_how() {
    let read = |records: Vec<Value>| {
        let (_folder, path) = file("a.jsonl", lines(records).as_bytes());
        read_labelled(&spec(&path)).unwrap()
    };
    let many = |make: fn(usize) -> Value| (0..40).map(make).collect();
    let data = read(many(|i| json!({"id": i, "Sentence": format!("s {i}"), "CLASS": i % 2 == 0})));
    let fields = (data.facts.field_text.as_str(), data.facts.field_label.as_str());
    assert_eq!(fields, ("Sentence", "CLASS"));
    assert_eq!(data.labels.names, ["false", "true"]);
    assert!(data.facts.inferred.iter().any(|s| s.contains("by its name")));
    let data = read(many(|i| {
        json!({"id": format!("x{i}"), "opinion": format!("{i} {}", "word ".repeat(9)),
               "target": i % 3, "user": "somebody"})
    }));
    assert_eq!(data.facts.field_text, "opinion");
    assert!(data.facts.inferred.iter().any(|s| s.contains("the longest")));
    let data = read(many(
        |i| json!({"premise": format!("p {i}"), "hypothesis": format!("h {i}"), "label": i % 2}),
    ));
    assert_eq!(data.facts.field_pair.as_deref(), Some("hypothesis"));
    assert!(data.train[0].pair.as_deref().unwrap().starts_with("h "));
}

#[test]
fn errors_name_the_place_and_the_remedy() {
    let good: Vec<Value> = reviews(20);
    let with = |extra: Value| lines(good.iter().cloned().chain([extra]));
    let check = |name: &str, text: &str, change: &dyn Fn(&mut LabelledSpec), words: &[&str]| {
        let (folder, path) = file(name, text.as_bytes());
        let mut spec = spec(&path);
        std::fs::write(
            folder.path().join("valid.jsonl"),
            lines([json!({"text": "something else", "label": "godo"})]),
        )
        .unwrap();
        change(&mut spec);
        if spec.validation == ValidationSpec::Paths(vec!["valid.jsonl".into()]) {
            let path = folder.path().join("valid.jsonl").display().to_string();
            spec.validation = ValidationSpec::Paths(vec![path]);
        }
        let error = prepare_labelled(&spec).map(|p| p.facts).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{word:?} is not in: {error}");
        }
        println!("{error}");
    };
    let same = |_: &mut LabelledSpec| {};
    let named = |spec: &mut LabelledSpec| spec.fields.text = Some("txt".into());
    check("a.jsonl", &with(json!({})), &named, &["a.jsonl:1", "\"txt\"", "text = \"text\"?"]);
    let label = |spec: &mut LabelledSpec| spec.fields.label = Some("stars".into());
    check("a.jsonl", &with(json!({})), &label, &["\"stars\"", "\"text\", \"label\""]);
    let part = json!({"text": "half a record"});
    check("a.jsonl", &with(part), &same, &["a.jsonl:21", "\"label\"", "mend the record"]);
    let empty = json!({"text": " ", "label": "good"});
    check("a.jsonl", &with(empty), &same, &["a.jsonl:21", "empty", "Take the record out"]);
    let list = json!({"text": "x", "label": ["good", "bad"]});
    check("a.jsonl", &with(list), &same, &["a.jsonl:21", "a list", "one class"]);
    let null = json!({"text": "x", "label": null});
    check("a.jsonl", &with(null), &same, &["a.jsonl:21", "null"]);
    let rows = |label: fn(usize) -> Value| {
        lines((0..30).map(|i| json!({"text": format!("text {i}"), "label": label(i)})))
    };
    check("a.jsonl", &rows(|_| json!("only")), &same, &["all 30 examples", "\"only\""]);
    check("a.jsonl", &rows(|i| json!(i)), &same, &["30 different values", "label = "]);
    check("a.jsonl", &rows(|i| json!(0.25 * i as f64)), &same, &["a.jsonl:2", "0.25"]);
    let no_label = lines((0..9).map(|i| json!({"text": format!("{i}"), "who": "me"})));
    check("a.jsonl", &no_label, &same, &["no field has a usual name", "\"who\"", "label = "]);
    let own = |spec: &mut LabelledSpec| {
        spec.validation = ValidationSpec::Paths(vec!["valid.jsonl".into()]);
    };
    check("a.jsonl", &lines(good.clone()), &own, &["valid.jsonl:1", "\"godo\"", "\"good\"?"]);
    check("a.txt", "plain text\n", &same, &["plain text has no labels", ".jsonl"]);
    check("a.parquet", "PAR1", &same, &["Parquet is not read", "pandas"]);
    let limit = |spec: &mut LabelledSpec| spec.limit = Some(1);
    check("a.jsonl", &lines(good.clone()), &limit, &["limit of 1", "limit = 2"]);
    let short = |spec: &mut LabelledSpec| spec.max_length = 2;
    check("a.jsonl", &lines(good.clone()), &short, &["longest length of 2"]);
    let twice = |spec: &mut LabelledSpec| {
        spec.validation = ValidationSpec::Paths(spec.train.clone());
    };
    check("a.jsonl", &lines(good.clone()), &twice, &["100%", "Name other files"]);
}

#[test]
fn the_share_is_stratified_repeatable_and_keeps_copies_together() {
    // Every text stands there three times, differently written.
    let mut records = reviews(300);
    let written = |r: &Value, f: fn(&str) -> String| json!({"text": f(r["text"].as_str().unwrap()), "label": r["label"]});
    let upper: Vec<Value> = records.iter().map(|r| written(r, str::to_uppercase)).collect();
    let dotted: Vec<Value> = records.iter().map(|r| written(r, |t| format!("{t} !"))).collect();
    records.extend(upper.into_iter().chain(dotted));
    let (_folder, path) = file("a.jsonl", lines(records).as_bytes());
    let mut spec = spec(&path);
    spec.test = Some(ValidationSpec::Share(0.1));
    let data = read_labelled(&spec).unwrap();
    assert_eq!((data.validation.len(), data.test.len(), data.train.len()), (90, 90, 720));
    assert_eq!(data.facts.validation.counts, [60, 30]);
    assert_eq!(data.facts.leaks, 0);
    assert_eq!(data.facts.duplicates, 600);
    assert_eq!(texts(&read_labelled(&spec).unwrap().validation), texts(&data.validation));
    let other = read_labelled(&LabelledSpec { seed: 2, ..spec.clone() }).unwrap();
    assert_ne!(texts(&other.validation), texts(&data.validation));
    spec.duplicates = DuplicatePolicy::RemoveAll;
    let once = read_labelled(&spec).unwrap();
    assert_eq!((once.train.len(), once.facts.duplicates_removed), (240, 480));
}

#[test]
fn leaks_are_taken_out_and_conflicts_counted() {
    let long = |i: usize| {
        format!(
            "the {i} quick brown foxes jump over a lazy dog and run far away \
                                   into the deep dark woods behind the old mill house number {i}"
        )
    };
    let mut train = reviews(50);
    train.push(json!({"text": long(1), "label": "good"}));
    train.push(json!({"text": "Shared TEXT, here!", "label": "good"}));
    train.push(json!({"text": "two opinions", "label": "good"}));
    train.push(json!({"text": "two opinions .", "label": "bad"}));
    let mut held_out: Vec<Value> =
        (0..10).map(|i| json!({"text": format!("fresh {i}"), "label": "bad"})).collect();
    held_out.push(json!({"text": "shared text here", "label": "good"}));
    held_out.push(json!({"text": format!("{} indeed", long(1)), "label": "good"}));
    let (folder, path) = file("train.jsonl", lines(train).as_bytes());
    let other = folder.path().join("valid.jsonl");
    std::fs::write(&other, lines(held_out)).unwrap();
    let mut spec = spec(&path);
    spec.validation = ValidationSpec::Paths(vec![other.display().to_string()]);
    let data = read_labelled(&spec).unwrap();
    let facts = &data.facts;
    assert_eq!((facts.leaks, facts.leaks_near, facts.leaks_removed), (2, 1, 2));
    assert_eq!((data.train.len(), data.validation.len(), facts.conflicts), (52, 12, 2));
    assert!(data.train.iter().all(|e| !e.text.contains("Shared")));
    let kinds: Vec<&str> = facts.examples.iter().map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds, ["conflict", "near", "exact"]);
    assert_eq!(facts.examples[2].one.line, 52);
    assert!(facts.notices.iter().any(|n| n.contains("label noise")), "{:?}", facts.notices);
    spec.duplicates = DuplicatePolicy::Report;
    let kept = read_labelled(&spec).unwrap();
    assert_eq!((kept.train.len(), kept.facts.leaks_removed), (54, 0));
}

#[test]
fn a_limit_takes_every_class_at_its_share() {
    let (_folder, path) = file("a.jsonl", lines(reviews(600)).as_bytes());
    let take = |limit, seed| {
        let spec = LabelledSpec { limit, seed, ..spec(&path) };
        read_labelled(&spec).unwrap()
    };
    let data = take(Some(60), 1337);
    assert_eq!(data.facts.train.counts, [40, 20]);
    assert_eq!((data.facts.train_available, data.validation.len()), (540, 60));
    let more = take(Some(120), 1337);
    let all = texts(&more.train);
    assert!(texts(&data.train).iter().all(|text| all.contains(text)));
    assert_eq!(take(None, 1337).train.len(), 540);
}

/// Our ids, segments and lengths against the `tokenizers` crate on one tokenizer.json.
fn same_as_tokenizers(json: &str, max_length: usize, texts: &[&str]) {
    let ours = Tokenizer::from_json(json).unwrap();
    let ours = Encoder::new(ours, SpecialTokens::Encoder, max_length).unwrap();
    let whole = tokenizers::Tokenizer::from_bytes(ours.tokenizer().to_json()).unwrap();
    let mut theirs = whole.clone();
    let cut = tokenizers::TruncationParams { max_length, ..Default::default() };
    theirs.with_truncation(Some(cut)).unwrap();
    let check = |text: &str, pair: Option<&str>| {
        // Cut after encoding the whole: the crate stops encoding early where it may, and of two
        // long texts the odd token then goes to the one that happened to be encoded further.
        let encode = |text: &str| whole.encode(text, false).unwrap();
        let theirs = theirs.post_process(encode(text), pair.map(encode), true).unwrap();
        let ours = ours.encode(text, pair).unwrap();
        assert_eq!(ours.ids, theirs.get_ids(), "{text} / {pair:?}");
        let segments: Vec<u32> = ours.segments.iter().map(|s| u32::from(*s)).collect();
        assert_eq!(segments, theirs.get_type_ids(), "{text} / {pair:?}");
        assert!(ours.ids.len() <= max_length && ours.length_whole >= ours.ids.len());
    };
    for one in texts {
        check(one, None);
        texts.iter().for_each(|other| check(one, Some(other)));
    }
}

#[test]
fn special_tokens_and_truncation_are_those_of_tokenizers() {
    let texts = [
        "a",
        "short text",
        "It's a somewhat longer text, of 12 words or so, isn't it?",
        "the longest of them goes on and on and on and on and on until somebody stops it",
    ];
    let trained = |kind, specials| {
        let mut all = texts.iter().map(|text| text.to_string());
        let encoder = Encoder::train(kind, 600, specials, 16, &mut all).unwrap();
        encoder.tokenizer().to_json().to_string()
    };
    for kind in [TokenizerKind::Byte, TokenizerKind::Bpe, TokenizerKind::WordPiece] {
        for specials in [SpecialTokens::Encoder, SpecialTokens::Causal] {
            let json = trained(kind, specials);
            [8, 16, 17, 200].iter().for_each(|most| same_as_tokenizers(&json, *most, &texts));
        }
    }
    let mut value: Value =
        serde_json::from_str(&trained(TokenizerKind::Bpe, SpecialTokens::Encoder)).unwrap();
    let id = |name: &str| value["model"]["vocab"][name].as_u64().unwrap();
    let (cls, sep) = (json!(["[CLS]", id("[CLS]")]), json!(["[SEP]", id("[SEP]")]));
    value["post_processor"] = json!({"type": "BertProcessing", "sep": sep, "cls": cls});
    same_as_tokenizers(&value.to_string(), 12, &texts);
    value["post_processor"] = json!({"type": "RobertaProcessing", "sep": sep, "cls": cls,
                                     "trim_offsets": true, "add_prefix_space": false});
    same_as_tokenizers(&value.to_string(), 12, &texts);
    value["post_processor"] = json!({"type": "ByteLevel", "add_prefix_space": false,
                                     "trim_offsets": true, "use_regex": true});
    same_as_tokenizers(&value.to_string(), 12, &texts);
    value["post_processor"] = json!({"type": "Surprise"});
    // The crate refuses the file itself where it runs it; ours names the type where it does not.
    let error = Tokenizer::from_json(&value.to_string())
        .and_then(|t| Encoder::new(t, SpecialTokens::Encoder, 12).map(|_| ()));
    assert!(error.unwrap_err().to_string().contains("Surprise"));
}

fn prepared(count: usize) -> (tempfile::TempDir, PreparedLabelled) {
    let (folder, path) = file("a.jsonl", lines(reviews(count)).as_bytes());
    let prepared = prepare_labelled(&spec(&path)).unwrap();
    (folder, prepared)
}

#[test]
fn an_epoch_holds_every_example_once_and_steps_are_pure() {
    let (_folder, data) = prepared(500);
    let pad = data.encoder.pad();
    let plan = LabelledPlan::new(16, 3, pad);
    let batches = LabelledBatches::new(&data.train, plan).unwrap();
    let (count, steps) = (data.train.len(), batches.steps_per_epoch());
    assert_eq!(steps as usize, count.div_ceil(16));
    for epoch in 0..2 {
        let mut seen = vec![0; count];
        let mut small = 0;
        for step in epoch * steps..(epoch + 1) * steps {
            let batch = batches.batch_at(step).unwrap();
            assert_eq!(batch.seq_len % 8 * usize::from(batch.seq_len < batches.seq_len_max()), 0);
            small += usize::from(batch.batch < 16);
            for (place, row) in batch.rows.iter().enumerate() {
                let (at, length) = (place * batch.seq_len, batch.lengths[place] as usize);
                assert_eq!(batch.ids[at..at + length], *data.train.ids(*row as usize));
                assert!(batch.ids[at + length..at + batch.seq_len].iter().all(|id| *id == pad));
                assert_eq!(batch.labels[place], data.train.label(*row as usize));
                seen[*row as usize] += 1;
            }
        }
        assert!(seen.iter().all(|times| *times == 1));
        assert_eq!(small, 1);
    }
    // Any step again, in pieces, from another instance.
    let again = LabelledBatches::new(&data.train, plan).unwrap();
    let (late, whole) = (steps + 5, batches.batch_at(steps + 5).unwrap());
    assert_eq!(again.batch_at(late).unwrap(), whole);
    let (head, tail) = (again.batch_rows(late, 0..5).unwrap(), again.batch_rows(late, 5..16));
    let tail = tail.unwrap();
    assert_eq!([head.ids, tail.ids].concat(), whole.ids);
    assert_eq!(tail.first_sequence, whole.first_sequence + 5);
    assert_ne!(batches.batch_at(0).unwrap().rows, batches.batch_at(steps).unwrap().rows);
    assert_eq!(again.steps_for_epochs(1.5), (1.5 * steps as f64).ceil() as u64);
}

#[test]
fn buckets_save_padding_and_the_last_batch_is_kept_or_dropped() {
    let (_folder, data) = prepared(500);
    let plan = LabelledPlan::new(16, 3, data.encoder.pad());
    let padding = |bucketing| {
        let plan = LabelledPlan { bucketing, ..plan };
        LabelledBatches::new(&data.train, plan).unwrap().padding(0)
    };
    let (off, on) = (padding(Bucketing::Off), padding(Bucketing::Pools(50)));
    assert!(on < 0.5 * off && on > 0.0, "{on} bucketed, {off} not");
    let dropped = LabelledPlan { last: LastBatch::Drop, ..plan };
    let batches = LabelledBatches::new(&data.train, dropped).unwrap();
    assert_eq!(batches.steps_per_epoch(), 450 / 16);
    assert!((0..60).all(|step| batches.rows_at(step) == 16));
    let stored = LabelledPlan { shuffle: Shuffle::No, bucketing: Bucketing::Off, ..plan };
    let batch = LabelledBatches::new(&data.train, stored).unwrap().batch_at(1).unwrap();
    assert_eq!(batch.rows, (16..32).collect::<Vec<u32>>());
    let full = LabelledPlan { batch: 1000, last: LastBatch::Drop, ..plan };
    assert!(LabelledBatches::new(&data.train, full).is_err());
    let small = LabelledPlan { batch: 1000, ..plan };
    assert_eq!(LabelledBatches::new(&data.train, small).unwrap().rows_at(7), 450);
}

#[test]
fn evaluation_takes_each_example_once_longest_first() {
    let (_folder, data) = prepared(500);
    let all = LabelledEvaluation::whole(&data.validation, 8, data.encoder.pad());
    let batches: Vec<LabelledBatch> = all.batches(16).collect();
    let mut rows: Vec<u32> = batches.iter().flat_map(|batch| batch.rows.clone()).collect();
    let lengths: Vec<u32> = batches.iter().flat_map(|batch| batch.lengths.clone()).collect();
    assert!(lengths.windows(2).all(|pair| pair[0] >= pair[1]));
    rows.sort_unstable();
    assert_eq!(rows, (0..data.validation.len() as u32).collect::<Vec<_>>());
    assert_eq!(batches.last().unwrap().first_sequence, 48);
    let positions: usize = batches.iter().map(|b| b.ids.len()).sum();
    let tokens: u32 = lengths.iter().sum();
    let share = 1.0 - f64::from(tokens) / positions as f64;
    assert!((all.padding(16) - share).abs() < 1e-12);
    let sample = LabelledEvaluation::sample(&data.train, 45, 1, 8, data.encoder.pad());
    let labels: Vec<u32> = sample.batches(45).flat_map(|batch| batch.labels).collect();
    assert_eq!(class_counts(labels, 2), [30, 15]);
}

#[test]
fn augmented_batches_change_with_the_epoch_and_never_with_the_call() {
    let (_folder, data) = prepared(100);
    let step = Step { edit: Edit::Deletion, rate: 0.3 };
    let (seed, mask) = (1, data.encoder.mask_word());
    assert_eq!(mask.as_deref(), Some("[MASK]"));
    let augment = AugmentSpec { steps: vec![step], share: 1.0, choice: Choice::All, mask, seed };
    let augmenter = Augmenter::new(augment, TextTask::Classification, None).unwrap();
    let augmented = Augmented {
        examples: Arc::new(data.data.train.clone()),
        encoder: data.encoder.clone(),
        augmenters: vec![augmenter],
    };
    let plan = LabelledPlan::new(8, 3, data.encoder.pad());
    let make = || {
        let batches = LabelledBatches::new(&data.train, plan).unwrap();
        batches.with_augmentation(augmented.clone()).unwrap()
    };
    let (one, other) = (make(), make());
    let steps = one.steps_per_epoch();
    let text_of = |batches: &LabelledBatches, epoch: u64, index: u32| {
        (epoch * steps..(epoch + 1) * steps).find_map(|step| {
            let batch = batches.batch_at(step).unwrap();
            let place = batch.rows.iter().position(|row| *row == index)?;
            let at = place * batch.seq_len;
            let ids = &batch.ids[at..at + batch.lengths[place] as usize];
            Some(data.encoder.tokenizer().decode(&ids[1..ids.len() - 1]))
        })
    };
    let first = text_of(&one, 0, 7).unwrap();
    assert_eq!(first, augmented.augmenters[0].apply(&data.data.train[7].text, 0, 7));
    assert_ne!(first, text_of(&one, 1, 7).unwrap());
    assert_eq!(one.batch_at(3).unwrap(), other.batch_at(3).unwrap());
    let (head, tail) = (other.batch_rows(3, 0..3).unwrap(), other.batch_rows(3, 3..8).unwrap());
    assert_eq!([head.ids, tail.ids].concat(), one.batch_at(3).unwrap().ids);
}

#[test]
fn texts_to_predict_come_one_by_one_with_their_records() {
    let text = lines([
        json!({"id": 7, "sentence": "first", "label": "good"}),
        json!({"id": 8, "sentence": "second"}),
    ]);
    let (folder, path) = file("a.jsonl", text.as_bytes());
    let plain = folder.path().join("plain.txt");
    std::fs::write(&plain, "one line\n\nanother line").unwrap();
    let names = [path, plain].map(|path| path.display().to_string());
    let mut found = Vec::new();
    let fields = FieldNames { label: Some("label".into()), ..FieldNames::default() };
    for_each_text(&names, &fields, &mut |record| {
        found.push((record.text, record.label, record.record.get("id").cloned(), record.line));
        Ok(())
    })
    .unwrap();
    let expected = [
        ("first", Some("good"), Some(json!(7)), 1),
        ("second", None, Some(json!(8)), 2),
        ("one line", None, None, 1),
        ("another line", None, None, 3),
    ];
    let expected = expected
        .map(|(text, label, id, line)| (text.to_string(), label.map(str::to_string), id, line));
    assert_eq!(found, expected);
}

fn real(name: &str) -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let path = root.join(name);
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn sst2_and_trec_are_prepared_quickly() {
    let Some(folder) = real("sst2") else { return };
    let mut spec = spec(&folder.join("train.jsonl"));
    let file = |name: &str| vec![folder.join(name).display().to_string()];
    spec.validation = ValidationSpec::Paths(file("dev.jsonl"));
    spec.test = Some(ValidationSpec::Paths(file("test.jsonl")));
    spec.tokenizer = TokenizerSpec::Train { kind: TokenizerKind::Bpe, vocabulary: 4096 };
    let started = Instant::now();
    let data = prepare_labelled(&spec).unwrap();
    println!("SST-2: {:?}", started.elapsed());
    let started = Instant::now();
    let again = read_labelled(&spec).unwrap().encode(data.encoder.clone()).unwrap();
    println!("SST-2 without training the tokenizer: {:?}", started.elapsed());
    println!("{}", serde_json::to_string_pretty(&data.facts).unwrap());
    let facts = &data.facts;
    assert_eq!(facts.train_available + facts.leaks_removed, 6920);
    assert_eq!((facts.validation.examples, facts.test.as_ref().unwrap().examples), (872, 1821));
    assert_eq!(facts.labels, ["negative", "positive"]);
    assert_eq!(again.train.labels(), data.train.labels());
    let plan = LabelledPlan::new(32, 1, data.encoder.pad());
    let batches = LabelledBatches::new(&data.train, plan).unwrap();
    let started = Instant::now();
    (0..batches.steps_per_epoch()).for_each(|step| drop(batches.batch_at(step).unwrap()));
    println!("one epoch of batches: {:?}, padding {:.3}", started.elapsed(), batches.padding(0));
    assert!(batches.padding(0) < 0.15 && (data.facts.train.padding - 0.136).abs() < 0.02);

    let Some(folder) = real("trec") else { return };
    let mut spec = LabelledSpec { train: vec![], ..spec };
    spec.train = vec![folder.join("train.jsonl").display().to_string()];
    spec.validation = ValidationSpec::Share(0.1);
    spec.test = Some(ValidationSpec::Paths(vec![folder.join("test.jsonl").display().to_string()]));
    let started = Instant::now();
    let data = prepare_labelled(&spec).unwrap();
    println!("TREC: {:?}\n{}", started.elapsed(), serde_json::to_string(&data.facts).unwrap());
    assert_eq!(data.facts.labels, ["0", "1", "2", "3", "4", "5"]);
    let share = |facts: &LabelledSplitFacts, class: usize| {
        facts.counts[class] as f64 / facts.examples as f64
    };
    for class in 0..6 {
        let (train, held_out) =
            (share(&data.facts.train, class), share(&data.facts.validation, class));
        assert!((train - held_out).abs() < 0.01, "class {class}: {train} {held_out}");
    }
}
