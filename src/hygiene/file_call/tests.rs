use super::*;
use crate::hygiene::naming::{self, Mentions};

const KEY: &str = "Zm9vYmFyMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=";

/// The text without its keys, and which parameters are keys. The prepared statement `keyed` takes one as its second.
fn blanked(text: &str, dialect: Dialect) -> (String, Numbers) {
    let mut target = text.as_bytes().to_vec();
    let found = naming::blank(text.as_bytes(), &mut target, dialect, &|name| Mentions {
        file_call: name == b"keyed",
        file_keys: if name == b"keyed" { Numbers::of(2) } else { Numbers::default() },
        ..Mentions::default()
    });
    let of_text = naming::mentions(text.as_bytes(), dialect);
    // The setting is enough to know that a text has to be blanked.
    assert!(of_text.setting || text.contains("keyed") || of_text.file_call == found.file_call, "{text}");
    (String::from_utf8_lossy(&target).into_owned(), found.file_keys)
}

/// `#` stands for a key, or in the second text for as many asterisks; `~` stands for one asterisk.
fn check(dialect: Dialect, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let expected = expected.replace('#', &"*".repeat(KEY.len())).replace('~', "*");
        assert_eq!(blanked(&text.replace('#', KEY), dialect).0, expected, "{text}");
    }
}

#[test]
fn takes_out_the_key_and_leaves_the_rest() {
    check(
        Dialect::default(),
        &[
            (
                "SELECT export_encrypted('a', '/b', 'c', 2, 'zstd')",
                "SELECT export_encrypted('a', '/b', '~', 2, 'zstd')",
            ),
            (
                "SELECT prism_crypt.export_encrypted('(SELECT f(a, ''b''))', g('/b', 'x'), h('c', 'd') || e['f'], compression => 'g')",
                "SELECT prism_crypt.export_encrypted('(SELECT f(a, ''b''))', g('/b', 'x'), h('~', '~') || e['~'], compression => 'g')",
            ),
            (
                "SELECT import_stream(key => 'a', target := 'b')",
                "SELECT import_stream(key => '~', target := 'b')",
            ),
            ("SELECT import_stream(\"key\" := 'a')", "SELECT import_stream(\"key\" := '~')"),
            ("SELECT Import_Encrypted('a', KEY => E'\\'b')", "SELECT Import_Encrypted('a', KEY => E'~~~')"),
            ("SELECT \"export_stream\"('a', $b$c$b$)", "SELECT \"export_stream\"('a', $b$~$b$)"),
            (
                "SELECT 'a'; SELECT export_stream('a', 'b'); SELECT 'c', '#'",
                "SELECT 'a'; SELECT export_stream('a', '~'); SELECT 'c', 'Zm9vYmFyMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk='",
            ),
            (
                "WITH k AS (SELECT '#' AS k, 'b') SELECT export_stream('a', k) -- #",
                "WITH k AS (SELECT '#' AS k, 'b') SELECT export_stream('a', k) -- #",
            ),
            (
                "SELECT E'\\x5a\\155\\u0039vYmFyMDEyMzQ1Njc4OWFi', export_stream('a', k)",
                "SELECT E'~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~', export_stream('a', k)",
            ),
            (
                "DO $$ BEGIN PERFORM 'a'; PERFORM export_stream('a', 'b'); END $$",
                "DO $$ BEGIN PERFORM 'a'; PERFORM export_stream('a', '~'); END $$",
            ),
            (
                "DO 'BEGIN PERFORM export_stream(''a'', ''b''); END'",
                "DO 'BEGIN PERFORM export_stream(''a'', ''~''); END'",
            ),
            (
                "EXECUTE keyed('a', 'b', 'c'); EXECUTE other('a', 'b')",
                "EXECUTE keyed('a', '~', 'c'); EXECUTE other('a', 'b')",
            ),
            (
                "PREPARE p AS SELECT export_stream('a', $3); EXECUTE p('a', 'b', 'c')",
                "PREPARE p AS SELECT export_stream('a', $3); EXECUTE p('a', 'b', '~')",
            ),
            ("SELECT export_stream('a', 'b", "SELECT export_stream('a', '~"),
            (
                "SELECT export_encrypted('/srv/Backups2026/TheArchive', 'a.b')",
                "SELECT export_encrypted('/srv/Backups2026/TheArchive', 'a.b')",
            ),
            (
                "/* export_stream('a', 'b') */ SELECT '#'",
                "/* export_stream('a', 'b') */ SELECT 'Zm9vYmFyMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk='",
            ),
            (
                "SET prism_crypt.master_key = 'a'; SELECT export_stream('a', 'b')",
                "SET prism_crypt.master_key = '~'; SELECT export_stream('a', '~')",
            ),
            (
                "SELECT export_stream('a', 'b'), set_config('prism_crypt.master_key', 'c', true)",
                "SELECT export_stream('a', '~'), set_config('prism_crypt.master_key', '~', true)",
            ),
        ],
    );
    let message = Dialect { prose: true, ..Dialect::default() };
    check(
        message,
        &[(
            "can't call export_stream('a', 'b'), it isn't there",
            "can't call export_stream('a', '~'), it isn't there",
        )],
    );
    let json = Dialect { json: true, ..Dialect::default() };
    check(
        json,
        &[(
            "{\"Output\": [\"export_stream('a', 'b')\"], \"x\": \"y\"}",
            "{\"Output\": [\"export_stream('a', '~')\"], \"x\": \"y\"}",
        )],
    );
}

#[test]
fn finds_the_parameters_that_are_keys() {
    for (text, keys) in [
        ("SELECT export_encrypted($1, $2, $3)", &[3][..]),
        (
            "SELECT export_encrypted($1, $2, key => $12::text), import_stream($1, coalesce($4, $5))",
            &[4, 5, 12],
        ),
        ("DO $$ BEGIN PERFORM export_stream(target => $1, key := $2); END $$", &[2]),
        ("SELECT export_stream($1, $2 || $80)", &[2, 63, 80, 99999]),
        ("SELECT export_stream($1), $2", &[]),
        ("SELECT f($1, $2)", &[]),
    ] {
        let found = blanked(text, Dialect::default()).1;
        let all = (1..=90).chain([99999]);
        let expected = |number: &usize| keys.contains(number) || (*number > 63 && keys.contains(&63));
        assert!(all.into_iter().all(|number| found.contains(number) == expected(&number)), "{text}");
    }
}

#[test]
fn any_bytes_are_read() {
    let parts = [
        "export_stream",
        "(",
        ")",
        "]",
        ",",
        "key",
        "=>",
        ":=",
        "'",
        "\"",
        "$1",
        "$$",
        ";",
        "E'\\",
        "EXECUTE",
        "keyed",
        "0123456789abcdef0123",
        "\u{e9}",
    ];
    let mut seed = 1_u64;
    let mut below = |most: usize| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize % most
    };
    for _ in 0..50_000 {
        let text: String = (0..below(30)).map(|_| parts[below(parts.len())]).collect();
        for (json, prose) in [(false, false), (true, false), (false, true)] {
            let (got, _) =
                blanked(&text.replace("keyed", "other"), Dialect { json, prose, ..Dialect::default() });
            assert_eq!(got.len(), text.len());
            assert!(
                got.bytes()
                    .zip(text.replace("keyed", "other").bytes())
                    .all(|(new, old)| new == old || new == b'*'),
                "{text}"
            );
        }
    }
}
