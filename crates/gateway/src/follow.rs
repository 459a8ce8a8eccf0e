//! A run's journal as server-sent events: every entry once and in order, live text in between, then `end`.
//!
//! The journal is the truth and the watch only a hint to read on, so a lost hint costs time and never an entry:
//! the watch is opened before the first read, and the journal is read again whenever the watch ends, lags, or
//! says nothing for as long as a keep-alive. Live text and live output carry no id, and what belongs to a step whose
//! answer was already sent, or to a call whose result was, is dropped.
//!
//! A stream ends soon after its token does (`standing`).
//!
//! Bounds: one short page of entries at a time; nothing is read before the connection took what came before, and
//! a client that takes nothing is dropped by the connection's write deadline.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use dromia_api::run::{
    Delta, EVENT_DELTA, EVENT_END, EVENT_ENTRY, EVENT_OUTPUT, EVENT_PROBLEM, Output, StreamEnd,
};
use dromia_contracts::entry::Entry;
use dromia_contracts::runs::{Live, Watch};
use dromia_contracts::store::StoredEntry;
use dromia_contracts::{CallId, ErrorCode, RunId, Scope};
use futures_util::StreamExt;
use futures_util::stream::{self, Stream};
use serde::Serialize;
use tokio::time::{Instant, Interval, interval_at, sleep};

use crate::caller::Caller;
use crate::core::Shared;
use crate::failure::{Answer, Failure};
use crate::request::RequestId;
use crate::share::Share;
use crate::standing::Standing;
use crate::wire;

/// How long the stream says nothing before it says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long to rest before a run that nobody works on is looked at again.
const REST: Duration = Duration::from_secs(1);

/// How many entries are read at a time. An entry's body may be as long as a batch, so pages are short.
const PAGE_ENTRIES: usize = 16;

/// Streams what follows `cursor`; holds `share` as long as it lives.
pub(crate) fn events(
    core: Shared,
    caller: Caller,
    run: RunId,
    cursor: u64,
    share: Share,
    request: RequestId,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let follow = Follow {
        core,
        scope: caller.scope.clone(),
        standing: Standing::new(caller),
        run,
        request,
        cursor,
        answered_step: 0,
        ended_call: None,
        keep_alive: interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE),
        next: Next::Watch,
        _share: share,
    };
    stream::unfold(follow, |mut follow| async move {
        let chunk = follow.chunk().await?;
        follow.keep_alive.reset();
        Some((Ok(chunk), follow))
    })
}

struct Follow {
    core: Shared,
    scope: Scope,
    standing: Standing,
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
    next: Next,
    _share: Share,
}

/// What the stream does next.
enum Next {
    /// Open a watch; whatever is committed from then on will be hinted.
    Watch,
    /// Read the journal to its end.
    Read(Option<Watch>),
    /// Wait for a hint.
    Listen(Watch),
    /// Wait before another watch, because nobody works on the run.
    Rest,
    /// Say nothing more.
    Over,
}

impl Follow {
    /// Returns the next piece of the stream.
    async fn chunk(&mut self) -> Option<Bytes> {
        if matches!(self.next, Next::Over) {
            return None;
        }
        if let Err(failure) = self.standing.check(&self.core).await {
            self.next = Next::Over;
            return Some(self.problem(&failure));
        }
        loop {
            let (next, chunk) = match std::mem::replace(&mut self.next, Next::Over) {
                Next::Over => return None,
                Next::Watch => match self.core.ports.runs.watch(self.scope.clone(), self.run).await {
                    Ok(watch) => (Next::Read(Some(watch)), None),
                    Err(fault) => (Next::Over, Some(self.problem(&fault.into()))),
                },
                Next::Read(watch) => match self.read().await {
                    Ok(Read::Entries(chunk)) => (Next::Read(watch), Some(chunk)),
                    Ok(Read::Ended(chunk)) => (Next::Over, Some(chunk)),
                    Ok(Read::Nothing) => (watch.map_or(Next::Rest, Next::Listen), None),
                    Err(failure) => (Next::Over, Some(self.problem(&failure))),
                },
                Next::Listen(watch) => self.listen(watch).await,
                Next::Rest => self.rest().await,
            };
            self.next = next;
            if chunk.is_some() {
                return chunk;
            }
        }
    }

    async fn read(&mut self) -> Answer<Read> {
        let store = self.core.ports.store.clone();
        let mut entries = store.journal(&self.scope, self.run, self.cursor, PAGE_ENTRIES).await?;
        if entries.is_empty() {
            let run = store.run(&self.scope, self.run).await?.ok_or_else(crate::routes::no_such_run)?;
            if run.last_seq == self.cursor {
                let status = run.head.status;
                let end = StreamEnd { status, last_seq: run.last_seq };
                return Ok(if status.is_terminal() {
                    Read::Ended(event(EVENT_END, None, &end))
                } else {
                    Read::Nothing
                });
            }
            // Entries came between the two reads.
            entries = store.journal(&self.scope, self.run, self.cursor, PAGE_ENTRIES).await?;
        }
        let mut text = Vec::new();
        for entry in entries {
            text.extend_from_slice(&self.entry(entry)?);
        }
        if text.is_empty() {
            return Err(Failure::new(ErrorCode::JournalDamaged, "the journal ends before its run says so"));
        }
        Ok(Read::Entries(text.into()))
    }

    fn entry(&mut self, stored: StoredEntry) -> Answer<Bytes> {
        if stored.seq != self.cursor + 1 {
            return Err(Failure::new(
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
        let chunk = event(EVENT_ENTRY, Some(seq), &wire::entry(stored)?);
        self.cursor = seq;
        Ok(chunk)
    }

    async fn listen(&mut self, mut watch: Watch) -> (Next, Option<Bytes>) {
        tokio::select! {
            biased;
            () = self.core.phase.closing.cancelled() => (Next::Over, None),
            live = watch.next() => match live {
                Some(Live::Committed { seq, .. }) if seq > self.cursor => (Next::Read(Some(watch)), None),
                Some(Live::Committed { .. }) => (Next::Listen(watch), None),
                Some(Live::Lagged) => (Next::Read(Some(watch)), None),
                Some(Live::Delta { step, attempt, offset, text }) => {
                    let delta = Delta { step, attempt, offset, text };
                    let chunk = (step > self.answered_step).then(|| event(EVENT_DELTA, None, &delta));
                    (Next::Listen(watch), chunk)
                }
                Some(Live::Output { call, offset, bytes, text }) => {
                    let output = Output { call, offset, bytes, text };
                    let chunk = (Some(call) > self.ended_call).then(|| event(EVENT_OUTPUT, None, &output));
                    (Next::Listen(watch), chunk)
                }
                None => (Next::Read(None), None),
            },
            _ = self.keep_alive.tick() => (Next::Read(Some(watch)), Some(keep_alive())),
        }
    }

    async fn rest(&mut self) -> (Next, Option<Bytes>) {
        tokio::select! {
            biased;
            () = self.core.phase.closing.cancelled() => (Next::Over, None),
            () = sleep(REST) => (Next::Watch, None),
            _ = self.keep_alive.tick() => (Next::Rest, Some(keep_alive())),
        }
    }

    fn problem(&self, failure: &Failure) -> Bytes {
        let id = self.request.as_str();
        failure.log(id);
        event(EVENT_PROBLEM, None, &failure.problem(id))
    }
}

/// What a read of the journal gave.
enum Read {
    Entries(Bytes),
    Ended(Bytes),
    Nothing,
}

fn keep_alive() -> Bytes {
    Bytes::from_static(b": keep-alive\n\n")
}

/// Writes one event. A line break inside the data, which stored JSON may carry between its tokens, becomes a
/// further data line, as the format wants it.
fn event(name: &str, id: Option<u64>, data: &impl Serialize) -> Bytes {
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
    fn a_line_break_in_stored_json_does_not_break_the_event() {
        let raw = serde_json::value::RawValue::from_string("{\n\"a\":1}".to_owned()).unwrap();
        let text = event("entry", Some(7), &raw);
        assert_eq!(text, "id: 7\nevent: entry\ndata: {\ndata: \"a\":1}\n\n");
    }
}
