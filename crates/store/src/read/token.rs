//! Tokens. They belong to the tenant, so a view of one agent finds none.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use dromia_contracts::digest::Digest;
use dromia_contracts::id::TokenId;
use dromia_contracts::store::{PageRequest, TokenOwner};
use dromia_contracts::token::TokenRecord;

use super::{FIRST, Found, ScopeView, page_limit, tenant};
use crate::column_codes;

const COLUMNS: &str = "token, name, scopes, at, expires_at, revoked_at";

/// Reads `COLUMNS`, beginning at a column.
fn read_token(row: &Row<'_>, from: usize) -> rusqlite::Result<TokenRecord> {
    Ok(TokenRecord {
        id: TokenId::from_bytes(column_codes::read_bytes(row, from)?),
        name: row.get(from + 1)?,
        scopes: column_codes::read_scopes(row, from + 2)?,
        created_at: column_codes::read_time(row, from + 3)?,
        expires_at: column_codes::time_opt(row, from + 4)?,
        revoked_at: column_codes::time_opt(row, from + 5)?,
    })
}

pub(crate) fn find_token_owner(db: &Connection, hash: Digest) -> Found<Option<TokenOwner>> {
    let mut select = db.prepare_cached(
        "SELECT t.tenant, t.handle, t.at, t.suspended_at, k.token, k.name, k.scopes, k.at, k.expires_at, k.revoked_at \
         FROM tokens k JOIN tenants t ON t.tenant = k.tenant WHERE k.hash = ?1 AND t.erased_at IS NULL",
    )?;
    let owner = select.query_row([hash.as_bytes()], |row| {
        Ok(TokenOwner { tenant: tenant::read_tenant(row)?, token: read_token(row, 4)? })
    });
    Ok(owner.optional()?)
}

pub(crate) fn by_id(db: &Connection, view: ScopeView, token: TokenId) -> Found<Option<TokenRecord>> {
    if view.only.is_some() {
        return Ok(None);
    }
    let mut select =
        db.prepare_cached(&format!("SELECT {COLUMNS} FROM tokens WHERE tenant = ?1 AND token = ?2"))?;
    let keys = params![view.tenant.as_bytes(), token.as_bytes()];
    Ok(select.query_row(keys, |row| read_token(row, 0)).optional()?)
}

pub(crate) fn list_tokens(
    db: &Connection,
    view: ScopeView,
    name: Option<&str>,
    page: PageRequest<TokenId>,
) -> Found<Vec<TokenRecord>> {
    if view.only.is_some() {
        return Ok(Vec::new());
    }
    let named = if name.is_some() { "AND name = ?4" } else { "" };
    let mut select = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM tokens WHERE tenant = ?1 AND token > ?2 {named} ORDER BY token LIMIT ?3"
    ))?;
    let after = page.after.as_ref().map_or(&FIRST[..], |id| &id.as_bytes()[..]);
    let (tenant, limit) = (view.tenant.as_bytes(), page_limit(&page));
    let row = |row: &Row<'_>| read_token(row, 0);
    let tokens = match name {
        None => select.query_map(params![tenant, after, limit], row)?.collect::<Result<_, _>>()?,
        Some(name) => {
            select.query_map(params![tenant, after, limit, name], row)?.collect::<Result<_, _>>()?
        }
    };
    Ok(tokens)
}
