//! What is the SQLite store's own; the promises of the port are the conformance suite's.

mod bodies;
mod commit;
mod damage;
mod failure;
mod home;
mod resubmit;
mod scene;
mod upkeep;
mod wal;
