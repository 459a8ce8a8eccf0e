//! The tools of a run: the definitions that it began with, and the host that reads calls by them.

use dromia_contracts::content::ToolCall;
use dromia_contracts::tool::{PrepareError, PreparedCall, ToolHost};
use dromia_contracts::tool_catalogue::ToolCatalogue;

/// The definitions by which calls are read, and what reads them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunTools<'a> {
    /// What reads calls.
    pub(crate) host: &'a dyn ToolHost,
    /// The definitions of the run, or of an agent now.
    pub(crate) catalogue: &'a ToolCatalogue,
}

impl RunTools<'_> {
    /// Checks a call against its definition and puts it in canonical form.
    pub(crate) fn prepare_call(&self, call: &ToolCall) -> Result<PreparedCall, PrepareError> {
        self.host.prepare_call(self.catalogue, call)
    }
}
