"""PostgreSQL: a pool a process, transactions, migrations, named queries and a listener (`database`)."""
