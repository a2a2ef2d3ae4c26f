"""
Queries over the tables of search_tables. The same dice, thrown for either side, make the same query of each; so how often they
are thrown must not depend on the side.
"""

import re

from harness import paths

from search_tables import SHARED, TABLES, UNIQUE, VALUES, array, quoted

PARAMETER = re.compile(r"\$(\d+)")


class Expressions:
    """What queries are made of, as the dice say, for one side. bound: for each parameter, as many texts as it is executed with."""

    def __init__(self, side, dice, keyset, executions=0):
        self.side, self.dice, self.keyset, self.executions = side, dice, keyset, executions
        self.bound, self.aliases = [], 0

    def one(self, *choices):
        return self.dice.choice(choices)

    def value(self):
        return self.side.text(self.keyset, self.dice.choice(SHARED if self.dice.random() < 0.7 else VALUES))

    def alias(self):
        self.aliases += 1
        return f"t{self.aliases}"

    def table(self, *names):
        """(table AS alias, alias)"""
        alias = self.alias()
        return f"{self.side.schema}.{self.dice.choice(names or tuple(TABLES))} AS {alias}", alias

    def source(self):
        """The same, maybe of text."""
        return self.table("words") if self.dice.random() < 0.2 else self.table()

    def parameter(self, make):
        self.bound.append([make() for _ in range(self.executions)])
        return f"${len(self.bound)}"

    def operand(self, alone=False):
        """
        A value to compare with. In a list with texts PostgreSQL takes all for texts, so those that belong to some keyset are
        only alone.
        """
        kind, dice = self.side.type, self.dice
        if alone and dice.random() < 0.1:
            return f"(SELECT z.v FROM {self.table()[0].rpartition(' AS ')[0]} AS z WHERE z.id = {dice.randint(1, 100)})"
        if alone and dice.random() < 0.03:
            # The shadow's are longer than a name may be.
            return f"{quoted(self.side.text(self.keyset, dice.choice(SHARED[:10])))}::{'text' if self.side.prefix else 'name'}"
        if dice.random() < 0.02:
            return "NULL"
        what = self.parameter(self.value) if self.executions and dice.random() < 0.7 else quoted(self.value())
        return dice.choice((what, what, f"{what}::text", f"{what}::varchar", f"{what}::{kind}", f"(SELECT {what}::text)", f"({what}::text || '')"))

    def lone(self):
        return self.operand(alone=True)

    def plain_operand(self):
        """One that is of the column's type on either side, or has none."""
        what = self.parameter(self.value) if self.executions else quoted(self.value())
        return self.one(what, f"{what}::{self.side.type}")

    def values(self, most=14):
        return [None if self.dice.random() < 0.03 else self.value() for _ in range(self.dice.choice((0, 1, 2, 3, most)))]

    def array(self):
        kind = self.side.type
        if self.dice.random() < 0.15:
            inner, z = self.source()
            return f"ARRAY(SELECT {z}.v FROM {inner} WHERE {self.simple(z)})"
        if self.executions and self.dice.random() < 0.6:
            what = self.parameter(lambda: array(self.values()))
        elif self.dice.random() < 0.5:
            listed = ", ".join("NULL" if v is None else quoted(v) for v in self.values() or [None])
            return f"ARRAY[{listed}]{self.one('', '::text[]', '::varchar[]', f'::{kind}[]')}"
        else:
            what = quoted(array(self.values()))
        return f"{what}{self.one('', '::text[]', '::varchar[]', f'::{kind}[]')}"

    def simple(self, x):
        """A condition that has nothing to do with values."""
        return self.one(f"{x}.n < {self.dice.randrange(9)}", f"{x}.id % 3 <> 1", f"{x}.id < {self.dice.randrange(400)}", "true")

    def atom(self, x):
        """A condition on the value of x."""
        one, operand, lone, source = self.one, self.operand, self.lone, self.source
        inner, z = source()
        forms = (
            lambda: f"{x}.v = {lone()}",
            lambda: f"{lone()} = {x}.v",
            lambda: f"{x}.v = {one('ANY', 'ANY', 'SOME')} ({self.array()})",
            lambda: f"{x}.v IN ({', '.join(operand() for _ in range(one(1, 2, 3, 12)))})",
            lambda: f"{x}.v {one('=', '<>')} {lone()}",
            lambda: f"{x}.v NOT IN ({', '.join(operand() for _ in range(one(1, 2, 11)))})",
            lambda: f"{x}.v <> {one('ALL', 'ANY')} ({self.array()})",
            lambda: f"{x}.v IS {one('', 'NOT ')}NULL",
            lambda: f"{x}.v IS {one('', 'NOT ')}DISTINCT FROM {lone()}",
            lambda: f"{one('', 'NOT ')}EXISTS (SELECT FROM {inner} WHERE {z}.v = {x}.v AND {self.simple(z)})",
            lambda: f"{x}.v {one('IN', 'NOT IN', '= ANY', '<> ALL')} (SELECT {z}.v FROM {inner} WHERE {self.simple(z)} AND {z}.v IS NOT NULL)",
            lambda: f"{x}.v NOT IN (SELECT {z}.v FROM {inner} WHERE {self.simple(z)})",
            lambda: f"({x}.v, {x}.n) {one('IN', 'NOT IN')} (SELECT {z}.v, {z}.n FROM {inner} WHERE {self.simple(z)})",
            lambda: f"({x}.v, {x}.n) IN (({operand()}, 1), ({operand()}, 2), ({operand()}, 3))",
            lambda: f"{x}.v IN (SELECT {z}.v FROM {inner} WHERE {z}.n = {x}.n)",
            lambda: f"CASE {x}.v WHEN {lone()} THEN 1 WHEN {lone()} THEN 2 WHEN {lone()} THEN 3 ELSE 4 END = {one(1, 2, 3, 4)}",
            lambda: f"CASE WHEN {x}.v = {lone()} THEN {x}.n < 4 WHEN {x}.v = ANY ({self.array()}) THEN true ELSE false END",
            lambda: f"coalesce({x}.v, {self.plain_operand()}) = {lone()}",
            lambda: f"nullif({x}.v, {lone()}) IS NULL",
            lambda: f"ARRAY[{x}.v::{self.side.type}] {one('=', '<@', '<>')} ARRAY[{self.plain_operand()}]::{self.side.type}[]",
            lambda: f"{x}.v {one('=', '<>')} (SELECT {z}.v FROM {inner} WHERE {z}.id = {x}.id % 90 + 1)",
            lambda: f"(SELECT count(*) FROM {inner} WHERE {z}.v = {x}.v) = {one(0, 1, 2, 3)}",
            lambda: f"{x}.v = ANY ((SELECT q.a FROM {self.side.schema}.lists AS q WHERE q.id = {one(1, 2, 3, 4, 5)})::{self.side.type}[])",
        )
        return self.one(*forms, *forms[:4])()

    def condition(self, x, depth=2):
        if depth and self.dice.random() < 0.35:
            return f"({self.condition(x, depth - 1)} {self.one('AND', 'OR')} {self.condition(x, depth - 1)})"
        if self.dice.random() < 0.1:
            return f"NOT ({self.atom(x)})"
        return self.atom(x) if self.dice.random() < 0.75 else self.simple(x)


class Query(Expressions):
    """A query for one side: sql, and for one that changes a table a probe of what it left."""

    def __init__(self, side, dice, keyset, executions=0):
        super().__init__(side, dice, keyset, executions)
        self.probe = None
        forms, weights = zip(*FORMS)
        self.sql = dice.choices(forms, weights)[0](self)
        # Parts that were made and not chosen have parameters too.
        used = sorted({int(number) for number in PARAMETER.findall(self.sql)})
        self.bound = [self.bound[number - 1] for number in used]
        self.sql = PARAMETER.sub(lambda found: f"${used.index(int(found.group(1))) + 1}", self.sql)

    def one_table(self):
        table, x = self.source()
        return wrapped(f"SELECT {x}.id FROM {table} WHERE {self.condition(x)}")

    def matches(self, x, y, full=False):
        by_hash = (f"{x}.v = {y}.v", f"{y}.v = {x}.v", f"{x}.v = {y}.v AND {x}.n = {y}.n", f"({x}.v, {x}.n) = ({y}.v, {y}.n)")
        return self.one(*by_hash) if full else self.one(*by_hash, *by_hash, *by_hash, f"{x}.v = {y}.v AND {self.condition(x, 0)}",
            f"{x}.v IS NOT DISTINCT FROM {y}.v", f"({x}.v = {y}.v OR {x}.n = {y}.n AND {x}.id = {y}.id)", f"{x}.v <> {y}.v AND {x}.id = {y}.id")

    def two_tables(self):
        (left, x), (right, y) = self.table(), self.source()
        kind = self.one("", "LEFT", "RIGHT", "FULL")
        where = self.one("true", self.condition(x, 1), self.condition(y, 1))
        return wrapped(f"SELECT {x}.id, {y}.id AS other FROM {left} {kind} JOIN {right} ON {self.matches(x, y, kind == 'FULL')} WHERE {where}")

    def three_tables(self):
        (first, x), (second, y), (third, z) = self.dice.sample((self.table(), self.source(), self.table(*UNIQUE)), 3)
        kinds = [self.one("", "", "LEFT", "RIGHT", "FULL") for _ in range(2)]
        return wrapped(f"""SELECT {x}.id, {y}.id AS second, {z}.id AS third FROM {first} {kinds[0]} JOIN {second} ON {self.matches(x, y, kinds[0] == 'FULL')}
            {kinds[1]} JOIN {third} ON {self.matches(self.one(x, y), z, kinds[1] == 'FULL')} WHERE {self.one('true', self.condition(x, 1))}""")

    def using(self):
        (left, x), (right, y) = self.table(), self.table()
        return wrapped(f"SELECT {x}.id, {y}.id AS other, show(v) FROM {left} {self.one('', 'LEFT', 'FULL')} JOIN {right} USING (v) WHERE {self.one('true', f'v = {self.lone()}')}")

    def listed(self):
        """Joined with values that the query brings along."""
        table, x = self.table()
        cast = self.one("", "::text", "::varchar", f"::{self.side.type}")
        rows = self.one(f"(VALUES {', '.join(f'({quoted(self.value())}{cast})' for _ in range(self.one(1, 3, 10)))}) AS w (v)", f"unnest({self.one_type_array()}) AS w (v)")
        return wrapped(f"SELECT {x}.id, {self.one('1', 'show(w.v)')} FROM {table} {self.one('', 'LEFT')} JOIN {rows} ON {x}.v = w.v")

    def one_type_array(self):
        what = self.parameter(lambda: array(self.values())) if self.executions else quoted(array(self.values()))
        return f"{what}::{self.one('text', self.side.type)}[]"

    def grouped(self):
        table, x = self.source()
        having = self.one("true", "count(*) > 1", f"{x}.v = {self.lone()}", f"{x}.v <> {self.lone()}", f"{x}.v IN ({self.operand()}, {self.operand()})")
        by, n = self.one((f"{x}.v", "0"), (f"{x}.v, {x}.n", f"{x}.n"), (f"GROUPING SETS (({x}.v), ({x}.n), ({x}.v, {x}.n), ())", f"{x}.n"))
        return wrapped(f"SELECT show({x}.v), {n}, count(*), sum({x}.id), max({x}.n) FROM {table} WHERE {self.condition(x, 1)} GROUP BY {by} HAVING {having}")

    def grouped_join(self):
        (left, x), (right, y) = self.table(), self.source()
        return wrapped(f"""SELECT show({x}.v), count(*), sum({y}.id), count({y}.v) FROM {left} {self.one('', 'LEFT')} JOIN {right}
            ON {self.matches(x, y)} WHERE {self.condition(x, 0)} GROUP BY {x}.v HAVING count(*) >= {self.one(1, 1, 2, 5)}""")

    def distinct(self):
        table, x = self.source()
        columns, shown = self.one((f"{x}.v", "show(v)"), (f"{x}.v, {x}.n", "show(v), n"), (f"ARRAY[{x}.v] AS a, {x}.n", "show(a[1]), n"))
        return wrapped(f"SELECT {shown} FROM (SELECT DISTINCT {columns} FROM {table} WHERE {self.condition(x, 1)}) AS d")

    def sorted_inside(self):
        """What PostgreSQL sorts for, without an order of its own."""
        table, x = self.source()
        return wrapped(self.one(
            f"SELECT {x}.id, count(*) OVER (PARTITION BY {x}.v) AS c, rank() OVER (PARTITION BY {x}.v, {x}.n % 2 ORDER BY {x}.id) AS r FROM {table} WHERE {self.condition(x, 1)}",
            f"SELECT {x}.n % 3 AS n, count(DISTINCT {x}.v) AS c, count(DISTINCT {x}.id % 5) AS d FROM {table} WHERE {self.condition(x, 1)} GROUP BY 1",
            f"SELECT show({x}.v) AS v, string_agg({x}.id::text, ' ' ORDER BY {x}.id) AS ids, count(DISTINCT {x}.n) AS d FROM {table} WHERE {self.condition(x, 1)} GROUP BY {x}.v",
            f"SELECT show(v) AS v FROM (SELECT DISTINCT ON ({x}.v) {x}.v FROM {table} WHERE {self.condition(x, 1)}) AS d"))

    def part(self):
        table, x = self.table()
        return f"SELECT {x}.v, {x}.n % 2 FROM {table} WHERE {self.condition(x, 0)}"

    def set_operation(self):
        operation = lambda: self.one("UNION", "UNION ALL", "INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL")  # noqa: E731
        third = f"{operation()} {self.part()}" if self.dice.random() < 0.3 else ""
        return wrapped(f"SELECT show(v), n FROM ({self.part()} {operation()} {self.part()} {third}) AS u (v, n)")

    def recursive(self):
        (first, x), (second, y) = self.table(), self.table()
        return f"""WITH RECURSIVE r (v, n) AS (SELECT {x}.v::{self.side.type}, {x}.n FROM {first} WHERE {x}.id < 20
            UNION SELECT {y}.v, {y}.n FROM r JOIN {second} ON {self.one(f'{y}.v = r.v', f'{y}.v = r.v AND {y}.id < 50', f'{y}.id = r.n')})
            {wrapped('SELECT show(v), n FROM r')}"""

    def lateral(self):
        (left, x), (right, y) = self.source(), self.source()
        limit = self.one("", f"GROUP BY {y}.v", f"HAVING count(*) > {self.one(0, 1, 4)}")
        return wrapped(f"""SELECT {x}.id, s.c, s.m FROM {left} {self.one('CROSS', 'LEFT')} JOIN LATERAL (SELECT count(*) AS c, max({y}.id) AS m
            FROM {right} WHERE {y}.v = {x}.v AND {self.simple(y)} {limit}) AS s""".replace("CROSS JOIN", "JOIN") + f" ON {self.one('true', f'{x}.n < 5')}")

    def arrays(self):
        (left, x), q = self.table("mixed", "loose_mixed", "hashed"), self.alias()
        lists, column, kind = f"{self.side.schema}.lists AS {q}", self.one("a", "b"), self.side.type
        forms = (
            f"SELECT {x}.id, {q}.id AS other FROM {left} JOIN {lists} ON {x}.v = {self.one('ANY', 'ANY')} ({q}.{column})",
            f"SELECT {x}.id FROM {left} WHERE {x}.v IN (SELECT unnest({q}.{column}) FROM {lists})",
            f"SELECT id FROM {lists} WHERE {self.plain_operand()} = ANY ({q}.{column})",
            f"SELECT id FROM {lists} WHERE {q}.{column} {self.one('&&', '@>', '<@', '=', '<>')} {quoted(array(self.values()))}::{kind}[]",
            f"SELECT count(*), sum(id) FROM {lists} GROUP BY {q}.{column}",
            f"SELECT count(*), sum(cardinality({column})) FROM (SELECT DISTINCT {column} FROM {lists}) AS d",
            f"SELECT {q}.id, o.id AS other FROM {lists} JOIN {lists.rpartition(' ')[0]} o ON o.a[2] = {q}.b[1] AND o.{column} = {q}.{column}",
            f"SELECT id, array_position({column}, {self.plain_operand()}), cardinality(array_remove({column}, {self.plain_operand()})) FROM {lists}",
        )
        return wrapped(self.one(*forms))

    # ---- changes

    def changed(self, table, sql, returning="id, n"):
        self.probe = f"SELECT count(*), coalesce(sum(hashtext(concat_ws('|', id, show(v), n))::bigint), 0), count(v) FROM {table.rpartition(' AS ')[0]}"
        return f"WITH q AS ({sql} RETURNING {returning}) SELECT count(*), coalesce(sum(hashtext(q::text)::bigint), 0) FROM q"

    def update(self):
        (table, x), (other, y) = self.table(), self.source()
        unique = any(f".{name} " in table for name in UNIQUE)
        if unique or self.dice.random() < 0.5:
            where = f"{x}.id = {self.dice.randint(1, 100)}" if unique else self.condition(x)
            return self.changed(table, f"UPDATE {table} SET n = n + 1, v = {self.plain_operand()} WHERE {where}")
        return self.changed(table, f"UPDATE {table} SET n = {x}.n + 1 FROM {other} WHERE {x}.v = {y}.v AND {self.condition(y, 1)}", f"{x}.id, {x}.n")

    def delete(self):
        (table, x), (other, y) = self.table(), self.source()
        what = self.one(f"DELETE FROM {table} WHERE {self.condition(x)}", f"DELETE FROM {table} USING {other} WHERE {x}.v = {y}.v AND {self.condition(y, 1)}")
        return self.changed(table, what, f"{x}.id, {x}.n")

    def upsert(self):
        table, x = self.table(*UNIQUE)
        rows = ", ".join(f"({100000 + row}, {self.plain_operand()}, {row})" for row in range(self.one(1, 1, 2, 5)))
        if self.dice.random() < 0.3:
            inner, z = self.source()
            rows = f"SELECT -row_number() OVER (), v, 1 FROM (SELECT DISTINCT {z}.v FROM {inner} WHERE {self.condition(z, 1)}) AS d"
        then = self.one("(v) DO NOTHING", "DO NOTHING", f"(v) DO UPDATE SET n = {x}.n + EXCLUDED.n", f"(v) DO UPDATE SET v = EXCLUDED.v, n = -1 WHERE {self.condition(x, 0)}")
        sql = f"INSERT INTO {table} (id, v, n) {rows if rows.startswith('SELECT') else 'VALUES ' + rows} ON CONFLICT {then}"
        made = self.changed(table, sql, "show(v), n")
        # Which of the new values gets which number is not said.
        self.probe = self.probe.replace("'|', id", "'|', greatest(id, 0)")
        return made

    def merge(self):
        (table, x), (other, y) = self.table("hashed", "loose", "mixed", "uniq"), self.source()
        then = self.one("UPDATE SET n = -2", "DELETE", f"UPDATE SET n = {x}.n + 1")
        self.changed(table, "")
        return f"""MERGE INTO {table} USING (SELECT {y}.v, count(*) AS c FROM {other} WHERE {self.condition(y, 1)} GROUP BY {y}.v) AS s ON {x}.v = s.v
            WHEN MATCHED AND {x}.n < 6 THEN {then}"""


# (form, how often)
FORMS = [(Query.one_table, 8), (Query.two_tables, 8), (Query.three_tables, 3), (Query.using, 2), (Query.listed, 3), (Query.grouped, 4), (Query.grouped_join, 3),
         (Query.distinct, 3), (Query.sorted_inside, 4), (Query.set_operation, 4), (Query.recursive, 1), (Query.lateral, 3), (Query.arrays, 3), (Query.update, 2), (Query.delete, 2),
         (Query.upsert, 3), *([(Query.merge, 1)] if paths.PG_MAJOR >= 15 else [])]


def wrapped(sql):
    """Number and digest of the rows that a query gives."""
    return f"SELECT count(*), coalesce(sum(hashtext(q::text)::bigint), 0) FROM ({sql}) AS q"


def written(side, dice, keyset, number):
    """A change of one row of one side, for good."""
    e = Expressions(side, dice, keyset)
    name, other, row = dice.choice(tuple(TABLES)), dice.choice(tuple(TABLES)), dice.randint(1, 110)
    table, value = f"{side.schema}.{name}", quoted(e.value())
    return e.one(
        f"INSERT INTO {table} VALUES ({number + 10000}, {value}, 5) ON CONFLICT DO NOTHING",
        f"INSERT INTO {table} VALUES ({number + 10000}, {value}, 5) ON CONFLICT DO NOTHING",
        f"UPDATE {table} SET v = {value}, n = 6 WHERE id = {row}",
        f"UPDATE {table} SET n = n + 1 WHERE id = {row}",
        f"UPDATE {table} SET v = v WHERE id = {row}",
        f"UPDATE {table} SET v = (SELECT v FROM {side.schema}.{other} WHERE id = {dice.randint(1, 90)}) WHERE id = {row}",
        f"DELETE FROM {table} WHERE id = {row}")
