//! `recover`, on dumps that are made here. `tests/scenarios/test_recover.py` has those of real servers.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Place, mode, text};
use prism_envelope::{
    Attributes, Content, ContextHash, DataKey, KeyBytes, KeyIdentity, KeyVersion, MasterKey, NonceOwner,
    NoncePool, armor,
};
use proptest::prelude::*;
use serde_json::Value;

/// Vectors of the format, which another program has written.
const ENVELOPES: &str = include_str!("../../envelope/tests/vectors/envelopes.json");
const WRAPPED: &str = include_str!("../../envelope/tests/vectors/wrapped_keys.json");

/// A place with a master key and data keys of some versions.
struct Keys {
    place: Place,
    master: MasterKey,
    nonces: NoncePool,
    keys: Vec<(DataKey, String)>,
}

impl Keys {
    fn new(versions: u32) -> Self {
        let place = Place::new();
        let master = MasterKey::new(&KeyBytes::parse(&text(&place.read("key"))).unwrap());
        let mut keys = Self { place, master, nonces: NoncePool::new(), keys: Vec::new() };
        (1..=versions).for_each(|number| keys.add(number, &KeyBytes::generate().unwrap()));
        keys
    }

    fn add(&mut self, number: u32, key: &KeyBytes) {
        let version = KeyVersion::new(number).unwrap();
        let identity = KeyIdentity::Data(version, "default");
        let wrapped = self.master.wrap(&mut self.nonces, owner(), identity, key).unwrap();
        let row = format!(
            "{number}\tdefault\tactive\t\\\\x{}\t{}\t\\N",
            hex::encode(wrapped),
            self.master.fingerprint()
        );
        self.keys.push((DataKey::new(version, key), row));
    }

    fn envelope(&mut self, key: usize, attributes: Attributes, plaintext: &[u8]) -> Vec<u8> {
        let mut envelope = vec![0; attributes.envelope_len(plaintext.len())];
        self.keys[key].0.seal_into(&mut self.nonces, owner(), &attributes, plaintext, &mut envelope).unwrap();
        envelope
    }

    fn sealed(&mut self, key: usize, plaintext: &str) -> String {
        let envelope = self.envelope(key, Attributes::default(), plaintext.as_bytes());
        armored(self.keys[key].0.version(), &envelope)
    }

    /// A dump that ends with the keys.
    fn dump(&self, content: &str) -> String {
        let rows: String = self.keys.iter().map(|(_, row)| format!("{row}\n")).collect();
        format!(
            "SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n\
            CREATE EXTENSION IF NOT EXISTS prism_crypt WITH SCHEMA public;\n{content}\
            COPY prism_crypt.data_key (version, keyset, state, wrapped, master_fingerprint, reason) FROM stdin;\n{rows}\\.\n"
        )
    }

    /// The new dump without what every one has.
    fn recovered(&self, content: &str) -> String {
        self.place.write("dump", self.dump(content));
        let output = text(&self.place.ok(&["recover", "dump", "--key-file", "key"]));
        let start = output.find("WITH SCHEMA public\n").unwrap() + "WITH SCHEMA public\n".len();
        let end = output.find("-- prism-crypt: left out: rows of prism_crypt.data_key\n").unwrap();
        output[start..end].to_owned()
    }
}

fn owner() -> NonceOwner {
    NonceOwner { process_id: std::process::id(), transaction: 1 }
}

fn armored(version: KeyVersion, envelope: &[u8]) -> String {
    let mut out = vec![0; armor::encoded_len(version, envelope.len())];
    armor::encode_into(version, envelope, &mut out).unwrap();
    text(&out)
}

/// A field of COPY, written otherwise than the tool does it.
fn field(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('\t', "\\t")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
        .replace('\u{8}', "\\b")
        .replace('\u{b}', "\\v")
        .replace('\u{c}', "\\f")
}

#[test]
fn vectors() {
    let vectors: Vec<Value> = serde_json::from_str(ENVELOPES).unwrap();
    for vector in &vectors {
        let mut keys = Keys::new(0);
        let number = u32::try_from(vector["key_version"].as_u64().unwrap()).unwrap();
        keys.add(number, &KeyBytes::parse(vector["key"].as_str().unwrap()).unwrap());
        let plaintext = hex::decode(vector["plaintext"].as_str().unwrap()).unwrap();
        let (stored, expected, sql_type) = if vector["bytes"] == true {
            (
                format!("\\\\x{}", vector["envelope"].as_str().unwrap()),
                format!("\\\\x{}", hex::encode(&plaintext)),
                "bytea",
            )
        } else {
            (
                vector["text_form"].as_str().unwrap().to_owned(),
                field(&text(&plaintext)),
                "public.encrypted_text",
            )
        };
        let table = format!("CREATE TABLE public.t (\n    v {sql_type}\n);\nCOPY public.t (v) FROM stdin;\n");
        let recovered = keys.recovered(&format!("{table}{stored}\n\\.\n"));
        assert!(
            recovered.ends_with(&format!("stdin;\n{expected}\n\\.\n")),
            "{}: {recovered}",
            vector["comment"]
        );
    }
}

#[test]
fn wrapped_keys_of_both_formats() {
    let vectors: Vec<Value> = serde_json::from_str(WRAPPED).unwrap();
    let mut formats = Vec::new();
    for vector in vectors.iter().filter(|vector| vector["key_version"].is_u64()) {
        let mut keys = Keys::new(0);
        let master = vector["master_key"].as_str().unwrap();
        std::fs::write(keys.place.path("key"), master).unwrap();
        keys.add(
            u32::try_from(vector["key_version"].as_u64().unwrap()).unwrap(),
            &KeyBytes::parse(vector["key"].as_str().unwrap()).unwrap(),
        );
        let sealed = keys.sealed(0, "by a wrapped key");
        keys.keys[0].1 = format!(
            "{}\t{}\tactive\t\\\\x{}\t{}\t\\N",
            vector["key_version"],
            vector["keyset"].as_str().unwrap(),
            vector["wrapped"].as_str().unwrap(),
            vector["fingerprint"].as_str().unwrap()
        );
        let recovered = keys.recovered(&format!("COPY public.t (v) FROM stdin;\n{sealed}\n\\.\n"));
        assert!(recovered.contains("\nby a wrapped key\n"), "{recovered}");
        formats.push(vector["format"].as_u64());
    }
    assert!(formats.contains(&Some(1)) && formats.contains(&Some(2)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn any_text_in_any_place(texts in proptest::collection::vec("[a\\\\'\"{}(),\\[\\]\t\n\r\u{8}\u{b}\u{c} $Né]{0,12}", 1..40)) {
        let mut keys = Keys::new(2);
        let (mut rows, mut inserts, mut expected, mut expected_inserts) = (String::new(), String::new(), String::new(), String::new());
        for (number, content) in texts.iter().enumerate() {
            let sealed = keys.sealed(number % 2, content);
            let quoted = content.replace('\\', "\\\\").replace('"', "\\\"");
            let doubled = content.replace('\\', "\\\\").replace('"', "\"\"");
            let json = serde_json::to_string(content).unwrap();
            let opened = [content.clone(), format!("{{NULL,\"{quoted}\"}}"), format!("(1,\"{doubled}\")"), format!("{{\"a\": [{json}]}}")];
            let stored = [sealed.clone(), format!("{{NULL,{sealed}}}"), format!("(1,{sealed})"), format!("{{\"a\": [\"{sealed}\"]}}")];
            rows.push_str(&format!("{}\n", stored.clone().map(|value| field(&value)).join("\t")));
            expected.push_str(&format!("{}\n", opened.clone().map(|value| field(&value)).join("\t")));
            let constant = |value: String| format!("'{}'", value.replace('\'', "''"));
            inserts.push_str(&format!("INSERT INTO public.t VALUES ({});\n", stored.map(constant).join(", ")));
            expected_inserts.push_str(&format!("INSERT INTO public.t VALUES ({});\n", opened.map(constant).join(", ")));
        }
        let table = "CREATE TABLE public.t (\n    v public.encrypted_text,\n    a public.encrypted_text[],\n    p public.pair,\n    j jsonb\n);\n";
        let copy = "COPY public.t (v, a, p, j) FROM stdin;\n";
        let recovered = keys.recovered(&format!("{table}{copy}{rows}\\.\n{inserts}"));
        let without_type = table.replace("public.encrypted_text", "text");
        prop_assert_eq!(recovered, format!("{without_type}{copy}{expected}\\.\n{expected_inserts}"));
    }
}

#[test]
fn definitions() {
    let mut keys = Keys::new(1);
    let (x, long) = (keys.sealed(0, "it's x"), keys.sealed(0, "a\\b"));
    for (before, after) in [
        // What is not about the extension stays, byte by byte.
        ("SELECT 'public.decrypt_field(x)', $$public.encrypted_text$$; -- public.encrypted_text\n".to_owned(), None),
        ("CREATE TABLE public.t (\n    decrypt_field text,\n    encrypted_text public.other\n);\n".to_owned(), None),
        ("/* public.decrypt_field(a); */ COMMENT ON COLUMN public.t.v IS 'public.encrypted_text; x';\n".to_owned(), None),
        (
            format!("ALTER TABLE ONLY public.t ALTER COLUMN v SET DEFAULT '{x}'::public.encrypted_text;\n"),
            Some("ALTER TABLE ONLY public.t ALTER COLUMN v SET DEFAULT 'it''s x'::text;\n".to_owned()),
        ),
        (
            format!("ALTER TABLE public.t ADD CHECK ((v OPERATOR(public.<>) E'{long}'::public.encrypted_text));\n"),
            Some("ALTER TABLE public.t ADD CHECK ((v <> E'a\\\\b'::text));\n".to_owned()),
        ),
        (
            "CREATE VIEW public.w AS\n SELECT public.decrypt_field(t.v, ('a,b)'::text || public.f(1, 2))) AS v,\n    public.encrypt_field(public.decrypt_field(public.reencrypt_field(t.v))) AS w\n   FROM public.t;\n".to_owned(),
            Some("CREATE VIEW public.w AS\n SELECT (t.v) AS v,\n    (((t.v))) AS w\n   FROM public.t;\n".to_owned()),
        ),
        // What is in an argument that goes does no harm.
        (
            "CREATE VIEW public.w2 AS\n SELECT public.decrypt_field(t.v, prism_crypt.class_name(1)) AS v FROM public.t;\n".to_owned(),
            Some("CREATE VIEW public.w2 AS\n SELECT (t.v) AS v FROM public.t;\n".to_owned()),
        ),
        (
            "CREATE INDEX i ON public.t USING btree (v public.encrypted_text_unique_ops);\n".to_owned(),
            Some("CREATE INDEX i ON public.t USING btree (v pg_catalog.text_ops);\n".to_owned()),
        ),
        (
            "CREATE TABLE public.u (\n    id integer NOT NULL,\n    a integer DEFAULT prism_crypt.f() NOT NULL,\n    b bytea GENERATED ALWAYS AS (public.blind_index('x'::text)) STORED,\n    CONSTRAINT c CHECK ((public.blind_index('x'::text) IS NULL)),\n    CONSTRAINT d CHECK ((id > 0))\n);\n".to_owned(),
            Some("-- prism-crypt: left out: default of column a: it uses prism_crypt.f\n-- prism-crypt: left out: expression of column b: it uses blind_index()\n-- prism-crypt: left out: constraint c: it uses blind_index()\nCREATE TABLE public.u (\n    id integer NOT NULL,\n    a integer NOT NULL,\n    b bytea,\n    CONSTRAINT d CHECK ((id > 0))\n);\n".to_owned()),
        ),
        (
            "CREATE DOMAIN public.d AS public.encrypted_text DEFAULT prism_crypt.x()\n\tCONSTRAINT one CHECK ((length((VALUE)::text) > 1))\n\tCONSTRAINT two CHECK (prism_crypt.f(VALUE));\n".to_owned(),
            Some("-- prism-crypt: left out: DEFAULT of the domain: it uses prism_crypt.x\n-- prism-crypt: left out: CONSTRAINT of the domain: it uses prism_crypt.f\nCREATE DOMAIN public.d AS text\n\tCONSTRAINT one CHECK ((length((VALUE)::text) > 1));\n".to_owned()),
        ),
        // Bodies of functions have names without a schema.
        (
            "CREATE FUNCTION public.f(v public.encrypted_text) RETURNS text\n    LANGUAGE plpgsql\n    AS $_$DECLARE x encrypted_text; BEGIN SET LOCAL prism_crypt.keyset = 'a'; RETURN decrypt_field(v) || $$;$$ || '$_'; END$_$;\n".to_owned(),
            Some("CREATE FUNCTION public.f(v text) RETURNS text\n    LANGUAGE plpgsql\n    AS $_$DECLARE x text; BEGIN SET LOCAL prism_crypt.keyset = 'a'; RETURN (v) || $$;$$ || '$_'; END$_$;\n".to_owned()),
        ),
        (
            "CREATE FUNCTION public.g() RETURNS text\n    LANGUAGE sql\n    AS 'SELECT decrypt_field(''x'')\nFROM prism_crypt.data_key';\nALTER FUNCTION public.g() OWNER TO me;\nCREATE EVENT TRIGGER e ON ddl_command_start\n   EXECUTE FUNCTION public.g();\nALTER EVENT TRIGGER e OWNER TO me;\n".to_owned(),
            Some("-- prism-crypt: left out: it uses prism_crypt.data_key\n-- CREATE FUNCTION public.g() RETURNS text\n--     LANGUAGE sql\n--     AS 'SELECT decrypt_field(''x'')\n-- FROM prism_crypt.data_key';\n-- prism-crypt: left out: it uses public.g, which is left out\n-- ALTER FUNCTION public.g() OWNER TO me;\n-- prism-crypt: left out: it uses public.g, which is left out\n-- CREATE EVENT TRIGGER e ON ddl_command_start\n--    EXECUTE FUNCTION public.g();\n-- prism-crypt: left out: e is left out\n-- ALTER EVENT TRIGGER e OWNER TO me;\n".to_owned()),
        ),
        // One for each type becomes one.
        (
            "CREATE FUNCTION public.h(a public.encrypted_text) RETURNS text\n    LANGUAGE sql\n    AS $$SELECT 1$$;\nCREATE FUNCTION public.h(b text DEFAULT 'x'::text) RETURNS text\n    LANGUAGE sql\n    AS $$SELECT 2$$;\n".to_owned(),
            Some("CREATE FUNCTION public.h(a text) RETURNS text\n    LANGUAGE sql\n    AS $$SELECT 1$$;\n-- prism-crypt: left out: there is the same function for text\n-- CREATE FUNCTION public.h(b text DEFAULT 'x'::text) RETURNS text\n--     LANGUAGE sql\n--     AS $$SELECT 2$$;\n".to_owned()),
        ),
        (
            "GRANT ALL ON FUNCTION public.decrypt_field(value public.encrypted_text, context text) TO app;\nGRANT SELECT ON TABLE public.t TO app;\n".to_owned(),
            Some("-- prism-crypt: left out: GRANT ALL ON FUNCTION public.decrypt_field\nGRANT SELECT ON TABLE public.t TO app;\n".to_owned()),
        ),
    ] {
        assert_eq!(keys.recovered(&before), after.unwrap_or_else(|| before.clone()), "{before}");
    }
}

#[test]
fn what_is_not_ciphertext_stays() {
    let mut keys = Keys::new(1);
    let sealed = keys.sealed(0, "x");
    let unknown = sealed.replace("v1", "v7");
    let rows = format!(
        "prism:v1:hello\tprism:v1:hello\n{unknown}\t\\\\x01000000000007\nthe text {}\t\\\\x0104\n\\N\t\\\\x01ff\n",
        &sealed[..20]
    );
    let table = "CREATE TABLE public.t (\n    v text,\n    b bytea\n);\nCOPY public.t (v, b) FROM stdin;\n";
    assert_eq!(keys.recovered(&format!("{table}{rows}\\.\n")), format!("{table}{rows}\\.\n"));
}

#[test]
fn contexts_and_bytes() {
    let mut keys = Keys::new(1);
    let context = Some(ContextHash::of(b"clinic/7"));
    let bound = keys.envelope(0, Attributes { context, ..Attributes::default() }, b"bound");
    let bytes =
        keys.envelope(0, Attributes { content: Content::Bytes, context, ..Attributes::default() }, b"\0\xff");
    let rows = format!(
        "{}\t\\\\x{}\t(1,\"\\\\\\\\x{}\")\n",
        armored(keys.keys[0].0.version(), &bound),
        hex::encode(&bytes),
        hex::encode(&bytes)
    );
    let recovered = keys.recovered(&format!("COPY public.t (v, b, c) FROM stdin;\n{rows}\\.\n"));
    assert!(recovered.ends_with("stdin;\nbound\t\\\\x00ff\t(1,\"\\\\\\\\x00ff\")\n\\.\n"), "{recovered}");
}

#[test]
fn values_that_do_not_open() {
    let mut keys = Keys::new(2);
    let good = keys.sealed(0, "good");
    let unknown = {
        let mut other = Keys::new(9);
        other.sealed(8, "of another database")
    };
    let table = "CREATE TABLE public.t (\n    id integer,\n    v public.encrypted_text\n);\nCOPY public.t (id, v) FROM stdin;\n";
    let rows: String = (1..=6)
        .map(|id| format!("{id}\t{}\n", if matches!(id, 2..=4 | 6) { &unknown } else { &good }))
        .collect();
    keys.place
        .write("dump", keys.dump(&format!("{table}{rows}\\.\nCOMMENT ON TABLE public.t IS '{unknown}';\n")));
    let output = keys.place.run(&["recover", "dump", "--key-file", "key"], b"");
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    for line in [
        "prism-crypt: public.t, column v, rows 2 to 4: key version 9 does not exist\n",
        "prism-crypt: public.t, column v, row 6: key version 9 does not exist\n",
        "prism-crypt: COMMENT ON TABLE public.t: key version 9 does not exist\n",
        "prism-crypt: values of key version 1: 2\n",
        "prism-crypt: 5 values were not opened\n",
    ] {
        assert!(told.contains(line), "{told}");
    }
    let written = text(&output.stdout);
    assert!(
        written.contains("\n1\tgood\n") && written.contains(&format!("\n4\t{unknown}\n5\tgood\n")),
        "{written}"
    );

    let strict =
        keys.place.run(&["recover", "dump", "--key-file", "key", "--strict", "--output", "new"], b"");
    assert_eq!((strict.status.code(), keys.place.path("new").exists()), (Some(1), false));
    let told = text(&strict.stderr);
    assert!(told.starts_with("prism-crypt: public.t, column v, row 2: "), "{told}");
    assert!(told.contains("a value was not opened\nHINT:  ") && !told.contains("row 6"), "{told}");
}

#[test]
fn malformed_values_are_told_of_where_ciphertext_must_be() {
    let keys = Keys::new(1);
    let types =
        "CREATE DOMAIN public.d AS public.encrypted_text;\nCREATE TYPE public.p AS (\n    a public.d\n);\n";
    for (number, (sql_type, value)) in [
        ("public.encrypted_text(email)", "{}"),
        ("public.encrypted_text[]", "{x,{}}"),
        ("public.d", "{}"),
        ("public.p[]", "{({})}"),
    ]
    .into_iter()
    .enumerate()
    {
        let value = value.replace("{}", "prism:v1:AQAA");
        let table = format!(
            "CREATE TABLE public.t (\n    v {sql_type} NOT NULL\n);\nCOPY public.t (v) FROM stdin;\n{value}\n\\.\n"
        );
        keys.place.write("dump", keys.dump(&format!("{types}{table}")));
        let output = keys.place.run(&["recover", "dump", "--key-file", "key"], b"");
        let told = text(&output.stderr);
        assert!(told.contains("public.t, column v, row 1: the text form is malformed: "), "{number}: {told}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn text_forms_inside_other_text_are_told_of() {
    let mut keys = Keys::new(1);
    let sealed = keys.sealed(0, "x");
    let table = "CREATE TABLE public.t (\n    v text\n);\nCOPY public.t (v) FROM stdin;\n";
    keys.place.write("dump", keys.dump(&format!("{table}<a>{sealed}</a>\n\\.\n")));
    let output = keys.place.run(&["recover", "dump", "--key-file", "key"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("public.t, column v, row 1: ciphertext inside other text\n"));
}

#[test]
fn dumps_that_are_cut_off() {
    let mut keys = Keys::new(1);
    let sealed = keys.sealed(0, "x");
    let whole = keys.dump("")
        + &format!(
            "CREATE TABLE public.t (\n    v public.encrypted_text\n);\nCOPY public.t (v) FROM stdin;\n{sealed}\n{sealed}\n\\.\nSELECT 1;\n"
        );
    for (name, end, last) in [
        ("row", &*format!("{}\n\\.\nSELECT 1;\n", &sealed[9..]), "stdin;\nx\n\\.\n"),
        ("rows", "\\.\nSELECT 1;\n", "\nx\nx\n\\.\n"),
        ("statement", "1;\n", "\nx\nx\n\\.\n"),
        ("nothing", "", "\\.\nSELECT 1;\n"),
    ] {
        // Each of them lacks the last line of pg_dump.
        let dump = format!("--\n-- PostgreSQL database dump\n--\n{}", whole.strip_suffix(end).unwrap());
        keys.place.write("dump", &dump);
        let arguments = ["recover", "dump", "--key-file", "key", "--output", name];
        let told = keys.place.fails(&arguments, 1);
        assert!(told.contains("prism-crypt: the dump is not complete\nDETAIL:  "), "{name}: {told}");
        assert!(text(&keys.place.read(name)).ends_with(last), "{name}");
        let strict =
            keys.place.fails(&["recover", "dump", "--key-file", "key", "--strict", "--output", "new"], 1);
        assert!(strict.ends_with("the dump is not complete\n") && !keys.place.path("new").exists());
        keys.place.write("dump", dump + "\n--\n-- PostgreSQL database dump complete\n--\n");
        let status = keys.place.run(&arguments[..4], b"").status.code();
        assert_eq!(status, Some(if name == "nothing" { 0 } else { 1 }), "{name}");
    }
}

#[test]
fn what_is_refused() {
    let mut keys = Keys::new(1);
    let sealed = keys.sealed(0, "x");
    let table = format!(
        "CREATE TABLE public.t (\n    v public.encrypted_text\n);\nCOPY public.t (v) FROM stdin;\n{sealed}\n\\.\n"
    );
    let place = &keys.place;
    let fails = |arguments: &[&str]| place.fails(&[&["recover", "--key-file", "key"], arguments].concat(), 1);
    assert!(fails(&["nothing"]).contains("could not open file \"nothing\""));
    place.write("gzip", b"\x1f\x8b\x08 and so on");
    assert!(fails(&["gzip"]).starts_with("prism-crypt: the dump is compressed\nHINT:  "));
    place.write("keyless", &table);
    assert!(fails(&["keyless"]).starts_with("prism-crypt: the dump has no data keys\nDETAIL:  "));
    place.write("no keys", "a,b\n1,2\n");
    assert!(
        fails(&["keyless", "--keys", "no keys"])
            .starts_with("prism-crypt: file \"no keys\" has no data keys\n")
    );
    place.write("encoding", "SET client_encoding = 'JOHAB';\n");
    assert!(
        fails(&["encoding"]).starts_with("prism-crypt: dumps in the encoding JOHAB can't be read\nHINT:  ")
    );
    place.write("not", b"SET client_encoding = 'EUC_JP';\nSELECT '\xff';\n");
    assert!(fails(&["not"]).starts_with("prism-crypt: the dump has bytes that are no EUC_JP\n"));
    place.write("archive", "PGDMP and so on");
    let mut without_path = place.command(&["recover", "archive", "--key-file", "key"]);
    let output = common::feed(without_path.env("PATH", "/nonexistent"), b"");
    assert!(
        text(&output.stderr).starts_with("prism-crypt: could not read the dump with pg_restore\nDETAIL:  ")
    );

    place.write("whole", keys.dump(&table));
    std::fs::rename(place.path("key"), place.path("right")).unwrap();
    place.ok(&["generate-key", "--output", "key"]);
    let told = fails(&["whole"]);
    assert!(
        told.starts_with(
            "prism-crypt: encryption key mismatch\nDETAIL:  Key version 1 of keyset \"default\""
        ),
        "{told}"
    );
}

#[test]
fn keys_as_csv_and_a_file_as_output() {
    let mut keys = Keys::new(2);
    let sealed = keys.sealed(1, "from one table");
    let rows: String = keys
        .keys
        .iter()
        .map(|(_, row)| row.replace("\\\\x", "\\x").replace("\t\\N", ",").replace('\t', ",") + "\n")
        .collect();
    keys.place.write("keys.csv", format!("version,keyset,state,wrapped,master_fingerprint,reason\n{rows}"));
    keys.place.write("dump", format!("CREATE TABLE public.t (\n    v public.encrypted_text\n);\nINSERT INTO public.t VALUES ('{sealed}');\n"));
    let arguments = ["recover", "dump", "--keys", "keys.csv", "--key-file", "key", "--output", "new.sql"];
    assert_eq!(keys.place.ok(&arguments), b"");
    assert_eq!(
        text(&keys.place.read("new.sql")),
        "CREATE TABLE public.t (\n    v text\n);\nINSERT INTO public.t VALUES ('from one table');\n"
    );
    assert_eq!(mode(&keys.place.path("new.sql")), 0o600);
    assert!(keys.place.fails(&arguments, 1).contains("file \"new.sql\" already exists"));
}

#[test]
fn what_is_no_dump_is_refused() {
    let place = Place::new();
    for input in ["", "\n\n", "-- a comment\n", "hello", "hello;\n", "\\connect x\n", "id,name\n1,x\n", ";"] {
        for more in [&[][..], &["--strict"], &["--output", "new.sql"]] {
            let arguments = [&["recover", "-", "--key-file", "key"], more].concat();
            let output = place.run(&arguments, input.as_bytes());
            assert_eq!(output.status.code(), Some(1), "{input:?}");
            let said =
                "prism-crypt: nothing of a dump was found\nHINT:  It is what pg_dump or pg_dumpall writes.\n";
            assert_eq!(
                (text(&output.stderr).as_str(), text(&output.stdout).as_str()),
                (said, ""),
                "{input:?}"
            );
            assert!(!place.path("new.sql").exists());
        }
    }
    place.write("empty", "");
    assert!(
        place.fails(&["recover", "empty", "--key-file", "key"], 1).contains("nothing of a dump was found")
    );
    let output = place.run(&["recover", "-", "--key-file", "key"], b"SET x = 1;\n");
    assert!(output.status.success(), "{}", text(&output.stderr));
}
