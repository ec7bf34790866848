//! Writes a resolved recipe as TOML that reads back to the same recipe, each value with its origin.

use std::fmt::Write;

use heldout_kernels::{Activations, Isa};
use heldout_model::{Activation, Family, QkNorm};
use heldout_optim::KnobValue as OptimizerValue;

use super::resolved::{Part, ResolvedRecipe, TaskKind};
use super::shapes::{number_text, shape_keys};
use super::techniques::{settings_text, toml_text};

/// Collects `key = value  # origin` lines.
struct Page<'a> {
    recipe: &'a ResolvedRecipe,
    table: &'static str,
    text: String,
}

impl Page<'_> {
    fn table(&mut self, table: &'static str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.table = table;
        let _ = writeln!(self.text, "[{table}]");
    }

    fn key(&mut self, key: &str, value: impl AsRef<str>) {
        let line = format!("{key} = {}", value.as_ref());
        match self.recipe.origins.get(&format!("{}.{key}", self.table)) {
            Some(origin) => {
                let origin = origin.to_string().replace('\n', " ");
                let _ = writeln!(self.text, "{line:<36}  # {origin}");
            }
            None => {
                let _ = writeln!(self.text, "{line}");
            }
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key, toml_text(value));
    }

    fn count(&mut self, key: &str, value: usize) {
        self.key(key, value.to_string());
    }

    fn count_or(&mut self, key: &str, value: Option<usize>, word: &str) {
        self.key(key, value.map_or_else(|| toml_text(word), |n| n.to_string()));
    }
}

/// The recipe as a TOML file.
pub fn to_toml(recipe: &ResolvedRecipe) -> String {
    let text = String::new();
    let mut page = Page { recipe, table: "", text };
    data(&mut page);
    model(&mut page);
    page.table("optimizer");
    page.text("name", &recipe.optimizer.name);
    page.key("learning-rate", number_text(recipe.schedule.rate.peak));
    for (knob, value) in &recipe.optimizer.knobs {
        match value {
            OptimizerValue::Number(number) => page.key(knob, number_text(*number)),
            OptimizerValue::Text(text) => page.text(knob, text),
        }
    }
    page.table("schedule");
    page.text("horizon", &recipe.schedule.horizon.to_string());
    page.text("warmup", &recipe.schedule.rate.warmup.to_string());
    for (key, value) in shape_keys(&recipe.schedule.rate.shape) {
        page.key(key, value);
    }
    page.table("batch");
    page.count_or("size", recipe.batch.size, "full");
    page.count("micro", recipe.batch.micro);
    page.table("regularize");
    for technique in &recipe.regularize {
        match &technique.settings {
            Some(settings) => page.key(technique.card.name, settings_text(settings)),
            None => page.key(technique.card.name, "false"),
        }
    }
    evaluate_and_run(&mut page);
    page.text
}

fn part_text(part: &Part) -> String {
    match part {
        Part::Share(share) => number_text(*share),
        Part::Tail(share) => format!("\"last {}%\"", (share * 1e12).round() / 1e10),
        Part::Paths(paths) => list(paths),
    }
}

fn list(items: &[String]) -> String {
    let items: Vec<_> = items.iter().map(|i| toml_text(i)).collect();
    format!("[{}]", items.join(", "))
}

fn data(page: &mut Page<'_>) {
    let data = &page.recipe.data;
    page.table("data");
    page.text("task", data.task.word());
    page.key("train", list(&data.train));
    page.key("validation", part_text(&data.validation));
    if let Some(test) = &data.test {
        page.key("test", part_text(test));
    }
    if let Some(field) = &data.field {
        page.text("field", field);
    }
    match data.task {
        TaskKind::LanguageModel => page.text("boundary", &data.boundary),
        TaskKind::Masked => {
            page.text("boundary", &data.boundary);
            page.key("mask-rate", number_text(data.mask_rate));
            page.key("whole-word", if data.whole_word { "true" } else { "false" });
        }
        TaskKind::Classification => labelled(page),
        TaskKind::QuestionAnswering => answered(page),
        TaskKind::Seq2Seq => pairs(page),
    }
    page.text("tokenizer", &data.tokenizer);
    if let Some(vocabulary) = data.vocabulary {
        page.count("vocabulary", vocabulary);
    }
    page.text("duplicates", &data.duplicates);
    if let Some(seed) = data.seed {
        page.key("seed", seed.to_string());
    }
}

fn labelled(page: &mut Page<'_>) {
    let data = &page.recipe.data;
    for (key, field) in [("text", &data.text), ("pair", &data.pair), ("label", &data.label)] {
        if let Some(field) = field {
            page.text(key, field);
        }
    }
    if let Some(limit) = data.limit {
        page.count("limit", limit);
    }
}

fn answered(page: &mut Page<'_>) {
    let data = &page.recipe.data;
    let fields =
        [("question", &data.question), ("context", &data.context), ("answers", &data.answers)];
    for (key, field) in fields {
        if let Some(field) = field {
            page.text(key, field);
        }
    }
    if let Some(stride) = data.stride {
        page.count("stride", stride);
    }
    if let Some(limit) = data.limit {
        page.count("limit", limit);
    }
}

fn pairs(page: &mut Page<'_>) {
    let data = &page.recipe.data;
    for (key, field) in [("source", &data.source), ("target", &data.target)] {
        if let Some(field) = field {
            page.text(key, field);
        }
    }
    if let Some(limit) = data.limit {
        page.count("limit", limit);
    }
}

fn model(page: &mut Page<'_>) {
    let model = &page.recipe.model;
    let config = &model.config;
    page.table("model");
    if let Some(from) = &model.from {
        page.text("from", from);
        page.count("context", model.context);
        return;
    }
    let family = match config.family {
        Family::Gpt2 => "gpt2",
        Family::Llama => "llama",
        Family::Bert => "bert",
        Family::Bart => "bart",
        Family::Marian => "marian",
    };
    page.text("family", family);
    page.count("layers", config.layers);
    page.count("heads", config.heads);
    if config.family == Family::Llama {
        page.count("kv-heads", config.kv_heads);
    }
    page.count("width", config.width);
    page.count("hidden", config.hidden);
    page.count("context", model.context);
    if config.family == Family::Llama {
        page.key("qk-norm", if config.qk_norm == QkNorm::Yes { "true" } else { "false" });
        page.key("rope-theta", f32_text(config.rope_theta));
    } else if !config.is_seq2seq() {
        let erf = config.activation == Activation::GeluErf;
        page.text("activation", if erf { "gelu-erf" } else { "gelu-tanh" });
    }
    page.key("norm-epsilon", f32_text(config.norm_epsilon));
    page.key("init-std", f32_text(config.init_std));
}

/// The shortest decimal that reads back to the same f32.
fn f32_text(value: f32) -> String {
    let shortest: f64 = format!("{value:e}").parse().expect("a printed float parses");
    number_text(shortest)
}

fn evaluate_and_run(page: &mut Page<'_>) {
    let (evaluate, run) = (page.recipe.evaluate, &page.recipe.run);
    page.table("evaluate");
    page.text("every", &evaluate.every.to_string());
    page.count_or("windows", evaluate.windows, "all");
    page.count("train-windows", evaluate.train_windows);
    if page.recipe.data.task == TaskKind::LanguageModel {
        page.count("samples", evaluate.samples);
    }
    if evaluate.samples > 0 {
        page.count("sample-tokens", evaluate.sample_tokens);
    }
    if page.recipe.data.task == TaskKind::Seq2Seq {
        page.count("written", evaluate.written);
        page.text("metrics", evaluate.scored_as.word());
    }
    page.text("monitor", evaluate.monitor.word());
    page.text("baseline", evaluate.baseline.word());
    page.table("run");
    page.key("seed", run.seed.to_string());
    page.text("precision", &run.precision);
    page.count_or("threads", run.threads, "auto");
    let keep = run.memory == Activations::Keep;
    page.text("memory", if keep { "keep" } else { "recompute" });
    page.text("isa", run.isa.map_or("auto", Isa::name));
    page.text("checkpoint", &run.checkpoint.to_string());
    page.count("keep", run.keep);
    page.text("histograms", &run.histograms.to_string());
}
