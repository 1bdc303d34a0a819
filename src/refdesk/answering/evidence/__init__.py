"""What an answer may stand on: found in the index, and readable for the asker by the Document Service's word."""
