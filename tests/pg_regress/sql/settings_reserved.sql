-- PostgreSQL 15 and later: names that begin with prism_crypt. and are none of ours.
CALL regress.fresh();
CALL regress.fails($$SET prism_crypt.masterkey = 'x'$$);
CALL regress.fails($$SELECT set_config('prism_crypt.anything', 'x', false)$$);
CALL regress.fails($$SHOW prism_crypt.anything$$);
CALL regress.fails($$ALTER ROLE regress_prism_app SET prism_crypt.masterkey = 'x'$$);
