-- Other functions and operators for arrays, as tools call them: with untyped constants, with text, for roles that may search or decrypt.
CALL regress.fresh();
CREATE TABLE docs (id int, tags encrypted_text(searchable)[], one encrypted_text(searchable));
INSERT INTO docs VALUES (1, '{a,b,NULL,a}', 'a');
GRANT SELECT, UPDATE ON docs TO regress_prism_app, regress_prism_reader;
SELECT prism_crypt.grant_access('regress_prism_app', 'search');
SELECT prism_crypt.grant_access('regress_prism_reader', kind) FROM unnest('{search,decrypt}'::text[]) AS kind;
CREATE FUNCTION asked(expression text) RETURNS TABLE (result text, answer text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('SELECT pg_typeof(v)::text, regress.without_ciphertext(v::text) FROM (SELECT %s AS v FROM docs) AS q', expression) INTO result, answer;
  RETURN NEXT;
EXCEPTION WHEN OTHERS THEN
  answer := SQLSTATE;
  RETURN NEXT;
END $$;
CREATE TABLE expressions (n serial, expression text);
INSERT INTO expressions (expression) VALUES
  ($$'a' = ANY (tags)$$), ($$'a'::text = ANY (tags)$$), ($$'a'::varchar <> ALL (tags)$$), ($$one = ANY (tags)$$), ($$'z'::text = ANY (tags)$$),
  ($$array_position(tags, 'b')$$), ($$array_position(tags, one)$$), ($$array_position(tags, 'b'::text)$$), ($$array_positions(tags, 'a')$$), ($$array_positions(tags, 'a'::text)$$),
  ($$array_remove(tags, 'a')$$), ($$array_remove(tags, one)$$), ($$array_remove(tags, 'a'::text)$$), ($$array_replace(tags, 'a', 'c')$$), ($$array_replace(tags, 'a'::text, 'c')$$),
  ($$array_append(tags, 'c')$$), ($$array_append(tags, one)$$), ($$array_append(tags, 'c'::text)$$), ($$array_prepend('c'::text, tags)$$), ($$tags || 'c'::text$$), ($$tags || one$$), ($$tags || '{c}'$$), ($$tags || ARRAY['c']$$),
  ($$tags || ARRAY['c']::encrypted_text[]$$), ($$tags || 'c'::encrypted_text$$), ($$array_cat(tags, ARRAY['c'])$$), ($$array_cat(tags, tags)$$),
  ($$array_position(tags, 'b'::text::encrypted_text)$$), ($$array_remove(tags, 'a'::text::encrypted_text)$$), ($$array_append(tags, 'c'::text::encrypted_text)$$),
  ($$cardinality(tags)$$), ($$array_length(tags, 1)$$), ($$array_ndims(tags)$$), ($$tags[1] = 'a'$$), ($$tags[1] = 'a'::text$$), ($$tags[2:3] = ARRAY['b', NULL]$$), ($$tags[1:2] @> ARRAY['b']$$),
  ($$array_to_string(tags, ',', '-')$$), ($$array_to_string(tags::text[], ',', '-')$$), ($$(SELECT count(*) FROM unnest(tags) AS t (v) WHERE v = 'a'::text)$$), ($$(SELECT array_agg(v) FROM unnest(tags) AS t (v) WHERE v = 'a')$$),
  ($$tags::text[]$$), ($$to_json(tags)$$);
SELECT n, expression, result, answer FROM expressions, LATERAL asked(expression) ORDER BY n;
SET prism_crypt.output = 'plaintext';
GRANT SELECT ON expressions TO regress_prism_app, regress_prism_reader;
SET ROLE regress_prism_app;
SELECT n, expression, result, answer FROM expressions, LATERAL asked(expression) ORDER BY n;
SET ROLE regress_prism_reader;
SELECT n, expression, result, answer FROM expressions, LATERAL asked(expression) ORDER BY n;
-- What is written back has the class and the tag of the column.
UPDATE docs SET tags = array_append(tags, 'c'::text);
UPDATE docs SET tags = array_remove(tags, 'b'::text) || 'd'::text;
SELECT tags::text[], (SELECT count(*) FROM unnest(tags) AS t, envelope_info(t) AS i WHERE t IS NOT NULL AND i.search_generation IS NULL) AS without_tag FROM docs WHERE tags @> ARRAY['c', 'd'];
RESET ROLE;
RESET prism_crypt.output;
