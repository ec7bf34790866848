//! Text to token ids and back: five kinds trained here, and any Hugging Face tokenizer.json.
//!
//! Whatever the kind, the tokenizer *is* its tokenizer.json: training makes one and the loader runs
//! it, so what a run exports gives the same ids elsewhere. Characters, bytes and GPT-2-like BPE run
//! on code of our own; everything else runs on the `tokenizers` crate.

mod bpe;
mod cards;
mod framed;
mod json;
mod merges;
#[cfg(test)]
mod tests;
mod train;
mod unigram;
mod words;

use crate::error::DataError;
use crate::fast_hash::FastMap;
use crate::labelled::frame::{Frame, post_processor};
use bpe::WordCache;
use json::{Recognised, Tables, recognise};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

pub use cards::CARDS;
pub use framed::{Framed, Framer, Origin};

/// Stands between documents, and ends generated text.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// Stands for a character that training never saw (character and WordPiece tokenizers only).
pub const UNKNOWN: &str = "<|unknown|>";
/// Largest vocabulary that is trained or read.
pub const VOCABULARY_MAX: usize = 4 << 20;

/// The tokenizers that can be trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerKind {
    Char,
    Byte,
    Bpe,
    Unigram,
    WordPiece,
}

impl TokenizerKind {
    /// All kinds with the names used in recipes.
    pub const ALL: [(&'static str, TokenizerKind); 5] = [
        ("char", TokenizerKind::Char),
        ("byte", TokenizerKind::Byte),
        ("bpe", TokenizerKind::Bpe),
        ("unigram", TokenizerKind::Unigram),
        ("wordpiece", TokenizerKind::WordPiece),
    ];

    /// The name used in recipes.
    pub fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(_, kind)| *kind == self);
        named.expect("every kind is listed").0
    }
}

/// A tokenizer; cloning shares it.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    runner: Runner,
    json: String,
    vocabulary: usize,
    end_of_text: Option<u32>,
    unknown: Option<u32>,
    specials: Vec<(String, u32)>,
}

enum Runner {
    Characters { ids: FastMap<char, u32>, unknown: Option<u32>, tokens: Vec<Option<Box<[u8]>>> },
    Bytes { bpe: Box<bpe::Bpe>, tokens: Vec<Option<Box<[u8]>>> },
    Foreign(Box<tokenizers::Tokenizer>),
}

/// What one thread reuses from text to text.
#[derive(Default)]
pub(crate) struct Scratch {
    words: WordCache,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({} tokens)", self.inner.vocabulary)
    }
}

/// The names that a text's end goes by in published tokenizers, likeliest first.
const END_NAMES: [&str; 9] = [
    END_OF_TEXT,
    "</s>",
    "<|end_of_text|>",
    "<eos>",
    "<|im_end|>",
    "<|eot_id|>",
    "<｜end▁of▁sentence｜>",
    "[SEP]",
    "[EOS]",
];

impl Tokenizer {
    /// Trains a tokenizer of `kind` on `texts` with `vocabulary` tokens in all (ignored by `Char`
    /// and `Byte`). `specials` are added after the learned tokens; usually [`END_OF_TEXT`] or
    /// nothing. Equal texts give an equal tokenizer, on any number of threads.
    ///
    /// # Errors
    /// A vocabulary that is too small for the alphabet or above [`VOCABULARY_MAX`]; no text at all;
    /// any error of `texts`.
    pub fn train(
        kind: TokenizerKind,
        vocabulary: usize,
        specials: &[&str],
        texts: &mut dyn Iterator<Item = Result<String, DataError>>,
    ) -> Result<Self, DataError> {
        let json = train::train(kind, vocabulary, specials, texts)?;
        Self::from_value(json)
    }

    /// Reads a tokenizer.json. Its end-of-text token is taken from a `tokenizer_config.json` beside
    /// it (`eos_token`), else by its usual names.
    ///
    /// # Errors
    /// The file cannot be read, is no tokenizer.json, or names more than [`VOCABULARY_MAX`] tokens.
    pub fn load(path: &Path) -> Result<Self, DataError> {
        let text = std::fs::read_to_string(path).map_err(|e| DataError::io(path, "read", e))?;
        let bad = |words: String| DataError::TokenizerFile { path: path.to_path_buf(), words };
        let value = serde_json::from_str(&text).map_err(|e| bad(format!("not valid JSON: {e}")))?;
        let beside = std::fs::read_to_string(path.with_file_name("tokenizer_config.json")).ok();
        let config: Option<Value> = beside.and_then(|text| serde_json::from_str(&text).ok());
        let eos = config.and_then(|c| match &c["eos_token"] {
            Value::String(name) => Some(name.clone()),
            other => other["content"].as_str().map(str::to_string),
        });
        Self::build(value, eos.as_deref()).map_err(|e| match e {
            DataError::Tokenizer(words) => bad(words),
            other => other,
        })
    }

    /// A tokenizer from the text of a tokenizer.json.
    ///
    /// # Errors
    /// It is not a tokenizer.json that can be run.
    pub fn from_json(text: &str) -> Result<Self, DataError> {
        let value = serde_json::from_str(text)
            .map_err(|e| DataError::Tokenizer(format!("not valid JSON: {e}")))?;
        Self::build(value, None)
    }

    fn from_value(value: Value) -> Result<Self, DataError> {
        Self::build(value, None)
    }

    fn build(value: Value, eos: Option<&str>) -> Result<Self, DataError> {
        let json = serde_json::to_string_pretty(&value)
            .map_err(|e| DataError::Tokenizer(e.to_string()))?;
        let (runner, vocabulary, specials, unknown) = match recognise(&value) {
            Some(Tables { kind, tokens, specials }) => {
                let size = tokens.len();
                let (runner, unknown) = match kind {
                    Recognised::Characters { ids, unknown } => {
                        (Runner::Characters { ids, unknown, tokens }, unknown)
                    }
                    Recognised::Bytes(bpe) => (Runner::Bytes { bpe, tokens }, None),
                };
                (runner, size, specials, unknown)
            }
            None => foreign(&json, &value)?,
        };
        if vocabulary > VOCABULARY_MAX {
            return Err(DataError::Tokenizer(format!(
                "a vocabulary of {vocabulary} tokens is above the limit of {VOCABULARY_MAX}"
            )));
        }
        let find = |name: &str| specials.iter().find(|(s, _)| s == name).map(|(_, id)| *id);
        let end_of_text =
            eos.and_then(find).or_else(|| END_NAMES.iter().find_map(|name| find(name)));
        let inner = Inner { runner, json, vocabulary, end_of_text, unknown, specials };
        Ok(Tokenizer { inner: Arc::new(inner) })
    }

    /// The same tokenizer with [`END_OF_TEXT`] added, for files that have no end-of-text token.
    ///
    /// # Errors
    /// The tokenizer cannot take an added token.
    pub fn with_end_of_text(&self) -> Result<Self, DataError> {
        let failed = |e: tokenizers::Error| DataError::Tokenizer(e.to_string());
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(&self.inner.json).map_err(failed)?;
        let token = tokenizers::AddedToken::from(END_OF_TEXT, true);
        tokenizer.add_special_tokens([token]).map_err(failed)?;
        Self::from_json(&tokenizer.to_string(false).map_err(failed)?)
    }

    /// The same tokenizer with special tokens put around a text by other programs that load its
    /// tokenizer.json; [`Tokenizer::encode`] still puts none.
    pub(crate) fn with_post_processor(&self, template: Value) -> Result<Self, DataError> {
        let mut value: Value = serde_json::from_str(&self.inner.json)
            .map_err(|e| DataError::Tokenizer(format!("not valid JSON: {e}")))?;
        let before = value["post_processor"].take();
        value["post_processor"] = match before.is_null() {
            true => template,
            false => serde_json::json!({"type": "Sequence", "processors": [before, template]}),
        };
        let eos = self.inner.specials.iter().find(|(_, id)| Some(*id) == self.eos());
        Self::build(value, eos.map(|(name, _)| name.as_str()))
    }

    /// The same with `[CLS]` and `[SEP]` put around a text by other programs, as encoders read it.
    pub(crate) fn framed(&self) -> Result<Self, DataError> {
        let frame = Frame::of_encoder(self);
        self.with_post_processor(post_processor(&frame, self.specials()))
    }

    /// The ids of `text`; no special token is put around it, but one that is spelled out in it
    /// counts as that token.
    ///
    /// # Errors
    /// A character that the vocabulary lacks, when there is no unknown token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let mut out = Vec::new();
        self.encode_into(text, &mut Scratch::default(), &mut out)?;
        Ok(out)
    }

    /// Appends the ids of `text` to `out`.
    pub(crate) fn encode_into(
        &self,
        text: &str,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> Result<(), DataError> {
        if let Runner::Foreign(tokenizer) = &self.inner.runner {
            let encoding = tokenizer
                .encode_fast(text, false)
                .map_err(|e| DataError::Tokenizer(format!("cannot encode: {e}")))?;
            out.extend_from_slice(encoding.get_ids());
            return Ok(());
        }
        let mut rest = text;
        while let Some((at, name, id)) = self.first_special(rest) {
            self.encode_plain(&rest[..at], scratch, out)?;
            out.push(id);
            rest = &rest[at + name.len()..];
        }
        self.encode_plain(rest, scratch, out)
    }

    /// The first special token spelled out in `text`; of several at one place the longest.
    fn first_special(&self, text: &str) -> Option<(usize, &str, u32)> {
        let found = self.inner.specials.iter().filter_map(|(name, id)| {
            let at = text.find(name.as_str())?;
            Some((at, name.as_str(), *id))
        });
        found.min_by_key(|(at, name, _)| (*at, usize::MAX - name.len()))
    }

    fn encode_plain(
        &self,
        text: &str,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) -> Result<(), DataError> {
        match &self.inner.runner {
            Runner::Bytes { bpe, .. } => bpe.encode(text, &mut scratch.words, out),
            Runner::Characters { ids, unknown, .. } => {
                out.reserve(text.len());
                for c in text.chars() {
                    let id = ids.get(&c).copied().or(*unknown).ok_or_else(|| {
                        DataError::Tokenizer(format!(
                            "the character {c:?} (U+{:04X}) does not occur in the training text, \
                             so this character tokenizer has no token for it. Leave it out, or \
                             train with tokenizer = \"byte\" or \"bpe\"",
                            c as u32
                        ))
                    })?;
                    out.push(id);
                }
            }
            Runner::Foreign(_) => unreachable!("encoded whole by the caller"),
        }
        Ok(())
    }

    /// The text of `ids`, special tokens spelled out. Ids outside the vocabulary are skipped; bytes
    /// that are not UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let tokens = match &self.inner.runner {
            Runner::Characters { tokens, .. } | Runner::Bytes { tokens, .. } => tokens,
            // Ids come from a model of the same vocabulary: decoding can only skip, never fail.
            Runner::Foreign(tokenizer) => return tokenizer.decode(ids, false).unwrap_or_default(),
        };
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for id in ids {
            if let Some(Some(token)) = tokens.get(*id as usize) {
                bytes.extend_from_slice(token);
            }
        }
        match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
        }
    }

    /// Number of ids: one more than the largest.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.vocabulary
    }

    /// The id of the end-of-text token.
    pub fn eos(&self) -> Option<u32> {
        self.inner.end_of_text
    }

    /// The id that stands for what the vocabulary lacks.
    pub fn unknown(&self) -> Option<u32> {
        self.inner.unknown
    }

    /// Special tokens and their ids.
    pub fn specials(&self) -> &[(String, u32)] {
        &self.inner.specials
    }

    /// The text of the tokenizer.json.
    pub fn to_json(&self) -> &str {
        &self.inner.json
    }

    /// The text of a tokenizer_config.json that makes `transformers` load the tokenizer.json as it
    /// is (`PreTrainedTokenizerFast`). `context` is the model's longest sequence.
    pub fn config_json(&self, context: usize) -> String {
        let name = |id: Option<u32>| {
            let found = self.inner.specials.iter().find(|(_, s)| Some(*s) == id);
            found.map(|(name, _)| name.clone())
        };
        let mut config = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false,
            "model_max_length": context,
        });
        if let Some(eos) = name(self.eos()) {
            config["eos_token"] = eos.into();
        }
        let padding = ["<pad>", "[PAD]"];
        if let Some((pad, _)) = self.specials().iter().find(|(n, _)| padding.contains(&n.as_str()))
        {
            config["pad_token"] = pad.as_str().into();
        }
        if let Some(unknown) = name(self.unknown()) {
            config["unk_token"] = unknown.into();
        }
        // Without their roles `transformers` fills no mask and pads no batch.
        let roles = [
            ("pad_token", ["[PAD]", "<pad>"]),
            ("cls_token", ["[CLS]", "<s>"]),
            ("sep_token", ["[SEP]", "</s>"]),
            ("mask_token", ["[MASK]", "<mask>"]),
        ];
        let has = |name: &&&str| self.inner.specials.iter().any(|(found, _)| found == **name);
        let found = roles.map(|(role, names)| Some((role, *names.iter().find(has)?)));
        // Only a tokenizer with a mask is an encoder's.
        if found[3].is_some() {
            for (role, name) in found.into_iter().flatten() {
                config[role] = name.into();
            }
        }
        serde_json::to_string_pretty(&config).expect("plain values serialize")
    }

    /// Writes the tokenizer.json durably.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), DataError> {
        let bytes = self.inner.json.as_bytes();
        Ok(heldout_base::durable::write_file(path, |out| out.write_all(bytes))?)
    }
}

type Built = (Runner, usize, Vec<(String, u32)>, Option<u32>);

/// Runs a tokenizer.json on the `tokenizers` crate.
fn foreign(json: &str, value: &Value) -> Result<Built, DataError> {
    let failed = |e: tokenizers::Error| DataError::Tokenizer(e.to_string());
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(json).map_err(failed)?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(failed)?;
    let largest = tokenizer.get_vocab(true).into_values().max();
    let Some(largest) = largest else {
        return Err(DataError::Tokenizer("its vocabulary is empty".into()));
    };
    let mut specials: Vec<(String, u32)> = tokenizer
        .get_added_tokens_decoder()
        .into_iter()
        .filter(|(_, token)| token.special)
        .map(|(id, token)| (token.content, id))
        .collect();
    specials.sort_by_key(|(_, id)| *id);
    let unknown = match &value["model"]["unk_token"] {
        Value::String(name) => tokenizer.token_to_id(name),
        _ => value["model"]["unk_id"].as_u64().map(|id| id as u32),
    };
    Ok((Runner::Foreign(Box::new(tokenizer)), largest as usize + 1, specials, unknown))
}
