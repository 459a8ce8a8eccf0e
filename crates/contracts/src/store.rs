//! The port to durable storage.
//!
//! A [`Batch`] is data: mutations of one tenant and, optionally, the claim of a session. [`Store::commit`] has
//! three answers, and memory may change only on [`Commit::Done`]. Any batch may be submitted twice: the second
//! time finds the rows of the first and gets the same receipt. Nothing here assumes SQL.

mod batch;
mod deliver;
mod read;

pub use batch::{
    AgentCreate, AgentStateSet, ApprovalAnswer, ApprovalRuleRemove, Batch, BudgetRemove, BudgetSet,
    CapabilityDrop, CapabilityRevoke, Claim, Commit, FileLabelsPut, InboxPut, ItemKey, KeyLifetime, Lane,
    Mutation, NewEntry, Pin, Receipt, Refusal, RunAppend, RunTakeover, SecretErase, SessionOpen, StatePut,
    TenantCreate, TokenCreate, TokenRevoke, VaultKeyPut, Wanted,
};
pub use deliver::{
    CursorMove, DeliveryDrop, DeliveryPrepare, DeliveryRedrive, DeliverySettle, DeliveryStart, FeedNumber,
};
pub use read::{
    ApprovalFilter, CoolingApproval, DeliveryFilter, KeyedItem, OpenRun, Page, PendingSession, Read,
    ReadError, RunFilter, RunSpending, SessionTail, StateEntry, Store, StoreHealth, StoreStats, StoredEntry,
    TailLimits, TokenOwner,
};
