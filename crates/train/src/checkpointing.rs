//! Saves and restores a run's state as checkpoints that open in `transformers` as they are.
//!
//! `model.safetensors` holds the weights that were better at the last evaluation (the raw ones or
//! an average); `training_state.safetensors` holds the other sets, the optimizer's vectors, and the
//! small numbers as JSON in its metadata. Everything streams from where it is: no copy is made.

use std::collections::BTreeMap;
use std::path::Path;

use heldout_data::tokenizer::Tokenizer;
use heldout_kernels::{Device, reduce};
use heldout_model::huggingface::{
    FileTensor, Imported, Orientation, SpecialTokens, check_names, config_json,
    generation_config_json, import, import_body, is_of_head, tensors,
};
use heldout_model::{Model, ModelError};
use heldout_record::checkpoint::{self, Checkpoint, LargeFile, Pointer, Staged, Staging};
use heldout_record::weights::{Entry, MODEL_FILE, Values, WeightFile, write_safetensors};
use heldout_record::{RecordError, RunDir};

use crate::error::TrainError;
use crate::job::Setup;
use crate::state::{Progress, State, Weights};

/// The training state beside the model.
pub const STATE_FILE: &str = "training_state.safetensors";
/// Metadata key of the small numbers.
const PROGRESS: &str = "progress";
/// Parameters that only training needs, of the set that is the checkpoint's model.
const AUXILIARY: &str = "weights.auxiliary";
/// The average of the weights that teaches.
const TEACHER: &str = "weights.teacher";

/// The weights that training started from.
const START: &str = "weights.start";

/// Whether a checkpoint holds the best held-out loss so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Best,
    Later,
}

/// Hands the state to the operating system as the checkpoint of its step. It may change when this
/// returns; [`make_safe`] does the rest.
pub fn stage(run: &RunDir, setup: &Setup, state: &State) -> Result<Staged, RecordError> {
    let model = &setup.model;
    let weights = state.weights(state.progress.favored);
    checkpoint::stage(run, state.progress.step, &mut |staging| {
        write_texts(staging, setup)?;
        // The larger one first: each of two threads takes one.
        let (state_file, model_file) = (state_entries(model, state), model_entries(model, weights));
        let (progress, format) = (metadata(&state.progress), hugging_face_format());
        staging.write_large(vec![
            LargeFile {
                name: STATE_FILE,
                body: Box::new(|out| write_safetensors(out, &state_file, &progress)),
            },
            LargeFile {
                name: MODEL_FILE,
                body: Box::new(|out| write_safetensors(out, &model_file, &format)),
            },
        ])
    })
}

/// Puts a staged checkpoint on the disk and in its place, points to it, and deletes all but the
/// newest `keep`. Needs nothing of the run: any thread will do.
pub fn make_safe(
    run: &RunDir,
    staged: Staged,
    standing: Standing,
    keep: usize,
) -> Result<Checkpoint, RecordError> {
    let checkpoint = staged.commit()?;
    checkpoint::point(run, &checkpoint, Pointer::Last)?;
    if standing == Standing::Best {
        checkpoint::point(run, &checkpoint, Pointer::Best)?;
    }
    checkpoint::prune(run, keep)?;
    Ok(checkpoint)
}

/// Whether every weight is a number: nothing else may be saved.
pub fn is_sound(device: &Device, state: &State) -> bool {
    !state.sets().iter().any(|set| reduce::has_non_finite(device, state.weights(*set)))
}

/// The small files of a Hugging Face folder.
fn write_texts(staging: &mut Staging, setup: &Setup) -> Result<(), RecordError> {
    let (model, tokenizer) = (&setup.model, setup.data.tokenizer());
    let special = SpecialTokens { pad: setup.task.pad(), ..special_tokens(tokenizer) };
    let json = |value: &serde_json::Value| {
        let mut text = serde_json::to_string_pretty(value).expect("plain data with string keys");
        text.push('\n');
        text
    };
    let mut config = config_json(&model.config, special);
    setup.task.describe(&mut config);
    let config = json(&config);
    let generation = json(&generation_config_json(&model.config, special));
    let tokenizer_config = tokenizer.config_json(model.config.context);
    let texts = [
        ("config.json", config.as_str()),
        ("generation_config.json", generation.as_str()),
        ("tokenizer.json", tokenizer.to_json()),
        ("tokenizer_config.json", tokenizer_config.as_str()),
    ];
    for (name, text) in texts {
        staging.write(name, |out| out.write_all(text.as_bytes()))?;
    }
    Ok(())
}

/// What `transformers` asks of a file of weights.
fn hugging_face_format() -> BTreeMap<String, String> {
    BTreeMap::from([("format".to_string(), "pt".to_string())])
}

/// Which ids have a role, for `config.json`.
pub fn special_tokens(tokenizer: &Tokenizer) -> SpecialTokens {
    // The end-of-text token stands before and after every document, so it also begins one.
    SpecialTokens { bos: tokenizer.eos(), eos: tokenizer.eos(), pad: None }
}

fn model_entries<'a>(model: &Model, weights: &'a [f32]) -> Vec<Entry<'a>> {
    tensors(model)
        .into_iter()
        .map(|plan| {
            let len: usize = plan.shape.iter().product();
            let data = &weights[plan.offset..plan.offset + len];
            let values = match plan.orientation {
                Orientation::AsIs => Values::F32(data),
                Orientation::Transposed => {
                    Values::F32Transposed { data, rows: plan.shape[1], cols: plan.shape[0] }
                }
            };
            Entry { name: plan.name, shape: plan.shape, values }
        })
        .collect()
}

fn set_name(set: Weights) -> String {
    match set {
        Weights::Raw => "weights.raw".into(),
        Weights::Average(index) => format!("weights.average.{index}"),
    }
}

fn kept_name(average: usize, number: usize) -> String {
    format!("weights.average.{average}.kept.{number}")
}

fn state_entries<'a>(model: &Model, state: &'a State) -> Vec<Entry<'a>> {
    let vector = |name: String, data| Entry {
        name,
        shape: vec![<[f32]>::len(data)],
        values: Values::F32(data),
    };
    let sets = state.sets().into_iter().filter(|set| *set != state.progress.favored);
    let mut entries: Vec<Entry<'_>> =
        sets.map(|set| vector(set_name(set), state.weights(set))).collect();
    for (index, average) in state.averages.iter().enumerate() {
        let kept = average.kept().iter().enumerate();
        entries.extend(kept.map(|(number, kept)| vector(kept_name(index, number), kept)));
    }
    // What the file of the model has no place for.
    let favored = state.weights(state.progress.favored);
    if favored.len() > model.exported_len() {
        entries.push(vector(AUXILIARY.into(), &favored[model.exported_len()..]));
    }
    if let Some(teacher) = &state.teacher {
        entries.push(vector(TEACHER.into(), teacher.weights()));
    }
    // What `model.from` names may be gone or another one when the run goes on.
    if !state.start.is_empty() {
        entries.push(vector(START.into(), &state.start));
    }
    let optimizer = state.optimizer.state().into_iter();
    entries.extend(optimizer.map(|(name, data)| vector(format!("optimizer.{name}"), data)));
    entries
}

fn metadata(progress: &Progress) -> BTreeMap<String, String> {
    let json = serde_json::to_string(progress).expect("plain data with string keys");
    BTreeMap::from([(PROGRESS.to_string(), json)])
}

fn broken(path: &Path, problem: impl ToString) -> TrainError {
    TrainError::State { path: path.to_path_buf(), problem: problem.to_string() }
}

/// Puts a checkpoint's vectors into `state`, whose sizes are right already, and returns its small
/// numbers. The checkpoint must have been verified.
pub fn restore(
    checkpoint: &Checkpoint,
    model: &Model,
    state: &mut State,
) -> Result<Progress, TrainError> {
    let file = WeightFile::open(&checkpoint.folder.join(STATE_FILE))?;
    let path = file.path().to_path_buf();
    let json = file.metadata().get(PROGRESS).ok_or_else(|| broken(&path, "no progress in it"))?;
    let progress: Progress = serde_json::from_str(json)
        .map_err(|e| broken(&path, format!("its progress does not read: {e}")))?;
    if progress.averages.len() != state.averages.len() {
        return Err(broken(&path, "it has other averages than the recipe"));
    }
    for (index, counts) in progress.averages.iter().enumerate() {
        let weights = load_set(Weights::Average(index), checkpoint, &file, model, &progress)?;
        let kept = (0..counts.kept.len())
            .map(|number| Ok(file.read_f32(&kept_name(index, number))?.1))
            .collect::<Result<Vec<_>, TrainError>>()?;
        state.averages[index].restore(weights, kept, counts.clone())?;
    }
    match progress.favored {
        Weights::Raw => {
            state.parameters = load_set(Weights::Raw, checkpoint, &file, model, &progress)?;
        }
        _ => file.read_into(&set_name(Weights::Raw), &mut state.parameters)?,
    }
    match (&mut state.teacher, &progress.teacher) {
        (Some(teacher), Some(counts)) => {
            teacher.restore(file.read_f32(TEACHER)?.1, Vec::new(), counts.clone())?;
        }
        (None, None) => {}
        _ => return Err(broken(&path, "it has another teacher than the recipe")),
    }
    if !state.start.is_empty() {
        file.read_into(START, &mut state.start)?;
    }
    let mut failure = None;
    let restored = state.optimizer.restore(&mut |name| {
        let name = format!("optimizer.{name}");
        if !file.contains(&name) {
            return None;
        }
        file.read_f32(&name).map(|(_, values)| values).map_err(|e| failure = Some(e)).ok()
    });
    if let Some(error) = failure {
        return Err(error.into());
    }
    restored?;
    Ok(progress)
}

fn load_set(
    set: Weights,
    checkpoint: &Checkpoint,
    file: &WeightFile,
    model: &Model,
    progress: &Progress,
) -> Result<Vec<f32>, TrainError> {
    if set == progress.favored {
        let mut weights = read_model(&checkpoint.folder, model)?;
        if weights.len() > model.exported_len() {
            file.read_into(AUXILIARY, &mut weights[model.exported_len()..])?;
        }
        return Ok(weights);
    }
    Ok(file.read_f32(&set_name(set))?.1)
}

/// The weights of a Hugging Face folder in the model's layout; what only training needs is zero.
pub fn read_model(folder: &Path, model: &Model) -> Result<Vec<f32>, TrainError> {
    let file = WeightFile::open(folder)?;
    check_names(model, file.names())?;
    reading(&file, |_| true, |read| import(model, read))
}

/// As [`read_model`], for a model of which the folder may hold the body alone: a head that it
/// lacks, or that is of other labels, keeps its values from `drawn`.
pub fn read_body(
    folder: &Path,
    model: &Model,
    drawn: Vec<f32>,
    labels: Labels,
) -> Result<Imported, TrainError> {
    let file = WeightFile::open(folder)?;
    check_names(model, file.names())?;
    let is_wanted = |name: &str| labels == Labels::Same || !is_of_head(name);
    reading(&file, is_wanted, |read| import_body(model, drawn, read))
}

/// Whether the labels of a head are those that it will be trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    Same,
    Other,
}

/// Lets `import` read the tensors that are wanted; a file that cannot be read is the first error.
fn reading<T>(
    file: &WeightFile,
    is_wanted: impl Fn(&str) -> bool,
    import: impl FnOnce(&mut dyn FnMut(&str) -> Option<FileTensor>) -> Result<T, ModelError>,
) -> Result<T, TrainError> {
    let mut failure = None;
    let found = import(&mut |name| {
        if !is_wanted(name) || !file.contains(name) {
            return None;
        }
        file.read_f32(name).map_err(|e| failure = Some(e)).ok()
    });
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(found?),
    }
}

/// Copies the model of a checkpoint to `model/`, the run's result, replacing an older one.
pub fn export_result(run: &RunDir, checkpoint: &Checkpoint) -> Result<(), TrainError> {
    use heldout_base::durable::{Naming, commit_folder};
    let end = run.model();
    let staged = run.root.join(".model.staged");
    let old = run.root.join(".model.old");
    for folder in [&staged, &old] {
        if folder.exists() {
            std::fs::remove_dir_all(folder).naming("remove", folder).map_err(RecordError::from)?;
        }
    }
    std::fs::create_dir(&staged).naming("create", &staged).map_err(RecordError::from)?;
    for name in RESULT_FILES {
        let from = checkpoint.folder.join(name);
        std::fs::copy(&from, staged.join(name)).naming("copy", &from).map_err(RecordError::from)?;
    }
    if end.exists() {
        std::fs::rename(&end, &old).naming("move away", &end).map_err(RecordError::from)?;
    }
    commit_folder(&staged, &end).map_err(RecordError::from)?;
    if old.exists() {
        std::fs::remove_dir_all(&old).naming("remove", &old).map_err(RecordError::from)?;
    }
    Ok(())
}

/// What makes up a Hugging Face folder.
const RESULT_FILES: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    MODEL_FILE,
];
