"""Columns with personal data in six languages, as people write schemas: (name, type, SQL expression of the row number n, class)."""


def pick(*texts):
    return "(ARRAY[" + ", ".join("'" + text.replace("'", "''") + "'" for text in texts) + f"])[n % {len(texts)} + 1]"


FIRST = pick("Anna", "Luca", "Maria", "John", "Zoë", "Jean-Pierre", "José")
LAST = pick("Rossi", "Müller", "O'Brien", "Dupont", "García", "da Silva")
FULL = pick("Anna Rossi", "John Smith", "María García López", "Jean Dupont", "Ludwig van der Berg", "Zoë Müller")
EMAIL = "'user' || n || '@example.' || (ARRAY['com', 'org', 'it'])[n % 3 + 1]"
DATE = "date '1950-01-01' + n * 251"
IBAN = pick("DE89370400440532013000", "IT60X0542811101000000123456", "FR1420041010050500013M02606", "GB82WEST12345698765432")
CARD = pick("4111111111111111", "5555555555554444", "378282246310005", "4012888888881881")
STREET = pick("Via Roma 12", "Hauptstraße 5", "221B Baker Street", "12 rue de la Paix", "Calle Mayor 3, 2º", "Rua Augusta 100")
CITY = pick("Roma", "Berlin", "London", "Paris", "Madrid", "Lisboa")
ZIP = pick("00184", "10115", "NW1 6XE", "75002", "28013", "1100-053")
CF = pick("RSSMRA85T10A562S", "VRDLGU80A01F205M", "BNCGNN70M41H501J")
TEXT_DATE = "to_char(date '1950-01-01' + n * 251, 'DD/MM/YYYY')"

TABLES = {
    "en.customers": [
        ("first_name", "text", FIRST, "personal"), ("last_name", "text", LAST, "personal"), ("email", "citext", EMAIL, "email"), ("phone", "text", "'+1 212 555 0' || 100 + n", "phone"), ("mobile", "text", "'(212) 555-0' || 100 + n", "phone"),
        ("date_of_birth", "date", DATE, "personal"), ("address_line1", "text", STREET, "personal"), ("city", "text", CITY, "personal"), ("postcode", "text", ZIP, "personal"), ("ssn", "char(11)", "'123-45-' || 1000 + n", "tax_id"),
        ("card_number", "text", CARD, "financial"), ("iban", "text", IBAN, "financial"), ("nationality", "text", pick("Italian", "German"), "personal"), ("marital_status", "text", pick("single", "married"), "personal"), ("annual_income", "numeric", "n * 1000", "financial"),
        ("passport_no", "text", "'X' || 1000000 + n", "personal"), ("contact", "text", EMAIL, "email"), ("notes", "text", "'Prefers mornings. Write to ' || " + EMAIL + " || ' please.'", "email"), ("gender", "text", pick("f", "m"), "personal"), ("profile", "jsonb", "jsonb_build_object('name', " + FULL + ", 'mail', " + EMAIL + ")", "email"),
    ],
    "en.hr_employees": [
        ("full_name", "varchar(100)", FULL, "personal"), ("workEmail", "text", EMAIL, "email"), ("homePhone", "text", "'212-555-0' || 100 + n", "phone"), ("salary", "int", "30000 + n * 10", "financial"), ("emergency_contact_name", "text", FULL, "personal"), ("bank_account_number", "text", "'0001234' || 1000 + n", "financial"),
        ("dob", "text", "to_char(date '1950-01-01' + n * 251, 'YYYY-MM-DD')", "personal"), ("home_address", "text", STREET + " || ', ' || " + CITY, "personal"), ("driver_license_number", "text", "'D' || 1000000 + n", "personal"), ("tax_id", "text", "'12-34' || 10000 + n", "tax_id"),
    ],
    "en.patients": [
        ("name", "text", FULL, "personal"), ("diagnosis", "text", pick("E11.9 diabetes", "I10 hypertension"), "health"), ("blood_type", "text", pick("A+", "0-"), "health"), ("allergies", "text[]", "ARRAY['penicillin']", "health"), ("medical_history", "jsonb", "'{\"2019\": \"fracture\"}'::jsonb", "health"), ("nhs_number", "text", "'943 476 ' || 1000 + n", "health"),
        ("next_of_kin", "text", FULL, "personal"), ("phones", "text[]", "ARRAY['+44 20 7946 0' || 100 + n]", "phone"), ("birthdate", "timestamp", DATE, "personal"), ("insurance_number", "text", "'K' || 100000000 + n", "health"),
    ],
    "en.payloads": [
        ("body", "jsonb", "jsonb_build_object('user', jsonb_build_object('id', n, 'phone_number', '+39 333 12345' || 10 + n))", "phone"), ("raw", "bytea", "convert_to(" + EMAIL + ", 'UTF8')", "email"), ("doc", "text", "'{\"iban\": \"DE89370400440532013000\", \"n\": ' || n || '}'", "financial"), ("pan", "bigint", "4111111111111111 + 0 * n", "financial"), ("col7", "text", CF, "tax_id"), ("value", "text", IBAN, "financial"),
    ],
    "it.clienti": [
        ("nome", "text", FIRST, "personal"), ("cognome", "text", LAST, "personal"), ("codice_fiscale", "char(16)", CF, "tax_id"), ("data_nascita", "date", DATE, "personal"), ("luogo_nascita", "text", CITY, "personal"), ("indirizzo", "text", STREET, "personal"), ("cap", "text", "'00184'", "personal"), ("citta", "text", CITY, "personal"),
        ("telefono", "text", "'06 123456' || n % 10", "phone"), ("cellulare", "text", "'333 12345' || 10 + n", "phone"), ("pec", "text", EMAIL, "email"), ("sesso", "char(1)", pick("F", "M"), "personal"), ("stato_civile", "text", pick("celibe", "coniugata"), "personal"), ("intestatario_conto", "text", FULL, "personal"), ("stipendio", "numeric", "1500 + n", "financial"), ("gruppo_sanguigno", "text", pick("A+", "0-"), "health"), ("numero_carta_identita", "text", "'CA' || 10000 + n || 'AA'", "personal"),
    ],
    "de.kunden": [
        ("vorname", "text", FIRST, "personal"), ("nachname", "text", LAST, "personal"), ("geburtsdatum", "date", DATE, "personal"), ("straße", "text", STREET, "personal"), ("plz", "text", "'10115'", "personal"), ("ort", "text", CITY, "personal"), ("telefonnummer", "text", "'030 123456' || n % 10", "phone"), ("handy", "text", "'0171 12345' || 10 + n", "phone"),
        ("steuer_id", "text", "'862095742' || 10 + n % 80", "tax_id"), ("kontonummer", "text", "'12345' || 10000 + n", "financial"), ("e_mail", "text", EMAIL, "email"), ("staatsangehörigkeit", "text", pick("deutsch", "italienisch"), "personal"), ("familienstand", "text", pick("ledig", "verheiratet"), "personal"), ("krankenversichertennummer", "text", "'A' || 100000000 + n", "health"), ("gehalt", "numeric", "3000 + n", "financial"), ("religion", "text", pick("rk", "ev"), "personal"),
    ],
    "fr.salaries": [
        ("prenom", "text", FIRST, "personal"), ("nom", "text", LAST, "personal"), ("date_naissance", "date", DATE, "personal"), ("lieu_naissance", "text", CITY, "personal"), ("adresse", "text", STREET, "personal"), ("code_postal", "text", "'75002'", "personal"), ("ville", "text", CITY, "personal"), ("telephone_portable", "text", "'06 12 34 56 ' || 10 + n % 80", "phone"), ("courriel", "text", EMAIL, "email"),
        ("numero_securite_sociale", "text", "'184127645108946'", "tax_id"), ("salaire_brut", "numeric", "2500 + n", "financial"), ("situation_familiale", "text", pick("célibataire", "marié"), "personal"), ("nir", "text", "'1 84 12 76 451 089 46'", "tax_id"),
    ],
    "es.pacientes": [
        ("nombre", "text", FIRST, "personal"), ("apellidos", "text", LAST, "personal"), ("dni", "text", pick("12345678Z", "X1234567L"), "tax_id"), ("fecha_nacimiento", "date", DATE, "personal"), ("direccion", "text", STREET, "personal"), ("codigo_postal", "text", "'28013'", "personal"), ("telefono_movil", "text", "'+34 612 345 ' || 100 + n", "phone"), ("correo_electronico", "text", EMAIL, "email"), ("historia_clinica", "text", pick("sin datos", "asma"), "health"), ("alergias", "text", pick("polen", "ninguna"), "health"), ("edad", "int", "20 + n % 60", "personal"),
    ],
    "pt.funcionarios": [
        ("nome_completo", "text", FULL, "personal"), ("cpf", "text", "'529.982.247-25'", "tax_id"), ("data_nascimento", "text", TEXT_DATE, "personal"), ("endereco", "text", STREET, "personal"), ("cidade", "text", CITY, "personal"), ("telemovel", "text", "'912 345 ' || 100 + n", "phone"), ("correio_eletronico", "text", EMAIL, "email"), ("salario", "numeric", "1000 + n", "financial"), ("nif", "text", "'12345' || 1000 + n", "tax_id"), ("nome_da_mae", "text", FULL, "personal"), ("estado_civil", "text", pick("solteiro", "casada"), "personal"),
    ],
    "crypt.secrets": [
        ("email", "text", "'gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA=='", "email"), ("blob", "bytea", "pgp_sym_encrypt('x' || n, 'password')", None), ("armored", "text", "armor(pgp_sym_encrypt('x' || n, 'password'))", None), ("sealed", "text", "encrypted_text_out(encrypt_field('x' || n))::text", None),
    ],
}
