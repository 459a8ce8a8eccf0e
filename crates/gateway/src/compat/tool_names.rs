//! The names of a client's tools: outside as the client wrote them, inside as our own are written.
//!
//! Our tools have dots in their names, and on the wires of models a dot is `__`. A client's `mcp__files__read` is
//! therefore kept as `mcp.files.read`: it reaches a model under the client's own spelling, and a client's `file__read`
//! meets our `file.read` as the one name that it would be on the wire.

/// The longest name.
pub(super) const NAME_BYTES_MAX: usize = 128;

/// Keeps a client's name as our own are written.
pub(super) fn internal_name(name: &str) -> String {
    let dotted = name.replace("__", ".");
    if client_name(&dotted) == name { dotted } else { name.to_owned() }
}

/// Gives a name back as the client wrote it.
pub(super) fn client_name(name: &str) -> String {
    // Where dots and underscores meet, `__` would be ambiguous, so such a name was never made from one.
    let blurred = ["._", "_.", "..", "__"].iter().any(|pair| name.contains(pair));
    let torn = name.starts_with('.') || name.ends_with('.');
    if blurred || torn { name.to_owned() } else { name.replace('.', "__") }
}

/// Tells whether a tool may have a name.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn client_tool_names_translate_to_internal_names_and_back() {
        for (outside, inside) in [
            ("weather", "weather"),
            ("get_weather", "get_weather"),
            ("file__read", "file.read"),
            ("mcp__files__read_all", "mcp.files.read_all"),
            ("a___b", "a___b"),
            ("__init", "__init"),
        ] {
            assert_eq!(internal_name(outside), inside);
            assert_eq!(client_name(inside), outside);
        }
        assert!(
            is_name("a-B_9")
                && !is_name("")
                && !is_name("a.b")
                && !is_name("ä")
                && !is_name(&"x".repeat(129))
        );
    }

    proptest! {
        #[test]
        fn every_name_comes_back_and_no_two_become_one(a in "[a_-]{1,7}", b in "[a_-]{1,7}") {
            prop_assert_eq!(client_name(&internal_name(&a)), a.clone());
            prop_assert_eq!(a == b, internal_name(&a) == internal_name(&b));
        }
    }
}
