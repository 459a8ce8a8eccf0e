//! The tools of others as an operator registers them: one generation after another, the newest of which counts. A call that
//! began keeps the tool that it began with, and what was borrowed stays valid, so no generation is dropped before the toolbox.
//!
//! Bound: [`GENERATIONS_MAX`]; a further one is refused, and a start begins again with one.

use std::sync::OnceLock;

use dromia_contracts::tool::ToolDescriptor;

use crate::catalogue::BuiltinTool;
use crate::external::{ExternalTool, RegisteredTool};

/// The most generations of one toolbox.
pub const GENERATIONS_MAX: usize = 64;

/// Says that the tools of others changed too often since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the external tools changed {GENERATIONS_MAX} times since the start; restart the server to change them again"
)]
pub struct TooManyGenerations;

/// One generation, and the one after it.
#[derive(Debug)]
pub(super) struct ToolGeneration {
    descriptors: Vec<ToolDescriptor>,
    external: Vec<RegisteredTool>,
    next: OnceLock<Box<ToolGeneration>>,
}

impl ToolGeneration {
    /// The built-in tools and these.
    pub(super) fn new(external: Vec<RegisteredTool>) -> Self {
        let built_in = BuiltinTool::ALL.into_iter().map(BuiltinTool::descriptor);
        let others = external.iter().map(|external| external.tool.descriptor().clone());
        let mut descriptors: Vec<_> = built_in.chain(others).collect();
        descriptors.sort_by(|a, b| a.name.cmp(&b.name));
        Self { descriptors, external, next: OnceLock::new() }
    }

    /// The generation that counts.
    pub(super) fn newest(&self) -> &Self {
        let mut at = self;
        while let Some(next) = at.next.get() {
            at = next;
        }
        at
    }

    /// Lets another generation count from now on.
    pub(super) fn append(&self, external: Vec<RegisteredTool>) -> Result<(), TooManyGenerations> {
        let mut next = Box::new(Self::new(external));
        let mut at = self;
        for _ in 1..GENERATIONS_MAX {
            match at.next.set(next) {
                Ok(()) => return Ok(()),
                Err(refused) => next = refused,
            }
            let Some(later) = at.next.get() else { break };
            at = later;
        }
        Err(TooManyGenerations)
    }

    /// What the tools say about themselves, sorted by name.
    pub(super) fn descriptors(&self) -> &[ToolDescriptor] {
        &self.descriptors
    }

    /// The tools of others.
    pub(super) fn external(&self) -> impl Iterator<Item = &ExternalTool> {
        self.external.iter().map(|external| &external.tool)
    }

    /// Finds a tool of others.
    pub(super) fn find_external(&self, name: &str) -> Option<&RegisteredTool> {
        self.external.iter().find(|external| external.tool.name() == name)
    }
}
