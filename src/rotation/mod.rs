//! What a rotation asks about values. Which rows are due, and what is done with them, is in `sql/rotation/`; it runs on
//! the engine of all jobs.
//!
//! `target` says how the values of a column are rotated. For each row SQL asks `any_value` (or `values`, in the usual
//! case of an `encrypted_text` of any version) whether it is in the [`Scope`] and under an old key, whether it can be
//! opened, and then for the new value. `sample` copies rows on which a plan tries the rotation.

mod any_value;
mod sample;
mod target;
mod values;

use crate::error::Error;
use crate::keyring::{self, KeyState};
use prism_envelope::{KeyVersion, SearchTag};

/// Which values a rotation covers: those of one version, of one keyset, or all.
#[derive(Clone, Copy, Default)]
struct Scope<'a> {
    from_version: Option<i32>,
    keyset: Option<&'a str>,
}

/// What a rotation does with a value, as far as its key version and search tag tell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Its key is active or destroyed, or it is out of scope.
    Leave,
    /// Its key is old but readable, or its search tag is outdated.
    Rotate,
    /// Its key is disabled or not known.
    Unreadable,
}

impl Scope<'_> {
    /// Whether it names a version or a keyset. Then values whose version is unknown don't belong to it.
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
