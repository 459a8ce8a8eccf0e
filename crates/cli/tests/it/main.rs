//! The commands against a scripted server: what is asked, what is printed where, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test may fail at once, in its helpers too")]
#![expect(unreachable_pub, reason = "the helpers of one test binary")]

mod agents;
mod commands;
mod cost;
mod files;
mod ids;
mod narrow;
mod server;
mod waits;
mod watch;
