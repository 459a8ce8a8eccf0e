//! What a run needs to know of its agent: state, configuration and the prompt that is pinned by digest.
//!
//! A snapshot may be a moment old. That is safe: the claim of a session asks the store itself whether the agent
//! runs, and a change of state replaces the snapshot in the same process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use dromia_contracts::agent::{AgentConfig, AgentRecord, AgentState};
use dromia_contracts::capability;
use dromia_contracts::entry::RunStarted;
use dromia_contracts::gate::{Gate, GateAction, GateVerdict, Principal, RightsHold, rights_word};
use dromia_contracts::label::Label;
use dromia_contracts::mind::AgentMind;
use dromia_contracts::plan::PlanContext;
use dromia_contracts::redacted_history;
use dromia_contracts::sandbox::NetworkAccess;
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::{ReadError, TextPin};
use dromia_contracts::task::RunOrigin;
use dromia_contracts::tool::{BRANCH, EffectClass, PreparedCall, ROUTE, SEND, ToolDescriptor, ToolHost};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::workspace::{RunWorkspace, WorkspaceReference};
use dromia_contracts::{AgentId, CallId, Digest, ErrorCode, Fault, Scope, TenantId};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};

use crate::config::SNAPSHOTS_MAX;
use crate::context::transcript::ConversationTranscript;
use crate::mind_roles::{MindRole, granted_by_mind};
use crate::ports::EnginePorts;

/// The system text of a compaction.
const COMPACTION_SYSTEM: &str = include_str!("agents/compaction.md");

/// An agent as a run sees it.
#[derive(Debug, Clone)]
pub(crate) struct AgentSnapshot {
    /// Its id.
    pub(crate) id: AgentId,
    /// What it may do right now.
    pub(crate) state: AgentState,
    /// Its configuration.
    pub(crate) config: AgentConfig,
    /// What it may do: what its configuration grants, and what is said beside it.
    pub(crate) grants: Vec<String>,
    /// What is said beside its configuration: whose grants those are, and what the operator adds.
    added: Vec<String>,
    /// Has the gate know the agent's current grants as long as a run has this snapshot.
    rights: RightsHold,
    /// The digest of the configuration.
    pub(crate) revision: Digest,
    /// The system text.
    pub(crate) system: Arc<str>,
    /// The tools its grants let it see.
    pub(crate) tools: AgentTools,
    /// The tools that there are for it, as a run knows them.
    pub(crate) catalogue: ToolCatalogue,
    /// System text and tools as they are pinned.
    pub(crate) prompt: TextPin,
    /// The tools of a branching agent's workers, and how they are pinned.
    worker: Option<Arc<(AgentTools, TextPin)>>,
    /// Whether the workspace in its configuration is the one that the run's input named.
    has_run_workspace: bool,
}

impl AgentSnapshot {
    /// The agent as the runs of a session see it: those of a bounded task stay within its capability.
    pub(crate) fn within_session(self: &Arc<Self>, tenant: TenantId, session: &SessionKey) -> Arc<Self> {
        let Some(bound) = capability::bound_of(session) else { return Arc::clone(self) };
        let mut bounded = Self::clone(self);
        bounded.grants.push(capability::within_grant(tenant, self.id, bound));
        Arc::new(bounded)
    }

    /// The agent as the runs of a child's session see it: they may do nothing that the parent could not.
    pub(crate) fn within_origin(self: Arc<Self>, gate: &dyn Gate, origin: Option<&RunOrigin>) -> Arc<Self> {
        let Some(origin) = origin else { return self };
        let mut bounded = Self::clone(&self);
        bounded.grants = gate.share_grants(&bounded.grants, &origin.grants);
        Arc::new(bounded)
    }

    /// The agent as a compaction sees it: it reads a conversation and does nothing, so it has a system text of its own and no
    /// tools.
    pub(crate) fn within_compaction(self: &Arc<Self>) -> Arc<Self> {
        let mut reader = Self::clone(self);
        reader.system = Arc::from(COMPACTION_SYSTEM);
        (reader.tools, reader.prompt) = make_prompt(COMPACTION_SYSTEM, Arc::default());
        Arc::new(reader)
    }

    /// The agent as a run of this role sees it.
    pub(crate) fn within_role(self: Arc<Self>, role: Option<MindRole>) -> Arc<Self> {
        let Some((MindRole::Worker, worker)) = role.zip(self.worker.clone()) else { return self };
        let mut alone = Self::clone(&self);
        (alone.tools, alone.prompt) = (worker.0.clone(), worker.1.clone());
        Arc::new(alone)
    }

    /// The agent as a run sees it whose input named a directory: it works there and not in the agent's workspace.
    pub(crate) fn within_workspace(self: Arc<Self>, named: Option<&WorkspaceReference>) -> Arc<Self> {
        let Some(named) = named else { return self };
        let mut moved = Self::clone(&self);
        (moved.config.workspace, moved.has_run_workspace) = (Some(named.clone()), true);
        Arc::new(moved)
    }
}

/// What a prompt pin holds. Later fields are additions; an old reader refuses a newer pin by its version.
#[derive(Serialize)]
struct PromptText<'a> {
    version: u32,
    system: &'a str,
    tools: &'a [ToolDescriptor],
}

/// The same, read.
#[derive(Deserialize)]
struct PinnedText {
    version: u32,
    system: String,
    tools: Vec<ToolDescriptor>,
}

const PROMPT_VERSION: u32 = 1;

/// The system text and the tools that a run is pinned to.
#[derive(Debug)]
pub(crate) struct PinnedPrompt {
    pub(crate) system: Arc<str>,
    pub(crate) tools: AgentTools,
}

/// The tools of an agent. The tool that reads redacted history is offered if there is such history, and the tools that
/// send to other sessions if the request names one. An agent that branches is always offered the same ones: a branch repeats the
/// requests of its parent.
#[derive(Debug, Clone)]
pub(crate) struct AgentTools {
    all: Arc<[ToolDescriptor]>,
    /// Without the first, without the second ones, and without all of these.
    less: [Arc<[ToolDescriptor]>; 3],
}

impl AgentTools {
    fn new(all: Arc<[ToolDescriptor]>) -> Self {
        let has_branches = all.iter().any(|tool| tool.name == BRANCH);
        let without = |names: &[&str]| -> Arc<[ToolDescriptor]> {
            let is_left_out = |tool: &ToolDescriptor| names.contains(&tool.name.as_str());
            if !has_branches && all.iter().any(is_left_out) {
                all.iter().filter(|tool| !is_left_out(tool)).cloned().collect()
            } else {
                Arc::clone(&all)
            }
        };
        let less = [
            without(&[redacted_history::READ]),
            without(&[SEND, ROUTE]),
            without(&[redacted_history::READ, SEND, ROUTE]),
        ];
        Self { all, less }
    }

    /// All of them, as they are pinned.
    pub(crate) fn all_descriptors(&self) -> &Arc<[ToolDescriptor]> {
        &self.all
    }

    /// Returns whether a tool is one of them.
    pub(crate) fn has_tool(&self, name: &str) -> bool {
        self.all.binary_search_by(|tool| tool.name.as_str().cmp(name)).is_ok()
    }

    /// Those that a request offers.
    pub(crate) fn offered_tools(
        &self,
        story: &ConversationTranscript,
        system: &str,
    ) -> &Arc<[ToolDescriptor]> {
        match (story.offers_past(), story.names_a_session(system)) {
            (true, true) => &self.all,
            (false, true) => &self.less[0],
            (true, false) => &self.less[1],
            (false, false) => &self.less[2],
        }
    }
}

impl PinnedPrompt {
    /// Reads what a pin holds.
    pub(crate) fn from_pin(pin: &[u8]) -> Result<Self, String> {
        let text: PinnedText = serde_json::from_slice(pin)
            .map_err(|error| format!("a pinned prompt cannot be read: {error}"))?;
        let PinnedText { version, system, tools } = text;
        if version != PROMPT_VERSION {
            return Err(format!("this version does not know prompt version {version}"));
        }
        Ok(Self { system: system.into(), tools: AgentTools::new(tools.into()) })
    }
}

/// The agents as runs see them, from memory where possible.
#[derive(Debug)]
pub(crate) struct AgentDirectory {
    ports: Arc<EnginePorts>,
    snapshots: Cache<(TenantId, AgentId), Arc<AgentSnapshot>>,
    /// Counts changes of agents, so that a row read before one is not kept after it.
    changes: AtomicU64,
}

impl AgentDirectory {
    /// Begins with no agent in memory.
    pub(crate) fn new(ports: Arc<EnginePorts>) -> Self {
        Self { ports, snapshots: Cache::new(SNAPSHOTS_MAX), changes: AtomicU64::new(0) }
    }

    /// Returns the snapshot of an agent, from memory where possible.
    pub(crate) async fn agent_snapshot(
        &self,
        scope: &Scope,
        agent: AgentId,
    ) -> Result<Arc<AgentSnapshot>, Fault> {
        let generation = self.ports.tools.shared_catalogue().generation();
        let known = self.snapshots.get(&(scope.tenant(), agent));
        if let Some(known) = known.filter(|known| known.catalogue.generation() == generation) {
            return Ok(known);
        }
        let changes = self.changes.load(Ordering::SeqCst);
        let found = self.ports.store.agent(scope, agent).await.map_err(read_fault)?;
        let found = found.ok_or_else(|| agent_not_found(agent))?;
        let revision =
            self.ports.store.agent_revision(scope, agent, found.revision).await.map_err(read_fault)?;
        let revision = revision.ok_or_else(|| agent_not_found(agent))?;
        let tenant = self.ports.store.tenant_record(scope).await.map_err(read_fault)?;
        let is_suspended = tenant.is_some_and(|tenant| tenant.suspended_at.is_some());
        let rights = self.note_rights(scope.tenant(), &found, &revision.config);
        let operators = self.ports.terms.operator_grants(scope, agent).await.map_err(read_fault)?;
        let minds = granted_by_mind(&revision.config);
        let added = [vec![rights_word(scope.tenant(), agent)], minds, operators].concat();
        let grants = [&revision.config.grants[..], &added[..]].concat();
        let catalogue = self.ports.tools.tool_catalogue(scope, Some(agent)).await.map_err(read_fault)?;
        let networks = self.tool_networks(scope, agent, &catalogue, &grants).await.map_err(read_fault)?;
        let visible = visible_tools(&*self.ports.gate, &catalogue, scope, &grants, &networks).await;
        let mind = revision.config.mind.unwrap_or_default();
        let system: Arc<str> = Arc::from(revision.config.instructions.as_str());
        let (tools, prompt) = make_prompt(&system, tools_of_role(&visible, mind, MindRole::Turn));
        let worker = match mind {
            AgentMind::Solo => None,
            AgentMind::Branching => {
                Some(Arc::new(make_prompt(&system, tools_of_role(&visible, mind, MindRole::Worker))))
            }
        };
        let snapshot = AgentSnapshot {
            id: found.id,
            // Work of a suspended tenant rests as that of a paused agent does.
            state: if is_suspended && found.state == AgentState::Running {
                AgentState::Paused
            } else {
                found.state
            },
            config: revision.config,
            grants,
            added,
            rights,
            revision: found.revision,
            system,
            tools,
            catalogue,
            prompt,
            worker,
            has_run_workspace: false,
        };
        let snapshot = Arc::new(snapshot);
        self.snapshots.insert((scope.tenant(), agent), Arc::clone(&snapshot));
        if self.changes.load(Ordering::SeqCst) != changes {
            // Some agent changed while this one was read: what was read may be older than the change.
            self.snapshots.retain(|(_, id), _| *id != agent);
        }
        Ok(snapshot)
    }

    /// Has the gate count no more of the agent's grants than its current configuration has. A change of the grants calls this
    /// before the change is acknowledged.
    pub(crate) fn note_rights(
        &self,
        tenant: TenantId,
        agent: &AgentRecord,
        config: &AgentConfig,
    ) -> RightsHold {
        self.ports.gate.note_rights(tenant, agent.id, agent.revision_number, &config.grants)
    }

    /// Returns the agent as a run began with it: its model, its system text, its tools and its grants are those that the run
    /// is pinned to; of the grants the gate counts what the agent has now. Its state is the current one, and so is what the
    /// operator says.
    pub(crate) async fn pinned_snapshot(
        &self,
        scope: &Scope,
        now: Arc<AgentSnapshot>,
        started: &RunStarted,
    ) -> Result<Arc<AgentSnapshot>, ReadError> {
        if (now.revision, now.prompt.digest) == (started.config, started.prompt) {
            return Ok(now);
        }
        let is_worker = now.worker.as_ref().is_some_and(|worker| worker.1.digest == started.prompt);
        if is_worker && now.revision == started.config {
            return Ok(now.within_role(Some(MindRole::Worker)));
        }
        let store = &self.ports.store;
        let revision = store.agent_revision(scope, now.id, started.config).await?;
        let pin = store.pinned_text(scope, started.prompt).await?;
        let (Some(revision), Some(bytes)) = (revision, pin) else {
            tracing::warn!(agent = %now.id, "the pinned prompt or configuration of a run is missing; the run \
                                             continues with the agent's current one");
            return Ok(now);
        };
        let place = || format!("the prompt {}", started.prompt);
        let prompt = PinnedPrompt::from_pin(&bytes)
            .map_err(|problem| ReadError::Damaged { place: place(), problem })?;
        Ok(Arc::new(AgentSnapshot {
            id: now.id,
            state: now.state,
            grants: [&revision.config.grants[..], &now.added[..]].concat(),
            added: now.added.clone(),
            rights: now.rights.clone(),
            config: revision.config,
            revision: started.config,
            system: prompt.system,
            catalogue: now.catalogue.with_definitions(prompt.tools.all_descriptors()),
            tools: prompt.tools,
            prompt: TextPin { digest: started.prompt, bytes },
            worker: None,
            has_run_workspace: false,
        }))
    }

    /// Returns where a run works now that has this snapshot. A directory that its input named does not depend on what the
    /// agent has by now.
    pub(crate) async fn run_workspace(
        &self,
        scope: &Scope,
        agent: &AgentSnapshot,
    ) -> Result<RunWorkspace, Fault> {
        let Some(began) = &agent.config.workspace else { return Ok(RunWorkspace::Home) };
        if agent.has_run_workspace {
            return Ok(RunWorkspace::Directory(began.clone()));
        }
        let now = self.agent_snapshot(scope, agent.id).await?;
        Ok(RunWorkspace::for_run(Some(began), now.config.workspace.as_ref()))
    }

    /// Forgets what is known of an agent, because it changed.
    pub(crate) fn forget_agent(&self, agent: AgentId) {
        // Counted first, so that a reader who kept an older row after this line drops it again.
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.snapshots.retain(|(_, id), _| *id != agent);
    }

    /// Forgets every agent: what the operator adds to grants is another from now on, or a tenant is suspended or goes on.
    pub(crate) fn forget_all(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.snapshots.clear();
    }

    /// Returns for each tool that runs programs the network access of a program that this agent starts.
    async fn tool_networks(
        &self,
        scope: &Scope,
        agent: AgentId,
        catalogue: &ToolCatalogue,
        grants: &[String],
    ) -> Result<Networks, ReadError> {
        let mut networks = Networks::new();
        for ToolDescriptor { name, .. } in catalogue.descriptors() {
            if runs_programs(&*self.ports.tools, name) {
                let terms = self.ports.terms.effective_terms(name, Some((scope, agent))).await?;
                networks.insert(name.clone(), terms.network_for(grants));
            }
        }
        Ok(networks)
    }
}

/// Returns those of the tools that requests of a role contain. Only a branching agent has branches.
fn tools_of_role(visible: &Arc<[ToolDescriptor]>, mind: AgentMind, role: MindRole) -> Arc<[ToolDescriptor]> {
    let is_sent = |tool: &&ToolDescriptor| match mind {
        AgentMind::Solo => tool.name != BRANCH,
        AgentMind::Branching => role.is_sent_tool(tool),
    };
    visible.iter().filter(is_sent).cloned().collect()
}

/// Makes what a run is pinned to: the tools that it has, and how they are pinned with the system text.
fn make_prompt(system: &str, tools: Arc<[ToolDescriptor]>) -> (AgentTools, TextPin) {
    let text = PromptText { version: PROMPT_VERSION, system, tools: &tools };
    // Strings and JSON values only: serialization has no failing case.
    let bytes = Bytes::from(serde_json::to_vec(&text).unwrap_or_default());
    let digest = Digest::from_bytes(*blake3::hash(&bytes).as_bytes());
    (AgentTools::new(tools), TextPin { digest, bytes })
}

/// The network access of programs, by the tool that starts them.
type Networks = BTreeMap<String, NetworkAccess>;

/// Returns whether a tool runs programs.
pub(crate) fn runs_programs(host: &dyn ToolHost, tool: &str) -> bool {
    host.process_limits(tool, &ToolTerms::default()).is_some()
}

/// Lists the tools whose name some grant covers; the gate judges every call again with its arguments.
async fn visible_tools(
    gate: &dyn Gate,
    catalogue: &ToolCatalogue,
    scope: &Scope,
    grants: &[String],
    networks: &Networks,
) -> Arc<[ToolDescriptor]> {
    let visible = async |descriptor: &ToolDescriptor| {
        let probe = PreparedCall {
            id: CallId::PROBE,
            tool: descriptor.name.clone(),
            effect: EffectClass::Pure,
            arguments: "{}".to_owned(),
            action: Digest::default(),
            reaches: None,
            network: networks.get(&descriptor.name).copied(),
            contents: None,
        };
        let context = Label::PUBLIC_FACT;
        let principal = Principal {
            scope,
            author: scope.actor(),
            grants,
            context,
            endorsed: &[],
            plan: PlanContext::OPEN,
        };
        // A tool whose calls need an approval or are delayed is offered; each call is judged by itself.
        !matches!(gate.evaluate_action(principal, GateAction::Tool(&probe)).await, GateVerdict::Deny { .. })
    };
    // The gate judges all tools concurrently: a hanging evaluation delays the snapshot once, not once for each tool.
    let offered = futures_util::future::join_all(catalogue.descriptors().map(visible)).await;
    let tools = catalogue.descriptors().zip(offered);
    tools.filter(|(_, offered)| *offered).map(|(tool, _)| tool.clone()).collect()
}

/// The fault for an agent that does not exist or cannot be seen.
pub(crate) fn agent_not_found(agent: AgentId) -> Fault {
    Fault::new(ErrorCode::AgentNotFound, format!("there is no agent {agent}"))
        .with_hint("list the agents with `dromia agent list`")
}

/// The fault for a read that gave nothing; the cause goes to the log, not to the tenant.
pub(crate) fn read_fault(error: ReadError) -> Fault {
    match error {
        ReadError::Unavailable { cause } => {
            tracing::warn!(%cause, "a read failed");
            Fault::new(ErrorCode::StoreUnavailable, "the store did not answer").with_hint("try again")
        }
        ReadError::Damaged { place, problem } => {
            tracing::error!(%place, %problem, "a stored row is damaged");
            Fault::new(
                ErrorCode::JournalDamaged,
                format!("{place} is damaged, so the server does not return it"),
            )
            .with_hint("restore the home from a backup")
        }
    }
}
