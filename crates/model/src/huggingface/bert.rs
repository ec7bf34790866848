//! config.json of the encoders: `bert`, `roberta` and `distilbert`, whose keys differ.

use serde_json::{Value, json};

use super::config::{Reader, brief, exact};
use crate::{Activation, Encoder, Family, Head, ModelConfig, ModelError, Tied, Variant};

/// The class of transformers that computes the model.
pub(super) fn architecture(variant: Variant, head: Head) -> &'static str {
    match (variant, head) {
        (Variant::Bert, Head::LanguageModel) => "BertForMaskedLM",
        (Variant::Bert, Head::Classification { .. }) => "BertForSequenceClassification",
        (Variant::Bert, Head::Span) => "BertForQuestionAnswering",
        (Variant::Bert, Head::Features) => "BertModel",
        (Variant::Roberta, Head::LanguageModel) => "RobertaForMaskedLM",
        (Variant::Roberta, Head::Classification { .. }) => "RobertaForSequenceClassification",
        (Variant::Roberta, Head::Span) => "RobertaForQuestionAnswering",
        (Variant::Roberta, Head::Features) => "RobertaModel",
        (Variant::Distilbert, Head::LanguageModel) => "DistilBertForMaskedLM",
        (Variant::Distilbert, Head::Classification { .. }) => "DistilBertForSequenceClassification",
        (Variant::Distilbert, Head::Span) => "DistilBertForQuestionAnswering",
        (Variant::Distilbert, Head::Features) => "DistilBertModel",
    }
}

/// The `model_type` that goes with the name of a class.
pub(super) fn model_type(architecture: &str) -> Option<&'static str> {
    let starts = [("Bert", "bert"), ("Roberta", "roberta"), ("DistilBert", "distilbert")];
    let found = starts.iter().find(|(start, _)| architecture.starts_with(start));
    found.map(|(_, name)| *name)
}

/// The id that padding has to have, because positions count from it.
pub(super) fn padding_id(config: &ModelConfig) -> Option<u32> {
    let counted = config.family == Family::Bert && config.encoder.variant == Variant::Roberta;
    counted.then(|| config.encoder.first_position as u32 - 1)
}

pub(super) fn json(config: &ModelConfig, architecture: &str) -> Value {
    let activation = match config.activation {
        Activation::GeluTanh => "gelu_new",
        Activation::GeluErf => "gelu",
        Activation::Relu => "relu",
        Activation::Silu => "silu",
    };
    let positions = config.context + config.encoder.first_position;
    // Rates of zero as in the other exports: the weights are as trained, whatever the noise.
    match config.encoder.variant {
        Variant::Bert | Variant::Roberta => json!({
            "architectures": [architecture],
            "model_type": config.encoder.variant.name(),
            "vocab_size": config.vocabulary,
            "max_position_embeddings": positions,
            "type_vocab_size": config.encoder.segments,
            "hidden_size": config.width,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "intermediate_size": config.hidden,
            "hidden_act": activation,
            "layer_norm_eps": exact(config.norm_epsilon),
            "position_embedding_type": "absolute",
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }),
        Variant::Distilbert => json!({
            "architectures": [architecture],
            "model_type": "distilbert",
            "vocab_size": config.vocabulary,
            "max_position_embeddings": positions,
            "sinusoidal_pos_embds": false,
            "dim": config.width,
            "n_layers": config.layers,
            "n_heads": config.heads,
            "hidden_dim": config.hidden,
            "activation": activation,
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "qa_dropout": 0.0,
            "seq_classif_dropout": 0.0,
        }),
    }
}

/// Everything but the head.
pub(super) fn parse(reader: &Reader, variant: Variant) -> Result<ModelConfig, ModelError> {
    let reason = "every position reads the whole sequence here";
    reader.require("is_decoder", json!(false), reason)?;
    reader.require("add_cross_attention", json!(false), "there is one sequence here")?;
    let reason = "positions are a learned table here";
    reader.require("position_embedding_type", json!("absolute"), reason)?;
    if reader.tied(Tied::Yes)? == Tied::No {
        let reason = "an encoder's output projection is its token table here".into();
        let (key, found) = ("tie_word_embeddings".into(), "false".into());
        return Err(ModelError::Unsupported { key, found, reason });
    }
    let vocabulary = reader.size("vocab_size", "the number of token ids")?;
    let rows = reader.size("max_position_embeddings", "the rows of the position table")?;
    if variant == Variant::Distilbert {
        return parse_distilbert(reader, vocabulary, rows);
    }
    let padding = reader.optional_size("pad_token_id")?.unwrap_or(1);
    let first_position = if variant == Variant::Roberta { padding + 1 } else { 0 };
    let base = ModelConfig::bert(
        variant,
        vocabulary,
        rows.saturating_sub(first_position),
        reader.size("num_hidden_layers", "the number of blocks")?,
        reader.size("num_attention_heads", "the number of attention heads")?,
        reader.size("hidden_size", "the width of the model")?,
    );
    let segments = reader.optional_size("type_vocab_size")?.unwrap_or(2);
    Ok(ModelConfig {
        hidden: reader.size("intermediate_size", "the width of the feed-forward layer")?,
        activation: reader.activation("hidden_act", "gelu")?,
        norm_epsilon: reader.number("layer_norm_eps", 1e-12)?,
        init_std: reader.number("initializer_range", 0.02)?,
        encoder: Encoder { variant, segments, first_position },
        ..base
    })
}

fn parse_distilbert(
    reader: &Reader,
    vocabulary: usize,
    context: usize,
) -> Result<ModelConfig, ModelError> {
    let base = ModelConfig::bert(
        Variant::Distilbert,
        vocabulary,
        context,
        reader.size("n_layers", "the number of blocks")?,
        reader.size("n_heads", "the number of attention heads")?,
        reader.size("dim", "the width of the model")?,
    );
    // Sinusoids are a table in the file all the same, which may then be trained.
    Ok(ModelConfig {
        hidden: reader.size("hidden_dim", "the width of the feed-forward layer")?,
        activation: reader.activation("activation", "gelu")?,
        init_std: reader.number("initializer_range", 0.02)?,
        ..base
    })
}

/// The head that the architecture's name says; none where there is no name.
pub(super) fn head(reader: &Reader) -> Result<Head, ModelError> {
    let Some(name) = reader.get("architectures").and_then(|list| list.get(0)?.as_str()) else {
        return Ok(Head::Features);
    };
    let ends = |end: &str| name.ends_with(end);
    match name {
        _ if ends("ForMaskedLM") || ends("ForPreTraining") => Ok(Head::LanguageModel),
        _ if ends("ForSequenceClassification") => reader.head(),
        _ if ends("ForQuestionAnswering") => Ok(Head::Span),
        _ if ends("Model") => Ok(Head::Features),
        _ => Err(ModelError::Unsupported {
            key: "architectures".into(),
            found: brief(&json!(name)),
            reason: "the heads of encoders here are ForMaskedLM, ForSequenceClassification, \
                     ForQuestionAnswering and none (…Model): set \"architectures\" to that of the \
                     same family to start from its body"
                .into(),
        }),
    }
}
