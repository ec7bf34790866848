//! `cargo xtask tidy | docs | bench | golden`.

fn main() {}
