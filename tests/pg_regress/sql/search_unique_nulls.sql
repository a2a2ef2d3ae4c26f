-- PostgreSQL 15 and later: nulls that count as equal.
CALL regress.fresh();
CREATE TABLE one_null (id int, email encrypted_text('searchable'), UNIQUE NULLS NOT DISTINCT (email));
INSERT INTO one_null VALUES (1, 'a'), (2, NULL);
CALL regress.fails('INSERT INTO one_null VALUES (3, NULL)');
INSERT INTO one_null VALUES (4, NULL), (5, 'a') ON CONFLICT DO NOTHING;
INSERT INTO one_null VALUES (6, NULL) ON CONFLICT (email) DO UPDATE SET id = excluded.id;
SELECT prism_crypt.rotate_key() > 0 AS rotated;
CALL prism_crypt.rotate_all();
CALL regress.fails('INSERT INTO one_null VALUES (7, NULL)');
SELECT id, email::text FROM one_null ORDER BY id;
