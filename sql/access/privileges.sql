CREATE FUNCTION prism_crypt._role_support(internal) RETURNS internal
  LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'role_support_wrapper';
COMMENT ON FUNCTION prism_crypt._role_support(internal) IS
  'Planner support: EXECUTE is checked at each call, also where PL/pgSQL keeps a simple expression. Internal';

-- First, everything that was installed above is closed to everybody, because ALTER DEFAULT PRIVILEGES may have opened it, and
-- not only to PUBLIC. Then what everybody needs is opened.
DO $$
DECLARE
  one pg_catalog.record;
BEGIN
  FOR one IN
    SELECT pg_catalog.format('REVOKE ALL ON %s %s FROM %s CASCADE', o.kind, o.name,
             CASE WHEN g.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                  ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) END) AS command
    FROM (
      SELECT d.classid, d.objid
      FROM pg_catalog.pg_depend AS d
      JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
      WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
        AND d.deptype OPERATOR(pg_catalog.=) 'e' AND e.extname OPERATOR(pg_catalog.=) 'prism_crypt'
    ) AS d
    CROSS JOIN LATERAL (
      SELECT 'ROUTINE', p.oid::pg_catalog.regprocedure::pg_catalog.text, p.proowner,
             coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
      FROM pg_catalog.pg_proc AS p
      WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid OPERATOR(pg_catalog.=) d.objid
      UNION ALL
      SELECT CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
             c.oid::pg_catalog.regclass::pg_catalog.text, c.relowner,
             coalesce(c.relacl, pg_catalog.acldefault(
               CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'S' THEN 's'::pg_catalog."char" ELSE 'r' END, c.relowner))
      FROM pg_catalog.pg_class AS c
      WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid OPERATOR(pg_catalog.=) d.objid
        AND c.relkind OPERATOR(pg_catalog.<>) 'c'
      UNION ALL
      -- As long as nothing was granted or revoked, types are open to PUBLIC.
      SELECT 'TYPE', t.oid::pg_catalog.regtype::pg_catalog.text, t.typowner, t.typacl
      FROM pg_catalog.pg_type AS t
      WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid OPERATOR(pg_catalog.=) d.objid
      UNION ALL
      SELECT 'SCHEMA', pg_catalog.quote_ident(n.nspname), n.nspowner, n.nspacl
      FROM pg_catalog.pg_namespace AS n
      WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
        AND n.oid OPERATOR(pg_catalog.=) d.objid
    ) AS o (kind, name, owner, acl)
    CROSS JOIN LATERAL (SELECT DISTINCT a.grantee FROM pg_catalog.aclexplode(o.acl) AS a) AS g
    WHERE g.grantee OPERATOR(pg_catalog.<>) o.owner
  LOOP
    EXECUTE one.command;
  END LOOP;
END $$;

GRANT USAGE ON TYPE encrypted_text TO PUBLIC;
-- Nobody else may have columns of these types.
REVOKE USAGE ON TYPE prism_crypt.key_rows, encrypted_text_array, encrypted_text_texts FROM PUBLIC;

-- Input, output and encryption, and functions that show only the header.
GRANT EXECUTE ON FUNCTION
  encrypted_text_in(cstring, oid, integer), encrypted_text_out(encrypted_text),
  encrypted_text_recv(internal, oid, integer), encrypted_text_send(encrypted_text),
  encrypted_text_typmod_in(cstring[]), encrypted_text_typmod_out(integer), encrypted_text_typanalyze(internal),
  encrypted_text(text, integer, boolean), encrypted_text(character varying, integer, boolean),
  encrypted_text(character, integer, boolean),
  encrypted_text(encrypted_text, integer, boolean), encrypted_text(bytea, integer, boolean), "bytea"(encrypted_text),
  encrypt_field(text, text, text, text), encrypt_bytes(bytea, text, text, text),
  key_version(encrypted_text), key_version(bytea), envelope_info(encrypted_text), envelope_info(bytea),
  prism_crypt.class_name(integer), prism_crypt._sealed_constant(anyelement),
  -- The same bytes, or the same search tags, are equal for everybody. If values have to be opened, that needs the right to
  -- search, which these functions check themselves.
  encrypted_text_eq(encrypted_text, encrypted_text), encrypted_text_ne(encrypted_text, encrypted_text),
  -- These only call what does need it.
  encrypted_text_eq(encrypted_text, name), encrypted_text_ne(encrypted_text, name),
  encrypted_text_eq(name, encrypted_text), encrypted_text_ne(name, encrypted_text),
  -- These only say what an array is taken for.
  prism_crypt._encrypted_array(encrypted_text[]),
  prism_crypt._text_array(text[]), prism_crypt._text_array(character varying[]),
  -- These only say that there is no order.
  encrypted_text_no_order(encrypted_text, encrypted_text), encrypted_text_no_order(encrypted_text, text),
  encrypted_text_no_order(text, encrypted_text)
TO PUBLIC;

-- What anybody could write themselves: helpers in SQL and PL/pgSQL that run with the caller's rights. If they call something
-- protected, the right is checked there. So no access needs new grants when a new version has new helpers.
DO $$
DECLARE
  helper pg_catalog.regprocedure;
BEGIN
  FOR helper IN
    SELECT p.oid
    FROM prism_crypt._members('pg_catalog.pg_proc') AS m (oid)
    JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) m.oid
    JOIN pg_catalog.pg_language AS l ON l.oid OPERATOR(pg_catalog.=) p.prolang
    WHERE p.pronamespace OPERATOR(pg_catalog.=) 'prism_crypt'::pg_catalog.regnamespace
      AND pg_catalog.starts_with(p.proname::pg_catalog.text, '_') AND NOT p.prosecdef
      AND l.lanname OPERATOR(pg_catalog.=) ANY ('{sql,plpgsql}'::pg_catalog.name[])
      AND p.prorettype OPERATOR(pg_catalog.<>) ALL ('{trigger,event_trigger}'::pg_catalog.regtype[])
  LOOP
    EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO PUBLIC', helper);
  END LOOP;
END $$;

-- The same for functions in C: these only look at types and at the session, or check rights themselves.
GRANT EXECUTE ON FUNCTION
  prism_crypt._note_caller(), prism_crypt._bound_waits(), prism_crypt._uptime(), prism_crypt._sleep(double precision),
  prism_crypt._require_no_transaction_block(text), prism_crypt._end_deferral(), prism_crypt._saw_unreadable(),
  prism_crypt._raise_failure(text, text, text, text, text, text, text, text, text, text),
  prism_crypt._types_over(oid), prism_crypt._holds_encrypted(oid), prism_crypt._is_quickly_checked(oid),
  prism_crypt._rotatable_kind(oid), prism_crypt._key_version(encrypted_text), prism_crypt._key_version(bytea),
  prism_crypt._stripe(tid, integer), prism_crypt._copy_sample(oid, oid, smallint[], integer)
TO PUBLIC;
-- These look at the session, check that the caller owns the tables, or judge by the rights of the table's owner.
GRANT EXECUTE ON FUNCTION
  prism_crypt._has_common_key(), prism_crypt._lock_relations(regclass[], integer), prism_crypt._keep_in_step(),
  prism_crypt._statement_result(), prism_crypt._stop_statement()
TO PUBLIC;
-- These run with the owner's rights, but only for the owner of a table that has a migration, which takes access to migrate.
GRANT EXECUTE ON FUNCTION
  prism_crypt._read_migration(bigint, bigint), prism_crypt._find_migration(regclass, name, bigint),
  prism_crypt._record_phase(bigint, text, jsonb, jsonb, bigint), prism_crypt._leave_migration(bigint, text, bigint),
  prism_crypt._turn(bigint, boolean, bigint), prism_crypt._job_of_migration(bigint, text, bigint),
  prism_crypt._hand_on_grants(bigint, bigint)
TO PUBLIC;
GRANT SELECT ON prism_crypt.job_kind TO PUBLIC;
-- pg_dump reads these for whoever runs it, even with --schema-only.
GRANT SELECT ON SEQUENCE prism_crypt.audit_log_id_seq, prism_crypt.data_key_version_seq, prism_crypt.migration_id_seq TO PUBLIC;

-- Administrative functions that are not open to everybody have planner support that makes PostgreSQL check EXECUTE at each call.
-- Functions in the extension's schema check it themselves. Immutable functions tell their callers nothing new. Aggregates and
-- procedures are never parts of simple expressions.
DO $$
DECLARE
  closed pg_catalog.regprocedure;
BEGIN
  FOR closed IN
    SELECT p.oid
    FROM prism_crypt._members('pg_catalog.pg_proc') AS m (oid)
    JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) m.oid
    WHERE p.pronamespace OPERATOR(pg_catalog.=) 'prism_crypt'::pg_catalog.regnamespace
      AND p.prokind OPERATOR(pg_catalog.=) 'f' AND p.prosupport OPERATOR(pg_catalog.=) 0
      AND p.provolatile OPERATOR(pg_catalog.<>) 'i'
      AND p.prorettype OPERATOR(pg_catalog.<>) ALL ('{internal,trigger,event_trigger}'::pg_catalog.regtype[])
      AND NOT pg_catalog.has_function_privilege('public', p.oid, 'EXECUTE')
  LOOP
    EXECUTE pg_catalog.format('ALTER FUNCTION %s SUPPORT prism_crypt._role_support', closed);
  END LOOP;
END $$;
