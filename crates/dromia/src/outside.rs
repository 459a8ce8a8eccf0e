//! The way out of this process, as the configuration opens it: for the server, and for the commands that ask a server
//! of models something.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::egress::{LineLimits, Method, Plan, Request, Route};
use dromia_guard::{EgressConfig, GuardedEgress, SystemNames};

use crate::config::{self, Environment};
use crate::home::Home;

/// The most bytes of an answer to a question.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// The most bytes of headers.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// The longest that a connection of a program stands: as long as a program may run.
const PROGRAM_TOTAL: Duration = Duration::from_mins(10);
/// The most bytes of a program's connection in each direction.
const PROGRAM_BYTES_MAX: usize = 64 << 20;
/// The most connections of programs at once: 16 of each of 16 programs.
const PROGRAM_REQUESTS_MAX: usize = 256;

/// Makes the way out.
pub(crate) fn egress(opened: EgressConfig) -> GuardedEgress {
    GuardedEgress::new(opened, Arc::new(SystemNames))
}

/// Makes the way out of a home's commands. Where its configuration cannot be read, which others tell, nothing is opened.
pub(crate) fn of_home(home: &Home) -> GuardedEgress {
    let opened = || {
        let text = config::text(home).ok()?;
        let loaded = config::read(&home.config(), &text, &Environment::of_process(), &[]).ok()?;
        Some(loaded.reachable().ok()?.opened)
    };
    egress(opened().unwrap_or_default())
}

/// The line for one short question to a server that is named. A redirect is its answer, because a key must reach only the
/// host that the operator named.
pub(crate) fn question(url: &str, wait: Duration) -> Plan {
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
    Plan { route: Route::Named(url.to_owned()), limits }
}

/// The line for what programs in a sandbox reach through their proxy, which waits as `http.request` does and carries more.
/// A redirect is its answer: the program follows it, and is judged again.
pub(crate) fn programs(of_tools: &LineLimits) -> Plan {
    let limits = LineLimits {
        total: PROGRAM_TOTAL,
        request_bytes_max: PROGRAM_BYTES_MAX,
        response_bytes_max: PROGRAM_BYTES_MAX as u64,
        redirects_max: 0,
        requests_max: PROGRAM_REQUESTS_MAX,
        ..of_tools.clone()
    };
    Plan { route: Route::Granted, limits }
}

/// A request that only looks.
pub(crate) fn look(url: String, headers: Vec<(String, String)>) -> Request {
    Request {
        method: Method::Get,
        url,
        headers,
        body: Bytes::new(),
        grants: Vec::new(),
        share: String::new(),
        secrets: Vec::new(),
    }
}
