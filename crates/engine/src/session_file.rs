//! Session export and import: one versioned JSON file with transcript, tool history, bodies and custom state.
//!
//! An export contains only closed runs, so the file ends at a unit border; the result says what that leaves out. An
//! import copies: the new session, its runs and its items get ids of their own, and nothing refers to where they came
//! from. A reader refuses a file of a newer version or with an entry it does not know, before it writes anything. It
//! trusts no label unless the importer vouches for the file. An import is atomic.

mod atomic_import;
mod format;
mod label_reset;
mod readability;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::entry::Entry;
use dromia_contracts::input::InputBody;
use dromia_contracts::run::RunKind;
use dromia_contracts::runs::{ImportLabels, SessionExport};
use dromia_contracts::session::{InboxOwner, ItemKind, SessionRecord};
use dromia_contracts::store::{
    InboxPut, ItemKey, Mutation, NewEntry, PageRequest, RunAppend, StateEntry, StatePut, TurnClaim,
};
use dromia_contracts::{AgentId, Digest, ErrorCode, Fault, ItemId, RunId, Scope, SessionId};
use jiff::Timestamp;

pub(crate) use self::atomic_import::is_imported;
use self::atomic_import::{ImportStart, ImportTarget, bulk_batch, not_imported};
use self::format::{
    FORMAT, FileEntry, FileItem, FileRun, FileState, SessionFile, TextOrHex, VERSION, count_joined,
};
use self::label_reset::doubt_entries;
use self::readability::read_file;
use crate::agents::{AgentDirectory, read_fault};
use crate::client_tools;
use crate::core::EngineCore;
use crate::journal_reads::read_journal;
use crate::ports::EnginePorts;
use crate::refusal::session_not_found;
use crate::state::{RunState, apply_entry};

/// Entries and bytes of one batch of an import; the limits of a batch leave room for the rest.
const CHUNK_ENTRIES: usize = 100;
const CHUNK_BYTES: usize = 128 * 1024;

/// Reads and checks the file of a session as an import does before it writes anything, and writes nothing.
pub fn check_session_file(bytes: &[u8]) -> Result<(), Fault> {
    let (file, mut runs) = read_file(bytes)?;
    for (_, entries) in &mut runs {
        doubt_entries(entries)?;
    }
    // Runs keep their ids here: an import would rename them, which does not change whether the file is readable.
    let renamed: HashMap<RunId, RunId> = runs.iter().map(|(run, _)| (*run, *run)).collect();
    for mut item in file.items {
        item.rename_run(&renamed)?;
        item.lower_labels()?;
        item.body.map(TextOrHex::into_bytes).transpose()?;
    }
    for state in file.state {
        state.value.into_bytes()?;
    }
    Ok(())
}

/// The fault for the session of a branch, which is incomplete without that of its parent.
fn branch_not_exported(session: &SessionRecord) -> Fault {
    let parent = session.origin.as_ref().map(|origin| origin.session.to_string()).unwrap_or_default();
    let text = format!("{} is a branch of {parent} and has no transcript without it", session.id);
    Fault::new(ErrorCode::InvalidRequest, text)
        .with_hint(format!("export its parent with `dromia session export {parent}`"))
}

/// The fault for a damaged session, so that no incomplete export looks complete.
fn not_whole(session: SessionId, problem: &str) -> Fault {
    Fault::new(ErrorCode::JournalDamaged, format!("{session} is damaged: {problem}"))
}

/// Exports sessions into files, and imports such files.
pub(crate) struct SessionArchive<'a> {
    ports: &'a EnginePorts,
    agents: &'a AgentDirectory,
    holder: Digest,
}

impl<'a> SessionArchive<'a> {
    /// Begins with the parts that it needs.
    pub(crate) fn new(core: &'a EngineCore) -> Self {
        Self { ports: &core.ports, agents: &core.caches.agents, holder: core.lease.holder() }
    }

    /// Writes a session into one file, as it was when its row was read: an item that a run takes later is left out, and
    /// so is that run.
    pub(crate) async fn export_session(&self, scope: &Scope, id: SessionId) -> Result<SessionExport, Fault> {
        let store = &self.ports.store;
        let session =
            store.session(scope, id).await.map_err(read_fault)?.ok_or_else(|| session_not_found(id))?;
        if session.origin.as_ref().is_some_and(|origin| origin.kind == RunKind::Branch) {
            return Err(branch_not_exported(&session));
        }
        let mut file = SessionFile {
            format: FORMAT.to_owned(),
            version: VERSION,
            session: id,
            key: session.key,
            opened_at: session.opened_at,
            items: Vec::new(),
            runs: Vec::new(),
            state: Vec::new(),
        };
        let (mut after, mut taken_beyond) = (0, false);
        loop {
            let page =
                store.inbox_items(scope, InboxOwner::Session(id), after, PAGE).await.map_err(read_fault)?;
            for item in &page {
                after = item.position;
                let was_taken = item.position <= session.head.taken;
                if was_taken && item.taken_by.is_none() {
                    return Err(not_whole(
                        id,
                        &format!("a run took item {after} of its inbox, but no run records it"),
                    ));
                }
                taken_beyond |= !was_taken && item.taken_by.is_some();
                let taken_by = item.taken_by.filter(|run| was_taken && Some(*run) != session.head.active);
                let Some(run) = taken_by else { continue };
                if file.runs.last().is_none_or(|last| last.id != run) {
                    file.runs.push(self.export_run(scope, run).await?);
                }
                file.items.push(FileItem {
                    id: item.id,
                    at: item.at,
                    kind: item.kind,
                    author: item.author.clone(),
                    body: item.body.as_ref().map(TextOrHex::from),
                    taken_by: run,
                });
            }
            if page.len() < PAGE {
                break;
            }
        }
        loop {
            let after = file.state.last().map(|entry| entry.name.clone());
            let page = PageRequest { after: after.as_deref(), limit: STATE_PAGE };
            let entries = store.session_state(scope, id, page).await.map_err(read_fault)?;
            let is_last = entries.len() < STATE_PAGE;
            let entry =
                |entry: StateEntry| FileState { name: entry.name, value: TextOrHex::from(&entry.value) };
            file.state.extend(entries.into_iter().map(entry));
            if is_last {
                break;
            }
        }
        if after < session.head.last {
            return Err(not_whole(id, &format!("its inbox ends with item {after} of {}", session.head.last)));
        }
        // A run that began meanwhile took them, or the session's row is behind its inbox.
        if taken_beyond
            && store.session(scope, id).await.map_err(read_fault)?.is_some_and(|now| now.head == session.head)
        {
            return Err(not_whole(id, "runs took items that are not recorded as taken"));
        }
        let file = serde_json::to_vec_pretty(&file)
            .map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
        // What no import would take is no copy of a session.
        check_session_file(&file).map_err(|fault| not_whole(id, &fault.message))?;
        Ok(SessionExport {
            file,
            open_runs: u64::from(session.head.active.is_some()),
            waiting_inputs: session.head.last.saturating_sub(session.head.taken),
        })
    }

    async fn export_run(&self, scope: &Scope, run: RunId) -> Result<FileRun, Fault> {
        let mut entries = Vec::new();
        for stored in read_journal(&*self.ports.store, scope, run).await.map_err(read_fault)? {
            let fields = serde_json::from_str(&stored.fields)
                .map_err(|error| Fault::new(ErrorCode::JournalUnreadable, error.to_string()))?;
            entries.push(FileEntry {
                at: stored.at,
                kind: stored.kind,
                version: stored.version,
                fields,
                body: stored.body.as_ref().map(TextOrHex::from),
            });
        }
        Ok(FileRun { id: run, entries })
    }

    /// Reads such a file into a new session of an agent. The same file under the same name of a copy gives the same session,
    /// also where an earlier try broke off.
    pub(crate) async fn import_session(
        &self,
        scope: &Scope,
        agent: AgentId,
        bytes: &[u8],
        labels: ImportLabels,
        copy: Option<&str>,
    ) -> Result<SessionId, Fault> {
        let agent = self.agents.agent_snapshot(scope, agent).await?;
        // A paused agent would take the short runs and refuse the first long one.
        if agent.state == AgentState::Paused {
            return Err(not_imported());
        }
        let agent = agent.id;
        let (file, mut runs) = read_file(bytes)?;
        let believes = labels == ImportLabels::Believed;
        if !believes {
            file.items.iter().try_for_each(FileItem::check_labels)?;
            runs.iter_mut().try_for_each(|(_, entries)| doubt_entries(entries))?;
        }
        let key = atomic_import::import_key(bytes, labels, copy, file.key.actor);
        let mut filling = match self.import_open(scope, agent, key, believes).await? {
            ImportStart::Whole(session) => return Ok(session),
            ImportStart::Begun(filling) => filling,
        };
        self.import_state(scope, &mut filling, file.opened_at, file.state).await?;
        let mut items: HashMap<RunId, Vec<FileItem>> = HashMap::new();
        for item in file.items {
            items.entry(item.taken_by).or_default().push(item);
        }
        let mut after = 0;
        let mut renamed = HashMap::new();
        let mut answered = HashSet::new();
        for (old, entries) in runs {
            let mut taken = Vec::new();
            for mut item in items.remove(&old).unwrap_or_default() {
                // Of two items that answer the same calls the first one did. The key hashes the body as the client sent
                // it, so that the client finds its results after their labels were lowered.
                let key = item.rename_run(&renamed)?.filter(|key| answered.insert(key.key.clone()));
                if !believes {
                    item.lower_labels()?;
                }
                taken.push((item, key));
            }
            let count = taken.len() as u64;
            let new = self.import_run(scope, agent, &mut filling, after, taken, entries).await?;
            renamed.insert(old, new);
            after += count;
        }
        // A commit of its own, so that the import ends only after all other commits.
        self.import_commit(bulk_batch(scope).with_mutation(Mutation::ImportEnd(filling.session))).await?;
        Ok(filling.session)
    }

    /// Writes the custom state. The write ids derive from the session's id, so that a repeated attempt finds its
    /// earlier writes.
    async fn import_state(
        &self,
        scope: &Scope,
        filling: &mut ImportTarget,
        at: Timestamp,
        state: Vec<FileState>,
    ) -> Result<(), Fault> {
        let (mut batch, mut bytes) = (bulk_batch(scope), 0);
        for FileState { name, value } in state {
            let value = value.into_bytes()?;
            bytes += value.len();
            let count = batch.mutations.len();
            if count > 0 && (bytes > CHUNK_BYTES || count == CHUNK_ENTRIES) {
                self.import_commit(std::mem::replace(&mut batch, bulk_batch(scope))).await?;
                bytes = value.len();
            }
            let (session, write) = (filling.session, filling.write_id());
            let expected = Some(0);
            batch.mutations.push(Mutation::StatePut(StatePut { session, name, expected, value, at, write }));
        }
        if batch.mutations.is_empty() {
            return Ok(());
        }
        self.import_commit(batch).await
    }

    /// Writes one closed run. After each commit the run's row agrees with its entries, and no read sees either: the
    /// session is not visible yet.
    async fn import_run(
        &self,
        scope: &Scope,
        agent: AgentId,
        filling: &mut ImportTarget,
        after: u64,
        items: Vec<(FileItem, Option<ItemKey>)>,
        mut entries: Vec<NewEntry>,
    ) -> Result<RunId, Fault> {
        let (session, run) = (filling.session, filling.run_id());
        let mut batch = bulk_batch(scope);
        let mut take = Vec::new();
        for (item, key) in items {
            let id = filling.item_id();
            take.push(id);
            batch.mutations.push(Mutation::InboxPut(InboxPut {
                owner: InboxOwner::Session(session),
                item: id,
                at: item.at,
                kind: item.kind,
                author: item.author,
                body: item.body.map_or(Ok(Bytes::new()), TextOrHex::into_bytes)?,
                key,
            }));
        }
        let joined = count_joined(entries.iter().map(|new| &new.entry)).min(take.len());
        if let Some(Entry::RunStarted(started)) = entries.first_mut().map(|first| &mut first.entry) {
            (started.agent, started.session, started.after) = (agent, session, after);
            started.items = take[..take.len() - joined].to_vec();
            // The directories of another server are none of this one.
            (started.resumes, started.workspace) = (None, None);
            // Neither is a summary, which another run of that server wrote.
            started.summary = None;
            // No run here is its parent: a worker comes as a turn, and tells no session of its end.
            if started.origin.take().is_some() && started.kind.is_child() {
                started.kind = RunKind::Turn;
            }
        }
        // The items have other ids here, and other positions.
        let mut later = take.split_off(take.len() - joined).into_iter();
        let mut position = after + take.len() as u64;
        for taken in entries.iter_mut().filter_map(|new| match &mut new.entry {
            Entry::InputsTaken(taken) => Some(taken),
            _ => None,
        }) {
            taken.items = later.by_ref().take(taken.items.len()).collect();
            taken.after = position;
            position += taken.items.len() as u64;
        }
        let mut state = RunState::default();
        let mut first = Some((batch, take));
        let mut rest = entries.into_iter().peekable();
        while rest.peek().is_some() {
            let from = state.seq;
            let chunk = next_chunk(&mut rest);
            for new in &chunk {
                apply_entry(&mut state, &new.entry);
            }
            let head = state.run_head();
            let batch = if let Some((mut batch, take)) = first.take() {
                let holder = self.holder;
                batch.claim = Some(TurnClaim {
                    session,
                    agent,
                    run,
                    holder,
                    after,
                    take,
                    entries: chunk,
                    head,
                    notice: None,
                });
                batch
            } else {
                let append = RunAppend { run, epoch: 1, after: from, entries: chunk, head, checkpoint: None };
                bulk_batch(scope).with_mutation(Mutation::RunAppend(append))
            };
            self.import_commit(batch).await?;
        }
        Ok(run)
    }
}

/// How many state entries are read at a time; a value may be long.
const STATE_PAGE: usize = 16;

const PAGE: usize = PageRequest::<ItemId>::LIMIT_MAX;

fn next_chunk(entries: &mut std::iter::Peekable<std::vec::IntoIter<NewEntry>>) -> Vec<NewEntry> {
    let mut chunk: Vec<NewEntry> = Vec::new();
    let mut bytes = 0;
    while let Some(next) = entries.peek() {
        bytes += next.body.as_ref().map_or(0, Bytes::len);
        if !chunk.is_empty() && (chunk.len() == CHUNK_ENTRIES || bytes > CHUNK_BYTES) {
            break;
        }
        chunk.extend(entries.next());
    }
    chunk
}

impl FileItem {
    /// Replaces the id of the run whose client calls the item answers by the run's new id. Returns the key of the one
    /// input that answers those calls, so that calls which were answered before the export are not answered again.
    fn rename_run(&mut self, renamed: &HashMap<RunId, RunId>) -> Result<Option<ItemKey>, Fault> {
        let Some(TextOrHex::Utf8(text)) = self.body.as_ref().filter(|_| self.kind == ItemKind::Input) else {
            return Ok(None);
        };
        // An unreadable body stays as it is; a reader of the session reports it.
        let Ok(mut body) = InputBody::decode(text.as_bytes()) else { return Ok(None) };
        let Some(mut answers) = body.answers.take() else { return Ok(None) };
        let Some(run) = renamed.get(&answers.run) else { return Ok(None) };
        answers.run = *run;
        body.answers = Some(answers.clone());
        let bytes = body.encode().map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
        let key = client_tools::answer_item_key(&answers, &bytes);
        self.body = Some(TextOrHex::from(&Bytes::from(bytes)));
        Ok(Some(key))
    }
}
