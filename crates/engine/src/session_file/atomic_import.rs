//! Makes an import atomic, however often it is interrupted.
//!
//! An import is more than one commit. The store hides the session before the last of them, so the rest that a crash, a
//! full disk or an impatient caller leaves behind is not listed, not claimed and not taken over. The session is found
//! again by its key, which is a digest of the file and the import's options, and every id in it derives from the
//! session's own. So a repeated import writes the same commits, of which the durable ones change nothing, and ends with
//! the one session. The file's content is no matter of this module.

use std::time::Duration;

use dromia_contracts::runs::ImportLabels;
use dromia_contracts::session::{IMPORT, SessionKey};
use dromia_contracts::store::{CommitOutcome, CommitRefusal, Mutation, SessionOpen, WriteBatch, WriterLane};
use dromia_contracts::{Actor, AgentId, Digest, ErrorCode, Fault, ItemId, RunId, Scope, SessionId, WriteId};

use super::SessionArchive;
use crate::agents::read_fault;
use crate::refusal::commit_fault;

/// The version of the import's writes. It changes if the same file would give other entries: then an import that
/// another version began is never continued.
const WAY: u8 = 1;

/// The waits of a commit, in milliseconds, each time that the writer is full; after the last one the import gives up.
/// Together some twelve seconds.
const RESTS_MS: [u64; 8] = [50, 100, 200, 400, 800, 1_600, 3_200, 6_400];

/// A session that an import fills, and how many ids it gave.
#[derive(Debug)]
pub(super) struct ImportTarget {
    pub(super) session: SessionId,
    runs: u32,
    items: u32,
    writes: u32,
}

/// How far an import has come before it is tried.
pub(super) enum ImportStart {
    /// The session is there, whole.
    Whole(SessionId),
    /// It is to be filled, for the first time or further.
    Begun(ImportTarget),
}

impl ImportTarget {
    pub(super) fn for_session(session: SessionId) -> Self {
        Self { session, runs: 0, items: 0, writes: 0 }
    }

    /// Gives the next run its id; later ones sort after earlier ones.
    pub(super) fn run_id(&mut self) -> RunId {
        self.runs += 1;
        RunId::from_bytes(derive_uuid(self.session, b"run", self.runs))
    }

    /// Gives the next write of custom state its id.
    pub(super) fn write_id(&mut self) -> WriteId {
        self.writes += 1;
        WriteId::from_bytes(derive_uuid(self.session, b"write", self.writes))
    }

    /// Gives the next item its id.
    pub(super) fn item_id(&mut self) -> ItemId {
        self.items += 1;
        ItemId::from_bytes(derive_uuid(self.session, b"item", self.items))
    }
}

/// Makes a UUIDv7 of the session's time: its number where others have chance, and then what only this session gives.
fn derive_uuid(session: SessionId, noun: &[u8], number: u32) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"dromia import id").update(noun).update(session.as_bytes());
    hasher.update(&number.to_be_bytes());
    let own = hasher.finalize();
    let [first, second, third, fourth] = number.to_be_bytes();
    let mut id = *session.as_bytes();
    id[6..12].copy_from_slice(&[0x70, first, 0x80, second, third, fourth]);
    id[12..].copy_from_slice(&own.as_bytes()[..4]);
    id
}

/// Returns whether an import wrote a run, judged by its id: a run that began here gets no such id by chance.
pub(crate) fn is_imported(session: SessionId, run: RunId) -> bool {
    let id = run.as_bytes();
    let number = u32::from_be_bytes([id[7], id[9], id[10], id[11]]);
    // Another time is the answer for almost every run, and costs no hash.
    id[..6] == session.as_bytes()[..6] && *id == derive_uuid(session, b"run", number)
}

/// Makes the key of an import: the same for the same file, labels and name of the copy.
pub(super) fn import_key(file: &[u8], labels: ImportLabels, copy: Option<&str>, actor: Actor) -> SessionKey {
    let mut hasher = blake3::Hasher::new();
    let believes = u8::from(labels == ImportLabels::Believed);
    hasher.update(b"dromia import").update(&[WAY, believes, u8::from(copy.is_some())]);
    hasher.update(blake3::hash(file).as_bytes()).update(copy.unwrap_or_default().as_bytes());
    let channel = Digest::from_bytes(*hasher.finalize().as_bytes()).to_string();
    SessionKey { platform: IMPORT.to_owned(), channel, actor }
}

/// Begins a batch of an import.
pub(super) fn bulk_batch(scope: &Scope) -> WriteBatch {
    WriteBatch { lane: WriterLane::Bulk, ..WriteBatch::new(scope.tenant()) }
}

impl SessionArchive<'_> {
    /// Opens the session of an import, or finds the one that an earlier try opened.
    pub(super) async fn import_open(
        &self,
        scope: &Scope,
        agent: AgentId,
        key: SessionKey,
        believes: bool,
    ) -> Result<ImportStart, Fault> {
        let store = &self.ports.store;
        if let Some(session) = store.session_by_key(scope, agent, &key).await.map_err(read_fault)? {
            return Ok(ImportStart::Whole(session.id));
        }
        let (session, at) = (self.ports.runtime.session_id(), self.ports.runtime.clock.now());
        let open = SessionOpen { session, agent, key, at, believes, importing: true, origin: None };
        let mut batch = bulk_batch(scope).with_mutation(Mutation::SessionOpen(open));
        if believes {
            // Of the whole import only this batch is an act for the audit log: it records who vouched for the labels.
            batch = batch.wanted_by(scope.actor(), at);
        }
        match self.import_write(batch).await {
            CommitOutcome::Done(_) => Ok(ImportStart::Begun(ImportTarget::for_session(session))),
            CommitOutcome::Refused(CommitRefusal::SessionExists { session }) => {
                // Another try may have ended it since it was looked for.
                let whole = store.session(scope, session).await.map_err(read_fault)?.is_some();
                Ok(if whole {
                    ImportStart::Whole(session)
                } else {
                    ImportStart::Begun(ImportTarget::for_session(session))
                })
            }
            other => Err(unfinished_fault(commit_fault(other))),
        }
    }

    /// Writes a part of an import.
    pub(super) async fn import_commit(&self, batch: WriteBatch) -> Result<(), Fault> {
        match self.import_write(batch).await {
            CommitOutcome::Done(receipt) if receipt.claimed => Ok(()),
            CommitOutcome::Done(_) => Err(not_imported()),
            other => Err(unfinished_fault(commit_fault(other))),
        }
    }

    /// Commits, and waits if the writer is full: an import delays no other caller, and only one batch waits here.
    async fn import_write(&self, batch: WriteBatch) -> CommitOutcome {
        let clock = &self.ports.runtime.clock;
        for rest in RESTS_MS {
            match self.ports.store.commit(batch.clone()).await {
                CommitOutcome::Refused(CommitRefusal::Overloaded) => {}
                answer => return answer,
            }
            clock.sleep(Duration::from_millis(rest)).await;
        }
        self.ports.store.commit(batch).await
    }
}

/// Adds a hint how to continue an interrupted import, if repeating it is enough.
fn unfinished_fault(fault: Fault) -> Fault {
    let first = match fault.code {
        ErrorCode::Overloaded | ErrorCode::OutcomeUnknown => "",
        ErrorCode::StoreReadOnly => "free disk space or repair the disk, and then ",
        _ => return fault,
    };
    fault.with_hint(format!(
        "{first}import the same file again: the import continues where it stopped, and the session appears \
         only when it is complete"
    ))
}

pub(super) fn not_imported() -> Fault {
    Fault::new(ErrorCode::InvalidRequest, "the session could not be imported: its agent must be running")
        .with_hint(
            "once the agent is running, import the same file again; until then the session does not appear",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(byte: u8) -> SessionId {
        SessionId::from_bytes([byte; 16])
    }

    #[test]
    fn import_ids_are_ordered_and_derived_from_their_session() {
        let ids = |filling: &mut ImportTarget| (0..600).map(|_| filling.run_id()).collect::<Vec<_>>();
        let first = ids(&mut ImportTarget::for_session(session(1)));
        assert_eq!(
            ids(&mut ImportTarget::for_session(session(1))),
            first,
            "the same import gives the same ids"
        );
        assert!(first.is_sorted() && first.windows(2).all(|pair| pair[0] != pair[1]));
        let other = ids(&mut ImportTarget::for_session(session(2)));
        assert!(first.iter().all(|id| !other.contains(id)));
        let item = ImportTarget::for_session(session(1)).item_id();
        assert_ne!(item.as_bytes(), first[0].as_bytes());
        assert!(first.iter().all(|id| is_imported(session(1), *id) && !is_imported(session(2), *id)));
        assert!(!is_imported(session(1), RunId::from_bytes(*item.as_bytes())));
        // A run that began here at the very time at which the session was opened.
        assert!(!is_imported(session(1), RunId::from_bytes(*session(1).as_bytes())));
        assert_eq!((first[0].as_bytes()[6] >> 4, first[0].as_bytes()[8] >> 6), (7, 2), "a UUIDv7");
    }

    #[test]
    fn each_way_to_import_a_file_has_its_own_key() {
        let of = |file: &str, labels, copy| {
            import_key(file.as_bytes(), labels, copy, Actor::new("cli:ada")).channel
        };
        let (doubted, believed) = (ImportLabels::Doubted, ImportLabels::Believed);
        let mut keys = vec![
            of("a", doubted, None),
            of("b", doubted, None),
            of("a", believed, None),
            of("a", doubted, Some("")),
            of("a", doubted, Some("second")),
        ];
        assert_eq!(of("a", doubted, None), keys[0]);
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 5);
    }
}
