//! What one route takes and gives.

use dromia_api::ProblemDetails;
use dromia_contracts::ErrorCode;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

/// How the schema of a type is made.
pub type Schema = fn(&mut SchemaGenerator) -> schemars::Schema;

/// Returns how the schema of a type is made: by name, among the other components.
pub fn schema_of<T: JsonSchema>() -> Schema {
    |generator| generator.subschema_for::<T>()
}

/// What one route takes and gives; which credential it needs says the route table.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The method.
    pub method: &'static str,
    /// The path, as the route table has it.
    pub path: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) query: Option<Schema>,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    pub(super) takes: Option<OperationBody>,
    pub(super) gives: Vec<OperationResponse>,
    pub(super) codes: Vec<ErrorCode>,
    pub(super) failure: OperationBody,
    pub(super) example: Option<fn() -> Value>,
}

/// A body: its media type and what is in it.
#[derive(Debug, Clone)]
pub(super) struct OperationBody {
    /// The media type; empty where there is no body.
    pub(super) media: &'static str,
    /// Absent for bytes that no schema describes.
    pub(super) schema: Option<Schema>,
    /// The events of a stream, by name.
    pub(super) events: Vec<(&'static str, Schema)>,
}

/// A good answer.
#[derive(Debug, Clone)]
pub(super) struct OperationResponse {
    pub(super) status: u16,
    pub(super) what: &'static str,
    pub(super) content: OperationBody,
}

impl OperationBody {
    fn json_body<T: JsonSchema>() -> Self {
        Self { media: "application/json", schema: Some(schema_of::<T>()), events: Vec::new() }
    }

    fn binary_body(media: &'static str) -> Self {
        Self { media, schema: None, events: Vec::new() }
    }
}

impl Operation {
    /// Begins with a line of the route table, a name for programs and a sentence for people.
    pub fn new(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            method,
            path,
            id,
            summary,
            query: None,
            headers: Vec::new(),
            takes: None,
            gives: Vec::new(),
            codes: Vec::new(),
            failure: OperationBody {
                media: dromia_api::problem::CONTENT_TYPE,
                ..OperationBody::json_body::<ProblemDetails>()
            },
            example: None,
        }
    }

    /// Takes the fields of a type as query parameters.
    pub fn with_query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(T::json_schema);
        self
    }

    /// Takes a header, which may be absent.
    pub fn with_header(mut self, name: &'static str, what: &'static str) -> Self {
        self.headers.push((name, what));
        self
    }

    /// Takes a JSON body.
    pub fn takes_json<T: JsonSchema>(mut self) -> Self {
        self.takes = Some(OperationBody::json_body::<T>());
        self
    }

    /// Gives an example of the body that is taken, where its schema is that of another API.
    pub fn with_example(mut self, example: fn() -> Value) -> Self {
        self.example = Some(example);
        self
    }

    /// Takes a body of another kind.
    pub fn takes_bytes(mut self, media: &'static str) -> Self {
        self.takes = Some(OperationBody::binary_body(media));
        self
    }

    /// Gives a JSON document.
    pub fn gives_json<T: JsonSchema>(self, status: u16, what: &'static str) -> Self {
        self.gives_content(status, what, OperationBody::json_body::<T>())
    }

    /// Gives a body of another kind.
    pub fn gives_bytes(self, status: u16, what: &'static str, media: &'static str) -> Self {
        self.gives_content(status, what, OperationBody::binary_body(media))
    }

    /// Gives a status without a body.
    pub fn gives_nothing(self, status: u16, what: &'static str) -> Self {
        self.gives_content(status, what, OperationBody::binary_body(""))
    }

    /// Gives a stream of server-sent events, each with the schema of its data.
    pub fn gives_stream(self, what: &'static str, events: &[(&'static str, Schema)]) -> Self {
        let content =
            OperationBody { events: events.to_vec(), ..OperationBody::binary_body("text/event-stream") };
        self.gives_content(200, what, content)
    }

    /// Fails with codes in addition to those that every route with its credential and body can fail with.
    pub fn fails_with(mut self, codes: &[ErrorCode]) -> Self {
        self.codes.extend(codes);
        self
    }

    /// Writes, so it fails where the store takes no writes or cannot say whether it took one.
    pub fn writes_store(self) -> Self {
        self.fails_with(&[ErrorCode::StoreReadOnly, ErrorCode::OutcomeUnknown, ErrorCode::ShuttingDown])
    }

    /// Tells failures in another shape than a problem.
    pub fn fails_as<T: JsonSchema>(mut self) -> Self {
        self.failure = OperationBody::json_body::<T>();
        self
    }

    fn gives_content(mut self, status: u16, what: &'static str, content: OperationBody) -> Self {
        self.gives.push(OperationResponse { status, what, content });
        self
    }
}
