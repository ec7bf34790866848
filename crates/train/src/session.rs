//! Opens a trained model for use: a run, a checkpoint, or any Hugging Face folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use heldout_data::tokenizer::Tokenizer;
use heldout_kernels::{Device, Tape};
use heldout_model::huggingface::{labels, parse_config};
use heldout_model::{Model, ModelConfig};
use serde_json::Value;

use crate::checkpointing::read_model;
use crate::error::TrainError;

/// A model with weights and tokenizer, ready to evaluate or generate.
pub struct Session {
    /// The folder that the files came from.
    pub folder: PathBuf,
    pub model: Model,
    pub weights: Vec<f32>,
    pub tokenizer: Tokenizer,
    pub tape: Tape,
}

impl Session {
    /// Opens a run (its result), a checkpoint, or a folder with `config.json`,
    /// `model.safetensors` and `tokenizer.json`.
    pub fn open(path: &Path, device: Arc<Device>) -> Result<Session, TrainError> {
        let folder = model_folder(path)?;
        Session::of(folder, read_config(path)?, device)
    }

    /// As [`Session::open`], for a language model.
    ///
    /// # Errors
    /// Where the model is none, with what can be done with it.
    pub fn open_language_model(path: &Path, device: Arc<Device>) -> Result<Session, TrainError> {
        let (folder, config) = (model_folder(path)?, read_config(path)?);
        config.require_causal()?;
        if !config.head.is_language_model() {
            let problem = "this model labels texts and writes none: `heldout predict` uses it, \
                           `heldout evaluate` scores it";
            return Err(TrainError::Folder { path: folder, problem: problem.into() });
        }
        Session::of(folder, config, device)
    }

    fn of(
        folder: PathBuf,
        config: ModelConfig,
        device: Arc<Device>,
    ) -> Result<Session, TrainError> {
        let model = Model::new(config)?;
        let weights = read_model(&folder, &model)?;
        let tokenizer = Tokenizer::load(&folder.join("tokenizer.json"))?;
        let (found, expected) = (tokenizer.vocabulary_size(), model.config.vocabulary);
        if found > expected {
            let problem = format!(
                "the tokenizer has {found} tokens and the model {expected}: \
                 the two files do not belong together"
            );
            return Err(TrainError::Folder { path: folder, problem });
        }
        Ok(Session { folder, model, weights, tokenizer, tape: Tape::new(device) })
    }
}

/// The Hugging Face folder behind a path: a run's `model/`, or `best` while it is still training.
pub fn model_folder(path: &Path) -> Result<PathBuf, TrainError> {
    let candidates = [path.to_path_buf(), path.join("model"), path.join("best"), path.join("last")];
    let found = candidates.into_iter().find(|folder| folder.join("config.json").is_file());
    found.ok_or_else(|| {
        let problem = if !path.exists() {
            "no such folder: give a run, a checkpoint, or a Hugging Face folder"
        } else if path.join("checkpoints").is_dir() {
            "this run has no checkpoint yet"
        } else {
            "no config.json in it: give a run, a checkpoint, or a Hugging Face folder"
        };
        TrainError::Folder { path: path.to_path_buf(), problem: problem.into() }
    })
}

/// The configuration of a model folder or run.
pub fn read_config(path: &Path) -> Result<ModelConfig, TrainError> {
    Ok(parse_config(&read_json(path)?)?)
}

/// The names of a model's labels, in the order of their numbers, where it has any.
pub fn label_names(path: &Path) -> Result<Option<Vec<String>>, TrainError> {
    let json = read_json(path)?;
    match json.as_object() {
        Some(object) => Ok(labels::read(object)?),
        None => Ok(None),
    }
}

/// The whole config.json of a model folder or run.
pub(crate) fn read_json(path: &Path) -> Result<Value, TrainError> {
    let file = model_folder(path)?.join("config.json");
    let broken = |problem: String| TrainError::Folder { path: file.clone(), problem };
    let text = std::fs::read(&file).map_err(|e| broken(format!("cannot be read: {e}")))?;
    serde_json::from_slice(&text).map_err(|e| broken(format!("is not JSON: {e}")))
}
