//! Claims about the whole binary, over real sockets, and about the shape of the workspace.

mod arrows;
mod bad_homes;
mod bad_requests;
mod bad_tools;
mod compat;
mod configuring;
mod cost;
mod damage;
mod doctor;
mod full_disk;
mod home;
mod hops;
mod large;
mod model;
mod mutations;
mod requests;
mod rests;
mod schema;
mod scopes;
mod shell;
mod sweeping;
mod tokens;
mod tree;
mod turns;
