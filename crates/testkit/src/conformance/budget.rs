//! Claims about budgets: reserved and settled in the commit of the entries, and never overshot by a second call.

use std::sync::Arc;

use dromia_contracts::Actor;
use dromia_contracts::budget::{BUDGETS_MAX, Budget, Measure, Payer, Per, Period};
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{Batch, BudgetRemove, BudgetSet, Claim, Commit, Mutation, Refusal, Store};

use super::scene::{
    Scene, agent_create, append, at, completed, input, model_called, model_replied, session_open, started,
};

pub(super) fn calls(limit: u64) -> Budget {
    let (per, measure, period) = (Per::Tenant, Measure::Calls, Period::Total);
    Budget { name: "b".to_owned(), per, of: None, measure, period, limit, declared: false }
}

pub(super) fn set(budget: Budget) -> Mutation {
    Mutation::BudgetSet(BudgetSet { budget })
}

fn paid(batch: Batch) -> Batch {
    Batch { payer: Some(Payer { actor: Actor::new("cli:ada"), priced: true }), ..batch }
}

/// A turn that claims the session and begins its first call.
fn turn(scene: &Scene) -> Batch {
    let (run, item) = (scene.run_id(), scene.item_id());
    let mut batch = scene.batch().with(Mutation::InboxPut(scene.put(item)));
    batch.claim = Some(scene.claim(run, 0, &[item]));
    paid(batch)
}

async fn used(scene: &Scene) -> Vec<u64> {
    let uses = scene.store.budgets(&scene.scope(), at(0)).await.expect("a read");
    uses.iter().map(|known| known.used).collect()
}

pub(super) async fn a_call_is_reserved_with_its_entry_and_settled_with_its_answer(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    // Three tokens of the request and at most 64 of the answer; the answer reports three and five.
    let tokens = Budget { measure: Measure::Tokens, ..calls(67) };
    scene.done(scene.batch().with(set(tokens))).await;
    let batch = turn(&scene);
    let run = batch.claim.as_ref().map(|claim| claim.run).expect("it claims");
    scene.done(batch).await;
    assert_eq!(used(&scene).await, [67]);
    let end = append(run, 1, 2, vec![model_replied(1, "hi"), completed()], RunStatus::Completed);
    scene.done(paid(scene.batch().with(Mutation::RunAppend(end)))).await;
    assert_eq!(used(&scene).await, [8]);
    let narrow = scene.scope().narrowed_to(scene.agent);
    assert_eq!(scene.store.budgets(&narrow, at(0)).await, Ok(Vec::new()));
}

pub(super) async fn a_batch_that_a_budget_has_no_room_for_leaves_no_row(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    scene.done(scene.batch().with(set(calls(0)))).await;
    let batch = turn(&scene);
    let run = batch.claim.as_ref().map(|claim| claim.run).expect("it claims");
    let Refusal::BudgetExhausted(full) = scene.refused(batch.clone()).await else {
        panic!("the budget has no room")
    };
    assert_eq!((full.budget.as_str(), full.limit, full.used, full.needed), ("b", 0, 0, 1));
    assert_eq!(scene.store.run(&scene.scope(), run).await, Ok(None));
    assert_eq!(used(&scene).await, [0]);
    // What nobody pays for is not charged.
    scene.done(Batch { payer: None, ..batch }).await;
    assert_eq!(used(&scene).await, [0]);
}

pub(super) async fn two_runs_do_not_both_get_the_last_of_a_budget(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    scene.done(scene.batch().with(set(calls(1)))).await;
    let (bob, bobs) = (scene.agent_id(), scene.session_id());
    scene.done(scene.batch().with(agent_create(bob, "bob")).with(session_open(bobs, bob, "main"))).await;
    let (run, item) = (scene.run_id(), scene.item_id());
    let mut other = scene.batch().with(Mutation::InboxPut(input(InboxOwner::Session(bobs), item)));
    let entries = vec![started(bob, bobs, 0, &[item]), model_called(1)];
    other.claim = Some(Claim { session: bobs, agent: bob, entries, ..scene.claim(run, 0, &[item]) });
    let (first, second) = (scene.store.commit(turn(&scene)), scene.store.commit(paid(other)));
    let (first, second) = (first.await, second.await);
    let done = [&first, &second].into_iter().filter(|answer| matches!(answer, Commit::Done(_))).count();
    assert_eq!(done, 1, "{first:?}, {second:?}");
    assert_eq!(used(&scene).await, [1]);
}

pub(super) async fn a_repeated_batch_is_charged_once(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    scene.done(scene.batch().with(set(calls(1)))).await;
    let batch = turn(&scene);
    let first = scene.done(batch.clone()).await;
    assert_eq!(scene.done(batch).await, first);
    assert_eq!(used(&scene).await, [1]);
}

pub(super) async fn a_budget_that_counts_otherwise_begins_anew(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    scene.done(scene.batch().with(set(calls(5)))).await;
    scene.done(turn(&scene)).await;
    scene.done(scene.batch().with(set(calls(9)))).await;
    assert_eq!(used(&scene).await, [1], "another limit counts the same");
    scene.done(scene.batch().with(set(Budget { per: Per::Agent, ..calls(9) }))).await;
    assert_eq!(used(&scene).await, [0]);
    let remove = || Mutation::BudgetRemove(BudgetRemove { name: "b".to_owned() });
    scene.done(scene.batch().with(remove())).await;
    scene.done(scene.batch().with(remove())).await;
    assert_eq!(used(&scene).await, Vec::<u64>::new());
}

pub(super) async fn a_tenant_has_so_many_budgets_and_a_stranger_sees_none(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let named = |number: usize| set(Budget { name: format!("b{number}"), ..calls(1) });
    for number in 0..BUDGETS_MAX {
        scene.done(scene.batch().with(named(number))).await;
    }
    assert!(matches!(scene.refused(scene.batch().with(named(BUDGETS_MAX))).await, Refusal::Malformed(_)));
    scene.done(scene.batch().with(named(0))).await;
    let bad = set(Budget { name: "B".to_owned(), ..calls(1) });
    assert!(matches!(scene.refused(scene.batch().with(bad)).await, Refusal::Malformed(_)));
    let both = paid(scene.batch().with(named(0)));
    assert!(matches!(scene.refused(both).await, Refusal::Malformed(_)));
    let stranger = Scene::open(Arc::clone(&scene.store), 2).await;
    assert_eq!(used(&stranger).await, Vec::<u64>::new());
}
