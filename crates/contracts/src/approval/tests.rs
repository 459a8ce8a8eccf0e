//! How an approval stands as time goes by, what moves it and what does not.

use super::*;

fn approval() -> ApprovalRequest {
    let at = Timestamp::UNIX_EPOCH;
    let later = |seconds: i64| Timestamp::from_second(seconds).expect("a time");
    ApprovalRequest {
        id: ApprovalId::from_bytes([1; 16]),
        rule: "permission".to_owned(),
        reason: String::new(),
        approvers: Vec::new(),
        state: ApprovalState::Holding,
        released: false,
        answer: None,
        used_by: None,
        source: CallSource {
            agent: AgentId::from_bytes([2; 16]),
            session: SessionId::from_bytes([3; 16]),
            run: RunId::from_bytes([4; 16]),
            call: CallId { step: 1, index: 0 },
            author: Actor::new("cli:ada"),
            hops: 0,
        },
        judged: JudgedCall {
            context: Label::PUBLIC_FACT,
            provenance: CallProvenance::default(),
            tool: "t".to_owned(),
            arguments: "{}".to_owned(),
            action: Digest::from_bytes([5; 32]),
            binding: Digest::from_bytes([6; 32]),
            bound: BoundParts { call: 1, tool: 2, asker: 3, rule: 4, contents: None },
            origins: Vec::new(),
        },
        deadlines: ApprovalDeadlines {
            asked_at: at,
            holds_until: later(10),
            expires_at: later(20),
            cools_until: None,
        },
    }
}

fn answered(second: i64) -> AnswerRecord {
    let at = Timestamp::from_second(second).expect("a time");
    AnswerRecord { by: Actor::new("token:ops"), at, reason: String::new(), reach: None }
}

#[test]
fn an_answer_counts_within_the_reach_it_had() {
    let (ops, other) = (Actor::new("token:ops"), Actor::new("token:other"));
    let always = |rule: &str| ApprovalReach::Always { rule: rule.to_owned() };
    let reaches = [ApprovalReach::Once, ApprovalReach::Session, always("t a=x"), always("t a=y")];
    let said = |reach: Option<ApprovalReach>| {
        let mut known = approval();
        let answer = AnswerRecord { reach: reach.clone(), ..answered(5) };
        known.record_answer(ApprovalState::Holding, reach.is_some(), &answer).expect("it is open");
        let stored = serde_json::to_string(&known).expect("it is data");
        assert_eq!(serde_json::from_str::<ApprovalRequest>(&stored).expect("it reads"), known);
        known
    };
    let ways = || reaches.iter().map(Some).chain([None]);
    for one in ways() {
        for two in ways() {
            assert_eq!(said(one.cloned()).is_answered_so(&ops, two), one == two, "{one:?} {two:?}");
            assert!(!said(one.cloned()).is_answered_so(&other, two), "somebody else's");
        }
        assert!(!approval().is_answered_so(&ops, one), "nobody answered");
    }
    // What was allowed and used was allowed.
    let used = ApprovalRequest { state: ApprovalState::Used, ..said(Some(ApprovalReach::Session)) };
    assert!(used.is_answered_so(&ops, Some(&ApprovalReach::Session)) && !used.is_answered_so(&ops, None));
}

#[test]
fn each_repeated_call_or_destination_gets_its_own_suggestion() {
    let call =
        |arguments: &'static str| AnsweredCall { agent: "ada", tool: "web.post", arguments, approved: true };
    let proposed = |calls: &[AnsweredCall<'_>], stands: &dyn Fn(&ParsedRule) -> bool| {
        let found = suggest_rules(calls, stands);
        let rule_of = |one: &RuleSuggestion| ParsedRule::parse(&one.rule).expect("it is spelled");
        for seen in calls {
            let answers =
                found.iter().filter(|one| rule_of(one).matches_call(seen.tool, seen.arguments)).count();
            assert!(answers <= 1, "{seen:?} {found:?}");
        }
        found.into_iter().map(|one| (one.rule, one.times)).collect::<Vec<_>>()
    };
    let told = |rules: &[(&str, usize)]| {
        rules.iter().map(|(rule, times)| ((*rule).to_owned(), *times)).collect::<Vec<_>>()
    };
    // The same calls: one rule each, and what was not approved is answered by none.
    let (one, two) = (call(r#"{"body":"x","host":"a"}"#), call(r#"{"body":"y","host":"b"}"#));
    let calls = [one, one, one, two, two, two, two];
    let exact = told(&[("web.post body=y host=b only", 4), ("web.post body=x host=a only", 3)]);
    assert_eq!(proposed(&calls, &|_| true), exact);
    // Two destinations with whatever they are told.
    let bodies = [
        call(r#"{"body":"1","host":"a","kind":"k"}"#),
        call(r#"{"body":"2","host":"a","kind":"k"}"#),
        call(r#"{"body":"3","host":"a","kind":"k"}"#),
        call(r#"{"body":"4","host":"b","kind":"k"}"#),
        call(r#"{"body":"5","host":"b","kind":"k"}"#),
        call(r#"{"body":"6","host":"b","kind":"k"}"#),
    ];
    let apart = told(&[("web.post host=a kind=k", 3), ("web.post host=b kind=k", 3)]);
    assert_eq!(proposed(&bodies, &|_| true), apart);
    // A destination that came less often is no habit, and nothing narrower covers it.
    assert_eq!(proposed(&bodies[..5], &|_| true), told(&[("web.post kind=k", 5)]));
    let says_where = |rule: &ParsedRule| rule.argument_names().any(|name| name == "host");
    assert!(proposed(&bodies[..5], &says_where).is_empty());
    // Where what all have in common may not stand, the call that comes again does.
    let mixed = [one, one, one, two];
    assert_eq!(proposed(&mixed, &says_where), told(&[("web.post body=x host=a only", 3)]));
}

#[test]
fn an_approval_is_answered_and_used_once_by_its_run() {
    let (own, other) = (RunId::from_bytes([4; 16]), RunId::from_bytes([9; 16]));
    for released in [false, true] {
        let mut known = approval();
        let action = known.judged.action;
        let user = if released { other } else { own };
        let stranger = if released { own } else { other };
        assert_eq!(
            known.apply_transition(own, ApprovalTransition::Use(action)),
            Err(ApprovalState::Holding),
            "nobody answered"
        );
        if released {
            assert_eq!(
                known.apply_transition(other, ApprovalTransition::Release),
                Err(ApprovalState::Holding)
            );
            assert_eq!(known.apply_transition(own, ApprovalTransition::Release), Ok(()));
            assert_eq!(
                known.record_answer(ApprovalState::Holding, true, &answered(5)),
                Err(ApprovalState::Waiting)
            );
        }
        let from = known.state;
        assert_eq!(known.record_answer(from, true, &answered(5)), Ok(()));
        assert_eq!(known.record_answer(from, true, &answered(5)), Ok(()), "the same answer again");
        assert_eq!(known.record_answer(from, false, &answered(5)), Err(ApprovalState::Approved));
        assert_eq!(known.record_answer(from, true, &answered(6)), Err(ApprovalState::Approved));
        assert_eq!(known.apply_transition(own, ApprovalTransition::Release), Err(ApprovalState::Approved));
        let another = Digest::from_bytes([7; 32]);
        assert_eq!(
            known.apply_transition(user, ApprovalTransition::Use(another)),
            Err(ApprovalState::Approved),
            "another action"
        );
        assert_eq!(
            known.apply_transition(stranger, ApprovalTransition::Use(action)),
            Err(ApprovalState::Approved),
            "another run"
        );
        assert_eq!(known.apply_transition(user, ApprovalTransition::Use(action)), Ok(()));
        assert_eq!((known.state, known.used_by), (ApprovalState::Used, Some(user)));
        assert_eq!(
            known.apply_transition(user, ApprovalTransition::Use(action)),
            Err(ApprovalState::Used),
            "it was used"
        );
        assert_eq!(known.apply_transition(user, ApprovalTransition::Withdraw), Err(ApprovalState::Used));
    }
}

#[test]
fn an_approval_ends_by_time_refusal_or_its_call() {
    let mut known = approval();
    assert_eq!(known.record_answer(ApprovalState::Holding, true, &answered(20)), Err(ApprovalState::Expired));
    assert_eq!(known.state_at(answered(19).at), ApprovalState::Holding);
    assert_eq!(known.record_answer(ApprovalState::Holding, false, &answered(19)), Ok(()));
    assert_eq!(known.state_at(answered(30).at), ApprovalState::Denied);
    assert_eq!(
        known.apply_transition(known.source.run, ApprovalTransition::Withdraw),
        Ok(()),
        "its call is closed by the refusal"
    );
    assert_eq!(known.state, ApprovalState::Denied);
    let mut known = approval();
    assert_eq!(known.apply_transition(known.source.run, ApprovalTransition::Withdraw), Ok(()));
    assert_eq!(
        known.record_answer(ApprovalState::Holding, true, &answered(5)),
        Err(ApprovalState::Withdrawn)
    );
}

#[test]
fn an_approval_asked_ahead_is_retracted_unless_refused() {
    for state in ApprovalState::ALL {
        let mut known = ApprovalRequest { state, ..approval() };
        let is_taken_back = matches!(state, ApprovalState::Holding | ApprovalState::Approved);
        let took = known.apply_transition(known.source.run, ApprovalTransition::Retract);
        assert_eq!(took.is_ok(), is_taken_back, "{state}");
        assert_eq!(known.state, if is_taken_back { ApprovalState::Withdrawn } else { state });
    }
}

#[test]
fn a_delayed_call_cools_until_its_time_or_an_answer() {
    let later = |seconds: i64| Timestamp::from_second(seconds).expect("a time");
    let mut delayed = ApprovalRequest {
        deadlines: ApprovalDeadlines { cools_until: Some(later(5)), ..approval().deadlines },
        ..approval()
    };
    assert_eq!((delayed.cooling_at(later(4)), delayed.has_cooled(later(4))), (Some(later(5)), false));
    assert!(delayed.has_cooled(later(5)) && delayed.has_cooled(later(19)));
    assert!(!delayed.has_cooled(later(20)), "it has expired: nobody could refuse it for long");
    assert!(!approval().has_cooled(later(19)), "only a person allows it");
    delayed.record_answer(ApprovalState::Holding, false, &answered(1)).expect("it is open");
    assert_eq!((delayed.cooling_at(later(4)), delayed.has_cooled(later(5))), (None, false));
}

#[test]
fn an_end_withdraws_approvals_that_no_run_uses() {
    let at = |second: i64| Timestamp::from_second(second).expect("a time");
    for state in ApprovalState::ALL {
        let known = ApprovalRequest { state, ..approval() };
        let is_open = matches!(state, ApprovalState::Holding | ApprovalState::Waiting);
        assert_eq!((known.is_open_at(at(19)), known.is_open_at(at(20))), (is_open, false), "{state}");
        let is_moved = state == ApprovalState::Approved;
        assert_eq!(
            (known.is_over_at(at(19)), known.is_over_at(at(20))),
            (!is_open && !is_moved, !is_moved),
            "{state}"
        );
        for released in [false, true] {
            let mut ended = ApprovalRequest { released, ..known.clone() };
            assert_eq!(ended.give_up(), is_moved && released, "{state}");
            let left = if is_moved && released { ApprovalState::Withdrawn } else { state };
            assert_eq!(ended.state, left);
        }
    }
    let other = RunId::from_bytes([9; 16]);
    let used = ApprovalRequest { used_by: Some(other), ..approval() };
    assert_eq!(used.concerned_runs().collect::<Vec<_>>(), [used.source.run, other]);
}

/// Who may answer what names the user 1000 and one token: the user, that token, another one with the user's name, another one with
/// that token's name, and one whose name is that token's id.
fn answered_by(may: impl Fn(&ApprovalRequest, &crate::Scope) -> bool) -> [bool; 5] {
    let named = crate::TokenId::from_bytes([1; 16]);
    let other = crate::TokenId::from_bytes([2; 16]);
    let approvers = vec![Actor::new("cli:1000"), Actor::new(&format!("token:{named}"))];
    let asked = ApprovalRequest { approvers, ..approval() };
    let scope = |actor: &str| {
        crate::ScopeAuthority::claim().issue_scope(crate::TenantId::from_bytes([9; 16]), Actor::new(actor))
    };
    [
        scope("cli:1000"),
        scope("token:ops").by_token(named),
        scope("cli:1000").by_token(other),
        scope("token:ops").by_token(other),
        scope(&format!("token:{named}")).by_token(other),
    ]
    .map(|scope| may(&asked, &scope))
}

#[test]
fn an_answering_token_is_identified_by_id_and_not_name() {
    assert_eq!(answered_by(ApprovalRequest::may_be_answered_by), [true, true, false, false, false]);
}

/// Planted fault: whoever has the name may answer.
#[test]
fn an_approver_that_is_known_by_a_name_is_caught() {
    let by_name = |asked: &ApprovalRequest, scope: &crate::Scope| asked.approvers.contains(scope.actor());
    assert_ne!(answered_by(by_name), [true, true, false, false, false], "nothing notices it");
}
