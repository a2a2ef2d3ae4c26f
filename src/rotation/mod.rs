//! What a rotation asks of values. Which rows are due and what is done with them is in `sql/rotation/`; the engine that does it is
//! that of all jobs.
//!
//! `target` says how the values of a column are rotated. For each row SQL asks `any_value`, or `values` in the usual case of an
//! `encrypted_text` of whatever version: whether it is in the [`Scope`] and under an old key, whether it opens, and then for the
//! new value. `sample` copies the rows that a plan of a rotation is tried on.

mod any_value;
mod sample;
mod target;
mod values;

use crate::error::Error;
use crate::keyring::{self, KeyState};
use prism_envelope::{KeyVersion, SearchTag};

/// Which values a rotation is about: those of one version, of one keyset, or all.
#[derive(Clone, Copy, Default)]
struct Scope<'a> {
    from_version: Option<i32>,
    keyset: Option<&'a str>,
}

/// What a rotation does with a value, as far as its key version tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is under the active key, or not in the scope, or gone with its key.
    Leave,
    /// It is under an old key that may be read, or has an outdated search tag.
    Rotate,
    /// Its key is disabled or not known.
    Unreadable,
}

impl Scope<'_> {
    /// Whether it names a version or a keyset: then values whose version can't be told don't belong to it.
    fn is_narrow(self) -> bool {
        self.from_version.is_some() || self.keyset.is_some()
    }

    /// Judges by the key table alone; needs no master key.
    fn judge(self, version: KeyVersion, tag: Option<SearchTag>) -> Result<Verdict, Error> {
        if self.from_version.is_some_and(|from| from.cast_unsigned() != version.get()) {
            return Ok(Verdict::Leave);
        }
        keyring::with_row(version, |row| match row {
            Some(row) if self.keyset.is_some_and(|keyset| keyset != row.keyset) => Verdict::Leave,
            Some(row) => match row.state {
                KeyState::Active if tag.is_some_and(|tag| row.is_outdated(tag)) => Verdict::Rotate,
                KeyState::Active | KeyState::Destroyed => Verdict::Leave,
                KeyState::DecryptOnly => Verdict::Rotate,
                KeyState::Disabled => Verdict::Unreadable,
            },
            None if self.keyset.is_some() => Verdict::Leave,
            None => Verdict::Unreadable,
        })
    }
}
