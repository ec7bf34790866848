//! Every kind against the `tokenizers` crate running the same tokenizer.json, and against itself.

use super::words::words;
use super::*;
use proptest::prelude::*;

/// Text with the troubles of real text: white space of every kind, marks, scripts, emoji, controls.
const TROUBLES: &str = "First Citizen:\nBefore we proceed any further, hear me speak.\n\n\
    All:\tSpeak, speak!!  I'll don't we'VE it's 'tis 12,345.67 x1y2 ## Heading #tag a##b ### \
    \u{a0}no-break\u{2003}em \r\n\r\n  indented   \n\t\ttabs\n Größe naïve café Ω≈ç√ \
    中文文本，标点。日本語テキスト 한국어 עברית العربية हिन्दी ไทย 👩‍👩‍👧 \u{1}\u{7f}\u{ad}\u{feff} \
    ½ Ⅷ ² e\u{301} \u{2028} end   ";

fn corpus() -> String {
    let mut text = TROUBLES.to_string();
    for i in 0..400 {
        text += &format!("The {i}th quick brown fox jumps over the lazy dogs, doesn't it? ");
        text += "Researchers were researching researchable questions unquestionably.\n";
    }
    text
}

fn trained(kind: TokenizerKind, specials: &[&str]) -> Tokenizer {
    let half = corpus().len() / 2;
    let text = corpus();
    let cut = crate::spool::cut_before(&text[..text.floor_char_boundary(half)]);
    let texts = [text[..cut].to_string(), text[cut..].to_string()];
    Tokenizer::train(kind, 800, specials, &mut texts.into_iter().map(Ok)).unwrap()
}

fn theirs(tokenizer: &Tokenizer) -> tokenizers::Tokenizer {
    tokenizers::Tokenizer::from_bytes(tokenizer.to_json()).unwrap()
}

fn check(tokenizer: &Tokenizer, text: &str) {
    let ids = tokenizer.encode(text).unwrap();
    let reference = theirs(tokenizer);
    assert_eq!(ids, reference.encode_fast(text, false).unwrap().get_ids(), "{text:?}");
    assert_eq!(tokenizer.decode(&ids), text);
    assert_eq!(reference.decode(&ids, false).unwrap(), text);
}

#[test]
fn every_kind_gives_the_ids_of_its_tokenizer_json_and_the_text_back() {
    for (name, kind) in TokenizerKind::ALL {
        let tokenizer = trained(kind, &[END_OF_TEXT]);
        let expected = match kind {
            TokenizerKind::Char => {
                let alphabet = corpus().chars().collect::<std::collections::HashSet<_>>().len();
                alphabet + 1..=alphabet + 1
            }
            TokenizerKind::Byte => 257..=257,
            // So small a text has fewer frequent pairs than that.
            _ => 300..=800,
        };
        assert!(expected.contains(&tokenizer.vocabulary_size()), "{name}");
        assert_eq!(tokenizer.eos().map(|id| tokenizer.decode(&[id])), Some(END_OF_TEXT.into()));
        let spelled = format!("a{END_OF_TEXT}\n{END_OF_TEXT}{END_OF_TEXT} fox<|endoftex ");
        for text in [TROUBLES, &corpus(), &spelled, "", " ", "\n", "e"] {
            if kind != TokenizerKind::Char || text != spelled {
                check(&tokenizer, text);
            }
        }
    }
}

#[test]
fn characters_outside_the_alphabet_are_unknown_or_an_error() {
    let texts = ["abc".to_string()];
    let train = |specials: &[&str]| {
        let mut texts = texts.clone().into_iter().map(Ok);
        Tokenizer::train(TokenizerKind::Char, 0, specials, &mut texts).unwrap()
    };
    let error = train(&[]).encode("abé").unwrap_err().to_string();
    assert!(error.contains("'é' (U+00E9) does not occur in the training text"), "{error}");
    let tokenizer = train(&[UNKNOWN]);
    assert_eq!(tokenizer.encode("aéébc").unwrap(), [0, 3, 3, 1, 2]);
    let reference = theirs(&tokenizer).encode_fast("aéébc", false).unwrap();
    assert_eq!(reference.get_ids(), [0, 3, 3, 1, 2]);
    assert_eq!(tokenizer.unknown(), Some(3));
}

#[test]
fn training_is_reproducible_on_any_number_of_threads() {
    for (name, kind) in TokenizerKind::ALL {
        let runs: Vec<String> = [1, 2, 3, 4, 1]
            .iter()
            .map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(*threads).build().unwrap();
                pool.install(|| trained(kind, &[]).to_json().to_string())
            })
            .collect();
        assert!(runs.iter().all(|run| *run == runs[0]), "{name}");
    }
}

#[test]
fn bpe_learns_the_merges_of_the_definition() {
    // The example of Sennrich et al. 2016: low ×5, lower ×2, newest ×6, widest ×3.
    let text = [("low", 5), ("lower", 2), ("newest", 6), ("widest", 3)]
        .iter()
        .flat_map(|(word, n)| std::iter::repeat_n(format!("{word}\n"), *n))
        .collect::<String>();
    let mut texts = [text].into_iter().map(Ok);
    let tokenizer = Tokenizer::train(TokenizerKind::Bpe, 256 + 3, &[], &mut texts).unwrap();
    let json: Value = serde_json::from_str(tokenizer.to_json()).unwrap();
    assert_eq!(json["model"]["merges"], serde_json::json!([["e", "s"], ["es", "t"], ["l", "o"]]));
}

#[test]
fn words_are_those_of_the_published_pattern() {
    let pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
    let pattern = regex::Regex::new(pattern).unwrap();
    // The look-ahead `\s+(?!\S)` by hand: a run of spaces leaves its last one to the next word.
    let expected = |text: &str| {
        let (mut at, mut words) = (0, Vec::new());
        while at < text.len() {
            let mut end = pattern.find_at(text, at).unwrap().end();
            let last = text[at..end].chars().next_back().unwrap();
            let blank = text[at..end].chars().all(char::is_whitespace);
            if blank && end < text.len() && end - at > last.len_utf8() {
                end -= last.len_utf8();
            }
            words.push(text[at..end].to_string());
            at = end;
        }
        words
    };
    let text = corpus();
    assert_eq!(words(&text).collect::<Vec<_>>(), expected(&text));
}

#[test]
fn errors_name_the_sizes() {
    let train = |kind, size| {
        let mut texts = ["some text".to_string()].into_iter().map(Ok);
        Tokenizer::train(kind, size, &[END_OF_TEXT], &mut texts).unwrap_err().to_string()
    };
    let error = train(TokenizerKind::Bpe, 100);
    assert!(error.contains("vocabulary of 100 is too small for bpe"), "{error}");
    let error = train(TokenizerKind::Unigram, usize::MAX);
    assert!(error.contains("is above the limit of 4194304"), "{error}");
    let empty = Tokenizer::train(TokenizerKind::Bpe, 300, &[], &mut std::iter::empty());
    assert_eq!(empty.unwrap_err().to_string(), "tokenizer: there is no text to train on");
    let error = Tokenizer::from_json("{\"model\": 3}").unwrap_err().to_string();
    assert!(error.starts_with("tokenizer: "), "{error}");
    assert!(Tokenizer::from_json("[").unwrap_err().to_string().contains("not valid JSON"));
}

#[test]
fn a_saved_tokenizer_is_the_same_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    for (_, kind) in TokenizerKind::ALL {
        let tokenizer = trained(kind, &[END_OF_TEXT]);
        let path = folder.path().join("tokenizer.json");
        tokenizer.save(&path).unwrap();
        let loaded = Tokenizer::load(&path).unwrap();
        assert_eq!(loaded.encode(TROUBLES).unwrap(), tokenizer.encode(TROUBLES).unwrap());
        assert_eq!(loaded.eos(), tokenizer.eos());
        assert_eq!(loaded.to_json(), tokenizer.to_json());
    }
}

#[test]
fn a_foreign_tokenizer_gets_an_end_of_text() {
    let json = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
        "normalizer":null,"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,
        "decoder":null,"model":{"type":"WordLevel","vocab":{"a":0,"b":1,"?":2},"unk_token":"?"}}"#;
    let tokenizer = Tokenizer::from_json(json).unwrap();
    assert_eq!((tokenizer.eos(), tokenizer.unknown()), (None, Some(2)));
    assert_eq!(tokenizer.encode("a b c").unwrap(), [0, 1, 2]);
    let tokenizer = tokenizer.with_end_of_text().unwrap();
    assert_eq!((tokenizer.eos(), tokenizer.vocabulary_size()), (Some(3), 4));
    assert_eq!(tokenizer.encode("b <|endoftext|> a").unwrap(), [1, 3, 0]);
}

#[test]
fn cards_are_complete() {
    assert_eq!(CARDS.len(), TokenizerKind::ALL.len());
    for (card, (name, _)) in CARDS.iter().zip(TokenizerKind::ALL) {
        assert_eq!(card.name, name);
        for text in [card.purpose, card.paper, card.when_to_use, card.when_to_avoid, card.cost] {
            assert!(!text.is_empty(), "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_text_survives(text in "\\PC{0,60}|[ a-z#'\\s]{0,60}|.{0,40}") {
        thread_local! {
            static ALL: Vec<Tokenizer> = TokenizerKind::ALL[1..]
                .iter()
                .map(|(_, kind)| trained(*kind, &[END_OF_TEXT]))
                .collect();
        }
        ALL.with(|all| all.iter().for_each(|tokenizer| check(tokenizer, &text)));
    }

    #[test]
    fn cutting_changes_no_id(text in "[ a-z0-9'.,\\n\u{a0}é中]{2,200}|[a-z0-9'.,é中，]{2,200}") {
        thread_local! { static BPE: Tokenizer = trained(TokenizerKind::Bpe, &[]); }
        let at = crate::spool::cut_before(&text);
        prop_assume!(at < text.len());
        BPE.with(|bpe| {
            let mut ids = bpe.encode(&text[..at]).unwrap();
            ids.extend(bpe.encode(&text[at..]).unwrap());
            assert_eq!(ids, bpe.encode(&text).unwrap());
        });
    }

    #[test]
    fn long_words_merge_as_short_ones_do(word in "[ab]{150,400}") {
        thread_local! { static BPE: Tokenizer = {
            let text = "abaababaabaab babab aabb abab bbaa aaaa bbbb ".repeat(20);
            Tokenizer::train(TokenizerKind::Bpe, 290, &[], &mut [Ok(text)].into_iter()).unwrap()
        }; }
        BPE.with(|bpe| check(bpe, &word));
    }

    #[test]
    fn no_json_makes_the_loader_panic(text in "\\PC{0,200}") {
        let _ = Tokenizer::from_json(&text);
    }
}
