//! A study's files: what is written comes back, and a crash costs at most the line being written.

use heldout_record::study::{
    Arm, Contrast, ContrastKind, Design, EffectEstimate, EffectRecord, Extension, FORMAT, Finding,
    KeyedBaseline, Ledger, Look, NgramFigures, NoiseFloor, Rule, Standing, Study, StudyBaseline,
    StudyDir, StudyResult, StudyStatus, Term, TrialBegun, TrialEvent, TrialFailed, TrialResult,
    Tuning, Verdict, read_trials,
};
use heldout_record::{BaselineRecord, RecordError, RunDir, StopReason};
use std::fs;

fn study() -> Study {
    Study {
        format: FORMAT,
        name: "s".into(),
        status: StudyStatus::Running,
        design: Design::AddOneIn,
        arms: vec![Arm { name: "reference".into(), ..Arm::default() }],
        contrasts: vec![Contrast {
            name: "dropout".into(),
            kind: ContrastKind::Interaction,
            techniques: vec!["dropout".into()],
            terms: vec![Term { arm: "reference".into(), weight: -1.0 }],
        }],
        seeds: vec![1, u64::MAX],
        extensions: vec![Extension { from: 1, to: 2, ..Extension::default() }],
        tuning: Some(Tuning { factors: vec![0.5, 1.0], seed: 9 }),
        rule: Rule { level: 0.05, rope: 0.005, looks: vec![2] },
        ..Study::default()
    }
}

fn lines() -> Vec<TrialEvent> {
    let trial = || "a-seed1".to_owned();
    vec![
        TrialEvent::Started(TrialBegun { trial: trial(), seed: 1, ..TrialBegun::default() }),
        TrialEvent::Resumed(TrialBegun { trial: trial(), seed: 1, ..TrialBegun::default() }),
        TrialEvent::Finished(TrialResult {
            trial: trial(),
            loss_test: 0.1 + 0.2,
            loss_train: f64::INFINITY,
            reason: StopReason::EarlyStopping,
            ..TrialResult::default()
        }),
        TrialEvent::Failed(TrialFailed {
            trial: "b-seed1".into(),
            detail: "it \"exploded\"\n".into(),
            ..TrialFailed::default()
        }),
        TrialEvent::Looked(Look {
            seeds: 2,
            share: 1.0,
            findings: vec![Finding { contrast: "dropout × ema".into(), ..Finding::default() }],
        }),
    ]
}

#[test]
fn a_study_comes_back_and_is_made_only_once() {
    let scratch = tempfile::tempdir().expect("scratch");
    let root = scratch.path().join("studies/s");
    let folder = StudyDir::create(&root, &study(), "[data]\n").expect("created");
    assert_eq!(StudyDir::open(&root).expect("opened"), (folder.clone(), study()));
    assert_eq!(fs::read_to_string(folder.recipe()).expect("read"), "[data]\n");
    let again = StudyDir::create(&root, &study(), "").expect_err("it is there");
    assert!(matches!(again, RecordError::ForeignFolder(_)), "{again}");
    let lock = folder.lock().expect("free");
    assert!(matches!(folder.lock(), Err(RecordError::InUse(_))));
    drop(lock);
    folder.lock().expect("free again");
    let none = StudyDir::open(scratch.path()).expect_err("no study").to_string();
    assert!(none.contains("study.json") && none.contains("heldout ablate"), "{none}");
    folder.write_study(&Study { format: 99, ..study() }).expect("written");
    let newer = StudyDir::open(&root).expect_err("another format").to_string();
    assert!(newer.contains("format 1") && newer.contains("99"), "{newer}");
}

#[test]
fn a_torn_last_line_is_cut_off_and_nothing_else_is_lost() {
    let scratch = tempfile::tempdir().expect("scratch");
    let path = scratch.path().join("trials.jsonl");
    assert_eq!(read_trials(&path).expect("none yet"), []);
    let (mut ledger, none) = Ledger::open(&path).expect("made");
    assert!(none.is_empty());
    for line in lines() {
        ledger.append(&line).expect("appended");
    }
    drop(ledger);
    assert_eq!(read_trials(&path).expect("read"), lines());
    let whole = fs::read(&path).expect("read");
    let last = whole[..whole.len() - 1].iter().rposition(|&b| b == b'\n').expect("lines") + 1;
    // Wherever the crash cuts the last line, the others stay and the next append is whole.
    for cut in [last, last + 1, (last + whole.len()) / 2, whole.len() - 1] {
        fs::write(&path, &whole[..cut]).expect("written");
        let (mut ledger, events) = Ledger::open(&path).expect("opened");
        assert_eq!(events, lines()[..4], "cut at {cut}");
        ledger.append(&lines()[4]).expect("appended");
        assert_eq!(fs::read(&path).expect("read"), whole, "cut at {cut}");
    }
    fs::write(&path, "{\"event\":\"started\"}\n{}\n").expect("written");
    let damaged = Ledger::open(&path).expect_err("damaged").to_string();
    assert!(damaged.contains("trials.jsonl, line 1: expected a trial's event"), "{damaged}");
}

fn figures() -> NgramFigures {
    NgramFigures { order: 4, loss_valid: 1.5, loss_test: f64::INFINITY, ..NgramFigures::default() }
}

#[test]
fn results_and_a_trials_end_come_back() {
    let scratch = tempfile::tempdir().expect("scratch");
    let folder = StudyDir::create(&scratch.path().join("s"), &study(), "").expect("created");
    let estimate = EffectEstimate { mean: 0.1, low: f64::NEG_INFINITY, high: 0.3 };
    let result = StudyResult {
        standing: Standing::Budget,
        effects: vec![EffectRecord {
            verdict: Verdict::Helps,
            test: estimate,
            settled_at: Some(3),
            ..EffectRecord::default()
        }],
        baseline: Some(figures()),
        noise: Some(NoiseFloor { seed_sd: 0.01, paired_sd: 0.005, detectable: 0.02 }),
        ..StudyResult::default()
    };
    folder.write_result(&result).expect("written");
    assert_eq!(folder.read_result().expect("read"), result);
    assert_eq!(folder.read_baseline().expect("none yet"), None);
    let record = BaselineRecord { order: 4, ..BaselineRecord::default() };
    let records = vec![KeyedBaseline { key: "k".into(), record }];
    let baseline = StudyBaseline { figures: figures(), records };
    folder.write_baseline(&baseline).expect("written");
    assert_eq!(folder.read_baseline().expect("read"), Some(baseline));
    let run: RunDir = folder.run("a-seed1");
    fs::create_dir_all(&run.root).expect("made");
    assert_eq!(run.read_trial().expect("none yet"), None);
    run.write_trial(&lines()[2]).expect("written");
    assert_eq!(run.read_trial().expect("read"), Some(lines()[2].clone()));
}
