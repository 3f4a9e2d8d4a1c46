"""Django's SQLite backend with turns for writers."""
