"""What must hold of a table at any moment of a migration, also after a crash."""

OLD, NEW = "text", "encrypted_text(searchable)"
SIDES = ("prism_crypt_new_v", "prism_crypt_old_v")

COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped AND attname LIKE '%v' ORDER BY 1"""
LAST = """
    SELECT id, old_type, phase, is_going_back, cut_over_at IS NOT NULL, worker_pid FROM prism_crypt.migration ORDER BY id DESC LIMIT 1"""
TRIGGERS = "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 't'::regclass AND NOT tgisinternal"

# The phases in which there is no twin yet.
BEFORE = ("planned", "twin")


def rows_of(psql, sql):
    return [line.split("|") for line in psql(sql).splitlines()]


def last(psql):
    """(id, phase, is going back) of the last migration; its number is 0 if there is none yet."""
    found = rows_of(psql, LAST)
    return (int(found[0][0]), found[0][2], found[0][3] == "t") if found else (0, "finished", False)


def expected_columns(old, new, phase, back, cut_over):
    """The columns that a phase promises. A migration that decrypts keeps nothing of the old one."""
    keeps = old == OLD
    if phase in BEFORE or phase == "rolled_back" or back and phase == "validation":
        return [["v", old]]
    if phase == "finished" or phase == "validation" and not keeps:
        return [["v", new]]
    if cut_over:
        return [[SIDES[1], old], ["v", new]]
    return [[SIDES[0], new], ["v", old]]


def assert_whole(test, psql, wrong, in_step=True):
    """The schema is that of the recorded phase, as a whole; the triggers are there; values are what they should be; rows are in step."""
    found = rows_of(psql, LAST)
    if not found:
        test.assertEqual(rows_of(psql, COLUMNS), [["v", OLD]])
        return
    number, old, phase, back, cut_over, _ = found[0]
    old = old.removeprefix("public.")
    new = OLD if old != OLD else NEW
    columns = rows_of(psql, COLUMNS)
    test.assertEqual(columns, expected_columns(old, new, phase, back == "t", cut_over == "t"), found)
    triggers = rows_of(psql, TRIGGERS)
    test.assertEqual(triggers, [[f"~prism_crypt_{number}", "A"]] if len(columns) == 2 else [], found)
    test.assertEqual(psql(wrong), "0", found)
    if len(columns) == 2 and in_step:
        side = columns[0][0]
        # Where the backfill has not been yet, there is nothing.
        empty = "AND t.{0} IS NOT NULL".format(side) if phase == "rows" else ""
        test.assertEqual(psql(f"SELECT count(*) FROM t WHERE {side}::text IS DISTINCT FROM v::text {empty}"), "0", found)
