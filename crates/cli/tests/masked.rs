//! Masked tokens from text to labels, as a new user would go.

mod common;

use common::{Scratch, python};

/// What stands at a mask by the files that the run left.
const TRANSFORMERS: &str = r#"
import json, sys, torch
from transformers import AutoModelForMaskedLM, AutoTokenizer
model, report = AutoModelForMaskedLM.from_pretrained(sys.argv[1], output_loading_info=True)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
text = f"the cat number 7 was soft in the {tokenizer.mask_token}"
batch = tokenizer([text, "the cow"], padding=True, return_tensors="pt")
ids = batch["input_ids"][0].tolist()
with torch.no_grad():
    logits = model(**batch).logits[0, ids.index(tokenizer.mask_token_id)]
print(json.dumps({
    "class": type(model).__name__,
    "missing": sorted(report["missing_keys"]),
    "ends": tokenizer.convert_ids_to_tokens([ids[0], ids[-1]]),
    "word": tokenizer.decode([int(logits.argmax())]).strip(),
}))
"#;

const SMALL: [&str; 8] = [
    "--set",
    "model.layers=1",
    "--set",
    "model.width=32",
    "--set",
    "model.heads=2",
    "--threads",
    "2",
];

/// Short lines, each with a voice that goes with the animal.
fn lines() -> String {
    const VOICES: [(&str, &str); 4] =
        [("cat", "soft"), ("dog", "loud"), ("owl", "soft"), ("cow", "loud")];
    let line = |n: usize| {
        let (animal, voice) = VOICES[n * 7 % 4];
        let record = serde_json::json!({
            "text": format!("the {animal} number {n} was {voice} in the barn"),
            "label": voice,
        });
        record.to_string() + "\n"
    };
    (0..240).map(line).collect()
}

#[test]
fn masked_training_then_labels() {
    let scratch = Scratch::new();
    scratch.write("texts.jsonl", lines());
    let masked = [&["train", "texts.jsonl", "--task", "mlm", "--steps", "60", "--out", "m"][..]];
    let trained = scratch.ok(&[&masked.concat()[..], &SMALL].concat());
    for words in ["bert, 1 layers", "nats/masked token", "of masked tokens", "accuracy"] {
        assert!(trained.out.contains(words), "{words} in {}", trained.out);
    }
    assert!(trained.out.contains("how common each token is"), "{}", trained.out);
    assert!(trained.out.contains("heldout finetune m labelled.jsonl"), "{}", trained.out);
    assert!(!trained.out.contains("bits/byte"), "{}", trained.out);
    let scored = scratch.ok(&["evaluate", "m"]).out;
    assert!(scored.contains("nats/masked token") && scored.contains("found"), "{scored}");
    let json = scratch.ok(&["evaluate", "m", "--split", "train", "--json"]).out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(json["masked"].as_u64() > Some(100), "{json}");
    let page = scratch.ok(&["report", "m", "--format", "markdown", "--out", "page.md"]);
    let page = std::fs::read_to_string(scratch.join("page.md")).unwrap_or(page.out);
    assert!(page.contains("nats per masked token"), "{page}");
    let refused = scratch.fails(2, &["evaluate", "m", "texts.jsonl"]);
    assert!(refused.contains("own splits"), "{refused}");
    let causal = scratch.fails(2, &["generate", "m", "--prompt", "the"]);
    assert!(causal.contains("bert"), "{causal}");

    if let Some(python) = python(&["torch", "transformers"]) {
        let folder = scratch.join("m/model");
        let mut command = std::process::Command::new(python);
        command.args(["-c", TRANSFORMERS]).arg(folder).env("HF_HUB_OFFLINE", "1");
        let output = command.output().expect("python runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let theirs: serde_json::Value = serde_json::from_str(text.trim())
            .unwrap_or_else(|e| panic!("{e} {}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(theirs["class"], "BertForMaskedLM");
        assert_eq!(theirs["missing"], serde_json::json!([]));
        assert_eq!(theirs["ends"], serde_json::json!(["[CLS]", "[SEP]"]));
        assert_eq!(theirs["word"], "barn");
    }

    let labels = ["finetune", "m", "texts.jsonl", "--task", "classify", "--steps", "4"];
    let tuned = scratch.ok(&[&labels[..], &["--out", "c", "--threads", "2"]].concat());
    assert!(tuned.err.contains("classifier.weight"), "{}", tuned.err);
    scratch.ok(&["predict", "c", "texts.jsonl"]);
}
