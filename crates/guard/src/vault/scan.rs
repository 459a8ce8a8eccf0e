//! Looking for values of secrets in a text: as they are, backwards, in base64 wherever it begins, in hex, in a URL; and all
//! of these also where other characters stand between the letters and digits, as in a value that is split.
//!
//! A heuristic and no wall. Not found: a value that was packed, encrypted, spelled out in words, or cut into pieces with
//! letters between them.

use std::fmt::Write as _;
use std::ops::Range;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use dromia_contracts::vault::{Leak, SecretValue};

/// The fewest letters and digits of a form that is looked for without what stands between them.
const SQUEEZED_MIN: usize = 8;

/// What is looked for, of one tenant.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    names: Vec<String>,
    plain: Option<Needles>,
    squeezed: Option<Needles>,
}

/// Forms, and the index of the secret that each belongs to.
struct Needles {
    forms: AhoCorasick,
    of: Vec<usize>,
}

// What the automaton holds are values.
impl std::fmt::Debug for Needles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Needles").field("forms", &self.of.len()).finish_non_exhaustive()
    }
}

impl Needles {
    /// Nothing where there is nothing to look for; an error where the forms are too many for the library.
    fn new(forms: Vec<(usize, Vec<u8>)>) -> Result<Option<Self>, String> {
        if forms.is_empty() {
            return Ok(None);
        }
        let (of, texts): (Vec<_>, Vec<_>) = forms.into_iter().unzip();
        // The library's words may not hold a value.
        let forms = AhoCorasick::new(texts).map_err(|_| "the forms of the values are too many".to_owned())?;
        Ok(Some(Self { forms, of }))
    }
}

impl Scanner {
    /// Makes a scanner for secrets with their values.
    pub(super) fn new(secrets: &[(String, SecretValue)]) -> Result<Self, String> {
        let (mut plain, mut squeezed) = (Vec::new(), Vec::new());
        for (index, (_, value)) in secrets.iter().enumerate() {
            let value = value.expose().as_bytes();
            let mut forms = forms(value);
            plain.push((index, value.to_vec()));
            plain.push((index, value.iter().rev().copied().collect()));
            for form in &mut forms {
                form.retain(u8::is_ascii_alphanumeric);
            }
            forms.retain(|form| form.len() >= SQUEEZED_MIN);
            forms.sort_unstable();
            forms.dedup();
            squeezed.extend(forms.into_iter().map(|form| (index, form)));
        }
        let names = secrets.iter().map(|(name, _)| name.clone()).collect();
        Ok(Self { names, plain: Needles::new(plain)?, squeezed: Needles::new(squeezed)? })
    }

    /// Finds values, in the order of the text and without overlap.
    pub(super) fn find(&self, text: &[u8]) -> Vec<Leak> {
        let mut found: Vec<(Range<usize>, usize)> = Vec::new();
        if let Some(plain) = &self.plain {
            let matches = plain.forms.find_overlapping_iter(text);
            found.extend(matches.map(|one| (one.range(), plain.of[one.pattern().as_usize()])));
        }
        if let Some(squeezed) = &self.squeezed {
            let places: Vec<usize> = (0..text.len()).filter(|at| text[*at].is_ascii_alphanumeric()).collect();
            let letters: Vec<u8> = places.iter().map(|at| text[*at]).collect();
            for one in squeezed.forms.find_overlapping_iter(&letters) {
                let end = places[one.end() - 1] + 1;
                found.push((places[one.start()]..end, squeezed.of[one.pattern().as_usize()]));
            }
        }
        found.sort_unstable_by_key(|(range, of)| (range.start, range.end, *of));
        let mut leaks: Vec<Leak> = Vec::new();
        for (range, of) in found {
            match leaks.last_mut() {
                Some(last) if range.start < last.range.end => last.range.end = last.range.end.max(range.end),
                _ => leaks.push(Leak { secret: self.names[of].clone(), range }),
            }
        }
        leaks
    }
}

/// Writes a value in each form that is looked for.
fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let hex = in_hex(value);
    let mut forms = vec![
        value.to_vec(),
        value.iter().rev().copied().collect(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        in_url(value, |byte| format!("%{byte:02X}")),
        in_url(value, |byte| format!("%{byte:02x}")),
    ];
    // In a longer text that is encoded, a value begins at one of three places of a group of four characters; those that
    // hold bits of its neighbours are left out.
    for (before, from) in [(0, 0), (1, 2), (2, 3)] {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(value);
        let to = bytes.len() * 8 / 6;
        let encoded = STANDARD_NO_PAD.encode(&bytes);
        forms.push(encoded.as_bytes()[from..to].to_vec());
    }
    forms
}

/// Writes a value as two digits for each byte.
fn in_hex(value: &[u8]) -> String {
    let mut hex = String::with_capacity(2 * value.len());
    for byte in value {
        // Writing to a string cannot fail.
        let _infallible = write!(hex, "{byte:02x}");
    }
    hex
}

/// Writes a value as in a URL, whose reserved bytes are escaped.
fn in_url(value: &[u8], escaped: impl Fn(u8) -> String) -> Vec<u8> {
    let written = value.iter().flat_map(|byte| match *byte {
        byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => vec![byte],
        byte => escaped(byte).into_bytes(),
    });
    written.collect()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use dromia_contracts::vault::mask;

    use super::*;

    const VALUE: &str = "ghp_Canary/41+x=Zq";

    fn scanner() -> Scanner {
        let value = SecretValue::new(VALUE.to_owned()).expect("a value");
        Scanner::new(&[("github".to_owned(), value)]).expect("a scanner")
    }

    fn masked(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        mask(&mut bytes, &scanner().find(text.as_bytes()));
        String::from_utf8(bytes).expect("it is text still")
    }

    #[test]
    fn a_value_is_found_in_every_form() {
        let reversed: String = VALUE.chars().rev().collect();
        let hex = in_hex(VALUE.as_bytes());
        let split: Vec<String> = VALUE.chars().map(String::from).collect();
        let mut texts = vec![
            VALUE.to_owned(),
            reversed,
            hex.to_uppercase(),
            hex,
            "ghp_Canary%2F41%2Bx%3DZq".to_owned(),
            "ghp_Canary%2f41%2bx%3dZq".to_owned(),
            split.join("-"),
            split.join("\n  "),
            VALUE.replace('/', "\\/"),
        ];
        for before in ["", "u", "us", "user:"] {
            texts.push(STANDARD.encode(format!("{before}{VALUE} and more")));
            texts.push(URL_SAFE_NO_PAD.encode(format!("{before}{VALUE}")));
        }
        for text in texts {
            let told = format!("it says ä {text} ö and goes on");
            let leaks = scanner().find(told.as_bytes());
            assert_eq!(leaks.first().map(|leak| leak.secret.as_str()), Some("github"), "{text}");
            let masked = masked(&told);
            assert!(masked.starts_with("it says ä ") && masked.ends_with(" ö and goes on"), "{masked}");
            assert_eq!(masked.len(), told.len());
            assert!(scanner().find(masked.as_bytes()).is_empty(), "{masked}");
        }
    }

    #[test]
    fn what_is_no_value_is_left_alone() {
        for text in ["", "ghp_Canary", "Canary/41+x=Zq", "ghp Canary 41 y Zq"] {
            assert_eq!(masked(text), text);
        }
        assert!(Scanner::default().find(VALUE.as_bytes()).is_empty());
        assert!(!format!("{:?}", scanner()).contains("Canary"));
    }

    #[test]
    fn a_value_of_signs_is_found_as_it_is() {
        let value = SecretValue::new("!!??!!??".to_owned()).expect("a value");
        let scanner = Scanner::new(&[("signs".to_owned(), value)]).expect("a scanner");
        assert_eq!(scanner.find(b"a !!??!!?? b"), [Leak { secret: "signs".to_owned(), range: 2..10 }]);
        assert!(scanner.find(b"a b").is_empty());
    }
}
