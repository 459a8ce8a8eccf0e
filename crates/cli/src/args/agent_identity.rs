//! `dromia agent identity`: documents that say who an agent is and whom it talks with.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use dromia_api::DocumentName;

use super::agent_change::AgentHistory;

/// What to do with documents.
#[derive(Debug, Clone, Subcommand)]
pub enum AgentIdentityCommand {
    /// List an agent's documents
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia agent identity list ops\n  dromia agent identity list ops --revision 3"
    )]
    List(ListDocuments),
    /// Print a document
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  dromia agent identity show ops SOUL.md\n  dromia agent identity show ops SOUL.md --revision 3"
    )]
    Show(ShowDocument),
    /// Write a document, in your editor or from a file
    #[command(
        after_help = "Documents: SOUL.md, IDENTITY.md, USER.md, platforms/NAME.md, channels/PLATFORM/CHANNEL.md, actors/ACTOR.md, and prompts/turn.md, prompts/worker.md and prompts/compaction.md. SOUL.md takes the place of the instructions.\n\nExamples:\n  dromia agent identity edit ops SOUL.md\n  dromia agent identity edit ops actors/cli:ada.md --file ada.md\n  cat rules.md | dromia agent identity edit ops platforms/webhook.md --file -"
    )]
    Edit(EditDocument),
    /// Remove a document; earlier revisions keep its text
    #[command(visible_alias = "rm", after_help = "Examples:\n  dromia agent identity remove ops SOUL.md")]
    Remove(DocumentReference),
    /// Compare a document in two revisions of an agent
    #[command(
        after_help = "Examples:\n  dromia agent identity diff ops SOUL.md\n  dromia agent identity diff ops SOUL.md 3 5"
    )]
    Diff(DiffDocument),
    /// List the revisions of an agent that changed its documents
    #[command(after_help = "Examples:\n  dromia agent identity history ops")]
    History(AgentHistory),
}

/// A document of an agent.
#[derive(Debug, Clone, Args)]
pub struct DocumentReference {
    /// The agent's handle or id
    pub name: String,
    /// The document, such as SOUL.md
    pub document: DocumentName,
}

/// Whose documents to list.
#[derive(Debug, Clone, Args)]
pub struct ListDocuments {
    /// The agent's handle or id
    pub name: String,
    /// As they were in this revision of the agent
    #[arg(long, value_name = "REV")]
    pub revision: Option<u64>,
}

/// What to show.
#[derive(Debug, Clone, Args)]
pub struct ShowDocument {
    /// Which
    #[command(flatten)]
    pub document: DocumentReference,
    /// As it was in this revision of the agent
    #[arg(long, value_name = "REV")]
    pub revision: Option<u64>,
}

/// A document to write.
#[derive(Debug, Clone, Args)]
pub struct EditDocument {
    /// Which
    #[command(flatten)]
    pub document: DocumentReference,
    /// Take the text from this file; `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// A document and the revisions to compare.
#[derive(Debug, Clone, Args)]
pub struct DiffDocument {
    /// Which
    #[command(flatten)]
    pub document: DocumentReference,
    /// Compare this revision; without it, the one before the current one
    #[arg(value_name = "REV")]
    pub from: Option<u64>,
    /// With this one; without it, the current one
    #[arg(value_name = "REV")]
    pub to: Option<u64>,
}
