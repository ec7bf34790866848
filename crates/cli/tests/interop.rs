//! What a run leaves behind opens in the tools that people have: transformers and TensorBoard.

mod common;

use std::path::Path;
use std::process::Command;

use common::{python, tiny};
use serde_json::Value;

/// Scores the text in non-overlapping windows and goes on from a prompt greedily.
const TRANSFORMERS: &str = r#"
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, text, prompt = sys.argv[1:]
torch.set_num_threads(1)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
ids = tokenizer(open(text, encoding="utf-8").read())["input_ids"]
context, total = model.config.max_position_embeddings, 0.0
with torch.no_grad():
    for start in range(0, len(ids) - 1, context):
        window = ids[start : start + context + 1]
        logits = model(torch.tensor([window[:-1]])).logits[0]
        target = torch.tensor(window[1:])
        total += torch.nn.functional.cross_entropy(logits, target, reduction="sum").item()
    begin = tokenizer(prompt)["input_ids"]
    text_ids = list(begin)
    for _ in range(12):
        text_ids.append(int(model(torch.tensor([text_ids])).logits[0, -1].argmax()))
print(json.dumps({
    "loss": total / (len(ids) - 1),
    "targets": len(ids) - 1,
    "new": text_ids[len(begin):],
    "text": tokenizer.decode(text_ids[len(begin):]),
}))
"#;

const TENSORBOARD: &str = r#"
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1]).Reload()
print(json.dumps({tag: [[e.step, e.value] for e in events.Scalars(tag)]
                  for tag in events.Tags()["scalars"]}))
"#;

fn ask(python: &Path, script: &str, folder: &Path, arguments: &[&str]) -> Value {
    let output = Command::new(python)
        .args(["-c", script])
        .args(arguments)
        .current_dir(folder)
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .expect("python runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| {
        panic!("{error}\n{text}\n{}", String::from_utf8_lossy(&output.stderr))
    })
}

/// The mean of probabilities by the script in bench/evidence, which knows torch alone.
#[test]
fn an_ensemble_scores_as_in_torch() {
    let Some(python) = python(&["torch", "transformers"]) else { return };
    let scratch = tiny();
    scratch.write("held.txt", common::text(30).replace("\n\n", "\n"));
    for seed in ["1", "2", "3"] {
        let seeded = format!("run.seed={seed}");
        // Unlike members: more steps, and another shape with the same context.
        let steps = format!("schedule.horizon=\"{} steps\"", 10 * seed.parse::<u32>().unwrap());
        let family = if seed == "3" { "model.family=\"llama\"" } else { "model.family=\"gpt2\"" };
        let data = "data.seed=7";
        let mut train = vec!["train", "tiny.toml", "--out", seed, "--quiet"];
        [&seeded, &steps, family, data].into_iter().for_each(|set| train.extend(["--set", set]));
        scratch.ok(&train);
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bench/evidence/ensemble.py");
    let script = std::fs::read_to_string(script).expect("it is part of the source");
    let theirs =
        ask(&python, &script, scratch.path(), &["held.txt", "1/model", "2/model", "3/model"]);
    let ours = ["evaluate", "1/model", "held.txt", "--with", "2/model", "--with", "3/model"];
    let ours = [&ours[..], &["--boundary", "contiguous", "--json", "--precision", "f32"]].concat();
    let ours: Value = serde_json::from_str(&scratch.ok(&ours).out).expect("JSON");
    let near = |ours: &Value, theirs: &Value| {
        let (ours, theirs) = (ours.as_f64().expect("a loss"), theirs.as_f64().expect("a loss"));
        assert!((ours - theirs).abs() < 1e-4, "{ours} {theirs}");
    };
    near(&ours["loss"], &theirs["ensemble"]);
    near(&ours["loss_members"], &theirs["mean"]);
    for member in 0..3 {
        near(&ours["members"][member]["loss"], &theirs["each"][member]);
    }
}

#[test]
fn transformers_computes_the_same() {
    let Some(python) = python(&["torch", "transformers"]) else { return };
    let scratch = tiny();
    scratch.write("held.txt", common::text(30).replace("\n\n", "\n"));
    for (family, kind) in [("gpt2", "bpe"), ("llama", "char")] {
        let family_setting = format!("model.family=\"{family}\"");
        let kind_setting = format!("data.tokenizer=\"{kind}\"");
        let train = ["train", "tiny.toml", "--out", family, "--quiet", "--set", &family_setting];
        let mut train = train.to_vec();
        train.extend(["--set", &kind_setting]);
        scratch.ok(&train);
        let model = format!("{family}/model");
        let theirs = ask(&python, TRANSFORMERS, scratch.path(), &[&model, "held.txt", "the king"]);
        let ours = ["evaluate", &model, "held.txt", "--boundary", "contiguous", "--json"];
        let ours: Value = serde_json::from_str(&scratch.ok(&ours).out).expect("JSON");
        let new = ["generate", &model, "--prompt", "the king", "--greedy", "-n", "12", "--json"];
        let new: Value = serde_json::from_str(&scratch.ok(&new).out).expect("JSON");
        assert_eq!(new["tokens"], theirs["new"], "{family}: {new} {theirs}");
        let difference = ours["loss"].as_f64().expect("a number")
            * ours["tokens"].as_f64().expect("")
            - theirs["loss"].as_f64().expect("a number") * theirs["targets"].as_f64().expect("");
        // Ours may score one token more: the end of the text.
        let more = ours["tokens"].as_u64().expect("") - theirs["targets"].as_u64().expect("");
        assert!(more <= 1, "{family}: {more} more tokens");
        if more == 0 {
            assert!(
                difference.abs() < 1e-4 * theirs["targets"].as_f64().expect(""),
                "{difference}"
            );
        }
    }
}

#[test]
fn tensorboard_reads_the_curves() {
    let Some(python) = python(&["tensorboard"]) else { return };
    let scratch = tiny();
    scratch.ok(&["train", "tiny.toml", "--out", "r", "--quiet"]);
    let scalars = ask(&python, TENSORBOARD, scratch.path(), &["r/tensorboard"]);
    let all = scalars.as_object().expect("tags");
    let text = std::fs::read_to_string(scratch.join("r/metrics.jsonl")).expect("metrics");
    let evaluations: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|event: &Value| event["event"] == "evaluation" && event["weights"] == "raw")
        .collect();
    let expected: Vec<f64> =
        evaluations.iter().filter_map(|event| event["loss_valid"].as_f64()).collect();
    let is_same = |points: &Value| {
        let points = points.as_array().expect("points");
        points.len() == expected.len()
            && points.iter().zip(&expected).all(|(point, value)| {
                point[1].as_f64().is_some_and(|found| (found - value).abs() < 1e-6)
            })
    };
    assert!(all.values().any(is_same), "no curve is the held-out loss: {:?}", all.keys());
}
