//! The seals of a tenant: one chain over the heads of its journals and over what people changed.
//!
//! `chain = BLAKE3(chain before | tenant | number | at ms | kind | length | record)`, numbers big-endian, the length
//! in 32 bits; the chain begins with 32 zero bytes. A commit writes one seal for each tenant whose journals grew in it,
//! however many they are, and one for each change, in the transaction of the rows that they speak of: so there is no
//! entry without a seal and no seal without its entries.
//!
//! Nothing is looked up on the way of a turn: the heads of the chains are remembered, and forgotten whenever a
//! transaction fails.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension as _, params};

use dromia_contracts::audit::{Act, AuditMark, Change};
use dromia_contracts::digest::Digest;
use dromia_contracts::id::TenantId;

use crate::code::{self, stored};

/// The chain before the first seal.
pub(crate) const ORIGIN: [u8; 32] = [0; 32];
/// A seal of heads of journals.
pub(crate) const SPANS: i64 = 0;
/// A seal of one act.
pub(crate) const ACT: i64 = 1;

/// How many acts are looked through for the configuration that was applied last.
const CONFIG_LOOKED_AT: i64 = 4_096;

/// The bytes of a journal's chain that a seal names: nobody finds another journal with the same 160 bits.
const CHAIN_BYTES: usize = 20;
/// Set where agent and session are named, too.
const OWNED: u8 = 1;

/// Entries that one run's journal grew by.
///
/// Written as: flags, run, agent and session where the flags say so, first and last entry as LEB128, chain. A turn writes
/// two of them, so every byte counts: whose run it is stands in its first span only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) run: [u8; 16],
    pub(crate) owner: Option<Owner>,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The first bytes of the journal's chain up to `to`.
    chain: [u8; CHAIN_BYTES],
}

/// Whose a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) agent: [u8; 16],
    pub(crate) session: [u8; 16],
}

impl Span {
    /// Begins with one entry.
    pub(crate) fn new(run: [u8; 16], owner: Option<Owner>, seq: u64, chain: &[u8; 32]) -> Self {
        let mut span = Self { run, owner, from: seq, to: seq, chain: [0; CHAIN_BYTES] };
        span.grow(seq, chain);
        span
    }

    /// Goes on to a later entry.
    pub(crate) fn grow(&mut self, seq: u64, chain: &[u8; 32]) {
        self.to = seq;
        self.chain.copy_from_slice(&chain[..CHAIN_BYTES]);
    }

    /// Tells whether this is the chain that the span names.
    pub(crate) fn names(&self, chain: &[u8]) -> bool {
        chain.len() == 32 && chain[..CHAIN_BYTES] == self.chain
    }

    fn write(&self, record: &mut Vec<u8>) {
        record.push(if self.owner.is_some() { OWNED } else { 0 });
        record.extend_from_slice(&self.run);
        if let Some(owner) = &self.owner {
            record.extend_from_slice(&owner.agent);
            record.extend_from_slice(&owner.session);
        }
        write_number(record, self.from);
        write_number(record, self.to);
        record.extend_from_slice(&self.chain);
    }

    /// Reads a record of spans; nothing if it is none.
    pub(crate) fn read_all(mut record: &[u8]) -> Option<Vec<Self>> {
        let mut spans = Vec::new();
        while !record.is_empty() {
            let flags = take::<1>(&mut record)?[0];
            if flags > OWNED {
                return None;
            }
            let run = take(&mut record)?;
            let owner = if flags == OWNED {
                Some(Owner { agent: take(&mut record)?, session: take(&mut record)? })
            } else {
                None
            };
            let (from, to) = (take_number(&mut record)?, take_number(&mut record)?);
            let chain = take(&mut record)?;
            if from == 0 || to < from {
                return None;
            }
            spans.push(Self { run, owner, from, to, chain });
        }
        if spans.is_empty() { None } else { Some(spans) }
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

fn write_number(record: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        record.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    record.push((number & 0x7f) as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take::<1>(bytes)?[0];
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// What one batch adds to its tenant's chain.
#[derive(Debug)]
pub(crate) struct Grown {
    pub(crate) tenant: TenantId,
    /// Acts with their times, where they have one.
    pub(crate) acts: Vec<(Option<i64>, Act)>,
    pub(crate) spans: Vec<Span>,
    /// The time of the newest entry, in milliseconds.
    pub(crate) at: Option<i64>,
}

/// Returns the chain after a seal.
pub(crate) fn next(
    previous: &[u8; 32],
    tenant: TenantId,
    number: u64,
    at: i64,
    kind: i64,
    record: &[u8],
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous);
    hasher.update(tenant.as_bytes());
    hasher.update(&number.to_be_bytes());
    hasher.update(&at.to_be_bytes());
    hasher.update(&kind.to_be_bytes());
    // One transaction has at most 1,024 rows, so the length of a record fits.
    hasher.update(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_be_bytes());
    hasher.update(record);
    *hasher.finalize().as_bytes()
}

/// How far a chain goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) number: u64,
    at: i64,
    pub(crate) chain: [u8; 32],
}

/// Finds how far a chain goes in the table.
pub(crate) fn head(db: &Connection, tenant: TenantId) -> rusqlite::Result<Head> {
    let found = db
        .prepare_cached("SELECT number, at, chain FROM audit WHERE tenant = ?1 ORDER BY number DESC LIMIT 1")?
        .query_row([tenant.as_bytes()], |row| {
            Ok(Head { number: code::number(row, 0)?, at: row.get(1)?, chain: code::bytes(row, 2)? })
        })
        .optional()?;
    Ok(found.unwrap_or(Head { number: 0, at: 0, chain: ORIGIN }))
}

/// Writes seals, and remembers how far the chains go. Emptied when it holds too many.
#[derive(Debug, Default)]
pub(crate) struct Seals(HashMap<TenantId, Head>);

impl Seals {
    const MAX: usize = 4_096;

    /// Forgets everything, because nobody knows what of a transaction stands.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }

    /// Seals what the batches of a transaction added. Returns how many rows there are.
    pub(crate) fn write(&mut self, db: &Connection, grown: Vec<Grown>) -> rusqlite::Result<u64> {
        let mut rows = 0;
        let mut heads: BTreeMap<TenantId, (i64, Vec<u8>)> = BTreeMap::new();
        for Grown { tenant, acts, spans, at } in grown {
            for (at, act) in acts {
                self.act(db, tenant, at, &act)?;
                rows += 2;
            }
            if let Some(at) = at {
                let (newest, record) = heads.entry(tenant).or_insert((at, Vec::new()));
                *newest = at.max(*newest);
                for span in &spans {
                    span.write(record);
                }
            }
        }
        for (tenant, (at, record)) in heads {
            self.append(db, tenant, Some(at), SPANS, &record)?;
            rows += 1;
        }
        Ok(rows)
    }

    /// Seals one act, and notes that it is the last.
    fn act(&mut self, db: &Connection, tenant: TenantId, at: Option<i64>, act: &Act) -> rusqlite::Result<()> {
        // Strings, ids and digests only, so serialization has no failing case.
        let record = serde_json::to_vec(act).unwrap_or_default();
        let number = self.append(db, tenant, at, ACT, &record)?;
        db.prepare_cached(
            "INSERT INTO audit_heads (tenant, number) VALUES (?1, ?2) \
             ON CONFLICT DO UPDATE SET number = excluded.number",
        )?
        .execute(params![tenant.as_bytes(), stored(number)])?;
        Ok(())
    }

    fn append(
        &mut self,
        db: &Connection,
        tenant: TenantId,
        at: Option<i64>,
        kind: i64,
        record: &[u8],
    ) -> rusqlite::Result<u64> {
        let before = match self.0.get(&tenant) {
            Some(head) => *head,
            None => head(db, tenant)?,
        };
        let number = before.number + 1;
        // Where nobody says when, it is not before what came before.
        let at = at.unwrap_or(before.at);
        let chain = next(&before.chain, tenant, number, at, kind, record);
        db.prepare_cached(
            "INSERT INTO audit (tenant, number, at, kind, record, chain) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![tenant.as_bytes(), stored(number), at, kind, record, chain])?;
        if self.0.len() >= Self::MAX {
            self.0.clear();
        }
        self.0.insert(tenant, Head { number, at, chain });
        Ok(number)
    }

    /// Seals under which configuration a tenant is served, unless the last one was the same; and before its first such seal
    /// what it had before there were seals, if that is not sealed yet.
    pub(crate) fn config(
        &mut self,
        db: &Connection,
        tenant: TenantId,
        config: Digest,
        at: i64,
    ) -> rusqlite::Result<()> {
        self.before(db, tenant, at)?;
        if last_config(db, tenant)? == Some(config) {
            return Ok(());
        }
        self.noted(db, tenant, &Act { by: None, change: Change::ConfigApplied { config } }, at)
    }

    /// Seals once which runs of a tenant are older than the seals, where its chain does not begin with its registration.
    fn before(&mut self, db: &Connection, tenant: TenantId, at: i64) -> rusqlite::Result<()> {
        if is_born(db, tenant)? || before_sealed(db, tenant)?.is_some() {
            return Ok(());
        }
        let (runs, list) = before(db, tenant)?;
        self.noted(db, tenant, &Act { by: None, change: Change::BeforeSealed { runs, list } }, at)
    }

    /// Seals an act that changes no row, unless nobody knows the tenant.
    pub(crate) fn noted(
        &mut self,
        db: &Connection,
        tenant: TenantId,
        act: &Act,
        at: i64,
    ) -> rusqlite::Result<()> {
        let known =
            db.prepare_cached("SELECT 1 FROM tenants WHERE tenant = ?1")?.exists([tenant.as_bytes()])?;
        if known { self.act(db, tenant, Some(at), act) } else { Ok(()) }
    }
}

fn last_config(db: &Connection, tenant: TenantId) -> rusqlite::Result<Option<Digest>> {
    let mut select = db.prepare_cached(
        "SELECT record FROM audit INDEXED BY audit_acts WHERE tenant = ?1 AND kind = 1 ORDER BY number DESC LIMIT ?2",
    )?;
    let mut found = select.query(params![tenant.as_bytes(), CONFIG_LOOKED_AT])?;
    while let Some(row) = found.next()? {
        let record: Vec<u8> = row.get(0)?;
        if let Ok(Act { change: Change::ConfigApplied { config }, .. }) = serde_json::from_slice(&record) {
            return Ok(Some(config));
        }
    }
    Ok(None)
}

/// Tells whether a tenant's chain begins with its registration, so that nothing of it is older than the seals.
fn is_born(db: &Connection, tenant: TenantId) -> rusqlite::Result<bool> {
    let record: Option<Vec<u8>> = db
        .prepare_cached("SELECT record FROM audit WHERE tenant = ?1 AND number = 1 AND kind = 1")?
        .query_row([tenant.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(record.is_some_and(|record| is_birth(&record)))
}

/// Tells whether an act is the registration of its tenant.
pub(crate) fn is_birth(record: &[u8]) -> bool {
    serde_json::from_slice::<Act>(record).is_ok_and(|act| matches!(act.change, Change::TenantCreated { .. }))
}

/// Counts the runs that are said to be older than the seals, and digests the list of them.
pub(crate) fn before(db: &Connection, tenant: TenantId) -> rusqlite::Result<(u64, Digest)> {
    let mut select = db
        .prepare_cached("SELECT run, agent, session, seq FROM audit_before WHERE tenant = ?1 ORDER BY run")?;
    let mut found = select.query([tenant.as_bytes()])?;
    let (mut runs, mut hasher) = (0, blake3::Hasher::new());
    while let Some(row) = found.next()? {
        for column in 0..3 {
            // Of 16 bytes each; whoever writes others makes another list.
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
pub(crate) fn before_sealed(
    db: &Connection,
    tenant: TenantId,
) -> rusqlite::Result<Option<(u64, u64, Digest)>> {
    let mut select = db.prepare_cached(
        "SELECT number, record FROM audit INDEXED BY audit_acts WHERE tenant = ?1 AND kind = 1 ORDER BY number",
    )?;
    let mut found = select.query([tenant.as_bytes()])?;
    while let Some(row) = found.next()? {
        let record: Vec<u8> = row.get(1)?;
        if let Ok(Act { change: Change::BeforeSealed { runs, list }, .. }) = serde_json::from_slice(&record) {
            return Ok(Some((code::number(row, 0)?, runs, list)));
        }
    }
    Ok(None)
}

/// Remembers a checkpoint. An older one changes nothing.
pub(crate) fn mark(db: &Connection, mark: &AuditMark) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO audit_mark (one, number, digest) VALUES (1, ?1, ?2) \
         ON CONFLICT DO UPDATE SET number = excluded.number, digest = excluded.digest \
         WHERE excluded.number > audit_mark.number",
    )?
    .execute(params![stored(mark.number), mark.digest.as_bytes()])?;
    Ok(())
}

/// Returns the checkpoint that is remembered.
pub(crate) fn marked(db: &Connection) -> rusqlite::Result<Option<AuditMark>> {
    db.prepare_cached("SELECT number, digest FROM audit_mark WHERE one = 1")?
        .query_row([], |row| Ok(AuditMark { number: code::number(row, 0)?, digest: code::digest(row, 1)? }))
        .optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_seal_changes_its_chain() {
        let (tenant, other) = (TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16]));
        let base = next(&ORIGIN, tenant, 1, 5, SPANS, b"ab");
        let changed = [
            next(&base, tenant, 1, 5, SPANS, b"ab"),
            next(&ORIGIN, other, 1, 5, SPANS, b"ab"),
            next(&ORIGIN, tenant, 2, 5, SPANS, b"ab"),
            next(&ORIGIN, tenant, 1, 6, SPANS, b"ab"),
            next(&ORIGIN, tenant, 1, 5, ACT, b"ab"),
            next(&ORIGIN, tenant, 1, 5, SPANS, b"abc"),
        ];
        for (index, other) in changed.iter().enumerate() {
            assert_ne!(&base, other, "change {index} goes unnoticed");
        }
    }

    #[test]
    fn spans_are_read_as_they_were_written_and_a_torn_record_is_none() {
        let owner = Owner { agent: [2; 16], session: [3; 16] };
        let first = Span::new([1; 16], Some(owner), 1, &[5; 32]);
        let mut later = Span::new([6; 16], None, 200, &[7; 32]);
        later.grow(u64::MAX, &[8; 32]);
        let mut record = Vec::new();
        first.write(&mut record);
        assert_eq!(record.len(), 1 + 3 * 16 + 2 + CHAIN_BYTES);
        later.write(&mut record);
        assert_eq!(Span::read_all(&record), Some(vec![first, later]));
        assert!(later.names(&[8; 32]) && !later.names(&[7; 32]) && !later.names(&[8; 20]));
        for end in 0..record.len() {
            let read = Span::read_all(&record[..end]);
            assert!(read.is_none() || read == Some(vec![first]), "cut at {end}");
        }
        assert_eq!(Span::read_all(&[2; 64]), None, "flags of tomorrow are not guessed");
    }
}
