-- The phases of a migration, one after the other. A phase that is not a job or a statement of its own is one transaction, together
-- with the record that it is done.

CREATE FUNCTION prism_crypt._next_phase(migration prism_crypt.migration) RETURNS text
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN migration.is_going_back AND migration.cut_over_at IS NULL THEN 'rolled_back'
    WHEN migration.phase = 'planned' THEN CASE migration.method WHEN 'online' THEN 'twin' ELSE 'ready' END
    WHEN migration.phase = 'twin' THEN 'rows'
    WHEN migration.phase = 'rows' THEN 'indexes'
    WHEN migration.phase = 'indexes' THEN
      -- What a person or an expression made of the old values can't be compared with the new ones on the way back.
      CASE WHEN migration.is_going_back AND migration.using_expression IS NOT NULL THEN 'statistics' ELSE 'verification' END
    WHEN migration.phase = 'verification' THEN 'statistics'
    WHEN migration.phase = 'statistics' THEN 'ready'
    WHEN migration.phase = 'ready' AND migration.method = 'online' THEN 'validation'
    WHEN migration.phase IN ('ready', 'validation') THEN
      CASE WHEN migration.is_going_back THEN 'rolled_back'
           WHEN migration.keep_plaintext AND migration.method = 'online' THEN 'cut_over' ELSE 'finished' END
    WHEN migration.phase = 'cut_over' THEN 'finished' END
$$;
COMMENT ON FUNCTION prism_crypt._next_phase(prism_crypt.migration) IS 'What follows a phase. Internal';

-- The path is the caller's own: triggers of the table run on it.
CREATE FUNCTION prism_crypt._run_phase(migration prism_crypt.migration, path text) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  going CONSTANT prism_crypt.migration := prism_crypt._as_it_goes(migration);
  next_phase CONSTANT text := prism_crypt._next_phase(migration);
  build jsonb;
  -- As long as it is null, what is recorded stays.
  closed jsonb;
  gone CONSTANT jsonb := 'null';
BEGIN
  IF prism_crypt._is_gone(migration.relation) THEN
    PERFORM prism_crypt._record_phase(migration.id, CASE WHEN migration.is_going_back THEN 'rolled_back' ELSE 'finished' END, NULL, gone,
                                      prism_crypt._note_caller());
    RETURN;
  ELSIF prism_crypt._needs_triggers(migration) THEN
    PERFORM prism_crypt._make_triggers_again(migration);
    PERFORM prism_crypt._record_phase(
      migration.id, CASE WHEN migration.phase IN ('rows', 'indexes') THEN migration.phase ELSE 'verification' END,
      migration.build || jsonb_build_object('triggers', prism_crypt._trigger_marks(migration)), closed, prism_crypt._note_caller());
    RETURN;
  ELSIF migration.phase = 'ready' AND migration.method = 'online' AND NOT (migration.is_going_back AND migration.cut_over_at IS NULL)
        AND prism_crypt._lacks_trigger(migration) IS NULL AND NOT prism_crypt._is_verified(migration) THEN
    PERFORM prism_crypt._record_phase(
      migration.id, 'verification', migration.build || jsonb_build_object('triggers', prism_crypt._trigger_marks(migration)), closed,
      prism_crypt._note_caller());
    RETURN;
  END IF;
  IF NOT (migration.is_going_back AND migration.cut_over_at IS NULL) AND migration.phase IN ('indexes', 'validation') THEN
    build := CASE migration.phase WHEN 'indexes' THEN prism_crypt._build_next(migration)
                                  ELSE prism_crypt._validate_next(migration) END;
    IF build IS NOT NULL THEN
      PERFORM prism_crypt._record_phase(migration.id, migration.phase, build, closed, prism_crypt._note_caller());
      RETURN;
    END IF;
  END IF;
  IF next_phase = 'rolled_back' AND migration.cut_over_at IS NULL THEN
    PERFORM prism_crypt._drop_twin(migration);
  ELSE
    CASE migration.phase
      WHEN 'twin' THEN
        PERFORM prism_crypt._add_twin(migration);
      WHEN 'rows' THEN
        IF migration.is_going_back AND migration.using_expression IS NOT NULL THEN
          PERFORM prism_crypt._require_nothing_written(migration);
        END IF;
        build := prism_crypt._plan_build(going);
      WHEN 'statistics' THEN
        IF migration.using_expression IS NOT NULL AND NOT migration.is_going_back THEN
          PERFORM prism_crypt._require_no_values_lost(
            migration, format('%I IS NOT NULL AND %I IS NULL', migration.column_name, migration.twin));
        END IF;
        PERFORM prism_crypt._analyze(migration.relation, going.twin);
      WHEN 'ready' THEN
        IF migration.is_going_back THEN
          PERFORM prism_crypt._cut_back(migration);
          closed := gone;
        ELSIF migration.method = 'rewrite' THEN
          PERFORM prism_crypt._rewrite(migration);
        ELSE
          closed := prism_crypt._cut_over(migration, path);
        END IF;
      WHEN 'cut_over' THEN
        -- Before the lock, because it reads the whole table.
        PERFORM prism_crypt._require_no_only_copies(migration);
        PERFORM prism_crypt._drop_kept(migration);
        closed := gone;
      ELSE
        -- planned, and what is done by a job
    END CASE;
  END IF;
  IF next_phase = 'verification' THEN
    build := migration.build || jsonb_build_object('triggers', prism_crypt._trigger_marks(migration));
  END IF;
  PERFORM prism_crypt._record_phase(migration.id, next_phase, build, closed, prism_crypt._note_caller());
END $$;
COMMENT ON FUNCTION prism_crypt._run_phase(prism_crypt.migration, text) IS 'Runs a phase and records the next one. Internal';
