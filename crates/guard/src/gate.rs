//! The gate: one function that asks, in this order, the agent's grants, then the policy.
//!
//! Default deny: the first grant that covers an action is the rule that allows it, and a policy can only take that away.
//! The gate knows the tools' names only to refuse wrong grants when a configuration is written. It refuses to guess: a
//! grant it cannot read covers nothing. A call that reaches out needs a grant for its tool, one for its host and one for
//! each secret; the egress judges the host again, with its addresses and at every redirect.

use dromia_contracts::egress::Reaches;
use dromia_contracts::gate::{Action, Gate, Principal, Verdict};
use dromia_contracts::tool::PreparedCall;

use crate::egress::reach;
use crate::egress::target::Target;
use crate::grant::{Grant, parse_grants};
use crate::policy::{Call, Judged, Policies, Said};

/// The rule that denies whatever no grant covers.
pub const DEFAULT_DENY: &str = "default deny";

/// The rule that denies a privileged tool to an agent for which the operator has not said it.
pub const PRIVILEGED: &str = "privileged";

/// Judges by the grants of the agent's configuration, and by the policy whatever they cover.
#[derive(Debug, Clone)]
pub struct GrantGate {
    tools: Vec<&'static str>,
    privileged: Vec<String>,
    policies: Policies,
}

impl GrantGate {
    /// Makes a gate that takes grants for the named tools, and for no other.
    pub fn new(policies: Policies, tools: impl IntoIterator<Item = &'static str>) -> Self {
        Self { tools: tools.into_iter().collect(), privileged: Vec::new(), policies }
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
        parse_grants(grants, &self.tools).map(drop).map_err(|error| error.to_string())
    }

    fn judge(&self, principal: Principal<'_>, action: Action<'_>) -> Verdict {
        let capability = match self.capability(principal, action) {
            Ok(rule) => rule,
            Err(Refusal { rule, reason }) => return Verdict::Deny { rule, reason, policy: None },
        };
        let Judged { said, policy } = self.policies.judge(principal, action, &capability);
        let policy = Some(policy);
        let Said { call, rule, reason } = said;
        match call {
            Call::Allow => Verdict::Allow { rule: capability, policy },
            Call::Ask => {
                let reason = format!(
                    "this needs a person's approval ({reason}), and there is nobody who could be asked, so it is \
                     refused; nothing was done. Trying again will not help."
                );
                Verdict::Deny { rule: format!("ask {rule}"), reason, policy }
            }
            Call::Deny => {
                let reason = format!(
                    "the policy of this server forbids it ({reason}); nothing was done. Trying again will not help."
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
    /// Finds what lets a principal act, before any policy is asked: the grants that cover the action, as a rule.
    fn capability(&self, principal: Principal<'_>, action: Action<'_>) -> Result<String, Refusal> {
        let mut grants = principal.grants.iter();
        let covering = grants.find(|text| Grant::parse(text).is_ok_and(|grant| covers(grant, action)));
        match (covering, action) {
            (Some(_), Action::Tool(call)) if self.lacks_word(&call.tool, principal.grants) => Err(Refusal {
                rule: PRIVILEGED.to_owned(),
                reason: format!(
                    "the tool {0:?} is privileged, and only the operator can let this agent use it; nothing was done. \
                     Trying again will not help: it takes agents.HANDLE.tools.{0}.privileged: true in dromia.yaml.",
                    call.tool
                ),
            }),
            (Some(grant), Action::Tool(PreparedCall { reaches: Some(reaches), .. })) => {
                reach(grant, principal.grants, reaches)
            }
            (Some(grant), _) => Ok(format!("grant {grant}")),
            (None, _) => Err(Refusal { rule: DEFAULT_DENY.to_owned(), reason: reason(action) }),
        }
    }
}

/// Finds what lets a call of a granted tool reach out to where it would, with the secrets that it names.
fn reach(grant: &str, grants: &[String], reaches: &Reaches) -> Result<String, Refusal> {
    let target = Target::read(&reaches.url)
        .map_err(|refused| Refusal { rule: refused.rule.to_owned(), reason: refused.reason.to_owned() })?;
    let is_granted = |secret: &String| {
        grants.iter().any(|text| Grant::parse(text).is_ok_and(|grant| grant.covers_secret(secret)))
    };
    if let Some(secret) = reaches.secrets.iter().find(|secret| !is_granted(secret)) {
        return Err(Refusal {
            rule: DEFAULT_DENY.to_owned(),
            reason: format!(
                "this agent is not granted the secret {secret:?}; nothing was sent. Trying again will not help: only an \
                 operator can add \"secret:{secret}\" to the agent's grants."
            ),
        });
    }
    match reach::covering(grants, reaches.method, &target) {
        Some((host, _)) => {
            let mut rule = format!("grant {grant} and {host}");
            for secret in &reaches.secrets {
                rule.extend([" and secret:", secret.as_str()]);
            }
            Ok(rule)
        }
        None => Err(Refusal {
            rule: DEFAULT_DENY.to_owned(),
            reason: "this agent is not granted to reach that host in this way; nothing was sent. Trying again will \
                     not help: only an operator can add \"net:\" or \"net.read:\" and the host to the agent's grants."
                .to_owned(),
        }),
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
