//! What is said to agents and what they say: events, channels, deliveries and the feed.

use dromia_api::delivery::{DeliveryResource, DeliveryShown, FeedCursor, FeedPage, MoveCursor};
use dromia_api::event::{EventAccepted, EventAnswered, SendEvent};
use dromia_api::{ErrorCode, IDEMPOTENCY_HEADER, ListPage};
use serde_json::Value;

use crate::openapi::operation::Operation;
use crate::routes::queries;
use crate::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};

pub(super) fn event_operations() -> Vec<Operation> {
    vec![
        Operation::new("POST", "/v1/events", "event_send", "Send a message to an agent")
            .with_header(
                IDEMPOTENCY_HEADER,
                "A repeated request with the same key is executed once, for 24 hours.",
            )
            .takes_json::<SendEvent>()
            .gives_json::<EventAnswered>(200, "The run that took the input has ended.")
            .gives_json::<EventAccepted>(
                202,
                "The input is durable; the request did not wait, or the wait ended first.",
            )
            .writes_store()
            .fails_with(&[
                ErrorCode::AgentNotFound,
                ErrorCode::SessionNotFound,
                ErrorCode::AgentTerminated,
                ErrorCode::ActorRateLimited,
                ErrorCode::IdempotencyConflict,
                ErrorCode::JournalUnreadable,
            ]),
    ]
}

pub(super) fn delivery_operations() -> Vec<Operation> {
    vec![
        Operation::new(
            "POST",
            "/v1/channels/{channel}/events",
            "channel_receive",
            "Receive a webhook, signed as Standard Webhooks describes",
        )
        .with_header(ID_HEADER, "The id of the message; a repeat makes one input, for 24 hours.")
        .with_header(TIMESTAMP_HEADER, "The time of sending, in seconds since 1970.")
        .with_header(
            SIGNATURE_HEADER,
            "`v1,` and the HMAC-SHA256 of id, time and body, joined by full stops, in base64.",
        )
        .takes_json::<Value>()
        .gives_json::<EventAccepted>(202, "The input is durable; its text is `data.text`, or the whole body.")
        .writes_store()
        .fails_with(&[
            ErrorCode::SignatureRefused,
            ErrorCode::TenantNotFound,
            ErrorCode::AgentNotFound,
            ErrorCode::AgentTerminated,
            ErrorCode::ActorRateLimited,
            ErrorCode::IdempotencyConflict,
            ErrorCode::JournalUnreadable,
        ]),
        Operation::new("GET", "/v1/deliveries", "delivery_list", "List outgoing messages, newest first")
            .with_query::<queries::Deliveries>()
            .gives_json::<ListPage<DeliveryResource>>(200, "A page of deliveries."),
        Operation::new(
            "GET",
            "/v1/deliveries/{delivery}",
            "delivery_show",
            "Show a message and its attempts",
        )
        .gives_json::<DeliveryShown>(200, "The delivery.")
        .fails_with(&[ErrorCode::DeliveryNotFound]),
        Operation::new(
            "POST",
            "/v1/deliveries/{delivery}/redrive",
            "delivery_redrive",
            "Resend a message that is dead or may not have arrived",
        )
        .with_query::<queries::DeliveryRedriveQuery>()
        .gives_json::<DeliveryShown>(200, "Its current state; a message in another state is unchanged.")
        .writes_store()
        .fails_with(&[ErrorCode::DeliveryNotFound, ErrorCode::DeliveryUncertain]),
        Operation::new("GET", "/v1/feed", "feed_read", "Read answers that no request waits for")
            .with_query::<queries::Feed>()
            .gives_json::<FeedPage>(200, "A page of the feed, by number.")
            .fails_with(&[ErrorCode::CursorInFuture]),
        Operation::new("PUT", "/v1/feed", "feed_move", "Store how far a subscriber has read")
            .takes_json::<MoveCursor>()
            .gives_json::<FeedCursor>(200, "The subscriber's position.")
            .writes_store()
            .fails_with(&[ErrorCode::CursorInFuture]),
    ]
}
