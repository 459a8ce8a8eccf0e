//! Acts: what people, and the server itself, change or take out.
//!
//! An act is recorded here, never carried out, and says nothing that is secret or part of a conversation.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::agent::{AgentState, HandleSlug};
use crate::approval::RuleAnswer;
use crate::budget::BudgetDefinition;
use crate::digest::Digest;
use crate::id::{AgentId, ApprovalId, CapabilityId, DeliveryId, SessionId, TokenId};
use crate::retention::SessionSeal;
use crate::revision::AgentField;
use crate::scope::Actor;
use crate::token::TokenScopes;

/// What an actor changed or took out, beside the journals. Stored as JSON under `kind`; a kind is never given another
/// meaning, and a program shows one that it does not know by its seal only. What is secret or was said is no part of one:
/// a chain is never erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AuditChange {
    /// A tenant was registered.
    TenantCreated {
        /// Its handle.
        handle: HandleSlug,
    },
    /// A tenant was suspended, or goes on.
    TenantSuspensionSet {
        /// Whether it is suspended since then.
        suspended: bool,
    },
    /// The tenant is erased: this record is all that stays of it.
    TenantDeleted,
    /// A credential was registered.
    TokenCreated {
        /// Its id.
        token: TokenId,
        /// What it is called.
        name: String,
        /// What it may do.
        scopes: TokenScopes,
        /// BLAKE3 of its text, which finds it and cannot be guessed.
        hash: Digest,
        /// When it ends, if it ends by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
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
        handle: HandleSlug,
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
    /// An agent was given another revision.
    AgentRevised {
        /// The agent.
        agent: AgentId,
        /// The number of the revision.
        number: u64,
        /// Its configuration.
        revision: Digest,
        /// The fields that it changed.
        changed: Vec<AgentField>,
        /// What it grants and the one before did not.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        granted: Vec<String>,
        /// What the one before granted and it does not.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        taken: Vec<String>,
    },
    /// An agent was given another handle.
    AgentRenamed {
        /// The agent.
        agent: AgentId,
        /// The handle since then.
        handle: HandleSlug,
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
    /// A capability was taken back, or given up before it had ended by itself.
    CapabilityRevoked {
        /// Its id.
        capability: CapabilityId,
        /// Who held it.
        holder: AgentId,
    },
    /// A budget was set, as a new one or in place of the one of its name.
    BudgetSet {
        /// The budget.
        budget: BudgetDefinition,
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
    /// A rule of approvals was set, as a new one or in place of the one of its name.
    ApprovalRuleSet {
        /// Its name.
        name: String,
        /// What it answers.
        answer: RuleAnswer,
        /// The one agent that it is for, if it is for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentId>,
        /// The one session that it is for, if it is for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<SessionId>,
        /// From when on it answers nothing.
        expires_at: Timestamp,
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
    /// A person put a file into the workspace of an agent.
    FilePut {
        /// The agent.
        agent: AgentId,
        /// The path in the workspace.
        path: String,
        /// BLAKE3 of what it holds.
        content: Digest,
    },
    /// A picture was fetched for a request to an agent, or was to be.
    PictureFetched {
        /// The agent whose grants counted.
        agent: AgentId,
        /// The last host that was asked for it.
        host: String,
        /// The rule that let it out there, or refused it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
        /// BLAKE3 of its bytes, if it came.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<Digest>,
    },
    /// A session was read from a file, and its labels were taken at their word.
    SessionTrusted {
        /// The new session.
        session: SessionId,
        /// Its agent.
        agent: AgentId,
    },
    /// A session was erased, by a person or because it rested for so long: this seal is all that stays of it.
    SessionErased {
        /// The session.
        session: SessionId,
        /// Its agent.
        agent: AgentId,
        /// The session whose child it was and with which it went.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        with: Option<SessionId>,
        /// The time since which it had rested, where that is why it went.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idle_before: Option<Timestamp>,
        /// What stays of it.
        seal: SessionSeal,
    },
    /// A session was set on hold, or its hold ended.
    SessionHoldSet {
        /// The session.
        session: SessionId,
        /// Its agent.
        agent: AgentId,
        /// Whether it is on hold since then.
        held: bool,
    },
    /// The key of a tenant's secrets, which could not be opened any more, gave way to another one.
    VaultKeyReplaced,
}

impl AuditChange {
    /// Every kind, as it is written.
    pub const KINDS: [&'static str; 29] = [
        "tenant_created",
        "tenant_suspension_set",
        "tenant_deleted",
        "token_created",
        "token_revoked",
        "agent_created",
        "agent_state_set",
        "agent_revised",
        "agent_renamed",
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
        "file_put",
        "picture_fetched",
        "session_trusted",
        "session_erased",
        "session_hold_set",
        "vault_key_replaced",
    ];

    /// Returns the kind as it is written.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::TenantCreated { .. } => "tenant_created",
            Self::TenantSuspensionSet { .. } => "tenant_suspension_set",
            Self::TenantDeleted => "tenant_deleted",
            Self::TokenCreated { .. } => "token_created",
            Self::TokenRevoked { .. } => "token_revoked",
            Self::AgentCreated { .. } => "agent_created",
            Self::AgentStateSet { .. } => "agent_state_set",
            Self::AgentRevised { .. } => "agent_revised",
            Self::AgentRenamed { .. } => "agent_renamed",
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
            Self::FilePut { .. } => "file_put",
            Self::PictureFetched { .. } => "picture_fetched",
            Self::SessionTrusted { .. } => "session_trusted",
            Self::SessionErased { .. } => "session_erased",
            Self::SessionHoldSet { .. } => "session_hold_set",
            Self::VaultKeyReplaced => "vault_key_replaced",
        }
    }

    /// Returns the agent that it concerns, if it concerns one.
    pub const fn concerned_agent(&self) -> Option<AgentId> {
        match self {
            Self::AgentCreated { agent, .. }
            | Self::AgentStateSet { agent, .. }
            | Self::AgentRevised { agent, .. }
            | Self::AgentRenamed { agent, .. }
            | Self::ApprovalAnswered { agent, .. }
            | Self::FilePut { agent, .. }
            | Self::PictureFetched { agent, .. }
            | Self::SessionTrusted { agent, .. }
            | Self::SessionErased { agent, .. }
            | Self::SessionHoldSet { agent, .. } => Some(*agent),
            Self::CapabilityGranted { holder, .. }
            | Self::CapabilityDelegated { holder, .. }
            | Self::CapabilityRevoked { holder, .. } => Some(*holder),
            Self::ApprovalRuleSet { agent, .. } => *agent,
            Self::TenantCreated { .. }
            | Self::TenantSuspensionSet { .. }
            | Self::TenantDeleted
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
            | Self::SessionExported { .. }
            | Self::VaultKeyReplaced => None,
        }
    }
}

/// A change and its actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditAct {
    /// Who; the server itself where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
    /// What.
    #[serde(flatten)]
    pub change: AuditChange,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{BudgetMeasure, BudgetPeriod, BudgetScope};

    #[test]
    fn the_kinds_are_all_that_there_are() {
        let refused =
            serde_json::from_str::<AuditChange>(r#"{"kind":"?"}"#).expect_err("there is no such kind");
        let told = refused.to_string();
        let known: Vec<_> = told.split('`').skip(3).step_by(2).collect();
        assert_eq!(known, AuditChange::KINDS, "{told}");
    }

    #[test]
    fn an_act_says_its_kind_and_is_read_back() {
        let token = TokenId::from_bytes([7; 16]);
        let (capability, holder) = (CapabilityId::from_bytes([8; 16]), AgentId::from_bytes([9; 16]));
        let rights = vec!["tool:exec".to_owned()];
        let budget = BudgetDefinition {
            name: "b".to_owned(),
            per: BudgetScope::Tenant,
            of: None,
            measure: BudgetMeasure::Money,
            period: BudgetPeriod::Day,
            limit: (1 << 53) + 1,
            declared: false,
        };
        let expires_at: Timestamp = "2026-11-22T12:00:00Z".parse().expect("a time");
        let rule_set = |agent| {
            let (name, answer, rule) = ("r".to_owned(), RuleAnswer::Deny, Digest::default());
            AuditChange::ApprovalRuleSet { name, answer, agent, session: None, expires_at, rule }
        };
        let (name, scopes, hash) = ("t".to_owned(), TokenScopes::default(), Digest::default());
        let created = AuditChange::TokenCreated { token, name, scopes, hash, expires_at: Some(expires_at) };
        let by = Some(Actor::new("cli:0"));
        for (act, text) in [
            (
                AuditAct { by: by.clone(), change: AuditChange::TokenRevoked { token } },
                format!(r#"{{"by":"cli:0","kind":"token_revoked","token":"{token}"}}"#),
            ),
            (
                AuditAct { by: None, change: created },
                format!(
                    r#"{{"kind":"token_created","token":"{token}","name":"t","scopes":[],"hash":"{}","expires_at":"2026-11-22T12:00:00Z"}}"#,
                    Digest::default()
                ),
            ),
            (
                AuditAct { by: None, change: AuditChange::ConfigApplied { config: Digest::default() } },
                format!(r#"{{"kind":"config_applied","config":"{}"}}"#, Digest::default()),
            ),
            (
                AuditAct {
                    by: by.clone(),
                    change: AuditChange::CapabilityDelegated { capability, from: capability, holder, rights },
                },
                format!(
                    r#"{{"by":"cli:0","kind":"capability_delegated","capability":"{capability}","from":"{capability}","holder":"{holder}","rights":["tool:exec"]}}"#
                ),
            ),
            (
                AuditAct { by: by.clone(), change: AuditChange::BudgetSet { budget } },
                r#"{"by":"cli:0","kind":"budget_set","budget":{"name":"b","per":"tenant","measure":"money","period":"day","limit":9007199254740993}}"#
                    .to_owned(),
            ),
            (
                AuditAct { by: by.clone(), change: rule_set(None) },
                format!(
                    r#"{{"by":"cli:0","kind":"approval_rule_set","name":"r","answer":"deny","expires_at":"2026-11-22T12:00:00Z","rule":"{}"}}"#,
                    Digest::default()
                ),
            ),
            (
                AuditAct { by, change: rule_set(Some(holder)) },
                format!(
                    r#"{{"by":"cli:0","kind":"approval_rule_set","name":"r","answer":"deny","agent":"{holder}","expires_at":"2026-11-22T12:00:00Z","rule":"{}"}}"#,
                    Digest::default()
                ),
            ),
        ] {
            assert_eq!(serde_json::to_string(&act).expect("serializes"), text);
            assert_eq!(serde_json::from_str::<AuditAct>(&text).expect("is read"), act);
            assert!(text.contains(act.change.kind()));
        }
    }
}
