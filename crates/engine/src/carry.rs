//! Carrying a session out of a home and into another: one versioned JSON file with transcript, tool history,
//! bodies and custom state.
//!
//! Only closed runs are carried, so the file is cut at a unit border, and whoever exports is told what that leaves out. An
//! import copies: the new session, its
//! runs and its items get ids of their own, and nothing refers to where they came from. A reader refuses a file
//! of a newer version or with an entry it does not know, before it writes anything. It takes no label at its word unless
//! whoever imports vouches for the file. A session is imported whole or is not there.

mod doubt;
mod file;
mod whole;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::entry::Entry;
use dromia_contracts::input::InputBody;
use dromia_contracts::runs::{Exported, ImportLabels};
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::{
    Claim, InboxPut, ItemKey, Mutation, NewEntry, Page, RunAppend, StateEntry, StatePut,
};
use dromia_contracts::{AgentId, ErrorCode, Fault, ItemId, RunId, Scope, SessionId};
use jiff::Timestamp;

use self::doubt::doubt_entries;
use self::file::{FORMAT, File, FileEntry, FileItem, FileRun, FileState, Text, VERSION, read_file};
pub(crate) use self::whole::is_imported;
use self::whole::{Filling, Opened, bulk, not_imported};
use crate::agents::read_fault;
use crate::answering;
use crate::core::Core;
use crate::recover::journal;
use crate::refusal::session_not_found;
use crate::state::{RunState, apply};

/// Entries and bytes of one batch of an import; the limits of a batch leave room for the rest.
const CHUNK_ENTRIES: usize = 100;
const CHUNK_BYTES: usize = 128 * 1024;

/// Reads and checks the file of a session as an import does before it writes anything, and writes nothing.
pub fn check_session_file(bytes: &[u8]) -> Result<(), Fault> {
    let (file, mut runs) = read_file(bytes)?;
    for (_, entries) in &mut runs {
        doubt_entries(entries)?;
    }
    // The runs as they are: each would get another id, which changes nothing of what is read.
    let renamed: HashMap<RunId, RunId> = runs.iter().map(|(run, _)| (*run, *run)).collect();
    for mut item in file.items {
        item.rename_run(&renamed)?;
        item.doubt()?;
        item.body.map(Text::bytes).transpose()?;
    }
    for state in file.state {
        state.value.bytes()?;
    }
    Ok(())
}

impl Core {
    /// Writes a session into one file, as it was when its row was read: what a run takes after that is left out, as its run is.
    pub(crate) async fn export(&self, scope: &Scope, id: SessionId) -> Result<Exported, Fault> {
        let store = &self.ports.store;
        let session =
            store.session(scope, id).await.map_err(read_fault)?.ok_or_else(|| session_not_found(id))?;
        let mut file = File {
            format: FORMAT.to_owned(),
            version: VERSION,
            session: id,
            key: session.key,
            opened_at: session.opened_at,
            items: Vec::new(),
            runs: Vec::new(),
            state: Vec::new(),
        };
        let mut after = 0;
        loop {
            let page = store.inbox(scope, InboxOwner::Session(id), after, PAGE).await.map_err(read_fault)?;
            for item in &page {
                after = item.position;
                let was_taken = item.position <= session.head.taken;
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
                    body: item.body.as_ref().map(Text::from),
                    taken_by: run,
                });
            }
            if page.len() < PAGE {
                break;
            }
        }
        loop {
            let after = file.state.last().map(|entry| entry.name.clone());
            let page = Page { after: after.as_deref(), limit: STATE_PAGE };
            let entries = store.state(scope, id, page).await.map_err(read_fault)?;
            let is_last = entries.len() < STATE_PAGE;
            let entry = |entry: StateEntry| FileState { name: entry.name, value: Text::from(&entry.value) };
            file.state.extend(entries.into_iter().map(entry));
            if is_last {
                break;
            }
        }
        let file = serde_json::to_vec_pretty(&file)
            .map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
        Ok(Exported {
            file,
            open_runs: u64::from(session.head.active.is_some()),
            waiting_inputs: session.head.last.saturating_sub(session.head.taken),
        })
    }

    async fn export_run(&self, scope: &Scope, run: RunId) -> Result<FileRun, Fault> {
        let mut entries = Vec::new();
        for stored in journal(self, scope, run).await.map_err(read_fault)? {
            let fields = serde_json::from_str(&stored.fields)
                .map_err(|error| Fault::new(ErrorCode::JournalUnreadable, error.to_string()))?;
            entries.push(FileEntry {
                at: stored.at,
                kind: stored.kind,
                version: stored.version,
                fields,
                body: stored.body.as_ref().map(Text::from),
            });
        }
        Ok(FileRun { id: run, entries })
    }

    /// Reads such a file into a new session of an agent. The same file under the same name of a copy gives the same session,
    /// also where an earlier try broke off.
    pub(crate) async fn import(
        self: &Arc<Self>,
        scope: &Scope,
        agent: AgentId,
        bytes: &[u8],
        labels: ImportLabels,
        copy: Option<&str>,
    ) -> Result<SessionId, Fault> {
        let agent = self.snapshot(scope, agent).await?;
        // A paused agent would take the short runs and refuse the first long one.
        if agent.state == AgentState::Paused {
            return Err(not_imported());
        }
        let agent = agent.id;
        let (file, mut runs) = read_file(bytes)?;
        let believes = labels == ImportLabels::Believed;
        if !believes {
            file.items.iter().try_for_each(FileItem::check)?;
            runs.iter_mut().try_for_each(|(_, entries)| doubt_entries(entries))?;
        }
        let key = whole::key(bytes, labels, copy, file.key.actor);
        let mut filling = match self.import_open(scope, agent, key, believes).await? {
            Opened::Whole(session) => return Ok(session),
            Opened::Begun(filling) => filling,
        };
        self.import_state(scope, filling.session, file.opened_at, file.state).await?;
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
                // Of two items that answer the same calls the first one did.
                // The key is of what the client sent, so that it finds its own results whatever became of their labels.
                let key = item.rename_run(&renamed)?.filter(|key| answered.insert(key.key.clone()));
                if !believes {
                    item.doubt()?;
                }
                taken.push((item, key));
            }
            let count = taken.len() as u64;
            let new = self.import_run(scope, agent, &mut filling, after, taken, entries).await?;
            renamed.insert(old, new);
            after += count;
        }
        // By itself, so that it stands only behind all the others.
        self.import_commit(bulk(scope).with(Mutation::ImportEnd(filling.session))).await?;
        Ok(filling.session)
    }

    /// Writes the custom state. Its time is the file's, so that a try that is repeated finds what it wrote.
    async fn import_state(
        &self,
        scope: &Scope,
        session: SessionId,
        at: Timestamp,
        state: Vec<FileState>,
    ) -> Result<(), Fault> {
        let (mut batch, mut bytes) = (bulk(scope), 0);
        for FileState { name, value } in state {
            let value = value.bytes()?;
            bytes += value.len();
            let count = batch.mutations.len();
            if count > 0 && (bytes > CHUNK_BYTES || count == CHUNK_ENTRIES) {
                self.import_commit(std::mem::replace(&mut batch, bulk(scope))).await?;
                bytes = value.len();
            }
            let expected = Some(0);
            batch.mutations.push(Mutation::StatePut(StatePut { session, name, expected, value, at }));
        }
        if batch.mutations.is_empty() {
            return Ok(());
        }
        self.import_commit(batch).await
    }

    /// Writes one closed run. After each commit its row says what its entries do, and nobody sees either: the session is
    /// not there yet.
    async fn import_run(
        &self,
        scope: &Scope,
        agent: AgentId,
        filling: &mut Filling,
        after: u64,
        items: Vec<(FileItem, Option<ItemKey>)>,
        mut entries: Vec<NewEntry>,
    ) -> Result<RunId, Fault> {
        let (session, run) = (filling.session, filling.run_id());
        let mut batch = bulk(scope);
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
                body: item.body.map_or(Ok(Bytes::new()), Text::bytes)?,
                key,
            }));
        }
        if let Some(Entry::RunStarted(started)) = entries.first_mut().map(|first| &mut first.entry) {
            (started.agent, started.session, started.after) = (agent, session, after);
            started.items.clone_from(&take);
            started.resumes = None;
        }
        let mut state = RunState::default();
        let mut first = Some((batch, take));
        let mut rest = entries.into_iter().peekable();
        while rest.peek().is_some() {
            let from = state.seq;
            let chunk = next_chunk(&mut rest);
            for new in &chunk {
                apply(&mut state, &new.entry);
            }
            let head = state.head();
            let batch = if let Some((mut batch, take)) = first.take() {
                batch.claim = Some(Claim { session, agent, run, after, take, entries: chunk, head });
                batch
            } else {
                let append = RunAppend { run, epoch: 1, after: from, entries: chunk, head };
                bulk(scope).with(Mutation::RunAppend(append))
            };
            self.import_commit(batch).await?;
        }
        Ok(run)
    }
}

/// How many state entries are read at a time; a value may be long.
const STATE_PAGE: usize = 16;

const PAGE: usize = Page::<ItemId>::LIMIT_MAX;

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
    /// Names the run whose handed calls the item answers by the id that the run has now. Returns the key of the one
    /// input that answers those calls: what was answered before it was carried is not answered once more.
    fn rename_run(&mut self, renamed: &HashMap<RunId, RunId>) -> Result<Option<ItemKey>, Fault> {
        let Some(Text::Utf8(text)) = self.body.as_ref().filter(|_| self.kind == ItemKind::Input) else {
            return Ok(None);
        };
        // A body that cannot be read stays as it is; whoever reads the session meets it there.
        let Ok(mut body) = InputBody::decode(text.as_bytes()) else { return Ok(None) };
        let Some(mut answers) = body.answers.take() else { return Ok(None) };
        let Some(run) = renamed.get(&answers.run) else { return Ok(None) };
        answers.run = *run;
        body.answers = Some(answers.clone());
        let bytes = body.encode().map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
        let key = answering::key(&answers, &bytes);
        self.body = Some(Text::from(&Bytes::from(bytes)));
        Ok(Some(key))
    }
}
