//! Base64 within a text: a run is read as far as it goes, over line breaks, at every place of a group of four
//! characters. The caller interprets the bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// How many blanks there may be in a run beside one for each character: a line break in each line, and what indents it.
const BLANKS_FREE: usize = 256;

/// Reads up to five characters of base64 as bits, the first of which is the highest.
pub(super) fn base64_bits(text: &[u8]) -> Option<u32> {
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

/// Reads base64 up to what is none, over line breaks and what JSON writes for them. Returns how long it is in the text,
/// and its characters, so many at most, after placeholders for what comes before it. Where only some are wanted, so are
/// the blanks between them: they are read for nothing.
pub(super) fn read_base64_run(text: &[u8], before: usize, most: usize) -> (usize, Vec<u8>) {
    let (mut at, mut characters) = (0, vec![b'A'; before]);
    let upto = most.saturating_mul(2).saturating_add(BLANKS_FREE);
    while let Some(byte) = text.get(at).filter(|_| characters.len() < most && at < upto) {
        match (*byte, base64_character(*byte)) {
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
fn base64_character(byte: u8) -> Option<u8> {
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
pub(super) fn decode_base64(text: &[u8], before: usize, most: usize) -> (usize, Vec<u8>) {
    let (length, characters) = read_base64_run(text, before, most);
    let (whole, rest) = characters.split_at(characters.len() / 4 * 4);
    let mut bytes = STANDARD_NO_PAD.decode(whole).unwrap_or_default();
    // The last group may be a part of one.
    if let Some(bits) = base64_bits(rest) {
        bytes.extend_from_slice(&bits.to_be_bytes()[..rest.len().saturating_sub(1)]);
    }
    bytes.drain(..before.min(bytes.len()));
    (length, bytes)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn base64_is_decoded_to_its_last_byte_across_breaks() {
        for length in 0..40 {
            for bytes in [(0..length).map(|byte| byte * 6).collect(), vec![0xff_u8; length.into()]] {
                for encoded in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
                    let told = format!("{encoded}. And");
                    assert_eq!(decode_base64(told.as_bytes(), 0, 4096), (encoded.len(), bytes.clone()));
                }
            }
        }
        assert_eq!(decode_base64(b"YW\\nJj\nZGVm.", 0, 4096), (11, b"abcdef".to_vec()));
        assert_eq!(decode_base64(b"YW\\Jj\\ZGVm.", 0, 4096), (10, b"abcdef".to_vec()));
        assert_eq!(decode_base64(b"YW\\Jj\\ZGVm.", 0, 4096), (10, b"abcdef".to_vec()));
    }

    #[test]
    fn blanks_in_a_run_are_read_in_bounds() {
        let sparse = format!("abcd{}", " ".repeat(50)).repeat(2000);
        for most in [128, 2048] {
            let (length, bytes) = decode_base64(sparse.as_bytes(), 0, most);
            assert!(length <= 2 * most + BLANKS_FREE, "{length}");
            assert!((1..most / 4 * 3).contains(&bytes.len()), "{}", bytes.len());
        }
        let (length, characters) = read_base64_run(sparse.as_bytes(), 0, usize::MAX);
        assert_eq!((length, characters.len()), (sparse.len(), 4 * 2000));
        let indented = format!("\n{}{}", " ".repeat(8), "abcd".repeat(15)).repeat(100);
        assert_eq!(decode_base64(indented.as_bytes(), 0, 2048).1.len(), 2048 / 4 * 3);
    }
}
