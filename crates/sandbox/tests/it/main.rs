//! The backends of this machine behind the port, with the crate's own helper.

mod battery;
mod docker;
mod door;
mod groups;
mod guest;
mod machine;
mod mounts;
mod numbers;
mod port;
mod races;
mod references;
mod repository;
mod support;
mod volumes;
