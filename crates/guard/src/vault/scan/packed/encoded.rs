//! Base64 that stands in a text: it is read as far as it goes, over line breaks, at whichever place of a group of four
//! characters it begins. What is in it is another's to say.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

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
pub(super) fn decoded(text: &[u8], before: usize, most: usize) -> (usize, Vec<u8>) {
    let (length, mut characters) = run(text, before, most);
    // Whole groups only: what is cut off are two bytes behind the end of what is packed.
    characters.truncate(characters.len() / 4 * 4);
    let mut bytes = STANDARD_NO_PAD.decode(&characters).unwrap_or_default();
    bytes.drain(..before.min(bytes.len()));
    (length, bytes)
}
