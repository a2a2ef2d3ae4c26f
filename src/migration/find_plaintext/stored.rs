//! How values of a type are stored, and how to read them. Only of types whose values PostgreSQL itself can read: what other types do
//! is up to their functions, which are others'.

use crate::datatype::nested::Array;
use crate::datum::Payload;
use crate::error::Error;
use pgrx::datum::FromDatum;
use pgrx::{direct_function_call, pg_sys};
use prism_personal_data::{Column, Family};
use std::ffi::CStr;

/// So much is read of a text, in bytes.
const FRONT: usize = 64 << 10;
/// Longer documents are not looked at, in bytes.
const LONGEST_DOCUMENT: usize = 1 << 20;
const DAY: i64 = 86_400_000_000;

/// What values of a type are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Name,
    Json,
    Jsonb,
    Bytes,
    Int2,
    Int4,
    Int8,
    Numeric,
    Date,
    Timestamp,
}

/// A type whose values can be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    kind: Kind,
    is_array: bool,
}

impl Stored {
    /// The type with this OID, if it is one of those, an array of such values, or a domain over one. Needs a transaction.
    pub fn of(type_oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: catalog look-ups inside a transaction; they return an invalid OID if they find nothing.
        let (base, element) = unsafe {
            let base = pg_sys::getBaseType(type_oid);
            (base, pg_sys::get_element_type(base))
        };
        if let Some(kind) = Kind::of(base) {
            return Some(Self { kind, is_array: false });
        }
        if element == pg_sys::InvalidOid {
            return None;
        }
        // SAFETY: as above.
        let kind = Kind::of(unsafe { pg_sys::getBaseType(element) })?;
        Some(Self { kind, is_array: true })
    }

    /// What it is for the crate that judges.
    pub fn family(self) -> Family {
        match self.kind {
            Kind::Text | Kind::Name => Family::Text,
            Kind::Json | Kind::Jsonb => Family::Json,
            Kind::Bytes => Family::Bytes,
            Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Numeric => Family::Number,
            Kind::Date | Kind::Timestamp => Family::Date,
        }
    }

    /// Shows a value to its column.
    ///
    /// # Safety
    /// `datum` is not null, and of the type. Copies stay in the current memory context.
    pub unsafe fn show(self, datum: pg_sys::Datum, column: &mut Column) -> Result<(), Error> {
        // SAFETY: as promised by the caller. The array says itself what its elements are.
        unsafe {
            if !self.is_array {
                self.kind.show(datum, column);
                return Ok(());
            }
            let array = Array::of_any(datum)?;
            if Kind::of(pg_sys::getBaseType(array.element_type())) != Some(self.kind) {
                return Ok(());
            }
            array.each(&mut |element| {
                if let Some(element) = element {
                    self.kind.show(self.kind.fetch(element), column);
                }
                Ok(true)
            })
        }
    }
}

impl Kind {
    /// Needs a transaction.
    fn of(base: pg_sys::Oid) -> Option<Self> {
        Some(match base {
            pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => Self::Text,
            pg_sys::NAMEOID => Self::Name,
            pg_sys::JSONOID => Self::Json,
            pg_sys::JSONBOID => Self::Jsonb,
            pg_sys::BYTEAOID => Self::Bytes,
            pg_sys::INT2OID => Self::Int2,
            pg_sys::INT4OID => Self::Int4,
            pg_sys::INT8OID => Self::Int8,
            pg_sys::NUMERICOID => Self::Numeric,
            pg_sys::DATEOID => Self::Date,
            pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => Self::Timestamp,
            // citext, and what else a superuser has declared to be stored as text is.
            // SAFETY: a catalog look-up inside a transaction.
            other if unsafe { pg_sys::IsBinaryCoercible(other, pg_sys::TEXTOID) } => Self::Text,
            _ => return None,
        })
    }

    /// The datum of an element of an array, which is passed on as a pointer into it.
    ///
    /// # Safety
    /// `element` points at a value of this kind.
    unsafe fn fetch(self, element: pg_sys::Datum) -> pg_sys::Datum {
        // SAFETY: as promised by the caller.
        unsafe {
            match self {
                Self::Int2 => element.cast_mut_ptr::<i16>().read_unaligned().into(),
                Self::Int4 | Self::Date => element.cast_mut_ptr::<i32>().read_unaligned().into(),
                Self::Int8 | Self::Timestamp => element.cast_mut_ptr::<i64>().read_unaligned().into(),
                _ => element,
            }
        }
    }

    /// # Safety
    /// `datum` is not null, and of this kind.
    unsafe fn show(self, datum: pg_sys::Datum, column: &mut Column) {
        // SAFETY: as promised by the caller. Values are copied only where they are compressed or stored out of line.
        unsafe {
            match self {
                Self::Text => column.see_text(&String::from_utf8_lossy(front(datum))),
                Self::Name => {
                    let name = CStr::from_ptr(datum.cast_mut_ptr());
                    column.see_text(&String::from_utf8_lossy(name.to_bytes()));
                }
                Self::Bytes => column.see_bytes(front(datum)),
                Self::Json if is_document(datum) => {
                    column.see_json(&String::from_utf8_lossy(Payload::of(datum).bytes()));
                }
                Self::Jsonb if is_document(datum) => {
                    if let Some(text) = direct_function_call::<&CStr>(pg_sys::jsonb_out, &[Some(datum)]) {
                        column.see_json(&String::from_utf8_lossy(text.to_bytes()));
                    }
                }
                Self::Json | Self::Jsonb => {}
                Self::Int2 => number(i16::from_datum(datum, false).map(i64::from), column),
                Self::Int4 => number(i32::from_datum(datum, false).map(i64::from), column),
                Self::Int8 => number(i64::from_datum(datum, false), column),
                Self::Numeric => {
                    if let Some(text) = direct_function_call::<&CStr>(pg_sys::numeric_out, &[Some(datum)]) {
                        column.see_number(&String::from_utf8_lossy(text.to_bytes()));
                    }
                }
                Self::Date => year(i32::from_datum(datum, false), column),
                Self::Timestamp => {
                    let days = i64::from_datum(datum, false).map(|time| time.div_euclid(DAY));
                    year(days.and_then(|days| i32::try_from(days).ok()), column);
                }
            }
        }
    }
}

fn number(number: Option<i64>, column: &mut Column) {
    if let Some(number) = number {
        column.see_number(&number.to_string());
    }
}

/// The year of a day, counted from the beginning of 2000.
fn year(day: Option<i32>, column: &mut Column) {
    // Infinity, and days that are not worth a look, lie outside of some thousand years.
    let Some(day) = day.filter(|day| day.abs_diff(0) < 1_000_000) else { return };
    let (mut year, mut month, mut of_month) = (0, 0, 0);
    // SAFETY: arithmetic, of a Julian day that is not negative.
    unsafe {
        pg_sys::j2date(day + pg_sys::POSTGRES_EPOCH_JDATE as i32, &mut year, &mut month, &mut of_month)
    };
    column.see_year(year);
}

/// The beginning of a text, or of bytes.
///
/// # Safety
/// `datum` is a non-null varlena that lives as long as `'a`, and so does the current memory context.
unsafe fn front<'a>(datum: pg_sys::Datum) -> &'a [u8] {
    // SAFETY: as promised by the caller.
    unsafe {
        if pg_sys::toast_raw_datum_size(datum) > FRONT {
            let slice = pg_sys::pg_detoast_datum_slice(datum.cast_mut_ptr(), 0, FRONT as i32);
            return pgrx::varlena_to_byte_slice(slice);
        }
        Payload::of(datum).bytes()
    }
}

/// # Safety
/// `datum` is a non-null varlena.
unsafe fn is_document(datum: pg_sys::Datum) -> bool {
    // SAFETY: as promised by the caller.
    unsafe { pg_sys::toast_raw_datum_size(datum) <= LONGEST_DOCUMENT }
}
