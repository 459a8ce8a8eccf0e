//! The encoding of enums, times and numbers in columns.
//!
//! An enum is a small integer whose meaning never changes: a new variant gets the next number. Times are whole
//! milliseconds. Counters are stored bit for bit, so that every `u64` survives.

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::Type;

use dromia_contracts::agent::AgentState;
use dromia_contracts::budget::{BudgetMeasure, BudgetPeriod, BudgetScope};
use dromia_contracts::capability::CapabilityUse;
use dromia_contracts::delivery::{AttemptOutcome, DeadReason, DeliveryState};
use dromia_contracts::digest::Digest;
use dromia_contracts::run::{RunKind, RunStatus};
use dromia_contracts::session::ItemKind;
use dromia_contracts::token::{TokenScope, TokenScopes};

/// An enum that is stored as a small number.
pub(crate) trait StoredEnum: Copy + 'static {
    /// The variants, each at its number.
    const TABLE: &'static [Self];

    /// Returns the stored number.
    fn stored_code(self) -> i64;
}

impl StoredEnum for AgentState {
    const TABLE: &'static [Self] = &[Self::Running, Self::Paused, Self::Terminated, Self::Deleting];

    fn stored_code(self) -> i64 {
        match self {
            Self::Running => 0,
            Self::Paused => 1,
            Self::Terminated => 2,
            Self::Deleting => 3,
        }
    }
}

impl StoredEnum for RunKind {
    const TABLE: &'static [Self] =
        &[Self::Turn, Self::ApprovedCall, Self::Worker, Self::Compaction, Self::Branch];

    fn stored_code(self) -> i64 {
        match self {
            Self::Turn => 0,
            Self::ApprovedCall => 1,
            Self::Worker => 2,
            Self::Compaction => 3,
            Self::Branch => 4,
        }
    }
}

impl StoredEnum for RunStatus {
    const TABLE: &'static [Self] = &Self::ALL;

    fn stored_code(self) -> i64 {
        match self {
            Self::Running => 0,
            Self::Parked => 1,
            Self::Held => 2,
            Self::Completed => 3,
            Self::Yielded => 4,
            Self::Failed => 5,
            Self::Cancelled => 6,
        }
    }
}

impl StoredEnum for ItemKind {
    const TABLE: &'static [Self] = &[
        Self::Input,
        Self::Resume,
        Self::Cancel,
        Self::Terminate,
        Self::Release,
        Self::Approve,
        Self::Deny,
        Self::Approved,
        Self::Conclusion,
    ];

    fn stored_code(self) -> i64 {
        match self {
            Self::Input => 0,
            Self::Resume => 1,
            Self::Cancel => 2,
            Self::Terminate => 3,
            Self::Release => 4,
            Self::Approve => 5,
            Self::Deny => 6,
            Self::Approved => 7,
            Self::Conclusion => 8,
        }
    }
}

impl StoredEnum for DeliveryState {
    const TABLE: &'static [Self] = &Self::ALL;

    fn stored_code(self) -> i64 {
        match self {
            Self::Prepared => 0,
            Self::Sending => 1,
            Self::Failed => 2,
            Self::Delivered => 3,
            Self::Dead => 4,
            Self::UnknownAfterSend => 5,
        }
    }
}

impl StoredEnum for DeadReason {
    const TABLE: &'static [Self] = &Self::ALL;

    fn stored_code(self) -> i64 {
        match self {
            Self::Attempts => 0,
            Self::Gone => 1,
            Self::Refused => 2,
            Self::Expired => 3,
            Self::Backlog => 4,
            Self::Damaged => 5,
            Self::Leak => 6,
        }
    }
}

impl StoredEnum for AttemptOutcome {
    const TABLE: &'static [Self] = &Self::ALL;

    fn stored_code(self) -> i64 {
        match self {
            Self::Accepted => 0,
            Self::Refused => 1,
            Self::NotSent => 2,
            Self::Unanswered => 3,
            Self::Interrupted => 4,
            Self::NotAccepted => 5,
        }
    }
}

impl StoredEnum for BudgetScope {
    const TABLE: &'static [Self] = &Self::ALL;

    fn stored_code(self) -> i64 {
        match self {
            Self::Tenant => 0,
            Self::Agent => 1,
            Self::Actor => 2,
            Self::Session => 3,
            Self::Run => 4,
        }
    }
}

impl StoredEnum for BudgetMeasure {
    const TABLE: &'static [Self] = &Self::ALL;

    fn stored_code(self) -> i64 {
        match self {
            Self::Tokens => 0,
            Self::Money => 1,
            Self::Time => 2,
            Self::Calls => 3,
        }
    }
}

impl StoredEnum for BudgetPeriod {
    const TABLE: &'static [Self] = &Self::ALL;

    fn stored_code(self) -> i64 {
        match self {
            Self::Hour => 0,
            Self::Day => 1,
            Self::Month => 2,
            Self::Total => 3,
        }
    }
}

impl StoredEnum for TokenScope {
    const TABLE: &'static [Self] =
        &[Self::Read, Self::Invoke, Self::Admin, Self::Approve, Self::Operate, Self::Metrics];

    fn stored_code(self) -> i64 {
        match self {
            Self::Read => 0,
            Self::Invoke => 1,
            Self::Admin => 2,
            Self::Approve => 3,
            Self::Operate => 4,
            Self::Metrics => 5,
        }
    }
}

impl StoredEnum for CapabilityUse {
    const TABLE: &'static [Self] = &Self::ALL;

    fn stored_code(self) -> i64 {
        match self {
            Self::Held => 0,
            Self::Task => 1,
        }
    }
}

/// Writes a set of scopes: for each the bit of its number.
pub(crate) fn stored_scopes(scopes: TokenScopes) -> i64 {
    scopes.iter().fold(0, |bits, scope| bits | 1 << scope.stored_code())
}

/// Reads a set of scopes. A bit that no scope has is refused: what it allows is not known here.
pub(crate) fn read_scopes(row: &Row<'_>, column: usize) -> rusqlite::Result<TokenScopes> {
    let bits: i64 = row.get(column)?;
    let known = TokenScope::TABLE.iter().copied().filter(|scope| bits & (1 << scope.stored_code()) != 0);
    let known: TokenScopes = known.collect();
    if stored_scopes(known) == bits {
        Ok(known)
    } else {
        Err(unreadable_column(column, Type::Integer, format!("no set of scopes has the bits {bits:#b}")))
    }
}

/// Reads an enum.
pub(crate) fn read_enum<T: StoredEnum>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let number: i64 = row.get(column)?;
    usize::try_from(number).ok().and_then(|index| T::TABLE.get(index).copied()).ok_or_else(|| {
        unreadable_column(column, Type::Integer, format!("no variant has the number {number}"))
    })
}

/// Reads an enum that may be absent.
pub(crate) fn coded_opt<T: StoredEnum>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    match row.get::<_, Option<i64>>(column)? {
        Some(_) => read_enum(row, column).map(Some),
        None => Ok(None),
    }
}

/// Reads an id or a digest of fixed length.
pub(crate) fn read_bytes<const N: usize>(row: &Row<'_>, column: usize) -> rusqlite::Result<[u8; N]> {
    row.get(column)
}

/// Reads an id or a digest that may be absent.
pub(crate) fn bytes_opt<const N: usize>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<[u8; N]>> {
    row.get(column)
}

/// Reads a digest.
pub(crate) fn read_digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    row.get(column).map(Digest::from_bytes)
}

/// Reads a counter.
pub(crate) fn read_counter(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get(column).map(i64::cast_unsigned)
}

/// Writes a counter.
pub(crate) fn stored_counter(number: u64) -> i64 {
    number.cast_signed()
}

/// Reads a time.
pub(crate) fn read_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    let millis: i64 = row.get(column)?;
    Timestamp::from_millisecond(millis)
        .map_err(|error| unreadable_column(column, Type::Integer, error.to_string()))
}

/// Reads a time that may be absent.
pub(crate) fn time_opt(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    let millis: Option<i64> = row.get(column)?;
    millis
        .map(Timestamp::from_millisecond)
        .transpose()
        .map_err(|error| unreadable_column(column, Type::Integer, error.to_string()))
}

/// Says that a column holds what no version of this program wrote.
pub(crate) fn unreadable_column(column: usize, kind: Type, problem: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, problem.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_variant_is_at_its_number<T: StoredEnum + std::fmt::Debug>() {
        for (index, variant) in T::TABLE.iter().enumerate() {
            assert_eq!(usize::try_from(variant.stored_code()), Ok(index), "{variant:?}");
        }
    }

    #[test]
    fn every_variant_is_read_back_from_its_number() {
        every_variant_is_at_its_number::<AgentState>();
        every_variant_is_at_its_number::<RunKind>();
        every_variant_is_at_its_number::<RunStatus>();
        every_variant_is_at_its_number::<ItemKind>();
        every_variant_is_at_its_number::<TokenScope>();
        every_variant_is_at_its_number::<CapabilityUse>();
        every_variant_is_at_its_number::<DeliveryState>();
        every_variant_is_at_its_number::<DeadReason>();
        every_variant_is_at_its_number::<AttemptOutcome>();
    }

    #[test]
    fn token_scopes_are_stored_as_bits_and_unknown_bits_fail() {
        let db = rusqlite::Connection::open_in_memory().expect("opens");
        let read = |bits: i64| db.query_row("SELECT ?1", [bits], |row| read_scopes(row, 0));
        for bits in 0..64 {
            assert_eq!(stored_scopes(read(bits).expect("is a set")), bits);
        }
        assert_eq!(stored_scopes(TokenScopes::ADMIN), 4);
        assert!(read(64).is_err() && read(-1).is_err(), "a scope of tomorrow is not guessed");
    }

    #[test]
    fn the_partial_indices_cover_open_and_stopped_deliveries() {
        for state in DeliveryState::ALL {
            assert_eq!(state.stored_code() <= 2, state.is_open(), "{state:?}");
            assert_eq!(state.stored_code() >= 4, state.may_be_redriven(), "{state:?}");
        }
    }

    #[test]
    fn the_open_statuses_are_those_of_the_partial_index() {
        for status in RunStatus::ALL {
            assert_eq!(status.stored_code() <= 2, !status.is_terminal(), "{status:?}");
        }
    }
}
