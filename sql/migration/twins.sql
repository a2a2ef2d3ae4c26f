-- The indexes and constraints for a twin column, table by table.

-- What an index has once it is called as the old one was: settings, comments, marks.
CREATE FUNCTION prism_crypt._twin_index_marks(answer prism_crypt._twin_definition, one record) RETURNS text[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  named CONSTANT text := prism_crypt._qualified_name(answer.member);
BEGIN
  RETURN prism_crypt._index_settings(one.indexrelid, prism_crypt._qualified_name(one.indexrelid))
    || prism_crypt._remarks('pg_constraint', one.constraint_oid, 0, format('CONSTRAINT %I ON %s', answer.old_name, named))
    || CASE WHEN one.indisclustered THEN ARRAY[format('ALTER TABLE %s CLUSTER ON %I', named, answer.old_name)] ELSE '{}' END
    || CASE WHEN one.indisreplident
            THEN ARRAY[format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', named, answer.old_name)] ELSE '{}' END;
END $$;
COMMENT ON FUNCTION prism_crypt._twin_index_marks(prism_crypt._twin_definition, record) IS
  'What gives an index its settings, comments and marks again. Internal';

-- Without its collation, where ALTER TABLE ... TYPE can't convert it.
CREATE FUNCTION prism_crypt._twin_index_rewrite(answer prism_crypt._twin_definition, one record, copy_index oid)
  RETURNS prism_crypt._twin_definition
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  named CONSTANT text := prism_crypt._qualified_name(answer.member);
BEGIN
  -- A part of a partitioned index goes and comes with it.
  IF answer.parent IS NOT NULL THEN
    RETURN answer;
  END IF;
  answer.rewrite_drops := ARRAY[CASE WHEN answer.kind = 'index'
    THEN format('DROP INDEX %s', prism_crypt._qualified_name(one.indexrelid))
    ELSE format('ALTER TABLE %s DROP CONSTRAINT %I', named, answer.old_name) END];
  answer.rewrite_creates := CASE WHEN answer.kind <> 'index' AND one.relkind = 'I'
      THEN ARRAY[format('ALTER TABLE %s ADD CONSTRAINT %I %s', named, answer.old_name, one.definition)]
      ELSE ARRAY[prism_crypt._with_tablespace(
        format('CREATE %sINDEX %I ON %s%s', CASE WHEN one.indisunique THEN 'UNIQUE ' ELSE '' END, answer.old_name, named,
               prism_crypt._index_tail(copy_index)),
        one.indexrelid, prism_crypt._definition('predicate', copy_index, 'pg_catalog, pg_temp'))] END
    || CASE WHEN answer.kind <> 'index' AND one.relkind = 'i'
            THEN ARRAY[format('ALTER TABLE %s ADD CONSTRAINT %I %s USING INDEX %I%s', named, answer.old_name, upper(answer.kind),
                              answer.old_name, one.deferral)] ELSE '{}' END
    || prism_crypt._twin_index_marks(answer, one);
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._twin_index_rewrite(prism_crypt._twin_definition, record, oid) IS
  'How an index is made again after its column was rewritten. Internal';

-- How an index is built for the twin, and takes the place of the old one. A partitioned index is made empty; the parts are attached
-- to it. ADD CONSTRAINT ... USING INDEX does not work for a partitioned table, so its constraint is added to ONLY it.
CREATE FUNCTION prism_crypt._twin_index(
  answer prism_crypt._twin_definition, one record, copy_index oid, copy_constraint text
) RETURNS prism_crypt._twin_definition
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  named CONSTANT text := prism_crypt._qualified_name(answer.member);
  schema CONSTANT text := (SELECT quote_ident(n.nspname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                           WHERE c.oid = answer.member);
  new_index CONSTANT text := schema || '.' || quote_ident(answer.new_name);
  old_index CONSTANT text := schema || '.' || quote_ident(answer.old_name);
  create_index text;
  add_constraint text;
  attach text[] := ARRAY(
    SELECT format('ALTER INDEX %I.%I ATTACH PARTITION %s', n.nspname,
                  -- That of a primary key has its name back by then.
                  CASE answer.kind WHEN 'primary key' THEN c.relname ELSE prism_crypt._side_name('prism_crypt_new_', c.relname) END,
                  new_index)
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = answer.parent);
BEGIN
  create_index := prism_crypt._with_tablespace(
    format('CREATE %sINDEX %s%I ON %s%s%s', CASE WHEN one.indisunique THEN 'UNIQUE ' ELSE '' END,
           CASE WHEN one.relkind = 'i' THEN 'CONCURRENTLY ' ELSE '' END, answer.new_name,
           CASE WHEN one.relkind = 'i' THEN '' ELSE 'ONLY ' END, named, prism_crypt._index_tail(copy_index)),
    one.indexrelid, prism_crypt._definition('predicate', copy_index, 'pg_catalog, pg_temp'));
  IF answer.kind = 'index' THEN
    answer.build := create_index || attach;
  ELSIF one.relkind = 'i' THEN
    add_constraint := format('ALTER TABLE ONLY %s ADD CONSTRAINT %I %s USING INDEX %I%s', named, answer.new_name,
                             upper(answer.kind), answer.new_name, one.deferral);
    answer.build := ARRAY[create_index];
  ELSE
    -- A primary key is added when the twin has the column's name.
    add_constraint := format('ALTER TABLE ONLY %s ADD CONSTRAINT %I %s', named, answer.new_name,
                             CASE answer.kind WHEN 'primary key' THEN one.definition ELSE copy_constraint END);
    answer.build := '{}';
  END IF;
  IF answer.kind = 'primary key' THEN
    -- There is only one. Dropping it drops the parts of it.
    answer.swap := CASE WHEN answer.parent IS NULL
                        THEN ARRAY[format('ALTER TABLE %s DROP CONSTRAINT %I', named, answer.old_name)] ELSE '{}' END
      || add_constraint || attach;
  ELSE
    answer.build := answer.build || CASE WHEN add_constraint IS NULL THEN '{}' ELSE add_constraint || attach END;
    -- Dropping a partitioned index drops the parts of it.
    answer.swap := CASE WHEN answer.parent IS NOT NULL THEN '{}'
                        WHEN answer.kind = 'index' THEN ARRAY[format('DROP INDEX %s', old_index)]
                        ELSE ARRAY[format('ALTER TABLE %s DROP CONSTRAINT %I', named, answer.old_name)] END;
  END IF;
  answer.swap := answer.swap || format('ALTER INDEX %s RENAME TO %I', new_index, answer.old_name)
    || prism_crypt._twin_index_marks(answer, one);
  IF one.indisreplident THEN
    answer.note := 'it is the replica identity: subscribers need the twin column and this index, too';
  END IF;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._twin_index(prism_crypt._twin_definition, record, oid, text) IS
  'How an index is built for a twin column. Internal';

-- Everything of one table. It leaves nothing behind: the copy is undone.
CREATE FUNCTION prism_crypt._twins_of_table(
  member oid, attnum smallint, column_name name, new_type text, twin name, OUT definitions prism_crypt._twin_definition[]
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
#variable_conflict use_variable
DECLARE
  named CONSTANT text := prism_crypt._qualified_name(member);
  schema CONSTANT text := (SELECT quote_ident(n.nspname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                           WHERE c.oid = member);
  copy regclass;
  one record;
  tried record;
  answer prism_crypt._twin_definition;
  done boolean := false;
BEGIN
  definitions := ARRAY(SELECT d FROM prism_crypt._twin_not_null(member, attnum, twin) AS d);
  copy := prism_crypt._make_copy(member, column_name, new_type, false);
  FOR one IN
    SELECT c.oid, c.conname, c.convalidated, prism_crypt._definition('constraint', c.oid, 'pg_catalog, pg_temp') AS definition,
           coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true) AS is_enforced
    FROM pg_constraint AS c
    WHERE c.conrelid = member AND c.contype = 'c' AND attnum = ANY (c.conkey) AND c.coninhcount = 0 ORDER BY c.conname
  LOOP
    answer := NULL;
    answer.kind := 'check';
    answer.member := member;
    answer.old_oid := one.oid;
    answer.old_name := one.conname;
    -- Not valid, so that nothing is computed.
    answer.blocks := prism_crypt._try(
      ARRAY[format('ALTER TABLE %s ADD CONSTRAINT prism_crypt_trial %s%s', copy, one.definition,
                   CASE WHEN one.convalidated THEN ' NOT VALID' ELSE '' END)], 'pg_catalog, pg_temp');
    IF answer.blocks IS NULL THEN
      EXECUTE format('ALTER TABLE %s DROP CONSTRAINT prism_crypt_trial', copy);
      -- The old one has checked the values. While it does, writers need no rights to the new values.
      answer.build := '{}';
      answer.swap := ARRAY[format('ALTER TABLE %s DROP CONSTRAINT %I', named, one.conname),
                           format('ALTER TABLE %s ADD CONSTRAINT %I %s%s', named, one.conname, one.definition,
                                  CASE WHEN one.convalidated THEN ' NOT VALID' ELSE '' END)]
        || prism_crypt._remarks('pg_constraint', one.oid, 0, format('CONSTRAINT %I ON %s', one.conname, named));
      answer.after := CASE WHEN one.convalidated AND one.is_enforced
                           THEN ARRAY[format('ALTER TABLE %s VALIDATE CONSTRAINT %I', named, one.conname)] ELSE '{}' END;
      answer.note := 'it is checked with the rights of the role that writes, which may need decrypt or search';
    ELSE
      answer.unblock := format('ALTER TABLE %s DROP CONSTRAINT %I', named, one.conname);
    END IF;
    definitions := definitions || answer;
  END LOOP;
  FOR one IN
    SELECT i.indexrelid, i.indisunique, i.indisclustered, i.indisreplident, c.relkind, c.relname, n.contype,
           n.oid AS constraint_oid,
           CASE WHEN n.condeferrable THEN ' DEFERRABLE' || CASE WHEN n.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END
           END AS deferral,
           (SELECT h.inhparent FROM pg_inherits AS h WHERE h.inhrelid = i.indexrelid) AS parent,
           prism_crypt._definition('constraint', n.oid, 'pg_catalog, pg_temp') AS definition
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    LEFT JOIN pg_constraint AS n ON n.conindid = i.indexrelid AND n.conrelid = member AND n.contype IN ('p', 'u', 'x')
    WHERE i.indrelid = member AND (i.indisvalid OR c.relkind = 'I') AND n.contype IS DISTINCT FROM 'x'
      AND (attnum = ANY (i.indkey)
        OR EXISTS (SELECT FROM pg_depend AS d
                   WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                     AND d.refclassid = 'pg_class'::regclass AND d.refobjid = member AND d.refobjsubid = attnum))
    ORDER BY c.relname
  LOOP
    answer := NULL;
    answer.kind := CASE one.contype WHEN 'p' THEN 'primary key' WHEN 'u' THEN 'unique' ELSE 'index' END;
    answer.member := member;
    answer.old_oid := one.indexrelid;
    answer.old_name := one.relname;
    answer.new_name := prism_crypt._side_name('prism_crypt_new_', one.relname);
    answer.parent := one.parent;
    tried := prism_crypt._try_index(one.indexrelid, column_name, schema, new_type);
    IF tried.error IS NULL AND one.contype IS NOT NULL AND one.relkind = 'I' THEN
      tried.error := prism_crypt._try(
        ARRAY[format('ALTER TABLE %s ADD CONSTRAINT prism_crypt_trial %s', copy, one.definition)], 'pg_catalog, pg_temp');
    END IF;
    IF tried.error IS NOT NULL THEN
      answer.blocks := tried.error;
      answer.unblock := CASE WHEN one.contype IS NULL THEN format('DROP INDEX %s', prism_crypt._qualified_name(one.indexrelid))
                             ELSE format('ALTER TABLE %s DROP CONSTRAINT %I', named, one.relname) END;
    ELSE
      IF tried.lost_collation THEN
        answer := prism_crypt._twin_index_rewrite(answer, one, format('pg_temp.%I', one.relname)::regclass);
      ELSE
        -- Statistics targets get lost.
        answer.rewrite_creates := prism_crypt._index_settings(one.indexrelid, prism_crypt._qualified_name(one.indexrelid));
      END IF;
      EXECUTE format('ALTER TABLE %s RENAME %I TO %I', copy, column_name, twin);
      answer := prism_crypt._twin_index(answer, one, format('pg_temp.%I', one.relname)::regclass,
        (SELECT prism_crypt._definition('constraint', c.oid, 'pg_catalog, pg_temp') FROM pg_constraint AS c
         WHERE c.conrelid = copy AND c.conname = 'prism_crypt_trial'));
      EXECUTE format('ALTER TABLE %s RENAME %I TO %I', copy, twin, column_name);
      IF one.contype IS NOT NULL AND one.relkind = 'I' THEN
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT prism_crypt_trial', copy);
      END IF;
      IF tried.lost_collation THEN
        answer.note := concat_ws('; ', answer.note, 'it loses its collation: encrypted values have no order');
      END IF;
    END IF;
    definitions := definitions || answer;
  END LOOP;
  done := true;
  RAISE SQLSTATE 'PC000';
EXCEPTION WHEN SQLSTATE 'PC000' THEN
  IF NOT done THEN
    RAISE;
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._twins_of_table(oid, smallint, name, text, name) IS
  'The indexes and constraints of one table for a twin column. Internal';

CREATE FUNCTION prism_crypt._twin_definitions(relation regclass, column_name name, new_type text, twin name)
  RETURNS SETOF prism_crypt._twin_definition
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  one record;
  answer prism_crypt._twin_definition;
  definitions prism_crypt._twin_definition[] := ARRAY(
    SELECT d FROM prism_crypt._column_members(relation, column_name) AS m
    CROSS JOIN LATERAL prism_crypt._twin_domain(m.member, m.attnum) AS d
    WHERE m.member = relation);
  number integer := 0;
BEGIN
  -- Parents first: what is made for partitions is attached to what their parents have.
  FOR one IN
    SELECT m.member, m.attnum FROM prism_crypt._column_members(relation, column_name) AS m
    WHERE m.relkind IN ('r', 'p')
    ORDER BY (SELECT count(*) FROM pg_partition_ancestors(m.member)), m.member <> relation, m.member
  LOOP
    definitions := definitions || prism_crypt._twins_of_table(one.member, one.attnum, column_name, new_type, twin);
  END LOOP;
  -- The old column keeps its NOT NULL as long as it is in the primary key.
  FOREACH answer IN ARRAY ARRAY(SELECT d FROM unnest(definitions) AS d WHERE d.kind <> 'not null')
                          || ARRAY(SELECT d FROM unnest(definitions) AS d WHERE d.kind = 'not null')
  LOOP
    number := number + 1;
    answer.ordinal := number;
    RETURN NEXT answer;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._twin_definitions(regclass, name, text, name) IS
  'The indexes and constraints of a column, for a twin of another name and type. Internal';
