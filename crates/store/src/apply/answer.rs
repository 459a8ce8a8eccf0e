//! Answers to changes that clients sent under a key: claimed before the change, kept after it.
//!
//! Nothing of it is an act: what the change did is in the audit, in the commit of the change itself.

use jiff::Timestamp;
use rusqlite::params;

use dromia_contracts::store::{AnswerPut, CommitRefusal};

use super::{Checked, TableDraft, TenantDb};
use crate::column_codes::stored_counter;
use crate::read::answer::find_answer;

/// What the batch keeps.
#[derive(Debug, Default)]
pub(super) struct AnswerDrafts<'b> {
    puts: Vec<&'b AnswerPut>,
}

impl<'b> AnswerDrafts<'b> {
    pub(super) fn put_answer(&mut self, db: TenantDb<'_>, put: &'b AnswerPut) -> Checked {
        if self.puts.iter().any(|known| known.key == put.key) {
            return Err(CommitRefusal::Malformed("a batch says one thing of a key".into()).into());
        }
        if put.replaces(find_answer(&db, db.tenant, put.key)?.as_ref())? {
            self.puts.push(put);
        }
        Ok(())
    }
}

impl TableDraft for AnswerDrafts<'_> {
    fn write_rows(&self, db: TenantDb<'_>) -> rusqlite::Result<()> {
        let tenant = db.tenant.as_bytes();
        for put in &self.puts {
            db.prepare_cached(
                "INSERT OR REPLACE INTO answers (tenant, key, request, claim, at, answer) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                tenant,
                put.key.as_bytes(),
                put.request.as_bytes(),
                put.claim.to_be_bytes(),
                put.at.as_millisecond(),
                put.answer.as_deref(),
            ])?;
            let ended = put.at.checked_sub(AnswerPut::KEPT).unwrap_or(Timestamp::MIN).as_millisecond();
            db.prepare_cached(
                "DELETE FROM answers WHERE tenant = ?1 AND at <= max(?2, coalesce((SELECT at FROM answers \
                 WHERE tenant = ?1 ORDER BY at DESC LIMIT 1 OFFSET ?3), ?2))",
            )?
            .execute(params![tenant, ended, stored_counter(AnswerPut::KEPT_MAX as u64)])?;
        }
        Ok(())
    }
}
