//! Rows beside the journals, edited past the store: each edit is found, by the row's name and with the record that says
//! otherwise, and what no record tells of is told as such.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::Connection;
use serde_json::json;

use dromia_contracts::approval::{
    AnswerRecord, ApprovalReach, ApprovalRequest, ApprovalRuleRecord, ApprovalState, RuleAnswer,
};
use dromia_contracts::budget::{BudgetDefinition, BudgetMeasure, BudgetPeriod, BudgetScope};
use dromia_contracts::capability::{CapabilityRecord, CapabilityUse};
use dromia_contracts::entry::Entry;
use dromia_contracts::label::Label;
use dromia_contracts::plan::CallProvenance;
use dromia_contracts::run::{RunHead, RunStatus};
use dromia_contracts::store::{
    ApprovalAnswer, BudgetRemove, BudgetSet, CapabilityRevoke, Mutation, ReadError, Store as _, TextPin,
    TokenCreate, TokenRevoke, WriteBatch,
};
use dromia_contracts::token::{TokenScope, TokenScopes};
use dromia_contracts::vault::{SealedSecret, SecretPlacement, SecretSummary};
use dromia_contracts::{Actor, ApprovalId, CapabilityId, Digest, RunId, TokenId};
use dromia_store::{AuditChecked, AuditFinding, AuditProblem, JournalFold, StoreConfig, StoreInspector};

use crate::scene::{AGENT, SESSION, Scene, TENANT, agent_create, at, head};

/// What a journal of these tests says of its run.
#[derive(Debug, Default)]
pub(crate) struct Folded(Option<RunStatus>);

impl JournalFold for Folded {
    fn begin_run(&mut self) {
        self.0 = None;
    }

    fn take_entry(&mut self, entry: &Entry) {
        let is_done = matches!(entry, Entry::RunCompleted(_));
        self.0 = Some(if is_done { RunStatus::Completed } else { RunStatus::Running });
    }

    fn run_status(&self) -> Option<RunStatus> {
        self.0
    }

    fn run_head(&self) -> Option<RunHead> {
        self.0.map(head)
    }
}

pub(crate) fn check(dir: &Path) -> AuditChecked {
    let inspector = StoreInspector::new(StoreConfig::new(dir), Duration::from_mins(1));
    inspector.audit_tenant(TENANT, &[], &mut Folded::default()).expect("is checked")
}

fn token(number: u8, scope: TokenScope) -> Mutation {
    Mutation::TokenCreate(TokenCreate {
        token: TokenId::from_bytes([number; 16]),
        hash: Digest::from_bytes([number; 32]),
        name: format!("token-{number}"),
        scopes: TokenScopes::from_iter([scope]),
        // One of them ends by itself.
        expires_at: (number == 0x43).then(|| at(9_000)),
        at: at(5),
    })
}

fn capability(number: u8, parent: Option<u8>) -> Mutation {
    let id = |number| CapabilityId::from_bytes([number; 16]);
    Mutation::CapabilityPut(CapabilityRecord {
        id: id(number),
        holder: AGENT,
        parent: parent.map(id),
        usage: CapabilityUse::Held,
        rights: vec!["file:read:docs".to_owned(), "file:write:out".to_owned()],
        until: None,
        wall_ms_max: None,
        token: Bytes::from_static(b"token"),
        by: Actor::new("cli:0"),
        created_at: at(6),
        revoked_at: None,
    })
}

fn budget(name: &str) -> Mutation {
    let (name, of) = (name.to_owned(), None);
    let (per, measure, period) = (BudgetScope::Tenant, BudgetMeasure::Tokens, BudgetPeriod::Day);
    let budget = BudgetDefinition { name, per, of, measure, period, limit: 1_000, declared: false };
    Mutation::BudgetSet(BudgetSet { budget })
}

fn secret(name: &str) -> Mutation {
    let secret = SecretSummary {
        name: name.to_owned(),
        version: 1,
        host: "https://bank.example:443".to_owned(),
        placement: SecretPlacement::Bearer,
        created_at: at(7),
        changed_at: at(7),
    };
    let sealed = || Bytes::from_static(b"sealed");
    Mutation::SecretPut(SealedSecret { secret, key: sealed(), value: sealed() })
}

fn rule(name: &str, answer: RuleAnswer) -> Mutation {
    Mutation::ApprovalRulePut(ApprovalRuleRecord {
        name: name.to_owned(),
        answer,
        rule: "exec".to_owned(),
        agent: Some(AGENT),
        session: Some(SESSION),
        owner: Actor::new("cli:0"),
        created_at: at(8),
        expires_at: at(1_000_000),
    })
}

fn asked(run: RunId, number: u8) -> ApprovalRequest {
    let digest = Digest::from_bytes([number; 32]);
    let approval = json!({
        "id": ApprovalId::from_bytes([number; 16]), "agent": AGENT, "session": SESSION, "run": run, "call": "call_1_0",
        "author": "cli:ada", "hops": 0, "context": Label::ACTOR_TEXT, "tool": "exec", "arguments": "{}",
        "action": digest, "binding": digest, "origins": [], "rule": "permission", "reason": "a person looks",
        "bound": {"call": 1, "tool": 2, "asker": 3, "rule": 4}, "provenance": CallProvenance::default(),
        "asked_at": at(5), "holds_until": at(1_000), "expires_at": at(2_000), "state": "holding",
    });
    serde_json::from_value(approval).expect("an approval")
}

fn answer(number: u8, approved: bool) -> Mutation {
    let (by, reach) = (Actor::new("cli:0"), approved.then_some(ApprovalReach::Once));
    Mutation::ApprovalAnswer(ApprovalAnswer {
        approval: ApprovalId::from_bytes([number; 16]),
        from: ApprovalState::Holding,
        approved,
        answered: AnswerRecord { by, at: at(9), reason: String::new(), reach },
    })
}

/// A store with something of everything that records tell of.
async fn world() -> Scene {
    let scene = Scene::open().await;
    let run = scene.turn_done(SESSION, 0, "hi").await;
    let by = Actor::new("cli:0");
    let done = |mutations: Vec<Mutation>| {
        let batch = WriteBatch::new(TENANT).wanted_by(&by, at(10));
        scene.done(mutations.into_iter().fold(batch, WriteBatch::with_mutation))
    };
    let tokens =
        [token(0x41, TokenScope::Read), token(0x42, TokenScope::Admin), token(0x43, TokenScope::Read)];
    done(tokens.into_iter().chain([secret("bank")]).collect()).await;
    let revoked = TokenId::from_bytes([0x42; 16]);
    done(vec![Mutation::TokenRevoke(TokenRevoke { token: revoked, at: at(10) })]).await;
    done(vec![capability(0x51, None), capability(0x52, Some(0x51)), capability(0x53, None)]).await;
    let taken = CapabilityId::from_bytes([0x53; 16]);
    done(vec![Mutation::CapabilityRevoke(CapabilityRevoke { capability: taken, at: at(10) })]).await;
    done(vec![budget("day"), budget("gone")]).await;
    done(vec![Mutation::BudgetRemove(BudgetRemove { name: "gone".to_owned() })]).await;
    for number in [0x61, 0x62, 0x63] {
        done(vec![Mutation::ApprovalAsk(Box::new(asked(run, number)))]).await;
    }
    done(vec![answer(0x61, true)]).await;
    done(vec![answer(0x62, false)]).await;
    done(vec![rule("no-exec", RuleAnswer::Deny)]).await;
    let bytes = Bytes::from_static(b"the prompt");
    let digest = Digest::from_bytes(*blake3::hash(&bytes).as_bytes());
    done(vec![Mutation::PinPut(TextPin { digest, bytes })]).await;
    scene
}

/// Edits a store past it, and checks it.
async fn edited(sql: &str) -> AuditChecked {
    let Scene { dir, store, .. } = world().await;
    drop(store);
    let db: Connection = Scene::sql(dir.path());
    db.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(db.changes() > 0, "{sql} changes something");
    drop(db);
    check(dir.path())
}

fn said(found: &AuditFinding) -> String {
    let (row, detail) =
        (found.row.as_deref().unwrap_or_default(), found.detail.as_deref().unwrap_or_default());
    format!("{} {row}: {detail}", found.problem.as_str())
}

#[tokio::test]
async fn unedited_rows_agree_with_their_records() {
    let scene = world().await;
    let checked = check(scene.dir.path());
    assert_eq!(checked.findings, []);
    // The tenant, an agent, three tokens, a secret, three capabilities, a budget, three approvals and a rule.
    assert_eq!(checked.rows, 14);
}

#[tokio::test]
async fn any_right_that_is_edited_past_the_store_is_caught() {
    for (sql, expected) in [
        ("UPDATE tokens SET scopes = 31 WHERE name = 'token-65'", "row_changed token tok_4141: scopes"),
        ("UPDATE tokens SET scopes = 1023 WHERE name = 'token-65'", "row_changed some row of tokens"),
        (
            "UPDATE tokens SET revoked_at = NULL WHERE name = 'token-66'",
            "row_changed token tok_4242: revocation",
        ),
        (
            "UPDATE tokens SET revoked_at = revoked_at + 1 WHERE name = 'token-66'",
            "row_changed token tok_4242: revocation",
        ),
        ("UPDATE tokens SET hash = zeroblob(32) WHERE name = 'token-65'", "row_changed token tok_4141: hash"),
        ("UPDATE tokens SET expires_at = 1 WHERE name = 'token-65'", "row_changed token tok_4141: end"),
        ("UPDATE tokens SET expires_at = NULL WHERE name = 'token-67'", "row_changed token tok_4343: end"),
        ("DELETE FROM tokens WHERE name = 'token-65'", "row_removed token tok_4141"),
        ("UPDATE tenants SET handle = 'theirs'", "row_changed tenant ten_0101: handle"),
        ("UPDATE sessions SET agent = zeroblob(16)", "row_changed session ses_0303: agent"),
        ("DELETE FROM sessions", "row_removed session ses_0303: agent"),
        (
            "INSERT INTO tokens SELECT zeroblob(32), tenant, zeroblob(16), 'mine', 31, at, NULL, NULL FROM tokens LIMIT 1",
            "row_unrecorded token tok_0000",
        ),
        ("UPDATE agents SET handle = 'eve'", "row_changed agent agt_0202: handle"),
        ("UPDATE agents SET state = 1", "row_changed agent agt_0202: state"),
        ("UPDATE agents SET revision = zeroblob(32)", "row_changed agent agt_0202: configuration"),
        ("UPDATE secrets SET host = 'https://evil.example:443'", "row_changed secret bank: host"),
        ("DELETE FROM secrets", "row_removed secret bank"),
        (
            "UPDATE capabilities SET rights = 'tool:exec' WHERE parent IS NULL",
            "row_changed capability cap_5151: rights",
        ),
        ("UPDATE capabilities SET parent = NULL", "row_changed capability cap_5252: what it was made from"),
        ("UPDATE capabilities SET revoked_at = NULL", "row_changed capability cap_5353: revocation"),
        (
            "UPDATE capabilities SET capability = zeroblob(16) WHERE revoked_at IS NOT NULL",
            "row_unrecorded capability cap_0000",
        ),
        ("UPDATE budgets SET most = 1000000", "row_changed budget day: limit"),
        ("UPDATE budgets SET period = 3", "row_changed budget day: what it counts"),
        ("UPDATE budgets SET name = 'other'", "row_removed budget day"),
        ("UPDATE budgets SET name = 'gone'", "row_changed budget gone: that it stands"),
        (
            "UPDATE approvals SET record = replace(record, '\"state\":\"denied\"', '\"state\":\"approved\"')",
            "row_changed approval apr_6262: answer",
        ),
        (
            "UPDATE approvals SET open = 0, record = replace(record, '\"state\":\"holding\"', '\"state\":\"approved\"')",
            "row_unrecorded approval apr_6363",
        ),
        ("UPDATE approvals SET expires_at = 9000000000000", "row_changed approval apr_6161: its columns"),
        (
            "UPDATE approval_rules SET record = replace(record, '\"answer\":\"deny\"', '\"answer\":\"allow\"')",
            "row_changed approval rule no-exec: answer",
        ),
        (
            "UPDATE approval_rules SET record = replace(record, '\"rule\":\"exec\"', '\"rule\":\"file.read\"')",
            "row_changed approval rule no-exec: the rule itself",
        ),
        (
            "UPDATE approval_rules SET expires_at = 0, \
             record = json_set(record, '$.expires_at', '1970-01-01T00:00:00Z')",
            "row_changed approval rule no-exec: end",
        ),
        (
            "UPDATE approval_rules SET record = json_remove(record, '$.session')",
            "row_changed approval rule no-exec: session",
        ),
        ("DELETE FROM approval_rules", "row_removed approval rule no-exec"),
        (
            "UPDATE revisions SET config = replace(config, 'reply', 'exec')",
            "row_changed revision of agent agt_0202",
        ),
        ("UPDATE pins SET bytes = x'00'", "row_changed pin"),
        ("UPDATE inbox SET author = 'cli:mallory'", "row_changed item 1 of the inbox of ses_0303"),
        ("UPDATE runs SET status = 0", "run_changed : it says running, but its journal says completed"),
        ("UPDATE runs SET agent = zeroblob(16)", "run_changed : its journal started for another agent"),
    ] {
        let checked = edited(sql).await;
        let found: Vec<_> = checked.findings.iter().map(said).collect();
        let is_it = |found: &String| {
            // Ids are of one byte here, so a few of them stand for all.
            let (problem, detail) = expected.split_once(": ").unwrap_or((expected, ""));
            found.starts_with(problem) && found.contains(detail)
        };
        assert!(found.iter().any(is_it), "{sql}: no {expected} in {found:?}");
    }
}

#[tokio::test]
async fn a_finding_names_the_record_that_says_otherwise() {
    let checked = edited("UPDATE budgets SET most = 7").await;
    let [found] = checked.findings.as_slice() else { panic!("one finding: {:?}", checked.findings) };
    assert_eq!((found.problem, found.row.as_deref()), (AuditProblem::RowChanged, Some("budget day")));
    let seal = found.seal.expect("a record");
    let detail = found.detail.as_deref().expect("a detail");
    assert_eq!(detail, format!("limit, as act:{seal} has it"));
}

#[tokio::test]
async fn a_denying_rule_removed_before_its_end_is_missed() {
    let scene = world().await.reopen(|dir| {
        assert_eq!(Scene::sql(dir).execute("DELETE FROM approval_rules", []).expect("is edited"), 1);
    });
    let set = async |name: &str, from: i64, to: i64| {
        let Mutation::ApprovalRulePut(rule) = rule(name, RuleAnswer::Deny) else { panic!("a rule") };
        let rule = ApprovalRuleRecord { created_at: at(from), expires_at: at(to), ..rule };
        let batch = WriteBatch::new(TENANT).wanted_by(&Actor::new("cli:0"), at(from));
        scene.done(batch.with_mutation(Mutation::ApprovalRulePut(rule))).await;
    };
    // The one in between has ended when the last one is set, and goes by right.
    set("short", 20, 30).await;
    set("last", 40, 1_000_000).await;
    let checked = check(scene.dir.path());
    let [found] = checked.findings.as_slice() else { panic!("one finding: {:?}", checked.findings) };
    assert_eq!(
        (found.problem, found.row.as_deref()),
        (AuditProblem::RowRemoved, Some("approval rule no-exec"))
    );
}

#[tokio::test]
async fn rights_without_any_record_and_their_tenant_are_found() {
    let checked = edited("DELETE FROM audit; DELETE FROM audit_heads").await;
    let mut unrecorded: BTreeMap<String, usize> = BTreeMap::new();
    for row in checked.findings.iter().filter_map(|found| found.row.as_deref()) {
        *unrecorded.entry(row.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    // Of the approvals it is the one that was allowed, and the rule.
    let expected = [
        ("agent", 1),
        ("approval", 2),
        ("budget", 1),
        ("capability", 3),
        ("secret", 1),
        ("tenant", 1),
        ("token", 3),
    ];
    assert_eq!(unrecorded, BTreeMap::from(expected.map(|(kind, count)| (kind.to_owned(), count))));
    let rows = checked.findings.iter().filter(|found| found.row.is_some());
    assert!(rows.clone().all(|found| found.problem == AuditProblem::RowUnrecorded), "{checked:?}");
}

#[tokio::test]
async fn a_configuration_that_its_digest_does_not_name_is_caught() {
    let Mutation::AgentCreate(create) = agent_create(AGENT, "ada") else { panic!("an agent") };
    let scene = Scene::open().await;
    let read = scene.store.agent_revision(&Scene::scope(), AGENT, create.revision).await.expect("is read");
    assert_eq!(read.map(|revision| revision.config), Some(create.config));
    let scene = scene.reopen(|dir| {
        let sql = "UPDATE revisions SET config = replace(config, 'reply', 'exec')";
        assert_eq!(Scene::sql(dir).execute(sql, []).expect("is edited"), 1);
    });
    let read = scene.store.agent_revision(&Scene::scope(), AGENT, create.revision).await;
    let Err(ReadError::Damaged { place, problem }) = read else { panic!("it was edited: {read:?}") };
    assert!(place.contains(&AGENT.to_string()) && problem.contains("digest"), "{place}: {problem}");
}
