-- Fields in their packed form, with an empty text beside them; a row of before has the text and nothing here.
ALTER TABLE entries ADD COLUMN packed BLOB;
