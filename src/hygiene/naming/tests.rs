use super::*;

fn names(text: &str) -> bool {
    super::mentions(text.as_bytes(), Dialect::default()).setting
}

#[test]
fn finds_the_setting_in_any_spelling() {
    for text in [
        "SET prism_crypt.master_key = 'x'",
        "set PRISM_CRYPT.MASTER_KEY to 'x'",
        "set \"prism_crypt\".\"master_key\" to 'x'",
        "set \"prism_crypt.master_key\" to 'x'",
        "set prism_crypt . /* a /* nested */ one */ master_key -- x",
        "set prism_crypt. -- x\n master_key = 'x'",
        "select set_config('prism_crypt.master_key', $1, false)",
        "select set_config('prism_crypt' || '.' || 'master_key', $1, false)",
        "select set_config('prism_' || 'crypt.mas' || 'ter_key', $1, false)",
        "select set_config('prism_crypt.mas'\n'ter_key', $1, false)",
        "select set_config('prism_crypt'::text || chr(46) || quote_ident('master_key'), $1, false)",
        "select set_config(concat_ws('.', 'prism_crypt', 'master_key'), $1, false)",
        "select set_config(array_to_string('{prism_crypt,master_key}'::text[], '.'), $1, false)",
        "select set_config(a || '.' || b, $1, false) FROM (SELECT 'prism_crypt', 'master_key') AS v(a, b)",
        "DO $$ BEGIN EXECUTE format('SET %I.%I = %L', $1, $2, $3) USING 'prism_crypt', 'master_key', 'x'; END $$",
        "DO $$ BEGIN EXECUTE format('SET %I.%I = %L', 'prism_crypt', 'master_key', 'x'); END $$",
        "DO $$ BEGIN EXECUTE 'SET \"prism_crypt\".' || '\"master_key\" = ''x'''; END $$",
        "DO 'BEGIN EXECUTE ''SET U&\"prism_crypt\".U&\"\\006daster_key\" = ''''x''''''; END'",
        "SET U&\"prism_crypt\".U&\"\\006daster_key\" = 'x'",
        "SET U&\"\\0070rism\\005fcrypt\\002emaster\\+00005fkey\" = 'x'",
        "SET U&\"prism_crypt\" UESCAPE '!' . U&\"!006daster_key\" UESCAPE '!' = 'x'",
        "SET prism_crypt.U&\"z006daster_key\" UESCAPE 'z' = 'x'",
        "select set_config(E'prism_crypt.master\\x5fkey', 'x', false)",
        "select set_config(E'\\160rism_crypt.\\u006Daster\\U0000005fkey', 'x', false)",
        "select E'\\n', set_config('prism_crypt.master_key', 'x', false)",
        "ALTER ROLE a IN DATABASE b SET prism_crypt.master_key TO 'x'",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET prism_crypt.master_key = 'x' AS 'SELECT 1'",
        "unnamed portal with parameters: $1 = 'prism_crypt.master_key', $2 = 'x'",
        "SQL statement \"SET \"prism_crypt\".\"master_key\" = 'x'\"",
        "invalid value for parameter \"prism_crypt.master_key\"",
        "options='-c prism_crypt.master_key=x'",
    ] {
        assert!(names(text), "{text}");
    }
}

#[test]
fn leaves_other_names_and_comments_alone() {
    for text in [
        "SET prism_crypt.master_key_file = '/x'",
        "SELECT rotate_master_key()",
        "SELECT prism_crypt.rotate_master_key()",
        "CREATE TABLE vault(master_key text)",
        "CREATE TABLE prism_crypt_vault(id int, master_key text)",
        "INSERT INTO vault(master_key) VALUES ('x') -- E'\\n'",
        "SELECT prism_crypt.status() /* master_key */",
        "SET my_prism_crypt.master_key = 'x'",
        "SELECT prism_crypt master_key",
        "SELECT 'prism_crypt' = master_key",
        "/* prism_crypt.master_key */ DROP TABLE x",
        "DROP TABLE x -- prism_crypt.master_key",
        "/* /* */ prism_crypt.master_key */ DROP TABLE x",
        "DO $$ BEGIN /* prism_crypt.master_key */ EXECUTE '-- prism_crypt.master_key'; END $$",
        "SELECT prism_crypt; SELECT master_key",
        "GRANT ALL ON prism_crypt, master_key TO other, monit",
        "GRANT ALL ON \"prism_crypt\", \"master_key\" TO other",
        "SELECT * FROM s.prism_crypt, master_key",
        "INSERT INTO t(prism_crypt, master_key) VALUES (1, 2)",
        "prism_crypt /* master_key",
        "prism_crypt.",
        "\\",
        "master",
        "",
    ] {
        assert!(!names(text), "{text}");
    }
}

#[test]
fn takes_a_time_that_grows_with_the_text() {
    let repeated = |part: &str| part.repeat(2_000_000 / part.len());
    for part in
        ["prism_crypt/*", "prism_crypt.", "'\\\"$a$", "U&'a' ", "$a", "''", "\"'", "E'\\''\n", "(", "a--"]
    {
        let text = repeated(part);
        assert!(!names(&text), "{part}");
        blank(text.as_bytes(), &mut text.clone().into_bytes(), Dialect::default(), &|_| Mentions::default());
    }
    let text = repeated("SET prism_crypt.master_key = 'x'; ") + &repeated("'prism_crypt.master_key',");
    let mut target = text.clone().into_bytes();
    assert!(blank(text.as_bytes(), &mut target, Dialect::default(), &|_| Mentions::default()).setting);
    let text =
        repeated("SELECT export_encrypted('a', $2, key => $3); ") + &repeated("import_stream('a', ('b') ");
    let found =
        blank(text.as_bytes(), &mut text.clone().into_bytes(), Dialect::default(), &|_| Mentions::default());
    assert!(found.file_call && found.file_keys.contains(3) && !found.file_keys.contains(2));
}
