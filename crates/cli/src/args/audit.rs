//! `audit`: who did and decided what.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use dromia_api::RunId;
use dromia_api::audit::Decided;

/// What to do with the audit.
#[derive(Debug, Clone, Subcommand)]
pub enum Audit {
    /// List who did and decided what, in the order in which it became durable
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia audit query --since 24h\n  dromia audit query --newest --limit 20\n  dromia audit query --decision deny --agent ops\n  dromia audit query --kind token_created --json=at,actor,what"
    )]
    Query(QueryAudit),
    /// Print records as they come
    #[command(
        after_help = "Examples:\n  dromia audit tail\n  dromia audit tail --decision deny --jsonl\n  dromia audit tail --after 0.0.0 --count 10\n\nA broken connection is taken up again where it broke off; nothing is missed and nothing comes twice."
    )]
    Tail(TailAudit),
    /// Say which rule decided a record and why, who asked, by what right, and what is missing
    #[command(
        visible_alias = "why",
        after_help = "Examples:\n  dromia audit explain run_0199c0de…:4\n  dromia audit explain act:17 --json"
    )]
    Explain(RecordName),
    /// Look for anything that was removed or changed, in this home or in an exported file
    #[command(
        after_help = "Examples:\n  dromia audit verify\n  dromia audit verify --checkpoint 42:9f86d0…\n  dromia audit verify --file audit.jsonl --key 3b6a27…\n\nIt reads the store, its journals with all that was said, and the signed checkpoints beside it; no server is needed, and one may run. Keep the public key, and the number and digest of the last checkpoint, in other hands: whoever owns this machine can write a history of his own, but not one that fits them. Exits with 6 if something was removed or changed, or if all of it is signed by another key than --key; with 2 if a newer program wrote it; and with 1 if it could not look."
    )]
    Verify(VerifyAudit),
    /// Write records into a signed file, one line each, without secrets
    #[command(
        after_help = "Examples:\n  dromia audit export --file audit.jsonl\n  dromia audit export --jsonl --since 30d --agent ops > ops.jsonl\n\nCheck it anywhere with `dromia audit verify --file audit.jsonl --key KEY`."
    )]
    Export(ExportAudit),
}

/// Which records are meant.
#[derive(Debug, Clone, Default, Args)]
pub struct Records {
    /// Only records of this kind, such as tool_started, egress or token_created
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Only what this actor did, such as token:ci; of a run its beginning
    #[arg(long, value_name = "ACTOR")]
    pub actor: Option<String>,
    /// Only records of this run
    #[arg(long, value_name = "RUN")]
    pub run: Option<RunId>,
    /// Only what was decided so
    #[arg(long, value_enum, value_name = "DECISION")]
    pub decision: Option<Decision>,
    /// Only what happened so long ago at most, such as 90m, 24h or 7d, or at a time or later
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only what happened longer ago than that, or before a time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

/// What was decided, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Decision {
    /// It was allowed
    Allow,
    /// It was denied
    Deny,
}

impl From<Decision> for Decided {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Allow => Self::Allow,
            Decision::Deny => Self::Deny,
        }
    }
}

/// Which page of records.
#[derive(Debug, Clone, Args)]
pub struct QueryAudit {
    /// Which page
    #[command(flatten)]
    pub page: super::Listing,
    /// The newest first; --after goes on with what was before
    #[arg(long)]
    pub newest: bool,
    /// Which records
    #[command(flatten)]
    pub records: Records,
}

/// Records to follow.
#[derive(Debug, Clone, Args)]
pub struct TailAudit {
    /// Which records
    #[command(flatten)]
    pub records: Records,
    /// Begin after this place; without it with what happens from now on
    #[arg(long, value_name = "PLACE")]
    pub after: Option<String>,
    /// End after so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Print each record as one line of JSON
    #[arg(long)]
    pub jsonl: bool,
}

/// A record, by id.
#[derive(Debug, Clone, Args)]
pub struct RecordName {
    /// Its id, as a listing names it
    pub id: String,
}

/// What to verify.
#[derive(Debug, Clone, Args)]
pub struct VerifyAudit {
    /// A file that was exported, and not this home
    #[arg(long, value_name = "FILE", conflicts_with = "checkpoint")]
    pub file: Option<PathBuf>,
    /// The public key that must have signed, 64 hex digits; else the home's own, where there is one
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// A checkpoint that must be there, as verify printed it earlier
    #[arg(long, value_name = "NUMBER:DIGEST")]
    pub checkpoint: Option<String>,
}

/// Records to write.
#[derive(Debug, Clone, Args)]
pub struct ExportAudit {
    /// Which records
    #[command(flatten)]
    pub records: Records,
    /// The file; stdout without it
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// One line per record, which is the only form there is
    #[arg(long)]
    pub jsonl: bool,
}
