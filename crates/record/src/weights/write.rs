//! Writing safetensors as a stream: the header first, then each tensor through a small buffer.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use zerocopy::IntoBytes;

/// Floats converted at a time: 256 KiB, which stays in the cache.
const FLOATS: usize = 1 << 16;

/// One tensor to be written.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Its name in the file.
    pub name: String,
    /// Its shape in the file; the product is the number of values.
    pub shape: Vec<usize>,
    /// Where the values come from.
    pub values: Values<'a>,
}

/// The values of a tensor, row-major unless said otherwise.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// As they are.
    F32(&'a [f32]),
    /// `data` is `[rows, cols]`; the file gets the transpose, of shape `[cols, rows]`.
    F32Transposed {
        /// `rows · cols` values.
        data: &'a [f32],
        /// Rows of `data`.
        rows: usize,
        /// Columns of `data`.
        cols: usize,
    },
    /// Whole numbers.
    U64(&'a [u64]),
    /// Bytes.
    U8(&'a [u8]),
}

impl Values<'_> {
    fn len(&self) -> usize {
        match self {
            Values::F32(data) | Values::F32Transposed { data, .. } => data.len(),
            Values::U64(data) => data.len(),
            Values::U8(data) => data.len(),
        }
    }

    fn dtype(&self) -> (&'static str, usize) {
        match self {
            Values::F32(_) | Values::F32Transposed { .. } => ("F32", 4),
            Values::U64(_) => ("U64", 8),
            Values::U8(_) => ("U8", 1),
        }
    }
}

/// Writes a safetensors file. Tensors lie in the given order within one type; wider types come
/// first, so that all are aligned. Extra memory: 256 KiB, or one column of a transposed matrix.
///
/// # Errors
/// Those of `out`; `InvalidInput` for a shape that does not fit its values or a name given twice.
pub fn write_safetensors(
    out: &mut dyn Write,
    entries: &[Entry],
    metadata: &BTreeMap<String, String>,
) -> io::Result<()> {
    check(entries)?;
    let mut order: Vec<&Entry> = entries.iter().collect();
    order.sort_by_key(|entry| std::cmp::Reverse(entry.values.dtype().1));
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut offset = 0u64;
    for entry in &order {
        let (dtype, size) = entry.values.dtype();
        let end = offset + entry.values.len() as u64 * size as u64;
        let fields = json!({"dtype": dtype, "shape": entry.shape, "data_offsets": [offset, end]});
        header.insert(entry.name.clone(), fields);
        offset = end;
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(&text)?;
    let mut buffer = Vec::new();
    order.iter().try_for_each(|entry| write_values(out, &entry.values, &mut buffer))
}

fn check(entries: &[Entry]) -> io::Result<()> {
    let refuse = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    let mut names = BTreeSet::from(["__metadata__"]);
    for Entry { name, shape, values } in entries {
        if !names.insert(name) {
            return refuse(format!("tensor name {name:?} is taken"));
        }
        let product = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        if product != Some(values.len()) {
            return refuse(format!("tensor {name:?}: {} values for {shape:?}", values.len()));
        }
        if let Values::F32Transposed { rows, cols, .. } = values
            && shape[..] != [*cols, *rows]
        {
            return refuse(format!("tensor {name:?}: {rows}×{cols} transposed is not {shape:?}"));
        }
    }
    Ok(())
}

fn write_values(out: &mut dyn Write, values: &Values, buffer: &mut Vec<u8>) -> io::Result<()> {
    match *values {
        // The file's byte order is this machine's: not a byte is moved.
        Values::F32(data) if cfg!(target_endian = "little") => out.write_all(data.as_bytes()),
        Values::F32(data) => data.chunks(FLOATS).try_for_each(|chunk| {
            buffer.resize(4 * chunk.len(), 0);
            for (bytes, value) in buffer.chunks_exact_mut(4).zip(chunk) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
            out.write_all(buffer)
        }),
        Values::F32Transposed { data, rows, cols } => {
            write_transposed(out, data, [rows, cols], buffer)
        }
        Values::U64(data) => data.chunks(FLOATS / 2).try_for_each(|chunk| {
            buffer.resize(8 * chunk.len(), 0);
            for (bytes, value) in buffer.chunks_exact_mut(8).zip(chunk) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
            out.write_all(buffer)
        }),
        Values::U8(data) => out.write_all(data),
    }
}

/// A band of columns at a time, so that each row of the input is read in runs.
fn write_transposed(
    out: &mut dyn Write,
    data: &[f32],
    [rows, cols]: [usize; 2],
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let band = (FLOATS / rows.max(1)).clamp(1, cols.max(1));
    for first in (0..cols).step_by(band) {
        let width = band.min(cols - first);
        buffer.resize(4 * width * rows, 0);
        for (r, row) in data.chunks_exact(cols).enumerate() {
            for (c, value) in row[first..first + width].iter().enumerate() {
                let at = 4 * (c * rows + r);
                buffer[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        out.write_all(buffer)?;
    }
    Ok(())
}
