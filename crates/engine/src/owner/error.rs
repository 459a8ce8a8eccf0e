//! Why an owner gives a run up.

/// The owner lost the run, or cannot find out: drop everything.
#[derive(Debug)]
pub(crate) enum OwnershipError {
    /// Another owner holds it, or it is gone.
    Fenced,
    /// The store could not say; recovery reads again once it answers.
    Store,
}
