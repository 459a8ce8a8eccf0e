use jiff::SignedDuration;

use super::*;
use crate::content::CallStatus;
use crate::digest::Digest;
use crate::entry::{
    Entry, ModelCalled, ModelFailed, ModelReplied, OpinionCalled, OpinionGiven, ToolFinished, ToolRefused,
    ToolStarted,
};
use crate::fault::ErrorCode;
use crate::id::CallId;
use crate::model::{Finish, Usage, UsageDetail};
use crate::opinion::Opinion;
use crate::sent::{BodyDigest, Sent, TaintedPast, Wording};
use crate::store::NewEntry;
use crate::tool::EffectClass;

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn budget(name: &str, measure: Measure, limit: u64) -> Budget {
    let (per, period) = (Per::Tenant, Period::Day);
    Budget { name: name.to_owned(), per, of: None, measure, period, limit, declared: false }
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
        sent: None,
    });
    NewEntry { at: at(seconds), entry, body: None }
}

fn replied(seconds: i64) -> NewEntry {
    let entry = Entry::ModelReplied(ModelReplied {
        step: 1,
        attempt: 1,
        usage: Usage { input_tokens: 8, output_tokens: 4 },
        detail: UsageDetail::default(),
        cost_micros: 30,
        finish: Finish::Stop,
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
    let entry = Entry::ModelFailed(ModelFailed { step: 1, attempt: 1, code, message, charged_micros });
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
        opinion: None,
    };
    let finished = ToolFinished { call, status: CallStatus::Ok, egress: Vec::new(), result: None };
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
    let wording = Wording {
        by: None,
        form: "scripted/1".to_owned(),
        model: String::new(),
        whole: false,
        limit: None,
        left_out: 0,
        tainted_past: TaintedPast::Whole,
    };
    let entry = Entry::OpinionCalled(OpinionCalled {
        call: CallId { step: 1, index: 0 },
        action: Digest::default(),
        model: "m".to_owned(),
        samples: 3,
        input_tokens: 10,
        output_tokens_max: 90,
        reserved_micros: 210,
        sent: Sent { wording, digest: BodyDigest::of(&[0; 32]) },
    });
    NewEntry { at: at(seconds), entry, body: None }
}

fn opinion_given(seconds: i64, opinion: Option<Opinion>) -> NewEntry {
    let entry = Entry::OpinionGiven(OpinionGiven {
        call: CallId { step: 1, index: 0 },
        action: Digest::default(),
        usage: Usage { input_tokens: 20, output_tokens: 4 },
        tokens: 124,
        cost_micros: 99,
        opinion,
    });
    NewEntry { at: at(seconds), entry, body: None }
}

/// Charges entries to budgets of which this much is used.
fn charged(budgets: &[Budget], used: u64, entries: &[NewEntry]) -> Result<Charged, Exhausted> {
    let payer = Payer { actor: Actor::new("cli:ada"), priced: true };
    let spender = Spender {
        payer: &payer,
        agent: AgentId::from_bytes([1; 16]),
        session: SessionId::from_bytes([2; 16]),
        run: RunId::from_bytes([3; 16]),
    };
    charge(budgets, &spender, Vec::new(), entries, &mut |_| Ok(used))
}

fn sums(charged: &Charged) -> Vec<(&str, u64)> {
    charged.used.iter().map(|(counter, used)| (counter.budget.as_str(), *used)).collect()
}

fn one_of_each() -> Vec<Budget> {
    Measure::ALL.map(|measure| budget(measure.as_str(), measure, 1000)).to_vec()
}

#[test]
fn a_call_is_reserved_whole_and_settled_with_what_it_took() {
    let open = charged(&one_of_each(), 5, &[called(0)]).expect("there is room");
    assert_eq!(sums(&open), [("calls", 6), ("money", 75), ("time", 5), ("tokens", 105)]);
    assert_eq!(open.open.len(), 4);
    let settled = charged(&one_of_each(), 5, &[called(0), replied(3)]).expect("there is room");
    assert_eq!(sums(&settled), [("calls", 6), ("money", 35), ("time", 3005), ("tokens", 17)]);
    assert_eq!(settled.open, Vec::new());
}

#[test]
fn a_lost_call_stays_charged_and_a_refused_one_is_given_back() {
    let lost = charged(&one_of_each(), 0, &[called(0), failed(86_000, ErrorCode::OutcomeUnknown, 70)]);
    let lost = lost.expect("there is room");
    assert_eq!(sums(&lost), [("calls", 1), ("money", 70), ("time", LOST_MS_MAX), ("tokens", 100)]);
    let refused = charged(&one_of_each(), 0, &[called(0), failed(1, ErrorCode::ModelUnavailable, 0)]);
    let refused = refused.expect("there is room");
    assert_eq!(sums(&refused), [("calls", 1), ("money", 0), ("time", 1000), ("tokens", 0)]);
}

#[test]
fn a_second_opinion_reserves_all_its_answers_and_is_settled_with_what_they_took() {
    let open = charged(&one_of_each(), 0, &[opinion_called(0)]).expect("there is room");
    assert_eq!(sums(&open), [("calls", 3), ("money", 210), ("time", 0), ("tokens", 300)]);
    let said = Some(Opinion::count("m", 3, 2, []));
    let given = charged(&one_of_each(), 0, &[opinion_called(0), opinion_given(2, said)]);
    let given = given.expect("there is room");
    assert_eq!(sums(&given), [("calls", 3), ("money", 99), ("time", 2000), ("tokens", 124)]);
    assert_eq!(given.open, Vec::new());
    let lost = charged(&one_of_each(), 0, &[opinion_called(0), opinion_given(2, None)]);
    let lost = lost.expect("there is room");
    assert_eq!(sums(&lost), [("calls", 3), ("money", 210), ("time", 2000), ("tokens", 300)]);
    let full = charged(&[budget("calls", Measure::Calls, 2)], 0, &[opinion_called(0)]);
    assert_eq!(full.expect_err("three calls do not fit into two").needed, 3);
    let unasked = charged(&one_of_each(), 0, &[opinion_given(2, Some(Opinion::unasked("m", 3, 2, "no")))]);
    assert_eq!(sums(&unasked.expect("nothing was reserved")), Vec::new());
}

#[test]
fn the_first_budget_without_room_is_named() {
    let budgets = [budget("a", Measure::Tokens, 100), budget("b", Measure::Money, 69)];
    let full = charged(&budgets, 0, &[called(0)]).expect_err("70 do not fit into 69");
    assert_eq!((full.budget.as_str(), full.used, full.needed, full.limit), ("b", 0, 70, 69));
    assert_eq!(full.until, Some(at(86_400)));
    assert!(charged(&budgets[..1], 0, &[called(0)]).is_ok(), "exactly full is not too much");
    let none_left = [budget("t", Measure::Time, 7)];
    assert!(charged(&none_left, 6, &[called(0)]).is_ok(), "some time is left");
    assert!(charged(&none_left, 7, &[called(0)]).is_err());
}

#[test]
fn a_tool_counts_its_call_and_its_time_and_a_refused_one_its_call() {
    let two = charged(&one_of_each(), 0, &tool(1)).expect("there is room");
    assert_eq!(sums(&two), [("calls", 1), ("time", 2000)]);
    let full = [budget("calls", Measure::Calls, 0)];
    let counted = charged(&full, 0, &[refused("default")]).expect("it needs no room");
    assert_eq!(sums(&counted), [("calls", 1)]);
    let by_the_budget = charged(&full, 0, &[refused(RULE)]).expect("it needs no room");
    assert_eq!(sums(&by_the_budget), Vec::new());
}

#[test]
fn a_model_without_a_price_is_refused_by_money_and_by_nothing_else() {
    let payer = Payer { actor: Actor::new("cli:ada"), priced: false };
    let spender = Spender {
        payer: &payer,
        agent: AgentId::from_bytes([1; 16]),
        session: SessionId::from_bytes([2; 16]),
        run: RunId::from_bytes([3; 16]),
    };
    for budget in one_of_each() {
        let answer: Result<_, Exhausted> =
            charge(std::slice::from_ref(&budget), &spender, Vec::new(), &[called(0)], &mut |_| Ok(0));
        assert_eq!(answer.is_err_and(|full| full.unpriced), budget.measure == Measure::Money);
    }
}

#[test]
fn each_subject_is_counted_for_itself_and_one_that_is_named_alone() {
    let subjects: Vec<_> = Per::ALL
        .iter()
        .map(|per| {
            let each = Budget { per: *per, ..budget("b", Measure::Calls, 9) };
            let charged = charged(&[each], 0, &[called(0)]).expect("there is room");
            charged.used.keys().next().map(|counter| counter.subject.clone()).unwrap_or_default()
        })
        .collect();
    let id = |prefix, byte: &str| format!("{prefix}_{}", byte.repeat(16));
    assert_eq!(
        subjects,
        [String::new(), id("agt", "01"), "cli:ada".to_owned(), id("ses", "02"), id("run", "03")]
    );
    let other = Budget { per: Per::Actor, of: Some("cli:bob".into()), ..budget("b", Measure::Calls, 0) };
    assert_eq!(charged(&[other], 0, &[called(0)]), Ok(Charged { open: vec![], ..Charged::default() }));
}

#[test]
fn a_period_begins_and_ends_in_utc() {
    let leap: Timestamp = "2028-02-29T23:59:59Z".parse().expect("a time");
    let begins =
        |period: Period| Timestamp::from_millisecond(period.begins(leap)).expect("a time").to_string();
    let ends = |period: Period| period.ends(leap).map(|end| end.to_string());
    assert_eq!(begins(Period::Hour), "2028-02-29T23:00:00Z");
    assert_eq!(begins(Period::Day), "2028-02-29T00:00:00Z");
    assert_eq!(begins(Period::Month), "2028-02-01T00:00:00Z");
    assert_eq!(begins(Period::Total), "1970-01-01T00:00:00Z");
    let next = Some("2028-03-01T00:00:00Z".to_owned());
    assert_eq!([Period::Hour, Period::Day, Period::Month].map(ends), [next.clone(), next.clone(), next]);
    assert_eq!(ends(Period::Total), None);
}

#[test]
fn limits_are_read_as_people_write_them() {
    for (measure, text, limit) in [
        (Measure::Money, "5", Some(5_000_000)),
        (Measure::Money, "0.50", Some(500_000)),
        (Measure::Money, "0.000001", Some(1)),
        (Measure::Money, "0.0000001", None),
        (Measure::Money, "-1", None),
        (Measure::Money, "1.", None),
        (Measure::Money, ".5", None),
        (Measure::Time, "90s", Some(90_000)),
        (Measure::Time, "2h", Some(7_200_000)),
        (Measure::Time, "2", None),
        (Measure::Time, "", None),
        (Measure::Tokens, "100000", Some(100_000)),
        (Measure::Calls, "1.5", None),
    ] {
        assert_eq!(measure.limit(text), limit, "{} {text:?}", measure.as_str());
    }
    assert_eq!(Measure::Money.show(1_500_000), "1.500000");
    assert_eq!(Measure::Time.show(90_050), "90.050 s");
}

#[test]
fn a_budget_says_what_is_wrong_with_it() {
    let good = budget("daily-2", Measure::Money, 1);
    assert_eq!(good.problem(), None);
    let agent =
        Budget { per: Per::Agent, of: Some(AgentId::from_bytes([1; 16]).to_string()), ..good.clone() };
    assert_eq!(agent.problem(), None);
    for bad in [
        Budget { name: String::new(), ..good.clone() },
        Budget { name: "Daily".into(), ..good.clone() },
        Budget { name: "x".repeat(65), ..good.clone() },
        Budget { of: Some("x".into()), ..good.clone() },
        Budget { per: Per::Agent, of: Some("ada".into()), ..good.clone() },
        Budget { limit: u64::MAX, ..good.clone() },
    ] {
        assert!(bad.problem().is_some(), "{bad:?}");
    }
}

#[test]
fn a_budget_with_some_room_is_not_called_used_up() {
    let exhausted = |used| Exhausted {
        budget: "small".to_owned(),
        per: Per::Run,
        measure: Measure::Tokens,
        limit: 2_000,
        used,
        needed: 5_073,
        until: None,
        unpriced: false,
    };
    assert!(
        exhausted(0).text().contains("has no room for the next call: 0 of 2000"),
        "{}",
        exhausted(0).text()
    );
    assert!(exhausted(2_000).text().contains("is used up: 2000 of 2000"), "{}", exhausted(2_000).text());
}
