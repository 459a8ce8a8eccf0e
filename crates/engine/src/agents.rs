//! What a run needs to know of its agent: state, configuration and the prompt that is pinned by digest.
//!
//! A snapshot may be a moment old. That is safe: the claim of a session asks the store itself whether the agent
//! runs, and a change of state replaces the snapshot in the same process.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use dromia_contracts::agent::{Agent, AgentConfig, AgentState};
use dromia_contracts::capability::{self, RightsWatch};
use dromia_contracts::entry::RunStarted;
use dromia_contracts::gate::{Action, Gate, Principal, Verdict};
use dromia_contracts::label::Label;
use dromia_contracts::past;
use dromia_contracts::plan::Planning;
use dromia_contracts::sandbox::Network;
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::{Pin, ReadError};
use dromia_contracts::terms::ToolTerms;
use dromia_contracts::tool::{EffectClass, PreparedCall, ToolDescriptor, ToolHost};
use dromia_contracts::{AgentId, CallId, Digest, ErrorCode, Fault, Scope, TenantId};
use serde::{Deserialize, Serialize};

use crate::core::{Core, Engine};

/// An agent as a run sees it.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// Its id.
    pub(crate) id: AgentId,
    /// What it may do right now.
    pub(crate) state: AgentState,
    /// Its configuration.
    pub(crate) config: AgentConfig,
    /// What it may do: what its configuration grants, and what the operator adds.
    pub(crate) grants: Vec<String>,
    /// The digest of the configuration.
    pub(crate) revision: Digest,
    /// The system text.
    pub(crate) system: Arc<str>,
    /// The tools its grants let it see.
    pub(crate) tools: Tools,
    /// System text and tools as they are pinned.
    pub(crate) prompt: Pin,
}

impl Snapshot {
    /// The agent as the runs of a session see it: those of a bounded task stay within its capability.
    pub(crate) fn within(self: &Arc<Self>, tenant: TenantId, session: &SessionKey) -> Arc<Self> {
        let Some(bound) = capability::bound_of(session) else { return Arc::clone(self) };
        let mut bounded = Self::clone(self);
        bounded.grants.push(capability::within(tenant, self.id, bound));
        Arc::new(bounded)
    }
}

/// Forgets agents whose rights changed, as long as the engine lives.
#[derive(Debug)]
struct Forgets(Weak<Core>);

impl RightsWatch for Forgets {
    fn rights_changed(&self, agent: AgentId) {
        if let Some(core) = self.0.upgrade() {
            core.forget_agent(agent);
        }
    }
}

impl Engine {
    /// Returns who is to be told when an agent may do something else. It keeps nothing alive.
    pub fn rights_watch(&self) -> Arc<dyn RightsWatch> {
        Arc::new(Forgets(Arc::downgrade(&self.core)))
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
pub(crate) struct Prompt {
    pub(crate) system: Arc<str>,
    pub(crate) tools: Tools,
}

/// The tools of an agent. The one that reads what earlier turns told is offered where there is something to read.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    all: Arc<[ToolDescriptor]>,
    usual: Arc<[ToolDescriptor]>,
}

impl Tools {
    fn new(all: Arc<[ToolDescriptor]>) -> Self {
        let reads = |tool: &ToolDescriptor| tool.name == past::READ;
        let usual: Arc<[ToolDescriptor]> = if all.iter().any(reads) {
            all.iter().filter(|tool| !reads(tool)).cloned().collect()
        } else {
            Arc::clone(&all)
        };
        Self { all, usual }
    }

    /// All of them, as they are pinned.
    pub(crate) fn all(&self) -> &Arc<[ToolDescriptor]> {
        &self.all
    }

    /// Those that a request offers.
    pub(crate) fn offered(&self, has_past: bool) -> &Arc<[ToolDescriptor]> {
        if has_past { &self.all } else { &self.usual }
    }
}

impl Prompt {
    /// Reads what a pin holds.
    pub(crate) fn read(pin: &[u8]) -> Result<Self, String> {
        let text: PinnedText =
            serde_json::from_slice(pin).map_err(|error| format!("a pinned prompt is unreadable: {error}"))?;
        let PinnedText { version, system, tools } = text;
        if version != PROMPT_VERSION {
            return Err(format!("this version knows no prompt of version {version}"));
        }
        Ok(Self { system: system.into(), tools: Tools::new(tools.into()) })
    }
}

impl Core {
    /// Returns an agent as it stands, from memory where possible.
    pub(crate) async fn snapshot(&self, scope: &Scope, agent: AgentId) -> Result<Arc<Snapshot>, Fault> {
        if let Some(known) = self.snapshots.get(&(scope.tenant(), agent)) {
            return Ok(known);
        }
        let changes = self.agent_changes.load(Ordering::SeqCst);
        let found = self.ports.store.agent(scope, agent).await.map_err(read_fault)?;
        let found = found.ok_or_else(|| agent_not_found(agent))?;
        let revision = self.ports.store.revision(scope, agent, found.revision).await.map_err(read_fault)?;
        let revision = revision.ok_or_else(|| agent_not_found(agent))?;
        let added = self.ports.terms.grants(scope, agent).await.map_err(read_fault)?;
        let grants = [revision.config.grants.clone(), added].concat();
        let networks = self.networks(scope, agent, &grants).await.map_err(read_fault)?;
        let snapshot = Arc::new(self.make_snapshot(scope, &found, revision.config, grants, &networks));
        self.snapshots.insert((scope.tenant(), agent), Arc::clone(&snapshot));
        if self.agent_changes.load(Ordering::SeqCst) != changes {
            // Some agent changed while this one was read: what was read may be older than the change.
            self.snapshots.retain(|(_, id), _| *id != agent);
        }
        Ok(snapshot)
    }

    /// Returns the agent as a run began with it: its model, its system text and its tools are those that the run is
    /// pinned to. Whether it runs, and what it may do, is as it stands now.
    pub(crate) async fn pinned(
        &self,
        scope: &Scope,
        now: Arc<Snapshot>,
        started: &RunStarted,
    ) -> Result<Arc<Snapshot>, ReadError> {
        if (now.revision, now.prompt.digest) == (started.config, started.prompt) {
            return Ok(now);
        }
        let store = &self.ports.store;
        let revision = store.revision(scope, now.id, started.config).await?;
        let pin = store.pin(scope, started.prompt).await?;
        let (Some(revision), Some(bytes)) = (revision, pin) else {
            tracing::warn!(agent = %now.id, "what a run is pinned to is gone; it goes on as the agent is now");
            return Ok(now);
        };
        let place = || format!("the prompt {}", started.prompt);
        let prompt =
            Prompt::read(&bytes).map_err(|problem| ReadError::Damaged { place: place(), problem })?;
        Ok(Arc::new(Snapshot {
            id: now.id,
            state: now.state,
            config: AgentConfig { grants: now.config.grants.clone(), ..revision.config },
            grants: now.grants.clone(),
            revision: started.config,
            system: prompt.system,
            tools: prompt.tools,
            prompt: Pin { digest: started.prompt, bytes },
        }))
    }

    /// Forgets what is known of an agent, because it changed.
    pub(crate) fn forget_agent(&self, agent: AgentId) {
        // Counted first, so that a reader who kept an older row after this line drops it again.
        self.agent_changes.fetch_add(1, Ordering::SeqCst);
        self.snapshots.retain(|(_, id), _| *id != agent);
    }

    /// Tells of each tool that runs programs what a program would be given that this agent starts.
    async fn networks(
        &self,
        scope: &Scope,
        agent: AgentId,
        grants: &[String],
    ) -> Result<Networks, ReadError> {
        let mut networks = Networks::new();
        for ToolDescriptor { name, .. } in self.ports.tools.descriptors() {
            if runs_programs(&*self.ports.tools, name) {
                let terms = self.ports.terms.of(name, Some((scope, agent))).await?;
                networks.insert(name.clone(), terms.network_for(grants));
            }
        }
        Ok(networks)
    }

    fn make_snapshot(
        &self,
        scope: &Scope,
        agent: &Agent,
        config: AgentConfig,
        grants: Vec<String>,
        networks: &Networks,
    ) -> Snapshot {
        let tools = visible_tools(&*self.ports.gate, &*self.ports.tools, scope, &grants, networks);
        let system: Arc<str> = Arc::from(config.instructions.as_str());
        let text = PromptText { version: PROMPT_VERSION, system: &system, tools: &tools };
        // Strings and JSON values only: serialization has no failing case.
        let bytes = Bytes::from(serde_json::to_vec(&text).unwrap_or_default());
        let digest = Digest::from_bytes(*blake3::hash(&bytes).as_bytes());
        Snapshot {
            id: agent.id,
            state: agent.state,
            revision: agent.revision,
            system,
            tools: Tools::new(tools),
            prompt: Pin { digest, bytes },
            config,
            grants,
        }
    }
}

/// What programs would be given, by the tool that starts them.
type Networks = BTreeMap<String, Network>;

/// Tells whether a tool runs programs.
pub(crate) fn runs_programs(host: &dyn ToolHost, tool: &str) -> bool {
    host.limits(tool, &ToolTerms::default()).is_some()
}

/// Lists the tools whose name some grant covers; the gate judges every call again with its arguments.
fn visible_tools(
    gate: &dyn Gate,
    host: &dyn ToolHost,
    scope: &Scope,
    grants: &[String],
    networks: &Networks,
) -> Arc<[ToolDescriptor]> {
    let visible = |descriptor: &&ToolDescriptor| {
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
        let principal =
            Principal { scope, author: scope.actor(), grants, context, endorsed: &[], plan: Planning::OPEN };
        // What a person may allow, and what may happen later, is offered; whether it happens is judged call by call.
        !matches!(gate.judge(principal, Action::Tool(&probe)), Verdict::Deny { .. })
    };
    host.descriptors().iter().filter(visible).cloned().collect()
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
            Fault::new(ErrorCode::JournalDamaged, format!("{place} is damaged and is not given out"))
                .with_hint("restore the home from a backup")
        }
    }
}
