//! What a person's terminal can do beside lines of text, and what standard input is.
//!
//! These are values and functions that the program hands in; nothing here touches a terminal.

use std::io;

use tokio::sync::mpsc;

use super::EchoGuard;

/// Has the terminal give its keys one by one, until what it returns is dropped. What was typed before is thrown away.
pub type OpenKeys = Box<dyn Fn() -> io::Result<KeyStream> + Send>;

/// Asks the terminal that is standard error how wide it is.
pub type ReadColumns = Box<dyn Fn() -> Option<u16> + Send>;

/// How many keys may wait to be taken; further ones are thrown away.
pub const KEYS_MAX: usize = 64;

/// The keys of a terminal. It is as it was before once this is dropped.
#[derive(Debug)]
pub struct KeyStream {
    keys: mpsc::Receiver<Vec<u8>>,
    /// Whether a key comes when it is pressed; else a line comes with Enter.
    pub is_immediate: bool,
    _guard: EchoGuard,
}

impl KeyStream {
    /// Takes what sends the keys, each as the bytes that the terminal gave for it, and what undoes the mode.
    pub fn from_receiver(keys: mpsc::Receiver<Vec<u8>>, is_immediate: bool, guard: EchoGuard) -> Self {
        Self { keys, is_immediate, _guard: guard }
    }

    /// Waits for the next key; `None` when nothing more can be typed. It may be dropped and called again.
    pub async fn next_key(&mut self) -> Option<Vec<u8>> {
        self.keys.recv().await
    }
}

/// What standard input is, if it is no terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InputKind {
    /// The output of another program, which may say nothing for long.
    Pipe,
    /// A file, which ends.
    File,
    /// Nothing that is meant as a text: a device such as `/dev/null`, a socket.
    #[default]
    Other,
}

/// What can be done with the terminal.
#[derive(Default)]
pub struct TerminalAccess {
    /// Reads single keys; `None` where no person types.
    pub keys: Option<OpenKeys>,
    /// How wide standard error is; `None` where no person reads it.
    pub err_columns: Option<ReadColumns>,
    /// Whether it shows more than ASCII, by the locale.
    pub shows_unicode: bool,
    /// Whether it shows nothing but ASCII: the locale names an encoding, and that is not UTF-8. A locale that is not set says
    /// nothing of the terminal.
    pub is_ascii_only: bool,
    /// Whether the environment asks for lines that a screen reader can follow.
    pub is_accessible: bool,
    /// What standard input is.
    pub input: InputKind,
}

impl TerminalAccess {
    /// Reads the variables of this process; it has no terminal.
    pub fn of_process() -> Self {
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(read).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        let shows_unicode = locale.contains("utf-8") || locale.contains("utf8");
        Self {
            shows_unicode,
            is_ascii_only: !locale.is_empty() && !shows_unicode,
            is_accessible: read("ACCESSIBLE").is_some_and(|value| value != "0"),
            ..Self::default()
        }
    }
}

impl std::fmt::Debug for TerminalAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TerminalAccess").field("input", &self.input).finish_non_exhaustive()
    }
}
