//! The program: reads the configuration, builds the services, announces, runs, drains. It wires and decides nothing.
//!
//! It is a library for one reason: fuzz targets reach what they try only in one ([`read_configuration`]). Nothing is to
//! be built on it; the binary is [`run_program`] and nothing else.
//!
//! Commands that need local state live here (`init`, `up`, `demo`, `migrate`, `backup`, `service`, `config`, `provider`, `model`, `policy`,
//! `sandbox`, and what `shell` has); all others are `dromia-cli`'s and reach a server only through its API.

mod audit;
mod backup;
mod chat_terminal;
mod compute;
mod config;
mod config_change;
mod configure;
mod demo;
mod doctor;
mod editor;
mod egress_client;
mod file_limit;
mod home;
mod home_services;
mod init;
mod keyfile;
mod live_config;
mod log;
mod migrate;
mod model;
mod outbox_client;
mod policy;
mod provider;
mod provider_probe;
mod redact;
mod runtime;
mod sandbox;
mod sandbox_choice;
mod schemas;
mod secret_command;
mod service;
mod shell;
mod status_all;
mod store_obstacle;
mod system;
mod terminal;
mod tool_policy;
mod tooltest;
mod up;
mod vault_keys;
mod workspace_roots;

use std::process::ExitCode;

use clap::{ArgMatches, FromArgMatches, Parser, Subcommand};
use dromia_cli::{CommandOutput, GlobalOptions};

/// Dromia runs LLM agents and journals every step, so a crash loses nothing.
#[derive(Debug, Parser)]
#[command(name = "dromia", version, disable_help_subcommand = true, disable_help_flag = true)]
struct ProgramArguments {
    #[command(flatten)]
    global: GlobalOptions,

    /// Print help
    // One page for both flags: clap's own has a long form for `--help` that takes three lines for each option.
    #[arg(long, short, global = true, action = clap::ArgAction::HelpShort)]
    help: Option<bool>,

    #[command(subcommand)]
    command: Option<ProgramCommand>,
}

#[derive(Debug, Subcommand)]
enum ProgramCommand {
    /// Create a home with its configuration, agent and token.
    Init(init::InitArguments),
    /// Run the server in the foreground.
    #[command(alias = "serve")]
    Up(up::UpArguments),
    /// Have systemd keep the server running.
    #[command(
        subcommand,
        after_help = "Examples:\n  dromia service install\n  dromia service status\n  dromia service logs --follow"
    )]
    Service(service::ServiceCommand),
    /// Watch a run survive a killed server, offline.
    Demo(demo::DemoArguments),
    /// Migrate the store to this program's schema.
    Migrate(migrate::MigrateArguments),
    /// Write, check and restore backups of the home.
    #[command(
        subcommand,
        visible_alias = "backups",
        after_help = "Examples:\n  dromia backup create /backups\n  dromia backup verify before-upgrade.tar"
    )]
    Backup(backup::BackupCommand),
    /// Check, show and explain the configuration.
    #[command(
        subcommand,
        after_help = "Examples:\n  dromia config validate\n  dromia config explain engine.active_max"
    )]
    Config(configure::ConfigCommand),
    /// Add, list, test and remove model providers.
    #[command(
        subcommand,
        visible_alias = "providers",
        after_help = "Examples:\n  dromia provider add openai --kind openai --key-env OPENAI_API_KEY\n  dromia provider test openai"
    )]
    Provider(provider::ProviderCommand),
    /// Show, test and explain policies.
    #[command(subcommand, after_help = "Examples:\n  dromia policy show\n  dromia policy test")]
    Policy(policy::PolicyCommand),
    /// Try to break out of this machine's sandboxes.
    #[command(subcommand, after_help = "Example:\n  dromia sandbox test --quick")]
    Sandbox(sandbox::SandboxCommand),
    /// Set, list and test models and their fallbacks.
    #[command(
        subcommand,
        visible_alias = "models",
        after_help = "Examples:\n  dromia model list\n  dromia model set default=openai/gpt-5-mini"
    )]
    Model(model::ModelCommand),
    #[command(flatten)]
    Client(dromia_cli::ClientCommand),
    #[command(flatten)]
    Shell(shell::ShellCommand),
}

/// Does what the command line of this process says.
pub fn run_program() -> ExitCode {
    // This program is its own helper: it starts what a tool runs in a sandbox, before it has threads.
    if let Some(code) = dromia_sandbox::enter_helper(std::env::args_os()) {
        return code;
    }
    // And it evaluates the policies of others in processes of its own.
    if let Some(code) = dromia_guard::policy::enter_worker(std::env::args_os()) {
        return code;
    }
    shell::choose_color(std::env::args_os());
    if let Some(words) = shell::words_to_complete(std::env::args_os()) {
        shell::print_completions(&words);
        return ExitCode::SUCCESS;
    }
    let read = shell::program_command().try_get_matches().and_then(|matches| {
        let arguments = ProgramArguments::from_arg_matches(&matches)?;
        Ok((matches, arguments))
    });
    let (matches, arguments) = match read {
        Ok(read) => read,
        Err(error) => return shell::report_usage_error(error, std::env::args_os()),
    };
    // Which TLS implementation is used is decided here, once for the process; nothing else can have decided it.
    drop(rustls::crypto::ring::default_provider().install_default());
    let home = home::Home::locate_home(arguments.global.home.as_deref());
    if let Some(refusal) = refuse_remote(arguments.command.as_ref(), &arguments.global) {
        let context = &mut schemas::context_for_command("");
        CommandOutput::new(context, &arguments.global).print_error(&refusal);
        return refusal.command_exit().into();
    }
    let Some(command) = arguments.command else { return shell::run_bare(&home, &arguments.global) };
    let context_of = || schemas::context_for_command(&schemas::canonical_command(&matches));
    let result = match command {
        ProgramCommand::Init(init) => init::run(&home, &init, &arguments.global, &mut context_of()),
        ProgramCommand::Up(up) => up::run_server(&home, &up),
        ProgramCommand::Demo(demo) => demo::run(&home, &demo),
        ProgramCommand::Service(service) => {
            service::run(&home, &service, &arguments.global, &mut context_of())
        }
        ProgramCommand::Migrate(migrate) => {
            migrate::run(&home, &migrate, &arguments.global, &mut context_of())
        }
        ProgramCommand::Backup(backup) => backup::run(&home, &backup, &arguments.global, &mut context_of()),
        ProgramCommand::Client(dromia_cli::ClientCommand::Tool(dromia_cli::args::ToolCommand::Test(
            test,
        ))) => tooltest::run(&home, test.name.as_deref(), &arguments.global, &mut context_of()),
        ProgramCommand::Client(dromia_cli::ClientCommand::Audit(dromia_cli::args::AuditCommand::Verify(
            asked,
        ))) => audit::verify(&home, &asked, &arguments.global, &mut context_of()),
        ProgramCommand::Client(command) => run_client_command(command, &home, &arguments.global, &matches),
        ProgramCommand::Shell(command) => shell::run(command, &home, &arguments.global, &matches),
        ProgramCommand::Config(config) => {
            let has_origin = matches!(config, configure::ConfigCommand::Show { origin: true, .. });
            let command = schemas::canonical_command(&matches) + if has_origin { " --origin" } else { "" };
            configure::run(&home, &config, &arguments.global, &mut schemas::context_for_command(&command))
        }
        ProgramCommand::Provider(provider) => {
            provider::run(&home, &provider, &arguments.global, &mut context_of())
        }
        ProgramCommand::Policy(policy) => policy::run(&home, &policy, &arguments.global, &mut context_of()),
        ProgramCommand::Sandbox(sandbox) => {
            sandbox::run(&home, &sandbox, &arguments.global, &mut context_of())
        }
        ProgramCommand::Model(model) => model::run(&home, &model, &arguments.global, &mut context_of()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            let failure = system::to_cli_error(error);
            CommandOutput::new(&mut schemas::context_for_command(""), &arguments.global)
                .print_error(&failure);
            failure.command_exit().into()
        }
    }
}

/// Refuses a server on the network for a command that works with the files of this machine.
fn refuse_remote(command: Option<&ProgramCommand>, global: &GlobalOptions) -> Option<dromia_cli::Error> {
    use dromia_cli::ClientCommand::{Audit, Status, Tool};
    let is_local = match command {
        Some(ProgramCommand::Client(Status(status))) => status.all,
        Some(ProgramCommand::Client(Tool(tool))) => matches!(tool, dromia_cli::args::ToolCommand::Test(_)),
        Some(ProgramCommand::Client(Audit(audit))) => {
            matches!(audit, dromia_cli::args::AuditCommand::Verify(_))
        }
        None
        | Some(
            ProgramCommand::Shell(
                shell::ShellCommand::Help { .. }
                | shell::ShellCommand::Docs { .. }
                | shell::ShellCommand::Version,
            )
            | ProgramCommand::Client(_),
        ) => false,
        Some(_) => true,
    };
    let flag = if global.context.is_some() { "--context" } else { "--server" };
    (is_local && (global.context.is_some() || global.server.is_some())).then(|| {
        let text = format!(
            "this command works with the files of this machine; run it on the server's, without {flag}"
        );
        dromia_cli::Error::Usage(text)
    })
}

/// Reads the text of a configuration as `dromia config validate` does, with no environment. A text without form is refused
/// with its line and column; of one that has form, what is wrong with its meaning is listed, each with its place.
pub fn read_configuration(text: &str) -> Result<Vec<String>, String> {
    let found = config::check_config_text(text).map_err(|problem| problem.to_string())?;
    Ok(found.iter().map(ToString::to_string).collect())
}

/// Does a command of the CLI, which reaches a server through its API only.
fn run_client_command(
    command: dromia_cli::ClientCommand,
    home: &home::Home,
    global: &GlobalOptions,
    matches: &ArgMatches,
) -> anyhow::Result<ExitCode> {
    let mut name = schemas::canonical_command(matches);
    match &command {
        dromia_cli::ClientCommand::Status(status) if status.all => {
            return status_all::run(home, global, &mut schemas::context_for_command("status --all"));
        }
        dromia_cli::ClientCommand::Status(status) if status.node => name.push_str(" --node"),
        _ => {}
    }
    run_client_named(command, &name, global)
}

/// Does a command whose document has this name.
pub(crate) fn run_client_named(
    command: dromia_cli::ClientCommand,
    name: &str,
    global: &GlobalOptions,
) -> anyhow::Result<ExitCode> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut context = schemas::context_for_command(name);
    let exit = tokio.block_on(dromia_cli::run_command(command, global, &mut context));
    // A reader of standard input may still sit in its thread; it must not keep the process.
    tokio.shutdown_background();
    Ok(ExitCode::from(exit.exit_code()))
}
