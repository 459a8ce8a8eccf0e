//! Secrets of twenty-six kinds, planted wherever a secret may rightly be: in the vault, in the environment of the server, as a
//! provider's key, as a channel's, in headers and addresses of requests, as a token. The server is driven through turns,
//! tools, a delivery, a kill and a restart, with everything logged; then every byte that was written or printed is looked
//! through for each of them, in each form. The keys that sign capabilities, and their tokens, are in `canaries/rights.rs`.

mod rights;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::egress::create;
use crate::home::{Home, Server, append, block_on, count, stderr};
use crate::keys::{Minds, agent, said, set};
use crate::vault::echo;
use crate::webhook::{Receiver, SECRET, VARIABLE, say, say_signed, with_channel};

/// A secret of a kind. It is written in two pieces, so that nobody who looks through sources takes it for a real one.
struct Canary {
    kind: &'static str,
    value: String,
}

fn canary((kind, one, two): (&'static str, &str, &str)) -> Canary {
    Canary { kind, value: format!("{one}{two}") }
}

/// What is in the vault.
const IN_VAULT: [(&str, &str, &str); 14] = [
    ("aws-id", "AKI", "AIOSFODNNCANARY1"),
    ("aws-secret", "wJalrXUtnFEMI/K7MD", "ENG+bPxRfiCanary2KEYab"),
    ("github", "gh", "p_Canary3aBcDeFgHiJkLmNoPqRsTuVwXyZ0123"),
    ("github-fine", "github", "_pat_11Canary4_aBcDeFgHiJkLmNoPqRs"),
    ("gitlab", "glp", "at-Canary5aBcDeFgHiJkLm"),
    ("slack", "xo", "xb-1234567890-Canary6aBcDeFgHiJk"),
    ("stripe", "sk_li", "ve_Canary7aBcDeFgHiJkLmNoPq"),
    ("google", "AI", "zaSyCanary8aBcDeFgHiJkLmNoPqRsTuVwXyZ0"),
    ("sendgrid", "S", "G.Canary9aBcDeFgHiJk.LmNoPqRsTuVwXyZ"),
    ("npm", "np", "m_Canary10aBcDeFgHiJkLmNoPqRsTuVwXyZ"),
    ("hub-of-models", "h", "f_Canary11aBcDeFgHiJkLmNoPqRsTuVw"),
    ("database", "postgres://app:Canary12", "Pw@db.example:5432/app"),
    ("azure", "DefaultEndpointsProtocol=https;AccountKey=Canary13", "aBcDeFgHiJkLmNoPqRs=="),
    ("password", "Tr0ub4dor&Cana", "ry14-horse/staple"),
];

/// What is a provider's key in the vault.
const PROVIDER: (&str, &str, &str) = ("openai", "sk-pr", "oj-Canary15aBcDeFgHiJkLmNoPqRs");

/// What signs for a channel, in the vault.
const SIGNING: (&str, &str, &str) = ("vaulted-signing-key", "whsec_Q2FuYXJ5", "T2ZUaGVTaWduaW5nLTI2LUts");

/// What is in the environment of the server, by the names of the variables.
const IN_ENVIRONMENT: [(&str, &str, &str); 4] = [
    ("ANTHROPIC_KEY", "sk-a", "nt-api03-Canary16aBcDeFgHiJkLm"),
    ("DEPLOY_PRIVATE_KEY", "MIIEowIBAAKCAQEA", "Canary17aBcDeFgHiJkLmNoPqRsTuVwXyZ"),
    ("SESSION_JWT", "ey", "JhbGciOiJIUzI1NiJ9.eyJzdWIiOiJDYW5hcnkxOCJ9.c2lnQ2FuYXJ5MTg"),
    ("DB_PASSWORD", "Canary19-", "correct-horse-battery"),
];

/// What comes in requests that are refused, or that have more than the server asks for.
const IN_REQUESTS: [(&str, &str, &str); 4] = [
    ("cookie", "Canary20", "aBcDeFgHiJkLmNoPqRs"),
    ("basic", "QWxhZGRpbjpD", "YW5hcnkyMWFCY0RlRmc="),
    ("bearer", "drm", "_Canary22aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789"),
    ("query", "Canary23", "aBcDeFgHiJkLmNoPqRs"),
];

fn hex(value: &[u8]) -> String {
    value.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Writes a value in base64 as it stands behind so many other bytes, without the characters that hold bits of others.
fn base64(value: &[u8], behind: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes = [&vec![0; behind][..], value].concat();
    let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| (byte >> (7 - at % 8)) & 1 == 1);
    let groups = (behind * 8).div_ceil(6)..bytes.len() * 8 / 6;
    let group = |at: usize| (0..6).fold(0, |sum, more| sum * 2 + usize::from(bit(at * 6 + more)));
    groups.map(|at| ALPHABET[group(at)]).collect()
}

/// Writes a value in each form that is looked for.
fn forms(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let digits = hex(bytes);
    vec![
        ("raw", bytes.to_vec()),
        ("reversed", bytes.iter().rev().copied().collect()),
        ("hex", digits.clone().into_bytes()),
        ("upper hex", digits.to_uppercase().into_bytes()),
        ("base64", base64(bytes, 0)),
        ("base64 behind one", base64(bytes, 1)),
        ("base64 behind two", base64(bytes, 2)),
    ]
}

/// Looks for secrets in bytes: how they begin is looked up at every place.
struct Search {
    begins: HashMap<[u8; 8], Vec<(String, Vec<u8>)>>,
}

impl Search {
    fn new(canaries: &[Canary]) -> Self {
        let mut all = Vec::new();
        for Canary { kind, value } in canaries {
            let forms = forms(value.as_bytes()).into_iter();
            all.extend(forms.map(|(form, bytes)| (format!("{kind} ({form})"), bytes)));
        }
        Self::of(all)
    }

    /// Looks for these bytes, each with what they are.
    fn of(all: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut begins: HashMap<[u8; 8], Vec<(String, Vec<u8>)>> = HashMap::new();
        for (what, bytes) in all {
            let begin = bytes[..8].try_into().expect("eight bytes");
            begins.entry(begin).or_default().push((what, bytes));
        }
        Self { begins }
    }

    fn bytes(&self, place: &str, bytes: &[u8], found: &mut Vec<String>) {
        for (at, window) in bytes.windows(8).enumerate() {
            for (what, form) in self.begins.get(window).into_iter().flatten() {
                if bytes[at..].starts_with(form) {
                    found.push(format!("{what} in {place} at {at}"));
                }
            }
        }
    }

    /// Looks through every file below a directory, names of files included; returns how many there are.
    fn below(&self, directory: &Path, found: &mut Vec<String>) -> usize {
        let mut files = 0;
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let place = path.display().to_string();
            self.bytes("a name", place.as_bytes(), found);
            let kind = fs::symlink_metadata(&path).expect("it is there").file_type();
            if kind.is_dir() {
                files += self.below(&path, found);
            } else if kind.is_file() {
                self.bytes(&place, &fs::read(&path).expect("a file"), found);
                files += 1;
            }
        }
        files
    }
}

/// Starts the server with its environment, and all of its log behind what an earlier life logged.
fn serve(home: &Home) -> Server {
    let log = File::options().create(true).append(true).open(home.path().join("log.txt")).expect("a file");
    let mut command: Command = home.command();
    command.env("DROMIA_LOG", "trace").env(VARIABLE, SECRET).stderr(log);
    for one in IN_ENVIRONMENT {
        let Canary { kind, value } = canary(one);
        let value = match kind {
            "DEPLOY_PRIVATE_KEY" => {
                format!("-----BEGIN RSA PRIVATE KEY-----\n{value}\n-----END RSA PRIVATE KEY-----\n")
            }
            _ => value,
        };
        command.env(kind, value);
    }
    home.serve_by(command)
}

/// Asks with secrets that the server did not ask for; returns the statuses.
async fn strangers(server: &Server) -> Vec<u16> {
    let values: Vec<Canary> = IN_REQUESTS.map(canary).into();
    let [cookie, basic, bearer, query] = values.as_slice() else { panic!("four") };
    let client = reqwest::Client::new();
    let url = format!("{}/v1/agents", server.url);
    let mut statuses = Vec::new();
    for request in [
        client.get(&url).bearer_auth(&server.token).header("cookie", format!("session={}", cookie.value)),
        client.get(&url).header("authorization", format!("Basic {}", basic.value)),
        client.get(&url).bearer_auth(&bearer.value),
        client.get(format!("{url}?access_token={}", query.value)),
    ] {
        statuses.push(server.send(request).await.0);
    }
    statuses
}

/// Lets an agent use a secret, and returns what its call was told.
fn used(server: &Server, port: u16, name: &str, slot: &str) -> Value {
    let named = json!({"secret": name});
    let call = match slot {
        "query" => json!({"url": format!("http://127.0.0.1:{port}/{name}"), "query": {"key": named}}),
        header => json!({"url": format!("http://127.0.0.1:{port}/{name}"), "headers": {header: named}}),
    };
    let answer = said(server, "scout", &format!("@tool http.request {call}"));
    assert_eq!(answer["status"], "completed", "{answer}");
    let session = answer["session"].as_str().expect("a session");
    let entries = block_on(server.journal_until(session, |entries| count(entries, "run_completed") == 1));
    let finished = entries.into_iter().find(|entry| entry["kind"] == "tool_finished");
    finished.expect("the call has a result")
}

#[test]
fn no_written_byte_holds_any_secret() {
    let (home, minds, receiver) = (Home::new(), Minds::start(), Receiver::start(200));
    let (port, heard) = echo();
    let at_minds = format!("http://127.0.0.1:{}", minds.port);
    fs::write(
        home.path().join("dromia.yaml"),
        format!(
            "version: 1\negress: {{ private_tools: ['127.0.0.0/8'] }}\nmodels:\n  default: {{ kind: scripted }}\n  \
             vaulted: {{ kind: openai, base_url: '{at_minds}/v1', model: m, stream: false, key: 'secret:openai' }}\n  \
             known: {{ kind: anthropic, base_url: '{at_minds}/v1', model: m, stream: false, key: 'env:ANTHROPIC_KEY' }}\n"
        ),
    )
    .expect("it is written");
    with_channel(&home, &receiver.url, "");
    let vaulted = format!(
        "  bills: {{ kind: webhook, agent: assistant, url: '{}', secret: 'secret:{}' }}\n",
        receiver.url, SIGNING.0
    );
    append(&home.path().join("dromia.yaml"), &vaulted);
    let server = serve(&home);
    let mut printed = Vec::new();

    // Each enters where it may.
    let host = format!("http://127.0.0.1:{port}");
    let slot = |name: &str| match name {
        "google" => "query".to_owned(),
        "github" | "gitlab" => "authorization".to_owned(),
        other => format!("x-{other}"),
    };
    let mut grants = vec!["http.request".to_owned(), format!("net:127.0.0.1:{port}")];
    for one in IN_VAULT {
        let Canary { kind, value } = canary(one);
        let placement = match slot(kind).as_str() {
            "query" => "query:key".to_owned(),
            "authorization" => "bearer".to_owned(),
            header => format!("header:{header}"),
        };
        set(&home, kind, &host, &placement, &value);
        grants.push(format!("secret:{kind}"));
    }
    let provider = canary(PROVIDER);
    set(&home, provider.kind, &at_minds, "bearer", &provider.value);
    let signing = canary(SIGNING);
    let receives = receiver.url.strip_suffix("/hook").expect("its path");
    set(&home, signing.kind, receives, "signature", &signing.value);
    create(&home, "scout", &grants);
    for model in ["vaulted", "known"] {
        agent(&home, model);
    }
    let token = home.run(&["token", "create", "metrics", "--scope", "read", "--scope", "metrics"]);
    assert!(token.status.success(), "{}", stderr(&token));
    let token = String::from_utf8(token.stdout).expect("text").trim().to_owned();

    // Each is used, and comes where it belongs.
    for one in IN_VAULT {
        let Canary { kind, .. } = canary(one);
        let finished = used(&server, port, kind, &slot(kind));
        assert_eq!(finished["fields"]["status"], "ok", "{kind}: {finished}");
        assert!(finished["body"].to_string().contains("****"), "{kind}: the server told it back: {finished}");
    }
    {
        let heard = heard.lock().expect("nobody panics with it");
        assert_eq!(heard.len(), IN_VAULT.len());
        let plain = |(kind, one, two): (&str, &str, &str)| (kind != "google").then(|| format!("{one}{two}"));
        for value in IN_VAULT.into_iter().filter_map(plain) {
            assert!(heard.iter().any(|request| request.contains(&value)), "{value} came nowhere: {heard:?}");
        }
    }
    for model in ["vaulted", "known"] {
        assert_eq!(said(&server, model, "hello")["status"], "completed");
    }
    let asked = minds.heard().concat();
    assert!(asked.contains(&provider.value) && asked.contains(&canary(IN_ENVIRONMENT[0]).value), "{asked}");
    assert_eq!(block_on(strangers(&server)), [200, 401, 401, 401]);
    let reader = reqwest::Client::new().get(format!("{}/v1/agents", server.url)).bearer_auth(&token);
    assert_eq!(block_on(server.send(reader)).0, 200);
    assert_eq!(say(&server, "msg_1", "hello").0, 202);
    assert_eq!(say_signed(&server, ("bills", &signing.value), "msg_2", "hello").0, 202);
    assert!(receiver.until(2).iter().any(|heard| heard.is_signed_with(&signing.value)));

    // A kill in the middle of a turn that used a secret, and another life that ends the turn.
    let call = json!({"url": format!("{host}/again"), "headers": {"x-npm": {"secret": "npm"}}});
    let event =
        json!({"text": format!("@tool http.request {call}\n@slow 10000\n@say so far"), "agent": "scout"});
    let (status, accepted) = block_on(server.event(&event));
    assert_eq!(status, 202, "{accepted}");
    let session = accepted["session"].as_str().expect("a session").to_owned();
    block_on(server.journal_until(&session, |entries| count(entries, "tool_finished") == 1));
    server.kill();
    let server = serve(&home);
    block_on(server.journal_until(&session, |entries| count(entries, "run_completed") == 1));

    // Whatever tells something of it is asked, with a server and without.
    let export = home.path().join("audit-export.jsonl");
    let export = export.to_str().expect("text");
    let lines: [&[&str]; 8] = [
        &["secret", "list", "--json"],
        &["audit", "export", "--jsonl", "--file", export],
        &["audit", "query", "--json"],
        &["config", "show", "--json"],
        &["provider", "list", "--json"],
        &["agent", "show", "scout", "--json"],
        &["doctor", "--json"],
        &["status", "--all"],
    ];
    let tell = |printed: &mut Vec<u8>, line: &[&str]| {
        let mut command = home.command();
        for one in IN_ENVIRONMENT {
            let Canary { kind, value } = canary(one);
            command.env(kind, value);
        }
        let output = command.env(VARIABLE, SECRET).args(line).output().expect("the program runs");
        assert!(!output.stdout.is_empty() || output.status.success(), "{line:?}: {}", stderr(&output));
        printed.extend_from_slice(&output.stdout);
        printed.extend_from_slice(&output.stderr);
    };
    for line in lines {
        tell(&mut printed, line);
    }
    server.terminate();
    for line in [&["doctor"][..], &["status", "--all", "--json"], &["config", "validate"]] {
        tell(&mut printed, line);
    }

    let planted = IN_VAULT.into_iter().chain([PROVIDER]).chain(IN_ENVIRONMENT).chain(IN_REQUESTS);
    let mut canaries: Vec<Canary> = planted.map(canary).collect();
    canaries.push(Canary { kind: "token", value: token });
    canaries.push(Canary { kind: "signing key", value: SECRET.to_owned() });
    canaries.push(signing);
    assert_eq!(canaries.len(), 26);
    let (search, mut found) = (Search::new(&canaries), Vec::new());
    let files = search.below(&home.path(), &mut found);
    search.bytes("what was printed", &printed, &mut found);
    assert_eq!(found, Vec::<String>::new());
    assert!(files >= 5 && printed.len() > 1_000, "{files} files, {} bytes", printed.len());
    assert!(
        fs::metadata(home.path().join("log.txt")).expect("a log").len() > 10_000,
        "everything was logged"
    );

    // The very same search finds what somebody leaves: in a file of the home, and in the log.
    let leak = home.path().join("store").join("left");
    fs::write(&leak, format!("it is {}", canaries[2].value)).expect("it is written");
    append(&home.path().join("log.txt"), &hex(canaries[15].value.as_bytes()));
    search.below(&home.path(), &mut found);
    assert_eq!(found.len(), 2, "{found:?}");
}

/// The planted fault: a secret that was left, in each form, in a file of each kind.
#[test]
fn a_secret_in_a_file_is_caught_in_every_form() {
    let directory = tempfile::tempdir().expect("a directory");
    let canaries: Vec<Canary> = IN_VAULT.map(canary).into();
    let search = Search::new(&canaries);
    for Canary { kind, value } in &canaries {
        for (form, bytes) in forms(value.as_bytes()) {
            let file = directory.path().join("deep").join("dromia.db-wal");
            fs::create_dir_all(file.parent().expect("a parent")).expect("it is made");
            fs::write(&file, [&[0, 159, 146][..], &bytes, &[0, 255]].concat()).expect("it is written");
            let mut found = Vec::new();
            assert_eq!(search.below(directory.path(), &mut found), 1);
            assert!(
                found.iter().any(|one| one.starts_with(&format!("{kind} ({form})"))),
                "{form}: {found:?}"
            );
            fs::write(&file, &bytes[1..]).expect("it is written");
            found.clear();
            search.below(directory.path(), &mut found);
            assert!(
                !found.iter().any(|one| one.starts_with(&format!("{kind} ({form})"))),
                "{form}: {found:?}"
            );
        }
    }
    // Base64 of a longer text, wherever the value begins in it.
    for before in ["", "a", "ab"] {
        let text = format!("{before}{}", canaries[0].value);
        let mut found = Vec::new();
        search.bytes("a text", &base64(text.as_bytes(), 0), &mut found);
        assert_eq!(found.len(), 1, "{before:?}: {found:?}");
    }
}
