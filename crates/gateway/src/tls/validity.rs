//! Reads off a certificate from when to when it is valid, and nothing else of it. Nothing here decides about trust.

use jiff::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateValidity {
    /// The first moment.
    pub not_before: Timestamp,
    /// The last moment.
    pub not_after: Timestamp,
}

/// Reads it off a certificate in DER.
pub(super) fn certificate_validity(certificate: &[u8]) -> Option<CertificateValidity> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    Some(CertificateValidity {
        not_before: timestamp_from_asn1(validity.not_before)?,
        not_after: timestamp_from_asn1(validity.not_after)?,
    })
}

/// The last second of 9999 means that a certificate does not expire (RFC 5280); it is later than any [`Timestamp`].
fn timestamp_from_asn1(time: ASN1Time) -> Option<Timestamp> {
    match Timestamp::from_second(time.timestamp()) {
        Ok(timestamp) => Some(timestamp),
        Err(_) if time.timestamp() > 0 => Some(Timestamp::MAX),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_9999_means_no_end() {
        for (seconds, expected) in [
            (2_524_607_999, Some("2049-12-31T23:59:59Z".parse().unwrap())),
            (253_402_300_799, Some(Timestamp::MAX)),
            (-631_152_000, Some("1950-01-01T00:00:00Z".parse().unwrap())),
        ] {
            let time = ASN1Time::from_timestamp(seconds).unwrap();
            assert_eq!(timestamp_from_asn1(time), expected, "{seconds}");
        }
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
