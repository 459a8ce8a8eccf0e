//! Seven batches over two lives of a store, and what must be found of each when it was acknowledged.

use std::path::Path;
use std::time::{Duration, Instant};

use dromia_contracts::audit::{AuditCursor, AuditFilter, AuditLog as _, AuditWhat};
use dromia_contracts::budget::{BudgetDefinition, BudgetMeasure, BudgetPeriod, BudgetScope};
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    BudgetRemove, BudgetSet, CommitOutcome, CommitRefusal, ItemKey, KeyLifetime, Mutation, RunAppend,
    Store as _, WriteBatch,
};
use dromia_contracts::{Actor, Digest, ItemId, RunId};
use dromia_store::{OpenError, SqliteStore, StoreConfig};
use dromia_testkit::failing_vfs::{FailingVfs, FileKind, VfsCall};

use crate::scene::{SESSION, Scene, TENANT, at, claim, completed, head, put, replied, world};

const RUN: RunId = RunId::from_bytes([0x44; 16]);
/// How many batches there are, and how many of them belong to the first life.
pub(crate) const BATCHES: usize = 7;
const FIRST_LIFE: usize = 4;

/// Why a pass ends early.
pub(crate) type Finding<T = ()> = Result<T, String>;

fn item(number: u8) -> ItemId {
    ItemId::from_bytes([0x60 + number; 16])
}

fn input(number: u8) -> Mutation {
    // Every other body is too large for its row.
    let body = if number.is_multiple_of(2) { "x".repeat(3_000) } else { "hello".to_owned() };
    let mut put = put(SESSION, item(number), &body, None);
    let key = format!("input-{number}");
    put.key = Some(ItemKey { key, request: Digest::default(), lifetime: KeyLifetime::Day });
    Mutation::InboxPut(put)
}

/// A budget that somebody sets and removes.
fn budget() -> BudgetDefinition {
    let (per, measure, period) = (BudgetScope::Tenant, BudgetMeasure::Calls, BudgetPeriod::Day);
    BudgetDefinition { name: "daily".to_owned(), per, of: None, measure, period, limit: 9, declared: false }
}

/// The batches: the world, two inputs, a turn that takes them and one more, its end, two inputs that wait. With the second
/// input comes a budget, and with the fourth it goes again.
pub(crate) fn batches() -> Vec<WriteBatch> {
    let mut begin = WriteBatch::new(TENANT).with_mutation(input(3));
    begin.claim = Some(claim(SESSION, RUN, 0, &[item(1), item(2), item(3)]));
    let entries = vec![replied("r".repeat(2_000)), completed()];
    let end = RunAppend {
        run: RUN,
        epoch: 1,
        after: 2,
        entries,
        head: head(RunStatus::Completed),
        checkpoint: None,
    };
    let by = Actor::new("token:ops");
    let set = Mutation::BudgetSet(BudgetSet { budget: budget() });
    let remove = Mutation::BudgetRemove(BudgetRemove { name: budget().name });
    vec![
        world(),
        WriteBatch::new(TENANT).with_mutation(input(1)),
        WriteBatch::new(TENANT).wanted_by(&by, at(12)).with_mutation(input(2)).with_mutation(set),
        begin,
        WriteBatch::new(TENANT).with_mutation(Mutation::RunAppend(end)),
        WriteBatch::new(TENANT).wanted_by(&by, at(14)).with_mutation(input(4)).with_mutation(remove),
        WriteBatch::new(TENANT).with_mutation(input(5)),
    ]
}

/// Looks, on a healthy disk, for what the first so many batches wrote: all of it, once, and nothing torn.
pub(crate) async fn look(dir: &Path, acknowledged: u64, at_most: u64) -> Finding {
    let store =
        SqliteStore::open(StoreConfig::new(dir)).map_err(|error| format!("does not open: {error}"))?;
    let scope = Scene::scope();
    let words = |error: dromia_contracts::store::ReadError| error.to_string();
    let session = store.session(&scope, SESSION).await.map_err(words)?;
    let inbox = store.inbox_items(&scope, InboxOwner::Session(SESSION), 0, 256).await.map_err(words)?;
    let run = store.run(&scope, RUN).await.map_err(words)?;
    let journal = store.journal_entries(&scope, RUN, 0, 256).await.map_err(words)?;

    // How many batches the rows amount to, in the order in which they were written.
    let ended = run.as_ref().is_some_and(|run| run.head.status == RunStatus::Completed);
    let found = match (session.is_some(), inbox.len(), run.is_some(), ended) {
        (false, 0, false, false) => 0,
        (true, items @ 0..=2, false, false) => 1 + items,
        (true, 3, true, false) => 4,
        (true, items @ 3..=5, true, true) => 2 + items,
        rows => return Err(format!("half of a batch is there: {rows:?}")),
    };
    let numbers: Vec<_> = inbox.iter().map(|item| (item.position, item.id)).collect();
    let expected: Vec<_> =
        (1..=5_u8).take(inbox.len()).map(|number| (u64::from(number), item(number))).collect();
    let entries = if ended { 4 } else { 2 * usize::from(run.is_some()) };
    if numbers != expected || journal.len() != entries || inbox.iter().any(|item| item.body.is_none()) {
        return Err(format!("the rows contradict each other: {numbers:?}, {} entries", journal.len()));
    }
    acts(&store, found).await?;
    let found = found as u64;
    if found < acknowledged {
        return Err(format!("{acknowledged} batches were acknowledged, {found} are there"));
    }
    if found > at_most {
        return Err(format!("{found} batches are there, at most {at_most} were written"));
    }
    Ok(())
}

/// Looks for the acts of the first so many batches: each is there with what it changed, once, and not without it.
async fn acts(store: &SqliteStore, batches: usize) -> Finding {
    let words = |error: dromia_contracts::store::ReadError| error.to_string();
    let scope = Scene::scope();
    let page = store.audit_items(&scope, AuditFilter::default(), AuditCursor::default(), 256);
    let items = page.await.map_err(words)?.items;
    let kinds: Vec<_> = items
        .iter()
        .filter_map(|item| match &item.what {
            AuditWhat::Act { act, .. } => Some(act.change.kind()),
            AuditWhat::Entry { .. } | AuditWhat::Unknown { .. } => None,
        })
        .collect();
    let after = [(1, "tenant_created"), (1, "agent_created"), (3, "budget_set"), (6, "budget_removed")];
    let expected: Vec<_> =
        after.into_iter().filter(|(least, _)| batches >= *least).map(|(_, kind)| kind).collect();
    let budgets = store.budgets(&scope, at(20)).await.map_err(words)?.len();
    if kinds != expected || budgets != usize::from((3..6).contains(&batches)) {
        return Err(format!("{batches} batches left {budgets} budgets and the acts {kinds:?}"));
    }
    Ok(())
}

/// What a pass does once the disk fails for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The disk is mended, and everything that was not acknowledged is written again.
    Mend,
    /// The process ends there.
    Stop,
}

/// A pass over the batches on a file system that may fail.
pub(crate) struct Pass<'a> {
    pub(crate) vfs: &'a FailingVfs,
    pub(crate) dir: &'a Path,
    /// Whether the disk stays broken until it is mended.
    pub(crate) lasting: bool,
    pub(crate) then: Then,
}

impl Pass<'_> {
    /// Writes every batch, in two lives, and looks at what is there afterwards.
    pub(crate) async fn play(self) -> Finding {
        let batches = batches();
        let mut acknowledged = 0;
        for life in [&batches[..FIRST_LIFE], &batches[FIRST_LIFE..]] {
            let Some(store) = self.open()? else { break };
            for (number, batch) in life.iter().enumerate() {
                if !self.write(&store, batch, number > 0).await? {
                    break;
                }
                acknowledged += 1;
                self.vfs.note_acknowledged(acknowledged);
            }
            drop(store);
            if self.stopped() {
                break;
            }
        }
        // The one that was under way may be there or not.
        let at_most = if self.stopped() { acknowledged + 1 } else { BATCHES as u64 };
        if !self.stopped() && acknowledged != BATCHES as u64 {
            return Err(format!("only {acknowledged} batches were acknowledged"));
        }
        self.vfs.disarm_fault();
        look(self.dir, acknowledged, at_most).await
    }

    /// Whether the disk broke for good and the pass ends there.
    fn stopped(&self) -> bool {
        self.then == Then::Stop && self.vfs.fired_count() > 0
    }

    /// Opens the store; on a broken disk it may refuse, and opens once that is mended.
    fn open(&self) -> Finding<Option<SqliteStore>> {
        let config = StoreConfig {
            vfs: Some(self.vfs.vfs_name().to_owned()),
            readers: 1,
            ..StoreConfig::new(self.dir)
        };
        let refused = match SqliteStore::open(config.clone()) {
            Ok(store) => {
                // The last thing of an opening is to sync the directory.
                self.vfs.directory_synced();
                return Ok(Some(store));
            }
            Err(OpenError::Database(error)) if self.vfs.fired_count() > 0 => error.to_string(),
            Err(error) => return Err(format!("the store does not open: {error}")),
        };
        if self.stopped() {
            return Ok(None);
        }
        self.vfs.disarm_fault();
        SqliteStore::open(config)
            .map(Some)
            .map_err(|error| format!("after {refused}: does not open: {error}"))
    }

    /// Writes a batch until it is acknowledged; `logged` says whether an earlier one lies in the log. False if the
    /// pass ends here.
    async fn write(&self, store: &SqliteStore, batch: &WriteBatch, logged: bool) -> Finding<bool> {
        let mut failed = false;
        let until = Instant::now() + Duration::from_mins(1);
        loop {
            let broken = self.lasting && self.vfs.is_armed() && self.vfs.fired_count() > 0;
            match store.commit(batch.clone()).await {
                CommitOutcome::Done(_) => {
                    if broken {
                        return Err("an acknowledgement came from a broken disk".to_owned());
                    }
                    // An empty log has nothing to copy: all of it is written again.
                    if failed && logged {
                        self.log_was_copied()?;
                    }
                    return Ok(true);
                }
                CommitOutcome::Unknown { .. } | CommitOutcome::Refused(CommitRefusal::ReadOnly { .. }) => {}
                refused @ CommitOutcome::Refused(_) => return Err(format!("{refused:?}")),
            }
            if self.vfs.fired_count() == 0 {
                return Err("a healthy disk gave no acknowledgement".to_owned());
            }
            failed = true;
            let health = store.store_health();
            if let Err(error) = store.session(&Scene::scope(), SESSION).await {
                return Err(format!("a read failed with the writer, {health:?}: {error}"));
            }
            if self.lasting {
                if self.stopped() {
                    return Ok(false);
                }
                self.vfs.disarm_fault();
            }
            while store.store_health().read_only.is_some() {
                if Instant::now() > until {
                    return Err("the writes do not come back".to_owned());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// After a sync of the log that failed, nothing is acknowledged before the whole log was copied into the main
    /// file and that was synced (C5).
    fn log_was_copied(&self) -> Finding {
        let failed = self.vfs.fired_at() == Some((VfsCall::Sync, FileKind::Wal));
        if failed && self.vfs.well_since((VfsCall::Sync, FileKind::Main)) == 0 {
            return Err(
                "an acknowledgement came after a failed sync and before the log was copied".to_owned()
            );
        }
        Ok(())
    }
}
