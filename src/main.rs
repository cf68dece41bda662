//! The command: parse, load, run, exit code. No logic.

fn main() {}
