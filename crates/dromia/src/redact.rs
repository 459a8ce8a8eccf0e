//! Takes secrets out of what people paste: by the name of a key, by the form of a text, and by its very bytes.
//!
//! A value that is known to be secret (a variable that is named like one, one that the configuration refers to, the
//! token file) is replaced wherever it occurs, also in the middle of a message.

use serde_json::Value;

use crate::config;
use crate::doctor;
use crate::home::Home;

/// The variables of this process that are text.
pub(crate) fn process_variables() -> Vec<(String, String)> {
    let texts = std::env::vars_os();
    texts.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// The text in place of a secret.
pub(crate) const REDACTED: &str = "(redacted)";

/// Shorter values are too common to be searched for.
const KNOWN_BYTES_MIN: usize = 6;

/// Words in the name of a key or variable that make its value a secret.
const NAMES: [&str; 9] =
    ["key", "token", "secret", "password", "passwd", "credential", "authorization", "cookie", "headers"];

/// How the secrets of well-known issuers begin.
const PREFIXES: [&str; 26] = [
    "sk-",
    "sk_",
    "rk_",
    "pk_",
    "drm_",
    "whsec_",
    "ghp_",
    "gho_",
    "github_pat_",
    "glpat-",
    "xox",
    "AKIA",
    "AIza",
    "hf_",
    "eyJ",
    "ghs_",
    "ghu_",
    "ghr_",
    "ASIA",
    "npm_",
    "pypi-",
    "ya29.",
    "SG.",
    "dop_v1_",
    "shpat_",
    "AGE-SECRET-KEY-",
];

/// The fewest characters behind such a beginning.
const REST_CHARS_MIN: usize = 6;

/// Knows what must not be shown.
#[derive(Debug, Default)]
pub(crate) struct Redactor {
    known: Vec<String>,
}

impl Redactor {
    /// Learns every secret that this process can know: variables that are named like secrets or that the configuration
    /// refers to, and the token of the home.
    pub(crate) fn from_home(home: &Home, variables: &[(String, String)], written: Option<&Value>) -> Self {
        let (mut redactor, mut referred) = (Self::default(), Vec::new());
        if let Some(written) = written {
            doctor::visit_texts(written, "", &mut |_, text| {
                referred.extend(text.strip_prefix("env:").map(str::to_owned));
            });
        }
        for (name, value) in variables {
            if is_secret_name(name) || referred.contains(name) {
                redactor.add_secret(value);
            }
        }
        if let Ok(token) = std::fs::read_to_string(home.token_path()) {
            redactor.add_secret(&token);
        }
        redactor
    }

    /// Learns a value that must not be shown.
    pub(crate) fn add_secret(&mut self, secret: &str) {
        let secret = secret.trim();
        if secret.len() < KNOWN_BYTES_MIN {
            return;
        }
        // As it is, and as JSON and lines of the log spell it.
        let spelled = Value::from(secret).to_string();
        let spelled = spelled.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(secret);
        for form in [secret, spelled].map(str::to_owned) {
            if !self.known.contains(&form) {
                self.known.push(form);
            }
        }
        // The longest first, so that no part of one is left when another is inside it.
        self.known.sort_by_key(|known| std::cmp::Reverse(known.len()));
    }

    /// Takes the secrets out of a text.
    pub(crate) fn redact_text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for known in &self.known {
            text = text.replace(known.as_str(), REDACTED);
        }
        without_private_keys(&text).split_inclusive(is_border).map(redact_word).collect()
    }

    /// Takes the secrets out of a document: every value under a name like one, and what looks like one elsewhere.
    pub(crate) fn redact_document(&self, value: &Value) -> Value {
        self.redact_value(value, false)
    }

    fn redact_value(&self, value: &Value, is_secret: bool) -> Value {
        match value {
            // A reference names where the secret is and does not tell it.
            Value::String(text) if is_secret && !is_reference(text) => REDACTED.into(),
            Value::String(text) => self.redact_text(text).into(),
            Value::Number(_) if is_secret => REDACTED.into(),
            Value::Array(items) => items.iter().map(|item| self.redact_value(item, is_secret)).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| {
                    (self.redact_text(name), self.redact_value(value, is_secret || is_secret_name(name)))
                })
                .collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }
}

/// Whether a key or variable of this name holds a secret. Counts of tokens are none.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_count = name.ends_with("_max") || name.ends_with("_tokens");
    !is_count && NAMES.iter().any(|word| name.contains(word))
}

fn is_reference(text: &str) -> bool {
    let name = text.strip_prefix("env:").or_else(|| config::vault_name(text));
    name.is_some_and(|name| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    })
}

fn is_border(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '"' | '\'' | ',' | ';' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | '`')
}

/// Takes private keys out that are written as PEM, also without their end.
fn without_private_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    const END: &str = "-----END ";
    const LINE: &str = "-----";
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(BEGIN) {
        let (before, block) = rest.split_at(at);
        out.push_str(before);
        let label = block[BEGIN.len()..].split(LINE).next().unwrap_or_default();
        if label.ends_with("PRIVATE KEY") {
            out.push_str(REDACTED);
            let end = block.find(END).map(|at| at + END.len());
            let end = end.and_then(|at| block[at..].find(LINE).map(|more| at + more + LINE.len()));
            rest = &block[end.unwrap_or(block.len())..];
        } else {
            out.push_str(BEGIN);
            rest = &block[BEGIN.len()..];
        }
    }
    out.push_str(rest);
    out
}

/// Takes the secrets out of a word with the border after it.
fn redact_word(word: &str) -> String {
    let bare = word.trim_end_matches(is_border);
    format!("{}{}", redact_known_shapes(&redact_url(bare)), &word[bare.len()..])
}

/// Takes out what begins as secrets of well-known issuers do, wherever in a word it begins, such as behind `=`, `:` or `/`.
fn redact_known_shapes(text: &str) -> String {
    let goes_on = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '/' | '=' | '~');
    let (mut out, mut rest) = (String::new(), text);
    let mut before = None;
    while let Some(first) = rest.chars().next() {
        let is_inside = before.is_some_and(char::is_alphanumeric);
        let found = PREFIXES.iter().find(|prefix| !is_inside && rest.starts_with(**prefix));
        let length = found.map_or(0, |_| rest.find(|c: char| !goes_on(c)).unwrap_or(rest.len()));
        if found.is_some_and(|prefix| length >= prefix.len() + REST_CHARS_MIN) {
            out.push_str(REDACTED);
            rest = &rest[length..];
            before = None;
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            before = Some(first);
        }
    }
    out
}

/// Takes user, password and query out of a URL.
pub(crate) fn redact_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (place, query) = rest.split_once('?').map_or((rest, ""), |(place, query)| (place, query));
    let (authority, path) =
        place.split_once('/').map_or((place, None), |(authority, path)| (authority, Some(path)));
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{REDACTED}@{host}"),
        None => authority.to_owned(),
    };
    let path = path.map(|path| format!("/{path}")).unwrap_or_default();
    let query = if query.is_empty() { String::new() } else { format!("?{REDACTED}") };
    format!("{scheme}://{authority}{path}{query}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_redacts_secrets_by_key_name_form_and_bytes() {
        let mut redactor = Redactor::default();
        redactor.add_secret("correct horse battery");
        let shown = redactor.redact_document(&json!({
            "key": "literal", "reference": { "key": "env:OPENAI_API_KEY" }, "api_key": 12345,
            "note": "it is sk-abcdef123456, and correct horse battery",
            "base_url": "https://ada:pw@host:8080/v1?api-version=1&sig=abc",
            "headers": { "x-team": "blue" }, "output_tokens_max": 4096, "model": "gpt-5-mini",
        }));
        insta::assert_snapshot!(serde_json::to_string_pretty(&shown).expect("is JSON"), @r#"
        {
          "api_key": "(redacted)",
          "base_url": "https://(redacted)@host:8080/v1?(redacted)",
          "headers": {
            "x-team": "(redacted)"
          },
          "key": "(redacted)",
          "model": "gpt-5-mini",
          "note": "it is (redacted), and (redacted)",
          "output_tokens_max": 4096,
          "reference": {
            "key": "env:OPENAI_API_KEY"
          }
        }
        "#);
    }

    #[test]
    fn a_json_escaped_secret_is_redacted() {
        let mut redactor = Redactor::default();
        let secret = "pa\"ss\\word\nmore\tof\u{1} it";
        redactor.add_secret(secret);
        let document = json!({ "x": secret }).to_string();
        assert!(document.contains(r#"pa\"ss\\word\nmore\tof\u0001 it"#), "{document}");
        for text in [&format!("it is {secret}."), &document] {
            let shown = redactor.redact_text(text);
            assert!(shown.contains(REDACTED) && !shown.contains("word"), "{shown}");
        }
    }

    #[test]
    fn a_secret_in_a_message_is_redacted() {
        let redactor = Redactor::default();
        for (text, shown) in [
            (
                "invalid type: string \"sk-live-0123456789\", expected",
                "invalid type: string \"(redacted)\", expected",
            ),
            ("TOKEN=drm_0123456789abcdef", "TOKEN=(redacted)"),
            ("Bearer eyJhbGciOi.abc", "Bearer (redacted)"),
            ("a plain text, with https://host/v1", "a plain text, with https://host/v1"),
            ("sk-", "sk-"),
            ("to \"http://sk-abcdef123456.invalid:80\", now", "to \"http://(redacted):80\", now"),
            ("a=1&key=AKIAIOSFODNN7EXAMPLE&b=2", "a=1&key=(redacted)&b=2"),
            (
                "risk-assessments, desk-research: task-manager",
                "risk-assessments, desk-research: task-manager",
            ),
            (
                "it is -----BEGIN RSA PRIVATE KEY-----\\nMIIEow==\\n-----END RSA PRIVATE KEY-----, see",
                "it is (redacted), see",
            ),
            ("-----BEGIN PRIVATE KEY-----\nMIIEow", "(redacted)"),
            (
                "-----BEGIN CERTIFICATE-----\nMIIEow\n-----END CERTIFICATE-----",
                "-----BEGIN CERTIFICATE-----\nMIIEow\n-----END CERTIFICATE-----",
            ),
        ] {
            assert_eq!(redactor.redact_text(text), shown);
        }
    }

    #[test]
    fn names_of_counts_are_no_names_of_secrets() {
        for name in ["OPENAI_API_KEY", "authorization", "my_token", "DB_PASSWORD"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["output_tokens_max", "input_tokens", "model", "listen", "DROMIA_HOME"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
