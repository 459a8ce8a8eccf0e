//! Claims about deliveries: prepared with their entry, begun and settled once, in order per target.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::channel::RECEIVER_ID_BYTES_MAX;
use dromia_contracts::delivery::{
    AttemptEnd, AttemptOutcome, DETAIL_BYTES_MAX, DeadReason, DeliveryRecord, DeliverySource, DeliveryState,
    DeliverySummary,
};
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::{
    AgentStateSet, CommitRefusal, DeliveryDrop, DeliveryFilter, DeliveryPrepare, DeliveryRedrive,
    DeliverySettle, FeedNumber, Mutation, PageRequest, Store,
};
use dromia_contracts::{DeliveryId, Digest, RunId, TenantId};

use super::scene::{StoreScene, run_append, run_completed, scene_time, settle_delivery, start_delivery};

const ORDERS: &str = "webhook:orders";
const BILLS: &str = "webhook:bills";

async fn read_record(scene: &StoreScene, id: DeliveryId) -> DeliveryRecord {
    let found = scene.store.delivery_record(&scene.tenant_scope(), id).await.expect("a read");
    found.expect("the delivery")
}

async fn delivery_state(scene: &StoreScene, id: DeliveryId) -> DeliveryState {
    read_record(scene, id).await.delivery.state
}

/// So many turns, each with a message to the target.
async fn prepare_messages(scene: &StoreScene, targets: &[&str]) -> Vec<DeliveryId> {
    let mut made = Vec::new();
    let head = scene.store.session(&scene.tenant_scope(), scene.session).await.expect("a read");
    let taken = head.expect("the session").head.taken;
    for (after, target) in (taken..).zip(targets) {
        let run = scene.begin_turn(after).await;
        made.push(scene.commit_reply(run, target).await);
    }
    made
}

async fn outbox_heads(
    scene: &StoreScene,
    page: PageRequest<(TenantId, String)>,
) -> Vec<(String, DeliveryId)> {
    let found = scene.store.open_deliveries(&StoreScene::node_operator(), page).await.expect("a read");
    found.into_iter().map(|open| (open.delivery.target, open.delivery.id)).collect()
}

pub(super) async fn a_message_is_prepared_with_its_entry_or_not_at_all(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let run = scene.begin_turn(0).await;
    let id = scene.delivery_id();
    let prepare = scene.prepare_delivery(run, id, ORDERS);
    let alone = scene.refuse_mutation(Mutation::DeliveryPrepare(prepare.clone())).await;
    assert!(matches!(alone, CommitRefusal::Malformed(_)), "its entry is of no other batch: {alone:?}");
    for wrong in [
        DeliveryPrepare { seq: 5, ..prepare.clone() },
        DeliveryPrepare { seq: 2, ..prepare.clone() },
        DeliveryPrepare { agent: scene.agent_id(), ..prepare.clone() },
        DeliveryPrepare { session: scene.session_id(), ..prepare.clone() },
        DeliveryPrepare { target: String::new(), ..prepare.clone() },
        DeliveryPrepare { target: "x".repeat(129), ..prepare.clone() },
    ] {
        let mut batch = scene.reply_batch(run, id, ORDERS);
        batch.mutations[0] = Mutation::DeliveryPrepare(wrong.clone());
        let refusal = scene.commit_refused(batch).await;
        assert!(matches!(refusal, CommitRefusal::Malformed(_)), "{wrong:?}: {refusal:?}");
        assert_eq!(scene.store.delivery_record(&scene.tenant_scope(), id).await, Ok(None));
    }
    // The append is refused, and the message with it.
    let mut stale = scene.reply_batch(run, id, ORDERS);
    stale.mutations[1] =
        Mutation::RunAppend(run_append(run, 1, 3, vec![run_completed()], RunStatus::Completed));
    scene.commit_refused(stale).await;
    assert_eq!(scene.store.delivery_record(&scene.tenant_scope(), id).await, Ok(None));

    let batch = scene.reply_batch(run, id, ORDERS);
    let receipt = scene.commit_done(batch.clone()).await;
    assert_eq!(scene.commit_done(batch.clone()).await, receipt, "the second time changes nothing");
    let row = DeliverySummary {
        id,
        target: ORDERS.to_owned(),
        position: 1,
        prepared_at: scene_time(10),
        state: DeliveryState::Prepared,
        reason: None,
        attempts: 0,
        redrives: 0,
        spent: 0,
        since: scene_time(10),
        due_at: scene_time(10),
        holder: None,
        updated_at: scene_time(10),
        feed: None,
        source: DeliverySource { agent: scene.agent, session: scene.session, run, seq: 4 },
    };
    let expected = DeliveryRecord { delivery: row, body: prepare.body.clone(), attempts: Vec::new() };
    assert_eq!(read_record(&scene, id).await, expected);
    let mut other = batch;
    other.mutations[0] =
        Mutation::DeliveryPrepare(DeliveryPrepare { body: Bytes::from_static(b"{}"), ..prepare });
    assert!(matches!(scene.commit_refused(other).await, CommitRefusal::Malformed(_)), "an id is one message");
}

pub(super) async fn a_message_of_a_claim_that_is_not_granted_is_not_prepared(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let ended = |run: RunId, id: DeliveryId, after: u64, item| {
        let mut claim = scene.claim_session(run, after, &[item]);
        claim.head.status = RunStatus::Completed;
        let prepare = DeliveryPrepare { seq: 2, ..scene.prepare_delivery(run, id, ORDERS) };
        let mut batch = scene.new_batch().with_mutation(Mutation::InboxPut(scene.put_input(item)));
        batch = batch.with_mutation(Mutation::DeliveryPrepare(prepare));
        batch.claim = Some(claim);
        batch
    };
    let (run, id) = (scene.run_id(), scene.delivery_id());
    let granted = ended(run, id, 0, scene.item_id());
    assert!(scene.commit_done(granted.clone()).await.claimed);
    assert!(scene.commit_done(granted).await.claimed, "again");
    assert_eq!(delivery_state(&scene, id).await, DeliveryState::Prepared);
    let (run, id) = (scene.run_id(), scene.delivery_id());
    // The claim knows the inbox wrongly, so its input is stored and nothing is said.
    let receipt = scene.commit_done(ended(run, id, 9, scene.item_id())).await;
    assert_eq!((receipt.claimed, receipt.positions), (false, vec![2]));
    assert_eq!(scene.store.delivery_record(&scene.tenant_scope(), id).await, Ok(None));
}

pub(super) async fn an_attempt_begins_once_and_only_for_the_first_of_its_target(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let made = prepare_messages(&scene, &[ORDERS, ORDERS, BILLS]).await;
    let blocked = scene.refuse_mutation(start_delivery(made[1], 1, 1)).await;
    assert_eq!(blocked, CommitRefusal::DeliveryBlocked { by: made[0] });
    let early = scene.refuse_mutation(start_delivery(made[0], 2, 1)).await;
    let found = DeliveryState::Prepared;
    assert_eq!(early, CommitRefusal::DeliveryMoved { found, attempts: 0, redrives: 0 });
    scene.begin_attempt(made[2], 1).await;

    let batch = scene.new_batch().with_mutation(start_delivery(made[0], 1, 1));
    let other = scene.new_batch().with_mutation(start_delivery(made[0], 1, 2));
    scene.commit_done(batch.clone()).await;
    scene.commit_done(batch).await;
    let found = DeliveryState::Sending;
    let second = CommitRefusal::DeliveryMoved { found, attempts: 1, redrives: 0 };
    assert_eq!(scene.commit_refused(other).await, second, "another life was quicker");
    let row = read_record(&scene, made[0]).await;
    assert_eq!((row.delivery.state, row.delivery.attempts), (DeliveryState::Sending, 1));
    assert_eq!(row.delivery.holder, Some(Digest::from_bytes([1; 32])));
    assert_eq!((row.attempts.len(), &row.attempts[0].ended), (1, &None));
    let nobody = scene.refuse_mutation(start_delivery(scene.delivery_id(), 1, 1)).await;
    assert!(matches!(nobody, CommitRefusal::NotFound(_)), "{nobody:?}");
}

pub(super) async fn what_came_of_an_attempt_is_said_once_and_kept_as_a_receipt(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let id = prepare_messages(&scene, &[ORDERS]).await[0];
    let early = scene.refuse_mutation(settle_delivery(id, 1, DeliveryState::Delivered)).await;
    assert!(matches!(early, CommitRefusal::DeliveryMoved { .. }), "{early:?}");
    scene.begin_attempt(id, 1).await;
    let end = AttemptEnd {
        at: scene_time(31),
        receiver_id: None,
        outcome: AttemptOutcome::NotSent,
        status: None,
        detail: "x".repeat(DETAIL_BYTES_MAX + 1),
    };
    let receiver_id = Some("i".repeat(RECEIVER_ID_BYTES_MAX));
    let good = AttemptEnd { detail: "x".repeat(DETAIL_BYTES_MAX), receiver_id, ..end.clone() };
    let long_id = AttemptEnd { receiver_id: Some("i".repeat(RECEIVER_ID_BYTES_MAX + 1)), ..good.clone() };
    let settled = |end: &AttemptEnd, state, reason| {
        let (end, due_at) = (end.clone(), scene_time(50));
        let holder = Digest::from_bytes([1; 32]);
        let settle = DeliverySettle { delivery: id, attempt: 1, holder, end, state, reason, due_at };
        Mutation::DeliverySettle(settle)
    };
    for wrong in [
        settled(&end, DeliveryState::Failed, None),
        settled(&long_id, DeliveryState::Failed, None),
        settled(&good, DeliveryState::Prepared, None),
        settled(&good, DeliveryState::Sending, None),
        settled(&good, DeliveryState::Dead, None),
        settled(&good, DeliveryState::Failed, Some(DeadReason::Gone)),
    ] {
        let refusal = scene.refuse_mutation(wrong.clone()).await;
        assert!(matches!(refusal, CommitRefusal::Malformed(_)), "{wrong:?}: {refusal:?}");
    }
    let batch = scene.new_batch().with_mutation(settled(&good, DeliveryState::Failed, None));
    scene.commit_done(batch.clone()).await;
    scene.commit_done(batch.clone()).await;
    let row = read_record(&scene, id).await;
    assert_eq!((row.delivery.state, row.delivery.due_at), (DeliveryState::Failed, scene_time(50)));
    assert_eq!(row.attempts[0].ended.as_ref(), Some(&good));
    scene.begin_attempt(id, 2).await;
    scene.commit_done(batch).await;
    assert_eq!(delivery_state(&scene, id).await, DeliveryState::Sending, "an old outcome says nothing new");
    let late = settled(&AttemptEnd { at: scene_time(99), ..good }, DeliveryState::Delivered, None);
    let refusal = scene.refuse_mutation(late).await;
    let found = DeliveryState::Sending;
    assert_eq!(refusal, CommitRefusal::DeliveryMoved { found, attempts: 2, redrives: 0 });
    scene.settle_attempt(id, 2, DeliveryState::Delivered).await;
    let row = read_record(&scene, id).await;
    assert_eq!(row.delivery.state, DeliveryState::Delivered);
    let receipts: Vec<_> = row.attempts.iter().map(|attempt| (attempt.number, attempt.began_at)).collect();
    assert_eq!(receipts, [(1, scene_time(21)), (2, scene_time(22))]);
    let again = scene.refuse_mutation(start_delivery(id, 3, 1)).await;
    assert!(
        matches!(again, CommitRefusal::DeliveryMoved { .. }),
        "what arrived is not sent again: {again:?}"
    );
}

pub(super) async fn a_dead_or_unknown_message_blocks_nobody_and_a_failed_one_does(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let made = prepare_messages(&scene, &[ORDERS, ORDERS, ORDERS]).await;
    scene.begin_attempt(made[0], 1).await;
    scene.settle_attempt(made[0], 1, DeliveryState::Failed).await;
    let blocked = scene.refuse_mutation(start_delivery(made[1], 1, 1)).await;
    assert_eq!(blocked, CommitRefusal::DeliveryBlocked { by: made[0] });
    scene.begin_attempt(made[0], 2).await;
    scene.settle_attempt(made[0], 2, DeliveryState::UnknownAfterSend).await;
    scene.begin_attempt(made[1], 1).await;
    scene.settle_attempt(made[1], 1, DeliveryState::Dead).await;
    assert_eq!(read_record(&scene, made[1]).await.delivery.reason, Some(DeadReason::Attempts));
    let drop = DeliveryDrop {
        delivery: made[2],
        attempts: 0,
        redrives: 0,
        reason: DeadReason::Expired,
        at: scene_time(60),
    };
    let stale = DeliveryDrop { attempts: 1, ..drop.clone() };
    let refusal = scene.refuse_mutation(Mutation::DeliveryDrop(stale)).await;
    assert!(matches!(refusal, CommitRefusal::DeliveryMoved { .. }), "{refusal:?}");
    for _ in 0..2 {
        scene.commit_mutation(Mutation::DeliveryDrop(drop.clone())).await;
    }
    assert_eq!(read_record(&scene, made[2]).await.delivery.reason, Some(DeadReason::Expired));
    assert_eq!(outbox_heads(&scene, PageRequest::first_page(9)).await, [], "nothing is open any more");
}

pub(super) async fn a_message_is_redriven_once_however_often_it_is_asked(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let id = prepare_messages(&scene, &[ORDERS]).await[0];
    let redrive = |redrives, ms| {
        let redrive = DeliveryRedrive { delivery: id, redrives, at: scene_time(ms) };
        scene.new_batch().with_mutation(Mutation::DeliveryRedrive(redrive))
    };
    let refusal = scene.commit_refused(redrive(0, 70)).await;
    let found = DeliveryState::Prepared;
    assert_eq!(refusal, CommitRefusal::DeliveryMoved { found, attempts: 0, redrives: 0 });
    scene.begin_attempt(id, 1).await;
    scene.settle_attempt(id, 1, DeliveryState::Dead).await;
    scene.commit_done(redrive(0, 70)).await;
    scene.commit_done(redrive(0, 70)).await;
    let DeliverySummary { state, reason, redrives, spent, since, .. } =
        read_record(&scene, id).await.delivery;
    assert_eq!((state, reason), (DeliveryState::Prepared, None));
    assert_eq!((redrives, spent, since), (1, 1, scene_time(70)));
    let second = scene.commit_refused(redrive(0, 71)).await;
    assert!(matches!(second, CommitRefusal::DeliveryMoved { .. }), "somebody else was quicker: {second:?}");
    scene.begin_attempt(id, 2).await;
    scene.settle_attempt(id, 2, DeliveryState::Delivered).await;
    scene.commit_done(redrive(0, 70)).await;
    assert_eq!(
        read_record(&scene, id).await.delivery.state,
        DeliveryState::Delivered,
        "an old wish is fulfilled"
    );
}

pub(super) async fn the_outbox_shows_the_first_open_message_of_each_target(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let theirs = StoreScene::open_scene(Arc::clone(&scene.store), 2).await;
    let made = prepare_messages(&scene, &[ORDERS, BILLS, ORDERS]).await;
    let other = prepare_messages(&theirs, &[ORDERS]).await[0];
    let mut expected = vec![
        ((scene.tenant, BILLS.to_owned()), made[1]),
        ((scene.tenant, ORDERS.to_owned()), made[0]),
        ((theirs.tenant, ORDERS.to_owned()), other),
    ];
    expected.sort();
    let expected: Vec<_> = expected.into_iter().map(|((_, target), id)| (target, id)).collect();
    assert_eq!(outbox_heads(&scene, PageRequest::first_page(9)).await, expected);
    let mut seen = Vec::new();
    let mut page = PageRequest::first_page(1);
    loop {
        let found =
            scene.store.open_deliveries(&StoreScene::node_operator(), page.clone()).await.expect("a read");
        let Some(last) = found.last() else { break };
        page.after = Some((last.tenant, last.delivery.target.clone()));
        seen.extend(found.into_iter().map(|open| (open.delivery.target, open.delivery.id)));
    }
    assert_eq!(seen, expected);
    for (tenant, target, first) in [
        (scene.tenant, ORDERS, Some(made[0])),
        (scene.tenant, BILLS, Some(made[1])),
        (theirs.tenant, ORDERS, Some(other)),
        (theirs.tenant, BILLS, None),
    ] {
        let found = scene.store.first_open_delivery(&StoreScene::node_operator(), tenant, target).await;
        assert_eq!(
            found.expect("a read").map(|open| (open.tenant, open.delivery.id)),
            first.map(|id| (tenant, id))
        );
    }
    let waiting = scene.store.outbox_waiting(&StoreScene::node_operator(), scene.tenant, ORDERS).await;
    assert_eq!(waiting, Ok(2));
    scene.begin_attempt(made[0], 1).await;
    scene.settle_attempt(made[0], 1, DeliveryState::Delivered).await;
    assert!(outbox_heads(&scene, PageRequest::first_page(9)).await.contains(&(ORDERS.to_owned(), made[2])));
}

pub(super) async fn deliveries_are_listed_newest_first_by_state_and_target(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let made = prepare_messages(&scene, &[ORDERS, BILLS, ORDERS, BILLS]).await;
    scene.begin_attempt(made[0], 1).await;
    scene.settle_attempt(made[0], 1, DeliveryState::Dead).await;
    let listed = async |state: Option<DeliveryState>, target: Option<&str>, page| {
        let filter = DeliveryFilter { state, target: target.map(str::to_owned) };
        let found = scene.store.deliveries(&scene.tenant_scope(), filter, page).await.expect("a read");
        found.into_iter().map(|delivery| delivery.id).collect::<Vec<_>>()
    };
    let newest: Vec<_> = made.iter().rev().copied().collect();
    assert_eq!(listed(None, None, PageRequest::first_page(9)).await, newest);
    assert_eq!(listed(None, None, PageRequest { after: Some(made[2]), limit: 1 }).await, [made[1]]);
    assert_eq!(listed(Some(DeliveryState::Dead), None, PageRequest::first_page(9)).await, [made[0]]);
    assert_eq!(
        listed(Some(DeliveryState::Prepared), Some(ORDERS), PageRequest::first_page(9)).await,
        [made[2]]
    );
    assert_eq!(listed(Some(DeliveryState::Delivered), None, PageRequest::first_page(9)).await, []);
    assert_eq!(listed(None, Some(BILLS), PageRequest::first_page(9)).await, [made[3], made[1]]);
}

pub(super) async fn a_stranger_sees_and_moves_no_delivery(store: Arc<dyn Store>) {
    let mine = StoreScene::open_scene(store, 1).await;
    let theirs = StoreScene::open_scene(Arc::clone(&mine.store), 2).await;
    let id = prepare_messages(&mine, &[ORDERS]).await[0];
    let store = &mine.store;
    assert_eq!(store.delivery_record(&theirs.tenant_scope(), id).await, Ok(None));
    let all = DeliveryFilter::default();
    assert_eq!(
        store.deliveries(&theirs.tenant_scope(), all.clone(), PageRequest::first_page(9)).await,
        Ok(Vec::new())
    );
    let narrow = mine.tenant_scope().narrowed_to(mine.agent_id());
    assert_eq!(store.delivery_record(&narrow, id).await, Ok(None));
    assert_eq!(store.deliveries(&narrow, all, PageRequest::first_page(9)).await, Ok(Vec::new()));
    for mutation in [
        start_delivery(id, 1, 1),
        settle_delivery(id, 1, DeliveryState::Delivered),
        Mutation::DeliveryRedrive(DeliveryRedrive { delivery: id, redrives: 0, at: scene_time(70) }),
        Mutation::FeedNumber(FeedNumber { after: 0, deliveries: vec![id] }),
    ] {
        let refusal = theirs.commit_refused(theirs.new_batch().with_mutation(mutation.clone())).await;
        assert!(matches!(refusal, CommitRefusal::NotFound(_)), "{mutation:?}: {refusal:?}");
    }
    let run = theirs.begin_turn(0).await;
    let mut crossing = theirs.reply_batch(run, theirs.delivery_id(), ORDERS);
    crossing.tenant = mine.tenant;
    theirs.commit_refused(crossing).await;
    assert_eq!(delivery_state(&mine, id).await, DeliveryState::Prepared);
}

pub(super) async fn erasing_an_agent_takes_its_messages_and_leaves_the_feeds_end(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let made = prepare_messages(&scene, &[ORDERS, ORDERS]).await;
    scene.begin_attempt(made[0], 1).await;
    let number = FeedNumber { after: 0, deliveries: made.clone() };
    scene.commit_mutation(Mutation::FeedNumber(number)).await;
    let from = vec![AgentState::Running];
    let set = AgentStateSet { agent: scene.agent, from, to: AgentState::Deleting };
    scene.commit_mutation(Mutation::AgentStateSet(set)).await;
    assert_eq!(
        scene.store.delivery_record(&scene.tenant_scope(), made[0]).await,
        Ok(None),
        "half an agent is never seen"
    );
    let mut erased = 0;
    loop {
        let page = scene.store.erase_agent_page(&scene.tenant_scope(), scene.agent).await.expect("a page");
        erased += page.0.deliveries;
        if page.1 {
            break;
        }
    }
    assert_eq!(erased, 2);
    assert_eq!(outbox_heads(&scene, PageRequest::first_page(9)).await, []);
    let feed = scene.store.feed_state(&scene.tenant_scope()).await.expect("a read");
    assert_eq!(feed.last, 2, "a number is never given twice");
    assert_eq!(scene.store.feed_items(&scene.tenant_scope(), 0, 9).await, Ok(Vec::new()));
}
