"""What an answer's text consists of: sentences, units that can be quoted, numbers and dates, citations, quotations."""
