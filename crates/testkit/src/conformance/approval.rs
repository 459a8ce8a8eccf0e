//! Claims about approvals: asked for with the entry that rests for them, answered once, used up in the commit of the one
//! start that they allow.

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::approval::{
    AnswerRecord, ApprovalDeadlines, ApprovalRequest, ApprovalRuleRecord, ApprovalState, BoundFiles,
    BoundParts, CallSource, ExecutableFiles, JudgedCall, RULES_MAX, RuleAnswer,
};
use dromia_contracts::budget::BudgetPayer;
use dromia_contracts::content::CallStatus;
use dromia_contracts::entry::{Entry, ParkReason, RunParked, ToolRefused, ToolStarted};
use dromia_contracts::label::Label;
use dromia_contracts::plan::CallProvenance;
use dromia_contracts::run::{RunRecord, RunStatus};
use dromia_contracts::store::{
    AgentStateSet, ApprovalAnswer, ApprovalFilter, ApprovalRuleRemove, CommitRefusal, CoolingApproval,
    Mutation, NewEntry, PageRequest, Store, WriteBatch,
};
use dromia_contracts::tool::EffectClass;
use dromia_contracts::{Actor, AgentId, ApprovalId, CallId, Digest, RunId, ScopeAuthority, SessionId};

use super::scene::{StoreScene, entry_at, run_append, scene_time};

const CALL: CallId = CallId { step: 1, index: 0 };

pub(super) fn approval_id(number: u8) -> ApprovalId {
    ApprovalId::from_bytes([number; 16])
}

/// The request of a run of a scene.
pub(super) fn new_request(scene: &StoreScene, run: RunId, number: u8) -> ApprovalRequest {
    new_approval(scene.agent, scene.session, run, number)
}

/// A request of some run; every second one cools.
pub(super) fn asked_by(run: &RunRecord, number: u8) -> ApprovalRequest {
    let cools_until = (number % 2 == 1).then(|| scene_time(500 - 100 * i64::from(number % 4)));
    ApprovalRequest {
        deadlines: ApprovalDeadlines {
            cools_until,
            ..new_approval(run.agent, run.session, run.id, number).deadlines
        },
        ..new_approval(run.agent, run.session, run.id, number)
    }
}

/// A rule of some agent.
pub(super) fn rule_of(agent: AgentId, number: u8) -> Mutation {
    Mutation::ApprovalRulePut(ApprovalRuleRecord {
        name: format!("r{number}"),
        answer: RuleAnswer::Deny,
        rule: "exec".to_owned(),
        agent: Some(agent),
        session: None,
        owner: Actor::new("token:ops"),
        created_at: scene_time(10 * i64::from(number)),
        expires_at: scene_time(10 * i64::from(number) + 15),
    })
}

fn new_approval(agent: AgentId, session: SessionId, run: RunId, number: u8) -> ApprovalRequest {
    let contents = ExecutableFiles { digest: Digest::from_bytes([3; 32]), files: 1, extent: BoundFiles::All };
    ApprovalRequest {
        id: approval_id(number),
        rule: "permission".to_owned(),
        reason: "a person looks".to_owned(),
        approvers: Vec::new(),
        state: ApprovalState::Holding,
        released: false,
        answer: None,
        used_by: None,
        source: CallSource { agent, session, run, call: CALL, author: Actor::new("cli:ada"), hops: 0 },
        judged: JudgedCall {
            context: Label::ACTOR_TEXT,
            provenance: CallProvenance::default(),
            tool: "exec".to_owned(),
            arguments: r#"{"argv":["true"]}"#.to_owned(),
            action: Digest::from_bytes([number; 32]),
            binding: Digest::from_bytes([number ^ 0xff; 32]),
            bound: BoundParts { call: 1, tool: 2, asker: 3, rule: 4, contents: Some(contents) },
            origins: Vec::new(),
        },
        deadlines: ApprovalDeadlines {
            asked_at: scene_time(5),
            holds_until: scene_time(1_000),
            expires_at: scene_time(2_000),
            cools_until: None,
        },
    }
}

pub(super) fn with_payer(batch: WriteBatch) -> WriteBatch {
    WriteBatch { payer: Some(BudgetPayer { actor: Actor::new("cli:ada"), priced: true }), ..batch }
}

/// An entry that uses an approval up.
pub(super) fn started_entry(approval: &ApprovalRequest) -> NewEntry {
    entry_at(
        7,
        Entry::ToolStarted(ToolStarted {
            call: approval.source.call,
            tool: approval.judged.tool.clone(),
            effect: EffectClass::Unkeyed,
            attempt: 1,
            action: approval.judged.action,
            rule: "approval".to_owned(),
            policy: None,
            approval: Some(approval.id),
            unneeded: None,
            in_plan: None,
            network: None,
            context: None,
            endorsed: Vec::new(),
            opinion: None,
        }),
    )
}

/// An entry that lets an approval wait without its run, or gives it back.
pub(super) fn refused_entry(approval: &ApprovalRequest, status: CallStatus) -> NewEntry {
    let (call, tool) = (approval.source.call, approval.judged.tool.clone());
    let approval = Some(approval.id);
    let (rule, policy, in_plan, network, opinion) = (None, None, None, None, None);
    let refused = ToolRefused { call, tool, status, rule, policy, approval, in_plan, network, opinion };
    entry_at(7, Entry::ToolRefused(refused))
}

/// An entry that rests for an approval, in the place of another one.
pub(super) fn parked_entry(approval: &ApprovalRequest, replaces: Option<ApprovalId>) -> NewEntry {
    let ApprovalRequest {
        id,
        source: CallSource { call, .. },
        judged: JudgedCall { action, binding, .. },
        deadlines: ApprovalDeadlines { holds_until: until, cools_until, .. },
        ..
    } = *approval;
    let park = ParkReason::Approval { approval: id, call, action, binding, until, cools_until, replaces };
    entry_at(6, Entry::RunParked(RunParked { park }))
}

pub(super) fn answer_mutation(id: ApprovalId, from: ApprovalState, approved: bool, ms: i64) -> Mutation {
    let answered =
        AnswerRecord { by: Actor::new("token:ops"), at: scene_time(ms), reason: String::new(), reach: None };
    Mutation::ApprovalAnswer(ApprovalAnswer { approval: id, from, approved, answered })
}

/// A turn that rests for an approval.
async fn ask_approval(scene: &StoreScene, number: u8) -> ApprovalRequest {
    let run = scene.begin_turn(0).await;
    let approval = new_request(scene, run, number);
    let rest = run_append(run, 1, 2, vec![parked_entry(&approval, None)], RunStatus::Parked);
    let batch = scene.new_batch().with_mutation(Mutation::ApprovalAsk(Box::new(approval.clone())));
    scene.commit_done(with_payer(batch.with_mutation(Mutation::RunAppend(rest)))).await;
    approval
}

async fn approval_state(scene: &StoreScene, id: ApprovalId) -> Option<ApprovalState> {
    scene.store.approval(&scene.tenant_scope(), id).await.expect("a read").map(|approval| approval.state)
}

fn start_mutation(approval: &ApprovalRequest, after: u64) -> Mutation {
    Mutation::RunAppend(run_append(
        approval.source.run,
        1,
        after,
        vec![started_entry(approval)],
        RunStatus::Running,
    ))
}

pub(super) async fn an_approval_is_used_up_in_the_commit_of_the_start_that_it_allows(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let approval = ask_approval(&scene, 1).await;
    let found = ApprovalState::Holding;
    let early =
        scene.commit_refused(with_payer(scene.new_batch().with_mutation(start_mutation(&approval, 3)))).await;
    assert_eq!(early, CommitRefusal::ApprovalMoved { found }, "nobody answered");
    let run = scene
        .store
        .run(&scene.tenant_scope(), approval.source.run)
        .await
        .expect("a read")
        .expect("it is there");
    assert_eq!((run.last_seq, run.head.status), (3, RunStatus::Parked), "a refused start leaves no row");
    scene.commit_mutation(answer_mutation(approval.id, found, true, 10)).await;
    let start = with_payer(scene.new_batch().with_mutation(start_mutation(&approval, 3)));
    let receipt = scene.commit_done(start.clone()).await;
    assert_eq!(approval_state(&scene, approval.id).await, Some(ApprovalState::Used));
    assert_eq!(scene.commit_done(start).await, receipt, "the same batch again is the same start");
    let again =
        scene.commit_refused(with_payer(scene.new_batch().with_mutation(start_mutation(&approval, 4)))).await;
    assert_eq!(again, CommitRefusal::ApprovalMoved { found: ApprovalState::Used });
    let used = scene.store.approval(&scene.tenant_scope(), approval.id).await.expect("a read");
    assert_eq!(used.and_then(|approval| approval.used_by), Some(approval.source.run));
}

pub(super) async fn an_approval_allows_one_action_and_no_other(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let approval = ask_approval(&scene, 1).await;
    scene.commit_mutation(answer_mutation(approval.id, ApprovalState::Holding, true, 10)).await;
    let other = ApprovalRequest {
        judged: JudgedCall { action: Digest::from_bytes([9; 32]), ..approval.clone().judged },
        ..approval.clone()
    };
    let refusal =
        scene.commit_refused(with_payer(scene.new_batch().with_mutation(start_mutation(&other, 3)))).await;
    assert_eq!(refusal, CommitRefusal::ApprovalMoved { found: ApprovalState::Approved });
    let nobodys = ApprovalRequest { id: approval_id(8), ..approval.clone() };
    let refusal =
        scene.commit_refused(with_payer(scene.new_batch().with_mutation(start_mutation(&nobodys, 3)))).await;
    assert!(matches!(refusal, CommitRefusal::NotFound(_)), "{refusal}");
    assert_eq!(approval_state(&scene, approval.id).await, Some(ApprovalState::Approved));
}

pub(super) async fn an_approval_is_answered_once_and_in_time(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let id = ask_approval(&scene, 1).await.id;
    let (holding, waiting) = (ApprovalState::Holding, ApprovalState::Waiting);
    let late = scene.refuse_mutation(answer_mutation(id, holding, true, 2_000)).await;
    assert_eq!(late, CommitRefusal::ApprovalMoved { found: ApprovalState::Expired });
    let wrong = scene.refuse_mutation(answer_mutation(id, waiting, true, 10)).await;
    assert_eq!(wrong, CommitRefusal::ApprovalMoved { found: holding });
    for _ in 0..2 {
        scene.commit_mutation(answer_mutation(id, holding, false, 10)).await;
    }
    let other = scene.refuse_mutation(answer_mutation(id, holding, true, 11)).await;
    assert_eq!(other, CommitRefusal::ApprovalMoved { found: ApprovalState::Denied });
    let missing = scene.refuse_mutation(answer_mutation(approval_id(9), holding, true, 10)).await;
    assert!(matches!(missing, CommitRefusal::NotFound(_)), "{missing}");
}

pub(super) async fn a_run_lets_go_of_an_approval_or_gets_its_answer_and_never_both(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let approval = ask_approval(&scene, 1).await;
    let lets_go = |approval: &ApprovalRequest| {
        let entries = vec![refused_entry(approval, CallStatus::Awaiting)];
        Mutation::RunAppend(run_append(approval.source.run, 1, 3, entries, RunStatus::Running))
    };
    scene.commit_mutation(answer_mutation(approval.id, ApprovalState::Holding, true, 10)).await;
    let refusal = scene.commit_refused(with_payer(scene.new_batch().with_mutation(lets_go(&approval)))).await;
    assert_eq!(refusal, CommitRefusal::ApprovalMoved { found: ApprovalState::Approved });
    let other = StoreScene::open_scene(Arc::clone(&scene.store), 2).await;
    let approval = ask_approval(&other, 2).await;
    other.commit_done(with_payer(other.new_batch().with_mutation(lets_go(&approval)))).await;
    assert_eq!(approval_state(&other, approval.id).await, Some(ApprovalState::Waiting));
    other
        .commit_done(other.new_batch().with_mutation(answer_mutation(
            approval.id,
            ApprovalState::Waiting,
            true,
            10,
        )))
        .await;
    let own =
        other.commit_refused(with_payer(other.new_batch().with_mutation(start_mutation(&approval, 4)))).await;
    assert_eq!(own, CommitRefusal::ApprovalMoved { found: ApprovalState::Approved }, "it is for another run");
}

pub(super) async fn what_ends_a_call_withdraws_its_approval_and_an_import_moves_none(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let approval = ask_approval(&scene, 1).await;
    let ends = |status| {
        let entries = vec![refused_entry(&approval, status)];
        Mutation::RunAppend(run_append(approval.source.run, 1, 3, entries, RunStatus::Running))
    };
    // A batch without a payer records what was done elsewhere.
    scene.commit_mutation(ends(CallStatus::Cancelled)).await;
    assert_eq!(approval_state(&scene, approval.id).await, Some(ApprovalState::Holding));
    let entries = vec![refused_entry(&approval, CallStatus::Cancelled)];
    let more = Mutation::RunAppend(run_append(approval.source.run, 1, 4, entries, RunStatus::Running));
    scene.commit_done(with_payer(scene.new_batch().with_mutation(more))).await;
    assert_eq!(approval_state(&scene, approval.id).await, Some(ApprovalState::Withdrawn));
}

pub(super) async fn the_end_of_an_agent_withdraws_what_was_approved_and_no_run_has(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let held = ask_approval(&scene, 1).await;
    let (holding, waiting) = (ApprovalState::Holding, ApprovalState::Waiting);
    for number in 2..5 {
        let gone =
            ApprovalRequest { id: approval_id(number), state: waiting, released: true, ..held.clone() };
        scene.commit_mutation(Mutation::ApprovalAsk(Box::new(gone))).await;
    }
    for (number, from, approved) in [(1, holding, true), (2, waiting, true), (3, waiting, false)] {
        scene.commit_mutation(answer_mutation(approval_id(number), from, approved, 10)).await;
    }
    let state_set =
        |from, to| Mutation::AgentStateSet(AgentStateSet { agent: scene.agent, from: vec![from], to });
    let (running, paused) = (AgentState::Running, AgentState::Paused);
    scene.commit_mutation(state_set(running, paused)).await;
    assert_eq!(
        approval_state(&scene, approval_id(2)).await,
        Some(ApprovalState::Approved),
        "it may run again"
    );
    for _ in 0..2 {
        scene.commit_mutation(state_set(paused, AgentState::Terminated)).await;
        for (number, expected) in [
            // Its run takes the answer, or the end, by itself.
            (1, ApprovalState::Approved),
            (2, ApprovalState::Withdrawn),
            (3, ApprovalState::Denied),
            (4, ApprovalState::Waiting),
        ] {
            assert_eq!(approval_state(&scene, approval_id(number)).await, Some(expected), "{number}");
        }
    }
    let found = scene.store.approval(&scene.tenant_scope(), approval_id(2)).await.expect("a read");
    assert!(found.is_some_and(|approval| approval.answer.is_some()), "who allowed it is known still");
}

/// The first bytes of the ids of a listing.
async fn listed_ids(scene: &StoreScene, filter: ApprovalFilter, page: PageRequest<ApprovalId>) -> Vec<u8> {
    let found = scene.store.approvals(&scene.tenant_scope(), filter, page).await.expect("a read");
    found.into_iter().map(|approval| approval.id.as_bytes()[0]).collect()
}

pub(super) async fn approvals_are_listed_newest_first_by_agent_and_while_they_are_open(
    store: Arc<dyn Store>,
) {
    let scene = StoreScene::open_scene(store, 1).await;
    let first = ask_approval(&scene, 1).await;
    for number in 2..5 {
        let more = ApprovalRequest { id: approval_id(number), ..first.clone() };
        scene.commit_mutation(Mutation::ApprovalAsk(Box::new(more))).await;
    }
    scene.commit_mutation(answer_mutation(approval_id(3), ApprovalState::Holding, false, 10)).await;
    let all = ApprovalFilter::default();
    assert_eq!(listed_ids(&scene, all, PageRequest::first_page(9)).await, [4, 3, 2, 1]);
    assert_eq!(listed_ids(&scene, all, PageRequest { after: Some(approval_id(4)), limit: 2 }).await, [3, 2]);
    let open = ApprovalFilter { open_at: Some(scene_time(1_999)), ..all };
    assert_eq!(listed_ids(&scene, open, PageRequest::first_page(9)).await, [4, 2, 1]);
    let over = ApprovalFilter { open_at: Some(scene_time(2_000)), ..all };
    assert_eq!(listed_ids(&scene, over, PageRequest::first_page(9)).await, [0_u8; 0]);
    let mine = ApprovalFilter { agent: Some(scene.agent), ..all };
    assert_eq!(listed_ids(&scene, mine, PageRequest::first_page(1)).await, [4]);
    let nobodys = ApprovalFilter { agent: Some(scene.agent_id()), ..all };
    assert_eq!(listed_ids(&scene, nobodys, PageRequest::first_page(9)).await, [0_u8; 0]);
}

/// What cools at a time, of every tenant.
async fn list_cooling(scene: &StoreScene, open_at: i64, limit: usize) -> Vec<CoolingApproval> {
    let operator = ScopeAuthority::claim().issue_operator();
    scene.store.cooling_approvals(&operator, scene_time(open_at), 0, limit).await.expect("a read")
}

pub(super) async fn what_cools_is_listed_in_turns_and_by_its_time_while_it_is_open(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
    let other = StoreScene::open_scene(store, 2).await;
    let (mine, theirs) = (ask_approval(&scene, 1).await, ask_approval(&other, 1).await);
    assert_eq!(list_cooling(&scene, 10, 9).await.len(), 0, "what only a person allows has no time");
    let delayed = [(&scene, &mine, 2, 900), (&other, &theirs, 3, 1_500), (&scene, &mine, 4, 20)];
    for (scene, first, number, until) in delayed {
        let cools_until = Some(scene_time(until));
        let delayed = ApprovalRequest {
            id: approval_id(number),
            deadlines: ApprovalDeadlines { cools_until, ..first.clone().deadlines },
            ..first.clone()
        };
        scene.commit_mutation(Mutation::ApprovalAsk(Box::new(delayed))).await;
    }
    let row = |tenant, number, until| CoolingApproval {
        tenant,
        approval: approval_id(number),
        until: scene_time(until),
    };
    let (first, second, theirs) =
        (row(scene.tenant, 4, 20), row(scene.tenant, 2, 900), row(other.tenant, 3, 1_500));
    let all = [first, theirs, second];
    assert_eq!(list_cooling(&scene, 10, 9).await, all, "each tenant has its turn");
    assert_eq!(list_cooling(&scene, 1_999, 2).await, all[..2], "a page of them");
    let operator = ScopeAuthority::claim().issue_operator();
    for skip in 0..=all.len() + 1 {
        let behind = scene.store.cooling_approvals(&operator, scene_time(10), skip, 1).await.expect("a read");
        assert_eq!(behind, all.get(skip..=skip).unwrap_or_default(), "behind {skip}");
    }
    assert_eq!(list_cooling(&scene, 2_000, 9).await.len(), 0, "they have expired");
    scene.commit_mutation(answer_mutation(approval_id(4), ApprovalState::Holding, false, 10)).await;
    assert_eq!(list_cooling(&scene, 10, 9).await, [second, theirs], "what is answered cools no more");
    let set = AgentStateSet { agent: scene.agent, from: vec![AgentState::Running], to: AgentState::Deleting };
    scene.commit_mutation(Mutation::AgentStateSet(set)).await;
    assert_eq!(list_cooling(&scene, 10, 9).await, all[1..2], "what is being erased is not seen");
}

pub(super) async fn a_stranger_sees_and_answers_no_approval_and_an_erasure_takes_it(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let approval = ask_approval(&scene, 1).await;
    scene.commit_mutation(rule_mutation(&scene, "mine", 10, 900)).await;
    let stranger = StoreScene::open_scene(Arc::clone(&scene.store), 2).await;
    assert_eq!(approval_state(&stranger, approval.id).await, None);
    let all = ApprovalFilter::default();
    let listed = stranger.store.approvals(&stranger.tenant_scope(), all, PageRequest::first_page(9)).await;
    assert_eq!(listed, Ok(Vec::new()));
    assert_eq!(stranger.store.approval_rules(&stranger.tenant_scope()).await, Ok(Vec::new()));
    for batch in [
        stranger.new_batch().with_mutation(answer_mutation(approval.id, ApprovalState::Holding, true, 10)),
        stranger.new_batch().with_mutation(Mutation::ApprovalAsk(Box::new(approval.clone()))),
        stranger.new_batch().with_mutation(rule_mutation(&scene, "theirs", 10, 900)),
    ] {
        let refusal = stranger.commit_refused(batch).await;
        assert!(matches!(refusal, CommitRefusal::NotFound(_)), "{refusal}");
    }
    let narrow = scene.tenant_scope().narrowed_to(scene.agent_id());
    assert_eq!(scene.store.approval(&narrow, approval.id).await, Ok(None));
    assert_eq!(
        scene.store.approval_rules(&scene.tenant_scope().narrowed_to(scene.agent)).await,
        Ok(Vec::new())
    );
    let set = AgentStateSet { agent: scene.agent, from: vec![AgentState::Running], to: AgentState::Deleting };
    scene.commit_mutation(Mutation::AgentStateSet(set)).await;
    assert_eq!(approval_state(&scene, approval.id).await, None, "what is being erased is not seen");
    while !scene.store.erase_agent_page(&scene.tenant_scope(), scene.agent).await.expect("a page").1 {}
    assert_eq!(scene.store.approval_rules(&scene.tenant_scope()).await, Ok(Vec::new()));
}

/// A rule of the scene's agent.
fn rule_mutation(scene: &StoreScene, name: &str, made: i64, ends: i64) -> Mutation {
    Mutation::ApprovalRulePut(ApprovalRuleRecord {
        name: name.to_owned(),
        answer: RuleAnswer::Allow,
        rule: "exec argv=[\"true\"]".to_owned(),
        agent: Some(scene.agent),
        session: None,
        owner: Actor::new("token:ops"),
        created_at: scene_time(made),
        expires_at: scene_time(ends),
    })
}

/// The names of all rules.
async fn rule_names(scene: &StoreScene) -> Vec<String> {
    let rules = scene.store.approval_rules(&scene.tenant_scope()).await.expect("a read");
    rules.into_iter().map(|rule| rule.name).collect()
}

pub(super) async fn rules_of_approvals_are_kept_by_name_until_one_comes_after_their_end(
    store: Arc<dyn Store>,
) {
    let scene = StoreScene::open_scene(store, 1).await;
    for (name, made, ends) in [("b", 10, 100), ("a", 10, 50), ("b", 20, 90)] {
        scene.commit_mutation(rule_mutation(&scene, name, made, ends)).await;
    }
    assert_eq!(rule_names(&scene).await, ["a", "b"]);
    scene.commit_mutation(rule_mutation(&scene, "c", 60, 100)).await;
    assert_eq!(rule_names(&scene).await, ["b", "c"], "the one that had ended is gone");
    let remove = || Mutation::ApprovalRuleRemove(ApprovalRuleRemove { name: "b".to_owned() });
    for _ in 0..2 {
        scene.commit_mutation(remove()).await;
    }
    assert_eq!(rule_names(&scene).await, ["c"]);
    for (name, ends) in [("C", 900), ("d", 10)] {
        let refusal = scene.refuse_mutation(rule_mutation(&scene, name, 60, ends)).await;
        assert!(matches!(refusal, CommitRefusal::Malformed(_)), "{refusal}");
    }
    for number in 1..RULES_MAX {
        scene.commit_mutation(rule_mutation(&scene, &format!("n{number}"), 60, 100)).await;
    }
    let full = scene.refuse_mutation(rule_mutation(&scene, "more", 60, 100)).await;
    assert!(matches!(full, CommitRefusal::Malformed(_)), "{full}");
    scene.commit_mutation(rule_mutation(&scene, "c", 60, 100)).await;
}
