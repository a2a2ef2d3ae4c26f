-- Everything is closed first, whatever was installed above; then what everybody needs is opened.
DO $$
DECLARE
  routine pg_catalog.regprocedure;
BEGIN
  FOR routine IN
    SELECT d.objid::pg_catalog.regprocedure
    FROM pg_catalog.pg_depend AS d
    JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
    WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
      AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
      AND d.deptype OPERATOR(pg_catalog.=) 'e' AND e.extname OPERATOR(pg_catalog.=) 'prism_crypt'
  LOOP
    EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', routine);
  END LOOP;
END $$;

REVOKE ALL ON ALL TABLES IN SCHEMA prism_crypt FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA prism_crypt FROM PUBLIC;

-- Input, output and encryption, and what tells nothing but the header.
GRANT EXECUTE ON FUNCTION
  encrypted_text_in(cstring, oid, integer), encrypted_text_out(encrypted_text),
  encrypted_text_recv(internal, oid, integer), encrypted_text_send(encrypted_text),
  encrypted_text_typmod_in(cstring[]), encrypted_text_typmod_out(integer), encrypted_text_typanalyze(internal),
  encrypted_text(text, integer, boolean), encrypted_text(character varying, integer, boolean),
  encrypted_text(character, integer, boolean),
  encrypted_text(encrypted_text, integer, boolean), encrypted_text(bytea, integer, boolean), "bytea"(encrypted_text),
  encrypt_field(text, text, text, text), encrypt_bytes(bytea, text, text, text),
  key_version(encrypted_text), key_version(bytea), envelope_info(encrypted_text), envelope_info(bytea),
  prism_crypt.class_name(integer), prism_crypt._sealed_constant(anyelement),
  -- The same bytes, or the same search tags, are equal for everybody. What has to be opened for it takes the right to search,
  -- which these ask for themselves.
  encrypted_text_eq(encrypted_text, encrypted_text), encrypted_text_ne(encrypted_text, encrypted_text),
  -- These only say that there is no order.
  encrypted_text_no_order(encrypted_text, encrypted_text), encrypted_text_no_order(encrypted_text, text),
  encrypted_text_no_order(text, encrypted_text)
TO PUBLIC;
