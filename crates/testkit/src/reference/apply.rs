//! How a batch is applied: its mutations in their order, its claim, and then what leaves.
//!
//! Every mutation first checks by its own rows whether it is already applied; only then are its preconditions checked.
//! That order is what makes the second submission of a batch equal to the first. What concerns every tenant, a handle
//! or a token that is taken, is looked at here; a tenant's own rows know nothing of others.

use dromia_contracts::TenantId;
use dromia_contracts::agent::AgentState;
use dromia_contracts::entry::Entry;
use dromia_contracts::store::{
    AnswerPut, CommitReceipt, CommitRefusal, Mutation, TenantCreate, TextPin, TokenCreate, TurnClaim,
    WriteBatch,
};
use dromia_contracts::token::TokenRecord;
use jiff::Timestamp;

use super::ReferenceState;
use super::audit_acts::CandidateAct;
use super::lease::LeaseRows;
use super::limits::measure_batch;
use super::rows::TenantRows;
use super::token::TokenRow;

impl ReferenceState {
    pub(super) fn apply_batch(&mut self, batch: &WriteBatch) -> Result<CommitReceipt, CommitRefusal> {
        let rows = measure_batch(batch)?;
        let mut receipt = CommitReceipt { claimed: true, ..CommitReceipt::default() };
        let mut copy = self.tenants.get(&batch.tenant).cloned();
        let erases = matches!(batch.mutations[..], [Mutation::TenantErase(_)]);
        let is_marked = copy.as_ref().is_some_and(|tenant| tenant.erased_at.is_some());
        if is_marked && !erases {
            return Err(CommitRefusal::NotFound(batch.tenant.to_string()));
        }
        let wanted = batch.wanted.as_ref();
        for mutation in &batch.mutations {
            let act = CandidateAct::from_mutation(copy.as_ref(), mutation, wanted);
            if let Mutation::TenantCreate(create) = mutation {
                self.tenant_create(batch.tenant, &mut copy, create)?;
            }
            let tenant = copy.as_mut().ok_or_else(|| CommitRefusal::NotFound(batch.tenant.to_string()))?;
            if let Mutation::TokenCreate(create) = mutation {
                self.token_create(batch.tenant, tenant, create)?;
            }
            if let Some(position) = tenant.apply_mutation(mutation, batch, &self.leases)? {
                receipt.positions.push(position);
            }
            if let Mutation::RunAppend(append) = mutation {
                receipt.waiting |= tenant.frees_a_waiting_session(append);
            }
            tenant.note_act(act);
        }
        let mut tenant = copy.ok_or_else(|| CommitRefusal::NotFound(batch.tenant.to_string()))?;
        if let Some(claim) = &batch.claim {
            receipt.claimed = tenant.try_claim(claim, batch.payer.as_ref())?;
            tenant.name_pins(batch, claim, receipt.claimed);
            if receipt.claimed {
                tenant.agents.pin_revision(claim);
            }
        }
        let owned = batch.owned_run().and_then(|run| tenant.runs.rows.get(&run));
        receipt.signals_last = owned.map_or(0, |run| run.signals_last);
        let redrives = batch.mutations.iter().filter(|one| matches!(one, Mutation::DeliveryRedrive(_)));
        let redrives: Vec<_> =
            redrives.map(|one| CandidateAct::from_mutation(Some(&tenant), one, wanted)).collect();
        tenant.outbox.apply_deliveries(batch, &tenant.runs, &self.leases)?;
        for act in redrives {
            tenant.note_act(act);
        }
        if is_marked && tenant.agents.rows.is_empty() {
            self.tenants.remove(&batch.tenant);
        } else {
            self.tenants.insert(batch.tenant, tenant);
        }
        self.stats.commits += 1;
        self.stats.batches += 1;
        self.stats.rows += rows as u64;
        Ok(receipt)
    }

    fn tenant_create(
        &self,
        id: TenantId,
        copy: &mut Option<TenantRows>,
        create: &TenantCreate,
    ) -> Result<(), CommitRefusal> {
        if let Some(known) = copy {
            return if known.create == *create {
                Ok(())
            } else {
                Err(CommitRefusal::Malformed(format!("{id} exists already")))
            };
        }
        if self.tenants.values().any(|tenant| tenant.create.handle == create.handle) {
            return Err(CommitRefusal::HandleTaken(create.handle.clone()));
        }
        *copy = Some(TenantRows::new(create.clone()));
        Ok(())
    }

    fn token_create(
        &self,
        id: TenantId,
        tenant: &mut TenantRows,
        create: &TokenCreate,
    ) -> Result<(), CommitRefusal> {
        let exists = || Err(CommitRefusal::Malformed("the token exists already".to_owned()));
        let has = |rows: &TenantRows| rows.tokens.rows.values().any(|row| row.hash == create.hash);
        if self.tenants.iter().any(|(other, rows)| *other != id && has(rows)) {
            return exists();
        }
        let token = TokenRecord {
            id: create.token,
            name: create.name.clone(),
            scopes: create.scopes,
            created_at: create.at,
            expires_at: create.expires_at,
            revoked_at: None,
        };
        match tenant.tokens.rows.get(&create.token) {
            Some(known) => {
                // It may have been revoked since; everything else never changes.
                let same = known.hash == create.hash
                    && known.token == TokenRecord { revoked_at: known.token.revoked_at, ..token };
                if same { Ok(()) } else { exists() }
            }
            None if has(tenant) => exists(),
            None => {
                tenant.tokens.rows.insert(create.token, TokenRow { hash: create.hash, token });
                Ok(())
            }
        }
    }
}

impl TenantRows {
    /// Notes what the agent of a claim names: the prompt of a run that began, and what the batch keeps.
    fn name_pins(&mut self, batch: &WriteBatch, claim: &TurnClaim, claimed: bool) {
        if let (true, Some(Entry::RunStarted(started))) =
            (claimed, claim.entries.first().map(|new| &new.entry))
        {
            self.pins.refs.insert((started.prompt, claim.agent));
        }
        for mutation in &batch.mutations {
            if let Mutation::PinPut(pin) = mutation {
                self.pins.refs.insert((pin.digest, claim.agent));
            }
        }
    }

    fn put_pin(&mut self, pin: &TextPin) {
        self.pins.rows.entry(pin.digest).or_insert_with(|| pin.bytes.clone());
    }

    /// Applies one mutation; gives a position for an item.
    fn apply_mutation(
        &mut self,
        mutation: &Mutation,
        batch: &WriteBatch,
        leases: &LeaseRows,
    ) -> Result<Option<u64>, CommitRefusal> {
        match mutation {
            Mutation::TenantCreate(_)
            | Mutation::TokenCreate(_)
            // Played after the claim, in `deliver`.
            | Mutation::DeliveryPrepare(_)
            | Mutation::DeliveryStart(_)
            | Mutation::DeliverySettle(_)
            | Mutation::DeliveryDrop(_)
            | Mutation::DeliveryRedrive(_)
            | Mutation::FeedNumber(_)
            | Mutation::CursorMove(_) => {}
            // One that is suspended already stays so since when it was.
            Mutation::TenantSuspensionSet(since) => self.suspended_at = since.map(|at| self.suspended_at.unwrap_or(at)),
            Mutation::TenantErase(at) => {
                if self.suspended_at.is_none() {
                    return Err(CommitRefusal::TenantActive);
                }
                if self.erased_at.is_none() {
                    self.check_holds(None)?;
                }
                self.erased_at.get_or_insert(*at);
                self.agents.rows.values_mut().for_each(|agent| agent.state = AgentState::Deleting);
            }
            Mutation::TokenRevoke(revoke) => self.tokens.revoke_token(revoke)?,
            Mutation::AgentCreate(create) => self.agents.create_agent(create, batch.wanted.as_ref())?,
            Mutation::AgentRevise(revise) => {
                self.agents.revise_agent(revise, batch.wanted.as_ref())?;
                if let Some(pin) = &revise.document {
                    self.put_pin(pin);
                    self.pins.refs.insert((pin.digest, revise.agent));
                }
            }
            Mutation::AgentRename(rename) => self.agents.rename_agent(rename)?,
            Mutation::AgentStateSet(set) => {
                self.check_deletion(set)?;
                if self.agents.set_state(set)? {
                    self.approvals.give_up_approvals(set.agent);
                }
            }
            Mutation::SessionOpen(open) => self.open_session(open)?,
            Mutation::ImportEnd(session) => self.sessions.end_import(*session)?,
            Mutation::SessionErase(erase) => self.erase_session(erase, batch.wanted.as_ref())?,
            Mutation::SessionHoldSet(set) => self.set_hold(set)?,
            Mutation::InboxPut(put) => return self.inbox_put(put).map(Some),
            Mutation::PinPut(pin) => self.put_pin(pin),
            Mutation::RunAppend(append) => self.run_append(append, batch.payer.as_ref())?,
            Mutation::RunTakeover(takeover) => self.runs.take_over(takeover, leases)?,
            Mutation::StatePut(put) => self.sessions.put_state(put)?,
            Mutation::VaultKeyPut(put) => self.vault.put_key(put)?,
            Mutation::SecretPut(sealed) => self.vault.put_secret(sealed)?,
            Mutation::SecretErase(erase) => self.vault.erase_secret(erase)?,
            Mutation::BudgetSet(set) => self.budgets.set_budget(&set.budget)?,
            Mutation::BudgetRemove(remove) => self.budgets.remove_budget(&remove.name),
            Mutation::CapabilityPut(put) => self.capabilities.put_capability(put, &self.agents)?,
            Mutation::CapabilityRevoke(revoke) => self.capabilities.revoke_capability(revoke)?,
            Mutation::CapabilityDrop(drop) => {
                self.capabilities.rows.remove(&drop.capability);
            }
            Mutation::FileLabelsPut(put) => self.files.put_labels(put, &self.agents)?,
            Mutation::ApprovalAsk(ask) => self.approvals.ask_approval(ask, batch, &self.runs)?,
            Mutation::ApprovalAnswer(answer) => self.approvals.answer_approval(answer)?,
            Mutation::ApprovalRulePut(rule) => self.approvals.put_rule(rule, &self.agents, &self.sessions)?,
            Mutation::ApprovalRuleRemove(remove) => {
                self.approvals.rules.remove(&remove.name);
            }
            Mutation::AnswerPut(put) => {
                if put.replaces(self.answers.get(&put.key))? {
                    self.answers.insert(put.key, put.clone());
                    let mut times: Vec<_> = self.answers.values().map(|kept| kept.at).collect();
                    times.sort_unstable_by(|a, b| b.cmp(a));
                    let cut = times.get(AnswerPut::KEPT_MAX).copied().unwrap_or(Timestamp::MIN);
                    let is_kept = |at: Timestamp| at > cut && put.at.duration_since(at) < AnswerPut::KEPT;
                    self.answers.retain(|_, kept| is_kept(kept.at));
                }
            }
        }
        Ok(None)
    }
}
