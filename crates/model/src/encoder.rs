//! The passes of an encoder: hidden states, masked tokens, spans.
//!
//! Sequences are padded on the right; nothing reads padding, and what stands there does not matter.

use heldout_kernels::{Activation, IGNORE, Joint, LossReport, LossSpec, Pass, Twins, Var};

use crate::bert::Bert;
use crate::head::twice;
use crate::model::Network;
use crate::noise::{Noise, NoiseRates};
use crate::window::Window;
use crate::{Family, Head, Model, Objective, Sequences};

impl Model {
    /// Whether every position reads the whole sequence, what follows included.
    pub fn is_encoder(&self) -> bool {
        self.config.family == Family::Bert
    }

    /// Final hidden states of an encoder: [N, C]. Rows of padding hold nothing of use. Noise acts
    /// in training passes only.
    ///
    /// # Panics
    /// If the model is no encoder, or the sizes disagree.
    pub fn encode(&self, pass: &mut Pass, sequences: Sequences, noise: &NoiseRates) -> Var {
        assert!(self.is_encoder(), "{:?} is no encoder", self.config.family);
        sequences.assert_whole();
        let noise = Noise::of_pass(pass, noise, self.config.layers);
        self.trunk(pass, &mut Window::of_sequences(&sequences, noise))
    }

    /// Loss of masked tokens (Devlin et al. 2019): `targets` are B·T ids, [`IGNORE`] where nothing
    /// is to be told. Only rows with a target meet the vocabulary, so [`Pass::token_nll`] has one
    /// entry for each of them. Twins draw their noise as the sequences 2s and 2s + 1.
    ///
    /// # Panics
    /// If the model does not predict masked tokens, the objective has teachers or heads ahead, or
    /// the sizes disagree.
    pub fn masked(
        &self,
        pass: &mut Pass,
        sequences: Sequences,
        targets: &[u32],
        noise: &NoiseRates,
        objective: &Objective,
    ) -> LossReport {
        let Objective { spec, joint, ahead, .. } = objective;
        assert_eq!(targets.len(), sequences.ids.len(), "a target or none for each token");
        assert!(joint.teaching.is_none() && *ahead == 0.0, "masked tokens have no such objective");
        let kept: Vec<u32> =
            (0..targets.len() as u32).filter(|row| targets[*row as usize] != IGNORE).collect();
        if kept.is_empty() {
            return LossReport::default(); // short texts may go unmasked
        }
        let targets: Vec<u32> = kept.iter().map(|row| targets[*row as usize]).collect();
        let Some(Twins { strength, .. }) = joint.twins else {
            let x = self.encode(pass, sequences, noise); // [N, C]
            let x = pass.rows(x, &kept); // [R, C]
            return self.told(pass, x, &targets, spec, joint);
        };
        let doubled = sequences.doubled();
        let x = self.encode(pass, doubled.borrow(), noise); // [2N, C]
        // Sequences lie beside their twins; the loss wants all first copies, then all second ones.
        let seq_len = sequences.seq_len as u32;
        let first = kept.iter().map(|row| row + row / seq_len * seq_len);
        let rows: Vec<u32> = first.clone().chain(first.map(|row| row + seq_len)).collect();
        let x = pass.rows(x, &rows); // [2R, C]
        let joint = Joint { twins: Some(Twins { strength, seq_len: kept.len() }), teaching: None };
        self.told(pass, x, &targets, spec, &joint)
    }

    fn told(
        &self,
        pass: &mut Pass,
        x: Var,
        targets: &[u32],
        spec: &LossSpec,
        joint: &Joint,
    ) -> LossReport {
        let x = self.bert().masked(&self.config, pass, x);
        pass.biased_cross_entropy(x, self.bert().projection(), targets, spec, joint)
    }

    /// Logits of masked tokens at `rows` of the sequences' B·T, in an evaluation pass: [R, V].
    ///
    /// # Panics
    /// If the model does not predict masked tokens, or the sizes disagree.
    pub fn masked_logits(&self, pass: &mut Pass, sequences: Sequences, rows: &[u32]) -> Var {
        let x = self.encode(pass, sequences, &NoiseRates::default()); // [N, C]
        let x = pass.rows(x, rows); // [R, C]
        let x = self.bert().masked(&self.config, pass, x);
        let (head, bias) = self.bert().projection();
        pass.linear(x, head, bias, Activation::None, None) // [R, V]
    }

    /// Scores of every position to begin and to end an answer: [N, 2], with [`Model::locate`] for
    /// training. Those of padding mean nothing.
    ///
    /// # Panics
    /// If the model has no head of spans, or the sizes disagree.
    pub fn span_scores(&self, pass: &mut Pass, sequences: Sequences, noise: &NoiseRates) -> Var {
        assert_eq!(self.config.head, Head::Span, "a head of spans");
        let x = self.encode(pass, sequences, noise); // [N, C]
        self.bert().span(&self.config, pass, x)
    }

    /// Loss of answers' ends: the mean of the cross-entropies of the first and the last position
    /// over the sequence's own positions, as transformers has it without padding. `spans` are B
    /// first and last positions; a sequence without an answer points at position 0. In a training
    /// pass the gradient times `scale` is set for `pass.backward()`.
    ///
    /// # Panics
    /// If the model has no head of spans, a span is not within its sequence, or the sizes disagree.
    pub fn locate(
        &self,
        pass: &mut Pass,
        sequences: Sequences,
        spans: &[(u32, u32)],
        noise: &NoiseRates,
        scale: f32,
    ) -> LossReport {
        assert_eq!(spans.len(), sequences.batch, "a span for each sequence");
        let logits = self.span_scores(pass, sequences, noise);
        let (loss, gradient) = span_loss(pass.value(logits), &sequences, spans, scale);
        if pass.is_training() {
            pass.add_gradient(logits, &gradient);
        }
        LossReport { objective_sum: loss, nll_sum: loss, targets: spans.len() as u64 }
    }

    pub(crate) fn bert(&self) -> &Bert {
        match &self.network {
            Network::Bert(bert) => bert,
            _ => panic!("{:?} is no encoder", self.config.family),
        }
    }
}

/// Sum over sequences of the mean of both ends' cross-entropies, and its gradient times `scale`.
fn span_loss(
    logits: &[f32],
    sequences: &Sequences,
    spans: &[(u32, u32)],
    scale: f32,
) -> (f64, Vec<f32>) {
    let mut gradient = vec![0.0; logits.len()];
    let mut loss = 0.0;
    let rows = logits.chunks(2 * sequences.seq_len).zip(gradient.chunks_mut(2 * sequences.seq_len));
    for (((logits, gradient), length), span) in rows.zip(sequences.lengths).zip(spans) {
        let inside = 2 * *length as usize;
        let (first, last) = *span;
        assert!(first <= last && last < *length, "the span {first}..={last} of {length} tokens");
        loss += span_nll(&logits[..inside], *span);
        for (end, target) in [first, last].into_iter().enumerate() {
            let sum = log_sum(&logits[..inside], end);
            for position in 0..*length as usize {
                let hot = f64::from(u8::from(position == target as usize));
                let probability = (f64::from(logits[2 * position + end]) - sum).exp();
                gradient[2 * position + end] =
                    (0.5 * f64::from(scale) * (probability - hot)) as f32;
            }
        }
    }
    (loss, gradient)
}

/// The mean of both ends' cross-entropies of one sequence, whose logits are [T, 2] without padding.
///
/// # Panics
/// If the span is not within the sequence.
pub fn span_nll(logits: &[f32], span: (u32, u32)) -> f64 {
    0.5 * (end_loss(logits, 0, span.0) + end_loss(logits, 1, span.1))
}

fn end_loss(logits: &[f32], end: usize, target: u32) -> f64 {
    let length = logits.len() / 2;
    assert!((target as usize) < length, "position {target} of {length} tokens");
    log_sum(logits, end) - f64::from(logits[2 * target as usize + end])
}

/// log Σ exp over the positions' logits of one end.
fn log_sum(logits: &[f32], end: usize) -> f64 {
    let each = || logits.iter().skip(end).step_by(2).map(|logit| f64::from(*logit));
    let most = each().fold(f64::NEG_INFINITY, f64::max);
    most + each().map(|logit| (logit - most).exp()).sum::<f64>().ln()
}

/// Sequences that own what they hold.
pub(crate) struct Doubled {
    ids: Vec<u32>,
    lengths: Vec<u32>,
    segments: Option<Vec<u32>>,
    seq_len: usize,
}

impl Doubled {
    pub fn borrow(&self) -> Sequences<'_> {
        let Doubled { ids, lengths, segments, seq_len } = self;
        let (batch, seq_len) = (lengths.len(), *seq_len);
        Sequences { ids, lengths, segments: segments.as_deref(), batch, seq_len }
    }
}

impl Sequences<'_> {
    /// Every sequence twice, one behind the other.
    pub(crate) fn doubled(&self) -> Doubled {
        Doubled {
            ids: twice(self.ids, self.seq_len),
            lengths: twice(self.lengths, 1),
            segments: self.segments.map(|segments| twice(segments, self.seq_len)),
            seq_len: self.seq_len,
        }
    }
}
