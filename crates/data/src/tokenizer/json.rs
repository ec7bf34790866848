//! The tokenizer.json of every kind we train, and the recognition of kinds that we run ourselves.

use super::bpe::{Bpe, Splitting};
use super::merges::{Learned, Place};
use super::words::{BYTE_CHARACTERS, byte_of, to_alphabet};
use crate::fast_hash::FastMap;
use serde_json::{Map, Value, json};

/// A whole tokenizer.json around a model.
fn document(
    model: Value,
    pre_tokenizer: Value,
    decoder: Value,
    specials: &[(u32, String)],
) -> Value {
    let added: Vec<Value> = specials
        .iter()
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
           "normalizer": null, "pre_tokenizer": pre_tokenizer, "post_processor": null,
           "decoder": decoder, "model": model})
}

/// Bytes as letters, words cut by GPT-2's pattern.
fn byte_level() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
           "use_regex": true})
}

/// Bytes as letters, the text uncut.
fn byte_level_uncut() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
           "use_regex": false})
}

fn bpe_model(vocabulary: Map<String, Value>, merges: Vec<Value>, unknown: Option<&str>) -> Value {
    json!({"type": "BPE", "dropout": null, "unk_token": unknown,
           "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
           "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary, "merges": merges})
}

/// `specials` get the ids after `tokens`.
fn vocabulary(
    tokens: impl Iterator<Item = String>,
    specials: &[&str],
) -> (Map<String, Value>, Vec<(u32, String)>) {
    let mut map = Map::new();
    for (id, token) in tokens.enumerate() {
        map.insert(token, json!(id));
    }
    let mut placed = Vec::new();
    for special in specials {
        let id = map.len() as u32;
        map.insert((*special).to_string(), json!(id));
        placed.push((id, (*special).to_string()));
    }
    (map, placed)
}

/// One token per character, in code point order; nothing merged.
pub(crate) fn characters(alphabet: &[char], specials: &[&str], unknown: Option<&str>) -> Value {
    let (map, placed) = vocabulary(alphabet.iter().map(char::to_string), specials);
    document(bpe_model(map, Vec::new(), unknown), Value::Null, json!({"type": "Fuse"}), &placed)
}

/// One token per byte: its id is the byte.
pub(crate) fn bytes(specials: &[&str]) -> Value {
    let (map, placed) = vocabulary(BYTE_CHARACTERS.iter().map(char::to_string), specials);
    let model = bpe_model(map, Vec::new(), None);
    document(model, byte_level_uncut(), byte_level(), &placed)
}

/// Byte-level BPE as GPT-2's.
pub(crate) fn bpe(learned: &Learned, specials: &[&str]) -> Value {
    let names: Vec<String> = learned.pieces.iter().map(|p| to_alphabet(&p.bytes)).collect();
    let merges = learned
        .merges
        .iter()
        .map(|(left, right)| json!([names[*left as usize], names[*right as usize]]))
        .collect();
    let (map, placed) = vocabulary(names.iter().cloned(), specials);
    document(bpe_model(map, merges, None), byte_level(), byte_level(), &placed)
}

/// The mark of a WordPiece that does not start a word.
const INSIDE: &str = "##";
/// Longest word that WordPiece is given, in bytes; longer ones are cut.
const WORD_MAX: usize = 100;

/// WordPiece over byte-level words. `#` stands alone as a word, so no word starts with the mark and
/// decoding can take the mark off; long words are cut, so no word is unknown.
pub(crate) fn word_piece(learned: &Learned, specials: &[&str], unknown: &str) -> Value {
    let name = |place: Place, bytes: &[u8]| match place {
        Place::Anywhere => to_alphabet(bytes),
        Place::Inside => format!("{INSIDE}{}", to_alphabet(bytes)),
    };
    let names = learned.pieces.iter().map(|p| name(p.place, &p.bytes));
    let (map, placed) = vocabulary(names, specials);
    let model = json!({"type": "WordPiece", "unk_token": unknown,
        "continuing_subword_prefix": INSIDE, "max_input_chars_per_word": WORD_MAX, "vocab": map});
    let cut = format!(".{{1,{WORD_MAX}}}");
    let pre = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"String": "#"}, "behavior": "Isolated", "invert": false},
        byte_level(),
        {"type": "Split", "pattern": {"Regex": cut}, "behavior": "Isolated", "invert": false}]});
    let strip =
        json!({"type": "Replace", "pattern": {"Regex": format!("^{INSIDE}")}, "content": ""});
    let decoder = json!({"type": "Sequence", "decoders": [strip, byte_level()]});
    document(model, pre, decoder, &placed)
}

/// Unigram over byte-level words: pieces with log-probabilities; every byte is a piece, so nothing
/// is unknown.
pub(crate) fn unigram(pieces: &[(Vec<u8>, f64)], specials: &[&str]) -> Value {
    let mut rows: Vec<Value> =
        pieces.iter().map(|(bytes, score)| json!([to_alphabet(bytes), score])).collect();
    let mut placed = Vec::new();
    for special in specials {
        placed.push((rows.len() as u32, (*special).to_string()));
        rows.push(json!([special, 0.0]));
    }
    let model = json!({"type": "Unigram", "unk_id": null, "vocab": rows, "byte_fallback": false});
    document(model, byte_level(), byte_level(), &placed)
}

/// A tokenizer that we run ourselves, told from its JSON.
pub(crate) enum Recognised {
    Characters { ids: FastMap<char, u32>, unknown: Option<u32> },
    Bytes(Box<Bpe>),
}

/// Special tokens and the bytes of each token, for a recognised kind.
pub(crate) struct Tables {
    pub kind: Recognised,
    /// By id; `None` where an id is unused.
    pub tokens: Vec<Option<Box<[u8]>>>,
    pub specials: Vec<(String, u32)>,
}

/// `None` for anything with a part that our own encoder does not know.
pub(crate) fn recognise(json: &Value) -> Option<Tables> {
    let model = &json["model"];
    let absent = |v: &Value| v.is_null() || v.as_str() == Some("") || v.as_bool() == Some(false);
    let plain = model["type"] == "BPE"
        && ["dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"]
            .iter()
            .all(|key| absent(&model[*key]))
        && absent(&model["ignore_merges"])
        && absent(&model["fuse_unk"])
        && ["normalizer", "truncation", "padding"].iter().all(|key| json[*key].is_null());
    if !plain {
        return None;
    }
    let vocabulary = model["vocab"].as_object()?;
    let mut ids: Vec<(&str, u32)> = Vec::with_capacity(vocabulary.len());
    for (token, id) in vocabulary {
        ids.push((token, u32::try_from(id.as_u64()?).ok()?));
    }
    let specials = specials(json)?;
    let size =
        ids.iter().map(|(_, id)| *id).chain(specials.iter().map(|s| s.1)).max()? as usize + 1;
    let mut tokens: Vec<Option<Box<[u8]>>> = vec![None; size];
    let is_special = |token: &str| specials.iter().any(|(name, _)| name == token);
    let byte_level = json["pre_tokenizer"]["type"] == "ByteLevel";
    let kind = if byte_level {
        for (token, id) in ids.iter().filter(|(token, _)| !is_special(token)) {
            let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
            tokens[*id as usize] = Some(bytes?.into());
        }
        Recognised::Bytes(Box::new(byte_level_bpe(json, &ids)?))
    } else {
        let (ids, unknown) = character_level(json, &ids, &is_special)?;
        for (c, id) in &ids {
            tokens[*id as usize] = Some(c.to_string().into_bytes().into());
        }
        Recognised::Characters { ids, unknown }
    };
    for (name, id) in &specials {
        tokens[*id as usize] = Some(name.as_bytes().into());
    }
    Some(Tables { kind, tokens, specials })
}

/// The added tokens, if all are plain special tokens and few.
fn specials(json: &Value) -> Option<Vec<(String, u32)>> {
    let added = json["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
    if added.len() > 16 {
        return None;
    }
    let off = |token: &Value, key: &str| token[key].as_bool() != Some(true);
    added
        .iter()
        .map(|token| {
            let plain = token["special"].as_bool() == Some(true)
                && off(token, "single_word")
                && off(token, "lstrip")
                && off(token, "rstrip")
                && !token["content"].as_str()?.is_empty();
            let id = u32::try_from(token["id"].as_u64()?).ok()?;
            plain.then(|| token["content"].as_str().map(|name| (name.to_string(), id)))?
        })
        .collect()
}

fn byte_level_bpe(json: &Value, ids: &[(&str, u32)]) -> Option<Bpe> {
    let (pre, model) = (&json["pre_tokenizer"], &json["model"]);
    let suits = pre["add_prefix_space"].as_bool() == Some(false)
        && json["decoder"]["type"] == "ByteLevel"
        && model["unk_token"].is_null();
    if !suits {
        return None;
    }
    let by_name: FastMap<&str, u32> = ids.iter().copied().collect();
    let mut bytes = [0; 256];
    for (byte, c) in BYTE_CHARACTERS.iter().enumerate() {
        bytes[byte] = *by_name.get(c.to_string().as_str())?;
    }
    let mut merges = FastMap::default();
    for (rank, merge) in model["merges"].as_array()?.iter().enumerate() {
        let (left, right) = match merge {
            Value::String(both) => both.split_once(' ')?,
            both => (both[0].as_str()?, both[1].as_str()?),
        };
        let id = *by_name.get(format!("{left}{right}").as_str())?;
        merges.insert((*by_name.get(left)?, *by_name.get(right)?), (rank as u32, id));
    }
    let splitting = match pre["use_regex"].as_bool() {
        Some(false) => Splitting::None,
        _ => Splitting::Words,
    };
    Some(Bpe { bytes, merges, splitting })
}

fn character_level(
    json: &Value,
    ids: &[(&str, u32)],
    is_special: &dyn Fn(&str) -> bool,
) -> Option<(FastMap<char, u32>, Option<u32>)> {
    let suits = json["pre_tokenizer"].is_null()
        && json["decoder"]["type"] == "Fuse"
        && json["model"]["merges"].as_array()?.is_empty();
    if !suits {
        return None;
    }
    let mut map = FastMap::default();
    for (token, id) in ids.iter().filter(|(token, _)| !is_special(token)) {
        let mut chars = token.chars();
        map.insert(chars.next()?, *id);
        if chars.next().is_some() {
            return None;
        }
    }
    let unknown = match &json["model"]["unk_token"] {
        Value::String(name) => Some(ids.iter().find(|(token, _)| token == name)?.1),
        _ => None,
    };
    Some((map, unknown))
}
