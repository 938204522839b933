"""Running a sweep: Optuna suggests, Ray Tune places, the conductor decides and writes the ledger."""
