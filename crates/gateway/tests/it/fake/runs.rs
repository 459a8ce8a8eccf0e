//! The engine of the tests: every input is answered with `you said: …`, or as the mood says.

use dromia_contracts::agent::{
    AgentRecord, AgentState, ErasureCounts, HandleSlug, TenantErasureCounts, TenantRecord,
};
use dromia_contracts::approval::{AnswerRecord, ApprovalRequest, ApprovalRuleRecord, DeclaredRule};
use dromia_contracts::budget::BudgetDefinition;
use dromia_contracts::compaction::{CompactionAnswer, ContextUse, PlannedCompaction};
use dromia_contracts::content::{AssistantMessage, ContentPart, parts_text};
use dromia_contracts::encoded_request::{BodyDigest, RequestEncoding, SentEncoding, TaintedPast};
use dromia_contracts::entry::{Entry, ModelCalled, ModelReplied, RunCompleted, RunStarted};
use dromia_contracts::input::InputBody;
use dromia_contracts::label::Label;
use dromia_contracts::mind::AgentMind;
use dromia_contracts::model::{FinishReason, TokenUsage, UsageDetail};
use dromia_contracts::retention::{IdleSession, RetentionPolicy, SessionHold};
use dromia_contracts::revision::AgentChange;
use dromia_contracts::run::{RunHead, RunKind, RunRecord, RunStatus};
use dromia_contracts::runs::{
    ApprovalDecision, EngineLoad, EnginePort, ImportLabels, InputReceipt, InputTarget, KillTarget, NewAgent,
    NewInput, NewRule, NewToken, RetentionPage, RunEndMode, RunOutcome, RunStatusReason, SentRequest,
    SessionExport, Watch,
};
use dromia_contracts::store::{
    ApprovalRuleRemove, BudgetRemove, BudgetSet, Mutation, Store as _, StoredEntry, TenantCreate,
};
use dromia_contracts::task::TaskCounts;
use dromia_contracts::token::{TokenRecord, TokenScopes};
use dromia_contracts::usage::{UsageCounts, UsageRow};
use dromia_contracts::{
    AgentId, ApprovalId, BoxFuture, Digest, ErrorCode, Fault, ItemId, OperatorScope, RunId, Scope, SessionId,
    TenantId, TokenId,
};
use futures_util::stream;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{Inner, Mood, Rooms};
use crate::world::stored;

fn not_found(code: ErrorCode, noun: &str) -> Fault {
    Fault::new(code, format!("no such {noun}"))
}

fn ready<T: Send + 'static>(value: Result<T, Fault>) -> BoxFuture<'static, Result<T, Fault>> {
    Box::pin(std::future::ready(value))
}

/// An entry as the store keeps it.
pub(crate) fn kept(seq: u64, entry: &Entry) -> StoredEntry {
    stored(seq, entry.kind().0, &entry.encode(), None)
}

/// The entry of a model's answer.
pub(crate) fn replied(seq: u64, step: u32, text: &str, finish: FinishReason) -> StoredEntry {
    let entry = Entry::ModelReplied(ModelReplied {
        step,
        attempt: 1,
        usage: TokenUsage { input_tokens: 3, output_tokens: 5 },
        detail: UsageDetail { cache_read_tokens: 1, cache_write_tokens: 0, reasoning_tokens: 2 },
        cost_micros: 42,
        finish,
        stopped_at: None,
        tools: Vec::new(),
        clean: true,
        withheld: None,
        masked: Vec::new(),
    });
    let parts = if text.is_empty() { vec![] } else { vec![ContentPart::new_text(text, Label::ACTOR_TEXT)] };
    let body = serde_json::to_string(&AssistantMessage { parts, calls: vec![] }).unwrap();
    stored(seq, entry.kind().0, &entry.encode(), Some(&body))
}

impl Inner {
    fn visible_run(&self, scope: &Scope, run: RunId) -> Result<usize, Fault> {
        let found = self.runs.iter().position(|(tenant, row)| *tenant == scope.tenant() && row.id == run);
        found.ok_or_else(|| not_found(ErrorCode::RunNotFound, "run"))
    }

    fn visible_agent(&mut self, scope: &Scope, agent: AgentId) -> Result<&mut AgentRecord, Fault> {
        let found =
            self.agents.iter_mut().find(|(tenant, row, _)| *tenant == scope.tenant() && row.id == agent);
        found.map(|(_, row, _)| row).ok_or_else(|| not_found(ErrorCode::AgentNotFound, "agent"))
    }

    fn visible_session(&self, scope: &Scope, session: SessionId) -> Result<SessionId, Fault> {
        let found = self.sessions.iter().any(|(tenant, row)| *tenant == scope.tenant() && row.id == session);
        if found { Ok(session) } else { Err(not_found(ErrorCode::SessionNotFound, "session")) }
    }

    /// Writes the run of an input down: whole where it is answered at once, else as far as its model is asked.
    fn begin(&mut self, scope: &Scope, input: &NewInput, session: SessionId, item: ItemId, run: RunId) {
        let at = Timestamp::UNIX_EPOCH;
        let agent = match &input.target {
            InputTarget::Key { agent, .. } | InputTarget::Fresh { agent, .. } => *agent,
            InputTarget::Session(id) => {
                self.sessions.iter().find(|(_, row)| row.id == *id).map(|(_, row)| row.agent).unwrap()
            }
        };
        let started = RunStarted {
            kind: RunKind::Turn,
            agent,
            session,
            items: vec![item],
            after: 0,
            resumes: None,
            approved: None,
            origin: None,
            workspace: None,
            summary: None,
            briefing: None,
            config: Digest::default(),
            prompt: Digest::default(),
            layers: Vec::new(),
            model: None,
            mind: AgentMind::Solo,
            woken: 0,
            model_calls_max: 50,
            deadline: None,
        };
        let called = ModelCalled {
            step: 1,
            attempt: 1,
            model: "default".into(),
            history_from: 1,
            input_tokens: 3,
            output_tokens_max: 100,
            reserved_micros: 0,
            unpriced: false,
            sent: serde_json::from_str(r#"{"form":"chat/1","model":"m","digest":"0001020304050607"}"#)
                .expect("is data"),
            judged: None,
        };
        let mut journal = vec![kept(1, &Entry::RunStarted(started)), kept(2, &Entry::ModelCalled(called))];
        let mut status = RunStatus::Running;
        if self.mood == Mood::Answers {
            let text = format!("you said: {}", parts_text(&input.parts));
            journal.push(replied(3, 1, &text, FinishReason::Stop));
            journal.push(kept(4, &Entry::RunCompleted(RunCompleted { rule: "reply".into(), policy: None })));
            status = RunStatus::Completed;
        }
        let head = RunHead {
            status,
            wake_at: None,
            model_calls: 1,
            usage: TokenUsage { input_tokens: 3, output_tokens: 5 },
            cost_micros: 42,
            unpriced_calls: 0,
        };
        let last_seq = journal.len() as u64;
        self.journals.insert(run, journal);
        let run = RunRecord {
            id: run,
            kind: RunKind::Turn,
            agent,
            session,
            started_at: at,
            updated_at: at,
            last_seq,
            epoch: 1,
            entry_epoch: 1,
            head,
            signals_last: 0,
            signals_taken: 0,
            holder: None,
        };
        self.runs.push((scope.tenant(), run));
    }

    fn submitted(&mut self, scope: &Scope, input: NewInput) -> Result<InputReceipt, Fault> {
        let session = match &input.target {
            InputTarget::Session(session) => self.visible_session(scope, *session)?,
            InputTarget::Key { agent, .. } | InputTarget::Fresh { agent, .. } => {
                self.visible_agent(scope, *agent)?;
                SessionId::from_uuid(self.uuid())
            }
        };
        let mut known = (ItemId::from_uuid(self.uuid()), session, RunId::from_uuid(self.uuid()), false);
        if let Some(key) = &input.key {
            let id = (scope.tenant(), key.key.clone());
            match self.keys.get(&id) {
                Some((request, ..)) if *request != key.request => {
                    return Err(Fault::new(
                        ErrorCode::IdempotencyConflict,
                        "the key was used for something else",
                    ));
                }
                Some((_, item, session, run)) => known = (*item, *session, *run, true),
                None => {
                    self.keys.insert(id, (key.request, known.0, session, known.2));
                }
            }
        }
        let (item, session, run, replayed) = known;
        let text = parts_text(&input.parts);
        let mood = self.mood;
        let (wait, thought) = (input.wait, self.thought.clone());
        if !replayed {
            self.begin(scope, &input, session, item, run);
        }
        self.inputs.push(input);
        let outcome = async move {
            if mood == Mood::Thinks {
                thought.cancelled().await;
            }
            Ok(RunOutcome {
                run,
                last_seq: 4,
                head: RunHead {
                    status: RunStatus::Completed,
                    wake_at: None,
                    model_calls: 1,
                    usage: TokenUsage { input_tokens: 3, output_tokens: 5 },
                    cost_micros: 42,
                    unpriced_calls: 0,
                },
                reply: Some(vec![ContentPart::new_text(format!("you said: {text}"), Label::ACTOR_TEXT)]),
                failure: None,
            })
        };
        let outcome: Option<BoxFuture<'static, _>> = if wait { Some(Box::pin(outcome)) } else { None };
        Ok(InputReceipt { item, session, position: 1, run: Some(run), replayed, outcome })
    }
}

impl EnginePort for Rooms {
    fn submit_input(&self, scope: Scope, input: NewInput) -> BoxFuture<'_, Result<InputReceipt, Fault>> {
        let mut inner = self.lock();
        if inner.mood == Mood::Panics {
            drop(inner);
            panic!("the engine's secret");
        }
        ready(inner.submitted(&scope, input))
    }

    /// A word is a token.
    fn count_tokens(
        &self,
        scope: Scope,
        agent: AgentId,
        body: InputBody,
    ) -> BoxFuture<'_, Result<u32, Fault>> {
        let mut inner = self.lock();
        let words = parts_text(&body.message.parts).split_whitespace().count();
        ready(inner.visible_agent(&scope, agent).map(|_| u32::try_from(words).unwrap()))
    }

    fn watch_run(&self, scope: Scope, run: RunId) -> BoxFuture<'_, Result<Watch, Fault>> {
        let mut inner = self.lock();
        let watched = inner.visible_run(&scope, run).map(|_| {
            let (tx, rx) = mpsc::unbounded_channel();
            inner.watchers.entry(run).or_default().push(tx);
            let watch: Watch = Box::pin(stream::unfold(rx, |mut rx| async { Some((rx.recv().await?, rx)) }));
            watch
        });
        ready(watched)
    }

    fn explain_run(&self, scope: Scope, run: RunId) -> BoxFuture<'_, Result<RunStatusReason, Fault>> {
        let inner = self.lock();
        ready(inner.visible_run(&scope, run).map(|index| RunStatusReason {
            status: inner.runs[index].1.head.status,
            waits_for: "the model".into(),
            since: Timestamp::UNIX_EPOCH,
            unblocked_by: "the model".into(),
            command: None,
            declared: None,
        }))
    }

    /// Every run has one model call, of step 1.
    fn session_context(&self, scope: Scope, session: SessionId) -> BoxFuture<'_, Result<ContextUse, Fault>> {
        let inner = self.lock();
        ready(inner.visible_session(&scope, session).map(|_| ContextUse {
            model: "scripted".to_owned(),
            window: 32_768,
            is_window_known: false,
            system_tokens: 10,
            tools_tokens: 20,
            summary_tokens: 0,
            past_tokens: 30,
            output_tokens_max: 4_096,
            summaries: Vec::new(),
            left_out: 0,
            percent: 12,
            compaction_percent: 80,
        }))
    }

    fn compact_session(
        &self,
        scope: Scope,
        session: SessionId,
        dry_run: bool,
    ) -> BoxFuture<'_, Result<CompactionAnswer, Fault>> {
        let inner = self.lock();
        ready(inner.visible_session(&scope, session).map(|_| {
            let place = (!dry_run).then_some(session);
            CompactionAnswer::Planned(PlannedCompaction { session: place, from: 1, upto: 7, bytes: 9_000 })
        }))
    }

    fn rebuild_request(
        &self,
        scope: Scope,
        run: RunId,
        step: u32,
        attempt: Option<u32>,
    ) -> BoxFuture<'_, Result<SentRequest, Fault>> {
        let found = self.lock().visible_run(&scope, run);
        ready(found.and_then(|_| {
            if step != 1 {
                return Err(not_found(ErrorCode::RequestNotFound, "request"));
            }
            let wording = RequestEncoding {
                by: Some("spare".into()),
                form: "chat/1".into(),
                model: "m-1".into(),
                whole: true,
                limit: None,
                left_out: 0,
                shortened: 0,
                tainted_past: TaintedPast::Whole,
                answer_field: false,
                concludes: false,
            };
            let sent = SentEncoding { wording, digest: BodyDigest::truncate_digest(&[7; 32]) };
            let attempt = attempt.unwrap_or(2);
            let body = bytes::Bytes::from_static(br#"{"model":"m-1", "messages":[]}"#);
            Ok(SentRequest { step, attempt, alias: "spare".into(), sent, body })
        }))
    }

    fn end_run(&self, scope: Scope, run: RunId, _: RunEndMode) -> BoxFuture<'_, Result<(), Fault>> {
        let mut inner = self.lock();
        let ended = inner.visible_run(&scope, run);
        ready(ended.map(|index| inner.runs[index].1.head.status = RunStatus::Cancelled))
    }

    fn agent_kill(
        &self,
        scope: Scope,
        agent: AgentId,
        what: KillTarget,
    ) -> BoxFuture<'_, Result<Vec<RunId>, Fault>> {
        let mut inner = self.lock();
        let found = inner.visible_agent(&scope, agent).map(|_| ()).and_then(|()| match what {
            KillTarget::Run(run) => inner.visible_run(&scope, run).map(|_| ()),
            KillTarget::Session(session) => inner.visible_session(&scope, session).map(|_| ()),
            KillTarget::All => Ok(()),
        });
        ready(found.map(|()| {
            let of_agent = |row: &RunRecord| match what {
                KillTarget::Run(run) => row.id == run,
                KillTarget::Session(session) => row.session == session,
                KillTarget::All => row.agent == agent,
            };
            let open = inner.runs.iter_mut().map(|(_, row)| row);
            let open = open.filter(|row| !row.head.status.is_terminal() && of_agent(row));
            open.map(|row| {
                row.head.status = RunStatus::Cancelled;
                row.id
            })
            .collect()
        }))
    }

    fn resume_run(&self, scope: Scope, run: RunId) -> BoxFuture<'_, Result<InputReceipt, Fault>> {
        let inner = self.lock();
        ready(inner.visible_run(&scope, run).map(|index| InputReceipt {
            item: ItemId::from_bytes([1; 16]),
            session: inner.runs[index].1.session,
            position: 2,
            run: None,
            replayed: false,
            outcome: None,
        }))
    }

    fn export_session(
        &self,
        scope: Scope,
        session: SessionId,
    ) -> BoxFuture<'_, Result<SessionExport, Fault>> {
        let exported = SessionExport { file: b"a session".to_vec(), open_runs: 1, waiting_inputs: 2 };
        ready(self.lock().visible_session(&scope, session).map(|_| exported))
    }

    fn import_session(
        &self,
        scope: Scope,
        agent: AgentId,
        file: Vec<u8>,
        labels: ImportLabels,
        copy: Option<String>,
    ) -> BoxFuture<'_, Result<SessionId, Fault>> {
        let waits = self.lock().import_waits.take();
        Box::pin(async move {
            if let Some(waits) = waits {
                waits.await.unwrap();
            }
            let mut inner = self.lock();
            inner.imported.push(labels);
            inner.copies.extend(copy);
            assert_eq!(file, b"a session", "the file came whole");
            let imported = inner.visible_agent(&scope, agent).map(|_| ());
            let session = SessionId::from_uuid(inner.uuid());
            imported.map(|()| session)
        })
    }

    fn tenant_create(
        &self,
        _: OperatorScope,
        handle: HandleSlug,
        token_name: String,
    ) -> BoxFuture<'_, Result<(TenantRecord, String), Fault>> {
        let mut inner = self.lock();
        if inner.tenants.iter().any(|tenant| tenant.handle == handle) {
            return ready(Err(Fault::new(ErrorCode::HandleTaken, "the handle is taken")));
        }
        let id = TenantId::from_uuid(inner.uuid());
        let tenant = TenantRecord { id, handle, created_at: Timestamp::UNIX_EPOCH, suspended_at: None };
        inner.tenants.push(tenant.clone());
        let create = TenantCreate { handle: tenant.handle.clone(), at: tenant.created_at, body_key: [1; 32] };
        self.settle(id, Mutation::TenantCreate(create));
        let token = format!("drm_{id}");
        inner.token(id, &token, NewToken { name: token_name, scopes: TokenScopes::ADMIN, expires_at: None });
        ready(Ok((tenant, token)))
    }

    fn tenant_suspend(
        &self,
        _: OperatorScope,
        tenant: TenantRecord,
        suspended: bool,
    ) -> BoxFuture<'_, Result<TenantRecord, Fault>> {
        let mut inner = self.lock();
        let (at, hides) = (suspended.then_some(inner.now), inner.hides_suspension);
        let owners = inner.tokens.values_mut().map(|owner| &mut owner.tenant);
        owners.filter(|known| known.id == tenant.id && !hides).for_each(|known| known.suspended_at = at);
        let known = inner.tenants.iter_mut().find(|known| known.id == tenant.id).expect("it was found");
        known.suspended_at = at;
        ready(Ok(known.clone()))
    }

    fn tenant_delete(
        &self,
        _: OperatorScope,
        tenant: TenantId,
    ) -> BoxFuture<'_, Result<TenantErasureCounts, Fault>> {
        let mut inner = self.lock();
        inner.tenants.retain(|known| known.id != tenant);
        inner.tokens.retain(|_, owner| owner.tenant.id != tenant);
        ready(Ok(TenantErasureCounts::default()))
    }

    fn token_create(
        &self,
        scope: Scope,
        new: NewToken,
    ) -> BoxFuture<'_, Result<(TokenRecord, String), Fault>> {
        let mut inner = self.lock();
        let secret = format!("drm_{}", inner.uuid());
        let token = inner.token(scope.tenant(), &secret, new);
        ready(Ok((token, secret)))
    }

    fn token_revoke(&self, scope: Scope, token: TokenId) -> BoxFuture<'_, Result<TokenRecord, Fault>> {
        let waits = self.lock().revocation_waits.take();
        Box::pin(async move {
            if let Some(waits) = waits {
                waits.await.unwrap();
            }
            let mut inner = self.lock();
            let now = inner.now;
            let mut mine = inner.tokens.values_mut().filter(|owner| owner.tenant.id == scope.tenant());
            let found = mine.find(|owner| owner.token.id == token);
            let owner = found.ok_or_else(|| not_found(ErrorCode::TokenNotFound, "token"))?;
            owner.token.revoked_at.get_or_insert(now);
            Ok(owner.token.clone())
        })
    }

    fn approval_answer(
        &self,
        scope: Scope,
        id: ApprovalId,
        also: Vec<ApprovalId>,
        answer: ApprovalDecision,
    ) -> BoxFuture<'_, Result<ApprovalRequest, Fault>> {
        let mut inner = self.lock();
        let now = inner.now;
        let (approved, reach) = match answer {
            ApprovalDecision::Approve(reach) => (true, Some(reach)),
            ApprovalDecision::Deny { .. } => (false, None),
        };
        let answered = AnswerRecord { by: scope.actor().clone(), at: now, reason: String::new(), reach };
        // As the engine does it: all of them, or none.
        let mut rows = inner.approvals.clone();
        let mut moved = Vec::new();
        for named in std::iter::once(id).chain(also) {
            let mine = |(tenant, row): &&mut (TenantId, ApprovalRequest)| {
                *tenant == scope.tenant() && row.id == named
            };
            let Some((_, row)) = rows.iter_mut().find(mine) else {
                let code = if named == id { ErrorCode::ApprovalNotFound } else { ErrorCode::InvalidRequest };
                return ready(Err(not_found(code, "approval")));
            };
            if let Err(state) = row.record_answer(row.state, approved, &answered) {
                return ready(Err(Fault::new(ErrorCode::ApprovalClosed, format!("{named} is {state}"))));
            }
            moved.push(row.clone());
        }
        inner.approvals = rows;
        ready(Ok(moved.swap_remove(0)))
    }

    fn approval_rule_add(
        &self,
        scope: Scope,
        rule: NewRule,
    ) -> BoxFuture<'_, Result<ApprovalRuleRecord, Fault>> {
        let now = self.lock().now;
        let rule = ApprovalRuleRecord {
            name: rule.name,
            answer: rule.answer,
            rule: rule.rule,
            agent: rule.agent,
            session: rule.session,
            owner: scope.actor().clone(),
            created_at: now,
            expires_at: rule.expires_at.unwrap_or(Timestamp::MAX),
        };
        self.settle(scope.tenant(), Mutation::ApprovalRulePut(rule.clone()));
        ready(Ok(rule))
    }

    fn approval_rules_declared(&self) -> Vec<DeclaredRule> {
        self.lock().declared_rules.clone()
    }

    fn approval_rule_remove(
        &self,
        scope: Scope,
        name: String,
    ) -> BoxFuture<'_, Result<ApprovalRuleRecord, Fault>> {
        Box::pin(async move {
            let rules = self.outgoing.approval_rules(&scope).await.unwrap();
            let Some(rule) = rules.into_iter().find(|rule| rule.name == name) else {
                return Err(not_found(ErrorCode::ApprovalRuleNotFound, "rule"));
            };
            self.settle(scope.tenant(), Mutation::ApprovalRuleRemove(ApprovalRuleRemove { name }));
            Ok(rule)
        })
    }

    fn budget_set(
        &self,
        scope: Scope,
        budget: BudgetDefinition,
    ) -> BoxFuture<'_, Result<BudgetDefinition, Fault>> {
        self.settle(scope.tenant(), Mutation::BudgetSet(BudgetSet { budget: budget.clone() }));
        ready(Ok(budget))
    }

    fn budget_remove(&self, scope: Scope, name: String) -> BoxFuture<'_, Result<BudgetDefinition, Fault>> {
        Box::pin(async move {
            let budgets = self.outgoing.budgets(&scope, Timestamp::UNIX_EPOCH).await.unwrap();
            let Some(found) = budgets.into_iter().find(|found| found.budget.name == name) else {
                return Err(not_found(ErrorCode::BudgetNotFound, "budget"));
            };
            self.settle(scope.tenant(), Mutation::BudgetRemove(BudgetRemove { name }));
            Ok(found.budget)
        })
    }

    fn agent_create(&self, scope: Scope, agent: NewAgent) -> BoxFuture<'_, Result<AgentRecord, Fault>> {
        let mut inner = self.lock();
        let row = AgentRecord {
            id: AgentId::from_uuid(inner.uuid()),
            handle: agent.handle,
            display_name: agent.display_name,
            labels: agent.labels,
            created_at: Timestamp::UNIX_EPOCH,
            state: AgentState::Running,
            revision: Digest::default(),
            revision_number: 1,
        };
        inner.agents.push((scope.tenant(), row.clone(), agent.config));
        ready(Ok(row))
    }

    fn agent_change(
        &self,
        scope: Scope,
        agent: AgentId,
        change: AgentChange,
    ) -> BoxFuture<'_, Result<AgentRecord, Fault>> {
        let mut inner = self.lock();
        ready(inner.visible_agent(&scope, agent).and_then(|agent| match change.expected {
            Some(expected) if expected != agent.revision_number => {
                Err(Fault::new(ErrorCode::VersionConflict, "the agent is at another revision"))
            }
            Some(_) | None => {
                agent.revision_number += 1;
                Ok(agent.clone())
            }
        }))
    }

    fn agent_rename(
        &self,
        scope: Scope,
        agent: AgentId,
        handle: HandleSlug,
    ) -> BoxFuture<'_, Result<AgentRecord, Fault>> {
        let mut inner = self.lock();
        ready(inner.visible_agent(&scope, agent).map(|agent| {
            agent.handle = handle;
            agent.clone()
        }))
    }

    fn agent_set_state(
        &self,
        scope: Scope,
        agent: AgentId,
        to: AgentState,
    ) -> BoxFuture<'_, Result<AgentRecord, Fault>> {
        let mut inner = self.lock();
        ready(inner.visible_agent(&scope, agent).map(|agent| {
            agent.state = to;
            agent.clone()
        }))
    }

    fn agent_delete(&self, scope: Scope, agent: AgentId) -> BoxFuture<'_, Result<ErasureCounts, Fault>> {
        let mut inner = self.lock();
        let deleted = inner
            .visible_agent(&scope, agent)
            .map(|_| ErasureCounts { sessions: 1, ..ErasureCounts::default() });
        if deleted.is_ok() {
            inner.agents.retain(|(_, row, _)| row.id != agent);
        }
        ready(deleted)
    }

    fn session_delete(
        &self,
        scope: Scope,
        session: SessionId,
    ) -> BoxFuture<'_, Result<ErasureCounts, Fault>> {
        let found = self.lock().visible_session(&scope, session);
        ready(found.map(|_| ErasureCounts { sessions: 1, ..ErasureCounts::default() }))
    }

    fn session_hold_set(
        &self,
        scope: Scope,
        session: SessionId,
        held: bool,
    ) -> BoxFuture<'_, Result<Option<SessionHold>, Fault>> {
        let hold = SessionHold { by: scope.actor().clone(), since: Timestamp::UNIX_EPOCH };
        ready(self.lock().visible_session(&scope, session).map(|_| held.then_some(hold)))
    }

    fn retention_policy(&self, _: Scope) -> BoxFuture<'_, Result<RetentionPolicy, Fault>> {
        ready(Ok(RetentionPolicy { sessions: Some(jiff::SignedDuration::from_hours(48)) }))
    }

    fn retention_page(
        &self,
        scope: Scope,
        _: Option<SessionId>,
        _: bool,
    ) -> BoxFuture<'_, Result<RetentionPage, Fault>> {
        let inner = self.lock();
        let ours = inner.sessions.iter().filter(|(tenant, _)| *tenant == scope.tenant());
        let due = ours.map(|(_, session)| IdleSession {
            session: session.id,
            agent: session.agent,
            children: 0,
            runs: 1,
            bytes: 9,
            last_at: session.opened_at,
        });
        ready(Ok(RetentionPage { due: due.collect(), ..RetentionPage::default() }))
    }

    fn is_imported(&self, _: SessionId, run: RunId) -> bool {
        self.lock().brought.contains(&run)
    }

    fn model_aliases(&self) -> Vec<String> {
        vec!["default".to_owned()]
    }

    fn usage_rows(&self, only: Option<TenantId>) -> Vec<UsageRow> {
        let inner = self.lock();
        let row = |tenant: &TenantId, agent: AgentId| {
            let mut counts = UsageCounts::default();
            counts.count_outcome("ok");
            UsageRow { tenant: Some(*tenant), agent: Some(agent), model: "default".into(), counts }
        };
        let rows = inner.agents.iter().map(|(tenant, agent, _)| row(tenant, agent.id));
        rows.filter(|row| inner.leaks_usage || only.is_none() || row.tenant == only).collect()
    }

    fn engine_load(&self) -> EngineLoad {
        let tasks = TaskCounts { pending: 5, running: 4, paused: 3, completed: 2, failed: 1 };
        EngineLoad {
            active: 1,
            ready: 2,
            active_max: 64,
            tasks,
            budget_stops: 7,
            loops: 6,
            input_tokens: 8,
            output_tokens: 9,
        }
    }
}
