//! `template` and `role`: what agents are made from, and how workers work.
//!
//! The server renders templates, so an agent is made from those of the server's program and not of this one.

use std::collections::BTreeMap;

use dromia_api::ListPage;
use dromia_api::agent::AgentResource;
use dromia_api::template::{
    RenderTemplate, RenderedTemplate, RoleResource, TemplateResource, VariableResource,
};

use super::agent_document::AgentDocument;
use super::{Cli, print_narrow};
use crate::args;
use crate::client::percent_encode;
use crate::error::Outcome;
use crate::exit::CommandExit;
use crate::output::{ColumnShrink, CommandOutput, draw_pairs, draw_table};

const HEADS: [&str; 3] = ["name", "summary", "variables"];
const WAYS: [ColumnShrink; 2] = [ColumnShrink::Without("variables"), ColumnShrink::Cut("summary", 24)];

const VARIABLE_HEADS: [&str; 3] = ["variable", "what it is", "default"];

const ROLE_HEADS: [&str; 3] = ["name", "source", "summary"];
const ROLE_WAYS: [ColumnShrink; 2] = [ColumnShrink::Cut("summary", 24), ColumnShrink::Without("source")];

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::TemplateCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::TemplateCommand::List => {
            let list: ListPage<TemplateResource> = cli.client.get("/v1/templates").await?;
            print_narrow(output, &list, &HEADS, &WAYS, |template| {
                let names: Vec<_> =
                    template.variables.iter().map(|variable| variable.name.as_str()).collect();
                vec![template.name.clone(), template.summary.clone(), names.join(", ")]
            })
        }
        args::TemplateCommand::Show(shown) if shown.yaml => print_yaml(cli, shown, output).await,
        args::TemplateCommand::Show(shown) => {
            let template: TemplateResource = cli.client.get(&template_path(&shown.name, "")).await?;
            let columns = output.context_mut().columns;
            output.print_result(&template, |template| template_text(template, columns))?;
            Ok(CommandExit::Done)
        }
    }
}

/// Has the server make a configuration out of a template.
pub(super) async fn render_template(
    cli: &Cli<'_>,
    name: &str,
    variables: Vec<(String, String)>,
    model: Option<String>,
) -> Outcome<RenderedTemplate> {
    let wanted = RenderTemplate { variables: variables.into_iter().collect::<BTreeMap<_, _>>(), model };
    cli.client.post_json(&template_path(name, "/render"), &wanted).await
}

/// Says what to do with an agent that was made from a template.
pub(super) async fn suggest_first_question(
    cli: &Cli<'_>,
    name: &str,
    agent: &AgentResource,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    if output.is_json() {
        return Ok(());
    }
    let template: TemplateResource = cli.client.get(&template_path(name, "")).await?;
    let handle = agent.handle.as_str();
    output.print_notice(&format!("try: dromia ask --agent {handle} \"{}\"", template.sample))?;
    output.print_notice(&format!("watch it work: {}", template.watch.replace("NAME", handle)))
}

async fn print_yaml(
    cli: &Cli<'_>,
    shown: args::ShowTemplate,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let rendered = render_template(cli, &shown.name, shown.variables, None).await?;
    let mut document = AgentDocument::of_config(&rendered.config);
    document.name = Some(shown.name);
    document.patch.labels = rendered.labels.into_iter().map(|(name, value)| (name, Some(value))).collect();
    output.print_text(&document.to_yaml())?;
    Ok(CommandExit::Done)
}

pub(super) async fn run_role(
    cli: &Cli<'_>,
    command: args::RoleCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let agent = cli.selected_agent().map(|agent| format!("?agent={}", percent_encode(&agent)));
    let agent = agent.unwrap_or_default();
    match command {
        args::RoleCommand::List => {
            let list: ListPage<RoleResource> = cli.client.get(&format!("/v1/worker-roles{agent}")).await?;
            print_narrow(output, &list, &ROLE_HEADS, &ROLE_WAYS, |role| {
                let summary = role.summary.clone().unwrap_or_default();
                vec![role.name.clone(), role.source.as_str().to_owned(), summary]
            })
        }
        args::RoleCommand::Show(role) => {
            let role: RoleResource =
                cli.client.get(&format!("/v1/worker-roles/{}{agent}", role.name)).await?;
            output.print_result(&role, |role| role.text.clone().unwrap_or_default().trim_end().to_owned())?;
            Ok(CommandExit::Done)
        }
    }
}

fn template_path(name: &str, verb: &str) -> String {
    format!("/v1/templates/{}{verb}", percent_encode(name))
}

fn template_text(template: &TemplateResource, columns: Option<u16>) -> String {
    let pairs = draw_pairs(&[
        ("name", template.name.clone()),
        ("summary", template.summary.clone()),
        ("grants", template.grants.join(" ")),
        ("mind", template.mind.to_string()),
        ("try", template.sample.clone()),
        ("watch", template.watch.clone()),
    ]);
    let row = |variable: &VariableResource| {
        let VariableResource { name, about, default } = variable;
        vec![name.clone(), about.clone(), default.clone()]
    };
    let variables = draw_table(columns, &VARIABLE_HEADS, template.variables.iter().map(row).collect());
    let instructions = template.instructions.as_deref().unwrap_or_default().trim_end();
    format!("{pairs}\n\n{variables}\n\n{instructions}")
}
