//! The port to durable storage.
//!
//! A [`WriteBatch`] is data: mutations of one tenant and, optionally, the claim of a session. [`Store::commit`] has
//! three answers, and memory may change only on [`CommitOutcome::Done`]. Any batch may be submitted twice: the second
//! time finds the rows of the first and gets the same receipt. Nothing here assumes SQL.

mod answer;
mod argument;
mod batch;
mod control;
mod deliver;
mod read;
mod reads;
mod row;
mod turn;
mod wrapper;

pub use answer::{CommitOutcome, CommitReceipt, CommitRefusal};
pub use argument::{LendArgument, ReadArgument};
pub use batch::{BatchRequester, Mutation, WriteBatch, WriterLane};
pub use control::{
    AgentCreate, AgentRename, AgentRevise, AgentStateSet, AnswerPut, ApprovalAnswer, ApprovalRuleRemove,
    BudgetRemove, BudgetSet, CapabilityDrop, CapabilityRevoke, FileLabelsPut, SecretErase, SessionErase,
    SessionHoldSet, TenantCreate, TokenCreate, TokenRevoke, VaultKeyPut,
};
pub use deliver::{
    CursorMove, DeliveryDrop, DeliveryPrepare, DeliveryRedrive, DeliverySettle, DeliveryStart, FeedNumber,
};
pub use read::{Read, ReadError, Store};
pub use row::{
    ApprovalFilter, CoolingApproval, DeliveryFilter, KeyedItem, OpenRun, PageRequest, PendingSession,
    RunFilter, RunSpending, SessionTail, SpendingSum, StateEntry, StoreDamage, StoreHealth, StoreStats,
    StoredEntry, TailLimits, TokenOwner, WORKING_LOOKS_MAX,
};
pub use turn::{
    FoldedState, InboxPut, ItemKey, KeyLifetime, NewEntry, RunAppend, RunCheckpoint, RunTakeover,
    SessionOpen, StatePut, TextPin, TurnClaim,
};
pub use wrapper::StoreWrapper;

/// The longest input that a list shows the first words of.
pub const OPENING_BYTES_MAX: usize = 256 << 10;

/// The most bytes of such inputs that one read gives.
pub const OPENINGS_BYTES_MAX: usize = 4 << 20;
