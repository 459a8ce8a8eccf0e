//! What a run needs to know of its agent: state, configuration and the prompt that is pinned by digest.
//!
//! A snapshot may be a moment old. That is safe: the claim of a session asks the store itself whether the agent
//! runs, and a change of state replaces the snapshot in the same process.

mod layers;
mod prompt;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dromia_contracts::agent::{AgentConfig, AgentRecord, AgentState};
use dromia_contracts::capability;
use dromia_contracts::entry::RunStarted;
use dromia_contracts::gate::{Gate, GateAction, GateVerdict, Principal, RightsHold, rights_word};
use dromia_contracts::identity_document::{DocumentName, PromptKind, session_layers};
use dromia_contracts::label::Label;
use dromia_contracts::mind::AgentMind;
use dromia_contracts::plan::PlanContext;
use dromia_contracts::run::RunKind;
use dromia_contracts::sandbox::NetworkAccess;
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::{ReadError, TextPin};
use dromia_contracts::task::RunOrigin;
use dromia_contracts::tool::{BRANCH, EffectClass, PreparedCall, ToolDescriptor, ToolHost};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::workspace::{RunWorkspace, WorkspaceReference};
use dromia_contracts::{AgentId, CallId, Digest, ErrorCode, Fault, Scope, TenantId};
use quick_cache::sync::Cache;

use self::layers::DocumentTexts;
pub(crate) use self::layers::{join_texts, read_document};
use self::prompt::make_prompt;
pub(crate) use self::prompt::{AgentTools, PinnedPrompt};
use crate::config::SNAPSHOTS_MAX;
use crate::mind_roles::{MindRole, granted_by_mind};
use crate::ports::EnginePorts;

/// What a compaction reads first where neither its agent nor the operator says something else.
const COMPACTION_PROMPT: &str = include_str!("agents/compaction.md");

/// What a worker reads first where neither its agent nor the operator says something else.
const WORKER_PROMPT: &str = include_str!("agents/worker.md");

/// Prompts of an agent's runs that are no turns.
#[derive(Debug)]
struct KindPrompts {
    worker: (Arc<str>, AgentTools, TextPin),
    compaction: (Arc<str>, AgentTools, TextPin),
}

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
    /// The system text: that of its prompt, with the texts of `layers` behind it.
    pub(crate) system: Arc<str>,
    /// The documents that count in its session.
    pub(crate) layers: Vec<Digest>,
    /// The tools its grants let it see.
    pub(crate) tools: AgentTools,
    /// The tools that there are for it, as a run knows them.
    pub(crate) catalogue: ToolCatalogue,
    /// System text and tools as they are pinned.
    pub(crate) prompt: TextPin,
    /// The prompts of its other kinds of runs; none for a run that has one of its own.
    others: Option<Arc<KindPrompts>>,
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

    /// The agent as a run of this kind sees it: a worker does one task, and a compaction reads a conversation and does nothing.
    pub(crate) fn within_kind(self: &Arc<Self>, kind: RunKind) -> Arc<Self> {
        let Some(others) = &self.others else { return Arc::clone(self) };
        let (system, tools, prompt) = match kind {
            RunKind::Worker => &others.worker,
            RunKind::Compaction => &others.compaction,
            RunKind::Turn | RunKind::Branch | RunKind::ApprovedCall => return Arc::clone(self),
        };
        let mut other = Self::clone(self);
        (other.system, other.tools, other.prompt) = (Arc::clone(system), tools.clone(), prompt.clone());
        Arc::new(other)
    }

    /// The agent as a run sees it that another model answers than its configuration names.
    pub(crate) fn within_model(self: Arc<Self>, alias: Option<&str>) -> Arc<Self> {
        let Some(alias) = alias.filter(|alias| *alias != self.config.model) else { return self };
        let mut routed = Self::clone(&self);
        alias.clone_into(&mut routed.config.model);
        Arc::new(routed)
    }

    /// The agent as a run sees it whose input named a directory: it works there and not in the agent's workspace.
    pub(crate) fn within_workspace(self: Arc<Self>, named: Option<&WorkspaceReference>) -> Arc<Self> {
        let Some(named) = named else { return self };
        let mut moved = Self::clone(&self);
        (moved.config.workspace, moved.has_run_workspace) = (Some(named.clone()), true);
        Arc::new(moved)
    }
}

/// The agents as runs see them, from memory where possible.
#[derive(Debug)]
pub(crate) struct AgentDirectory {
    ports: Arc<EnginePorts>,
    snapshots: Cache<(TenantId, AgentId), Arc<AgentSnapshot>>,
    /// Counts changes of agents, so that a row read before one is not kept after it.
    changes: AtomicU64,
    documents: DocumentTexts,
}

impl AgentDirectory {
    /// Begins with no agent in memory.
    pub(crate) fn new(ports: Arc<EnginePorts>) -> Self {
        let (snapshots, documents) = (Cache::new(SNAPSHOTS_MAX), DocumentTexts::new());
        Self { ports, snapshots, changes: AtomicU64::new(0), documents }
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
        let texts = self.kind_texts(scope, &revision.config).await.map_err(read_fault)?;
        // The character that a document gives the agent takes the place of its instructions.
        let has_soul = revision.config.identity.contains_key(&DocumentName::Soul);
        let instructions = if has_soul { "" } else { revision.config.instructions.as_str() };
        let [turn, worker, compaction] = texts.each_ref().map(|text| &**text);
        let system = join_texts([turn, instructions]);
        let (tools, prompt) = make_prompt(&system, tools_of_role(&visible, mind, MindRole::Turn));
        let others = {
            let text = join_texts([worker, instructions]);
            let (tools, pin) = make_prompt(&text, tools_of_role(&visible, mind, MindRole::Worker));
            let (none, alone) = make_prompt(compaction, Arc::default());
            KindPrompts { worker: (text, tools, pin), compaction: (Arc::from(compaction), none, alone) }
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
            layers: Vec::new(),
            tools,
            catalogue,
            prompt,
            others: Some(Arc::new(others)),
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
        let base = self.pinned_base(scope, now, started).await?.within_model(started.model.as_deref());
        self.within_layers(scope, base, started.layers.clone()).await
    }

    /// Returns the agent as a run began with it, without its documents.
    async fn pinned_base(
        &self,
        scope: &Scope,
        now: Arc<AgentSnapshot>,
        started: &RunStarted,
    ) -> Result<Arc<AgentSnapshot>, ReadError> {
        let same = now.within_kind(started.kind);
        if (same.revision, same.prompt.digest) == (started.config, started.prompt) {
            return Ok(same);
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
            layers: Vec::new(),
            catalogue: now.catalogue.with_definitions(prompt.tools.all_descriptors()),
            tools: prompt.tools,
            prompt: TextPin { digest: started.prompt, bytes },
            others: None,
            has_run_workspace: false,
        }))
    }

    /// Returns the documents of an agent that count in a session.
    pub(crate) fn session_layers(agent: &AgentSnapshot, session: &SessionKey) -> Vec<Digest> {
        session_layers(&agent.config.identity, session)
    }

    /// Returns the agent as runs see it in whose session these documents count.
    pub(crate) async fn within_layers(
        &self,
        scope: &Scope,
        agent: Arc<AgentSnapshot>,
        layers: Vec<Digest>,
    ) -> Result<Arc<AgentSnapshot>, ReadError> {
        if layers.is_empty() {
            return Ok(agent);
        }
        let mut texts = vec![Arc::clone(&agent.system)];
        for digest in &layers {
            texts.push(self.documents.read_text(&*self.ports.store, scope, *digest).await?);
        }
        let mut layered = AgentSnapshot::clone(&agent);
        (layered.system, layered.layers) = (join_texts(texts.iter().map(|text| &**text)), layers);
        Ok(Arc::new(layered))
    }

    /// Returns what each kind of run reads first, in the order of [`PromptKind::ALL`]: the agent's document, what the operator
    /// says, or what is built in.
    async fn kind_texts(&self, scope: &Scope, config: &AgentConfig) -> Result<[Arc<str>; 3], ReadError> {
        let mut texts = ["", WORKER_PROMPT, COMPACTION_PROMPT].map(Arc::from);
        for (text, kind) in texts.iter_mut().zip(PromptKind::ALL) {
            if let Some(own) = config.identity.get(&DocumentName::Prompt(kind)) {
                *text = self.documents.read_text(&*self.ports.store, scope, own.digest).await?;
            } else if let Some(operators) = self.ports.terms.kind_prompt(scope, kind).await? {
                *text = operators;
            }
        }
        Ok(texts)
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
