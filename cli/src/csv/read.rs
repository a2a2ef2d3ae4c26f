//! Reads records, and tells an empty text from null.

use crate::error::{Error, Result};
use csv_core::ReadFieldResult;
use std::io::BufRead;
use zeroize::Zeroizing;

/// Records, one at a time, and memory for one field.
pub struct Reader<R> {
    from: R,
    core: csv_core::Reader,
    field: Zeroizing<Vec<u8>>,
    /// The last byte that was read.
    last: u8,
}

impl<R: BufRead> Reader<R> {
    /// Comma, double quotes, lines that end with LF, CRLF or CR.
    pub fn new(from: R) -> Self {
        Self { from, core: csv_core::Reader::new(), field: Zeroizing::new(vec![0; 1 << 12]), last: b'\n' }
    }

    /// The line, from 1.
    pub fn line(&self) -> u64 {
        self.core.line()
    }

    /// Gives each field of the next record to `take`; `None` is null. An empty line is a record of one null. False at the end.
    ///
    /// # Errors
    /// [`Error::Input`], [`Error::Csv`], and those of `take`.
    pub fn read_record(&mut self, mut take: impl FnMut(Option<&[u8]>) -> Result<()>) -> Result<bool> {
        match self.begin()? {
            Start::End => return Ok(false),
            Start::EmptyLine => take(None)?,
            Start::Field => while !self.read_field(&mut take)? {},
        }
        Ok(true)
    }

    fn begin(&mut self) -> Result<Start> {
        loop {
            let next = self.from.fill_buf().map_err(Error::Input)?.first().copied();
            return Ok(match next {
                None => Start::End,
                Some(byte @ (b'\n' | b'\r')) => {
                    let is_rest_of_line_end = self.last == b'\r' && byte == b'\n';
                    self.from.consume(1);
                    self.last = byte;
                    if is_rest_of_line_end {
                        continue;
                    }
                    self.core.set_line(self.core.line() + 1);
                    Start::EmptyLine
                }
                Some(_) => Start::Field,
            });
        }
    }

    /// Whether it was the last one of its record.
    fn read_field(&mut self, take: &mut impl FnMut(Option<&[u8]>) -> Result<()>) -> Result<bool> {
        let mut len = 0;
        let mut is_quoted = None;
        let mut quotes = 0;
        let line = self.line();
        let ends_record = loop {
            let input = self.from.fill_buf().map_err(Error::Input)?;
            let is_quoted = *is_quoted.get_or_insert(input.first() == Some(&b'"'));
            if input.is_empty() && is_quoted && quotes % 2 == 1 {
                return Err(Error::Csv { line, detail: "A quoted field does not end.".to_owned() });
            }
            if len == self.field.len() {
                // A field that is in memory already would otherwise stay there.
                let mut larger = Zeroizing::new(vec![0; 2 * len]);
                larger[..len].copy_from_slice(&self.field);
                self.field = larger;
            }
            let (result, read, written) =
                self.core.read_field(input, self.field.get_mut(len..).unwrap_or_default());
            let consumed = input.get(..read).unwrap_or_default();
            quotes += consumed.iter().filter(|byte| **byte == b'"').count();
            self.last = consumed.last().copied().unwrap_or(self.last);
            self.from.consume(read);
            len += written;
            match result {
                ReadFieldResult::InputEmpty | ReadFieldResult::OutputFull => {}
                ReadFieldResult::Field { record_end } => break record_end,
                ReadFieldResult::End => return Ok(true),
            }
        };
        let field = self.field.get(..len).unwrap_or_default();
        take((!field.is_empty() || is_quoted == Some(true)).then_some(field))?;
        Ok(ends_record)
    }
}

enum Start {
    End,
    EmptyLine,
    Field,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::push_field;
    use super::*;
    use proptest::prelude::*;
    use std::io::BufReader;

    type Record = Vec<Option<Vec<u8>>>;

    fn records(text: &[u8], buffer: usize) -> Result<Vec<Record>> {
        let mut reader = Reader::new(BufReader::with_capacity(buffer, text));
        let mut all = Vec::new();
        loop {
            let mut record = Vec::new();
            let more = reader.read_record(|field| {
                record.push(field.map(<[u8]>::to_vec));
                Ok(())
            })?;
            if !more {
                return Ok(all);
            }
            all.push(record);
        }
    }

    proptest! {
        #[test]
        fn records_come_back(
            rows in (1_usize..6).prop_flat_map(|width| proptest::collection::vec(
                proptest::collection::vec(proptest::option::of("[a,\"\r\n \\\\.é]{0,12}".prop_map(String::into_bytes)), width), 0..8)),
            buffer in 1_usize..40,
            line_end in prop_oneof![Just("\n"), Just("\r\n")],
        ) {
            let mut text = Vec::new();
            for row in &rows {
                for (number, field) in row.iter().enumerate() {
                    push_field(&mut text, number == 0, field.as_deref());
                }
                text.extend_from_slice(line_end.as_bytes());
            }
            prop_assert_eq!(records(&text, buffer).unwrap(), rows);
        }
    }

    #[test]
    fn what_others_write() {
        let some = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(
            records(b"\xef\xbb\xbfa,b\r\n1,\"x\"\"y\"\r\n,\"\"", 64).unwrap(),
            [vec![some("a"), some("b")], vec![some("1"), some("x\"y")], vec![None, some("")]]
        );
        assert_eq!(records(b"a\n\n\"\"\n", 64).unwrap(), [vec![some("a")], vec![None], vec![some("")]]);
        assert!(matches!(records(b"a\n\"b\nc", 64), Err(Error::Csv { line: 2, .. })));
        assert!(matches!(records(b"a\n\"b\"\"", 64), Err(Error::Csv { line: 2, .. })));
        assert!(records(b"", 64).unwrap().is_empty());
    }
}
