//! Starts a run, or one that goes on, and brings it to its end whatever that is.

use std::path::{Path, PathBuf};

use heldout_data::Progress as Preparing;
use heldout_kernels::Activations;
use heldout_model::Head;
use heldout_model::huggingface::Imported;
use heldout_record::checkpoint::{self, Checkpoint};
use heldout_record::manifest::DataFile;
use heldout_record::{Event, Manifest, RunDir, RunLock, Started, StopReason, Stopped};
use heldout_regularize::live::RedrawnMeasure;
use heldout_regularize::plan::Redrawn;

use crate::baseline::Baseline;
use crate::checkpointing::{self, Labels, Standing};
use crate::control::{Control, Observer};
use crate::error::TrainError;
use crate::evaluation::bits_per_byte;
use crate::horizon::Horizon;
use crate::job::{Job, Setup, prepare_job};
use crate::meter::Part;
use crate::recipe::{Recipe, to_toml};
use crate::recorder::Recorder;
use crate::run::Run;
use crate::session;
use crate::state::{Best, Ending, State};
use crate::task::{Corpus, Sample};
use crate::teachers;

/// How a run ended and what it reached.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub reason: StopReason,
    /// The reason in one sentence.
    pub detail: String,
    /// Steps taken.
    pub step: u64,
    /// The best held-out loss, over the windows that the recipe evaluates.
    pub best: Option<Best>,
    /// The result's loss over the whole held-out split with its standard error, where the
    /// evaluations saw a sample of it.
    pub whole_split: Option<(f64, f64)>,
    /// Training time in seconds, stops not counted.
    pub seconds: f64,
}

/// Trains a job into a new run folder. `command_line` goes into the manifest.
pub fn train(
    job: Job,
    run: RunDir,
    command_line: Vec<String>,
    observer: &mut dyn Observer,
    control: &Control,
) -> Result<Outcome, TrainError> {
    let lock = run.lock()?;
    let setup = Setup::new(job)?;
    write_papers(&run, &setup, command_line)?;
    // Before the weights, so that not both take memory at once, and before the clock starts.
    let baseline = Baseline::make(&setup, control)?;
    let FirstWeights { parameters, fresh, redrawn } = first_weights(&setup)?;
    let state = State::fresh(&setup, parameters);
    let mut recorder = Recorder::create(&run, observer)?;
    recorder.text("recipe", 0, &format!("```toml\n{}```", to_toml(&setup.recipe)))?;
    let mut run = Run::new(setup, state, run, recorder, control)?;
    run.receipts.note_redrawn(redrawn);
    run.announce_start(None)?;
    run.write_notices()?;
    if let Some(text) = fresh_notice(&fresh) {
        run.recorder.notice(None, text)?;
    }
    baseline.record(&mut run.recorder)?;
    run.write_receipts()?;
    run.go(lock)
}

/// Goes on from a run's last whole checkpoint, or from the start if it has none. `cache` is where
/// prepared data lies.
pub fn resume(
    run: RunDir,
    cache: &Path,
    preparing: &mut dyn FnMut(Preparing),
    observer: &mut dyn Observer,
    control: &Control,
) -> Result<Outcome, TrainError> {
    let lock = run.lock()?;
    checkpoint::clean_staging(&run)?;
    let recipe = Recipe::read(&run.recipe())?;
    let setup = Setup::new(prepare_job(&recipe, cache, preparing)?)?;
    note_resume(&run, &setup)?;
    let FirstWeights { parameters, redrawn, .. } = first_weights(&setup)?;
    let mut state = State::fresh(&setup, parameters);
    let (found, warnings) = match checkpoint::load_last(&run) {
        Ok((found, warnings)) => (Some(found), warnings),
        Err(heldout_record::RecordError::NoCheckpoint { skipped, .. }) => (None, skipped),
        Err(error) => return Err(error.into()),
    };
    if let Some(found) = &found {
        state.progress = checkpointing::restore(found, &setup.model, &mut state)?;
    }
    let step = state.progress.step;
    let recorder = Recorder::resume(&run, step, observer)?;
    let baseline = missing_baseline(&run, step, &setup, control)?;
    let mut run = Run::new(setup, state, run, recorder, control)?;
    run.receipts.note_redrawn(redrawn);
    run.saved = found.as_ref().map(|_| step);
    for warning in warnings {
        run.recorder.notice(Some(step), warning)?;
    }
    run.mend_best()?;
    run.announce_start(Some(step))?;
    baseline.record(&mut run.recorder)?;
    if found.is_none() {
        run.recorder
            .notice(Some(0), "there is no checkpoint: the run starts from the beginning")?;
        run.write_receipts()?;
    }
    run.go(lock)
}

/// The baseline of a run that was stopped before it had one; otherwise it is in the record.
fn missing_baseline(
    run: &RunDir,
    step: u64,
    setup: &Setup,
    control: &Control,
) -> Result<Baseline, TrainError> {
    let is_made = |event: &Event| {
        use Event::{AnswerBaseline, Baseline, LabelBaseline, TextBaseline};
        matches!(event, Baseline(_) | LabelBaseline(_) | AnswerBaseline(_) | TextBaseline(_))
    };
    if step > 0 || heldout_record::read_metrics(&run.metrics())?.iter().any(is_made) {
        return Ok(Baseline::Absent);
    }
    Baseline::make(setup, control)
}

/// What training starts from.
pub(crate) struct FirstWeights {
    pub parameters: Vec<f32>,
    /// Tensors of a head that an imported model lacks, which were drawn anew.
    pub fresh: Vec<String>,
    /// What the plan had drawn anew.
    pub redrawn: Option<RedrawnMeasure>,
}

/// Random weights by the seed, or those that the recipe names, of which the plan may want some
/// drawn anew.
pub(crate) fn first_weights(setup: &Setup) -> Result<FirstWeights, TrainError> {
    let drawn = || setup.model.initialize(setup.recipe.run.seed);
    let Some(folder) = &setup.recipe.model.from else {
        return Ok(FirstWeights { parameters: drawn(), fresh: Vec::new(), redrawn: None });
    };
    let (mut parameters, fresh) = imported(setup, folder, &drawn)?;
    let plan = setup.plan.plan();
    let redrawn = plan.redrawn.as_ref().map(|r| redraw(setup, r.value, &mut parameters, &drawn()));
    Ok(FirstWeights { parameters, fresh, redrawn })
}

/// Puts random weights where the plan wants them; what that did.
fn redraw(
    setup: &Setup,
    redrawn: Redrawn,
    parameters: &mut [f32],
    drawn: &[f32],
) -> RedrawnMeasure {
    let mut measure = RedrawnMeasure { parameters: 0, tensors: 0, distance: 0.0 };
    let (mut moved, mut size) = (0.0, 0.0);
    let layout = setup.model.layout();
    for parameter in layout.parameters.iter().filter(|p| redrawn.covers(p, layout)) {
        for (weight, new) in parameters[parameter.range()].iter_mut().zip(&drawn[parameter.range()])
        {
            moved += f64::from(new - *weight).powi(2);
            size += f64::from(*weight).powi(2);
            *weight = *new;
        }
        measure.parameters += parameter.range().len() as u64;
        measure.tensors += 1;
    }
    measure.distance = (moved / size.max(f64::MIN_POSITIVE)).sqrt();
    measure
}

/// A model's weights as the run wants them, and the tensors of a head that it lacks.
fn imported(
    setup: &Setup,
    folder: &str,
    drawn: &dyn Fn() -> Vec<f32>,
) -> Result<(Vec<f32>, Vec<String>), TrainError> {
    let folder = session::model_folder(Path::new(folder))?;
    // Encoders are often published without the head of masked tokens.
    if setup.model.config.head.is_language_model() && !setup.model.is_encoder() {
        let mut parameters = checkpointing::read_model(&folder, &setup.model)?;
        let exported = setup.model.exported_len();
        if parameters.len() > exported {
            parameters[exported..].copy_from_slice(&drawn()[exported..]);
        }
        return Ok((parameters, Vec::new()));
    }
    // A head knows its labels by their numbers alone; the ends of answers are always the same.
    let known = session::label_names(&folder)?;
    let same = setup.model.config.head == Head::Span
        || known.is_some_and(|known| known == setup.data.labels());
    let labels = if same { Labels::Same } else { Labels::Other };
    let Imported { weights, fresh } =
        checkpointing::read_body(&folder, &setup.model, drawn(), labels)?;
    Ok((weights, fresh))
}

fn fresh_notice(fresh: &[String]) -> Option<String> {
    if fresh.is_empty() {
        return None;
    }
    let names = fresh.join(", ");
    Some(format!("the model comes without a head for this task: {names} starts at random"))
}

/// The recipe as resolved, the plan, and the manifest.
fn write_papers(run: &RunDir, setup: &Setup, command_line: Vec<String>) -> Result<(), TrainError> {
    use heldout_base::durable::write_file;
    let recipe = to_toml(&setup.recipe);
    let failed = |e| TrainError::from(heldout_record::RecordError::from(e));
    write_file(&run.recipe(), |out| out.write_all(recipe.as_bytes())).map_err(failed)?;
    let plan = serde_json::to_string_pretty(setup.plan.plan()).expect("plain data");
    write_file(&run.plan(), |out| writeln!(out, "{plan}")).map_err(failed)?;
    let mut manifest = Manifest::new(command_line, setup.recipe.run.seed);
    describe_device(&mut manifest, setup);
    manifest.data = data_files(setup);
    manifest.plan = setup.plan.plan().describe();
    manifest.data.extend(setup.teachers.iter().flat_map(|teacher| teacher.files.clone()));
    manifest.write(&run.manifest())?;
    Ok(())
}

fn describe_device(manifest: &mut Manifest, setup: &Setup) {
    manifest.device = setup.device.describe();
    manifest.precision = setup.recipe.run.precision.clone();
    manifest.threads = setup.device.threads() as u64;
}

/// Role of the manifest's entry that stands for all inputs together.
const CONTENT: &str = "content";

fn data_files(setup: &Setup) -> Vec<DataFile> {
    let facts = setup.data.facts();
    let file = |f: &heldout_data::InputFact| DataFile {
        role: "input".into(),
        path: f.path.clone(),
        bytes: f.bytes,
        hash: format!("sha256:{}", f.sha256),
    };
    let mut files: Vec<DataFile> = facts.inputs().iter().map(file).collect();
    files.push(DataFile {
        role: CONTENT.into(),
        path: facts.reading().join("; "),
        bytes: facts.inputs().iter().map(|f| f.bytes).sum(),
        hash: format!("sha256:{}", facts.content_hash()),
    });
    files
}

/// Refuses data that changed since the run began, and notes the new start.
fn note_resume(run: &RunDir, setup: &Setup) -> Result<(), TrainError> {
    // A manifest is a record, not a need: a run without one still goes on.
    let Ok(mut manifest) = Manifest::read(&run.manifest()) else { return Ok(()) };
    let found = format!("sha256:{}", setup.data.facts().content_hash());
    let expected = manifest.data.iter().find(|file| file.role == CONTENT);
    if let Some(expected) = expected
        && expected.hash != found
    {
        let expected = expected.hash.clone();
        return Err(TrainError::DataChanged { run: run.root.clone(), expected, found });
    }
    check_teachers(run, &manifest, setup)?;
    describe_device(&mut manifest, setup);
    manifest.resumed.push(heldout_record::manifest::now());
    manifest.write(&run.manifest())?;
    Ok(())
}

/// Refuses teachers whose weights are no longer those that the run began with.
fn check_teachers(run: &RunDir, manifest: &Manifest, setup: &Setup) -> Result<(), TrainError> {
    for file in setup.teachers.iter().flat_map(|teacher| &teacher.files) {
        let is_same = |known: &&DataFile| known.role == teachers::ROLE && known.path == file.path;
        if let Some(known) = manifest.data.iter().find(is_same)
            && known.hash != file.hash
        {
            let (found, expected) = (file.hash.clone(), known.hash.clone());
            let path = PathBuf::from(&file.path);
            return Err(TrainError::TeacherChanged {
                run: run.root.clone(),
                path,
                expected,
                found,
            });
        }
    }
    Ok(())
}

/// That activations are recomputed, with the reason.
fn memory_notice(setup: &Setup) -> Option<String> {
    if setup.recipe.run.memory == Activations::Keep {
        return None;
    }
    let why = setup.recipe.origins.get("run.memory").map(ToString::to_string).unwrap_or_default();
    Some(format!("activations are recomputed in the backward pass ({why})"))
}

impl Run<'_> {
    fn announce_start(&mut self, resumed_at: Option<u64>) -> Result<(), TrainError> {
        let setup = &self.setup;
        let config = &setup.model.config;
        let (tokens_train, tokens_valid) = setup.data.tokens();
        let family = match config.family {
            heldout_model::Family::Gpt2 => "gpt2",
            heldout_model::Family::Llama => "llama",
            heldout_model::Family::Bert => config.encoder.variant.name(),
            heldout_model::Family::Bart => "bart",
            heldout_model::Family::Marian => "marian",
        };
        let started = Started {
            run: self.folder.name(),
            model: format!(
                "{family}, {} layers, {} heads, {} wide, context {}",
                config.layers, config.heads, config.width, setup.recipe.model.context
            ),
            parameters: config.parameter_count() as u64,
            tokens_train,
            tokens_valid,
            vocabulary: config.vocabulary as u64,
            // Not known where time is the limit.
            horizon: match setup.horizon {
                Horizon::Steps(steps) => steps,
                Horizon::Seconds(_) => 0,
            },
            precision: setup.recipe.run.precision.clone(),
            device: setup.device.describe(),
            resumed_at,
            bytes_per_token: setup.bytes_per_token(),
            data: Some(setup.data.facts().record()),
            labels: setup.data.labels().to_vec(),
            loss_unit: setup.task.unit().into(),
            task: setup.recipe.data.task.word().into(),
        };
        self.recorder.event(Event::Started(started))
    }

    /// What was found out about the data, and what memory makes the run do.
    fn write_notices(&mut self) -> Result<(), TrainError> {
        let facts = self.setup.data.facts();
        let mut notices = facts.reading().to_vec();
        notices.extend(facts.notices().iter().cloned());
        notices.extend(memory_notice(&self.setup));
        for text in notices.into_iter().filter(|text| !text.is_empty()) {
            self.recorder.notice(None, text)?;
        }
        Ok(())
    }

    /// After a fall back to an older checkpoint `best` may lead to one that is damaged, or that
    /// this run has not reached yet: let it lead where the state says.
    fn mend_best(&mut self) -> Result<(), TrainError> {
        let Some(best) = self.state.progress.best else { return Ok(()) };
        let is_whole = |c: &Checkpoint| c.step == best.step && checkpoint::verify(c).is_ok();
        if checkpoint::load_best(&self.folder).is_ok_and(|found| found.step == best.step) {
            return Ok(());
        }
        let found = checkpoint::list(&self.folder)?.into_iter().find(is_whole);
        let step = Some(self.state.progress.step);
        match found {
            Some(found) => {
                checkpoint::point(&self.folder, &found, checkpoint::Pointer::Best)?;
                Ok(())
            }
            None => {
                self.state.progress.best = None;
                let text = format!(
                    "the best checkpoint (step {}) cannot be read any more; \
                     the next evaluation sets a new best",
                    best.step
                );
                self.recorder.notice(step, text)
            }
        }
    }

    /// Trains to the end; whatever goes wrong, says what is safe.
    fn go(mut self, _lock: RunLock) -> Result<Outcome, TrainError> {
        self.make_room();
        let ended = self.train().and_then(|ending| self.finish(ending));
        self.end_room();
        ended.map_err(|source| {
            let step = self.state.progress.step;
            // A checkpoint on its way may still arrive; the first error is the one to tell.
            let _ = self.settle();
            let saved = checkpoint::pointed(&self.folder, checkpoint::Pointer::Last);
            let stopped = Stopped {
                step,
                reason: StopReason::Failed,
                detail: source.to_string(),
                best_step: self.state.progress.best.map(|b| b.step),
                best_loss_valid: self.state.progress.best.map(|b| b.loss_valid),
                seconds: self.clock.seconds(),
            };
            self.recorder.last_words(Event::Stopped(stopped));
            let (checkpoint, run) = (saved.map(|c| c.step), self.folder.root.clone());
            TrainError::Lost { source: Box::new(source), step, checkpoint, run }
        })
    }

    /// The last evaluation, the last checkpoint, the result.
    fn finish(&mut self, ending: Ending) -> Result<Outcome, TrainError> {
        let is_complete = match ending.reason {
            StopReason::Horizon | StopReason::Time | StopReason::EarlyStopping => true,
            StopReason::Interrupted | StopReason::Diverged | StopReason::Failed => false,
        };
        if is_complete && self.state.progress.evaluated != Some(self.state.progress.step) {
            self.evaluate()?;
        }
        // Where a run diverged its weights are worth nothing; the last good checkpoint stays.
        if ending.reason != StopReason::Diverged {
            self.timed(Part::Checkpoint, |run| run.save(Standing::Later))?;
        }
        self.timed(Part::Checkpoint, Run::settle)?;
        let result = self.write_result()?;
        let whole_split = match &result {
            Some(checkpoint) if is_complete => self.score_whole_split(checkpoint)?,
            _ => None,
        };
        if is_complete {
            self.write_last_receipts()?;
            self.write_afterwards(result.as_ref())?;
        }
        self.record_timing()?;
        let progress = &self.state.progress;
        let best = progress.best;
        let seconds = self.clock.seconds();
        let stopped = Stopped {
            step: progress.step,
            reason: ending.reason,
            detail: ending.detail.clone(),
            best_step: best.map(|b| b.step),
            best_loss_valid: whole_split.map(|(loss, _)| loss).or(best.map(|b| b.loss_valid)),
            seconds,
        };
        let step = progress.step;
        self.recorder.event(Event::Stopped(stopped))?;
        self.recorder.sync()?;
        let Ending { reason, detail } = ending;
        Ok(Outcome { reason, detail, step, best, whole_split, seconds })
    }

    /// Writes `model/` from the best checkpoint; from the newest whole one, with a warning, where
    /// the best cannot be read.
    fn write_result(&mut self) -> Result<Option<Checkpoint>, TrainError> {
        let step = Some(self.state.progress.step);
        let problem = match checkpoint::load_best(&self.folder) {
            Ok(best) => {
                checkpointing::export_result(&self.folder, &best)?;
                return Ok(Some(best));
            }
            Err(problem) => problem,
        };
        let Ok((last, _)) = checkpoint::load_last(&self.folder) else {
            let text = "there is no result yet: no checkpoint had been written";
            self.recorder.notice(step, text)?;
            return Ok(None);
        };
        let text = match self.state.progress.best {
            None => {
                format!("nothing was evaluated yet: model/ holds the weights of step {}", last.step)
            }
            Some(_) => format!(
                "warning: the best checkpoint cannot be used ({problem}); \
                 model/ holds the weights of step {} instead",
                last.step
            ),
        };
        self.recorder.notice(step, text)?;
        checkpointing::export_result(&self.folder, &last)?;
        Ok(Some(last))
    }

    /// What the task tells of the result.
    fn write_afterwards(&mut self, result: Option<&Checkpoint>) -> Result<(), TrainError> {
        // A language model's is its loss; its weights need not be read again.
        let (Some(result), false) = (result, matches!(self.setup.data, Corpus::Text(_))) else {
            return Ok(());
        };
        let weights = checkpointing::read_model(&result.folder, &self.setup.model)?;
        let step = self.state.progress.step;
        let Run { setup, tape, .. } = self;
        match setup.task.afterwards(setup, tape, &weights, step)? {
            Some(event) => self.recorder.event(event),
            None => Ok(()),
        }
    }

    /// Where evaluations saw a sample, scores the result on the whole held-out split.
    fn score_whole_split(&mut self, result: &Checkpoint) -> Result<Option<(f64, f64)>, TrainError> {
        let Some(sampled) = self.setup.recipe.evaluate.windows else { return Ok(None) };
        // The run is over and saved: its weights may give way to the result's.
        self.state.parameters = Vec::new();
        let weights = checkpointing::read_model(&result.folder, &self.setup.model)?;
        let judged = self.timed(Part::Evaluation, |Run { setup, tape, .. }| {
            setup.task.judge(Sample::Whole, &setup.model, tape, &weights)
        })?;
        let score = judged.score;
        self.state.progress.timing.evaluation_tokens += score.targets;
        self.state.parameters = weights;
        let (_, unit) = self.setup.task.held_out();
        let bits = match self.setup.bytes_per_token() {
            0.0 => String::new(),
            bytes => format!(" ({:.4} bits per byte)", bits_per_byte(score.loss, bytes)),
        };
        let target = self.setup.task.unit();
        let text = format!(
            "the result scores {:.4} ± {:.4} nats{bits} on the whole held-out split of {} \
             {target}s; evaluations during the run saw {sampled} {unit} of it",
            score.loss, score.se, score.targets,
        );
        self.recorder.notice(Some(self.state.progress.step), text)?;
        Ok(Some((score.loss, score.se)))
    }
}
