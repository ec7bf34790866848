//! What holds for every input: bounds, the order of examples does not matter, a perfect prediction
//! has the best score, a resample is scored as the texts it stands for; and what is refused.

use heldout_base::rng::{Random, streams};
use heldout_measure::bleu::Bleu;
use heldout_measure::calibration::CalibrationError;
use heldout_measure::chrf::Chrf;
use heldout_measure::classification::{Average, Confused, Confusion, Score};
use heldout_measure::probabilities::{Auroc, Probabilities};
use heldout_measure::resample::{Metric, Resampling, compare, measure, value};
use heldout_measure::rouge::Rouge;
use heldout_measure::{Mean, MeasureError, squad};
use proptest::prelude::*;

const CLASSES: usize = 4;

/// Every metric of class probabilities.
fn of_classes(logits: &[f32], references: &[u32]) -> Vec<(&'static str, Box<dyn Metric>)> {
    let p = Probabilities::from_logits(logits, CLASSES).expect("finite logits");
    let confused = |score| {
        let metric = Confused::new(&p.predictions(), references, CLASSES, score);
        Box::new(metric.expect("labels fit")) as Box<dyn Metric>
    };
    let mut metrics = vec![
        ("accuracy", confused(Score::Accuracy)),
        ("mcc", confused(Score::Mcc)),
        ("precision", confused(Score::Precision(Average::Macro))),
        ("recall", confused(Score::Recall(Average::Weighted))),
        ("f1", confused(Score::F1(Average::Macro))),
        ("f1 of 1", confused(Score::F1Of(1))),
    ];
    let judged = p.judged(references).expect("labels fit");
    metrics.push(("calibration", Box::new(CalibrationError { judged })));
    if let Ok(auroc) = p.auroc(references) {
        metrics.push(("auroc", Box::new(auroc)));
    }
    metrics
}

/// Every metric of texts, with its best score.
fn of_texts(
    predictions: &[String],
    references: &[Vec<String>],
) -> Vec<(&'static str, f64, Box<dyn Metric>)> {
    let answers = squad::answers(predictions, references).expect("references");
    let mut metrics: Vec<(&'static str, f64, Box<dyn Metric>)> = vec![
        ("exact match", 1.0, Box::new(answers.exact_match)),
        ("f1", 1.0, Box::new(answers.f1)),
        ("bleu", 100.0, Box::new(Bleu::default().corpus(predictions, references).expect("some"))),
        ("chrf", 100.0, Box::new(Chrf::default().corpus(predictions, references).expect("some"))),
    ];
    for rouge in Rouge::ALL {
        let mean = rouge.corpus(predictions, references).expect("references");
        metrics.push((rouge.name(), 1.0, Box::new(mean)));
    }
    metrics
}

/// The elements at `order`, as often as they stand there.
fn taken<T: Clone>(items: &[T], order: &[usize]) -> Vec<T> {
    order.iter().map(|index| items[*index].clone()).collect()
}

fn times(order: &[usize], count: usize) -> Vec<u32> {
    let mut times = vec![0; count];
    order.iter().for_each(|index| times[*index] += 1);
    times
}

fn same(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9 || (a.is_nan() && b.is_nan())
}

/// Some examples of 4 classes, and a draw of as many with replacement.
fn examples() -> impl Strategy<Value = (Vec<[f32; CLASSES]>, Vec<u32>, Vec<usize>)> {
    (1usize..30).prop_flat_map(|n| {
        // Coarse logits, so that ties are common.
        let row = prop::array::uniform4((-3i8..4).prop_map(f32::from));
        (
            prop::collection::vec(row, n),
            prop::collection::vec(0..CLASSES as u32, n),
            prop::collection::vec(0..n, n),
        )
    })
}

fn texts() -> impl Strategy<Value = (Vec<String>, Vec<Vec<String>>, Vec<usize>)> {
    (1usize..6).prop_flat_map(|n| {
        let text = "([abd]|the|10|[.,-] ?|é|中| |\n){0,14}";
        (
            prop::collection::vec(text, n),
            prop::collection::vec(prop::collection::vec(text, 1..3), n),
            prop::collection::vec(0..n, n),
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn class_scores_are_bounded_and_resampled_as_the_examples((rows, references, order) in examples()) {
        let logits: Vec<f32> = rows.concat();
        let drawn_logits = taken(&rows, &order).concat();
        let drawn = of_classes(&drawn_logits, &taken(&references, &order));
        for (name, metric) in of_classes(&logits, &references) {
            let whole = value(&*metric);
            let low = if name == "mcc" { -1.0 - 1e-12 } else { 0.0 };
            prop_assert!((low..=1.0 + 1e-12).contains(&whole), "{name} {whole}");
            let resampled = metric.score(&times(&order, references.len()));
            match drawn.iter().find(|(other, _)| *other == name) {
                Some((_, other)) => prop_assert!(same(resampled, value(&**other)), "{name}"),
                None => prop_assert!(resampled.is_nan(), "{name} {resampled}"),
            }
        }
    }

    #[test]
    fn text_scores_are_bounded_and_resampled_as_the_texts((predictions, references, order) in texts()) {
        let drawn = of_texts(&taken(&predictions, &order), &taken(&references, &order));
        let metrics = of_texts(&predictions, &references);
        for ((name, best, metric), (_, _, other)) in metrics.iter().zip(&drawn) {
            let whole = value(&**metric);
            prop_assert!(whole >= 0.0 && whole <= best + 1e-9, "{name} {whole}");
            let resampled = metric.score(&times(&order, predictions.len()));
            prop_assert!(same(resampled, value(&**other)), "{name}: {resampled}");
        }
        let backwards: Vec<usize> = (0..predictions.len()).rev().collect();
        let turned = of_texts(&taken(&predictions, &backwards), &taken(&references, &backwards));
        for ((name, _, metric), (_, _, other)) in metrics.iter().zip(&turned) {
            prop_assert!(same(value(&**metric), value(&**other)), "{name}");
        }
    }

    #[test]
    fn a_perfect_prediction_has_the_best_score(words in prop::collection::vec("[a-z]{4,7}", 4..20)) {
        let text = vec![words.join(" ")];
        for (name, best, metric) in of_texts(&text, std::slice::from_ref(&text)) {
            prop_assert!((value(&*metric) - best).abs() < 1e-9, "{name}");
        }
        let labels: Vec<u32> = words.iter().map(|w| (w.len() - 4) as u32).collect();
        let confusion = Confusion::new(&labels, &labels, CLASSES).expect("labels fit");
        prop_assert_eq!(confusion.accuracy(), 1.0);
        prop_assert_eq!(confusion.average(Average::Macro).f1, 1.0);
        let several = labels.iter().any(|l| *l != labels[0]);
        prop_assert!((confusion.mcc() - f64::from(u8::from(several))).abs() < 1e-12);
        let scores: Vec<f64> = labels.iter().map(|l| f64::from(*l)).collect();
        let positive: Vec<u32> = labels.iter().map(|l| u32::from(*l >= 2)).collect();
        match Auroc::binary(&scores, &positive) {
            Ok(auroc) => prop_assert_eq!(value(&auroc), 1.0),
            Err(error) => prop_assert!(error.to_string().contains("AUROC"), "{error}"),
        }
    }
}

#[test]
fn the_most_wrong_come_first() {
    let rows = vec![0.9, 0.1, 0.2, 0.8, 0.5, 0.5, 0.2, 0.8];
    let p = Probabilities::new(rows, 2).expect("rows sum to 1");
    let wrong = p.most_wrong(&[1, 0, 0, 0], 3).expect("labels fit");
    let order: Vec<usize> = wrong.iter().map(|w| w.index).collect();
    assert_eq!(order, [0, 1, 3]);
    assert_eq!((wrong[0].prediction, wrong[0].reference, wrong[0].probability), (0, 1, 0.1));
    assert!((wrong[0].loss - 0.1f64.ln().abs()).abs() < 1e-12);
    let confused = Confusion::new(&p.predictions(), &[1, 0, 0, 0], 2).expect("labels fit");
    assert_eq!(confused.most_confused(), [(0, 1, 2), (1, 0, 1)]);
}

#[test]
fn what_is_wrong_with_the_input_is_said() {
    let one = vec!["a".to_string()];
    let says = |error: MeasureError, word: &str| {
        assert!(error.to_string().contains(word), "{error}");
    };
    says(Confusion::new(&[0], &[0, 1], 2).unwrap_err(), "1 predictions for 2 references");
    says(Confusion::new(&[0, 2], &[0, 1], 2).unwrap_err(), "example 1 has label 2");
    says(Confusion::new(&[], &[], 2).unwrap_err(), "no examples");
    says(Probabilities::new(vec![2.0, -1.0], 2).unwrap_err(), "softmax");
    says(Probabilities::new(vec![f64::NAN, 1.0], 2).unwrap_err(), "example 0");
    says(Probabilities::new(vec![0.5; 5], 2).unwrap_err(), "5 probabilities");
    says(Probabilities::from_logits(&[0.0, f32::NAN], 2).unwrap_err(), "example 0");
    says(Auroc::binary(&[0.1, 0.2], &[1, 1]).unwrap_err(), "one class");
    says(Bleu::default().corpus(&one, &[vec![]]).unwrap_err(), "example 0 has no reference");
    says(squad::answers(&one, &[]).unwrap_err(), "1 predictions for 0 references");
}

#[test]
fn undefined_resamples_are_counted() {
    // One positive among three: (2/3)³ = 30% of the resamples have none, 1/27 nothing else.
    let auroc = Auroc::binary(&[0.3, 0.1, 0.2], &[1, 0, 0]).expect("both classes");
    let found = measure(&auroc, &Resampling::default()).expect("defined on the whole");
    assert_eq!(found.value, 1.0);
    assert!((280..400).contains(&found.undefined), "{found:?}");
    assert_eq!((found.interval.low, found.interval.high), (1.0, 1.0));
}

fn noisy(seed: u64, text: &[&str]) -> String {
    let random = Random::new(seed, streams::TEST, 7);
    let word = |i: u64| text[random.below(i, text.len() as u64) as usize];
    (0..25).map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn corpora_are_resampled_without_counting_again() {
    let words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    let references: Vec<Vec<String>> = (0..1000).map(|i| vec![noisy(i, &words)]).collect();
    let near = |i: u64| format!("{} ten", &references[i as usize][0].replace("nine", "none"));
    let good: Vec<String> = (0..1000).map(near).collect();
    let bad: Vec<String> = (0..1000).map(|i| noisy(i + 5000, &words[..8])).collect();
    let start = std::time::Instant::now();
    let better = Bleu::default().corpus(&good, &references).expect("references");
    let worse = Bleu::default().corpus(&bad, &references).expect("references");
    let found = measure(&better, &Resampling::default()).expect("defined");
    assert!(found.interval.low < found.value && found.value < found.interval.high, "{found:?}");
    let found = compare(&better, &worse, &Resampling::default()).expect("defined");
    assert!(found.interval.low > 0.0 && found.p < 0.01, "{found:?}");
    // A tenth of this on a quiet machine.
    assert!(start.elapsed().as_secs_f64() < 10.0, "{:?}", start.elapsed());
}

#[test]
#[ignore = "measures time: run it alone, with --ignored --nocapture"]
fn speed() {
    let values: Vec<f64> = (0..10_000).map(|i| f64::from(u8::from(i % 3 > 0))).collect();
    let references: Vec<u32> = (0..10_000).map(|i| i % 2).collect();
    let auroc = Auroc::binary(&values, &references).expect("both classes");
    let labels: Vec<u32> = values.iter().map(|v| *v as u32).collect();
    let score = Score::F1(Average::Macro);
    let f1 = Confused::new(&labels, &references, 2, score).expect("labels fit");
    let words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    let texts: Vec<String> = (0..1000).map(|i| noisy(i, &words)).collect();
    let others: Vec<Vec<String>> = (0..1000).map(|i| vec![noisy(i + 9000, &words)]).collect();
    let mut times = Vec::new();
    for _ in 0..5 {
        let run = |metric: &dyn Metric| {
            let start = std::time::Instant::now();
            measure(metric, &Resampling::default()).expect("defined");
            start.elapsed().as_secs_f64() * 1e3
        };
        let of_ten_thousand = [run(&Mean { values: values.clone() }), run(&f1), run(&auroc)];
        let start = std::time::Instant::now();
        run(&Bleu::default().corpus(&texts, &others).expect("references"));
        let bleu = start.elapsed().as_secs_f64() * 1e3;
        let start = std::time::Instant::now();
        run(&Chrf::default().corpus(&texts, &others).expect("references"));
        times.push((of_ten_thousand, bleu, start.elapsed().as_secs_f64() * 1e3));
    }
    println!("ms: [accuracy, macro F1, AUROC] of 10,000, BLEU and chrF of 1,000: {times:?}");
}
