//! The engine as the rest of the house sees it: the `Runs` port, each call handed to the part that does it.
//!
//! A call that may write is carried through once it has begun, here and for all of them: whoever asks may go away while the
//! batch lies in the store's queue, and what follows the commit must not go with him. A call that reads ends with its
//! caller, and so does the wait for an outcome, which is no part of the call.

use std::sync::Arc;

use dromia_contracts::agent::{Agent, AgentState, Erased, Handle, Tenant};
use dromia_contracts::approval::{Approval, ApprovalRule, DeclaredRule};
use dromia_contracts::budget::Budget;
use dromia_contracts::input::InputBody;
use dromia_contracts::runs::{
    Answer, End, Exported, ImportLabels, Kill, Load, NewAgent, NewInput, NewRule, NewToken, Runs,
    SentRequest, Submitted, Watch, Why,
};
use dromia_contracts::token::Token;
use dromia_contracts::{AgentId, ApprovalId, BoxFuture, Fault, Operator, RunId, Scope, SessionId, TokenId};

use crate::core::{Core, Engine};

impl Engine {
    /// Makes a call that may write.
    ///
    /// It becomes a task only where its caller drops it, so a turn whose caller stays does not pay for one. Each step of these
    /// tasks has a place in a bounded queue of the store or is refused, and each wait between two steps is counted. That bounds
    /// what the steps take and not what a call was given, which stays in memory until its end: whoever gives much, as an import,
    /// bounds such calls, and lets the share go with the call and not with the caller.
    fn writing<T, C>(&self, call: impl FnOnce(Arc<Core>) -> C) -> BoxFuture<'_, T>
    where
        T: Send + 'static,
        C: Future<Output = T> + Send + 'static,
    {
        self.core.ports.runtime.carried_through(call(Arc::clone(&self.core)))
    }
}

impl Runs for Engine {
    fn submit(&self, scope: Scope, input: NewInput) -> BoxFuture<'_, Result<Submitted, Fault>> {
        self.writing(move |core| async move { core.submit(scope, input).await })
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
        self.writing(move |core| async move { core.end(scope, run, end).await })
    }

    fn agent_kill(
        &self,
        scope: Scope,
        agent: AgentId,
        what: Kill,
    ) -> BoxFuture<'_, Result<Vec<RunId>, Fault>> {
        self.writing(move |core| async move { core.kill(&scope, agent, what).await })
    }

    fn resume(&self, scope: Scope, run: RunId) -> BoxFuture<'_, Result<Submitted, Fault>> {
        self.writing(move |core| async move { core.resume(scope, run).await })
    }

    fn export(&self, scope: Scope, session: SessionId) -> BoxFuture<'_, Result<Exported, Fault>> {
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
        self.writing(
            move |core| async move { core.import(&scope, agent, &file, labels, copy.as_deref()).await },
        )
    }

    fn tenant_create(
        &self,
        _operator: Operator,
        handle: Handle,
        token_name: String,
    ) -> BoxFuture<'_, Result<(Tenant, String), Fault>> {
        self.writing(move |core| async move { core.tenant_create(handle, token_name).await })
    }

    fn token_create(&self, scope: Scope, token: NewToken) -> BoxFuture<'_, Result<(Token, String), Fault>> {
        self.writing(move |core| async move { core.token_create(&scope, token).await })
    }

    fn token_revoke(&self, scope: Scope, token: TokenId) -> BoxFuture<'_, Result<Token, Fault>> {
        self.writing(move |core| async move { core.token_revoke(&scope, token).await })
    }

    fn budget_set(&self, scope: Scope, budget: Budget) -> BoxFuture<'_, Result<Budget, Fault>> {
        self.writing(move |core| async move { core.budget_set(&scope, budget).await })
    }

    fn budget_remove(&self, scope: Scope, name: String) -> BoxFuture<'_, Result<Budget, Fault>> {
        self.writing(move |core| async move { core.budget_remove(&scope, name).await })
    }

    fn approval_answer(
        &self,
        scope: Scope,
        approval: ApprovalId,
        also: Vec<ApprovalId>,
        answer: Answer,
    ) -> BoxFuture<'_, Result<Approval, Fault>> {
        self.writing(move |core| async move { core.approval_answer(&scope, approval, &also, &answer).await })
    }

    fn approval_rule_add(&self, scope: Scope, rule: NewRule) -> BoxFuture<'_, Result<ApprovalRule, Fault>> {
        self.writing(move |core| async move { core.approval_rule_add(&scope, rule).await })
    }

    fn approval_rules_declared(&self) -> Vec<DeclaredRule> {
        self.core.config.approvals.rules.clone()
    }

    fn approval_rule_remove(&self, scope: Scope, name: String) -> BoxFuture<'_, Result<ApprovalRule, Fault>> {
        self.writing(move |core| async move { core.approval_rule_remove(&scope, name).await })
    }

    fn agent_create(&self, scope: Scope, agent: NewAgent) -> BoxFuture<'_, Result<Agent, Fault>> {
        self.writing(move |core| async move { core.agent_create(&scope, agent).await })
    }

    fn agent_set_state(
        &self,
        scope: Scope,
        agent: AgentId,
        to: AgentState,
    ) -> BoxFuture<'_, Result<Agent, Fault>> {
        self.writing(move |core| async move { core.agent_set_state(&scope, agent, to).await })
    }

    fn agent_delete(&self, scope: Scope, agent: AgentId) -> BoxFuture<'_, Result<Erased, Fault>> {
        self.writing(move |core| async move { core.agent_delete(&scope, agent).await })
    }

    fn is_imported(&self, session: SessionId, run: RunId) -> bool {
        crate::carry::is_imported(session, run)
    }

    fn load(&self) -> Load {
        let (active, ready, active_max) = self.core.scheduler.load();
        let (budget_stops, loops) = self.core.counts.stops();
        Load { active, ready, active_max, tasks: self.core.counts.read(), budget_stops, loops }
    }
}
