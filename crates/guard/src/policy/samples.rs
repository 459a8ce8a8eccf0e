//! Sample questions: a layer answers them all before it counts, so that one which breaks on what is usual never does.
//!
//! They are what the shipped tools, models and replies ask, under each kind of context, plan, permission and
//! capability; and two calls of tools of an operator's own, one of which has no manifest. Arguments have the types that
//! these tools take: a policy that relies on them is right. They are made up, name no person, and are no promise that a
//! policy never breaks: on any other question it denies.

use std::sync::LazyLock;

use serde_json::{Value as Json, json};

use super::problem::PolicyProblem;
use super::question::VERSION;

/// A question, and what it is about in words.
#[derive(Debug)]
pub(super) struct SampleQuestion {
    pub(super) about: String,
    pub(super) question: Json,
}

impl SampleQuestion {
    /// Says with a problem what was asked.
    pub(super) fn with_subject(&self, problem: PolicyProblem) -> PolicyProblem {
        let told = format!("{}, where it is asked about {}", problem.problem, self.about);
        PolicyProblem { problem: told, ..problem }
    }
}

/// Every sample; they are the same for each layer.
pub(super) fn all_samples() -> &'static [SampleQuestion] {
    static SAMPLES: LazyLock<Vec<SampleQuestion>> = LazyLock::new(|| {
        let standings = sample_contexts();
        let of = |(about, action): (String, Json)| {
            let samples = standings.iter().map(|standing| standing.sample_question(&about, &action));
            samples.collect::<Vec<_>>()
        };
        sample_actions().into_iter().flat_map(of).collect()
    });
    &SAMPLES
}

/// Under what an action is asked about.
struct SampleContext {
    about: &'static str,
    capability: &'static str,
    context: Json,
    permissions: Json,
    irreversible: &'static str,
    /// What is added to a call of a tool.
    plan: Json,
    endorses: bool,
}

fn sample_contexts() -> Vec<SampleContext> {
    let context = |integrity: &str, readers: &str, sensitivity: &str| json!({ "integrity": integrity, "readers": readers, "sensitivity": sensitivity });
    let open = || {
        json!({
            "in_plan": true, "planned": [], "plan": { "frozen": false, "tools": [], "bounds": "" },
            "called": [], "sources": [], "uncarried": [],
        })
    };
    let frozen = |in_plan: bool| {
        let tools = if in_plan { json!(["file.write", "http.request"]) } else { json!([]) };
        let planned = if in_plan { json!(["path", "url"]) } else { json!([]) };
        let bounds = if in_plan { "1 call (1 left)" } else { "" };
        json!({
            "in_plan": in_plan, "planned": planned, "plan": { "frozen": true, "tools": tools, "bounds": bounds },
            "called": ["file.read"], "sources": ["crm.find"], "uncarried": ["crm.find"],
        })
    };
    vec![
        SampleContext {
            about: "after trusted text",
            capability: "grant *",
            context: context("trusted", "actor", "low"),
            permissions: json!([]),
            irreversible: "allow",
            plan: open(),
            endorses: true,
        },
        SampleContext {
            about: "after something untrusted, outside of the plan",
            capability: "grant * and net:example.com",
            context: context("untrusted", "public", "high"),
            permissions: json!([{ "verdict": "ask", "tool": "*" }]),
            irreversible: "delay",
            plan: frozen(false),
            endorses: false,
        },
        SampleContext {
            about: "after something untrusted, in the plan",
            capability: "held cap_1",
            context: context("untrusted", "tenant", "high"),
            permissions: json!([{ "verdict": "allow", "tool": "*" }, { "verdict": "delay", "tool": "*" }]),
            irreversible: "deny",
            plan: frozen(true),
            endorses: true,
        },
        SampleContext {
            about: "without a grant",
            capability: "",
            context: context("trusted", "agent", "low"),
            permissions: json!([{ "verdict": "deny", "tool": "*" }]),
            irreversible: "allow",
            plan: open(),
            endorses: false,
        },
    ]
}

impl SampleContext {
    fn sample_question(&self, about: &str, action: &Json) -> SampleQuestion {
        let mut action = action.clone();
        if let (Some(action), Some(plan)) = (action.as_object_mut(), self.plan.as_object())
            && action.get("kind").is_some_and(|kind| kind == "tool")
        {
            action.extend(plan.clone());
            let names = action["arguments"].as_object().into_iter().flat_map(serde_json::Map::keys);
            let names: Vec<_> = names.filter(|_| self.endorses).cloned().collect();
            action.insert("endorsed".to_owned(), json!(names));
        }
        let question = json!({
            "version": VERSION,
            "tenant": "ten_00000000000000000000000000000001",
            "agent": "agt_00000000000000000000000000000001",
            "author": "cli:0",
            "capability": self.capability,
            "context": self.context,
            "permissions": self.permissions,
            "irreversible": self.irreversible,
            "action": action,
        });
        SampleQuestion { about: format!("{about} {}", self.about), question }
    }
}

/// What may happen, each with its name in words.
fn sample_actions() -> Vec<(String, Json)> {
    let (inside, outside) = (Some("inside"), Some("outside"));
    let path = || json!({ "path": "object" });
    let content = || json!({ "content": "payload", "path": "object" });
    let program = || json!({ "argv": "payload", "cwd": "object" });
    let url = || json!({ "body": "payload", "headers": "payload", "query": "payload", "url": "destination" });
    let calls = [
        ("file.read", "pure", inside, path(), json!({ "limit": 65_536, "offset": 0, "path": "a.md" })),
        ("file.list", "pure", inside, path(), json!({ "path": "." })),
        ("file.write", "idempotent", inside, content(), json!({ "content": "text", "path": "notes/a.md" })),
        ("file.delete", "idempotent", inside, path(), json!({ "path": "notes/a.md" })),
        (
            "message.send",
            "transactional",
            inside,
            json!({ "session": "destination", "text": "payload" }),
            json!({ "session": "ses_00000000000000000000000000000001", "text": "text" }),
        ),
        ("time.now", "pure", inside, json!({}), json!({})),
        (
            "shell.execute",
            "unkeyed",
            outside,
            json!({ "command": "payload", "cwd": "object" }),
            json!({ "command": "ls -l", "cwd": ".", "timeout_s": 60 }),
        ),
        // A tool that is offered to a model is judged without arguments.
        ("http.request", "unkeyed", outside, url(), json!({})),
        ("crm.send", "keyed", outside, json!({ "to": "destination" }), json!({ "to": "bob@example.com" })),
        ("crm.find", "pure", None, json!({}), json!({ "text": "bob" })),
    ];
    let mut actions: Vec<_> = calls
        .into_iter()
        .map(|(tool, effect, sink, roles, arguments)| {
            (format!("a call of {tool}"), sample_call(tool, effect, sink, &roles, &arguments))
        })
        .collect();
    for (network, sink) in [("none", inside), ("proxy", outside)] {
        let arguments = json!({ "argv": ["git", "status"], "cwd": ".", "timeout_s": 60 });
        let mut action = sample_call("exec", "unkeyed", sink, &program(), &arguments);
        action["network"] = json!(network);
        actions.push((format!("a call of exec with the network {network:?}"), action));
    }
    for (method, effect, secrets) in [("GET", "pure", json!([])), ("POST", "unkeyed", json!(["till"]))] {
        let address = "https://example.com:8443/a?b=c";
        let arguments =
            json!({ "body": "text", "limit": 65_536, "method": method, "offset": 0, "url": address });
        let mut action = sample_call("http.request", effect, outside, &url(), &arguments);
        action["reaches"] = json!({
            "method": method,
            "host": "example.com",
            "port": 8443,
            "encrypted": true,
            "url": address,
            "secrets": secrets,
        });
        actions.push((format!("a {method} of http.request"), action));
    }
    actions.push(("a request to a model".to_owned(), json!({ "kind": "model", "model": "default" })));
    let session = "ses_00000000000000000000000000000001";
    actions.push(("a reply".to_owned(), json!({ "kind": "reply", "session": session })));
    actions
}

/// A call, without its relation to its turn. A tool without a sink has no manifest.
fn sample_call(tool: &str, effect: &str, sink: Option<&str>, roles: &Json, arguments: &Json) -> Json {
    let mut action = json!({
        "kind": "tool",
        "tool": tool,
        "effect": effect,
        "arguments": arguments,
        "irreversible": effect != "pure" && sink != Some("inside"),
    });
    if let Some(sink) = sink {
        action["sink"] = json!(sink);
        action["roles"] = roles.clone();
    }
    action
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use dromia_contracts::egress::{EgressTarget, HttpMethod};
    use dromia_contracts::gate::{GateAction, Principal};
    use dromia_contracts::label::Label;
    use dromia_contracts::plan::PlanContext;
    use dromia_contracts::sandbox::NetworkAccess;
    use dromia_contracts::tool::{EffectClass, EffectSink, PreparedCall, ToolManifest};
    use dromia_contracts::{Actor, AgentId, CallId, Digest, ScopeAuthority, SessionId, TenantId};

    use regorus::Value;

    use super::super::PolicyVerdict;
    use super::super::question::write_question;
    use super::*;

    /// The names in a document, with the path to each; whose arguments and roles they are is left out.
    fn names(value: &Value, at: &str, found: &mut BTreeSet<String>) {
        let Ok(fields) = value.as_object() else { return };
        for (name, value) in fields {
            let name = name.as_string().expect("keys are texts");
            let path = format!("{at}.{name}");
            if !["arguments", "roles"].contains(&&**name) {
                names(value, &path, found);
            }
            found.insert(path);
        }
    }

    /// A field that a question gets stands in a sample as well, so this fails where the two come apart.
    #[test]
    fn policy_samples_have_exactly_the_fields_of_a_question() {
        let scope = ScopeAuthority::claim().issue_scope(TenantId::from_bytes([1; 16]), Actor::new("cli:0"));
        let scope = scope.narrowed_to(AgentId::from_bytes([2; 16]));
        let call = PreparedCall {
            id: CallId { step: 1, index: 0 },
            tool: "http.request".to_owned(),
            effect: EffectClass::Unkeyed,
            arguments: "{}".to_owned(),
            action: Digest::default(),
            reaches: Some(EgressTarget {
                url: "https://example.com/".to_owned(),
                method: HttpMethod::Post,
                secrets: Vec::new(),
            }),
            network: Some(NetworkAccess::Proxy),
            contents: None,
        };
        let manifest = ToolManifest { sink: EffectSink::Outside, roles: BTreeMap::new() };
        let manifests = BTreeMap::from([(call.tool.clone(), manifest)]);
        let principal = Principal {
            scope: &scope,
            author: scope.actor(),
            grants: &[],
            context: Label::OUTSIDE,
            endorsed: &[],
            plan: PlanContext::OPEN,
        };
        let session = SessionId::from_bytes([3; 16]);
        let asked =
            [GateAction::Tool(&call), GateAction::Model { model: "default" }, GateAction::Reply { session }];
        let mut real = BTreeSet::new();
        for action in asked {
            let question = write_question(principal, action, "grant a", &manifests, PolicyVerdict::Allow)
                .expect("it is put");
            names(&Value::from(question), "", &mut real);
        }
        let mut sampled = BTreeSet::new();
        for sample in all_samples() {
            names(&Value::from(sample.question.clone()), "", &mut sampled);
        }
        assert_eq!(sampled, real);
    }

    #[test]
    fn the_samples_hold_each_kind_of_question() {
        let all = all_samples();
        let texts: Vec<String> = all.iter().map(|sample| sample.question.to_string()).collect();
        for part in [
            r#""kind":"model""#,
            r#""kind":"reply""#,
            r#""sink":"inside""#,
            r#""sink":"outside""#,
            r#""integrity":"trusted""#,
            r#""integrity":"untrusted""#,
            r#""frozen":true"#,
            r#""frozen":false"#,
            r#""in_plan":false"#,
            r#""sensitivity":"low""#,
            r#""sensitivity":"high""#,
            r#""capability":"""#,
            r#""permissions":[]"#,
            r#""verdict":"deny""#,
            r#""network":"none""#,
            r#""network":"proxy""#,
        ] {
            let bare = |text: &String| text.replace(": ", ":").contains(part);
            assert!(texts.iter().any(bare), "no sample has {part}");
        }
    }
}
