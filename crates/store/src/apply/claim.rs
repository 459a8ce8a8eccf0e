//! The claim of a session: at most one turn holds it, and it takes the waiting items in their order.

use dromia_contracts::agent::AgentState;
use dromia_contracts::entry::Entry;
use dromia_contracts::run::{RunKind, RunStatus};
use dromia_contracts::store::{CommitRefusal, TurnClaim};

use super::budget::ChargedRun;
use super::journal::{RunDraft, chain_entries};
use super::{BatchDraft, Checked};
use crate::chain;

/// Whether a claim's run is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExistingRun {
    /// It is not.
    Absent,
    /// With exactly these first entries: the claim was granted before.
    Same,
    /// With other entries.
    Other,
}

impl<'b> BatchDraft<'b> {
    /// Looks whether a claim was granted before, without judging it.
    pub(super) fn claim_before(&mut self, claim: &'b TurnClaim) -> Checked<ExistingRun> {
        kind_of(claim)?;
        let Some(session) = self.runs.find_known_run(self.db, claim.run)?.map(|run| run.session) else {
            return Ok(ExistingRun::Absent);
        };
        let (_, chain) = chain_entries(self.db, claim.run, 1, 0, chain::ORIGIN, &claim.entries);
        let same = session == claim.session
            && self.runs.chain_at(self.db, claim.run, claim.entries.len() as u64)? == Some(chain);
        Ok(if same { ExistingRun::Same } else { ExistingRun::Other })
    }

    /// Grants the claim, or notes that it cannot be granted.
    pub(super) fn grant_claim(&mut self, claim: &'b TurnClaim, before: ExistingRun) -> Checked<bool> {
        let kind = kind_of(claim)?;
        let session = self.sessions.find_session(self.db, claim.session)?;
        let (agent, head) = (session.agent, session.head);
        if agent != claim.agent {
            return Err(CommitRefusal::NotFound(format!("{} of {}", claim.session, claim.agent)).into());
        }
        match before {
            ExistingRun::Absent => {}
            ExistingRun::Same => return Ok(true),
            ExistingRun::Other => {
                return Err(CommitRefusal::Malformed(format!("{} is another run", claim.run)).into());
            }
        }
        let free = head.active.is_none() && head.taken == claim.after;
        let may_begin = match self.agents.find_state(self.db, agent)? {
            Some(AgentState::Running) if !self.own_tenant.is_suspended(self.db)? => true,
            // A run that has ended begins nothing.
            Some(AgentState::Running | AgentState::Paused) => claim.head.status.is_terminal(),
            Some(AgentState::Terminated | AgentState::Deleting) | None => false,
        };
        if !free || !may_begin {
            return Ok(false);
        }
        for (position, item) in (claim.after + 1..).zip(&claim.take) {
            if self.inbox.item_at(self.db, claim.session, position)? != Some(*item) {
                return Ok(false);
            }
        }

        let (entries, chain) = chain_entries(self.db, claim.run, 1, 0, chain::ORIGIN, &claim.entries);
        let (Some(first), Some(last)) = (claim.entries.first(), claim.entries.last()) else {
            return Ok(false);
        };
        let draft = RunDraft {
            run: claim.run,
            agent,
            session: claim.session,
            kind,
            head: claim.head,
            started_at: first.at,
            updated_at: last.at,
            last_seq: claim.entries.len() as u64,
            epoch: 1,
            entry_epoch: 1,
            chain,
            signals_last: 0,
            signals_taken: 0,
            holder: (claim.head.status == RunStatus::Running).then_some(claim.holder),
            new: true,
            changed: true,
        };
        let payer = self.batch.payer.as_ref();
        self.budgets.charge_entries(self.db, payer, &ChargedRun::from_run(&draft), &claim.entries)?;
        self.runs.begin_run(draft, entries);
        let upto = self.inbox.take_items(claim.session, claim.run, claim.after, claim.take.len());
        self.inbox.grant_claim(claim);
        let session = self.sessions.find_session(self.db, claim.session)?;
        (session.head.taken, session.head.active) = (upto, Some(claim.run));
        session.changed = true;
        if kind.is_child() {
            session.child_run = Some((claim.run, !claim.head.status.is_terminal()));
        }
        self.take_inputs(claim.run, claim.session, &claim.entries)?;
        if claim.head.status.is_terminal() {
            self.sessions.find_session(self.db, claim.session)?.head.active = None;
        }
        Ok(true)
    }
}

/// Returns the kind of the run, after checking that the first entry starts it for this session and agent.
fn kind_of(claim: &TurnClaim) -> Checked<RunKind> {
    if claim.take.is_empty() {
        return Err(CommitRefusal::Malformed("a claim takes at least one item".into()).into());
    }
    match claim.entries.first().map(|first| &first.entry) {
        Some(Entry::RunStarted(started))
            if started.session == claim.session && started.agent == claim.agent =>
        {
            Ok(started.kind)
        }
        Some(Entry::RunStarted(_)) => {
            Err(CommitRefusal::Malformed("the claim and its first entry name different sessions".into())
                .into())
        }
        Some(_) | None => {
            Err(CommitRefusal::Malformed("the first entry of a claim is run_started".into()).into())
        }
    }
}
