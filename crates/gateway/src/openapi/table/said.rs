//! What is said to agents and what they say: events, channels, deliveries and the feed.

use dromia_api::delivery::{Cursor, Delivery, DeliveryShown, FeedPage, MoveCursor};
use dromia_api::event::{EventAccepted, EventAnswered, SendEvent};
use dromia_api::{ErrorCode, IDEMPOTENCY_HEADER, List};
use serde_json::Value;

use crate::openapi::operation::Operation;
use crate::routes::queries;
use crate::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};

pub(super) fn events() -> Vec<Operation> {
    vec![
        Operation::new("POST", "/v1/events", "event_send", "Say something to an agent")
            .header(IDEMPOTENCY_HEADER, "Makes a repeated request one request, for 24 hours.")
            .takes::<SendEvent>()
            .gives::<EventAnswered>(200, "The run that took the input has ended.")
            .gives::<EventAccepted>(202, "The input is durable; nobody waited, or the wait ended first.")
            .writes()
            .fails(&[
                ErrorCode::AgentNotFound,
                ErrorCode::SessionNotFound,
                ErrorCode::AgentTerminated,
                ErrorCode::ActorRateLimited,
                ErrorCode::IdempotencyConflict,
                ErrorCode::JournalUnreadable,
            ]),
    ]
}

pub(super) fn deliveries() -> Vec<Operation> {
    vec![
        Operation::new(
            "POST",
            "/v1/channels/{channel}/events",
            "channel_receive",
            "Take in a webhook, signed as Standard Webhooks says",
        )
        .header(ID_HEADER, "Names the message; a repeat is one input, for 24 hours.")
        .header(TIMESTAMP_HEADER, "When it was sent, in seconds since 1970.")
        .header(
            SIGNATURE_HEADER,
            "`v1,` and the HMAC-SHA256 of id, time and body, parted by full stops, in base64.",
        )
        .takes::<Value>()
        .gives::<EventAccepted>(202, "The input is durable; `data.text` is said, or the whole body.")
        .writes()
        .fails(&[
            ErrorCode::SignatureRefused,
            ErrorCode::TenantNotFound,
            ErrorCode::AgentNotFound,
            ErrorCode::AgentTerminated,
            ErrorCode::ActorRateLimited,
            ErrorCode::IdempotencyConflict,
            ErrorCode::JournalUnreadable,
        ]),
        Operation::new(
            "GET",
            "/v1/deliveries",
            "delivery_list",
            "List messages on their way out, the newest first",
        )
        .query::<queries::Deliveries>()
        .gives::<List<Delivery>>(200, "A page of deliveries."),
        Operation::new(
            "GET",
            "/v1/deliveries/{delivery}",
            "delivery_show",
            "Show a message and its attempts",
        )
        .gives::<DeliveryShown>(200, "The delivery.")
        .fails(&[ErrorCode::DeliveryNotFound]),
        Operation::new(
            "POST",
            "/v1/deliveries/{delivery}/redrive",
            "delivery_redrive",
            "Have a message sent again that is dead or may not have arrived",
        )
        .query::<queries::Redriving>()
        .gives::<DeliveryShown>(200, "How it stands now; one that stands otherwise is left as it is.")
        .writes()
        .fails(&[ErrorCode::DeliveryNotFound, ErrorCode::DeliveryUncertain]),
        Operation::new("GET", "/v1/feed", "feed_read", "Read what was said to those whom nobody waits for")
            .query::<queries::Feed>()
            .gives::<FeedPage>(200, "A page of the feed, by number.")
            .fails(&[ErrorCode::CursorInFuture]),
        Operation::new("PUT", "/v1/feed", "feed_move", "Say how far a subscriber has read")
            .takes::<MoveCursor>()
            .gives::<Cursor>(200, "Where the subscriber stands.")
            .writes()
            .fails(&[ErrorCode::CursorInFuture]),
    ]
}
