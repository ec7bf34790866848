//! The `heldout` binary: one file per command; the only crate that prints.

fn main() {}
