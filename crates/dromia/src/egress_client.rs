//! The egress client of this process, as the configuration opens it: for the server, and for the commands that ask a
//! server of models something.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::egress::{
    Egress, EgressClientConfig, EgressPurpose, EgressRequest, HttpMethod, LineError, LineLimits,
};
use dromia_guard::{EgressConfig, GuardedEgress, SystemNames};
use dromia_tools::CallSettings;

use crate::config::{self, EnvironmentVariables, ResolvedConfig};
use crate::home::Home;

/// The most bytes of an answer to a question.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// The most bytes of headers.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// The longest life of a program's connection: as long as a program may run.
const PROGRAM_TOTAL: Duration = Duration::from_mins(10);
/// The most bytes of a program's connection in each direction.
const PROGRAM_BYTES_MAX: usize = 64 << 20;
/// The most connections of programs at once: 16 of each of 16 programs.
const PROGRAM_REQUESTS_MAX: usize = 256;

/// Makes the egress client of this process.
pub(crate) fn guarded_egress(opened: EgressConfig) -> GuardedEgress {
    GuardedEgress::new(opened, Arc::new(SystemNames))
}

/// Makes the egress client of a home's commands. Where the configuration cannot be read, which other code reports,
/// nothing is opened.
pub(crate) fn of_home(home: &Home) -> GuardedEgress {
    let opened = || {
        let text = config::read_config_text(home).ok()?;
        let loaded =
            config::parse_layered(&home.config_path(), &text, &EnvironmentVariables::of_process(), &[])
                .ok()?;
        Some(loaded.resolve_egress().ok()?.opened)
    };
    guarded_egress(opened().unwrap_or_default())
}

/// The line for one short question to a server that is named. A redirect is its answer, because a key must reach only the
/// host that the operator named.
pub(crate) fn probe_plan(url: &str, wait: Duration) -> EgressClientConfig {
    let limits = LineLimits {
        connect: wait,
        first_byte: wait,
        stall: wait,
        total: wait,
        request_bytes_max: 0,
        header_bytes_max: HEADER_BYTES_MAX,
        response_bytes_max: ANSWER_BYTES_MAX,
        redirects_max: 0,
        https_only: false,
        requests_max: 1,
        idle_connections_max: 0,
    };
    EgressClientConfig { route: EgressPurpose::Named(url.to_owned()), limits }
}

/// The line for what programs in a sandbox reach through their proxy, which waits as `http.request` does and carries more.
/// A redirect is its answer: the program follows it, and is judged again.
fn program_proxy_plan(of_tools: &LineLimits) -> EgressClientConfig {
    let limits = LineLimits {
        total: PROGRAM_TOTAL,
        request_bytes_max: PROGRAM_BYTES_MAX,
        response_bytes_max: PROGRAM_BYTES_MAX as u64,
        redirects_max: 0,
        requests_max: PROGRAM_REQUESTS_MAX,
        ..of_tools.clone()
    };
    EgressClientConfig { route: EgressPurpose::Granted, limits }
}

/// Opens the lines of the tools, which no earlier connection is part of, and says what else counts for calls.
pub(crate) fn call_settings(
    resolved: &ResolvedConfig,
    egress: &dyn Egress,
) -> Result<CallSettings, LineError> {
    let limits = resolved.calls.reachable.limits.clone();
    let programs = egress.open_client(program_proxy_plan(&limits))?;
    let granted = egress.open_client(EgressClientConfig { route: EgressPurpose::Granted, limits })?;
    let (pace, hops_max) = (resolved.calls.tool_pace, resolved.calls.message_hops_max);
    Ok(CallSettings { pace, hops_max, granted, programs })
}

/// A request that only looks.
pub(crate) fn get_request(url: String, headers: Vec<(String, String)>) -> EgressRequest {
    EgressRequest {
        method: HttpMethod::Get,
        url,
        headers,
        body: Bytes::new(),
        grants: Vec::new(),
        share: String::new(),
        secrets: Vec::new(),
    }
}
