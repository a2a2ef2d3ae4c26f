//! Chunks of bytes that a query gives.

use super::cursor::Cursor;
use crate::error::Error;
use pgrx::pg_sys;
use std::ffi::CStr;
use std::io::{self, Read};

/// The bytes that a query of one `bytea` column gives, one row after the other.
pub struct Chunks {
    cursor: Cursor,
    chunk: Vec<u8>,
    given: usize,
}

impl Chunks {
    /// Begins to run the query.
    pub fn of(query: &CStr) -> Result<Self, Error> {
        let cursor = Cursor::open(query)?;
        if cursor.types()? != [pg_sys::BYTEAOID] {
            return Err(Error::ChunkType);
        }
        Ok(Self { cursor, chunk: Vec::new(), given: 0 })
    }

    fn next(&mut self) -> Result<bool, Error> {
        let Self { cursor, chunk, given } = self;
        chunk.clear();
        *given = 0;
        let fetched = cursor.fetch(1, &mut |slot| {
            // SAFETY: a row of one bytea; a copy of it is freed once it is copied again.
            unsafe {
                pg_sys::slot_getallattrs(slot);
                if *(*slot).tts_isnull {
                    return Ok(());
                }
                let stored = (*(*slot).tts_values).cast_mut_ptr::<pg_sys::varlena>();
                let bytes = pg_sys::pg_detoast_datum(stored);
                let content = pgrx::varlena_to_byte_slice(bytes);
                chunk.try_reserve(content.len())?;
                chunk.extend_from_slice(content);
                if bytes != stored {
                    pg_sys::pfree(bytes.cast());
                }
            }
            Ok(())
        })?;
        Ok(fetched > 0)
    }
}

impl Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.given == self.chunk.len() {
            if !self.next().map_err(io::Error::other)? {
                return Ok(0);
            }
        }
        let read = (&self.chunk[self.given..]).read(out)?;
        self.given += read;
        Ok(read)
    }
}
