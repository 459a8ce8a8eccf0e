//! A certificate authority of the tests, and what it vouches for: `localhost`, `agents.example` and `127.0.0.1`.
//!
//! The keys are in the repository, so they protect nothing; only the tests trust this authority. The key of the
//! authority itself was thrown away.

/// The authority's certificate.
pub const AUTHORITY: &str = include_str!("tls/authority.pem");

/// A certificate, valid from 2025 until 2124.
pub const CERTIFICATE: &str = include_str!("tls/certificate.pem");

/// The same, but valid until noon of 2026-02-01.
pub const EXPIRED: &str = include_str!("tls/expired.pem");

/// The key of both.
pub const KEY: &str = include_str!("tls/key.pem");

/// A key that belongs to no certificate.
pub const OTHER_KEY: &str = include_str!("tls/other_key.pem");
