//! The cache's folders: which commit a revision is, and whether a snapshot holds a whole model.

use std::path::{Path, PathBuf};

use super::{Hub, Name};

/// Files beside the weights that tell what the model is and how its text is cut.
pub const DESCRIPTIONS: [&str; 4] =
    ["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];

/// Forms of weights, the preferred one first: a single file, or the index over its shards.
pub const WEIGHTS: [(&str, &str); 2] = [
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
];

impl Hub {
    /// The folder of a model in the cache, whether it is there or not.
    pub(super) fn folder(&self, name: &Name) -> PathBuf {
        self.cache.join(format!("models--{}", name.repository.replace('/', "--")))
    }

    /// The snapshot of a model that needs no network.
    pub(super) fn cached(&self, name: &Name) -> Option<PathBuf> {
        let folder = self.folder(name);
        let commit = match std::fs::read_to_string(folder.join("refs").join(&name.revision)) {
            Ok(commit) => commit.trim().to_owned(),
            // A commit is its own revision.
            Err(_) => name.revision.clone(),
        };
        let is_plain = !commit.is_empty() && commit.chars().all(|c| c.is_ascii_alphanumeric());
        let snapshot = folder.join("snapshots").join(commit);
        (is_plain && is_whole(&snapshot)).then_some(snapshot)
    }
}

/// Whether a snapshot has all that a model needs.
fn is_whole(snapshot: &Path) -> bool {
    let has = |file: &str| snapshot.join(file).is_file();
    let weights = WEIGHTS.iter().any(|(single, index)| {
        let shards = || shards(&snapshot.join(index)).is_some_and(|s| s.iter().all(|f| has(f)));
        has(single) || shards()
    });
    has("config.json") && has("tokenizer.json") && weights
}

/// The files that an index over shards names, each once.
pub fn shards(index: &Path) -> Option<Vec<String>> {
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(index).ok()?).ok()?;
    let map = json["weight_map"].as_object()?;
    let mut files: Vec<String> =
        map.values().map(|file| file.as_str().map(str::to_owned)).collect::<Option<_>>()?;
    files.sort();
    files.dedup();
    Some(files)
}
