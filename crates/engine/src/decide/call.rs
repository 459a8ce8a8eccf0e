//! What becomes of a call: it begins, is refused, is handed to the client, or ends with its one result.

use dromia_contracts::content::{AssistantMessage, CallStatus, Part, ToolCall, ToolResult};
use dromia_contracts::egress::Decision;
use dromia_contracts::entry::{CallAsked, Entry, ToolFinished, ToolHanded, ToolRefused, ToolStarted};
use dromia_contracts::input::AskedCall;
use dromia_contracts::label::Label;
use dromia_contracts::tool::{PreparedCall, ToolOutput};
use dromia_contracts::{ApprovalId, CallId, Digest};

use super::{BODY_BYTES_MAX, Draft, Judgement, Next, to_body};
use crate::state::{Phase, Progress};

/// Who refuses a call: a rule, and the policy that was asked, where there are any.
#[derive(Debug, Default)]
pub(super) struct Refusing {
    rule: Option<String>,
    policy: Option<Digest>,
    /// The approval that is refused with it, where the call was not asked for under one before.
    approval: Option<ApprovalId>,
}

impl Refusing {
    /// A rule that asks no policy.
    pub(super) fn by(rule: &str) -> Self {
        Self { rule: Some(rule.to_owned()), policy: None, approval: None }
    }

    /// A rule that asks for an approval which nobody could give.
    pub(super) fn of(rule: String, policy: Option<Digest>, approval: Option<ApprovalId>) -> Self {
        Self { rule: Some(rule), policy, approval }
    }
}

impl Draft {
    /// Begins with the one call that somebody asked for; it is judged and run as a model's call is.
    pub(super) fn asked(&mut self, asked: AskedCall) -> Next {
        let Phase::StepDue { step, .. } = self.state.phase else { return self.go_on() };
        let AskedCall { tool, arguments } = asked;
        let id = CallId { step, index: 0 };
        let calls = vec![ToolCall { id, tool: tool.clone(), arguments }];
        let body = to_body(&AssistantMessage { parts: Vec::new(), calls });
        self.push_with(Entry::CallAsked(CallAsked { call: id, tool }), Some(body));
        self.go_on()
    }

    pub(super) fn judged(&mut self, call: CallId, judgement: Judgement) -> Next {
        let Some((due, known)) = self.state.next_call() else { return self.go_on() };
        if due != call {
            return Next::Judge(due);
        }
        let (tool, before) = (known.tool.clone(), known.progress.clone());
        match judgement {
            Judgement::Allowed { call: prepared, .. } if self.is_unknown(prepared.action) => {
                self.refuse_unknown(call, tool)
            }
            Judgement::Asks(asks) if self.is_unknown(asks.call.action) => self.refuse_unknown(call, tool),
            Judgement::Consults(consults) if self.is_unknown(consults.call.action) => {
                self.refuse_unknown(call, tool)
            }
            Judgement::Allowed { call: prepared, rule, policy } => {
                let attempt = match before {
                    Progress::Started { attempt, .. } => attempt + 1,
                    Progress::Waiting | Progress::Held { .. } | Progress::Done(_) | Progress::Handed => 1,
                };
                self.start(call, prepared, attempt, rule, policy)
            }
            Judgement::Asks(asks) => self.asks(call, tool, &before, *asks),
            Judgement::Consults(consults) => self.consults(call, *consults),
            Judgement::Unconsulted { action, opinion } => self.unconsulted(call, action, opinion),
            Judgement::Denied { rule, reason, policy } => {
                let by = Refusing { rule: Some(rule), policy, approval: None };
                self.refuse(call, tool, CallStatus::Denied, by, &reason)
            }
            Judgement::Malformed(error) => {
                self.refuse(call, tool, CallStatus::Error, Refusing::default(), &error.to_string())
            }
            Judgement::ForClient => {
                self.push(Entry::ToolHanded(ToolHanded { call, tool }));
                self.go_on()
            }
        }
    }

    fn is_unknown(&self, action: Digest) -> bool {
        self.state.unknown_actions.contains(&action)
    }

    fn refuse_unknown(&mut self, call: CallId, tool: String) -> Next {
        let text = "This very action began earlier in this run and its outcome is unknown. It is not repeated \
                    without a person: say what you know, and let the person ask for it again.";
        self.refuse(call, tool, CallStatus::Denied, Refusing::by("unknown-outcome"), text)
    }

    /// Begins an attempt at a call. The approval under which it was asked for is used up by its first one, also where
    /// none is needed any more.
    pub(super) fn start(
        &mut self,
        call: CallId,
        prepared: PreparedCall,
        attempt: u32,
        rule: String,
        policy: Option<Digest>,
    ) -> Next {
        let approval = self.state.approved(call).map(|(approval, _)| approval);
        // What was asked for before its turn may need nobody any more, by a rule that came with another answer for one.
        let unneeded = if approval.is_some() { None } else { self.state.asked_ahead(call) };
        // What was said of another action is no word about this one.
        let opinion = self.state.opinion(call).filter(|(action, _)| *action == prepared.action);
        let opinion = opinion.map(|(_, opinion)| opinion.clone());
        self.push(Entry::ToolStarted(ToolStarted {
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
            opinion,
        }));
        Next::RunTool(prepared)
    }

    pub(super) fn finished(&mut self, call: CallId, output: ToolOutput) -> Next {
        let status = if output.failed { CallStatus::Error } else { CallStatus::Ok };
        self.sends.extend(output.sends);
        self.finish_judged(call, status, output.parts, output.egress);
        self.go_on()
    }

    pub(super) fn refuse(
        &mut self,
        call: CallId,
        tool: String,
        status: CallStatus,
        by: Refusing,
        text: &str,
    ) -> Next {
        self.push_refusal(call, tool, status, by, text);
        self.go_on()
    }

    /// Gives a call that never began its result, and decides nothing: whoever ends a run closes its calls first.
    pub(super) fn push_refusal(
        &mut self,
        call: CallId,
        tool: String,
        status: CallStatus,
        by: Refusing,
        text: &str,
    ) {
        let result = ToolResult { call, status, parts: vec![Part::text(text, Label::PUBLIC_FACT)] };
        let body = to_body(&result);
        let Refusing { rule, policy, approval } = by;
        let approval = approval.or_else(|| self.state.approval(call));
        let opinion = self.state.opinion(call).map(|(_, opinion)| opinion.clone());
        let (in_plan, network) = (None, None);
        let refused = ToolRefused { call, tool, status, rule, policy, approval, in_plan, network, opinion };
        self.push_with(Entry::ToolRefused(refused), Some(body));
    }

    pub(super) fn finish(&mut self, call: CallId, status: CallStatus, parts: Vec<Part>) {
        self.finish_judged(call, status, parts, Vec::new());
    }

    fn finish_judged(&mut self, call: CallId, status: CallStatus, parts: Vec<Part>, egress: Vec<Decision>) {
        // Without the call's id, which is another one each time.
        let parts_of = to_body(&parts);
        let mut body = to_body(&ToolResult { call, status, parts });
        if body.len() > BODY_BYTES_MAX {
            let text =
                format!("The result has {} bytes, more than {BODY_BYTES_MAX}; ask for less.", body.len());
            body = to_body(&ToolResult { call, status, parts: vec![Part::text(text, Label::PUBLIC_FACT)] });
        }
        let ended = matches!(status, CallStatus::Ok | CallStatus::Error);
        let result = ended.then(|| Digest::from_bytes(*blake3::hash(&parts_of).as_bytes()));
        self.push_with(Entry::ToolFinished(ToolFinished { call, status, egress, result }), Some(body));
    }
}
