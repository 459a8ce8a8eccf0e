//! Claims about the engine, checked from outside.

mod decisions;
mod golden;
mod simulation;
