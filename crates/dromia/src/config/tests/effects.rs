//! Every key of the schema has an effect on what the rooms are given. A key without a case here fails the test, and
//! so does a case that observes nothing.

use dromia_gateway::{ChannelKey, WebhookChannel};
use dromia_models::{HttpConfig, ModelProvider};

use super::*;
use crate::config::resolve::ResolvedConfig;

/// A key, a text without it, the same with it, and where its effect is seen.
type Case = (&'static str, &'static str, &'static str, fn(&ResolvedConfig) -> String);

/// A model with a provider of its own, and one more.
macro_rules! with_provider {
    ($provider:literal, $model:literal) => {
        concat!(
            "providers:\n  p: { kind: openai, base_url: 'http://h/v1'",
            $provider,
            " }\n  q: { kind: anthropic, base_url: 'http://i/v1' }\nmodels:\n  a: { provider: p, model: m",
            $model,
            " }\n"
        )
    };
}

/// A tool of the operator's own, and one more key of it.
macro_rules! external {
    ($more:literal) => {
        concat!("tools: { external: { bank.pay: { description: Pays., url: 'http://h/pay'", $more, " } } }\n")
    };
}

/// A second model, and one more key of it.
macro_rules! second {
    ($more:literal) => {
        concat!("irreversible: { second_opinion: { model: scripted", $more, " } }\n")
    };
}

/// A channel, and one more key of it.
macro_rules! channel {
    ($more:literal) => {
        concat!(
            "channels:\n  orders: { kind: webhook, agent: ops, url: 'http://h/', secret: env:W",
            $more,
            " }\n"
        )
    };
}

/// The parts of a machine.
macro_rules! machine {
    ($binary:literal, $jailer:literal, $kernel:literal, $rootfs:literal, $uid:literal) => {
        concat!(
            "sandbox:\n  firecracker: { binary: ",
            $binary,
            ", jailer: ",
            $jailer,
            ", kernel: ",
            $kernel,
            ", rootfs: ",
            $rootfs,
            ", uid: ",
            $uid,
            " }\n"
        )
    };
}

const OTHER_AGENT: &str =
    "channels:\n  orders: { kind: webhook, agent: dev, url: 'http://h/', secret: env:W }\n";
const OTHER_URL: &str =
    "channels:\n  orders: { kind: webhook, agent: ops, url: 'http://i/', secret: env:W }\n";
const OTHER_SECRET: &str =
    "channels:\n  orders: { kind: webhook, agent: ops, url: 'http://h/', secret: env:V }\n";

const OTHER_WORDS: &str = "tools: { external: { bank.pay: { description: Sends., url: 'http://h/pay' } } }\n";
const OTHER_PLACE: &str = "tools: { external: { bank.pay: { description: Pays., url: 'http://i/pay' } } }\n";

const PLAIN: &str = with_provider!("", "");
const SHORT: &str = "models:\n  a: { kind: openai, model: m }\n";

const CASES: &[Case] = &[
    ("listen", "", "listen: 127.0.0.1:1", |resolved| format!("{:?}", resolved.gateway_config(None).listen)),
    ("default_agent", "", "default_agent: ops", |resolved| {
        format!("{:?}", resolved.gateway_config(None).default_agent)
    }),
    ("engine.active_max", "", "engine: { active_max: 7 }", |resolved| resolved.engine.active_max.to_string()),
    ("engine.model_calls_max", "", "engine: { model_calls_max: 7 }", |resolved| {
        resolved.engine.model_calls_max.to_string()
    }),
    ("engine.output_tokens_max", "", "engine: { output_tokens_max: 7 }", |resolved| {
        resolved.engine.output_tokens_max.to_string()
    }),
    ("engine.loop_same", "", "engine: { loop_same: 7 }", |resolved| resolved.engine.loop_same.to_string()),
    ("context.items_max", "", "context: { items_max: 7 }", |resolved| {
        resolved.engine.context.items.to_string()
    }),
    ("context.bytes_max", "", "context: { bytes_max: 7 }", |resolved| {
        resolved.engine.context.bytes.to_string()
    }),
    ("context.tainted_past", "", "context: { tainted_past: whole }", |resolved| {
        format!("{:?}", resolved.engine.tainted_past)
    }),
    ("limits.body_bytes_max", "", "limits: { body_bytes_max: 7777 }", |resolved| {
        resolved.gateway_config(None).body_bytes_max.to_string()
    }),
    ("limits.requests_max", "", "limits: { requests_max: 7 }", |resolved| {
        resolved.gateway_config(None).requests_max.to_string()
    }),
    ("limits.drain_ms", "", "limits: { drain_ms: 7 }", |resolved| {
        resolved.gateway_config(None).drain_ms.to_string()
    }),
    ("http.hosts", "", "http: { hosts: [agents.example] }", |resolved| {
        format!("{:?}", resolved.gateway_config(None).hosts)
    }),
    ("http.origins", "", "http: { origins: ['https://app.example'] }", |resolved| {
        format!("{:?}", resolved.gateway_config(None).origins)
    }),
    (
        "http.tls.cert",
        "http: { tls: { cert: c.pem, key: k.pem } }",
        "http: { tls: { cert: d.pem, key: k.pem } }",
        |resolved| format!("{:?}", resolved.gateway_config(None).tls),
    ),
    (
        "http.tls.key",
        "http: { tls: { cert: c.pem, key: k.pem } }",
        "http: { tls: { cert: c.pem, key: l.pem } }",
        |resolved| format!("{:?}", resolved.gateway_config(None).tls),
    ),
    ("limits.actor_inputs_per_minute_max", "", "limits: { actor_inputs_per_minute_max: 7 }", |resolved| {
        resolved.gateway_config(None).actor_inputs_per_minute_max.to_string()
    }),
    ("limits.body_ms", "", "limits: { body_ms: 77 }", |resolved| {
        resolved.gateway_config(None).body_ms.to_string()
    }),
    ("limits.token_rate_max", "", "limits: { token_rate_max: 7 }", |resolved| {
        resolved.gateway_config(None).token_rate_max.to_string()
    }),
    ("egress.private_tools", "", "egress: { private_tools: [10.0.0.0/8] }", |resolved| {
        format!("{:?}", resolved.reachable.opened.private_granted)
    }),
    ("egress.private_servers", "", "egress: { private_servers: [wiki] }", |resolved| {
        format!("{:?}", resolved.reachable.opened.private_named)
    }),
    ("permissions.delay", "", "permissions: { delay: [exec] }", |resolved| {
        format!("{:?}", resolved.said.added_grants(None))
    }),
    ("irreversible.action", "", "irreversible: { action: delay }", |resolved| {
        format!("{:?}", resolved.irreversible)
    }),
    ("irreversible.cooling_ms", "", "irreversible: { cooling_ms: 7 }", |resolved| {
        format!("{:?}", resolved.engine.approvals.cooling)
    }),
    ("irreversible.second_opinion.model", "", second!(""), |resolved| {
        format!("{:?}", resolved.engine.second_opinion)
    }),
    ("irreversible.second_opinion.samples", second!(""), second!(", samples: 5"), |resolved| {
        format!("{:?}", resolved.engine.second_opinion)
    }),
    ("irreversible.second_opinion.agree", second!(""), second!(", agree: 2"), |resolved| {
        format!("{:?}", resolved.engine.second_opinion)
    }),
    ("irreversible.second_opinion.objection", second!(""), second!(", objection: abort"), |resolved| {
        format!("{:?}", resolved.engine.second_opinion)
    }),
    ("permissions.ask", "", "permissions: { ask: [exec] }", |resolved| {
        format!("{:?}", resolved.said.added_grants(None))
    }),
    ("permissions.deny", "", "permissions: { deny: [exec] }", |resolved| {
        format!("{:?}", resolved.said.added_grants(None))
    }),
    ("approvals.hold_ms", "", "approvals: { hold_ms: 7 }", |resolved| {
        format!("{:?}", resolved.engine.approvals.hold)
    }),
    ("approvals.expire_ms", "", "approvals: { expire_ms: 777777 }", |resolved| {
        format!("{:?}", resolved.engine.approvals.expire)
    }),
    ("approvals.approvers", "", "approvals: { approvers: ['cli:1000'] }", |resolved| {
        format!("{:?}", resolved.engine.approvals.approvers)
    }),
    ("approvals.unattended", "", "approvals: { unattended: [task] }", |resolved| {
        format!("{:?}", resolved.engine.approvals.unattended)
    }),
    ("approvals.files", "", "approvals: { files: named }", |resolved| {
        format!("{:?}", resolved.engine.approvals.files)
    }),
    ("approvals.allow", "", "approvals: { allow: ['file.write path=notes/**'] }", |resolved| {
        format!("{:?}", resolved.engine.approvals.rules)
    }),
    ("approvals.deny", "", "approvals: { deny: ['file.write path=notes/**'] }", |resolved| {
        format!("{:?}", resolved.engine.approvals.rules)
    }),
    ("agents.NAME.permissions.allow", "", "agents: { dev: { permissions: { allow: [exec] } } }", of_dev),
    ("agents.NAME.permissions.delay", "", "agents: { dev: { permissions: { delay: [exec] } } }", of_dev),
    ("agents.NAME.permissions.ask", "", "agents: { dev: { permissions: { ask: [exec] } } }", of_dev),
    ("agents.NAME.permissions.deny", "", "agents: { dev: { permissions: { deny: [exec] } } }", of_dev),
    ("egress.https_only", "", "egress: { https_only: true }", |resolved| {
        resolved.reachable.limits.https_only.to_string()
    }),
    ("egress.total_ms", "", "egress: { total_ms: 7 }", |resolved| {
        format!("{:?}", resolved.reachable.limits.total)
    }),
    ("egress.response_bytes_max", "", "egress: { response_bytes_max: 7 }", |resolved| {
        resolved.reachable.limits.response_bytes_max.to_string()
    }),
    ("sandbox.minimum", "", "sandbox: { minimum: base }", |resolved| {
        format!("{:?}", resolved.sandbox_minimum)
    }),
    (
        "roles.NAME.scopes",
        "roles: { a: { scopes: [read] } }",
        "roles: { a: { scopes: [invoke] } }",
        |resolved| format!("{:?}", resolved.gateway_config(None).roles),
    ),
    ("socket.users", "", "socket: { users: [{ uid: 1001, role: viewer }] }", |resolved| {
        format!("{:?}", resolved.gateway_config(None).socket_users)
    }),
    (
        "tenants.NAME.trust",
        "tenants: { acme: { trust: standard } }",
        "tenants: { acme: { trust: hostile } }",
        |resolved| format!("{:?}", resolved.hostile),
    ),
    (
        "tenants.NAME.budgets",
        "tenants: { acme: {} }",
        "tenants: { acme: { budgets: [{ name: d, per: tenant, measure: money, period: day, limit: '5.00' }] } }",
        |resolved| format!("{:?}", resolved.budgets),
    ),
    (
        "sandbox.docker.socket",
        "sandbox: { docker: { socket: /a, image: i } }",
        "sandbox: { docker: { socket: /b, image: i } }",
        |resolved| format!("{:?}", resolved.containers),
    ),
    (
        "sandbox.firecracker.binary",
        machine!("/a", "/j", "/k", "/r", 7),
        machine!("/b", "/j", "/k", "/r", 7),
        |resolved| format!("{:?}", resolved.monitor),
    ),
    (
        "sandbox.firecracker.jailer",
        machine!("/a", "/j", "/k", "/r", 7),
        machine!("/a", "/i", "/k", "/r", 7),
        |resolved| format!("{:?}", resolved.monitor),
    ),
    (
        "sandbox.firecracker.kernel",
        machine!("/a", "/j", "/k", "/r", 7),
        machine!("/a", "/j", "/l", "/r", 7),
        |resolved| format!("{:?}", resolved.monitor),
    ),
    (
        "sandbox.firecracker.rootfs",
        machine!("/a", "/j", "/k", "/r", 7),
        machine!("/a", "/j", "/k", "/s", 7),
        |resolved| format!("{:?}", resolved.monitor),
    ),
    (
        "sandbox.firecracker.uid",
        machine!("/a", "/j", "/k", "/r", 7),
        machine!("/a", "/j", "/k", "/r", 8),
        |resolved| format!("{:?}", resolved.monitor),
    ),
    ("sandbox.control_groups", "", "sandbox: { control_groups: [/sys/fs/cgroup/a] }", |resolved| {
        format!("{:?}", resolved.control_groups)
    }),
    (
        "sandbox.docker.image",
        "sandbox: { docker: { socket: /a, image: i } }",
        "sandbox: { docker: { socket: /a, image: k } }",
        |resolved| format!("{:?}", resolved.containers),
    ),
    ("tools.pace_ms", "", "tools: { pace_ms: 7 }", |resolved| format!("{:?}", resolved.tool_pace)),
    ("tools.message_hops_max", "", "tools: { message_hops_max: 7 }", |resolved| {
        resolved.message_hops_max.to_string()
    }),
    ("tools.external.NAME.description", external!(""), OTHER_WORDS, of_external),
    ("tools.external.NAME.url", external!(""), OTHER_PLACE, of_external),
    (
        "tools.external.NAME.arguments",
        external!(""),
        external!(", arguments: { properties: { to: { type: string } } }"),
        of_external,
    ),
    ("tools.external.NAME.effect", external!(""), external!(", effect: keyed"), of_external),
    ("tools.external.NAME.sink", external!(""), external!(", sink: inside"), of_external),
    (
        "tools.external.NAME.roles",
        external!(", arguments: { properties: { to: {} } }"),
        external!(", arguments: { properties: { to: {} } }, roles: { to: destination }"),
        of_external,
    ),
    (
        "tools.external.NAME.result_label",
        external!(""),
        external!(", result_label: trusted/tenant"),
        of_external,
    ),
    ("tools.external.NAME.sensitivity", external!(""), external!(", sensitivity: high"), of_external),
    (
        "tools.external.NAME.records.keys",
        external!(", records: { keys: [id], names: [subject] }"),
        external!(", records: { keys: [order], names: [subject] }"),
        of_external,
    ),
    (
        "tools.external.NAME.records.names",
        external!(", records: { keys: [id], names: [subject] }"),
        external!(", records: { keys: [id], names: [title] }"),
        of_external,
    ),
    ("tools.external.NAME.secret", external!(""), external!(", secret: bank"), of_external),
    (
        "tools.external.NAME.placement",
        external!(", secret: bank"),
        external!(", secret: bank, placement: 'header:x-key'"),
        of_external,
    ),
    ("tools.external.NAME.timeout_ms", external!(""), external!(", timeout_ms: 7"), of_external),
    (
        "providers.NAME.kind",
        PLAIN,
        "providers:\n  p: { kind: anthropic, base_url: 'http://h/v1' }\nmodels:\n  a: { provider: p, model: m }\n",
        |resolved| format!("{:?}", http(resolved).format),
    ),
    (
        "providers.NAME.base_url",
        PLAIN,
        "providers:\n  p: { kind: openai }\nmodels:\n  a: { provider: p, model: m }\n",
        |resolved| http(resolved).base_url.clone(),
    ),
    ("providers.NAME.key", PLAIN, with_provider!(", key: env:K", ""), |resolved| {
        http(resolved).key.is_some().to_string()
    }),
    (
        "providers.NAME.output_limit",
        PLAIN,
        with_provider!(", output_limit: max_completion_tokens", ""),
        |resolved| format!("{:?}", http(resolved).output_limit),
    ),
    ("providers.NAME.timeout_ms", PLAIN, with_provider!(", timeout_ms: 700", ""), |resolved| {
        format!("{:?}", http(resolved).timeouts)
    }),
    (
        "models.ALIAS.provider",
        PLAIN,
        "providers:\n  p: { kind: openai, base_url: 'http://h/v1' }\n  q: { kind: anthropic, base_url: 'http://i/v1' }\nmodels:\n  a: { provider: q, model: m }\n",
        |resolved| http(resolved).base_url.clone(),
    ),
    ("models.ALIAS.kind", SHORT, "models:\n  a: { kind: openai_responses, model: m }\n", |resolved| {
        format!("{:?}", http(resolved).format)
    }),
    (
        "models.ALIAS.base_url",
        SHORT,
        "models:\n  a: { kind: openai, model: m, base_url: 'http://h/v1' }\n",
        |resolved| http(resolved).base_url.clone(),
    ),
    ("models.ALIAS.key", SHORT, "models:\n  a: { kind: openai, model: m, key: env:K }\n", |resolved| {
        http(resolved).key.is_some().to_string()
    }),
    ("models.ALIAS.model", SHORT, "models:\n  a: { kind: openai, model: n }\n", |resolved| {
        http(resolved).model.clone()
    }),
    ("models.ALIAS.stream", PLAIN, with_provider!("", ", stream: false"), |resolved| {
        http(resolved).stream.to_string()
    }),
    ("models.ALIAS.fallback", PLAIN, with_provider!("", ", fallback: [scripted]"), |resolved| {
        format!("{:?}", resolved.models.fallbacks)
    }),
    ("models.ALIAS.context_tokens", PLAIN, with_provider!("", ", context_tokens: 4096"), |resolved| {
        format!("{:?}", http(resolved).window)
    }),
    ("models.ALIAS.output_tokens_max", PLAIN, with_provider!("", ", output_tokens_max: 77"), |resolved| {
        format!("{:?}", http(resolved).window)
    }),
    (
        "models.ALIAS.price.input",
        with_provider!("", ", price: { input: 1, output: 1 }"),
        with_provider!("", ", price: { input: 7, output: 1 }"),
        |resolved| http(resolved).price.input.to_string(),
    ),
    (
        "models.ALIAS.price.output",
        with_provider!("", ", price: { input: 1, output: 1 }"),
        with_provider!("", ", price: { input: 1, output: 7 }"),
        |resolved| http(resolved).price.output.to_string(),
    ),
    (
        "models.ALIAS.price.cache_read",
        with_provider!("", ", price: { input: 1, output: 1 }"),
        with_provider!("", ", price: { input: 1, output: 1, cache_read: 7 }"),
        |resolved| http(resolved).price.cache_read.to_string(),
    ),
    (
        "models.ALIAS.price.cache_write",
        with_provider!("", ", price: { input: 1, output: 1 }"),
        with_provider!("", ", price: { input: 1, output: 1, cache_write: 7 }"),
        |resolved| http(resolved).price.cache_write.to_string(),
    ),
    ("channels.NAME.tenant", channel!(""), channel!(", tenant: acme"), |resolved| {
        orders(resolved).tenant.to_string()
    }),
    ("channels.NAME.agent", channel!(""), OTHER_AGENT, |resolved| orders(resolved).agent.to_string()),
    ("channels.NAME.url", channel!(""), OTHER_URL, |resolved| orders(resolved).url.clone()),
    ("channels.NAME.secret", channel!(""), OTHER_SECRET, |resolved| signed(resolved)),
    ("channels.NAME.idempotent", channel!(""), channel!(", idempotent: false"), |resolved| {
        orders(resolved).idempotent.to_string()
    }),
    ("channels.NAME.attempts_max", channel!(""), channel!(", attempts_max: 7"), |resolved| {
        orders(resolved).attempts_max.to_string()
    }),
    ("channels.NAME.timeout_ms", channel!(""), channel!(", timeout_ms: 77"), |resolved| {
        format!("{:?}", orders(resolved).timeout)
    }),
];

/// What is added to the grants of the agent `dev`.
fn of_dev(resolved: &ResolvedConfig) -> String {
    format!("{:?}", resolved.said.added_grants(Some(&super::tools::dev())))
}

/// What is known of the operator's own tools.
fn of_external(resolved: &ResolvedConfig) -> String {
    format!("{:?}", resolved.external)
}

/// The settings of the channel `orders`.
fn orders(resolved: &ResolvedConfig) -> &WebhookChannel {
    resolved.channels.get("orders").expect("the channel is there")
}

/// What the key of the channel `orders` signs, or where that key is.
fn signed(resolved: &ResolvedConfig) -> String {
    match &orders(resolved).key {
        ChannelKey::Held(key) => key.sign("i", "0", b""),
        ChannelKey::InVault(name) => name.clone(),
    }
}

/// The settings of the model `a`.
fn http(resolved: &ResolvedConfig) -> &HttpConfig {
    match resolved.models.models.get("a") {
        Some(ModelProvider::Http(http)) => http,
        other => panic!("a is no model of a server: {other:?}"),
    }
}

#[test]
fn every_key_has_an_effect() {
    let environment = Environment::from([
        ("K", "k"),
        ("V", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        ("W", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ]);
    let resolved = |text: &str| {
        loaded(text).resolve_all(&environment).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
    };
    for (key, without, with, observe) in CASES {
        let (before, after) = (observe(&resolved(without)), observe(&resolved(with)));
        assert_ne!(before, after, "{key} has no effect");
    }
    let flags = super::tools::cases();
    for case in &flags {
        let (before, after) = (case.observe(&resolved(&case.without)), case.observe(&resolved(&case.with)));
        assert_ne!(before, after, "{} has no effect", case.key);
        assert!(list_keys().iter().any(|key| key.path == case.key), "{} is no key of the schema", case.key);
    }
    for key in list_keys().iter().filter(|key| !key.is_group) {
        // The version and the kind of a channel have one value; any other is refused, which is their effect.
        let has_one_value = matches!(key.path.as_str(), "version" | "channels.NAME.kind");
        let has_case = has_one_value
            || CASES.iter().any(|(path, ..)| *path == key.path)
            || flags.iter().any(|case| case.key == key.path);
        assert!(has_case, "{} has no case in this table", key.path);
    }
    for (path, ..) in CASES {
        assert!(list_keys().iter().any(|key| key.path == *path), "{path} is no key of the schema");
    }
}
