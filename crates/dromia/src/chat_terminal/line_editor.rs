//! What each key does to the message: it moves, cuts, searches, completes and sends.
//!
//! Nothing is read or drawn here; [`LineEditor::press`] says what there is to do.

use dromia_cli::CompletionWords;

use super::history::MessageHistory;
use super::key::{EditorKey, PASTE_BYTES_MAX};
use super::message_buffer::MessageBuffer;

/// What a key asks for beyond the message itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EditorStep {
    /// To draw the message.
    Redraw,
    /// To print lines beside it, and draw it again.
    Print(String),
    /// To send this message.
    Submit(String),
    /// To leave the line as it was and begin an empty one.
    Abandon,
    /// To leave.
    Leave,
    ClearScreen,
    Suspend,
}

/// A message that is being written.
#[derive(Debug, Default)]
pub(super) struct LineEditor {
    pub(super) buffer: MessageBuffer,
    history: MessageHistory,
    words: CompletionWords,
    search: Option<HistorySearch>,
    /// Whether Ctrl-C was the last key, and there was nothing to clear.
    was_interrupted: bool,
}

/// A search in what was sent before.
#[derive(Debug)]
struct HistorySearch {
    text: String,
    place: usize,
    /// What was being written before.
    draft: String,
}

impl LineEditor {
    pub(super) fn new(history: MessageHistory) -> Self {
        Self { history, ..Self::default() }
    }

    pub(super) fn set_words(&mut self, words: CompletionWords) {
        self.words = words;
    }

    /// The text before the message, instead of the prompt, while the history is searched.
    pub(super) fn search_prompt(&self) -> Option<String> {
        self.search.as_ref().map(|search| format!("search: {} > ", search.text))
    }

    /// Does what a key means.
    pub(super) fn press(&mut self, key: EditorKey) -> EditorStep {
        let was_interrupted = std::mem::take(&mut self.was_interrupted);
        if self.search.is_some() && self.press_in_search(&key) {
            return EditorStep::Redraw;
        }
        match key {
            EditorKey::Submit if self.buffer.continue_line() => {}
            EditorKey::Submit => {
                let message = self.buffer.take_message();
                self.history.add_message(&message);
                return EditorStep::Submit(message);
            }
            EditorKey::Interrupt if !self.buffer.is_empty() => return EditorStep::Abandon,
            EditorKey::Interrupt if was_interrupted => return EditorStep::Leave,
            EditorKey::Interrupt => {
                self.was_interrupted = true;
                return EditorStep::Print("press Ctrl-C again or Ctrl-D to leave".to_owned());
            }
            EditorKey::EndOfInput if self.buffer.is_empty() => return EditorStep::Leave,
            EditorKey::EndOfInput | EditorKey::Delete => self.buffer.remove_right(),
            EditorKey::ClearScreen => return EditorStep::ClearScreen,
            EditorKey::Suspend => return EditorStep::Suspend,
            EditorKey::Complete => return self.complete(),
            EditorKey::LongPaste => {
                return EditorStep::Print(format!(
                    "the paste is longer than {} MiB, and nothing of it was taken; send a file instead",
                    PASTE_BYTES_MAX >> 20
                ));
            }
            EditorKey::Up => {
                if !self.buffer.move_up()
                    && let Some(older) = self.history.older_message(|| self.buffer.message())
                {
                    self.buffer.set_message(older);
                }
            }
            EditorKey::Down => {
                if !self.buffer.move_down()
                    && let Some(newer) = self.history.newer_message()
                {
                    self.buffer.set_message(newer);
                }
            }
            EditorKey::Search => {
                let draft = self.buffer.message();
                self.search = Some(HistorySearch { text: String::new(), place: self.history.count(), draft });
            }
            key => self.edit(key),
        }
        EditorStep::Redraw
    }

    fn edit(&mut self, key: EditorKey) {
        let buffer = &mut self.buffer;
        match key {
            EditorKey::Char(c) => buffer.insert_char(c),
            EditorKey::Paste(text) => buffer.insert_text(&text),
            EditorKey::NewLine => buffer.insert_char('\n'),
            EditorKey::Backspace => buffer.remove_left(),
            EditorKey::Left => buffer.move_left(),
            EditorKey::Right => buffer.move_right(),
            EditorKey::Home => buffer.move_line_start(),
            EditorKey::End => buffer.move_line_end(),
            EditorKey::WordLeft => buffer.move_word_left(),
            EditorKey::WordRight => buffer.move_word_right(),
            EditorKey::KillWordLeft => buffer.kill_word_left(),
            EditorKey::KillWordRight => buffer.kill_word_right(),
            EditorKey::KillLeft => buffer.kill_left(),
            EditorKey::KillRight => buffer.kill_right(),
            EditorKey::Yank => buffer.yank(),
            _ => {}
        }
    }

    /// Does what a key means in a search; `false` if the key ends the search and means what it means elsewhere.
    fn press_in_search(&mut self, key: &EditorKey) -> bool {
        let Some(search) = &mut self.search else { return false };
        let mut before = self.history.count();
        match key {
            EditorKey::Char(c) => search.text.push(*c),
            EditorKey::Backspace => drop(search.text.pop()),
            EditorKey::Search => before = search.place,
            EditorKey::Abort | EditorKey::Interrupt => {
                self.buffer.set_message(&search.draft);
                self.search = None;
                return true;
            }
            _ => {
                self.search = None;
                return false;
            }
        }
        if search.text.is_empty() {
            self.buffer.set_message(&search.draft);
        } else if let Some((place, message)) = self.history.find_message(&search.text, before) {
            search.place = place;
            self.buffer.set_message(message);
        }
        true
    }

    /// Completes the word before the cursor as far as it is certain, and lists what it may be.
    fn complete(&mut self) -> EditorStep {
        let before = self.buffer.text_before_cursor();
        let typed = before.rsplit(' ').next().unwrap_or_default().len();
        let found = self.words.matching_words(before);
        match &found[..] {
            [] => {}
            [only] => {
                let word = format!("{only} ");
                self.buffer.replace_before_cursor(typed, &word);
            }
            [first, rest @ ..] => {
                let common = rest.iter().fold(*first, |common, word| common_start(common, word));
                if common.len() > typed {
                    let common = common.to_owned();
                    self.buffer.replace_before_cursor(typed, &common);
                } else {
                    return EditorStep::Print(found.join("  "));
                }
            }
        }
        EditorStep::Redraw
    }
}

fn common_start<'word>(one: &'word str, other: &str) -> &'word str {
    let same = one.char_indices().zip(other.chars()).find(|((_, a), b)| a != b);
    let end = same.map_or(one.len().min(other.len()), |((at, _), _)| at);
    &one[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat_terminal::key::KeyParser;

    /// Presses keys and returns the messages that were sent.
    fn sent_messages(editor: &mut LineEditor, bytes: &[u8]) -> Vec<String> {
        let keys = KeyParser::default().push_bytes(bytes);
        let steps = keys.into_iter().map(|key| editor.press(key));
        steps.filter_map(|step| if let EditorStep::Submit(text) = step { Some(text) } else { None }).collect()
    }

    fn editor() -> LineEditor {
        let mut editor = LineEditor::default();
        editor.set_words(CompletionWords {
            commands: vec!["/agent".to_owned(), "/approve".to_owned(), "/help".to_owned()],
            arguments: [("/agent".to_owned(), vec!["ops".to_owned(), "opal".to_owned()])].into(),
        });
        editor
    }

    /// Counts the messages that a pasted function becomes.
    fn check_paste(bytes_of: impl Fn(&str) -> Vec<u8>) -> Result<(), String> {
        let code = "fn f() {\n    g();\n}";
        let sent = sent_messages(&mut editor(), &[&bytes_of(code)[..], b"\r"].concat());
        if sent == [code] { Ok(()) } else { Err(format!("{} messages: {sent:?}", sent.len())) }
    }

    #[test]
    fn a_pasted_function_is_one_message() {
        assert_eq!(check_paste(|code| format!("\x1b[200~{code}\x1b[201~").into_bytes()), Ok(()));
    }

    #[test]
    fn a_paste_split_into_turns_is_caught() {
        assert!(check_paste(|code| code.as_bytes().to_vec()).is_err());
    }

    #[test]
    fn a_backslash_or_alt_enter_begins_a_new_line() {
        assert_eq!(sent_messages(&mut editor(), b"a\\\rb\x1b\rc\r"), ["a\nb\nc"]);
    }

    #[test]
    fn commands_and_their_arguments_are_completed() {
        for (typed, text) in [("/h\t", "/help "), ("/ag\t", "/agent "), ("/agent op\t", "/agent op")] {
            let mut editor = editor();
            sent_messages(&mut editor, typed.as_bytes());
            assert_eq!(editor.buffer.message(), text, "{typed:?}");
        }
        let mut editor = editor();
        sent_messages(&mut editor, b"/a");
        assert_eq!(editor.press(EditorKey::Complete), EditorStep::Print("/agent  /approve".to_owned()));
    }

    #[test]
    fn ctrl_c_clears_the_line_and_leaves_when_pressed_twice() {
        let mut editor = editor();
        sent_messages(&mut editor, b"abc");
        assert_eq!(editor.press(EditorKey::Interrupt), EditorStep::Abandon);
        editor.buffer.clear();
        assert!(matches!(editor.press(EditorKey::Interrupt), EditorStep::Print(_)));
        assert_eq!(editor.press(EditorKey::Interrupt), EditorStep::Leave);
    }

    #[test]
    fn the_history_is_searched_and_walked() {
        let mut editor = editor();
        sent_messages(&mut editor, b"cargo test\rls\rcargo build\r");
        assert_eq!(sent_messages(&mut editor, b"\x12cargo\x12\r"), ["cargo test"]);
        assert_eq!(sent_messages(&mut editor, b"\x1b[A\x1b[A\r"), ["cargo build"]);
        sent_messages(&mut editor, b"draft\x12ls\x07");
        assert_eq!(editor.buffer.message(), "draft");
    }
}
