//! When and on what a run is evaluated, and what follows: the best so far, stopping, samples.

use std::ops::ControlFlow;
use std::time::Instant;

use heldout_data::EvaluationWindows;
use heldout_kernels::{Activations, Precision};
use heldout_model::generate::{Sampling, generate};
use heldout_optim::average::Kept;
use heldout_record::{EvaluationRecord, Event, SampleRecord, StopReason};
use heldout_regularize::patience::{Evaluation, Monitor, Outlook};
use heldout_regularize::plan::StopRule;

use crate::checkpointing::Standing;
use crate::error::TrainError;
use crate::evaluation::{Score, bits_per_byte, score};
use crate::job::Setup;
use crate::meter::Part;
use crate::recipe::Amount;
use crate::run::Run;
use crate::state::{Best, Ending, State, Weights};

/// The fixed windows of a run's evaluations.
pub struct Validation {
    /// A fixed sample of the training split.
    train: EvaluationWindows,
    /// The held-out split, or a fixed sample of it.
    pub held_out: EvaluationWindows,
    /// Windows at a time.
    pub rows: usize,
}

/// Tokens scored at a time: enough to keep every thread busy, few enough to stay in the caches.
const EVALUATION_TOKENS: usize = 2048;

impl Validation {
    pub fn new(setup: &Setup) -> Result<Validation, TrainError> {
        let recipe = &setup.recipe;
        let (context, seed) = (recipe.model.context, recipe.run.seed);
        let held_out = held_out_windows(setup, seed)?;
        let count = recipe.evaluate.train_windows;
        let train = EvaluationWindows::sample(&setup.data.train, context, count, seed)?;
        let rows = evaluation_rows(setup);
        Ok(Validation { train, held_out, rows })
    }
}

/// The windows of the held-out split that runs with this seed evaluate.
pub fn held_out_windows(setup: &Setup, seed: u64) -> Result<EvaluationWindows, TrainError> {
    let (split, context) = (&setup.data.validation, setup.recipe.model.context);
    Ok(match setup.recipe.evaluate.windows {
        Some(count) => EvaluationWindows::sample(split, context, count, seed)?,
        None => EvaluationWindows::whole(split, context)?,
    })
}

/// Buffers of evaluations beside those of training may take this much.
const EVALUATION_BYTES: usize = 256 << 20;

/// As many windows at a time as are quick; of a large model no more than training takes, so that
/// its buffers do for both.
fn evaluation_rows(setup: &Setup) -> usize {
    let (config, recipe) = (&setup.model.config, &setup.recipe);
    let rows = rows_at_once(recipe.model.context);
    let (context, keep) = (recipe.model.context, Activations::Keep);
    let bytes = config.activation_bytes(rows, context, keep, Precision::F32);
    if bytes <= EVALUATION_BYTES {
        return rows;
    }
    rows.min(recipe.batch.micro)
}

/// How many windows of `context` tokens to score at a time.
pub fn rows_at_once(context: usize) -> usize {
    (EVALUATION_TOKENS / context).max(1)
}

/// One set of weights, evaluated.
struct Evaluated {
    weights: Weights,
    train: Score,
    valid: Score,
    seconds: f64,
}

impl Run<'_> {
    /// Evaluates when it is time to; the ending is given when a stop rule fires.
    pub fn evaluate_if_due(&mut self) -> Result<Option<Ending>, TrainError> {
        let progress = &self.state.progress;
        let (step, since) = (progress.step, progress.evaluated_at_seconds);
        if !self.setup.evaluate_every.is_due(step, self.clock.seconds(), since) {
            return Ok(None);
        }
        self.evaluate()
    }

    /// Evaluates every set of weights, keeps the best, and asks the stop rules.
    pub fn evaluate(&mut self) -> Result<Option<Ending>, TrainError> {
        // The best weights so far would be saved.
        self.make_room();
        let evaluated = self.evaluate_sets();
        let lowest = evaluated
            .iter()
            .min_by(|a, b| a.valid.loss.total_cmp(&b.valid.loss))
            .expect("the raw weights are always evaluated");
        let progress = &mut self.state.progress;
        let loss = lowest.valid.loss;
        let is_best = loss.is_finite() && progress.best.is_none_or(|b| loss < b.loss_valid);
        progress.favored = lowest.weights;
        progress.evaluated = Some(progress.step);
        progress.evaluated_at_seconds = self.clock.seconds();
        progress.plateau.observe(&self.setup.recipe.schedule.rate.shape, loss);
        if is_best {
            progress.best = Some(Best {
                step: progress.step,
                loss_valid: loss,
                loss_valid_se: lowest.valid.se,
                weights: lowest.weights,
            });
        }
        for one in &evaluated {
            let best = is_best && one.weights == lowest.weights;
            let record = EvaluationRecord { best, ..self.evaluation_record(one) };
            self.recorder.event(Event::Evaluation(record))?;
        }
        let ending = self.ask_stop_rules(loss);
        self.state.progress.ended = ending.clone();
        self.timed(Part::Samples, |run| run.write_samples(lowest.weights))?;
        self.write_histograms()?;
        if is_best {
            self.timed(Part::Checkpoint, |run| run.save(Standing::Best))?;
        } else if ending.is_some() {
            self.timed(Part::Checkpoint, |run| run.save(Standing::Later))?;
        }
        Ok(ending)
    }

    /// The raw weights first: some averages want to know how good they are.
    fn evaluate_sets(&mut self) -> Vec<Evaluated> {
        let raw = self.timed(Part::Evaluation, |run| {
            let raw = run.evaluate_set(Weights::Raw);
            let Run { setup, state: State { parameters, averages, progress, .. }, .. } = run;
            let offer = Kept { step: progress.step, loss: raw.valid.loss };
            setup.plan.average_evaluated(&setup.device, parameters, averages, offer);
            raw
        });
        let averages = self.state.filled_averages().into_iter();
        let averages =
            averages.map(|set| self.timed(Part::Evaluation, |run| run.evaluate_set(set)));
        std::iter::once(raw).chain(averages).collect()
    }

    fn evaluate_set(&mut self, set: Weights) -> Evaluated {
        let begin = Instant::now();
        let Run { setup, state, tape, validation, .. } = self;
        let weights = state.weights(set);
        let mut of = |windows| score(&setup.model, tape, weights, windows, validation.rows);
        let (train, valid) = (of(&validation.train), of(&validation.held_out));
        state.progress.timing.evaluation_tokens += train.targets + valid.targets;
        Evaluated { weights: set, train, valid, seconds: begin.elapsed().as_secs_f64() }
    }

    /// What was measured; whether it is the best so far is the caller's to say.
    fn evaluation_record(&self, one: &Evaluated) -> EvaluationRecord {
        let progress = &self.state.progress;
        let loss = one.valid.loss;
        EvaluationRecord {
            step: progress.step,
            tokens: progress.tokens,
            epoch: self.setup.batches.epoch_at(progress.step),
            loss_train: one.train.loss,
            loss_train_se: one.train.se,
            loss_valid: loss,
            loss_valid_se: one.valid.se,
            gap: loss - one.train.loss,
            // The two samples share no text, so their errors add as squares.
            gap_se: one.valid.se.hypot(one.train.se),
            perplexity: loss.exp(),
            bits_per_byte: bits_per_byte(loss, self.setup.bytes_per_token()),
            weights: one.weights.word(self.setup.plan.plan()).into(),
            best: false,
            seconds: one.seconds,
            update_ratio: self.movement.ratio_of(one.weights, progress.step),
            targets_valid: one.valid.targets,
        }
    }

    fn ask_stop_rules(&mut self, loss: f64) -> Option<Ending> {
        let progress = &mut self.state.progress;
        let epoch = self.setup.batches.epoch_at(progress.step);
        let rules = self.setup.plan.plan().stop.iter().zip(&mut progress.patience);
        let mut ending = None;
        for (owned, memory) in rules {
            let StopRule::EarlyStopping(rule) = &owned.value;
            let value = match rule.monitor {
                Monitor::LossValid => loss,
                Monitor::Perplexity => loss.exp(),
                Monitor::BitsPerByte => {
                    bits_per_byte(loss, self.setup.data.facts.bytes_per_token_validation)
                }
            };
            let evaluation = Evaluation { step: progress.step, epoch, value };
            if rule.observe(memory, evaluation) == Outlook::Stop && ending.is_none() {
                let detail =
                    format!("`{}` has not improved for {}", rule.monitor.word(), rule.patience);
                ending = Some(Ending { reason: StopReason::EarlyStopping, detail });
            }
        }
        ending
    }

    /// Text that continues the beginnings of held-out windows.
    fn write_samples(&mut self, set: Weights) -> Result<(), TrainError> {
        let evaluate = self.setup.recipe.evaluate;
        let tokenizer = &self.setup.data.tokenizer;
        let context = self.setup.recipe.model.context;
        let prompt_len = (context / 4).clamp(1, 16);
        for number in 0..evaluate.samples.min(self.validation.held_out.len()) {
            let window = self.validation.held_out.batch(number..number + 1);
            let prompt = &window.ids[..prompt_len];
            let sampling = Sampling {
                temperature: 0.8,
                seed: self.setup.recipe.run.seed,
                max_new_tokens: evaluate.sample_tokens,
                stop_tokens: tokenizer.eos().into_iter().collect(),
                ..Sampling::default()
            };
            let weights = self.state.weights(set);
            let on_token = &mut |_| ControlFlow::Continue(());
            let text =
                generate(&self.setup.model, &mut self.tape, weights, prompt, &sampling, on_token);
            // Weights that give no numbers give no text; the guard deals with them.
            let Ok(text) = text else { return Ok(()) };
            self.recorder.event(Event::Sample(SampleRecord {
                step: self.state.progress.step,
                prompt: tokenizer.decode(prompt),
                text: tokenizer.decode(&text),
            }))?;
        }
        Ok(())
    }

    fn write_histograms(&mut self) -> Result<(), TrainError> {
        let Amount::Evaluations(every) = self.setup.recipe.run.histograms else { return Ok(()) };
        let step = self.state.progress.step;
        let done = self.validation_count();
        if !done.is_multiple_of(every) {
            return Ok(());
        }
        for parameter in &self.setup.model.layout().parameters {
            let values = &self.state.parameters[parameter.range()];
            self.recorder.histogram(&format!("weights/{}", parameter.name), step, values)?;
        }
        Ok(())
    }

    /// Evaluations so far, by the step alone where the cadence is in steps.
    fn validation_count(&self) -> u64 {
        match self.setup.evaluate_every {
            crate::horizon::Cadence::Steps(n) => self.state.progress.step.div_ceil(n),
            _ => 1,
        }
    }
}
