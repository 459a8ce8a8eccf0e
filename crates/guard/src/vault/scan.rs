//! Looking for values of secrets in a text: as they are, backwards, in base64 wherever it begins, in hex, in a URL; and all
//! of these also where other characters stand between the letters and digits, as in a value that is split; and all of it
//! also in what is packed with gzip or zlib ([`packed`]).
//!
//! A heuristic and no wall. Not found: a value that was packed in another way, encrypted, spelled out in words, or cut into
//! pieces with letters between them.

mod packed;

use std::fmt::Write as _;
use std::ops::Range;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use dromia_contracts::vault::{Leak, SecretValue, Spotter};

use self::packed::Room;

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
    /// The forms in their order, to tell what may be the beginning of one.
    sorted: Vec<Vec<u8>>,
    /// Bytes of the longest.
    longest: usize,
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

    /// Finds values with the secrets that they belong to; some more than once.
    fn found(&self, text: &[u8], room: &mut Room) -> Vec<(Range<usize>, usize)> {
        let mut found: Vec<(Range<usize>, usize)> = Vec::new();
        if let Some(plain) = &self.plain {
            let matches = plain.forms.find_overlapping_iter(text);
            found.extend(matches.map(|one| (one.range(), plain.of[one.pattern().as_usize()])));
        }
        if let Some(squeezed) = &self.squeezed {
            let (places, letters) = letters(text);
            for one in squeezed.forms.find_overlapping_iter(&letters) {
                let end = places[one.end() - 1] + 1;
                found.push((places[one.start()]..end, squeezed.of[one.pattern().as_usize()]));
            }
        }
        if self.plain.is_some() {
            packed::each(text, room, &mut |range, inside, room| {
                if let Some((_, of)) = self.found(inside, room).first() {
                    found.push((range, *of));
                }
            });
        }
        found
    }
}

impl Spotter for Scanner {
    fn find(&self, text: &[u8]) -> Vec<Leak> {
        let mut found = self.found(text, &mut Room::default());
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

    fn open_from(&self, text: &[u8]) -> usize {
        let Some(plain) = &self.plain else { return text.len() };
        let mut open = plain.open_from(text).min(packed::open_from(text));
        if let Some(squeezed) = &self.squeezed {
            let (places, letters) = letters(text);
            if let Some(at) = places.get(squeezed.open_from(&letters)) {
                open = open.min(*at);
            }
        }
        open
    }
}

/// Returns the letters and digits of a text, and where they stand in it.
fn letters(text: &[u8]) -> (Vec<usize>, Vec<u8>) {
    let found = text.iter().enumerate().filter(|(_, byte)| byte.is_ascii_alphanumeric());
    found.map(|(at, byte)| (at, *byte)).unzip()
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
    use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

    use super::*;

    /// Packs a text; the sum at its end is left out, which nobody looks at.
    pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
        let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        packed.extend(compress_to_vec(text, 6));
        packed.extend([0; 8]);
        packed
    }

    /// Packs a text with a sum that is right.
    pub(super) fn zlib(text: &[u8]) -> Vec<u8> {
        compress_to_vec_zlib(text, 6)
    }

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
    fn a_value_in_gzip_is_found_as_it_is_in_base64_and_one_in_another() {
        let told = format!("user: ada, {VALUE}, and so on and so on");
        let packed = gzip(told.as_bytes());
        let twice = gzip(STANDARD.encode(&packed).as_bytes());
        let mut lines = STANDARD.encode(&packed);
        lines.insert_str(20, "\\n");
        lines.insert_str(12, "\r\n");
        for text in [
            packed.clone(),
            STANDARD.encode(&packed).into_bytes(),
            URL_SAFE_NO_PAD.encode(&packed).into_bytes(),
            lines.into_bytes(),
            twice.clone(),
            STANDARD.encode(&twice).into_bytes(),
            gzip(&packed),
            gzip(VALUE.chars().rev().collect::<String>().as_bytes()),
        ] {
            let mut text = [&b"{\"body\":\""[..], &text[..], b"\"}"].concat();
            let leaks = scanner().find(&text);
            assert_eq!(leaks.first().map(|leak| leak.secret.as_str()), Some("github"), "{text:?}");
            mask(&mut text, &leaks);
            assert!(scanner().find(&text).is_empty(), "{text:?}");
            assert!(text.starts_with(b"{\"body\":\"*"));
        }
        for clean in [gzip(b"nothing of it"), STANDARD.encode(gzip(b"nothing of it")).into_bytes()] {
            assert!(scanner().find(&clean).is_empty());
        }
    }

    /// A text with the value, packed in the ways that a look opens.
    fn packed_texts() -> Vec<Vec<u8>> {
        // What repeats is packed for certain, and not only wrapped.
        let told = format!("user: ada, {VALUE}{}", ", and so on".repeat(20));
        let mut texts = Vec::new();
        for packed in [gzip(told.as_bytes()), zlib(told.as_bytes())] {
            texts.push(packed.clone());
            for before in ["", "u", "us", "use", "user:"] {
                let whole = [before.as_bytes(), &packed[..], b" and more"].concat();
                texts.push(STANDARD.encode(&whole).into_bytes());
                texts.push(URL_SAFE_NO_PAD.encode(&whole).into_bytes());
            }
        }
        texts.push(zlib(STANDARD.encode(zlib(told.as_bytes())).as_bytes()));
        texts.push(zlib(&gzip(told.as_bytes())));
        texts
    }

    #[test]
    fn a_value_in_zlib_is_found_and_so_is_one_in_the_middle_of_base64() {
        for text in packed_texts() {
            let mut text = [&b"{\"body\":\""[..], &text[..], b"\"}"].concat();
            let leaks = scanner().find(&text);
            assert_eq!(leaks.first().map(|leak| leak.secret.as_str()), Some("github"), "{text:?}");
            mask(&mut text, &leaks);
            assert!(scanner().find(&text).is_empty(), "{text:?}");
        }
        assert!(scanner().find(&zlib(b"nothing of it")).is_empty());
        let deflated = compress_to_vec(VALUE.repeat(20).as_bytes(), 6);
        assert!(scanner().find(&deflated).is_empty(), "raw deflate has no mark");
    }

    #[test]
    fn a_look_that_opens_nothing_is_caught() {
        for text in packed_texts() {
            assert!(scanner().found(&text, &mut Room::closed()).is_empty(), "it shows without being opened");
        }
    }

    #[test]
    fn what_may_be_the_beginning_of_a_value_is_open() {
        fn open(text: &str) -> &str {
            &text[scanner().open_from(text.as_bytes())..]
        }
        assert_eq!(open("it is ghp_Can"), "ghp_Can");
        assert_eq!(open("it is ghp_Canary/41+x=Zq"), VALUE);
        assert_eq!(open("it is g-h-p - Can"), "g-h-p - Can");
        assert_eq!(open("it is qZ=x+14"), "qZ=x+14");
        assert_eq!(open("it is 6768705f"), "6768705f");
        assert_eq!(open("it is H4sIAA"), "H4sIAA");
        for closed in ["", "it is", "ghp_Canvas", "6768705f and so on."] {
            assert!(open(closed).len() <= 2, "{closed}: {:?}", open(closed));
        }
        assert_eq!(Scanner::default().open_from(VALUE.as_bytes()), VALUE.len());
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
