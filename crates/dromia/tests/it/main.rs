//! Claims about the whole binary, over real sockets, and about the shape of the workspace.

mod arrows;
mod bad_homes;
mod full_disk;
mod home;
mod mutations;
mod sweeping;
mod turns;
