//! Rules that answer approvals ahead: how a person adds and removes them, and the one that goes with an answer.
//!
//! No rule is kept that would allow more than whoever writes it can see, and none takes the place of one that answers for fewer
//! calls. Which rule answers a call is not said here: the owner of a run asks them.

use dromia_contracts::approval::{Approval, ApprovalRule, Barred, DeclaredRule, Rule, RuleAnswer, RuleTool};
use dromia_contracts::runs::{Answer, NewRule, Reach};
use dromia_contracts::store::{ApprovalRuleRemove, Batch, Commit, Mutation, Refusal};
use dromia_contracts::terms::ToolTerms;
use dromia_contracts::{ErrorCode, Fault, Scope};
use jiff::{SignedDuration, Timestamp};

use crate::agents::read_fault;
use crate::core::Core;
use crate::refusal::commit_fault;

/// The longest time that a rule answers, and how long it does if nobody says it.
const RULE_LIFE: SignedDuration = SignedDuration::from_hours(24 * 90);

impl Core {
    /// Adds a rule for a person.
    pub(crate) async fn approval_rule_add(&self, scope: &Scope, new: NewRule) -> Result<ApprovalRule, Fault> {
        let now = self.ports.runtime.clock.now();
        let latest = latest_end(now);
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

    /// Makes the rule that goes with an answer, if one does.
    pub(super) fn rule_of(
        &self,
        scope: &Scope,
        found: &Approval,
        answer: &Answer,
        now: Timestamp,
    ) -> Result<Option<ApprovalRule>, Fault> {
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
            Answer::Approve(Reach::Once) | Answer::Deny { .. } => return Ok(None),
        };
        Ok(Some(ApprovalRule {
            name: found.id.to_string().replace('_', "-"),
            answer: RuleAnswer::Allow,
            rule: rule.to_string(),
            agent: Some(found.agent),
            session,
            owner: scope.actor().clone(),
            created_at: now,
            expires_at: latest_end(now),
        }))
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

/// The latest time up to which a rule answers that is made now.
fn latest_end(now: Timestamp) -> Timestamp {
    now.checked_add(RULE_LIFE).unwrap_or(Timestamp::MAX)
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
