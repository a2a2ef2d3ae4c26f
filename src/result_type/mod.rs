//! What a client is told that its results are. Drivers know text and not `encrypted_text`. So where a client reads plaintext, the columns of its
//! statements are announced as `text`, and those of arrays as `text[]` (`prism_crypt.result_type`).
//!
//! 1. `announce`: after a statement of the client was analysed, each such column of its result is wrapped in a conversion to text. PostgreSQL
//!    takes the type of the result from there, also when it describes a prepared statement.
//! 2. `plan`: before the statement is planned, the conversions are taken off again, and they are put on top of the finished plan. So the
//!    planner sees what was written, and only what is sent is converted.
//! 3. A prepared statement stays announced as it was (`saved`), whatever the settings and the role are when it runs.
//!
//! The conversion calls the output function (`datatype::conversion` knows it by its form), so the text is what would have been sent
//! anyway. Statements inside functions, views and COPY are not statements of the client. When a function or CREATE TABLE AS reads a cursor or
//! a prepared statement of the client, that is an error.
//!
//! `columns` has what both need: the result columns of a query, and conversions.

mod announce;
mod columns;
mod plan;
mod saved;

pub use announce::announce;
pub use plan::{convert, require_client, take_off};
