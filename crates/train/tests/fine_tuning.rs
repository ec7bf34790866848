//! Techniques that look back at the model that a run started from: what they leave alone, what a
//! result holds, in company and over a stop; and that they refuse to look back at nothing.

mod support;

use std::collections::BTreeMap;

use heldout_record::Event;
use support::*;

type Tensors = BTreeMap<String, Vec<u32>>;

fn with<'a>(from: &'a str, settings: &[&'a str]) -> Vec<&'a str> {
    let short = ["schedule.horizon=12 steps", "schedule.warmup=2 steps", "evaluate.every=4 steps"];
    [from].into_iter().chain(short).chain(settings.iter().copied()).collect()
}

fn floats(bits: &[u32]) -> impl Iterator<Item = f64> + '_ {
    bits.iter().map(|bits| f64::from(f32::from_bits(*bits)))
}

fn model(tensors: &Tensors) -> Tensors {
    let of_model = tensors.iter().filter_map(|(name, values)| {
        let name = name.strip_prefix("model.safetensors/")?;
        Some((name.to_owned(), values.clone()))
    });
    of_model.collect()
}

#[test]
fn a_result_is_the_start_and_the_product_of_what_was_trained() {
    let from = from_trained();
    let lora = "regularize.lora={ rank = 2, alpha = 8, dropout = 0.2, on = \"feed-forward\" }";
    let decay = "regularize.weight-decay=0.1";
    let often = "run.checkpoint=4 steps";
    let done = run("adapted", &with(&from, &[lora, decay, often, "run.threads=1"]));
    let start = std::path::Path::new(from.strip_prefix("model.from=").expect("a setting"));
    let (start, last) = (model(&bits(&start.join("model"))), bits(&done.path.join("last")));
    let merged = model(&last);
    assert_eq!(start.keys().collect::<Vec<_>>(), merged.keys().collect::<Vec<_>>());
    // Behind the model lie A [2, in] and B [out, 2] of c_fc and c_proj in both blocks.
    let factors: Vec<f64> = floats(&last["training_state.safetensors/weights.auxiliary"]).collect();
    let (mut place, mut adapted) = (0, 0);
    for block in 0..2 {
        for (name, input, out) in [("c_fc", 16, 64), ("c_proj", 64, 16)] {
            let name = format!("transformer.h.{block}.mlp.{name}.weight");
            let (a, b) = factors[place..place + 2 * (input + out)].split_at(2 * input);
            place += 2 * (input + out);
            adapted += 1;
            // GPT-2's files keep [in, out].
            let pairs = floats(&start[&name]).zip(floats(&merged[&name]));
            let mut largest: f64 = 0.0;
            for (at, (before, after)) in pairs.enumerate() {
                let (i, o) = (at / out, at % out);
                let change: f64 = (0..2).map(|k| 4.0 * b[o * 2 + k] * a[k * input + i]).sum();
                largest = largest.max(change.abs());
                assert!((after - before - change).abs() < 1e-6, "{name} {at}");
            }
            assert!(largest > 1e-4, "{name} has changed");
        }
    }
    assert_eq!((place, adapted), (factors.len(), 4));
    let others = start.keys().filter(|name| !(name.contains("mlp") && name.ends_with(".weight")));
    for name in others {
        assert_eq!(start[name], merged[name], "{name} stays");
    }
    // Only the factors have moments.
    let moments = last.keys().filter(|name| name.contains("/optimizer."));
    let longest = moments.map(|name| last[name].len()).max().expect("adamw has moments");
    assert!(longest <= factors.len(), "{longest}");
    let again = run("adapted", &with(&from, &[lora, decay, often, "run.threads=3"]));
    assert_same_run(&done.path, &again.path, "threads");
}

#[test]
fn in_company_and_over_a_stop_the_bits_are_the_same() {
    let company = [
        "regularize.dropout=0.1",
        "regularize.r-drop=1",
        "regularize.sam=0.05",
        "regularize.l1=0.0001",
        "regularize.l2=0.001",
        "regularize.weight-decay=0.1",
        "regularize.gradient-noise=1e-6",
        "regularize.layerwise-decay=0.8",
        "regularize.distillation={ share = 0.3, decay = 0.9 }",
        "regularize.ema=0.8",
        "regularize.swa={ start = 0.5, every = 2 }",
        "regularize.checkpoint-averaging=2",
    ];
    let from = from_trained();
    let own = [
        "regularize.lora={ rank = 3, dropout = 0.3 }",
        "regularize.mixout={ rate = { peak = 0.8, shape = \"linear\", end = 0.2 } }",
        "regularize.reinit=1",
    ];
    let precisions = ["run.precision=bf16", "run.precision=f32", "run.precision=f32"];
    for (own, precision) in own.into_iter().zip(precisions) {
        let settings: Vec<&str> = [own, precision].into_iter().chain(company).collect();
        let settings = with(&from, &settings);
        let done = run("company", &settings);
        let stopped = run_until("company", &settings, 6);
        go_on(&stopped).unwrap_or_else(|e| panic!("{own}: {e}"));
        assert_same_run(&done.path, &stopped, own);
    }
}

#[test]
fn a_run_goes_on_when_its_start_has_become_another_model() {
    let from = from_trained();
    let original = from.strip_prefix("model.from=").expect("a setting");
    let moving = scratch().join("moving");
    let copy = |from: &std::path::Path| {
        std::fs::create_dir_all(&moving).expect("a folder");
        for file in std::fs::read_dir(from.join("model")).expect("a result").flatten() {
            std::fs::copy(file.path(), moving.join(file.file_name())).expect("a copy");
        }
    };
    for technique in ["regularize.lora=4", "regularize.mixout=0.5"] {
        copy(std::path::Path::new(original));
        let setting = format!("model.from={}", moving.display());
        let settings = with(&setting, &[technique]);
        let done = run("whole", &settings);
        let stopped = run_until("stopped", &settings, 6);
        // The same sizes, other weights.
        copy(&run("other", &["run.seed=9"]).path);
        go_on(&stopped).unwrap_or_else(|e| panic!("{technique}: {e}"));
        assert_same_run(&done.path, &stopped, technique);
    }
}

#[test]
fn the_top_blocks_start_at_random_and_the_others_where_they_were() {
    let from = from_trained();
    let still = ["optimizer.learning-rate=1e-12", "regularize.weight-decay=off"];
    let started = model(&bits(&run("still", &with(&from, &still)).path.join("model")));
    let redrawn = run("redrawn", &with(&from, &[still[0], still[1], "regularize.reinit=1"]));
    let random = run("random", &still);
    let (ended, random) =
        (model(&bits(&redrawn.path.join("model"))), model(&bits(&random.path.join("model"))));
    let distance = |a: &[u32], b: &[u32]| {
        floats(a).zip(floats(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    for (name, values) in &ended {
        let to = if name.contains(".h.1.") { &random } else { &started };
        assert!(distance(values, &to[name]) < 1e-6, "{name}");
    }
    let matrix = "transformer.h.1.mlp.c_fc.weight";
    assert!(distance(&ended[matrix], &started[matrix]) > 0.01);
    let conflict = try_run("frozen", &with(&from, &["regularize.reinit=2", "regularize.freeze=1"]));
    let shown = conflict.err().expect("a conflict").to_string();
    assert!(shown.contains("reinit") && shown.contains("freeze"), "{shown}");
    let all = try_run("all", &with(&from, &["regularize.reinit=2"]));
    let shown = all.err().expect("nothing is left").to_string();
    assert!(shown.contains("has 2 blocks"), "{shown}");
}

#[test]
fn there_must_be_something_to_look_back_at() {
    for technique in ["regularize.lora=4", "regularize.mixout=0.5", "regularize.reinit=1"] {
        let shown = try_run("fresh", &[technique]).err().expect("a fresh model").to_string();
        assert!(shown.contains("starts from random weights"), "{shown}");
        assert!(shown.contains("model.from"), "{shown}");
    }
}

#[test]
fn receipts_say_how_far_the_model_went() {
    let from = from_trained();
    for (technique, value) in [("lora", "4"), ("mixout", "0.5")] {
        let setting = format!("regularize.{technique}={value}");
        let done = run("receipt", &with(&from, &[&setting]));
        let mut receipts = done.events.iter().filter_map(|event| match event {
            Event::Receipt(receipt) if receipt.technique == technique => Some(receipt),
            _ => None,
        });
        let last = receipts.next_back().expect("a receipt");
        let distance = last.measured["distance"];
        assert!(distance > 1e-4 && distance < 1.0, "{}", last.statement);
    }
}
