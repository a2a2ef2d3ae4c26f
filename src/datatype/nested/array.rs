//! Arrays as they are: their dimensions and elements, nulls included.

use super::layout::{Damaged, Elements};
use super::packed::{Packed, damaged};
use super::shape::Kind;
use crate::error::Error;
use pgrx::{check_for_interrupts, pg_sys};

/// An array, detoasted. Its elements are passed on as pointers into it. Holds nothing that needs dropping.
pub struct Array<'a>(Packed<'a>);

impl Array<'_> {
    /// Detoasts the array if needed. Its elements are varlenas.
    ///
    /// # Safety
    /// `datum` is an array. It and the current memory context outlive the result.
    pub unsafe fn of(datum: pg_sys::Datum) -> Result<Self, Error> {
        // SAFETY: as promised by the caller.
        Ok(Self(unsafe { Packed::of(datum, Kind::Array)? }))
    }

    /// The same, if the elements may have a fixed length. They are passed on as pointers, too.
    ///
    /// # Safety
    /// As for [`Self::of`].
    pub unsafe fn of_any(datum: pg_sys::Datum) -> Result<Self, Error> {
        // SAFETY: as promised by the caller.
        Ok(Self(unsafe { Packed::of_any_array(datum)? }))
    }

    /// The type of the elements, according to the array itself.
    pub fn element_type(&self) -> pg_sys::Oid {
        self.0.part_type()
    }

    /// The lengths of its dimensions and their lower bounds, as they are stored: empty if it has none.
    pub fn dimensions(&self) -> Result<&[u8], Error> {
        Ok(self.elements()?.dimensions())
    }

    /// How many elements it has, nulls included.
    pub fn count(&self) -> Result<usize, Error> {
        Ok(self.elements()?.total())
    }

    /// Calls `see` with each element, `None` for a null, until that returns false.
    pub fn each(
        &self,
        see: &mut dyn FnMut(Option<pg_sys::Datum>) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        for place in self.elements()? {
            check_for_interrupts!();
            let place = place.map_err(|_: Damaged| damaged(Kind::Array))?;
            let element = place.map(|place| pg_sys::Datum::from(self.0.bytes()[place].as_ptr()));
            if !see(element)? {
                break;
            }
        }
        Ok(())
    }

    fn elements(&self) -> Result<Elements<'_>, Error> {
        Elements::of(self.0.bytes(), self.0.layout()).map_err(|_: Damaged| damaged(Kind::Array))
    }
}
