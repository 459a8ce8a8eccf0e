//! Looking into what is packed. Gzip and zlib: as they are, or in base64, at whichever place of a group of four characters
//! they begin, so also in the middle of a text that is in base64 as a whole. Raw deflate: where a text begins, or a run of
//! base64 or hex in it; and there, in hex, gzip and zlib too.
//!
//! Three bytes make the mark of gzip, and no text has them by chance. Two make that of zlib, which every text has here and
//! there: so what stands behind one is unpacked as far as it goes, and hides nothing that begins within it. Raw deflate has no
//! mark at all. It is guessed: where something begins that somebody may have packed as a whole, and nowhere else. Behind other
//! bytes, or in a run of fewer than 14 characters up to its first break, it is not found. What is guessed comes last, and takes
//! no room from what has a mark.
//!
//! Each look has its bounds: bytes that are unpacked, or read for nothing, pieces that are opened, marks of zlib that are tried,
//! guesses, and how deep one lies in another. What lies beyond them is not found.

mod encoded;
mod inflate;
mod mark;

use std::ops::Range;

use dromia_contracts::vault::VALUE_BYTES_MIN;

use self::encoded::{decoded, next_run, run};
use self::inflate::{
    FIRST_BYTES, FIRST_CHARACTERS, GUESS_CHARACTERS, Piece, ZLIB_HEAD, behind, cost_of, from_guess,
    from_gzip, from_run, from_zlib, inflated,
};
use self::mark::{Kind, MARK_CHARACTERS, Mark, mark, may_begin};

/// The most bytes that one look unpacks, over all that it opens.
const BYTES_MAX: usize = 4 << 20;

/// The most pieces of gzip that one look opens.
const PIECES_MAX: usize = 256;

/// The most marks of zlib that one look tries; a text has one in some thousand characters by chance.
const TRIES_MAX: usize = 4096;

/// The most places where raw deflate is guessed in one look. Most are seen to be none after a few bytes.
const GUESSES_MAX: usize = 4096;

/// How deep a piece may lie in others: gzip in base64 is two.
const DEPTH_MAX: usize = 4;

/// What is left of the bounds of one look.
#[derive(Debug)]
pub(super) struct Room {
    bytes: usize,
    pieces: usize,
    tries: usize,
    guesses: usize,
    depth: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            bytes: BYTES_MAX,
            pieces: PIECES_MAX,
            tries: TRIES_MAX,
            guesses: GUESSES_MAX,
            depth: DEPTH_MAX,
        }
    }
}

/// Who takes a piece: its place, what is inside, and what is left of the bounds.
pub(super) type Take<'a> = dyn FnMut(Range<usize>, &[u8], &mut Room) + 'a;

/// Opens the packed pieces of a text, those with a mark first, and hands each on with its place and what is left of the bounds.
pub(super) fn each(text: &[u8], room: &mut Room, take: &mut Take<'_>) {
    if room.depth == 0 {
        return;
    }
    room.depth -= 1;
    marked(text, room, take);
    guessed(text, room, take);
    room.depth += 1;
}

/// Opens what has a mark, in the order of the text.
fn marked(text: &[u8], room: &mut Room, take: &mut Take<'_>) {
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
                Piece { length, cost: cost_of(length, &inside), inside, is_open: false }
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
}

/// Opens what may be raw deflate: the text itself, then each run of characters in it.
fn guessed(text: &[u8], room: &mut Room, take: &mut Take<'_>) {
    let (mut begin, mut coding, mut at) = (0, None, 0);
    while room.guesses > 0 && room.bytes > 0 {
        room.guesses -= 1;
        let rest = &text[begin..];
        let piece = match coding {
            None => inflated(rest, room.bytes),
            Some(coding) => from_run(rest, coding, room),
        };
        room.bytes -= piece.cost.min(room.bytes);
        // What comes of other texts by chance is mostly shorter than a value.
        if piece.inside.len() >= VALUE_BYTES_MIN {
            take(begin..begin + piece.length, &piece.inside, room);
        }
        let Some((place, known)) = next_run(text, at) else { break };
        (begin, coding, at) = (place.start, Some(known), place.end);
    }
}

/// Says from where on the end of a text may be a piece in base64 or hex that goes on; the text's length where it is none. What
/// is packed stands as it is in no text that comes in pieces.
///
/// Raw deflate is held back from the first characters on by which a run is known: where fewer came, and nothing else held them
/// back, they are told, and it is not found with what follows.
pub(super) fn open_from(text: &[u8]) -> usize {
    guess_open_from(text).min(marked_open_from(text))
}

fn guess_open_from(text: &[u8]) -> usize {
    let (mut at, mut guesses, mut end) = (0, GUESSES_MAX, 0);
    while let Some((place, coding)) = next_run(text, at).filter(|_| guesses > 0) {
        at = place.end;
        let rest = &text[place.start..];
        // As with marks: each run is read once.
        if place.start >= end {
            end = place.start + run(rest, 0, usize::MAX).0;
        }
        if end < text.len() {
            continue;
        }
        guesses -= 1;
        let goes_on = |most: usize| {
            let (length, packed) = coding.decoded(rest, most);
            let is_all = length == rest.len() || packed.len() == coding.bytes(most);
            is_all && from_guess(&packed, coding, FIRST_BYTES).is_open
        };
        if goes_on(GUESS_CHARACTERS) && goes_on(FIRST_CHARACTERS) {
            return place.start;
        }
    }
    text.len()
}

fn marked_open_from(text: &[u8]) -> usize {
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
        Self { bytes: 0, pieces: 0, tries: 0, guesses: 0, depth: 0 }
    }
}

#[cfg(test)]
mod tests;
