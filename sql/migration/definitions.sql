-- Definitions as PostgreSQL writes them.

-- With the search path 'pg_catalog, pg_temp' every name comes out qualified. With the schemas of a table and its views on the path
-- their names come out bare, so that a copy of the same name can take the place of the table. Nothing here may be looked up by an
-- unqualified name once the path is set.
CREATE FUNCTION prism_crypt._definition(kind text, object oid, path text) RETURNS text
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- Names are qualified where the path does not show them, and with "pretty" also where it does.
  bare CONSTANT boolean := path <> 'pg_catalog, pg_temp';
  answer text;
BEGIN
  CASE kind
    WHEN 'relation' THEN
      PERFORM set_config('search_path', path, true);
      answer := object::pg_catalog.regclass::pg_catalog.text;
    WHEN 'view' THEN
      PERFORM set_config('search_path', path, true);
      answer := pg_catalog.pg_get_viewdef(object, false);
    WHEN 'rule' THEN
      PERFORM set_config('search_path', path, true);
      answer := pg_catalog.pg_get_ruledef(object, bare);
    WHEN 'trigger' THEN
      PERFORM set_config('search_path', path, true);
      answer := pg_catalog.pg_get_triggerdef(object, bare);
    WHEN 'function' THEN
      PERFORM set_config('search_path', path, true);
      answer := pg_catalog.pg_get_functiondef(object);
    WHEN 'body' THEN
      PERFORM set_config('search_path', path, true);
      answer := pg_catalog.pg_get_function_sqlbody(object);
    WHEN 'statistics' THEN
      PERFORM set_config('search_path', path, true);
      answer := pg_catalog.pg_get_statisticsobjdef(object);
    WHEN 'index' THEN
      PERFORM set_config('search_path', path, true);
      answer := pg_catalog.pg_get_indexdef(object, 0, bare);
    WHEN 'constraint' THEN
      PERFORM set_config('search_path', path, true);
      answer := pg_catalog.pg_get_constraintdef(object, false);
    WHEN 'default' THEN
      PERFORM set_config('search_path', path, true);
      SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) INTO answer
      FROM pg_catalog.pg_attrdef AS d WHERE d.oid OPERATOR(pg_catalog.=) object;
    WHEN 'using' THEN
      PERFORM set_config('search_path', path, true);
      SELECT pg_catalog.pg_get_expr(p.polqual, p.polrelid) INTO answer
      FROM pg_catalog.pg_policy AS p WHERE p.oid OPERATOR(pg_catalog.=) object;
    WHEN 'with check' THEN
      PERFORM set_config('search_path', path, true);
      SELECT pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) INTO answer
      FROM pg_catalog.pg_policy AS p WHERE p.oid OPERATOR(pg_catalog.=) object;
    WHEN 'predicate' THEN
      PERFORM set_config('search_path', path, true);
      SELECT pg_catalog.pg_get_expr(i.indpred, i.indrelid) INTO answer
      FROM pg_catalog.pg_index AS i WHERE i.indexrelid OPERATOR(pg_catalog.=) object;
  END CASE;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._definition(text, oid, text) IS
  'The definition of an object, with names as a search path makes them. Internal';

CREATE TYPE prism_crypt._dependant AS (
  -- "drops" run in this order, before the swap; "creates" run in the reverse order of the dependants, after it. Within a
  -- dependant, both run as they stand.
  ordinal  integer,
  kind     text,
  identity text,
  drops    text[],
  creates  text[],
  -- Null if it is carried over; otherwise why not, and what would unblock it (null: there is no such statement).
  blocks   text,
  unblock  text,
  -- What to know about it anyway.
  note     text,
  -- What it is, where it has an OID.
  class    regclass,
  object   oid,
  -- What is tried on copies, and the table or view whose copy it changes.
  trial    text[],
  target   regclass
);
COMMENT ON TYPE prism_crypt._dependant IS 'What touches a column that is to be migrated. Internal';

-- Whether a relation is named without its schema, so that a copy in the temporary schema takes its place.
CREATE FUNCTION prism_crypt._is_bare(relation oid, trial_path text) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._definition('relation', $1, $2) = quote_ident(c.relname) FROM pg_class AS c WHERE c.oid = $1
$$;
COMMENT ON FUNCTION prism_crypt._is_bare(oid, text) IS 'Whether a path shows a relation. Internal';

CREATE FUNCTION prism_crypt._is_superuser() RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user
$$;
COMMENT ON FUNCTION prism_crypt._is_superuser() IS
  'Whether the current role is a superuser: the setting is_superuser may be another''s. Internal';

-- Null if the current role may drop what a role owns and make it again; otherwise why not.
CREATE FUNCTION prism_crypt._owner_block(owner oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('it belongs to role "%s", whose rights role "%s" does not have: migrate as a role that has both',
                pg_get_userbyid($1), current_user)
  WHERE NOT pg_has_role($1, 'USAGE')
$$;
COMMENT ON FUNCTION prism_crypt._owner_block(oid) IS 'Why the current role can''t make an object of another role again. Internal';

CREATE FUNCTION prism_crypt._extension_of(class regclass, object oid) RETURNS name
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT e.extname FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
  WHERE d.classid = $1 AND d.objid = $2 AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
$$;
COMMENT ON FUNCTION prism_crypt._extension_of(regclass, oid) IS 'The extension that an object belongs to. Internal';

-- Whether a role may call the extension's functions of a name.
CREATE FUNCTION prism_crypt._may_call(role oid, function_name name) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(bool_and(has_function_privilege($1, p.oid, 'EXECUTE')), false)
  FROM prism_crypt._members('pg_proc') AS m (oid) JOIN pg_proc AS p ON p.oid = m.oid WHERE p.proname = $2
$$;
COMMENT ON FUNCTION prism_crypt._may_call(oid, name) IS 'Whether a role may call functions of the extension. Internal';
