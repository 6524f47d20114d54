"""What conversion costs: generated backups, rivals, and a runner. See `benchmarks/results.md`."""
