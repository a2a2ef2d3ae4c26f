//! Definitions of a hostile writer, who has the key: as SQL they give a table, and nothing else.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Place, text};

/// A file with this definition, in JSON, and these rows.
fn file(place: &Place, definition: &str, rows: &str) {
    let key = prism_envelope::KeyBytes::parse(&text(&place.read("key"))).unwrap();
    let content = format!("{definition}\n{rows}").into_bytes();
    place.write("it.penc", prism_envelope::file::write_whole(Vec::new(), content.into(), &key).unwrap());
}

const AS_SQL: [&str; 6] = ["decrypt", "it.penc", "--format", "sql", "--key-file", "key"];

/// Statements, and what is said, of one column `a` with these members.
fn of_column(place: &Place, members: &str) -> (String, String) {
    let definition =
        format!("{{\"collection\": \"public.t\", \"columns\": [{{\"name\": \"a\", {members}}}]}}");
    file(place, &definition, "");
    let output = place.run(&AS_SQL, b"");
    assert!(output.status.success(), "{members}: {}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn types_and_collations_are_only_that() {
    let place = Place::new();
    for (members, part) in [
        (r#""type": "integer\n\\! touch /tmp/pwned\n""#, "type"),
        (r#""type": "integer); CREATE TABLE pwned4(); --""#, "type"),
        (r#""type": "text DEFAULT pg_read_file('/etc/passwd')""#, "type"),
        (r#""type": "integer CHECK (public.f())""#, "type"),
        (r#""type": "integer\u0000""#, "type"),
        (r#""type": "text", "collation": "\"C\" DEFAULT f()""#, "collation"),
        (r#""type": "text", "collation": "\"C\"\n\\! touch /tmp/pwned\n""#, "collation"),
    ] {
        let definition = format!(r#"{{"collection": "t", "columns": [{{"name": "a", {members}}}]}}"#);
        file(&place, &definition, "");
        let said = place.fails(&AS_SQL, 1);
        assert_eq!(said, format!("prism-crypt: the {part} of column \"a\" of the file is malformed\n"));
    }
}

#[test]
fn names_are_quoted() {
    let place = Place::new();
    let definition = r#"{"collection": "t (); \n\\! touch owned\n", "columns": [{"name": "a\"\n\\! b :x", "type": "text"}]}"#;
    file(&place, definition, "");
    let sql = text(&place.ok(&AS_SQL));
    assert!(sql.contains("CREATE TABLE :\"prism_schema\".\"t (); \n\\! touch owned\n\" (\n"), "{sql}");
    assert!(sql.contains("\n  \"a\"\"\n\\! b :x\" text\n"), "{sql}");
    for (definition, said) in [
        (r#"{"collection": "t\u0000", "columns": []}"#, "the name of the table of the file is malformed\n"),
        (
            r#"{"collection": "t", "columns": [{"name": "\u0000", "type": "text"}]}"#,
            "the name of column \"\\u{0}\" of the file is malformed\n",
        ),
    ] {
        file(&place, definition, "");
        assert_eq!(place.fails(&AS_SQL, 1), format!("prism-crypt: {said}"));
    }
    let said = place.fails(&[&AS_SQL[..], &["--table", "t (a int); --"]].concat(), 2);
    assert_eq!(said, "prism-crypt: --table is a name, with or without its schema\n");
}

#[test]
fn expressions_compute() {
    let place = Place::new();
    for expression in [
        "1); CREATE TABLE pwned1(); PERFORM (1",
        r"1\n\\! touch /tmp/pwned\n",
        "pg_catalog.pg_read_file('/etc/passwd')",
        "public.f()",
        "(SELECT 1)",
        "1 -- x",
        ":x",
    ] {
        let (sql, said) = of_column(&place, &format!(r#""type": "text", "expression": "{expression}""#));
        assert!(sql.ends_with("(\"a\") FROM stdin;\n\\.\n"), "{sql}");
        assert!(said.starts_with("prism-crypt: column \"a\" gets no default: "), "{said}");
        let members = format!(r#""type": "text", "generated": "stored", "expression": "{expression}""#);
        let (sql, said) = of_column(&place, &members);
        assert!(sql.ends_with("CREATE TABLE \"public\".\"t\" (\n\n);\n\n"), "{sql}");
        assert!(said.starts_with("prism-crypt: column \"a\" is left out: "), "{said}");
    }
    let (sql, said) = of_column(&place, r#""type": "text", "expression": "lower('A; B'::text)""#);
    assert_eq!(said, "");
    assert!(sql.contains(" ALTER COLUMN \"a\" SET DEFAULT (lower(''A; B''::text))';\n"), "{sql}");
    let (sql, _) = of_column(&place, r#""type": "int", "generated": "stored", "expression": "(b * 2)""#);
    assert!(sql.contains("\"a\" int GENERATED ALWAYS AS ((b * 2)) STORED\n"), "{sql}");
}

/// If the table can't be made, psql must not take rows for statements.
#[test]
fn psql_stops_at_an_error() {
    let place = Place::new();
    let (sql, _) = of_column(&place, r#""type": "public.none""#);
    assert!(sql.starts_with("\\set ON_ERROR_STOP on\n"), "{sql}");
}

#[test]
fn collations_and_sequences_are_kept() {
    let place = Place::new();
    let (sql, _) = of_column(&place, r#""type": "text", "collation": "pg_catalog.\"C\"", "not_null": true"#);
    assert!(sql.contains("  \"a\" text COLLATE \"pg_catalog\".\"C\" NOT NULL\n"), "{sql}");
    let sequence = r#""start": 1, "increment": -2, "minimum": -9, "maximum": 5, "cache": 3, "cycle": true"#;
    let (sql, _) = of_column(
        &place,
        &format!(
            r#""type": "bigint", "identity": "by default", "sequence": {{{sequence}, "last": -3, "called": false}}"#
        ),
    );
    let options = "GENERATED BY DEFAULT AS IDENTITY (START WITH 1 INCREMENT BY -2 MINVALUE -9 MAXVALUE 5 CACHE 3 CYCLE)\n";
    assert!(sql.contains(options), "{sql}");
    let position =
        "pg_catalog.setval(pg_catalog.pg_get_serial_sequence('\"public\".\"t\"', 'a'), -3, false);\n";
    assert!(sql.contains(position), "{sql}");
    let (sql, _) = of_column(&place, r#""type": "bigint", "identity": "always", "sequence": {"start": 7}"#);
    assert!(sql.contains("GENERATED ALWAYS AS IDENTITY (START WITH 7 NO CYCLE)\n"), "{sql}");
    // Where the sequence is was not known.
    let (sql, _) =
        of_column(&place, &format!(r#""type": "bigint", "identity": "always", "sequence": {{{sequence}}}"#));
    assert!(!sql.contains("setval"), "{sql}");
}

#[test]
fn rows_without_fields() {
    let place = Place::new();
    file(&place, r#"{"collection": "s.t", "columns": []}"#, "\n\n");
    let sql = text(&place.ok(&AS_SQL));
    let row = "INSERT INTO \"s\".\"t\" DEFAULT VALUES;\n";
    assert!(sql.ends_with(&format!("CREATE TABLE \"s\".\"t\" (\n\n);\n\n{row}{row}")), "{sql}");
}
