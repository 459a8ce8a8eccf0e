//! Tool names on the wire. The format allows letters, digits, `_` and `-` only, so `file.read` travels as
//! `file__read`. The mapping is one to one: a name that this simple rule would blur travels as hex. Some providers take 64
//! characters and no more, so a longer one travels as a digest and its end; which tool that is, only the request knows whose
//! tools it names ([`restore_names`]).

use std::borrow::Cow;
use std::fmt::Write as _;

use dromia_contracts::model::ProposedCall;
use dromia_contracts::tool::ToolDescriptor;

/// Begins a name that travels as hex.
const HEX: &str = "x-";

/// Begins a name that travels as a digest and its end.
const SHORT: &str = "h-";

/// The longest name that every provider takes.
pub const WIRE_BYTES_MAX: usize = 64;

/// How many digits of the digest a short name has.
const DIGITS: usize = 20;

/// Writes a tool's name for the wire.
pub fn encode_name(name: &str) -> Cow<'_, str> {
    let whole = spell_name(name);
    if whole.len() <= WIRE_BYTES_MAX {
        return whole;
    }
    let digest = blake3::hash(name.as_bytes()).to_hex();
    let end = &whole[whole.len() - (WIRE_BYTES_MAX - SHORT.len() - DIGITS - 1)..];
    format!("{SHORT}{}-{end}", &digest[..DIGITS]).into()
}

/// Gives calls the names of the tools that they were offered under a short one.
pub fn restore_names(calls: &mut [ProposedCall], tools: &[ToolDescriptor]) {
    for call in calls.iter_mut().filter(|call| call.tool.starts_with(SHORT)) {
        if let Some(tool) = tools.iter().find(|tool| encode_name(&tool.name) == call.tool.as_str()) {
            call.tool.clone_from(&tool.name);
        }
    }
}

/// Spells a name with the characters that the wire allows, however long that is.
fn spell_name(name: &str) -> Cow<'_, str> {
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

/// Reads a tool's name off the wire; a name that [`encode_name`] never writes is returned as it is.
pub fn decode_name(wire: &str) -> Cow<'_, str> {
    let name: Cow<'_, str> = match wire.strip_prefix(HEX) {
        Some(hex) => match decode_hex(hex) {
            Some(name) => name.into(),
            None => return wire.into(),
        },
        None if wire.contains("__") => wire.replace("__", ".").into(),
        None => return wire.into(),
    };
    if encode_name(&name) == wire { name } else { wire.into() }
}

/// Tells whether replacing each dot by `__` can be undone.
fn is_plain(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let blurred = name.as_bytes().windows(2).any(|pair| matches!(pair, [b'_', b'_' | b'.'] | [b'.', b'_']));
    let is_marked = name.starts_with(HEX) || name.starts_with(SHORT);
    !name.is_empty() && name.bytes().all(allowed) && !blurred && !is_marked
}

fn decode_hex(hex: &str) -> Option<String> {
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
    use dromia_contracts::label::Label;
    use dromia_contracts::tool::{EffectClass, Sensitivity};
    use proptest::prelude::*;

    #[test]
    fn everyday_names_stay_readable() {
        for (name, wire) in [("file.read", "file__read"), ("a_b.c-d", "a_b__c-d"), ("plain", "plain")] {
            assert_eq!(encode_name(name), wire);
            assert_eq!(decode_name(wire), name);
        }
    }

    #[test]
    fn an_invented_tool_name_stays_as_the_model_wrote_it() {
        for wire in ["___", "x-zz", "x-6", "x-66", "a___b", "not a name"] {
            assert_eq!(decode_name(wire), wire);
        }
    }

    #[test]
    fn a_long_tool_name_is_shortened_and_restored_by_offer() {
        let long = |end: &str| format!("bank.{}.{end}", "a-long-word".repeat(10));
        let names = [long("pay"), long("pai"), "h-short.name".to_owned(), "file.read".to_owned()];
        let tool = |name: &String| ToolDescriptor {
            name: name.clone(),
            description: String::new(),
            parameters: serde_json::json!({}),
            effect: EffectClass::Pure,
            roles: Vec::new(),
            result_label: Label::PUBLIC_FACT,
            sensitivity: Sensitivity::Low,
            records: None,
        };
        let tools: Vec<_> = names.iter().map(tool).collect();
        for name in &names {
            let wire = encode_name(name);
            assert!(wire.len() <= WIRE_BYTES_MAX, "{wire}");
            assert!(wire.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')), "{wire}");
            let mut calls =
                [ProposedCall { tool: decode_name(&wire).into_owned(), arguments: "{}".to_owned() }];
            restore_names(&mut calls, &tools);
            assert_eq!(&calls[0].tool, name);
            // Planted fault: whoever forgets which tools were offered knows a long one no more.
            let mut forgotten =
                [ProposedCall { tool: decode_name(&wire).into_owned(), arguments: "{}".to_owned() }];
            restore_names(&mut forgotten, &[]);
            assert_eq!(forgotten[0].tool == *name, name.len() <= WIRE_BYTES_MAX);
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back_and_uses_allowed_characters(name in "[a-c_.x-]{1,8}|\\PC{1,6}") {
            let wire = encode_name(&name);
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            prop_assert!(wire.bytes().all(allowed), "{wire}");
            prop_assert_eq!(decode_name(&wire), &*name);
        }

        #[test]
        fn two_names_never_share_a_wire_name(a in "[a._x-]{1,5}", b in "[a._x-]{1,5}") {
            prop_assert_eq!(a == b, encode_name(&a) == encode_name(&b));
        }
    }
}
