//! Generation with a key/value cache, over a window that slides when the context is full.

use std::borrow::Cow;
use std::ops::ControlFlow;

use heldout_base::rng::{Random, streams};
use heldout_kernels::{Device, Pass, PassKind, Precision, RoundedWeights, Tape};

pub use crate::sampling::Sampling;
use crate::sampling::{all_finite, candidates, draw, draw_any, likeliest, penalize};
use crate::{KvCache, Model, ModelError};

/// A model ready to generate: weights as generation reads them best.
///
/// On a device in bf16 a rounded copy of the weights is made beside the f32 ones (2 bytes a
/// parameter), so that a token costs half the memory traffic; making it takes as long as a few
/// tokens. The text is that of [`generate`] to the last token.
///
/// Only the inputs of matrix products are rounded (by at most 2⁻⁹ of themselves), as in training in
/// bf16: embeddings, norms, biases, the cache of keys and values, sums and logits are f32.
pub struct Generator<'a> {
    pub(crate) model: &'a Model,
    parameters: &'a [f32],
    rounded: Option<RoundedWeights>,
}

impl<'a> Generator<'a> {
    /// Prepares the weights for passes on `device`.
    pub fn new(model: &'a Model, device: &Device, parameters: &'a [f32]) -> Generator<'a> {
        let rounded = match device.precision() {
            Precision::F32 => None,
            Precision::Bf16 => Some(RoundedWeights::new(device, parameters)),
        };
        Generator { model, parameters, rounded }
    }

    /// The weights as they are.
    pub(crate) fn plain(model: &'a Model, parameters: &'a [f32]) -> Generator<'a> {
        Generator { model, parameters, rounded: None }
    }

    /// As the function [`generate`].
    pub fn generate(
        &self,
        tape: &mut Tape,
        prompt: &[u32],
        sampling: &Sampling,
        on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Vec<u32>, ModelError> {
        let model = self.model;
        sampling.validate()?;
        check_prompt(model, prompt)?;
        let context = model.config.context;
        let capacity = context.min(prompt.len().saturating_add(sampling.max_new_tokens));
        let mut cache = KvCache::new(&model.config, 1, capacity);
        let mut text = prompt.to_vec();
        let mut read = 0; // How many tokens of the text the cache has seen or slid past.
        while text.len() - prompt.len() < sampling.max_new_tokens {
            if cache.len() + (text.len() - read) > context {
                cache.clear();
                read = text.len() - slide_keep(context);
            }
            let mut pass = self.pass(tape);
            let logits = model.forward_cached(&mut pass, &text[read..], &mut cache); // [1, V]
            read = text.len();
            let drawn = text.len() - prompt.len();
            let next = choose(pass.value(logits), &text, drawn, sampling)?;
            if sampling.stop_tokens.contains(&next) {
                break;
            }
            text.push(next);
            if on_token(next).is_break() {
                break;
            }
        }
        Ok(text.split_off(prompt.len()))
    }

    /// An evaluation pass, for [`Model::forward_cached`] and several sequences at a time.
    pub fn pass<'p>(&'p self, tape: &'p mut Tape) -> Pass<'p> {
        let kind = match &self.rounded {
            Some(rounded) => PassKind::EvaluateRounded(rounded),
            None => PassKind::Evaluate,
        };
        tape.pass(self.parameters, kind)
    }
}

/// Continues `prompt` and returns the new tokens, without the prompt and without the stop token.
/// For more than a few tokens on a device in bf16, a [`Generator`] is faster.
///
/// `on_token` sees every new token as it is chosen (a stop token excepted) and may end the
/// generation. The result depends on weights, prompt and sampling alone: the draw for the n-th new
/// token is a pure function of (seed, n).
///
/// When the context is full, the window slides: the last three quarters of it are read again from
/// position 0 and generation goes on with the quarter gained. Between slides every token costs one
/// row; a slide costs three quarters of a context, in one batched pass. A prompt longer than the
/// context is likewise cut to its last three quarters of a context. The repetition penalty looks
/// at the whole text, also what has slid out of sight.
pub fn generate(
    model: &Model,
    tape: &mut Tape,
    params: &[f32],
    prompt: &[u32],
    sampling: &Sampling,
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> Result<Vec<u32>, ModelError> {
    Generator::plain(model, params).generate(tape, prompt, sampling, on_token)
}

/// Tokens that stay in the window when it slides: three quarters of the context, at least one.
pub fn slide_keep(context: usize) -> usize {
    (context * 3 / 4).max(1)
}

/// The token that follows `text`, the `drawn`-th new one (from 0), given the logits after it: [V].
pub fn choose(
    logits: &[f32],
    text: &[u32],
    drawn: usize,
    sampling: &Sampling,
) -> Result<u32, ModelError> {
    if !all_finite(logits) {
        return Err(ModelError::NonFiniteLogits { tokens: text.len() });
    }
    let logits = penalized(logits, text, sampling.repetition_penalty);
    if sampling.temperature == 0.0 {
        return Ok(likeliest(&logits));
    }
    let uniform = Random::new(sampling.seed, streams::SAMPLING, 0).uniform(drawn as u64);
    Ok(match (sampling.top_k, sampling.top_p) {
        (None, None) => draw_any(&logits, sampling.temperature, uniform),
        _ => draw(&candidates(&logits, sampling), uniform),
    })
}

/// The logits themselves, or a copy of them with the penalty.
fn penalized<'l>(logits: &'l [f32], seen: &[u32], penalty: f32) -> Cow<'l, [f32]> {
    if penalty == 1.0 {
        return Cow::Borrowed(logits);
    }
    let mut logits = logits.to_vec();
    penalize(&mut logits, seen, penalty);
    Cow::Owned(logits)
}

fn check_prompt(model: &Model, prompt: &[u32]) -> Result<(), ModelError> {
    model.config.require_causal()?;
    if prompt.is_empty() {
        return Err(ModelError::EmptyPrompt);
    }
    let vocabulary = model.config.vocabulary;
    match prompt.iter().position(|&id| id as usize >= vocabulary) {
        None => Ok(()),
        Some(position) => {
            Err(ModelError::TokenOutOfRange { position, id: prompt[position], vocabulary })
        }
    }
}
