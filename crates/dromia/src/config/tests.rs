//! The rules of the file, each by what a person is told.

use std::path::Path;

use super::*;
use dromia_engine::EngineConfig;

mod foreign;
mod forms;
mod roles;
mod tools;

fn loaded(text: &str) -> LoadedConfig {
    parse_layered(Path::new("dromia.yaml"), text, &EnvironmentVariables::default(), &[])
        .expect("the form is right")
}

fn problem(text: &str) -> String {
    parse_config(Path::new("dromia.yaml"), text).expect_err("the text is wrong").to_string()
}

/// What is said about a text whose form is right and whose meaning is not.
fn refused(text: &str) -> String {
    let environment =
        EnvironmentVariables::from([("OPENAI_API_KEY", "s3cret"), ("EMPTY", ""), ("SPLIT", "a\nb")]);
    loaded(text).resolve_all(&environment).expect_err("it means nothing").to_string()
}

#[test]
fn an_unknown_key_is_reported_with_place_and_nearest_key() {
    let text = problem("version: 1\nlisten: 127.0.0.1:1\ndefault_agnet: x\n");
    assert!(text.starts_with("dromia.yaml:3:1: "), "{text}");
    assert!(text.ends_with("did you mean `default_agent`?"), "{text}");
    let text = problem("models:\n  a: { kind: openai, modle: x }\n");
    assert!(text.starts_with("dromia.yaml:2:"), "{text}");
    assert!(text.ends_with("did you mean `model`?"), "{text}");
    let text = problem("providers:\n  a:\n    kind: opnai\n");
    assert!(text.starts_with("dromia.yaml:3:") && text.ends_with("did you mean `openai`?"), "{text}");
}

#[test]
fn a_wrong_type_is_named_with_its_place() {
    let text = problem("engine:\n  active_max: many\n");
    assert!(text.starts_with("dromia.yaml:2:"), "{text}");
}

#[test]
fn an_invalid_tenant_name_or_trust_level_is_refused() {
    let text = refused("tenants:\n  A.B: { trust: hostile }\n");
    assert!(text.contains("tenants.A.B: is not a handle of a tenant"), "{text}");
    let text = problem("tenants:\n  acme: { trust: hostil }\n");
    assert!(text.starts_with("dromia.yaml:2:") && text.ends_with("did you mean `hostile`?"), "{text}");
    let many: Vec<_> = (0..257).map(|number| format!("  t{number}: {{ trust: standard }}\n")).collect();
    assert!(refused(&format!("tenants:\n{}", many.concat())).contains("tenants: has more than 256 tenants"));
}

#[test]
fn a_docker_backend_needs_a_valid_socket_and_image() {
    for (text, says) in [
        ("socket: /a", "sandbox.docker.socket: needs `sandbox.docker.image`"),
        ("image: i", "sandbox.docker.image: needs `sandbox.docker.socket`"),
        ("socket: a, image: i", "sandbox.docker.socket: is not an absolute path"),
        ("socket: /a, image: 'i j'", "sandbox.docker.image: is not a name of an image"),
        ("socket: /a, image: 'i?x=1'", "sandbox.docker.image: is not a name of an image"),
    ] {
        let text = refused(&format!("sandbox: {{ docker: {{ {text} }} }}\n"));
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn a_firecracker_backend_needs_all_parts_and_an_unprivileged_user() {
    for (text, says) in [
        ("binary: /b, jailer: /j, kernel: /k", "sandbox.firecracker: needs `rootfs`"),
        ("rootfs: /r", "sandbox.firecracker: needs `binary`"),
        ("uid: 7", "sandbox.firecracker: needs `binary`"),
        (
            "binary: b, jailer: /j, kernel: /k, rootfs: /r",
            "sandbox.firecracker.binary: is not an absolute path",
        ),
        ("binary: /b, jailer: /j, kernel: /k, rootfs: /r, uid: 0", "sandbox.firecracker.uid: must not be 0"),
    ] {
        let text = refused(&format!("sandbox: {{ firecracker: {{ {text} }} }}\n"));
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn control_groups_are_a_few_absolute_paths_each_named_once() {
    for (text, says) in [
        ("[a]", "sandbox.control_groups.0: is not an absolute path"),
        ("[/a, /a/../b]", "sandbox.control_groups.1: is not an absolute path"),
        ("[/a, /b, /a/]", "sandbox.control_groups.2: is listed twice"),
        ("[/a, /b, /c, /d, /e, /f, /g, /h, /i]", "sandbox.control_groups: has more than 8"),
    ] {
        let text = refused(&format!("sandbox: {{ control_groups: {text} }}\n"));
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn an_empty_file_means_every_default() {
    let resolved =
        loaded("# nothing\n").resolve_all(&EnvironmentVariables::default()).expect("the defaults are good");
    assert_eq!(resolved.server.listen.to_string(), LISTEN_DEFAULT);
    assert_eq!(resolved.engine, EngineConfig::default());
    assert_eq!(resolved.calls.message_hops_max, 16);
}

#[test]
fn a_key_of_the_vault_is_named_and_not_held() {
    let text = "models: { a: { kind: anthropic, base_url: 'http://x', model: m, key: 'secret:my-key' } }";
    let resolved =
        loaded(text).resolve_all(&EnvironmentVariables::default()).expect("nothing is looked for yet");
    let Some(dromia_models::ModelProvider::Http(http)) = resolved.models.models.get("a") else {
        panic!("a server answers")
    };
    assert!(http.key.is_none());
    let named = http.vault_key.as_ref().expect("it is named");
    assert_eq!(named.name, "my-key");
    assert!(named.of.scope().is_none(), "whose it is, the server says");
    let wrong = text.replace("secret:my-key", "secret:my key");
    let told =
        loaded(&wrong).resolve_all(&EnvironmentVariables::default()).expect_err("it is no name").to_string();
    assert!(told.contains("secret:NAME"), "{told}");
}

#[test]
fn a_model_key_comes_from_the_environment_not_the_file() {
    let with = |key: &str| {
        loaded(&format!("models: {{ a: {{ kind: openai, base_url: 'http://x', model: m, key: '{key}' }} }}"))
    };
    let environment = EnvironmentVariables::from([("THERE", "s3cret")]);
    assert!(with("env:THERE").resolve_all(&environment).is_ok());
    let missing = with("env:GONE").resolve_all(&environment).expect("it disables the model alone");
    let told = missing.references.missing_keys.first().expect("it is reported");
    assert_eq!(told.to_string(), "dromia.yaml:1:67: models.a.key: the variable GONE is not set");
    assert_eq!(told.unset.as_deref(), Some("GONE"));
    let literal =
        with("sk-literal").resolve_all(&environment).expect_err("it stands in the file").to_string();
    assert!(
        literal.contains("env:NAME") && literal.contains("secret:NAME") && !literal.contains("sk-literal"),
        "{literal}"
    );
    let shown = format!("{:?}", with("env:THERE").resolve_all(&environment).expect("it is set").models);
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn an_invalid_channel_is_refused_with_place_and_without_secret() {
    let whole = "kind: webhook, agent: ops, url: 'http://h/', secret: env:S";
    for (text, says) in [
        (whole.replace("http://h/", "h"), "channels.w.url: is not a URL"),
        (whole.replace("http://h/", "ftp://h/"), "channels.w.url: is not an HTTP URL"),
        (whole.replace("http://h/", "http://a:b@h/"), "channels.w.url: contains a user name or a password"),
        (whole.replace("http://h/", "http://h/#x"), "channels.w.url: has a fragment"),
        (whole.replace("env:S", "whsec_literal"), "channels.w.secret: write env:NAME"),
        (whole.replace("env:S", "'secret:a b'"), "channels.w.secret: write env:NAME, or secret:NAME"),
        (
            whole.replace("env:S", "env:SHORT"),
            "channels.w.secret: SHORT is not a signing secret: a webhook's secret is whsec_",
        ),
        (format!("{whole}, attempts_max: 0"), "channels.w.attempts_max: must be from 1 to 100, and is 0"),
        (format!("{whole}, timeout_ms: 300001"), "channels.w.timeout_ms: must be from 1 to 300000"),
        (format!("{whole}, path: x"), "channels.w.path: a channel of kind webhook has no `path`"),
        (
            "kind: webhook, agent: ops, secret: env:S".to_owned(),
            "channels.w: needs `url`, because it is a webhook",
        ),
        (
            "kind: file, agent: ops, url: 'http://h/'".to_owned(),
            "channels.w.url: a channel of kind file has no `url`",
        ),
        (
            "kind: file, agent: ops, path: ../x".to_owned(),
            "channels.w.path: must name a directory without `..`",
        ),
        (
            "kind: file, agent: ops, path: x }\n  v: { kind: file, agent: ops, path: x/".to_owned(),
            "channels.w.path: is the directory of the channel v; each channel needs one of its own",
        ),
    ] {
        let environment = EnvironmentVariables::from([
            ("S", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            ("SHORT", "whsec_c2hvcnQ="),
        ]);
        let refused = loaded(&format!("channels:\n  w: {{ {text} }}\n")).resolve_all(&environment);
        let told = refused.expect_err("it cannot be").to_string();
        assert!(told.contains(says), "{text}\n{told}");
        assert!(!told.contains("whsec_literal") && !told.contains("c2hvcnQ"), "{told}");
    }
    let told = problem("channels:\n  w: { kind: telegram, agent: ops, url: 'http://h/', secret: env:S }\n");
    assert!(told.starts_with("dromia.yaml:2:"), "{told}");
    let name =
        refused(&format!("channels:\n  W.1: {{ {} }}\n", whole.replace("env:S", "env:OPENAI_API_KEY")));
    assert!(name.contains("channels.W.1: a channel's name"), "{name}");
}

#[test]
fn a_missing_key_disables_its_provider_or_channel_alone() {
    for (text, says) in [
        (
            "providers:\n  a:\n    kind: openai\n    key: env:OPENAI_API_KAY\n",
            "dromia.yaml:4:10: providers.a.key: the variable OPENAI_API_KAY is not set; did you mean `OPENAI_API_KEY`?",
        ),
        (
            "providers:\n  a: { kind: openai, key: env:EMPTY }\n",
            "dromia.yaml:2:27: providers.a.key: the variable EMPTY is empty",
        ),
        (
            "providers:\n  a: { kind: openai, key: env:SPLIT }\n",
            "the variable SPLIT is empty or has characters that a header",
        ),
        (
            "channels:\n  w: { kind: webhook, agent: ops, url: 'http://h/', secret: env:GONE }\n",
            "dromia.yaml:2:61: channels.w.secret: the variable GONE is not set",
        ),
    ] {
        let environment =
            EnvironmentVariables::from([("OPENAI_API_KEY", "k"), ("EMPTY", ""), ("SPLIT", "a\nb")]);
        let resolved = loaded(text).resolve_all(&environment).expect("it can be served");
        let told: Vec<_> = resolved.references.missing_keys.iter().map(ToString::to_string).collect();
        assert!(matches!(told.as_slice(), [one] if one.contains(says)), "{told:?}");
    }
    let text = "providers:\n  a: { kind: openai, key: env:GONE }\nmodels:\n  x: { provider: a, model: m }\n  \
                y: { kind: openai, base_url: 'http://h/v1', model: m }\n";
    let models =
        loaded(text).resolve_all(&EnvironmentVariables::default()).expect("it can be served").models.models;
    let Some(dromia_models::ModelProvider::Unusable(reason)) = models.get("x") else { panic!("{models:?}") };
    assert_eq!(
        reason,
        "the provider a has no key: the variable GONE is not set; set it with `export GONE=…` where the \
         server starts, and start it again with `dromia up`"
    );
    assert!(matches!(models.get("y"), Some(dromia_models::ModelProvider::Http(_))), "{models:?}");
}

#[test]
fn a_wrong_value_is_reported_with_position_and_nearest_name() {
    for (text, says) in [
        (
            "providers:\n  local: { kind: scripted }\nmodels:\n  a:\n    provider: locla\n    model: m\n",
            "dromia.yaml:5:15: models.a.provider: there is no provider `locla`; did you mean `local`?",
        ),
        ("models:\n  a: { model: m }\n", "dromia.yaml:2:3: models.a: needs `provider`, or `kind`"),
        ("models:\n  a: { kind: openai }\n", "dromia.yaml:2:3: models.a: needs `model`"),
        (
            "providers:\n  p: { kind: openai }\nmodels:\n  a: { provider: p, kind: openai, model: m }\n",
            "dromia.yaml:4:27: models.a.kind: has `provider` and `kind`; keep one of them",
        ),
        (
            "providers:\n  p: { kind: openai }\nmodels:\n  a: { provider: p, base_url: 'http://x', model: m }\n",
            "models.a.base_url: belongs to the provider: move it to providers.p",
        ),
        (
            "models:\n  a: { kind: openai, base_url: nowhere, model: m }\n",
            "dromia.yaml:2:32: models.a.base_url: must be an http:// or https:// URL",
        ),
        (
            "models:\n  a: { kind: scripted, stream: false }\n",
            "dromia.yaml:2:32: models.a.stream: has no effect on the scripted model; remove it",
        ),
        (
            "providers:\n  a: { kind: scripted, base_url: 'http://x' }\n",
            "providers.a.base_url: has no effect on the scripted model",
        ),
        (
            "providers:\n  a: { kind: anthropic, output_limit: max_tokens }\n",
            "providers.a.output_limit: has an effect only with kind `openai`",
        ),
        ("providers:\n  a: { kind: openai, timeout_ms: 0 }\n", "providers.a.timeout_ms: must be at least 1"),
        (
            "models:\n  big: { kind: scripted, fallback: [smal] }\n  small: { kind: scripted }\n",
            "dromia.yaml:2:37: models.big.fallback.0: there is no model `smal`; did you mean `small`?",
        ),
        (
            "models:\n  a: { kind: scripted, fallback: [scripted, a] }\n",
            "dromia.yaml:2:45: models.a.fallback.1: a model cannot be its own fallback",
        ),
        (
            "models:\n  a: { kind: scripted, fallback: [scripted, scripted] }\n",
            "models.a.fallback.1: `scripted` appears twice",
        ),
        ("limits:\n  body_bytes_max: 3\n", "dromia.yaml:2:19: limits.body_bytes_max: must be from 1024 to"),
        (
            "listen: 0.0.0.0:1\n",
            "dromia.yaml:1:9: listen: without TLS the server listens on loopback addresses only",
        ),
        (
            "listen: 0.0.0.0:1\nhttp:\n  tls: { cert: c.pem }\n",
            "dromia.yaml:3:16: http.tls.cert: needs `http.tls.key` too; TLS uses both",
        ),
        (
            "http:\n  hosts: [agents.example, 'agents.example:443']\n",
            "dromia.yaml:2:27: http.hosts.1: \"agents.example:443\" is not a host name",
        ),
        (
            "http:\n  origins:\n    - app.example\n",
            "dromia.yaml:3:7: http.origins.0: \"app.example\" is not an origin",
        ),
        (
            "egress:\n  private_tools: [10.0.0.0/8, 10.0.0.1/8]\n",
            "dromia.yaml:2:31: egress.private_tools.1: the network's address has bits set after the first 8",
        ),
        ("egress: { private_servers: ['*'] }", "egress.private_servers.0: it would open every network"),
        (
            "egress: { private_servers: ['http://wiki'] }",
            "egress.private_servers.0: expected a network such as",
        ),
        ("egress: { response_bytes_max: 0 }", "egress.response_bytes_max: must be at least 1"),
        ("egress: { total_ms: 0 }", "egress.total_ms: must be at least 1"),
        ("limits: { requests_max: 0 }", "limits.requests_max: must be from 1 to"),
        ("limits: { token_rate_max: 2000000 }", "limits.token_rate_max: must be from 0 to"),
        ("version: 2\n", "dromia.yaml:1:10: version: this program reads version 1, not 2"),
        ("engine: { active_max: 0 }", "engine.active_max: must be at least 1"),
    ] {
        let text_said = refused(text);
        assert!(text_said.contains(says), "{text}\n{text_said}");
    }
}

#[test]
fn a_fallback_cycle_is_reported_once_with_its_path() {
    let text = refused(
        "models:\n  a: { kind: scripted, fallback: [b] }\n  b: { kind: scripted, fallback: [c] }\n  c:\n    kind: scripted\n    fallback:\n      - a\n",
    );
    assert_eq!(text, "dromia.yaml:2:35: models.a.fallback.0: a -> b -> c -> a is a cycle");
}

#[test]
fn an_address_that_others_can_reach_is_served_with_tls() {
    let text = "listen: 0.0.0.0:1\nhttp: { tls: { cert: c.pem, key: /k.pem } }\n";
    let resolved = loaded(text).resolve_all(&EnvironmentVariables::default()).expect("it is encrypted");
    let files = resolved.server.tls.expect("the files are named").relative_to(Path::new("/home"));
    assert_eq!((files.cert.as_path(), files.key.as_path()), (Path::new("/home/c.pem"), Path::new("/k.pem")));
}

#[test]
fn all_mistakes_are_reported_in_one_pass() {
    let text = refused("engine: { active_max: 0, model_calls_max: 0 }\nmodels: { a: {}, b: {} }\n");
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn a_wrong_environment_value_is_reported_by_its_variable() {
    let environment = EnvironmentVariables::from([("DROMIA_LISTEN", "0.0.0.0:9")]);
    let loaded = parse_layered(Path::new("dromia.yaml"), "", &environment, &[]).expect("the form is right");
    let text = loaded.resolve_all(&environment).expect_err("others can reach it").to_string();
    assert!(text.starts_with("DROMIA_LISTEN: listen: without TLS"), "{text}");
}

#[test]
fn a_shared_provider_and_the_short_form_mean_the_same() {
    let long = "providers:\n  p: { kind: openai, base_url: 'http://h/v1', key: env:K }\nmodels:\n  a: { provider: p, model: m, stream: false }\n";
    let short =
        "models:\n  a: { kind: openai, base_url: 'http://h/v1', key: env:K, model: m, stream: false }\n";
    let environment = EnvironmentVariables::from([("K", "k")]);
    let http = |text: &str| {
        let models = loaded(text).resolve_all(&environment).expect("it is right").models.models;
        let Some(dromia_models::ModelProvider::Http(http)) = models.get("a") else { panic!("{models:?}") };
        (format!("{http:?}"), http.base_url.clone())
    };
    assert_eq!(http(long), http(short));
}

#[test]
fn a_known_model_has_a_price_that_the_file_overrides() {
    let price = |model: &str| {
        let loaded = loaded(&format!("models:\n  a: {{ {model} }}\n"));
        let route = route_for_alias(&loaded.written, "a", &loaded.written.models["a"]).expect("it is right");
        route.target.expect("a server").price
    };
    let known = price("kind: openai, model: gpt-5-mini").expect("it is in the table");
    assert_eq!((known.input, known.output, known.cache_read), (250_000, 2_000_000, 25_000));
    let own =
        price("kind: openai, model: gpt-5-mini, price: { input: 7, output: 9 }").expect("it is written");
    assert_eq!((own.input, own.output, own.cache_read, own.cache_write), (7, 9, 7, 7));
    assert_eq!(price("kind: openai, model: gpt-5-mini, base_url: 'http://127.0.0.1:8000/v1'"), None);
    assert_eq!(price("kind: openai, model: something-new"), None);
}

#[test]
fn a_known_model_has_a_window_that_the_file_overrides() {
    let window = |model: &str| {
        let loaded = loaded(&format!("models:\n  a: {{ {model} }}\n"));
        let route = route_for_alias(&loaded.written, "a", &loaded.written.models["a"]).expect("it is right");
        let window = route.target.expect("a server").window;
        (window.context_tokens, window.output_tokens_max)
    };
    assert_eq!(window("kind: anthropic, model: claude-sonnet-4-5"), (Some(200_000), Some(64_000)));
    let own = "kind: anthropic, model: claude-sonnet-4-5, context_tokens: 9000";
    assert_eq!(window(own), (Some(9_000), Some(64_000)));
    let local = "kind: openai, model: gpt-4o, base_url: 'http://127.0.0.1:8000/v1'";
    assert_eq!(window(local), (None, None), "another host has its own");
    for refused in ["context_tokens: 0", "output_tokens_max: 0"] {
        let loaded = loaded(&format!("models:\n  a: {{ kind: openai, model: m, {refused} }}\n"));
        let problems = loaded.resolve_all(&EnvironmentVariables::from([])).expect_err("nought is no bound");
        assert!(problems.to_string().contains("must be at least 1"), "{problems}");
    }
    let scripted = loaded("models:\n  a: { kind: scripted, context_tokens: 9000 }\n");
    let problems = scripted.resolve_all(&EnvironmentVariables::from([])).expect_err("it has no window");
    assert!(problems.to_string().contains("has no effect on the scripted model"), "{problems}");
}

#[test]
fn every_effective_value_is_shown_with_origin_and_without_secrets() {
    let text = "listen: 127.0.0.1:1\nproviders:\n  p:\n    kind: openai\n    key: env:K\n  q: { kind: openai, key: sk-canary, base_url: 'http://u:canary@h' }\nmodels:\n  a: { provider: p, model: gpt-5-mini }\n  b: { provider: q, model: x, price: { input: 1, output: 2 } }\n  c: { kind: openai, base_url: 'http://h', model: y }\n";
    let environment = EnvironmentVariables::from([("DROMIA_TOOLS_PACE_MS", "5"), ("K", "canary")]);
    let loaded = parse_layered(Path::new("dromia.yaml"), text, &environment, &[]).expect("the form is right");
    let lines: Vec<_> = show::list_values(&loaded)
        .into_iter()
        .map(|shown| format!("{} = {} ({})", shown.key, reference::yaml_value(&shown.value), shown.origin))
        .collect();
    for line in [
        "listen = 127.0.0.1:1 (dromia.yaml:1)",
        "providers.p.key = env:K (dromia.yaml:5)",
        "providers.p.base_url = https://api.openai.com/v1 (default)",
        "providers.p.output_limit = max_completion_tokens (default)",
        "models.a.price.input = 250000 (built-in prices of 2026-03-21)",
        "models.a.stream = true (default)",
        "models.a.context_tokens = 400000 (default)",
        "models.a.output_tokens_max = 128000 (default)",
        "models.b.price.output = 2 (dromia.yaml:9)",
        "models.b.price.cache_read = 1 (default)",
        "models.c.price = unpriced (default)",
        "tools.pace_ms = 5 (env DROMIA_TOOLS_PACE_MS)",
        "engine.active_max = 1024 (default)",
    ] {
        assert!(lines.iter().any(|shown| shown == line), "{line}\n{lines:#?}");
    }
    assert!(!format!("{lines:?}").contains("canary"), "{lines:#?}");
}
