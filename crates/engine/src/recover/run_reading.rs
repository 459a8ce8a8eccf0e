//! What a takeover reads of a run: its journal, folded, and the conversation before it.

use std::sync::Arc;

use dromia_contracts::entry::HoldReason;
use dromia_contracts::run::RunRecord;
use dromia_contracts::session::{InboxItem, InboxOwner, SessionKey};
use dromia_contracts::store::{PageRequest, ReadError, StoredEntry, TailLimits};
use dromia_contracts::{Actor, ErrorCode, Fault, ItemId, Scope};

use crate::agents::AgentSnapshot;
use crate::checkpoint::{CheckpointMarks, ENTRIES_BETWEEN, read_checkpoint};
use crate::client_tools::ClientToolAdmission;
use crate::context::summary::ConversationSummary;
use crate::context::transcript::{ConversationTranscript, StoryError};
use crate::core::EngineCore;
use crate::encoded_request::SentRequestReader;
use crate::journal_reads::read_entries;
use crate::state::{RunState, apply_entry};
use crate::summary_reads::read_summary;
use crate::window_use::past_limits;

/// A run as its next owner begins with it.
pub(super) struct FoldedRun {
    pub(super) state: RunState,
    pub(super) marks: CheckpointMarks,
    pub(super) story: ConversationTranscript,
    /// The key of its session.
    pub(super) key: SessionKey,
    /// The author of its first input; unknown once that is erased.
    pub(super) author: Option<Actor>,
    /// Its agent as the run has it.
    pub(super) agent: Arc<AgentSnapshot>,
}

/// Why a journal could not be read.
pub(super) enum JournalReadError {
    Later(String),
    Hold(HoldReason, String),
}

impl From<ReadError> for JournalReadError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable { cause } => Self::Later(cause),
            ReadError::Damaged { place, problem } => {
                Self::Hold(HoldReason::Damaged, format!("{place}: {problem}"))
            }
        }
    }
}

impl JournalReadError {
    /// The parent's transcript, with which a branch begins, cannot be read.
    fn of_parent(fault: Fault) -> Self {
        match fault.code {
            ErrorCode::StoreUnavailable => Self::Later(fault.message),
            _ => {
                Self::Hold(HoldReason::Unreadable, format!("the transcript of its parent: {}", fault.message))
            }
        }
    }
}

/// Reads and folds the journal of a run, with what is before it in its session.
pub(super) async fn read_run_state(
    core: &EngineCore,
    scope: &Scope,
    run: &RunRecord,
    agent: Arc<AgentSnapshot>,
) -> Result<FoldedRun, JournalReadError> {
    let FoldedJournal { state, marks, entries } = fold_journal(core, scope, run).await?;
    let after = state.started.as_ref().map_or(0, |started| started.after);
    let (summary, limits) = pinned_past(core, scope, &state, &marks, &agent).await?;
    // The limits apply to the past. The run's own items and entries are read in full, as the live run had them.
    let limits = TailLimits { until: Some(after), ..limits };
    let Some(mut tail) = core.ports.store.session_tail(scope, run.session, limits).await? else {
        return Err(JournalReadError::Hold(HoldReason::Damaged, format!("{} is gone", run.session)));
    };
    let own = read_own_inputs(core, scope, run, (after, state.inputs_end())).await?;
    let author = own.first().map(|item| item.author.clone());
    if let Some(first) = own.first() {
        ClientToolAdmission::new(core).add_answered(scope, &mut tail, after, first).await?;
    }
    tail.items.extend(own);
    tail.runs.push((run.id, entries.into()));
    let agent = find_run_agent(core, scope, agent, &state, &tail.session.key).await?;
    let unreadable = |error: StoryError| JournalReadError::Hold(HoldReason::Unreadable, error.to_string());
    let tainted_past = marks.tainted_past.unwrap_or(core.config().tainted_past);
    let reader = SentRequestReader::new(&core.ports);
    let start = reader.read_start(scope, tail.session.origin.as_deref(), summary, tainted_past).await;
    let start = start.map_err(JournalReadError::of_parent)?;
    let story = ConversationTranscript::from_tail(&tail, Some(run.id), tainted_past, start);
    let mut story = story.map_err(unreadable)?;
    story.briefing = state.started.as_ref().and_then(|started| started.briefing.clone());
    Ok(FoldedRun { state, marks, story, key: tail.session.key, author, agent })
}

/// Returns the summary that a run began with, and how much of its session's past its requests hold. A run that has called its
/// model keeps the past of that call, whatever the configuration says by now.
async fn pinned_past(
    core: &EngineCore,
    scope: &Scope,
    state: &RunState,
    marks: &CheckpointMarks,
    agent: &AgentSnapshot,
) -> Result<(Option<Arc<ConversationSummary>>, TailLimits), ReadError> {
    let summary = match state.started.as_ref().and_then(|started| started.summary) {
        Some(run) => read_summary(&*core.ports.store, scope, run).await?,
        None => None,
    };
    let limits = if let Some(from) = marks.history_from {
        TailLimits { after: from.saturating_sub(1), items: usize::MAX, bytes: usize::MAX, until: None }
    } else {
        let after = summary.as_ref().map_or(0, |summary| summary.upto());
        past_limits(core.window_tokens(&agent.config.model), after)
    };
    Ok((summary, limits))
}

/// Returns the agent of a run as the run has it: what it is pinned to, within the bounds of its session, directory and task.
pub(super) async fn find_run_agent(
    core: &EngineCore,
    scope: &Scope,
    now: Arc<AgentSnapshot>,
    state: &RunState,
    key: &SessionKey,
) -> Result<Arc<AgentSnapshot>, ReadError> {
    let Some(started) = &state.started else { return Ok(now.within_session(scope.tenant(), key)) };
    let pinned = core.caches.agents.pinned_snapshot(scope, now, started).await?;
    let placed = pinned.within_session(scope.tenant(), key).within_workspace(started.workspace.as_ref());
    Ok(placed.within_origin(&*core.ports.gate, started.origin.as_deref()))
}

/// Reads the items of its session that a run took: all of them, however many joined it.
async fn read_own_inputs(
    core: &EngineCore,
    scope: &Scope,
    run: &RunRecord,
    (mut after, last): (u64, u64),
) -> Result<Vec<InboxItem>, ReadError> {
    let owner = InboxOwner::Session(run.session);
    let mut own: Vec<InboxItem> = Vec::new();
    while after < last {
        let limit = usize::try_from(last - after).unwrap_or(usize::MAX).min(PageRequest::<ItemId>::LIMIT_MAX);
        let page = core.ports.store.inbox_items(scope, owner, after, limit).await?;
        let Some(end) = page.last() else { break };
        after = end.position;
        own.extend(page);
    }
    Ok(own)
}

/// A journal, folded.
struct FoldedJournal {
    state: RunState,
    marks: CheckpointMarks,
    /// The entries that the transcript needs, in order.
    entries: Vec<StoredEntry>,
}

/// Folds a journal: from its checkpoint, if it has one that can be used, or from the first entry.
async fn fold_journal(
    core: &EngineCore,
    scope: &Scope,
    run: &RunRecord,
) -> Result<FoldedJournal, JournalReadError> {
    let store = &*core.ports.store;
    let (mut state, mut marks) = find_checkpoint(core, scope, run).await?.unwrap_or_default();
    let mut entries = Vec::new();
    for (first, last) in marks.content.list_ranges() {
        entries.extend(read_entries(store, scope, run.id, (first.saturating_sub(1), last)).await?);
    }
    // To its end, wherever the row was that the takeover read: an earlier owner of this process may have gone on meanwhile.
    let rest = read_entries(store, scope, run.id, (state.seq, u64::MAX)).await?;
    for stored in &rest {
        let entry = stored.decode().map_err(|error| {
            JournalReadError::Hold(HoldReason::Unreadable, format!("entry {}: {error}", stored.seq))
        })?;
        apply_entry(&mut state, &entry);
        marks.note_entry(state.seq, &entry);
    }
    entries.extend(rest);
    Ok(FoldedJournal { state, marks, entries })
}

/// Reads the checkpoint of a run. One that cannot be used costs a warning, and the journal is folded from its first entry.
async fn find_checkpoint(
    core: &EngineCore,
    scope: &Scope,
    run: &RunRecord,
) -> Result<Option<(RunState, CheckpointMarks)>, JournalReadError> {
    if run.last_seq < ENTRIES_BETWEEN {
        return Ok(None);
    }
    let problem = match core.ports.store.run_checkpoint(scope, run.id).await {
        Ok(None) => return Ok(None),
        Ok(Some(checkpoint)) => match read_checkpoint(&checkpoint) {
            Ok(found) => return Ok(Some(found)),
            Err(problem) => problem,
        },
        Err(ReadError::Damaged { problem, .. }) => problem,
        Err(error @ ReadError::Unavailable { .. }) => return Err(error.into()),
    };
    tracing::warn!(run = %run.id, %problem, "the checkpoint of a run is not used; its whole journal is folded");
    Ok(None)
}
