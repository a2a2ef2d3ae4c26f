//! The value of one column from that of the other.

use super::plaintext::ValueType;
use crate::error::Error;
use pgrx::pg_sys;

/// Which types two columns have, one of which follows the other.
#[derive(Debug, Clone, Copy)]
pub struct Conversion {
    pub source: ValueType,
    pub target: ValueType,
}

impl Conversion {
    /// The value that the target has for one of the source.
    ///
    /// # Safety
    /// `source` is a non-null value of the source's type.
    pub unsafe fn convert(self, source: pg_sys::Datum) -> Result<pg_sys::Datum, Error> {
        // SAFETY: as promised by the caller; the plaintext is used while the datum lives.
        let plaintext = unsafe { self.source.plaintext(source)? };
        self.target.value(plaintext.bytes())
    }

    /// Whether the target has the value that [`Conversion::convert`] gives. A value that can't be opened has not.
    ///
    /// # Safety
    /// Both are non-null values of their types.
    pub unsafe fn is_in_step(self, source: pg_sys::Datum, target: pg_sys::Datum) -> Result<bool, Error> {
        // SAFETY: as promised by the caller.
        unsafe {
            if !self.target.is_sealed() {
                return Ok(self.target.are_alike(self.convert(source)?, target));
            }
            let plaintext = self.source.plaintext(source)?;
            match self.target.plaintext(target) {
                Ok(opened) => Ok(opened.bytes() == plaintext.bytes()),
                Err(error) if error.is_about_the_value() => Ok(false),
                Err(error) => Err(error),
            }
        }
    }
}
