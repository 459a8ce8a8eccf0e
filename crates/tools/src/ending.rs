//! How a program ended, in words: what it came to, which limit stopped it, how long it ran.

use std::time::Duration;

use dromia_contracts::sandbox::{Ending, Limit, Limits};

/// Says how a program ended, in which sandbox, and how long it ran of the time that it had.
pub(crate) fn told(ending: &Ending, limits: &Limits, sandbox: &str, ran: Duration) -> String {
    let ended = match ending {
        Ending::Exited { code } => format!("exit code {code}"),
        Ending::Signalled { signal } => format!("ended by signal {signal}"),
        Ending::Killed { limit } => {
            format!("ended: it reached its limit of {limit}, {}", bound(*limit, limits))
        }
        Ending::Stopped => "ended from outside".to_owned(),
        Ending::NotStarted { problem } => format!("nothing ran: {problem}"),
        Ending::Lost => "it was lost; what it did is not known".to_owned(),
    };
    let tenths = ran.as_millis() / 100;
    format!("[{ended}; {sandbox}; ran {}.{} s of {}]", tenths / 10, tenths % 10, bound(Limit::Time, limits))
}

/// Writes a limit with its unit.
fn bound(limit: Limit, limits: &Limits) -> String {
    let seconds = |ms: u64| {
        if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
    };
    match limit {
        Limit::Cpu => seconds(limits.cpu_ms),
        Limit::Memory => format!("{} bytes", limits.memory_bytes),
        Limit::Time => seconds(limits.wall_ms),
        Limit::Output => format!("{} bytes", limits.output_bytes),
        Limit::Processes => limits.processes.to_string(),
        Limit::Disk => format!("{} bytes", limits.disk_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_says_what_stopped_it_and_how_long_it_ran() {
        let limits = Limits { wall_ms: 60_000, cpu_ms: 1_500, ..Limits::DEFAULT };
        for (ending, said) in [
            (Ending::Exited { code: 3 }, "[exit code 3; walls; ran 1.2 s of 60 s]"),
            (Ending::Signalled { signal: 11 }, "[ended by signal 11; walls; ran 1.2 s of 60 s]"),
            (
                Ending::Killed { limit: Limit::Cpu },
                "[ended: it reached its limit of processor time, 1500 ms; walls; ran 1.2 s of 60 s]",
            ),
            (
                Ending::Killed { limit: Limit::Memory },
                "[ended: it reached its limit of memory, 1073741824 bytes; walls; ran 1.2 s of 60 s]",
            ),
            (
                Ending::Killed { limit: Limit::Processes },
                "[ended: it reached its limit of number of processes, 128; walls; ran 1.2 s of 60 s]",
            ),
            (Ending::Stopped, "[ended from outside; walls; ran 1.2 s of 60 s]"),
        ] {
            assert_eq!(told(&ending, &limits, "walls", Duration::from_millis(1_290)), said);
        }
    }
}
