//! Tells by name and content whether a column of a database holds personal data. No PostgreSQL, and nothing of a value is kept: only counts.
//!
//! ```
//! use prism_personal_data::{Column, Confidence, Family};
//!
//! let mut column = Column::new("clienti", "recapito", Family::Text);
//! column.see_text("anna@example.org");
//! let finding = column.finding().expect("an email address");
//! assert_eq!((finding.class, finding.confidence), (Some("email"), Confidence::High));
//! ```
//!
//! A [`Column`] is told its name and its table's, and then values. `words` takes names apart, `names` looks them up in the lists of
//! `dictionary`. `formats` knows what values look like, `ciphertext` what other systems' encrypted values look like, `json` goes
//! through documents. `tally` counts, and `verdict` draws the conclusion.
#![forbid(unsafe_code)]

mod ciphertext;
mod column;
mod dictionary;
mod formats;
mod json;
mod names;
mod subject;
mod tally;
mod verdict;
mod words;

pub use column::{Column, Family};
pub use subject::Subject;
pub use verdict::{Confidence, Finding};
