"""Everything around the algorithm: configuration, trials, records, executors, tracking, reports, commands."""
