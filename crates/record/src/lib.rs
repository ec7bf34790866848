//! A run on disk: manifest, events, metrics, checkpoints; the only crate that knows these formats.
