//! Tokens: registered once, revoked for good.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use dromia_contracts::audit::AuditChange;
use dromia_contracts::store::{CommitRefusal, TokenCreate, TokenRevoke};

use super::audit::ActList;
use super::{Checked, TableDraft, TenantDb};
use crate::column_codes;

/// A token that the batch registers.
#[derive(Debug)]
struct TokenDraft<'b> {
    create: &'b TokenCreate,
    /// When the same batch takes it back.
    revoked_at: Option<Timestamp>,
}

/// What the batch does to tokens.
#[derive(Debug, Default)]
pub(super) struct TokenDrafts<'b> {
    created: Vec<TokenDraft<'b>>,
    /// Of tokens of earlier batches that are not revoked yet.
    revokes: Vec<&'b TokenRevoke>,
}

impl<'b> TokenDrafts<'b> {
    pub(super) fn create_token(&mut self, db: TenantDb<'_>, create: &'b TokenCreate) -> Checked {
        // Said alike for a token of another tenant: what is there is not for this tenant to know.
        let in_use = || Err(CommitRefusal::Malformed("the token is in use".into()).into());
        let clashes = |known: &TokenCreate| known.hash == create.hash || known.token == create.token;
        if let Some(draft) = self.created.iter().find(|draft| clashes(draft.create)) {
            return if draft.create == create { Ok(()) } else { in_use() };
        }
        let mut select = db.prepare_cached(
            "SELECT tenant, token, hash, name, scopes, expires_at, at FROM tokens \
             WHERE hash = ?1 OR (tenant = ?2 AND token = ?3)",
        )?;
        let keys = params![create.hash.as_bytes(), db.tenant.as_bytes(), create.token.as_bytes()];
        let found = select.query_map(keys, |row| {
            let same = column_codes::read_bytes::<16>(row, 0)? == *db.tenant.as_bytes()
                && column_codes::read_bytes::<16>(row, 1)? == *create.token.as_bytes()
                && column_codes::read_digest(row, 2)? == create.hash
                && row.get::<_, String>(3)? == create.name
                && column_codes::read_scopes(row, 4)? == create.scopes
                && row.get::<_, Option<i64>>(5)? == create.expires_at.map(Timestamp::as_millisecond)
                && row.get::<_, i64>(6)? == create.at.as_millisecond();
            Ok(same)
        })?;
        let found: Vec<bool> = found.collect::<Result<_, _>>()?;
        match found.as_slice() {
            [] => {
                self.created.push(TokenDraft { create, revoked_at: None });
                Ok(())
            }
            // It may have been revoked since; everything else never changes.
            [true] => Ok(()),
            _ => in_use(),
        }
    }

    pub(super) fn revoke_token(&mut self, db: TenantDb<'_>, revoke: &'b TokenRevoke) -> Checked {
        if let Some(draft) = self.created.iter_mut().find(|draft| draft.create.token == revoke.token) {
            draft.revoked_at.get_or_insert(revoke.at);
            return Ok(());
        }
        if self.revokes.iter().any(|known| known.token == revoke.token) {
            return Ok(());
        }
        let revoked_at: Option<Option<i64>> = db
            .prepare_cached("SELECT revoked_at FROM tokens WHERE tenant = ?1 AND token = ?2")?
            .query_row(params![db.tenant.as_bytes(), revoke.token.as_bytes()], |row| row.get(0))
            .optional()?;
        match revoked_at {
            None => Err(CommitRefusal::NotFound(revoke.token.to_string()).into()),
            Some(Some(_)) => Ok(()),
            Some(None) => {
                self.revokes.push(revoke);
                Ok(())
            }
        }
    }
}

impl TableDraft for TokenDrafts<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        for TokenDraft { create, revoked_at } in &self.created {
            db.prepare_cached(
                "INSERT INTO tokens (hash, tenant, token, name, scopes, at, expires_at, revoked_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                create.hash.as_bytes(),
                db.tenant.as_bytes(),
                create.token.as_bytes(),
                create.name,
                column_codes::stored_scopes(create.scopes),
                create.at.as_millisecond(),
                create.expires_at.map(Timestamp::as_millisecond),
                revoked_at.map(Timestamp::as_millisecond),
            ])?;
        }
        for revoke in &self.revokes {
            db.prepare_cached("UPDATE tokens SET revoked_at = ?3 WHERE tenant = ?1 AND token = ?2")?
                .execute(params![
                    db.tenant.as_bytes(),
                    revoke.token.as_bytes(),
                    revoke.at.as_millisecond()
                ])?;
        }
        Ok(())
    }

    fn note_acts(&self, acts: &mut ActList<'_>) {
        for draft in &self.created {
            let TokenCreate { token, hash, name, scopes, expires_at, at } = draft.create;
            let change = AuditChange::TokenCreated {
                token: *token,
                name: name.clone(),
                scopes: *scopes,
                hash: *hash,
                expires_at: *expires_at,
            };
            acts.note_change(*at, change);
            if let Some(at) = draft.revoked_at {
                acts.note_change(at, AuditChange::TokenRevoked { token: *token });
            }
        }
        for revoke in &self.revokes {
            acts.note_change(revoke.at, AuditChange::TokenRevoked { token: revoke.token });
        }
    }
}
