"""Asks both sides of search_tables the same, and holds the answers to each other."""

import random
import re

from harness import PgError, paths
from harness.libpq import Connection

from search_queries import Query
from search_tables import KEYSETS, SIDES

SWITCHES = ("enable_seqscan", "enable_indexscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "enable_nestloop", "enable_hashagg",
            "enable_memoize", "enable_material", "enable_sort", "enable_parallel_hash", "parallel_leader_participation")
ALWAYS = ("SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET min_parallel_index_scan_size = 0;"
          "SET jit = off; SET hash_mem_multiplier = 1;")
FORCE = paths.FORCE_PARALLEL
NODE = re.compile(r"^ *(?:->  )?([A-Z][A-Za-z ]+?)(?: using .*| on .*)?$")

# What a change may be refused for, on both sides alike: a value that is there already, a row that is changed twice.
REFUSALS = ("23505", "21000")
# What others that change the same rows, or lock all tables, may do to a transaction.
CONFLICTS = ("40001", "40P01")


class Asker:
    """asked: number of queries; nodes: what plans were made of; filled: answers that were more than nothing."""

    def __init__(self, test, cluster, db, seed):
        self.test, self.cluster, self.db, self.seed = test, cluster, db, seed
        self.asked = self.filled = 0
        self.nodes, self.kept, self.connection = set(), [], None
        self.name, self.number = "", 0
        self.connect("first")

    def connect(self, name):
        """A session of its own; statements that are kept were prepared in it."""
        self.dice = random.Random(f"{self.seed} {name}")
        if self.connection:
            self.connection.close()
        self.connection = Connection(self.cluster, self.db)
        self.test.addCleanup(self.connection.close)
        self.connection.execute(ALWAYS)
        self.kept = []
        for number in range(24):
            self.keyset = KEYSETS[number % 6 == 0]
            self.connection.execute(f"SET prism_crypt.keyset = '{self.keyset}'")
            queries = self.queries(f"{name} {number}", 50)
            if not queries[0].probe:
                for query in queries:
                    self.connection.prepare(f"kept {number} {query.side.schema}", query.sql)
                self.kept.append((number, self.keyset, queries))
        self.set_up()

    def set_up(self):
        """Other settings, so that the same would be planned otherwise."""
        dice = self.dice
        self.keyset = KEYSETS[dice.random() < 0.2]
        self.workers = 2 if dice.random() < 0.15 else 0
        self.settings = "; ".join([
            *(f"SET {name} = {'off' if dice.random() < 0.25 else 'on'}" for name in SWITCHES),
            f"SET prism_crypt.keyset = '{self.keyset}'", f"SET work_mem = '{dice.choice(('64kB', '4MB'))}'", f"SET max_parallel_workers_per_gather = {self.workers}",
            f"SET parallel_setup_cost = {dice.choice((1, 20))}", f"SET {FORCE} = {'on' if self.workers and dice.random() < 0.3 else 'off'}",
            f"SET plan_cache_mode = {dice.choice(('auto', 'force_generic_plan', 'force_custom_plan'))}"])
        self.connection.execute(self.settings)

    def queries(self, dice, executions):
        return [Query(side, random.Random(f"{self.seed} {dice}"), self.keyset, executions) for side in SIDES]

    def ask(self, name, count, between=lambda number: None):
        """That many queries, for each name others; between is called before each."""
        self.name, self.dice = name, random.Random(f"{self.seed} {name}")
        for number in range(count):
            between(number)
            self.asked += 1
            self.number = number
            if number % 5 == 0:
                self.set_up()
            kept = [k for k in self.kept if k[1] == self.keyset]
            if number % 8 == 0 and kept:
                kept_name, _, queries = self.dice.choice(kept)
                turn = self.dice.randrange(50)
                self.compare(queries, [lambda q: self.connection.execute_prepared(f"kept {kept_name} {q.side.schema}", *(texts[turn] for texts in q.bound))])
                continue
            executions = self.dice.choice((0, 0, 1, 2 if self.workers else 7))
            queries = self.queries(f"{name} {number}", executions)
            if executions < 2 or queries[0].probe:
                if number % 2 == 0 and not queries[0].bound:
                    plan = self.again(lambda: self.connection.execute(f"EXPLAIN (COSTS OFF) {queries[0].sql}"), queries)
                    self.nodes.update(found.group(1) for line in plan if (found := NODE.match(line[0])))
                self.compare(queries, [lambda q: self.connection.execute(q.sql, *(texts[0] for texts in q.bound))])
            else:
                for query in queries:
                    # Parsing locks the tables, too.
                    self.again(lambda query=query: self.connection.prepare(query.side.schema, query.sql), queries)
                # Several times, so that it is planned for any value at last.
                self.compare(queries, [lambda q, turn=turn: self.connection.execute_prepared(q.side.schema, *(texts[turn] for texts in q.bound))
                                       for turn in range(executions)])
                self.connection.execute("".join(f"DEALLOCATE {side.schema};" for side in SIDES))

    def again(self, action, queries):
        """What the action returns, once no other transaction is in its way."""
        for _ in range(200):
            try:
                return action()
            except PgError as error:
                if error.sqlstate not in CONFLICTS:
                    self.test.fail(f"{error.text}\n{self.told(queries)}")
        self.test.fail(f"conflicts again and again:\n{self.told(queries)}")

    def compare(self, queries, executions):
        """Both sides see the same rows: in one snapshot."""
        found, expected = self.again(lambda: self.answers(queries, executions), queries)
        if found != expected:
            self.test.fail(f"{found}, not {expected}\n{self.told(queries)}")
        self.filled += any(answer and answer[0][:1] not in ("0", "2") for answer in found)

    def answers(self, queries, executions):
        self.connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        try:
            return [[self.answer(query, execute) for execute in executions] for query in queries]
        finally:
            self.connection.execute("ROLLBACK")

    def answer(self, query, execute):
        if not query.probe:
            return execute(query)
        self.connection.execute("SAVEPOINT s")
        try:
            return [*execute(query), *self.connection.execute(query.probe)]
        except PgError as error:
            if error.sqlstate not in REFUSALS:
                raise
            self.connection.execute("ROLLBACK TO s")
            return [[error.sqlstate]]

    def told(self, queries):
        return "\n".join([f"query {self.number} {self.name}", self.settings, *(part for query in queries for part in (query.sql, str(query.bound)))])
