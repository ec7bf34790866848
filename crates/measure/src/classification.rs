//! Predicted against true classes: confusion matrix, accuracy, precision, recall, F1, Matthews
//! correlation.
//!
//! Definitions and edge cases are scikit-learn's: a quotient with nothing below the line is 0, and
//! a macro or weighted average is over the classes that occur in references or predictions.

use crate::error::{MeasureError, check_lengths};
use crate::resample::Metric;

/// How often each class was taken for each: `counts[reference · classes + prediction]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    pub classes: usize,
    /// [classes, classes], rows by reference, columns by prediction.
    pub counts: Vec<u64>,
}

/// Precision, recall and F1 of a class, or of an average of classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassScores {
    /// Right predictions of the class over all its predictions.
    pub precision: f64,
    /// Right predictions of the class over all its references.
    pub recall: f64,
    /// 2·right / (predictions + references); of an average, the average of the classes' F1.
    pub f1: f64,
    /// References of the class; of an average, of all classes.
    pub support: u64,
}

/// How the classes' scores become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// Over all examples: for single labels, all three scores are the accuracy.
    Micro,
    /// Each class counts the same.
    Macro,
    /// Each class counts by its references.
    Weighted,
}

/// A number that a confusion matrix gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    Accuracy,
    Mcc,
    Precision(Average),
    Recall(Average),
    F1(Average),
    /// The F1 of one class: of the positive one, where there are two.
    F1Of(u32),
}

impl Confusion {
    /// Counts `predictions` against `references`, both below `classes`.
    ///
    /// # Errors
    /// Unequal lengths, no examples, a label that is no class.
    pub fn new(
        predictions: &[u32],
        references: &[u32],
        classes: usize,
    ) -> Result<Confusion, MeasureError> {
        let cells = cells(predictions, references, classes)?;
        Ok(Confusion::of(&cells, classes, &vec![1; cells.len()]))
    }

    fn of(cells: &[u32], classes: usize, times: &[u32]) -> Confusion {
        let mut counts = vec![0; classes * classes];
        for (cell, times) in cells.iter().zip(times) {
            counts[*cell as usize] += u64::from(*times);
        }
        Confusion { classes, counts }
    }

    /// The number of examples.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How often `reference` was taken for `prediction`.
    pub fn at(&self, reference: usize, prediction: usize) -> u64 {
        self.counts[reference * self.classes + prediction]
    }

    fn right(&self) -> u64 {
        (0..self.classes).map(|class| self.at(class, class)).sum()
    }

    /// Examples whose reference is `class`.
    pub fn references(&self, class: usize) -> u64 {
        (0..self.classes).map(|prediction| self.at(class, prediction)).sum()
    }

    /// Examples whose prediction is `class`.
    pub fn predictions(&self, class: usize) -> u64 {
        (0..self.classes).map(|reference| self.at(reference, class)).sum()
    }

    /// Precision, recall and F1 of one class.
    pub fn class(&self, class: usize) -> ClassScores {
        let right = self.at(class, class);
        let (references, predictions) = (self.references(class), self.predictions(class));
        ClassScores {
            precision: quotient(right as f64, predictions as f64),
            recall: quotient(right as f64, references as f64),
            f1: quotient(2.0 * right as f64, (predictions + references) as f64),
            support: references,
        }
    }

    /// The average of the classes' precision, recall and F1.
    pub fn average(&self, average: Average) -> ClassScores {
        let support = self.total();
        if average == Average::Micro {
            let share = quotient(self.right() as f64, support as f64);
            return ClassScores { precision: share, recall: share, f1: share, support };
        }
        let (mut sum, mut weights) = ([0.0; 3], 0.0);
        for class in 0..self.classes {
            if self.references(class) + self.predictions(class) == 0 {
                continue;
            }
            let scores = self.class(class);
            let weight = if average == Average::Macro { 1.0 } else { scores.support as f64 };
            for (sum, score) in sum.iter_mut().zip([scores.precision, scores.recall, scores.f1]) {
                *sum += weight * score;
            }
            weights += weight;
        }
        let [precision, recall, f1] = sum.map(|sum| quotient(sum, weights));
        ClassScores { precision, recall, f1, support }
    }

    /// The share of right predictions.
    pub fn accuracy(&self) -> f64 {
        quotient(self.right() as f64, self.total() as f64)
    }

    /// Matthews correlation of any number of classes, between −1 and 1 (Gorodkin 2004, R_K):
    /// (c·s − Σ pₖtₖ) / √((s² − Σ pₖ²)(s² − Σ tₖ²)), with c right of s examples, pₖ predictions
    /// and tₖ references of class k; 0 where only one class is predicted, or only one occurs.
    pub fn mcc(&self) -> f64 {
        let (c, s) = (self.right() as f64, self.total() as f64);
        let (mut both, mut predicted, mut occurring) = (0.0, 0.0, 0.0);
        for class in 0..self.classes {
            let (p, t) = (self.predictions(class) as f64, self.references(class) as f64);
            both += p * t;
            predicted += p * p;
            occurring += t * t;
        }
        quotient(c * s - both, ((s * s - predicted) * (s * s - occurring)).sqrt())
    }

    /// Any of the above by its name.
    pub fn score(&self, score: Score) -> f64 {
        match score {
            Score::Accuracy => self.accuracy(),
            Score::Mcc => self.mcc(),
            Score::Precision(average) => self.average(average).precision,
            Score::Recall(average) => self.average(average).recall,
            Score::F1(average) => self.average(average).f1,
            Score::F1Of(class) => self.class(class as usize).f1,
        }
    }

    /// Pairs of different classes by how often the first was taken for the second, most often
    /// first; pairs that never happened are left out.
    pub fn most_confused(&self) -> Vec<(usize, usize, u64)> {
        let mut pairs: Vec<(usize, usize, u64)> = (0..self.counts.len())
            .map(|cell| (cell / self.classes, cell % self.classes, self.counts[cell]))
            .filter(|(reference, prediction, count)| reference != prediction && *count > 0)
            .collect();
        pairs.sort_by_key(|(reference, prediction, count)| {
            (std::cmp::Reverse(*count), *reference, *prediction)
        });
        pairs
    }
}

fn quotient(above: f64, below: f64) -> f64 {
    if below == 0.0 { 0.0 } else { above / below }
}

/// The cell of each example in the confusion matrix.
fn cells(
    predictions: &[u32],
    references: &[u32],
    classes: usize,
) -> Result<Vec<u32>, MeasureError> {
    check_lengths(predictions.len(), references.len())?;
    check_labels(predictions, classes)?;
    check_labels(references, classes)?;
    let cell = |(reference, prediction): (&u32, &u32)| reference * classes as u32 + prediction;
    Ok(references.iter().zip(predictions).map(cell).collect())
}

/// Every label is below `classes`.
pub(crate) fn check_labels(labels: &[u32], classes: usize) -> Result<(), MeasureError> {
    match labels.iter().position(|label| *label as usize >= classes) {
        Some(index) => Err(MeasureError::Label { index, label: labels[index], classes }),
        None => Ok(()),
    }
}

/// A score of the confusion matrix, resampled by example.
#[derive(Clone, Debug, PartialEq)]
pub struct Confused {
    cells: Vec<u32>,
    classes: usize,
    score: Score,
}

impl Confused {
    /// `score` of `predictions` against `references`, both below `classes`.
    ///
    /// # Errors
    /// Those of [`Confusion::new`], and a `score` of a class that is none.
    pub fn new(
        predictions: &[u32],
        references: &[u32],
        classes: usize,
        score: Score,
    ) -> Result<Confused, MeasureError> {
        if let Score::F1Of(class) = score {
            check_labels(&[class], classes)?;
        }
        Ok(Confused { cells: cells(predictions, references, classes)?, classes, score })
    }
}

impl Metric for Confused {
    fn count(&self) -> usize {
        self.cells.len()
    }

    fn score(&self, times: &[u32]) -> f64 {
        Confusion::of(&self.cells, self.classes, times).score(self.score)
    }
}
