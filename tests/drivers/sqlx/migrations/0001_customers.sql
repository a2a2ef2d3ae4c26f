-- recipe
CREATE TABLE customers (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  label text NOT NULL,
  email encrypted_text(email,searchable) NOT NULL UNIQUE,
  visits int NOT NULL DEFAULT 1,
  tags encrypted_text[] NOT NULL DEFAULT '{}'
);
-- end of recipe
CREATE TABLE plain_customers (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  label text NOT NULL,
  email text NOT NULL UNIQUE,
  visits int NOT NULL DEFAULT 1,
  tags text[] NOT NULL DEFAULT '{}'
);
