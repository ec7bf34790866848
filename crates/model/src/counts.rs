//! What a model costs: parameters, arithmetic, memory for activations.

use heldout_kernels::{Activations, Precision};

use crate::bart::Bart;
use crate::bert::Bert;
use crate::{Family, Head, ModelConfig, Norms, QkNorm, Tied};

impl ModelConfig {
    /// Number of trainable parameters; a tied head counts once.
    ///
    /// # Panics
    /// If the sizes were not validated and their product overflows.
    pub fn parameter_count(&self) -> usize {
        let count = self.checked_parameter_count();
        count.and_then(|count| usize::try_from(count).ok()).expect("a validated configuration")
    }

    /// As [`ModelConfig::parameter_count`], None on overflow.
    pub(crate) fn checked_parameter_count(&self) -> Option<u128> {
        let [v, t, c, f] =
            [self.vocabulary, self.context, self.width, self.hidden].map(|size| size as u128);
        let vectors_block = match self.family {
            // ln_1, ln_2 and the biases of c_attn, attn.c_proj, c_fc and mlp.c_proj.
            Family::Gpt2 | Family::Bert => 4 * c + 3 * c + c + f + c,
            Family::Bart | Family::Marian => return Bart::parameter_count(self),
            Family::Llama if self.qk_norm == QkNorm::Yes => 2 * c + 2 * self.head_width as u128,
            Family::Llama => 2 * c,
        };
        let outside_blocks = match self.family {
            Family::Gpt2 => v.checked_mul(c)?.checked_add(t.checked_mul(c)? + 2 * c)?,
            Family::Llama => v.checked_mul(c)?.checked_add(c)?,
            Family::Bert => Bert::outer_parameter_count(self)?,
            Family::Bart | Family::Marian => unreachable!("counted above"),
        };
        let head = match (self.head, self.tied) {
            _ if self.family == Family::Bert => 0, // counted above
            (Head::LanguageModel, Tied::Yes) => 0,
            (Head::LanguageModel, Tied::No) => v.checked_mul(c)?,
            (Head::Classification { labels }, _) => (labels as u128).checked_mul(c)?,
            (Head::Span | Head::Features, _) => 2 * c,
        };
        let block = self.matrix_parameters_block()?.checked_add(vectors_block)?;
        block.checked_mul(self.layers as u128)?.checked_add(outside_blocks)?.checked_add(head)
    }

    /// Elements of one block's matrices: query, key, value, output, and the feed-forward layer's.
    fn matrix_parameters_block(&self) -> Option<u128> {
        let [c, f, heads, kv_heads, d] =
            [self.width, self.hidden, self.heads, self.kv_heads, self.head_width]
                .map(|size| size as u128);
        let qkv_and_out = heads.checked_add(kv_heads)?.checked_mul(2 * d)?.checked_mul(c)?;
        let feed_forward_matrices = match self.family {
            Family::Gpt2 | Family::Bert | Family::Bart | Family::Marian => 2,
            Family::Llama => 3,
        };
        qkv_and_out.checked_add(c.checked_mul(f)?.checked_mul(feed_forward_matrices)?)
    }

    /// Floating-point operations of a training step for each token of full windows: 6 for each
    /// weight of a matrix product (forward, input gradient, weight gradient), and attention.
    /// For an encoder-decoder: for each token of a target, with a source as long.
    pub fn flops_per_token(&self) -> f64 {
        let block = self.matrix_parameters_block().expect("a validated configuration") as f64;
        // Any other head sees one row a sequence, or few columns: nothing beside the blocks.
        let head = match self.head {
            Head::LanguageModel => self.vocabulary as f64 * self.width as f64,
            Head::Classification { .. } | Head::Span | Head::Features => 0.0,
        };
        // A token attends to T/2 tokens on average, an encoder's to all T; two products of 2·D·T/2
        // operations a head.
        let reach = if self.family == Family::Bert { 2.0 } else { 1.0 };
        let attention = reach * 2.0 * self.context as f64 * (self.heads * self.head_width) as f64;
        let layers = self.layers as f64;
        if self.is_seq2seq() {
            let [c, d] = [self.width, self.decoder.layers].map(|size| size as f64);
            let block_decoder = 8.0 * c * c + 2.0 * c * self.decoder.hidden as f64;
            // Twice the encoder's reach, which is whole: a causal half and the whole source.
            let reach = 4.0 * layers + 6.0 * d;
            let attention = reach * self.context as f64 * c;
            return 6.0 * (layers * block + d * block_decoder + head) + 3.0 * attention;
        }
        6.0 * (layers * block + head) + 3.0 * layers * attention
    }

    /// Bytes that a training step over `batch`·`seq_len` tokens keeps in the tape's arena: what
    /// every block saves for backward (one of them and the values between blocks, where activations
    /// are recomputed), the gradients in flight, and one chunk of logits. In bf16 all of it but the
    /// residual stream, statistics and logits takes half.
    ///
    /// An estimate, within 15% of the truth for all but toy sizes; weights, gradients and optimizer
    /// state come on top.
    pub fn activation_bytes(
        &self,
        batch: usize,
        seq_len: usize,
        activations: Activations,
        precision: Precision,
    ) -> usize {
        const WIDE: usize = size_of::<f32>();
        let narrow = match precision {
            Precision::F32 => WIDE,
            Precision::Bf16 => WIDE / 2,
        };
        let (c, f) = (self.width, self.hidden);
        let attended = self.heads * self.head_width;
        let qkv = attended + 2 * self.kv_heads * self.head_width;
        // Two residual sums and the log-sum-exp; two norms, attention's input and output.
        let (wide, shared) = (2 * c + self.heads + 4, 2 * c + qkv + attended);
        let (kept, in_flight) = match self.family {
            // The feed-forward layer before and after its activation.
            Family::Gpt2 => (shared + 2 * f, f + qkv),
            // Norms stay in f32: each takes its width twice in bf16.
            Family::Bert => (shared + 2 * c + 2 * f, f + qkv),
            Family::Bart | Family::Marian => {
                return self.seq_activation_bytes([batch, seq_len], activations, narrow);
            }
            // Gate and up, and their product; QK-norm keeps its input, too.
            Family::Llama if self.qk_norm == QkNorm::Yes => (shared + 3 * f + qkv, 3 * f + 2 * qkv),
            Family::Llama => (shared + 3 * f, 3 * f + qkv),
        };
        let block = WIDE * wide + narrow * kept;
        let blocks = match activations {
            Activations::Keep => self.layers * block,
            // What lies between blocks, and one block at a time without the sum it ends in.
            Activations::Recompute => self.layers * WIDE * c + block - 2 * WIDE * c,
        };
        // The embedding, the final norm, and gradients of the residual stream.
        let row = blocks + narrow * in_flight + WIDE * 5 * c;
        let tokens = batch * seq_len;
        let logits = match self.head {
            Head::LanguageModel => heldout_kernels::logits_values(tokens, self.vocabulary),
            Head::Classification { labels } => 2 * batch * labels,
            Head::Span => 4 * tokens,
            Head::Features => 0,
        };
        tokens * row + WIDE * logits
    }

    /// See [`ModelConfig::activation_bytes`], for sources and targets of `seq_len` tokens each;
    /// numbers that may be stored in bf16 take `narrow` bytes.
    fn seq_activation_bytes(
        &self,
        [batch, seq_len]: [usize; 2],
        activations: Activations,
        narrow: usize,
    ) -> usize {
        const WIDE: usize = size_of::<f32>();
        let c = self.width;
        // A sum and a norm for each branch; norms in front of one are read by products alone.
        let norm = if self.decoder.norms == Norms::Before { narrow * c } else { WIDE * c };
        let branch = WIDE * (c + 2) + norm;
        let block = |heads: usize, hidden: usize, attentions: usize| {
            // Queries, keys and values and their result; the hidden layer before and after its
            // activation.
            let attention = branch + WIDE * heads + narrow * 4 * c;
            attentions * attention + branch + narrow * 2 * hidden
        };
        let decoder = &self.decoder;
        let each = [
            (self.layers, block(self.heads, self.hidden, 1)),
            (decoder.layers, block(decoder.heads, decoder.hidden, 2)),
        ];
        let row = match activations {
            Activations::Keep => each.iter().map(|(layers, block)| layers * block).sum::<usize>(),
            Activations::Recompute => {
                let between: usize = each.iter().map(|(layers, _)| layers * WIDE * c).sum();
                between + each.iter().map(|(_, block)| block).max().copied().unwrap_or(0)
            }
        };
        let in_flight = narrow * (self.hidden.max(decoder.hidden) + 3 * c);
        let tokens = batch * seq_len;
        let logits = heldout_kernels::logits_values(tokens, self.vocabulary);
        tokens * (row + in_flight + WIDE * 10 * c) + WIDE * logits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpt2_small_has_the_published_count() {
        assert_eq!(ModelConfig::gpt2(50257, 1024, 12, 12, 768).parameter_count(), 124_439_808);
        assert_eq!(ModelConfig::gpt2(50257, 1024, 48, 25, 1600).parameter_count(), 1_557_611_200);
    }

    #[test]
    fn published_llama_shapes_have_their_published_counts() {
        // Llama 2 7B.
        let llama = ModelConfig {
            hidden: 11008,
            tied: Tied::No,
            ..ModelConfig::llama(32000, 4096, 32, 32, 32, 4096)
        };
        assert_eq!(llama.parameter_count(), 6_738_415_616);
        // Qwen3 0.6B: heads wider than width / heads.
        let qwen = ModelConfig {
            hidden: 3072,
            head_width: 128,
            qk_norm: QkNorm::Yes,
            ..ModelConfig::llama(151_936, 40960, 28, 16, 8, 1024)
        };
        assert_eq!(qwen.parameter_count(), 596_049_920);
    }

    #[test]
    fn flops_agree_with_the_design_figures() {
        let w1 = ModelConfig::gpt2(65, 256, 6, 6, 384).flops_per_token();
        let w3 = ModelConfig::gpt2(50257, 256, 12, 12, 768).flops_per_token();
        assert!((w1 / 68e6 - 1.0).abs() < 0.02, "{w1:e}");
        assert!((w3 / 760e6 - 1.0).abs() < 0.02, "{w3:e}");
    }

    #[test]
    fn overflow_is_an_error_not_a_panic() {
        let size = u32::MAX as usize - 1;
        let config = ModelConfig {
            hidden: size,
            layers: 4096,
            ..ModelConfig::gpt2(size, size, 1, size, size)
        };
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains("more than 10¹² parameters"), "{message}");
    }
}
