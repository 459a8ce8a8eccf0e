//! Every form in which a value is found, and what is left alone.

use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use dromia_contracts::vault::mask_secrets;
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

fn scanner() -> TenantSecretScanner {
    let value = SecretValue::new(VALUE.to_owned()).expect("a value");
    TenantSecretScanner::new(&[("github".to_owned(), value)]).expect("a scanner")
}

fn masked(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    mask_secrets(&mut bytes, &scanner().find_secrets(text.as_bytes()));
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
    let told = format!("a {} b", split.join("-"));
    assert_eq!(scanner().find_secrets(told.as_bytes())[0].range, 2..told.len() - 2);
    let found = scanner().find_secrets(VALUE.repeat(2).as_bytes());
    assert_eq!(found.into_iter().map(|leak| leak.range).collect::<Vec<_>>(), [0..18, 18..36]);
    for text in texts {
        let told = format!("it says ä {text} ö and goes on");
        let leaks = scanner().find_secrets(told.as_bytes());
        assert_eq!(leaks.first().map(|leak| leak.secret.as_str()), Some("github"), "{text}");
        let masked = masked(&told);
        assert!(masked.starts_with("it says ä ") && masked.ends_with(" ö and goes on"), "{masked}");
        assert_eq!(masked.len(), told.len());
        assert!(scanner().find_secrets(masked.as_bytes()).is_empty(), "{masked}");
    }
}

#[test]
fn a_secret_in_gzip_is_found_through_nested_base64() {
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
        let leaks = scanner().find_secrets(&text);
        assert_eq!(leaks.first().map(|leak| leak.secret.as_str()), Some("github"), "{text:?}");
        mask_secrets(&mut text, &leaks);
        assert!(scanner().find_secrets(&text).is_empty(), "{text:?}");
        assert!(text.starts_with(b"{\"body\":\"*"));
    }
    for clean in [gzip(b"nothing of it"), STANDARD.encode(gzip(b"nothing of it")).into_bytes()] {
        assert!(scanner().find_secrets(&clean).is_empty());
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
fn a_secret_in_zlib_is_found_inside_base64_too() {
    for text in packed_texts() {
        let mut text = [&b"{\"body\":\""[..], &text[..], b"\"}"].concat();
        let leaks = scanner().find_secrets(&text);
        assert_eq!(leaks.first().map(|leak| leak.secret.as_str()), Some("github"), "{text:?}");
        mask_secrets(&mut text, &leaks);
        assert!(scanner().find_secrets(&text).is_empty(), "{text:?}");
    }
    assert!(scanner().find_secrets(&zlib(b"nothing of it")).is_empty());
}

/// A quick look says all that a look with room says, or that it cannot.
#[test]
fn a_quick_scan_finds_every_secret_or_says_it_cannot() {
    let bomb = STANDARD.encode(gzip(format!("{}{VALUE}", " ".repeat(1 << 20)).as_bytes()));
    let mut texts = packed_texts();
    texts.push(format!("it is {VALUE}").into_bytes());
    for text in texts {
        assert_eq!(scanner().find_quickly(&text), Some(scanner().find_secrets(&text)));
    }
    assert_eq!(scanner().find_secrets(bomb.as_bytes()).len(), 1);
    assert_eq!(scanner().find_quickly(bomb.as_bytes()), None);
    assert_eq!(scanner().find_quickly(&vec![b' '; QUICK_TEXT_MAX + 1]), None);
    assert_eq!(scanner().find_quickly(&vec![b' '; QUICK_TEXT_MAX]), Some(Vec::new()));
    assert_eq!(
        TenantSecretScanner::default().find_quickly(bomb.as_bytes()),
        Some(Vec::new()),
        "there is nothing to find"
    );
}

#[test]
fn a_look_that_opens_nothing_is_caught() {
    for text in packed_texts() {
        assert!(
            scanner().find_values(&text, &mut ScanBudget::empty_budget()).is_empty(),
            "it shows without being opened"
        );
    }
}

#[test]
fn a_possible_start_of_a_secret_is_held() {
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
    assert_eq!(TenantSecretScanner::default().open_from(VALUE.as_bytes()), VALUE.len());
}

#[test]
fn text_without_a_secret_stays_unchanged() {
    for text in ["", "ghp_Canary", "Canary/41+x=Zq", "ghp Canary 41 y Zq"] {
        assert_eq!(masked(text), text);
    }
    assert!(TenantSecretScanner::default().find_secrets(VALUE.as_bytes()).is_empty());
    assert!(!format!("{:?}", scanner()).contains("Canary"));
}

#[test]
fn a_value_of_signs_is_found_as_it_is() {
    let value = SecretValue::new("!!??!!??".to_owned()).expect("a value");
    let scanner = TenantSecretScanner::new(&[("signs".to_owned(), value)]).expect("a scanner");
    assert_eq!(
        scanner.find_secrets(b"a !!??!!?? b"),
        [SecretMatch { secret: "signs".to_owned(), range: 2..10 }]
    );
    assert!(scanner.find_secrets(b"a b").is_empty());
}
