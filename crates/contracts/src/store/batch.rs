//! What is written: a batch and its mutations.
//!
//! A batch is data and does nothing. What each mutation says lies beside this file, by what it is about: turns, control,
//! deliveries. What comes back is an answer.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::control::{
    AgentCreate, AgentRename, AgentRevise, AgentStateSet, AnswerPut, ApprovalAnswer, ApprovalRuleRemove,
    BudgetRemove, BudgetSet, CapabilityDrop, CapabilityRevoke, FileLabelsPut, SecretErase, SessionErase,
    SessionHoldSet, TenantCreate, TokenCreate, TokenRevoke, VaultKeyPut,
};
use super::deliver::{
    CursorMove, DeliveryDrop, DeliveryPrepare, DeliveryRedrive, DeliverySettle, DeliveryStart, FeedNumber,
};
use super::turn::{InboxPut, RunAppend, RunTakeover, SessionOpen, StatePut, TextPin, TurnClaim};
use crate::approval::{ApprovalRequest, ApprovalRuleRecord, ApprovalTransition, approval_transition};
use crate::budget::BudgetPayer;
use crate::capability::CapabilityRecord;
use crate::id::{ApprovalId, RunId, SessionId, TenantId};
use crate::scope::Actor;
use crate::vault::SealedSecret;

/// Which queue of the writer a batch waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriterLane {
    /// Turns, input and whatever a caller waits for.
    #[default]
    Turn,
    /// Imports and erasure: served when no turn waits, or now and then between many.
    Bulk,
}

/// One atomic write of one tenant.
///
/// Limits: at most [`WriteBatch::ROWS_MAX`] rows and [`WriteBatch::BYTES_MAX`] bytes; a larger batch is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteBatch {
    /// The tenant of every row.
    pub tenant: TenantId,
    /// The queue.
    pub lane: WriterLane,
    /// The writes, in order.
    pub mutations: Vec<Mutation>,
    /// The optional claim. It is tried after the mutations; if it cannot be had, the mutations remain.
    pub claim: Option<TurnClaim>,
    /// Who pays for the calls that the entries of the batch begin and end. They are charged to the tenant's budgets in
    /// the same commit, and the batch is refused with
    /// [`CommitRefusal::BudgetExhausted`](super::CommitRefusal::BudgetExhausted) if one has too little left. Without a
    /// payer nothing is charged: what an import brings along was paid elsewhere.
    pub payer: Option<BudgetPayer>,
    /// Who wants it and since when, for the audit; absent where the server itself does.
    pub wanted: Option<BatchRequester>,
}

/// Who wants a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRequester {
    /// The actor that asked, as authentication named it.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
}

impl WriteBatch {
    /// The most rows of a batch.
    pub const ROWS_MAX: usize = 256;
    /// The most bytes of a batch.
    pub const BYTES_MAX: usize = 1 << 20;

    /// Begins an empty batch.
    pub fn new(tenant: TenantId) -> Self {
        Self { tenant, lane: WriterLane::Turn, mutations: Vec::new(), claim: None, payer: None, wanted: None }
    }

    /// Returns whether this batch appends an entry of that number to a run's journal.
    pub fn writes_entry(&self, run: RunId, seq: u64) -> bool {
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

    /// Returns the run whose owner writes this batch: the one that it begins, or else appends to or takes over last.
    pub fn owned_run(&self) -> Option<RunId> {
        let written = self.mutations.iter().rev().find_map(|mutation| match mutation {
            Mutation::RunAppend(append) => Some(append.run),
            Mutation::RunTakeover(by) => Some(by.run),
            _ => None,
        });
        self.claim.as_ref().map(|claim| claim.run).or(written)
    }

    /// Lists the approvals that entries of this batch take back. A batch without a payer moves none.
    pub fn takes_back(&self) -> BTreeSet<ApprovalId> {
        let appended = self.mutations.iter().filter(|_| self.payer.is_some());
        let entries = appended.flat_map(|mutation| match mutation {
            Mutation::RunAppend(append) => &append.entries[..],
            _ => &[],
        });
        let moved = entries.filter_map(|new| approval_transition(&new.entry));
        moved
            .filter(|(_, touch)| matches!(touch, ApprovalTransition::Withdraw | ApprovalTransition::Retract))
            .map(|(id, _)| id)
            .collect()
    }

    /// Names who wants it.
    pub fn wanted_by(self, by: &Actor, at: Timestamp) -> Self {
        Self { wanted: Some(BatchRequester { by: by.clone(), at }), ..self }
    }

    /// Adds a mutation.
    pub fn with_mutation(mut self, mutation: Mutation) -> Self {
        self.mutations.push(mutation);
        self
    }
}

/// Declares the writes of a batch, each with the name that a log has for it.
macro_rules! mutations {
    ($($(#[$text:meta])* $variant:ident($content:ty) = $name:literal,)+) => {
        /// One write.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Mutation {
            $($(#[$text])* $variant($content),)+
        }

        impl Mutation {
            /// Returns the name of the write, without what it says.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)+
                }
            }
        }
    };
}

mutations! {
    /// Registers a tenant; the batch's tenant is the new one.
    TenantCreate(TenantCreate) = "tenant_create",
    /// Suspends the tenant since a time, or has it go on where there is none. A tenant that is suspended already stays so
    /// since when it was. As long as it is, no claim is granted to a run that would begin.
    TenantSuspensionSet(Option<Timestamp>) = "tenant_suspension_set",
    /// Erases the tenant, a page at a time: the first marks the tenant since that time and leaves an act, each one after it
    /// erases up to [`WriteBatch::ROWS_MAX`] rows, and the last one the tenant itself. Refused with
    /// [`CommitRefusal::TenantActive`](super::CommitRefusal::TenantActive) unless the tenant is suspended, and with
    /// [`CommitRefusal::NotFound`](super::CommitRefusal::NotFound) once it is gone. A batch has nothing beside it.
    ///
    /// A marked tenant is not found by reads of tenants and tokens, and no other batch of it is accepted. The mark and each
    /// page set agents to `deleting`; no page takes other rows until
    /// [`erase_agent_page`](super::Store::erase_agent_page) has erased all of them.
    TenantErase(Timestamp) = "tenant_erase",
    /// Registers a credential.
    TokenCreate(TokenCreate) = "token_create",
    /// Takes a credential back.
    TokenRevoke(TokenRevoke) = "token_revoke",
    /// Registers an agent with its first configuration.
    AgentCreate(AgentCreate) = "agent_create",
    /// Changes what an agent may do.
    AgentStateSet(AgentStateSet) = "agent_state_set",
    /// Gives an agent another revision.
    AgentRevise(Box<AgentRevise>) = "agent_revise",
    /// Gives an agent another handle.
    AgentRename(AgentRename) = "agent_rename",
    /// Opens a session.
    SessionOpen(SessionOpen) = "session_open",
    /// Ends the import that fills a session: from now on the session is there, with all that was written into it. Refused
    /// with [`CommitRefusal::Malformed`](super::CommitRefusal::Malformed) while a run holds the session or an item of
    /// it waits. A session that no import fills is left alone.
    ImportEnd(SessionId) = "import_end",
    /// Erases a session with its children, and leaves a seal of each in the same commit. From then on no read finds them, and
    /// their keys are free; [`erase_session_page`](super::Store::erase_session_page) takes the rest of their rows. Refused with
    /// [`CommitRefusal::SessionKept`](super::CommitRefusal::SessionKept) as long as something keeps one of them, and with
    /// [`CommitRefusal::NotFound`](super::CommitRefusal::NotFound) once it is gone. A batch has nothing beside it.
    SessionErase(SessionErase) = "session_erase",
    /// Sets a session on hold, or ends its hold. One that is on hold already stays so as it was. As long as a hold lasts,
    /// neither the session nor its agent nor its tenant is erased.
    SessionHoldSet(SessionHoldSet) = "session_hold_set",
    /// Puts an item into an inbox.
    InboxPut(InboxPut) = "inbox_put",
    /// Keeps a text that journals name by digest; a text that is there already is left alone.
    PinPut(TextPin) = "pin_put",
    /// Appends to a run's journal.
    RunAppend(RunAppend) = "run_append",
    /// Takes over a run.
    RunTakeover(RunTakeover) = "run_takeover",
    /// Writes a custom state entry of a session.
    StatePut(StatePut) = "state_put",
    /// Prepares a message to be delivered.
    DeliveryPrepare(DeliveryPrepare) = "delivery_prepare",
    /// Begins an attempt.
    DeliveryStart(DeliveryStart) = "delivery_start",
    /// Says what came of an attempt.
    DeliverySettle(DeliverySettle) = "delivery_settle",
    /// Gives a message up without an attempt.
    DeliveryDrop(DeliveryDrop) = "delivery_drop",
    /// Has a message sent again.
    DeliveryRedrive(DeliveryRedrive) = "delivery_redrive",
    /// Numbers messages in the tenant's feed.
    FeedNumber(FeedNumber) = "feed_number",
    /// Moves a subscriber's cursor.
    CursorMove(CursorMove) = "cursor_move",
    /// Keeps the tenant's key of secrets; one that is there already is left alone.
    VaultKeyPut(VaultKeyPut) = "vault_key_put",
    /// Writes a version of a secret in place of the one before it, which is gone. Refused with
    /// [`CommitRefusal::SecretVersion`](super::CommitRefusal::SecretVersion) unless the version before it is there, or
    /// none for the first.
    SecretPut(SealedSecret) = "secret_put",
    /// Erases a secret. One that is not there changes nothing.
    SecretErase(SecretErase) = "secret_erase",
    /// Sets a budget. What was counted under its name stays if it still counts the same. A batch that sets or removes
    /// budgets has no payer.
    BudgetSet(BudgetSet) = "budget_set",
    /// Removes a budget and what was counted for it; one that is not there is removed already.
    BudgetRemove(BudgetRemove) = "budget_remove",
    /// Keeps a capability.
    CapabilityPut(CapabilityRecord) = "capability_put",
    /// Takes a capability back, and with it everything that was made from it.
    CapabilityRevoke(CapabilityRevoke) = "capability_revoke",
    /// Lets go of a capability's row.
    CapabilityDrop(CapabilityDrop) = "capability_drop",
    /// Says what files of an agent's workspace hold. A batch says it once for an agent.
    FileLabelsPut(FileLabelsPut) = "file_labels_put",
    /// Asks for an approval; one that is there already is left alone. What becomes of it is moved by the entries of runs
    /// that name it, in their commit. Refused with
    /// [`CommitRefusal::ApprovalsFull`](super::CommitRefusal::ApprovalsFull) if it is open and
    /// [`crate::approval::OPEN_MAX`] others are, without those of [`WriteBatch::takes_back`]. Of those that are not
    /// open the oldest go with it, beyond [`crate::approval::KEPT_MAX`].
    ApprovalAsk(Box<ApprovalRequest>) = "approval_ask",
    /// Answers an approval. Refused with [`CommitRefusal::ApprovalMoved`](super::CommitRefusal::ApprovalMoved) unless
    /// its state is the one that the caller found.
    ApprovalAnswer(ApprovalAnswer) = "approval_answer",
    /// Sets a rule of approvals. Rules of the tenant that had ended when this one was made go with it.
    ApprovalRulePut(ApprovalRuleRecord) = "approval_rule_put",
    /// Removes a rule of approvals; one that is not there is removed already.
    ApprovalRuleRemove(ApprovalRuleRemove) = "approval_rule_remove",
    /// Claims the key of a client's change, or keeps what the change gave.
    AnswerPut(AnswerPut) = "answer_put",
}
