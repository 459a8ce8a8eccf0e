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
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// Measures Dromia against the limit of the machine.
#[derive(Debug, Parser)]
#[command(version, about)]
struct BenchArguments {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Serves bare HTTP: one request in, one answer out.
    Echo,
    /// Serves a scripted model in the chat completions format.
    Model {
        /// The wait before each answer, in milliseconds.
        #[arg(long, default_value_t = 0)]
        delay_ms: u64,
        /// Refuses every call, and asks to be asked again after so many seconds.
        #[arg(long)]
        refuse_seconds: Option<u64>,
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
    Load(load::LoadArguments),
    /// Runs the demo and draws what it printed, as an SVG.
    Picture(picture::PictureArguments),
    /// Measures everything and writes a report.
    Run(run::MeasureArguments),
}

fn main() -> anyhow::Result<ExitCode> {
    match BenchArguments::parse().command {
        BenchCommand::Run(arguments) => return client_runtime()?.block_on(run::run_phases(arguments)),
        BenchCommand::Echo => serve::server_runtime()?.block_on(serve::echo::serve_echo()),
        BenchCommand::Model { delay_ms, refuse_seconds } => {
            let delay = Duration::from_millis(delay_ms);
            serve::server_runtime()?.block_on(serve::model::serve_model(delay, refuse_seconds))
        }
        BenchCommand::Probe { model, database } => {
            serve::server_runtime()?.block_on(serve::probe::serve_probe(model, database))
        }
        BenchCommand::Picture(arguments) => client_runtime()?.block_on(picture::record_demo(arguments)),
        BenchCommand::Load(arguments) => client_runtime()?.block_on(load::print_load_summary(arguments)),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The client's runtime: one thread, so that it takes little from what it measures.
fn client_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the client's runtime")
}
