//! `dromia status --all`: one page that a person can paste to get help. Every text of it passes the redactor.

use std::process::ExitCode;

use dromia_api::status::NodeStatus;
use dromia_cli::{CommandContext, CommandOutput, GlobalOptions, Outcome};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::doctor::{self, CheckContext, DoctorReport, DoctorWorld, RealWorld, ServerProbe};
use crate::home::Home;
use crate::redact::{self, REDACTED, Redactor, is_secret_name};

/// The variables whose values are shown; of all others that matter only the names are.
const SHOWN: [&str; 12] = [
    "DROMIA_HOME",
    "DROMIA_LISTEN",
    "DROMIA_LOG",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TERM",
    "NO_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLUMNS",
    "SHELL",
];

/// The page, for programs.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StatusPage {
    /// This program.
    program: ProgramInfo,
    /// The variables that matter, by name.
    environment: Vec<EnvironmentVariable>,
    /// The configuration as it is written, without secrets; nothing if it cannot be read.
    configuration: Value,
    /// What the server says; nothing if none answers.
    server: Option<NodeStatus>,
    /// What `dromia doctor` found.
    doctor: DoctorReport,
}

/// This program and where it runs.
#[derive(Debug, Serialize, JsonSchema)]
struct ProgramInfo {
    version: String,
    system: String,
    home: String,
}

/// A variable of the environment.
#[derive(Debug, Serialize, JsonSchema)]
struct EnvironmentVariable {
    name: String,
    value: String,
}

/// Runs the command. It exits as `dromia doctor` does.
pub(crate) fn run(
    home: &Home,
    global: &GlobalOptions,
    context: &mut CommandContext,
) -> anyhow::Result<ExitCode> {
    let world = RealWorld::new(home, global)?;
    let mut variables = redact::process_variables();
    variables.sort();
    let mut output = CommandOutput::of_local(context, global);
    let told = print_page(home, &variables, &world, &mut output);
    Ok(match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(dromia_cli::CommandExit::Failed.exit_code()),
        Err(problem) => {
            output.print_error(&problem);
            ExitCode::from(problem.command_exit().exit_code())
        }
    })
}

/// Prints the page; returns whether the doctor found no error.
fn print_page(
    home: &Home,
    variables: &[(String, String)],
    world: &dyn DoctorWorld,
    output: &mut CommandOutput<'_>,
) -> Outcome<bool> {
    output.check_format()?;
    let env = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let scene = CheckContext::new(home, &env, world);
    let redactor = Redactor::from_home(home, variables, scene.raw_config());
    let (page, is_sound) = status_page(home, variables, &scene, &redactor)?;
    if output.is_json() {
        let document = serde_json::to_value(&page).map(|page| redactor.redact_document(&page));
        output.print_document(&document.unwrap_or_default())?;
    } else {
        output.print_line(&redactor.redact_text(&page_text(&page)))?;
    }
    Ok(is_sound)
}

fn status_page(
    home: &Home,
    variables: &[(String, String)],
    scene: &CheckContext<'_>,
    redactor: &Redactor,
) -> Outcome<(StatusPage, bool)> {
    let environment = variables
        .iter()
        .filter(|(name, _)| SHOWN.contains(&name.as_str()) || name.starts_with("DROMIA_") || is_model(name))
        .map(|(name, value)| {
            let is_shown = SHOWN.contains(&name.as_str()) && !is_secret_name(name);
            EnvironmentVariable {
                name: name.clone(),
                value: if is_shown { value.clone() } else { REDACTED.to_owned() },
            }
        })
        .collect();
    let doctor = doctor::run_checks(scene, &[])?;
    let is_sound = doctor.is_sound();
    let server = match scene.server_probe() {
        ServerProbe::Answers(answers) => Some(answers.status.clone()),
        ServerProbe::Absent | ServerProbe::Mute(_) => None,
    };
    let page = StatusPage {
        program: ProgramInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            home: home.root_dir().display().to_string(),
        },
        environment,
        configuration: scene
            .raw_config()
            .map(|written| redactor.redact_document(written))
            .unwrap_or_default(),
        server,
        doctor,
    };
    Ok((page, is_sound))
}

/// Whether a variable says something about a model's server.
fn is_model(name: &str) -> bool {
    ["OPENAI_", "ANTHROPIC_", "OLLAMA_"].iter().any(|vendor| name.starts_with(vendor))
}

fn page_text(page: &StatusPage) -> String {
    let ProgramInfo { version, system, home } = &page.program;
    let mut out = format!("dromia {version} on {system}\nhome {home}\n\n# environment\n");
    for EnvironmentVariable { name, value } in &page.environment {
        out.extend([format!("{name}={value}\n")]);
    }
    out.extend(["\n# configuration\n", &pretty_json(&page.configuration), "\n\n# server\n"]);
    match &page.server {
        Some(status) => out.push_str(&pretty_json(status)),
        None => out.push_str("no server answers"),
    }
    out.push_str("\n\n# doctor\n");
    out.push_str(&doctor::report_text(&page.doctor, &|_, word| word.to_owned()));
    out
}

/// Writes a document as JSON; ours have no part that cannot be.
fn pretty_json(document: &impl Serialize) -> String {
    serde_json::to_string_pretty(document).unwrap_or_default()
}
