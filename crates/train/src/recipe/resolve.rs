//! Fills a recipe in: what the user wrote stays, the rest follows from the data and the machine,
//! and every value keeps its origin and reason.

use std::collections::BTreeMap;

use heldout_base::card::Default_;
use heldout_base::schedule::{Schedule, Shape, Span};
use heldout_kernels::{Activations, Isa};
use heldout_model::{Head, ModelConfig};
use heldout_optim::KnobValue as OptimizerValue;

use super::amount::Amount;
use super::choices::{Because, Choices, by_default};
use super::defaults::{self, CorpusFacts, Machine, NativeBf16, TokenFacts};
use super::draft::Draft;
use super::error::RecipeError;
use super::regularization::regularize;
use super::resolved::*;
use super::section::Set;
use super::sizes::{Extent, batch_size, horizon, micro_batch, model};

/// The `[data]` table: it must be known before the data can be read.
pub fn data(
    draft: &Draft,
    corpus: &CorpusFacts,
) -> Result<(DataRecipe, BTreeMap<String, Origin>), RecipeError> {
    let mut choices = Choices::default();
    let from = &draft.data;
    let Some(train) = choices.keep("data.train", &from.train) else {
        return Err(RecipeError::general("the recipe names no training data")
            .note("give a text file on the command line, or set data.train"));
    };
    let validation = choices.choose(
        "data.validation",
        &from.validation,
        |p| p,
        || by_default(Part::Share(0.1), "a tenth of the documents is held out"),
    );
    let task = choices.choose("data.task", &from.task, TaskKind::named, || {
        by_default(
            TaskKind::LanguageModel,
            "the next token; \"mlm\" learns masked ones, \"classify\" labels, \"seq2seq\" texts",
        )
    });
    let (tokenizer, vocabulary) = tokenizer(draft, &mut choices, corpus, task);
    let recipe = DataRecipe {
        task,
        train,
        validation,
        test: choices.keep("data.test", &from.test),
        text: choices.keep("data.text", &from.text),
        pair: choices.keep("data.pair", &from.pair),
        label: choices.keep("data.label", &from.label),
        question: choices.keep("data.question", &from.question),
        context: choices.keep("data.context", &from.context),
        answers: choices.keep("data.answers", &from.answers),
        stride: stride(draft, &mut choices, task),
        limit: choices.keep("data.limit", &from.limit).map(|n| n as usize),
        field: choices.keep("data.field", &from.field),
        mask_rate: masks(
            &mut choices,
            task,
            "data.mask-rate",
            &from.mask_rate,
            |rate| rate,
            || by_default(defaults::MASK_RATE, "as BERT was trained"),
        ),
        whole_word: masks(
            &mut choices,
            task,
            "data.whole-word",
            &from.whole_word,
            |on| on,
            || by_default(false, "every token by itself; true asks for \"##\" pieces"),
        ),
        source: choices.keep("data.source", &from.source),
        target: choices.keep("data.target", &from.target),
        boundary: choices.choose("data.boundary", &from.boundary, String::from, || {
            by_default("auto".into(), "records, blank lines, or one long text")
        }),
        tokenizer,
        vocabulary,
        duplicates: choices.choose("data.duplicates", &from.duplicates, String::from, || {
            by_default("remove-leaks".into(), "what is held out must not be trained on")
        }),
        seed: choices.keep("data.seed", &from.seed),
    };
    Ok((recipe, choices.origins))
}

/// A key of masking; other tasks have its default, and no word is lost about it.
fn masks<T: Copy>(
    choices: &mut Choices,
    task: TaskKind,
    key: &str,
    set: &Option<Set<T>>,
    convert: impl FnOnce(T) -> T,
    default: impl FnOnce() -> Because<T>,
) -> T {
    match task {
        TaskKind::Masked => choices.choose(key, set, convert, default),
        _ => default().0,
    }
}

/// The tokenizer, and its vocabulary where one is trained to a size.
fn tokenizer(
    draft: &Draft,
    choices: &mut Choices,
    corpus: &CorpusFacts,
    task: TaskKind,
) -> (String, Option<usize>) {
    let from = &draft.data;
    let (kind, size, why) = match task {
        TaskKind::LanguageModel => defaults::tokenizer(corpus),
        TaskKind::Masked => {
            let (kind, size, why) = defaults::tokenizer_of_masked(corpus);
            (kind, Some(size), why)
        }
        TaskKind::Classification | TaskKind::QuestionAnswering => {
            let (kind, size, why) = defaults::tokenizer_of_labelled(corpus);
            (kind, Some(size), why)
        }
        TaskKind::Seq2Seq => {
            let (kind, size, why) = defaults::tokenizer_of_pairs(corpus);
            (kind, Some(size), why)
        }
    };
    let comes_with = draft.model.from.as_ref().map(|f| f.value.clone());
    let tokenizer = choices.choose(
        "data.tokenizer",
        &from.tokenizer,
        |t| t,
        || match &comes_with {
            Some(folder) => {
                Because(folder.clone(), OriginSource::Default, "it comes with the model".into())
            }
            None => Because(kind.to_string(), OriginSource::Data, why),
        },
    );
    let sized = matches!(tokenizer.as_str(), "bpe" | "unigram" | "wordpiece");
    let vocabulary = match sized {
        true => Some(choices.choose(
            "data.vocabulary",
            &from.vocabulary,
            |v| v as usize,
            || {
                let vocabulary = size.unwrap_or(1024);
                Because(vocabulary, OriginSource::Data, "grows with the text's size".into())
            },
        )),
        false => None,
    };
    (tokenizer, vocabulary)
}

/// How long contexts are cut.
fn stride(draft: &Draft, choices: &mut Choices, task: TaskKind) -> Option<usize> {
    let default = || by_default(128, "windows of a long context overlap, so that no answer is cut");
    (task == TaskKind::QuestionAnswering)
        .then(|| choices.choose("data.stride", &draft.data.stride, |s| s as usize, default))
}

/// Tokens that a labelled text may have: what the recipe says, no more than the model it starts
/// from can read.
pub fn longest_example(draft: &Draft, from: Option<&ModelConfig>) -> usize {
    let asked = draft.model.context.as_ref().map(|c| c.value as usize);
    let most = from.map_or(usize::MAX, |config| config.context);
    let usual = match draft.data.task() {
        TaskKind::QuestionAnswering => defaults::LONGEST_CONTEXT,
        _ => defaults::LONGEST_EXAMPLE,
    };
    asked.unwrap_or(usual).min(most)
}

/// Tokens that either side of a pair may have: as [`longest_example`].
pub fn longest_side(draft: &Draft, from: Option<&ModelConfig>) -> usize {
    let asked = draft.model.context.as_ref().map(|c| c.value as usize);
    let most = from.map_or(usize::MAX, |config| config.context);
    asked.unwrap_or(defaults::LONGEST_SIDE).min(most)
}

/// Everything known when a recipe is filled in.
pub struct Known<'a> {
    pub data: DataRecipe,
    pub origins: BTreeMap<String, Origin>,
    pub tokens: TokenFacts,
    pub machine: Machine,
    /// The configuration that comes with `model.from`.
    pub from: Option<&'a ModelConfig>,
}

/// The whole recipe.
pub fn resolve(draft: &Draft, known: Known<'_>) -> Result<ResolvedRecipe, RecipeError> {
    let Known { data, origins, tokens, machine, from } = known;
    let mut choices = Choices { origins };
    let run = run(draft, &mut choices, &machine)?;
    let rate = defaults::flops_per_second(&machine, &run.precision);
    let seconds = match draft.schedule.horizon.as_ref().map(|h| h.value) {
        Some(Amount::Seconds(seconds)) => seconds,
        _ => defaults::BUDGET_SECONDS,
    };
    let flops = rate * seconds;
    let task = data.task;
    let (config, context) = model(draft, &mut choices, (&tokens, task), flops, from)?;
    let horizon = horizon(draft, &mut choices, &tokens, &config, flops);
    let (size, plan) = batch_size(draft, &mut choices, &tokens, (&config, context), horizon, flops);
    let sizes = (&config, context, run.products());
    let (micro, memory) = micro_batch(draft, &mut choices, sizes, size, &tokens, &machine);
    // Labelled texts are short: their batches are small in tokens, not in what they teach.
    let batch_tokens = size.map(|s| (s as f64 * tokens.sequence_length(context)) as usize);
    let short = tokens.examples.is_some() || tokens.pairs.is_some();
    let batch_tokens = batch_tokens.filter(|_| !short);
    let optimizer = optimizer(draft, &mut choices, batch_tokens);
    let schedule = schedule(draft, &mut choices, task, &config, horizon);
    let evaluate = evaluate(draft, &mut choices, &tokens, context, horizon, &plan);
    let regularize = regularize(draft, &mut choices, &plan, &evaluate, (&tokens, from));
    let model =
        ModelRecipe { from: draft.model.from.as_ref().map(|f| f.value.clone()), config, context };
    let batch = BatchRecipe { size, micro };
    let origins = choices.origins;
    let recipe = ResolvedRecipe {
        data,
        model,
        optimizer,
        schedule,
        batch,
        regularize,
        evaluate,
        run: RunRecipe { memory, ..run },
        origins,
    };
    Ok(recipe)
}

/// The `[run]` table; what becomes of activations is decided with the sizes.
fn run(draft: &Draft, choices: &mut Choices, machine: &Machine) -> Result<RunRecipe, RecipeError> {
    let run = &draft.run;
    let fastest = || match machine.bf16 {
        NativeBf16::Yes => {
            Because("bf16", OriginSource::Machine, "the fastest this processor has".into())
        }
        NativeBf16::No => {
            Because("f32", OriginSource::Machine, "this processor has no bf16 products".into())
        }
    };
    let precision = match &run.precision {
        Some(set) if set.value == "auto" => {
            choices.choose("run.precision", &None::<Set<()>>, |()| "", fastest)
        }
        set => choices.choose("run.precision", set, |p| p, fastest),
    };
    let recipe = RunRecipe {
        seed: choices.choose(
            "run.seed",
            &run.seed,
            |s| s,
            || by_default(defaults::SEED, "any number will do"),
        ),
        precision: precision.into(),
        threads: choices.choose(
            "run.threads",
            &run.threads,
            |t| t.map(|n| n as usize),
            || by_default(None, "all; results do not depend on it"),
        ),
        memory: Activations::Keep,
        isa: isa(draft, choices, machine)?,
        checkpoint: choices.choose(
            "run.checkpoint",
            &run.checkpoint,
            |c| c,
            || by_default(Amount::Seconds(300.0), "besides one at every best evaluation"),
        ),
        keep: choices.choose(
            "run.keep",
            &run.keep,
            |k| k as usize,
            || by_default(2, "one to resume from and one in case it is damaged"),
        ),
        histograms: choices.choose(
            "run.histograms",
            &run.histograms,
            |h| h,
            || by_default(Amount::Never, "they take space"),
        ),
    };
    Ok(recipe)
}

/// The instruction set that the user asks for, which this machine must have.
fn isa(
    draft: &Draft,
    choices: &mut Choices,
    machine: &Machine,
) -> Result<Option<Isa>, RecipeError> {
    let best = || by_default(None, "the best that the machine has");
    let named = |name| Isa::ALL.into_iter().find(|isa| isa.name() == name);
    let wanted = choices.choose("run.isa", &draft.run.isa, named, best);
    if let (Some(wanted), Some(set)) = (wanted, &draft.run.isa)
        && wanted > machine.isa
    {
        let message = format!("this processor has no {} instructions", wanted.name());
        let note = format!("allowed here: up to \"{}\", or \"auto\"", machine.isa.name());
        return Err(RecipeError::at(&set.place, message).note(note));
    }
    Ok(wanted)
}

fn optimizer(draft: &Draft, choices: &mut Choices, batch_tokens: Option<usize>) -> OptimizerRecipe {
    let from = &draft.optimizer;
    match &from.named {
        Some(place) => choices.written("optimizer.name", place),
        None => choices.note("optimizer.name", OriginSource::Default, "the usual choice"),
    }
    let mut knobs = Vec::new();
    for knob in from.card.knobs.iter().skip(1) {
        let key = format!("optimizer.{}", knob.name);
        let set = from.knobs.iter().find(|(name, _)| *name == knob.name);
        if let Some((name, set)) = set {
            choices.written(&key, &set.place);
            knobs.push((*name, set.value.clone()));
            continue;
        }
        let small = batch_tokens.is_some_and(|tokens| tokens < 1 << 15);
        let value = match knob.default {
            Default_::Number(_) if knob.name == "beta2" && small && from.card.name == "adamw" => {
                choices.note(&key, OriginSource::Default, "small batches need a shorter memory");
                OptimizerValue::Number(0.99)
            }
            Default_::Number(number) => OptimizerValue::Number(number),
            Default_::Text(text) => OptimizerValue::Text(text.into()),
            Default_::Off => continue,
        };
        if !choices.origins.contains_key(&key) {
            choices.note(&key, OriginSource::Default, "");
        }
        knobs.push((knob.name, value));
    }
    OptimizerRecipe { name: from.card.name.into(), knobs }
}

fn schedule(
    draft: &Draft,
    choices: &mut Choices,
    task: TaskKind,
    config: &ModelConfig,
    horizon: Amount,
) -> ScheduleRecipe {
    let from = &draft.schedule;
    let tuned = task != TaskKind::LanguageModel && draft.model.from.is_some();
    let card = draft.optimizer.card;
    let peak = choices.choose(
        "optimizer.learning-rate",
        &draft.optimizer.learning_rate,
        |r| r,
        || {
            if matches!(card.name, "adam" | "adamw") && tuned {
                let (rate, why) = defaults::learning_rate_pretrained(config.parameter_count());
                return by_default(rate, &why);
            }
            if matches!(card.name, "adam" | "adamw") && task == TaskKind::Seq2Seq {
                let (rate, why) = defaults::learning_rate_of_pairs(config.width);
                return by_default(rate, &why);
            }
            if matches!(card.name, "adam" | "adamw") {
                let (rate, why) = match task {
                    TaskKind::Classification => defaults::learning_rate_of_labelled(config.width),
                    _ => defaults::learning_rate(config.width),
                };
                return by_default(rate, &why);
            }
            match card.knobs[0].default {
                Default_::Number(rate) => by_default(rate, "the optimizer's usual rate"),
                _ => by_default(1e-3, "a usual rate"),
            }
        },
    );
    let shape = match &from.shape_place {
        Some(place) => {
            choices.written("schedule.shape", place);
            from.shape.shape.clone()
        }
        None => {
            choices.note("schedule.shape", OriginSource::Default, "the usual choice");
            Shape::Cosine { end: 0.1 }
        }
    };
    let warmup = choices.choose(
        "schedule.warmup",
        &from.warmup,
        |w| w,
        || match shape {
            Shape::OneCycle { .. } => by_default(Span::NONE, "the cycle has its own"),
            _ => by_default(Span::Share(0.05), "the first updates are the wildest"),
        },
    );
    ScheduleRecipe { horizon, rate: Schedule { peak, warmup, shape } }
}

pub const EVALUATIONS: f64 = 20.0;

/// Evaluations of a run where nobody says otherwise. A model that knows the language takes a few
/// hundred updates to learn labels: half as many show when it is best.
fn evaluations_wanted(draft: &Draft, tokens: &TokenFacts) -> (f64, &'static str) {
    match tokens.examples.is_some() && draft.model.from.is_some() {
        true => (EVALUATIONS / 2.0, "about ten in all"),
        false => (EVALUATIONS, "about twenty in all"),
    }
}

fn evaluate(
    draft: &Draft,
    choices: &mut Choices,
    tokens: &TokenFacts,
    context: usize,
    horizon: Amount,
    extent: &Extent,
) -> EvaluateRecipe {
    let from = &draft.evaluate;
    let (wanted, why) = evaluations_wanted(draft, tokens);
    let every = choices.choose(
        "evaluate.every",
        &from.every,
        |e| e,
        || match horizon {
            Amount::Seconds(_) => by_default(Amount::Share(1.0 / wanted), why),
            _ => {
                let steps = (extent.updates / wanted).round().max(1.0) as u64;
                by_default(Amount::Steps(nice(steps)), why)
            }
        },
    );
    let evaluations = match every {
        Amount::Steps(n) => extent.updates / n as f64,
        Amount::Epochs(n) => extent.epochs / n,
        Amount::End => 1.0,
        _ => EVALUATIONS,
    };
    let length = (tokens.sequence_length(context).round() as usize).max(1);
    let windows = match (&tokens.examples, &tokens.pairs) {
        (Some(examples), _) => examples.validation,
        (_, Some(pairs)) => pairs.validation,
        (None, None) => tokens.tokens_validation.div_ceil(length as u64),
    };
    let to_size = |n: Option<u64>| n.map(|n| n as usize).filter(|n| (*n as u64) < windows);
    let scored = choices.choose("evaluate.windows", &from.windows, to_size, || {
        let affordable = match &tokens.examples {
            Some(_) => defaults::evaluation_examples(extent.tokens / length as f64, evaluations),
            None => defaults::evaluation_windows(extent.tokens, evaluations, length),
        };
        match Some(affordable).filter(|count| (*count as u64) < windows) {
            None => by_default(None, "the whole split, which takes little of the time"),
            some => by_default(some, "a fixed sample; the result is scored on the whole split"),
        }
    });
    let trained = match (&tokens.examples, &tokens.pairs) {
        (Some(examples), _) => examples.train,
        (_, Some(pairs)) => pairs.train,
        (None, None) => (tokens.tokens_train / length as u64).max(1),
    };
    let short = tokens.examples.is_some() || tokens.passage.is_some();
    let as_many_most = if short { 500 } else { 256 };
    let train_windows = choices.choose(
        "evaluate.train-windows",
        &from.train_windows,
        |n| n,
        || {
            let as_many = scored.map_or(windows, |n| n as u64).min(as_many_most);
            by_default(as_many, "enough for a gap with a small error")
        },
    );
    let (train_windows, told) = (train_windows.min(trained) as usize, told(draft, choices, tokens));
    EvaluateRecipe { every, windows: scored, train_windows, ..told }
}

/// What else an evaluation tells and watches; the rest is the caller's to fill in.
fn told(draft: &Draft, choices: &mut Choices, tokens: &TokenFacts) -> EvaluateRecipe {
    let from = &draft.evaluate;
    EvaluateRecipe {
        every: Amount::End,
        windows: None,
        train_windows: 0,
        samples: choices.choose(
            "evaluate.samples",
            &from.samples,
            |n| n as usize,
            || match (&tokens.examples, &tokens.pairs) {
                (Some(_), _) => by_default(0, "a classifier writes no text"),
                (_, Some(_)) => by_default(0, "evaluate.written says how many texts are written"),
                _ if tokens.passage.is_some() => by_default(0, "an encoder writes no text"),
                (None, None) => by_default(1, "to see what it has learned"),
            },
        ),
        sample_tokens: choices.choose(
            "evaluate.sample-tokens",
            &from.sample_tokens,
            |n| n as usize,
            || by_default(64, "some lines"),
        ),
        written: match tokens.pairs {
            None => 0,
            Some(_) => choices.choose(
                "evaluate.written",
                &from.written,
                |n| n as usize,
                || by_default(WRITTEN, "a fixed sample; the result is scored on the whole split"),
            ),
        },
        scored_as: match tokens.pairs {
            None => ScoredAs::Auto,
            Some(_) => choices.choose("evaluate.metrics", &from.metrics, ScoredAs::named, || {
                by_default(ScoredAs::Auto, "ROUGE where targets are less than half as long")
            }),
        },
        monitor: choices.choose("evaluate.monitor", &from.monitor, Metric::named, || {
            let labels = |e: &defaults::ExampleFacts| matches!(e.head, Head::Classification { .. });
            // A classifier's loss rises by a few sure mistakes while it still gets better.
            if tokens.examples.as_ref().is_some_and(labels) {
                return by_default(Metric::Accuracy, "right labels are what is wanted");
            }
            by_default(Metric::Loss, "it sees how sure a model is, and moves smoothly")
        }),
        baseline: choices.choose(
            "evaluate.baseline",
            &from.baseline,
            BaselineChoice::named,
            || by_default(BaselineChoice::Auto, "a network should beat an n-gram model"),
        ),
    }
}

/// Texts written at an evaluation where nobody says otherwise.
const WRITTEN: usize = 100;

/// The nearest number with one significant digit of 1, 2, 2.5 or 5.
fn nice(n: u64) -> u64 {
    if n < 10 {
        return n.max(1);
    }
    let decade = 10f64.powi((n as f64).log10().floor() as i32);
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| (m * decade) as u64);
    let nearest = steps.into_iter().min_by_key(|s| s.abs_diff(n));
    nearest.unwrap_or(n).max(1)
}
