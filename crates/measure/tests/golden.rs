//! Agreement with scikit-learn, SQuAD's script, sacreBLEU and rouge-score, from the scores that
//! `golden/make_scores.py` wrote.

use std::collections::HashMap;

use heldout_measure::bleu::{self, Bleu};
use heldout_measure::calibration::CalibrationError;
use heldout_measure::chrf::{self, Chrf, WordOrder};
use heldout_measure::classification::{Average, ClassScores, Confused, Confusion, Score};
use heldout_measure::probabilities::{Auroc, Probabilities};
use heldout_measure::resample::value;
use heldout_measure::rouge::Rouge;
use heldout_measure::squad;
use heldout_measure::tokenize::{Case, Tokenizer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    classification: Vec<Classification>,
    squad: Answers,
    translation: Vec<Translation>,
    summaries: Summaries,
}

#[derive(Deserialize)]
struct Classification {
    classes: usize,
    probabilities: Vec<Vec<f64>>,
    references: Vec<u32>,
    predictions: Vec<u32>,
    confusion: Vec<u64>,
    accuracy: f64,
    mcc: f64,
    average: HashMap<String, [f64; 3]>,
    each: Vec<[f64; 4]>,
    log_loss: f64,
    auroc: f64,
    ece: f64,
}

#[derive(Deserialize)]
struct Answers {
    predictions: Vec<String>,
    references: Vec<Vec<String>>,
    normalized: Vec<String>,
    exact_match: Vec<f64>,
    f1: Vec<f64>,
}

#[derive(Deserialize)]
struct Translation {
    predictions: Vec<String>,
    references: Vec<Vec<String>>,
    bleu: Vec<GoldenBleu>,
    chrf: Vec<GoldenChrf>,
}

#[derive(Deserialize)]
struct GoldenBleu {
    tokenizer: String,
    lower: bool,
    signature: String,
    score: f64,
    precisions: [f64; 4],
    brevity_penalty: f64,
    lengths: [u64; 2],
    counts: Vec<u64>,
    sentences: Vec<f64>,
}

#[derive(Deserialize)]
struct GoldenChrf {
    words: usize,
    score: f64,
    signature: String,
    sentences: Vec<f64>,
}

#[derive(Deserialize)]
struct Summaries {
    predictions: Vec<String>,
    references: Vec<Vec<String>>,
    scores: HashMap<String, Vec<[f64; 3]>>,
}

fn golden() -> Golden {
    let text = include_str!("golden/scores.json");
    serde_json::from_str(text).expect("make_scores.py writes these fields")
}

/// Equal but for the last digits: both sides are f64, in other orders of summation.
#[track_caller]
fn close(found: f64, expected: f64, what: &str) {
    let tolerance = 1e-9 * expected.abs().max(1e-3);
    assert!((found - expected).abs() <= tolerance, "{what}: {found} is not {expected}");
}

/// Up to the version, which is ours.
fn settings(signature: &str) -> &str {
    signature.split("|version").next().unwrap_or_default()
}

#[test]
fn classification_is_that_of_scikit_learn() {
    for case in golden().classification {
        let rows: Vec<f64> = case.probabilities.into_iter().flatten().collect();
        let p = Probabilities::new(rows, case.classes).expect("rows sum to 1");
        assert_eq!(p.predictions(), case.predictions);
        let confusion =
            Confusion::new(&p.predictions(), &case.references, case.classes).expect("labels fit");
        assert_eq!(confusion.counts, case.confusion);
        close(confusion.accuracy(), case.accuracy, "accuracy");
        close(confusion.mcc(), case.mcc, "mcc");
        let three = |s: ClassScores| [s.precision, s.recall, s.f1];
        for (average, name) in
            [(Average::Micro, "micro"), (Average::Macro, "macro"), (Average::Weighted, "weighted")]
        {
            for (found, expected) in
                three(confusion.average(average)).iter().zip(&case.average[name])
            {
                close(*found, *expected, name);
            }
            let resampled = Score::F1(average);
            let f1 = Confused::new(&p.predictions(), &case.references, case.classes, resampled);
            close(value(&f1.expect("labels fit")), case.average[name][2], name);
        }
        for (class, expected) in case.each.iter().enumerate() {
            let found = confusion.class(class);
            close(found.support as f64, expected[3], "support");
            for (found, expected) in three(found).iter().zip(expected) {
                close(*found, *expected, "one class");
            }
        }
        let losses = p.losses(&case.references).expect("labels fit");
        close(losses.iter().sum::<f64>() / losses.len() as f64, case.log_loss, "log-loss");
        close(value(&p.auroc(&case.references).expect("several classes")), case.auroc, "auroc");
        if case.classes == 2 {
            let scores: Vec<f64> = p.rows().map(|row| row[1]).collect();
            let binary = Auroc::binary(&scores, &case.references).expect("both classes");
            close(value(&binary), case.auroc, "binary auroc");
        }
        let judged = p.judged(&case.references).expect("labels fit");
        close(value(&CalibrationError { judged }), case.ece, "calibration");
    }
}

#[test]
fn answers_are_those_of_the_squad_script() {
    let case = golden().squad;
    assert!(case.exact_match.iter().any(|m| *m == 0.0) && case.exact_match.contains(&1.0));
    for (prediction, expected) in case.predictions.iter().zip(&case.normalized) {
        assert_eq!(squad::normalize(prediction), *expected, "{prediction:?}");
    }
    let found = squad::answers(&case.predictions, &case.references).expect("references for all");
    assert_eq!(found.exact_match.values, case.exact_match);
    for (index, expected) in case.f1.iter().enumerate() {
        close(found.f1.values[index], *expected, &case.predictions[index]);
    }
}

#[test]
fn bleu_is_that_of_sacrebleu() {
    for case in golden().translation {
        for expected in &case.bleu {
            let tokenizer = [Tokenizer::V13a, Tokenizer::Chinese, Tokenizer::Character]
                .into_iter()
                .find(|tokenizer| tokenizer.name() == expected.tokenizer)
                .expect("one of ours");
            let case_of = if expected.lower { Case::Lower } else { Case::Mixed };
            let settings_of = Bleu { tokenizer, case: case_of };
            let corpus =
                settings_of.corpus(&case.predictions, &case.references).expect("references");
            for (index, sentence) in corpus.sentences.iter().enumerate() {
                let what = format!("{} {:?}", expected.tokenizer, case.predictions[index]);
                close(bleu::sentence_score(sentence).score, expected.sentences[index], &what);
            }
            let found = corpus.bleu();
            close(found.score, expected.score, "BLEU");
            close(found.brevity_penalty, expected.brevity_penalty, "brevity penalty");
            assert_eq!([found.hypothesis_length, found.reference_length], expected.lengths);
            for (found, expected) in found.precisions.iter().zip(&expected.precisions) {
                close(*found, *expected, "precision");
            }
            let matched: Vec<u64> =
                (2..6).map(|at| corpus.sentences.iter().map(|s| s[at]).sum()).collect();
            assert_eq!(matched, expected.counts);
            let signature = settings_of.signature(&case.references);
            assert_eq!(settings(&signature), settings(&expected.signature));
        }
    }
}

#[test]
fn chrf_is_that_of_sacrebleu() {
    for case in golden().translation {
        for expected in &case.chrf {
            let words = if expected.words == 0 { WordOrder::None } else { WordOrder::Two };
            let settings_of = Chrf { words, case: Case::Mixed };
            let corpus =
                settings_of.corpus(&case.predictions, &case.references).expect("references");
            for (index, sentence) in corpus.sentences.iter().enumerate() {
                close(chrf::score(sentence), expected.sentences[index], &case.predictions[index]);
            }
            close(value(&corpus), expected.score, "chrF");
            let signature = settings_of.signature(&case.references);
            assert_eq!(settings(&signature), settings(&expected.signature));
        }
    }
}

#[test]
fn rouge_is_that_of_rouge_score() {
    let case = golden().summaries;
    for rouge in Rouge::ALL {
        let expected = &case.scores[rouge.name()];
        for (index, prediction) in case.predictions.iter().enumerate() {
            let found = rouge.score(prediction, &case.references[index]);
            let [precision, recall, f1] = expected[index];
            close(found.f1, f1, rouge.name());
            close(found.precision, precision, rouge.name());
            close(found.recall, recall, rouge.name());
        }
        let mean = expected.iter().map(|s| s[2]).sum::<f64>() / expected.len() as f64;
        let corpus = rouge.corpus(&case.predictions, &case.references).expect("references");
        close(value(&corpus), mean, rouge.name());
    }
}
