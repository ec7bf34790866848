//! A finished run opened again: the same figures, the same text, the same weights elsewhere.

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use heldout_kernels::{Device, Precision};
use heldout_model::generate::{Sampling, generate};
use heldout_record::{Event, RunDir};
use heldout_train::recipe::Recipe;
use heldout_train::session::Session;
use heldout_train::{Advice, Regime, Split, advise, evaluate_files, evaluate_run};
use support::*;

fn device() -> Arc<Device> {
    Arc::new(Device::cpu(2, Precision::F32).expect("a processor"))
}

fn of_split(path: &Path, split: Split) -> heldout_train::Evaluation {
    let run = RunDir::open(path).expect("a run");
    evaluate_run(&run, split, &cache(), device(), &mut |_| {}).expect("an evaluation")
}

#[test]
fn the_result_scores_what_the_run_recorded() {
    let done = run("recorded", &["evaluate.windows=all", "regularize.ema=0.5"]);
    let best = done.outcome.best.expect("a best");
    let again = of_split(&done.path, Split::Validation);
    assert!((again.loss - best.loss_valid).abs() <= 1e-6, "{again:?} {best:?}");
    assert!((again.loss_se - best.loss_valid_se).abs() <= 1e-6);
    assert!((again.perplexity - best.loss_valid.exp()).abs() <= 1e-4);
    assert!(again.accuracy > 0.1 && again.accuracy < 1.0 && again.accuracy_se > 0.0);
    assert!(again.bits_per_byte > 0.5 && again.bits_per_byte < 5.0);
    assert!(done.outcome.whole_split.is_none(), "every evaluation saw all of it");
}

#[test]
fn a_sampled_run_scores_its_result_on_the_whole_split_at_the_end() {
    let done = run("sampled", &["evaluate.windows=5"]);
    let (loss, se) = done.outcome.whole_split.expect("a final score");
    let again = of_split(&done.path, Split::Validation);
    assert!((again.loss - loss).abs() <= 1e-6 && (again.loss_se - se).abs() <= 1e-6);
    let stopped = done.events.iter().find_map(|e| match e {
        Event::Stopped(stopped) => stopped.best_loss_valid,
        _ => None,
    });
    assert_eq!(stopped, Some(loss));
}

#[test]
fn the_gap_is_like_for_like() {
    // Many passes over very little text with no regularization: it must overfit, and the training
    // sample must score as the training split does.
    let done = run(
        "overfit",
        &["schedule.horizon=150 steps", "evaluate.every=150 steps", "evaluate.train-windows=1000"],
    );
    let record = done.events.iter().find_map(|e| match e {
        Event::Evaluation(record) => Some(record.clone()),
        _ => None,
    });
    let record = record.expect("one evaluation");
    let train = of_split(&done.path, Split::Train);
    assert!((train.loss - record.loss_train).abs() < 3.0 * record.loss_train_se);
    assert!((record.gap - (record.loss_valid - record.loss_train)).abs() < 1e-12);
    assert!(record.gap_se >= record.loss_valid_se && record.gap_se >= record.loss_train_se);
}

#[test]
fn other_text_is_scored_as_a_stream_with_the_same_figures() {
    let done = run("stream", &["evaluate.windows=all"]);
    let whole = fs::read_to_string(corpus()).expect("the corpus");
    // The held-out tail as a file of its own, cut as the run cut it.
    let again = of_split(&done.path, Split::Validation);
    let characters = whole.chars().count();
    let tail: String = whole.chars().skip(characters - again.tokens as usize - 1).collect();
    let file = scratch().join("tail.txt");
    fs::write(&file, tail).expect("a file");
    let mut session = Session::open(&done.path, device()).expect("a session");
    let names = [file.display().to_string()];
    let streamed = evaluate_files(&mut session, &names, None, "contiguous").expect("a score");
    assert_eq!(streamed.tokens, again.tokens);
    assert!((streamed.loss - again.loss).abs() <= 1e-6, "{streamed:?} {again:?}");
    assert!((streamed.accuracy - again.accuracy).abs() <= 1e-9);
    let empty = scratch().join("one.txt");
    fs::write(&empty, "t").expect("a file");
    let names = [empty.display().to_string()];
    let error = evaluate_files(&mut session, &names, None, "contiguous").expect_err("too short");
    assert!(error.to_string().contains("fewer than"), "{error}");
}

#[test]
fn a_result_is_a_folder_that_opens_anywhere() {
    let done = run("export", &["model.family=llama", "model.qk-norm=true"]);
    for name in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
    {
        let text = fs::read_to_string(done.path.join("model").join(name)).expect(name);
        let _: serde_json::Value = serde_json::from_str(&text).expect(name);
    }
    let mut texts = Vec::new();
    for folder in [done.path.clone(), done.path.join("model"), done.path.join("best")] {
        let Session { model, weights, tokenizer, mut tape, .. } =
            Session::open(&folder, device()).expect("a session");
        let prompt = tokenizer.encode("the cat ").expect("known letters");
        let sampling = Sampling { temperature: 0.0, max_new_tokens: 20, ..Sampling::default() };
        let on_token = &mut |_| ControlFlow::Continue(());
        let ids = generate(&model, &mut tape, &weights, &prompt, &sampling, on_token);
        texts.push(tokenizer.decode(&ids.expect("some text")));
    }
    assert!(texts.iter().all(|t| *t == texts[0] && t.chars().count() == 20), "{texts:?}");
}

#[test]
fn training_goes_on_from_a_models_weights() {
    let first = run("first", &["schedule.horizon=60 steps"]);
    let from = format!("model.from={}", first.path.display());
    // The sizes come with the weights, so the recipe must not name them.
    let mut recipe = heldout_train::recipe::Recipe::parse(
        "[data]\nvalidation = \"last 10%\"\nduplicates = \"report\"\n[batch]\nsize = 8\n\
         [optimizer]\nlearning-rate = 1e-9\n[schedule]\nhorizon = \"1 steps\"\n\
         [model]\ncontext = 16\n[regularize]\nweight-decay = false\n\
         [run]\nprecision = \"f32\"\n[evaluate]\nwindows = \"all\"\n",
        "from.toml",
    )
    .expect("a recipe");
    recipe.set(&from).expect("a setting");
    recipe.set_data(&[corpus().display().to_string()]).expect("a path");
    let job = heldout_train::prepare_job(&recipe, &cache(), &mut |_| {}).expect("a job");
    let run = RunDir::create(&run_path("second")).expect("a folder");
    let control = heldout_train::Control::new();
    let outcome = heldout_train::train(job, run, vec![], &mut (), &control).expect("a run");
    let loss = outcome.best.expect("a best").loss_valid;
    let expected = of_split(&first.path, Split::Validation).loss;
    assert!((loss - expected).abs() < 1e-3, "{loss} {expected}");
    recipe.set("model.width=32").expect("a setting");
    let error = heldout_train::prepare_job(&recipe, &cache(), &mut |_| {}).err().expect("refused");
    assert!(error.to_string().contains("no effect beside `from`"), "{error}");
}

const SMALL: &str = r#"
data = { validation = "last 10%", tokenizer = "char", duplicates = "report" }
model = { layers = 2, heads = 2, width = 16, context = 16 }
batch = { size = 8 }
"#;

#[test]
fn advice_names_the_regime_and_gives_a_recipe_that_runs() {
    // Large enough not to count as tiny, whatever the horizon.
    let data = support::write_corpus("advice.txt", 2000).display().to_string();
    let of = |settings: &[&str]| {
        let mut recipe = Recipe::parse(SMALL, "small.toml").expect("it is TOML");
        recipe.set_data(std::slice::from_ref(&data)).expect("a path");
        settings.iter().for_each(|setting| recipe.set(setting).expect("a setting"));
        advise(&recipe, &cache(), &mut |_| {}).expect("advice").0
    };
    let advice = of(&["schedule.horizon=200 epochs"]);
    assert_eq!(advice.regime, Regime::FixedData);
    assert!(advice.findings.iter().any(|t| t.contains("training tokens")));
    assert!(advice.figures.repeated < 0.01, "{:?}", advice.figures);
    let dropout = |advice: &Advice| {
        advice.choices.iter().find(|c| c.key == "regularize.dropout").map(|c| c.value.clone())
    };
    assert!(dropout(&advice).is_some_and(|sites| sites.contains("attention-output = 0.")));
    assert!(advice.recipe.contains("# advice: "), "{}", advice.recipe);
    let recipe = Recipe::parse(&advice.recipe, "advice.toml").expect("it is TOML");
    recipe.draft().expect("it is a recipe");
    // Again, the recipe itself has nothing left to advise on.
    let (again, _) = advise(&recipe, &cache(), &mut |_| {}).expect("advice");
    assert_eq!(again.choices, []);
    let own = of(&["schedule.horizon=200 epochs", "regularize.dropout=0.05"]);
    assert_eq!(dropout(&own), None, "what the user wrote stays");
    let once = of(&["schedule.horizon=1 epochs"]);
    assert_eq!((once.regime, dropout(&once).as_deref()), (Regime::OnePass, Some("false")));
    let tiny = support::recipe(&["schedule.horizon=200 epochs"]);
    let (tiny, _) = advise(&tiny, &cache(), &mut |_| {}).expect("advice");
    assert_eq!(tiny.regime, Regime::Tiny);
}

#[test]
fn folders_that_are_no_model_say_what_is_wrong() {
    let check = |path: &Path, part: &str| {
        let error = Session::open(path, device()).err().expect("refused").to_string();
        assert!(error.contains(part), "{error}");
    };
    check(Path::new("/no/such/folder"), "no such folder");
    let empty = scratch().join("empty");
    fs::create_dir_all(&empty).expect("a folder");
    check(&empty, "no config.json");
    let started = run_path("started");
    RunDir::create(&started).expect("a run");
    check(&started, "no checkpoint yet");
}
