"""Statements that hold a key, and how a key is recognised in what they leave behind."""

import base64
import re
import secrets

TRACKING = {
    "pg_stat_statements.track": "'all'", "pg_stat_statements.track_utility": "on", "pg_stat_statements.track_planning": "on",
    "auto_explain.log_min_duration": "0", "auto_explain.log_nested_statements": "on", "auto_explain.log_verbose": "on",
}


def simple(sql, *before):
    """A statement of the simple protocol; {} is the key."""
    def attempt(conn, key):
        for s in (*before, sql):
            conn.execute(s.replace("{}", key))
    attempt.statements = (*before, sql)
    return attempt


def as_logged(sql):
    """A pattern of what is to be read of a statement: all but the key; strings after the name may be blanked."""
    def part(text):
        if text.startswith("'") and "{}" in text:
            return r"'[^'\n]*\*{40,}[^'\n]*'"
        if text.startswith("'"):
            return f"'(?:{re.escape(text[1:-1])}|\\*{{{len(text) - 2}}})'"
        return r"\*{40,}".join(map(re.escape, text.split("{}")))
    return "".join(map(part, re.split(r"('[^']*')", sql)))


def bound(sql, *others):
    return lambda conn, key: conn.execute(sql, *others, key)


def bound_binary(conn, key):
    conn.execute("SELECT set_config('prism_crypt.master_key', $1::text, false)", key.encode())


def prepared(conn, key):
    conn.prepare("p", "SELECT set_config('prism_crypt.master_key', $1, false)")
    conn.execute_prepared("p", key)


def changed(attempt, change):
    def other(conn, key):
        attempt(conn, change(key))
    other.statements = getattr(attempt, "statements", ())
    return other


def as_base64(attempt):
    return changed(attempt, lambda key: base64.b64encode(bytes.fromhex(key)).decode())


def cut(attempt):
    """The same with a key that is too short, so that the value is refused."""
    return changed(attempt, lambda key: key[:62])


# Ways to set a key that work.
SETS = {
    "SET": simple("SET prism_crypt.master_key = '{}'"),
    "SET TO": simple("set SESSION Prism_Crypt.Master_Key TO '{}'"),
    "SET quoted name": simple("SET \"prism_crypt\".\"master_key\" = '{}'"),
    "SET spaced name": simple("SET prism_crypt . master_key = '{}'"),
    "SET escaped name": simple("SET U&\"prism_crypt\".U&\"\\006daster_key\" = '{}'"),
    "SET other escapes": simple("SET prism_crypt.U&\"master!005fkey\" UESCAPE '!' = '{}'"),
    "SET commented name": simple("SET prism_crypt. /* that's /* the */ one */ master_key = '{}'"),
    "SET dollar quotes": simple("SET prism_crypt.master_key = $key${}$key$"),
    "SET escape string": simple("SET prism_crypt.master_key = E'{}\\n'"),
    "SET base64": as_base64(simple("SET prism_crypt.master_key = '{}'")),
    "SET base64 as identifier": as_base64(simple('SET prism_crypt.master_key = "{}"')),
    "SET LOCAL": simple("COMMIT", "BEGIN", "SET LOCAL prism_crypt.master_key = '{}'"),
    "SET in a transaction": simple("SET prism_crypt.master_key = '{}'", "BEGIN"),
    "several statements": simple("SELECT 'a'; SET prism_crypt.master_key = '{}'; SELECT 'b'"),
    "comment": simple("SET prism_crypt.master_key = '{}' -- it's the key"),
    "set_config": simple("SELECT set_config('prism_crypt.master_key', '{}', false)"),
    "set_config escape string": simple("SELECT set_config(E'prism_crypt\\x2emaster_\\153ey', '{}', false)"),
    "set_config of parts": simple("SELECT set_config('prism_crypt' || '.' || 'master_key', '{}', false)"),
    "DO format": simple("DO $$ BEGIN EXECUTE format('SET %I.%I = %L', 'prism_crypt', 'master_key', '{}'); END $$"),
    "set_config local": simple("SELECT set_config('prism_crypt.master_key', '{}', true)", "BEGIN"),
    "set_config parameter": bound("SELECT set_config('prism_crypt.master_key', $1, false)"),
    "set_config parameters": bound("SELECT set_config($1, $2, false)", "prism_crypt.master_key"),
    "set_config binary parameter": bound_binary,
    "prepared in the protocol": prepared,
    "PREPARE with the key": simple("EXECUTE p", "PREPARE p AS SELECT set_config('prism_crypt.master_key', '{}', false)"),
    "DO set_config": simple("DO $$ BEGIN PERFORM set_config('prism_crypt.master_key', '{}', false); END $$"),
    "DO SET": simple("DO $$ BEGIN SET prism_crypt.master_key = '{}'; END $$"),
    "DO EXECUTE": simple("DO $$ BEGIN EXECUTE 'SET prism_crypt.master_key = ' || quote_literal('{}'); END $$"),
    "set_config of small parts": simple("SELECT set_config('prism_' || 'crypt.mas' || 'ter_key', '{}', false)"),
    "set_config of lines": simple("SELECT set_config('prism_crypt.mas'\n'ter_key', '{}', false)"),
    "set_config of a common table": simple(
        "WITH k AS (SELECT '{}'::text AS k) SELECT set_config('prism_crypt.master_key', k, false) FROM k"),
    "DO variable": simple("DO $$ DECLARE k text := '{}'; BEGIN PERFORM set_config('prism_crypt.master_key', k, false); END $$"),
    "DO as a string": simple("DO 'BEGIN EXECUTE ''SET \"prism_crypt\".\"master_key\" = ''''{}''''''; END'"),
    "PREPARE and EXECUTE": simple(
        "PREPARE p(text) AS SELECT set_config('prism_crypt.master_key', $1, false); EXECUTE p('{}'); DEALLOCATE p"),
    "through a function": simple("SELECT set_by_name('prism_crypt.master_key', '{}')"),
    "cursor": simple("FETCH c", "BEGIN", "DECLARE c CURSOR FOR SELECT set_config('prism_crypt.master_key', '{}', false)"),
    "CREATE TABLE AS": simple("CREATE TEMP TABLE s AS SELECT set_config('prism_crypt.master_key', '{}', false) IS NULL AS s"),
    "EXPLAIN ANALYZE": simple("EXPLAIN (ANALYZE, VERBOSE) SELECT set_config('prism_crypt.master_key', '{}', false)"),
    "then a failing statement": simple("SET prism_crypt.master_key = '{}'; SELECT decrypt_field(v) FROM t"),
}
# The statement with the key names a prepared statement.
EXECUTES = {
    "EXECUTE": simple("EXECUTE p('{}')", "PREPARE p(text) AS SELECT set_config('prism_crypt.master_key', $1, false)"),
    "EXECUTE in a transaction": simple("EXECUTE p('{}')", "BEGIN", "PREPARE p(text) AS SELECT set_config('prism_crypt.master_key', $1, true)"),
    "EXECUTE of several": simple("SELECT 1; EXECUTE p('{}'); SELECT 2", "PREPARE p(text) AS SELECT set_config('prism_crypt.master_key', $1, false)"),
    "EXECUTE again": simple("EXECUTE p('{}')", "PREPARE p(text) AS SELECT set_config('prism_crypt.master_key', $1, false)", "EXECUTE p('')"),
}
# The statement with the key names nothing: it is known when the setting is given the value, so not to log_statement.
NAMELESS = {
    "a function": simple(
        "SELECT pg_temp.set_key('{}')",
        "CREATE FUNCTION pg_temp.set_key(text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('prism_crypt.master_key', $1, false) $$"),
    "a procedure": simple(
        "CALL pg_temp.set_key('{}')",
        "CREATE PROCEDURE pg_temp.set_key(k text) LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('SET prism_crypt.master_key = %L', k); END $$"),
    "a name that is made": simple("SELECT set_config(replace('prism_crypt#master_key', '#', '.'), '{}', false)"),
    "a function in a string of statements": simple(
        "SELECT 1; SELECT pg_temp.set_key('{}'); SELECT 2",
        "CREATE FUNCTION pg_temp.set_key(text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('prism_crypt.master_key', $1, false) $$"),
}
# Ways that must end with an error, and show as little.
FAILS = {
    **{f"bad value, {name}": cut(SETS[name]) for name in (
        "SET", "SET LOCAL", "several statements", "set_config", "set_config parameter", "set_config parameters", "set_config binary parameter",
        "prepared in the protocol", "PREPARE with the key", "DO set_config", "DO SET", "DO EXECUTE", "cursor")},
    "SET as identifier": simple('SET prism_crypt.master_key = "{}"'),
    "syntax error": simple("SET prism_crypt.master_key = '{}' oops"),
    "syntax error before": simple("SETT prism_crypt.master_key = '{}'"),
    "unterminated": simple("SET prism_crypt.master_key = '{}"),
    "aborted transaction": simple("SET prism_crypt.master_key = '{}'", "BEGIN", "DO $$ BEGIN PERFORM 1/0; EXCEPTION WHEN OTHERS THEN NULL; END $$",
                                  "SELECT 1 AS before_the_error; SELECT 1/0; SET prism_crypt.master_key = '{}'"),
    "planning error": simple("SELECT set_config('prism_crypt.master_key', '{}', false), 1/0"),
    "wrong type": simple("SELECT set_config('prism_crypt.master_key', '{}', 'maybe')"),
    "wrong type, parameter": bound("SELECT set_config('prism_crypt.master_key', $1, false), 1/0"),
    "unknown function": simple("SELECT set_confg('prism_crypt.master_key', '{}', false)"),
    "an error in the function": simple("DO $$ BEGIN PERFORM set_config('prism_crypt.master_key', '{}', false); PERFORM 1/0; END $$"),
    "ALTER SYSTEM": simple("ALTER SYSTEM SET prism_crypt.master_key = '{}'"),
    "ALTER ROLE": simple("ALTER ROLE postgres SET prism_crypt.master_key = '{}'"),
    "ALTER ROLE ALL": simple("ALTER ROLE ALL SET prism_crypt.master_key = '{}'"),
    "ALTER ROLE IN DATABASE": simple("ALTER ROLE postgres IN DATABASE hygiene SET prism_crypt.master_key = '{}'"),
    "ALTER ROLE FROM CURRENT": simple("ALTER ROLE postgres SET prism_crypt.master_key FROM CURRENT", "SET prism_crypt.master_key = '{}'"),
    "ALTER ROLE escaped name": simple("ALTER ROLE postgres SET prism_crypt.U&\"\\006daster_key\" = '{}'"),
    "ALTER SYSTEM escaped name": simple("ALTER SYSTEM SET prism_crypt.U&\"\\006daster_key\" = '{}'"),
    "CREATE FUNCTION escaped name": simple("CREATE FUNCTION f() RETURNS int LANGUAGE sql SET prism_crypt.U&\"\\006daster_key\" = '{}' AS 'SELECT 1'"),
    "ALTER DATABASE": simple("ALTER DATABASE hygiene SET prism_crypt.master_key = '{}'"),
    "ALTER FUNCTION": simple("ALTER FUNCTION nothing() SET prism_crypt.master_key = '{}'"),
    "CREATE FUNCTION": simple("CREATE FUNCTION f() RETURNS int LANGUAGE sql SET prism_crypt.master_key = '{}' AS 'SELECT 1'"),
    "CREATE FUNCTION FROM CURRENT": simple(
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET prism_crypt.master_key FROM CURRENT AS 'SELECT 1'", "SET prism_crypt.master_key = '{}'"),
    "CREATE PROCEDURE": simple("CREATE PROCEDURE f() LANGUAGE sql SET prism_crypt.master_key = '{}' AS 'SELECT 1'"),
}


# Statements that set no key and would like to be withheld. {} is a mark that is to be read wherever statements are shown.
HIDING = (
    "/* prism_crypt.master_key */ SELECT 'hidden {}'",
    "SELECT 'hidden {}' -- prism_crypt.master_key = 'x'",
    "/* /* */ prism_crypt.master_key = ' */ SELECT 'hidden {}' /* ' */",
    "SELECT 'hidden {}' AS \"prism_crypt\", 1 AS \"master_key\"",
    "SELECT 'hidden {}', 1 AS master_key -- E'\\n' U&'x' UESCAPE '!'",
    "SELECT 'hidden {}', current_setting('prism_crypt.master_key_file', true)",
    "SET prism_crypt.master_key = ''; SELECT 'hidden {}'",
    "SELECT 'hidden {}'; SET prism_crypt.master_key = ''",
    "SELECT set_config('prism_crypt.master_key', '', false) IS NULL; SELECT 'hidden {}' FROM generate_series(1, 2)",
    "SELECT 'hidden {}', set_config('prism_crypt.master_key', '', false)",
    "DO $$ BEGIN SET prism_crypt.master_key = ''; PERFORM 'hidden {}'; END $$",
    "DO $$ BEGIN PERFORM 'hidden {}'; /* prism_crypt.master_key */ EXECUTE 'SELECT 1 -- prism_crypt.master_key'; END $$",
    "GRANT EXECUTE ON FUNCTION nothing() TO CURRENT_USER; SELECT 'hidden {}'",
    # The name's words as two tables, and as a column: no key is given to these.
    "CREATE TEMP TABLE IF NOT EXISTS prism_crypt (master_key int, t int); CREATE TEMP TABLE IF NOT EXISTS master_key (); GRANT SELECT ON prism_crypt, master_key TO CURRENT_USER, pg_monitor; SELECT 'hidden {}'",
    "SELECT 'hidden {}' FROM prism_crypt WHERE prism_crypt.master_key = pg_backend_pid()",
    "SELECT 'hidden {}' FROM prism_crypt JOIN pg_class ON prism_crypt.master_key = 1, pg_catalog.pg_am, pg_catalog.pg_proc",
    "DO $$ BEGIN PERFORM 'hidden {}' FROM prism_crypt WHERE prism_crypt.master_key = pg_backend_pid(); GRANT SELECT ON prism_crypt, master_key TO CURRENT_USER, pg_monitor; END $$",
)

# What every key begins with, so that a look for this finds them all.
MARK = secrets.token_bytes(9)


def new_key():
    return (MARK + secrets.token_bytes(23)).hex()


def forms_of(beginning):
    """How a key with this beginning may show: as text, as bytes, as PostgreSQL prints the constants of a parse tree."""
    texts = {"hex": beginning.hex().encode(), "base64": base64.b64encode(beginning)}
    trees = {f"{name} in a parse tree": " ".join(map(str, text)).encode() for name, text in texts.items()}
    return {**texts, "upper-case hex": texts["hex"].upper(), **trees, "bytes": beginning}


MARKS = forms_of(MARK)
