-- Finding rows by a value, by every way that SQL has for equality: by the index where there is one, and with the answers that
-- plaintext gives.
CALL regress.fresh();
CALL regress.shadows();
SET search_path = tagged, public;
SET enable_seqscan = off;
SET enable_bitmapscan = off;

-- Constants: untyped, and of each string type. What a plan shows of them is ciphertext.
SELECT regress.plan($$SELECT id FROM users WHERE email = 'u7@x.org'$$);
SELECT regress.plan($$SELECT id FROM users WHERE 'u7@x.org' = email$$);
SELECT regress.plan($$SELECT id FROM users WHERE email = 'u7@x.org'::text$$);
SELECT regress.plan($$SELECT id FROM users WHERE 'u7@x.org'::text = email$$);
SELECT regress.plan($$SELECT id FROM users WHERE email = 'u7@x.org'::varchar$$);
SELECT regress.plan($$SELECT id FROM users WHERE email = 'u7@x.org'::varchar(20)$$);
SELECT regress.plan($$SELECT id FROM users WHERE email = 'u7@x.org'::char(20)$$);
SELECT regress.plan($$SELECT id FROM users WHERE email = 'u7@x.org'::name$$);
SELECT regress.plan($$SELECT id FROM users WHERE email = 'u7' || '@x.org'$$);
SELECT regress.plan($$SELECT id FROM users WHERE email = encrypt_field('u7@x.org')$$);
SELECT regress.plan($$SELECT id FROM users WHERE email = current_user$$);
SELECT regress.plan($$SELECT id FROM users WHERE email = lower('U7@x.org') AND id > 0$$);
SELECT id FROM users WHERE email = 'u7@x.org';
SELECT id FROM users WHERE email = 'u7@x.org'::char(20);
SELECT id FROM users WHERE email = 'u7@x.org'::name;
SELECT id FROM users WHERE email = 'u7' || '@x.org';
SELECT id FROM users WHERE email = (SELECT encrypt_field('u7@x.org'));

-- Parameters: without a type, and with those that drivers send. With a plan for this value, and with one for all.
PREPARE by_unknown AS SELECT id FROM users WHERE email = $1;
PREPARE by_value(encrypted_text) AS SELECT id FROM users WHERE email = $1;
PREPARE by_text(text) AS SELECT id FROM users WHERE email = $1;
PREPARE by_varchar(varchar) AS SELECT id FROM users WHERE email = $1;
PREPARE by_char(char) AS SELECT id FROM users WHERE $1 = email;
PREPARE by_name(name) AS SELECT id FROM users WHERE $1 = email;
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'by_unknown';
SET plan_cache_mode = force_custom_plan;
SELECT regress.plan($$EXECUTE by_unknown('u7@x.org')$$);
SELECT regress.plan($$EXECUTE by_value('u7@x.org')$$);
SELECT regress.plan($$EXECUTE by_text('u7@x.org')$$);
SELECT regress.plan($$EXECUTE by_varchar('u7@x.org')$$);
SELECT regress.plan($$EXECUTE by_char('u7@x.org')$$);
SELECT regress.plan($$EXECUTE by_name('u7@x.org')$$);
EXECUTE by_unknown('u7@x.org');
EXECUTE by_text('u7@x.org');
EXECUTE by_text(NULL);
SET plan_cache_mode = force_generic_plan;
SELECT regress.plan($$EXECUTE by_unknown('u7@x.org')$$);
SELECT regress.plan($$EXECUTE by_value('u7@x.org')$$);
SELECT regress.plan($$EXECUTE by_text('u7@x.org')$$);
SELECT regress.plan($$EXECUTE by_varchar('u7@x.org')$$);
SELECT regress.plan($$EXECUTE by_char('u7@x.org')$$);
SELECT regress.plan($$EXECUTE by_name('u7@x.org')$$);
EXECUTE by_unknown('u7@x.org');
EXECUTE by_value('u7@x.org');
EXECUTE by_text('u7@x.org');
EXECUTE by_varchar('u7@x.org');
EXECUTE by_char('u');
EXECUTE by_name('u7@x.org');
EXECUTE by_text(NULL);
RESET plan_cache_mode;
DEALLOCATE ALL;

-- Lists. A hash index needs a bitmap for them.
SET enable_bitmapscan = on;
SELECT regress.plan($$SELECT id FROM users WHERE email IN ('u7@x.org', 'u9@x.org')$$);
SELECT regress.plan($$SELECT id FROM users WHERE email IN ('u7@x.org'::text, 'u9@x.org')$$);
SELECT regress.plan($$SELECT id FROM users WHERE email = ANY (ARRAY['u7@x.org', 'u9@x.org'])$$);
SELECT regress.plan($$SELECT id FROM users WHERE email = ANY ('{u7@x.org,u9@x.org}')$$);
SELECT regress.plan($$SELECT id FROM users WHERE email = ANY ('{u7@x.org,u9@x.org}'::varchar[])$$);
SELECT regress.plan($$SELECT id FROM users WHERE email = ANY (string_to_array('u7@x.org u9@x.org', ' '))$$);
SELECT regress.plan($$SELECT id FROM users WHERE email = 'u7@x.org' OR email = 'u9@x.org'::text$$);
PREPARE any_unknown AS SELECT id FROM users WHERE email = ANY ($1) ORDER BY id;
PREPARE any_text(text[]) AS SELECT id FROM users WHERE email = ANY ($1) ORDER BY id;
PREPARE any_varchar(varchar[]) AS SELECT id FROM users WHERE email = ANY ($1) ORDER BY id;
PREPARE in_text(text, varchar) AS SELECT id FROM users WHERE email IN ($1, $2) ORDER BY id;
SET plan_cache_mode = force_custom_plan;
SELECT regress.plan($$EXECUTE any_unknown('{u7@x.org,u9@x.org}')$$);
SELECT regress.plan($$EXECUTE any_text('{u7@x.org,u9@x.org}')$$);
SELECT regress.plan($$EXECUTE any_varchar('{u7@x.org,u9@x.org}')$$);
SELECT regress.plan($$EXECUTE in_text('u7@x.org', 'u9@x.org')$$);
EXECUTE any_unknown('{u7@x.org,u9@x.org}');
EXECUTE any_text('{u7@x.org,u9@x.org,NULL,nobody}');
EXECUTE any_text('{}');
EXECUTE any_text(NULL);
EXECUTE any_varchar('{u7@x.org,u9@x.org}');
EXECUTE in_text('u7@x.org', NULL);
SET plan_cache_mode = force_generic_plan;
SELECT regress.plan($$EXECUTE any_unknown('{u7@x.org,u9@x.org}')$$);
SELECT regress.plan($$EXECUTE any_text('{u7@x.org,u9@x.org}')$$);
SELECT regress.plan($$EXECUTE in_text('u7@x.org', 'u9@x.org')$$);
EXECUTE any_unknown('{u7@x.org,u9@x.org}');
EXECUTE any_text('{{u7@x.org,u9@x.org},{NULL,nobody}}');
EXECUTE any_text('{}');
EXECUTE any_text(NULL);
EXECUTE any_varchar('{u7@x.org,u9@x.org}');
EXECUTE in_text('u7@x.org', NULL);
-- The same with a unique index, which takes lists without a bitmap.
DROP INDEX users_email;
CREATE UNIQUE INDEX users_email ON users (email encrypted_text_unique_ops);
SET enable_bitmapscan = off;
SELECT regress.plan($$SELECT id FROM users WHERE email = 'u7@x.org'$$);
SELECT regress.plan($$EXECUTE in_text('u7@x.org', 'u9@x.org')$$);
SELECT regress.plan($$EXECUTE any_unknown('{u7@x.org,u9@x.org}')$$);
SELECT regress.plan($$EXECUTE any_text('{u7@x.org,u9@x.org}')$$);
EXECUTE in_text('u7@x.org', 'u9@x.org');
EXECUTE any_unknown('{u9@x.org,u7@x.org,u9@x.org,NULL,nobody}');
EXECUTE any_text('{u9@x.org,u7@x.org,u9@x.org,NULL,nobody}');
SET plan_cache_mode = force_custom_plan;
SELECT regress.plan($$EXECUTE any_text('{u7@x.org,u9@x.org}')$$);
EXECUTE any_text('{u9@x.org,u7@x.org,u9@x.org,NULL,nobody}');
RESET plan_cache_mode;
DEALLOCATE ALL;
DROP INDEX users_email;
CREATE INDEX users_email ON users USING hash (email);

-- Joins: the index on the inner side, with text and with encrypted values on the outer one.
SET enable_hashjoin = off;
SELECT regress.plan($$SELECT o.no, u.id FROM orders AS o LEFT JOIN users AS u ON u.email = o.email$$);
SELECT regress.plan($$SELECT o.no, u.id FROM plain.orders AS o JOIN users AS u ON u.email = o.email$$);
SELECT regress.plan($$SELECT o.no, u.id FROM plain.orders AS o JOIN users AS u ON o.other::varchar = u.email$$);
SELECT regress.plan($$SELECT o.no, u.id FROM untagged.orders AS o LEFT JOIN users AS u ON u.email = o.email$$);
SET enable_nestloop = off;
SET enable_hashjoin = on;
SET enable_indexscan = off;
SELECT regress.plan($$SELECT o.no, u.id FROM orders AS o JOIN users AS u ON u.email = o.email$$);
SELECT regress.plan($$SELECT o.no, u.id FROM plain.orders AS o JOIN users AS u ON u.email = o.email$$);
SELECT regress.plan($$SELECT o.no, u.id FROM plain.orders AS o JOIN users AS u ON o.email = u.email$$);
RESET ALL;

-- What the plans of joins, semijoins and antijoins find: four pairs of types, with nested loops and hashes.
CREATE FUNCTION join_answers(query text) RETURNS TABLE (hash_join boolean, encrypted text, with_text text, text_with text, text text) LANGUAGE plpgsql AS $$
BEGIN
  FOREACH hash_join IN ARRAY ARRAY[true, false] LOOP
    PERFORM set_config('enable_hashjoin', hash_join::text, true), set_config('enable_nestloop', (NOT hash_join)::text, true);
    SELECT regress.same(format(query, 'email', 'email')), regress.same(format(query, 'email', 'other')),
           regress.same(format(query, 'other', 'email')), regress.same(format(query, 'other', 'other'))
      INTO encrypted, with_text, text_with, text;
    with_text := nullif(with_text, encrypted); text_with := nullif(text_with, encrypted); text := nullif(text, encrypted);
    RETURN NEXT;
  END LOOP;
END $$;
-- All answers of a row are those of its first column where the others are null.
SELECT * FROM join_answers('SELECT o.no, u.id FROM orders AS o JOIN users AS u ON u.%s = o.%s');
SELECT * FROM join_answers('SELECT o.no, u.id FROM orders AS o FULL JOIN users AS u ON u.%s = o.%s WHERE o.no > 24 OR u.id > 20');
SELECT * FROM join_answers('SELECT u.id FROM users AS u WHERE u.%s IN (SELECT o.%s FROM orders AS o)');
SELECT * FROM join_answers('SELECT u.id FROM users AS u WHERE EXISTS (SELECT FROM orders AS o WHERE u.%s = o.%s)');
SELECT * FROM join_answers('SELECT u.id FROM users AS u WHERE NOT EXISTS (SELECT FROM orders AS o WHERE u.%s = o.%s)');
SELECT * FROM join_answers('SELECT u.id FROM users AS u WHERE u.%s NOT IN (SELECT o.%s FROM orders AS o)');
SELECT * FROM join_answers('SELECT u.id FROM users AS u WHERE u.%s NOT IN (SELECT o.%s FROM orders AS o WHERE o.email IS NOT NULL)');
SELECT * FROM join_answers('SELECT u.id FROM users AS u WHERE (u.%s IN (SELECT o.%s FROM orders AS o)) IS NULL');
SELECT * FROM join_answers('SELECT u.id FROM users AS u WHERE (u.%s, u.id) IN (SELECT o.%s, o.no / 3 FROM orders AS o) OR u.id = 23');
SELECT * FROM join_answers('SELECT u.id, (SELECT count(*) FROM orders AS o WHERE u.%s = o.%s) AS n FROM users AS u WHERE u.id < 5');
SELECT * FROM join_answers('SELECT u.id, l.no FROM users AS u, LATERAL (SELECT min(o.no) AS no FROM orders AS o WHERE u.%s = o.%s) AS l WHERE u.id < 5');
RESET search_path;
DROP SCHEMA plain, tagged, untagged CASCADE;
