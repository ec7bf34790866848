//! config.json of the encoder-decoders: `bart`, `mbart` and `marian`.

use serde_json::{Value, json};

use super::config::{Reader, SpecialTokens, brief, exact};
use crate::{Activation, Decoder, Family, Head, ModelConfig, ModelError, Norms, Scaled, Tied};

/// The class of transformers that computes the model.
pub(super) fn architecture(config: &ModelConfig) -> &'static str {
    match (config.family, config.decoder.norms) {
        (Family::Marian, _) => "MarianMTModel",
        (_, Norms::After) => "BartForConditionalGeneration",
        (_, Norms::Before) => "MBartForConditionalGeneration",
    }
}

/// The `model_type` that goes with the name of a class.
pub(super) fn model_type(architecture: &str) -> Option<&'static str> {
    let starts = [("Bart", "bart"), ("MBart", "mbart"), ("Marian", "marian")];
    let found = starts.iter().find(|(start, _)| architecture.starts_with(start));
    found.map(|(_, name)| *name)
}

/// The id that ends a text, which generation stops at.
pub(super) fn end_id(config: &ModelConfig) -> Option<u32> {
    config.is_seq2seq().then_some(config.decoder.end)
}

pub(super) fn json(config: &ModelConfig) -> Value {
    let architecture = architecture(config);
    let decoder = &config.decoder;
    let mut json = json!({
        "architectures": [architecture],
        "model_type": model_type(architecture),
        "is_encoder_decoder": true,
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context,
        "d_model": config.width,
        "encoder_layers": config.layers,
        "encoder_attention_heads": config.heads,
        "encoder_ffn_dim": config.hidden,
        "decoder_layers": decoder.layers,
        "decoder_attention_heads": decoder.heads,
        "decoder_ffn_dim": decoder.hidden,
        "activation_function": match config.activation {
            Activation::GeluTanh => "gelu_new",
            Activation::GeluErf => "gelu",
            Activation::Relu => "relu",
            Activation::Silu => "silu",
        },
        "scale_embedding": decoder.scaled == Scaled::Yes,
        "init_std": exact(config.init_std),
        "decoder_start_token_id": decoder.start,
        "forced_bos_token_id": decoder.forced_first,
        "forced_eos_token_id": decoder.forced_last,
        // Rates of zero as in the other exports: the weights are as trained, whatever the noise.
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "encoder_layerdrop": 0.0,
        "decoder_layerdrop": 0.0,
    });
    if config.family == Family::Marian
        && let Value::Object(json) = &mut json
    {
        json.insert("decoder_vocab_size".into(), config.vocabulary.into());
        json.insert("share_encoder_decoder_embeddings".into(), true.into());
    }
    json
}

/// Which tokens begin and end a target, and that padding is never one of it.
pub(super) fn generation_json(config: &ModelConfig, special: SpecialTokens) -> Value {
    let Decoder { start, end, padding, forced_first, forced_last, .. } = config.decoder;
    json!({
        "bos_token_id": special.bos,
        "eos_token_id": end,
        "pad_token_id": padding,
        "decoder_start_token_id": start,
        "forced_bos_token_id": forced_first,
        "forced_eos_token_id": forced_last,
        // Marian's targets start with padding, which may so come again.
        "bad_words_ids": [[padding]],
        "max_length": config.context,
    })
}

/// BART, or mBART where norms stand in front.
pub(super) fn parse_bart(reader: &Reader, norms: Norms) -> Result<ModelConfig, ModelError> {
    let before = norms == Norms::Before;
    let reason = "norms stand where the model's type says";
    reader.require("normalize_before", json!(before), reason)?;
    reader.require("add_final_layer_norm", json!(before), reason)?;
    reader.require("normalize_embedding", json!(true), "the embedding's sum is normalised")?;
    reader.require("static_position_embeddings", json!(false), "positions are learned here")?;
    let base = ModelConfig { family: Family::Bart, ..parse(reader)? };
    let start = id(reader, "decoder_start_token_id")?.or(match norms {
        Norms::After => Some(2),
        // Of the language to write, which is the source's last token in training.
        Norms::Before => id(reader, "eos_token_id")?,
    });
    let decoder = Decoder {
        norms,
        start: start.unwrap_or(2),
        end: id(reader, "eos_token_id")?.unwrap_or(2),
        padding: id(reader, "pad_token_id")?.unwrap_or(1),
        ..base.decoder
    };
    Ok(ModelConfig { decoder, ..base })
}

pub(super) fn parse_marian(reader: &Reader) -> Result<ModelConfig, ModelError> {
    let reason_shared = "source and target share one token table here";
    reader.require("share_encoder_decoder_embeddings", json!(true), reason_shared)?;
    reader.require("normalize_before", json!(false), "Marian's norms stand behind each branch")?;
    let reason = "Marian's embedding is not normalised here";
    reader.require("normalize_embedding", json!(false), reason)?;
    let reason = "positions are sinusoids here";
    reader.require("static_position_embeddings", json!(true), reason)?;
    let base = ModelConfig { family: Family::Marian, ..parse(reader)? };
    reader.require("decoder_vocab_size", json!(base.vocabulary), reason_shared)?;
    let padding = id(reader, "pad_token_id")?.unwrap_or(58100);
    let decoder = Decoder {
        padding,
        start: id(reader, "decoder_start_token_id")?.unwrap_or(58100),
        end: id(reader, "eos_token_id")?.unwrap_or(0),
        ..base.decoder
    };
    Ok(ModelConfig { decoder, ..base })
}

/// What both families have.
fn parse(reader: &Reader) -> Result<ModelConfig, ModelError> {
    if reader.tied(Tied::Yes)? == Tied::No {
        let reason = "encoder, decoder and output projection share one token table here".into();
        let (key, found) = ("tie_word_embeddings".into(), "false".into());
        return Err(ModelError::Unsupported { key, found, reason });
    }
    let base = ModelConfig::bart(
        reader.size("vocab_size", "the number of token ids")?,
        reader.size("max_position_embeddings", "the longest sequence in tokens")?,
        reader.size("encoder_layers", "the encoder's number of blocks")?,
        reader.size("encoder_attention_heads", "the encoder's number of attention heads")?,
        reader.size("d_model", "the width of the model")?,
    );
    let scaled = match reader.get("scale_embedding") {
        None | Some(Value::Bool(false)) => Scaled::No,
        Some(Value::Bool(true)) => Scaled::Yes,
        Some(other) => {
            return Err(super::config::wrong_kind("scale_embedding", other, "true or false"));
        }
    };
    let decoder = Decoder {
        layers: reader.size("decoder_layers", "the decoder's number of blocks")?,
        heads: reader.size("decoder_attention_heads", "the decoder's number of heads")?,
        hidden: reader.size("decoder_ffn_dim", "the width of the decoder's feed-forward layer")?,
        scaled,
        forced_first: id(reader, "forced_bos_token_id")?,
        forced_last: id(reader, "forced_eos_token_id")?,
        ..base.decoder
    };
    Ok(ModelConfig {
        hidden: reader.size("encoder_ffn_dim", "the width of the encoder's feed-forward layer")?,
        activation: reader.activation("activation_function", "gelu")?,
        init_std: reader.number("init_std", 0.02)?,
        decoder,
        ..base
    })
}

/// A token's id.
fn id(reader: &Reader, key: &'static str) -> Result<Option<u32>, ModelError> {
    let found = reader.optional_size(key)?;
    // What does not fit is refused as outside the vocabulary.
    Ok(found.map(|id| u32::try_from(id).unwrap_or(u32::MAX)))
}

/// Refuses classes with another head than the tokens'.
pub(super) fn head(reader: &Reader) -> Result<Head, ModelError> {
    let name = reader.get("architectures").and_then(|list| list.get(0)?.as_str());
    match name {
        None => Ok(Head::LanguageModel),
        Some(name) if name.ends_with("ForConditionalGeneration") || name.ends_with("Model") => {
            Ok(Head::LanguageModel)
        }
        Some(name) => Err(ModelError::Unsupported {
            key: "architectures".into(),
            found: brief(&json!(name)),
            reason: "an encoder-decoder writes text here (BartForConditionalGeneration, \
                     MBartForConditionalGeneration, MarianMTModel)"
                .into(),
        }),
    }
}
