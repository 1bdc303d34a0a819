"""Language models behind OpenAI's wire format: one client (`client`), and what it knows of servers and their streams."""
