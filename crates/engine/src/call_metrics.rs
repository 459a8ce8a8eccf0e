//! How calls are counted: how long they took, how they ended, and which did not begin.
//!
//! The meter is called after the fact and decides nothing. A call that is judged again after a crash is counted again.

use std::sync::{Arc, OnceLock};

use dromia_contracts::tool::{CallEnd, CallMeter, CallRefusal, PrepareError};
use jiff::Timestamp;

use crate::ports::EnginePorts;

/// Counts calls with the meter, if one is set.
#[derive(Debug)]
pub(crate) struct CallMetrics {
    ports: Arc<EnginePorts>,
    meter: OnceLock<Arc<dyn CallMeter>>,
}

impl CallMetrics {
    /// Begins without a meter.
    pub(crate) fn new(ports: Arc<EnginePorts>) -> Self {
        Self { ports, meter: OnceLock::new() }
    }

    /// Sets the meter; the first one stays.
    pub(crate) fn set_meter(&self, meter: Arc<dyn CallMeter>) {
        self.meter.get_or_init(|| meter);
    }

    /// Counts a call that the gate denied.
    pub(crate) fn count_denied(&self, tool: &str) {
        if let Some(meter) = self.meter.get() {
            meter.count_refusal(Some(tool), CallRefusal::Denied);
        }
    }

    /// Counts what is no call of a tool.
    pub(crate) fn count_malformed(&self, error: &PrepareError) {
        let tool = match error {
            PrepareError::UnknownTool { .. } => None,
            PrepareError::Arguments { tool, .. } | PrepareError::RemovedTool { name: tool } => Some(&**tool),
        };
        if let Some(meter) = self.meter.get() {
            meter.count_refusal(tool, CallRefusal::Malformed);
        }
    }

    /// Counts a call that began.
    pub(crate) fn count_call(&self, tool: &str, end: CallEnd, began: Timestamp) {
        if let Some(meter) = self.meter.get() {
            let took = self.ports.runtime.clock.now().duration_since(began);
            // A clock that was set back gives no duration.
            meter.count_call(tool, end, took.try_into().unwrap_or_default());
        }
    }
}
