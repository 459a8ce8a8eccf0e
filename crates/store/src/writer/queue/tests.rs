//! Who is served in which group.

use dromia_contracts::id::{SessionId, WriteId};
use dromia_contracts::store::{Mutation, StatePut};

use super::*;

const TENANT: TenantId = TenantId::from_bytes([1; 16]);
const OTHER: TenantId = TenantId::from_bytes([2; 16]);

fn write(tenant: TenantId, lane: WriterLane) -> WriterJob {
    let mut batch = WriteBatch::new(tenant);
    batch.lane = lane;
    WriterJob::Write(BatchWrite { batch, ack: oneshot::channel().0 })
}

fn erase(tenant: TenantId) -> WriterJob {
    WriterJob::Erase { tenant, agent: AgentId::from_bytes([3; 16]), ack: oneshot::channel().0 }
}

fn lanes(next: WriterStep) -> Vec<WriterLane> {
    match next {
        WriterStep::Group(group) => group.iter().map(WriterJob::lane).collect(),
        other => panic!("work waits: {other:?}"),
    }
}

/// Keeps a turn waiting all the time. Returns behind how many groups of turns each page of an erasure is served.
fn served_behind(pages: usize, passed_max: usize) -> Vec<usize> {
    let queue = WriterQueue::default();
    for _ in 0..pages {
        queue.push(erase(OTHER)).expect("there is room");
    }
    let (mut behind, mut passed) = (Vec::new(), 0);
    for _ in 0..1_000 {
        queue.push(write(TENANT, WriterLane::Turn)).expect("there is room");
        match lanes(queue.next_passing(Duration::ZERO, 1024, passed_max)).as_slice() {
            [WriterLane::Bulk] => behind.push(std::mem::take(&mut passed)),
            turns => {
                assert!(turns.iter().all(|lane| *lane == WriterLane::Turn), "{turns:?}");
                passed += 1;
            }
        }
    }
    behind
}

#[test]
fn an_erasure_goes_on_while_turns_never_end() {
    assert_eq!(served_behind(3, BULK_AFTER_GROUPS), [BULK_AFTER_GROUPS; 3]);
}

/// Planted fault: a bulk lane that is served only where no turn waits.
#[test]
fn a_bulk_lane_that_does_not_age_is_caught() {
    assert_eq!(served_behind(3, usize::MAX), Vec::<usize>::new(), "nothing notices it");
}

fn write_state(tenant: TenantId, bytes: usize) -> WriterJob {
    let put = StatePut {
        session: SessionId::from_bytes([4; 16]),
        name: String::new(),
        expected: None,
        value: vec![0; bytes].into(),
        at: jiff::Timestamp::UNIX_EPOCH,
        write: WriteId::from_bytes([5; 16]),
    };
    let batch = WriteBatch::new(tenant).with_mutation(Mutation::StatePut(put));
    WriterJob::Write(BatchWrite { batch, ack: oneshot::channel().0 })
}

fn tenants(group: &[WriterJob]) -> Vec<TenantId> {
    group.iter().map(WriterJob::tenant).collect()
}

/// Keeps large writes of one tenant and a small one of another waiting. Counts the groups that are of the small one alone.
fn groups_of_small_writes(small_share: usize) -> usize {
    let (mut lane, mut small, mut large) = (JobLane::default(), 0, 0);
    for _ in 0..64 {
        while lane.tenants.get(&TENANT).is_none_or(|share| share.jobs.len() < 8) {
            assert!(lane.push(write_state(TENANT, 200 << 10)), "there is room");
        }
        if !lane.ring.contains(&OTHER) {
            assert!(lane.push(write_state(OTHER, 100)), "there is room");
        }
        let group = tenants(&lane.take_group(1024, GROUP_BATCHES_MAX, small_share));
        small += usize::from(group == [OTHER]);
        large += usize::from(group.contains(&TENANT));
    }
    assert!(large >= 32, "large writes have every other group at least: {large}");
    small
}

#[test]
fn after_large_writes_of_one_tenant_small_ones_of_another_have_a_group_of_their_own() {
    let mut lane = JobLane::default();
    for _ in 0..3 {
        assert!(lane.push(write_state(TENANT, 200 << 10)));
    }
    assert_eq!(tenants(&lane.take_group(1, GROUP_BATCHES_MAX, SMALL_SHARE_BYTES)), [TENANT]);
    assert!(lane.push(write_state(OTHER, 100)) && lane.push(write_state(OTHER, 100)));
    assert_eq!(tenants(&lane.take_group(1024, GROUP_BATCHES_MAX, SMALL_SHARE_BYTES)), [OTHER; 2]);
    assert!(lane.push(write_state(OTHER, 100)));
    // It waited first, and has its turn.
    let group = lane.take_group(1024, GROUP_BATCHES_MAX, SMALL_SHARE_BYTES);
    assert_eq!(tenants(&group), [TENANT, OTHER, TENANT]);
    assert_eq!((lane.count, lane.bytes, lane.ring.len()), (0, 0, 0));
}

#[test]
fn a_tenant_that_is_alone_writes_as_much_as_a_group_holds() {
    let mut lane = JobLane::default();
    for bytes in [200 << 10, 10, 200 << 10, 10, 200 << 10, 10] {
        assert!(lane.push(write_state(TENANT, bytes)));
    }
    assert_eq!(lane.take_group(2, GROUP_BATCHES_MAX, SMALL_SHARE_BYTES).len(), 2);
    assert_eq!(lane.take_group(1024, GROUP_BATCHES_MAX, SMALL_SHARE_BYTES).len(), 4);
}

/// Planted fault: a queue in which every group takes the large writes that wait.
#[test]
fn small_writes_that_are_synced_with_large_ones_each_time_are_caught() {
    assert!(groups_of_small_writes(SMALL_SHARE_BYTES) > 0);
    assert_eq!(groups_of_small_writes(usize::MAX), 0, "nothing notices it");
}

#[test]
fn of_what_has_waited_long_one_job_is_served_and_all_of_it_where_no_turn_waits() {
    let queue = WriterQueue::default();
    for _ in 0..3 {
        queue.push(write(OTHER, WriterLane::Bulk)).expect("there is room");
    }
    queue.push(write(TENANT, WriterLane::Turn)).expect("there is room");
    queue.push(write(TENANT, WriterLane::Turn)).expect("there is room");
    assert_eq!(lanes(queue.next_passing(Duration::ZERO, 1024, 0)), [WriterLane::Bulk]);
    assert_eq!(lanes(queue.next_passing(Duration::ZERO, 1024, 1)), [WriterLane::Turn; 2]);
    assert_eq!(lanes(queue.next(Duration::ZERO, 1024)), [WriterLane::Bulk; 2]);
    assert!(matches!(queue.next(Duration::ZERO, 1024), WriterStep::Idle));
}
