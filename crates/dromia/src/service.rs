//! `dromia service`: has systemd keep the server of a home running, as a unit of the user or of the system.
//!
//! It writes one unit file and calls `systemctl`; it holds no state of its own. It never changes the home, except that
//! `--with-env` writes `service.env` there. It refuses to run a server as root, to write over a unit that it did not write,
//! and to guess where there is no systemd: then `--print` has the unit for whatever looks after the process.

mod systemd;
mod unit;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use dromia_cli::{CommandContext, CommandExit, CommandOutput, GlobalOptions};
use schemars::JsonSchema;
use serde::Serialize;

use self::systemd::ServiceManager;
use self::unit::UnitFile;
use crate::config;
use crate::doctor;
use crate::home::Home;
use crate::system::{self, ExitError};

pub(crate) use self::systemd::UnitState;

/// What to do with the service.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ServiceCommand {
    /// Write the systemd unit of this home, and start it now and at each boot
    #[command(
        after_help = "Without --system the service is the user's own. With --system it is the machine's, and runs as the owner of the home, who must not be root. The service does not see your shell's variables: put those that dromia.yaml names into service.env in the home, or use --with-env.\n\nExamples:\n  dromia service install\n  dromia service install --with-env\n  dromia service install --print > dromia.service\n  sudo dromia --home /srv/dromia service install --system"
    )]
    Install(InstallService),
    /// Stop the service and remove its unit; the home stays
    #[command(after_help = "Example:\n  dromia service uninstall")]
    Uninstall(UnitOptions),
    /// Start the service
    #[command(after_help = "Example:\n  dromia service start")]
    Start(UnitOptions),
    /// Stop the service; open runs continue at the next start
    #[command(after_help = "Example:\n  dromia service stop")]
    Stop(UnitOptions),
    /// Stop the service and start it again
    #[command(after_help = "Example:\n  dromia service restart")]
    Restart(UnitOptions),
    /// Show whether the service runs
    #[command(
        after_help = "Exits with 1 if the service does not run.\n\nExamples:\n  dromia service status\n  dromia service status --json=active,pid"
    )]
    Status(UnitOptions),
    /// Show what the server logged
    #[command(
        after_help = "Examples:\n  dromia service logs\n  dromia service logs --follow\n  dromia service logs --lines 500"
    )]
    Logs(ServiceLogs),
}

/// Which unit.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct UnitOptions {
    /// The machine's service instead of the user's own
    #[arg(long)]
    system: bool,
    /// The name of the unit, where there are several homes
    #[arg(long, value_name = "NAME", default_value = "dromia", value_parser = parse_unit_name)]
    name: String,
}

/// How to install.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct InstallService {
    #[command(flatten)]
    unit: UnitOptions,
    /// Print the unit, and change nothing
    #[arg(long)]
    print: bool,
    /// Write the variables that dromia.yaml names from this shell to service.env in the home
    #[arg(long)]
    with_env: bool,
}

/// Which lines.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServiceLogs {
    #[command(flatten)]
    unit: UnitOptions,
    /// Continue with new lines until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// How many lines to begin with
    #[arg(long, value_name = "N", default_value_t = 100)]
    lines: u32,
}

/// What a command did.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ServiceChanged")]
pub(crate) struct ServiceChange {
    /// The unit.
    unit: String,
    /// What was done, in order.
    done: Vec<String>,
    /// What is left to do.
    next: Vec<String>,
}

impl ServiceChange {
    fn change_text(&self) -> String {
        let mut text = self.done.join("\n");
        for next in &self.next {
            text.extend(["\nnext: ", next]);
        }
        text
    }
}

fn parse_unit_name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(is_plain) && !text.starts_with('-') {
        Ok(text.to_owned())
    } else {
        Err("use up to 64 letters, digits, - and _".to_owned())
    }
}

/// Runs the command.
pub(crate) fn run(
    home: &Home,
    command: &ServiceCommand,
    global: &GlobalOptions,
    context: &mut CommandContext,
) -> anyhow::Result<ExitCode> {
    let mut output = CommandOutput::of_local(context, global);
    output.check_format()?;
    let (ServiceCommand::Install(InstallService { unit, .. })
    | ServiceCommand::Logs(ServiceLogs { unit, .. })
    | ServiceCommand::Uninstall(unit)
    | ServiceCommand::Start(unit)
    | ServiceCommand::Stop(unit)
    | ServiceCommand::Restart(unit)
    | ServiceCommand::Status(unit)) = command;
    let manager = ServiceManager::new(unit.system, &unit.name)?;
    let change = match command {
        ServiceCommand::Install(asked) if asked.print => {
            let unit = UnitFile::for_home(home, unit.system)?;
            output.print_line(unit.unit_text().trim_end())?;
            return Ok(ExitCode::SUCCESS);
        }
        ServiceCommand::Install(asked) => install(home, asked, &manager)?,
        ServiceCommand::Uninstall(_) => uninstall(&manager)?,
        ServiceCommand::Start(_) => control(&manager, "start")?,
        ServiceCommand::Stop(_) => control(&manager, "stop")?,
        ServiceCommand::Restart(_) => control(&manager, "restart")?,
        ServiceCommand::Status(_) => {
            let state = manager.unit_state()?;
            output.print_result(&state, UnitState::state_text)?;
            let exit = if state.is_active() { CommandExit::Done } else { CommandExit::Failed };
            return Ok(exit.into());
        }
        ServiceCommand::Logs(logs) => return manager.show_logs(logs.lines, logs.follow),
    };
    let text = output.add_global_flags(&change.change_text()).into_owned();
    output.print_result(&change, |_| text)?;
    Ok(ExitCode::SUCCESS)
}

fn install(home: &Home, asked: &InstallService, manager: &ServiceManager) -> anyhow::Result<ServiceChange> {
    let unit = UnitFile::for_home(home, asked.unit.system)?;
    manager.check_systemd()?;
    let path = manager.unit_path();
    refuse_foreign_unit(&path)?;
    let mut change = ServiceChange { unit: manager.unit_name(), done: Vec::new(), next: Vec::new() };
    name_variables(home, asked.with_env, &mut change)?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("failed to create {}", parent.display()))?;
    }
    system::replace_file(&path, &unit.unit_text(), 0o644)?;
    change.done.push(format!("wrote {}", path.display()));
    let name = manager.unit_name();
    for arguments in [&["daemon-reload"][..], &["enable", &name], &["restart", &name]] {
        change.done.push(manager.run_systemctl(arguments)?);
    }
    if let Some(command) = manager.linger_command() {
        change.next.push(format!("`{command}`, or the service ends when you log out"));
    }
    change.next.push(format!("dromia service status{}", manager.flags()));
    Ok(change)
}

/// Says which variables the service needs, and writes them where it reads them if that is wanted.
fn name_variables(home: &Home, with_env: bool, change: &mut ServiceChange) -> anyhow::Result<()> {
    let named = named_variables(&config::read_config_text(home)?);
    if named.is_empty() {
        return Ok(());
    }
    let path = unit::environment_path(home);
    let present = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("failed to read {}", path.display())),
    };
    let is_present = |name: &str| present.lines().any(|line| line.starts_with(&format!("{name}=")));
    let (mut text, mut missing) = (present.clone(), Vec::new());
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for name in named.iter().filter(|name| !is_present(name)) {
        match std::env::var(name) {
            Ok(value) if with_env && !value.contains('\n') => {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"");
                text.extend([name, "=\"", &value, "\"\n"]);
            }
            _ => missing.push(name.as_str()),
        }
    }
    if text.trim_end() != present.trim_end() {
        system::private_file(&path, &text)?;
        change.done.push(format!("wrote {}", path.display()));
    }
    if !missing.is_empty() {
        change.next.push(format!(
            "write {} to {} as NAME=value, one per line, then `dromia service restart`",
            missing.join(", "),
            path.display()
        ));
    }
    Ok(())
}

/// The variables that a configuration names as `env:NAME`, in the order of the file.
fn named_variables(text: &str) -> Vec<String> {
    let Ok(written) = serde_saphyr::from_str::<serde_json::Value>(text) else { return Vec::new() };
    let mut named: Vec<String> = Vec::new();
    doctor::visit_texts(&written, "", &mut |_, text| {
        if let Some(name) = text.strip_prefix("env:")
            && !named.iter().any(|known| known == name)
        {
            named.push(name.to_owned());
        }
    });
    named
}

fn uninstall(manager: &ServiceManager) -> anyhow::Result<ServiceChange> {
    let path = manager.unit_path();
    if !path.exists() {
        let text = format!("{} is not installed: there is no {}", manager.unit_name(), path.display());
        return Err(ExitError::failed_error(text));
    }
    refuse_foreign_unit(&path)?;
    let name = manager.unit_name();
    let mut done = vec![manager.run_systemctl(&["disable", "--now", &name])?];
    fs::remove_file(&path).with_context(|| format!("failed to remove {}", path.display()))?;
    done.push(format!("removed {}", path.display()));
    done.push(manager.run_systemctl(&["daemon-reload"])?);
    Ok(ServiceChange { unit: name, done, next: Vec::new() })
}

fn control(manager: &ServiceManager, verb: &str) -> anyhow::Result<ServiceChange> {
    let name = manager.unit_name();
    if !manager.unit_path().exists() {
        let text =
            format!("{name} is not installed; install it with `dromia service install{}`", manager.flags());
        return Err(ExitError::failed_error(text));
    }
    let done = vec![manager.run_systemctl(&[verb, &name])?];
    Ok(ServiceChange { unit: name, done, next: Vec::new() })
}

/// Refuses a unit of that name that something else wrote.
fn refuse_foreign_unit(path: &Path) -> anyhow::Result<()> {
    match fs::read_to_string(path) {
        Ok(text) if !text.starts_with(unit::FIRST_LINE) => Err(ExitError::conflict_error(format!(
            "another program wrote {}; choose another unit with --name, or remove that file",
            path.display()
        ))),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
    }
}

/// Tells systemd how the server is, where systemd started it. A failure is no reason to stop serving.
pub(crate) fn notify_manager(state: &str) {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let sent = || -> std::io::Result<()> {
        let address = match name.as_encoded_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(PathBuf::from(&name))?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
    };
    if let Err(error) = sent() {
        tracing::warn!(%error, "failed to notify the service manager");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_a_configuration_are_named_once() {
        let text = "providers:\n  a: { kind: openai, key: 'env:ONE' }\n  b: { kind: openai, key: 'env:TWO' }\n  c: { key: 'env:ONE' }\n";
        assert_eq!(named_variables(text), ["ONE", "TWO"]);
        assert_eq!(named_variables("version: 1\n"), Vec::<String>::new());
    }

    #[test]
    fn a_unit_name_leads_nowhere_else() {
        for good in ["dromia", "dromia-test", "a_1"] {
            assert_eq!(parse_unit_name(good).as_deref(), Ok(good));
        }
        for bad in ["", "../x", "a/b", "a b", "-a", "a.service", &"x".repeat(65)] {
            assert!(parse_unit_name(bad).is_err(), "{bad}");
        }
    }
}
