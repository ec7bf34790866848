//! What a classifier has to beat: always the commonest label, and a bag of words.
//!
//! The bag is a network of one hidden layer whose inputs are the words and pairs of neighbouring
//! words of a text, each as 1/√n of the n that occur: word order beyond pairs, and everything a
//! larger model could know, is lost on it. It has a trainer of its own, since its inputs are
//! sparse: AdaGrad (Duchi et al. 2011) touches the rows of a text's own words only. The number of
//! passes is chosen on a tenth of the training texts; nothing about it is chosen on held-out text.
//! One thread, every number a function of data and seed.

use std::collections::HashMap;
use std::time::Instant;

use heldout_base::rng::{Random, streams};
use heldout_data::labelled::{LabelledData, LabelledExample};
use heldout_measure::calibration::likeliest;
use heldout_measure::classification::{Average, Confusion};
use heldout_record::{LabelBaselineRecord, SimpleRecord};

use crate::control::Control;
use crate::error::TrainError;

/// Width of the hidden layer.
const HIDDEN: usize = 32;
/// Passes tried.
const EPOCHS_MOST: u64 = 20;
/// AdaGrad's rate.
const RATE: f32 = 0.1;
/// Of hidden units and of words, each, in training.
const DROPOUT: f64 = 0.4;
/// Words and pairs kept; the most frequent ones.
const FEATURES_MOST: usize = 200_000;
/// Texts trained on at most; of a larger set the first ones.
const TEXTS_MOST: usize = 200_000;
/// One in so many training texts is set aside to choose the number of passes.
const ASIDE: usize = 10;

/// Trains and scores both; `None` when the run was asked to stop.
pub fn baseline(
    data: &LabelledData,
    seed: u64,
    control: &Control,
) -> Result<Option<LabelBaselineRecord>, TrainError> {
    let begin = Instant::now();
    let Some(trained) = Bag::train(data, seed, &|| !control.is_stopping()) else {
        return Ok(None);
    };
    let labels: Vec<u32> = data.validation.iter().map(|example| example.label).collect();
    let majority = Majority::of(data);
    let of = |logits: Vec<Vec<f32>>| score(&logits, &labels, data.labels.len());
    Ok(Some(LabelBaselineRecord {
        label: data.labels.name(majority.label).to_owned(),
        majority: of(data.validation.iter().map(|_| majority.logits.clone()).collect())?,
        bag: of(data.validation.iter().map(|example| trained.logits(example)).collect())?,
        features: trained.words.len() as u64,
        hidden: HIDDEN as u64,
        epochs: trained.epochs,
        examples: labels.len() as u64,
        seconds: begin.elapsed().as_secs_f64(),
    }))
}

fn score(logits: &[Vec<f32>], labels: &[u32], classes: usize) -> Result<SimpleRecord, TrainError> {
    let said: Vec<u32> = logits.iter().map(|logits| likeliest(logits)).collect();
    let confusion = Confusion::new(&said, labels, classes)?;
    let losses = logits.iter().zip(labels).map(|(logits, label)| loss(logits, *label));
    Ok(SimpleRecord {
        accuracy: confusion.accuracy(),
        f1: confusion.average(Average::Macro).f1,
        loss: losses.sum::<f64>() / labels.len().max(1) as f64,
    })
}

/// Says what is commonest in training, as surely as it is common.
struct Majority {
    label: u32,
    logits: Vec<f32>,
}

impl Majority {
    fn of(data: &LabelledData) -> Majority {
        let mut counts = vec![0u32; data.labels.len()];
        data.train.iter().for_each(|example| counts[example.label as usize] += 1);
        let logits: Vec<f32> = counts.iter().map(|&n| (n as f32).max(0.5).ln()).collect();
        Majority { label: likeliest(&logits), logits }
    }
}

/// Negative log-likelihood of a label, nats.
fn loss(logits: &[f32], label: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|z| f64::from(z - most).exp()).sum();
    sum.ln() - f64::from(logits[label as usize] - most)
}

/// A trained bag of words.
pub struct Bag {
    words: HashMap<String, u32>,
    network: Network,
    /// Passes it was trained for.
    pub epochs: u64,
}

/// Places of a text's features, and its label.
type Text = (Vec<u32>, u32);

impl Bag {
    /// Trains on a data set's training texts; `None` when it must not go on.
    pub fn train(data: &LabelledData, seed: u64, is_running: &dyn Fn() -> bool) -> Option<Bag> {
        let train = &data.train[..data.train.len().min(TEXTS_MOST)];
        let words = vocabulary(train);
        let encode = |example: &LabelledExample| (places(&words, example), example.label);
        let texts: Vec<Text> = train.iter().map(encode).collect();
        let (aside, kept): (Vec<_>, Vec<_>) =
            texts.iter().cloned().enumerate().partition(|(at, _)| at % ASIDE == ASIDE - 1);
        let aside: Vec<Text> = aside.into_iter().map(|(_, text)| text).collect();
        let kept: Vec<Text> = kept.into_iter().map(|(_, text)| text).collect();
        let classes = data.labels.len();
        let mut trial = Network::new(words.len(), classes, seed);
        let mut best = (f64::INFINITY, 1);
        for epoch in 0..EPOCHS_MOST {
            if !is_running() {
                return None;
            }
            trial.pass(&kept, seed, epoch);
            let own = aside.iter().map(|(places, label)| loss(&trial.logits(places), *label));
            let found = own.sum::<f64>();
            if found < best.0 {
                best = (found, epoch + 1);
            }
        }
        let mut network = Network::new(words.len(), classes, seed);
        for epoch in 0..best.1 {
            if !is_running() {
                return None;
            }
            network.pass(&texts, seed, epoch);
        }
        Some(Bag { words, network, epochs: best.1 })
    }

    /// Logits of the labels.
    pub fn logits(&self, example: &LabelledExample) -> Vec<f32> {
        self.network.logits(&places(&self.words, example))
    }

    /// The likeliest label.
    pub fn says(&self, example: &LabelledExample) -> u32 {
        likeliest(&self.logits(example))
    }
}

/// Lower-case runs of letters and digits, single characters of scripts without spaces, and pairs
/// of neighbours; those of a second part carry a mark.
fn features(text: &str, pair: Option<&str>) -> Vec<String> {
    let mut all = Vec::new();
    for (part, mark) in [(Some(text), ""), (pair, "\u{1}")] {
        let Some(part) = part else { continue };
        let words = words(part);
        all.extend(words.iter().map(|word| format!("{mark}{word}")));
        all.extend(words.windows(2).map(|pair| format!("{mark}{} {}", pair[0], pair[1])));
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut within = false;
    for c in text.chars().flat_map(char::to_lowercase) {
        let alone =
            ('\u{2e80}'..='\u{9fff}').contains(&c) || ('\u{20000}'..='\u{3ffff}').contains(&c);
        if c.is_whitespace() {
            within = false;
        } else if alone || !c.is_alphanumeric() {
            words.push(c.to_string());
            within = false;
        } else if within {
            words.last_mut().expect("a word was begun").push(c);
        } else {
            words.push(c.to_string());
            within = true;
        }
    }
    words
}

/// The features that occur in two texts or more, the most frequent ones first.
fn vocabulary(train: &[LabelledExample]) -> HashMap<String, u32> {
    let mut counts: HashMap<String, u32> = HashMap::new();
    for example in train {
        for feature in features(&example.text, example.pair.as_deref()) {
            *counts.entry(feature).or_default() += 1;
        }
    }
    let mut kept: Vec<(String, u32)> = counts.into_iter().filter(|(_, n)| *n > 1).collect();
    kept.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    kept.truncate(FEATURES_MOST);
    kept.into_iter().enumerate().map(|(at, (feature, _))| (feature, at as u32)).collect()
}

fn places(words: &HashMap<String, u32>, example: &LabelledExample) -> Vec<u32> {
    found(words, features(&example.text, example.pair.as_deref()))
}

fn found(words: &HashMap<String, u32>, features: Vec<String>) -> Vec<u32> {
    features.iter().filter_map(|feature| words.get(feature).copied()).collect()
}

/// A vector of weights with AdaGrad's sums of squares.
struct Weights {
    values: Vec<f32>,
    squares: Vec<f32>,
}

impl Weights {
    fn update(&mut self, at: usize, gradient: f32) {
        if gradient != 0.0 {
            self.squares[at] += gradient * gradient;
            self.values[at] -= RATE * gradient / (self.squares[at].sqrt() + 1e-8);
        }
    }
}

/// softmax(W₂·dropout(relu(Σ x·W₁ + b₁)) + b₂).
struct Network {
    /// [features, HIDDEN], then b₁.
    first: Weights,
    /// [classes, HIDDEN], then b₂.
    second: Weights,
    features: usize,
    classes: usize,
}

impl Network {
    fn new(features: usize, classes: usize, seed: u64) -> Network {
        let drawn = |len: usize, rest: usize, number: u64| {
            let mut values = vec![0.0; len + rest];
            Random::new(seed, streams::BASELINE, number).fill_normal(&mut values[..len], 0.1);
            Weights { squares: vec![0.0; values.len()], values }
        };
        let first = drawn(features * HIDDEN, HIDDEN, 0);
        let second = drawn(classes * HIDDEN, classes, 1);
        Network { first, second, features, classes }
    }

    fn hidden(&self, places: impl Iterator<Item = u32>, share: f32) -> Vec<f32> {
        let mut hidden = self.first.values[self.features * HIDDEN..].to_vec();
        for place in places {
            let row = &self.first.values[place as usize * HIDDEN..][..HIDDEN];
            hidden.iter_mut().zip(row).for_each(|(h, w)| *h += share * w);
        }
        hidden.iter_mut().for_each(|h| *h = h.max(0.0));
        hidden
    }

    fn output(&self, hidden: &[f32]) -> Vec<f32> {
        let (weights, bias) = self.second.values.split_at(self.classes * HIDDEN);
        let dot = |row: &[f32]| row.iter().zip(hidden).map(|(w, h)| w * h).sum::<f32>();
        weights.chunks(HIDDEN).zip(bias).map(|(row, b)| dot(row) + b).collect()
    }

    fn logits(&self, places: &[u32]) -> Vec<f32> {
        let share = 1.0 / (places.len().max(1) as f32).sqrt();
        self.output(&self.hidden(places.iter().copied(), share))
    }

    /// One pass over the texts in an order of its own, text by text.
    fn pass(&mut self, texts: &[Text], seed: u64, epoch: u64) {
        let order = Random::new(seed, streams::BASELINE, 2 + 2 * epoch).permutation(texts.len());
        let noise = Random::new(seed, streams::BASELINE, 3 + 2 * epoch);
        let mut drawn = 0;
        let mut is_kept = || {
            drawn += 1;
            noise.uniform(drawn) >= DROPOUT
        };
        for at in order {
            let (places, label) = &texts[at as usize];
            let scale = (1.0 / (1.0 - DROPOUT)) as f32;
            let share = scale / (places.len().max(1) as f32).sqrt();
            let kept: Vec<u32> = places.iter().copied().filter(|_| is_kept()).collect();
            let mut hidden = self.hidden(kept.iter().copied(), share);
            for h in &mut hidden {
                *h = if is_kept() { *h * scale } else { 0.0 };
            }
            self.step(&kept, share, &hidden, scale, *label);
        }
    }

    fn step(&mut self, kept: &[u32], share: f32, hidden: &[f32], scale: f32, label: u32) {
        let logits = self.output(hidden);
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|z| (z - most).exp()).sum();
        let mut back = [0.0f32; HIDDEN];
        for (class, z) in logits.iter().enumerate() {
            let wanted = if class == label as usize { 1.0 } else { 0.0 };
            let slope = (z - most).exp() / sum - wanted;
            for (unit, h) in hidden.iter().enumerate() {
                let at = class * HIDDEN + unit;
                back[unit] += slope * self.second.values[at];
                self.second.update(at, slope * h);
            }
            self.second.update(self.classes * HIDDEN + class, slope);
        }
        for (unit, slope) in back.iter_mut().enumerate() {
            // Dropped and negative units pass nothing on.
            *slope *= if hidden[unit] > 0.0 { scale } else { 0.0 };
            self.first.update(self.features * HIDDEN + unit, *slope);
        }
        for place in kept {
            for (unit, slope) in back.iter().enumerate() {
                self.first.update(*place as usize * HIDDEN + unit, share * slope);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heldout_data::labelled::{Labels, Place};

    fn data(texts: &[(&str, u32)]) -> LabelledData {
        let place = Place { input: 0, line: 1 };
        let example = |(text, label): &(&str, u32)| LabelledExample {
            text: (*text).to_owned(),
            pair: None,
            label: *label,
            place,
        };
        let all: Vec<LabelledExample> = texts.iter().map(example).collect();
        LabelledData {
            labels: Labels { names: vec!["bad".into(), "good".into()] },
            train: all.iter().cycle().take(60).cloned().collect(),
            validation: all,
            ..LabelledData::default()
        }
    }

    #[test]
    fn words_are_told_apart() {
        assert_eq!(words("Don't PANIC, 42!"), ["don", "'", "t", "panic", ",", "42", "!"]);
        assert_eq!(words("红楼梦 I"), ["红", "楼", "梦", "i"]);
        let found = features("a b a b", Some("a"));
        assert_eq!(found, ["\u{1}a", "a", "a b", "b", "b a"]);
    }

    #[test]
    fn pairs_of_words_are_learned_and_repeat() {
        // Only the order of two words tells the labels apart.
        let data = data(&[("not good", 0), ("good not", 1), ("bad", 0), ("fine", 1), ("bad", 0)]);
        let control = Control::new();
        let record = || baseline(&data, 3, &control).unwrap().unwrap();
        let found = record();
        assert_eq!((found.label.as_str(), found.majority.accuracy), ("bad", 0.6));
        assert_eq!(found.bag.accuracy, 1.0);
        assert!(found.bag.loss < found.majority.loss);
        assert_eq!(LabelBaselineRecord { seconds: found.seconds, ..record() }, found);
        control.stop_gracefully();
        assert!(baseline(&data, 3, &control).unwrap().is_none());
    }
}
