-- The plan of a migration, for people.

CREATE FUNCTION prism_crypt._explain_dependant(dependant jsonb) RETURNS SETOF text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('  %s %s%s', dependant ->> 'kind', dependant ->> 'identity', coalesce(': ' || (dependant ->> 'blocks'), ''))
  UNION ALL
  SELECT format('    %s;', dependant ->> 'unblock') WHERE dependant ->> 'unblock' IS NOT NULL
  UNION ALL
  SELECT format('    (%s)', dependant ->> 'note') WHERE dependant ->> 'note' IS NOT NULL
$$;
COMMENT ON FUNCTION prism_crypt._explain_dependant(jsonb) IS 'Lines about one thing that touches a column. Internal';

CREATE FUNCTION prism_crypt._explain_migration(plan jsonb) RETURNS SETOF text
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  one jsonb;
BEGIN
  RETURN NEXT format('%s.%I: %s becomes %s', plan ->> 'relation', plan ->> 'column', plan ->> 'old_type', plan ->> 'new_type')
    || coalesce(' by ' || (plan ->> 'using'), '');
  RETURN NEXT format('Method: %s, because %s', plan ->> 'method', plan ->> 'why');
  RETURN NEXT format('Locked: %s', plan ->> 'locked');
  RETURN NEXT format('Rows: %s in %s table(s), %s now, %s afterwards, %s in between',
                     coalesce(plan ->> 'rows', 'not known'), plan ->> 'tables',
                     pg_size_pretty((plan ->> 'bytes_now')::bigint),
                     coalesce(pg_size_pretty((plan ->> 'bytes_after')::bigint), 'not known'),
                     coalesce(pg_size_pretty((plan ->> 'bytes_peak')::bigint), 'not known'));
  RETURN NEXT format('Time: %s, WAL: %s (%s)',
                     coalesce('about ' || prism_crypt._spell_seconds((plan ->> 'seconds')::double precision), 'not known'),
                     coalesce('about ' || pg_size_pretty((plan ->> 'wal_bytes')::bigint), 'not known'), plan ->> 'basis');
  IF (plan ->> 'blocked')::boolean THEN
    RETURN NEXT 'Blocked by:';
    FOR one IN SELECT d FROM jsonb_array_elements(plan -> 'dependants') AS d WHERE NOT (d ->> 'carried_over')::boolean LOOP
      RETURN QUERY SELECT prism_crypt._explain_dependant(one);
    END LOOP;
  ELSE
    RETURN NEXT 'Nothing blocks it.';
  END IF;
  IF jsonb_path_exists(plan, '$.dependants[*] ? (@.carried_over == true)') THEN
    RETURN NEXT 'Carried over:';
    FOR one IN SELECT d FROM jsonb_array_elements(plan -> 'dependants') AS d WHERE (d ->> 'carried_over')::boolean LOOP
      RETURN QUERY SELECT prism_crypt._explain_dependant(one);
    END LOOP;
  END IF;
  IF plan -> 'roles' <> '[]' THEN
    RETURN NEXT 'Roles that would see ciphertext, or errors:';
    FOR one IN SELECT r FROM jsonb_array_elements(plan -> 'roles') AS r LOOP
      RETURN NEXT format('  %s %s %s', one ->> 'role',
        concat_ws(' and ', CASE WHEN (one ->> 'reads')::boolean THEN 'reads' END,
                  CASE WHEN (one ->> 'writes')::boolean THEN 'writes' END),
        (SELECT string_agg(t, ', ') FROM jsonb_array_elements_text(one -> 'through') AS t))
        || coalesce(', lacks ' || (SELECT string_agg(l, ', ') FROM jsonb_array_elements_text(one -> 'lacks') AS l), '');
      RETURN QUERY SELECT format('    %s;', s) FROM jsonb_array_elements_text(one -> 'sql') AS s;
    END LOOP;
  END IF;
  RETURN NEXT 'To know:';
  RETURN QUERY SELECT format('  %s', n) FROM jsonb_array_elements_text(plan -> 'notes') AS n;
END $$;
COMMENT ON FUNCTION prism_crypt._explain_migration(jsonb) IS 'A plan as lines of text. Internal';

CREATE FUNCTION prism_crypt.explain_migration(relation regclass, column_name name, type text, using_expression text DEFAULT NULL)
  RETURNS SETOF text
  LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  RETURN QUERY SELECT prism_crypt._explain_migration(prism_crypt.plan_migration(relation, column_name, type, using_expression));
END $$;
COMMENT ON FUNCTION prism_crypt.explain_migration(regclass, name, text, text) IS 'The same as plan_migration(), for people';
