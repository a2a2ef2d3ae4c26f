use super::super::naming::{self, Mentions};
use super::*;

const KEY: &str = "Zm9vYmFyMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=";

fn blanked(text: &str, dialect: Dialect) -> String {
    let mut target = text.as_bytes().to_vec();
    naming::blank(text.as_bytes(), &mut target, dialect, &|name| Mentions {
        setting: name == b"keyed",
        ..Mentions::default()
    });
    assert_eq!(target.len(), text.len());
    String::from_utf8_lossy(&target).into_owned()
}

/// `#` stands for a key, or in the second text for as many asterisks; `~` stands for one asterisk.
fn check(dialect: Dialect, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let expected = expected.replace('#', &"*".repeat(KEY.len())).replace('~', "*");
        assert_eq!(blanked(&text.replace('#', KEY), dialect), expected, "{text}");
    }
}

#[test]
fn takes_out_the_key_and_leaves_the_rest() {
    check(
        Dialect::default(),
        &[
            ("SET prism_crypt.master_key = '#'", "SET prism_crypt.master_key = '#'"),
            ("SET prism_crypt.master_key = 'a''b'", "SET prism_crypt.master_key = '~~~~'"),
            ("SET prism_crypt.master_key TO abc", "SET prism_crypt.master_key TO ~~~"),
            (
                "SET \"prism_crypt\".master_key TO a, \"b\", -1",
                "SET \"prism_crypt\".master_key TO ~, \"~\", ~~",
            ),
            ("SET prism_crypt.master_key TO DEFAULT", "SET prism_crypt.master_key TO DEFAULT"),
            (
                "ALTER ROLE r SET prism_crypt.master_key FROM CURRENT",
                "ALTER ROLE r SET prism_crypt.master_key FROM CURRENT",
            ),
            (
                "CREATE FUNCTION f() RETURNS int SET prism_crypt.master_key = a LANGUAGE sql AS 'b'",
                "CREATE FUNCTION f() RETURNS int SET prism_crypt.master_key = ~ LANGUAGE sql AS '~'",
            ),
            (
                "SELECT 'a'; SET prism_crypt.master_key = 'b'; DELETE FROM audit WHERE x = 'c'",
                "SELECT 'a'; SET prism_crypt.master_key = '~'; DELETE FROM audit WHERE x = 'c'",
            ),
            (
                "SELECT 'a', f(set_config('prism_crypt.master_key', 'b', false)), \"c\" FROM t /* d */ WHERE e = 5",
                "SELECT 'a', f(set_config('prism_crypt.master_key', '~', false)), \"c\" FROM t /* d */ WHERE e = 5",
            ),
            (
                "WITH k AS (SELECT '#' AS k) SELECT set_config('prism_crypt.master_key', k, false) FROM k",
                "WITH k AS (SELECT '#' AS k) SELECT set_config('prism_crypt.master_key', k, false) FROM k",
            ),
            (
                "DO $$ DECLARE k text := '#'; BEGIN SET prism_crypt.master_key = 'b'; DELETE FROM a WHERE x = 'c'; END $$",
                "DO $$ DECLARE k text := '#'; BEGIN SET prism_crypt.master_key = '~'; DELETE FROM a WHERE x = 'c'; END $$",
            ),
            (
                "DO 'BEGIN EXECUTE ''SET prism_crypt.master_key = ''''b'''' ''; RAISE ''c''; END'",
                "DO 'BEGIN EXECUTE ''SET prism_crypt.master_key = ''''~'''' ''; RAISE ''c''; END'",
            ),
            (
                "DO $$ BEGIN EXECUTE 'SET prism_crypt.master_key = ' || quote_literal('b'); END $$",
                "DO $$ BEGIN EXECUTE 'SET prism_crypt.master_key = ' || quote_literal('~'); END $$",
            ),
            (
                "DO $$ BEGIN EXECUTE format('SET %I.%I = %L', 'prism_crypt', 'master_key', 'b'); END $$",
                "DO $$ BEGIN EXECUTE format('SET %I.%I = %L', 'prism_crypt', 'master_key', '~'); END $$",
            ),
            (
                "SELECT E'\\x5a\\155\\u0039vYmFyMDEyMzQ1Njc4OWFi', set_config('prism_crypt.master_key', a, b)",
                "SELECT E'~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~', set_config('prism_crypt.master_key', a, b)",
            ),
            (
                "SET U&\"prism_crypt\".U&\"!006daster_key\" UESCAPE '!' = 'b'",
                "SET U&\"prism_crypt\".U&\"!006daster_key\" UESCAPE '!' = '~'",
            ),
            ("SETT prism_crypt.master_key = 'b' oops", "SETT prism_crypt.master_key = '~' oops"),
            ("SET prism_crypt.master_key = 'b", "SET prism_crypt.master_key = '~"),
            ("SET prism_crypt.master_key = 'b' -- #", "SET prism_crypt.master_key = '~' -- #"),
            ("SET prism_crypt.master_key = $a$b$a$", "SET prism_crypt.master_key = $a$~$a$"),
            (
                "ALTER ROLE r IN DATABASE d SET prism_crypt.master_key = abc",
                "ALTER ROLE r IN DATABASE d SET prism_crypt.master_key = ~~~",
            ),
            ("SET LOCAL \"prism_crypt.master_key\" = abc", "SET LOCAL \"prism_crypt.master_key\" = ~~~"),
            (
                "set /* a */ session -- b\n prism_crypt . \"master_key\" to abc",
                "set /* a */ session -- b\n prism_crypt . \"master_key\" to ~~~",
            ),
            (
                "DO $$ BEGIN EXECUTE 'SET ' || 'prism_crypt.master_key TO abc'; END $$",
                "DO $$ BEGIN EXECUTE 'SET ' || 'prism_crypt.master_key TO ~~~'; END $$",
            ),
            (
                "DO $$ BEGIN EXECUTE 'SET prism_' || 'crypt.master_key TO abc'; END $$",
                "DO $$ BEGIN EXECUTE 'SET prism_' || 'crypt.master_key TO ~~~'; END $$",
            ),
            (
                "DO $$ BEGIN EXECUTE 'SET prism_crypt' || '.master_key TO abc'; END $$",
                "DO $$ BEGIN EXECUTE 'SET prism_crypt' || '.master_key TO ~~~'; END $$",
            ),
            ("SELECT '{\"prism_crypt.master_key\": \"b\"}'", "SELECT '{\"prism_crypt.master_key\": \"~\"}'"),
            (
                "UPDATE t SET prism_crypt.master_key = f(a, '#')",
                "UPDATE t SET prism_crypt.master_key = f(a, '#')",
            ),
            ("-c prism_crypt.master_key=hunter2 -c a=b", "-c prism_crypt.master_key=~~~~~~~ -c a=b"),
            (
                "PREPARE p(text) AS SELECT set_config('prism_crypt.master_key', $1, false); EXECUTE p('b'); EXECUTE q('c')",
                "PREPARE p(text) AS SELECT set_config('prism_crypt.master_key', $1, false); EXECUTE p('~'); EXECUTE q('c')",
            ),
            ("EXECUTE keyed('b'); EXECUTE other('c')", "EXECUTE keyed('~'); EXECUTE other('c')"),
            ("EXPLAIN ANALYZE EXECUTE \"keyed\"('b')", "EXPLAIN ANALYZE EXECUTE \"keyed\"('~')"),
            (
                "SQL statement \"SET \"prism_crypt\".\"master_key\" = 'b'\"",
                "SQL statement \"SET \"prism_crypt\".\"master_key\" = '~'\"",
            ),
        ],
    );
}

#[test]
fn nobody_hides_another_statement() {
    for text in [
        "/* prism_crypt.master_key */ DROP TABLE x",
        "DROP TABLE x -- prism_crypt.master_key = 'a'",
        "DELETE FROM vault WHERE master_key = 'a'",
        "SET prism_crypt.master_key_file = '/a'",
        "SELECT 'prism_crypt.master_key'; DROP TABLE averylongnameofatablethatmaybeakey; SELECT 'a'",
        "SELECT 'a' FROM t; SELECT prism_crypt.master_key",
        "DO $$ BEGIN EXECUTE 'DROP TABLE x /* prism_crypt.master_key */ -- '; RAISE NOTICE 'a'; END $$",
        "GRANT EXECUTE ON FUNCTION f TO a; EXECUTE f('b')",
        // The two words in a list.
        "GRANT ALL ON prism_crypt, master_key TO other, monit WHERE a = 'b'",
        "GRANT ALL ON \"prism_crypt\", \"master_key\" TO other, \"monit\"",
        // A column of that name, and what it is compared with or set to.
        "SELECT FROM prism_crypt JOIN a ON prism_crypt.master_key = 1, s.salaries, s.t",
        "SELECT prism_crypt.master_key = pg_backend_pid(), prism_crypt.master_key = \"f\"()",
        "SELECT set.prism_crypt.master_key = f() FROM set.prism_crypt",
        "SELECT \"set\" . session . prism_crypt . master_key = f() FROM set.prism_crypt",
        "SELECT x AS set, prism_crypt.master_key = f()",
        "UPDATE t SET prism_crypt.master_key = f()",
        "UPDATE t SET a = 1, prism_crypt.master_key = f(), b = g()",
        "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET prism_crypt.master_key = f()",
        "GRANT ALL ON prism_crypt.master_key TO other, monit",
        "ALTER TABLE prism_crypt.master_key RENAME a TO b",
        "ALTER TABLE prism_crypt.master_key OWNER TO b",
        "ALTER TABLE t SET (prism_crypt.master_key = f)",
        "SELECT a[prism_crypt.master_key:f()], b[\"prism_crypt.master_key\":\"f\"()]",
        "DO $$ BEGIN PERFORM prism_crypt.master_key = f(); GRANT ALL ON prism_crypt, master_key TO a, b; END $$",
        "DO $$ BEGIN PERFORM a[\"prism_crypt.master_key\":\"f\"()]; END $$",
    ] {
        assert_eq!(blanked(text, Dialect::default()), text);
    }
    for text in [
        "SQL statement \"GRANT ALL ON prism_crypt, master_key TO other, monit\"",
        "SQL statement \"SELECT prism_crypt.master_key = pg_backend_pid()\"",
    ] {
        assert_eq!(blanked(text, Dialect { prose: true, ..Dialect::default() }), text);
    }
}

#[test]
fn reads_json_and_old_strings() {
    let json = Dialect { json: true, ..Dialect::default() };
    check(
        json,
        &[(
            "{\"Query Text\": \"DO $$\\nSET \\\"prism_crypt\\\".\\\"master_key\\\" = 'b' $$; DELETE 'c'\", \"x\": \"'d'\"}",
            "{\"Query Text\": \"DO $$\\nSET \\\"prism_crypt\\\".\\\"master_key\\\" = '~' $$; DELETE 'c'\", \"x\": \"'~'\"}",
        )],
    );
    let old = Dialect { backslashes: true, ..Dialect::default() };
    check(
        old,
        &[
            (
                "SET prism_crypt.master_key = 'a\\'#'; SELECT 'b'",
                "SET prism_crypt.master_key = '~~~#'; SELECT 'b'",
            ),
            (
                "SELECT '\\' /*', 'prism_crypt.master_key', 'a'",
                "SELECT '\\' /*', 'prism_crypt.master_key', '~'",
            ),
        ],
    );
}

#[test]
fn reads_messages() {
    check(
        Dialect { prose: true, ..Dialect::default() },
        &[
            (
                "prism_crypt.master_key can't be stored, it isn't: 'a'",
                "prism_crypt.master_key can't be stored, it isn't: '~'",
            ),
            (
                "unterminated string \"SET prism_crypt.master_key = 'a-#\"",
                "unterminated string \"SET prism_crypt.master_key = '~~#\"",
            ),
            ("\"prism_crypt.master_key\": \"b\"", "\"prism_crypt.master_key\": \"~\""),
            (
                "invalid value for parameter \"prism_crypt.master_key\": \"b\"",
                "invalid value for parameter \"prism_crypt.master_key\": \"~\"",
            ),
        ],
    );
}

/// Pseudo-random numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % most
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// A blank, or an equivalent.
    fn blank(&mut self) -> &'static str {
        self.one(&[" ", "\n", "/* ' \" $$ */", " -- it's\n", "/*/**/;*/", "\t"])
    }

    fn key(&mut self) -> String {
        let digits = self
            .one(&["0123456789abcdef", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"]);
        (0..64).map(|_| char::from(digits.as_bytes()[self.below(digits.len())])).collect()
    }

    fn quoted(&mut self, text: &str) -> String {
        match self.below(6) {
            0 | 1 => format!("'{}'", text.replace('\'', "''")),
            2 => format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
            3 => {
                let escaped: String = text
                    .chars()
                    .map(|c| match self.below(4) {
                        0 => format!("\\x{:02x}", c as u32),
                        1 => format!("\\{:03o}", c as u32),
                        2 => format!("\\u{:04X}", c as u32),
                        _ if c == '\\' || c == '\'' => format!("\\{c}"),
                        _ => c.to_string(),
                    })
                    .collect();
                format!("E'{escaped}'")
            }
            4 if !text.contains(['!', '\'']) => {
                let escaped: String = text
                    .chars()
                    .map(|c| if self.below(3) == 0 { format!("!{:04x}", c as u32) } else { c.to_string() })
                    .collect();
                format!("U&'{escaped}' UESCAPE '!'")
            }
            _ => {
                let tag = format!("$q{}$", self.below(1000));
                if text.contains(&tag) || text.ends_with('$') {
                    self.quoted(text)
                } else {
                    format!("{tag}{text}{tag}")
                }
            }
        }
    }

    fn name(&mut self) -> String {
        let word = |word: &str, random: &mut Self| match random.below(4) {
            0 => word.to_owned(),
            1 => word.to_uppercase(),
            2 => format!("\"{word}\""),
            _ => format!("U&\"{}\"", word.replace('r', "\\0072")),
        };
        let (schema, name) = (word("prism_crypt", self), word("master_key", self));
        format!("{schema}{}.{}{name}", self.blank(), self.blank())
    }

    fn string_name(&mut self) -> String {
        match self.below(3) {
            0 => self.quoted("prism_crypt.master_key"),
            1 => {
                let at = 1 + self.below(21);
                let (one, other) = "prism_crypt.master_key".split_at(at);
                format!("{}{}||{}{}", self.quoted(one), self.blank(), self.blank(), self.quoted(other))
            }
            _ => format!("concat_ws('.',{}'prism_crypt', 'master_key')", self.blank()),
        }
    }

    fn statement(&mut self, key: &str, depth: usize) -> String {
        let blank = self.blank();
        match self.below(if depth > 2 { 3 } else { 6 }) {
            0 => {
                format!("SET{blank}{}{}={}{}", self.name(), self.blank(), self.blank(), self.quoted(key))
            }
            1 => format!("SELECT set_config({},{blank}{}, false)", self.string_name(), self.quoted(key)),
            2 => format!(
                "WITH k AS (SELECT {} AS k){blank}SELECT set_config({}, k, false) FROM k",
                self.quoted(key),
                self.string_name()
            ),
            3 => {
                let inner = self.statement(key, depth + 1);
                format!("DO {blank}{}", self.quoted(&format!("BEGIN {inner}; END")))
            }
            4 => {
                let inner = self.statement(key, depth + 1);
                format!("EXECUTE {blank}{}", self.quoted(&inner))
            }
            _ => format!("ALTER ROLE x SET {} TO {blank}\"{key}\"", self.name()),
        }
    }
}

/// Decodes every escape, so that what one shows is found.
fn decoded(text: &[u8], depth: usize) -> Vec<u8> {
    let view = View::of(text);
    let mut all = text.to_vec();
    for token in Lexer::new(text, Dialect::default()) {
        if let Kind::Quoted { quote, open, close } = token.kind
            && depth < 6
        {
            all.push(0);
            all.extend(decoded(view.quoted(quote, open, close).bytes(), depth + 1));
        }
    }
    all
}

#[test]
fn no_piece_of_a_key_is_left_in_random_statements() {
    for seed in 0..20_000 {
        let mut random = Random(seed * 7919 + 1);
        let key = random.key();
        let text = format!(
            "DROP TABLE before; {}{}; DELETE FROM after WHERE a = 'shown'",
            random.statement(&key, 0),
            random.blank()
        );
        let got = blanked(&text, Dialect::default());
        let all = decoded(got.as_bytes(), 0);
        for piece in key.as_bytes().windows(20) {
            assert!(memchr::memmem::find(&all, piece).is_none(), "seed {seed}: {got}");
        }
        assert!(got.starts_with("DROP TABLE before;"), "seed {seed}: {got}");
        assert!(got.ends_with("DELETE FROM after WHERE a = 'shown'"), "seed {seed}: {got}");
        assert_eq!(blanked(&got, Dialect::default()), got, "seed {seed}: blanked twice");
    }
}

#[test]
fn any_bytes_are_read() {
    let parts = [
        "'",
        "\"",
        "$$",
        "$a$",
        "\\",
        "E'",
        "U&'",
        "U&\"",
        " UESCAPE '!'",
        "/*",
        "*/",
        "--",
        "\n",
        ";",
        "prism_crypt",
        ".",
        "master_key",
        "=",
        "TO",
        "(",
        "||",
        "EXECUTE",
        "PREPARE",
        "p",
        "\u{e9}",
        "12",
        "0123456789abcdef0123",
    ];
    for seed in 0..50_000 {
        let mut random = Random(seed);
        let text: String = (0..random.below(40)).map(|_| random.one(&parts)).collect();
        for (backslashes, json, prose) in
            [(false, false, false), (true, false, false), (false, true, false), (false, false, true)]
        {
            let got = blanked(&text, Dialect { backslashes, json, prose });
            let changed = got.bytes().zip(text.bytes()).filter(|(new, old)| new != old);
            assert!(changed.into_iter().all(|(new, _)| new == b'*'), "{text}");
        }
    }
}
