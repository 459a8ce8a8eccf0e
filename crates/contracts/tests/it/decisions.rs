//! Decisions that other crates leave to the contracts: what may follow, what counts, what is kept and for how long.

use bytes::Bytes;
use dromia_contracts::answer_format::AnswerFormat;
use dromia_contracts::approval::{SWEEP_LOOKS_MAX, sweep_looks};
use dromia_contracts::budget::{BudgetDefinition, BudgetMeasure, BudgetPeriod, BudgetScope, NAME_BYTES_MAX};
use dromia_contracts::client::{ClientOptions, ClientTool, ToolChoice};
use dromia_contracts::delivery::{AttemptOutcome, DeliveryState};
use dromia_contracts::egress::{HttpMethod, find_header};
use dromia_contracts::entry::{WithheldReply, repeated_text};
use dromia_contracts::id_fragment::IdFragment;
use dromia_contracts::model::UsageDetail;
use dromia_contracts::opinion::ModelOpinion;
use dromia_contracts::pool::FairQueue;
use dromia_contracts::run::RunStatus;
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::{AnswerPut, CommitRefusal, InboxPut, ItemKey, KeyLifetime};
use dromia_contracts::task::{TaskCounts, TaskState};
use dromia_contracts::token::TokenScopes;
use dromia_contracts::vault::{KeyBytes, NoSecrets, SecretScanner, SecretValue};
use dromia_contracts::workspace::WorkspaceReference;
use dromia_contracts::{Actor, Digest, ItemId, RunId, SessionId, TenantId};
use jiff::{SignedDuration, Timestamp};

const AT: Timestamp = Timestamp::constant(1_700_000_000, 0);

fn claim(claim: u128, at: Timestamp, answer: Option<&'static [u8]>) -> AnswerPut {
    let digest = Digest::from_bytes([1; 32]);
    AnswerPut { key: digest, request: digest, claim, at, answer: answer.map(Bytes::from_static) }
}

#[test]
fn a_key_belongs_to_its_claim_for_a_day() {
    let day = AT + AnswerPut::KEPT;
    let almost = day - SignedDuration::from_nanos(1);
    let taken = Err(CommitRefusal::AnswerClaimed);
    for (put, known, replaces) in [
        (claim(1, AT, None), None, Ok(true)),
        // The claim's own answer comes once.
        (claim(1, AT, Some(b"yes")), Some(claim(1, AT, None)), Ok(true)),
        (claim(1, AT, None), Some(claim(1, AT, None)), Ok(false)),
        (claim(1, AT, Some(b"yes")), Some(claim(1, AT, Some(b"no"))), Ok(false)),
        (claim(1, day, None), Some(claim(1, AT, Some(b"no"))), Ok(false)),
        // Another claim waits for it to be given back, or for a day.
        (claim(2, AT, None), Some(claim(1, AT, None)), taken.clone()),
        (claim(2, AT, Some(b"yes")), Some(claim(1, AT, None)), taken.clone()),
        (claim(2, almost, None), Some(claim(1, AT, Some(b"yes"))), taken),
        (claim(2, AT, None), Some(claim(1, AT, Some(b""))), Ok(true)),
        (claim(2, day, None), Some(claim(1, AT, None)), Ok(true)),
        (claim(2, day, None), Some(claim(1, AT, Some(b"yes"))), Ok(true)),
        (claim(2, day + SignedDuration::from_secs(1), None), Some(claim(1, AT, None)), Ok(true)),
    ] {
        assert_eq!(put.replaces(known.as_ref()), replaces, "{put:?} over {known:?}");
    }
}

#[test]
fn a_client_s_key_is_free_after_a_day() {
    let put = |key: Option<KeyLifetime>| InboxPut {
        owner: InboxOwner::Session(SessionId::from_bytes([1; 16])),
        item: ItemId::from_bytes([2; 16]),
        at: AT,
        kind: ItemKind::Input,
        author: Actor::new("cli"),
        body: Bytes::new(),
        key: key.map(|lifetime| ItemKey {
            key: "key".to_owned(),
            request: Digest::from_bytes([1; 32]),
            lifetime,
        }),
    };
    assert_eq!(put(None).key_expires_at(), None);
    assert_eq!(put(Some(KeyLifetime::Forever)).key_expires_at(), None);
    assert_eq!(put(Some(KeyLifetime::Day)).key_expires_at(), Some(AT + SignedDuration::from_hours(24)));
}

#[test]
fn inboxes_take_only_the_items_of_their_owner() {
    use ItemKind::{Approve, Approved, Cancel, Deny, Input, Release, Resume, Terminate};
    let (session, run) =
        (InboxOwner::Session(SessionId::from_bytes([7; 16])), InboxOwner::Run(RunId::from_bytes([8; 16])));
    assert_eq!((session.as_bytes(), run.as_bytes()), (&[7; 16], &[8; 16]));
    for kind in [Input, Resume, Approved, Cancel, Terminate, Release, Approve, Deny] {
        let is_input = matches!(kind, Input | Resume | Approved);
        assert_eq!((session.takes_kind(kind), run.takes_kind(kind)), (is_input, !is_input), "{kind:?}");
    }
}

#[test]
fn states_say_what_may_follow_them() {
    use DeliveryState as State;
    let begins = State::ALL.into_iter().filter(|state| state.may_begin()).collect::<Vec<_>>();
    assert_eq!(begins, [State::Prepared, State::Failed]);
    let redriven = State::ALL.into_iter().filter(|state| state.may_be_redriven()).collect::<Vec<_>>();
    assert_eq!(redriven, [State::Dead, State::UnknownAfterSend]);
    for outcome in AttemptOutcome::ALL {
        let surely_not = matches!(outcome, AttemptOutcome::NotSent | AttemptOutcome::NotAccepted);
        assert_eq!(outcome.may_have_arrived(), !surely_not, "{outcome:?}");
    }
    let ended = RunStatus::ALL.into_iter().filter(|status| status.is_terminal()).collect::<Vec<_>>();
    assert_eq!(ended, [RunStatus::Completed, RunStatus::Yielded, RunStatus::Failed, RunStatus::Cancelled]);
    let safe = HttpMethod::ALL.into_iter().filter(|method| method.is_safe()).collect::<Vec<_>>();
    assert_eq!(safe, [HttpMethod::Get, HttpMethod::Head]);
    assert!(!HttpMethod::Connect.is_safe());
}

#[test]
fn a_changed_limit_keeps_what_was_counted() {
    let budget = BudgetDefinition {
        name: "a".repeat(NAME_BYTES_MAX),
        per: BudgetScope::Tenant,
        of: None,
        measure: BudgetMeasure::Calls,
        period: BudgetPeriod::Day,
        limit: i64::MAX.unsigned_abs(),
        declared: false,
    };
    assert_eq!(budget.validation_problem(), None);
    assert!(BudgetDefinition { limit: budget.limit + 1, ..budget.clone() }.validation_problem().is_some());
    assert!(
        BudgetDefinition { name: format!("{}a", budget.name), ..budget.clone() }
            .validation_problem()
            .is_some()
    );
    assert!(budget.counts_as(&BudgetDefinition { limit: 1, declared: true, ..budget.clone() }));
    for other in [
        BudgetDefinition { name: "b".to_owned(), ..budget.clone() },
        BudgetDefinition { per: BudgetScope::Agent, ..budget.clone() },
        BudgetDefinition { measure: BudgetMeasure::Tokens, ..budget.clone() },
        BudgetDefinition { period: BudgetPeriod::Hour, ..budget.clone() },
    ] {
        assert!(!budget.counts_as(&other), "{other:?}");
    }
    for (text, ms) in [
        ("2s", Some(2_000)),
        ("2m", Some(120_000)),
        ("2h", Some(7_200_000)),
        ("2d", Some(172_800_000)),
        ("2w", None),
    ] {
        assert_eq!(BudgetMeasure::Time.parse_limit(text), ms, "{text}");
    }
}

#[test]
fn second_looks_take_turns_behind_the_first() {
    for (beyond, turn) in [(0, 0), (255, 0), (256, 0), (257, 1), (511, 1), (512, 2), (770, 2)] {
        assert_eq!(sweep_looks(beyond), [0, SWEEP_LOOKS_MAX * (1 + turn)], "{beyond}");
    }
}

#[test]
fn what_says_nothing_is_empty() {
    assert!(TokenScopes::default().is_empty() && !TokenScopes::ADMIN.is_empty());
    assert!(ToolChoice::Free.is_free() && !ToolChoice::Required.is_free());
    let tool =
        ClientTool { name: "t".to_owned(), description: String::new(), parameters: serde_json::json!({}) };
    assert!(ClientOptions::default().is_empty());
    assert!(!ClientOptions { tools: vec![tool], ..ClientOptions::default() }.is_empty());
    let detail = UsageDetail { cache_read_tokens: 1, ..UsageDetail::default() };
    assert!(UsageDetail::default().is_empty() && !detail.is_empty());
    assert_eq!(serde_json::to_value(detail).expect("JSON"), serde_json::json!({"cache_read_tokens": 1}));
    assert_eq!(NoSecrets.find_secrets(b"abc"), []);
    assert_eq!(NoSecrets.find_quickly(b"abc"), Some(vec![]));
    assert_eq!(NoSecrets.open_from(b"abc"), 3);
}

#[test]
fn values_are_found_and_given_as_they_are() {
    use TaskState::{Completed, Failed, Paused, Pending, Running};

    let headers =
        [("b", "1"), ("a", "2"), ("a", "3")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!((find_header(&headers, "a"), find_header(&headers, "c")), (Some("2"), None));
    assert_eq!(SecretValue::new("hush-hush".to_owned()).expect("a value").expose_secret(), "hush-hush");
    assert_eq!(KeyBytes::new([5; 32]).expose_key(), &[5; 32]);
    let counts = TaskCounts { pending: 3, running: 4, paused: 5, completed: 6, failed: 7 };
    assert_eq!(
        [Pending, Running, Paused, Completed, Failed].map(|state| counts.count_of(state)),
        [3, 4, 5, 6, 7]
    );
    for (text, read_only) in [("/srv/work", false), ("/srv/work:ro", true)] {
        let workspace: WorkspaceReference = text.parse().expect("a workspace");
        assert_eq!(
            (workspace.is_read_only(), workspace.directory().to_str()),
            (read_only, Some("/srv/work"))
        );
    }
    let fragment: IdFragment = "199c00d".parse().expect("a fragment");
    assert_eq!(fragment.last_bytes(), [0x99, 0xc0, 0x0d]);
    assert_eq!(RunId::earliest_at(AT).as_bytes()[..6], 1_700_000_000_000_u64.to_be_bytes()[2..]);
}

#[test]
fn withheld_answers_are_repaired_only_for_their_schema() {
    let withheld = |rule: &str| WithheldReply { rule: rule.to_owned(), reason: String::new() };
    assert!(withheld(AnswerFormat::RULE).is_unfit() && !withheld("leak").is_unfit());
    assert!(AnswerFormat::repair_request("/a is missing").contains("/a is missing"));
    let any = AnswerFormat { name: "f".to_owned(), schema: None, strict: false };
    assert_eq!(any.effective_schema(), serde_json::json!({"type": "object"}));
    assert!(any.instruction().contains("JSON object"));
    let schema = serde_json::json!({"type": "string"});
    let one = AnswerFormat { name: "f".to_owned(), schema: Some(schema.clone()), strict: false };
    assert_eq!(one.effective_schema(), schema);
    assert!(one.instruction().contains(&schema.to_string()));
    assert!(repeated_text(7).contains("7 steps"));
    let opinion = ModelOpinion {
        model: "judge".to_owned(),
        go: 1,
        stop: 2,
        neither: 3,
        agree: 4,
        problem: Some("late".to_owned()),
    };
    assert_eq!(
        opinion.opinion_text(),
        "judge was asked 6 times: 1 go, 2 stop, 3 neither; 4 go are needed: late"
    );
}

#[test]
fn a_queue_shares_the_slots_that_it_was_given_last() {
    let tenant = TenantId::from_bytes([1; 16]);
    let mut queue = FairQueue::<u8>::new(1, 0);
    assert!(queue.try_take(tenant) && !queue.try_take(tenant));
    queue.resize(3, 9);
    // The reserve leaves one slot to a tenant that is alone.
    assert!(!queue.try_take(tenant));
    queue.resize(3, 1);
    assert!(queue.try_take(tenant) && !queue.try_take(tenant));
    queue.resize(3, 0);
    assert!(queue.try_take(tenant));
    queue.resize(0, 0);
    assert_eq!((queue.capacity(), queue.waiting_count()), (1, 0));
    queue.push(tenant, 1);
    queue.push(tenant, 2);
    assert_eq!((queue.take_next(), queue.waiting_count()), (None, 2));
}
