//! What each key is, for people: the words of `dromia config explain` and the page `docs/configuration.md`.

use std::fmt::Write as _;

use serde_json::Value;

use super::schema::{self, ConfigKey, KeyEffect};

/// The text above the keys on the page.
const HEAD: &str = "\
# Configuration

`dromia.yaml` in the home (`$DROMIA_HOME`, by default `~/.dromia`). Every key is optional and unknown keys are errors. This
page is written by `dromia config schema --markdown`; `dromia config explain KEY` says the same about one key, with the
value that counts and where it comes from.

A value is taken from the first that has one: the flag `--set KEY=VALUE`, the environment variable, the file, the default.
A running server follows the file: a good edit counts within two seconds, a bad one leaves the last good configuration
counting. Some keys wait for the next start, which `dromia status` and `dromia config check` say. `dromia config history` lists
what counted, and `dromia config revert N` goes back.

```yaml
version: 1
providers:
  openai: { kind: openai, key: \"env:OPENAI_API_KEY\" }
  local: { kind: openai, base_url: \"http://127.0.0.1:11434/v1\" }
models:
  default: { provider: openai, model: \"gpt-5-mini\", fallback: [spare] }
  spare: { provider: local, model: \"qwen3\", price: { input: 0, output: 0 } }
```

The same in short, without a provider of its own: `default: { kind: openai, base_url: \"…\", model: \"…\", key: \"env:NAME\" }`.
The built-in price table covers a few well known models and has a date; the price in the file wins, and a model without
any costs 0 and is shown as `unpriced`. The windows of these models are built in too: what of a conversation does not fit
a model's window is left out from its beginning, each input with its answer. A stand-in answers where its model is overloaded, too slow or unreachable.

An address that other machines reach is served with TLS only. A renewed certificate is taken within a minute, without a
restart; `dromia doctor` says when one expires.

```yaml
listen: 0.0.0.0:7700
http:
  hosts: [agents.example]
  tls: { cert: tls/cert.pem, key: tls/key.pem }
limits: { token_rate_max: 50 }
```

What programs of agents may use is said for a tool, or for one agent's use of it; sizes are in B, KiB, MiB, GiB or TiB, times in
ms, s, m or h. A privileged tool is for the agents that list it here beside their own grant.

```yaml
tools:
  exec: { mem_limit: 512MiB, time_limit: 30s }
  privileged: [exec]
agents:
  dev: { tools: { exec: { mem_limit: 4GiB }, net: [docs.rs], privileged: [exec] } }
  acme/ops: { tools: { privileged: [exec] } }     # of the tenant acme
```

Servers of your own become tools under `tools.external`; [how](external-tools.md).

Tools are kept from every agent, or from one, by `permissions`, whatever the agents are granted. More, and rules of your own,
are in [permissions and policy](policy.md).

```yaml
permissions: { deny: [exec] }
agents:
  dev: { permissions: { allow: [time.now], deny: ['http.*'] } }
```

Tokens, and users of this machine on the socket, may have roles; your own are names for scopes. More is in
[capabilities](capabilities.md#roles).

```yaml
roles: { courier: { scopes: [invoke] } }
socket: { users: [{ uid: 1001, role: viewer }] }
```

| command | what it does |
|---|---|
| `dromia config validate` | says whether the file can be served, or what is wrong with line and column |
| `dromia config show --origin` | prints every value that counts and where it comes from |
| `dromia config schema` | prints the JSON Schema for editors, as in [dromia.schema.json](dromia.schema.json) |
| `dromia provider add`, `list`, `test`, `remove` | edits and tries the providers |
| `dromia model set`, `list`, `test`, `route show` | edits and tries the models |

The edits keep comments and order, check the new text before it replaces the old one, and keep the old one as
`dromia.yaml.bak`.

## Keys
| key | takes | default | variable | an edit counts | what it is |
|---|---|---|---|---|---|
";

/// Writes the page.
pub(crate) fn reference_page() -> String {
    let mut page = HEAD.to_owned();
    for key in schema::list_keys() {
        let ConfigKey { path, takes, description, .. } = &key;
        let default =
            key.default.as_ref().map_or_else(String::new, |value| format!("`{}`", yaml_value(value)));
        let variable = key.variable.as_ref().map_or_else(String::new, |name| format!("`{name}`"));
        let counts = match key.effect.filter(|_| !key.is_group) {
            Some(KeyEffect::Live) => "in two seconds",
            Some(KeyEffect::Restart) => "at the next start",
            None => "",
        };
        // Writing to a string cannot fail.
        let _infallible =
            writeln!(page, "| `{path}` | {takes} | {default} | {variable} | {counts} | {description} |");
    }
    page
}

/// Writes a value as the file would.
pub(crate) fn yaml_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
