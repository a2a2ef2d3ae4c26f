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
OPENS = "prism_crypt._open_job(text, regclass, name, integer, text, regclass[], text, boolean)"
REACHED = says("^changed")
OPEN = "SELECT prism_crypt._open_job('rotation', '{}', NULL, NULL, NULL, ARRAY['{}'::regclass], 'x', {})"


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

    def needs(self, signature):
        """What there is no more can't be tried."""
        if self.cluster.psql(f"SELECT to_regprocedure('{signature}') IS NULL", db=self.db) == "t":
            self.skipTest(f"there is no {signature}")

    def test_helpers_with_a_token(self):
        """A worker's own token, and a note of its own, against the job of another's table."""
        self.needs("prism_crypt._start_job(regclass, name, integer, text, bigint)")
        start = "SELECT s.job, s.token INTO j, t FROM prism_crypt._start_job('{}', NULL, NULL, NULL, prism_crypt._note_caller()) AS s"
        calls = {
            "claims a range of": "PERFORM prism_crypt._claim_range(t, 'victim')", "counts rows of": "PERFORM prism_crypt._count_rows(t, 'victim', 100, 1)", "skips the walk of": "PERFORM prism_crypt._skip_walk(t, 'victim')",
            "ends": "PERFORM prism_crypt._claim_check(t, ARRAY['mine'::regclass]); PERFORM prism_crypt._finish_parts(t, ARRAY['victim'::regclass], '{}', '{}', '{}')", "ends, unchecked,": "PERFORM prism_crypt._finish_parts(t, ARRAY['mine', 'victim']::regclass[], '{}', '{}', '{}')",
            "walks again over": "PERFORM prism_crypt._walk_again(t, ARRAY['victim'::regclass])", "checks": "PERFORM prism_crypt._claim_check(t, ARRAY['victim'::regclass])", "leaves": "PERFORM prism_crypt._leave_job(t, 'x', 'x')",
            "tells the state of": "PERFORM prism_crypt._set_job_state({job}, 'cancelled', prism_crypt._note_caller())", "starts": start.format("victim"), "starts with a note of before": "PERFORM prism_crypt._note_caller(); PERFORM prism_crypt._start_job('victim', NULL, NULL, NULL, 1)",
            "takes a range of": "FOR i IN 1 .. 200 LOOP PERFORM prism_crypt._advance_range(t, i, '(9,0)', 0.5, 1, 1); END LOOP",
            "breaks the sums of": "PERFORM prism_crypt._count_rows(t, 'mine', 9223372036854775807, 1e308); PERFORM prism_crypt._count_rows(t, 'mine', 1, 'NaN'); PERFORM prism_crypt._count_rows(t, 'mine', -5, '-Infinity')",
        }
        for name, call in calls.items():
            parts = "".join(f"BEGIN {part}; EXCEPTION WHEN OTHERS THEN RAISE NOTICE '%', SQLERRM; END; " for part in (call.split("; ") if "LOOP" not in call else [call]))
            self.attempt(f"{name} the victim, with a token of its own", f"DO $$ DECLARE j bigint; t uuid; BEGIN {start.format('mine')}; {parts} END $$")
        for token in ("NULL", "'00000000-0000-0000-0000-000000000000'", "gen_random_uuid()"):
            self.attempt(f"a token that nobody has: {token}", f"SELECT prism_crypt._claim_range({token}, 'victim'); SELECT prism_crypt._leave_job({token}, 'x', 'x'); SELECT prism_crypt._count_rows({token}, 'victim', 1, 1)")

    def test_helpers(self):
        self.needs(OPENS)
        job = "{job}"
        self.attempt("ends a part", f"SELECT prism_crypt._finish_part({job}, 'victim', 0, 0)")
        self.attempt("ends a part of its own table", f"SELECT prism_crypt._finish_part({job}, 'mine', 0, 0)")
        for start in ("true", "false"):
            self.attempt(f"opens the job, {start}", OPEN.format("victim", "victim", start))
            self.attempt(f"opens the job with another part, {start}", OPEN.format("victim", "mine", start))
            self.attempt(f"opens the job with another part and ends it, {start}", f"{OPEN.format('victim', 'mine', start)}; {OPEN.format('victim', 'mine', 'true')}; SELECT prism_crypt._finish_part({job}, 'mine', 0, 0)")
            self.attempt(f"adds the victim to its own job, {start}", OPEN.format("mine", "victim", start), goal=says("^2$"), after="SELECT count(*) FROM prism_crypt.job_part WHERE relation = 'victim'::regclass")
        self.attempt("opens the job without parts", f"SELECT prism_crypt._open_job('rotation', 'victim', NULL, NULL, NULL, '{{}}', 'x', true); SELECT prism_crypt._finish_part({job}, 'mine', 0, 0)")
        self.attempt("leaves it", f"SELECT prism_crypt._leave_job({job}, 'x', 'x'); SELECT prism_crypt._leave_job({job}, NULL, 'finished')")
        self.attempt("walks again", f"SELECT prism_crypt._walk_again({job}, ARRAY['mine'::regclass]), prism_crypt._walk_again({job}, '{{}}')")
        self.attempt("walks the victim again", f"SELECT prism_crypt._walk_again({job}, ARRAY['victim'::regclass])")
        self.attempt("skips the walk", f"SELECT prism_crypt._skip_walk({job}, 'victim'); SELECT prism_crypt._skip_walk({job}, 'mine')")
        self.attempt("counts rows", f"SELECT prism_crypt._count_rows({job}, 'victim', 100, 1); SELECT prism_crypt._count_rows({job}, 'mine', 100, 1)")
        self.attempt("claims a range", f"SELECT prism_crypt._claim_range({job}, 'victim'); SELECT prism_crypt._claim_range({job}, 'mine')")
        self.attempt("claims the check", f"SELECT prism_crypt._claim_check({job}, ARRAY['mine'::regclass]), prism_crypt._claim_check({job}, '{{}}')", goal=says("^(check|changed)"), after="SELECT 'changed' FROM prism_crypt.job WHERE checker_pid IS NOT NULL")
        self.attempt("works on it with statements of its own", f"""DO $$ DECLARE w prism_crypt._walk; BEGIN
            w := prism_crypt._plan_walk({job}, 'mine', 'name', NULL, NULL, NULL); CALL prism_crypt._work_on_job({job}, 'x', ARRAY[w], NULL, NULL); END $$""")
        self.attempt("ends a table with statements of its own", f"""DO $$ DECLARE w prism_crypt._walk; BEGIN
            w := prism_crypt._plan_walk({job}, 'mine', 'name', NULL, NULL, NULL); CALL prism_crypt._finish_table(w, true); END $$""")

    def test_ranges_of_others(self):
        """A range that somebody else works on."""
        for name, call in (("advances", "SELECT prism_crypt._advance_range({}, '(9,0)', 1, 5, 1)"), ("takes back", "SELECT prism_crypt._drop_ranges({})"), ("tells the state", "SELECT prism_crypt._set_job_state({}, 'cancelled')")):
            self.fresh()
            range_id = self.cluster.psql(f"INSERT INTO prism_crypt.job_range (job, relation, place, end_block, worker_pid, worker_started) SELECT {JOB}, 'victim', '(0,0)', 5, pg_backend_pid(), now() RETURNING id", db=self.db)
            self.way(f"{name} another's range", "rotate", call.format(range_id), says("^changed"), after="SELECT 'changed' WHERE NOT EXISTS (SELECT FROM prism_crypt.job_range WHERE place = '(0,0)' AND rows_done = 0)")

    def test_control_and_progress(self):
        for call in ("pause", "cancel"):
            self.attempt(f"{call}s another's job", f"SELECT prism_crypt.{call}_job({{job}})")
        self.cluster.psql(f"SELECT prism_crypt.pause_job({self.fresh()})", db=self.db)
        self.way("resumes another's job", "rotate", f"SELECT prism_crypt.resume_job({self.cluster.psql(f'SELECT {JOB}', db=self.db)})", says("^changed"), after="SELECT 'changed' FROM prism_crypt.job WHERE relation = 'victim'::regclass AND state <> 'paused'")
        self.attempt("sees another's job", "SELECT target, reason, created_by FROM prism_crypt.progress; SELECT * FROM prism_crypt._progress()", goal=says("victim"), after="")
        self.attempt("sees the state of another's job", "SELECT 'state', prism_crypt._job_state({job})", goal=says(r"^state\|pending"), after="")
        for user in ("nobody", "decrypt", "search", "mask", "load", "owner", "db_owner", "monitor"):
            self.attempt(f"{user} controls a job", "SELECT prism_crypt.cancel_job({job}); SELECT prism_crypt.pause_job({job})", user=user)
        self.control("whoever may update the table sees it", "postgres", "SELECT target FROM prism_crypt.progress", says("victim"))
        self.cluster.psql("GRANT UPDATE ON victim TO rotate", db=self.db)
        self.control("whoever may update the table cancels it", "rotate", f"SELECT prism_crypt.cancel_job({self.fresh()})", REACHED, after=CHANGED)
        self.cluster.psql("REVOKE UPDATE ON victim FROM rotate", db=self.db)

    def test_progress_is_not_broken(self):
        self.needs(OPENS)
        broken = lambda said: "ERROR" in said.partition("afterwards:")[2]
        look = "SELECT * FROM prism_crypt.progress; SELECT * FROM prism_crypt.status()"
        for name, rows, seconds in (("a huge count", "9223372036854775807", "1"), ("NaN", "1", "'NaN'"), ("infinity", "1", "'Infinity'"), ("a negative count", "-9223372036854775807", "-1e308")):
            for call in (f"prism_crypt._count_rows(j, {{}}, {rows}, {seconds})", f"prism_crypt._finish_part(j, {{}}, {rows}, {rows})"):
                self.attempt(f"progress with {name}, {call[12:24]}", f"""DO $$ DECLARE j bigint; BEGIN SELECT prism_crypt._open_job('rotation', 'mine', NULL, NULL, NULL, ARRAY['mine', 'second']::regclass[], 'x', true) INTO j;
                    PERFORM prism_crypt._claim_range(j, 'mine'), prism_crypt._claim_range(j, 'second'), {call.format("'mine'")}, {call.format("'second'")}; END $$""", goal=broken, after=look)
        self.control("it can be broken", "postgres", "SELECT 1", broken, after="SELECT 1/0")

    def test_code_in_the_hands_of_a_dba(self):
        """What a DBA runs for the attacker's table runs the attacker's functions, and they are still the attacker's."""
        body = OPEN.format("victim", "victim", "true").replace("SELECT", "PERFORM") + f"; PERFORM prism_crypt._finish_part({JOB}, 'victim', 0, 0); PERFORM prism_crypt._start_job('victim', NULL, NULL, NULL, prism_crypt._note_caller()); PERFORM prism_crypt.pause_job({JOB}); PERFORM prism_crypt.cancel_job({JOB});".replace(JOB, "{job}")
        for how, dba in (("ANALYZE", "ANALYZE trap"), ("REINDEX", "REINDEX TABLE trap"), ("VACUUM", "UPDATE trap SET id = id; VACUUM ANALYZE trap"), ("CREATE INDEX", "CREATE INDEX trap_second ON trap (id, (f(id))); DROP INDEX trap_second"), ("INSERT", "INSERT INTO trap VALUES (99)")):
            job = self.fresh()
            parts = "".join(f"BEGIN {part.strip()}; EXCEPTION WHEN OTHERS THEN NULL; END; " for part in body.replace("{job}", job).split(";") if part.strip())
            self.cluster.psql(f"""CREATE OR REPLACE FUNCTION g(i int) RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN IF session_user = 'postgres' THEN {parts} END IF; RETURN i; END $$;
                CREATE OR REPLACE FUNCTION f(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT public.g(i)';
                CREATE OR REPLACE FUNCTION t() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM public.g(1); RETURN NEW; END $$;
                DROP INDEX IF EXISTS trap_index; CREATE INDEX trap_index ON trap (f(id)); CREATE OR REPLACE TRIGGER t BEFORE INSERT ON trap FOR EACH ROW EXECUTE FUNCTION t()""", user="rotate", db=self.db)
            self.way(f"a function that a DBA runs by {how}", "postgres", dba, REACHED, after=CHANGED)

    def test_nothing_blocks_an_emergency(self):
        for name, lock in (("an open transaction with its own job", OPEN.format("mine", "mine", "true")), ("an open transaction with the victim's job", OPEN.format("victim", "victim", "true")),
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
        for name, call in (("rotate_batch", "CALL rotate_batch('victim')"), ("rotate_all", "CALL prism_crypt.rotate_all()"), ("an UPDATE by the helpers", "SELECT prism_crypt._update_at_once(prism_crypt._plan_walk({job}, 'victim', 'name', NULL, NULL, NULL), '(0,0)', '(100,0)', 0, NULL)"),
                           ("plan_rotation", "SELECT * FROM prism_crypt.plan_rotation()")):
            self.attempt(f"changes rows by {name}", call, goal=says("^rows changed"), after="SELECT 'rows changed' FROM victim WHERE key_version(name) <> 1; ")
        self.control("its own rows", "rotate", "CALL rotate_batch('mine')", says("^rows changed"), after="SELECT 'rows changed' FROM mine WHERE key_version(name) <> 1")


if __name__ == "__main__":
    unittest.main()
