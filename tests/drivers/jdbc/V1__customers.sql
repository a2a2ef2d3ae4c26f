-- recipe
CREATE TABLE customers (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  label text,
  email encrypted_text(email,searchable) NOT NULL UNIQUE,
  visits int,
  tags encrypted_text[]);
-- end of recipe
