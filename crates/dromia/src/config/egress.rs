//! What the `egress` section means: what is opened of the networks that are not public, and the bounds of what agents
//! reach.

use std::time::Duration;

use dromia_contracts::egress::LineLimits;
use dromia_guard::{EgressConfig, PrivateAllowance};

use super::file::WrittenEgress;
use super::problem_collector::ProblemCollector;

/// How long a tool's request may take to connect.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// The most bytes that a tool's request carries.
const REQUEST_BYTES_MAX: usize = 256 << 10;
/// The most bytes of headers, of a request and of an answer.
const HEADER_BYTES_MAX: usize = 32 << 10;
/// The most redirects that are followed; each leaves a decision in the journal.
const REDIRECTS_MAX: usize = 5;
/// The most requests of tools at once, and half of them of one tenant; more of them wait.
const REQUESTS_MAX: usize = 64;
/// The most entries of a list.
const PRIVATE_MAX: usize = 256;
/// Connections to one host that tools leave open.
const IDLE_CONNECTIONS_MAX: usize = 16;

/// What the section means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EgressRules {
    /// What is opened.
    pub(crate) opened: EgressConfig,
    /// The bounds of what agents reach.
    pub(crate) limits: LineLimits,
}

/// Resolves the section.
pub(super) fn resolve_egress(written: &WrittenEgress, check: &mut ProblemCollector<'_>) -> EgressRules {
    check.at_least_one("egress.total_ms", written.total_ms);
    check.at_least_one("egress.response_bytes_max", written.response_bytes_max);
    let opened = EgressConfig {
        private_granted: parse_private_list("private_tools", &written.private_tools, check),
        private_named: parse_private_list("private_servers", &written.private_servers, check),
    };
    let total = Duration::from_millis(written.total_ms);
    let limits = LineLimits {
        connect: CONNECT_TIME,
        first_byte: total / 2,
        stall: total / 4,
        total,
        request_bytes_max: REQUEST_BYTES_MAX,
        header_bytes_max: HEADER_BYTES_MAX,
        response_bytes_max: written.response_bytes_max,
        redirects_max: REDIRECTS_MAX,
        https_only: written.https_only,
        requests_max: REQUESTS_MAX,
        idle_connections_max: IDLE_CONNECTIONS_MAX,
    };
    EgressRules { opened, limits }
}

fn parse_private_list(
    key: &str,
    texts: &[String],
    check: &mut ProblemCollector<'_>,
) -> Vec<PrivateAllowance> {
    if texts.len() > PRIVATE_MAX {
        check.add_problem(&format!("egress.{key}"), format!("has more than {PRIVATE_MAX} entries"));
    }
    let mut opened = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match text.parse::<PrivateAllowance>() {
            Ok(private) => opened.push(private),
            Err(error) => check.add_problem(&format!("egress.{key}.{index}"), &error),
        }
    }
    opened
}
