//! Prepares calls of built-in tools, for the property of `dromia_testkit::fuzz::approval_hash`.

use dromia_contracts::CallId;
use dromia_contracts::content::ToolCall;
use dromia_testkit::fuzz::{self, Canonical};

fn prepared(tool: &str, arguments: &str) -> Result<Canonical, String> {
    let id = CallId { step: 1, index: 0 };
    let call = ToolCall { id, tool: tool.to_owned(), arguments: arguments.to_owned() };
    let prepared = dromia_tools::prepare_builtin(&call).map_err(|error| error.to_string())?;
    Ok((prepared.tool, prepared.arguments, prepared.action))
}

/// What must hold of any bytes.
pub(crate) fn property(data: &[u8]) {
    fuzz::approval_hash(prepared, data);
}

/// Tells whether an input is a call that a tool takes.
#[cfg(test)]
pub(crate) fn is_call(data: &[u8]) -> bool {
    let text = std::str::from_utf8(data).ok().and_then(|text| text.split_once('\n'));
    text.is_some_and(|(tool, rest)| prepared(tool, rest.split('\0').next().unwrap_or_default()).is_ok())
}
