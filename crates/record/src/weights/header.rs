//! The header of a safetensors file, read with suspicion: any bytes give a header or a sentence.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// The limit of the reference implementation.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// Where one tensor lies, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub dtype: String,
    pub shape: Vec<usize>,
    /// Offset of the first byte in the file, and number of bytes; both within the file.
    pub start: u64,
    pub bytes: u64,
}

/// A checked header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub tensors: BTreeMap<String, Tensor>,
    pub metadata: BTreeMap<String, String>,
}

/// Bits per value of a type, or nothing for a type that the format does not have.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ"
        | "F8_E5M2FNUZ" => 8,
        "U16" | "I16" | "F16" | "BF16" => 16,
        "U32" | "I32" | "F32" => 32,
        "U64" | "I64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

/// Reads the header of a file of `file_bytes` bytes; every claim in it is checked against that
/// size before anything is allocated.
pub fn read(source: &mut dyn Read, file_bytes: u64) -> Result<Header, String> {
    let mut length = [0u8; 8];
    if file_bytes < 8 {
        return Err(format!("expected a safetensors file, found only {file_bytes} bytes"));
    }
    source.read_exact(&mut length).map_err(|e| format!("cannot read the header: {e}"))?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_BYTES_MAX || length > file_bytes - 8 {
        return Err(format!(
            "expected a safetensors header; it claims {length} bytes, the file has {file_bytes}: \
             truncated, or another format"
        ));
    }
    let mut text = Vec::new();
    source.take(length).read_to_end(&mut text).map_err(|e| format!("cannot read it: {e}"))?;
    if text.len() as u64 != length {
        return Err(format!("the header ends after {} of {length} bytes", text.len()));
    }
    let raw: RawHeader =
        serde_json::from_slice(&text).map_err(|e| format!("the header is damaged: {e}"))?;
    check(raw, 8 + length, file_bytes)
}

fn check(raw: RawHeader, data_start: u64, file_bytes: u64) -> Result<Header, String> {
    let data_bytes = file_bytes - data_start;
    let mut header = Header { metadata: raw.metadata, ..Header::default() };
    let mut spans = Vec::with_capacity(raw.tensors.len());
    for (name, tensor) in raw.tensors {
        let [begin, end] = tensor.data_offsets;
        if begin > end || end > data_bytes {
            return Err(format!(
                "tensor {name:?} lies at bytes {begin}..{end}, but there are {data_bytes}: the \
                 file is truncated or damaged"
            ));
        }
        let Some(bits) = bits(&tensor.dtype) else {
            return Err(format!("tensor {name:?} has the unknown type {:?}", tensor.dtype));
        };
        let product = tensor.shape.iter().try_fold(bits, |product, &n| product.checked_mul(n));
        let expected = product.filter(|bits| bits % 8 == 0).map(|bits| bits / 8);
        if expected != Some(end - begin) {
            return Err(format!(
                "tensor {name:?}: shape {:?} of {} does not fit its {} bytes",
                tensor.shape,
                tensor.dtype,
                end - begin
            ));
        }
        let shape = tensor.shape.iter().map(|&n| usize::try_from(n)).collect::<Result<_, _>>();
        let shape = shape.map_err(|_| format!("tensor {name:?} is too large for this machine"))?;
        spans.push((begin, end, name.clone()));
        let (start, bytes) = (data_start + begin, end - begin);
        header.tensors.insert(name, Tensor { dtype: tensor.dtype, shape, start, bytes });
    }
    spans.sort();
    let mut at = 0;
    for (begin, end, name) in spans {
        if begin != at {
            let how = if begin < at { "overlaps the one before it" } else { "leaves a gap" };
            return Err(format!("tensor {name:?} {how} (starts at byte {begin}, not {at})"));
        }
        at = end;
    }
    if at != data_bytes {
        return Err(format!("the tensors end at byte {at}, the data at byte {data_bytes}"));
    }
    Ok(header)
}

/// The JSON as it is, with names that appear twice refused.
#[derive(Default)]
struct RawHeader {
    tensors: Vec<(String, RawTensor)>,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut header = RawHeader::default();
        let mut names = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(de::Error::custom(format!("the name {name:?} appears twice")));
            }
            if name == "__metadata__" {
                header.metadata = map.next_value()?;
            } else {
                header.tensors.push((name, map.next_value()?));
            }
        }
        Ok(header)
    }
}
