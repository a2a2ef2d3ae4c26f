"""Code of a table's owner that loads stolen ciphertext when a row comes: by what it loads, where it runs, and what it notes."""

# {s}: the stolen text form, {b}: its bytes in hex, {t}: the table.
LOADS = {
    "a literal": "SELECT '{s}'::public.encrypted_text",
    "the input function": "SELECT public.encrypted_text_in('{s}', 0, -1)",
    "an array": "SELECT ('{{s}}'::public.encrypted_text[])[1]",
    "a composite": "SELECT ('({s},1)'::public.pair).a",
    "jsonb_populate_record": "SELECT r.v FROM jsonb_populate_record(NULL::public.{t}, jsonb_build_object('v', '{s}')) AS r",
    "json_to_record": "SELECT r.v FROM json_to_record(json_build_object('v', '{s}')) AS r (v public.encrypted_text)",
    "bytea": "SELECT '\\x{b}'::bytea::public.encrypted_text",
    "load_envelope": "SELECT prism_crypt.load_envelope('{s}')",
    "a cast of text": "SELECT '{s}'::text::public.encrypted_text",
    "a domain": "SELECT '{s}'::public.named::public.encrypted_text",
    "a typed literal": "SELECT public.encrypted_text '{s}'",
    "XMLTABLE": "SELECT x.v FROM XMLTABLE('/a' PASSING XMLPARSE(DOCUMENT '<a>{s}</a>') COLUMNS v public.encrypted_text PATH '.') AS x",
}
ALWAYS = "EXECUTE FUNCTION {f}_trigger(); ALTER TABLE {t} ENABLE ALWAYS TRIGGER a"
DEFERRED = "deferred trigger"
# Where the function runs. {f} loads, stores and swallows errors; {t} is the table.
PLACES = {
    "BEFORE trigger": f"CREATE TRIGGER a BEFORE INSERT ON {{t}} FOR EACH ROW {ALWAYS}",
    "AFTER trigger": f"CREATE TRIGGER a AFTER INSERT ON {{t}} FOR EACH ROW {ALWAYS}",
    DEFERRED: f"CREATE CONSTRAINT TRIGGER a AFTER INSERT ON {{t}} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW {ALWAYS}",
    "REPLICA trigger": "CREATE TRIGGER a BEFORE INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION {f}_trigger(); ALTER TABLE {t} ENABLE REPLICA TRIGGER a",
    "trigger WHEN": "CREATE TRIGGER a BEFORE INSERT ON {t} FOR EACH ROW WHEN ({f}(NEW.id) > 0) EXECUTE FUNCTION nothing(); ALTER TABLE {t} ENABLE ALWAYS TRIGGER a",
    "CHECK": "ALTER TABLE {t} ADD CHECK ({f}(id) > 0)",
    "index expression": "CREATE INDEX ON {t} ({f}(id))",
    "index predicate": "CREATE INDEX ON {t} (id) WHERE {f}(id) > 0",
    "generated column": "ALTER TABLE {t} ADD g int GENERATED ALWAYS AS ({f}(id)) STORED",
    "default": "ALTER TABLE {t} ADD d int DEFAULT {f}(1)",
    "domain": "CREATE DOMAIN {t}_domain AS int CHECK ({f}(VALUE) > 0); ALTER TABLE {t} ALTER note TYPE {t}_domain USING 1",
}
# Each way of loading in one place, and one way of loading in each place.
WAYS = [(place, load) for load in LOADS for place in (PLACES if load == "a literal" else ["BEFORE trigger"])]

# Where the functions write what they loaded; who ran them, in which process, and what came of it.
NOTES = """CREATE TABLE loot (n int, v encrypted_text); CREATE TABLE tried (n int, who text, worker text, state text, message text);
    GRANT ALL ON loot, tried TO PUBLIC;"""
NOTHING = "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"


def table(name):
    return f"CREATE TABLE {name} (id int PRIMARY KEY, v encrypted_text, note int);"


def place(place, name, number):
    """Has a function of functions() run in a place of a table."""
    return PLACES[place].replace("{t}", name).replace("{f}", f"try_{number}") + ";"


def functions(number, load, name, stolen, definer):
    """The functions of one way: try_N_now(), try_N(int) for expressions, try_N_trigger(). stolen: text form and hex. name: the way's table."""
    call = LOADS[load].replace("{s}", stolen[0]).replace("{b}", stolen[1]).replace("{t}", name).replace("'", "''")
    rights = "SECURITY DEFINER" if definer else "SECURITY INVOKER"
    how = f"LANGUAGE plpgsql {rights} SET search_path = pg_catalog, pg_temp"
    note = f"INSERT INTO public.tried SELECT {number}, current_user, backend_type, %s FROM pg_stat_activity WHERE pid = pg_backend_pid();"
    return f"""
        CREATE FUNCTION try_{number}_now() RETURNS int {how} AS $f$ BEGIN
            {note % "'began', ''"}
            BEGIN EXECUTE 'INSERT INTO public.loot (n, v) SELECT {number}, (' || '{call}' || ')';
            EXCEPTION WHEN OTHERS THEN {note % "SQLSTATE, SQLERRM"} END;
            RETURN 1; END $f$;
        CREATE FUNCTION try_{number}(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT public.try_{number}_now()';
        CREATE FUNCTION try_{number}_trigger() RETURNS trigger {how} AS $f$ BEGIN PERFORM public.try_{number}_now(); RETURN NEW; END $f$;"""
