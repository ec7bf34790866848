//! What every technique of the catalogue must hold to, by iterating the registry; and the settings
//! that must be refused, in one table.

mod support;

use heldout_base::card::{Default_, Kind, Schedulable};
use heldout_base::schedule::{Schedule, Shape, Span};
use heldout_kernels::{Device, Precision};
use heldout_model::{Head, Model, ModelConfig, Tied};
use heldout_regularize::live::{AugmentMeasure, ClassWeightsMeasure, OrderMeasure, RedrawnMeasure};
use heldout_regularize::plan::{DecayMethod, Site};
use heldout_regularize::{
    Assembled, At, Bound, CATALOGUE, Entry, Facts, Learns, Length, Live, Plan, SettingError,
    Settings, Value, assemble, find,
};
use support::{facts, live, models, only};

fn number(value: f64) -> Settings {
    Settings::bare(Value::Number(value))
}

fn text(word: &str) -> Settings {
    Settings::bare(Value::Text(word.to_owned()))
}

fn example(entry: &Entry) -> Assembled {
    only(entry.name(), &entry.example_settings()).expect("an example is allowed")
}

/// The example, and that of a technique without which it does nothing.
fn example_with_companion(entry: &Entry) -> Assembled {
    let alone = example(entry);
    let Some(companion) = alone.techniques[0].companion() else { return alone };
    let (own, other) = (entry.example_settings(), find(companion).expect("registered"));
    let other_settings = other.example_settings();
    assemble([(entry.name(), &own), (companion, &other_settings)]).expect("they go together")
}

#[test]
fn cards_are_complete_and_names_are_unique() {
    for (place, entry) in CATALOGUE.iter().enumerate() {
        assert_eq!(entry.card.problems(), Vec::<String>::new());
        assert_eq!(entry.card.kind, Kind::Technique);
        assert!(!entry.card.knobs.is_empty(), "{}: a main knob is needed", entry.name());
        assert!(CATALOGUE[..place].iter().all(|earlier| earlier.name() != entry.name()));
        assert_eq!(find(entry.name()).expect("registered").name(), entry.name());
    }
}

#[test]
fn stages_follow_the_training_loop() {
    let stages: Vec<_> = CATALOGUE.iter().map(|entry| entry.card.stage).collect();
    assert!(stages.is_sorted(), "{stages:?}");
}

#[test]
fn defaults_and_examples_build() {
    for entry in CATALOGUE {
        example(entry);
        let empty_table = Settings::table([]);
        only(entry.name(), &empty_table).expect("a card's defaults are allowed");
    }
}

#[test]
fn off_is_absent() {
    for entry in CATALOGUE {
        for word in ["off", "no"] {
            let off = only(entry.name(), &text(word)).expect("off is a word");
            assert_eq!(off.plan, Plan::default(), "{}", entry.name());
            assert!(off.techniques.is_empty());
        }
        let off = Settings::bare(Value::off());
        assert_eq!(only(entry.name(), &off).expect("false is off").plan, Plan::default());
    }
    assert_eq!(Plan::default().describe(), ["plain training: no technique in use"]);
}

#[test]
fn contributions_are_owned_serialised_and_described() {
    for entry in CATALOGUE {
        let plan = example(entry).plan;
        assert_ne!(plan, Plan::default(), "{}", entry.name());
        let json = serde_json::to_string_pretty(&plan).expect("plain data");
        assert!(json.contains(&format!("\"owner\": \"{}\"", entry.name())), "{json}");
        let back: Plan = serde_json::from_str(&json).expect("its own");
        assert_eq!(back, plan);
        let owner = format!("({})", entry.name());
        let lines = plan.describe();
        assert!(lines.iter().all(|line| line.ends_with(&owner)), "{lines:?}");
        assert_eq!(plan, example(entry).plan, "the same settings give the same plan");
    }
}

#[test]
fn a_technique_given_twice_is_a_conflict_that_names_it() {
    for entry in CATALOGUE {
        let settings = entry.example_settings();
        let twice = [(entry.name(), &settings), (entry.name(), &settings)];
        let error = assemble(twice).expect_err("twice").to_string();
        assert!(error.contains(&format!("`{}` was given twice", entry.name())), "{error}");
    }
}

#[test]
fn all_techniques_together_make_one_plan() {
    // Lora leaves no room for others that say what is trained; `fine_tuning.rs` tests its conflicts.
    let entries = || CATALOGUE.iter().filter(|e| e.name() != "lora");
    let all: Vec<_> = entries().map(|e| (e.name(), e.example_settings())).collect();
    let forwards = assemble(all.iter().map(|(name, s)| (*name, s))).expect("no conflict");
    let backwards = assemble(all.iter().rev().map(|(name, s)| (*name, s))).expect("no conflict");
    assert_eq!(forwards.plan, backwards.plan, "the order in a recipe does not matter");
    let order: Vec<_> = forwards.techniques.iter().map(|t| t.card().name).collect();
    assert_eq!(order, entries().map(Entry::name).collect::<Vec<_>>());
}

#[test]
fn every_knob_is_checked_against_its_card() {
    for entry in CATALOGUE {
        for knob in entry.card.knobs {
            let error = |value: Value| {
                let settings = Settings::table([(knob.name, value)]);
                let error = only(entry.name(), &settings).expect_err("a wrong value");
                assert_eq!(error.technique(), entry.name());
                assert_eq!(error.knob(), Some(knob.name), "{error}");
                let shown = error.to_string();
                assert!(shown.contains(entry.name()) && shown.contains(knob.name), "{shown}");
            };
            let is_number = knob.choices.is_empty() && !matches!(knob.default, Default_::Text(_));
            if is_number {
                error(Value::Number(f64::NAN));
                error(Value::Number(knob.range.0 - 1.0));
                error(Value::Text("much".to_owned()));
            } else {
                error(Value::Number(3.0));
                error(Value::Text("nonsense words".to_owned()));
            }
            if is_number && knob.range.1.is_finite() {
                error(Value::Number(knob.range.1 * 2.0));
                let too_high = Schedule::constant(knob.range.1 * 2.0);
                error(Value::Schedule(too_high));
            }
            if knob.schedulable == Schedulable::No {
                error(Value::Schedule(Schedule::constant(1.0)));
            }
        }
        let stray = Settings::table([("stray-knob", Value::Number(1.0))]);
        let error = only(entry.name(), &stray).expect_err("no such knob").to_string();
        assert!(error.contains(entry.card.knobs[0].name), "{error}");
    }
}

#[test]
fn schedulable_knobs_take_schedules() {
    for entry in CATALOGUE {
        for knob in entry.card.knobs.iter().filter(|k| k.schedulable == Schedulable::Yes) {
            let peak = match knob.default {
                Default_::Number(number) => number,
                _ => 0.5 * (knob.range.0 + knob.range.1),
            };
            let schedule = |shape| Schedule { peak, warmup: Span::Share(0.1), shape };
            let falling = Value::Schedule(schedule(Shape::Cosine { end: 0.5 }));
            let plan = only(entry.name(), &Settings::table([(knob.name, falling)])).map(|a| a.plan);
            assert!(plan.expect("a schedule").describe()[0].contains("cosine"), "{}", knob.name);
            let plateau = Shape::Plateau { factor: 0.5, patience: 3, floor: 0.1 };
            let plateau = Settings::table([(knob.name, Value::Schedule(schedule(plateau)))]);
            let error = only(entry.name(), &plateau).expect_err("for the rate alone").to_string();
            assert!(error.contains("plateau"), "{error}");
        }
    }
}

#[test]
fn settings_without_effect_are_refused() {
    let table = |knobs: &[(&'static str, Value)]| Settings::table(knobs.iter().cloned());
    let word = |word: &str| Value::Text(word.to_owned());
    let zero = || Value::Number(0.0);
    let likeliest = table(&[("to", word("likeliest")), ("k", zero())]);
    let cases: Vec<(&str, Settings, &str)> = vec![
        ("dropout", number(0.0), "write dropout = \"off\""),
        ("dropout", table(&[("attention", zero())]), "no site is left"),
        ("head-dropout", number(0.0), "zero throughout"),
        ("token-dropout", number(0.0), "zero throughout"),
        ("layer-drop", number(0.0), "zero throughout"),
        ("label-smoothing", number(0.0), "zero throughout"),
        ("label-smoothing", likeliest, "no class would get any mass"),
        ("label-smoothing", table(&[("k", Value::Number(3.0))]), "to = \"likeliest\""),
        ("z-loss", number(0.0), "zero throughout"),
        ("confidence-penalty", number(0.0), "zero throughout"),
        ("neftune", number(0.0), "zero throughout"),
        ("gradient-noise", number(0.0), "zero throughout"),
        ("max-norm", number(f64::INFINITY), "longer than infinity"),
        ("layerwise-decay", number(1.0), "every layer has the full rate"),
        ("freeze", table(&[("on", word("bias")), ("top", Value::Number(1.0))]), "give one of"),
        ("lora", number(0.0), "there would be no adapter"),
        ("mixout", number(0.0), "zero throughout"),
        ("sam", number(0.0), "zero throughout"),
        ("r-drop", number(0.0), "zero throughout"),
        ("multi-token-prediction", number(0.0), "there would be no head"),
        ("distillation", table(&[("share", zero())]), "zero throughout"),
        ("distillation", table(&[("teacher", Value::List(Vec::new()))]), "the list is empty"),
        ("l1", number(0.0), "write l1 = \"off\""),
        ("l2", number(0.0), "zero throughout"),
        ("l2", table(&[("on", Value::List(Vec::new()))]), "the list is empty"),
        ("weight-decay", number(0.0), "zero throughout"),
        ("ema", number(0.0), "zero throughout"),
        ("gradient-clipping", number(f64::INFINITY), "longer than infinity"),
        ("explosion-guard", table(&[("rate-factor", Value::Number(0.5))]), "roll-back"),
        ("explosion-guard", table(&[("window", Value::Number(10.0))]), "only 10 are kept"),
    ];
    for (name, settings, part) in cases {
        let error = only(name, &settings).expect_err("no effect");
        assert!(matches!(error, SettingError::NoEffect { .. }), "{error:?}");
        let shown = error.to_string();
        assert!(shown.contains("has no effect") && shown.contains(part), "{shown}");
    }
}

#[test]
fn mistakes_are_answered_with_the_nearest_name() {
    let check = |result: Result<Assembled, SettingError>, parts: &[&str]| {
        let shown = result.expect_err("a mistake").to_string();
        assert!(parts.iter().all(|part| shown.contains(part)), "{shown}");
    };
    check(only("droput", &number(0.1)), &["did you mean `dropout`", "heldout list techniques"]);
    let knob = Settings::table([("attenton", Value::Number(0.1))]);
    check(only("dropout", &knob), &["did you mean `attention`", "feed-forward-hidden"]);
    let method = Settings::table([("method", Value::Text("decoupeld".to_owned()))]);
    check(only("weight-decay", &method), &["did you mean `decoupled`"]);
    let on = Settings::table([("on", Value::List(vec!["biases".to_owned()]))]);
    check(only("l2", &on), &["did you mean `bias`", "tied-embedding"]);
    check(only("dropout", &number(1.0)), &["dropout.rate", "= 1", "0 to 0.99"]);
    check(only("early-stopping", &text("5")), &["5 evaluations", "2000 steps"]);
    check(only("early-stopping", &number(5.0)), &["early-stopping.patience", "must be text"]);
}

#[test]
fn squared_weights_cannot_be_penalised_twice() {
    let l2 = number(0.1);
    let coupled = Settings::table([("method", Value::Text("coupled".to_owned()))]);
    let error = assemble([("l2", &l2), ("weight-decay", &coupled)]).expect_err("the same twice");
    let shown = error.to_string();
    assert!(shown.contains("`l2`") && shown.contains("`weight-decay`"), "{shown}");
    let decoupled = number(0.1);
    assemble([("l2", &l2), ("weight-decay", &decoupled)]).expect("different things");
}

#[test]
fn dropout_sites_follow_their_knobs() {
    let sites = |settings: Settings| -> Vec<(Site, f64)> {
        let noise = only("dropout", &settings).expect("allowed").plan.noise;
        noise.sites.iter().map(|(site, rate)| (*site, rate.value.peak)).collect()
    };
    use Site::*;
    let standard = [(Embedding, 0.3), (Attention, 0.3), (AttentionOutput, 0.3)];
    let all = [standard.as_slice(), &[(FeedForwardOutput, 0.3)]].concat();
    assert_eq!(sites(number(0.3)), all);
    let alone = Settings::table([("feed-forward-hidden", Value::Number(0.2))]);
    assert_eq!(sites(alone), [(FeedForwardHidden, 0.2)]);
    let mixed = Settings::table([
        ("rate", Value::Number(0.3)),
        ("attention", Value::Number(0.0)),
        ("feed-forward-output", Value::Number(0.1)),
    ]);
    assert_eq!(sites(mixed), [(Embedding, 0.3), (AttentionOutput, 0.3), (FeedForwardOutput, 0.1)]);
}

fn classifier() -> Model {
    let head = Head::Classification { labels: 3 };
    Model::new(ModelConfig { head, ..ModelConfig::gpt2(17, 16, 2, 2, 16) }).expect("valid")
}

/// What the trainer measures of labelled texts.
fn measure_labels(live: &mut Live, name: &str) {
    let augmented = AugmentMeasure {
        texts: 8,
        changed: 3,
        edits: vec![("swap".to_owned(), 3)],
        before: "a b".to_owned(),
        after: "b a".to_owned(),
    };
    live.augmented.insert(name.to_owned(), augmented);
    let classes = vec![("rare".to_owned(), 3.0, 3.0), ("usual".to_owned(), 0.5, 0.5)];
    live.class_weights = Some(ClassWeightsMeasure { classes });
}

#[test]
fn every_technique_proves_that_it_is_live() {
    for model in models() {
        for entry in CATALOGUE {
            let assembled = example_with_companion(entry);
            let own = assembled.techniques.iter().find(|t| t.card().name == entry.name());
            let own = own.expect("it was chosen");
            let must_be_tied = assembled.plan.tie.is_some();
            if must_be_tied && model.config.tied == Tied::No {
                continue;
            }
            let labels = Learns::Labels == own.learns();
            let fitting = if labels {
                classifier()
            } else {
                Model::new(model.config.clone()).expect("valid")
            };
            assembled.check(&facts(&fitting)).expect("the example fits the model");
            assert_eq!(assembled.check(&facts(&model)).is_err(), labels, "{}", entry.name());
            for precision in [Precision::F32, Precision::Bf16] {
                let mut live = live(&model, &assembled.plan, precision);
                live.order = Some(OrderMeasure { windows: 8, moved: 7 });
                live.redrawn = Some(RedrawnMeasure { parameters: 9, tensors: 2, distance: 1.4 });
                measure_labels(&mut live, entry.name());
                let receipt = own.receipt(&live);
                let receipt = receipt.unwrap_or_else(|error| panic!("{error}"));
                println!("{}: {}", receipt.technique, receipt.statement);
                assert_eq!(receipt.technique, entry.name());
                assert!(!receipt.measured.is_empty() && !receipt.statement.is_empty());
                assert!(receipt.measured.values().all(|value| value.is_finite()));
            }
        }
    }
}

#[test]
fn without_measurements_there_is_no_receipt() {
    let model = &models()[0];
    for entry in CATALOGUE {
        let assembled = example(entry);
        for live in [Live::default(), live(model, &Plan::default(), Precision::F32)] {
            let error = assembled.techniques[0].receipt(&live).expect_err("nothing measured");
            assert_eq!(error.technique, entry.name());
        }
    }
}

#[test]
fn noise_in_every_variant_is_measured() {
    let model = &models()[0];
    let variants = [
        Settings::table([
            ("rate", Value::Number(0.4)),
            ("feed-forward-hidden", Value::Number(0.1)),
            ("variational", Value::Text("yes".to_owned())),
        ]),
        Settings::bare(Value::Schedule(Schedule {
            peak: 0.5,
            warmup: Span::Steps(30),
            shape: Shape::Linear { end: 0.0 },
        })),
    ];
    for settings in variants {
        let assembled = only("dropout", &settings).expect("allowed");
        let receipt = assembled.techniques[0]
            .receipt(&live(model, &assembled.plan, Precision::F32))
            .unwrap_or_else(|error| panic!("{error}"));
        println!("{}", receipt.statement);
        assert!(receipt.measured["embedding.dropped"] > 0.3);
    }
}

#[test]
fn tokens_are_replaced_as_often_as_asked() {
    let replace = Settings::table([
        ("rate", Value::Number(0.4)),
        ("method", Value::Text("replace".to_owned())),
    ]);
    let assembled = only("token-dropout", &replace).expect("allowed");
    let rates = assembled.plan.noise_at(At { step: 0, horizon: 10 });
    assert_eq!((rates.tokens, rates.replace), (0.0, 0.4));
    for model in models() {
        let live = live(&model, &assembled.plan, Precision::F32);
        let receipt = assembled.techniques[0].receipt(&live).expect("live");
        assert!(receipt.statement.starts_with("replaces "), "{}", receipt.statement);
    }
}

#[test]
fn what_is_frozen_gets_no_gradient_and_is_not_the_optimizers() {
    let device = Device::cpu(1, Precision::F32).expect("a processor");
    let noise = number(1e-2);
    for (settings, trained) in [
        (number(1.0), ["h.1.", "layers.1.", "ln_f", "model.norm", "lm_head"].as_slice()),
        (number(0.0), &["ln_f", "model.norm", "lm_head"]),
        (Settings::table([("on", Value::Text("matrix".to_owned()))]), &[]),
    ] {
        for model in models() {
            let chosen = [("freeze", &settings), ("gradient-noise", &noise)];
            let assembled = assemble(chosen).expect("they compose");
            assembled.check(&facts(&model)).expect("it fits the model");
            let bound = Bound::new(&assembled.plan, model.layout());
            let w = vec![1.0; model.layout().len];
            let mut g = w.clone();
            bound.transform(&device, &w, &mut g, At { step: 0, horizon: 10 });
            for parameter in &model.layout().parameters {
                let by_name = trained.iter().any(|part| parameter.name.contains(part));
                let is_trained = match trained {
                    [] => parameter.role != heldout_kernels::Role::Matrix,
                    _ => by_name,
                };
                let segment = bound.segments.iter().any(|s| s.name == parameter.name);
                let moved = g[parameter.range()].iter().all(|g| *g != 0.0);
                let still = g[parameter.range()].iter().all(|g| *g == 0.0);
                assert_eq!((segment, moved, still), (is_trained, is_trained, !is_trained));
            }
        }
    }
    let all = Settings::table([(
        "on",
        Value::List(heldout_regularize::Part::WORDS.map(str::to_owned).into()),
    )]);
    let model = &models()[0];
    for (settings, part) in [(all, "nothing would be trained"), (number(3.0), "has 2 blocks")] {
        let assembled = only("freeze", &settings).expect("fine by itself");
        let error = assembled.check(&facts(model)).expect_err("not on this model").to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn an_average_of_less_than_two_is_refused() {
    let model = &models()[0];
    let length = Length { steps: Some(100), epochs: Some(1.0), evaluations: Some(1) };
    let short = Facts { length, ..facts(model) };
    let rare = Settings::table([("every", Value::Number(60.0))]);
    for (name, settings, part) in [
        ("swa", rare, "0 would be averaged"),
        ("checkpoint-averaging", number(2.0), "1 evaluation"),
    ] {
        let assembled = only(name, &settings).expect("fine by itself");
        let error = assembled.check(&short).expect_err("too short").to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn smoothing_in_every_variant_is_measured() {
    let model = &models()[0];
    let check = |to: &str, k: Option<f64>, moved: f64, on_likeliest: f64| {
        let mut knobs = vec![("amount", Value::Number(0.2)), ("to", Value::Text(to.to_owned()))];
        knobs.extend(k.map(|k| ("k", Value::Number(k))));
        let assembled = only("label-smoothing", &Settings::table(knobs)).expect("allowed");
        let live = live(model, &assembled.plan, Precision::F32);
        let receipt = assembled.techniques[0].receipt(&live).expect("live");
        let near = |name: &str, expected: f64| {
            let found = receipt.measured[name];
            assert!((found - expected).abs() < 1e-4, "{to} {name}: {found} {expected}");
        };
        near("mass_moved", moved);
        near("mass_on_likeliest", on_likeliest);
    };
    check("all", None, 0.2 * 16.0 / 17.0, 0.2 * 16.0 / 17.0);
    check("wrong", None, 0.2, 0.2);
    check("likeliest", Some(3.0), 0.2, 0.2);
}

#[test]
fn what_cannot_act_on_a_model_is_refused() {
    let tied = &models()[0];
    let refuse = |name: &str, settings: Settings, facts: Facts, part: &str| {
        let assembled = only(name, &settings).expect("fine by itself");
        let shown = assembled.check(&facts).expect_err("not on this model").to_string();
        assert!(shown.contains(part), "{shown}");
    };
    let already = Facts { tied_by_model: Tied::Yes, ..facts(tied) };
    refuse("weight-tying", text("yes"), already, "ties its embeddings already");
    for (patience, part) in [
        ("21 evaluations", "a run of 20 evaluations ends before a patience of 21 evaluations"),
        ("1001 steps", "a run of 1000 steps"),
        ("11 epochs", "a run of 10 epochs"),
    ] {
        refuse("early-stopping", text(patience), facts(tied), part);
    }
    let on_head = || Settings::table([("on", Value::Text("head".to_owned()))]);
    for name in ["weight-decay", "l1", "l2", "max-norm"] {
        refuse(name, on_head(), facts(tied), "no tensor of the kinds head");
    }
    let many =
        Settings::table([("to", Value::Text("likeliest".to_owned())), ("k", Value::Number(17.0))]);
    refuse("label-smoothing", many, facts(tied), "1 to 16");
}

#[test]
fn decay_too_weak_for_f32_has_no_receipt() {
    let model = &models()[0];
    let assembled = only("weight-decay", &number(1e-6)).expect("allowed");
    let live = live(model, &assembled.plan, Precision::F32);
    let error = assembled.techniques[0].receipt(&live).expect_err("1 − 1e-9 is 1 in f32");
    assert!(error.to_string().contains("too weak for f32"), "{error}");
}

#[test]
fn a_bound_plan_decays_penalises_clips_and_projects() {
    let model = &models()[1];
    let device = Device::cpu(1, Precision::F32).expect("a processor");
    let subgradient = Settings::table([
        ("strength", Value::Number(0.5)),
        ("method", Value::Text("subgradient".to_owned())),
    ]);
    let (l2, clip, decay) = (number(0.25), number(1.0), number(0.1));
    let chosen =
        [("l1", &subgradient), ("l2", &l2), ("gradient-clipping", &clip), ("weight-decay", &decay)];
    let plan = assemble(chosen).expect("they compose").plan;
    let bound = Bound::new(&plan, model.layout());
    let at = At { step: 0, horizon: 10 };
    let w = vec![2.0; model.layout().len];
    let mut g = vec![0.0; w.len()];
    bound.penalize(&device, &w, &mut g, at);
    for (parameter, segment) in model.layout().parameters.iter().zip(&bound.segments) {
        let is_weight = parameter.shape.len() == 2;
        let expected = if is_weight { 0.5 + 2.0 * 0.25 * 2.0 } else { 0.0 };
        assert_eq!(g[parameter.offset], expected, "{}", parameter.name);
        assert_eq!(segment.decay, if is_weight { 1.0 } else { 0.0 });
    }
    let weights = g.iter().filter(|g| **g > 0.0).count() as f64;
    let value = bound.penalty_value(&device, &w, at);
    assert!((value - weights * (0.5 * 2.0 + 0.25 * 4.0)).abs() < 1e-6 * value);
    let clipped = bound.transform(&device, &w, &mut g, at);
    assert!((clipped.norm_before - 1.5 * weights.sqrt()).abs() < 1e-3);
    assert!((clipped.norm_after - 1.0).abs() < 1e-6);
    let update = bound.update(at, 0.01, &clipped);
    assert_eq!((update.decoupled_decay, update.coupled_decay), (0.1, 0.0));
    assert_eq!(plan.decay.expect("decay").value.method, DecayMethod::Decoupled);

    let plan = only("l1", &number(10.0)).expect("allowed").plan;
    let bound = Bound::new(&plan, model.layout());
    let mut w = vec![0.05; model.layout().len];
    bound.project(&device, &mut w, at, 0.01);
    assert_eq!(bound.sparsity(&device, &w), Some(1.0));
    assert_eq!(w.iter().filter(|w| **w == 0.0).count() as f64, weights);
}

#[test]
fn two_passes_without_noise_between_sequences_are_refused() {
    let model = &models()[0];
    let (strength, rate) = (number(1.0), number(0.2));
    let check = |chosen: &[(&str, &Settings)]| {
        assemble(chosen.iter().copied()).expect("fine by themselves").check(&facts(model))
    };
    for chosen in [&[("r-drop", &strength)][..], &[("r-drop", &strength), ("layer-drop", &rate)]] {
        let shown = check(chosen).expect_err("both passes are the same").to_string();
        assert!(shown.contains("`r-drop.strength` has no effect"), "{shown}");
        assert!(shown.contains("switch on `dropout`"), "{shown}");
    }
    for noise in ["dropout", "head-dropout", "token-dropout"] {
        check(&[("r-drop", &strength), (noise, &rate)]).expect("noise");
    }
}

#[test]
fn a_teacher_that_is_not_there_is_named() {
    let error = only("distillation", &text("runs/nowhere")).expect_err("no folder");
    assert_eq!(error.knob(), Some("teacher"));
    let shown = error.to_string();
    assert!(shown.contains("\"runs/nowhere\"") && shown.contains("write \"self\""), "{shown}");
    let decay =
        Settings::table([("teacher", Value::Text(".".to_owned())), ("decay", Value::Number(0.9))]);
    let shown = only("distillation", &decay).expect_err("no average").to_string();
    assert!(shown.contains("belongs to an average"), "{shown}");
}
