//! The name that was probably meant, among those that the caller may see anyway. Whose names these are, the caller of this
//! decides; nothing is read here.

/// A longer name is no misspelt one.
const TYPED_BYTES_MAX: usize = 64;

/// Finds the known name that differs least from what was typed, if it differs little.
pub(crate) fn nearest_name<'name>(
    typed: &str,
    known: impl Iterator<Item = &'name str>,
) -> Option<&'name str> {
    if typed.len() > TYPED_BYTES_MAX {
        return None;
    }
    let typed = typed.to_lowercase();
    let begins = |name: &str| typed.len() > 2 && name.starts_with(&typed);
    known
        .map(|name| (if begins(name) { 1 } else { strsim::damerau_levenshtein(&typed, name) }, name))
        .min()
        .filter(|(changes, name)| *changes <= (name.len() / 3).max(1))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_the_nearest_and_another_none() {
        let known = ["assistant", "ops", "reviewer"];
        for (typed, meant) in [
            ("assistent", Some("assistant")),
            ("Assistant", Some("assistant")),
            ("assist", Some("assistant")),
            ("osp", Some("ops")),
            ("revewer", Some("reviewer")),
            ("sunflower", None),
            ("x", None),
        ] {
            assert_eq!(nearest_name(typed, known.into_iter()), meant, "{typed}");
        }
        assert_eq!(nearest_name(&"a".repeat(65), known.into_iter()), None);
    }
}
