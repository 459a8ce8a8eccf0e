//! What a seal says of journals: which entries each grew by, written as short as it goes.
//!
//! Bytes are written and read here, and nothing else is: the reader of the seals finds out whether a span's journal is
//! there, and makes the chain that the span names.

/// The bytes of a journal's chain that a seal names: no other journal with the same 160 bits can be found.
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
/// Written as: flags, run, agent and session where the flags say so, first and last entry as LEB128, chain. A turn
/// writes two of them, so every byte counts: only its first span names the owner of a run, spans in a row name an agent
/// once, and a run is written as its difference from the one before it, since ids begin with the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JournalSpan {
    pub(crate) run: [u8; 16],
    pub(crate) owner: Option<SpanOwner>,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The first bytes of the journal's chain up to `to`.
    chain: [u8; CHAIN_BYTES],
}

/// Whose a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanOwner {
    pub(crate) agent: [u8; 16],
    pub(crate) session: [u8; 16],
}

impl JournalSpan {
    /// Begins with one entry.
    pub(crate) fn new(run: [u8; 16], owner: Option<SpanOwner>, seq: u64, chain: &[u8; 32]) -> Self {
        let mut span = Self { run, owner, from: seq, to: seq, chain: [0; CHAIN_BYTES] };
        span.extend_to(seq, chain);
        span
    }

    /// Goes on to a later entry.
    pub(crate) fn extend_to(&mut self, seq: u64, chain: &[u8; 32]) {
        self.to = seq;
        self.chain.copy_from_slice(&chain[..CHAIN_BYTES]);
    }

    /// Returns whether this is the chain that the span names.
    pub(crate) fn names_chain(&self, chain: &[u8]) -> bool {
        chain.len() == 32 && chain[..CHAIN_BYTES] == self.chain
    }

    /// Returns the first bytes of the chain up to the last entry.
    pub(crate) fn chain_bytes(&self) -> &[u8] {
        &self.chain
    }

    fn write_record(&self, record: &mut Vec<u8>, before: &mut PreviousSpan) {
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
        *before = PreviousSpan { run: Some(self.run), agent: agent.or(before.agent) };
    }

    /// Reads a record of spans; nothing if it is none.
    pub(crate) fn read_all(mut record: &[u8]) -> Option<Vec<Self>> {
        let mut spans = Vec::new();
        let mut before = PreviousSpan::default();
        while !record.is_empty() {
            let flags = take_array::<1>(&mut record)?[0];
            let shared = usize::from(flags >> SHARED_SHIFT);
            let flags = flags & ((1 << SHARED_SHIFT) - 1);
            let mut run = if shared == 0 { [0; 16] } else { before.run? };
            let (rest, behind) = record.split_at_checked(run.len() - shared)?;
            run[shared..].copy_from_slice(rest);
            record = behind;
            let owner = match flags {
                0 => None,
                OWNED => {
                    Some(SpanOwner { agent: take_array(&mut record)?, session: take_array(&mut record)? })
                }
                flags if flags == OWNED | SAME_AGENT => {
                    Some(SpanOwner { agent: before.agent?, session: take_array(&mut record)? })
                }
                _ => return None,
            };
            let (from, to) = (take_number(&mut record)?, take_number(&mut record)?);
            let chain = take_array(&mut record)?;
            if from == 0 || to < from {
                return None;
            }
            before = PreviousSpan { run: Some(run), agent: owner.map(|owner| owner.agent).or(before.agent) };
            spans.push(Self { run, owner, from, to, chain });
        }
        if spans.is_empty() { None } else { Some(spans) }
    }
}

/// What was named last in a record.
#[derive(Debug, Clone, Copy, Default)]
struct PreviousSpan {
    run: Option<[u8; 16]>,
    agent: Option<[u8; 16]>,
}

/// The records of one tenant in one transaction.
#[derive(Debug)]
pub(super) struct SpanRecords {
    /// The time of the newest entry.
    pub(super) at: i64,
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
    before: PreviousSpan,
}

impl SpanRecords {
    pub(super) fn new(at: i64) -> Self {
        Self { at, full: Vec::new(), open: Vec::new(), before: PreviousSpan::default() }
    }

    /// Adds a span, to a new record if the open one has no room for it.
    pub(super) fn add_span(&mut self, span: &JournalSpan) {
        let length = self.open.len();
        span.write_record(&mut self.open, &mut self.before);
        if self.open.len() > RECORD_BYTES && length > 0 {
            self.open.truncate(length);
            self.full.push(std::mem::take(&mut self.open));
            self.before = PreviousSpan::default();
            span.write_record(&mut self.open, &mut self.before);
        }
    }

    pub(super) fn into_records(self) -> impl Iterator<Item = Vec<u8>> {
        self.full.into_iter().chain((!self.open.is_empty()).then_some(self.open))
    }
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
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
        let byte = take_array::<1>(bytes)?[0];
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use dromia_contracts::id::TenantId;

    use super::*;
    use crate::seal::tests::tables;
    use crate::seal::{ChainGrowth, SealWriter};

    #[test]
    fn spans_round_trip_and_a_torn_record_is_refused() {
        let owner = SpanOwner { agent: [2; 16], session: [3; 16] };
        let first = JournalSpan::new([1; 16], Some(owner), 1, &[5; 32]);
        let mut later = JournalSpan::new([6; 16], None, 200, &[7; 32]);
        later.extend_to(u64::MAX, &[8; 32]);
        let (mut record, mut before) = (Vec::new(), PreviousSpan::default());
        first.write_record(&mut record, &mut before);
        assert_eq!(record.len(), 1 + 3 * 16 + 2 + CHAIN_BYTES);
        later.write_record(&mut record, &mut before);
        assert_eq!(JournalSpan::read_all(&record), Some(vec![first, later]));
        assert!(later.names_chain(&[8; 32]) && !later.names_chain(&[7; 32]) && !later.names_chain(&[8; 20]));
        for end in 0..record.len() {
            let read = JournalSpan::read_all(&record[..end]);
            assert!(read.is_none() || read == Some(vec![first]), "cut at {end}");
        }
        assert_eq!(JournalSpan::read_all(&[2; 64]), None, "unknown flags are not guessed");
    }

    fn random_spans(seed: u64, count: usize) -> Vec<JournalSpan> {
        let bytes = |number: usize| {
            *blake3::hash(&[&seed.to_le_bytes()[..], &number.to_le_bytes()].concat()).as_bytes()
        };
        let span = |number: usize| {
            let random = bytes(number);
            let mut run = [7; 16];
            // As many bytes in common as it comes, up to all of them.
            let own = usize::from(random[0] % 17);
            run[16 - own..].copy_from_slice(&random[16..16 + own]);
            let owner = SpanOwner { agent: [random[1] % 3; 16], session: [random[2]; 16] };
            let mut span = JournalSpan::new(
                run,
                (random[3] % 3 > 0).then_some(owner),
                1 + u64::from(random[4]),
                &random,
            );
            span.extend_to(span.from + u64::from(random[5]), &random);
            span
        };
        (0..count).map(span).collect()
    }

    #[test]
    fn spans_are_split_over_several_full_records() {
        for seed in 0..200 {
            let spans = random_spans(seed, usize::try_from(seed).expect("small"));
            let mut records = SpanRecords::new(0);
            for span in &spans {
                records.add_span(span);
            }
            let records: Vec<_> = records.into_records().collect();
            assert!(records.iter().all(|record| !record.is_empty() && record.len() <= RECORD_BYTES));
            let read =
                records.iter().map(|record| JournalSpan::read_all(record).expect("each is read by itself"));
            assert_eq!(read.collect::<Vec<_>>().concat(), spans);
            assert!(records.len() <= 1 + spans.len() / 9, "a record is filled before the next one begins");
        }
    }

    /// What is longer than a quarter of a page takes pages of its own.
    #[test]
    fn a_full_record_stays_in_the_page_of_its_row() {
        let db = tables();
        let count_pages =
            || -> i64 { db.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("read") };
        let empty = count_pages();
        let mut seals = SealWriter::default();
        let tenant = TenantId::from_bytes([1; 16]);
        let spans: Vec<_> = (0..50).flat_map(|seed| random_spans(seed, 30)).collect();
        let grown = ChainGrowth { tenant, acts: Vec::new(), spans, at: Some(1 << 42) };
        let rows = seals.write_seals(&db, vec![grown]).expect("written");
        assert!(rows > 50);
        let longest: i64 =
            db.query_row("SELECT max(length(record)) FROM audit", [], |row| row.get(0)).expect("read");
        assert!(longest > i64::try_from(RECORD_BYTES).expect("small") - 100);
        let pages = count_pages() - empty;
        assert!(pages < i64::try_from(rows).expect("small") / 3 + 10, "{pages} pages for {rows} rows");
    }
}
