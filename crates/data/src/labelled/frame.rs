//! What stands around an example: read from a tokenizer.json's post-processor, or written into it.

use crate::error::DataError;
use crate::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

/// One piece of an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Token { id: u32, segment: u8 },
    Text { segment: u8 },
    Pair { segment: u8 },
}

/// The pieces of a single text and of a pair, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub single: Vec<Part>,
    pub pair: Vec<Part>,
}

impl Frame {
    /// `[CLS] text [SEP]` and `[CLS] text [SEP] pair [SEP]`, without the tokens that are not there.
    pub(crate) fn bert(cls: Option<u32>, sep: Option<u32>) -> Self {
        let token = |id: Option<u32>, segment| id.map(|id| Part::Token { id, segment });
        let single = [token(cls, 0), Some(Part::Text { segment: 0 }), token(sep, 0)];
        let second = [Some(Part::Pair { segment: 1 }), token(sep, 1)];
        Self::from_parts(single.into_iter().flatten(), second.into_iter().flatten())
    }

    /// The same with whatever a tokenizer calls these two.
    pub(crate) fn of_encoder(tokenizer: &Tokenizer) -> Self {
        let id = |names: [&str; 2]| {
            let find = |name| tokenizer.specials().iter().find(|(n, _)| *n == name).map(|s| s.1);
            names.into_iter().find_map(find)
        };
        Self::bert(id(["[CLS]", "<s>"]), id(["[SEP]", "</s>"]))
    }

    /// `text <eos>` and `text <eos> pair <eos>`.
    pub(crate) fn closed(eos: Option<u32>) -> Self {
        let mut frame = Self::bert(None, eos);
        // Models that read an end-of-text token between texts have no segments.
        frame.pair = frame.pair.into_iter().map(unsegmented).collect();
        frame
    }

    fn from_parts(single: impl Iterator<Item = Part>, second: impl Iterator<Item = Part>) -> Self {
        let single: Vec<Part> = single.collect();
        let pair = single.iter().copied().chain(second).collect();
        Frame { single, pair }
    }

    /// Whether there are no special tokens at all.
    pub(crate) fn is_bare(&self) -> bool {
        !self.pair.iter().any(|part| matches!(part, Part::Token { .. }))
    }

    /// As the tokenizer.json says; `None` where it says nothing.
    ///
    /// # Errors
    /// A post-processor of another kind.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Result<Option<Self>, DataError> {
        let value: Value = serde_json::from_str(tokenizer.to_json())
            .map_err(|e| DataError::Tokenizer(format!("not valid JSON: {e}")))?;
        read(&value["post_processor"])
    }
}

fn unsegmented(part: Part) -> Part {
    match part {
        Part::Token { id, .. } => Part::Token { id, segment: 0 },
        Part::Text { .. } => Part::Text { segment: 0 },
        Part::Pair { .. } => Part::Pair { segment: 0 },
    }
}

fn read(value: &Value) -> Result<Option<Frame>, DataError> {
    let malformed = |kind: &str| {
        DataError::Tokenizer(format!(
            "the {kind} post-processor of the tokenizer.json is malformed"
        ))
    };
    let Some(kind) = value["type"].as_str() else { return Ok(None) };
    match kind {
        "ByteLevel" => Ok(None),
        "Sequence" => {
            let parts = value["processors"].as_array().map_or(&[][..], Vec::as_slice);
            let found: Result<Vec<_>, _> = parts.iter().map(read).collect();
            Ok(found?.into_iter().flatten().next())
        }
        "BertProcessing" | "RobertaProcessing" => {
            let id = |name: &str| value[name][1].as_u64().map(|id| id as u32);
            let (Some(cls), Some(sep)) = (id("cls"), id("sep")) else {
                return Err(malformed(kind));
            };
            if kind == "BertProcessing" {
                return Ok(Some(Frame::bert(Some(cls), Some(sep))));
            }
            // RoBERTa: two separators between the texts, no segments.
            let sep = Part::Token { id: sep, segment: 0 };
            let single = [Part::Token { id: cls, segment: 0 }, Part::Text { segment: 0 }, sep];
            let second = [sep, Part::Pair { segment: 0 }, sep];
            Ok(Some(Frame::from_parts(single.into_iter(), second.into_iter())))
        }
        "TemplateProcessing" => {
            let ids = &value["special_tokens"];
            let side = |name: &str| template(&value[name], ids).ok_or_else(|| malformed(kind));
            let (single, mut pair) = (side("single")?, side("pair")?);
            if !pair.iter().any(|part| matches!(part, Part::Pair { .. })) {
                pair.push(Part::Pair { segment: 1 });
            }
            Ok(Some(Frame { single, pair }))
        }
        other => Err(DataError::Tokenizer(format!(
            "the tokenizer.json has a post-processor of type {other}, which is not known. Expected \
             TemplateProcessing, BertProcessing, RobertaProcessing or ByteLevel"
        ))),
    }
}

/// One side of a template.
fn template(pieces: &Value, special_tokens: &Value) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    for piece in pieces.as_array()? {
        let (special, sequence) = (&piece["SpecialToken"], &piece["Sequence"]);
        if let Some(name) = special["id"].as_str() {
            let segment = special["type_id"].as_u64()? as u8;
            for id in special_tokens[name]["ids"].as_array()? {
                parts.push(Part::Token { id: id.as_u64()? as u32, segment });
            }
        } else {
            let segment = sequence["type_id"].as_u64()? as u8;
            parts.push(match sequence["id"].as_str()? {
                "A" => Part::Text { segment },
                _ => Part::Pair { segment },
            });
        }
    }
    Some(parts)
}

/// The post-processor that makes other programs put the same tokens around a text.
pub(crate) fn post_processor(frame: &Frame, specials: &[(String, u32)]) -> Value {
    let name = |id: u32| {
        let found = specials.iter().find(|(_, special)| *special == id);
        found.map(|(name, _)| name.as_str()).expect("frames are made of special tokens")
    };
    let mut used = Map::new();
    for part in &frame.pair {
        if let Part::Token { id, .. } = part {
            let entry = json!({"id": name(*id), "ids": [id], "tokens": [name(*id)]});
            used.insert(name(*id).to_string(), entry);
        }
    }
    let side = |parts: &[Part]| -> Vec<Value> {
        let piece = |part: &Part| match part {
            Part::Token { id, segment } => {
                json!({"SpecialToken": {"id": name(*id), "type_id": segment}})
            }
            Part::Text { segment } => json!({"Sequence": {"id": "A", "type_id": segment}}),
            Part::Pair { segment } => json!({"Sequence": {"id": "B", "type_id": segment}}),
        };
        parts.iter().map(piece).collect()
    };
    json!({"type": "TemplateProcessing", "single": side(&frame.single), "pair": side(&frame.pair),
           "special_tokens": used})
}
