//! The document as a page for people: plain HTML with a little CSS of its own, and nothing from elsewhere.
//!
//! No script runs on it and no request leaves it; the answer's policy says so to the browser. Whatever comes from the
//! document is escaped.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::schemas::COMPONENTS;

/// Stands where each answer puts its own nonce, which allows the page's style and no other.
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
pub(crate) fn page(document: &Value) -> String {
    let info = &document["info"];
    let mut page = String::with_capacity(256 << 10);
    page.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    put(&mut page, format_args!("<title>{} API</title>\n", text(&info["title"])));
    put(&mut page, format_args!("<style nonce=\"{CSP_NONCE}\">{STYLE}</style>\n</head>\n<body>\n"));
    put(&mut page, format_args!("<h1>{} API</h1>\n", text(&info["title"])));
    put(&mut page, format_args!("<p class=\"dim\">Version {}. ", text(&info["version"])));
    page.push_str("The same as a document for programs: <a href=\"/openapi.json\">/openapi.json</a>.</p>\n");
    put(&mut page, format_args!("<p>{}</p>\n", prose(&info["description"])));
    let operations = operations(document);
    contents(&mut page, &operations);
    let mut tag = None;
    for operation in &operations {
        if tag != Some(operation.tag) {
            tag = Some(operation.tag);
            put(&mut page, format_args!("<h2>{}</h2>\n", escaped(operation.tag)));
        }
        section(&mut page, document, operation);
    }
    page.push_str("<h2 id=\"schemas\">Schemas</h2>\n");
    for (name, schema) in fields(&document["components"]["schemas"]) {
        let name = escaped(name);
        put(&mut page, format_args!("<section id=\"schema-{name}\">\n<h3><code>{name}</code></h3>\n"));
        component(&mut page, schema);
        page.push_str("</section>\n");
    }
    page.push_str("</body>\n</html>\n");
    page
}

/// One operation with its place.
struct Shown<'a> {
    path: &'a str,
    method: &'a str,
    tag: &'a str,
    operation: &'a Value,
}

/// Lists the operations by tag, in the order of the tags.
fn operations(document: &Value) -> Vec<Shown<'_>> {
    let mut shown = Vec::new();
    for tag in document["tags"].as_array().into_iter().flatten().filter_map(|tag| tag["name"].as_str()) {
        for (path, methods) in fields(&document["paths"]) {
            for (method, operation) in fields(methods) {
                if operation["tags"][0] == tag {
                    shown.push(Shown { path, method, tag, operation });
                }
            }
        }
    }
    shown
}

fn contents(page: &mut String, operations: &[Shown<'_>]) {
    page.push_str("<nav aria-label=\"Contents\">\n<ul>\n");
    for group in operations.chunk_by(|one, next| one.tag == next.tag) {
        put(page, format_args!("<li><span class=\"tag\">{}</span>\n<ul>\n", escaped(group[0].tag)));
        for shown in group {
            let (method, path) = (shown.method.to_ascii_uppercase(), escaped(shown.path));
            let id = text(&shown.operation["operationId"]);
            put(page, format_args!("<li><code><span class=\"method\">{method}</span>"));
            put(page, format_args!("<a href=\"#{id}\">{path}</a></code></li>\n"));
        }
        page.push_str("</ul></li>\n");
    }
    page.push_str("<li><a class=\"tag\" href=\"#schemas\">Schemas</a></li>\n</ul>\n</nav>\n");
}

fn section(page: &mut String, document: &Value, shown: &Shown<'_>) {
    let operation = shown.operation;
    let (method, path) = (shown.method.to_ascii_uppercase(), escaped(shown.path));
    put(page, format_args!("<section id=\"{}\">\n", text(&operation["operationId"])));
    put(page, format_args!("<h3><code><span class=\"method\">{method}</span> {path}</code></h3>\n"));
    put(page, format_args!("<p>{}. ", prose(&operation["summary"])));
    put(page, format_args!("<span class=\"dim\">{}</span></p>\n", prose(&operation["description"])));
    let parameters = operation["parameters"].as_array();
    if let Some(parameters) = parameters {
        page.push_str("<table>\n<caption>Parameters</caption>\n");
        for parameter in parameters {
            let parameter = resolved(document, parameter);
            let must = if parameter["required"] == true { "" } else { ", optional" };
            let place = format!("{}{must}", text(&parameter["in"]));
            row(
                page,
                &text(&parameter["name"]),
                &place,
                &kind(&parameter["schema"]),
                &prose(&parameter["description"]),
            );
        }
        page.push_str("</table>\n");
    }
    if let Some(body) = operation.get("requestBody") {
        put(page, format_args!("<p>Takes {}.</p>\n", media(&body["content"])));
    }
    page.push_str("<table>\n<caption>Answers</caption>\n");
    for (status, response) in fields(&operation["responses"]) {
        put(
            page,
            format_args!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>\n",
                escaped(status),
                media(&response["content"]),
                prose(&response["description"])
            ),
        );
    }
    page.push_str("</table>\n</section>\n");
}

/// Says which bodies there may be.
fn media(content: &Value) -> String {
    let kinds = fields(content).map(|(media, content)| {
        let events = fields(&content["x-dromia-events"]);
        let events: Vec<_> = events
            .map(|(name, schema)| format!("<code>{}</code>: {}", escaped(name), kind(schema)))
            .collect();
        let what = match (events.is_empty(), content.get("schema")) {
            (false, _) => format!(" ({})", events.join(", ")),
            (true, Some(schema)) => format!(" {}", kind(schema)),
            (true, None) => String::new(),
        };
        format!("<code>{}</code>{what}", escaped(media))
    });
    kinds.collect::<Vec<_>>().join("<br>")
}

fn component(page: &mut String, schema: &Value) {
    if schema.get("description").is_some() {
        put(page, format_args!("<p>{}</p>\n", prose(&schema["description"])));
    }
    if let Some(variants) = variants(schema) {
        page.push_str("<p>One of:</p>\n<ul>\n");
        for variant in variants {
            page.push_str("<li>");
            if variant.get("properties").is_some() {
                component(page, variant);
            } else {
                put(page, format_args!("{} {}", kind(variant), prose(&variant["description"])));
            }
            page.push_str("</li>\n");
        }
        page.push_str("</ul>\n");
    } else if schema.get("properties").is_some() {
        page.push_str("<table>\n");
        for (name, field) in fields(&schema["properties"]) {
            let required = schema["required"].as_array();
            let required = required.is_some_and(|required| required.iter().any(|known| known == name));
            let must = if required { "" } else { "optional" };
            row(page, &escaped(name), must, &kind(field), &prose(&field["description"]));
        }
        page.push_str("</table>\n");
    } else {
        put(page, format_args!("<p>{}</p>\n", kind(schema)));
    }
}

fn variants(schema: &Value) -> Option<&Vec<Value>> {
    schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()
}

/// Says in a few words what fits a schema.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = escaped(reference.strip_prefix(COMPONENTS).unwrap_or(reference));
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    if let Some(only) = schema.get("const") {
        return format!("<code>{}</code>", escaped(&only.to_string()));
    }
    if let Some(values) = schema["enum"].as_array() {
        let values = values.iter().map(|value| format!("<code>{}</code>", escaped(&value.to_string())));
        return values.collect::<Vec<_>>().join(" or ");
    }
    if let Some(variants) = variants(schema) {
        return variants.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    let types = match &schema["type"] {
        Value::String(only) => vec![only.as_str()],
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        _ => return "anything".to_owned(),
    };
    let told = types.iter().map(|only| match *only {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map of {}", kind(&schema["additionalProperties"]))
        }
        other => escaped(other).into_owned(),
    });
    let mut told = told.collect::<Vec<_>>().join(" or ");
    for detail in ["format", "pattern"] {
        if let Some(detail) = schema[detail].as_str() {
            put(&mut told, format_args!(" <code class=\"dim\">{}</code>", escaped(detail)));
        }
    }
    told
}

fn row(page: &mut String, name: &str, place: &str, kind: &str, what: &str) {
    put(
        page,
        format_args!(
            "<tr><th scope=\"row\"><code>{name}</code></th><td class=\"dim\">{place}</td><td>{kind}</td><td>{what}</td></tr>\n"
        ),
    );
}

/// Follows a reference within the document.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let target = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    target.and_then(|target| document.pointer(target)).unwrap_or(value)
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// Writes a text; what stands between backticks is code.
fn prose(value: &Value) -> String {
    let mut told = String::new();
    for (number, piece) in text(value).split('`').enumerate() {
        if number % 2 == 1 {
            told.extend(["<code>", piece, "</code>"]);
        } else {
            told.push_str(piece);
        }
    }
    told
}

fn text(value: &Value) -> Cow<'_, str> {
    escaped(value.as_str().unwrap_or_default())
}

fn escaped(text: &str) -> Cow<'_, str> {
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

fn put(page: &mut String, piece: std::fmt::Arguments<'_>) {
    // Writing into a string has no failing case.
    let _ = page.write_fmt(piece);
}
