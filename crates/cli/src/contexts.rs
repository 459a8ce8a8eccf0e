//! The servers that a user named, and which server a command means.
//!
//! They are in `contexts.json` in the user's own directory, which only the user may read, because it holds tokens; no text that
//! is printed holds one. What is named on the command line goes before the environment, the environment before the context in
//! use, and that before the socket of the home. A token goes only to the server that it was given with.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::args::GlobalOptions;
use crate::context::{CommandContext, RemoteHints};
use crate::error::{Error, Outcome};
use crate::remote::{RemoteServer, ServerUrl};
use crate::settings::write_private;

/// The most contexts of a user.
pub(crate) const CONTEXTS_MAX: usize = 256;

/// All contexts of this user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContextBook {
    /// The one in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// Each by its name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, SavedContext>,
}

/// A server and the token for it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedContext {
    /// Where the server is.
    pub(crate) server: String,
    /// Who asks there.
    pub(crate) token: String,
    /// The file of the authorities that are trusted instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
}

impl fmt::Debug for SavedContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SavedContext")
            .field("server", &self.server)
            .field("ca", &self.ca)
            .finish_non_exhaustive()
    }
}

impl ContextBook {
    /// Reads the file; one that is not there has no context.
    pub(crate) fn read(user_dir: &Path) -> Outcome<Self> {
        let path = book_path(user_dir);
        match std::fs::read(&path) {
            // The parser's message may repeat a token, so only the place is said.
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let (line, column) = (error.line(), error.column());
                Error::Usage(format!(
                    "{}:{line}:{column}: this is no file of contexts; correct it or delete it",
                    path.display()
                ))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::Usage(format!("failed to read {}: {error}", path.display()))),
        }
    }

    /// Writes the file whole or not at all.
    pub(crate) fn write(&self, user_dir: &Path) -> Outcome {
        write_private(&book_path(user_dir), self)
    }

    /// Finds a context by its name.
    pub(crate) fn find(&self, name: &str) -> Outcome<&SavedContext> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<_> = self.contexts.keys().map(String::as_str).collect();
            Error::Usage(match known[..] {
                [] => format!("there is no context {name:?}; add it with `dromia context add`"),
                _ => format!("there is no context {name:?}; the contexts are {}", known.join(", ")),
            })
        })
    }
}

fn book_path(user_dir: &Path) -> PathBuf {
    user_dir.join("contexts.json")
}

/// Which server a command means.
#[derive(Debug)]
pub(crate) enum ServerChoice {
    /// The one behind a socket of this machine.
    Local {
        /// The home that is meant.
        home: PathBuf,
        /// Its socket.
        socket: PathBuf,
    },
    /// One on the network.
    Remote {
        /// What the user calls it.
        name: String,
        /// The server.
        server: RemoteServer,
    },
}

/// Tells whether a command without a flag means a server on the network.
pub fn means_remote(global: &GlobalOptions, context: &CommandContext) -> bool {
    matches!(choose_server(global, context), Ok(ServerChoice::Remote { .. }) | Err(_))
}

/// Finds out which server is meant.
pub(crate) fn choose_server(global: &GlobalOptions, context: &CommandContext) -> Outcome<ServerChoice> {
    let hints = &context.remote;
    let is_local = global.home.is_some() || global.socket.is_some();
    if usize::from(is_local) + usize::from(global.server.is_some()) + usize::from(global.context.is_some())
        > 1
    {
        let text = "--context, --server and --home or --socket each name a server; keep one of them";
        return Err(Error::Usage(text.to_owned()));
    }
    if global.ca.is_some() && global.server.is_none() && hints.server.is_none() {
        let text = "--ca goes with --server; a context keeps the file that it was added with";
        return Err(Error::Usage(text.to_owned()));
    }
    let ca = || global.ca.clone().or_else(|| hints.ca.clone());
    if is_local {
        return Ok(local_choice(global, context));
    }
    if let Some(url) = &global.server {
        return named_server(url.clone(), ca(), hints);
    }
    if let Some(name) = &global.context {
        return saved_server(name, &ContextBook::read(&hints.user_dir)?, hints);
    }
    if let Some(url) = &hints.server {
        let url = url.parse().map_err(|problem| Error::Usage(format!("DROMIA_SERVER: {problem}")))?;
        return named_server(url, ca(), hints);
    }
    if let Some(name) = &hints.context {
        return saved_server(name, &ContextBook::read(&hints.user_dir)?, hints);
    }
    if hints.names_home {
        return Ok(local_choice(global, context));
    }
    let book = ContextBook::read(&hints.user_dir)?;
    match &book.current {
        Some(name) => saved_server(name, &book, hints),
        None => Ok(local_choice(global, context)),
    }
}

fn local_choice(global: &GlobalOptions, context: &CommandContext) -> ServerChoice {
    let home = global.home.clone().unwrap_or_else(|| context.home.clone());
    let socket = global.socket.clone().unwrap_or_else(|| home.join("run").join("dromia.sock"));
    ServerChoice::Local { home, socket }
}

fn named_server(url: ServerUrl, ca: Option<PathBuf>, hints: &RemoteHints) -> Outcome<ServerChoice> {
    let Some(token) = hints.token.clone() else {
        let text = format!(
            "no token for {url}: set the variable DROMIA_TOKEN, or keep one with `dromia context add NAME --server {url} --token-stdin`"
        );
        return Err(Error::Usage(text));
    };
    let name = url.to_string();
    Ok(ServerChoice::Remote { name, server: RemoteServer::new(url, token, ca, hints.roots.clone()) })
}

fn saved_server(name: &str, book: &ContextBook, hints: &RemoteHints) -> Outcome<ServerChoice> {
    let SavedContext { server, token, ca } = book.find(name)?.clone();
    let url = server.parse().map_err(|problem| Error::Usage(format!("context {name}: {problem}")))?;
    Ok(ServerChoice::Remote {
        name: name.to_owned(),
        server: RemoteServer::new(url, token, ca, hints.roots.clone()),
    })
}
