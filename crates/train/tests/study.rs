//! The loop of a study with workers that only pretend, and trials that are real but tiny.

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::time::Duration;

use heldout_record::study::{
    Arm, Look, Rule, Study, StudyDir, TrialEvent, TrialResult, Tuning, read_trials,
};
use heldout_train::study::{
    Added, Analyst, Keep, Limits, Ngram, Question, Rates, Stopping, Surroundings, TrialEnd,
    TrialSpec, WorkerEnd, Workers, conduct, count_baseline, design, run_trial,
};
use heldout_train::{Control, TrainError};
use support::{cache, recipe, run_path};

/// What a pretended worker does with a trial.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Ends,
    Dies,
    Breaks,
}

struct Pretend<'a> {
    folder: &'a StudyDir,
    does: &'a dyn Fn(&TrialSpec, u32) -> Does,
    lasts: Duration,
    begun: BTreeMap<String, u32>,
    busy: VecDeque<(usize, WorkerEnd)>,
    /// Names in the order in which they were begun.
    order: Vec<String>,
    is_stopped: bool,
}

impl Workers for Pretend<'_> {
    fn start(&mut self, worker: usize, spec: &TrialSpec) -> Result<(), TrainError> {
        let attempt = self.begun.entry(spec.name()).or_default();
        *attempt += 1;
        self.order.push(spec.name());
        let end = match (self.does)(spec, *attempt) {
            Does::Ends => {
                let run = self.folder.run(&spec.name());
                fs::create_dir_all(&run.root).expect("made");
                run.write_trial(&finished(spec)).expect("written");
                WorkerEnd::Ended
            }
            Does::Dies => WorkerEnd::Died("killed".into()),
            Does::Breaks => WorkerEnd::Broken("disk full".into()),
        };
        self.busy.push_back((worker, end));
        Ok(())
    }

    fn wait(&mut self, _most: Duration) -> Option<(usize, WorkerEnd)> {
        std::thread::sleep(self.lasts);
        self.busy.pop_front()
    }

    fn stop(&mut self) {
        self.is_stopped = true;
    }
}

fn finished(spec: &TrialSpec) -> TrialEvent {
    TrialEvent::Finished(TrialResult {
        trial: spec.name(),
        arm: spec.arm.clone(),
        seed: spec.seed,
        rate_factor: spec.rate_factor,
        is_tuning: spec.is_tuning,
        loss_valid: spec.rate_factor,
        ..TrialResult::default()
    })
}

/// Wants nothing any more once it has looked.
struct Settled;

impl Analyst for Settled {
    fn arms_wanted(&self, study: &Study, events: &[TrialEvent], place: usize) -> Vec<String> {
        let looks = events.iter().filter(|e| matches!(e, TrialEvent::Looked(_))).count();
        if looks > 0 && place >= 2 { Vec::new() } else { Plain.arms_wanted(study, events, place) }
    }

    fn look_due(&self, study: &Study, events: &[TrialEvent]) -> Option<u64> {
        Plain.look_due(study, events).filter(|n| *n == 2)
    }

    fn look(&self, study: &Study, events: &[TrialEvent], seeds: u64) -> Look {
        Plain.look(study, events, seeds)
    }

    fn seeds_done(&self, study: &Study, events: &[TrialEvent]) -> u64 {
        Plain.seeds_done(study, events)
    }

    fn rate_factor(&self, _: &str, _: &[TrialEvent]) -> f64 {
        1.0
    }
}

/// Wants every arm and looks where it is planned, without any statistics.
struct Plain;

impl Analyst for Plain {
    fn arms_wanted(&self, study: &Study, _: &[TrialEvent], _: usize) -> Vec<String> {
        study.arms.iter().map(|arm| arm.name.clone()).collect()
    }

    fn look_due(&self, study: &Study, events: &[TrialEvent]) -> Option<u64> {
        let made = events.iter().filter(|e| matches!(e, TrialEvent::Looked(_))).count();
        let next = *study.rule.looks.get(made)?;
        (self.seeds_done(study, events) >= next).then_some(next)
    }

    fn look(&self, _: &Study, _: &[TrialEvent], seeds: u64) -> Look {
        Look { seeds, ..Look::default() }
    }

    fn seeds_done(&self, study: &Study, events: &[TrialEvent]) -> u64 {
        let ended = events.iter().filter(|event| match event {
            TrialEvent::Finished(t) => !t.is_tuning,
            event => matches!(event, TrialEvent::Failed(_)),
        });
        (ended.count() / study.arms.len()) as u64
    }

    fn rate_factor(&self, arm: &str, events: &[TrialEvent]) -> f64 {
        let is_of = |t: &&TrialResult| t.is_tuning && t.arm == arm;
        let tried = events.iter().filter_map(|e| match e {
            TrialEvent::Finished(t) => Some(t),
            _ => None,
        });
        let best = tried.filter(is_of).min_by(|a, b| a.loss_valid.total_cmp(&b.loss_valid));
        best.map_or(1.0, |t| t.rate_factor)
    }
}

fn study(seeds: u64) -> (StudyDir, Study) {
    let arm = |name: &str| Arm { name: name.into(), ..Arm::default() };
    let study = Study {
        format: heldout_record::study::FORMAT,
        arms: vec![arm("reference"), arm("no-x")],
        seeds: (1..=seeds).collect(),
        rule: Rule { looks: vec![seeds], ..Rule::default() },
        ..Study::default()
    };
    let folder = StudyDir::create(&run_path("study"), &study, "").expect("created");
    (folder, study)
}

struct Went {
    why: Result<Stopping, String>,
    order: Vec<String>,
    is_stopped: bool,
}

fn go(
    folder: &StudyDir,
    study: &Study,
    limits: &Limits,
    lasts: Duration,
    does: &dyn Fn(&TrialSpec, u32) -> Does,
) -> Went {
    let (begun, busy, order) = Default::default();
    let mut workers = Pretend { folder, does, lasts, begun, busy, order, is_stopped: false };
    let ended = conduct(folder, study, limits, &mut workers, &Plain, &Control::new(), &mut |_| {});
    let why = ended.map(|e| e.why).map_err(|e| e.to_string());
    Went { why, order: workers.order, is_stopped: workers.is_stopped }
}

fn limits(workers: usize) -> Limits {
    Limits { workers, budget: None, keep: Keep::Best }
}

const AT_ONCE: Duration = Duration::from_millis(1);

/// How often each trial begins and ends in the ledger.
fn counts(folder: &StudyDir) -> BTreeMap<String, (u32, u32)> {
    let mut counts: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for event in read_trials(&folder.trials()).expect("a ledger") {
        let Some(trial) = event.trial() else { continue };
        let count = counts.entry(trial.to_owned()).or_default();
        match event {
            TrialEvent::Started(_) => count.0 += 1,
            TrialEvent::Finished(_) | TrialEvent::Failed(_) => count.1 += 1,
            _ => {}
        }
    }
    counts
}

#[test]
fn trials_go_seed_by_seed_and_only_once() {
    let (folder, study) = study(3);
    for workers in [1, 3] {
        let went = go(&folder, &study, &limits(workers), AT_ONCE, &|_, _| Does::Ends);
        assert_eq!(went.why, Ok(Stopping::Done));
        // The second time there is nothing left to do.
        let expected: &[&str] = match workers {
            1 => &[
                "reference-seed1",
                "no-x-seed1",
                "reference-seed2",
                "no-x-seed2",
                "reference-seed3",
                "no-x-seed3",
            ],
            _ => &[],
        };
        assert_eq!(went.order, expected);
    }
    assert_eq!(counts(&folder).len(), 6);
    assert!(counts(&folder).values().all(|count| *count == (1, 1)));
}

#[test]
fn a_settled_study_ends_also_where_the_look_was_not_written_any_more() {
    let (folder, study) = study(9);
    let study = Study { rule: Rule { looks: vec![2, 5, 9], ..Rule::default() }, ..study };
    let (begun, busy, order) = Default::default();
    let does = &|_: &TrialSpec, _: u32| Does::Ends;
    let mut workers =
        Pretend { folder: &folder, does, lasts: AT_ONCE, begun, busy, order, is_stopped: false };
    for round in 0..3 {
        let control = Control::new();
        let ended =
            conduct(&folder, &study, &limits(1), &mut workers, &Settled, &control, &mut |_| {});
        assert_eq!(ended.expect("it ends").why, Stopping::Done);
        assert_eq!(workers.order.len(), 4, "round {round}");
        // Killed after the last trial's end was noted, before the look was.
        let text = fs::read_to_string(folder.trials()).expect("a ledger");
        let kept: String =
            text.lines().filter(|l| !l.contains("looked")).map(|l| format!("{l}\n")).collect();
        fs::write(folder.trials(), kept).expect("cut");
    }
}

#[test]
fn what_the_ledger_did_not_learn_is_read_from_the_folders() {
    let (folder, study) = study(2);
    go(&folder, &study, &limits(1), AT_ONCE, &|_, _| Does::Ends);
    let ledger = fs::read_to_string(folder.trials()).expect("a ledger");
    // Killed after the first trial's end was written down, but before the ledger had it.
    let first: String = ledger.lines().take(1).map(|line| format!("{line}\n")).collect();
    fs::write(folder.trials(), first).expect("cut");
    let went = go(&folder, &study, &limits(1), AT_ONCE, &|_, _| Does::Breaks);
    assert_eq!((went.why, went.order), (Ok(Stopping::Done), vec![]));
    assert_eq!(counts(&folder)["reference-seed1"], (1, 1));
    assert_eq!(counts(&folder).len(), 4);
}

#[test]
fn a_worker_that_dies_is_replaced_and_a_trial_that_kills_fails() {
    let (folder, study) = study(2);
    let does = |spec: &TrialSpec, attempt: u32| match spec.name().as_str() {
        "reference-seed1" if attempt < 3 => Does::Dies,
        "no-x-seed2" => Does::Dies,
        _ => Does::Ends,
    };
    let went = go(&folder, &study, &limits(2), AT_ONCE, &does);
    assert_eq!(went.why, Ok(Stopping::Done));
    assert!(counts(&folder).values().all(|count| *count == (1, 1)), "{:?}", counts(&folder));
    let events = read_trials(&folder.trials()).expect("a ledger");
    let failed: Vec<_> = events
        .iter()
        .filter(|e| matches!(e, TrialEvent::Failed(_)))
        .map(TrialEvent::trial)
        .collect();
    assert_eq!(failed, [Some("no-x-seed2")]);
    let resumed = events.iter().filter(|e| matches!(e, TrialEvent::Resumed(_))).count();
    assert_eq!(resumed, 4);
}

#[test]
fn what_would_break_any_trial_ends_the_study_and_it_can_go_on() {
    let (folder, study) = study(2);
    let does = |spec: &TrialSpec, _: u32| match spec.seed {
        2 => Does::Breaks,
        _ => Does::Ends,
    };
    let went = go(&folder, &study, &limits(1), AT_ONCE, &does);
    let error = went.why.expect_err("it is broken");
    assert!(error.contains("disk full") && error.contains("reference-seed2"), "{error}");
    assert!(went.is_stopped);
    let went = go(&folder, &study, &limits(1), AT_ONCE, &|_, _| Does::Ends);
    assert_eq!(went.why, Ok(Stopping::Done));
    assert!(counts(&folder).values().all(|count| *count == (1, 1)));
}

#[test]
fn a_budget_leaves_whole_pairs() {
    let (folder, study) = study(30);
    let limits = Limits { budget: Some(Duration::from_millis(250)), ..limits(1) };
    let went = go(&folder, &study, &limits, Duration::from_millis(20), &|_, _| Does::Ends);
    assert_eq!(went.why, Ok(Stopping::Budget));
    let ended = counts(&folder).len();
    assert!((2..60).contains(&ended) && ended.is_multiple_of(2), "{ended}");
    let events = read_trials(&folder.trials()).expect("a ledger");
    let looks = events.iter().filter(|e| matches!(e, TrialEvent::Looked(_))).count();
    assert_eq!(looks, usize::from(ended >= 4), "what there is was looked at");
}

#[test]
fn rates_are_chosen_before_the_first_seed() {
    let (folder, study) = study(2);
    let study = Study { tuning: Some(Tuning { factors: vec![0.5, 1.0], seed: 99 }), ..study };
    let went = go(&folder, &study, &limits(2), AT_ONCE, &|_, _| Does::Ends);
    assert_eq!(went.why, Ok(Stopping::Done));
    let tuning = ["reference-rate0.5", "reference-rate1", "no-x-rate0.5", "no-x-rate1"];
    assert_eq!(went.order[..4], tuning);
    let events = read_trials(&folder.trials()).expect("a ledger");
    let chosen = events.iter().filter_map(|e| match e {
        TrialEvent::Finished(t) if !t.is_tuning => Some(t.rate_factor),
        _ => None,
    });
    assert_eq!(chosen.collect::<Vec<_>>(), [0.5; 4]);
}

fn question() -> Question {
    Question { seeds: 2, looks: vec![2], rope: 0.005, ..Question::default() }
}

fn designed(question: &Question, settings: &[&str]) -> Result<(StudyDir, Study), TrainError> {
    let designed = design(question, &recipe(settings), &cache(), &mut |_| {})?;
    let folder = StudyDir::create(&run_path("study"), &designed.study, &designed.recipe)?;
    Ok((folder, designed.study))
}

#[test]
fn a_design_names_what_is_wrong_with_a_question() {
    let error = |question: Question, settings: &[&str]| {
        designed(&question, settings).expect_err("it makes no sense").to_string()
    };
    let drop = |name: &str| Question { drop: vec![name.into()], ..question() };
    let add = |name: &str, value: Option<&str>| Question {
        add: vec![Added { name: name.into(), value: value.map(str::to_owned) }],
        ..question()
    };
    let found = error(drop("dropout"), &[]);
    assert!(found.contains("off in this recipe") && found.contains("--add dropout"), "{found}");
    let found = error(add("weight-tying", None), &[]);
    assert!(found.contains("on in this recipe"), "{found}");
    let found = error(drop("dropuot"), &[]);
    assert!(found.contains("dropout"), "{found}");
    let found = error(add("dropout", Some("7")), &[]);
    assert!(found.contains("with-dropout") && found.contains("out of range"), "{found}");
    let found = error(question(), &["schedule.horizon=10 min"]);
    assert!(found.contains("as many steps"), "{found}");
}

#[test]
fn a_study_adds_a_test_split_and_gives_all_arms_the_same_length() {
    let settings = ["regularize.early-stopping=true", "schedule.horizon=80 steps"];
    let (folder, study) = designed(&question(), &settings).expect("a study");
    let names: Vec<_> = study.arms.iter().map(|arm| arm.name.as_str()).collect();
    assert_eq!(names, ["reference", "no-weight-tying", "no-shuffle", "no-gradient-clipping"]);
    let recipe = fs::read_to_string(folder.recipe()).expect("a recipe");
    assert!(recipe.contains("test = \"last 10%\"") && recipe.contains("early-stopping = false"));
    assert!(study.notes.iter().any(|note| note.contains("no test split")), "{:?}", study.notes);
    assert!(study.notes.iter().any(|note| note.contains("early-stopping is off")));
    assert_eq!(study.seeds, [1, 2]);
}

#[test]
fn a_trial_scores_the_test_split_and_goes_on_where_it_was_stopped() {
    let question = Question { rates: Rates::Retuned, ..question() };
    let (folder, study) = designed(&question, &[]).expect("a study");
    let cache = cache();
    let spec =
        |arm: &str, seed| TrialSpec { arm: arm.into(), seed, rate_factor: 1.0, is_tuning: false };
    let run = |spec: &TrialSpec, control: &Control, keep: Keep| {
        let around = Surroundings { cache: &cache, threads: 1, keep, control };
        run_trial(&folder, &study, spec, &around, &mut ()).expect("it runs")
    };
    let whole = |spec: &TrialSpec| match run(spec, &Control::new(), Keep::Best) {
        TrialEnd::Ended(event) => match *event {
            TrialEvent::Finished(result) => result,
            other => panic!("{other:?}"),
        },
        TrialEnd::Interrupted => panic!("nobody interrupted it"),
    };
    let result = whole(&spec("reference", 1));
    assert!(result.loss_test.is_finite() && result.loss_test != result.loss_valid);
    assert!((result.gap - (result.loss_valid - result.loss_train)).abs() < 1e-9, "{result:?}");
    let left = folder.run("reference-seed1");
    assert!(left.model().exists() && left.metrics().exists() && !left.checkpoints().exists());
    // Asked again, it does not run again.
    assert_eq!(whole(&spec("reference", 1)), result);
    // Stopped at once, and once more in the middle of things, it ends the same.
    let other = spec("no-shuffle", 2);
    let expected = whole(&other);
    fs::remove_dir_all(folder.run(&other.name()).root).expect("removed");
    let stopped = Control::new();
    stopped.stop_gracefully();
    assert_eq!(run(&other, &stopped, Keep::Best), TrialEnd::Interrupted);
    let again = whole(&other);
    assert_eq!(again.loss_test.to_bits(), expected.loss_test.to_bits());
    assert_eq!((again.steps, again.best_step), (expected.steps, expected.best_step));
    // What a process left that was killed at once is no run.
    let third = spec("reference", 2);
    fs::create_dir_all(folder.run(&third.name()).checkpoints()).expect("made");
    fs::write(folder.run(&third.name()).root.join("plan.json"), "{").expect("written");
    assert!(whole(&third).loss_test.is_finite());
}

#[test]
fn an_arm_that_explodes_is_a_result() {
    let question = Question {
        add: vec![Added { name: "l2".into(), value: Some("100".into()) }],
        ..question()
    };
    let settings = [
        "optimizer.name=gradient-descent",
        "optimizer.learning-rate=0.5",
        "regularize.gradient-clipping=false",
    ];
    let (folder, study) = designed(&question, &settings).expect("a study");
    let control = Control::new();
    let cache = cache();
    let around = Surroundings { cache: &cache, threads: 1, keep: Keep::Best, control: &control };
    let spec = TrialSpec { arm: "with-l2".into(), seed: 1, rate_factor: 1.0, is_tuning: false };
    let end = run_trial(&folder, &study, &spec, &around, &mut ()).expect("that is no error");
    let TrialEnd::Ended(event) = end else { panic!("nobody interrupted it") };
    let TrialEvent::Failed(failed) = *event else { panic!("{event:?}") };
    assert_eq!(failed.reason, heldout_record::StopReason::Diverged);
    assert!(!failed.detail.is_empty());
}

#[test]
fn a_trial_that_another_process_is_ending_is_waited_for_and_not_done_again() {
    let (folder, study) = designed(&question(), &[]).expect("a study");
    let spec = TrialSpec { arm: "reference".into(), seed: 1, rate_factor: 1.0, is_tuning: false };
    let cache = cache();
    let end = |folder: &StudyDir, control: &Control| {
        let around = Surroundings { cache: &cache, threads: 1, keep: Keep::Best, control };
        run_trial(folder, &study, &spec, &around, &mut ()).expect("it runs")
    };
    // A worker whose study was killed has trained, holds the run no more, and scores its test split.
    let held = folder.lock_trial(&spec.name()).expect("nobody else");
    let stopping = Control::new();
    stopping.stop_gracefully();
    assert!(matches!(end(&folder, &stopping), TrialEnd::Interrupted));
    assert!(!folder.run(&spec.name()).root.exists(), "nothing was begun");
    let elsewhere = designed(&question(), &[]).expect("a study").0;
    let TrialEnd::Ended(ended) = end(&elsewhere, &Control::new()) else { panic!("it ended") };
    let done = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| end(&folder, &Control::new()));
        std::thread::sleep(std::time::Duration::from_millis(300));
        let run = folder.run(&spec.name());
        fs::create_dir_all(&run.root).expect("made");
        run.write_trial(&ended).expect("written");
        drop(held);
        waiting.join().expect("no panic")
    });
    let TrialEnd::Ended(done) = done else { panic!("it ended") };
    assert_eq!(done, ended);
    assert!(!folder.run(&spec.name()).metrics().exists(), "it was not trained again");
}

#[test]
fn n_grams_are_counted_once_and_every_trial_takes_them() {
    let settings = ["evaluate.baseline=n-gram"];
    let designed = design(&question(), &recipe(&settings), &cache(), &mut |_| {}).expect("made");
    let folder = StudyDir::create(&run_path("study"), &designed.study, &designed.recipe);
    let (folder, study) = (folder.expect("made"), designed.study);
    let control = Control::new();
    let count = |study: &Study, known| {
        let counted = count_baseline(study, &designed.recipe, known, &cache(), &control);
        counted.expect("counted")
    };
    let Ngram::Counted(baseline) = count(&study, None) else { panic!("it was not counted") };
    // These evaluations see a sample that the seed chooses: a record for each.
    assert_eq!(baseline.records.len(), 2);
    assert!(baseline.figures.loss_test.is_finite());
    assert!(matches!(count(&study, Some(&baseline)), Ngram::Known));
    let more = Study { seeds: vec![1, 2, 3], ..study.clone() };
    let Ngram::Counted(third) = count(&more, Some(&baseline)) else { panic!("one is missing") };
    assert_eq!(third.records[..2], baseline.records);
    assert_eq!((third.records.len(), &third.figures), (3, &baseline.figures));
    // One that was marked shows that the trial took it; where the key is another, it counts.
    let mut marked = baseline.clone();
    marked.records[0].record.seconds = 12345.0;
    folder.write_baseline(&marked).expect("written");
    let cache = cache();
    let around = Surroundings { cache: &cache, threads: 1, keep: Keep::Best, control: &control };
    let recorded = |seed: u64| {
        let arm = "reference".to_owned();
        let spec = TrialSpec { arm, seed, rate_factor: 1.0, is_tuning: false };
        run_trial(&folder, &study, &spec, &around, &mut ()).expect("it runs");
        let events = heldout_record::read_metrics(&folder.run(&spec.name()).metrics());
        events.expect("metrics").into_iter().find_map(|event| match event {
            heldout_record::Event::Baseline(record) => Some(record),
            _ => None,
        })
    };
    assert_eq!(recorded(1).as_ref(), Some(&marked.records[0].record));
    marked.records[1].key = "of other data".into();
    folder.write_baseline(&marked).expect("written");
    let own = recorded(2).expect("it counted for itself");
    let seconds = marked.records[1].record.seconds;
    assert_eq!(heldout_record::BaselineRecord { seconds, ..own }, marked.records[1].record);
}
