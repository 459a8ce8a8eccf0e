//! Tokens of the reference store.

use std::collections::BTreeMap;

use dromia_contracts::store::{CommitRefusal, PageRequest, TokenRevoke};
use dromia_contracts::token::TokenRecord;
use dromia_contracts::{Digest, Scope, TokenId};

use super::page::page_rows;

/// A credential by its id, and the hash by which it is found.
#[derive(Debug, Clone)]
pub(super) struct TokenRow {
    pub(super) hash: Digest,
    pub(super) token: TokenRecord,
}

/// The tenant's tokens.
#[derive(Debug, Clone, Default)]
pub(super) struct TokenRows {
    pub(super) rows: BTreeMap<TokenId, TokenRow>,
}

impl TokenRows {
    pub(in crate::reference) fn revoke_token(&mut self, revoke: &TokenRevoke) -> Result<(), CommitRefusal> {
        let row = self.rows.get_mut(&revoke.token);
        let row = row.ok_or_else(|| CommitRefusal::NotFound(revoke.token.to_string()))?;
        row.token.revoked_at.get_or_insert(revoke.at);
        Ok(())
    }

    pub(in crate::reference) fn list_tokens(
        &self,
        scope: &Scope,
        name: Option<&str>,
        asked: PageRequest<TokenId>,
    ) -> Vec<TokenRecord> {
        let tokens = self.rows.values().map(|row| row.token.clone());
        let named = tokens.filter(|token| name.is_none_or(|name| token.name == name));
        let seen = named.filter(|_| scope.agent().is_none());
        page_rows(seen.map(|token| (token.id, token)), asked, false)
    }
}
