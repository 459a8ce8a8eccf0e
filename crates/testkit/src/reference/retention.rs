//! Sessions of the reference store that are erased one by one, and holds.

use std::collections::VecDeque;

use dromia_contracts::agent::{AgentState, ErasureCounts};
use dromia_contracts::audit::{AuditAct, AuditChange};
use dromia_contracts::cost::CostTotals;
use dromia_contracts::retention::{
    IdlePage, IdleSession, SessionHold, SessionObstacle, SessionSeal, TREE_CHECKED_MAX, TREE_ERASED_MAX,
};
use dromia_contracts::run::RunRecord;
use dromia_contracts::session::{InboxOwner, SessionRecord};
use dromia_contracts::store::{
    AgentStateSet, BatchRequester, CommitRefusal, PageRequest, SessionErase, SessionHoldSet,
};
use dromia_contracts::{AgentId, Digest, Scope, SessionId, TenantId};
use jiff::Timestamp;

use super::ReferenceState;
use super::page::page_rows;
use super::rows::TenantRows;

impl ReferenceState {
    /// Lists sessions that were erased and have rows left, but those of agents that are being erased.
    pub(super) fn erasing_sessions(&self) -> Vec<(TenantId, SessionId)> {
        let rows = self.tenants.iter().flat_map(|(tenant, rows)| {
            let is_alone = |agent: &AgentId| {
                rows.agents.rows.get(agent).is_none_or(|agent| agent.state != AgentState::Deleting)
            };
            let erased = rows.sessions.erased.iter().filter(move |(_, agent)| is_alone(agent));
            erased.map(|(session, _)| (*tenant, *session))
        });
        rows.collect()
    }
}

impl TenantRows {
    pub(super) fn set_hold(&mut self, set: &SessionHoldSet) -> Result<(), CommitRefusal> {
        let missing = || CommitRefusal::NotFound(set.session.to_string());
        let session = self.sessions.rows.get(&set.session).ok_or_else(missing)?;
        if matches!(self.agents.find_state(session.agent), None | Some(AgentState::Deleting)) {
            return Err(missing());
        }
        match &set.hold {
            Some(hold) => drop(self.sessions.holds.entry(set.session).or_insert_with(|| hold.clone())),
            None => drop(self.sessions.holds.remove(&set.session)),
        }
        Ok(())
    }

    /// Refuses to erase an agent, or without one the tenant, as long as a session of it is on hold.
    pub(super) fn check_holds(&self, agent: Option<AgentId>) -> Result<(), CommitRefusal> {
        let is_of = |session: &SessionId| {
            let of = self.sessions.rows.get(session).map(|session| session.agent);
            agent.is_none() || of == agent
        };
        match self.sessions.holds.keys().find(|session| is_of(session)) {
            Some(session) => {
                Err(CommitRefusal::SessionKept { session: *session, obstacle: SessionObstacle::Hold })
            }
            None => Ok(()),
        }
    }

    /// Refuses to erase an agent that is there and has a session on hold.
    pub(super) fn check_deletion(&self, set: &AgentStateSet) -> Result<(), CommitRefusal> {
        let state = self.agents.find_state(set.agent);
        let begins = set.to == AgentState::Deleting && state.is_some_and(|state| set.from.contains(&state));
        if begins && state != Some(set.to) { self.check_holds(Some(set.agent)) } else { Ok(()) }
    }

    /// Erases a session and those below it, as far as one commit may, and notes the acts.
    pub(super) fn erase_session(
        &mut self,
        erase: &SessionErase,
        wanted: Option<&BatchRequester>,
    ) -> Result<(), CommitRefusal> {
        let forest = SessionForest(self);
        let tree = forest.list_tree(erase.session);
        if tree.is_empty() && self.sessions.erased.contains_key(&erase.session) {
            return Ok(());
        }
        if tree.is_empty() {
            return Err(CommitRefusal::NotFound(erase.session.to_string()));
        }
        for (session, parent) in &tree {
            if let Some(obstacle) = forest.find_obstacle(session, parent.is_none(), erase.idle_before) {
                return Err(CommitRefusal::SessionKept { session: session.id, obstacle });
            }
        }
        // Children before their parents, so that no commit leaves a child without one.
        let kept = tree.len().saturating_sub(TREE_ERASED_MAX);
        let erased: Vec<_> = tree
            .into_iter()
            .skip(kept)
            .map(|(session, with)| (session.id, session.agent, with, forest.session_seal(session)))
            .collect();
        for (session, agent, with, seal) in erased {
            self.sessions.rows.remove(&session);
            self.sessions.keys.retain(|_, of| *of != session);
            self.sessions.hidden.insert(session);
            self.sessions.erased.insert(session, agent);
            let idle_before = erase.idle_before;
            let change = AuditChange::SessionErased { session, agent, with, idle_before, seal };
            self.acts.push((erase.at, AuditAct { by: wanted.map(|wanted| wanted.by.clone()), change }));
        }
        Ok(())
    }

    /// Erases what is left of a session that was erased.
    pub(super) fn erase_rest(&mut self, session: SessionId) -> ErasureCounts {
        if self.sessions.erased.remove(&session).is_none() {
            return ErasureCounts::default();
        }
        self.sessions.hidden.remove(&session);
        let runs: Vec<_> = SessionForest(self).runs_of(session).map(|run| run.id).collect();
        let mut erased = self.erase_rows(&[session], &runs);
        let before = self.outbox.rows.len();
        self.outbox.rows.retain(|_, row| row.delivery.source.session != session);
        erased.deliveries = (before - self.outbox.rows.len()) as u64;
        self.approvals.rows.retain(|_, approval| approval.source.session != session);
        self.approvals.rules.retain(|_, rule| rule.session != Some(session));
        erased
    }

    pub(super) fn list_held(
        &self,
        scope: &Scope,
        asked: PageRequest<SessionId>,
    ) -> Vec<(SessionId, SessionHold)> {
        let held = self.sessions.holds.iter().rev().filter(|(session, _)| {
            self.sessions.rows.get(session).is_some_and(|row| scope.sees_agent(row.agent))
        });
        page_rows(held.map(|(id, hold)| (*id, (*id, hold.clone()))), asked, true)
    }
}

/// The sessions of a tenant with those below them, as far as they may be erased.
pub(super) struct SessionForest<'a>(pub(super) &'a TenantRows);

impl<'a> SessionForest<'a> {
    /// Lists a session and those below it, parents before their children.
    fn list_tree(&self, session: SessionId) -> Vec<(&'a SessionRecord, Option<SessionId>)> {
        let mut tree = Vec::new();
        let mut queue: VecDeque<_> =
            self.0.sessions.rows.get(&session).map(|first| (first, None)).into_iter().collect();
        while let Some((next, parent)) = queue.pop_front() {
            if tree.len() == TREE_CHECKED_MAX {
                break;
            }
            tree.push((next, parent));
            let is_child = |row: &&SessionRecord| row.origin.as_ref().is_some_and(|by| by.session == next.id);
            queue.extend(self.0.sessions.rows.values().filter(is_child).map(|child| (child, Some(next.id))));
        }
        tree
    }

    fn runs_of(&self, session: SessionId) -> impl Iterator<Item = &'a RunRecord> {
        self.0.runs.rows.values().filter(move |run| run.session == session)
    }

    fn last_at(&self, session: &SessionRecord) -> Timestamp {
        let items = self.0.inbox.queues.get(&InboxOwner::Session(session.id));
        let item = items.and_then(|items| items.last()).map(|item| item.at);
        let run = self.runs_of(session.id).map(|run| run.updated_at).max();
        [Some(session.opened_at), item, run].into_iter().flatten().max().unwrap_or(session.opened_at)
    }

    fn find_obstacle(
        &self,
        session: &SessionRecord,
        is_first: bool,
        idle_before: Option<Timestamp>,
    ) -> Option<SessionObstacle> {
        let id = session.id;
        let parent = session.origin.as_ref().map(|origin| origin.session);
        let is_recent = |at: Timestamp| idle_before.is_some_and(|before| at >= before);
        let items = self.0.inbox.queues.get(&InboxOwner::Session(id));
        let item_at = items.and_then(|items| items.last()).map(|item| item.at);
        let is_open_child = |row: &SessionRecord| {
            row.origin.as_ref().is_some_and(|origin| origin.session == id)
                && matches!(
                    self.0.agents.find_state(row.agent),
                    Some(AgentState::Running | AgentState::Paused)
                )
                && self.0.is_open_child(row.id)
        };
        let obstacles = [
            (
                is_first && parent.is_some_and(|id| self.0.sessions.rows.contains_key(&id)),
                SessionObstacle::Parent,
            ),
            (self.0.sessions.holds.contains_key(&id), SessionObstacle::Hold),
            (session.head.active.is_some(), SessionObstacle::OpenRun),
            (self.0.sessions.hidden.contains(&id), SessionObstacle::Import),
            (session.head.last > session.head.taken, SessionObstacle::WaitingItem),
            (is_recent(session.opened_at) || item_at.is_some_and(is_recent), SessionObstacle::Recent),
            (self.runs_of(id).any(|run| !run.head.status.is_terminal()), SessionObstacle::OpenRun),
            (self.0.sessions.rows.values().any(is_open_child), SessionObstacle::OpenChild),
            (
                self.0.approvals.rows.values().any(|row| row.state.is_open() && row.source.session == id),
                SessionObstacle::OpenApproval,
            ),
            (
                self.0
                    .outbox
                    .rows
                    .values()
                    .any(|row| row.delivery.state.is_open() && row.delivery.source.session == id),
                SessionObstacle::OpenDelivery,
            ),
            (is_recent(self.last_at(session)), SessionObstacle::Recent),
        ];
        obstacles.into_iter().find(|(keeps, _)| *keeps).map(|(_, obstacle)| obstacle)
    }

    fn session_seal(&self, session: &SessionRecord) -> SessionSeal {
        let mut seal = SessionSeal {
            runs: 0,
            entries: 0,
            items: session.head.last,
            spent: CostTotals::default(),
            opened_at: session.opened_at,
            last_at: self.last_at(session),
            heads: Digest::default(),
        };
        let mut heads = blake3::Hasher::new();
        for run in self.runs_of(session.id) {
            let chain = self.0.runs.journal_entries(run.id).last().map(|last| last.chain).unwrap_or_default();
            heads.update(run.id.as_bytes());
            heads.update(&run.last_seq.to_be_bytes());
            heads.update(&chain.as_bytes()[..20]);
            seal.runs += 1;
            seal.entries += run.last_seq;
            seal.spent.add(CostTotals::from(run));
        }
        seal.heads = Digest::from_bytes(*heads.finalize().as_bytes());
        seal
    }

    pub(super) fn list_idle(
        &self,
        scope: &Scope,
        before: Timestamp,
        asked: PageRequest<SessionId>,
    ) -> IdlePage {
        let limit = asked.limit.min(PageRequest::<SessionId>::LIMIT_MAX);
        let end = SessionId::earliest_at(before);
        let behind = self
            .0
            .sessions
            .rows
            .keys()
            .filter(|id| asked.after.is_none_or(|after| **id > after) && **id < end);
        let looked: Vec<SessionId> = behind.copied().take(limit).collect();
        let next = looked.last().copied().filter(|_| looked.len() == limit);
        let due = looked.iter().filter_map(|id| {
            self.0.sessions.seen_session(scope, &self.0.agents, *id)?;
            let tree = self.list_tree(*id);
            let is_kept = |(session, parent): &(&SessionRecord, Option<SessionId>)| {
                self.find_obstacle(session, parent.is_none(), Some(before)).is_some()
            };
            if tree.iter().any(is_kept) {
                return None;
            }
            let (first, _) = tree.first()?;
            Some(IdleSession {
                session: first.id,
                agent: first.agent,
                children: (tree.len() - 1) as u64,
                runs: tree.iter().map(|(session, _)| self.runs_of(session.id).count() as u64).sum(),
                // No row has a size here.
                bytes: 0,
                last_at: tree.iter().map(|(session, _)| self.last_at(session)).max()?,
            })
        });
        IdlePage { due: due.collect(), next }
    }
}
