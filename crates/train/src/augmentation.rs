//! From the plan's changes of texts to what carries them out, and the proof that they do.

use std::path::PathBuf;
use std::sync::Arc;

use heldout_data::augment::{AugmentSpec, Augmenter, Lexicon, Preview, TextTask};
use heldout_data::labelled::{LabelledExample, PreparedLabelled};
use heldout_regularize::live::AugmentMeasure;
use heldout_regularize::plan::{Augment, Owned};
use heldout_regularize::{Plan, SettingError};

use crate::error::TrainError;
use crate::job::Job;
use crate::task::Corpus;

/// A change of texts, ready, with the technique that asked for it.
pub type OwnedAugmenter = Owned<Augmenter>;

/// What changes the training texts of this data, in the plan's order. Each draws by its owner's
/// name and the seed, so that one more leaves the others' draws as they are.
///
/// # Errors
/// Synonyms that cannot be read; an edit that would spoil the labels of pairs; masking without a
/// word to write.
pub fn augmenters(
    plan: &Plan,
    data: &PreparedLabelled,
    seed: u64,
) -> Result<Vec<OwnedAugmenter>, SettingError> {
    let pairs = data.data.train.iter().any(|example| example.pair.is_some());
    let task = if pairs { TextTask::PairClassification } else { TextTask::Classification };
    plan.labelled.augment.iter().map(|augment| augmenter(augment, data, task, seed)).collect()
}

fn augmenter(
    owned: &Owned<Augment>,
    data: &PreparedLabelled,
    task: TextTask,
    seed: u64,
) -> Result<OwnedAugmenter, SettingError> {
    let Augment { steps, share, choice, synonyms } = owned.value.clone();
    let refused = |error: heldout_data::DataError| SettingError::Unusable {
        technique: owned.owner.clone(),
        knob: if synonyms.is_some() { "synonyms" } else { "share" }.to_owned(),
        reason: error.to_string(),
        remedy: format!("or write {} = \"off\"", owned.owner),
    };
    let lexicon = synonyms.as_ref().map(|path| Lexicon::load(&[PathBuf::from(path)]));
    let lexicon = lexicon.transpose().map_err(refused)?.map(Arc::new);
    let name = owned
        .owner
        .bytes()
        .fold(seed, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mask = data.encoder.mask_word();
    let spec = AugmentSpec { steps, share, choice, mask, seed: name };
    let value = Augmenter::new(spec, task, lexicon).map_err(refused)?;
    Ok(Owned { owner: owned.owner.clone(), value })
}

/// Texts of the first epoch that a receipt looks at.
const LOOKED_AT: usize = 256;
/// Characters of an example in a receipt.
const SHOWN: usize = 60;

/// What the change does to the first texts in the first epoch; the example is the shortest that
/// changes.
pub fn measure(augmenter: &Augmenter, examples: &[LabelledExample]) -> AugmentMeasure {
    let texts = examples.iter().map(|example| example.text.as_str());
    let previews = augmenter.preview(texts, LOOKED_AT, 0);
    let changed: Vec<&Preview> = previews.iter().filter(|p| !p.edits.is_empty()).collect();
    let shown = |text: &str| match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    // Long enough to be a sentence, short enough to be read.
    let sample = changed.iter().min_by_key(|preview| preview.before.len().abs_diff(SHOWN / 2));
    let steps = &augmenter.spec().steps;
    let count = |edit| changed.iter().filter(|preview| preview.edits.contains(&edit)).count();
    AugmentMeasure {
        texts: previews.len() as u64,
        changed: changed.len() as u64,
        edits: steps
            .iter()
            .map(|step| (step.edit.name().to_owned(), count(step.edit) as u64))
            .collect(),
        before: sample.map(|preview| shown(&preview.before)).unwrap_or_default(),
        after: sample.map(|preview| shown(&preview.after)).unwrap_or_default(),
    }
}

/// A training text as the plan's changes leave it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ChangedText {
    /// Index among the training texts.
    pub index: u64,
    pub label: String,
    pub before: String,
    pub after: String,
    /// The edits that were applied, all techniques' one after another.
    pub edits: Vec<String>,
}

/// The first `count` training texts before and after what the job's plan does to them in `epoch`.
///
/// # Errors
/// [`TrainError::Task`] of running text; as [`augmenters`].
pub fn preview(job: &Job, count: usize, epoch: u64) -> Result<Vec<ChangedText>, TrainError> {
    let Corpus::Labelled(data) = &job.data else {
        return Err(TrainError::Task { what: "a preview of changed texts", task: "lm" });
    };
    let augmenters = augmenters(&job.techniques.plan, data, job.recipe.run.seed)?;
    let labels = &data.data.labels.names;
    let examples = (0..).zip(&data.data.train).take(count);
    let one = |(index, example): (u64, &LabelledExample)| {
        let mut after = example.text.clone();
        let mut edits = Vec::new();
        for augmenter in &augmenters {
            let (text, own) = augmenter.value.edit(&after, epoch, index);
            edits.extend(own.iter().map(|edit| edit.name().to_owned()));
            after = text;
        }
        let label = labels[example.label as usize].clone();
        ChangedText { index, label, before: example.text.clone(), after, edits }
    };
    Ok(examples.map(one).collect())
}
