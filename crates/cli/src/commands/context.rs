//! `context`: the servers on other machines that a user named. No server is asked, and no token is printed.

use std::io::Read as _;

use dromia_api::ListPage;
use schemars::JsonSchema;
use serde::Serialize;

use super::terminal_input;
use crate::args::{AddContext, ContextCommand, GlobalOptions};
use crate::contexts::{CONTEXTS_MAX, ContextBook, SavedContext};
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::{CommandOutput, draw_pairs};

/// The name that means the server of this machine.
const LOCAL: &str = "local";

/// The most bytes that are read of a token.
const TOKEN_BYTES_MAX: u64 = 4096;

/// A context without its token.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ContextRow {
    /// What the user calls it.
    name: String,
    /// Where the server is.
    server: String,
    /// The file of the authorities that are trusted instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    /// Whether commands mean it that name no server.
    in_use: bool,
}

impl ContextRow {
    fn new(name: &str, book: &ContextBook, saved: &SavedContext) -> Self {
        Self {
            name: name.to_owned(),
            server: saved.server.clone(),
            ca: saved.ca.as_ref().map(|ca| ca.display().to_string()),
            in_use: book.current.as_deref() == Some(name),
        }
    }
}

pub(super) async fn run(
    command: ContextCommand,
    global: &GlobalOptions,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let user_dir = output.context_mut().remote.user_dir.clone();
    let mut book = ContextBook::read(&user_dir)?;
    match command {
        ContextCommand::Add(new) => {
            let name = new.name.as_str().to_owned();
            let saved = new_context(&new, global, &book, output).await?;
            book.contexts.insert(name.clone(), saved);
            book.write(&user_dir)?;
            print_context(&name, &book, output)?;
            output.print_notice(&format!(
                "see who you are there with `dromia --context {name} whoami`; `dromia context use {name}` makes it the default"
            ))?;
        }
        ContextCommand::List => list_contexts(&book, output)?,
        ContextCommand::Use { name } if name == LOCAL => {
            if book.current.take().is_some() {
                book.write(&user_dir)?;
            }
            let server = "the server of this machine".to_owned();
            print_row(&ContextRow { name, server, ca: None, in_use: true }, output)?;
        }
        ContextCommand::Use { name } => {
            book.find(&name)?;
            book.current = Some(name.clone());
            book.write(&user_dir)?;
            print_context(&name, &book, output)?;
        }
        ContextCommand::Show { name } => {
            let name = name.or_else(|| book.current.clone()).ok_or_else(|| {
                Error::Usage("no context is in use; `dromia context list` shows all of them".to_owned())
            })?;
            book.find(&name)?;
            print_context(&name, &book, output)?;
        }
        ContextCommand::Remove { name } => {
            let saved = book.find(&name)?.clone();
            let row = ContextRow::new(&name, &book, &saved);
            book.contexts.remove(&name);
            book.current = book.current.filter(|current| *current != name);
            book.write(&user_dir)?;
            output.print_result(&row, |row| {
                format!("{} is forgotten; its token is still valid there", row.name)
            })?;
        }
    }
    Ok(CommandExit::Done)
}

/// Checks what is to be kept before a person is asked for the token.
async fn new_context(
    new: &AddContext,
    global: &GlobalOptions,
    book: &ContextBook,
    output: &mut CommandOutput<'_>,
) -> Outcome<SavedContext> {
    let name = new.name.as_str();
    let Some(server) = &global.server else {
        return Err(Error::Usage("name the server with --server https://HOST".to_owned()));
    };
    if name == LOCAL {
        return Err(Error::Usage(
            "the name local means the server of this machine; choose another one".to_owned(),
        ));
    }
    if book.contexts.contains_key(name) && !new.replace {
        return Err(Error::Usage(format!("there is a context {name}; replace it with --replace")));
    }
    if book.contexts.len() >= CONTEXTS_MAX && !book.contexts.contains_key(name) {
        return Err(Error::Usage(format!("there are {CONTEXTS_MAX} contexts already; remove one first")));
    }
    // A command may be run from another directory.
    let ca = global.ca.as_ref().map(std::fs::canonicalize).transpose();
    let ca = ca.map_err(Error::io_error("find the file of --ca"))?;
    let token = read_token(new.token_stdin, global, output).await?;
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::Usage(
            "this is no token: one has visible ASCII characters and no blanks".to_owned(),
        ));
    }
    Ok(SavedContext { server: server.to_string(), token, ca })
}

async fn read_token(
    from_stdin: bool,
    global: &GlobalOptions,
    output: &mut CommandOutput<'_>,
) -> Outcome<String> {
    if from_stdin {
        let mut text = String::new();
        let input = &mut output.context_mut().input;
        input.take(TOKEN_BYTES_MAX).read_to_string(&mut text).map_err(Error::io_error("read the token"))?;
        return Ok(text.trim().to_owned());
    }
    if global.no_input || !output.context_mut().input_is_terminal {
        let text = "there is no terminal to ask for the token: pipe it in with --token-stdin";
        return Err(Error::Usage(text.to_owned()));
    }
    Ok(terminal_input::read_hidden_line("the token", output).await?.trim().to_owned())
}

fn list_contexts(book: &ContextBook, output: &mut CommandOutput<'_>) -> Outcome {
    let rows: Vec<_> = book.contexts.iter().map(|(name, saved)| ContextRow::new(name, book, saved)).collect();
    if output.is_json() {
        return output.print_document(&ListPage { items: rows, next: None });
    }
    if rows.is_empty() {
        return output
            .print_notice("no contexts; add one with `dromia context add NAME --server URL --token-stdin`");
    }
    let row = |row: ContextRow| {
        let mark = if row.in_use { "yes" } else { "" };
        vec![row.name, row.server, mark.to_owned(), row.ca.unwrap_or_default()]
    };
    output.print_table(&["name", "server", "in use", "ca"], rows.into_iter().map(row).collect())
}

fn print_context(name: &str, book: &ContextBook, output: &mut CommandOutput<'_>) -> Outcome {
    print_row(&ContextRow::new(name, book, book.find(name)?), output)
}

fn print_row(row: &ContextRow, output: &mut CommandOutput<'_>) -> Outcome {
    output.print_result(row, |row| {
        draw_pairs(&[
            ("name", row.name.clone()),
            ("server", row.server.clone()),
            ("ca", row.ca.clone().unwrap_or_default()),
            ("in use", if row.in_use { "yes" } else { "no" }.to_owned()),
        ])
    })
}
