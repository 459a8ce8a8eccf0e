//! The ports through which the engine reaches the world.

use std::sync::Arc;

use dromia_contracts::gate::Gate;
use dromia_contracts::model::LanguageModel;
use dromia_contracts::runs::HomeDirectories;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::store::{CommitOutcome, Store, WriteBatch};
use dromia_contracts::tool::ToolHost;
use dromia_contracts::tool_policy::OperatorTerms;
use dromia_contracts::vault::LeakDetector;
use dromia_contracts::{Fault, ScopeAuthority};

use crate::refusal::commit_fault;

/// What the engine reaches the world through.
#[derive(Debug, Clone)]
pub struct EnginePorts {
    /// Durable storage.
    pub store: Arc<dyn Store>,
    /// Models.
    pub model: Arc<dyn LanguageModel>,
    /// Tools.
    pub tools: Arc<dyn ToolHost>,
    /// The gate.
    pub gate: Arc<dyn Gate>,
    /// The operator's terms for tools.
    pub terms: Arc<dyn OperatorTerms>,
    /// The scanner for secrets in answers.
    pub leaks: Arc<dyn LeakDetector>,
    /// The homes of agents.
    pub homes: Arc<dyn HomeDirectories>,
    /// Time, identity and a place to run.
    pub runtime: Runtime,
    /// The right to issue scopes, for recovery.
    pub authority: ScopeAuthority,
}

impl EnginePorts {
    /// Commits a batch that is done or not: any other answer is a fault.
    pub(crate) async fn commit_batch(&self, batch: WriteBatch) -> Result<(), Fault> {
        match self.store.commit(batch).await {
            CommitOutcome::Done(_) => Ok(()),
            answer => Err(commit_fault(answer)),
        }
    }
}
