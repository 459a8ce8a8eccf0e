//! The tenant's feed, for readers that fetch messages instead of having them sent: its pages, and each reader's cursor.
//!
//! A reader is served by its own requests only, so one that is stuck or slow costs nothing and misses nothing.

use axum::Json;
use axum::extract::State;
use dromia_api::delivery::{FEED_LIMIT_MAX, FeedCursor, FeedPage, MoveCursor};
use dromia_contracts::ErrorCode;
use dromia_contracts::store::{CommitOutcome, CommitRefusal, CursorMove, Mutation, WriteBatch};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::caller::Caller;
use crate::core::Shared;
use crate::extract::{JsonBody, QueryParams, page_limit};
use crate::failure::{Answer, ApiError, commit_receipt};
use crate::wire;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FeedReadQuery {
    /// Only messages after this number; it goes before the subscriber's cursor.
    after: Option<u64>,
    /// Begin after the cursor of this subscriber.
    subscriber: Option<String>,
    /// The most messages, from 1 to 256; 50 where it is absent. A page ends early with the message that passes 1 MiB.
    #[schemars(range(min = 1, max = FEED_LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn read_feed(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(reading): QueryParams<FeedReadQuery>,
) -> Answer<Json<FeedPage>> {
    let limit = page_limit(reading.limit)?;
    let state = core.ports.store.feed_state(&caller.scope).await?;
    let cursor = |name: &String| {
        let known = state.subscribers.iter().find(|known| known.name == *name);
        known.map_or(0, |known| known.cursor)
    };
    let after = reading.after.or(reading.subscriber.as_ref().map(cursor)).unwrap_or(0);
    if after > state.last {
        return Err(cursor_beyond_end(after, state.last));
    }
    let found = core.ports.store.feed_items(&caller.scope, after, limit).await?;
    let items: Vec<_> = found.into_iter().map(wire::feed_item).collect();
    let next = items.last().map_or(after, |item| item.number);
    Ok(Json(FeedPage { items, next, last: state.last.max(next) }))
}

pub(crate) async fn move_cursor(
    State(core): State<Shared>,
    caller: Caller,
    JsonBody(wanted): JsonBody<MoveCursor>,
) -> Answer<Json<FeedCursor>> {
    let MoveCursor { subscriber, cursor } = wanted;
    if subscriber.chars().any(char::is_control) {
        return Err(ApiError::invalid_request("`subscriber` has a control character"));
    }
    let at = core.ports.runtime.clock.now();
    let to = CursorMove { subscriber: subscriber.clone(), to: cursor, at };
    let batch = WriteBatch::new(caller.scope.tenant()).with_mutation(Mutation::CursorMove(to));
    match core.ports.store.commit(batch).await {
        CommitOutcome::Refused(CommitRefusal::FeedMoved { found }) => {
            return Err(cursor_beyond_end(cursor, found));
        }
        answer => {
            commit_receipt(answer)?;
        }
    }
    let state = core.ports.store.feed_state(&caller.scope).await?;
    let known = state.subscribers.iter().find(|known| known.name == subscriber);
    let cursor = known.map_or(cursor, |known| known.cursor);
    Ok(Json(FeedCursor { subscriber, cursor, last: state.last }))
}

fn cursor_beyond_end(wanted: u64, last: u64) -> ApiError {
    ApiError::new(ErrorCode::CursorInFuture, format!("the feed ends at {last}, before {wanted}"))
}
