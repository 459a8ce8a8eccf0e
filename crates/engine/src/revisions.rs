//! Changing an agent: another revision, an earlier one again, or another handle.
//!
//! A change is one commit. A run keeps the configuration that it began with, but for grants that the agent has no more: the
//! gate learns of them before the change is acknowledged. What a configuration may not say is refused here, for a new
//! agent too.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::{AgentConfig, AgentRecord, HandleSlug};
use dromia_contracts::identity_document::{DOCUMENTS_MAX, DocumentDigest, DocumentName, check_document_text};
use dromia_contracts::revision::{AgentChange, AgentEdit, AgentPatch, DESCRIPTION_BYTES_MAX, RevisionRecord};
use dromia_contracts::store::{
    AgentRename, AgentRevise, CommitOutcome, CommitRefusal, Mutation, PageRequest, TextPin, WriteBatch,
};
use dromia_contracts::workspace::WorkspaceReference;
use dromia_contracts::{AgentId, Digest, ErrorCode, Fault, Scope};

use crate::agents::{agent_not_found, read_fault};
use crate::config::INSTRUCTIONS_BYTES_MAX;
use crate::core::EngineCore;
use crate::ports::EnginePorts;
use crate::refusal::commit_fault;

/// How often a change without an expected revision is made again because another one came first.
const ATTEMPTS_MAX: u32 = 8;

/// Refuses a configuration that no run could have, and returns its digest.
pub(crate) async fn check_config(
    ports: &EnginePorts,
    scope: &Scope,
    config: &AgentConfig,
) -> Result<Digest, Fault> {
    let invalid = |text: String| Err(Fault::new(ErrorCode::InvalidRequest, text));
    if !ports.model.knows_alias(&config.model) {
        return invalid(format!("config.model: there is no model {:?} in dromia.yaml", config.model));
    }
    if config.model_calls_max == Some(0) {
        return invalid("config.model_calls_max: a run needs at least one model call".to_owned());
    }
    for (name, text, most) in [
        ("instructions", &config.instructions, INSTRUCTIONS_BYTES_MAX),
        ("description", &config.description, DESCRIPTION_BYTES_MAX),
    ] {
        let bytes = text.len();
        if bytes > most {
            return invalid(format!("config.{name}: the text has {bytes} bytes; at most {most} are allowed"));
        }
    }
    // By the tools of the tenant: those of an agent depend on its handle, which may change.
    let tools = ports.tools.tool_catalogue(scope, None).await.map_err(read_fault)?;
    if let Err(problem) = ports.gate.check_grants(&config.grants, &tools) {
        return invalid(format!("config.grants: {problem}"));
    }
    let json =
        serde_json::to_vec(config).map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
    Ok(Digest::from_bytes(*blake3::hash(&json).as_bytes()))
}

/// Refuses a workspace that the agents of a tenant can't have now. One that stays is not looked at: an agent whose directory
/// is gone can still be changed.
pub(crate) async fn check_workspace(
    ports: &EnginePorts,
    scope: &Scope,
    config: &AgentConfig,
    before: Option<&AgentConfig>,
) -> Result<(), Fault> {
    let stays = before.is_some_and(|before| before.workspace == config.workspace);
    let Some(workspace) = config.workspace.as_ref().filter(|_| !stays) else { return Ok(()) };
    admit_workspace(ports, scope, "config.workspace", workspace).await
}

/// Refuses a directory in which agents of a tenant can't work now; the error begins with the field that names it.
pub(crate) async fn admit_workspace(
    ports: &EnginePorts,
    scope: &Scope,
    field: &str,
    workspace: &WorkspaceReference,
) -> Result<(), Fault> {
    ports.tools.check_workspace(scope.tenant(), workspace).await.map_err(|problem| {
        let problem = problem.strip_prefix("workspace ").unwrap_or(&problem);
        Fault::new(ErrorCode::InvalidRequest, format!("{field}: {problem}"))
    })
}

/// Changes agents.
pub(crate) struct AgentRevisions<'a> {
    core: &'a Arc<EngineCore>,
}

impl<'a> AgentRevisions<'a> {
    /// Begins with the engine's shared parts.
    pub(crate) fn new(core: &'a Arc<EngineCore>) -> Self {
        Self { core }
    }

    /// Changes an agent, and returns it as it is then.
    pub(crate) async fn agent_change(
        &self,
        scope: &Scope,
        id: AgentId,
        change: &AgentChange,
    ) -> Result<AgentRecord, Fault> {
        let mut attempts = 0;
        loop {
            let before = self.find_agent(scope, id).await?;
            let revise = self.plan_revision(scope, &before, change).await?;
            let after = change.expected.unwrap_or(before.revision_number);
            let revise = AgentRevise { after, ..revise };
            let at = revise.at;
            let batch = WriteBatch::new(scope.tenant()).wanted_by(scope.actor(), at);
            let batch = batch.with_mutation(Mutation::AgentRevise(Box::new(revise)));
            let answer = self.core.ports.store.commit(batch).await;
            attempts += 1;
            match answer {
                CommitOutcome::Refused(CommitRefusal::AgentRevision { .. })
                    if change.expected.is_none() && attempts < ATTEMPTS_MAX => {}
                CommitOutcome::Refused(CommitRefusal::AgentRevision { .. }) => {
                    let now = self.find_agent(scope, id).await?;
                    return Err(self.moved_fault(scope, &now, after).await);
                }
                CommitOutcome::Refused(CommitRefusal::RevisionKey { number }) => {
                    let text =
                        format!("the idempotency key was used with another request, for revision {number}");
                    return Err(Fault::new(ErrorCode::IdempotencyConflict, text));
                }
                CommitOutcome::Refused(CommitRefusal::AgentState { .. }) => return Err(ended_fault(&before)),
                CommitOutcome::Refused(CommitRefusal::NotFound(_)) => return Err(agent_not_found(id)),
                CommitOutcome::Done(_) => return self.apply_change(scope, id).await,
                answer => {
                    // It may be durable all the same: runs that begin from now on read what is.
                    self.core.caches.agents.forget_agent(id);
                    if matches!(answer, CommitOutcome::Unknown { .. })
                        && let Err(error) = self.apply_change(scope, id).await
                    {
                        tracing::warn!(agent = %id, %error, "the rights of an agent could not be read again");
                    }
                    return Err(commit_fault(answer));
                }
            }
        }
    }

    /// Gives an agent another handle, and returns it as it is then.
    pub(crate) async fn agent_rename(
        &self,
        scope: &Scope,
        id: AgentId,
        handle: HandleSlug,
    ) -> Result<AgentRecord, Fault> {
        let before = self.find_agent(scope, id).await?;
        let rename = AgentRename { agent: id, handle };
        let batch =
            WriteBatch::new(scope.tenant()).wanted_by(scope.actor(), self.core.ports.runtime.clock.now());
        let answer = self.core.ports.store.commit(batch.with_mutation(Mutation::AgentRename(rename))).await;
        // What the operator says of a handle counts for the agent that has it.
        self.core.caches.agents.forget_agent(id);
        match answer {
            CommitOutcome::Done(_) => self.find_agent(scope, id).await,
            CommitOutcome::Refused(CommitRefusal::AgentState { .. }) => Err(ended_fault(&before)),
            CommitOutcome::Refused(CommitRefusal::NotFound(_)) => Err(agent_not_found(id)),
            answer => Err(commit_fault(answer)),
        }
    }

    async fn find_agent(&self, scope: &Scope, id: AgentId) -> Result<AgentRecord, Fault> {
        let found = self.core.ports.store.agent(scope, id).await.map_err(read_fault)?;
        found.ok_or_else(|| agent_not_found(id))
    }

    async fn read_config(&self, scope: &Scope, id: AgentId, digest: Digest) -> Result<AgentConfig, Fault> {
        let found = self.core.ports.store.agent_revision(scope, id, digest).await.map_err(read_fault)?;
        found.map(|revision| revision.config).ok_or_else(|| agent_not_found(id))
    }

    /// Finds a revision by its number.
    async fn find_revision(
        &self,
        scope: &Scope,
        id: AgentId,
        number: u64,
    ) -> Result<Option<RevisionRecord>, Fault> {
        let page = PageRequest { after: Some(number.saturating_add(1)), limit: 1 };
        let found = self.core.ports.store.agent_revisions(scope, id, page).await.map_err(read_fault)?;
        Ok(found.into_iter().find(|revision| revision.number == number))
    }

    /// Says what the agent would be after a change.
    async fn plan_revision(
        &self,
        scope: &Scope,
        before: &AgentRecord,
        change: &AgentChange,
    ) -> Result<AgentRevise, Fault> {
        let known = self.read_config(scope, before.id, before.revision).await?;
        let unnamed = AgentPatch::default();
        let mut document = None;
        let (config, names) = match &change.edit {
            AgentEdit::Merge(patch) => (patch.config.apply_to(&known), &**patch),
            AgentEdit::Document { name, text } => {
                let pin = text.as_deref().map(document_pin).transpose()?;
                let config = with_document(&known, before, name, pin.as_ref())?;
                document = pin;
                (config, &unnamed)
            }
            AgentEdit::Revert(number) => {
                let earlier = self.find_revision(scope, before.id, *number).await?;
                let earlier = earlier.ok_or_else(|| revision_not_found(before, *number))?;
                (self.read_config(scope, before.id, earlier.digest).await?, &unnamed)
            }
        };
        let revision = check_config(&self.core.ports, scope, &config).await?;
        check_workspace(&self.core.ports, scope, &config, Some(&known)).await?;
        Ok(AgentRevise {
            agent: before.id,
            after: before.revision_number,
            display_name: names.display_name.clone().unwrap_or_else(|| before.display_name.clone()),
            labels: names.merge_labels(&before.labels),
            at: self.core.ports.runtime.clock.now(),
            revision,
            config,
            document,
            key: change.key.clone(),
        })
    }

    /// Has the gate and every later run know what is durable now.
    async fn apply_change(&self, scope: &Scope, id: AgentId) -> Result<AgentRecord, Fault> {
        let now = self.find_agent(scope, id).await?;
        let config = self.read_config(scope, id, now.revision).await?;
        // The hold may go at once: runs that it concerns have one of their own.
        let _hold = self.core.caches.agents.note_rights(scope.tenant(), &now, &config);
        self.core.caches.agents.forget_agent(id);
        Ok(now)
    }

    /// The fault for a change of another revision than the current one; it shows both.
    async fn moved_fault(&self, scope: &Scope, now: &AgentRecord, expected: u64) -> Fault {
        let describe = async |number: u64| match self.find_revision(scope, now.id, number).await {
            Ok(Some(RevisionRecord { at, by, changed, .. })) => {
                let by = by.map_or_else(|| "the server".to_owned(), |by| by.to_string());
                let changed: Vec<_> = changed.iter().map(|field| field.as_str()).collect();
                let what = if changed.is_empty() { "created".to_owned() } else { changed.join(", ") };
                format!("revision {number} ({what}; by {by} at {at})")
            }
            Ok(None) | Err(_) => format!("revision {number}"),
        };
        let (current, expected) = (describe(now.revision_number).await, describe(expected).await);
        Fault::new(
            ErrorCode::VersionConflict,
            format!("{} is at {current}, and the change expects {expected}; nothing was changed", now.handle),
        )
        .with_hint("read the agent again, then change the revision that it has")
    }
}

/// Makes the pin of a document's text.
fn document_pin(text: &str) -> Result<TextPin, Fault> {
    check_document_text(text)
        .map_err(|error| Fault::new(ErrorCode::InvalidRequest, format!("text: {error}")))?;
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    Ok(TextPin { digest: Digest::from_bytes(*blake3::hash(&bytes).as_bytes()), bytes })
}

/// Returns a configuration with a document, or without the one of that name.
fn with_document(
    known: &AgentConfig,
    agent: &AgentRecord,
    name: &DocumentName,
    pin: Option<&TextPin>,
) -> Result<AgentConfig, Fault> {
    let mut config = known.clone();
    if let Some(pin) = pin {
        // A document has at most 64 KiB.
        let bytes = u32::try_from(pin.bytes.len()).unwrap_or(u32::MAX);
        config.identity.insert(name.clone(), DocumentDigest { digest: pin.digest, bytes });
    } else if config.identity.remove(name).is_none() {
        return Err(Fault::new(
            ErrorCode::DocumentNotFound,
            format!("{} has no document {name}", agent.handle),
        )
        .with_hint(format!("list its documents with `dromia agent identity list {}`", agent.handle)));
    }
    if config.identity.len() > DOCUMENTS_MAX {
        let text = format!("an agent has at most {DOCUMENTS_MAX} documents");
        return Err(Fault::new(ErrorCode::InvalidRequest, text).with_hint("remove one that is not needed"));
    }
    Ok(config)
}

fn ended_fault(agent: &AgentRecord) -> Fault {
    Fault::new(ErrorCode::AgentTerminated, format!("{} has ended and cannot be changed", agent.handle))
        .with_hint("create another agent with `dromia agent create`")
}

fn revision_not_found(agent: &AgentRecord, number: u64) -> Fault {
    Fault::new(ErrorCode::RevisionNotFound, format!("{} has no revision {number}", agent.handle))
        .with_hint(format!("list its revisions with `dromia agent history {}`", agent.handle))
}
