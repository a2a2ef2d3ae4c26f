-- Views and materialized views that show a column: dropped, and made again with everything that they have.

-- What ALTER DEFAULT PRIVILEGES gives to a new table of the current role is taken away again.
CREATE FUNCTION prism_crypt._without_default_grants(schema oid, target text) RETURNS text[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT ARRAY(
    SELECT DISTINCT format('REVOKE ALL ON TABLE %s FROM %s', $2, prism_crypt._grantee(a.grantee))
    FROM pg_default_acl AS d CROSS JOIN aclexplode(d.defaclacl) AS a
    WHERE d.defaclobjtype = 'r' AND d.defaclrole = current_user::regrole AND d.defaclnamespace IN (0, $1)
      AND a.grantee <> d.defaclrole)
$$;
COMMENT ON FUNCTION prism_crypt._without_default_grants(oid, text) IS 'What takes default privileges away. Internal';

CREATE FUNCTION prism_crypt._view_columns(view pg_class, named text, altered text) RETURNS text[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
  statements text[] := '{}';
BEGIN
  FOR one IN
    SELECT a.attnum, a.attname, a.attacl, d.oid AS default_oid
    FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = view.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
  LOOP
    IF one.default_oid IS NOT NULL THEN
      statements := statements || format('%s ALTER COLUMN %I SET DEFAULT %s', altered, one.attname,
                                         prism_crypt._definition('default', one.default_oid, 'pg_catalog, pg_temp'));
    END IF;
    statements := statements
      || CASE WHEN view.relkind = 'm' THEN prism_crypt._column_settings(view.oid, one.attnum, altered, true) ELSE '{}' END
      || prism_crypt._remarks('pg_class', view.oid, one.attnum, format('COLUMN %s.%I', named, one.attname))
      || prism_crypt._grants(one.attacl, view.relowner, named, quote_ident(one.attname));
  END LOOP;
  RETURN statements;
END $$;
COMMENT ON FUNCTION prism_crypt._view_columns(pg_class, text, text) IS
  'What gives the columns of a view their defaults, rights and comments again. Internal';

CREATE FUNCTION prism_crypt._view_indexes(view oid) RETURNS text[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  path CONSTANT text := 'pg_catalog, pg_temp';
  one record;
  named text;
  statements text[] := '{}';
BEGIN
  FOR one IN
    SELECT i.indexrelid, i.indisclustered, c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE i.indrelid = view ORDER BY c.relname
  LOOP
    named := prism_crypt._qualified_name(one.indexrelid);
    statements := statements
      || prism_crypt._with_tablespace(prism_crypt._definition('index', one.indexrelid, path), one.indexrelid,
                                      prism_crypt._definition('predicate', one.indexrelid, path))
      || prism_crypt._index_settings(one.indexrelid, named)
      || CASE WHEN one.indisclustered
              THEN ARRAY[format('ALTER MATERIALIZED VIEW %s CLUSTER ON %I', prism_crypt._qualified_name(view), one.relname)]
              ELSE '{}' END;
  END LOOP;
  RETURN statements;
END $$;
COMMENT ON FUNCTION prism_crypt._view_indexes(oid) IS 'What gives a materialized view its indexes again. Internal';

-- A temporary table for a materialized view, because those are never temporary. It gets the indexes, too, if it can have the same
-- owner: PostgreSQL computes their expressions with the owner's rights.
CREATE FUNCTION prism_crypt._view_trial(own pg_class, trial_path text) RETURNS text[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  definition CONSTANT text := rtrim(prism_crypt._definition('view', own.oid, trial_path), ';');
  is_own CONSTANT boolean := own.relowner = current_user::regrole;
  trial text[];
BEGIN
  IF NOT prism_crypt._is_bare(own.oid, trial_path) THEN
    RETURN NULL;
  ELSIF own.relkind = 'v' THEN
    RETURN ARRAY[format('CREATE TEMPORARY VIEW %I AS %s', own.relname, definition)];
  END IF;
  trial := ARRAY[format('CREATE TEMPORARY TABLE %I AS %s WITH NO DATA', own.relname, definition)];
  IF is_own OR prism_crypt._is_superuser() THEN
    trial := trial
      || CASE WHEN is_own THEN '{}'
              ELSE ARRAY[format('ALTER TABLE pg_temp.%I OWNER TO %I', own.relname, pg_get_userbyid(own.relowner))] END
      || ARRAY(SELECT prism_crypt._definition('index', i.indexrelid, trial_path) FROM pg_index AS i WHERE i.indrelid = own.oid);
  END IF;
  RETURN trial;
END $$;
COMMENT ON FUNCTION prism_crypt._view_trial(pg_class, text) IS 'What makes a view in the temporary schema. Internal';

CREATE FUNCTION prism_crypt._view_dependant(view oid, trial_path text) RETURNS prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  path CONSTANT text := 'pg_catalog, pg_temp';
  own pg_class;
  word text;
  named CONSTANT text := prism_crypt._qualified_name(view);
  answer prism_crypt._dependant;
  extension CONSTANT name := prism_crypt._extension_of('pg_class', view);
BEGIN
  SELECT * INTO own FROM pg_class WHERE oid = view;
  word := CASE own.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END;
  answer.kind := lower(word);
  answer.identity := named;
  answer.class := 'pg_class';
  answer.object := view;
  answer.drops := ARRAY[format('DROP %s %s', word, named)];
  -- A materialized view belongs to its owner before anything is computed for it.
  answer.creates := ARRAY[format('CREATE %s %s%s%s%s AS %s%s', word, named,
      CASE WHEN own.relkind = 'm' THEN (SELECT format(' USING %I', m.amname) FROM pg_am AS m WHERE m.oid = own.relam) END,
      ' WITH (' || prism_crypt._options(own.reloptions) || ')',
      (SELECT format(' TABLESPACE %I', t.spcname) FROM pg_tablespace AS t WHERE t.oid = own.reltablespace),
      rtrim(prism_crypt._definition('view', view, path), ';'),
      CASE WHEN own.relkind = 'm' THEN ' WITH NO DATA' END)]
    || CASE WHEN own.relowner <> current_user::regrole
            THEN ARRAY[format('ALTER %s %s OWNER TO %I', word, named, pg_get_userbyid(own.relowner))] ELSE '{}' END
    || prism_crypt._without_default_grants(own.relnamespace, named)
    || CASE WHEN own.relacl IS NOT NULL
            THEN ARRAY[format('REVOKE ALL ON TABLE %s FROM %I', named, pg_get_userbyid(own.relowner))]
                 || prism_crypt._grants(own.relacl, own.relowner, named) ELSE '{}' END
    || prism_crypt._view_columns(own, named, format('ALTER %s %s', word, named))
    || prism_crypt._remarks('pg_class', view, 0, format('%s %s', word, named))
    || CASE WHEN own.relkind = 'm' THEN prism_crypt._view_indexes(view) ELSE '{}' END
    || CASE WHEN own.relkind = 'm' AND own.relispopulated THEN ARRAY[format('REFRESH MATERIALIZED VIEW %s', named)] ELSE '{}' END;
  answer.trial := prism_crypt._view_trial(own, trial_path);
  IF own.relkind = 'm' AND own.relispopulated THEN
    answer.note := format('it is filled again while the table is locked, with the rights of its owner "%s"',
                          pg_get_userbyid(own.relowner));
  END IF;
  IF own.relpersistence = 't' THEN
    answer.blocks := 'it is a temporary view of a session';
    answer.unblock := answer.drops[1];
  ELSIF extension IS NOT NULL THEN
    answer.blocks := format('it belongs to extension "%s"', extension);
    answer.unblock := format('ALTER EXTENSION %I DROP %s %s', extension, word, named);
  ELSE
    answer.blocks := prism_crypt._owner_block(own.relowner);
    IF answer.blocks IS NULL AND NOT has_schema_privilege(own.relnamespace, 'CREATE') THEN
      answer.blocks := format('role "%s" may not create anything in schema "%s"', current_user, own.relnamespace::regnamespace);
      answer.unblock := format('GRANT CREATE ON SCHEMA %s TO %I', own.relnamespace::regnamespace, current_user);
    ELSIF answer.blocks IS NULL AND NOT has_schema_privilege(own.relowner, own.relnamespace, 'CREATE') THEN
      answer.blocks := format('its owner "%s" may not create anything in schema "%s"', pg_get_userbyid(own.relowner),
                              own.relnamespace::regnamespace);
      answer.unblock := format('GRANT CREATE ON SCHEMA %s TO %I', own.relnamespace::regnamespace, pg_get_userbyid(own.relowner));
    END IF;
  END IF;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._view_dependant(oid, text) IS 'How a view is dropped and made again. Internal';
