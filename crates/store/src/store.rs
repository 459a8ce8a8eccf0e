//! [`SqliteStore`]: one writer and a few readers over one directory.
//!
//! It opens, hands to the writer, sweeps and closes; it reads and writes no row itself. What is asked of it stands in its
//! two ports.

mod audit;
mod port;

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use dromia_contracts::BoxFuture;
use dromia_contracts::agent::Erased;
use dromia_contracts::id::{AgentId, TenantId};
use dromia_contracts::scope::Scope;
use dromia_contracts::store::{Batch, Commit, Page, Read, ReadError, Refusal};

use crate::body::FileBodies;
use crate::config::StoreConfig;
use crate::gauge::Gauge;
use crate::lock::HomeLock;
use crate::migrate::{MIGRATIONS, MigrationPlan};
use crate::open::{self, OpenError};
use crate::read::recent::Recent;
use crate::reader::{Problem, Readers, Reading};
use crate::writer::Writer;
use crate::writer::queue::{Job, Note, Queue, Rejected, Write};

/// A store in one directory.
///
/// Dropping it serves what is queued, ends its threads and gives up the directory; that blocks until the last
/// group is durable.
pub struct SqliteStore {
    config: StoreConfig,
    gauge: Arc<Gauge>,
    queue: Arc<Queue>,
    readers: Readers,
    writer: Option<JoinHandle<()>>,
    /// Given up last, when no thread touches the files any more.
    _lock: HomeLock,
}

impl SqliteStore {
    /// Opens a store, makes it if it is not there, and brings it to this program's schema.
    pub fn open(config: StoreConfig) -> Result<Self, OpenError> {
        open::make_dir(&config)?;
        let lock = HomeLock::take(&config.dir)?;
        let db = open::open_writer(&config)?;
        let gauge = Arc::new(Gauge::default());
        let queue = Arc::new(Queue::default());
        let recent = Arc::new(Recent::default());
        let readers = Readers::start(&config, &gauge, &recent)?;
        let writer = Writer::new(config.clone(), db, queue.clone(), gauge.clone(), recent)?;
        let thread = std::thread::Builder::new().name("store-write".into()).spawn(move || writer.run())?;
        Ok(Self { config, gauge, queue, readers, writer: Some(thread), _lock: lock })
    }

    /// Tells what [`SqliteStore::open`] would do to the schema, and changes nothing.
    pub fn plan(config: &StoreConfig) -> Result<MigrationPlan, OpenError> {
        MigrationPlan::of(&config.dir, MIGRATIONS)
    }

    /// Removes the files of bodies that no row names; returns how many. Whoever serves a store does this once after
    /// it is open; after an erasure the store does it by itself, for that tenant.
    pub async fn sweep(&self) -> Result<u64, ReadError> {
        let tenants = self.listed(FileBodies::tenants).await?;
        let mut swept = 0;
        for tenant in tenants {
            swept += self.sweep_tenant(tenant).await?;
        }
        Ok(swept)
    }

    async fn sweep_tenant(&self, tenant: TenantId) -> Result<u64, ReadError> {
        let hashes = self.listed(move |files| files.list(tenant)).await?;
        let mut swept = 0;
        for page in hashes.chunks(Page::<()>::LIMIT_MAX) {
            let (ack, answer) = oneshot::channel();
            let hashes = page.to_vec();
            self.queue.push(Job::Sweep { tenant, hashes, ack }).map_err(unavailable)?;
            swept += answer.await.map_err(|_| gone())??;
        }
        Ok(swept)
    }

    /// Lists files on a reader's thread, where waiting for the disk holds nobody up but other reads.
    async fn listed<T: Send + 'static>(
        &self,
        list: impl Fn(&FileBodies) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let listed = self.read(move |r| Ok(list(&r.files))).await?;
        listed.map_err(|error| ReadError::Unavailable { cause: error.to_string() })
    }

    /// Hands a batch to the writer, unless the store answers reads only or the queue is full.
    fn write(&self, batch: Batch) -> BoxFuture<'static, Commit> {
        let refused = |refusal| -> BoxFuture<'static, Commit> {
            Box::pin(std::future::ready(Commit::Refused(refusal)))
        };
        if let Some(cause) = self.gauge.read_only() {
            return refused(Refusal::ReadOnly { cause });
        }
        let (ack, answer) = oneshot::channel();
        match self.queue.push(Job::Write(Write { batch, ack })) {
            Ok(()) => Box::pin(async move {
                let lost = |_| Commit::Unknown { cause: "the writer ended".to_owned() };
                answer.await.unwrap_or_else(lost)
            }),
            Err(Rejected::Full) => refused(Refusal::Overloaded),
            Err(Rejected::Closed) => refused(Refusal::ReadOnly { cause: "the store is closing".to_owned() }),
        }
    }

    /// Has the writer erase a page of an agent; after the last one the files that nobody names any more go, too.
    fn erase_page<'a>(&'a self, scope: &'a Scope, agent: AgentId) -> Read<'a, (Erased, bool)> {
        let (ack, answer) = oneshot::channel();
        let pushed = match self.gauge.read_only() {
            Some(cause) => Err(ReadError::Unavailable { cause }),
            // An agent that the scope does not see is not found, and nothing of it is left to erase.
            None if !scope.sees(agent) => return Box::pin(std::future::ready(Ok((Erased::default(), true)))),
            None => self.queue.push(Job::Erase { tenant: scope.tenant(), agent, ack }).map_err(unavailable),
        };
        Box::pin(async move {
            pushed?;
            let (erased, last) = answer.await.map_err(|_| gone())??;
            if last {
                // Files that a crash between two pages, or a batch refused meanwhile, left behind. The rows are gone
                // whatever comes of it, and the next start sweeps again.
                if let Err(error) = self.sweep_tenant(scope.tenant()).await {
                    tracing::warn!(%error, "the files of an erased agent wait for the next sweep");
                }
            }
            Ok((erased, last))
        })
    }

    fn note(&self, tenant: TenantId, note: Note) -> Read<'static, ()> {
        let (ack, answer) = oneshot::channel();
        let pushed = match self.gauge.read_only() {
            Some(cause) => Err(ReadError::Unavailable { cause }),
            None => self.queue.push(Job::Audit { tenant, note, ack }).map_err(unavailable),
        };
        Box::pin(async move {
            pushed?;
            answer.await.map_err(|_| gone())?
        })
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl Fn(&mut Reading) -> Result<T, Problem> + Send + 'static,
    ) -> Read<'static, T> {
        self.readers.read(read)
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("dir", &self.config.dir).finish_non_exhaustive()
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.queue.close();
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the writer panicked");
        }
    }
}

fn unavailable(rejected: Rejected) -> ReadError {
    let cause = match rejected {
        Rejected::Full => "the writer's queue is full",
        Rejected::Closed => "the store is closing",
    };
    ReadError::Unavailable { cause: cause.to_owned() }
}

fn gone() -> ReadError {
    ReadError::Unavailable { cause: "the writer ended".to_owned() }
}
