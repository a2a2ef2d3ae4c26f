CREATE TABLE plain_customers (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  label text,
  email text NOT NULL UNIQUE,
  visits int,
  tags text[]);
