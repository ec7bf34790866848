//! Reading weights: one file, or the shards that an index names, of safetensors or of `torch.save`;
//! f32, f16 and bf16 as f32.

use super::header::{self, Tensor};
use super::{INDEX_FILE, MODEL_FILE, TORCH_FILE, TORCH_INDEX_FILE, torch};
use crate::checksums::is_plain_name;
use crate::error::RecordError;
use half::{bf16, f16};
use heldout_base::durable::{self, Naming};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const BUFFER_BYTES: usize = 1 << 20;

/// Room for a million names; a larger index is no index.
const INDEX_BYTES_MAX: u64 = 256 << 20;

/// A safetensors file, or several as one. Only headers are held in memory.
#[derive(Debug)]
pub struct WeightFile {
    path: PathBuf,
    shards: Vec<PathBuf>,
    tensors: BTreeMap<String, (usize, Tensor)>,
    metadata: BTreeMap<String, String>,
}

/// The part of an index that matters.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn damaged(path: &Path, problem: impl Into<String>) -> RecordError {
    let next = "fetch or export the file again";
    RecordError::Weights { path: path.to_owned(), problem: problem.into(), next }
}

impl WeightFile {
    /// The files that it is made of, without an index.
    pub fn files(&self) -> &[PathBuf] {
        &self.shards
    }

    /// Opens a `.safetensors` file, one of `torch.save`, an index over shards (`….index.json`), or
    /// a folder with `model.safetensors`, `pytorch_model.bin` or the index of either, the first
    /// that is there. Every header is checked whole; no pickle is run.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        if !fs::metadata(path).naming("open", path)?.is_dir() {
            return match path.extension() {
                Some(extension) if extension == "json" => Self::open_shards(path),
                _ => Self::open_single(path),
            };
        }
        let (single, index) = (path.join(MODEL_FILE), path.join(INDEX_FILE));
        if single.is_file() {
            return Self::open_single(&single);
        }
        if index.is_file() {
            return Self::open_shards(&index);
        }
        let (single, index) = (path.join(TORCH_FILE), path.join(TORCH_INDEX_FILE));
        if single.is_file() {
            return Self::open_single(&single);
        }
        if index.is_file() {
            return Self::open_shards(&index);
        }
        let problem = "expected model.safetensors, pytorch_model.bin or an index there, found none";
        let next = "check the folder";
        Err(RecordError::Weights { path: path.to_owned(), problem: problem.into(), next })
    }

    fn open_single(path: &Path) -> Result<Self, RecordError> {
        let found = read_header(path)?;
        let tensors = found.tensors.into_iter().map(|(name, tensor)| (name, (0, tensor)));
        Ok(Self {
            path: path.to_owned(),
            shards: vec![path.to_owned()],
            tensors: tensors.collect(),
            metadata: found.metadata,
        })
    }

    fn open_shards(path: &Path) -> Result<Self, RecordError> {
        let mut text = Vec::new();
        let file = File::open(path).naming("open", path)?;
        file.take(INDEX_BYTES_MAX).read_to_end(&mut text).naming("read", path)?;
        let index: Index = serde_json::from_slice(&text)
            .map_err(|e| damaged(path, format!("expected an index over shards: {e}")))?;
        let folder = durable::parent(path);
        let mut all = Self {
            path: path.to_owned(),
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            metadata: BTreeMap::new(),
        };
        let mut opened: BTreeMap<String, (usize, BTreeMap<String, Tensor>)> = BTreeMap::new();
        for (name, shard) in index.weight_map {
            if !is_plain_name(&shard) {
                return Err(damaged(path, format!("shard {shard:?} is not beside the index")));
            }
            if !opened.contains_key(&shard) {
                let found = read_header(&folder.join(&shard))?;
                all.metadata.extend(found.metadata);
                opened.insert(shard.clone(), (all.shards.len(), found.tensors));
                all.shards.push(folder.join(&shard));
            }
            let (at, tensors) = opened.get_mut(&shard).expect("just opened");
            let Some(tensor) = tensors.remove(&name) else {
                let problem = format!("tensor {name:?} is not in {shard}, where the index puts it");
                return Err(damaged(path, problem));
            };
            all.tensors.insert(name, (*at, tensor));
        }
        Ok(all)
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The file, or the index over the shards.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the writer noted, such as `format`; of all shards together.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|(_, tensor)| &tensor.shape[..])
    }

    /// The type of a tensor as the format writes it: "F32", "BF16", ...
    pub fn dtype(&self, name: &str) -> Option<&str> {
        self.tensors.get(name).map(|(_, tensor)| &tensor.dtype[..])
    }

    /// A tensor as f32 (from F32, F16, BF16 or F64), with its shape, row-major.
    pub fn read_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), RecordError> {
        let (_, tensor) = self.find(name)?;
        let mut values = vec![0f32; self.floats(name, tensor)?];
        self.read_into(name, &mut values)?;
        Ok((tensor.shape.clone(), values))
    }

    /// As [`read_f32`](Self::read_f32), into memory that is there already.
    pub fn read_into(&self, name: &str, out: &mut [f32]) -> Result<(), RecordError> {
        let (_, tensor) = self.find(name)?;
        let count = self.floats(name, tensor)?;
        if count != out.len() {
            let problem = format!("has {count} values {:?}, expected {}", tensor.shape, out.len());
            return Err(self.problem(name, problem));
        }
        let mut rest = out;
        let size = tensor.bytes as usize / count.max(1);
        self.stream(name, &mut |bytes| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(bytes.len() / size);
            rest = later;
            match tensor.dtype.as_str() {
                "F32" => convert(bytes, now, f32::from_le_bytes),
                "F16" => convert(bytes, now, |b| f16::from_le_bytes(b).to_f32()),
                "BF16" => convert(bytes, now, |b| bf16::from_le_bytes(b).to_f32()),
                _ => convert(bytes, now, |b| f64::from_le_bytes(b) as f32),
            }
        })
    }

    /// A tensor of type U64.
    pub fn read_u64(&self, name: &str) -> Result<Vec<u64>, RecordError> {
        self.expect_type(name, "U64")?;
        let mut values = Vec::new();
        self.stream(name, &mut |bytes| {
            values.extend(bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)));
        })?;
        Ok(values)
    }

    /// A tensor of type U8.
    pub fn read_u8(&self, name: &str) -> Result<Vec<u8>, RecordError> {
        self.expect_type(name, "U8")?;
        let mut values = Vec::new();
        self.stream(name, &mut |bytes| values.extend_from_slice(bytes))?;
        Ok(values)
    }

    fn find(&self, name: &str) -> Result<&(usize, Tensor), RecordError> {
        self.tensors.get(name).ok_or_else(|| {
            let near = heldout_base::nearest::nearest(name, self.names());
            let hint = near.map(|n| format!(" (there is {n:?})")).unwrap_or_default();
            self.problem(name, format!("is not there{hint}; check that the model is of this kind"))
        })
    }

    fn problem(&self, name: &str, problem: String) -> RecordError {
        RecordError::Tensor { path: self.path.clone(), name: name.to_owned(), problem }
    }

    fn expect_type(&self, name: &str, expected: &str) -> Result<(), RecordError> {
        match &self.find(name)?.1.dtype {
            found if found == expected => Ok(()),
            found => Err(self.problem(name, format!("is of type {found}, expected {expected}"))),
        }
    }

    /// The number of values of a tensor that can be read as f32.
    fn floats(&self, name: &str, tensor: &Tensor) -> Result<usize, RecordError> {
        let size = match tensor.dtype.as_str() {
            "F16" | "BF16" => 2,
            "F32" => 4,
            "F64" => 8,
            other => {
                let problem = format!("is of type {other}, expected F32, F16, BF16 or F64");
                return Err(self.problem(name, problem));
            }
        };
        Ok(tensor.bytes as usize / size)
    }

    /// Hands the bytes of a tensor over, a buffer at a time (each a multiple of 8 but the last).
    fn stream(&self, name: &str, take: &mut dyn FnMut(&[u8])) -> Result<(), RecordError> {
        let (shard, tensor) = self.find(name)?;
        let path = &self.shards[*shard];
        let mut file = File::open(path).naming("open", path)?;
        file.seek(SeekFrom::Start(tensor.start)).naming("read", path)?;
        let mut left = tensor.bytes;
        let mut buffer = vec![0u8; left.min(BUFFER_BYTES as u64) as usize];
        while left > 0 {
            let now = left.min(buffer.len() as u64) as usize;
            file.read_exact(&mut buffer[..now]).naming("read", path)?;
            take(&buffer[..now]);
            left -= now as u64;
        }
        Ok(())
    }
}

fn convert<const N: usize>(bytes: &[u8], out: &mut [f32], from: impl Fn([u8; N]) -> f32) {
    for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *value = from(*bytes);
    }
}

/// A pickle without an archive around it; a safetensors header of so many bytes would be too long.
fn is_old_torch(start: &[u8]) -> bool {
    matches!(start, [0x80, 2..=5, .., _, _, _, _, _, _]) && start.get(7) != Some(&0)
}

fn read_header(path: &Path) -> Result<header::Header, RecordError> {
    let file = File::open(path).naming("open", path)?;
    let bytes = file.metadata().naming("read", path)?.len();
    let mut file = BufReader::new(file);
    let start = file.fill_buf().naming("read", path)?;
    if start.starts_with(torch::MAGIC) {
        return torch::read(&mut file, bytes).map_err(|problem| {
            let next = "if you trust the file, load it in PyTorch and save its state_dict() as \
                        safetensors";
            RecordError::Weights { path: path.to_owned(), problem, next }
        });
    }
    if is_old_torch(start) {
        let next = "load it in PyTorch and save it again";
        let problem = "was written by PyTorch before 1.6, or is a bare pickle: not read".to_owned();
        return Err(RecordError::Weights { path: path.to_owned(), problem, next });
    }
    header::read(&mut file, bytes).map_err(|problem| damaged(path, problem))
}
