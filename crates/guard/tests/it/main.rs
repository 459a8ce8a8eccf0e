//! What the gate and the way out promise, checked through the ports that the other rooms call.

mod audit;
mod capability;
mod egress;
mod full;
mod fuzz;
mod gate;
mod grant;
mod guards;
mod hang_ups;
mod network;
mod plan;
mod policy;
mod policy_workers;
mod reach;
mod revisions;
mod rights;
mod server;
mod spellings;
mod tunnel;
mod vault;
