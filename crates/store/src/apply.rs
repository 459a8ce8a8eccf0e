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
mod approval;
mod audit;
mod budget;
mod capability;
mod claim;
mod delivery;
mod feed;
mod file;
mod inbox;
mod journal;
mod session;
mod size;
mod state;
mod tenant;
mod token;
mod vault;

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _};

use dromia_contracts::digest::Digest;
use dromia_contracts::id::{AgentId, TenantId};
use dromia_contracts::store::{
    BatchRequester, CommitReceipt, CommitRefusal, DeliveryRedrive, Mutation, TextPin, TokenRevoke, TurnClaim,
    VaultKeyPut, WriteBatch,
};

use agent::AgentDraft;
use approval::{ApprovalDraft, RulesDraft};
use budget::{BudgetDraft, ChargeDraft};
use capability::CapabilityDraft;
use claim::ExistingRun;
use delivery::{AttemptDraft, DeliveryDraft};
use feed::{CursorDraft, FeedDraft};
use file::FilesDraft;
use inbox::ItemDraft;
use journal::{ClaimDraft, EntryDraft, RunDraft, SignalDraft};
use session::SessionDraft;
use state::StateDraft;
use tenant::TenantDraft;
use token::TokenDraft;
use vault::SecretDraft;

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

/// A batch whose preconditions hold, with the rows it will write.
#[derive(Debug)]
pub(crate) struct BatchDraft<'b> {
    tenant: TenantId,
    body_key: [u8; 32],
    wanted: Option<&'b BatchRequester>,
    receipt: CommitReceipt,
    new_tenant: Option<TenantDraft<'b>>,
    tokens: Vec<TokenDraft<'b>>,
    /// Of tokens of earlier batches that are not revoked yet.
    revokes: Vec<&'b TokenRevoke>,
    agents: Vec<AgentDraft<'b>>,
    sessions: Vec<SessionDraft<'b>>,
    items: Vec<ItemDraft<'b>>,
    /// The claim, once it is granted, and the positions of the items of earlier batches that it takes.
    taker: Option<&'b TurnClaim>,
    taken: Vec<u64>,
    pins: Vec<&'b TextPin>,
    /// Pins that an agent names for the first time.
    pin_refs: Vec<(Digest, AgentId)>,
    states: Vec<StateDraft<'b>>,
    runs: Vec<RunDraft>,
    claims: Vec<ClaimDraft>,
    signals: Vec<SignalDraft>,
    entries: Vec<EntryDraft<'b>>,
    deliveries: Vec<DeliveryDraft<'b>>,
    attempts: Vec<AttemptDraft>,
    /// Those that change something.
    redrives: Vec<&'b DeliveryRedrive>,
    feed: Option<FeedDraft>,
    cursors: Vec<CursorDraft<'b>>,
    /// The tenant's key of secrets, where it had none.
    vault_key: Option<&'b VaultKeyPut>,
    secrets: Vec<SecretDraft<'b>>,
    /// The tenant's budgets, once they were looked at.
    budgets: Option<BudgetDraft<'b>>,
    charges: Vec<ChargeDraft>,
    capabilities: Vec<CapabilityDraft<'b>>,
    files: Vec<FilesDraft<'b>>,
    approvals: Vec<ApprovalDraft>,
    /// The tenant's rules of approvals, once they were looked at.
    approval_rules: Option<RulesDraft<'b>>,
}

impl<'b> BatchDraft<'b> {
    /// Checks every precondition of a batch.
    pub(crate) fn check_batch(db: &Connection, keys: &mut BodyKeys, batch: &'b WriteBatch) -> Checked<Self> {
        BatchSize::from_batch(batch).check_bounds()?;
        budget::check_apart(batch)?;
        let (new_tenant, body_key) = tenant::enter_tenant(db, keys, batch)?;
        let mut draft = Self {
            tenant: batch.tenant,
            body_key,
            wanted: batch.wanted.as_ref(),
            receipt: CommitReceipt { positions: Vec::new(), claimed: true, waiting: false },
            new_tenant,
            tokens: Vec::new(),
            revokes: Vec::new(),
            agents: Vec::new(),
            sessions: Vec::new(),
            items: Vec::new(),
            taker: None,
            taken: Vec::new(),
            pins: Vec::new(),
            pin_refs: Vec::new(),
            states: Vec::new(),
            runs: Vec::new(),
            claims: Vec::new(),
            signals: Vec::new(),
            entries: Vec::new(),
            deliveries: Vec::new(),
            attempts: Vec::new(),
            redrives: Vec::new(),
            feed: None,
            cursors: Vec::new(),
            vault_key: None,
            secrets: Vec::new(),
            budgets: None,
            charges: Vec::new(),
            capabilities: Vec::new(),
            files: Vec::new(),
            approvals: Vec::new(),
            approval_rules: None,
        };
        let before = match &batch.claim {
            Some(claim) => draft.claim_before(db, claim)?,
            None => ExistingRun::Absent,
        };
        let standing = batch.claim.as_ref().filter(|_| before == ExistingRun::Same);
        for mutation in &batch.mutations {
            match mutation {
                // The first is played by `tenant::enter`, before anything of the tenant is looked up; the others are
                // played after the claim.
                Mutation::TenantCreate(_)
                | Mutation::DeliveryPrepare(_)
                | Mutation::DeliveryStart(_)
                | Mutation::DeliverySettle(_)
                | Mutation::DeliveryDrop(_)
                | Mutation::DeliveryRedrive(_)
                | Mutation::FeedNumber(_)
                | Mutation::CursorMove(_) => {}
                Mutation::TokenCreate(create) => draft.token_create(db, create)?,
                Mutation::TokenRevoke(revoke) => draft.token_revoke(db, revoke)?,
                Mutation::AgentCreate(create) => draft.agent_create(db, create)?,
                Mutation::AgentStateSet(set) => draft.agent_state_set(db, set)?,
                Mutation::SessionOpen(open) => draft.session_open(db, open)?,
                Mutation::ImportEnd(session) => draft.import_end(db, *session)?,
                Mutation::InboxPut(put) => draft.inbox_put(db, put, standing)?,
                Mutation::PinPut(pin) => draft.pin_put(db, pin)?,
                Mutation::RunAppend(append) => draft.run_append(db, append, batch.payer.as_ref())?,
                Mutation::RunTakeover(takeover) => draft.run_takeover(db, takeover)?,
                Mutation::StatePut(put) => draft.state_put(db, put)?,
                Mutation::VaultKeyPut(put) => draft.vault_key_put(db, put)?,
                Mutation::SecretPut(sealed) => draft.secret_put(db, sealed)?,
                Mutation::SecretErase(erase) => draft.secret_erase(db, erase)?,
                Mutation::BudgetSet(set) => draft.budget_set(db, set)?,
                Mutation::BudgetRemove(remove) => draft.budget_remove(db, remove)?,
                Mutation::CapabilityPut(put) => draft.capability_put(db, put)?,
                Mutation::CapabilityRevoke(revoke) => draft.capability_revoke(db, revoke)?,
                Mutation::CapabilityDrop(drop) => draft.capability_drop(db, drop)?,
                Mutation::FileLabelsPut(put) => draft.file_labels_put(db, put)?,
                Mutation::ApprovalAsk(ask) => draft.approval_ask(db, ask, batch)?,
                Mutation::ApprovalAnswer(answer) => draft.approval_answer(db, answer)?,
                Mutation::ApprovalRulePut(rule) => draft.approval_rule_put(db, rule)?,
                Mutation::ApprovalRuleRemove(remove) => draft.approval_rule_remove(db, remove)?,
            }
        }
        if let Some(claim) = &batch.claim {
            draft.receipt.claimed = draft.grant_claim(db, claim, before, batch.payer.as_ref())?;
            draft.name_pins(db, batch, claim)?;
        }
        draft.apply_deliveries(db, batch)?;
        Ok(draft)
    }

    /// Plays what concerns messages on their way out.
    fn apply_deliveries(&mut self, db: &Connection, batch: &'b WriteBatch) -> Checked {
        for mutation in &batch.mutations {
            match mutation {
                Mutation::DeliveryPrepare(prepare) => self.delivery_prepare(db, batch, prepare)?,
                Mutation::DeliveryStart(start) => self.delivery_start(db, start)?,
                Mutation::DeliverySettle(settle) => self.delivery_settle(db, settle)?,
                Mutation::DeliveryDrop(drop) => self.delivery_drop(db, drop)?,
                Mutation::DeliveryRedrive(redrive) => self.delivery_redrive(db, redrive)?,
                Mutation::FeedNumber(number) => self.feed_number(db, number)?,
                Mutation::CursorMove(to) => self.cursor_move(db, to)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the rows. Returns how many.
    pub(crate) fn write_rows(&self, db: &Connection) -> rusqlite::Result<u64> {
        let mut rows = 0;
        rows += self.write_tenant(db)?;
        rows += self.write_tokens(db)?;
        rows += self.write_agents(db)?;
        rows += self.write_sessions(db)?;
        rows += self.write_items(db)?;
        rows += self.write_taken(db)?;
        rows += self.write_pins(db)?;
        rows += self.write_states(db)?;
        rows += self.write_runs(db)?;
        rows += self.write_claims(db)?;
        rows += self.write_entries(db)?;
        rows += self.write_signals(db)?;
        rows += self.write_deliveries(db)?;
        rows += self.write_feed(db)?;
        rows += self.write_vault(db)?;
        rows += self.write_budgets(db)?;
        rows += self.write_capabilities(db)?;
        rows += self.write_files(db)?;
        rows += self.write_approvals(db)?;
        Ok(rows)
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
            .prepare_cached("SELECT body_key FROM tenants WHERE tenant = ?1")?
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
}
