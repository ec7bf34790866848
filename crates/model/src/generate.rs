//! Generation with a key/value cache, over a window that slides when the context is full.

use std::ops::ControlFlow;

use heldout_base::rng::{Random, streams};
use heldout_kernels::{PassKind, Tape};

pub use crate::sampling::Sampling;
use crate::sampling::{candidates, draw, likeliest, penalize};
use crate::{KvCache, Model, ModelError};

/// Continues `prompt` and returns the new tokens, without the prompt and without the stop token.
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
        let mut pass = tape.pass(params, PassKind::Evaluate);
        let logits = model.forward_cached(&mut pass, &text[read..], &mut cache); // [1, V]
        read = text.len();
        let logits = pass.value(logits);
        let drawn = text.len() - prompt.len();
        let next = choose(logits, &text, drawn, sampling)?;
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
    if !logits.iter().all(|logit| logit.is_finite()) {
        return Err(ModelError::NonFiniteLogits { tokens: text.len() });
    }
    let mut logits = logits.to_vec();
    penalize(&mut logits, text, sampling.repetition_penalty);
    if sampling.temperature == 0.0 {
        return Ok(likeliest(&logits));
    }
    let uniform = Random::new(sampling.seed, streams::SAMPLING, 0).uniform(drawn as u64);
    Ok(draw(&candidates(&logits, sampling), uniform))
}

fn check_prompt(model: &Model, prompt: &[u32]) -> Result<(), ModelError> {
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
