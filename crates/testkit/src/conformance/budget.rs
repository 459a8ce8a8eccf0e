//! Claims about budgets: reserved and settled in the commit of the entries, and never overshot by a second call.

use std::sync::Arc;

use dromia_contracts::Actor;
use dromia_contracts::budget::{
    BUDGETS_MAX, BudgetDefinition, BudgetMeasure, BudgetPayer, BudgetPeriod, BudgetScope,
};
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    BudgetRemove, BudgetSet, CommitOutcome, CommitRefusal, Mutation, Store, TurnClaim, WriteBatch,
};

use super::scene::{
    StoreScene, agent_create, model_called, model_replied, new_input, run_append, run_completed, run_started,
    scene_time, session_open, shift_entries,
};

pub(super) fn call_budget(limit: u64) -> BudgetDefinition {
    let (per, measure, period) = (BudgetScope::Tenant, BudgetMeasure::Calls, BudgetPeriod::Total);
    BudgetDefinition { name: "b".to_owned(), per, of: None, measure, period, limit, declared: false }
}

pub(super) fn set_budget(budget: BudgetDefinition) -> Mutation {
    Mutation::BudgetSet(BudgetSet { budget })
}

/// Milliseconds of a period.
const HOUR: i64 = 3_600_000;

fn calls_of_an_hour(limit: u64) -> BudgetDefinition {
    BudgetDefinition { period: BudgetPeriod::Hour, ..call_budget(limit) }
}

fn with_payer(batch: WriteBatch) -> WriteBatch {
    WriteBatch { payer: Some(BudgetPayer { actor: Actor::new("cli:ada"), priced: true }), ..batch }
}

/// A turn that claims the session and begins its first call.
fn turn_batch(scene: &StoreScene) -> WriteBatch {
    let (run, item) = (scene.run_id(), scene.item_id());
    let mut batch = scene.new_batch().with_mutation(Mutation::InboxPut(scene.put_input(item)));
    batch.claim = Some(scene.claim_session(run, 0, &[item]));
    with_payer(batch)
}

async fn used_amounts(scene: &StoreScene) -> Vec<u64> {
    used_at(scene, 0).await
}

async fn used_at(scene: &StoreScene, ms: i64) -> Vec<u64> {
    let uses = scene.store.budgets(&scene.tenant_scope(), scene_time(ms)).await.expect("a read");
    uses.iter().map(|known| known.used).collect()
}

/// A turn in the session of an agent of its own.
async fn turn_of_another(scene: &StoreScene, handle: &str) -> WriteBatch {
    let (other, session) = (scene.agent_id(), scene.session_id());
    let opened = scene
        .new_batch()
        .with_mutation(agent_create(other, handle))
        .with_mutation(session_open(session, other, "main"));
    scene.commit_done(opened).await;
    let (run, item) = (scene.run_id(), scene.item_id());
    let mut batch =
        scene.new_batch().with_mutation(Mutation::InboxPut(new_input(InboxOwner::Session(session), item)));
    let entries = vec![run_started(other, session, 0, &[item]), model_called(1)];
    batch.claim = Some(TurnClaim { session, agent: other, entries, ..scene.claim_session(run, 0, &[item]) });
    with_payer(batch)
}

pub(super) async fn a_call_is_reserved_with_its_entry_and_settled_with_its_answer(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    // Three tokens of the request and at most 64 of the answer; the answer reports three and five.
    let tokens = BudgetDefinition { measure: BudgetMeasure::Tokens, ..call_budget(67) };
    scene.commit_mutation(set_budget(tokens)).await;
    let batch = turn_batch(&scene);
    let run = batch.claim.as_ref().map(|claim| claim.run).expect("it claims");
    scene.commit_done(batch).await;
    assert_eq!(used_amounts(&scene).await, [67]);
    let end = run_append(run, 1, 2, vec![model_replied(1, "hi"), run_completed()], RunStatus::Completed);
    scene.commit_done(with_payer(scene.new_batch().with_mutation(Mutation::RunAppend(end)))).await;
    assert_eq!(used_amounts(&scene).await, [8]);
    let narrow = scene.tenant_scope().narrowed_to(scene.agent);
    assert_eq!(scene.store.budgets(&narrow, scene_time(0)).await, Ok(Vec::new()));
}

pub(super) async fn a_batch_that_a_budget_has_no_room_for_leaves_no_row(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    scene.commit_mutation(set_budget(call_budget(0))).await;
    let batch = turn_batch(&scene);
    let run = batch.claim.as_ref().map(|claim| claim.run).expect("it claims");
    let CommitRefusal::BudgetExhausted(full) = scene.commit_refused(batch.clone()).await else {
        panic!("the budget has no room")
    };
    assert_eq!((full.budget.as_str(), full.limit, full.used, full.needed), ("b", 0, 0, 1));
    assert_eq!(scene.store.run(&scene.tenant_scope(), run).await, Ok(None));
    assert_eq!(used_amounts(&scene).await, [0]);
    // A batch without a payer is not charged.
    scene.commit_done(WriteBatch { payer: None, ..batch }).await;
    assert_eq!(used_amounts(&scene).await, [0]);
}

pub(super) async fn two_runs_do_not_both_get_the_last_of_a_budget(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    scene.commit_mutation(set_budget(call_budget(1))).await;
    let other = turn_of_another(&scene, "bob").await;
    let (first, second) = (scene.store.commit(turn_batch(&scene)), scene.store.commit(other));
    let (first, second) = (first.await, second.await);
    let done =
        [&first, &second].into_iter().filter(|answer| matches!(answer, CommitOutcome::Done(_))).count();
    assert_eq!(done, 1, "{first:?}, {second:?}");
    assert_eq!(used_amounts(&scene).await, [1]);
}

pub(super) async fn a_repeated_batch_is_charged_once(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    scene.commit_mutation(set_budget(call_budget(1))).await;
    let batch = turn_batch(&scene);
    let first = scene.commit_done(batch.clone()).await;
    assert_eq!(scene.commit_done(batch).await, first);
    assert_eq!(used_amounts(&scene).await, [1]);
}

pub(super) async fn a_period_begins_with_its_first_call_and_another_count(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    scene.commit_mutation(set_budget(calls_of_an_hour(1))).await;
    scene.commit_done(turn_batch(&scene)).await;
    let other = turn_of_another(&scene, "bob").await;
    let CommitRefusal::BudgetExhausted(full) = scene.commit_refused(other.clone()).await else {
        panic!("the budget of this hour is used up")
    };
    let until = full.until.expect("an hour ends");
    assert!(scene_time(0) < until && until <= scene_time(HOUR), "{until}");
    assert_eq!((used_amounts(&scene).await, used_at(&scene, HOUR).await), (vec![1], vec![0]));
    scene.commit_done(shift_entries(other, HOUR)).await;
    assert_eq!(used_at(&scene, HOUR).await, [1]);
}

pub(super) async fn a_call_that_ends_in_a_later_period_leaves_the_count_of_that_period(
    store: Arc<dyn Store>,
) {
    let scene = StoreScene::open_scene(store, 1).await;
    scene.commit_mutation(set_budget(calls_of_an_hour(1))).await;
    let before = turn_batch(&scene);
    let run = before.claim.as_ref().map(|claim| claim.run).expect("it claims");
    scene.commit_done(before).await;
    scene.commit_done(shift_entries(turn_of_another(&scene, "bob").await, HOUR)).await;
    let end = run_append(run, 1, 2, vec![model_replied(1, "hi"), run_completed()], RunStatus::Completed);
    scene
        .commit_done(shift_entries(
            with_payer(scene.new_batch().with_mutation(Mutation::RunAppend(end))),
            HOUR,
        ))
        .await;
    assert_eq!(used_at(&scene, HOUR).await, [1], "it counts in the hour in which it began");
    let third = shift_entries(turn_of_another(&scene, "carol").await, HOUR);
    assert!(matches!(scene.commit_refused(third).await, CommitRefusal::BudgetExhausted(_)));
}

pub(super) async fn a_wavering_clock_grants_no_period_budget_twice(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    scene.commit_mutation(set_budget(calls_of_an_hour(3))).await;
    let first = turn_batch(&scene);
    let run = first.claim.as_ref().map(|claim| claim.run).expect("it claims");
    scene.commit_done(first).await;
    let next = |step: u32, ms| {
        let after = 2 * u64::from(step);
        let entries = vec![model_replied(step, "hi"), model_called(step + 1)];
        let more = run_append(run, 1, after, entries, RunStatus::Running);
        shift_entries(with_payer(scene.new_batch().with_mutation(Mutation::RunAppend(more))), ms)
    };
    // The first of these begins the next hour, and the clock goes back and on again.
    for (step, ms) in [(1, HOUR), (2, 0), (3, HOUR)] {
        scene.commit_done(next(step, ms)).await;
    }
    for ms in [0, HOUR] {
        let CommitRefusal::BudgetExhausted(full) = scene.commit_refused(next(4, ms)).await else {
            panic!("the budget of the later hour is used up")
        };
        assert!(full.until.is_some_and(|until| until > scene_time(HOUR)), "{full:?}");
        assert_eq!(used_at(&scene, ms).await, [3]);
    }
    scene.commit_done(next(4, 2 * HOUR)).await;
    assert_eq!(used_at(&scene, 2 * HOUR).await, [1]);
}

pub(super) async fn a_budget_that_counts_otherwise_begins_anew(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    scene.commit_mutation(set_budget(call_budget(5))).await;
    scene.commit_done(turn_batch(&scene)).await;
    scene.commit_mutation(set_budget(call_budget(9))).await;
    assert_eq!(used_amounts(&scene).await, [1], "another limit counts the same");
    scene.commit_mutation(set_budget(BudgetDefinition { per: BudgetScope::Agent, ..call_budget(9) })).await;
    assert_eq!(used_amounts(&scene).await, [0]);
    let remove = || Mutation::BudgetRemove(BudgetRemove { name: "b".to_owned() });
    scene.commit_mutation(remove()).await;
    scene.commit_mutation(remove()).await;
    assert_eq!(used_amounts(&scene).await, Vec::<u64>::new());
}

pub(super) async fn a_tenant_has_so_many_budgets_and_a_stranger_sees_none(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let named = |number: usize| set_budget(BudgetDefinition { name: format!("b{number}"), ..call_budget(1) });
    for number in 0..BUDGETS_MAX {
        scene.commit_mutation(named(number)).await;
    }
    assert!(matches!(scene.refuse_mutation(named(BUDGETS_MAX)).await, CommitRefusal::Malformed(_)));
    scene.commit_mutation(named(0)).await;
    let bad = set_budget(BudgetDefinition { name: "B".to_owned(), ..call_budget(1) });
    assert!(matches!(scene.refuse_mutation(bad).await, CommitRefusal::Malformed(_)));
    let both = with_payer(scene.new_batch().with_mutation(named(0)));
    assert!(matches!(scene.commit_refused(both).await, CommitRefusal::Malformed(_)));
    let stranger = StoreScene::open_scene(Arc::clone(&scene.store), 2).await;
    assert_eq!(used_amounts(&stranger).await, Vec::<u64>::new());
}
