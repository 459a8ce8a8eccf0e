//! The rows of one tenant, each kind in a map of its own.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dromia_contracts::agent::{AgentConfig, AgentRecord, HandleSlug};
use dromia_contracts::approval::{ApprovalRequest, ApprovalRuleRecord};
use dromia_contracts::audit::AuditAct;
use dromia_contracts::budget::{BudgetCounter, BudgetDefinition, BudgetReservation};
use dromia_contracts::capability::CapabilityRecord;
use dromia_contracts::delivery::FeedSubscriber;
use dromia_contracts::file::FileLabel;
use dromia_contracts::label::Label;
use dromia_contracts::run::RunRecord;
use dromia_contracts::session::{InboxItem, InboxOwner, SessionKey, SessionRecord};
use dromia_contracts::store::{InboxPut, ItemKey, StateEntry, StoredEntry};
use dromia_contracts::token::TokenRecord;
use dromia_contracts::vault::SealedSecret;
use dromia_contracts::{
    AgentId, ApprovalId, CapabilityId, DeliveryId, Digest, ItemId, RunId, SessionId, TokenId, WriteId,
};
use jiff::Timestamp;

use super::deliver::DeliveryRow;

#[derive(Debug, Clone)]
pub(super) struct TenantRows {
    pub(super) handle: HandleSlug,
    pub(super) created_at: Timestamp,
    pub(super) body_key: [u8; 32],
    pub(super) tokens: BTreeMap<TokenId, TokenRow>,
    pub(super) agents: BTreeMap<AgentId, AgentRecord>,
    pub(super) revisions: BTreeMap<(AgentId, Digest), AgentConfig>,
    pub(super) sessions: BTreeMap<SessionId, SessionRecord>,
    pub(super) session_keys: BTreeMap<(AgentId, SessionKey), SessionId>,
    /// The sessions that an import fills; no read shows them.
    pub(super) imports: BTreeSet<SessionId>,
    /// Items in the order of their positions, which count from 1 without gap.
    pub(super) inboxes: BTreeMap<InboxOwner, Vec<InboxItem>>,
    pub(super) items: BTreeMap<ItemId, ItemRow>,
    pub(super) item_keys: BTreeMap<String, KeyRow>,
    pub(super) runs: BTreeMap<RunId, RunRecord>,
    /// Who raised a run to an epoch.
    pub(super) takeovers: BTreeMap<(RunId, u64), Digest>,
    pub(super) journals: BTreeMap<RunId, Vec<StoredEntry>>,
    pub(super) pins: BTreeMap<Digest, Bytes>,
    /// Which agents' runs name a pin.
    pub(super) pin_refs: BTreeSet<(Digest, AgentId)>,
    pub(super) states: BTreeMap<(SessionId, String), StateRow>,
    pub(super) deliveries: BTreeMap<DeliveryId, DeliveryRow>,
    /// The last number of the feed.
    pub(super) feed_last: u64,
    pub(super) subscribers: BTreeMap<String, FeedSubscriber>,
    /// The key of secrets, as it was sealed.
    pub(super) vault_key: Option<Bytes>,
    pub(super) secrets: BTreeMap<String, SealedSecret>,
    pub(super) budgets: BTreeMap<String, BudgetDefinition>,
    pub(super) used: BTreeMap<BudgetCounter, u64>,
    pub(super) reserved: BTreeMap<RunId, Vec<BudgetReservation>>,
    pub(super) capabilities: BTreeMap<CapabilityId, CapabilityRecord>,
    pub(super) files: BTreeMap<AgentId, BTreeMap<String, FileLabel>>,
    /// What counts for the files of an agent of which nothing is known.
    pub(super) files_rest: BTreeMap<AgentId, Label>,
    pub(super) approvals: BTreeMap<ApprovalId, ApprovalRequest>,
    pub(super) approval_rules: BTreeMap<String, ApprovalRuleRecord>,
    /// What people changed, and when.
    pub(super) acts: Vec<(Timestamp, AuditAct)>,
}

/// A credential by its id, and the hash by which it is found.
#[derive(Debug, Clone)]
pub(super) struct TokenRow {
    pub(super) hash: Digest,
    pub(super) token: TokenRecord,
}

/// What was put, so that the same put is recognised.
#[derive(Debug, Clone)]
pub(super) struct ItemRow {
    pub(super) position: u64,
    pub(super) put: InboxPut,
}

/// Which item a caller's key names.
#[derive(Debug, Clone)]
pub(super) struct KeyRow {
    pub(super) item: ItemId,
    pub(super) owner: InboxOwner,
    pub(super) position: u64,
    pub(super) key: ItemKey,
    /// When the key is free again, if ever.
    pub(super) expires_at: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub(super) struct StateRow {
    pub(super) version: u64,
    pub(super) value: Bytes,
    pub(super) write: WriteId,
}

impl StateRow {
    /// Shows the row as it is read.
    pub(super) fn state_entry(&self, name: &str) -> StateEntry {
        StateEntry { name: name.to_owned(), version: self.version, value: self.value.clone() }
    }
}

impl TenantRows {
    pub(super) fn new(handle: HandleSlug, created_at: Timestamp, body_key: [u8; 32]) -> Self {
        Self {
            handle,
            created_at,
            body_key,
            tokens: BTreeMap::new(),
            agents: BTreeMap::new(),
            revisions: BTreeMap::new(),
            sessions: BTreeMap::new(),
            session_keys: BTreeMap::new(),
            imports: BTreeSet::new(),
            inboxes: BTreeMap::new(),
            items: BTreeMap::new(),
            item_keys: BTreeMap::new(),
            runs: BTreeMap::new(),
            takeovers: BTreeMap::new(),
            journals: BTreeMap::new(),
            pins: BTreeMap::new(),
            pin_refs: BTreeSet::new(),
            states: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            feed_last: 0,
            subscribers: BTreeMap::new(),
            vault_key: None,
            secrets: BTreeMap::new(),
            budgets: BTreeMap::new(),
            used: BTreeMap::new(),
            reserved: BTreeMap::new(),
            capabilities: BTreeMap::new(),
            files: BTreeMap::new(),
            files_rest: BTreeMap::new(),
            approvals: BTreeMap::new(),
            approval_rules: BTreeMap::new(),
            acts: Vec::new(),
        }
    }

    /// Finds the agent of an inbox; `None` if the tenant has no such session or run.
    pub(super) fn owner_agent(&self, owner: InboxOwner) -> Option<AgentId> {
        match owner {
            InboxOwner::Session(id) => self.sessions.get(&id).map(|session| session.agent),
            InboxOwner::Run(id) => self.runs.get(&id).map(|run| run.agent),
        }
    }

    /// Tells whether an import fills the session that the inbox belongs to, itself or by its run.
    pub(super) fn is_importing(&self, owner: InboxOwner) -> bool {
        match owner {
            InboxOwner::Session(id) => self.imports.contains(&id),
            InboxOwner::Run(id) => self.runs.get(&id).is_some_and(|run| self.imports.contains(&run.session)),
        }
    }

    /// Returns the items of an inbox in order.
    pub(super) fn inbox_items(&self, owner: InboxOwner) -> &[InboxItem] {
        self.inboxes.get(&owner).map_or(&[], Vec::as_slice)
    }

    /// Returns the entries of a journal in order.
    pub(super) fn journal_entries(&self, run: RunId) -> &[StoredEntry] {
        self.journals.get(&run).map_or(&[], Vec::as_slice)
    }
}
