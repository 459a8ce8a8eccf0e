//! What is asked of systemd: `systemctl` and `journalctl`, as they are found on the path.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use dromia_cli::CommandExit;
use dromia_cli::output::draw_pairs;
use schemars::JsonSchema;
use serde::Serialize;

use crate::system::ExitError;

/// What is asked of a unit.
const PROPERTIES: &str =
    "LoadState,ActiveState,SubState,UnitFileState,MainPID,NRestarts,ExecMainStatus,ActiveEnterTimestamp";
/// The most of an error of systemd that is shown.
const ERROR_BYTES_MAX: usize = 2_000;

/// The manager of a unit: the user's or the machine's.
#[derive(Debug)]
pub(super) struct ServiceManager {
    is_system: bool,
    name: String,
    directory: PathBuf,
}

/// What systemd says of a unit.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ServiceStatus")]
pub(crate) struct UnitState {
    /// The unit.
    unit: String,
    /// Whether it runs: `active`, `activating`, `inactive`, `failed` and others.
    active: String,
    /// The same in more detail.
    detail: String,
    /// Whether it starts with the machine or the user's session: `enabled` or `disabled`.
    enabled: String,
    /// The process of the server; nothing if there is none.
    pid: Option<u32>,
    /// How often systemd started it again since it was started.
    restarts: u64,
    /// How the last process ended.
    exit_status: i32,
    /// Since when it runs, as systemd writes it.
    since: Option<String>,
}

impl UnitState {
    /// Whether the server runs and is ready.
    pub(super) fn is_active(&self) -> bool {
        self.active == "active"
    }

    /// The state for a person.
    pub(super) fn state_text(&self) -> String {
        let ended =
            if self.is_active() { String::new() } else { format!("last exit status {}", self.exit_status) };
        draw_pairs(&[
            ("service", self.unit.clone()),
            ("state", format!("{} ({})", self.active, self.detail)),
            ("since", self.since.clone().unwrap_or_default()),
            ("process", self.pid.map(|pid| pid.to_string()).unwrap_or_default()),
            ("restarts", self.restarts.to_string()),
            ("at boot", self.enabled.clone()),
            ("ended", ended),
        ])
    }
}

impl ServiceManager {
    /// Names a unit.
    pub(super) fn new(is_system: bool, name: &str) -> anyhow::Result<Self> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let directory = if is_system {
            PathBuf::from("/etc/systemd/system")
        } else {
            let configuration = variable("XDG_CONFIG_HOME").map(PathBuf::from);
            let configuration =
                configuration.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".config")));
            configuration
                .ok_or_else(|| {
                    ExitError::usage_error("HOME is not set, so there is no place for a user's unit")
                })?
                .join("systemd/user")
        };
        Ok(Self { is_system, name: name.to_owned(), directory })
    }

    pub(super) fn unit_name(&self) -> String {
        format!("{}.service", self.name)
    }

    pub(super) fn unit_path(&self) -> PathBuf {
        self.directory.join(self.unit_name())
    }

    /// The options that name the same unit in another command.
    pub(super) fn flags(&self) -> String {
        let system = if self.is_system { " --system" } else { "" };
        let name = if self.name == "dromia" { String::new() } else { format!(" --name {}", self.name) };
        format!("{system}{name}")
    }

    /// Refuses to go on where there is no systemd, or no right to write its units.
    pub(super) fn check_systemd(&self) -> anyhow::Result<()> {
        if self.is_system && !rustix::process::geteuid().is_root() {
            return Err(ExitError::usage_error(
                "--system writes to /etc/systemd/system, which needs root; run it with sudo, or leave out --system",
            ));
        }
        // Before the unit is written: a manager that is out of reach must leave nothing behind.
        self.ask_systemctl(&["show", "--property=Version"]).map(drop)
    }

    /// Runs systemctl, and says what was run.
    pub(super) fn run_systemctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.ask_systemctl(arguments)?;
        let scope = if self.is_system { "" } else { "--user " };
        Ok(format!("ran systemctl {scope}{}", arguments.join(" ")))
    }

    fn ask_systemctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        // Which properties we asked for is no help to a person.
        let shown: Vec<_> =
            arguments.iter().copied().filter(|word| !word.starts_with("--property")).collect();
        let output =
            self.command("systemctl").args(arguments).output().map_err(|error| no_systemd(&error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let mut told = String::from_utf8_lossy(&output.stderr).trim().replace(char::is_control, " ");
        if let Some((at, _)) = told.char_indices().find(|(at, _)| *at > ERROR_BYTES_MAX) {
            told.truncate(at);
        }
        let hint = if told.contains("connect to bus") || told.contains("not been booted with systemd") {
            "; log in as that user (not with su), use --system, or run `dromia up` under another supervisor with \
             the unit that --print shows"
                .to_owned()
        } else {
            format!("; see `dromia service logs{}`", self.flags())
        };
        Err(ExitError::failed_error(format!("systemctl {} failed: {told}{hint}", shown.join(" "))))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if !self.is_system {
            command.arg("--user");
        }
        command
    }

    /// Asks what became of the unit.
    pub(super) fn unit_state(&self) -> anyhow::Result<UnitState> {
        let text = self.ask_systemctl(&["show", &self.unit_name(), &format!("--property={PROPERTIES}")])?;
        let value = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or_default().to_owned()
        };
        if value("LoadState") == "not-found" {
            return Err(ExitError::failed_error(format!(
                "{} is not installed; install it with `dromia service install{}`",
                self.unit_name(),
                self.flags()
            )));
        }
        Ok(UnitState {
            unit: self.unit_name(),
            active: value("ActiveState"),
            detail: value("SubState"),
            enabled: value("UnitFileState"),
            pid: value("MainPID").parse().ok().filter(|pid| *pid > 0),
            restarts: value("NRestarts").parse().unwrap_or_default(),
            exit_status: value("ExecMainStatus").parse().unwrap_or_default(),
            since: Some(value("ActiveEnterTimestamp")).filter(|since| !since.is_empty()),
        })
    }

    /// Shows the log of the unit on the streams of this process.
    pub(super) fn show_logs(&self, lines: u32, follow: bool) -> anyhow::Result<ExitCode> {
        let mut arguments: Vec<OsString> =
            vec!["--unit".into(), self.unit_name().into(), "--lines".into(), lines.to_string().into()];
        arguments.extend(follow.then(|| "--follow".into()));
        arguments.extend((!follow).then(|| "--no-pager".into()));
        let status =
            self.command("journalctl").args(arguments).status().map_err(|error| no_systemd(&error))?;
        let exit = match status.code() {
            Some(0) => CommandExit::Done,
            // Ctrl-C is how a person leaves what is followed.
            None if follow => CommandExit::Interrupted,
            _ => CommandExit::Failed,
        };
        Ok(exit.into())
    }

    /// The command that keeps a user's services running without a session, where that is not so already.
    pub(super) fn linger_command(&self) -> Option<String> {
        let user = std::env::var("USER").ok().filter(|user| !user.is_empty() && !user.contains('/'))?;
        let lingers = Path::new("/var/lib/systemd/linger").join(&user).exists();
        (!self.is_system && !lingers).then(|| format!("loginctl enable-linger {user}"))
    }
}

fn no_systemd(error: &std::io::Error) -> anyhow::Error {
    let what = if error.kind() == ErrorKind::NotFound {
        "this machine has no systemd".to_owned()
    } else {
        error.to_string()
    };
    ExitError::failed_error(format!(
        "{what}; run `dromia up` under the supervisor that it has, and see `dromia service install --print` for what \
         that should do"
    ))
}
