//! Tells by the first bytes, or the first characters of base64, whether gzip or zlib may begin at a place. It opens nothing.

use super::encoded::base64_bits;

/// How gzip begins: its mark, and the one method there is.
pub(super) const GZIP: [u8; 3] = [0x1f, 0x8b, 0x08];

/// How zlib mostly begins: a window of 32 KiB, and one of four levels.
pub(super) const ZLIB: [[u8; 2]; 4] = [[0x78, 0x01], [0x78, 0x5e], [0x78, 0x9c], [0x78, 0xda]];

/// How many characters of base64 tell whether something may begin there.
pub(super) const MARK_CHARACTERS: usize = 5;

/// What may begin somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MagicMatch {
    pub(super) kind: CompressionFormat,
    /// In base64: how many bytes of its first group of characters come before it.
    pub(super) before: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompressionFormat {
    Gzip,
    Zlib,
}

/// Tells what may begin with a text.
pub(super) fn match_magic(text: &[u8]) -> Option<MagicMatch> {
    let kind = |bytes: [u8; 3]| match bytes {
        GZIP => Some(CompressionFormat::Gzip),
        [first, second, third] => is_zlib(first, second, third).then_some(CompressionFormat::Zlib),
    };
    if let Some(kind) = text.first_chunk::<3>().copied().and_then(kind) {
        return Some(MagicMatch { kind, before: None });
    }
    let bits = base64_bits(text.get(..MARK_CHARACTERS)?)?;
    (0..3).find_map(|before| {
        let [first, second, third, _] = (bits << (2 * before)).to_be_bytes();
        kind([first, second, third]).map(|kind| MagicMatch { kind, before: Some(before) })
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
pub(super) fn may_begin(text: &[u8]) -> bool {
    let Some(bits) = base64_bits(text) else { return false };
    let begins = |mark: &[u8], before: usize| {
        let known = (6 * text.len() - 2 * before).min(8 * mark.len());
        let mark = mark.iter().rev().fold(0, |bits: u32, byte| (bits >> 8) | (u32::from(*byte) << 24));
        ((bits << (2 * before)) ^ mark) >> (32 - known) == 0
    };
    (0..3).any(|before| begins(&GZIP[..], before) || ZLIB.iter().any(|mark| begins(&mark[..], before)))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn few_characters_may_begin_what_some_mark_begins_with() {
        let mut begun = std::collections::BTreeSet::new();
        for mark in [&GZIP[..]].into_iter().chain(ZLIB.iter().map(|mark| &mark[..])) {
            for (before, beside) in
                (0..3).flat_map(|before| (0..4096).map(move |beside: u32| (before, beside)))
            {
                // What comes before it ends with these bits, and what comes behind begins with those.
                let [_, _, first, behind] = (beside << 4).to_be_bytes();
                let whole = [&[first >> 4; 2][..before], mark, &[behind, behind]].concat();
                let text = STANDARD.encode(&whole).into_bytes();
                begun.extend((1..4).map(|length| text[before..before + length].to_vec()));
            }
        }
        let signs = (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(*b"+/");
        let signs: Vec<_> = signs.map(|sign| vec![sign]).collect();
        let mut texts = signs.clone();
        for _ in 0..3 {
            let other = texts.iter().find(|text| may_begin(text) != begun.contains(*text));
            assert_eq!(other.map(|text| String::from_utf8_lossy(text)), None);
            let longer =
                |text: &Vec<u8>| signs.iter().map(|sign| [&text[..], sign].concat()).collect::<Vec<_>>();
            texts = texts.iter().flat_map(longer).collect();
        }
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
}
