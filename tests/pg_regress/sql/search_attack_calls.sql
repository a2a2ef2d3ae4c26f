-- Calls that nobody makes: odd arguments, the functions in objects of other people's making, bytes that are no envelope.
CALL regress.fresh();
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE TABLE t (v encrypted_text('searchable'), b encrypted_text, a encrypted_text[]);
INSERT INTO t VALUES ('x', 'x', ARRAY['x']), (NULL, NULL, NULL), ('', '', ARRAY['', NULL]);

-- Every function of searching with every mixture of values and nulls: an SQLSTATE that says something, never an internal error.
CREATE TABLE argument (type text, value text);
INSERT INTO argument VALUES
  ('encrypted_text', '(SELECT v FROM t LIMIT 1)'), ('encrypted_text', '(SELECT b FROM t LIMIT 1)'), ('encrypted_text', '''''::encrypted_text'),
  ('encrypted_text', 'repeat(''y'', 300000)::encrypted_text'),
  ('text', ''''''), ('text', '''x'''), ('text', 'repeat(''z'', 2000000)'), ('text', '''prism:v1:AAAA'''), ('name', '''x''::name'), ('name', '''''::name'),
  ('integer', '-2147483648'), ('integer', '0'), ('integer', '1'), ('integer', '257'), ('bigint', '-9223372036854775808'), ('bigint', '0'),
  ('boolean', 'true'), ('cstring', '''x''::cstring'), ('oid', '0'), ('oid', '4294967295'), ('oid', '''t''::regclass');
CREATE FUNCTION calls(function regprocedure) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  types text[] := ARRAY(SELECT format_type(u.type, NULL) FROM pg_proc AS p, unnest(p.proargtypes) WITH ORDINALITY AS u (type, n) WHERE p.oid = function ORDER BY n);
  calls text[] := ARRAY[''];
BEGIN
  FOR place IN 1 .. cardinality(types) LOOP
    calls := ARRAY(SELECT c || CASE WHEN place > 1 THEN ', ' ELSE '' END || a.value
                   FROM unnest(calls) AS c, (SELECT value FROM argument WHERE type = types[place] UNION SELECT 'NULL::' || types[place] WHERE types[place] <> 'internal') AS a);
  END LOOP;
  RETURN QUERY SELECT format('SELECT %s(%s)', p.oid::regproc, c) FROM unnest(calls) AS c, pg_proc AS p WHERE p.oid = function;
END $$;
CREATE FUNCTION outcome(call text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE call;
  RETURN 'done';
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE || ' ' || CASE WHEN SQLSTATE IN ('39000', '22P02', '22P03') THEN SQLERRM ELSE left(SQLERRM, 60) END;
END $$;
SELECT outcome(call), count(*) > 0 AS seen, string_agg(DISTINCT substring(call FROM '^SELECT (\S+?)\('), ' ' ORDER BY substring(call FROM '^SELECT (\S+?)\(')) AS functions
FROM (SELECT calls(p.oid) AS call FROM pg_proc AS p JOIN pg_depend AS d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
      WHERE p.proname ~ '^(encrypted_text|blind_index|_same_text|_lock_relation|_count_outdated|_last_generation|_invalid_search|_is_retagging|_search_indexes)') AS c
GROUP BY 1 ORDER BY 1;

-- Operator classes of a superuser's making. They do what ours do.
CREATE DOMAIN d AS encrypted_text;
CREATE OPERATOR CLASS own_hash FOR TYPE encrypted_text USING hash AS OPERATOR 1 =, FUNCTION 1 encrypted_text_hash(encrypted_text);
CREATE OPERATOR CLASS own_btree FOR TYPE encrypted_text USING btree AS
  OPERATOR 1 <, OPERATOR 3 =, OPERATOR 5 >, FUNCTION 1 encrypted_text_cmp(encrypted_text, encrypted_text);
CREATE INDEX own_h ON t USING hash (v own_hash);
CREATE INDEX own_b ON t (v own_btree);
SET enable_seqscan = off;
SELECT count(*) FROM t WHERE v = 'x';
CALL regress.fails('SELECT count(*) FROM t WHERE v < ''x''');
RESET enable_seqscan;
-- PostgreSQL lets a superuser name functions that take another type.
CREATE OPERATOR CLASS bad FOR TYPE text USING hash AS OPERATOR 1 = (text, text), FUNCTION 1 (text, text) encrypted_text_hash(encrypted_text);
CREATE OPERATOR CLASS bad FOR TYPE text USING btree AS OPERATOR 3 = (text, text), FUNCTION 1 (text, text) encrypted_text_cmp(encrypted_text, encrypted_text);
CREATE TABLE plain AS SELECT n AS id, repeat('p', n) AS v FROM generate_series(0, 90) AS n;
CALL regress.fails('CREATE INDEX ON plain USING hash (v bad)');
CALL regress.fails('CREATE INDEX ON plain (v bad)');
-- Support functions, where they don't belong.
CREATE FUNCTION lent(text, text) RETURNS boolean LANGUAGE sql STABLE SUPPORT encrypted_text_eq_support AS 'SELECT $1 = $2';
CREATE FUNCTION lent(encrypted_text) RETURNS boolean LANGUAGE plpgsql STABLE SUPPORT encrypted_text_eq_support AS 'BEGIN RETURN true; END';
CREATE FUNCTION lent(int, int, int) RETURNS boolean LANGUAGE plpgsql STABLE SUPPORT encrypted_text_ne_support AS 'BEGIN RETURN true; END';
CREATE FUNCTION lent() RETURNS boolean LANGUAGE plpgsql STABLE SUPPORT encrypted_text_eq_support AS 'BEGIN RETURN true; END';
CREATE FUNCTION lent_blind(text) RETURNS bytea LANGUAGE plpgsql STABLE SUPPORT blind_index_support AS 'BEGIN RETURN ''\x00''; END';
CREATE FUNCTION lent_blind(int, int, int) RETURNS bytea LANGUAGE plpgsql STABLE SUPPORT blind_index_support AS 'BEGIN RETURN ''\x00''; END';
SELECT outcome('SELECT lent(''x'', ''x'')'), outcome('SELECT lent(''x''::encrypted_text)'), outcome('SELECT lent(1, 2, 3)'), outcome('SELECT lent()'),
       outcome('SELECT lent_blind(''x'')'), outcome('SELECT lent_blind(1, 2, 3)');
-- Casts, operators and aggregates of one's own, over our functions.
CREATE FUNCTION coalesce_encrypted(encrypted_text, encrypted_text) RETURNS encrypted_text LANGUAGE sql AS 'SELECT coalesce($1, $2)';
CREATE AGGREGATE first_value_of (encrypted_text) (SFUNC = coalesce_encrypted, STYPE = encrypted_text);
SELECT count(*) FROM (SELECT first_value_of(v) AS f FROM t) AS x WHERE f = 'x';
CREATE OPERATOR === (LEFTARG = encrypted_text, RIGHTARG = encrypted_text, FUNCTION = encrypted_text_eq);
SELECT outcome('SELECT count(*) FROM t AS a JOIN t AS b ON a.v === b.v');
SET enable_hashjoin = off;
SET enable_nestloop = off;
SELECT count(*) FROM t AS a JOIN t AS b ON a.v = b.v;
RESET enable_hashjoin;
RESET enable_nestloop;
-- Very deep and very long conditions.
SELECT outcome('SELECT count(*) FROM t WHERE ' || repeat('(v = ANY (ARRAY[''x'']::text[]) AND ', 3000) || 'true' || repeat(')', 3000));
SELECT outcome('SELECT count(*) FROM t WHERE ' || repeat('NOT (', 2000) || 'v = ''x''::text' || repeat(')', 2000));
SELECT outcome('SELECT count(*) FROM t WHERE v IN (''x''' || repeat(', ''y''', 5000) || ')');
SELECT count(*) FROM t WHERE v = ANY (ARRAY(SELECT 'x' || n FROM generate_series(1, 20000) AS n) || 'x'::text);
SELECT count(*) FROM t WHERE v = ANY ('{}'::text[]) OR v = ANY (NULL::text[]) OR v = ANY ('{NULL}'::text[]) OR v = ALL ('{}'::text[]);
SELECT count(*) FROM t WHERE v = ANY ('{{x,y},{z,x}}'::text[]);
SELECT count(*) FROM t WHERE v = ANY ('[5:6]={x,y}'::text[]);

-- Bytes that are no envelope at all, by a cast that only a superuser can make.
ALTER EXTENSION prism_crypt DROP CAST (bytea AS encrypted_text);
DROP CAST (bytea AS encrypted_text);
CREATE CAST (bytea AS encrypted_text) WITHOUT FUNCTION;
CREATE TABLE junk (id serial, v encrypted_text);
INSERT INTO junk (v) SELECT b::bytea::encrypted_text FROM unnest(ARRAY['', '\x01', '\x0101', '\x01010000000001', '\x0101000000000100', '\xff']) AS b;
INSERT INTO junk (v) SELECT decode(repeat('01', n), 'hex')::encrypted_text FROM generate_series(1, 80) AS n;
INSERT INTO junk (v) SELECT decode('01010000000001' || repeat('00', n), 'hex')::encrypted_text FROM generate_series(0, 60) AS n;
INSERT INTO junk (v) SELECT decode('01000000000001' || repeat('ab', n * 1000), 'hex')::encrypted_text FROM generate_series(1, 5) AS n;
ALTER TABLE junk ALTER v SET STORAGE extended;
INSERT INTO junk (v) SELECT decode('01010000000001' || repeat('ab', 100000), 'hex')::encrypted_text;
CREATE FUNCTION with_junk(expression text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  n int; states text[] := '{}';
BEGIN
  FOR n IN SELECT id FROM junk LOOP
    BEGIN
      EXECUTE format('SELECT %s FROM junk WHERE id = %s', expression, n);
      states := states || 'done'::text;
    EXCEPTION WHEN OTHERS THEN
      states := states || SQLSTATE;
    END;
  END LOOP;
  RETURN (SELECT string_agg(s, ' ' ORDER BY s) FROM (SELECT DISTINCT unnest(states) AS s) AS x);
END $$;
SELECT e AS expression, with_junk(e) FROM unnest(ARRAY[
  'v = v', 'v <> v', 'v = ''x''', 'v = ''x''::text', '''x''::name = v', 'encrypted_text_hash(v)', 'encrypted_text_hash(v, 1)', 'encrypted_text_cmp(v, v)',
  'encrypted_text_cmp(v, ''x''::text)', 'ARRAY[v] = ARRAY[v]', 'hash_array(ARRAY[v])', 'v::encrypted_text(''searchable'')', 'reencrypt_field(v)',
  'prism_crypt._is_rotatable(v)', 'encrypted_text_out(v)', 'encrypted_text_send(v)']) AS e;
ANALYZE junk;
VACUUM junk;
CALL regress.fails('CREATE INDEX ON junk USING hash (v)');
CALL regress.fails('CREATE UNIQUE INDEX ON junk (v encrypted_text_unique_ops) WHERE id < 3');
SELECT outcome('SELECT count(*) FROM (SELECT v FROM junk GROUP BY v) AS x');
SELECT prism_crypt._count_outdated_tags('junk'::regclass, 'default') >= 0 AS counts, prism_crypt._last_generation('junk'::regclass, 'default') >= 0 AS looks;
