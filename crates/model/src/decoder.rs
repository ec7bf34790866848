//! What encoder-decoder models choose besides: their decoder, where norms stand, and the token
//! ids with a meaning.

use serde::{Deserialize, Serialize};

use crate::config::{LAYERS_MAX, setting};
use crate::{Activation, Family, Head, ModelConfig, ModelError, QkNorm, Tied};

/// Where a block's norms stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norms {
    /// Behind each branch's sum, as in BART and Marian.
    #[default]
    After,
    /// In front of each branch, and one behind the last block, as in mBART (Liu et al. 2020,
    /// arXiv:2001.08210). BART family only; exported as `MBartForConditionalGeneration`.
    Before,
}

/// Whether token vectors are multiplied with √C before positions are added (Vaswani et al. 2017).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scaled {
    #[default]
    No,
    Yes,
}

/// The decoder of an encoder-decoder model; nothing for the other families, whose `layers`,
/// `heads` and `hidden` are their only ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoder {
    /// Blocks of the decoder; those of the encoder are the model's `layers`.
    pub layers: usize,
    /// Heads of its attention, over the target and over the source.
    pub heads: usize,
    /// Width of its feed-forward layers.
    pub hidden: usize,
    pub norms: Norms,
    pub scaled: Scaled,
    /// The token that every target begins with, which no loss asks for: `decoder_start_token_id`.
    pub start: u32,
    /// The token that ends a text, sources included: `eos_token_id`.
    pub end: u32,
    /// The token that stands behind a text's end. Its vector is read (Marian's targets begin with
    /// it) but not trained by that, as in PyTorch: `pad_token_id`.
    pub padding: u32,
    /// The first token that generation has to choose, as in multilingual models:
    /// `forced_bos_token_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced_first: Option<u32>,
    /// The token that generation has to end with where its length runs out: `forced_eos_token_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced_last: Option<u32>,
}

impl Decoder {
    pub(crate) fn is_default(&self) -> bool {
        *self == Decoder::default()
    }
}

impl ModelConfig {
    /// BART (Lewis et al. 2019, arXiv:1910.13461) with its usual choices: as many decoder blocks
    /// as encoder blocks, F = 4C, GELU, ε = 1e-5, learned positions, and the ids of its own
    /// vocabulary: padding 1, end 2, which also starts a target. Set `decoder` for others.
    pub fn bart(
        vocabulary: usize,
        context: usize,
        layers: usize,
        heads: usize,
        width: usize,
    ) -> ModelConfig {
        let base = ModelConfig::gpt2(vocabulary, context, layers, heads, width);
        let decoder = Decoder {
            layers,
            heads,
            hidden: base.hidden,
            norms: Norms::After,
            scaled: Scaled::No,
            start: 2,
            end: 2,
            padding: 1,
            forced_first: None,
            forced_last: Some(2),
        };
        ModelConfig { family: Family::Bart, activation: Activation::GeluErf, decoder, ..base }
    }

    /// Marian (Junczys-Dowmunt et al. 2018, arXiv:1804.00344) as the published opus-mt models are:
    /// sinusoidal positions, token vectors times √C, SiLU; end 0 and, as the last of the
    /// vocabulary, padding, which also starts a target. Set `decoder` for others.
    pub fn marian(
        vocabulary: usize,
        context: usize,
        layers: usize,
        heads: usize,
        width: usize,
    ) -> ModelConfig {
        let base = ModelConfig::bart(vocabulary, context, layers, heads, width);
        let padding = vocabulary.saturating_sub(1).min(u32::MAX as usize) as u32;
        let decoder = Decoder {
            scaled: Scaled::Yes,
            start: padding,
            end: 0,
            padding,
            forced_last: Some(0),
            ..base.decoder
        };
        ModelConfig { family: Family::Marian, activation: Activation::Silu, decoder, ..base }
    }

    /// Whether the model reads a source and writes a target: an encoder and a decoder.
    pub fn is_seq2seq(&self) -> bool {
        matches!(self.family, Family::Bart | Family::Marian)
    }

    /// An error unless the model turns one text into another.
    pub fn require_seq2seq(&self) -> Result<(), ModelError> {
        match self.is_seq2seq() {
            true => Ok(()),
            false => Err(ModelError::NotSeq2Seq { family: self.family_name() }),
        }
    }

    pub(crate) fn validate_seq2seq(&self) -> Result<(), ModelError> {
        self.require_width_multiple_of_heads()?;
        let decoder = &self.decoder;
        let sizes = [
            ("decoder.layers", decoder.layers),
            ("decoder.heads", decoder.heads),
            ("decoder.hidden", decoder.hidden),
        ];
        for (key, size) in sizes {
            if size == 0 {
                return Err(setting(key, size, "a size of zero", "choose at least 1"));
            }
            if size >= u32::MAX as usize {
                return Err(setting(key, size, "larger than 2³²", "choose a smaller number"));
            }
        }
        if !self.width.is_multiple_of(decoder.heads) {
            let reason = format!("the width {} is no multiple of it", self.width);
            let next = format!("set it to {}, as in the encoder", self.heads);
            return Err(setting("decoder.heads", decoder.heads, reason, next));
        }
        let even = self.head_width * self.heads == self.width && self.kv_heads == self.heads;
        if !even || self.qk_norm == QkNorm::Yes {
            let reason = "heads share the width evenly here, keys and values as queries";
            let next = "set kv_heads to heads, head_width to width / heads, qk_norm to \"no\"";
            return Err(setting("heads", self.heads, reason, next));
        }
        // Every block has a stream for its noise, and a decoder's one more for what it reads of
        // the source.
        let streams = self.layers + 2 * decoder.layers;
        if streams > LAYERS_MAX {
            let next = format!("layers + 2 × decoder.layers can be {LAYERS_MAX} at most");
            return Err(setting("decoder.layers", decoder.layers, "too many layers", next));
        }
        if self.tied == Tied::No || self.head != Head::LanguageModel {
            let reason = "encoder, decoder and output projection share one token table here";
            let next = "set tied to \"yes\" and head to \"language-model\"";
            return Err(setting("tied", "no", reason, next));
        }
        if self.family == Family::Marian && decoder.norms == Norms::Before {
            let reason = "Marian's norms stand behind each branch";
            let next = "set it to \"after\", or family to \"bart\"";
            return Err(setting("decoder.norms", "before", reason, next));
        }
        self.validate_ids()
    }

    /// Whether the ids with a meaning are in the vocabulary.
    fn validate_ids(&self) -> Result<(), ModelError> {
        let Decoder { start, end, padding, forced_first, forced_last, .. } = self.decoder;
        let ids = [
            ("decoder.start", Some(start)),
            ("decoder.end", Some(end)),
            ("decoder.padding", Some(padding)),
            ("decoder.forced_first", forced_first),
            ("decoder.forced_last", forced_last),
        ];
        for (key, id) in ids {
            if let Some(id) = id.filter(|id| *id as usize >= self.vocabulary) {
                let reason = format!("the vocabulary has {} tokens", self.vocabulary);
                return Err(setting(key, id, reason, "choose an id below that"));
            }
        }
        Ok(())
    }
}
