//! Reads the keys that a person presses off the bytes of a terminal, and a paste as one key.
//!
//! It never waits and draws nothing: bytes may come in any pieces. What is no UTF-8 becomes U+FFFD, an escape sequence that
//! has no meaning here is dropped, and so are control characters in what is pasted.

/// The longest paste that is kept; the server accepts less by default.
pub(super) const PASTE_BYTES_MAX: usize = 16 << 20;

/// The longest escape sequence; what is longer is dropped.
const SEQUENCE_BYTES_MAX: usize = 32;

const PASTE_BEGIN: &[u8] = b"[200~";
const PASTE_END: &[u8] = b"\x1b[201~";

/// A key, by what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EditorKey {
    Char(char),
    Paste(String),
    /// A paste above [`PASTE_BYTES_MAX`], of which nothing is kept.
    LongPaste,
    Submit,
    NewLine,
    Complete,
    Backspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    WordLeft,
    WordRight,
    KillWordLeft,
    KillWordRight,
    KillLeft,
    KillRight,
    Yank,
    Search,
    Abort,
    Interrupt,
    EndOfInput,
    ClearScreen,
    Suspend,
}

/// Takes bytes and gives keys; what has no end yet is kept for the bytes that follow.
#[derive(Debug, Default)]
pub(super) struct KeyParser {
    bytes: Vec<u8>,
    paste: Option<PasteBytes>,
}

#[derive(Debug, Default)]
struct PasteBytes {
    bytes: Vec<u8>,
    is_too_long: bool,
}

impl KeyParser {
    /// Takes the bytes that came, and returns the keys that are whole.
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) -> Vec<EditorKey> {
        self.bytes.extend_from_slice(bytes);
        let mut keys = Vec::new();
        loop {
            if self.paste.is_some() {
                match self.take_paste() {
                    Some(key) => keys.push(key),
                    None => return keys,
                }
            }
            let Some((key, length)) = next_key(&self.bytes) else { return keys };
            self.bytes.drain(..length);
            match key {
                ParsedKey::Key(key) => keys.push(key),
                ParsedKey::PasteBegin => self.paste = Some(PasteBytes::default()),
                ParsedKey::Unknown => {}
            }
        }
    }

    /// Moves what was pasted so far; returns the paste once its end was read.
    fn take_paste(&mut self) -> Option<EditorKey> {
        let paste = self.paste.as_mut()?;
        let end = find_bytes(&self.bytes, PASTE_END);
        // The end may have come in part.
        let taken = end.unwrap_or_else(|| self.bytes.len().saturating_sub(PASTE_END.len() - 1));
        paste.is_too_long |= paste.bytes.len() + taken > PASTE_BYTES_MAX;
        if paste.is_too_long {
            paste.bytes.clear();
        } else {
            paste.bytes.extend_from_slice(&self.bytes[..taken]);
        }
        self.bytes.drain(..end.map_or(taken, |end| end + PASTE_END.len()));
        end?;
        let paste = self.paste.take()?;
        Some(if paste.is_too_long {
            EditorKey::LongPaste
        } else {
            EditorKey::Paste(clean_text(&String::from_utf8_lossy(&paste.bytes)))
        })
    }
}

/// Takes control characters out of a text, line breaks and tabs apart; every line break is `\n`.
pub(super) fn clean_text(text: &str) -> String {
    let mut text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.retain(|c| !c.is_control() || c == '\n' || c == '\t');
    text
}

fn find_bytes(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// What bytes begin with.
enum ParsedKey {
    Key(EditorKey),
    PasteBegin,
    Unknown,
}

/// Reads the first key and its length; `None` while it has no end.
fn next_key(bytes: &[u8]) -> Option<(ParsedKey, usize)> {
    let (first, rest) = bytes.split_first()?;
    if *first == 0x1b {
        return escaped_key(rest).map(|(key, length)| (key, length + 1));
    }
    if *first < 0x80 {
        return Some((plain_key(*first).map_or(ParsedKey::Unknown, ParsedKey::Key), 1));
    }
    let head = &bytes[..bytes.len().min(4)];
    let (character, length) = match std::str::from_utf8(head) {
        Ok(text) => (text.chars().next()?, text.chars().next()?.len_utf8()),
        Err(error) if error.valid_up_to() > 0 => {
            let character = String::from_utf8_lossy(&head[..error.valid_up_to()]).chars().next()?;
            (character, character.len_utf8())
        }
        // The rest of the character has not come yet.
        Err(error) => (char::REPLACEMENT_CHARACTER, error.error_len()?),
    };
    let key =
        if character.is_control() { ParsedKey::Unknown } else { ParsedKey::Key(EditorKey::Char(character)) };
    Some((key, length))
}

fn plain_key(byte: u8) -> Option<EditorKey> {
    Some(match byte {
        0x01 => EditorKey::Home,
        0x02 => EditorKey::Left,
        0x03 => EditorKey::Interrupt,
        0x04 => EditorKey::EndOfInput,
        0x05 => EditorKey::End,
        0x06 => EditorKey::Right,
        0x07 => EditorKey::Abort,
        0x08 | 0x7f => EditorKey::Backspace,
        b'\t' => EditorKey::Complete,
        // What was typed before this terminal was ours has its line breaks as `\n`.
        b'\r' | b'\n' => EditorKey::Submit,
        0x0b => EditorKey::KillRight,
        0x0c => EditorKey::ClearScreen,
        0x0e => EditorKey::Down,
        0x10 => EditorKey::Up,
        0x12 => EditorKey::Search,
        0x15 => EditorKey::KillLeft,
        0x17 => EditorKey::KillWordLeft,
        0x19 => EditorKey::Yank,
        0x1a => EditorKey::Suspend,
        0x20..=0x7e => EditorKey::Char(char::from(byte)),
        _ => return None,
    })
}

/// Reads what follows an escape.
fn escaped_key(rest: &[u8]) -> Option<(ParsedKey, usize)> {
    let (key, length) = match rest.first()? {
        b'[' | b'O' => {
            let end = rest[1..].iter().position(|byte| (0x40..=0x7e).contains(byte)).map(|end| end + 1);
            match end {
                None if rest.len() <= SEQUENCE_BYTES_MAX => return None,
                None => return Some((ParsedKey::Unknown, rest.len())),
                Some(_) if rest.starts_with(PASTE_BEGIN) => {
                    return Some((ParsedKey::PasteBegin, PASTE_BEGIN.len()));
                }
                Some(end) => (sequence_key(&rest[1..=end]), end + 1),
            }
        }
        b'\r' | b'\n' => (Some(EditorKey::NewLine), 1),
        b'b' | b'B' => (Some(EditorKey::WordLeft), 1),
        b'f' | b'F' => (Some(EditorKey::WordRight), 1),
        b'd' | b'D' => (Some(EditorKey::KillWordRight), 1),
        0x08 | 0x7f => (Some(EditorKey::KillWordLeft), 1),
        // Twice, or before another key: the first is alone.
        0x1b => (None, 0),
        _ => (None, 1),
    };
    Some((key.map_or(ParsedKey::Unknown, ParsedKey::Key), length))
}

/// Names the key of a sequence, which is what follows `ESC [` or `ESC O`.
fn sequence_key(sequence: &[u8]) -> Option<EditorKey> {
    let by_words = sequence.windows(2).any(|pair| matches!(pair, b";5" | b";3"));
    Some(match sequence {
        b"3~" => EditorKey::Delete,
        b"1~" | b"7~" => EditorKey::Home,
        b"4~" | b"8~" => EditorKey::End,
        b"3;5~" | b"3;3~" => EditorKey::KillWordRight,
        // Enter with Shift, Alt or Ctrl where the terminal tells them apart.
        b"13;2u" | b"13;3u" | b"13;5u" | b"27;2;13~" | b"27;3;13~" | b"27;5;13~" => EditorKey::NewLine,
        [.., b'A'] => EditorKey::Up,
        [.., b'B'] => EditorKey::Down,
        [.., b'C'] if by_words => EditorKey::WordRight,
        [.., b'D'] if by_words => EditorKey::WordLeft,
        [.., b'C'] => EditorKey::Right,
        [.., b'D'] => EditorKey::Left,
        [.., b'H'] => EditorKey::Home,
        [.., b'F'] => EditorKey::End,
        b"M" => EditorKey::Submit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pieces: &[&[u8]]) -> Vec<EditorKey> {
        let mut parser = KeyParser::default();
        pieces.iter().flat_map(|piece| parser.push_bytes(piece)).collect()
    }

    #[test]
    fn a_paste_is_one_key_however_its_bytes_come() {
        let bytes = b"a\x1b[200~fn f() {\r\n\tx\x07\xff\r}\x1b[201~\r";
        let expected = [
            EditorKey::Char('a'),
            EditorKey::Paste("fn f() {\n\tx\u{fffd}\n}".to_owned()),
            EditorKey::Submit,
        ];
        assert_eq!(keys(&[bytes]), expected);
        assert_eq!(keys(&bytes.iter().map(std::slice::from_ref).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn a_paste_above_the_bound_keeps_nothing() {
        let mut parser = KeyParser::default();
        assert_eq!(parser.push_bytes(b"\x1b[200~"), []);
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            assert_eq!(parser.push_bytes(&piece), []);
        }
        assert_eq!(parser.push_bytes(b"\x1b[201~b"), [EditorKey::LongPaste, EditorKey::Char('b')]);
    }

    #[test]
    fn bytes_that_are_no_text_do_not_stop_the_keys() {
        let replaced = EditorKey::Char(char::REPLACEMENT_CHARACTER);
        assert_eq!(keys(&[b"\xffa"]), [replaced.clone(), EditorKey::Char('a')]);
        assert_eq!(keys(&[b"\xc3", b"\xa4"]), [EditorKey::Char('ä')]);
        assert_eq!(keys(&[b"\xe4b"]), [replaced, EditorKey::Char('b')]);
        assert_eq!(keys(&[b"\x1b[99;99~\x1bz\x1b\x1b[Ab"]), [EditorKey::Up, EditorKey::Char('b')]);
    }

    #[test]
    fn the_usual_sequences_are_keys() {
        for (bytes, key) in [
            (&b"\x1b\r"[..], EditorKey::NewLine),
            (b"\x1b[13;2u", EditorKey::NewLine),
            (b"\x1b[1;5C", EditorKey::WordRight),
            (b"\x1b[1;3D", EditorKey::WordLeft),
            (b"\x1bOH", EditorKey::Home),
            (b"\x1b[3~", EditorKey::Delete),
            (b"\x1b\x7f", EditorKey::KillWordLeft),
            (b"\x12", EditorKey::Search),
        ] {
            assert_eq!(keys(&[bytes]), [key], "{bytes:?}");
        }
    }
}
