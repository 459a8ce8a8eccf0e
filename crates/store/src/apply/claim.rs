//! The claim of a session: at most one turn holds it, and it takes the waiting items in their order.

use rusqlite::{Connection, params};

use dromia_contracts::agent::AgentState;
use dromia_contracts::budget::BudgetPayer;
use dromia_contracts::entry::Entry;
use dromia_contracts::id::RunId;
use dromia_contracts::run::RunKind;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{CommitRefusal, TurnClaim};

use super::budget::ChargedRun;
use super::journal::RunDraft;
use super::{BatchDraft, Checked};
use crate::chain;
use crate::column_codes::stored_counter;

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
    pub(super) fn claim_before(&mut self, db: &Connection, claim: &'b TurnClaim) -> Checked<ExistingRun> {
        kind_of(claim)?;
        let Some(index) = self.run_index(db, claim.run)? else { return Ok(ExistingRun::Absent) };
        let (_, chain) = self.chain_entries(claim.run, 1, 0, chain::ORIGIN, &claim.entries);
        let same = self.runs[index].session == claim.session
            && self.chain_at(db, claim.run, claim.entries.len() as u64)? == Some(chain);
        Ok(if same { ExistingRun::Same } else { ExistingRun::Other })
    }

    /// Grants the claim, or notes that it cannot be granted.
    pub(super) fn grant_claim(
        &mut self,
        db: &Connection,
        claim: &'b TurnClaim,
        before: ExistingRun,
        payer: Option<&BudgetPayer>,
    ) -> Checked<bool> {
        let kind = kind_of(claim)?;
        let index = self.find_session(db, claim.session)?;
        let (agent, head) = (self.sessions[index].agent, self.sessions[index].head);
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
        let may_begin = match self.agent_state(db, agent)? {
            Some(AgentState::Running) => true,
            // A run that has ended begins nothing.
            Some(AgentState::Paused) => claim.head.status.is_terminal(),
            Some(AgentState::Terminated | AgentState::Deleting) | None => false,
        };
        if !free || !may_begin {
            return Ok(false);
        }
        for (position, item) in (claim.after + 1..).zip(&claim.take) {
            if self.item_at(db, claim.session, position)? != Some(*item) {
                return Ok(false);
            }
        }

        let (entries, chain) = self.chain_entries(claim.run, 1, 0, chain::ORIGIN, &claim.entries);
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
            new: true,
            changed: true,
        };
        self.charge_entries(db, payer, &ChargedRun::from_run(&draft), &claim.entries)?;
        self.runs.push(draft);
        self.entries.extend(entries);
        let upto = claim.after + claim.take.len() as u64;
        for position in claim.after + 1..=upto {
            let drafted = self.items.iter_mut().find(|draft| {
                draft.position == position && draft.put.owner == InboxOwner::Session(claim.session)
            });
            match drafted {
                Some(draft) => draft.taken_by = Some(claim.run),
                None => self.taken.push(position),
            }
        }
        let session = &mut self.sessions[index];
        session.head.taken = upto;
        session.head.active = (!claim.head.status.is_terminal()).then_some(claim.run);
        session.changed = true;
        self.taker = Some(claim);
        Ok(true)
    }

    /// Marks the items of earlier batches that the claim took.
    pub(super) fn write_taken(&self, db: &Connection) -> rusqlite::Result<u64> {
        let Some(claim) = self.taker else { return Ok(0) };
        for position in &self.taken {
            db.prepare_cached(
                "UPDATE inbox SET taken_by = ?4 WHERE tenant = ?1 AND owner = ?2 AND position = ?3",
            )?
            .execute(params![
                self.tenant.as_bytes(),
                claim.session.as_bytes(),
                stored_counter(*position),
                RunId::as_bytes(&claim.run),
            ])?;
        }
        Ok(self.taken.len() as u64)
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
