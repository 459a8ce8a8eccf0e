//! Documents of agents on the wire.

use dromia_contracts::Digest;
use dromia_contracts::identity_document::DocumentName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Writes a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteDocument {
    /// What it says from now on, in at most 64 KiB.
    pub text: String,
}

/// A document of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DocumentResource {
    /// Its name, such as `SOUL.md`.
    #[schemars(with = "String")]
    pub name: DocumentName,
    /// How many bytes it has.
    pub bytes: u32,
    /// BLAKE3 of its text.
    pub digest: Digest,
    /// What it says; on show only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}
