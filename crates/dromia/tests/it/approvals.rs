//! Calls that a person must allow, through the real binary: asked for, approved, refused and left waiting; and the server
//! killed around each of it. Whatever crashes, an approved call runs once or is said to be unknown.
//!
//! `DROMIA_APPROVAL_KILLS` says how often the server is killed around an approval; a few times, if nobody says it.

mod together;

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::home::{DEADLINE, Home, Server, append, block_on, count, stderr};
use crate::keys::set;

/// How often the server is killed, where nobody says it.
const KILLS: u32 = 4;

fn kills() -> u32 {
    let asked = std::env::var("DROMIA_APPROVAL_KILLS").ok();
    asked.map_or(KILLS, |text| text.parse().expect("DROMIA_APPROVAL_KILLS is a number"))
}

/// A home where appending to a file must be approved.
fn home(approvals: &str) -> Home {
    let home = Home::new();
    let file = format!("permissions: {{ ask: [file.append] }}\napprovals: {{ {approvals} }}\n");
    append(&home.path().join("dromia.yaml"), &file);
    home
}

pub(crate) fn document(home: &Home, line: &[&str]) -> Value {
    let output = home.run(&[line, &["--json"]].concat());
    assert!(output.status.success(), "{line:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("a document")
}

fn agent(home: &Home, name: &str) {
    let grants = ["--grant", "model", "--grant", "reply", "--grant", "file.*"];
    document(home, &[&["agent", "create", name][..], &grants].concat());
}

/// What the model is told to do: append a line to a file.
fn task(line: &str) -> String {
    format!("@tool file.append {}", json!({"path": "log", "content": format!("{line}\n")}))
}

/// Gives an agent a task that appends a line, and waits until somebody is asked. Returns the task's session and the
/// approval.
fn asked(home: &Home, line: &str) -> (String, Value) {
    let spawned = document(home, &["agent", "spawn", "clerk", "--task", &task(line)]);
    let session = spawned["session"].as_str().expect("a session").to_owned();
    let mine = |approval: &Value| approval["session"] == session.as_str();
    (session.clone(), until(home, mine))
}

/// Waits until an approval is as wanted.
pub(crate) fn until(home: &Home, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + DEADLINE;
    loop {
        let list = document(home, &["approval", "list", "--all", "--limit", "256"]);
        let items = list["items"].as_array().expect("rows");
        if let Some(found) = items.iter().find(|approval| wanted(approval)) {
            return found.clone();
        }
        assert!(Instant::now() < end, "no approval comes to it: {list}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn id(approval: &Value) -> &str {
    approval["id"].as_str().expect("an id")
}

pub(crate) fn is(approval: &Value, state: &str) -> impl Fn(&Value) -> bool + use<> {
    let (id, state) = (approval["id"].clone(), state.to_owned());
    move |found| found["id"] == id && found["state"] == state.as_str()
}

/// How often a line stands in the file, in whichever workspace that is.
fn lines(home: &Home, line: &str) -> usize {
    let agents = std::fs::read_dir(home.path().join("agents")).into_iter().flatten();
    let logs = agents.filter_map(Result::ok).map(|agent| agent.path().join("workspace").join("log"));
    let texts: Vec<String> = logs.filter_map(|log: PathBuf| std::fs::read_to_string(log).ok()).collect();
    texts.iter().flat_map(|text| text.lines()).filter(|found| *found == line).count()
}

/// The entries of a run.
async fn journal(server: &Server, run: &str) -> Vec<Value> {
    let (_, page) = server.get(&format!("/v1/runs/{run}/journal?limit=256")).await;
    page["entries"].as_array().cloned().unwrap_or_default()
}

/// Waits until a run has ended and returns its entries.
pub(crate) async fn ended(server: &Server, run: &str) -> Vec<Value> {
    let end = Instant::now() + DEADLINE;
    loop {
        let entries = journal(server, run).await;
        let last = entries.last().and_then(|entry| entry["kind"].as_str()).unwrap_or_default();
        if ["run_completed", "run_failed", "run_cancelled", "run_yielded"].contains(&last) {
            return entries;
        }
        assert!(Instant::now() < end, "the run does not end: {entries:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Ends a process that may have ended.
fn reap(mut child: Child) {
    drop(child.kill());
    drop(child.wait());
}

/// Approves in the background, so that the server can be killed meanwhile.
fn approves(home: &Home, approval: &Value) -> Child {
    let mut command = home.command();
    command.args(["approval", "approve", id(approval)]).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the program runs")
}

/// Says what is wrong with how an approved call ended: once, or unknown and at most once.
fn judged(starts: usize, times: usize, is_unknown: bool) -> Result<(), String> {
    match (starts, times, is_unknown) {
        (1, 1, false) | (1, 0 | 1, true) => Ok(()),
        _ => Err(format!(
            "it began {starts} times, its line stands there {times} times, unknown: {is_unknown}"
        )),
    }
}

/// Looks at the run in which an approved call began.
fn look(home: &Home, server: &Server, approval: &Value, line: &str) -> Result<bool, String> {
    let used = until(home, is(approval, "used"));
    let run = used["used_by"].as_str().expect("a run").to_owned();
    let entries = block_on(ended(server, &run));
    let of_call = |entry: &&Value| entry["fields"]["approval"] == approval["id"];
    let starts = entries.iter().filter(|entry| entry["kind"] == "tool_started").filter(of_call).count();
    let is_unknown =
        |entry: &Value| entry["kind"] == "tool_finished" && entry["fields"]["status"] == "unknown";
    let unknown = entries.iter().any(is_unknown);
    judged(starts, lines(home, line), unknown).map(|()| unknown)
}

/// How approved calls ended around which the server was killed.
#[derive(Default)]
struct Ends {
    once: u32,
    unknown: u32,
}

impl Ends {
    fn count(&mut self, kill: u32, ended: Result<bool, String>) {
        match ended {
            Ok(false) => self.once += 1,
            Ok(true) => self.unknown += 1,
            Err(problem) => panic!("kill {kill}: {problem}"),
        }
    }

    #[expect(clippy::print_stdout, reason = "`make approvals` says how the calls ended")]
    fn tell(&self, kind: &str) {
        let Self { once, unknown } = self;
        println!(
            "{} kills around a call {kind}: {once} executed exactly once, {unknown} reported unknown",
            once + unknown
        );
        assert_eq!(once + unknown, kills(), "each kill has its end");
    }
}

#[test]
fn a_call_is_asked_for_approved_and_done_where_it_was_asked_for() {
    let home = home("hold_ms: 60000");
    let server = home.serve();
    agent(&home, "clerk");
    let (session, approval) = asked(&home, "first");
    assert_eq!(
        (approval["tool"].as_str(), approval["state"].as_str()),
        (Some("file.append"), Some("holding"))
    );
    assert!(approval["arguments"].as_str().is_some_and(|text| text.contains("first\\n")), "{approval}");
    let card = home.run(&["approval", "show", id(&approval)]);
    let card = String::from_utf8_lossy(&card.stdout).into_owned();
    assert!(
        card.contains("file.append")
            && card.contains("first\\u{a}")
            && card.contains("  [said trusted/actor]  ")
            && card.contains("\n      it stands in: "),
        "{card}"
    );
    assert_eq!(lines(&home, "first"), 0);
    // While the run rests, whoever looks at it, or asks what was decided, is told what it waits for.
    let (run, call) = (approval["run"].as_str().expect("a run"), approval["call"].as_str().expect("a call"));
    let shown = home.run(&["run", "show", run]);
    let waits = format!("waits for {} (holding)", id(&approval));
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(&waits) && shown.contains("tool file.append"), "{shown}");
    let explained = home.run(&["policy", "explain", run, call]);
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(
        explained.contains("waits for a person")
            && explained.contains(&format!("{} (holding)", id(&approval))),
        "{explained}"
    );
    let answered = document(&home, &["approval", "approve", id(&approval)]);
    assert_eq!(answered["state"], "approved", "{answered}");
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        assert_eq!((count(&entries, "run_parked"), count(&entries, "tool_started")), (1, 1));
    });
    assert_eq!(lines(&home, "first"), 1);
    let again = document(&home, &["approval", "approve", id(&approval)]);
    assert_eq!(again["answered_at"], answered["answered_at"], "the same answer changes nothing: {again}");
    for other in [&["deny"][..], &["approve", "--session"], &["approve", "--always", "file.append path=log"]]
    {
        let (verb, rest) = other.split_first().expect("a command");
        let late = home.run(&[&["approval", *verb, id(&approval)][..], rest].concat());
        assert_eq!(late.status.code(), Some(6), "{other:?}: {}", stderr(&late));
        assert!(stderr(&late).contains("(once)"), "what stands is said: {}", stderr(&late));
    }
    assert_eq!(document(&home, &["approval", "rule", "list"])["items"], json!([]));

    let (session, refused) = asked(&home, "second");
    document(&home, &["approval", "deny", id(&refused), "--reason", "not on a Friday"]);
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        let told = entries.iter().find(|entry| entry["kind"] == "tool_refused").expect("it is refused");
        assert!(told.to_string().contains("not on a Friday"), "{told}");
    });
    assert_eq!(lines(&home, "second"), 0);
}

/// What stands around an argument may hold a value that somebody typed; whoever may answer is not told it.
#[test]
fn what_a_card_quotes_holds_no_secret_and_nothing_that_hides() {
    const VALUE: &str = "canary-4711-of-a-card";
    let home = home("hold_ms: 60000");
    let _server = home.serve();
    agent(&home, "clerk");
    set(&home, "deploy", "api.example.com", "bearer", VALUE);
    let text = format!("{VALUE}\u{202e}\n{}", task("fifth"));
    let spawned = document(&home, &["agent", "spawn", "clerk", "--task", &text]);
    let approval = until(&home, |approval| approval["session"] == spawned["session"]);
    let shown = document(&home, &["approval", "show", id(&approval)]);
    let card = home.run(&["approval", "show", id(&approval)]);
    let card = String::from_utf8_lossy(&card.stdout).into_owned();
    for told in [shown["origins"].to_string(), card.clone()] {
        assert!(told.contains(&"*".repeat(VALUE.len())), "it is quoted, with stars: {told}");
        assert!(!told.contains("canary-4711") && !told.contains("of-a-card"), "{told}");
    }
    assert!(card.contains("\\u{202e}\\u{a}@tool") && !card.contains('\u{202e}'), "{card}");
}

#[test]
fn what_nobody_answers_in_time_runs_by_itself_and_its_session_is_told() {
    let home = home("hold_ms: 300");
    let server = home.serve();
    agent(&home, "clerk");
    let (session, approval) = asked(&home, "late");
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        let told = entries.iter().find(|entry| entry["kind"] == "tool_refused").expect("it waits");
        assert_eq!(told["fields"]["status"], "awaiting", "{told}");
    });
    until(&home, is(&approval, "waiting"));
    document(&home, &["approval", "approve", id(&approval)]);
    assert_eq!(look(&home, &server, &approval, "late"), Ok(false));
    let worker = until(&home, is(&approval, "used"))["used_by"].as_str().expect("a run").to_owned();
    block_on(async {
        let started = journal(&server, &worker).await.swap_remove(0);
        assert_eq!(started["fields"]["kind"], "worker", "{started}");
        assert_eq!(started["fields"]["approved"]["run"], approval["run"], "it names the run that asked");
        // A turn of the session that asked takes the news.
        let newest = server.journal_until(&session, |entries| {
            entries.iter().any(|entry| entry["fields"]["after"] == 1) && count(entries, "run_completed") == 1
        });
        newest.await;
    });
}

#[test]
fn what_was_approved_is_not_done_where_the_policy_is_another_by_then() {
    let home = home("hold_ms: 60000");
    let server = home.serve();
    agent(&home, "clerk");
    let (session, approval) = asked(&home, "third");
    server.terminate();
    let policies = home.path().join("policies");
    std::fs::create_dir_all(&policies).expect("it is made");
    let policy = "package dromia.policy\n\nimport rego.v1\n\nverdicts contains {\"verdict\": \"ask\", \"rule\": \
                  \"sends\", \"reason\": \"it sends\"} if input.action.tool == \"message.send\"\n";
    std::fs::write(policies.join("other.rego"), policy).expect("it is written");
    let server = home.serve();
    document(&home, &["approval", "approve", id(&approval)]);
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        assert_eq!(count(&entries, "tool_started"), 0);
        let refused = entries.iter().find(|entry| entry["kind"] == "tool_refused").expect("it is refused");
        assert_eq!(refused["fields"]["rule"], "approval-mismatch", "{refused}");
    });
    assert_eq!(lines(&home, "third"), 0);
    until(&home, is(&approval, "withdrawn"));
    let card = home.run(&["approval", "show", id(&approval)]);
    let card = String::from_utf8_lossy(&card.stdout).into_owned();
    assert!(
        card.contains("did not run") && card.contains("changed since: the rule that asks, or its policy"),
        "{card}"
    );
}

#[test]
fn a_session_is_not_told_that_a_call_ran_which_was_refused_when_it_was_about_to_begin() {
    let home = home("hold_ms: 0");
    let server = home.serve();
    agent(&home, "clerk");
    let (session, approval) = asked(&home, "changed");
    until(&home, is(&approval, "waiting"));
    server.terminate();
    let policies = home.path().join("policies");
    std::fs::create_dir_all(&policies).expect("it is made");
    let policy = "package dromia.policy\n\nimport rego.v1\n\nverdicts contains {\"verdict\": \"ask\", \"rule\": \
                  \"sends\", \"reason\": \"it sends\"} if input.action.tool == \"message.send\"\n";
    std::fs::write(policies.join("other.rego"), policy).expect("it is written");
    let server = home.serve();
    document(&home, &["approval", "approve", id(&approval)]);
    until(&home, is(&approval, "withdrawn"));
    let end = Instant::now() + DEADLINE;
    let told = loop {
        let (_, told) = block_on(server.get(&format!("/v1/sessions/{session}/transcript")));
        let told = told.to_string();
        if told.contains("that waited for approval") {
            break told;
        }
        assert!(Instant::now() < end, "the session is not told: {told}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(told.contains("It did not run: nothing was done") && !told.contains("It ran in"), "{told}");
    assert_eq!(lines(&home, "changed"), 0);
    // Why is told by the run that was to begin it, not by the one that left it waiting.
    let card = home.run(&["approval", "show", id(&approval)]);
    let card = String::from_utf8_lossy(&card.stdout).into_owned();
    assert!(card.contains("did not run") && card.contains("approval-mismatch"), "{card}");
    assert!(!card.contains("This call waits for a person's approval"), "{card}");
    drop(server);
}

#[test]
fn an_answer_that_came_and_whose_call_will_not_begin_is_withdrawn() {
    // The run that asked waits still, and later it has gone on; what ends it, or its agent, comes before its call.
    for (approvals, state, end) in
        [("hold_ms: 60000", "holding", "kill"), ("hold_ms: 0", "waiting", "terminate")]
    {
        let home = home(approvals);
        let server = home.serve();
        agent(&home, "clerk");
        let (_, approval) = asked(&home, "withdrawn");
        until(&home, is(&approval, state));
        assert!(home.run(&["agent", "pause", "clerk"]).status.success());
        document(&home, &["approval", "approve", id(&approval)]);
        until(&home, is(&approval, "approved"));
        let ended = home.run(&["agent", end, "clerk", "--yes"]);
        assert!(ended.status.success(), "{end}: {}", stderr(&ended));
        let withdrawn = until(&home, is(&approval, "withdrawn"));
        assert!(withdrawn["answered_by"].is_string() && withdrawn["used_by"].is_null(), "{withdrawn}");
        assert_eq!(lines(&home, "withdrawn"), 0);
        drop(server);
    }
}

#[test]
fn rules_answer_in_a_persons_place_and_nobody_is_asked_where_nobody_attends() {
    let home = home(
        "hold_ms: 60000, unattended: [task], allow: ['file.append path=log content=\"ruled\\n\"'], deny: ['file.append path=secret']",
    );
    let refused = home.run(&["config", "explain", "approvals.allow"]);
    assert!(refused.status.success(), "{}", stderr(&refused));
    let server = home.serve();
    agent(&home, "clerk");
    let spawn = |line: &str| {
        let spawned = document(&home, &["agent", "spawn", "clerk", "--task", &task(line), "--wait"]);
        assert_eq!(spawned["status"].as_str(), Some("completed"), "{spawned}");
    };
    spawn("ruled");
    assert_eq!(lines(&home, "ruled"), 1, "a rule of the file answers, attended or not");
    spawn("nobody there");
    assert_eq!(lines(&home, "nobody there"), 0);
    let denied = until(&home, |approval| approval["state"] == "denied");
    assert!(denied["answered_by"].is_null(), "the server refused it: {denied}");
    assert_eq!(denied["unattended"], true, "it says why: {denied}");
    let card = home.run(&["approval", "show", id(&denied)]);
    let card = String::from_utf8_lossy(&card.stdout).into_owned();
    assert!(card.contains("at once: nobody attends") && card.contains("approvals.unattended"), "{card}");
    assert!(!card.contains("run waits") && !card.contains("until 20"), "it waits for nobody: {card}");
    let exact = r#"file.append path=log content="nobody there\n""#;
    let wide = home.run(&["approval", "rule", "add", "all", "file.append"]);
    assert!(stderr(&wide).contains("says what path must be"), "{}", stderr(&wide));
    document(&home, &["approval", "rule", "add", "mine", exact, "--agent", "clerk"]);
    spawn("nobody there");
    assert_eq!(lines(&home, "nobody there"), 1);
    drop(server);
}

#[test]
fn rules_of_the_file_are_listed_and_kept_and_whoever_asks_ahead_is_told_what_they_answer() {
    let home = home("allow: ['file.append path=log'], deny: ['file.append path=log content=**no**']");
    let _server = home.serve();
    agent(&home, "clerk");
    document(&home, &["approval", "rule", "add", "mine", "file.append path=own", "--agent", "clerk"]);
    let listed = document(&home, &["approval", "rule", "list"]);
    let rules = listed["items"].as_array().expect("rules");
    let told: Vec<_> =
        rules.iter().map(|rule| (rule["name"].as_str().unwrap_or_default(), &rule["declared"])).collect();
    let (yes, no) = (json!(true), json!(false));
    assert_eq!(told, [("approvals.allow.0", &yes), ("approvals.deny.0", &yes), ("mine", &no)], "{listed}");
    let table = home.run(&["approval", "rule", "list"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("SET IN") && table.matches("dromia.yaml").count() == 2, "{table}");
    let kept = home.run(&["approval", "rule", "remove", "approvals.deny.0"]);
    assert_eq!(kept.status.code(), Some(2), "{}", stderr(&kept));
    assert!(stderr(&kept).contains("dromia.yaml sets the rule approvals.deny.0"), "{}", stderr(&kept));
    let after = document(&home, &["approval", "rule", "list"]);
    assert_eq!(after["items"].as_array().map(Vec::len), Some(3), "{after}");
    let check = |path: &str, content: &str| {
        let arguments = json!({"path": path, "content": content}).to_string();
        let told = home.run(&["capability", "check", "clerk", "file.append", &arguments, "--json"]);
        let checked: Value = serde_json::from_slice(&told.stdout).expect("a document");
        (told.status.code(), checked["rule"].as_str().unwrap_or_default().to_owned())
    };
    let says = |code, rule: &str| (Some(code), rule.to_owned());
    let by = "approval rule dromia.yaml: file.append path=log";
    assert_eq!(check("log", "yes"), says(0, &format!("{by} for ask permission")));
    assert_eq!(check("log", "no"), says(4, &format!("{by} content=**no**")));
    assert_eq!(check("own", "yes"), says(0, "approval rule mine for ask permission"));
    assert_eq!(check("else", "yes"), says(4, "ask permission"));
}

#[test]
fn a_rule_that_no_call_can_fit_is_caught() {
    let home = Home::new();
    let _server = home.serve();
    for (rule, says) in [
        ("exec argv=ls", "argv=[\"git\",\"push\"]"),
        ("exec argv=git*", "argv of exec is a list"),
        ("exec timeout_s=*", "write a number behind :="),
        ("nope x=y", "there is no tool \"nope\""),
        ("file.append pth=log", "takes no argument pth"),
    ] {
        for line in [
            &["approval", "rule", "add", "n4", rule, "--answer", "deny"][..],
            &["approval", "rule", "test", rule],
        ] {
            let refused = home.run(line);
            assert_eq!(refused.status.code(), Some(2), "{line:?}: {}", stderr(&refused));
            assert!(stderr(&refused).contains(says), "{line:?}: {}", stderr(&refused));
        }
    }
    assert_eq!(document(&home, &["approval", "rule", "list"])["items"], json!([]));
    let good = r#"exec argv=["git","push"]"#;
    document(&home, &["approval", "rule", "add", "n4", good, "--answer", "deny"]);
    assert_eq!(document(&home, &["approval", "rule", "test", good])["items"], json!([]));
}

#[test]
fn a_rule_that_answers_for_more_by_what_is_left_out_is_caught() {
    let home = Home::new();
    let _server = home.serve();
    agent(&home, "clerk");
    let rule = "file.append path=log";
    let add = |more: &[&str]| home.run(&[&["approval", "rule", "add"][..], more].concat());
    assert!(add(&["mine", rule, "--agent", "clerk"]).status.success());
    assert!(add(&["keep", rule, "--answer", "deny"]).status.success());
    for (line, says) in [
        (
            &["mine", rule][..],
            "it answers for clerk only, and this one would answer for every agent; nothing was changed",
        ),
        (&["keep", rule, "--agent", "clerk"][..], "it denies, and this one would allow; nothing was changed"),
        (&["none", "file.append only"][..], "so the rule would answer no call"),
    ] {
        let refused = add(line);
        assert_eq!(refused.status.code(), Some(2), "{line:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(says), "{line:?}: {}", stderr(&refused));
    }
    let listed = document(&home, &["approval", "rule", "list"]);
    let mut rules = listed["items"].as_array().expect("rules").iter();
    let mine = rules.find(|rule| rule["name"] == "mine").expect("it stands");
    assert!(mine["agent"].is_string(), "{mine}");
    // What is said again as it was, or for fewer calls, takes its place.
    assert!(add(&["mine", rule, "--agent", "clerk", "--expires", "1d"]).status.success());
    assert!(add(&["mine", rule, "--agent", "clerk", "--answer", "deny"]).status.success());
}

#[test]
fn a_rule_of_a_session_for_a_shell_is_caught() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), "permissions: { ask: [exec] }\napprovals: { hold_ms: 60000 }\n");
    let server = home.serve();
    let grants = ["--grant", "model", "--grant", "reply", "--grant", "exec"];
    document(&home, &[&["agent", "create", "clerk"][..], &grants].concat());
    let ask = |argv: Value| {
        let task = format!("@tool exec {}", json!({ "argv": argv }));
        let session = document(&home, &["agent", "spawn", "clerk", "--task", &task])["session"].clone();
        until(&home, |approval| approval["session"] == session)
    };
    for argv in [json!(["sh", "-c", "true"]), json!(["/usr/bin/python3", "x.py"])] {
        let approval = ask(argv);
        let refused = home.run(&["approval", "approve", id(&approval), "--session"]);
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("no rule allows a shell") && said.contains("--once"), "{said}");
        let rules = document(&home, &["approval", "rule", "list"]);
        assert_eq!(rules["items"], json!([]), "it is refused, and its rule stands");
        until(&home, is(&approval, "holding"));
        document(&home, &["approval", "deny", id(&approval)]);
    }
    // What any rule may allow, a rule of a session may.
    let approval = ask(json!(["true"]));
    document(&home, &["approval", "approve", id(&approval), "--session"]);
    let rules = document(&home, &["approval", "rule", "list"]);
    assert_eq!(rules["items"].as_array().map(Vec::len), Some(1), "{rules}");
    drop(server);
}

#[test]
fn a_kill_around_an_approval_runs_its_call_once_or_says_that_nobody_knows() {
    let home = home("hold_ms: 60000");
    let mut server = home.serve();
    agent(&home, "clerk");
    let mut ends = Ends::default();
    for number in 0..kills() {
        let line = format!("line-{number}");
        let (_, approval) = asked(&home, &line);
        // From before the answer to behind the start, a little later each time.
        if number % 4 == 0 {
            server.kill();
            server = home.serve();
        }
        let approving = approves(&home, &approval);
        std::thread::sleep(Duration::from_millis(u64::from(number % 16) * 9));
        server.kill();
        reap(approving);
        server = home.serve();
        let known = until(&home, |found| found["id"] == approval["id"]);
        if known["state"] == "holding" {
            // The answer did not come through.
            document(&home, &["approval", "approve", id(&approval)]);
        }
        ends.count(number, look(&home, &server, &approval, &line));
    }
    ends.tell("held by its run");
    drop(server);
}

#[test]
fn a_kill_around_a_call_that_runs_by_itself_runs_it_once_or_says_that_nobody_knows() {
    let home = home("hold_ms: 100");
    let mut server = home.serve();
    agent(&home, "clerk");
    let mut ends = Ends::default();
    for number in 0..kills() {
        let line = format!("later-{number}");
        let (session, approval) = asked(&home, &line);
        until(&home, is(&approval, "waiting"));
        let approving = approves(&home, &approval);
        std::thread::sleep(Duration::from_millis(u64::from(number % 16) * 9));
        server.kill();
        reap(approving);
        server = home.serve();
        let known = until(&home, |found| found["id"] == approval["id"]);
        if known["state"] == "waiting" {
            document(&home, &["approval", "approve", id(&approval)]);
        }
        ends.count(number, look(&home, &server, &approval, &line));
        // The session that asked is told once, in a turn of its own.
        block_on(server.journal_until(&session, |entries| {
            entries.iter().any(|entry| entry["fields"]["after"] == 1) && count(entries, "run_completed") == 1
        }));
        let shown = document(&home, &["session", "show", &session]);
        assert_eq!(shown["session"]["last"], 2, "the task and the news, and nothing else: {shown}");
    }
    ends.tell("run by itself");
    drop(server);
}

#[test]
fn a_call_of_a_bounded_task_that_runs_by_itself_stays_within_its_bound() {
    let home = home("hold_ms: 100");
    let server = home.serve();
    agent(&home, "clerk");
    for (line, is_taken_back) in [("inside", false), ("late", true)] {
        let task = task(line);
        let spawn = ["agent", "spawn", "clerk", "--task", &task, "--may", "file:write:log"];
        let session = document(&home, &spawn)["session"].clone();
        let approval = until(&home, |found| found["session"] == session && found["state"] == "waiting");
        if is_taken_back {
            let bounds = document(&home, &["capability", "list"]);
            for bound in bounds["items"].as_array().expect("rows") {
                document(&home, &["capability", "revoke", id(bound)]);
            }
        }
        // The rule that this leaves answers before anybody compares what was approved.
        document(&home, &["approval", "approve", id(&approval), "--session"]);
        if is_taken_back {
            until(&home, is(&approval, "withdrawn"));
            assert_eq!(lines(&home, line), 0, "it was done outside of what bounds its task");
        } else {
            assert_eq!(look(&home, &server, &approval, line), Ok(false));
        }
    }
    drop(server);
}

#[test]
fn a_call_that_ran_twice_or_not_at_all_is_caught() {
    assert!(judged(1, 1, false).is_ok() && judged(1, 0, true).is_ok() && judged(1, 1, true).is_ok());
    for (starts, times, is_unknown) in
        [(2, 1, false), (1, 2, false), (1, 2, true), (1, 0, false), (0, 0, false)]
    {
        assert!(judged(starts, times, is_unknown).is_err(), "{starts} {times} {is_unknown}");
    }
}

/// A home where appending to a file is put off for so long.
fn unhurried(cooling_ms: u64) -> Home {
    let home = Home::new();
    let file = format!(
        "permissions: {{ delay: [file.append] }}\nirreversible: {{ cooling_ms: {cooling_ms} }}\napprovals: {{ hold_ms: 0, \
         unattended: [task] }}\n"
    );
    append(&home.path().join("dromia.yaml"), &file);
    home
}

#[test]
fn a_delayed_call_begins_by_itself_where_nobody_attends() {
    let home = unhurried(1_500);
    let server = home.serve();
    agent(&home, "clerk");
    let (session, approval) = asked(&home, "unhurried");
    // Nobody attends the session, and nobody is needed.
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        let told = entries.iter().find(|entry| entry["kind"] == "tool_refused").expect("it is put off");
        assert_eq!(told["fields"]["status"], "awaiting", "{told}");
    });
    assert_eq!(look(&home, &server, &approval, "unhurried"), Ok(false));
    let used = until(&home, is(&approval, "used"));
    assert_eq!(used["answered_by"], "engine", "{used}");
    let time = |name: &str| used[name].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    assert!(time("cools_until").is_some() && time("answered_at") >= time("cools_until"), "{used}");
    assert!(used["cools_in_seconds"].is_null(), "{used}");
    drop(server);
}

#[test]
fn a_delayed_call_is_shown_with_the_time_that_is_left_and_a_person_may_refuse_it_or_let_it_go() {
    let home = unhurried(600_000);
    let server = home.serve();
    agent(&home, "clerk");
    let (_, refused) = asked(&home, "never");
    until(&home, is(&refused, "waiting"));
    let list = home.run(&["approval", "list"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("begins in 9m"), "{list:?}");
    let card = home.run(&["approval", "show", id(&refused)]);
    let card = String::from_utf8_lossy(&card.stdout).into_owned();
    assert!(card.contains("begins by itself") && card.contains(", in 9m"), "{card}");
    // The run went on; whoever asks what was decided is told that it waits, and not that it was refused.
    let (run, call) = (refused["run"].as_str().expect("a run"), refused["call"].as_str().expect("a call"));
    let explained = document(&home, &["policy", "explain", run, call]);
    assert_eq!((&explained["by"], &explained["rule"]), (&json!("approval"), &json!("delay permission")));
    assert_eq!(explained["waits"], refused["id"], "{explained}");
    let told = home.run(&["policy", "explain", run, call]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("put off as apr_") && told.contains("delay permission"), "{told}");
    let records = document(&home, &["audit", "query"]);
    let records = records["items"].as_array().expect("records");
    let is_ours = |record: &&Value| record["kind"] == "tool_refused" && record["run"] == run;
    let record = id(records.iter().find(is_ours).expect("it was put off"));
    let explained = document(&home, &["audit", "explain", record]);
    let why = explained["why"].as_str().unwrap_or_default();
    for part in ["put off", "`delay permission`", id(&refused)] {
        assert!(why.contains(part), "{part}: {explained}");
    }
    document(&home, &["approval", "deny", id(&refused), "--reason", "not at all"]);
    let (_, early) = asked(&home, "early");
    until(&home, is(&early, "waiting"));
    document(&home, &["approval", "approve", id(&early)]);
    assert_eq!(look(&home, &server, &early, "early"), Ok(false));
    until(&home, is(&refused, "denied"));
    assert_eq!(lines(&home, "never"), 0);
    drop(server);
}

#[test]
fn a_kill_around_the_end_of_a_delay_runs_its_call_once_or_says_that_nobody_knows() {
    let home = unhurried(400);
    let mut server = home.serve();
    agent(&home, "clerk");
    for number in 0..kills() {
        let line = format!("put-off-{number}");
        let (_, approval) = asked(&home, &line);
        // From while it cools to behind the start; the server that comes finds the time over.
        std::thread::sleep(Duration::from_millis(200 + u64::from(number % 16) * 40));
        server.kill();
        std::thread::sleep(Duration::from_millis(300));
        server = home.serve();
        assert_eq!(look(&home, &server, &approval, &line).map(drop), Ok(()), "kill {number}");
    }
    drop(server);
}

#[test]
fn what_cannot_be_undone_is_aborted_where_the_file_says_so() {
    let home = Home::new();
    let file = "irreversible: { action: abort }\ntools: { exec: { network: proxy } }\n";
    append(&home.path().join("dromia.yaml"), file);
    let server = home.serve();
    // What its programs send is seen by others.
    let grants =
        ["model", "reply", "exec", "file.*", "net:h.example"].map(|grant| ["--grant", grant]).concat();
    document(&home, &[&["agent", "create", "clerk"][..], &grants].concat());
    let program = format!("@tool exec {}", json!({"argv": ["true"]}));
    let spawned = document(&home, &["agent", "spawn", "clerk", "--task", &program]);
    let session = spawned["session"].as_str().expect("a session").to_owned();
    block_on(async {
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        let refused = entries.iter().find(|entry| entry["kind"] == "tool_refused").expect("it is refused");
        assert_eq!(refused["fields"]["rule"], "policy irreversible", "{refused}");
        assert_eq!(count(&entries, "tool_started"), 0);
    });
    // What stays in the workspace can be looked at and undone.
    let kept = document(&home, &["agent", "spawn", "clerk", "--task", &task("kept"), "--wait"]);
    assert_eq!(kept["status"], "completed", "{kept}");
    assert_eq!(lines(&home, "kept"), 1);
    drop(server);
}
