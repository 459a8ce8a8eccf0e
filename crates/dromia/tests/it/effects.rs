//! Every key of `dromia.yaml` changes what the running program does or shows.
//!
//! Most keys are seen on two servers: one with a plain file, and one whose file changes all of these keys. Keys of models and
//! providers are seen in what their server hears. Where a test of its own looks at the effect of a key, that test is named. A
//! key that is nowhere here fails [`every_key_is_seen`].

mod elsewhere;
mod models;
mod probes;

use serde_json::Value;

use self::elsewhere::{REFUSED, TESTS};
use crate::approvals::document;
use crate::egress::create;
use crate::home::{Home, Server, block_on, stderr};
use crate::reloads::{until, write};

/// A running server on its home.
struct ServedHome {
    home: Home,
    server: Server,
    /// Where a server listens that its agents may ask.
    page: String,
}

/// Where the effect of a key is seen on the two servers.
enum Sight {
    /// What `dromia tool show` says of a tool in the hands of `other` is not the same on both.
    Tool(&'static str, &'static str),
    /// The same of `dev`, whose terms are its own: on the changed server it is not what `other` has.
    Own(&'static str, &'static str),
    /// What a probe reads is not the same on both.
    Probe(fn(&ServedHome) -> String),
}

/// The keys of the two servers.
const SIGHTS: &[(&str, Sight)] = &[
    ("agents.NAME.permissions.allow", Sight::Own("file.list", "/granted")),
    ("agents.NAME.permissions.ask", Sight::Own("file.edit", "/granted")),
    ("agents.NAME.permissions.delay", Sight::Own("file.search", "/granted")),
    ("agents.NAME.permissions.deny", Sight::Own("file.write", "/granted")),
    ("agents.NAME.tools.exec.cpu_limit", Sight::Own("exec", "/limits/cpu_ms")),
    ("agents.NAME.tools.exec.disk_quota", Sight::Own("shell.execute", "/limits/disk_bytes")),
    ("agents.NAME.tools.exec.mem_limit", Sight::Own("exec", "/limits/memory_bytes")),
    ("agents.NAME.tools.exec.network", Sight::Own("shell.execute", "/network/way")),
    ("agents.NAME.tools.exec.sandbox", Sight::Own("exec", "/sandbox")),
    ("agents.NAME.tools.exec.time_limit", Sight::Own("shell.execute", "/limits/wall_ms")),
    ("agents.NAME.tools.net", Sight::Own("http.request", "/net")),
    ("agents.NAME.tools.privileged", Sight::Own("message.send", "/granted")),
    ("permissions.ask", Sight::Tool("file.read", "/granted")),
    ("permissions.delay", Sight::Tool("file.append", "/granted")),
    ("permissions.deny", Sight::Tool("time.now", "/granted")),
    ("tools.exec.cpu_limit", Sight::Tool("shell.execute", "/limits/cpu_ms")),
    ("tools.exec.disk_quota", Sight::Tool("exec", "/limits/disk_bytes")),
    ("tools.exec.mem_limit", Sight::Tool("shell.execute", "/limits/memory_bytes")),
    ("tools.exec.network", Sight::Tool("exec", "/network/way")),
    ("tools.exec.sandbox", Sight::Tool("shell.execute", "/sandbox")),
    ("tools.exec.time_limit", Sight::Tool("exec", "/limits/wall_ms")),
    ("tools.net", Sight::Tool("http.request", "/net")),
    ("tools.privileged", Sight::Tool("message.send", "/privileged")),
    ("tools.external.NAME.arguments", Sight::Tool("bank.pay", "/arguments")),
    ("tools.external.NAME.description", Sight::Tool("bank.pay", "/description")),
    ("tools.external.NAME.effect", Sight::Tool("bank.pay", "/effect")),
    ("tools.external.NAME.records.keys", Sight::Tool("bank.pay", "/records/keys")),
    ("tools.external.NAME.records.names", Sight::Tool("bank.pay", "/records/names")),
    ("tools.external.NAME.result_label", Sight::Tool("bank.pay", "/result_label")),
    ("tools.external.NAME.roles", Sight::Tool("bank.pay", "/roles")),
    ("tools.external.NAME.sensitivity", Sight::Tool("bank.pay", "/sensitivity")),
    ("tools.external.NAME.sink", Sight::Tool("bank.pay", "/sink")),
    ("approvals.expire_ms", Sight::Probe(probes::approval_life)),
    ("channels.NAME.agent", Sight::Probe(probes::channel_agents)),
    ("channels.NAME.tenant", Sight::Probe(probes::foreign_channel)),
    ("context.window_tokens", Sight::Probe(probes::assumed_window)),
    ("default_agent", Sight::Probe(probes::unaddressed_event)),
    ("egress.response_bytes_max", Sight::Probe(probes::answer_of_five_bytes)),
    ("egress.total_ms", Sight::Probe(probes::late_answer)),
    ("engine.loop_same", Sight::Probe(probes::repeated_calls)),
    ("engine.model_calls_max", Sight::Probe(probes::many_steps)),
    ("engine.output_tokens_max", Sight::Probe(probes::longest_answer)),
    ("http.hosts", Sight::Probe(probes::named_host)),
    ("http.origins", Sight::Probe(probes::foreign_origin)),
    ("limits.body_bytes_max", Sight::Probe(probes::large_body)),
    ("limits.body_ms", Sight::Probe(probes::half_sent_body)),
    ("socket.users", Sight::Probe(probes::socket_mode)),
];

fn shown(served: &ServedHome, agent: &str, tool: &str, at: &str) -> Value {
    let page = document(&served.home, &["tool", "show", tool, "--agent", agent]);
    page.pointer(at).cloned().unwrap_or_default()
}

/// Serves a file with the agents that the probes ask.
fn serve(file: &str, heard: &probes::HeardServer) -> ServedHome {
    let home = Home::new();
    std::fs::write(home.path().join("dromia.yaml"), file).expect("the configuration can be written");
    let mut command = home.command();
    command.env(crate::webhook::VARIABLE, crate::webhook::SECRET);
    let server = home.serve_by(command);
    let host = heard.url.replace("http://", "net:");
    let grants = [
        "exec",
        "shell.execute",
        "http.request",
        "message.send",
        "time.now",
        "bank.*",
        "file.read",
        "file.write",
        "file.append",
        "file.edit",
        "file.search",
        &host,
        "net:docs.rs",
    ];
    for name in ["dev", "other"] {
        create(&home, name, &grants.map(str::to_owned));
    }
    let talker = ["agent", "create", "talker", "--model", "heard", "--grant", "model", "--grant", "reply"];
    let made = home.run(&talker);
    assert!(made.status.success(), "{}", stderr(&made));
    ServedHome { home, server, page: heard.url.clone() }
}

/// Names the keys of which the two servers show the same.
fn blind_keys(plain: &ServedHome, changed: &ServedHome, sights: &[(&str, Sight)]) -> Vec<String> {
    let mut blind = Vec::new();
    for (key, sight) in sights {
        let (before, after) = match sight {
            Sight::Tool(tool, at) => {
                let of = |served| shown(served, "other", tool, at).to_string();
                (of(plain), of(changed))
            }
            Sight::Own(tool, at) => {
                let [dev, other] = ["dev", "other"].map(|agent| shown(changed, agent, tool, at).to_string());
                let is_own = shown(plain, "dev", tool, at) == shown(plain, "other", tool, at);
                assert!(is_own, "{key}: without it both are the same");
                (other, dev)
            }
            Sight::Probe(probe) => (probe(plain), probe(changed)),
        };
        if before == after {
            blind.push(format!("{key}: {before}"));
        }
    }
    blind
}

/// Starts a server on the plain file, changes the file under it, and waits until the change counts.
fn serve_edited(heard: &probes::HeardServer, file: &str) -> ServedHome {
    let served = serve(&probes::plain_file(heard), heard);
    write(&served.home, file);
    block_on(until(&served.server, |found| found["revision"] == 2));
    served
}

#[test]
fn what_a_file_changes_is_seen_on_its_server() {
    let heard = probes::HeardServer::start();
    let plain = serve(&probes::plain_file(&heard), &heard);
    let changed = serve(&probes::changed_file(&heard), &heard);
    let blind = blind_keys(&plain, &changed, SIGHTS);
    assert!(blind.is_empty(), "these keys have no effect: {blind:#?}");
}

#[test]
fn an_edit_is_seen_on_a_server_that_runs() {
    let heard = probes::HeardServer::start();
    let plain = serve(&probes::plain_file(&heard), &heard);
    let edited = serve_edited(&heard, &probes::changed_file(&heard));
    let blind = blind_keys(&plain, &edited, SIGHTS);
    assert!(blind.is_empty(), "an edit of these keys has no effect: {blind:#?}");
}

/// Planted fault: the edited text says what the server started with.
#[test]
fn an_edit_that_changes_nothing_is_caught() {
    let heard = probes::HeardServer::start();
    let plain = serve(&probes::plain_file(&heard), &heard);
    let edited = serve_edited(&heard, &(probes::plain_file(&heard) + "# edited\n"));
    let quick = [
        ("permissions.deny", Sight::Tool("time.now", "/granted")),
        ("http.hosts", Sight::Probe(probes::named_host)),
        ("channels.NAME.agent", Sight::Probe(probes::channel_agents)),
        ("limits.body_bytes_max", Sight::Probe(probes::large_body)),
    ];
    assert_eq!(blind_keys(&plain, &edited, &quick).len(), quick.len());
}

#[test]
fn what_a_file_may_not_say_stops_the_program() {
    for (key, file, says) in REFUSED {
        let home = Home::new();
        std::fs::write(home.path().join("dromia.yaml"), file).expect("the configuration can be written");
        let refused = home.run(&["up"]);
        assert_eq!(refused.status.code(), Some(2), "{key}");
        assert!(stderr(&refused).contains(says), "{key}: {}", stderr(&refused));
    }
}

#[test]
fn every_key_is_seen() {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    for (key, file, test) in TESTS {
        let text = std::fs::read_to_string(format!("{tests}/{file}")).expect(file);
        assert!(text.contains(&format!("fn {test}(")), "{key}: {file} has no test {test}");
        // The word may be in the environment, in capitals.
        let word = key.rsplit('.').next().unwrap_or(key);
        assert!(text.to_lowercase().contains(word), "{key}: {file} has no {word}");
    }
    let home = Home::new();
    let page = home.run(&["config", "schema", "--markdown"]);
    let page = String::from_utf8(page.stdout).expect("a text");
    let keys: Vec<_> = page
        .lines()
        .filter(|row| {
            row.starts_with("| `") && row.matches(" | ").count() >= 4 && !row.contains("| keys below it |")
        })
        .filter_map(|row| row.split('`').nth(1))
        .collect();
    assert!(keys.len() > 50, "{page}");
    let seen: Vec<&str> = SIGHTS
        .iter()
        .map(|(key, _)| *key)
        .chain(TESTS.iter().map(|(key, ..)| *key))
        .chain(REFUSED.iter().map(|(key, ..)| *key))
        .chain(models::PAIRS.iter().map(|(key, ..)| *key))
        .collect();
    let unseen: Vec<_> = keys.iter().filter(|key| !seen.contains(key)).collect();
    assert!(unseen.is_empty(), "nothing sees the effect of {unseen:?}");
    let gone: Vec<_> = seen.iter().filter(|key| !keys.contains(key)).collect();
    assert!(gone.is_empty(), "these are no keys: {gone:?}");
}
