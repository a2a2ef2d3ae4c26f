//! Values that are made of others, as PostgreSQL writes them: which parts they have, and how a part is written.

use std::borrow::Cow;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{a,"b c",{…}}`, and multiranges.
    Array,
    /// `(a,"b c",)`, and ranges `[a,b)`.
    Row,
    /// An array or object.
    Json,
}

/// Where a part stands in the text, quotes included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The first byte.
    pub start: usize,
    /// Behind the last one.
    pub end: usize,
    shape: Shape,
}

impl Part {
    /// The content, given the bytes from `start` to `end`. `None` for what is not a text.
    pub fn content<'a>(&self, raw: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        if self.shape == Shape::Json {
            return serde_json::from_slice::<String>(raw).ok().map(|text| Cow::Owned(text.into_bytes()));
        }
        if !raw.iter().any(|byte| matches!(byte, b'"' | b'\\')) {
            return Some(Cow::Borrowed(raw));
        }
        let (mut out, mut at, mut is_quoted) = (Vec::with_capacity(raw.len()), 0, false);
        while let Some(byte) = raw.get(at) {
            at += 1;
            match byte {
                b'\\' => {
                    out.extend(raw.get(at));
                    at += 1;
                }
                b'"' if is_quoted && self.shape == Shape::Row && raw.get(at) == Some(&b'"') => {
                    out.push(b'"');
                    at += 1;
                }
                b'"' => is_quoted = !is_quoted,
                other => out.push(*other),
            }
        }
        Some(Cow::Owned(out))
    }

    /// The part with another content.
    pub fn quoted(&self, content: &[u8]) -> Vec<u8> {
        self.shape.quoted(content)
    }
}

impl Shape {
    fn quoted(self, content: &[u8]) -> Vec<u8> {
        if self == Self::Json {
            return serde_json::to_vec(&String::from_utf8_lossy(content)).unwrap_or_default();
        }
        let mut out = vec![b'"'];
        for byte in content {
            match byte {
                b'"' if self == Self::Row => out.push(b'"'),
                b'"' | b'\\' => out.push(b'\\'),
                _ => {}
            }
            out.push(*byte);
        }
        out.push(b'"');
        out
    }
}

/// Whether a text is an array or object of JSON.
pub fn json(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'['))
        && serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

/// How a value seems to be written; `None` if it has no parts.
pub fn shape(text: &[u8]) -> Option<Shape> {
    if json(text) {
        return Some(Shape::Json);
    }
    [Shape::Array, Shape::Row].into_iter().find(|shape| parts(*shape, text).is_some())
}

/// The parts of a value, in their order; those of an array of arrays are the elements of all of them. `None` if it is not written so.
pub fn parts(shape: Shape, text: &[u8]) -> Option<Vec<Part>> {
    let (parts, end) = match shape {
        Shape::Array => {
            let open =
                if text.first() == Some(&b'[') { text.iter().position(|byte| *byte == b'=')? + 1 } else { 0 };
            let is_bound =
                |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'[' | b']' | b':' | b'-' | b'+' | b'=');
            text[..open].iter().all(is_bound).then(|| array(text, open)).flatten()?
        }
        Shape::Row => row(text, 0)?,
        Shape::Json => (strings(text), text.len()),
    };
    (end == text.len()).then_some(parts)
}

/// The elements of the array that begins here, and where it ends.
fn array(text: &[u8], start: usize) -> Option<(Vec<Part>, usize)> {
    let (mut parts, mut at, mut depth) = (Vec::new(), start, 0_usize);
    let mut may_begin = true;
    loop {
        match text.get(at)? {
            b'{' if may_begin => {
                depth += 1;
                at += 1;
            }
            b'}' => {
                depth = depth.checked_sub(1)?;
                at += 1;
                may_begin = false;
                if depth == 0 {
                    return Some((parts, at));
                }
            }
            _ if depth == 0 => return None,
            b',' if !may_begin => {
                at += 1;
                may_begin = true;
            }
            _ if !may_begin => return None,
            first => {
                // A range in a multirange has two bounds. Elements of arrays that have commas are quoted.
                let range = matches!(first, b'[' | b'(').then(|| row(text, at)).flatten();
                at = match range {
                    Some((bounds, end)) if bounds.len() == 2 => {
                        parts.extend(bounds);
                        end
                    }
                    _ => {
                        let end = element_end(text, at, b"{},")?;
                        parts.push(Part { start: at, end, shape: Shape::Array });
                        end
                    }
                };
                may_begin = false;
            }
        }
    }
}

/// The fields of the row or range that begins here, and where it ends.
fn row(text: &[u8], start: usize) -> Option<(Vec<Part>, usize)> {
    matches!(text.get(start)?, b'(' | b'[').then_some(())?;
    let (mut parts, mut at) = (Vec::new(), start + 1);
    loop {
        let end = element_end(text, at, b"(),[]")?;
        parts.push(Part { start: at, end, shape: Shape::Row });
        match text.get(end)? {
            b',' => at = end + 1,
            b')' | b']' => return Some((parts, end + 1)),
            _ => return None,
        }
    }
}

/// Where a part ends: before one of these bytes that is not quoted.
fn element_end(text: &[u8], start: usize, marks: &[u8]) -> Option<usize> {
    let (mut at, mut is_quoted) = (start, false);
    loop {
        match text.get(at)? {
            b'\\' => at += 1,
            b'"' => is_quoted = !is_quoted,
            byte if !is_quoted && marks.contains(byte) => return Some(at),
            _ => {}
        }
        at += 1;
    }
}

/// The strings of JSON.
fn strings(text: &[u8]) -> Vec<Part> {
    let (mut parts, mut at) = (Vec::new(), 0);
    while let Some(start) = memchr::memchr(b'"', &text[at..]).map(|start| at + start) {
        let mut end = start + 1;
        while let Some(byte) = text.get(end).filter(|byte| **byte != b'"') {
            end += if *byte == b'\\' { 2 } else { 1 };
        }
        let end = text.len().min(end + 1);
        parts.push(Part { start, end, shape: Shape::Json });
        at = end;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contents(text: &str) -> Option<(Shape, Vec<String>)> {
        let bytes = text.as_bytes();
        let shape = shape(bytes)?;
        let content = |part: &Part| part.content(&bytes[part.start..part.end]).map(Cow::into_owned);
        let parts = parts(shape, bytes)?;
        Some((
            shape,
            parts.iter().filter_map(content).filter_map(|text| String::from_utf8(text).ok()).collect(),
        ))
    }

    #[test]
    fn as_postgresql_writes_them() {
        for (text, expected) in [
            ("{}", Some((Shape::Json, &[][..]))),
            ("{a,\"b \\\"c\\\\\",NULL}", Some((Shape::Array, &["a", "b \"c\\", "NULL"]))),
            ("[0:1][2:2]={{a},{b}}", Some((Shape::Array, &["a", "b"]))),
            ("{\"(1,\\\"x y\\\")\",(2)}", Some((Shape::Array, &["(1,\"x y\")", "(2)"]))),
            ("{[a,b),(,c]}", Some((Shape::Array, &["a", "b", "", "c"]))),
            ("(1,,\"a \"\"b\"\" \\\\\")", Some((Shape::Row, &["1", "", "a \"b\" \\"]))),
            ("[a,b)", Some((Shape::Row, &["a", "b"]))),
            ("{\"a\": [\"b\\n\", 1]}", Some((Shape::Json, &["a", "b\n"]))),
            ("text", None),
            ("{a", None),
            ("{a}b", None),
            ("(a", None),
            ("(a)(b)", None),
        ] {
            let expected =
                expected.map(|(shape, parts)| (shape, parts.iter().map(|part| (*part).to_owned()).collect()));
            assert_eq!(contents(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read(content in "[a\"\\\\{}(),\\[\\] \n]{0,12}", shape in prop_oneof![Just(Shape::Array), Just(Shape::Row), Just(Shape::Json)]) {
            let quoted = shape.quoted(content.as_bytes());
            let (open, close) = match shape { Shape::Array => (b'{', b'}'), Shape::Row => (b'(', b')'), Shape::Json => (b'[', b']') };
            let text = [&[open], quoted.as_slice(), b",", &quoted, &[close]].concat();
            let parts = parts(shape, &text).unwrap_or_default();
            prop_assert_eq!(parts.len(), 2);
            for part in parts {
                let read = part.content(&text[part.start..part.end]);
                prop_assert_eq!(read.as_deref(), Some(content.as_bytes()));
            }
        }

        #[test]
        fn any_text_is_read(text in "[a\"\\\\{}(),\\[\\]=:1 ]{0,24}") {
            let _ = contents(&text);
        }
    }
}
