//! The gate: one function that asks, in this order, the agent's grants, then the policy.
//!
//! What an agent holds in capabilities counts beside its grants, and within what a run stays counts in any case: such a word
//! takes away, whatever is granted. Both are asked anew at every call.
//!
//! Default deny: the first grant that covers an action is the rule that allows it, and a policy can only take that away.
//! The gate knows the tools' names only to refuse wrong grants when a configuration is written. It refuses to guess: a
//! grant it cannot read covers nothing. A call that reaches out needs a grant for its tool, one for its host and one for
//! each secret; the egress judges the host again, with its addresses and at every redirect.

use std::sync::Arc;

use dromia_contracts::capability::{HOLDER, WITHIN};
use dromia_contracts::egress::Reaches;
use dromia_contracts::gate::{Action, Gate, PolicyStanding, Principal, Verdict};
use dromia_contracts::id::TenantId;
use dromia_contracts::past;
use dromia_contracts::tool::{PreparedCall, Sink};

use crate::capability::{Denied, HOSTS, Live, Sought};
use crate::egress::reach;
use crate::egress::target::Target;
use crate::grant::{Grant, parse_grants};
use crate::policy::{Call, Judged, Policies, Said};

/// The rule that denies whatever no grant covers.
pub const DEFAULT_DENY: &str = "default deny";

/// The rule that denies a privileged tool to an agent for which the operator has not said it.
pub const PRIVILEGED: &str = "privileged";

/// The rule that lets every agent read what its session was told before.
pub const BUILT_IN: &str = "built in";

/// What is said where nothing lets an agent reach a host.
const NO_HOST: &str = "this agent is not granted to reach that host in this way; nothing was sent. Trying again will not \
                       help: only an operator can add \"net:\" or \"net.read:\" and the host to the agent's grants.";

/// Judges by the grants of the agent's configuration, and by the policy whatever they cover.
#[derive(Debug, Clone)]
pub struct GrantGate {
    tools: Vec<String>,
    privileged: Vec<String>,
    policies: Policies,
    capabilities: Option<Arc<Live>>,
}

impl GrantGate {
    /// Makes a gate that takes grants for the named tools, and for no other.
    pub fn new<T: Into<String>>(policies: Policies, tools: impl IntoIterator<Item = T>) -> Self {
        let tools = tools.into_iter().map(Into::into).collect();
        Self { tools, privileged: Vec::new(), policies, capabilities: None }
    }

    /// Lets capabilities count beside grants. Without them none does, and a run that stays within one may do nothing.
    #[must_use]
    pub fn with_capabilities(self, capabilities: Arc<Live>) -> Self {
        Self { capabilities: Some(capabilities), ..self }
    }

    /// Makes tools privileged: a grant of an agent does not cover them without the operator's word beside it.
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
    fn check_grants(&self, grants: &[String]) -> Result<(), String> {
        let tools: Vec<_> = self.tools.iter().map(String::as_str).collect();
        parse_grants(grants, &tools).map(drop).map_err(|error| error.to_string())
    }

    fn sink(&self, call: &PreparedCall) -> Sink {
        self.policies.sink(call)
    }

    fn is_irreversible(&self, call: &PreparedCall) -> bool {
        self.policies.is_irreversible(call)
    }

    fn policy(&self, tenant: TenantId) -> Option<PolicyStanding> {
        Some(self.policies.standing(tenant))
    }

    fn judge(&self, principal: Principal<'_>, action: Action<'_>) -> Verdict {
        let capability = match self.capability(principal, action) {
            Ok(rule) => rule,
            Err(Refusal { rule, reason }) => return Verdict::Deny { rule, reason, policy: None },
        };
        let Judged { said, layer, policy } = self.policies.judge(principal, action, &capability);
        let policy = Some(policy);
        let Said { call, rule, reason } = said;
        match call {
            Call::Allow => Verdict::Allow { rule: capability, policy },
            // Only a call can wait.
            Call::Delay if matches!(action, Action::Tool(_)) => Verdict::Delay { rule, reason, policy },
            Call::Delay => {
                let reason = format!(
                    "this would be delayed ({reason}), and only calls of tools can wait, so it is refused; nothing was \
                     done. Trying again will not help."
                );
                Verdict::Deny { rule: format!("delay {rule}"), reason, policy }
            }
            Call::Ask if matches!(action, Action::Tool(_)) => Verdict::Ask { rule, reason, policy },
            Call::Ask => {
                let reason = format!(
                    "this needs a person's approval ({reason}), and nobody can be asked about it, so it is refused; \
                     nothing was done. Trying again will not help."
                );
                Verdict::Deny { rule: format!("ask {rule}"), reason, policy }
            }
            Call::Deny => {
                let reason = format!(
                    "the {layer} policy forbids it ({reason}); nothing was done. Trying again will not help."
                );
                Verdict::Deny { rule: format!("policy {rule}"), reason, policy }
            }
        }
    }
}

/// Why no capability covers an action.
struct Refusal {
    rule: String,
    reason: String,
}

impl GrantGate {
    /// Finds what lets a principal act, before any policy is asked: the grants and capabilities that cover the action, as
    /// a rule, and within what it lies.
    fn capability(&self, principal: Principal<'_>, action: Action<'_>) -> Result<String, Refusal> {
        let mut rule = self.covering(principal, action)?;
        let is_bounded = || principal.grants.iter().any(|text| text.starts_with(WITHIN));
        if let Action::Tool(call) = action
            && is_bounded()
        {
            let mut sought = vec![Sought::of_call(call)];
            // A task that may use the tool has not been told that it may reach that host.
            let target = call.reaches.as_ref().and_then(|reaches| Target::read(&reaches.url).ok());
            sought.extend(target.as_ref().map(Sought::of_target));
            for within in self.bounding(principal, &sought)? {
                rule.extend([" and ", within.as_str()]);
            }
        }
        Ok(rule)
    }

    fn covering(&self, principal: Principal<'_>, action: Action<'_>) -> Result<String, Refusal> {
        let mut grants = principal.grants.iter();
        let covering = grants.find(|text| Grant::parse(text).is_ok_and(|grant| covers(grant, action)));
        let covering = match (covering, action) {
            (Some(grant), _) => Ok(format!("grant {grant}")),
            // What it tells was told to this very session before; what forbids it counts all the same.
            (None, Action::Tool(call)) if call.tool == past::READ => Ok(BUILT_IN.to_owned()),
            (None, Action::Tool(call)) => self.held(principal, || Sought::of_call(call)),
            (None, Action::Model { .. } | Action::Reply { .. }) => Err(None),
        };
        match (covering, action) {
            (Ok(_), Action::Tool(call)) if self.lacks_word(&call.tool, principal.grants) => Err(Refusal {
                rule: PRIVILEGED.to_owned(),
                reason: format!(
                    "the tool {0:?} is privileged, and only the operator can let this agent use it; nothing was done. \
                     Trying again will not help: it takes agents.HANDLE.tools.{0}.privileged: true in dromia.yaml.",
                    call.tool
                ),
            }),
            (Ok(rule), Action::Tool(PreparedCall { reaches: Some(reaches), .. })) => {
                self.reach(&rule, principal, reaches)
            }
            (Ok(rule), _) => Ok(rule),
            (Err(Some(denied)), _) => Err(Refusal::of(denied)),
            (Err(None), Action::Tool(call)) => {
                let beside = self.beside(principal, &Sought::kinds(call));
                let reason = beside.unwrap_or_else(|| reason(action));
                Err(Refusal { rule: DEFAULT_DENY.to_owned(), reason })
            }
            (Err(None), _) => Err(Refusal { rule: DEFAULT_DENY.to_owned(), reason: reason(action) }),
        }
    }

    /// Says which capability of the principal allows the same at another place, where one does; it decides nothing.
    fn beside(&self, principal: Principal<'_>, kinds: &[&str]) -> Option<String> {
        let capabilities = self.capabilities.as_ref()?;
        let held = capabilities.beside(principal.scope.tenant(), principal.grants, kinds)?;
        Some(format!(
            "{held}; nothing was done. Trying again will not help: only an operator can grant more, and `dromia capability \
             explain` says what each capability allows."
        ))
    }

    /// Finds the capability of the principal that covers what is sought. Whoever holds none is asked nothing.
    fn held(
        &self,
        principal: Principal<'_>,
        sought: impl FnOnce() -> Sought,
    ) -> Result<String, Option<Denied>> {
        let Some(capabilities) = &self.capabilities else { return Err(None) };
        if !principal.grants.iter().any(|text| text.starts_with(HOLDER)) {
            return Err(None);
        }
        capabilities.covering(Some(principal.scope.tenant()), principal.grants, &sought())
    }

    /// Keeps a bounded run within what it stays within.
    fn bounding(&self, principal: Principal<'_>, sought: &[Sought]) -> Result<Vec<String>, Refusal> {
        match &self.capabilities {
            Some(capabilities) => {
                let tenant = Some(principal.scope.tenant());
                capabilities.bounding(tenant, principal.grants, sought).map_err(Refusal::of)
            }
            None => Err(Refusal {
                rule: "within".to_owned(),
                reason:
                    "this task may do less than its agent, and nobody can look how much; nothing was done."
                        .to_owned(),
            }),
        }
    }

    /// Finds what lets a call of a covered tool reach out to where it would, with the secrets that it names.
    fn reach(&self, rule: &str, principal: Principal<'_>, reaches: &Reaches) -> Result<String, Refusal> {
        let grants = principal.grants;
        let target = Target::read(&reaches.url).map_err(|refused| Refusal {
            rule: refused.rule.to_owned(),
            reason: refused.reason.to_owned(),
        })?;
        let is_granted = |secret: &String| {
            grants.iter().any(|text| Grant::parse(text).is_ok_and(|grant| grant.covers_secret(secret)))
        };
        if let Some(secret) = reaches.secrets.iter().find(|secret| !is_granted(secret)) {
            return Err(Refusal {
                rule: DEFAULT_DENY.to_owned(),
                reason: format!(
                    "this agent is not granted the secret {secret:?}; nothing was sent. Trying again will not help: \
                     only an operator can add \"secret:{secret}\" to the agent's grants."
                ),
            });
        }
        let host = match reach::covering(grants, reaches.method, &target) {
            Some((host, _)) => Ok(host.to_owned()),
            None => self.held(principal, || Sought::of_target(&target)),
        };
        match host {
            Ok(host) => {
                let mut rule = if host == rule { host } else { format!("{rule} and {host}") };
                for secret in &reaches.secrets {
                    rule.extend([" and secret:", secret.as_str()]);
                }
                Ok(rule)
            }
            Err(Some(denied)) => Err(Refusal::of(denied)),
            Err(None) => Err(Refusal {
                rule: DEFAULT_DENY.to_owned(),
                reason: self.beside(principal, &[HOSTS]).unwrap_or_else(|| NO_HOST.to_owned()),
            }),
        }
    }
}

impl Refusal {
    fn of(denied: Denied) -> Self {
        let Denied { rule, reason } = denied;
        Self {
            rule,
            reason: format!(
                "{reason}; nothing was done. Trying again will not help: only an operator can grant more."
            ),
        }
    }
}

fn covers(grant: Grant<'_>, action: Action<'_>) -> bool {
    match action {
        Action::Tool(call) => grant.covers_tool(&call.tool),
        Action::Model { model } => grant.covers_model(model),
        Action::Reply { .. } => grant.covers_reply(),
    }
}

/// Says what was refused and which grant would allow it, for a model and for a person alike.
fn reason(action: Action<'_>) -> String {
    match action {
        Action::Tool(call) => format!(
            "this agent is not granted the tool {:?}; nothing was done. Trying again will not help: only an operator \
             can add the tool to the agent's grants.",
            call.tool
        ),
        Action::Model { model } => format!(
            "this agent is not granted the model {model:?}. An operator can add \"model\", or \"model:\" and the \
             alias, to the agent's grants."
        ),
        Action::Reply { session } => format!(
            "this agent is not granted to reply, so nothing was sent to {session}. An operator can add \"reply\" to \
             the agent's grants."
        ),
    }
}
