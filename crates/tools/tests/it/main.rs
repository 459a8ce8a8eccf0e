//! The built-in tools, driven through the port that the engine calls, on a real file system.

mod index;
mod support;

mod branch;
mod catalogue;
mod external;
mod files;
mod fuzz;
mod homes;
mod labels;
mod message;
mod programs;
mod races;
mod referenced;
mod scoped;
mod shared;
mod text;
mod web;
mod worker_spawn;
