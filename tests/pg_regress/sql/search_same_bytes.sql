-- The same bytes are equal for everybody, without a key and without a right; whatever else would have to be opened is not
-- told to those who may not search.
CALL regress.fresh();
\set key_file `echo "$PRISM_TEST_KEY_FILE"`
SET prism_crypt.master_key_file = :'key_file';
CREATE TABLE same (id int PRIMARY KEY, n int, plain encrypted_text, tagged encrypted_text('searchable'), many encrypted_text[]);
INSERT INTO same VALUES (1, 1, 'ada', 'ada', ARRAY['ada', NULL, 'bob']), (2, 1, 'ada', 'ada', ARRAY['ada']), (3, 1, NULL, NULL, NULL);
CREATE TABLE history (LIKE same);
CREATE FUNCTION keep_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW IS NOT DISTINCT FROM OLD THEN
    RETURN NULL;
  END IF;
  INSERT INTO history VALUES (OLD.*);
  RETURN NEW;
END $$;
CREATE TRIGGER versions BEFORE UPDATE ON same FOR EACH ROW EXECUTE FUNCTION keep_version();
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'row % changed', NEW.id; RETURN NULL; END $$;
CREATE TRIGGER changed AFTER UPDATE ON same FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION note();
CREATE TRIGGER plain_changed AFTER UPDATE OF n ON same FOR EACH ROW
  WHEN (OLD.plain IS DISTINCT FROM NEW.plain OR OLD.tagged IS DISTINCT FROM NEW.tagged) EXECUTE FUNCTION note();
CREATE ROLE regress_counter;
GRANT SELECT, UPDATE ON same TO regress_counter;
GRANT INSERT ON history TO regress_counter;

-- No key, no right.
SET prism_crypt.master_key_file = '';
SET ROLE regress_counter;
UPDATE same SET n = n + 1;
UPDATE same SET n = n;
SELECT n, count(*) FROM same GROUP BY n;
SELECT a.id, b.id FROM same AS a, same AS b WHERE a.tagged = b.tagged ORDER BY 1, 2;
SELECT id FROM same WHERE plain = plain AND many = many AND tagged = tagged ORDER BY id;
SELECT id FROM same WHERE plain <> plain OR plain IS DISTINCT FROM plain OR many IS DISTINCT FROM many ORDER BY id;
SELECT id FROM same AS s WHERE s IS DISTINCT FROM s;
SELECT id FROM same AS s WHERE ROW (s.plain, s.many) = ROW (s.plain, s.many) ORDER BY id;
SELECT id FROM same AS s WHERE NULLIF(plain, plain) IS NOT NULL;
-- Other bytes would have to be opened.
\set VERBOSITY sqlstate
SELECT a.id, b.id FROM same AS a, same AS b WHERE a.plain = b.plain;
SELECT a.id, b.id FROM same AS a, same AS b WHERE a.id <> b.id AND a.plain = b.tagged;
SELECT id FROM same WHERE plain = 'ada';
SELECT id FROM same WHERE tagged = 'ada';
SELECT id FROM same WHERE tagged = 'ada'::text;
SELECT id FROM same WHERE tagged IN ('ada', 'bob');
SELECT id FROM same WHERE tagged = 'ada'::encrypted_text('searchable');
SELECT id FROM same WHERE tagged = encrypt_field('ada')::encrypted_text('searchable');
SELECT id FROM same WHERE many = ARRAY['ada']::encrypted_text[];
SELECT id FROM same WHERE (tagged, n) = (encrypt_field('ada'), 2);
SELECT id FROM same WHERE tagged IS NOT DISTINCT FROM encrypt_field('ada');
SELECT count(DISTINCT plain::bytea) FROM same;
SELECT plain FROM same GROUP BY plain;
\set VERBOSITY default
RESET ROLE;
SELECT id, n FROM history ORDER BY id;
DROP TABLE same, history;
DROP FUNCTION keep_version, note;
DROP ROLE regress_counter;
