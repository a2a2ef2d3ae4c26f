//! The function that a verification calls for each row.
//!
//! Whoever may call it may call it with anything, so it takes the rights that its answers and errors are worth.

use super::call_cache::kept;
use super::conversion::Conversion;
use super::plaintext::ValueType;
use crate::error::{Error, SqlResult};
use crate::privilege::{Right, may, require_execute};
use pgrx::prelude::*;

/// `prism_crypt._is_out_of_step(source "any", target "any", modifier integer) → boolean`: whether `target`, the value of a column with
/// this type modifier, is not the one that a migration gives it for `source`. Exactly one of them is `encrypted_text`.
#[pg_extern(sql = false)]
fn _is_out_of_step(fcinfo: pg_sys::FunctionCallInfo) -> SqlResult<bool> {
    require_execute(fcinfo)?;
    // SAFETY: PostgreSQL passes a call with these three arguments; those that are not null have the types of the call's
    // expression.
    unsafe {
        let arguments = std::slice::from_raw_parts((*fcinfo).args.as_ptr(), 3);
        let (source, target, modifier) = (&arguments[0], &arguments[1], &arguments[2]);
        if source.isnull || target.isnull {
            return Ok(source.isnull != target.isnull);
        }
        let conversion = kept(fcinfo, || {
            let type_of = |index| pg_sys::get_fn_expr_argtype((*fcinfo).flinfo, index);
            let modifier = if modifier.isnull { -1 } else { modifier.value.value() as i32 };
            let (source, target) = (ValueType::new(type_of(0), -1), ValueType::new(type_of(1), modifier));
            if source.is_sealed() == target.is_sealed() {
                return Err(Error::NotOneSealed);
            }
            Ok(Conversion { source, target })
        })?;
        require_rights(conversion)?;
        Ok(!conversion.is_in_step(source.value, target.value)?)
    }
}

/// Fails unless the current role may see what is opened here: input functions get it, some of which are functions of roles. Where it is
/// only compared, the right to search is enough.
fn require_rights(conversion: Conversion) -> Result<(), Error> {
    let opens = conversion.source.is_sealed();
    let function = if opens { conversion.source } else { conversion.target }.output_function();
    if may(Right::Decrypt(function)) || !opens && may(Right::Search(function)) {
        return Ok(());
    }
    Err(if opens { Error::DecryptDenied } else { Error::SearchDenied })
}
