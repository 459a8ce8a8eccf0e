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
    let is_remote = dromia_cli::means_remote(global, &schemas::context_for_command(""));
    if is_remote || UnixStream::connect(&socket).is_ok() {
        let status = ClientCommand::Status(StatusArguments::default());
        return crate::run_client_named(status, "status", global).unwrap_or_else(|error| {
            let failure = crate::system::to_cli_error(error);
            CommandOutput::new(&mut schemas::context_for_command("status"), global).print_error(&failure);
            failure.command_exit().into()
        });
    }
    let help = program_command().render_help().ansi().to_string();
    // What is to be done here takes the place of the example.
    let help = help.trim_end().rsplit_once('\n').map_or(help.as_str(), |(above, _)| above);
    let _unread = writeln!(anstream::stderr(), "{help}\n{}", first_step(home));
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
