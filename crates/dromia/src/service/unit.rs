//! The text of a unit, from a home and this program.
//!
//! The hardening is what leaves the sandboxes whole: programs need user namespaces, a `/proc` without covers and control
//! groups, so the lines that take those (`RestrictNamespaces`, `ProtectKernelTunables`, `ProtectProc`, `PrivateUsers`)
//! are not there, and `Delegate` is.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config;
use crate::home::Home;
use crate::system::ExitError;

/// What a unit of ours begins with.
pub(super) const FIRST_LINE: &str = "# `dromia service install` writes this file.";
/// How much longer than the server's own time to drain systemd waits before it kills.
const STOP_MARGIN_S: u64 = 15;

/// What the unit says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitFile {
    program: PathBuf,
    home: PathBuf,
    /// Who runs a unit of the system.
    user: Option<String>,
    stop_seconds: u64,
}

/// The file with the variables of the service.
pub(super) fn environment_path(home: &Home) -> PathBuf {
    home.root_dir().join("service.env")
}

impl UnitFile {
    /// Takes what is known of a home. A unit of the system runs as the owner of the home.
    pub(super) fn for_home(home: &Home, is_system: bool) -> anyhow::Result<Self> {
        let Ok(root) = home.root_dir().canonicalize() else {
            let text =
                format!("there is no home at {}; create it with `dromia init`", home.root_dir().display());
            return Err(ExitError::failed_error(text));
        };
        let user = if is_system { Some(owner_of(&root)?) } else { None };
        let drain_ms = config::parse_config(&home.config_path(), &config::read_config_text(home)?)
            .map_err(ExitError::usage_of)?
            .limits
            .drain_ms;
        let program = std::env::current_exe()?;
        Ok(Self { program, home: root, user, stop_seconds: drain_ms.div_ceil(1000) + STOP_MARGIN_S })
    }

    /// Writes the unit.
    pub(super) fn unit_text(&self) -> String {
        let (home, program) = (escape_path(&self.home), escape_path(&self.program));
        let mut text =
            format!("{FIRST_LINE}\n[Unit]\nDescription=Dromia at {}\n", escape_percent(&self.home));
        if self.user.is_some() {
            text.push_str("Wants=network-online.target\nAfter=network-online.target\n");
        }
        text.push_str("StartLimitIntervalSec=300\nStartLimitBurst=5\n\n[Service]\nType=notify\n");
        if let Some(user) = &self.user {
            let _ = writeln!(text, "User={user}");
        }
        let variables = escape_percent(&self.home.join("service.env"));
        let (directory, stop_seconds) = (escape_percent(&self.home), self.stop_seconds);
        // A template from a file takes no variables by itself.
        let _ = write!(
            text,
            include_str!("unit.service"),
            program = program,
            home = home,
            variables = variables,
            directory = directory,
            stop_seconds = stop_seconds
        );
        if self.user.is_some() {
            text.push_str(
                "NoNewPrivileges=yes\nProtectSystem=full\nPrivateTmp=yes\nProtectClock=yes\nRestrictRealtime=yes\n",
            );
        }
        let target = if self.user.is_some() { "multi-user.target" } else { "default.target" };
        let _ = write!(text, "\n[Install]\nWantedBy={target}\n");
        text
    }
}

/// The user who owns the home, by name where the machine knows it.
fn owner_of(root: &Path) -> anyhow::Result<String> {
    let uid = fs::metadata(root)?.uid();
    if uid == 0 {
        return Err(ExitError::usage_error(format!(
            "root owns {0}, and a server must not run as root; give the home to a user of its own, such as \
             `useradd --system dromia && chown -R dromia: {0}`",
            root.display()
        )));
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    Ok(user_name(&users, uid).unwrap_or_else(|| uid.to_string()))
}

fn user_name(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number == uid.to_string()).then(|| name.to_owned())
    })
}

/// Writes a path as one word of a command: systemd expands specifiers and variables.
fn escape_path(path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('%', "%%").replace('$', "$$"))
}

fn escape_percent(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planted_unit(user: Option<&str>) -> UnitFile {
        UnitFile {
            program: "/usr/local/bin/dromia".into(),
            home: "/srv/my 50%/dromia".into(),
            user: user.map(str::to_owned),
            stop_seconds: 19,
        }
    }

    #[test]
    fn the_unit_of_a_user_is_this_text() {
        insta::assert_snapshot!(planted_unit(None).unit_text(), @r#"
        # `dromia service install` writes this file.
        [Unit]
        Description=Dromia at /srv/my 50%%/dromia
        StartLimitIntervalSec=300
        StartLimitBurst=5

        [Service]
        Type=notify
        ExecStart="/usr/local/bin/dromia" --home "/srv/my 50%%/dromia" up
        EnvironmentFile=-/srv/my 50%%/dromia/service.env
        WorkingDirectory=/srv/my 50%%/dromia
        Restart=on-failure
        RestartSec=2
        # A configuration that is not valid does not mend by itself.
        RestartPreventExitStatus=2
        TimeoutStartSec=300
        TimeoutStopSec=19
        KillMode=mixed
        # A program that runs out of memory in its sandbox does not end the server.
        OOMPolicy=continue
        LimitNOFILE=65536
        UMask=0077
        # Control groups of its own for programs; docs/sandbox.md says how to use them. Before version
        # 254, systemd warns that it does not know the second line.
        Delegate=yes
        DelegateSubgroup=server

        [Install]
        WantedBy=default.target
        "#);
    }

    #[test]
    fn a_unit_of_the_system_runs_as_an_ordinary_user() {
        let text = planted_unit(Some("dromia")).unit_text();
        for line in ["User=dromia", "NoNewPrivileges=yes", "ProtectSystem=full", "WantedBy=multi-user.target"]
        {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    /// What would take from the sandboxes what they need.
    fn breaks_sandboxes(unit: &str) -> bool {
        let taken =
            ["RestrictNamespaces", "ProtectKernelTunables", "ProtectProc", "ProcSubset", "PrivateUsers"];
        unit.lines().any(|line| taken.iter().any(|key| line.starts_with(key)))
            || !unit.lines().any(|line| line == "Delegate=yes")
    }

    #[test]
    fn no_hardening_line_breaks_the_sandboxes() {
        for user in [None, Some("dromia")] {
            assert!(!breaks_sandboxes(&planted_unit(user).unit_text()));
        }
    }

    #[test]
    fn a_unit_that_forbids_namespaces_is_caught() {
        let text = planted_unit(None).unit_text().replace("UMask=0077", "RestrictNamespaces=yes");
        assert!(breaks_sandboxes(&text));
        assert!(breaks_sandboxes(&planted_unit(None).unit_text().replace("Delegate=yes", "")));
    }

    #[test]
    fn an_owner_has_the_name_of_the_machine() {
        let users = "root:x:0:0::/root:/bin/sh\ndromia:x:998:998::/srv:/bin/false\n";
        assert_eq!(user_name(users, 998).as_deref(), Some("dromia"));
        assert_eq!(user_name(users, 7), None);
    }
}
