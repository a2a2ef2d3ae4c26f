-- Encrypted files into tables.

-- Makes the table that a file describes. Whatever the file says is parsed first, and nothing runs that another role could have left here.
CREATE FUNCTION prism_crypt._make_table_of_file(columns jsonb, named text) RETURNS regclass
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
  used text;
  definitions text[] := '{}';
  plain text[] := '{}';
BEGIN
  FOR one IN
    SELECT c.name, c.not_null, c.identity, c.generated, c.expression, s.*, t.type AS type_oid, format_type(t.type, t.modifier) AS type,
           prism_crypt._collation_name(c."collation"::regcollation) AS collation_name
    FROM jsonb_to_recordset(columns) AS c (
      name name, type text, "collation" text, not_null boolean, identity text, sequence jsonb, generated text, expression text)
    CROSS JOIN LATERAL prism_crypt._type_of(c.type) AS t
    CROSS JOIN LATERAL jsonb_to_record(coalesce(c.sequence, '{}')) AS s (
      start bigint, increment bigint, minimum bigint, maximum bigint, cache bigint, cycle boolean)
  LOOP
    used := prism_crypt._domain_of_others(one.type_oid);
    IF used IS NOT NULL THEN
      RAISE insufficient_privilege USING
        MESSAGE = format('column "%s" of the file has %s, which belongs to another role', one.name, used),
        HINT = 'If you trust it, make the table yourself, and import with mode => ''append''.';
    END IF;
    plain := plain || format('%I %s%s', one.name, one.type, ' COLLATE ' || one.collation_name);
    definitions := definitions || (plain[cardinality(plain)]
      || CASE WHEN one.not_null THEN ' NOT NULL' ELSE '' END
      || CASE WHEN one.identity IN ('always', 'by default') THEN format(' GENERATED %s AS IDENTITY%s', upper(one.identity),
           ' (' || nullif(concat_ws(' ', 'START WITH ' || one.start, 'INCREMENT BY ' || one.increment, 'MINVALUE ' || one.minimum, 'MAXVALUE ' || one.maximum,
             'CACHE ' || one.cache, CASE WHEN one.cycle THEN 'CYCLE' END), '') || ')') ELSE '' END
      || CASE WHEN one.generated IN ('stored', 'virtual') THEN format(E' GENERATED ALWAYS AS (%s\n) %s', one.expression,
           -- PostgreSQL has virtual ones since 18.
           CASE WHEN one.generated = 'virtual' AND current_setting('server_version_num')::integer >= 180000 THEN 'VIRTUAL' ELSE 'STORED' END) ELSE '' END);
  END LOOP;
  PERFORM prism_crypt._require_trusted_columns(columns, named, array_to_string(plain, ', '));
  EXECUTE format('CREATE TABLE %s (%s)', named, array_to_string(definitions, ', '));
  FOR one IN
    SELECT c.name, c.expression FROM jsonb_to_recordset(columns) AS c (name name, generated text, expression text)
    WHERE c.generated IS NULL AND c.expression IS NOT NULL
  LOOP
    IF NOT prism_crypt._constants_open(one.expression) THEN
      RAISE WARNING 'column "%" gets no default: the keys of this database do not open the constant in it', one.name;
      CONTINUE;
    END IF;
    used := prism_crypt._named_of_others(one.expression);
    BEGIN
      IF used IS NULL THEN
        EXECUTE format(E'ALTER TABLE %s ALTER COLUMN %I SET DEFAULT (%s\n)', named, one.name, one.expression);
        SELECT prism_crypt._used_of_others('pg_attrdef', d.oid) INTO used
        FROM pg_attrdef AS d JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE d.adrelid = named::regclass AND a.attname = one.name;
        IF used IS NOT NULL THEN
          EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT', named, one.name);
        END IF;
      END IF;
      IF used IS NOT NULL THEN
        RAISE WARNING 'column "%" gets no default: it would use %, which an import does not run', one.name, used;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      RAISE WARNING 'column "%" gets no default: %', one.name, SQLERRM;
    END;
  END LOOP;
  PERFORM setval(pg_get_serial_sequence(named, c.name)::regclass, s.last, coalesce(s.called, true))
  FROM jsonb_to_recordset(columns) AS c (name text, identity text, sequence jsonb) CROSS JOIN LATERAL jsonb_to_record(c.sequence) AS s (last bigint, called boolean)
  WHERE c.identity IN ('always', 'by default') AND s.last IS NOT NULL;
  RETURN named::regclass;
END $$;
COMMENT ON FUNCTION prism_crypt._make_table_of_file(jsonb, text) IS 'Makes the table that a file describes. Internal';

-- The numbers of the columns that a file has fields for, in its order.
CREATE FUNCTION prism_crypt._columns_to_load(columns jsonb, relation regclass) RETURNS smallint[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  numbers smallint[] := '{}';
  one record;
BEGIN
  FOR one IN
    SELECT c.name, a.attnum, c.encrypted = 'opened' AND NOT (kind.value OR kind.elements) AS shows
    FROM ROWS FROM (jsonb_to_recordset(columns) AS (name name, encrypted text, generated text)) WITH ORDINALITY AS c (name, encrypted, generated, number)
    LEFT JOIN pg_attribute AS a ON a.attrelid = relation AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN LATERAL prism_crypt._is_plain_encrypted(a.atttypid) AS kind ON true
    WHERE c.generated IS NULL ORDER BY c.number
  LOOP
    IF one.attnum IS NULL THEN
      RAISE undefined_column USING MESSAGE = format('column "%s" of table %s does not exist', one.name, prism_crypt._qualified_name(relation));
    ELSIF one.shows AND NOT prism_crypt._may_call(current_user::regrole, 'decrypt_field') THEN
      RAISE insufficient_privilege USING
        MESSAGE = format('column "%s" of table %s would show what is encrypted', one.name, prism_crypt._qualified_name(relation)),
        HINT = 'It must have type encrypted_text, or an array of it. Roles with access decrypt may import it into any type.';
    END IF;
    numbers := numbers || one.attnum;
  END LOOP;
  RETURN numbers;
END $$;
COMMENT ON FUNCTION prism_crypt._columns_to_load(jsonb, regclass) IS 'The columns that an import fills. Internal';

CREATE FUNCTION prism_crypt._require_empty(relation oid) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_filled boolean;
BEGIN
  EXECUTE format('SELECT EXISTS (SELECT FROM %s)', prism_crypt._qualified_name(relation::regclass)) INTO is_filled;
  IF is_filled THEN
    RAISE object_not_in_prerequisite_state USING
      MESSAGE = format('table %s is not empty', prism_crypt._qualified_name(relation::regclass)), HINT = 'mode => ''append'' adds rows to it.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_empty(oid) IS 'Raises an error if a table has rows. Internal';

-- Whatever a file has instead of a definition, it is told of in one way.
CREATE FUNCTION prism_crypt._read_definition(definition text) RETURNS jsonb
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  described jsonb;
BEGIN
  BEGIN
    described := definition;
  EXCEPTION WHEN invalid_text_representation THEN
    described := NULL;
  END;
  IF (jsonb_typeof(described) = 'object' AND jsonb_typeof(described -> 'collection') = 'string' AND jsonb_typeof(described -> 'columns') = 'array'
      AND NOT jsonb_path_exists(described, 'strict $.columns[*] ? (!(@.type() == "object" && exists(@.name ? (@.type() == "string")) && exists(@.type ? (@.type() == "string"))))'))
     IS NOT TRUE THEN
    RAISE bad_copy_file_format USING MESSAGE = 'the file does not begin with the definition of a table';
  END IF;
  RETURN described;
END $$;
COMMENT ON FUNCTION prism_crypt._read_definition(text) IS 'The definition that a file begins with. Internal';

-- The table that a file goes into, on the path of the caller.
CREATE FUNCTION prism_crypt._import_target(definition text, target text, mode text) RETURNS regclass
  LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_variable
DECLARE
  described CONSTANT pg_catalog.jsonb := prism_crypt._read_definition(definition);
  parts pg_catalog.text[];
BEGIN
  IF mode IS NULL OR mode OPERATOR(pg_catalog.<>) ALL (ARRAY['new', 'empty', 'append']) THEN
    RAISE invalid_parameter_value USING MESSAGE = 'mode must be new, empty or append';
  END IF;
  target := COALESCE(target, described OPERATOR(pg_catalog.->>) 'collection');
  IF mode OPERATOR(pg_catalog.<>) 'new' THEN
    RETURN target::pg_catalog.regclass;
  END IF;
  parts := pg_catalog.parse_ident(target);
  IF pg_catalog.cardinality(parts) OPERATOR(pg_catalog.=) 1 THEN
    parts := pg_catalog.array_prepend(pg_catalog.current_schema()::pg_catalog.text, parts);
  END IF;
  IF pg_catalog.cardinality(parts) OPERATOR(pg_catalog.<>) 2 OR parts[1] IS NULL THEN
    RAISE invalid_name USING MESSAGE = pg_catalog.format('"%s" is not the name of a table', target);
  END IF;
  RETURN prism_crypt._make_table_of_file(described OPERATOR(pg_catalog.->) 'columns', pg_catalog.format('%I.%I', parts[1], parts[2]));
END $$;
COMMENT ON FUNCTION prism_crypt._import_target(text, text, text) IS 'The table that a file goes into. Internal';

CREATE FUNCTION prism_crypt._import_columns(definition text, relation oid, OUT columns smallint[], OUT opened boolean, OUT key_versions integer[])
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._columns_to_load(d -> 'columns', $2::regclass), NOT jsonb_path_exists(d, '$.columns[*] ? (@.encrypted == "ciphertext")'),
         ARRAY(SELECT v::integer FROM jsonb_path_query(d, '$.key_versions[*] ? (@ >= 1 && @ <= 2147483647)') AS v)
  FROM prism_crypt._read_definition($1) AS d
$$;
COMMENT ON FUNCTION prism_crypt._import_columns(text, oid) IS 'Which columns of a table a file fills, and which key versions its ciphertext needs. Internal';

CREATE FUNCTION prism_crypt.import_encrypted(input_path text, key text DEFAULT NULL, target text DEFAULT NULL, mode text DEFAULT 'new')
  RETURNS jsonb
  LANGUAGE plpgsql VOLATILE
  SET DateStyle = 'ISO' SET IntervalStyle = 'postgres' SET xmloption = 'content' SET array_nulls = on AS $$
DECLARE
  done pg_catalog.record;
BEGIN
  IF input_path IS NULL OR mode IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'input_path and mode must not be null';
  END IF;
  SELECT r.relation, r.rows, r.bytes INTO STRICT done FROM prism_crypt._import_rows(input_path, NULL, key, target, mode) AS r;
  RETURN pg_catalog.jsonb_build_object(
    'success', true, 'collection', prism_crypt._qualified_name(done.relation::pg_catalog.regclass), 'rows', done.rows,
    'bytes_extracted', done.bytes, 'files_extracted', 1);
END $$;
COMMENT ON FUNCTION prism_crypt.import_encrypted(text, text, text, text) IS
  'Reads an encrypted file of the server into a new table, an empty one, or one that gets more rows';

CREATE FUNCTION prism_crypt.import_stream(chunks text, key text DEFAULT NULL, target text DEFAULT NULL, mode text DEFAULT 'new')
  RETURNS jsonb
  LANGUAGE plpgsql VOLATILE
  SET DateStyle = 'ISO' SET IntervalStyle = 'postgres' SET xmloption = 'content' SET array_nulls = on AS $$
DECLARE
  done pg_catalog.record;
BEGIN
  IF chunks IS NULL OR mode IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'chunks and mode must not be null';
  ELSIF chunks OPERATOR(pg_catalog.!~) '^[[:space:]]*[(]' THEN
    chunks := pg_catalog.format('(SELECT chunk FROM %s ORDER BY number)', prism_crypt._qualified_name(chunks::pg_catalog.regclass));
  END IF;
  SELECT r.relation, r.rows, r.bytes INTO STRICT done FROM prism_crypt._import_rows(NULL, chunks, key, target, mode) AS r;
  RETURN pg_catalog.jsonb_build_object(
    'success', true, 'collection', prism_crypt._qualified_name(done.relation::pg_catalog.regclass), 'rows', done.rows,
    'bytes_extracted', done.bytes, 'files_extracted', 1);
END $$;
COMMENT ON FUNCTION prism_crypt.import_stream(text, text, text, text) IS
  'Reads the pieces of an encrypted file from a table with columns number and chunk, or from a query in parentheses that gives them in their order';
