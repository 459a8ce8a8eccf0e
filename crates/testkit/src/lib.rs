//! What tests of every crate share: time and chance under control, a reference store, faults, and the suites that each
//! implementation of a port must pass.
//!
//! | module | what it gives |
//! |---|---|
//! | [`runtime`] | a manual clock, seeded ids, and the real thing over tokio |
//! | [`sim`] | a deterministic executor with virtual time |
//! | [`reference`](mod@reference) | the in-memory store that is the oracle of all others |
//! | [`faulty`] | a store that fails its n-th commit on demand |
//! | [`conformance`] | the suite for stores, and random batch sequences to compare two of them |
//! | [`model_server`] | a scripted model behind the chat completions format |
//! | [`fuzz`] | what must hold of parsers for any bytes, and the corpus of `fuzz/` |
//! | [`tools`] | tools by their names |
//! | [`tls`] | certificates and keys that protect nothing |
//! | [`failing_vfs`] | an SQLite file system that fails its n-th call on demand |
//!
//! Nothing here is shipped and no shipped crate depends on it.

pub mod conformance;
pub mod failing_vfs;
pub mod faulty;
pub mod fuzz;
pub mod model_server;
pub mod reference;
pub mod runtime;
pub mod sim;
pub mod tls;
pub mod tools;

pub use crate::faulty::FaultyStore;
pub use crate::reference::ReferenceStore;
pub use crate::runtime::{ManualClock, SeededIds, answer_of, tokio_runtime, tokio_runtime_seeded};
pub use crate::sim::SimExecutor;
