//! config.json and generation_config.json: written for transformers, and read from it.

use heldout_base::nearest::nearest;
use serde_json::{Map, Value, json};

use super::{bert, labels, seq2seq};
use crate::{Activation, Family, Head, ModelConfig, ModelError, Norms, QkNorm, Tied, Variant};

/// Ids of the tokens with a meaning beyond text; None where the tokenizer has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Begins a document.
    pub bos: Option<u32>,
    /// Ends a document; generation stops at it.
    pub eos: Option<u32>,
    /// Fills up shorter sequences of a batch.
    pub pad: Option<u32>,
}

/// The config.json that transformers (4.x and 5.x) builds the same model from.
pub fn config_json(config: &ModelConfig, special: SpecialTokens) -> Value {
    let mut json = match config.family {
        Family::Gpt2 => gpt2_json(config),
        Family::Llama => llama_json(config),
        Family::Bert => bert::json(config, architecture(config)),
        Family::Bart | Family::Marian => seq2seq::json(config),
    };
    let shared = json!({
        "tie_word_embeddings": config.tied == Tied::Yes,
        "initializer_range": exact(config.init_std),
        // Written even when absent: transformers would fill in ids of its own.
        "bos_token_id": special.bos,
        "eos_token_id": seq2seq::end_id(config).or(special.eos),
        "pad_token_id": padding_id(config).or(special.pad),
        "dtype": "float32",
        "torch_dtype": "float32",
        "use_cache": true,
    });
    if let (Value::Object(json), Value::Object(shared)) = (&mut json, shared) {
        json.extend(shared);
    }
    if let Head::Classification { labels } = config.head {
        labels::write(&mut json, &labels::numbered(labels));
    }
    json
}

/// The id that padding has to have: positions count from it, or its vector is not trained.
fn padding_id(config: &ModelConfig) -> Option<u32> {
    bert::padding_id(config).or(config.is_seq2seq().then_some(config.decoder.padding))
}

/// The generation_config.json that goes with it: which tokens begin and end a text.
pub fn generation_config_json(config: &ModelConfig, special: SpecialTokens) -> Value {
    if config.is_seq2seq() {
        return seq2seq::generation_json(config, special);
    }
    json!({
        "bos_token_id": special.bos,
        "eos_token_id": special.eos,
        "pad_token_id": special.pad,
    })
}

fn gpt2_json(config: &ModelConfig) -> Value {
    json!({
        "architectures": [architecture(config)],
        "model_type": "gpt2",
        "vocab_size": config.vocabulary,
        "n_positions": config.context,
        "n_ctx": config.context,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.hidden,
        "activation_function": match config.activation {
            Activation::GeluTanh => "gelu_new",
            Activation::GeluErf => "gelu",
            Activation::Relu => "relu",
            Activation::Silu => "silu",
        },
        "layer_norm_epsilon": exact(config.norm_epsilon),
        // Rates matter to those who fine-tune the export with transformers; the weights are as
        // trained, whatever noise they were trained with.
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    })
}

fn llama_json(config: &ModelConfig) -> Value {
    let model_type = match config.qk_norm {
        QkNorm::No => "llama",
        QkNorm::Yes => "qwen3",
    };
    let theta = exact(config.rope_theta);
    json!({
        "architectures": [architecture(config)],
        "model_type": model_type,
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.hidden,
        "hidden_act": "silu",
        "rms_norm_eps": exact(config.norm_epsilon),
        // transformers 4 reads the first, transformers 5 the second.
        "rope_theta": theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "attention_bias": false,
        "mlp_bias": false,
        "attention_dropout": 0.0,
    })
}

/// The class of transformers that computes the model.
fn architecture(config: &ModelConfig) -> &'static str {
    match (config.family, config.qk_norm, config.head) {
        (Family::Gpt2, _, Head::LanguageModel) => "GPT2LMHeadModel",
        (Family::Llama, QkNorm::No, Head::LanguageModel) => "LlamaForCausalLM",
        (Family::Llama, QkNorm::Yes, Head::LanguageModel) => "Qwen3ForCausalLM",
        (Family::Bert, _, head) => bert::architecture(config.encoder.variant, head),
        (Family::Bart | Family::Marian, _, _) => seq2seq::architecture(config),
        (Family::Gpt2, _, _) => "GPT2ForSequenceClassification",
        (Family::Llama, QkNorm::No, _) => "LlamaForSequenceClassification",
        (Family::Llama, QkNorm::Yes, _) => "Qwen3ForSequenceClassification",
    }
}

/// The shortest decimal that reads back as the same f32: 1e-5, not 0.000009999999747378752.
pub(super) fn exact(value: f32) -> f64 {
    value.to_string().parse().expect("an f32 prints as a number")
}

/// Reads a config.json of GPT-2, Llama, Qwen3, BERT, RoBERTa or DistilBERT; an option that we do
/// not compute is an error.
pub fn parse_config(json: &Value) -> Result<ModelConfig, ModelError> {
    let Value::Object(object) = json else {
        let found = brief(json);
        return Err(ModelError::WrongKind { key: "(whole file)", found, expected: "an object" });
    };
    let reader = Reader { object };
    reader.refuse_present("quantization_config", "the weights must be f32, f16 or bf16")?;
    let config = match reader.model_type()?.as_str() {
        "gpt2" => parse_gpt2(&reader)?,
        "llama" => parse_llama(&reader, QkNorm::No)?,
        "qwen3" => parse_llama(&reader, QkNorm::Yes)?,
        "bert" => bert::parse(&reader, Variant::Bert)?,
        "roberta" => bert::parse(&reader, Variant::Roberta)?,
        "distilbert" => bert::parse(&reader, Variant::Distilbert)?,
        "bart" => seq2seq::parse_bart(&reader, Norms::After)?,
        "mbart" => seq2seq::parse_bart(&reader, Norms::Before)?,
        "marian" => seq2seq::parse_marian(&reader)?,
        other => return Err(unknown_model_type(other)),
    };
    let head = match config.family {
        Family::Bert => bert::head(&reader)?,
        Family::Gpt2 | Family::Llama => reader.head()?,
        Family::Bart | Family::Marian => seq2seq::head(&reader)?,
    };
    let config = ModelConfig { head, ..config };
    config.validate()?;
    Ok(config)
}

fn unknown_model_type(found: &str) -> ModelError {
    let supported =
        ["gpt2", "llama", "qwen3", "bert", "roberta", "distilbert", "bart", "mbart", "marian"];
    let meant = match nearest(found, supported) {
        Some(name) => format!("; did you mean {name:?}?"),
        None => String::new(),
    };
    ModelError::Unsupported {
        key: "model_type".into(),
        found: format!("{found:?}"),
        reason: format!("the supported architectures are {}{meant}", supported.join(", ")),
    }
}

fn parse_gpt2(reader: &Reader) -> Result<ModelConfig, ModelError> {
    reader.require("scale_attn_weights", json!(true), "attention is always scaled by 1/√D here")?;
    let reason = "attention is scaled by 1/√D in every layer here";
    reader.require("scale_attn_by_inverse_layer_idx", json!(false), reason)?;
    reader.require("add_cross_attention", json!(false), "only decoder-only models are computed")?;
    let width = reader.size("n_embd", "the width of the model")?;
    let context = match reader.optional_size("n_positions")? {
        Some(context) => context,
        None => reader.size("n_ctx", "the longest sequence in tokens, also called n_positions")?,
    };
    let heads = reader.size("n_head", "the number of attention heads")?;
    let layers = reader.size("n_layer", "the number of blocks")?;
    let vocabulary = reader.size("vocab_size", "the number of token ids")?;
    let base = ModelConfig::gpt2(vocabulary, context, layers, heads, width);
    Ok(ModelConfig {
        hidden: reader.optional_size("n_inner")?.unwrap_or(base.hidden),
        activation: reader.activation("activation_function", "gelu_new")?,
        norm_epsilon: reader.number("layer_norm_epsilon", 1e-5)?,
        init_std: reader.number("initializer_range", 0.02)?,
        tied: reader.tied(Tied::Yes)?,
        ..base
    })
}

fn parse_llama(reader: &Reader, qk_norm: QkNorm) -> Result<ModelConfig, ModelError> {
    reader.require("attention_bias", json!(false), "this family has no biases here")?;
    reader.require("mlp_bias", json!(false), "this family has no biases here")?;
    reader.refuse_sliding_window(qk_norm)?;
    let rope_theta = reader.rope_theta()?;
    let width = reader.size("hidden_size", "the width of the model")?;
    let heads = reader.size("num_attention_heads", "the number of query heads")?;
    let kv_heads = reader.optional_size("num_key_value_heads")?.unwrap_or(heads);
    let base = ModelConfig::llama(
        reader.size("vocab_size", "the number of token ids")?,
        reader.size("max_position_embeddings", "the longest sequence in tokens")?,
        reader.size("num_hidden_layers", "the number of blocks")?,
        heads,
        kv_heads,
        width,
    );
    // Without head_dim transformers takes width / heads for Llama, but 128 for Qwen3.
    let head_width = match (reader.optional_size("head_dim")?, qk_norm) {
        (Some(head_width), _) => head_width,
        (None, QkNorm::No) => base.head_width,
        (None, QkNorm::Yes) => 128,
    };
    let activation = reader.activation("hidden_act", "silu")?;
    if activation != Activation::Silu {
        let found = brief(&reader.object["hidden_act"]);
        let reason = "this family's feed-forward layer is SwiGLU, whose gate is SiLU".into();
        return Err(ModelError::Unsupported { key: "hidden_act".into(), found, reason });
    }
    Ok(ModelConfig {
        head_width,
        hidden: reader.size("intermediate_size", "the width of the feed-forward layer")?,
        norm_epsilon: reader.number("rms_norm_eps", 1e-6)?,
        init_std: reader.number("initializer_range", 0.02)?,
        tied: reader.tied(Tied::No)?,
        rope_theta,
        qk_norm,
        ..base
    })
}

/// Typed access to config.json's keys; `null` counts as absent, as in transformers.
pub(super) struct Reader<'a> {
    pub object: &'a Map<String, Value>,
}

impl Reader<'_> {
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn model_type(&self) -> Result<String, ModelError> {
        if let Some(Value::String(name)) = self.get("model_type") {
            return Ok(name.clone());
        }
        let architecture = self.get("architectures").and_then(|list| list.get(0)?.as_str());
        match architecture {
            Some("GPT2LMHeadModel" | "GPT2ForSequenceClassification") => Ok("gpt2".into()),
            Some("LlamaForCausalLM" | "LlamaForSequenceClassification") => Ok("llama".into()),
            Some("Qwen3ForCausalLM" | "Qwen3ForSequenceClassification") => Ok("qwen3".into()),
            Some(other) => {
                let found = bert::model_type(other).or(seq2seq::model_type(other));
                Ok(found.unwrap_or(other).into())
            }
            None => Err(ModelError::MissingKey {
                key: "model_type",
                meaning: "the architecture: \"gpt2\", \"llama\", \"qwen3\", \"bert\", \"roberta\", \
                          \"distilbert\", \"bart\", \"mbart\" or \"marian\"",
            }),
        }
    }

    /// The head that the architecture's name ends in; a language model's where none is named.
    pub fn head(&self) -> Result<Head, ModelError> {
        let architecture = self.get("architectures").and_then(|list| list.get(0)?.as_str());
        match architecture {
            Some(name) if name.ends_with("ForSequenceClassification") => {
                let names = labels::read(self.object)?;
                // transformers counts two where nothing is said.
                Ok(Head::Classification { labels: names.map_or(2, |names| names.len()) })
            }
            _ => Ok(Head::LanguageModel),
        }
    }

    pub fn size(&self, key: &'static str, meaning: &'static str) -> Result<usize, ModelError> {
        self.optional_size(key)?.ok_or(ModelError::MissingKey { key, meaning })
    }

    pub fn optional_size(&self, key: &'static str) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().and_then(|size| usize::try_from(size).ok()) {
            Some(size) => Ok(Some(size)),
            None => Err(wrong_kind(key, value, "a whole number")),
        }
    }

    pub fn number(&self, key: &'static str, default: f32) -> Result<f32, ModelError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => number(key, value),
        }
    }

    pub fn tied(&self, default: Tied) -> Result<Tied, ModelError> {
        match self.get("tie_word_embeddings") {
            None => Ok(default),
            Some(Value::Bool(true)) => Ok(Tied::Yes),
            Some(Value::Bool(false)) => Ok(Tied::No),
            Some(other) => Err(wrong_kind("tie_word_embeddings", other, "true or false")),
        }
    }

    pub fn activation(&self, key: &'static str, default: &str) -> Result<Activation, ModelError> {
        let value = self.get(key).cloned().unwrap_or_else(|| default.into());
        match value.as_str() {
            Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Ok(Activation::GeluTanh),
            Some("gelu" | "gelu_python") => Ok(Activation::GeluErf),
            Some("relu") => Ok(Activation::Relu),
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some(_) => Err(ModelError::Unsupported {
                key: key.into(),
                found: brief(&value),
                reason: "the activations here are gelu, gelu_new, relu and silu".into(),
            }),
            None => Err(wrong_kind(key, &value, "a name")),
        }
    }

    /// Refuses `key` unless it is absent or has the one value that we compute.
    pub fn require(&self, key: &'static str, only: Value, reason: &str) -> Result<(), ModelError> {
        match self.get(key) {
            None => Ok(()),
            Some(value) if *value == only => Ok(()),
            Some(other) => Err(unsupported(key, other, reason)),
        }
    }

    fn refuse_present(&self, key: &'static str, reason: &str) -> Result<(), ModelError> {
        self.get(key).map_or(Ok(()), |value| Err(unsupported(key, value, reason)))
    }

    fn refuse_sliding_window(&self, qk_norm: QkNorm) -> Result<(), ModelError> {
        let reason = "attention spans the whole context here";
        self.require("use_sliding_window", json!(false), reason)?;
        // Qwen3 writes a window even where use_sliding_window turns it off.
        if qk_norm == QkNorm::No {
            self.refuse_present("sliding_window", reason)?;
        }
        let is_full = |kind: &Value| kind.as_str() == Some("full_attention");
        match self.get("layer_types") {
            Some(Value::Array(kinds)) if kinds.iter().all(is_full) => Ok(()),
            Some(other) => Err(unsupported("layer_types", other, reason)),
            None => Ok(()),
        }
    }

    /// The base of the rotary frequencies, from wherever transformers 4 or 5 keeps it.
    fn rope_theta(&self) -> Result<f32, ModelError> {
        let mut theta = self.number("rope_theta", 10_000.0)?;
        for key in ["rope_scaling", "rope_parameters"] {
            let Some(value) = self.get(key) else { continue };
            let Value::Object(rope) = value else {
                return Err(wrong_kind(key, value, "an object"));
            };
            let kind = rope.get("rope_type").or(rope.get("type")).and_then(Value::as_str);
            if !matches!(kind, None | Some("default")) {
                let reason = "rotary frequencies are not rescaled here: only \"default\" works";
                return Err(unsupported(key, value, reason));
            }
            if let Some(value) = rope.get("rope_theta").filter(|value| !value.is_null()) {
                theta = number("rope_theta", value)?;
            }
            if let Some(share) = rope.get("partial_rotary_factor") {
                require_whole_rotation(share)?;
            }
        }
        if let Some(share) = self.get("partial_rotary_factor") {
            require_whole_rotation(share)?;
        }
        Ok(theta)
    }
}

fn require_whole_rotation(share: &Value) -> Result<(), ModelError> {
    if share.is_null() || share.as_f64() == Some(1.0) {
        return Ok(());
    }
    Err(unsupported("partial_rotary_factor", share, "all channels of a head are rotated here"))
}

fn number(key: &'static str, value: &Value) -> Result<f32, ModelError> {
    match value.as_f64() {
        Some(number) => Ok(number as f32),
        None => Err(wrong_kind(key, value, "a number")),
    }
}

fn unsupported(key: &str, found: &Value, reason: &str) -> ModelError {
    ModelError::Unsupported { key: key.into(), found: brief(found), reason: reason.into() }
}

pub(super) fn wrong_kind(key: &'static str, found: &Value, expected: &'static str) -> ModelError {
    ModelError::WrongKind { key, found: brief(found), expected }
}

/// A value as it stands in the file, cut short.
pub(super) fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
