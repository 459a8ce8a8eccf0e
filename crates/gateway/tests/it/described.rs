//! The served document as the tests read it: which operations there are, and whether an answer is one of those that
//! it describes.

use dromia_contracts::token::TokenScope;
use dromia_gateway::routes::{Dialect, ROUTES};
use serde_json::Value;

use crate::client::{Answer, full, request};
use crate::fake::audit::seal_of;
use crate::world::{House, World};

/// One operation of the document.
#[derive(Debug)]
pub(crate) struct Operation {
    pub id: String,
    pub method: String,
    pub path: String,
    /// `nothing`, `credential`, `tenant`, `signature` or `operator`.
    pub needs: String,
    said: Value,
    document: Value,
}

impl World {
    /// Reads the document from the server.
    pub(crate) async fn operations(&self) -> Vec<Operation> {
        let document = self.tcp(request("GET", "/openapi.json").body(full("")).unwrap()).await.json();
        let mut operations = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, said) in methods.as_object().unwrap() {
                operations.push(Operation {
                    id: said["operationId"].as_str().unwrap().to_owned(),
                    method: method.to_ascii_uppercase(),
                    path: path.clone(),
                    needs: said["x-dromia-needs"].as_str().unwrap().to_owned(),
                    said: said.clone(),
                    document: document.clone(),
                });
            }
        }
        assert!(operations.len() >= 28, "{} operations are too few", operations.len());
        operations
    }
}

impl Operation {
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The path to what a house has, with the query parameters that must be there.
    pub(crate) fn path(&self, house: &House) -> String {
        let mut path = self.path.clone();
        for (segment, value) in [
            ("{agent}", house.agent.to_string()),
            ("{session}", house.session.to_string()),
            ("{child}", house.child.to_string()),
            ("{run}", house.run.to_string()),
            ("{fragment}", house.run.to_string()),
            // The server keeps its own.
            ("{tenant}", if self.id == "tenant_delete" { "other" } else { "default" }.to_owned()),
            ("{step}", "1".to_owned()),
            ("{model}", house.agent.to_string()),
            ("{number}", "1".to_owned()),
            ("{token}", house.token_id.to_string()),
            ("{name}", "note".to_owned()),
            ("{delivery}", house.delivery.to_string()),
            ("{budget}", house.budget()),
            ("{record}", format!("act:{}", seal_of(house.run))),
            ("{approval}", house.approval.to_string()),
            ("{rule}", house.budget()),
            ("{channel}", "orders".to_owned()),
            ("{tool}", "file.read".to_owned()),
            ("{file}", "note".to_owned()),
            ("{document}", "SOUL.md".to_owned()),
            ("{template}", "research".to_owned()),
            ("{role}", "coder".to_owned()),
            ("{secret}", house.run.to_string()),
            ("{capability}", house.capability().to_string()),
        ] {
            path = path.replace(segment, &value);
        }
        assert!(!path.contains('{'), "say in `Operation::path` what fills {path}");
        for parameter in self.parameters("query").filter(|parameter| parameter["required"] == true) {
            assert_eq!(parameter["name"], "agent", "say in `Operation::path` what fills {}", self.line());
            path = format!("{path}?agent={}", house.agent);
        }
        path
    }

    /// A body that the operation takes, so that nothing but the caller is wrong.
    pub(crate) fn body(&self, house: &House) -> String {
        if self.said.get("requestBody").is_none() {
            return String::new();
        }
        match self.id.as_str() {
            "event_send" => format!(r#"{{"text":"hi","session":"{}"}}"#, house.session),
            "task_spawn" => r#"{"task":"count"}"#.to_owned(),
            "task_kill" => format!(r#"{{"run":"{}"}}"#, house.run),
            "agent_create" => r#"{"handle":"new","config":{"model":"default"}}"#.to_owned(),
            "agent_change" => r#"{"config":{"model":"default"}}"#.to_owned(),
            "agent_revert" => r#"{"revision":1}"#.to_owned(),
            "chat_complete" | "message_create" | "message_count_tokens" => {
                format!(r#"{{"model":"{}","messages":[{{"role":"user","content":"hi"}}]}}"#, house.agent)
            }
            "response_create" => format!(r#"{{"model":"{}","input":"hi"}}"#, house.agent),
            "token_create" => r#"{"name":"new","scopes":["read"]}"#.to_owned(),
            "secret_set" => {
                r#"{"name":"new","value":"12345678","host":"api.example.com","placement":"bearer"}"#
                    .to_owned()
            }
            "capability_grant" => format!(r#"{{"agent":"{}","rights":["file:write:docs"]}}"#, house.agent),
            "capability_delegate" => format!(r#"{{"agent":"{}"}}"#, house.agent),
            "secret_rotate" => r#"{"value":"12345678"}"#.to_owned(),
            "budget_set" => r#"{"per":"tenant","measure":"calls","period":"day","limit":9}"#.to_owned(),
            "approval_answer" => r#"{"approve":true}"#.to_owned(),
            "approval_rule_set" => r#"{"answer":"allow","rule":"file.read path=notes/**"}"#.to_owned(),
            "agent_rename" | "tenant_create" => r#"{"handle":"new"}"#.to_owned(),
            "document_write" => r#"{"text":"You are kind."}"#.to_owned(),
            "template_render" => "{}".to_owned(),
            "session_import" => "a session".to_owned(),
            "file_put" => "a file".to_owned(),
            "state_put" => "1".to_owned(),
            "tool_call" => r#"{"arguments":{}}"#.to_owned(),
            "feed_move" => r#"{"subscriber":"shop","cursor":0}"#.to_owned(),
            "channel_receive" => r#"{"data":{"text":"hi"}}"#.to_owned(),
            unknown => panic!("say in `Operation::body` what {unknown} takes"),
        }
    }

    /// Whether it names something that another tenant may have.
    pub(crate) fn names_something(&self) -> bool {
        let named = [
            "event_send",
            "session_import",
            "chat_complete",
            "message_create",
            "message_count_tokens",
            "response_create",
            "capability_grant",
        ];
        // Every tenant has the same tools and templates, and may give its budgets any name.
        let everybodys =
            ["tool_show", "budget_set", "approval_rule_set", "template_show", "template_render", "role_show"]
                .contains(&self.id.as_str());
        (self.path.contains('{') && !everybodys) || named.contains(&self.id.as_str())
    }

    /// Whether it is of another API, in whose words it fails.
    pub(crate) fn is_foreign(&self) -> bool {
        ROUTES.iter().any(|route| {
            (route.method, route.path) == (&*self.method, &*self.path) && route.dialect != Dialect::Dromia
        })
    }

    /// The code of a refusal, in the shape of the operation's API.
    pub(crate) fn code(&self, answer: &Answer) -> String {
        if self.is_foreign() { answer.foreign_code() } else { answer.code() }
    }

    /// Whether somebody of a tenant asks.
    pub(crate) fn is_of_a_tenant(&self) -> bool {
        matches!(self.needs.as_str(), "credential" | "tenant")
    }

    /// Whether it is let in by a signature; such an operation has tests of its own.
    pub(crate) fn is_signed(&self) -> bool {
        self.needs == "signature"
    }

    /// The scope that an operation of a tenant needs.
    pub(crate) fn scope(&self) -> TokenScope {
        self.said["x-dromia-scope"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn takes_json(&self) -> bool {
        self.said["requestBody"]["content"].get("application/json").is_some()
    }

    pub(crate) fn takes_body(&self) -> bool {
        self.said.get("requestBody").is_some()
    }

    pub(crate) fn parameters(&self, place: &str) -> impl Iterator<Item = &Value> {
        let parameters = self.said["parameters"].as_array().into_iter().flatten();
        parameters.filter(move |parameter| parameter["in"] == place)
    }

    /// Checks that the document has this answer: its status, its kind, its code and its shape.
    pub(crate) fn describes(&self, answer: &Answer) {
        let line = self.line();
        let response = &self.said["responses"][answer.status.as_str()];
        assert!(response.is_object(), "{line} answers {}, which is not described", answer.status);
        let Some(media) = answer.headers.get("content-type") else {
            assert!(response["content"].is_null(), "{line} has no content, and one is described");
            return;
        };
        let media = media.to_str().unwrap();
        let media = media.split(';').next().unwrap();
        let content = &response["content"][media];
        assert!(content.is_object(), "{line} answers {media}, which is not described");
        if let Some(codes) = response["x-dromia-codes"].as_array().filter(|_| !self.is_foreign()) {
            let code = answer.code();
            assert!(codes.iter().any(|known| *known == code), "{line} fails with {code}: {codes:?}");
        }
        // Lines of JSON are no document of it.
        if media == "application/json" || media.ends_with("+json") {
            let fits = fits(&self.document, &content["schema"], &answer.json());
            assert_eq!(fits, Ok(()), "{line} answers {}: {:?}", answer.status, answer.body);
        }
    }
}

/// Checks a value against a schema, as far as our schemas go. A field that the schema does not name is a fault: the
/// document would be incomplete.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let Some(said) = schema.as_object() else { return Ok(()) };
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.strip_prefix('#').unwrap()).unwrap();
        return fits(document, target, value).map_err(|error| format!("{reference}: {error}"));
    }
    if said.get("const").is_some_and(|only| only != value) {
        return Err(format!("{value} is not {}", said["const"]));
    }
    if said.get("enum").is_some_and(|known| !known.as_array().unwrap().contains(value)) {
        return Err(format!("{value} is none of {}", said["enum"]));
    }
    if let Some(variants) = said.get("anyOf").or_else(|| said.get("oneOf")) {
        let errors = variants.as_array().unwrap().iter().map(|variant| fits(document, variant, value).err());
        let errors: Vec<_> = errors.collect();
        if errors.iter().all(Option::is_some) {
            return Err(format!("{value} fits no variant: {errors:?}"));
        }
    }
    let is = |kind: &Value| match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    };
    match said.get("type") {
        Some(Value::Array(kinds)) if !kinds.iter().any(is) => {
            return Err(format!("{value} is none of {kinds:?}"));
        }
        Some(kind @ Value::String(_)) if !is(kind) => return Err(format!("{value} is no {kind}")),
        _ => {}
    }
    if let Some(fields) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(name.as_str().unwrap()) {
                return Err(format!("{name} is missing"));
            }
        }
        for (name, field) in fields {
            let known = schema["properties"].get(name).or_else(|| said.get("additionalProperties"));
            match known {
                Some(known) => fits(document, known, field).map_err(|error| format!("{name}: {error}"))?,
                None if said.contains_key("properties") => return Err(format!("{name} is not described")),
                None => {}
            }
        }
    }
    for item in value.as_array().into_iter().flatten() {
        fits(document, &schema["items"], item)?;
    }
    Ok(())
}
