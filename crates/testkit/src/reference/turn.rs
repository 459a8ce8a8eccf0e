//! What mutations about turns do to a tenant's rows: sessions and inboxes, journals and their owners, claims.
//!
//! What an entry costs and which approvals it moves is asked beside it; nothing here decides that.

use dromia_contracts::agent::AgentState;
use dromia_contracts::budget::BudgetPayer;
use dromia_contracts::entry::{Entry, InputsTaken, RunStarted};
use dromia_contracts::run::{RunHead, RunRecord, RunStatus};
use dromia_contracts::session::{InboxItem, InboxOwner};
use dromia_contracts::store::{
    CommitRefusal, InboxPut, NewEntry, RunAppend, RunCheckpoint, StoredEntry, TurnClaim,
};
use dromia_contracts::{Digest, RunId, SessionId};

use super::chain::chain_digest;
use super::inbox::{ItemRow, KeyRow};
use super::rows::TenantRows;

impl TenantRows {
    pub(super) fn inbox_put(&mut self, put: &InboxPut) -> Result<u64, CommitRefusal> {
        if let Some(known) = self.inbox.items.get(&put.item) {
            let same = known.put == *put;
            let exists = || CommitRefusal::Malformed(format!("{} exists already", put.item));
            return if same { Ok(known.position) } else { Err(exists()) };
        }
        let known = put.key.as_ref().and_then(|key| self.inbox.keys.get(&key.key));
        if let Some(known) = known.filter(|row| row.expires_at.is_none_or(|end| put.at < end)) {
            let KeyRow { item, owner, position, key, .. } = known.clone();
            return Err(CommitRefusal::KeyTaken { item, owner, position, request: key.request });
        }
        let agent = self.owner_agent(put.owner).ok_or_else(|| owner_missing(put.owner))?;
        let state = self.agents.rows.get(&agent).map_or(AgentState::Deleting, |agent| agent.state);
        if matches!(put.owner, InboxOwner::Session(_)) {
            match state {
                AgentState::Running | AgentState::Paused => {}
                AgentState::Terminated | AgentState::Deleting => {
                    return Err(CommitRefusal::AgentState { found: state });
                }
            }
        }
        if let InboxOwner::Run(id) = put.owner
            && self.runs.rows.get(&id).is_some_and(|run| run.head.status.is_terminal())
        {
            return Err(CommitRefusal::RunTerminal);
        }
        let inbox = self.inbox.queues.entry(put.owner).or_default();
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
                if let Some(session) = self.sessions.rows.get_mut(&id) {
                    session.head.last = position;
                }
            }
            InboxOwner::Run(id) => {
                if let Some(run) = self.runs.rows.get_mut(&id) {
                    run.signals_last = position;
                }
            }
        }
        if let Some(key) = put.key.clone() {
            let expires_at = put.key_expires_at();
            let row = KeyRow { item: put.item, owner: put.owner, position, key, expires_at };
            self.inbox.keys.insert(row.key.key.clone(), row);
        }
        self.inbox.items.insert(put.item, ItemRow { position, put: put.clone() });
        Ok(position)
    }

    pub(super) fn run_append(
        &mut self,
        append: &RunAppend,
        payer: Option<&BudgetPayer>,
    ) -> Result<(), CommitRefusal> {
        let RunAppend { run: id, epoch, after, entries, head, checkpoint } = append;
        let run = self.runs.rows.get(id).ok_or_else(|| CommitRefusal::NotFound(id.to_string()))?;
        if self.runs.entries_stand(*id, *epoch, *after, entries) {
            return Ok(());
        }
        if run.head.status.is_terminal() {
            return Err(CommitRefusal::RunTerminal);
        }
        if run.epoch != *epoch {
            return Err(CommitRefusal::EpochStale { found: run.epoch });
        }
        if run.last_seq != *after {
            return Err(CommitRefusal::SequenceMoved { found: run.last_seq });
        }
        let place = (run.agent, run.session, *id);
        let takes = self.next_inputs(*id, run.session, entries)?;
        self.budgets.charge_run(payer, place, entries)?;
        if payer.is_some() {
            self.approvals.apply_entries(*id, entries)?;
        }
        self.append_entries(*id, *epoch, entries);
        self.take_upto(*id, place.1, takes);
        self.head_set(*id, *epoch, entries, *head);
        if let Some(folded) = checkpoint {
            let seq = after + entries.len() as u64;
            self.runs.checkpoints.insert(*id, RunCheckpoint { seq, folded: folded.clone() });
        }
        Ok(())
    }

    /// Returns up to which position the entries of a running turn take its session's inputs.
    fn next_inputs(
        &self,
        run: RunId,
        session: SessionId,
        entries: &[NewEntry],
    ) -> Result<Option<u64>, CommitRefusal> {
        let head = self.sessions.rows.get(&session).map(|session| session.head).unwrap_or_default();
        let inbox = self.inbox.list_items(InboxOwner::Session(session));
        let mut taken = None;
        for new in entries {
            let Entry::InputsTaken(InputsTaken { items, after }) = &new.entry else { continue };
            let waiting = inbox.iter().filter(|item| item.position > *after).map(|item| item.id);
            let is_next = head.active == Some(run)
                && taken.unwrap_or(head.taken) == *after
                && !items.is_empty()
                && waiting.take(items.len()).eq(items.iter().copied());
            if !is_next {
                return Err(CommitRefusal::Malformed(format!("{run} takes other inputs than the next ones")));
            }
            taken = Some(after + items.len() as u64);
        }
        Ok(taken)
    }

    fn take_upto(&mut self, run: RunId, session: SessionId, upto: Option<u64>) {
        let (Some(upto), Some(row)) = (upto, self.sessions.rows.get_mut(&session)) else { return };
        let inbox = self.inbox.queues.entry(InboxOwner::Session(session)).or_default();
        for item in inbox.iter_mut().filter(|item| item.position > row.head.taken && item.position <= upto) {
            item.taken_by = Some(run);
        }
        row.head.taken = upto;
    }

    /// Tries a claim; tells whether it was granted.
    pub(super) fn try_claim(
        &mut self,
        claim: &TurnClaim,
        payer: Option<&BudgetPayer>,
    ) -> Result<bool, CommitRefusal> {
        let TurnClaim { session: id, agent, run, holder, after, take, entries, head, notice } = claim;
        let missing = || CommitRefusal::NotFound(id.to_string());
        let session =
            self.sessions.rows.get(id).filter(|session| session.agent == *agent).ok_or_else(missing)?;
        if let Some(known) = self.runs.rows.get(run) {
            let stands = known.session == *id && self.runs.entries_stand(*run, 1, 0, entries);
            return if stands {
                Ok(true)
            } else {
                Err(CommitRefusal::Malformed(format!("{run} exists already")))
            };
        }
        let may_begin = match self.agents.rows.get(agent).map(|agent| agent.state) {
            Some(AgentState::Running) if self.suspended_at.is_none() => true,
            // A run that has ended begins nothing.
            Some(AgentState::Running | AgentState::Paused) => head.status.is_terminal(),
            Some(AgentState::Terminated | AgentState::Deleting) | None => false,
        };
        let taken = session.head.taken;
        let waiting =
            self.inbox.list_items(InboxOwner::Session(*id)).iter().filter(|item| item.position > taken);
        let in_order = waiting.map(|item| item.id).take(take.len()).eq(take.iter().copied());
        if session.head.active.is_some() || session.head.taken != *after || !may_begin || !in_order {
            return Ok(false);
        }
        let Some(NewEntry { entry: Entry::RunStarted(RunStarted { kind, .. }), at, .. }) = entries.first()
        else {
            return Err(CommitRefusal::Malformed("a claim begins with RunStarted".to_owned()));
        };
        let row = RunRecord {
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
            signals_taken: 0,
            holder: Some(*holder),
        };
        self.budgets.charge_run(payer, (*agent, *id, *run), entries)?;
        self.runs.rows.insert(*run, row);
        self.append_entries(*run, 1, entries);
        if let Some(session) = self.sessions.rows.get_mut(id) {
            session.head.active = Some(*run);
        }
        self.take_upto(*run, *id, Some(after + take.len() as u64));
        let later = self.next_inputs(*run, *id, entries)?;
        self.take_upto(*run, *id, later);
        self.head_set(*run, 1, entries, *head);
        if let Some(put) = notice {
            self.inbox_put(put)?;
        }
        Ok(true)
    }

    /// Tells whether a terminal head left its session free with items waiting.
    pub(super) fn frees_a_waiting_session(&self, append: &RunAppend) -> bool {
        let session = self.runs.rows.get(&append.run).and_then(|run| self.sessions.rows.get(&run.session));
        append.head.status.is_terminal()
            && session.is_some_and(|session| {
                session.head.active.is_none() && session.head.last > session.head.taken
            })
    }

    fn append_entries(&mut self, run: RunId, epoch: u64, entries: &[NewEntry]) {
        let journal = self.runs.journals.entry(run).or_default();
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
            entry.chain = chain_digest(before, &entry, &self.create.body_key);
            journal.push(entry);
            if let (Entry::SignalTaken(taken), Some(signals)) =
                (&new.entry, self.inbox.queues.get_mut(&InboxOwner::Run(run)))
            {
                signals
                    .iter_mut()
                    .filter(|item| item.id == taken.item)
                    .for_each(|item| item.taken_by = Some(run));
            }
        }
    }

    fn head_set(&mut self, id: RunId, epoch: u64, entries: &[NewEntry], head: RunHead) {
        let last_seq = self.runs.journal_entries(id).len() as u64;
        let Some(run) = self.runs.rows.get_mut(&id) else { return };
        for new in entries {
            if let Entry::SignalTaken(taken) = &new.entry {
                run.signals_taken = run.signals_taken.max(taken.position);
            }
        }
        run.last_seq = last_seq;
        run.entry_epoch = epoch;
        run.head = head;
        if head.status != RunStatus::Running {
            run.holder = None;
        }
        if let Some(last) = entries.last() {
            run.updated_at = last.at;
        }
        let session = self.sessions.rows.get_mut(&run.session);
        if let Some(session) = session.filter(|_| head.status.is_terminal())
            && session.head.active == Some(id)
        {
            session.head.active = None;
        }
    }
}

fn owner_missing(owner: InboxOwner) -> CommitRefusal {
    CommitRefusal::NotFound(match owner {
        InboxOwner::Session(id) => id.to_string(),
        InboxOwner::Run(id) => id.to_string(),
    })
}
