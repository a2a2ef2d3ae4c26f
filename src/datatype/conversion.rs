//! I/O conversion casts: PostgreSQL converts any type to one of the string category, and explicitly the other way round, with
//! the output function of the source and the input function of the target. Then these functions are casts.

use crate::datatype::nested;
use crate::datatype::type_lookup::is_of_extension;
use crate::error::Error;
use pgrx::pg_sys;

/// Marks conversions to text for a client, which show what the output function would: the parser makes none of this form.
pub const FOR_CLIENT: pg_sys::CoercionForm::Type = pg_sys::CoercionForm::COERCE_SQL_SYNTAX;

/// What an input or output function is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A value enters or leaves: literals, parameters, COPY, parts of arrays and rows, JSON.
    Transport,
    /// A value is converted from this type to another.
    Conversion(pg_sys::Oid),
    /// The planner estimates the result of converting a constant.
    Estimate,
}

impl Purpose {
    /// The purpose of the running call.
    pub fn of(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        // SAFETY: PostgreSQL passes a valid call. Its expression is null, or a node whose tag gives its type: the executor
        // passes a `CoerceViaIO` to both of its functions.
        unsafe {
            let function = (*fcinfo).flinfo;
            let expression: *mut pg_sys::Node =
                if function.is_null() { std::ptr::null_mut() } else { (*function).fn_expr };
            if expression.is_null() {
                return Self::Transport;
            }
            match (*expression).type_ {
                pg_sys::NodeTag::T_CoerceViaIO => {
                    let conversion = &*expression.cast::<pg_sys::CoerceViaIO>();
                    if conversion.coerceformat == FOR_CLIENT {
                        return Self::Transport;
                    }
                    Self::Conversion(pg_sys::exprType(conversion.arg.cast()))
                }
                pg_sys::NodeTag::T_FuncExpr if is_made_by_planner(&*expression.cast()) => Self::Estimate,
                _ => Self::Transport,
            }
        }
    }
}

/// Whether the running call belongs to an expression. If not, its purpose is [`Purpose::Transport`].
#[inline]
pub fn has_expression(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: PostgreSQL passes a valid call.
    unsafe {
        let function = (*fcinfo).flinfo;
        !function.is_null() && !(*function).fn_expr.is_null()
    }
}

/// Whether the planner made this call from a conversion, to evaluate it. A call in a statement has a location in its text. One
/// stored in a view has lost it, but rarely has a constant as its argument.
///
/// # Safety
/// The call is a valid node.
unsafe fn is_made_by_planner(call: &pg_sys::FuncExpr) -> bool {
    // SAFETY: as promised by the caller; the list is read only if it has an element.
    unsafe {
        call.location < 0
            && !call.args.is_null()
            && (*call.args).length > 0
            && pgrx::is_a(pg_sys::list_nth(call.args, 0).cast(), pg_sys::NodeTag::T_Const)
    }
}

/// Refuses the text of a row or an array that holds encrypted values, also as an operand of an operator of ours: it contains ciphertext.
///
/// Needs a transaction.
pub fn check_source(source: pg_sys::Oid) -> Result<(), Error> {
    // Arrays and row types are members of an extension from PostgreSQL 17 on: what counts is what is in them.
    // SAFETY: catalog look-ups.
    let is_own_base = unsafe {
        let element = pg_sys::get_base_element_type(source);
        let base = if element == pg_sys::InvalidOid { source } else { element };
        pg_sys::get_typtype(base) == pg_sys::TYPTYPE_BASE as std::ffi::c_char
            && is_of_extension(pg_sys::TypeRelationId, base)
    };
    let holds_values = nested::holds(source).encrypted || is_own_base;
    if holds_values { Err(Error::MadeOfCiphertext) } else { Ok(()) }
}
