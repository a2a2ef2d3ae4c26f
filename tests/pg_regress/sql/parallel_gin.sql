-- PostgreSQL 18 and later
-- Parallel builds of GIN indexes: workers sort whole values, by their tags or, where there are none, by what they open by themselves.
CALL regress.fresh();
SET client_min_messages = warning;
CREATE TABLE posts (id int, tags encrypted_text('searchable')[], loose encrypted_text[], plain text[]);
INSERT INTO posts SELECT n, t, t, t FROM (SELECT n, CASE WHEN n % 50 > 0 THEN ARRAY['all', 'tag' || n % 7, CASE WHEN n % 3 = 0 THEN 'three' END] END AS t FROM generate_series(1, 3000) AS n) AS s;
SET min_parallel_table_scan_size = 0;
SET max_parallel_maintenance_workers = 2;
SET maintenance_work_mem = '64MB';
ALTER TABLE posts SET (parallel_workers = 2);
CREATE FUNCTION wrong() RETURNS TABLE (wanted text, found bigint, expected bigint) LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
  RETURN QUERY SELECT t, (SELECT count(*) FROM posts WHERE tags @> ARRAY[t]) + (SELECT count(*) FROM posts WHERE loose && ARRAY[t, 'nothing']), 2 * (SELECT count(*) FROM posts WHERE plain @> ARRAY[t])
  FROM unnest(ARRAY['all', 'tag0', 'tag3', 'three', 'nobody']) AS t;
END $$;
CREATE INDEX posts_tags ON posts USING gin (tags);
CREATE INDEX posts_loose ON posts USING gin (loose);
SELECT * FROM wrong();
SELECT regress.plan($$SELECT id FROM posts WHERE tags @> ARRAY['tag3']$$);
CREATE EXTENSION amcheck;
SELECT gin_index_check('posts_tags'), gin_index_check('posts_loose');
-- After a new index key, between old and new tags.
SELECT prism_crypt._replace_index_key('default', 'leaked');
UPDATE posts SET tags = plain WHERE id % 2 = 0;
REINDEX TABLE posts;
SELECT * FROM wrong();
SELECT prism_crypt.rotate_key();
CALL prism_crypt.rotate_index_key();
REINDEX TABLE CONCURRENTLY posts;
SELECT * FROM wrong();
-- Without a key: by tags alone; values without one stop the build, in the leader or in a worker.
SET prism_crypt.master_key_env = '';
REINDEX INDEX posts_tags;
\set VERBOSITY sqlstate
REINDEX INDEX posts_loose;
\set VERBOSITY default
RESET prism_crypt.master_key_env;
SELECT * FROM wrong();
SELECT gin_index_check('posts_tags'), gin_index_check('posts_loose');
DROP EXTENSION amcheck;
