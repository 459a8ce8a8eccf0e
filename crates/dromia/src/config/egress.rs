//! What the `egress` section means: what is opened of the networks that are not public, and the bounds of what agents
//! reach.

use std::time::Duration;

use dromia_contracts::egress::LineLimits;
use dromia_guard::{EgressConfig, PrivateAllowance};

use super::file::WrittenEgress;
use super::resolve::ProblemCollector;

/// The most redirects that are followed; each leaves a decision in the journal.
const REDIRECTS_MAX: usize = 10;
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
    for (key, value) in [
        ("connect_ms", written.connect_ms),
        ("first_byte_ms", written.first_byte_ms),
        ("stall_ms", written.stall_ms),
        ("total_ms", written.total_ms),
        ("request_bytes_max", written.request_bytes_max as u64),
        ("response_bytes_max", written.response_bytes_max),
        ("header_bytes_max", written.header_bytes_max as u64),
        ("requests_max", written.requests_max as u64),
    ] {
        check.at_least_one(&format!("egress.{key}"), value);
    }
    if written.redirects_max > REDIRECTS_MAX {
        check.add_problem("egress.redirects_max", format!("must be at most {REDIRECTS_MAX}"));
    }
    let opened = EgressConfig {
        private_granted: parse_private_list("private_tools", &written.private_tools, check),
        private_named: parse_private_list("private_servers", &written.private_servers, check),
    };
    let limits = LineLimits {
        connect: Duration::from_millis(written.connect_ms),
        first_byte: Duration::from_millis(written.first_byte_ms),
        stall: Duration::from_millis(written.stall_ms),
        total: Duration::from_millis(written.total_ms),
        request_bytes_max: written.request_bytes_max,
        header_bytes_max: written.header_bytes_max,
        response_bytes_max: written.response_bytes_max,
        redirects_max: written.redirects_max,
        https_only: written.https_only,
        requests_max: written.requests_max,
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
