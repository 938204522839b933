"""Running a sweep: Optuna suggests, Ray Tune places, the orchestrator decides and writes the ledger."""
