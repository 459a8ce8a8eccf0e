//! The testkit's own tests: the suite against its oracle, and every fault with a control that notices it.

#![expect(clippy::unwrap_used, reason = "a test may fail at once, in its helpers too")]

mod failing_vfs;
mod faulty;
mod fuzz;
mod model_server;
mod reference;
mod tenants;
