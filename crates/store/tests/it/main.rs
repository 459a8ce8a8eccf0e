//! What is the SQLite store's own; the promises of the port are the conformance suite's.

mod audit;
mod bodies;
mod commit;
mod conformance;
mod damage;
mod deliveries;
mod disk;
mod failure;
mod home;
mod inspect;
mod keys;
mod projections;
mod resubmit;
mod rights;
mod scene;
mod session_erasure;
mod state;
mod tables;
mod tenant_erasure;
mod tenants;
mod tokens;
mod upkeep;
mod wal;
