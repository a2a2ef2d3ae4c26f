-- ANALYZE, VACUUM and indexes of columns without search tags: what needs no key, and that no statistics hold plaintext.
-- (search_keyless.sql has searchable columns.)
CALL regress.fresh();
CREATE TABLE t (id int, v encrypted_text, e encrypted_text('email'), a encrypted_text[], d text);
INSERT INTO t SELECT n, encrypt_field('value ' || n % 3), CASE WHEN n % 4 > 0 THEN encrypt_field('same@example.org', class => 'email') END, ARRAY[encrypt_field('one')], 'plain' FROM generate_series(1, 400) AS n;
SET prism_crypt.master_key_env = '';
ANALYZE t;
VACUUM (ANALYZE, FULL) t;
ANALYZE t (v);
SELECT attname, null_frac, avg_width, n_distinct, most_common_vals IS NULL AS no_values, histogram_bounds IS NULL AS no_histogram, correlation IS NULL AS no_correlation
FROM pg_stats WHERE tablename = 't' ORDER BY attname;
SELECT stakind1, stakind2, stakind3, stakind4, stakind5, stavalues1 IS NULL AS no_values FROM pg_statistic WHERE starelid = 't'::regclass AND staattnum = 2;
-- Of arrays PostgreSQL keeps some, as ciphertext; the planner doesn't compare with them, which would open them.
SELECT coalesce(most_common_vals, histogram_bounds)::text ~ '^\{"\{prism:v1:' AS ciphertext FROM pg_stats WHERE tablename = 't' AND attname = 'a';
RESET prism_crypt.master_key_env;
CREATE TABLE arrays AS SELECT n, ARRAY['v' || n]::text[]::encrypted_text[] AS a FROM generate_series(1, 20) AS n;
ANALYZE arrays;
CREATE TABLE expressions AS SELECT n, 'v' || n::text AS plain, ('v' || n)::encrypted_text AS v FROM generate_series(1, 20) AS n;
CREATE INDEX ON expressions USING hash ((ARRAY[v]));
ANALYZE expressions;
SELECT prism_crypt.rotate_key();
CALL rotate_batch('arrays');
CALL rotate_batch('expressions');
SELECT prism_crypt.disable_key(1);
SELECT n FROM arrays WHERE a = ARRAY['v7']::encrypted_text[];
SELECT n FROM expressions WHERE ARRAY[v] = ARRAY['v7']::encrypted_text[];
SELECT prism_crypt.enable_key(1);
SET prism_crypt.master_key_env = '';
-- Wide values are measured, not fetched.
RESET prism_crypt.master_key_env;
CREATE TABLE wide (v encrypted_text);
INSERT INTO wide SELECT encrypt_field(repeat('x', 100000)) FROM generate_series(1, 20);
SET prism_crypt.master_key_env = '';
ANALYZE wide;
SELECT null_frac, avg_width BETWEEN 18 AND 100100 AS width, n_distinct FROM pg_stats WHERE tablename = 'wide';
-- Nothing but nulls, nothing at all, targets.
CREATE TABLE nothing (v encrypted_text);
ANALYZE nothing;
INSERT INTO nothing SELECT NULL FROM generate_series(1, 10);
ANALYZE nothing;
SELECT null_frac, avg_width, n_distinct FROM pg_stats WHERE tablename = 'nothing';
ALTER TABLE t ALTER v SET STATISTICS 0;
ANALYZE t;
ALTER TABLE t ALTER v SET STATISTICS 10;
ANALYZE t;
CALL regress.fails('CREATE STATISTICS pair ON v, id FROM t');
CALL regress.fails('CREATE STATISTICS pair ON id, (reencrypt_field(v)) FROM t');
CALL regress.fails('CREATE STATISTICS pair ON a, d FROM t');
CREATE STATISTICS pair ON d, id FROM t;
RESET prism_crypt.master_key_env;
CALL regress.fails('ALTER TABLE t ALTER d TYPE encrypted_text');
SET prism_crypt.master_key_env = '';
DROP STATISTICS pair;
CREATE STATISTICS expression ON key_version(v), (id % 3) FROM t;
ANALYZE t;
-- Everything else that reads tables.
CREATE TABLE copy AS TABLE t;
CLUSTER VERBOSE;
CREATE INDEX ON t (key_version(v));
CREATE INDEX ON t (id) INCLUDE (v);
REINDEX TABLE t;
ALTER TABLE t ADD n int DEFAULT 1, ALTER id TYPE bigint;
SELECT count(v), count(e) FROM t;
SELECT count(*) FROM t WHERE v IS NULL OR e IS NULL;
EXPLAIN (COSTS OFF) SELECT * FROM t WHERE v IS NOT NULL AND decrypt_field(v) = 'x';
-- An index on the values themselves needs the keys to open them.
CALL regress.fails('CREATE INDEX ON t USING hash (v)');
CALL regress.fails('CREATE UNIQUE INDEX ON t (v encrypted_text_unique_ops)');
CALL regress.fails('CREATE INDEX ON t USING hash (a)');
CALL regress.fails('CREATE INDEX ON t (v)');
CALL regress.fails('CREATE INDEX ON t USING gin (a)');
CALL regress.fails('CREATE INDEX ON t USING gist (v)');
CALL regress.fails('CREATE INDEX ON t USING brin (v)');
CALL regress.fails('CREATE INDEX ON t (v text_ops)');
CALL regress.fails('CREATE INDEX ON t USING hash (v text_ops)');
CALL regress.fails('CREATE INDEX ON t (lower(v))');
CALL regress.fails('CREATE INDEX ON t (id) WHERE v::text = $$x$$');
RESET prism_crypt.master_key_env;
CALL regress.fails('CREATE INDEX ON t (id) WHERE v = $$x$$');
CALL regress.fails('CREATE INDEX ON t ((v = $$x$$::text))');
