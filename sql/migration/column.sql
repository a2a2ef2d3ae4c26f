-- What a column has itself, and what does not let go of it.

CREATE FUNCTION prism_crypt._dependant(
  kind text, identity text, drops text[] DEFAULT '{}', creates text[] DEFAULT '{}', blocks text DEFAULT NULL,
  unblock text DEFAULT NULL, note text DEFAULT NULL, trial text[] DEFAULT NULL, target regclass DEFAULT NULL
) RETURNS prism_crypt._dependant
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT ROW(NULL, $1, $2, $3, $4, $5, $6, $7, NULL, NULL, $8, $9)::prism_crypt._dependant
$$;
COMMENT ON FUNCTION prism_crypt._dependant(text, text, text[], text[], text, text, text, text[], regclass) IS
  'One thing that touches a column. Internal';

-- The members of a table's tree that have the column, with its number in each.
CREATE FUNCTION prism_crypt._column_members(
  relation regclass, column_name name, OUT member oid, OUT relkind "char", OUT attnum smallint
) RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT t.member, t.relkind, a.attnum
  FROM prism_crypt._table_tree($1) AS t
  JOIN pg_attribute AS a ON a.attrelid = t.member AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped
  ORDER BY t.member <> $1, t.member
$$;
COMMENT ON FUNCTION prism_crypt._column_members(regclass, name) IS 'The tables of a tree that have a column. Internal';

-- Default, comment, rights, labels, options: the new column gets what the old one had. The old one only loses its default.
CREATE FUNCTION prism_crypt._column_properties(member oid, attnum smallint, trial_path text) RETURNS SETOF prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  named CONSTANT text := prism_crypt._qualified_name(member);
  own pg_attribute;
  owner CONSTANT oid := (SELECT c.relowner FROM pg_class AS c WHERE c.oid = member);
  default_oid oid;
  whole text;
  statements text[];
  one record;
BEGIN
  SELECT * INTO own FROM pg_attribute AS a WHERE a.attrelid = member AND a.attnum = attnum;
  whole := format('%s.%I', named, own.attname);
  SELECT d.oid INTO default_oid FROM pg_attrdef AS d WHERE d.adrelid = member AND d.adnum = attnum;
  IF own.attgenerated <> '' THEN
    RETURN NEXT prism_crypt._dependant('generated column', whole, blocks => 'the column itself is generated',
      unblock => format('ALTER TABLE %s ALTER COLUMN %I DROP EXPRESSION', named, own.attname));
  ELSIF own.attidentity <> '' THEN
    RETURN NEXT prism_crypt._dependant('identity', whole, blocks => 'only integers can be an identity',
      unblock => format('ALTER TABLE %s ALTER COLUMN %I DROP IDENTITY', named, own.attname));
  ELSIF default_oid IS NOT NULL THEN
    RETURN NEXT prism_crypt._dependant('default', whole,
      drops => ARRAY[format('ALTER TABLE ONLY %s ALTER COLUMN %I DROP DEFAULT', named, own.attname)],
      creates => ARRAY[format('ALTER TABLE ONLY %s ALTER COLUMN %I SET DEFAULT %s', named, own.attname,
                              prism_crypt._definition('default', default_oid, 'pg_catalog, pg_temp'))],
      unblock => format('ALTER TABLE ONLY %s ALTER COLUMN %I DROP DEFAULT', named, own.attname),
      trial => ARRAY[format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s',
                            prism_crypt._definition('relation', member, trial_path), own.attname,
                            prism_crypt._definition('default', default_oid, trial_path))],
      target => member);
  END IF;
  FOR one IN
    SELECT s.oid::regclass AS sequence FROM pg_depend AS d JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = member
      AND d.refobjsubid = attnum AND d.deptype = 'a'
  LOOP
    RETURN NEXT prism_crypt._dependant('sequence', prism_crypt._qualified_name(one.sequence),
      blocks => 'it would go away with the old column',
      unblock => format('ALTER SEQUENCE %s OWNED BY NONE', prism_crypt._qualified_name(one.sequence)));
  END LOOP;
  statements := prism_crypt._remarks('pg_class', member, attnum, format('COLUMN %s', whole));
  IF statements <> '{}' THEN
    RETURN NEXT prism_crypt._dependant('comment', whole, creates => statements);
  END IF;
  statements := prism_crypt._column_settings(member, attnum, format('ALTER TABLE ONLY %s', named), false);
  IF statements <> '{}' THEN
    RETURN NEXT prism_crypt._dependant('column options', whole, creates => statements);
  END IF;
  IF own.attacl IS NOT NULL THEN
    SELECT a.grantor INTO one FROM aclexplode(own.attacl) AS a
    WHERE a.grantor <> owner AND NOT pg_has_role(session_user, a.grantor, 'MEMBER') LIMIT 1;
    RETURN NEXT prism_crypt._dependant('column grant', whole,
      creates => prism_crypt._grants(own.attacl, owner, named, quote_ident(own.attname)),
      blocks => CASE WHEN one.grantor IS NOT NULL
                THEN format('role "%s", which is not the table''s owner, has granted some of it', pg_get_userbyid(one.grantor)) END,
      unblock => CASE WHEN one.grantor IS NOT NULL
                 THEN format('GRANT %I TO %I', pg_get_userbyid(one.grantor), session_user) END);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._column_properties(oid, smallint, text) IS 'What one column has itself. Internal';

-- Other columns, keys and tables that would not follow.
CREATE FUNCTION prism_crypt._column_ties(member oid, attnum smallint) RETURNS SETOF prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  named CONSTANT text := prism_crypt._qualified_name(member);
  one record;
BEGIN
  -- From 15 on, the expression depends on what it uses; in 14, the column itself.
  FOR one IN
    SELECT DISTINCT g.attname FROM pg_depend AS d
    LEFT JOIN pg_attrdef AS e ON d.classid = 'pg_attrdef'::regclass AND e.oid = d.objid
    JOIN pg_attribute AS g ON g.attrelid = member AND g.attgenerated <> '' AND g.attnum <> attnum
      AND (g.attnum = e.adnum OR d.classid = 'pg_class'::regclass AND d.objid = member AND d.objsubid = g.attnum)
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = member AND d.refobjsubid = attnum
    ORDER BY g.attname
  LOOP
    RETURN NEXT prism_crypt._dependant('generated column', format('%s.%I', named, one.attname),
      blocks => 'it is computed from the column, and would be plaintext beside it',
      unblock => format('ALTER TABLE %s DROP COLUMN %I', named, one.attname));
  END LOOP;
  FOR one IN
    SELECT c.conname, c.conrelid, c.contype, coalesce((to_jsonb(c) ->> 'conperiod')::boolean, false) AS temporal
    FROM pg_constraint AS c
    WHERE (c.conrelid = member AND attnum = ANY (c.conkey)
             AND (c.contype IN ('f', 'x') OR coalesce((to_jsonb(c) ->> 'conperiod')::boolean, false))
           OR c.contype = 'f' AND c.confrelid = member AND attnum = ANY (c.confkey))
      AND c.conparentid = 0
    ORDER BY c.conrelid, c.conname
  LOOP
    RETURN NEXT prism_crypt._dependant(
      CASE one.contype WHEN 'f' THEN 'foreign key' WHEN 'x' THEN 'exclusion constraint' ELSE 'constraint' END,
      format('%I on %s', one.conname, prism_crypt._qualified_name(one.conrelid)),
      blocks => CASE one.contype
        WHEN 'f' THEN 'it compares the column with one of another table, which would have to be encrypted in the same transaction'
        WHEN 'x' THEN 'an exclusion constraint can''t be built beside the old one without locking the table'
        ELSE 'a key over periods can''t be made from an index' END,
      unblock => format('ALTER TABLE %s DROP CONSTRAINT %I', prism_crypt._qualified_name(one.conrelid), one.conname));
  END LOOP;
  -- A column of the partition key depends on its table, so that it can't be dropped alone.
  IF EXISTS (SELECT FROM pg_depend AS d
             WHERE d.classid = 'pg_class'::regclass AND d.objid = member AND d.objsubid = attnum AND d.deptype = 'i'
               AND d.refclassid = 'pg_class'::regclass AND d.refobjid = member AND d.refobjsubid = 0) THEN
    RETURN NEXT prism_crypt._dependant('partition key', named,
      blocks => 'ciphertext has no place in a partition: partition by another column');
  END IF;
  -- Tables that hold whole rows of this one.
  FOR one IN
    SELECT c.relkind, c.oid, a.attname
    FROM pg_class AS m CROSS JOIN LATERAL prism_crypt._types_over(m.reltype) AS t
    JOIN pg_attribute AS a ON a.atttypid = t.type AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_class AS c ON c.oid = a.attrelid
    WHERE m.oid = member AND m.reltype <> 0 AND c.relkind IN ('r', 'p', 'm', 'f') ORDER BY c.oid, a.attnum
  LOOP
    RETURN NEXT prism_crypt._dependant('type user', format('%s.%I', prism_crypt._qualified_name(one.oid), one.attname),
      blocks => 'it holds rows of the table, and plaintext would stay in them',
      unblock => CASE WHEN one.relkind IN ('r', 'p') THEN
        format('ALTER TABLE %s DROP COLUMN %I', prism_crypt._qualified_name(one.oid), one.attname) END);
  END LOOP;
  FOR one IN SELECT c.reloftype::regtype AS type FROM pg_class AS c WHERE c.oid = member AND c.reloftype <> 0 LOOP
    RETURN NEXT prism_crypt._dependant('inheritance', named, blocks => format('its columns come from type %s', one.type),
      unblock => format('ALTER TABLE %s NOT OF', named));
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._column_ties(oid, smallint) IS 'What does not let a column go. Internal';

-- Parents that are not in the tree.
CREATE FUNCTION prism_crypt._inheritance_blocks(relation regclass, column_name name) RETURNS SETOF prism_crypt._dependant
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH tree AS MATERIALIZED (SELECT m.member FROM prism_crypt._column_members($1, $2) AS m)
  SELECT prism_crypt._dependant('inheritance', prism_crypt._qualified_name(i.inhrelid),
    blocks => format('the column is inherited from %s: begin there', prism_crypt._qualified_name(i.inhparent)))
  FROM tree AS t JOIN pg_inherits AS i ON i.inhrelid = t.member
  JOIN pg_attribute AS a ON a.attrelid = i.inhparent AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped
  WHERE i.inhparent NOT IN (SELECT member FROM tree)
$$;
COMMENT ON FUNCTION prism_crypt._inheritance_blocks(regclass, name) IS 'Parents from which a column is inherited. Internal';
