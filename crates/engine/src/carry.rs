//! Carrying a session out of a home and into another: one versioned JSON file with transcript, tool history,
//! bodies and custom state.
//!
//! Only closed runs are carried, so the file is cut at a unit border. An import copies: the new session, its
//! runs and its items get ids of their own, and nothing refers to where they came from. A reader refuses a file
//! of a newer version or with an entry it does not know, before it writes anything.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::entry::Entry;
use dromia_contracts::input::InputBody;
use dromia_contracts::run::{RunHead, RunStatus};
use dromia_contracts::session::{InboxOwner, ItemKind, SessionKey};
use dromia_contracts::store::{
    Batch, Claim, Commit, InboxPut, ItemKey, Lane, Mutation, NewEntry, Page, RunAppend, SessionOpen,
    StateEntry, StatePut,
};
use dromia_contracts::{Actor, AgentId, ErrorCode, Fault, ItemId, RunId, Scope, SessionId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::agents::read_fault;
use crate::answering;
use crate::config::INPUT_BYTES_MAX;
use crate::core::Core;
use crate::decide::BODY_BYTES_MAX;
use crate::recover::journal;
use crate::refusal::{commit_fault, session_not_found};
use crate::state::{RunState, apply};

const FORMAT: &str = "dromia.session";
const VERSION: u32 = 1;
/// Entries and bytes of one batch of an import; the limits of a batch leave room for the rest.
const CHUNK_ENTRIES: usize = 100;
const CHUNK_BYTES: usize = 128 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    version: u32,
    session: SessionId,
    key: SessionKey,
    opened_at: Timestamp,
    items: Vec<FileItem>,
    runs: Vec<FileRun>,
    state: Vec<FileState>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileItem {
    id: ItemId,
    at: Timestamp,
    kind: ItemKind,
    author: Actor,
    body: Option<Text>,
    taken_by: RunId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRun {
    id: RunId,
    entries: Vec<FileEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    at: Timestamp,
    kind: String,
    version: u16,
    fields: serde_json::Value,
    body: Option<Text>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileState {
    name: String,
    value: Text,
}

/// Bytes as text where they are text, as hex where they are not.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Text {
    Utf8(String),
    Hex(String),
}

impl Core {
    /// Writes a session into one file.
    pub(crate) async fn export(&self, scope: &Scope, id: SessionId) -> Result<Vec<u8>, Fault> {
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
                let Some(run) = item.taken_by.filter(|run| Some(*run) != session.head.active) else {
                    continue;
                };
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
        serde_json::to_vec_pretty(&file).map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))
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

    /// Reads such a file into a new session of an agent.
    pub(crate) async fn import(
        self: &Arc<Self>,
        scope: &Scope,
        agent: AgentId,
        bytes: &[u8],
    ) -> Result<SessionId, Fault> {
        let agent = self.snapshot(scope, agent).await?;
        // A paused agent would take the short runs and refuse the first long one.
        if agent.state == AgentState::Paused {
            return Err(not_imported());
        }
        let agent = agent.id;
        let (file, runs) = read_file(bytes)?;
        let session = self.ports.runtime.session_id();
        let key =
            SessionKey { platform: "import".to_owned(), channel: session.to_string(), actor: file.key.actor };
        let at = self.ports.runtime.clock.now();
        let mut open = Batch::new(scope.tenant());
        open.lane = Lane::Bulk;
        open.mutations.push(Mutation::SessionOpen(SessionOpen { session, agent, key, at }));
        let mut bytes = 0;
        for state in file.state {
            let value = state.value.bytes()?;
            bytes += value.len();
            if bytes > CHUNK_BYTES || open.mutations.len() > CHUNK_ENTRIES {
                let full = std::mem::replace(&mut open, Batch::new(scope.tenant()));
                self.import_commit(full).await?;
                open.lane = Lane::Bulk;
                bytes = value.len();
            }
            open.mutations.push(Mutation::StatePut(StatePut {
                session,
                name: state.name,
                expected: None,
                value,
                at,
            }));
        }
        self.import_commit(open).await?;
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
                let key = item.rename_run(&renamed)?.filter(|key| answered.insert(key.key.clone()));
                taken.push((item, key));
            }
            let count = taken.len() as u64;
            let new = self.import_run(scope, agent, session, after, taken, entries).await?;
            renamed.insert(old, new);
            after += count;
        }
        Ok(session)
    }

    /// Writes one closed run. Until its last entries are durable its row says `held`, so that a crash in between
    /// leaves a run that nobody continues.
    async fn import_run(
        &self,
        scope: &Scope,
        agent: AgentId,
        session: SessionId,
        after: u64,
        items: Vec<(FileItem, Option<ItemKey>)>,
        mut entries: Vec<NewEntry>,
    ) -> Result<RunId, Fault> {
        let run = self.ports.runtime.run_id();
        let mut batch = Batch::new(scope.tenant());
        batch.lane = Lane::Bulk;
        let mut take = Vec::new();
        for (item, key) in items {
            let id = self.ports.runtime.item_id();
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
            let head = match rest.peek() {
                None => state.head(),
                Some(_) => RunHead { status: RunStatus::Held, wake_at: None, ..state.head() },
            };
            let batch = if let Some((mut batch, take)) = first.take() {
                batch.claim = Some(Claim { session, agent, run, after, take, entries: chunk, head });
                batch
            } else {
                let append = RunAppend { run, epoch: 1, after: from, entries: chunk, head };
                Batch { lane: Lane::Bulk, ..Batch::new(scope.tenant()).with(Mutation::RunAppend(append)) }
            };
            self.import_commit(batch).await?;
        }
        Ok(run)
    }

    async fn import_commit(&self, batch: Batch) -> Result<(), Fault> {
        match self.ports.store.commit(batch).await {
            Commit::Done(receipt) if receipt.claimed => Ok(()),
            Commit::Done(_) => Err(not_imported()),
            other => Err(commit_fault(other)),
        }
    }
}

fn not_imported() -> Fault {
    Fault::new(
        ErrorCode::InvalidRequest,
        "the session could not be imported: its agent must be running, and nobody may write to it meanwhile",
    )
}

/// How many state entries are read at a time; a value may be long.
const STATE_PAGE: usize = 16;

const PAGE: usize = Page::<ItemId>::LIMIT_MAX;

/// A file whose every entry is known, and its runs in order.
type Checked = (File, Vec<(RunId, Vec<NewEntry>)>);

fn read_file(bytes: &[u8]) -> Result<Checked, Fault> {
    let bad = |text: String| Fault::new(ErrorCode::InvalidRequest, text);
    let mut file: File =
        serde_json::from_slice(bytes).map_err(|error| bad(format!("the session file: {error}")))?;
    if file.format != FORMAT || file.version != VERSION {
        return Err(bad(format!(
            "the session file is {:?} version {}, and this program reads {FORMAT:?} version {VERSION}",
            file.format, file.version
        )));
    }
    // Checked before anything is written, because an import is more than one commit.
    if file.state.len() > StatePut::ENTRIES_MAX {
        return Err(bad(format!("{} state entries, at most {}", file.state.len(), StatePut::ENTRIES_MAX)));
    }
    for state in &file.state {
        let fits =
            state.name.len() <= StatePut::NAME_BYTES_MAX && state.value.len() <= StatePut::VALUE_BYTES_MAX;
        if !fits {
            return Err(bad(format!("the state entry {:?} is too long", state.name)));
        }
    }
    let bodies = file.items.iter().filter_map(|item| item.body.as_ref());
    if !file.state.iter().map(|state| &state.value).chain(bodies).all(Text::is_sound) {
        return Err(not_hex());
    }
    let mut taken: HashMap<RunId, (usize, usize)> = HashMap::new();
    for item in &file.items {
        let (items, bytes) = taken.entry(item.taken_by).or_default();
        *items += 1;
        *bytes += item.body.as_ref().map_or(0, Text::len);
        if *items > CHUNK_ENTRIES || *bytes > INPUT_BYTES_MAX {
            return Err(bad(format!("{} took more than a run can take", item.taken_by)));
        }
    }
    let mut runs = Vec::new();
    let mut known = HashSet::new();
    for run in std::mem::take(&mut file.runs) {
        if !known.insert(run.id) {
            return Err(bad(format!("{} is in the file twice", run.id)));
        }
        let mut entries = Vec::new();
        for (index, entry) in run.entries.into_iter().enumerate() {
            let decoded = Entry::decode(&entry.kind, entry.version, &entry.fields.to_string());
            let decoded = decoded.map_err(|error| bad(format!("{} entry {}: {error}", run.id, index + 1)))?;
            let body = entry.body.map(Text::bytes).transpose()?;
            if body.as_ref().is_some_and(|body| body.len() > BODY_BYTES_MAX) {
                return Err(bad(format!("{} entry {}: its body is too long", run.id, index + 1)));
            }
            entries.push(NewEntry { at: entry.at, entry: decoded, body });
        }
        let state = RunState::fold(entries.iter().map(|new| &new.entry));
        if !state.is_ended() || !matches!(entries.first().map(|new| &new.entry), Some(Entry::RunStarted(_))) {
            return Err(bad(format!("{} is not a whole run", run.id)));
        }
        if !taken.contains_key(&run.id) {
            return Err(bad(format!("{} took no item", run.id)));
        }
        runs.push((run.id, entries));
    }
    if let Some(item) = file.items.iter().find(|item| !known.contains(&item.taken_by)) {
        return Err(bad(format!("{} was taken by {}, which is not in the file", item.id, item.taken_by)));
    }
    Ok((file, runs))
}

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

fn not_hex() -> Fault {
    Fault::new(ErrorCode::InvalidRequest, "the session file: a hex value is not hex")
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

impl From<&Bytes> for Text {
    fn from(bytes: &Bytes) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Utf8(text.to_owned()),
            Err(_) => Self::Hex(hex(bytes)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

impl Text {
    /// How many bytes it stands for.
    fn len(&self) -> usize {
        match self {
            Self::Utf8(text) => text.len(),
            Self::Hex(hex) => hex.len() / 2,
        }
    }

    /// Whether it stands for bytes at all.
    fn is_sound(&self) -> bool {
        match self {
            Self::Utf8(_) => true,
            Self::Hex(hex) => {
                hex.len().is_multiple_of(2) && hex.bytes().all(|digit| digit.is_ascii_hexdigit())
            }
        }
    }

    fn bytes(self) -> Result<Bytes, Fault> {
        match self {
            Self::Utf8(text) => Ok(Bytes::from(text)),
            Self::Hex(hex) => (0..hex.len())
                .step_by(2)
                .map(|at| {
                    hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(not_hex)
                })
                .collect::<Result<Vec<u8>, Fault>>()
                .map(Bytes::from),
        }
    }
}
