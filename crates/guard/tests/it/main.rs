//! What the gate and the way out promise, checked through the ports that the other rooms call.

mod capability;
mod egress;
mod gate;
mod grant;
mod network;
mod policy;
mod reach;
mod server;
mod spellings;
mod tunnel;
mod vault;
