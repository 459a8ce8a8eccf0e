//! What each mutation does, and when it is refused.
//!
//! Every mutation first looks whether it stands already, by its own rows; only then are its preconditions
//! checked. That order is what makes the second submission of a batch equal to the first.

use dromia_contracts::agent::{Agent, AgentState};
use dromia_contracts::budget::Payer;
use dromia_contracts::capability::Capability;
use dromia_contracts::entry::{Entry, RunStarted};
use dromia_contracts::file::FILE_LABELS_MAX;
use dromia_contracts::run::{Run, RunHead};
use dromia_contracts::session::{InboxItem, InboxOwner, Session, SessionHead};
use dromia_contracts::store::{
    AgentCreate, AgentStateSet, Batch, CapabilityRevoke, Claim, FileLabelsPut, InboxPut, Mutation, NewEntry,
    Pin, Receipt, Refusal, RunAppend, RunTakeover, SecretErase, SessionOpen, StatePut, StoredEntry,
    TenantCreate, TokenCreate, TokenRevoke,
};
use dromia_contracts::token::Token;
use dromia_contracts::vault::SealedSecret;
use dromia_contracts::{Digest, RunId, TenantId};

use super::State;
use super::acts::Candidate;
use super::chain::chain;
use super::limits::measure;
use super::rows::{ItemRow, KeyRow, StateRow, TenantRows, TokenRow};

impl State {
    pub(super) fn apply(&mut self, batch: &Batch) -> Result<Receipt, Refusal> {
        let rows = measure(batch)?;
        let mut receipt = Receipt { positions: Vec::new(), claimed: true, waiting: false };
        let mut copy = self.tenants.get(&batch.tenant).cloned();
        let wanted = batch.wanted.as_ref();
        for mutation in &batch.mutations {
            let act = Candidate::of(copy.as_ref(), mutation, wanted);
            if let Mutation::TenantCreate(create) = mutation {
                self.tenant_create(batch.tenant, &mut copy, create)?;
            }
            let tenant = copy.as_mut().ok_or_else(|| Refusal::NotFound(batch.tenant.to_string()))?;
            if let Mutation::TokenCreate(create) = mutation {
                self.token_create(batch.tenant, tenant, create)?;
            }
            if let Some(position) = tenant.mutate(mutation, batch.payer.as_ref())? {
                receipt.positions.push(position);
            }
            if let Mutation::RunAppend(append) = mutation {
                receipt.waiting |= tenant.frees_a_waiting_session(append);
            }
            tenant.note(act);
        }
        let mut tenant = copy.ok_or_else(|| Refusal::NotFound(batch.tenant.to_string()))?;
        if let Some(claim) = &batch.claim {
            receipt.claimed = tenant.claim(claim, batch.payer.as_ref())?;
        }
        let redrives = batch.mutations.iter().filter(|one| matches!(one, Mutation::DeliveryRedrive(_)));
        let redrives: Vec<_> = redrives.map(|one| Candidate::of(Some(&tenant), one, wanted)).collect();
        tenant.deliver(batch)?;
        for act in redrives {
            tenant.note(act);
        }
        self.tenants.insert(batch.tenant, tenant);
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
    ) -> Result<(), Refusal> {
        if let Some(known) = copy {
            let same = (&known.handle, known.created_at, known.body_key)
                == (&create.handle, create.at, create.body_key);
            return if same { Ok(()) } else { Err(Refusal::Malformed(format!("{id} exists already"))) };
        }
        if self.tenants.values().any(|tenant| tenant.handle == create.handle) {
            return Err(Refusal::HandleTaken(create.handle.clone()));
        }
        *copy = Some(TenantRows::new(create.handle.clone(), create.at, create.body_key));
        Ok(())
    }

    fn token_create(
        &self,
        id: TenantId,
        tenant: &mut TenantRows,
        create: &TokenCreate,
    ) -> Result<(), Refusal> {
        let exists = || Err(Refusal::Malformed("the token exists already".to_owned()));
        let has = |rows: &TenantRows| rows.tokens.values().any(|row| row.hash == create.hash);
        if self.tenants.iter().any(|(other, rows)| *other != id && has(rows)) {
            return exists();
        }
        let token = Token {
            id: create.token,
            name: create.name.clone(),
            scopes: create.scopes,
            created_at: create.at,
            expires_at: create.expires_at,
            revoked_at: None,
        };
        match tenant.tokens.get(&create.token) {
            Some(known) => {
                // It may have been revoked since; everything else never changes.
                let same = known.hash == create.hash
                    && known.token == Token { revoked_at: known.token.revoked_at, ..token };
                if same { Ok(()) } else { exists() }
            }
            None if has(tenant) => exists(),
            None => {
                tenant.tokens.insert(create.token, TokenRow { hash: create.hash, token });
                Ok(())
            }
        }
    }
}

impl TenantRows {
    /// Applies one mutation; gives a position for an item.
    fn mutate(&mut self, mutation: &Mutation, payer: Option<&Payer>) -> Result<Option<u64>, Refusal> {
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
            Mutation::TokenRevoke(revoke) => self.token_revoke(revoke)?,
            Mutation::AgentCreate(create) => self.agent_create(create)?,
            Mutation::AgentStateSet(set) => self.agent_state_set(set)?,
            Mutation::SessionOpen(open) => self.session_open(open)?,
            Mutation::InboxPut(put) => return self.inbox_put(put).map(Some),
            Mutation::PinPut(Pin { digest, bytes }) => {
                self.pins.entry(*digest).or_insert_with(|| bytes.clone());
            }
            Mutation::RunAppend(append) => self.run_append(append, payer)?,
            Mutation::RunTakeover(takeover) => self.run_takeover(takeover)?,
            Mutation::StatePut(put) => self.state_put(put)?,
            Mutation::VaultKeyPut(put) => {
                self.vault_key.get_or_insert_with(|| put.key.clone());
            }
            Mutation::SecretPut(sealed) => self.secret_put(sealed)?,
            Mutation::SecretErase(erase) => self.secret_erase(erase)?,
            Mutation::BudgetSet(set) => self.budget_set(&set.budget)?,
            Mutation::BudgetRemove(remove) => self.budget_remove(&remove.name),
            Mutation::CapabilityPut(put) => self.capability_put(put)?,
            Mutation::CapabilityRevoke(revoke) => self.capability_revoke(revoke)?,
            Mutation::CapabilityDrop(drop) => {
                self.capabilities.remove(&drop.capability);
            }
            Mutation::FileLabelsPut(put) => self.file_labels_put(put)?,
            Mutation::ApprovalAsk(ask) => self.approval_ask(ask)?,
            Mutation::ApprovalAnswer(answer) => self.approval_answer(answer)?,
            Mutation::ApprovalRulePut(rule) => self.approval_rule_put(rule)?,
            Mutation::ApprovalRuleRemove(remove) => {
                self.approval_rules.remove(&remove.name);
            }
        }
        Ok(None)
    }

    fn secret_put(&mut self, sealed: &SealedSecret) -> Result<(), Refusal> {
        let known = self.secrets.get(&sealed.secret.name);
        if known == Some(sealed) {
            return Ok(());
        }
        let found = known.map_or(0, |known| known.secret.version);
        if sealed.secret.version.checked_sub(1) != Some(found) {
            return Err(Refusal::SecretVersion { found });
        }
        self.secrets.insert(sealed.secret.name.clone(), sealed.clone());
        Ok(())
    }

    fn secret_erase(&mut self, erase: &SecretErase) -> Result<(), Refusal> {
        match self.secrets.get(&erase.name).map(|known| known.secret.version) {
            Some(found) if found != erase.version => Err(Refusal::SecretVersion { found }),
            Some(_) | None => {
                self.secrets.remove(&erase.name);
                Ok(())
            }
        }
    }

    fn capability_put(&mut self, put: &Capability) -> Result<(), Refusal> {
        if let Some(known) = self.capabilities.get(&put.id) {
            // It may have been taken back since; everything else never changes.
            let same = *known == Capability { revoked_at: known.revoked_at, ..put.clone() };
            return if same { Ok(()) } else { Err(Refusal::Malformed(format!("{} exists already", put.id))) };
        }
        match self.agents.get(&put.holder).map(|agent| agent.state) {
            None | Some(AgentState::Deleting) => return Err(Refusal::NotFound(put.holder.to_string())),
            Some(AgentState::Running | AgentState::Paused | AgentState::Terminated) => {}
        }
        self.capabilities.insert(put.id, put.clone());
        Ok(())
    }

    fn file_labels_put(&mut self, put: &FileLabelsPut) -> Result<(), Refusal> {
        if !self.agents.contains_key(&put.agent) {
            return Err(Refusal::NotFound(put.agent.to_string()));
        }
        let known = self.files.entry(put.agent).or_default();
        let mut rest = put.said.rest;
        known.retain(|path, _| put.said.files.get(path) != Some(&None));
        for (path, holds) in &put.said.files {
            let Some(holds) = holds else { continue };
            if known.len() < FILE_LABELS_MAX || known.contains_key(path) {
                known.insert(path.clone(), holds.clone());
            } else {
                rest = Some(rest.map_or(holds.label, |rest| rest.join(holds.label)));
            }
        }
        if let Some(more) = rest {
            let rest = self.files_rest.entry(put.agent).or_insert(more);
            *rest = rest.join(more);
        }
        Ok(())
    }

    fn capability_revoke(&mut self, revoke: &CapabilityRevoke) -> Result<(), Refusal> {
        let row = self.capabilities.get_mut(&revoke.capability);
        let row = row.ok_or_else(|| Refusal::NotFound(revoke.capability.to_string()))?;
        row.revoked_at.get_or_insert(revoke.at);
        Ok(())
    }

    fn token_revoke(&mut self, revoke: &TokenRevoke) -> Result<(), Refusal> {
        let row = self.tokens.get_mut(&revoke.token);
        let row = row.ok_or_else(|| Refusal::NotFound(revoke.token.to_string()))?;
        row.token.revoked_at.get_or_insert(revoke.at);
        Ok(())
    }

    fn agent_create(&mut self, create: &AgentCreate) -> Result<(), Refusal> {
        let agent = Agent {
            id: create.agent,
            handle: create.handle.clone(),
            display_name: create.display_name.clone(),
            labels: create.labels.clone(),
            created_at: create.at,
            state: AgentState::Running,
            revision: create.revision,
        };
        if let Some(known) = self.agents.get(&create.agent) {
            // Its state may have changed since; everything else never does.
            let same = *known == Agent { state: known.state, ..agent };
            return if same {
                Ok(())
            } else {
                Err(Refusal::Malformed(format!("{} exists already", known.id)))
            };
        }
        if self.agents.values().any(|other| other.handle == create.handle) {
            return Err(Refusal::HandleTaken(create.handle.clone()));
        }
        self.revisions.insert((create.agent, create.revision), create.config.clone());
        self.agents.insert(create.agent, agent);
        Ok(())
    }

    fn agent_state_set(&mut self, set: &AgentStateSet) -> Result<(), Refusal> {
        let agent =
            self.agents.get_mut(&set.agent).ok_or_else(|| Refusal::NotFound(set.agent.to_string()))?;
        if agent.state != set.to && !set.from.contains(&agent.state) {
            return Err(Refusal::AgentState { found: agent.state });
        }
        let ends = agent.state != set.to && set.to == AgentState::Terminated;
        agent.state = set.to;
        if ends {
            for approval in self.approvals.values_mut().filter(|approval| approval.agent == set.agent) {
                approval.give_up();
            }
        }
        Ok(())
    }

    fn session_open(&mut self, open: &SessionOpen) -> Result<(), Refusal> {
        let SessionOpen { session, agent, key, at } = open;
        if let Some(known) = self.sessions.get(session) {
            let same = (known.agent, &known.key, known.opened_at) == (*agent, key, *at);
            return if same { Ok(()) } else { Err(Refusal::Malformed(format!("{session} exists already"))) };
        }
        match self.agents.get(agent).map(|agent| agent.state) {
            None | Some(AgentState::Deleting) => return Err(Refusal::NotFound(agent.to_string())),
            Some(AgentState::Running | AgentState::Paused | AgentState::Terminated) => {}
        }
        if let Some(found) = self.session_keys.get(&(*agent, key.clone())) {
            return Err(Refusal::SessionExists { session: *found });
        }
        self.session_keys.insert((*agent, key.clone()), *session);
        let head = SessionHead::default();
        let row = Session { id: *session, agent: *agent, key: key.clone(), opened_at: *at, head };
        self.sessions.insert(*session, row);
        Ok(())
    }

    fn inbox_put(&mut self, put: &InboxPut) -> Result<u64, Refusal> {
        if let Some(known) = self.items.get(&put.item) {
            let same = known.put == *put;
            let exists = || Refusal::Malformed(format!("{} exists already", put.item));
            return if same { Ok(known.position) } else { Err(exists()) };
        }
        let known = put.key.as_ref().and_then(|key| self.item_keys.get(&key.key));
        if let Some(known) = known.filter(|row| row.expires_at.is_none_or(|end| put.at < end)) {
            let KeyRow { item, owner, position, key, .. } = known.clone();
            return Err(Refusal::KeyTaken { item, owner, position, request: key.request });
        }
        let agent = self.owner_agent(put.owner).ok_or_else(|| owner_missing(put.owner))?;
        let state = self.agents.get(&agent).map_or(AgentState::Deleting, |agent| agent.state);
        if matches!(put.owner, InboxOwner::Session(_)) {
            match state {
                AgentState::Running | AgentState::Paused => {}
                AgentState::Terminated | AgentState::Deleting => {
                    return Err(Refusal::AgentState { found: state });
                }
            }
        }
        if let InboxOwner::Run(id) = put.owner
            && self.runs.get(&id).is_some_and(|run| run.head.status.is_terminal())
        {
            return Err(Refusal::RunTerminal);
        }
        let inbox = self.inboxes.entry(put.owner).or_default();
        let position = inbox.len() as u64 + 1;
        inbox.push(InboxItem {
            id: put.item,
            position,
            at: put.at,
            kind: put.kind,
            author: put.author.clone(),
            body: Some(put.body.clone()),
            taken_by: None,
        });
        match put.owner {
            InboxOwner::Session(id) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.head.last = position;
                }
            }
            InboxOwner::Run(id) => {
                if let Some(run) = self.runs.get_mut(&id) {
                    run.signals_last = position;
                }
            }
        }
        if let Some(key) = put.key.clone() {
            let expires_at = put.key_expires_at();
            let row = KeyRow { item: put.item, owner: put.owner, position, key, expires_at };
            self.item_keys.insert(row.key.key.clone(), row);
        }
        self.items.insert(put.item, ItemRow { position, put: put.clone() });
        Ok(position)
    }

    fn run_append(&mut self, append: &RunAppend, payer: Option<&Payer>) -> Result<(), Refusal> {
        let RunAppend { run: id, epoch, after, entries, head } = append;
        let run = self.runs.get(id).ok_or_else(|| Refusal::NotFound(id.to_string()))?;
        if self.stands(*id, *epoch, *after, entries) {
            return Ok(());
        }
        if run.head.status.is_terminal() {
            return Err(Refusal::RunTerminal);
        }
        if run.epoch != *epoch {
            return Err(Refusal::EpochStale { found: run.epoch });
        }
        if run.last_seq != *after {
            return Err(Refusal::SequenceMoved { found: run.last_seq });
        }
        let place = (run.agent, run.session, *id);
        self.charge(payer, place, entries)?;
        if payer.is_some() {
            self.touch(*id, entries)?;
        }
        self.append(*id, *epoch, entries);
        self.head_set(*id, *epoch, entries, *head);
        Ok(())
    }

    /// Tells whether a terminal head left its session free with items waiting.
    fn frees_a_waiting_session(&self, append: &RunAppend) -> bool {
        let session = self.runs.get(&append.run).and_then(|run| self.sessions.get(&run.session));
        append.head.status.is_terminal()
            && session.is_some_and(|session| {
                session.head.active.is_none() && session.head.last > session.head.taken
            })
    }

    /// Tells whether exactly these entries stand behind `after`.
    fn stands(&self, run: RunId, epoch: u64, after: u64, entries: &[NewEntry]) -> bool {
        let found = self.journal(run).iter().filter(|entry| entry.seq > after).take(entries.len());
        let same = |(known, new): (&StoredEntry, &NewEntry)| {
            let (kind, version) = new.entry.kind();
            (known.epoch, known.at, known.kind.as_str(), known.version) == (epoch, new.at, kind, version)
                && known.fields == new.entry.encode()
                && known.body == new.body
        };
        found.clone().count() == entries.len() && found.zip(entries).all(same)
    }

    fn append(&mut self, run: RunId, epoch: u64, entries: &[NewEntry]) {
        let journal = self.journals.entry(run).or_default();
        for new in entries {
            let (kind, version) = new.entry.kind();
            let before = journal.last().map_or_else(Digest::default, |last| last.chain);
            let mut entry = StoredEntry {
                seq: journal.len() as u64 + 1,
                at: new.at,
                epoch,
                kind: kind.to_owned(),
                version,
                fields: new.entry.encode(),
                body: new.body.clone(),
                chain: Digest::default(),
            };
            entry.chain = chain(before, &entry, &self.body_key);
            journal.push(entry);
            if let (Entry::SignalTaken(taken), Some(signals)) =
                (&new.entry, self.inboxes.get_mut(&InboxOwner::Run(run)))
            {
                signals
                    .iter_mut()
                    .filter(|item| item.id == taken.item)
                    .for_each(|item| item.taken_by = Some(run));
            }
        }
    }

    fn head_set(&mut self, id: RunId, epoch: u64, entries: &[NewEntry], head: RunHead) {
        let last_seq = self.journal(id).len() as u64;
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.last_seq = last_seq;
        run.entry_epoch = epoch;
        run.head = head;
        if let Some(last) = entries.last() {
            run.updated_at = last.at;
        }
        let session = self.sessions.get_mut(&run.session);
        if let Some(session) = session.filter(|_| head.status.is_terminal())
            && session.head.active == Some(id)
        {
            session.head.active = None;
        }
    }

    fn run_takeover(&mut self, takeover: &RunTakeover) -> Result<(), Refusal> {
        let RunTakeover { run: id, from_epoch, holder, at: _ } = takeover;
        let run = self.runs.get_mut(id).ok_or_else(|| Refusal::NotFound(id.to_string()))?;
        if self.takeovers.get(&(*id, from_epoch + 1)) == Some(holder) {
            return Ok(());
        }
        if run.head.status.is_terminal() {
            return Err(Refusal::RunTerminal);
        }
        if run.epoch != *from_epoch {
            return Err(Refusal::EpochStale { found: run.epoch });
        }
        run.epoch += 1;
        self.takeovers.insert((*id, run.epoch), *holder);
        Ok(())
    }

    fn state_put(&mut self, put: &StatePut) -> Result<(), Refusal> {
        let session = self.sessions.get(&put.session);
        session.ok_or_else(|| Refusal::NotFound(put.session.to_string()))?;
        let place = (put.session, put.name.clone());
        let known = self.states.get(&place);
        let found = known.map_or(0, |row| row.version);
        let next = put.expected.unwrap_or(found) + 1;
        let stands = known.is_some_and(|row| {
            row.value == put.value && row.at == put.at && put.expected.is_none_or(|_| row.version == next)
        });
        if stands {
            return Ok(());
        }
        if put.expected.is_some_and(|expected| expected != found) {
            return Err(Refusal::StateVersion { found });
        }
        if known.is_none() {
            let entries = self.states.keys().filter(|(session, _)| *session == put.session).count();
            if entries >= StatePut::ENTRIES_MAX {
                return Err(Refusal::Malformed(format!(
                    "a session has at most {} state entries",
                    StatePut::ENTRIES_MAX
                )));
            }
        }
        self.states.insert(place, StateRow { version: next, value: put.value.clone(), at: put.at });
        Ok(())
    }

    /// Tries a claim; tells whether it was granted.
    fn claim(&mut self, claim: &Claim, payer: Option<&Payer>) -> Result<bool, Refusal> {
        let Claim { session: id, agent, run, after, take, entries, head } = claim;
        let missing = || Refusal::NotFound(id.to_string());
        let session = self.sessions.get(id).filter(|session| session.agent == *agent).ok_or_else(missing)?;
        if let Some(known) = self.runs.get(run) {
            let stands = known.session == *id && self.stands(*run, 1, 0, entries);
            return if stands { Ok(true) } else { Err(Refusal::Malformed(format!("{run} exists already"))) };
        }
        let may_begin = match self.agents.get(agent).map(|agent| agent.state) {
            Some(AgentState::Running) => true,
            // A run that has ended begins nothing.
            Some(AgentState::Paused) => head.status.is_terminal(),
            Some(AgentState::Terminated | AgentState::Deleting) | None => false,
        };
        let taken = session.head.taken;
        let waiting = self.inbox(InboxOwner::Session(*id)).iter().filter(|item| item.position > taken);
        let in_order = waiting.map(|item| item.id).take(take.len()).eq(take.iter().copied());
        if session.head.active.is_some() || session.head.taken != *after || !may_begin || !in_order {
            return Ok(false);
        }
        let Some(NewEntry { entry: Entry::RunStarted(RunStarted { kind, .. }), at, .. }) = entries.first()
        else {
            return Err(Refusal::Malformed("a claim begins with RunStarted".to_owned()));
        };
        let row = Run {
            id: *run,
            kind: *kind,
            agent: *agent,
            session: *id,
            started_at: *at,
            updated_at: *at,
            last_seq: 0,
            epoch: 1,
            entry_epoch: 1,
            head: *head,
            signals_last: 0,
        };
        self.charge(payer, (*agent, *id, *run), entries)?;
        self.runs.insert(*run, row);
        self.append(*run, 1, entries);
        let taken = after + take.len() as u64;
        let inbox = self.inboxes.entry(InboxOwner::Session(*id)).or_default();
        for item in inbox.iter_mut().filter(|item| item.position > *after && item.position <= taken) {
            item.taken_by = Some(*run);
        }
        if let Some(session) = self.sessions.get_mut(id) {
            session.head.taken = taken;
            session.head.active = Some(*run);
        }
        self.head_set(*run, 1, entries, *head);
        Ok(true)
    }
}

fn owner_missing(owner: InboxOwner) -> Refusal {
    Refusal::NotFound(match owner {
        InboxOwner::Session(id) => id.to_string(),
        InboxOwner::Run(id) => id.to_string(),
    })
}
