//! A trained classifier in use: scored on labelled texts beside simple methods, and put to work.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use heldout_data::labelled::{
    EncodedExamples, Encoder, FieldNames, LabelledData, LabelledEvaluation, LabelledExample,
    LineReader, Place, SpecialTokens, TextRecord, for_each_text, read_labelled,
};
use heldout_data::{DataError, IGNORE};
use heldout_kernels::Device;
use heldout_measure::calibration::CalibrationError;
use heldout_measure::classification::{Confused, Confusion, Score};
use heldout_measure::probabilities::Probabilities;
use heldout_measure::{Measured, Metric, Resampling, compare, measure};
use heldout_model::Head;
use heldout_model::huggingface::labels::numbered;
use heldout_record::RunDir;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::bag::Bag;
use crate::error::TrainError;
use crate::evaluate::Split;
use crate::job::{labelled_spec, resolved_data, rows_at_once};
use crate::recipe::{self, Recipe, TaskKind};
use crate::session::{Session, label_names};
use crate::task::{Predictions, SCORES, predictions, shortness};

/// A classifier with its labels, ready to use.
pub struct Classifier {
    session: Session,
    /// In the order of their numbers.
    pub labels: Vec<String>,
    encoder: Encoder,
}

/// A score with its bootstrap interval over texts.
#[derive(Clone, Debug, Serialize)]
pub struct Estimate {
    pub name: String,
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// How one label is told from the others.
#[derive(Clone, Debug, Serialize)]
pub struct ClassEvaluation {
    pub label: String,
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    /// Texts that have it.
    pub support: u64,
}

/// A text that the model is surely wrong about.
#[derive(Clone, Debug, Serialize)]
pub struct Mistake {
    /// Its line in its file.
    pub line: u64,
    pub text: String,
    /// The right label.
    pub label: String,
    /// What the model said.
    pub said: String,
    /// What it gave the right label.
    pub probability: f64,
}

/// A simple method on the same texts.
#[derive(Clone, Debug, Serialize)]
pub struct BesideLabels {
    pub name: String,
    pub accuracy: f64,
    /// Accuracy by which the network is better, with its paired bootstrap interval.
    pub better: f64,
    pub low: f64,
    pub high: f64,
}

/// What a classifier reaches on labelled texts.
#[derive(Clone, Debug, Serialize)]
pub struct LabelEvaluation {
    /// What was scored, in words.
    pub data: String,
    pub examples: u64,
    /// Nats per text.
    pub loss: f64,
    pub loss_se: f64,
    /// Accuracy first.
    pub metrics: Vec<Estimate>,
    pub labels: Vec<String>,
    /// Rows by right label, columns by what was said.
    pub confusion: Vec<Vec<u64>>,
    pub classes: Vec<ClassEvaluation>,
    pub most_wrong: Vec<Mistake>,
    /// Simple methods; empty where the run's training texts cannot be read.
    pub baselines: Vec<BesideLabels>,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baselines_missing: Option<String>,
}

/// What the model says about a text.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// The record as it was read.
    pub record: Map<String, Value>,
    /// The likeliest label.
    pub label: String,
    /// Of every label, in the order of their numbers.
    pub probabilities: Vec<f64>,
}

/// Texts that are told as most wrong.
const MISTAKES: usize = 10;
/// Texts read before they are labelled together, alike in length.
const CHUNK: usize = 1024;
/// Lengths are rounded up to a multiple of this, so that few shapes occur.
const MULTIPLE: usize = 8;

/// Scores the classifier at `path` on a split of its own run, or on labelled files.
pub fn evaluate_labels(
    path: &Path,
    which: Result<Split, (&[String], &FieldNames)>,
    device: Arc<Device>,
) -> Result<LabelEvaluation, TrainError> {
    let mut classifier = Classifier::open(path, device)?;
    let own = RunDir::open(path).map_err(TrainError::from).and_then(|run| own_data(&run));
    let (words, examples, own) = match which {
        Ok(split) => {
            let own = own?;
            let words = format!("the {} split of {}", split.word(), path.display());
            (words, own.split(split, path)?.to_vec(), Ok(own))
        }
        Err((files, fields)) => {
            (files.join(", "), labelled_texts(files, fields, &classifier.labels)?, own)
        }
    };
    let found = classifier.predictions(&examples)?;
    let mut evaluation = classifier.evaluation(words, &examples, &found)?;
    match own {
        Ok(own) => {
            evaluation.baselines = own.beside(&examples, &found.classes(), &classifier.labels)?;
        }
        Err(error) => evaluation.baselines_missing = Some(error.to_string()),
    }
    Ok(evaluation)
}

/// Mean loss of a run's classifier on one of its splits, nats per text, with its standard error.
///
/// # Errors
/// As [`evaluate_labels`].
pub fn split_loss(
    path: &Path,
    split: Split,
    device: Arc<Device>,
) -> Result<(f64, f64), TrainError> {
    let own = own_data(&RunDir::open(path)?)?;
    let mut classifier = Classifier::open(path, device)?;
    let score = classifier.predictions(own.split(split, path)?)?.score();
    Ok((score.loss, score.se))
}

/// A run's labelled texts, and the seed of the run.
struct Own {
    data: LabelledData,
    seed: u64,
}

fn own_data(run: &RunDir) -> Result<Own, TrainError> {
    let draft = Recipe::read(&run.recipe())?.draft()?;
    let (recipe, seed) = resolved_data(&draft)?;
    if recipe.task != TaskKind::Classification {
        let problem = "the run learned no labels".into();
        return Err(TrainError::Folder { path: run.root.clone(), problem });
    }
    let longest = recipe::longest_example(&draft, None);
    let data = read_labelled(&labelled_spec(&recipe, seed, longest)?)?;
    let seed = draft.run.seed.map_or(recipe::defaults::SEED, |seed| seed.value);
    Ok(Own { data, seed })
}

impl Own {
    fn split(&self, split: Split, path: &Path) -> Result<&[LabelledExample], TrainError> {
        match split {
            Split::Train => Ok(&self.data.train),
            Split::Validation => Ok(&self.data.validation),
            Split::Test if self.data.test.is_empty() => {
                let problem = "the run's recipe sets no test split aside".into();
                Err(TrainError::Folder { path: path.to_path_buf(), problem })
            }
            Split::Test => Ok(&self.data.test),
        }
    }

    /// Simple methods on the same texts, each trained anew on the run's own.
    fn beside(
        &self,
        examples: &[LabelledExample],
        network: &[u32],
        labels: &[String],
    ) -> Result<Vec<BesideLabels>, TrainError> {
        if self.data.labels.names != labels {
            return Ok(Vec::new());
        }
        let right: Vec<u32> = examples.iter().map(|example| example.label).collect();
        let (commonest, _) = majority(&self.data);
        let always = vec![commonest; examples.len()];
        let mut all = vec![(format!("always {:?}", labels[commonest as usize]), always)];
        if let Some(bag) = Bag::train(&self.data, self.seed, &|| true) {
            let said = |example: &LabelledExample| bag.says(example);
            all.push(("bag of words".into(), examples.iter().map(said).collect()));
        }
        let accuracy = |said: &[u32]| Confused::new(said, &right, labels.len(), Score::Accuracy);
        let network = accuracy(network)?;
        all.into_iter()
            .map(|(name, said)| {
                let own = accuracy(&said)?;
                let difference = compare(&network, &own, &Resampling::default())?;
                let (low, high) = (difference.interval.low, difference.interval.high);
                let (accuracy, better) =
                    (heldout_measure::resample::value(&own), difference.difference);
                Ok(BesideLabels { name, accuracy, better, low, high })
            })
            .collect()
    }
}

/// The commonest label of training, and how many texts have it.
fn majority(data: &LabelledData) -> (u32, u64) {
    let mut counts = vec![0u64; data.labels.len()];
    data.train.iter().for_each(|example| counts[example.label as usize] += 1);
    let first = heldout_measure::calibration::likeliest(&counts);
    (first, counts[first as usize])
}

/// Reads files whose records have labels that the model knows.
fn labelled_texts(
    files: &[String],
    fields: &FieldNames,
    labels: &[String],
) -> Result<Vec<LabelledExample>, TrainError> {
    let (mut examples, mut problem) = (Vec::new(), None);
    // `predict` needs no label, so that none is looked for without a name.
    let named =
        FieldNames { label: fields.label.clone().or(Some("label".into())), ..fields.clone() };
    for_each_text(files, &named, &mut |record: TextRecord| {
        let number = record.label.as_ref().and_then(|l| labels.iter().position(|n| n == l));
        match number {
            Some(number) => examples.push(LabelledExample {
                text: record.text,
                pair: record.pair,
                label: number as u32,
                place: Place { input: 0, line: record.line },
            }),
            None if problem.is_none() => problem = Some((record.line, record.label)),
            None => {}
        }
        Ok(())
    })?;
    match problem {
        None => Ok(examples),
        Some((line, found)) => {
            let (files, known) = (files.join(", "), labels.join(", "));
            let field = named.label.unwrap_or_default();
            Err(TrainError::Label { files, line, field, found, known })
        }
    }
}

impl Classifier {
    /// Opens a run (its result), a checkpoint, or a Hugging Face folder of a classifier.
    pub fn open(path: &Path, device: Arc<Device>) -> Result<Classifier, TrainError> {
        let session = Session::open(path, device)?;
        let Head::Classification { labels } = session.model.config.head else {
            let problem = "this model knows no labels: give it some with `heldout finetune MODEL \
                           DATA --task classify`";
            let path = session.folder;
            return Err(TrainError::Folder { path, problem: problem.into() });
        };
        let labels = label_names(&session.folder)?.unwrap_or_else(|| numbered(labels));
        let context = session.model.config.context;
        let trained = RunDir::open(path).ok().and_then(|run| {
            let draft = Recipe::read(&run.recipe()).and_then(|recipe| recipe.draft()).ok()?;
            Some(draft.model.context?.value as usize)
        });
        let longest = trained.unwrap_or(context).min(context);
        let encoder = Encoder::new(session.tokenizer.clone(), SpecialTokens::Causal, longest)?;
        Ok(Classifier { session, labels, encoder })
    }

    /// What it says about texts, in their order.
    pub fn predictions(&mut self, examples: &[LabelledExample]) -> Result<Predictions, TrainError> {
        let encoded = examples.iter().map(|example| {
            let text = self.encoder.encode(&example.text, example.pair.as_deref())?;
            Ok((text, example.label))
        });
        let encoded: Vec<_> = encoded.collect::<Result<_, DataError>>()?;
        let tokens: usize = encoded.iter().map(|(text, _)| text.ids.len()).sum();
        let length_mean = tokens as f64 / encoded.len().max(1) as f64;
        let encoded = Arc::new(EncodedExamples::collect(encoded));
        let batches = LabelledEvaluation::whole(&encoded, MULTIPLE, self.encoder.pad());
        let longest = self.encoder.max_length();
        let rows = rows_at_once(longest) * shortness(longest, length_mean);
        let Session { model, weights, tape, .. } = &mut self.session;
        Ok(predictions(model, tape, weights, batches.batches(rows)).in_order())
    }

    /// Labels the texts of some files, one after another.
    pub fn predict_files(
        &mut self,
        files: &[String],
        fields: &FieldNames,
        tell: &mut dyn FnMut(Prediction) -> ControlFlow<()>,
    ) -> Result<(), TrainError> {
        let mut waiting: Vec<TextRecord> = Vec::new();
        let mut ended: Result<ControlFlow<()>, TrainError> = Ok(ControlFlow::Continue(()));
        for_each_text(files, fields, &mut |record| {
            if !matches!(ended, Ok(ControlFlow::Continue(()))) {
                return Ok(());
            }
            waiting.push(record);
            if waiting.len() == CHUNK {
                ended = self.tell(std::mem::take(&mut waiting), tell);
            }
            Ok(())
        })?;
        if ended?.is_continue() {
            // Nobody is left to be told to stop.
            let _ = self.tell(waiting, tell)?;
        }
        Ok(())
    }

    /// Labels lines as they come: each is a text, or a record in JSON where the first one is. What
    /// waits is labelled together; nothing waits for more to come.
    ///
    /// # Errors
    /// A line that is no text, or no record where records are expected, with its number.
    pub fn predict_lines(
        &mut self,
        lines: Receiver<io::Result<String>>,
        fields: &FieldNames,
        tell: &mut dyn FnMut(Prediction) -> ControlFlow<()>,
    ) -> Result<(), TrainError> {
        let mut reader = LineReader::new(fields);
        while let Ok(first) = lines.recv() {
            let waiting = std::iter::once(first).chain(lines.try_iter().take(CHUNK - 1));
            let (mut records, mut failed) = (Vec::new(), None);
            for line in waiting {
                match reader.read(line) {
                    Ok(record) => records.extend(record),
                    Err(error) => failed = failed.or(Some(error)),
                }
                if failed.is_some() {
                    break;
                }
            }
            // What came before a line that cannot be read still gets its answer.
            if self.tell(records, tell)?.is_break() {
                return Ok(());
            }
            if let Some(error) = failed {
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn tell(
        &mut self,
        records: Vec<TextRecord>,
        tell: &mut dyn FnMut(Prediction) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, TrainError> {
        if records.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let example = |record: &TextRecord| LabelledExample {
            text: record.text.clone(),
            pair: record.pair.clone(),
            label: IGNORE,
            place: Place { input: 0, line: record.line },
        };
        let examples: Vec<LabelledExample> = records.iter().map(example).collect();
        let found = self.predictions(&examples)?;
        let all = Probabilities::from_logits(&found.logits, self.labels.len())?;
        for ((record, class), row) in records.into_iter().zip(found.classes()).zip(all.rows()) {
            let label = self.labels[class as usize].clone();
            let prediction =
                Prediction { record: record.record, label, probabilities: row.to_vec() };
            if tell(prediction).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn evaluation(
        &self,
        data: String,
        examples: &[LabelledExample],
        found: &Predictions,
    ) -> Result<LabelEvaluation, TrainError> {
        let (labels, classes) = (&found.labels, self.labels.len());
        let said = found.classes();
        let confusion = Confusion::new(&said, labels, classes)?;
        let all = Probabilities::from_logits(&found.logits, classes)?;
        let score = found.score();
        let class = |(class, label): (usize, &String)| {
            let scores = confusion.class(class);
            ClassEvaluation {
                label: label.clone(),
                precision: scores.precision,
                recall: scores.recall,
                f1: scores.f1,
                support: scores.support,
            }
        };
        let mistakes = all.most_wrong(labels, MISTAKES)?.into_iter();
        let mistakes = mistakes.filter(|wrong| wrong.reference != wrong.prediction);
        Ok(LabelEvaluation {
            data,
            examples: labels.len() as u64,
            loss: score.loss,
            loss_se: score.se,
            metrics: estimates(&said, labels, &all)?,
            labels: self.labels.clone(),
            confusion: confusion.counts.chunks(classes).map(<[u64]>::to_vec).collect(),
            classes: self.labels.iter().enumerate().map(class).collect(),
            most_wrong: mistakes
                .map(|wrong| Mistake {
                    line: examples[wrong.index].place.line,
                    text: examples[wrong.index].text.clone(),
                    label: self.labels[wrong.reference as usize].clone(),
                    said: self.labels[wrong.prediction as usize].clone(),
                    probability: wrong.probability,
                })
                .collect(),
            baselines: Vec::new(),
            baselines_missing: None,
        })
    }
}

/// Every figure with its interval.
fn estimates(
    said: &[u32],
    labels: &[u32],
    all: &Probabilities,
) -> Result<Vec<Estimate>, TrainError> {
    let resampling = Resampling::default();
    let mut found = Vec::new();
    let mut add = |name: &str, metric: &dyn Metric| -> Result<(), TrainError> {
        let Measured { value, interval, .. } = measure(metric, &resampling)?;
        let (low, high) = (interval.low, interval.high);
        found.push(Estimate { name: name.to_owned(), value, low, high });
        Ok(())
    };
    for (metric, score) in SCORES {
        add(metric.word(), &Confused::new(said, labels, all.classes(), score)?)?;
    }
    // Not defined where all texts have one label.
    if let Ok(auroc) = all.auroc(labels) {
        add("auroc", &auroc)?;
    }
    add("ece", &CalibrationError { judged: all.judged(labels)? })?;
    Ok(found)
}
