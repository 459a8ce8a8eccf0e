//! The audit: who did and decided what, in the order in which it became durable.
//!
//! There is no second journal. What an agent does is an entry of its run; what people change is an [`AuditAct`]. The store
//! keeps one chain of *seals* per tenant: a seal is one act, or the heads of the journals that grew in one commit. So
//! a seal proves every entry before it, the number of a seal is a cursor, and a record is read off its entry.
//!
//! [`AuditLog`] is the port to that chain, [`AuditSigner`] the port to the key that signs what leaves the database.
//! Nothing here decides who may read: what a scope cannot see is absent.

mod act;

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::digest::Digest;
use crate::id::{AgentId, RunId, SessionId, TenantId};
use crate::scope::{OperatorScope, Scope};
use crate::store::{PageRequest, Read, StoredEntry};

pub use self::act::{AuditAct, AuditChange};

/// How far a reader has come in a tenant's chain: a seal, a span of it, and an entry of that span.
///
/// Written as `SEAL.SPAN.ENTRY`; `0.0.0` is the beginning, and `17.0.0` is before seal 17. What follows a place never changes and nothing is ever
/// put before it, so a reader that resumes misses nothing and sees nothing twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AuditCursor {
    /// The number of the seal, counted from 1.
    pub seal: u64,
    /// The place of the span in it, counted from 0.
    pub span: u32,
    /// The number of the entry in its journal; 1 for an act.
    pub seq: u64,
}

impl fmt::Display for AuditCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.seal, self.span, self.seq)
    }
}

/// Says that a text is no place in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a place such as 17.0.3, as a page or an event shows it")]
pub struct ParseCursorError;

impl FromStr for AuditCursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| -> Option<u64> {
            let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            if is_plain { digits.parse().ok() } else { None }
        };
        let parts: Option<Vec<u64>> = text.splitn(4, '.').map(number).collect();
        match parts.as_deref() {
            Some([seal, span, seq]) => {
                let span = u32::try_from(*span).map_err(|_| ParseCursorError)?;
                Ok(Self { seal: *seal, span, seq: *seq })
            }
            _ => Err(ParseCursorError),
        }
    }
}

/// What to read of a chain. The reader of the records filters by kind, actor and decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// Only what concerns this agent.
    pub agent: Option<AgentId>,
    /// Only entries of this run.
    pub run: Option<RunId>,
    /// Only what was sealed with something of this time or later.
    pub since: Option<Timestamp>,
}

/// One thing of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditItem {
    /// Its position.
    pub place: AuditCursor,
    /// When it happened.
    pub at: Timestamp,
    /// What it is.
    pub what: AuditWhat,
}

/// What an item is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditWhat {
    /// A change, with the digest of its seal.
    Act {
        /// Who changed what.
        act: AuditAct,
        /// The chain up to it.
        chain: Digest,
    },
    /// An entry of a journal, checked against its chain and without what was said.
    Entry {
        /// The run.
        run: RunId,
        /// Its agent.
        agent: AgentId,
        /// Its session.
        session: SessionId,
        /// The entry.
        entry: StoredEntry,
    },
    /// A seal of a kind that a newer program wrote.
    Unknown {
        /// The chain up to it.
        chain: Digest,
    },
}

/// A page of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditPage {
    /// The items, in order.
    pub items: Vec<AuditItem>,
    /// Where the page that follows begins; it may lie beyond the last item.
    pub next: AuditCursor,
    /// Whether the chain ended here.
    pub is_last: bool,
}

/// How far a tenant's chain goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// The tenant.
    pub tenant: TenantId,
    /// The number of its last seal.
    pub seal: u64,
    /// The chain up to it.
    pub chain: Digest,
}

/// The last checkpoint that is durable outside of the database, as the database remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditMark {
    /// Its number, counted from 1.
    pub number: u64,
    /// BLAKE3 of its line.
    pub digest: Digest,
}

/// The port to the chains of seals. What a scope cannot see is absent, as everywhere.
pub trait AuditLog: Send + Sync + fmt::Debug {
    /// Reads what follows a place, at most `limit` items and what one read may look at. Entries are checked against
    /// their journal's chain; those of an erased agent are gone. A scope that is narrowed to an agent sees its entries
    /// only.
    fn audit_items<'a>(
        &'a self,
        scope: &'a Scope,
        filter: AuditFilter,
        after: AuditCursor,
        limit: usize,
    ) -> Read<'a, AuditPage>;

    /// Returns the position at the end of the chain.
    fn audit_end<'a>(&'a self, scope: &'a Scope) -> Read<'a, AuditCursor>;

    /// Lists how far the chains of tenants go, by tenant.
    fn audit_heads<'a>(
        &'a self,
        operator: &'a OperatorScope,
        page: PageRequest<TenantId>,
    ) -> Read<'a, Vec<AuditHead>>;

    /// Returns the last checkpoint that the database remembers.
    fn audit_mark<'a>(&'a self, operator: &'a OperatorScope) -> Read<'a, Option<AuditMark>>;

    /// Has the database remember a checkpoint, after it is durable elsewhere.
    fn audit_marked<'a>(&'a self, operator: &'a OperatorScope, mark: AuditMark) -> Read<'a, ()>;

    /// Seals that the node serves a tenant under a configuration, unless the last one was the same.
    fn audit_config<'a>(
        &'a self,
        operator: &'a OperatorScope,
        tenant: TenantId,
        config: Digest,
        at: Timestamp,
    ) -> Read<'a, ()>;

    /// Seals that the scope's actor exports a session as a file. It is durable before the answer, so that no file
    /// leaves without its record; a tenant that is not there has no chain, and nothing is sealed.
    fn audit_exported<'a>(&'a self, scope: &'a Scope, session: SessionId, at: Timestamp) -> Read<'a, ()>;

    /// Seals what the scope's actor does that changes no row of the store, such as putting a file into a workspace. It is
    /// durable before the answer.
    fn audit_act<'a>(&'a self, scope: &'a Scope, change: AuditChange, at: Timestamp) -> Read<'a, ()>;
}

/// The port to the node's key, which signs what proves something outside of the database; and to what takes secrets
/// out of what leaves.
pub trait AuditSigner: Send + Sync + fmt::Debug {
    /// Takes what is or looks like a secret out of a text.
    fn redact_secrets(&self, text: &str) -> String;

    /// Writes the first line of a file of records, which is about `about`, a JSON object; returns the link too.
    fn first_line(&self, about: &str) -> (String, Digest);

    /// Writes the line of one record, a JSON object, after a link; returns its own link too.
    fn record_line(&self, after: Digest, record: &str) -> (String, Digest);

    /// Writes the last line: how many records there were, and the signature over all of it.
    fn last_line(&self, after: Digest, records: u64) -> String;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_cursor_round_trips_and_no_other_text_parses() {
        let place = AuditCursor { seal: 17, span: 2, seq: 9 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for bad in ["", "1", "1.2", "1.2.3.4", "a.0.0", "-1.0.0", "+1.0.0", "1..2", "1.5000000000.0"] {
            assert_eq!(bad.parse::<AuditCursor>(), Err(ParseCursorError), "{bad}");
        }
        assert!(AuditCursor::default() < place);
    }
}
