//! The operators between `encrypted_text` and text, and the sealed constant that takes the text's place.

use crate::datatype::{encoding, type_lookup};
use crate::datum::Payload;
use crate::error::Error;
use crate::identity::Identity;
use crate::nodes::nth;
use crate::varlena::Varlena;
use crate::{keyring, plan_cache, privilege};
use pgrx::{FromDatum, pg_sys};
use prism_envelope::Attributes;
use std::ffi::CStr;

/// An operator between `encrypted_text` and text, in either order.
pub struct WithText {
    pub is_text_left: bool,
    pub encrypted: pg_sys::Oid,
    /// The operator of the same name between two encrypted values.
    pub sealed: pg_sys::Oid,
}

impl WithText {
    /// `None` unless it is one of this extension, and the current role may encrypt: what is sealed in a plan can be read from
    /// it. Inside a transaction.
    pub fn of(operator: pg_sys::Oid) -> Option<Self> {
        if operator.to_u32() < pg_sys::FirstNormalObjectId {
            return None;
        }
        // SAFETY: catalog look-ups; an operator that a query names exists.
        unsafe {
            let (mut left, mut right) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            pg_sys::op_input_types(operator, &mut left, &mut right);
            let (is_text_left, encrypted) = match (left, right) {
                (pg_sys::TEXTOID, encrypted) => (true, encrypted),
                (encrypted, pg_sys::TEXTOID) => (false, encrypted),
                _ => return None,
            };
            if !type_lookup::is_encrypted_text(encrypted)
                || !type_lookup::is_of_extension(pg_sys::OperatorRelationId, operator)
            {
                return None;
            }
            let (name, function) = (pg_sys::get_opname(operator), pg_sys::get_opcode(operator));
            if name.is_null() || !may_seal(function) {
                return None;
            }
            let sealed = operator_of(function, CStr::from_ptr(name), [encrypted, encrypted]);
            (sealed != pg_sys::InvalidOid).then_some(Self { is_text_left, encrypted, sealed })
        }
    }
}

/// Whether a constant may be sealed for the current role, in a call of this function of the extension.
pub fn may_seal(function: pg_sys::Oid) -> bool {
    privilege::may_encrypt(function, Identity::current().role)
}

/// The operator of this name in the schema of a function, between values of these types.
///
/// # Safety
/// Inside a transaction.
pub unsafe fn operator_of(function: pg_sys::Oid, name: &CStr, operands: [pg_sys::Oid; 2]) -> pg_sys::Oid {
    // SAFETY: the keys have the types of this cache: name, oid, oid, oid.
    unsafe {
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::OPERNAMENSP as i32,
            pg_sys::Anum_pg_operator_oid as pg_sys::AttrNumber,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(operands[0]),
            pg_sys::Datum::from(operands[1]),
            pg_sys::Datum::from(pg_sys::get_func_namespace(function)),
        )
    }
}

/// Seals a `text` for a comparison: without a class, and without a search tag.
///
/// # Safety
/// The datum is a non-null `text`.
pub unsafe fn seal_unsearchable(text: pg_sys::Datum) -> Result<Varlena, Error> {
    // SAFETY: as promised by the caller.
    let text = unsafe { Payload::from_datum(text, false) }.ok_or(Error::Internal("no text"))?;
    encoding::with_utf8(text.bytes(), |text| keyring::seal(None, &Attributes::default(), text))
}

/// A constant derived from a key, for a plan that is made again when keys change.
///
/// # Safety
/// `value` is of this type, a varlena.
pub unsafe fn constant(type_oid: pg_sys::Oid, value: pg_sys::Datum) -> *mut pg_sys::Const {
    plan_cache::note_constant();
    // SAFETY: as promised by the caller.
    unsafe { pg_sys::makeConst(type_oid, -1, pg_sys::InvalidOid, -1, value, false, false) }
}

/// Two arguments, one of them replaced by a constant.
///
/// # Safety
/// The list has two nodes; `value` is of type `type_oid`.
pub unsafe fn with_constant(
    arguments: *mut pg_sys::List,
    place: i32,
    type_oid: pg_sys::Oid,
    value: pg_sys::Datum,
) -> *mut pg_sys::List {
    // SAFETY: as promised by the caller.
    unsafe { with_argument(arguments, place, constant(type_oid, value).cast()) }
}

/// Two arguments, one of them replaced.
///
/// # Safety
/// The list has two nodes.
pub unsafe fn with_argument(
    arguments: *mut pg_sys::List,
    place: i32,
    new: *mut pg_sys::Node,
) -> *mut pg_sys::List {
    // SAFETY: as promised by the caller.
    unsafe {
        let (new, other) = (new.cast(), nth(arguments, 1 - place).cast());
        let (first, second) = if place == 0 { (new, other) } else { (other, new) };
        pg_sys::list_make2_impl(
            pg_sys::NodeTag::T_List,
            pg_sys::ListCell { ptr_value: first },
            pg_sys::ListCell { ptr_value: second },
        )
    }
}
