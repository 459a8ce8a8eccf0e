//! Registering tenants and agents, changing what an agent may do, and erasing one.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use dromia_contracts::agent::{AgentRecord, AgentState, ErasureCounts, HandleSlug, TenantRecord};
use dromia_contracts::runs::{NewAgent, NewToken};
use dromia_contracts::store::{
    AgentCreate, AgentStateSet, CommitOutcome, CommitRefusal, Mutation, TenantCreate, WriteBatch,
};
use dromia_contracts::token::TokenScopes;
use dromia_contracts::{Actor, AgentId, Digest, ErrorCode, Fault, RunId, Scope, TenantId};

use crate::agents::{agent_not_found, read_fault};
use crate::config::INSTRUCTIONS_BYTES_MAX;
use crate::core::EngineCore;
use crate::refusal::{commit_fault, item_erased};

/// How often an erasure looks whether the agent's runs have ended, and the milliseconds between two looks.
const END_LOOKS: u32 = 200;
const END_LOOK: Duration = Duration::from_millis(10);

/// An erasure whose caller gets the counts of erased rows. The janitor, which every run wakes that ends without its
/// rows, skips the agent meanwhile; it continues if this erasure ends too early.
struct ErasureGuard<'core> {
    core: &'core EngineCore,
    agent: AgentId,
    is_done: bool,
}

impl<'core> ErasureGuard<'core> {
    fn begin(core: &'core EngineCore, agent: AgentId) -> Self {
        core.erasing.lock().unwrap_or_else(PoisonError::into_inner).insert(agent);
        Self { core, agent, is_done: false }
    }
}

impl Drop for ErasureGuard<'_> {
    fn drop(&mut self) {
        self.core.erasing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.agent);
        if !self.is_done {
            // Once it is marked, the agent is not found any more, so no caller can ask again: the janitor continues.
            self.core.forget_agent(self.agent);
            self.core.request_rescan();
        }
    }
}

impl EngineCore {
    /// Registers a tenant and its first credential, in one commit: a crash leaves both or neither.
    pub(crate) async fn tenant_create(
        &self,
        handle: HandleSlug,
        token_name: String,
    ) -> Result<(TenantRecord, String), Fault> {
        let id = self.ports.runtime.tenant_id();
        let at = self.ports.runtime.clock.now();
        let create =
            TenantCreate { handle: handle.clone(), at, body_key: self.ports.runtime.ids.random_secret() };
        let new = NewToken { name: token_name, scopes: TokenScopes::ADMIN, expires_at: None };
        let (token, credential) = self.new_token(new);
        // Only the operator of the process may create one.
        let batch = WriteBatch::new(id).wanted_by(&Actor::new("operator"), at);
        let batch = batch.with_mutation(Mutation::TenantCreate(create));
        match self.commit_batch(batch.with_mutation(Mutation::TokenCreate(credential))).await {
            Ok(()) => Ok((TenantRecord { id, handle, created_at: at }, token)),
            // The tenant may be there with a token that was not shown.
            Err(fault) if fault.code == ErrorCode::OutcomeUnknown => Err(fault.with_hint(format!(
                "`dromia tenant list` shows whether {handle} is there; if it is, make a token for it with \
                 `dromia --tenant {handle} token create NAME --scope admin`, and if not, register it again"
            ))),
            // Perhaps it was this very request, sent before, whose answer was lost.
            Err(fault) if fault.code == ErrorCode::HandleTaken => Err(fault.with_hint(format!(
                "choose another handle; if {handle} is yours and nobody has a token of it, make one with \
                 `dromia --tenant {handle} token create NAME --scope admin`"
            ))),
            Err(fault) => Err(fault),
        }
    }

    /// Registers an agent.
    pub(crate) async fn agent_create(&self, scope: &Scope, new: NewAgent) -> Result<AgentRecord, Fault> {
        let config = new.config;
        let invalid = |text: String| Err(Fault::new(ErrorCode::InvalidRequest, text));
        if !self.ports.model.knows_alias(&config.model) {
            return invalid(format!("config.model: there is no model {:?} in dromia.yaml", config.model));
        }
        if config.model_calls_max == Some(0) {
            return invalid("config.model_calls_max: a run needs at least one model call".to_owned());
        }
        if config.instructions.len() > INSTRUCTIONS_BYTES_MAX {
            let bytes = config.instructions.len();
            return invalid(format!(
                "config.instructions: {bytes} bytes are more than the {INSTRUCTIONS_BYTES_MAX} allowed"
            ));
        }
        if let Err(problem) = self.ports.gate.check_grants(&config.grants) {
            return invalid(format!("config.grants: {problem}"));
        }
        let json = serde_json::to_vec(&config)
            .map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
        let revision = Digest::from_bytes(*blake3::hash(&json).as_bytes());
        let agent = self.ports.runtime.agent_id();
        let at = self.ports.runtime.clock.now();
        let create = AgentCreate {
            agent,
            handle: new.handle.clone(),
            display_name: new.display_name.clone(),
            labels: new.labels.clone(),
            at,
            revision,
            config,
        };
        let batch = WriteBatch::new(scope.tenant()).wanted_by(scope.actor(), at);
        self.commit_batch(batch.with_mutation(Mutation::AgentCreate(create))).await?;
        Ok(AgentRecord {
            id: agent,
            handle: new.handle,
            display_name: new.display_name,
            labels: new.labels,
            created_at: at,
            state: AgentState::Running,
            revision,
        })
    }

    /// Pauses, resumes or terminates an agent.
    pub(crate) async fn agent_set_state(
        self: &Arc<Self>,
        scope: &Scope,
        id: AgentId,
        to: AgentState,
    ) -> Result<AgentRecord, Fault> {
        let from = match to {
            AgentState::Running => vec![AgentState::Paused],
            AgentState::Paused => vec![AgentState::Running],
            AgentState::Terminated => vec![AgentState::Running, AgentState::Paused],
            AgentState::Deleting => {
                return Err(Fault::new(ErrorCode::InvalidRequest, "an agent is erased by deleting it"));
            }
        };
        let agent = self
            .ports
            .store
            .agent(scope, id)
            .await
            .map_err(read_fault)?
            .ok_or_else(|| agent_not_found(id))?;
        let set = AgentStateSet { agent: id, from, to };
        let batch = WriteBatch::new(scope.tenant()).wanted_by(scope.actor(), self.ports.runtime.clock.now());
        let batch = batch.with_mutation(Mutation::AgentStateSet(set));
        match self.ports.store.commit(batch).await {
            CommitOutcome::Done(_) => {}
            CommitOutcome::Refused(CommitRefusal::AgentState { found }) => {
                let text =
                    format!("{} is {} and cannot become {}", agent.handle, found.as_str(), to.as_str());
                return Err(Fault::new(ErrorCode::AgentTerminated, text));
            }
            CommitOutcome::Refused(CommitRefusal::NotFound(_)) => return Err(agent_not_found(id)),
            answer => {
                if matches!(answer, CommitOutcome::Unknown { .. }) {
                    // The state may have changed all the same, and work that it allows waits in the store.
                    self.forget_agent(id);
                    self.request_rescan();
                }
                return Err(commit_fault(answer));
            }
        }
        self.forget_agent(id);
        match to {
            AgentState::Running => {
                if let Err(error) = self.wake_agent(scope.tenant(), id).await {
                    // The agent runs, so what waited for it must be found another way.
                    self.request_rescan();
                    return Err(read_fault(error));
                }
            }
            AgentState::Terminated => {
                self.answer_queued(scope, id).await;
                self.end_runs(scope, id).await?;
            }
            AgentState::Paused | AgentState::Deleting => {}
        }
        Ok(AgentRecord { state: to, ..agent })
    }

    /// Erases an agent and everything that belongs to it.
    ///
    /// The mark is durable first, so that a crash between two pages is found by the janitor and erased to the end.
    pub(crate) async fn agent_delete(
        self: &Arc<Self>,
        scope: &Scope,
        id: AgentId,
    ) -> Result<ErasureCounts, Fault> {
        let found = self.ports.store.agent(scope, id).await.map_err(read_fault)?;
        found.ok_or_else(|| agent_not_found(id))?;
        let set = AgentStateSet {
            agent: id,
            from: vec![AgentState::Running, AgentState::Paused, AgentState::Terminated],
            to: AgentState::Deleting,
        };
        let batch = WriteBatch::new(scope.tenant()).wanted_by(scope.actor(), self.ports.runtime.clock.now());
        let mut erasing = ErasureGuard::begin(self, id);
        self.commit_batch(batch.with_mutation(Mutation::AgentStateSet(set))).await?;
        let erased = self.erase_agent(scope.tenant(), id).await?;
        erasing.is_done = true;
        Ok(erased)
    }

    /// Returns whether a caller is erasing an agent.
    pub(crate) fn is_erasing(&self, agent: AgentId) -> bool {
        self.erasing.lock().unwrap_or_else(PoisonError::into_inner).contains(&agent)
    }

    /// Erases an agent that is marked: first its home, then its rows, page by page.
    ///
    /// The home goes before the last page, because that page removes the mark: after a crash the owner of the home
    /// would be unknown. No task is left by then that could write into it; a task that outlives the wait finds no home,
    /// and files that it creates again are wiped at the end.
    pub(crate) async fn erase_agent(
        self: &Arc<Self>,
        tenant: TenantId,
        agent: AgentId,
    ) -> Result<ErasureCounts, Fault> {
        self.forget_agent(agent);
        // The capabilities that it delegated end with the mark, not with the last page.
        self.ports.terms.note_agent_erased(tenant, agent).await;
        self.session_keys.retain(|(_, id, _), _| *id != agent);
        let scope = self.recovery_scope(tenant);
        self.answer_queued(&scope, agent).await;
        self.let_end(agent).await;
        let watched = self.watched_of(&scope, agent).await;
        let mut sum = ErasureCounts {
            files: self.ports.homes.wipe_home(tenant, agent).await?,
            ..ErasureCounts::default()
        };
        loop {
            let (page, last) = self.ports.store.erase_agent_page(&scope, agent).await.map_err(read_fault)?;
            sum.sessions += page.sessions;
            sum.runs += page.runs;
            sum.entries += page.entries;
            sum.items += page.items;
            sum.bodies += page.bodies;
            sum.deliveries += page.deliveries;
            if last {
                break;
            }
        }
        self.tell_of_erasure(agent, &watched);
        sum.files += self.ports.homes.wipe_home(tenant, agent).await?;
        Ok(sum)
    }

    /// Lists the runs of an agent that have a watcher.
    async fn watched_of(&self, scope: &Scope, agent: AgentId) -> Vec<RunId> {
        let mut of_agent = Vec::new();
        for run in self.hub.watched_runs() {
            // A watcher that is missed here polls by itself, only later.
            if matches!(self.ports.store.run(scope, run).await, Ok(Some(row)) if row.agent == agent) {
                of_agent.push(run);
            }
        }
        of_agent
    }

    /// Answers the callers that still wait for an agent whose rows are gone: a parked run has no task that could.
    fn tell_of_erasure(&self, agent: AgentId, watched: &[RunId]) {
        for (item, _) in self.hub.asked_of(agent) {
            self.hub.resolve_waiters(&[item], &Err(item_erased(agent, item)));
        }
        for run in watched {
            self.hub.end_watch(*run);
        }
    }

    /// Waits until no run of an agent has a task, but not for ever: a tool may take its time.
    async fn let_end(&self, agent: AgentId) {
        let clock = &self.ports.runtime.clock;
        for _ in 0..END_LOOKS {
            let active = self.hub.active_of(agent);
            if active.is_empty() {
                return;
            }
            for run in active {
                self.hub.signal_run(run);
            }
            clock.sleep(END_LOOK).await;
        }
    }

    async fn commit_batch(&self, batch: WriteBatch) -> Result<(), Fault> {
        match self.ports.store.commit(batch).await {
            CommitOutcome::Done(_) => Ok(()),
            other => Err(commit_fault(other)),
        }
    }
}
