//! Base64 and hex that stand in a text: a run is read as far as it goes, over line breaks, base64 at whichever place of a
//! group of four characters it begins. What is in it is another's to say.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// The fewest characters with which a run begins that is opened without a mark: the shortest value, packed alone, has ten
/// bytes.
const UNBROKEN_MIN: usize = 14;

/// How many blanks there may be in a run beside one for each character: a line break in each line, and what indents it.
const BLANKS_FREE: usize = 256;

/// How characters stand for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Base64,
    Hex,
}

impl Coding {
    /// Reads what begins with a text. Returns how long it is in the text, and what so many characters of it are at most.
    pub(super) fn decoded(self, text: &[u8], most: usize) -> (usize, Vec<u8>) {
        match self {
            Self::Base64 => decoded(text, 0, most),
            Self::Hex => {
                let (length, digits) =
                    read(text, Vec::new(), most, |byte| byte.is_ascii_hexdigit().then_some(byte));
                let value =
                    |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
                let byte = |pair: &[u8]| Some((value(*pair.first()?)? << 4) | value(*pair.get(1)?)?);
                (length, digits.chunks_exact(2).filter_map(byte).collect())
            }
        }
    }

    /// How many bytes so many characters are.
    pub(super) fn bytes(self, characters: usize) -> usize {
        match self {
            Self::Base64 => characters / 4 * 3,
            Self::Hex => characters / 2,
        }
    }
}

/// Finds the next characters that may begin a run, from a place on that lies in none: those up to the first break.
pub(super) fn next_run(text: &[u8], from: usize) -> Option<(Range<usize>, Coding)> {
    let mut at = from;
    while at < text.len() {
        let length = text[at..].iter().position(|byte| character(*byte).is_none()).unwrap_or(text.len() - at);
        if length >= UNBROKEN_MIN {
            let is_hex = text[at..at + length].iter().all(u8::is_ascii_hexdigit);
            return Some((at..at + length, if is_hex { Coding::Hex } else { Coding::Base64 }));
        }
        at += length;
        // The letter of a line break that JSON wrote is none of a run.
        at += if is_written_break(&text[at..]) { 2 } else { 1 };
    }
    None
}

/// Reads up to five characters of base64 as bits, the first of which is the highest.
pub(super) fn bits(text: &[u8]) -> Option<u32> {
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
pub(super) fn run(text: &[u8], before: usize, most: usize) -> (usize, Vec<u8>) {
    read(text, vec![b'A'; before], most, character)
}

/// Reads characters up to what is none, over line breaks and what JSON writes for them, behind those that are there. Where only
/// some are wanted, so are the blanks between them: they are read for nothing.
fn read(
    text: &[u8],
    mut characters: Vec<u8>,
    most: usize,
    character: impl Fn(u8) -> Option<u8>,
) -> (usize, Vec<u8>) {
    let mut at = 0;
    let upto = most.saturating_mul(2).saturating_add(BLANKS_FREE);
    while let Some(byte) = text.get(at).filter(|_| characters.len() < most && at < upto) {
        match (*byte, character(*byte)) {
            (_, Some(character)) => characters.push(character),
            (b'\\', None) if is_written_break(&text[at..]) => at += 1,
            (b'\\' | b' ' | b'\t' | b'\r' | b'\n', None) => {}
            (_, None) => break,
        }
        at += 1;
    }
    (at, characters)
}

/// Tells which character of base64 a byte is.
fn character(byte: u8) -> Option<u8> {
    match byte {
        b'-' => Some(b'+'),
        b'_' => Some(b'/'),
        byte if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/') => Some(byte),
        _ => None,
    }
}

/// Tells whether a text begins with what JSON writes for a line break or a tab.
fn is_written_break(text: &[u8]) -> bool {
    matches!(text, [b'\\', b'n' | b'r' | b't', ..])
}

/// Reads base64 of which so many bytes of the first group come before. Returns how long it is in the text, and what is in it.
pub(super) fn decoded(text: &[u8], before: usize, most: usize) -> (usize, Vec<u8>) {
    let (length, characters) = run(text, before, most);
    let (whole, rest) = characters.split_at(characters.len() / 4 * 4);
    let mut bytes = STANDARD_NO_PAD.decode(whole).unwrap_or_default();
    // The last group may be a part of one, and raw deflate has nothing behind its end that may be cut off.
    if let Some(bits) = bits(rest) {
        bytes.extend_from_slice(&bits.to_be_bytes()[..rest.len().saturating_sub(1)]);
    }
    bytes.drain(..before.min(bytes.len()));
    (length, bytes)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::super::super::in_hex;
    use super::*;

    #[test]
    fn what_is_encoded_is_read_to_its_last_byte_and_over_breaks() {
        for length in 0..40 {
            let bytes: Vec<u8> = (0..length).map(|byte| byte * 6).collect();
            for encoded in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
                let told = format!("{encoded}. And");
                assert_eq!(Coding::Base64.decoded(told.as_bytes(), 4096), (encoded.len(), bytes.clone()));
            }
            let hex = in_hex(&bytes);
            for encoded in [hex.to_uppercase(), hex] {
                let told = format!("{encoded}. And");
                assert_eq!(Coding::Hex.decoded(told.as_bytes(), 4096), (encoded.len(), bytes.clone()));
            }
        }
        assert_eq!(Coding::Hex.decoded(b"61\\n62\n63 z", 4096), (10, b"abc".to_vec()));
        assert_eq!(Coding::Hex.decoded(b"616", 4096), (3, b"a".to_vec()));
        assert_eq!(Coding::Hex.decoded(b"616263", 4), (4, b"ab".to_vec()));
    }

    #[test]
    fn blanks_in_a_run_are_read_in_bounds() {
        let sparse = format!("abcd{}", " ".repeat(50)).repeat(2000);
        for (coding, most) in [(Coding::Base64, 128), (Coding::Base64, 2048), (Coding::Hex, 2048)] {
            let (length, bytes) = coding.decoded(sparse.as_bytes(), most);
            assert!(length <= 2 * most + BLANKS_FREE, "{length}");
            assert!((1..coding.bytes(most)).contains(&bytes.len()), "{}", bytes.len());
        }
        let (length, characters) = run(sparse.as_bytes(), 0, usize::MAX);
        assert_eq!((length, characters.len()), (sparse.len(), 4 * 2000));
        let indented = format!("\n{}{}", " ".repeat(8), "abcd".repeat(15)).repeat(100);
        assert_eq!(Coding::Base64.decoded(indented.as_bytes(), 2048).1.len(), Coding::Base64.bytes(2048));
    }

    #[test]
    fn a_run_begins_behind_what_is_none() {
        let found = |text: &str| {
            let found = next_run(text.as_bytes(), 0);
            found.map(|(place, coding)| (text[place].to_owned(), coding))
        };
        let (base64, hex) = ("u8dLzEtJLUpMycE_", "abcdef0123456789");
        for text in ["it says ", "{\"body\":\"", "line\\n", "line\n", "key=", ""] {
            assert_eq!(
                found(&format!("{text}{base64} and")),
                Some((base64.to_owned(), Coding::Base64)),
                "{text}"
            );
            assert_eq!(found(&format!("{text}{hex}.")), Some((hex.to_owned(), Coding::Hex)), "{text}");
        }
        for text in ["", "these words are short ones", "u8dLzEtJLUpMy", "\\n", "\\"] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
