//! What the configuration means: defaults filled in, keys taken from the environment, limits checked.
//!
//! Everything is checked before any port is bound, and every mistake is reported, not only the first.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Component, PathBuf};
use std::time::Duration;

use dromia_contracts::active_config::VaultReference;
use dromia_contracts::agent::HandleSlug;
use dromia_contracts::budget::BudgetDefinition;
use dromia_contracts::token::TokenScopes;
use dromia_engine::EngineConfig;
use dromia_gateway::{
    CallerLimits, ChannelSet, ConfigError, GatewayCapacity, GatewayConfig, GatewayDeadlines, SocketUser,
    TlsFiles,
};
use dromia_guard::policy::PolicyVerdict;
use dromia_models::ModelsConfig;
use dromia_sandbox::firecracker::UID_DEFAULT;
use dromia_sandbox::{DockerEngine, FirecrackerParts};
use dromia_tools::Toolbox;
use jiff::SignedDuration;

use super::approvals;
use super::budgets;
use super::channels;
use super::egress::{self, EgressRules};
use super::environment::EnvironmentVariables;
use super::external::{self, ExternalToolConfig};
use super::file::{TenantTrust, WrittenConfig, WrittenDocker, WrittenFirecracker, WrittenLimits, WrittenTls};
use super::irreversible;
use super::origin::ValueOrigins;
use super::problem::{ConfigProblem, ConfigProblems};
use super::problem_collector::ProblemCollector;
use super::prompts::PromptSettings;
use super::providers;
use super::references::{self, NameMention};
use super::retention;
use super::roles;
use super::tools::{self, SandboxMinimum, ToolSettings};
use super::workspaces::{self, WorkspaceRootTable};

/// The longest time that a run of a worker may have: a week.
const DEADLINE_MS_MAX: u64 = 7 * 24 * 3_600_000;

/// The most tenants that are named: each program of an agent asks for the hostile ones.
const TENANTS_MAX: usize = 256;

/// The most directories of control groups: version 1 has a dozen controllers, of which three matter.
const GROUPS_MAX: usize = 8;

/// The smallest window that a model may be taken to have, in tokens.
const WINDOW_TOKENS_MIN: u32 = 1_024;

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct ResolvedConfig {
    /// The HTTP server.
    pub(crate) server: ResolvedServer,
    pub(crate) models: ModelsConfig,
    pub(crate) channels: ChannelSet,
    pub(crate) engine: EngineConfig,
    /// The rules of tool calls.
    pub(crate) calls: ResolvedCalls,
    /// The sandbox of programs.
    pub(crate) programs: ResolvedPrograms,
    /// The budgets that are declared, by tenant. An agent may be named by its handle.
    pub(crate) budgets: Vec<(HandleSlug, Vec<BudgetDefinition>)>,
    /// Names, environment variables and secrets that the file refers to.
    pub(crate) references: ConfigReferences,
}

/// What the HTTP server is told.
#[derive(Debug)]
pub(crate) struct ResolvedServer {
    pub(crate) listen: SocketAddr,
    pub(crate) hosts: Vec<String>,
    pub(crate) origins: Vec<String>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) limits: WrittenLimits,
    /// Roles beside those that every server has.
    pub(crate) roles: BTreeMap<String, TokenScopes>,
    /// Who may speak on the socket beside its owner.
    pub(crate) socket_users: BTreeMap<u32, SocketUser>,
    pub(crate) default_agent: HandleSlug,
}

/// What programs of agents run in, and below which directories.
#[derive(Debug)]
pub(crate) struct ResolvedPrograms {
    pub(crate) sandbox_minimum: SandboxMinimum,
    /// Below which directories agents may have workspaces.
    pub(crate) workspace_roots: WorkspaceRootTable,
    /// The Docker engine whose containers may be used.
    pub(crate) containers: Option<DockerEngine>,
    /// The parts of virtual machines that may be used.
    pub(crate) monitor: Option<FirecrackerParts>,
    /// The directories of control groups that programs get groups in.
    pub(crate) control_groups: Vec<PathBuf>,
    /// The tenants whose programs need a kernel of their own.
    pub(crate) hostile: Vec<HandleSlug>,
}

/// What tool calls may do.
#[derive(Debug)]
pub(crate) struct ResolvedCalls {
    pub(crate) tool_pace: Option<Duration>,
    pub(crate) message_hops_max: u32,
    pub(crate) reachable: EgressRules,
    /// The tools of the operator's own.
    pub(crate) external: Vec<ExternalToolConfig>,
    pub(crate) said: ToolSettings,
    /// What kinds of runs read first.
    pub(crate) prompts: PromptSettings,
    /// What becomes of calls that cannot be undone.
    pub(crate) irreversible: PolicyVerdict,
}

/// What the file names that is kept elsewhere.
#[derive(Debug)]
pub(crate) struct ConfigReferences {
    /// The names that lead out of the file.
    pub(crate) mentions: Vec<NameMention>,
    /// The keys that the environment does not give; each disables its provider or channel alone.
    pub(crate) missing_keys: Vec<ConfigProblem>,
    /// The keys that are to be in the vault.
    pub(crate) in_vault: Vec<VaultReference>,
}

impl ResolvedConfig {
    /// The settings of the gateway. The paths of TLS are as they are written.
    pub(crate) fn gateway_config(&self, socket: Option<PathBuf>) -> GatewayConfig {
        let limits = &self.server.limits;
        let defaults = GatewayConfig::with_requests_max(limits.requests_max);
        GatewayConfig {
            listen: Some(self.server.listen),
            socket,
            hosts: self.server.hosts.clone(),
            origins: self.server.origins.clone(),
            tls: self.server.tls.clone(),
            default_agent: Some(self.server.default_agent.clone()),
            roles: self.server.roles.clone(),
            socket_users: self.server.socket_users.clone(),
            callers: CallerLimits {
                actor_inputs_per_minute_max: limits.actor_inputs_per_minute_max,
                token_rate_max: limits.token_rate_max,
                ..defaults.callers
            },
            capacity: GatewayCapacity { body_bytes_max: limits.body_bytes_max, ..defaults.capacity },
            deadlines: GatewayDeadlines {
                body_ms: limits.body_ms,
                drain_ms: limits.drain_ms,
                ..defaults.deadlines
            },
        }
    }
}

/// Resolves a configuration.
pub(crate) fn resolve_config(
    written: &WrittenConfig,
    origins: &ValueOrigins,
    environment: &EnvironmentVariables,
) -> Result<ResolvedConfig, ConfigProblems> {
    let mut check = ProblemCollector::new(origins);
    if written.version != 1 {
        check.add_problem("version", format!("this program reads version 1, not {}", written.version));
    }
    let models = providers::resolve_models(written, environment, &mut check);
    let channels = channels::resolve_channels(written, environment, &mut check);
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    check.at_least_one("engine.active_max", count(written.engine.active_max));
    check.at_least_one("engine.model_calls_max", written.engine.model_calls_max.into());
    check.at_least_one("engine.output_tokens_max", written.engine.output_tokens_max.into());
    let deadline = written.engine.worker_deadline_ms;
    if !(1_000..=DEADLINE_MS_MAX).contains(&deadline) {
        check.add_problem(
            "engine.worker_deadline_ms",
            format!("must be from 1000 to {DEADLINE_MS_MAX}, and is {deadline}"),
        );
    }
    let engine = EngineConfig::default();
    let (same, window) = (written.engine.loop_same, engine.loop_window);
    if same > window {
        check.add_problem(
            "engine.loop_same",
            format!("is {same}, but the server compares only the last {window} calls"),
        );
    }
    if written.context.window_tokens < WINDOW_TOKENS_MIN {
        check.add_problem("context.window_tokens", format!("must be at least {WINDOW_TOKENS_MIN}"));
    }
    let own_roles = roles::resolve_roles(&written.roles, &mut check);
    let socket_users = roles::socket_users(&written.socket, &own_roles, &mut check);
    let reachable = egress::resolve_egress(&written.egress, &mut check);
    let external = external::resolve_external_tools(&written.tools.external, &reachable.limits, &mut check);
    let (irreversible, cooling) = irreversible::resolve_irreversible(&written.irreversible, &mut check);
    let second_opinion =
        irreversible::second_opinion(&written.irreversible.second_opinion, &written.models, &mut check);
    let external_names = written.tools.external.keys().map(String::as_str);
    let known_tools: Vec<_> = Toolbox::builtin_names().into_iter().chain(external_names).collect();
    let (workspace_roots, unfit) = workspaces::resolve_roots(&written.workspaces.roots);
    for (number, problem) in unfit {
        check.add_problem(&format!("workspaces.roots.{number}"), problem);
    }
    let mut resolved = ResolvedConfig {
        models,
        channels,
        engine: EngineConfig {
            active_max: written.engine.active_max,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            model_calls_max: written.engine.model_calls_max,
            worker_deadline: SignedDuration::from_millis(deadline.cast_signed()),
            output_tokens_max: written.engine.output_tokens_max,
            loop_same: written.engine.loop_same,
            loop_window: window,
            hops_max: written.tools.message_hops_max,
            window_tokens: written.context.window_tokens,
            tainted_past: written.context.tainted_past.into(),
            approvals: approvals::resolve_approvals(&written.approvals, cooling, &external, &mut check),
            second_opinion,
            retention: retention::resolve_retention(written, &mut check),
        },
        budgets: budgets::resolve_budgets(written, &mut check),
        server: ResolvedServer {
            listen: written.listen,
            default_agent: written.default_agent.clone(),
            hosts: written.http.hosts.clone(),
            origins: written.http.origins.clone(),
            tls: tls_files(&written.http.tls, &mut check),
            limits: written.limits.clone(),
            roles: own_roles,
            socket_users,
        },
        calls: ResolvedCalls {
            tool_pace: (written.tools.pace_ms > 0).then(|| Duration::from_millis(written.tools.pace_ms)),
            message_hops_max: written.tools.message_hops_max,
            external,
            reachable,
            said: tools::resolve_tools(
                &written.tools.tool_flags(),
                &written.permissions,
                &written.agents,
                written.sandbox.minimum,
                &known_tools,
                &mut check,
            ),
            prompts: PromptSettings::resolve_prompts(
                &written.engine.prompts,
                written.tenants.iter().map(|(name, tenant)| (name, &tenant.prompts)),
                &mut check,
            ),
            irreversible,
        },
        programs: ResolvedPrograms {
            sandbox_minimum: written.sandbox.minimum,
            workspace_roots,
            containers: docker_engine(&written.sandbox.docker, &mut check),
            monitor: machine_monitor(&written.sandbox.firecracker, &mut check),
            control_groups: control_groups(&written.sandbox.control_groups, &mut check),
            hostile: hostile_tenants(written, &mut check),
        },
        references: ConfigReferences {
            mentions: references::collect_mentions(written, origins),
            missing_keys: Vec::new(),
            in_vault: Vec::new(),
        },
    };
    for error in resolved.gateway_config(None).list_problems() {
        match &error {
            ConfigError::OutOfRange { key, min, max, found } => {
                let key = format!("limits.{key}");
                check.add_problem(&key, format!("must be from {min} to {max}, and is {found}"));
            }
            ConfigError::Host { index, .. } => check.add_problem(&format!("http.hosts.{index}"), &error),
            ConfigError::Origin { index, .. } => check.add_problem(&format!("http.origins.{index}"), &error),
            ConfigError::Unencrypted { .. } | ConfigError::NoDoor => check.add_problem("listen", &error),
        }
    }
    resolved.references.missing_keys = std::mem::take(&mut check.missing);
    resolved.references.in_vault = std::mem::take(&mut check.in_vault);
    check.into_result().map(|()| resolved)
}

/// Takes the Docker engine, if socket and image are named.
fn docker_engine(written: &WrittenDocker, check: &mut ProblemCollector<'_>) -> Option<DockerEngine> {
    let (socket, image) = match (&written.socket, &written.image) {
        (Some(socket), Some(image)) => (socket, image),
        (Some(_), None) => {
            check.add_problem("sandbox.docker.socket", "needs `sandbox.docker.image` too");
            return None;
        }
        (None, Some(_)) => {
            check.add_problem("sandbox.docker.image", "needs `sandbox.docker.socket` too");
            return None;
        }
        (None, None) => return None,
    };
    if !PathBuf::from(socket).is_absolute() {
        check.add_problem(
            "sandbox.docker.socket",
            "is not an absolute path of a Unix socket, such as /run/user/1000/docker.sock",
        );
    }
    if image.is_empty() || image.contains(|c: char| c.is_whitespace() || c.is_control() || "?#%".contains(c))
    {
        check.add_problem("sandbox.docker.image", "is not a name of an image, such as debian:bookworm-slim");
    }
    Some(DockerEngine { socket: socket.into(), image: image.clone() })
}

/// Takes the parts of virtual machines, if all are named. Whether they are there is seen when one is to be started.
fn machine_monitor(
    written: &WrittenFirecracker,
    check: &mut ProblemCollector<'_>,
) -> Option<FirecrackerParts> {
    let WrittenFirecracker { binary, jailer, kernel, rootfs, uid } = written;
    if *written == WrittenFirecracker::default() {
        return None;
    }
    let mut part = |name: &str, written: Option<&String>| {
        let key = format!("sandbox.firecracker.{name}");
        let Some(path) = written else {
            check.add_problem(
                "sandbox.firecracker",
                format!("needs `{name}` too; a microVM needs all four files"),
            );
            return None;
        };
        let path = PathBuf::from(path);
        if !path.is_absolute() {
            check.add_problem(&key, "is not an absolute path of a file");
        }
        Some(path)
    };
    let parts = [
        part("binary", binary.as_ref()),
        part("jailer", jailer.as_ref()),
        part("kernel", kernel.as_ref()),
        part("rootfs", rootfs.as_ref()),
    ];
    if *uid == Some(0) {
        check.add_problem(
            "sandbox.firecracker.uid",
            "must not be 0, because the monitor must run without privileges",
        );
    }
    let [Some(binary), Some(jailer), Some(kernel), Some(rootfs)] = parts else { return None };
    Some(FirecrackerParts { binary, jailer, kernel, rootfs, uid: uid.unwrap_or(UID_DEFAULT) })
}

/// Takes the directories of control groups. Whether they are there is seen when a program is to get one.
fn control_groups(written: &[String], check: &mut ProblemCollector<'_>) -> Vec<PathBuf> {
    if written.len() > GROUPS_MAX {
        check.add_problem("sandbox.control_groups", format!("has more than {GROUPS_MAX} directories"));
    }
    let groups: Vec<_> = written.iter().map(PathBuf::from).collect();
    for (index, group) in groups.iter().enumerate() {
        let is_plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        if !group.is_absolute() || !group.components().all(is_plain) {
            check.add_problem(
                &format!("sandbox.control_groups.{index}"),
                "is not an absolute path without `..`, such as /sys/fs/cgroup/system.slice/dromia.service",
            );
        }
        if groups[..index].contains(group) {
            check.add_problem(&format!("sandbox.control_groups.{index}"), "is listed twice");
        }
    }
    groups
}

/// Lists the tenants that are hostile.
fn hostile_tenants(written: &WrittenConfig, check: &mut ProblemCollector<'_>) -> Vec<HandleSlug> {
    if written.tenants.len() > TENANTS_MAX {
        check.add_problem(
            "tenants",
            format!("has more than {TENANTS_MAX} tenants; list only the hostile ones"),
        );
    }
    let mut hostile = Vec::new();
    for (name, tenant) in &written.tenants {
        match (name.parse::<HandleSlug>(), tenant.trust) {
            (Ok(handle), TenantTrust::Hostile) => hostile.push(handle),
            (Ok(_), TenantTrust::Standard) => {}
            (Err(error), _) => {
                check
                    .add_problem(&format!("tenants.{name}"), format!("is not a handle of a tenant: {error}"));
            }
        }
    }
    hostile
}

/// Takes the files of TLS, if both are named.
fn tls_files(written: &WrittenTls, check: &mut ProblemCollector<'_>) -> Option<TlsFiles> {
    let lacks = |key| format!("needs `{key}` too; TLS uses both");
    match (&written.cert, &written.key) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert: cert.into(), key: key.into() }),
        (Some(_), None) => {
            check.add_problem("http.tls.cert", lacks("http.tls.key"));
            None
        }
        (None, Some(_)) => {
            check.add_problem("http.tls.key", lacks("http.tls.cert"));
            None
        }
        (None, None) => None,
    }
}
