//! How a program ended, in words: what it came to, which limit stopped it, how long it ran.
//!
//! Invariant: what is said here is a kind and numbers, never a text that came from a sandbox: that one may be the
//! program's own, or repeat untrusted input by way of the model. [`sandbox_reason`] gives it apart, under its own label.

use std::time::Duration;

use dromia_contracts::sandbox::{LimitKind, ProcessExit, ProcessLimits};

/// Says how a program ended, in which sandbox, and how long it ran of the time that it had.
pub(crate) fn ending_text(
    ending: &ProcessExit,
    limits: &ProcessLimits,
    sandbox: &str,
    ran: Duration,
) -> String {
    let ended = match ending {
        ProcessExit::Exited { code } => format!("exit code {code}"),
        ProcessExit::Signalled { signal } => format!("ended by signal {signal}"),
        ProcessExit::Killed { limit } => {
            format!("ended: it reached its limit of {limit}, {}", format_limit(*limit, limits))
        }
        ProcessExit::Stopped => "ended by another process".to_owned(),
        ProcessExit::NotStarted { .. } => "nothing ran: the program could not be started".to_owned(),
        ProcessExit::Lost => "the program was lost; its effects are unknown".to_owned(),
    };
    let tenths = ran.as_millis() / 100;
    format!(
        "[{ended}; {sandbox}; ran {}.{} s of {}]",
        tenths / 10,
        tenths % 10,
        format_limit(LimitKind::Time, limits)
    )
}

/// Gives the sandbox's own words for an end, where there are any.
pub(crate) fn sandbox_reason(ending: &ProcessExit) -> Option<&str> {
    match ending {
        ProcessExit::NotStarted { problem } => Some(problem),
        ProcessExit::Exited { .. }
        | ProcessExit::Signalled { .. }
        | ProcessExit::Killed { .. }
        | ProcessExit::Stopped
        | ProcessExit::Lost => None,
    }
}

/// Writes a limit with its unit.
fn format_limit(limit: LimitKind, limits: &ProcessLimits) -> String {
    let seconds = |ms: u64| {
        if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
    };
    match limit {
        LimitKind::Cpu => seconds(limits.cpu_ms),
        LimitKind::Memory => format!("{} bytes", limits.memory_bytes),
        LimitKind::Time => seconds(limits.wall_ms),
        LimitKind::Output => format!("{} bytes", limits.output_bytes),
        LimitKind::Processes => limits.processes.to_string(),
        LimitKind::Disk => format!("{} bytes", limits.disk_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_report_says_what_ended_the_program_and_when() {
        let limits = ProcessLimits { wall_ms: 60_000, cpu_ms: 1_500, ..ProcessLimits::DEFAULT };
        for (ending, said) in [
            (ProcessExit::Exited { code: 3 }, "[exit code 3; walls; ran 1.2 s of 60 s]"),
            (ProcessExit::Signalled { signal: 11 }, "[ended by signal 11; walls; ran 1.2 s of 60 s]"),
            (
                ProcessExit::Killed { limit: LimitKind::Cpu },
                "[ended: it reached its limit of processor time, 1500 ms; walls; ran 1.2 s of 60 s]",
            ),
            (
                ProcessExit::Killed { limit: LimitKind::Memory },
                "[ended: it reached its limit of memory, 1073741824 bytes; walls; ran 1.2 s of 60 s]",
            ),
            (
                ProcessExit::Killed { limit: LimitKind::Processes },
                "[ended: it reached its limit of number of processes, 128; walls; ran 1.2 s of 60 s]",
            ),
            (ProcessExit::Stopped, "[ended by another process; walls; ran 1.2 s of 60 s]"),
        ] {
            assert_eq!(ending_text(&ending, &limits, "walls", Duration::from_millis(1_290)), said);
        }
    }
}
