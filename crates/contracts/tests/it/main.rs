//! What the words and the small decisions of the contracts are, as other crates, clients and files see them.
//!
//! Tables only: what needs a store, a model or a clock is tested where that is.

mod decisions;
mod words;
