//! `dromia doctor`: looks at everything that keeps a home from working, and says how to mend it. It changes nothing.
//!
//! A check is a name and a function of a [`Scene`] to a [`Verdict`]. What lies outside the home's files it asks
//! through the [`World`], so each check meets its fault in a test. The groups below are in the order in which a
//! person would look: first the home, last what needs the others.

mod clock;
mod config;
mod disk;
mod edge;
mod home;
mod limits;
mod models;
mod named;
mod outbox;
mod policy;
mod runs;
mod sandbox;
mod server;
mod store;
mod tools;
mod vault;
mod world;

#[cfg(test)]
mod plant;

use std::cell::OnceCell;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use dromia_cli::output::counted;
use dromia_cli::{Context, Error, Global, Outcome, Output};
use dromia_store::{Inspector, StoreConfig};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::home::Home;

pub(crate) use self::config::texts;
pub(crate) use self::world::{RealWorld, Server, World};

/// How long one look at the store may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  dromia doctor\n  dromia doctor --only store --only disk.space\n  dromia doctor --json=id,severity,fix\n\nExits with 1 if a check finds an error; a warning does not change the exit code."
)]
pub(crate) struct DoctorArguments {
    /// Only this check, or this group of checks such as `store`; repeatable
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
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
pub(crate) struct Verdict {
    severity: Severity,
    message: String,
    fix: Option<String>,
}

fn ok(message: impl Into<String>) -> Verdict {
    Verdict { severity: Severity::Ok, message: message.into(), fix: None }
}

fn warning(message: impl Into<String>, fix: impl Into<String>) -> Verdict {
    Verdict { severity: Severity::Warning, message: message.into(), fix: Some(fix.into()) }
}

fn error(message: impl Into<String>, fix: impl Into<String>) -> Verdict {
    Verdict { severity: Severity::Error, message: message.into(), fix: Some(fix.into()) }
}

/// One check.
struct Check {
    /// Its group and its name.
    id: &'static str,
    run: fn(&Scene<'_>) -> Verdict,
}

/// What the checks look at.
pub(crate) struct Scene<'scene> {
    home: &'scene Home,
    env: &'scene dyn Fn(&str) -> Option<String>,
    world: &'scene dyn World,
    written: OnceCell<Option<Value>>,
}

impl<'scene> Scene<'scene> {
    pub(crate) fn new(
        home: &'scene Home,
        env: &'scene dyn Fn(&str) -> Option<String>,
        world: &'scene dyn World,
    ) -> Self {
        Self { home, env, world, written: OnceCell::new() }
    }

    /// The configuration as it is written, whatever its keys mean; nothing if it cannot be read at all.
    pub(crate) fn written(&self) -> Option<&Value> {
        let read = || {
            let text = std::fs::read_to_string(self.home.config()).ok()?;
            serde_saphyr::from_str::<Value>(&text).ok()
        };
        self.written.get_or_init(read).as_ref()
    }

    /// The server, if one runs.
    pub(crate) fn server(&self) -> &Server {
        self.world.server()
    }

    /// A look at the store; nothing while a server has it, which is asked instead, and where there is none.
    fn store(&self) -> Option<Inspector> {
        let is_ours = matches!(self.world.server(), Server::Absent) && self.home.store().is_dir();
        is_ours.then(|| self.inspector())
    }

    fn inspector(&self) -> Inspector {
        Inspector::new(StoreConfig::new(self.home.store()), PATIENCE)
    }
}

/// What one check found, for programs.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Finding {
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
pub(crate) struct Report {
    /// The findings, in the order of the checks.
    items: Vec<Finding>,
    /// How many are errors.
    errors: usize,
    /// How many are warnings.
    warnings: usize,
}

impl Report {
    /// Whether there is no error.
    pub(crate) fn is_sound(&self) -> bool {
        self.errors == 0
    }
}

fn checks() -> impl Iterator<Item = &'static Check> {
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
pub(crate) fn examine(scene: &Scene<'_>, only: &[String]) -> Outcome<Report> {
    let wanted = |id: &str, name: &String| id == name || id.split('.').next() == Some(name);
    if let Some(unknown) = only.iter().find(|name| !checks().any(|check| wanted(check.id, name))) {
        let ids: Vec<_> = checks().map(|check| check.id).collect();
        let meant = dromia_cli::explain::nearest(unknown, ids.iter().copied());
        let hint = meant.map_or_else(
            || format!("; there are {}", ids.join(", ")),
            |meant| format!("; did you mean `{meant}`?"),
        );
        return Err(Error::Usage(format!("there is no check {unknown:?}{hint}")));
    }
    let wanted = checks().filter(|check| only.is_empty() || only.iter().any(|name| wanted(check.id, name)));
    let items: Vec<_> = wanted
        .map(|check| {
            let Verdict { severity, message, fix } = (check.run)(scene);
            Finding { id: check.id, severity, message, fix }
        })
        .collect();
    let count = |severity| items.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    Ok(Report { items, errors, warnings })
}

/// Runs the command.
pub(crate) fn run(
    home: &Home,
    arguments: &DoctorArguments,
    global: &Global,
    context: &mut Context,
) -> anyhow::Result<ExitCode> {
    let world = RealWorld::new(home, global)?;
    let env = |name: &str| std::env::var(name).ok();
    let scene = Scene::new(home, &env, &world);
    let mut output = Output::of_local(context, global);
    match told(&scene, arguments, &mut output) {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::from(dromia_cli::Exit::Failed.code())),
        Err(problem) => {
            output.tell(&problem);
            Ok(ExitCode::from(problem.exit().code()))
        }
    }
}

/// Prints the report; returns whether there is no error in it.
fn told(scene: &Scene<'_>, arguments: &DoctorArguments, output: &mut Output<'_>) -> Outcome<bool> {
    output.check()?;
    let report = examine(scene, &arguments.only)?;
    if output.is_json() {
        output.document(&report)?;
    } else {
        let paint = |style, word: &str| output.paint(style, word);
        let text = output.placed(&text(&report, &paint)).into_owned();
        output.painted_lines(&text)?;
    }
    Ok(report.is_sound())
}

/// Writes a report for people: a line per check, and one more with what to do.
pub(crate) fn text(report: &Report, paint: &dyn Fn(Style, &str) -> String) -> String {
    let width = report.items.iter().map(|finding| finding.id.len()).max().unwrap_or_default();
    let mut out = String::new();
    for Finding { id, severity, message, fix } in &report.items {
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
    let Report { items, errors, warnings } = report;
    let [checks, warnings, errors] = [(items.len(), "check"), (*warnings, "warning"), (*errors, "error")]
        .map(|(count, noun)| counted(count, noun));
    out.extend([format!("{checks}, {warnings}, {errors}")]);
    out
}

#[cfg(test)]
mod tests {
    use super::plant::Planted;
    use super::*;

    #[test]
    fn there_are_at_least_twenty_checks_with_names_of_their_own() {
        let ids: std::collections::BTreeSet<_> = checks().map(|check| check.id).collect();
        assert_eq!(ids.len(), checks().count());
        assert!(ids.len() >= 20, "{ids:?}");
        assert!(ids.iter().all(|id| id.split('.').count() == 2), "{ids:?}");
    }

    #[test]
    fn a_sound_home_is_found_sound() {
        let planted = Planted::sound();
        let report = planted.report();
        let bad: Vec<_> = report.items.iter().filter(|finding| finding.severity != Severity::Ok).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }

    #[test]
    fn whatever_is_wrong_has_a_fix() {
        let report = Planted::ruined().report();
        assert!(report.errors >= 8, "{report:#?}");
        for finding in report.items {
            assert_eq!(finding.fix.is_some(), finding.severity != Severity::Ok, "{finding:?}");
            assert!(!finding.message.is_empty() && !finding.message.ends_with('.'), "{finding:?}");
        }
    }

    #[test]
    fn a_group_a_check_and_a_misspelt_one_can_be_named() {
        let planted = Planted::sound();
        let only = |name: &str| {
            let report = planted.examined(&[name.to_owned()]);
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
        let report = Report {
            items: vec![
                Finding { id: "home.exists", severity: Severity::Ok, message: "/x".into(), fix: None },
                Finding {
                    id: "disk.space",
                    severity: Severity::Error,
                    message: "12 MiB are free".into(),
                    fix: Some("make room".into()),
                },
            ],
            errors: 1,
            warnings: 0,
        };
        insta::assert_snapshot!(text(&report, &|_, word| word.to_owned()), @r"
        ok       home.exists  /x
        error    disk.space   12 MiB are free
                 fix: make room
        2 checks, 0 warnings, 1 error
        ");
    }
}
