//! Policies are refused when they are read, with the place, and the shipped one keeps its own tests.

use dromia_guard::policy::{
    BYTES_MAX, DEFAULT, DEFAULT_TESTS, FILES_MAX, Layer, PolicyProblem, PolicyText, run_tests,
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
