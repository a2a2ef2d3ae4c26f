-- Every spec runs in this database.
CREATE EXTENSION prism_crypt;
ALTER DATABASE contrib_regression SET prism_crypt.master_key_env = 'PRISM_TEST_KEY_MAIN';
\connect
-- The keyset has one key, version 1, and one index key, generation 1, whatever ran before.
CREATE PROCEDURE first_key() LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM prism_crypt.data_key;
  DELETE FROM prism_crypt.data_key_usage;
  DELETE FROM prism_crypt.index_key;
  ALTER SEQUENCE prism_crypt.data_key_version_seq RESTART;
  PERFORM prism_crypt.rotate_key();
END $$;
