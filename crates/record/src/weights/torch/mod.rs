//! Weights that `torch.save` wrote (PyTorch 1.6 and later): a zip archive of stored entries, of
//! which `data.pkl` is a pickle that says where in the others each tensor lies.
//!
//! Pickles are programs. This one is not run: [`pickle`] knows a handful of names that stand for
//! tensors and dictionaries, and refuses every other by name before anything is made of it.

mod pickle;
mod zip;

use super::header::{Header, Tensor};
use pickle::{Found, Storage};
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

/// What a zip archive starts with.
pub const MAGIC: &[u8] = b"PK\x03\x04";

/// Room for a million tensors.
const PICKLE_BYTES_MAX: u64 = 256 << 20;

/// What the file can be asked for.
pub trait Source: Read + Seek {}

impl<T: Read + Seek> Source for T {}

/// Reads which tensors an archive of `file_bytes` bytes holds; their bytes are looked at by nobody
/// here.
///
/// # Errors
/// In words: an archive that is damaged, a pickle that is more than a description of tensors, a
/// tensor that is not stored row by row or reaches past its storage.
pub fn read(source: &mut dyn Source, file_bytes: u64) -> Result<Header, String> {
    let entries = zip::entries(source, file_bytes)?;
    let is_pickle = |name: &&String| *name == "data.pkl" || name.ends_with("/data.pkl");
    let Some(name) = entries.keys().find(is_pickle) else {
        return Err("a zip archive without data.pkl: no file of torch.save".to_owned());
    };
    let folder = &name[..name.len() - "data.pkl".len()];
    if let Some(entry) = entries.get(&format!("{folder}byteorder")) {
        let order = zip::read(source, *entry, 16)?;
        if order != b"little" {
            return Err("was written on a big-endian machine".to_owned());
        }
    }
    let text = zip::read(source, entries[name], PICKLE_BYTES_MAX)?;
    let tensors = pickle::tensors(&text)?;
    let mut header = Header::default();
    header.metadata.insert("format".to_owned(), "pt".to_owned());
    for (name, found) in tensors {
        let place = entries.get(&format!("{folder}data/{}", found.storage.key));
        let Some(entry) = place else {
            let key = &found.storage.key;
            return Err(format!("tensor {name:?} lies in storage {key:?}, which is not there"));
        };
        let tensor = located(&found, entry.start, entry.bytes)
            .map_err(|problem| format!("tensor {name:?} {problem}"))?;
        header.tensors.insert(name, tensor);
    }
    Ok(header)
}

/// Where a tensor's bytes are, checked against its storage's.
fn located(found: &Found, start: u64, bytes: u64) -> Result<Tensor, String> {
    let Found { storage: Storage { dtype, size, .. }, offset, shape, strides } = found;
    let mut expected = 1_u64;
    for (n, stride) in shape.iter().zip(strides).rev() {
        if *n > 1 && *stride != expected {
            return Err("is not stored row by row; save it again with .contiguous()".to_owned());
        }
        expected = expected.checked_mul(*n).ok_or("is too large")?;
    }
    let span = expected.checked_mul(*size).ok_or("is too large")?;
    let begin = offset.checked_mul(*size).ok_or("is too large")?;
    if begin.checked_add(span).is_none_or(|end| end > bytes) {
        return Err(format!("reaches past its storage of {bytes} bytes: damaged or cut short"));
    }
    let shape = shape.iter().map(|n| usize::try_from(*n)).collect::<Result<_, _>>();
    let shape = shape.map_err(|_| "is too large for this machine")?;
    Ok(Tensor { dtype: (*dtype).to_owned(), shape, start: start + begin, bytes: span })
}

/// Reads one whole stretch of the file.
fn read_at(source: &mut dyn Source, start: u64, bytes: u64) -> Result<Vec<u8>, String> {
    let failed = |e: std::io::Error| format!("cannot be read: {e}");
    source.seek(SeekFrom::Start(start)).map_err(failed)?;
    let mut all = Vec::new();
    source.take(bytes).read_to_end(&mut all).map_err(failed)?;
    if all.len() as u64 != bytes {
        return Err(format!("ends after {} of {bytes} bytes at {start}", all.len()));
    }
    Ok(all)
}

/// The entries of an archive, by name.
type Entries = BTreeMap<String, zip::Entry>;
