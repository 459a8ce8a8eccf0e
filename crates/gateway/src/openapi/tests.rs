//! The document and the route table say the same, and the document is whole.

use std::collections::BTreeSet;

use dromia_contracts::ErrorCode;
use schemars::SchemaGenerator;
use serde_json::{Value, json};

use super::document::{path_segments, segment_description};
use super::page::render_page;
use super::{Operation, all_operations, build_document};
use crate::routes::ROUTES;

fn strings<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str().filter(|_| name == key) {
                    Some(text) => found.push(text),
                    None => strings(value, key, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, key, found)),
        _ => {}
    }
}

#[test]
fn every_route_is_described_once_and_nothing_else_is() {
    let routes: Vec<_> = ROUTES.iter().map(|route| (route.method, route.path)).collect();
    let operations = all_operations();
    let described: Vec<_> = operations.iter().map(|operation| (operation.method, operation.path)).collect();
    for route in &routes {
        let times = described.iter().filter(|known| *known == route).count();
        assert_eq!(times, 1, "describe {} {} once in openapi/table/", route.0, route.1);
    }
    for operation in &described {
        let (method, path) = operation;
        assert!(
            routes.contains(operation),
            "{method} {path} of openapi/table/ is no line of the route table"
        );
    }
    let ids: BTreeSet<_> = operations.iter().map(|operation| operation.id).collect();
    assert_eq!(ids.len(), operations.len(), "two operations have one name");
    for operation in &operations {
        let path = operation.path;
        assert!(!operation.gives.is_empty(), "{path} gives nothing");
        for name in path_segments(path) {
            assert!(
                segment_description(name).is_some(),
                "say in document::segment what {{{name}}} of {path} is"
            );
        }
    }
}

#[test]
fn every_reference_resolves_and_every_component_is_used() {
    let document = build_document();
    let mut references = Vec::new();
    strings(&document, "$ref", &mut references);
    for reference in &references {
        let target = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
        assert!(target.is_some(), "{reference} leads nowhere");
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let reference = format!("#/components/schemas/{name}");
        assert!(references.contains(&reference.as_str()), "{name} is not used");
        assert!(!name.ends_with(|c: char| c.is_ascii_digit()), "two types are called {name}");
        assert!(schema.is_object(), "{name} says nothing");
    }
}

#[test]
fn every_parameter_and_answer_says_what_it_is() {
    let document = build_document();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let answers = operation["responses"].as_object().unwrap().values();
            for described in parameters.filter(|parameter| parameter.get("$ref").is_none()).chain(answers) {
                let text = described["description"].as_str().unwrap_or_default();
                assert!(!text.is_empty(), "{method} {path}: {described}");
            }
        }
    }
}

#[test]
fn an_answer_requires_fields_that_requests_may_omit() {
    let document = build_document();
    let required = |name: &str| {
        let schema = &document["components"]["schemas"][name];
        let required = schema["required"].as_array().into_iter().flatten();
        required.map(|name| name.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    assert!(required("AgentConfig").contains("instructions"), "an answer has it");
    assert!(!required("AgentConfigInput").contains("instructions"), "a request may leave it out");
    let new = &document["components"]["schemas"]["CreateAgent"]["properties"]["config"];
    assert!(new.to_string().contains("#/components/schemas/AgentConfigInput"), "{new}");
}

#[test]
fn a_route_of_another_api_may_declare_its_own_error() {
    let operation = Operation::new("GET", "/x", "x", "X").fails_as::<ErrorCode>();
    assert_eq!(operation.failure.media, "application/json");
    let schema = operation.failure.schema.map(|schema| schema(&mut SchemaGenerator::default()).to_value());
    assert_eq!(schema, Some(json!({"$ref": "#/$defs/ErrorCode"})));
}

#[test]
fn the_page_escapes_what_the_document_says() {
    let document = json!({"info": {"title": "<b>", "version": "1", "description": "`a<b` & 'c'"}});
    let page = render_page(&document);
    assert!(page.contains("<title>&lt;b&gt; API</title>"), "{page}");
    assert!(page.contains("<p><code>a&lt;b</code> &amp; &#39;c&#39;</p>"), "{page}");
}

#[test]
fn every_json_body_has_an_example_that_satisfies_its_schema() {
    let document = build_document();
    let mut found = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap().values();
            for body in responses.chain(operation.get("requestBody")) {
                for (media, content) in body["content"].as_object().into_iter().flatten() {
                    if !media.ends_with("json") || content.get("schema").is_none() {
                        continue;
                    }
                    let mut schema = content["schema"].clone();
                    schema["components"] = document["components"].clone();
                    let validator = jsonschema::options().offline().build(&schema).unwrap();
                    let problems: Vec<_> =
                        validator.iter_errors(&content["example"]).map(|error| error.to_string()).collect();
                    assert!(problems.is_empty(), "{method} {path}: {} {problems:?}", content["example"]);
                    found += 1;
                }
            }
        }
    }
    assert!(found > 100, "{found}");
}

#[test]
fn no_schema_is_a_bare_true_or_a_choice_among_constants() {
    fn look(value: &Value, place: &str) {
        match value {
            Value::Object(fields) => {
                for (key, inner) in fields.iter().filter(|(key, _)| *key != "example") {
                    let is_schema = ["schema", "items", "additionalProperties"].contains(&key.as_str());
                    assert!(!(is_schema && *inner == true), "{place}/{key} is true");
                    let choices = inner.as_array().filter(|_| key == "oneOf");
                    let plain = choices.is_some_and(|all| all.iter().all(|one| one.get("const").is_some()));
                    assert!(!plain, "{place}/{key} lists constants");
                    look(inner, &format!("{place}/{key}"));
                }
            }
            Value::Array(items) => items.iter().for_each(|item| look(item, place)),
            _ => {}
        }
    }
    look(&build_document(), "#");
}
