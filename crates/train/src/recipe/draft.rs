//! What a recipe says, table by table, before anything is filled in.

use heldout_base::card::{Card, Default_};
use heldout_base::schedule::Span;
use heldout_optim::{CARDS as OPTIMIZERS, KnobValue as OptimizerValue};

use super::amount::Amount;
use super::error::{Place, RecipeError};
use super::keys::TABLES;
use super::resolved::TaskKind;
use super::section::{Part, Section, Set, number_of, out_of_range, unknown_key};
use super::shapes::{self, ShapeDraft};
use super::techniques::{self, TechniqueDraft};
use super::tree::{Node, Table, Value};

/// A whole recipe as written: every name, type and range checked, nothing filled in.
#[derive(Clone, Debug)]
pub struct Draft {
    pub data: DataDraft,
    pub model: ModelDraft,
    pub optimizer: OptimizerDraft,
    pub schedule: ScheduleDraft,
    pub batch: BatchDraft,
    pub regularize: Vec<TechniqueDraft>,
    pub evaluate: EvaluateDraft,
    pub run: RunDraft,
}

#[derive(Clone, Debug)]
pub struct DataDraft {
    pub train: Option<Set<Vec<String>>>,
    pub validation: Option<Set<Part>>,
    pub test: Option<Set<Part>>,
    pub task: Option<Set<&'static str>>,
    pub text: Option<Set<String>>,
    pub pair: Option<Set<String>>,
    pub label: Option<Set<String>>,
    pub limit: Option<Set<u64>>,
    pub field: Option<Set<String>>,
    pub mask_rate: Option<Set<f64>>,
    pub whole_word: Option<Set<bool>>,
    pub boundary: Option<Set<&'static str>>,
    pub tokenizer: Option<Set<String>>,
    pub vocabulary: Option<Set<u64>>,
    pub duplicates: Option<Set<&'static str>>,
    pub seed: Option<Set<u64>>,
}

#[derive(Clone, Debug)]
pub struct ModelDraft {
    pub family: Option<Set<&'static str>>,
    pub from: Option<Set<String>>,
    pub layers: Option<Set<u64>>,
    pub heads: Option<Set<u64>>,
    pub kv_heads: Option<Set<u64>>,
    pub width: Option<Set<u64>>,
    pub hidden: Option<Set<u64>>,
    pub context: Option<Set<u64>>,
    pub activation: Option<Set<&'static str>>,
    pub qk_norm: Option<Set<bool>>,
    pub norm_epsilon: Option<Set<f64>>,
    pub rope_theta: Option<Set<f64>>,
    pub init_std: Option<Set<f64>>,
}

#[derive(Clone, Debug)]
pub struct OptimizerDraft {
    pub card: &'static Card,
    /// Where the name was written, if it was.
    pub named: Option<Place>,
    pub learning_rate: Option<Set<f64>>,
    /// The other knobs that were set, by the card's names.
    pub knobs: Vec<(&'static str, Set<OptimizerValue>)>,
}

#[derive(Clone, Debug)]
pub struct ScheduleDraft {
    pub horizon: Option<Set<Amount>>,
    /// Whether the recipe names a shape or any of its knobs.
    pub shape_place: Option<Place>,
    pub warmup: Option<Set<Span>>,
    pub shape: ShapeDraft,
}

#[derive(Clone, Debug)]
pub struct BatchDraft {
    /// `None` inside: the whole training split.
    pub size: Option<Set<Option<u64>>>,
    /// `None` inside: as memory allows.
    pub micro: Option<Set<Option<u64>>>,
}

#[derive(Clone, Debug)]
pub struct EvaluateDraft {
    pub every: Option<Set<Amount>>,
    /// `None` inside: all windows.
    pub windows: Option<Set<Option<u64>>>,
    pub train_windows: Option<Set<u64>>,
    pub samples: Option<Set<u64>>,
    pub sample_tokens: Option<Set<u64>>,
    pub monitor: Option<Set<&'static str>>,
    pub baseline: Option<Set<&'static str>>,
}

#[derive(Clone, Debug)]
pub struct RunDraft {
    pub seed: Option<Set<u64>>,
    pub precision: Option<Set<&'static str>>,
    /// `None` inside: as the machine has.
    pub threads: Option<Set<Option<u64>>>,
    pub memory: Option<Set<&'static str>>,
    pub isa: Option<Set<&'static str>>,
    pub checkpoint: Option<Set<Amount>>,
    pub keep: Option<Set<u64>>,
    pub histograms: Option<Set<Amount>>,
}

/// Checks every name, type and range of the tree, and which settings can have an effect.
pub fn read(root: &Table) -> Result<Draft, RecipeError> {
    if let Some(entry) = root.entries.iter().find(|e| !TABLES.contains(&e.key.as_str())) {
        return Err(unknown_key(entry, "the recipe", TABLES.iter().copied()));
    }
    let draft = Draft {
        data: data(root)?,
        model: model(root)?,
        optimizer: optimizer(root)?,
        schedule: schedule(root)?,
        batch: batch(root)?,
        regularize: techniques::read(root)?,
        evaluate: evaluate(root)?,
        run: run(root)?,
    };
    Ok(draft)
}

fn data(root: &Table) -> Result<DataDraft, RecipeError> {
    let s = Section::open(root, "data", &[])?;
    let draft = DataDraft {
        train: s.texts("train")?,
        validation: s.part("validation")?,
        test: s.part("test")?,
        task: s.choice("task")?,
        text: s.text("text")?,
        pair: s.text("pair")?,
        label: s.text("label")?,
        limit: s.count("limit")?,
        field: s.text("field")?,
        mask_rate: s.number("mask-rate")?,
        whole_word: s.flag("whole-word")?,
        boundary: s.choice("boundary")?,
        tokenizer: s.text("tokenizer")?,
        vocabulary: s.count("vocabulary")?,
        duplicates: s.choice("duplicates")?,
        seed: s.count("seed")?,
    };
    of_task(
        &s,
        draft.task(),
        &[
            (&["text", "pair", "label", "limit"], &[TaskKind::Classification]),
            (&["field", "boundary"], &[TaskKind::LanguageModel, TaskKind::Masked]),
            (&["mask-rate", "whole-word"], &[TaskKind::Masked]),
        ],
    )?;
    if let (Some(size), Some(kind)) = (s.place("vocabulary"), &draft.tokenizer)
        && !matches!(kind.value.as_str(), "bpe" | "unigram" | "wordpiece")
    {
        let message = format!("`vocabulary` has no effect with tokenizer \"{}\"", kind.value);
        return Err(RecipeError::at(size, message)
            .note("its vocabulary follows from the data or the file: remove this key"));
    }
    Ok(draft)
}

impl DataDraft {
    /// The task as written, else the language model.
    pub fn task(&self) -> TaskKind {
        self.task.as_ref().map_or(TaskKind::LanguageModel, |task| TaskKind::named(task.value))
    }
}

/// Refuses keys that only other tasks have an ear for; each group comes with its tasks.
fn of_task(
    s: &Section<'_>,
    task: TaskKind,
    groups: &[(&[&str], &[TaskKind])],
) -> Result<(), RecipeError> {
    for (names, tasks) in groups.iter().filter(|(_, tasks)| !tasks.contains(&task)) {
        if let Some((name, place)) = names.iter().find_map(|n| s.place(n).map(|p| (n, p))) {
            let message = format!("`{name}` has no effect with the task \"{}\"", task.word());
            let note = format!("remove it, or set data.task = \"{}\"", tasks[0].word());
            return Err(RecipeError::at(place, message).note(note));
        }
    }
    Ok(())
}

fn model(root: &Table) -> Result<ModelDraft, RecipeError> {
    let s = Section::open(root, "model", &[])?;
    let draft = ModelDraft {
        family: s.choice("family")?,
        from: s.text("from")?,
        layers: s.count("layers")?,
        heads: s.count("heads")?,
        kv_heads: s.count("kv-heads")?,
        width: s.count("width")?,
        hidden: s.count("hidden")?,
        context: s.count("context")?,
        activation: s.choice("activation")?,
        qk_norm: s.flag("qk-norm")?,
        norm_epsilon: s.number("norm-epsilon")?,
        rope_theta: s.number("rope-theta")?,
        init_std: s.number("init-std")?,
    };
    if draft.from.is_some() {
        let sizes = keys_besides(&["from", "context"]);
        if let Some((name, place)) = sizes.iter().find_map(|n| s.place(n).map(|p| (n, p))) {
            let message = format!("`{name}` has no effect beside `from`");
            return Err(RecipeError::at(place, message)
                .note("the model comes with its sizes: remove one of the two"));
        }
        return Ok(draft);
    }
    let family = draft.family.as_ref().map_or("gpt2", |f| f.value);
    let foreign: &[&str] = match family {
        "llama" => &["activation"],
        _ => &["kv-heads", "qk-norm", "rope-theta"],
    };
    if let Some((name, place)) = foreign.iter().find_map(|n| s.place(n).map(|p| (n, p))) {
        let message = format!("`{name}` has no effect with family \"{family}\"");
        let other = if family == "llama" { "gpt2" } else { "llama" };
        return Err(
            RecipeError::at(place, message).note(format!("remove it, or set family = \"{other}\""))
        );
    }
    Ok(draft)
}

fn keys_besides(kept: &[&str]) -> Vec<&'static str> {
    super::keys::keys_of("model").map(|k| k.name).filter(|n| !kept.contains(n)).collect()
}

/// The card's first knob is written as `learning-rate`.
const FIXED: [&str; 3] = ["name", "learning-rate", "rate"];

fn optimizer(root: &Table) -> Result<OptimizerDraft, RecipeError> {
    let extra: Vec<&'static str> = OPTIMIZERS
        .iter()
        .flat_map(|c| c.knobs)
        .map(|k| k.name)
        .filter(|n| !FIXED.contains(n))
        .collect();
    let s = Section::open(root, "optimizer", &extra)?;
    let name = s.text("name")?;
    let wanted = name.as_ref().map_or("adamw", |n| n.value.as_str());
    let card = match OPTIMIZERS.iter().find(|c| c.name == wanted) {
        Some(card) => card,
        None => {
            let node = &s.entry("name").expect("only a written name can be unknown").node;
            let known = OPTIMIZERS.iter().map(|c| c.name);
            return Err(super::section::unknown_word(node, "name", wanted, known));
        }
    };
    let mut knobs = Vec::new();
    for knob in extra {
        let Some(entry) = s.entry(knob) else { continue };
        if knobs.iter().any(|(name, _)| *name == knob) {
            continue;
        }
        let Some(own) = card.knob(knob) else {
            let with: Vec<_> =
                OPTIMIZERS.iter().filter(|c| c.knob(knob).is_some()).map(|c| c.name).collect();
            let message = format!("`{knob}` has no effect with optimizer \"{}\"", card.name);
            return Err(RecipeError::at(&entry.key_place, message)
                .note(format!("remove it, or choose one that has it: {}", with.join(", "))));
        };
        let value = optimizer_value(&entry.node, own)?;
        knobs.push((own.name, Set { value, place: entry.node.place.clone() }));
    }
    let named = name.map(|n| n.place);
    Ok(OptimizerDraft { card, named, learning_rate: s.number("learning-rate")?, knobs })
}

fn optimizer_value(
    node: &Node,
    knob: &'static heldout_base::card::Knob,
) -> Result<OptimizerValue, RecipeError> {
    let flag_like = knob.choices.contains(&"yes") && knob.choices.contains(&"no");
    match &node.value {
        Value::Flag(flag) if flag_like => {
            Ok(OptimizerValue::Text(if *flag { "yes" } else { "no" }.into()))
        }
        Value::Text(text) if knob.choices.contains(&text.as_str()) => {
            Ok(OptimizerValue::Text(text.clone()))
        }
        Value::Text(text) if !knob.choices.is_empty() => {
            Err(super::section::unknown_word(node, knob.name, text, knob.choices.iter().copied()))
        }
        _ if matches!(knob.default, Default_::Text(_)) => {
            let all: Vec<_> = knob.choices.iter().map(|c| format!("\"{c}\"")).collect();
            let message = format!("`{}` cannot be {}", knob.name, node.value.kind());
            Err(RecipeError::at(&node.place, message).note(format!("allowed: {}", all.join(", "))))
        }
        _ => shapes::knob_number(node, knob).map(OptimizerValue::Number),
    }
}

fn schedule(root: &Table) -> Result<ScheduleDraft, RecipeError> {
    // Names are checked against all shapes here, effects against the chosen one below.
    let s = Section::open(root, "schedule", &shapes::knob_names())?;
    let horizon = s.amount("horizon")?;
    let empty = Table::default();
    let table = match root.get("schedule").map(|e| &e.node.value) {
        Some(Value::Table(table)) => table,
        _ => &empty,
    };
    let shape = shapes::read(table, "[schedule]", &["horizon"], "cosine")?;
    let shape_place = table
        .entries
        .iter()
        .find(|e| !matches!(e.key.as_str(), "horizon" | "warmup"))
        .map(|e| e.key_place.clone());
    let warmup = match (shape.warmup, s.entry("warmup")) {
        (Some(value), Some(entry)) => Some(Set { value, place: entry.node.place.clone() }),
        _ => None,
    };
    Ok(ScheduleDraft { horizon, shape_place, warmup, shape })
}

fn batch(root: &Table) -> Result<BatchDraft, RecipeError> {
    let s = Section::open(root, "batch", &[])?;
    let draft = BatchDraft { size: s.count_or("size")?, micro: s.count_or("micro")? };
    if let (Some(Set { value: Some(size), .. }), Some(Set { value: Some(micro), .. })) =
        (&draft.size, &draft.micro)
        && micro > size
    {
        let entry = s.entry("micro").expect("it was just read");
        return Err(out_of_range(&entry.node, "micro", &format!("at most the batch size, {size}")));
    }
    Ok(draft)
}

fn evaluate(root: &Table) -> Result<EvaluateDraft, RecipeError> {
    let s = Section::open(root, "evaluate", &[])?;
    let draft = EvaluateDraft {
        every: s.amount("every")?,
        windows: s.count_or("windows")?,
        train_windows: s.count("train-windows")?,
        samples: s.count("samples")?,
        sample_tokens: s.count("sample-tokens")?,
        monitor: s.choice("monitor")?,
        baseline: s.choice("baseline")?,
    };
    let task = data(root)?.task();
    of_task(&s, task, &[(&["samples", "sample-tokens"], &[TaskKind::LanguageModel])])?;
    let watchable: &[&str] = match task {
        TaskKind::LanguageModel => &["loss"],
        TaskKind::Masked => &["loss", "accuracy"],
        TaskKind::Classification => &["loss", "accuracy", "f1", "mcc"],
    };
    if let Some(Set { value, place }) = &draft.monitor
        && !watchable.contains(value)
    {
        let message = format!("a language model has no \"{value}\" to be watched");
        let allowed: Vec<String> = watchable.iter().map(|word| format!("\"{word}\"")).collect();
        let note = format!("allowed: {}", allowed.join(", "));
        return Err(RecipeError::at(place, message).note(note));
    }
    if let Some(entry) = s.entry("sample-tokens")
        && s.entry("samples").is_none_or(|e| number_of(&e.node) == Some(0.0))
    {
        return Err(RecipeError::at(&entry.key_place, "`sample-tokens` has no effect")
            .note("no text is generated: set samples = 1, or remove this key"));
    }
    Ok(draft)
}

fn run(root: &Table) -> Result<RunDraft, RecipeError> {
    let s = Section::open(root, "run", &[])?;
    Ok(RunDraft {
        seed: s.count("seed")?,
        precision: s.choice("precision")?,
        threads: s.count_or("threads")?,
        memory: s.choice("memory")?,
        isa: s.choice("isa")?,
        checkpoint: s.amount("checkpoint")?,
        keep: s.count("keep")?,
        histograms: s.amount("histograms")?,
    })
}
