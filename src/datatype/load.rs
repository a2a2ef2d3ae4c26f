//! Loads existing ciphertext: from dumps, replication, copies between databases.

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
use std::cell::Cell;
use std::ffi::CStr;

/// Accepts an envelope unchanged, if the current role may load or it belongs to a replicated row, and if it fits the column's
/// type modifier. `fcinfo` is the running call.
pub fn load_binary(bytes: &[u8], typmod: i32, fcinfo: pg_sys::FunctionCallInfo) -> Result<Varlena, Error> {
    require_privilege(fcinfo)?;
    let envelope = Envelope::parse(bytes).map_err(Error::BinaryForm)?;
    check_modifier(&envelope, typmod)?;
    Varlena::copy_of(bytes)
}

/// Accepts a text form under the same conditions.
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

/// Changing a class or making a search tag needs the key. So a column with a class loads only values of that class, and a
/// searchable column only values with a tag.
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

/// Whether a text is the text form of an envelope, from any database. It is not decrypted.
pub fn is_text_form(text: &[u8]) -> Result<bool, Error> {
    if !armor::is_armored(text) {
        return Ok(false);
    }
    let mut scratch = Varlena::new(armor::decoded_len_estimate(text.len()))?;
    let is_text_form = armor::decode_into(text, scratch.bytes_mut()).is_ok();
    scratch.free();
    Ok(is_text_form)
}

thread_local! {
    static INPUT_IS_OPENED: Cell<bool> = const { Cell::new(false) };
}

/// While it is there, input was opened by an export: it is plaintext, even if it looks like ciphertext.
pub struct OpenedInput(bool);

impl OpenedInput {
    /// Begins it, or an input that is not, within another.
    pub fn begin(is_opened: bool) -> Self {
        Self(INPUT_IS_OPENED.replace(is_opened))
    }
}

impl Drop for OpenedInput {
    fn drop(&mut self) {
        INPUT_IS_OPENED.set(self.0);
    }
}

/// Whether input that begins like ciphertext is still plaintext. It can be if the client works with plaintext and the role may
/// not load; all is that an export opened. Real ciphertext then came from elsewhere, and is never sealed.
///
/// `fcinfo` is the running call of one of the type's input functions.
pub fn is_plaintext(
    fcinfo: pg_sys::FunctionCallInfo,
    is_ciphertext: impl FnOnce() -> Result<bool, Error>,
) -> Result<bool, Error> {
    if INPUT_IS_OPENED.get() {
        return Ok(true);
    }
    if may_load(fcinfo) || !output::is_plaintext(output_function(privilege::function_oid(fcinfo))) {
        return Ok(false);
    }
    Ok(!is_ciphertext()?)
}

/// The output function of the type that an input function returns.
fn output_function(input_function: pg_sys::Oid) -> pg_sys::Oid {
    let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
    // SAFETY: catalog look-ups; the type that an input function returns has an output function.
    unsafe {
        let type_oid = pg_sys::get_func_rettype(input_function);
        pg_sys::getTypeOutputInfo(type_oid, &mut function, &mut is_varlena);
    }
    function
}

/// Replication applies what another server sealed; everyone else needs the privilege. Other code in a logical replication worker
/// could only have it from the owner of the subscription, whose code it is not. Where the privilege is lent, as in a SECURITY
/// DEFINER function, the input is the caller's: a function that means to load for its caller uses `load_envelope()`.
fn may_load(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    if privilege::is_logical_worker() {
        is_of_replicated_row(fcinfo)
    } else {
        !Identity::current().is_lent() && privilege::may(Right::Load)
    }
}

fn require_privilege(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Error> {
    if privilege::is_logical_worker() {
        // Indexes will compare the value, and no statement starts here that would prepare what they need.
        keyring::prepare();
        privilege::prepare_search();
    }
    if may_load(fcinfo) { Ok(()) } else { Err(Error::LoadDenied) }
}

/// Whether a logical replication worker calls an input function for a value of the row that it applies. The worker also runs the
/// table's triggers and the functions in its constraints and indexes, which are their owners' code. Inside them, and while a
/// literal is parsed, the error context stack has more than one entry. An expression is named in the call, or its memory
/// belongs to the executor's state.
fn is_of_replicated_row(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: PostgreSQL passes a valid call; the context is null or the innermost entry of a list on the stack.
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
    // SAFETY: as promised by the caller; the name is null or a terminated string. `CreateExecutorState()` gives this one.
    unsafe {
        !context.is_null()
            && !(*context).name.is_null()
            && CStr::from_ptr((*context).name) == c"ExecutorState"
    }
}

/// `prism_crypt.load_envelope(text) → encrypted_text`: loads a text form. Its EXECUTE privilege is the right to load.
#[pg_extern(sql = false)]
fn load_envelope(text_form: Text<'_>, fcinfo: pg_sys::FunctionCallInfo) -> SqlResult<EncryptedResult> {
    privilege::require_execute(fcinfo)?;
    if privilege::is_logical_worker() {
        return Err(Error::LoadDenied.into());
    }
    Ok(EncryptedResult(decode(text_form.0.bytes(), -1)?))
}
