//! Claims about approvals: asked for with the entry that rests for them, answered once, used up in the commit of the one
//! start that they allow.

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::approval::{
    Answered, Approval, ApprovalRule, ApprovalState, BoundFiles, BoundParts, Contents, RULES_MAX, RuleAnswer,
};
use dromia_contracts::budget::Payer;
use dromia_contracts::content::CallStatus;
use dromia_contracts::entry::{Entry, Park, RunParked, ToolRefused, ToolStarted};
use dromia_contracts::label::Label;
use dromia_contracts::plan::Standing;
use dromia_contracts::run::{Run, RunStatus};
use dromia_contracts::store::{
    AgentStateSet, ApprovalAnswer, ApprovalFilter, ApprovalRuleRemove, Batch, CoolingApproval, Mutation,
    NewEntry, Page, Refusal, Store,
};
use dromia_contracts::tool::EffectClass;
use dromia_contracts::{Actor, AgentId, ApprovalId, Authority, CallId, Digest, RunId, SessionId};

use super::scene::{Scene, append, at, entry};

const CALL: CallId = CallId { step: 1, index: 0 };

pub(super) fn approval_id(number: u8) -> ApprovalId {
    ApprovalId::from_bytes([number; 16])
}

/// The request of a run of a scene.
pub(super) fn request(scene: &Scene, run: RunId, number: u8) -> Approval {
    of(scene.agent, scene.session, run, number)
}

/// A request of some run; every second one cools.
pub(super) fn asked_by(run: &Run, number: u8) -> Approval {
    let cools_until = (number % 2 == 1).then(|| at(500 - 100 * i64::from(number % 4)));
    Approval { cools_until, ..of(run.agent, run.session, run.id, number) }
}

/// A rule of some agent.
pub(super) fn rule_of(agent: AgentId, number: u8) -> Mutation {
    Mutation::ApprovalRulePut(ApprovalRule {
        name: format!("r{number}"),
        answer: RuleAnswer::Deny,
        rule: "exec".to_owned(),
        agent: Some(agent),
        session: None,
        owner: Actor::new("token:ops"),
        created_at: at(10 * i64::from(number)),
        expires_at: at(10 * i64::from(number) + 15),
    })
}

fn of(agent: AgentId, session: SessionId, run: RunId, number: u8) -> Approval {
    let contents = Contents { digest: Digest::from_bytes([3; 32]), files: 1, extent: BoundFiles::All };
    Approval {
        id: approval_id(number),
        agent,
        session,
        run,
        call: CALL,
        author: Actor::new("cli:ada"),
        hops: 0,
        context: Label::ACTOR_TEXT,
        standing: Standing::default(),
        tool: "exec".to_owned(),
        arguments: r#"{"argv":["true"]}"#.to_owned(),
        action: Digest::from_bytes([number; 32]),
        binding: Digest::from_bytes([number ^ 0xff; 32]),
        bound: Some(BoundParts { call: 1, tool: 2, asker: 3, rule: 4, contents: Some(contents) }),
        origins: Vec::new(),
        rule: "permission".to_owned(),
        reason: "a person looks".to_owned(),
        approvers: Vec::new(),
        asked_at: at(5),
        holds_until: at(1_000),
        expires_at: at(2_000),
        cools_until: None,
        state: ApprovalState::Holding,
        released: false,
        answer: None,
        used_by: None,
    }
}

pub(super) fn paid(batch: Batch) -> Batch {
    Batch { payer: Some(Payer { actor: Actor::new("cli:ada"), priced: true }), ..batch }
}

/// An entry that uses an approval up.
pub(super) fn began(approval: &Approval) -> NewEntry {
    entry(
        7,
        Entry::ToolStarted(ToolStarted {
            call: approval.call,
            tool: approval.tool.clone(),
            effect: EffectClass::Unkeyed,
            attempt: 1,
            action: approval.action,
            rule: "approval".to_owned(),
            policy: None,
            approval: Some(approval.id),
            unneeded: None,
            in_plan: None,
            network: None,
            opinion: None,
        }),
    )
}

/// An entry that lets an approval wait without its run, or gives it back.
pub(super) fn refused(approval: &Approval, status: CallStatus) -> NewEntry {
    let (call, tool) = (approval.call, approval.tool.clone());
    let approval = Some(approval.id);
    let (rule, policy, in_plan, network, opinion) = (None, None, None, None, None);
    let refused = ToolRefused { call, tool, status, rule, policy, approval, in_plan, network, opinion };
    entry(7, Entry::ToolRefused(refused))
}

/// An entry that rests for an approval, in the place of another one.
pub(super) fn parked(approval: &Approval, replaces: Option<ApprovalId>) -> NewEntry {
    let Approval { id, call, action, binding, holds_until: until, cools_until, .. } = *approval;
    let park = Park::Approval { approval: id, call, action, binding, until, cools_until, replaces };
    entry(6, Entry::RunParked(RunParked { park }))
}

pub(super) fn answer(id: ApprovalId, from: ApprovalState, approved: bool, ms: i64) -> Mutation {
    let answered = Answered { by: Actor::new("token:ops"), at: at(ms), reason: String::new(), reach: None };
    Mutation::ApprovalAnswer(ApprovalAnswer { approval: id, from, approved, answered })
}

/// A turn that rests for an approval.
async fn asked(scene: &Scene, number: u8) -> Approval {
    let run = scene.turn(0).await;
    let approval = request(scene, run, number);
    let rest = append(run, 1, 2, vec![parked(&approval, None)], RunStatus::Parked);
    let batch = scene.batch().with(Mutation::ApprovalAsk(Box::new(approval.clone())));
    scene.done(paid(batch.with(Mutation::RunAppend(rest)))).await;
    approval
}

async fn state(scene: &Scene, id: ApprovalId) -> Option<ApprovalState> {
    scene.store.approval(&scene.scope(), id).await.expect("a read").map(|approval| approval.state)
}

fn starts(approval: &Approval, after: u64) -> Mutation {
    Mutation::RunAppend(append(approval.run, 1, after, vec![began(approval)], RunStatus::Running))
}

pub(super) async fn an_approval_is_used_up_in_the_commit_of_the_start_that_it_allows(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let approval = asked(&scene, 1).await;
    let found = ApprovalState::Holding;
    let early = scene.refused(paid(scene.batch().with(starts(&approval, 3)))).await;
    assert_eq!(early, Refusal::ApprovalMoved { found }, "nobody answered");
    let run = scene.store.run(&scene.scope(), approval.run).await.expect("a read").expect("it is there");
    assert_eq!((run.last_seq, run.head.status), (3, RunStatus::Parked), "a refused start leaves no row");
    scene.done(scene.batch().with(answer(approval.id, found, true, 10))).await;
    let start = paid(scene.batch().with(starts(&approval, 3)));
    let receipt = scene.done(start.clone()).await;
    assert_eq!(state(&scene, approval.id).await, Some(ApprovalState::Used));
    assert_eq!(scene.done(start).await, receipt, "the same batch again is the same start");
    let again = scene.refused(paid(scene.batch().with(starts(&approval, 4)))).await;
    assert_eq!(again, Refusal::ApprovalMoved { found: ApprovalState::Used });
    let used = scene.store.approval(&scene.scope(), approval.id).await.expect("a read");
    assert_eq!(used.and_then(|approval| approval.used_by), Some(approval.run));
}

pub(super) async fn an_approval_allows_one_action_and_no_other(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let approval = asked(&scene, 1).await;
    scene.done(scene.batch().with(answer(approval.id, ApprovalState::Holding, true, 10))).await;
    let other = Approval { action: Digest::from_bytes([9; 32]), ..approval.clone() };
    let refusal = scene.refused(paid(scene.batch().with(starts(&other, 3)))).await;
    assert_eq!(refusal, Refusal::ApprovalMoved { found: ApprovalState::Approved });
    let nobodys = Approval { id: approval_id(8), ..approval.clone() };
    let refusal = scene.refused(paid(scene.batch().with(starts(&nobodys, 3)))).await;
    assert!(matches!(refusal, Refusal::NotFound(_)), "{refusal}");
    assert_eq!(state(&scene, approval.id).await, Some(ApprovalState::Approved));
}

pub(super) async fn an_approval_is_answered_once_and_in_time(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let id = asked(&scene, 1).await.id;
    let (holding, waiting) = (ApprovalState::Holding, ApprovalState::Waiting);
    let late = scene.refused(scene.batch().with(answer(id, holding, true, 2_000))).await;
    assert_eq!(late, Refusal::ApprovalMoved { found: ApprovalState::Expired });
    let wrong = scene.refused(scene.batch().with(answer(id, waiting, true, 10))).await;
    assert_eq!(wrong, Refusal::ApprovalMoved { found: holding });
    for _ in 0..2 {
        scene.done(scene.batch().with(answer(id, holding, false, 10))).await;
    }
    let other = scene.refused(scene.batch().with(answer(id, holding, true, 11))).await;
    assert_eq!(other, Refusal::ApprovalMoved { found: ApprovalState::Denied });
    let missing = scene.refused(scene.batch().with(answer(approval_id(9), holding, true, 10))).await;
    assert!(matches!(missing, Refusal::NotFound(_)), "{missing}");
}

pub(super) async fn a_run_lets_go_of_an_approval_or_gets_its_answer_and_never_both(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let approval = asked(&scene, 1).await;
    let lets_go = |approval: &Approval| {
        let entries = vec![refused(approval, CallStatus::Awaiting)];
        Mutation::RunAppend(append(approval.run, 1, 3, entries, RunStatus::Running))
    };
    scene.done(scene.batch().with(answer(approval.id, ApprovalState::Holding, true, 10))).await;
    let refusal = scene.refused(paid(scene.batch().with(lets_go(&approval)))).await;
    assert_eq!(refusal, Refusal::ApprovalMoved { found: ApprovalState::Approved });
    let other = Scene::open(Arc::clone(&scene.store), 2).await;
    let approval = asked(&other, 2).await;
    other.done(paid(other.batch().with(lets_go(&approval)))).await;
    assert_eq!(state(&other, approval.id).await, Some(ApprovalState::Waiting));
    other.done(other.batch().with(answer(approval.id, ApprovalState::Waiting, true, 10))).await;
    let own = other.refused(paid(other.batch().with(starts(&approval, 4)))).await;
    assert_eq!(own, Refusal::ApprovalMoved { found: ApprovalState::Approved }, "it is for another run");
}

pub(super) async fn what_ends_a_call_withdraws_its_approval_and_an_import_moves_none(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let approval = asked(&scene, 1).await;
    let ends = |status| {
        let entries = vec![refused(&approval, status)];
        Mutation::RunAppend(append(approval.run, 1, 3, entries, RunStatus::Running))
    };
    // What nobody pays for was done elsewhere.
    scene.done(scene.batch().with(ends(CallStatus::Cancelled))).await;
    assert_eq!(state(&scene, approval.id).await, Some(ApprovalState::Holding));
    let entries = vec![refused(&approval, CallStatus::Cancelled)];
    let more = Mutation::RunAppend(append(approval.run, 1, 4, entries, RunStatus::Running));
    scene.done(paid(scene.batch().with(more))).await;
    assert_eq!(state(&scene, approval.id).await, Some(ApprovalState::Withdrawn));
}

pub(super) async fn the_end_of_an_agent_withdraws_what_was_approved_and_no_run_has(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let held = asked(&scene, 1).await;
    let (holding, waiting) = (ApprovalState::Holding, ApprovalState::Waiting);
    for number in 2..5 {
        let gone = Approval { id: approval_id(number), state: waiting, released: true, ..held.clone() };
        scene.done(scene.batch().with(Mutation::ApprovalAsk(Box::new(gone)))).await;
    }
    for (number, from, approved) in [(1, holding, true), (2, waiting, true), (3, waiting, false)] {
        scene.done(scene.batch().with(answer(approval_id(number), from, approved, 10))).await;
    }
    let state_set =
        |from, to| Mutation::AgentStateSet(AgentStateSet { agent: scene.agent, from: vec![from], to });
    let (running, paused) = (AgentState::Running, AgentState::Paused);
    scene.done(scene.batch().with(state_set(running, paused))).await;
    assert_eq!(state(&scene, approval_id(2)).await, Some(ApprovalState::Approved), "it may run again");
    for _ in 0..2 {
        scene.done(scene.batch().with(state_set(paused, AgentState::Terminated))).await;
        for (number, expected) in [
            // Its run takes the answer, or the end, by itself.
            (1, ApprovalState::Approved),
            (2, ApprovalState::Withdrawn),
            (3, ApprovalState::Denied),
            (4, ApprovalState::Waiting),
        ] {
            assert_eq!(state(&scene, approval_id(number)).await, Some(expected), "{number}");
        }
    }
    let found = scene.store.approval(&scene.scope(), approval_id(2)).await.expect("a read");
    assert!(found.is_some_and(|approval| approval.answer.is_some()), "who allowed it is known still");
}

/// The first bytes of the ids of a listing.
async fn ids(scene: &Scene, filter: ApprovalFilter, page: Page<ApprovalId>) -> Vec<u8> {
    let found = scene.store.approvals(&scene.scope(), filter, page).await.expect("a read");
    found.into_iter().map(|approval| approval.id.as_bytes()[0]).collect()
}

pub(super) async fn approvals_are_listed_newest_first_by_agent_and_while_they_are_open(
    store: Arc<dyn Store>,
) {
    let scene = Scene::open(store, 1).await;
    let first = asked(&scene, 1).await;
    for number in 2..5 {
        let more = Approval { id: approval_id(number), ..first.clone() };
        scene.done(scene.batch().with(Mutation::ApprovalAsk(Box::new(more)))).await;
    }
    scene.done(scene.batch().with(answer(approval_id(3), ApprovalState::Holding, false, 10))).await;
    let all = ApprovalFilter::default();
    assert_eq!(ids(&scene, all, Page::first(9)).await, [4, 3, 2, 1]);
    assert_eq!(ids(&scene, all, Page { after: Some(approval_id(4)), limit: 2 }).await, [3, 2]);
    let open = ApprovalFilter { open_at: Some(at(1_999)), ..all };
    assert_eq!(ids(&scene, open, Page::first(9)).await, [4, 2, 1]);
    let over = ApprovalFilter { open_at: Some(at(2_000)), ..all };
    assert_eq!(ids(&scene, over, Page::first(9)).await, [0_u8; 0]);
    let mine = ApprovalFilter { agent: Some(scene.agent), ..all };
    assert_eq!(ids(&scene, mine, Page::first(1)).await, [4]);
    let nobodys = ApprovalFilter { agent: Some(scene.agent_id()), ..all };
    assert_eq!(ids(&scene, nobodys, Page::first(9)).await, [0_u8; 0]);
}

/// What cools at a time, of every tenant.
async fn cooling(scene: &Scene, open_at: i64, limit: usize) -> Vec<CoolingApproval> {
    let operator = Authority::claim().operator();
    scene.store.cooling_approvals(&operator, at(open_at), 0, limit).await.expect("a read")
}

pub(super) async fn what_cools_is_listed_in_turns_and_by_its_time_while_it_is_open(store: Arc<dyn Store>) {
    let scene = Scene::open(Arc::clone(&store), 1).await;
    let other = Scene::open(store, 2).await;
    let (mine, theirs) = (asked(&scene, 1).await, asked(&other, 1).await);
    assert_eq!(cooling(&scene, 10, 9).await.len(), 0, "what only a person allows has no time");
    let delayed = [(&scene, &mine, 2, 900), (&other, &theirs, 3, 1_500), (&scene, &mine, 4, 20)];
    for (scene, first, number, until) in delayed {
        let cools_until = Some(at(until));
        let delayed = Approval { id: approval_id(number), cools_until, ..first.clone() };
        scene.done(scene.batch().with(Mutation::ApprovalAsk(Box::new(delayed)))).await;
    }
    let row =
        |tenant, number, until| CoolingApproval { tenant, approval: approval_id(number), until: at(until) };
    let (first, second, theirs) =
        (row(scene.tenant, 4, 20), row(scene.tenant, 2, 900), row(other.tenant, 3, 1_500));
    let all = [first, theirs, second];
    assert_eq!(cooling(&scene, 10, 9).await, all, "each tenant has its turn");
    assert_eq!(cooling(&scene, 1_999, 2).await, all[..2], "a page of them");
    let operator = Authority::claim().operator();
    for skip in 0..=all.len() + 1 {
        let behind = scene.store.cooling_approvals(&operator, at(10), skip, 1).await.expect("a read");
        assert_eq!(behind, all.get(skip..=skip).unwrap_or_default(), "behind {skip}");
    }
    assert_eq!(cooling(&scene, 2_000, 9).await.len(), 0, "they have expired");
    scene.done(scene.batch().with(answer(approval_id(4), ApprovalState::Holding, false, 10))).await;
    assert_eq!(cooling(&scene, 10, 9).await, [second, theirs], "what is answered cools no more");
    let set = AgentStateSet { agent: scene.agent, from: vec![AgentState::Running], to: AgentState::Deleting };
    scene.done(scene.batch().with(Mutation::AgentStateSet(set))).await;
    assert_eq!(cooling(&scene, 10, 9).await, all[1..2], "what is being erased is not seen");
}

pub(super) async fn a_stranger_sees_and_answers_no_approval_and_an_erasure_takes_it(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let approval = asked(&scene, 1).await;
    scene.done(scene.batch().with(rule(&scene, "mine", 10, 900))).await;
    let stranger = Scene::open(Arc::clone(&scene.store), 2).await;
    assert_eq!(state(&stranger, approval.id).await, None);
    let all = ApprovalFilter::default();
    let listed = stranger.store.approvals(&stranger.scope(), all, Page::first(9)).await;
    assert_eq!(listed, Ok(Vec::new()));
    assert_eq!(stranger.store.approval_rules(&stranger.scope()).await, Ok(Vec::new()));
    for batch in [
        stranger.batch().with(answer(approval.id, ApprovalState::Holding, true, 10)),
        stranger.batch().with(Mutation::ApprovalAsk(Box::new(approval.clone()))),
        stranger.batch().with(rule(&scene, "theirs", 10, 900)),
    ] {
        let refusal = stranger.refused(batch).await;
        assert!(matches!(refusal, Refusal::NotFound(_)), "{refusal}");
    }
    let narrow = scene.scope().narrowed_to(scene.agent_id());
    assert_eq!(scene.store.approval(&narrow, approval.id).await, Ok(None));
    assert_eq!(scene.store.approval_rules(&scene.scope().narrowed_to(scene.agent)).await, Ok(Vec::new()));
    let set = AgentStateSet { agent: scene.agent, from: vec![AgentState::Running], to: AgentState::Deleting };
    scene.done(scene.batch().with(Mutation::AgentStateSet(set))).await;
    assert_eq!(state(&scene, approval.id).await, None, "what is being erased is not seen");
    while !scene.store.erase_agent_page(&scene.scope(), scene.agent).await.expect("a page").1 {}
    assert_eq!(scene.store.approval_rules(&scene.scope()).await, Ok(Vec::new()));
}

/// A rule of the scene's agent.
fn rule(scene: &Scene, name: &str, made: i64, ends: i64) -> Mutation {
    Mutation::ApprovalRulePut(ApprovalRule {
        name: name.to_owned(),
        answer: RuleAnswer::Allow,
        rule: "exec argv=[\"true\"]".to_owned(),
        agent: Some(scene.agent),
        session: None,
        owner: Actor::new("token:ops"),
        created_at: at(made),
        expires_at: at(ends),
    })
}

/// The names of all rules.
async fn names(scene: &Scene) -> Vec<String> {
    let rules = scene.store.approval_rules(&scene.scope()).await.expect("a read");
    rules.into_iter().map(|rule| rule.name).collect()
}

pub(super) async fn rules_of_approvals_are_kept_by_name_until_one_comes_after_their_end(
    store: Arc<dyn Store>,
) {
    let scene = Scene::open(store, 1).await;
    for (name, made, ends) in [("b", 10, 100), ("a", 10, 50), ("b", 20, 90)] {
        scene.done(scene.batch().with(rule(&scene, name, made, ends))).await;
    }
    assert_eq!(names(&scene).await, ["a", "b"]);
    scene.done(scene.batch().with(rule(&scene, "c", 60, 100))).await;
    assert_eq!(names(&scene).await, ["b", "c"], "the one that had ended is gone");
    let remove = || Mutation::ApprovalRuleRemove(ApprovalRuleRemove { name: "b".to_owned() });
    for _ in 0..2 {
        scene.done(scene.batch().with(remove())).await;
    }
    assert_eq!(names(&scene).await, ["c"]);
    for (name, ends) in [("C", 900), ("d", 10)] {
        let refusal = scene.refused(scene.batch().with(rule(&scene, name, 60, ends))).await;
        assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal}");
    }
    for number in 1..RULES_MAX {
        scene.done(scene.batch().with(rule(&scene, &format!("n{number}"), 60, 100))).await;
    }
    let full = scene.refused(scene.batch().with(rule(&scene, "more", 60, 100))).await;
    assert!(matches!(full, Refusal::Malformed(_)), "{full}");
    scene.done(scene.batch().with(rule(&scene, "c", 60, 100))).await;
}
