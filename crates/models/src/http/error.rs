//! Which setting makes no adapter.

use dromia_contracts::egress::LineError;

/// Says which setting does not make an adapter.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is no plain http or https address.
    #[error("base_url must be an http:// or https:// URL without user name, query or fragment")]
    BaseUrl,
    /// The key cannot be a header value.
    #[error("the key has characters that a header cannot contain")]
    Key,
    /// There is no way to the server.
    #[error("there is no connection to the server")]
    Line(#[source] LineError),
}
