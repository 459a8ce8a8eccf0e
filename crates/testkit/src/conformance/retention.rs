//! Claims about sessions that are erased one by one: what keeps one keeps it, one that goes is hidden at once with its
//! children, its pages may stop anywhere, and a hold keeps its session, its agent and its tenant.

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::approval::ApprovalState;
use dromia_contracts::entry::Entry;
use dromia_contracts::id_fragment::IdKind;
use dromia_contracts::retention::{SessionHold, SessionObstacle, TREE_ERASED_MAX};
use dromia_contracts::run::{RunKind, RunStatus};
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    AgentStateSet, CommitRefusal, Mutation, PageRequest, RunFilter, SessionErase, SessionHoldSet,
    SessionOpen, Store, TurnClaim,
};
use dromia_contracts::task::RunOrigin;
use dromia_contracts::{Actor, CallId, RunId, SessionId};
use jiff::Timestamp;

use super::approval;
use super::scene::{
    StoreScene, agent_create, as_import, model_called, model_replied, new_input, run_append, run_completed,
    run_started, scene_time, session_key, session_open,
};

/// Later than everything that a scene writes.
fn much_later() -> Timestamp {
    scene_time(86_400_000)
}

pub(super) fn erase_mutation(session: SessionId) -> Mutation {
    Mutation::SessionErase(SessionErase { session, idle_before: None, at: much_later() })
}

pub(super) fn hold_mutation(session: SessionId, held: bool) -> Mutation {
    let hold = held.then(|| SessionHold { by: Actor::new("token:ops"), since: scene_time(20) });
    Mutation::SessionHoldSet(SessionHoldSet { session, hold })
}

/// Ends a turn of any session, with an answer as long as so many bytes.
async fn end_turn(scene: &StoreScene, session: SessionId, after: u64, bytes: usize) -> RunId {
    let (run, item) = (scene.run_id(), scene.item_id());
    let put = new_input(InboxOwner::Session(session), item);
    let mut batch = scene.new_batch().with_mutation(Mutation::InboxPut(put));
    let mut entries = vec![run_started(scene.agent, session, after, &[item]), model_called(1)];
    let opened =
        scene.store.session(&scene.tenant_scope(), session).await.expect("a read").expect("a session");
    if let (Some(origin), Some(Entry::RunStarted(started))) =
        (opened.origin, entries.first_mut().map(|first| &mut first.entry))
    {
        (started.kind, started.origin) = (origin.kind, Some(origin));
    }
    let claim = scene.claim_session(run, after, &[item]);
    batch.claim = Some(TurnClaim { session, entries, ..claim });
    assert!(scene.commit_done(batch).await.claimed, "a free session is claimed");
    let reply = vec![model_replied(1, vec![b'r'; bytes]), run_completed()];
    scene.commit_mutation(Mutation::RunAppend(run_append(run, 1, 2, reply, RunStatus::Completed))).await;
    run
}

/// Opens a session for a worker of a run, as a child of the run's session.
async fn open_child(scene: &StoreScene, parent: SessionId, run: RunId) -> SessionId {
    let session = scene.session_id();
    let Mutation::SessionOpen(open) = session_open(session, scene.agent, &session.to_string()) else {
        unreachable!("it opens a session")
    };
    let origin = RunOrigin {
        run,
        call: CallId { step: 1, index: 0 },
        kind: RunKind::Worker,
        session: parent,
        position: 1,
        topic: None,
        role: None,
        deadline_ms: None,
        agent: scene.agent,
        root: run,
        depth: 1,
        grants: Vec::new(),
    };
    let open = SessionOpen { origin: Some(Box::new(origin)), ..open };
    scene.commit_mutation(Mutation::SessionOpen(open)).await;
    session
}

/// The sessions that may be erased, with how many go with each.
async fn due(scene: &StoreScene, before: Timestamp) -> Vec<(SessionId, u64)> {
    let (scope, page) = (scene.tenant_scope(), PageRequest::first_page(PageRequest::<SessionId>::LIMIT_MAX));
    let page = scene.store.idle_sessions(&scope, before, page).await.expect("a read");
    assert_eq!(page.next, None, "all were looked at");
    page.due.into_iter().map(|idle| (idle.session, idle.children)).collect()
}

async fn erase_rest(scene: &StoreScene) -> (u64, u64, u64) {
    let (store, operator) = (&scene.store, StoreScene::node_operator());
    let mut sums = (0, 0, 0);
    for (tenant, session) in store.erasing_sessions(&operator).await.expect("a read") {
        assert_eq!(tenant, scene.tenant);
        for page in 0.. {
            assert!(page < 100, "a few pages are enough");
            let (erased, last) =
                store.erase_session_page(&scene.tenant_scope(), session).await.expect("a page");
            sums = (sums.0 + erased.sessions, sums.1 + erased.runs, sums.2 + erased.entries);
            if last {
                break;
            }
        }
    }
    assert_eq!(store.erasing_sessions(&operator).await, Ok(Vec::new()));
    sums
}

pub(super) async fn an_erased_session_is_hidden_at_once_with_its_children_and_goes_page_by_page(
    store: Arc<dyn Store>,
) {
    let scene = StoreScene::open_scene(store, 1).await;
    let scope = scene.tenant_scope();
    let other = scene.session_id();
    scene.commit_mutation(session_open(other, scene.agent, "other")).await;
    let kept = end_turn(&scene, other, 0, 5).await;
    let mut runs = Vec::new();
    for after in 0..70 {
        runs.push(end_turn(&scene, scene.session, after, 5_000).await);
    }
    let child = open_child(&scene, scene.session, runs[0]).await;
    runs.push(end_turn(&scene, child, 0, 5).await);
    assert_eq!(due(&scene, much_later()).await, [(scene.session, 1), (other, 0)]);
    let refusal = scene.refuse_mutation(erase_mutation(child)).await;
    assert_eq!(refusal, CommitRefusal::SessionKept { session: child, obstacle: SessionObstacle::Parent });

    scene.commit_mutation(erase_mutation(scene.session)).await;
    scene.commit_mutation(erase_mutation(scene.session)).await;
    assert_eq!(due(&scene, much_later()).await, [(other, 0)]);
    for session in [scene.session, child] {
        assert_eq!(scene.store.session(&scope, session).await, Ok(None));
        let items = scene.store.inbox_items(&scope, InboxOwner::Session(session), 0, 9).await;
        assert_eq!(items, Ok(Vec::new()));
        let part = session.to_string()[28..].parse().expect("the last digits");
        assert_eq!(scene.store.ids_like(&scope, IdKind::Session, part, 9).await, Ok(Vec::new()));
        let late = Mutation::InboxPut(new_input(InboxOwner::Session(session), scene.item_id()));
        assert!(matches!(scene.refuse_mutation(late).await, CommitRefusal::NotFound(_)));
    }
    for run in &runs {
        assert_eq!(scene.store.run(&scope, *run).await, Ok(None));
        assert_eq!(scene.store.journal_entries(&scope, *run, 0, 9).await, Ok(Vec::new()));
    }
    let found = scene.store.runs(&scope, RunFilter::default(), PageRequest::first_page(9)).await;
    assert_eq!(found.expect("a read").iter().map(|run| run.id).collect::<Vec<_>>(), [kept]);
    // The key is free at once, and what is opened under it is no part of the erasure.
    let again = scene.session_id();
    scene.commit_mutation(session_open(again, scene.agent, "main")).await;

    assert_eq!(erase_rest(&scene).await, (2, 71, 284));
    assert!(matches!(scene.refuse_mutation(erase_mutation(scene.session)).await, CommitRefusal::NotFound(_)));
    let found = scene.store.session_by_key(&scope, scene.agent, &session_key("main")).await.expect("a read");
    assert_eq!(found.map(|found| found.id), Some(again));
    assert_eq!(scene.store.journal_entries(&scope, kept, 0, 9).await.expect("a read").len(), 4);
}

pub(super) async fn what_keeps_a_session_keeps_it_and_its_parent(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let kept_by = async |session: SessionId, obstacle: SessionObstacle| {
        assert_eq!(due(&scene, much_later()).await, [], "{obstacle:?}");
        let erase =
            SessionErase { session: scene.session, idle_before: Some(much_later()), at: much_later() };
        let refusal = scene.refuse_mutation(Mutation::SessionErase(erase)).await;
        assert_eq!(refusal, CommitRefusal::SessionKept { session, obstacle });
    };
    let first = end_turn(&scene, scene.session, 0, 5).await;
    // A run that has not ended, and its call that waits.
    let run = scene.begin_turn(1).await;
    kept_by(scene.session, SessionObstacle::OpenRun).await;
    let record = scene.store.run(&scene.tenant_scope(), run).await.expect("a read").expect("the run");
    let asked = approval::asked_by(&record, 2);
    let answer = approval::answer_mutation(asked.id, ApprovalState::Holding, false, 50);
    scene.commit_mutation(Mutation::ApprovalAsk(Box::new(asked))).await;
    let delivery = scene.commit_reply(run, "webhook:t0").await;
    kept_by(scene.session, SessionObstacle::OpenApproval).await;
    scene.commit_mutation(answer).await;
    kept_by(scene.session, SessionObstacle::OpenDelivery).await;
    scene.begin_attempt(delivery, 1).await;
    scene.settle_attempt(delivery, 1, dromia_contracts::delivery::DeliveryState::Delivered).await;
    assert_eq!(due(&scene, much_later()).await, [(scene.session, 0)]);
    // A child that has not ended keeps its parent.
    let child = open_child(&scene, scene.session, first).await;
    kept_by(scene.session, SessionObstacle::OpenChild).await;
    end_turn(&scene, child, 0, 5).await;
    assert_eq!(due(&scene, much_later()).await, [(scene.session, 1)]);
    // So does the hold of a child, and what is in its inbox.
    scene.commit_mutation(hold_mutation(child, true)).await;
    kept_by(child, SessionObstacle::Hold).await;
    scene.commit_mutation(hold_mutation(child, false)).await;
    scene.commit_mutation(Mutation::InboxPut(new_input(InboxOwner::Session(child), scene.item_id()))).await;
    kept_by(child, SessionObstacle::WaitingItem).await;
    // What an import fills goes with its agent only.
    let filled = scene.session_id();
    scene.commit_mutation(as_import(session_open(filled, scene.agent, "a file"))).await;
    let refusal = scene.refuse_mutation(erase_mutation(filled)).await;
    assert_eq!(refusal, CommitRefusal::SessionKept { session: filled, obstacle: SessionObstacle::Import });
}

pub(super) async fn a_session_is_due_when_nothing_happened_in_it_since_the_time(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let run = end_turn(&scene, scene.session, 0, 5).await;
    let run = scene.store.run(&scene.tenant_scope(), run).await.expect("a read").expect("the run");
    let at = run.updated_at;
    let just_after = at + std::time::Duration::from_millis(1);
    assert_eq!(due(&scene, at).await, []);
    assert_eq!(due(&scene, just_after).await, [(scene.session, 0)]);
    let erase = |idle_before| SessionErase { session: scene.session, idle_before, at: much_later() };
    let refusal = scene.refuse_mutation(Mutation::SessionErase(erase(Some(at)))).await;
    let obstacle = SessionObstacle::Recent;
    assert_eq!(refusal, CommitRefusal::SessionKept { session: scene.session, obstacle });
    scene.commit_mutation(Mutation::SessionErase(erase(Some(just_after)))).await;
    erase_rest(&scene).await;
    assert_eq!(due(&scene, much_later()).await, []);
}

pub(super) async fn a_tree_that_one_commit_cannot_hold_goes_in_several(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let run = end_turn(&scene, scene.session, 0, 5).await;
    let mut children = Vec::new();
    for _ in 0..=TREE_ERASED_MAX {
        let child = open_child(&scene, scene.session, run).await;
        end_turn(&scene, child, 0, 5).await;
        children.push(child);
    }
    let below = open_child(&scene, children[0], run).await;
    end_turn(&scene, below, 0, 5).await;
    children.push(below);
    let scope = scene.tenant_scope();
    let is_there = |session| scene.store.session(&scope, session);
    scene.commit_mutation(erase_mutation(scene.session)).await;
    let mut left = Vec::new();
    for child in children {
        if is_there(child).await.expect("a read").is_some() {
            left.push(child);
        }
    }
    assert_eq!((left.len(), left.contains(&below)), (2, false), "children go before their parents");
    assert_eq!(due(&scene, much_later()).await, [(scene.session, 2)], "no child is without its parent");
    scene.commit_mutation(erase_mutation(scene.session)).await;
    assert_eq!(is_there(scene.session).await, Ok(None));
    assert_eq!(due(&scene, much_later()).await, [], "nothing is left");
}

pub(super) async fn a_hold_keeps_its_session_its_agent_and_its_tenant(store: Arc<dyn Store>) {
    check_session_holds(store).await.unwrap_or_else(|difference| panic!("{difference}"));
}

/// Sets a session on hold, tries everything that would erase it, and says what did.
async fn check_session_holds(store: Arc<dyn Store>) -> Result<(), String> {
    let scene = StoreScene::open_scene(store, 1).await;
    let (store, scope) = (&scene.store, scene.tenant_scope());
    let stranger = StoreScene::open_scene(Arc::clone(store), 2).await;
    end_turn(&scene, scene.session, 0, 5).await;
    let missing = scene.refuse_mutation(hold_mutation(stranger.session, true)).await;
    equal("a stranger's session", &matches!(missing, CommitRefusal::NotFound(_)), &true)?;
    scene.commit_mutation(hold_mutation(scene.session, true)).await;
    let again = SessionHold { by: Actor::new("token:other"), since: scene_time(30) };
    let again = SessionHoldSet { session: scene.session, hold: Some(again) };
    scene.commit_mutation(Mutation::SessionHoldSet(again)).await;
    let hold = SessionHold { by: Actor::new("token:ops"), since: scene_time(20) };
    equal("the hold", &store.session_hold(&scope, scene.session).await, &Ok(Some(hold.clone())))?;
    let page = PageRequest::first_page(9);
    equal("holds", &store.held_sessions(&scope, page).await, &Ok(vec![(scene.session, hold)]))?;
    let theirs = stranger.tenant_scope();
    equal("what a stranger sees", &store.session_hold(&theirs, scene.session).await, &Ok(None))?;
    let page = PageRequest::first_page(9);
    equal("the stranger's holds", &store.held_sessions(&theirs, page).await, &Ok(Vec::new()))?;

    let kept = CommitRefusal::SessionKept { session: scene.session, obstacle: SessionObstacle::Hold };
    equal("what is due", &due(&scene, much_later()).await, &Vec::new())?;
    let from = vec![AgentState::Running];
    let delete = AgentStateSet { agent: scene.agent, from, to: AgentState::Deleting };
    for mutation in [erase_mutation(scene.session), Mutation::AgentStateSet(delete.clone())] {
        let outcome = store.commit(scene.new_batch().with_mutation(mutation.clone())).await;
        let refused = dromia_contracts::store::CommitOutcome::Refused(kept.clone());
        equal(mutation.name(), &outcome, &refused)?;
    }
    scene.commit_mutation(Mutation::TenantSuspensionSet(Some(scene_time(40)))).await;
    let erase = Mutation::TenantErase(scene_time(41));
    equal("the tenant", &scene.refuse_mutation(erase).await, &kept)?;
    scene.commit_mutation(Mutation::TenantSuspensionSet(None)).await;
    equal(
        "the session",
        &store.session(&scope, scene.session).await.map(|found| found.is_some()),
        &Ok(true),
    )?;

    scene.commit_mutation(hold_mutation(scene.session, false)).await;
    scene.commit_mutation(hold_mutation(scene.session, false)).await;
    equal("an ended hold", &store.session_hold(&scope, scene.session).await, &Ok(None))?;
    scene.commit_mutation(erase_mutation(scene.session)).await;
    // What is left of an erased session goes with its agent, too.
    scene.commit_mutation(agent_create(scene.agent_id(), "bob")).await;
    scene.commit_mutation(Mutation::AgentStateSet(delete)).await;
    equal("without its agent", &store.erasing_sessions(&StoreScene::node_operator()).await, &Ok(Vec::new()))?;
    while !store.erase_agent_page(&scope, scene.agent).await.map_err(|error| error.to_string())?.1 {}
    equal("the rest", &store.erase_session_page(&scope, scene.session).await.map(|page| page.1), &Ok(true))
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: expected {expected:?}, found {found:?}")) }
}
