"""What is measured on embeddings. ``gaptune.metrics.table`` lists every name with unit, direction and source."""
