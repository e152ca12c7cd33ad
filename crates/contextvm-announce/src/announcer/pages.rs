//! The pages of one list, put together.
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use contextvm_core::object::{self, Object};
use serde_json::value::RawValue;

use super::{AnnounceError, MOST_PAGES};
use crate::DocumentKind;

/// What follows a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask for the page behind this cursor, given as JSON text.
    Page(String),
    /// This is the whole list, as JSON text on one line.
    Whole(String),
}

/// The pages so far.
#[derive(Debug, Default)]
pub(super) struct Pages {
    first: Option<Box<RawValue>>,
    /// The items, with commas between them.
    items: String,
    count: usize,
}

impl Pages {
    /// Takes a page in. Of the first page everything is kept but `nextCursor`; of the others the items alone.
    ///
    /// # Errors
    /// Refuses a result without the list's member, too many pages, and a list that fits into no event.
    pub(super) fn take(
        &mut self,
        document: DocumentKind,
        page: Box<RawValue>,
        limit: usize,
    ) -> Result<Next, AnnounceError> {
        let unreadable = AnnounceError::Unreadable { method: document.method() };
        let (member, items) = items(&page, document).ok_or(unreadable.clone())?;
        if !self.items.is_empty() && !items.is_empty() {
            self.items.push(',');
        }
        self.items.push_str(items);
        if self.items.len() > limit {
            return Err(AnnounceError::TooLarge { kind: document.kind(), bytes: self.items.len(), limit });
        }
        self.count += 1;
        let cursor = object::member(&page, "nextCursor").map(RawValue::get);
        let cursor = cursor.filter(|cursor| *cursor != "null" && *cursor != "\"\"").map(ToOwned::to_owned);
        let first = self.first.get_or_insert(page);
        if let Some(cursor) = cursor {
            let endless = AnnounceError::TooManyPages { method: document.method(), limit: MOST_PAGES };
            return if self.count < MOST_PAGES { Ok(Next::Page(cursor)) } else { Err(endless) };
        }
        let mut whole = Object::parse(first.get()).map_err(|_| unreadable)?.into_edit();
        whole.set(member, format!("[{}]", self.items)).remove("nextCursor");
        Ok(Next::Whole(object::compact(&whole.to_text())))
    }
}

/// Returns the name of the list's member, and what is between the brackets of its value.
fn items(page: &RawValue, document: DocumentKind) -> Option<(&'static str, &str)> {
    let member = document.member()?;
    let array = object::member(page, member)?.get();
    Some((member, array.strip_prefix('[')?.strip_suffix(']')?.trim()))
}
