//! Loading of ciphertext that already exists: dumps, replication, copies between databases.

use crate::datatype::output;
use crate::datatype::typmod::{self, Modifier};
use crate::datum::{EncryptedResult, Text};
use crate::error::{Error, SqlResult};
use crate::identity::Identity;
use crate::keyring;
use crate::privilege::{self, Right};
use crate::varlena::Varlena;
use pgrx::prelude::*;
use prism_envelope::{Envelope, FieldClass, armor};
use std::ffi::CStr;

/// Takes an envelope as it is, if the current role may load or it comes with a replicated row, and if its class is the one of
/// the column. `fcinfo` is the running call.
pub fn load_binary(bytes: &[u8], typmod: i32, fcinfo: pg_sys::FunctionCallInfo) -> Result<Varlena, Error> {
    require_privilege(fcinfo)?;
    let envelope = Envelope::parse(bytes).map_err(Error::BinaryForm)?;
    check_modifier(&envelope, typmod)?;
    Varlena::copy_of(bytes)
}

/// Takes a text form as it is, under the same conditions.
pub fn load_text(text: &[u8], typmod: i32, fcinfo: pg_sys::FunctionCallInfo) -> Result<Varlena, Error> {
    require_privilege(fcinfo)?;
    decode(text, typmod)
}

fn decode(text: &[u8], typmod: i32) -> Result<Varlena, Error> {
    let mut value = Varlena::new(armor::decoded_len_estimate(text.len()))?;
    let length = armor::decode_into(text, value.bytes_mut()).map_err(Error::TextForm)?;
    value.truncate(length);
    let envelope = Envelope::parse(value.bytes()).map_err(|error| Error::TextForm(error.into()))?;
    check_modifier(&envelope, typmod)?;
    Ok(value)
}

/// Only those who hold the key can change a class or make a search tag, so a column takes no value of another class, and a
/// searchable one none without a tag, as it is.
fn check_modifier(envelope: &Envelope<'_>, typmod: i32) -> Result<(), Error> {
    let Some(Modifier { class, is_searchable }) = Modifier::of(typmod) else { return Ok(()) };
    let found = envelope.attributes();
    if class != FieldClass::None && class != found.class {
        return Err(Error::ClassMismatch {
            found: typmod::class_name(found.class),
            expected: typmod::class_name(class),
        });
    }
    if is_searchable && found.search_tag.is_none() { Err(Error::NotSearchable) } else { Ok(()) }
}

/// Whether a text is the text form of an envelope, of whatever database. It is not opened.
pub fn is_text_form(text: &[u8]) -> Result<bool, Error> {
    if !armor::is_armored(text) {
        return Ok(false);
    }
    let mut scratch = Varlena::new(armor::decoded_len_estimate(text.len()))?;
    let is_text_form = armor::decode_into(text, scratch.bytes_mut()).is_ok();
    scratch.free();
    Ok(is_text_form)
}

/// Whether input that begins as ciphertext is plaintext all the same: where the client works with plaintext, for roles that
/// may not load. What is ciphertext then came from elsewhere, and is never sealed.
///
/// `fcinfo` is the running call, of an input function of the type.
pub fn is_plaintext(
    fcinfo: pg_sys::FunctionCallInfo,
    is_ciphertext: impl FnOnce() -> Result<bool, Error>,
) -> Result<bool, Error> {
    if may_load(fcinfo) || !output::is_plaintext(output_function(privilege::function_oid(fcinfo))) {
        return Ok(false);
    }
    Ok(!is_ciphertext()?)
}

/// The output function of the type that an input function gives.
fn output_function(input_function: pg_sys::Oid) -> pg_sys::Oid {
    let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
    // SAFETY: catalog look-ups; what an input function gives is a type that has an output function.
    unsafe {
        let type_oid = pg_sys::get_func_rettype(input_function);
        pg_sys::getTypeOutputInfo(type_oid, &mut function, &mut is_varlena);
    }
    function
}

/// Replication applies what another server sealed; everybody else needs the privilege. Whatever else runs in that process has it
/// from the owner of the subscription, if at all, and is not his. Where the privilege was lent, the input is the borrower's: a
/// function that means to load for him calls `load_envelope()`.
fn may_load(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    if privilege::is_logical_worker() {
        is_of_replicated_row(fcinfo)
    } else {
        !Identity::current().is_lent() && privilege::may(Right::Load)
    }
}

fn require_privilege(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Error> {
    if privilege::is_logical_worker() {
        // Indexes will compare the value, and no statement begins here that would see to what they need.
        keyring::prepare();
        privilege::prepare_search();
    }
    if may_load(fcinfo) { Ok(()) } else { Err(Error::LoadDenied) }
}

/// Whether an input function is called by the worker that applies replicated changes, for a value of the row that it applies.
/// Triggers of the table, and functions in its constraints and indexes, run in that worker too, and are their owner's: inside
/// of them, and where a literal is parsed, PostgreSQL has more than one level of context to tell of errors. Expressions name
/// themselves in the call, or belong to the executor's state.
fn is_of_replicated_row(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: PostgreSQL passes a valid call; the context is null or the innermost of a list that lives on the stack.
    privilege::is_logical_worker()
        && unsafe {
            let context = pg_sys::error_context_stack;
            let function = (*fcinfo).flinfo;
            let is_expression = !function.is_null()
                && (!(*function).fn_expr.is_null() || is_executor_state((*function).fn_mcxt));
            !is_expression && (context.is_null() || (*context).previous.is_null())
        }
}

/// # Safety
/// Null or a memory context.
unsafe fn is_executor_state(context: pg_sys::MemoryContext) -> bool {
    // SAFETY: as promised by the caller; the name is null or a terminated string. It is what CreateExecutorState() gives.
    unsafe {
        !context.is_null()
            && !(*context).name.is_null()
            && CStr::from_ptr((*context).name) == c"ExecutorState"
    }
}

/// `prism_crypt.load_envelope(text) → encrypted_text`: a text form as a value. Its EXECUTE privilege is the right to load.
#[pg_extern(sql = false)]
fn load_envelope(text_form: Text<'_>, fcinfo: pg_sys::FunctionCallInfo) -> SqlResult<EncryptedResult> {
    privilege::require_execute(fcinfo)?;
    if privilege::is_logical_worker() {
        return Err(Error::LoadDenied.into());
    }
    Ok(EncryptedResult(decode(text_form.0.bytes(), -1)?))
}
