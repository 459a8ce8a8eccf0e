//! What an approval is bound to: everything that was judged, as one digest.
//!
//! Each part has a mark of its own, so that an approver sees which part changed. The caller passes the digest of the
//! files that a program could execute.
//!
//! It is a function of its inputs and of nothing else, so the digest of the approval request and the one when the call
//! is about to begin are equal if and only if no input changed in between. It decides nothing.

use dromia_contracts::approval::{BoundParts, ExecutableFiles};
use dromia_contracts::sandbox::ProcessLimits;
use dromia_contracts::tool::{PreparedCall, ToolDescriptor};
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::workspace::WorkspaceReference;
use dromia_contracts::{Actor, AgentId, Digest, TenantId};
use serde_json::{Value, json};

/// The inputs of the judgement of a call.
#[derive(Debug, Clone, Copy)]
pub struct ApprovalBinding<'a> {
    /// The tenant.
    pub tenant: TenantId,
    /// The agent.
    pub agent: AgentId,
    /// Who led to the call.
    pub author: &'a Actor,
    /// What the agent may do.
    pub grants: &'a [String],
    /// The call in canonical form: its action digest covers tool and arguments. The hosts that it would reach and the
    /// files that it is bound to count too; its id does not.
    pub call: &'a PreparedCall,
    /// The descriptor of the tool; `None` if no tool has that name any more.
    pub tool: Option<&'a ToolDescriptor>,
    /// The most that the call may use.
    pub limits: Option<ProcessLimits>,
    /// The operator's terms for the tool: its sandbox and its hosts. The call itself holds its network access.
    pub terms: &'a ToolTerms,
    /// The rule that asks.
    pub rule: &'a str,
    /// The policy that contains the rule.
    pub policy: Option<Digest>,
    /// The directory that the run works in, where that is not the workspace of its agent's home.
    pub workspace: Option<&'a WorkspaceReference>,
    /// The name of the verdict, if it is another one than to ask.
    pub verdict: Option<&'a str>,
}

impl ApprovalBinding<'_> {
    /// Digests it. Open approvals hold digests, so the encoding of the same inputs never changes.
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(*blake3::hash(self.sorted_json().as_bytes()).as_bytes())
    }

    /// Marks each part of it.
    pub fn bound_parts(&self) -> BoundParts {
        let fields = self.json_fields();
        let mark = |names: &[&str]| {
            let part: Vec<_> = names.iter().map(|name| &fields[*name]).collect();
            let text = serde_json::to_vec(&part).unwrap_or_default();
            let [a, b, c, d, ..] = *blake3::hash(&text).as_bytes();
            u32::from_be_bytes([a, b, c, d])
        };
        BoundParts {
            call: mark(&["action", "effect", "reaches", "network"]),
            tool: mark(&["tool", "limits", "sandbox", "net"]),
            asker: match self.workspace {
                None => mark(&["tenant", "agent", "author", "grants"]),
                Some(_) => mark(&["tenant", "agent", "author", "grants", "workspace"]),
            },
            rule: mark(&["rule", "policy", "verdict"]),
            contents: self.call.contents,
        }
    }

    /// Writes it as JSON with sorted keys.
    fn sorted_json(&self) -> String {
        self.json_fields().to_string()
    }

    fn json_fields(&self) -> Value {
        let reaches = self.call.reaches.as_ref().map(|reaches| {
            json!({
                "method": reaches.method.as_str(),
                "url": reaches.url,
                "secrets": reaches.secrets,
            })
        });
        let mut bound = json!({
            "version": 1,
            "tenant": self.tenant,
            "agent": self.agent,
            "author": self.author,
            "grants": self.grants,
            "action": self.call.action,
            "effect": self.call.effect,
            "tool": self.tool,
            "reaches": reaches,
            "limits": self.limits,
            "sandbox": self.terms.sandbox,
            "network": self.call.network,
            "net": self.terms.net,
            "rule": self.rule,
            "policy": self.policy,
        });
        if let Some(workspace) = self.workspace {
            bound["workspace"] = Value::from(workspace.to_string());
        }
        if let Some(verdict) = self.verdict {
            bound["verdict"] = Value::from(verdict);
        }
        if let Some(ExecutableFiles { digest, files, extent }) = self.call.contents {
            bound["contents"] = json!({ "digest": digest, "files": files, "extent": extent });
        }
        bound
    }
}

#[cfg(test)]
mod tests {
    use dromia_contracts::CallId;
    use dromia_contracts::approval::BoundFiles;
    use dromia_contracts::egress::{EgressTarget, HttpMethod};
    use dromia_contracts::label::Label;
    use dromia_contracts::sandbox::{IsolationLevel, NetworkAccess};
    use dromia_contracts::tool::{ArgumentRole, EffectClass, RecordFields, Sensitivity};

    use super::*;

    /// What a binding is made of, owned.
    #[derive(Clone)]
    struct Inputs {
        tenant: TenantId,
        agent: AgentId,
        author: Actor,
        grants: Vec<String>,
        call: PreparedCall,
        tool: Option<ToolDescriptor>,
        limits: Option<ProcessLimits>,
        terms: ToolTerms,
        rule: String,
        policy: Option<Digest>,
        verdict: Option<&'static str>,
        workspace: Option<WorkspaceReference>,
    }

    impl Inputs {
        fn new() -> Self {
            Self {
                tenant: TenantId::from_bytes([1; 16]),
                agent: AgentId::from_bytes([2; 16]),
                author: Actor::new("cli:ada"),
                grants: vec!["exec".to_owned()],
                call: PreparedCall {
                    id: CallId { step: 1, index: 0 },
                    tool: "exec".to_owned(),
                    effect: EffectClass::Unkeyed,
                    arguments: "{}".to_owned(),
                    action: Digest::from_bytes([3; 32]),
                    reaches: None,
                    network: None,
                    contents: None,
                },
                tool: Some(ToolDescriptor {
                    name: "exec".to_owned(),
                    description: "Runs.".to_owned(),
                    parameters: json!({"type": "object", "a": 1}),
                    effect: EffectClass::Unkeyed,
                    roles: Vec::new(),
                    result_label: Label::OUTSIDE,
                    sensitivity: Sensitivity::Low,
                    records: None,
                }),
                limits: Some(ProcessLimits::DEFAULT),
                terms: ToolTerms::default(),
                rule: "ask exec".to_owned(),
                policy: Some(Digest::from_bytes([4; 32])),
                verdict: None,
                workspace: None,
            }
        }

        fn bound(&self) -> ApprovalBinding<'_> {
            ApprovalBinding {
                tenant: self.tenant,
                agent: self.agent,
                author: &self.author,
                grants: &self.grants,
                call: &self.call,
                tool: self.tool.as_ref(),
                limits: self.limits,
                terms: &self.terms,
                rule: &self.rule,
                policy: self.policy,
                verdict: self.verdict,
                workspace: self.workspace.as_ref(),
            }
        }
    }

    fn tool(inputs: &mut Inputs) -> &mut ToolDescriptor {
        inputs.tool.as_mut().expect("there is one")
    }

    /// Every way in which something that is judged may change.
    const CHANGES: [fn(&mut Inputs); 35] = [
        |inputs| inputs.tenant = TenantId::from_bytes([9; 16]),
        |inputs| inputs.agent = AgentId::from_bytes([9; 16]),
        |inputs| inputs.author = Actor::new("cli:eve"),
        |inputs| inputs.grants.push("net:h".to_owned()),
        |inputs| inputs.grants = vec!["ex".to_owned(), "ec".to_owned()],
        |inputs| inputs.call.action = Digest::from_bytes([9; 32]),
        |inputs| inputs.call.effect = EffectClass::Pure,
        |inputs| inputs.call.reaches = Some(reaches(HttpMethod::Get, "https://h/", &[])),
        |inputs| inputs.call.reaches = Some(reaches(HttpMethod::Post, "https://h/", &[])),
        |inputs| inputs.call.reaches = Some(reaches(HttpMethod::Get, "https://i/", &[])),
        |inputs| inputs.call.reaches = Some(reaches(HttpMethod::Get, "https://h/", &["key"])),
        |inputs| inputs.tool = None,
        |inputs| tool(inputs).name.push('x'),
        |inputs| tool(inputs).description.push('x'),
        |inputs| tool(inputs).parameters["a"] = json!(2),
        |inputs| tool(inputs).parameters["a"] = json!("1"),
        |inputs| tool(inputs).effect = EffectClass::Keyed,
        |inputs| tool(inputs).roles.push(("to".to_owned(), ArgumentRole::Destination)),
        |inputs| tool(inputs).result_label = Label::PUBLIC_FACT,
        |inputs| tool(inputs).sensitivity = Sensitivity::High,
        |inputs| tool(inputs).records = Some(RecordFields { keys: vec!["id".to_owned()], names: Vec::new() }),
        |inputs| inputs.limits = None,
        |inputs| inputs.limits = Some(ProcessLimits { wall_ms: 1, ..ProcessLimits::DEFAULT }),
        |inputs| inputs.limits = Some(ProcessLimits { disk_bytes: 1, ..ProcessLimits::DEFAULT }),
        |inputs| inputs.terms.sandbox = Some(IsolationLevel::Base),
        |inputs| inputs.call.network = Some(NetworkAccess::Proxy),
        |inputs| inputs.terms.net.push("h".to_owned()),
        |inputs| inputs.rule.push('x'),
        |inputs| inputs.policy = None,
        |inputs| inputs.policy = Some(Digest::from_bytes([9; 32])),
        |inputs| inputs.verdict = Some("delay"),
        |inputs| inputs.call.contents = Some(HELD),
        |inputs| inputs.call.contents = Some(ExecutableFiles { digest: Digest::from_bytes([9; 32]), ..HELD }),
        |inputs| inputs.call.contents = Some(ExecutableFiles { files: 2, ..HELD }),
        |inputs| inputs.call.contents = Some(ExecutableFiles { extent: BoundFiles::Named, ..HELD }),
    ];

    const HELD: ExecutableFiles =
        ExecutableFiles { digest: Digest::from_bytes([8; 32]), files: 1, extent: BoundFiles::All };

    fn reaches(method: HttpMethod, url: &str, secrets: &[&str]) -> EgressTarget {
        let secrets = secrets.iter().map(|&name| name.to_owned()).collect();
        EgressTarget { method, url: url.to_owned(), secrets }
    }

    #[test]
    fn every_changed_input_gives_a_distinct_approval_binding() {
        let mut seen = vec![Inputs::new().bound().digest()];
        for change in CHANGES {
            let mut inputs = Inputs::new();
            change(&mut inputs);
            let digest = inputs.bound().digest();
            let parts = Inputs::new().bound().bound_parts().changed_parts(&inputs.bound().bound_parts());
            assert_eq!(parts.len(), 1, "what changed is told, and nothing else: {parts:?}");
            assert_eq!(inputs.clone().bound().digest(), digest, "it is a function of its inputs");
            seen.push(digest);
        }
        for (at, digest) in seen.iter().enumerate() {
            assert!(!seen[..at].contains(digest), "change {at} is not bound");
        }
    }

    #[test]
    fn field_order_escapes_and_call_number_keep_the_binding() {
        let mut other = Inputs::new();
        let text = r#"{"\u0061": 1, "type": "obj\u0065ct"}"#;
        tool(&mut other).parameters = serde_json::from_str(text).expect("it is JSON");
        other.call.id = CallId { step: 7, index: 7 };
        assert_eq!(other.bound().digest(), Inputs::new().bound().digest());
    }

    /// Open approvals hold bindings, which a changed encoding would refuse.
    #[test]
    fn an_approval_binding_keeps_its_written_form() {
        let mut inputs = Inputs::new();
        (inputs.limits, inputs.verdict) = (None, Some("delay"));
        inputs.call.reaches = Some(reaches(HttpMethod::Get, "https://h/", &["key"]));
        let (tenant, agent) = (inputs.tenant, inputs.agent);
        let expected = format!(
            r#"{{"action":"{}","agent":"{agent}","author":"cli:ada","effect":"unkeyed","grants":["exec"],"limits":null,"net":[],"network":null,"policy":"{}","reaches":{{"method":"{}","secrets":["key"],"url":"https://h/"}},"rule":"ask exec","sandbox":null,"tenant":"{tenant}","tool":{{"description":"Runs.","effect":"unkeyed","name":"exec","parameters":{{"a":1,"type":"object"}},"result_label":"untrusted/agent","roles":[]}},"verdict":"delay","version":1}}"#,
            "03".repeat(32),
            "04".repeat(32),
            HttpMethod::Get.as_str(),
        );
        assert_eq!(inputs.bound().sorted_json(), expected);
    }
}
