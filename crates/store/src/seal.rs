//! The seals of a tenant: one chain over the heads of its journals and over what people changed.
//!
//! `chain = BLAKE3(chain before | tenant | number | at ms | kind | length | record)`, numbers big-endian, the length
//! in 32 bits; the chain begins with 32 zero bytes. A commit writes a seal for each tenant whose journals grew in it, or as many
//! as it takes to keep each of them within a page, and one for each change, in the transaction of the rows that they speak of:
//! so there is no entry without a seal and no seal without its entries.
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

/// What stands in the record of each seal of what was before the seals, and by the name of somebody perhaps in another's.
const BEFORE_SEALED: &[u8] = b"\"before_sealed\"";

/// The bytes of a journal's chain that a seal names: nobody finds another journal with the same 160 bits.
const CHAIN_BYTES: usize = 20;
/// Set where agent and session are named, too.
const OWNED: u8 = 1;
/// Set where the agent is the one that was named last in this record.
const SAME_AGENT: u8 = 2;
/// Where the flags say how many of the run's first bytes are those of the run before it in this record.
const SHARED_SHIFT: u32 = 4;
/// The most bytes of a record that stay in the row's own page, with the other columns. What is longer takes whole pages to
/// itself, half of which lie empty.
const RECORD_BYTES: usize = 920;

/// Entries that one run's journal grew by.
///
/// Written as: flags, run, agent and session where the flags say so, first and last entry as LEB128, chain. A turn writes
/// two of them, so every byte counts: whose run it is stands in its first span only, an agent once for spans in a row, and of
/// a run only what differs from the one before it, since their ids begin with the time. Records of before name all of it, and
/// are read as ever; a program of before takes a record of today for one that it does not know.
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

    fn write(&self, record: &mut Vec<u8>, before: &mut Before) {
        let shared =
            before.run.map_or(0, |run| run.iter().zip(&self.run).take_while(|(a, b)| a == b).count());
        // The flags have room for 15; one run has several spans in a record.
        let shared = shared.min(15);
        let agent = self.owner.map(|owner| owner.agent);
        let is_same = agent.is_some() && agent == before.agent;
        let mut flags = u8::try_from(shared).unwrap_or_default() << SHARED_SHIFT;
        flags |= if self.owner.is_some() { OWNED } else { 0 };
        flags |= if is_same { SAME_AGENT } else { 0 };
        record.push(flags);
        record.extend_from_slice(&self.run[shared..]);
        if let Some(owner) = &self.owner {
            if !is_same {
                record.extend_from_slice(&owner.agent);
            }
            record.extend_from_slice(&owner.session);
        }
        write_number(record, self.from);
        write_number(record, self.to);
        record.extend_from_slice(&self.chain);
        *before = Before { run: Some(self.run), agent: agent.or(before.agent) };
    }

    /// Reads a record of spans; nothing if it is none.
    pub(crate) fn read_all(mut record: &[u8]) -> Option<Vec<Self>> {
        let mut spans = Vec::new();
        let mut before = Before::default();
        while !record.is_empty() {
            let flags = take::<1>(&mut record)?[0];
            let shared = usize::from(flags >> SHARED_SHIFT);
            let flags = flags & ((1 << SHARED_SHIFT) - 1);
            let mut run = if shared == 0 { [0; 16] } else { before.run? };
            let (rest, behind) = record.split_at_checked(run.len() - shared)?;
            run[shared..].copy_from_slice(rest);
            record = behind;
            let owner = match flags {
                0 => None,
                OWNED => Some(Owner { agent: take(&mut record)?, session: take(&mut record)? }),
                flags if flags == OWNED | SAME_AGENT => {
                    Some(Owner { agent: before.agent?, session: take(&mut record)? })
                }
                _ => return None,
            };
            let (from, to) = (take_number(&mut record)?, take_number(&mut record)?);
            let chain = take(&mut record)?;
            if from == 0 || to < from {
                return None;
            }
            before = Before { run: Some(run), agent: owner.map(|owner| owner.agent).or(before.agent) };
            spans.push(Self { run, owner, from, to, chain });
        }
        if spans.is_empty() { None } else { Some(spans) }
    }
}

/// What was named last in a record.
#[derive(Debug, Clone, Copy, Default)]
struct Before {
    run: Option<[u8; 16]>,
    agent: Option<[u8; 16]>,
}

/// The records of one tenant in one transaction.
#[derive(Debug)]
struct Records {
    /// The time of the newest entry.
    at: i64,
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
    before: Before,
}

impl Records {
    fn new(at: i64) -> Self {
        Self { at, full: Vec::new(), open: Vec::new(), before: Before::default() }
    }

    /// Adds a span, to a new record if the open one has no room for it.
    fn add(&mut self, span: &Span) {
        let length = self.open.len();
        span.write(&mut self.open, &mut self.before);
        if self.open.len() > RECORD_BYTES && length > 0 {
            self.open.truncate(length);
            self.full.push(std::mem::take(&mut self.open));
            self.before = Before::default();
            span.write(&mut self.open, &mut self.before);
        }
    }

    fn all(self) -> impl Iterator<Item = Vec<u8>> {
        self.full.into_iter().chain((!self.open.is_empty()).then_some(self.open))
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
        let mut heads: BTreeMap<TenantId, Records> = BTreeMap::new();
        for Grown { tenant, acts, spans, at } in grown {
            for (at, act) in acts {
                self.act(db, tenant, at, &act)?;
                rows += 2;
            }
            if let Some(at) = at {
                let records = heads.entry(tenant).or_insert_with(|| Records::new(at));
                records.at = at.max(records.at);
                for span in &spans {
                    records.add(span);
                }
            }
        }
        for (tenant, records) in heads {
            let at = records.at;
            for record in records.all() {
                self.append(db, tenant, Some(at), SPANS, &record)?;
                rows += 1;
            }
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

    /// Seals once which runs of a tenant are older than the seals, where its chain does not begin with its registration; also
    /// that there are none, or what is written to the list later would be sealed by the next start.
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
///
/// Each start asks, in the transaction of the only writer, and the seal may lie behind any number of acts: so only those are
/// parsed in which the word stands.
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
        let (mut record, mut before) = (Vec::new(), Before::default());
        first.write(&mut record, &mut before);
        assert_eq!(record.len(), 1 + 3 * 16 + 2 + CHAIN_BYTES);
        later.write(&mut record, &mut before);
        assert_eq!(Span::read_all(&record), Some(vec![first, later]));
        assert!(later.names(&[8; 32]) && !later.names(&[7; 32]) && !later.names(&[8; 20]));
        for end in 0..record.len() {
            let read = Span::read_all(&record[..end]);
            assert!(read.is_none() || read == Some(vec![first]), "cut at {end}");
        }
        assert_eq!(Span::read_all(&[2; 64]), None, "flags of tomorrow are not guessed");
    }

    /// Records of before name every run and agent whole.
    #[test]
    fn a_record_of_before_is_read_as_ever() {
        let owner = Owner { agent: [2; 16], session: [3; 16] };
        let spans = [Span::new([1; 16], Some(owner), 1, &[5; 32]), Span::new([1; 16], None, 2, &[6; 32])];
        let mut record = Vec::new();
        for span in &spans {
            record.push(u8::from(span.owner.is_some()));
            record.extend_from_slice(&span.run);
            if span.owner.is_some() {
                record.extend_from_slice(&[2; 16]);
                record.extend_from_slice(&[3; 16]);
            }
            record.extend_from_slice(&[u8::try_from(span.from).expect("small"); 2]);
            record.extend_from_slice(&span.chain);
        }
        assert_eq!(Span::read_all(&record), Some(spans.to_vec()));
    }

    fn random_spans(seed: u64, count: usize) -> Vec<Span> {
        let bytes = |number: usize| {
            *blake3::hash(&[&seed.to_le_bytes()[..], &number.to_le_bytes()].concat()).as_bytes()
        };
        let span = |number: usize| {
            let random = bytes(number);
            let mut run = [7; 16];
            // As many bytes in common as it comes, up to all of them.
            let own = usize::from(random[0] % 17);
            run[16 - own..].copy_from_slice(&random[16..16 + own]);
            let owner = Owner { agent: [random[1] % 3; 16], session: [random[2]; 16] };
            let mut span =
                Span::new(run, (random[3] % 3 > 0).then_some(owner), 1 + u64::from(random[4]), &random);
            span.grow(span.from + u64::from(random[5]), &random);
            span
        };
        (0..count).map(span).collect()
    }

    #[test]
    fn spans_are_told_apart_over_as_many_records_as_they_take() {
        for seed in 0..200 {
            let spans = random_spans(seed, usize::try_from(seed).expect("small"));
            let mut records = Records::new(0);
            for span in &spans {
                records.add(span);
            }
            let records: Vec<_> = records.all().collect();
            assert!(records.iter().all(|record| !record.is_empty() && record.len() <= RECORD_BYTES));
            let read = records.iter().map(|record| Span::read_all(record).expect("each is read by itself"));
            assert_eq!(read.collect::<Vec<_>>().concat(), spans);
            assert!(records.len() <= 1 + spans.len() / 9, "a record is filled before the next one begins");
        }
    }

    #[test]
    fn what_was_before_is_found_behind_acts_that_only_name_it() {
        let db = Connection::open_in_memory().expect("opened");
        db.execute_batch(include_str!("schema/0008_audit.sql").split("INSERT").next().expect("the tables"))
            .expect("made");
        let mut seals = Seals::default();
        let tenant = TenantId::from_bytes([1; 16]);
        let named = Change::TenantCreated { handle: "before_sealed".parse().expect("a handle") };
        let config = Change::ConfigApplied { config: Digest::from_bytes([2; 32]) };
        let before = |runs| Change::BeforeSealed { runs, list: Digest::from_bytes([3; 32]) };
        for change in [config.clone(), named.clone(), config, before(5), named, before(6)] {
            assert!(seals.act(&db, tenant, Some(1), &Act { by: None, change }).is_ok());
        }
        // A spelling that this program never writes is not looked at, so the word is all that is looked for.
        let foreign =
            r#"{"kind":"before\u005fsealed","runs":1,"list":""#.to_owned() + &"03".repeat(32) + r#""}"#;
        assert!(serde_json::from_str::<Act>(&foreign).is_ok());
        db.execute("UPDATE audit SET record = ?1 WHERE number = 1", [foreign.as_bytes()])
            .expect("is written");
        let list = Digest::from_bytes([3; 32]);
        assert_eq!(before_sealed(&db, tenant).expect("is read"), Some((4, 5, list)));
        assert_eq!(before_sealed(&db, TenantId::from_bytes([9; 16])).expect("is read"), None);
    }

    /// What is longer than a quarter of a page takes pages of its own.
    #[test]
    fn a_full_record_stays_in_the_page_of_its_row() {
        let db = Connection::open_in_memory().expect("opened");
        db.execute_batch(include_str!("schema/0008_audit.sql").split("INSERT").next().expect("the tables"))
            .expect("made");
        let mut seals = Seals::default();
        let tenant = TenantId::from_bytes([1; 16]);
        let spans: Vec<_> = (0..50).flat_map(|seed| random_spans(seed, 30)).collect();
        let grown = Grown { tenant, acts: Vec::new(), spans, at: Some(1 << 42) };
        let rows = seals.write(&db, vec![grown]).expect("written");
        assert!(rows > 50);
        let longest: i64 =
            db.query_row("SELECT max(length(record)) FROM audit", [], |row| row.get(0)).expect("read");
        assert!(longest > i64::try_from(RECORD_BYTES).expect("small") - 100);
        let pages: i64 = db.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("read");
        assert!(pages < i64::try_from(rows).expect("small") / 3 + 10, "{pages} pages for {rows} rows");
    }
}
