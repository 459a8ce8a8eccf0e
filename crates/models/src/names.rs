//! Tool names on the wire. The format allows letters, digits, `_` and `-` only, so `file.read` travels as
//! `file__read`. The mapping is one to one: a name that this simple rule would blur travels as hex.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Begins a name that travels as hex.
const HEX: &str = "x-";

/// Writes a tool's name for the wire.
pub fn encode(name: &str) -> Cow<'_, str> {
    if !is_plain(name) {
        let mut hex = String::with_capacity(HEX.len() + 2 * name.len());
        hex.push_str(HEX);
        for byte in name.bytes() {
            // Writing to a string cannot fail.
            let _infallible = write!(hex, "{byte:02x}");
        }
        return hex.into();
    }
    if name.contains('.') { name.replace('.', "__").into() } else { name.into() }
}

/// Reads a tool's name off the wire; a name that [`encode`] never writes is returned as it is.
pub fn decode(wire: &str) -> Cow<'_, str> {
    let name: Cow<'_, str> = match wire.strip_prefix(HEX) {
        Some(hex) => match unhex(hex) {
            Some(name) => name.into(),
            None => return wire.into(),
        },
        None if wire.contains("__") => wire.replace("__", ".").into(),
        None => return wire.into(),
    };
    if encode(&name) == wire { name } else { wire.into() }
}

/// Tells whether replacing each dot by `__` can be undone.
fn is_plain(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let blurred = name.as_bytes().windows(2).any(|pair| matches!(pair, [b'_', b'_' | b'.'] | [b'.', b'_']));
    !name.is_empty() && name.bytes().all(allowed) && !blurred && !name.starts_with(HEX)
}

fn unhex(hex: &str) -> Option<String> {
    let digits = hex.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let bytes: Option<Vec<u8>> =
        digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn everyday_names_stay_readable() {
        for (name, wire) in [("file.read", "file__read"), ("a_b.c-d", "a_b__c-d"), ("plain", "plain")] {
            assert_eq!(encode(name), wire);
            assert_eq!(decode(wire), name);
        }
    }

    #[test]
    fn a_name_that_a_model_made_up_is_kept_as_it_wrote_it() {
        for wire in ["___", "x-zz", "x-6", "x-66", "a___b", "not a name"] {
            assert_eq!(decode(wire), wire);
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back_and_uses_allowed_characters(name in "[a-c_.x-]{1,8}|\\PC{1,6}") {
            let wire = encode(&name);
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            prop_assert!(wire.bytes().all(allowed), "{wire}");
            prop_assert_eq!(decode(&wire), &*name);
        }

        #[test]
        fn two_names_never_share_a_wire_name(a in "[a._x-]{1,5}", b in "[a._x-]{1,5}") {
            prop_assert_eq!(a == b, encode(&a) == encode(&b));
        }
    }
}
