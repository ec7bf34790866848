//! Devices, buffers, and one file per operation (contract, reference, CPU).

pub mod device;
pub mod gemm;
pub mod math;
pub mod pool;
pub mod random;
pub mod reduce;
pub mod simd;

pub use device::{Device, DeviceError, Isa, Precision};
pub use math::Activation;
pub use pool::{Pool, default_threads};
