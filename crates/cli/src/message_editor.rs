//! The port to the terminal of a person who writes messages: what a chat asks of it, and nothing of how it is done.
//!
//! The program implements it; where it cannot, a chat reads plain lines.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::pin::Pin;

/// What an editor does next, which may be dropped: what was typed so far stays in the editor.
pub type EditorFuture<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// Opens the terminal of this process, with the file in which it remembers messages.
pub type OpenEditor = Box<dyn Fn(&Path) -> io::Result<Box<dyn MessageEditor>> + Send>;

/// A person's terminal. Dropped, it is as it was before.
pub trait MessageEditor: Send {
    /// Prints the prompt behind what was printed before, and lets the person write one message; `None` if the person leaves.
    fn read_message<'a>(&'a mut self, prompt: &'a str) -> EditorFuture<'a, Option<String>>;

    /// Takes what is typed while something else is printed, and draws nothing. Ctrl-C is a signal meanwhile.
    fn read_ahead(&mut self) -> EditorFuture<'_, TypedAhead>;

    /// How wide the terminal is now.
    fn columns(&self) -> u16;

    /// Makes the terminal as it was found, for whatever else reads from it; the next call of the others takes it back.
    fn release_terminal(&mut self) -> io::Result<()>;

    /// Says what can be completed from now on.
    fn set_completion_words(&mut self, words: CompletionWords);
}

/// What was typed while something else was printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypedAhead {
    /// A message has no end yet; this is how it would be shown.
    Draft(String),
    /// A message was sent.
    Message(String),
}

/// What can be completed in a message that begins with `/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompletionWords {
    /// The commands, with their `/`.
    pub commands: Vec<String>,
    /// What may follow a command.
    pub arguments: BTreeMap<String, Vec<String>>,
}

impl CompletionWords {
    /// The words that the last word before the cursor may become.
    pub fn matching_words(&self, before_cursor: &str) -> Vec<&str> {
        if !before_cursor.starts_with('/') {
            return Vec::new();
        }
        let (known, typed) = match before_cursor.split_once(' ') {
            None => (Some(&self.commands), before_cursor),
            Some((command, typed)) => (self.arguments.get(command), typed),
        };
        let known = known.into_iter().flatten().map(String::as_str);
        known.filter(|word| word.starts_with(typed)).collect()
    }
}
