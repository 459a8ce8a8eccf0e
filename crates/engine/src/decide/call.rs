//! What becomes of a call: it begins, is refused, is handed to the client, or ends with its one result.

use dromia_contracts::content::{AssistantMessage, CallStatus, ContentPart, ToolCall, ToolResult};
use dromia_contracts::egress::EgressDecision;
use dromia_contracts::entry::{CallAsked, Entry, ToolFinished, ToolHanded, ToolRefused, ToolStarted};
use dromia_contracts::input::ManualCall;
use dromia_contracts::label::Label;
use dromia_contracts::tool::{EffectClass, PreparedCall, ToolOutput};
use dromia_contracts::{ApprovalId, CallId, Digest};

use super::{BODY_BYTES_MAX, CallJudgement, DecisionDraft, NextAction, to_body};
use crate::state::{CallStage, RunPhase};

/// Who refuses a call: a rule, and the policy that was asked, where there are any.
#[derive(Debug, Default)]
pub(super) struct RefusalSource {
    rule: Option<String>,
    policy: Option<Digest>,
    /// The approval that is refused with it, where the call was not asked for under one before.
    approval: Option<ApprovalId>,
}

/// What is written of a call that ended, beside its result.
#[derive(Debug, Default)]
struct EndedCallFacts {
    egress: Vec<EgressDecision>,
    /// The rule that denied it while it ran.
    withdrawn: Option<String>,
    /// Whether its result is an interim reply.
    reply: bool,
}

impl RefusalSource {
    /// A rule that asks no policy.
    pub(super) fn by_rule(rule: &str) -> Self {
        Self { rule: Some(rule.to_owned()), policy: None, approval: None }
    }

    /// A rule that needs an approval which no person could give.
    pub(super) fn by_approval_rule(
        rule: String,
        policy: Option<Digest>,
        approval: Option<ApprovalId>,
    ) -> Self {
        Self { rule: Some(rule), policy, approval }
    }
}

impl DecisionDraft {
    /// Begins with the one call of a manual run; it is judged and run as a model's call is.
    pub(super) fn begin_manual_call(&mut self, asked: ManualCall) -> NextAction {
        let RunPhase::StepDue { step, .. } = self.state.phase else { return self.go_on() };
        let ManualCall { tool, arguments } = asked;
        let id = CallId { step, index: 0 };
        let calls = vec![ToolCall { id, tool: tool.clone(), arguments }];
        let body = to_body(&AssistantMessage { parts: Vec::new(), calls });
        self.push_with(Entry::CallAsked(CallAsked { call: id, tool }), Some(body));
        self.go_on()
    }

    pub(super) fn apply_judgement(&mut self, call: CallId, judgement: CallJudgement) -> NextAction {
        let Some((due, known)) = self.state.next_call() else { return self.go_on() };
        if due != call {
            return NextAction::Judge(due);
        }
        let (tool, before) = (known.tool.clone(), known.progress.clone());
        match judgement {
            CallJudgement::Allowed { call: prepared, .. }
                if self.state.unknown_actions.contains(&prepared.action) =>
            {
                self.refuse_unknown(call, tool)
            }
            CallJudgement::RequiredApproval(asks)
                if self.state.unknown_actions.contains(&asks.call.action) =>
            {
                self.refuse_unknown(call, tool)
            }
            CallJudgement::OpinionRequest(consults)
                if self.state.unknown_actions.contains(&consults.call.action) =>
            {
                self.refuse_unknown(call, tool)
            }
            CallJudgement::Allowed { call: prepared, rule, policy } => {
                let attempt = match before {
                    CallStage::Started { attempt, .. } => attempt + 1,
                    CallStage::Waiting | CallStage::Held { .. } | CallStage::Done(_) | CallStage::Handed => 1,
                };
                self.start_call(call, prepared, attempt, rule, policy)
            }
            CallJudgement::RequiredApproval(asks) => self.begin_or_ask(call, tool, &before, *asks),
            CallJudgement::OpinionRequest(consults) => self.reserve_opinion(call, *consults),
            CallJudgement::Unconsulted { action, opinion } => {
                self.record_unasked_opinion(call, action, opinion)
            }
            CallJudgement::Denied { rule, reason, policy } => {
                let by = RefusalSource { rule: Some(rule), policy, approval: None };
                self.refuse_call(call, tool, CallStatus::Denied, by, &reason)
            }
            CallJudgement::Malformed(error) => {
                self.refuse_call(call, tool, CallStatus::Error, RefusalSource::default(), &error.to_string())
            }
            CallJudgement::ForClient => {
                self.push_entry(Entry::ToolHanded(ToolHanded { call, tool }));
                self.go_on()
            }
        }
    }

    fn refuse_unknown(&mut self, call: CallId, tool: String) -> NextAction {
        let text = "The identical action started earlier in this run and its outcome is unknown. It is not \
                    repeated without a person: say what you know, and let the person ask for it again.";
        self.refuse_call(call, tool, CallStatus::Denied, RefusalSource::by_rule("unknown-outcome"), text)
    }

    /// Begins an attempt at a call. The first attempt uses up the call's approval, even if none is needed any more.
    pub(super) fn start_call(
        &mut self,
        call: CallId,
        prepared: PreparedCall,
        attempt: u32,
        rule: String,
        policy: Option<Digest>,
    ) -> NextAction {
        let approval = self.state.granted_approval(call).map(|(approval, _)| approval);
        // A call whose approval was requested before its turn may need none now, because of a rule that came with
        // another answer.
        let unneeded = if approval.is_some() { None } else { self.state.asked_ahead(call) };
        // An opinion about another action does not apply.
        let opinion = self.state.call_opinion(call).filter(|(action, _)| *action == prepared.action);
        let opinion = opinion.map(|(_, opinion)| opinion.clone());
        self.push_entry(Entry::ToolStarted(ToolStarted {
            call,
            tool: prepared.tool.clone(),
            effect: prepared.effect,
            attempt,
            action: prepared.action,
            rule,
            policy,
            approval,
            unneeded,
            in_plan: None,
            network: None,
            context: None,
            endorsed: Vec::new(),
            opinion,
        }));
        NextAction::RunTool(prepared)
    }

    pub(super) fn accept_output(&mut self, call: CallId, output: ToolOutput) -> NextAction {
        let status = if output.failed { CallStatus::Error } else { CallStatus::Ok };
        self.sends.extend(output.sends);
        self.opens.extend(output.opens);
        let reply = output.reply && !output.failed;
        self.finish_judged(
            call,
            status,
            output.parts,
            EndedCallFacts { egress: output.egress, withdrawn: None, reply },
        );
        self.go_on()
    }

    /// Ends a call whose right was withdrawn while it ran.
    pub(super) fn withdraw_call(&mut self, call: CallId, rule: String) -> NextAction {
        let had_none = self.state.next_call().is_some_and(|(_, known)| {
            let CallStage::Started { effect, .. } = known.progress else { return false };
            matches!(effect, EffectClass::Pure | EffectClass::Transactional)
        });
        let (status, effect) = if had_none {
            (CallStatus::Denied, "It had no effect.")
        } else {
            (
                CallStatus::Unknown,
                "It may have had its effect, a part of it, or none. Check before you continue.",
            )
        };
        let text = format!(
            "The right to make this call was withdrawn while it ran, and the server ended it. {effect} Trying again will \
             not help: only an operator can give the right back."
        );
        let parts = vec![ContentPart::new_text(text, Label::PUBLIC_FACT)];
        let facts = EndedCallFacts { withdrawn: Some(rule), ..EndedCallFacts::default() };
        self.finish_judged(call, status, parts, facts);
        self.go_on()
    }

    pub(super) fn refuse_call(
        &mut self,
        call: CallId,
        tool: String,
        status: CallStatus,
        by: RefusalSource,
        text: &str,
    ) -> NextAction {
        self.push_refusal(call, tool, status, by, text);
        self.go_on()
    }

    /// Gives a call that never began its result, and decides nothing: the end of a run closes its calls first.
    pub(super) fn push_refusal(
        &mut self,
        call: CallId,
        tool: String,
        status: CallStatus,
        by: RefusalSource,
        text: &str,
    ) {
        let result =
            ToolResult { call, status, parts: vec![ContentPart::new_text(text, Label::PUBLIC_FACT)] };
        let body = to_body(&result);
        let RefusalSource { rule, policy, approval } = by;
        let approval = approval.or_else(|| self.state.call_approval(call));
        let opinion = self.state.call_opinion(call).map(|(_, opinion)| opinion.clone());
        let (in_plan, network) = (None, None);
        let refused = ToolRefused { call, tool, status, rule, policy, approval, in_plan, network, opinion };
        self.push_with(Entry::ToolRefused(refused), Some(body));
    }

    pub(super) fn finish_call(&mut self, call: CallId, status: CallStatus, parts: Vec<ContentPart>) {
        self.finish_judged(call, status, parts, EndedCallFacts::default());
    }

    fn finish_judged(
        &mut self,
        call: CallId,
        status: CallStatus,
        parts: Vec<ContentPart>,
        EndedCallFacts { egress, withdrawn, reply }: EndedCallFacts,
    ) {
        // Without the call's id, which is another one each time.
        let parts_of = to_body(&parts);
        let mut body = to_body(&ToolResult { call, status, parts });
        if body.len() > BODY_BYTES_MAX {
            let text =
                format!("The result has {} bytes, more than {BODY_BYTES_MAX}; ask for less.", body.len());
            body = to_body(&ToolResult {
                call,
                status,
                parts: vec![ContentPart::new_text(text, Label::PUBLIC_FACT)],
            });
        }
        let ended = matches!(status, CallStatus::Ok | CallStatus::Error);
        let result = ended.then(|| Digest::from_bytes(*blake3::hash(&parts_of).as_bytes()));
        let finished = ToolFinished { call, status, egress, result, withdrawn, reply };
        self.push_with(Entry::ToolFinished(finished), Some(body));
    }
}
