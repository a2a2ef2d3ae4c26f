//! A dump as it is read: statements, lines between them, and rows of COPY. Memory holds one of them at a time.

use super::encoding::Encoding;
use crate::error::Result;
use crate::lexer::{Dialect, Kind, Lexer, is_blank};
use memchr::{memchr, memmem};
use std::io::Read;

/// How many bytes are read at a time, at least.
const CHUNK: usize = 256 << 10;
/// Behind a line like this one, the text may be in another encoding.
const ENCODING_FOLLOWS: &[u8] = b"SET client_encoding = '";

/// A part of a script.
#[derive(Clone, Copy)]
pub enum Piece<'a> {
    /// A line that is empty, a comment, or of `psql` (`\connect`), with its end.
    Line(&'a [u8]),
    /// A statement up to its semicolon, and the rest of that line.
    Statement(&'a [u8]),
}

/// A dump in plain form. What is read is in UTF-8, or in bytes of no known encoding.
pub struct Script {
    input: Box<dyn Read>,
    /// What was read and not yet decoded.
    raw: Vec<u8>,
    buffer: Vec<u8>,
    /// Where the rest begins.
    start: usize,
    is_at_end: bool,
    /// Whether it ended in the middle of something.
    is_cut: bool,
    /// Dumps whose first line was there, and not yet the last one.
    open_dumps: i64,
    encoding: Encoding,
    /// How strings are written from here on.
    pub dialect: Dialect,
}

impl Script {
    /// Reads a dump from its beginning.
    pub fn new(input: Box<dyn Read>) -> Self {
        Self {
            input,
            raw: Vec::new(),
            buffer: Vec::new(),
            start: 0,
            is_at_end: false,
            is_cut: false,
            open_dumps: 0,
            encoding: Encoding::default(),
            dialect: Dialect::default(),
        }
    }

    /// The rest is in this encoding.
    pub fn set_encoding(&mut self, encoding: Encoding) {
        self.encoding = encoding;
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// Those of the input, also if it is not of its encoding.
    pub fn next(&mut self) -> Result<Option<Piece<'_>>> {
        let Some(end) = self.find_line()? else { return Ok(None) };
        let line = self.buffer[self.start..end].trim_ascii();
        match line {
            b"-- PostgreSQL database dump" => self.open_dumps += 1,
            b"-- PostgreSQL database dump complete" => self.open_dumps -= 1,
            _ => {}
        }
        if line.is_empty() || line.starts_with(b"--") || line.starts_with(b"\\") {
            return Ok(Some(Piece::Line(self.take(end))));
        }
        loop {
            if let Some(end) = self.find_statement_end() {
                // Up to the end of the line, if nothing but blanks follows.
                let length = end - self.start;
                while memchr(b'\n', &self.buffer[self.start + length..]).is_none() && self.fill()? {}
                let end = self.start + length;
                let rest = &self.buffer[end..];
                let line = memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
                let line = if rest[..line].iter().all(|byte| is_blank(*byte)) { line } else { 0 };
                return Ok(Some(Piece::Statement(self.take(end + line))));
            }
            if !self.fill()? {
                self.is_cut = true;
                return Ok(None);
            }
        }
    }

    /// The next row of COPY, without its line end; `None` behind the last one.
    ///
    /// # Errors
    /// Those of the input.
    pub fn next_row(&mut self) -> Result<Option<&[u8]>> {
        let end = self.find_line()?;
        let line = end.map_or(&b""[..], |end| &self.buffer[self.start..end]);
        let is_last = line == b"\\.\n" || line == b"\\.";
        // A row without its end is only a part of one.
        self.is_cut |= !is_last && !line.ends_with(b"\n");
        let end = end.unwrap_or(self.buffer.len());
        if is_last || self.is_cut {
            self.start = end;
            return Ok(None);
        }
        let line = self.take(end);
        Ok(line.strip_suffix(b"\n"))
    }

    /// Whether what was read so far ends where a dump does: not in a statement or row, and behind the last line of `pg_dump`.
    pub fn is_complete(&self) -> bool {
        !self.is_cut && self.open_dumps <= 0
    }

    fn take(&mut self, end: usize) -> &[u8] {
        let start = std::mem::replace(&mut self.start, end);
        &self.buffer[start..end]
    }

    /// Where the next line ends; `None` if there is none.
    fn find_line(&mut self) -> Result<Option<usize>> {
        let mut searched = 0;
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[self.start + searched..]) {
                return Ok(Some(self.start + searched + at + 1));
            }
            searched = self.buffer.len() - self.start;
            if !self.fill()? {
                return Ok((searched > 0).then_some(self.buffer.len()));
            }
        }
    }

    /// Where the semicolon is that ends the statement, by the rules of `psql`: not in parentheses, and not in a body of `BEGIN ATOMIC`.
    fn find_statement_end(&self) -> Option<usize> {
        let text = &self.buffer[self.start..];
        let (mut parentheses, mut begins, mut has_body) = (0_usize, 0_usize, false);
        for (number, token) in Lexer::new(text, self.dialect).enumerate() {
            let bytes = &text[token.start..token.end];
            let is = |word: &[u8]| token.kind == Kind::Word && bytes.eq_ignore_ascii_case(word);
            match token.kind {
                Kind::Semicolon if parentheses == 0 && begins == 0 => return Some(self.start + token.end),
                Kind::Other if bytes == b"(" => parentheses += 1,
                Kind::Other if bytes == b")" => parentheses = parentheses.saturating_sub(1),
                // CREATE [OR REPLACE] FUNCTION
                Kind::Word if number < 4 && (is(b"function") || is(b"procedure")) => has_body = true,
                Kind::Word if has_body && (is(b"begin") || (begins > 0 && is(b"case"))) => begins += 1,
                Kind::Word if begins > 0 && is(b"end") => begins -= 1,
                _ => {}
            }
        }
        None
    }

    /// Reads more: as much as there is already, so that looking again from the beginning costs little. False at the end.
    fn fill(&mut self) -> Result<bool> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let before = self.buffer.len();
        loop {
            let until = decodable(&self.raw, self.is_at_end);
            if until > 0 {
                self.encoding.decode(&self.raw[..until], &mut self.buffer)?;
                self.raw.drain(..until);
                if self.buffer.len() > before {
                    return Ok(true);
                }
            } else if self.is_at_end {
                self.encoding.finish()?;
                return Ok(false);
            } else {
                let mut part = (&mut self.input).take(CHUNK.max(before) as u64);
                self.is_at_end = part.read_to_end(&mut self.raw).map_err(super::source::unreadable)? == 0;
            }
        }
    }
}

/// How many of these bytes can be decoded before the encoding may change: up to the end of the first line that may do so.
fn decodable(raw: &[u8], is_at_end: bool) -> usize {
    match memmem::find(raw, ENCODING_FOLLOWS) {
        Some(at) => match memchr(b'\n', &raw[at..]) {
            Some(end) => at + end + 1,
            None if is_at_end => raw.len(),
            None => at,
        },
        None if is_at_end => raw.len(),
        // Such a line may begin at the end of them.
        None => raw.len().saturating_sub(ENCODING_FOLLOWS.len() - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &'static str) -> Vec<String> {
        let mut script = Script::new(Box::new(text.as_bytes()));
        let mut found = Vec::new();
        while let Ok(Some(piece)) = script.next() {
            let (kind, bytes) = match piece {
                Piece::Line(line) => ("line", line),
                Piece::Statement(statement) => ("statement", statement),
            };
            found.push(format!("{kind} {}", String::from_utf8_lossy(bytes)));
            if bytes.starts_with(b"COPY") {
                while let Ok(Some(row)) = script.next_row() {
                    found.push(format!("row {}", String::from_utf8_lossy(row)));
                }
            }
        }
        found
    }

    #[test]
    fn statements_lines_and_rows() {
        let text = "--\n-- a; b\n\n\\connect x\nSELECT ';', $$;$$, (1;2), \"a;\" /* ; */;\nCOPY t FROM stdin;\na;\\.\tb\n\\.\n\
            CREATE FUNCTION f() RETURNS int\n BEGIN ATOMIC SELECT CASE WHEN true THEN 1; END; SELECT 2; END;\nSELECT 1; SELECT 2;\n-- last";
        assert_eq!(
            pieces(text),
            [
                "line --\n",
                "line -- a; b\n",
                "line \n",
                "line \\connect x\n",
                "statement SELECT ';', $$;$$, (1;2), \"a;\" /* ; */;\n",
                "statement COPY t FROM stdin;\n",
                "row a;\\.\tb",
                "statement CREATE FUNCTION f() RETURNS int\n BEGIN ATOMIC SELECT CASE WHEN true THEN 1; END; SELECT 2; END;\n",
                "statement SELECT 1;",
                "statement  SELECT 2;\n",
                "line -- last",
            ]
        );
    }

    #[test]
    fn longer_than_what_is_read_at_a_time() {
        let long = format!("SELECT '{}';\nSELECT 1;\n", "x;\n".repeat(CHUNK));
        let mut script = Script::new(Box::new(std::io::Cursor::new(long.clone())));
        let mut found = Vec::new();
        while let Ok(Some(Piece::Statement(statement))) = script.next() {
            found.push(statement.len());
        }
        assert_eq!(found, [long.len() - 10, 10]);
    }
}
