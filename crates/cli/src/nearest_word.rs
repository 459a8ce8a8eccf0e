//! The word that a person probably meant, among those that there are. What is done with it, the caller decides.

/// Finds the word that was probably meant: one that holds what was typed, or the one with the fewest changes.
pub fn nearest_word<'word>(
    typed: &str,
    known: impl Iterator<Item = &'word str> + Clone,
) -> Option<&'word str> {
    if typed.len() > 3
        && let Some(word) = known.clone().find(|word| word.contains(typed))
    {
        return Some(word);
    }
    known
        .map(|word| (strsim::damerau_levenshtein(typed, word), word))
        .min()
        .filter(|(changes, word)| *changes <= (word.len() / 3).max(2))
        .map(|(_, word)| word)
}
