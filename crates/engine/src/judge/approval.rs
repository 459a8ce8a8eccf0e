//! The check that asks a person, or delays a call: the content of the request, its binding, and whether a rule answers it.
//! `origins` finds where its arguments came from.
//!
//! The binding is a digest of everything that was judged. The same function makes it again when the call is about to
//! begin, so every change in between makes another one. No call begins here: `decide` compares the binding.

mod origins;

use dromia_contracts::approval::{
    ARGUMENTS_BYTES_MAX, ApprovalDeadlines, ApprovalRequest, ApprovalState, BoundParts, CallSource,
    JudgedCall, RuleAnswer, RuledCall, WAITING_MAX,
};
use dromia_contracts::plan::CallProvenance;
use dromia_contracts::tool::PreparedCall;
use dromia_contracts::{CallId, Digest};
use jiff::{SignedDuration, Timestamp};

use super::CallJudge;
use crate::approval_binding::ApprovalBinding;
use crate::decide::{CallJudgement, RequiredApproval, UNHELD};
use crate::owner::error::OwnershipError;

/// The parts of an asking or delaying verdict that a request needs.
pub(super) struct ApprovalGrounds {
    pub(super) rule: String,
    pub(super) reason: String,
    pub(super) policy: Option<Digest>,
    /// The delay after which the call begins unless refused; without it only a person can allow the call.
    pub(super) cooling: Option<SignedDuration>,
    /// Which arguments of the call were typed or planned.
    pub(super) provenance: CallProvenance,
}

impl ApprovalGrounds {
    /// The word of the verdict.
    fn verdict_word(&self) -> &'static str {
        if self.cooling.is_some() { "delay" } else { "ask" }
    }
}

impl CallJudge<'_> {
    /// Judges a call that a person must allow, or that is delayed: by a rule, by a recorded answer, or by asking.
    pub(super) async fn judge_asked(
        &mut self,
        call: PreparedCall,
        asking: ApprovalGrounds,
    ) -> Result<CallJudgement, OwnershipError> {
        if let Some(judgement) = self.answered_ahead(&call, &asking).await? {
            return Ok(judgement);
        }
        let attended = self.is_attended();
        let call = match self.bind_to_files(call, attended || asking.cooling.is_some()).await {
            Ok(call) => call,
            Err(problem) => return Ok(refuse_unbindable(&problem, asking.policy)),
        };
        let (binding, parts) = self.approval_binding(&call, &asking).await?;
        let changed = self.changed_parts(call.id, binding, &parts).await?;
        let origins = self.argument_origins(&call).await;
        let settings = self.core.config();
        let config = &settings.approvals;
        // Requests of one commit have the same request time and deadlines.
        let asked = self.asks.iter().find(|ask| ask.state.is_open()).map(|ask| ask.deadlines.asked_at);
        let now = asked.unwrap_or_else(|| self.core.ports.runtime.clock.now());
        let until = |time: SignedDuration| now.checked_add(time).unwrap_or(Timestamp::MAX);
        let hold = match asking.cooling {
            // No answer is expected sooner, so the run need not wait.
            Some(cooling) if cooling > config.hold => SignedDuration::ZERO,
            Some(_) | None => config.hold,
        };
        // A delayed call that expired because no server was running does not begin any more.
        let expire = config.expire.max(config.hold).saturating_add(asking.cooling.unwrap_or_default());
        let approval = ApprovalRequest {
            id: self.core.ports.runtime.approval_id(),
            rule: asking.rule,
            reason: asking.reason,
            approvers: config.approvers.clone(),
            state: ApprovalState::Holding,
            released: false,
            answer: None,
            used_by: None,
            source: CallSource {
                agent: self.identity.agent.id,
                session: self.identity.session,
                run: self.identity.run,
                call: call.id,
                author: self.identity.author.clone(),
                hops: self.story.hops,
            },
            judged: JudgedCall {
                context: self.story.taint.label,
                provenance: asking.provenance,
                tool: call.tool.clone(),
                arguments: call.arguments.clone(),
                action: call.action,
                binding,
                bound: parts,
                origins,
            },
            deadlines: ApprovalDeadlines {
                asked_at: now,
                holds_until: until(hold),
                expires_at: until(expire),
                cools_until: asking.cooling.map(until),
            },
        };
        if !attended && asking.cooling.is_none() {
            self.core.activity.calls.count_denied(&call.tool);
        }
        let chained = self.story.hops >= settings.hops_max;
        Ok(CallJudgement::RequiredApproval(Box::new(RequiredApproval {
            call,
            approval,
            changed,
            policy: asking.policy,
            attended,
            chained,
        })))
    }

    /// Binds a call to the current files that its program could execute. The files of a call that is refused anyway,
    /// because no person can be asked, are not hashed.
    async fn bind_to_files(&self, call: PreparedCall, askable: bool) -> Result<PreparedCall, String> {
        let is_allowed = self.state.granted_approval(call.id).is_some();
        let is_told = call.arguments.len() <= ARGUMENTS_BYTES_MAX && self.state.awaiting.len() < WAITING_MAX;
        let is_looked_at = is_allowed || askable && is_told;
        if !is_looked_at {
            return Ok(call);
        }
        let (ports, extent) = (&self.core.ports, self.core.config().approvals.files);
        let (tenant, agent) = (self.identity.scope.tenant(), self.identity.agent.id);
        let workspace =
            self.core.caches.agents.run_workspace(&self.identity.scope, &self.identity.agent).await;
        let workspace = workspace.map_err(|fault| fault.to_string())?;
        let contents = ports.tools.executable_files(tenant, agent, &workspace, &call, extent).await?;
        Ok(PreparedCall { contents, ..call })
    }

    /// Returns whether a person attends this session.
    pub(super) fn is_attended(&self) -> bool {
        !self.core.config().approvals.unattended.contains(&self.identity.key.platform)
    }

    /// Asks the rules: those of the configuration, then those of the tenant. One that denies goes before one that allows.
    async fn answered_ahead(
        &self,
        call: &PreparedCall,
        asking: &ApprovalGrounds,
    ) -> Result<Option<CallJudgement>, OwnershipError> {
        let now = self.core.ports.runtime.clock.now();
        let provenance = self
            .core
            .ports
            .store
            .approval_rules(&self.identity.scope)
            .await
            .map_err(|_| OwnershipError::Store)?;
        // An approved call that runs in its own run was requested in another session.
        let session = self.state.approved_call().map_or(self.identity.session, |approved| approved.session);
        let ruled = RuledCall {
            agent: self.identity.agent.id,
            session: Some(session),
            tool: &call.tool,
            arguments: &call.arguments,
        };
        let strongest = ruled.answered_by(&self.core.config().approvals.rules, &provenance, now);
        Ok(strongest.map(|(answer, name)| match answer {
            RuleAnswer::Allow => CallJudgement::Allowed {
                call: call.clone(),
                rule: format!("approval rule {name} for {} {}", asking.verdict_word(), asking.rule),
                policy: asking.policy,
            },
            RuleAnswer::Deny => CallJudgement::Denied {
                rule: format!("approval rule {name}"),
                reason: format!(
                    "this {} ({}), and a rule denies it in advance; nothing was done. Trying again will not \
                     help.",
                    if asking.cooling.is_some() { "would be delayed" } else { "needs a person's approval" },
                    asking.reason
                ),
                policy: asking.policy,
            },
        }))
    }

    /// The digest of everything that is judged: the canonical action, the tool's descriptor, the hosts that it would
    /// reach, its limits, the files that it could execute, who asks and with which grants, the rule and the policy.
    async fn approval_binding(
        &self,
        call: &PreparedCall,
        asking: &ApprovalGrounds,
    ) -> Result<(Digest, BoundParts), OwnershipError> {
        let ports = &self.core.ports;
        let tool = self.identity.agent.catalogue.find_tool(&call.tool);
        let terms = ports
            .terms
            .effective_terms(&call.tool, Some((&self.identity.scope, self.identity.agent.id)))
            .await;
        let terms = terms.map_err(|_| OwnershipError::Store)?;
        let limits = ports.tools.process_limits(&call.tool, &terms);
        let bound = ApprovalBinding {
            tenant: self.identity.scope.tenant(),
            agent: self.identity.agent.id,
            author: &self.identity.author,
            grants: &self.identity.agent.grants,
            call,
            tool,
            limits,
            terms: &terms,
            rule: &asking.rule,
            policy: asking.policy,
            workspace: self.identity.agent.config.workspace.as_ref(),
            verdict: asking.cooling.is_some().then(|| asking.verdict_word()),
        };
        Ok((bound.digest(), bound.bound_parts()))
    }

    /// Names the parts that changed since an approved call was requested; empty if none did, or if the request does not
    /// record them.
    async fn changed_parts(
        &self,
        call: CallId,
        binding: Digest,
        now: &BoundParts,
    ) -> Result<Vec<&'static str>, OwnershipError> {
        let Some((asked, _)) = self.state.granted_approval(call).filter(|(_, known)| *known != binding)
        else {
            return Ok(Vec::new());
        };
        let asked = self
            .core
            .ports
            .store
            .approval(&self.identity.scope, asked)
            .await
            .map_err(|_| OwnershipError::Store)?;
        Ok(asked.map(|asked| asked.judged.bound.changed_parts(now)).unwrap_or_default())
    }
}

/// Refuses a call that no person can be asked about, because the files that it would execute cannot be hashed.
fn refuse_unbindable(problem: &str, policy: Option<Digest>) -> CallJudgement {
    let reason = format!(
        "this needs a person's approval, and the server cannot examine the files of the workspace that the \
         program could execute: {problem}. Nothing was done. Ask again later, or tidy the workspace"
    );
    CallJudgement::Denied { rule: UNHELD.to_owned(), reason, policy }
}
