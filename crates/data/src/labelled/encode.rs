//! Texts to token ids with the special tokens that a model expects around them.

use crate::error::DataError;
use crate::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

/// The special tokens that a newly trained tokenizer gets and puts around an example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpecialTokens {
    /// As BERT: `[CLS] text [SEP]`, `[CLS] text [SEP] pair [SEP]`, with `[PAD]`, `[UNK]` and
    /// `[MASK]` in the vocabulary too.
    #[default]
    Encoder,
    /// As GPT-2: the end-of-text token closes the example (and stands between text and pair), so
    /// that a causal model has a last position that saw everything.
    Causal,
}

/// A tokenizer with the special tokens around an example and a longest length. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Encoder {
    tokenizer: Tokenizer,
    max_length: usize,
}

/// One encoded example.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedText {
    /// Token ids with special tokens, at most the encoder's longest length.
    pub ids: Vec<u32>,
    /// The segment of each id: 0 for the text and what closes it, 1 for the pair and what closes
    /// it (BERT's token types). Models without segments ignore it.
    pub segments: Vec<u8>,
    /// Ids there were before truncation, special tokens included.
    pub length_whole: usize,
}

/// The ids of a whole split, end to end.
#[derive(Clone, Debug, Default)]
pub struct EncodedExamples {
    _todo: (),
}

impl Encoder {
    /// An encoder for a tokenizer that was loaded: special tokens as its post-processor says
    /// (`TemplateProcessing`, `BertProcessing`, `RobertaProcessing`); without one, `otherwise`
    /// decides, as far as the vocabulary has the tokens.
    ///
    /// # Errors
    /// A post-processor that is not known, or a longest length without room for any text.
    pub fn new(
        tokenizer: Tokenizer,
        otherwise: SpecialTokens,
        max_length: usize,
    ) -> Result<Self, DataError> {
        let _ = otherwise;
        Ok(Encoder { tokenizer, max_length })
    }

    /// The tokenizer behind it; its tokenizer.json carries the special tokens as a post-processor,
    /// so `transformers` gives the same ids.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Longest example in tokens, special tokens included.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The id that fills up short rows: `[PAD]` or `<pad>`, else end-of-text, else 0.
    pub fn pad(&self) -> u32 {
        todo!()
    }

    /// The id of `[MASK]` or `<mask>`.
    pub fn mask(&self) -> Option<u32> {
        todo!()
    }

    /// Encodes one example. Too long a text loses its end; of a pair the longer part loses its end
    /// until both fit.
    ///
    /// # Errors
    /// A character that the vocabulary lacks, when there is no unknown token.
    pub fn encode(&self, _text: &str, _pair: Option<&str>) -> Result<EncodedText, DataError> {
        todo!()
    }
}

impl EncodedExamples {
    /// Number of examples.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Token ids of example `i`.
    pub fn ids(&self, _i: usize) -> &[u32] {
        todo!()
    }

    /// Segments of example `i`, one an id.
    pub fn segments(&self, _i: usize) -> &[u8] {
        todo!()
    }

    /// Class of example `i`.
    pub fn label(&self, _i: usize) -> u32 {
        todo!()
    }

    /// Every class, in order.
    pub fn labels(&self) -> &[u32] {
        todo!()
    }
}
