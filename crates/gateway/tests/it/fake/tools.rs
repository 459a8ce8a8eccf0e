//! Two tools behind the gateway, and a gate that goes by their names.

use std::future::{pending, ready};

use bytes::Bytes;
use dromia_contracts::content::ToolCall;
use dromia_contracts::gate::{Gate, GateAction, GateVerdict, Principal, RightsHold};
use dromia_contracts::label::Label;
use dromia_contracts::sandbox::{NetworkAccess, ProcessLimits};
use dromia_contracts::tool::{
    ArgumentRole, CallProgressSink, EffectClass, EffectSink, PrepareError, PreparedCall, Sensitivity,
    ToolContext, ToolDescriptor, ToolHost, ToolOutput,
};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::workspace_files::{AgentWorkspace, FileKind, WorkspaceFiles, WorkspaceName};
use dromia_contracts::{AgentId, BoxFuture, Digest, Fault, Scope, TenantId};

/// Tools that describe themselves and are never called.
#[derive(Debug)]
pub(crate) struct FakeToolHost {
    descriptors: Vec<ToolDescriptor>,
}

impl Default for FakeToolHost {
    fn default() -> Self {
        let tool = |name: &str, effect| ToolDescriptor {
            name: name.to_owned(),
            description: format!("It is {name}."),
            parameters: serde_json::json!({"type": "object"}),
            effect,
            roles: vec![("path".to_owned(), ArgumentRole::Object)],
            result_label: Label::UNKNOWN_FILE,
            sensitivity: Sensitivity::Low,
            records: None,
        };
        Self { descriptors: vec![tool("exec", EffectClass::Unkeyed), tool("file.read", EffectClass::Pure)] }
    }
}

impl ToolHost for FakeToolHost {
    fn shared_catalogue(&self) -> ToolCatalogue {
        ToolCatalogue::from_builtins(self.descriptors.clone())
    }

    fn prepare_call(&self, _: &ToolCatalogue, call: &ToolCall) -> Result<PreparedCall, PrepareError> {
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

    fn execute_call<'a>(
        &'a self,
        _: ToolContext,
        _: PreparedCall,
        _: &'a dyn CallProgressSink,
    ) -> BoxFuture<'a, ToolOutput> {
        Box::pin(std::future::ready(ToolOutput::default()))
    }

    fn process_limits(&self, tool: &str, terms: &ToolTerms) -> Option<ProcessLimits> {
        let memory_bytes = terms.memory_bytes.unwrap_or(ProcessLimits::DEFAULT.memory_bytes);
        (tool == "exec").then_some(ProcessLimits { memory_bytes, ..ProcessLimits::DEFAULT })
    }
}

impl Gate for FakeToolHost {
    fn call_sink(&self, call: &PreparedCall) -> EffectSink {
        if call.network == Some(NetworkAccess::Proxy) { EffectSink::Outside } else { EffectSink::Inside }
    }

    fn is_irreversible(&self, _: &PreparedCall) -> bool {
        true
    }

    fn note_rights(&self, _: TenantId, _: AgentId, _: u64, _: &[String]) -> RightsHold {
        RightsHold::NOTHING
    }

    fn await_withdrawal<'a>(
        &'a self,
        _: &'a Scope,
        _: &'a [String],
        _: &'a PreparedCall,
    ) -> BoxFuture<'a, String> {
        Box::pin(pending())
    }

    fn check_grants(&self, _: &[String], _: &ToolCatalogue) -> Result<(), String> {
        Ok(())
    }

    fn evaluate_action<'a>(
        &'a self,
        principal: Principal<'a>,
        action: GateAction<'a>,
    ) -> BoxFuture<'a, GateVerdict> {
        let GateAction::Tool(call) = action else {
            let rule = "no tool".to_owned();
            return Box::pin(ready(GateVerdict::Deny { rule, reason: String::new(), policy: None }));
        };
        Box::pin(ready(if principal.grants.contains(&call.tool) {
            GateVerdict::Allow { rule: format!("grant {}", call.tool), policy: None }
        } else {
            GateVerdict::Deny { rule: "default deny".to_owned(), reason: String::new(), policy: None }
        }))
    }
}

impl WorkspaceFiles for FakeToolHost {
    fn list_names<'a>(
        &'a self,
        workspace: AgentWorkspace<'a>,
        _: &'a str,
        after: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<WorkspaceName>, Fault>> {
        let name = |name: String| WorkspaceName { name, kind: FileKind::File, bytes: 1 };
        let names = [workspace.agent.to_string(), "note".to_owned()].into_iter();
        let names = names.filter(|name| name.as_str() > after).take(limit).map(name);
        Box::pin(ready(Ok(names.collect())))
    }

    fn read_whole<'a>(
        &'a self,
        workspace: AgentWorkspace<'a>,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Bytes, Fault>> {
        Box::pin(ready(Ok(Bytes::from(workspace.agent.to_string()))))
    }

    fn write_whole<'a>(
        &'a self,
        _: AgentWorkspace<'a>,
        path: &'a str,
        _: Bytes,
        _: &'a str,
    ) -> BoxFuture<'a, Result<(String, Digest), Fault>> {
        Box::pin(ready(Ok((path.to_owned(), Digest::default()))))
    }
}
