//! What is written about who acts and what bounds them: tenants, credentials, agents, approvals, secrets, budgets,
//! capabilities and the labels of files.
//!
//! No turn is needed for any of it. No secret and no token is here in the clear: a secret is sealed and of a token only
//! its hash is written.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::answer::CommitRefusal;
use super::turn::TextPin;
use crate::agent::{AgentConfig, AgentState, HandleSlug};
use crate::approval::{AnswerRecord, ApprovalState};
use crate::budget::BudgetDefinition;
use crate::digest::Digest;
use crate::file::FileLabels;
use crate::id::{AgentId, ApprovalId, CapabilityId, SessionId, TokenId};
use crate::retention::SessionHold;
use crate::revision::RevisionKey;
use crate::token::TokenScopes;

/// Registers a tenant.
#[derive(Clone, PartialEq, Eq)]
pub struct TenantCreate {
    /// Its handle, unique on the node.
    pub handle: HandleSlug,
    /// When.
    pub at: Timestamp,
    /// The key under which the tenant's bodies are hashed, so that equal bodies of two tenants differ.
    pub body_key: [u8; 32],
}

impl fmt::Debug for TenantCreate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantCreate")
            .field("handle", &self.handle)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// Registers a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenCreate {
    /// Its id.
    pub token: TokenId,
    /// BLAKE3 of the token, unique on the node; the token itself is never stored.
    pub hash: Digest,
    /// What it is called; becomes the actor `token:NAME`.
    pub name: String,
    /// What it may do.
    pub scopes: TokenScopes,
    /// From when on it is refused, if ever.
    pub expires_at: Option<Timestamp>,
    /// When.
    pub at: Timestamp,
}

/// Erases a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionErase {
    /// The session.
    pub session: SessionId,
    /// The time since which it must have rested, if it goes because it did.
    pub idle_before: Option<Timestamp>,
    /// When.
    pub at: Timestamp,
}

/// Sets a session on hold, or ends its hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionHoldSet {
    /// The session.
    pub session: SessionId,
    /// The hold; without one, that which is there ends.
    pub hold: Option<SessionHold>,
}

/// Takes a credential back, for good. Revoking one that is revoked changes nothing, not even the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenRevoke {
    /// The token, of the batch's tenant.
    pub token: TokenId,
    /// When.
    pub at: Timestamp,
}

/// Registers an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCreate {
    /// Its id.
    pub agent: AgentId,
    /// Its handle, unique in its tenant.
    pub handle: HandleSlug,
    /// The name that people see.
    pub display_name: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// When.
    pub at: Timestamp,
    /// BLAKE3 of `config` as JSON.
    pub revision: Digest,
    /// Its first configuration.
    pub config: AgentConfig,
}

/// Changes what an agent may do. Refused with [`CommitRefusal::AgentState`](super::CommitRefusal::AgentState) unless it
/// is in `from`. With the end of an agent goes what was approved for runs of their own and has not begun
/// ([`ApprovalRequest::give_up`](crate::approval::ApprovalRequest::give_up)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentStateSet {
    /// The agent.
    pub agent: AgentId,
    /// The states from which the change is allowed; `to` itself is always allowed and changes nothing.
    pub from: Vec<AgentState>,
    /// The new state.
    pub to: AgentState,
}

/// Gives an agent another revision. Refused with [`CommitRefusal::AgentRevision`](super::CommitRefusal::AgentRevision)
/// unless `after` is the current one, with [`CommitRefusal::AgentState`](super::CommitRefusal::AgentState) if the agent
/// has ended, and with [`CommitRefusal::RevisionKey`](super::CommitRefusal::RevisionKey) if another change used the key.
/// A change whose key made a revision already changes nothing, and so does one to what the agent is.
///
/// Beyond the newest [`REVISIONS_KEPT`](crate::revision::REVISIONS_KEPT), a few of the oldest that no run began with go
/// with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRevise {
    /// The agent.
    pub agent: AgentId,
    /// The number of the revision that this one follows.
    pub after: u64,
    /// The name that people see from now on.
    pub display_name: String,
    /// Its labels from now on.
    pub labels: BTreeMap<String, String>,
    /// When.
    pub at: Timestamp,
    /// BLAKE3 of `config` as JSON.
    pub revision: Digest,
    /// Its configuration from now on.
    pub config: AgentConfig,
    /// The text of the document that it adds, if it adds one.
    pub document: Option<TextPin>,
    /// The caller's key.
    pub key: Option<RevisionKey>,
}

/// Gives an agent another handle; its old one is free in the same commit. Refused with
/// [`CommitRefusal::HandleTaken`](super::CommitRefusal::HandleTaken) if another agent has it, and with
/// [`CommitRefusal::AgentState`](super::CommitRefusal::AgentState) if the agent has ended. The handle that it has
/// changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRename {
    /// The agent.
    pub agent: AgentId,
    /// Its handle from now on.
    pub handle: HandleSlug,
}

/// Answers an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalAnswer {
    /// The approval.
    pub approval: ApprovalId,
    /// How the caller found it: holding or waiting.
    pub from: ApprovalState,
    /// Whether the call may begin.
    pub approved: bool,
    /// Who answers, and when. An approval that has expired by then takes no answer.
    pub answered: AnswerRecord,
}

/// Removes a rule of approvals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRuleRemove {
    /// Its name.
    pub name: String,
}

/// The key under which the keys of a tenant's secrets are sealed, itself sealed with the instance's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultKeyPut {
    /// The sealed key. One that is there stays, unless it is the one to be replaced.
    pub key: Bytes,
    /// The sealed key that gives way to this one, where it opens no more; refused where another one is there.
    pub replaces: Option<Bytes>,
}

/// Erases a secret. Refused with [`CommitRefusal::SecretVersion`](super::CommitRefusal::SecretVersion) where another
/// version is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretErase {
    /// Its name.
    pub name: String,
    /// The version that is erased.
    pub version: u32,
}

/// Sets a budget. Refused if the tenant has [`crate::budget::BUDGETS_MAX`] others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetSet {
    /// The budget.
    pub budget: BudgetDefinition,
}

/// Removes a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetRemove {
    /// Its name.
    pub name: String,
}

/// Takes a capability back; one that was taken back before stays as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapabilityRevoke {
    /// Which.
    pub capability: CapabilityId,
    /// When.
    pub at: Timestamp,
}

/// Claims the key of a client's change, or says with the claim what the change gave. A batch says one thing of a key.
///
/// The rows of a tenant are bounded: beyond the newest [`AnswerPut::KEPT_MAX`] and after a day they go with the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerPut {
    /// The digest of the caller and its key.
    pub key: Digest,
    /// The digest of the request.
    pub request: Digest,
    /// Who claims the key: a number of this request alone.
    pub claim: u128,
    /// Since when.
    pub at: Timestamp,
    /// What it gave, in the words of the gateway; absent while that is not known. An empty one gives the key back.
    pub answer: Option<Bytes>,
}

impl AnswerPut {
    /// How many are kept of a tenant.
    pub const KEPT_MAX: usize = 1_024;
    /// How long one is kept.
    pub const KEPT: SignedDuration = SignedDuration::from_hours(24);
    /// The answer of a change that was carried out, where what it gave is not kept.
    pub const NOT_KEPT: &[u8] = b"-";

    /// Returns whether it is written in the place of what is there for its key. Refused with
    /// [`CommitRefusal::AnswerClaimed`] while the key belongs to another claim.
    pub fn replaces(&self, known: Option<&Self>) -> Result<bool, CommitRefusal> {
        match known {
            Some(known) if known.claim == self.claim => Ok(known.answer.is_none() && self.answer.is_some()),
            Some(known)
                if known.answer.as_ref().is_none_or(|answer| !answer.is_empty())
                    && self.at.duration_since(known.at) < Self::KEPT =>
            {
                Err(CommitRefusal::AnswerClaimed)
            }
            Some(_) | None => Ok(true),
        }
    }
}

/// Lets go of a capability's row; one that is not there is let go of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapabilityDrop {
    /// Which.
    pub capability: CapabilityId,
}

/// Says what files of an agent's workspace hold. What is said of a file takes the place of what was known of it; a file
/// that is gone is not known any more; what counts for every file of which nothing is known is joined and never goes
/// down. Of files beyond [`crate::file::FILE_LABELS_MAX`] nothing is kept but that. Refused where the agent is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLabelsPut {
    /// The agent.
    pub agent: AgentId,
    /// What is said.
    pub said: FileLabels,
}
