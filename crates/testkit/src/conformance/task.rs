//! Claims about tasks that runs spawn: where they are listed, how many may be open, how deep they go, and what a claim that ends
//! its run says of the end.

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::entry::Entry;
use dromia_contracts::run::{RunKind, RunStatus};
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    AgentStateSet, CommitRefusal, InboxPut, Mutation, PageRequest, SessionOpen, Store, TurnClaim, WriteBatch,
};
use dromia_contracts::task::{self, ChildSession, RunOrigin};
use dromia_contracts::{CallId, Digest, RunId, SessionId};

use super::scene::{
    StoreScene, agent_create, new_input, run_append, run_completed, run_failed, run_head, run_started,
    session_open,
};

/// A task that a run of the scene's agent spawns.
fn run_origin(scene: &StoreScene, run: RunId) -> RunOrigin {
    RunOrigin {
        run,
        call: CallId { step: 1, index: 0 },
        kind: RunKind::Worker,
        session: scene.session,
        position: 1,
        topic: None,
        role: None,
        deadline_ms: None,
        agent: scene.agent,
        root: run,
        depth: 1,
        grants: vec!["reply".to_owned()],
    }
}

/// Opens the session of a task for the scene's agent.
fn open_task(scene: &StoreScene, session: SessionId, origin: RunOrigin) -> Mutation {
    match session_open(session, scene.agent, &session.to_string()) {
        Mutation::SessionOpen(open) => {
            Mutation::SessionOpen(SessionOpen { origin: Some(Box::new(origin)), ..open })
        }
        other => other,
    }
}

/// Opens a task's session with its input.
fn spawn_batch(scene: &StoreScene, session: SessionId, origin: RunOrigin) -> (WriteBatch, InboxPut) {
    let put = new_input(InboxOwner::Session(session), scene.item_id());
    let batch = scene.new_batch().with_mutation(open_task(scene, session, origin));
    (batch.with_mutation(Mutation::InboxPut(put.clone())), put)
}

/// A claim of a task's session by a run that does the task.
fn claim_task(scene: &StoreScene, session: SessionId, put: &InboxPut, origin: &RunOrigin) -> TurnClaim {
    let mut first = run_started(scene.agent, session, 0, &[put.item]);
    if let Entry::RunStarted(started) = &mut first.entry {
        (started.kind, started.origin) = (RunKind::Worker, Some(Box::new(origin.clone())));
    }
    TurnClaim {
        session,
        agent: scene.agent,
        run: scene.run_id(),
        holder: Digest::default(),
        after: 0,
        take: vec![put.item],
        entries: vec![first],
        head: run_head(RunStatus::Running),
        notice: None,
    }
}

async fn listed_tasks(scene: &StoreScene, root: RunId) -> Vec<ChildSession> {
    let page = PageRequest::first_page(256);
    scene.store.child_sessions(&scene.tenant_scope(), root, page).await.expect("a read")
}

pub(super) async fn a_spawned_task_is_listed_below_its_root_with_its_run(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let (parent, session) = (scene.begin_turn(0).await, scene.session_id());
    let origin = run_origin(&scene, parent);
    let (spawn, put) = spawn_batch(&scene, session, origin.clone());
    assert_eq!(scene.commit_done(spawn.clone()).await, scene.commit_done(spawn).await);
    let mut wanted = ChildSession { session, agent: scene.agent, origin: origin.clone(), run: None };
    assert_eq!(listed_tasks(&scene, parent).await, [wanted.clone()]);
    let other = RunOrigin { grants: Vec::new(), ..origin.clone() };
    let refused = scene.refuse_mutation(open_task(&scene, session, other)).await;
    assert!(matches!(refused, CommitRefusal::Malformed(_)), "{refused:?}");

    let claim = claim_task(&scene, session, &put, &origin);
    let run = claim.run;
    scene.commit_done(WriteBatch { claim: Some(claim), ..scene.new_batch() }).await;
    let found =
        scene.store.session(&scene.tenant_scope(), session).await.expect("a read").expect("it is there");
    assert_eq!(found.origin, Some(Box::new(origin.clone())));
    wanted.run = scene.store.run(&scene.tenant_scope(), run).await.expect("a read");
    assert_eq!(wanted.run.as_ref().map(|run| run.kind), Some(RunKind::Worker));
    assert_eq!(listed_tasks(&scene, parent).await, [wanted.clone()]);
    assert_eq!(listed_tasks(&scene, run).await, [], "it is the root of nothing");

    // One below it belongs to the same tree, and pages go on after a session.
    let (deeper, next) = (RunOrigin { run, depth: 2, ..origin }, scene.session_id());
    scene.commit_done(spawn_batch(&scene, next, deeper).0).await;
    let all = listed_tasks(&scene, parent).await;
    assert_eq!(all.iter().map(|task| task.session).collect::<Vec<_>>(), [session, next]);
    let page = PageRequest { after: Some(session), limit: 1 };
    let rest = scene.store.child_sessions(&scene.tenant_scope(), parent, page).await.expect("a read");
    assert_eq!(rest, all[1..]);
}

pub(super) async fn an_agent_has_so_many_open_tasks_and_one_more_is_refused(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let parent = scene.begin_turn(0).await;
    let origin = run_origin(&scene, parent);
    let first = scene.session_id();
    let (spawn, put) = spawn_batch(&scene, first, origin.clone());
    scene.commit_done(spawn).await;
    let elsewhere = || RunOrigin { session: scene.session_id(), ..origin.clone() };
    for _ in 1..task::OPEN_MAX {
        scene.commit_done(spawn_batch(&scene, scene.session_id(), elsewhere()).0).await;
    }
    let more = spawn_batch(&scene, scene.session_id(), elsewhere()).0;
    let full = CommitRefusal::ChildrenFull { most: task::OPEN_MAX };
    assert_eq!(scene.commit_refused(more.clone()).await, full);
    assert_eq!(listed_tasks(&scene, parent).await.len(), task::OPEN_MAX, "a refused batch leaves no row");

    // A task whose run goes on is open, and one whose run has ended is not.
    let claim = claim_task(&scene, first, &put, &origin);
    let run = claim.run;
    scene.commit_done(WriteBatch { claim: Some(claim), ..scene.new_batch() }).await;
    assert_eq!(scene.commit_refused(more.clone()).await, full);
    let end = run_append(run, 1, 1, vec![run_completed()], RunStatus::Completed);
    scene.commit_mutation(Mutation::RunAppend(end)).await;
    scene.commit_done(more.clone()).await;
    scene.commit_done(more).await;

    // Tasks of another agent's runs have a count of their own.
    let (other, theirs) = (scene.agent_id(), scene.session_id());
    let open = scene.new_batch().with_mutation(agent_create(other, "bob"));
    scene.commit_done(open).await;
    scene.commit_done(spawn_batch(&scene, theirs, RunOrigin { agent: other, ..origin.clone() }).0).await;
    let next = spawn_batch(&scene, scene.session_id(), elsewhere()).0;
    assert_eq!(scene.commit_refused(next.clone()).await, full);
    // No run takes the tasks of an agent that has ended: they are not open any more.
    let ends =
        AgentStateSet { agent: scene.agent, to: AgentState::Terminated, from: vec![AgentState::Running] };
    scene.commit_mutation(Mutation::AgentStateSet(ends)).await;
    let refused = scene.commit_refused(next).await;
    assert_eq!(refused, CommitRefusal::AgentState { found: AgentState::Terminated });
}

pub(super) async fn a_session_has_so_many_open_children_of_a_kind(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let parent = scene.begin_turn(0).await;
    for kind in [RunKind::Branch, RunKind::Worker] {
        let origin = RunOrigin { kind, ..run_origin(&scene, parent) };
        let (first, most) = (scene.session_id(), kind.open_max());
        let (spawn, put) = spawn_batch(&scene, first, origin.clone());
        scene.commit_done(spawn).await;
        for _ in 1..most {
            scene.commit_done(spawn_batch(&scene, scene.session_id(), origin.clone()).0).await;
        }
        let more = spawn_batch(&scene, scene.session_id(), origin.clone()).0;
        assert_eq!(scene.commit_refused(more.clone()).await, CommitRefusal::SessionFull { kind, most });
        // One that has ended leaves its place to the next one.
        let mut claim = claim_task(&scene, first, &put, &origin);
        if let Some(Entry::RunStarted(started)) = claim.entries.first_mut().map(|first| &mut first.entry) {
            started.kind = kind;
        }
        let run = claim.run;
        scene.commit_done(WriteBatch { claim: Some(claim), ..scene.new_batch() }).await;
        let end = run_append(run, 1, 1, vec![run_completed()], RunStatus::Completed);
        scene.commit_mutation(Mutation::RunAppend(end)).await;
        scene.commit_done(more).await;
    }
    // They are listed in the order in which they were opened, and another session has none.
    let page = PageRequest::first_page(256);
    let listed = scene
        .store
        .session_children(&scene.tenant_scope(), scene.session, false, page)
        .await
        .expect("a read");
    let most = RunKind::Branch.open_max() + RunKind::Worker.open_max() + 2;
    assert!(listed.len() == most && listed.is_sorted_by_key(|child| child.session), "{listed:?}");
    let page = PageRequest::first_page(256);
    let other = scene.store.session_children(&scene.tenant_scope(), scene.session_id(), false, page).await;
    assert_eq!(other.expect("a read"), []);
}

pub(super) async fn a_task_goes_no_deeper_than_its_bound(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let parent = scene.begin_turn(0).await;
    for depth in [0, task::DEPTH_MAX + 1] {
        let origin = RunOrigin { depth, ..run_origin(&scene, parent) };
        let refused = scene.commit_refused(spawn_batch(&scene, scene.session_id(), origin).0).await;
        assert_eq!(refused, CommitRefusal::ChildTooDeep { most: task::DEPTH_MAX });
    }
    let deepest = RunOrigin { depth: task::DEPTH_MAX, ..run_origin(&scene, parent) };
    scene.commit_done(spawn_batch(&scene, scene.session_id(), deepest).0).await;
}

pub(super) async fn a_notice_is_put_with_its_claim_or_not_at_all(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let parent = scene.begin_turn(0).await;
    let (session, origin) = (scene.session_id(), run_origin(&scene, parent));
    let (spawn, put) = spawn_batch(&scene, session, origin.clone());
    scene.commit_done(spawn).await;
    let inbox = InboxOwner::Session(scene.session);
    let heard = async || {
        let items = scene.store.inbox_items(&scene.tenant_scope(), inbox, 1, 16).await.expect("a read");
        items.len()
    };
    let ending = |after| {
        let mut claim = claim_task(&scene, session, &put, &origin);
        claim.entries.push(run_failed());
        claim.head = run_head(RunStatus::Failed);
        claim.after = after;
        claim.notice = Some(Box::new(new_input(inbox, scene.item_id())));
        WriteBatch { claim: Some(claim), ..scene.new_batch() }
    };
    assert!(!scene.commit_done(ending(7)).await.claimed, "the inbox is not there");
    assert_eq!(heard().await, 0);
    let granted = ending(0);
    for _ in 0..2 {
        assert!(scene.commit_done(granted.clone()).await.claimed);
        assert_eq!(heard().await, 1, "once, however often it is submitted");
    }
}

pub(super) async fn a_stranger_sees_and_spawns_no_task_of_another_tenant(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
    let parent = scene.begin_turn(0).await;
    scene.commit_done(spawn_batch(&scene, scene.session_id(), run_origin(&scene, parent)).0).await;
    let other = StoreScene::open_scene(store, 2).await;
    assert_eq!(listed_tasks(&other, parent).await, []);
    let refused =
        other.commit_refused(spawn_batch(&other, other.session_id(), run_origin(&other, parent)).0).await;
    assert_eq!(refused, CommitRefusal::NotFound(parent.to_string()));
    let narrowed = scene.tenant_scope().narrowed_to(scene.agent_id());
    let page = PageRequest::first_page(256);
    assert_eq!(scene.store.child_sessions(&narrowed, parent, page).await.expect("a read"), []);
}
