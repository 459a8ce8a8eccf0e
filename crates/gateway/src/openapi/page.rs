//! The document as a page for people: plain HTML with a little CSS of its own, and nothing from elsewhere.
//!
//! No script runs on it and no request leaves it; the answer's policy says so to the browser. Whatever comes from the
//! document is escaped.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::schemas::COMPONENTS;

/// The placeholder for each answer's own nonce, which allows the page's style and no other.
pub(crate) const CSP_NONCE: &str = "NONCE-OF-THE-ANSWER";

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c1c1a;--dim:#5d5d57;--paper:#fdfdfb;--line:#d9d9d2;--tint:#f2f2ec;--link:#0b57a4}\
@media(prefers-color-scheme:dark){:root{--ink:#e8e8e3;--dim:#a3a39b;--paper:#161615;--line:#3a3a37;--tint:#20201e;--link:#8ab8f0}}\
body{margin:0 auto;max-width:60rem;padding:1.5rem;font:1rem/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}\
a{color:var(--link)}code{font:.9em ui-monospace,monospace;overflow-wrap:anywhere}h1,h2,h3{line-height:1.2}\
h2{margin-top:3rem;border-bottom:1px solid var(--line)}h3{margin-top:2.5rem}nav>ul{columns:26rem;padding:0}nav ul{list-style:none}nav ul ul{padding:0 0 .8rem}nav li li{break-inside:avoid;padding-left:7ch;text-indent:-7ch}\
nav .tag{display:block;font-weight:600;break-after:avoid}nav .method{min-width:7ch;text-indent:0;font-weight:400}\
.method{display:inline-block;min-width:4.5ch;font-weight:700}.dim{color:var(--dim)}\
table{border-collapse:collapse;width:100%;margin:.5rem 0 1rem}caption{text-align:left;font-weight:600;padding:.25rem 0}\
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-top:1px solid var(--line)}\
th{font-weight:600;white-space:nowrap}h3 code{background:var(--tint);padding:.1rem .3rem}";

/// Writes the page of a document.
pub(crate) fn render_page(document: &Value) -> String {
    let info = &document["info"];
    let mut page = String::with_capacity(256 << 10);
    page.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    write_piece(&mut page, format_args!("<title>{} API</title>\n", string_value(&info["title"])));
    write_piece(&mut page, format_args!("<style nonce=\"{CSP_NONCE}\">{STYLE}</style>\n</head>\n<body>\n"));
    write_piece(&mut page, format_args!("<h1>{} API</h1>\n", string_value(&info["title"])));
    write_piece(&mut page, format_args!("<p class=\"dim\">Version {}. ", string_value(&info["version"])));
    page.push_str("The machine-readable document: <a href=\"/openapi.json\">/openapi.json</a>.</p>\n");
    write_piece(&mut page, format_args!("<p>{}</p>\n", render_prose(&info["description"])));
    let operations = list_operations(document);
    write_contents(&mut page, &operations);
    let mut tag = None;
    for operation in &operations {
        if tag != Some(operation.tag) {
            tag = Some(operation.tag);
            write_piece(&mut page, format_args!("<h2>{}</h2>\n", escape_html(operation.tag)));
        }
        write_section(&mut page, document, operation);
    }
    page.push_str("<h2 id=\"schemas\">Schemas</h2>\n");
    for (name, schema) in object_fields(&document["components"]["schemas"]) {
        let name = escape_html(name);
        write_piece(
            &mut page,
            format_args!("<section id=\"schema-{name}\">\n<h3><code>{name}</code></h3>\n"),
        );
        write_component(&mut page, schema);
        write_meanings(&mut page, &name, schema);
        page.push_str("</section>\n");
    }
    page.push_str("</body>\n</html>\n");
    page
}

/// One operation with its place.
struct PlacedOperation<'a> {
    path: &'a str,
    method: &'a str,
    tag: &'a str,
    operation: &'a Value,
}

/// Lists the operations by tag, in the order of the tags.
fn list_operations(document: &Value) -> Vec<PlacedOperation<'_>> {
    let mut shown = Vec::new();
    for tag in document["tags"].as_array().into_iter().flatten().filter_map(|tag| tag["name"].as_str()) {
        for (path, methods) in object_fields(&document["paths"]) {
            for (method, operation) in object_fields(methods) {
                if operation["tags"][0] == tag {
                    shown.push(PlacedOperation { path, method, tag, operation });
                }
            }
        }
    }
    shown
}

fn write_contents(page: &mut String, operations: &[PlacedOperation<'_>]) {
    page.push_str("<nav aria-label=\"Contents\">\n<ul>\n");
    for group in operations.chunk_by(|one, next| one.tag == next.tag) {
        write_piece(
            page,
            format_args!("<li><span class=\"tag\">{}</span>\n<ul>\n", escape_html(group[0].tag)),
        );
        for shown in group {
            let (method, path) = (shown.method.to_ascii_uppercase(), escape_html(shown.path));
            let id = string_value(&shown.operation["operationId"]);
            write_piece(page, format_args!("<li><code><span class=\"method\">{method}</span>"));
            write_piece(page, format_args!("<a href=\"#{id}\">{path}</a></code></li>\n"));
        }
        page.push_str("</ul></li>\n");
    }
    page.push_str("<li><a class=\"tag\" href=\"#schemas\">Schemas</a></li>\n</ul>\n</nav>\n");
}

fn write_section(page: &mut String, document: &Value, shown: &PlacedOperation<'_>) {
    let operation = shown.operation;
    let (method, path) = (shown.method.to_ascii_uppercase(), escape_html(shown.path));
    write_piece(page, format_args!("<section id=\"{}\">\n", string_value(&operation["operationId"])));
    write_piece(page, format_args!("<h3><code><span class=\"method\">{method}</span> {path}</code></h3>\n"));
    write_piece(page, format_args!("<p>{}. ", render_prose(&operation["summary"])));
    write_piece(
        page,
        format_args!("<span class=\"dim\">{}</span></p>\n", render_prose(&operation["description"])),
    );
    let parameters = operation["parameters"].as_array();
    if let Some(parameters) = parameters {
        page.push_str("<table>\n<caption>Parameters</caption>\n");
        for parameter in parameters {
            let parameter = resolve_reference(document, parameter);
            let must = if parameter["required"] == true { "" } else { ", optional" };
            let place = format!("{}{must}", string_value(&parameter["in"]));
            write_row(
                page,
                &string_value(&parameter["name"]),
                &place,
                &schema_summary(&parameter["schema"]),
                &render_prose(&parameter["description"]),
            );
        }
        page.push_str("</table>\n");
    }
    if let Some(body) = operation.get("requestBody") {
        write_piece(page, format_args!("<p>Takes {}.</p>\n", describe_bodies(&body["content"])));
    }
    page.push_str("<table>\n<caption>Answers</caption>\n");
    for (status, response) in object_fields(&operation["responses"]) {
        write_piece(
            page,
            format_args!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>\n",
                escape_html(status),
                describe_bodies(&response["content"]),
                render_prose(&response["description"])
            ),
        );
    }
    page.push_str("</table>\n</section>\n");
}

/// Says which bodies there may be.
fn describe_bodies(content: &Value) -> String {
    let kinds = object_fields(content).map(|(media, content)| {
        let events = object_fields(&content["x-dromia-events"]);
        let events: Vec<_> = events
            .map(|(name, schema)| format!("<code>{}</code>: {}", escape_html(name), schema_summary(schema)))
            .collect();
        let what = match (events.is_empty(), content.get("schema")) {
            (false, _) => format!(" ({})", events.join(", ")),
            (true, Some(schema)) => format!(" {}", schema_summary(schema)),
            (true, None) => String::new(),
        };
        format!("<code>{}</code>{what}", escape_html(media))
    });
    kinds.collect::<Vec<_>>().join("<br>")
}

fn write_component(page: &mut String, schema: &Value) {
    if schema.get("description").is_some() {
        write_piece(page, format_args!("<p>{}</p>\n", render_prose(&schema["description"])));
    }
    if let Some(variants) = schema_variants(schema) {
        page.push_str("<p>One of:</p>\n<ul>\n");
        for variant in variants {
            page.push_str("<li>");
            if variant.get("properties").is_some() {
                write_component(page, variant);
            } else {
                write_piece(
                    page,
                    format_args!("{} {}", schema_summary(variant), render_prose(&variant["description"])),
                );
            }
            page.push_str("</li>\n");
        }
        page.push_str("</ul>\n");
    } else if schema.get("properties").is_some() {
        page.push_str("<table>\n");
        for (name, field) in object_fields(&schema["properties"]) {
            let required = schema["required"].as_array();
            let required = required.is_some_and(|required| required.iter().any(|known| known == name));
            let must = if required { "" } else { "optional" };
            write_row(
                page,
                &escape_html(name),
                must,
                &schema_summary(field),
                &render_prose(&field["description"]),
            );
        }
        page.push_str("</table>\n");
    } else {
        write_piece(page, format_args!("<p>{}</p>\n", schema_summary(schema)));
    }
}

/// Writes what each value of a schema means, each at a place of its own: the `type` of a problem names one.
fn write_meanings(page: &mut String, name: &str, schema: &Value) {
    for (value, meaning) in object_fields(&schema["x-enum-descriptions"]) {
        let (value, meaning) = (escape_html(value), render_prose(meaning));
        write_piece(page, format_args!("<p id=\"{name}-{value}\"><code>{value}</code>: {meaning}</p>\n"));
    }
}

fn schema_variants(schema: &Value) -> Option<&Vec<Value>> {
    schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()
}

/// Says in a few words what fits a schema.
fn schema_summary(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = escape_html(reference.strip_prefix(COMPONENTS).unwrap_or(reference));
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    if let Some(only) = schema.get("const") {
        return format!("<code>{}</code>", escape_html(&only.to_string()));
    }
    if let Some(values) = schema["enum"].as_array() {
        let values = values.iter().map(|value| format!("<code>{}</code>", escape_html(&value.to_string())));
        return values.collect::<Vec<_>>().join(" or ");
    }
    if let Some(variants) = schema_variants(schema) {
        return variants.iter().map(schema_summary).collect::<Vec<_>>().join(" or ");
    }
    let types = match &schema["type"] {
        Value::String(only) => vec![only.as_str()],
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        _ => return "anything".to_owned(),
    };
    let told = types.iter().map(|only| match *only {
        "array" => format!("list of {}", schema_summary(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map of {}", schema_summary(&schema["additionalProperties"]))
        }
        other => escape_html(other).into_owned(),
    });
    let mut told = told.collect::<Vec<_>>().join(" or ");
    for detail in ["format", "pattern"] {
        if let Some(detail) = schema[detail].as_str() {
            write_piece(&mut told, format_args!(" <code class=\"dim\">{}</code>", escape_html(detail)));
        }
    }
    told
}

fn write_row(page: &mut String, name: &str, place: &str, kind: &str, what: &str) {
    write_piece(
        page,
        format_args!(
            "<tr><th scope=\"row\"><code>{name}</code></th><td class=\"dim\">{place}</td><td>{kind}</td><td>{what}</td></tr>\n"
        ),
    );
}

/// Follows a reference within the document.
fn resolve_reference<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let target = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    target.and_then(|target| document.pointer(target)).unwrap_or(value)
}

fn object_fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// Writes a text; what is between backticks is code.
fn render_prose(value: &Value) -> String {
    let mut told = String::new();
    for (number, piece) in string_value(value).split('`').enumerate() {
        if number % 2 == 1 {
            told.extend(["<code>", piece, "</code>"]);
        } else {
            told.push_str(piece);
        }
    }
    told
}

fn string_value(value: &Value) -> Cow<'_, str> {
    escape_html(value.as_str().unwrap_or_default())
}

fn escape_html(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

fn write_piece(page: &mut String, piece: std::fmt::Arguments<'_>) {
    // Writing into a string has no failing case.
    let _ = page.write_fmt(piece);
}
