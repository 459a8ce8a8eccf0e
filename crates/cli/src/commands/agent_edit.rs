//! `agent edit NAME`: an agent as YAML in the person's editor, until it fits or the person gives up.
//!
//! The editor is handed in; this file neither starts programs nor writes files.

use dromia_api::agent::AgentResource;

use super::Cli;
use super::agent_change::{AgentChanged, agent_url, send_patch};
use super::agent_document::{AgentDocument, parse_documents};
use crate::args::AgentName;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::CommandOutput;

/// How often the editor is opened for one command.
const ROUNDS_MAX: u32 = 32;

const HEADER: &str = "# Change the agent below, then save and close the editor. A line that you delete takes its value away.\n\
                      # Leave the file as it is to change nothing. Lines that begin with # at the top are ignored.\n";

pub(super) async fn edit_agent(
    cli: &Cli<'_>,
    agent: &AgentName,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    if output.context_mut().editor.is_none() {
        return Err(Error::Usage(
            "there is no terminal for an editor; use `dromia agent set` or `dromia agent apply`".to_owned(),
        ));
    }
    let before: AgentResource = cli.client.get(&agent_url(&agent.name)).await?;
    let written = AgentDocument::of_agent(&before).to_yaml();
    let (mut shown, mut problem) = (written.clone(), None);
    for round in 0..ROUNDS_MAX {
        let text = open_editor(&with_header(&shown, problem.as_deref()), output)?;
        let body = without_header(&text);
        if body.trim().is_empty() || body == written {
            return finish(&before, before.clone(), output);
        }
        if problem.is_some() && body == shown {
            // Closed without a correction: the person gives up.
            return Err(Error::Usage(format!("{}; nothing was changed", problem.unwrap_or_default())));
        }
        shown = body;
        problem = match read_edit(&before, &shown) {
            Err(wrong) => Some(wrong),
            Ok(document) => {
                let key = format!("{}-{round}", output.context_mut().request_key);
                match send_patch(cli, &before, &document.patch, &key).await {
                    // The server says what does not fit; what was typed is not lost.
                    Err(Error::Problem(refused)) if refused.status == 400 => Some(refused.detail),
                    // Another change came first, so the text was made from what is no more; it is not lost.
                    Err(Error::Problem(refused)) if refused.status == 412 => {
                        let now: AgentResource = cli.client.get(&agent_url(&agent.name)).await?;
                        let now = AgentDocument::of_agent(&now).to_yaml();
                        output.print_notice(&format!(
                            "your text was not applied:\n\n{shown}\nthe agent as it is now:\n\n{now}"
                        ))?;
                        return Err(Error::Problem(refused));
                    }
                    after => return finish(&before, after?, output),
                }
            }
        };
    }
    Err(Error::Usage("the text never fitted; nothing was changed".to_owned()))
}

fn finish(
    before: &AgentResource,
    after: AgentResource,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    output.print_result(&AgentChanged::from_agents(before, after), AgentChanged::summary)?;
    Ok(CommandExit::Done)
}

fn open_editor(text: &str, output: &mut CommandOutput<'_>) -> Outcome<String> {
    let Some(editor) = &output.context_mut().editor else {
        return Err(Error::Usage("there is no editor".to_owned()));
    };
    editor(text).map_err(Error::io_error("edit the agent in your editor ($VISUAL or $EDITOR)"))
}

fn with_header(body: &str, problem: Option<&str>) -> String {
    let mut text = String::new();
    for line in problem.unwrap_or_default().lines() {
        text.extend(["# ERROR: ", line, "\n"]);
    }
    text + HEADER + body
}

/// Leaves out the comments at the top.
fn without_header(text: &str) -> String {
    let mut rest = text;
    while rest.starts_with('#') {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    rest.to_owned()
}

fn read_edit(before: &AgentResource, text: &str) -> Result<AgentDocument, String> {
    let mut documents = parse_documents(text)?;
    let document = documents.pop().filter(|_| documents.is_empty());
    let document = document.ok_or("the text must have one agent")?;
    match &document.name {
        Some(name) if *name != before.handle.as_str() => Err(format!(
            "name: {name:?} is another handle; rename the agent with `dromia agent rename {} {name}`",
            before.handle
        )),
        _ if document.patch.config.model.is_none() => Err("model: an agent needs a model".to_owned()),
        _ => Ok(document.into_whole(before)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_goes_and_comes_with_the_error() {
        let text = with_header("name: a\n# kept\n", Some("no\nway"));
        assert!(text.starts_with("# ERROR: no\n# ERROR: way\n"), "{text}");
        assert_eq!(without_header(&text), "name: a\n# kept\n");
        assert_eq!(without_header("# only"), "");
    }
}
