//! Policies are refused when they are read, with the place, and the shipped one keeps its own tests.

use dromia_contracts::gate::{Gate as _, GateAction, Principal};
use dromia_contracts::id::{AgentId, SessionId, TenantId};
use dromia_contracts::label::Label;
use dromia_contracts::plan::PlanContext;
use dromia_contracts::scope::{Actor, Scope, ScopeAuthority};
use dromia_guard::GrantGate;
use dromia_guard::policy::{
    BYTES_MAX, DEFAULT, DEFAULT_TESTS, DEPTH_MAX, FILES_MAX, FileRules, PolicyEngine, PolicyLayer,
    PolicyLayers, PolicyProblem, PolicyText, PolicyVerdict, file_rules, run_tests,
};
use dromia_testkit::answer_of;
use jiff::Timestamp;

fn file(name: &str, text: &str) -> PolicyText {
    PolicyText { name: name.to_owned(), text: text.to_owned() }
}

fn problem(text: &str) -> PolicyProblem {
    PolicyLayer::compile_layer("instance", &[file("own.rego", text)]).expect_err(text)
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
fn every_rule_of_the_shipped_policy_is_covered_by_tests() {
    for (rule, without) in [
        ("\tnot has_capability\n", "\tfalse\n"),
        ("\tnot is_known\n", "\tfalse\n"),
        ("if {\n\tsome row in input.permissions\n}", "if {\n\tsome row in []\n}"),
        ("\tsome row in input.permissions\n\trow.verdict", "\tsome row in []\n\trow.verdict"),
        ("may_be_misled if input.context.integrity == \"untrusted\"\n", ""),
        ("may_be_misled if input.action.plan.frozen\n", ""),
        ("\tmay_be_misled\n\tnot stays_inside\n", "\tnot stays_inside\n"),
        ("\tnot stays_inside\n\tnot is_vouched_for\n", "\tnot is_vouched_for\n"),
        ("\tnot is_vouched_for\n\tnot input.action.in_plan\n", "\tnot input.action.in_plan\n"),
        ("\tnot input.action.in_plan\n", ""),
        ("left_open contains \"credential\"\n", ""),
        ("left_open contains \"amount\"\n", ""),
        ("left_open contains \"none\"\n", ""),
        ("left_open contains \"object\"\n", ""),
        ("\trole in {\"amount\", \"none\", \"object\"}\n", ""),
        ("described := object.get(input.action, \"roles\", {})", "described := input.action.roles"),
        ("\tname in input.action.planned\n}", "\tfalse\n}"),
        ("is_bound(name, _) if name in input.action.endorsed\n", ""),
        ("planned_was := concat(\"\", [\"; planned was \", bounds])", "planned_was := \"\""),
        ("\tcount(unsaid_text) > 0\n\tinput.context.sensitivity", "\tinput.context.sensitivity"),
        ("\tinput.context.sensitivity == \"high\"\n", ""),
        ("\tcount(input.action.uncarried) > 0\n", ""),
        ("\tnot name in input.action.planned\n", ""),
        ("\tis_given(name)\n\tnot name in input", "\tnot name in input"),
        ("\tis_given(name)\n}", "}"),
        ("\tcould_lead\n", ""),
        ("\tnot leads_somewhere\n\tcount(unsaid_text) > 0\n", "\tnot leads_somewhere\n"),
        ("\tnot leads_somewhere\n", ""),
        ("left_open contains \"payload\" if input.action.network\n", ""),
        ("\tnot stays_inside\n\tmay_be_misled\n", "\tmay_be_misled\n"),
        ("\tinput.action.effect != \"pure\"\n\tcount(left", "\tcount(left"),
        ("\tinput.action.effect != \"pure\"\n\tcould", "\tcould"),
        ("\tmay_be_misled\n\tnot is_vouched_for\n}", "\tnot is_vouched_for\n}"),
        ("\tnot is_vouched_for\n}", "}"),
        ("\tnot name in input.action.endorsed\n", ""),
        (
            "is_given(name) if not object.get(input.action.arguments, name, null) in {null, [], \"\"}",
            "is_given(_) if true",
        ),
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
fn a_malformed_policy_is_refused_with_its_place() {
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
fn a_policy_that_would_fail_later_is_refused_with_place() {
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
        (format!("{HEAD_OF_RULE} rand.intn(\"a\", 9) == 1"), (4, 69), "a policy may not use randomness"),
        (
            format!("{HEAD_OF_RULE} startswith(input.author)"),
            (4, 69),
            "`startswith` takes 2 values, but gets 1",
        ),
        ("f(x) := x if true\ng if f(1, 2, 3)".to_owned(), (5, 6), "`f` takes 1 values, but gets 3"),
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
        (r#"verdicts contains {"verdict": "deny", "rule": 3} if false"#.to_owned(), (4, 47), "`rule` is 3"),
        (
            r#"verdicts contains {"verdict": "deny", "rule": ""} if false"#.to_owned(),
            (4, 48),
            "`rule` is ; a verdict has",
        ),
        (
            format!(r#"verdicts contains {{"verdict": "deny", "rule": "{}"}} if false"#, "a".repeat(65)),
            (4, 48),
            "`rule` is aaa",
        ),
    ] {
        let found = problem(&beside(&rule));
        assert_eq!((found.file.as_str(), found.place), ("own.rego", Some(place)), "{rule}: {found}");
        assert!(found.problem.starts_with(said), "{rule}: {found}");
    }
    for set in [r#"{{"verdict": "no", "rule": "a"}}"#, r#"{{"verdict": "no", "rule": "a"} | true}"#] {
        let wrong = problem(&format!("{HEAD}verdicts := {set}\n"));
        assert!(wrong.problem.starts_with("`verdict` is no; "), "{wrong}");
    }
    let no_set = problem(&format!("{HEAD}verdicts := 3\n"));
    assert!(no_set.place.is_some_and(|(line, _)| line == 3), "{no_set}");
    assert!(no_set.problem.starts_with("`verdicts` is not a set"), "{no_set}");
}

#[test]
fn samples_find_policies_that_only_some_questions_break() {
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
            "it gives 30",
            "after something untrusted",
        ),
        (
            r#"verdicts contains {"verdict": "deny", "rule": "a"} if count(input.action.arguments.timeout_s) == 1"#,
            "",
            "a call of ",
        ),
    ] {
        let layer =
            PolicyLayer::compile_layer("instance", &[file("own.rego", &beside(rule))]).expect("it compiles");
        let found = layer.probe_samples().expect_err(rule);
        assert_eq!(found.file, "own.rego", "{found}");
        assert!(found.problem.starts_with(said), "{rule}: {found}");
        let (_, asked) =
            found.problem.rsplit_once(", where it is asked about ").expect("it says what it was asked");
        assert!(asked.contains(about), "{rule}: {found}");
    }
    for (name, text) in [("default.rego", DEFAULT.to_owned()), ("own.rego", format!("{HEAD}{RULE}"))] {
        let layer = PolicyLayer::compile_layer("instance", &[file(name, &text)]).expect("it compiles");
        assert_eq!(layer.probe_samples(), Ok(()), "{name}");
    }
}

#[test]
fn policies_may_call_existing_functions() {
    let rules = r#"
own(x) := x + 1 if x > 0
default fallback(x) := 1
low := lower("A")
listed := [y | some x in [1, 2]; y := own(x)]
full := data.dromia.policy.own(3)
used if fallback(2) == 1
told if print("it is told nowhere")
verdicts contains {concat("", ["ver", "dict"]): "deny", "rule": "a"} if false
"#;
    let layer =
        PolicyLayer::compile_layer("instance", &[file("own.rego", &beside(rules))]).expect("it compiles");
    assert_eq!(layer.probe_samples(), Ok(()));
}

#[test]
fn a_layer_lists_the_rules_of_each_file() {
    let tests = "test_holds if true\n";
    let helper = format!(
        "{HEAD}is_late(x) if x > 3\nverdict contains {{\"verdict\": \"deny\", \"rule\": \"a\"}} if true\n"
    );
    let files = [file("a.rego", &format!("{HEAD}{RULE}{tests}")), file("b.rego", &helper)];
    let layer = PolicyLayer::compile_layer("instance", &files).expect("it compiles");
    let said =
        |name: &str, rules, verdicts, tests| FileRules { name: name.to_owned(), rules, verdicts, tests };
    assert_eq!(layer.layer_files(), [said("a.rego", 1, 1, 1), said("b.rego", 2, 0, 0)]);
}

#[test]
fn a_layer_has_its_bounds() {
    let long = problem(&format!("{HEAD}{RULE}#{}\n", "a".repeat(BYTES_MAX)));
    assert!(long.problem.contains("longer than"), "{long}");
    let long = format!("{HEAD}{RULE}");
    let longest = format!("{long}#{}", "a".repeat(BYTES_MAX - long.len() - 1));
    assert!(PolicyLayer::compile_layer("instance", &[file("own.rego", &longest)]).is_ok());
    let many: Vec<_> = (0..=2 * FILES_MAX).map(|n| file(&format!("{n}.rego"), &long)).collect();
    let layer = |count: usize| PolicyLayer::compile_layer("instance", &many[..count]).map(drop);
    // Beside each file may be one with its tests.
    let tests = |count: usize| run_tests("instance", &many[..count]).map(drop);
    let counted =
        |count: usize| file_rules("instance", &many[..count]).map(|found| assert_eq!(found.len(), count));
    for (compiled, most) in [
        (&layer as &dyn Fn(usize) -> Result<(), PolicyProblem>, FILES_MAX),
        (&tests, 2 * FILES_MAX),
        (&counted, 2 * FILES_MAX),
    ] {
        assert_eq!(compiled(most), Ok(()));
        let refused = compiled(most + 1).expect_err("too many");
        assert!(refused.problem.contains("at most"), "{refused}");
    }
}

#[test]
fn what_counts_is_told_with_what_was_refused() {
    let tenant = TenantId::from_bytes([1; 16]);
    let policies = PolicyEngine::built_in().expect("it compiles");
    let shipped = policies.instance_digest();
    policies.replace_layers(layers_of("input.version == 2"));
    let (first, later) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(9).expect("in range"));
    for (now, wrong) in [(first, "a b c"), (later, "allow := 1")] {
        policies.note_refused(&problem(wrong), now);
    }
    let gate = GrantGate::new(policies.clone());
    let told = gate.tenant_policy(tenant).expect("a gate with a policy says it");
    assert_eq!((told.files, told.digest), (vec!["own.rego".to_owned()], policies.instance_digest()));
    let refused = told.refused.expect("others lie there");
    assert_eq!(
        (refused.problem, refused.since),
        (problem("allow := 1").to_string(), first),
        "since the first"
    );
    assert_ne!(policies.instance_digest(), shipped);
    policies.replace_layers(PolicyLayers::default());
    let told = policies.active_policy(tenant);
    assert_eq!((told.files.len(), told.refused, told.digest), (0, None, shipped));
}

#[test]
fn a_failing_policy_test_is_listed_by_its_name() {
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
fn layers_of(condition: &str) -> PolicyLayers {
    let rule = "verdicts contains {\"verdict\": \"deny\", \"rule\": \"own\", \"reason\": \"\"} if ";
    let layer =
        PolicyLayer::compile_layer("instance", &[file("own.rego", &format!("{HEAD}{rule}{condition}\n"))]);
    PolicyLayers { instance: Some(layer.expect("it compiles")), ..PolicyLayers::default() }
}

fn scope_of(tenant: TenantId, agent: AgentId) -> Scope {
    ScopeAuthority::claim().issue_scope(tenant, Actor::new("cli:ada")).narrowed_to(agent)
}

/// Every question that differs in one field from the first, as often as the field has other values.
fn each_question(mut ask: impl FnMut(Principal<'_>, GateAction<'_>, &str)) {
    let tenants = [TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16])];
    let agents = [AgentId::from_bytes([3; 16]), AgentId::from_bytes([4; 16])];
    let sessions = [SessionId::from_bytes([5; 16]), SessionId::from_bytes([6; 16])];
    let authors = [Actor::new("cli:ada"), Actor::new("cli:eve")];
    for (tenant, agent, author) in (0..8).map(|n| (n & 1, n >> 1 & 1, n >> 2)) {
        let scope = scope_of(tenants[tenant], agents[agent]);
        for context in [Label::ACTOR_TEXT, Label::OUTSIDE] {
            let (scope, author) = (&scope, &authors[author]);
            let principal =
                Principal { scope, author, grants: &[], context, endorsed: &[], plan: PlanContext::OPEN };
            for capability in ["model", "reply"] {
                for model in ["large", "small"] {
                    ask(principal, GateAction::Model { model }, capability);
                }
                for session in sessions {
                    ask(principal, GateAction::Reply { session }, capability);
                }
            }
        }
    }
}

#[test]
fn a_cached_verdict_is_used_for_the_same_question_only() {
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
        let kept = PolicyEngine::built_in().expect("it compiles");
        kept.replace_layers(layers_of(&condition));
        let mut denied = 0;
        for _ in 0..2 {
            each_question(|principal, action, capability| {
                // One that was never asked knows nothing.
                let fresh = PolicyEngine::built_in().expect("it compiles");
                fresh.replace_layers(layers_of(&condition));
                let judged = answer_of(kept.judge_action(principal, action, capability));
                denied += usize::from(judged.said.rule == "own");
                assert_eq!(
                    judged,
                    answer_of(fresh.judge_action(principal, action, capability)),
                    "{condition}"
                );
            });
        }
        assert!(denied > 0, "{condition} denies nothing");
    }
}

#[test]
fn cached_verdicts_of_replaced_policies_are_forgotten() {
    let policies = PolicyEngine::built_in().expect("it compiles");
    let scope = scope_of(TenantId::from_bytes([1; 16]), AgentId::from_bytes([2; 16]));
    let author = Actor::new("cli:ada");
    let (context, plan) = (Label::ACTOR_TEXT, PlanContext::OPEN);
    let principal = Principal { scope: &scope, author: &author, grants: &[], context, endorsed: &[], plan };
    let judge = || {
        answer_of(policies.judge_action(principal, GateAction::Model { model: "large" }, "model")).said.call
    };
    assert_eq!([judge(), judge()], [PolicyVerdict::Allow; 2]);
    policies.replace_layers(layers_of("input.action.model == \"large\""));
    assert_eq!([judge(), judge()], [PolicyVerdict::Deny; 2]);
    policies.replace_layers(PolicyLayers::default());
    assert_eq!([judge(), judge()], [PolicyVerdict::Allow; 2]);
}

/// The verdict on a reply is known for every session where only the shipped policy counts.
#[test]
fn the_shipped_policy_ignores_the_session_of_a_reply() {
    assert!(!DEFAULT.contains("session"));
    for whole in ["input.action[", "some _, _ in input", "walk(", "json.marshal(", "object.keys("] {
        assert!(!DEFAULT.contains(whole), "{whole} may see every field");
    }
}

#[test]
fn every_policy_in_the_documents_compiles_as_written() {
    let page = include_str!("../../../../docs/policy.md");
    let blocks: Vec<_> =
        page.split("```rego\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 2, "{}", blocks.len());
    for block in blocks {
        PolicyLayer::compile_layer("instance", &[file("own.rego", block)]).expect(block);
    }
}

/// Rules that need themselves, each with its place and how it is refused.
const CIRCLES: &[(&str, (u32, u32), &str)] = &[
    ("f(x) := f(x - 1) if x > 0", (4, 1), "`f` needs itself (f → f)"),
    ("f(x) := 1 if g(x)\ng(x) if f(x) == 1", (4, 1), "`f` needs itself (f → g → f)"),
    ("f(x) := n if n := data.dromia.policy.f(x)", (4, 1), "`f` needs itself"),
    // Functions and rules, turn about.
    ("f(x) if r == x\nr := [y | some y in [1]; f(y)]", (4, 1), "`f` needs itself (f → r → f)"),
    ("a if b\nb if c\nc if not a", (4, 1), "`a` needs itself (a → b → c → a)"),
    ("a contains x if { some x in a }", (4, 1), "`a` needs itself"),
    ("a[x] := y if { some x in [1]; y := a[x - 1] }", (4, 1), "`a` needs itself"),
    ("a.b := a.c\na.c := a[\"b\"]", (4, 1), "`a.b` needs itself (a.b → a.c → a.b)"),
    ("a := data.dromia.policy[x] if some x in [\"b\"]", (4, 1), "`a` needs itself"),
    ("a := data", (4, 1), "`a` needs itself"),
    // By another name, behind an argument of the same name, and put in the place of another function.
    ("r if { x := 1; every y in [x] { r } }", (4, 1), "`r` needs itself"),
    ("f(f) := f(f)", (4, 1), "`f` needs itself"),
    ("f(x) := y if y := count(x) with count as f", (4, 1), "`f` needs itself"),
    ("f(x) := 1 if x\nelse := f(1)", (4, 1), "`f` needs itself"),
    ("default f(x) := f(1)\nf(x) := 2 if x", (4, 9), "`f` needs itself"),
];

/// Compares a way to compile a file with what must be refused of it.
fn check_circles(compiled: impl Fn(&str) -> Result<(), PolicyProblem>) -> Result<(), String> {
    for (rule, place, said) in CIRCLES {
        let Err(found) = compiled(&beside(rule)) else { return Err(format!("{rule} is taken")) };
        let is_right = found.place == Some(*place) && found.problem.starts_with(said);
        if found.file != "own.rego" || !is_right {
            return Err(format!("{rule}: {found}"));
        }
    }
    Ok(())
}

fn compiled(text: &str) -> Result<(), PolicyProblem> {
    PolicyLayer::compile_layer("instance", &[file("own.rego", text)]).map(drop)
}

#[test]
fn a_circular_rule_is_refused_with_its_place() {
    assert_eq!(check_circles(compiled), Ok(()));
    for (rule, _, said) in CIRCLES {
        let tests =
            [file("own.rego", &format!("{HEAD}{RULE}")), file("own_test.rego", &format!("{HEAD}{rule}\n"))];
        let tested = run_tests("instance", &tests).expect_err("a test may not either");
        assert!(tested.problem.starts_with(said), "{rule}: {tested}");
    }
    let imported = "package dromia.policy\nimport rego.v1\nimport data.dromia.policy.a as other\n";
    let found = problem(&format!("{imported}{RULE}a := other\n"));
    assert!(found.problem.starts_with("`a` needs itself"), "{found}");
}

/// Planted faults: a check that sees only what needs itself at once, and none at all.
#[test]
fn a_check_that_follows_no_rule_is_caught() {
    let arrows = |found: &PolicyProblem| found.problem.matches(" → ").count();
    for seen in [1, 0] {
        let blind = |text: &str| {
            compiled(text).or_else(|found| if arrows(&found) > seen { Ok(()) } else { Err(found) })
        };
        let found = check_circles(blind).expect_err("nothing notices it");
        assert!(found.ends_with("is taken"), "{found}");
    }
}

#[test]
fn a_seemingly_circular_rule_is_accepted() {
    for rule in [
        "path(path) := path + 1 if path > 0",
        "x := {y: z | some y, z in [1]}",
        "a.b := a.c\na.c := 1",
        "f(x) := g(x)\ng(x) := h(x)\nh(x) := x",
        "input_a := input.input_a",
        "every_one if { every every_one in [1] { every_one == 1 } }",
        "m if { [m, _] := [1, 2]; m == 1 }",
        "data_of := 1\nn := data_of",
        "count_of(x) := count(x)",
        "m if { {\"k\": m} := {\"k\": 1}; m == 1 }",
        "a := data.dromia.policyx.b",
    ] {
        let compiled = PolicyLayer::compile_layer("instance", &[file("own.rego", &beside(rule))]);
        assert!(compiled.is_ok(), "{rule}: {compiled:?}");
    }
}

#[test]
fn chained_policy_rules_are_bounded_and_a_long_chain_refused() {
    let row = |length: usize| {
        let rules = (0..length - 1).map(|n| format!("r{n}(x) := r{}(x)\n", n + 1));
        beside(&format!("{}r{}(x) := x", rules.collect::<String>(), length - 1))
    };
    let compiled = PolicyLayer::compile_layer("instance", &[file("own.rego", &row(DEPTH_MAX))]);
    assert!(compiled.is_ok(), "{compiled:?}");
    for length in [DEPTH_MAX + 1, 5_000] {
        let deep = problem(&row(length));
        assert!(deep.problem.contains("needs more than 64 rules"), "{deep}");
    }
}
