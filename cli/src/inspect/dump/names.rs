//! Names and lists, as pg_dump writes them.

/// The parts of a text between separators, but for separators between quotes.
pub fn split_outside<'a>(text: &'a str, separator: &str, quote: char) -> Vec<&'a str> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some((part, after)) = cut_outside(rest, separator, quote) {
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    parts
}

/// The text before the first separator outside of quotes, and what follows it.
pub fn cut_outside<'a>(text: &'a str, separator: &str, quote: char) -> Option<(&'a str, &'a str)> {
    let mut is_inside = false;
    for (at, sign) in text.char_indices() {
        let (before, rest) = text.split_at_checked(at)?;
        if sign == quote {
            is_inside = !is_inside;
        } else if let Some(after) = rest.strip_prefix(separator).filter(|_| !is_inside) {
            return Some((before, after));
        }
    }
    None
}

/// A name without its quotes.
pub fn unquote(name: &str) -> String {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{cut_outside, split_outside, unquote};

    #[test]
    fn quotes_hold_together() {
        assert_eq!(split_outside(r#"a, "b, c", "d""e""#, ", ", '"'), ["a", r#""b, c""#, r#""d""e""#]);
        assert_eq!(cut_outside(r#"public."t (x" (a, b"#, " (", '"'), Some((r#"public."t (x""#, "a, b")));
        assert_eq!(cut_outside("public.t", " (", '"'), None);
        assert_eq!(split_outside("1, 'it''s, so', NULL", ", ", '\''), ["1", "'it''s, so'", "NULL"]);
        assert_eq!(unquote(r#""d""e""#), r#"d"e"#);
    }
}
