//! Options of commands that compute with an existing model.

use std::path::Path;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use heldout_kernels::{Device, Precision, default_threads};
use heldout_record::{Manifest, RunDir};
use heldout_train::TrainError;

use crate::failure::Failure;

/// Threads and precision.
#[derive(Args, Clone, Debug)]
pub struct DeviceOptions {
    /// Threads to compute with; the result does not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Of the matrix products [default: what the run was trained in, else f32]
    #[arg(long)]
    pub precision: Option<PrecisionArgument>,
}

/// A precision as written on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PrecisionArgument {
    F32,
    Bf16,
}

impl DeviceOptions {
    /// The device for the model or run at `path`.
    pub fn device(&self, path: &Path) -> Result<Arc<Device>, Failure> {
        let precision = match self.precision {
            Some(PrecisionArgument::Bf16) => Precision::Bf16,
            Some(PrecisionArgument::F32) => Precision::F32,
            None => trained_in(path),
        };
        let threads = self.threads.map_or_else(default_threads, |threads| threads as usize);
        let device = Device::cpu(threads, precision).map_err(TrainError::from)?;
        Ok(Arc::new(device))
    }
}

/// The precision that the run at `path` was trained in: its figures were measured with it.
fn trained_in(path: &Path) -> Precision {
    let run = RunDir { root: path.to_path_buf() };
    match Manifest::read(&run.manifest()) {
        Ok(manifest) if manifest.precision == "bf16" => Precision::Bf16,
        _ => Precision::F32,
    }
}
