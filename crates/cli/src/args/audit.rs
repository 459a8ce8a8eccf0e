//! `audit`: who did and decided what.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use dromia_api::RunId;
use dromia_api::audit::AuditDecision;

/// What to do with the audit.
#[derive(Debug, Clone, Subcommand)]
pub enum AuditCommand {
    /// List who did what and what was decided, in the order of the log
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia audit query --since 24h\n  dromia audit query --newest --limit 20\n  dromia audit query --decision deny --agent ops\n  dromia audit query --kind token_created --json=at,actor,what"
    )]
    Query(QueryAudit),
    /// Print new records as they arrive
    #[command(
        after_help = "After a broken connection the command continues at the same place; it misses no record and prints none twice.\n\nExamples:\n  dromia audit tail\n  dromia audit tail --decision deny --jsonl\n  dromia audit tail --after 0.0.0 --count 10"
    )]
    Tail(TailAudit),
    /// Explain a record: who asked, which rule decided, and why
    #[command(
        visible_alias = "why",
        after_help = "Examples:\n  dromia audit explain 3f9a1c72:4\n  dromia audit explain act:17 --json"
    )]
    Explain(RecordName),
    /// Check that no record was removed or changed, in this home or in an exported file
    #[command(
        after_help = "The command reads the store, its journals with all messages, and the signed checkpoints beside it. It needs no server, and a server may run meanwhile. Keep the public key and the number and digest of the last checkpoint on another machine: the owner of this one can forge a history, but not one that matches them.\n\nExits with 6 if something was removed or changed, or if a key other than --key signed it; with 2 if a newer program wrote it; and with 1 if the check could not run.\n\nExamples:\n  dromia audit verify\n  dromia audit verify --checkpoint 42:9f86d0…\n  dromia audit verify --file audit.jsonl --key 3b6a27…"
    )]
    Verify(VerifyAudit),
    /// Write records to a signed file, one per line, without secrets
    #[command(
        after_help = "Check the file anywhere with `dromia audit verify --file audit.jsonl --key KEY`.\n\nExamples:\n  dromia audit export --file audit.jsonl\n  dromia audit export --jsonl --since 30d --agent ops > ops.jsonl"
    )]
    Export(ExportAudit),
}

/// Which records are meant.
#[derive(Debug, Clone, Default, Args)]
pub struct RecordFilters {
    /// Only records of this kind, such as tool_started, egress or token_created
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Only what this actor did or started, such as token:ci
    #[arg(long, value_name = "ACTOR")]
    pub actor: Option<String>,
    /// Only records of this run
    #[arg(long, value_name = "RUN")]
    pub run: Option<super::IdReference<RunId>>,
    /// Only records with this decision
    #[arg(long, value_enum, value_name = "DECISION")]
    pub decision: Option<DecisionFilter>,
    /// Only records of the last 90m, 24h or 7d, or since a time
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only records older than 90m, 24h or 7d, or before a time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

/// What was decided, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DecisionFilter {
    /// It was allowed
    Allow,
    /// It was denied
    Deny,
}

impl From<DecisionFilter> for AuditDecision {
    fn from(decision: DecisionFilter) -> Self {
        match decision {
            DecisionFilter::Allow => Self::Allow,
            DecisionFilter::Deny => Self::Deny,
        }
    }
}

/// Which page of records.
#[derive(Debug, Clone, Args)]
pub struct QueryAudit {
    /// Which page
    #[command(flatten)]
    pub page: super::PageArguments,
    /// Print the newest first; --after continues with older ones
    #[arg(long)]
    pub newest: bool,
    /// Which records
    #[command(flatten)]
    pub records: RecordFilters,
}

/// Records to follow.
#[derive(Debug, Clone, Args)]
pub struct TailAudit {
    /// Which records
    #[command(flatten)]
    pub records: RecordFilters,
    /// Begin after this place [default: now]
    #[arg(long, value_name = "PLACE")]
    pub after: Option<String>,
    /// Stop after this many records
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
    /// Check this exported file instead of the home
    #[arg(long, value_name = "FILE", conflicts_with = "checkpoint")]
    pub file: Option<PathBuf>,
    /// Require this public key, 64 hex digits [default: the home's own, if it has one]
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Require this checkpoint, as an earlier verify printed it
    #[arg(long, value_name = "NUMBER:DIGEST")]
    pub checkpoint: Option<String>,
}

/// Records to write.
#[derive(Debug, Clone, Args)]
pub struct ExportAudit {
    /// Which records
    #[command(flatten)]
    pub records: RecordFilters,
    /// Write to this file [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Write one line per record, which is the only form
    #[arg(long)]
    pub jsonl: bool,
}
