//! What the file says about tools, under `tools` and `permissions` for every agent and under `agents.HANDLE` for one.
//!
//! Sizes and times are written with their unit. Each has a smallest and a largest value; what lies beyond, what would come
//! to nothing, and a key that says less than another one already does is refused with its place.

use std::collections::BTreeMap;

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::sandbox::{IsolationLevel, NetworkAccess};
use dromia_contracts::tool_policy::{ToolTerms, privileged_grant};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::permissions::{self, WrittenOwnPermissions, WrittenPermissions};
use super::problem::did_you_mean;
use super::problem_collector::ProblemCollector;

/// What is set for one agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenAgent {
    /// Tool settings of this agent. What is not set here is taken from `tools`.
    pub(crate) tools: WrittenFlags,
    /// Tools that this agent may call, must ask for, or must not call.
    pub(crate) permissions: WrittenOwnPermissions,
}

/// What counts for tools.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenFlags {
    /// Limits of the programs that the tools `exec` and `shell.execute` run.
    #[serde(skip_serializing_if = "ProgramFlags::is_absent")]
    pub(crate) exec: ProgramFlags,
    /// Hosts that this agent may reach, in addition to its `net:` grants and in the same notation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) net: Vec<String>,
    /// Tools of `tools.privileged` that this agent may call, if its grants cover them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) privileged: Vec<String>,
}

/// How strong the sandbox must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SandboxMinimum {
    /// Landlock, a filter of system calls and limits; programs see the names of this machine's files, and can change
    /// what programs outside execute from a workspace.
    Base,
    /// The same inside namespaces with a file system of their own.
    #[default]
    Strict,
}

/// What programs may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProgramFlags {
    /// Weakest sandbox for these programs, `base` or `strict`, if it must be stronger than `sandbox.minimum`. Default:
    /// `sandbox.minimum`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sandbox: Option<SandboxMinimum>,
    /// Network access of the programs. `none`: no network. `proxy`: HTTP through a proxy, to the hosts that the agent's
    /// `net:` grants name. Default: `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<NetworkAccess>,
    /// Most processor time of one call, from 100ms to 4h. Default: four times the time limit of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_limit: Option<String>,
    /// Most memory of one call, from 16MiB to 1TiB. Default: 1GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mem_limit: Option<String>,
    /// Most time of one call, from 100ms to 10m. A call can ask for less with `timeout_s`. Default: 10m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_limit: Option<String>,
    /// Most disk space of the workspace, and of each temporary directory, while a program runs, from 1MiB to 1TiB.
    /// Default: 1GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk_quota: Option<String>,
}

impl ProgramFlags {
    /// Tells whether nothing is said.
    pub(crate) fn is_absent(&self) -> bool {
        *self == Self::default()
    }
}

/// An agent as the file names it: its tenant's handle and its own.
pub(crate) type Named = (HandleSlug, HandleSlug);

/// What the file says about tools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ToolSettings {
    all: BTreeMap<String, ToolTerms>,
    agents: BTreeMap<Named, BTreeMap<String, ToolTerms>>,
    /// The rows of `permissions` as grants: for every agent, and for one.
    rows: Vec<String>,
    own_rows: BTreeMap<Named, Vec<String>>,
}

impl ToolSettings {
    /// Lists the agents of which something is said.
    pub(crate) fn configured_agents(&self) -> impl Iterator<Item = &Named> {
        self.agents.keys()
    }

    /// Lists the privileged tools.
    pub(crate) fn privileged_tools(&self) -> impl Iterator<Item = String> {
        self.all.iter().filter(|(_, terms)| terms.privileged).map(|(tool, _)| tool.clone())
    }

    /// What counts for a tool in the hands of an agent, or of one of whom nothing is said.
    pub(crate) fn terms_for_tool(&self, tool: &str, agent: Option<&Named>) -> ToolTerms {
        let all = self.all.get(tool).cloned().unwrap_or_default();
        let Some(own) = self.terms_for_agent(agent).and_then(|tools| tools.get(tool)).cloned() else {
            return all;
        };
        ToolTerms {
            sandbox: own.sandbox.or(all.sandbox),
            network: own.network.or(all.network),
            privileged: all.privileged,
            net: [all.net, own.net].concat(),
            cpu_ms: own.cpu_ms.or(all.cpu_ms),
            memory_bytes: own.memory_bytes.or(all.memory_bytes),
            wall_ms: own.wall_ms.or(all.wall_ms),
            disk_bytes: own.disk_bytes.or(all.disk_bytes),
        }
    }

    /// What is added to an agent's own grants.
    pub(crate) fn added_grants(&self, agent: Option<&Named>) -> Vec<String> {
        let own = self.terms_for_agent(agent);
        let hosts = self.all.values().chain(own.into_iter().flat_map(BTreeMap::values));
        let hosts = hosts.flat_map(|terms| &terms.net).map(|host| format!("net:{host}"));
        let words = own.into_iter().flatten().filter(|(_, terms)| terms.privileged);
        let own_rows = agent.and_then(|agent| self.own_rows.get(agent)).into_iter().flatten();
        let rows = self.rows.iter().chain(own_rows).cloned();
        hosts.chain(words.map(|(tool, _)| privileged_grant(tool))).chain(rows).collect()
    }

    fn terms_for_agent(&self, agent: Option<&Named>) -> Option<&BTreeMap<String, ToolTerms>> {
        self.agents.get(agent?)
    }
}

/// Resolves what the file says of the tools that there are: for all agents (`flags`, `permissions`) and for single ones.
pub(super) fn resolve_tools(
    flags: &WrittenFlags,
    permissions: &WrittenPermissions,
    written_agents: &BTreeMap<String, WrittenAgent>,
    minimum: SandboxMinimum,
    known: &[&str],
    check: &mut ProblemCollector<'_>,
) -> ToolSettings {
    let all = resolve_flags("tools", flags, minimum, known, check);
    let rows = permissions::of_all(permissions, known, check);
    let (mut agents, mut own_rows) = (BTreeMap::new(), BTreeMap::new());
    for (name, agent) in written_agents {
        let here = format!("agents.{name}");
        let Some(named) = parse_agent_key(name) else {
            check.add_problem(&here, "write an agent's handle, or TENANT/HANDLE for one of another tenant");
            continue;
        };
        let own = resolve_flags(&format!("{here}.tools"), &agent.tools, minimum, known, check);
        for (index, tool) in agent.tools.privileged.iter().enumerate() {
            if !flags.privileged.contains(tool) {
                let problem = format!("{tool} is not privileged; list it under tools.privileged too");
                check.add_problem(&format!("{here}.tools.privileged.{index}"), problem);
            }
        }
        own_rows.insert(
            named.clone(),
            permissions::of_one(&format!("{here}.permissions"), &agent.permissions, known, check),
        );
        if agents.insert(named, own).is_some() {
            check.add_problem(&here, "this agent appears twice; keep one entry");
        }
    }
    ToolSettings { all, agents, rows, own_rows }
}

/// Reads which agent a key of `agents` names; nothing if it is spelled otherwise.
pub(super) fn parse_agent_key(name: &str) -> Option<Named> {
    let (tenant, agent) = name.split_once('/').unwrap_or((dromia_api::TENANT_DEFAULT, name));
    Some((tenant.parse().ok()?, agent.parse().ok()?))
}

/// Resolves one set of flags; only tools of which something is said are in it.
fn resolve_flags(
    here: &str,
    written: &WrittenFlags,
    minimum: SandboxMinimum,
    known: &[&str],
    check: &mut ProblemCollector<'_>,
) -> BTreeMap<String, ToolTerms> {
    let WrittenFlags { exec, net, privileged } = written;
    let programs = program_terms(&format!("{here}.exec"), exec, minimum, check);
    let net = check_hosts(&format!("{here}.net"), net, check);
    let mut said = BTreeMap::from([
        ("exec".to_owned(), programs.clone()),
        ("shell.execute".to_owned(), programs),
        ("http.request".to_owned(), ToolTerms { net, ..ToolTerms::default() }),
    ]);
    for (index, tool) in privileged.iter().enumerate() {
        let place = format!("{here}.privileged.{index}");
        if !known.contains(&tool.as_str()) {
            let near = did_you_mean(tool, known.iter().copied());
            check.add_problem(&place, format!("there is no tool {tool:?}{near}"));
        } else if std::mem::replace(&mut said.entry(tool.clone()).or_default().privileged, true) {
            check.add_problem(&place, format!("{tool} is listed twice"));
        }
    }
    said.retain(|_, terms| *terms != ToolTerms::default());
    said
}

fn program_terms(
    here: &str,
    written: &ProgramFlags,
    minimum: SandboxMinimum,
    check: &mut ProblemCollector<'_>,
) -> ToolTerms {
    let level = |minimum| match minimum {
        SandboxMinimum::Base => IsolationLevel::Base,
        SandboxMinimum::Strict => IsolationLevel::Strict,
    };
    if let Some(own) = written.sandbox
        && level(own) < level(minimum)
    {
        check.add_problem(
            &format!("{here}.sandbox"),
            "is weaker than sandbox.minimum, so it would have no effect",
        );
    }
    let mut number = |key: &str, text: Option<&str>, units: &NumberUnits| {
        let read = units.parse_bounded(text?);
        read.map_err(|problem| check.add_problem(&format!("{here}.{key}"), problem)).ok()
    };
    ToolTerms {
        cpu_ms: number("cpu_limit", written.cpu_limit.as_deref(), &CPU),
        memory_bytes: number("mem_limit", written.mem_limit.as_deref(), &MEMORY),
        wall_ms: number("time_limit", written.time_limit.as_deref(), &TIME),
        disk_bytes: number("disk_quota", written.disk_quota.as_deref(), &DISK),
        sandbox: written.sandbox.map(level),
        network: written.network,
        ..ToolTerms::default()
    }
}

/// Checks hosts as grants of an agent are checked.
fn check_hosts(here: &str, written: &[String], check: &mut ProblemCollector<'_>) -> Vec<String> {
    if written.len() > HOSTS_MAX {
        check.add_problem(here, format!("has more than {HOSTS_MAX} hosts"));
    }
    for (index, host) in written.iter().enumerate() {
        if let Err(error) = dromia_guard::parse_grants(&[format!("net:{host}")], &[]) {
            check.add_problem(&format!("{here}.{index}"), &error);
        }
    }
    written.to_vec()
}

/// The most hosts of one list.
const HOSTS_MAX: usize = 64;

/// How a kind of number is written, and how small and large it may be.
struct NumberUnits {
    /// What it is called.
    noun: &'static str,
    /// Its units, the smallest first.
    known: &'static [(&'static str, u64)],
    /// The smallest and the largest, as they are written.
    bounds: (&'static str, &'static str),
}

const SIZES: &[(&str, u64)] =
    &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
const TIMES: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

const CPU: NumberUnits = NumberUnits { noun: "time", known: TIMES, bounds: ("100ms", "4h") };
const TIME: NumberUnits = NumberUnits { noun: "time", known: TIMES, bounds: ("100ms", "10m") };
const MEMORY: NumberUnits = NumberUnits { noun: "size", known: SIZES, bounds: ("16MiB", "1TiB") };
const DISK: NumberUnits = NumberUnits { noun: "size", known: SIZES, bounds: ("1MiB", "1TiB") };

impl NumberUnits {
    /// Reads a number with its unit, within its bounds.
    fn parse_bounded(&self, text: &str) -> Result<u64, String> {
        let value = self.parse_number(text)?;
        let (min, max) = self.bounds;
        let within = self.parse_number(min)?..=self.parse_number(max)?;
        if within.contains(&value) {
            Ok(value)
        } else {
            Err(format!("must be from {min} to {max}, and is {text}"))
        }
    }

    fn parse_number(&self, text: &str) -> Result<u64, String> {
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = (&text[..digits], text[digits..].trim_start());
        let found = self.known.iter().find(|(name, _)| *name == unit);
        let value = match (number.parse::<u64>(), found) {
            (Ok(number), Some((_, factor))) => number.checked_mul(*factor),
            (Ok(_), None) | (Err(_), _) => None,
        };
        value.ok_or_else(|| {
            let names: Vec<_> = self.known.iter().map(|(name, _)| *name).collect();
            let (noun, names, example) = (self.noun, names.join(", "), self.bounds.0);
            format!("{text:?} is not a {noun}; write a whole number and {names}, such as {example}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_parsed_with_its_unit_and_bounds() {
        for (units, text, read) in [
            (&MEMORY, "512MiB", Some(512 << 20)),
            (&MEMORY, "16 MiB", Some(16 << 20)),
            (&MEMORY, "1TiB", Some(1 << 40)),
            (&MEMORY, "15MiB", None),
            (&MEMORY, "2TiB", None),
            (&MEMORY, "99999999999999999999TiB", None),
            (&DISK, "1048576B", Some(1 << 20)),
            (&TIME, "10m", Some(600_000)),
            (&TIME, "30s", Some(30_000)),
            (&TIME, "601s", None),
            (&CPU, "1h", Some(3_600_000)),
            (&CPU, "", None),
            (&CPU, "s", None),
            (&CPU, "-1s", None),
            (&CPU, "1.5s", None),
            (&CPU, "٣s", None),
        ] {
            assert_eq!(units.parse_bounded(text).ok(), read, "{text:?}: {:?}", units.parse_bounded(text));
        }
        let problem = TIME.parse_bounded("30 sec").expect_err("no such unit");
        assert_eq!(problem, "\"30 sec\" is not a time; write a whole number and ms, s, m, h, such as 100ms");
        let problem = TIME.parse_bounded("20m").expect_err("too long");
        assert_eq!(problem, "must be from 100ms to 10m, and is 20m");
    }
}
