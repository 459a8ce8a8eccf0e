//! One module per phase: each starts what it needs, measures, and judges its figures.

pub(crate) mod agents;
pub(crate) mod backup;
pub(crate) mod conversation;
pub(crate) mod edits;
pub(crate) mod goodput;
pub(crate) mod lists;
pub(crate) mod long_runs;
pub(crate) mod minds;
pub(crate) mod person;
pub(crate) mod plain;
pub(crate) mod policy;
pub(crate) mod restart;
pub(crate) mod sandbox;
pub(crate) mod start;
pub(crate) mod starvation;
pub(crate) mod tools;
pub(crate) mod turns;
pub(crate) mod wakes;
pub(crate) mod window;

/// A million bytes, in which memory is stated.
const MEGABYTE: f64 = 1e6;
/// The connections of the throughput goal.
const CONNECTIONS: usize = 64;
