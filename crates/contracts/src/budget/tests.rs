use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::*;
use crate::content::CallStatus;
use crate::digest::Digest;
use crate::encoded_request::{BodyDigest, RequestEncoding, SentEncoding, TaintedPast};
use crate::entry::{
    Entry, ModelCalled, ModelFailed, ModelReplied, OpinionCalled, OpinionGiven, ToolFinished, ToolRefused,
    ToolStarted,
};
use crate::fault::ErrorCode;
use crate::id::CallId;
use crate::model::{FinishReason, TokenUsage, UsageDetail};
use crate::opinion::ModelOpinion;
use crate::store::NewEntry;
use crate::tool::EffectClass;

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn budget(name: &str, measure: BudgetMeasure, limit: u64) -> BudgetDefinition {
    let (per, period) = (BudgetScope::Tenant, BudgetPeriod::Day);
    BudgetDefinition { name: name.to_owned(), per, of: None, measure, period, limit, declared: false }
}

fn called(seconds: i64) -> NewEntry {
    let entry = Entry::ModelCalled(ModelCalled {
        step: 1,
        attempt: 1,
        model: "m".to_owned(),
        history_from: 1,
        input_tokens: 10,
        output_tokens_max: 90,
        reserved_micros: 70,
        unpriced: false,
        sent: serde_json::from_str(r#"{"form":"chat/1","model":"m","digest":"0001020304050607"}"#)
            .expect("is data"),
        judged: None,
    });
    NewEntry { at: at(seconds), entry, body: None }
}

fn replied(seconds: i64) -> NewEntry {
    let entry = Entry::ModelReplied(ModelReplied {
        step: 1,
        attempt: 1,
        usage: TokenUsage { input_tokens: 8, output_tokens: 4 },
        detail: UsageDetail::default(),
        cost_micros: 30,
        finish: FinishReason::Stop,
        stopped_at: None,
        tools: Vec::new(),
        clean: true,
        withheld: None,
        masked: Vec::new(),
    });
    NewEntry { at: at(seconds), entry, body: None }
}

fn failed(seconds: i64, code: ErrorCode, charged_micros: u64) -> NewEntry {
    let message = String::new();
    let entry = Entry::ModelFailed(ModelFailed {
        step: 1,
        attempt: 1,
        code,
        message,
        charged_micros,
        judged: None,
        attempts_max: None,
    });
    NewEntry { at: at(seconds), entry, body: None }
}

fn tool(seconds: i64) -> [NewEntry; 2] {
    let call = CallId { step: 1, index: 0 };
    let started = ToolStarted {
        call,
        tool: "t".to_owned(),
        effect: EffectClass::Pure,
        attempt: 1,
        action: Digest::default(),
        rule: "r".to_owned(),
        policy: None,
        approval: None,
        unneeded: None,
        in_plan: None,
        network: None,
        context: None,
        endorsed: Vec::new(),
        opinion: None,
    };
    let finished = ToolFinished {
        call,
        status: CallStatus::Ok,
        egress: Vec::new(),
        result: None,
        withdrawn: None,
        reply: false,
    };
    [(seconds, Entry::ToolStarted(started)), (seconds + 2, Entry::ToolFinished(finished))]
        .map(|(seconds, entry)| NewEntry { at: at(seconds), entry, body: None })
}

fn refused(rule: &str) -> NewEntry {
    let entry = Entry::ToolRefused(ToolRefused {
        call: CallId { step: 1, index: 0 },
        tool: "t".to_owned(),
        status: CallStatus::Denied,
        rule: Some(rule.to_owned()),
        policy: None,
        approval: None,
        in_plan: None,
        network: None,
        opinion: None,
    });
    NewEntry { at: at(0), entry, body: None }
}

/// A second model is asked three times, each for 100 tokens and 70 millionths.
fn opinion_called(seconds: i64) -> NewEntry {
    let wording = RequestEncoding {
        by: None,
        form: "scripted/1".to_owned(),
        model: String::new(),
        whole: false,
        limit: None,
        left_out: 0,
        shortened: 0,
        tainted_past: TaintedPast::Whole,
        answer_field: false,
        concludes: false,
    };
    let entry = Entry::OpinionCalled(OpinionCalled {
        call: CallId { step: 1, index: 0 },
        action: Digest::default(),
        model: "m".to_owned(),
        samples: 3,
        input_tokens: 10,
        output_tokens_max: 90,
        reserved_micros: 210,
        unpriced: false,
        sent: SentEncoding { wording, digest: BodyDigest::truncate_digest(&[0; 32]) },
        judged: None,
    });
    NewEntry { at: at(seconds), entry, body: None }
}

fn opinion_given(seconds: i64, opinion: Option<ModelOpinion>) -> NewEntry {
    let entry = Entry::OpinionGiven(OpinionGiven {
        call: CallId { step: 1, index: 0 },
        action: Digest::default(),
        usage: TokenUsage { input_tokens: 20, output_tokens: 4 },
        tokens: 124,
        cost_micros: 99,
        opinion,
    });
    NewEntry { at: at(seconds), entry, body: None }
}

/// Charges entries to budgets of which this much is used.
fn charged(
    budgets: &[BudgetDefinition],
    used: u64,
    entries: &[NewEntry],
) -> Result<BudgetCharges, BudgetExhaustion> {
    let payer = BudgetPayer { actor: Actor::new("cli:ada"), priced: true };
    let spender = BudgetSpender {
        payer: &payer,
        agent: AgentId::from_bytes([1; 16]),
        session: SessionId::from_bytes([2; 16]),
        run: RunId::from_bytes([3; 16]),
    };
    charge_entries(budgets, &spender, Vec::new(), entries, &mut |_, _| {
        Ok(Some(BudgetCount { begins: 0, used }))
    })
}

fn sums(charged: &BudgetCharges) -> Vec<(&str, u64)> {
    charged.used.iter().map(|(counter, used)| (counter.budget.as_str(), *used)).collect()
}

fn one_of_each() -> Vec<BudgetDefinition> {
    BudgetMeasure::ALL.map(|measure| budget(measure.as_str(), measure, 1000)).to_vec()
}

#[test]
fn a_call_is_reserved_whole_and_settled_by_use() {
    let open = charged(&one_of_each(), 5, &[called(0)]).expect("there is room");
    assert_eq!(sums(&open), [("calls", 6), ("money", 75), ("time", 5), ("tokens", 105)]);
    assert_eq!(open.open.len(), 4);
    let settled = charged(&one_of_each(), 5, &[called(0), replied(3)]).expect("there is room");
    assert_eq!(sums(&settled), [("calls", 6), ("money", 35), ("time", 3005), ("tokens", 17)]);
    assert_eq!(settled.open, Vec::new());
}

#[test]
fn a_lost_call_stays_charged_and_a_refusal_is_refunded() {
    let lost = charged(&one_of_each(), 0, &[called(0), failed(86_000, ErrorCode::OutcomeUnknown, 70)]);
    let lost = lost.expect("there is room");
    assert_eq!(sums(&lost), [("calls", 1), ("money", 70), ("time", LOST_MS_MAX), ("tokens", 100)]);
    let refused = charged(&one_of_each(), 0, &[called(0), failed(1, ErrorCode::ModelUnavailable, 0)]);
    let refused = refused.expect("there is room");
    assert_eq!(sums(&refused), [("calls", 1), ("money", 0), ("time", 1000), ("tokens", 0)]);
}

#[test]
fn a_second_opinion_reserves_all_answers_and_settles_by_use() {
    let open = charged(&one_of_each(), 0, &[opinion_called(0)]).expect("there is room");
    assert_eq!(sums(&open), [("calls", 3), ("money", 210), ("time", 0), ("tokens", 300)]);
    let said = Some(ModelOpinion::count_votes("m", 3, 2, []));
    let given = charged(&one_of_each(), 0, &[opinion_called(0), opinion_given(2, said)]);
    let given = given.expect("there is room");
    assert_eq!(sums(&given), [("calls", 3), ("money", 99), ("time", 2000), ("tokens", 124)]);
    assert_eq!(given.open, Vec::new());
    let lost = charged(&one_of_each(), 0, &[opinion_called(0), opinion_given(2, None)]);
    let lost = lost.expect("there is room");
    assert_eq!(sums(&lost), [("calls", 3), ("money", 210), ("time", 2000), ("tokens", 300)]);
    let full = charged(&[budget("calls", BudgetMeasure::Calls, 2)], 0, &[opinion_called(0)]);
    assert_eq!(full.expect_err("three calls do not fit into two").needed, 3);
    let unasked =
        charged(&one_of_each(), 0, &[opinion_given(2, Some(ModelOpinion::without_answers("m", 3, 2, "no")))]);
    assert_eq!(sums(&unasked.expect("nothing was reserved")), Vec::new());
}

#[test]
fn the_first_budget_without_room_is_named() {
    let budgets = [budget("a", BudgetMeasure::Tokens, 100), budget("b", BudgetMeasure::Money, 69)];
    let full = charged(&budgets, 0, &[called(0)]).expect_err("70 do not fit into 69");
    assert_eq!((full.budget.as_str(), full.used, full.needed, full.limit), ("b", 0, 70, 69));
    assert_eq!(full.until, Some(at(86_400)));
    assert!(charged(&budgets[..1], 0, &[called(0)]).is_ok(), "exactly full is not too much");
    let none_left = [budget("t", BudgetMeasure::Time, 7)];
    assert!(charged(&none_left, 6, &[called(0)]).is_ok(), "some time is left");
    assert!(charged(&none_left, 7, &[called(0)]).is_err());
}

#[test]
fn a_tool_charges_call_and_time_and_a_refusal_less() {
    let two = charged(&one_of_each(), 0, &tool(1)).expect("there is room");
    assert_eq!(sums(&two), [("calls", 1), ("time", 2000)]);
    let full = [budget("calls", BudgetMeasure::Calls, 0)];
    let counted = charged(&full, 0, &[refused("default")]).expect("it needs no room");
    assert_eq!(sums(&counted), [("calls", 1)]);
    let by_the_budget = charged(&full, 0, &[refused(RULE)]).expect("it needs no room");
    assert_eq!(sums(&by_the_budget), Vec::new());
}

#[test]
fn only_a_money_budget_refuses_a_model_without_price() {
    let payer = BudgetPayer { actor: Actor::new("cli:ada"), priced: false };
    let spender = BudgetSpender {
        payer: &payer,
        agent: AgentId::from_bytes([1; 16]),
        session: SessionId::from_bytes([2; 16]),
        run: RunId::from_bytes([3; 16]),
    };
    for budget in one_of_each() {
        let answer: Result<_, BudgetExhaustion> =
            charge_entries(std::slice::from_ref(&budget), &spender, Vec::new(), &[called(0)], &mut |_, _| {
                Ok(None)
            });
        assert_eq!(answer.is_err_and(|full| full.unpriced), budget.measure == BudgetMeasure::Money);
    }
}

#[test]
fn a_budget_counts_each_subject_or_its_named_one_alone() {
    let subjects: Vec<_> = BudgetScope::ALL
        .iter()
        .map(|per| {
            let each = BudgetDefinition { per: *per, ..budget("b", BudgetMeasure::Calls, 9) };
            let charged = charged(&[each], 0, &[called(0)]).expect("there is room");
            charged.used.keys().next().map(|counter| counter.subject.clone()).unwrap_or_default()
        })
        .collect();
    let id = |prefix, byte: &str| format!("{prefix}_{}", byte.repeat(16));
    assert_eq!(
        subjects,
        [String::new(), id("agt", "01"), "cli:ada".to_owned(), id("ses", "02"), id("run", "03")]
    );
    let other = BudgetDefinition {
        per: BudgetScope::Actor,
        of: Some("cli:bob".into()),
        ..budget("b", BudgetMeasure::Calls, 0)
    };
    assert_eq!(
        charged(&[other], 0, &[called(0)]),
        Ok(BudgetCharges { open: vec![], ..BudgetCharges::default() })
    );
}

#[test]
fn a_period_begins_and_ends_in_utc() {
    let leap: Timestamp = "2028-02-29T23:59:59Z".parse().expect("a time");
    let begins = |period: BudgetPeriod| {
        Timestamp::from_millisecond(period.period_start(leap)).expect("a time").to_string()
    };
    let ends = |period: BudgetPeriod| period.period_end(leap).map(|end| end.to_string());
    assert_eq!(begins(BudgetPeriod::Hour), "2028-02-29T23:00:00Z");
    assert_eq!(begins(BudgetPeriod::Day), "2028-02-29T00:00:00Z");
    assert_eq!(begins(BudgetPeriod::Month), "2028-02-01T00:00:00Z");
    assert_eq!(begins(BudgetPeriod::Total), "1970-01-01T00:00:00Z");
    let next = Some("2028-03-01T00:00:00Z".to_owned());
    assert_eq!(
        [BudgetPeriod::Hour, BudgetPeriod::Day, BudgetPeriod::Month].map(ends),
        [next.clone(), next.clone(), next]
    );
    assert_eq!(ends(BudgetPeriod::Total), None);
}

#[test]
fn limits_are_read_as_people_write_them() {
    for (measure, text, limit) in [
        (BudgetMeasure::Money, "5", Some(5_000_000)),
        (BudgetMeasure::Money, "0.50", Some(500_000)),
        (BudgetMeasure::Money, "0.000001", Some(1)),
        (BudgetMeasure::Money, "0.0000001", None),
        (BudgetMeasure::Money, "-1", None),
        (BudgetMeasure::Money, "1.", None),
        (BudgetMeasure::Money, ".5", None),
        (BudgetMeasure::Time, "90s", Some(90_000)),
        (BudgetMeasure::Time, "2h", Some(7_200_000)),
        (BudgetMeasure::Time, "2", None),
        (BudgetMeasure::Time, "", None),
        (BudgetMeasure::Tokens, "100000", Some(100_000)),
        (BudgetMeasure::Calls, "1.5", None),
    ] {
        assert_eq!(measure.parse_limit(text), limit, "{} {text:?}", measure.as_str());
    }
    assert_eq!(BudgetMeasure::Money.format_amount(1_500_000), "1.500000");
    assert_eq!(BudgetMeasure::Time.format_amount(90_050), "90.050 s");
}

#[test]
fn a_budget_says_what_is_wrong_with_it() {
    let good = budget("daily-2", BudgetMeasure::Money, 1);
    assert_eq!(good.validation_problem(), None);
    let agent = BudgetDefinition {
        per: BudgetScope::Agent,
        of: Some(AgentId::from_bytes([1; 16]).to_string()),
        ..good.clone()
    };
    assert_eq!(agent.validation_problem(), None);
    for bad in [
        BudgetDefinition { name: String::new(), ..good.clone() },
        BudgetDefinition { name: "Daily".into(), ..good.clone() },
        BudgetDefinition { name: "x".repeat(65), ..good.clone() },
        BudgetDefinition { of: Some("x".into()), ..good.clone() },
        BudgetDefinition { per: BudgetScope::Agent, of: Some("ada".into()), ..good.clone() },
        BudgetDefinition { limit: u64::MAX, ..good.clone() },
    ] {
        assert!(bad.validation_problem().is_some(), "{bad:?}");
    }
}

#[test]
fn a_budget_with_some_room_is_not_called_used_up() {
    let exhausted = |used| BudgetExhaustion {
        budget: "small".to_owned(),
        per: BudgetScope::Run,
        measure: BudgetMeasure::Tokens,
        limit: 2_000,
        used,
        needed: 5_073,
        until: None,
        unpriced: false,
    };
    assert!(
        exhausted(0).text().contains("does not cover the next call: 0 of 2000"),
        "{}",
        exhausted(0).text()
    );
    assert!(exhausted(2_000).text().contains("is used up: 2000 of 2000"), "{}", exhausted(2_000).text());
}

/// How often a subject may call where five calls a day are allowed and a clock goes to and fro over midnight. `remembers`
/// tells of the count of the latest period.
fn calls_of_a_wavering_clock(
    remembers: impl Fn(&BTreeMap<BudgetCounter, u64>, i64) -> Option<BudgetCount>,
) -> (u64, Option<Timestamp>) {
    let budgets = [budget("calls", BudgetMeasure::Calls, 5)];
    let payer = BudgetPayer { actor: Actor::new("cli:ada"), priced: true };
    let spender = BudgetSpender {
        payer: &payer,
        agent: AgentId::from_bytes([1; 16]),
        session: SessionId::from_bytes([2; 16]),
        run: RunId::from_bytes([3; 16]),
    };
    let mut rows: BTreeMap<BudgetCounter, u64> = BTreeMap::new();
    for call in 0..20 {
        let seconds = if call % 2 == 0 { 86_399 } else { 86_401 };
        let day = seconds / 86_400 * 86_400_000;
        let answer = charge_entries(&budgets, &spender, Vec::new(), &[called(seconds)], &mut |_, _| {
            Ok::<_, BudgetExhaustion>(remembers(&rows, day))
        });
        match answer {
            Ok(charged) => rows.extend(charged.used),
            Err(full) => return (call, full.until),
        }
    }
    (20, None)
}

#[test]
fn a_wavering_clock_grants_no_period_budget_twice() {
    let latest = |rows: &BTreeMap<BudgetCounter, u64>, _| {
        let (counter, used) = rows.iter().max_by_key(|(counter, _)| counter.begins)?;
        Some(BudgetCount { begins: counter.begins, used: *used })
    };
    // One on the last day, five on the next, until that one ends.
    assert_eq!(calls_of_a_wavering_clock(latest), (6, Some(at(2 * 86_400))));
}

#[test]
fn a_period_forgotten_after_a_clock_goes_back_is_caught() {
    let of_the_day = |rows: &BTreeMap<BudgetCounter, u64>, day| {
        let (counter, used) = rows.iter().find(|(counter, _)| counter.begins == day)?;
        Some(BudgetCount { begins: counter.begins, used: *used })
    };
    assert_eq!(calls_of_a_wavering_clock(of_the_day).0, 10);
}

#[test]
fn a_call_of_an_ended_period_changes_no_later_count() {
    let budgets = [budget("tokens", BudgetMeasure::Tokens, 1_000)];
    let payer = BudgetPayer { actor: Actor::new("cli:ada"), priced: true };
    let spender = BudgetSpender {
        payer: &payer,
        agent: AgentId::from_bytes([1; 16]),
        session: SessionId::from_bytes([2; 16]),
        run: RunId::from_bytes([3; 16]),
    };
    let counter = BudgetCounter { budget: "tokens".to_owned(), subject: String::new(), begins: 0 };
    let reserved = BudgetReservation { counter, measure: BudgetMeasure::Tokens, amount: 100, at: at(0) };
    let settled_where = |begins| {
        let open = vec![reserved.clone()];
        let charged: Result<_, BudgetExhaustion> =
            charge_entries(&budgets, &spender, open, &[replied(90_000)], &mut |_, _| {
                Ok(Some(BudgetCount { begins, used: 300 }))
            });
        let charged = charged.expect("a settlement needs no room");
        assert_eq!(charged.open, Vec::new());
        charged.used.into_iter().map(|(counter, used)| (counter.begins, used)).collect::<Vec<_>>()
    };
    assert_eq!(settled_where(0), [(0, 212)], "in its own period it gives back what it did not take");
    assert_eq!(settled_where(86_400_000), []);
}
