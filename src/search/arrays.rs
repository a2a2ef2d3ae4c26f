//! `@>`, `<@`, `&&`, `=` and `<>` between an array of values and an array of texts. The answers are those of PostgreSQL for two arrays of
//! text: a null in an array is never found in the other, but `=` compares nulls as equal, and dimensions, too. All are strict.
//!
//! Usually the planner has replaced them (`query_constants`): these serve texts that are known only when a statement runs, and no index
//! finds.

use super::compare::{has_tag, tag_of_text};
use crate::datatype::nested::Array;
use crate::datum::{Payload, Stored, Text};
use crate::error::{Error, SqlResult};
use crate::privilege::require_search;
use pgrx::FromDatum;
use pgrx::prelude::*;
use prism_envelope::SearchTag;

/// What the arrays are compared for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    /// Whether each text is a value.
    HoldsAll,
    /// Whether each value is a text.
    IsWithin,
    /// Whether a value is a text.
    Overlaps,
    /// Whether both are the same.
    Equals,
}

/// Declares the two functions of an operator: for values on the left, and for texts on the left.
macro_rules! operator {
    ($values_left:ident, $question:expr, $texts_left:ident, $reversed:expr, $is_negated:literal) => {
        #[pg_extern(sql = false)]
        fn $values_left(fcinfo: pg_sys::FunctionCallInfo) -> SqlResult<bool> {
            // SAFETY: the install script declares this function for arrays of values and of texts.
            Ok(unsafe { answer(fcinfo, 0, $question) }? != $is_negated)
        }

        #[pg_extern(sql = false)]
        fn $texts_left(fcinfo: pg_sys::FunctionCallInfo) -> SqlResult<bool> {
            // SAFETY: the same, the other way round.
            Ok(unsafe { answer(fcinfo, 1, $reversed) }? != $is_negated)
        }
    };
}

operator!(
    encrypted_text_array_contains,
    Question::HoldsAll,
    text_array_contains_encrypted,
    Question::IsWithin,
    false
);
operator!(
    encrypted_text_array_contained,
    Question::IsWithin,
    text_array_contained_encrypted,
    Question::HoldsAll,
    false
);
operator!(
    encrypted_text_array_overlaps,
    Question::Overlaps,
    text_array_overlaps_encrypted,
    Question::Overlaps,
    false
);
operator!(encrypted_text_array_eq, Question::Equals, text_array_eq_encrypted, Question::Equals, false);
operator!(encrypted_text_array_ne, Question::Equals, text_array_ne_encrypted, Question::Equals, true);

/// A text that is looked for; `None` for a null.
#[derive(Clone, Copy)]
struct Wanted {
    tag: Option<SearchTag>,
    is_found: bool,
}

/// # Safety
/// The running call of a strict function with two arguments: an array of values at `place`, and one of texts.
unsafe fn answer(fcinfo: pg_sys::FunctionCallInfo, place: usize, question: Question) -> Result<bool, Error> {
    require_search(fcinfo)?;
    // SAFETY: as promised by the caller; what is copied lives in the memory context of this call.
    let (values, texts) = unsafe {
        let argument = |index: usize| (*fcinfo).args.as_ptr().add(index).read().value;
        (Array::of(argument(place))?, Array::of(argument(1 - place))?)
    };
    if question == Question::Equals && values.dimensions()? != texts.dimensions()? {
        return Ok(false);
    }
    let wanted = wanted(&texts)?;
    match question {
        Question::HoldsAll => holds_all(&values, wanted),
        Question::IsWithin => all(&values, |_, value| is_any(value, wanted)),
        Question::Overlaps => Ok(!all(&values, |_, value| Ok(!is_any(value, wanted)?))?),
        Question::Equals => {
            all(&values, |index, value| match (value, wanted.get(index).and_then(|wanted| wanted.tag)) {
                (Some(value), Some(tag)) => has_tag(value, tag, &mut None),
                (value, tag) => Ok(value.is_none() && tag.is_none()),
            })
        }
    }
}

/// The tags of texts. In PostgreSQL's memory, because an error may jump over this.
fn wanted<'a>(texts: &Array<'_>) -> Result<&'a mut [Wanted], Error> {
    let count = texts.count()?;
    // SAFETY: palloc gives this much memory or raises an error, and each place is written before it is borrowed.
    let wanted = unsafe {
        let start = pg_sys::palloc(count.max(1) * size_of::<Wanted>()).cast::<Wanted>();
        for index in 0..count {
            start.add(index).write(Wanted { tag: None, is_found: false });
        }
        std::slice::from_raw_parts_mut(start, count)
    };
    let mut places = wanted.iter_mut();
    texts.each(&mut |text| {
        if let (Some(text), Some(place)) = (text, places.next()) {
            // SAFETY: an element of an array of texts.
            let text = unsafe { Payload::from_datum(text, false) }.ok_or(Error::Internal("no text"))?;
            place.tag = Some(tag_of_text(Text(text))?);
        }
        Ok(true)
    })?;
    Ok(wanted)
}

/// Whether the test holds for each element, `None` for a null. It ends with the first one for which it does not.
fn all(
    values: &Array<'_>,
    mut test: impl FnMut(usize, Option<&Stored<'_>>) -> Result<bool, Error>,
) -> Result<bool, Error> {
    let (mut index, mut holds) = (0, true);
    values.each(&mut |element| {
        // SAFETY: an element of an array of values.
        let value = element.and_then(|element| unsafe { Stored::from_datum(element, false) });
        holds = test(index, value.as_ref())?;
        index += 1;
        Ok(holds)
    })?;
    Ok(holds)
}

/// Whether a value is one of these texts. A null is none.
fn is_any(value: Option<&Stored<'_>>, wanted: &[Wanted]) -> Result<bool, Error> {
    let Some(value) = value else { return Ok(false) };
    let mut own = None;
    for tag in wanted.iter().filter_map(|wanted| wanted.tag) {
        if has_tag(value, tag, &mut own)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether each of these texts is a value. A null is none.
fn holds_all(values: &Array<'_>, wanted: &mut [Wanted]) -> Result<bool, Error> {
    if wanted.iter().any(|wanted| wanted.tag.is_none()) {
        return Ok(false);
    }
    let mut left = wanted.len();
    let is_any_missing = left > 0
        && all(values, |_, value| {
            let Some(value) = value else { return Ok(true) };
            let mut own = None;
            for one in wanted.iter_mut().filter(|one| !one.is_found) {
                let Some(tag) = one.tag else { continue };
                if has_tag(value, tag, &mut own)? {
                    one.is_found = true;
                    left -= 1;
                }
            }
            Ok(left > 0)
        })?;
    Ok(!is_any_missing)
}
