//! Tests that run inside a backend: what SQL alone can't reach or produce.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

#[pgrx::pg_schema]
mod tests {
    use crate::datatype::reading::{open_masked, open_text};
    use crate::error::Error;
    use crate::keyring;
    use crate::varlena::{MAX_ENVELOPE_LEN, Varlena};
    use pgrx::pg_sys::panic::CaughtError;
    use pgrx::prelude::*;
    use prism_envelope::{Attributes, Content, ContextHash, Envelope, FieldClass, KeyVersion};

    /// Gives the session its own master key and a first data key. Rolled back with the test.
    fn set_up() -> KeyVersion {
        Spi::run("SELECT set_config('prism_crypt.master_key', encode(sha256('pg_test'), 'hex'), true)")
            .unwrap();
        let version: i32 = Spi::get_one("SELECT prism_crypt.rotate_key()").unwrap().unwrap();
        KeyVersion::new(version.cast_unsigned()).unwrap()
    }

    /// SQLSTATE of a statement that must fail.
    fn sqlstate_of(sql: &str) -> PgSqlErrorCode {
        PgTryBuilder::new(|| {
            Spi::run(sql).unwrap();
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION
        })
        .catch_others(|error| match error {
            CaughtError::PostgresError(report)
            | CaughtError::ErrorReport(report)
            | CaughtError::RustPanic { ereport: report, .. } => report.sql_error_code(),
        })
        .execute()
    }

    fn seal(attributes: &Attributes, plaintext: &[u8]) -> Varlena {
        keyring::seal(None, attributes, plaintext).unwrap_or_else(|error| panic!("{error}"))
    }

    #[pg_test]
    fn text_of_every_script_comes_back() {
        set_up();
        for text in ["", "a", "Ζωή Ðørte", "山田太郎", "🙂🙃", &"ł".repeat(100_000)] {
            let back =
                Spi::get_one_with_args::<String>("SELECT decrypt_field(encrypt_field($1))", &[text.into()]);
            assert_eq!(back.unwrap().as_deref(), Some(text));
        }
    }

    #[pg_test]
    fn sealed_text_that_is_no_text_is_refused() {
        let version = set_up();
        // Whoever holds a data key can seal any bytes. None of these may reach PostgreSQL as text.
        for plaintext in [&b"\xff\xfe"[..], b"zero\0byte", b"\xed\xa0\x80"] {
            let sealed = seal(&Attributes::default(), plaintext);
            let opened = open_text(Envelope::parse(sealed.bytes()).unwrap(), None);
            assert!(matches!(opened, Err(Error::InvalidText(found)) if found == version));
        }
    }

    #[pg_test]
    fn bytes_are_not_text() {
        set_up();
        let attributes = Attributes { content: Content::Bytes, ..Attributes::default() };
        let sealed = seal(&attributes, b"harmless");
        let envelope = Envelope::parse(sealed.bytes()).unwrap();
        assert!(matches!(open_text(envelope, None), Err(Error::NotText(_))));
        assert!(matches!(open_masked(envelope, None), Err(Error::NotText(_))));
    }

    #[pg_test]
    fn a_reseal_keeps_class_and_context() {
        set_up();
        let context = ContextHash::of(b"row 1");
        let attributes =
            Attributes { class: FieldClass::Email, context: Some(context), ..Attributes::default() };
        let sealed = seal(&attributes, b"alice@example.com");
        let next: i32 = Spi::get_one("SELECT prism_crypt.rotate_key()").unwrap().unwrap();
        let old = Envelope::parse(sealed.bytes()).unwrap();
        let resealed = keyring::reseal(&old, &old.attributes()).unwrap_or_else(|error| panic!("{error}"));
        let new = Envelope::parse(resealed.bytes()).unwrap();
        assert_eq!(new.attributes(), attributes);
        assert_eq!(new.key_version().get(), next.cast_unsigned());
        let opened = keyring::open(&new, Some(&context)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(opened.bytes(), b"alice@example.com");
        assert!(matches!(keyring::open(&new, None), Err(Error::Authentication(_))));
    }

    #[pg_test]
    fn a_rolled_back_key_is_forgotten() {
        let kept = set_up();
        let rotate = "SELECT prism_crypt.rotate_key()";
        let in_subtransaction = "DO $$ BEGIN PERFORM prism_crypt.rotate_key(); \
            PERFORM public.encrypt_field('x'); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN END $$";
        Spi::run(in_subtransaction).unwrap();
        let sealed = seal(&Attributes::default(), b"x");
        assert_eq!(Envelope::parse(sealed.bytes()).unwrap().key_version(), kept);
        // The version that was rolled back is not reused.
        let next: i32 = Spi::get_one(rotate).unwrap().unwrap();
        assert_eq!(next.cast_unsigned(), kept.get() + 2);
    }

    #[pg_test]
    fn too_long_values_are_refused_before_memory_is_asked_for() {
        let refused = Varlena::new(MAX_ENVELOPE_LEN + 1);
        assert!(matches!(refused, Err(Error::TooLong { length, limit }) if length == limit + 1));
    }

    #[pg_test]
    fn errors_have_their_sqlstate() {
        use PgSqlErrorCode::*;
        assert_eq!(sqlstate_of("SELECT encrypt_field('x')"), ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE);
        set_up();
        for (sql, expected) in [
            ("SELECT 'prism:v1:AAAA'::encrypted_text", ERRCODE_INVALID_TEXT_REPRESENTATION),
            ("SELECT encrypt_field('x', class => 'nose')", ERRCODE_INVALID_PARAMETER_VALUE),
            ("SELECT encrypt_field('x', keyset => 'nobody')", ERRCODE_UNDEFINED_OBJECT),
            ("SELECT decrypt_bytes('\\x00')", ERRCODE_INVALID_BINARY_REPRESENTATION),
            (
                "SELECT decrypt_field(encrypt_field('x', 'a'), 'b')",
                ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION,
            ),
            ("CALL rotate_batch('pg_class', 'relname')", ERRCODE_ACTIVE_SQL_TRANSACTION),
            ("SELECT 'a'::encrypted_text('searchable') < 'b'", ERRCODE_FEATURE_NOT_SUPPORTED),
        ] {
            assert_eq!(sqlstate_of(sql), expected, "{sql}");
        }
    }
}
