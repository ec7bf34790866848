//! Cards of what is done with trained models when they are scored: part of the catalogue for a
//! reader, though no recipe has a setting for it.

use heldout_base::card::{Card, Kind, Stage};

/// What can be done with trained models, in reading order.
pub const EVALUATIONS: &[Card] = &[Card {
    name: "ensembling",
    kind: Kind::Evaluation,
    stage: Stage::Evaluation,
    purpose: "Averages the probabilities of several trained models: `heldout evaluate RUN \
              --with RUN2 --with RUN3`. No setting of a recipe: train the members first, with \
              other seeds.",
    paper: "Hansen & Salamon 1990; Lakshminarayanan et al. 2017, arXiv:1612.01474",
    when_to_use: "When the last hundredths of a nat count; to see what seeds disagree about; \
                  before \
                  a distillation, whose `teacher` takes the same list of folders and makes one \
                  model of them again.",
    when_to_avoid: "One model is to be used in the end: average its weights (ema, swa, \
                    checkpoint-averaging) or distil. Members must share tokenizer and context.",
    cost: "As many trainings and evaluations as there are members; one of them in memory at a \
           time, and four bytes a scored token and member.",
    knobs: &[],
}];
