//! Question answering from records to a result: it learns, goes on to the same bits, is judged by
//! SQuAD's figures beside a rule, and refuses what its loss has no place for.

mod support;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use heldout_base::rng::{Random, streams};
use heldout_data::answers::AnswerFields;
use heldout_kernels::{Device, Precision};
use heldout_record::{AnswersRecord, Event, RunDir};
use heldout_train::recipe::Recipe;
use heldout_train::{
    Answerer, Control, Job, Silence, Split, TrainError, evaluate_answers, prepare_job, train,
};
use support::*;

const THINGS: [&str; 6] = ["key", "cup", "hat", "pen", "box", "map"];
const PLACES: [&str; 6] = ["hall", "barn", "well", "loft", "shed", "tent"];

/// Who is where: the answer is the word behind "in".
fn write_questions(name: &str, first: u64, count: u64, silent: u64) -> PathBuf {
    let line = |n: u64| {
        let random = Random::new(12, streams::TEST, n);
        let pick = |slot: u64, words: &[&'static str; 6]| words[random.below(slot, 6) as usize];
        let (thing, place) = (pick(0, &THINGS), pick(1, &PLACES));
        let lead = ["so ", "and so ", "", "now "][random.below(2, 4) as usize];
        let is_silent = silent > 0 && n.is_multiple_of(silent);
        let (question, context) = match is_silent {
            true => ("where", format!("{lead}{n} the {thing} is lost")),
            false => ("where", format!("{lead}{n} the {thing} is in {place} today")),
        };
        let answers = if is_silent { vec![] } else { vec![place] };
        let record = serde_json::json!({"id": n.to_string(), "question": question,
                                        "context": context, "answers": answers});
        record.to_string()
    };
    let lines: Vec<String> = (first..first + count).map(line).collect();
    let path = scratch().join(name);
    // Tests run side by side and share these files.
    let own = scratch().join(format!("{name}-{:?}", std::thread::current().id()));
    std::fs::write(&own, lines.join("\n") + "\n").expect("questions");
    std::fs::rename(&own, &path).expect("the same folder");
    path
}

fn asked(silent: u64, settings: &[&str]) -> Recipe {
    let train = write_questions(&format!("train{silent}.jsonl"), 0, 200, silent);
    let dev = write_questions(&format!("dev{silent}.jsonl"), 1000, 40, silent);
    let mut recipe = Recipe::parse(
        r#"
        [data]
        task = "qa"
        tokenizer = "wordpiece"
        vocabulary = 600
        [model]
        layers = 1
        heads = 2
        width = 32
        context = 32
        [optimizer]
        learning-rate = 0.01
        [schedule]
        horizon = "30 steps"
        [batch]
        size = 16
        [regularize]
        dropout = 0.1
        early-stopping = false
        [evaluate]
        every = "10 steps"
        [run]
        threads = 2
        precision = "f32"
        checkpoint = "7 steps"
        "#,
        "answers.toml",
    )
    .expect("TOML");
    recipe.set_data(&[train.display().to_string()]).expect("a path");
    recipe.set(&format!("data.validation={:?}", dev.display().to_string())).expect("a setting");
    settings.iter().for_each(|setting| recipe.set(setting).expect("a setting"));
    recipe
}

fn job_of(silent: u64, settings: &[&str]) -> Result<Job, TrainError> {
    prepare_job(&asked(silent, settings), &cache(), &mut |_| {})
}

fn device() -> Arc<Device> {
    Arc::new(Device::cpu(2, Precision::F32).expect("a processor"))
}

fn result(events: &[Event]) -> AnswersRecord {
    let of = |event: &Event| match event {
        Event::Answers(record) => Some(record.clone()),
        _ => None,
    };
    events.iter().find_map(of).expect("a run ends with what its answers are worth")
}

const LONG: [&str; 2] = ["schedule.horizon=\"150 steps\"", "evaluate.every=\"50 steps\""];

#[test]
fn answers_are_learned_scored_and_given() {
    let done = run_job("answers", job_of(0, &LONG).unwrap_or_else(|e| panic!("{e}")));
    let found = result(&done.events);
    assert!(found.f1.value > 0.9 && found.exact_match.value > 0.9, "{found:?}");
    assert!(found.f1.low <= found.f1.value && found.questions == 40);
    let baseline = done.events.iter().find_map(|event| match event {
        Event::AnswerBaseline(record) => Some(record.clone()),
        _ => None,
    });
    let baseline = baseline.expect("a rule to beat");
    assert!(baseline.silence.is_none() && baseline.examples == 40);
    assert!(baseline.rule.f1 < found.f1.value, "{baseline:?}");

    let evaluation =
        evaluate_answers(&done.path, Ok(Split::Validation), device(), None).expect("figures");
    assert_eq!(evaluation.metrics[0].value, found.exact_match.value);
    assert_eq!(evaluation.metrics[1].value, found.f1.value);
    assert_eq!(evaluation.baselines[0].f1, baseline.rule.f1);
    assert!(evaluation.baselines[0].low > 0.0, "{:?}", evaluation.baselines);

    let mut model = Answerer::open(&done.path, device()).expect("a model that answers");
    assert_eq!(model.rule.silence, Silence::Never);
    let file = write_questions("new.jsonl", 5000, 30, 0).display().to_string();
    let (mut right, mut all) = (0, 0);
    model
        .predict_files(&[file], &AnswerFields::default(), &mut |answered| {
            let (question, reply) = (answered.question, answered.reply);
            assert!(question.context[reply.start..].starts_with(&reply.text));
            assert!(reply.score > 0.0 && reply.score <= 1.0);
            right += usize::from(reply.text == question.answers[0].text);
            all += 1;
            ControlFlow::Continue(())
        })
        .expect("answers");
    assert_eq!(all, 30);
    assert!(right >= 27, "{right} of 30");
}

#[test]
fn no_answer_is_learned_where_there_is_none() {
    let done = run_job("silent", job_of(3, &LONG).unwrap_or_else(|e| panic!("{e}")));
    let found = result(&done.events);
    assert!(found.f1.value > 0.9, "{found:?}");
    let model = Answerer::open(&done.path, device()).expect("a model that answers");
    assert_eq!(model.rule.silence, Silence::Above(0.0), "it is written in config.json");
    let evaluation =
        evaluate_answers(&done.path, Ok(Split::Validation), device(), None).expect("figures");
    assert_eq!(evaluation.unanswerable, 13);
    assert_eq!(evaluation.baselines[1].exact_match, 13.0 / 40.0);
}

#[test]
fn over_a_stop_and_on_any_number_of_threads_the_bits_are_the_same() {
    let narrow = ["data.stride=4", "model.context=16"];
    let one = run_job("whole", job_of(0, &narrow).unwrap_or_else(|e| panic!("{e}")));
    let threads: Vec<&str> = narrow.into_iter().chain(["run.threads=1"]).collect();
    let other = run_job("one-thread", job_of(0, &threads).unwrap_or_else(|e| panic!("{e}")));
    assert_same_run(&one.path, &other.path, "threads");
    let micro: Vec<&str> = narrow.into_iter().chain(["batch.micro=16"]).collect();
    let path = run_path("stopped");
    let control = Control::new();
    let mut stop = StopAt { step: 17, control: control.clone() };
    let run = RunDir::create(&path).expect("a new folder");
    train(job_of(0, &micro).unwrap(), run, Vec::new(), &mut stop, &control).expect("a stop");
    go_on(&path).expect("the rest");
    assert_same_run(&one.path, &path, "a stop");
    // A head of spans is the same head on other questions.
    let from = format!("model.from={:?}", one.path.display().to_string());
    let text = "[data]\ntask = \"qa\"\n[schedule]\nhorizon = \"2 steps\"\n[run]\nthreads = 2";
    let mut recipe = Recipe::parse(text, "from.toml").expect("TOML");
    let file = write_questions("more.jsonl", 0, 60, 0).display().to_string();
    recipe.set_data(&[file]).expect("a path");
    recipe.set(&from).expect("a setting");
    let job = prepare_job(&recipe, &cache(), &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    let tuned = run_job("tuned", job);
    let fresh = "starts at random";
    let is_fresh =
        |event: &Event| matches!(event, Event::Notice(notice) if notice.text.contains(fresh));
    assert!(!tuned.events.iter().any(is_fresh));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let fail = |settings: &[&str]| match job_of(0, settings) {
        Ok(_) => panic!("{settings:?} is accepted"),
        Err(error) => error.to_string(),
    };
    for technique in ["label-smoothing=0.1", "r-drop=1", "confidence-penalty=0.1", "z-loss=0.001"] {
        let message = fail(&[&format!("regularize.{technique}")]);
        assert!(message.contains("first and last token"), "{message}");
    }
    let message = fail(&["regularize.distillation={ share = 0.3, decay = 0.9 }"]);
    assert!(message.contains("distillation"), "{message}");
    assert!(fail(&["data.label=\"label\""]).contains("no effect with the task \"qa\""));
    assert!(fail(&["evaluate.monitor=\"accuracy\""]).contains("exact-match"));
    assert!(fail(&["model.family=\"gpt2\""]).contains("has not read what follows"));
    let missing = fail(&["data.question=\"ask\""]);
    assert!(missing.contains("no field \"ask\""), "{missing}");
}

#[test]
fn exact_match_can_choose_the_weights() {
    let settings = [
        "evaluate.monitor=\"exact-match\"",
        "evaluate.every=\"3 steps\"",
        "regularize.early-stopping=\"5 evaluations\"",
    ];
    let done = run_job("watched", job_of(0, &settings).unwrap_or_else(|e| panic!("{e}")));
    let best = |event: &Event| match event {
        Event::Evaluation(e) => {
            Some((e.best, e.metrics.iter().find(|m| m.name == "exact-match")?.valid))
        }
        _ => None,
    };
    let all: Vec<(bool, f64)> = done.events.iter().filter_map(best).collect();
    let most = all.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let chosen = all.iter().rev().find(|(best, _)| *best).expect("one is the best");
    assert_eq!(chosen.1, most, "{all:?}");
}
