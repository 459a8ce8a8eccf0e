//! Claims about the engine, checked from outside.

mod cost;
mod decisions;
mod golden;
mod simulation;
