//! Encrypted files: out, in, and everything that is refused.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Place, feed, mode, text};
use std::io::Read;
use std::process::{Command, Stdio};

const CSV: &str = "id,name,\"no\"\"te\"\n1,Ada,\n2,\"O, B\",\"a\nb\"\n3,,\"\"\n4,Zsófia 山田,\\N\n";

#[test]
fn there_and_back() {
    let place = Place::new();
    place.write("clients.csv", CSV);
    let ways: [&[&str]; 5] = [
        &[],
        &["--format", "1"],
        &["--compression", "zstd"],
        &["--wrap"],
        &["--wrap", "--compression", "zstd"],
    ];
    for (number, options) in ways.into_iter().enumerate() {
        let file = format!("{number}.penc");
        let mut arguments = vec!["encrypt", "clients.csv", "--output", &file, "--key-file", "key"];
        arguments.extend(options);
        let said = text(&place.ok(&arguments));
        assert_eq!(said, format!("{file}: 4 rows, {} bytes\n", place.read(&file).len()));
        assert_eq!(mode(&place.path(&file)), 0o600);
        assert!(!place.read(&file).windows(3).any(|window| window == b"Ada"));
        assert_eq!(text(&place.ok(&["decrypt", &file, "--key-file", "key"])), CSV);
        let stream = place.run(&["decrypt", "-", "--key-file", "key"], &place.read(&file));
        assert_eq!(text(&stream.stdout), CSV);
        let verified = text(&place.ok(&["verify", &file, "--key-file", "key"]));
        assert!(verified.starts_with("complete and unchanged: 4 rows, "), "{verified}");
        let raw = text(&place.ok(&["decrypt", &file, "--format", "raw", "--key-file", "key"]));
        assert!(raw.ends_with("}\n1\tAda\t\\N\n2\tO, B\ta\\nb\n3\t\\N\t\n4\tZsófia 山田\t\\\\N\n"), "{raw}");
    }
}

#[test]
fn statements_for_psql() {
    let place = Place::new();
    place.write("my clients.csv", "id,a\"b\n1,x\n");
    let types = ["--type", "id=numeric(10,2)"];
    let arguments = ["encrypt", "my clients.csv", "--output", "c.penc", "--key-file", "key"];
    place.ok(&[&arguments[..], &types].concat());
    let sql = text(&place.ok(&["decrypt", "c.penc", "--format", "sql", "--key-file", "key"]));
    let expected = "CREATE TABLE :\"prism_schema\".\"my clients\" (\n  \"id\" numeric(10,2),\n  \"a\"\"b\" text\n);\n\n\
                    COPY :\"prism_schema\".\"my clients\" (\"id\", \"a\"\"b\") FROM stdin;\n1\tx\n\\.\n";
    assert!(sql.ends_with(expected), "{sql}");
    let named = ["decrypt", "c.penc", "--format", "sql", "--table", "archive.clients", "--key-file", "key"];
    assert!(text(&place.ok(&named)).contains("CREATE TABLE \"archive\".\"clients\" ("));
    let said = place.fails(&["decrypt", "c.penc", "--table", "x", "--key-file", "key"], 2);
    assert_eq!(said, "prism-crypt: --table and --keep-types are for --format sql\n");
}

/// Rows of a hostile writer, who has the key: they must not become statements.
#[test]
fn rows_do_not_end_the_copy() {
    let place = Place::new();
    let key = prism_envelope::KeyBytes::parse(&text(&place.read("key"))).unwrap();
    let definition = "{\"collection\": \"t\", \"columns\": [{\"name\": \"a\", \"type\": \"text\"}]}\n";
    for (rows, row) in [
        ("x\n\\.\n\\! touch owned\n", 2),
        ("x\ty\n", 1),
        ("a\n\n\\.\r\n", 3),
        ("a\rb\n", 1),
        ("a\nb\0\n", 2),
        ("\u{fffd}\n\\.", 2),
    ] {
        let content = format!("{definition}{rows}").into_bytes();
        let file = prism_envelope::file::write_whole(Vec::new(), content.into(), &key).unwrap();
        place.write("bad.penc", file);
        for format in ["sql", "csv"] {
            let said = place.fails(&["decrypt", "bad.penc", "--format", format, "--key-file", "key"], 1);
            assert!(
                said.starts_with(&format!("prism-crypt: row {row} of the content is malformed\n")),
                "{said}"
            );
        }
    }
}

#[test]
fn whatever_is_changed_is_refused() {
    let place = Place::new();
    place.write("c.csv", "a\n1\n");
    place.ok(&["encrypt", "c.csv", "--output", "1.penc", "--format", "1", "--key-file", "key"]);
    place.ok(&["encrypt", "c.csv", "--output", "2.penc", "--wrap", "--key-file", "key"]);
    for name in ["1.penc", "2.penc"] {
        let file = place.read(name);
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            place.write("changed", &changed);
            place.fails(&["decrypt", "changed", "--key-file", "key"], 1);
        }
        for length in (0..file.len()).step_by(7).chain([file.len() - 1]) {
            place.write("cut", &file[..length]);
            place.fails(&["decrypt", "cut", "--format", "raw", "--key-file", "key"], 1);
            place.fails(&["verify", "cut", "--key-file", "key"], 1);
        }
        place.write("longer", [&file[..], b"x"].concat());
        place.fails(&["decrypt", "longer", "--key-file", "key"], 1);
    }
}

#[test]
fn other_keys_are_refused() {
    let place = Place::new();
    place.write("c.csv", "a\n1\n");
    place.ok(&["generate-key", "--output", "other"]);
    for (name, options) in [("1.penc", "--format=1"), ("2.penc", "--format=2"), ("w.penc", "--wrap")] {
        place.ok(&["encrypt", "c.csv", "--output", name, options, "--key-file", "key"]);
        let said = place.fails(&["decrypt", name, "--key-file", "other"], 1);
        let expected = if name == "w.penc" {
            "encryption key mismatch\nDETAIL:  The key of the file is wrapped by the master key "
        } else {
            "Decryption failed (wrong key or corrupted data)\n"
        };
        assert!(said.starts_with(&format!("prism-crypt: {expected}")), "{said}");
    }
    // Of several master keys, the right one is found; a file's own key is one.
    let both = [place.read("other"), place.read("key")].concat();
    assert!(place.run(&["verify", "w.penc", "--key-stdin"], &both).status.success());
    let output = place.run(&["verify", "2.penc", "--key-stdin"], &both);
    assert_eq!(output.status.code(), Some(2));
    let said = place.fails(&["decrypt", "-", "--key-stdin"], 2);
    assert_eq!(said, "prism-crypt: standard input can't be the key and the file\n");
}

#[test]
fn bad_csv_leaves_nothing() {
    let place = Place::new();
    for (csv, said) in [
        ("a,b\n1\n", "line 2 of the CSV is malformed\nDETAIL:  It has 1 fields, and there are 2 columns.\n"),
        ("a,a\n", "line 1 of the CSV is malformed\nDETAIL:  There are two columns \"a\".\n"),
        ("a,\n", "line 1 of the CSV is malformed\nDETAIL:  A column has no name.\n"),
        ("", "line 1 of the CSV is malformed\nDETAIL:  There is no line that names the columns.\n"),
        ("a\n\"1\n", "line 2 of the CSV is malformed\nDETAIL:  A quoted field does not end.\n"),
        ("a\n1\0\n", "line 2 of the CSV is malformed\nDETAIL:  It is not UTF-8, or has a zero byte.\n"),
    ] {
        place.write("bad.csv", csv);
        let arguments = ["encrypt", "bad.csv", "--output", "bad.penc", "--key-file", "key"];
        assert_eq!(place.fails(&arguments, 1), format!("prism-crypt: {said}"), "{csv:?}");
        assert!(!place.path("bad.penc").exists());
    }
    place.write("good.csv", "a\n1\n");
    let arguments = ["encrypt", "good.csv", "--output", "new.penc", "--key-file", "key"];
    for more in [&["--type", "b=int"][..], &["--type", "b"], &["--format", "1", "--wrap"], &["--format", "3"]]
    {
        place.fails(&[&arguments[..], more].concat(), 2);
        assert!(!place.path("new.penc").exists());
    }
    assert_eq!(std::fs::read_dir(place.directory.path()).unwrap().count(), 3);
}

/// A stream: what is written is authentic, and that the end is missing is known at the end.
#[test]
fn streams_say_at_the_end_that_something_is_missing() {
    let place = Place::new();
    place.write("c.csv", format!("a\n{}", "0123456789\n".repeat(50_000)));
    place.ok(&["encrypt", "c.csv", "--output", "c.penc", "--key-file", "key"]);
    let file = place.read("c.penc");
    let output = place.run(&["decrypt", "-", "--key-file", "key"], &file[..file.len() - 20_000]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "prism-crypt: Decryption failed (wrong key or corrupted data)\n");
    assert!(place.read("c.csv").starts_with(&output.stdout));
    // A file is known to be bad before.
    place.write("cut.penc", &file[..file.len() - 20_000]);
    place.fails(&["decrypt", "cut.penc", "--key-file", "key"], 1);
}

#[test]
fn a_broken_pipe_ends_quietly() {
    let place = Place::new();
    place.write("c.csv", format!("a\n{}", "0123456789\n".repeat(50_000)));
    place.ok(&["encrypt", "c.csv", "--output", "c.penc", "--key-file", "key"]);
    let mut command = place.command(&["decrypt", "c.penc", "--key-file", "key"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 10]).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(1), ""));
}

/// More content than there is memory: 64 MiB with 100 MB of address space, program and stack included.
#[test]
fn memory_is_flat() {
    let place = Place::new();
    let program = env!("CARGO_BIN_EXE_prism-crypt");
    let script = "ulimit -v 100000
        (echo a; yes 0123456789012345678901234567890123456789012345678901234567890 | head -n 1100000) |
          \"$0\" encrypt - --output c.penc --compression zstd --key-file key && \"$0\" verify c.penc --key-file key &&
          \"$0\" decrypt c.penc --key-file key | wc -c";
    let mut shell = Command::new("sh");
    let output = feed(shell.args(["-c", script, program]).current_dir(place.directory.path()), b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).ends_with("68200002\n"), "{}", text(&output.stdout));
}
