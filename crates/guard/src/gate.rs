//! The gate: one function that asks, in this order, the agent's grants, then the policy.
//!
//! An agent's capabilities count in addition to its grants. What a run stays within counts in any case: such a word
//! takes away, whatever is granted. Both are checked at every call.
//!
//! Default deny: the first grant that covers an action is the rule that allows it, and a policy can only take that away.
//! The gate knows the tools' names only to refuse wrong grants when a configuration is written. It refuses to guess: a
//! grant it cannot read covers nothing. A call that reaches out needs a grant for its tool, one for its host and one for
//! each secret; the egress judges the host again, with its addresses and at every redirect.

use std::sync::Arc;

use dromia_contracts::capability::{HOLDER, WITHIN};
use dromia_contracts::egress::EgressTarget;
use dromia_contracts::gate::{
    ActivePolicy, DEFAULT_DENY, Gate, GateAction, GateVerdict, Principal, RightsHold,
};
use dromia_contracts::id::{AgentId, TenantId};
use dromia_contracts::label::Label;
use dromia_contracts::plan::PlanContext;
use dromia_contracts::redacted_history;
use dromia_contracts::tool::{EffectSink, PreparedCall};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use dromia_contracts::{BoxFuture, Scope};

use crate::capability::{CapabilityDenied, CapabilityRequest, HOSTS, LiveCapabilities};
use crate::egress::target::RequestTarget;
use crate::grant::{Grant, find_covering_grant, parse_grants};
use crate::policy::{PolicyDecision, PolicyEngine, PolicyVerdict, RuleVerdict};
use crate::rights::{CurrentRights, await_denial, share_lists};

/// The rule that denies a privileged tool to an agent for which the operator has not said it.
pub const PRIVILEGED: &str = "privileged";

/// The rule that lets every agent read what its session showed it earlier.
pub const BUILT_IN: &str = "built in";

/// What is said where nothing lets an agent reach a host.
const NO_HOST: &str = "this agent is not granted to reach that host in this way; nothing was sent. Trying again will not \
                       help: only an operator can add \"net:\" or \"net.read:\" and the host to the agent's grants.";

/// Judges by the grants of the agent's configuration, and by the policy whatever they cover.
#[derive(Debug, Clone)]
pub struct GrantGate {
    privileged: Vec<String>,
    policies: PolicyEngine,
    capabilities: Option<Arc<LiveCapabilities>>,
    rights: Arc<CurrentRights>,
}

impl GrantGate {
    /// Makes a gate that judges by these policies.
    pub fn new(policies: PolicyEngine) -> Self {
        Self { privileged: Vec::new(), policies, capabilities: None, rights: Arc::default() }
    }

    /// Lets capabilities count in addition to grants. Without this none does, and a run that stays within one may do
    /// nothing.
    #[must_use]
    pub fn with_capabilities(self, capabilities: Arc<LiveCapabilities>) -> Self {
        Self { capabilities: Some(capabilities), ..self }
    }

    /// The current rights of agents that this gate asks, for what else asks them.
    pub fn current_rights(&self) -> Arc<CurrentRights> {
        Arc::clone(&self.rights)
    }

    /// Lets these current rights of agents count, which another gate knows too.
    #[must_use]
    pub fn with_rights(self, rights: Arc<CurrentRights>) -> Self {
        Self { rights, ..self }
    }

    /// Makes tools privileged: an agent's grant covers them only together with the operator's word.
    #[must_use]
    pub fn with_privileged(self, tools: impl IntoIterator<Item = String>) -> Self {
        Self { privileged: tools.into_iter().collect(), ..self }
    }

    /// Tells whether a tool is privileged and the operator's word for it is not among these grants.
    fn lacks_word(&self, tool: &str, grants: &[String]) -> bool {
        let is_cleared = |text: &String| Grant::parse(text) == Ok(Grant::Cleared(tool));
        self.privileged.iter().any(|known| known == tool) && !grants.iter().any(is_cleared)
    }
}

impl Gate for GrantGate {
    fn check_grants(&self, grants: &[String], tools: &ToolCatalogue) -> Result<(), String> {
        let tools: Vec<_> = tools.descriptors().map(|tool| tool.name.as_str()).collect();
        parse_grants(grants, &tools).map(drop).map_err(|error| error.to_string())
    }

    fn note_rights(&self, tenant: TenantId, agent: AgentId, number: u64, grants: &[String]) -> RightsHold {
        self.rights.note_rights(tenant, agent, number, grants)
    }

    fn share_grants(&self, grants: &[String], bound: &[String]) -> Vec<String> {
        share_lists(&self.rights.narrow_grants(grants), bound)
    }

    fn await_withdrawal<'a>(
        &'a self,
        scope: &'a Scope,
        grants: &'a [String],
        call: &'a PreparedCall,
    ) -> BoxFuture<'a, String> {
        let judge = move || {
            let grants = &*self.rights.narrow_grants(grants);
            let (author, context, plan) = (scope.actor(), Label::PUBLIC_FACT, PlanContext::OPEN);
            let principal = Principal { scope, author, grants, context, endorsed: &[], plan };
            self.check_capability(principal, GateAction::Tool(call))
        };
        let capabilities = self.capabilities.as_deref();
        Box::pin(async move { await_denial(judge, grants, &self.rights, capabilities).await.rule })
    }

    fn call_sink(&self, call: &PreparedCall) -> EffectSink {
        self.policies.call_sink(call)
    }

    fn is_irreversible(&self, call: &PreparedCall) -> bool {
        self.policies.is_irreversible(call)
    }

    fn tenant_policy(&self, tenant: TenantId) -> Option<ActivePolicy> {
        Some(self.policies.active_policy(tenant))
    }

    fn evaluate_action<'a>(
        &'a self,
        principal: Principal<'a>,
        action: GateAction<'a>,
    ) -> BoxFuture<'a, GateVerdict> {
        Box::pin(self.judge_action(principal, action))
    }
}

impl GrantGate {
    async fn judge_action(&self, principal: Principal<'_>, action: GateAction<'_>) -> GateVerdict {
        let grants = self.rights.narrow_grants(principal.grants);
        let principal = Principal { grants: &grants, ..principal };
        let capability = match self.check_capability(principal, action) {
            Ok(rule) => rule,
            Err(GrantDenied { rule, reason }) => return GateVerdict::Deny { rule, reason, policy: None },
        };
        let PolicyDecision { said, layer, policy } =
            self.policies.judge_action(principal, action, &capability).await;
        let policy = Some(policy);
        let RuleVerdict { call, rule, reason } = said;
        match call {
            PolicyVerdict::Allow => GateVerdict::Allow { rule: capability, policy },
            // Only a call can wait.
            PolicyVerdict::Delay if matches!(action, GateAction::Tool(_)) => {
                GateVerdict::Delay { rule, reason, policy }
            }
            PolicyVerdict::Delay => {
                let reason = format!(
                    "this call would be delayed ({reason}), but only tool calls can wait, so it is denied; \
                     nothing was done. Trying again will not help."
                );
                GateVerdict::Deny { rule: format!("delay {rule}"), reason, policy }
            }
            PolicyVerdict::Ask if matches!(action, GateAction::Tool(_)) => {
                GateVerdict::Ask { rule, reason, policy }
            }
            PolicyVerdict::Ask => {
                let reason = format!(
                    "this needs a person's approval ({reason}), but no person can be asked here, so it is \
                     denied; nothing was done. Trying again will not help."
                );
                GateVerdict::Deny { rule: format!("ask {rule}"), reason, policy }
            }
            PolicyVerdict::Deny => {
                let reason = format!(
                    "the {layer} policy denies it ({reason}); nothing was done. Trying again will not help."
                );
                GateVerdict::Deny { rule: format!("policy {rule}"), reason, policy }
            }
        }
    }
}

/// Why no capability covers an action.
struct GrantDenied {
    rule: String,
    reason: String,
}

impl GrantGate {
    /// Finds what lets a principal act, before any policy is asked: the grants and capabilities that cover the action, as
    /// a rule, and within what it lies.
    fn check_capability(
        &self,
        principal: Principal<'_>,
        action: GateAction<'_>,
    ) -> Result<String, GrantDenied> {
        let mut rule = self.find_covering(principal, action)?;
        let is_bounded = || principal.grants.iter().any(|text| text.starts_with(WITHIN));
        if let GateAction::Tool(call) = action
            && is_bounded()
        {
            let mut sought = vec![CapabilityRequest::of_call(call)];
            // A task's bound must cover both the tool and the host.
            let target =
                call.reaches.as_ref().and_then(|reaches| RequestTarget::parse_url(&reaches.url).ok());
            sought.extend(target.as_ref().map(CapabilityRequest::of_target));
            for within in self.check_bounds(principal, &sought)? {
                rule.extend([" and ", within.as_str()]);
            }
        }
        Ok(rule)
    }

    fn find_covering(&self, principal: Principal<'_>, action: GateAction<'_>) -> Result<String, GrantDenied> {
        let mut grants = principal.grants.iter();
        let covering = grants.find(|text| Grant::parse(text).is_ok_and(|grant| grant_covers(grant, action)));
        let covering = match (covering, action) {
            (Some(grant), _) => Ok(format!("grant {grant}")),
            // It shows what this very session has seen before; what forbids it counts all the same.
            (None, GateAction::Tool(call)) if call.tool == redacted_history::READ => Ok(BUILT_IN.to_owned()),
            (None, GateAction::Tool(call)) => self.find_held(principal, || CapabilityRequest::of_call(call)),
            (None, GateAction::Model { .. } | GateAction::Reply { .. }) => Err(None),
        };
        match (covering, action) {
            (Ok(_), GateAction::Tool(call)) if self.lacks_word(&call.tool, principal.grants) => {
                Err(GrantDenied {
                    rule: PRIVILEGED.to_owned(),
                    reason: format!(
                        "the tool {0:?} is privileged, and only the operator can allow it for this agent; \
                         nothing was done. Trying again will not help: it needs \
                         agents.HANDLE.tools.{0}.privileged: true in dromia.yaml.",
                        call.tool
                    ),
                })
            }
            (Ok(rule), GateAction::Tool(PreparedCall { reaches: Some(reaches), .. })) => {
                self.check_reach(&rule, principal, reaches)
            }
            (Ok(rule), _) => Ok(rule),
            (Err(Some(denied)), _) => Err(GrantDenied::from_capability(denied)),
            (Err(None), GateAction::Tool(call)) => {
                let beside = self.similar_capability(principal, &CapabilityRequest::right_kinds(call));
                let reason = beside.unwrap_or_else(|| denial_reason(action));
                Err(GrantDenied { rule: DEFAULT_DENY.to_owned(), reason })
            }
            (Err(None), _) => {
                Err(GrantDenied { rule: DEFAULT_DENY.to_owned(), reason: denial_reason(action) })
            }
        }
    }

    /// Says which capability of the principal allows the same at another place, where one does; it decides nothing.
    fn similar_capability(&self, principal: Principal<'_>, kinds: &[&str]) -> Option<String> {
        let capabilities = self.capabilities.as_ref()?;
        let held = capabilities.similar_capability(principal.scope.tenant(), principal.grants, kinds)?;
        Some(format!(
            "{held}; nothing was done. Trying again will not help: only an operator can grant more, and `dromia capability \
             explain` says what each capability allows."
        ))
    }

    /// Finds the capability of the principal that covers what is sought. `sought` is not called for a principal that
    /// holds none.
    fn find_held(
        &self,
        principal: Principal<'_>,
        sought: impl FnOnce() -> CapabilityRequest,
    ) -> Result<String, Option<CapabilityDenied>> {
        let Some(capabilities) = &self.capabilities else { return Err(None) };
        if !principal.grants.iter().any(|text| text.starts_with(HOLDER)) {
            return Err(None);
        }
        capabilities.find_covering(Some(principal.scope.tenant()), principal.grants, &sought())
    }

    /// Keeps a bounded run within what it stays within.
    fn check_bounds(
        &self,
        principal: Principal<'_>,
        sought: &[CapabilityRequest],
    ) -> Result<Vec<String>, GrantDenied> {
        match &self.capabilities {
            Some(capabilities) => {
                let tenant = Some(principal.scope.tenant());
                capabilities
                    .check_bounds(tenant, principal.grants, sought)
                    .map_err(GrantDenied::from_capability)
            }
            None => Err(GrantDenied {
                rule: "within".to_owned(),
                reason: "the server cannot read the capability that limits this task; nothing was done."
                    .to_owned(),
            }),
        }
    }

    /// Finds what lets a call of a covered tool reach out to where it would, with the secrets that it names.
    fn check_reach(
        &self,
        rule: &str,
        principal: Principal<'_>,
        reaches: &EgressTarget,
    ) -> Result<String, GrantDenied> {
        let grants = principal.grants;
        let target = RequestTarget::parse_url(&reaches.url).map_err(|refused| GrantDenied {
            rule: refused.rule.to_owned(),
            reason: refused.reason.to_owned(),
        })?;
        let is_granted = |secret: &String| {
            grants.iter().any(|text| Grant::parse(text).is_ok_and(|grant| grant.covers_secret(secret)))
        };
        if let Some(secret) = reaches.secrets.iter().find(|secret| !is_granted(secret)) {
            return Err(GrantDenied {
                rule: DEFAULT_DENY.to_owned(),
                reason: format!(
                    "this agent is not granted the secret {secret:?}; nothing was sent. Trying again will not help: \
                     only an operator can add \"secret:{secret}\" to the agent's grants."
                ),
            });
        }
        let host = match find_covering_grant(grants, reaches.method, &target) {
            Some((host, _)) => Ok(host.to_owned()),
            None => self.find_held(principal, || CapabilityRequest::of_target(&target)),
        };
        match host {
            Ok(host) => {
                let mut rule = if host == rule { host } else { format!("{rule} and {host}") };
                for secret in &reaches.secrets {
                    rule.extend([" and secret:", secret.as_str()]);
                }
                Ok(rule)
            }
            Err(Some(denied)) => Err(GrantDenied::from_capability(denied)),
            Err(None) => Err(GrantDenied {
                rule: DEFAULT_DENY.to_owned(),
                reason: self.similar_capability(principal, &[HOSTS]).unwrap_or_else(|| NO_HOST.to_owned()),
            }),
        }
    }
}

impl GrantDenied {
    fn from_capability(denied: CapabilityDenied) -> Self {
        let CapabilityDenied { rule, reason } = denied;
        Self {
            rule,
            reason: format!(
                "{reason}; nothing was done. Trying again will not help: only an operator can grant more."
            ),
        }
    }
}

fn grant_covers(grant: Grant<'_>, action: GateAction<'_>) -> bool {
    match action {
        GateAction::Tool(call) => grant.covers_tool(&call.tool),
        GateAction::Model { model } => grant.covers_model(model),
        GateAction::Reply { .. } => grant.covers_reply(),
    }
}

/// Says what was refused and which grant would allow it, for a model and for a person alike.
fn denial_reason(action: GateAction<'_>) -> String {
    match action {
        GateAction::Tool(call) => format!(
            "this agent is not granted the tool {:?}; nothing was done. Trying again will not help: only an operator \
             can add the tool to the agent's grants.",
            call.tool
        ),
        GateAction::Model { model } => format!(
            "this agent is not granted the model {model:?}. An operator can add \"model\", or \"model:\" and the \
             alias, to the agent's grants."
        ),
        GateAction::Reply { session } => format!(
            "this agent is not granted to reply, so nothing was sent to {session}. An operator can add \"reply\" to \
             the agent's grants."
        ),
    }
}
