//! What one program may use: what the call asks for, within what the operator says, else within the defaults.
//!
//! A call says how long it may take and nothing more; so time is the one limit that a model can lower, and none that it can
//! raise.

use dromia_contracts::quantity::{format_bytes, format_millis};
use dromia_contracts::sandbox::ProcessLimits;
use dromia_contracts::tool_policy::ToolTerms;

use crate::arguments::TIMEOUT_S_MAX;

/// The most bytes that a program may write.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// How many processors a program may keep busy all the time that it has, by default.
const PROCESSORS: u64 = 4;

/// The most that any call may use.
pub(crate) fn limits_max(terms: &ToolTerms) -> ProcessLimits {
    of_call(TIMEOUT_S_MAX, terms)
}

/// What a call may use that asks for so many seconds.
pub(crate) fn of_call(timeout_s: u32, terms: &ToolTerms) -> ProcessLimits {
    let asked_ms = u64::from(timeout_s) * 1000;
    let wall_ms = terms.wall_ms.map_or(asked_ms, |most| most.min(asked_ms));
    ProcessLimits {
        wall_ms,
        cpu_ms: terms.cpu_ms.unwrap_or(wall_ms * PROCESSORS),
        memory_bytes: terms.memory_bytes.unwrap_or(ProcessLimits::DEFAULT.memory_bytes),
        output_bytes: OUTPUT_BYTES_MAX,
        disk_bytes: terms.disk_bytes.unwrap_or(ProcessLimits::DEFAULT.disk_bytes),
        ..ProcessLimits::DEFAULT
    }
}

/// Writes the limits that were in force, in one line.
pub(crate) fn limits_text(limits: &ProcessLimits) -> String {
    format!(
        "[limits: {}, {} of processors, {} of memory, {} on disk]",
        format_millis(limits.wall_ms),
        format_millis(limits.cpu_ms),
        format_bytes(limits.memory_bytes),
        format_bytes(limits.disk_bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_gets_its_requested_limits_within_the_operators() {
        let unsaid = ToolTerms::default();
        let said = ToolTerms {
            cpu_ms: Some(1_500),
            memory_bytes: Some(512 << 20),
            wall_ms: Some(30_000),
            disk_bytes: Some(7),
            ..ToolTerms::default()
        };
        for (limits, told) in [
            (of_call(7, &unsaid), "[limits: 7 s, 28 s of processors, 1 GiB of memory, 1 GiB on disk]"),
            (limits_max(&unsaid), "[limits: 600 s, 2400 s of processors, 1 GiB of memory, 1 GiB on disk]"),
            (of_call(7, &said), "[limits: 7 s, 1500 ms of processors, 512 MiB of memory, 7 bytes on disk]"),
            (limits_max(&said), "[limits: 30 s, 1500 ms of processors, 512 MiB of memory, 7 bytes on disk]"),
        ] {
            assert_eq!(limits_text(&limits), told);
        }
    }
}
