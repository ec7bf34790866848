//! The edits of texts: identity at rate 0, the same for the same place, the expected share, safety.

use heldout_data::augment::*;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

const TEXT: &str = "  The quick brown fox, which nobody saw, jumps over\tthe lazy dogs.  It ran! ";

fn lexicon(text: &str) -> Arc<Lexicon> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lexicon.txt");
    std::fs::write(&path, text).unwrap();
    Arc::new(Lexicon::load(&[path]).unwrap())
}

fn english() -> Arc<Lexicon> {
    static ENGLISH: LazyLock<Arc<Lexicon>> = LazyLock::new(|| {
        lexicon("quick\tfast swift\nlazy\tidle\ndog\thound canine_animal\nfox\tvixen\nthe\tye\n")
    });
    ENGLISH.clone()
}

fn augmenter(edit: Edit, rate: f64) -> Augmenter {
    let spec = AugmentSpec {
        steps: vec![Step { edit, rate }],
        share: 1.0,
        choice: Choice::All,
        mask: Some("[MASK]".into()),
        seed: 5,
    };
    Augmenter::new(spec, TextTask::Classification, Some(english())).unwrap()
}

fn count(text: &str) -> usize {
    text.split_whitespace().count()
}

#[test]
fn rate_zero_changes_nothing_and_every_place_is_repeatable() {
    let texts = [TEXT, "", " ", "word", "你好，世界。再见！", "a b", "No end. \n\nNew line"];
    for (name, edit) in Edit::ALL {
        for text in texts {
            for index in 0..20 {
                assert_eq!(augmenter(edit, 0.0).apply(text, 0, index), text, "{name}");
                let once = augmenter(edit, 0.7).apply(text, 3, index);
                assert_eq!(once, augmenter(edit, 0.7).apply(text, 3, index), "{name}");
                assert_eq!(once.trim().is_empty(), text.trim().is_empty(), "{name}: {once:?}");
            }
        }
        let differs = |epoch, index| {
            let first = augmenter(edit, 0.5).apply(TEXT, 0, 0);
            first != augmenter(edit, 0.5).apply(TEXT, epoch, index)
        };
        assert!((1..20).any(|epoch| differs(epoch, 0)), "{name}");
        assert!((1..20).any(|index| differs(0, index)), "{name}");
    }
}

/// Mean of `of` over many examples.
fn mean(edit: Edit, rate: f64, text: &str, of: impl Fn(&str) -> f64) -> f64 {
    let augmenter = augmenter(edit, rate);
    (0..4000).map(|index| of(&augmenter.apply(text, 0, index))).sum::<f64>() / 4000.0
}

#[test]
fn each_edit_touches_the_share_of_words_that_its_rate_says() {
    let text = "one two three four quick lazy dog fox nine ten";
    // Standard error over 4,000 texts of 10 words: 0.015 words; 0.07 is more than four.
    let near = |found: f64, expected: f64, what: &str| {
        assert!((found - expected).abs() < 0.07, "{what}: {found}, expected {expected}");
    };
    near(mean(Edit::Deletion, 0.2, text, |t| count(t) as f64), 8.0, "deletion");
    near(mean(Edit::Mask, 0.2, text, |t| t.matches("[MASK]").count() as f64), 2.0, "mask");
    near(
        mean(Edit::Insertion, 0.15, text, |t| count(&t.replace("canine animal", "x")) as f64),
        11.5,
        "insertion",
    );
    let kept = |t: &str| {
        let left = t.split_whitespace().filter(|w| text.split(' ').any(|o| o == *w)).count();
        left as f64
    };
    near(mean(Edit::Synonym, 0.25, text, kept), 7.5, "synonym");
    let moved = |t: &str| {
        let other = t.split(' ').zip(text.split(' ')).filter(|(a, b)| a != b).count();
        other as f64
    };
    // One swap always moves two words.
    near(mean(Edit::Swap, 0.1, text, moved), 2.0, "swap");
    let changed = mean(Edit::SentenceOrder, 0.6, "A b. C d.", |t| f64::from(t != "A b. C d."));
    near(changed, 0.3, "sentence order");
    let mut spec = augmenter(Edit::Swap, 0.3).spec().clone();
    spec.share = 0.25;
    let some = Augmenter::new(spec, TextTask::Classification, None).unwrap();
    let touched = (0..4000).filter(|i| some.apply(text, 0, *i) != text).count();
    near(touched as f64 / 4000.0, 0.25, "share");
}

#[test]
fn words_keep_their_spaces_case_and_punctuation() {
    let all = |edit, rate| (0..200).map(move |i| augmenter(edit, rate).apply(TEXT, 0, i));
    let mut sorted: Vec<&str> = TEXT.split_whitespace().collect();
    sorted.sort_unstable();
    for swapped in all(Edit::Swap, 0.4) {
        let mut words: Vec<&str> = swapped.split_whitespace().collect();
        words.sort_unstable();
        assert_eq!(words, sorted);
        assert!(swapped.starts_with("  ") && swapped.ends_with(' '), "{swapped:?}");
    }
    // Everything that can be replaced is; function words, here "the", never are.
    let full = augmenter(Edit::Synonym, 1.0);
    let replaced = full.apply("The QUICK fox, a Lazy dog and dogs.", 0, 0);
    let allowed = ["The SWIFT vixen, a Idle", "The FAST vixen, a Idle"];
    assert!(allowed.iter().any(|start| replaced.starts_with(start)), "{replaced}");
    assert!(replaced.ends_with("hounds.") || replaced.ends_with("canine animals."), "{replaced}");
}

#[test]
fn sentences_change_places_whole() {
    let text = "First one. Second, with 3.5 points! \"Third?\" Last";
    let shuffled = augmenter(Edit::SentenceOrder, 1.0);
    let mut orders = std::collections::BTreeSet::new();
    for index in 0..300 {
        let after = shuffled.apply(text, 0, index);
        for sentence in ["First one.", "Second, with 3.5 points!", "\"Third?\"", "Last"] {
            assert!(after.contains(sentence), "{after}");
        }
        assert!(after.matches(' ').count() >= text.matches(' ').count(), "{after}");
        orders.insert(after);
    }
    assert_eq!(orders.len(), 24);
    let chinese = "你好。再见！走吧？";
    let after: std::collections::BTreeSet<String> =
        (0..100).map(|i| shuffled.apply(chinese, 0, i)).collect();
    assert_eq!(after.len(), 6);
    assert!(after.contains("走吧？再见！你好。"));
}

#[test]
fn chinese_is_cut_into_the_words_of_the_lexicon() {
    let spec = AugmentSpec {
        steps: vec![Step { edit: Edit::Synonym, rate: 1.0 }],
        share: 1.0,
        choice: Choice::All,
        mask: None,
        seed: 1,
    };
    let words = lexicon("电影\t影片\n好\t棒\n电\t雷\n");
    let augmenter = Augmenter::new(spec, TextTask::Classification, Some(words)).unwrap();
    assert_eq!(augmenter.apply("这部电影真好！", 0, 0), "这部影片真棒！");
    let deleted = self::augmenter(Edit::Deletion, 0.5).apply("这部电影真好", 0, 1);
    assert!(!deleted.is_empty() && deleted.chars().count() < 6 && !deleted.contains(' '));
}

#[test]
fn wordnet_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "data.noun",
        "  1 This software and database is provided as is  \n\
         02084071 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 001 @ 02083346 n 0000 | a dog  \n\
         02085998 05 n 02 dog 2 hound 0 000 | made up  \n",
    );
    write("data.verb", "00000001 29 v 01 sleep 0 000 01 + 01 00 | alone  \n");
    write("data.adj", "00000002 00 s 02 galore(ip) 0 abounding 0 000 | made up  \n");
    write("data.adv", "00000003 02 r 02 well 0 good 1 000 | made up  \n");
    let lexicon = Lexicon::load(&[folder.path().to_path_buf()]).unwrap();
    assert_eq!(lexicon.synonyms("Dog"), ["domestic dog", "Canis familiaris", "hound"]);
    assert_eq!(lexicon.synonyms("abounding"), ["galore"]);
    assert!(lexicon.synonyms("sleep").is_empty());
    assert_eq!(lexicon.len(), 6);
    write("bad.txt", "word\tother\nno tab here\n");
    let error = Lexicon::load(&[folder.path().join("bad.txt")]).unwrap_err().to_string();
    assert!(error.contains("bad.txt:2") && error.contains("tab"), "{error}");
    let missing = Lexicon::load(&[PathBuf::from("nowhere.txt")]).unwrap_err().to_string();
    assert!(missing.contains("nowhere.txt"), "{missing}");
}

#[test]
fn what_would_spoil_a_task_is_refused() {
    let make = |edit, rate, task, lexicon, mask: Option<&str>| {
        let mask = mask.map(str::to_string);
        let steps = vec![Step { edit, rate }];
        let spec = AugmentSpec { steps, share: 1.0, choice: Choice::All, mask, seed: 1 };
        Augmenter::new(spec, task, lexicon).map(|_| ()).map_err(|e| e.to_string())
    };
    let refused = |result: Result<(), String>, word: &str| {
        let error = result.unwrap_err();
        assert!(error.contains(word), "{error}");
    };
    for (_, edit) in Edit::ALL {
        let ask = |task| make(edit, 0.1, task, Some(english()), Some("[MASK]"));
        assert!(ask(TextTask::Classification).is_ok());
        refused(ask(TextTask::QuestionAnswering), "not safe for question answering");
        refused(ask(TextTask::LanguageModel), "not safe for language modelling");
    }
    let order = |task| make(Edit::SentenceOrder, 0.1, task, None, None);
    refused(order(TextTask::SequenceToSequence), "order of the source");
    refused(make(Edit::Deletion, 0.1, TextTask::PairClassification, None, None), "not");
    let class = TextTask::Classification;
    refused(make(Edit::Synonym, 0.1, class, None, None), "lexicon");
    refused(make(Edit::Mask, 0.1, class, None, None), "mask token");
    refused(make(Edit::Swap, 1.5, class, None, None), "1.5");
    let none = AugmentSpec { steps: vec![], ..AugmentSpec::eda(0.1, None, 1) };
    assert!(Augmenter::new(none, class, None).unwrap_err().to_string().contains("deletion, swap"));
}

#[test]
fn a_preview_shows_what_training_sees() {
    let spec = AugmentSpec::eda(0.2, Some(english().as_ref()), 9);
    assert_eq!(spec.steps.len(), 4);
    let augmenter = Augmenter::new(spec, TextTask::Classification, Some(english())).unwrap();
    let texts: Vec<String> =
        (0..40).map(|i| format!("{i} quick foxes and a lazy dog ran")).collect();
    let previews = augmenter.preview(texts.iter().map(String::as_str), 30, 2);
    assert_eq!(previews.len(), 30);
    for preview in &previews {
        let after = augmenter.apply(&preview.before, 2, preview.index);
        assert_eq!((&preview.after, preview.epoch), (&after, 2));
        assert_eq!(preview.edits.is_empty(), preview.before == preview.after);
    }
    let changed = previews.iter().filter(|p| !p.edits.is_empty()).count();
    assert!((5..=25).contains(&changed), "{changed}");
    println!("{}", serde_json::to_string_pretty(&previews[..4]).unwrap());
}

#[test]
fn spans_become_one_mask_each() {
    let text: String = (0..30).map(|n| format!("w{n} ")).collect();
    let spans = augmenter(Edit::Span, 0.2);
    let (mut hidden, mut masks) = (0, 0);
    for index in 0..400 {
        let changed = spans.apply(&text, 0, index);
        assert!(!changed.contains("[MASK] [MASK]"), "{changed}");
        let own = changed.matches("[MASK]").count();
        hidden += 30 - (count(&changed) - own);
        masks += own;
    }
    // Six words of thirty, less where spans overlap or reach past the end.
    let mean = f64::from(hidden as u32) / 400.0;
    assert!((4.3..6.0).contains(&mean), "{mean}");
    let length = f64::from(hidden as u32) / f64::from(masks as u32);
    assert!((2.5..3.6).contains(&length), "{length}");
}
