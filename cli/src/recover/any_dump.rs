//! Any bytes are read as a dump, without a panic. What is cut off is noticed.

use super::report::Report;
use super::rewrite::Rewrite;
use super::source::Source;
use super::survey::survey;
use crate::error::{Error, Result};
use proptest::prelude::*;
use std::io::Write;

const DUMP: &str = r#"--
-- PostgreSQL database dump
--

SET client_encoding = 'LATIN1';
SET standard_conforming_strings = off;
CREATE EXTENSION IF NOT EXISTS prism_crypt WITH SCHEMA public;
CREATE DOMAIN public.d AS public.encrypted_text DEFAULT prism_crypt.x() CONSTRAINT c CHECK ((VALUE OPERATOR(public.<>) 'prism:v1:AQAA'::public.encrypted_text));
CREATE VIEW prism_crypt.carried_keys AS SELECT '[{"version":1,"keyset":"default","state":"active","wrapped":"02","master_fingerprint":"x"}]'::prism_crypt.key_rows AS keys;
CREATE FUNCTION public.f(a public.encrypted_text, b text DEFAULT E'\\') RETURNS text LANGUAGE sql AS $_$ SELECT decrypt_field(a, b => 'x') || $$;$$ $_$;
CREATE FUNCTION public.g() RETURNS text BEGIN ATOMIC SELECT CASE WHEN public.blind_index('x', NULL) IS NULL THEN 1 END; END;
CREATE UNLOGGED TABLE public."T ""x" (id int DEFAULT prism_crypt.f() NOT NULL, v public.encrypted_text(email,searchable)[] NOT NULL, b bytea, CONSTRAINT c CHECK (public.g() > 1))
PARTITION BY HASH (v);
CREATE TABLE public.p (w public.d) INHERITS (public."T ""x");
ALTER TABLE ONLY public."T ""x" ATTACH PARTITION public.p FOR VALUES WITH (modulus 3, remainder 0);
COPY public.p (id, v, b, w) FROM stdin;
1	{prism:v1:AQAA,"(1,\\"prism:v1:AQAA\\")"}	\\x0104	{"a": "prism:v1:AQAA"}
\.
INSERT INTO public."T ""x" (id, v) OVERRIDING SYSTEM VALUE VALUES (1, '{[prism:v1:AQAA,b)}'), (NULL, E'\\\\x01');
CREATE TRIGGER t BEFORE INSERT ON public.p FOR EACH ROW EXECUTE FUNCTION public.g();
ALTER TABLE public.p ENABLE ALWAYS TRIGGER t;
GRANT ALL ON FUNCTION public.decrypt_field(public.encrypted_text, text) TO app;
SELECT pg_catalog.setval('prism_crypt.s', 1, true);
\connect other
COPY prism_crypt.data_key (version, keyset, state, wrapped, master_fingerprint) FROM stdin;
1	default	active	\\x0200	x
\.
--
-- PostgreSQL database dump complete
--
"#;

fn recovered(dump: &[u8]) -> Result<(Vec<u8>, Report)> {
    let mut file = tempfile::NamedTempFile::new().map_err(Error::Output)?;
    file.write_all(dump).map_err(Error::Output)?;
    let source = Source::open(file.path())?;
    let mut out = Vec::new();
    let report = Rewrite::run(&source, survey(&source)?.0, &[], &mut out, false)?;
    Ok((out, report))
}

#[test]
fn the_whole_of_it() {
    let result = recovered(DUMP.as_bytes());
    assert!(result.is_ok_and(|(out, report)| report.is_complete && out.ends_with(b"dump complete\n--\n")));
}

proptest! {
    #[test]
    fn any_dump_is_read(start in 0..DUMP.len(), length in 0_usize..60, other in "[a(){}'\"$;\\\\,.\t\n\u{0}\u{e9}]{0,6}") {
        let bytes = DUMP.as_bytes();
        let dump = [&bytes[..start], other.as_bytes(), &bytes[bytes.len().min(start + length)..]].concat();
        let _ = recovered(&dump);
        // What is cut off is noticed.
        prop_assert!(recovered(&bytes[..start]).is_ok_and(|(_, report)| !report.is_complete || start < 30 || start > bytes.len() - 5));
    }
}
