"""What the attacks on migrations find: a table that everybody may write, and roles that migrate."""

from ways import secret_rows

SCHEMA = """
    CREATE ROLE migrate LOGIN; CREATE ROLE owns_and_migrates LOGIN; GRANT CREATE ON SCHEMA public TO PUBLIC;
    SELECT prism_crypt.grant_access('migrate', 'migrate'); SELECT prism_crypt.grant_access('doctor', 'migrate');
    SELECT prism_crypt.grant_access('owns_and_migrates', k) FROM unnest('{migrate,decrypt,search}'::text[]) AS k;
    SET ROLE doctor;
    CREATE TABLE patients (id int PRIMARY KEY, name encrypted_text, email encrypted_text('email', 'searchable'), note text, number int);
    -- Whoever writes has all rights to the table, and none to read what is encrypted.
    GRANT ALL ON patients TO PUBLIC;
    RESET ROLE;
""" + secret_rows("patients") + "UPDATE patients SET email = name;"
