//! Several models as one: the mean of their probabilities (not of their logits, nor of their
//! weights), on the windows of the first.
//!
//! The loss of a mixture needs no more than each member's probability of the target:
//! p(w) = Σ pᵢ(w)/M. So one model is in memory at a time, and four bytes a scored token and model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use heldout_data::tokenizer::Tokenizer;
use heldout_data::{Batch, IGNORE, Progress};
use heldout_kernels::Device;
use heldout_record::RunDir;
use serde::Serialize;

use crate::error::TrainError;
use crate::evaluate::{Evaluation, Split, SplitText, TextFiles, score_files};
use crate::evaluation::{Tally, bits_per_byte};
use crate::session::{Session, model_folder, read_config};
use crate::teachers::difference;

/// A model of an ensemble and where it is computed.
pub struct Member {
    /// A run, a checkpoint or a model folder.
    pub path: PathBuf,
    pub device: Arc<Device>,
}

/// What an ensemble is scored on.
pub enum EnsembleText<'a> {
    /// A split of the run that is the first member. `cache` is where prepared data lies.
    Split { run: &'a RunDir, split: Split, cache: &'a Path },
    /// Other text.
    Files(TextFiles<'a>),
}

/// What an ensemble reaches on a text.
#[derive(Clone, Debug, Serialize)]
pub struct Ensemble {
    /// What was scored, in words.
    pub data: String,
    /// −ln of the mean probability, nats per token.
    pub loss: f64,
    /// Its standard error, clustered by window.
    pub loss_se: f64,
    /// e to the loss.
    pub perplexity: f64,
    pub bits_per_byte: f64,
    /// Tokens scored.
    pub tokens: u64,
    /// Windows they lie in.
    pub windows: usize,
    /// UTF-8 bytes of text per token.
    pub bytes_per_token: f64,
    /// Mean of the members' losses.
    pub loss_members: f64,
    /// The member of least loss. It is chosen on the text it is compared on, which favours it.
    pub best: String,
    /// Nats per token that the ensemble is better by than that member.
    pub better: f64,
    /// Its standard error: of the difference itself, window by window.
    pub better_se: f64,
    /// Each by itself, in the order given.
    pub members: Vec<MemberScore>,
}

/// What one member reaches by itself.
#[derive(Clone, Debug, Serialize)]
pub struct MemberScore {
    pub path: String,
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

/// Scores an ensemble of at least two models, and each by itself, on the same windows.
/// `preparing` hears of the data, `beginning` which member (from 0) comes next.
///
/// # Errors
/// A member is given twice, or has another tokenizer or context than the first.
///
/// # Panics
/// If there are fewer than two members.
pub fn evaluate_ensemble(
    members: &[Member],
    text: &EnsembleText,
    preparing: &mut dyn FnMut(Progress),
    beginning: &mut dyn FnMut(usize),
) -> Result<Ensemble, TrainError> {
    assert!(members.len() > 1, "an ensemble of {}", members.len());
    check_members(members)?;
    let split = match text {
        EnsembleText::Split { run, split, cache } => {
            Some(SplitText::prepare(run, *split, cache, preparing)?.0)
        }
        EnsembleText::Files(_) => None,
    };
    let mut seen = Seen::default();
    let mut scores = Vec::new();
    for (index, member) in members.iter().enumerate() {
        beginning(index);
        let mut session = Session::open(&member.path, member.device.clone())?;
        let mut losses = Vec::new();
        let mut agrees = true;
        let mut see = |batch: &Batch, found: &[f32]| {
            agrees &= seen.agrees(index, losses.len(), batch);
            losses.extend_from_slice(found);
        };
        let evaluation = match (&split, text) {
            (Some(split), _) => split.score(&mut session, &Ok(None), &mut see),
            (None, EnsembleText::Files(files)) => {
                score_files(&mut session, *files, &Ok(None), &mut see)?
            }
            (None, EnsembleText::Split { .. }) => unreachable!("a split has been prepared"),
        };
        if !agrees || losses.len() != seen.targets.len() {
            let problem = "it cuts the text into other tokens than the first member does, or the \
                           text changed meanwhile: evaluate models of one tokenizer together";
            let (path, problem) = (member.path.clone(), problem.into());
            return Err(TrainError::Folder { path, problem });
        }
        seen.losses.push(losses);
        scores.push(MemberScore { path: member.path.display().to_string(), evaluation });
    }
    Ok(seen.mix(scores))
}

/// Refuses members that cannot be mixed.
fn check_members(members: &[Member]) -> Result<(), TrainError> {
    let mut folders = Vec::new();
    let mut first: Option<(Tokenizer, usize)> = None;
    for Member { path, .. } in members {
        let refuse = |problem: String| Err(TrainError::Folder { path: path.clone(), problem });
        let folder = model_folder(path)?;
        let folder = folder.canonicalize().unwrap_or(folder);
        if folders.contains(&folder) {
            return refuse("is given twice: name each member of an ensemble once".into());
        }
        let tokenizer = Tokenizer::load(&folder.join("tokenizer.json"))?;
        let context = read_config(&folder)?.context;
        folders.push(folder);
        let Some((expected, context_expected)) = &first else {
            first = Some((tokenizer, context));
            continue;
        };
        let whose = format!("that of {}", members[0].path.display());
        if let Some(difference) = difference(&tokenizer, expected, &whose) {
            return refuse(format!(
                "has another tokenizer: {difference}; members of an ensemble must share it"
            ));
        }
        if context != *context_expected {
            let other = members[0].path.display();
            return refuse(format!(
                "reads {context} tokens at once, {other} {context_expected}; members of an \
                 ensemble must share the context, so that all predict from the same text"
            ));
        }
    }
    Ok(())
}

/// The windows and what each member makes of them, position by position.
#[derive(Default)]
struct Seen {
    seq_len: usize,
    targets: Vec<u32>,
    losses: Vec<Vec<f32>>,
}

impl Seen {
    /// Keeps the first member's targets; whether those of another are the same from `at` on.
    fn agrees(&mut self, member: usize, at: usize, batch: &Batch) -> bool {
        if member == 0 {
            self.seq_len = batch.seq_len;
            self.targets.extend_from_slice(&batch.targets);
        }
        self.targets.get(at..at + batch.targets.len()) == Some(&batch.targets[..])
    }

    fn mix(&self, members: Vec<MemberScore>) -> Ensemble {
        let loss = |score: &MemberScore| score.evaluation.loss;
        let least = |a: &usize, b: &usize| loss(&members[*a]).total_cmp(&loss(&members[*b]));
        let best = (0..members.len()).min_by(least).expect("there are members");
        let (mut mixture, mut better) = (Tally::default(), Tally::default());
        let mut mixed = vec![0.0; self.seq_len];
        let mut gains = vec![0.0; self.seq_len];
        for (row, targets) in self.targets.chunks(self.seq_len).enumerate() {
            for (position, target) in targets.iter().enumerate() {
                let at = row * self.seq_len + position;
                if *target == IGNORE {
                    continue;
                }
                let loss = mixture_loss(self.losses.iter().map(|losses| losses[at]));
                mixed[position] = loss as f32;
                gains[position] = (f64::from(self.losses[best][at]) - loss) as f32;
            }
            mixture.add_row(&mixed, targets);
            better.add_row(&gains, targets);
        }
        let (score, better) = (mixture.score(), better.score());
        let first = &members[0].evaluation;
        Ensemble {
            data: first.data.clone(),
            loss: score.loss,
            loss_se: score.se,
            perplexity: score.loss.exp(),
            bits_per_byte: bits_per_byte(score.loss, first.bytes_per_token),
            tokens: score.targets,
            windows: score.windows,
            bytes_per_token: first.bytes_per_token,
            loss_members: members.iter().map(loss).sum::<f64>() / members.len() as f64,
            best: members[best].path.clone(),
            better: better.loss,
            better_se: better.se,
            members,
        }
    }
}

/// −ln of the mean of e^−loss: the least loss taken out, so that nothing underflows.
fn mixture_loss(losses: impl ExactSizeIterator<Item = f32> + Clone) -> f64 {
    let count = losses.len() as f64;
    let least = losses.clone().fold(f32::INFINITY, f32::min);
    if !least.is_finite() {
        return f64::from(least);
    }
    let sum: f64 = losses.map(|loss| f64::from(least - loss).exp()).sum();
    f64::from(least) - (sum / count).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixture_has_the_mean_probability() {
        let check = |probabilities: &[f64]| {
            let losses: Vec<f32> = probabilities.iter().map(|p| -p.ln() as f32).collect();
            let mean = probabilities.iter().sum::<f64>() / probabilities.len() as f64;
            let found = mixture_loss(losses.iter().copied());
            assert!((found + mean.ln()).abs() < 1e-5, "{probabilities:?}: {found}");
        };
        check(&[0.5]);
        check(&[0.5, 0.5]);
        check(&[0.9, 0.1, 1e-6]);
        check(&[1e-30, 1e-35]);
        // The mean of the logits would be the geometric mean, normalised: another model.
        assert!((mixture_loss([0.0, 200.0].into_iter()) - 2f64.ln()).abs() < 1e-12);
        assert_eq!(mixture_loss([f32::INFINITY; 2].into_iter()), f64::INFINITY);
    }
}
