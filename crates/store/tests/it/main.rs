//! What is the SQLite store's own; the promises of the port are the conformance suite's.

mod bodies;
mod commit;
mod damage;
mod home;
mod scene;
mod upkeep;
mod wal;
