//! What a run knows of its conversation: the transcript of its session, how trusted that is, and the client's tools.

pub(crate) mod client_tools;
pub(crate) mod summary;
pub(crate) mod taint;
pub(crate) mod transcript;
