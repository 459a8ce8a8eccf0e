//! The binary: reads the configuration, builds the rooms, announces, runs, drains. It wires and decides nothing.
//!
//! Commands that need local state live here (`init`, `up`, `demo`, `migrate`); all others are `dromia-cli`'s and
//! reach a server only through its API.

mod config;
mod demo;
mod home;
mod init;
mod migrate;
mod system;
mod up;
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dromia_cli::Global;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An operating system for LLM agents: every step is journaled before it is acted on, so a crash loses nothing.
#[derive(Debug, Parser)]
#[command(name = "dromia", version, disable_help_subcommand = true, arg_required_else_help = true)]
#[command(
    after_help = "Start here:\n  dromia demo              see a turn survive kill -9, offline, in half a minute\n  dromia init && dromia up make a home and serve it\n  dromia ask \"hello\"       ask its agent\n\nExit codes: 0 done, 1 failed, 2 not valid, 4 denied, 5 no server, 6 conflict, 7 the run failed,\n            124 not in time, 130 interrupted"
)]
struct Arguments {
    #[command(flatten)]
    global: Global,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a home: configuration, store, tenant, agent and token.
    Init(init::InitArguments),
    /// Serve a home in the foreground.
    #[command(alias = "serve")]
    Up(up::UpArguments),
    /// Show, offline, that a killed turn loses nothing.
    Demo(demo::DemoArguments),
    /// Look after the store's schema.
    Migrate(migrate::MigrateArguments),
    #[command(flatten)]
    Client(dromia_cli::Command),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Which TLS implementation is used is decided here, once for the process; nothing else can have decided it.
    drop(rustls::crypto::ring::default_provider().install_default());
    let home = home::Home::find(arguments.global.home.as_deref());
    let result = match arguments.command {
        Command::Init(init) => init::run(&home, &init, &arguments.global),
        Command::Up(up) => up::run(&home, &up),
        Command::Demo(demo) => demo::run(&demo),
        Command::Migrate(migrate) => migrate::run(&home, &migrate),
        Command::Client(command) => client(command, &arguments.global),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            ExitCode::from(error.downcast_ref::<system::Exit>().map_or(1, |exit| exit.code))
        }
    }
}

/// Does a command of the CLI, which reaches a server through its API only.
fn client(command: dromia_cli::Command, global: &Global) -> anyhow::Result<ExitCode> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut context = dromia_cli::Context::of_process();
    let exit = tokio.block_on(dromia_cli::run(command, global, &mut context));
    // A reader of standard input may still sit in its thread; it must not keep the process.
    tokio.shutdown_background();
    Ok(ExitCode::from(exit.code()))
}
