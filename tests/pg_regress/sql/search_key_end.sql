-- What a key's end and a rotation must leave alone.
\set SHOW_CONTEXT never
-- A foreign key would take a new ciphertext for a new value: rotations don't begin.
CALL regress.fresh();
CREATE TABLE parent (v encrypted_text('searchable'));
CREATE UNIQUE INDEX ON parent (v encrypted_text_unique_ops);
INSERT INTO parent VALUES ('x'), ('y');
CREATE TABLE child (v encrypted_text('searchable') REFERENCES parent (v) ON UPDATE SET NULL);
INSERT INTO child VALUES ('x');
SELECT prism_crypt.rotate_key();
CALL rotate_batch('parent');
SELECT v::text FROM child;
ALTER TABLE child DROP CONSTRAINT child_v_fkey, ADD FOREIGN KEY (v) REFERENCES parent (v) ON UPDATE RESTRICT;
CALL rotate_batch('parent', 'v');
ALTER TABLE child DROP CONSTRAINT child_v_fkey, ADD FOREIGN KEY (v) REFERENCES parent (v);
CALL rotate_batch('parent');
SELECT count(*) FROM child JOIN parent USING (v);

-- A btree keeps old values in its inner pages. Their key may go all the same.
CALL regress.fresh();
CREATE TABLE tagged (v encrypted_text('searchable'));
CREATE TABLE untagged (v encrypted_text);
INSERT INTO tagged SELECT 'only ' || n FROM generate_series(1, 700) AS n;
INSERT INTO untagged SELECT 'only ' || n FROM generate_series(1, 700) AS n;
CREATE UNIQUE INDEX ON tagged (v encrypted_text_unique_ops);
SET client_min_messages = error;
CREATE UNIQUE INDEX ON untagged (v encrypted_text_unique_ops);
SELECT prism_crypt.rotate_key() AS active \gset
CALL prism_crypt.rotate_index_key();
SELECT prism_crypt.destroy_key(:active - 1);
RESET client_min_messages;
SET enable_seqscan = off;
SELECT count(*) FROM generate_series(1, 700) AS n WHERE EXISTS (SELECT FROM tagged WHERE v = 'only ' || n);
SELECT count(*) FROM generate_series(1, 700) AS n WHERE EXISTS (SELECT FROM untagged WHERE v = 'only ' || n);
INSERT INTO tagged SELECT 'only ' || n FROM generate_series(1, 700) AS n ON CONFLICT DO NOTHING;
SELECT count(*) FROM tagged;
RESET enable_seqscan;
