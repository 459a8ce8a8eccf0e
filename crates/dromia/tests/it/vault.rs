//! Secrets through the real binary: a canary is set, used in a request that a server sees, and then found nowhere else: in
//! no file of the home, no line of the log, no journal, no answer.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::audit::good;
use crate::egress::create;
use crate::home::{Home, Server, append, block_on, count, stderr};

const CANARY: &str = "ghp_CanaryOfTheVault_4711";

/// A server that says what it was told.
pub(crate) fn echo() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let mut piece = [0; 4096];
                match stream.read(&mut piece) {
                    Ok(count) if count > 0 => request.extend_from_slice(&piece[..count]),
                    _ => break,
                }
            }
            let told = String::from_utf8_lossy(&request).into_owned();
            let length = told.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{told}");
            all.lock().expect("nobody panics with it").push(told);
            let _written = stream.write_all(answer.as_bytes());
        }
    });
    (port, heard)
}

/// Does a command that reads a value.
pub(crate) fn piped(home: &Home, arguments: &[&str], value: &str) -> Output {
    let mut child = home
        .command()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    writeln!(stdin, "{value}").expect("it is read");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

/// Lets an agent use the secret, and returns the entry that ended its call.
async fn used(server: &Server, agent: &str, port: u16) -> Value {
    let call = json!({
        "url": format!("http://127.0.0.1:{port}/who"),
        "headers": {"authorization": {"secret": "github"}},
    });
    let event = json!({"text": format!("@tool http.request {call}"), "agent": agent, "wait": true});
    let (status, answer) = server.event(&event).await;
    assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    let session = answer["session"].as_str().expect("a session");
    let entries = server.journal_until(session, |entries| count(entries, "run_completed") == 1).await;
    assert!(!serde_json::to_string(&entries).expect("JSON").contains(CANARY));
    let ends = |entry: &Value| entry["kind"] == "tool_finished" || entry["kind"] == "tool_refused";
    entries.into_iter().find(ends).expect("the call has a result")
}

/// Lists the files below a directory that hold a text.
pub(crate) fn holding(directory: &Path, text: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let kind = fs::symlink_metadata(&path).expect("it is there").file_type();
        if kind.is_dir() {
            found.extend(holding(&path, text));
        } else if kind.is_file()
            && fs::read(&path).expect("a file").windows(text.len()).any(|piece| piece == text)
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_secret_reaches_only_its_host_and_no_file() {
    let home = Home::new();
    append(&home.path().join("dromia.yaml"), "egress: { private_tools: ['127.0.0.0/8'] }\n");
    let (port, heard) = echo();
    let log = home.path().join("log.txt");
    let mut command = home.command();
    command.env("DROMIA_LOG", "trace").stderr(File::create(&log).expect("a file"));
    let server = home.serve_by(command);
    let host = format!("http://127.0.0.1:{port}");
    let line = ["secret", "set", "github", "--stdin", "--host", &host, "--placement", "bearer", "--json"];
    let set = piped(&home, &line, CANARY);
    assert!(set.status.success(), "{}", stderr(&set));
    let said: Value = serde_json::from_slice(&set.stdout).expect("a document");
    assert_eq!((&said["name"], &said["version"], &said["host"]), (&json!("github"), &json!(1), &json!(host)));
    assert!(!String::from_utf8_lossy(&set.stdout).contains(CANARY));

    let net = format!("net:127.0.0.1:{port}");
    create(&home, "scout", &["http.request".to_owned(), net.clone(), "secret:github".to_owned()]);
    create(&home, "other", &["http.request".to_owned(), net]);
    let ended = block_on(used(&server, "scout", port));
    assert_eq!(ended["fields"]["status"], "ok", "{ended}");
    let text = ended["body"].to_string();
    assert!(text.contains("Bearer ****"), "the server told it back: {text}");
    let rule = ended["fields"]["egress"][0]["rule"].as_str().expect("a rule");
    assert!(rule.ends_with(" and secret:github"), "{rule}");
    let refused = block_on(used(&server, "other", port));
    assert_eq!(refused["fields"]["status"], "denied", "{refused}");
    {
        let heard = heard.lock().expect("nobody panics with it");
        assert_eq!(heard.len(), 1);
        assert!(heard[0].contains(&format!("authorization: Bearer {CANARY}\r\n")), "{heard:?}");
    }

    let list = home.run(&["secret", "list", "--json"]);
    assert!(!String::from_utf8_lossy(&list.stdout).contains(CANARY));
    server.terminate();
    assert!(fs::metadata(&log).expect("a log").len() > 0);
    assert_eq!(holding(&home.path(), CANARY.as_bytes()), Vec::<String>::new());
    let hex = CANARY.bytes().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(holding(&home.path(), hex.as_bytes()), Vec::<String>::new());
    // The search itself finds what is there.
    fs::write(home.path().join("planted"), CANARY).expect("a file");
    assert_eq!(holding(&home.path(), CANARY.as_bytes()).len(), 1);
}

#[test]
fn init_makes_no_new_key_for_a_sealed_store() {
    let home = Home::new();
    let (key, config) = (home.path().join("vault.key"), home.path().join("dromia.yaml"));
    let init = ["init", "--defaults", "--no-input", "--model-source", "scripted"];
    let set = ["secret", "set", "mail", "--stdin", "--host", "mail.example", "--placement", "bearer"];
    let server = home.serve();
    assert!(piped(&home, &set, CANARY).status.success());
    server.terminate();
    let own = fs::read_to_string(&key).expect("the key");
    let other = format!("dromia-vault-key-1 {}\n", "7".repeat(64));
    for there in [None, Some(&other)] {
        fs::remove_file(&config).expect("it goes");
        match there {
            None => fs::remove_file(&key).expect("it goes"),
            Some(other) => private_file(&key, other),
        }
        let refused = home.run(&init);
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(6), "{said}");
        for says in
            ["vault.key", "1 tenant", "run `dromia init` again", "dromia init --locked", "secret reset"]
        {
            assert!(said.contains(says), "{says}: {said}");
        }
        assert_eq!((key.exists(), config.exists()), (there.is_some(), false), "{said}");
        // The first way out: the file is put back, and what it sealed opens.
        private_file(&key, &own);
        let made = home.run(&init);
        assert!(made.status.success(), "{}", stderr(&made));
        assert_eq!(fs::read_to_string(&key).expect("the key"), own);
        let doctor = home.run(&["doctor", "--only", "vault"]);
        assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stdout));
    }
    // The second: it is lost for good.
    fs::remove_file(&config).expect("it goes");
    fs::remove_file(&key).expect("it goes");
    let made = home.run(&[&init[..], &["--locked"]].concat());
    assert!(made.status.success() && stderr(&made).contains("secret reset"), "{}", stderr(&made));
    assert!(!key.exists(), "no key was made");
    let server = home.serve();
    let given_up = good(&home, &["secret", "reset", "--yes"]);
    assert_eq!(given_up["items"][0]["name"], "mail", "{given_up}");
    assert!(key.is_file(), "the home has a key again");
    assert!(piped(&home, &set, CANARY).status.success());
    server.terminate();
}

/// Writes a file that only its owner reads.
fn private_file(path: &Path, text: &str) {
    fs::write(path, text).expect("it is written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its owner's alone");
}

#[test]
fn a_secret_reset_gives_up_sealed_secrets_and_is_audited() {
    let home = Home::new();
    let key = home.path().join("vault.key");
    let server = home.serve();
    let set = ["secret", "set", "mail", "--stdin", "--host", "mail.example", "--placement", "bearer"];
    assert!(piped(&home, &set, CANARY).status.success());
    let reset = |more: &[&str]| home.run(&[&["secret", "reset"][..], more].concat());
    let names = || good(&home, &["secret", "list"])["items"].as_array().map(Vec::len);
    let early = reset(&["--yes"]);
    assert!(!early.status.success() && stderr(&early).contains("opens the secrets"), "{}", stderr(&early));
    // A key that is there and cannot be read as it is may be the right one.
    let own = fs::read_to_string(&key).expect("the key");
    fs::write(&key, "garbage").expect("it is written");
    let unread = reset(&["--yes"]);
    assert!(
        !unread.status.success() && stderr(&unread).contains("doctor --only vault"),
        "{}",
        stderr(&unread)
    );
    fs::write(&key, &own).expect("it is written");
    assert!(piped(&home, &["secret", "rotate", "mail", "--stdin"], CANARY).status.success());

    create(&home, "scribe", &[]);
    good(&home, &["capability", "grant", "scribe", "file:write:docs"]);
    let active = || {
        let listed = good(&home, &["capability", "list"]);
        let items = listed["items"].as_array().expect("items").iter();
        items.filter(|one| one["state"] == "active").count()
    };
    assert_eq!(active(), 1);
    fs::remove_file(&key).expect("it goes");
    let locked = piped(&home, &["secret", "rotate", "mail", "--stdin"], CANARY);
    assert_eq!(locked.status.code(), Some(1));
    let said = stderr(&locked);
    assert!(said.contains("must restore vault.key") && !said.contains("secret reset"), "{said}");
    // Whether it comes back, a token does not know, whatever it may do in its tenant; whoever owns the home does.
    let (status, told) = block_on(async {
        let url = format!("{}/v1/vault/reset", server.url);
        server.send(reqwest::Client::new().post(url).bearer_auth(&server.token)).await
    });
    assert_eq!(told["code"], "vault_locked", "{status} {told}");
    assert!(told.to_string().contains("the owner of the home"), "{told}");
    assert_eq!((key.exists(), names()), (false, Some(1)), "no key was made, and nothing was given up");
    // Nor does the first secret of another tenant put a key where this one belongs.
    good(&home, &["tenant", "create", "acme"]);
    let first = piped(&home, &[&["--tenant", "acme"][..], &set[..]].concat(), CANARY);
    assert!(stderr(&first).contains("must restore vault.key"), "{}", stderr(&first));
    assert!(!key.exists(), "no key was made");
    let unsaid = reset(&[]);
    assert_eq!((unsaid.status.code(), names()), (Some(2), Some(1)), "{}", stderr(&unsaid));
    assert!(stderr(&unsaid).contains("of the tenant default"), "{}", stderr(&unsaid));
    let given_up = good(&home, &["secret", "reset", "--yes"]);
    assert_eq!((&given_up["items"][0]["name"], names()), (&json!("mail"), Some(0)), "{given_up}");
    assert!(key.is_file(), "the home has a key again");
    assert_eq!(active(), 0, "what was signed with the key before counts no more, and is said so");
    assert!(piped(&home, &set, CANARY).status.success());
    assert!(piped(&home, &[&["--tenant", "acme"][..], &set[..]].concat(), CANARY).status.success());
    let doctor = home.run(&["doctor", "--only", "vault"]);
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.status.success() && text.contains("2 of 2 secrets open"), "{text}");
    let who = good(&home, &["whoami"])["actor"].clone();
    for kind in ["secret_erased", "vault_key_replaced"] {
        let records = good(&home, &["audit", "query", "--kind", kind]);
        let actors: Vec<_> =
            records["items"].as_array().expect("items").iter().map(|one| &one["actor"]).collect();
        assert_eq!(actors, [&who], "{kind}: {records}");
    }
    server.terminate();
    good(&home, &["audit", "verify"]);
}

#[test]
fn calls_with_secrets_are_refused_and_wrong_keys_reported() {
    let home = Home::new();
    let key = home.path().join("vault.key");
    assert!(key.is_file(), "init makes the key");
    let server = home.serve();
    let set = ["secret", "set", "mail", "--stdin", "--host", "mail.example", "--placement", "header:x-key"];
    assert!(piped(&home, &set, CANARY).status.success());
    create(&home, "scribe", &["file.*".to_owned()]);
    let call = json!({"path": "note.txt", "content": format!("it is {CANARY}")});
    let event = json!({"text": format!("@tool file.write {call}"), "agent": "scribe", "wait": true});
    let (_, answer) = block_on(server.event(&event));
    let told = answer.to_string();
    assert!(
        !home.path().join("agents").exists()
            || holding(&home.path().join("agents"), CANARY.as_bytes()).is_empty(),
        "{told}"
    );
    let say = json!({"text": format!("@say {CANARY}"), "agent": "scribe", "wait": true});
    let (_, answer) = block_on(server.event(&say));
    assert_eq!(answer["status"], "failed", "an answer with a secret does not leave: {answer}");
    let doctor = home.run(&["doctor", "--only", "vault"]);
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.status.success() && text.contains("1 of 1 secrets open"), "beside its server: {text}");
    server.terminate();

    let own = fs::read_to_string(&key).expect("the key");
    let digits: String = own.trim().chars().rev().take(64).collect();
    fs::write(&key, format!("dromia-vault-key-1 {digits}\n")).expect("another key");
    let looked = |exit: i32, says: &str| {
        let doctor = home.run(&["doctor", "--only", "vault"]);
        let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(doctor.status.code() == Some(exit) && text.contains(says), "{text}");
    };
    let log = home.path().join("../log");
    let mut command = home.command();
    command.stderr(File::create(&log).expect("a log"));
    let server = home.serve_by(command);
    looked(1, "no secret opens");
    fs::remove_file(&key).expect("it goes");
    looked(1, "secrets that it sealed");
    fs::write(&key, format!("dromia-vault-key-1 {digits}\n")).expect("another key");
    let rotated = piped(&home, &["secret", "rotate", "mail", "--stdin"], CANARY);
    assert_eq!(rotated.status.code(), Some(1));
    assert!(stderr(&rotated).contains("cannot be opened"), "{}", stderr(&rotated));
    let deleted = home.run(&["secret", "delete", "mail", "--yes"]);
    assert!(deleted.status.success(), "{}", stderr(&deleted));
    server.terminate();
    let log = fs::read_to_string(&log).expect("a log");
    let told = log.lines().filter(|line| line.contains("vault.key does not open secrets")).count();
    assert_eq!(told, 1, "it is told at the start, once: {log}");
}

#[test]
fn a_key_that_the_vault_lacks_is_named_until_it_is_set() {
    let home = Home::new();
    let file = home.path().join("dromia.yaml");
    let written = fs::read_to_string(&file).expect("it is written");
    let named = "  far: { kind: openai, base_url: 'http://127.0.0.1:9/v1', model: m, key: 'secret:hub' }\n";
    assert!(written.contains("\nmodels:\n"), "{written}");
    fs::write(&file, written.replacen("\nmodels:\n", &format!("\nmodels:\n{named}"), 1))
        .expect("it is written");
    let server = home.serve();
    let disabled = || good(&home, &["status", "--node"])["config"]["disabled"].to_string();
    let told = disabled();
    assert!(told.contains("models.far.key: the secret hub is not in the vault"), "{told}");
    assert!(
        told.contains("dromia secret set hub --stdin --host http://127.0.0.1:9 --placement bearer"),
        "{told}"
    );
    let screen = String::from_utf8(home.run(&["status"]).stdout).expect("text");
    assert!(screen.contains("Disabled: ") && screen.contains("the secret hub"), "{screen}");
    let set = ["secret", "set", "hub", "--stdin", "--host", "http://127.0.0.1:9", "--placement", "bearer"];
    assert!(piped(&home, &set, CANARY).status.success());
    assert_eq!(disabled(), "null", "it counts without a restart");
    server.terminate();
}
