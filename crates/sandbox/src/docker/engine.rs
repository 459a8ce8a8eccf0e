//! Which Docker engine is used, as a helper order carries it; nothing here talks to it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which engine, and which of its images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DockerEngine {
    /// Its Unix socket.
    pub socket: PathBuf,
    /// The image that programs see, which it must have.
    pub image: String,
}
