-- What a file may say of its table: nothing runs that another role could have left here.

-- Whose functions may run when a file is imported: the importer's own, and those of superusers, as all of PostgreSQL's and of extensions are.
CREATE FUNCTION prism_crypt._is_trusted(owner oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.rolsuper OR r.rolname = current_user FROM pg_roles AS r WHERE r.oid = $1
$$;
COMMENT ON FUNCTION prism_crypt._is_trusted(oid) IS 'Whether objects of a role may be used by what a file says. Internal';

-- A file may name a domain that is there already, and whose checks run for each value.
CREATE FUNCTION prism_crypt._domain_of_others(type oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE parts (type) AS (
    SELECT $1
    UNION
    SELECT step.type
    FROM parts AS p CROSS JOIN LATERAL (
      SELECT t.typbasetype FROM pg_type AS t WHERE t.oid = p.type AND t.typtype = 'd'
      UNION ALL
      SELECT t.typelem FROM pg_type AS t WHERE t.oid = p.type AND t.typelem <> 0
      UNION ALL
      SELECT r.rngsubtype FROM pg_range AS r WHERE p.type IN (r.rngtypid, r.rngmultitypid)
      UNION ALL
      SELECT a.atttypid FROM pg_type AS t JOIN pg_attribute AS a ON a.attrelid = t.typrelid
      WHERE t.oid = p.type AND t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
    ) AS step (type)
  )
  SELECT format('domain %s', format_type(t.oid, NULL)) FROM parts AS p JOIN pg_type AS t ON t.oid = p.type
  WHERE t.typtype = 'd' AND NOT prism_crypt._is_trusted(t.typowner) ORDER BY 1 LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._domain_of_others(oid) IS 'The first domain of another role among the parts of a type. Internal';

-- Whether a function does nothing but compute: some of PostgreSQL's own run any SQL that they are given.
CREATE FUNCTION prism_crypt._only_computes(function oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._is_trusted(p.proowner) AND (p.provolatile = 'i' OR EXISTS (SELECT FROM pg_cast AS c WHERE c.castfunc = p.oid)
    OR p.pronamespace = 'pg_catalog'::regnamespace AND (
    p.proname IN ('now', 'transaction_timestamp', 'statement_timestamp', 'clock_timestamp', 'timeofday', 'random', 'random_normal', 'gen_random_uuid', 'uuidv4', 'uuidv7',
                  'nextval', 'current_database', 'current_schema', 'age', 'date_part', 'extract', 'date_trunc', 'timezone', 'to_char', 'to_date', 'to_timestamp',
                  'make_timestamptz', 'concat', 'concat_ws', 'format', 'to_json', 'to_jsonb', 'array_to_string', 'pg_current_xact_id', 'inet_client_addr')
    OR p.provolatile = 's' AND EXISTS (SELECT FROM pg_operator AS o WHERE o.oprcode = p.oid)))
  FROM pg_proc AS p WHERE p.oid = $1
$$;
COMMENT ON FUNCTION prism_crypt._only_computes(oid) IS 'Whether what a file says may call a function. Internal';

-- The first type, function or operator that an expression names and that should not run, also if only one of that name is such. Before the expression is
-- analysed: that reads its literals. Of PostgreSQL's own functions of a name, some may depend on a setting where others do not.
CREATE FUNCTION prism_crypt._named_of_others(expression text) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT pg_describe_object(o.class, o.object, 0)
  FROM prism_crypt._names_in_expression($1) AS n
  -- What has no schema is PostgreSQL's own: on this path no other function is found without one.
  JOIN pg_namespace AS s ON s.nspname = coalesce(n.schema, 'pg_catalog')
  CROSS JOIN LATERAL (
    SELECT 'pg_proc'::regclass, p.oid FROM pg_proc AS p
    WHERE n.kind = 'function' AND p.pronamespace = s.oid AND p.proname = n.name AND NOT prism_crypt._only_computes(p.oid)
      AND (s.nspname <> 'pg_catalog' OR p.provolatile = 'v' OR NOT EXISTS (
        SELECT FROM pg_proc AS same WHERE same.pronamespace = s.oid AND same.proname = p.proname AND prism_crypt._only_computes(same.oid)))
    UNION ALL
    SELECT 'pg_operator'::regclass, p.oid FROM pg_operator AS p
    WHERE n.kind = 'operator' AND p.oprnamespace = s.oid AND p.oprname = n.name
      AND NOT (prism_crypt._is_trusted(p.oprowner) AND prism_crypt._only_computes(p.oprcode))
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid FROM pg_type AS t
    WHERE n.kind IN ('type', 'function') AND t.typnamespace = s.oid AND t.typname = n.name AND prism_crypt._domain_of_others(t.oid) IS NOT NULL
  ) AS o (class, object)
  ORDER BY 1 LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._named_of_others(text) IS 'What an expression names that must not run for an import. Internal';

-- The same of what it uses, once it is analysed: casts are not named. What PostgreSQL itself has is not in pg_depend.
CREATE FUNCTION prism_crypt._used_of_others(class regclass, object oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT pg_describe_object(d.refclassid, d.refobjid, 0)
  FROM pg_depend AS d
  LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
  WHERE d.classid = $1 AND d.objid = $2 AND CASE d.refclassid
    WHEN 'pg_proc'::regclass THEN NOT prism_crypt._only_computes(d.refobjid)
    WHEN 'pg_operator'::regclass THEN NOT (prism_crypt._is_trusted(o.oprowner) AND prism_crypt._only_computes(o.oprcode))
    WHEN 'pg_type'::regclass THEN prism_crypt._domain_of_others(d.refobjid) IS NOT NULL
    ELSE false END
  ORDER BY 1 LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._used_of_others(regclass, oid) IS 'What an expression uses that must not run for an import. Internal';

-- Tries the expressions of generated columns as constraints, which only parses them. Making the column itself could run parts of it.
CREATE FUNCTION prism_crypt._require_trusted_columns(columns jsonb, named text, plain text) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
  used text;
  is_made boolean := false;
BEGIN
  FOR one IN
    SELECT c.name, c.expression FROM jsonb_to_recordset(columns) AS c (name name, generated text, expression text)
    WHERE c.generated IN ('stored', 'virtual')
  LOOP
    used := prism_crypt._named_of_others(one.expression);
    IF NOT is_made AND used IS NULL THEN
      EXECUTE format('CREATE TABLE %s (%s)', named, plain);
      is_made := true;
    END IF;
    IF used IS NULL THEN
      EXECUTE format(E'ALTER TABLE %s ADD CONSTRAINT trial CHECK (((%s\n)) IS NOT NULL) NOT VALID', named, one.expression);
      SELECT prism_crypt._used_of_others('pg_constraint', c.oid) INTO used
      FROM pg_constraint AS c WHERE c.conrelid = named::regclass AND c.conname = 'trial';
    END IF;
    IF used IS NOT NULL THEN
      RAISE insufficient_privilege USING
        MESSAGE = format('column "%s" of the file is generated by %s, which an import does not run', one.name, used),
        HINT = 'If you trust it, make the table yourself, and import with mode => ''append''.';
    END IF;
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT trial', named);
  END LOOP;
  IF is_made THEN
    EXECUTE format('DROP TABLE %s', named);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._require_trusted_columns(jsonb, text, text) IS
  'Raises an error if a generated column of a file uses what belongs to another role. Internal';
