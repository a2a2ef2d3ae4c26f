-- Arrays of values compared with arrays of text: the answers of plaintext, on searchable columns and on others, with an index and without.
CALL regress.fresh();
\set SHOW_CONTEXT never
SET client_min_messages = error;
DO $$
DECLARE
  kind text; type text;
BEGIN
  FOR kind, type IN VALUES ('plain', 'text'), ('tagged', $t$encrypted_text('email', 'searchable')$t$), ('untagged', 'encrypted_text') LOOP
    EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE', kind);
    EXECUTE format('CREATE SCHEMA %I', kind);
    EXECUTE format('CREATE TABLE %I.docs (id int, tags %s[], texts text[])', kind, type);
    EXECUTE format($i$INSERT INTO %I.docs SELECT id, a, a FROM (VALUES
      (1, '{a}'::text[]), (2, '{a,b}'), (3, '{b,a}'), (4, '{a,b,c}'), (5, '{}'), (6, NULL), (7, '{NULL}'), (8, '{a,NULL}'), (9, '{a,a}'), (10, '{{a,b},{c,d}}'),
      (11, '[0:1]={a,b}'), (12, '{{{a}}}'), (13, '{""}'), (14, '{A}'), (15, '{NULL,NULL}'), (16, ARRAY[repeat('x', 1000), 'a']), (17, '{{a},{b}}')) AS r (id, a)$i$, kind);
  END LOOP;
END $$;
CREATE INDEX docs_tags ON tagged.docs USING gin (tags);
CREATE INDEX docs_tags_hash ON tagged.docs USING hash (tags);
CREATE INDEX docs_tags ON untagged.docs USING gin (tags);
RESET client_min_messages;
-- Every operator, either way, with every array, in every way to write it.
CREATE FUNCTION answers(comparison text) RETURNS TABLE (texts text, answer text) LANGUAGE sql AS $$
  SELECT a, regress.same(format('SELECT id FROM docs WHERE ' || comparison, a))
  FROM unnest('{"{a}","{a,b}","{b,a}","{}","{NULL}","{a,NULL}","{a,a}","{{a,b},{c,d}}","[0:1]={a,b}","{{{a}}}","{\"\"}","{z}","{NULL,NULL}"}'::text[]) WITH ORDINALITY AS t (a, n) ORDER BY n
$$;
SELECT * FROM answers('tags @> %L::text[]');
SELECT * FROM answers('tags <@ %L::text[]');
SELECT * FROM answers('tags && %L::text[]');
SELECT * FROM answers('tags = %L::text[]');
SELECT * FROM answers('tags <> %L::text[]');
-- The rows for which a comparison written in another way answers otherwise, in either schema, with indexes and without.
CREATE FUNCTION differences(comparison text, other text) RETURNS TABLE (kind text, scan text, texts text, answer text, other_answer text) LANGUAGE plpgsql
  SET search_path = public SET enable_seqscan = on AS $$
BEGIN
  FOR texts, answer IN SELECT * FROM answers(comparison) LOOP
    FOR kind, scan IN SELECT * FROM (VALUES ('tagged'), ('untagged')) AS k, (VALUES ('on'), ('off')) AS s LOOP
      PERFORM set_config('search_path', kind || ', public', true), set_config('enable_seqscan', scan, true);
      EXECUTE format($q$SELECT coalesce(string_agg(r::text, ' ' ORDER BY r::text), 'nothing') FROM (%s) AS r$q$,
        format('SELECT id FROM docs WHERE ' || other, texts)) INTO other_answer;
      IF other_answer <> answer THEN
        RETURN NEXT;
      END IF;
    END LOOP;
  END LOOP;
END $$;
SELECT f.way, string_agg(o.operator, ' ') AS operators, count(d.texts) AS differences
FROM (VALUES ('@>', '<@'), ('<@', '@>'), ('&&', '&&'), ('=', '='), ('<>', '<>')) AS o (operator, reversed)
CROSS JOIN (VALUES ('%2$L::text[] %3$s tags'), ('tags %1$s %2$L::varchar[]'), ('%2$L::varchar(9)[] %3$s tags'), ('tags %1$s %2$L'), ('%2$L %3$s tags'),
  ('tags %1$s (SELECT min(%2$L)::text[])'), ('(SELECT min(%2$L)::varchar[]) %3$s tags'), ('tags %1$s array_cat(texts[1:0], %2$L::text[])'),
  ('array_cat(texts[1:0], %2$L::text[]) %3$s tags'), ('tags %1$s %2$L::text[]::encrypted_text[]'), ('%2$L::varchar[]::encrypted_text[] %3$s tags'),
  ('(SELECT min(%2$L)::text[])::encrypted_text[] %3$s tags'), ('NOT tags %1$s %2$L::text[] IS NOT TRUE')) AS f (way)
LEFT JOIN LATERAL differences(format('tags %s %%L::text[]', o.operator), format(replace(f.way, '%2$L', '%2$s'), o.operator, '%L', o.reversed)) AS d ON true
GROUP BY 1 ORDER BY 1;
