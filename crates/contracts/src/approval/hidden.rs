//! Texts that a person decides by: what would hide in one is spelled out.
//!
//! It takes nothing away and judges nothing; what is shown is still every character of the text.

/// Returns whether a character does not show what it is: a control character, a blank that is no plain space, and one
/// that changes the direction or hides.
pub fn is_hidden_char(c: char) -> bool {
    let is_listed = matches!(
        c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    );
    is_listed || c.is_control() || (c.is_whitespace() && c != ' ')
}

/// Writes a text so that it shows what it is: characters that do not ([`is_hidden_char`]) are spelled out.
pub fn escape_hidden(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden_char(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_escaped() {
        assert_eq!(escape_hidden("rm\u{202e}txt\u{7}\n"), "rm\\u{202e}txt\\u{7}\\u{a}");
        assert_eq!(
            escape_hidden("a\u{3164}b\u{fe0f}c\u{a0}d\u{e0101}"),
            "a\\u{3164}b\\u{fe0f}c\\u{a0}d\\u{e0101}"
        );
        assert_eq!(escape_hidden("grüße 日本"), "grüße 日本");
    }
}
