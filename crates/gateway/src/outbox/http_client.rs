//! The port through which messages leave: one request, one answer, nothing kept.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::BoxFuture;

/// A message on its way to a receiver, signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookRequest {
    /// Where it goes, as the operator wrote it.
    pub url: String,
    /// Headers in addition to those of HTTP itself.
    pub headers: Vec<(&'static str, String)>,
    /// The message.
    pub body: Bytes,
    /// How long the receiver may take, from the connection to the answer's status.
    pub timeout: Duration,
}

/// The outcome of one webhook request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookOutcome {
    /// The receiver answered.
    Answered {
        /// With this HTTP status; redirects included, none is followed.
        status: u16,
        /// And asked for a pause.
        retry_after: Option<Duration>,
        /// And said this: the beginning of the body, as far as it came soon.
        body: Bytes,
    },
    /// No byte of the message left: no address, no connection, no handshake, or it is not let out.
    NotSent {
        /// Why, without secrets.
        cause: String,
    },
    /// Some of it may have left, and nothing came back that can be read.
    Unanswered {
        /// What happened, without secrets.
        cause: String,
    },
}

/// Sends webhook requests. It follows no redirect, sends each once, reads no more of an answer than its
/// beginning, and ends within the request's time. Where it cannot tell whether a byte has left, the answer is
/// [`WebhookOutcome::Unanswered`].
pub trait WebhookSender: Send + Sync + fmt::Debug {
    /// Sends one webhook request.
    fn send_webhook(&self, letter: WebhookRequest) -> BoxFuture<'static, WebhookOutcome>;
}
