//! Records as server-sent events, from a place on, each once and in the chain's order.
//!
//! The chain is the truth and is looked at again every so often; nothing is kept for a reader in memory. The id of an
//! event is the place of its record, and only the last record of an item has one, so a reader that comes back with it
//! sees each record once wherever it was cut off.
//!
//! Bounds: one page at a time; nothing is read before the connection took what came before.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use dromia_api::audit::{AuditRecord, AuditStreamStart, EVENT_BEGUN, EVENT_RECORD};
use dromia_api::run::EVENT_PROBLEM;
use dromia_contracts::audit::AuditCursor;
use futures_util::stream::{self, Stream};
use serde::Serialize;
use tokio::time::{Instant, Interval, interval_at, sleep};

use super::{AuditRecordFilter, read_chain};
use crate::caller::Caller;
use crate::core::Shared;
use crate::failure::Answer;
use crate::request::RequestId;
use crate::share::ConcurrencyPermit;
use crate::stream_authentication::StreamAuthentication;

/// How long the stream says nothing before it says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long to rest before an end of the chain is looked at again.
const REST: Duration = Duration::from_millis(500);

/// Streams what follows a place; holds `share` as long as it lives.
pub(super) fn stream_events(
    core: Shared,
    caller: Caller,
    wanted: AuditRecordFilter,
    after: AuditCursor,
    share: ConcurrencyPermit,
    request: RequestId,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let tail = AuditTail {
        core,
        caller: caller.clone(),
        authentication: StreamAuthentication::new(caller),
        wanted,
        after,
        request,
        keep_alive: interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE),
        is_begun: false,
        is_over: false,
        _share: share,
    };
    stream::unfold(tail, |mut tail| async move {
        let chunk = tail.next_chunk().await?;
        tail.keep_alive.reset();
        Some((Ok(chunk), tail))
    })
}

struct AuditTail {
    core: Shared,
    caller: Caller,
    authentication: StreamAuthentication,
    wanted: AuditRecordFilter,
    after: AuditCursor,
    /// Whose id a problem names, as the headers do.
    request: RequestId,
    keep_alive: Interval,
    is_begun: bool,
    is_over: bool,
    _share: ConcurrencyPermit,
}

impl AuditTail {
    /// Returns the next piece of the stream.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        match self.next().await {
            Ok(chunk) => chunk,
            Err(failure) => {
                self.is_over = true;
                let id = self.request.as_str();
                failure.write_log(id);
                Some(encode_event(EVENT_PROBLEM, None, &failure.problem_details(id)))
            }
        }
    }

    async fn next(&mut self) -> Answer<Option<Bytes>> {
        if !std::mem::replace(&mut self.is_begun, true) {
            let place = self.after.to_string();
            return Ok(Some(encode_event(
                EVENT_BEGUN,
                Some(&place),
                &AuditStreamStart { place: place.clone() },
            )));
        }
        self.authentication.check_caller(&self.core).await?;
        loop {
            let read = read_chain(&self.core, &self.caller.scope, &self.wanted, self.after).await?;
            self.after = read.next;
            if !read.records.is_empty() {
                return Ok(Some(encode_records(&read.records)));
            }
            let rest = if read.is_last { REST } else { Duration::ZERO };
            tokio::select! {
                biased;
                () = self.core.phase.closing.cancelled() => return Ok(None),
                _ = self.keep_alive.tick() => return Ok(Some(Bytes::from_static(b": keep-alive\n\n"))),
                () = sleep(rest) => {}
            }
        }
    }
}

fn encode_records(records: &[AuditRecord]) -> Bytes {
    let mut text = Vec::new();
    for (number, record) in records.iter().enumerate() {
        // Records of one item share its place: only with the last of them the item is seen whole.
        let ends = records.get(number + 1).is_none_or(|next| next.place != record.place);
        text.extend_from_slice(&encode_event(EVENT_RECORD, ends.then_some(record.place.as_str()), record));
    }
    text.into()
}

fn encode_event(name: &str, id: Option<&str>, data: &impl Serialize) -> Bytes {
    // Strings, numbers and ids only, so serialization has no failing case; JSON of our own has no line break.
    let data = serde_json::to_string(data).unwrap_or_default();
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("{id}event: {name}\ndata: {data}\n\n").into()
}
