use super::*;

fn rule(text: &str) -> Rule {
    Rule::parse(text).expect("the rule is read")
}

#[test]
fn a_rule_matches_what_it_says_and_is_written_as_it_is_read() {
    for (text, tool, arguments, fits) in [
        ("file.write", "file.write", r#"{"path":"a"}"#, true),
        ("file.write", "file.read", r#"{"path":"a"}"#, false),
        ("file.write path=notes/**", "file.write", r#"{"path":"notes/a/b.md","text":"x"}"#, true),
        ("file.write path=notes/**", "file.write", r#"{"path":"notes.md"}"#, false),
        ("file.write path=notes/*", "file.write", r#"{"path":"notes/a/b.md"}"#, false),
        ("file.write path=notes/*.md", "file.write", r#"{"path":"notes/a.md"}"#, true),
        ("file.write path=notes/*.md", "file.write", r#"{"text":"notes/a.md"}"#, false),
        (r#"exec argv=["git","status"]"#, "exec", r#"{"argv":["git","status"],"cwd":"."}"#, true),
        (r#"exec argv=["git","status"]"#, "exec", r#"{"argv":["git","status","-s"]}"#, false),
        (r#"send text="a b""#, "send", r#"{"text":"a b"}"#, true),
        (
            "http.request url=https://api.example.com/**",
            "http.request",
            r#"{"url":"https://api.example.com.evil/"}"#,
            false,
        ),
        ("wait seconds:=5 loud:=true", "wait", r#"{"loud":true,"seconds":5}"#, true),
        ("wait seconds=*", "wait", r#"{"seconds":5}"#, false),
        ("wait seconds:=5 only", "wait", r#"{"seconds":5}"#, true),
        ("wait seconds:=5 only", "wait", r#"{"loud":true,"seconds":5}"#, false),
        ("wait only", "wait", r#"{"seconds":5}"#, false),
        ("wait only:=5", "wait", r#"{"only":5,"seconds":5}"#, true),
        // A value is of the type that the rule says.
        ("wait seconds:=5", "wait", r#"{"seconds":"5"}"#, false),
        ("wait seconds:=5", "wait", r#"{"seconds":5.0}"#, true),
        ("wait seconds:=5", "wait", r#"{"seconds":5.5}"#, false),
        ("wait seconds:=9007199254740993", "wait", r#"{"seconds":9007199254740992}"#, false),
        ("run on=[1,2]", "run", r#"{"on":[1.0,2]}"#, true),
        ("run on=[1,2]", "run", r#"{"on":[1,2,2]}"#, false),
        (r#"wait seconds="5""#, "wait", r#"{"seconds":"5"}"#, true),
        (r#"wait seconds="5""#, "wait", r#"{"seconds":5}"#, false),
        (r#"wait seconds="true""#, "wait", r#"{"seconds":true}"#, false),
        ("wait seconds:=null", "wait", r#"{"seconds":null}"#, true),
        ("wait seconds:=null", "wait", "{}", false),
        ("wait seconds=5s", "wait", r#"{"seconds":"5s"}"#, true),
        (r#"send to:="a*""#, "send", r#"{"to":"a*"}"#, true),
        (r#"send to:="a*""#, "send", r#"{"to":"ab"}"#, false),
    ] {
        let read = rule(text);
        assert_eq!(read.matches(tool, arguments), fits, "{text} {arguments}");
        assert_eq!(read.to_string(), text);
        assert!(!read.matches(tool, "no json"));
    }
    assert_eq!(rule("  t   a=x ").to_string(), "t a=x");
    assert_eq!(rule("t  a=x  only ").to_string(), "t a=x only");
    assert_eq!(rule(r#"t a:=["x"] b:=1"#).to_string(), r#"t a=["x"] b:=1"#, "a list has one spelling");
}

#[test]
fn a_stored_rule_means_what_it_meant_when_it_was_stored() {
    let stored = |text: &str| Rule::stored(text).expect("it is read");
    for (arguments, fits) in [
        (r#"{"loud":true,"seconds":5}"#, true),
        (r#"{"loud":"true","seconds":"5"}"#, true),
        (r#"{"loud":true,"seconds":6}"#, false),
        (r#"{"loud":true,"seconds":[5]}"#, false),
        (r#"{"loud":true}"#, false),
    ] {
        assert_eq!(stored("wait seconds=5 loud=true").matches("wait", arguments), fits, "{arguments}");
    }
    assert_eq!(stored("wait seconds=5").to_string(), "wait seconds=5");
    // What is stored today is read as it is written.
    for text in ["wait seconds:=5", r#"wait seconds="5""#, "file.write path=notes/**", r#"t a=["x"] only"#] {
        assert_eq!(stored(text), rule(text));
    }
}

#[test]
fn what_is_no_rule_is_refused_with_its_place() {
    for (text, at) in [
        ("", 0),
        ("*", 0),
        ("file.* path=a", 0),
        ("t a", 2),
        ("t only a=1", 2),
        ("t a=x onlY", 6),
        ("t =a", 2),
        ("t :=1", 2),
        ("t a=x a=y", 6),
        ("t a=x a:=1", 6),
        ("t a=[1", 4),
        ("t a:=x", 5),
        ("t a:=", 5),
        ("t a:= 1", 5),
        ("t a:=1x", 5),
        // It could be the text or the number.
        ("t a=1", 4),
        ("t a=true", 4),
        ("t a=null", 4),
        ("t a=-1.5e3", 4),
        (r#"t a="x"y"#, 7),
        ("t a=\u{7}", 4),
    ] {
        let refused = Rule::parse(text).expect_err("it is none");
        assert_eq!(refused.at, at, "{text:?}: {refused}");
    }
    assert!(Rule::parse(&format!("t a={}", "x".repeat(2000))).is_err());
}

#[test]
fn a_rule_for_a_program_names_it_whole_and_is_for_no_shell() {
    for (text, good) in [
        (r#"exec argv=["git","status"]"#, true),
        (r#"exec argv=["git","status"] cwd=work"#, true),
        (r#"exec argv=["git","status"] cwd=**"#, false),
        ("exec", false),
        ("exec cwd=.", false),
        (r#"exec argv=["/bin/zsh"]"#, false),
        (r#"exec argv=["python3.12","-c","1"]"#, false),
        (r#"exec argv=["env","sh","-c","x"]"#, false),
        (r#"exec argv=["timeout","5","./x"]"#, false),
        (r#"exec argv=["npm","test"]"#, false),
        (r#"shell.execute command="git status""#, false),
        (r#"exec argv=["/usr/bin/git","status"]"#, true),
        (r#"exec argv=["./build"]"#, false),
        (r#"exec argv=["bin/build","--all"]"#, false),
        (r#"exec argv=["../build"]"#, false),
        (r#"exec argv=["/proc/self/cwd/build"]"#, false),
        (r#"exec argv=["./build"] cwd=."#, true),
        (r#"exec argv=["bin/build"] cwd=work"#, true),
        (r#"exec argv=["bin/build"] cwd=*"#, false),
        // The rule of a whole call names everything.
        (r#"exec argv=["./build"] cwd=. timeout_s:=60 only"#, true),
    ] {
        assert_eq!(rule(text).allows_too_much().is_none(), good, "{text}");
    }
}

#[test]
fn a_rule_says_where_its_tool_aims_or_that_there_is_nothing_else() {
    let roles = [
        ("body".to_owned(), ArgumentRole::Payload),
        ("cc".to_owned(), ArgumentRole::Destination),
        ("file".to_owned(), ArgumentRole::Object),
        ("key".to_owned(), ArgumentRole::Credential),
        ("sum".to_owned(), ArgumentRole::Amount),
    ];
    for (text, open) in [
        ("send", Some("cc")),
        ("send body=x sum:=1", Some("cc")),
        ("send cc=ada@example.com", Some("file")),
        ("send cc=** file=notes/*", Some("key")),
        ("send cc=** file=** key=k1", None),
        ("send cc=ada@example.com only", None),
    ] {
        assert_eq!(rule(text).leaves_open(&roles), open, "{text}");
    }
    assert_eq!(rule("send").leaves_open(&roles[..1]), None, "what is carried may be anything");
}

#[test]
fn a_rule_that_looks_at_what_its_tool_does_not_take_says_so() {
    let closed = serde_json::json!({
        "type": "object", "properties": {"path": {}, "text": {}}, "additionalProperties": false
    });
    assert_eq!(rule("send path=a text=b only").never_answers(&closed), None);
    assert_eq!(
        rule("send path=a pth=b").never_answers(&closed).as_deref(),
        Some("send takes no argument pth, so the rule would answer no call; it takes path, text")
    );
    let needs = serde_json::json!({
        "type": "object", "properties": {"path": {}, "text": {}}, "required": ["path", "text"],
    });
    for (text, answers) in
        [("send", true), ("send only", false), ("send path=a only", false), ("send path=a", true)]
    {
        assert_eq!(rule(text).never_answers(&needs).is_none(), answers, "{text}");
    }
    assert_eq!(rule("send path=a text=b only").never_answers(&needs), None);
    let open = serde_json::json!({"type": "object", "properties": {"path": {}}});
    assert_eq!(rule("send only").never_answers(&open), None, "a call may have no argument");
    assert_eq!(rule("send pth=b").never_answers(&open), None, "others may be there");
}

#[test]
fn the_exact_rule_of_a_call_matches_it_and_no_other() {
    for arguments in [
        r#"{"path":"a b","text":"\"quoted\" [x"}"#,
        r#"{"argv":["sh","-c","x y"],"cwd":".","timeout_s":60}"#,
        r#"{"path":""}"#,
        "{}",
    ] {
        let exact = Rule::exact("t", arguments).expect("it is spelled");
        assert!(exact.matches("t", arguments), "{exact}");
        assert!(!exact.is_wide());
        assert_eq!(rule(&exact.to_string()), exact);
    }
    let exact = Rule::exact("t", r#"{"a":"x"}"#).expect("it is spelled");
    assert!(!exact.matches("t", r#"{"a":"y"}"#) && !exact.matches("u", r#"{"a":"x"}"#));
    assert!(!exact.matches("t", r#"{"a":"x","b":"y"}"#), "what it leaves out may send something");
    let star = Rule::exact("t", r#"{"a":"x*"}"#).expect("it is spelled");
    assert!(star.matches("t", r#"{"a":"x*"}"#) && !star.matches("t", r#"{"a":"xy"}"#), "{star}");
    let number = Rule::exact("t", r#"{"a":5}"#).expect("it is spelled");
    assert!(number.matches("t", r#"{"a":5}"#) && !number.matches("t", r#"{"a":"5"}"#), "{number}");
}

#[test]
fn what_is_approved_again_and_again_is_proposed_as_it_would_match() {
    let seen =
        |arguments: &'static str, approved| Seen { agent: "ada", tool: "file.write", arguments, approved };
    let notes = [
        seen(r#"{"path":"notes/a/1.md","text":"x"}"#, true),
        seen(r#"{"path":"notes/b.md","text":"y"}"#, true),
        seen(r#"{"path":"notes/a/2.md","text":"z"}"#, true),
    ];
    let found = suggest(&notes, |_| true);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].rule.as_str(), found[0].times), ("file.write path=notes/**", 3));
    assert!(notes.iter().all(|call| rule(&found[0].rule).matches(call.tool, call.arguments)));
    assert_eq!(suggest(&notes[..2], |_| true), [], "twice is no habit");
    let refused = [&notes[..], &[seen(r#"{"path":"etc/x","text":""}"#, false)]].concat();
    assert_eq!(suggest(&refused, |_| true), [], "a person refused one");
    let run = |arguments: &'static str| Seen { agent: "ada", tool: "exec", arguments, approved: true };
    let same = [run(r#"{"argv":["git","status"]}"#); 3];
    assert_eq!(suggest(&same, |_| true)[0].rule, r#"exec argv=["git","status"] only"#);
    let others = [same[0], same[1], run(r#"{"argv":["git","push"]}"#)];
    assert_eq!(suggest(&others, |_| true), [], "no prefix of a program is proposed");
}

#[test]
fn what_may_not_stand_as_a_rule_is_not_proposed() {
    let parameters = serde_json::json!({
        "type": "object", "properties": {"path": {}, "content": {}}, "additionalProperties": false
    });
    let roles = [("path".to_owned(), ArgumentRole::Object), ("content".to_owned(), ArgumentRole::Payload)];
    let tool = RuleTool { parameters: &parameters, roles: &roles, runs_programs: false };
    let stands = |rule: &Rule| rule.barred(RuleAnswer::Allow, &tool).is_none();
    let seen = |arguments: &'static str| Seen { agent: "ada", tool: "file.write", arguments, approved: true };
    let everywhere = ["a", "b", "c"].map(|path| match path {
        "a" => seen(r#"{"path":"a.md","content":"x"}"#),
        "b" => seen(r#"{"path":"b.md","content":"x"}"#),
        _ => seen(r#"{"path":"c.md","content":"x"}"#),
    });
    let found = suggest(&everywhere, |_| true);
    assert_eq!(found[0].rule, "file.write content=x", "all that these have in common says nothing of where");
    assert_eq!(suggest(&everywhere, stands), []);
    let barred = rule(&found[0].rule).barred(RuleAnswer::Allow, &tool).expect("it may not stand");
    assert_eq!(barred.problem, "a rule that allows file.write says what path must be");
    assert_eq!(barred.hint.as_deref(), Some("add path=PATTERN; path=** is anything"));
    assert_eq!(rule(&found[0].rule).barred(RuleAnswer::Deny, &tool), None, "it may refuse");
    let below = [everywhere[0]; 3];
    assert!(suggest(&below, stands)[0].rule.ends_with(" only"), "the very same call leaves nothing open");
    let program = RuleTool { runs_programs: true, ..tool };
    let shell = rule(r#"file.write path=["sh","-c","x"]"#);
    assert!(shell.barred(RuleAnswer::Allow, &program).is_some(), "a program is named with all its words");
}

fn approval() -> Approval {
    let at = Timestamp::UNIX_EPOCH;
    let later = |seconds: i64| Timestamp::from_second(seconds).expect("a time");
    Approval {
        id: ApprovalId::from_bytes([1; 16]),
        agent: AgentId::from_bytes([2; 16]),
        session: SessionId::from_bytes([3; 16]),
        run: RunId::from_bytes([4; 16]),
        call: CallId { step: 1, index: 0 },
        author: Actor::new("cli:ada"),
        hops: 0,
        context: Label::PUBLIC_FACT,
        standing: Standing::default(),
        tool: "t".to_owned(),
        arguments: "{}".to_owned(),
        action: Digest::from_bytes([5; 32]),
        binding: Digest::from_bytes([6; 32]),
        bound: None,
        origins: Vec::new(),
        rule: "permission".to_owned(),
        reason: String::new(),
        approvers: Vec::new(),
        asked_at: at,
        holds_until: later(10),
        expires_at: later(20),
        cools_until: None,
        state: ApprovalState::Holding,
        released: false,
        answer: None,
        used_by: None,
    }
}

fn answered(second: i64) -> Answered {
    let at = Timestamp::from_second(second).expect("a time");
    Answered { by: Actor::new("token:ops"), at, reason: String::new(), reach: None }
}

#[test]
fn an_answer_stands_as_far_as_it_went() {
    let (ops, other) = (Actor::new("token:ops"), Actor::new("token:other"));
    let always = |rule: &str| Reach::Always { rule: rule.to_owned() };
    let reaches = [Reach::Once, Reach::Session, always("t a=x"), always("t a=y")];
    let said = |reach: Option<Reach>| {
        let mut known = approval();
        let answer = Answered { reach: reach.clone(), ..answered(5) };
        known.answer(ApprovalState::Holding, reach.is_some(), &answer).expect("it is open");
        let stored = serde_json::to_string(&known).expect("it is data");
        assert_eq!(serde_json::from_str::<Approval>(&stored).expect("it reads"), known);
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
    let used = Approval { state: ApprovalState::Used, ..said(Some(Reach::Session)) };
    assert!(used.is_answered_so(&ops, Some(&Reach::Session)) && !used.is_answered_so(&ops, None));
    // A program of before wrote no reach.
    let text = serde_json::to_string(&answered(5)).expect("it is data");
    assert!(!text.contains("reach"), "{text}");
    let before = Approval { state: ApprovalState::Approved, answer: Some(answered(5)), ..approval() };
    assert!(before.is_answered_so(&ops, Some(&Reach::Once)));
    assert!(!before.is_answered_so(&ops, Some(&Reach::Session)));
}

#[test]
fn each_call_or_destination_that_comes_again_gets_a_rule_of_its_own() {
    let call = |arguments: &'static str| Seen { agent: "ada", tool: "web.post", arguments, approved: true };
    let proposed = |calls: &[Seen<'_>], stands: &dyn Fn(&Rule) -> bool| {
        let found = suggest(calls, stands);
        let rule_of = |one: &Suggestion| Rule::parse(&one.rule).expect("it is spelled");
        for seen in calls {
            let answers = found.iter().filter(|one| rule_of(one).matches(seen.tool, seen.arguments)).count();
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
    let says_where = |rule: &Rule| rule.names().any(|name| name == "host");
    assert!(proposed(&bodies[..5], &says_where).is_empty());
    // Where what all have in common may not stand, the call that comes again does.
    let mixed = [one, one, one, two];
    assert_eq!(proposed(&mixed, &says_where), told(&[("web.post body=x host=a only", 3)]));
}

#[test]
fn an_approval_is_answered_once_and_used_once_by_the_run_that_it_is_for() {
    let (own, other) = (RunId::from_bytes([4; 16]), RunId::from_bytes([9; 16]));
    for released in [false, true] {
        let mut known = approval();
        let action = known.action;
        let user = if released { other } else { own };
        let stranger = if released { own } else { other };
        assert_eq!(known.touch(own, Touch::Use(action)), Err(ApprovalState::Holding), "nobody answered");
        if released {
            assert_eq!(known.touch(other, Touch::Release), Err(ApprovalState::Holding));
            assert_eq!(known.touch(own, Touch::Release), Ok(()));
            assert_eq!(known.answer(ApprovalState::Holding, true, &answered(5)), Err(ApprovalState::Waiting));
        }
        let from = known.state;
        assert_eq!(known.answer(from, true, &answered(5)), Ok(()));
        assert_eq!(known.answer(from, true, &answered(5)), Ok(()), "the same answer again");
        assert_eq!(known.answer(from, false, &answered(5)), Err(ApprovalState::Approved));
        assert_eq!(known.answer(from, true, &answered(6)), Err(ApprovalState::Approved));
        assert_eq!(known.touch(own, Touch::Release), Err(ApprovalState::Approved));
        let another = Digest::from_bytes([7; 32]);
        assert_eq!(known.touch(user, Touch::Use(another)), Err(ApprovalState::Approved), "another action");
        assert_eq!(known.touch(stranger, Touch::Use(action)), Err(ApprovalState::Approved), "another run");
        assert_eq!(known.touch(user, Touch::Use(action)), Ok(()));
        assert_eq!((known.state, known.used_by), (ApprovalState::Used, Some(user)));
        assert_eq!(known.touch(user, Touch::Use(action)), Err(ApprovalState::Used), "it was used");
        assert_eq!(known.touch(user, Touch::Withdraw), Err(ApprovalState::Used));
    }
}

#[test]
fn an_approval_ends_with_its_time_with_its_refusal_and_with_its_call() {
    let mut known = approval();
    assert_eq!(known.answer(ApprovalState::Holding, true, &answered(20)), Err(ApprovalState::Expired));
    assert_eq!(known.state_at(answered(19).at), ApprovalState::Holding);
    assert_eq!(known.answer(ApprovalState::Holding, false, &answered(19)), Ok(()));
    assert_eq!(known.state_at(answered(30).at), ApprovalState::Denied);
    assert_eq!(known.touch(known.run, Touch::Withdraw), Ok(()), "its call is closed by the refusal");
    assert_eq!(known.state, ApprovalState::Denied);
    let mut known = approval();
    assert_eq!(known.touch(known.run, Touch::Withdraw), Ok(()));
    assert_eq!(known.answer(ApprovalState::Holding, true, &answered(5)), Err(ApprovalState::Withdrawn));
}

#[test]
fn what_was_asked_for_ahead_is_taken_back_and_a_refusal_of_it_stands() {
    for state in ApprovalState::ALL {
        let mut known = Approval { state, ..approval() };
        let is_taken_back = matches!(state, ApprovalState::Holding | ApprovalState::Approved);
        let took = known.touch(known.run, Touch::Retract);
        assert_eq!(took.is_ok(), is_taken_back, "{state}");
        assert_eq!(known.state, if is_taken_back { ApprovalState::Withdrawn } else { state });
    }
}

#[test]
fn a_signal_says_which_approval_it_answers_and_one_of_before_says_why_only() {
    let id = ApprovalId::from_bytes([6; 16]);
    for reason in ["", "not on a Friday"] {
        let body = serde_json::to_vec(&AnswerBody::new(id, reason)).expect("it is data");
        assert_eq!(AnswerBody::read(&body), (Some(id), reason.to_owned()));
    }
    assert_eq!(AnswerBody::read(b""), (None, String::new()));
    assert_eq!(AnswerBody::read(b" not today "), (None, "not today".to_owned()));
    let later = format!(r#"{{"version":2,"approval":"{id}"}}"#);
    assert_eq!(AnswerBody::read(later.as_bytes()), (None, later.clone()), "nobody knows what it answers");
}

#[test]
fn what_hides_is_spelled_out() {
    assert_eq!(shown("rm\u{202e}txt\u{7}\n"), "rm\\u{202e}txt\\u{7}\\u{a}");
    assert_eq!(shown("a\u{3164}b\u{fe0f}c\u{a0}d\u{e0101}"), "a\\u{3164}b\\u{fe0f}c\\u{a0}d\\u{e0101}");
    assert_eq!(shown("grüße 日本"), "grüße 日本");
}

#[test]
fn a_delayed_call_cools_until_its_time_or_an_answer() {
    let later = |seconds: i64| Timestamp::from_second(seconds).expect("a time");
    let mut delayed = Approval { cools_until: Some(later(5)), ..approval() };
    assert_eq!((delayed.cooling_at(later(4)), delayed.has_cooled(later(4))), (Some(later(5)), false));
    assert!(delayed.has_cooled(later(5)) && delayed.has_cooled(later(19)));
    assert!(!delayed.has_cooled(later(20)), "it has expired: nobody could refuse it for long");
    assert!(!approval().has_cooled(later(19)), "only a person allows it");
    delayed.answer(ApprovalState::Holding, false, &answered(1)).expect("it is open");
    assert_eq!((delayed.cooling_at(later(4)), delayed.has_cooled(later(5))), (None, false));
    // A program of before wrote no time, and reads past it.
    let text = serde_json::to_string(&approval()).expect("it is data");
    assert!(!text.contains("cools"), "{text}");
    assert_eq!(serde_json::from_str::<Approval>(&text).expect("it reads"), approval());
}

#[test]
fn what_may_still_be_moved_is_not_over_and_an_end_gives_up_what_no_run_has() {
    let at = |second: i64| Timestamp::from_second(second).expect("a time");
    for state in ApprovalState::ALL {
        let known = Approval { state, ..approval() };
        let is_open = matches!(state, ApprovalState::Holding | ApprovalState::Waiting);
        assert_eq!((known.is_open_at(at(19)), known.is_open_at(at(20))), (is_open, false), "{state}");
        let is_moved = state == ApprovalState::Approved;
        assert_eq!(
            (known.is_over_at(at(19)), known.is_over_at(at(20))),
            (!is_open && !is_moved, !is_moved),
            "{state}"
        );
        for released in [false, true] {
            let mut ended = Approval { released, ..known.clone() };
            assert_eq!(ended.give_up(), is_moved && released, "{state}");
            let left = if is_moved && released { ApprovalState::Withdrawn } else { state };
            assert_eq!(ended.state, left);
        }
    }
    let other = RunId::from_bytes([9; 16]);
    let used = Approval { used_by: Some(other), ..approval() };
    assert_eq!(used.runs().collect::<Vec<_>>(), [used.run, other]);
}

#[test]
fn looks_for_what_goes_come_behind_what_may_not_go() {
    for stuck in
        [0, 1, SWEEP_LOOKS_MAX - 1, SWEEP_LOOKS_MAX, 2 * SWEEP_LOOKS_MAX - 1, 2 * SWEEP_LOOKS_MAX, 5_000]
    {
        // Each turn that finds nothing leaves one more beyond what is kept.
        let finds = |beyond: usize| sweep_looks(beyond).iter().any(|passed| passed + SWEEP_LOOKS_MAX > stuck);
        assert!((1..=stuck.max(1)).any(finds), "{stuck} hold up what is behind them");
    }
}
