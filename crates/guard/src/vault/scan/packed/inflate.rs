//! Opens one piece of gzip or zlib, also where its end is missing. What it costs is counted, and it reads no further
//! than something comes of it; the scan that opens it checks its cost against the budget.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::ScanBudget;
use super::encoded::decode_base64;

/// Bytes before what zlib packs, where it names no dictionary.
pub(super) const ZLIB_HEAD: usize = 2;

/// How many characters behind a mark of zlib are read first: what is there by chance seldom goes so far.
pub(super) const FIRST_CHARACTERS: usize = 2048;

/// How many bytes are made ready for what is unpacked; more, if there is more.
pub(super) const FIRST_BYTES: usize = 4 << 10;

/// The cost, in bytes of a scan's budget, of a byte read beyond twice as many as come of it. Honest packing makes texts
/// shorter; blocks of nothing, which may follow one another for ever, take longer to read than what is in a block.
const BARREN_COST: usize = 32;

/// How many such bytes are free: the head of a block, or what looks like one by chance.
const BARREN_FREE: usize = 64;

/// How many may be read in any case; no head of a block is longer.
const BARREN_MIN: usize = 512;

/// What was opened.
#[derive(Debug)]
pub(super) struct UnpackedPiece {
    /// Its bytes in the text.
    pub(super) length: usize,
    pub(super) inside: Vec<u8>,
    /// The part of a scan's bytes that opening it took.
    pub(super) cost: usize,
    /// Whether more of it may come behind the end.
    pub(super) is_open: bool,
    /// Whether a scan with a larger budget would have read on.
    pub(super) is_cut: bool,
}

/// Opens gzip, also where its end is missing.
pub(super) fn from_gzip(text: &[u8], bytes_max: usize) -> UnpackedPiece {
    let Some(begin) = behind_head(text) else {
        return UnpackedPiece { length: 0, inside: Vec::new(), cost: 0, is_open: false, is_cut: false };
    };
    let piece = inflate_piece(&text[begin..], bytes_max);
    UnpackedPiece { length: begin + piece.length, ..piece }
}

/// Opens zlib, also where its end is missing.
pub(super) fn from_zlib(text: &[u8], before: Option<usize>, room: &mut ScanBudget) -> UnpackedPiece {
    let Some(before) = before else {
        let piece = inflate_piece(skip_bytes(text, ZLIB_HEAD), room.bytes);
        return UnpackedPiece { length: ZLIB_HEAD + piece.length, ..piece };
    };
    let (length, first) = decode_base64(text, before, FIRST_CHARACTERS);
    let piece = inflate_piece(skip_bytes(&first, ZLIB_HEAD), room.bytes);
    if !piece.is_open {
        return UnpackedPiece { length, ..piece };
    }
    let (length, whole) = decode_base64(text, before, room.bytes);
    let is_cut = fills_budget(&whole, room.bytes);
    room.bytes -= cost_of(length, &whole).min(room.bytes);
    let piece = inflate_piece(skip_bytes(&whole, ZLIB_HEAD), room.bytes);
    UnpackedPiece { length, is_cut: is_cut || piece.is_cut, ..piece }
}

/// Returns how many of a scan's bytes it costs to read so much of a text for so many packed bytes: blanks are read,
/// too.
pub(super) fn cost_of(length: usize, packed: &[u8]) -> usize {
    packed.len().max(length / 2)
}

/// Tells whether the decoded bytes are all that so many characters hold, so that more may follow.
pub(super) fn fills_budget(decoded: &[u8], most: usize) -> bool {
    decoded.len() + 3 >= most / 4 * 3
}

/// Returns what follows the first `count` bytes.
pub(super) fn skip_bytes(bytes: &[u8], count: usize) -> &[u8] {
    bytes.get(count..).unwrap_or_default()
}

/// Unpacks what follows a head, as far as it goes, or until too much was read of which nothing came.
pub(super) fn inflate_piece(packed: &[u8], bytes_max: usize) -> UnpackedPiece {
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
    let is_cut = matches!(end, TINFLStatus::NeedsMoreInput | TINFLStatus::HasMoreOutput);
    let barren = read.saturating_sub(2 * written + BARREN_FREE);
    UnpackedPiece {
        length: read,
        cost: written + barren.saturating_mul(BARREN_COST),
        inside,
        is_open,
        is_cut,
    }
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
    use super::super::mark::ZLIB;
    use super::super::{BYTES_MAX, open_each};
    use super::*;

    #[test]
    fn reading_costs_what_is_in_it_and_the_blanks_between() {
        assert_eq!([cost_of(1001, &[0; 10]), cost_of(16, &[0; 12])], [500, 12]);
        assert_eq!([1532, 1533].map(|length| fills_budget(&vec![0; length], 2048)), [false, true]);
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
        let piece = inflate_piece(skip_bytes(&text, ZLIB_HEAD), BYTES_MAX);
        assert_eq!(piece.inside, ZLIB[0].repeat(2000), "all that is in it is found");
        let most = 2 * piece.inside.len() + BARREN_FREE + BYTES_MAX / BARREN_COST;
        assert!(piece.length <= most && !piece.is_open, "{} bytes were read", piece.length);
        let mut room = ScanBudget::default();
        open_each(&text, &mut room, &mut |_, _, _| {});
        assert_eq!(room.bytes, 0);
    }
}
