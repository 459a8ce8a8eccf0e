//! How a call is judged: one list of checks, a file for each, in the order in which they run.
//!
//! A check hands the call on or settles its judgement; a later check never turns a refusal into a permission. A call
//! that waited is judged again from the first check on. Requests to a model and replies pass the gate by the same
//! function ([`CallJudge::ask_gate`]).

mod ahead;
mod approval;
mod call_arguments;
mod call_tool;
mod client_call;
mod erased_call;
pub(crate) mod gate_verdict;
mod late_plan;
pub(crate) mod leak_scan;
mod masked_call;
mod mind_role;
mod network_access;
mod provenance;
mod quote_redaction;
mod repeated_call;
mod reply;
mod second_opinion;

use dromia_contracts::CallId;
use dromia_contracts::approval::ApprovalRequest;
use dromia_contracts::entry::{Entry, JudgedBy};
use dromia_contracts::gate::{GateAction, GateVerdict};
use dromia_contracts::label::Label;
use dromia_contracts::plan::CallProvenance;
use dromia_contracts::sandbox::NetworkAccess;
use dromia_contracts::store::NewEntry;
use dromia_contracts::tool::PreparedCall;

use self::approval::ApprovalGrounds;
use self::second_opinion::AdvisedVerdict;
use crate::context::transcript::ConversationTranscript;
use crate::core::EngineCore;
use crate::decide::CallJudgement;
use crate::owner::error::OwnershipError;
use crate::owner::identity::RunIdentity;
use crate::scheduler::TaskSlot;
use crate::state::RunState;

/// What judges the calls, requests and replies of a run.
pub(crate) struct CallJudge<'a> {
    pub(crate) core: &'a EngineCore,
    pub(crate) identity: &'a RunIdentity,
    pub(crate) state: &'a RunState,
    pub(crate) story: &'a ConversationTranscript,
    pub(crate) slot: &'a TaskSlot,
    /// What a person is asked with the pending entries.
    pub(crate) asks: &'a [ApprovalRequest],
    /// How many bytes were scanned for secrets to quote them in these requests.
    pub(crate) looked: &'a mut usize,
}

/// A judgement, and what the journal keeps beside it.
pub(crate) struct JudgedCall {
    pub(crate) judgement: CallJudgement,
    pub(crate) details: JudgementDetails,
}

/// Why a check hands a call on to no other.
enum JudgementStop {
    /// Its judgement is settled.
    Settled(Box<JudgedCall>),
    /// The run is lost.
    Lost(OwnershipError),
}

impl From<CallJudgement> for JudgementStop {
    fn from(judgement: CallJudgement) -> Self {
        Self::Settled(Box::new(JudgedCall { judgement, details: JudgementDetails::default() }))
    }
}

impl From<OwnershipError> for JudgementStop {
    fn from(error: OwnershipError) -> Self {
        Self::Lost(error)
    }
}

/// What the journal keeps of a judged call beside the verdict. Deciding needs none of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct JudgementDetails {
    /// Whether it lay within the plan of its turn, where that was frozen.
    in_plan: Option<bool>,
    /// What the program would be given that it starts.
    network: Option<NetworkAccess>,
    /// The label of the context that led to it.
    context: Option<Label>,
    /// The arguments that the gate took for endorsed.
    endorsed: Vec<String>,
    /// By which rule a second model may be asked about it, if one must be first.
    asking: Option<JudgedBy>,
}

impl JudgementDetails {
    /// Notes what the gate is asked with.
    fn of_call(call: &PreparedCall, provenance: &CallProvenance, context: Label) -> Self {
        Self {
            in_plan: provenance.frozen.then_some(provenance.in_plan),
            network: call.network,
            context: Some(context),
            endorsed: provenance.endorsed.clone(),
            asking: None,
        }
    }

    /// Writes the details into the entries that the call led to.
    pub(crate) fn annotate_entries(&self, entries: &mut [NewEntry], id: CallId) {
        for new in entries {
            let (in_plan, network) = match &mut new.entry {
                Entry::ToolStarted(started) if started.call == id => {
                    started.context = self.context;
                    started.endorsed.clone_from(&self.endorsed);
                    (&mut started.in_plan, &mut started.network)
                }
                Entry::ToolRefused(refused) if refused.call == id => {
                    (&mut refused.in_plan, &mut refused.network)
                }
                Entry::OpinionCalled(called) if called.call == id => {
                    called.judged.clone_from(&self.asking);
                    continue;
                }
                _ => continue,
            };
            (*in_plan, *network) = (self.in_plan, self.network);
        }
    }
}

impl CallJudge<'_> {
    /// Judges a call; also returns the details for the journal, as far as the gate was asked.
    pub(crate) async fn judge_call(&mut self, id: CallId) -> Result<JudgedCall, OwnershipError> {
        match self.run_checks(id).await {
            Ok(judged) => Ok(judged),
            Err(JudgementStop::Settled(judged)) => Ok(*judged),
            Err(JudgementStop::Lost(error)) => Err(error),
        }
    }

    /// The checks of a call, in their order: leaks, what an erasure left, the client's tools, schema and canonical form,
    /// whether the tool is still there and of the run's role, late plans, loops, then what the gate looks at, the gate, whether the run
    /// was offered the tool, what an answer passes where the call is an interim reply, a second opinion, and the person or
    /// the delay.
    async fn run_checks(&mut self, id: CallId) -> Result<JudgedCall, JudgementStop> {
        self.check_mask(id)?;
        let call = self.find_call(id)?;
        self.check_client_tool(call)?;
        let call = self.check_arguments(call)?;
        self.check_right_to_tool(&call).await?;
        mind_role::check_role(self, &call)?;
        self.check_plan(&call)?;
        self.check_repetition(&call)?;
        let call = self.with_network(call).await?;
        let mut provenance = self.provenance_of(&call).await?;
        let details = JudgementDetails::of_call(&call, &provenance, self.story.taint.label);
        let verdict = self.ask_gate(GateAction::Tool(&call), &provenance).await;
        self.check_offered(&call, &verdict)?;
        if !matches!(verdict, GateVerdict::Deny { .. }) {
            self.check_interim_reply(&call).await?;
        }
        // Boxed, because it is rare and the run's future need not be larger for it.
        let advised = Box::pin(self.apply_opinion(&call, verdict, &mut provenance)).await?;
        let judgement = match advised {
            AdvisedVerdict::Verdict(verdict) => self.apply_verdict(call, verdict, provenance).await?,
            AdvisedVerdict::First(judgement, asking) => {
                let details = JudgementDetails { asking, ..JudgementDetails::default() };
                return Ok(JudgedCall { judgement: *judgement, details });
            }
        };
        Ok(JudgedCall { judgement, details })
    }

    /// Turns the verdict into the judgement: what must be allowed first is asked for.
    async fn apply_verdict(
        &mut self,
        call: PreparedCall,
        verdict: GateVerdict,
        provenance: CallProvenance,
    ) -> Result<CallJudgement, OwnershipError> {
        let (cooling, rule, reason, policy) = match verdict {
            GateVerdict::Allow { rule, policy } => return Ok(CallJudgement::Allowed { call, rule, policy }),
            GateVerdict::Deny { rule, reason, policy } => {
                self.core.activity.calls.count_denied(&call.tool);
                return Ok(CallJudgement::Denied { rule, reason, policy });
            }
            GateVerdict::Ask { rule, reason, policy } => (None, rule, reason, policy),
            GateVerdict::Delay { rule, reason, policy } => {
                (Some(self.core.config().approvals.cooling), rule, reason, policy)
            }
        };
        let asking = ApprovalGrounds { rule, reason, policy, cooling, provenance };
        // Boxed, because it is rare and the run's future need not be larger for it.
        Box::pin(self.judge_asked(call, asking)).await
    }

    /// Refuses a call by a rule of the engine.
    fn deny_call(&self, tool: &str, rule: &str, reason: String) -> JudgementStop {
        self.core.activity.calls.count_denied(tool);
        CallJudgement::Denied { rule: rule.to_owned(), reason, policy: None }.into()
    }
}
