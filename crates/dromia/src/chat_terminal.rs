//! The terminal of a person who chats: it reads keys, draws the message that is being written and nothing else.
//!
//! What was sent stays in the scrollback as it was; only the message under the cursor is drawn again. The terminal is as it
//! was found once this is dropped, and while the process is suspended.

mod history;
mod key;
mod line_editor;
mod message_buffer;
mod rows;

use std::collections::VecDeque;
use std::io::{self, Stdin, Write as _};
use std::path::Path;

use dromia_cli::{CompletionWords, EditorFuture, MessageEditor, TypedAhead};
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use crate::terminal::{suspend_process_group, take_suspend_key};

use self::history::MessageHistory;
use self::key::{EditorKey, KeyParser};
use self::line_editor::{EditorStep, LineEditor};
use self::rows::MessageRows;

/// How much is read at a time.
const READ_BYTES: usize = 64 << 10;

/// The size of a terminal that does not know its own.
const SIZE_UNKNOWN: (u16, u16) = (80, 24);

const PASTE_ON: &str = "\x1b[?2004h";
const PASTE_OFF: &str = "\x1b[?2004l";

/// Opens the terminal that standard input and output are, which may show nothing but ASCII.
#[expect(
    deprecated,
    reason = "what replaces it is unsafe, and standard input stays open as long as this process"
)]
pub(crate) fn open_editor(history_file: &Path, is_ascii_only: bool) -> io::Result<Box<dyn MessageEditor>> {
    let input = AsyncFd::with_interest(io::stdin(), Interest::READABLE)?;
    let found = tcgetattr(input.get_ref())?;
    Ok(Box::new(TerminalEditor {
        input,
        found,
        is_ascii_only,
        mode: TerminalMode::Found,
        keys: KeyParser::default(),
        waiting: VecDeque::new(),
        editor: LineEditor::new(MessageHistory::open(history_file.to_owned())),
        drawn: MessageRows::default(),
        was_suspended: false,
        resized: signal(SignalKind::window_change())?,
        continued: signal(SignalKind::from_raw(Signal::CONT.as_raw()))?,
    }))
}

/// What the terminal does with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TerminalMode {
    /// What it did before.
    Found,
    /// Every key comes here.
    Edit,
    /// Every key comes here, but Ctrl-C is a signal.
    Ahead,
}

struct TerminalEditor {
    input: AsyncFd<Stdin>,
    found: Termios,
    is_ascii_only: bool,
    mode: TerminalMode,
    keys: KeyParser,
    /// Keys that were pressed and have done nothing yet.
    waiting: VecDeque<EditorKey>,
    editor: LineEditor,
    drawn: MessageRows,
    /// Whether the process suspended itself, so the next signal to continue says nothing new.
    was_suspended: bool,
    resized: SignalStream,
    continued: SignalStream,
}

impl MessageEditor for TerminalEditor {
    fn read_message<'a>(&'a mut self, prompt: &'a str) -> EditorFuture<'a, Option<String>> {
        Box::pin(self.edit_message(prompt))
    }

    fn read_ahead(&mut self) -> EditorFuture<'_, TypedAhead> {
        Box::pin(self.take_ahead())
    }

    fn columns(&self) -> u16 {
        terminal_size().0
    }

    fn release_terminal(&mut self) -> io::Result<()> {
        self.set_mode(TerminalMode::Found)
    }

    fn set_completion_words(&mut self, words: CompletionWords) {
        self.editor.set_words(words);
    }
}

impl Drop for TerminalEditor {
    fn drop(&mut self) {
        // A terminal that is gone by then needs no restoring.
        drop(self.set_mode(TerminalMode::Found));
    }
}

/// What woke the editor.
enum EditorWake {
    Keys,
    Hangup,
    Resized,
    Continued,
}

impl TerminalEditor {
    async fn edit_message(&mut self, prompt: &str) -> io::Result<Option<String>> {
        self.set_mode(TerminalMode::Edit)?;
        self.drawn = MessageRows::default();
        loop {
            while let Some(key) = self.waiting.pop_front() {
                match self.editor.press(key) {
                    EditorStep::Redraw => {}
                    EditorStep::Submit(message) => {
                        self.finish_rows()?;
                        // Until the turn is followed, Ctrl-C ends the chat.
                        self.set_mode(TerminalMode::Ahead)?;
                        return Ok(Some(message));
                    }
                    EditorStep::Leave => {
                        self.finish_rows()?;
                        return Ok(None);
                    }
                    EditorStep::Abandon => {
                        self.finish_rows()?;
                        self.editor.buffer.clear();
                    }
                    EditorStep::Print(text) => {
                        let columns = usize::from(terminal_size().0);
                        let text = dromia_cli::wrap_text(&text, columns, "").replace('\n', "\r\n");
                        let erased = self.erase_rows();
                        write_out(&format!("{erased}{text}\r\n"))?;
                    }
                    EditorStep::ClearScreen => {
                        self.drawn = MessageRows::default();
                        write_out("\x1b[H\x1b[2J")?;
                    }
                    EditorStep::Suspend => {
                        self.finish_rows()?;
                        self.suspend()?;
                    }
                }
                // A message is drawn before it is sent, however fast it was typed.
                if self.waiting.len() <= 1 {
                    self.draw(prompt)?;
                }
            }
            self.draw(prompt)?;
            match self.wait().await? {
                EditorWake::Hangup => return Ok(None),
                // The next drawing measures again.
                EditorWake::Resized => write_out(&self.erase_rows())?,
                // A shell wrote below the message meanwhile, and set the terminal for itself.
                EditorWake::Continued if !std::mem::take(&mut self.was_suspended) => {
                    self.mode = TerminalMode::Found;
                    self.set_mode(TerminalMode::Edit)?;
                    self.drawn = MessageRows::default();
                }
                EditorWake::Continued | EditorWake::Keys => {}
            }
        }
    }

    async fn take_ahead(&mut self) -> io::Result<TypedAhead> {
        self.set_mode(TerminalMode::Ahead)?;
        loop {
            let has_keys = !self.waiting.is_empty();
            while let Some(key) = self.waiting.pop_front() {
                if key == EditorKey::Interrupt {
                    // It was read before it could become a signal.
                    kill_process(getpid(), Signal::INT)?;
                    continue;
                }
                match self.editor.press(key) {
                    EditorStep::Submit(message) => return Ok(TypedAhead::Message(message)),
                    EditorStep::Suspend => self.suspend()?,
                    // Nothing is drawn here, so other keys change only the draft.
                    _ => {}
                }
            }
            if has_keys {
                let buffer = &self.editor.buffer;
                let shown = [buffer.text_before_cursor(), buffer.text_after_cursor()];
                return Ok(TypedAhead::Draft(shown.map(|part| buffer.shown_text(part)).concat()));
            }
            match self.wait().await? {
                EditorWake::Keys | EditorWake::Resized => {}
                // The turn goes on without a person.
                EditorWake::Hangup => std::future::pending::<()>().await,
                EditorWake::Continued => {
                    self.was_suspended = false;
                    self.mode = TerminalMode::Found;
                    self.set_mode(TerminalMode::Ahead)?;
                }
            }
        }
    }

    /// Waits for keys or for a signal of the terminal.
    async fn wait(&mut self) -> io::Result<EditorWake> {
        let Self { input, keys, waiting, resized, continued, .. } = self;
        tokio::select! {
            bytes = read_bytes(input) => {
                let bytes = bytes?;
                waiting.extend(keys.push_bytes(&bytes));
                Ok(if bytes.is_empty() { EditorWake::Hangup } else { EditorWake::Keys })
            }
            _ = resized.recv() => Ok(EditorWake::Resized),
            _ = continued.recv() => Ok(EditorWake::Continued),
        }
    }

    fn suspend(&mut self) -> io::Result<()> {
        let mode = self.mode;
        self.set_mode(TerminalMode::Found)?;
        self.was_suspended = true;
        suspend_process_group()?;
        self.set_mode(mode)
    }

    fn set_mode(&mut self, mode: TerminalMode) -> io::Result<()> {
        if mode == self.mode {
            return Ok(());
        }
        let mut modes = self.found.clone();
        if mode != TerminalMode::Found {
            modes.input_modes.remove(InputModes::ICRNL | InputModes::IXON | InputModes::ISTRIP);
            modes.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::IEXTEN);
            modes.local_modes.set(LocalModes::ISIG, mode == TerminalMode::Ahead);
            take_suspend_key(&mut modes);
            modes.special_codes[SpecialCodeIndex::VMIN] = 1;
            modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        }
        tcsetattr(self.input.get_ref(), OptionalActions::Now, &modes)?;
        match (self.mode, mode) {
            (TerminalMode::Found, _) => write_out(PASTE_ON)?,
            (_, TerminalMode::Found) => write_out(PASTE_OFF)?,
            _ => {}
        }
        self.mode = mode;
        Ok(())
    }

    /// Draws the message; where one has only grown at its end, only what is new.
    fn draw(&mut self, prompt: &str) -> io::Result<()> {
        let (columns, rows) = terminal_size();
        let searching = self.editor.search_prompt();
        let buffer = &self.editor.buffer;
        let shown = |text: String| if self.is_ascii_only { dromia_cli::ascii_text(&text) } else { text };
        let (before, after) =
            (buffer.shown_text(buffer.text_before_cursor()), buffer.shown_text(buffer.text_after_cursor()));
        let laid = MessageRows::lay_out(
            &shown(searching.unwrap_or_else(|| prompt.to_owned())),
            (&shown(before), &shown(after)),
            columns,
            usize::from(rows).saturating_sub(1),
        );
        if laid != self.drawn {
            let text = match laid.text_after(&self.drawn) {
                Some(new) => new.to_owned(),
                None => self.erase_rows() + &laid.drawing(),
            };
            self.drawn = laid;
            write_out(&text)?;
        }
        Ok(())
    }

    /// Leaves the message on the screen, and begins a line behind it.
    fn finish_rows(&mut self) -> io::Result<()> {
        let drawn = std::mem::take(&mut self.drawn);
        let below = drawn.rows.len().saturating_sub(drawn.cursor.0 + 1);
        write_out(&format!("{}\r\n", "\x1b[B".repeat(below)))
    }

    /// What takes the drawn message off the screen.
    fn erase_rows(&mut self) -> String {
        let drawn = std::mem::take(&mut self.drawn);
        if drawn.rows.is_empty() {
            return String::new();
        }
        format!("\r{}\x1b[J", "\x1b[A".repeat(drawn.rows_above_cursor(terminal_size().0)))
    }
}

/// Waits for bytes; none are the end of the terminal.
async fn read_bytes(input: &AsyncFd<Stdin>) -> io::Result<Vec<u8>> {
    loop {
        let mut ready = input.readable().await?;
        // A terminal that has nothing would make the read wait.
        if rustix::io::ioctl_fionread(input.get_ref())? == 0 {
            if ready.ready().is_read_closed() {
                return Ok(Vec::new());
            }
            ready.clear_ready();
            continue;
        }
        let mut bytes = vec![0; READ_BYTES];
        let length = rustix::io::read(input.get_ref(), &mut bytes)?;
        bytes.truncate(length);
        return Ok(bytes);
    }
}

/// The columns and rows of the terminal that is standard output.
fn terminal_size() -> (u16, u16) {
    let Ok(size) = tcgetwinsize(io::stdout()) else { return SIZE_UNKNOWN };
    let known = |number: u16, unknown: u16| if number == 0 { unknown } else { number };
    (known(size.ws_col, SIZE_UNKNOWN.0), known(size.ws_row, SIZE_UNKNOWN.1))
}

fn write_out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
