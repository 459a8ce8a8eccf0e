//! What the gate and the way out promise, checked through the ports that the other rooms call.

mod egress;
mod gate;
mod grant;
mod network;
mod reach;
mod server;
mod spellings;
mod tunnel;
mod vault;
