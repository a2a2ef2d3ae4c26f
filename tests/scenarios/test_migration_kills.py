"""A migration that is killed again and again, at any moment and at each boundary between phases: the same call goes on."""

import collections
import random
import time
import unittest

from harness import PgError
from harness.scenario import is_alive, kill_backend, wait_until

from migration_load import THERE, WRONG, Migrated
from migration_state import COLUMNS, OLD, assert_whole, last, rows_of

# Cut off so often, in at most so many rounds: each has six calls, and most are cut off.
KILLS, ROUNDS = 66, 20
HOWS = ("terminate", "backend", "immediate")

PACE = ", batch_size => 100, max_rows_per_second => {}"
BACK, FINISH = "CALL prism_crypt.rollback_migration({});", "CALL prism_crypt.finish_migration({});"
DECRYPT = "CALL prism_crypt.decrypt_column('t', 'v', method => 'online', batch_size => 100, max_rows_per_second => {});"

FORTH_PHASES = ("planned", "twin", "rows", "indexes", "verification", "statistics", "ready", "validation", "cut_over")
BACK_PHASES = ("rows", "indexes", "verification", "statistics", "ready", "validation", "rolled_back")
# The index of the column has its name and is valid, whichever of the columns it is.
INDEX = "SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index WHERE indexrelid = 't_v'::regclass"


class MigrationKills(Migrated):
    conf = {**Migrated.conf, "autovacuum_naptime": "'1s'", "max_connections": "30", "restart_after_crash": "on"}

    def setUp(self):
        super().setUp()
        self.dice = random.Random(self.seed)
        self.hows, self.places = [], collections.Counter()

    def how(self):
        if not self.hows:
            self.hows = list(HOWS)
            self.dice.shuffle(self.hows)
        return self.hows.pop()

    def kill(self, how, backend):
        """Ends the session that way. False if it had ended by itself. The server answers again afterwards."""
        if not is_alive(backend):
            return False
        if how == "terminate":
            self.query(f"SELECT pg_terminate_backend({backend})")
            wait_until(lambda: not is_alive(backend), "a terminated session lives on")
        elif how == "backend":
            kill_backend(backend)
        else:
            self.cluster.stop("immediate")
            self.cluster.start()
        self.wait_for_recovery(self.db)
        return True

    def begin(self, call, stop_at=""):
        session = self.session(self.db)
        backend = int(session.run(f"SET prism_crypt.debug_stop_at = '{stop_at}'; SELECT pg_backend_pid();"))
        session.start(call)
        return session, backend

    def end(self, session):
        """What the session said in the end; None if it was cut off."""
        try:
            return session.wait()
        except PgError as error:
            if error.sqlstate and not error.sqlstate.startswith(("57P", "08")):
                raise
            return None
        finally:
            session.close()

    def whole(self):
        assert_whole(self, self.query, WRONG)
        self.assertEqual(self.query(INDEX), "CREATE UNIQUE INDEX t_v ON public.t USING btree (v)|t")

    def interrupt(self, call, how):
        """Begins the call, waits for a random moment in it, and kills. True if that cut it off."""
        phases = BACK_PHASES if "rollback" in call else ("cut_over",) if "finish" in call else FORTH_PHASES[2:]
        phase = self.dice.choice(phases) if self.dice.random() < 0.5 else None
        # While it waits for its lock; applications wait behind it.
        holder = self.session(self.db) if self.dice.random() < 0.25 else None
        if holder:
            holder.run("BEGIN; SELECT count(*) FROM t;")
        session, backend = self.begin(call)
        if phase:
            try:
                wait_until(lambda: last(self.query)[1] == phase or not session.waiting(0.001), phase, timeout=1 if holder else 20)
            except TimeoutError:
                pass
            time.sleep(self.dice.random() * 0.05)
        else:
            time.sleep(self.dice.random() * (0.15 if "migrate" not in call and "decrypt" not in call else 1))
        cut_off = session.waiting(0.001) and self.kill(how, backend)
        if holder:
            holder.close()
        said = self.end(session)
        if not cut_off or said is not None:
            return False
        self.places[last(self.query)[1]] += 1
        return True

    def call_until_over(self, call):
        session, _ = self.begin(call)
        self.assertIsNotNone(self.end(session))
        self.whole()

    def test_killed_again_and_again(self):
        """There, back, there again, to the end, and to plaintext again: until it was cut off often enough."""
        done, tried = {}, 0
        with self.load(clients=3, killed=True, pause=0.03) as load:
            def leg(name, call, goal, kills):
                nonlocal tried
                before = number()

                def is_over():
                    # The one before it was finished, too.
                    found, phase, _ = last(self.query)
                    return phase == goal and (found != before or not name.startswith("decrypt"))

                for _ in range(kills):
                    how = self.how()
                    with self.subTest(f"{name}, {how}, kill {tried}"):
                        tried += 1
                        if self.interrupt(call(), how):
                            done[how] = done.get(how, 0) + 1
                        self.whole()
                    if is_over():
                        break
                if not is_over():
                    self.call_until_over(call())
                self.assertTrue(is_over(), name)

            def there():
                return THERE.format(PACE.format(self.dice.choice((3000, 8000))))

            def number():
                return last(self.query)[0]

            for _ in range(ROUNDS):
                if sum(done.values()) >= KILLS:
                    break
                leg("there", there, "cut_over", 6)
                leg("back", lambda: BACK.format(number()), "rolled_back", 4)
                leg("half way", there, "cut_over", self.dice.randint(1, 2))
                if last(self.query)[1] != "cut_over" or self.dice.random() < 0.5:
                    leg("back from there", lambda: BACK.format(number()), "rolled_back", 3)
                    leg("there again", there, "cut_over", 4)
                leg("finish", lambda: FINISH.format(number()), "finished", 3)
                leg("decrypt", lambda: DECRYPT.format(self.dice.choice((3000, 8000))), "finished", 4)
                self.assertEqual(load.failed, [])
            load.more(20)
        print(f"seed {self.seed}: cut off {done} in {tried} attempts, in phases {dict(self.places)}; {load.told()}")
        load.assert_right(self)
        self.whole()
        # It was cut off as often as that, in each way, and in phases before and after the cut-over.
        self.assertGreaterEqual(sum(done.values()), KILLS)
        self.assertEqual(sorted(done), sorted(HOWS))
        self.assertGreaterEqual(len(self.places), 4, self.places)
        self.assertGreater(self.places["rows"] + self.places["verification"], 0)
        self.assertGreater(self.places["cut_over"] + self.places["validation"] + self.places["finished"], 0)
        # The last leg was there, so everything is as it was in the beginning; what a crash left of indexes is gone.
        self.assertEqual(last(self.query)[1:], ("finished", False))
        self.assertEqual(rows_of(self.query, COLUMNS), [["v", OLD]])
        self.assertEqual(self.query("SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass"), "2")
        self.assertEqual(self.query("SELECT count(*) FROM prism_crypt.migrations WHERE state NOT IN ('finished', 'rolled_back')"), "0")

    def stop_at(self, call, phase, back=False):
        """The call, cut off before a phase."""
        how = self.how()
        with self.subTest(f"before {phase}, {how}{', back' if back else ''}"):
            session, backend = self.begin(call, phase)
            wait_until(lambda: last(self.query)[1:] == (phase, back) or not session.waiting(0.001), f"never comes to {phase}")
            if not session.waiting(0.05):
                self.fail(f"it is over: {session.wait(check=False)}")
            self.assertTrue(self.kill(how, backend))
            self.assertIsNone(self.end(session))
            self.assertEqual(last(self.query)[1:], (phase, back))
            self.whole()

    def test_at_each_boundary(self):
        there = THERE.format("")
        with self.load(clients=3, killed=True, pause=0.03) as load:
            for phase in FORTH_PHASES:
                self.stop_at(there, phase)
            back = BACK.format(last(self.query)[0])
            for phase in BACK_PHASES:
                self.stop_at(back, phase, True)
            self.assertEqual(load.failed, [])
            # Back from each phase, before the cut-over and just after it.
            for phase in FORTH_PHASES[:-1]:
                self.stop_at(there, phase)
                self.stop_at(BACK.format(last(self.query)[0]), "rolled_back", True)
            self.stop_at(there, "cut_over")
            finish = FINISH.format(last(self.query)[0])
            for phase in ("cut_over", "finished"):
                self.stop_at(finish, phase)
            load.more(20)
        print(f"seed {self.seed}: {load.told()}")
        load.assert_right(self)


if __name__ == "__main__":
    unittest.main()
