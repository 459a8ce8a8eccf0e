//! `agent identity`: the documents of an agent.
//!
//! A change is sent with the revision that was seen, so that it never undoes another one unseen. The editor is handed in.

use std::path::Path;

use dromia_api::agent::{AgentResource, RevisionResource};
use dromia_api::identity::{DocumentResource, WriteDocument};
use dromia_api::{AgentField, DocumentName, ErrorCode, ListPage};
use hyper::Method;
use schemars::JsonSchema;
use serde::Serialize;

use super::agent_change::{AgentChanged, agent_url, print_revisions};
use super::agent_document::line_diff;
use super::{Cli, listing_path, print_list, terminal_input};
use crate::args::{self, AgentIdentityCommand, DocumentReference};
use crate::client::percent_encode;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::CommandOutput;

/// The longest file of a document, in bytes; the server takes no longer text.
const FILE_BYTES_MAX: u64 = 64 * 1024;

pub(super) async fn run(
    cli: &Cli<'_>,
    command: AgentIdentityCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        AgentIdentityCommand::List(list) => list_documents(cli, &list, output).await,
        AgentIdentityCommand::Show(show) => show_document(cli, &show, output).await,
        AgentIdentityCommand::Edit(edit) => edit_document(cli, &edit, output).await,
        AgentIdentityCommand::Remove(document) => remove_document(cli, &document, output).await,
        AgentIdentityCommand::Diff(diff) => show_diff(cli, &diff, output).await,
        AgentIdentityCommand::History(history) => list_history(cli, &history, output).await,
    }
}

fn document_url(agent: &str, document: &DocumentName, revision: Option<u64>) -> String {
    let revision = revision.map(|revision| format!("?revision={revision}")).unwrap_or_default();
    format!("{}/identity/{}{revision}", agent_url(agent), percent_encode(&document.to_string()))
}

async fn list_documents(
    cli: &Cli<'_>,
    show: &args::ListDocuments,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let revision = show.revision.map(|revision| format!("?revision={revision}")).unwrap_or_default();
    let path = format!("{}/identity{revision}", agent_url(&show.name));
    let list: ListPage<DocumentResource> = cli.client.get(&path).await?;
    if !output.is_json() && list.items.is_empty() {
        output.print_notice(&format!(
            "{0} has no documents, so its instructions alone count; write one with `dromia agent identity edit {0} SOUL.md`",
            show.name
        ))?;
        return Ok(CommandExit::Done);
    }
    print_list(output, &list, &["document", "bytes", "digest"], |document| {
        let digest = document.digest.to_string();
        vec![document.name.to_string(), document.bytes.to_string(), digest.chars().take(16).collect()]
    })
}

async fn show_document(
    cli: &Cli<'_>,
    show: &args::ShowDocument,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let DocumentReference { name, document } = &show.document;
    let found: DocumentResource = cli.client.get(&document_url(name, document, show.revision)).await?;
    output.print_result(&found, |found| found.text.clone().unwrap_or_default().trim_end().to_owned())?;
    Ok(CommandExit::Done)
}

/// Reads what a document says in a revision; nothing where the agent does not have it then.
async fn read_text(
    cli: &Cli<'_>,
    agent: &str,
    document: &DocumentName,
    revision: Option<u64>,
) -> Outcome<Option<String>> {
    match cli.client.get::<DocumentResource>(&document_url(agent, document, revision)).await {
        Ok(found) => Ok(found.text),
        Err(Error::Problem(problem)) if problem.error_code() == Some(ErrorCode::DocumentNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn edit_document(
    cli: &Cli<'_>,
    edit: &args::EditDocument,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let DocumentReference { name, document } = &edit.document;
    let before: AgentResource = cli.client.get(&agent_url(name)).await?;
    let text = if let Some(file) = &edit.file {
        read_file(file, output).await?
    } else {
        let known = read_text(cli, name, document, None).await?;
        let known = known.or_else(|| {
            // What counts until the document is there.
            let config = before.config.as_ref().filter(|_| *document == DocumentName::Soul);
            config.map(|config| config.instructions.clone())
        });
        open_editor(&known.unwrap_or_default(), output)?
    };
    if text.trim().is_empty() {
        let (name, document) = (&edit.document.name, document);
        return Err(Error::Usage(format!(
            "the text is empty; nothing was changed. Remove the document with `dromia agent identity remove {name} \
             {document}`"
        )));
    }
    let path = document_url(&before.id.to_string(), document, None);
    let key = output.context_mut().request_key.clone();
    let kept = text.clone();
    let sent = cli
        .client
        .change_json(Method::PUT, &path, &WriteDocument { text }, &key, Some(before.revision))
        .await;
    if let (Err(Error::Problem(_)), None) = (&sent, &edit.file) {
        // What was typed is not lost.
        output.print_notice(&format!("your text was not written:\n\n{kept}"))?;
    }
    print_change(&before, sent?, document, output)
}

async fn remove_document(
    cli: &Cli<'_>,
    DocumentReference { name, document }: &DocumentReference,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let before: AgentResource = cli.client.get(&agent_url(name)).await?;
    let path = document_url(&before.id.to_string(), document, None);
    let after: AgentResource = cli.client.delete(&path).await?;
    print_change(&before, after, document, output)
}

fn print_change(
    before: &AgentResource,
    after: AgentResource,
    document: &DocumentName,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    output.print_result(&AgentChanged::from_agents(before, after), |changed| {
        let AgentResource { handle, revision, .. } = &changed.agent;
        if changed.changed {
            format!("{handle} is at revision {revision}: changed {document}; runs that begin now have it")
        } else {
            format!("no change; {handle} is at revision {revision}")
        }
    })?;
    Ok(CommandExit::Done)
}

async fn read_file(file: &Path, output: &mut CommandOutput<'_>) -> Outcome<String> {
    let shown = file.display();
    if file.as_os_str() == "-" {
        return terminal_input::read_all_text("read stdin", output).await;
    }
    let failed = || format!("read the document in {shown}");
    let size = std::fs::metadata(file).map_err(Error::io_error(failed()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(Error::Usage(format!(
            "{shown} has {size} bytes; a document has at most {FILE_BYTES_MAX}"
        )));
    }
    let bytes = std::fs::read(file).map_err(Error::io_error(failed()))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::Usage(format!("{shown} is not UTF-8 text (byte {at}); nothing was changed"))
    })
}

fn open_editor(text: &str, output: &mut CommandOutput<'_>) -> Outcome<String> {
    let Some(editor) = &output.context_mut().editor else {
        return Err(Error::Usage(
            "there is no terminal for an editor; name a file with `--file`, or `--file -` for stdin"
                .to_owned(),
        ));
    };
    editor(text).map_err(Error::io_error("edit the document in your editor ($VISUAL or $EDITOR)"))
}

/// A document in two revisions of an agent.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DocumentDiff {
    /// The document.
    #[schemars(with = "String")]
    document: DocumentName,
    /// The number of the revision that is compared.
    from: u64,
    /// The number of the one that it is compared with.
    to: u64,
    /// The lines, each after `-`, `+` or a space; none where the texts are equal.
    lines: Vec<String>,
}

async fn show_diff(
    cli: &Cli<'_>,
    diff: &args::DiffDocument,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let DocumentReference { name, document } = &diff.document;
    let agent: AgentResource = cli.client.get(&agent_url(name)).await?;
    let to = diff.to.unwrap_or(agent.revision);
    let from = diff.from.unwrap_or_else(|| to.saturating_sub(1).max(1));
    let (old, new) =
        (read_text(cli, name, document, Some(from)).await?, read_text(cli, name, document, Some(to)).await?);
    if (&old, &new) == (&None, &None) {
        return Err(Error::Usage(format!(
            "{name} has {document} in neither revision {from} nor revision {to}"
        )));
    }
    let lines = line_diff(&old.unwrap_or_default(), &new.unwrap_or_default());
    output.print_result(&DocumentDiff { document: document.clone(), from, to, lines }, |diff| {
        let DocumentDiff { document, from, to, lines } = diff;
        if lines.is_empty() {
            return format!("{document} is the same in the revisions {from} and {to}");
        }
        format!("--- {document}, revision {from}\n+++ {document}, revision {to}\n{}", lines.join("\n"))
    })?;
    Ok(CommandExit::Done)
}

async fn list_history(
    cli: &Cli<'_>,
    history: &args::AgentHistory,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let path = format!("{}/revisions", agent_url(&history.name));
    let mut list: ListPage<RevisionResource> =
        cli.client.get(&listing_path(&path, &history.page, &[])).await?;
    list.items.retain(|revision| revision.changed.contains(&AgentField::Identity));
    print_revisions(output, &list)
}
