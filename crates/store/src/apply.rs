//! Applying a batch: first every precondition, then every row.
//!
//! [`BatchDraft::check_batch`] reads what a batch touches, plays its mutations and its claim in memory and either refuses it
//! or knows all its rows; [`BatchDraft::write_rows`] writes them. A refused batch therefore leaves no row, and a row that
//! several mutations change is written once. Both run inside one transaction of the writer, so nothing moves in
//! between.
//!
//! A batch that was applied before is recognised by its own rows and gets the receipt of the first time: creates
//! by their ids and contents, items by their keys, appends and claims by the digests of their entries, takeovers
//! by their holder; deliveries by their ids, their attempts by holder and receipt; approvals by their ids and answers.

mod agent;
mod answer;
mod append;
mod approval;
mod audit;
mod budget;
mod capability;
mod claim;
mod delivery;
mod file;
mod inbox;
mod journal;
mod retention;
mod revision;
mod session;
mod size;
mod state;
mod tenant;
mod tenant_erasure;
mod token;
mod vault;

use std::collections::HashMap;
use std::ops::Deref;

use rusqlite::{Connection, OptionalExtension as _};

use dromia_contracts::digest::Digest;
use dromia_contracts::id::TenantId;
use dromia_contracts::store::{CommitReceipt, CommitRefusal, InboxPut, Mutation, TurnClaim, WriteBatch};

use agent::AgentDrafts;
use answer::AnswerDrafts;
use approval::ApprovalDrafts;
use audit::ActList;
use budget::BudgetDrafts;
use capability::CapabilityDrafts;
use claim::ExistingRun;
use delivery::DeliveryDrafts;
use file::FileDrafts;
use inbox::{InboxDrafts, InboxOwners};
use journal::RunDrafts;
use retention::RetentionDrafts;
use session::SessionDrafts;
use state::StateDrafts;
use tenant::TenantDraft;
use token::TokenDrafts;
use vault::VaultDrafts;

use crate::lease::LeaseTable;

pub(crate) use size::{BatchSize, batch_bodies, new_body_key};

/// Why a check ends early.
#[derive(Debug)]
pub(crate) enum BatchCheckError {
    /// A precondition does not hold.
    Refused(CommitRefusal),
    /// SQLite failed.
    Failed(rusqlite::Error),
}

impl From<CommitRefusal> for BatchCheckError {
    fn from(refusal: CommitRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<rusqlite::Error> for BatchCheckError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}

type Checked<T = ()> = Result<T, BatchCheckError>;

/// The connection of a batch's transaction, and the tenant whose rows it may touch.
#[derive(Debug, Clone, Copy)]
struct TenantDb<'c> {
    connection: &'c Connection,
    tenant: TenantId,
    body_key: [u8; 32],
    leases: &'c LeaseTable,
}

impl TenantDb<'_> {
    /// Refuses to change what another living process holds.
    fn check_holder(self, holder: Option<Digest>, by: Digest) -> Checked {
        match holder.filter(|holder| *holder != by).and_then(|holder| self.leases.time_left(holder)) {
            Some(left) => Err(CommitRefusal::LeaseLasts { left }.into()),
            None => Ok(()),
        }
    }
}

impl Deref for TenantDb<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

/// What a batch makes of the tables that belong together.
trait TableDraft {
    /// Writes the rows.
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()>;

    /// Notes what of it belongs in the audit.
    fn note_acts(&self, _: &mut ActList<'_>) {}
}

/// A batch whose preconditions hold, with the rows it will write.
#[derive(Debug)]
pub(crate) struct BatchDraft<'b> {
    db: TenantDb<'b>,
    batch: &'b WriteBatch,
    receipt: CommitReceipt,
    own_tenant: TenantDraft<'b>,
    tokens: TokenDrafts<'b>,
    agents: AgentDrafts<'b>,
    sessions: SessionDrafts<'b>,
    inbox: InboxDrafts<'b>,
    states: StateDrafts<'b>,
    runs: RunDrafts<'b>,
    deliveries: DeliveryDrafts<'b>,
    vault: VaultDrafts<'b>,
    budgets: BudgetDrafts<'b>,
    capabilities: CapabilityDrafts<'b>,
    files: FileDrafts<'b>,
    approvals: ApprovalDrafts<'b>,
    answers: AnswerDrafts<'b>,
    retention: RetentionDrafts<'b>,
}

impl<'b> BatchDraft<'b> {
    /// Checks every precondition of a batch.
    pub(crate) fn check_batch(
        connection: &'b Connection,
        leases: &'b LeaseTable,
        keys: &mut BodyKeys,
        batch: &'b WriteBatch,
    ) -> Checked<Self> {
        BatchSize::from_batch(batch).check_bounds()?;
        budget::check_apart(batch)?;
        let (own_tenant, body_key) = tenant::enter_tenant(connection, keys, batch)?;
        let mut draft = Self {
            db: TenantDb { connection, tenant: batch.tenant, body_key, leases },
            batch,
            receipt: CommitReceipt { claimed: true, ..CommitReceipt::default() },
            own_tenant,
            tokens: TokenDrafts::default(),
            agents: AgentDrafts::default(),
            sessions: SessionDrafts::default(),
            inbox: InboxDrafts::default(),
            states: StateDrafts::default(),
            runs: RunDrafts::default(),
            deliveries: DeliveryDrafts::default(),
            vault: VaultDrafts::default(),
            budgets: BudgetDrafts::default(),
            capabilities: CapabilityDrafts::default(),
            files: FileDrafts::default(),
            approvals: ApprovalDrafts::default(),
            answers: AnswerDrafts::default(),
            retention: RetentionDrafts::default(),
        };
        draft.apply_batch()?;
        Ok(draft)
    }

    /// Plays the mutations, then the claim, then what leaves.
    fn apply_batch(&mut self) -> Checked {
        let batch = self.batch;
        let before = match &batch.claim {
            Some(claim) => self.claim_before(claim)?,
            None => ExistingRun::Absent,
        };
        for mutation in &batch.mutations {
            self.apply_mutation(mutation, before)?;
        }
        if let Some(claim) = &batch.claim {
            self.receipt.claimed = self.grant_claim(claim, before)?;
            self.states.name_pins(self.db, batch, claim, self.inbox.granted_claim())?;
            if self.inbox.granted_claim().is_some() {
                self.agents.pin_revision(self.db, claim)?;
                if let Some(notice) = &claim.notice {
                    self.put_item(notice, None)?;
                }
            }
        }
        for mutation in &batch.mutations {
            self.apply_delivery(mutation)?;
        }
        if let Some(run) = batch.owned_run() {
            let owned = self.runs.find_known_run(self.db, run)?;
            self.receipt.signals_last = owned.map_or(0, |run| run.signals_last);
        }
        Ok(())
    }

    fn put_item(&mut self, put: &'b InboxPut, granted: Option<&TurnClaim>) -> Checked<u64> {
        let mut owners =
            InboxOwners { agents: &mut self.agents, sessions: &mut self.sessions, runs: &mut self.runs };
        self.inbox.put_item(self.db, put, granted, &mut owners)
    }

    fn apply_mutation(&mut self, mutation: &'b Mutation, before: ExistingRun) -> Checked {
        let (db, batch) = (self.db, self.batch);
        match mutation {
            // The first two are played by `tenant::enter_tenant`, before anything of the tenant is looked up; the others are
            // played after the claim.
            Mutation::TenantCreate(_)
            | Mutation::TenantErase(_)
            | Mutation::DeliveryPrepare(_)
            | Mutation::DeliveryStart(_)
            | Mutation::DeliverySettle(_)
            | Mutation::DeliveryDrop(_)
            | Mutation::DeliveryRedrive(_)
            | Mutation::FeedNumber(_)
            | Mutation::CursorMove(_) => Ok(()),
            Mutation::TenantSuspensionSet(since) => self.own_tenant.set_suspension(db, *since),
            Mutation::TokenCreate(create) => self.tokens.create_token(db, create),
            Mutation::TokenRevoke(revoke) => self.tokens.revoke_token(db, revoke),
            Mutation::AgentCreate(create) => self.agents.create_agent(db, create, batch),
            Mutation::AgentRevise(revise) => {
                self.agents.revise_agent(db, revise, batch)?;
                let document = revise.document.as_ref();
                document.map_or(Ok(()), |pin| self.states.put_document(db, pin, revise.agent))
            }
            Mutation::AgentRename(rename) => self.agents.rename_agent(db, rename),
            Mutation::AgentStateSet(set) => {
                let ends = self.agents.set_state(db, set)?;
                if ends { self.approvals.give_up_approvals(db, set.agent) } else { Ok(()) }
            }
            Mutation::SessionOpen(open) => self.sessions.open_session(db, open, &mut self.agents),
            Mutation::ImportEnd(session) => self.sessions.end_import(db, *session),
            Mutation::SessionErase(erase) => self.retention.erase_session(db, erase, batch),
            Mutation::SessionHoldSet(set) => {
                self.retention.set_hold(db, set, &mut self.sessions, &mut self.agents)
            }
            Mutation::InboxPut(put) => {
                let claim = batch.claim.as_ref().filter(|_| before == ExistingRun::Same);
                let position = self.put_item(put, claim)?;
                self.receipt.positions.push(position);
                Ok(())
            }
            Mutation::PinPut(pin) => self.states.put_pin(db, pin),
            Mutation::RunAppend(append) => self.append_to_run(append),
            Mutation::RunTakeover(takeover) => self.runs.take_over(db, takeover),
            Mutation::StatePut(put) => self.states.put_entry(db, put, &mut self.sessions),
            Mutation::VaultKeyPut(put) => self.vault.put_key(db, put),
            Mutation::SecretPut(sealed) => self.vault.put_secret(db, sealed),
            Mutation::SecretErase(erase) => self.vault.erase_secret(db, erase),
            Mutation::BudgetSet(set) => self.budgets.set_budget(db, set),
            Mutation::BudgetRemove(remove) => self.budgets.remove_budget(db, remove),
            Mutation::CapabilityPut(put) => self.capabilities.put_capability(db, put),
            Mutation::CapabilityRevoke(revoke) => self.capabilities.revoke_capability(db, revoke),
            Mutation::CapabilityDrop(drop) => {
                self.capabilities.drop_capability(db, drop, batch.wanted.as_ref())
            }
            Mutation::FileLabelsPut(put) => self.files.put_labels(db, put),
            Mutation::ApprovalAsk(ask) => self.approvals.ask_approval(db, ask, batch, &mut self.runs),
            Mutation::ApprovalAnswer(answer) => self.approvals.answer_approval(db, answer),
            Mutation::ApprovalRulePut(rule) => {
                self.approvals.rules.put_rule(db, rule, &mut self.agents, &mut self.sessions)
            }
            Mutation::ApprovalRuleRemove(remove) => self.approvals.rules.remove_rule(db, remove),
            Mutation::AnswerPut(put) => self.answers.put_answer(db, put),
        }
    }

    /// Plays what concerns messages on their way out.
    fn apply_delivery(&mut self, mutation: &'b Mutation) -> Checked {
        let (db, batch, deliveries) = (self.db, self.batch, &mut self.deliveries);
        match mutation {
            Mutation::DeliveryPrepare(prepare) => {
                deliveries.prepare_delivery(db, batch, prepare, &mut self.runs)
            }
            Mutation::DeliveryStart(start) => deliveries.start_attempt(db, start),
            Mutation::DeliverySettle(settle) => deliveries.settle_attempt(db, settle),
            Mutation::DeliveryDrop(drop) => deliveries.drop_delivery(db, drop),
            Mutation::DeliveryRedrive(redrive) => deliveries.redrive_delivery(db, redrive),
            Mutation::FeedNumber(number) => deliveries.number_deliveries(db, number),
            Mutation::CursorMove(to) => deliveries.move_cursor(db, to),
            _ => Ok(()),
        }
    }

    /// Writes the rows. Returns how many the database counted.
    pub(crate) fn write_rows(&self) -> rusqlite::Result<u64> {
        let drafts: [&dyn TableDraft; 15] = [
            &self.answers,
            &self.own_tenant,
            &self.tokens,
            &self.agents,
            &self.sessions,
            &self.inbox,
            &self.states,
            &self.runs,
            &self.deliveries,
            &self.vault,
            &self.budgets,
            &self.capabilities,
            &self.files,
            &self.approvals,
            &self.retention,
        ];
        let before = self.db.total_changes();
        drafts.into_iter().try_for_each(|draft| draft.write_rows(self.db))?;
        Ok(self.db.total_changes() - before)
    }

    /// Returns the answer that the batch gets once its rows are durable.
    pub(crate) fn into_receipt(self) -> CommitReceipt {
        self.receipt
    }
}

/// The body keys of tenants, which never change. Emptied when it holds too many.
#[derive(Debug, Default)]
pub(crate) struct BodyKeys(HashMap<TenantId, [u8; 32]>);

impl BodyKeys {
    const MAX: usize = 4_096;

    pub(crate) fn get(&mut self, db: &Connection, tenant: TenantId) -> rusqlite::Result<Option<[u8; 32]>> {
        if let Some(key) = self.0.get(&tenant) {
            return Ok(Some(*key));
        }
        let key = db
            .prepare_cached("SELECT body_key FROM tenants WHERE tenant = ?1 AND erased_at IS NULL")?
            .query_row([tenant.as_bytes()], |row| row.get(0))
            .optional()?;
        if let Some(key) = key {
            if self.0.len() >= Self::MAX {
                self.0.clear();
            }
            self.0.insert(tenant, key);
        }
        Ok(key)
    }

    /// Forgets the key of a tenant that is being erased, so that none of its batches passes any more.
    pub(crate) fn forget_tenant(&mut self, tenant: TenantId) {
        self.0.remove(&tenant);
    }
}
