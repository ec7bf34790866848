//! From a recipe to everything a run needs: data prepared, values resolved, plan composed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use heldout_data::answers::{AnswerFields, AnswerSpec, PreparedAnswers, prepare_answers};
use heldout_data::labelled::{self, FieldNames, LabelledSpec, SpecialTokens};
use heldout_data::pairs::{self, PairSpec, SideNames};
use heldout_data::tokenizer::TokenizerKind;
use heldout_data::{
    Boundary, DuplicatePolicy, PrepareSpec, Progress, TokenizerSpec, ValidationSpec, prepare,
};
use heldout_kernels::{Activations, Device, Precision};
use heldout_model::{Family, Head, Model, ModelConfig, Tied};
use heldout_optim::OptimizerSpec;
use heldout_record::study::KeyedBaseline;
use heldout_regularize::{
    Assembled, Beginning, Bound, Facts, Length, SettingError, Technique, assemble,
};

use crate::error::TrainError;
use crate::horizon::{Cadence, Horizon};
use crate::memory;
use crate::recipe::defaults::{
    CorpusFacts, ExampleFacts, Machine, NativeBf16, PairCounts, TokenFacts,
};
use crate::recipe::{
    self, DataRecipe, Draft, Known, Part, Recipe, RecipeError, ResolvedRecipe, TaskKind,
};
use crate::session;
use crate::task::{
    self, Answering, Classification, Corpus, LanguageModel, MaskedModel, Seq2Seq, Task, mean_length,
};
use crate::teachers::{self, Teacher};

/// A recipe that is ready to run, with its data.
pub struct Job {
    pub recipe: ResolvedRecipe,
    pub data: Corpus,
    /// The techniques and what they ask for, slot by slot.
    pub techniques: Assembled,
    /// n-gram models that were counted before: the run takes the one that fits, if there is one.
    pub baselines: Vec<KeyedBaseline>,
}

/// Checks a recipe, prepares its data (or finds it in `cache`) and fills everything in.
pub fn prepare_job(
    recipe: &Recipe,
    cache: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Job, TrainError> {
    let draft = recipe.draft()?;
    let machine = this_machine(&draft);
    let from = draft.model.from.as_ref();
    let from = from.map(|f| session::read_config(Path::new(&f.value))).transpose()?;
    let corpus = corpus_facts(&draft);
    let (data_recipe, origins) = recipe::data(&draft, &corpus)?;
    let data = match data_recipe.task {
        TaskKind::LanguageModel => {
            from.as_ref().map(ModelConfig::require_causal).transpose()?;
            let spec = prepare_spec(&data_recipe, seed(&draft))?;
            Corpus::Text(Box::new(prepare(&spec, cache, progress)?))
        }
        TaskKind::Masked => {
            let note = "take an encoder such as BERT, or continue this one with the task \"lm\"";
            from.as_ref().map(|config| require_encoder(config, note)).transpose()?;
            let spec = prepare_spec(&data_recipe, seed(&draft))?;
            Corpus::Masked(Box::new(prepare(&spec, cache, progress)?))
        }
        TaskKind::Classification => {
            let longest = recipe::longest_example(&draft, from.as_ref());
            let mut spec = labelled_spec(&data_recipe, seed(&draft), longest)?;
            let family = from.as_ref().map(|config| config.family);
            if family.unwrap_or(recipe::family_of_labels(&draft)) == Family::Bert {
                spec.special_tokens = SpecialTokens::Encoder;
            }
            Corpus::Labelled(Box::new(labelled::prepare_labelled(&spec)?))
        }
        TaskKind::QuestionAnswering => {
            let note = "questions are answered by an encoder such as BERT, RoBERTa or DistilBERT";
            from.as_ref().map(|config| require_encoder(config, note)).transpose()?;
            let longest = recipe::longest_example(&draft, from.as_ref());
            let spec = answer_spec(&data_recipe, seed(&draft), longest)?;
            Corpus::Answers(Box::new(prepare_answers(&spec)?))
        }
        TaskKind::Seq2Seq => {
            from.as_ref().map(ModelConfig::require_seq2seq).transpose()?;
            let longest = recipe::longest_side(&draft, from.as_ref());
            let spec = pair_spec(&data_recipe, seed(&draft), longest)?;
            Corpus::Pairs(Box::new(pairs::prepare_pairs(&spec)?))
        }
    };
    let tokens = token_facts(&data);
    let from = from.as_ref();
    let known = Known { data: data_recipe, origins, tokens, machine, from };
    let mut recipe = recipe::resolve(&draft, known)?;
    let techniques = compose(&draft, &mut recipe, &data)?;
    Ok(Job { recipe, data, techniques, baselines: Vec::new() })
}

/// The `[data]` table of a resolved recipe and the seed of its split.
pub fn resolved_data(draft: &Draft) -> Result<(DataRecipe, u64), TrainError> {
    Ok((recipe::data(draft, &corpus_facts(draft))?.0, seed(draft)))
}

/// The split and the tokenizer follow the data's own seed, else the run's.
fn seed(draft: &Draft) -> u64 {
    let seed = draft.data.seed.as_ref().or(draft.run.seed.as_ref());
    seed.map_or(recipe::defaults::SEED, |s| s.value)
}

/// What this machine offers.
pub fn this_machine(draft: &Draft) -> Machine {
    let asked = draft.run.threads.as_ref().and_then(|t| t.value);
    // Only the best instruction set multiplies bf16.
    let masked = draft.run.isa.as_ref().is_some_and(|i| !["auto", "avx512"].contains(&i.value));
    let native_bf16 = Device::native_bf16() && !masked;
    Machine {
        threads: asked.map_or_else(heldout_kernels::default_threads, |n| n as usize),
        bf16: if native_bf16 { NativeBf16::Yes } else { NativeBf16::No },
        isa: Device::detect_isa(),
        memory: memory::available(),
    }
}

/// Special tokens around a passage, beside the separator that every document has.
const FRAME: f64 = 1.0;

fn token_facts(data: &Corpus) -> TokenFacts {
    let (tokens_train, tokens_validation) = data.tokens();
    let passage = match data {
        Corpus::Masked(data) => {
            Some(tokens_train as f64 / data.facts.documents_train.max(1) as f64 + FRAME)
        }
        Corpus::Text(_) | Corpus::Labelled(_) | Corpus::Answers(_) | Corpus::Pairs(_) => None,
    };
    TokenFacts {
        passage,
        tokens_train,
        tokens_validation,
        vocabulary: data.tokenizer().vocabulary_size(),
        bytes_per_token: data.bytes_per_token(),
        examples: example_facts(data),
        pairs: pair_counts(data),
    }
}

fn example_facts(data: &Corpus) -> Option<ExampleFacts> {
    if let Corpus::Answers(data) = data {
        return Some(example_facts_of_answers(data));
    }
    let Corpus::Labelled(data) = data else { return None };
    let facts = &data.facts;
    Some(ExampleFacts {
        train: facts.train.examples,
        validation: facts.validation.examples,
        labels: facts.labels.len(),
        head: Head::Classification { labels: facts.labels.len() },
        length_mean: facts.train.lengths.mean,
        longest: facts.max_length as usize,
    })
}

/// An example is a window in training, and a question where models are judged.
fn example_facts_of_answers(data: &PreparedAnswers) -> ExampleFacts {
    ExampleFacts {
        train: data.facts.train.windows,
        validation: data.facts.validation.questions,
        labels: 0,
        head: Head::Span,
        length_mean: mean_length(&data.train),
        longest: data.facts.max_length as usize,
    }
}

/// Refuses models that have not read what follows a token; `note` says what to do.
fn require_encoder(config: &ModelConfig, note: &str) -> Result<(), TrainError> {
    if config.family == Family::Bert {
        return Ok(());
    }
    let message = "the model to start from is a causal one: it has not read what follows a token";
    Err(RecipeError::general(message).note(note).into())
}

fn pair_counts(data: &Corpus) -> Option<PairCounts> {
    let Corpus::Pairs(data) = data else { return None };
    let (facts, encoder) = (&data.facts, &data.encoder);
    let padding = encoder.pad();
    Some(PairCounts {
        train: facts.train.pairs,
        validation: facts.validation.pairs,
        length_mean: facts.train.source.lengths.mean + facts.train.target.lengths.mean,
        longest: facts.max_length as usize,
        end: encoder.tokenizer().eos().unwrap_or(padding),
        padding,
    })
}

/// The size of the training inputs on disk. Names that are no file count for nothing here; reading
/// them says what is wrong.
fn corpus_facts(draft: &Draft) -> CorpusFacts {
    let names = draft.data.train.as_ref().map_or(&[][..], |t| &t.value);
    CorpusFacts { bytes: names.iter().map(|name| text_bytes(Path::new(name), 0)).sum() }
}

/// Text compresses about four to one.
const COMPRESSION: u64 = 4;
const DEPTH_MAX: usize = 32;

fn text_bytes(path: &Path, depth: usize) -> u64 {
    let Ok(found) = std::fs::metadata(path) else { return pattern_bytes(path) };
    if found.is_dir() && depth < DEPTH_MAX {
        let Ok(entries) = std::fs::read_dir(path) else { return 0 };
        return entries.flatten().map(|e| text_bytes(&e.path(), depth + 1)).sum();
    }
    let compressed = path.extension().is_some_and(|e| e == "gz" || e == "zst");
    found.len() * if compressed { COMPRESSION } else { 1 }
}

/// A pattern stands for the files of its last folder without wildcards.
fn pattern_bytes(path: &Path) -> u64 {
    let is_plain = |p: &&Path| !p.to_string_lossy().contains(['*', '?', '[']);
    let folder = path.ancestors().skip(1).find(is_plain);
    folder.filter(|f| f.is_dir()).map_or(0, |f| text_bytes(f, 0))
}

/// The data crate's order for a `[data]` table of running text.
pub fn prepare_spec(data: &DataRecipe, seed: u64) -> Result<PrepareSpec, TrainError> {
    Ok(PrepareSpec {
        train: data.train.clone(),
        validation: part(&data.validation),
        test: data.test.as_ref().map(part),
        field: data.field.clone(),
        boundary: boundary(&data.boundary),
        tokenizer: tokenizer_spec(data)?,
        special_tokens: match data.task {
            TaskKind::Masked => SpecialTokens::Encoder,
            _ => SpecialTokens::Causal,
        },
        duplicates: duplicates(data),
        seed,
    })
}

/// The same for labelled texts, of which the longest counts `longest` tokens.
pub fn labelled_spec(
    data: &DataRecipe,
    seed: u64,
    longest: usize,
) -> Result<LabelledSpec, TrainError> {
    let (text, pair, label) = (data.text.clone(), data.pair.clone(), data.label.clone());
    Ok(LabelledSpec {
        train: data.train.clone(),
        validation: part(&data.validation),
        test: data.test.as_ref().map(part),
        fields: FieldNames { text, pair, label },
        tokenizer: tokenizer_spec(data)?,
        special_tokens: SpecialTokens::Causal,
        max_length: longest,
        limit: data.limit,
        duplicates: duplicates(data),
        seed,
    })
}

/// The same for questions, of which the longest windows count `longest` tokens.
pub fn answer_spec(data: &DataRecipe, seed: u64, longest: usize) -> Result<AnswerSpec, TrainError> {
    let (question, context) = (data.question.clone(), data.context.clone());
    Ok(AnswerSpec {
        train: data.train.clone(),
        validation: part(&data.validation),
        test: data.test.as_ref().map(part),
        fields: AnswerFields { question, context, answers: data.answers.clone() },
        tokenizer: tokenizer_spec(data)?,
        max_length: longest,
        stride: data.stride.unwrap_or(longest),
        limit: data.limit,
        duplicates: duplicates(data),
        seed,
    })
}

/// The same for pairs of texts, of which either side counts `longest` tokens at most.
pub fn pair_spec(data: &DataRecipe, seed: u64, longest: usize) -> Result<PairSpec, TrainError> {
    let (source, target) = (data.source.clone(), data.target.clone());
    Ok(PairSpec {
        train: data.train.clone(),
        validation: part(&data.validation),
        test: data.test.as_ref().map(part),
        fields: SideNames { source, target },
        tokenizer: tokenizer_spec(data)?,
        max_length: longest,
        limit: data.limit,
        duplicates: duplicates(data),
        seed,
    })
}

fn part(part: &Part) -> ValidationSpec {
    match part {
        Part::Share(share) => ValidationSpec::Share(*share),
        Part::Tail(share) => ValidationSpec::Tail(*share),
        Part::Paths(paths) => ValidationSpec::Paths(paths.clone()),
    }
}

fn duplicates(data: &DataRecipe) -> DuplicatePolicy {
    match data.duplicates.as_str() {
        "remove-all" => DuplicatePolicy::RemoveAll,
        "report" => DuplicatePolicy::Report,
        _ => DuplicatePolicy::RemoveLeaks,
    }
}

fn tokenizer_spec(data: &DataRecipe) -> Result<TokenizerSpec, TrainError> {
    let kind = TokenizerKind::ALL.iter().find(|(name, _)| *name == data.tokenizer);
    Ok(match kind {
        Some((_, kind)) => {
            TokenizerSpec::Train { kind: *kind, vocabulary: data.vocabulary.unwrap_or(0) }
        }
        None => TokenizerSpec::File(tokenizer_path(&data.tokenizer)?),
    })
}

/// The boundary of that name in a recipe.
pub fn boundary(name: &str) -> Boundary {
    match name {
        "blank-line" => Boundary::BlankLine,
        "record" => Boundary::Record,
        "end-of-text" => Boundary::EndOfText,
        "file" => Boundary::File,
        "contiguous" => Boundary::Contiguous,
        _ => Boundary::Auto,
    }
}

fn tokenizer_path(name: &str) -> Result<PathBuf, TrainError> {
    let path = PathBuf::from(name);
    if path.is_dir() {
        let own = path.join("tokenizer.json");
        return Ok(if own.is_file() {
            own
        } else {
            session::model_folder(&path)?.join("tokenizer.json")
        });
    }
    if path.is_file() || path.extension().is_some_and(|e| e == "json") {
        return Ok(path);
    }
    let kinds = TokenizerKind::ALL.map(|(name, _)| name);
    let error =
        RecipeError::general(format!("data.tokenizer: \"{name}\" is neither a kind nor a file"));
    let error = match heldout_base::nearest::nearest(name, kinds) {
        Some(near) => error.note(format!("did you mean \"{near}\"?")),
        None => error,
    };
    Err(error.note(format!("kinds: {}", kinds.join(", "))).into())
}

/// Lets every technique contribute to the plan and checks that each can act on this model; errors
/// are placed where the recipe names the technique.
fn compose(
    draft: &Draft,
    recipe: &mut ResolvedRecipe,
    data: &Corpus,
) -> Result<Assembled, TrainError> {
    let placed = |error: SettingError| {
        let written = draft.regularize.iter().find(|t| t.card.name == error.technique());
        match written {
            Some(written) => written.error(&error).into(),
            None => TrainError::from(error),
        }
    };
    let chosen = recipe
        .regularize
        .iter()
        .filter_map(|t| t.settings.as_ref().map(|settings| (t.card.name, settings)));
    let techniques = assemble(chosen).map_err(placed)?;
    let imported = recipe.model.from.is_some();
    // An encoder-decoder has one token table for everything, as it comes.
    let as_it_comes = imported || recipe.model.config.is_seq2seq();
    let tied_by_model = if as_it_comes { recipe.model.config.tied } else { Tied::No };
    // An encoder's projection onto tokens is its token table, whatever the plan.
    if !as_it_comes && recipe.model.config.family != Family::Bert {
        recipe.model.config.tied = techniques.plan.tied();
    }
    if let Corpus::Masked(_) = data {
        refuse_next_token(&techniques)?;
    }
    let model = Model::for_training(recipe.model.config.clone(), &techniques.plan.extra())?;
    let length = length(recipe, data);
    let beginning = if imported { Beginning::Trained } else { Beginning::Random };
    let (config, layout) = (&model.config, model.layout());
    let facts = Facts { config, layout, tied_by_model, length, beginning };
    techniques.check(&facts).map_err(placed)?;
    if matches!(data, Corpus::Pairs(_)) && techniques.plan.loss.teaching.is_some() {
        let (technique, knob) = ("distillation".to_owned(), "teacher".to_owned());
        let reason = "teachers are not heard with the task \"seq2seq\"".into();
        let remedy = "take distillation out of the recipe".into();
        let error = heldout_regularize::SettingError::Unusable { technique, knob, reason, remedy };
        return Err(placed(error));
    }
    if let Corpus::Labelled(data) = data {
        Classification::check(data, &techniques.plan, recipe.run.seed).map_err(placed)?;
    }
    for teacher in techniques.plan.teachers() {
        let checked = teachers::check(
            teacher,
            data.tokenizer(),
            recipe.model.context,
            recipe.model.config.head,
        );
        checked.map_err(|error| match error {
            TrainError::Setting(error) => placed(error),
            other => other,
        })?;
    }
    Ok(techniques)
}

/// Refuses techniques that act on the next token alone.
fn refuse_next_token(techniques: &Assembled) -> Result<(), TrainError> {
    let plan = &techniques.plan;
    let found = [
        ("distillation", plan.loss.teaching.is_some()),
        ("token-dropout guided by what is predictable", plan.predictable_share().is_some()),
    ];
    match found.into_iter().find(|(_, found)| *found) {
        None => Ok(()),
        Some((name, _)) => {
            let message = format!("{name} has no effect with the task \"mlm\"");
            let note = "it acts on the next token: remove it, or set data.task = \"lm\"";
            Err(RecipeError::general(message).note(note).into())
        }
    }
}

/// How long the run will be, if that is not a matter of time.
fn length(recipe: &ResolvedRecipe, data: &Corpus) -> Length {
    let tokens_train = data.tokens().0 as f64;
    let (windows, length) = match data {
        Corpus::Text(_) => {
            let context = recipe.model.context as f64;
            ((tokens_train / context).max(1.0), context)
        }
        Corpus::Masked(_) => {
            let length = token_facts(data).sequence_length(recipe.model.context);
            ((tokens_train / length).max(1.0), length)
        }
        Corpus::Labelled(data) => {
            let examples = (data.facts.train.examples as f64).max(1.0);
            (examples, tokens_train / examples)
        }
        Corpus::Answers(data) => {
            let windows = (data.facts.train.windows as f64).max(1.0);
            (windows, tokens_train / windows)
        }
        Corpus::Pairs(data) => {
            let pairs = (data.facts.train.pairs as f64).max(1.0);
            (pairs, tokens_train / pairs)
        }
    };
    let batch = recipe.batch.size.map_or(windows, |size| (size as f64).min(windows));
    let (steps_per_epoch, step_tokens) = (windows / batch, (batch * length) as u64);
    let horizon = Horizon::new(recipe.schedule.horizon, steps_per_epoch, step_tokens.max(1));
    let Horizon::Steps(steps) = horizon else { return Length::default() };
    let evaluations = match Cadence::new(recipe.evaluate.every, &horizon, steps_per_epoch) {
        Cadence::Steps(every) => Some(steps.div_ceil(every)),
        Cadence::End => Some(1),
        Cadence::Seconds(_) => None,
    };
    Length { steps: Some(steps), epochs: Some(steps as f64 / steps_per_epoch), evaluations }
}

/// Everything about a run that does not change while it lasts.
pub struct Setup {
    pub recipe: ResolvedRecipe,
    pub data: Corpus,
    pub plan: Bound,
    pub techniques: Vec<Box<dyn Technique>>,
    pub device: Arc<Device>,
    pub model: Model,
    /// Trained models that teach it.
    pub teachers: Vec<Teacher>,
    pub optimizer: OptimizerSpec,
    pub baselines: Vec<KeyedBaseline>,
    /// What is learned, from which batches, and how it is judged.
    pub task: Arc<dyn Task>,
    pub horizon: Horizon,
    pub evaluate_every: Cadence,
    pub checkpoint_every: Cadence,
}

impl Setup {
    pub fn new(job: Job) -> Result<Setup, TrainError> {
        memory::check(&job)?;
        let Job { recipe, data, techniques: Assembled { plan, techniques }, baselines } = job;
        let threads = recipe.run.threads.unwrap_or_else(heldout_kernels::default_threads);
        let isa = recipe.run.isa.unwrap_or_else(Device::detect_isa);
        let device = Arc::new(Device::cpu_with_isa(threads, recipe.run.products(), isa)?);
        let model = Model::for_training(recipe.model.config.clone(), &plan.extra())?;
        let teachers = plan.teachers().iter().map(|name| Teacher::open(name));
        let teachers = teachers.collect::<Result<_, _>>()?;
        let optimizer = optimizer_spec(&recipe)?;
        let rows = evaluation_rows(&recipe);
        let shuffle = task::shuffle(&plan);
        let task: Arc<dyn Task> = match &data {
            Corpus::Text(data) => Arc::new(LanguageModel::new(data, &recipe, &plan, rows)?),
            Corpus::Masked(data) => Arc::new(MaskedModel::new(data, &recipe, shuffle, rows)?),
            Corpus::Labelled(data) => Arc::new(Classification::new(data, &recipe, &plan, rows)?),
            Corpus::Answers(data) => Arc::new(Answering::new(data, &recipe, shuffle, rows)?),
            Corpus::Pairs(data) => Arc::new(Seq2Seq::new(data, &recipe, &model, shuffle, rows)?),
        };
        let (steps_per_epoch, step_tokens) = (task.steps_per_epoch(), task.step_tokens() as u64);
        let horizon = Horizon::new(recipe.schedule.horizon, steps_per_epoch, step_tokens);
        let mut bound = Bound::new(&plan, model.layout());
        bound.seed = recipe.run.seed;
        let cadence = |amount| Cadence::new(amount, &horizon, steps_per_epoch);
        Ok(Setup {
            evaluate_every: cadence(recipe.evaluate.every),
            checkpoint_every: cadence(recipe.run.checkpoint),
            plan: bound,
            techniques,
            recipe,
            data,
            device,
            model,
            teachers,
            optimizer,
            baselines,
            task,
            horizon,
        })
    }

    /// Bytes of held-out text per token.
    pub fn bytes_per_token(&self) -> f64 {
        self.data.bytes_per_token()
    }
}

/// Tokens scored at a time: enough to keep every thread busy, few enough to stay in the caches.
const EVALUATION_TOKENS: usize = 2048;

/// Buffers of evaluations beside those of training may take this much.
const EVALUATION_BYTES: usize = 256 << 20;

/// As many sequences at a time as are quick; of a large model no more than training takes, so that
/// its buffers do for both.
fn evaluation_rows(recipe: &ResolvedRecipe) -> usize {
    let config = &recipe.model.config;
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

fn optimizer_spec(recipe: &ResolvedRecipe) -> Result<OptimizerSpec, TrainError> {
    let mut spec = OptimizerSpec::named(&recipe.optimizer.name)?;
    for (knob, value) in &recipe.optimizer.knobs {
        spec.set(knob, value)?;
    }
    Ok(spec)
}
