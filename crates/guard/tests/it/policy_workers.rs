//! Policies of others are evaluated apart: whatever they do there ends as a deny in its time, and other tenants go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dromia_contracts::digest::Digest;
use dromia_contracts::gate::{GateAction, Principal};
use dromia_contracts::id::{CallId, TenantId};
use dromia_contracts::label::Label;
use dromia_contracts::plan::PlanContext;
use dromia_contracts::scope::{Actor, ScopeAuthority};
use dromia_contracts::tool::{EffectClass, PreparedCall};
use dromia_guard::policy::{
    BOUND, BROKEN, MEMORY_MAX, PATH_PARTS_MAX, PolicyDecision, PolicyEvaluator, PolicyLayer, PolicyText,
    PolicyVerdict, PolicyWorkers, SAID_MAX, run_tests,
};
use dromia_guard::{PolicyEngine, PolicyLayers};

const HEAD: &str = "package dromia.policy\nimport rego.v1\n";
/// Whom the attack is, and who must go on.
const ATTACKER: u8 = 1;
const NEIGHBOUR: u8 = 100;

fn workers() -> PolicyWorkers {
    PolicyWorkers::from_program(env!("CARGO_BIN_EXE_dromia-policy-worker"))
}

fn tenant(number: u8) -> TenantId {
    TenantId::from_bytes([number; 16])
}

/// A layer that denies what has the argument `bad` where this holds.
fn layer(condition: &str) -> PolicyLayer {
    let rule = format!(
        "{HEAD}verdicts contains {{\"verdict\": \"deny\", \"rule\": \"own\"}} if {{\n{condition}\n}}\n"
    );
    let file = PolicyText { name: "own.rego".to_owned(), text: rule };
    PolicyLayer::compile_layer("tenant", &[file]).expect(condition)
}

/// A policy under which one tenant for each of these conditions has a policy, and a neighbour that denies one argument.
fn policies(evaluator: PolicyEvaluator, conditions: &[&str]) -> Arc<PolicyEngine> {
    let policies = PolicyEngine::built_in().expect("the shipped policy compiles").with_evaluator(evaluator);
    let attackers =
        (ATTACKER..).zip(conditions).map(|(number, condition)| (tenant(number), layer(condition)));
    let neighbour = (tenant(NEIGHBOUR), layer("input.action.arguments.path == \"closed\""));
    policies.replace_layers(PolicyLayers { instance: None, tenants: attackers.chain([neighbour]).collect() });
    Arc::new(policies)
}

/// What a tenant's call with this path comes to.
async fn judged(policies: &PolicyEngine, number: u8, path: &str) -> PolicyDecision {
    let scope = ScopeAuthority::claim().issue_scope(tenant(number), Actor::new("cli:ada"));
    let principal = Principal {
        scope: &scope,
        author: scope.actor(),
        grants: &[],
        context: Label::ACTOR_TEXT,
        endorsed: &[],
        plan: PlanContext::OPEN,
    };
    let call = PreparedCall {
        id: CallId { step: 1, index: 0 },
        tool: "file.read".to_owned(),
        effect: EffectClass::Pure,
        arguments: serde_json::json!({ "path": path }).to_string(),
        action: Digest::default(),
        reaches: None,
        network: None,
        contents: None,
    };
    policies.judge_action(principal, GateAction::Tool(&call), "grant file.read").await
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// How often a neighbour had an answer while an attack was evaluated, up to a number that is enough; and what came of it.
fn answered_meanwhile(policies: &Arc<PolicyEngine>, enough: usize) -> (usize, PolicyDecision) {
    runtime().block_on(async {
        let (ended, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let attack = tokio::spawn({
            let (policies, ended) = (Arc::clone(policies), Arc::clone(&ended));
            async move {
                let judged = judged(&policies, ATTACKER, "attack").await;
                ended.store(true, Ordering::SeqCst);
                judged
            }
        });
        // The attack begins first: this runtime has one thread.
        tokio::task::yield_now().await;
        while !ended.load(Ordering::SeqCst) && answered.load(Ordering::SeqCst) < enough {
            let call = judged(policies, NEIGHBOUR, "closed").await.said;
            assert_eq!((call.call, call.rule.as_str()), (PolicyVerdict::Deny, "own"), "{call:?}");
            answered.fetch_add(1, Ordering::SeqCst);
        }
        let meanwhile = if ended.load(Ordering::SeqCst) { 0 } else { answered.load(Ordering::SeqCst) };
        (meanwhile, attack.await.expect("it is judged"))
    })
}

/// Ends by itself after a while, but looks at no timer meanwhile.
const LONG: &str = "input.action.arguments.path == \"attack\"; count(numbers.range(1, 3000000)) == 1";
/// Ends by the interpreter's timer.
const STUCK: &str = "input.action.arguments.path == \"attack\"
some a in numbers.range(1, 20000)
some b in numbers.range(1, 20000)
a * b == -1";

#[test]
fn an_endless_evaluation_denies_and_delays_no_other_tenant() {
    let policies = policies(PolicyEvaluator::Apart(workers()), &[STUCK]);
    let (meanwhile, attack) = answered_meanwhile(&policies, 20);
    assert_eq!(meanwhile, 20, "the neighbour waited for the attack");
    assert_eq!(
        (attack.said.call, attack.said.rule.as_str(), attack.layer),
        (PolicyVerdict::Deny, BROKEN, "tenant")
    );
    assert!(attack.said.reason.contains("the tenant policy could not be evaluated: own.rego"), "{attack:?}");
    // The next question has another worker.
    let next = runtime().block_on(judged(&policies, ATTACKER, "usual"));
    assert_eq!(next.said.call, PolicyVerdict::Allow, "{next:?}");
}

#[test]
fn an_evaluation_in_the_servers_own_process_is_caught() {
    let apart = policies(PolicyEvaluator::Apart(workers()), &[LONG]);
    let (meanwhile, attack) = answered_meanwhile(&apart, 3);
    assert_eq!(meanwhile, 3, "{attack:?}");
    let here = policies(PolicyEvaluator::Here, &[LONG]);
    assert_eq!(answered_meanwhile(&here, 3).0, 0, "nobody goes on beside it");
}

#[test]
fn every_waste_of_time_or_memory_ends_in_denial() {
    let doubled = |first: &str, twice: &str, last: &str| {
        let steps = (1..48).map(|n| format!("x{n} := {}", twice.replace('x', &format!("x{}", n - 1))));
        format!("x0 := {first}\n{}\n{}", steps.collect::<Vec<_>>().join("\n"), last.replace('x', "x47"))
    };
    let attacks = [
        "count(numbers.range(1, 100000000)) == 1".to_owned(),
        "count(sprintf(\"%1000000000d\", [1])) == 1".to_owned(),
        "some a in numbers.range(1, 20000)\nsome b in numbers.range(1, 20000)\na * b == -1".to_owned(),
        "count([1 | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); [c | some c in [a, b]] == 1]) == 1"
            .to_owned(),
        doubled("\"aaaaaaaaaaaaaaaa\"", "concat(\"\", [x, x])", "count(x) == 1"),
        doubled("\"aaaaaaaaaaaaaaaa\"", "replace(x, \"a\", \"aa\")", "count(x) == 1"),
        doubled("[1, 2]", "array.concat(x, x)", "count(x) == 1"),
        doubled("[1]", "json.unmarshal(json.marshal([x, x]))", "count(x) == 1"),
        doubled("12345678901", "x * x", "x == 1"),
        "x := concat(\"\", [\"a\" | some _ in numbers.range(1, 200000)])\nsome n in numbers.range(1, 200000)\nindexof(x, sprintf(\"b%d\", [n])) == 1"
            .to_owned(),
        "x := concat(\"\", [\"[\" | some _ in numbers.range(1, 200000)])\ncount(json.unmarshal(x)) == 1".to_owned(),
        "some n in numbers.range(1, 100000000)\nprint(n)".to_owned(),
        "count(to_number(sprintf(\"1e%d\", [999999999]))) == 1".to_owned(),
    ];
    for attacks in attacks.chunks(4) {
        let conditions: Vec<_> = attacks.iter().map(String::as_str).collect();
        let policies = policies(PolicyEvaluator::Apart(workers()), &conditions);
        runtime().block_on(async {
            let all = (ATTACKER..)
                .zip(attacks)
                .map(async |(number, attack)| (attack, judged(&policies, number, "a").await));
            for (attack, judged) in futures_util::future::join_all(all).await {
                let said = (judged.said.call, judged.said.rule.as_str());
                assert_eq!(said, (PolicyVerdict::Deny, BROKEN), "{attack}: {judged:?}");
                assert!(!judged.said.reason.contains("no worker was free"), "{attack}: {judged:?}");
            }
        });
    }
}

#[test]
fn costly_and_networking_policy_functions_do_not_exist() {
    for call in [
        "walk(input)",
        "regex.match(\"(a+)+$\", \"aaaa\")",
        "glob.match(\"*\", [], \"a\")",
        "json.patch({}, [])",
        "time.now_ns()",
        "http.send({})",
        "net.cidr_expand(\"0.0.0.0/0\")",
        "graph.reachable({}, [])",
    ] {
        let rule =
            format!("{HEAD}verdicts contains {{\"verdict\": \"deny\", \"rule\": \"own\"}} if {call}\n");
        let file = PolicyText { name: "own.rego".to_owned(), text: rule };
        let problem = PolicyLayer::compile_layer("instance", &[file]).expect_err(call);
        assert!(problem.problem.contains("there is no function"), "{problem}");
    }
}

/// The niceness of each worker of this process, and the ticks of 10 ms that it used.
fn claims_of_workers() -> Vec<(i64, u64)> {
    let claim = |entry: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |at: usize| fields[at].parse::<i64>().ok();
        (number(1)? == i64::from(std::process::id()))
            .then_some((number(16)?, (number(11)? + number(12)?).unsigned_abs()))
    };
    std::fs::read_dir("/proc").expect("is there").flatten().filter_map(claim).collect()
}

#[test]
fn a_policy_that_computes_gives_way_early() {
    let policies = policies(PolicyEvaluator::Apart(workers()), &[STUCK]);
    let attack = std::thread::spawn(move || runtime().block_on(judged(&policies, ATTACKER, "attack")));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(3);
    // Before the 200 ms that end the patience with any other.
    while !claims_of_workers().iter().any(|(nice, ticks)| *nice == 19 && *ticks < 15) {
        assert!(std::time::Instant::now() < end, "{:?}", claims_of_workers());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    attack.join().expect("it is judged");
}

#[test]
fn a_policy_worker_answers_like_the_server_itself() {
    let conditions = ["true", "input.action.arguments.path == \"a\"", "to_number(input.action.tool) == 1"];
    let (here, apart) = (
        policies(PolicyEvaluator::Here, &conditions),
        policies(PolicyEvaluator::Apart(workers()), &conditions),
    );
    runtime().block_on(async {
        for number in (ATTACKER..).take(conditions.len()).chain([NEIGHBOUR]) {
            for path in ["a", "b", "closed", "\u{0}\u{7f}\u{fc}\"\\"] {
                let (here, apart) = (judged(&here, number, path).await, judged(&apart, number, path).await);
                assert_eq!(here, apart, "{number} {path:?}");
            }
        }
    });
}

/// The processes that this one started and did not take leave of.
fn children() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("its threads").flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn a_worker_stays_for_the_next_question_until_it_was_slow() {
    let policies = policies(PolicyEvaluator::Apart(workers()), &[LONG]);
    let workers_after = |path: &str| {
        runtime().block_on(judged(&policies, ATTACKER, path));
        children()
    };
    // A question that comes before the worker is idle again begins another one.
    let comes_to = |holds: &dyn Fn(&[String], &[String]) -> bool| {
        let mut before = children();
        (0..50).any(|_| holds(&std::mem::replace(&mut before, workers_after("usual")), &before))
    };
    assert!(comes_to(&|before, now| !now.is_empty() && before == now), "each question has a new worker");
    let slow = workers_after("attack");
    assert!(comes_to(&|_, now| slow.iter().any(|worker| !now.contains(worker))), "{slow:?} stay");
}

/// A layer of two files that gives so many verdicts.
fn many(count: usize) -> PolicyLayers {
    let rule = format!(
        "verdicts contains {{\"verdict\": \"deny\", \"rule\": sprintf(\"r%d\", [n])}} if some n in numbers.range(1, {count})"
    );
    let text = |name: &str, rule: &str| PolicyText { name: name.to_owned(), text: format!("{HEAD}{rule}\n") };
    let files = [text("a.rego", &rule), text("b.rego", "other := 1")];
    let instance = PolicyLayer::compile_layer("instance", &files).expect("it compiles");
    PolicyLayers { instance: Some(instance), ..PolicyLayers::default() }
}

#[test]
fn a_layer_gives_as_many_verdicts_as_it_may() {
    for evaluator in [PolicyEvaluator::Here, PolicyEvaluator::Apart(workers())] {
        let policies = policies(evaluator, &[]);
        for (count, is_broken) in [(SAID_MAX, false), (SAID_MAX + 1, true)] {
            policies.replace_layers(many(count));
            let said = runtime().block_on(judged(&policies, ATTACKER, "a")).said;
            assert_eq!(said.rule == BROKEN, is_broken, "{said:?}");
            assert!(!is_broken || said.reason.contains("instance: it gives 257 verdicts"), "{said:?}");
        }
    }
}

#[test]
fn what_was_judged_is_not_asked_again() {
    let apart = policies(PolicyEvaluator::Apart(workers()), &["false"]);
    let lost = PolicyWorkers::from_program("/nonexistent/worker");
    let without = PolicyEngine::clone(&apart).with_evaluator(PolicyEvaluator::Apart(lost));
    let scope = ScopeAuthority::claim().issue_scope(tenant(ATTACKER), Actor::new("cli:ada"));
    let author = scope.actor();
    let (context, plan) = (Label::ACTOR_TEXT, PlanContext::OPEN);
    let principal = Principal { scope: &scope, author, grants: &[], context, endorsed: &[], plan };
    let said = |policies: &PolicyEngine, model| {
        runtime().block_on(policies.judge_action(principal, GateAction::Model { model }, "grant model")).said
    };
    let known = said(&apart, "known");
    assert_eq!((known.call, said(&without, "known")), (PolicyVerdict::Allow, known.clone()));
    // What broke is asked again, where there is a worker for it.
    assert_eq!(said(&without, "new").rule, BROKEN);
    assert_eq!(said(&apart, "new"), known);
}

#[test]
fn an_endless_policy_is_refused_before_it_takes_effect() {
    let evaluator = PolicyEvaluator::Apart(workers());
    let instance = Some(layer("input.action.kind == \"model\"; count(numbers.range(1, 1000000000)) == 1"));
    let problem = evaluator
        .probe_samples(&PolicyLayers { instance, ..PolicyLayers::default() })
        .expect_err("it has no end");
    assert!(problem.to_string().starts_with("own.rego: it"), "{problem}");
    assert!(problem.problem.contains("where it is asked about a request to a model"), "{problem}");
    assert_eq!(
        evaluator.probe_samples(&PolicyLayers { instance: Some(layer("false")), ..PolicyLayers::default() }),
        Ok(())
    );
}

#[test]
fn an_endless_policy_test_fails_and_the_others_run() {
    let tests = "test_a if true\ntest_b if count(numbers.range(1, 1000000000)) == 1\ntest_c if 1 == 2\n";
    let rule = "verdicts contains {\"verdict\": \"deny\", \"rule\": \"own\"} if false\n";
    let files = [PolicyText { name: "own.rego".to_owned(), text: format!("{HEAD}{rule}{tests}") }];
    let ends = workers().run_tests("instance", &files).expect("it compiles");
    let ends: Vec<_> = ends.iter().map(|end| (end.name.as_str(), end.problem.as_deref())).collect();
    let [("test_a", None), ("test_b", Some(stopped)), ("test_c", Some("it is not true"))] = ends[..] else {
        panic!("{ends:?}");
    };
    assert!(stopped.contains("worker") || stopped.contains("did not end"), "{stopped}");
    let sound = [PolicyText { name: "own.rego".to_owned(), text: format!("{HEAD}{rule}test_a if true\n") }];
    assert_eq!(workers().run_tests("instance", &sound), run_tests("instance", &sound));
}

#[test]
fn a_path_beyond_the_bound_is_refused_before_any_rule() {
    use std::collections::BTreeMap;

    use dromia_contracts::tool::{ArgumentRole, EffectSink, ToolManifest};

    let roles = BTreeMap::from([("path".to_owned(), ArgumentRole::Object)]);
    let policies = PolicyEngine::built_in().expect("the shipped policy compiles");
    let policies =
        policies.with_manifests([("file.read".to_owned(), ToolManifest { sink: EffectSink::Inside, roles })]);
    let judged =
        |parts: usize| runtime().block_on(judged(&policies, NEIGHBOUR, &vec!["a"; parts].join("/"))).said;
    assert_eq!(judged(PATH_PARTS_MAX).call, PolicyVerdict::Allow);
    let long = judged(1000);
    assert_eq!((long.call, long.rule.as_str()), (PolicyVerdict::Deny, BOUND));
    assert_eq!(long.reason, "`path` has more than 256 parts");
}

/// What the kernel holds a process to: the number that counts for each limit.
fn limits(pid: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
    let row = |line: &str| {
        let (name, rest) = line.split_at_checked(26)?;
        let mut numbers = rest.split_whitespace();
        // The kernel ends a process that reaches the first one of processor time.
        let number = numbers.nth(usize::from(!name.starts_with("Max cpu time")));
        Some((name.trim().to_owned(), number?.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn a_policy_worker_has_no_files_children_or_unbounded_memory() {
    let policies = policies(PolicyEvaluator::Apart(workers()), &["false"]);
    assert_eq!(runtime().block_on(judged(&policies, ATTACKER, "a")).said.call, PolicyVerdict::Allow);
    // It stays for the next question, as a child of this process.
    let is_worker = |pid: &String| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        name.starts_with("dromia-policy-worker")
    };
    let worker = children().into_iter().find(is_worker).expect("a worker waits");
    let limits = limits(&worker);
    let most = |name: &str| limits.iter().find(|(known, _)| known == name).map(|(_, most)| most.as_str());
    assert_eq!(most("Max open files"), Some("3"), "{limits:?}");
    assert_eq!(most("Max file size"), Some("0"), "{limits:?}");
    assert_eq!(most("Max processes"), Some("0"), "{limits:?}");
    assert_eq!(most("Max core file size"), Some("0"), "{limits:?}");
    let memory: u64 = most("Max address space").and_then(|most| most.parse().ok()).expect("a bound");
    assert!((MEMORY_MAX + (1 << 20)..1 << 30).contains(&memory), "{memory}");
    let seconds: u64 = most("Max cpu time").and_then(|most| most.parse().ok()).expect("a bound");
    assert!((12..15).contains(&seconds), "{seconds}");
}
