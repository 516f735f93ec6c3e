"""Real parts that the tests run against."""
