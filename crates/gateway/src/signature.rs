//! Signatures of webhooks, as Standard Webhooks has them: HMAC-SHA256 over id, time and body, in both directions.
//!
//! A key is `whsec_` and 24 to 64 bytes in base64. It is never shown. Signatures are compared in constant time, and a
//! good one is good for a while only: an attacker cannot send a recorded message again tomorrow.
//!
//! The crate standardwebhooks does not fit: it reads the system clock itself and takes keys of any length.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dromia_contracts::vault::{SIGNING_BYTES, SIGNING_PREFIX};
use jiff::Timestamp;
use ring::hmac;

/// The header that names a message; every repeat carries the same.
pub const ID_HEADER: &str = "webhook-id";
/// The header that says when it was sent, in seconds.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with the signatures, parted by spaces.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// The longest id, in bytes.
pub const ID_BYTES_MAX: usize = 256;
/// How many bytes a signature has.
const TAG_BYTES: usize = 32;
/// The most signatures of one message that are looked at.
const SIGNATURES_MAX: usize = 16;

/// A key that signs and checks. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct WebhookSigningKey(hmac::Key);

/// Says that a text is no key, without saying the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a webhook's secret is whsec_ followed by 24 to 64 bytes in base64")]
pub struct ParseKeyError;

impl FromStr for WebhookSigningKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let encoded = text.strip_prefix(SIGNING_PREFIX).ok_or(ParseKeyError)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| ParseKeyError)?;
        if !SIGNING_BYTES.contains(&bytes.len()) {
            return Err(ParseKeyError);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }
}

impl fmt::Debug for WebhookSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}

/// What a message says about itself, as its headers carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebhookHeaders<'a> {
    /// Its id.
    pub id: &'a str,
    /// When it was sent, in seconds.
    pub timestamp: &'a str,
    /// Its signatures.
    pub signature: &'a str,
}

impl WebhookHeaders<'_> {
    /// Checks what a message says about itself, before a key is looked for: its id, its time, and whether there is a
    /// signature at all. What passes may be forged still.
    ///
    /// # Errors
    /// What is wrong with it. The sender is not known, so the error does not go to him.
    pub fn check_headers(&self, now: Timestamp, tolerance: Duration) -> Result<(), SignatureError> {
        self.check_id()?;
        if !self.decoded_signatures().any(|tag| tag.len() == TAG_BYTES) {
            return Err(SignatureError::Forged);
        }
        self.check_time(now, tolerance)
    }

    fn check_id(&self) -> Result<(), SignatureError> {
        // A full stop in an id would let one signature fit another id and time.
        let good = |byte: u8| byte.is_ascii_graphic() && byte != b'.';
        let is_id = (1..=ID_BYTES_MAX).contains(&self.id.len()) && self.id.bytes().all(good);
        if is_id { Ok(()) } else { Err(SignatureError::Id) }
    }

    fn check_time(&self, now: Timestamp, tolerance: Duration) -> Result<(), SignatureError> {
        let sent: i64 = self.timestamp.parse().map_err(|_| SignatureError::Late)?;
        let apart = now.as_second().abs_diff(sent);
        if apart > tolerance.as_secs() { Err(SignatureError::Late) } else { Ok(()) }
    }

    /// The signatures of the kind that is known, decoded.
    fn decoded_signatures(&self) -> impl Iterator<Item = Vec<u8>> {
        let signatures = self.signature.split(' ').take(SIGNATURES_MAX);
        signatures.filter_map(|one| one.strip_prefix("v1,").and_then(|encoded| STANDARD.decode(encoded).ok()))
    }
}

/// Why a message is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// An id that no sender needs.
    #[error("webhook-id is 1 to 256 visible ASCII characters without a full stop")]
    Id,
    /// No holder of the key signed this.
    #[error("no signature is valid")]
    Forged,
    /// It was signed, and too long ago or ahead.
    #[error("webhook-timestamp differs too much from the server's clock")]
    Late,
}

impl WebhookSigningKey {
    /// Signs a message.
    pub fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let tag = hmac::sign(&self.0, &signed_content(id, timestamp, body));
        format!("v1,{}", STANDARD.encode(tag.as_ref()))
    }

    /// Checks that a message was signed with this key, and not too far from now. Its time is looked at only once it is
    /// known who says it.
    pub fn verify_message(
        &self,
        claims: WebhookHeaders<'_>,
        body: &[u8],
        now: Timestamp,
        tolerance: Duration,
    ) -> Result<(), SignatureError> {
        claims.check_id()?;
        let signed = signed_content(claims.id, claims.timestamp, body);
        if !claims.decoded_signatures().any(|tag| hmac::verify(&self.0, &signed, &tag).is_ok()) {
            return Err(SignatureError::Forged);
        }
        claims.check_time(now, tolerance)
    }
}

fn signed_content(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_614_265_330;

    fn key() -> WebhookSigningKey {
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().expect("a key")
    }

    fn checked(id: &str, timestamp: &str, signature: &str, body: &[u8]) -> Result<(), SignatureError> {
        let now = Timestamp::from_second(NOW).expect("a time");
        key().verify_message(WebhookHeaders { id, timestamp, signature }, body, now, Duration::from_mins(5))
    }

    #[test]
    fn the_example_of_the_standard_is_signed_and_verified() {
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#);
        let signature = key().sign(id, "1614265330", body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(checked(id, "1614265330", &signature, body), Ok(()));
        let several = format!("v1a,xyz v1,AAAA {signature}");
        assert_eq!(checked(id, "1614265330", &several, body), Ok(()), "one of several is enough");
    }

    #[test]
    fn a_changed_signed_message_is_refused() {
        let good = key().sign("m", "1614265330", b"body");
        for (id, timestamp, signature, body) in [
            ("n", "1614265330", good.as_str(), &b"body"[..]),
            ("m", "1614265331", &good, b"body"),
            ("m", "1614265330", &good, b"bodY"),
            ("m", "1614265330", "", b"body"),
            ("m", "1614265330", "v1,", b"body"),
            ("m", "1614265330", good.trim_start_matches("v1,"), b"body"),
            ("m", "1614265330", &good.replace("v1,", "v2,"), b"body"),
        ] {
            assert_eq!(
                checked(id, timestamp, signature, body),
                Err(SignatureError::Forged),
                "{id} {timestamp}"
            );
        }
        let other: WebhookSigningKey = format!("whsec_{}", STANDARD.encode([7; 32])).parse().unwrap();
        let forged = other.sign("m", "1614265330", b"body");
        assert_eq!(checked("m", "1614265330", &forged, b"body"), Err(SignatureError::Forged));
        let crowd = format!("{}{good}", "v1,AAAA ".repeat(SIGNATURES_MAX));
        assert_eq!(checked("m", "1614265330", &crowd, b"body"), Err(SignatureError::Forged), "a bound");
    }

    #[test]
    fn a_good_signature_is_good_for_a_while_only() {
        for (sent, good) in
            [(NOW, true), (NOW - 300, true), (NOW + 300, true), (NOW - 301, false), (NOW + 301, false)]
        {
            let timestamp = sent.to_string();
            let signature = key().sign("m", &timestamp, b"b");
            assert_eq!(checked("m", &timestamp, &signature, b"b").is_ok(), good, "{sent}");
        }
        for odd in ["", "soon", "1614265330.0", "99999999999999999999"] {
            let signature = key().sign("m", odd, b"b");
            assert_eq!(checked("m", odd, &signature, b"b"), Err(SignatureError::Late), "{odd}");
        }
        assert_eq!(
            checked("m", &i64::MIN.to_string(), &key().sign("m", &i64::MIN.to_string(), b"b"), b"b"),
            Err(SignatureError::Late)
        );
    }

    #[test]
    fn a_malformed_signature_is_refused_without_a_key() {
        let good = key().sign("m", "1614265330", b"body");
        let other = format!("v1,{}", STANDARD.encode([7; TAG_BYTES]));
        let several = format!("v1a,xyz v1,AAAA {good}");
        for (id, timestamp, signature, seen) in [
            ("m", "1614265330", good.as_str(), Ok(())),
            ("m", "1614265330", &other, Ok(())),
            ("m", "1614265330", &several, Ok(())),
            ("", "1614265330", &good, Err(SignatureError::Id)),
            ("a.1", "1614265330", &good, Err(SignatureError::Id)),
            ("m", "1614265330", "", Err(SignatureError::Forged)),
            ("m", "1614265330", "v1,AAAA", Err(SignatureError::Forged)),
            ("m", "1614265330", "v1,%", Err(SignatureError::Forged)),
            ("m", "1614265330", other.trim_start_matches("v1,"), Err(SignatureError::Forged)),
            ("m", "1614265029", &good, Err(SignatureError::Late)),
            ("m", "1614265631", &good, Err(SignatureError::Late)),
            ("m", "soon", &good, Err(SignatureError::Late)),
        ] {
            let now = Timestamp::from_second(NOW).expect("a time");
            let claims = WebhookHeaders { id, timestamp, signature };
            assert_eq!(claims.check_headers(now, Duration::from_mins(5)), seen, "{claims:?}");
        }
    }

    #[test]
    fn an_id_cannot_be_shifted_into_the_time() {
        for id in ["", "a.1", "a b", "ä", &"x".repeat(257)] {
            let signature = key().sign(id, "1614265330", b"b");
            assert_eq!(checked(id, "1614265330", &signature, b"b"), Err(SignatureError::Id), "{id}");
        }
    }

    #[test]
    fn an_invalid_key_is_refused_and_no_key_is_printed() {
        for bad in ["", "whsec_", "whsec_AAAA", "secret", "whsec_%%%", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert_eq!(bad.parse::<WebhookSigningKey>().err(), Some(ParseKeyError), "{bad}");
        }
        assert_eq!(format!("{:?}", key()), "Key(redacted)");
    }
}
