//! A text, or a pair, with the special tokens that the tokenizer.json puts around it, and where in
//! the text each token comes from: what encoders read, and how spans of answers are found.

use std::ops::Range;

use super::Tokenizer;
use crate::error::DataError;

/// Puts special tokens around texts, as the tokenizer.json's post-processor says
/// (`TemplateProcessing`, `BertProcessing`, `RobertaProcessing`).
pub struct Framer {
    tokenizer: tokenizers::Tokenizer,
}

/// An encoded text or pair; all of its lists have one entry a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Framed {
    pub ids: Vec<u32>,
    /// Segments (BERT's token types).
    pub segments: Vec<u32>,
    /// `None` for special tokens that the frame adds.
    pub origins: Vec<Option<Origin>>,
}

/// Where a token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// 0 for the text, 1 for its pair.
    pub part: usize,
    /// Bytes of that part.
    pub bytes: Range<usize>,
}

impl Framer {
    /// The frame of a tokenizer.
    ///
    /// # Errors
    /// Its tokenizer.json has no post-processor.
    pub fn new(tokenizer: &Tokenizer) -> Result<Framer, DataError> {
        let failed = |e: tokenizers::Error| DataError::Tokenizer(e.to_string());
        let mut own = tokenizers::Tokenizer::from_bytes(tokenizer.to_json()).map_err(failed)?;
        if own.get_post_processor().is_none() {
            return Err(DataError::Tokenizer(
                "its tokenizer.json has no \"post_processor\", so nothing says which special \
                 tokens an encoder expects around a text: take the tokenizer.json that came with \
                 the encoder"
                    .into(),
            ));
        }
        // Cutting and padding are the caller's.
        own.with_padding(None);
        own.with_truncation(None).map_err(failed)?;
        Ok(Framer { tokenizer: own })
    }

    /// Encodes `text`, or `text` and `pair`, with special tokens.
    ///
    /// # Errors
    /// A character that the vocabulary lacks, when there is no unknown token.
    pub fn encode(&self, text: &str, pair: Option<&str>) -> Result<Framed, DataError> {
        let encoding = match pair {
            None => self.tokenizer.encode(text, true),
            Some(pair) => self.tokenizer.encode((text, pair), true),
        };
        let encoding = encoding.map_err(|e| DataError::Tokenizer(format!("cannot encode: {e}")))?;
        let places = encoding.get_sequence_ids().into_iter().zip(encoding.get_offsets());
        let origins = places
            .map(|(part, &(start, end))| part.map(|part| Origin { part, bytes: start..end }))
            .collect();
        Ok(Framed {
            ids: encoding.get_ids().to_vec(),
            segments: encoding.get_type_ids().to_vec(),
            origins,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::TokenizerKind;
    use serde_json::{Value, json};

    /// What `transformers` writes for an uncased BERT, with a small vocabulary.
    fn bert() -> Tokenizer {
        let words = [
            "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "is", "this", "?", "it", "un",
            "##real", "##ness", "cafe", "中", "文", "!",
        ];
        let vocabulary: serde_json::Map<String, Value> =
            words.iter().enumerate().map(|(id, word)| (word.to_string(), json!(id))).collect();
        let special = |id: usize| {
            json!({"id": id, "special": true, "content": words[id], "single_word": false,
                   "lstrip": false, "rstrip": false, "normalized": false})
        };
        let part = |id: &str, segment: u32| json!({"Sequence": {"id": id, "type_id": segment}});
        let mark =
            |name: &str, segment: u32| json!({"SpecialToken": {"id": name, "type_id": segment}});
        let file = json!({
            "version": "1.0",
            "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0,
                           "direction": "Right"},
            "padding": {"strategy": {"Fixed": 12}, "direction": "Right",
                        "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
                        "pad_token": "[PAD]"},
            "added_tokens": (0..5).map(special).collect::<Vec<_>>(),
            "normalizer": {"type": "BertNormalizer", "clean_text": true,
                           "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "TemplateProcessing",
                "single": [mark("[CLS]", 0), part("A", 0), mark("[SEP]", 0)],
                "pair": [mark("[CLS]", 0), part("A", 0), mark("[SEP]", 0), part("B", 1),
                         mark("[SEP]", 1)],
                "special_tokens": {
                    "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                    "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100, "vocab": vocabulary}
        });
        Tokenizer::from_json(&file.to_string()).unwrap()
    }

    #[test]
    fn a_pair_is_framed_and_tokens_know_where_they_come_from() {
        let framer = Framer::new(&bert()).unwrap();
        let (question, context) = ("Who IS this?", "It: Unrealness, Café 中文!");
        let framed = framer.encode(question, Some(context)).unwrap();
        let expected = [2, 5, 6, 7, 8, 3, 9, 1, 10, 11, 12, 1, 13, 14, 15, 16, 3];
        assert_eq!(framed.ids, expected);
        let segments: Vec<u32> = (0..17).map(|token| u32::from(token > 5)).collect();
        assert_eq!(framed.segments, segments);
        let words: Vec<Option<&str>> = framed
            .origins
            .iter()
            .map(|origin| {
                let origin = origin.as_ref()?;
                Some(&[question, context][origin.part][origin.bytes.clone()])
            })
            .collect();
        let expected = [
            "", "Who", "IS", "this", "?", "", "It", ":", "Un", "real", "ness", ",", "Café", "中",
            "文", "!", "",
        ];
        let expected = expected.map(|word| (!word.is_empty()).then_some(word));
        assert_eq!(words, expected);
    }

    #[test]
    fn one_text_is_framed_and_plain_encoding_adds_nothing() {
        let tokenizer = bert();
        let framer = Framer::new(&tokenizer).unwrap();
        let framed = framer.encode("this is unreal [MASK] !", None).unwrap();
        assert_eq!(framed.ids, [2, 7, 6, 10, 11, 4, 16, 3]);
        assert!(framed.segments.iter().all(|segment| *segment == 0));
        assert_eq!(framer.encode("", None).unwrap().ids, [2, 3]);
        assert_eq!(tokenizer.encode("this is unreal [MASK] !").unwrap(), [7, 6, 10, 11, 4, 16]);
        assert_eq!((tokenizer.unknown(), tokenizer.eos()), (Some(1), Some(3)));
        assert_eq!(tokenizer.vocabulary_size(), 17);
    }

    #[test]
    fn a_tokenizer_without_a_frame_is_refused() {
        let mut none = std::iter::empty();
        let bytes = Tokenizer::train(TokenizerKind::Byte, 0, &[], &mut none).unwrap();
        let message = Framer::new(&bytes).err().unwrap().to_string();
        assert!(message.contains("post_processor"), "{message}");
    }
}
