//! The secret scanner: finds values of secrets in a text: as they are, backwards, in base64 wherever it begins, in hex,
//! in a URL; and all of these also with other characters between the letters and digits, as in a value that is split;
//! and all of it also in what is packed with gzip or zlib ([`packed`] says where).
//!
//! A heuristic, and no guarantee. Not found: a value that was packed in another way, encrypted, spelled out in words,
//! or cut into pieces with letters between them.

mod packed;

use std::fmt::Write as _;
use std::ops::Range;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use dromia_contracts::vault::{SecretMatch, SecretScanner, SecretValue};

use self::packed::ScanBudget;

/// The fewest letters and digits of a form that is looked for without the characters between them.
const SQUEEZED_MIN: usize = 8;

/// The longest text of a quick scan.
const QUICK_TEXT_MAX: usize = 32 << 10;

/// What is looked for, of one tenant.
#[derive(Debug, Default)]
pub(super) struct TenantSecretScanner {
    names: Vec<String>,
    plain: Option<SecretPatterns>,
    squeezed: Option<SecretPatterns>,
}

/// Forms, and the index of the secret that each belongs to.
struct SecretPatterns {
    forms: AhoCorasick,
    of: Vec<usize>,
    /// The forms in their order, to tell what may be the beginning of one.
    sorted: Vec<Vec<u8>>,
    /// Bytes of the longest.
    longest: usize,
}

// What the automaton holds are values.
impl std::fmt::Debug for SecretPatterns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Needles").field("forms", &self.of.len()).finish_non_exhaustive()
    }
}

impl SecretPatterns {
    /// Nothing where there is nothing to look for; an error where the forms are too many for the library.
    fn new(forms: Vec<(usize, Vec<u8>)>) -> Result<Option<Self>, String> {
        if forms.is_empty() {
            return Ok(None);
        }
        let (of, texts): (Vec<_>, Vec<_>) = forms.into_iter().unzip();
        // The library's words may not hold a value.
        let forms =
            AhoCorasick::new(&texts).map_err(|_| "the forms of the values are too many".to_owned())?;
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        let mut sorted: Vec<Vec<u8>> = texts;
        sorted.sort_unstable();
        sorted.dedup();
        Ok(Some(Self { forms, of, sorted, longest }))
    }

    /// Says from where on the end of a text is the beginning of a form; the text's length where it is none.
    fn open_from(&self, text: &[u8]) -> usize {
        let begins = |at: &usize| {
            let end = &text[*at..];
            let place = self.sorted.partition_point(|form| form.as_slice() < end);
            self.sorted.get(place).is_some_and(|form| form.starts_with(end))
        };
        (text.len().saturating_sub(self.longest)..text.len()).find(begins).unwrap_or(text.len())
    }
}

impl TenantSecretScanner {
    /// Makes a scanner for secrets with their values.
    pub(super) fn new(secrets: &[(String, SecretValue)]) -> Result<Self, String> {
        let (mut plain, mut squeezed) = (Vec::new(), Vec::new());
        for (index, (_, value)) in secrets.iter().enumerate() {
            let value = value.expose_secret().as_bytes();
            let mut forms = search_forms(value);
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
        Ok(Self { names, plain: SecretPatterns::new(plain)?, squeezed: SecretPatterns::new(squeezed)? })
    }

    /// Finds values with the secrets that they belong to; some more than once.
    fn find_values(&self, text: &[u8], room: &mut ScanBudget) -> Vec<(Range<usize>, usize)> {
        let mut found: Vec<(Range<usize>, usize)> = Vec::new();
        if let Some(plain) = &self.plain {
            let matches = plain.forms.find_overlapping_iter(text);
            found.extend(matches.map(|one| (one.range(), plain.of[one.pattern().as_usize()])));
        }
        if let Some(squeezed) = &self.squeezed {
            let (places, letters) = letter_positions(text);
            for one in squeezed.forms.find_overlapping_iter(&letters) {
                let end = places[one.end() - 1] + 1;
                found.push((places[one.start()]..end, squeezed.of[one.pattern().as_usize()]));
            }
        }
        if self.plain.is_some() {
            packed::open_each(text, room, &mut |range, inside, room| {
                if let Some((_, of)) = self.find_values(inside, room).first() {
                    found.push((range, *of));
                }
            });
        }
        found
    }
}

impl TenantSecretScanner {
    /// Puts what was found in the order of the text, without overlap.
    fn merge_leaks(&self, mut found: Vec<(Range<usize>, usize)>) -> Vec<SecretMatch> {
        found.sort_unstable_by_key(|(range, of)| (range.start, range.end, *of));
        let mut leaks: Vec<SecretMatch> = Vec::new();
        for (range, of) in found {
            match leaks.last_mut() {
                Some(last) if range.start < last.range.end => last.range.end = last.range.end.max(range.end),
                _ => leaks.push(SecretMatch { secret: self.names[of].clone(), range }),
            }
        }
        leaks
    }
}

impl SecretScanner for TenantSecretScanner {
    fn find_secrets(&self, text: &[u8]) -> Vec<SecretMatch> {
        self.merge_leaks(self.find_values(text, &mut ScanBudget::default()))
    }

    fn find_quickly(&self, text: &[u8]) -> Option<Vec<SecretMatch>> {
        if self.plain.is_none() {
            return Some(Vec::new());
        }
        if text.len() > QUICK_TEXT_MAX {
            return None;
        }
        let mut room = ScanBudget::quick_scan();
        let found = self.find_values(text, &mut room);
        (!room.is_spent()).then(|| self.merge_leaks(found))
    }

    fn open_from(&self, text: &[u8]) -> usize {
        let Some(plain) = &self.plain else { return text.len() };
        let mut open = plain.open_from(text).min(packed::open_from(text));
        if let Some(squeezed) = &self.squeezed {
            let (places, letters) = letter_positions(text);
            if let Some(at) = places.get(squeezed.open_from(&letters)) {
                open = open.min(*at);
            }
        }
        open
    }
}

/// Returns the letters and digits of a text, and their places in it.
fn letter_positions(text: &[u8]) -> (Vec<usize>, Vec<u8>) {
    let found = text.iter().enumerate().filter(|(_, byte)| byte.is_ascii_alphanumeric());
    found.map(|(at, byte)| (at, *byte)).unzip()
}

/// Writes a value in each form that is looked for.
fn search_forms(value: &[u8]) -> Vec<Vec<u8>> {
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
mod tests;
