//! How calls are counted: how long they took, how they ended, and which did not begin.
//!
//! The meter is called after the fact and decides nothing. A call that is judged again after a crash is counted again.

use dromia_contracts::tool::{CallEnd, CallRefusal, PrepareError};
use jiff::Timestamp;

use crate::core::EngineCore;

impl EngineCore {
    /// Counts a call that the gate denied.
    pub(super) fn count_denied(&self, tool: &str) {
        if let Some(meter) = self.call_meter() {
            meter.count_refusal(tool, CallRefusal::Denied);
        }
    }

    /// Counts what is no call of a tool.
    pub(super) fn count_malformed(&self, error: &PrepareError) {
        let (PrepareError::UnknownTool { name: tool } | PrepareError::Arguments { tool, .. }) = error;
        if let Some(meter) = self.call_meter() {
            meter.count_refusal(tool, CallRefusal::Malformed);
        }
    }

    /// Counts a call that began.
    pub(super) fn count_call(&self, tool: &str, end: CallEnd, began: Timestamp) {
        if let Some(meter) = self.call_meter() {
            let took = self.ports.runtime.clock.now().duration_since(began);
            // A clock that was set back gives no duration.
            meter.count_call(tool, end, took.try_into().unwrap_or_default());
        }
    }
}
