//! What cannot be scored, and what to do about it.

/// Why there is no score.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MeasureError {
    #[error(
        "there are no examples to score: check that the file is not empty and was not filtered"
    )]
    Empty,
    #[error(
        "{predictions} predictions for {references} references: give one prediction for each \
         reference, in the same order"
    )]
    Lengths { predictions: usize, references: usize },
    #[error("example {index} has no reference: give at least one (it may be the empty text)")]
    NoReference { index: usize },
    #[error(
        "example {index} has label {label}, but there are only the classes 0 to {}: \
         map its label to one of these, or count it among the classes", classes.saturating_sub(1)
    )]
    Label { index: usize, label: u32, classes: usize },
    #[error(
        "{values} probabilities for {examples} examples of {classes} classes: \
         give {classes} for each example, row by row"
    )]
    Shape { values: usize, examples: usize, classes: usize },
    #[error(
        "the probabilities of example {index} sum to {sum}, not to 1: \
         give the softmax of the logits, not the logits"
    )]
    NotProbabilities { index: usize, sum: f64 },
    #[error("the score of example {index} is {value}: find out why the model gave no number")]
    NotFinite { index: usize, value: f64 },
    #[error(
        "{metric} is not defined here: {why}; take more examples, or another metric for this set"
    )]
    Undefined { metric: &'static str, why: &'static str },
    #[error("{resamples} resamples are no bootstrap: take 1000")]
    Resamples { resamples: usize },
    #[error("an interval covers a share between 0 and 1, not {level}: take 0.95")]
    Level { level: f64 },
}

/// As many predictions as references, and some.
pub(crate) fn check_lengths(predictions: usize, references: usize) -> Result<(), MeasureError> {
    match (predictions == references, references) {
        (false, _) => Err(MeasureError::Lengths { predictions, references }),
        (true, 0) => Err(MeasureError::Empty),
        (true, _) => Ok(()),
    }
}
