//! The commands against a scripted server: what is asked, what is printed where, and how it ends.

mod commands;
mod server;
mod watch;
