//! Questions and answers on the command line: a run, its page, answers line by line, figures on
//! other files, and the export in transformers.

mod common;

use std::process::Command;

use common::{Scratch, python};
use heldout_base::rng::{Random, streams};
use serde_json::{Value, json};

const RECIPE: &str = r#"
[data]
task = "qa"
train = "train.jsonl"
tokenizer = "wordpiece"
vocabulary = 600
stride = 8

[model]
layers = 1
heads = 2
width = 32
context = 32

[optimizer]
learning-rate = 0.01

[schedule]
horizon = "100 steps"

[batch]
size = 16

[regularize]
dropout = 0.1

[evaluate]
every = "25 steps"

[run]
threads = 1
precision = "f32"
"#;

/// The answer is the word behind "in".
fn questions(first: u64, count: u64) -> Vec<Value> {
    const THINGS: [&str; 5] = ["key", "cup", "hat", "pen", "map"];
    const PLACES: [&str; 5] = ["hall", "barn", "well", "loft", "tent"];
    let one = |n: u64| {
        let random = Random::new(13, streams::TEST, n);
        let (thing, place) =
            (THINGS[random.below(0, 5) as usize], PLACES[random.below(1, 5) as usize]);
        let lead = ["", "é ", "so so "][random.below(2, 3) as usize];
        let context = format!("{lead}{n} the {thing} is in {place} today");
        json!({"id": n, "question": "where", "context": context, "answers": [place]})
    };
    (first..first + count).map(one).collect()
}

fn lines(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

/// Answers by the exported model as transformers computes it.
const TRANSFORMERS: &str = r#"
import json, sys, torch
from transformers import AutoModelForQuestionAnswering, PreTrainedTokenizerFast
torch.set_num_threads(1)
model = AutoModelForQuestionAnswering.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
tokenizer = PreTrainedTokenizerFast(tokenizer_file=sys.argv[1] + "/tokenizer.json")
said = []
for line in open(sys.argv[2], encoding="utf-8"):
    record = json.loads(line)
    both = tokenizer(record["question"], record["context"], return_offsets_mapping=True,
                     return_token_type_ids=True)
    with torch.no_grad():
        out = model(input_ids=torch.tensor([both["input_ids"]]),
                    token_type_ids=torch.tensor([both["token_type_ids"]]))
    places = [at for at, part in enumerate(both.sequence_ids()) if part == 1]
    score, start, end = max(
        (float(out.start_logits[0, i] + out.end_logits[0, j]), i, j)
        for i in places for j in places if i <= j)
    begin, stop = both["offset_mapping"][start][0], both["offset_mapping"][end][1]
    text = record["context"][begin:stop]
    said.append([text.strip(), begin + len(text) - len(text.lstrip())])
print(json.dumps({"class": type(model).__name__, "said": said}))
"#;

#[test]
fn questions_are_answered_from_file_to_page() {
    let scratch = Scratch::new();
    scratch.write("recipe.toml", RECIPE);
    scratch.write("train.jsonl", lines(&questions(0, 160)));
    scratch.write("new.jsonl", lines(&questions(900, 25)));
    let trained = scratch.ok(&["train", "recipe.toml", "--out", "run"]);
    for words in ["exact-match", "f1", "word overlap", "nats/question", "heldout predict run"] {
        let all = format!("{}{}", trained.out, trained.err);
        assert!(all.contains(words), "{words} in {all}");
    }
    let evaluated: Value =
        serde_json::from_str(&scratch.ok(&["evaluate", "run", "new.jsonl", "--json"]).out).unwrap();
    let f1 = evaluated["metrics"][1]["value"].as_f64().unwrap();
    assert!(f1 > 0.9, "{evaluated}");
    assert!(scratch.ok(&["evaluate", "run"]).out.contains("the network beats it"));
    scratch.ok(&["report", "run", "--out", "page.html"]);
    let page = std::fs::read_to_string(scratch.join("page.html")).unwrap();
    assert!(page.contains("The result on all") && page.contains("Held-out exact-match"));

    let answered = scratch.ok(&["predict", "run", "new.jsonl"]).out;
    let answered: Vec<Value> =
        answered.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answered.len(), 25);
    let mut right = 0;
    for record in &answered {
        let (answer, start) = (record["answer"].as_str().unwrap(), record["start"].as_u64());
        let context: Vec<char> = record["context"].as_str().unwrap().chars().collect();
        let found: String =
            context[start.unwrap() as usize..].iter().take(answer.chars().count()).collect();
        assert_eq!(found, answer, "start counts characters");
        right += usize::from(record["answers"][0] == *answer);
    }
    assert!(right >= 23, "{right}");
    // Where nobody knows the answer, too; and a way to say nothing.
    scratch
        .write("bare.jsonl", r#"{"question": "where", "context": "1 the cup is in hall today"}"#);
    let bare = scratch.ok(&["predict", "run", "bare.jsonl", "--no-answer=-1000"]).out;
    let bare: Value = serde_json::from_str(&bare).unwrap();
    assert_eq!((bare["answer"].as_str(), &bare["start"]), (Some(""), &Value::Null));

    let Some(python) = python(&["torch", "transformers"]) else { return };
    let output = Command::new(&python)
        .args(["-c", TRANSFORMERS, "run/model", "new.jsonl"])
        .current_dir(scratch.path())
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let theirs: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .unwrap_or_else(|e| panic!("{e} {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(theirs["class"], "BertForQuestionAnswering");
    let ours: Vec<Value> =
        answered.iter().map(|record| json!([record["answer"], record["start"]])).collect();
    assert_eq!(theirs["said"], Value::Array(ours));
}

#[test]
fn what_is_wrong_is_said_with_its_remedy() {
    let scratch = Scratch::new();
    let mut bad = questions(0, 20);
    bad[6]["answers"] = json!([{"text": "moon", "answer_start": 3}]);
    scratch.write("bad.jsonl", lines(&bad));
    let message = scratch.fails(2, &["train", "bad.jsonl", "--task", "qa"]);
    assert!(message.contains("bad.jsonl:7") && message.contains("\"moon\""), "{message}");
    scratch.write("good.jsonl", lines(&questions(0, 20)));
    let smooth = ["train", "good.jsonl", "--task", "qa", "--set", "regularize.label-smoothing=0.1"];
    let message = scratch.fails(2, &smooth);
    assert!(message.contains("label-smoothing"), "{message}");
    let plan = scratch.ok(&["plan", "good.jsonl", "--task", "qa"]).out;
    assert!(plan.contains("family = \"bert\"") && plan.contains("stride = 128"), "{plan}");
}
