//! The sizes and choices that make a model, and the check that they can work together.

use serde::{Deserialize, Serialize};

use crate::{Decoder, Head, ModelError};

/// Which architecture the blocks follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Radford et al. 2019: learned positions, LayerNorm before each branch, biases, GELU.
    Gpt2,
    /// Touvron et al. 2023: rotary positions, RMSNorm, SwiGLU, grouped key/value heads, no biases.
    Llama,
    /// Devlin et al. 2019 and its [`Variant`]s: every position reads the whole sequence; learned
    /// positions, LayerNorm after each branch, biases, GELU.
    Bert,
    /// Lewis et al. 2019: an encoder and a decoder that reads it; learned positions, LayerNorm
    /// after each branch (see [`crate::Norms`]), biases, GELU.
    Bart,
    /// Junczys-Dowmunt et al. 2018: as `Bart`, with sinusoidal positions and SiLU.
    Marian,
}

/// Which of the encoders that follow BERT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Devlin et al. 2019, arXiv:1810.04805.
    #[default]
    Bert,
    /// Liu et al. 2019, arXiv:1907.11692: positions begin after the padding token's id.
    Roberta,
    /// Sanh et al. 2019, arXiv:1910.01108: no segments, no pooler.
    Distilbert,
}

impl Variant {
    /// The name, as in config.json's `model_type`.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Bert => "bert",
            Variant::Roberta => "roberta",
            Variant::Distilbert => "distilbert",
        }
    }
}

/// What encoders choose besides; nothing for the other families.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoder {
    pub variant: Variant,
    /// Segments that a token can belong to; 0 where there are none.
    pub segments: usize,
    /// Row of the position table that the first token takes: 0, but RoBERTa's padding id + 1.
    pub first_position: usize,
}

impl Encoder {
    fn is_default(&self) -> bool {
        *self == Encoder::default()
    }
}

/// Whether the output projection is the input embedding (Press & Wolf 2017).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tied {
    Yes,
    No,
}

/// Whether queries and keys are RMS-normalised per head before the rotation (Henry et al. 2020, as
/// in Qwen3). Llama family only; such a model is exported as `Qwen3ForCausalLM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QkNorm {
    Yes,
    No,
}

/// The non-linearity of the feed-forward layer. Llama's is always `Silu`, as the gate of SwiGLU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// ½x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), as in GPT-2.
    GeluTanh,
    /// x·Φ(x) (Hendrycks & Gimpel 2016).
    GeluErf,
    /// max(x, 0).
    Relu,
    /// x·sigmoid(x).
    Silu,
}

impl Activation {
    pub(crate) fn kernel(self) -> heldout_kernels::Activation {
        match self {
            Activation::GeluTanh => heldout_kernels::Activation::GeluTanh,
            Activation::GeluErf => heldout_kernels::Activation::GeluErf,
            Activation::Relu => heldout_kernels::Activation::Relu,
            Activation::Silu => heldout_kernels::Activation::Silu,
        }
    }
}

/// Everything that fixes a model's function but its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    pub family: Family,
    /// V, token ids; never padded, so that exports open as they are.
    pub vocabulary: usize,
    /// T, the longest sequence in tokens.
    pub context: usize,
    /// L, blocks.
    pub layers: usize,
    /// H, query heads.
    pub heads: usize,
    /// K, key/value heads; H is a multiple of K. GPT-2 has K = H.
    pub kv_heads: usize,
    /// C, the width of the residual stream.
    pub width: usize,
    /// D, the width of one head; C / H but for Qwen3 shapes, where it is free.
    pub head_width: usize,
    /// F, the width of the feed-forward layer (of each half of SwiGLU).
    pub hidden: usize,
    /// Added to the variance (LayerNorm) or mean square (RMSNorm).
    pub norm_epsilon: f32,
    /// Base of the rotary frequencies; unused by GPT-2.
    pub rope_theta: f32,
    pub tied: Tied,
    pub qk_norm: QkNorm,
    pub activation: Activation,
    /// Standard deviation of the initial weights; the residual projections get it over √(2L).
    pub init_std: f32,
    /// What the final hidden states are turned into.
    #[serde(default, skip_serializing_if = "Head::is_language_model")]
    pub head: Head,
    /// Of the BERT family alone.
    #[serde(default, skip_serializing_if = "Encoder::is_default")]
    pub encoder: Encoder,
    /// Of the BART and Marian families alone, whose `layers`, `heads` and `hidden` are their
    /// encoder's.
    #[serde(default, skip_serializing_if = "Decoder::is_default")]
    pub decoder: Decoder,
}

/// More layers than this would run into the next noise site's random stream.
pub(crate) const LAYERS_MAX: usize = 4096;
/// 2⁴⁰ parameters are 4 TiB of weights alone; sizes beyond are a slip of the keyboard.
const PARAMETERS_MAX: u128 = 1 << 40;

impl ModelConfig {
    /// GPT-2 with its usual choices: F = 4C, tied head, GELU (tanh form), ε = 1e-5.
    pub fn gpt2(
        vocabulary: usize,
        context: usize,
        layers: usize,
        heads: usize,
        width: usize,
    ) -> ModelConfig {
        ModelConfig {
            family: Family::Gpt2,
            vocabulary,
            context,
            layers,
            heads,
            kv_heads: heads,
            width,
            head_width: width / heads.max(1),
            hidden: width.saturating_mul(4),
            norm_epsilon: 1e-5,
            rope_theta: 10_000.0,
            tied: Tied::Yes,
            qk_norm: QkNorm::No,
            activation: Activation::GeluTanh,
            init_std: 0.02,
            head: Head::LanguageModel,
            encoder: Encoder::default(),
            decoder: Decoder::default(),
        }
    }

    /// An encoder with the usual choices: F = 4C, GELU, ε = 1e-12, two segments for BERT, one for
    /// RoBERTa, whose padding token has id 1.
    pub fn bert(
        variant: Variant,
        vocabulary: usize,
        context: usize,
        layers: usize,
        heads: usize,
        width: usize,
    ) -> ModelConfig {
        let (segments, first_position) = match variant {
            Variant::Bert => (2, 0),
            Variant::Roberta => (1, 2),
            Variant::Distilbert => (0, 0),
        };
        ModelConfig {
            family: Family::Bert,
            norm_epsilon: 1e-12,
            activation: Activation::GeluErf,
            encoder: Encoder { variant, segments, first_position },
            ..ModelConfig::gpt2(vocabulary, context, layers, heads, width)
        }
    }

    /// An error unless the model predicts each token from those before it alone.
    pub fn require_causal(&self) -> Result<(), ModelError> {
        match self.family {
            Family::Gpt2 | Family::Llama => Ok(()),
            Family::Bert => Err(ModelError::NotCausal { variant: self.encoder.variant.name() }),
            Family::Bart | Family::Marian => {
                Err(ModelError::NeedsSource { family: self.family_name() })
            }
        }
    }

    /// Llama with F = 8C/3 rounded up to a multiple of 32, θ = 10,000, ε = 1e-5. The head is tied,
    /// as in the family's small members: an own head would be a large share of a small model.
    pub fn llama(
        vocabulary: usize,
        context: usize,
        layers: usize,
        heads: usize,
        kv_heads: usize,
        width: usize,
    ) -> ModelConfig {
        ModelConfig {
            family: Family::Llama,
            kv_heads,
            hidden: (width.saturating_mul(8) / 3).div_ceil(32).saturating_mul(32),
            activation: Activation::Silu,
            ..ModelConfig::gpt2(vocabulary, context, layers, heads, width)
        }
    }

    /// Whether the sizes fit together; an error says which one to change and to what.
    pub fn validate(&self) -> Result<(), ModelError> {
        self.validate_sizes()?;
        self.validate_numbers()?;
        self.head.validate(self.family)?;
        match self.family {
            Family::Gpt2 => self.validate_gpt2()?,
            Family::Llama => self.validate_llama()?,
            Family::Bert => self.validate_bert()?,
            Family::Bart | Family::Marian => self.validate_seq2seq()?,
        }
        let parameters = self.checked_parameter_count();
        match parameters {
            Some(count) if count <= PARAMETERS_MAX => Ok(()),
            _ => Err(setting(
                "width",
                self.width,
                format!(
                    "with {} layers and a vocabulary of {} the model would have more than 10¹² \
                     parameters",
                    self.layers, self.vocabulary
                ),
                "choose a smaller width, vocabulary or number of layers",
            )),
        }
    }

    /// Classes of the distribution that the head gives: tokens, or labels.
    pub fn classes(&self) -> usize {
        match self.head {
            Head::LanguageModel | Head::Span | Head::Features => self.vocabulary,
            Head::Classification { labels } => labels,
        }
    }

    pub(crate) fn family_name(&self) -> &'static str {
        match (self.family, self.qk_norm) {
            (Family::Gpt2, _) => "gpt2",
            (Family::Llama, QkNorm::No) => "llama",
            (Family::Llama, QkNorm::Yes) => "llama with QK-norm",
            (Family::Bert, _) => self.encoder.variant.name(),
            (Family::Bart, _) => "bart",
            (Family::Marian, _) => "marian",
        }
    }

    /// The model in one line, for logs and manifests.
    pub fn describe(&self) -> String {
        let family = self.family_name();
        let layers = match self.is_seq2seq() {
            false => format!("{} layers", self.layers),
            true => format!("{} + {} layers", self.layers, self.decoder.layers),
        };
        let heads = match self.kv_heads == self.heads {
            true => format!("{} heads", self.heads),
            false => format!("{} heads over {} key/value heads", self.heads, self.kv_heads),
        };
        let head = match self.head {
            Head::LanguageModel if self.tied == Tied::Yes => "tied".to_string(),
            Head::LanguageModel => "untied".to_string(),
            Head::Classification { labels } => format!("a head of {labels} labels"),
            Head::Span => "a head of spans".to_string(),
            Head::Features => "no head".to_string(),
        };
        format!(
            "{family}, {layers}, {heads}, width {}, context {}, vocabulary {} ({head}), {:.2}M \
             parameters",
            self.width,
            self.context,
            self.vocabulary,
            self.parameter_count() as f64 / 1e6
        )
    }

    fn validate_sizes(&self) -> Result<(), ModelError> {
        let sizes = [
            ("vocabulary", self.vocabulary),
            ("context", self.context),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("width", self.width),
            ("hidden", self.hidden),
        ];
        for (key, size) in sizes {
            if size == 0 {
                return Err(setting(key, size, "a size of zero", "choose at least 1"));
            }
            if size >= u32::MAX as usize {
                return Err(setting(key, size, "larger than 2³²", "choose a smaller number"));
            }
        }
        if self.vocabulary < 2 {
            let reason = "one token leaves nothing to predict";
            return Err(setting("vocabulary", self.vocabulary, reason, "choose at least 2"));
        }
        if self.layers > LAYERS_MAX {
            let next = format!("choose at most {LAYERS_MAX}");
            return Err(setting("layers", self.layers, "too many layers", next));
        }
        Ok(())
    }

    fn validate_numbers(&self) -> Result<(), ModelError> {
        let numbers = [
            ("norm_epsilon", self.norm_epsilon, "choose a small positive number such as 1e-5"),
            ("init_std", self.init_std, "choose a positive number such as 0.02"),
            ("rope_theta", self.rope_theta, "choose a positive number such as 10000"),
        ];
        for (key, value, next) in numbers {
            if !(value.is_finite() && value > 0.0) {
                return Err(setting(key, value, "not a positive finite number", next));
            }
        }
        Ok(())
    }

    fn validate_gpt2(&self) -> Result<(), ModelError> {
        self.require_width_multiple_of_heads()?;
        if self.head_width * self.heads != self.width {
            return Err(setting(
                "head_width",
                self.head_width,
                format!("GPT-2's heads share the width {} evenly", self.width),
                format!("set head_width to {}", self.width / self.heads),
            ));
        }
        if self.kv_heads != self.heads {
            return Err(setting(
                "kv_heads",
                self.kv_heads,
                format!("GPT-2 has a key/value head for each of its {} heads", self.heads),
                format!("set kv_heads to {}, or family to \"llama\"", self.heads),
            ));
        }
        if self.qk_norm == QkNorm::Yes {
            let next = "turn it off, or set family to \"llama\"";
            return Err(setting("qk_norm", "yes", "GPT-2 does not normalise queries", next));
        }
        Ok(())
    }

    fn validate_bert(&self) -> Result<(), ModelError> {
        self.require_width_multiple_of_heads()?;
        let even = self.head_width * self.heads == self.width && self.kv_heads == self.heads;
        if !even || self.qk_norm == QkNorm::Yes {
            let reason = "an encoder's heads share the width evenly, keys and values as queries";
            let next = "set kv_heads to heads, head_width to width / heads, qk_norm to \"no\"";
            return Err(setting("heads", self.heads, reason, next));
        }
        if self.tied == Tied::No {
            let reason = "an encoder's output projection is its token table";
            return Err(setting("tied", "no", reason, "set tied to \"yes\""));
        }
        let Encoder { variant, segments, first_position } = self.encoder;
        let exact = match variant {
            Variant::Bert => segments > 0 && first_position == 0,
            Variant::Roberta => segments > 0 && first_position > 0,
            Variant::Distilbert => segments == 0 && first_position == 0,
        };
        let small = segments < u32::MAX as usize && first_position < u32::MAX as usize;
        if !exact || !small {
            let found = format!("{segments} segments, positions from {first_position}");
            let next = "BERT has segments and positions from 0, RoBERTa segments and positions \
                        from its padding id + 1, DistilBERT no segments and positions from 0";
            return Err(setting("encoder", found, format!("not {}", variant.name()), next));
        }
        // A head's dropout takes the two streams behind the blocks'.
        if self.layers > LAYERS_MAX - 2 {
            let next = format!("choose at most {}", LAYERS_MAX - 2);
            return Err(setting("layers", self.layers, "too many layers", next));
        }
        if variant == Variant::Distilbert && self.norm_epsilon != 1e-12 {
            let reason = "DistilBERT's is fixed";
            return Err(setting("norm_epsilon", self.norm_epsilon, reason, "set it to 1e-12"));
        }
        Ok(())
    }

    fn validate_llama(&self) -> Result<(), ModelError> {
        // LlamaConfig of transformers insists on this even when head_dim is given; Qwen3 does not.
        if self.qk_norm == QkNorm::No {
            self.require_width_multiple_of_heads()?;
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let divisors: Vec<String> = (1..=self.heads)
                .filter(|k| self.heads.is_multiple_of(*k))
                .map(|k| k.to_string())
                .collect();
            return Err(setting(
                "kv_heads",
                self.kv_heads,
                format!("{} heads cannot share it evenly", self.heads),
                format!("choose one of {}", divisors.join(", ")),
            ));
        }
        if self.head_width == 0 || !self.head_width.is_multiple_of(2) {
            return Err(setting(
                "head_width",
                self.head_width,
                "rotary positions turn pairs of channels, so a head's width is even",
                format!(
                    "choose width {} or another number of heads",
                    self.heads * (self.head_width + 1)
                ),
            ));
        }
        if self.activation != Activation::Silu {
            let found = format!("{:?}", self.activation);
            let next = "set activation to \"silu\", or family to \"gpt2\"";
            return Err(setting("activation", found, "Llama's SwiGLU gate is SiLU", next));
        }
        Ok(())
    }

    pub(crate) fn require_width_multiple_of_heads(&self) -> Result<(), ModelError> {
        if self.width.is_multiple_of(self.heads) {
            return Ok(());
        }
        let above = self.width.next_multiple_of(self.heads);
        let next = match above - self.heads {
            0 => format!("choose width {above}, or at most {} heads", self.width),
            below => format!("choose width {below} or {above}, or another number of heads"),
        };
        let reason = format!("not a multiple of heads = {}", self.heads);
        Err(setting("width", self.width, reason, next))
    }
}

pub(crate) fn setting(
    key: &'static str,
    found: impl ToString,
    reason: impl Into<String>,
    next: impl Into<String>,
) -> ModelError {
    let found = found.to_string();
    ModelError::Setting { key, found, reason: reason.into(), next: next.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: ModelConfig, expected: &str) {
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn a_wrong_setting_says_what_to_change_it_to() {
        let gpt2 = ModelConfig::gpt2(65, 64, 4, 4, 128);
        let llama = ModelConfig::llama(65, 64, 4, 4, 2, 128);
        gpt2.validate().unwrap();
        llama.validate().unwrap();
        check(ModelConfig::gpt2(65, 64, 4, 6, 100), "choose width 96 or 102");
        check(ModelConfig::gpt2(65, 64, 4, 6, 5), "choose width 6, or at most 5 heads");
        check(ModelConfig::gpt2(65, 64, 4, 0, 128), "model.heads = 0: a size of zero");
        check(ModelConfig::gpt2(1, 64, 4, 4, 128), "nothing to predict");
        check(ModelConfig { kv_heads: 2, ..gpt2.clone() }, "set kv_heads to 4");
        check(ModelConfig { head_width: 16, ..gpt2.clone() }, "set head_width to 32");
        check(ModelConfig { qk_norm: QkNorm::Yes, ..gpt2.clone() }, "does not normalise");
        check(ModelConfig { layers: 5000, ..gpt2.clone() }, "choose at most 4096");
        check(ModelConfig { norm_epsilon: 0.0, ..gpt2.clone() }, "such as 1e-5");
        check(ModelConfig { init_std: f32::NAN, ..gpt2 }, "model.init_std = NaN");
        check(ModelConfig { kv_heads: 3, ..llama.clone() }, "choose one of 1, 2, 4");
        check(ModelConfig { activation: Activation::Relu, ..llama.clone() }, "\"silu\"");
        check(ModelConfig { rope_theta: -1.0, ..llama.clone() }, "such as 10000");
        check(ModelConfig::llama(65, 64, 4, 4, 2, 20), "choose width 24");
        // Free head widths are Qwen3's privilege, as in transformers.
        let free = ModelConfig { width: 130, head_width: 64, ..llama };
        check(free.clone(), "choose width 128 or 132");
        ModelConfig { qk_norm: QkNorm::Yes, ..free }.validate().unwrap();
    }

    #[test]
    fn one_line_says_what_it_is() {
        assert_eq!(
            ModelConfig::llama(65, 64, 4, 4, 2, 128).describe(),
            "llama, 4 layers, 4 heads over 2 key/value heads, width 128, context 64, vocabulary 65 \
             (tied), 0.75M parameters"
        );
    }

    #[test]
    fn a_configuration_survives_its_own_file_format() {
        let config = ModelConfig { tied: Tied::No, ..ModelConfig::llama(65, 64, 4, 4, 2, 128) };
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains("\"family\":\"llama\"") && text.contains("\"tied\":\"no\""));
        assert_eq!(serde_json::from_str::<ModelConfig>(&text).unwrap(), config);
    }
}
