//! Random sequences of batches over a small world: two tenants with two agents each, a few sessions, runs and
//! keys, so that operations meet one another often.
//!
//! An [`StoreOp`] says what is tried in small numbers; [`BatchWriter`] turns it into a batch by looking at the oracle, so
//! that most attempts are right and the wrong ones are wrong in one named way. Because the op and the oracle
//! decide everything, a sequence shrinks and replays. Nothing here submits a batch or looks at an answer.

mod place;
mod writer;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

pub use self::place::{AGENTS, SESSIONS, TENANTS, WorldPlace, agent_id, tenant_id, token_hash, token_id};
pub use self::writer::BatchWriter;

/// What is tried. Numbers are taken modulo what is there.
#[derive(Debug, Clone)]
pub enum StoreOp {
    /// Registers an agent's handle or a token a second time.
    Register {
        /// Where.
        place: WorldPlace,
        /// Whether the handle is free.
        fresh: bool,
    },
    /// Revokes a token, of this tenant or another, or one that was never made.
    Revoke {
        /// Where.
        place: WorldPlace,
        /// Which, counted back from the last number that was minted.
        back: u8,
    },
    /// Changes what an agent may do.
    AgentState {
        /// Where.
        place: WorldPlace,
        /// To what.
        to: u8,
    },
    /// Opens a session, under a new key or a used one.
    Open {
        /// Where.
        place: WorldPlace,
    },
    /// Puts inputs and perhaps claims.
    Put {
        /// Where.
        place: WorldPlace,
        /// How many.
        items: u8,
        /// The caller's key of the first, if any.
        key: Option<u8>,
        /// Whether a claim tries to take everything that waits.
        claim: bool,
        /// Whether the claim knows the inbox wrongly.
        stale: bool,
    },
    /// Appends to the newest or an older run.
    Append {
        /// Where.
        place: WorldPlace,
        /// Which run, counted back from the newest.
        back: u8,
        /// Added to the run's epoch.
        epoch_off: u8,
        /// Added to the run's last number.
        after_off: u8,
        /// Bytes of the body.
        size: u16,
        /// Whether the run ends, rests or goes on.
        end: u8,
    },
    /// Sets a session on hold, ends its hold or erases a session.
    Keep {
        /// Where.
        place: WorldPlace,
        /// Which session that was opened later, counted back from the last number that was minted.
        back: u8,
        /// What of it.
        step: u8,
    },
    /// Takes over a run.
    Takeover {
        /// Where.
        place: WorldPlace,
        /// Which run, counted back from the newest.
        back: u8,
        /// Added to the run's epoch.
        epoch_off: u8,
        /// Who.
        holder: u8,
    },
    /// Sends a signal to a run.
    Signal {
        /// Where.
        place: WorldPlace,
        /// Which run, counted back from the newest.
        back: u8,
    },
    /// Writes custom state or a pin.
    State {
        /// Where.
        place: WorldPlace,
        /// Which entry.
        name: u8,
        /// Added to the version; `None` writes over anything.
        version_off: Option<u8>,
    },
    /// Writes into another tenant's session.
    Cross {
        /// Where from.
        place: WorldPlace,
    },
    /// A put and an append in one batch, of which the second may be refused.
    Torn {
        /// Where.
        place: WorldPlace,
        /// Added to the run's last number.
        after_off: u8,
    },
    /// Ends a run with a message on its way out.
    Reply {
        /// Where.
        place: WorldPlace,
        /// To which target.
        target: u8,
        /// Added to the entry that the message names.
        seq_off: u8,
    },
    /// Moves a delivery.
    Deliver {
        /// Where.
        place: WorldPlace,
        /// Which, counted back from the newest.
        back: u8,
        /// What is tried.
        step: u8,
        /// Added to the attempt.
        attempt_off: u8,
    },
    /// Numbers what has no number, or moves a cursor.
    Feed {
        /// Where.
        place: WorldPlace,
        /// Added to the feed's end.
        after_off: u8,
        /// Whether a cursor moves.
        cursor: bool,
    },
    /// Puts a capability, takes it back or lets go of it.
    Capability {
        /// Where, and who holds it.
        place: WorldPlace,
        /// Which.
        number: u8,
        /// What becomes of it.
        change: u8,
    },
    /// Says what a file holds, that it is gone, or what counts for the rest.
    Files {
        /// Where.
        place: WorldPlace,
        /// Which of a few files.
        number: u8,
        /// What is said of it.
        said: u8,
    },
    /// Sets or removes a budget.
    Budget {
        /// Where.
        place: WorldPlace,
        /// Which, and so whose spending it adds up.
        per: u8,
        /// Its limit; none removes it.
        limit: Option<u8>,
    },
    /// Asks for an approval, answers one, or moves one by an entry; or keeps a rule.
    Approve {
        /// Where.
        place: WorldPlace,
        /// Which run, counted back from the newest.
        back: u8,
        /// Which of a few approvals.
        number: u8,
        /// What is tried.
        step: u8,
    },
    /// Sets the clock of what runs say from here on, forward or back.
    Clock {
        /// Hours after the beginning.
        hours: u8,
    },
    /// Submits an earlier batch once more.
    Again {
        /// Which, counted back from the last.
        back: u8,
    },
}

/// Sequences of at most so many operations.
pub fn op_sequences(ops_max: usize) -> impl Strategy<Value = Vec<StoreOp>> {
    proptest::collection::vec(op_or_clock(), 1..=ops_max)
}

/// Draws one sequence of at most so many operations: the same one from the same seed.
pub fn draw_sequence(seed: u64, ops_max: usize) -> Vec<StoreOp> {
    let drawn = op_sequences(ops_max).new_tree(&mut seeded_runner(seed));
    drawn.expect("a strategy without filters").current()
}

/// What draws from a seed.
pub(super) fn seeded_runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new_with_rng(config, rng)
}

/// Sequences of exactly so many operations.
pub fn sequence_of(ops: usize) -> impl Strategy<Value = Vec<StoreOp>> {
    proptest::collection::vec(any_op(), ops)
}

/// An operation, or a move of the clock.
fn op_or_clock() -> impl Strategy<Value = StoreOp> {
    prop_oneof![30 => any_op(), 1 => (0_u8..4).prop_map(|hours| StoreOp::Clock { hours })]
}

fn any_op() -> impl Strategy<Value = StoreOp> {
    let place = || {
        (0..TENANTS, 0..AGENTS, 0..SESSIONS).prop_map(|(tenant, agent, session)| WorldPlace {
            tenant,
            agent,
            session,
        })
    };
    // Mostly right, now and then wrong by one or two.
    let off = || prop_oneof![6 => Just(0_u8), 1 => Just(1), 1 => Just(2)];
    let back = || prop_oneof![5 => Just(0_u8), 1 => 1_u8..4];
    let size = prop_oneof![6 => 0_u16..64, 1 => 1_000_u16..1_100, 1 => 5_000_u16..6_000];
    prop_oneof![
        1 => (place(), any::<bool>()).prop_map(|(place, fresh)| StoreOp::Register { place, fresh }),
        1 => (place(), 0_u8..8).prop_map(|(place, back)| StoreOp::Revoke { place, back }),
        2 => (place(), 0_u8..8).prop_map(|(place, to)| StoreOp::AgentState { place, to }),
        1 => place().prop_map(|place| StoreOp::Open { place }),
        8 => (place(), 0_u8..3, proptest::option::weighted(0.3, 0_u8..4), any::<bool>(), proptest::bool::weighted(0.1))
            .prop_map(|(place, items, key, claim, stale)| StoreOp::Put { place, items, key, claim, stale }),
        8 => (place(), back(), off(), off(), size, 0_u8..6).prop_map(|(place, back, epoch_off, after_off, size, end)| {
            StoreOp::Append { place, back, epoch_off, after_off, size, end }
        }),
        3 => (place(), back(), off(), 0_u8..3)
            .prop_map(|(place, back, epoch_off, holder)| StoreOp::Takeover { place, back, epoch_off, holder }),
        2 => (place(), back()).prop_map(|(place, back)| StoreOp::Signal { place, back }),
        2 => (place(), 0_u8..2, proptest::option::of(off()))
            .prop_map(|(place, name, version_off)| StoreOp::State { place, name, version_off }),
        1 => place().prop_map(|place| StoreOp::Cross { place }),
        2 => (place(), off()).prop_map(|(place, after_off)| StoreOp::Torn { place, after_off }),
        6 => (place(), 0_u8..2, off()).prop_map(|(place, target, seq_off)| StoreOp::Reply { place, target, seq_off }),
        8 => (place(), back(), 0_u8..8, off())
            .prop_map(|(place, back, step, attempt_off)| StoreOp::Deliver { place, back, step, attempt_off }),
        2 => (place(), off(), any::<bool>())
            .prop_map(|(place, after_off, cursor)| StoreOp::Feed { place, after_off, cursor }),
        3 => (place(), 0_u8..5, proptest::option::weighted(0.8, 0_u8..12))
            .prop_map(|(place, per, limit)| StoreOp::Budget { place, per, limit }),
        2 => (place(), 0_u8..4, 0_u8..5)
            .prop_map(|(place, number, change)| StoreOp::Capability { place, number, change }),
        3 => (place(), 0_u8..4, 0_u8..5).prop_map(|(place, number, said)| StoreOp::Files { place, number, said }),
        6 => (place(), back(), 0_u8..3, 0_u8..9)
            .prop_map(|(place, back, number, step)| StoreOp::Approve { place, back, number, step }),
        2 => (place(), 0_u8..24, 0_u8..8).prop_map(|(place, back, step)| StoreOp::Keep { place, back, step }),
        5 => back().prop_map(|back| StoreOp::Again { back }),
    ]
}
