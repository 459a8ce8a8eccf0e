//! What a tenant had before there were seals: sealed once, as a count and a digest of the list of its runs.
//!
//! No seal names the entries of these runs, so the list only says which may be without one. It is written by the schema's
//! migration; nothing here adds to it, and a tenant whose chain begins with its registration has none.

use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::audit::{AuditAct, AuditChange};
use dromia_contracts::digest::Digest;
use dromia_contracts::id::TenantId;

use super::SealWriter;
use crate::column_codes;

/// Text in each record that seals what was before the seals; a name given by a user may bring it into another record.
const BEFORE_SEALED: &[u8] = b"\"before_sealed\"";

impl SealWriter {
    /// Seals once which runs of a tenant are older than the seals, where its chain does not begin with its registration; also
    /// that there are none, or what is written to the list later would be sealed by the next start.
    pub(super) fn seal_older_runs(
        &mut self,
        db: &Connection,
        tenant: TenantId,
        at: i64,
    ) -> rusqlite::Result<()> {
        if is_born(db, tenant)? || before_sealed(db, tenant)?.is_some() {
            return Ok(());
        }
        let (runs, list) = digest_older_runs(db, tenant)?;
        self.seal_noted_act(
            db,
            tenant,
            &AuditAct { by: None, change: AuditChange::BeforeSealed { runs, list } },
            at,
        )
    }
}

/// Returns whether a tenant's chain begins with its registration, so that nothing of it is older than the seals.
fn is_born(db: &Connection, tenant: TenantId) -> rusqlite::Result<bool> {
    let record: Option<Vec<u8>> = db
        .prepare_cached("SELECT record FROM audit WHERE tenant = ?1 AND number = 1 AND kind = 1")?
        .query_row([tenant.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(record.is_some_and(|record| is_birth(&record)))
}

/// Returns whether an act is the registration of its tenant.
pub(crate) fn is_birth(record: &[u8]) -> bool {
    serde_json::from_slice::<AuditAct>(record)
        .is_ok_and(|act| matches!(act.change, AuditChange::TenantCreated { .. }))
}

/// Counts the runs that are said to be older than the seals, and digests the list of them.
pub(crate) fn digest_older_runs(db: &Connection, tenant: TenantId) -> rusqlite::Result<(u64, Digest)> {
    let mut select = db
        .prepare_cached("SELECT run, agent, session, seq FROM audit_before WHERE tenant = ?1 ORDER BY run")?;
    let mut found = select.query([tenant.as_bytes()])?;
    let (mut runs, mut hasher) = (0, blake3::Hasher::new());
    while let Some(row) = found.next()? {
        for column in 0..3 {
            // Of 16 bytes each; an author who writes others makes another list.
            let id: Vec<u8> = row.get(column)?;
            hasher.update(&(id.len() as u64).to_be_bytes());
            hasher.update(&id);
        }
        hasher.update(&row.get::<_, i64>(3)?.to_be_bytes());
        runs += 1;
    }
    Ok((runs, Digest::from_bytes(*hasher.finalize().as_bytes())))
}

/// Returns what the first seal of what was before the seals says, with its number. A later one says nothing.
///
/// Each start asks, in the transaction of the only writer, and the seal may lie behind any number of acts: so only acts
/// that contain the word are parsed.
pub(crate) fn before_sealed(
    db: &Connection,
    tenant: TenantId,
) -> rusqlite::Result<Option<(u64, u64, Digest)>> {
    let mut select = db.prepare_cached(
        "SELECT number, record FROM audit INDEXED BY audit_acts \
         WHERE tenant = ?1 AND kind = 1 AND instr(record, ?2) > 0 ORDER BY number",
    )?;
    // Two blobs, which are compared by their bytes.
    let mut found = select.query(params![tenant.as_bytes(), BEFORE_SEALED])?;
    while let Some(row) = found.next()? {
        let record: Vec<u8> = row.get(1)?;
        if let Ok(AuditAct { change: AuditChange::BeforeSealed { runs, list }, .. }) =
            serde_json::from_slice(&record)
        {
            return Ok(Some((column_codes::read_counter(row, 0)?, runs, list)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::tables;

    #[test]
    fn the_seal_of_earlier_runs_is_found_behind_namesakes() {
        let db = tables();
        let mut seals = SealWriter::default();
        let tenant = TenantId::from_bytes([1; 16]);
        let named = AuditChange::TenantCreated { handle: "before_sealed".parse().expect("a handle") };
        let config = AuditChange::ConfigApplied { config: Digest::from_bytes([2; 32]) };
        let before = |runs| AuditChange::BeforeSealed { runs, list: Digest::from_bytes([3; 32]) };
        for change in [config.clone(), named.clone(), config, before(5), named, before(6)] {
            assert!(seals.seal_act(&db, tenant, Some(1), &AuditAct { by: None, change }).is_ok());
        }
        // A spelling that this program never writes is not looked at, so the word is all that is looked for.
        let foreign =
            r#"{"kind":"before\u005fsealed","runs":1,"list":""#.to_owned() + &"03".repeat(32) + r#""}"#;
        assert!(serde_json::from_str::<AuditAct>(&foreign).is_ok());
        db.execute("UPDATE audit SET record = ?1 WHERE number = 1", [foreign.as_bytes()])
            .expect("is written");
        let list = Digest::from_bytes([3; 32]);
        assert_eq!(before_sealed(&db, tenant).expect("is read"), Some((4, 5, list)));
        assert_eq!(before_sealed(&db, TenantId::from_bytes([9; 16])).expect("is read"), None);
    }
}
