//! Which states are taken, and which ones give way.

use dromia_contracts::Digest;
use dromia_contracts::content::{ContentPart, InputMessage};
use dromia_contracts::label::Label;
use dromia_contracts::run::{RunHead, RunKind};
use dromia_contracts::session::SessionKey;
use jiff::Timestamp;

use super::*;

const AGENT: AgentId = AgentId::from_bytes([2; 16]);

fn tenant(n: u8) -> TenantId {
    TenantId::from_bytes([n; 16])
}

fn run(n: usize) -> RunId {
    RunId::from_bytes((n as u128).to_be_bytes())
}

/// A run that was parked with entry 9 in epoch 3, and has an input of so many bytes.
fn parked(bytes: usize) -> ParkedRun {
    let author = Actor::new("cli:ada");
    let mut story = ConversationTranscript::new(1);
    let parts = vec![ContentPart::new_text("x".repeat(bytes), Label::ACTOR_TEXT)];
    story.add_input(InputMessage { author: author.clone(), parts, hops: 0 });
    let key = SessionKey { platform: "cli".into(), channel: "a".into(), actor: author.clone() };
    ParkedRun {
        agent: AGENT,
        epoch: 3,
        author,
        key,
        state: RunState { seq: 9, ..RunState::default() },
        marks: CheckpointMarks::default(),
        story,
    }
}

fn row_of(id: RunId) -> RunRecord {
    let head = RunHead { status: RunStatus::Parked, wake_at: None, ..RunState::default().run_head() };
    RunRecord {
        id,
        kind: RunKind::Turn,
        agent: AGENT,
        session: dromia_contracts::SessionId::from_bytes([4; 16]),
        started_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
        last_seq: 9,
        epoch: 3,
        entry_epoch: 3,
        head,
        signals_last: 0,
        signals_taken: 0,
        holder: None,
    }
}

/// How many runs a cache keeps, and the bytes that they count for.
fn kept_of(cache: &ParkedRunCache) -> (usize, usize) {
    let kept = cache.lock_kept();
    (kept.places.len(), kept.bytes)
}

#[test]
fn a_cached_state_behind_its_row_is_caught() {
    let row = row_of(run(1));
    let running = RunHead { status: RunStatus::Running, ..row.head };
    let moved = [
        ("another entry", RunRecord { last_seq: 10, ..row.clone() }),
        ("a cut journal", RunRecord { last_seq: 8, ..row.clone() }),
        ("another owner", RunRecord { epoch: 4, ..row.clone() }),
        ("an owner at work", RunRecord { head: running, ..row.clone() }),
        ("a holder", RunRecord { holder: Some(Digest::default()), ..row.clone() }),
    ];
    for (what, moved) in moved {
        let cache = ParkedRunCache::default();
        cache.keep_run(tenant(1), run(1), parked(10));
        assert!(cache.take_current(tenant(1), &moved).is_none(), "{what} is not noticed");
        assert!(cache.take_current(tenant(1), &row).is_none(), "{what}: the state is still there");
        assert_eq!(kept_of(&cache), (0, 0), "{what}");
    }
    let cache = ParkedRunCache::default();
    cache.keep_run(tenant(1), run(1), parked(10));
    assert!(cache.take_current(tenant(2), &row).is_none(), "another tenant gets it");
    assert!(cache.take_current(tenant(1), &row).is_some(), "nothing happened since");
    assert!(cache.take_current(tenant(1), &row).is_none(), "it is taken once");
}

#[test]
fn cached_states_are_bounded_in_number_and_bytes() {
    let cache = ParkedRunCache::default();
    for n in 0..RUNS_MAX + 10 {
        cache.keep_run(tenant(1), run(n), parked(1));
    }
    let each = parked(1).held_bytes().max(RUN_BYTES_MIN);
    let (most, all) = (BYTES_MAX / each, RUNS_MAX + 10);
    assert_eq!(kept_of(&cache), (most, most * each));
    assert!(most <= RUNS_MAX, "{most}");
    assert!(
        cache.take_current(tenant(1), &row_of(run(all - most - 1))).is_none(),
        "the oldest ones are gone"
    );
    assert!(cache.take_current(tenant(1), &row_of(run(all - most))).is_some(), "the newer ones are not");
    let large = ParkedRunCache::default();
    for n in 0..20 {
        large.keep_run(tenant(1), run(n), parked(RUN_BYTES_MAX - 4096));
        assert!(kept_of(&large).1 <= BYTES_MAX);
    }
    assert!((4..=8).contains(&kept_of(&large).0), "{:?}", kept_of(&large));
    large.keep_run(tenant(1), run(99), parked(RUN_BYTES_MAX));
    assert!(large.take_current(tenant(1), &row_of(run(99))).is_none(), "one run fills no eighth");
}

#[test]
fn a_tenant_with_many_parked_runs_displaces_no_others() {
    let cache = ParkedRunCache::default();
    for n in 0..10 {
        cache.keep_run(tenant(2), run(n), parked(1));
    }
    for n in 10..3 * RUNS_MAX {
        cache.keep_run(tenant(1), run(n), parked(1));
    }
    for n in 0..10 {
        assert!(cache.take_current(tenant(2), &row_of(run(n))).is_some(), "run {n} had to go");
    }
}

#[test]
fn an_erased_agent_leaves_no_cached_state() {
    let cache = ParkedRunCache::default();
    cache.keep_run(tenant(1), run(1), parked(10));
    let other = ParkedRun { agent: AgentId::from_bytes([3; 16]), ..parked(10) };
    cache.keep_run(tenant(1), run(2), other);
    cache.forget_agent(tenant(1), AGENT);
    assert!(cache.take_current(tenant(1), &row_of(run(1))).is_none());
    assert!(cache.take_current(tenant(1), &row_of(run(2))).is_some(), "it is another agent's");
}
