//! The store behind the toolbox: the reference store with two agents, and an index of files that can be spoiled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dromia_contracts::agent::{AgentConfig, AgentState};
use dromia_contracts::file::{FileLabel, FileLabels, KnownFile};
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::{
    AgentCreate, AgentStateSet, CommitOutcome, FileLabelsPut, Mutation, PageRequest, Read, ReadError,
    SessionOpen, Store, StoreWrapper, TenantCreate, WriteBatch,
};
use dromia_contracts::{Actor, AgentId, Digest, Scope, SessionId, TenantId};
use dromia_testkit::ReferenceStore;
use jiff::Timestamp;

use crate::support::{AGENT, COLLEAGUE, COLLEAGUE_SESSION, OTHER_TENANT, STRANGER_SESSION, TENANT};

/// A store with the agent that calls, a session of a colleague, and one of a stranger in another tenant.
#[derive(Debug)]
pub(crate) struct IndexStore {
    truth: ReferenceStore,
    spoiled: Mutex<IndexFaults>,
}

/// How the index of files fails or lies.
#[derive(Debug, Default)]
struct IndexFaults {
    is_shut: bool,
    /// Where the files are, for an index that takes what a file holds for what is known of it.
    lies_about: Option<PathBuf>,
    /// The files of which something was said, for an index that keeps what was said first.
    said_first: Option<BTreeSet<String>>,
}

impl IndexStore {
    /// Makes a store whose colleague is in this state.
    pub(crate) fn with_colleague(state: AgentState) -> Self {
        let truth = ReferenceStore::new();
        let settle = |batch| assert!(matches!(truth.apply_batch(&batch), CommitOutcome::Done(_)));
        let ours = tenant_batch(TENANT, "ours")
            .with_mutation(agent_mutation(AGENT, "caller"))
            .with_mutation(agent_mutation(COLLEAGUE, "colleague"))
            .with_mutation(session_mutation(COLLEAGUE_SESSION));
        settle(ours);
        let (agent, to) = (COLLEAGUE, state);
        let set = AgentStateSet { agent, from: vec![AgentState::Running], to };
        settle(WriteBatch::new(TENANT).with_mutation(Mutation::AgentStateSet(set)));
        let theirs = tenant_batch(OTHER_TENANT, "theirs")
            .with_mutation(agent_mutation(COLLEAGUE, "stranger"))
            .with_mutation(session_mutation(STRANGER_SESSION));
        settle(theirs);
        Self { truth, spoiled: Mutex::default() }
    }

    fn faults(&self) -> MutexGuard<'_, IndexFaults> {
        self.spoiled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a call says, as the commit of its result does.
    pub(crate) fn keep(&self, said: &FileLabels) {
        let mut said = said.clone();
        if let Some(first) = &mut self.faults().said_first {
            said.files.retain(|path, holds| holds.is_none() || first.insert(path.clone()));
        }
        let put = Mutation::FileLabelsPut(FileLabelsPut { agent: AGENT, said });
        let kept = self.truth.apply_batch(&WriteBatch::new(TENANT).with_mutation(put));
        assert!(matches!(kept, CommitOutcome::Done(_)), "{kept:?}");
    }

    /// Answers nothing any more.
    pub(crate) fn shut(&self) {
        self.faults().is_shut = true;
    }

    /// From now on a file has the label of its path, whatever it holds.
    pub(crate) fn look_at_paths_alone(&self, workspace: PathBuf) {
        self.faults().lies_about = Some(workspace);
    }

    /// From now on what is known of a file stays.
    pub(crate) fn keep_the_first_word(&self) {
        self.faults().said_first = Some(BTreeSet::new());
    }

    /// Checks that files are read for an agent that calls, in its tenant, from an index that answers.
    fn check_caller(&self, scope: &Scope, agent: AgentId) -> Result<(), ReadError> {
        let callers = [(TENANT, AGENT), (OTHER_TENANT, COLLEAGUE)];
        assert!(callers.contains(&(scope.tenant(), agent)), "it is asked for the agent that calls: {agent}");
        let shut = self.faults().is_shut;
        if shut { Err(ReadError::Unavailable { cause: "the index is shut".to_owned() }) } else { Ok(()) }
    }

    /// Returns what the index claims of a file of which it knows this.
    fn claim_of(&self, path: &str, known: FileLabel) -> FileLabel {
        let faults = self.faults();
        let lie = faults.lies_about.as_ref().and_then(|workspace| std::fs::read(workspace.join(path)).ok());
        let lie = lie.map(|holds| Digest::from_bytes(*blake3::hash(&holds).as_bytes()));
        FileLabel { content: lie.unwrap_or(known.content), ..known }
    }
}

impl StoreWrapper for IndexStore {
    fn wrapped_store(&self) -> &dyn Store {
        &self.truth
    }

    fn file_label<'a>(&'a self, scope: &'a Scope, agent: AgentId, path: &'a str) -> Read<'a, KnownFile> {
        Box::pin(async move {
            self.check_caller(scope, agent)?;
            let known = self.wrapped_store().file_label(scope, agent, path).await?;
            Ok(KnownFile { file: known.file.map(|file| self.claim_of(path, file)), ..known })
        })
    }

    fn file_labels<'a>(
        &'a self,
        scope: &'a Scope,
        agent: AgentId,
        page: PageRequest<&'a str>,
    ) -> Read<'a, Vec<(String, FileLabel)>> {
        Box::pin(async move {
            self.check_caller(scope, agent)?;
            let files = self.wrapped_store().file_labels(scope, agent, page).await?;
            Ok(files
                .into_iter()
                .map(|(path, file)| {
                    let claimed = self.claim_of(&path, file);
                    (path, claimed)
                })
                .collect())
        })
    }
}

fn tenant_batch(tenant: TenantId, handle: &str) -> WriteBatch {
    let handle = handle.parse().expect("a handle");
    let create = TenantCreate { handle, at: Timestamp::UNIX_EPOCH, body_key: [1; 32] };
    WriteBatch::new(tenant).with_mutation(Mutation::TenantCreate(create))
}

fn agent_mutation(agent: AgentId, handle: &str) -> Mutation {
    let config = AgentConfig { model: "m".into(), ..AgentConfig::default() };
    Mutation::AgentCreate(AgentCreate {
        agent,
        handle: handle.parse().expect("a handle"),
        display_name: String::new(),
        labels: BTreeMap::new(),
        at: Timestamp::UNIX_EPOCH,
        revision: Digest::default(),
        config,
    })
}

fn session_mutation(session: SessionId) -> Mutation {
    Mutation::SessionOpen(SessionOpen {
        session,
        agent: COLLEAGUE,
        key: SessionKey { platform: "cli".into(), channel: "cli".into(), actor: Actor::new("cli:bob") },
        at: Timestamp::UNIX_EPOCH,
        believes: false,
        importing: false,
        origin: None,
    })
}
