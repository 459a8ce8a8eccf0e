//! `dromia doctor`: looks at everything that keeps a home from working, and says how to fix it. It changes nothing, except
//! with `--fix`, which rebuilds rows of the store first (`fix`).
//!
//! A check is a name and a function of a [`CheckContext`] to a [`Verdict`]. What lies outside the home's files it asks
//! through the [`DoctorWorld`], so each check meets its fault in a test. The groups below are in the order in which a
//! person would look: first the home, last what needs the others.

mod clock;
mod config;
mod disk;
mod edge;
mod environment;
mod fix;
mod home;
mod key_references;
mod limits;
mod models;
mod outbox;
mod policy;
mod runs;
mod sandbox;
mod server;
mod store;
mod tools;
mod vault;

#[cfg(test)]
mod test_home;

use std::cell::OnceCell;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use dromia_cli::output::count_noun;
use dromia_cli::{CommandContext, CommandOutput, Error, GlobalOptions, Outcome};
use dromia_store::{StoreConfig, StoreInspector};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use self::fix::FixReport;
use crate::home::Home;

pub(crate) use self::config::visit_texts;
pub(crate) use self::environment::{DoctorWorld, RealWorld, ServerProbe};

/// How long one look at the store may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits with 1 if a check finds an error; a warning does not change the exit code. Stop the server before --fix: while a server has the store open, --fix changes nothing and exits with 6.\n\nExamples:\n  dromia doctor\n  dromia doctor --only store --only disk.space\n  dromia doctor --json=id,severity,fix\n  dromia doctor --fix --only store"
)]
pub(crate) struct DoctorArguments {
    /// Run only this check, or this group of checks such as `store`; repeatable
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
    /// First rebuild the rows that journals and inboxes determine; no server may have the store open
    #[arg(long)]
    fix: bool,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Nothing is wrong, or there was nothing to look at.
    Ok,
    /// It works, but not as it should.
    Warning,
    /// Something does not work.
    Error,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckResult {
    severity: Severity,
    message: String,
    fix: Option<String>,
}

fn ok_result(message: impl Into<String>) -> CheckResult {
    CheckResult { severity: Severity::Ok, message: message.into(), fix: None }
}

fn warning_result(message: impl Into<String>, fix: impl Into<String>) -> CheckResult {
    CheckResult { severity: Severity::Warning, message: message.into(), fix: Some(fix.into()) }
}

fn error_result(message: impl Into<String>, fix: impl Into<String>) -> CheckResult {
    CheckResult { severity: Severity::Error, message: message.into(), fix: Some(fix.into()) }
}

/// One check.
struct DoctorCheck {
    /// Its group and its name.
    id: &'static str,
    run: fn(&CheckContext<'_>) -> CheckResult,
}

/// What the checks look at.
pub(crate) struct CheckContext<'scene> {
    home: &'scene Home,
    env: &'scene dyn Fn(&str) -> Option<String>,
    world: &'scene dyn DoctorWorld,
    written: OnceCell<Option<Value>>,
}

impl<'scene> CheckContext<'scene> {
    pub(crate) fn new(
        home: &'scene Home,
        env: &'scene dyn Fn(&str) -> Option<String>,
        world: &'scene dyn DoctorWorld,
    ) -> Self {
        Self { home, env, world, written: OnceCell::new() }
    }

    /// The configuration as it is written, whatever its keys mean; nothing if it cannot be read at all.
    pub(crate) fn raw_config(&self) -> Option<&Value> {
        let read = || {
            let text = std::fs::read_to_string(self.home.config_path()).ok()?;
            serde_saphyr::from_str::<Value>(&text).ok()
        };
        self.written.get_or_init(read).as_ref()
    }

    /// The server, if one runs.
    pub(crate) fn server_probe(&self) -> &ServerProbe {
        self.world.server_probe()
    }

    /// A look at the store; nothing while a server has it, which is asked instead, and where there is none.
    fn offline_inspector(&self) -> Option<StoreInspector> {
        let is_ours =
            matches!(self.world.server_probe(), ServerProbe::Absent) && self.home.store_dir().is_dir();
        is_ours.then(|| self.store_inspector())
    }

    fn store_inspector(&self) -> StoreInspector {
        StoreInspector::new(StoreConfig::new(self.home.store_dir()), PATIENCE)
    }
}

/// What one check found, for programs.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DoctorFinding {
    /// The check.
    id: &'static str,
    /// How bad it is.
    severity: Severity,
    /// What was found.
    message: String,
    /// What to do about it.
    fix: Option<String>,
}

/// What all checks found.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DoctorReport {
    /// The findings, in the order of the checks.
    items: Vec<DoctorFinding>,
    /// How many are errors.
    errors: usize,
    /// How many are warnings.
    warnings: usize,
    /// What `--fix` changed; empty without it.
    fixed: Vec<String>,
    /// What `--fix` had to leave as it is, each of which counts as an error for the exit code.
    left: Vec<String>,
}

impl DoctorReport {
    /// Whether there is no error, and `--fix` left nothing.
    pub(crate) fn is_sound(&self) -> bool {
        self.errors == 0 && self.left.is_empty()
    }
}

fn all_checks() -> impl Iterator<Item = &'static DoctorCheck> {
    let groups = [
        home::CHECKS,
        vault::CHECKS,
        config::CHECKS,
        policy::CHECKS,
        disk::CHECKS,
        store::CHECKS,
        limits::CHECKS,
        clock::CHECKS,
        server::CHECKS,
        edge::CHECKS,
        runs::CHECKS,
        outbox::CHECKS,
        models::CHECKS,
        tools::CHECKS,
        sandbox::CHECKS,
    ];
    groups.into_iter().flatten()
}

/// Examines a home with the checks that are wanted; all of them if none is named.
pub(crate) fn run_checks(scene: &CheckContext<'_>, only: &[String]) -> Outcome<DoctorReport> {
    let wanted = |id: &str, name: &String| id == name || id.split('.').next() == Some(name);
    if let Some(unknown) = only.iter().find(|name| !all_checks().any(|check| wanted(check.id, name))) {
        let ids: Vec<_> = all_checks().map(|check| check.id).collect();
        let meant = dromia_cli::nearest_word(unknown, ids.iter().copied());
        let hint = meant.map_or_else(
            || format!("; there are {}", ids.join(", ")),
            |meant| format!("; did you mean `{meant}`?"),
        );
        return Err(Error::Usage(format!("there is no check {unknown:?}{hint}")));
    }
    let wanted =
        all_checks().filter(|check| only.is_empty() || only.iter().any(|name| wanted(check.id, name)));
    let items: Vec<_> = wanted
        .map(|check| {
            let CheckResult { severity, message, fix } = (check.run)(scene);
            DoctorFinding { id: check.id, severity, message, fix }
        })
        .collect();
    let count = |severity| items.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    Ok(DoctorReport { items, errors, warnings, fixed: Vec::new(), left: Vec::new() })
}

/// Runs the command.
pub(crate) fn run(
    home: &Home,
    arguments: &DoctorArguments,
    global: &GlobalOptions,
    context: &mut CommandContext,
) -> anyhow::Result<ExitCode> {
    let world = RealWorld::new(home, global)?;
    let env = |name: &str| std::env::var(name).ok();
    let scene = CheckContext::new(home, &env, &world);
    let mut output = CommandOutput::of_local(context, global);
    match print_report(&scene, arguments, &mut output) {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::from(dromia_cli::CommandExit::Failed.exit_code())),
        Err(problem) => {
            output.print_error(&problem);
            Ok(ExitCode::from(problem.command_exit().exit_code()))
        }
    }
}

/// Prints the report; returns whether there is no error in it.
fn print_report(
    scene: &CheckContext<'_>,
    arguments: &DoctorArguments,
    output: &mut CommandOutput<'_>,
) -> Outcome<bool> {
    output.check_format()?;
    let FixReport { fixed, left } =
        if arguments.fix { fix::fix_store(scene.home)? } else { FixReport::default() };
    let report = DoctorReport { fixed, left, ..run_checks(scene, &arguments.only)? };
    if output.is_json() {
        output.print_document(&report)?;
    } else {
        let paint = |style, word: &str| output.paint(style, word);
        let text = output.add_global_flags(&report_text(&report, &paint)).into_owned();
        output.painted_lines(&text)?;
    }
    Ok(report.is_sound())
}

/// Writes a report for people: a line per check, and one more with what to do.
pub(crate) fn report_text(report: &DoctorReport, paint: &dyn Fn(Style, &str) -> String) -> String {
    let width = report.items.iter().map(|finding| finding.id.len()).max().unwrap_or_default();
    let mut out = String::new();
    for (word, lines) in [("fixed  ", &report.fixed), ("left   ", &report.left)] {
        out.extend(lines.iter().map(|line| format!("{word}  {}\n", line.replace(char::is_control, " "))));
    }
    for DoctorFinding { id, severity, message, fix } in &report.items {
        let (style, word) = match severity {
            Severity::Ok => (AnsiColor::Green.on_default(), "ok     "),
            Severity::Warning => (AnsiColor::Yellow.on_default(), "warning"),
            Severity::Error => (AnsiColor::Red.on_default().bold(), "error  "),
        };
        let message = message.replace(char::is_control, " ");
        out.extend([format!("{}  {id:<width$}  {message}\n", paint(style, word))]);
        if let Some(fix) = fix {
            out.extend([format!("         fix: {}\n", fix.replace(char::is_control, " "))]);
        }
    }
    let DoctorReport { items, errors, warnings, .. } = report;
    let [checks, warnings, errors] = [(items.len(), "check"), (*warnings, "warning"), (*errors, "error")]
        .map(|(count, noun)| count_noun(count, noun));
    out.extend([format!("{checks}, {warnings}, {errors}")]);
    out
}

#[cfg(test)]
mod tests {
    use super::test_home::PlantedHome;
    use super::*;

    #[test]
    fn the_doctor_has_at_least_twenty_uniquely_named_checks() {
        let ids: std::collections::BTreeSet<_> = all_checks().map(|check| check.id).collect();
        assert_eq!(ids.len(), all_checks().count());
        assert!(ids.len() >= 20, "{ids:?}");
        assert!(ids.iter().all(|id| id.split('.').count() == 2), "{ids:?}");
    }

    #[test]
    fn a_healthy_home_has_no_findings() {
        let planted = PlantedHome::healthy_home();
        let report = planted.full_report();
        let bad: Vec<_> = report.items.iter().filter(|finding| finding.severity != Severity::Ok).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }

    #[test]
    fn every_finding_that_is_not_ok_has_a_fix() {
        let report = PlantedHome::ruined_home().full_report();
        assert!(report.errors >= 8, "{report:#?}");
        for finding in report.items {
            assert_eq!(finding.fix.is_some(), finding.severity != Severity::Ok, "{finding:?}");
            assert!(!finding.message.is_empty() && !finding.message.ends_with('.'), "{finding:?}");
        }
    }

    #[test]
    fn a_run_takes_check_groups_and_suggests_misspelt_names() {
        let planted = PlantedHome::healthy_home();
        let only = |name: &str| {
            let report = planted.run_checks(&[name.to_owned()]);
            report.map(|report| report.items.iter().map(|finding| finding.id).collect::<Vec<_>>())
        };
        assert_eq!(only("disk.space").expect("is a check"), ["disk.space"]);
        assert!(only("disk").expect("is a group").contains(&"disk.inodes"));
        let refused = only("disk.spcae").expect_err("is misspelt").to_string();
        assert_eq!(refused, "there is no check \"disk.spcae\"; did you mean `disk.space`?");
        let refused = only("nonsense-of-mine").expect_err("is near to none").to_string();
        assert!(
            refused.contains("; there are home.exists, ") && refused.ends_with("sandbox.base"),
            "{refused}"
        );
    }

    #[test]
    fn a_report_is_read_in_lines() {
        let report = DoctorReport {
            items: vec![
                DoctorFinding { id: "home.exists", severity: Severity::Ok, message: "/x".into(), fix: None },
                DoctorFinding {
                    id: "disk.space",
                    severity: Severity::Error,
                    message: "12 MiB are free".into(),
                    fix: Some("make room".into()),
                },
            ],
            errors: 1,
            warnings: 0,
            fixed: Vec::new(),
            left: Vec::new(),
        };
        insta::assert_snapshot!(report_text(&report, &|_, word| word.to_owned()), @r"
        ok       home.exists  /x
        error    disk.space   12 MiB are free
                 fix: make room
        2 checks, 0 warnings, 1 error
        ");
    }
}
