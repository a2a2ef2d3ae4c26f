//! `permission denied for function text` is an error of PostgreSQL's own, and does not say what the function has to do with an
//! encrypted column. This gives it a hint.

use pgrx::pg_sys;
use std::ffi::CStr;

/// The message in PostgreSQL's source, whatever language it is shown in (`aclchk.c`).
const MESSAGE: &CStr = c"permission denied for function %s";

/// Names of functions that users call, also without knowing, and what gives the right. `sql/access/access.sql` has them all.
const HINTS: [(&CStr, &[&str]); 6] = [
    (
        c"prism_crypt.grant_access(role, 'decrypt') gives the right to read encrypted values.",
        &["bpchar", "decrypt_bytes", "decrypt_field", "name", "text", "try_decrypt_field", "varchar"],
    ),
    (
        c"prism_crypt.grant_access(role, 'search') gives the right to compare encrypted values with text.",
        &[
            "blind_index",
            "encrypted_text_cmp",
            "encrypted_text_cmp_text",
            "encrypted_text_eq",
            "encrypted_text_hash",
            "encrypted_text_hash_text",
            "encrypted_text_ne",
        ],
    ),
    (c"prism_crypt.grant_access(role, 'mask') gives the right.", &["mask_field"]),
    (c"prism_crypt.grant_access(role, 'load') gives the right.", &["load_envelope"]),
    (
        c"prism_crypt.grant_access(role, 'rotate') gives the right.",
        &["plan_rotation", "reencrypt_bytes", "reencrypt_field", "rotate_all", "rotate_batch"],
    ),
    (
        c"prism_crypt.grant_access(role, 'key_admin') gives the right.",
        &[
            "create_keyset",
            "destroy_key",
            "destroy_keyset",
            "disable_key",
            "emergency_rotation",
            "enable_key",
            "generate_key",
            "rotate_index_key",
            "rotate_key",
            "rotate_master_key",
            "set_rotation_interval",
        ],
    ),
];

/// Sets the hint, if the error is about such a function and has none.
///
/// # Safety
/// `error` is an error that is about to be emitted; its fields are null or terminated strings. Nothing after this writes to its
/// hint.
pub unsafe fn explain(error: &mut pg_sys::ErrorData) {
    // SAFETY: as promised by the caller.
    unsafe {
        if error.message_id.is_null()
            || error.message.is_null()
            || !error.hint.is_null()
            || CStr::from_ptr(error.message_id) != MESSAGE
        {
            return;
        }
        if let Some(hint) = hint_for(CStr::from_ptr(error.message).to_bytes()) {
            // PostgreSQL only reads the hint of an error that it emits, and forgets all of them at once.
            error.hint = hint.as_ptr().cast_mut();
        }
    }
}

/// In most languages, the name is the last word.
fn hint_for(message: &[u8]) -> Option<&'static CStr> {
    let name = message.rsplit(|byte| *byte == b' ').next()?;
    HINTS
        .into_iter()
        .find(|(_, names)| names.iter().any(|known| known.as_bytes() == name))
        .map(|(hint, _)| hint)
}

#[cfg(test)]
mod tests {
    use super::hint_for;

    #[test]
    fn knows_functions_by_name() {
        let hint = |message: &str| hint_for(message.as_bytes()).and_then(|hint| hint.to_str().ok());
        assert!(hint("permission denied for function text").is_some_and(|hint| hint.contains("'decrypt'")));
        assert!(
            hint("droit refusé pour la fonction encrypted_text_eq")
                .is_some_and(|hint| hint.contains("'search'"))
        );
        assert_eq!(hint("permission denied for function context"), None);
        assert_eq!(hint(""), None);
    }
}
