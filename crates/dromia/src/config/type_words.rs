//! Plain words for what a type of this program wants: the reader of YAML names types, the author of a file knows values.

/// What the type of a value says; most keys take less.
pub(super) const FROM_ZERO: &str = "a whole number from 0 to ";

/// What the standard library says of an address that is none, and what one is.
pub(super) const NO_ADDRESS: &str = "socket address syntax";
pub(super) const ADDRESS: &str = "an IP address and a port, such as 127.0.0.1:7700";

/// What a group of keys is.
pub(super) const KEYS: &str = "keys with their values, each on a line of its own below it";

/// Says in our words why a value above the file does not fit, from the words of serde.
pub(super) fn value_mismatch_text(words: &str) -> String {
    match words.rsplit_once("expected ") {
        Some((_, expected)) => format!("it must be {}", expected_text(expected)),
        None if words.contains(NO_ADDRESS) => format!("it must be {ADDRESS}"),
        None => words.to_owned(),
    }
}

/// What belongs where the reader expected something of its own.
pub(super) fn expected_text(expected: &str) -> String {
    let whole = |most: u64| format!("{FROM_ZERO}{most}");
    match expected.trim() {
        "u8" => whole(u8::MAX.into()),
        "u16" => whole(u16::MAX.into()),
        "u32" => whole(u32::MAX.into()),
        "u64" | "usize" => whole(u64::MAX),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" | "floating point" => "a number".to_owned(),
        "bool" | "boolean" | "a boolean" => "true or false".to_owned(),
        "a string" | "string" => "a text".to_owned(),
        "a sequence" | "sequence" => "a list, such as [a, b]".to_owned(),
        "a map" | "map" => KEYS.to_owned(),
        group if group.starts_with("struct ") => KEYS.to_owned(),
        "socket address" => ADDRESS.to_owned(),
        other => first_line(other).to_owned(),
    }
}

pub(super) fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
