//! The sizes of a run: the model, how long it trains, and how much at a time.

use heldout_kernels::{Activations, Precision};
use heldout_model::{Activation, Decoder, Family, Head, ModelConfig, QkNorm, Variant};

use super::amount::Amount;
use super::choices::{Because, Choices, by_default};
use super::defaults::{self, Beginning, Machine, Size, TokenFacts};
use super::draft::Draft;
use super::error::RecipeError;
use super::resolved::{OriginSource, TaskKind};
use super::section::Set;

const USUAL: &str = "the family's usual choice";

pub fn model(
    draft: &Draft,
    choices: &mut Choices,
    (tokens, task): (&TokenFacts, TaskKind),
    flops: f64,
    from: Option<&ModelConfig>,
) -> Result<(ModelConfig, usize), RecipeError> {
    let model = &draft.model;
    if let Some(config) = from {
        return imported(draft, choices, tokens, config);
    }
    let family = family(draft, choices, task)?;
    let context = choices.choose(
        "model.context",
        &model.context,
        |c| c as usize,
        || {
            let (context, why) = context_of(tokens);
            Because(context, OriginSource::Data, why)
        },
    );
    let Size { layers, heads, width } = size(draft, choices, tokens, flops);
    let mut config = match family {
        "llama" => {
            let kv_heads = choices.choose(
                "model.kv-heads",
                &model.kv_heads,
                |k| k as usize,
                || by_default(heads, "one for every head"),
            );
            ModelConfig::llama(tokens.vocabulary, context, layers, heads, kv_heads, width)
        }
        "bert" => {
            let variant = Variant::Bert;
            ModelConfig::bert(variant, tokens.vocabulary, context, layers, heads, width)
        }
        "bart" => ModelConfig::bart(tokens.vocabulary, context, layers, heads, width),
        "marian" => ModelConfig::marian(tokens.vocabulary, context, layers, heads, width),
        _ => ModelConfig::gpt2(tokens.vocabulary, context, layers, heads, width),
    };
    fits_task(draft, tokens, &mut config)?;
    let usual = USUAL;
    let (hidden, epsilon, std) = (config.hidden, config.norm_epsilon, config.init_std);
    config.hidden =
        choices.choose("model.hidden", &model.hidden, |h| h as usize, || by_default(hidden, usual));
    config.decoder.hidden = if config.is_seq2seq() { config.hidden } else { 0 };
    config.norm_epsilon = choices.choose(
        "model.norm-epsilon",
        &model.norm_epsilon,
        |e| e as f32,
        || by_default(epsilon, usual),
    );
    let seq2seq = config.is_seq2seq();
    config.init_std = choices.choose(
        "model.init-std",
        &model.init_std,
        |s| s as f32,
        || match seq2seq {
            // A decoder finds what to read in its source several times sooner than from 0.02.
            true => by_default(init_of_pairs(width), "1/√width"),
            false => by_default(std, usual),
        },
    );
    of_family(&mut config, draft, choices);
    config.head = head_of(tokens);
    config.validate().map_err(|error| invalid_model(draft, error.to_string()))?;
    Ok((config, context))
}

/// The architecture, which must be able to do the task.
fn family(
    draft: &Draft,
    choices: &mut Choices,
    task: TaskKind,
) -> Result<&'static str, RecipeError> {
    let set = &draft.model.family;
    let family = choices.choose(
        "model.family",
        set,
        |f| f,
        || match task {
            TaskKind::LanguageModel => {
                by_default("gpt2", "opens everywhere; llama is the other choice")
            }
            TaskKind::Masked => by_default("bert", "reads what stands on both sides of a mask"),
            TaskKind::Classification => by_default(CLASSIFIER, "opens everywhere"),
            TaskKind::QuestionAnswering => {
                by_default("bert", "an answer is found by reading both ways")
            }
            TaskKind::Seq2Seq => {
                by_default("bart", "reads a source and writes a target; marian does, too")
            }
        },
    );
    let problem = match (task, family) {
        (TaskKind::LanguageModel, "bert") => {
            "an encoder writes no text: take gpt2 or llama, or set data.task = \"mlm\""
        }
        (TaskKind::Masked, "gpt2" | "llama") => {
            "a causal model has not read what follows a mask: take bert, or set data.task = \"lm\""
        }
        _ => return Ok(family),
    };
    let message = format!("`family` \"{family}\" cannot learn the task \"{}\"", task.word());
    let place = &set.as_ref().expect("the default fits the task").place;
    Err(RecipeError::at(place, message).note(problem))
}

/// The family of a classifier that starts from nothing: it decides which special tokens the
/// tokenizer is given.
pub fn family_of_labels(draft: &Draft) -> Family {
    match draft.model.family.as_ref().map_or(CLASSIFIER, |set| set.value) {
        "bert" => Family::Bert,
        "llama" => Family::Llama,
        _ => Family::Gpt2,
    }
}

/// The family of a classifier where nobody says otherwise.
const CLASSIFIER: &str = "gpt2";

/// 1/√C with two significant digits, as which it is read back from a recipe.
fn init_of_pairs(width: usize) -> f32 {
    let std = 1.0 / (width as f64).sqrt();
    let scale = 10f64.powi(1 - std.log10().floor() as i32);
    ((std * scale).round() / scale) as f32
}

/// Pairs want an encoder-decoder, with the ids of their own vocabulary; nothing else does.
fn fits_task(
    draft: &Draft,
    tokens: &TokenFacts,
    config: &mut ModelConfig,
) -> Result<(), RecipeError> {
    if let (Some(pairs), true) = (&tokens.pairs, config.is_seq2seq()) {
        // The token that ends texts is one that training knows well: targets begin with it.
        let (start, end, padding) = (pairs.end, pairs.end, pairs.padding);
        let forced_last = None;
        config.decoder = Decoder { start, end, padding, forced_last, ..config.decoder };
    }
    if tokens.pairs.is_some() == config.is_seq2seq() {
        return Ok(());
    }
    let place = &draft.model.family.as_ref().expect("the default fits the task").place;
    let (message, note) = match tokens.pairs {
        Some(_) => (
            "this family does not read one text to write another",
            "allowed with the task \"seq2seq\": \"bart\", \"marian\"",
        ),
        None => (
            "this family reads a source to write a target",
            "set data.task = \"seq2seq\", or take \"gpt2\" or \"llama\"",
        ),
    };
    Err(RecipeError::at(place, message).note(note))
}

/// What the task asks of the model's end.
fn head_of(tokens: &TokenFacts) -> Head {
    tokens.examples.map_or(Head::LanguageModel, |examples| examples.head)
}

fn context_of(tokens: &TokenFacts) -> (usize, String) {
    let cut = "longer texts are cut; shorter ones cost less";
    match (&tokens.examples, &tokens.pairs) {
        (Some(examples), _) => (examples.longest, cut.into()),
        (_, Some(pairs)) => (pairs.longest, cut.into()),
        (None, None) => defaults::context(tokens),
    }
}

/// What only one of the families has.
fn of_family(config: &mut ModelConfig, draft: &Draft, choices: &mut Choices) {
    let (model, usual) = (&draft.model, USUAL);
    if config.family == Family::Llama {
        let (theta, norm) = (config.rope_theta, config.qk_norm);
        config.rope_theta = choices.choose(
            "model.rope-theta",
            &model.rope_theta,
            |t| t as f32,
            || by_default(theta, usual),
        );
        config.qk_norm = choices.choose(
            "model.qk-norm",
            &model.qk_norm,
            |on| if on { QkNorm::Yes } else { QkNorm::No },
            || by_default(norm, usual),
        );
    } else if !config.is_seq2seq() {
        let activation = config.activation;
        config.activation = choices.choose(
            "model.activation",
            &model.activation,
            |a| if a == "gelu-erf" { Activation::GeluErf } else { Activation::GeluTanh },
            || by_default(activation, usual),
        );
    }
}

/// The error of a model that cannot be built, at the first of its sizes that the user wrote.
fn invalid_model(draft: &Draft, message: String) -> RecipeError {
    let m = &draft.model;
    let places = [&m.width, &m.heads, &m.kv_heads, &m.layers, &m.hidden, &m.context];
    match places.into_iter().flatten().next() {
        Some(set) => RecipeError::at(&set.place, message),
        None => RecipeError::general(message),
    }
}

fn imported(
    draft: &Draft,
    choices: &mut Choices,
    tokens: &TokenFacts,
    config: &ModelConfig,
) -> Result<(ModelConfig, usize), RecipeError> {
    let mut config = ModelConfig { head: head_of(tokens), ..config.clone() };
    let place = draft.model.from.as_ref().map(|f| &f.place);
    let place = place.expect("a configuration comes with `from`");
    choices.written("model.from", place);
    // More is common: vocabularies are rounded up, or keep room for further tokens.
    if config.vocabulary < tokens.vocabulary {
        let message = format!(
            "the model has {} tokens and the tokenizer {}",
            config.vocabulary, tokens.vocabulary
        );
        return Err(RecipeError::at(place, message)
            .note("leave data.tokenizer out, so that the model's own is used"));
    }
    let longest = config.context;
    let context = choices.choose(
        "model.context",
        &draft.model.context,
        |c| c as usize,
        || {
            let (context, why) = context_of(tokens);
            Because(context.min(longest), OriginSource::Data, why)
        },
    );
    if context > longest && config.family != Family::Llama {
        let set = draft.model.context.as_ref().expect("the default fits");
        return Err(RecipeError::at(&set.place, "`context` is out of range")
            .note(format!("allowed: at most {longest}, the positions the model has")));
    }
    if config.family == Family::Llama {
        config.context = context.max(longest);
    }
    Ok((config, context))
}

fn size(draft: &Draft, choices: &mut Choices, tokens: &TokenFacts, flops: f64) -> Size {
    let model = &draft.model;
    let (size, why) = match (&tokens.examples, &tokens.pairs) {
        (Some(examples), _) => defaults::classifier_size(examples),
        (_, Some(pairs)) => defaults::seq2seq_size(pairs),
        (None, None) => defaults::model_size(tokens, flops),
    };
    let chosen = |value: usize| Because(value, OriginSource::Data, why.clone());
    let layers =
        choices.choose("model.layers", &model.layers, |l| l as usize, || chosen(size.layers));
    let mut width = size.width;
    if let (None, Some(heads)) = (&model.width, &model.heads) {
        width = width.next_multiple_of(heads.value as usize);
    }
    let width = choices.choose("model.width", &model.width, |w| w as usize, || chosen(width));
    let heads = choices.choose(
        "model.heads",
        &model.heads,
        |h| h as usize,
        || {
            if width == size.width {
                return chosen(size.heads);
            }
            let wanted = (width / 64).max(1);
            let heads = (wanted..=width).find(|h| width.is_multiple_of(*h)).unwrap_or(1);
            by_default(heads, "about 64 channels each")
        },
    );
    Size { layers, heads, width }
}

/// How long the run will be, in tokens and epochs, as far as it is known beforehand.
pub struct Extent {
    pub tokens: f64,
    pub epochs: f64,
    pub updates: f64,
}

pub fn horizon(
    draft: &Draft,
    choices: &mut Choices,
    tokens: &TokenFacts,
    config: &ModelConfig,
    flops: f64,
) -> Amount {
    choices.choose(
        "schedule.horizon",
        &draft.schedule.horizon,
        |h| h,
        || {
            let parameters = config.parameter_count() as f64;
            let (epochs, why) = match (&tokens.examples, &tokens.pairs) {
                (Some(examples), _) => defaults::epochs_of_examples(examples, beginning(draft)),
                (_, Some(pairs)) => defaults::epochs_of_pairs(pairs, beginning(draft)),
                (None, None) => defaults::epochs(tokens, parameters, flops),
            };
            let pretrained = tokens.passage.is_some() && draft.model.from.is_some();
            let (epochs, why) = match pretrained {
                true if epochs > defaults::EPOCHS_PRETRAINED => {
                    (defaults::EPOCHS_PRETRAINED, "the model knows the language already".into())
                }
                _ => (epochs, why),
            };
            Because(Amount::Epochs(epochs), OriginSource::Data, why)
        },
    )
}

fn beginning(draft: &Draft) -> Beginning {
    match draft.model.from {
        Some(_) => Beginning::Pretrained,
        None => Beginning::Scratch,
    }
}

pub fn batch_size(
    draft: &Draft,
    choices: &mut Choices,
    tokens: &TokenFacts,
    (config, context): (&ModelConfig, usize),
    horizon: Amount,
    flops: f64,
) -> (Option<usize>, Extent) {
    let unique = tokens.tokens_train.max(1) as f64;
    // In steps the length depends on the batch; assume the default's number of tokens a step.
    let seen = match horizon {
        Amount::Epochs(epochs) => epochs * unique,
        Amount::Tokens(tokens) => tokens as f64,
        Amount::Seconds(_) => flops / (6.0 * config.parameter_count() as f64),
        Amount::Steps(steps) => steps as f64 * 4096.0,
        _ => unique,
    };
    let size = choices.choose(
        "batch.size",
        &draft.batch.size,
        |s| s.map(|n| n as usize),
        || {
            let (size, why) = match (&tokens.examples, &tokens.pairs) {
                (Some(examples), _) => defaults::batch_of_examples(examples, beginning(draft)),
                (_, Some(pairs)) => defaults::batch_of_pairs(pairs, beginning(draft)),
                _ if tokens.passage.is_some() => {
                    defaults::batch_of_passages(seen, tokens.sequence_length(context))
                }
                (None, None) => defaults::batch_size(seen, context),
            };
            let most = sequences_of(tokens, context);
            Because(Some(size.min(most)), OriginSource::Data, why)
        },
    );
    let length = tokens.sequence_length(context);
    let step_tokens = size.map_or(unique, |s| s as f64 * length);
    let seen = if let Amount::Steps(steps) = horizon { steps as f64 * step_tokens } else { seen };
    (size, Extent { tokens: seen, epochs: seen / unique, updates: seen / step_tokens })
}

/// Sequences of an epoch.
fn sequences_of(tokens: &TokenFacts, context: usize) -> usize {
    match (&tokens.examples, &tokens.pairs) {
        (Some(examples), _) => (examples.train as usize).max(1),
        (_, Some(pairs)) => (pairs.train as usize).max(1),
        _ => (tokens.tokens_train as f64 / tokens.sequence_length(context)).max(1.0) as usize,
    }
}

/// The most sequences at a time that leave a quarter of the memory free, cut evenly, and what
/// becomes of their activations: they are kept, in smaller pieces where memory is short, since
/// smaller pieces cost less time than a second forward pass; they are recomputed where even the
/// smallest piece's do not fit.
pub fn micro_batch(
    draft: &Draft,
    choices: &mut Choices,
    (config, context, precision): (&ModelConfig, usize, Precision),
    size: Option<usize>,
    tokens: &TokenFacts,
    machine: &Machine,
) -> (usize, Activations) {
    let whole = size.unwrap_or(sequences_of(tokens, context));
    let written = match &draft.batch.micro {
        Some(Set { value: Some(micro), place }) => {
            choices.written("batch.micro", place);
            Some((*micro as usize).min(whole))
        }
        _ => None,
    };
    // Weights, gradients and two moments; a quarter of the rest is left to everything else.
    let fixed = 16 * config.parameter_count() as u64;
    let room = machine.memory.saturating_sub(fixed) / 4 * 3;
    let bytes = |sequences, activations| {
        config.activation_bytes(sequences, context, activations, precision) as u64
    };
    let least = written.unwrap_or(1);
    let activations = match &draft.run.memory {
        Some(set) if set.value == "recompute" => Activations::Recompute,
        None | Some(Set { value: "auto", .. }) if bytes(least, Activations::Keep) > room => {
            Activations::Recompute
        }
        _ => Activations::Keep,
    };
    let fits = |sequences| bytes(sequences, activations) <= room;
    let mut pieces = 1;
    while written.is_none() && !fits(whole.div_ceil(pieces)) && pieces < whole {
        pieces += 1;
    }
    let micro = written.unwrap_or(whole.div_ceil(pieces));
    if written.is_none() {
        let why = match pieces {
            1 => "the whole batch fits the memory".to_string(),
            n => format!("{n} pieces fit {:.1} GiB", gibibytes(machine.memory)),
        };
        choices.note("batch.micro", OriginSource::Machine, why);
    }
    match &draft.run.memory {
        Some(set) if set.value != "auto" => choices.written("run.memory", &set.place),
        _ => {
            let kept = gibibytes(bytes(micro, Activations::Keep));
            let why = match activations {
                Activations::Keep => format!("activations take about {kept:.2} GiB"),
                Activations::Recompute => format!(
                    "activations would take about {kept:.1} GiB, and {:.1} GiB are left for them; \
                     recomputed ones take {:.1} GiB and up to a third more time",
                    gibibytes(room),
                    gibibytes(bytes(micro, activations)),
                ),
            };
            choices.note("run.memory", OriginSource::Machine, why);
        }
    }
    (micro, activations)
}

fn gibibytes(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}
