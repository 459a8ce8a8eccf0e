//! A run's journal as server-sent events: every entry once and in order, live text in between, then `end`.
//!
//! The journal is the truth and the watch only a hint to read on, so a lost hint costs time and never an entry:
//! the watch is opened before the first read, and the journal is read again whenever the watch ends, lags, or
//! says nothing for as long as a keep-alive. Live text and live output carry no id, and what belongs to a step whose
//! answer was already sent, or to a call whose result was, is dropped.
//!
//! A stream ends soon after its token does (`authentication`). When the server stops, the stream of a run which rests ends at
//! once; that of a run which is at work goes on until the run rests or has ended, or until the drain ends all waits:
//! its client could not come back for the run's end.
//!
//! Bounds: one short page of entries at a time; nothing is read before the connection took what came before, and
//! a client that takes nothing is dropped by the connection's write deadline.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use dromia_api::run::{
    CallOutput, EVENT_DELTA, EVENT_END, EVENT_ENTRY, EVENT_OUTPUT, EVENT_PROBLEM, StreamEnd, TextDelta,
};
use dromia_contracts::entry::Entry;
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::{LiveEvent, Watch};
use dromia_contracts::store::StoredEntry;
use dromia_contracts::{CallId, ErrorCode, RunId, Scope};
use futures_util::StreamExt;
use futures_util::stream::{self, Stream};
use serde::Serialize;
use tokio::time::{Instant, Interval, interval_at, sleep};

use crate::caller::Caller;
use crate::core::Shared;
use crate::failure::{Answer, ApiError};
use crate::request::RequestId;
use crate::share::ConcurrencyPermit;
use crate::stream_authentication::StreamAuthentication;
use crate::wire;

/// How long the stream says nothing before it says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The pause before the stream looks again at a run that no worker holds.
const REST: Duration = Duration::from_secs(1);

/// How many entries are read at a time. An entry's body may be as long as a batch, so pages are short.
const PAGE_ENTRIES: usize = 16;

/// Streams what follows `cursor`; holds `share` as long as it lives.
pub(crate) fn stream_events(
    core: Shared,
    caller: Caller,
    run: RunId,
    cursor: u64,
    share: ConcurrencyPermit,
    request: RequestId,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let follow = JournalStream {
        core,
        scope: caller.scope.clone(),
        authentication: StreamAuthentication::new(caller),
        run,
        request,
        cursor,
        answered_step: 0,
        ended_call: None,
        keep_alive: interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE),
        closing: false,
        next: JournalStreamState::Watch,
        _share: share,
    };
    stream::unfold(follow, |mut follow| async move {
        let chunk = follow.next_chunk().await?;
        follow.keep_alive.reset();
        Some((Ok(chunk), follow))
    })
}

struct JournalStream {
    core: Shared,
    scope: Scope,
    authentication: StreamAuthentication,
    run: RunId,
    /// Whose id a problem names, as the headers do.
    request: RequestId,
    /// The number of the last entry sent.
    cursor: u64,
    /// The last model step whose answer was sent.
    answered_step: u32,
    /// The last call whose result was sent; the calls of a run end in their order.
    ended_call: Option<CallId>,
    keep_alive: Interval,
    /// Whether the server stops, as far as the stream knows.
    closing: bool,
    next: JournalStreamState,
    _share: ConcurrencyPermit,
}

/// What the stream does next.
enum JournalStreamState {
    /// Open a watch; whatever is committed from then on will be hinted.
    Watch,
    /// Read the journal to its end.
    JournalReadOutcome(Option<Watch>),
    /// Wait for a hint.
    Listen(Watch),
    /// Wait before another watch, because no worker holds the run.
    Rest,
    /// Say nothing more.
    Over,
}

impl JournalStream {
    /// Returns the next piece of the stream.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        if matches!(self.next, JournalStreamState::Over) {
            return None;
        }
        if let Err(failure) = self.authentication.check_caller(&self.core).await {
            self.next = JournalStreamState::Over;
            return Some(self.problem_event(&failure));
        }
        loop {
            let (next, chunk) = match std::mem::replace(&mut self.next, JournalStreamState::Over) {
                JournalStreamState::Over => return None,
                JournalStreamState::Watch => {
                    match self.core.ports.runs.watch_run(self.scope.clone(), self.run).await {
                        Ok(watch) => (JournalStreamState::JournalReadOutcome(Some(watch)), None),
                        Err(fault) => (JournalStreamState::Over, Some(self.problem_event(&fault.into()))),
                    }
                }
                JournalStreamState::JournalReadOutcome(watch) => match self.read_journal().await {
                    Ok(JournalReadOutcome::Entries(chunk)) => {
                        (JournalStreamState::JournalReadOutcome(watch), Some(chunk))
                    }
                    Ok(JournalReadOutcome::Ended(chunk)) => (JournalStreamState::Over, Some(chunk)),
                    Ok(JournalReadOutcome::Over) => (JournalStreamState::Over, None),
                    Ok(JournalReadOutcome::Nothing) => {
                        (watch.map_or(JournalStreamState::Rest, JournalStreamState::Listen), None)
                    }
                    Err(failure) => (JournalStreamState::Over, Some(self.problem_event(&failure))),
                },
                JournalStreamState::Listen(watch) => self.wait_for_hint(watch).await,
                JournalStreamState::Rest => self.wait_before_watch().await,
            };
            self.next = next;
            if chunk.is_some() {
                return chunk;
            }
        }
    }

    async fn read_journal(&mut self) -> Answer<JournalReadOutcome> {
        let store = self.core.ports.store.clone();
        let mut entries = store.journal_entries(&self.scope, self.run, self.cursor, PAGE_ENTRIES).await?;
        if entries.is_empty() {
            let run = store.run(&self.scope, self.run).await?.ok_or_else(crate::routes::no_such_run)?;
            if run.last_seq == self.cursor {
                let status = run.head.status;
                let end = StreamEnd {
                    status,
                    last_seq: run.last_seq,
                    model_calls: run.head.model_calls,
                    usage: run.head.usage,
                    cost_micros: run.head.cost_micros,
                    unpriced_calls: run.head.unpriced_calls,
                };
                return Ok(if status.is_terminal() {
                    JournalReadOutcome::Ended(encode_event(EVENT_END, None, &end))
                } else if self.closing && status != RunStatus::Running {
                    // Nothing goes on before the next start.
                    JournalReadOutcome::Over
                } else {
                    JournalReadOutcome::Nothing
                });
            }
            // Entries came between the two reads.
            entries = store.journal_entries(&self.scope, self.run, self.cursor, PAGE_ENTRIES).await?;
        }
        let mut text = Vec::new();
        for entry in entries {
            text.extend_from_slice(&self.encode_entry(entry)?);
        }
        if text.is_empty() {
            return Err(ApiError::new(ErrorCode::JournalDamaged, "the journal ends before the run does"));
        }
        Ok(JournalReadOutcome::Entries(text.into()))
    }

    fn encode_entry(&mut self, stored: StoredEntry) -> Answer<Bytes> {
        if stored.seq != self.cursor + 1 {
            return Err(ApiError::new(
                ErrorCode::JournalDamaged,
                format!("entry {} follows entry {}", stored.seq, self.cursor),
            ));
        }
        // An entry of a newer version is sent as it is; it closes no step that this version knows.
        match stored.decode() {
            Ok(Entry::ModelReplied(replied)) => self.answered_step = replied.step,
            Ok(Entry::ToolFinished(finished)) => self.ended_call = Some(finished.call),
            _ => {}
        }
        let seq = stored.seq;
        let chunk = encode_event(EVENT_ENTRY, Some(seq), &wire::api_entry(stored)?);
        self.cursor = seq;
        Ok(chunk)
    }

    async fn wait_for_hint(&mut self, mut watch: Watch) -> (JournalStreamState, Option<Bytes>) {
        tokio::select! {
            biased;
            () = self.core.phase.closing.cancelled(), if !self.closing => {
                self.closing = true;
                (JournalStreamState::JournalReadOutcome(Some(watch)), None)
            }
            () = self.core.phase.hurry.cancelled() => (JournalStreamState::Over, None),
            live = watch.next() => match live {
                Some(LiveEvent::Committed { seq, .. }) if seq > self.cursor => (JournalStreamState::JournalReadOutcome(Some(watch)), None),
                Some(LiveEvent::Committed { .. }) => (JournalStreamState::Listen(watch), None),
                Some(LiveEvent::Lagged) => (JournalStreamState::JournalReadOutcome(Some(watch)), None),
                Some(LiveEvent::Delta { step, attempt, offset, text }) => {
                    let delta = TextDelta { step, attempt, offset, text };
                    let chunk = (step > self.answered_step).then(|| encode_event(EVENT_DELTA, None, &delta));
                    (JournalStreamState::Listen(watch), chunk)
                }
                Some(LiveEvent::Output { call, offset, bytes, text }) => {
                    let output = CallOutput { call, offset, bytes, text };
                    let chunk = (Some(call) > self.ended_call).then(|| encode_event(EVENT_OUTPUT, None, &output));
                    (JournalStreamState::Listen(watch), chunk)
                }
                None => (JournalStreamState::JournalReadOutcome(None), None),
            },
            _ = self.keep_alive.tick() => (JournalStreamState::JournalReadOutcome(Some(watch)), Some(keep_alive())),
        }
    }

    async fn wait_before_watch(&mut self) -> (JournalStreamState, Option<Bytes>) {
        tokio::select! {
            biased;
            () = self.core.phase.closing.cancelled() => (JournalStreamState::Over, None),
            () = sleep(REST) => (JournalStreamState::Watch, None),
            _ = self.keep_alive.tick() => (JournalStreamState::Rest, Some(keep_alive())),
        }
    }

    fn problem_event(&self, failure: &ApiError) -> Bytes {
        let id = self.request.as_str();
        failure.write_log(id);
        encode_event(EVENT_PROBLEM, None, &failure.problem_details(id))
    }
}

/// What a read of the journal gave.
enum JournalReadOutcome {
    Entries(Bytes),
    Ended(Bytes),
    /// The server stops, and the run will not end before that.
    Over,
    Nothing,
}

fn keep_alive() -> Bytes {
    Bytes::from_static(b": keep-alive\n\n")
}

/// Writes one event. A line break inside the data, which stored JSON may carry between its tokens, becomes a
/// further data line, as the format wants it.
fn encode_event(name: &str, id: Option<u64>, data: &impl Serialize) -> Bytes {
    // Strings, numbers, ids and checked JSON only, so serialization has no failing case.
    let data = serde_json::to_string(data).unwrap_or_default();
    let mut text = String::with_capacity(data.len() + 48);
    if let Some(id) = id {
        text.push_str("id: ");
        text.push_str(&id.to_string());
        text.push('\n');
    }
    text.push_str("event: ");
    text.push_str(name);
    for line in data.split(['\n', '\r']) {
        text.push_str("\ndata: ");
        text.push_str(line);
    }
    text.push_str("\n\n");
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_in_stored_json_keeps_the_event_whole() {
        let raw = serde_json::value::RawValue::from_string("{\n\"a\":1}".to_owned()).unwrap();
        let text = encode_event("entry", Some(7), &raw);
        assert_eq!(text, "id: 7\nevent: entry\ndata: {\ndata: \"a\":1}\n\n");
    }
}
