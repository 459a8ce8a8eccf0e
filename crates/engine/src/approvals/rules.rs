//! Rules that answer approvals in advance: how a person adds and removes them, and the one that comes with an answer.
//!
//! The engine refuses a rule that would allow more than its author can see, and one that would replace a rule for fewer
//! calls. The owner of a run chooses the rule that answers a call.

use std::sync::Arc;

use dromia_contracts::approval::{
    ApprovalRequest, ApprovalRuleRecord, DeclaredRule, ParsedRule, RuleAnswer, RuleRejection, RuleTool,
};
use dromia_contracts::runs::{ApprovalDecision, ApprovalReach, NewRule};
use dromia_contracts::store::{ApprovalRuleRemove, CommitOutcome, CommitRefusal, Mutation, WriteBatch};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::{AgentId, ErrorCode, Fault, Scope};
use jiff::{SignedDuration, Timestamp};

use crate::agents::read_fault;
use crate::config::EngineConfig;
use crate::core::EngineCore;
use crate::ports::EnginePorts;
use crate::refusal::commit_fault;

/// The longest time that a rule answers, and the default.
const RULE_LIFE: SignedDuration = SignedDuration::from_hours(24 * 90);

/// The rules of a tenant that answer approvals in advance.
pub(crate) struct ApprovalRuleBook<'a> {
    ports: &'a EnginePorts,
    config: Arc<EngineConfig>,
}

impl<'a> ApprovalRuleBook<'a> {
    /// Begins with the parts that it needs.
    pub(crate) fn new(core: &'a EngineCore) -> Self {
        Self { ports: &core.ports, config: core.config() }
    }

    /// Adds a rule for a person.
    pub(crate) async fn approval_rule_add(
        &self,
        scope: &Scope,
        new: NewRule,
    ) -> Result<ApprovalRuleRecord, Fault> {
        let now = self.ports.runtime.clock.now();
        let latest = latest_end(now);
        let expires_at = new.expires_at.unwrap_or(latest);
        if expires_at > latest {
            let text = format!("a rule may answer for at most {} days", RULE_LIFE.as_hours() / 24);
            return Err(Fault::new(ErrorCode::InvalidRequest, text));
        }
        let rule = ApprovalRuleRecord {
            rule: self
                .read_rule(&self.rule_tools(scope, new.agent).await?, &new.rule, new.answer)?
                .to_string(),
            name: new.name,
            answer: new.answer,
            agent: new.agent,
            session: new.session,
            owner: scope.actor().clone(),
            created_at: now,
            expires_at,
        };
        if let Some(problem) = rule.validation_problem() {
            return Err(Fault::new(ErrorCode::InvalidRequest, problem));
        }
        let known = self.ports.store.approval_rules(scope).await.map_err(read_fault)?;
        if let Some(known) = known.iter().find(|known| known.name == rule.name && known.expires_at > now) {
            let agent = match known.agent {
                Some(agent) => self.ports.store.agent(scope, agent).await.map_err(read_fault)?,
                None => None,
            };
            check_not_widened(known, &rule, agent.map(|agent| agent.handle.to_string()))?;
        }
        let batch = WriteBatch::new(scope.tenant()).wanted_by(scope.actor(), now);
        let batch = batch.with_mutation(Mutation::ApprovalRulePut(rule.clone()));
        match self.ports.store.commit(batch).await {
            CommitOutcome::Done(_) => Ok(rule),
            CommitOutcome::Refused(CommitRefusal::NotFound(what)) => {
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
    ) -> Result<ApprovalRuleRecord, Fault> {
        if DeclaredRule::with_names(&self.config.approvals.rules).any(|(known, _)| known == name) {
            let text = format!("dromia.yaml sets the rule {name}, so no request removes it");
            let place = name.rsplit_once('.').map_or(name.as_str(), |(list, _)| list);
            return Err(Fault::new(ErrorCode::InvalidRequest, text)
                .with_hint(format!("change `{place}` in dromia.yaml")));
        }
        let rules = self.ports.store.approval_rules(scope).await.map_err(read_fault)?;
        let rule = rules.into_iter().find(|rule| rule.name == name).ok_or_else(|| {
            Fault::new(ErrorCode::ApprovalRuleNotFound, format!("there is no rule {name:?}"))
                .with_hint("list them with `dromia approval rule list`")
        })?;
        let batch = WriteBatch::new(scope.tenant()).wanted_by(scope.actor(), self.ports.runtime.clock.now());
        let remove = Mutation::ApprovalRuleRemove(ApprovalRuleRemove { name });
        self.ports.commit_batch(batch.with_mutation(remove)).await?;
        Ok(rule)
    }

    /// Makes the rule that goes with an answer, if one does.
    pub(super) async fn rule_of(
        &self,
        scope: &Scope,
        found: &ApprovalRequest,
        answer: &ApprovalDecision,
        now: Timestamp,
    ) -> Result<Option<ApprovalRuleRecord>, Fault> {
        let tools = match answer {
            ApprovalDecision::Approve(ApprovalReach::Session | ApprovalReach::Always { .. }) => {
                self.rule_tools(scope, Some(found.source.agent)).await?
            }
            ApprovalDecision::Approve(ApprovalReach::Once) | ApprovalDecision::Deny { .. } => {
                return Ok(None);
            }
        };
        let (rule, session) = match answer {
            ApprovalDecision::Approve(ApprovalReach::Session) => {
                (self.exact_rule(&tools, found)?, Some(found.source.session))
            }
            ApprovalDecision::Approve(ApprovalReach::Always { rule }) => {
                let rule = self.read_rule(&tools, rule, RuleAnswer::Allow)?;
                if !rule.matches_call(&found.judged.tool, &found.judged.arguments) {
                    let text = format!("the rule `{rule}` does not match this call");
                    let hint = format!("see the call's arguments with `dromia approval show {}`", found.id);
                    return Err(Fault::new(ErrorCode::InvalidRequest, text).with_hint(hint));
                }
                (rule, None)
            }
            ApprovalDecision::Approve(ApprovalReach::Once) | ApprovalDecision::Deny { .. } => {
                return Ok(None);
            }
        };
        Ok(Some(ApprovalRuleRecord {
            name: found.id.to_string().replace('_', "-"),
            answer: RuleAnswer::Allow,
            rule: rule.to_string(),
            agent: Some(found.source.agent),
            session,
            owner: scope.actor().clone(),
            created_at: now,
            expires_at: latest_end(now),
        }))
    }

    /// Makes the rule that answers exactly this call. It may stand where any other one that allows may, and nowhere else.
    fn exact_rule(&self, tools: &ToolCatalogue, found: &ApprovalRequest) -> Result<ParsedRule, Fault> {
        let exact = ParsedRule::for_exact_call(&found.judged.tool, &found.judged.arguments)
            .ok_or_else(|| Fault::new(ErrorCode::InvalidRequest, "no rule can match exactly this call"));
        let rule = exact.and_then(|exact| self.read_rule(tools, &exact.to_string(), RuleAnswer::Allow));
        rule.map_err(|fault| {
            let text = format!("this call cannot be approved for its session: {}", fault.message);
            Fault::new(fault.code, text)
                .with_hint(format!("approve this one call: `dromia approval approve {} --once`", found.id))
        })
    }

    /// The tools that a rule may be about: those of its agent, or of the tenant.
    async fn rule_tools(&self, scope: &Scope, agent: Option<AgentId>) -> Result<ToolCatalogue, Fault> {
        self.ports.tools.tool_catalogue(scope, agent).await.map_err(read_fault)
    }

    /// Reads a rule, and refuses one that would allow more than its author can see.
    fn read_rule(&self, tools: &ToolCatalogue, text: &str, answer: RuleAnswer) -> Result<ParsedRule, Fault> {
        let invalid = |text: String| Fault::new(ErrorCode::InvalidRequest, text);
        let rule = ParsedRule::parse(text).map_err(|error| invalid(error.to_string()))?;
        let Some(tool) = tools.find_tool(rule.tool_name()) else {
            return Err(invalid(format!("there is no tool {:?}", rule.tool_name()))
                .with_hint("list the tools with `dromia tool list`"));
        };
        let runs_programs = self.ports.tools.process_limits(&tool.name, &ToolTerms::default()).is_some();
        let known = RuleTool { parameters: &tool.parameters, roles: &tool.roles, runs_programs };
        match rule.find_rejection(answer, &known) {
            None => Ok(rule),
            Some(RuleRejection { problem, hint: None }) => Err(invalid(problem)),
            Some(RuleRejection { problem, hint: Some(hint) }) => Err(invalid(problem).with_hint(hint)),
        }
    }
}

/// The latest time up to which a rule answers that is made now.
fn latest_end(now: Timestamp) -> Timestamp {
    now.checked_add(RULE_LIFE).unwrap_or(Timestamp::MAX)
}

/// Refuses to replace a rule by one that answers for more calls: an option that a command leaves out would widen the
/// rule unintentionally. `called` is the handle of the agent that the known one answers for, by which commands name it.
fn check_not_widened(
    known: &ApprovalRuleRecord,
    new: &ApprovalRuleRecord,
    called: Option<String>,
) -> Result<(), Fault> {
    let how = match (known.answer, new.answer) {
        (RuleAnswer::Deny, RuleAnswer::Allow) => "it denies, and the new one would allow".to_owned(),
        // A wider denial allows no call.
        (RuleAnswer::Allow | RuleAnswer::Deny, RuleAnswer::Deny) => return Ok(()),
        (RuleAnswer::Allow, RuleAnswer::Allow) => match (known.agent, known.session) {
            (_, Some(session)) if new.session.is_none() => {
                format!("it answers in {session} only, and the new one would answer in every session")
            }
            (Some(agent), _) if new.agent.is_none() => {
                let called = called.unwrap_or_else(|| agent.to_string());
                format!("it answers for {called} only, and the new one would answer for every agent")
            }
            _ => return Ok(()),
        },
    };
    let text = format!("the rule {} already exists: {how}; it is unchanged", known.name);
    Err(Fault::new(ErrorCode::InvalidRequest, text).with_hint(format!(
        "name the same agent and session, or remove it first with `dromia approval rule remove {}`",
        known.name
    )))
}
