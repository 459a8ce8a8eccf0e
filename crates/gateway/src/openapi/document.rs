//! The document: the route table joined with the operations, and what every route shares.

use std::collections::{BTreeMap, BTreeSet};

use dromia_api::problem::http_status;
use dromia_api::{
    DeliveryId, IDEMPOTENCY_HEADER, IDEMPOTENCY_KEY_BYTES_MAX, REPLAYED_HEADER, REQUEST_ID_HEADER, RunId,
    SessionId, TENANT_DEFAULT, TENANT_HEADER,
};
use dromia_contracts::ErrorCode;
use dromia_contracts::store::StatePut;
use serde_json::{Map, Value, json};

use super::examples::add_examples;
use super::operation::{Operation, OperationBody, schema_of};
use super::plain_schemas::simplify_schemas;
use super::schemas::SchemaRegistry;
use super::table::all_operations;
use crate::keyed_change::KeyUse;
use crate::routes::{Needs, ROUTES, Route};

const DESCRIPTION: &str = "Every failure is a problem (RFC 9457) with a stable `code`. Requests refuse unknown \
    fields, so a misspelt one is an error; answers may gain fields. Ids travel in their text form, times as RFC 3339, \
    money in millionths of the price table's currency unit. Listings are paged: `next` is the `after` of the page \
    that follows.";

/// Describes every route.
pub fn build_document() -> Value {
    let mut schemas = SchemaRegistry::new();
    let operations = all_operations();
    let mut paths = Map::new();
    let mut tags = Vec::new();
    for route in ROUTES {
        let same = |known: &&Operation| known.method == route.method && known.path == route.path;
        let Some(operation) = operations.iter().find(same) else { continue };
        let tag = operation_tag(route.path);
        if !tags.contains(&tag) {
            tags.push(tag);
        }
        let described = describe_operation(route, operation, tag, &mut schemas);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = described;
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Dromia",
            "summary": "An operating system for LLM agents.",
            "description": DESCRIPTION,
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT"},
        },
        "servers": [{"url": "/", "description": "The server that gives this document."}],
        "tags": tags.iter().map(|tag| json!({"name": tag})).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token of a tenant, over TCP. On the Unix socket the system identifies the \
                                caller, who needs no token.",
            }},
            "parameters": {"tenant": {
                "name": TENANT_HEADER,
                "in": "header",
                "required": false,
                "description": format!("On the Unix socket, the handle of the tenant; `{TENANT_DEFAULT}` if \
                                        absent. Over TCP the token determines the tenant, and this header has \
                                        no effect."),
                "schema": {"type": "string"},
            }},
            "headers": {"request_id": {
                "required": true,
                "description": "An id for the request; the server's log contains it.",
                "schema": {"type": "string"},
            }},
        },
    });
    let mut components = Value::Object(schemas.finish(&mut document));
    for described in [&mut document, &mut components] {
        clean_descriptions(described);
    }
    document["components"]["schemas"] = components;
    simplify_schemas(&mut document);
    add_examples(&mut document);
    document
}

/// Groups a route by the noun that its path begins with.
fn operation_tag(path: &'static str) -> &'static str {
    let noun = path.strip_prefix("/v1/").and_then(|rest| rest.split('/').next());
    noun.unwrap_or("node")
}

fn describe_operation(
    route: &Route,
    operation: &Operation,
    tag: &str,
    schemas: &mut SchemaRegistry,
) -> Value {
    let token = json!([{"token": []}]);
    let (needs, security, description) = match route.needs {
        Needs::Nothing => ("nothing", json!([]), "Needs no credential.".to_owned()),
        Needs::Credential => ("credential", token, "Needs a credential of a tenant.".to_owned()),
        Needs::Tenant(scope) => ("tenant", token, format!("Needs a credential with the scope `{scope}`.")),
        Needs::Signature => {
            ("signature", json!([]), "Needs a signature with the secret of the channel.".to_owned())
        }
        Needs::Operator => {
            ("operator", token, "Served on the Unix socket only; forbidden over TCP.".to_owned())
        }
    };
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "description": description,
        "tags": [tag],
        "security": security,
        "x-dromia-needs": needs,
        "responses": describe_responses(route, operation, schemas),
    });
    if let Needs::Tenant(scope) = route.needs {
        described["x-dromia-scope"] = scope.as_str().into();
    }
    let parameters = describe_parameters(route, operation, schemas);
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(takes) = &operation.takes {
        let schema = takes
            .schema
            .map_or_else(binary_content, |schema| json!({"schema": schemas.request_schema(schema)}));
        described["requestBody"] = json!({"required": true, "content": {takes.media: schema}});
        if let Some(example) = operation.example {
            described["requestBody"]["content"][takes.media]["example"] = example();
        }
    }
    described
}

fn describe_parameters(route: &Route, operation: &Operation, schemas: &mut SchemaRegistry) -> Vec<Value> {
    let mut parameters = Vec::new();
    for name in path_segments(route.path) {
        let mut parameter = json!({"name": name, "in": "path", "required": true});
        parameter["schema"] = match name {
            "run" => schemas.request_schema(schema_of::<RunId>()),
            "session" | "child" => schemas.request_schema(schema_of::<SessionId>()),
            "delivery" => schemas.request_schema(schema_of::<DeliveryId>()),
            "step" | "number" => json!({"type": "integer", "minimum": 1}),
            "name" => json!({"type": "string", "minLength": 1, "maxLength": StatePut::NAME_BYTES_MAX}),
            _ => json!({"type": "string", "minLength": 1}),
        };
        if let Some(what) = segment_description(name) {
            parameter["description"] = what.into();
        }
        parameters.push(parameter);
    }
    if let Some(query) = operation.query {
        let fields = schemas.request_schema(query);
        let required = |name: &str| {
            let required = fields["required"].as_array();
            required.is_some_and(|required| required.iter().any(|known| known == name))
        };
        for (name, schema) in fields["properties"].as_object().into_iter().flatten() {
            let mut schema = without_null(schema);
            let what = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let required = required(name);
            let mut parameter = json!({"name": name, "in": "query", "required": required, "schema": schema});
            parameter["description"] = what.unwrap_or_default();
            parameters.push(parameter);
        }
    }
    let key = route.key_use().description().map(|what| (IDEMPOTENCY_HEADER, what));
    for (name, what) in operation.headers.iter().chain(&key) {
        let mut schema = json!({"type": "string"});
        if *name == IDEMPOTENCY_HEADER {
            schema = json!({"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_BYTES_MAX});
        }
        parameters.push(
            json!({"name": name, "in": "header", "required": false, "description": what, "schema": schema}),
        );
    }
    if is_of_a_tenant(route) {
        parameters.push(json!({"$ref": "#/components/parameters/tenant"}));
    }
    parameters
}

fn is_of_a_tenant(route: &Route) -> bool {
    matches!(route.needs, Needs::Credential | Needs::Tenant(_))
}

/// Lists the variable segments of a path.
pub(super) fn path_segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

/// Says what a variable segment of a path is.
pub(super) fn segment_description(name: &str) -> Option<&'static str> {
    Some(match name {
        "tenant" => "The tenant's handle.",
        "agent" => "The agent's handle or id.",
        "session" => "The session's id.",
        "child" => "The id of the branch or worker, which is that of its session.",
        "run" => "The run's id.",
        "fragment" => {
            "An id, or its first or last digits, at least 4; with or without the prefix of its noun."
        }
        "step" => "The model step, counted from 1.",
        "number" => "The number of the revision, counted from 1.",
        "model" => "The agent's handle or id, which these APIs call a model.",
        "token" => "The token's id or name.",
        "tool" => "The tool's name.",
        "secret" => "The secret's name.",
        "capability" => "The capability's id.",
        "delivery" => "The delivery's id.",
        "approval" => "The approval's id.",
        "rule" => "The rule's name.",
        "budget" => "The budget's name.",
        "record" => "The record's id, as a listing names it.",
        "channel" => "The channel's name, as in dromia.yaml.",
        "file" => "The file's path in the workspace, with `%2F` for each slash.",
        "template" => "The template's name, such as `research`.",
        "role" => "The role's name, such as `coder`.",
        "document" => "The document's name, such as `SOUL.md`, with `%2F` for each slash.",
        "name" => "The name of the state entry, without control characters.",
        _ => return None,
    })
}

/// A parameter that is absent is not sent, so `null` is none of its values.
fn without_null(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let is_null = |value: &Value| value == "null" || value["type"] == "null";
    if let Some(types) = schema.get_mut("type")
        && let Some(kinds) = types.as_array_mut()
    {
        kinds.retain(|kind| !is_null(kind));
        if let [only] = kinds.as_slice() {
            *types = only.clone();
        }
    }
    if let Some(variants) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        variants.retain(|variant| !is_null(variant));
        if let [only] = variants.as_slice() {
            let only = only.clone();
            if let (Some(fields), Value::Object(only)) = (schema.as_object_mut(), only) {
                fields.remove("anyOf");
                fields.extend(only);
            }
        }
    }
    schema
}

fn describe_responses(route: &Route, operation: &Operation, schemas: &mut SchemaRegistry) -> Value {
    let header = json!({REQUEST_ID_HEADER: {"$ref": "#/components/headers/request_id"}});
    let mut given_header = header.clone();
    if route.key_use() == KeyUse::AnswerKept {
        given_header[REPLAYED_HEADER] = json!({
            "description": "`true` where a request with the same idempotency key got this answer before.",
            "schema": {"type": "string"},
        });
    }
    let mut responses = BTreeMap::new();
    for given in &operation.gives {
        let response = responses
            .entry(given.status.to_string())
            .or_insert_with(|| json!({"description": "", "headers": given_header.clone()}));
        let told = response["description"].as_str().unwrap_or_default();
        response["description"] = [told, given.what].join(" ").trim().into();
        if given.content.media.is_empty() {
            continue;
        }
        response["content"][given.content.media] = describe_content(&given.content, schemas);
    }
    for (status, codes) in failure_codes(route, operation) {
        let codes: Vec<_> = codes.into_iter().map(ErrorCode::as_str).collect();
        let failure = json!({
            "description": format!("`{}`", codes.join("`, `")),
            "headers": header.clone(),
            "content": {operation.failure.media: describe_content(&operation.failure, schemas)},
            "x-dromia-codes": codes,
        });
        responses.insert(status.to_string(), failure);
    }
    json!(responses)
}

/// Bytes that no schema describes; generators of clients skip an operation whose body has none.
fn binary_content() -> Value {
    json!({"schema": {"type": "string", "format": "binary"}})
}

fn describe_content(content: &OperationBody, schemas: &mut SchemaRegistry) -> Value {
    let mut described = binary_content();
    if let Some(schema) = content.schema {
        described["schema"] = schemas.response_schema(schema);
    }
    if !content.events.is_empty() {
        described["schema"] = json!({"type": "string", "description": "Server-sent events."});
        let events = content
            .events
            .iter()
            .map(|(name, schema)| ((*name).to_owned(), schemas.response_schema(*schema)));
        described["x-dromia-events"] = Value::Object(events.collect());
    }
    described
}

/// Joins the codes of an operation with those of its credential and its body, by the status they travel under.
fn failure_codes(route: &Route, operation: &Operation) -> BTreeMap<u16, BTreeSet<ErrorCode>> {
    // Every request names a host, and any handler may have a defect.
    let mut codes = vec![ErrorCode::InvalidRequest, ErrorCode::Forbidden, ErrorCode::Internal];
    if route.needs != Needs::Nothing {
        codes.extend([ErrorCode::Overloaded, ErrorCode::StoreUnavailable, ErrorCode::JournalDamaged]);
    }
    if !matches!(route.needs, Needs::Nothing | Needs::Signature) {
        codes.extend([ErrorCode::Unauthorized, ErrorCode::RateLimited]);
    }
    if route.key_use() != KeyUse::None {
        codes.extend([ErrorCode::IdempotencyConflict, ErrorCode::OutcomeUnknown]);
    }
    if is_of_a_tenant(route) {
        codes.push(ErrorCode::TenantNotFound);
    }
    if route.method != "GET" && (is_of_a_tenant(route) || route.needs == Needs::Signature) {
        codes.push(ErrorCode::TenantSuspended);
    }
    let mut failures = BTreeMap::<u16, BTreeSet<ErrorCode>>::new();
    if operation.takes.is_some() {
        codes.push(ErrorCode::BodyTooLarge);
        // A body that does not arrive in time has a status of its own.
        failures.entry(408).or_default().insert(ErrorCode::InvalidRequest);
        // So has one that is compressed.
        failures.entry(415).or_default().insert(ErrorCode::InvalidRequest);
    }
    for code in codes.iter().chain(&operation.codes) {
        failures.entry(http_status(*code)).or_default().insert(*code);
    }
    failures
}

/// Makes descriptions that were written for readers of the source fit for readers of the document.
fn clean_descriptions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if key == "description" => {
                        *text = text.replace("[`", "`").replace("`]", "`").replace('\n', " ");
                    }
                    _ => clean_descriptions(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(clean_descriptions),
        _ => {}
    }
}
