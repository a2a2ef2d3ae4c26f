//! What prepared statements were announced as. PostgreSQL analyses one again when a table of its has changed, perhaps while the settings or the
//! role are others, or inside a function. Then it must be announced as before: PostgreSQL lets no result change its type.

use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::c_char;
use std::mem::offset_of;
use std::ptr::null_mut;

thread_local! {
    /// The head of PostgreSQL's list of statements that it keeps, prepared ones among them.
    static HEAD: Cell<*mut pg_sys::dlist_node> = const { Cell::new(null_mut()) };
}

/// The statement that PostgreSQL keeps with this very text; null if there is none, because it is analysed for the first time.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn statement_of(text: *const c_char) -> *mut pg_sys::CachedPlanSource {
    // SAFETY: PostgreSQL's list is a ring of its statements and its head, which stays where it is as long as the process lives.
    unsafe {
        if HEAD.get().is_null() {
            HEAD.set(find_head());
        }
        let head = HEAD.get();
        let mut node = if head.is_null() { head } else { (*head).next };
        while node != head && !node.is_null() {
            let statement =
                node.byte_sub(offset_of!(pg_sys::CachedPlanSource, node)).cast::<pg_sys::CachedPlanSource>();
            if (*statement).query_string == text {
                return statement;
            }
            node = (*node).next;
        }
        null_mut()
    }
}

/// The head of the list: PostgreSQL appends what it keeps, so it follows the one that was appended last.
///
/// # Safety
/// Inside a transaction.
unsafe fn find_head() -> *mut pg_sys::dlist_node {
    // SAFETY: an empty statement, as PostgreSQL makes it for an empty text; it is dropped at once.
    unsafe {
        let statement =
            pg_sys::CreateCachedPlan(null_mut(), c"".as_ptr(), pg_sys::CommandTag::CMDTAG_UNKNOWN);
        pg_sys::CompleteCachedPlan(
            statement,
            null_mut(),
            null_mut(),
            null_mut(),
            0,
            None,
            null_mut(),
            0,
            true,
        );
        pg_sys::SaveCachedPlan(statement);
        let head = (*statement).node.next;
        pg_sys::DropCachedPlan(statement);
        head
    }
}

/// Whether a column of its result was announced as text or an array of texts.
///
/// # Safety
/// `statement` is kept by PostgreSQL; `number` is that of a column, from 1.
pub unsafe fn is_text(statement: *mut pg_sys::CachedPlanSource, number: pg_sys::AttrNumber) -> bool {
    // SAFETY: as promised by the caller; another number has no type.
    unsafe {
        let result = (*statement).resultDesc;
        let has_column = !result.is_null() && (1..=(*result).natts).contains(&i32::from(number));
        let is_text = |type_oid| [pg_sys::TEXTOID, pg_sys::TEXTARRAYOID].contains(&type_oid);
        has_column && is_text(pg_sys::SPI_gettypeid(result, i32::from(number)))
    }
}
