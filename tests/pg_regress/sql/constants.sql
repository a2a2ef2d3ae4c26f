-- Constants of the type in catalogs: stored and shown as ciphertext, also where the key is there.
CALL regress.fresh();
CREATE TABLE t (
  id int PRIMARY KEY,
  v encrypted_text DEFAULT 'secret default',
  e encrypted_text('email') DEFAULT 'secret@example.org',
  CONSTRAINT c CHECK (coalesce(v, 'secret check') IS NOT NULL)
);
CREATE VIEW w AS SELECT id, coalesce(v, 'secret view') AS v, 'secret literal'::encrypted_text AS l FROM t;
CREATE MATERIALIZED VIEW m AS SELECT 'secret matview'::encrypted_text AS v;
CREATE TABLE by_rule (id int, v encrypted_text);
CREATE RULE r AS ON INSERT TO t WHERE NEW.id < 0 DO ALSO INSERT INTO by_rule VALUES (NEW.id, 'secret rule');
CREATE TABLE p (id int, v encrypted_text);
ALTER TABLE p ENABLE ROW LEVEL SECURITY;
CREATE POLICY policy ON p USING (coalesce(v, 'secret policy') IS NOT NULL);
CREATE TRIGGER trig BEFORE UPDATE ON p FOR EACH ROW WHEN (coalesce(OLD.v, 'secret trigger') IS NOT NULL) EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE FUNCTION f(x encrypted_text DEFAULT 'secret argument') RETURNS encrypted_text LANGUAGE sql RETURN coalesce(x, 'secret body');
CREATE DOMAIN d AS encrypted_text DEFAULT 'secret domain';
CREATE INDEX i ON t (id) WHERE coalesce(v, 'secret index') IS NOT NULL;
CREATE FUNCTION sources() RETURNS TABLE (what text, source text) LANGUAGE sql AS $$
  SELECT 'default', pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 't'::regclass
  UNION ALL SELECT 'check', pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'c'
  UNION ALL SELECT 'view', pg_get_viewdef('w') UNION ALL SELECT 'matview', pg_get_viewdef('m')
  UNION ALL SELECT 'rule', pg_get_ruledef(oid) FROM pg_rewrite WHERE rulename = 'r'
  UNION ALL SELECT 'policy', pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polname = 'policy'
  UNION ALL SELECT 'trigger', pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'trig'
  UNION ALL SELECT 'function', pg_get_functiondef('f'::regproc)
  UNION ALL SELECT 'domain', pg_get_expr(typdefaultbin, 0) FROM pg_type WHERE typname = 'd'
  UNION ALL SELECT 'index', pg_get_indexdef('i'::regclass) $$;
SELECT what, source ~ 'prism:v1:' AS ciphertext, source ~ 'secret [a-z]+|secret@' AS plaintext FROM sources() ORDER BY 1;
-- Not in the nodes either, as bytes.
SELECT count(*) FROM pg_attrdef WHERE adbin::text ~ 'secret|115 101 99 114 101 116';
SELECT count(*) FROM pg_rewrite WHERE ev_action::text ~ '115 101 99 114 101 116';
-- With plaintext output a definition shows its constants to those who may read them, and only to them: keep it off while dumping.
SET prism_crypt.output = 'plaintext';
SELECT count(*) FILTER (WHERE source ~ 'secret [a-z]+') AS plaintext FROM sources();
SET ROLE regress_prism_app;
SELECT count(*) FILTER (WHERE source ~ 'secret [a-z]+') AS plaintext FROM sources();
RESET ROLE;
RESET prism_crypt.output;

-- They work.
INSERT INTO t (id) VALUES (1);
INSERT INTO t VALUES (2, NULL, DEFAULT), (-3, DEFAULT, NULL);
SELECT id, decrypt_field(v), decrypt_field(e), (envelope_info(e)).class FROM t WHERE e IS NOT NULL ORDER BY id;
SELECT id, decrypt_field(v) FROM t WHERE e IS NULL UNION ALL SELECT id, decrypt_field(v) FROM by_rule;
SELECT id, decrypt_field(v), decrypt_field(l) FROM w WHERE id = 2;
SELECT decrypt_field(v) FROM m;
SELECT decrypt_field(f()), decrypt_field(f(NULL));
-- A default without a class is one ciphertext in all rows; with a class each row has its own.
TRUNCATE t;
INSERT INTO t (id) SELECT generate_series(1, 10);
SELECT count(DISTINCT encrypted_text_out(v)::text) AS default_without_class, count(DISTINCT encrypted_text_out(e)::text) AS with_class FROM t;
-- Constants keep their key version over a rotation, and read on.
SELECT prism_crypt.rotate_key();
INSERT INTO t (id) VALUES (11);
SELECT key_version(v), key_version(e), decrypt_field(v) FROM t WHERE id = 11;
REFRESH MATERIALIZED VIEW m;
SELECT key_version(v), decrypt_field(v) FROM m;
-- Definitions are taken over without a key: LIKE, inheritance, a copy of the view.
SET prism_crypt.master_key_env = '';
CREATE TABLE t2 (LIKE t INCLUDING ALL);
CREATE TABLE t3 () INHERITS (t);
INSERT INTO t2 (id, e) VALUES (1, NULL);
CALL regress.fails('INSERT INTO t2 (id) VALUES (2)');
CALL regress.fails($$ALTER TABLE t2 ALTER v SET DEFAULT 'x'$$);
CALL regress.fails($$EXPLAIN SELECT 'x'::encrypted_text$$);
RESET prism_crypt.master_key_env;
SELECT decrypt_field(v), e FROM t2;
-- An EXPLAIN shows constants as ciphertext too.
CREATE FUNCTION plan(q text) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (VERBOSE, COSTS OFF) ' || q; END $$;
SELECT count(*) FILTER (WHERE p ~ 'prism:v2:') AS ciphertext, count(*) FILTER (WHERE p ~ 'secret') AS plaintext FROM plan($$INSERT INTO p VALUES (1, 'secret plan')$$) AS p;

-- Cancelled while an array is computed before planning: whoever catches that is still in a transaction of its own.
CREATE TABLE cancelled (v encrypted_text('searchable'));
SET statement_timeout = '300ms';
DO $$ BEGIN
  BEGIN
    PERFORM FROM cancelled WHERE v = ANY (string_to_array(to_char(factorial(32177), '9'), ','));
  EXCEPTION WHEN query_canceled THEN
    INSERT INTO cancelled VALUES ('caught');
  END;
  INSERT INTO cancelled VALUES ('after');
END $$;
RESET statement_timeout;
ROLLBACK;
SELECT v::text FROM cancelled ORDER BY 1;
