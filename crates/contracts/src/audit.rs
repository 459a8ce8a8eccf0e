//! The audit: who did and decided what, in the order in which it became durable.
//!
//! There is no second journal. What an agent does is an entry of its run; what people change is an [`Act`]. The store
//! keeps one chain of *seals* per tenant: a seal is one act, or the heads of the journals that grew in one commit. So
//! a seal proves every entry before it, the number of a seal is a cursor, and a record is read off its entry.
//!
//! [`AuditLog`] is the port to that chain, [`Notary`] the port to the key that signs what leaves the database.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::agent::{AgentState, Handle};
use crate::approval::RuleAnswer;
use crate::budget::Budget;
use crate::digest::Digest;
use crate::id::{AgentId, ApprovalId, CapabilityId, DeliveryId, RunId, SessionId, TenantId, TokenId};
use crate::scope::{Actor, Operator, Scope};
use crate::store::{Page, Read, StoredEntry};
use crate::token::TokenScopes;

/// What somebody changed or took out, beside the journals. Stored as JSON under `kind`; a kind is never given another
/// meaning, and a program of before tells one that it does not know by its seal only. What is secret or was said is no
/// part of one: a chain is never erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// A tenant was registered.
    TenantCreated {
        /// Its handle.
        handle: Handle,
    },
    /// A credential was registered.
    TokenCreated {
        /// Its id.
        token: TokenId,
        /// What it is called.
        name: String,
        /// What it may do.
        scopes: TokenScopes,
    },
    /// A credential was taken back.
    TokenRevoked {
        /// Its id.
        token: TokenId,
    },
    /// An agent was registered.
    AgentCreated {
        /// The agent.
        agent: AgentId,
        /// Its handle.
        handle: Handle,
        /// The configuration that it began with.
        revision: Digest,
    },
    /// What an agent may do was changed; `deleting` is its erasure.
    AgentStateSet {
        /// The agent.
        agent: AgentId,
        /// The state since then.
        to: AgentState,
    },
    /// A custom state entry of a session was written by hand.
    StatePut {
        /// The session.
        session: SessionId,
        /// The entry's name.
        name: String,
    },
    /// A message was sent again by hand.
    DeliveryRedriven {
        /// The message.
        delivery: DeliveryId,
    },
    /// The node began to serve under another configuration.
    ConfigApplied {
        /// BLAKE3 of the configuration as it is written.
        config: Digest,
    },
    /// A secret was written: its first version, or the next one.
    SecretSet {
        /// Its name.
        name: String,
        /// The version; 1 for a new secret.
        version: u32,
        /// The server that it is for.
        host: String,
    },
    /// A secret was erased.
    SecretErased {
        /// Its name.
        name: String,
    },
    /// An agent, or a task of it, was given a capability from the tenant's root key.
    CapabilityGranted {
        /// Its id.
        capability: CapabilityId,
        /// Who holds it.
        holder: AgentId,
        /// What it covers.
        rights: Vec<String>,
    },
    /// An agent, or a task of it, was given a capability that was made from another one.
    CapabilityDelegated {
        /// Its id.
        capability: CapabilityId,
        /// What it was made from.
        from: CapabilityId,
        /// Who holds it.
        holder: AgentId,
        /// What it covers, of what the other one does.
        rights: Vec<String>,
    },
    /// A capability was taken back, or let go of before it had ended by itself.
    CapabilityRevoked {
        /// Its id.
        capability: CapabilityId,
        /// Who held it.
        holder: AgentId,
    },
    /// A budget was set, anew or in place of the one of its name.
    BudgetSet {
        /// The budget.
        budget: Budget,
    },
    /// A budget was removed.
    BudgetRemoved {
        /// Its name.
        name: String,
    },
    /// A request for approval was answered.
    ApprovalAnswered {
        /// The request.
        approval: ApprovalId,
        /// The agent whose call it is.
        agent: AgentId,
        /// Whether the call may begin.
        approved: bool,
    },
    /// A rule of approvals was set, anew or in place of the one of its name.
    ApprovalRuleSet {
        /// Its name.
        name: String,
        /// What it answers.
        answer: RuleAnswer,
        /// The one agent that it is for, if it is for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentId>,
        /// BLAKE3 of the rule as it is written; the rule itself may quote a call's arguments.
        rule: Digest,
    },
    /// A rule of approvals was removed.
    ApprovalRuleRemoved {
        /// Its name.
        name: String,
    },
    /// A session was written into a file that left the server.
    SessionExported {
        /// The session.
        session: SessionId,
    },
}

impl Change {
    /// Every kind, as it is written.
    pub const KINDS: [&'static str; 19] = [
        "tenant_created",
        "token_created",
        "token_revoked",
        "agent_created",
        "agent_state_set",
        "state_put",
        "delivery_redriven",
        "config_applied",
        "secret_set",
        "secret_erased",
        "capability_granted",
        "capability_delegated",
        "capability_revoked",
        "budget_set",
        "budget_removed",
        "approval_answered",
        "approval_rule_set",
        "approval_rule_removed",
        "session_exported",
    ];

    /// Returns the kind as it is written.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::TenantCreated { .. } => "tenant_created",
            Self::TokenCreated { .. } => "token_created",
            Self::TokenRevoked { .. } => "token_revoked",
            Self::AgentCreated { .. } => "agent_created",
            Self::AgentStateSet { .. } => "agent_state_set",
            Self::StatePut { .. } => "state_put",
            Self::DeliveryRedriven { .. } => "delivery_redriven",
            Self::ConfigApplied { .. } => "config_applied",
            Self::SecretSet { .. } => "secret_set",
            Self::SecretErased { .. } => "secret_erased",
            Self::CapabilityGranted { .. } => "capability_granted",
            Self::CapabilityDelegated { .. } => "capability_delegated",
            Self::CapabilityRevoked { .. } => "capability_revoked",
            Self::BudgetSet { .. } => "budget_set",
            Self::BudgetRemoved { .. } => "budget_removed",
            Self::ApprovalAnswered { .. } => "approval_answered",
            Self::ApprovalRuleSet { .. } => "approval_rule_set",
            Self::ApprovalRuleRemoved { .. } => "approval_rule_removed",
            Self::SessionExported { .. } => "session_exported",
        }
    }

    /// Returns the agent that it concerns, if it concerns one.
    pub const fn agent(&self) -> Option<AgentId> {
        match self {
            Self::AgentCreated { agent, .. }
            | Self::AgentStateSet { agent, .. }
            | Self::ApprovalAnswered { agent, .. } => Some(*agent),
            Self::CapabilityGranted { holder, .. }
            | Self::CapabilityDelegated { holder, .. }
            | Self::CapabilityRevoked { holder, .. } => Some(*holder),
            Self::ApprovalRuleSet { agent, .. } => *agent,
            Self::TenantCreated { .. }
            | Self::TokenCreated { .. }
            | Self::TokenRevoked { .. }
            | Self::StatePut { .. }
            | Self::DeliveryRedriven { .. }
            | Self::ConfigApplied { .. }
            | Self::SecretSet { .. }
            | Self::SecretErased { .. }
            | Self::BudgetSet { .. }
            | Self::BudgetRemoved { .. }
            | Self::ApprovalRuleRemoved { .. }
            | Self::SessionExported { .. } => None,
        }
    }
}

/// A change and whoever made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// Who; the server itself where nobody is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
    /// What.
    #[serde(flatten)]
    pub change: Change,
}

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
#[error("expected a place such as 17.0.3, as a page or an event names it")]
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

/// What to read of a chain. Kind, actor and decision are judged by whoever reads the records off.
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
    /// Where it stands.
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
        act: Act,
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

    /// Returns the place behind which nothing stands yet.
    fn audit_end<'a>(&'a self, scope: &'a Scope) -> Read<'a, AuditCursor>;

    /// Tells how far the chains of tenants go, by tenant.
    fn audit_heads<'a>(&'a self, operator: &'a Operator, page: Page<TenantId>) -> Read<'a, Vec<AuditHead>>;

    /// Returns the last checkpoint that the database remembers.
    fn audit_mark<'a>(&'a self, operator: &'a Operator) -> Read<'a, Option<AuditMark>>;

    /// Has the database remember a checkpoint, after it is durable elsewhere.
    fn audit_marked<'a>(&'a self, operator: &'a Operator, mark: AuditMark) -> Read<'a, ()>;

    /// Seals that the node serves a tenant under a configuration, unless the last one was the same.
    fn audit_config<'a>(
        &'a self,
        operator: &'a Operator,
        tenant: TenantId,
        config: Digest,
        at: Timestamp,
    ) -> Read<'a, ()>;

    /// Seals that whoever has the scope takes a session out as a file. It is durable before the answer, so that no file
    /// leaves without its record; a tenant that is not there has no chain, and nothing is sealed.
    fn audit_exported<'a>(&'a self, scope: &'a Scope, session: SessionId, at: Timestamp) -> Read<'a, ()>;
}

/// The port to the node's key, which signs what proves something outside of the database; and to what takes secrets
/// out of what leaves.
pub trait Notary: Send + Sync + fmt::Debug {
    /// Takes what is or looks like a secret out of a text.
    fn redacted(&self, text: &str) -> String;

    /// Writes the first line of a file of records, which is about `about`, a JSON object; returns the link too.
    fn first_line(&self, about: &str) -> (String, Digest);

    /// Writes the line of one record, a JSON object, after a link; returns its own link too.
    fn line(&self, after: Digest, record: &str) -> (String, Digest);

    /// Writes the last line: how many records there were, and the signature over all of it.
    fn last_line(&self, after: Digest, records: u64) -> String;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Measure, Per, Period};

    #[test]
    fn a_place_survives_its_text_and_no_other_text_is_one() {
        let place = AuditCursor { seal: 17, span: 2, seq: 9 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for bad in ["", "1", "1.2", "1.2.3.4", "a.0.0", "-1.0.0", "+1.0.0", "1..2", "1.5000000000.0"] {
            assert_eq!(bad.parse::<AuditCursor>(), Err(ParseCursorError), "{bad}");
        }
        assert!(AuditCursor::default() < place);
    }

    #[test]
    fn the_kinds_are_all_that_there_are() {
        let refused = serde_json::from_str::<Change>(r#"{"kind":"?"}"#).expect_err("there is no such kind");
        let told = refused.to_string();
        let known: Vec<_> = told.split('`').skip(3).step_by(2).collect();
        assert_eq!(known, Change::KINDS, "{told}");
    }

    #[test]
    fn an_act_says_its_kind_and_is_read_back() {
        let token = TokenId::from_bytes([7; 16]);
        let (capability, holder) = (CapabilityId::from_bytes([8; 16]), AgentId::from_bytes([9; 16]));
        let rights = vec!["tool:exec".to_owned()];
        let budget = Budget {
            name: "b".to_owned(),
            per: Per::Tenant,
            of: None,
            measure: Measure::Money,
            period: Period::Day,
            limit: (1 << 53) + 1,
            declared: false,
        };
        let rule_set = |agent| {
            let (name, answer, rule) = ("r".to_owned(), RuleAnswer::Deny, Digest::default());
            Change::ApprovalRuleSet { name, answer, agent, rule }
        };
        let by = Some(Actor::new("cli:0"));
        for (act, text) in [
            (
                Act { by: by.clone(), change: Change::TokenRevoked { token } },
                format!(r#"{{"by":"cli:0","kind":"token_revoked","token":"{token}"}}"#),
            ),
            (
                Act { by: None, change: Change::ConfigApplied { config: Digest::default() } },
                format!(r#"{{"kind":"config_applied","config":"{}"}}"#, Digest::default()),
            ),
            (
                Act {
                    by: by.clone(),
                    change: Change::CapabilityDelegated { capability, from: capability, holder, rights },
                },
                format!(
                    r#"{{"by":"cli:0","kind":"capability_delegated","capability":"{capability}","from":"{capability}","holder":"{holder}","rights":["tool:exec"]}}"#
                ),
            ),
            (
                Act { by: by.clone(), change: Change::BudgetSet { budget } },
                r#"{"by":"cli:0","kind":"budget_set","budget":{"name":"b","per":"tenant","measure":"money","period":"day","limit":9007199254740993}}"#
                    .to_owned(),
            ),
            (
                Act { by: by.clone(), change: rule_set(None) },
                format!(
                    r#"{{"by":"cli:0","kind":"approval_rule_set","name":"r","answer":"deny","rule":"{}"}}"#,
                    Digest::default()
                ),
            ),
            (
                Act { by, change: rule_set(Some(holder)) },
                format!(
                    r#"{{"by":"cli:0","kind":"approval_rule_set","name":"r","answer":"deny","agent":"{holder}","rule":"{}"}}"#,
                    Digest::default()
                ),
            ),
        ] {
            assert_eq!(serde_json::to_string(&act).expect("serializes"), text);
            assert_eq!(serde_json::from_str::<Act>(&text).expect("is read"), act);
            assert!(text.contains(act.change.kind()));
        }
    }
}
