//! The program: reads the configuration, builds the rooms, announces, runs, drains. It wires and decides nothing.
//!
//! It is a library for one reason: fuzz targets reach what they try only in one ([`read_configuration`]). Nothing is to
//! be built on it; the binary is [`run`] and nothing else.
//!
//! Commands that need local state live here (`init`, `up`, `demo`, `migrate`, `config`, `provider`, `model`, `policy`,
//! `sandbox`, and what `shell` has); all others are `dromia-cli`'s and reach a server only through its API.

mod audit;
mod change;
mod config;
mod configure;
mod demo;
mod doctor;
mod home;
mod init;
mod keyfile;
mod keys;
mod log;
mod migrate;
mod model;
mod obstacle;
mod outside;
mod policy;
mod post;
mod probe;
mod provider;
mod redact;
mod sandbox;
mod schemas;
mod shell;
mod status_all;
mod system;
mod terminal;
mod terms;
mod tooltest;
mod up;
mod walls;
mod world;

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use dromia_cli::{Context, Global, Output};

/// An operating system for LLM agents: every step is journaled before it is acted on, so a crash loses nothing.
#[derive(Debug, Parser)]
#[command(name = "dromia", version, disable_help_subcommand = true, arg_required_else_help = true)]
#[command(after_help = shell::foot())]
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
    /// Check, show and explain the configuration.
    #[command(subcommand)]
    Config(configure::ConfigCommand),
    /// Add, list, test and remove servers of models.
    #[command(subcommand, visible_alias = "providers")]
    Provider(provider::ProviderCommand),
    /// Show the built-in policy, test every policy of the home, and explain what was decided.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Try to break out of the sandbox of this machine.
    #[command(subcommand)]
    Sandbox(sandbox::SandboxCommand),
    /// Set, list and test models, and show who stands in.
    #[command(subcommand, visible_alias = "models")]
    Model(model::ModelCommand),
    #[command(flatten)]
    Client(dromia_cli::Command),
    #[command(flatten)]
    Shell(shell::ShellCommand),
}

/// Does what the command line of this process says.
pub fn run() -> ExitCode {
    // This program is its own helper: what a tool runs behind walls is started by it, before it has threads.
    if let Some(code) = dromia_sandbox::enter(std::env::args_os()) {
        return code;
    }
    shell::choose_color(std::env::args_os());
    if let Some(words) = shell::words_to_complete(std::env::args_os()) {
        shell::complete(&words);
        return ExitCode::SUCCESS;
    }
    let read = Arguments::command().try_get_matches().and_then(|matches| {
        let arguments = Arguments::from_arg_matches(&matches)?;
        Ok((matches, arguments))
    });
    let (matches, arguments) = match read {
        Ok(read) => read,
        Err(error) => return shell::refused(&error, std::env::args_os()),
    };
    // Which TLS implementation is used is decided here, once for the process; nothing else can have decided it.
    drop(rustls::crypto::ring::default_provider().install_default());
    let home = home::Home::find(arguments.global.home.as_deref());
    let result = match arguments.command {
        Command::Init(init) => {
            let context = &mut schemas::context(&schemas::command(&matches));
            init::run(&home, &init, &arguments.global, context)
        }
        Command::Up(up) => up::run(&home, &up),
        Command::Demo(demo) => demo::run(&home, &demo),
        Command::Migrate(migrate) => {
            let context = &mut schemas::context(&schemas::command(&matches));
            migrate::run(&home, &migrate, &arguments.global, context)
        }
        Command::Client(dromia_cli::Command::Tool(dromia_cli::args::Tool::Test(test))) => {
            let context = &mut schemas::context(&schemas::command(&matches));
            tooltest::run(&home, test.name.as_deref(), &arguments.global, context)
        }
        Command::Client(dromia_cli::Command::Audit(dromia_cli::args::Audit::Verify(asked))) => {
            let context = &mut schemas::context(&schemas::command(&matches));
            audit::verify(&home, &asked, &arguments.global, context)
        }
        Command::Client(command) => client(command, &home, &arguments.global, &matches),
        Command::Shell(command) => shell::run(command, &home, &arguments.global, &matches),
        Command::Config(config) => {
            let has_origin = matches!(config, configure::ConfigCommand::Show { origin: true, .. });
            let command = schemas::command(&matches) + if has_origin { " --origin" } else { "" };
            configure::run(&home, &config, &arguments.global, &mut schemas::context(&command))
        }
        Command::Provider(provider) => {
            let context = &mut schemas::context(&schemas::command(&matches));
            provider::run(&home, &provider, &arguments.global, context)
        }
        Command::Policy(policy) => {
            let context = &mut schemas::context(&schemas::command(&matches));
            policy::run(&home, &policy, &arguments.global, context)
        }
        Command::Sandbox(sandbox) => {
            let context = &mut schemas::context(&schemas::command(&matches));
            sandbox::run(&home, &sandbox, &arguments.global, context)
        }
        Command::Model(model) => {
            let context = &mut schemas::context(&schemas::command(&matches));
            model::run(&home, &model, &arguments.global, context)
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            let failure = system::failure(error);
            Output::new(&mut Context::of_process(world::request_key()), &arguments.global).tell(&failure);
            failure.exit().into()
        }
    }
}

/// Reads the text of a configuration as `dromia config validate` does, with no environment. A text without form is refused
/// with its line and column; of one that has form, what is wrong with its meaning is listed, each with its place.
pub fn read_configuration(text: &str) -> Result<Vec<String>, String> {
    let found = config::check(text).map_err(|problem| problem.to_string())?;
    Ok(found.iter().map(ToString::to_string).collect())
}

/// Does a command of the CLI, which reaches a server through its API only.
fn client(
    command: dromia_cli::Command,
    home: &home::Home,
    global: &Global,
    matches: &ArgMatches,
) -> anyhow::Result<ExitCode> {
    if matches!(&command, dromia_cli::Command::Status(status) if status.all) {
        return status_all::run(home, global, &mut schemas::context("status --all"));
    }
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut context = schemas::context(&schemas::command(matches));
    let exit = tokio.block_on(dromia_cli::run(command, global, &mut context));
    // A reader of standard input may still sit in its thread; it must not keep the process.
    tokio.shutdown_background();
    Ok(ExitCode::from(exit.code()))
}
