//! Reads off a certificate from when to when it is valid, and nothing else of it.
//!
//! A walk over the DER of X.509: the outermost sequence, in it what was signed, in that the fifth element after an
//! optional version. Whatever is not as it should be is nothing; nothing here decides about trust.

use jiff::Timestamp;

/// The tag of the version, which old certificates leave out.
const VERSION: u8 = 0xa0;

/// Serial number, algorithm and issuer come before the times.
const BEFORE_VALIDITY: usize = 3;

/// The tag of a time with two digits of the year.
const UTC_TIME: u8 = 0x17;

/// The tag of a time with four digits of the year.
const GENERALIZED_TIME: u8 = 0x18;

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateValidity {
    /// The first moment.
    pub not_before: Timestamp,
    /// The last moment.
    pub not_after: Timestamp,
}

/// Reads it off a certificate.
pub(super) fn certificate_validity(certificate: &[u8]) -> Option<CertificateValidity> {
    let (_, certificate, _) = read_der_element(certificate)?;
    let (_, mut signed, _) = read_der_element(certificate)?;
    let (first, _, rest) = read_der_element(signed)?;
    if first == VERSION {
        signed = rest;
    }
    for _ in 0..BEFORE_VALIDITY {
        signed = read_der_element(signed)?.2;
    }
    let (_, times, _) = read_der_element(signed)?;
    let (begin_tag, begin, rest) = read_der_element(times)?;
    let (end_tag, end, _) = read_der_element(rest)?;
    Some(CertificateValidity {
        not_before: parse_der_time(begin_tag, begin)?,
        not_after: parse_der_time(end_tag, end)?,
    })
}

/// Reads one element: its tag, what is in it, and what follows.
fn read_der_element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

fn parse_der_time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        UTC_TIME => {
            // The standard says which century is meant.
            let year: u8 = text.get(..2)?.parse().ok()?;
            format!("{}{text}", if year < 50 { "20" } else { "19" })
        }
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let digits = text.strip_suffix('Z')?;
    if digits.len() != 14 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    let (year, month, day) = (part(0, 4), part(4, 6), part(6, 8));
    let (hour, minute, second) = (part(8, 10), part(10, 12), part(12, 14));
    match format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z").parse() {
        Ok(time) => Some(time),
        // The last second of 9999 means that there is no end.
        Err(_) if year == "9999" => Some(Timestamp::MAX),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        for (tag, text, read) in [
            (UTC_TIME, "491231235959Z", Some("2049-12-31T23:59:59Z")),
            (UTC_TIME, "500101000000Z", Some("1950-01-01T00:00:00Z")),
            (GENERALIZED_TIME, "21240229000000Z", Some("2124-02-29T00:00:00Z")),
            (GENERALIZED_TIME, "20250229000000Z", None),
            (GENERALIZED_TIME, "2025", None),
            (UTC_TIME, "4912312359", None),
            (0x02, "491231235959Z", None),
        ] {
            let read = read.map(|read| read.parse::<Timestamp>().unwrap());
            assert_eq!(parse_der_time(tag, text.as_bytes()), read, "{text}");
        }
        assert_eq!(parse_der_time(GENERALIZED_TIME, b"99991231235959Z"), Some(Timestamp::MAX));
    }

    #[test]
    fn a_certificate_that_is_cut_anywhere_is_none() {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;

        let certificate =
            CertificateDer::from_pem_slice(dromia_testkit::tls::CERTIFICATE.as_bytes()).unwrap();
        assert!(certificate_validity(&certificate).is_some());
        for length in 0..certificate.len() {
            assert_eq!(certificate_validity(&certificate[..length]), None, "{length}");
        }
    }
}
