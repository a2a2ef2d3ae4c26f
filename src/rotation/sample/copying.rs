//! Writes rows of one heap to another one.

use crate::error::Error;
use crate::sampling::{Open, Rows, place};
use pgrx::pg_sys;

/// Copies `most` rows, or all if there are fewer. Returns how many.
///
/// # Safety
/// Both are heaps that can be read and written here. The numbers are columns of the source. The copy has as many columns, of
/// the same stored types.
pub unsafe fn copy_sample(source: &Open, copy: &Open, columns: &[i16], most: u32) -> Result<u32, Error> {
    // Where each column of the copy is in the source. Dropped columns are not in the copy.
    let places: Vec<usize> = columns.iter().filter_map(|number| place(*number)).collect();
    // SAFETY: as promised by the caller. PostgreSQL fetches values that are stored out of line when it stores the row.
    unsafe {
        Rows::new(source).sample(most, &mut |values, nulls| {
            let mut values: Vec<_> = places.iter().map(|place| values[*place]).collect();
            let mut nulls: Vec<_> = places.iter().map(|place| nulls[*place]).collect();
            let row =
                pg_sys::heap_form_tuple((*copy.relation()).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::simple_heap_insert(copy.relation(), row);
            Ok(())
        })
    }
}
