//! Writes text to a terminal whose locale has no UTF-8: each character beyond ASCII becomes one that is as wide.
//!
//! What such a terminal would make of the bytes of UTF-8 is not text, and some of those bytes are control characters there.

use std::io::{self, Write};

use unicode_width::UnicodeWidthChar as _;

/// The most bytes of a character that has not come whole.
const PART_BYTES_MAX: usize = 3;

/// Replaces what is not ASCII in a text, so that it keeps its width.
pub fn ascii_text(text: &str) -> String {
    let mut ascii = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            _ if c.is_ascii() => ascii.push(c),
            '\u{2018}' | '\u{2019}' => ascii.push('\''),
            '\u{201c}' | '\u{201d}' => ascii.push('"'),
            '\u{2010}'..='\u{2015}' | '\u{2022}' => ascii.push('-'),
            '\u{2026}' => ascii.push('~'),
            '\u{2502}' => ascii.push('|'),
            _ => ascii.extend(std::iter::repeat_n('?', c.width().unwrap_or(1))),
        }
    }
    ascii
}

/// Passes text on as ASCII. Control characters that are ASCII stay: those of the program itself move the cursor.
#[derive(Debug)]
pub struct AsciiWriter<W> {
    inner: W,
    /// The begin of a character whose rest has not come yet.
    part: Vec<u8>,
}

impl<W> AsciiWriter<W> {
    /// Writes into something that takes ASCII alone.
    pub fn new(inner: W) -> Self {
        Self { inner, part: Vec::new() }
    }
}

impl<W: Write> Write for AsciiWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut whole = std::mem::take(&mut self.part);
        whole.extend_from_slice(bytes);
        let kept = match std::str::from_utf8(&whole) {
            Err(error) if error.error_len().is_none() => whole.len() - error.valid_up_to(),
            _ => 0,
        };
        debug_assert!(kept <= PART_BYTES_MAX, "UTF-8 has at most four bytes for a character");
        self.part = whole.split_off(whole.len() - kept);
        self.inner.write_all(ascii_text(&String::from_utf8_lossy(&whole)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_width_and_loses_what_is_not_ascii() {
        assert_eq!(ascii_text("h\u{e4}llo \u{2014} \u{201c}x\u{201d}\u{2026} \u{65e5}"), "h?llo - \"x\"~ ??");
    }

    #[test]
    fn a_character_in_two_pieces_is_replaced_once() {
        let mut written = Vec::new();
        let mut writer = AsciiWriter::new(&mut written);
        for piece in ["a\u{e4}b".as_bytes(), &[0xe6], &[0x97, 0xa5, b'c'], &[0xff, b'd']] {
            writer.write_all(piece).expect("it is written");
        }
        assert_eq!(written, b"a?b??c?d");
    }
}
