//! Binds an approval to texts, for the property of `dromia_testkit::fuzz::approval_binding`.

use dromia_contracts::egress::{EgressTarget, HttpMethod};
use dromia_contracts::label::Label;
use dromia_contracts::tool::{EffectClass, PreparedCall, Sensitivity, ToolDescriptor};
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::{Actor, AgentId, CallId, Digest, TenantId};
use dromia_engine::ApprovalBinding;
use dromia_testkit::fuzz::{self, BOUND_TEXTS};

fn bind(texts: &[&str; BOUND_TEXTS]) -> Digest {
    let [author, rule, verdict, name, description, parameters, url, secrets, grants, net] = *texts;
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
    let reaches = EgressTarget { method: HttpMethod::Get, url: url.to_owned(), secrets: words(secrets) };
    let call = PreparedCall {
        id: CallId { step: 1, index: 0 },
        tool: name.to_owned(),
        effect: EffectClass::Unkeyed,
        arguments: "{}".to_owned(),
        action: Digest::default(),
        reaches: Some(reaches),
        network: None,
        contents: None,
    };
    let tool = ToolDescriptor {
        name: name.to_owned(),
        description: description.to_owned(),
        parameters: parameters.into(),
        effect: EffectClass::Unkeyed,
        roles: Vec::new(),
        result_label: Label::OUTSIDE,
        sensitivity: Sensitivity::Low,
        records: None,
    };
    let bound = ApprovalBinding {
        tenant: TenantId::from_bytes([1; 16]),
        agent: AgentId::from_bytes([2; 16]),
        author: &Actor::new(author),
        grants: &words(grants),
        call: &call,
        tool: Some(&tool),
        limits: None,
        terms: &ToolTerms { net: words(net), ..ToolTerms::default() },
        rule,
        policy: None,
        workspace: None,
        verdict: Some(verdict),
    };
    bound.digest()
}

/// What must hold of any bytes.
pub(crate) fn property(data: &[u8]) {
    fuzz::approval_binding(bind, data);
}
