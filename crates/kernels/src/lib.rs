//! Devices, buffers, and one file per operation (contract, reference, CPU).
