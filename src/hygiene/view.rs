//! What is quoted in a text, as it reads without its quotes and escapes, and where each of its bytes stands in the text.

use super::lexer::{Kind, Quote, Token, pieces};
use memchr::memchr;
use std::borrow::Cow;
use std::ops::Range;

/// The most changes between plain bytes and escapes to follow in one string: what comes after reads as it is written. This
/// bounds memory.
const MOST_RUNS: usize = 1 << 18;

/// Bytes that are equally spaced in the outer text.
#[derive(Clone, Copy)]
struct Run {
    /// The position of the first byte here.
    start: usize,
    /// Its position in the outer text.
    outer: usize,
    /// How many bytes there make one here.
    step: usize,
}

/// A text, or a quoted part of one.
pub struct View<'a> {
    bytes: Cow<'a, [u8]>,
    /// Where it begins in the outer text, if it is one unbroken part of it.
    offset: usize,
    /// Empty if it is one unbroken part.
    runs: Vec<Run>,
    outer: Option<&'a View<'a>>,
}

impl<'a> View<'a> {
    pub fn of(text: &'a [u8]) -> Self {
        Self { bytes: Cow::Borrowed(text), offset: 0, runs: Vec::new(), outer: None }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it reads differently from how it is written.
    pub fn is_decoded(&self) -> bool {
        !self.runs.is_empty()
    }

    /// The content of a quoted token of this text.
    pub fn quoted<'b>(&'b self, quote: Quote, open: usize, close: usize) -> View<'b> {
        let written = &self.bytes[open..close];
        let has = |byte: Option<u8>| byte.is_some_and(|byte| memchr(byte, written).is_some());
        if !has(quote.mark()) && !has(quote.escape()) {
            return View { bytes: Cow::Borrowed(written), offset: open, runs: Vec::new(), outer: Some(self) };
        }
        let mut decoder = Decoder { bytes: Vec::new(), runs: Vec::new(), next: 0, step: 0 };
        if decoder.bytes.try_reserve_exact(written.len()).is_err() {
            return View { bytes: Cow::Borrowed(written), offset: open, runs: Vec::new(), outer: Some(self) };
        }
        for (start, end) in pieces(&self.bytes, quote, open, close) {
            decoder.piece(&self.bytes, start..end, quote);
        }
        View { bytes: Cow::Owned(decoder.bytes), offset: open, runs: decoder.runs, outer: Some(self) }
    }

    /// Overwrites, in a copy of the outermost text, the bytes that a part of this one comes from.
    pub fn blank(&self, part: Range<usize>, target: &mut [u8]) {
        let part = part.start..part.end.min(self.bytes.len());
        if part.is_empty() {
            return;
        }
        if self.runs.is_empty() {
            return self.blank_outer(self.offset + part.start..self.offset + part.end, target);
        }
        let first = self.runs.partition_point(|run| run.start <= part.start).saturating_sub(1);
        for (at, run) in self.runs.iter().enumerate().skip(first).take_while(|(_, run)| run.start < part.end)
        {
            let end = self.runs.get(at + 1).map_or(self.bytes.len(), |next| next.start).min(part.end);
            let start = run.start.max(part.start);
            let outer = |at: usize| run.outer + (at - run.start) * run.step;
            self.blank_outer(outer(start)..outer(end), target);
        }
    }

    fn blank_outer(&self, part: Range<usize>, target: &mut [u8]) {
        match self.outer {
            Some(outer) => outer.blank(part, target),
            None => {
                if let Some(part) = target.get_mut(part) {
                    part.fill(b'*');
                }
            }
        }
    }

    /// Overwrites the content of a quoted token of this text, but not its quotes.
    pub fn blank_content(&self, token: Token, target: &mut [u8]) {
        if let Kind::Quoted { quote, open, close } = token.kind {
            for (start, end) in pieces(&self.bytes, quote, open, close) {
                self.blank(start..end, target);
            }
        }
    }
}

struct Decoder {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    /// Where the next byte stands if the run goes on.
    next: usize,
    step: usize,
}

impl Decoder {
    fn piece(&mut self, text: &[u8], piece: Range<usize>, quote: Quote) {
        let (mark, escape) = (quote.mark(), quote.escape());
        let mut at = piece.start;
        while at < piece.end {
            let byte = text[at];
            let rest = &text[at + 1..piece.end];
            let (decoded, length) = if self.runs.len() >= MOST_RUNS {
                (byte, 1)
            } else if Some(byte) == mark {
                // Doubled; otherwise it would have ended the piece.
                (byte, 2)
            } else if Some(byte) == escape {
                escaped(rest, quote, byte)
            } else {
                (byte, 1)
            };
            let length = length.min(piece.end - at);
            self.push(decoded, at, length);
            at += length;
        }
    }

    fn push(&mut self, byte: u8, outer: usize, step: usize) {
        if (outer, step) != (self.next, self.step) {
            self.runs.push(Run { start: self.bytes.len(), outer, step });
        }
        (self.next, self.step) = (outer + step, step);
        self.bytes.push(byte);
    }
}

/// What an escape stands for, and its length in bytes. Characters other than ASCII are not told apart.
fn escaped(rest: &[u8], quote: Quote, escape: u8) -> (u8, usize) {
    let number = |skip: usize, most: usize, radix: u32| {
        let digits = rest.get(skip..).unwrap_or_default();
        let count = digits.iter().take(most).take_while(|byte| char::from(**byte).is_digit(radix)).count();
        let code = digits[..count].iter().fold(0_u32, |code, byte| {
            code.wrapping_mul(radix).wrapping_add(char::from(*byte).to_digit(radix).unwrap_or(0))
        });
        let byte = u8::try_from(code).ok().filter(u8::is_ascii).unwrap_or(b'?');
        (count > 0).then_some((byte, 1 + skip + count))
    };
    let is_unicode = matches!(quote, Quote::Unicode(_) | Quote::UnicodeIdentifier(_));
    let found = match rest.first() {
        None => return (escape, 1),
        Some(b'+') if is_unicode => number(1, 6, 16),
        Some(byte) if is_unicode && *byte != escape => number(0, 4, 16),
        Some(b'u') => number(1, 4, 16),
        Some(b'U') => number(1, 8, 16),
        Some(b'x') => number(1, 2, 16),
        Some(b'0'..=b'7') => number(0, 3, 8),
        Some(b'n' | b'r' | b'b' | b'f' | b't') => Some((b' ', 2)),
        Some(_) => None,
    };
    found.unwrap_or((rest[0], 2))
}

#[cfg(test)]
mod tests {
    use super::super::lexer::{Dialect, Lexer};
    use super::*;

    #[test]
    fn reads_and_blanks_what_is_quoted() {
        for (text, read, part, blanked) in [
            ("'abc'", "abc", 1..2, "'a*c'"),
            ("'a''b'", "a'b", 1..3, "'a***'"),
            ("E'a\\x62\\143d\\'\\n'", "abcd' ", 1..5, "E'a***********\\n'"),
            ("U&'\\0061b!' uescape '!'", "\\0061b!", 0..1, "U&'*0061b!' uescape '!'"),
            ("U&'!0061b!!!+000063' uescape '!'", "ab!c", 2..4, "U&'!0061b**********' uescape '!'"),
            ("'ab'\n  'cd'", "abcd", 1..3, "'a*'\n  '*d'"),
            ("$a$b''$a$", "b''", 0..3, "$a$***$a$"),
            ("E'\\", "\\", 0..9, "E'*"),
            ("\"a\"\"b\"", "a\"b", 1..2, "\"a**b\""),
        ] {
            let view = View::of(text.as_bytes());
            let Some(Token { kind: Kind::Quoted { quote, open, close }, .. }) =
                Lexer::new(text.as_bytes(), Dialect::default()).next()
            else {
                panic!("{text}");
            };
            let quoted = view.quoted(quote, open, close);
            assert_eq!(String::from_utf8_lossy(quoted.bytes()), read, "{text}");
            let mut target = text.as_bytes().to_vec();
            quoted.blank(part, &mut target);
            assert_eq!(String::from_utf8_lossy(&target), blanked, "{text}");
        }
    }

    #[test]
    fn finds_its_place_through_several_quotes() {
        let text = b"x '-- E''a\\x62\\143'' --' y";
        let outer = View::of(text);
        let first = outer.quoted(Quote::Plain, 3, 23);
        assert_eq!(first.bytes(), b"-- E'a\\x62\\143' --");
        let second = first.quoted(Quote::Backslash, 5, 14);
        assert_eq!(second.bytes(), b"abc");
        let mut target = text.to_vec();
        second.blank(1..2, &mut target);
        assert_eq!(target, b"x '-- E''a****\\143'' --' y");
    }
}
