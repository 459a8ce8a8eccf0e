//! What makes an import whole or not there, however often it is broken off.
//!
//! An import is more than one commit. The store shows nothing of its session before the last of them, so what a crash, a full
//! disk or a caller without patience leaves behind is nobody's: it is not listed, not claimed and not taken over. The
//! session is found again by its key, which the file makes, and every id in it follows from the session's own. So the same
//! import tried again writes the same commits, of which those that stand already change nothing, and ends with the one
//! session. Nothing here says what is in a file.

use dromia_contracts::runs::ImportLabels;
use dromia_contracts::session::{IMPORT, SessionKey};
use dromia_contracts::store::{Batch, Commit, Lane, Mutation, Refusal, SessionOpen};
use dromia_contracts::{Actor, AgentId, Digest, ErrorCode, Fault, ItemId, RunId, Scope, SessionId};
use jiff::SignedDuration;

use crate::agents::read_fault;
use crate::core::Core;
use crate::refusal::commit_fault;

/// The way an import is written. Another number where the same file would give other entries: what was begun the other way
/// is then never gone on with.
const WAY: u8 = 1;

/// How long a commit rests, in milliseconds, each time that the writer has no room for it; after the last rest the import
/// gives up. Together some twelve seconds.
const RESTS_MS: [i64; 8] = [50, 100, 200, 400, 800, 1_600, 3_200, 6_400];

/// A session that an import fills, and how many ids it gave.
#[derive(Debug)]
pub(super) struct Filling {
    pub(super) session: SessionId,
    runs: u32,
    items: u32,
}

/// How far an import has come before it is tried.
pub(super) enum Opened {
    /// The session is there, whole.
    Whole(SessionId),
    /// It is to be filled, for the first time or further.
    Begun(Filling),
}

impl Filling {
    pub(super) fn of(session: SessionId) -> Self {
        Self { session, runs: 0, items: 0 }
    }

    /// Gives the next run its id; later ones sort after earlier ones.
    pub(super) fn run_id(&mut self) -> RunId {
        self.runs += 1;
        RunId::from_bytes(made(self.session, b"run", self.runs))
    }

    /// Gives the next item its id.
    pub(super) fn item_id(&mut self) -> ItemId {
        self.items += 1;
        ItemId::from_bytes(made(self.session, b"item", self.items))
    }
}

/// Makes a UUIDv7 of the session's time: its number where others have chance, and then what only this session gives.
fn made(session: SessionId, noun: &[u8], number: u32) -> [u8; 16] {
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

/// Tells whether an import wrote a run, which its id says: chance gives no such id to a run that began here.
pub(crate) fn is_imported(session: SessionId, run: RunId) -> bool {
    let id = run.as_bytes();
    let number = u32::from_be_bytes([id[7], id[9], id[10], id[11]]);
    // Another time is the answer for almost every run, and costs no hash.
    id[..6] == session.as_bytes()[..6] && *id == made(session, b"run", number)
}

/// Makes the key of an import: the same for the same file, labels and name of the copy.
pub(super) fn key(file: &[u8], labels: ImportLabels, copy: Option<&str>, actor: Actor) -> SessionKey {
    let mut hasher = blake3::Hasher::new();
    let believes = u8::from(labels == ImportLabels::Believed);
    hasher.update(b"dromia import").update(&[WAY, believes, u8::from(copy.is_some())]);
    hasher.update(blake3::hash(file).as_bytes()).update(copy.unwrap_or_default().as_bytes());
    let channel = Digest::from_bytes(*hasher.finalize().as_bytes()).to_string();
    SessionKey { platform: IMPORT.to_owned(), channel, actor }
}

/// Begins a batch of an import.
pub(super) fn bulk(scope: &Scope) -> Batch {
    Batch { lane: Lane::Bulk, ..Batch::new(scope.tenant()) }
}

impl Core {
    /// Opens the session of an import, or finds the one that an earlier try opened.
    pub(super) async fn import_open(
        &self,
        scope: &Scope,
        agent: AgentId,
        key: SessionKey,
        believes: bool,
    ) -> Result<Opened, Fault> {
        let store = &self.ports.store;
        if let Some(session) = store.session_by_key(scope, agent, &key).await.map_err(read_fault)? {
            return Ok(Opened::Whole(session.id));
        }
        let (session, at) = (self.ports.runtime.session_id(), self.ports.runtime.clock.now());
        let open = SessionOpen { session, agent, key, at, believes, importing: true };
        let mut batch = bulk(scope).with(Mutation::SessionOpen(open));
        if believes {
            // Of the whole import this alone is an act: whoever vouches for the labels wrote nothing else by hand.
            batch = batch.wanted_by(scope.actor(), at);
        }
        match self.import_write(batch).await {
            Commit::Done(_) => Ok(Opened::Begun(Filling::of(session))),
            Commit::Refused(Refusal::SessionExists { session }) => {
                // Another try may have ended it since it was looked for.
                let whole = store.session(scope, session).await.map_err(read_fault)?.is_some();
                Ok(if whole { Opened::Whole(session) } else { Opened::Begun(Filling::of(session)) })
            }
            other => Err(unfinished(commit_fault(other))),
        }
    }

    /// Writes a part of an import.
    pub(super) async fn import_commit(&self, batch: Batch) -> Result<(), Fault> {
        match self.import_write(batch).await {
            Commit::Done(receipt) if receipt.claimed => Ok(()),
            Commit::Done(_) => Err(not_imported()),
            other => Err(unfinished(commit_fault(other))),
        }
    }

    /// Commits, and waits where the writer has no room: an import is in nobody's way, and what waits here is one batch.
    async fn import_write(&self, batch: Batch) -> Commit {
        let clock = &self.ports.runtime.clock;
        for rest in RESTS_MS {
            match self.ports.store.commit(batch.clone()).await {
                Commit::Refused(Refusal::Overloaded) => {}
                answer => return answer,
            }
            let later = clock.now().checked_add(SignedDuration::from_millis(rest));
            clock.sleep_until(later.unwrap_or_else(|_| clock.now())).await;
        }
        self.ports.store.commit(batch).await
    }
}

/// Says how to go on with an import that broke off, where that is all there is to do.
fn unfinished(fault: Fault) -> Fault {
    let first = match fault.code {
        ErrorCode::Overloaded | ErrorCode::OutcomeUnknown => "",
        ErrorCode::StoreReadOnly => "free disk space or mend the disk, and then ",
        _ => return fault,
    };
    fault.with_hint(format!(
        "{first}import the same file again: it goes on where it stopped, and until it ends no half session is there"
    ))
}

pub(super) fn not_imported() -> Fault {
    Fault::new(ErrorCode::InvalidRequest, "the session could not be imported: its agent must be running")
        .with_hint(
            "once the agent runs, import the same file again; until then nothing of the session is there",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(byte: u8) -> SessionId {
        SessionId::from_bytes([byte; 16])
    }

    #[test]
    fn the_ids_of_an_import_are_those_of_its_session_in_their_order() {
        let ids = |filling: &mut Filling| (0..600).map(|_| filling.run_id()).collect::<Vec<_>>();
        let first = ids(&mut Filling::of(session(1)));
        assert_eq!(ids(&mut Filling::of(session(1))), first, "the same import gives the same ids");
        assert!(first.is_sorted() && first.windows(2).all(|pair| pair[0] != pair[1]));
        let other = ids(&mut Filling::of(session(2)));
        assert!(first.iter().all(|id| !other.contains(id)));
        let item = Filling::of(session(1)).item_id();
        assert_ne!(item.as_bytes(), first[0].as_bytes());
        assert!(first.iter().all(|id| is_imported(session(1), *id) && !is_imported(session(2), *id)));
        assert!(!is_imported(session(1), RunId::from_bytes(*item.as_bytes())));
        // A run that began here at the very time at which the session was opened.
        assert!(!is_imported(session(1), RunId::from_bytes(*session(1).as_bytes())));
        assert_eq!((first[0].as_bytes()[6] >> 4, first[0].as_bytes()[8] >> 6), (7, 2), "a UUIDv7");
    }

    #[test]
    fn a_file_has_a_key_for_each_way_in_which_it_is_imported() {
        let of = |file: &str, labels, copy| key(file.as_bytes(), labels, copy, Actor::new("cli:ada")).channel;
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
