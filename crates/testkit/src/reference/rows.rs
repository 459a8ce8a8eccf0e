//! The rows of one tenant, those of each family of tables in a type of their own.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dromia_contracts::agent::TenantRecord;
use dromia_contracts::audit::AuditAct;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{AnswerPut, TenantCreate};
use dromia_contracts::{AgentId, Digest, TenantId};
use jiff::Timestamp;

use super::agent::AgentRows;
use super::approval::ApprovalRows;
use super::budget::BudgetRows;
use super::capability::CapabilityRows;
use super::deliver::OutboxRows;
use super::file::FileRows;
use super::inbox::InboxRows;
use super::run::RunRows;
use super::session::SessionRows;
use super::token::TokenRows;
use super::vault::VaultRows;

#[derive(Debug, Clone)]
pub(super) struct TenantRows {
    pub(super) create: TenantCreate,
    /// Since when it is suspended, if it is.
    pub(super) suspended_at: Option<Timestamp>,
    /// Since when it is being erased, if it is.
    pub(super) erased_at: Option<Timestamp>,
    /// What people changed, and when.
    pub(super) acts: Vec<(Timestamp, AuditAct)>,
    pub(super) tokens: TokenRows,
    pub(super) agents: AgentRows,
    pub(super) sessions: SessionRows,
    pub(super) inbox: InboxRows,
    pub(super) runs: RunRows,
    pub(super) pins: PinRows,
    pub(super) outbox: OutboxRows,
    pub(super) vault: VaultRows,
    pub(super) budgets: BudgetRows,
    pub(super) capabilities: CapabilityRows,
    pub(super) files: FileRows,
    pub(super) approvals: ApprovalRows,
    pub(super) answers: BTreeMap<Digest, AnswerPut>,
}

/// Texts that journals name by digest.
#[derive(Debug, Clone, Default)]
pub(super) struct PinRows {
    pub(super) rows: BTreeMap<Digest, Bytes>,
    /// Which agents' runs name a pin.
    pub(super) refs: BTreeSet<(Digest, AgentId)>,
}

impl TenantRows {
    /// Makes the rows of a tenant that has nothing yet.
    pub(super) fn new(create: TenantCreate) -> Self {
        Self {
            create,
            suspended_at: None,
            erased_at: None,
            acts: Vec::new(),
            tokens: TokenRows::default(),
            agents: AgentRows::default(),
            sessions: SessionRows::default(),
            inbox: InboxRows::default(),
            runs: RunRows::default(),
            pins: PinRows::default(),
            outbox: OutboxRows::default(),
            vault: VaultRows::default(),
            budgets: BudgetRows::default(),
            capabilities: CapabilityRows::default(),
            files: FileRows::default(),
            approvals: ApprovalRows::default(),
            answers: BTreeMap::new(),
        }
    }

    /// Returns the tenant's row.
    pub(super) fn tenant_record(&self, id: TenantId) -> TenantRecord {
        let TenantCreate { handle, at, .. } = self.create.clone();
        TenantRecord { id, handle, created_at: at, suspended_at: self.suspended_at }
    }

    /// Returns the tenant's row, unless it is being erased.
    pub(super) fn seen_tenant(&self, id: TenantId) -> Option<TenantRecord> {
        self.erased_at.is_none().then(|| self.tenant_record(id))
    }

    /// Finds the agent of an inbox; `None` if the tenant has no such session or run.
    pub(super) fn owner_agent(&self, owner: InboxOwner) -> Option<AgentId> {
        match owner {
            InboxOwner::Session(id) => self.sessions.rows.get(&id).map(|session| session.agent),
            InboxOwner::Run(id) => self.runs.rows.get(&id).map(|run| run.agent),
        }
    }

    /// Tells whether an import fills the session that the inbox belongs to, itself or by its run.
    pub(super) fn is_importing(&self, owner: InboxOwner) -> bool {
        match owner {
            InboxOwner::Session(id) => self.sessions.hidden.contains(&id),
            InboxOwner::Run(id) => {
                self.runs.rows.get(&id).is_some_and(|run| self.sessions.hidden.contains(&run.session))
            }
        }
    }
}
