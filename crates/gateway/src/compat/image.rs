//! Pictures that a client sends, inside the request or by a URL. Nothing is fetched here: until
//! [`super::picture_fetch`] has what a URL names, the URL stands in the picture's place.
//!
//! A picture is what its first bytes say, and what it is said to be must be the same; the bytes themselves are the
//! model's to read.

use dromia_contracts::content::{ContentPart, ImageMediaType};
use dromia_contracts::label::Label;
use serde_json::Value;

use super::field_error::invalid_field;
use crate::failure::Answer;

/// The most pictures of one request.
pub(super) const IMAGES_MAX: usize = 20;

/// The longest URL of a picture.
const URL_BYTES_MAX: usize = 8 << 10;

/// How many characters of base64 are read for the first bytes.
const HEAD_CHARS: usize = 16;

/// Reads a picture from an address that holds it.
pub(super) fn of_address(address: Option<&str>, path: &str) -> Answer<ContentPart> {
    let Some(address) = address else { return Err(invalid_field(path, "the picture is missing")) };
    let Some(rest) = address.strip_prefix("data:") else { return at_url(address, path) };
    match rest.split_once(";base64,") {
        Some((media, data)) => parse_image(media, data, path),
        None => Err(invalid_field(path, "a picture's URL has the form `data:image/png;base64,…`")),
    }
}

/// Reads a picture from a source block.
pub(super) fn of_source(source: Option<&Value>, path: &str) -> Answer<ContentPart> {
    let field = |name: &str| source.and_then(|source| source[name].as_str());
    match (field("type"), field("media_type"), field("data")) {
        (Some("base64"), Some(media), Some(data)) => parse_image(media, data, path),
        (Some("url"), ..) => match field("url") {
            Some(url) => at_url(url, path),
            None => Err(invalid_field(path, "a source of the type \"url\" needs a url")),
        },
        _ => {
            let problem =
                "a source needs the type \"base64\", a media_type and data, or the type \"url\" and a url";
            Err(invalid_field(path, problem))
        }
    }
}

/// Puts a URL and the place where it stands into a picture's place, with a space between them, which no base64 has.
fn at_url(url: &str, path: &str) -> Answer<ContentPart> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("http" | "https")) {
        return Err(invalid_field(path, "a picture's URL begins with https://, http:// or data:"));
    }
    if url.len() > URL_BYTES_MAX || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let problem = format!("a picture's URL has at most {URL_BYTES_MAX} bytes and no blanks");
        return Err(invalid_field(path, &problem));
    }
    let data = format!("{url} {path}");
    Ok(ContentPart::Image { media: ImageMediaType::Png, data, label: Label::CLAIM })
}

/// Returns the URL of a picture that is to be fetched, and where in the request it is.
pub(super) fn remote_picture(part: &ContentPart) -> Option<(&str, &str)> {
    match part {
        ContentPart::Image { data, .. } => data.split_once(' '),
        ContentPart::Text { .. } => None,
    }
}

fn parse_image(media: &str, data: &str, path: &str) -> Answer<ContentPart> {
    let head =
        decode_head(data).ok_or_else(|| invalid_field(path, "the picture is not in base64 with padding"))?;
    let Some(known) = ImageMediaType::sniff_bytes(&head) else {
        return Err(invalid_field(path, "the bytes are not a PNG, JPEG, GIF or WebP picture"));
    };
    if media != known.as_str() && !(media == "image/jpg" && known == ImageMediaType::Jpeg) {
        let media: String = media.chars().take(40).collect();
        let problem = format!("its media type is {media:?}, but its bytes are {}", known.as_str());
        return Err(invalid_field(path, &problem));
    }
    Ok(ContentPart::Image { media: known, data: data.to_owned(), label: Label::CLAIM })
}

/// Checks that a text is base64 and reads its first bytes.
fn decode_head(data: &str) -> Option<Vec<u8>> {
    let digits = data.trim_end_matches('=');
    let padding = data.len() - digits.len();
    if digits.is_empty() || padding > 2 || !data.len().is_multiple_of(4) {
        return None;
    }
    if !digits.bytes().all(|byte| base64_value(byte).is_some()) {
        return None;
    }
    let mut bytes = Vec::with_capacity(HEAD_CHARS);
    for group in digits.as_bytes()[..digits.len().min(HEAD_CHARS)].chunks(4) {
        let bits = group.iter().try_fold(0_u32, |bits, byte| Some(bits << 6 | base64_value(*byte)?))?;
        // A group that is cut short by the padding holds one byte less for each missing digit.
        let [_, first, second, third] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        bytes.extend(&[first, second, third][..group.len() - 1]);
    }
    Some(bytes)
}

fn base64_value(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PNG: &str = "iVBORw0KGgo=";

    #[test]
    fn the_first_base64_bytes_are_decoded_or_refused() {
        for (data, bytes) in [
            ("TWFu", Some(&b"Man"[..])),
            ("TWE=", Some(&b"Ma"[..])),
            ("TQ==", Some(&b"M"[..])),
            (PNG, Some(&b"\x89PNG\r\n\x1a\n"[..])),
            ("", None),
            ("TWF", None),
            ("T===", None),
            ("TW=u", None),
            ("TW-_", None),
        ] {
            assert_eq!(decode_head(data).as_deref(), bytes, "{data}");
        }
    }

    #[test]
    fn a_picture_is_typed_by_its_bytes_or_waits_at_its_url() {
        let png = ContentPart::Image { media: ImageMediaType::Png, data: PNG.into(), label: Label::CLAIM };
        let address = format!("data:image/png;base64,{PNG}");
        assert_eq!(of_address(Some(&address), "p").expect("it is one"), png);
        let source = json!({"type": "base64", "media_type": "image/png", "data": PNG});
        assert_eq!(of_source(Some(&source), "p").expect("it is one"), png);
        for (address, says) in [
            (Some("file:///etc/passwd".to_owned()), "begins with https://"),
            (Some("a.png".to_owned()), "begins with https://"),
            (Some("https://example.com/a b.png".to_owned()), "no blanks"),
            (Some(format!("https://example.com/{}", "a".repeat(URL_BYTES_MAX))), "at most 8192"),
            (Some("data:image/png,abc".to_owned()), "base64,"),
            (Some("data:image/png;base64,%%%%".to_owned()), "not in base64"),
            (Some("data:image/png;base64,TWFu".to_owned()), "not a PNG"),
            (Some(address.replace("png", "gif")), "its bytes are image/png"),
            (None, "missing"),
        ] {
            let refused = of_address(address.as_deref(), "p").expect_err(says);
            assert_eq!(refused.field_path(), Some("p"));
            assert!(refused.full_message().contains(says), "{refused:?}");
        }
        let url = "https://example.com/a.png";
        let source = json!({"type": "url", "url": url});
        for waits in [of_address(Some(url), "p"), of_source(Some(&source), "p")] {
            assert_eq!(remote_picture(&waits.expect("it is a URL")), Some((url, "p")));
        }
        assert_eq!(remote_picture(&png), None, "no base64 is taken for a URL");
        assert!(of_source(Some(&json!({"type": "url"})), "p").is_err());
        assert!(of_source(None, "p").is_err());
    }
}
