//! How an approval is answered, and how rules that answer ahead are kept.
//!
//! An answer is one commit: how the approval stands from now on, and the signal or the item by which somebody goes on.
//! Where the run that asked still waits, that is a signal in its inbox; where it went on, an approved call is a session of
//! its own with that one item, and a refusal is an input of the session that asked. Which of the two it is the store
//! decides: an approval that moved meanwhile is looked at again. Several approvals of one run are answered by one commit, all
//! of them or none, each by its own id, so nobody allows what he has not seen. A delayed call is answered by the engine in the
//! same way, once its time to cool is over; it carries one hop more than the run that asked, as a message between agents does,
//! so that agents cannot go on for ever by it.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::approval::{
    self, ALSO_MAX, AnswerBody, Answered, Approval, ApprovalRule, ApprovalState, ApprovedBody, Barred,
    DeclaredRule, REASON_BYTES_MAX, Rule, RuleAnswer, RuleTool,
};
use dromia_contracts::capability::{self, approved_at};
use dromia_contracts::content::{InputMessage, Part, ToolCall};
use dromia_contracts::label::Label;
use dromia_contracts::runs::{Answer, NewRule, Reach};
use dromia_contracts::session::{InboxOwner, ItemKind, SessionKey};
use dromia_contracts::store::{
    ApprovalAnswer, ApprovalRuleRemove, Batch, Commit, InboxPut, Mutation, Refusal, SessionOpen,
};
use dromia_contracts::terms::ToolTerms;
use dromia_contracts::{
    Actor, ApprovalId, CapabilityId, ErrorCode, Fault, RunId, Scope, SessionId, TenantId,
};
use futures_util::future::{Either, select};
use jiff::{SignedDuration, Timestamp};

use crate::agents::read_fault;
use crate::core::Core;
use crate::refusal::{agent_terminated, commit_fault, session_not_found};
use crate::scheduler::Ready;

/// How long an answer looks at the files of the programs that it allows, all together.
const LOOK_TIME: SignedDuration = SignedDuration::from_secs(10);

/// How often an approval that moves while it is answered is looked at again.
const TRIES: u32 = 4;

/// The longest time that a rule answers, and how long it does if nobody says it.
const RULE_LIFE: SignedDuration = SignedDuration::from_hours(24 * 90);

/// The most bytes of the arguments of calls that are answered together: what a batch can carry of them in sessions of their own.
const TOGETHER_BYTES_MAX: usize = 384 << 10;

/// Who goes on once an answer is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Run(RunId),
    Session(SessionId),
}

impl Core {
    /// Answers an approval for a person, and others of the same run with it: all of them, or none.
    pub(crate) async fn approval_answer(
        self: &Arc<Self>,
        scope: &Scope,
        id: ApprovalId,
        also: &[ApprovalId],
        answer: &Answer,
    ) -> Result<Approval, Fault> {
        let reach = reach_of(answer)?;
        check_also(id, also, answer)?;
        if let Answer::Deny { reason } = answer
            && reason.len() > REASON_BYTES_MAX
        {
            let text = format!("a reason has at most {REASON_BYTES_MAX} bytes");
            return Err(Fault::new(ErrorCode::InvalidRequest, text));
        }
        let looked_until = self.ports.runtime.clock.now().checked_add(LOOK_TIME).unwrap_or(Timestamp::MAX);
        for _ in 0..TRIES {
            let found = self.ports.store.approval(scope, id).await.map_err(read_fault)?;
            let mut found = found.ok_or_else(|| approval_not_found(id))?;
            let others = self.others(scope, &found, also).await?;
            let now = self.ports.runtime.clock.now();
            let open = to_answer(scope, std::iter::once(&found).chain(&others), reach.as_ref(), now)?;
            if open.is_empty() {
                return Ok(found);
            }
            if matches!(answer, Answer::Approve(_)) {
                for asked in &open {
                    self.check_files(asked, looked_until).await?;
                }
            }
            let bound = self.bound_of(scope, &found).await?;
            let mut batch = Batch::new(scope.tenant()).wanted_by(scope.actor(), now);
            let mut nexts = Vec::with_capacity(open.len());
            for asked in &open {
                let (part, next) = self.answer_batch(scope, asked, answer, bound, now)?;
                batch.mutations.extend(part.mutations);
                nexts.push(next);
            }
            let commit = self.ports.store.commit(batch.clone()).await;
            match commit {
                Commit::Done(_) => {
                    self.all_answered(scope, &nexts);
                    // What the store did, done to what was read before.
                    let given = batch.mutations.iter().find_map(|mutation| match mutation {
                        Mutation::ApprovalAnswer(given) if given.approval == id => Some(given),
                        _ => None,
                    });
                    if let Some(given) = given {
                        let moved = found.answer(given.from, given.approved, &given.answered);
                        moved.map_err(|state| closed(&found, state))?;
                    }
                    return Ok(found);
                }
                Commit::Refused(Refusal::ApprovalMoved { .. } | Refusal::RunTerminal) => {}
                Commit::Refused(Refusal::AgentState { .. }) => return Err(agent_terminated(found.agent)),
                Commit::Unknown { .. } => {
                    // It may be durable, so whoever goes on must look all the same.
                    self.all_answered(scope, &nexts);
                    self.request_rescan();
                    return Err(commit_fault(commit));
                }
                other @ Commit::Refused(_) => return Err(commit_fault(other)),
            }
        }
        Err(Fault::new(ErrorCode::StoreUnavailable, "the approval changed too often while it was answered")
            .with_hint("look at it with `dromia approval show`"))
    }

    /// Reads the approvals that are answered with another one. One that is of another run, is not there, or is another
    /// tenant's, is named.
    async fn others(
        &self,
        scope: &Scope,
        first: &Approval,
        also: &[ApprovalId],
    ) -> Result<Vec<Approval>, Fault> {
        let mut others = Vec::with_capacity(also.len());
        for id in also {
            let found = self.ports.store.approval(scope, *id).await.map_err(read_fault)?;
            let found = found.ok_or_else(|| {
                let text = format!("`also` names {id}, and there is no such approval; nothing was answered");
                Fault::new(ErrorCode::InvalidRequest, text)
                    .with_hint("list the approvals with `dromia approval list`")
            })?;
            if found.run != first.run {
                let text = format!(
                    "`also` names {id}, which is of {}, and {} is of {}; nothing was answered",
                    found.run, first.id, first.run
                );
                return Err(Fault::new(ErrorCode::InvalidRequest, text)
                    .with_hint("answer the approvals of each run with a request of its own"));
            }
            others.push(found);
        }
        let bytes: usize = std::iter::once(first).chain(&others).map(|asked| asked.arguments.len()).sum();
        if !others.is_empty() && bytes > TOGETHER_BYTES_MAX {
            let text =
                format!("the calls have {bytes} bytes of arguments together, at most {TOGETHER_BYTES_MAX}");
            return Err(Fault::new(ErrorCode::InvalidRequest, text).with_hint("answer fewer of them at once"));
        }
        Ok(others)
    }

    /// Tells whoever waits for some of the answers, each once.
    fn all_answered(self: &Arc<Self>, scope: &Scope, nexts: &[Next]) {
        for next in distinct(nexts) {
            self.answered(scope, next);
        }
    }

    /// Lets a delayed call begin whose time to cool is over, unless somebody answered it meanwhile. One whose agent has
    /// ended is refused.
    pub(crate) async fn approval_cooled(
        self: &Arc<Self>,
        tenant: TenantId,
        id: ApprovalId,
    ) -> Result<(), Fault> {
        let scope = self.recovery_scope(tenant);
        let mut ended = false;
        for _ in 0..TRIES {
            let found = self.ports.store.approval(&scope, id).await.map_err(read_fault)?;
            let now = self.ports.runtime.clock.now();
            let Some(found) = found.filter(|found| found.has_cooled(now)) else { return Ok(()) };
            let (batch, next) = if ended {
                let reason = "its agent has ended".to_owned();
                let answered = Answered { by: scope.actor().clone(), at: now, reason, reach: None };
                let answer = ApprovalAnswer { approval: id, from: found.state, approved: false, answered };
                (Batch::new(tenant).with(Mutation::ApprovalAnswer(answer)), None)
            } else {
                let bound = self.bound_of(&scope, &found).await?;
                // What begins by itself is one more step without a person: what it leads to says so.
                let by_time = Approval { hops: found.hops.saturating_add(1), ..found.clone() };
                let (mut batch, next) =
                    self.answer_batch(&scope, &by_time, &Answer::Approve(Reach::Once), bound, now)?;
                if let Some(Mutation::ApprovalAnswer(answer)) = batch.mutations.first_mut() {
                    "nobody refused it in time".clone_into(&mut answer.answered.reason);
                }
                (batch, Some(next))
            };
            match self.ports.store.commit(batch).await {
                Commit::Done(_) => {
                    if let Some(next) = &next {
                        self.answered(&scope, *next);
                    }
                    return Ok(());
                }
                Commit::Refused(Refusal::ApprovalMoved { .. } | Refusal::RunTerminal) => {}
                Commit::Refused(Refusal::AgentState { .. }) => ended = true,
                Commit::Unknown { cause } => {
                    // It may be durable, so whoever goes on must look all the same.
                    if let Some(next) = &next {
                        self.answered(&scope, *next);
                    }
                    self.request_rescan();
                    return Err(commit_fault(Commit::Unknown { cause }));
                }
                other @ Commit::Refused(_) => return Err(commit_fault(other)),
            }
        }
        Err(Fault::new(ErrorCode::StoreUnavailable, "the approval changed too often while it was answered"))
    }

    /// Tells whoever waits for the answer.
    fn answered(self: &Arc<Self>, scope: &Scope, next: Next) {
        match next {
            Next::Run(run) => {
                if !self.hub.signal(run) {
                    self.ready(scope.tenant(), Ready::Run(run));
                }
            }
            Next::Session(session) => self.ready(scope.tenant(), Ready::Session(session)),
        }
    }

    /// Refuses to approve a call whose program would meet other files than when it was asked for: it would not begin, and who
    /// looks at them now looks at something else than what was asked for. Where nobody can look, or not in the time that whoever
    /// answers has, its start decides.
    async fn check_files(&self, asked: &Approval, until: Timestamp) -> Result<(), Fault> {
        let Some(known) = asked.bound.and_then(|bound| bound.contents) else { return Ok(()) };
        let (id, tool, arguments) = (asked.call, asked.tool.clone(), asked.arguments.clone());
        let Ok(call) = self.ports.tools.prepare(&ToolCall { id, tool, arguments }) else { return Ok(()) };
        let look = self.ports.tools.contents(asked.agent, &call, known.extent);
        let looked = match select(look, self.ports.runtime.clock.sleep_until(until)).await {
            Either::Left((looked, _)) => looked,
            Either::Right(_) => return Ok(()),
        };
        match looked {
            Ok(Some(now)) if now != known => {
                let text = format!(
                    "files that the program of {} could execute have changed since it was asked for ({}), so it would not \
                     begin; nothing was answered",
                    asked.id,
                    known.differs(&now)
                );
                Err(Fault::new(ErrorCode::ApprovalOutdated, text))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Finds the capability within which the run stays that asked: its call stays within it, also in a run of its own.
    async fn bound_of(&self, scope: &Scope, approval: &Approval) -> Result<Option<CapabilityId>, Fault> {
        let session = self.ports.store.session(scope, approval.session).await.map_err(read_fault)?;
        let session = session.ok_or_else(|| session_not_found(approval.session))?;
        Ok(capability::bound_of(&session.key))
    }

    /// Writes an answer: the approval first, then what goes on by it, then the rule that goes with it.
    fn answer_batch(
        &self,
        scope: &Scope,
        found: &Approval,
        answer: &Answer,
        bound: Option<CapabilityId>,
        now: Timestamp,
    ) -> Result<(Batch, Next), Fault> {
        let (approved, reason) = match answer {
            Answer::Approve(_) => (true, ""),
            Answer::Deny { reason } => (false, reason.as_str()),
        };
        let (by, reach) = (scope.actor().clone(), reach_of(answer)?);
        let answered = Answered { by, at: now, reason: reason.to_owned(), reach };
        let mut batch = Batch::new(scope.tenant()).with(Mutation::ApprovalAnswer(ApprovalAnswer {
            approval: found.id,
            from: found.state,
            approved,
            answered,
        }));
        let put = |owner, kind, author: &Actor, body: Vec<u8>| {
            Mutation::InboxPut(InboxPut {
                owner,
                item: self.ports.runtime.item_id(),
                at: now,
                kind,
                author: author.clone(),
                body: Bytes::from(body),
                key: None,
            })
        };
        let unwritten = |error: serde_json::Error| Fault::new(ErrorCode::Internal, error.to_string());
        let next = match (found.state, approved) {
            (ApprovalState::Holding, _) => {
                let kind = if approved { ItemKind::Approve } else { ItemKind::Deny };
                let owner = InboxOwner::Run(found.run);
                let body = serde_json::to_vec(&AnswerBody::new(found.id, reason)).map_err(unwritten)?;
                batch.mutations.push(put(owner, kind, scope.actor(), body));
                Next::Run(found.run)
            }
            (_, true) => {
                let session = self.ports.runtime.session_id();
                let key = SessionKey {
                    platform: approval::PLATFORM.to_owned(),
                    channel: approved_at(found.id, bound),
                    actor: found.author.clone(),
                };
                let open = SessionOpen { session, agent: found.agent, key, at: now, believes: false };
                batch.mutations.push(Mutation::SessionOpen(open));
                let body = serde_json::to_vec(&ApprovedBody::of(found)).map_err(unwritten)?;
                let owner = InboxOwner::Session(session);
                batch.mutations.push(put(owner, ItemKind::Approved, &found.author, body));
                Next::Session(session)
            }
            (_, false) => {
                let why = if reason.is_empty() { String::new() } else { format!(" and says: {reason}") };
                let text = format!(
                    "The call {} of {} that waited for approval ({}) is refused: {} will not allow it{why}. Nothing \
                     was done. Do not ask for it again.",
                    found.call,
                    found.run,
                    found.id,
                    scope.actor()
                );
                let parts = vec![Part::text(text, Label::PUBLIC_FACT)];
                let message = InputMessage { author: found.author.clone(), parts, hops: found.hops };
                let body = serde_json::to_vec(&message).map_err(unwritten)?;
                let owner = InboxOwner::Session(found.session);
                batch.mutations.push(put(owner, ItemKind::Input, &found.author, body));
                Next::Session(found.session)
            }
        };
        let (rule, session) = match answer {
            Answer::Approve(Reach::Session) => (self.exact_rule(found)?, Some(found.session)),
            Answer::Approve(Reach::Always { rule }) => {
                let rule = self.read_rule(rule, RuleAnswer::Allow)?;
                if !rule.matches(&found.tool, &found.arguments) {
                    let text = format!("the rule `{rule}` does not match this call");
                    let hint = format!("see its arguments with `dromia approval show {}`", found.id);
                    return Err(Fault::new(ErrorCode::InvalidRequest, text).with_hint(hint));
                }
                (rule, None)
            }
            Answer::Approve(Reach::Once) | Answer::Deny { .. } => return Ok((batch, next)),
        };
        let rule = ApprovalRule {
            name: found.id.to_string().replace('_', "-"),
            answer: RuleAnswer::Allow,
            rule: rule.to_string(),
            agent: Some(found.agent),
            session,
            owner: scope.actor().clone(),
            created_at: now,
            expires_at: now.checked_add(RULE_LIFE).unwrap_or(Timestamp::MAX),
        };
        batch.mutations.push(Mutation::ApprovalRulePut(rule));
        Ok((batch, next))
    }

    /// Adds a rule for a person.
    pub(crate) async fn approval_rule_add(&self, scope: &Scope, new: NewRule) -> Result<ApprovalRule, Fault> {
        let now = self.ports.runtime.clock.now();
        let latest = now.checked_add(RULE_LIFE).unwrap_or(Timestamp::MAX);
        let expires_at = new.expires_at.unwrap_or(latest);
        if expires_at > latest {
            let text = format!("a rule answers for {} days at most", RULE_LIFE.as_hours() / 24);
            return Err(Fault::new(ErrorCode::InvalidRequest, text));
        }
        let rule = ApprovalRule {
            rule: self.read_rule(&new.rule, new.answer)?.to_string(),
            name: new.name,
            answer: new.answer,
            agent: new.agent,
            session: new.session,
            owner: scope.actor().clone(),
            created_at: now,
            expires_at,
        };
        if let Some(problem) = rule.problem() {
            return Err(Fault::new(ErrorCode::InvalidRequest, problem));
        }
        let known = self.ports.store.approval_rules(scope).await.map_err(read_fault)?;
        if let Some(known) = known.iter().find(|known| known.name == rule.name && known.expires_at > now) {
            let agent = match known.agent {
                Some(agent) => self.ports.store.agent(scope, agent).await.map_err(read_fault)?,
                None => None,
            };
            widened(known, &rule, agent.map(|agent| agent.handle.to_string()))?;
        }
        let batch = Batch::new(scope.tenant()).wanted_by(scope.actor(), now);
        let batch = batch.with(Mutation::ApprovalRulePut(rule.clone()));
        match self.ports.store.commit(batch).await {
            Commit::Done(_) => Ok(rule),
            Commit::Refused(Refusal::NotFound(what)) => {
                Err(Fault::new(ErrorCode::InvalidRequest, format!("there is no {what}")))
            }
            answer => Err(commit_fault(answer)),
        }
    }

    /// Removes a rule for a person.
    pub(crate) async fn approval_rule_remove(
        &self,
        scope: &Scope,
        name: String,
    ) -> Result<ApprovalRule, Fault> {
        if DeclaredRule::named(&self.config.approvals.rules).any(|(known, _)| known == name) {
            let text = format!("dromia.yaml sets the rule {name}, so no request removes it");
            let place = name.rsplit_once('.').map_or(name.as_str(), |(list, _)| list);
            return Err(Fault::new(ErrorCode::InvalidRequest, text)
                .with_hint(format!("change `{place}` in dromia.yaml and restart the server")));
        }
        let rules = self.ports.store.approval_rules(scope).await.map_err(read_fault)?;
        let rule = rules.into_iter().find(|rule| rule.name == name).ok_or_else(|| {
            Fault::new(ErrorCode::ApprovalRuleNotFound, format!("there is no rule {name:?}"))
                .with_hint("list them with `dromia approval rule list`")
        })?;
        let batch = Batch::new(scope.tenant()).wanted_by(scope.actor(), self.ports.runtime.clock.now());
        let remove = Mutation::ApprovalRuleRemove(ApprovalRuleRemove { name });
        match self.ports.store.commit(batch.with(remove)).await {
            Commit::Done(_) => Ok(rule),
            answer => Err(commit_fault(answer)),
        }
    }

    /// Makes the rule that answers exactly this call. It may stand where any other one that allows may, and nowhere else.
    fn exact_rule(&self, found: &Approval) -> Result<Rule, Fault> {
        let exact = Rule::exact(&found.tool, &found.arguments)
            .ok_or_else(|| Fault::new(ErrorCode::InvalidRequest, "no rule can say exactly this call"));
        let rule = exact.and_then(|exact| self.read_rule(&exact.to_string(), RuleAnswer::Allow));
        rule.map_err(|fault| {
            let text = format!("this call cannot be approved for its session: {}", fault.message);
            Fault::new(fault.code, text)
                .with_hint(format!("approve this one call: `dromia approval approve {} --once`", found.id))
        })
    }

    /// Reads a rule, and refuses one that would allow more than whoever writes it can see.
    fn read_rule(&self, text: &str, answer: RuleAnswer) -> Result<Rule, Fault> {
        let invalid = |text: String| Fault::new(ErrorCode::InvalidRequest, text);
        let rule = Rule::parse(text).map_err(|error| invalid(error.to_string()))?;
        let tools = &self.ports.tools;
        let Some(tool) = tools.descriptors().iter().find(|tool| tool.name == rule.tool()) else {
            return Err(invalid(format!("there is no tool {:?}", rule.tool()))
                .with_hint("list the tools with `dromia tool list`"));
        };
        let runs_programs = tools.limits(&tool.name, &ToolTerms::default()).is_some();
        let known = RuleTool { parameters: &tool.parameters, roles: &tool.roles, runs_programs };
        match rule.barred(answer, &known) {
            None => Ok(rule),
            Some(Barred { problem, hint: None }) => Err(invalid(problem)),
            Some(Barred { problem, hint: Some(hint) }) => Err(invalid(problem).with_hint(hint)),
        }
    }
}

/// Refuses to answer approvals together that are too many or named twice, or with a rule: it answers calls that nobody saw.
fn check_also(id: ApprovalId, also: &[ApprovalId], answer: &Answer) -> Result<(), Fault> {
    let invalid = |text: String| Err(Fault::new(ErrorCode::InvalidRequest, text));
    if also.len() > ALSO_MAX {
        return invalid(format!(
            "`also` names at most {ALSO_MAX} approvals, and here it names {}",
            also.len()
        ));
    }
    let is_twice = |(place, named): &(usize, &ApprovalId)| **named == id || also[..*place].contains(named);
    if let Some((_, twice)) = also.iter().enumerate().find(is_twice) {
        return invalid(format!("`also` names {twice}, which is answered already by this request"));
    }
    if !also.is_empty() && matches!(answer, Answer::Approve(Reach::Always { .. })) {
        return invalid("`also` goes with no rule: a rule answers calls that nobody saw".to_owned());
    }
    Ok(())
}

/// Lists those of the approvals that are to be answered; what somebody answered so already is none of them. Refused where he may
/// not answer one, or where one is closed.
fn to_answer<'a>(
    scope: &Scope,
    asked: impl Iterator<Item = &'a Approval>,
    reach: Option<&Reach>,
    now: Timestamp,
) -> Result<Vec<Approval>, Fault> {
    let mut open = Vec::new();
    for found in asked {
        if !found.may_be_answered_by(scope.actor()) {
            let who = found.approvers.iter().map(Actor::as_str).collect::<Vec<_>>().join(", ");
            let text = format!("{} may not answer {}; who may: {who}", scope.actor(), found.id);
            return Err(Fault::new(ErrorCode::Forbidden, text));
        }
        if found.is_answered_so(scope.actor(), reach) {
            continue;
        }
        let state = found.state_at(now);
        if !state.is_open() {
            return Err(closed(found, state));
        }
        open.push(found.clone());
    }
    Ok(open)
}

/// Lists who goes on, each once: the answers to several calls of a run that waits are one thing to look at.
fn distinct(nexts: &[Next]) -> Vec<Next> {
    let mut each = Vec::with_capacity(nexts.len());
    for next in nexts {
        if !each.contains(next) {
            each.push(*next);
        }
    }
    each
}

fn approval_not_found(id: ApprovalId) -> Fault {
    Fault::new(ErrorCode::ApprovalNotFound, format!("there is no approval {id}"))
        .with_hint("list the approvals with `dromia approval list`")
}

/// How far an answer goes, as it is kept: a rule in its canonical form. Nothing for a refusal.
fn reach_of(answer: &Answer) -> Result<Option<Reach>, Fault> {
    match answer {
        Answer::Approve(Reach::Always { rule }) => {
            let rule = Rule::parse(rule)
                .map_err(|error| Fault::new(ErrorCode::InvalidRequest, error.to_string()))?
                .to_string();
            Ok(Some(Reach::Always { rule }))
        }
        Answer::Approve(reach @ (Reach::Once | Reach::Session)) => Ok(Some(reach.clone())),
        Answer::Deny { .. } => Ok(None),
    }
}

/// The fault for an answer that comes too late, or that is another one than the one which stands.
fn closed(approval: &Approval, state: ApprovalState) -> Fault {
    let by = approval.answer.as_ref().map(|answer| {
        let reach = answer.reach.as_ref().map(|reach| format!(" ({reach})"));
        format!(" by {}{}", answer.by, reach.unwrap_or_default())
    });
    let by = by.unwrap_or_default();
    let standing = match state {
        ApprovalState::Used => format!("was approved{by}, and its call has begun"),
        state => format!("is {state}{by}"),
    };
    let text = format!("{} {standing}; nothing was changed", approval.id);
    Fault::new(ErrorCode::ApprovalClosed, text)
        .with_hint(format!("see how it came to that with `dromia approval show {}`", approval.id))
}

/// Refuses to put a rule in the place of one that answers for fewer calls: what a command leaves out would widen it, and
/// nobody would have said so. `called` is the handle of the agent that the known one answers for, by which commands name it.
fn widened(known: &ApprovalRule, new: &ApprovalRule, called: Option<String>) -> Result<(), Fault> {
    let how = match (known.answer, new.answer) {
        (RuleAnswer::Deny, RuleAnswer::Allow) => "it denies, and this one would allow".to_owned(),
        // What is refused more widely lets nothing through.
        (RuleAnswer::Allow | RuleAnswer::Deny, RuleAnswer::Deny) => return Ok(()),
        (RuleAnswer::Allow, RuleAnswer::Allow) => match (known.agent, known.session) {
            (_, Some(session)) if new.session.is_none() => {
                format!("it answers in {session} only, and this one would answer in every session")
            }
            (Some(agent), _) if new.agent.is_none() => {
                let called = called.unwrap_or_else(|| agent.to_string());
                format!("it answers for {called} only, and this one would answer for every agent")
            }
            _ => return Ok(()),
        },
    };
    let text = format!("there is a rule {} already: {how}; nothing was changed", known.name);
    Err(Fault::new(ErrorCode::InvalidRequest, text).with_hint(format!(
        "name the same agent and session, or take it away first with `dromia approval rule remove {}`",
        known.name
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_goes_on_by_several_answers_is_told_once() {
        let run = |number| Next::Run(RunId::from_bytes([number; 16]));
        let session = |number| Next::Session(SessionId::from_bytes([number; 16]));
        assert_eq!(distinct(&[run(1), run(1), run(1)]), [run(1)]);
        assert_eq!(
            distinct(&[session(1), run(1), session(2), run(1), session(1)]),
            [session(1), run(1), session(2)],
            "calls that run by themselves have a session each"
        );
        assert!(distinct(&[]).is_empty());
    }
}
