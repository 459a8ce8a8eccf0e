//! `dromia status --all`: one page that a person can paste where somebody helps. Every text of it passes the redactor.

use std::process::ExitCode;

use dromia_api::status::Status;
use dromia_cli::{Context, Global, Outcome, Output};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::doctor::{self, RealWorld, Report, Scene, Server, World};
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
pub(crate) struct Page {
    /// This program.
    program: Program,
    /// The variables that matter, by name.
    environment: Vec<Variable>,
    /// The configuration as it is written, without secrets; nothing if it cannot be read.
    configuration: Value,
    /// What the server says; nothing if none answers.
    server: Option<Status>,
    /// What `dromia doctor` found.
    doctor: Report,
}

/// This program and where it runs.
#[derive(Debug, Serialize, JsonSchema)]
struct Program {
    version: String,
    system: String,
    home: String,
}

/// A variable of the environment.
#[derive(Debug, Serialize, JsonSchema)]
struct Variable {
    name: String,
    value: String,
}

/// Runs the command. It exits as `dromia doctor` does.
pub(crate) fn run(home: &Home, global: &Global, context: &mut Context) -> anyhow::Result<ExitCode> {
    let world = RealWorld::new(home, global)?;
    let mut variables = redact::variables();
    variables.sort();
    let mut output = Output::of_local(context, global);
    let told = told(home, &variables, &world, &mut output);
    Ok(match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(dromia_cli::Exit::Failed.code()),
        Err(problem) => {
            output.tell(&problem);
            ExitCode::from(problem.exit().code())
        }
    })
}

/// Prints the page; returns whether the doctor found no error.
fn told(
    home: &Home,
    variables: &[(String, String)],
    world: &dyn World,
    output: &mut Output<'_>,
) -> Outcome<bool> {
    output.check()?;
    let env = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let scene = Scene::new(home, &env, world);
    let redactor = Redactor::of(home, variables, scene.written());
    let (page, is_sound) = page(home, variables, &scene, &redactor)?;
    if output.is_json() {
        let document = serde_json::to_value(&page).map(|page| redactor.document(&page));
        output.document(&document.unwrap_or_default())?;
    } else {
        output.line(&redactor.text(&text(&page)))?;
    }
    Ok(is_sound)
}

fn page(
    home: &Home,
    variables: &[(String, String)],
    scene: &Scene<'_>,
    redactor: &Redactor,
) -> Outcome<(Page, bool)> {
    let environment = variables
        .iter()
        .filter(|(name, _)| SHOWN.contains(&name.as_str()) || name.starts_with("DROMIA_") || is_model(name))
        .map(|(name, value)| {
            let is_shown = SHOWN.contains(&name.as_str()) && !is_secret_name(name);
            Variable { name: name.clone(), value: if is_shown { value.clone() } else { REDACTED.to_owned() } }
        })
        .collect();
    let doctor = doctor::examine(scene, &[])?;
    let is_sound = doctor.is_sound();
    let server = match scene.server() {
        Server::Answers(answers) => Some(answers.status.clone()),
        Server::Absent | Server::Mute(_) => None,
    };
    let page = Page {
        program: Program {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            home: home.root().display().to_string(),
        },
        environment,
        configuration: scene.written().map(|written| redactor.document(written)).unwrap_or_default(),
        server,
        doctor,
    };
    Ok((page, is_sound))
}

/// Whether a variable says something about a model's server.
fn is_model(name: &str) -> bool {
    ["OPENAI_", "ANTHROPIC_", "OLLAMA_"].iter().any(|vendor| name.starts_with(vendor))
}

fn text(page: &Page) -> String {
    let Program { version, system, home } = &page.program;
    let mut out = format!("dromia {version} on {system}\nhome {home}\n\n# environment\n");
    for Variable { name, value } in &page.environment {
        out.extend([format!("{name}={value}\n")]);
    }
    out.extend(["\n# configuration\n", &pretty(&page.configuration), "\n\n# server\n"]);
    match &page.server {
        Some(status) => out.push_str(&pretty(status)),
        None => out.push_str("no server answers"),
    }
    out.push_str("\n\n# doctor\n");
    out.push_str(&doctor::text(&page.doctor, &|_, word| word.to_owned()));
    out
}

/// Writes a document as JSON; ours have no part that cannot be.
fn pretty(document: &impl Serialize) -> String {
    serde_json::to_string_pretty(document).unwrap_or_default()
}
