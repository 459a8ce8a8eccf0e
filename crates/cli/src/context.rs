//! What a command finds around it: the streams, whether they are a terminal, and the home.
//!
//! Commands take it as a value, so tests give them buffers and a directory of their own.

mod terminal;

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::format::ColorHints;
use crate::message_editor::OpenEditor;
use crate::output::AsciiWriter;

pub use self::terminal::{InputKind, KEYS_MAX, KeyStream, OpenKeys, ReadColumns, TerminalAccess};

/// The environment variable that names the home, where the command line names none.
pub const HOME_VARIABLE: &str = "DROMIA_HOME";

/// The variables that name a server on another machine, the token for it, the authorities that are trusted, or a context.
pub const SERVER_VARIABLE: &str = "DROMIA_SERVER";
/// See [`SERVER_VARIABLE`].
pub const TOKEN_VARIABLE: &str = "DROMIA_TOKEN";
/// See [`SERVER_VARIABLE`].
pub const CA_VARIABLE: &str = "DROMIA_CA";
/// See [`SERVER_VARIABLE`].
pub const CONTEXT_VARIABLE: &str = "DROMIA_CONTEXT";

/// Has the terminal of a person show nothing of what is typed, until what it returns is dropped.
pub type Hide = Box<dyn Fn() -> io::Result<EchoGuard> + Send>;

/// Has a person edit a text, and returns what the person left.
pub type TextEditor = Box<dyn Fn(&str) -> io::Result<String> + Send>;

/// Typing that is not shown. What undoes that is done once, when this is dropped.
pub struct EchoGuard {
    undo: Option<Box<dyn FnOnce() + Send>>,
}

impl EchoGuard {
    /// Takes what has the terminal show again what is typed.
    pub fn restore_with(undo: impl FnOnce() + Send + 'static) -> Self {
        Self { undo: Some(Box::new(undo)) }
    }
}

impl Drop for EchoGuard {
    fn drop(&mut self) {
        if let Some(undo) = self.undo.take() {
            undo();
        }
    }
}

impl std::fmt::Debug for EchoGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hidden").finish_non_exhaustive()
    }
}

/// What time it is where a person reads, when the command begins.
#[derive(Debug, Clone)]
pub struct LocalTime {
    /// The time.
    pub now: Timestamp,
    /// The zone in which people there read times.
    pub zone: TimeZone,
}

/// Reads the certificates of the authorities that the system trusts, each as DER.
pub type ReadRoots = Arc<dyn Fn() -> io::Result<Vec<Vec<u8>>> + Send + Sync>;

/// What the user's surroundings say of servers on other machines.
#[derive(Clone, Default)]
pub struct RemoteHints {
    /// The directory of this user's own files.
    pub user_dir: PathBuf,
    /// The server that the environment names.
    pub server: Option<String>,
    /// The token for it.
    pub token: Option<String>,
    /// The file of the authorities that are trusted for it.
    pub ca: Option<PathBuf>,
    /// The context that the environment names.
    pub context: Option<String>,
    /// Whether the environment names a home.
    pub names_home: bool,
    /// Reads what the system trusts; nothing is trusted without it.
    pub roots: Option<ReadRoots>,
}

impl std::fmt::Debug for RemoteHints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteHints").field("user_dir", &self.user_dir).finish_non_exhaustive()
    }
}

impl RemoteHints {
    /// Takes what the environment of this process says. An empty variable says nothing.
    fn of_process() -> Self {
        let text = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        let path = |name| text(name).map(PathBuf::from);
        let user_dir = path("XDG_CONFIG_HOME")
            .unwrap_or_else(|| path("HOME").unwrap_or_else(|| PathBuf::from(".")).join(".config"));
        Self {
            user_dir: user_dir.join("dromia"),
            server: text(SERVER_VARIABLE),
            token: text(TOKEN_VARIABLE),
            ca: path(CA_VARIABLE),
            context: text(CONTEXT_VARIABLE),
            names_home: text(HOME_VARIABLE).is_some(),
            roots: None,
        }
    }
}

/// The surroundings of a command.
pub struct CommandContext {
    /// Where a person or a pipe types.
    pub input: Box<dyn BufRead + Send>,
    /// Whether a person types there.
    pub input_is_terminal: bool,
    /// Hides a secret value while it is typed there; `None` where no terminal can hide it.
    pub hide: Option<Hide>,
    /// Opens the terminal there for a person who writes messages; `None` where no terminal shows what is typed.
    pub open_editor: Option<OpenEditor>,
    /// Opens the person's editor; `None` where there is none, or no person.
    pub editor: Option<TextEditor>,
    /// Where results go.
    pub out: Box<dyn Write + Send>,
    /// Whether a person reads them there.
    pub out_is_terminal: bool,
    /// Where notices go.
    pub err: Box<dyn Write + Send>,
    /// Whether a person reads them there.
    pub err_is_terminal: bool,
    /// What the environment says about colour.
    pub color_hints: ColorHints,
    /// The fields that the command's document has, for `--json=FIELD,…`; none if it prints no document.
    pub fields: Vec<String>,
    /// What time it is here. Where it is not said, times are written as they are, in UTC.
    pub local_time: Option<LocalTime>,
    /// How many columns a table may take; `None` is no bound.
    pub columns: Option<u16>,
    /// What can be done with the terminal beside lines.
    pub terminal: TerminalAccess,
    /// The home of the instance, unless the command line names another.
    pub home: PathBuf,
    /// What the user's surroundings say of servers on other machines.
    pub remote: RemoteHints,
    /// The idempotency key of what this command sends, or what its keys begin with; no other command has it.
    pub request_key: String,
}

impl std::fmt::Debug for CommandContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("home", &self.home).finish_non_exhaustive()
    }
}

/// How wide stderr is taken for where its terminal does not say.
const ERR_COLUMNS: u16 = 80;

impl CommandContext {
    /// How wide stderr is; `None` where no person reads it.
    pub(crate) fn err_columns(&self) -> Option<usize> {
        let read = self.terminal.err_columns.as_ref().filter(|_| self.err_is_terminal)?;
        Some(read().unwrap_or(ERR_COLUMNS).into())
    }

    /// Takes the surroundings of this process, and a key that no other has. The width of a table is what `COLUMNS` says: a
    /// terminal is not asked here.
    pub fn of_process(request_key: String) -> Self {
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let terminal = TerminalAccess::of_process();
        let (out_is_terminal, err_is_terminal) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            input: Box::new(io::BufReader::new(io::stdin())),
            input_is_terminal: io::stdin().is_terminal(),
            hide: None,
            open_editor: None,
            editor: None,
            out: text_stream(io::stdout(), out_is_terminal && terminal.is_ascii_only),
            out_is_terminal,
            err: text_stream(io::stderr(), err_is_terminal && terminal.is_ascii_only),
            err_is_terminal,
            color_hints: ColorHints::of_process(),
            fields: Vec::new(),
            local_time: None,
            columns,
            terminal,
            home: home_of_process(),
            remote: RemoteHints::of_process(),
            request_key,
        }
    }
}

/// A stream of this process, which takes ASCII alone if that is said.
fn text_stream(stream: impl Write + Send + 'static, is_ascii_only: bool) -> Box<dyn Write + Send> {
    if is_ascii_only { Box::new(AsciiWriter::new(stream)) } else { Box::new(stream) }
}

/// The home that the environment names, else `.dromia` in the user's own directory. An empty variable names nothing.
pub fn home_of_process() -> PathBuf {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named(HOME_VARIABLE)
        .unwrap_or_else(|| named("HOME").unwrap_or_else(|| PathBuf::from(".")).join(".dromia"))
}
