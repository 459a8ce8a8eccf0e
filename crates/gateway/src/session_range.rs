//! Reads a part of a session by its positions, however long ago it was said.

use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{PageRequest, SessionTail, StoredEntry};
use dromia_contracts::{ErrorCode, RunId, Scope, SessionId};

use crate::core::GatewayCore;
use crate::failure::{Answer, ApiError};

/// The most inputs of one answer.
pub(crate) const INPUTS_MAX: u64 = PageRequest::<()>::LIMIT_MAX as u64;

/// Reads the inputs from one position to another and the journals of the runs that took them.
pub(crate) async fn read_session_range(
    core: &GatewayCore,
    scope: &Scope,
    session: SessionId,
    (from, upto): (u64, u64),
) -> Answer<SessionTail> {
    if from == 0 || upto < from || upto - from >= INPUTS_MAX {
        return Err(ApiError::invalid_request(format!(
            "`from` must be 1 or more, and `upto` at least as large and at most {} larger",
            INPUTS_MAX - 1
        )));
    }
    let store = &core.ports.store;
    let found = store.session(scope, session).await?;
    let session =
        found.ok_or_else(|| ApiError::new(ErrorCode::SessionNotFound, "there is no such session"))?;
    let limit = usize::try_from(upto - from + 1).unwrap_or(usize::MAX);
    let mut items = store.inbox_items(scope, InboxOwner::Session(session.id), from - 1, limit).await?;
    items.retain(|item| item.position <= upto);
    let mut runs: Vec<(RunId, std::sync::Arc<[StoredEntry]>)> = Vec::new();
    for run in items.iter().filter_map(|item| item.taken_by) {
        if runs.last().is_none_or(|(last, _)| *last != run) {
            runs.push((run, read_whole_journal(core, scope, run).await?.into()));
        }
    }
    Ok(SessionTail { session, items, runs })
}

async fn read_whole_journal(core: &GatewayCore, scope: &Scope, run: RunId) -> Answer<Vec<StoredEntry>> {
    let mut all = Vec::new();
    loop {
        let page = core
            .ports
            .store
            .journal_entries(scope, run, all.len() as u64, PageRequest::<RunId>::LIMIT_MAX)
            .await?;
        let is_last = page.len() < PageRequest::<RunId>::LIMIT_MAX;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}
