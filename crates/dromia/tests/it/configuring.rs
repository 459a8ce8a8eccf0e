//! Commands about the configuration: checked, shown, explained and edited without a server, and tried against a small
//! model server that wants a key.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Output;

use serde_json::{Value, json};

use crate::home::{Home, append, stderr};
use crate::schema::mismatch;
use crate::tree::published;

/// The key of the model server; it must never be seen.
const KEY: &str = "sk-canary-7431";

/// Starts a server of the chat completions format that has two models and wants [`KEY`].
fn model_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream);
        }
    });
    address
}

/// Answers one request. A client that goes away is nobody to answer.
fn answer(mut stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut first, mut length, mut is_known) = (String::new(), 0, false);
    reader.read_line(&mut first).ok()?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        is_known |= lower.trim() == format!("authorization: bearer {KEY}");
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (status, kind, text) = if !is_known {
        ("401 Unauthorized", "application/json", json!({"error": {"message": "bad key"}}).to_string())
    } else if first.starts_with("GET /v1/models ") {
        let models = json!({"object": "list", "data": [{"id": "small"}, {"id": "large"}]});
        ("200 OK", "application/json", models.to_string())
    } else {
        let piece =
            json!({"choices": [{"index": 0, "delta": {"content": "ready"}, "finish_reason": "stop"}]});
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 2}});
        let events = format!("data: {piece}\n\ndata: {usage}\n\ndata: [DONE]\n\n");
        ("200 OK", "text/event-stream", events)
    };
    let length = text.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all((head + &text).as_bytes()).ok()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn document(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).expect("one JSON document")
}

fn configuration(home: &Home) -> String {
    std::fs::read_to_string(home.path().join("dromia.yaml")).expect("the configuration")
}

fn configure(home: &Home, text: &str) {
    std::fs::write(home.path().join("dromia.yaml"), text).expect("the configuration can be written");
}

/// A home with a provider `hub` and a model `default` at a server.
fn served_home() -> (Home, SocketAddr) {
    let home = Home::new();
    let address = model_server();
    configure(
        &home,
        &format!(
            "# mine\nversion: 1\nproviders:\n  hub:   # the one that I pay\n    kind: openai\n    base_url: \"http://{address}/v1\"\n    key: \"env:HUB_KEY\"\nmodels:\n  default: {{ provider: hub, model: small, price: {{ input: 1000000, output: 5000000 }} }}\nengine:\n  active_max: 4   # small machine\n"
        ),
    );
    (home, address)
}

/// Runs a command with the key in the environment and looks for it in all that is said.
fn with_key(home: &Home, key: &str, arguments: &[&str]) -> Output {
    let output = home.command().env("HUB_KEY", key).args(arguments).output().expect("the program runs");
    let said = [output.stdout.clone(), output.stderr.clone()].concat();
    assert!(!String::from_utf8_lossy(&said).contains("canary"), "{arguments:?} tells the key");
    output
}

#[test]
fn a_new_home_is_valid_and_contains_its_schema() {
    let home = Home::new();
    let said = stdout(&home.run(&["config", "validate"]));
    assert!(said.ends_with("dromia.yaml is valid: 0 providers, 1 model\n"), "{said}");
    assert!(configuration(&home).starts_with("# yaml-language-server: $schema=./dromia.schema.json\n"));
    let schema = std::fs::read_to_string(home.path().join("dromia.schema.json")).expect("it lies there");
    assert_eq!(schema, stdout(&home.run(&["config", "schema"])));
    let page = stdout(&home.run(&["config", "schema", "--markdown"]));
    assert!(page.contains("| `engine.active_max` | whole number | `1024` | restart |"), "{page}");
}

#[test]
fn validate_reports_every_mistake_and_exits_with_2() {
    let home = Home::new();
    let file = home.path().join("other.yaml");
    std::fs::write(&file, "engine:\n  active_max: 0\nmodels:\n  a: { provider: x, model: m }\n")
        .expect("written");
    let file = file.to_str().expect("is UTF-8");
    let output = home.run(&["config", "validate", "--file", file]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains("other.yaml:2:15: engine.active_max: must be at least 1"), "{said}");
    assert!(said.contains("other.yaml:4:18: models.a.provider: there is no provider `x`"), "{said}");
    let output = home.run(&["config", "validate", "--file", file, "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let told: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(mismatch(&published("config validate"), &told), None, "{told}");
    assert_eq!((told["valid"].as_bool(), told["problems"].as_array().map(Vec::len)), (Some(false), Some(2)));
}

#[test]
fn mistakes_of_form_and_meaning_are_reported_together() {
    let home = Home::new();
    let file = home.path().join("dromia.yaml");
    let text = "limits:\n  drain_ms: 600001\n  requests_max: many\nengine:\n  colour: red\nlisten: nowhere\n";
    std::fs::write(&file, text).expect("written");
    let told = [
        "dromia.yaml:2:13: limits.drain_ms: must be from 0 to 600000, and is 600001",
        "dromia.yaml:3:17: limits.requests_max: must be a whole number",
        "dromia.yaml:5:3: there is no key `colour` in `engine`",
        "dromia.yaml:6:9: listen: must be an IP address and a port",
    ];
    for line in [&["config", "check"][..], &["up"]] {
        let output = home.run(line);
        assert_eq!(output.status.code(), Some(2), "{line:?}");
        let said = stderr(&output);
        let places: Vec<_> = told.iter().map(|told| said.find(told)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{line:?}: {said}");
    }
    let output = home.run(&["config", "check", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(mismatch(&published("config validate"), &document), None, "{document}");
    assert_eq!(document["problems"].as_array().map(Vec::len), Some(4), "{document}");

    let many = (0..25).fold(String::new(), |text, number| text + &format!("  colour{number}: red\n"));
    std::fs::write(&file, format!("engine:\n{many}")).expect("written");
    let said = stderr(&home.run(&["config", "check"]));
    assert!(said.contains("dromia.yaml:21:3: ") && !said.contains("dromia.yaml:22:3: "), "{said}");
    assert!(said.contains("and 5 more"), "{said}");
}

#[test]
fn a_wrong_variable_or_flag_is_named_and_stops_startup() {
    let home = Home::new();
    for (name, value, says) in [
        (
            "DROMIA_ENGINE_ACTIVE_MAX",
            "many",
            "DROMIA_ENGINE_ACTIVE_MAX: engine.active_max: \"many\" is not a whole number",
        ),
        (
            "DROMIA_LIMITS_REQUESTS_MAX",
            "0",
            "DROMIA_LIMITS_REQUESTS_MAX: limits.requests_max: must be from 1",
        ),
        ("DROMIA_LISTEN", "0.0.0.0:0", "DROMIA_LISTEN: listen: without TLS"),
    ] {
        let output = home.command().env(name, value).arg("up").output().expect("the program runs");
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
    let output = home.run(&["up", "--set", "engine.active_mx=3"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("did you mean `engine.active_max`?"), "{}", stderr(&output));
}

#[test]
fn every_command_that_reads_variables_reports_a_misspelt_one() {
    let home = Home::new();
    let with = |line: &[&str]| {
        let mut command = home.command();
        command.env("DROMIA_ENGINE_ACTIVE_MX", "3").args(line);
        // A server gets so far and no further: somebody has its address.
        let output = command.output().expect("the program runs");
        String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output)
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    for line in [
        &["config", "validate"][..],
        &["doctor", "--only", "config.variables"],
        &["up", "--listen", &address],
    ] {
        let told = with(line);
        assert!(told.contains("did you mean `DROMIA_ENGINE_ACTIVE_MAX`?"), "{line:?}: {told}");
    }
    let plain = home.run(&["config", "validate"]);
    assert!(!stderr(&plain).contains("warning: "), "{}", stderr(&plain));
}

#[test]
fn show_names_the_origin_of_every_value() {
    let (home, address) = served_home();
    let mut command = home.command();
    command.env("HUB_KEY", KEY).env("DROMIA_TOOLS_PACE_MS", "5");
    let output = command
        .args(["config", "show", "--origin", "--set", "context.window_tokens=9000"])
        .output()
        .expect("the program runs");
    let said = stdout(&output).replace(&address.to_string(), "[address]");
    insta::assert_snapshot!(said);
    let document = document(&with_key(&home, KEY, &["config", "show", "--json"]));
    let values = &document["configuration"];
    assert_eq!(values["providers"]["hub"]["key"], "env:HUB_KEY");
    assert_eq!(values["models"]["default"]["price"]["cache_read"], 1_000_000);
}

#[test]
fn explain_describes_a_key_and_corrects_a_typo() {
    let (home, _) = served_home();
    insta::assert_snapshot!(stdout(&home.run(&["config", "explain", "engine.active_max"])), @r"
    key              engine.active_max
    what it is       Most runs that work at the same time; more wait in a queue. Lower it if the machine runs out of memory. An edit needs a restart, because the queues are sized once.
    takes            whole number
    default          1024
    variable         DROMIA_ENGINE_ACTIVE_MAX
    a change counts  at the next start
    value            4
    from             dromia.yaml:11
    ");
    insta::assert_snapshot!(stdout(&home.run(&["config", "explain", "models.default.price.input"])), @r"
    key              models.default.price.input
    what it is       Price of one million request tokens, in millionths of the currency unit: 250000 is 0.25.
    takes            whole number
    a change counts  within two seconds
    value            1000000
    from             dromia.yaml:9
    ");
    let output = home.run(&["config", "explain", "engine.active_mx"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("did you mean `engine.active_max`?"), "{}", stderr(&output));
    let all = document(&home.run(&["config", "explain", "--json"]));
    assert!(all["items"].as_array().is_some_and(|keys| keys.len() > 30));
    let one = document(&home.run(&["config", "explain", "engine", "--json=key,values"]));
    let values = one["items"][0]["values"].as_array().expect("values");
    let active_max = json!({"key": "engine.active_max", "value": 4, "origin": "dromia.yaml:11"});
    assert!(values.contains(&active_max), "{one}");
    // Nobody needs a home to ask.
    let nowhere = home.run(&["config", "explain", "listen", "--home", "/nonexistent"]);
    assert!(stdout(&nowhere).contains("127.0.0.1:7700"));
}

#[test]
fn editing_providers_and_models_keeps_the_rest_of_the_file() {
    let (home, address) = served_home();
    let base_url = format!("http://{address}/v1");
    let before = configuration(&home);
    let add =
        ["provider", "add", "local", "--kind", "openai", "--base-url", &base_url, "--key-env", "HUB_KEY"];
    assert!(stdout(&with_key(&home, KEY, &add)).contains("within two seconds"));
    assert!(stdout(&with_key(&home, KEY, &add)).contains("already exists"));
    let backup = std::fs::read_to_string(home.path().join("dromia.yaml.bak")).expect("the text of before");
    assert_eq!(backup, before);
    stdout(&with_key(&home, KEY, &["model", "set", "spare=local/large,scripted"]));
    stdout(&with_key(&home, KEY, &["model", "set", "default=hub/small,spare"]));
    let text = configuration(&home).replace(&address.to_string(), "[address]");
    insta::assert_snapshot!(text, @r#"
    # mine
    version: 1
    providers:
      hub:   # the one that I pay
        kind: openai
        base_url: "http://[address]/v1"
        key: "env:HUB_KEY"
      local:
        kind: openai
        base_url: "http://[address]/v1"
        key: "env:HUB_KEY"
    models:
      default:
        provider: hub
        model: "small"
        fallback: [spare]
        price: { input: 1000000, output: 5000000 }
      spare:
        provider: local
        model: "large"
        fallback: [scripted]
    engine:
      active_max: 4   # small machine
    "#);
    stdout(&with_key(&home, KEY, &["config", "validate"]));

    let tried = document(&with_key(&home, KEY, &["provider", "test", "hub", "--json"]));
    assert_eq!(mismatch(&published("provider test"), &tried), None, "{tried}");
    assert_eq!(tried["models"], json!(["small", "large"]));
    assert_eq!(tried["aliases"], json!([{"alias": "default", "model": "small", "listed": true}]));
    let tried = document(&with_key(&home, KEY, &["model", "test", "default", "--json"]));
    assert_eq!(mismatch(&published("model test"), &tried), None, "{tried}");
    assert_eq!(tried["answer"], "ready");
    assert_eq!(tried["usage"], json!({"input_tokens": 20, "output_tokens": 2}));
    assert_eq!(tried["cost_micros"], 30);
    assert!(tried["first_token_ms"].as_u64() <= tried["total_ms"].as_u64(), "{tried}");
    let listed = document(&with_key(&home, KEY, &["model", "list", "--json"]));
    assert_eq!(mismatch(&published("model list"), &listed), None, "{listed}");
    let prices = [0, 1, 2].map(|row: usize| &listed["items"][row]["price"]["input"]);
    assert_eq!(prices, [&json!(1_000_000), &Value::Null, &json!(0)], "set, unknown and free");
    let unpriced = stdout(&with_key(&home, KEY, &["model", "test", "spare"]));
    assert!(unpriced.contains("cost         unpriced"), "{unpriced}");

    insta::assert_snapshot!(stdout(&with_key(&home, KEY, &["model", "list"])), @r"
    ALIAS     ANSWERS                      KIND      FALLBACK  WINDOW   MAX OUTPUT  PRICE PER MILLION TOKENS
    default   hub/small                    openai    spare     unknown  unknown     1.00 USD in, 5.00 USD out
    spare     local/large                  openai    scripted  unknown  unknown     unpriced
    scripted  the built-in scripted model  scripted                                 free

    Prices that dromia.yaml does not set are built in: USD, as of 2026-03-21; compare them with the providers' own lists.
    ");
    insta::assert_snapshot!(stdout(&with_key(&home, KEY, &["model", "route", "show", "default"])), @r"
    default
      1. hub/small
      2. local/large  (as spare)

    The next model answers while the one before it is overloaded, too slow or unreachable.
    ");
    let listed =
        stdout(&with_key(&home, KEY, &["provider", "list"])).replace(&address.to_string(), "[address]");
    insta::assert_snapshot!(listed, @r"
    NAME   KIND    BASE URL                   KEY          USED BY
    hub    openai  http://[address]/v1  env:HUB_KEY  default
    local  openai  http://[address]/v1  env:HUB_KEY  spare
    ");

    let used = with_key(&home, KEY, &["provider", "remove", "local"]);
    assert_eq!(used.status.code(), Some(6));
    assert!(stderr(&used).contains("local is used by spare"), "{}", stderr(&used));
    stdout(&with_key(&home, KEY, &["model", "set", "spare=scripted"]));
    stdout(&with_key(&home, KEY, &["provider", "remove", "local"]));
    assert!(!configuration(&home).contains("local"), "{}", configuration(&home));
    assert!(configuration(&home).contains("# the one that I pay"), "{}", configuration(&home));
}

#[test]
fn a_failed_test_names_the_next_step_but_no_key() {
    let (home, _) = served_home();
    let refused = with_key(&home, "sk-canary-wrong", &["provider", "test", "hub"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = stderr(&refused);
    assert!(
        said.contains("refused the credentials (401)") && said.contains("set a valid key in HUB_KEY"),
        "{said}"
    );
    let refused = with_key(&home, "sk-canary-wrong", &["model", "test", "default"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("`dromia provider test hub`"), "{}", stderr(&refused));
    let unset = home.run(&["provider", "test", "hub"]);
    assert_eq!(unset.status.code(), Some(2));
    assert!(stderr(&unset).contains("the variable HUB_KEY is not set"), "{}", stderr(&unset));
    assert!(stdout(&home.run(&["provider", "list"])).contains("env:HUB_KEY (not set here)"));

    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let base_url = format!("http://{free}/v1");
    stdout(&home.run(&["provider", "add", "gone", "--kind", "openai", "--base-url", &base_url]));
    let gone = home.run(&["provider", "test", "gone"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(
        stderr(&gone).contains("no server answers there; start it, or correct providers.gone.base_url"),
        "{}",
        stderr(&gone)
    );
    for (arguments, says) in [
        (vec!["provider", "test", "hbu"], "did you mean `hub`?"),
        (vec!["model", "test", "defalt"], "did you mean `default`?"),
        (vec!["model", "set", "x=hbu/m"], "did you mean `hub`?"),
        (vec!["model", "set", "x=hub"], "which model of hub?"),
        (vec!["model", "set", "x=hub/m,defalt"], "did you mean `default`?"),
        (vec!["model", "route", "show", "defalt"], "did you mean `default`?"),
        (vec!["provider", "add", "bad", "--kind", "openai", "--base-url", "nowhere"], "must be an http://"),
    ] {
        let before = configuration(&home);
        let output = with_key(&home, KEY, &arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says), "{arguments:?}: {}", stderr(&output));
        assert_eq!(configuration(&home), before, "{arguments:?}");
    }
    let another = home.run(&["provider", "add", "hub", "--kind", "anthropic"]);
    assert_eq!(another.status.code(), Some(6), "{}", stderr(&another));
}

#[test]
fn adding_a_provider_with_an_unset_key_only_warns() {
    let home = Home::new();
    let output = home.run(&["provider", "add", "p", "--kind", "anthropic", "--key-env", "ONLY_THERE"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("this shell does not set ONLY_THERE"), "{}", stderr(&output));
    let validated = home.run(&["config", "validate"]);
    assert!(validated.status.success(), "{}", stderr(&validated));
    let warned = "warning: ";
    assert!(stderr(&validated).contains(warned) && stderr(&validated).contains("ONLY_THERE is not set"));
}

#[test]
fn a_vault_key_is_referenced_and_never_written_to_files() {
    let home = Home::new();
    let base_url = "http://127.0.0.1:9/v1";
    let add = |name, secret| {
        home.run(&[
            "provider",
            "add",
            name,
            "--kind",
            "openai",
            "--base-url",
            base_url,
            "--key-secret",
            secret,
        ])
    };
    let told = stdout(&add("hub", "hub-key"));
    let set = "`dromia secret set hub-key --stdin --host http://127.0.0.1:9 --placement bearer < key.txt`";
    assert!(told.contains(set), "{told}");
    assert!(stdout(&add("hub", "hub-key")).contains("already exists"));
    assert!(configuration(&home).contains("key: \"secret:hub-key\""), "{}", configuration(&home));
    assert!(home.run(&["config", "validate"]).status.success());
    assert!(stdout(&home.run(&["provider", "list"])).contains("secret:hub-key"));
    let before = configuration(&home);
    for wrong in ["a b", concat!("sk-pr", "oj-0123456789abcdef"), ""] {
        let refused = add("other", wrong);
        assert_eq!(refused.status.code(), Some(2), "{wrong}: {}", stderr(&refused));
        assert!(stderr(&refused).contains("the name of a secret"), "{}", stderr(&refused));
        assert!(!stderr(&refused).contains("0123456789"), "{}", stderr(&refused));
    }
    let both = ["provider", "add", "x", "--kind", "openai", "--key-env", "A", "--key-secret", "b"];
    assert_eq!(home.run(&both).status.code(), Some(2));
    assert_eq!(configuration(&home), before);
}

#[test]
fn an_unsafe_edit_leaves_the_file_and_prints_the_lines() {
    let home = Home::new();
    for text in
        ["{ \"version\": 1 }", "version: 1\nmodels: { default: { kind: scripted } }\nproviders: &all {}\n"]
    {
        configure(&home, text);
        let output = home.run(&["provider", "add", "p", "--kind", "scripted"]);
        assert_eq!(output.status.code(), Some(2), "{text}");
        let said = stderr(&output);
        assert!(said.contains("line ") && said.contains("providers:\n  p:\n    kind: scripted"), "{said}");
        assert_eq!(configuration(&home), text);
    }
}

#[test]
fn an_edit_keeps_the_modes_and_follows_a_link() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    let elsewhere = home.path().join("elsewhere.yaml");
    let link = home.path().join("dromia.yaml");
    std::fs::rename(&link, &elsewhere).expect("it is ours");
    std::fs::set_permissions(&elsewhere, std::fs::Permissions::from_mode(0o640)).expect("it is ours");
    std::os::unix::fs::symlink(&elsewhere, &link).expect("a link");
    stdout(&home.run(&["provider", "add", "p", "--kind", "scripted"]));
    assert!(link.is_symlink());
    let mode = std::fs::metadata(&elsewhere).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    append(&elsewhere, "# still mine\n");
    stdout(&home.run(&["provider", "remove", "p"]));
    assert!(configuration(&home).ends_with("# still mine\n"));
}
