//! `_export_chunks`: an encrypted file in pieces, each made when it is asked for.

use super::content::{Content, compression_named};
use super::definition::Exported;
use super::export::{names_of_relations, write, write_definition};
use super::key::{for_new_file, name_of_source};
use super::progress::Progress;
use super::record::record;
use super::rows::Rows;
use crate::datum::Text;
use crate::error::Error;
use crate::privilege::require_execute;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use prism_envelope::file::FileError;
use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

/// A piece has at least so many bytes, but for the last one, and at most so many.
const PIECE: usize = 256 << 10;
const MAX_PIECE: usize = 1 << 20;

/// `prism_crypt._export_chunks(source text, key text, compression text) → setof bytea`: the same file as `_export_rows` writes. The key may be null.
#[pg_extern(sql = false)]
fn _export_chunks(
    source: Option<Text<'_>>,
    key: Option<Text<'_>>,
    compression: Text<'_>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<SetOfIterator<'static, Vec<u8>>, ErrorReport> {
    require_execute(fcinfo)?;
    let compression = compression_named(compression)?;
    let (key, key_source) = for_new_file(key)?;
    let exported = Exported::named(source)?;
    // Before the first piece leaves.
    let (relations, name_of_key) = (names_of_relations(&exported)?, name_of_source(&key_source));
    record("export_stream", &[&relations, b" to the client, key: ", name_of_key.as_bytes()], fcinfo)?;
    let pieces = Rc::new(RefCell::new(Vec::new()));
    let mut content = Content::begin(Shared(Rc::clone(&pieces)), &key, key_source, compression)?;
    write_definition(&mut content, &exported)?;
    let rows = Rows::of(&exported.query, exported.shown)?;
    let progress = Progress::of_export(exported.relation);
    Ok(SetOfIterator::new(Pieces { rows, content: Some(content), pieces, given: 0, progress }))
}

/// Memory to which one writes and from which another one takes.
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pieces = self.0.borrow_mut();
        pieces.try_reserve(bytes.len()).map_err(|_| FileError::OutOfMemory)?;
        pieces.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Pieces {
    rows: Rows,
    /// Until the last row.
    content: Option<Content<Shared>>,
    pieces: Rc<RefCell<Vec<u8>>>,
    /// How much of them was given.
    given: usize,
    progress: Progress,
}

impl Pieces {
    /// One row after the other, because any of them may be large.
    fn fill(&mut self) -> Result<(), Error> {
        self.pieces.borrow_mut().drain(..self.given);
        self.given = 0;
        while self.pieces.borrow().len() < PIECE
            && let Some(content) = &mut self.content
        {
            let progress = &self.progress;
            let mut see = |row: &[u8], rows, bytes| {
                progress.update(rows, bytes);
                write(content, row)
            };
            if !self.rows.next(1, &mut see)?
                && let Some(content) = self.content.take()
            {
                content.finish()?;
                self.rows.end();
            }
        }
        Ok(())
    }
}

impl Iterator for Pieces {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let left = self.pieces.borrow().len() - self.given;
        if left < PIECE
            && self.content.is_some()
            && let Err(error) = self.fill()
        {
            error.raise();
        }
        let pieces = self.pieces.borrow();
        let rest = pieces.get(self.given..).unwrap_or_default();
        let piece = rest.get(..MAX_PIECE).unwrap_or(rest);
        self.given += piece.len();
        Some(piece.to_vec()).filter(|piece| !piece.is_empty())
    }
}
