//! Each way in which a model's server fails a run: what `ask` prints of it, and with which exit code it ends.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;
use std::sync::Mutex;

use crate::asking::piped;
use crate::home::{Home, stderr};
use crate::model::receive;

/// What a server sends: the status line and the body; `none` closes the connection.
const WHOLE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"fine\"},\"finish_reason\":\"stop\"}]}\n\n\
                     data: [DONE]\n\n";
const BROKEN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"}}]}\n\n";
const OVERFLOW: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"}}]}\n\n\
                        data: {\"error\":{\"code\":\"context_length_exceeded\",\"message\":\"too long\"}}\n\n";

const WITHHELD: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"}}]}\n\n\
                        data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"content_filter\"}]}\n\n";

/// A case: its name, the server's answer, and what `ask` says of it beside the exit code.
struct FailingCase {
    name: &'static str,
    answer: (&'static str, &'static str),
    exit: i32,
    says: &'static [&'static str],
}

const TESTS_MODEL: &str = "run `dromia model test ";
const NEW_SESSION: &str = "begins a new session";
const BAD_KEY: &str = r#"{"error":{"message":"bad key"}}"#;
const NO_MODEL: &str = r#"{"error":{"message":"no model m"}}"#;
const TOO_LONG: &str =
    r#"{"error":{"message":"maximum context length is 8","code":"context_length_exceeded"}}"#;

const CASES: [FailingCase; 11] = [
    case("key", ("401 No", BAD_KEY), &["refused the credentials (401) (model_rejected)", TESTS_MODEL]),
    case("gone", ("404 No", NO_MODEL), &["answered 404: no model m (model_rejected)", TESTS_MODEL]),
    case(
        "broken",
        ("500 No", "{}"),
        &["all 6 attempts failed, the last one", "(model_unavailable)", TESTS_MODEL],
    ),
    case("long", ("400 No", TOO_LONG), &["maximum context length is 8 (context_exceeded)", NEW_SESSION]),
    case(
        "withheld",
        ("200 OK", WITHHELD),
        &["withheld the answer (content_filter)", "(model_rejected)", TESTS_MODEL],
    ),
    case("overflow", ("200 OK", OVERFLOW), &["too long (context_exceeded)", NEW_SESSION]),
    case(
        "torn",
        ("200 OK", BROKEN),
        &["all 6 attempts failed", "ended before it was complete (model_cut)", TESTS_MODEL],
    ),
    case("empty", ("200 OK", ""), &["all 6 attempts failed", "is empty", "(model_cut)", TESTS_MODEL]),
    case("invalid", ("200 OK", "{no json"), &["not of the kind that was asked for (model_cut)", TESTS_MODEL]),
    case(
        "closed",
        ("", ""),
        &["all 6 attempts failed", "cannot be reached (model_unavailable)", TESTS_MODEL],
    ),
    FailingCase { name: "busy", answer: ("429 Busy", "{}"), exit: 0, says: &[] },
];

const fn case(
    name: &'static str,
    answer: (&'static str, &'static str),
    says: &'static [&'static str],
) -> FailingCase {
    FailingCase { name, answer, exit: 7, says }
}

/// Serves every case under its own path; `busy` is busy once.
fn serve_cases() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let asked = Mutex::new(BTreeMap::new());
        for stream in listener.incoming().flatten() {
            answer_case(&stream, &asked);
        }
    });
    address
}

fn answer_case(mut stream: &TcpStream, asked: &Mutex<BTreeMap<String, u32>>) -> Option<()> {
    let (first, _) = receive(stream)?;
    let name = first.split('/').nth(1)?.to_owned();
    let case = CASES.iter().find(|case| case.name == name)?;
    let mut asked = asked.lock().expect("no panic");
    let times = asked.entry(name).or_insert(0);
    *times += 1;
    let (status, body) = if case.exit == 0 && *times > 1 { ("200 OK", WHOLE) } else { case.answer };
    let kind = if body.starts_with("data:") { "text/event-stream" } else { "application/json" };
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nretry-after: 0\r\n");
    let length = format!("content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    stream.write_all((head + &length).as_bytes()).ok()
}

#[test]
fn a_failed_ask_names_the_provider_the_cause_and_the_next_command() {
    let home = Home::new();
    let address = serve_cases();
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let (mut models, mut providers) = ("models:\n".to_owned(), "providers:\n".to_owned());
    for FailingCase { name, .. } in &CASES {
        let host = if *name == "closed" { free } else { address };
        models.extend([format!(
            "  {name}: {{ provider: hub-{name}, model: m, price: {{ input: 1000000, output: 1000000 }} }}\n"
        )]);
        providers
            .extend([format!("  hub-{name}: {{ kind: openai, base_url: \"http://{host}/{name}/v1\" }}\n")]);
    }
    let file = home.path().join("dromia.yaml");
    let before = std::fs::read_to_string(&file).expect("a configuration");
    std::fs::write(&file, before.replace("models:\n", &models) + &providers).expect("it is written");
    let _server = home.serve();
    for FailingCase { name, .. } in &CASES {
        let made =
            home.run(&["agent", "create", name, "--grant", "model", "--grant", "reply", "--model", name]);
        assert!(made.status.success(), "{}", stderr(&made));
    }
    // The attempts at each take a quarter of a minute, so all are asked at once.
    std::thread::scope(|scope| {
        let asks =
            CASES.iter().map(|case| (case, scope.spawn(|| home.run(&["ask", "--agent", case.name, "hi"]))));
        for (FailingCase { name, exit, says, .. }, ask) in asks.collect::<Vec<_>>() {
            let output = ask.join().expect("it ends");
            let told = stderr(&output);
            assert_eq!(output.status.code(), Some(*exit), "{name}: {told}");
            assert_eq!(told.contains(&format!("(hub-{name})")), *exit != 0, "{name}: {told}");
            for says in *says {
                assert!(told.contains(says), "{name}: {says} is not in {told}");
            }
        }
    });
    // A turn of a chat says the same.
    for FailingCase { name, says, .. } in
        CASES.iter().filter(|case| ["key", "long", "withheld"].contains(&case.name))
    {
        let output = piped(&home, &["chat", "--agent", name], "hi\n");
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(7), "{name}: {told}");
        assert!(
            told.contains("failed after ") && told.contains("hint: it needs a person who "),
            "{name}: {told}"
        );
        for says in *says {
            assert!(told.contains(says), "{name}: {says} is not in {told}");
        }
    }
    let spent = |name: &str| {
        let runs = home.run(&["run", "list", "--agent", name, "--json"]);
        let runs: serde_json::Value = serde_json::from_slice(&runs.stdout).expect("a document");
        runs["items"][0]["cost_micros"].as_u64().expect("an amount")
    };
    assert_eq!(spent("long"), 0, "the server refused it before it began");
    assert!(spent("overflow") > 0, "text came before the error");
}

/// The program; started by root, it may open what its permissions allow to root, and nothing else.
pub(crate) fn without_privileges(home: &Home) -> Command {
    if !rustix::process::geteuid().is_root() {
        return home.command();
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-dac_override,-dac_read_search", env!("CARGO_BIN_EXE_dromia")]);
    command.env("DROMIA_HOME", home.path());
    command
}

#[test]
fn a_workspace_that_is_missing_or_a_file_is_named_before_anything_is_sent() {
    let home = Home::new();
    let here = tempfile::tempdir().expect("a directory");
    std::fs::write(here.path().join("file"), "").expect("it is written");
    symlink("circle", here.path().join("circle")).expect("it is made");
    let closed = here.path().join("closed");
    std::fs::create_dir_all(closed.join("site")).expect("it is made");
    std::fs::set_permissions(&closed, Permissions::from_mode(0o000)).expect("it is closed");
    let long = "x".repeat(300);
    for (named, says) in [
        ("nowhere", "/nowhere does not exist; create it, or name another directory"),
        ("file:ro", "/file is not a directory; name one"),
        ("file/below", "/file/below is not a directory; name one"),
        ("circle", "/circle cannot be opened: Too many levels of symbolic links"),
        (&long, "cannot be opened: File name too long"),
        ("closed/site", "/closed/site cannot be reached by your user; change its permissions"),
    ] {
        let mut ask = without_privileges(&home);
        let output =
            ask.args(["ask", "--workspace", named, "hi"]).current_dir(here.path()).output().expect("it runs");
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(says), "{told}");
    }
}
