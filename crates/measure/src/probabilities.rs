//! Class probabilities against true classes: log-loss, area under the ROC curve, and the examples
//! that the model got most wrong.

use crate::calibration::{Judged, likeliest};
use crate::classification::check_labels;
use crate::error::{MeasureError, check_lengths};
use crate::resample::Metric;

/// How far from 1 a row may sum: f32 softmax over thousands of classes stays well below.
const SUM_TOLERANCE: f64 = 1e-3;

/// One distribution over the classes for each example.
#[derive(Clone, Debug, PartialEq)]
pub struct Probabilities {
    values: Vec<f64>,
    classes: usize,
}

/// An example that the model got wrong, or nearly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wrong {
    /// Which example.
    pub index: usize,
    pub reference: u32,
    /// The likeliest class.
    pub prediction: u32,
    /// What the model gave the reference.
    pub probability: f64,
    /// −ln of it.
    pub loss: f64,
}

impl Probabilities {
    /// `values`: [examples, classes], each row in [0, 1] and summing to 1.
    ///
    /// # Errors
    /// No examples, a ragged shape, a row that is no distribution.
    pub fn new(values: Vec<f64>, classes: usize) -> Result<Probabilities, MeasureError> {
        check_shape(values.len(), classes)?;
        for (index, row) in values.chunks_exact(classes).enumerate() {
            let sum: f64 = row.iter().sum();
            let is_share = |p: &f64| (0.0..=1.0 + SUM_TOLERANCE).contains(p);
            if !row.iter().all(is_share) || (sum - 1.0).abs() > SUM_TOLERANCE {
                return Err(MeasureError::NotProbabilities { index, sum });
            }
        }
        Ok(Probabilities { values, classes })
    }

    /// The softmax of `logits`: [examples, classes], in f64.
    ///
    /// # Errors
    /// No examples, a ragged shape, a logit that is no number.
    pub fn from_logits(logits: &[f32], classes: usize) -> Result<Probabilities, MeasureError> {
        check_shape(logits.len(), classes)?;
        let mut values = Vec::with_capacity(logits.len());
        for (index, row) in logits.chunks_exact(classes).enumerate() {
            if let Some(bad) = row.iter().find(|logit| !logit.is_finite()) {
                return Err(MeasureError::NotFinite { index, value: f64::from(*bad) });
            }
            let most = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let start = values.len();
            values.extend(row.iter().map(|logit| (f64::from(*logit) - most).exp()));
            let sum: f64 = values[start..].iter().sum();
            values[start..].iter_mut().for_each(|value| *value /= sum);
        }
        Ok(Probabilities { values, classes })
    }

    /// Classes per example.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How many examples there are.
    pub fn count(&self) -> usize {
        self.values.len() / self.classes
    }

    /// One row for each example.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.classes)
    }

    /// The likeliest class of each example; the lower one on a tie.
    pub fn predictions(&self) -> Vec<u32> {
        self.rows().map(likeliest).collect()
    }

    /// Confidence and rightness of each example, for calibration.
    ///
    /// # Errors
    /// Unequal lengths, a reference that is no class.
    pub fn judged(&self, references: &[u32]) -> Result<Vec<Judged>, MeasureError> {
        self.check(references)?;
        let judge = |(row, reference): (&[f64], &u32)| {
            let first = likeliest(row);
            let right = f64::from(u8::from(first == *reference));
            Judged { confidence: row[first as usize], right }
        };
        Ok(self.rows().zip(references).map(judge).collect())
    }

    /// −ln of the reference's probability for each example, nats; their mean is the log-loss. As in
    /// scikit-learn, a probability is at least 2.2e-16, so that one certain error is not infinite.
    ///
    /// # Errors
    /// Unequal lengths, a reference that is no class.
    pub fn losses(&self, references: &[u32]) -> Result<Vec<f64>, MeasureError> {
        self.check(references)?;
        let loss = |(row, reference): (&[f64], &u32)| {
            -row[*reference as usize].clamp(f64::EPSILON, 1.0 - f64::EPSILON).ln()
        };
        Ok(self.rows().zip(references).map(loss).collect())
    }

    /// The `most` examples with the highest loss, highest first; the earlier one on a tie.
    ///
    /// # Errors
    /// Those of [`losses`](Self::losses).
    pub fn most_wrong(&self, references: &[u32], most: usize) -> Result<Vec<Wrong>, MeasureError> {
        let losses = self.losses(references)?;
        let mut order: Vec<usize> = (0..losses.len()).collect();
        order.sort_by(|a, b| losses[*b].total_cmp(&losses[*a]).then(a.cmp(b)));
        order.truncate(most);
        let wrong = |index: usize| {
            let row = &self.values[index * self.classes..(index + 1) * self.classes];
            let reference = references[index];
            Wrong {
                index,
                reference,
                prediction: likeliest(row),
                probability: row[reference as usize],
                loss: losses[index],
            }
        };
        Ok(order.into_iter().map(wrong).collect())
    }

    /// The area under the ROC curve: of class 1 where there are two, else of each class against
    /// the rest, averaged over the classes that some examples have and some have not.
    ///
    /// # Errors
    /// Unequal lengths, a reference that is no class, references of one class only.
    pub fn auroc(&self, references: &[u32]) -> Result<Auroc, MeasureError> {
        self.check(references)?;
        let curve = |class: usize| {
            let scores: Vec<f64> = self.rows().map(|row| row[class]).collect();
            let positive = references.iter().map(|r| *r as usize == class).collect();
            Ranking::new(&scores, positive)
        };
        let first = usize::from(self.classes == 2);
        auroc_of((first..self.classes).map(curve).collect(), references.len())
    }

    fn check(&self, references: &[u32]) -> Result<(), MeasureError> {
        check_lengths(self.count(), references.len())?;
        check_labels(references, self.classes)
    }
}

fn check_shape(values: usize, classes: usize) -> Result<(), MeasureError> {
    if values == 0 {
        return Err(MeasureError::Empty);
    }
    if classes == 0 || values % classes != 0 {
        let examples = values.checked_div(classes).unwrap_or(0);
        return Err(MeasureError::Shape { values, examples, classes });
    }
    Ok(())
}

/// The area under the ROC curve: the chance that a positive example scores above a negative one, a
/// tie counting half (Mann & Whitney; Fawcett 2006).
#[derive(Clone, Debug, PartialEq)]
pub struct Auroc {
    rankings: Vec<Ranking>,
    count: usize,
}

impl Auroc {
    /// Of one score per example; `references`: 1 for positive, 0 for negative.
    ///
    /// # Errors
    /// Unequal lengths, no examples, a score that is no number, references of one class only.
    pub fn binary(scores: &[f64], references: &[u32]) -> Result<Auroc, MeasureError> {
        check_lengths(scores.len(), references.len())?;
        check_labels(references, 2)?;
        if let Some(index) = scores.iter().position(|score| score.is_nan()) {
            return Err(MeasureError::NotFinite { index, value: scores[index] });
        }
        let positive = references.iter().map(|reference| *reference == 1).collect();
        auroc_of(vec![Ranking::new(scores, positive)], scores.len())
    }
}

fn auroc_of(rankings: Vec<Ranking>, count: usize) -> Result<Auroc, MeasureError> {
    let auroc = Auroc { rankings, count };
    if auroc.score(&vec![1; count]).is_nan() {
        let why = "all references are of one class";
        return Err(MeasureError::Undefined { metric: "AUROC", why });
    }
    Ok(auroc)
}

impl Metric for Auroc {
    fn count(&self) -> usize {
        self.count
    }

    fn score(&self, times: &[u32]) -> f64 {
        let (mut sum, mut defined) = (0.0, 0.0);
        for area in self.rankings.iter().map(|ranking| ranking.area(times)) {
            if !area.is_nan() {
                sum += area;
                defined += 1.0;
            }
        }
        // No class with both: 0/0.
        sum / defined
    }
}

/// The examples by rising score, in groups of equal ones; sorted once for all resamples.
#[derive(Clone, Debug, PartialEq)]
struct Ranking {
    order: Vec<u32>,
    positive: Vec<bool>,
    /// Where in `order` each group ends.
    ends: Vec<usize>,
}

impl Ranking {
    fn new(scores: &[f64], positive: Vec<bool>) -> Ranking {
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        let score = |index: &u32| scores[*index as usize];
        order.sort_by(|a, b| score(a).total_cmp(&score(b)));
        let mut ends: Vec<usize> =
            (1..order.len()).filter(|i| score(&order[*i - 1]) != score(&order[*i])).collect();
        ends.push(order.len());
        let positive = order.iter().map(|index| positive[*index as usize]).collect();
        Ranking { order, positive, ends }
    }

    fn area(&self, times: &[u32]) -> f64 {
        let (mut positives, mut negatives, mut twice) = (0, 0, 0);
        let mut start = 0;
        for end in &self.ends {
            let (mut up, mut down) = (0u64, 0u64);
            for at in start..*end {
                let count = u64::from(times[self.order[at] as usize]);
                let part = if self.positive[at] { &mut up } else { &mut down };
                *part += count;
            }
            twice += up * (2 * negatives + down);
            positives += up;
            negatives += down;
            start = *end;
        }
        twice as f64 / (2.0 * positives as f64 * negatives as f64)
    }
}
