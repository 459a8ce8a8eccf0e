//! The testkit's own tests: the suite against its oracle, and every fault with a control that notices it.

mod failing_vfs;
mod faulty;
mod model_server;
mod reference;
