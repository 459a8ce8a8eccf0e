//! Credentials of a tenant: drawn here, stored as hashes, taken back.
//!
//! Who may ask for them is the gateway's matter; what a record must look like is decided here, for every caller.

use dromia_contracts::runs::NewToken;
use dromia_contracts::store::{Batch, Commit, Mutation, Refusal, TokenCreate, TokenRevoke};
use dromia_contracts::token::{NAME_RULE, Token, is_name};
use dromia_contracts::{Digest, ErrorCode, Fault, Scope, TokenId};

use crate::agents::read_fault;
use crate::core::Core;
use crate::refusal::commit_fault;

impl Core {
    /// Registers another credential of a tenant and returns it with its record.
    pub(crate) async fn token_create(&self, scope: &Scope, new: NewToken) -> Result<(Token, String), Fault> {
        let invalid = |text: String| Err(Fault::new(ErrorCode::InvalidRequest, text));
        if !is_name(&new.name) {
            return invalid(format!("name: a token's name is {NAME_RULE}"));
        }
        if new.scopes.is_empty() {
            return invalid("scopes: a token needs at least one scope".to_owned());
        }
        let (secret, create) = self.new_token(new);
        let token = Token {
            id: create.token,
            name: create.name.clone(),
            scopes: create.scopes,
            created_at: create.at,
            expires_at: create.expires_at,
            revoked_at: None,
        };
        let batch = Batch::new(scope.tenant()).wanted_by(scope.actor(), create.at);
        let batch = batch.with(Mutation::TokenCreate(create));
        match self.ports.store.commit(batch).await {
            Commit::Done(_) => Ok((token, secret)),
            // If it is there, nobody knows it: what was drawn here is gone with this answer.
            answer @ Commit::Unknown { .. } => Err(commit_fault(answer).with_hint(
                "make another one; if `dromia token list` shows this one, take it back with `dromia token revoke`",
            )),
            answer @ Commit::Refused(_) => Err(commit_fault(answer)),
        }
    }

    /// Takes a credential back.
    pub(crate) async fn token_revoke(&self, scope: &Scope, id: TokenId) -> Result<Token, Fault> {
        let revoke = TokenRevoke { token: id, at: self.ports.runtime.clock.now() };
        let batch = Batch::new(scope.tenant()).wanted_by(scope.actor(), revoke.at);
        let batch = batch.with(Mutation::TokenRevoke(revoke));
        match self.ports.store.commit(batch).await {
            Commit::Done(_) => {}
            Commit::Refused(Refusal::NotFound(_)) => return Err(token_not_found()),
            answer @ Commit::Unknown { .. } => {
                let hint = "revoke it again; that changes nothing if it is revoked";
                return Err(commit_fault(answer).with_hint(hint));
            }
            answer @ Commit::Refused(_) => return Err(commit_fault(answer)),
        }
        let token = self.ports.store.token_by_id(scope, id).await.map_err(read_fault)?;
        token.ok_or_else(token_not_found)
    }

    /// Draws a token. Only its hash is ever stored.
    pub(crate) fn new_token(&self, new: NewToken) -> (String, TokenCreate) {
        let runtime = &self.ports.runtime;
        let secret = format!("drm_{}", Digest::from_bytes(runtime.ids.secret()));
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
    Fault::new(ErrorCode::TokenNotFound, "no such token")
}
