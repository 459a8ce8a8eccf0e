//! How calls are counted: how long they took, how they ended, and which did not begin.
//!
//! Whoever counts is told after the fact and never asked. A call that is judged again after a crash is counted again.

use dromia_contracts::tool::{CallEnd, CallRefusal, PrepareError};
use jiff::Timestamp;

use crate::core::Core;

impl Core {
    /// Counts a call that the gate denied.
    pub(super) fn count_denied(&self, tool: &str) {
        if let Some(meter) = self.meter() {
            meter.refused(tool, CallRefusal::Denied);
        }
    }

    /// Counts what is no call of a tool.
    pub(super) fn count_malformed(&self, error: &PrepareError) {
        let (PrepareError::UnknownTool { name: tool } | PrepareError::Arguments { tool, .. }) = error;
        if let Some(meter) = self.meter() {
            meter.refused(tool, CallRefusal::Malformed);
        }
    }

    /// Counts a call that began.
    pub(super) fn count_call(&self, tool: &str, end: CallEnd, began: Timestamp) {
        if let Some(meter) = self.meter() {
            let took = self.ports.runtime.clock.now().duration_since(began);
            // A clock that was set back tells nothing.
            meter.called(tool, end, took.try_into().unwrap_or_default());
        }
    }
}
