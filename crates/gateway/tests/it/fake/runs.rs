//! The engine of the tests: every input is answered with `you said: …`, or as the mood says.

use dromia_contracts::agent::{Agent, AgentState, Erased, Handle, Tenant};
use dromia_contracts::approval::{Answered, Approval, ApprovalRule, DeclaredRule};
use dromia_contracts::budget::Budget;
use dromia_contracts::content::{AssistantMessage, Part, parts_text};
use dromia_contracts::entry::{Entry, ModelCalled, ModelReplied, RunCompleted, RunStarted};
use dromia_contracts::input::InputBody;
use dromia_contracts::label::Label;
use dromia_contracts::model::{Finish, Usage, UsageDetail};
use dromia_contracts::run::{Run, RunHead, RunKind, RunStatus};
use dromia_contracts::runs::{
    Answer, End, Exported, ImportLabels, Kill, Load, NewAgent, NewInput, NewRule, NewToken, Outcome, Runs,
    SentRequest, Submitted, Target, Watch, Why,
};
use dromia_contracts::sent::{BodyDigest, Sent, TaintedPast, Wording};
use dromia_contracts::store::StoredEntry;
use dromia_contracts::task::TaskCounts;
use dromia_contracts::token::{Token, TokenScopes};
use dromia_contracts::{
    AgentId, ApprovalId, BoxFuture, Digest, ErrorCode, Fault, ItemId, Operator, RunId, Scope, SessionId,
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
pub(crate) fn replied(seq: u64, step: u32, text: &str, finish: Finish) -> StoredEntry {
    let entry = Entry::ModelReplied(ModelReplied {
        step,
        attempt: 1,
        usage: Usage { input_tokens: 3, output_tokens: 5 },
        detail: UsageDetail { cache_read_tokens: 1, cache_write_tokens: 0, reasoning_tokens: 2 },
        cost_micros: 42,
        finish,
        stopped_at: None,
        tools: Vec::new(),
        clean: true,
        withheld: None,
        masked: Vec::new(),
    });
    let parts = if text.is_empty() { vec![] } else { vec![Part::text(text, Label::ACTOR_TEXT)] };
    let body = serde_json::to_string(&AssistantMessage { parts, calls: vec![] }).unwrap();
    stored(seq, entry.kind().0, &entry.encode(), Some(&body))
}

impl Inner {
    fn visible_run(&self, scope: &Scope, run: RunId) -> Result<usize, Fault> {
        let found = self.runs.iter().position(|(tenant, row)| *tenant == scope.tenant() && row.id == run);
        found.ok_or_else(|| not_found(ErrorCode::RunNotFound, "run"))
    }

    fn visible_agent(&mut self, scope: &Scope, agent: AgentId) -> Result<&mut Agent, Fault> {
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
            Target::Key { agent, .. } | Target::Fresh { agent, .. } => *agent,
            Target::Session(id) => {
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
            config: Digest::default(),
            prompt: Digest::default(),
            model_calls_max: 50,
        };
        let called = ModelCalled {
            step: 1,
            attempt: 1,
            model: "default".into(),
            history_from: 1,
            input_tokens: 3,
            output_tokens_max: 100,
            reserved_micros: 0,
            sent: None,
        };
        let mut journal = vec![kept(1, &Entry::RunStarted(started)), kept(2, &Entry::ModelCalled(called))];
        let mut status = RunStatus::Running;
        if self.mood == Mood::Answers {
            let text = format!("you said: {}", parts_text(&input.parts));
            journal.push(replied(3, 1, &text, Finish::Stop));
            journal.push(kept(4, &Entry::RunCompleted(RunCompleted { rule: "reply".into(), policy: None })));
            status = RunStatus::Completed;
        }
        let head = RunHead {
            status,
            wake_at: None,
            model_calls: 1,
            usage: Usage { input_tokens: 3, output_tokens: 5 },
            cost_micros: 42,
        };
        let last_seq = journal.len() as u64;
        self.journals.insert(run, journal);
        let run = Run {
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
        };
        self.runs.push((scope.tenant(), run));
    }

    fn submitted(&mut self, scope: &Scope, input: NewInput) -> Result<Submitted, Fault> {
        let session = match &input.target {
            Target::Session(session) => self.visible_session(scope, *session)?,
            Target::Key { agent, .. } | Target::Fresh { agent, .. } => {
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
        let wait = input.wait;
        if !replayed {
            self.begin(scope, &input, session, item, run);
        }
        self.inputs.push(input);
        let outcome = async move {
            if mood == Mood::Thinks {
                std::future::pending::<()>().await;
            }
            Ok(Outcome {
                run,
                last_seq: 4,
                head: RunHead {
                    status: RunStatus::Completed,
                    wake_at: None,
                    model_calls: 1,
                    usage: Usage { input_tokens: 3, output_tokens: 5 },
                    cost_micros: 42,
                },
                reply: Some(vec![Part::text(format!("you said: {text}"), Label::ACTOR_TEXT)]),
                failure: None,
            })
        };
        let outcome: Option<BoxFuture<'static, _>> = if wait { Some(Box::pin(outcome)) } else { None };
        Ok(Submitted { item, session, position: 1, run: Some(run), replayed, outcome })
    }
}

impl Runs for Rooms {
    fn submit(&self, scope: Scope, input: NewInput) -> BoxFuture<'_, Result<Submitted, Fault>> {
        let mut inner = self.lock();
        if inner.mood == Mood::Panics {
            drop(inner);
            panic!("the engine's secret");
        }
        ready(inner.submitted(&scope, input))
    }

    /// A word is a token.
    fn count(&self, scope: Scope, agent: AgentId, body: InputBody) -> BoxFuture<'_, Result<u32, Fault>> {
        let mut inner = self.lock();
        let words = parts_text(&body.message.parts).split_whitespace().count();
        ready(inner.visible_agent(&scope, agent).map(|_| u32::try_from(words).unwrap()))
    }

    fn watch(&self, scope: Scope, run: RunId) -> BoxFuture<'_, Result<Watch, Fault>> {
        let mut inner = self.lock();
        let watched = inner.visible_run(&scope, run).map(|_| {
            let (tx, rx) = mpsc::unbounded_channel();
            inner.watchers.entry(run).or_default().push(tx);
            let watch: Watch = Box::pin(stream::unfold(rx, |mut rx| async { Some((rx.recv().await?, rx)) }));
            watch
        });
        ready(watched)
    }

    fn why(&self, scope: Scope, run: RunId) -> BoxFuture<'_, Result<Why, Fault>> {
        let inner = self.lock();
        ready(inner.visible_run(&scope, run).map(|index| Why {
            status: inner.runs[index].1.head.status,
            waits_for: "the model".into(),
            since: Timestamp::UNIX_EPOCH,
            unblocked_by: "the model".into(),
            command: None,
            declared: None,
        }))
    }

    /// Every run has one model call, of step 1.
    fn request(
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
            let wording = Wording {
                by: Some("spare".into()),
                form: "chat/1".into(),
                model: "m-1".into(),
                whole: true,
                limit: None,
                left_out: 0,
                tainted_past: TaintedPast::Whole,
            };
            let sent = Sent { wording, digest: BodyDigest::of(&[7; 32]) };
            let attempt = attempt.unwrap_or(2);
            let body = bytes::Bytes::from_static(br#"{"model":"m-1", "messages":[]}"#);
            Ok(SentRequest { step, attempt, alias: "spare".into(), sent, body })
        }))
    }

    fn end(&self, scope: Scope, run: RunId, _: End) -> BoxFuture<'_, Result<(), Fault>> {
        let mut inner = self.lock();
        let ended = inner.visible_run(&scope, run);
        ready(ended.map(|index| inner.runs[index].1.head.status = RunStatus::Cancelled))
    }

    fn agent_kill(
        &self,
        scope: Scope,
        agent: AgentId,
        what: Kill,
    ) -> BoxFuture<'_, Result<Vec<RunId>, Fault>> {
        let mut inner = self.lock();
        let found = inner.visible_agent(&scope, agent).map(|_| ()).and_then(|()| match what {
            Kill::Run(run) => inner.visible_run(&scope, run).map(|_| ()),
            Kill::Session(session) => inner.visible_session(&scope, session).map(|_| ()),
            Kill::All => Ok(()),
        });
        ready(found.map(|()| {
            let of_agent = |row: &Run| match what {
                Kill::Run(run) => row.id == run,
                Kill::Session(session) => row.session == session,
                Kill::All => row.agent == agent,
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

    fn resume(&self, scope: Scope, run: RunId) -> BoxFuture<'_, Result<Submitted, Fault>> {
        let inner = self.lock();
        ready(inner.visible_run(&scope, run).map(|index| Submitted {
            item: ItemId::from_bytes([1; 16]),
            session: inner.runs[index].1.session,
            position: 2,
            run: None,
            replayed: false,
            outcome: None,
        }))
    }

    fn export(&self, scope: Scope, session: SessionId) -> BoxFuture<'_, Result<Exported, Fault>> {
        let exported = Exported { file: b"a session".to_vec(), open_runs: 1, waiting_inputs: 2 };
        ready(self.lock().visible_session(&scope, session).map(|_| exported))
    }

    fn import(
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
        _: Operator,
        handle: Handle,
        token_name: String,
    ) -> BoxFuture<'_, Result<(Tenant, String), Fault>> {
        let mut inner = self.lock();
        if inner.tenants.iter().any(|tenant| tenant.handle == handle) {
            return ready(Err(Fault::new(ErrorCode::HandleTaken, "the handle is taken")));
        }
        let id = TenantId::from_uuid(inner.uuid());
        let tenant = Tenant { id, handle, created_at: Timestamp::UNIX_EPOCH };
        inner.tenants.push(tenant.clone());
        let token = format!("drm_{id}");
        inner.token(id, &token, NewToken { name: token_name, scopes: TokenScopes::ADMIN, expires_at: None });
        ready(Ok((tenant, token)))
    }

    fn token_create(&self, scope: Scope, new: NewToken) -> BoxFuture<'_, Result<(Token, String), Fault>> {
        let mut inner = self.lock();
        let secret = format!("drm_{}", inner.uuid());
        let token = inner.token(scope.tenant(), &secret, new);
        ready(Ok((token, secret)))
    }

    fn token_revoke(&self, scope: Scope, token: TokenId) -> BoxFuture<'_, Result<Token, Fault>> {
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
        answer: Answer,
    ) -> BoxFuture<'_, Result<Approval, Fault>> {
        let mut inner = self.lock();
        let now = inner.now;
        let (approved, reach) = match answer {
            Answer::Approve(reach) => (true, Some(reach)),
            Answer::Deny { .. } => (false, None),
        };
        let answered = Answered { by: scope.actor().clone(), at: now, reason: String::new(), reach };
        // As the engine does it: all of them, or none.
        let mut rows = inner.approvals.clone();
        let mut moved = Vec::new();
        for named in std::iter::once(id).chain(also) {
            let mine =
                |(tenant, row): &&mut (TenantId, Approval)| *tenant == scope.tenant() && row.id == named;
            let Some((_, row)) = rows.iter_mut().find(mine) else {
                let code = if named == id { ErrorCode::ApprovalNotFound } else { ErrorCode::InvalidRequest };
                return ready(Err(not_found(code, "approval")));
            };
            if let Err(state) = row.answer(row.state, approved, &answered) {
                return ready(Err(Fault::new(ErrorCode::ApprovalClosed, format!("{named} is {state}"))));
            }
            moved.push(row.clone());
        }
        inner.approvals = rows;
        ready(Ok(moved.swap_remove(0)))
    }

    fn approval_rule_add(&self, scope: Scope, rule: NewRule) -> BoxFuture<'_, Result<ApprovalRule, Fault>> {
        let mut inner = self.lock();
        let now = inner.now;
        let rule = ApprovalRule {
            name: rule.name,
            answer: rule.answer,
            rule: rule.rule,
            agent: rule.agent,
            session: rule.session,
            owner: scope.actor().clone(),
            created_at: now,
            expires_at: rule.expires_at.unwrap_or(Timestamp::MAX),
        };
        inner.approval_rules.retain(|(tenant, known)| *tenant != scope.tenant() || known.name != rule.name);
        inner.approval_rules.push((scope.tenant(), rule.clone()));
        ready(Ok(rule))
    }

    fn approval_rules_declared(&self) -> Vec<DeclaredRule> {
        self.lock().declared_rules.clone()
    }

    fn approval_rule_remove(&self, scope: Scope, name: String) -> BoxFuture<'_, Result<ApprovalRule, Fault>> {
        let mut inner = self.lock();
        let mine =
            |(tenant, known): &(TenantId, ApprovalRule)| *tenant == scope.tenant() && known.name == name;
        let found = inner.approval_rules.iter().position(mine);
        ready(match found {
            Some(at) => Ok(inner.approval_rules.remove(at).1),
            None => Err(not_found(ErrorCode::ApprovalRuleNotFound, "rule")),
        })
    }

    fn budget_set(&self, scope: Scope, budget: Budget) -> BoxFuture<'_, Result<Budget, Fault>> {
        let mut inner = self.lock();
        inner.budgets.retain(|(tenant, known)| *tenant != scope.tenant() || known.name != budget.name);
        inner.budgets.push((scope.tenant(), budget.clone()));
        ready(Ok(budget))
    }

    fn budget_remove(&self, scope: Scope, name: String) -> BoxFuture<'_, Result<Budget, Fault>> {
        let mut inner = self.lock();
        let mine = |(tenant, known): &(TenantId, Budget)| *tenant == scope.tenant() && known.name == name;
        let found = inner.budgets.iter().position(mine);
        ready(match found {
            Some(at) => Ok(inner.budgets.remove(at).1),
            None => Err(not_found(ErrorCode::BudgetNotFound, "budget")),
        })
    }

    fn agent_create(&self, scope: Scope, agent: NewAgent) -> BoxFuture<'_, Result<Agent, Fault>> {
        let mut inner = self.lock();
        let row = Agent {
            id: AgentId::from_uuid(inner.uuid()),
            handle: agent.handle,
            display_name: agent.display_name,
            labels: agent.labels,
            created_at: Timestamp::UNIX_EPOCH,
            state: AgentState::Running,
            revision: Digest::default(),
        };
        inner.agents.push((scope.tenant(), row.clone(), agent.config));
        ready(Ok(row))
    }

    fn agent_set_state(
        &self,
        scope: Scope,
        agent: AgentId,
        to: AgentState,
    ) -> BoxFuture<'_, Result<Agent, Fault>> {
        let mut inner = self.lock();
        ready(inner.visible_agent(&scope, agent).map(|agent| {
            agent.state = to;
            agent.clone()
        }))
    }

    fn agent_delete(&self, scope: Scope, agent: AgentId) -> BoxFuture<'_, Result<Erased, Fault>> {
        let mut inner = self.lock();
        let deleted = inner.visible_agent(&scope, agent).map(|_| Erased { sessions: 1, ..Erased::default() });
        if deleted.is_ok() {
            inner.agents.retain(|(_, row, _)| row.id != agent);
        }
        ready(deleted)
    }

    fn is_imported(&self, _: SessionId, run: RunId) -> bool {
        self.lock().brought.contains(&run)
    }

    fn load(&self) -> Load {
        let tasks = TaskCounts { pending: 5, running: 4, paused: 3, completed: 2, failed: 1 };
        Load { active: 1, ready: 2, active_max: 64, tasks, budget_stops: 7, loops: 6 }
    }
}
