//! CSV as PostgreSQL's `COPY … CSV` has it: an empty field is null, and an empty text is in quotes.

mod read;
mod write;

pub use read::Reader;
pub use write::push_field;
