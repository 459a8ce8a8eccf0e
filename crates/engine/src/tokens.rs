//! Credentials of a tenant: generated here, stored as hashes, revoked.
//!
//! Who may ask for them is the gateway's matter; what a record must look like is decided here, for every caller.

use dromia_contracts::runs::NewToken;
use dromia_contracts::store::{CommitOutcome, CommitRefusal, Mutation, TokenCreate, TokenRevoke, WriteBatch};
use dromia_contracts::token::{NAME_RULE, TokenRecord, is_name};
use dromia_contracts::{Digest, ErrorCode, Fault, Scope, TokenId};

use crate::agents::read_fault;
use crate::ports::EnginePorts;
use crate::refusal::commit_fault;

/// Issues and revokes the credentials of a tenant.
pub(crate) struct TokenIssuer<'a> {
    ports: &'a EnginePorts,
}

impl<'a> TokenIssuer<'a> {
    /// Begins with the engine's ports.
    pub(crate) fn new(ports: &'a EnginePorts) -> Self {
        Self { ports }
    }

    /// Registers another credential of a tenant and returns it with its record.
    pub(crate) async fn token_create(
        &self,
        scope: &Scope,
        new: NewToken,
    ) -> Result<(TokenRecord, String), Fault> {
        let invalid = |text: String| Err(Fault::new(ErrorCode::InvalidRequest, text));
        if !is_name(&new.name) {
            return invalid(format!("name: a token's name is {NAME_RULE}"));
        }
        if new.scopes.is_empty() {
            return invalid("scopes: a token needs at least one scope".to_owned());
        }
        let (secret, create) = self.new_token(new);
        let token = TokenRecord {
            id: create.token,
            name: create.name.clone(),
            scopes: create.scopes,
            created_at: create.at,
            expires_at: create.expires_at,
            revoked_at: None,
        };
        let batch = WriteBatch::new(scope.tenant()).wanted_by(scope.actor(), create.at);
        let batch = batch.with_mutation(Mutation::TokenCreate(create));
        match self.ports.store.commit(batch).await {
            CommitOutcome::Done(_) => Ok((token, secret)),
            // If it is there, its secret is unknown: the secret is dropped with this answer.
            answer @ CommitOutcome::Unknown { .. } => Err(commit_fault(answer).with_hint(
                "create another token; if `dromia token list` shows this one, revoke it with `dromia token \
                 revoke`",
            )),
            answer @ CommitOutcome::Refused(_) => Err(commit_fault(answer)),
        }
    }

    /// Revokes a credential.
    pub(crate) async fn token_revoke(&self, scope: &Scope, id: TokenId) -> Result<TokenRecord, Fault> {
        let revoke = TokenRevoke { token: id, at: self.ports.runtime.clock.now() };
        let batch = WriteBatch::new(scope.tenant()).wanted_by(scope.actor(), revoke.at);
        let batch = batch.with_mutation(Mutation::TokenRevoke(revoke));
        match self.ports.store.commit(batch).await {
            CommitOutcome::Done(_) => {}
            CommitOutcome::Refused(CommitRefusal::NotFound(_)) => return Err(token_not_found()),
            answer @ CommitOutcome::Unknown { .. } => {
                let hint = "revoke it again; that has no effect if it is revoked already";
                return Err(commit_fault(answer).with_hint(hint));
            }
            answer @ CommitOutcome::Refused(_) => return Err(commit_fault(answer)),
        }
        let token = self.ports.store.token_by_id(scope, id).await.map_err(read_fault)?;
        token.ok_or_else(token_not_found)
    }

    /// Draws a token. Only its hash is ever stored.
    pub(crate) fn new_token(&self, new: NewToken) -> (String, TokenCreate) {
        let runtime = &self.ports.runtime;
        let secret = format!("drm_{}", Digest::from_bytes(runtime.ids.random_secret()));
        let create = TokenCreate {
            token: runtime.token_id(),
            hash: Digest::from_bytes(*blake3::hash(secret.as_bytes()).as_bytes()),
            name: new.name,
            scopes: new.scopes,
            expires_at: new.expires_at,
            at: runtime.clock.now(),
        };
        (secret, create)
    }
}

fn token_not_found() -> Fault {
    Fault::new(ErrorCode::TokenNotFound, "there is no such token")
}
