//! From pairs of texts to translations: trained, stopped and resumed, put to work and scored, all
//! through the real binary.

mod common;

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Scratch, ran};
use heldout_base::rng::{Random, streams};
use serde_json::Value;

/// Rows of 4 to 6 letters with spaces, and the same turned round: no copy is right.
fn sides(first: u64, count: u64) -> (String, String) {
    let (mut sources, mut targets) = (String::new(), String::new());
    for n in first..first + count {
        let random = Random::new(5, streams::TEST, n);
        let letter =
            |i: u64| ["a", "b", "c", "d", "e", "f", "g", "h"][random.below(1 + i, 8) as usize];
        let letters: Vec<&str> = (0..4 + random.below(0, 3)).map(letter).collect();
        sources.push_str(&letters.join(" "));
        targets.push_str(&letters.iter().rev().copied().collect::<Vec<_>>().join(" "));
        sources.push('\n');
        targets.push('\n');
    }
    (sources, targets)
}

fn write_sides(scratch: &Scratch) {
    for (name, first, count) in [("train", 0, 1500), ("dev", 10_000, 60)] {
        let (sources, targets) = sides(first, count);
        scratch.write(&format!("{name}.x"), sources);
        scratch.write(&format!("{name}.y"), targets);
    }
}

const RECIPE: &str = r#"
[data]
task = "seq2seq"
train = ["train.x", "train.y"]
validation = ["dev.x", "dev.y"]
tokenizer = "bpe"
vocabulary = 280
[model]
layers = 2
heads = 2
width = 48
context = 16
[optimizer]
learning-rate = 0.002
[schedule]
horizon = "240 steps"
[batch]
size = 32
[regularize]
dropout = false
label-smoothing = false
early-stopping = false
[evaluate]
every = "120 steps"
written = 30
monitor = "bleu"
[run]
precision = "f32"
threads = 2
"#;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_reversing_model_beats_copies_and_is_put_to_work() {
    let scratch = Scratch::new();
    write_sides(&scratch);
    scratch.write("recipe.toml", RECIPE);
    let trained = scratch.ok(&["train", "--recipe", "recipe.toml", "--out", "r"]);
    assert!(trained.err.contains("baseline   copy the source: bleu"), "{}", trained.err);
    assert!(trained.out.contains("the network beats it by"), "{}", trained.out);
    assert!(trained.out.contains("heldout predict r sources.txt"), "{}", trained.out);

    let found = json(&scratch.ok(&["evaluate", "r", "--json"]).out);
    let figure = &found["written"]["figures"][0];
    assert_eq!(figure["name"], "bleu");
    assert!(figure["value"].as_f64().unwrap() > 80.0, "{found}");
    assert!(found["written"]["beside"][0]["low"].as_f64().unwrap() > 0.0, "{found}");
    let table = scratch.ok(&["evaluate", "r", "dev.x", "dev.y", "--beams", "1"]).out;
    assert!(table.contains("BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp"), "{table}");
    assert!(table.contains("greedy") && table.contains("nearest to their references"), "{table}");

    scratch.write(
        "new.jsonl",
        "{\"id\": 3, \"text\": \"a b c d e\"}\n{\"id\": 4, \"text\": \"d c b a\"}\n",
    );
    let written = scratch.ok(&["predict", "r", "new.jsonl"]).out;
    let lines: Vec<Value> = written.lines().map(json).collect();
    assert_eq!((&lines[0]["id"], lines.len()), (&Value::from(3), 2));
    assert_eq!(lines[0]["prediction"], "e d c b a", "{written}");
    let mut child = scratch
        .command(&["predict", "r", "-", "--beams", "2", "--max-length", "5"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child.stdin.take().unwrap().write_all(b"f e d c b a\n").unwrap();
    let said = ran(child.wait_with_output().unwrap());
    let said = json(said.out.trim());
    assert_eq!(said["text"], "f e d c b a");
    assert_eq!(said["prediction"].as_str().unwrap().split(' ').count(), 4, "{said}");
    let words = scratch.fails(2, &["predict", "r", "new.jsonl", "--beams", "0"]);
    assert!(words.contains("beams"), "{words}");
    let words = scratch.fails(2, &["generate", "r", "--prompt", "a"]);
    assert!(words.contains("reads a source to write a target"), "{words}");
    scratch.ok(&["report", "r", "--out", "r.html"]);
    let page = std::fs::read_to_string(scratch.join("r.html")).unwrap();
    assert!(page.contains("What it writes") && page.contains("Nearest to their"), "{page}");
    scratch.ok(&["diagnose", "r"]);
}

#[test]
fn a_killed_run_goes_on_to_the_same_bits() {
    let scratch = Scratch::new();
    write_sides(&scratch);
    scratch.write(
        "recipe.toml",
        RECIPE.replace("240 steps", "200 steps").replace("120 steps", "50 steps"),
    );
    let more =
        ["--set", "regularize.dropout=0.1", "--set", "run.checkpoint=\"10 steps\"", "--quiet"];
    let train = |name: &'static str| {
        let mut all = vec!["train", "--recipe", "recipe.toml", "--out", name];
        all.extend(more);
        all
    };
    scratch.ok(&train("whole"));
    let mut child = scratch.command(&train("cut")).stderr(Stdio::null()).spawn().expect("it runs");
    let begin = Instant::now();
    while !scratch.join("cut/last/config.json").exists()
        && begin.elapsed() < Duration::from_secs(60)
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    scratch.ok(&["resume", "cut", "--quiet"]);
    let read =
        |name: &str| std::fs::read(scratch.join(name).join("model/model.safetensors")).unwrap();
    assert!(read("whole") == read("cut"), "the weights differ");
}

#[test]
fn what_cannot_be_learned_is_told() {
    let scratch = Scratch::new();
    write_sides(&scratch);
    scratch.write("short.y", "one\ntwo\n");
    let words = scratch.fails(2, &["train", "--source", "train.x", "--target", "short.y"]);
    assert!(words.contains("train.x has 1500 lines and short.y has 2"), "{words}");
    let words = scratch.fails(2, &["train", "train.x", "--task", "seq2seq"]);
    assert!(words.contains("one side only"), "{words}");
    let both = ["train", "--source", "train.x", "--target", "train.y"];
    let with = |setting: &'static str| {
        let mut all = both.to_vec();
        all.extend(["--set", setting]);
        scratch.fails(2, &all)
    };
    let words = with("model.family=\"llama\"");
    assert!(words.contains("\"bart\", \"marian\""), "{words}");
    let words = with("evaluate.monitor=\"rouge1\"");
    assert!(words.contains("measured are loss, bleu, chrf"), "{words}");
    let words = with("data.label=\"x\"");
    assert!(words.contains("no effect with the task \"seq2seq\""), "{words}");
    let words = with("regularize.distillation={teacher=\"self\"}");
    assert!(words.contains("seq2seq"), "{words}");
    let words = scratch.fails(2, &["advise", "train.x", "train.y", "--task", "seq2seq"]);
    assert!(words.contains("seq2seq"), "{words}");
}
