//! The engine as other crates see it: the `Runs` port, which passes each call to the module that implements it.
//!
//! A call that may write runs to its end once it has begun, here and for all of them: the caller may drop it while the
//! batch waits in the store's queue, and the steps after the commit must still happen. A call that reads ends with its
//! caller, and so does the wait for an outcome, which is no part of the call.

use std::sync::Arc;

use dromia_contracts::agent::{
    AgentRecord, AgentState, ErasureCounts, HandleSlug, TenantErasureCounts, TenantRecord,
};
use dromia_contracts::approval::{ApprovalRequest, ApprovalRuleRecord, DeclaredRule};
use dromia_contracts::budget::BudgetDefinition;
use dromia_contracts::compaction::{CompactionAnswer, ContextUse};
use dromia_contracts::input::InputBody;
use dromia_contracts::retention::{RetentionPolicy, SessionHold};
use dromia_contracts::revision::AgentChange;
use dromia_contracts::runs::{
    ApprovalDecision, EngineLoad, EnginePort, ImportLabels, InputReceipt, KillTarget, NewAgent, NewInput,
    NewRule, NewToken, RetentionPage, RunEndMode, RunStatusReason, SentRequest, SessionExport, Watch,
};
use dromia_contracts::token::TokenRecord;
use dromia_contracts::usage::UsageRow;
use dromia_contracts::{
    AgentId, ApprovalId, BoxFuture, Fault, OperatorScope, RunId, Scope, SessionId, TenantId, TokenId,
};

use crate::approvals::ApprovalAnswers;
use crate::approvals::rules::ApprovalRuleBook;
use crate::budgets::BudgetBook;
use crate::compaction::SessionContext;
use crate::core::EngineCore;
use crate::encoded_request::SentRequestReader;
use crate::engine::Engine;
use crate::erasures::ErasureTasks;
use crate::kill::RunTermination;
use crate::registry::AgentRegistry;
use crate::retention::RetentionTasks;
use crate::revisions::AgentRevisions;
use crate::run_control::RunControl;
use crate::run_explanation::RunExplanation;
use crate::session_file::SessionArchive;
use crate::submit::InputSubmission;
use crate::token_count::RequestTokenCount;
use crate::tokens::TokenIssuer;

impl Engine {
    /// Makes a call that may write.
    ///
    /// It becomes a task only if its caller drops it, so a turn whose caller stays does not pay for one. Each step of
    /// these tasks has a place in a bounded queue of the store or is refused, and each wait between two steps is
    /// counted. That bounds the memory of the steps, but not that of the call's arguments, which stay in memory until
    /// its end: a caller with large arguments, such as an import, must bound such calls, and release their share when
    /// the call ends, not when its caller leaves.
    fn run_to_completion<T, C>(&self, call: impl FnOnce(Arc<EngineCore>) -> C) -> BoxFuture<'_, T>
    where
        T: Send + 'static,
        C: Future<Output = T> + Send + 'static,
    {
        self.core.ports.runtime.carried_through(call(Arc::clone(&self.core)))
    }
}

impl EnginePort for Engine {
    fn submit_input(&self, scope: Scope, input: NewInput) -> BoxFuture<'_, Result<InputReceipt, Fault>> {
        self.run_to_completion(move |core| async move {
            InputSubmission::new(&core).submit_input(scope, input).await
        })
    }

    fn count_tokens(
        &self,
        scope: Scope,
        agent: AgentId,
        body: InputBody,
    ) -> BoxFuture<'_, Result<u32, Fault>> {
        Box::pin(
            async move { RequestTokenCount::new(&self.core).count_input_tokens(&scope, agent, body).await },
        )
    }

    fn watch_run(&self, scope: Scope, run: RunId) -> BoxFuture<'_, Result<Watch, Fault>> {
        Box::pin(async move { RunControl::new(&self.core).watch_run(scope, run).await })
    }

    fn explain_run(&self, scope: Scope, run: RunId) -> BoxFuture<'_, Result<RunStatusReason, Fault>> {
        Box::pin(async move { RunExplanation::new(&self.core).explain_run(scope, run).await })
    }

    fn session_context(&self, scope: Scope, session: SessionId) -> BoxFuture<'_, Result<ContextUse, Fault>> {
        Box::pin(async move {
            SessionContext::of_session(&self.core, &scope, session).await?.count_parts(&self.core)
        })
    }

    fn compact_session(
        &self,
        scope: Scope,
        session: SessionId,
        dry_run: bool,
    ) -> BoxFuture<'_, Result<CompactionAnswer, Fault>> {
        self.run_to_completion(move |core| async move {
            let context = SessionContext::of_session(&core, &scope, session).await?;
            if dry_run {
                context.compacted.preview(&core).await
            } else {
                context.compacted.begin_compaction(&core, true).await
            }
        })
    }

    fn rebuild_request(
        &self,
        scope: Scope,
        run: RunId,
        step: u32,
        attempt: Option<u32>,
    ) -> BoxFuture<'_, Result<SentRequest, Fault>> {
        Box::pin(async move {
            SentRequestReader::new(&self.core.ports).rebuild_request(&scope, run, step, attempt).await
        })
    }

    fn end_run(&self, scope: Scope, run: RunId, end: RunEndMode) -> BoxFuture<'_, Result<(), Fault>> {
        self.run_to_completion(
            move |core| async move { RunControl::new(&core).end_run(scope, run, end).await },
        )
    }

    fn agent_kill(
        &self,
        scope: Scope,
        agent: AgentId,
        what: KillTarget,
    ) -> BoxFuture<'_, Result<Vec<RunId>, Fault>> {
        self.run_to_completion(move |core| async move {
            RunTermination::new(&core).kill_runs(&scope, agent, what).await
        })
    }

    fn resume_run(&self, scope: Scope, run: RunId) -> BoxFuture<'_, Result<InputReceipt, Fault>> {
        self.run_to_completion(move |core| async move { RunControl::new(&core).resume_run(scope, run).await })
    }

    fn export_session(
        &self,
        scope: Scope,
        session: SessionId,
    ) -> BoxFuture<'_, Result<SessionExport, Fault>> {
        Box::pin(async move { SessionArchive::new(&self.core).export_session(&scope, session).await })
    }

    fn import_session(
        &self,
        scope: Scope,
        agent: AgentId,
        file: Vec<u8>,
        labels: ImportLabels,
        copy: Option<String>,
    ) -> BoxFuture<'_, Result<SessionId, Fault>> {
        self.run_to_completion(move |core| async move {
            SessionArchive::new(&core).import_session(&scope, agent, &file, labels, copy.as_deref()).await
        })
    }

    fn tenant_create(
        &self,
        _operator: OperatorScope,
        handle: HandleSlug,
        token_name: String,
    ) -> BoxFuture<'_, Result<(TenantRecord, String), Fault>> {
        self.run_to_completion(move |core| async move {
            AgentRegistry::new(&core).tenant_create(handle, token_name).await
        })
    }

    fn tenant_suspend(
        &self,
        _operator: OperatorScope,
        tenant: TenantRecord,
        suspended: bool,
    ) -> BoxFuture<'_, Result<TenantRecord, Fault>> {
        self.run_to_completion(move |core| async move {
            AgentRegistry::new(&core).tenant_suspend(tenant, suspended).await
        })
    }

    fn tenant_delete(
        &self,
        _operator: OperatorScope,
        tenant: TenantId,
    ) -> BoxFuture<'_, Result<TenantErasureCounts, Fault>> {
        self.run_to_completion(
            move |core| async move { ErasureTasks::new(&core).tenant_delete(tenant).await },
        )
    }

    fn token_create(
        &self,
        scope: Scope,
        token: NewToken,
    ) -> BoxFuture<'_, Result<(TokenRecord, String), Fault>> {
        self.run_to_completion(move |core| async move {
            TokenIssuer::new(&core.ports).token_create(&scope, token).await
        })
    }

    fn token_revoke(&self, scope: Scope, token: TokenId) -> BoxFuture<'_, Result<TokenRecord, Fault>> {
        self.run_to_completion(move |core| async move {
            TokenIssuer::new(&core.ports).token_revoke(&scope, token).await
        })
    }

    fn budget_set(
        &self,
        scope: Scope,
        budget: BudgetDefinition,
    ) -> BoxFuture<'_, Result<BudgetDefinition, Fault>> {
        self.run_to_completion(move |core| async move {
            BudgetBook::new(&core.ports).budget_set(&scope, budget).await
        })
    }

    fn budget_remove(&self, scope: Scope, name: String) -> BoxFuture<'_, Result<BudgetDefinition, Fault>> {
        self.run_to_completion(move |core| async move {
            BudgetBook::new(&core.ports).budget_remove(&scope, name).await
        })
    }

    fn approval_answer(
        &self,
        scope: Scope,
        approval: ApprovalId,
        also: Vec<ApprovalId>,
        answer: ApprovalDecision,
    ) -> BoxFuture<'_, Result<ApprovalRequest, Fault>> {
        self.run_to_completion(move |core| async move {
            ApprovalAnswers::new(&core).approval_answer(&scope, approval, &also, &answer).await
        })
    }

    fn approval_rule_add(
        &self,
        scope: Scope,
        rule: NewRule,
    ) -> BoxFuture<'_, Result<ApprovalRuleRecord, Fault>> {
        self.run_to_completion(move |core| async move {
            ApprovalRuleBook::new(&core).approval_rule_add(&scope, rule).await
        })
    }

    fn approval_rules_declared(&self) -> Vec<DeclaredRule> {
        self.core.config().approvals.rules.clone()
    }

    fn approval_rule_remove(
        &self,
        scope: Scope,
        name: String,
    ) -> BoxFuture<'_, Result<ApprovalRuleRecord, Fault>> {
        self.run_to_completion(move |core| async move {
            ApprovalRuleBook::new(&core).approval_rule_remove(&scope, name).await
        })
    }

    fn agent_create(&self, scope: Scope, agent: NewAgent) -> BoxFuture<'_, Result<AgentRecord, Fault>> {
        self.run_to_completion(move |core| async move {
            AgentRegistry::new(&core).agent_create(&scope, agent).await
        })
    }

    fn agent_change(
        &self,
        scope: Scope,
        agent: AgentId,
        change: AgentChange,
    ) -> BoxFuture<'_, Result<AgentRecord, Fault>> {
        self.run_to_completion(move |core| async move {
            AgentRevisions::new(&core).agent_change(&scope, agent, &change).await
        })
    }

    fn agent_rename(
        &self,
        scope: Scope,
        agent: AgentId,
        handle: HandleSlug,
    ) -> BoxFuture<'_, Result<AgentRecord, Fault>> {
        self.run_to_completion(move |core| async move {
            AgentRevisions::new(&core).agent_rename(&scope, agent, handle).await
        })
    }

    fn agent_set_state(
        &self,
        scope: Scope,
        agent: AgentId,
        to: AgentState,
    ) -> BoxFuture<'_, Result<AgentRecord, Fault>> {
        self.run_to_completion(move |core| async move {
            AgentRegistry::new(&core).agent_set_state(&scope, agent, to).await
        })
    }

    fn agent_delete(&self, scope: Scope, agent: AgentId) -> BoxFuture<'_, Result<ErasureCounts, Fault>> {
        self.run_to_completion(move |core| async move {
            ErasureTasks::new(&core).agent_delete(&scope, agent).await
        })
    }

    fn session_delete(
        &self,
        scope: Scope,
        session: SessionId,
    ) -> BoxFuture<'_, Result<ErasureCounts, Fault>> {
        self.run_to_completion(move |core| async move {
            RetentionTasks::new(&core).session_delete(&scope, session).await
        })
    }

    fn session_hold_set(
        &self,
        scope: Scope,
        session: SessionId,
        held: bool,
    ) -> BoxFuture<'_, Result<Option<SessionHold>, Fault>> {
        self.run_to_completion(move |core| async move {
            RetentionTasks::new(&core).set_hold(&scope, session, held).await
        })
    }

    fn retention_policy(&self, scope: Scope) -> BoxFuture<'_, Result<RetentionPolicy, Fault>> {
        Box::pin(async move { RetentionTasks::new(&self.core).policy(&scope).await })
    }

    fn retention_page(
        &self,
        scope: Scope,
        after: Option<SessionId>,
        erases: bool,
    ) -> BoxFuture<'_, Result<RetentionPage, Fault>> {
        self.run_to_completion(move |core| async move {
            RetentionTasks::new(&core).next_page(&scope, after, erases).await
        })
    }

    fn is_imported(&self, session: SessionId, run: RunId) -> bool {
        crate::session_file::is_imported(session, run)
    }

    fn model_aliases(&self) -> Vec<String> {
        self.core.ports.model.list_aliases()
    }

    fn usage_rows(&self, only: Option<TenantId>) -> Vec<UsageRow> {
        self.core.activity.usage.usage_rows(only)
    }

    fn engine_load(&self) -> EngineLoad {
        let (active, ready, active_max) = self.core.scheduler.slot_load();
        let (budget_stops, loops) = self.core.activity.counts.stop_totals();
        let (input_tokens, output_tokens) = self.core.activity.counts.token_totals();
        let tasks = self.core.activity.counts.task_counts();
        EngineLoad { active, ready, active_max, tasks, budget_stops, loops, input_tokens, output_tokens }
    }
}
