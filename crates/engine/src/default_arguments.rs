//! Defaults: which arguments of a call have the value that its tool gives an omitted argument.
//!
//! It keeps no table and asks the tool: an argument that can be left out without changing the call is at its default.
//! Whether a model wrote that value itself is unknown and does not matter: both are the same call, and an attacker
//! gains nothing by choosing a value that the tool would have used anyway.

use dromia_contracts::content::ToolCall;
use dromia_contracts::tool::PreparedCall;
use serde_json::Value;

use crate::run_tools::RunTools;

/// The most bytes that are read to find the defaults of one call; of the arguments beyond them none is one.
const BYTES_MAX: usize = 4 << 20;

/// Lists the arguments of a call that are at their default, by name.
pub(crate) fn default_arguments(tools: RunTools<'_>, call: &PreparedCall) -> Vec<String> {
    let Ok(Value::Object(fields)) = serde_json::from_str(&call.arguments) else { return Vec::new() };
    let mut room = BYTES_MAX;
    let is_default = |name: &&String| {
        let Some(left) = room.checked_sub(call.arguments.len()) else { return false };
        room = left;
        let mut without = fields.clone();
        without.remove(*name);
        let (id, tool, arguments) = (call.id, call.tool.clone(), Value::Object(without).to_string());
        let prepared = tools.prepare_call(&ToolCall { id, tool, arguments });
        prepared.is_ok_and(|prepared| prepared.arguments == call.arguments)
    };
    fields.keys().filter(is_default).cloned().collect()
}

#[cfg(test)]
mod tests {
    use dromia_contracts::sandbox::ProcessLimits;
    use dromia_contracts::tool::{
        CallProgressSink, EffectClass, PrepareError, ToolContext, ToolHost, ToolOutput,
    };
    use dromia_contracts::tool_catalogue::ToolCatalogue;
    use dromia_contracts::tool_policy::ToolTerms;
    use dromia_contracts::{BoxFuture, CallId, Digest};
    use serde_json::json;

    use super::*;

    /// A host with one tool, which takes a text and fills in a folder.
    #[derive(Debug)]
    struct Filling;

    impl ToolHost for Filling {
        fn shared_catalogue(&self) -> ToolCatalogue {
            ToolCatalogue::from_builtins([])
        }

        fn prepare_call(&self, _: &ToolCatalogue, call: &ToolCall) -> Result<PreparedCall, PrepareError> {
            let problem =
                |problem: &str| PrepareError::Arguments { tool: "t".to_owned(), problem: problem.to_owned() };
            let given: Value = serde_json::from_str(&call.arguments).map_err(|_| problem("no JSON"))?;
            let text = given["text"].as_str().ok_or_else(|| problem("it has no text"))?;
            let cwd = given["cwd"].as_str().unwrap_or(".");
            Ok(PreparedCall {
                id: call.id,
                tool: call.tool.clone(),
                effect: EffectClass::Pure,
                arguments: json!({ "cwd": cwd, "text": text }).to_string(),
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

        fn process_limits(&self, _: &str, _: &ToolTerms) -> Option<ProcessLimits> {
            None
        }
    }

    #[test]
    fn a_default_argument_is_recognized_however_it_was_written() {
        let (call, none) = (CallId { step: 1, index: 0 }, ToolCatalogue::from_builtins([]));
        for (arguments, found) in [
            (json!({ "text": "." }), vec!["cwd"]),
            (json!({ "text": "x", "cwd": "." }), vec!["cwd"]),
            (json!({ "text": "x", "cwd": "src" }), vec![]),
            (json!({ "text": "x", "cwd": "" }), vec![]),
        ] {
            let asked = ToolCall { id: call, tool: "t".to_owned(), arguments: arguments.to_string() };
            let prepared = Filling.prepare_call(&none, &asked).expect("it is a call");
            assert_eq!(
                default_arguments(RunTools { host: &Filling, catalogue: &none }, &prepared),
                found,
                "{arguments}"
            );
        }
    }

    #[test]
    fn an_oversized_call_has_no_default_arguments() {
        let none = ToolCatalogue::from_builtins([]);
        let arguments = json!({ "text": "x".repeat(BYTES_MAX) }).to_string();
        let asked = ToolCall { id: CallId { step: 1, index: 0 }, tool: "t".to_owned(), arguments };
        let prepared = Filling.prepare_call(&none, &asked).expect("it is a call");
        assert_eq!(
            default_arguments(RunTools { host: &Filling, catalogue: &none }, &prepared),
            Vec::<String>::new()
        );
    }
}
