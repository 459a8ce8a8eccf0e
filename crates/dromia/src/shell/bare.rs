//! `dromia` without a command: the first screen where a server answers, else the short help with the first step.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use dromia_cli::args::StatusArguments;
use dromia_cli::{ClientCommand, CommandExit, CommandOutput, Error, GlobalOptions};

use super::page::program_command;
use crate::home::Home;
use crate::schemas;

/// Runs the program without a command.
pub(crate) fn run_bare(home: &Home, global: &GlobalOptions) -> ExitCode {
    let socket = global.socket.clone().unwrap_or_else(|| home.root_dir().join("run").join("dromia.sock"));
    if UnixStream::connect(&socket).is_ok() {
        let status = ClientCommand::Status(StatusArguments::default());
        return crate::run_client_named(status, "status", global).unwrap_or_else(|error| {
            let failure = crate::system::to_cli_error(error);
            CommandOutput::new(&mut schemas::context_for_command("status"), global).print_error(&failure);
            failure.command_exit().into()
        });
    }
    let help = program_command().render_help();
    let mut err = anstream::stderr();
    let _unread = write!(err, "{}\n{}\n", help.ansi(), first_step(home));
    let context = &mut schemas::context_for_command("");
    let mut output = CommandOutput::new(context, global);
    if output.is_json() {
        let message = "a command is missing; --help lists the commands".to_owned();
        drop(output.print_failure(&Error::Usage(message)));
    }
    CommandExit::Usage.into()
}

/// Says what comes first here.
fn first_step(home: &Home) -> String {
    let root = home.root_dir().display();
    if home.config_path().exists() {
        format!("No server answers for {root}: start it with `dromia up`.")
    } else {
        format!("There is no home at {root}: create one with `dromia init`.")
    }
}
