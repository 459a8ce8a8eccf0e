//! The engine as the rest of the house sees it: the `Runs` port, each call handed to the part that does it.

use dromia_contracts::agent::{Agent, AgentState, Erased, Handle, Tenant};
use dromia_contracts::approval::{Approval, ApprovalRule, DeclaredRule};
use dromia_contracts::budget::Budget;
use dromia_contracts::input::InputBody;
use dromia_contracts::runs::{
    Answer, End, ImportLabels, Kill, Load, NewAgent, NewInput, NewRule, NewToken, Runs, SentRequest,
    Submitted, Watch, Why,
};
use dromia_contracts::token::Token;
use dromia_contracts::{AgentId, ApprovalId, BoxFuture, Fault, Operator, RunId, Scope, SessionId, TokenId};

use crate::core::Engine;

impl Runs for Engine {
    fn submit(&self, scope: Scope, input: NewInput) -> BoxFuture<'_, Result<Submitted, Fault>> {
        Box::pin(self.core.submit(scope, input))
    }

    fn count(&self, scope: Scope, agent: AgentId, body: InputBody) -> BoxFuture<'_, Result<u32, Fault>> {
        Box::pin(async move { self.core.count(&scope, agent, body).await })
    }

    fn watch(&self, scope: Scope, run: RunId) -> BoxFuture<'_, Result<Watch, Fault>> {
        Box::pin(self.core.watch(scope, run))
    }

    fn why(&self, scope: Scope, run: RunId) -> BoxFuture<'_, Result<Why, Fault>> {
        Box::pin(self.core.why(scope, run))
    }

    fn request(
        &self,
        scope: Scope,
        run: RunId,
        step: u32,
        attempt: Option<u32>,
    ) -> BoxFuture<'_, Result<SentRequest, Fault>> {
        Box::pin(async move { self.core.request(&scope, run, step, attempt).await })
    }

    fn end(&self, scope: Scope, run: RunId, end: End) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(self.core.end(scope, run, end))
    }

    fn agent_kill(
        &self,
        scope: Scope,
        agent: AgentId,
        what: Kill,
    ) -> BoxFuture<'_, Result<Vec<RunId>, Fault>> {
        Box::pin(async move { self.core.kill(&scope, agent, what).await })
    }

    fn resume(&self, scope: Scope, run: RunId) -> BoxFuture<'_, Result<Submitted, Fault>> {
        Box::pin(self.core.resume(scope, run))
    }

    fn export(&self, scope: Scope, session: SessionId) -> BoxFuture<'_, Result<Vec<u8>, Fault>> {
        Box::pin(async move { self.core.export(&scope, session).await })
    }

    fn import(
        &self,
        scope: Scope,
        agent: AgentId,
        file: Vec<u8>,
        labels: ImportLabels,
        copy: Option<String>,
    ) -> BoxFuture<'_, Result<SessionId, Fault>> {
        Box::pin(async move { self.core.import(&scope, agent, &file, labels, copy.as_deref()).await })
    }

    fn tenant_create(
        &self,
        _operator: Operator,
        handle: Handle,
        token_name: String,
    ) -> BoxFuture<'_, Result<(Tenant, String), Fault>> {
        Box::pin(self.core.tenant_create(handle, token_name))
    }

    fn token_create(&self, scope: Scope, token: NewToken) -> BoxFuture<'_, Result<(Token, String), Fault>> {
        Box::pin(async move { self.core.token_create(&scope, token).await })
    }

    fn token_revoke(&self, scope: Scope, token: TokenId) -> BoxFuture<'_, Result<Token, Fault>> {
        Box::pin(async move { self.core.token_revoke(&scope, token).await })
    }

    fn budget_set(&self, scope: Scope, budget: Budget) -> BoxFuture<'_, Result<Budget, Fault>> {
        Box::pin(async move { self.core.budget_set(&scope, budget).await })
    }

    fn budget_remove(&self, scope: Scope, name: String) -> BoxFuture<'_, Result<Budget, Fault>> {
        Box::pin(async move { self.core.budget_remove(&scope, name).await })
    }

    fn approval_answer(
        &self,
        scope: Scope,
        approval: ApprovalId,
        also: Vec<ApprovalId>,
        answer: Answer,
    ) -> BoxFuture<'_, Result<Approval, Fault>> {
        Box::pin(async move { self.core.approval_answer(&scope, approval, &also, &answer).await })
    }

    fn approval_rule_add(&self, scope: Scope, rule: NewRule) -> BoxFuture<'_, Result<ApprovalRule, Fault>> {
        Box::pin(async move { self.core.approval_rule_add(&scope, rule).await })
    }

    fn approval_rules_declared(&self) -> Vec<DeclaredRule> {
        self.core.config.approvals.rules.clone()
    }

    fn approval_rule_remove(&self, scope: Scope, name: String) -> BoxFuture<'_, Result<ApprovalRule, Fault>> {
        Box::pin(async move { self.core.approval_rule_remove(&scope, name).await })
    }

    fn agent_create(&self, scope: Scope, agent: NewAgent) -> BoxFuture<'_, Result<Agent, Fault>> {
        Box::pin(async move { self.core.agent_create(&scope, agent).await })
    }

    fn agent_set_state(
        &self,
        scope: Scope,
        agent: AgentId,
        to: AgentState,
    ) -> BoxFuture<'_, Result<Agent, Fault>> {
        Box::pin(async move { self.core.agent_set_state(&scope, agent, to).await })
    }

    fn agent_delete(&self, scope: Scope, agent: AgentId) -> BoxFuture<'_, Result<Erased, Fault>> {
        Box::pin(async move { self.core.agent_delete(&scope, agent).await })
    }

    fn load(&self) -> Load {
        let (active, ready, active_max) = self.core.scheduler.load();
        let (budget_stops, loops) = self.core.counts.stops();
        Load { active, ready, active_max, tasks: self.core.counts.read(), budget_stops, loops }
    }
}
