//! skeleton.
fn main() {}
