//! One page of rows. It does not ask who may see them.

use dromia_contracts::store::PageRequest;

/// Returns the rows of a page, in the order in which they are given.
#[expect(clippy::needless_pass_by_value, reason = "a page is a small value, given away by every caller")]
pub(super) fn page_rows<T, Id: PartialOrd>(
    rows: impl Iterator<Item = (Id, T)>,
    page: PageRequest<Id>,
    newest_first: bool,
) -> Vec<T> {
    let follows = |id: &Id| match &page.after {
        None => true,
        Some(after) if newest_first => id < after,
        Some(after) => id > after,
    };
    rows.filter(|(id, _)| follows(id))
        .map(|(_, row)| row)
        .take(page.limit.min(PageRequest::<Id>::LIMIT_MAX))
        .collect()
}
