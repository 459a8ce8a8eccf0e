//! Measures Dromia against the limit of the machine, in the same minutes and on the same two cores.
//!
//! `run` does everything: it starts an echo server, the scripted model, a bare probe and Dromia as child processes,
//! loads them in turn, and prints each figure beside its goal. The other commands are its parts, usable alone.
//!
//! Absolute figures of a busy machine mean little; ratios to the probe, taken in turns, are what to quote. Every
//! phase has a deadline, and every child process ends with this one.

mod child;
mod dromia;
mod figures;
mod http;
mod load;
mod measure;
mod pauses;
mod picture;
mod report;
mod run;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// Measures Dromia against the limit of the machine.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves bare HTTP: one request in, one answer out.
    Echo,
    /// Serves a scripted model in the chat completions format.
    Model {
        /// The wait before each answer, in milliseconds.
        #[arg(long, default_value_t = 0)]
        delay_ms: u64,
    },
    /// Serves the bare program: HTTP in, a commit, a model call, a commit, HTTP out.
    Probe {
        /// The base address of the model server, such as `http://127.0.0.1:8000/v1`.
        #[arg(long)]
        model: String,
        /// The database to write; it is made.
        #[arg(long)]
        database: PathBuf,
    },
    /// Loads a server and prints what it saw as JSON.
    Load(load::Arguments),
    /// Runs the demo and draws what it printed, as an SVG.
    Picture(picture::Arguments),
    /// Measures everything and writes a report.
    Run(run::Arguments),
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Run(arguments) => return single()?.block_on(run::run(arguments)),
        Command::Echo => serve::threaded()?.block_on(serve::echo::serve()),
        Command::Model { delay_ms } => {
            serve::threaded()?.block_on(serve::model::serve(Duration::from_millis(delay_ms)))
        }
        Command::Probe { model, database } => {
            serve::threaded()?.block_on(serve::probe::serve(model, database))
        }
        Command::Picture(arguments) => single()?.block_on(picture::record(arguments)),
        Command::Load(arguments) => single()?.block_on(load::print(arguments)),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The client's runtime: one thread, so that it takes little from what it measures.
fn single() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the client's runtime")
}
