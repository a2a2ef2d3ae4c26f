"""A doctor's tables and functions, made as the documents advise, and everything that shows a row without a cast."""

from ways import secret_rows

# What shows a row t of patients through the type's output. (A cast to text is no output: who writes it decrypts himself.)
SHOWING = {
    "to_jsonb": "to_jsonb(t)::text",
    "to_json": "to_json(t.name)::text",
    "row_to_json": "row_to_json(t)::text",
    "json_build_object": "json_build_object('n', t.name)::text",
    "jsonb_build_array": "jsonb_build_array(t.name)::text",
    "row cast": "t::text",
    "ROW": "ROW(t.name)::text",
    "format %s": "format('%s', t.name)",
    "format %L": "format('%L', t.name)",
    "concat": "concat(t.name)",
    "concat_ws": "concat_ws('-', t.name, t.email)",
    "array cast": "ARRAY[t.name]::text",
    "array_to_string": "array_to_string(ARRAY[t.name], ',')",
    "to_jsonb of an array": "to_jsonb(ARRAY[t.name])::text",
    "jsonb_agg": "(SELECT jsonb_agg(x) FROM public.patients AS x)::text",
    "json_object_agg": "(SELECT json_object_agg(x.id, x.name) FROM public.patients AS x)::text",
    "array_agg": "(SELECT array_agg(x.name) FROM public.patients AS x)::text",
    "string_agg of rows": "(SELECT string_agg(x::text, ',') FROM public.patients AS x)",
    "xmlelement": "xmlelement(name n, t.name)::text",
    "xmlforest": "xmlforest(t.name)::text",
    "query_to_xml": "query_to_xml('SELECT name FROM public.patients', true, false, '')::text",
    "table_to_xml": "table_to_xml('public.patients', true, false, '')::text",
    "schema_to_xml": "schema_to_xml('public', true, false, '')::text",
    "the output function": "public.encrypted_text_out(t.name)::text",
    "the send function": "encode(public.encrypted_text_send(t.name), 'escape')",
    "record_send": "encode(record_send(t), 'escape')",
    "array_send": "encode(array_send(ARRAY[t.name]), 'escape')",
    "a domain over the type": "to_jsonb(t.name::public.named)::text",
    "a domain over the row": "to_jsonb(t::public.patient)::text",
    "a composite": "ROW(t.name, 1)::public.pair::text",
    "a range": "public.names(t.name, t.name, '[]')::text",
}

DEFINER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"


def functions():
    """sql_N(int) and dynamic_N(int): the forms above in functions that run as their owner, in two languages."""
    for number, form in enumerate(SHOWING.values()):
        query = f"SELECT {form} FROM public.patients AS t WHERE t.id = $1"
        yield f"CREATE FUNCTION sql_{number}(int) RETURNS text LANGUAGE sql STABLE {DEFINER} AS $f$ {query} $f$;"
        yield f"""CREATE FUNCTION dynamic_{number}(i int) RETURNS text LANGUAGE plpgsql {DEFINER} AS $f$
            DECLARE r text; BEGIN EXECUTE $q$ {query} $q$ INTO r USING i; RETURN r; END $f$;"""


PATIENTS = """
    SET ROLE doctor;
    CREATE TABLE patients (id int PRIMARY KEY, name encrypted_text, email encrypted_text('email', 'searchable'), CHECK (id < 1000));
    CREATE DOMAIN named AS encrypted_text;
    CREATE DOMAIN patient AS patients;
    CREATE TYPE pair AS (name encrypted_text, n int);
    CREATE TYPE names AS RANGE (subtype = encrypted_text, subtype_opclass = encrypted_text_unique_ops);
    CREATE TABLE audit (what text);
    GRANT SELECT, INSERT, UPDATE ON patients TO PUBLIC;
    RESET ROLE;
""" + secret_rows("patients") + "UPDATE patients SET email = name;"
