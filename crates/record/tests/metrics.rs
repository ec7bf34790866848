//! metrics.jsonl: what is written comes back, whatever a crash did to the file.

use heldout_record::{
    BaselineRecord, CheckpointRecord, EvaluationRecord, Event, GuardRecord, MetricsLog, Notice,
    OpRecord, OrderRecord, ProfileRecord, Receipt, RecordError, SampleRecord, Started, StepRecord,
    StopReason, Stopped, TimingRecord, read_metrics,
};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("scratch");
    let path = folder.path().join("metrics.jsonl");
    (folder, path)
}

fn step(step: u64) -> Event {
    Event::Step(StepRecord { step, tokens: 512 * step, loss_train: 2.5, ..Default::default() })
}

/// One of each kind, with awkward numbers and texts.
fn all_kinds() -> Vec<Event> {
    vec![
        Event::Started(Started {
            run: "名前 \"x\"\n".into(),
            parameters: u64::MAX,
            resumed_at: Some(0),
            bytes_per_token: 0.1 + 0.2,
            ..Default::default()
        }),
        Event::Receipt(Receipt {
            technique: "dropout".into(),
            statement: "live".into(),
            measured: [("share".into(), 0.1), ("odd".into(), f64::NAN)].into(),
        }),
        step(1),
        Event::Baseline(BaselineRecord {
            order: 5,
            choice: vec![OrderRecord { order: 2, loss: f64::NAN, loss_se: 0.1 }],
            loss_whole: Some(f64::NAN),
            limit: Some("a".into()),
            ..Default::default()
        }),
        Event::Baseline(BaselineRecord::default()),
        Event::Evaluation(EvaluationRecord {
            step: 1,
            loss_valid: f64::INFINITY,
            gap: f64::NEG_INFINITY,
            gap_se: f64::NAN,
            perplexity: f64::MAX,
            loss_train: f64::MIN_POSITIVE,
            best: true,
            weights: "ema".into(),
            ..Default::default()
        }),
        Event::Guard(GuardRecord {
            step: 1,
            loss: f64::NAN,
            z: Some(f64::NAN),
            ..Default::default()
        }),
        Event::Guard(GuardRecord { step: 1, z: None, ..Default::default() }),
        Event::Checkpoint(CheckpointRecord { step: 1, path: "checkpoints/x".into(), best: false }),
        Event::Sample(SampleRecord {
            step: 1, prompt: "\u{0}\u{2028}".into(), text: "😀".into()
        }),
        Event::Notice(Notice { step: None, text: String::new() }),
        Event::Notice(Notice { step: Some(1), text: "a".into() }),
        Event::Profile(ProfileRecord {
            step: 1,
            seconds: 1e-9,
            ops: vec![OpRecord { name: "a \"×\"".into(), calls: 2, ..Default::default() }],
            ..Default::default()
        }),
        Event::Timing(TimingRecord { step: 1, seconds: 0.1 + 0.2, ..Default::default() }),
        Event::Stopped(Stopped {
            step: 1,
            reason: StopReason::EarlyStopping,
            best_loss_valid: Some(1.5),
            best_step: Some(0),
            ..Default::default()
        }),
    ]
}

/// Equality that takes NaN as equal to itself (Debug prints every digit).
fn same(a: &[Event], b: &[Event]) {
    assert_eq!(format!("{a:#?}"), format!("{b:#?}"));
}

fn write(path: &Path, events: &[Event]) {
    let mut log = MetricsLog::create(path).expect("created");
    events.iter().for_each(|event| log.append(event).expect("appended"));
    log.sync().expect("synced");
}

#[test]
fn every_kind_comes_back_with_every_bit() {
    let (_folder, path) = scratch();
    write(&path, &all_kinds());
    same(&read_metrics(&path).expect("read"), &all_kinds());
    let text = fs::read_to_string(&path).expect("read");
    assert_eq!(text.lines().count(), all_kinds().len());
    assert!(text.lines().nth(2).expect("three").starts_with(r#"{"event":"step","step":1,"#));
    assert!(text.contains(r#""loss_valid":"Infinity""#) && text.contains(r#""gap_se":null"#));
    // Whatever a number is, the line is JSON by the book.
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("valid JSON");
    }
}

#[test]
fn an_old_log_is_never_written_over() {
    let (_folder, path) = scratch();
    write(&path, &[step(1)]);
    let error = MetricsLog::create(&path).expect_err("it exists").to_string();
    assert!(error.contains("metrics.jsonl: something is there already"), "{error}");
    assert_eq!(read_metrics(&path).expect("read").len(), 1);
}

#[test]
fn a_torn_last_line_is_left_out_wherever_it_is_torn() {
    let (_folder, path) = scratch();
    write(&path, &all_kinds());
    let whole = fs::read(&path).expect("read");
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).expect("written");
        let events = read_metrics(&path).expect("a torn line is no error");
        let complete = whole[..length].iter().filter(|&&b| b == b'\n').count();
        // A line that lacks only its line feed is complete as well.
        assert!(events.len() == complete || events.len() == complete + 1);
        same(&events, &all_kinds()[..events.len()]);
    }
}

#[test]
fn a_damaged_line_in_the_middle_is_named() {
    let (_folder, path) = scratch();
    write(&path, &[step(1), step(2)]);
    let text = fs::read_to_string(&path).expect("read").replacen("512", "5x2", 1);
    fs::write(&path, text).expect("written");
    let error = read_metrics(&path).expect_err("damaged");
    assert!(matches!(&error, RecordError::Format { line: Some(1), .. }));
    let text = error.to_string();
    assert!(text.contains("metrics.jsonl, line 1: expected an event: "), "{text}");
    assert!(text.contains("delete that line"), "{text}");
    assert!(read_metrics(&path.with_file_name("none")).is_err());
}

#[test]
fn resume_cuts_back_to_the_checkpoint_and_goes_on() {
    let (_folder, path) = scratch();
    let notice = |text: &str| Event::Notice(Notice { step: None, text: text.into() });
    let before = [notice("start"), step(10), notice("between"), step(20)];
    write(&path, &before);
    let mut log = fs::OpenOptions::new().append(true).open(&path).expect("opened");
    drop(MetricsLog::resume(&path, 20).expect("nothing to cut"));
    use std::io::Write;
    let after: String = [step(21), notice("after"), step(30)]
        .iter()
        .map(|event| serde_json::to_string(event).expect("plain data") + "\n")
        .collect();
    let (mut log2, warnings) = {
        drop(log);
        log = fs::OpenOptions::new().append(true).open(&path).expect("opened");
        log.write_all(after.as_bytes()).expect("written");
        log.write_all(br#"{"event":"step","st"#).expect("torn");
        MetricsLog::resume(&path, 20).expect("resumed")
    };
    assert_eq!(warnings, Vec::<String>::new());
    same(&read_metrics(&path).expect("read"), &before);
    log2.append(&step(21)).expect("appended");
    let events = read_metrics(&path).expect("read");
    assert_eq!(events.len(), 5);
    same(&events[4..], &[step(21)]);
}

#[test]
fn resume_keeps_a_checkpoint_that_was_told_of_late() {
    let (_folder, path) = scratch();
    let checkpoint =
        |step| Event::Checkpoint(CheckpointRecord { step, path: "x".into(), best: false });
    write(&path, &[step(20), step(21), step(22), checkpoint(20), step(30), checkpoint(30)]);
    drop(MetricsLog::resume(&path, 20).expect("resumed"));
    same(&read_metrics(&path).expect("read"), &[step(20), checkpoint(20)]);
}

#[test]
fn resume_leaves_unreadable_lines_out_and_keeps_the_old_file() {
    let (folder, path) = scratch();
    write(&path, &[step(1)]);
    let mut bytes = fs::read(&path).expect("read");
    bytes.extend_from_slice(b"\0\0\0\0\n\xff\xfe\n");
    let good = bytes.clone();
    bytes.extend_from_slice(&good[..good.len() - 8]);
    fs::write(&path, &bytes).expect("written");
    let (_log, warnings) = MetricsLog::resume(&path, 5).expect("resumed");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("line 2") && warnings[0].contains("damaged"), "{warnings:?}");
    same(&read_metrics(&path).expect("read"), &[step(1), step(1)]);
    assert_eq!(fs::read(folder.path().join("metrics.jsonl.damaged")).expect("kept"), bytes);
}

#[test]
fn resume_without_a_log_starts_one() {
    let (_folder, path) = scratch();
    let (mut log, warnings) = MetricsLog::resume(&path, 5).expect("started");
    assert_eq!(warnings.len(), 1);
    log.append(&step(6)).expect("appended");
    same(&read_metrics(&path).expect("read"), &[step(6)]);
}

#[test]
fn a_line_without_end_does_not_fill_the_memory() {
    let (_folder, path) = scratch();
    let file = fs::File::create(&path).expect("created");
    file.set_len(200 << 20).expect("a sparse file of zeros");
    let error = read_metrics(&path).expect_err("no log").to_string();
    assert!(error.contains("line 1: a line of more than 64 MiB is no event"), "{error}");
    let (_log, warnings) = MetricsLog::resume(&path, 1).expect("resumed");
    assert_eq!(warnings.len(), 1);
    fs::remove_file(path.with_extension("jsonl.damaged")).expect("kept beside");
}

#[test]
fn lines_of_older_versions_are_read() {
    let (_folder, path) = scratch();
    let started = r#"{"event":"started","run":"r","model":"m","parameters":1,"tokens_train":2,
        "tokens_valid":3,"vocabulary":4,"horizon":5,"precision":"f32","device":"cpu",
        "bytes_per_token":1.0}"#;
    let evaluation = r#"{"event":"evaluation","step":8,"tokens":9,"epoch":0.5,"loss_train":2.0,
        "loss_train_se":0.1,"loss_valid":2.5,"loss_valid_se":0.1,"gap":0.5,"gap_se":0.2,
        "perplexity":12.0,"bits_per_byte":3.0,"weights":"raw","best":true,"seconds":0.1}"#;
    fs::write(&path, [started, evaluation].map(|line| line.replace('\n', "") + "\n").concat())
        .expect("written");
    let events = read_metrics(&path).expect("old lines");
    let Event::Started(started) = &events[0] else { panic!("{events:?}") };
    assert_eq!(started.data, None);
    let Event::Evaluation(evaluation) = &events[1] else { panic!("{events:?}") };
    assert_eq!((evaluation.update_ratio, evaluation.targets_valid), (None, 0));
    // What is not there is not written either.
    let text = serde_json::to_string(&events[0]).expect("plain data");
    assert!(!text.contains("data"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_give_events_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let (_folder, path) = scratch();
        fs::write(&path, &bytes).expect("written");
        let _ = read_metrics(&path);
        let (mut log, _) = MetricsLog::resume(&path, 3).expect("resume copes with anything");
        log.append(&step(4)).expect("appended");
        prop_assert!(!read_metrics(&path).expect("readable again").is_empty());
    }

    #[test]
    fn a_changed_byte_never_panics(at in 0usize..2000, byte in any::<u8>()) {
        let (_folder, path) = scratch();
        write(&path, &all_kinds());
        let mut bytes = fs::read(&path).expect("read");
        let at = at % bytes.len();
        bytes[at] = byte;
        fs::write(&path, &bytes).expect("written");
        let _ = read_metrics(&path);
    }

    #[test]
    fn any_number_comes_back_bit_for_bit(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        let event = Event::Evaluation(EvaluationRecord { gap: value, ..Default::default() });
        let text = serde_json::to_string(&event).expect("plain data");
        let Event::Evaluation(back) = serde_json::from_str(&text).expect("what was written")
        else { panic!("another kind: {text}") };
        prop_assert!(back.gap.to_bits() == bits || (value.is_nan() && back.gap.is_nan()));
    }
}
