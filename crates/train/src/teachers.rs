//! Teachers: trained models whose predictions are learned beside the targets, and an average of the
//! run's own weights in that role. Their hidden states are computed for every batch; their logits
//! exist chunk by chunk inside the loss alone.

use std::path::Path;
use std::sync::Arc;

use heldout_base::durable::sha256_file;
use heldout_data::tokenizer::Tokenizer;
use heldout_kernels::{Device, PassKind, Tape};
use heldout_model::{Head, Model, ModelConfig, Tokens};
use heldout_record::manifest::DataFile;
use heldout_record::{RecordError, weights::WeightFile};
use heldout_regularize::SettingError;
use heldout_regularize::live::TeacherMeasure;

use crate::checkpointing::read_model;
use crate::error::TrainError;
use crate::evaluation::loss_of;
use crate::session::{model_folder, read_config};
use crate::task::{Rows, Task};

/// A trained model that teaches.
pub struct Teacher {
    /// As the recipe names it.
    pub name: String,
    pub model: Model,
    pub weights: Vec<f32>,
    /// Its file (or files) of weights, for the manifest.
    pub files: Vec<DataFile>,
}

/// Role of a teacher's weights in the manifest.
pub const ROLE: &str = "teacher";

/// Whether the model in folder `name` can teach one with this tokenizer and context.
///
/// # Errors
/// [`SettingError::Unusable`] at the teacher, with what to do; or a folder that cannot be read.
pub fn check(
    name: &str,
    tokenizer: &Tokenizer,
    context: usize,
    head: Head,
) -> Result<ModelConfig, TrainError> {
    let folder = model_folder(Path::new(name))?;
    let config = read_config(&folder)?;
    config.require_causal()?;
    let own = Tokenizer::load(&folder.join("tokenizer.json"))?;
    let unusable = |reason: String, remedy: String| {
        let (technique, knob) = ("distillation".to_owned(), "teacher".to_owned());
        TrainError::from(SettingError::Unusable { technique, knob, reason, remedy })
    };
    let expected = tokenizer.vocabulary_size();
    if let Some(difference) = difference(&own, tokenizer, "the run's") {
        let reason = format!("{name} has another tokenizer: {difference}");
        let remedy = format!("set data.tokenizer = {name:?} to take the teacher's");
        return Err(unusable(reason, remedy));
    }
    if config.vocabulary < expected {
        let reason = format!("{name} predicts {} of {expected} tokens", config.vocabulary);
        return Err(unusable(reason, "name a teacher that was trained with it".into()));
    }
    if config.head != head {
        let reason = format!("{name} predicts something else: its head is {:?}", config.head);
        let remedy = "name a teacher that was trained on the same task".into();
        return Err(unusable(reason, remedy));
    }
    if config.context < context {
        let reason = format!("{name} reads {} tokens at once, the run {context}", config.context);
        let remedy = format!("set model.context = {}, or name another teacher", config.context);
        return Err(unusable(reason, remedy));
    }
    Ok(config)
}

/// In which way a tokenizer is not `expected`, which is called `whose`; `None` where they agree.
pub fn difference(own: &Tokenizer, expected: &Tokenizer, whose: &str) -> Option<String> {
    let (found, wanted) = (own.vocabulary_size(), expected.vocabulary_size());
    if found != wanted {
        return Some(format!("it has {found} tokens, {whose} {wanted}"));
    }
    let token = |tokenizer: &Tokenizer, id: u32| tokenizer.decode(&[id]);
    let id = (0..wanted as u32).find(|id| token(own, *id) != token(expected, *id))?;
    let (theirs, ours) = (token(own, id), token(expected, id));
    Some(format!("its token {id} is {theirs:?}, {whose} {ours:?}"))
}

impl Teacher {
    /// Opens a teacher that has been checked.
    pub fn open(name: &str) -> Result<Teacher, TrainError> {
        let folder = model_folder(Path::new(name))?;
        let model = Model::new(read_config(&folder)?)?;
        let weights = read_model(&folder, &model)?;
        let file = WeightFile::open(&folder)?;
        let files = file.files().iter().map(|path| {
            let bytes = std::fs::metadata(path).map_or(0, |found| found.len());
            let hash = sha256_file(path).map_err(RecordError::from)?;
            let (role, path) = (ROLE.into(), path.display().to_string());
            Ok(DataFile { role, path, bytes, hash: format!("sha256:{hash}") })
        });
        let files = files.collect::<Result<_, RecordError>>()?;
        Ok(Teacher { name: name.to_owned(), model, weights, files })
    }
}

/// A model and the weights with which it teaches at present.
pub type Lecturer<'a> = (&'a Model, &'a [f32]);

/// Where teachers are heard.
pub struct Lectern {
    /// Of their own, since the model's is in use when their results are.
    tape: Tape,
    said: Vec<Vec<f32>>,
}

impl Lectern {
    pub fn new(device: Arc<Device>) -> Lectern {
        Lectern { tape: Tape::new(device), said: Vec::new() }
    }

    /// What every teacher says about some sequences, in evaluation.
    pub fn listen(&mut self, task: &dyn Task, teachers: &[Lecturer], rows: Rows) -> &[Vec<f32>] {
        self.said.resize_with(teachers.len(), Vec::new);
        for (teacher, said) in teachers.iter().zip(&mut self.said) {
            let mut pass = self.tape.pass(teacher.1, PassKind::Evaluate);
            task.listen(*teacher, &mut pass, rows, said);
        }
        &self.said
    }
}

/// How teachers and the model do on a batch before the first step.
pub fn measure(
    teachers: &[Teacher],
    model: Lecturer,
    tokens: Tokens,
    device: &Arc<Device>,
) -> Vec<TeacherMeasure> {
    let mut tape = Tape::new(device.clone());
    let mut loss = |(model, weights): Lecturer| loss_of(model, &mut tape, weights, tokens);
    let loss_model = if teachers.is_empty() { 0.0 } else { loss(model) };
    let of = |teacher: &Teacher| TeacherMeasure {
        name: teacher.name.clone(),
        parameters: teacher.weights.len() as u64,
        loss: loss((&teacher.model, &teacher.weights)),
        loss_model,
    };
    teachers.iter().map(of).collect()
}
