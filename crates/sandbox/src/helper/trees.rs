//! All that a spec names of this machine, built by handle below one directory: for programs that take paths.
//!
//! The workspace has its guards before anybody is given a path to it. The directory lies where no agent writes.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use dromia_contracts::sandbox::{ProcessSpec, SandboxMount};

use super::tree::{self, READ_ONLY, WRITABLE};
use super::{nested_guards, root};
use crate::sys::MountAttributes;

const WORKSPACE_NAME: &str = "workspace";

/// Where each thing lies that a spec names.
#[derive(Debug, Clone)]
pub(super) struct SpecTrees {
    pub(super) workspace: PathBuf,
    /// In the order of the spec.
    pub(super) mounts: Vec<PathBuf>,
}

impl SpecTrees {
    /// Builds them below a directory of a mount namespace that this process may change. What went wrong is said with its
    /// place.
    pub(super) fn build_trees(spec: &ProcessSpec, below: &Path) -> Result<Self, (String, io::Error)> {
        let at = |path: &Path| {
            let place = path.display().to_string();
            move |problem: io::Error| (place, problem)
        };
        let ground = tree::open_no_links(below).map_err(at(below))?;
        let show = |found: io::Result<OwnedFd>, name: &str, attributes: MountAttributes| {
            let tree = tree::clone_tree(&found?, attributes)?;
            root::show_tree(&tree, &ground, Path::new(name))?;
            Ok(tree)
        };
        let workspace = show(tree::open_workspace(spec), WORKSPACE_NAME, tree::workspace_attributes(spec))
            .map_err(at(&spec.workspace))?;
        nested_guards::guard_workspace(spec, &workspace).map_err(|(name, problem)| at(&name)(problem))?;
        let mounts = spec.mounts.iter().enumerate().map(|(number, mount): (usize, &SandboxMount)| {
            let name = number.to_string();
            let attributes = if mount.writable { WRITABLE } else { READ_ONLY };
            show(tree::open_no_links(&mount.source), &name, attributes).map(drop).map_err(at(&mount.source))
        });
        mounts.collect::<Result<(), _>>()?;
        Ok(Self::paths_below(spec, below))
    }

    /// Where they lie once they are built.
    pub(super) fn paths_below(spec: &ProcessSpec, below: &Path) -> Self {
        let mounts = (0..spec.mounts.len()).map(|number| below.join(number.to_string()));
        Self { workspace: below.join(WORKSPACE_NAME), mounts: mounts.collect() }
    }
}
