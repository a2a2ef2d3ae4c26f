"""Statements that give a file a key of its own: {} is the key, {path} a file that does not exist yet, {file} one that this key opens."""

import base64

# The rest of the statement is to be read in the log.
EXPORT, IMPORT = "prism_crypt.export_encrypted('clients', '{path}'", "prism_crypt.import_encrypted('{file}'"


def statement(sql, *before, encode=None):
    """By the simple protocol."""
    def attempt(conn, key, names):
        for one in (*before, sql):
            conn.execute(filled(one, encode(key) if encode else key, names))
    attempt.statement = sql
    return attempt


def bound(sql, *parameters, encode=None):
    """With bind parameters, one of which is the key."""
    def attempt(conn, key, names):
        conn.execute(filled(sql, "", names), *(given(one, encode(key) if encode else key, names) for one in parameters))
    attempt.statement = sql
    return attempt


def prepared(sql, *parameters):
    """Prepared by the protocol."""
    def attempt(conn, key, names):
        conn.prepare("p", filled(sql, "", names))
        conn.execute_prepared("p", *(given(one, key, names) for one in parameters))
    attempt.statement = sql
    return attempt


def filled(sql, key, names):
    for name, value in names.items():
        sql = sql.replace("{" + name + "}", value)
    return sql.replace("{}", key)


def given(parameter, key, names):
    return filled(parameter.decode(), key, names).encode() if isinstance(parameter, bytes) else filled(parameter, key, names)


def as_base64(key):
    return base64.b64encode(bytes.fromhex(key)).decode()


def escaped(text):
    return "".join(f"\\x{ord(c):02x}" if n % 3 else c for n, c in enumerate(text))


def short(key):
    return key[:62]


def short_base64(key):
    return base64.b64encode(bytes.fromhex(key)[:30]).decode()


def too_short(key):
    return key[:32]


# A function with the key in it, as a scheduled job may be.
NIGHTLY = """CREATE FUNCTION pg_temp.nightly() RETURNS jsonb LANGUAGE plpgsql AS $f$
DECLARE done jsonb;
BEGIN
  SELECT prism_crypt.export_encrypted('clients', '{path}', key => '{}') INTO done;
  RETURN done;
END $f$"""
ASKS = """CREATE FUNCTION pg_temp.asks(path text, k text) RETURNS jsonb LANGUAGE plpgsql AS $f$
BEGIN RETURN prism_crypt.export_encrypted('clients', path, k); END $f$"""

# Ways that work.
WORKS = {
    "named": statement(f"SELECT {EXPORT}, key => '{{}}')"),
    "named, old style": statement(f"SELECT {EXPORT}, key := '{{}}')"),
    "by position": statement(f"SELECT {EXPORT}, '{{}}')"),
    "upper-case hex": statement(f"SELECT {EXPORT}, '{{}}')", encode=str.upper),
    "base64": statement(f"SELECT {EXPORT}, '{{}}')", encode=as_base64),
    "base64 without padding": statement(f"SELECT {EXPORT}, key => '{{}}')", encode=lambda key: as_base64(key).rstrip("=")),
    "blanks around it": statement(f"SELECT {EXPORT}, E' {{}}\\n')"),
    "escape string": statement(f"SELECT {EXPORT}, E'{{}}')", encode=escaped),
    "escape string, base64": statement(f"SELECT {EXPORT}, key => E'{{}}')", encode=lambda key: escaped(as_base64(key))),
    "unicode string": statement(f"SELECT {EXPORT}, U&'{{}}')", encode=lambda key: "".join(f"\\{ord(c):04x}" for c in key)),
    "dollar quotes": statement(f"SELECT {EXPORT}, $k${{}}$k$)"),
    "continued string": statement(f"SELECT {EXPORT}, key => '{{}}')", encode=lambda key: f"{key[:30]}'\n  '{key[30:]}"),
    "pieces": statement(f"SELECT {EXPORT}, key => '{{}}')", encode=lambda key: "' || '".join(key[at:at + 8] for at in range(0, 64, 8))),
    "cast": statement(f"SELECT {EXPORT}, key => ('{{}}')::text)"),
    "quoted name": statement("SELECT \"prism_crypt\".\"export_encrypted\"('clients', '{path}', '{}')"),
    "escaped name": statement("SELECT prism_crypt.U&\"export\\005fencrypted\"('clients', '{path}', '{}')"),
    "upper-case name, on the path": statement("SELECT EXPORT_ENCRYPTED('clients', '{path}', '{}')", "SET search_path = public, prism_crypt"),
    "comments": statement("SELECT prism_crypt /* a */ . export_encrypted -- it's b\n ('clients', '{path}', /* the key, */ '{}')"),
    "of several": statement(f"SELECT 'a'; SELECT {EXPORT}, '{{}}'); SELECT 'b'"),
    "common table": statement(f"WITH k AS MATERIALIZED (SELECT '{{}}'::text AS k) SELECT {EXPORT}, k) FROM k"),
    "DO": statement(f"DO $$ BEGIN PERFORM {EXPORT}, '{{}}'); END $$"),
    "DO variable": statement(f"DO $$ DECLARE k text := '{{}}'; BEGIN PERFORM {EXPORT}, k); END $$"),
    "DO as a string": statement("DO 'BEGIN PERFORM prism_crypt.export_encrypted(''clients'', ''{path}'', ''{}''); END'"),
    "DO EXECUTE": statement("DO $$ BEGIN EXECUTE format('SELECT prism_crypt.export_encrypted(%L, %L, %L)', 'clients', '{path}', '{}'); END $$"),
    "DO EXECUTE USING": statement("DO $$ BEGIN EXECUTE 'SELECT prism_crypt.export_encrypted($1, $2, $3)' USING 'clients', '{path}', '{}'; END $$"),
    "a function with it": statement("SELECT pg_temp.nightly()", NIGHTLY),
    "PREPARE with it": statement("EXECUTE p", f"PREPARE p AS SELECT {EXPORT}, '{{}}')"),
    "EXECUTE": statement("EXECUTE p('clients', '{path}', '{}')", "PREPARE p(text, text, text) AS SELECT prism_crypt.export_encrypted($1, $2, $3)"),
    "PREPARE and EXECUTE": statement(
        "PREPARE p(text) AS SELECT prism_crypt.export_encrypted('clients', '{path}', $1); EXECUTE p('{}'); DEALLOCATE p"),
    "EXPLAIN": statement(f"EXPLAIN (ANALYZE, VERBOSE) SELECT {EXPORT}, '{{}}')"),
    "CREATE TABLE AS": statement(f"CREATE TEMP TABLE s AS SELECT {EXPORT}, '{{}}')"),
    "then an error": statement(f"DO $$ BEGIN PERFORM {EXPORT}, '{{}}'); PERFORM 1/0; EXCEPTION WHEN OTHERS THEN RAISE WARNING '%', SQLERRM; END $$"),
    "bound": bound("SELECT prism_crypt.export_encrypted($1, $2, $3)", "clients", "{path}", "{}"),
    "bound, named": bound("SELECT prism_crypt.export_encrypted('clients', $2, key => $1)", "{}", "{path}"),
    "bound, base64": bound("SELECT prism_crypt.export_encrypted($1, $2, $3)", "clients", "{path}", "{}", encode=as_base64),
    "bound, binary": bound("SELECT prism_crypt.export_encrypted($1, $2, $3::text)", "clients", "{path}", b"{}"),
    "prepared by the protocol": prepared("SELECT prism_crypt.export_encrypted($1, $2, $3)", "clients", "{path}", "{}"),
    "import, named": statement(f"SELECT {IMPORT}, key => '{{}}', target => 'copy_named')"),
    "import by position": statement(f"SELECT {IMPORT}, '{{}}', 'copy_position')"),
    "import, bound": bound("SELECT prism_crypt.import_encrypted($1, $2, $3)", "{file}", "{}", "copy_bound"),
    "import, DO": statement(f"DO $$ BEGIN PERFORM {IMPORT}, '{{}}', 'copy_do'); END $$"),
    "streams": statement(
        "SELECT prism_crypt.import_stream('staged', '{}', 'copy_streams')", "CREATE TEMP TABLE staged (number int GENERATED ALWAYS AS IDENTITY, chunk bytea)",
        "INSERT INTO staged (chunk) SELECT prism_crypt.export_stream('clients', '{}')"),
    "streams, named": statement(
        "SELECT prism_crypt.import_stream(chunks => 'staged', target => 'copy_named_stream', key => '{}')",
        "CREATE TEMP TABLE staged (number int GENERATED ALWAYS AS IDENTITY, chunk bytea)",
        "INSERT INTO staged (chunk) SELECT prism_crypt.export_stream(key => '{}', source => 'clients')"),
    "stream, bound": bound("SELECT count(*) FROM prism_crypt.export_stream($1, $2)", "clients", "{}"),
    "cursor": statement("FETCH ALL FROM c", "BEGIN", "DECLARE c CURSOR FOR SELECT prism_crypt.export_stream('clients', '{}')", "FETCH 1 FROM c"),
}
# Ways that end with an error.
FAILS = {
    "62 digits": statement(f"SELECT {EXPORT}, '{{}}')", encode=short),
    "62 digits, named": statement(f"SELECT {EXPORT}, key => '{{}}')", encode=short),
    "62 digits, bound": bound("SELECT prism_crypt.export_encrypted($1, $2, $3)", "clients", "{path}", "{}", encode=short),
    "62 digits, DO variable": statement(f"DO $$ DECLARE k text := '{{}}'; BEGIN PERFORM {EXPORT}, k); END $$", encode=short),
    "62 digits, EXECUTE": statement("EXECUTE p('{}')", f"PREPARE p(text) AS SELECT {EXPORT}, $1)", encode=short),
    "30 bytes in base64": statement(f"SELECT {EXPORT}, '{{}}')", encode=short_base64),
    "30 bytes in base64, bound": bound("SELECT prism_crypt.export_encrypted($1, $2, $3)", "clients", "{path}", "{}", encode=short_base64),
    "16 bytes": statement(f"SELECT {EXPORT}, '{{}}')", encode=too_short),
    "with a prefix": statement(f"SELECT {EXPORT}, '\\x{{}}')"),
    "a digit too many": statement(f"SELECT {EXPORT}, '{{}}')", encode=lambda key: key + "0"),
    "url-safe base64": statement(f"SELECT {EXPORT}, '{{}}')", encode=lambda key: "-_" + base64.urlsafe_b64encode(bytes.fromhex(key)).decode()),
    "a list": statement(f"SELECT {EXPORT}, '{{}}')", encode=lambda key: f"{key},{key}"),
    "no such table": statement("SELECT prism_crypt.export_encrypted('nowhere', '{path}', '{}')"),
    "no such table, bound": bound("SELECT prism_crypt.export_encrypted($1, $2, $3)", "nowhere", "{path}", "{}"),
    "the file exists": statement("SELECT prism_crypt.export_encrypted('clients', '{file}', '{}')"),
    "the file exists, bound": bound("SELECT prism_crypt.export_encrypted($1, $2, $3)", "clients", "{file}", "{}"),
    "wrong format": statement(f"SELECT {EXPORT}, '{{}}', 3)"),
    "as an identifier": statement(f'SELECT {EXPORT}, "{{}}")'),
    "no quotes": statement(f"SELECT {EXPORT}, {{}})"),
    "syntax error": statement(f"SELECT {EXPORT}, '{{}}') oops oops"),
    "unterminated": statement(f"SELECT {EXPORT}, '{{}})"),
    "no such argument": statement(f"SELECT {EXPORT}, keys => '{{}}')"),
    "wrong type of another": statement(f"SELECT {EXPORT}, '{{}}', 'maybe')"),
    "wrong type of another, bound": bound("SELECT prism_crypt.export_encrypted('clients', '{path}', $1, $2::int)", "{}", "maybe"),
    "an error beside": statement(f"SELECT {EXPORT}, '{{}}'), 1/0"),
    "an error beside, bound": bound("SELECT prism_crypt.export_encrypted('clients', '{path}', $1), 1/(length($1) - length($1))", "{}"),
    "an error in a DO": statement(f"DO $$ BEGIN PERFORM {EXPORT}, '{{}}'); PERFORM 1/0; END $$"),
    "an error in a function with it": statement("SELECT pg_temp.nightly()", NIGHTLY.replace("'clients'", "'nowhere'")),
    "import with another key": statement(f"SELECT {IMPORT}, '{{}}')", encode=lambda key: key[:-2] + ("00" if key[-2:] != "00" else "01")),
    "import with 62 digits": statement(f"SELECT {IMPORT}, '{{}}')", encode=short),
    "import with 62 digits, bound": bound("SELECT prism_crypt.import_encrypted($1, key => $2)", "{file}", "{}", encode=short),
    "stream with 62 digits": statement("SELECT prism_crypt.export_stream('clients', '{}')", encode=short),
    "import of no stream": statement("SELECT prism_crypt.import_stream('(SELECT NULL::bytea WHERE false)', '{}')"),
    "denied": statement(f"SELECT {EXPORT}, '{{}}')", "SET ROLE nobody_special"),
}
# The statement names nothing: it is known when the function is called, or fails, so not to log_statement.
NAMELESS = {
    "a function": statement("SELECT pg_temp.asks('{path}', '{}')", ASKS),
    "a function, base64": statement("SELECT pg_temp.asks('{path}', '{}')", ASKS, encode=as_base64),
    "a name that is made": statement(
        "DO $$ BEGIN EXECUTE 'SELECT prism_crypt.' || concat('export', '_', 'encrypted') || '(''clients'', ''{path}'', ''{}'')'; END $$"),
}
NAMELESS_FAILS = {
    "62 digits": statement("SELECT pg_temp.asks('{path}', '{}')", ASKS, encode=short),
    "the file exists": statement("SELECT pg_temp.asks('{file}', '{}')", ASKS),
    "no such table": statement("SELECT pg_temp.asks('{path}', '{}')", ASKS.replace("'clients'", "'nowhere'")),
    "no such table, 62 digits": statement("SELECT pg_temp.asks('{path}', '{}')", ASKS.replace("'clients'", "'nowhere'"), encode=short),
}
NAMELESS_BOUND = {
    "hex": bound("SELECT prism_crypt_test.asks($1, $2)", "{path}", "{}"),
    "62 digits": bound("SELECT prism_crypt_test.asks($1, $2)", "{path}", "{}", encode=short),
    "base64": bound("SELECT prism_crypt_test.asks($1, $2)", "{path}", "{}", encode=as_base64),
}

# Statements with nothing to withhold. {} is a mark that is to be read wherever statements are shown.
SHOWN = (
    "SELECT 'shown {}' /* prism_crypt.export_encrypted */",
    "SELECT prism_crypt.export_encrypted('clients', '/nowhere/TheArchiveOfClients2026/NorthernRegion{}')",
    "SELECT prism_crypt.export_encrypted('(SELECT id, v FROM clients /* shown {} */)', '/nowhere/a', compression => 'zstd')",
    "SELECT prism_crypt.import_encrypted('/nowhere/archive{}', target => 'AVeryLongNameOfATableWithNoOtherSign')",
    "DELETE FROM clients WHERE v::text = 'shown {}'; SELECT prism_crypt.export_encrypted('nowhere', '/nowhere/a')",
    "DO $$ BEGIN PERFORM 'shown {}'; PERFORM prism_crypt.import_stream('staged', target => 'averylongnameofatablethatmaybeakey'); END $$",
    "COMMENT ON TABLE clients IS 'export_encrypted, import_stream: shown {}'",
)
