//! Looking into what is packed with gzip: as it is, or in base64, which then begins with the same four characters wherever
//! it stands.
//!
//! Each look has its bounds: bytes that are unpacked, pieces that are opened, and how deep one lies in another. What lies
//! beyond them is not found, and neither is gzip that begins in the middle of a text that is in base64 as a whole.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// The most bytes that one look unpacks, over all that it opens.
const BYTES_MAX: usize = 4 << 20;

/// The most pieces that one look opens.
const PIECES_MAX: usize = 256;

/// How deep a piece may lie in others: gzip in base64 is two.
const DEPTH_MAX: usize = 4;

/// How gzip begins: its mark, and the one method there is.
const MARK: [u8; 3] = [0x1f, 0x8b, 0x08];

/// The same in base64.
const IN_BASE64: &[u8; 4] = b"H4sI";

/// What is left of the bounds of one look.
#[derive(Debug)]
pub(super) struct Room {
    bytes: usize,
    pieces: usize,
    depth: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { bytes: BYTES_MAX, pieces: PIECES_MAX, depth: DEPTH_MAX }
    }
}

/// Who takes a piece: its place, what is inside, and what is left of the bounds.
pub(super) type Take<'a> = dyn FnMut(Range<usize>, &[u8], &mut Room) + 'a;

/// Opens the packed pieces of a text in their order, and hands each on with its place and what is left of the bounds.
pub(super) fn each(text: &[u8], room: &mut Room, take: &mut Take<'_>) {
    if room.depth == 0 {
        return;
    }
    room.depth -= 1;
    let mut at = 0;
    while let Some(begin) = next(text, at) {
        if room.pieces == 0 || room.bytes == 0 {
            break;
        }
        room.pieces -= 1;
        let (length, inside) = if text[begin..].starts_with(&MARK) {
            inflated(&text[begin..], room.bytes)
        } else {
            decoded(&text[begin..], room.bytes)
        };
        room.bytes -= inside.len().min(room.bytes);
        take(begin..begin + length, &inside, room);
        // Where nothing could be unpacked, only the mark is passed.
        at = begin + if inside.is_empty() { MARK.len() } else { length };
    }
    room.depth += 1;
}

/// Says from where on the end of a text may be a piece in base64 that goes on; the text's length where it is none. Gzip as it
/// is stands in no text that comes in pieces.
pub(super) fn open_from(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(begin) = next(text, at) {
        let end = begin + run(&text[begin..]).0;
        if end == text.len() {
            return begin;
        }
        at = end.max(begin + 1);
    }
    let beginning = (1..IN_BASE64.len()).rev().find(|length| text.ends_with(&IN_BASE64[..*length]));
    text.len() - beginning.unwrap_or(0)
}

/// Finds the next mark, from a place on.
fn next(text: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    let is_mark = |at: &usize| rest[*at..].starts_with(&MARK) || rest[*at..].starts_with(IN_BASE64);
    (0..rest.len()).filter(|at| matches!(rest[*at], 0x1f | b'H')).find(is_mark).map(|at| from + at)
}

/// Reads base64 up to what is none, over line breaks and what JSON writes for them. Returns how long it is in the text, and
/// its characters.
fn run(text: &[u8]) -> (usize, Vec<u8>) {
    let (mut at, mut characters) = (0, Vec::new());
    while let Some(byte) = text.get(at) {
        match *byte {
            b'-' => characters.push(b'+'),
            b'_' => characters.push(b'/'),
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/') => characters.push(byte),
            b'\\' if matches!(text.get(at + 1), Some(b'n' | b'r' | b't')) => at += 1,
            b'\\' | b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => break,
        }
        at += 1;
    }
    (at, characters)
}

/// Reads base64. Returns how long it is in the text, and what is in it.
fn decoded(text: &[u8], bytes_max: usize) -> (usize, Vec<u8>) {
    let (length, mut characters) = run(text);
    // Whole groups only: what is cut off are two bytes behind the end of what is packed.
    characters.truncate(characters.len().min(bytes_max) / 4 * 4);
    (length, STANDARD_NO_PAD.decode(&characters).unwrap_or_default())
}

/// Unpacks gzip, also where its end is missing. Returns how long it is in the text, and what is in it.
fn inflated(text: &[u8], bytes_max: usize) -> (usize, Vec<u8>) {
    let Some(begin) = behind_head(text) else { return (0, Vec::new()) };
    let packed = &text[begin..];
    let mut state = Box::<DecompressorOxide>::default();
    let mut inside = vec![0; packed.len().saturating_mul(4).clamp(1 << 10, 1 << 16).min(bytes_max)];
    let (mut read, mut written) = (0, 0);
    loop {
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, took, gave) = decompress(&mut state, &packed[read..], &mut inside, written, flags);
        read += took;
        written += gave;
        if status != TINFLStatus::HasMoreOutput || inside.len() >= bytes_max {
            break;
        }
        inside.resize(inside.len().saturating_mul(2).min(bytes_max), 0);
    }
    inside.truncate(written);
    (begin + read, inside)
}

/// Finds where the head of gzip ends.
fn behind_head(text: &[u8]) -> Option<usize> {
    let flags = *text.get(3)?;
    let mut at = 10;
    if flags & 4 != 0 {
        let length = [*text.get(at)?, *text.get(at + 1)?];
        at += 2 + usize::from(u16::from_le_bytes(length));
    }
    // A name and a remark, each up to a zero.
    for flag in [8, 16] {
        if flags & flag != 0 {
            at += text.get(at..)?.iter().position(|byte| *byte == 0)? + 1;
        }
    }
    if flags & 2 != 0 {
        at += 2;
    }
    (at <= text.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::super::tests::gzip;
    use super::*;

    fn opened(text: &[u8]) -> Vec<(Range<usize>, Vec<u8>)> {
        let (mut room, mut found) = (Room::default(), Vec::new());
        each(text, &mut room, &mut |range, inside, _| found.push((range, inside.to_vec())));
        assert_eq!(room.depth, DEPTH_MAX, "what was gone into was left");
        found
    }

    /// Opens what lies in one another, and counts how deep.
    fn down(text: &[u8], room: &mut Room, levels: &mut usize) {
        each(text, room, &mut |_, inside, room| {
            *levels += 1;
            down(inside, room, levels);
        });
    }

    #[test]
    fn a_piece_is_unpacked_where_it_stands_and_also_without_its_end() {
        let packed = gzip(b"hello hello hello");
        let text = [&b"before "[..], &packed[..], b" behind"].concat();
        let found = opened(&text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1, b"hello hello hello");
        assert_eq!(found[0].0.start, 7);
        assert!(found[0].0.end <= 7 + packed.len(), "{:?}", found[0].0);
        let cut = opened(&packed[..packed.len() - 8]);
        assert_eq!(cut[0].1, b"hello hello hello");
    }

    #[test]
    fn a_head_with_everything_in_it_is_passed() {
        let plain = gzip(b"hello");
        let mut packed = plain[..10].to_vec();
        packed[3] = 2 | 4 | 8 | 16;
        packed.extend_from_slice(&[2, 0, b'x', b'y']);
        packed.extend_from_slice(b"name\0remark\0");
        packed.extend_from_slice(&[0, 0]);
        packed.extend_from_slice(&plain[10..]);
        assert_eq!(opened(&packed)[0].1, b"hello");
        for length in 0..packed.len() {
            // Wherever it ends: nothing panics.
            let _found = opened(&packed[..length]);
        }
    }

    #[test]
    fn a_bomb_ends_at_the_bound_and_so_do_many_marks() {
        let bomb = gzip(&vec![0; BYTES_MAX + 100]);
        assert!(opened(&bomb).iter().map(|(_, inside)| inside.len()).sum::<usize>() <= BYTES_MAX);
        assert_eq!(opened(&b"H4sI.".repeat(PIECES_MAX + 10)).len(), PIECES_MAX);
        let mut deep = b"core".to_vec();
        for _ in 0..DEPTH_MAX + 3 {
            deep = gzip(&deep);
        }
        let (mut room, mut levels) = (Room::default(), 0);
        down(&deep, &mut room, &mut levels);
        assert_eq!(levels, DEPTH_MAX);
    }

    #[test]
    fn base64_is_open_while_it_goes_on() {
        for (text, open) in [
            ("it says H4sIAAAA", 8),
            ("it says H4sIAA\n AA", 8),
            ("it says H4sIAAAA. And", 21),
            ("it says H4s", 8),
            ("it says H", 8),
            ("it says h", 9),
            ("", 0),
        ] {
            assert_eq!(open_from(text.as_bytes()), open, "{text}");
        }
    }
}
