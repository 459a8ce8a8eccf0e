//! The interface described: one OpenAPI 3.1 document, and the page that a person reads.
//!
//! The route table says which routes there are and what each needs; `table` says of each line what it takes and
//! gives, in Rust types, and which codes it fails with. Everything else follows: the schemas are derived from the
//! wire types, and what every route shares (credentials, the host check, limits) is added in one place. A line of the
//! route table without an operation, or an operation without a line, is a failing test.
//!
//! `docs/openapi.json` is the document as it is served; `make api` writes it.

mod document;
mod examples;
mod operation;
mod page;
mod plain_schemas;
mod schemas;
mod table;

pub use self::document::build_document;
pub use self::operation::{Operation, Schema, schema_of};
pub use self::table::all_operations;

pub(crate) use self::page::{CSP_NONCE, render_page};

#[cfg(test)]
mod tests;
