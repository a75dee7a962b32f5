"""Every statement of PostgreSQL: migrations, queries and the functions that run them."""
