//! [`SqliteStore`]: one writer and a few readers over one directory.
//!
//! It opens, hands to the writer, sweeps and closes; it reads and writes no row itself. Its two ports list its
//! operations.

mod audit;
mod port;

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use dromia_contracts::BoxFuture;
use dromia_contracts::agent::ErasureCounts;
use dromia_contracts::id::TenantId;
use dromia_contracts::scope::Scope;
use dromia_contracts::store::{CommitOutcome, CommitRefusal, PageRequest, Read, ReadError, WriteBatch};

use crate::acknowledged_end::AcknowledgedEnd;
use crate::body::FileBodies;
use crate::config::StoreConfig;
use crate::counters::StoreGauge;
use crate::erase::ErasedOwner;
use crate::lease::LeaseTable;
use crate::lock::HomeLock;
use crate::migrate::{MIGRATIONS, MigrationPlan};
use crate::open;
use crate::open_error::OpenError;
use crate::read::recent::TailCache;
use crate::reader::{NODE, ReadContext, ReadFailure, ReaderPool};
use crate::writer::StoreWriter;
use crate::writer::queue::{AuditNote, BatchWrite, QueueRejection, WriterJob, WriterQueue};

/// A store in one directory.
///
/// Dropping it serves what is queued, ends its threads and gives up the directory; that blocks until the last
/// group is durable.
pub struct SqliteStore {
    config: StoreConfig,
    gauge: Arc<StoreGauge>,
    queue: Arc<WriterQueue>,
    readers: ReaderPool,
    leases: Arc<LeaseTable>,
    writer: Option<JoinHandle<()>>,
    /// Given up last, when no thread touches the files any more.
    _lock: HomeLock,
}

impl SqliteStore {
    /// Opens a store, makes it if it is not there, and brings it to this program's schema.
    pub fn open(config: StoreConfig) -> Result<Self, OpenError> {
        open::make_dir(&config)?;
        let lock = HomeLock::acquire(&config.dir)?;
        let db = open::open_writer(&config)?;
        let gauge = Arc::new(StoreGauge::default());
        let queue = Arc::new(WriterQueue::default());
        let recent = Arc::new(TailCache::default());
        let readers = ReaderPool::start(&config, &gauge, &recent)?;
        let end = AcknowledgedEnd::open(&config).map_err(OpenError::of_home)?;
        let leases = Arc::new(LeaseTable::default());
        let writer = StoreWriter::new(
            config.clone(),
            db,
            queue.clone(),
            gauge.clone(),
            recent,
            Arc::clone(&leases),
            end,
        )?;
        let thread = std::thread::Builder::new().name("store-write".into()).spawn(move || writer.run())?;
        Ok(Self { config, gauge, queue, readers, leases, writer: Some(thread), _lock: lock })
    }

    /// Returns what [`SqliteStore::open`] would do to the schema, and changes nothing.
    pub fn plan_migration(config: &StoreConfig) -> Result<MigrationPlan, OpenError> {
        MigrationPlan::for_directory(&config.dir, MIGRATIONS)
    }

    /// Removes the files of bodies that no row names; returns how many. A server calls it once after the store
    /// it is open; after an erasure the store does it by itself, for that tenant.
    pub async fn sweep_bodies(&self) -> Result<u64, ReadError> {
        let tenants = self.list_files(FileBodies::list_tenants).await?;
        let mut swept = 0;
        for tenant in tenants {
            swept += self.sweep_tenant(tenant).await?;
        }
        Ok(swept)
    }

    async fn sweep_tenant(&self, tenant: TenantId) -> Result<u64, ReadError> {
        let hashes = self.list_files(move |files| files.list_hashes(tenant)).await?;
        let mut swept = 0;
        // One page at least, because the directory of a tenant that is gone goes with any.
        let pages = hashes.chunks(PageRequest::<()>::LIMIT_MAX).map(<[_]>::to_vec);
        for hashes in pages.chain(hashes.is_empty().then(Vec::new)) {
            let (ack, answer) = oneshot::channel();
            self.queue.push(WriterJob::Sweep { tenant, hashes, ack }).map_err(queue_error)?;
            swept += answer.await.map_err(|_| writer_ended())??;
        }
        Ok(swept)
    }

    /// Lists files on a reader's thread, where waiting for the disk delays only other reads.
    async fn list_files<T: Send + 'static>(
        &self,
        list: impl Fn(&FileBodies) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let listed = self.read_for_node(move |r| Ok(list(&r.files))).await?;
        listed.map_err(|error| ReadError::Unavailable { cause: error.to_string() })
    }

    /// Hands a batch to the writer, unless the store answers reads only or the queue is full.
    fn submit_batch(&self, batch: WriteBatch) -> BoxFuture<'static, CommitOutcome> {
        let refused = |refusal| -> BoxFuture<'static, CommitOutcome> {
            Box::pin(std::future::ready(CommitOutcome::Refused(refusal)))
        };
        if let Some(cause) = self.gauge.read_only() {
            return refused(CommitRefusal::ReadOnly { cause });
        }
        let (ack, answer) = oneshot::channel();
        match self.queue.push(WriterJob::Write(BatchWrite { batch, ack })) {
            Ok(()) => Box::pin(async move {
                let lost = |_| CommitOutcome::Unknown { cause: "the writer ended".to_owned() };
                answer.await.unwrap_or_else(lost)
            }),
            Err(QueueRejection::Full) => refused(CommitRefusal::Overloaded),
            Err(QueueRejection::Closed) => {
                refused(CommitRefusal::ReadOnly { cause: "the store is closing".to_owned() })
            }
        }
    }

    /// Has the writer erase a page of an agent or of the rest of a session. After the last page of an agent, files that no row
    /// names any more go, too.
    fn erase_page<'a>(&'a self, scope: &'a Scope, owner: ErasedOwner) -> Read<'a, (ErasureCounts, bool)> {
        let (ack, answer) = oneshot::channel();
        let pushed = match self.gauge.read_only() {
            Some(cause) => Err(ReadError::Unavailable { cause }),
            // An agent that the scope does not see is not found, and nothing of it is left to erase.
            None if matches!(owner, ErasedOwner::Agent(agent) if !scope.sees_agent(agent)) => {
                return Box::pin(std::future::ready(Ok((ErasureCounts::default(), true))));
            }
            None => {
                self.queue.push(WriterJob::Erase { tenant: scope.tenant(), owner, ack }).map_err(queue_error)
            }
        };
        Box::pin(async move {
            pushed?;
            let (erased, last) = answer.await.map_err(|_| writer_ended())??;
            if last && matches!(owner, ErasedOwner::Agent(_)) {
                // Files that a crash between two pages, or a batch refused meanwhile, left behind. The rows are gone
                // whatever comes of it, and the next start sweeps again.
                if let Err(error) = self.sweep_tenant(scope.tenant()).await {
                    tracing::warn!(%error, "the files of an erased agent stay until the next sweep");
                }
            }
            Ok((erased, last))
        })
    }

    fn write_note(&self, tenant: TenantId, note: AuditNote) -> Read<'static, ()> {
        let (ack, answer) = oneshot::channel();
        let pushed = match self.gauge.read_only() {
            Some(cause) => Err(ReadError::Unavailable { cause }),
            None => self.queue.push(WriterJob::Audit { tenant, note, ack }).map_err(queue_error),
        };
        Box::pin(async move {
            pushed?;
            answer.await.map_err(|_| writer_ended())?
        })
    }

    /// Reads for the node, which has a share beside those of tenants.
    fn read_for_node<T: Send + 'static>(
        &self,
        read: impl Fn(&mut ReadContext) -> Result<T, ReadFailure> + Send + 'static,
    ) -> Read<'static, T> {
        self.readers.read(NODE, read)
    }

    /// Reads for a tenant, in its turn.
    fn read_of<T: Send + 'static>(
        &self,
        tenant: TenantId,
        read: impl Fn(&mut ReadContext) -> Result<T, ReadFailure> + Send + 'static,
    ) -> Read<'static, T> {
        self.readers.read(tenant, read)
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

fn queue_error(rejected: QueueRejection) -> ReadError {
    let cause = match rejected {
        QueueRejection::Full => "the writer's queue is full",
        QueueRejection::Closed => "the store is closing",
    };
    ReadError::Unavailable { cause: cause.to_owned() }
}

fn writer_ended() -> ReadError {
    ReadError::Unavailable { cause: "the writer ended".to_owned() }
}
