//! When and on what a run is evaluated, and what follows: the best so far, stopping, samples.

use std::ops::ControlFlow;
use std::time::Instant;

use heldout_model::generate::{Sampling, generate};
use heldout_optim::average::Kept;
use heldout_record::{EvaluationRecord, Event, SampleRecord, StopReason};
use heldout_regularize::patience::{Evaluation, Monitor, Outlook};
use heldout_regularize::plan::StopRule;

use crate::checkpointing::Standing;
use crate::error::TrainError;
use crate::evaluation::bits_per_byte;
use crate::meter::Part;
use crate::recipe::{Amount, Metric};
use crate::run::Run;
use crate::state::{Best, Ending, State, Weights};
use crate::task::{Judged, Sample};

/// One set of weights, evaluated.
struct Evaluated {
    weights: Weights,
    train: Judged,
    valid: Judged,
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
        let evaluated = self.evaluate_sets()?;
        let monitor = self.setup.recipe.evaluate.monitor;
        // Among equals the one that is surer of what is right.
        let key = |one: &Evaluated| (one.valid.key(monitor), one.valid.score.loss);
        let lowest = evaluated
            .iter()
            .min_by(|a, b| key(a).0.total_cmp(&key(b).0).then(key(a).1.total_cmp(&key(b).1)))
            .expect("the raw weights are always evaluated");
        let progress = &mut self.state.progress;
        let (value, loss) = key(lowest);
        let is_better = |b: Best| (value, loss) < (b.value.unwrap_or(b.loss_valid), b.loss_valid);
        let is_best = value.is_finite() && loss.is_finite() && progress.best.is_none_or(is_better);
        progress.favored = lowest.weights;
        progress.evaluated = Some(progress.step);
        progress.evaluated_at_seconds = self.clock.seconds();
        progress.plateau.observe(&self.setup.recipe.schedule.rate.shape, value);
        if is_best {
            progress.best = Some(Best {
                step: progress.step,
                loss_valid: loss,
                loss_valid_se: lowest.valid.score.se,
                weights: lowest.weights,
                value: (monitor != Metric::Loss).then_some(value),
            });
        }
        for one in &evaluated {
            let best = is_best && one.weights == lowest.weights;
            let record = EvaluationRecord { best, ..self.evaluation_record(one) };
            self.recorder.event(Event::Evaluation(record))?;
        }
        let ending = self.ask_stop_rules(value);
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
    fn evaluate_sets(&mut self) -> Result<Vec<Evaluated>, TrainError> {
        let monitor = self.setup.recipe.evaluate.monitor;
        let raw = self.timed(Part::Evaluation, |run| {
            let raw = run.evaluate_set(Weights::Raw)?;
            let Run { setup, state: State { parameters, averages, progress, .. }, .. } = run;
            let offer = Kept { step: progress.step, loss: raw.valid.key(monitor) };
            setup.plan.average_evaluated(&setup.device, parameters, averages, offer);
            Ok::<_, TrainError>(raw)
        })?;
        let averages = self.state.filled_averages().into_iter();
        let averages =
            averages.map(|set| self.timed(Part::Evaluation, |run| run.evaluate_set(set)));
        std::iter::once(Ok(raw)).chain(averages).collect()
    }

    fn evaluate_set(&mut self, set: Weights) -> Result<Evaluated, TrainError> {
        let begin = Instant::now();
        let Run { setup, state, tape, .. } = self;
        let weights = state.weights(set);
        let mut of = |sample| setup.task.judge(sample, &setup.model, tape, weights);
        let (train, valid) = (of(Sample::Train)?, of(Sample::HeldOut)?);
        state.progress.timing.evaluation_tokens += train.score.targets + valid.score.targets;
        Ok(Evaluated { weights: set, train, valid, seconds: begin.elapsed().as_secs_f64() })
    }

    /// What was measured; whether it is the best so far is the caller's to say.
    fn evaluation_record(&self, one: &Evaluated) -> EvaluationRecord {
        let progress = &self.state.progress;
        let (train, valid) = (one.train.score, one.valid.score);
        let loss = valid.loss;
        EvaluationRecord {
            step: progress.step,
            tokens: progress.tokens,
            epoch: self.setup.task.epoch_at(progress.step),
            loss_train: train.loss,
            loss_train_se: train.se,
            loss_valid: loss,
            loss_valid_se: valid.se,
            gap: loss - train.loss,
            // The two samples share no text, so their errors add as squares.
            gap_se: valid.se.hypot(train.se),
            perplexity: loss.exp(),
            bits_per_byte: bits_per_byte(loss, self.setup.bytes_per_token()),
            weights: one.weights.word(self.setup.plan.plan()).into(),
            best: false,
            seconds: one.seconds,
            update_ratio: self.movement.ratio_of(one.weights, progress.step),
            targets_valid: valid.targets,
            metrics: one.valid.records(&one.train),
        }
    }

    /// `value` is what decides which weights are best: the loss, or a figure of the task.
    fn ask_stop_rules(&mut self, value: f64) -> Option<Ending> {
        let progress = &mut self.state.progress;
        let epoch = self.setup.task.epoch_at(progress.step);
        let rules = self.setup.plan.plan().stop.iter().zip(&mut progress.patience);
        let mut ending = None;
        for (owned, memory) in rules {
            let StopRule::EarlyStopping(rule) = &owned.value;
            let value = match rule.monitor {
                Monitor::LossValid => value,
                Monitor::Perplexity => value.exp(),
                Monitor::BitsPerByte => bits_per_byte(value, self.setup.data.bytes_per_token()),
            };
            let evaluation = Evaluation { step: progress.step, epoch, value };
            if rule.observe(memory, evaluation) == Outlook::Stop && ending.is_none() {
                let watched = match self.setup.recipe.evaluate.monitor {
                    Metric::Loss => rule.monitor.word(),
                    metric => metric.word(),
                };
                let detail = format!("`{watched}` has not improved for {}", rule.patience);
                ending = Some(Ending { reason: StopReason::EarlyStopping, detail });
            }
        }
        ending
    }

    /// Text that continues the beginnings of held-out windows.
    fn write_samples(&mut self, set: Weights) -> Result<(), TrainError> {
        let evaluate = self.setup.recipe.evaluate;
        let tokenizer = self.setup.data.tokenizer();
        for prompt in &self.setup.task.prompts(evaluate.samples) {
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
