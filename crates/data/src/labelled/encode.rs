//! Texts to token ids with the special tokens that a model expects around them.

use super::frame::{Frame, Part, post_processor};
use crate::error::DataError;
use crate::tokenizer::{END_OF_TEXT, Scratch, Tokenizer, TokenizerKind, UNKNOWN};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The special tokens that a newly trained tokenizer gets and puts around an example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpecialTokens {
    /// As BERT: `[CLS] text [SEP]`, `[CLS] text [SEP] pair [SEP]`, with `[PAD]` and `[MASK]` in the
    /// vocabulary too.
    #[default]
    Encoder,
    /// As GPT-2: the end-of-text token closes the example (and stands between text and pair), so
    /// that a causal model has a last position that saw everything.
    Causal,
    /// As Marian: `</s>` closes a source as well as a target, and `<pad>` fills up.
    Pairs,
}

/// What an encoder's tokenizer has besides text, under the names of BERT.
pub const ENCODER_TOKENS: [&str; 4] = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"];

impl SpecialTokens {
    /// The tokens that a vocabulary of `kind` is trained with.
    fn names(self, kind: TokenizerKind) -> Vec<&'static str> {
        let mut names = match self {
            SpecialTokens::Encoder => ENCODER_TOKENS.into(),
            SpecialTokens::Causal => vec![END_OF_TEXT],
            SpecialTokens::Pairs => vec!["<pad>", "</s>"],
        };
        // The other kinds fall back on bytes: nothing is unknown to them.
        if kind == TokenizerKind::Char {
            names.push(UNKNOWN);
        }
        names
    }
}

/// A tokenizer with the special tokens around an example and a longest length. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Encoder {
    tokenizer: Tokenizer,
    frame: Arc<Frame>,
    max_length: usize,
}

/// One encoded example.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedText {
    /// Token ids with special tokens, at least one and at most the encoder's longest length.
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
    pub(crate) ids: Vec<u32>,
    pub(crate) segments: Vec<u8>,
    /// Where each example starts in `ids`, and the end.
    pub(crate) starts: Vec<usize>,
    pub(crate) labels: Vec<u32>,
    /// Length of each before truncation.
    pub(crate) whole: Vec<usize>,
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
        let (tokenizer, frame) = match Frame::of(&tokenizer)? {
            Some(frame) => (tokenizer, frame),
            None => {
                let frame = fallback(&tokenizer, otherwise);
                if frame.is_bare() {
                    (tokenizer, frame)
                } else {
                    let template = post_processor(&frame, tokenizer.specials());
                    (tokenizer.with_post_processor(template)?, frame)
                }
            }
        };
        let least = frame.pair.len();
        if max_length < least {
            return Err(DataError::Tokenizer(format!(
                "a longest length of {max_length} tokens has no room for text beside {} special \
                 token(s): allow at least {least}",
                least - 2
            )));
        }
        Ok(Encoder { tokenizer, frame: Arc::new(frame), max_length })
    }

    /// Trains a tokenizer on `texts` and puts `specials` around every example; the tokenizer.json
    /// carries them.
    ///
    /// # Errors
    /// As [`Tokenizer::train`] and [`Encoder::new`].
    pub fn train(
        kind: TokenizerKind,
        vocabulary: usize,
        specials: SpecialTokens,
        max_length: usize,
        texts: &mut dyn Iterator<Item = String>,
    ) -> Result<Self, DataError> {
        let names = specials.names(kind);
        let tokenizer = Tokenizer::train(kind, vocabulary, &names, &mut texts.map(Ok))?;
        Self::new(tokenizer, specials, max_length)
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
        let named = ["[PAD]", "<pad>", "<|pad|>", "<|padding|>"];
        self.special(&named).or(self.tokenizer.eos()).unwrap_or(0)
    }

    /// The id of `[MASK]` or `<mask>`.
    pub fn mask(&self) -> Option<u32> {
        self.special(&["[MASK]", "<mask>"])
    }

    /// The word that stands for `[MASK]` in a text, else for what is unknown; what
    /// [`crate::augment::AugmentSpec::mask`] wants.
    pub fn mask_word(&self) -> Option<String> {
        let id = self.mask().or(self.tokenizer.unknown())?;
        let named = self.tokenizer.specials().iter().find(|(_, special)| *special == id);
        named.map(|(name, _)| name.clone())
    }

    fn special(&self, names: &[&str]) -> Option<u32> {
        let specials = self.tokenizer.specials();
        names.iter().find_map(|name| specials.iter().find(|(n, _)| n == name).map(|(_, id)| *id))
    }

    /// Encodes one example. Too long a text loses its end; of a pair the longer part loses its end
    /// until both fit (`transformers`' "longest_first").
    ///
    /// # Errors
    /// A character that the vocabulary lacks, when there is no unknown token.
    pub fn encode(&self, text: &str, pair: Option<&str>) -> Result<EncodedText, DataError> {
        self.encode_with(text, pair, &mut Scratch::default())
    }

    /// [`Encoder::encode`] with what a thread reuses.
    pub(crate) fn encode_with(
        &self,
        text: &str,
        pair: Option<&str>,
        scratch: &mut Scratch,
    ) -> Result<EncodedText, DataError> {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        self.tokenizer.encode_into(text, scratch, &mut first)?;
        if let Some(pair) = pair {
            self.tokenizer.encode_into(pair, scratch, &mut second)?;
        }
        let parts = if pair.is_some() { &self.frame.pair } else { &self.frame.single };
        let specials = parts.iter().filter(|part| matches!(part, Part::Token { .. })).count();
        let length_whole = (first.len() + second.len() + specials).max(1);
        let keep = cut([first.len(), second.len()], self.max_length - specials);
        first.truncate(keep[0]);
        second.truncate(keep[1]);
        let mut out = EncodedText { length_whole, ..EncodedText::default() };
        for part in parts {
            let (ids, segment) = match part {
                Part::Token { id, segment } => (std::slice::from_ref(id), segment),
                Part::Text { segment } => (&first[..], segment),
                Part::Pair { segment } => (&second[..], segment),
            };
            out.ids.extend_from_slice(ids);
            out.segments.resize(out.ids.len(), *segment);
        }
        if out.ids.is_empty() {
            // A normalizer can leave nothing of a text; a model still needs a position.
            out.ids.push(self.tokenizer.unknown().unwrap_or(self.pad()));
            out.segments.push(0);
        }
        Ok(out)
    }
}

/// The frame that `specials` asks for, of the tokens that there are.
fn fallback(tokenizer: &Tokenizer, specials: SpecialTokens) -> Frame {
    match specials {
        SpecialTokens::Encoder => Frame::of_encoder(tokenizer),
        SpecialTokens::Causal | SpecialTokens::Pairs => Frame::closed(tokenizer.eos()),
    }
}

/// How many ids of each part are kept so that both fit into `room`: the longer loses its end first;
/// of two long ones each gets half, the odd id goes to the longer.
fn cut(lengths: [usize; 2], room: usize) -> [usize; 2] {
    let [first, second] = lengths;
    if first + second <= room {
        return lengths;
    }
    let shorter = first.min(second);
    let short = if shorter <= room / 2 { shorter } else { room / 2 };
    let long = room - short;
    if first > second { [long, short] } else { [short, long] }
}

impl EncodedExamples {
    /// From examples one by one.
    pub fn collect(examples: impl IntoIterator<Item = (EncodedText, u32)>) -> Self {
        let mut all = EncodedExamples { starts: vec![0], ..EncodedExamples::default() };
        for (example, label) in examples {
            all.ids.extend_from_slice(&example.ids);
            all.segments.extend_from_slice(&example.segments);
            all.starts.push(all.ids.len());
            all.labels.push(label);
            all.whole.push(example.length_whole);
        }
        all
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Token ids of example `i`.
    pub fn ids(&self, i: usize) -> &[u32] {
        &self.ids[self.starts[i]..self.starts[i + 1]]
    }

    /// Segments of example `i`, one an id.
    pub fn segments(&self, i: usize) -> &[u8] {
        &self.segments[self.starts[i]..self.starts[i + 1]]
    }

    /// Length of example `i` in ids.
    pub fn length(&self, i: usize) -> usize {
        self.starts[i + 1] - self.starts[i]
    }

    /// Length of example `i` before truncation.
    pub fn length_whole(&self, i: usize) -> usize {
        self.whole[i]
    }

    /// Class of example `i`.
    pub fn label(&self, i: usize) -> u32 {
        self.labels[i]
    }

    /// Every class, in order.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_part_is_cut_first() {
        assert_eq!(cut([3, 4], 7), [3, 4]);
        assert_eq!(cut([10, 2], 8), [6, 2]);
        assert_eq!(cut([2, 10], 8), [2, 6]);
        assert_eq!(cut([10, 9], 7), [4, 3]);
        assert_eq!(cut([9, 9], 7), [3, 4]);
        assert_eq!(cut([9, 0], 7), [7, 0]);
    }
}
