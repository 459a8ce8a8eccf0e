//! Every command of the binary keeps what its help and its published schema promise.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;

use crate::home::{DEADLINE, Home, Server, append, stderr};
use crate::schema::mismatch;
use crate::service;
use crate::webhook;

/// What a leaf of the tree does.
enum How {
    /// It prints a document with `--json`; these arguments follow the command. It is called in the order of the table.
    Prints(&'static [&'static str]),
    /// It prints no document, for this reason.
    Acts(&'static str),
}

use How::{Acts, Prints};

/// Every leaf. `{run}`, `{session}`, `{delivery}`, `{file}` and `{held}` stand for what the scene has.
const LEAVES: &[(&str, How)] = &[
    ("init", Prints(&["--defaults", "--model-source", "scripted", "--home", "{fresh}"])),
    ("up", Acts("serves")),
    ("demo", Acts("plays for a person")),
    ("service install", Prints(&[])),
    ("service status", Prints(&[])),
    ("service restart", Prints(&[])),
    ("service stop", Prints(&[])),
    ("service start", Prints(&[])),
    ("service logs", Acts("prints what journalctl prints")),
    ("service uninstall", Prints(&[])),
    ("migrate state", Prints(&["--dry-run"])),
    ("backup create", Prints(&["{backup}"])),
    ("backup verify", Prints(&["{backup}"])),
    ("backup restore", Prints(&["{backup}", "--home", "{restored}"])),
    ("config validate", Prints(&[])),
    ("config show", Prints(&[])),
    ("config schema", Acts("prints the schema of the file")),
    ("config explain", Prints(&["engine"])),
    ("config history", Prints(&[])),
    ("config diff", Prints(&["1"])),
    ("config revert", Prints(&["1", "--dry-run"])),
    ("provider add", Prints(&["local", "--kind", "openai", "--base-url", "http://127.0.0.1:9/v1"])),
    ("provider add", Prints(&["played", "--kind", "scripted"])),
    ("provider add", Prints(&["played", "--kind", "scripted"])),
    ("provider list", Prints(&[])),
    ("provider test", Prints(&["played"])),
    ("provider remove", Prints(&["local"])),
    ("model list", Prints(&[])),
    ("model set", Prints(&["spare=played,default"])),
    ("model test", Prints(&["default"])),
    ("model route show", Prints(&["spare"])),
    ("policy show", Prints(&[])),
    ("policy test", Prints(&[])),
    ("policy explain", Prints(&["{yielded}", "call_1_0"])),
    ("sandbox test", Prints(&["--backend", "native/strict", "--class", "netlink"])),
    ("tool list", Prints(&["--agent", "tree"])),
    ("tool show", Prints(&["exec", "--agent", "tree"])),
    ("tool call", Prints(&["file.list", "--agent", "tree"])),
    ("tool test", Prints(&["file.read"])),
    ("ask", Prints(&["hello", "--agent", "tree"])),
    ("chat", Acts("talks with a person")),
    ("event send", Prints(&["hello", "--agent", "tree"])),
    ("agent create", Prints(&["second", "--label", "team=a"])),
    ("agent list", Prints(&[])),
    ("agent show", Prints(&["second"])),
    ("agent set", Prints(&["second", "description=helps"])),
    ("agent edit", Acts("opens a person's editor")),
    ("agent apply", Prints(&["-f", "{agents}", "--dry-run"])),
    ("agent diff", Prints(&["second"])),
    ("agent history", Prints(&["second"])),
    ("agent identity edit", Prints(&["second", "SOUL.md", "--file", "{agents}"])),
    ("agent identity list", Prints(&["second"])),
    ("agent identity show", Prints(&["second", "SOUL.md"])),
    ("agent identity diff", Prints(&["second", "SOUL.md"])),
    ("agent identity history", Prints(&["second"])),
    ("agent identity remove", Prints(&["second", "SOUL.md"])),
    ("agent revert", Prints(&["second", "1"])),
    ("agent rename", Prints(&["second", "second"])),
    ("agent status", Prints(&["second"])),
    ("agent pause", Prints(&["second"])),
    ("agent resume", Prints(&["second"])),
    ("agent switch", Prints(&["assistant"])),
    ("agent spawn", Prints(&["second", "--task", "hello", "--wait"])),
    ("agent tasks", Prints(&["second"])),
    ("agent kill", Prints(&["second"])),
    ("agent terminate", Prints(&["second", "--yes"])),
    ("agent delete", Prints(&["second", "--yes"])),
    ("tenant create", Prints(&["acme"])),
    ("tenant list", Prints(&[])),
    ("tenant show", Prints(&["acme"])),
    ("tenant resume", Prints(&["acme"])),
    ("tenant suspend", Prints(&["acme"])),
    ("tenant delete", Prints(&["acme", "--yes"])),
    ("token create", Prints(&["laptop", "--scope", "read", "--expires", "30d"])),
    ("token list", Prints(&[])),
    ("token revoke", Prints(&["laptop"])),
    ("secret set", Prints(&["github", "--stdin", "--host", "api.example.com", "--placement", "bearer"])),
    ("secret list", Prints(&[])),
    ("secret rotate", Prints(&["github", "--stdin"])),
    ("secret delete", Prints(&["github", "--yes"])),
    ("capability grant", Prints(&["tree", "file:write:docs", "--expires", "1h"])),
    ("capability delegate", Prints(&["{capability}", "--to", "tree", "file:write:docs/a"])),
    ("capability list", Prints(&[])),
    ("capability check", Prints(&["tree", "file.list"])),
    ("capability explain", Prints(&["tree", "file.list"])),
    ("capability revoke", Prints(&["{capability}"])),
    // Behind everything that needs the key, which is lost for it.
    ("secret reset", Prints(&["--yes"])),
    ("budget set", Prints(&["hourly", "--measure", "calls", "--period", "hour", "--limit", "100000"])),
    ("budget list", Prints(&[])),
    ("budget remove", Prints(&["hourly"])),
    ("approval list", Prints(&[])),
    ("approval show", Prints(&["{approval}"])),
    ("approval approve", Prints(&["{approval}"])),
    ("approval deny", Prints(&["{refused}", "--reason", "not today"])),
    ("approval rule list", Prints(&[])),
    ("approval rule add", Prints(&["notes", "file.append path=notes/**"])),
    ("approval rule test", Prints(&["file.append path=notes/**"])),
    ("approval rule remove", Prints(&["notes"])),
    ("approval suggest", Prints(&[])),
    ("context add", Prints(&["lab", "--server", "https://agents.example", "--token-stdin"])),
    ("context list", Prints(&[])),
    ("context use", Prints(&["lab"])),
    ("context show", Prints(&["lab"])),
    ("context remove", Prints(&["lab"])),
    ("whoami", Prints(&[])),
    ("file put", Prints(&["{file}", "talk.txt"])),
    ("file list", Prints(&[])),
    ("file get", Acts("prints the file itself")),
    ("session list", Prints(&[])),
    ("session show", Prints(&["{session}"])),
    ("session context", Prints(&["{session}"])),
    ("session compact", Prints(&["{session}"])),
    ("session archive list", Prints(&["{session}"])),
    ("session archive show", Prints(&["{compacted}"])),
    ("template list", Prints(&[])),
    ("template show", Prints(&["research"])),
    ("role list", Prints(&[])),
    ("role show", Prints(&["coder"])),
    ("worker list", Prints(&[])),
    ("worker show", Prints(&["{worker}"])),
    ("worker send", Prints(&["{worker}", "hello"])),
    ("worker cancel", Prints(&["{worker}"])),
    ("session hold", Prints(&["{session}"])),
    ("session hold", Prints(&["{session}", "--off"])),
    ("retention show", Prints(&[])),
    ("retention run", Prints(&["--yes"])),
    ("session export", Acts("prints the session's own file")),
    ("session import", Prints(&["{file}", "--agent", "assistant"])),
    ("session delete", Prints(&["@last", "--yes"])),
    ("run list", Prints(&[])),
    ("run show", Prints(&["{run}"])),
    ("run watch", Prints(&["{run}"])),
    ("run tree", Prints(&["{run}"])),
    ("run why", Prints(&["{run}"])),
    ("run resume", Prints(&["{yielded}"])),
    ("run cancel", Prints(&["{slow}"])),
    ("run terminate", Prints(&["{slow}"])),
    ("run export", Prints(&["{run}"])),
    ("delivery list", Prints(&[])),
    ("delivery show", Prints(&["{delivery}"])),
    ("delivery redrive", Prints(&["{delivery}"])),
    ("audit query", Prints(&[])),
    ("audit tail", Acts("prints records for as long as it is watched")),
    ("audit explain", Prints(&["act:1"])),
    ("audit verify", Prints(&[])),
    ("audit export", Acts("prints a file of records")),
    ("cost summary", Prints(&[])),
    ("cost show", Prints(&["{run}"])),
    ("status", Prints(&[])),
    ("doctor", Prints(&["--only", "home"])),
    ("docs", Prints(&[])),
    ("explain", Prints(&[])),
    ("completions", Acts("prints a script")),
    ("version", Prints(&[])),
    ("help", Acts("prints pages; its document belongs to `help commands`")),
];

/// What prints rows without any argument.
const LISTS: [&str; 14] = [
    "agent list",
    "tenant list",
    "token list",
    "session list",
    "run list",
    "delivery list",
    "provider list",
    "model list",
    "model route show",
    "config explain",
    "tool list",
    "audit query",
    "doctor --only home",
    "explain",
];

fn words(command: &str) -> Vec<&str> {
    command.split(' ').collect()
}

/// Takes stdout as the one document that it must be.
fn document(command: &str, output: &Output) -> Value {
    assert!(!output.stdout.contains(&0x1b), "{command} prints an escape sequence");
    let document = serde_json::from_slice(&output.stdout);
    document.unwrap_or_else(|error| {
        panic!("{command}: {error} in {:?}, and {}", String::from_utf8_lossy(&output.stdout), stderr(output))
    })
}

/// Makes a session whose oldest part is summarized.
fn compacted_session(home: &Home) -> String {
    let asked = |line: &[&str]| document(&line.join(" "), &home.run(&[line, &["--json"]].concat()));
    let long = format!("@say noted\n{}", "It is grey. ".repeat(80));
    let first = asked(&["ask", &long, "--agent", "tree"]);
    let session = first["session"].as_str().expect("a session").to_owned();
    for _ in 0..3 {
        asked(&["ask", &long, "--session", &session]);
    }
    assert_eq!(asked(&["session", "compact", &session])["state"], "started");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while asked(&["session", "archive", "list", &session])["items"][0].is_null() {
        assert!(std::time::Instant::now() < until, "no summary comes");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    session
}

/// A served home with an agent, runs and a session.
struct Scene {
    home: Home,
    places: Vec<(&'static str, String)>,
}

impl Scene {
    fn new(home: Home, server: &Server) -> Self {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let asked = |line: &[&str]| {
            let output = home.run(&[line, &["--json"]].concat());
            document(&line.join(" "), &output)
        };
        let grants = ["--grant", "model", "--grant", "reply", "--grant", "file.*"];
        asked(&[&["agent", "create", "tree", "--model-calls-max", "2"][..], &grants].concat());
        let granted = asked(&["capability", "grant", "tree", "file:write:docs"]);
        let answered = asked(&["ask", "hello", "--agent", "tree"]);
        let yielded = asked(&["ask", "@loop file.list {}", "--agent", "tree"]);
        assert_eq!(yielded["status"], "yielded", "{yielded}");
        let slow = asked(&["event", "send", "@slow 600000\n@say late", "--agent", "tree"]);
        std::fs::write(home.path().join("value"), "a-value-of-a-test\n").expect("a file");
        let file = home.path().join("talk.session");
        let agents = home.path().join("agents.yaml");
        std::fs::write(&agents, "name: second\ndescription: of a file\n").expect("a file");
        let session = text(&answered["session"]);
        let exported = home.run(&["session", "export", &session, "--file", path(&file)]);
        assert!(exported.status.success(), "{}", stderr(&exported));
        let compacted = compacted_session(&home);
        let (status, said) = webhook::say(server, "msg_1", "hello");
        assert_eq!(status, 202, "{said}");
        let delivery = delivered(&home);
        for name in ["a", "b"] {
            let task = format!("@tool file.append {{\"path\":\"{name}\",\"content\":\"x\"}}");
            asked(&["agent", "spawn", "tree", "--task", &task]);
        }
        let [approval, refused] = waiting(&home);
        asked(&["agent", "create", "lead", "--mind", "branching", "--grant", "model", "--grant", "reply"]);
        asked(&["ask", "@tool worker.spawn {\"task\":\"@slow 600000\"}", "--agent", "lead"]);
        let worker = text(&asked(&["worker", "list"])["items"][0]["id"]);
        let places = vec![
            ("{worker}", worker),
            ("{run}", text(&answered["run"])),
            ("{session}", session),
            ("{compacted}", compacted),
            ("{delivery}", delivery),
            ("{yielded}", text(&yielded["run"])),
            ("{slow}", text(&slow["run"])),
            ("{file}", path(&file).to_owned()),
            ("{agents}", path(&agents).to_owned()),
            ("{fresh}", path(&home.path().with_file_name("fresh")).to_owned()),
            ("{backup}", path(&home.path().with_file_name("backup.tar")).to_owned()),
            ("{restored}", path(&home.path().with_file_name("restored")).to_owned()),
            ("{capability}", text(&granted["id"])),
            ("{approval}", approval),
            ("{refused}", refused),
        ];
        Self { home, places }
    }

    fn run(&self, command: &str, arguments: &[&str], more: &[&str]) -> Output {
        let filled = arguments.iter().map(|argument| {
            let place = self.places.iter().find(|(name, _)| name == argument);
            place.map_or(*argument, |(_, value)| value.as_str())
        });
        let line: Vec<_> = words(command).into_iter().chain(filled).chain(more.iter().copied()).collect();
        // A variable that asks for colour everywhere must not reach a document.
        let value = std::fs::File::open(self.home.path().join("value")).expect("a value lies there");
        self.home
            .command()
            .args(&line)
            .stdin(value)
            .env("CLICOLOR_FORCE", "1")
            .envs(service::fake_systemd(&self.home))
            .env(webhook::VARIABLE, webhook::SECRET)
            .output()
            .expect("the program runs")
    }
}

/// Waits until the answer to the webhook is on its way out.
fn delivered(home: &Home) -> String {
    let end = std::time::Instant::now() + DEADLINE;
    loop {
        let list = document("delivery list", &home.run(&["delivery", "list", "--json"]));
        if let Some(id) = list["items"][0]["id"].as_str() {
            return id.to_owned();
        }
        assert!(std::time::Instant::now() < end, "no answer is on its way out");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Waits until two calls wait for a person.
fn waiting(home: &Home) -> [String; 2] {
    let end = std::time::Instant::now() + DEADLINE;
    loop {
        let list = document("approval list", &home.run(&["approval", "list", "--json"]));
        let id = |at: usize| list["items"][at]["id"].as_str().map(str::to_owned);
        if let (Some(first), Some(second)) = (id(0), id(1)) {
            return [first, second];
        }
        assert!(std::time::Instant::now() < end, "nobody is asked");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn path(path: &std::path::Path) -> &str {
    path.to_str().expect("the path is text")
}

/// Reads the published schema of a command.
pub(crate) fn published(command: &str) -> Value {
    let name = format!("{}.json", command.replace(' ', "-"));
    let file: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../docs/schemas", &name].iter().collect();
    let text = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_slice(&text).expect("a schema is JSON")
}

/// The most lines and columns of bare help: one screen of a common terminal.
const HELP_LINES_MAX: usize = 40;
const HELP_COLUMNS_MAX: usize = 80;

/// Says what is wrong with the page of bare help, which has a line for each of these commands.
fn mistake_of_overview(page: &str, commands: &[&str]) -> Option<String> {
    let lines: Vec<_> = page.trim_end().lines().collect();
    if lines.len() > HELP_LINES_MAX {
        return Some(format!("{} lines", lines.len()));
    }
    if let Some(wide) = lines.iter().find(|line| line.chars().count() > HELP_COLUMNS_MAX) {
        return Some(format!("too wide: {wide}"));
    }
    if !page.contains("dromia help options") || page.contains("alias") {
        return Some("it does not name the page of the options, or it names aliases".to_owned());
    }
    let rows_of = |command: &str| {
        // Behind the heading of a group, or below it; a row may name two.
        let is_row = |line: &&&str| {
            let names = line.split_whitespace().take(3).map(|word| word.trim_end_matches(','));
            names.into_iter().any(|word| word == command)
        };
        lines.iter().skip_while(|line| !line.starts_with("Start ")).filter(is_row).count()
    };
    let missing = commands.iter().find(|command| rows_of(command) == 0)?;
    Some(format!("{missing} has no line"))
}

/// Whether the page of a command ends with an example of this program.
fn ends_with_example(page: &str) -> bool {
    let last = page.trim_end().rsplit("\n\n").next().unwrap_or_default();
    let mut lines = last.lines();
    let is_headed = lines.next().is_some_and(|line| ["Example:", "Examples:"].contains(&line));
    is_headed && last.contains("dromia ") && lines.all(|line| line.starts_with("  "))
}

#[test]
fn long_help_and_a_page_without_an_example_are_caught() {
    let rows = "Start    init  Create a home\n         up    Run the server\n";
    let page = format!("About\n\n{rows}\nOptions: dromia help options\n");
    assert_eq!(mistake_of_overview(&page, &["init", "up"]), None);
    assert!(mistake_of_overview(&page, &["init", "run"]).is_some_and(|said| said.contains("run has")));
    let long = page.clone() + &"more\n".repeat(HELP_LINES_MAX);
    assert!(mistake_of_overview(&long, &[]).is_some_and(|said| said.contains("lines")));
    let wide = page.clone() + &"x".repeat(HELP_COLUMNS_MAX + 1);
    assert!(mistake_of_overview(&wide, &[]).is_some_and(|said| said.contains("too wide")));
    assert!(
        mistake_of_overview(rows, &[]).is_some()
            && mistake_of_overview(&(page + "[alias: x]"), &[]).is_some()
    );
    assert!(ends_with_example("Usage: x\n\nExamples:\n  dromia up\n  dromia up --help\n"));
    for page in
        ["Usage: dromia up\n", "Examples:\n  dromia up\n\nA note.\n", "Examples:\n  up\n", "Example:\n"]
    {
        assert!(!ends_with_example(page), "{page}");
    }
}

#[test]
fn the_command_tree_matches_its_help_and_schemas() {
    let home = Home::new();
    let tree = document("help commands", &home.run(&["help", "commands", "--json"]));
    assert_eq!(mismatch(&published("help commands"), &tree), None);
    let rows = tree["items"].as_array().expect("rows");
    let mut leaves = BTreeSet::new();
    for row in rows {
        let command = row["command"].as_str().expect("a command");
        let help = home.run(&[&words(command)[..], &["--help"]].concat());
        assert_eq!((help.status.code(), stderr(&help).as_str()), (Some(0), ""), "{command} --help");
        let page = String::from_utf8(help.stdout).expect("help is text");
        assert!(page.contains("Usage: dromia") && !page.contains('\u{1b}'), "{command}: {page}");
        let about = row["about"].as_str().expect("an about");
        assert!(!about.is_empty() && !about.contains('\n'), "{command}: {about:?}");
        assert!(page.starts_with(about.trim_end_matches('.')), "{command}: {page}");
        assert!(ends_with_example(&page), "{command} does not end with an example: {page}");
        assert!(
            page.contains("`dromia help options`"),
            "{command} hides the options of every command: {page}"
        );
        if row["is_leaf"] == true {
            leaves.insert(command);
        }
    }
    let commands: Vec<_> = rows
        .iter()
        .filter_map(|row| row["command"].as_str())
        .filter(|command| !command.contains(' '))
        .collect();
    let (bare, flag) = (home.run(&[]), home.run(&["--help"]));
    let (bare, flag) = (stderr(&bare), String::from_utf8(flag.stdout).expect("help is text"));
    assert_eq!(mistake_of_overview(&bare, &commands), None, "{bare}");
    // What is to be done here takes the place of the example.
    let above = |page: &str| page.trim_end().rsplit_once('\n').map(|(above, _)| above.to_owned());
    assert_eq!(above(&bare), above(&flag));
    let known: BTreeSet<_> = LEAVES.iter().map(|(command, _)| *command).collect();
    let forgotten: Vec<_> = leaves.symmetric_difference(&known).collect();
    assert!(forgotten.is_empty(), "the table of this test and the tree differ by {forgotten:?}");
    for row in rows.iter().filter(|row| row["is_leaf"] == true) {
        let (command, how) = LEAVES
            .iter()
            .find(|(command, _)| row["command"] == **command)
            .expect("every leaf is in the table");
        // An action may have a document too: what it did, while `--json` is on.
        match how {
            Prints(_) => assert_eq!(row["has_schema"], true, "{command} prints a document without a schema"),
            Acts(why) => assert_eq!(row["has_schema"], false, "{command} {why}, and has a schema"),
        }
    }

    webhook::with_channel(&home, "http://127.0.0.1:9/", "");
    append(&home.path().join("dromia.yaml"), "permissions: { ask: [file.append] }\n");
    let server = webhook::serve(&home);
    let scene = Scene::new(home, &server);
    for (command, how) in LEAVES {
        let Prints(arguments) = how else { continue };
        if *command == "secret reset" {
            std::fs::remove_file(scene.home.path().join("vault.key")).expect("the key goes");
        }
        let output = scene.run(command, arguments, &["--json"]);
        assert_eq!(output.status.code(), Some(0), "{command}: {}", stderr(&output));
        let found = document(command, &output);
        assert_eq!(mismatch(&published(command), &found), None, "{command}: {found:#}");
    }
    // A flag makes another document of it.
    let origins = document("config show --origin", &scene.run("config show", &["--origin"], &["--json"]));
    assert_eq!(mismatch(&published("config show origin"), &origins), None, "{origins:#}");
    // Lists again, in the other forms: rows by line, and only what was asked for.
    for command in LISTS {
        let whole = document(command, &scene.run(command, &[], &["--json"]));
        let first = &whole["items"][0];
        let field = first.as_object().and_then(|row| row.keys().next()).expect("a row has fields");
        let fields = format!("--json={field}");
        let lines = scene.run(command, &[], &["-o", "jsonl", &fields]);
        let short = scene.run(command, &[], &["--jsonl", &fields]);
        assert_eq!(short.status.code(), Some(0), "{command}: {}", stderr(&short));
        let lines = String::from_utf8(lines.stdout).expect("JSON is text");
        let short = String::from_utf8(short.stdout).expect("JSON is text");
        assert!(!lines.is_empty() && !short.is_empty(), "{command}");
        // Not the same bytes: a list may grow between the two.
        for line in lines.lines().chain(short.lines()) {
            let row: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{command}: {error}"));
            let names: Vec<_> = row.as_object().expect("a row").keys().collect();
            assert_eq!(names, [field], "{command}");
        }
        let refused = scene.run(command, &[], &["--json=no_such_field"]);
        assert_eq!(refused.status.code(), Some(2), "{command}");
        assert!(stderr(&refused).contains(field), "{command} names the known ones: {}", stderr(&refused));
        assert_eq!(mismatch(&published("error"), &document(command, &refused)), None, "{command}");
    }
    drop(server);
}

#[test]
fn a_failure_is_a_document_with_the_documented_exit_code() {
    let home = Home::new();
    let gone = format!("run_{}", "0".repeat(32));
    let absent = home.run(&["status", "--json"]);
    let code = |output: &Output| output.status.code();
    assert_eq!(code(&absent), Some(5), "{}", stderr(&absent));
    let server = home.serve();
    let cases: [(&[&str], i32); 10] = [
        (&["status", "--json"], 0),
        (&["config", "explain", "engine.active_mx", "--json"], 2),
        (&["provider", "test", "nobody", "--json"], 2),
        (&["init", "--json"], 6),
        (&["run", "show", &gone, "--json"], 1),
        (&["run", "show", &gone, "--json=no_such_field"], 2),
        (&["agent", "create", "assistant", "--json"], 6),
        (&["ask", "@fail rejected", "--json"], 7),
        (&["ask", "@slow 30000\n@say late", "--timeout", "200ms", "--json"], 124),
        (&["agent", "delete", "assistant", "--json"], 2),
    ];
    for (line, expected) in cases {
        let output = home.run(line);
        assert_eq!(code(&output), Some(expected), "{line:?}: {}", stderr(&output));
        let found = document(&line.join(" "), &output);
        if let Some(exit) = found.get("error").and_then(|error| error.get("exit")) {
            assert_eq!(
                (exit, mismatch(&published("error"), &found)),
                (&Value::from(expected), None),
                "{line:?}"
            );
        }
    }
    // A person would be asked; without one the missing flag is named.
    let refused = home.run(&["agent", "delete", "assistant"]);
    assert!(stderr(&refused).contains("--yes"), "{}", stderr(&refused));
    assert_eq!(code(&home.run(&["init"])), Some(6));
    assert_eq!(code(&home.run(&["run", "lits"])), Some(2));
    drop(server);
}
