//! What is written: batches, their mutations, and the three answers.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::deliver::{
    CursorMove, DeliveryDrop, DeliveryPrepare, DeliveryRedrive, DeliverySettle, DeliveryStart, FeedNumber,
};
use crate::agent::{AgentConfig, AgentState, Handle};
use crate::approval::{Answered, Approval, ApprovalRule, ApprovalState};
use crate::budget::{Budget, Exhausted, Payer};
use crate::capability::Capability;
use crate::delivery::DeliveryState;
use crate::digest::Digest;
use crate::entry::Entry;
use crate::file::FileLabels;
use crate::id::{AgentId, ApprovalId, CapabilityId, DeliveryId, ItemId, RunId, SessionId, TenantId, TokenId};
use crate::run::RunHead;
use crate::scope::Actor;
use crate::session::{InboxOwner, ItemKind, SessionKey};
use crate::token::TokenScopes;
use crate::vault::SealedSecret;

/// Which queue of the writer a batch waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lane {
    /// Turns, input and whatever somebody waits for.
    #[default]
    Turn,
    /// Imports and erasure: served when no turn waits.
    Bulk,
}

/// One atomic write of one tenant.
///
/// Limits: at most [`Batch::ROWS_MAX`] rows and [`Batch::BYTES_MAX`] bytes; a larger batch is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The tenant of every row.
    pub tenant: TenantId,
    /// The queue.
    pub lane: Lane,
    /// The writes, in order.
    pub mutations: Vec<Mutation>,
    /// The optional claim. It is tried after the mutations; if it cannot be had, the mutations stand.
    pub claim: Option<Claim>,
    /// Who pays for the calls that the entries of the batch begin and end. They are charged to the tenant's budgets in
    /// the same commit, and the batch is refused with [`Refusal::BudgetExhausted`] if one has no room. Without a payer
    /// nothing is charged: what an import brings along was paid elsewhere.
    pub payer: Option<Payer>,
    /// Who wants it and since when, for the audit; nobody is named where the server itself does.
    pub wanted: Option<Wanted>,
}

/// Who wants a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Whoever asked, as authentication named them.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
}

impl Batch {
    /// The most rows of a batch.
    pub const ROWS_MAX: usize = 256;
    /// The most bytes of a batch.
    pub const BYTES_MAX: usize = 1 << 20;

    /// Begins an empty batch.
    pub fn new(tenant: TenantId) -> Self {
        Self { tenant, lane: Lane::Turn, mutations: Vec::new(), claim: None, payer: None, wanted: None }
    }

    /// Tells whether this batch appends an entry of that number to a run's journal.
    pub fn writes(&self, run: RunId, seq: u64) -> bool {
        let appended = self.mutations.iter().any(|mutation| match mutation {
            Mutation::RunAppend(append) => {
                append.run == run && seq > append.after && seq - append.after <= append.entries.len() as u64
            }
            _ => false,
        });
        let claimed = self
            .claim
            .as_ref()
            .filter(|claim| claim.run == run)
            .map_or(0, |claim| claim.entries.len() as u64);
        appended || (1..=claimed).contains(&seq)
    }

    /// Names who wants it.
    pub fn wanted_by(self, by: &Actor, at: Timestamp) -> Self {
        Self { wanted: Some(Wanted { by: by.clone(), at }), ..self }
    }

    /// Adds a mutation.
    pub fn with(mut self, mutation: Mutation) -> Self {
        self.mutations.push(mutation);
        self
    }
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutation {
    /// Registers a tenant; the batch's tenant is the new one.
    TenantCreate(TenantCreate),
    /// Registers a credential.
    TokenCreate(TokenCreate),
    /// Takes a credential back.
    TokenRevoke(TokenRevoke),
    /// Registers an agent with its first configuration.
    AgentCreate(AgentCreate),
    /// Changes what an agent may do.
    AgentStateSet(AgentStateSet),
    /// Opens a session.
    SessionOpen(SessionOpen),
    /// Puts an item into an inbox.
    InboxPut(InboxPut),
    /// Keeps a text that journals name by digest; a text that is there already is left alone.
    PinPut(Pin),
    /// Appends to a run's journal.
    RunAppend(RunAppend),
    /// Takes over a run.
    RunTakeover(RunTakeover),
    /// Writes a custom state entry of a session.
    StatePut(StatePut),
    /// Prepares a message to be delivered.
    DeliveryPrepare(DeliveryPrepare),
    /// Begins an attempt.
    DeliveryStart(DeliveryStart),
    /// Says what came of an attempt.
    DeliverySettle(DeliverySettle),
    /// Gives a message up without an attempt.
    DeliveryDrop(DeliveryDrop),
    /// Has a message sent again.
    DeliveryRedrive(DeliveryRedrive),
    /// Numbers messages in the tenant's feed.
    FeedNumber(FeedNumber),
    /// Moves a subscriber's cursor.
    CursorMove(CursorMove),
    /// Keeps the tenant's key of secrets; one that is there already is left alone.
    VaultKeyPut(VaultKeyPut),
    /// Writes a version of a secret in place of the one before it, which is gone. Refused with
    /// [`Refusal::SecretVersion`] unless the version before it is there, or none for the first.
    SecretPut(SealedSecret),
    /// Erases a secret. One that is not there changes nothing.
    SecretErase(SecretErase),
    /// Sets a budget. What was counted under its name stays if it still counts the same. A batch that sets or removes
    /// budgets has no payer.
    BudgetSet(BudgetSet),
    /// Removes a budget and what was counted for it; one that is not there is removed already.
    BudgetRemove(BudgetRemove),
    /// Keeps a capability.
    CapabilityPut(Capability),
    /// Takes a capability back, and with it everything that was made from it.
    CapabilityRevoke(CapabilityRevoke),
    /// Lets go of a capability's row.
    CapabilityDrop(CapabilityDrop),
    /// Says what files of an agent's workspace hold. A batch says it once for an agent.
    FileLabelsPut(FileLabelsPut),
    /// Asks for an approval; one that is there already is left alone. What becomes of it is moved by the entries of runs
    /// that name it, in their commit. Refused with [`Refusal::ApprovalsFull`] if it is open and
    /// [`crate::approval::OPEN_MAX`] others are. Of those that are not open the oldest go with it, beyond
    /// [`crate::approval::KEPT_MAX`].
    ApprovalAsk(Box<Approval>),
    /// Answers an approval. Refused with [`Refusal::ApprovalMoved`] unless it stands as the caller found it.
    ApprovalAnswer(ApprovalAnswer),
    /// Sets a rule of approvals. Rules of the tenant that had ended when this one was made go with it.
    ApprovalRulePut(ApprovalRule),
    /// Removes a rule of approvals; one that is not there is removed already.
    ApprovalRuleRemove(ApprovalRuleRemove),
}

/// Answers an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalAnswer {
    /// The approval.
    pub approval: ApprovalId,
    /// How the caller found it: holding or waiting.
    pub from: ApprovalState,
    /// Whether the call may begin.
    pub approved: bool,
    /// Who answers, and when. An approval that has expired by then takes no answer.
    pub answered: Answered,
}

/// Removes a rule of approvals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRuleRemove {
    /// Its name.
    pub name: String,
}

/// The key under which the keys of a tenant's secrets are sealed, itself sealed with the instance's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultKeyPut {
    /// The sealed key.
    pub key: Bytes,
}

/// Erases a secret. Refused with [`Refusal::SecretVersion`] where another version is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretErase {
    /// Its name.
    pub name: String,
    /// The version that is erased.
    pub version: u32,
}

/// Sets a budget. Refused if the tenant has [`crate::budget::BUDGETS_MAX`] others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetSet {
    /// The budget.
    pub budget: Budget,
}

/// Removes a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetRemove {
    /// Its name.
    pub name: String,
}

/// Registers a tenant.
#[derive(Clone, PartialEq, Eq)]
pub struct TenantCreate {
    /// Its handle, unique on the node.
    pub handle: Handle,
    /// When.
    pub at: Timestamp,
    /// The key under which the tenant's bodies are hashed, so that equal bodies of two tenants differ.
    pub body_key: [u8; 32],
}

impl fmt::Debug for TenantCreate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantCreate")
            .field("handle", &self.handle)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// Registers a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenCreate {
    /// Its id.
    pub token: TokenId,
    /// BLAKE3 of the token, unique on the node; the token itself is never stored.
    pub hash: Digest,
    /// What it is called; becomes the actor `token:NAME`.
    pub name: String,
    /// What it may do.
    pub scopes: TokenScopes,
    /// From when on it is refused, if ever.
    pub expires_at: Option<Timestamp>,
    /// When.
    pub at: Timestamp,
}

/// Takes a credential back, for good. Revoking one that is revoked changes nothing, not even the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenRevoke {
    /// The token, of the batch's tenant.
    pub token: TokenId,
    /// When.
    pub at: Timestamp,
}

/// Registers an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCreate {
    /// Its id.
    pub agent: AgentId,
    /// Its handle, unique in its tenant.
    pub handle: Handle,
    /// The name that people see.
    pub display_name: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// When.
    pub at: Timestamp,
    /// BLAKE3 of `config` as JSON.
    pub revision: Digest,
    /// Its first configuration.
    pub config: AgentConfig,
}

/// Changes what an agent may do. Refused with [`Refusal::AgentState`] unless it is in `from`. With the end of an agent goes
/// what was approved for runs of their own and has not begun ([`Approval::give_up`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentStateSet {
    /// The agent.
    pub agent: AgentId,
    /// The states from which the change is allowed; `to` itself is always allowed and changes nothing.
    pub from: Vec<AgentState>,
    /// The new state.
    pub to: AgentState,
}

/// Opens a session. Refused with [`Refusal::SessionExists`] when the key finds one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOpen {
    /// Its id.
    pub session: SessionId,
    /// Its agent, which must be there and not be deleting.
    pub agent: AgentId,
    /// The key by which it is found.
    pub key: SessionKey,
    /// When.
    pub at: Timestamp,
}

/// The key of an inbox item, unique in its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemKey {
    /// The key, at most 512 bytes.
    pub key: String,
    /// BLAKE3 of the request, so that a key used for something else is noticed.
    pub request: Digest,
    /// For how long the key stands for its item.
    pub lifetime: KeyLifetime,
}

/// For how long a key stands for its item, counted from the item's own time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyLifetime {
    /// As long as the item. For keys that the engine makes of something that happens once.
    Forever,
    /// 24 hours. For keys that clients choose: one that is used again later is a new key.
    Day,
}

/// Puts an item into an inbox; the store gives it the next position. A signal for a run that has ended is refused
/// with [`Refusal::RunTerminal`]: nobody would ever take it.
///
/// Without a key the item's own id is its key, and the store remembers it only if the item has to wait: an item
/// taken by the claim of its own batch is found again by that claim's entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxPut {
    /// Whose inbox; a session or run of the batch's tenant.
    pub owner: InboxOwner,
    /// Its id.
    pub item: ItemId,
    /// When.
    pub at: Timestamp,
    /// What it is.
    pub kind: ItemKind,
    /// Who sent it.
    pub author: Actor,
    /// The body.
    pub body: Bytes,
    /// The caller's key. A second item with the key is refused with [`Refusal::KeyTaken`].
    pub key: Option<ItemKey>,
}

impl InboxPut {
    /// Returns when the item's key is free again; `None` for a key that stays, or if there is none.
    pub fn key_expires_at(&self) -> Option<Timestamp> {
        match self.key.as_ref()?.lifetime {
            KeyLifetime::Forever => None,
            // A time at the very end of the calendar has no next day; its key stays.
            KeyLifetime::Day => self.at.checked_add(SignedDuration::from_hours(24)).ok(),
        }
    }
}

/// A text kept under its digest, such as a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// BLAKE3 of `bytes`.
    pub digest: Digest,
    /// The text.
    pub bytes: Bytes,
}

/// An entry on its way to the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub entry: Entry,
    /// What was said; it can be erased later without breaking the chain.
    pub body: Option<Bytes>,
}

/// Appends to a run's journal. Refused unless `epoch` and `after` are the run's, or the run has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAppend {
    /// The run.
    pub run: RunId,
    /// The epoch in which the caller owns it.
    pub epoch: u64,
    /// The number of the last entry that the caller knows.
    pub after: u64,
    /// The entries, at least one.
    pub entries: Vec<NewEntry>,
    /// What the run's row says from now on.
    pub head: RunHead,
}

/// Takes over a run: raises its epoch by one. Refused unless `from_epoch` is the run's, or the run has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunTakeover {
    /// The run.
    pub run: RunId,
    /// The epoch that the caller found.
    pub from_epoch: u64,
    /// Who takes it over: the id of this process's life.
    pub holder: Digest,
    /// When.
    pub at: Timestamp,
}

/// Claims a session for a new turn and writes the turn's first entries.
///
/// Granted only while no turn is active, the session's inbox was taken exactly up to `after`, the agent is
/// running, and `take` names the next items in their order. A run that has ended in its own claim begins nothing, so
/// it is granted while the agent is paused, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The session.
    pub session: SessionId,
    /// Its agent.
    pub agent: AgentId,
    /// The new run, which begins with epoch 1.
    pub run: RunId,
    /// The position up to which the caller knows the inbox to be taken.
    pub after: u64,
    /// The items the run takes.
    pub take: Vec<ItemId>,
    /// The first entries; the first of them is `RunStarted`.
    pub entries: Vec<NewEntry>,
    /// What the run's row says.
    pub head: RunHead,
}

/// Writes a custom state entry of a session, which has at most [`StatePut::ENTRIES_MAX`] of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatePut {
    /// The session.
    pub session: SessionId,
    /// The entry's name, at most 128 bytes.
    pub name: String,
    /// The version that must be there, 0 for none; `None` writes over whatever is there.
    pub expected: Option<u64>,
    /// The value.
    pub value: Bytes,
    /// When.
    pub at: Timestamp,
}

impl StatePut {
    /// The most custom state entries of a session.
    pub const ENTRIES_MAX: usize = 256;
    /// The longest name, in bytes.
    pub const NAME_BYTES_MAX: usize = 128;
    /// The longest value that people and files may write, in bytes.
    pub const VALUE_BYTES_MAX: usize = 256 << 10;
}

/// Takes a capability back; one that was taken back before stays as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapabilityRevoke {
    /// Which.
    pub capability: CapabilityId,
    /// When.
    pub at: Timestamp,
}

/// Lets go of a capability's row; one that is not there is let go of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapabilityDrop {
    /// Which.
    pub capability: CapabilityId,
}

/// Says what files of an agent's workspace hold. What is said of a file takes the place of what was known of it; a file that
/// is gone is not known any more; what counts for every file of which nothing is known is joined and never goes down. Of
/// files beyond [`crate::file::FILE_LABELS_MAX`] nothing is kept but that. Refused where the agent is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLabelsPut {
    /// The agent.
    pub agent: AgentId,
    /// What is said.
    pub said: FileLabels,
}

/// The answer to a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// The batch is durable.
    Done(Receipt),
    /// The batch left no row.
    Refused(Refusal),
    /// Nobody can say. What is in memory must be dropped and read again.
    Unknown {
        /// What failed, for the log.
        cause: String,
    },
}

/// What a durable batch gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receipt {
    /// The positions of the items put, in the order of the mutations.
    pub positions: Vec<u64>,
    /// Whether the claim was granted; `true` also when there was none.
    pub claimed: bool,
    /// Whether the session that this batch freed, by a terminal head, has items waiting for the next turn.
    pub waiting: bool,
}

/// Which precondition did not hold, and what was found instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The batch is too large or contradicts itself.
    #[error("the batch is malformed: {0}")]
    Malformed(String),
    /// A row of the batch belongs to another tenant, or to nobody.
    #[error("{0} does not exist in this tenant")]
    NotFound(String),
    /// The tenant's or agent's handle is taken.
    #[error("the handle {0} is taken")]
    HandleTaken(Handle),
    /// The agent is in a state that does not allow this.
    #[error("the agent is {}", found.as_str())]
    AgentState {
        /// The state it is in.
        found: AgentState,
    },
    /// The key finds a session already.
    #[error("the key belongs to {session}")]
    SessionExists {
        /// That session.
        session: SessionId,
    },
    /// An item with the key is there already.
    #[error("the key was used for {item}")]
    KeyTaken {
        /// That item.
        item: ItemId,
        /// Whose inbox it is in.
        owner: InboxOwner,
        /// Its position.
        position: u64,
        /// The digest of the request that used the key.
        request: Digest,
    },
    /// Another owner holds the run.
    #[error("the run is at epoch {found}")]
    EpochStale {
        /// The run's epoch.
        found: u64,
    },
    /// The journal is not where the caller thought.
    #[error("the journal is at entry {found}")]
    SequenceMoved {
        /// The number of its last entry.
        found: u64,
    },
    /// The run has ended.
    #[error("the run has ended")]
    RunTerminal,
    /// The delivery is not where the caller thought.
    #[error("the delivery is {} after {attempts} attempts and {redrives} redrives", found.as_str())]
    DeliveryMoved {
        /// How it stands.
        found: DeliveryState,
        /// Attempts that began.
        attempts: u32,
        /// How often it was redriven.
        redrives: u32,
    },
    /// An earlier message of the target is still open.
    #[error("{by} goes first")]
    DeliveryBlocked {
        /// The first open one.
        by: DeliveryId,
    },
    /// The feed is not where the caller thought.
    #[error("the feed is at {found}")]
    FeedMoved {
        /// The last number that was given.
        found: u64,
    },
    /// A budget has no room for what the batch begins.
    #[error("{}", .0.text())]
    BudgetExhausted(Exhausted),
    /// The approval is not where the caller, or the entry that names it, thought.
    #[error("the approval is {found}")]
    ApprovalMoved {
        /// How it stands.
        found: ApprovalState,
    },
    /// As many approvals of the tenant are open as may be.
    #[error("{most} approvals of this tenant are open, and there may be no more; answer some of them first")]
    ApprovalsFull {
        /// How many may be.
        most: usize,
    },
    /// The state entry changed.
    #[error("the state entry is at version {found}")]
    StateVersion {
        /// The version found, 0 for none.
        found: u64,
    },
    /// The secret changed.
    #[error("the secret is at version {found}")]
    SecretVersion {
        /// The version found, 0 for none.
        found: u32,
    },
    /// The tenant's share of the writer's queue is used up.
    #[error("the writer's queue is full for this tenant")]
    Overloaded,
    /// A write failed earlier, and the store has not been reopened since.
    #[error("the store answers reads only: {cause}")]
    ReadOnly {
        /// What failed.
        cause: String,
    },
}
