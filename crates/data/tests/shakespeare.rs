//! The classic small text, split and tokenized as nanoGPT does; skipped where it is not at hand.

use heldout_data::tokenizer::TokenizerKind;
use heldout_data::{Boundary, PrepareSpec, TokenizerSpec, ValidationSpec, prepare};
use std::path::PathBuf;

fn corpus() -> Option<String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let path = root.join("tinyshakespeare/input.txt");
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path.display().to_string())
}

#[test]
fn characters_split_as_nanogpt_does() {
    let Some(path) = corpus() else { return };
    let cache = tempfile::tempdir().unwrap();
    let tokenizer = TokenizerSpec::Train { kind: TokenizerKind::Char, vocabulary: 0 };
    let mut spec = PrepareSpec::new(&path, tokenizer);
    (spec.boundary, spec.validation) = (Boundary::Contiguous, ValidationSpec::Tail(0.1));
    let data = prepare(&spec, cache.path(), &mut |_| {}).unwrap();
    assert_eq!(data.tokenizer.vocabulary_size(), 65);
    assert_eq!((data.train.len(), data.validation.len()), (1_003_854, 111_540));
    let text = std::fs::read_to_string(&path).unwrap();
    let ids = data.train.tokens(0..data.train.len());
    assert_eq!(data.tokenizer.decode(&ids), text[..1_003_854]);
    let ids = data.validation.tokens(0..data.validation.len());
    assert_eq!(data.tokenizer.decode(&ids), text[1_003_854..]);
    assert_eq!(data.facts.leaked_documents, 0);
    // nanoGPT numbers the sorted characters.
    assert_eq!(data.tokenizer.encode("\n !z").unwrap(), [0, 1, 2, 64]);
}
