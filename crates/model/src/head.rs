//! What a model's final hidden states are turned into, and the passes of a classifier.
//!
//! A causal model classifies by the hidden state of each sequence's last token, as
//! `GPT2ForSequenceClassification` and `LlamaForSequenceClassification` do: sequences are padded
//! on the right, where causal attention needs no mask. An encoder classifies by the first token's.

use heldout_kernels::{Activation, ClassLoss, LossReport, Pass, Var};
use serde::{Deserialize, Serialize};

use crate::config::setting;
use crate::model::Network;
use crate::noise::{Noise, NoiseRates};
use crate::window::Window;
use crate::{Family, Model, ModelError};

/// What a model says about a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// A distribution over the vocabulary at every position.
    #[default]
    LanguageModel,
    /// A distribution over labels for every sequence.
    Classification { labels: usize },
    /// Where in the text an answer begins and ends.
    Span,
    /// The hidden states themselves, as `BertModel` has them. Encoders only.
    Features,
}

impl Head {
    /// Whether the head predicts tokens.
    pub fn is_language_model(&self) -> bool {
        *self == Head::LanguageModel
    }

    pub(crate) fn validate(self, family: Family) -> Result<(), ModelError> {
        match (self, family) {
            (Head::Classification { labels }, _) if labels < 2 => {
                let reason = "one label leaves nothing to decide";
                Err(setting("head.labels", labels, reason, "label the data with at least two"))
            }
            (Head::Span, Family::Gpt2 | Family::Llama) => {
                let reason = "a causal model has not read what follows a position";
                Err(setting("head", "span", reason, "take an encoder such as BERT"))
            }
            (Head::Features, Family::Gpt2 | Family::Llama) => {
                let reason = "a causal model is imported and exported with its head";
                Err(setting("head", "features", reason, "set head to \"language-model\""))
            }
            _ => Ok(()),
        }
    }
}

/// `batch` sequences of up to `seq_len` tokens, padded on the right.
#[derive(Debug, Clone, Copy)]
pub struct Sequences<'a> {
    /// B·T token ids; what stands behind a sequence's end is read by nobody.
    pub ids: &'a [u32],
    /// B lengths in tokens, from 1 to T.
    pub lengths: &'a [u32],
    /// B·T numbers of the text that a token belongs to, for encoders; causal models have none.
    pub segments: Option<&'a [u32]>,
    pub batch: usize,
    pub seq_len: usize,
}

impl Sequences<'_> {
    /// Rows of the sequences' first tokens: [B].
    pub fn first_rows(&self) -> Vec<u32> {
        (0..self.batch).map(|number| (number * self.seq_len) as u32).collect()
    }

    /// Rows of the sequences' last tokens: [B].
    pub fn last_rows(&self) -> Vec<u32> {
        let last = |(number, &length): (usize, &u32)| (number * self.seq_len) as u32 + length - 1;
        self.lengths.iter().enumerate().map(last).collect()
    }

    pub(crate) fn assert_whole(&self) {
        let Sequences { batch, seq_len, .. } = *self;
        assert_eq!(self.ids.len(), batch * seq_len, "{batch}×{seq_len} ids");
        assert_eq!(self.lengths.len(), batch, "a length for each sequence");
        let fits = |&length: &u32| length >= 1 && length as usize <= seq_len;
        assert!(self.lengths.iter().all(fits), "lengths from 1 to {seq_len}");
    }
}

/// What a classifier's training pass minimises.
pub type ClassObjective<'a> = ClassLoss<'a>;

impl Model {
    /// Loss over a batch of sequences with a label each ([`heldout_kernels::IGNORE`] where there
    /// is none); in a training pass the gradient is set for `pass.backward()`. Twins draw their
    /// noise as the sequences 2s and 2s + 1, so the pass's key counts sequences twice.
    ///
    /// # Panics
    /// If the model has no head of labels, or the sizes disagree.
    pub fn classify(
        &self,
        pass: &mut Pass,
        sequences: Sequences,
        labels: &[u32],
        noise: &NoiseRates,
        objective: &ClassObjective,
    ) -> LossReport {
        if objective.copies() == 1 {
            let logits = self.label_logits(pass, sequences, noise);
            return pass.class_loss(logits, labels, objective);
        }
        let doubled = sequences.doubled();
        let logits = self.label_logits(pass, doubled.borrow(), noise);
        pass.class_loss(logits, labels, objective)
    }

    /// Logits of the labels, in an evaluation pass: [B, K].
    ///
    /// # Panics
    /// If the model has no head of labels, or the sizes disagree.
    pub fn scores(&self, pass: &mut Pass, sequences: Sequences) -> Var {
        self.label_logits(pass, sequences, &NoiseRates::default())
    }

    /// [B, K], under noise in a training pass.
    fn label_logits(&self, pass: &mut Pass, sequences: Sequences, noise: &NoiseRates) -> Var {
        let labelled = matches!(self.config.head, Head::Classification { .. });
        assert!(labelled, "{:?} is no head of labels", self.config.head);
        sequences.assert_whole();
        let noise = Noise::of_pass(pass, noise, self.config.layers);
        let mut window = Window::of_sequences(&sequences, noise);
        let x = self.trunk(pass, &mut window); // [N, C]
        if let Network::Bert(bert) = &self.network {
            let x = pass.rows(x, &sequences.first_rows()); // [B, C]
            return bert.labels(&self.config, pass, x, &window); // [B, K]
        }
        // Only these rows are read: what follows costs nothing for the others.
        let x = pass.rows(x, &sequences.last_rows()); // [B, C]
        let x = self.finish(pass, x); // [B, C]
        pass.linear(x, self.head(), None, Activation::None, None) // [B, K]
    }
}

/// Every run of `each` values twice, one behind the other.
pub(crate) fn twice(values: &[u32], each: usize) -> Vec<u32> {
    values.chunks(each).flat_map(|run| run.iter().chain(run)).copied().collect()
}
