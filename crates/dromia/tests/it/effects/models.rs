//! Keys of models and providers, as the model's server hears them when `dromia model test` asks it.

use super::probes::HeardServer;
use crate::home::Home;

/// A key, and what follows the aliases `a` and `b`, which differ in that key. `URL` is the server.
pub(super) const PAIRS: &[(&str, &str, &str)] = &[
    (
        "models.ALIAS.base_url",
        "kind: openai, model: m, base_url: 'URL/v1'",
        "kind: openai, model: m, base_url: 'URL/v2'",
    ),
    (
        "models.ALIAS.kind",
        "kind: openai, model: m, base_url: 'URL/v1'",
        "kind: anthropic, model: m, base_url: 'URL/v1'",
    ),
    (
        "models.ALIAS.key",
        "kind: openai, model: m, base_url: 'URL/v1'",
        "kind: openai, model: m, base_url: 'URL/v1', key: 'env:K'",
    ),
    (
        "models.ALIAS.model",
        "kind: openai, model: m, base_url: 'URL/v1'",
        "kind: openai, model: n, base_url: 'URL/v1'",
    ),
    (
        "models.ALIAS.output_tokens_max",
        "kind: openai, model: m, base_url: 'URL/v1'",
        "kind: openai, model: m, base_url: 'URL/v1', output_tokens_max: 7",
    ),
    (
        "models.ALIAS.price.cache_read",
        "PRICED { input: 1000000, output: 1000000 }",
        "PRICED { input: 1000000, output: 1000000, cache_read: 9000000 }",
    ),
    (
        "models.ALIAS.price.cache_write",
        "PRICED { input: 1000000, output: 1000000 }",
        "PRICED { input: 1000000, output: 1000000, cache_write: 9000000 }",
    ),
    (
        "models.ALIAS.price.input",
        "PRICED { input: 1000000, output: 1000000 }",
        "PRICED { input: 9000000, output: 1000000 }",
    ),
    (
        "models.ALIAS.price.output",
        "PRICED { input: 1000000, output: 1000000 }",
        "PRICED { input: 1000000, output: 9000000 }",
    ),
    ("models.ALIAS.provider", "provider: p, model: m", "provider: q, model: m"),
    (
        "models.ALIAS.stream",
        "kind: openai, model: m, base_url: 'URL/v1'",
        "kind: openai, model: m, base_url: 'URL/v1', stream: false",
    ),
    ("providers.NAME.base_url", "provider: p, model: m", "provider: base_url, model: m"),
    ("providers.NAME.key", "provider: p, model: m", "provider: key, model: m"),
    ("providers.NAME.kind", "provider: p, model: m", "provider: kind, model: m"),
    ("providers.NAME.output_limit", "provider: p, model: m", "provider: output_limit, model: m"),
    (
        "providers.NAME.timeout_ms",
        "provider: slow, model: m, stream: false",
        "provider: timeout_ms, model: m, stream: false",
    ),
];

/// The providers of the pairs; each differs from `p` or from `slow` in the key that it is named after.
const PROVIDERS: &str = "providers:
  p: { kind: openai, base_url: 'URL/p' }
  q: { kind: openai, base_url: 'URL/q' }
  base_url: { kind: openai, base_url: 'URL/other' }
  key: { kind: openai, base_url: 'URL/p', key: 'env:K' }
  kind: { kind: openai_responses, base_url: 'URL/p' }
  output_limit: { kind: openai, base_url: 'URL/p', output_limit: max_completion_tokens }
  slow: { kind: anthropic, base_url: 'URL/slow' }
  timeout_ms: { kind: anthropic, base_url: 'URL/slow', timeout_ms: 200 }
";

#[test]
fn what_a_file_says_of_models_is_heard_by_their_server() {
    let server = HeardServer::start();
    let mut blind = Vec::new();
    let home = Home::new();
    for (key, without, with) in PAIRS {
        let file = format!("version: 1\n{PROVIDERS}models:\n  a: {{ {without} }}\n  b: {{ {with} }}\n")
            .replace("PRICED {", "kind: anthropic, model: m, base_url: 'URL/v1', stream: false, price: {")
            .replace("URL", &server.url);
        std::fs::write(home.path().join("dromia.yaml"), file).expect("the configuration can be written");
        let seen = ["a", "b"].map(|alias| {
            let mut command = home.command();
            command.env("K", "a-key").args(["model", "test", alias, "--json"]);
            let output = command.output().expect("the program runs");
            let page: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let heard = server.last();
            if key.contains("price") {
                assert!(page["cost_micros"].is_u64(), "{key}: {page}");
                return page["cost_micros"].to_string();
            }
            if key.contains("timeout") {
                return output.status.to_string();
            }
            assert!(!heard.is_empty(), "{key}");
            heard
        });
        if seen[0] == seen[1] {
            blind.push(format!("{key}: {}", seen[0]));
        }
    }
    assert!(blind.is_empty(), "these keys have no effect: {blind:#?}");
}
