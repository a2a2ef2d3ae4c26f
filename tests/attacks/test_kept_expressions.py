"""
PL/pgSQL keeps casts, and simple expressions of functions, for all of a transaction: PostgreSQL asks for EXECUTE when it makes
them ready, and they may then be computed for somebody else. So each function that gives something away asks once more, and
what administers is never a simple expression.
"""

import json
import re
import unittest

from ways import BLIND, SECRET, Attack, secret_rows, shows_secret

DEFINER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"


def plpgsql(name, arguments, returns, body, options=""):
    return f"CREATE FUNCTION {name}({arguments}) RETURNS {returns} LANGUAGE plpgsql {options} AS $f$ {body} $f$;"


# Each gives something away of a value v, or of bytes b.
HELPERS = ("public.decrypt_field(v)", "public.try_decrypt_field(v)", "v::text", "v::varchar", "v::name", "encode(public.decrypt_bytes(b), 'escape')",
           "public.mask_field(v)", f"encode(public.blind_index('{SECRET}', NULL), 'hex')",
           f"CASE WHEN v OPERATOR(public.=) '{SECRET}' THEN 'guessed' END", f"CASE WHEN v OPERATOR(public.=) '{SECRET}'::text THEN 'guessed' END",
           f"CASE WHEN v OPERATOR(public.=) public.encrypt_field('{SECRET}') THEN 'guessed' END")

SCHEMA = """
    CREATE TABLE patients (id int PRIMARY KEY, name encrypted_text('personal'), bytes bytea);
""" + secret_rows("patients") + """
    UPDATE patients SET bytes = encrypt_bytes(convert_to(name::text, 'UTF8')); ALTER TABLE patients OWNER TO doctor;
    GRANT SELECT, INSERT ON patients TO PUBLIC; GRANT CREATE ON SCHEMA public TO PUBLIC;
    SET ROLE doctor;
""" + "".join(
    # What anybody may call, and gives one letter away.
    plpgsql(f"initial_{kind}", "pid int", "text", f"DECLARE v {kind}; BEGIN SELECT name INTO v FROM public.patients WHERE id = 1; RETURN left(v, 1); END", DEFINER)
    for kind in ("text", "varchar")) + (
    plpgsql("returned", "pid int", "text", "BEGIN RETURN left(public.given(pid), 1); END", DEFINER)
    + plpgsql("given", "pid int", "text", "DECLARE v public.encrypted_text; BEGIN SELECT name INTO v FROM public.patients WHERE id = pid; RETURN v; END")
    + plpgsql("looped", "pid int", "text", "DECLARE v text; BEGIN FOR v IN SELECT name FROM public.patients WHERE id = 1 LOOP RETURN left(v, 1); END LOOP; END", DEFINER)
    + plpgsql("fetched", "pid int", "text", "DECLARE c CURSOR FOR SELECT name FROM public.patients WHERE id = 1; v text; BEGIN OPEN c; FETCH c INTO v; RETURN left(v, 1); END", DEFINER)
    + plpgsql("on_insert", "", "trigger", "DECLARE v text; BEGIN SELECT NEW.name INTO v; RETURN NEW; END", DEFINER)
    + "CREATE TRIGGER on_insert BEFORE INSERT ON patients FOR EACH ROW EXECUTE FUNCTION on_insert();"
    # Helpers with the caller's rights, and what calls them with the doctor's.
    + "".join(
        plpgsql(f"show_{n}", "v encrypted_text, b bytea", "text", f"BEGIN RETURN {expression}; END")
        + plpgsql(f"with_{n}", "pid int", "text", f"BEGIN RETURN left(public.show_{n}(name, bytes), 1) FROM public.patients WHERE id = pid; END", DEFINER)
        for n, expression in enumerate(HELPERS)))
# What the attacker's function does with a value.
TAKEN = {"RETURN": "BEGIN RETURN c; END", "an assignment": "DECLARE v text; BEGIN v := c; RETURN v; END", "SELECT INTO": "DECLARE v text; BEGIN SELECT c INTO v; RETURN v; END",
         "varchar": "DECLARE v varchar; BEGIN SELECT c INTO v; RETURN v; END"}
OPENS = {"text": "SELECT initial_text(1)", "varchar": "SELECT initial_varchar(1)", "RETURN": "SELECT returned(1)", "a loop": "SELECT looped(1)", "FETCH": "SELECT fetched(1)",
         "a trigger": "INSERT INTO patients (id, name) VALUES ((random() * 1e9)::int, 'x')", "all of them": "SELECT initial_text(1), initial_varchar(1), returned(1), looped(1), fetched(1)"}


class KeptExpressions(Attack):
    schema = SCHEMA

    def test_casts(self):
        for opened, first in OPENS.items():
            for taken, body in TAKEN.items():
                script = plpgsql("pg_temp.peek", "c public.encrypted_text", "text", body)
                self.way(f"cast of {opened}, taken by {taken}", "nobody", f"{script} BEGIN; {first}; SELECT pg_temp.peek(name) FROM patients; COMMIT;")
                if taken == "RETURN" and opened == "all of them":
                    self.control("the same by the doctor", "doctor", f"{script} BEGIN; {first}; SELECT pg_temp.peek(name) FROM patients; COMMIT;")

    def test_helpers(self):
        index = self.run_as("doctor", f"SELECT {HELPERS[7]}").strip()
        self.assertRegex(index, "^[0-9a-f]{32}$")
        for n in range(len(HELPERS)):
            script = f"BEGIN; SELECT with_{n}(1), with_{n}(2); SELECT show_{n}(name, bytes) FROM patients; COMMIT;"
            def goal(said):
                return shows_secret(said) or index in said or "k****" in said.lower() or "guessed" in said
            for role in BLIND:
                # Each may do what its own right is about.
                if not (role == "mask" and n == 6 or role == "search" and n >= 7):
                    self.way(f"helper {n} as {role}", role, script, goal)
            self.control(f"helper {n} as the doctor", "doctor", script, goal)


# Functions of administration that are not everybody's: name, and types of arguments. Immutable ones are computed when a plan is made.
CLOSED = """
    SET search_path = pg_catalog;
    SELECT json_agg(json_build_object('name', p.proname, 'types', p.proargtypes::regtype[]::text[]) ORDER BY p.oid)
    FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'prism_crypt' JOIN pg_proc AS p ON p.oid = d.objid
    WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e' AND p.pronamespace = 'prism_crypt'::regnamespace
      AND p.prokind = 'f' AND NOT p.proretset AND p.provolatile <> 'i' AND p.prorettype <> ALL ('{internal,trigger,event_trigger}'::regtype[])
      AND NOT has_function_privilege('public', p.oid, 'EXECUTE')
"""
POLYMORPHIC = {"anyelement": "integer", "\"any\"": "integer", "any": "integer", "cstring": None, "internal": None}


class KeptAdministration(Attack):
    """A function of the DBA's, with his rights, calls one with the rights of the caller, who then calls it himself."""

    schema = """
        GRANT CREATE ON SCHEMA public TO PUBLIC; SELECT prism_crypt.create_keyset('other');
    """ + (
        plpgsql("rotated", "keyset text", "int", "BEGIN RETURN prism_crypt.rotate_key(keyset); END")
        + plpgsql("rotate_monthly", "", "int", "BEGIN RETURN public.rotated('default'); END", DEFINER)
        + plpgsql("disabled", "version int", "void", "DECLARE x text; BEGIN x := prism_crypt.disable_key(version, 'why'); END")
        + plpgsql("disable_first", "", "void", "BEGIN PERFORM public.disabled(1); END", DEFINER))

    def test_each_closed_function(self):
        closed = json.loads(self.cluster.psql(CLOSED, db=self.db))
        self.assertGreater(len(closed), 60)
        for n, one in enumerate(closed):
            types = [POLYMORPHIC.get(kind, kind) for kind in one["types"]]
            if None in types:
                continue
            call = f"prism_crypt.{one['name']}({', '.join(f'a{i}' for i in range(len(types)))})"
            declared = "".join(f"a{i} {kind}; " for i, kind in enumerate(types))
            body = f"{'DECLARE ' + declared if declared else ''}BEGIN RETURN CASE WHEN run THEN {call} IS NULL END; END"
            self.cluster.psql(plpgsql(f"try_{n}", "run boolean", "boolean", body)
                              + plpgsql(f"prepare_{n}", "", "boolean", f"BEGIN RETURN public.try_{n}(false); END", DEFINER), db=self.db)
            refused = re.compile(f"permission denied for (function {one['name']}|schema prism_crypt)$", re.M)
            for path in ("pg_catalog, pg_temp", "public"):
                self.way(f"{call} under {path}", "nobody",
                         # A plan made for these arguments leaves out calls of strict functions with null.
                         f"SET plan_cache_mode = force_generic_plan; SET search_path = {path}; BEGIN; SELECT public.prepare_{n}(); SELECT public.try_{n}(true); ROLLBACK;",
                         goal=lambda said, refused=refused: not refused.search(said))

    def test_keys(self):
        ways = {"rotate": ("SELECT public.rotate_monthly()", "SELECT public.rotated('other')",
                           "SELECT count(*) > 1 FROM prism_crypt.key_status WHERE keyset = 'other'"),
                "disable": ("SELECT public.disable_first()", "SELECT public.disabled(2)",
                            "SELECT state = 'disabled' FROM prism_crypt.key_status WHERE version = 2")}
        self.cluster.psql("SELECT prism_crypt.rotate_key()", db=self.db)
        for name, (lent, own, reached) in ways.items():
            script = f"SET search_path = pg_catalog, pg_temp; BEGIN; {lent}; SAVEPOINT s; {own}; ROLLBACK TO s; {own}; COMMIT;"
            for role in BLIND:
                if role != "key_admin":
                    self.way(f"{name} as {role}", role, script, after=reached, goal=lambda said: said.rstrip().endswith("t"))
            self.control(f"{name} as the DBA", "postgres", script, after=reached, goal=lambda said: said.rstrip().endswith("t"))


if __name__ == "__main__":
    unittest.main()
