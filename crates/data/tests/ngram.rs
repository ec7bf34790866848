//! n-gram models against an independent implementation: a Python script written from the papers.
//!
//! The golden file: `python3 crates/data/tests/golden/make_ngrams.py`.

use heldout_base::rng::{Random, streams};
use heldout_data::IGNORE;
use heldout_data::ngram::{Appended, Discounts, NgramCounts, NgramModel};
use heldout_data::tokenizer::{Tokenizer, TokenizerKind};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

const NODES: usize = 1 << 24;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn ids(value: &Value) -> Vec<u32> {
    let id = |id: &Value| id.as_u64().expect("an id") as u32;
    value.as_array().expect("a list").iter().map(id).collect()
}

/// Losses of each order over the windows of `held`, token by token.
fn losses(model: &NgramModel, orders: &[usize], held: &[u32], context: usize) -> Vec<Vec<f64>> {
    let mut all = vec![Vec::new(); orders.len()];
    let windows = held[..held.len() - 1].chunks(context).zip(held[1..].chunks(context));
    for (ids, targets) in windows {
        model.losses(orders, ids, targets, |index, losses| {
            all[index].extend(losses.iter().map(|loss| f64::from(*loss)));
        });
    }
    all
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Perplexities agree to 1e-3, and more closely: single losses to f32.
fn check(case: &Value, expected: &Value, name: &str) {
    let (train, held) = (ids(&case["train"]), ids(&case["held"]));
    let vocabulary = case["vocabulary"].as_u64().expect("a size") as u32;
    let eos = case["eos"].as_u64().map(|id| id as u32);
    let orders: Vec<usize> = ids(&case["orders"]).into_iter().map(|n| n as usize).collect();
    let most = orders.iter().copied().max().expect("an order");
    let context = case["context"].as_u64().expect("a length") as usize;
    let mut counts = NgramCounts::new(vocabulary, eos, most, NODES);
    // In two parts: where they meet must leave no trace.
    let (one, other) = train.split_at(train.len() * 2 / 3);
    assert_eq!((counts.append(one), counts.append(other)), (Appended::All, Appended::All));
    let model = counts.estimate();
    let found = losses(&model, &orders, &held, context);
    for ((order, found), expected) in orders.iter().zip(&found).zip(expected.as_array().unwrap()) {
        let place = format!("{name}, order {order}");
        let loss = expected["loss"].as_f64().expect("a loss");
        let (ours, theirs) = (mean(found).exp(), loss.exp());
        assert!((ours - theirs).abs() < 1e-3, "{place}: perplexity {ours}, expected {theirs}");
        for (at, loss) in expected["first"].as_array().unwrap().iter().enumerate() {
            let (ours, theirs) = (found[at], loss.as_f64().expect("a loss"));
            assert!((ours - theirs).abs() < 1e-5, "{place}, target {at}: {ours}, not {theirs}");
        }
        let discounts: Vec<Discounts> = model.discounts(*order);
        let expected_discounts = expected["discounts"].as_array().unwrap();
        assert_eq!(discounts.len(), expected_discounts.len());
        for (ours, theirs) in discounts.iter().zip(expected_discounts) {
            for (ours, theirs) in ours.0.iter().zip(theirs.as_array().unwrap()) {
                assert!((ours - theirs.as_f64().unwrap()).abs() < 1e-12, "{place}: {discounts:?}");
            }
        }
        assert_eq!(counts.ngrams(*order), expected["ngrams"].as_u64().unwrap(), "{place}");
    }
}

#[test]
fn perplexities_equal_those_of_an_independent_implementation() {
    let text = std::fs::read_to_string(folder().join("ngrams.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() > 6);
    for case in &cases {
        check(case, &case["expected"], case["name"].as_str().unwrap());
    }
    // Both kinds of discounts occur.
    let results = cases.iter().flat_map(|case| case["expected"].as_array().unwrap());
    let discounts = results.flat_map(|result| result["discounts"].as_array().unwrap());
    let fallback = json!(Discounts::FALLBACK.0);
    let (used, estimated): (Vec<&Value>, Vec<&Value>) = discounts.partition(|d| **d == fallback);
    assert!(used.len() > 5 && estimated.len() > 5, "{} {}", used.len(), estimated.len());
}

/// Characters and byte pairs of a real text, scored by both sides now. `HELDOUT_NGRAM_CHARACTERS`
/// takes more of the text than the test does by default (all of it takes minutes in Python).
#[test]
fn python_agrees_on_real_text_where_both_are_at_hand() {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/tinyshakespeare/input.txt");
    let Ok(text) = std::fs::read_to_string(&corpus) else {
        println!("skipped: {} is not there", corpus.display());
        return;
    };
    let python = std::env::var("HELDOUT_PYTHON").unwrap_or_else(|_| "python3".into());
    let probe = Command::new(&python).arg("--version").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("skipped: there is no {python}; set HELDOUT_PYTHON");
        return;
    }
    let size = std::env::var("HELDOUT_NGRAM_CHARACTERS").ok().and_then(|n| n.parse().ok());
    let text: String = text.chars().take(size.unwrap_or(60_000)).collect();
    let kinds = [
        ("char", TokenizerKind::Char, 0, [2, 3, 5, 7]),
        ("bpe", TokenizerKind::Bpe, 512, [1, 2, 3, 4]),
    ];
    for (name, kind, vocabulary, orders) in kinds {
        let tokenizer =
            Tokenizer::train(kind, vocabulary, &[], &mut [Ok(text.clone())].into_iter()).unwrap();
        let tokens = tokenizer.encode(&text).unwrap();
        let (train, held) = tokens.split_at(tokens.len() * 9 / 10);
        let case = json!({
            "vocabulary": tokenizer.vocabulary_size(), "eos": null, "train": train, "held": held,
            "context": 256, "orders": orders,
        });
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("case.json");
        std::fs::write(&file, case.to_string()).unwrap();
        let script = folder().join("make_ngrams.py");
        let output = Command::new(&python).arg(script).arg("check").arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let expected: Value = serde_json::from_slice(&output.stdout).unwrap();
        check(&case, &expected, name);
        for result in expected.as_array().unwrap() {
            let loss = result["loss"].as_f64().unwrap();
            println!("{name}, order {}: perplexity {:.4}", result["order"], loss.exp());
        }
    }
}

fn random_text(length: u64, vocabulary: u64) -> Vec<u32> {
    let random = Random::new(5, streams::TEST, 0);
    (0..length).map(|i| random.below(i, vocabulary) as u32).collect()
}

#[test]
fn probabilities_of_all_tokens_add_up_to_one() {
    let train = random_text(600, 7);
    for eos in [None, Some(0)] {
        // The vocabulary has three tokens that never occur.
        let mut counts = NgramCounts::new(10, eos, 5, NODES);
        counts.append(&train);
        let model = counts.estimate();
        for context in [&[3][..], &[9], &[1, 2, 3, 4], &[5, 0, 2], &[8, 1], &[2, 2, 2, 2, 2, 2]] {
            for order in 1..=5 {
                let mut sum = 0.0;
                for token in 0..10 {
                    let mut targets = vec![IGNORE; context.len()];
                    *targets.last_mut().unwrap() = token;
                    model.losses(&[order], context, &targets, |_, losses| {
                        sum += f64::from(-losses[context.len() - 1]).exp();
                    });
                }
                assert!((sum - 1.0).abs() < 1e-5, "{context:?}, order {order}, {eos:?}: {sum}");
            }
        }
    }
}

#[test]
fn what_is_not_scored_is_context_all_the_same() {
    let train = random_text(2000, 6);
    let mut counts = NgramCounts::new(6, Some(0), 4, NODES);
    counts.append(&train);
    let model = counts.estimate();
    let (ids, targets) = (&train[100..131], &train[101..132]);
    let mut whole = Vec::new();
    model.losses(&[3], ids, targets, |_, losses| whole = losses.to_vec());
    let mut some: Vec<u32> = targets.to_vec();
    (0..some.len()).filter(|i| i % 3 != 1).for_each(|i| some[i] = IGNORE);
    model.losses(&[3], ids, &some, |_, losses| {
        for (i, loss) in losses.iter().enumerate() {
            assert_eq!(*loss, if i % 3 == 1 { whole[i] } else { 0.0 }, "target {i}");
        }
    });
}

#[test]
fn too_many_ngrams_cost_the_highest_orders_then_the_rest_of_the_text() {
    let train = random_text(60_000, 50);
    let mut counts = NgramCounts::new(50, None, 6, 40_000);
    assert_eq!(counts.append(&train), Appended::Full);
    assert_eq!(counts.order(), 3);
    assert!(counts.tokens() > 10_000 && counts.tokens() < 60_000, "{}", counts.tokens());
    // Exactly the model of that order and that text.
    let used = &train[..counts.tokens() as usize];
    let mut same = NgramCounts::new(50, None, 3, NODES);
    same.append(used);
    let score = |counts: &NgramCounts| losses(&counts.estimate(), &[2, 3], &train[..500], 64);
    assert_eq!(score(&counts), score(&same));
    assert_eq!(counts.ngrams(3), same.ngrams(3));
}

/// A million tokens, order 6, in seconds; `cargo test --release -p heldout-data --test ngram --
/// --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn a_million_tokens() {
    for (vocabulary, order) in [(65, 8), (4096, 6)] {
        // Zipf-like, each token depending on the one before.
        let random = Random::new(5, streams::TEST, 0);
        let mut last = 0u64;
        let train: Vec<u32> = (0..1_000_000)
            .map(|i| {
                let draw = random.below(2 * i, vocabulary) * random.below(2 * i + 1, vocabulary);
                last = (draw / vocabulary + last * 3) % vocabulary;
                last as u32
            })
            .collect();
        let begin = std::time::Instant::now();
        let mut counts = NgramCounts::new(vocabulary as u32, None, order, NODES);
        counts.append(&train);
        let counted = begin.elapsed();
        let model = counts.estimate();
        let estimated = begin.elapsed();
        losses(&model, &[2, 3, 4, 5, 6], &train[..100_000], 256);
        println!(
            "vocabulary {vocabulary}, order {order}: {} n-grams, counted in {counted:.2?}, \
             estimated after {estimated:.2?}, 100,000 scored after {:.2?}",
            counts.ngrams(order),
            begin.elapsed()
        );
    }
}
