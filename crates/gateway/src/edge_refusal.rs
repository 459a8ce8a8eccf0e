//! The reasons for which a client is refused or dropped at the edge. They are label values of a meter.

/// Why a client was refused or dropped at the edge, before a handler or while one runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EdgeRefusal {
    /// Its Host is none of ours.
    Host,
    /// The page that asks may not.
    Origin,
    /// The node answers as many requests as it may.
    Requests,
    /// The node carries as many streams as it may.
    Streams,
    /// The actor says too much.
    ActorRate,
    /// The token asks too often.
    TokenRate,
    /// The token has too many requests in flight.
    TokenRequests,
    /// The token has too many streams open.
    TokenStreams,
    /// The body did not arrive in time.
    SlowBody,
    /// There are too many bytes of bodies on their way.
    BodyBytes,
    /// The answer was left unread for too long.
    SlowReader,
    /// The encrypted connection did not come about.
    Handshake,
    /// The peer's address has too many connections.
    AddressConnections,
}

impl EdgeRefusal {
    pub(crate) const ALL: [Self; 13] = [
        Self::Host,
        Self::Origin,
        Self::Requests,
        Self::Streams,
        Self::ActorRate,
        Self::TokenRate,
        Self::TokenRequests,
        Self::TokenStreams,
        Self::SlowBody,
        Self::BodyBytes,
        Self::SlowReader,
        Self::Handshake,
        Self::AddressConnections,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Requests => "requests",
            Self::Streams => "streams",
            Self::ActorRate => "actor_rate",
            Self::TokenRate => "token_rate",
            Self::TokenRequests => "token_requests",
            Self::TokenStreams => "token_streams",
            Self::SlowBody => "slow_body",
            Self::BodyBytes => "body_bytes",
            Self::SlowReader => "slow_reader",
            Self::Handshake => "handshake",
            Self::AddressConnections => "address_connections",
        }
    }
}
