"""The exporter's child: the one process of the farm that loads torch, transformers and optimum."""
