"""F30: a role with `rotate` touches, sees and stops what belongs to the tables that it may update, and nothing else."""

import unittest

from ways import Attack, says, secret_rows

SCHEMA = """
    SET ROLE doctor; CREATE TABLE victim (id int PRIMARY KEY, name encrypted_text); RESET ROLE;
    GRANT ALL ON SCHEMA public TO rotate;
    SET ROLE rotate; CREATE TABLE mine (id int PRIMARY KEY, name encrypted_text); CREATE TABLE second (id int, name encrypted_text); CREATE TABLE trap (id int); INSERT INTO trap SELECT generate_series(1, 10); RESET ROLE;
    GRANT INSERT ON trap TO PUBLIC; GRANT SELECT ON victim TO rotate;
""" + secret_rows("victim") + secret_rows("mine")
# An emergency, whose jobs wait to be done, and nothing of what a way left.
FRESH = """TRUNCATE prism_crypt.job CASCADE; DROP INDEX IF EXISTS trap_index; DROP TRIGGER IF EXISTS t ON trap; SELECT count(*) FROM prism_crypt.emergency_rotation('a key leaked');"""
JOB = "(SELECT id FROM prism_crypt.job WHERE relation = 'victim'::regclass)"
CHANGED = """SELECT 'changed: ' || state FROM prism_crypt.job WHERE relation = 'victim'::regclass AND (state <> 'pending' OR error IS NOT NULL OR reason <> 'a key leaked');
    SELECT 'changed: no part' WHERE NOT EXISTS (SELECT FROM prism_crypt.job_part WHERE relation = 'victim'::regclass AND NOT finished AND next_block = 0 AND rows_done = 0 AND pass = 0);
    SELECT 'changed: a part of others' FROM prism_crypt.job_part AS p JOIN prism_crypt.job AS j ON j.id = p.job WHERE j.relation = 'victim'::regclass AND p.relation <> j.relation;
    SELECT 'changed: progress fails' WHERE NOT EXISTS (SELECT FROM prism_crypt.progress WHERE target = 'public.victim' AND rows_done = 0);
"""
REACHED = says("^changed")
START = "prism_crypt._start_job('rotation', '{}', NULL, '{{}}', prism_crypt._note_caller())"


class Jobs(Attack):
    schema = SCHEMA

    def setUp(self):
        self.job = self.fresh()

    def fresh(self):
        self.cluster.psql(FRESH, db=self.db)
        return self.cluster.psql(f"SELECT {JOB}", db=self.db)

    def attempt(self, name, script, user="rotate", goal=REACHED, after=CHANGED):
        job = self.fresh()
        self.way(name, user, script.replace("{job}", job), goal, after=after)

    def test_helpers_with_a_token(self):
        """A worker's own token, and a note of its own, against the job of another's table."""
        start = f"SELECT w.job, w.token INTO j, t FROM {START} AS w"
        record = "PERFORM prism_crypt._record_step(t, jsonb_populate_record(NULL::prism_crypt._step, '{}'), jsonb_populate_record(NULL::prism_crypt._result, '{}'))"
        batch = '{"rows": 1, "reached": "(9,0)", "stripes": 1, "batch_size": 5, "busy_seconds": 1}'
        def take(times):
            return f"FOR i IN 1 .. {times} LOOP s := prism_crypt._next_step(t, false, NULL, false); END LOOP"
        calls = {
            "takes a range of": take(3), "ends": record.format('{"action": "check"}', '{"due": [], "unreadable": []}'),
            "ends, as its checker,": f'{take(3)}; ' + record.format('{"action": "check"}', '{"due": [], "unreadable": ["victim"]}'),
            "walks again over": f'{take(3)}; ' + record.format('{"action": "check"}', '{"due": ["victim"], "unreadable": []}'),
            "counts rows of": f'{take(3)}; ' + record.format('{"action": "count", "relation": "victim"}', '{"left_over": 5, "left_unreadable": 5}'),
            "leaves": "PERFORM prism_crypt._leave_job(t, 'x', 'x')",
            "tells the state of": "PERFORM prism_crypt._set_job_state({job}, 'cancelled', prism_crypt._note_caller())",
            "starts": start.format("victim"), "starts with a note of before": "PERFORM prism_crypt._note_caller(); PERFORM prism_crypt._start_job('rotation', 'victim', NULL, '{}', 1)",
            "records a range of": "FOR i IN 1 .. 200 LOOP " + record.replace("'{}'", "format('{{\"action\": \"batch\", \"range_id\": %s}}', i)::jsonb", 1).format(batch) + "; END LOOP",
        }
        for name, call in calls.items():
            part = f"BEGIN {call}; EXCEPTION WHEN OTHERS THEN RAISE NOTICE '%', SQLERRM; END;"
            self.attempt(f"{name} the victim, with a token of its own", f"DO $$ DECLARE j bigint; t uuid; s prism_crypt._step; BEGIN {start.format('mine')}; {part} END $$")
        for token in ("NULL", "'00000000-0000-0000-0000-000000000000'", "gen_random_uuid()"):
            self.attempt(f"a token that nobody has: {token}", f"SELECT prism_crypt._next_step({token}, false, NULL, false); SELECT prism_crypt._leave_job({token}, 'x', 'x'); "
                         f"""SELECT prism_crypt._record_step({token}, jsonb_populate_record(NULL::prism_crypt._step, '{{"action": "check"}}'), NULL)""")

    def test_helpers_with_the_callers_rights(self):
        """Plans and statements of its own, against another's table."""
        plan = "prism_crypt._plan_part((SELECT k FROM prism_crypt.job_kind AS k), 1, 'victim', NULL, '{}')"
        step = """jsonb_populate_record(NULL::prism_crypt._step, '{"action": "batch", "from_place": "(0,0)", "to_place": "(9,0)", "stripes": 1, "stripe": 0}')"""
        for name, call in (
            ("a batch", f"SELECT prism_crypt._run_batch({plan}, {step}, ROW(1000, NULL, NULL, NULL, NULL, true)::prism_crypt._limits)"),
            ("a batch with locks", f"SELECT prism_crypt._change_locked({plan}, '(0,0)', '(9,0)', 1000)"),
            ("a statement", "SELECT prism_crypt._execute('UPDATE public.victim SET name = name', NULL, NULL, NULL, NULL, NULL)"),
            ("all of the engine", "CALL prism_crypt._work_on(prism_crypt._rotation_work('rotation', 'victim', NULL, NULL, NULL, NULL, ROW(1000, NULL, NULL, NULL, NULL, true)::prism_crypt._limits, true, 0))"),
            ("the table of jobs", "SELECT prism_crypt._set_parts({job}, '{}'); SELECT prism_crypt._drop_ranges({job}); SELECT prism_crypt._add_to_part({job}, 'victim', 1, 1); SELECT prism_crypt._queue_job('rotation', 'victim', 'x')"),
        ):
            self.attempt(f"changes another's table by {name}", call, goal=says("^(rows )?changed"), after=CHANGED + "SELECT 'rows changed' FROM victim WHERE key_version(name) <> 1")

    def test_ranges_of_others(self):
        """A range that somebody else works on."""
        for name, call in (("takes back", "SELECT prism_crypt._drop_ranges({})"), ("tells the state of", "SELECT prism_crypt._set_job_state({}, 'cancelled', prism_crypt._note_caller())")):
            self.fresh()
            range_id = self.cluster.psql("INSERT INTO prism_crypt.job_range (job, relation, place, next_place, end_block, worker_pid, worker_started) "
                                         f"SELECT {JOB}, 'victim', '(0,0)', '(0,0)', 5, pg_backend_pid(), now() RETURNING id", db=self.db)
            self.way(f"{name} another's range", "rotate", call.format(range_id), says("^changed"), after="SELECT 'changed' WHERE NOT EXISTS (SELECT FROM prism_crypt.job_range WHERE place = '(0,0)' AND rows_done = 0)")

    def test_control_and_progress(self):
        for call in ("pause", "cancel"):
            self.attempt(f"{call}s another's job", f"SELECT prism_crypt.{call}_job({{job}})")
        self.cluster.psql(f"SELECT prism_crypt.pause_job({self.fresh()})", db=self.db)
        self.way("resumes another's job", "rotate", f"SELECT prism_crypt.resume_job({self.cluster.psql(f'SELECT {JOB}', db=self.db)})", says("^changed"), after="SELECT 'changed' FROM prism_crypt.job WHERE relation = 'victim'::regclass AND state <> 'paused'")
        self.attempt("sees another's job", "SELECT target, reason, created_by FROM prism_crypt.progress; SELECT * FROM prism_crypt._progress(prism_crypt._note_caller())", goal=says("victim"), after="")
        for user in ("nobody", "decrypt", "search", "mask", "load", "owner", "db_owner", "monitor"):
            self.attempt(f"{user} controls a job", "SELECT prism_crypt.cancel_job({job}); SELECT prism_crypt.pause_job({job})", user=user)
        self.control("whoever may update the table sees it", "postgres", "SELECT target FROM prism_crypt.progress", says("victim"))
        self.cluster.psql("GRANT UPDATE ON victim TO rotate", db=self.db)
        self.control("whoever may update the table cancels it", "rotate", f"SELECT prism_crypt.cancel_job({self.fresh()})", REACHED, after=CHANGED)
        self.cluster.psql("REVOKE UPDATE ON victim FROM rotate", db=self.db)

    def test_code_in_the_hands_of_a_dba(self):
        """What a DBA runs for the attacker's table runs the attacker's functions, and they are still the attacker's."""
        body = f"PERFORM {START.format('victim')}; PERFORM prism_crypt._drop_ranges({JOB}); PERFORM prism_crypt.pause_job({JOB}); PERFORM prism_crypt.cancel_job({JOB});".replace(JOB, "{job}")
        for how, dba in (("ANALYZE", "ANALYZE trap"), ("REINDEX", "REINDEX TABLE trap"), ("VACUUM", "UPDATE trap SET id = id; VACUUM ANALYZE trap"), ("CREATE INDEX", "CREATE INDEX trap_second ON trap (id, (f(id))); DROP INDEX trap_second"), ("INSERT", "INSERT INTO trap VALUES (99)")):
            job = self.fresh()
            parts = "".join(f"BEGIN {part.strip()}; EXCEPTION WHEN OTHERS THEN NULL; END; " for part in body.replace("{job}", job).split(";") if part.strip())
            self.cluster.psql(f"""CREATE OR REPLACE FUNCTION g(i int) RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN IF session_user = 'postgres' THEN {parts} END IF; RETURN i; END $$;
                CREATE OR REPLACE FUNCTION f(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT public.g(i)';
                CREATE OR REPLACE FUNCTION t() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM public.g(1); RETURN NEW; END $$;
                DROP INDEX IF EXISTS trap_index; CREATE INDEX trap_index ON trap (f(id)); CREATE OR REPLACE TRIGGER t BEFORE INSERT ON trap FOR EACH ROW EXECUTE FUNCTION t()""", user="rotate", db=self.db)
            self.way(f"a function that a DBA runs by {how}", "postgres", dba, REACHED, after=CHANGED)

    def test_nothing_blocks_an_emergency(self):
        for name, lock in (("an open transaction with its own job", "SELECT " + START.format("mine")), ("an open transaction with the victim's job", "SELECT " + START.format("victim")),
                           ("a job that was paused in an open transaction", "SELECT prism_crypt.pause_job(id) FROM prism_crypt.progress"), ("a table that is locked", "LOCK TABLE mine IN ACCESS EXCLUSIVE MODE"),
                           ("a table that is altered", "ALTER TABLE mine ADD x int")):
            self.fresh()
            session = self.session(self.db, user="rotate")
            session.run(f"BEGIN; {lock};", check=False)
            before = self.cluster.psql("SELECT max(version) FROM prism_crypt.data_key", db=self.db)
            said = self.run_as("key_admin", "SET statement_timeout = '30s'; SELECT 'new', new_version FROM prism_crypt.emergency_rotation('another leak')")
            after = self.cluster.psql("SELECT max(version) FROM prism_crypt.data_key", db=self.db)
            self.judge(f"emergency_rotation beside {name}", "" if f"new|" in said and after != before and "ERROR" not in said else "the emergency was stopped", said)
            session.run("ROLLBACK;", check=False)
            session.close()

    def test_what_it_may_not_rotate(self):
        for name, call in (("rotate_batch", "CALL rotate_batch('victim')"), ("rotate_all", "CALL prism_crypt.rotate_all()"),
                           ("plan_rotation", "SELECT * FROM prism_crypt.plan_rotation()")):
            self.attempt(f"changes rows by {name}", call, goal=says("^rows changed"), after="SELECT 'rows changed' FROM victim WHERE key_version(name) <> 1; ")
        self.control("its own rows", "rotate", "CALL rotate_batch('mine')", says("^rows changed"), after="SELECT 'rows changed' FROM mine WHERE key_version(name) <> 1")


if __name__ == "__main__":
    unittest.main()
