//! Reads documents page by page.

use crate::{
    document::{Document, DocumentRange},
    error::StoreError,
    store::Store,
};

/// Documents of one page.
const PAGE: usize = 1_000;

/// Reads documents in the order of the range, `most` at the most; says whether there are more.
pub(super) async fn read_all(
    store: &dyn Store,
    mut range: DocumentRange,
    most: usize,
    mut each: impl FnMut(Document),
) -> Result<bool, StoreError> {
    let mut left = most;
    loop {
        // At the end one more is asked for, by which it is known whether there are more.
        range.limit = std::cmp::min(PAGE, left + 1);
        let page = store.documents(&range).await?;
        let Some(last) = page.last() else { return Ok(false) };
        if range.is_reversed {
            range.to = Some(last.key.clone());
        } else {
            range.from = format!("{}\0", last.key);
        }
        for document in page {
            if left == 0 {
                return Ok(true);
            }
            left -= 1;
            each(document);
        }
    }
}

/// Reads one document.
pub(super) async fn read_one(
    store: &dyn Store,
    range: DocumentRange,
) -> Result<Option<Document>, StoreError> {
    Ok(store.documents(&range.limit(1)).await?.pop())
}

/// What a document that cannot be written as JSON is answered with.
pub(super) fn unwritable(source: serde_json::Error) -> StoreError {
    StoreError::Backend { source: source.into() }
}
