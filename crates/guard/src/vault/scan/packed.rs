//! Looking into what is packed with gzip or zlib: as it is, or in base64, at whichever place of a group of four characters it
//! begins, so also in the middle of a text that is in base64 as a whole.
//!
//! Three bytes make the mark of gzip, and no text has them by chance. Two make that of zlib, which every text has here and
//! there: so what stands behind one is unpacked as far as it goes, and hides nothing that begins within it. Raw deflate has no
//! mark at all and is not looked for.
//!
//! Each look has its bounds: bytes that are unpacked, or read for nothing, pieces that are opened, marks of zlib that are tried,
//! and how deep one lies in another. What lies beyond them is not found.

mod encoded;
mod inflate;
mod mark;

use std::ops::Range;

use self::encoded::{decoded, run};
use self::inflate::{
    FIRST_BYTES, FIRST_CHARACTERS, Piece, ZLIB_HEAD, behind, from_gzip, from_zlib, inflated,
};
use self::mark::{Kind, MARK_CHARACTERS, Mark, mark, may_begin};

/// The most bytes that one look unpacks, over all that it opens.
const BYTES_MAX: usize = 4 << 20;

/// The most pieces of gzip that one look opens.
const PIECES_MAX: usize = 256;

/// The most marks of zlib that one look tries; a text has one in some thousand characters by chance.
const TRIES_MAX: usize = 4096;

/// How deep a piece may lie in others: gzip in base64 is two.
const DEPTH_MAX: usize = 4;

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

#[cfg(test)]
impl Room {
    /// No room at all: a look that opens nothing.
    pub(super) fn closed() -> Self {
        Self { bytes: 0, pieces: 0, tries: 0, depth: 0 }
    }
}

#[cfg(test)]
mod tests;
