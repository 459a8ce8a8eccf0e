//! Registering tenants and agents, changing what an agent may do, and erasing one.

use std::sync::Arc;

use dromia_contracts::agent::{AgentRecord, AgentState, HandleSlug, TenantRecord};
use dromia_contracts::runs::{NewAgent, NewToken};
use dromia_contracts::store::{
    AgentCreate, AgentStateSet, CommitOutcome, CommitRefusal, Mutation, TenantCreate, WriteBatch,
};
use dromia_contracts::token::TokenScopes;
use dromia_contracts::{Actor, AgentId, ErrorCode, Fault, Scope};

use crate::agents::{agent_not_found, read_fault};
use crate::core::EngineCore;
use crate::kill::RunTermination;
use crate::outcome::RunOutcomes;
use crate::paused_work::PausedWork;
use crate::refusal::commit_fault;
use crate::revisions::{check_config, check_workspace};
use crate::tokens::TokenIssuer;

/// Registers tenants and agents, and changes the state of an agent.
pub(crate) struct AgentRegistry<'a> {
    core: &'a Arc<EngineCore>,
}

impl<'a> AgentRegistry<'a> {
    /// Begins with the engine's shared parts.
    pub(crate) fn new(core: &'a Arc<EngineCore>) -> Self {
        Self { core }
    }

    /// Registers a tenant and its first credential, in one commit: a crash leaves both or neither.
    pub(crate) async fn tenant_create(
        &self,
        handle: HandleSlug,
        token_name: String,
    ) -> Result<(TenantRecord, String), Fault> {
        let id = self.core.ports.runtime.tenant_id();
        let at = self.core.ports.runtime.clock.now();
        let create = TenantCreate {
            handle: handle.clone(),
            at,
            body_key: self.core.ports.runtime.ids.random_secret(),
        };
        let new = NewToken { name: token_name, scopes: TokenScopes::ADMIN, expires_at: None };
        let (token, credential) = TokenIssuer::new(&self.core.ports).new_token(new);
        // Only the operator of the process may create one.
        let batch = WriteBatch::new(id).wanted_by(&Actor::new("operator"), at);
        let batch = batch.with_mutation(Mutation::TenantCreate(create));
        match self.core.ports.commit_batch(batch.with_mutation(Mutation::TokenCreate(credential))).await {
            Ok(()) => Ok((TenantRecord { id, handle, created_at: at, suspended_at: None }, token)),
            // The tenant may be there with a token that was not shown.
            Err(fault) if fault.code == ErrorCode::OutcomeUnknown => Err(fault.with_hint(format!(
                "`dromia tenant list` shows whether {handle} exists; if it does, create a token for it with \
                 `dromia --tenant {handle} token create NAME --scope admin`; if not, create it again"
            ))),
            // Perhaps it was this very request, sent before, whose answer was lost.
            Err(fault) if fault.code == ErrorCode::HandleTaken => Err(fault.with_hint(format!(
                "choose another handle; if {handle} is yours and you have no token for it, create one with \
                 `dromia --tenant {handle} token create NAME --scope admin`"
            ))),
            Err(fault) => Err(fault),
        }
    }

    /// Suspends a tenant or has it go on.
    pub(crate) async fn tenant_suspend(
        &self,
        tenant: TenantRecord,
        suspended: bool,
    ) -> Result<TenantRecord, Fault> {
        let at = self.core.ports.runtime.clock.now();
        let set = Mutation::TenantSuspensionSet(suspended.then_some(at));
        let batch = WriteBatch::new(tenant.id).wanted_by(&Actor::new("operator"), at);
        let committed = self.core.ports.commit_batch(batch.with_mutation(set)).await;
        // Also where the outcome is unknown: it may have been set all the same.
        self.core.caches.agents.forget_all();
        if !suspended && PausedWork::new(self.core).wake_agents(tenant.id, None).await.is_err() {
            self.core.request_rescan();
        }
        committed?;
        let suspended_at = suspended.then(|| tenant.suspended_at.unwrap_or(at));
        Ok(TenantRecord { suspended_at, ..tenant })
    }

    /// Registers an agent.
    pub(crate) async fn agent_create(&self, scope: &Scope, new: NewAgent) -> Result<AgentRecord, Fault> {
        let config = new.config;
        if !config.identity.is_empty() {
            let text = "config.identity: a new agent has no documents; write them when it is there";
            return Err(Fault::new(ErrorCode::InvalidRequest, text).with_hint(
                "`dromia agent identity edit` and PUT /v1/agents/{agent}/identity/{document} do it",
            ));
        }
        let revision = check_config(&self.core.ports, scope, &config).await?;
        check_workspace(&self.core.ports, scope, &config, None).await?;
        let agent = self.core.ports.runtime.agent_id();
        let at = self.core.ports.runtime.clock.now();
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
        self.core.ports.commit_batch(batch.with_mutation(Mutation::AgentCreate(create))).await?;
        Ok(AgentRecord {
            id: agent,
            handle: new.handle,
            display_name: new.display_name,
            labels: new.labels,
            created_at: at,
            state: AgentState::Running,
            revision,
            revision_number: 1,
        })
    }

    /// Pauses, resumes or terminates an agent.
    pub(crate) async fn agent_set_state(
        &self,
        scope: &Scope,
        id: AgentId,
        to: AgentState,
    ) -> Result<AgentRecord, Fault> {
        let from = match to {
            AgentState::Running => vec![AgentState::Paused],
            AgentState::Paused => vec![AgentState::Running],
            AgentState::Terminated => vec![AgentState::Running, AgentState::Paused],
            AgentState::Deleting => {
                return Err(Fault::new(ErrorCode::InvalidRequest, "delete an agent to erase it"));
            }
        };
        let agent = self
            .core
            .ports
            .store
            .agent(scope, id)
            .await
            .map_err(read_fault)?
            .ok_or_else(|| agent_not_found(id))?;
        let set = AgentStateSet { agent: id, from, to };
        let batch =
            WriteBatch::new(scope.tenant()).wanted_by(scope.actor(), self.core.ports.runtime.clock.now());
        let batch = batch.with_mutation(Mutation::AgentStateSet(set));
        match self.core.ports.store.commit(batch).await {
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
                    self.core.caches.agents.forget_agent(id);
                    self.core.request_rescan();
                }
                return Err(commit_fault(answer));
            }
        }
        self.core.caches.agents.forget_agent(id);
        match to {
            AgentState::Running => {
                if let Err(error) = PausedWork::new(self.core).wake_agents(scope.tenant(), Some(id)).await {
                    // The agent runs, so what waited for it must be found another way.
                    self.core.request_rescan();
                    return Err(read_fault(error));
                }
            }
            AgentState::Terminated => {
                RunOutcomes::new(self.core).answer_queued(scope, id).await;
                RunTermination::new(self.core).end_runs(scope, id).await?;
            }
            AgentState::Paused | AgentState::Deleting => {}
        }
        Ok(AgentRecord { state: to, ..agent })
    }
}
