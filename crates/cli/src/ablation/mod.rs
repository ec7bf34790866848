//! What `heldout ablate` needs beside its arguments: worker processes, the live board, the report.

pub mod analyst;
pub mod board;
pub mod existing;
pub mod names;
pub mod processes;
pub mod result;
