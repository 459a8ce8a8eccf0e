//! Looking into what is packed with gzip or zlib: as it is, or in base64, at whichever place of a group of four characters it
//! begins, so also in the middle of a text that is in base64 as a whole.
//!
//! Three bytes make the mark of gzip, and no text has them by chance. Two make that of zlib, which every text has here and
//! there: so what stands behind one is unpacked as far as it goes, and hides nothing that begins within it. Raw deflate has no
//! mark at all and is not looked for.
//!
//! Each look has its bounds: bytes that are unpacked, or read for nothing, pieces that are opened, marks of zlib that are tried,
//! and how deep one lies in another. What lies beyond them is not found.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// The most bytes that one look unpacks, over all that it opens.
const BYTES_MAX: usize = 4 << 20;

/// The most pieces of gzip that one look opens.
const PIECES_MAX: usize = 256;

/// The most marks of zlib that one look tries; a text has one in some thousand characters by chance.
const TRIES_MAX: usize = 4096;

/// How deep a piece may lie in others: gzip in base64 is two.
const DEPTH_MAX: usize = 4;

/// How gzip begins: its mark, and the one method there is.
const GZIP: [u8; 3] = [0x1f, 0x8b, 0x08];

/// How zlib mostly begins: a window of 32 KiB, and one of four levels.
const ZLIB: [[u8; 2]; 4] = [[0x78, 0x01], [0x78, 0x5e], [0x78, 0x9c], [0x78, 0xda]];

/// Bytes before what zlib packs, where it names no dictionary.
const ZLIB_HEAD: usize = 2;

/// How many characters of base64 tell whether something may begin there.
const MARK_CHARACTERS: usize = 5;

/// How many characters behind a mark of zlib are read first: what is there by chance seldom goes so far.
const FIRST_CHARACTERS: usize = 2048;

/// How many bytes are made ready for what is unpacked; more, if there is more.
const FIRST_BYTES: usize = 4 << 10;

/// What a byte that is read beyond twice as many as come of it costs of the bytes of a look. Honest packing makes texts
/// shorter; blocks of nothing, which may follow one another for ever, take longer to read than what is in a block.
const BARREN_COST: usize = 32;

/// How many such bytes are free: the head of a block, or what looks like one by chance.
const BARREN_FREE: usize = 64;

/// How many may be read in any case; no head of a block is longer.
const BARREN_MIN: usize = 512;

/// What is left of the bounds of one look.
#[derive(Debug)]
pub(super) struct Room {
    bytes: usize,
    pieces: usize,
    tries: usize,
    depth: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { bytes: BYTES_MAX, pieces: PIECES_MAX, tries: TRIES_MAX, depth: DEPTH_MAX }
    }
}

/// Who takes a piece: its place, what is inside, and what is left of the bounds.
pub(super) type Take<'a> = dyn FnMut(Range<usize>, &[u8], &mut Room) + 'a;

/// What may begin somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    kind: Kind,
    /// In base64: how many bytes of its first group of characters come before it.
    before: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gzip,
    Zlib,
}

/// What was opened.
#[derive(Debug)]
struct Piece {
    /// Its bytes in the text.
    length: usize,
    inside: Vec<u8>,
    /// What of the bytes of a look it took to open it.
    cost: usize,
    /// Whether more of it may come behind the end.
    is_open: bool,
}

/// Opens the packed pieces of a text in their order, and hands each on with its place and what is left of the bounds.
pub(super) fn each(text: &[u8], room: &mut Room, take: &mut Take<'_>) {
    if room.depth == 0 {
        return;
    }
    room.depth -= 1;
    let mut at = 0;
    while let Some((begin, mark)) = next(text, at, room.tries > 0) {
        if room.pieces == 0 || room.bytes == 0 {
            break;
        }
        let rest = &text[begin..];
        let piece = match (mark.kind, mark.before) {
            (Kind::Gzip, None) => from_gzip(rest, room.bytes),
            (Kind::Gzip, Some(before)) => {
                let (length, inside) = decoded(rest, before, room.bytes);
                Piece { length, cost: inside.len(), inside, is_open: false }
            }
            (Kind::Zlib, before) => from_zlib(rest, before, room),
        };
        room.bytes -= piece.cost.min(room.bytes);
        match mark.kind {
            Kind::Gzip => room.pieces -= 1,
            Kind::Zlib => room.tries -= 1,
        }
        if !piece.inside.is_empty() {
            take(begin..begin + piece.length, &piece.inside, room);
        }
        // What may be there by chance hides nothing behind it.
        let is_certain = mark.kind == Kind::Gzip && !piece.inside.is_empty();
        at = begin + if is_certain { piece.length } else { 1 };
    }
    room.depth += 1;
}

/// Says from where on the end of a text may be a piece in base64 that goes on; the text's length where it is none. What is
/// packed stands as it is in no text that comes in pieces.
pub(super) fn open_from(text: &[u8]) -> usize {
    let (mut at, mut tries, mut end) = (0, TRIES_MAX, 0);
    while let Some((begin, mark)) = next(text, at, tries > 0) {
        at = begin + 1;
        let Some(before) = mark.before else { continue };
        let rest = &text[begin..];
        // Whatever begins in a run of base64 ends where it does: each is read once, however many marks are in it.
        if begin >= end {
            end = begin + run(rest, 0, usize::MAX).0;
        }
        if end < text.len() {
            continue;
        }
        if mark.kind == Kind::Zlib {
            tries -= 1;
            let (_, first) = decoded(rest, before, FIRST_CHARACTERS);
            if !inflated(behind(&first, ZLIB_HEAD), FIRST_BYTES).is_open {
                continue;
            }
        }
        return begin;
    }
    let most = MARK_CHARACTERS.min(text.len() + 1);
    let beginning = (1..most).rev().find(|length| may_begin(&text[text.len() - length..]));
    text.len() - beginning.unwrap_or(0)
}

/// Finds the next mark from a place on, also of zlib where that is wanted.
fn next(text: &[u8], from: usize, with_zlib: bool) -> Option<(usize, Mark)> {
    let wanted = |mark: &Mark| with_zlib || mark.kind == Kind::Gzip;
    (from..text.len()).find_map(|at| mark(&text[at..]).filter(wanted).map(|mark| (at, mark)))
}

/// Tells what may begin with a text.
fn mark(text: &[u8]) -> Option<Mark> {
    let kind = |bytes: [u8; 3]| match bytes {
        GZIP => Some(Kind::Gzip),
        [first, second, third] => is_zlib(first, second, third).then_some(Kind::Zlib),
    };
    if let Some(kind) = text.first_chunk::<3>().copied().and_then(kind) {
        return Some(Mark { kind, before: None });
    }
    let bits = bits(text.get(..MARK_CHARACTERS)?)?;
    (0..3).find_map(|before| {
        let [first, second, third, _] = (bits << (2 * before)).to_be_bytes();
        kind([first, second, third]).map(|kind| Mark { kind, before: Some(before) })
    })
}

/// Tells whether two bytes are the head of zlib without a dictionary, and the third may begin a block.
fn is_zlib(method: u8, flags: u8, block: u8) -> bool {
    method & 0x0f == 8
        && (method >> 4) <= 7
        && flags & 0x20 == 0
        && u16::from_be_bytes([method, flags]).is_multiple_of(31)
        && (block >> 1) & 3 != 3
}

/// Tells whether so few characters of base64 may be the beginning of a mark.
fn may_begin(text: &[u8]) -> bool {
    let Some(bits) = bits(text) else { return false };
    let begins = |mark: &[u8], before: usize| {
        let known = (6 * text.len() - 2 * before).min(8 * mark.len());
        let mark = mark.iter().rev().fold(0, |bits: u32, byte| (bits >> 8) | (u32::from(*byte) << 24));
        ((bits << (2 * before)) ^ mark) >> (32 - known) == 0
    };
    (0..3).any(|before| begins(&GZIP[..], before) || ZLIB.iter().any(|mark| begins(&mark[..], before)))
}

/// Reads up to five characters of base64 as bits, the first of which is the highest.
fn bits(text: &[u8]) -> Option<u32> {
    let mut bits = 0;
    for (place, byte) in text.iter().enumerate() {
        let value = match *byte {
            byte @ b'A'..=b'Z' => byte - b'A',
            byte @ b'a'..=b'z' => byte - b'a' + 26,
            byte @ b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits |= u32::from(value) << (26 - 6 * place);
    }
    Some(bits)
}

/// Reads base64 up to what is none, over line breaks and what JSON writes for them. Returns how long it is in the text, and
/// its characters, so many at most, behind those that stand for what comes before it.
fn run(text: &[u8], before: usize, most: usize) -> (usize, Vec<u8>) {
    let (mut at, mut characters) = (0, vec![b'A'; before]);
    while let Some(byte) = text.get(at).filter(|_| characters.len() < most) {
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

/// Reads base64 of which so many bytes of the first group come before. Returns how long it is in the text, and what is in it.
fn decoded(text: &[u8], before: usize, most: usize) -> (usize, Vec<u8>) {
    let (length, mut characters) = run(text, before, most);
    // Whole groups only: what is cut off are two bytes behind the end of what is packed.
    characters.truncate(characters.len() / 4 * 4);
    let mut bytes = STANDARD_NO_PAD.decode(&characters).unwrap_or_default();
    bytes.drain(..before.min(bytes.len()));
    (length, bytes)
}

/// Opens gzip, also where its end is missing.
fn from_gzip(text: &[u8], bytes_max: usize) -> Piece {
    let Some(begin) = behind_head(text) else {
        return Piece { length: 0, inside: Vec::new(), cost: 0, is_open: false };
    };
    let piece = inflated(&text[begin..], bytes_max);
    Piece { length: begin + piece.length, ..piece }
}

/// Opens zlib, also where its end is missing.
fn from_zlib(text: &[u8], before: Option<usize>, room: &mut Room) -> Piece {
    let Some(before) = before else {
        let piece = inflated(behind(text, ZLIB_HEAD), room.bytes);
        return Piece { length: ZLIB_HEAD + piece.length, ..piece };
    };
    let (length, first) = decoded(text, before, FIRST_CHARACTERS);
    let piece = inflated(behind(&first, ZLIB_HEAD), room.bytes);
    if !piece.is_open {
        return Piece { length, ..piece };
    }
    let (length, whole) = decoded(text, before, room.bytes);
    room.bytes -= whole.len().min(room.bytes);
    Piece { length, ..inflated(behind(&whole, ZLIB_HEAD), room.bytes) }
}

/// What stands behind so many bytes.
fn behind(bytes: &[u8], count: usize) -> &[u8] {
    bytes.get(count..).unwrap_or_default()
}

/// Unpacks what follows a head, as far as it goes, or until too much was read of which nothing came.
fn inflated(packed: &[u8], bytes_max: usize) -> Piece {
    let mut state = Box::<DecompressorOxide>::default();
    let mut inside = vec![0; FIRST_BYTES.min(bytes_max)];
    let (mut read, mut written) = (0, 0);
    let end = loop {
        let barren = BARREN_FREE + BARREN_MIN.max(bytes_max / BARREN_COST);
        let upto = packed.len().min(2 * written + barren);
        let more = if upto < packed.len() { TINFL_FLAG_HAS_MORE_INPUT } else { 0 };
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | more;
        let (status, took, gave) = decompress(&mut state, &packed[read..upto], &mut inside, written, flags);
        read += took;
        written += gave;
        match status {
            TINFLStatus::HasMoreOutput if inside.len() < bytes_max => {
                inside.resize(inside.len().saturating_mul(2).min(bytes_max), 0);
            }
            // More may be read now, because something came of it.
            TINFLStatus::NeedsMoreInput if gave > 0 => {}
            status => break status,
        }
    };
    inside.truncate(written);
    let is_open = matches!(end, TINFLStatus::FailedCannotMakeProgress | TINFLStatus::HasMoreOutput);
    let barren = read.saturating_sub(2 * written + BARREN_FREE);
    Piece { length: read, cost: written + barren.saturating_mul(BARREN_COST), inside, is_open }
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
impl Room {
    /// No room at all: a look that opens nothing.
    pub(super) fn closed() -> Self {
        Self { bytes: 0, pieces: 0, tries: 0, depth: 0 }
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use miniz_oxide::deflate::compress_to_vec;

    use super::super::tests::{gzip, zlib};
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
        assert_eq!(opened(&b"H4sIA.".repeat(PIECES_MAX + 10)).len(), PIECES_MAX);
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
            ("it says H4sIAAAA. And!", 22),
            ("it says H4s", 8),
            ("it says H", 8),
            ("it says y", 9),
            ("it says eJwr", 8),
            ("it says eJ", 8),
            ("it says teJ", 9),
            ("", 0),
        ] {
            assert_eq!(open_from(text.as_bytes()), open, "{text}");
        }
    }

    /// Read once for each mark, this would take hours.
    #[test]
    fn a_run_with_many_marks_that_broke_off_is_read_once() {
        for mark in ["H4sIA", "eJwrA"] {
            let text = format!("{}!", mark.repeat(400_000));
            assert_eq!(open_from(text.as_bytes()), text.len(), "{mark}");
        }
    }

    #[test]
    fn zlib_is_opened_as_it_is_and_wherever_in_base64_it_begins() {
        let text = b"hello hello hello".repeat(400);
        let packed = zlib(&text);
        let raw = [&b"before "[..], &packed[..], b" behind"].concat();
        let found = opened(&raw);
        assert_eq!((found[0].0.start, &found[0].1), (7, &text));
        assert!(found[0].0.end <= 7 + packed.len(), "{:?}", found[0].0);
        assert_eq!(opened(&packed[..packed.len() - 4])[0].1, text, "without its sum");
        for before in ["", "u", "us", "use", "user: "] {
            for packed in [zlib(&text), gzip(&text)] {
                let encoded = STANDARD.encode([before.as_bytes(), &packed[..], b" and more"].concat());
                let mut found = Vec::new();
                each(encoded.as_bytes(), &mut Room::default(), &mut |_, inside, room| {
                    found.push(inside.to_vec());
                    each(inside, room, &mut |_, inside, _| found.push(inside.to_vec()));
                });
                assert!(found.contains(&text), "behind {before:?}");
            }
        }
        let deflated = compress_to_vec(&text, 6);
        assert!(opened(&deflated).iter().all(|(_, inside)| *inside != text), "raw deflate has no mark");
    }

    #[test]
    fn every_head_of_zlib_is_one_and_nothing_else_is() {
        let heads = (0..=u8::MAX).flat_map(|first| (0..=u8::MAX).map(move |second| (first, second)));
        let heads: Vec<_> = heads.filter(|(first, second)| is_zlib(*first, *second, 0)).collect();
        // Eight windows, each with four levels.
        assert_eq!(heads.len(), 32);
        assert!(ZLIB.iter().all(|[first, second]| heads.contains(&(*first, *second))));
        assert!(!is_zlib(0x78, 0x9c, 6) && !is_zlib(0x78, 0xbb, 0), "no such block, and a dictionary");
    }

    #[test]
    fn what_looks_like_zlib_hides_nothing_and_takes_nothing_away() {
        let text = b"hello hello hello".repeat(20);
        // Marks by chance, before gzip and in one run of base64 with it.
        for chance in [&b"eJwrAAAA "[..], b"eJxyz ", b"\x78\x9c\x01", b"hC x^ "] {
            let decoys = chance.repeat(TRIES_MAX + 10);
            let hidden = [&decoys[..], STANDARD.encode(gzip(&text)).as_bytes()].concat();
            let found = opened(&hidden);
            assert!(found.iter().any(|(_, inside)| inside.starts_with(&GZIP)), "{chance:?}");
        }
        let few = [&b"eJwrAAAA eJxyz "[..], STANDARD.encode(zlib(&text)).as_bytes()].concat();
        assert!(opened(&few).iter().any(|(_, inside)| *inside == text));
    }

    #[test]
    fn a_bomb_of_zlib_ends_at_the_bound_as_it_is_and_in_base64() {
        let bomb = zlib(&vec![0; BYTES_MAX + 100]);
        for bomb in [bomb.clone(), STANDARD.encode(&bomb).into_bytes(), bomb.repeat(8)] {
            let (mut room, mut unpacked) = (Room::default(), 0);
            each(&bomb, &mut room, &mut |_, inside, _| unpacked += inside.len());
            assert!((1..=BYTES_MAX).contains(&unpacked), "{unpacked}");
        }
        let mut room = Room::default();
        each(&b"eJwrAAAA.".repeat(TRIES_MAX + 10), &mut room, &mut |_, _, _| {});
        assert_eq!((room.tries, room.depth), (0, DEPTH_MAX));
    }

    /// Two thousand marks, each in a block that ends before the next one, so that what follows is behind each of them: a MiB of
    /// blocks with nothing in them. Read to the end for each mark, this would take hours.
    #[test]
    fn blocks_of_nothing_are_read_in_bounds() {
        let mut text = ZLIB[0].to_vec();
        for _ in 0..2000 {
            text.extend_from_slice(&[0, 2, 0, 0xfd, 0xff]);
            text.extend_from_slice(&ZLIB[0]);
        }
        // Four of them have ten bits each.
        text.extend_from_slice(&[0x02_u8, 0x08, 0x20, 0x80, 0x00].repeat(200_000));
        let piece = inflated(behind(&text, ZLIB_HEAD), BYTES_MAX);
        assert_eq!(piece.inside, ZLIB[0].repeat(2000), "all that is in it is found");
        let most = 2 * piece.inside.len() + BARREN_FREE + BYTES_MAX / BARREN_COST;
        assert!(piece.length <= most && !piece.is_open, "{} bytes were read", piece.length);
        let mut room = Room::default();
        each(&text, &mut room, &mut |_, _, _| {});
        assert_eq!(room.bytes, 0);
    }

    #[test]
    fn zlib_in_base64_is_open_until_it_ends_or_is_none() {
        let packed = STANDARD.encode(zlib(&b"hello hello hello, and so on. ".repeat(9)));
        let told = format!("it says {}", &packed[..packed.len() - 12]);
        assert_eq!(open_from(told.as_bytes()), 8);
        assert_eq!(open_from(format!("{told}. And!").as_bytes()), told.len() + 6, "it broke off");
        let chance = format!("it says {}", "eJxyz ".repeat(20));
        assert!(open_from(chance.as_bytes()) > 8, "what is no zlib is not held back");
    }
}
