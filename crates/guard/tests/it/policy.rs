//! Policies are refused when they are read, with the place, and the shipped one keeps its own tests.

use dromia_contracts::gate::{Action, Principal};
use dromia_contracts::id::{AgentId, SessionId, TenantId};
use dromia_contracts::label::Label;
use dromia_contracts::plan::Planning;
use dromia_contracts::scope::{Actor, Authority, Scope};
use dromia_guard::policy::{
    BYTES_MAX, Call, DEFAULT, DEFAULT_TESTS, FILES_MAX, FileRules, Layer, Layers, Policies, PolicyProblem,
    PolicyText, run_tests,
};

fn file(name: &str, text: &str) -> PolicyText {
    PolicyText { name: name.to_owned(), text: text.to_owned() }
}

fn problem(text: &str) -> PolicyProblem {
    Layer::compile("instance", &[file("own.rego", text)]).expect_err(text)
}

const HEAD: &str = "package dromia.policy\nimport rego.v1\n";
const RULE: &str =
    "verdicts contains {\"verdict\": \"deny\", \"rule\": \"r\", \"reason\": \"\"} if input.version == 2\n";

#[test]
fn the_shipped_policy_keeps_its_tests_and_is_short() {
    let files = [file("default.rego", DEFAULT), file("default_test.rego", DEFAULT_TESTS)];
    let ends = run_tests("built-in", &files).expect("it compiles");
    assert_eq!(ends.len(), DEFAULT_TESTS.matches("\ntest_").count());
    assert!(ends.len() >= 6 && ends.iter().all(|end| end.problem.is_none()), "{ends:?}");
    assert!(DEFAULT.lines().count() <= 200);
}

#[test]
fn a_rule_less_of_the_shipped_policy_fails_a_test_of_it() {
    for (rule, without) in [
        ("\tnot has_capability\n", "\tfalse\n"),
        ("\tnot is_known\n", "\tfalse\n"),
        ("if {\n\tsome row in input.permissions\n}", "if {\n\tsome row in []\n}"),
        ("\tsome row in input.permissions\n\trow.verdict", "\tsome row in []\n\trow.verdict"),
        ("may_be_misled if input.context.integrity == \"untrusted\"\n", ""),
        ("may_be_misled if input.action.plan.frozen\n", ""),
        ("\tmay_be_misled\n\tnot stays_inside\n", "\tnot stays_inside\n"),
        ("\tnot stays_inside\n", ""),
        ("\tnot is_vouched_for\n\tnot input.action.in_plan\n", "\tnot input.action.in_plan\n"),
        ("\tnot input.action.in_plan\n", ""),
        ("left_open contains \"credential\"\n", ""),
        ("left_open contains \"object\" if not leads_somewhere", ""),
        (" if not leads_somewhere", ""),
        ("left_open contains \"payload\" if input.action.network\n", ""),
        ("\tinput.action.sink == \"outside\"\n", ""),
        ("\tinput.action.effect != \"pure\"\n", ""),
        ("\tmay_be_misled\n\tnot is_vouched_for\n\tcount", "\tnot is_vouched_for\n\tcount"),
        ("\tnot is_vouched_for\n\tcount", "\tcount"),
        ("\tnot name in input.action.endorsed\n", ""),
        ("\tnot object.get(input.action.arguments, name, null) in {null, []}\n", ""),
        ("\tinput.action.irreversible\n", "\ttrue\n"),
        ("\thas_capability\n\tis_known\n", "\tfalse\n"),
        ("input.version == 1", "input.version > 0"),
    ] {
        assert_eq!(DEFAULT.matches(rule).count(), 1, "{rule:?}");
        let files =
            [file("default.rego", &DEFAULT.replace(rule, without)), file("default_test.rego", DEFAULT_TESTS)];
        let ends = run_tests("built-in", &files).expect("it compiles");
        assert!(ends.iter().any(|end| end.problem.is_some()), "nothing misses {rule:?}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    let broken = problem(&format!("{HEAD}\nverdicts contains if\n"));
    assert_eq!((broken.file.as_str(), broken.place.map(|(line, _)| line)), ("own.rego", Some(4)), "{broken}");
    assert!(broken.to_string().starts_with("own.rego:4:"), "{broken}");
    let strange = problem(&format!("package elsewhere\nimport rego.v1\n{RULE}"));
    assert_eq!(strange.to_string(), "own.rego:1:1: it must begin with `package dromia.policy`");
    let silent = problem(&format!("{HEAD}allow := true\n"));
    assert!(silent.to_string().contains("no file has a rule `verdicts"), "{silent}");
}

/// A rule that says something whatever is asked, so that what a test adds is never reached by itself.
fn beside(rule: &str) -> String {
    format!("{HEAD}{RULE}{rule}\n")
}

#[test]
fn what_would_fail_when_it_is_reached_is_refused_with_its_place() {
    const HEAD_OF_RULE: &str = r#"verdicts contains {"verdict": "deny", "rule": "a", "reason": ""} if"#;
    for (rule, place, said) in [
        // Behind a condition that never holds.
        (format!("{HEAD_OF_RULE} {{ false; foo(1) }}"), (4, 78), "there is no function `foo` here"),
        (
            format!("{HEAD_OF_RULE} http.send({{\"url\": \"x\"}})"),
            (4, 69),
            "there is no function `http.send`",
        ),
        (format!("{HEAD_OF_RULE} time.now_ns() > 1"), (4, 69), "there is no function `time.now_ns`"),
        (format!("{HEAD_OF_RULE} rand.intn(\"a\", 9) == 1"), (4, 69), "a policy has no randomness"),
        (
            format!("{HEAD_OF_RULE} startswith(input.author)"),
            (4, 69),
            "`startswith` takes 2 values, and is given 1",
        ),
        ("f(x) := x if true\ng if f(1, 2, 3)".to_owned(), (5, 6), "`f` takes 1 values, and is given 3"),
        ("g := [x | x := foo(1)]".to_owned(), (4, 16), "there is no function `foo` here"),
        ("g if not foo(1)".to_owned(), (4, 10), "there is no function `foo` here"),
        ("g if { every x in [1] { foo(x) } }".to_owned(), (4, 25), "there is no function `foo` here"),
        (
            r#"verdicts contains {"verdict": "refuse", "rule": "a"} if false"#.to_owned(),
            (4, 32),
            "`verdict` is refuse; a verdict has `verdict` (allow, delay, ask or deny)",
        ),
        (
            r#"verdicts contains {"verdict": "deny", "rule": "Not So"} if false"#.to_owned(),
            (4, 48),
            "`rule` is Not So",
        ),
        (
            r#"verdicts contains {"verdict": "deny", "reason": "x"} if false"#.to_owned(),
            (4, 19),
            "`rule` is missing",
        ),
        (r#"verdicts contains "deny" if false"#.to_owned(), (4, 20), "a verdict has `verdict`"),
    ] {
        let found = problem(&beside(&rule));
        assert_eq!((found.file.as_str(), found.place), ("own.rego", Some(place)), "{rule}: {found}");
        assert!(found.problem.starts_with(said), "{rule}: {found}");
    }
    let no_set = problem(&format!("{HEAD}verdicts := 3\n"));
    assert!(no_set.place.is_some_and(|(line, _)| line == 3), "{no_set}");
    assert!(no_set.problem.starts_with("`verdicts` is no set"), "{no_set}");
}

#[test]
fn what_only_some_questions_break_is_found_by_the_samples() {
    for (rule, said, about) in [
        (
            r#"verdicts contains {"verdict": concat("", ["re", "fuse"]), "rule": "a"} if input.action.kind == "reply""#,
            "a verdict has",
            "a reply",
        ),
        (
            r#"verdicts contains {"verdict": "deny", "rule": "a"} if to_number(input.action.model) == 1"#,
            "",
            "a request to a model",
        ),
        (
            r#"verdicts contains {"verdict": "deny", "rule": sprintf("r%d", [n])} if { some n in numbers.range(1, 300); input.action.plan.frozen }"#,
            "it says 30",
            "after something untrusted",
        ),
        (
            r#"verdicts contains {"verdict": "deny", "rule": "a"} if count(input.action.arguments.timeout_s) == 1"#,
            "",
            "a call of ",
        ),
    ] {
        let layer = Layer::compile("instance", &[file("own.rego", &beside(rule))]).expect("it compiles");
        let found = layer.probe().expect_err(rule);
        assert_eq!(found.file, "own.rego", "{found}");
        assert!(found.problem.starts_with(said), "{rule}: {found}");
        let (_, asked) =
            found.problem.rsplit_once(", where it is asked about ").expect("it says what it was asked");
        assert!(asked.contains(about), "{rule}: {found}");
    }
    for (name, text) in [("default.rego", DEFAULT.to_owned()), ("own.rego", format!("{HEAD}{RULE}"))] {
        let layer = Layer::compile("instance", &[file(name, &text)]).expect("it compiles");
        assert_eq!(layer.probe(), Ok(()), "{name}");
    }
}

#[test]
fn what_is_there_may_be_called() {
    let rules = r#"
own(x) := x + 1 if x > 0
default fallback(x) := 1
low := lower("A")
listed := [y | some x in [1, 2]; y := own(x)]
full := data.dromia.policy.own(3)
used if fallback(2) == 1
told if print("it is told nowhere")
"#;
    let layer = Layer::compile("instance", &[file("own.rego", &beside(rules))]).expect("it compiles");
    assert_eq!(layer.probe(), Ok(()));
}

#[test]
fn a_layer_tells_what_each_of_its_files_says() {
    let tests = "test_holds if true\n";
    let helper = format!(
        "{HEAD}is_late(x) if x > 3\nverdict contains {{\"verdict\": \"deny\", \"rule\": \"a\"}} if true\n"
    );
    let files = [file("a.rego", &format!("{HEAD}{RULE}{tests}")), file("b.rego", &helper)];
    let layer = Layer::compile("instance", &files).expect("it compiles");
    let said =
        |name: &str, rules, verdicts, tests| FileRules { name: name.to_owned(), rules, verdicts, tests };
    assert_eq!(layer.files(), [said("a.rego", 1, 1, 1), said("b.rego", 2, 0, 0)]);
}

#[test]
fn a_layer_has_its_bounds() {
    let long = problem(&format!("{HEAD}{RULE}#{}\n", "a".repeat(BYTES_MAX)));
    assert!(long.problem.contains("longer than"), "{long}");
    let many: Vec<_> =
        (0..=FILES_MAX).map(|n| file(&format!("{n}.rego"), &format!("{HEAD}{RULE}"))).collect();
    let many = Layer::compile("instance", &many).expect_err("too many");
    assert!(many.problem.contains("at most"), "{many}");
}

#[test]
fn a_failing_test_is_told_by_its_name() {
    let text = format!("{HEAD}{RULE}test_holds if true\ntest_fails if 1 == 2\n");
    let ends = run_tests("instance", &[file("own_test.rego", &text)]).expect("it compiles");
    let ends: Vec<_> = ends.iter().map(|end| (end.name.as_str(), end.problem.is_none())).collect();
    assert_eq!(ends, [("test_fails", false), ("test_holds", true)]);
}

#[test]
fn the_example_of_the_documents_does_what_it_says() {
    let page = include_str!("../../../../docs/policy.md");
    let example =
        page.split("```rego\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it is there");
    let tests = r#"
test_a_tainted_send_is_denied if {
	action := {"reaches": {"method": "POST"}}
	said := verdicts with input as {"context": {"integrity": "untrusted"}, "action": action}
	{one.rule | some one in said} == {"tainted-send"}
}
test_a_look_is_not if {
	action := {"reaches": {"method": "GET"}}
	said := verdicts with input as {"context": {"integrity": "untrusted"}, "action": action}
	count(said) == 0
}
test_what_an_actor_asked_for_is_not if {
	action := {"reaches": {"method": "POST"}}
	said := verdicts with input as {"context": {"integrity": "trusted"}, "action": action}
	count(said) == 0
}
"#;
    let ends = run_tests("instance", &[file("own.rego", &format!("{example}{tests}"))]).expect("it compiles");
    assert!(ends.len() == 3 && ends.iter().all(|end| end.problem.is_none()), "{ends:?}");
}

/// A policy of the operator's own that denies what one field of the question says.
fn layers_of(condition: &str) -> Layers {
    let rule = "verdicts contains {\"verdict\": \"deny\", \"rule\": \"own\", \"reason\": \"\"} if ";
    let layer = Layer::compile("instance", &[file("own.rego", &format!("{HEAD}{rule}{condition}\n"))]);
    Layers { instance: Some(layer.expect("it compiles")), ..Layers::default() }
}

fn scope_of(tenant: TenantId, agent: AgentId) -> Scope {
    Authority::claim().scope(tenant, Actor::new("cli:ada")).narrowed_to(agent)
}

/// Every question that differs in one field from the first, as often as the field has other values.
fn each_question(mut ask: impl FnMut(Principal<'_>, Action<'_>, &str)) {
    let tenants = [TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16])];
    let agents = [AgentId::from_bytes([3; 16]), AgentId::from_bytes([4; 16])];
    let sessions = [SessionId::from_bytes([5; 16]), SessionId::from_bytes([6; 16])];
    let authors = [Actor::new("cli:ada"), Actor::new("cli:eve")];
    for (tenant, agent, author) in (0..8).map(|n| (n & 1, n >> 1 & 1, n >> 2)) {
        let scope = scope_of(tenants[tenant], agents[agent]);
        for context in [Label::ACTOR_TEXT, Label::OUTSIDE] {
            let (scope, author) = (&scope, &authors[author]);
            let principal =
                Principal { scope, author, grants: &[], context, endorsed: &[], plan: Planning::OPEN };
            for capability in ["model", "reply"] {
                for model in ["large", "small"] {
                    ask(principal, Action::Model { model }, capability);
                }
                for session in sessions {
                    ask(principal, Action::Reply { session }, capability);
                }
            }
        }
    }
}

#[test]
fn what_was_judged_before_is_told_of_the_same_question_only() {
    let text = |id: &dyn std::fmt::Display| format!("\"{id}\"");
    for condition in [
        "true".to_owned(),
        format!("input.tenant == {}", text(&TenantId::from_bytes([2; 16]))),
        format!("input.agent == {}", text(&AgentId::from_bytes([4; 16]))),
        format!("input.action.session == {}", text(&SessionId::from_bytes([6; 16]))),
        "input.author == \"cli:eve\"".to_owned(),
        "input.context.integrity == \"untrusted\"".to_owned(),
        "input.capability == \"reply\"".to_owned(),
        "input.action.kind == \"reply\"".to_owned(),
        "input.action.model == \"small\"".to_owned(),
    ] {
        let kept = Policies::built_in().expect("it compiles");
        kept.replace(layers_of(&condition));
        let mut denied = 0;
        for _ in 0..2 {
            each_question(|principal, action, capability| {
                // One that was never asked knows nothing.
                let fresh = Policies::built_in().expect("it compiles");
                fresh.replace(layers_of(&condition));
                let judged = kept.judge(principal, action, capability);
                denied += usize::from(judged.said.rule == "own");
                assert_eq!(judged, fresh.judge(principal, action, capability), "{condition}");
            });
        }
        assert!(denied > 0, "{condition} denies nothing");
    }
}

#[test]
fn what_was_judged_by_other_files_is_forgotten() {
    let policies = Policies::built_in().expect("it compiles");
    let scope = scope_of(TenantId::from_bytes([1; 16]), AgentId::from_bytes([2; 16]));
    let author = Actor::new("cli:ada");
    let (context, plan) = (Label::ACTOR_TEXT, Planning::OPEN);
    let principal = Principal { scope: &scope, author: &author, grants: &[], context, endorsed: &[], plan };
    let judge = || policies.judge(principal, Action::Model { model: "large" }, "model").said.call;
    assert_eq!([judge(), judge()], [Call::Allow; 2]);
    policies.replace(layers_of("input.action.model == \"large\""));
    assert_eq!([judge(), judge()], [Call::Deny; 2]);
    policies.replace(Layers::default());
    assert_eq!([judge(), judge()], [Call::Allow; 2]);
}

/// The verdict on a reply is known for every session where only the shipped policy counts.
#[test]
fn the_shipped_policy_does_not_look_at_the_session_of_a_reply() {
    assert!(!DEFAULT.contains("session"));
    for whole in ["input.action[", "some _, _ in input", "walk(", "json.marshal(", "object.keys("] {
        assert!(!DEFAULT.contains(whole), "{whole} may see every field");
    }
}

#[test]
fn every_policy_of_the_documents_is_a_file_as_it_stands() {
    let page = include_str!("../../../../docs/policy.md");
    let blocks: Vec<_> =
        page.split("```rego\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 2, "{}", blocks.len());
    for block in blocks {
        Layer::compile("instance", &[file("own.rego", block)]).expect(block);
    }
}
