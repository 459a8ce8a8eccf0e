//! Unpacks gzip and zlib for the scan: as it is, or in base64, at every place of a group of four characters, so also in
//! the middle of a text that is in base64 as a whole.
//!
//! Three bytes make the mark of gzip, and no text has them by chance. Two make that of zlib, which every text has here
//! and there: so the bytes after one are unpacked as far as they go, and hide nothing that begins within them. Raw
//! deflate has no mark at all, and is not looked for.
//!
//! Each scan has its bounds: bytes that are unpacked, or read for nothing, pieces that are opened, marks of zlib that
//! are tried, and how deep one lies in another. What lies beyond them is not found. A quick scan
//! ([`ScanBudget::quick_scan`]) has small ones and says where it reached them.

mod encoded;
mod inflate;
mod mark;

use std::ops::Range;

use self::encoded::{decode_base64, read_base64_run};
use self::inflate::{
    FIRST_BYTES, FIRST_CHARACTERS, UnpackedPiece, ZLIB_HEAD, cost_of, fills_budget, from_gzip, from_zlib,
    inflate_piece, skip_bytes,
};
use self::mark::{CompressionFormat, MARK_CHARACTERS, MagicMatch, match_magic, may_begin};

/// The most bytes that one scan unpacks, over all that it opens.
const BYTES_MAX: usize = 4 << 20;

/// The most pieces of gzip that one scan opens.
const PIECES_MAX: usize = 256;

/// The most marks of zlib that one scan tries; a text has one in some thousand characters by chance.
const TRIES_MAX: usize = 4096;

/// How many marks of zlib are tried at the end of a text that goes on. Behind more of them all is taken to go on.
const OPEN_TRIES_MAX: usize = 256;

/// The bounds of a quick scan, which takes no more than some hundred microseconds.
const QUICK_BYTES_MAX: usize = 32 << 10;
const QUICK_PIECES_MAX: usize = 32;
const QUICK_TRIES_MAX: usize = 64;

/// How deep a piece may lie in others: gzip in base64 is two.
const DEPTH_MAX: usize = 4;

/// What is left of the bounds of one scan.
#[derive(Debug)]
pub(super) struct ScanBudget {
    bytes: usize,
    pieces: usize,
    tries: usize,
    depth: usize,
    /// Whether something was not read to its end.
    is_cut: bool,
}

impl Default for ScanBudget {
    fn default() -> Self {
        Self { bytes: BYTES_MAX, pieces: PIECES_MAX, tries: TRIES_MAX, depth: DEPTH_MAX, is_cut: false }
    }
}

impl ScanBudget {
    /// The bounds of a quick scan.
    pub(super) fn quick_scan() -> Self {
        Self {
            bytes: QUICK_BYTES_MAX,
            pieces: QUICK_PIECES_MAX,
            tries: QUICK_TRIES_MAX,
            depth: DEPTH_MAX,
            is_cut: false,
        }
    }

    /// Tells whether the scan reached one of its bounds, so that there may be more.
    pub(super) fn is_spent(&self) -> bool {
        self.is_cut || self.bytes == 0 || self.pieces == 0 || self.tries == 0
    }
}

/// Who takes a piece: its place, what is inside, and what is left of the bounds.
pub(super) type Take<'a> = dyn FnMut(Range<usize>, &[u8], &mut ScanBudget) + 'a;

/// Opens the packed pieces of a text, and hands each on with its place and what is left of the bounds.
pub(super) fn open_each(text: &[u8], room: &mut ScanBudget, take: &mut Take<'_>) {
    if room.depth == 0 {
        return;
    }
    room.depth -= 1;
    open_marked(text, room, take);
    room.depth += 1;
}

/// Opens what has a mark, in the order of the text.
fn open_marked(text: &[u8], room: &mut ScanBudget, take: &mut Take<'_>) {
    let mut at = 0;
    while let Some((begin, mark)) = next(text, at, room.tries > 0) {
        if room.pieces == 0 || room.bytes == 0 {
            break;
        }
        let rest = &text[begin..];
        let piece = match (mark.kind, mark.before) {
            (CompressionFormat::Gzip, None) => from_gzip(rest, room.bytes),
            (CompressionFormat::Gzip, Some(before)) => {
                let (length, inside) = decode_base64(rest, before, room.bytes);
                let is_cut = fills_budget(&inside, room.bytes);
                UnpackedPiece { length, cost: cost_of(length, &inside), inside, is_open: false, is_cut }
            }
            (CompressionFormat::Zlib, before) => from_zlib(rest, before, room),
        };
        room.bytes -= piece.cost.min(room.bytes);
        room.is_cut |= piece.is_cut;
        match mark.kind {
            CompressionFormat::Gzip => room.pieces -= 1,
            CompressionFormat::Zlib => room.tries -= 1,
        }
        if !piece.inside.is_empty() {
            take(begin..begin + piece.length, &piece.inside, room);
        }
        // A mark that may be there by chance hides nothing after it.
        let is_certain = mark.kind == CompressionFormat::Gzip && !piece.inside.is_empty();
        at = begin + if is_certain { piece.length } else { 1 };
    }
}

/// Returns from where on the end of a text may be a piece in base64 that goes on; the text's length where it is none. A
/// text that comes in pieces holds no raw packed bytes.
pub(super) fn open_from(text: &[u8]) -> usize {
    let (mut at, mut tries, mut end) = (0, OPEN_TRIES_MAX, 0);
    while let Some((begin, mark)) = next(text, at, true) {
        at = begin + 1;
        let Some(before) = mark.before else { continue };
        let rest = &text[begin..];
        // Whatever begins in a run of base64 ends where it does: each is read once, however many marks are in it.
        if begin >= end {
            end = begin + read_base64_run(rest, 0, usize::MAX).0;
        }
        if end < text.len() {
            continue;
        }
        if mark.kind == CompressionFormat::Zlib && tries > 0 {
            tries -= 1;
            let (_, first) = decode_base64(rest, before, FIRST_CHARACTERS);
            if !inflate_piece(skip_bytes(&first, ZLIB_HEAD), FIRST_BYTES).is_open {
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
fn next(text: &[u8], from: usize, with_zlib: bool) -> Option<(usize, MagicMatch)> {
    let wanted = |mark: &MagicMatch| with_zlib || mark.kind == CompressionFormat::Gzip;
    (from..text.len()).find_map(|at| match_magic(&text[at..]).filter(wanted).map(|mark| (at, mark)))
}

#[cfg(test)]
impl ScanBudget {
    /// An empty budget: a scan that opens nothing.
    pub(super) fn empty_budget() -> Self {
        Self { bytes: 0, pieces: 0, tries: 0, depth: 0, is_cut: false }
    }
}

#[cfg(test)]
mod tests;
