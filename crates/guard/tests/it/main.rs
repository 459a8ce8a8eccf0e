//! What the gate promises, checked through the port that the engine calls.

mod gate;
mod grant;
