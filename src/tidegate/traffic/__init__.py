"""Past rows as live traffic: questions by the clock, labels when they were known, event time announced."""
