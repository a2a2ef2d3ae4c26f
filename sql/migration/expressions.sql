-- What holds an expression over a column, or names it: rules, triggers, policies, statistics, functions whose bodies are parsed.

CREATE FUNCTION prism_crypt._rule_dependant(rule oid, trial_path text) RETURNS prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own pg_rewrite;
  named text;
  answer prism_crypt._dependant;
BEGIN
  SELECT * INTO own FROM pg_rewrite WHERE oid = rule;
  named := prism_crypt._qualified_name(own.ev_class);
  answer.kind := 'rule';
  answer.identity := format('%I on %s', own.rulename, named);
  answer.class := 'pg_rewrite';
  answer.object := rule;
  answer.drops := ARRAY[format('DROP RULE %I ON %s', own.rulename, named)];
  answer.creates := prism_crypt._definition('rule', rule, 'pg_catalog, pg_temp')
    || CASE own.ev_enabled WHEN 'O' THEN '{}' ELSE ARRAY[format('ALTER TABLE %s %s RULE %I', named,
         CASE own.ev_enabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, own.rulename)] END
    || prism_crypt._remarks('pg_rewrite', rule, 0, format('RULE %I ON %s', own.rulename, named));
  answer.trial := ARRAY[prism_crypt._definition('rule', rule, trial_path)];
  answer.target := own.ev_class;
  answer.blocks := prism_crypt._owner_block((SELECT c.relowner FROM pg_class AS c WHERE c.oid = own.ev_class));
  answer.unblock := CASE WHEN answer.blocks IS NULL THEN answer.drops[1] END;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._rule_dependant(oid, text) IS 'How a rule is dropped and made again. Internal';

-- The clones that partitions have come and go with it, but may be enabled otherwise.
CREATE FUNCTION prism_crypt._trigger_states(trigger oid) RETURNS text[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH RECURSIVE family (oid) AS (
    SELECT $1
    UNION
    SELECT t.oid FROM family AS f JOIN pg_trigger AS t ON t.tgparentid = f.oid
  )
  SELECT ARRAY(
    SELECT format('ALTER TABLE ONLY %s %s TRIGGER %I', prism_crypt._qualified_name(t.tgrelid),
                  CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS'
                                   ELSE 'ENABLE' END, t.tgname)
    FROM family AS f JOIN pg_trigger AS t ON t.oid = f.oid
    -- A clone begins as its parent was when it was made: enabled.
    WHERE t.tgenabled <> 'O'
    ORDER BY t.oid <> $1, t.oid)
$$;
COMMENT ON FUNCTION prism_crypt._trigger_states(oid) IS 'What enables or disables a trigger as it was. Internal';

CREATE FUNCTION prism_crypt._trigger_dependant(trigger oid, trial_path text) RETURNS prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own pg_trigger;
  named text;
  answer prism_crypt._dependant;
BEGIN
  SELECT * INTO own FROM pg_trigger WHERE oid = trigger;
  named := prism_crypt._qualified_name(own.tgrelid);
  answer.kind := 'trigger';
  answer.identity := format('%I on %s', own.tgname, named);
  answer.class := 'pg_trigger';
  answer.object := trigger;
  answer.drops := ARRAY[format('DROP TRIGGER %I ON %s', own.tgname, named)];
  answer.creates := prism_crypt._definition('trigger', trigger, 'pg_catalog, pg_temp') || prism_crypt._trigger_states(trigger)
    || prism_crypt._remarks('pg_trigger', trigger, 0, format('TRIGGER %I ON %s', own.tgname, named))
    || ARRAY(SELECT format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION %I', own.tgname, named, e.extname)
             FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
             WHERE d.classid = 'pg_trigger'::regclass AND d.objid = trigger AND d.deptype = 'x');
  answer.trial := ARRAY[prism_crypt._definition('trigger', trigger, trial_path)];
  answer.target := own.tgrelid;
  answer.blocks := prism_crypt._owner_block((SELECT c.relowner FROM pg_class AS c WHERE c.oid = own.tgrelid));
  IF answer.blocks IS NULL AND NOT has_function_privilege(own.tgfoid, 'EXECUTE') THEN
    answer.blocks := format('role "%s" may not execute its function %s', current_user, own.tgfoid::regprocedure);
    answer.unblock := format('GRANT EXECUTE ON FUNCTION %s TO %I', own.tgfoid::regprocedure, current_user);
  ELSIF answer.blocks IS NULL THEN
    answer.unblock := answer.drops[1];
  END IF;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._trigger_dependant(oid, text) IS 'How a trigger is dropped and made again. Internal';

CREATE FUNCTION prism_crypt._policy_dependant(policy oid, trial_path text) RETURNS prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  path CONSTANT text := 'pg_catalog, pg_temp';
  own pg_policy;
  named text;
  answer prism_crypt._dependant;
BEGIN
  SELECT * INTO own FROM pg_policy WHERE oid = policy;
  named := prism_crypt._qualified_name(own.polrelid);
  answer.kind := 'policy';
  answer.identity := format('%I on %s', own.polname, named);
  answer.class := 'pg_policy';
  answer.object := policy;
  answer.drops := ARRAY[format('DROP POLICY %I ON %s', own.polname, named)];
  answer.creates := format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', own.polname, named,
      CASE WHEN own.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
      CASE own.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
      (SELECT string_agg(CASE r.role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r.role)) END, ', ' ORDER BY r.number)
       FROM unnest(own.polroles) WITH ORDINALITY AS r (role, number)),
      ' USING (' || prism_crypt._definition('using', policy, path) || ')',
      ' WITH CHECK (' || prism_crypt._definition('with check', policy, path) || ')')
    || prism_crypt._remarks('pg_policy', policy, 0, format('POLICY %I ON %s', own.polname, named));
  -- As the condition of a view, which locks no table of others.
  answer.trial := ARRAY[format('CREATE TEMPORARY VIEW prism_crypt_trial_%s AS SELECT FROM %s WHERE (%s) AND (%s)', policy,
      prism_crypt._definition('relation', own.polrelid, trial_path),
      coalesce(prism_crypt._definition('using', policy, trial_path), 'true'),
      coalesce(prism_crypt._definition('with check', policy, trial_path), 'true'))];
  answer.blocks := prism_crypt._owner_block((SELECT c.relowner FROM pg_class AS c WHERE c.oid = own.polrelid));
  answer.unblock := CASE WHEN answer.blocks IS NULL THEN answer.drops[1] END;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._policy_dependant(oid, text) IS 'How a policy is dropped and made again. Internal';

CREATE FUNCTION prism_crypt._statistics_dependant(object oid, trial_path text) RETURNS prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  own pg_statistic_ext;
  named text;
  definition text;
  answer prism_crypt._dependant;
BEGIN
  SELECT * INTO own FROM pg_statistic_ext WHERE oid = object;
  named := format('%I.%I', own.stxnamespace::regnamespace::name, own.stxname);
  answer.kind := 'statistics';
  answer.identity := named;
  answer.class := 'pg_statistic_ext';
  answer.object := object;
  answer.drops := ARRAY[format('DROP STATISTICS %s', named)];
  answer.creates := prism_crypt._definition('statistics', object, 'pg_catalog, pg_temp')
    || CASE WHEN own.stxowner <> current_user::regrole
            THEN ARRAY[format('ALTER STATISTICS %s OWNER TO %I', named, pg_get_userbyid(own.stxowner))] ELSE '{}' END
    || CASE WHEN own.stxstattarget >= 0
            THEN ARRAY[format('ALTER STATISTICS %s SET STATISTICS %s', named, own.stxstattarget)] ELSE '{}' END
    || prism_crypt._remarks('pg_statistic_ext', object, 0, format('STATISTICS %s', named));
  -- It names itself with its schema, in which it exists.
  definition := prism_crypt._definition('statistics', object, trial_path);
  IF starts_with(definition, 'CREATE STATISTICS ' || named) THEN
    answer.trial := ARRAY[format('CREATE STATISTICS pg_temp.%I', own.stxname)
                          || substr(definition, length('CREATE STATISTICS ' || named) + 1)];
    answer.target := own.stxrelid;
  END IF;
  answer.blocks := prism_crypt._owner_block(own.stxowner);
  answer.unblock := CASE WHEN answer.blocks IS NULL THEN answer.drops[1] END;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._statistics_dependant(oid, text) IS 'How a statistics object is dropped and made again. Internal';

-- A function in SQL whose body was parsed when it was made. It is not dropped, because it may have dependants of its own: until
-- the swap is over it has an empty body. One that takes or returns rows of a view can't be kept.
CREATE FUNCTION prism_crypt._function_dependant(function oid, trial_path text) RETURNS prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  path CONSTANT text := 'pg_catalog, pg_temp';
  own pg_proc;
  definition text;
  body text;
  head text;
  named CONSTANT text := (SELECT format('%I.%I(', n.nspname, p.proname) FROM pg_proc AS p JOIN pg_namespace AS n
                          ON n.oid = p.pronamespace WHERE p.oid = function);
  extension CONSTANT name := prism_crypt._extension_of('pg_proc', function);
  answer prism_crypt._dependant;
BEGIN
  SELECT * INTO own FROM pg_proc WHERE oid = function;
  answer.kind := 'function';
  answer.identity := function::regprocedure::text;
  answer.class := 'pg_proc';
  answer.object := function;
  answer.unblock := format('DROP ROUTINE %s', function::regprocedure);
  body := prism_crypt._definition('body', function, path);
  IF extension IS NOT NULL THEN
    answer.blocks := format('it belongs to extension "%s"', extension);
    answer.unblock := format('ALTER EXTENSION %I DROP ROUTINE %s', extension, function::regprocedure);
  ELSIF body IS NULL THEN
    answer.blocks := 'it takes or returns rows of a view that has to be made again';
  ELSE
    definition := rtrim(prism_crypt._definition('function', function, path), E'\n');
    head := left(definition, length(definition) - length(body));
    IF definition <> head || body THEN
      answer.blocks := 'its definition can''t be taken apart';
    ELSE
      answer.blocks := prism_crypt._owner_block(own.proowner);
      answer.unblock := CASE WHEN answer.blocks IS NULL THEN answer.unblock END;
    END IF;
    -- An empty body would be refused where something is to be returned.
    answer.drops := ARRAY['SET LOCAL check_function_bodies = off', head || 'AS ''''',
                          format('SET LOCAL check_function_bodies = %L', current_setting('check_function_bodies'))];
    answer.creates := ARRAY[definition];
    -- Under its name in the temporary schema, so that the function itself is not touched.
    definition := prism_crypt._definition('function', function, trial_path);
    answer.trial := ARRAY[overlay(definition PLACING format('pg_temp.%I(', own.proname)
                                  FROM strpos(definition, named) FOR length(named))];
  END IF;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._function_dependant(oid, text) IS 'How a function gets its body again. Internal';
