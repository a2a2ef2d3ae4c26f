//! Key versions of the constants in stored expressions.
//!
//! Reads the text of the tree, not the tree: every constant has the same form there, whatever it is part of, and no kind of
//! node can be overlooked or missing from PostgreSQL's tree walkers (partition bounds are).

use super::versions::number;
use crate::datatype::nested;
use crate::datum::Text;
use crate::error::Error;
use memchr::memmem;
use pgrx::prelude::*;
use prism_envelope::KeyVersion;
use std::str::FromStr;

/// How `nodeToString()` begins a constant. It escapes spaces and braces in names and strings with a backslash.
const CONSTANT: &[u8] = b"{CONST :consttype ";
/// `prism:v` as `nodeToString()` writes bytes.
const TEXT_FORM_BYTES: &[u8] = b" 112 114 105 115 109 58 118 ";
/// How the text form of a value begins.
const TEXT_FORM: &[u8] = b"prism:v";

/// `prism_crypt._constant_versions(expression pg_node_tree as text) → integer[]`: the version of every `encrypted_text` in a
/// constant, and of every text form in a constant of another type; null for a damaged value. If the expression can't be read,
/// only 0, which is no version: one such expression must not keep the others from being counted.
#[pg_extern(sql = false)]
fn _constant_versions(expression: Text<'_>) -> Vec<Option<i32>> {
    versions(expression.0.bytes()).unwrap_or_else(|_| vec![Some(0)])
}

/// `prism_crypt._text_form_versions(source text) → integer[]`: the version of every text form (`prism:v<version>:`) in a text.
#[pg_extern(sql = false)]
fn _text_form_versions(source: Text<'_>) -> Vec<i32> {
    text_forms(source.0.bytes()).map(number).collect()
}

/// Whether a stored expression has a constant that holds an `encrypted_text` or a text form. Needs a transaction.
pub fn has_sealed_constant(tree: &[u8]) -> Result<bool, Error> {
    Ok(!versions(tree)?.is_empty())
}

fn versions(tree: &[u8]) -> Result<Vec<Option<i32>>, Error> {
    let mut versions = Vec::new();
    let has_text_form = memmem::find(tree, TEXT_FORM_BYTES).is_some();
    for at in memmem::find_iter(tree, CONSTANT) {
        check_for_interrupts!();
        let rest = tree.get(at + CONSTANT.len()..).unwrap_or_default();
        // A constant has no braces inside.
        let constant = rest.split(|byte| *byte == b'}').next().unwrap_or_default();
        let type_oid = leading_number::<u32>(constant).map(pg_sys::Oid::from_u32).ok_or(UNREADABLE)?;
        // The type `record` does not say what it holds.
        let is_encrypted = nested::may_hold_encrypted(type_oid);
        if !is_encrypted && !has_text_form {
            continue;
        }
        let Some(value) = value(constant)? else { continue };
        if is_encrypted {
            visit(&value, type_oid, &mut versions)?;
        } else {
            versions.extend(text_forms(&value).map(number).map(Some));
        }
    }
    Ok(versions)
}

const UNREADABLE: Error = Error::Internal("a stored expression has a form that is not known");

/// A constant may be as long as any stored value, so reading it must be cancellable.
const WORDS_A_CHECK: usize = 65_536;

/// The bytes of a constant that is not passed by value: `:constvalue 4 [ 16 0 0 0 ]`. `None` for a null (`:constvalue <>`) and
/// for one that is passed by value.
fn value(constant: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    const VALUE: &[u8] = b" :constvalue ";
    let is = |field: &[u8]| memmem::find(constant, field).is_some();
    if is(b" :constisnull true") || is(b" :constbyval true") {
        return Ok(None);
    }
    let at = memmem::find(constant, VALUE).ok_or(UNREADABLE)?;
    let text = constant.get(at + VALUE.len()..).unwrap_or_default();
    let length = leading_number::<usize>(text).ok_or(UNREADABLE)?;
    let text = text.trim_ascii_end().strip_suffix(b"]").ok_or(UNREADABLE)?;
    let mut bytes = Vec::new();
    for word in text.split(|byte| *byte == b' ').skip(2).filter(|word| !word.is_empty()) {
        if bytes.len().is_multiple_of(WORDS_A_CHECK) {
            check_for_interrupts!();
        }
        // Written as `char`, which is signed on some machines.
        bytes.push(leading_number::<i16>(word).ok_or(UNREADABLE)? as u8);
    }
    if bytes.len() == length { Ok(Some(bytes)) } else { Err(UNREADABLE) }
}

/// The number at the start of a text, up to a space.
fn leading_number<T: FromStr>(text: &[u8]) -> Option<T> {
    let word = text.split(|byte| *byte == b' ').next()?;
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Adds the versions in a constant of a type that holds `encrypted_text`.
fn visit(value: &[u8], type_oid: pg_sys::Oid, versions: &mut Vec<Option<i32>>) -> Result<(), Error> {
    // SAFETY: palloc aligns the copy, and it has room for a header. It is read as a value only if its length is the one in its
    // header, as in everything that PostgreSQL writes; constants are detoasted.
    unsafe {
        let copy = pg_sys::palloc(value.len().max(size_of::<pg_sys::varlena>())).cast::<u8>();
        std::ptr::copy_nonoverlapping(value.as_ptr(), copy, value.len());
        let datum = copy.cast::<pg_sys::varlena>();
        let is_whole = !value.is_empty()
            && !pgrx::varatt_is_1b_e(datum)
            && (value.len() >= pg_sys::VARHDRSZ || pgrx::varatt_is_1b(datum))
            && pgrx::varsize_any(datum) == value.len();
        if !is_whole {
            return Err(UNREADABLE);
        }
        nested::visit(pg_sys::Datum::from(copy), type_oid, &mut |leaf| {
            if !leaf.is_bytes() {
                versions.push(leaf.key_version().ok().map(number));
            }
            Ok(())
        })
    }
}

/// The versions that text forms name. What follows them is not checked.
fn text_forms(text: &[u8]) -> impl Iterator<Item = KeyVersion> {
    memmem::find_iter(text, TEXT_FORM).filter_map(|at| {
        let rest = text.get(at + TEXT_FORM.len()..)?;
        let digits = rest.split(|byte| *byte == b':').next().filter(|digits| digits.len() < rest.len())?;
        let digits = std::str::from_utf8(digits).ok()?;
        digits
            .starts_with(|first: char| first.is_ascii_digit())
            .then(|| digits.parse().ok())?
            .and_then(KeyVersion::new)
    })
}
