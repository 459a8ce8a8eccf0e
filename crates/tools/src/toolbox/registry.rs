//! The tools of one configuration: the built-in ones, and those of the operator with the agents that they are for.
//!
//! Invariant: a registry never changes. Another configuration makes another one with a higher generation; a call that began keeps
//! the tool that it began with.

use std::sync::Arc;

use dromia_contracts::Digest;
use dromia_contracts::tool_catalogue::{CatalogueTool, ToolCatalogue};

use crate::audience::AgentName;
use crate::catalogue::BuiltinTool;
use crate::external::{ExternalTool, RegisteredTool};

/// The tools of one configuration.
#[derive(Debug)]
pub(super) struct ToolRegistry {
    generation: u64,
    built_in: Vec<CatalogueTool>,
    /// Sorted by name.
    external: Vec<Arc<RegisteredTool>>,
    /// What is everybody's.
    shared: ToolCatalogue,
}

impl ToolRegistry {
    /// The built-in tools and these.
    pub(super) fn new(generation: u64, external: Vec<RegisteredTool>) -> Self {
        let built_in = BuiltinTool::ALL.map(|tool| CatalogueTool::from_builtin(tool.descriptor())).into();
        let mut external: Vec<_> = external.into_iter().map(Arc::new).collect();
        external.sort_by(|a, b| a.tool.name().cmp(b.tool.name()));
        let none = ToolCatalogue::from_builtins([]);
        let mut registry = Self { generation, built_in, external, shared: none };
        registry.shared = registry.catalogue_of(|tool| tool.audience().is_everybody());
        registry
    }

    /// The registry of another configuration.
    pub(super) fn next(&self, external: Vec<RegisteredTool>) -> Self {
        Self::new(self.generation + 1, external)
    }

    /// The tools that everybody may be given.
    pub(super) fn shared(&self) -> &ToolCatalogue {
        &self.shared
    }

    /// Returns whether it has a tool that only some may be given.
    pub(super) fn is_scoped(&self) -> bool {
        self.external.iter().any(|external| !external.tool.audience().is_everybody())
    }

    /// Lists the tools that an agent may be given, or some agent of its tenant.
    pub(super) fn catalogue_for(&self, agent: &AgentName) -> ToolCatalogue {
        self.catalogue_of(|tool| tool.audience().includes(agent))
    }

    /// The tools of others.
    pub(super) fn external(&self) -> impl Iterator<Item = &ExternalTool> {
        self.external.iter().map(|external| &external.tool)
    }

    /// Finds a tool of others.
    pub(super) fn find_external(&self, name: &str) -> Option<&Arc<RegisteredTool>> {
        let at = self.external.binary_search_by(|external| external.tool.name().cmp(name)).ok()?;
        self.external.get(at)
    }

    fn catalogue_of(&self, is_in: impl Fn(&ExternalTool) -> bool) -> ToolCatalogue {
        let external = self.external.iter().filter(|external| is_in(&external.tool));
        let mut digest = blake3::Hasher::new();
        let external = external.map(|external| {
            digest.update(external.tool.digest().as_bytes());
            external.tool.catalogue_entry().clone()
        });
        let tools = self.built_in.iter().cloned().chain(external).collect();
        let digest = Digest::from_bytes(*digest.finalize().as_bytes());
        ToolCatalogue::new(tools, self.generation, digest)
    }
}
