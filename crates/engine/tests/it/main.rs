//! Claims about the engine, checked from outside.

mod approvals;
mod cost;
mod decisions;
mod fuzz;
mod golden;
mod opinions;
mod session_file;
mod simulation;
