//! Two tools behind the gateway, and a gate that goes by their names.

use dromia_contracts::content::ToolCall;
use dromia_contracts::gate::{Action, Gate, Principal, Verdict};
use dromia_contracts::label::Label;
use dromia_contracts::sandbox::{Limits, Network};
use dromia_contracts::terms::ToolTerms;
use dromia_contracts::tool::{
    ArgumentRole, EffectClass, Pieces, PrepareError, PreparedCall, Sink, ToolContext, ToolDescriptor,
    ToolHost, ToolOutput,
};
use dromia_contracts::{BoxFuture, Digest};

/// Tools that describe themselves and are never called.
#[derive(Debug)]
pub(crate) struct Shelf {
    descriptors: Vec<ToolDescriptor>,
}

impl Default for Shelf {
    fn default() -> Self {
        let tool = |name: &str, effect| ToolDescriptor {
            name: name.to_owned(),
            description: format!("It is {name}."),
            parameters: serde_json::json!({"type": "object"}),
            effect,
            roles: vec![("path".to_owned(), ArgumentRole::Object)],
            result_label: Label::UNKNOWN_FILE,
        };
        Self { descriptors: vec![tool("exec", EffectClass::Unkeyed), tool("file.read", EffectClass::Pure)] }
    }
}

impl ToolHost for Shelf {
    fn descriptors(&self) -> &[ToolDescriptor] {
        &self.descriptors
    }

    fn prepare(&self, call: &ToolCall) -> Result<PreparedCall, PrepareError> {
        if !self.descriptors.iter().any(|known| known.name == call.tool) {
            return Err(PrepareError::UnknownTool { name: call.tool.clone() });
        }
        Ok(PreparedCall {
            id: call.id,
            tool: call.tool.clone(),
            effect: EffectClass::Pure,
            arguments: call.arguments.clone(),
            action: Digest::default(),
            reaches: None,
            network: None,
            contents: None,
        })
    }

    fn call<'a>(&'a self, _: ToolContext, _: PreparedCall, _: &'a dyn Pieces) -> BoxFuture<'a, ToolOutput> {
        Box::pin(std::future::ready(ToolOutput::default()))
    }

    fn limits(&self, tool: &str, terms: &ToolTerms) -> Option<Limits> {
        let memory_bytes = terms.memory_bytes.unwrap_or(Limits::DEFAULT.memory_bytes);
        (tool == "exec").then_some(Limits { memory_bytes, ..Limits::DEFAULT })
    }
}

impl Gate for Shelf {
    fn sink(&self, call: &PreparedCall) -> Sink {
        if call.network == Some(Network::Proxy) { Sink::Outside } else { Sink::Inside }
    }

    fn is_irreversible(&self, _: &PreparedCall) -> bool {
        true
    }

    fn check_grants(&self, _: &[String]) -> Result<(), String> {
        Ok(())
    }

    fn judge(&self, principal: Principal<'_>, action: Action<'_>) -> Verdict {
        let Action::Tool(call) = action else {
            return Verdict::Deny { rule: "no tool".to_owned(), reason: String::new(), policy: None };
        };
        if principal.grants.contains(&call.tool) {
            Verdict::Allow { rule: format!("grant {}", call.tool), policy: None }
        } else {
            Verdict::Deny { rule: "default deny".to_owned(), reason: String::new(), policy: None }
        }
    }
}
