//! Goes through a JSON document.

use serde_json::Value;

/// Deeper values are not looked at. The parser itself stops at 128.
const DEEPEST: usize = 16;
/// So many values of a document are looked at.
const MOST: usize = 10_000;

/// A value in a document.
pub enum Leaf<'a> {
    Text(&'a str),
    Number(&'a str),
    /// A key that is not the name of something.
    Key(&'a str),
}

/// The document in a text, if it is one of objects or arrays.
pub fn parse(text: &str) -> Option<Value> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// Calls `see` with each text and number, and the keys that lead to it.
pub fn each_leaf(document: &Value, see: &mut dyn FnMut(&[&str], Leaf<'_>)) {
    walk(document, &mut Vec::new(), &mut MOST.clone(), see);
}

fn walk<'a>(
    value: &'a Value,
    path: &mut Vec<&'a str>,
    left: &mut usize,
    see: &mut dyn FnMut(&[&str], Leaf<'_>),
) {
    let Some(fewer) = left.checked_sub(1) else { return };
    *left = fewer;
    match value {
        Value::String(text) => see(path, Leaf::Text(text)),
        Value::Number(number) => see(path, Leaf::Number(&number.to_string())),
        Value::Array(items) => items.iter().for_each(|item| walk(item, path, left, see)),
        Value::Object(fields) if path.len() < DEEPEST => {
            for (key, value) in fields {
                if is_name(key) {
                    path.push(key);
                } else {
                    see(path, Leaf::Key(key));
                    path.push(ANY);
                }
                walk(value, path, left, see);
                path.pop();
            }
        }
        Value::Object(_) | Value::Bool(_) | Value::Null => {}
    }
}

/// What stands in a path for keys that are data.
pub const ANY: &str = "*";

/// Whether a key is a name, and not data itself: an address, a number, an identifier.
fn is_name(key: &str) -> bool {
    let digits = key.chars().filter(char::is_ascii_digit).count();
    (1..=40).contains(&key.chars().count())
        && digits <= 2
        && key.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '$')
        && key.chars().all(|c| c.is_alphanumeric() || "_-$".contains(c))
}
