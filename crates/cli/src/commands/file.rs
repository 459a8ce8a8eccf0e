//! `file`: list, take out and put in files of an agent's workspace.
//!
//! Paths are the server's to judge; nothing of this machine is read or written but the one file that is named.

use dromia_api::file::{FileResource, FileWritten};
use dromia_api::{AgentId, FileKind, ListPage};

use super::{Cli, listing_path, print_list, terminal_input};
use crate::args;
use crate::client::percent_encode;
use crate::download::save_response;
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::{CommandOutput, draw_table};

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::FileCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let files = format!("/v1/agents/{}/files", percent_encode(&cli.some_agent().await?));
    match command {
        args::FileCommand::List(wanted) => {
            let path = listing_path(&files, &wanted.page, &[("path", wanted.path)]);
            let list: ListPage<FileResource> = cli.client.get(&path).await?;
            print_list(output, &list, &["name", "bytes"], file_row)
        }
        args::FileCommand::Get(wanted) => {
            if let Some(file) = wanted.file.as_ref().filter(|file| !wanted.force && file.is_file()) {
                let question =
                    format!("{} exists. Overwrite it? (--force overwrites without asking)", file.display());
                cli.confirm(&question, output).await?;
            }
            let path = format!("{files}/{}", percent_encode(&wanted.path));
            if wanted.file.is_none() && output.context_mut().out_is_terminal {
                // An agent may have written it: nothing of it controls the terminal.
                let content = cli.client.get_bytes(&path).await?;
                let text = std::str::from_utf8(&content).map_err(|_| {
                    Error::Usage("the file is not text; name a file for it with --file".to_owned())
                })?;
                output.print_text(text)?;
                return Ok(CommandExit::Done);
            }
            let (_, saved) =
                save_response(&cli.client, &path, wanted.file.as_deref(), output, |_| ()).await?;
            saved.map_or(Ok(()), |saved| saved.finish_download(output))?;
            Ok(CommandExit::Done)
        }
        args::FileCommand::Put(put) => {
            let is_stdin = put.local.as_os_str() == "-";
            let named =
                put.local.file_name().filter(|_| !is_stdin).map(|name| name.to_string_lossy().into_owned());
            let remote = put.remote.or(named).ok_or_else(|| {
                Error::Usage("name the file's path in the workspace, such as notes/today.md".to_owned())
            })?;
            let content = if is_stdin {
                terminal_input::read_all_bytes("read stdin", output).await?
            } else {
                std::fs::read(&put.local).map_err(Error::io_error(format!("read {}", put.local.display())))?
            };
            let path = format!("{files}/{}", percent_encode(&remote));
            let written: FileWritten = cli.client.put_bytes(&path, content).await?;
            output.print_result(&written, |written| {
                format!("wrote {} ({} bytes)", written.path, written.bytes)
            })?;
            Ok(CommandExit::Done)
        }
    }
}

/// Lists a directory of the workspace of an agent, in a chat.
pub(super) async fn list_directory(
    cli: &Cli<'_>,
    agent: AgentId,
    directory: &str,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    let path = if directory.is_empty() { "." } else { directory };
    let path = format!("/v1/agents/{agent}/files?limit=256&path={}", percent_encode(path));
    let files: ListPage<FileResource> = cli.client.get(&path).await?;
    if files.items.is_empty() {
        return output.print_notice("there is no file yet");
    }
    let columns = output.context_mut().columns;
    let table = draw_table(columns, &["name", "bytes"], files.items.iter().map(file_row).collect());
    output.print_line(&table)?;
    match files.next {
        Some(_) => output.print_notice("there are more; `dromia file list` lists them all"),
        None => Ok(()),
    }
}

/// One name, with what it is where it is no file.
fn file_row(file: &FileResource) -> Vec<String> {
    match file.kind {
        FileKind::File => vec![file.name.clone(), file.bytes.to_string()],
        FileKind::Directory => vec![format!("{}/", file.name), String::new()],
        FileKind::Link => vec![file.name.clone(), "link".to_owned()],
        FileKind::Special => vec![file.name.clone(), "special".to_owned()],
    }
}
