//! How an owner puts a call before a person, or puts it off: what the request says, what it is bound to, and whether a rule
//! answers it. Where its arguments came from is told by `origins`; the end of a call that ran by itself by `waking`.
//!
//! The binding is a digest of everything that was judged. It is made anew when the call is about to begin, by the same
//! function, so whatever changed in between makes another one. No call begins here: `decide` compares the binding.

mod origins;
mod waking;

use dromia_contracts::approval::{
    ARGUMENTS_BYTES_MAX, Approval, ApprovalState, BoundParts, OPEN_MAX, RuleAnswer, RuledCall, WAITING_MAX,
};
use dromia_contracts::plan::Standing;
use dromia_contracts::tool::PreparedCall;
use dromia_contracts::{CallId, Digest};
use jiff::{SignedDuration, Timestamp};

use super::{Lost, Owner};
use crate::binding::Bound;
use crate::decide::{Asks, FULL, Input, Judgement, Next, UNHELD};

/// What of a rule that asks, or delays, is kept.
pub(super) struct Asking {
    pub(super) rule: String,
    pub(super) reason: String,
    pub(super) policy: Option<Digest>,
    /// How long the call may be refused before it begins by itself; without it only a person can allow it.
    pub(super) cooling: Option<SignedDuration>,
    /// What of the call was typed and planned.
    pub(super) standing: Standing,
}

impl Asking {
    /// The word of the verdict.
    fn word(&self) -> &'static str {
        if self.cooling.is_some() { "delay" } else { "ask" }
    }
}

impl Owner {
    /// Judges a call that a person must allow, or that is delayed: by a rule, or by what somebody answered, or by asking.
    pub(super) async fn judge_asked(
        &mut self,
        call: PreparedCall,
        asking: Asking,
    ) -> Result<Judgement, Lost> {
        if let Some(judgement) = self.answered_ahead(&call, &asking).await? {
            return Ok(judgement);
        }
        let attended = self.is_attended();
        let call = match self.held(call, attended || asking.cooling.is_some()).await {
            Ok(call) => call,
            Err(problem) => return Ok(unheld(&problem, asking.policy)),
        };
        let (binding, parts) = self.binding(&call, &asking).await?;
        let changed = self.changed(call.id, binding, &parts).await?;
        let spotter = self.spotter().await;
        let origins = self.origins(&call, spotter);
        let config = &self.core.config.approvals;
        // What is asked for together is asked for at one time, and has the same times.
        let asked = self.asks.iter().find(|ask| ask.state.is_open()).map(|ask| ask.asked_at);
        let now = asked.unwrap_or_else(|| self.core.ports.runtime.clock.now());
        let until = |time: SignedDuration| now.checked_add(time).unwrap_or(Timestamp::MAX);
        let hold = match asking.cooling {
            // Nobody is expected to come sooner, so the run need not wait.
            Some(cooling) if cooling > config.hold => SignedDuration::ZERO,
            Some(_) | None => config.hold,
        };
        // What nobody could refuse for so long after its time, because no server was there, does not begin any more.
        let expire = config.expire.max(config.hold).saturating_add(asking.cooling.unwrap_or_default());
        let approval = Approval {
            id: self.core.ports.runtime.approval_id(),
            agent: self.agent.id,
            session: self.session,
            run: self.run,
            call: call.id,
            author: self.author.clone(),
            hops: self.story.hops,
            context: self.story.label,
            standing: asking.standing,
            tool: call.tool.clone(),
            arguments: call.arguments.clone(),
            action: call.action,
            binding,
            bound: Some(parts),
            origins,
            rule: asking.rule,
            reason: asking.reason,
            approvers: config.approvers.clone(),
            asked_at: now,
            holds_until: until(hold),
            expires_at: until(expire),
            cools_until: asking.cooling.map(until),
            state: ApprovalState::Holding,
            released: false,
            answer: None,
            used_by: None,
        };
        if !attended && asking.cooling.is_none() {
            self.core.count_denied(&call.tool);
        }
        let chained = self.story.hops >= self.core.config.hops_max;
        Ok(Judgement::Asks(Box::new(Asks {
            call,
            approval,
            changed,
            policy: asking.policy,
            attended,
            chained,
        })))
    }

    /// Holds a call to the files that its program could execute, as they are now. One that is refused anyway, because nobody
    /// could be asked about it, is not looked at.
    async fn held(&self, call: PreparedCall, askable: bool) -> Result<PreparedCall, String> {
        let is_allowed = self.state.approved(call.id).is_some();
        let is_told = call.arguments.len() <= ARGUMENTS_BYTES_MAX && self.state.awaiting.len() < WAITING_MAX;
        let is_looked_at = is_allowed || askable && is_told;
        if !is_looked_at {
            return Ok(call);
        }
        let extent = self.core.config.approvals.files;
        let contents = self.core.ports.tools.contents(self.agent.id, &call, extent).await?;
        Ok(PreparedCall { contents, ..call })
    }

    /// Tells whether anybody could be asked in this session.
    pub(super) fn is_attended(&self) -> bool {
        !self.core.config.approvals.unattended.contains(&self.platform)
    }

    /// Takes back what was to be asked for, because as many of the tenant's wait as may: first what is before its turn, and then
    /// the one request, whose call is refused instead; the run goes on. Nothing if no request is pending.
    pub(super) fn unask(&mut self) -> Option<Next> {
        if self.unask_ahead() {
            return Some(Next::Rest);
        }
        let index = self.asks.iter().rposition(|ask| ask.state.is_open())?;
        let before = self.before.take()?;
        let ask = self.asks.remove(index);
        self.pending.truncate(before.pending);
        self.state = before.state;
        self.core.count_denied(&ask.tool);
        tracing::warn!(run = %self.run, tool = %ask.tool, "nobody is asked: too many approvals of the tenant are open");
        let reason = format!(
            "This must be allowed first ({}), and nobody is asked: {OPEN_MAX} calls of this tenant wait for an answer \
             already, which is the most. Nothing was done. People must answer some of them (`dromia approval list`); \
             until then go on without it, or say what you wait for.",
            ask.reason
        );
        let denied = Judgement::Denied { rule: FULL.to_owned(), reason, policy: None };
        Some(self.decide(Input::Judged(ask.call, denied)))
    }

    /// Asks the rules: those of the configuration, then those of the tenant. One that denies goes before one that allows.
    async fn answered_ahead(&self, call: &PreparedCall, asking: &Asking) -> Result<Option<Judgement>, Lost> {
        let now = self.core.ports.runtime.clock.now();
        let standing = self.core.ports.store.approval_rules(&self.scope).await.map_err(|_| Lost::Store)?;
        // A call that runs by itself was asked for in another session.
        let session = self.state.approved_call().map_or(self.session, |approved| approved.session);
        let ruled = RuledCall {
            agent: self.agent.id,
            session: Some(session),
            tool: &call.tool,
            arguments: &call.arguments,
        };
        let strongest = ruled.answered_by(&self.core.config.approvals.rules, &standing, now);
        Ok(strongest.map(|(answer, name)| match answer {
            RuleAnswer::Allow => Judgement::Allowed {
                call: call.clone(),
                rule: format!("approval rule {name} for {} {}", asking.word(), asking.rule),
                policy: asking.policy,
            },
            RuleAnswer::Deny => Judgement::Denied {
                rule: format!("approval rule {name}"),
                reason: format!(
                    "this {} ({}), and a rule refuses it ahead; nothing was done. Trying again will not help.",
                    if asking.cooling.is_some() { "would be delayed" } else { "needs a person's approval" },
                    asking.reason
                ),
                policy: asking.policy,
            },
        }))
    }

    /// The digest of everything that is judged: the canonical action, the tool as it is described, where it would reach
    /// out to, what it may use, the files that it could execute, who asks and with which grants, the rule and the policy.
    async fn binding(&self, call: &PreparedCall, asking: &Asking) -> Result<(Digest, BoundParts), Lost> {
        let ports = &self.core.ports;
        let tool = ports.tools.descriptors().iter().find(|descriptor| descriptor.name == call.tool);
        let terms = ports.terms.of(&call.tool, Some((&self.scope, self.agent.id))).await;
        let terms = terms.map_err(|_| Lost::Store)?;
        let limits = ports.tools.limits(&call.tool, &terms);
        let bound = Bound {
            tenant: self.scope.tenant(),
            agent: self.agent.id,
            author: &self.author,
            grants: &self.agent.grants,
            call,
            tool,
            limits,
            terms: &terms,
            rule: &asking.rule,
            policy: asking.policy,
            verdict: asking.cooling.is_some().then(|| asking.word()),
        };
        Ok((bound.digest(), bound.parts()))
    }

    /// Names what is another one now than when a call was asked for that was approved; nothing where all is the same, or where
    /// the request does not say.
    async fn changed(
        &self,
        call: CallId,
        binding: Digest,
        now: &BoundParts,
    ) -> Result<Vec<&'static str>, Lost> {
        let Some((asked, _)) = self.state.approved(call).filter(|(_, known)| *known != binding) else {
            return Ok(Vec::new());
        };
        let asked = self.core.ports.store.approval(&self.scope, asked).await.map_err(|_| Lost::Store)?;
        let then = asked.and_then(|asked| asked.bound);
        Ok(then.map(|then| then.changed(now)).unwrap_or_default())
    }
}

/// Refuses a call that nobody can be asked about, because what it would execute cannot be looked at.
fn unheld(problem: &str, policy: Option<Digest>) -> Judgement {
    let reason = format!(
        "this needs a person's approval, and the files of the workspace that the program could execute cannot be looked at: \
         {problem}. Nothing was done. Ask again later, or tidy the workspace"
    );
    Judgement::Denied { rule: UNHELD.to_owned(), reason, policy }
}
