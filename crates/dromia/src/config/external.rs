//! What `tools.external` means: servers of the operator that agents call as tools.
//!
//! A manifest is the operator's word. It is checked whole when the file is read: names, schemas, roles, addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::egress::{EgressClientConfig, EgressPurpose, LineLimits};
use dromia_contracts::label::Label;
use dromia_contracts::vault::SecretPlacement;
use dromia_guard::egress::target::RequestTarget;
use dromia_tools::{ExternalSpec, ExternalTool, ToolAudience};

use super::file::external::WrittenExternal;
use super::problem_collector::ProblemCollector;
use super::tools::parse_agent_key;

/// The most tools of the operator's own. An agent's requests carry those that it is granted.
const TOOLS_MAX: usize = 1000;
/// The most bytes of descriptions and schemas of all of them.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// The most tenants, and the most agents, that one tool names.
const NAMES_MAX: usize = 256;
/// The longest time of one call, in milliseconds: as long as a program may run.
const TIMEOUT_MS_MAX: u64 = 600_000;

/// A tool of the operator's own, with the bounds of its calls.
#[derive(Debug, Clone)]
pub(crate) struct ExternalToolConfig {
    /// What it is.
    pub(crate) tool: ExternalTool,
    /// The bounds of its calls.
    pub(crate) limits: LineLimits,
}

impl ExternalToolConfig {
    /// The line to its server, and to nothing else.
    pub(crate) fn egress_plan(&self) -> EgressClientConfig {
        EgressClientConfig {
            route: EgressPurpose::Tool(self.tool.server_url().to_owned()),
            limits: self.limits.clone(),
        }
    }
}

/// Resolves them. What is not said about bounds is what counts for the tools of agents.
pub(super) fn resolve_external_tools(
    written: &BTreeMap<String, WrittenExternal>,
    of_tools: &LineLimits,
    check: &mut ProblemCollector<'_>,
) -> Vec<ExternalToolConfig> {
    if written.len() > TOOLS_MAX {
        let message = format!("has {} tools; at most {TOOLS_MAX} are allowed, so remove some", written.len());
        check.add_problem("tools.external", message);
    }
    check_spellings(written.keys(), check);
    let tools: Vec<_> = written
        .iter()
        .filter_map(|(name, written)| resolve_external_tool(name, written, of_tools, check))
        .collect();
    let size = |external: &ExternalToolConfig| {
        let said = external.tool.descriptor();
        said.description.len() + said.parameters.to_string().len()
    };
    let bytes: usize = tools.iter().map(size).sum();
    if bytes > TEXT_BYTES_MAX {
        let message = format!(
            "has {bytes} bytes of descriptions and schemas; at most {TEXT_BYTES_MAX} are allowed, so shorten or remove some"
        );
        check.add_problem("tools.external", message);
    }
    tools
}

/// Refuses two names that some providers cannot tell apart: they allow no dots.
fn check_spellings<'a>(names: impl Iterator<Item = &'a String>, check: &mut ProblemCollector<'_>) {
    let mut spelled = BTreeMap::new();
    for name in names {
        if let Some(other) = spelled.insert(name.replace('.', "_"), name) {
            let message = format!("differs from {other} only by `.` and `_`; choose another name");
            check.add_problem(&format!("tools.external.{name}"), message);
        }
    }
}

fn resolve_external_tool(
    name: &str,
    written: &WrittenExternal,
    of_tools: &LineLimits,
    check: &mut ProblemCollector<'_>,
) -> Option<ExternalToolConfig> {
    let here = format!("tools.external.{name}");
    let label = match &written.result_label {
        Some(text) => text
            .parse::<Label>()
            .map_err(|error| check.add_problem(&format!("{here}.result_label"), error))
            .ok()?,
        None => Label::OUTSIDE,
    };
    if let (None, Some(_)) = (&written.secret, &written.placement) {
        check.add_problem(&format!("{here}.placement"), "needs `secret`, whose placement it sets");
    }
    let limits = call_limits(&here, written, of_tools, check);
    let placement = written.placement.clone().unwrap_or(SecretPlacement::Bearer);
    let spec = ExternalSpec {
        name: name.to_owned(),
        description: written.description.clone(),
        arguments: written.arguments.clone(),
        effect: written.effect,
        sink: written.sink,
        roles: written.roles.clone(),
        result_label: label,
        sensitivity: written.sensitivity,
        records: written.records.clone(),
        url: written.url.clone(),
        secret: written.secret.clone().map(|secret| (secret, placement)),
        audience: resolve_audience(&here, written, check)?,
    };
    match ExternalTool::new(spec) {
        Ok(tool) => {
            // What no line could be opened to would stop a start later.
            if let Err(refused) = RequestTarget::parse_url(&written.url) {
                check.add_problem(&format!("{here}.url"), refused.reason);
            }
            Some(ExternalToolConfig { tool, limits })
        }
        Err(error) if error.key.is_empty() => {
            check.add_problem(&here, &error);
            None
        }
        Err(error) => {
            check.add_problem(&format!("{here}.{}", error.key), &error);
            None
        }
    }
}

/// Reads whose agents a tool is for.
fn resolve_audience(
    here: &str,
    written: &WrittenExternal,
    check: &mut ProblemCollector<'_>,
) -> Option<ToolAudience> {
    let (tenants, agents) = (written.tenants.as_deref(), written.agents.as_deref());
    let mut is_sound = true;
    let mut wrong = |key: &str, problem: &str| {
        check.add_problem(&format!("{here}.{key}"), problem);
        is_sound = false;
    };
    let (mut of_tenants, mut of_agents) = (BTreeSet::new(), BTreeSet::new());
    for (key, list) in [("tenants", tenants), ("agents", agents)] {
        let Some(list) = list else { continue };
        if list.is_empty() {
            wrong(key, "names nobody; leave the key out to give the tool to every agent");
        }
        if list.len() > NAMES_MAX {
            wrong(key, &format!("has more than {NAMES_MAX} names"));
        }
        for (index, name) in list.iter().enumerate() {
            let place = format!("{key}.{index}");
            let is_new = match (key, name.parse::<HandleSlug>(), parse_agent_key(name)) {
                ("tenants", Ok(tenant), _) => of_tenants.insert(tenant),
                ("agents", _, Some(agent)) => of_agents.insert(agent),
                ("tenants", Err(_), _) => {
                    wrong(&place, "write a tenant's handle, such as acme");
                    continue;
                }
                _ => {
                    wrong(&place, "write an agent's handle, or TENANT/HANDLE for one of another tenant");
                    continue;
                }
            };
            if !is_new {
                wrong(&place, "is listed twice; keep one");
            }
        }
    }
    if tenants.is_none() && agents.is_none() {
        return Some(ToolAudience::Everybody);
    }
    is_sound.then_some(ToolAudience::Only { tenants: of_tenants, agents: of_agents })
}

/// Takes the bounds of a call. A redirect is its answer, because the operator named this server and no other.
fn call_limits(
    here: &str,
    written: &WrittenExternal,
    of_tools: &LineLimits,
    check: &mut ProblemCollector<'_>,
) -> LineLimits {
    if let Some(found) = written.timeout_ms.filter(|found| !(1..=TIMEOUT_MS_MAX).contains(found)) {
        let message = format!("must be from 1 to {TIMEOUT_MS_MAX}, and is {found}");
        check.add_problem(&format!("{here}.timeout_ms"), message);
    }
    let timeout = written.timeout_ms.map(Duration::from_millis);
    let waits = |own: Duration| timeout.unwrap_or(own);
    LineLimits {
        // A time for the whole call replaces all of its waits.
        first_byte: waits(of_tools.first_byte),
        stall: waits(of_tools.stall),
        total: waits(of_tools.total),
        redirects_max: 0,
        ..of_tools.clone()
    }
}
