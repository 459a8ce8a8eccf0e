//! External tools: servers of others that the operator registers as tools.
//!
//! A call is one POST to the tool's own address, with the canonical arguments as its body and the call's key as
//! `idempotency-key`. The address is the operator's and never the model's, so an agent needs a grant for the tool and
//! none for the host. No redirect is followed. What comes back has the label that the operator gives it, which is
//! untrusted where nothing is said; only the numbers are facts.
//!
//! A repeated call after a crash is judged by the effect class that the operator declares; `unkeyed` where nothing is
//! said. A secret is the tenant's of that name; the operator's registration is the word for it, so an agent that may call
//! the tool uses the secret there and nowhere else.
//!
//! It refuses: a name that a grant for built-in tools would cover, a role for an argument that is not in the schema, and a
//! schema that refers to anything outside itself.

mod arguments;
mod references;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::Digest;
use dromia_contracts::content::{ContentPart, ToolCall};
use dromia_contracts::egress::{EgressClient, EgressError, EgressRequest, EgressResponse, HttpMethod};
use dromia_contracts::label::Label;
use dromia_contracts::tool::{
    ArgumentRole, EffectClass, EffectSink, PrepareError, PreparedCall, RecordFields, Sensitivity,
    ToolContext, ToolDescriptor, ToolManifest, ToolOutput,
};
use dromia_contracts::tool_catalogue::CatalogueTool;
use dromia_contracts::vault::{self, LeakDetector, SecretPlacement, SecretUse};
use serde_json::Value;

use self::arguments::ArgumentSchema;
use crate::action_digest::action_digest;
use crate::arguments::READ_BYTES_MAX;
use crate::audience::ToolAudience;
use crate::catalogue::BuiltinTool;
use crate::files::fact_part;
use crate::spilled_output::{KEPT_BYTES_MAX, LongOutput, is_readable};
use crate::web::{self, AROUND_BYTES, HttpUrl};

/// The longest name. Where a provider takes fewer characters, it travels as a digest and its end.
pub const NAME_BYTES_MAX: usize = 128;
/// The longest description; it is sent with every request to a model.
pub const DESCRIPTION_BYTES_MAX: usize = 2 << 10;

/// The first words of names that are no external tool's: grants would read them otherwise.
const RESERVED: [&str; 8] = ["model", "reply", "net", "secret", "privileged", "delay", "ask", "deny"];

/// What the operator says about an external tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalSpec {
    /// Its name, a family and a word such as `bank.pay`.
    pub name: String,
    /// What it is for, as models read it.
    pub description: String,
    /// The JSON Schema of its arguments.
    pub arguments: BTreeMap<String, Value>,
    /// What a repeated call may do.
    pub effect: EffectClass,
    /// Where what it does is seen.
    pub sink: EffectSink,
    /// The role of each argument, by its name.
    pub roles: BTreeMap<String, ArgumentRole>,
    /// The label of what it returns.
    pub result_label: Label,
    /// How sensitive its answers are; if not given, what its secret opens decides.
    pub sensitivity: Option<Sensitivity>,
    /// What the records in its answers are called.
    pub records: Option<RecordFields>,
    /// The address to which calls are posted.
    pub url: String,
    /// The name of the secret that is sent along, and where in the request it is.
    pub secret: Option<(String, SecretPlacement)>,
    /// Whose agents it is for.
    pub audience: ToolAudience,
}

/// Why a tool cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ExternalProblem {
    /// The key that is wrong, such as `roles.recipient`; empty for the name.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

impl ExternalProblem {
    fn at_key(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }
}

/// An external tool whose description is sound.
#[derive(Debug, Clone)]
pub struct ExternalTool {
    entry: CatalogueTool,
    digest: Digest,
    audience: ToolAudience,
    sink: EffectSink,
    url: String,
    secret: Option<(String, SecretPlacement)>,
    shape: ArgumentSchema,
}

impl ExternalTool {
    /// Checks what the operator says.
    pub fn new(spec: ExternalSpec) -> Result<Self, ExternalProblem> {
        let ExternalSpec {
            name,
            description,
            arguments,
            effect,
            sink,
            roles,
            result_label,
            sensitivity,
            records,
            url,
            secret,
            audience,
        } = spec;
        is_name(&name).map_err(|problem| ExternalProblem::at_key("", problem))?;
        if description.trim().is_empty() || description.len() > DESCRIPTION_BYTES_MAX {
            let problem = format!("must describe the tool in at most {DESCRIPTION_BYTES_MAX} bytes");
            return Err(ExternalProblem::at_key("description", problem));
        }
        let (shape, parameters) = ArgumentSchema::new(arguments)
            .map_err(|problem| ExternalProblem::at_key("arguments", problem))?;
        if let Some(unknown) = roles.keys().find(|name| parameters["properties"].get(name).is_none()) {
            let problem = format!("`properties` has no argument {unknown:?}");
            return Err(ExternalProblem::at_key(format!("roles.{unknown}"), problem));
        }
        if effect == EffectClass::Transactional {
            let problem = "an external tool cannot commit together with its result; write pure, idempotent, \
                           keyed or unkeyed";
            return Err(ExternalProblem::at_key("effect", problem));
        }
        let url = HttpUrl::parse(&url).map_err(|problem| ExternalProblem::at_key("url", problem))?.into();
        if secret.as_ref().is_some_and(|(name, _)| !vault::is_name(name)) {
            return Err(ExternalProblem::at_key(
                "secret",
                format!("a secret's name is {}", vault::NAME_RULE),
            ));
        }
        if secret.as_ref().is_some_and(|(_, placement)| placement.request_slot().is_none()) {
            let problem = "a signing secret is never sent; write bearer, header:NAME or query:NAME";
            return Err(ExternalProblem::at_key("placement", problem));
        }
        if records.as_ref().is_some_and(|RecordFields { keys, names }| keys.is_empty() || names.is_empty()) {
            let problem = "name the fields of a record: at least one of `keys` and one of `names`";
            return Err(ExternalProblem::at_key("records", problem));
        }
        let opened = if secret.is_some() { Sensitivity::High } else { Sensitivity::Low };
        let sensitivity = sensitivity.unwrap_or(opened);
        let roles = roles.into_iter().collect();
        let descriptor = ToolDescriptor {
            name,
            description,
            parameters,
            effect,
            roles,
            result_label,
            sensitivity,
            records,
        };
        // Strings and JSON values only: serialization has no failing case.
        let digest = blake3::hash(&serde_json::to_vec(&descriptor).unwrap_or_default());
        let digest = Digest::from_bytes(*digest.as_bytes());
        let entry = CatalogueTool::from_configuration(descriptor);
        Ok(Self { entry, digest, audience, sink, url, secret, shape })
    }

    /// Returns it as catalogues list it.
    pub(crate) fn catalogue_entry(&self) -> &CatalogueTool {
        &self.entry
    }

    /// Returns the digest of what it says about itself.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns whose agents it is for.
    pub fn audience(&self) -> &ToolAudience {
        &self.audience
    }

    /// Returns what it says about itself.
    pub fn descriptor(&self) -> &ToolDescriptor {
        self.entry.descriptor()
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.descriptor().name
    }

    /// Returns the canonical address to which calls are posted.
    pub fn server_url(&self) -> &str {
        &self.url
    }

    /// Returns the facts of it that a policy gets.
    pub(crate) fn manifest(&self) -> ToolManifest {
        ToolManifest { sink: self.sink, roles: self.descriptor().roles.iter().cloned().collect() }
    }

    /// Puts a call into canonical form.
    pub(crate) fn prepare_call(&self, call: &ToolCall) -> Result<PreparedCall, PrepareError> {
        prepare_by_schema(self.name(), self.descriptor().effect, &self.shape, call)
    }

    /// Refuses arguments that were judged by an earlier definition and do not match this one.
    pub(crate) fn check_judged(&self, arguments: &str) -> Result<(), String> {
        let checked = self.shape.canonical_arguments(arguments);
        checked.map(drop).map_err(|problem| {
            format!(
                "the configuration changed this tool after the run began, and now {problem}; nothing was done"
            )
        })
    }

    /// Posts a prepared call, and returns the answer; gives back a body that is longer than what is shown, to be kept.
    pub(crate) async fn post_call(
        &self,
        line: &dyn EgressClient,
        leaks: &dyn LeakDetector,
        context: &ToolContext,
        arguments: String,
    ) -> (ToolOutput, Option<LongOutput>) {
        let scope = &context.scope;
        let used = self.secret.as_ref();
        let secrets: Vec<_> = used
            .and_then(|(name, placement)| {
                Some(SecretUse { scope: scope.clone(), name: name.clone(), slot: placement.request_slot()? })
            })
            .into_iter()
            .collect();
        let around = if secrets.is_empty() { 0 } else { AROUND_BYTES };
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let request = EgressRequest {
            method: HttpMethod::Post,
            url: self.url.clone(),
            headers: vec![
                header("accept", "application/json, text/plain;q=0.9, */*;q=0.1"),
                header("content-type", "application/json"),
                header("idempotency-key", &context.key),
            ],
            body: Bytes::from(arguments),
            grants: used.map(|(name, _)| format!("{}{name}", vault::GRANT)).into_iter().collect(),
            share: scope.tenant().to_string(),
            secrets,
        };
        let response = match line.send_request(request).await {
            Ok(response) => response,
            Err(EgressError { failure, is_sent, decisions }) => {
                let may_have_acted = is_sent && self.descriptor().effect != EffectClass::Pure;
                return (web::failure_output(&failure, may_have_acted, decisions), None);
            }
        };
        let EgressResponse { status, headers: _, url: _, decisions, mut body } = response;
        let limit = READ_BYTES_MAX as usize;
        let most = if is_readable(&context.grants) { KEPT_BYTES_MAX } else { limit };
        let read = web::read_window(&mut *body, 0, most, around).await;
        let Some(mut piece) = read.mask_and_cut(leaks, scope, 0, most).await else {
            let text =
                "the answer is withheld: the server cannot check now whether it contains a secret".to_owned();
            let parts = vec![fact_part(text)];
            return (ToolOutput { failed: true, parts, egress: decisions, ..ToolOutput::default() }, None);
        };
        let long = piece.shorten_to(limit);
        let mut parts = vec![fact_part(piece.status_line(status, 0, HttpMethod::Post))];
        if (300..400).contains(&status) {
            parts.push(fact_part("[the server redirects, and external tools do not follow redirects]"));
        }
        if !piece.bytes.is_empty() {
            let text = String::from_utf8_lossy(&piece.bytes);
            parts.push(ContentPart::new_text(text, self.descriptor().result_label));
        }
        let failed = piece.torn.is_some() || !(200..300).contains(&status);
        (ToolOutput { failed, parts, egress: decisions, ..ToolOutput::default() }, long)
    }
}

/// Puts a call into canonical form by the definition that its run began with, although the operator's is another one now.
/// Whether a crash may repeat it, the stricter of both says.
pub(crate) fn prepare_by(
    own: &ToolDescriptor,
    now: Option<&ExternalTool>,
    call: &ToolCall,
) -> Result<PreparedCall, PrepareError> {
    let unreadable = |problem| PrepareError::Arguments { tool: own.name.clone(), problem };
    let written =
        serde_json::from_value(own.parameters.clone()).map_err(|error| unreadable(error.to_string()))?;
    let (shape, _) = ArgumentSchema::new(written).map_err(unreadable)?;
    let current = now.map_or(own.effect, |now| now.descriptor().effect);
    let effect = if current.may_repeat() { own.effect } else { current };
    prepare_by_schema(&own.name, effect, &shape, call)
}

fn prepare_by_schema(
    name: &str,
    effect: EffectClass,
    shape: &ArgumentSchema,
    call: &ToolCall,
) -> Result<PreparedCall, PrepareError> {
    let arguments = shape
        .canonical_arguments(&call.arguments)
        .map_err(|problem| PrepareError::Arguments { tool: name.to_owned(), problem })?;
    Ok(PreparedCall {
        id: call.id,
        tool: name.to_owned(),
        effect,
        action: action_digest(name, &arguments),
        arguments,
        // Where it goes is the operator's matter: the grant for the tool covers it.
        reaches: None,
        network: None,
        contents: None,
    })
}

/// An external tool with the line to its server.
#[derive(Debug)]
pub(crate) struct RegisteredTool {
    pub(crate) tool: ExternalTool,
    pub(crate) line: Arc<dyn EgressClient>,
}

/// Checks a name: words with dots between them, as a grant spells them, of a family that no built-in tool is of.
fn is_name(name: &str) -> Result<(), String> {
    let is_word = |word: &str| {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        let is_clear = !word.starts_with('_') && !word.ends_with('_') && !word.contains("__");
        !word.is_empty() && word.bytes().all(good) && is_clear
    };
    let family = name.split('.').next().unwrap_or_default();
    if name.len() > NAME_BYTES_MAX || !name.contains('.') || !name.split('.').all(is_word) {
        return Err(format!(
            "the name of an external tool has a family and a word, such as bank.pay: a-z, 0-9, - and single _ \
             inside words, dots between them, at most {NAME_BYTES_MAX} bytes"
        ));
    }
    let is_taken = |tool: BuiltinTool| tool.name().split('.').next() == Some(family);
    if RESERVED.contains(&family) || BuiltinTool::ALL.into_iter().any(is_taken) {
        return Err(format!("{family} begins the names of built-in tools; choose another family"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_a_family_of_its_own() {
        for good in ["bank.pay", "crm-2.find_by_name", "a.b.c"] {
            assert_eq!(is_name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "pay",
            "Bank.pay",
            "bank.",
            ".pay",
            "bank._pay",
            "bank.a__b",
            "bank.pa y",
            "file.send",
            "exec.now",
            "http.post",
            "time.zone",
            "model.x",
            "net.x",
            "secret.x",
            "ask.x",
        ] {
            assert!(is_name(bad).is_err(), "{bad}");
        }
        assert_eq!(is_name(&format!("a.{}", "b".repeat(126))), Ok(()));
        assert!(is_name(&format!("a.{}", "b".repeat(127))).is_err());
    }
}
