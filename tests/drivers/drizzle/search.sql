-- recipe
ALTER TABLE customers ALTER email TYPE encrypted_text(email,searchable);
-- end of recipe
