//! Records as a signed file: all that was there when it was asked for, in the chain's order, line by line.
//!
//! The lines and their links are the notary's. A file that breaks off, because a row is damaged, the token ended or the
//! server stops, has no last line, so a check of it reports that it was cut off.

use std::convert::Infallible;

use bytes::Bytes;
use dromia_api::audit::ExportAbout;
use dromia_contracts::Digest;
use dromia_contracts::audit::AuditCursor;
use futures_util::stream::{self, Stream};

use super::{AuditExportQuery, AuditRecordFilter, read_chain};
use crate::caller::Caller;
use crate::core::Shared;
use crate::failure::Answer;
use crate::request::RequestId;
use crate::share::ConcurrencyPermit;
use crate::stream_authentication::StreamAuthentication;

/// Writes the filters down, for the file's first line.
pub(super) fn filters_line(asked: &AuditExportQuery) -> String {
    let AuditExportQuery { agent, run, kind, actor, decision, since, until } = asked;
    let named = [
        ("agent", agent.clone()),
        ("run", run.map(|run| run.to_string())),
        ("kind", kind.clone()),
        ("actor", actor.clone()),
        ("decision", decision.map(|decision| decision.as_str().to_owned())),
        ("since", since.clone()),
        ("until", until.clone()),
    ];
    let said = named.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
    said.collect::<Vec<_>>().join(" ")
}

/// Streams the file; holds `share` as long as it lives.
pub(super) fn stream_lines(
    core: Shared,
    caller: Caller,
    wanted: AuditRecordFilter,
    filters: String,
    end: AuditCursor,
    share: ConcurrencyPermit,
    request: RequestId,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let about = ExportAbout {
        tenant: caller.tenant_handle().to_string(),
        at: core.ports.runtime.clock.now(),
        until_place: end.to_string(),
        filters,
    };
    // Strings and times only, so serialization has no failing case.
    let about = serde_json::to_string(&about).unwrap_or_default();
    let (first, link) = core.ports.notary.first_line(&about);
    let file = AuditExportFile {
        core,
        caller: caller.clone(),
        authentication: StreamAuthentication::new(caller),
        wanted,
        after: AuditCursor::default(),
        end,
        link,
        records: 0,
        first: Some(first),
        is_over: false,
        request,
        _share: share,
    };
    stream::unfold(file, |mut file| async move {
        if file.is_over {
            return None;
        }
        match file.next_lines().await {
            Ok(piece) => Some((Ok(Bytes::from(piece)), file)),
            Err(failure) => {
                failure.write_log(file.request.as_str());
                None
            }
        }
    })
}

struct AuditExportFile {
    core: Shared,
    caller: Caller,
    authentication: StreamAuthentication,
    wanted: AuditRecordFilter,
    after: AuditCursor,
    end: AuditCursor,
    link: Digest,
    records: u64,
    first: Option<String>,
    is_over: bool,
    request: RequestId,
    _share: ConcurrencyPermit,
}

impl AuditExportFile {
    /// Returns the lines of the next read; the last line with the last of them.
    async fn next_lines(&mut self) -> Answer<String> {
        self.authentication.check_caller(&self.core).await?;
        let mut text = self.first.take().unwrap_or_default();
        let read = read_chain(&self.core, &self.caller.scope, &self.wanted, self.after).await?;
        self.after = read.next;
        for record in &read.records {
            // What came after the file was begun belongs to the next one.
            let is_later = record.place.parse().is_ok_and(|place: AuditCursor| place >= self.end);
            if is_later {
                break;
            }
            let record = serde_json::to_string(record).unwrap_or_default();
            let (line, link) = self.core.ports.notary.record_line(self.link, &record);
            self.link = link;
            self.records += 1;
            text.push_str(&line);
        }
        if read.is_last || self.after >= self.end {
            self.is_over = true;
            text.push_str(&self.core.ports.notary.last_line(self.link, self.records));
        }
        Ok(text)
    }
}
