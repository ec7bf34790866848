//! Our ids against those of Hugging Face `tokenizers` and `transformers` on the same
//! tokenizer.json.
//!
//! The golden files: `cargo test -p heldout-data --test golden -- --ignored`, then `python3
//! crates/data/tests/golden/make_tokenizers.py`.

use heldout_data::tokenizer::{END_OF_TEXT, Tokenizer, TokenizerKind};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn corpus() -> String {
    let mut text = String::from(
        "Größe naïve café Ω≈ç√ 中文文本，标点。日本語 👩‍👩‍👧 ½ Ⅷ # ## ###\n\ttabs\r\n\u{a0}\u{2003}",
    );
    text.extend((' '..='~').map(String::from));
    let (subjects, verbs) =
        (["Citizen", "fox", "speaker", "dog"], ["jumps over", "hears", "proceeds to"]);
    for i in 0..300 {
        let (subject, verb) = (subjects[i % 4], verbs[i % 3]);
        text +=
            &format!("The {i}th {subject} quickly {verb} the lazy {}s; ", subjects[(i / 4) % 4]);
        text += "I'll speak, don't we've any further? It's before me.\n\n";
    }
    text
}

fn trained(kind: TokenizerKind) -> Tokenizer {
    Tokenizer::train(kind, 640, &[END_OF_TEXT], &mut [Ok(corpus())].into_iter()).unwrap()
}

fn path(name: &str) -> PathBuf {
    folder().join(format!("tokenizer_{name}.json"))
}

#[test]
#[ignore = "writes the golden files"]
fn write_the_tokenizers() {
    for (name, kind) in TokenizerKind::ALL {
        std::fs::write(path(name), trained(kind).to_json()).unwrap();
    }
}

#[test]
fn ids_and_texts_equal_those_of_hugging_face() {
    let golden: Value =
        serde_json::from_str(&std::fs::read_to_string(folder().join("ids.json")).unwrap()).unwrap();
    for (name, kind) in TokenizerKind::ALL {
        let tokenizer = Tokenizer::load(&path(name)).unwrap();
        for row in golden[name].as_array().unwrap() {
            let text = row["text"].as_str().unwrap();
            let expected: Vec<u32> = row["ids"]
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_u64().unwrap() as u32)
                .collect();
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(ids, expected, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&ids), row["decoded"].as_str().unwrap(), "{name}");
            assert_eq!(tokenizer.decode(&ids), text, "{name}");
        }
        // Training gives the committed tokenizer to this day.
        assert!(trained(kind).to_json() == tokenizer.to_json(), "{name}: training has changed");
    }
}

#[test]
fn python_agrees_where_it_is_at_hand() {
    let python = std::env::var("HELDOUT_PYTHON").unwrap_or_else(|_| "python3".into());
    let probe = Command::new(&python).args(["-c", "import tokenizers, transformers"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("skipped: {python} with tokenizers and transformers is not at hand");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let corpus = corpus();
    for (name, kind) in TokenizerKind::ALL {
        let tokenizer = trained(kind);
        let at = scratch.path().join(name);
        std::fs::create_dir(&at).unwrap();
        std::fs::write(at.join("tokenizer.json"), tokenizer.to_json()).unwrap();
        std::fs::write(at.join("tokenizer_config.json"), tokenizer.config_json(64)).unwrap();
        // AutoTokenizer looks at the kind of model too: it must not change how the text is cut.
        std::fs::write(at.join("config.json"), "{\"model_type\": \"gpt2\"}").unwrap();
        let texts: Vec<&str> = [corpus.as_str(), "", " ", "\n\n", "a\t b"]
            .into_iter()
            .chain(corpus.lines().take(40))
            .collect();
        let rows: Vec<Value> = texts
            .iter()
            .map(|t| serde_json::json!({"text": t, "ids": tokenizer.encode(t).unwrap()}))
            .collect();
        std::fs::write(at.join("texts.json"), serde_json::to_string(&rows).unwrap()).unwrap();
    }
    let output = Command::new(&python)
        .arg(folder().join("make_tokenizers.py"))
        .arg("check")
        .arg(scratch.path())
        .env("TOKENIZERS_PARALLELISM", "false")
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
