//! The plaintext of values: text as it is, `encrypted_text` opened, other types as PostgreSQL writes them.

use crate::datatype::nested::{TextLike, text_like};
use crate::datatype::reading::open_without_context;
use crate::datatype::{encoding, typmod, without_padding};
use crate::datum::{Encrypted, Payload};
use crate::error::Error;
use crate::keyring;
use crate::sqlstate::{is_of_class, sqlstate};
use crate::varlena::Varlena;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, pg_sys};
use std::ffi::CStr;
use std::panic::AssertUnwindSafe;

unsafe extern "C-unwind" {
    // Of datum.h, which pgrx has no bindings for. It fetches values that are stored out of line.
    fn datum_image_eq(left: pg_sys::Datum, right: pg_sys::Datum, by_value: bool, length: i32) -> bool;
}

/// Classes of errors that are not about what an input function, or the check of a domain, gets: rollback of the transaction, resources,
/// intervention, the system. The check may be anybody's function and raise any other.
const NOT_ABOUT_INPUT: [i32; 4] =
    [sqlstate(*b"40000"), sqlstate(*b"53000"), sqlstate(*b"57000"), sqlstate(*b"58000")];

/// How values of a type hold text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `encrypted_text`.
    Sealed,
    /// `text`, and what is stored like it.
    Text,
    /// `character`, which is padded.
    Padded,
    /// Any other.
    Other,
}

/// A type with its modifier.
#[derive(Debug, Clone, Copy)]
pub struct ValueType {
    declared: pg_sys::Oid,
    modifier: i32,
    form: Form,
    length: i16,
    by_value: bool,
    output: pg_sys::Oid,
}

/// The plaintext of a value, in the server's encoding.
pub enum Plaintext<'a> {
    Stored(&'a [u8]),
    Opened(Varlena),
    Written(&'a CStr),
}

impl Plaintext<'_> {
    /// The bytes of the text.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Stored(bytes) => bytes,
            Self::Opened(text) => text.bytes(),
            Self::Written(text) => text.to_bytes(),
        }
    }
}

impl ValueType {
    /// Needs a transaction.
    pub fn new(declared: pg_sys::Oid, modifier: i32) -> Self {
        let mut base_modifier = modifier;
        let (mut length, mut by_value, mut alignment) = (0, false, 0);
        let (mut output, mut is_varlena) = (pg_sys::InvalidOid, false);
        // SAFETY: catalog look-ups.
        let base = unsafe {
            let base = pg_sys::getBaseTypeAndTypmod(declared, &raw mut base_modifier);
            pg_sys::get_typlenbyvalalign(base, &raw mut length, &raw mut by_value, &raw mut alignment);
            pg_sys::getTypeOutputInfo(base, &raw mut output, &raw mut is_varlena);
            base
        };
        Self { declared, modifier: base_modifier, form: form_of(base), length, by_value, output }
    }

    /// Whether it is `encrypted_text`.
    pub fn is_sealed(self) -> bool {
        self.form == Form::Sealed
    }

    /// Whether values of it carry search tags.
    pub fn is_searchable(self) -> bool {
        self.is_sealed() && typmod::attributes_of(self.modifier).search_tag.is_some()
    }

    /// Its output function.
    pub fn output_function(self) -> pg_sys::Oid {
        self.output
    }

    /// The plaintext of a value of this type.
    ///
    /// # Safety
    /// `datum` is a non-null value of this type that lives as long as `'a`.
    pub unsafe fn plaintext<'a>(self, datum: pg_sys::Datum) -> Result<Plaintext<'a>, Error> {
        // SAFETY: as promised by the caller; an output function returns a terminated, palloc'd string.
        unsafe {
            Ok(match self.form {
                Form::Sealed => Plaintext::Opened(open_without_context(Encrypted::of(datum).envelope()?)?),
                Form::Text => Plaintext::Stored(Payload::of(datum).bytes()),
                Form::Padded => Plaintext::Stored(without_padding(Payload::of(datum).bytes())),
                Form::Other => {
                    let _style = IsoDates::set();
                    Plaintext::Written(CStr::from_ptr(pg_sys::OidOutputFunctionCall(self.output, datum)))
                }
            })
        }
    }

    /// The value of this type with a plaintext, sealed under the session's keyset if it is `encrypted_text`.
    pub fn value(self, plaintext: &[u8]) -> Result<pg_sys::Datum, Error> {
        if self.is_sealed() {
            let attributes = typmod::attributes_of(self.modifier);
            return encoding::with_utf8(plaintext, |text| keyring::seal(None, &attributes, text))
                .map(|sealed| sealed.datum());
        }
        if self.declared == pg_sys::TEXTOID {
            return Ok(Varlena::copy_of(plaintext)?.datum());
        }
        // An input function takes a terminated string.
        let mut text = Varlena::new(plaintext.len() + 1)?;
        text.bytes_mut()[..plaintext.len()].copy_from_slice(plaintext);
        text.bytes_mut()[plaintext.len()] = 0;
        let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
        let _style = IsoDates::set();
        // SAFETY: a catalog look-up.
        unsafe { pg_sys::getTypeInputInfo(self.declared, &raw mut function, &raw mut parameter) };
        let input = text.bytes_mut().as_mut_ptr().cast();
        // SAFETY: a call of the type's input function, which does not change the terminated string.
        self.without_message(|| unsafe {
            pg_sys::OidInputFunctionCall(function, input, parameter, self.modifier)
        })
    }

    /// What an input function gives. Where it can't take a text, its message quotes that: whoever writes ciphertext need not be one who
    /// may read it.
    fn without_message(self, input: impl FnOnce() -> pg_sys::Datum) -> Result<pg_sys::Datum, Error> {
        PgTryBuilder::new(AssertUnwindSafe(|| Ok(input())))
            .catch_others(|error| match &error {
                CaughtError::PostgresError(report)
                    if !NOT_ABOUT_INPUT
                        .iter()
                        .any(|class| is_of_class(report.sql_error_code() as i32, *class)) =>
                {
                    Err(Error::NotOfType(self.name()))
                }
                _ => error.rethrow(),
            })
            .execute()
    }

    fn name(self) -> String {
        // SAFETY: a catalog look-up, which gives a terminated text.
        unsafe { CStr::from_ptr(pg_sys::format_type_be(self.declared)) }.to_string_lossy().into_owned()
    }

    /// Whether two values of this type have the same image.
    ///
    /// # Safety
    /// Both are non-null values of this type.
    pub unsafe fn are_alike(self, left: pg_sys::Datum, right: pg_sys::Datum) -> bool {
        // SAFETY: as promised by the caller.
        unsafe { are_alike(left, right, self.length, self.by_value) }
    }
}

/// Whether two values have the same image, wherever each is stored.
///
/// # Safety
/// Both are non-null values of a type of this length, as `pg_type.typlen` has it, and way of being passed.
pub unsafe fn are_alike(left: pg_sys::Datum, right: pg_sys::Datum, length: i16, by_value: bool) -> bool {
    // SAFETY: as promised by the caller.
    unsafe {
        if length == -1 && stored(left) == stored(right) {
            return true;
        }
        pg_sys::ffi::pg_guard_ffi_boundary(|| datum_image_eq(left, right, by_value, i32::from(length)))
    }
}

/// A varlena as it is stored, also a pointer to one that is stored out of line.
///
/// # Safety
/// A non-null varlena that lives as long as `'a`.
unsafe fn stored<'a>(datum: pg_sys::Datum) -> &'a [u8] {
    let pointer = datum.cast_mut_ptr::<pg_sys::varlena>();
    // SAFETY: as promised by the caller.
    unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), pgrx::varsize_any(pointer)) }
}

fn form_of(base: pg_sys::Oid) -> Form {
    if base == pg_sys::TEXTOID || base == pg_sys::VARCHAROID {
        return Form::Text;
    } else if base == pg_sys::BPCHAROID {
        return Form::Padded;
    } else if matches!(text_like(base), Some(TextLike::Value(_))) {
        return Form::Sealed;
    }
    // SAFETY: a catalog look-up. citext is stored like text.
    if unsafe { pg_sys::IsBinaryCoercible(base, pg_sys::TEXTOID) } { Form::Text } else { Form::Other }
}

/// While this lives, dates are written as ISO 8601 has them, whatever the session's DateStyle is: another session has to
/// read the same.
struct IsoDates(i32);

impl IsoDates {
    fn set() -> Self {
        // SAFETY: a variable of this session.
        unsafe {
            let before = pg_sys::DateStyle;
            pg_sys::DateStyle = pg_sys::USE_ISO_DATES as i32;
            Self(before)
        }
    }
}

impl Drop for IsoDates {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { pg_sys::DateStyle = self.0 }
    }
}
