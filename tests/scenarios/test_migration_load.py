"""A column is migrated, and back, among clients that use it: none of their statements fails, and no value is otherwise than they wrote it."""

import unittest

from migration_load import RIGHTS, SCHEMA, THERE, WRONG, Migrated


class MigrationLoad(Migrated):
    rows = 8000
    conf = {**Migrated.conf, "autovacuum_naptime": "'1s'", "max_connections": "30"}

    def columns(self):
        return self.query(
            "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute "
            "WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped AND attname LIKE '%v'")

    def stage(self, load, name, call, phase, columns, warns=False):
        """A call among clients, who then go on for a while. Each value is right, and what the columns are."""
        with self.subTest(name):
            load.stage = name
            session = self.session(self.db)
            said = session.run(call, timeout=300)
            if not warns:
                self.assertNotIn("WARNING", said)
            self.assertEqual(self.query("SELECT phase FROM prism_crypt.migrations ORDER BY id DESC LIMIT 1"), phase)
            self.assertEqual(self.columns(), columns)
            load.stage = f"after: {name}"
            load.more(150)
            self.assertEqual(self.query(WRONG), "0")
            self.assertEqual(load.failed, [])

    def migration(self):
        return self.query("SELECT max(id) FROM prism_crypt.migrations")

    def test_there_and_back_and_there(self):
        there = THERE.format(", batch_size => 200, max_rows_per_second => 4000")
        searchable = "v encrypted_text(searchable)"
        with self.load(clients=4) as load:
            load.more(100)
            self.stage(load, "there", there, "cut_over", f"prism_crypt_old_v text, {searchable}")
            self.stage(load, "back", f"CALL prism_crypt.rollback_migration({self.migration()});", "rolled_back", "v text")
            self.stage(load, "half way", THERE.format(", until => 'verified'"), "ready", f"v text, prism_crypt_new_{searchable}")
            self.stage(load, "back half way", f"CALL prism_crypt.rollback_migration({self.migration()});", "rolled_back", "v text")
            self.stage(load, "there again", there, "cut_over", f"prism_crypt_old_v text, {searchable}")
            self.stage(load, "finish", f"CALL prism_crypt.finish_migration({self.migration()});", "finished", searchable)
            self.stage(load, "decrypt", "CALL prism_crypt.decrypt_column('t', 'v', method => 'online');", "finished", "v text")
        print(load.told())
        load.assert_right(self)
        self.assertEqual(self.query("SELECT indexrelid::regclass, indisunique, indisvalid FROM pg_index WHERE indrelid = 't'::regclass ORDER BY 1"),
                         "t_pkey|t|t\nt_v|t|t")

    def test_without_a_key(self):
        """Nothing is begun that would make writers fail."""
        self.db = self.database("without_a_key", keys=False)
        self.query(f"{RIGHTS}; {SCHEMA.format(rows=100)}")

        def is_refused(code):
            self.assertEqual(self.cluster.error(THERE.format(""), db=self.db).sqlstate, code)
            self.assertEqual(self.columns(), "v text")
            self.cluster.psql("UPDATE t SET v = 'written' WHERE id = 1", user="app", db=self.db)
            self.assertEqual(self.query("SELECT count(*) FROM prism_crypt.migrations"), "0")

        is_refused("55000")
        self.query("SELECT prism_crypt.rotate_key()")
        self.addCleanup(self.cluster.reload)
        self.addCleanup(self.cluster.psql, "ALTER SYSTEM RESET prism_crypt.master_key_file")
        self.cluster.psql("ALTER SYSTEM SET prism_crypt.master_key_file = '/nowhere'")
        self.cluster.reload()
        is_refused("F0000")

    def test_there_by_an_expression(self):
        """What the trigger can't compute is filled once more at the cut-over."""
        there = THERE.format(", batch_size => 200, max_rows_per_second => 4000, using_expression => 'rtrim(v, ''~'')'")
        with self.load(clients=4) as load:
            load.more(100)
            self.stage(load, "there", there, "cut_over", "prism_crypt_old_v text, v encrypted_text(searchable)", warns=True)
            self.stage(load, "finish", f"CALL prism_crypt.finish_migration({self.migration()});", "finished", "v encrypted_text(searchable)")
        print(load.told())
        load.assert_right(self)


if __name__ == "__main__":
    unittest.main()
