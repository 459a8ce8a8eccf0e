//! The built-in tools, driven through the port that the engine calls, on a real file system.

mod support;

mod catalogue;
mod files;
mod homes;
mod message;
mod programs;
mod races;
mod text;
mod web;
