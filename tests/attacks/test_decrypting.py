"""Decrypting a column tells nobody what it holds, also where that is none of the type that is asked for."""

import unittest

from migrated import SCHEMA
from ways import SECRET, Attack, secret_rows, shows_secret


class Decrypting(Attack):
    """What decrypting a column says of values that are none of the type that is asked for."""

    schema = SCHEMA + """
        SET ROLE owns_and_migrates;
        -- STRICT: a row without a value is none that they tell of.
        CREATE FUNCTION tell(v text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE STRICT AS $$ BEGIN
          RAISE 'not %', v USING DETAIL = v, HINT = v, COLUMN = v, CONSTRAINT = v, DATATYPE = v, TABLE = v, SCHEMA = v; END $$;
        CREATE FUNCTION compute(v text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE STRICT AS $$ BEGIN
          EXECUTE format('SELECT %L::int', v); RETURN true; END $$;
        CREATE FUNCTION assert(v text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE STRICT AS $$ BEGIN ASSERT false, v; RETURN true; END $$;
        CREATE FUNCTION of_own_code(v text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE STRICT AS $$ BEGIN RAISE '%', v USING ERRCODE = 'PRISM'; END $$;
        CREATE FUNCTION of_state(v text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE STRICT AS $$ BEGIN RAISE '%', v USING ERRCODE = '55000'; END $$;
        CREATE DOMAIN telling AS text CHECK (tell(VALUE)); CREATE DOMAIN computing AS text CHECK (compute(VALUE));
        CREATE DOMAIN asserting AS text CHECK (assert(VALUE)); CREATE DOMAIN coded AS text CHECK (of_own_code(VALUE));
        CREATE DOMAIN stating AS text CHECK (of_state(VALUE));
        CREATE TYPE animal AS ENUM ('quoll');
        CREATE TABLE plain_ones (id int PRIMARY KEY, v text);
        RESET ROLE;
    """ + secret_rows("plain_ones", "id, v", [("1", SECRET), ("2", f"{SECRET} & (")])

    TYPES = {"regclass": 1, "regprocedure": 1, "regtype": 1, "regrole": 1, "tsquery": 2, "telling": 1, "computing": 1, "asserting": 1, "coded": 1, "stating": 1, "animal": 1,
             "xml": 2, "jsonb": 1, "numeric": 1, "timestamptz": 1, "int[]": 1, "inet": 1, "bit(3)": 1}
    RECORDED = "SELECT * FROM prism_crypt.migrations; SELECT * FROM prism_crypt.migration; SELECT * FROM prism_crypt.job;"

    def test_values_that_do_not_fit(self):
        for of_type, row in self.TYPES.items():
            for method in ("online", "rewrite"):
                begun = len(self.cluster.log())
                # From a table, so that it is in no statement.
                self.cluster.psql(f"CREATE TABLE sealed_ones AS SELECT id, encrypt_field(v) AS v FROM plain_ones WHERE id = {row};"
                                  "ALTER TABLE sealed_ones ADD PRIMARY KEY (id), OWNER TO owns_and_migrates", db=self.db)
                # A call that is not refused has not tried.
                self.way(f"decrypting to {of_type}, {method}", "owns_and_migrates",
                         f"CALL prism_crypt.decrypt_column('sealed_ones', 'v', '{of_type}', method => '{method}');", after=self.RECORDED,
                         goal=lambda said: shows_secret(said) or "ERROR" not in said, undo="DROP TABLE sealed_ones")
                self.judge(f"decrypting to {of_type}, {method}, in the log", "the log has it" if shows_secret(self.cluster.log()[begun:]) else "")
        self.control("a cast of the plaintext", "owns_and_migrates", "SELECT v::regclass FROM plain_ones")
        self.control("the domain's own message", "owns_and_migrates", "SELECT v::telling FROM plain_ones WHERE id = 1")


if __name__ == "__main__":
    unittest.main()
